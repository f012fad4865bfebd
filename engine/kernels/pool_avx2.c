/* pool_avx2.c - floats keep their running values in registers: 32 channels, then 8, at a time. */
#include "engine/kernels/pool_rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

POOL_MAX(max_f32_narrow, float)
POOL_SUM(sum_f32_narrow, float)
POOL_MAX(max_f64, double)
POOL_MAX(max_u8, uint8_t)
POOL_MAX(max_s8, int8_t)
POOL_SUM(sum_f64, double)

/* _mm256_max_ps(x, best) keeps `best` where either is NaN, as the comparison of the reference does. */
#define MAX(best, x) _mm256_max_ps(x, best)
#define SUM(best, x) _mm256_add_ps(best, x)
#define LOAD(t, c) _mm256_loadu_ps(taps[t] + at + (c))

#define FLOAT_ROWS(name, narrow, STEP, FINISH)                                                    \
    static void name(const eng_pool_row *r)                                                       \
    {                                                                                             \
        const float *const *taps = (const float *const *)(const void *)r->taps;                   \
        const int64_t n = r->n_taps, channels = r->channels;                                      \
        OD_UNUSED const __m256 scale = _mm256_set1_ps((float)r->scale);                           \
        if (channels < 8) {                                                                       \
            narrow(r);                                                                            \
            return;                                                                               \
        }                                                                                         \
        for (int64_t p = 0; p < r->pixels; p++) {                                                 \
            const int64_t at = p * r->step;                                                       \
            float *y = (float *)r->y + p * r->ldy;                                                \
            int64_t c = 0;                                                                        \
            for (; c + 32 <= channels; c += 32) {                                                 \
                __m256 v0 = LOAD(0, c), v1 = LOAD(0, c + 8), v2 = LOAD(0, c + 16), v3 = LOAD(0, c + 24); \
                for (int64_t t = 1; t < n; t++) {                                                 \
                    v0 = STEP(v0, LOAD(t, c));                                                    \
                    v1 = STEP(v1, LOAD(t, c + 8));                                                \
                    v2 = STEP(v2, LOAD(t, c + 16));                                               \
                    v3 = STEP(v3, LOAD(t, c + 24));                                               \
                }                                                                                 \
                _mm256_storeu_ps(y + c, FINISH(v0));                                              \
                _mm256_storeu_ps(y + c + 8, FINISH(v1));                                          \
                _mm256_storeu_ps(y + c + 16, FINISH(v2));                                         \
                _mm256_storeu_ps(y + c + 24, FINISH(v3));                                         \
            }                                                                                     \
            while (c < channels) {                                                                \
                if (c + 8 > channels) c = channels - 8; /* some once more, to the same result */  \
                __m256 v = LOAD(0, c);                                                            \
                for (int64_t t = 1; t < n; t++) v = STEP(v, LOAD(t, c));                          \
                _mm256_storeu_ps(y + c, FINISH(v));                                               \
                c += 8;                                                                           \
            }                                                                                     \
        }                                                                                         \
    }

#define AS_IS(v) (v)
#define SCALED(v) _mm256_mul_ps(v, scale)
FLOAT_ROWS(max_f32, max_f32_narrow, MAX, AS_IS)
FLOAT_ROWS(sum_f32, sum_f32_narrow, SUM, SCALED)

const eng_pool_table eng_pool_avx2 = {max_f32, max_f64, max_u8, max_s8, sum_f32, sum_f64};
#endif
