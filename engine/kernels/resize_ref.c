#include "engine/kernels/resize_rows.h"

RESIZE_ROWS(blend_f32, line_f32, float)
RESIZE_ROWS(blend_f64, line_f64, double)

const eng_resize_table eng_resize_ref = {blend_f32, blend_f64, line_f32, line_f64};
