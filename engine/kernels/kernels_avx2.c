#include "engine/kernels/kernels.h"

#if defined(__AVX2__)
#include "engine/kernels/vec_avx2.h"

#include "engine/kernels/kernels_rows.h"

#include "engine/kernels/kernels_gemm.h"

#include "engine/kernels/kernels_depthwise.h"

#include "engine/kernels/kernels_winograd.h"

const eng_kernels eng_kernels_avx2 = ENG_KERNELS_TABLE;
#else
const eng_kernels eng_kernels_avx2 = {0};
#endif
