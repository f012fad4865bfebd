#include "engine/kernels/pool_rows.h"

POOL_MAX(max_f32, float)
POOL_MAX(max_f64, double)
POOL_MAX(max_u8, uint8_t)
POOL_MAX(max_s8, int8_t)
POOL_SUM(sum_f32, float)
POOL_SUM(sum_f64, double)

const eng_pool_table eng_pool_ref = {max_f32, max_f64, max_u8, max_s8, sum_f32, sum_f64};
