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
        if (col_stride == 1 && width == ENG_NR) {
            for (int64_t i = 0; i < k; i++)
                for (int64_t j = 0; j < ENG_NR; j += VL) v_store(panels + i * ENG_NR + j, v_load(from + i * row_stride + j));
            continue;
        }
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

/* At the bound, which is log(2^-127), it is zero, as -inf must give; that is as good as nothing beside the largest weight, 1. */
static inline vf exp_below_zero(vf x) { return vm_exp_tame(v_max(VM(-88.0296919f), x)); }

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

/* Without a mask the scale is applied as the exponential is taken, so that the row is read once less. */
static float exp_row(float *row, int64_t n, float scale, const float *mask, int64_t mask_stride, const float *more)
{
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

/* Four rows; those behind the last one of all are that one again. */
typedef struct four_rows {
    float *row[4];
    const float *mask[4], *more[4];
} four_rows;

static inline four_rows rows_from(const eng_scores *s, int64_t from)
{
    four_rows f;
    VM_EACH(r) {
        const int64_t i = od_min_i64(from + r, s->rows - 1);
        f.row[r] = s->row + i * s->pitch;
        f.mask[r] = s->mask ? s->mask + i * s->mask_row : NULL;
        f.more[r] = s->more ? s->more + i * s->more_row : NULL;
    }
    return f;
}

/* A vector of each row, or the first lanes of one. */
static inline vf load_some(const float *p, const bool whole, vpart part) { return whole ? v_load(p) : v_load_part(p, part); }
static inline void store_some(float *p, const bool whole, vpart part, vf x)
{
    if (whole) v_store(p, x);
    else v_store_part(p, part, x);
}

/* Number k of four rows or of their masks. */
#define OF_FOUR(p, k) v_four((p)[0] + (k), (p)[1] + (k), (p)[2] + (k), (p)[3] + (k))
static inline void store_four(float *const p[4], int64_t k, vf x)
{
    float four[4];
    v_store_four(four, x);
    for (int r = 0; r < 4; r++) p[r][k] = four[r];
}

static inline __attribute__((always_inline)) void top_vectors(const four_rows *f, int64_t k, const bool whole, vpart part, const int masks,
                                                              const bool scaled, vf scale, vf top[4])
{
    vf x[4];
    VM_EACH(r) {
        vf add = masks > 0 ? load_some(f->mask[r] + k, whole, part) : v_zero();
        if (masks > 1) add = v_add(add, load_some(f->more[r] + k, whole, part));
        x[r] = load_some(f->row[r] + k, whole, part);
        if (scaled) x[r] = v_fma(x[r], scale, add);
        top[r] = v_max(whole ? x[r] : v_pick_part(part, x[r], VM(-INFINITY)), top[r]); /* which passes over NaN */
    }
    VM_EACH(r) if (scaled) store_some(f->row[r] + k, whole, part, x[r]);
}

/* The largest of each of four rows, or 0 if it has no weight. Scaled, the scores are what scale and masks make of them. */
static inline __attribute__((always_inline)) void find_tops(const eng_scores *s, int64_t i, int64_t n, const int masks, const bool scaled,
                                                            float *tops)
{
    const vf lowest = VM(-INFINITY), scale = VM(s->scale);
    const int64_t whole = n / VL * VL;
    const four_rows f = rows_from(s, i);
    vf top[4] = {lowest, lowest, lowest, lowest};
    for (int64_t k = 0; k < whole; k += VL) top_vectors(&f, k, true, v_first(VL), masks, scaled, scale, top);
    if (whole < n) top_vectors(&f, whole, false, v_first(n - whole), masks, scaled, scale, top);
    vf all = v_tops(top[0], top[1], top[2], top[3]);
    if (n < s->n) {
        vf x = OF_FOUR(f.row, n), add = masks > 0 ? OF_FOUR(f.mask, n) : v_zero();
        if (masks > 1) add = v_add(add, OF_FOUR(f.more, n));
        if (scaled) store_four(f.row, n, x = v_fma(x, scale, add));
        all = v_max(x, all);
    }
    v_store_four(tops + i, v_pick(v_equal(all, lowest), v_zero(), all));
}

static inline __attribute__((always_inline)) void exp_vectors(const four_rows *f, int64_t k, const bool whole, vpart part, const float *tops,
                                                              vf power, vf bound, vf sum[4])
{
    vf x[4];
    VM_EACH(r) x[r] = v_max(bound, v_sub(load_some(f->row[r] + k, whole, part), v_spread(tops + r)));
    vm_exp2_four(x, power);
    VM_EACH(r) sum[r] = v_add(sum[r], whole ? x[r] : v_only(part, x[r]));
    VM_EACH(r) store_some(f->row[r] + k, whole, part, x[r]);
}

/* The exponentials of four rows, and their sums where the largest were. */
static inline void exp_four(const eng_scores *s, int64_t i, int64_t n, vf power, vf bound, float *sums)
{
    const int64_t whole = n / VL * VL;
    const four_rows f = rows_from(s, i);
    vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    for (int64_t k = 0; k < whole; k += VL) exp_vectors(&f, k, true, v_first(VL), sums + i, power, bound, sum);
    if (whole < n) exp_vectors(&f, whole, false, v_first(n - whole), sums + i, power, bound, sum);
    vf all = v_sums(sum[0], sum[1], sum[2], sum[3]);
    if (n < s->n) {
        const float *t = sums + i;
        vf rest, x = v_max(bound, v_sub(OF_FOUR(f.row, n), v_four(t, t + 1, t + 2, t + 3)));
        x = vm_exp2_parts(x, power, &rest);
        store_four(f.row, n, x = v_mul(x, rest));
        all = v_add(all, x);
    }
    v_store_four(sums + i, all);
}

static void weigh_rows(const eng_scores *s, float *factors)
{
    const bool masks = s->mask || s->more, scaled = masks || !(s->scale > 1e-20f && s->scale < 1e20f); /* or in the exponent */
    const vf power = VM(scaled ? LOG2E : s->scale * LOG2E), bound = v_div(VM(-127.0f), power);
    const int64_t n = s->n % VL == 1 && s->n > VL ? s->n - 1 : s->n; /* the last score alone would take a vector a row */
    eng_scores t = *s;
    if (!t.mask) {
        t.mask = t.more;
        t.mask_row = t.more_row;
        t.more = NULL;
    }
    for (int64_t i = 0; i < s->rows; i += 4) {
        if (t.more) find_tops(&t, i, n, 2, true, factors);
        else if (masks) find_tops(&t, i, n, 1, true, factors);
        else if (scaled) find_tops(&t, i, n, 0, true, factors);
        else find_tops(&t, i, n, 0, false, factors);
    }
    for (int64_t i = 0; i < s->rows; i += 4) exp_four(&t, i, n, power, bound, factors);
    for (int64_t i = 0; i < s->rows; i += VL) v_store(factors + i, v_div(VM(1.0f), v_load(factors + i)));
}

static void dots(const float *x, int64_t x_pitch, int64_t rows, const float *y, int64_t n, float *to, int64_t to_pitch)
{
    const int64_t whole = n / VL * VL;
    const vpart rest = v_first(n - whole);
    for (int64_t i = 0; i < rows; i += 4) {
        const float *row[4];
        vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
        float four[4];
        VM_EACH(r) row[r] = x + od_min_i64(i + r, rows - 1) * x_pitch;
        for (int64_t k = 0; k < whole; k += VL) VM_EACH(r) sum[r] = v_fma(v_load(row[r] + k), v_load(y + k), sum[r]);
        if (whole < n) VM_EACH(r) sum[r] = v_fma(v_load_part(row[r] + whole, rest), v_load_part(y + whole, rest), sum[r]);
        v_store_four(four, v_sums(sum[0], sum[1], sum[2], sum[3]));
        for (int64_t r = 0; r < od_min_i64(4, rows - i); r++) to[(i + r) * to_pitch] = four[r];
    }
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
