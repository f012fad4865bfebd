#include "engine/kernels/kernels.h"

#if defined(__aarch64__)
#include "engine/kernels/vec_neon.h"

#include "engine/kernels/kernels_rows.h"

#include "engine/kernels/kernels_gemm.h"

#include "engine/kernels/kernels_depthwise.h"

#include "engine/kernels/kernels_winograd.h"

const eng_kernels eng_kernels_neon = ENG_KERNELS_TABLE;
#else
const eng_kernels eng_kernels_neon = {0};
#endif
