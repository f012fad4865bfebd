#include "engine/kernels/attention.h"

#if defined(__AVX512F__)
#include "engine/kernels/vec_avx512.h"

#include "engine/kernels/attention_rows.h"

const eng_attention_kernels eng_attention_avx512 = {pack, exp_row, weigh_rows, dots, scale_rows};
#else
const eng_attention_kernels eng_attention_avx512 = {0};
#endif
