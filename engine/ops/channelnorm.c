/* channelnorm.c - normalizations by channel or group of channels in either layout: InstanceNormalization,
 * GroupNormalization, ONNX Runtime's GroupNorm and SkipGroupNorm, LRN. */
#include "engine/kernels/elementwise.h"
#include "engine/kernels/kernels.h"
#include "engine/ops/channels.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

void eng_channels_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    for (int i = 1; i < c->n_in; i++) want_in[i] = ENG_ROW;
    *want_out = want_in[0];
}

/* y = (x - mean of its group) / deviation * scale + bias. scale and bias have an entry for each channel, or
 * for each group where `count` is their number. */
static od_code run_groups(eng_ctx *c, const eng_channels *v, const float *x, float *y, int64_t groups, double eps,
                          const eng_tensor *scale, const eng_tensor *bias, od_status *st)
{
    int64_t n = v->items * groups, per = v->channels / groups, count = v->items * v->channels;
    if (!count || !v->pixels) return OD_OK;
    float *mean = od_arena_array(c->scratch, float, 2 * n), *factor = od_arena_array(c->scratch, float, 2 * count);
    if (!mean || !factor) return od_fail(st, OD_NO_MEMORY, "no memory for the statistics of %" PRId64 " channels", count);
    OD_TRY(eng_channels_moments(v, x, groups, mean, mean + n, c->scratch, c->pool, st));
    int64_t by = eng_tensor_count(scale) == groups ? per : 1;
    for (int64_t i = 0; i < count; i++) {
        int64_t g = i / per, ch = i % v->channels / by;
        double f = eng_tensor_double(scale, ch) / sqrt((double)mean[n + g] + eps);
        factor[i] = (float)f;
        factor[count + i] = (float)(eng_tensor_double(bias, ch) - f * (double)mean[g]);
    }
    eng_channels_affine(v, x, y, factor, factor + count, v->channels, &c->node->fused, c->pool);
    return OD_OK;
}

/* The same for doubles, in plain loops. */
static void run_groups_double(const eng_channels *v, const double *x, double *y, int64_t groups, double eps, const eng_tensor *scale,
                              const eng_tensor *bias)
{
    int64_t per = v->channels / groups, by = eng_tensor_count(scale) == groups ? per : 1;
    double count = (double)(per * v->pixels);
    for (int64_t g = 0; g < v->items * groups && v->pixels; g++) {
        const double *from = x + g / groups * v->x_item + g % groups * per * v->x_channel;
        double *to = y + g / groups * v->y_item + g % groups * per * v->y_channel, mean = 0.0, var = 0.0;
        for (int round = 0; round < 3; round++) {
            for (int64_t ch = 0; ch < per; ch++) {
                int64_t at = (g % groups * per + ch) / by;
                double s = eng_tensor_double(scale, at) / sqrt(var + eps), b = eng_tensor_double(bias, at);
                for (int64_t p = 0; p < v->pixels; p++) {
                    double d = from[ch * v->x_channel + p * v->x_pixel];
                    if (round == 0) mean += d / count;
                    else if (round == 1) var += (d - mean) * (d - mean) / count;
                    else to[ch * v->y_channel + p * v->y_pixel] = (d - mean) * s + b;
                }
            }
        }
    }
}

static od_code check_scale(const eng_ctx *c, int64_t channels, int64_t groups, od_status *st)
{
    for (int i = 1; i < 3; i++) {
        const eng_tensor *t = input(c, i);
        int64_t have = t ? eng_tensor_count(t) : -1;
        if (have != channels && have != groups)
            return od_fail(st, OD_BAD_SHAPE, "%s has %" PRId64 " elements for %" PRId64 " channels", i == 1 ? "scale" : "bias", have,
                           channels);
    }
    return eng_tensor_count(c->in[1]) == eng_tensor_count(c->in[2])
               ? OD_OK : od_fail(st, OD_BAD_SHAPE, "scale and bias differ in length");
}

/* Groups of the node for so many channels. */
static od_code groups_of(const eng_ctx *c, int64_t channels, int64_t *groups, od_status *st)
{
    bool instance = !strcmp(c->node->op_type, "InstanceNormalization");
    *groups = instance ? channels : eng_node_int(c->node, c->node->domain == ENG_DOMAIN_MS ? "groups" : "num_groups", 0);
    if (*groups < 1 && instance) *groups = 1;
    if (*groups < 1 || channels % *groups)
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " channels in %" PRId64 " groups", channels, *groups);
    return OD_OK;
}

od_code eng_groupnorm_infer(eng_ctx *c, od_status *st)
{
    int64_t groups;
    OD_TRY(eng_infer_same(c, st));
    if (c->in[0]->rank < 2) return od_fail(st, OD_BAD_SHAPE, "X has rank %d, wanted 2 or more", c->in[0]->rank);
    OD_TRY(groups_of(c, c->in[0]->dims[1], &groups, st));
    return check_scale(c, c->in[0]->dims[1], groups, st);
}

od_code eng_groupnorm_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    double eps = (double)eng_node_float(c->node, "epsilon", 1e-5f);
    int64_t groups;
    eng_channels v;
    eng_channels_view(x, c->out[0], &v);
    OD_TRY(groups_of(c, v.channels, &groups, st));
    if (x->dtype != ENG_DOUBLE) return run_groups(c, &v, x->data, c->out[0]->data, groups, eps, c->in[1], c->in[2], st);
    run_groups_double(&v, x->data, c->out[0]->data, groups, eps, c->in[1], c->in[2]);
    return OD_OK;
}

/* ---- ONNX Runtime's GroupNorm, on [N, H, W, C] -------------------------------------------------- */

static bool channels_last(const eng_ctx *c)
{
    return eng_node_int(c->node, "channels_last", 1);
}

od_code eng_ms_groupnorm_infer(eng_ctx *c, od_status *st)
{
    int64_t groups;
    OD_TRY(eng_infer_same(c, st));
    const eng_tensor *x = c->in[0], *skip = input(c, 3), *bias = input(c, 4);
    if (x->rank != 4) return od_fail(st, OD_BAD_SHAPE, "X has rank %d, wanted 4", x->rank);
    int64_t channels = x->dims[channels_last(c) ? 3 : 1];
    OD_TRY(groups_of(c, channels, &groups, st));
    OD_TRY(check_scale(c, channels, groups, st));
    if (eng_node_int(c->node, "activation", 0) < 0 || eng_node_int(c->node, "activation", 0) > 1)
        return od_fail(st, OD_BAD_ARGUMENT, "activation is %" PRId64, eng_node_int(c->node, "activation", 0));
    if (strcmp(c->node->op_type, "SkipGroupNorm")) return OD_OK;
    if (!skip || (!eng_dims_equal(skip, x) && eng_tensor_count(skip) != x->dims[0] * channels))
        return od_fail(st, OD_BAD_SHAPE, "the skip fits neither X nor its channels");
    if (bias && eng_tensor_count(bias) != channels)
        return od_fail(st, OD_BAD_SHAPE, "a bias of %" PRId64 " for %" PRId64 " channels", eng_tensor_count(bias), channels);
    return eng_set_out(c, 1, x->dtype, x->rank, x->dims, st);
}

typedef struct act_job {
    float *y;
    int64_t count, chunks;
} act_job;

static void silu_chunk(void *arg, int64_t chunk, int slot)
{
    const act_job *j = arg;
    (void)slot;
    int64_t from = j->count * chunk / j->chunks, to = j->count * (chunk + 1) / j->chunks;
    eng_kernels_get()->act_f32(ENG_ACT_SILU, 1.0f, 0.0f, j->y + from, j->y + from, to - from);
}

/* x + skip + bias, into output 1 where it is read. */
static const float *add_skip(eng_ctx *c, const eng_channels *v, const float *x, float *y)
{
    const eng_tensor *skip = input(c, 3), *bias = input(c, 4);
    const float *s = skip->data, *b = bias ? bias->data : NULL;
    float *to = c->n_out > 1 && c->out[1] ? c->out[1]->data : y;
    bool whole = eng_dims_equal(skip, c->in[0]);
    for (int64_t n = 0; n < v->items; n++)
        for (int64_t p = 0; p < v->pixels; p++)
            for (int64_t ch = 0; ch < v->channels; ch++) {
                int64_t at = n * v->x_item + p * v->x_pixel + ch * v->x_channel;
                to[at] = x[at] + (whole ? s[at] : s[n * v->channels + ch]) + (b ? b[ch] : 0.0f);
            }
    return to;
}

od_code eng_ms_groupnorm_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    bool last = channels_last(c);
    int64_t channels = x->dims[last ? 3 : 1], pixels = last ? x->dims[1] * x->dims[2] : x->dims[2] * x->dims[3], groups;
    eng_channels v = {.items = x->dims[0], .channels = channels, .pixels = pixels, .x_item = channels * pixels,
                      .x_channel = last ? 1 : pixels, .x_pixel = last ? channels : 1};
    v.y_item = v.x_item;
    v.y_channel = v.x_channel;
    v.y_pixel = v.x_pixel;
    OD_TRY(groups_of(c, channels, &groups, st));
    float *y = c->out[0]->data;
    const float *from = x->data;
    if (!strcmp(c->node->op_type, "SkipGroupNorm")) from = add_skip(c, &v, from, y);
    OD_TRY(run_groups(c, &v, from, y, groups, (double)eng_node_float(c->node, "epsilon", 1e-5f), c->in[1], c->in[2], st));
    if (!eng_node_int(c->node, "activation", 0)) return OD_OK;
    act_job j = {.y = y, .count = eng_tensor_count(x)};
    j.chunks = eng_chunks(j.count, 8192);
    od_pool_for(c->pool, j.chunks, silu_chunk, &j);
    return OD_OK;
}

/* ---- LRN ----------------------------------------------------------------------------------- */

od_code eng_lrn_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_infer_same(c, st));
    int64_t size = eng_node_int(c->node, "size", 0);
    if (c->in[0]->rank < 2) return od_fail(st, OD_BAD_SHAPE, "X has rank %d, wanted 2 or more", c->in[0]->rank);
    return size >= 1 ? OD_OK : od_fail(st, OD_BAD_ARGUMENT, "size is %" PRId64, size);
}

typedef struct lrn_job {
    eng_channels v;
    const void *x;
    void *y;
    bool wide;
    double alpha, beta, bias;
    int64_t before, after, units, chunks;
    float *slots; /* 2 * channels a slot */
} lrn_job;

/* One pixel: its channels lie behind each other. */
static void lrn_row(const lrn_job *j, const float *x, float *y, float *square, float *t)
{
    const eng_elementwise *e = eng_elementwise_table();
    int64_t n = j->v.channels;
    const float alpha = (float)j->alpha, bias = (float)j->bias, beta = (float)-j->beta;
    e->un[ENG_UN_SQUARE](square, x, n);
    memcpy(t, square, (size_t)n * sizeof *t);
    for (int64_t d = 1; d < n && d <= j->before; d++) e->bin[ENG_BIN_ADD](t + d, 1, t + d, 1, square, 1, n - d);
    for (int64_t d = 1; d < n && d <= j->after; d++) e->bin[ENG_BIN_ADD](t, 1, t, 1, square + d, 1, n - d);
    e->bin[ENG_BIN_MUL](t, 1, t, 1, &alpha, 0, n);
    e->bin[ENG_BIN_ADD](t, 1, t, 1, &bias, 0, n);
    if (j->beta == 0.75) { /* nearly always: t * sqrt(t), of the root */
        e->un[ENG_UN_SQRT](t, t, n);
        e->un[ENG_UN_SQRT](square, t, n);
        e->bin[ENG_BIN_MUL](t, 1, t, 1, square, 1, n);
        e->bin[ENG_BIN_DIV](y, 1, x, 1, t, 1, n);
        return;
    }
    eng_kernels_get()->log_f32(t, t, n);
    e->bin[ENG_BIN_MUL](t, 1, t, 1, &beta, 0, n);
    eng_kernels_get()->exp_f32(t, t, n);
    e->bin[ENG_BIN_MUL](y, 1, x, 1, t, 1, n);
}

static void lrn_double(const lrn_job *j, const double *x, double *y)
{
    int64_t n = j->v.channels;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int64_t k = od_max_i64(0, i - j->before); k <= od_min_i64(n - 1, i + j->after); k++) sum += x[k] * x[k];
        y[i] = x[i] * pow(j->bias + j->alpha * sum, -j->beta);
    }
}

static void lrn_pixels(void *arg, int64_t chunk, int slot)
{
    const lrn_job *j = arg;
    const eng_channels *v = &j->v;
    float *square = j->slots + slot * 2 * v->channels;
    for (int64_t u = j->units * chunk / j->chunks; u < j->units * (chunk + 1) / j->chunks; u++) {
        int64_t from = u / v->pixels * v->x_item + u % v->pixels * v->x_pixel;
        int64_t to = u / v->pixels * v->y_item + u % v->pixels * v->y_pixel;
        if (j->wide) lrn_double(j, (const double *)j->x + from, (double *)j->y + to);
        else lrn_row(j, (const float *)j->x + from, (float *)j->y + to, square, square + v->channels);
    }
}

od_code eng_lrn_run(eng_ctx *c, od_status *st)
{
    int64_t size = eng_node_int(c->node, "size", 1);
    lrn_job j = {.x = c->in[0]->data, .y = c->out[0]->data, .wide = c->in[0]->dtype == ENG_DOUBLE,
                 .alpha = (double)eng_node_float(c->node, "alpha", 1e-4f) / (double)size,
                 .beta = (double)eng_node_float(c->node, "beta", 0.75f), .bias = (double)eng_node_float(c->node, "bias", 1.0f),
                 .before = (size - 1) / 2, .after = size - 1 - (size - 1) / 2};
    eng_channels_view(c->in[0], c->out[0], &j.v);
    j.units = j.v.items * j.v.pixels;
    if (!j.units || !j.v.channels) return OD_OK;
    j.slots = od_arena_array(c->scratch, float, 2 * j.v.channels * od_pool_slots(c->pool));
    if (!j.slots) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " channels", j.v.channels);
    j.chunks = od_min_i64(j.units, eng_chunks(j.units * j.v.channels, 8192));
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, lrn_pixels, &j);
    return OD_OK;
}
