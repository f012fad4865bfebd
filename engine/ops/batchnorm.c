/* batchnorm.c - BatchNormalization in either layout: a factor and an addend a channel. */
#include "engine/kernels/reduce.h"
#include "engine/ops/channels.h"
#include "engine/ops/ops.h"

#include <math.h>

static bool trains(const eng_ctx *c)
{
    return c->node->opset >= 14 && eng_node_int(c->node, "training_mode", 0);
}

/* Before opset 9, spatial 0: every place of an item has its own statistics. */
static bool by_place(const eng_ctx *c)
{
    return c->node->opset < 9 && !eng_node_int(c->node, "spatial", 1);
}

od_code eng_batchnorm_infer(eng_ctx *c, od_status *st)
{
    static const char *const names[] = {"X", "scale", "B", "mean", "var"};
    OD_TRY(eng_infer_same(c, st));
    const eng_tensor *x = c->in[0];
    int64_t want = x->rank > 1 ? x->dims[1] : 1;
    for (int i = 2; by_place(c) && i < x->rank; i++) want *= x->dims[i];
    for (int i = 1; i < 5; i++) {
        const eng_tensor *t = i < c->n_in ? c->in[i] : NULL;
        if (!t) return od_fail(st, OD_BAD_MODEL, "%s is missing", names[i]);
        if (!(ENG_T(t->dtype) & ENG_T_FLOAT)) return od_fail(st, OD_BAD_TYPE, "%s is %s", names[i], eng_dtype_name(t->dtype));
        if (eng_tensor_count(t) != want)
            return od_fail(st, OD_BAD_SHAPE, "%s has %" PRId64 " elements, wanted %" PRId64, names[i], eng_tensor_count(t), want);
    }
    for (int k = 1; k < c->n_out; k++) OD_TRY(eng_set_out(c, k, c->in[k & 1 ? 3 : 4]->dtype, c->in[3]->rank, c->in[3]->dims, st));
    return OD_OK;
}

void eng_batchnorm_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    if (by_place(c)) want_in[0] = ENG_ROW;
    for (int i = 1; i < c->n_in; i++) want_in[i] = ENG_ROW;
    *want_out = want_in[0];
}

static void put(eng_tensor *t, int64_t i, double v)
{
    if (t->dtype == ENG_DOUBLE) ((double *)t->data)[i] = v;
    else ((float *)t->data)[i] = (float)v;
}

/* Doubles are rare enough for plain loops. */
static void apply_double(const eng_channels *v, const eng_tensor *x, eng_tensor *y, const double *scale, const double *bias)
{
    for (int64_t n = 0; n < v->items; n++)
        for (int64_t ch = 0; ch < v->channels; ch++)
            for (int64_t p = 0; p < v->pixels; p++) {
                int64_t from = n * v->x_item + ch * v->x_channel + p * v->x_pixel;
                int64_t to = n * v->y_item + ch * v->y_channel + p * v->y_pixel;
                ((double *)y->data)[to] = ((const double *)x->data)[from] * scale[ch] + bias[ch];
            }
}

static void statistics_double(const eng_channels *v, const eng_tensor *x, int64_t ch, double *mean, double *var)
{
    double count = (double)(v->items * v->pixels), sum = 0.0, square = 0.0;
    for (int round = 0; round < 2; round++)
        for (int64_t n = 0; n < v->items; n++)
            for (int64_t p = 0; p < v->pixels; p++) {
                int64_t at = n * v->x_item + ch * v->x_channel + p * v->x_pixel;
                double d = x->dtype == ENG_DOUBLE ? ((const double *)x->data)[at] : (double)((const float *)x->data)[at];
                if (round) square += (d - *mean) * (d - *mean);
                else sum += d;
                *mean = sum / count;
            }
    *var = square / count;
}

od_code eng_batchnorm_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    eng_channels v;
    eng_channels_view(x, c->out[0], &v);
    if (by_place(c)) { /* each place is a channel of one pixel */
        v.channels *= v.pixels;
        v.pixels = 1;
        v.x_channel = v.y_channel = 1;
    }
    float momentum = eng_node_float(c->node, "momentum", 0.9f);
    double eps = (double)eng_node_float(c->node, "epsilon", 1e-5f), *wide = od_arena_array(c->scratch, double, 2 * v.channels);
    float *narrow = od_arena_array(c->scratch, float, 2 * v.channels);
    if (!wide || !narrow) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " channels", v.channels);
    for (int64_t i = 0; i < v.channels; i++) {
        double mean = eng_tensor_double(c->in[3], i), var = eng_tensor_double(c->in[4], i);
        double running_mean = mean, running_var = var;
        if (trains(c)) {
            statistics_double(&v, x, i, &mean, &var);
            running_mean = running_mean * (double)momentum + mean * (1.0 - (double)momentum);
            running_var = running_var * (double)momentum + var * (1.0 - (double)momentum);
        }
        wide[i] = eng_tensor_double(c->in[1], i) / sqrt(var + eps);
        wide[v.channels + i] = eng_tensor_double(c->in[2], i) - mean * wide[i];
        narrow[i] = (float)wide[i];
        narrow[v.channels + i] = (float)wide[v.channels + i];
        for (int k = 1; k < c->n_out; k++)
            if (c->out[k]) put(c->out[k], i, k & 1 ? running_mean : running_var);
    }
    if (x->dtype == ENG_DOUBLE) apply_double(&v, x, c->out[0], wide, wide + v.channels);
    else eng_channels_affine(&v, x->data, c->out[0]->data, narrow, narrow + v.channels, 0, &c->node->fused, c->pool);
    return OD_OK;
}
