/* binary.c - arithmetic on two tensors that broadcast: Add, Sub, Mul, Div, Pow, Mod, PRelu.
 * Integers wrap. Dividing an integer by zero gives 0. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/channels.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <stdio.h>

/* ---- alignment of old opsets --------------------------------------------------------------- */

/* Operators of opsets before 7 whose B could not be brought to NumPy's rules at load carry this. */
static const char align_attr[] = "align_axis";

/* Put ones behind the extents of constant input 1 so that it lines up with `axis` of input 0, whose
 * rank is known. false: not possible here. */
static bool align_constant(eng_graph *g, eng_node *n, int64_t axis, int rank, od_status *st, od_code *rc)
{
    const eng_tensor *b = g->values[n->in[1]].constant;
    if (!b || rank < 0 || axis < 0 || axis + b->rank > rank) return false;
    eng_tensor *t = eng_model_alloc(g, sizeof *t);
    if (!t) {
        *rc = od_fail(st, OD_NO_MEMORY, "no memory for a shape");
        return true;
    }
    *t = *b;
    for (int64_t i = axis + b->rank; i < rank; i++) t->dims[t->rank++] = 1;
    *rc = eng_set_input_constant(g, n, 1, t, st);
    return true;
}

static od_code align(eng_graph *g, eng_node *n, int64_t axis, od_status *st)
{
    char name[32];
    int rank = g->values[n->in[0]].rank;
    od_code rc = OD_OK;
    if (axis < 0 && rank >= 0) axis += rank;
    if (align_constant(g, n, axis, rank, st, &rc)) return rc;
    snprintf(name, sizeof name, "%.20sAligned", n->op_type);
    const eng_op *op = eng_op_find(ENG_DOMAIN_OWN, name, 1);
    if (!op) return od_fail(st, OD_INTERNAL, "%s is not registered", name);
    OD_TRY(eng_node_set_int(g, n, align_attr, axis, st));
    n->op = op;
    n->op_type = op->name;
    n->domain = ENG_DOMAIN_OWN;
    return OD_OK;
}

/* The rest of the node then means what it does from opset 7 on. */
static void use_newer(eng_node *n)
{
    const eng_op *newer = eng_op_find(n->domain, n->op_type, 7);
    if (newer) n->op = newer;
}

od_code eng_pair_import(eng_graph *g, eng_node *n, od_status *st)
{
    bool broadcast = eng_node_int(n, "broadcast", 0) != 0;
    const eng_attr *axis = eng_node_attr(n, "axis");
    int64_t at = axis ? axis->i : 0;
    if (n->n_in < 2 || n->in[0] < 0 || n->in[1] < 0) return od_fail(st, OD_BAD_MODEL, "two inputs are wanted");
    eng_node_drop_attr(n, "axis");
    eng_node_drop_attr(n, "broadcast");
    eng_node_drop_attr(n, "consumed_inputs");
    use_newer(n);
    return broadcast && axis ? align(g, n, at, st) : OD_OK;
}

/* Before opset 7 a slope of rank 1 runs along the channels. */
od_code eng_prelu_import(eng_graph *g, eng_node *n, od_status *st)
{
    if (n->n_in < 2 || n->in[0] < 0 || n->in[1] < 0) return od_fail(st, OD_BAD_MODEL, "two inputs are wanted");
    eng_node_drop_attr(n, "consumed_inputs");
    use_newer(n);
    const eng_value *slope = &g->values[n->in[1]];
    const eng_tensor *t = slope->constant;
    int rank = t ? t->rank : slope->rank;
    if (rank != 1 || (t ? t->dims[0] : slope->dims[0]) == 1) return OD_OK;
    return align(g, n, 1, st);
}

od_code eng_aligned_b(const eng_ctx *c, eng_tensor *view, od_status *st)
{
    if (c->n_in < 2 || !c->in[0] || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "two inputs are wanted");
    *view = *c->in[1];
    const eng_attr *a = c->node && c->node->domain == ENG_DOMAIN_OWN ? eng_node_attr(c->node, align_attr) : NULL;
    if (!a) return OD_OK;
    int axis, rank = c->in[0]->rank;
    OD_TRY(eng_axis(a->i, rank, true, &axis, st));
    if (axis + view->rank > rank)
        return od_fail(st, OD_BAD_SHAPE, "B of rank %d does not fit A of rank %d from axis %d on", view->rank, rank,
                       axis);
    for (int i = axis + view->rank; i < rank; i++) view->dims[view->rank++] = 1;
    return OD_OK;
}

od_code eng_infer_pair(eng_ctx *c, eng_dtype dtype, od_status *st)
{
    eng_tensor b;
    int64_t dims[ENG_MAX_RANK];
    int rank;
    OD_TRY(eng_aligned_b(c, &b, st));
    OD_TRY(eng_broadcast(c->in[0]->rank, c->in[0]->dims, b.rank, b.dims, &rank, dims, st));
    return eng_set_out(c, 0, dtype, rank, dims, st);
}

od_code eng_walk_pair(eng_ctx *c, int64_t cost, eng_row_fn *fn, void *arg, od_status *st)
{
    eng_tensor b;
    eng_walk w;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(eng_aligned_b(c, &b, st));
    eng_walk_init(&w, 3, (const eng_tensor *[]){c->out[0], c->in[0], &b});
    eng_walk_go(c, &w, cost, fn, arg);
    return OD_OK;
}

/* ---- rows of the types --------------------------------------------------------------------- */

static int64_t quotient_s(int64_t a, int64_t b)
{
    if (b == 0) return 0;
    return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; /* the lowest number has no positive */
}

static uint64_t quotient_u(uint64_t a, uint64_t b)
{
    return b == 0 ? 0 : a / b;
}

static int64_t fmod_s(int64_t a, int64_t b)
{
    return b == 0 || b == -1 ? 0 : a % b;
}

static uint64_t fmod_u(uint64_t a, uint64_t b)
{
    return b == 0 ? 0 : a % b;
}

static int64_t mod_s(int64_t a, int64_t b) /* the sign of b, as Python's */
{
    int64_t r = fmod_s(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static uint64_t mod_u(uint64_t a, uint64_t b)
{
    return fmod_u(a, b);
}

static double mod_f(double a, double b)
{
    double r = fmod(a, b);
    if (r == 0) return isnan(a) || b == 0 ? NAN : copysign(0.0, b);
    return !isnan(r) && (r < 0) != (b < 0) ? r + b : r;
}

#define ROW(name, T, expr)                                                             \
    static void name(void *arg, int64_t n, char *const *p, const int64_t *step)        \
    {                                                                                  \
        T *o = (T *)(void *)p[0];                                                      \
        const T *a = (const T *)(const void *)p[1], *b = (const T *)(const void *)p[2]; \
        int64_t so = step[0], sa = step[1], sb = step[2];                              \
        (void)arg;                                                                     \
        for (int64_t i = 0; i < n; i++) {                                              \
            T x = a[i * sa], y = b[i * sb];                                            \
            o[i * so] = (T)(expr);                                                     \
        }                                                                              \
    }

#define INT_ROWS(T, TAG, W, L, S)                    \
    ROW(add_##T, T, (W)x + (W)y)                     \
    ROW(sub_##T, T, (W)x - (W)y)                     \
    ROW(mul_##T, T, (W)x * (W)y)                     \
    ROW(div_##T, T, quotient_##S((L)x, (L)y))        \
    ROW(mod_##T, T, mod_##S((L)x, (L)y))             \
    ROW(fmod_##T, T, fmod_##S((L)x, (L)y))
ENG_FOR_INTS(INT_ROWS)

ROW(add_double, double, x + y)
ROW(sub_double, double, x - y)
ROW(mul_double, double, x *y)
ROW(div_double, double, x / y)
ROW(mod_double, double, mod_f(x, y))
ROW(fmod_double, double, fmod(x, y))
ROW(prelu_double, double, x < 0 ? x * y : x)
ROW(mod_float, float, mod_f((double)x, (double)y))
ROW(fmod_float, float, fmodf(x, y))
ROW(prelu_int32_t, int32_t, x < 0 ? (uint32_t)x * (uint32_t)y : (uint32_t)x)
ROW(prelu_int64_t, int64_t, x < 0 ? (uint64_t)x * (uint64_t)y : (uint64_t)x)
ROW(prelu_uint32_t, uint32_t, ((void)y, x))
ROW(prelu_uint64_t, uint64_t, ((void)y, x))

static void bin_float(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    eng_bin_f32 *fn = *(eng_bin_f32 **)arg;
    fn((float *)(void *)p[0], step[0], (const float *)(const void *)p[1], step[1], (const float *)(const void *)p[2],
       step[2], n);
}

#define ADD_ENTRY(T, TAG, W, L, S) {TAG, add_##T},
#define SUB_ENTRY(T, TAG, W, L, S) {TAG, sub_##T},
#define MUL_ENTRY(T, TAG, W, L, S) {TAG, mul_##T},
#define DIV_ENTRY(T, TAG, W, L, S) {TAG, div_##T},
#define MOD_ENTRY(T, TAG, W, L, S) {TAG, mod_##T},
#define FMOD_ENTRY(T, TAG, W, L, S) {TAG, fmod_##T},
static const eng_typed_row add_rows[] = {{ENG_FLOAT, bin_float}, {ENG_DOUBLE, add_double}, ENG_FOR_INTS(ADD_ENTRY)};
static const eng_typed_row sub_rows[] = {{ENG_FLOAT, bin_float}, {ENG_DOUBLE, sub_double}, ENG_FOR_INTS(SUB_ENTRY)};
static const eng_typed_row mul_rows[] = {{ENG_FLOAT, bin_float}, {ENG_DOUBLE, mul_double}, ENG_FOR_INTS(MUL_ENTRY)};
static const eng_typed_row div_rows[] = {{ENG_FLOAT, bin_float}, {ENG_DOUBLE, div_double}, ENG_FOR_INTS(DIV_ENTRY)};
static const eng_typed_row mod_rows[] = {{ENG_FLOAT, mod_float}, {ENG_DOUBLE, mod_double}, ENG_FOR_INTS(MOD_ENTRY)};
static const eng_typed_row fmod_rows[] = {{ENG_FLOAT, fmod_float}, {ENG_DOUBLE, fmod_double}, ENG_FOR_INTS(FMOD_ENTRY)};
static const eng_typed_row prelu_rows[] = {{ENG_FLOAT, bin_float},
                                           {ENG_DOUBLE, prelu_double},
                                           {ENG_INT32, prelu_int32_t},
                                           {ENG_INT64, prelu_int64_t},
                                           {ENG_UINT32, prelu_uint32_t},
                                           {ENG_UINT64, prelu_uint64_t}};

/* ---- operators ----------------------------------------------------------------------------- */

od_code eng_arith_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_check_types(c, 1, c->n_in > 0 && c->in[0] ? c->in[0]->dtype : ENG_UNDEFINED, st));
    return eng_infer_pair(c, c->n_in > 0 && c->in[0] ? c->in[0]->dtype : ENG_UNDEFINED, st);
}

static od_code arith_run(eng_ctx *c, const eng_typed_row *rows, int count, eng_bin kernel, od_status *st)
{
    eng_row_fn *fn;
    eng_bin_f32 *f32 = kernel < ENG_BINS ? eng_elementwise_table()->bin[kernel] : NULL;
    OD_TRY(eng_row_for(rows, count, c->in[0]->dtype, &fn, st));
    return eng_walk_pair(c, 1, fn, &f32, st);
}

od_code eng_add_run(eng_ctx *c, od_status *st)
{
    return arith_run(c, add_rows, (int)OD_COUNT(add_rows), ENG_BIN_ADD, st);
}

od_code eng_sub_run(eng_ctx *c, od_status *st)
{
    return arith_run(c, sub_rows, (int)OD_COUNT(sub_rows), ENG_BIN_SUB, st);
}

/* `by` has a factor for each channel of x, as squeeze-and-excitation ends. */
static bool is_channel_scale(const eng_tensor *x, const eng_tensor *by, const eng_tensor *y)
{
    if (x->dtype != ENG_FLOAT || x->rank < 3 || by->rank != x->rank || x->layout != ENG_CL || y->layout != ENG_CL) return false;
    if (!eng_dims_equal(x, y) || by->dims[1] != x->dims[1] || (by->dims[0] != 1 && by->dims[0] != x->dims[0])) return false;
    return eng_tensor_count(by) == by->dims[0] * by->dims[1];
}

/* y = x * by; rows as short as an image's channels would each cost a call. */
static od_code scale_channels(eng_ctx *c, const eng_tensor *x, const eng_tensor *by, od_status *st)
{
    const eng_epilogue plain = {.act = ENG_ACT_NONE};
    eng_channels v;
    float *none = od_arena_array(c->scratch, float, x->dims[1]);
    if (!none) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " channels", x->dims[1]);
    for (int64_t i = 0; i < x->dims[1]; i++) none[i] = -0.0f; /* what leaves every sum as it is */
    eng_channels_view(x, c->out[0], &v);
    for (int64_t n = 0; n < v.items; n++) {
        const int64_t step = by->dims[0] == 1 ? 0 : by->layout == ENG_CL ? by->pitch : by->dims[1];
        eng_channels one = v;
        one.items = 1;
        eng_channels_affine(&one, (const float *)x->data + n * v.x_item, (float *)c->out[0]->data + n * v.y_item,
                            (const float *)by->data + n * step, none, 0, &plain, c->pool);
    }
    return OD_OK;
}

int eng_mul_of_channels(const eng_ctx *c)
{
    for (int k = 0; k < 2; k++)
        if (is_channel_scale(c->in[k], c->in[1 - k], c->out[0])) return k;
    return ENG_NONE;
}

od_code eng_mul_run(eng_ctx *c, od_status *st)
{
    const int k = eng_mul_of_channels(c);
    if (k >= 0) return scale_channels(c, c->in[k], c->in[1 - k], st);
    return arith_run(c, mul_rows, (int)OD_COUNT(mul_rows), ENG_BIN_MUL, st);
}

od_code eng_div_run(eng_ctx *c, od_status *st)
{
    return arith_run(c, div_rows, (int)OD_COUNT(div_rows), ENG_BIN_DIV, st);
}

od_code eng_mod_run(eng_ctx *c, od_status *st)
{
    bool truncate = eng_node_int(c->node, "fmod", 0) != 0;
    return arith_run(c, truncate ? fmod_rows : mod_rows, (int)OD_COUNT(mod_rows), ENG_BINS, st);
}

od_code eng_prelu_run(eng_ctx *c, od_status *st)
{
    return arith_run(c, prelu_rows, (int)OD_COUNT(prelu_rows), ENG_BIN_PRELU, st);
}

/* The slope must broadcast to X, not the other way. */
od_code eng_prelu_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_arith_infer(c, st));
    if (c->n_out < 1 || !c->out[0] || eng_dims_equal(c->out[0], c->in[0])) return OD_OK;
    char x[80], slope[80];
    return od_fail(st, OD_BAD_SHAPE, "slope %s does not broadcast to %s", eng_tensor_text(c->in[1], slope, sizeof slope),
                   eng_tensor_text(c->in[0], x, sizeof x));
}

/* ---- Pow: the base's type is the result's, the exponent may have another ------------------- */

enum { POW_BLOCK = 256 };

static uint64_t int_power(uint64_t base, uint64_t exponent)
{
    uint64_t y = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1) y *= base;
    return y;
}

static uint64_t power(int64_t base, int64_t exponent, bool negative)
{
    if (!negative) return int_power((uint64_t)base, (uint64_t)exponent);
    if (base == 1) return 1;
    return base == -1 ? (exponent & 1 ? UINT64_MAX : 1) : 0;
}

typedef struct pow_job {
    eng_dtype base, exponent;
    eng_f32_row *f32; /* float base, one known exponent with a shorter way; else NULL */
} pow_job;

static double exponent_at(const char *p, eng_dtype t, int64_t i)
{
    double d;
    eng_load_doubles(&d, p + i * (int64_t)eng_dtype_size(t), t, 1, 1);
    return d;
}

static eng_f32_row *shorter_power(double exponent)
{
    const eng_elementwise *k = eng_elementwise_table();
    if (exponent == 2.0) return k->un[ENG_UN_SQUARE];
    if (exponent == 3.0) return k->un[ENG_UN_CUBE];
    if (exponent == -1.0) return k->un[ENG_UN_RECIPROCAL];
    if (exponent == 0.75) return k->un[ENG_UN_POW_3_4]; /* of local response normalization */
    return exponent == 0.5 ? k->un[ENG_UN_POW_1_2] : NULL;
}

/* A row of float powers of one exponent through the shorter way, or false. */
static bool pow_float_constant(int64_t n, char *const *p, const int64_t *step, eng_dtype exponent)
{
    eng_f32_row *fn = step[2] == 0 ? shorter_power(exponent_at(p[2], exponent, 0)) : NULL;
    if (fn) eng_row_f32(&fn, n, p, step);
    return fn != NULL;
}

static void pow_floats(int64_t n, char *const *p, const int64_t *step, const double *e)
{
    float *o = (float *)(void *)p[0];
    const float *a = (const float *)(const void *)p[1];
    for (int64_t i = 0; i < n; i++) {
        float y = (float)e[i];
        o[i * step[0]] = (double)y == e[i] ? powf(a[i * step[1]], y) : (float)pow((double)a[i * step[1]], e[i]);
    }
}

static void pow_doubles(int64_t n, char *const *p, const int64_t *step, const double *e)
{
    double *o = (double *)(void *)p[0];
    const double *a = (const double *)(const void *)p[1];
    for (int64_t i = 0; i < n; i++) o[i * step[0]] = pow(a[i * step[1]], e[i]);
}

#define POW_INTS(T, TAG, W, L, S)                                                                     \
    static void pow_##T(int64_t n, char *const *p, const int64_t *step, eng_dtype t, const double *e) \
    {                                                                                                 \
        T *o = (T *)(void *)p[0];                                                                     \
        const T *a = (const T *)(const void *)p[1];                                                   \
        eng_tensor y = {.dtype = t, .data = p[2]};                                                    \
        for (int64_t i = 0; i < n; i++) {                                                             \
            int64_t k = t == ENG_FLOAT || t == ENG_DOUBLE ? 0 : eng_tensor_int(&y, i * step[2]);      \
            bool real = t == ENG_FLOAT || t == ENG_DOUBLE;                                            \
            T x = a[i * step[1]];                                                                     \
            if (real)                                                                                 \
                o[i * step[0]] = (T)eng_truncate(pow((double)x, e[i]));                                      \
            else                                                                                      \
                o[i * step[0]] = (T)power((int64_t)x, k, k < 0 && t != ENG_UINT64);                   \
        }                                                                                             \
    }
ENG_FOR_INTS(POW_INTS)

#define POW_CASE(T, TAG, W, L, S) \
    case TAG: pow_##T(m, q, step, j->exponent, e); break;
static void pow_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const pow_job *j = arg;
    double e[POW_BLOCK];
    if (j->base == ENG_FLOAT && pow_float_constant(n, p, step, j->exponent)) return;
    for (int64_t i = 0; i < n; i += POW_BLOCK) {
        int64_t m = od_min_i64(POW_BLOCK, n - i);
        int64_t base = (int64_t)eng_dtype_size(j->base), exponent = (int64_t)eng_dtype_size(j->exponent);
        char *q[3] = {p[0] + i * step[0] * base, p[1] + i * step[1] * base, p[2] + i * step[2] * exponent};
        eng_load_doubles(e, q[2], j->exponent, step[2], m);
        switch (j->base) {
            ENG_FOR_INTS(POW_CASE)
        case ENG_FLOAT: pow_floats(m, q, step, e); break;
        default: pow_doubles(m, q, step, e);
        }
    }
}

od_code eng_pow_infer(eng_ctx *c, od_status *st)
{
    if (c->n_in < 2 || !c->in[0] || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "two inputs are wanted");
    if (!(ENG_T_NUMERIC & ENG_T(c->in[1]->dtype)))
        return od_fail(st, OD_BAD_TYPE, "the exponent is %s", eng_dtype_name(c->in[1]->dtype));
    return eng_infer_pair(c, c->in[0]->dtype, st);
}

od_code eng_pow_run(eng_ctx *c, od_status *st)
{
    pow_job j = {.base = c->in[0]->dtype, .exponent = c->in[1]->dtype};
    return eng_walk_pair(c, 16, pow_row, &j, st);
}
