/* qlinear.c - ONNX Runtime's operators on quantized bytes: QLinearAdd, QLinearMul, QLinearSigmoid,
 * QLinearLeakyRelu, QLinearConcat, QLinearSoftmax and the QLinear average pools. A byte has 256
 * values, so functions of one input are tables, and inputs of others are widened through tables. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

/* The scale and zero point of a tensor of bytes. */
typedef struct quant {
    float scale;
    int32_t zero;
    eng_dtype dtype;
} quant;

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static od_code check_bytes(const eng_ctx *c, int i, od_status *st)
{
    const eng_tensor *t = input(c, i);
    if (t && (ENG_T_INT8 & ENG_T(t->dtype))) return OD_OK;
    return od_fail(st, OD_BAD_TYPE, "input %d is %s: int8 or uint8 is wanted", i, t ? eng_dtype_name(t->dtype) : "missing");
}

/* Inputs at (scale) and at + 1 (zero point, may be omitted) must be scalars that go with `dtype`. */
static od_code check_quant(const eng_ctx *c, int at, eng_dtype dtype, od_status *st)
{
    const eng_tensor *scale = input(c, at), *zero = input(c, at + 1);
    if (!scale || scale->dtype != ENG_FLOAT || eng_tensor_count(scale) != 1)
        return od_fail(st, OD_BAD_TYPE, "input %d is %s of %" PRId64 " elements: a scale is wanted", at,
                       scale ? eng_dtype_name(scale->dtype) : "missing", scale ? eng_tensor_count(scale) : 0);
    if (zero && (zero->dtype != dtype || eng_tensor_count(zero) != 1))
        return od_fail(st, OD_BAD_TYPE, "input %d is %s of %" PRId64 " elements: a zero point of %s is wanted", at + 1,
                       eng_dtype_name(zero->dtype), eng_tensor_count(zero), eng_dtype_name(dtype));
    return OD_OK;
}

static quant quant_at(const eng_ctx *c, int at, eng_dtype dtype)
{
    const eng_tensor *zero = input(c, at + 1);
    return (quant){*(const float *)c->in[at]->data, zero ? (int32_t)eng_tensor_int(zero, 0) : 0, dtype};
}

/* The real value of every byte. */
static void widen_table(const quant *q, float *table)
{
    for (int i = 0; i < 256; i++)
        table[i] = (float)((q->dtype == ENG_INT8 ? (int8_t)(uint8_t)i : i) - q->zero) * q->scale;
}

static uint8_t to_byte(const quant *q, float v)
{
    float lo = q->dtype == ENG_INT8 ? -128.0f : 0.0f, t = rintf(v / q->scale) + (float)q->zero;
    t = t > lo ? t : lo; /* NaN too */
    return (uint8_t)(int32_t)(t < lo + 255.0f ? t : lo + 255.0f);
}

/* ---- QLinearAdd, QLinearMul: A, scale, zero, B, scale, zero, C_scale, C_zero ------------------- */

typedef struct pair_job {
    float a[256], b[256];
    quant out;
    bool product;
} pair_job;

static void pair_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const pair_job *j = arg;
    const uint8_t *a = (const uint8_t *)p[1], *b = (const uint8_t *)p[2];
    for (int64_t i = 0; i < n; i++) {
        float x = j->a[a[i * step[1]]], y = j->b[b[i * step[2]]];
        p[0][i * step[0]] = (char)to_byte(&j->out, j->product ? x * y : x + y);
    }
}

od_code eng_qlinear_pair_infer(eng_ctx *c, od_status *st)
{
    int64_t dims[ENG_MAX_RANK];
    int rank;
    OD_TRY(check_bytes(c, 0, st));
    OD_TRY(check_bytes(c, 3, st));
    for (int i = 1; i < 8; i += i == 1 ? 3 : 2) OD_TRY(check_quant(c, i, c->in[0]->dtype, st));
    OD_TRY(eng_broadcast(c->in[0]->rank, c->in[0]->dims, c->in[3]->rank, c->in[3]->dims, &rank, dims, st));
    return eng_set_out(c, 0, c->in[0]->dtype, rank, dims, st);
}

static od_code run_pair(eng_ctx *c, bool product)
{
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    pair_job j = {.out = quant_at(c, 6, c->out[0]->dtype), .product = product};
    quant a = quant_at(c, 1, c->in[0]->dtype), b = quant_at(c, 4, c->in[3]->dtype);
    eng_walk w;
    widen_table(&a, j.a);
    widen_table(&b, j.b);
    eng_walk_init(&w, 3, (const eng_tensor *[]){c->out[0], c->in[0], c->in[3]});
    eng_walk_run(&w, c->pool, 4, pair_row, &j);
    return OD_OK;
}

od_code eng_qlinear_add_run(eng_ctx *c, od_status *st)
{
    (void)st;
    return run_pair(c, false);
}

od_code eng_qlinear_mul_run(eng_ctx *c, od_status *st)
{
    (void)st;
    return run_pair(c, true);
}

/* ---- functions of one input: X, scale, zero, Y_scale, Y_zero ---------------------------------- */

od_code eng_qlinear_unary_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(check_bytes(c, 0, st));
    OD_TRY(check_quant(c, 1, c->in[0]->dtype, st));
    OD_TRY(check_quant(c, 3, c->in[0]->dtype, st));
    return eng_infer_same(c, st);
}

static void table_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const uint8_t *table = arg, *from = (const uint8_t *)p[1];
    for (int64_t i = 0; i < n; i++) p[0][i * step[0]] = (char)table[from[i * step[1]]];
}

static od_code run_table(eng_ctx *c, float (*fn)(float, float), float alpha)
{
    float real[256];
    uint8_t table[256];
    quant x = quant_at(c, 1, c->in[0]->dtype), y = quant_at(c, 3, c->in[0]->dtype);
    widen_table(&x, real);
    for (int i = 0; i < 256; i++) table[i] = to_byte(&y, fn(real[i], alpha));
    eng_walk_ctx(c, 1, 1, table_row, table);
    return OD_OK;
}

static float sigmoid(float x, float unused)
{
    (void)unused;
    return 1.0f / (1.0f + expf(-x));
}

static float leaky(float x, float alpha)
{
    return x < 0 ? alpha * x : x;
}

od_code eng_qlinear_sigmoid_run(eng_ctx *c, od_status *st)
{
    (void)st;
    return run_table(c, sigmoid, 0);
}

od_code eng_qlinear_leaky_relu_run(eng_ctx *c, od_status *st)
{
    (void)st;
    return run_table(c, leaky, eng_node_float(c->node, "alpha", 0.01f));
}

/* ---- QLinearConcat: Y_scale, Y_zero, then X, scale, zero of each ------------------------------ */

od_code eng_qlinear_concat_infer(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t dims[ENG_MAX_RANK];
    char text[80];
    if (c->n_in < 5 || (c->n_in - 2) % 3) return od_fail(st, OD_BAD_MODEL, "%d inputs", c->n_in);
    OD_TRY(check_bytes(c, 2, st));
    const eng_tensor *first = c->in[2];
    OD_TRY(check_quant(c, 0, first->dtype, st));
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", 0), first->rank, false, &axis, st));
    memcpy(dims, first->dims, sizeof dims);
    dims[axis] = 0;
    for (int i = 2; i < c->n_in; i += 3) {
        OD_TRY(check_bytes(c, i, st));
        OD_TRY(check_quant(c, i + 1, c->in[i]->dtype, st));
        const eng_tensor *t = c->in[i];
        bool fits = t->rank == first->rank && t->dtype == first->dtype;
        for (int d = 0; fits && d < t->rank; d++) fits = d == axis || t->dims[d] == first->dims[d];
        if (!fits || __builtin_add_overflow(dims[axis], t->dims[axis], &dims[axis]))
            return od_fail(st, OD_BAD_SHAPE, "input %d, %s, does not fit the first", i, eng_tensor_text(t, text, sizeof text));
    }
    return eng_set_out(c, 0, first->dtype, first->rank, dims, st);
}

od_code eng_qlinear_concat_run(eng_ctx *c, od_status *st)
{
    int axis;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", 0), c->out[0]->rank, false, &axis, st));
    quant y = quant_at(c, 0, c->out[0]->dtype);
    int64_t inner = 1, outer = 1, at = 0;
    for (int d = 0; d < axis; d++) outer *= c->out[0]->dims[d];
    for (int d = axis + 1; d < c->out[0]->rank; d++) inner *= c->out[0]->dims[d];
    for (int i = 2; i < c->n_in; i += 3) {
        quant x = quant_at(c, i + 1, c->in[i]->dtype);
        float real[256];
        uint8_t table[256];
        bool same = x.scale == y.scale && x.zero == y.zero;
        int64_t run = c->in[i]->dims[axis] * inner, row = c->out[0]->dims[axis] * inner;
        widen_table(&x, real);
        for (int k = 0; k < 256; k++) table[k] = same ? (uint8_t)k : to_byte(&y, real[k]);
        for (int64_t o = 0; o < outer; o++) {
            const uint8_t *from = (const uint8_t *)c->in[i]->data + o * run;
            uint8_t *to = (uint8_t *)c->out[0]->data + o * row + at;
            for (int64_t k = 0; k < run; k++) to[k] = table[from[k]];
        }
        at += run;
    }
    return OD_OK;
}

/* ---- QLinearSoftmax: X, scale, zero, Y_scale, Y_zero ------------------------------------------ */

typedef struct softmax_job {
    const uint8_t *x;
    uint8_t *y;
    float real[256];
    quant out;
    int64_t outer, n, inner; /* the axis, or what is flattened, lies between */
} softmax_job;

static void softmax_chunk(void *arg, int64_t chunk, int slot)
{
    const softmax_job *j = arg;
    (void)slot;
    int64_t base = chunk / j->inner * j->n * j->inner + chunk % j->inner;
    float top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < j->n; i++) top = fmaxf(top, j->real[j->x[base + i * j->inner]]);
    for (int64_t i = 0; i < j->n; i++) sum += expf(j->real[j->x[base + i * j->inner]] - top);
    for (int64_t i = 0; i < j->n; i++) {
        float v = expf(j->real[j->x[base + i * j->inner]] - top) / sum;
        j->y[base + i * j->inner] = to_byte(&j->out, v);
    }
}

od_code eng_qlinear_softmax_infer(eng_ctx *c, od_status *st)
{
    int axis;
    OD_TRY(eng_qlinear_unary_infer(c, st));
    return eng_axis(eng_node_int(c->node, "axis", -1), c->in[0]->rank, false, &axis, st);
}

od_code eng_qlinear_softmax_run(eng_ctx *c, od_status *st)
{
    int axis;
    const eng_tensor *x = c->in[0];
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", -1), x->rank, false, &axis, st));
    bool flat = eng_node_int(c->node, "opset", 13) < 13;
    softmax_job j = {.x = x->data, .y = c->out[0]->data, .outer = 1, .n = 1, .inner = 1,
                     .out = quant_at(c, 3, x->dtype)};
    quant q = quant_at(c, 1, x->dtype);
    widen_table(&q, j.real);
    for (int d = 0; d < x->rank; d++) *(d < axis ? &j.outer : d == axis || flat ? &j.n : &j.inner) *= x->dims[d];
    if (j.n) od_pool_for(j.outer * j.n * j.inner > 8192 ? c->pool : NULL, j.outer * j.inner, softmax_chunk, &j);
    return OD_OK;
}

/* ---- average pools: X, scale, zero, Y_scale, Y_zero ------------------------------------------- */

enum { MAX_SPATIAL = ENG_MAX_RANK - 2 };

typedef struct pool_job {
    const eng_tensor *x;
    uint8_t *y;
    quant from, to;
    bool count_pads, last; /* channels last */
    int spatial;
    int64_t n, c, image, channel;  /* extents and strides in elements of x and, scaled, of y */
    int64_t in[MAX_SPATIAL], out[MAX_SPATIAL], kernel[MAX_SPATIAL], stride[MAX_SPATIAL], before[MAX_SPATIAL],
        after[MAX_SPATIAL], step[MAX_SPATIAL];
    int64_t out_area, pixel;       /* stride of a pixel */
} pool_job;

static void shape_input(pool_job *p, const eng_tensor *x, bool last)
{
    int64_t area = 1;
    *p = (pool_job){.x = x, .spatial = x->rank - 2, .n = x->dims[0], .c = x->dims[last ? x->rank - 1 : 1],
                    .last = last};
    p->pixel = last ? p->c : 1;
    for (int i = p->spatial - 1; i >= 0; i--) {
        p->in[i] = x->dims[i + (last ? 1 : 2)];
        p->step[i] = area * p->pixel;
        area *= p->in[i];
    }
    p->channel = last ? 1 : area;
    p->image = area * p->c;
}

static od_code list_at(const eng_node *n, const char *name, int i, int count, int64_t otherwise, int64_t least,
                       int64_t *out, od_status *st)
{
    int64_t have;
    const int64_t *list = eng_node_ints(n, name, &have);
    *out = otherwise;
    if (!list) return OD_OK;
    if (have != count || list[i] < least || list[i] > INT32_MAX)
        return od_fail(st, OD_BAD_ARGUMENT, "%s: %" PRId64 " numbers, %d are wanted, %" PRId64 " or more", name, have,
                       count, least);
    *out = list[i];
    return OD_OK;
}

static od_code place_axis(pool_job *p, const eng_node *n, int i, od_status *st)
{
    OD_TRY(list_at(n, "kernel_shape", i, p->spatial, 0, 1, &p->kernel[i], st));
    OD_TRY(list_at(n, "strides", i, p->spatial, 1, 1, &p->stride[i], st));
    OD_TRY(list_at(n, "pads", i, 2 * p->spatial, 0, 0, &p->before[i], st));
    OD_TRY(list_at(n, "pads", i + p->spatial, 2 * p->spatial, 0, 0, &p->after[i], st));
    if (!p->kernel[i]) return od_fail(st, OD_BAD_MODEL, "kernel_shape is missing");
    bool upper = eng_node_string_is(n, "auto_pad", "NOTSET", "SAME_UPPER");
    if (upper || eng_node_string_is(n, "auto_pad", "NOTSET", "SAME_LOWER")) {
        p->out[i] = od_ceil_div(p->in[i], p->stride[i]);
        int64_t total = od_max_i64(0, (p->out[i] - 1) * p->stride[i] + p->kernel[i] - p->in[i]);
        p->before[i] = upper ? total / 2 : total - total / 2;
        p->after[i] = total - p->before[i];
        return OD_OK;
    }
    if (eng_node_string_is(n, "auto_pad", "NOTSET", "VALID")) p->before[i] = p->after[i] = 0;
    int64_t room = p->in[i] + p->before[i] + p->after[i] - p->kernel[i];
    if (room < 0) return od_fail(st, OD_BAD_SHAPE, "a window of %" PRId64 " on an axis of %" PRId64, p->kernel[i], p->in[i]);
    bool up = eng_node_int(n, "ceil_mode", 0) != 0;
    p->out[i] = (up ? od_ceil_div(room, p->stride[i]) : room / p->stride[i]) + 1;
    if (up && (p->out[i] - 1) * p->stride[i] >= p->in[i] + p->before[i]) p->out[i]--; /* starts in the padding */
    return OD_OK;
}

static od_code shape_pool(pool_job *p, const eng_ctx *c, bool global, od_status *st)
{
    const eng_tensor *x = c->in[0];
    char text[80];
    if (x->rank < 3) return od_fail(st, OD_BAD_SHAPE, "%s has no spatial axes", eng_tensor_text(x, text, sizeof text));
    shape_input(p, x, eng_node_int(c->node, "channels_last", 0) != 0);
    p->count_pads = eng_node_int(c->node, "count_include_pad", 0) != 0;
    for (int i = 0; i < p->spatial; i++) {
        if (!global) {
            OD_TRY(place_axis(p, c->node, i, st));
        } else {
            p->kernel[i] = p->in[i];
            p->stride[i] = p->out[i] = 1;
        }
    }
    return OD_OK;
}

static od_code infer_pool(eng_ctx *c, bool global, od_status *st)
{
    pool_job p;
    OD_TRY(check_bytes(c, 0, st));
    OD_TRY(check_quant(c, 1, c->in[0]->dtype, st));
    OD_TRY(check_quant(c, 3, c->in[0]->dtype, st));
    OD_TRY(shape_pool(&p, c, global, st));
    bool last = eng_node_int(c->node, "channels_last", 0) != 0;
    int64_t dims[ENG_MAX_RANK] = {p.n};
    dims[last ? p.spatial + 1 : 1] = p.c;
    memcpy(dims + (last ? 1 : 2), p.out, (size_t)p.spatial * sizeof *dims);
    return eng_set_out(c, 0, c->in[0]->dtype, c->in[0]->rank, dims, st);
}

/* Sum of the bytes, less the zero point, under the window at `at`; *count is what it is divided by. */
static int64_t window_sum(const pool_job *p, int64_t base, const int64_t *at, int64_t *count)
{
    int64_t lo[MAX_SPATIAL] = {0}, hi[MAX_SPATIAL] = {0}, k[MAX_SPATIAL] = {0}, cells = 1, padded = 1, sum = 0;
    for (int i = 0; i < p->spatial; i++) {
        int64_t start = at[i] * p->stride[i] - p->before[i], end = start + p->kernel[i];
        padded *= od_min_i64(end, p->in[i] + p->after[i]) - start;
        k[i] = lo[i] = od_max_i64(start, 0);
        hi[i] = od_min_i64(end, p->in[i]);
        cells *= od_max_i64(0, hi[i] - lo[i]);
    }
    *count = p->count_pads ? padded : cells;
    for (int64_t n = 0; n < cells; n++) {
        int64_t offset = base;
        for (int i = 0; i < p->spatial; i++) offset += k[i] * p->step[i];
        sum += eng_tensor_int(p->x, offset) - p->from.zero;
        for (int i = p->spatial - 1; i >= 0 && ++k[i] == hi[i]; i--) k[i] = lo[i];
    }
    return sum;
}

static void pool_chunk(void *arg, int64_t chunk, int slot)
{
    const pool_job *p = arg;
    (void)slot;
    int64_t image = chunk / p->c, channel = chunk % p->c, at[MAX_SPATIAL] = {0};
    int64_t base = image * p->image + channel * p->channel;
    uint8_t *y = p->y + (p->last ? image * p->out_area * p->c + channel : chunk * p->out_area);
    for (int64_t o = 0; o < p->out_area; o++) {
        int64_t count, sum = window_sum(p, base, at, &count);
        float mean = count > 0 ? (float)sum * p->from.scale / (float)count : 0.0f;
        y[p->last ? o * p->c : o] = to_byte(&p->to, mean);
        for (int i = p->spatial - 1; i >= 0 && ++at[i] == p->out[i]; i--) at[i] = 0;
    }
}

static od_code run_pool(eng_ctx *c, bool global, od_status *st)
{
    pool_job p;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(shape_pool(&p, c, global, st));
    p.y = c->out[0]->data;
    p.from = quant_at(c, 1, c->in[0]->dtype);
    p.to = quant_at(c, 3, c->in[0]->dtype);
    p.out_area = 1;
    for (int i = 0; i < p.spatial; i++) p.out_area *= p.out[i];
    if (p.out_area) od_pool_for(c->pool, p.n * p.c, pool_chunk, &p);
    return OD_OK;
}

od_code eng_qlinear_average_pool_infer(eng_ctx *c, od_status *st)
{
    return infer_pool(c, false, st);
}

od_code eng_qlinear_average_pool_run(eng_ctx *c, od_status *st)
{
    return run_pool(c, false, st);
}

od_code eng_qlinear_global_average_pool_infer(eng_ctx *c, od_status *st)
{
    return infer_pool(c, true, st);
}

od_code eng_qlinear_global_average_pool_run(eng_ctx *c, od_status *st)
{
    return run_pool(c, true, st);
}
