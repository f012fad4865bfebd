#include "engine/kernels/transpose_rows.h"

const eng_transposes eng_transposes_ref = {{transpose_1, transpose_2, transpose_4, transpose_8, transpose_16}};
