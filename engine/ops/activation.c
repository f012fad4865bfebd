/* activation.c - activation functions: floats by rows, other types through doubles. Two parameters
 * are enough for all of them. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>

typedef struct act_job {
    eng_par_f32 *row;
    float alpha, beta;
} act_job;

static void act_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    enum { BLOCK = 256 };
    const act_job *j = arg;
    float *to = (float *)(void *)p[0], buffer[BLOCK];
    const float *from = (const float *)(const void *)p[1];
    if (step[0] == 1 && step[1] == 1) {
        j->row(to, from, n, j->alpha, j->beta);
        return;
    }
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = od_min_i64(BLOCK, n - i);
        for (int64_t k = 0; k < m; k++) buffer[k] = from[(i + k) * step[1]];
        j->row(buffer, buffer, m, j->alpha, j->beta);
        for (int64_t k = 0; k < m; k++) to[(i + k) * step[0]] = buffer[k];
    }
}

static od_code run_act(eng_ctx *c, eng_par_f32 *row, double (*fn)(double, double, double), float alpha, float beta,
                       int64_t cost)
{
    eng_dtype t = c->in[0]->dtype;
    act_job j = {row, alpha, beta};
    eng_double_fn f = {.fn = fn, .alpha = (double)alpha, .beta = (double)beta, .from = t, .to = t};
    if (t == ENG_FLOAT)
        eng_walk_ctx(c, 1, cost, act_row, &j);
    else
        eng_walk_ctx(c, 1, cost + 2, eng_row_double, &f);
    return OD_OK;
}

static float attr(const eng_ctx *c, const char *name, float otherwise)
{
    return eng_node_float(c->node, name, otherwise);
}

/* ---- functions without a kernel of their own: a row of floats and its double twin ------------ */

#define TWINS(name, f32, f64)                                                                   \
    static void name##_row(float *to, const float *from, int64_t n, float alpha, float beta)    \
    {                                                                                           \
        (void)alpha;                                                                            \
        (void)beta;                                                                             \
        for (int64_t i = 0; i < n; i++) {                                                       \
            float x = from[i];                                                                  \
            to[i] = (f32);                                                                      \
        }                                                                                       \
    }                                                                                           \
    DOUBLE(name, f64)
#define DOUBLE(name, f64)                                            \
    static double name##_f64(double x, double alpha, double beta)    \
    {                                                                \
        (void)alpha;                                                 \
        (void)beta;                                                  \
        return (f64);                                                \
    }

static double unit(double x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double softplus(double x)
{
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

static float softplusf(float x)
{
    return (x > 0 ? x : 0) + log1pf(expf(-fabsf(x)));
}

TWINS(sigmoid, 1.0f / (1.0f + expf(-x)), sigmoid(x))
TWINS(tanh, tanhf(x), tanh(x))
TWINS(elu, x < 0 ? alpha * expm1f(x) : x, x < 0 ? alpha *expm1(x) : x)
TWINS(selu, x > 0 ? beta * x : beta * alpha * expm1f(x), x > 0 ? beta *x : beta *alpha *expm1(x))
TWINS(celu, x < 0 ? alpha * expm1f(x / alpha) : x, x < 0 ? alpha *expm1(x / alpha) : x)
TWINS(softplus, softplusf(x), softplus(x))
TWINS(mish, x *tanhf(softplusf(x)), x *tanh(softplus(x)))
TWINS(swish, x / (1.0f + expf(-alpha * x)), x *sigmoid(alpha *x))
TWINS(gelu_erf, 0.5f * x * (1.0f + erff(x * 0.70710678f)), 0.5 * x * (1 + erf(x * M_SQRT1_2)))
TWINS(gelu_tanh, 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x))),
      0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))))

/* ---- functions with a kernel ----------------------------------------------------------------- */

static void relu_row(float *to, const float *from, int64_t n, float alpha, float beta)
{
    (void)alpha;
    (void)beta;
    eng_elementwise_table()->un[ENG_UN_RELU](to, from, n);
}

static void softsign_row(float *to, const float *from, int64_t n, float alpha, float beta)
{
    (void)alpha;
    (void)beta;
    eng_elementwise_table()->un[ENG_UN_SOFTSIGN](to, from, n);
}

DOUBLE(relu, x < 0 ? 0 : x)
DOUBLE(softsign, x / (1 + fabs(x)))
DOUBLE(leaky, x < 0 ? alpha *x : x)
DOUBLE(hard_sigmoid, unit(alpha *x + beta))
DOUBLE(hard_swish, x *unit(alpha *x + beta))
DOUBLE(threshold, x > alpha ? x : 0)
DOUBLE(shrink, x < -alpha ? x + beta : x > alpha ? x - beta : 0)

#define PAR(slot) eng_elementwise_table()->par[slot]

/* ---- operators ------------------------------------------------------------------------------- */

#define OP(name, row, fn, alpha, beta, cost)                  \
    od_code eng_##name##_run(eng_ctx *c, od_status *st)       \
    {                                                         \
        (void)st;                                             \
        return run_act(c, row, fn##_f64, alpha, beta, cost);  \
    }

OP(relu, relu_row, relu, 0, 0, 1)
OP(sigmoid, sigmoid_row, sigmoid, 0, 0, 16)
OP(tanh, tanh_row, tanh, 0, 0, 16)
OP(softplus, softplus_row, softplus, 0, 0, 32)
OP(softsign, softsign_row, softsign, 0, 0, 2)
OP(mish, mish_row, mish, 0, 0, 32)
OP(elu, elu_row, elu, attr(c, "alpha", 1.0f), 0, 16)
OP(celu, celu_row, celu, attr(c, "alpha", 1.0f), 0, 16)
OP(selu, selu_row, selu, attr(c, "alpha", 1.67326319217681884765625f), attr(c, "gamma", 1.05070102214813232421875f), 16)
OP(swish, swish_row, swish, attr(c, "alpha", 1.0f), 0, 16)
OP(leaky_relu, PAR(ENG_PAR_LEAKY), leaky, attr(c, "alpha", 0.01f), 0, 1)
OP(hard_sigmoid, PAR(ENG_PAR_HARD_SIGMOID), hard_sigmoid, attr(c, "alpha", 0.2f), attr(c, "beta", 0.5f), 1)
OP(hard_swish, PAR(ENG_PAR_HARD_SWISH), hard_swish, 1.0f / 6.0f, 0.5f, 1)
OP(thresholded_relu, PAR(ENG_PAR_THRESHOLD), threshold, attr(c, "alpha", 1.0f), 0, 1)
OP(shrink, PAR(ENG_PAR_SHRINK), shrink, attr(c, "lambd", 0.5f), attr(c, "bias", 0.0f), 1)

od_code eng_gelu_infer(eng_ctx *c, od_status *st)
{
    if (!eng_node_string_is(c->node, "approximate", "none", "none") &&
        !eng_node_string_is(c->node, "approximate", "none", "tanh"))
        return od_fail(st, OD_BAD_ARGUMENT, "approximate is neither none nor tanh");
    return eng_infer_same(c, st);
}

od_code eng_gelu_run(eng_ctx *c, od_status *st)
{
    (void)st;
    if (eng_node_string_is(c->node, "approximate", "none", "tanh"))
        return run_act(c, gelu_tanh_row, gelu_tanh_f64, 0, 0, 32);
    return run_act(c, gelu_erf_row, gelu_erf_f64, 0, 0, 32);
}

/* Opset 1 rounded its defaults to four digits. */
od_code eng_selu_import(eng_graph *g, eng_node *n, od_status *st)
{
    if (!eng_node_attr(n, "alpha")) OD_TRY(eng_node_set_float(g, n, "alpha", 1.6732f, st));
    if (!eng_node_attr(n, "gamma")) OD_TRY(eng_node_set_float(g, n, "gamma", 1.0507f, st));
    return OD_OK;
}

/* ---- SwiGLU: swish(A) * B, no broadcasting --------------------------------------------------- */

static void swiglu_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    enum { BLOCK = 256 };
    float alpha = *(const float *)arg, gate[BLOCK];
    float *to = (float *)(void *)p[0];
    const float *a = (const float *)(const void *)p[1], *b = (const float *)(const void *)p[2];
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = od_min_i64(BLOCK, n - i);
        for (int64_t k = 0; k < m; k++) gate[k] = a[(i + k) * step[1]];
        swish_row(gate, gate, m, alpha, 0);
        for (int64_t k = 0; k < m; k++) to[(i + k) * step[0]] = gate[k] * b[(i + k) * step[2]];
    }
}

static void swiglu_double_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    double alpha = (double)*(const float *)arg;
    double *to = (double *)(void *)p[0];
    const double *a = (const double *)(const void *)p[1], *b = (const double *)(const void *)p[2];
    for (int64_t i = 0; i < n; i++) to[i * step[0]] = swish_f64(a[i * step[1]], alpha, 0) * b[i * step[2]];
}

od_code eng_swiglu_infer(eng_ctx *c, od_status *st)
{
    if (c->n_in < 2 || !c->in[0] || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "two inputs are wanted");
    OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st));
    if (!eng_dims_equal(c->in[0], c->in[1])) {
        char a[80], b[80];
        return od_fail(st, OD_BAD_SHAPE, "A %s and B %s differ", eng_tensor_text(c->in[0], a, sizeof a),
                       eng_tensor_text(c->in[1], b, sizeof b));
    }
    return eng_infer_same(c, st);
}

od_code eng_swiglu_run(eng_ctx *c, od_status *st)
{
    (void)st;
    float alpha = attr(c, "alpha", 1.0f);
    eng_walk_ctx(c, 2, 16, c->in[0]->dtype == ENG_FLOAT ? swiglu_row : swiglu_double_row, &alpha);
    return OD_OK;
}
