/* qconv.c - ConvInteger and QLinearConv: convolutions of bytes, summed exactly in 32 bits.
 * Data and weights are first centred on their zero points, as 16-bit numbers: padding is then zero
 * and needs no terms of its own. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

enum { MAX_SPATIAL = ENG_MAX_RANK - 2 };

typedef struct geometry {
    int spatial;
    int64_t group, n, c, m, cg, mg; /* cg, mg: channels and filters of one group */
    int64_t in[MAX_SPATIAL], out[MAX_SPATIAL], kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilation[MAX_SPATIAL],
        before[MAX_SPATIAL];
    int64_t in_area, out_area, kernel_area;
} geometry;

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

/* List attribute `name` for every spatial axis; `otherwise` when it is absent. */
static od_code spatial_list(const eng_node *n, const char *name, int count, int64_t otherwise, int64_t least,
                            int64_t *out, od_status *st)
{
    int64_t have;
    const int64_t *list = eng_node_ints(n, name, &have);
    for (int i = 0; i < count; i++) out[i] = otherwise;
    if (!list) return OD_OK;
    if (have != count) return od_fail(st, OD_BAD_ARGUMENT, "%s has %" PRId64 " numbers: %d are wanted", name, have, count);
    for (int i = 0; i < count; i++) {
        if (list[i] < least || list[i] > INT32_MAX)
            return od_fail(st, OD_BAD_ARGUMENT, "%s[%d] is %" PRId64, name, i, list[i]);
        out[i] = list[i];
    }
    return OD_OK;
}

/* Output extent and leading padding of axis `i`. */
static od_code place_axis(geometry *g, const eng_node *n, int i, const int64_t *pads, od_status *st)
{
    int64_t window = (g->kernel[i] - 1) * g->dilation[i] + 1, total = pads[i] + pads[i + g->spatial];
    g->before[i] = pads[i];
    bool upper = eng_node_string_is(n, "auto_pad", "NOTSET", "SAME_UPPER");
    if (upper || eng_node_string_is(n, "auto_pad", "NOTSET", "SAME_LOWER")) {
        g->out[i] = od_ceil_div(g->in[i], g->stride[i]);
        total = od_max_i64(0, (g->out[i] - 1) * g->stride[i] + window - g->in[i]);
        g->before[i] = upper ? total / 2 : total - total / 2;
        return OD_OK;
    }
    if (eng_node_string_is(n, "auto_pad", "NOTSET", "VALID")) total = g->before[i] = 0;
    if (g->in[i] + total < window)
        return od_fail(st, OD_BAD_SHAPE, "a window of %" PRId64 " on an axis of %" PRId64, window, g->in[i] + total);
    g->out[i] = (g->in[i] + total - window) / g->stride[i] + 1;
    return OD_OK;
}

static od_code shape_conv(geometry *g, const eng_node *n, const eng_tensor *x, const eng_tensor *w, od_status *st)
{
    char tx[80], tw[80];
    int64_t pads[2 * MAX_SPATIAL], declared[MAX_SPATIAL];
    *g = (geometry){.spatial = x->rank - 2, .group = eng_node_int(n, "group", 1)};
    if (x->rank < 3 || w->rank != x->rank || g->group < 1 || g->group > w->dims[0] || w->dims[0] % g->group ||
        !od_mul_i64(w->dims[1], g->group, &g->c) || g->c != x->dims[1])
        return od_fail(st, OD_BAD_SHAPE, "%s convolved with %s in %" PRId64 " groups", eng_tensor_text(x, tx, sizeof tx),
                       eng_tensor_text(w, tw, sizeof tw), g->group);
    g->n = x->dims[0];
    g->m = w->dims[0];
    g->cg = w->dims[1];
    g->mg = g->m / g->group;
    g->in_area = g->out_area = g->kernel_area = 1;
    OD_TRY(spatial_list(n, "strides", g->spatial, 1, 1, g->stride, st));
    OD_TRY(spatial_list(n, "dilations", g->spatial, 1, 1, g->dilation, st));
    OD_TRY(spatial_list(n, "pads", 2 * g->spatial, 0, 0, pads, st));
    OD_TRY(spatial_list(n, "kernel_shape", g->spatial, -1, 1, declared, st));
    for (int i = 0; i < g->spatial; i++) {
        g->in[i] = x->dims[i + 2];
        g->kernel[i] = w->dims[i + 2];
        if (g->kernel[i] < 1 || g->kernel[i] > INT32_MAX || (declared[i] >= 0 && declared[i] != g->kernel[i]))
            return od_fail(st, OD_BAD_SHAPE, "kernel_shape[%d] is %" PRId64 ", the weights have %" PRId64, i, declared[i],
                           g->kernel[i]);
        OD_TRY(place_axis(g, n, i, pads, st));
        g->in_area *= g->in[i];
        g->kernel_area *= g->kernel[i];
    }
    return OD_OK;
}

static od_code set_conv_out(eng_ctx *c, geometry *g, eng_dtype to, od_status *st)
{
    int64_t dims[ENG_MAX_RANK] = {g->n, g->m};
    memcpy(dims + 2, g->out, (size_t)g->spatial * sizeof *dims);
    return eng_set_out(c, 0, to, g->spatial + 2, dims, st);
}

/* ---- centring -------------------------------------------------------------------------------- */

/* Bytes less their zero point; `per` elements share element i / per of it when it is a vector. */
static int16_t *centred(eng_ctx *c, const eng_tensor *t, const eng_tensor *zero, int64_t per, od_status *st)
{
    int64_t n = eng_tensor_count(t), zeros = zero ? eng_tensor_count(zero) : 0;
    int16_t *out = od_arena_alloc(c->scratch, (size_t)n * sizeof *out);
    if (!out) {
        od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " numbers", n);
        return NULL;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t z = !zero ? 0 : eng_tensor_int(zero, zeros == 1 ? 0 : i / per);
        int32_t v = t->dtype == ENG_INT8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
        out[i] = (int16_t)(v - (int32_t)z);
    }
    return out;
}

/* ---- the sums -------------------------------------------------------------------------------- */

typedef struct conv_job {
    const geometry *g;
    const int16_t *x, *w;
    const int32_t *bias; /* or NULL */
    int32_t *sums;
} conv_job;

/* Output positions from *lo to before *hi, whose input for kernel position `k` is inside axis `i`. */
static void inside(const geometry *g, int i, int64_t k, int64_t *lo, int64_t *hi)
{
    int64_t shift = k * g->dilation[i] - g->before[i]; /* input position = out * stride + shift */
    *lo = shift < 0 ? od_ceil_div(-shift, g->stride[i]) : 0;
    *hi = shift < g->in[i] ? (g->in[i] - 1 - shift) / g->stride[i] + 1 : 0;
    *hi = od_min_i64(*hi, g->out[i]);
}

/* One row of the output along the last axis, for one weight. */
static void add_row(const geometry *g, int32_t *sum, int16_t w, const int16_t *x, int64_t k)
{
    int last = g->spatial - 1;
    int64_t lo, hi, s = g->stride[last];
    inside(g, last, k, &lo, &hi);
    if (lo >= hi) return;
    const int16_t *from = x + lo * s + k * g->dilation[last] - g->before[last];
    if (s == 1) {
        eng_elementwise_table()->mac_s16(sum + lo, w, from, hi - lo);
        return;
    }
    for (int64_t o = lo; o < hi; o++, from += s)
        sum[o] = (int32_t)((uint32_t)sum[o] + (uint32_t)w * (uint32_t)(int32_t)*from);
}

/* A plane for one weight: kernel position `at`, rows of the outer axes counted through. */
static void add_plane(const geometry *g, int32_t *sum, int16_t w, const int16_t *x, const int64_t *at)
{
    int last = g->spatial - 1;
    int64_t o[MAX_SPATIAL] = {0}, rows = g->out_area / od_max_i64(1, g->out[last]);
    for (int64_t r = 0; r < rows; r++) {
        int64_t offset = 0;
        bool in = true;
        for (int i = 0; i < last; i++) {
            int64_t p = o[i] * g->stride[i] + at[i] * g->dilation[i] - g->before[i];
            in &= p >= 0 && p < g->in[i];
            offset = (offset + p) * g->in[i + 1];
        }
        if (in) add_row(g, sum + r * g->out[last], w, x + offset, at[last]);
        for (int i = last - 1; i >= 0 && ++o[i] == g->out[i]; i--) o[i] = 0;
    }
}

static void conv_chunk(void *arg, int64_t chunk, int slot)
{
    const conv_job *j = arg;
    const geometry *g = j->g;
    (void)slot;
    int64_t image = chunk / g->m, filter = chunk % g->m, first = filter / g->mg * g->cg;
    int32_t *sum = j->sums + chunk * g->out_area;
    const int16_t *w = j->w + filter * g->cg * g->kernel_area;
    for (int64_t i = 0; i < g->out_area; i++) sum[i] = j->bias ? j->bias[filter] : 0;
    for (int64_t c = 0; c < g->cg; c++) {
        const int16_t *x = j->x + (image * g->c + first + c) * g->in_area;
        int64_t at[MAX_SPATIAL] = {0};
        for (int64_t k = 0; k < g->kernel_area; k++, w++) {
            if (*w) add_plane(g, sum, *w, x, at);
            for (int i = g->spatial - 1; i >= 0 && ++at[i] == g->kernel[i]; i--) at[i] = 0;
        }
    }
}

/* All sums of the node into `sums`. */
static od_code convolve(eng_ctx *c, geometry *g, const eng_tensor *x, const eng_tensor *x_zero, const eng_tensor *w,
                        const eng_tensor *w_zero, const int32_t *bias, int32_t *sums, od_status *st)
{
    g->out_area = 1;
    for (int i = 0; i < g->spatial; i++) g->out_area *= g->out[i];
    conv_job j = {.g = g, .bias = bias, .sums = sums};
    j.x = centred(c, x, x_zero, 1, st);
    if (!j.x) return st->code;
    j.w = centred(c, w, w_zero, od_max_i64(1, g->cg * g->kernel_area), st);
    if (!j.w) return st->code;
    if (g->out_area) od_pool_for(c->pool, g->n * g->m, conv_chunk, &j);
    return OD_OK;
}

static od_code check_zero(const eng_tensor *t, const eng_tensor *zero, int64_t lines, const char *what, od_status *st)
{
    if (!(ENG_T_INT8 & ENG_T(t->dtype)))
        return od_fail(st, OD_BAD_TYPE, "%s is %s: int8 or uint8 is wanted", what, eng_dtype_name(t->dtype));
    if (!zero) return OD_OK;
    int64_t n = eng_tensor_count(zero);
    if (zero->dtype == t->dtype && (n == 1 || n == lines)) return OD_OK;
    return od_fail(st, OD_BAD_SHAPE, "the zero point of %s (%s) is %s of %" PRId64 " elements", what,
                   eng_dtype_name(t->dtype), eng_dtype_name(zero->dtype), n);
}

/* ---- ConvInteger: x, w, x_zero, w_zero -------------------------------------------------------- */

od_code eng_conv_integer_infer(eng_ctx *c, od_status *st)
{
    geometry g;
    if (c->n_in < 2 || !c->in[0] || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "data and weights are wanted");
    OD_TRY(shape_conv(&g, c->node, c->in[0], c->in[1], st));
    OD_TRY(check_zero(c->in[0], input(c, 2), 1, "x", st));
    OD_TRY(check_zero(c->in[1], input(c, 3), g.m, "w", st));
    return set_conv_out(c, &g, ENG_INT32, st);
}

od_code eng_conv_integer_run(eng_ctx *c, od_status *st)
{
    geometry g;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(shape_conv(&g, c->node, c->in[0], c->in[1], st));
    return convolve(c, &g, c->in[0], input(c, 2), c->in[1], input(c, 3), NULL, c->out[0]->data, st);
}

/* ---- QLinearConv: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias --------------- */

od_code eng_qlinear_conv_infer(eng_ctx *c, od_status *st)
{
    geometry g;
    for (int i = 0; i < 8; i++)
        if (!input(c, i)) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
    OD_TRY(shape_conv(&g, c->node, c->in[0], c->in[3], st));
    OD_TRY(check_zero(c->in[0], c->in[2], 1, "x", st));
    OD_TRY(check_zero(c->in[3], c->in[5], g.m, "w", st));
    OD_TRY(check_zero(c->in[7], c->in[7], 1, "y", st));
    for (int i = 1; i < 7; i += i == 1 ? 3 : 2) {
        int64_t n = eng_tensor_count(c->in[i]);
        if (c->in[i]->dtype != ENG_FLOAT || (n != 1 && !(i == 4 && n == g.m)))
            return od_fail(st, OD_BAD_SHAPE, "input %d, a scale, is %s of %" PRId64 " elements", i,
                           eng_dtype_name(c->in[i]->dtype), n);
    }
    const eng_tensor *bias = input(c, 8);
    if (bias && (bias->dtype != ENG_INT32 || eng_tensor_count(bias) != g.m))
        return od_fail(st, OD_BAD_SHAPE, "the bias is %s of %" PRId64 " elements: int32 of %" PRId64 " is wanted",
                       eng_dtype_name(bias->dtype), eng_tensor_count(bias), g.m);
    return set_conv_out(c, &g, c->in[7]->dtype, st);
}

od_code eng_qlinear_conv_run(eng_ctx *c, od_status *st)
{
    geometry g;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    int64_t n = eng_tensor_count(c->out[0]);
    const float *w_scale = c->in[4]->data;
    const eng_tensor *bias = input(c, 8);
    int32_t *sums = od_arena_alloc(c->scratch, (size_t)n * sizeof *sums);
    if (!sums) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " sums", n);
    OD_TRY(shape_conv(&g, c->node, c->in[0], c->in[3], st));
    OD_TRY(convolve(c, &g, c->in[0], c->in[2], c->in[3], c->in[5], bias ? bias->data : NULL, sums, st));
    float x_scale = *(const float *)c->in[1]->data, y_scale = *(const float *)c->in[6]->data;
    float zero = (float)eng_tensor_int(c->in[7], 0), lo = c->in[7]->dtype == ENG_INT8 ? -128.0f : 0.0f;
    bool one = eng_tensor_count(c->in[4]) == 1;
    for (int64_t p = 0; g.out_area && p < g.n * g.m; p++) {
        float scale = x_scale * w_scale[one ? 0 : p % g.m] / y_scale;
        eng_elementwise_table()->requantize((uint8_t *)c->out[0]->data + p * g.out_area, sums + p * g.out_area,
                                            g.out_area, &scale, 0, zero, lo, lo + 255.0f);
    }
    return OD_OK;
}
