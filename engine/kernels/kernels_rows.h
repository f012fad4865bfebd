/* kernels_rows.h - activations and row kernels in vectors of any width: a template for kernels_*.c. */
#include "engine/kernels/kernels.h"
#include "engine/kernels/vmath.h"

#include <math.h>

static inline vf hard_swish(vf x)
{
    return v_mul(x, v_min(VM(1.0f), v_max(v_zero(), v_fma(x, VM(1.0f / 6), VM(0.5f)))));
}

static inline vf apply(eng_act act, vf alpha, vf beta, vf x)
{
    const vf zero = v_zero(), one = VM(1.0f);
    switch (act) {
    case ENG_ACT_RELU: return v_max(zero, x);
    case ENG_ACT_CLIP: return v_min(beta, v_max(alpha, x));
    case ENG_ACT_LEAKY_RELU: return v_pick(v_less(x, zero), v_mul(alpha, x), x);
    case ENG_ACT_SIGMOID: return vm_sigmoid(x);
    case ENG_ACT_SILU: return vm_silu(vm_silu_for(alpha), x);
    case ENG_ACT_HARD_SIGMOID: return v_min(one, v_max(zero, v_fma(alpha, x, beta)));
    case ENG_ACT_HARD_SWISH: return hard_swish(x);
    case ENG_ACT_GELU_ERF: return vm_gelu_erf(x);
    case ENG_ACT_GELU_TANH: return vm_gelu_tanh(x);
    case ENG_ACT_TANH: return vm_tanh(x);
    case ENG_ACT_MISH: return vm_mish(x);
    case ENG_ACT_ELU: return v_pick(v_less(x, zero), v_mul(alpha, vm_expm1(x)), x);
    case ENG_ACT_SOFTPLUS: return vm_softplus(x);
    default: return x;
    }
}

/* y[i] = EXPRESSION of v for a whole row; the tail goes through partial moves. */
#define FOR_ROW(x, y, n, EXPRESSION)                           \
    do {                                                       \
        int64_t i_ = 0;                                        \
        for (; i_ + VL <= (n); i_ += VL) {                     \
            vf v = v_load((x) + i_);                           \
            v_store((y) + i_, EXPRESSION);                     \
        }                                                      \
        if (i_ < (n)) {                                        \
            vpart part_ = v_first((n) - i_);                   \
            vf v = v_load_part((x) + i_, part_);               \
            v_store_part((y) + i_, part_, EXPRESSION);         \
        }                                                      \
    } while (0)

#define EACH_ACT(CASE)          \
    CASE(ENG_ACT_RELU);         \
    CASE(ENG_ACT_CLIP);         \
    CASE(ENG_ACT_LEAKY_RELU);   \
    CASE(ENG_ACT_SIGMOID);      \
    CASE(ENG_ACT_SILU);         \
    CASE(ENG_ACT_HARD_SIGMOID); \
    CASE(ENG_ACT_HARD_SWISH);   \
    CASE(ENG_ACT_GELU_ERF);     \
    CASE(ENG_ACT_GELU_TANH);    \
    CASE(ENG_ACT_TANH);         \
    CASE(ENG_ACT_MISH);         \
    CASE(ENG_ACT_ELU);          \
    CASE(ENG_ACT_SOFTPLUS)

static void act_row(eng_act act, float alpha, float beta, const float *x, float *y, int64_t n)
{
    const vf a = VM(alpha), b = VM(beta);
#define CASE(A) \
    case A: FOR_ROW(x, y, n, apply(A, a, b, v)); break
    switch (act) { /* one loop each, so that the choice is made once */
        EACH_ACT(CASE);
    default: FOR_ROW(x, y, n, v); break;
    }
#undef CASE
}

static void exp_row(const float *x, float *y, int64_t n)
{
    FOR_ROW(x, y, n, vm_exp(v));
}

static void log_row(const float *x, float *y, int64_t n)
{
    FOR_ROW(x, y, n, vm_log(v));
}

static void tanh_row(const float *x, float *y, int64_t n)
{
    FOR_ROW(x, y, n, vm_tanh(v));
}

static void erf_row(const float *x, float *y, int64_t n)
{
    FOR_ROW(x, y, n, vm_erf(v));
}

/* Pairs of partial sums in blocks keep the error near that of one rounding. */
static float sum_row(const float *x, int64_t n)
{
    enum { BLOCK = 512 };
    double total = 0.0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t end = od_min_i64(at + BLOCK, n), i = at;
        vf s = v_zero(), t = s;
        for (; i + 2 * VL <= end; i += 2 * VL) {
            s = v_add(s, v_load(x + i));
            t = v_add(t, v_load(x + i + VL));
        }
        for (; i < end; i += VL) s = v_add(s, v_load_part(x + i, v_first(end - i)));
        total += (double)v_sum(v_add(s, t));
    }
    return (float)total;
}

static float largest(const float *x, int64_t n)
{
    const vf low = VM(-INFINITY);
    vf top = low;
    vb nan = v_none();
    for (int64_t i = 0; i < n; i += VL) {
        vpart part = v_first(n - i);
        vf v = v_pick_part(part, v_load_part(x + i, part), low);
        nan = v_or(nan, v_is_nan(v));
        top = v_max(top, v);
    }
    return v_any(nan) ? NAN : v_top(top);
}

static void softmax_row(const float *x, float *y, int64_t n)
{
    const vf m = VM(largest(x, n));
    FOR_ROW(x, y, n, vm_exp(v_sub(v, m)));
    const vf inverse = VM(1.0f / sum_row(y, n));
    FOR_ROW(y, y, n, v_mul(v, inverse));
}

static void logsoftmax_row(const float *x, float *y, int64_t n)
{
    const vf m = VM(largest(x, n));
    vf sum = v_zero();
    for (int64_t i = 0; i < n; i += VL) {
        vpart part = v_first(n - i);
        sum = v_add(sum, v_only(part, vm_exp(v_sub(v_load_part(x + i, part), m))));
    }
    const vf shift = VM(logf(v_sum(sum)));
    FOR_ROW(x, y, n, v_sub(v_sub(v, m), shift));
}

/* ---- layer normalization: some rows at a time, which wait for their sums together ------------------ */

enum { LN_ROWS = 4 };
#define LN_EACH _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++)

/* As sum_row. */
static inline __attribute__((always_inline)) void ln_means(const int rows, const float *x, int64_t n, float *mean)
{
    enum { BLOCK = 512 };
    double total[LN_ROWS] = {0};
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t end = od_min_i64(at + BLOCK, n), i = at;
        vf s[LN_ROWS], t[LN_ROWS];
        LN_EACH s[r] = t[r] = v_zero();
        for (; i + 2 * VL <= end; i += 2 * VL) {
            LN_EACH s[r] = v_add(s[r], v_load(x + r * n + i));
            LN_EACH t[r] = v_add(t[r], v_load(x + r * n + i + VL));
        }
        for (; i < end; i += VL) {
            const vpart part = v_first(end - i);
            LN_EACH s[r] = v_add(s[r], v_load_part(x + r * n + i, part));
        }
        LN_EACH total[r] += (double)v_sum(v_add(s[r], t[r]));
    }
    LN_EACH mean[r] = (float)total[r] / (float)n;
}

/* Whole vectors first, as masks take longer than what is done to the numbers. */
static inline __attribute__((always_inline)) void ln_some(const int rows, const float *x, const float *scale, const float *bias,
                                                          float eps, float *y, int64_t n)
{
    const int64_t whole = n / VL * VL;
    const vpart rest = v_first(n - whole);
    const vf one = VM(1.0f), zero = v_zero();
    float means[LN_ROWS];
    vf mean[LN_ROWS], inverse[LN_ROWS], s[LN_ROWS], t[LN_ROWS];
    ln_means(rows, x, n, means);
    LN_EACH mean[r] = VM(means[r]);
    LN_EACH s[r] = t[r] = zero;
    int64_t i = 0;
    for (; i + 2 * VL <= whole; i += 2 * VL) {
        LN_EACH {
            vf d = v_sub(v_load(x + r * n + i), mean[r]), e = v_sub(v_load(x + r * n + i + VL), mean[r]);
            s[r] = v_fma(d, d, s[r]);
            t[r] = v_fma(e, e, t[r]);
        }
    }
    for (; i < n; i += VL) {
        const vpart part = v_first(n - i);
        LN_EACH {
            vf d = v_only(part, v_sub(v_load_part(x + r * n + i, part), mean[r]));
            s[r] = v_fma(d, d, s[r]);
        }
    }
    LN_EACH inverse[r] = VM(1.0f / sqrtf(v_sum(v_add(s[r], t[r])) / (float)n + eps));
    for (i = 0; i < whole; i += VL) {
        const vf by = scale ? v_load(scale + i) : one, add = bias ? v_load(bias + i) : zero;
        LN_EACH v_store(y + r * n + i, v_fma(v_sub(v_load(x + r * n + i), mean[r]), v_mul(inverse[r], by), add));
    }
    if (whole == n) return;
    const vf by = scale ? v_load_part(scale + whole, rest) : one, add = bias ? v_load_part(bias + whole, rest) : zero;
    LN_EACH v_store_part(y + r * n + whole, rest,
                         v_fma(v_sub(v_load_part(x + r * n + whole, rest), mean[r]), v_mul(inverse[r], by), add));
}

static void layernorm_rows(const float *x, const float *scale, const float *bias, float eps, float *y, int64_t n, int64_t rows)
{
    enum { NEAR = 2048 }; /* numbers of a row, so that the rows stay in the nearest cache */
    for (; n <= NEAR && rows >= LN_ROWS; rows -= LN_ROWS, x += LN_ROWS * n, y += LN_ROWS * n) ln_some(LN_ROWS, x, scale, bias, eps, y, n);
    for (; rows > 0; rows--, x += n, y += n) ln_some(1, x, scale, bias, eps, y, n);
}

/* ---- epilogues --------------------------------------------------------------------------------- */

/* What is done to sums before they are stored. */
typedef struct tile_end {
    eng_act act;
    float alpha, beta;
    eng_residual residual;
    const float *add, *scale; /* scale: NULL: none */
    int64_t ld_add;
    int64_t cols; /* of the tile that exist */
    const int64_t *places, *offsets;
} tile_end;

static inline tile_end end_of(const eng_gemm *g)
{
    return (tile_end){.act = g->act, .alpha = g->alpha, .beta = g->beta, .residual = g->residual, .ld_add = g->ld_add, .places = g->places,
                      .offsets = g->offsets};
}

static inline __attribute__((always_inline)) void finish_rows(const eng_act act, int rows, int width, const float *t, float *c,
                                                              int64_t ldc, const tile_end *e)
{
    const vf alpha = VM(e->alpha), beta = VM(e->beta);
    const eng_residual residual = e->residual;
    for (int64_t j = 0; j < e->cols; j += VL) {
        const vpart part = v_first(e->cols - j);
        const bool whole = j + VL <= e->cols;
        const vf scale = e->scale ? v_load_part(e->scale + j, part) : v_zero();
        for (int r = 0; r < rows; r++) {
            vf x = v_load(t + r * width + j);
            if (e->scale) x = v_mul(x, scale);
            vf add = residual ? v_load_part(e->add + r * e->ld_add + j, part) : v_zero();
            if (residual == ENG_RES_BEFORE_ACT) x = v_add(x, add);
            x = apply(act, alpha, beta, x);
            if (residual == ENG_RES_AFTER_ACT) x = v_add(x, add);
            if (whole) v_store(c + r * ldc + j, x);
            else v_store_part(c + r * ldc + j, part, x);
        }
    }
}

/* Bring a tile from t (`width` floats a row) through its epilogue to c. */
static __attribute__((noinline)) void finish_tile(int rows, int width, const float *t, float *c, int64_t ldc, const tile_end *e)
{
#define CASE(A) \
    case A: finish_rows(A, rows, width, t, c, ldc, e); break
    switch (e->act) { /* one loop each, so that the choice is made once */
        EACH_ACT(CASE);
    default: finish_rows(ENG_ACT_NONE, rows, width, t, c, ldc, e); break;
    }
#undef CASE
}

/* The same for kernels that have a vector of channels of some neighbouring pixels: what takes few registers is done
 * in them, the rest by finish_tile. */
typedef struct ending {
    const eng_gemm *g;
    int64_t ldc, ld_add; /* from one of the pixels to the next */
    bool plain, clamp, later;
    vf bottom, top;
    vm_silu_of silu;
} ending;

static inline ending ending_of(const eng_gemm *g)
{
    const bool clamp = g->act == ENG_ACT_RELU || g->act == ENG_ACT_CLIP, short_act = clamp || !g->act || g->act == ENG_ACT_HARD_SWISH;
    return (ending){.g = g, .ldc = g->ldc, .ld_add = g->ld_add, .plain = short_act && !g->residual, .clamp = clamp,
                    .later = !short_act || g->residual == ENG_RES_AFTER_ACT,
                    .bottom = VM(!g->act ? -INFINITY : g->act == ENG_ACT_RELU ? 0.0f : g->alpha),
                    .top = VM(!clamp || g->act == ENG_ACT_RELU ? INFINITY : g->beta),
                    .silu = vm_silu_for(VM(g->alpha))};
}

/* Store `cols` channels from `c` on of `pixels` pixels, the first of which is `pixel`. */
static inline __attribute__((always_inline)) void end_pixels(const ending *e, const int pixels, int64_t pixel, int64_t c, int64_t cols,
                                                             const vf *sums)
{
    enum { MANY = 7 }; /* pixels that are worth a copy of SiLU */
    const eng_gemm *g = e->g;
    const vpart part = v_first(cols);
    float *to = g->c + pixel * g->ldc + c;
    const float *add = g->add ? g->add + pixel * g->ld_add + c : NULL;
    if (pixels >= MANY && VL == 16 && cols >= VL && g->act == ENG_ACT_SILU && !g->residual) {
        const vm_silu_of silu = e->silu;
#pragma GCC unroll 8
        for (int i = 0; i < pixels; i++) v_store(to + i * e->ldc, vm_silu(silu, sums[i]));
        return;
    }
    if (e->plain && cols >= VL && g->act == ENG_ACT_HARD_SWISH) {
#pragma GCC unroll 8
        for (int i = 0; i < pixels; i++) v_store(to + i * e->ldc, hard_swish(sums[i]));
        return;
    }
    if (e->plain && cols >= VL) {
        const vf bottom = e->bottom, top = e->top;
#pragma GCC unroll 8
        for (int i = 0; i < pixels; i++) v_store(to + i * e->ldc, v_min(top, v_max(bottom, sums[i])));
        return;
    }
    if (e->later) {
        _Alignas(64) float t[8 * VL];
        tile_end end = end_of(g);
        end.cols = od_min_i64(cols, VL);
        end.add = add;
        end.ld_add = e->ld_add;
#pragma GCC unroll 8
        for (int i = 0; i < pixels; i++) v_store(t + i * VL, sums[i]);
        finish_tile(pixels, VL, t, to, e->ldc, &end);
        return;
    }
#pragma GCC unroll 8
    for (int i = 0; i < pixels; i++) {
        vf y = sums[i];
        if (g->residual) y = v_add(y, v_load_part(add + i * e->ld_add, part));
        if (e->clamp) y = v_min(e->top, v_max(e->bottom, y));
        if (g->act == ENG_ACT_HARD_SWISH) y = hard_swish(y);
        if (cols >= VL) v_store(to + i * e->ldc, y);
        else v_store_part(to + i * e->ldc, part, y);
    }
}
