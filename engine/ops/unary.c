/* unary.c - mathematical functions of one tensor. Floats have rows of their own, doubles too; other
 * numeric types go through doubles, but for Abs, Neg and Sign, which are exact. */
#include "engine/kernels/elementwise.h"
#include "engine/kernels/kernels.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>

/* One function of a float tensor: `row` for floats, `fn` for everything else. */
static od_code run_unary(eng_ctx *c, eng_f32_row *row, double (*fn)(double, double, double), int64_t cost)
{
    eng_dtype t = c->in[0]->dtype;
    eng_double_fn f = {.fn = fn, .from = t, .to = t};
    if (t == ENG_FLOAT)
        eng_walk_ctx(c, 1, cost, eng_row_f32, &row);
    else
        eng_walk_ctx(c, 1, cost + 2, eng_row_double, &f);
    return OD_OK;
}

#define DOUBLE_FN(name, expr)                                       \
    static double name##_f64(double x, double alpha, double beta)   \
    {                                                               \
        (void)alpha;                                                \
        (void)beta;                                                 \
        return expr;                                                \
    }

/* A function that the C library computes one by one. */
#define LIBM(name, f32, f64, cost)                                  \
    static void name##_f32(float *to, const float *from, int64_t n) \
    {                                                               \
        for (int64_t i = 0; i < n; i++) to[i] = f32(from[i]);       \
    }                                                               \
    DOUBLE_FN(name, f64(x))                                         \
    od_code eng_##name##_run(eng_ctx *c, od_status *st)             \
    {                                                               \
        (void)st;                                                   \
        return run_unary(c, name##_f32, name##_f64, cost);          \
    }

/* A function with a row among the elementwise kernels. */
#define KERNEL(name, slot, f64expr)                                 \
    DOUBLE_FN(name, f64expr)                                        \
    od_code eng_##name##_run(eng_ctx *c, od_status *st)             \
    {                                                               \
        (void)st;                                                   \
        return run_unary(c, eng_elementwise_table()->un[slot], name##_f64, 1); \
    }

/* A function that the float kernels have. */
#define VECTOR(name)                                                \
    static void name##_f32(float *to, const float *from, int64_t n) \
    {                                                               \
        eng_kernels_get()->name##_f32(from, to, n);                 \
    }                                                               \
    DOUBLE_FN(name, name(x))                                        \
    od_code eng_##name##_run(eng_ctx *c, od_status *st)             \
    {                                                               \
        (void)st;                                                   \
        return run_unary(c, name##_f32, name##_f64, 4);             \
    }

VECTOR(exp)
VECTOR(log)
VECTOR(erf)
LIBM(sin, sinf, sin, 16)
LIBM(cos, cosf, cos, 16)
LIBM(tan, tanf, tan, 32)
LIBM(asin, asinf, asin, 16)
LIBM(acos, acosf, acos, 16)
LIBM(atan, atanf, atan, 16)
LIBM(sinh, sinhf, sinh, 32)
LIBM(cosh, coshf, cosh, 32)
LIBM(asinh, asinhf, asinh, 32)
LIBM(acosh, acoshf, acosh, 32)
LIBM(atanh, atanhf, atanh, 32)
KERNEL(sqrt, ENG_UN_SQRT, sqrt(x))
KERNEL(reciprocal, ENG_UN_RECIPROCAL, 1.0 / x)
KERNEL(floor, ENG_UN_FLOOR, floor(x))
KERNEL(ceil, ENG_UN_CEIL, ceil(x))
KERNEL(round, ENG_UN_ROUND, rint(x))

/* ---- Abs, Neg, Sign: exact for every type --------------------------------------------------- */

#define INT_ROW(name, T, expr)                                                   \
    static void name(void *arg, int64_t n, char *const *p, const int64_t *step)  \
    {                                                                            \
        T *o = (T *)(void *)p[0];                                                \
        const T *a = (const T *)(const void *)p[1];                              \
        (void)arg;                                                               \
        for (int64_t i = 0; i < n; i++) {                                        \
            T x = a[i * step[1]];                                                \
            o[i * step[0]] = (T)(expr);                                          \
        }                                                                        \
    }
#define NEGATIVE_s(x) ((x) < 0)
#define NEGATIVE_u(x) (false)
#define INT_ROWS(T, TAG, W, L, S)                                                \
    INT_ROW(abs_##T, T, NEGATIVE_##S(x) ? (W)0 - (W)x : (W)x)                    \
    INT_ROW(neg_##T, T, (W)0 - (W)x)                                             \
    INT_ROW(sign_##T, T, NEGATIVE_##S(x) ? -1 : x != 0)
ENG_FOR_INTS(INT_ROWS)
#define ABS_ENTRY(T, TAG, W, L, S) {TAG, abs_##T},
#define NEG_ENTRY(T, TAG, W, L, S) {TAG, neg_##T},
#define SIGN_ENTRY(T, TAG, W, L, S) {TAG, sign_##T},
static const eng_typed_row abs_rows[] = {ENG_FOR_INTS(ABS_ENTRY)};
static const eng_typed_row neg_rows[] = {ENG_FOR_INTS(NEG_ENTRY)};
static const eng_typed_row sign_rows[] = {ENG_FOR_INTS(SIGN_ENTRY)};

DOUBLE_FN(abs, fabs(x))
DOUBLE_FN(neg, -x)
DOUBLE_FN(sign, x > 0 ? 1 : x < 0 ? -1 : x)

static od_code run_exact(eng_ctx *c, const eng_typed_row *rows, eng_un slot, double (*fn)(double, double, double),
                         od_status *st)
{
    eng_dtype t = c->in[0]->dtype;
    eng_row_fn *row;
    if (t == ENG_FLOAT || t == ENG_DOUBLE) return run_unary(c, eng_elementwise_table()->un[slot], fn, 1);
    OD_TRY(eng_row_for(rows, (int)OD_COUNT(abs_rows), t, &row, st));
    eng_walk_ctx(c, 1, 1, row, NULL);
    return OD_OK;
}

od_code eng_abs_run(eng_ctx *c, od_status *st)
{
    return run_exact(c, abs_rows, ENG_UN_ABS, abs_f64, st);
}

od_code eng_neg_run(eng_ctx *c, od_status *st)
{
    return run_exact(c, neg_rows, ENG_UN_NEG, neg_f64, st);
}

od_code eng_sign_run(eng_ctx *c, od_status *st)
{
    return run_exact(c, sign_rows, ENG_UN_SIGN, sign_f64, st);
}

/* ---- IsNaN, IsInf: float types to bool ------------------------------------------------------ */

typedef struct kind_job {
    eng_dtype dtype;
    bool nan, positive, negative; /* what counts */
} kind_job;

static bool of_kind(const kind_job *j, double x)
{
    return isnan(x) ? j->nan : isinf(x) && (x > 0 ? j->positive : j->negative);
}

static void kind_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const kind_job *j = arg;
    eng_tensor in = {.dtype = j->dtype, .data = p[1]};
    const float *f = (const float *)(const void *)p[1];
    for (int64_t i = 0; i < n; i++) {
        double x = j->dtype == ENG_FLOAT ? (double)f[i * step[1]] : eng_tensor_double(&in, i * step[1]);
        p[0][i * step[0]] = (char)of_kind(j, x);
    }
}

od_code eng_kind_infer(eng_ctx *c, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    return eng_set_out(c, 0, ENG_BOOL, c->in[0]->rank, c->in[0]->dims, st);
}

od_code eng_isnan_run(eng_ctx *c, od_status *st)
{
    (void)st;
    kind_job j = {.dtype = c->in[0]->dtype, .nan = true};
    eng_walk_ctx(c, 1, 2, kind_row, &j);
    return OD_OK;
}

od_code eng_isinf_run(eng_ctx *c, od_status *st)
{
    (void)st;
    kind_job j = {.dtype = c->in[0]->dtype,
                  .positive = eng_node_int(c->node, "detect_positive", 1) != 0,
                  .negative = eng_node_int(c->node, "detect_negative", 1) != 0};
    eng_walk_ctx(c, 1, 2, kind_row, &j);
    return OD_OK;
}
