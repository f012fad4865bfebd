#include "engine/kernels/attention.h"

#if defined(__aarch64__)
#include "engine/kernels/vec_neon.h"

#include "engine/kernels/attention_rows.h"

const eng_attention_kernels eng_attention_neon = {pack, exp_row, weigh_rows, dots, scale_rows};
#else
const eng_attention_kernels eng_attention_neon = {0};
#endif
