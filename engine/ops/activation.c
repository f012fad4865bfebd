/* activation.c - activation functions: floats by rows, other types through doubles. Two parameters
 * are enough for all of them. */
#include "engine/kernels/elementwise.h"
#include "engine/kernels/kernels.h"
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

/* A row that the float kernels have. */
#define ACT_ROW(name, act)                                                                      \
    static void name##_row(float *to, const float *from, int64_t n, float alpha, float beta)    \
    {                                                                                           \
        eng_kernels_get()->act_f32(act, alpha, beta, from, to, n);                              \
    }

ACT_ROW(sigmoid, ENG_ACT_SIGMOID)
ACT_ROW(tanh, ENG_ACT_TANH)
ACT_ROW(elu, ENG_ACT_ELU)
ACT_ROW(softplus, ENG_ACT_SOFTPLUS)
ACT_ROW(mish, ENG_ACT_MISH)
ACT_ROW(swish, ENG_ACT_SILU)
ACT_ROW(gelu_erf, ENG_ACT_GELU_ERF)
ACT_ROW(gelu_tanh, ENG_ACT_GELU_TANH)
DOUBLE(sigmoid, sigmoid(x))
DOUBLE(tanh, tanh(x))
DOUBLE(elu, x < 0 ? alpha *expm1(x) : x)
DOUBLE(softplus, softplus(x))
DOUBLE(mish, x *tanh(softplus(x)))
DOUBLE(swish, x *sigmoid(alpha *x))
DOUBLE(gelu_erf, 0.5 * x * (1 + erf(x * M_SQRT1_2)))
DOUBLE(gelu_tanh, 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))))
TWINS(selu, x > 0 ? beta * x : beta * alpha * expm1f(x), x > 0 ? beta *x : beta *alpha *expm1(x))
TWINS(celu, x < 0 ? alpha * expm1f(x / alpha) : x, x < 0 ? alpha *expm1(x / alpha) : x)

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
OP(sigmoid, sigmoid_row, sigmoid, 0, 0, 4)
OP(tanh, tanh_row, tanh, 0, 0, 4)
OP(softplus, softplus_row, softplus, 0, 0, 8)
OP(softsign, softsign_row, softsign, 0, 0, 2)
OP(mish, mish_row, mish, 0, 0, 8)
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

/* ---- ONNX Runtime's: Gelu, QuickGelu, FastGelu, BiasGelu, BiasSplitGelu ------------------------ */

OP(ms_gelu, gelu_erf_row, gelu_erf, 0, 0, 32)
OP(quick_gelu, swish_row, swish, attr(c, "alpha", 1.702f), 0, 16)

typedef struct bias_job {
    eng_par_f32 *row;
} bias_job;

/* row(x + bias), in blocks that stay in the first cache. */
static void bias_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    enum { BLOCK = 256 };
    const bias_job *j = arg;
    float sum[BLOCK], *to = (float *)(void *)p[0];
    const float *x = (const float *)(const void *)p[1], *b = (const float *)(const void *)p[2];
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = od_min_i64(BLOCK, n - i);
        for (int64_t k = 0; k < m; k++) sum[k] = x[(i + k) * step[1]] + b[(i + k) * step[2]];
        j->row(sum, sum, m, 0, 0);
        for (int64_t k = 0; k < m; k++) to[(i + k) * step[0]] = sum[k];
    }
}

static bool has_bias(const eng_ctx *c)
{
    return c->n_in > 1 && c->in[1];
}

/* The bias runs along the last axis of X, or, split, along both halves of it. */
od_code eng_bias_gelu_infer(eng_ctx *c, od_status *st)
{
    char x[80], b[80];
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    if (has_bias(c)) {
        OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st));
        if (c->in[0]->rank < 1 || c->in[1]->rank != 1 || c->in[1]->dims[0] != c->in[0]->dims[c->in[0]->rank - 1])
            return od_fail(st, OD_BAD_SHAPE, "bias %s does not fit %s", eng_tensor_text(c->in[1], b, sizeof b),
                           eng_tensor_text(c->in[0], x, sizeof x));
    }
    return eng_infer_same(c, st);
}

od_code eng_bias_gelu_run(eng_ctx *c, od_status *st)
{
    (void)st;
    bias_job j = {gelu_erf_row};
    if (!has_bias(c)) return run_act(c, gelu_erf_row, gelu_erf_f64, 0, 0, 32);
    eng_walk_ctx(c, 2, 32, bias_row, &j);
    return OD_OK;
}

od_code eng_fast_gelu_run(eng_ctx *c, od_status *st)
{
    (void)st;
    bias_job j = {gelu_tanh_row};
    if (!has_bias(c)) return run_act(c, gelu_tanh_row, gelu_tanh_f64, 0, 0, 32);
    eng_walk_ctx(c, 2, 32, bias_row, &j);
    return OD_OK;
}

od_code eng_bias_split_gelu_infer(eng_ctx *c, od_status *st)
{
    int64_t dims[ENG_MAX_RANK];
    if (!has_bias(c)) return od_fail(st, OD_BAD_MODEL, "two inputs are wanted");
    OD_TRY(eng_bias_gelu_infer(c, st));
    const eng_tensor *x = c->in[0];
    if (x->dims[x->rank - 1] % 2)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " channels cannot be halved", x->dims[x->rank - 1]);
    for (int i = 0; i < x->rank; i++) dims[i] = i == x->rank - 1 ? x->dims[i] / 2 : x->dims[i];
    return eng_set_out(c, 0, x->dtype, x->rank, dims, st);
}

typedef struct split_job {
    const float *x, *bias;
    float *to;
    int64_t half, rows; /* rows of one chunk */
    int64_t all;
} split_job;

static void split_chunk(void *arg, int64_t chunk, int slot)
{
    const split_job *j = arg;
    (void)slot;
    int64_t end = od_min_i64((chunk + 1) * j->rows, j->all);
    for (int64_t r = chunk * j->rows; r < end; r++) {
        const float *x = j->x + r * 2 * j->half;
        float *to = j->to + r * j->half;
        for (int64_t i = 0; i < j->half; i++) to[i] = x[j->half + i] + j->bias[j->half + i];
        gelu_erf_row(to, to, j->half, 0, 0);
        for (int64_t i = 0; i < j->half; i++) to[i] *= x[i] + j->bias[i];
    }
}

/* (left + bias) * gelu(right + bias) */
od_code eng_bias_split_gelu_run(eng_ctx *c, od_status *st)
{
    (void)st;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    split_job j = {c->in[0]->data, c->in[1]->data, c->out[0]->data, c->in[1]->dims[0] / 2, 0, 0};
    j.all = j.half ? eng_tensor_count(c->out[0]) / j.half : 0;
    j.rows = od_max_i64(1, 8192 / od_max_i64(1, j.half));
    od_pool_for(c->pool, od_ceil_div(j.all, j.rows), split_chunk, &j);
    return OD_OK;
}
