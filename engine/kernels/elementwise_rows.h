/* elementwise_rows.h - the bodies of elementwise.h, for compilers to vectorise under the flags of the
 * file that includes them. ivdep: rows that alias start at the same address, so no iteration reads
 * what an earlier one wrote. */
#ifndef ENG_KERNELS_ELEMENTWISE_ROWS_H
#define ENG_KERNELS_ELEMENTWISE_ROWS_H

#include "engine/kernels/elementwise.h"

#include <math.h>
#include <string.h>

#if defined(__clang__)
#define ROW_LOOP _Pragma("clang loop vectorize(assume_safety)")
#else
#define ROW_LOOP _Pragma("GCC ivdep")
#endif

#define BIN_ROW(name, OUT, expr)                                                                            \
    static void name(OUT *o, int64_t so, const float *a, int64_t sa, const float *b, int64_t sb, int64_t n) \
    {                                                                                                       \
        if (so == 1 && sa == 1 && sb == 1) {                                                                \
            ROW_LOOP                                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                               \
                float x = a[i], y = b[i];                                                                   \
                o[i] = (OUT)(expr);                                                                         \
            }                                                                                               \
        } else if (so == 1 && sa == 1 && sb == 0) {                                                         \
            float y = *b;                                                                                   \
            ROW_LOOP                                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                               \
                float x = a[i];                                                                             \
                o[i] = (OUT)(expr);                                                                         \
            }                                                                                               \
        } else if (so == 1 && sa == 0 && sb == 1) {                                                         \
            float x = *a;                                                                                   \
            ROW_LOOP                                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                               \
                float y = b[i];                                                                             \
                o[i] = (OUT)(expr);                                                                         \
            }                                                                                               \
        } else {                                                                                            \
            for (int64_t i = 0; i < n; i++) {                                                               \
                float x = a[i * sa], y = b[i * sb];                                                         \
                o[i * so] = (OUT)(expr);                                                                    \
            }                                                                                               \
        }                                                                                                   \
    }

#define UN_ROW(name, expr)                                  \
    static void name(float *o, const float *in, int64_t n)  \
    {                                                       \
        ROW_LOOP                                            \
        for (int64_t i = 0; i < n; i++) {                   \
            float x = in[i];                                \
            o[i] = (expr);                                  \
        }                                                   \
    }

#define PAR_ROW(name, expr)                                                            \
    static void name(float *o, const float *in, int64_t n, float alpha, float beta)    \
    {                                                                                  \
        (void)beta;                                                                    \
        ROW_LOOP                                                                       \
        for (int64_t i = 0; i < n; i++) {                                              \
            float x = in[i];                                                           \
            o[i] = (expr);                                                             \
        }                                                                              \
    }

static inline float unit(float x)
{
    x = x < 0.0f ? 0.0f : x;
    return x > 1.0f ? 1.0f : x;
}

static inline float clip(float x, float lo, float hi)
{
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

BIN_ROW(add_row, float, x + y)
BIN_ROW(sub_row, float, x - y)
BIN_ROW(mul_row, float, x * y)
BIN_ROW(div_row, float, x / y)
BIN_ROW(min_row, float, (x < y) | (x != x) ? x : y)
BIN_ROW(max_row, float, (x > y) | (x != x) ? x : y)
BIN_ROW(prelu_row, float, x < 0.0f ? x * y : x)
BIN_ROW(eq_row, uint8_t, x == y)
BIN_ROW(lt_row, uint8_t, x < y)
BIN_ROW(gt_row, uint8_t, x > y)
BIN_ROW(le_row, uint8_t, x <= y)
BIN_ROW(ge_row, uint8_t, x >= y)
UN_ROW(abs_row, fabsf(x))
UN_ROW(neg_row, -x)
UN_ROW(sqrt_row, sqrtf(x))
UN_ROW(reciprocal_row, 1.0f / x)
UN_ROW(floor_row, floorf(x))
UN_ROW(ceil_row, ceilf(x))
UN_ROW(round_row, rintf(x))
UN_ROW(sign_row, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? 0.0f : x)
UN_ROW(square_row, x *x)
UN_ROW(cube_row, x *x *x)
UN_ROW(relu_row, x < 0.0f ? 0.0f : x)
UN_ROW(softsign_row, x / (1.0f + fabsf(x)))
UN_ROW(pow_1_2_row, x == -INFINITY ? INFINITY : sqrtf(x) + 0.0f)
UN_ROW(pow_3_4_row, x == -INFINITY ? INFINITY : sqrtf(x) * sqrtf(sqrtf(x)))
PAR_ROW(clip_row, clip(x, alpha, beta))
PAR_ROW(leaky_row, x < 0.0f ? alpha * x : x)
PAR_ROW(hard_sigmoid_row, unit(alpha *x + beta))
PAR_ROW(hard_swish_row, x *unit(alpha *x + beta))
PAR_ROW(threshold_row, x > alpha ? x : 0.0f)
PAR_ROW(shrink_row, x < -alpha ? x + beta : x > alpha ? x - beta : 0.0f)

static void gather_32_row(uint32_t *o, const uint32_t *x, int64_t rows, int64_t stride, int64_t step, int64_t n)
{
    for (int64_t r = 0; r < rows; r++, o += n, x += stride) {
        int64_t i = 0;
        if (step == 0)
            for (; i < n; i += 8)
                for (int k = 0; k < 8; k++) o[i + k] = *x;
        else if (step == 1)
            for (; i + 8 <= n; i += 8) memcpy(o + i, x + i, 32);
        for (; i < n; i++) o[i] = x[i * step];
    }
}

static void widen_u8_row(float *o, const uint8_t *x, int64_t n, uint8_t highest)
{
    ROW_LOOP
    for (int64_t i = 0; i < n; i++) o[i] = (float)(x[i] < highest ? x[i] : highest);
}

static void where_32_row(uint32_t *o, const uint8_t *c, const uint32_t *a, int64_t sa, const uint32_t *b, int64_t sb,
                         int64_t n)
{
    if (sa == 1 && sb == 1) {
        ROW_LOOP
        for (int64_t i = 0; i < n; i++) {
            uint32_t x = a[i], y = b[i]; /* both are read, so that the choice needs no branch */
            o[i] = c[i] ? x : y;
        }
    } else if (sa == 1) {
        uint32_t y = *b;
        ROW_LOOP
        for (int64_t i = 0; i < n; i++) {
            uint32_t x = a[i];
            o[i] = c[i] ? x : y;
        }
    } else if (sb == 1) {
        uint32_t x = *a;
        ROW_LOOP
        for (int64_t i = 0; i < n; i++) {
            uint32_t y = b[i];
            o[i] = c[i] ? x : y;
        }
    } else {
        uint32_t x = *a, y = *b;
        ROW_LOOP
        for (int64_t i = 0; i < n; i++) o[i] = c[i] ? x : y;
    }
}

static inline int32_t rounded(float t, float zero, float lo, float hi)
{
    t = rintf(t) + zero;
    t = t > lo ? t : lo; /* also NaN, whose conversion would be undefined */
    return (int32_t)(t < hi ? t : hi);
}

static void quantize_8_row(uint8_t *o, const float *x, int64_t n, float scale, float zero, float lo, float hi)
{
    for (int64_t i = 0; i < n; i++) o[i] = (uint8_t)rounded(x[i] / scale, zero, lo, hi);
}

static void dequantize_u8_row(float *o, const uint8_t *x, int64_t n, float scale, int32_t zero)
{
    for (int64_t i = 0; i < n; i++) o[i] = (float)((int32_t)x[i] - zero) * scale;
}

static void dequantize_s8_row(float *o, const int8_t *x, int64_t n, float scale, int32_t zero)
{
    for (int64_t i = 0; i < n; i++) o[i] = (float)((int32_t)x[i] - zero) * scale;
}

static void requantize_row(uint8_t *o, const int32_t *x, int64_t n, const float *scale, int64_t step, float zero,
                           float lo, float hi)
{
    if (step == 0) {
        float s = *scale;
        for (int64_t i = 0; i < n; i++) o[i] = (uint8_t)rounded((float)x[i] * s, zero, lo, hi);
    } else {
        for (int64_t i = 0; i < n; i++) o[i] = (uint8_t)rounded((float)x[i] * scale[i], zero, lo, hi);
    }
}

#define MAC_ROW(name, T)                                                            \
    static void name(int32_t *sum, int32_t a, const T *b, int64_t n)                \
    {                                                                               \
        for (int64_t i = 0; i < n; i++)                                             \
            sum[i] = (int32_t)((uint32_t)sum[i] + (uint32_t)a * (uint32_t)(int32_t)b[i]); \
    }
MAC_ROW(mac_u8_row, uint8_t)
MAC_ROW(mac_s8_row, int8_t)
MAC_ROW(mac_s16_row, int16_t)

static float dot_row(const float *a, const float *b, int64_t n)
{
    enum { LANES = 16 };
    float sum[LANES] = {0}, all = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++) all += a[i] * b[i];
    for (int half = LANES / 2; half; half /= 2)
        for (int k = 0; k < half; k++) sum[k] += sum[k + half];
    return sum[0] + all;
}

static void rank_s32_row(const int32_t *key, int32_t *rank, int32_t n)
{
    typedef int32_t lanes __attribute__((vector_size(32)));
    int32_t all = 0;
    for (int32_t j = 0; j < n; j += 8) {
        lanes k, sum = {0}, more = {0};
        memcpy(&k, key + j, sizeof k);
        int32_t i = 0;
        for (; i + 2 <= n; i += 2) { /* a comparison that holds is -1 */
            sum -= key[i] > k;
            more -= key[i + 1] > k;
        }
        if (i < n) sum -= key[i] > k;
        sum += more;
        memcpy(rank + j, &sum, sizeof sum);
    }
    for (int32_t j = 0; j < n; j++) all += rank[j];
    if (all == n * (n - 1) / 2) return; /* every pair has a larger one: no two are equal */
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = i + 1; j < n; j++) rank[j] += key[i] == key[j];
}

static void combine_row(float *y, const float *w, int64_t k, const float *rows, int64_t ld, int64_t n)
{
    int64_t at = 0;
    for (; at + 4 <= k; at += 4) { /* four at a time, so that y is read and written a quarter as often */
        const float *a = rows + at * ld, *b = a + ld, *c = b + ld, *d = c + ld;
        const float wa = w[at], wb = w[at + 1], wc = w[at + 2], wd = w[at + 3];
        ROW_LOOP
        for (int64_t i = 0; i < n; i++) y[i] += wa * a[i] + wb * b[i] + (wc * c[i] + wd * d[i]);
    }
    for (; at < k; at++) {
        const float *a = rows + at * ld, wa = w[at];
        ROW_LOOP
        for (int64_t i = 0; i < n; i++) y[i] += wa * a[i];
    }
}

#define ELEMENTWISE_TABLE                                                                                       \
    {                                                                                                           \
        .bin = {add_row, sub_row, mul_row, div_row, min_row, max_row, prelu_row},                               \
        .un = {abs_row, neg_row, sqrt_row, reciprocal_row, floor_row, ceil_row, round_row, sign_row, square_row, \
               cube_row, relu_row, softsign_row, pow_1_2_row, pow_3_4_row},                                     \
        .par = {clip_row, leaky_row, hard_sigmoid_row, hard_swish_row, threshold_row, shrink_row},              \
        .cmp = {eq_row, lt_row, gt_row, le_row, ge_row}, .where_32 = where_32_row,                              \
        .gather_32 = gather_32_row, .widen_u8 = widen_u8_row,                                                   \
        .quantize_8 = quantize_8_row, .dequantize_u8 = dequantize_u8_row, .dequantize_s8 = dequantize_s8_row,   \
        .requantize = requantize_row, .mac_u8 = mac_u8_row, .mac_s8 = mac_s8_row, .mac_s16 = mac_s16_row,       \
        .dot = dot_row, .rank_s32 = rank_s32_row, .combine = combine_row,                                       \
    }

#endif
