#include "engine/kernels/attention.h"

#if defined(__AVX2__)
#include "engine/kernels/vec_avx2.h"

#include "engine/kernels/attention_rows.h"

const eng_attention_kernels eng_attention_avx2 = {pack, exp_row, weigh_rows, dots, scale_rows};
#else
const eng_attention_kernels eng_attention_avx2 = {0};
#endif
