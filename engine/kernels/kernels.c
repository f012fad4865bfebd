#include "engine/kernels/kernels.h"
#include "engine/base/cpu.h"

#include <pthread.h>

static const eng_kernels *chosen = &eng_kernels_ref;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
#if defined(__x86_64__)
    if (od_cpu_isa() & OD_ISA_AVX2) chosen = &eng_kernels_avx2;
#endif
}

const eng_kernels *eng_kernels_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}

void eng_gemm_pack(const float *b, int64_t row, int64_t col, int64_t k, int64_t n, float *packed)
{
    for (int64_t p = 0; p < n; p += ENG_NR, packed += k * ENG_NR) {
        int64_t width = od_min_i64(ENG_NR, n - p);
        const float *from = b + p * col;
        if (row == 1) { /* columns are dense: read along them */
            for (int64_t j = 0; j < ENG_NR; j++)
                for (int64_t i = 0; i < k; i++) packed[i * ENG_NR + j] = j < width ? from[j * col + i] : 0.0f;
        } else {
            for (int64_t i = 0; i < k; i++)
                for (int64_t j = 0; j < ENG_NR; j++) packed[i * ENG_NR + j] = j < width ? from[i * row + j * col] : 0.0f;
        }
    }
}
