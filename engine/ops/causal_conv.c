/* causal_conv.c - CausalConvWithState: a depthwise convolution along the last axis that sees the past
 * only, and hands on the last values it saw. */
#include "engine/kernels/kernels.h"
#include "engine/ops/ops.h"

#include <string.h>

typedef struct job {
    const float *x, *w, *bias, *past;
    float *y, *present;
    int64_t channels, length, k;
    bool silu;
} job;

static bool has(const eng_ctx *c, int i)
{
    return i < c->n_in && c->in[i];
}

od_code eng_causal_conv_infer(eng_ctx *c, od_status *st)
{
    const eng_node *n = c->node;
    if (!has(c, 0) || !has(c, 1)) return od_fail(st, OD_BAD_MODEL, "input and weight are wanted");
    const eng_tensor *x = c->in[0], *w = c->in[1];
    OD_TRY(eng_check_types(c, 1, x->dtype, st));
    if (x->rank != 3 || w->rank != 3 || w->dims[0] != x->dims[1] || w->dims[1] != 1 || w->dims[2] < 1) {
        char have[80], other[80];
        return od_fail(st, OD_BAD_SHAPE, "input is %s, weight %s", eng_tensor_text(x, have, sizeof have), eng_tensor_text(w, other, sizeof other));
    }
    int64_t state[3] = {x->dims[0], x->dims[1], w->dims[2] - 1};
    if (has(c, 2) && (c->in[2]->rank != 1 || c->in[2]->dims[0] != x->dims[1])) return od_fail(st, OD_BAD_SHAPE, "bias does not fit %" PRId64 " channels", x->dims[1]);
    if (has(c, 3) && (c->in[3]->rank != 3 || memcmp(c->in[3]->dims, state, sizeof state)))
        return od_fail(st, OD_BAD_SHAPE, "past_state has not the shape of the last %" PRId64 " values", state[2]);
    if (!eng_node_string_is(n, "activation", "none", "none") && !eng_node_string_is(n, "activation", "", "silu") && !eng_node_string_is(n, "activation", "", "swish"))
        return od_fail(st, OD_BAD_ARGUMENT, "activation is none of none, silu, swish");
    OD_TRY(eng_set_out(c, 0, x->dtype, 3, x->dims, st));
    return eng_set_out(c, 1, x->dtype, 3, state, st);
}

/* Value `at` of a channel's sequence: negative ones are the past. */
static float value_at(const job *j, int64_t row, int64_t at)
{
    if (at >= 0) return j->x[row * j->length + at];
    return j->past ? j->past[row * (j->k - 1) + j->k - 1 + at] : 0.0f;
}

static void run_row(void *arg, int64_t row, int slot)
{
    const job *j = arg;
    const float *x = j->x + row * j->length, *w = j->w + row % j->channels * j->k;
    float *y = j->y + row * j->length, bias = j->bias ? j->bias[row % j->channels] : 0.0f;
    int64_t back = j->k - 1, early = od_min_i64(back, j->length);
    (void)slot;
    for (int64_t i = 0; i < j->length; i++) y[i] = bias;
    for (int64_t t = 0; t < j->k; t++) {
        for (int64_t i = 0; i < early; i++) y[i] += w[t] * value_at(j, row, i - back + t);
        for (int64_t i = early; i < j->length; i++) y[i] += w[t] * x[i - back + t];
    }
    if (j->silu) eng_kernels_get()->act_f32(ENG_ACT_SILU, 1.0f, 0.0f, y, y, j->length);
    for (int64_t i = 0; j->present && i < back; i++) j->present[row * back + i] = value_at(j, row, j->length - back + i);
}

od_code eng_causal_conv_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0], *w = c->in[1];
    job j = {.x = x->data, .w = w->data, .bias = has(c, 2) ? c->in[2]->data : NULL, .past = has(c, 3) ? c->in[3]->data : NULL,
             .y = c->out[0]->data, .present = c->n_out > 1 && c->out[1] ? c->out[1]->data : NULL, .channels = x->dims[1],
             .length = x->dims[2], .k = w->dims[2], .silu = !eng_node_string_is(c->node, "activation", "none", "none")};
    (void)st;
    od_pool_for(x->dims[2] * x->dims[1] * x->dims[0] > 4096 ? c->pool : NULL, x->dims[0] * x->dims[1], run_row, &j);
    return OD_OK;
}
