#include "engine/kernels/reduce.h"

#if defined(__AVX2__)
#include <immintrin.h>
#include <math.h>

enum { BLOCK = 256 }; /* additions in one register before it is added to the total, to keep round-off down */

static inline __m256i lanes_below(int64_t n) /* n may exceed 8 */
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 8 ? 8 : (int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline __m256 magnitude(__m256 x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

static inline __m256 start(eng_red kind)
{
    return kind == ENG_RED_MAX   ? _mm256_set1_ps(-INFINITY)
           : kind == ENG_RED_MIN ? _mm256_set1_ps(INFINITY)
                                 : _mm256_setzero_ps();
}

/* max_ps and min_ps give the second operand when one is NaN: a NaN in `acc` must be kept by hand. */
static inline __m256 step(eng_red kind, __m256 acc, __m256 x)
{
    switch (kind) {
    case ENG_RED_SUM: return _mm256_add_ps(acc, x);
    case ENG_RED_SQUARE: return _mm256_fmadd_ps(x, x, acc);
    case ENG_RED_ABS: return _mm256_add_ps(acc, magnitude(x));
    case ENG_RED_MAX: return _mm256_blendv_ps(_mm256_max_ps(acc, x), acc, _mm256_cmp_ps(acc, acc, _CMP_UNORD_Q));
    default: return _mm256_blendv_ps(_mm256_min_ps(acc, x), acc, _mm256_cmp_ps(acc, acc, _CMP_UNORD_Q));
    }
}

static inline __m256 join(eng_red kind, __m256 a, __m256 b)
{
    return kind == ENG_RED_MAX || kind == ENG_RED_MIN ? step(kind, a, b) : _mm256_add_ps(a, b);
}

static double join_lanes(eng_red kind, __m256 v)
{
    float lane[8];
    _mm256_storeu_ps(lane, v);
    if (kind != ENG_RED_MAX && kind != ENG_RED_MIN)
        return (double)(((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7])));
    float best = lane[0];
    for (int i = 1; i < 8; i++)
        if (isnan(lane[i]) || (kind == ENG_RED_MAX ? lane[i] > best : lane[i] < best)) best = lane[i];
    return (double)best;
}

static inline __attribute__((always_inline)) float row_of(eng_red kind, const float *x, int64_t n, float shift)
{
    const __m256 by = _mm256_set1_ps(shift);
    double total = 0.0;
    __m256 best = start(kind);
    for (int64_t at = 0; at < n; at += BLOCK * 4) {
        int64_t end = at + BLOCK * 4 < n ? at + BLOCK * 4 : n, i = at;
        __m256 a = start(kind), b = a, c = a, d = a;
        for (; i + 32 <= end; i += 32) {
            a = step(kind, a, _mm256_sub_ps(_mm256_loadu_ps(x + i), by));
            b = step(kind, b, _mm256_sub_ps(_mm256_loadu_ps(x + i + 8), by));
            c = step(kind, c, _mm256_sub_ps(_mm256_loadu_ps(x + i + 16), by));
            d = step(kind, d, _mm256_sub_ps(_mm256_loadu_ps(x + i + 24), by));
        }
        for (; i < end; i += 8) {
            __m256i lanes = lanes_below(end - i);
            __m256 v = _mm256_sub_ps(_mm256_maskload_ps(x + i, lanes), by);
            a = _mm256_blendv_ps(a, step(kind, a, v), _mm256_castsi256_ps(lanes));
        }
        a = join(kind, join(kind, a, b), join(kind, c, d));
        if (kind == ENG_RED_MAX || kind == ENG_RED_MIN) best = step(kind, best, a);
        else total += join_lanes(kind, a);
    }
    return (float)(kind == ENG_RED_MAX || kind == ENG_RED_MIN ? join_lanes(kind, best) : total);
}

static float row(eng_red kind, const float *x, int64_t n, float shift)
{
    switch (kind) { /* one loop each */
    case ENG_RED_SUM: return row_of(ENG_RED_SUM, x, n, shift);
    case ENG_RED_SQUARE: return row_of(ENG_RED_SQUARE, x, n, shift);
    case ENG_RED_ABS: return row_of(ENG_RED_ABS, x, n, shift);
    case ENG_RED_MAX: return row_of(ENG_RED_MAX, x, n, shift);
    default: return row_of(ENG_RED_MIN, x, n, shift);
    }
}

/* 32 columns at a time stay in four registers down a block of rows. */
static inline __attribute__((always_inline)) void columns_of(eng_red kind, const float *x, int64_t stride, int64_t rows,
                                                             int64_t width, const float *shift, float *acc)
{
    for (int64_t k = 0; k < width; k += 32) {
        __m256i lanes[4];
        __m256 by[4], total[4];
        bool whole = k + 32 <= width;
        for (int v = 0; v < 4; v++) {
            lanes[v] = lanes_below(width - k - v * 8);
            by[v] = shift ? _mm256_maskload_ps(shift + k + v * 8, lanes[v]) : _mm256_setzero_ps();
            total[v] = start(kind);
        }
        for (int64_t at = 0; at < rows; at += BLOCK) {
            int64_t end = at + BLOCK < rows ? at + BLOCK : rows;
            const float *p = x + at * stride + k;
            __m256 a = start(kind), b = a, c = a, d = a;
            if (whole) {
                for (int64_t i = at; i < end; i++, p += stride) {
                    a = step(kind, a, _mm256_sub_ps(_mm256_loadu_ps(p), by[0]));
                    b = step(kind, b, _mm256_sub_ps(_mm256_loadu_ps(p + 8), by[1]));
                    c = step(kind, c, _mm256_sub_ps(_mm256_loadu_ps(p + 16), by[2]));
                    d = step(kind, d, _mm256_sub_ps(_mm256_loadu_ps(p + 24), by[3]));
                }
            } else {
                for (int64_t i = at; i < end; i++, p += stride) {
                    a = step(kind, a, _mm256_sub_ps(_mm256_maskload_ps(p, lanes[0]), by[0]));
                    b = step(kind, b, _mm256_sub_ps(_mm256_maskload_ps(p + 8, lanes[1]), by[1]));
                    c = step(kind, c, _mm256_sub_ps(_mm256_maskload_ps(p + 16, lanes[2]), by[2]));
                    d = step(kind, d, _mm256_sub_ps(_mm256_maskload_ps(p + 24, lanes[3]), by[3]));
                }
            }
            total[0] = join(kind, total[0], a);
            total[1] = join(kind, total[1], b);
            total[2] = join(kind, total[2], c);
            total[3] = join(kind, total[3], d);
        }
        for (int v = 0; v < 4; v++) _mm256_maskstore_ps(acc + k + v * 8, lanes[v], total[v]);
    }
}

static void columns(eng_red kind, const float *x, int64_t stride, int64_t rows, int64_t width, const float *shift, float *acc)
{
    switch (kind) {
    case ENG_RED_SUM: columns_of(ENG_RED_SUM, x, stride, rows, width, shift, acc); break;
    case ENG_RED_SQUARE: columns_of(ENG_RED_SQUARE, x, stride, rows, width, shift, acc); break;
    case ENG_RED_ABS: columns_of(ENG_RED_ABS, x, stride, rows, width, shift, acc); break;
    case ENG_RED_MAX: columns_of(ENG_RED_MAX, x, stride, rows, width, shift, acc); break;
    default: columns_of(ENG_RED_MIN, x, stride, rows, width, shift, acc); break;
    }
}

static void affine(const float *x, int64_t x_stride, float *y, int64_t y_stride, int64_t rows, int64_t width,
                   const float *scale, const float *bias, int64_t s)
{
    __m256 m = _mm256_set1_ps(*scale), b = _mm256_set1_ps(*bias);
    for (int64_t i = 0; i < rows; i++, x += x_stride, y += y_stride) {
        int64_t k = 0;
        for (; k + 8 <= width; k += 8) {
            if (s) m = _mm256_loadu_ps(scale + k), b = _mm256_loadu_ps(bias + k);
            _mm256_storeu_ps(y + k, _mm256_fmadd_ps(_mm256_loadu_ps(x + k), m, b));
        }
        if (k == width) continue;
        __m256i lanes = lanes_below(width - k);
        if (s) m = _mm256_maskload_ps(scale + k, lanes), b = _mm256_maskload_ps(bias + k, lanes);
        _mm256_maskstore_ps(y + k, lanes, _mm256_fmadd_ps(_mm256_maskload_ps(x + k, lanes), m, b));
    }
}

static void normal(const float *x, float mean, float inverse, const float *scale, const float *bias, float *y, int64_t n)
{
    const __m256 m = _mm256_set1_ps(mean), by = _mm256_set1_ps(inverse);
    for (int64_t i = 0; i < n; i += 8) {
        bool whole = n - i >= 8; /* masked stores are slow */
        __m256i lanes = lanes_below(n - i);
        __m256 v = whole ? _mm256_loadu_ps(x + i) : _mm256_maskload_ps(x + i, lanes), b = _mm256_setzero_ps();
        v = _mm256_mul_ps(_mm256_sub_ps(v, m), by);
        if (bias) b = whole ? _mm256_loadu_ps(bias + i) : _mm256_maskload_ps(bias + i, lanes);
        v = scale ? _mm256_fmadd_ps(v, whole ? _mm256_loadu_ps(scale + i) : _mm256_maskload_ps(scale + i, lanes), b) : _mm256_add_ps(v, b);
        if (whole) _mm256_storeu_ps(y + i, v);
        else _mm256_maskstore_ps(y + i, lanes, v);
    }
}

const eng_reduce_kernels eng_reduce_avx2 = {row, columns, affine, normal};
#else
const eng_reduce_kernels eng_reduce_avx2 = {0};
#endif
