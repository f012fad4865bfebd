/* attention_rows.h - rows of scores in vectors of any width: a template for attention_*.c, after a vec_*.h. */
#include "engine/kernels/attention.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/transpose.h"
#include "engine/kernels/vmath.h"

#include <math.h>
#include <string.h>

static void pack(const float *m, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n, float *panels)
{
    eng_transpose_fn *transpose = eng_transposes_get()->by_log2[2];
    for (int64_t p = 0; p < n; p += ENG_NR, panels += k * ENG_NR) {
        const int64_t width = od_min_i64(ENG_NR, n - p);
        const float *from = m + p * col_stride;
        if (col_stride == 1) {
            for (int64_t i = 0; i < k; i++)
                for (int64_t j = 0; j < ENG_NR; j += VL)
                    v_store(panels + i * ENG_NR + j, j < width ? v_load_part(from + i * row_stride + j, v_first(width - j)) : v_zero());
            continue;
        }
        if (width < ENG_NR) memset(panels, 0, (size_t)(k * ENG_NR) * sizeof *panels);
        if (row_stride == 1) {
            transpose((char *)panels, ENG_NR * sizeof *panels, (const char *)from, col_stride * (int64_t)sizeof *from, width, k);
            continue;
        }
        for (int64_t j = 0; j < width; j++)
            for (int64_t i = 0; i < k; i++) panels[i * ENG_NR + j] = from[i * row_stride + j * col_stride];
    }
}

/* Below the bound it is as good as nothing beside the largest weight, which is 1, and -inf must give zero. */
static inline vf exp_below_zero(vf x)
{
    const vf bound = VM(-86.0f);
    return v_pick(v_less(x, bound), v_zero(), vm_exp_tame(v_max(bound, x)));
}

static inline vf masked(vf x, vf scale, const float *mask, int64_t mask_stride, const float *more, int64_t i, vpart part)
{
    vf add = v_zero();
    if (mask) add = mask_stride ? v_load_part(mask + i, part) : v_spread(mask);
    if (more) add = v_add(add, v_load_part(more + i, part));
    return v_fma(x, scale, add);
}

/* A row without any weight. */
static float no_weight(float *row, int64_t n)
{
    bool nan = false;
    for (int64_t i = 0; i < n; i++) {
        nan |= isnan(row[i]);
        row[i] = 0.0f;
    }
    return nan ? NAN : 0.0f;
}

enum { FEW = 4 };

/* The row in `count` vectors, a constant, the last of which has `rest`: it stays in registers. */
static inline __attribute__((always_inline)) float exp_few(const int count, float *row, int64_t n, float scale, const float *mask,
                                                           int64_t mask_stride, const float *more, vpart rest)
{
    const vf lowest = VM(-INFINITY);
    const bool early = mask || more || scale <= 0.0f;
    vf x[FEW], top = lowest, sum = v_zero(), s = VM(scale);
#pragma GCC unroll 4
    for (int v = 0; v < count; v++) {
        const vpart part = v + 1 < count ? v_first(VL) : rest;
        x[v] = v + 1 < count ? v_load(row + v * VL) : v_load_part(row + v * VL, rest);
        if (early) x[v] = masked(x[v], s, mask, mask_stride, more, v * VL, part);
        top = v_max(v + 1 < count ? x[v] : v_pick_part(rest, x[v], lowest), top); /* which passes over NaN */
    }
    if (early) s = VM(1.0f);
    const float largest = v_top(top);
    const vf down = VM(early ? -largest : -largest * scale);
#pragma GCC unroll 4
    for (int v = 0; v < count; v++) {
        if (largest != -INFINITY) x[v] = exp_below_zero(v_fma(x[v], s, down));
        if (v + 1 < count) v_store(row + v * VL, x[v]);
        else v_store_part(row + v * VL, rest, x[v]);
        sum = v_add(sum, v + 1 < count ? x[v] : v_only(rest, x[v]));
    }
    return largest == -INFINITY ? no_weight(row, n) : v_sum(sum);
}

/* Without a mask the scale is applied as the exponential is taken, so that the row is read once less. */
static float exp_row(float *row, int64_t n, float scale, const float *mask, int64_t mask_stride, const float *more)
{
#define CASE(N) \
    case N: return exp_few(N, row, n, scale, mask, mask_stride, more, v_first(n - (N - 1) * VL))
    switch (od_ceil_div(n, VL)) {
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
    default: break;
    }
#undef CASE
    const vf lowest = VM(-INFINITY);
    const bool early = mask || more || scale <= 0.0f;
    const int64_t whole = n / VL * VL;
    const vpart all = v_first(VL), rest = v_first(n - whole);
    vf top = lowest, s = VM(scale), sum = v_zero();
    if (early) {
        for (int64_t i = 0; i < whole; i += VL) {
            vf x = masked(v_load(row + i), s, mask, mask_stride, more, i, all);
            v_store(row + i, x);
            top = v_max(x, top); /* which passes over NaN */
        }
        if (whole < n) {
            vf x = masked(v_load_part(row + whole, rest), s, mask, mask_stride, more, whole, rest);
            v_store_part(row + whole, rest, x);
            top = v_max(v_pick_part(rest, x, lowest), top);
        }
        s = VM(1.0f);
    } else {
        for (int64_t i = 0; i < whole; i += VL) top = v_max(v_load(row + i), top);
        if (whole < n) top = v_max(v_pick_part(rest, v_load_part(row + whole, rest), lowest), top);
    }
    const float largest = v_top(top);
    if (largest == -INFINITY) return no_weight(row, n);
    const vf down = VM(early ? -largest : -largest * scale);
    for (int64_t i = 0; i < whole; i += VL) {
        vf x = exp_below_zero(v_fma(v_load(row + i), s, down));
        v_store(row + i, x);
        sum = v_add(sum, x);
    }
    if (whole < n) {
        vf x = exp_below_zero(v_fma(v_load_part(row + whole, rest), s, down));
        v_store_part(row + whole, rest, x);
        sum = v_add(sum, v_only(rest, x));
    }
    return v_sum(sum);
}

static void scale_rows(const float *x, int64_t x_pitch, const float *factor, int64_t rows, int64_t n, float *y, int64_t y_pitch)
{
    for (int64_t i = 0; i < rows; i++) {
        const vf f = v_spread(factor + i);
        int64_t j = 0;
        for (; j + VL <= n; j += VL) v_store(y + i * y_pitch + j, v_mul(v_load(x + i * x_pitch + j), f));
        if (j == n) continue;
        vpart part = v_first(n - j);
        v_store_part(y + i * y_pitch + j, part, v_mul(v_load_part(x + i * x_pitch + j, part), f));
    }
}
