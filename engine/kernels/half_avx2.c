#include "engine/kernels/half.h"
#include "engine/kernels/half_rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

static void half_to_float(const uint16_t *from, float *to, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(from + i))));
    for (; i < n; i++) to[i] = _cvtsh_ss(from[i]);
}

static void float_to_half(const float *from, uint16_t *to, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++) to[i] = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

static void bfloat_to_float(const uint16_t *from, float *to, int64_t n)
{
    bfloat_to_float_row(from, to, n);
}

static void float_to_bfloat(const float *from, uint16_t *to, int64_t n)
{
    float_to_bfloat_row(from, to, n);
}

const eng_half_table eng_half_avx2 = {half_to_float, float_to_half, bfloat_to_float, float_to_bfloat};
#endif
