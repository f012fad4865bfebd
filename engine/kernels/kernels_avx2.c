#include "engine/kernels/kernels.h"

#if defined(__AVX2__)
#include "engine/kernels/vmath_avx2.h"

#include <math.h>

/* ---- activations --------------------------------------------------------------------------- */

static inline __m256 apply(eng_act act, __m256 alpha, __m256 beta, __m256 x)
{
    const __m256 zero = _mm256_setzero_ps(), one = VM(1.0f);
    switch (act) {
    case ENG_ACT_RELU: return _mm256_max_ps(zero, x); /* the second operand comes through when it is NaN */
    case ENG_ACT_CLIP: return _mm256_min_ps(beta, _mm256_max_ps(alpha, x));
    case ENG_ACT_LEAKY_RELU: return _mm256_blendv_ps(x, _mm256_mul_ps(alpha, x), x);
    case ENG_ACT_SIGMOID: return vm_sigmoid(x);
    case ENG_ACT_SILU: return _mm256_mul_ps(x, vm_sigmoid(_mm256_mul_ps(alpha, x)));
    case ENG_ACT_HARD_SIGMOID: return _mm256_min_ps(one, _mm256_max_ps(zero, _mm256_fmadd_ps(alpha, x, beta)));
    case ENG_ACT_HARD_SWISH:
        return _mm256_mul_ps(x, _mm256_min_ps(one, _mm256_max_ps(zero, _mm256_fmadd_ps(x, VM(1.0f / 6), VM(0.5f)))));
    case ENG_ACT_GELU_ERF:
        return _mm256_mul_ps(_mm256_mul_ps(VM(0.5f), x), _mm256_add_ps(one, vm_erf(_mm256_mul_ps(x, VM(0.70710678f)))));
    case ENG_ACT_GELU_TANH: return vm_gelu_tanh(x);
    case ENG_ACT_TANH: return vm_tanh(x);
    case ENG_ACT_MISH: return vm_mish(x);
    case ENG_ACT_ELU: return _mm256_blendv_ps(x, _mm256_mul_ps(alpha, vm_expm1(x)), x);
    case ENG_ACT_SOFTPLUS: return vm_softplus(x);
    default: return x;
    }
}

static inline __m256i lanes_below(int64_t n) /* n may exceed 8 */
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 8 ? 8 : (int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* y[i] = EXPRESSION of v for a whole row; the tail goes through masked moves. */
#define FOR_ROW(x, y, n, EXPRESSION)                                                \
    do {                                                                            \
        int64_t i_ = 0;                                                             \
        for (; i_ + 8 <= (n); i_ += 8) {                                            \
            __m256 v = _mm256_loadu_ps((x) + i_);                                   \
            _mm256_storeu_ps((y) + i_, EXPRESSION);                                 \
        }                                                                           \
        if (i_ < (n)) {                                                             \
            __m256i lanes_ = lanes_below((n) - i_);                                 \
            __m256 v = _mm256_maskload_ps((x) + i_, lanes_);                        \
            _mm256_maskstore_ps((y) + i_, lanes_, EXPRESSION);                      \
        }                                                                           \
    } while (0)

static void act_row(eng_act act, float alpha, float beta, const float *x, float *y, int64_t n)
{
    const __m256 a = VM(alpha), b = VM(beta);
#define CASE(A) \
    case A: FOR_ROW(x, y, n, apply(A, a, b, v)); break
    switch (act) { /* one loop each, so that the choice is made once */
        CASE(ENG_ACT_RELU);
        CASE(ENG_ACT_CLIP);
        CASE(ENG_ACT_LEAKY_RELU);
        CASE(ENG_ACT_SIGMOID);
        CASE(ENG_ACT_SILU);
        CASE(ENG_ACT_HARD_SIGMOID);
        CASE(ENG_ACT_HARD_SWISH);
        CASE(ENG_ACT_GELU_ERF);
        CASE(ENG_ACT_GELU_TANH);
        CASE(ENG_ACT_TANH);
        CASE(ENG_ACT_MISH);
        CASE(ENG_ACT_ELU);
        CASE(ENG_ACT_SOFTPLUS);
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

/* ---- matrix product ------------------------------------------------------------------------ */

typedef struct tile_end {
    eng_act act;
    float alpha, beta;
    eng_residual residual;
    const float *add;
    int64_t ld_add;
    int64_t cols; /* of the panel that exist */
} tile_end;

static inline bool simple(const tile_end *e)
{
    return e->cols == ENG_NR && (e->act == ENG_ACT_NONE || e->act == ENG_ACT_RELU || e->act == ENG_ACT_CLIP);
}

/* Bring a tile from `from` (16 floats a row) through its epilogue to c. */
static void finish_tile(int rows, const float *from, float *c, int64_t ldc, const tile_end *e)
{
    __m256i lo = lanes_below(e->cols), hi = lanes_below(e->cols > 8 ? e->cols - 8 : 0);
    float t[ENG_NR * 6];
    for (int r = 0; r < rows; r++) {
        __m256 x = _mm256_loadu_ps(from + r * ENG_NR), y = _mm256_loadu_ps(from + r * ENG_NR + 8);
        if (e->residual == ENG_RES_BEFORE_ACT) {
            x = _mm256_add_ps(x, _mm256_maskload_ps(e->add + r * e->ld_add, lo));
            y = _mm256_add_ps(y, _mm256_maskload_ps(e->add + r * e->ld_add + 8, hi));
        }
        _mm256_storeu_ps(t + r * ENG_NR, x);
        _mm256_storeu_ps(t + r * ENG_NR + 8, y);
    }
    if (e->act) act_row(e->act, e->alpha, e->beta, t, t, rows * ENG_NR);
    for (int r = 0; r < rows; r++) {
        __m256 x = _mm256_loadu_ps(t + r * ENG_NR), y = _mm256_loadu_ps(t + r * ENG_NR + 8);
        if (e->residual == ENG_RES_AFTER_ACT) {
            x = _mm256_add_ps(x, _mm256_maskload_ps(e->add + r * e->ld_add, lo));
            y = _mm256_add_ps(y, _mm256_maskload_ps(e->add + r * e->ld_add + 8, hi));
        }
        _mm256_maskstore_ps(c + r * ldc, lo, x);
        if (e->cols > 8) _mm256_maskstore_ps(c + r * ldc + 8, hi, y);
    }
}

#define ROW_INIT(r) __m256 lo##r = bias0, hi##r = bias1;
#define ROW_POINTER(r) const float *a##r = rows[s * stride + r];
#define ROW_STEP(r)                                   \
    {                                                 \
        __m256 x = _mm256_broadcast_ss(a##r + i);     \
        lo##r = _mm256_fmadd_ps(x, b0, lo##r);        \
        hi##r = _mm256_fmadd_ps(x, b1, hi##r);        \
    }
#define ROW_ADD(r)                                                                      \
    lo##r = _mm256_add_ps(lo##r, _mm256_loadu_ps(e->add + (r) * e->ld_add));            \
    hi##r = _mm256_add_ps(hi##r, _mm256_loadu_ps(e->add + (r) * e->ld_add + 8));
#define ROW_CLIP(r)                                                 \
    lo##r = _mm256_min_ps(top, _mm256_max_ps(bottom, lo##r));       \
    hi##r = _mm256_min_ps(top, _mm256_max_ps(bottom, hi##r));
#define ROW_STORE(r)                              \
    _mm256_storeu_ps(c + (r) * ldc, lo##r);       \
    _mm256_storeu_ps(c + (r) * ldc + 8, hi##r);
#define ROW_SPILL(r)                                    \
    _mm256_storeu_ps(t + (r) * ENG_NR, lo##r);          \
    _mm256_storeu_ps(t + (r) * ENG_NR + 8, hi##r);
#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)

/* R rows by one panel. rows[s * stride + r] is segment s of row r. Accumulators have names: arrays of
 * registers end on the stack with some compilers. */
#define DEFINE_TILE(R)                                                                                                   \
    static void tile##R(const float *const *rows, int64_t stride, int64_t segments, int64_t length, const float *b,      \
                        const float *bias, float *c, int64_t ldc, const tile_end *e)                                     \
    {                                                                                                                    \
        __m256 bias0 = _mm256_loadu_ps(bias), bias1 = _mm256_loadu_ps(bias + 8);                                         \
        ROWS_##R(ROW_INIT) for (int64_t s = 0; s < segments; s++)                                                        \
        {                                                                                                                \
            ROWS_##R(ROW_POINTER) for (int64_t i = 0; i < length; i++, b += ENG_NR)                                      \
            {                                                                                                            \
                __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);                                             \
                ROWS_##R(ROW_STEP)                                                                                       \
            }                                                                                                            \
        }                                                                                                                \
        if (simple(e)) {                                                                                                 \
            if (e->residual == ENG_RES_BEFORE_ACT) { ROWS_##R(ROW_ADD) }                                                 \
            if (e->act) {                                                                                                \
                __m256 bottom = VM(e->act == ENG_ACT_RELU ? 0.0f : e->alpha);                                            \
                __m256 top = VM(e->act == ENG_ACT_RELU ? INFINITY : e->beta);                                            \
                ROWS_##R(ROW_CLIP)                                                                                       \
            }                                                                                                            \
            if (e->residual == ENG_RES_AFTER_ACT) { ROWS_##R(ROW_ADD) }                                                  \
            ROWS_##R(ROW_STORE) return;                                                                                  \
        }                                                                                                                \
        float t[ENG_NR * 6];                                                                                             \
        ROWS_##R(ROW_SPILL) finish_tile(R, t, c, ldc, e);                                                                \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)

typedef void tile_fn(const float *const *, int64_t, int64_t, int64_t, const float *, const float *, float *, int64_t,
                     const tile_end *);
static tile_fn *const tiles[] = {0, tile1, tile2, tile3, tile4, tile5, tile6};

static void gemm(const eng_gemm *g)
{
    int64_t k = g->segments * g->length;
    tile_end e = {.act = g->act, .alpha = g->alpha, .beta = g->beta, .residual = g->residual, .ld_add = g->ld_add};
    for (int64_t j = 0; j < g->n; j += ENG_NR) {
        float bias[ENG_NR] = {0};
        const float *b = g->b + j * k;
        e.cols = od_min_i64(ENG_NR, g->n - j);
        if (g->bias)
            for (int64_t x = 0; x < e.cols; x++) bias[x] = g->bias[j + x];
        int64_t i = 0;
        for (int64_t left = od_ceil_div(g->m, 6); left > 0; left--) {
            /* tiles of nearly equal height: five rows still keep both FMA pipes full, one row does not */
            int64_t rows = od_ceil_div(g->m - i, left);
            const float *dense[6];
            const float *const *from = g->rows + i;
            if (!g->rows) {
                for (int64_t r = 0; r < rows; r++) dense[r] = g->a + (i + r) * g->lda;
                from = dense;
            }
            e.add = g->add ? g->add + i * g->ld_add + j : NULL;
            tiles[rows](from, g->m, g->segments, g->length, b, bias, g->c + i * g->ldc + j, g->ldc, &e);
            i += rows;
        }
    }
}

/* ---- depthwise ----------------------------------------------------------------------------- */

/* Four pixels of eight channels share each weight. */
static void depthwise(const eng_depthwise *d)
{
    const __m256 alpha = VM(d->alpha), beta = VM(d->beta);
    for (int64_t p = 0; p < d->pixels; p += 4) {
        int64_t n = od_min_i64(4, d->pixels - p);
        int64_t at[4] = {p, p + (n > 1 ? 1 : 0), p + (n > 2 ? 2 : n - 1), p + (n > 3 ? 3 : n - 1)};
        for (int64_t c = 0; c < d->channels; c += 8) {
            bool whole = c + 8 <= d->channels;
            __m256i lanes = lanes_below(d->channels - c);
            __m256 y[4];
            __m256 bias = !d->bias ? _mm256_setzero_ps() : _mm256_maskload_ps(d->bias + c, lanes);
            __m256 y0 = bias, y1 = bias, y2 = bias, y3 = bias;
            const float *w = d->w + c;
            const float *const *taps = d->taps;
            if (whole) {
                for (int64_t t = 0; t < d->n_taps; t++, w += d->channels, taps += d->pixels) {
                    __m256 k = _mm256_loadu_ps(w);
                    y0 = _mm256_fmadd_ps(_mm256_loadu_ps(taps[at[0]] + c), k, y0);
                    y1 = _mm256_fmadd_ps(_mm256_loadu_ps(taps[at[1]] + c), k, y1);
                    y2 = _mm256_fmadd_ps(_mm256_loadu_ps(taps[at[2]] + c), k, y2);
                    y3 = _mm256_fmadd_ps(_mm256_loadu_ps(taps[at[3]] + c), k, y3);
                }
            } else {
                for (int64_t t = 0; t < d->n_taps; t++, w += d->channels, taps += d->pixels) {
                    __m256 k = _mm256_maskload_ps(w, lanes);
                    y0 = _mm256_fmadd_ps(_mm256_maskload_ps(taps[at[0]] + c, lanes), k, y0);
                    y1 = _mm256_fmadd_ps(_mm256_maskload_ps(taps[at[1]] + c, lanes), k, y1);
                    y2 = _mm256_fmadd_ps(_mm256_maskload_ps(taps[at[2]] + c, lanes), k, y2);
                    y3 = _mm256_fmadd_ps(_mm256_maskload_ps(taps[at[3]] + c, lanes), k, y3);
                }
            }
            y[0] = y0, y[1] = y1, y[2] = y2, y[3] = y3;
            for (int64_t i = 0; i < n; i++) {
                __m256 add = d->residual ? _mm256_maskload_ps(d->add + (p + i) * d->ld_add + c, lanes) : _mm256_setzero_ps();
                if (d->residual == ENG_RES_BEFORE_ACT) y[i] = _mm256_add_ps(y[i], add);
                y[i] = apply(d->act, alpha, beta, y[i]);
                if (d->residual == ENG_RES_AFTER_ACT) y[i] = _mm256_add_ps(y[i], add);
                if (whole) _mm256_storeu_ps(d->c + (p + i) * d->ldc + c, y[i]);
                else _mm256_maskstore_ps(d->c + (p + i) * d->ldc + c, lanes, y[i]);
            }
        }
    }
}

/* ---- rows ---------------------------------------------------------------------------------- */

static inline float sum_lanes(__m256 v)
{
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_shuffle_ps(m, m, 1)));
}

/* Pairs of partial sums in blocks keep the error near that of one rounding. */
static float sum_row(const float *x, int64_t n)
{
    enum { BLOCK = 512 };
    double total = 0.0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t end = od_min_i64(at + BLOCK, n), i = at;
        __m256 s = _mm256_setzero_ps(), t = s;
        for (; i + 16 <= end; i += 16) {
            s = _mm256_add_ps(s, _mm256_loadu_ps(x + i));
            t = _mm256_add_ps(t, _mm256_loadu_ps(x + i + 8));
        }
        for (; i < end; i += 8) s = _mm256_add_ps(s, _mm256_maskload_ps(x + i, lanes_below(end - i)));
        total += (double)sum_lanes(_mm256_add_ps(s, t));
    }
    return (float)total;
}

static float largest(const float *x, int64_t n)
{
    __m256 top = VM(-INFINITY), nan = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 8) {
        __m256i lanes = lanes_below(n - i);
        __m256 v = _mm256_blendv_ps(VM(-INFINITY), _mm256_maskload_ps(x + i, lanes), _mm256_castsi256_ps(lanes));
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        top = _mm256_max_ps(top, v);
    }
    if (_mm256_movemask_ps(nan)) return NAN;
    float lane[8], m = -INFINITY;
    _mm256_storeu_ps(lane, top);
    for (int i = 0; i < 8; i++) m = lane[i] > m ? lane[i] : m;
    return m;
}

static void softmax_row(const float *x, float *y, int64_t n)
{
    const __m256 m = VM(largest(x, n));
    FOR_ROW(x, y, n, vm_exp(_mm256_sub_ps(v, m)));
    const __m256 inverse = VM(1.0f / sum_row(y, n));
    FOR_ROW(y, y, n, _mm256_mul_ps(v, inverse));
}

static void logsoftmax_row(const float *x, float *y, int64_t n)
{
    const float top = largest(x, n);
    const __m256 m = VM(top);
    __m256 sum = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 8) {
        __m256i lanes = lanes_below(n - i);
        __m256 e = vm_exp(_mm256_sub_ps(_mm256_maskload_ps(x + i, lanes), m));
        sum = _mm256_add_ps(sum, _mm256_and_ps(e, _mm256_castsi256_ps(lanes)));
    }
    const __m256 shift = VM(logf(sum_lanes(sum)));
    FOR_ROW(x, y, n, _mm256_sub_ps(_mm256_sub_ps(v, m), shift));
}

static void layernorm_row(const float *x, const float *scale, const float *bias, float eps, float *y, int64_t n)
{
    const __m256 mean = VM(sum_row(x, n) / (float)n);
    __m256 sum = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 8) {
        __m256i lanes = lanes_below(n - i);
        __m256 d = _mm256_and_ps(_mm256_sub_ps(_mm256_maskload_ps(x + i, lanes), mean), _mm256_castsi256_ps(lanes));
        sum = _mm256_fmadd_ps(d, d, sum);
    }
    const __m256 inverse = VM(1.0f / sqrtf(sum_lanes(sum) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 8) {
        __m256i lanes = lanes_below(n - i);
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_maskload_ps(x + i, lanes), mean), inverse);
        __m256 b = bias ? _mm256_maskload_ps(bias + i, lanes) : _mm256_setzero_ps();
        v = scale ? _mm256_fmadd_ps(v, _mm256_maskload_ps(scale + i, lanes), b) : _mm256_add_ps(v, b);
        _mm256_maskstore_ps(y + i, lanes, v);
    }
}

const eng_kernels eng_kernels_avx2 = {gemm,    depthwise,   act_row,        exp_row,       log_row, tanh_row,
                                      erf_row, softmax_row, logsoftmax_row, layernorm_row, sum_row};
#else
const eng_kernels eng_kernels_avx2 = {0};
#endif
