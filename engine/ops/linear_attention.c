/* linear_attention.c - LinearAttention: a state of [d_k, d_v] a head, updated row by row. */
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

enum { IN_Q, IN_K, IN_V, IN_PAST, IN_DECAY, IN_BETA };

typedef struct rule {
    bool gated, delta;
} rule;

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static od_code rule_of(const eng_ctx *c, rule *r, od_status *st)
{
    static const struct {
        const char *name;
        rule r;
    } rules[] = {{"linear", {false, false}}, {"gated", {true, false}}, {"delta", {false, true}}, {"gated_delta", {true, true}}};
    for (size_t i = 0; i < OD_COUNT(rules); i++)
        if (eng_node_string_is(c->node, "update_rule", "gated_delta", rules[i].name)) return *r = rules[i].r, OD_OK;
    return od_fail(st, OD_BAD_ARGUMENT, "unknown update_rule");
}

od_code eng_linear_attention_infer(eng_ctx *c, od_status *st)
{
    rule r = {0};
    int64_t hq = eng_node_int(c->node, "q_num_heads", 0), hk = eng_node_int(c->node, "kv_num_heads", 0);
    OD_TRY(rule_of(c, &r, st));
    if (hq < 1 || hk < 1 || hq % hk) return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " heads of q, %" PRId64 " of k", hq, hk);
    for (int i = IN_Q; i <= IN_BETA; i++) {
        const eng_tensor *t = input(c, i);
        bool needed = i <= IN_V || (i == IN_DECAY && r.gated) || (i == IN_BETA && r.delta);
        if (i == IN_PAST) continue;
        if (!t && needed) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
        if (t && !needed) return od_fail(st, OD_BAD_MODEL, "input %d is not for this update_rule", i);
        if (t && (t->rank != 3 || t->dims[0] != c->in[0]->dims[0] || t->dims[1] != c->in[0]->dims[1]))
            return od_fail(st, OD_BAD_SHAPE, "input %d is not [items, rows, channels] as the query is", i);
    }
    int64_t dk = c->in[IN_Q]->dims[2] / hq, dv = c->in[IN_V]->dims[2] / hk, items = c->in[0]->dims[0], rows = c->in[0]->dims[1];
    if (dk * hq != c->in[IN_Q]->dims[2] || dk * hk != c->in[IN_K]->dims[2] || dv * hk != c->in[IN_V]->dims[2])
        return od_fail(st, OD_BAD_SHAPE, "channels of q, k and v do not fit %" PRId64 " and %" PRId64 " heads", hq, hk);
    int64_t state[4] = {items, hk, dk, dv}, y[3] = {items, rows, hq * dv};
    const eng_tensor *past = input(c, IN_PAST);
    if (past && (past->rank != 4 || memcmp(past->dims, state, sizeof state))) return od_fail(st, OD_BAD_SHAPE, "past_state does not fit");
    if (r.gated && c->in[IN_DECAY]->dims[2] != hk && c->in[IN_DECAY]->dims[2] != hk * dk)
        return od_fail(st, OD_BAD_SHAPE, "decay has %" PRId64 " channels", c->in[IN_DECAY]->dims[2]);
    if (r.delta && c->in[IN_BETA]->dims[2] != hk && c->in[IN_BETA]->dims[2] != 1)
        return od_fail(st, OD_BAD_SHAPE, "beta has %" PRId64 " channels", c->in[IN_BETA]->dims[2]);
    OD_TRY(eng_set_out(c, 0, c->in[0]->dtype, 3, y, st));
    return eng_set_out(c, 1, past ? past->dtype : c->in[0]->dtype, 4, state, st);
}

typedef struct linear_job {
    rule r;
    int64_t heads, group, rows, dk, dv;
    const eng_tensor *in[6];
    float *y, *states, scale, *slots; /* slots: dv a slot */
} linear_job;

static const float *row_of(const eng_tensor *t, int64_t item, int64_t row, int64_t from)
{
    return (const float *)t->data + (item * t->dims[1] + row) * t->dims[2] + from;
}

/* One head of one item, through all rows. */
static void run_head(void *arg, int64_t unit, int slot)
{
    const linear_job *j = arg;
    int64_t item = unit / j->heads, h = unit % j->heads, dk = j->dk, dv = j->dv;
    float *s = j->states + unit * dk * dv, *write = j->slots + slot * dv;
    for (int64_t t = 0; t < j->rows; t++) {
        const float *k = row_of(j->in[IN_K], item, t, h * dk), *v = row_of(j->in[IN_V], item, t, h * dv);
        if (j->r.gated) {
            bool by_channel = j->in[IN_DECAY]->dims[2] != j->heads;
            const float *g = row_of(j->in[IN_DECAY], item, t, by_channel ? h * dk : h);
            for (int64_t d = 0; d < dk; d++) {
                float f = expf(g[by_channel ? d : 0]);
                for (int64_t m = 0; m < dv; m++) s[d * dv + m] *= f;
            }
        }
        memcpy(write, v, (size_t)dv * sizeof *write);
        if (j->r.delta) {
            float beta = *row_of(j->in[IN_BETA], item, t, j->in[IN_BETA]->dims[2] == 1 ? 0 : h);
            for (int64_t d = 0; d < dk; d++)
                for (int64_t m = 0; m < dv; m++) write[m] -= s[d * dv + m] * k[d];
            for (int64_t m = 0; m < dv; m++) write[m] *= beta;
        }
        for (int64_t d = 0; d < dk; d++)
            for (int64_t m = 0; m < dv; m++) s[d * dv + m] += k[d] * write[m];
        for (int64_t g = h * j->group; g < (h + 1) * j->group; g++) {
            const float *q = row_of(j->in[IN_Q], item, t, g * dk);
            float *y = j->y + ((item * j->rows + t) * j->heads * j->group + g) * dv;
            for (int64_t m = 0; m < dv; m++) y[m] = 0.0f;
            for (int64_t d = 0; d < dk; d++)
                for (int64_t m = 0; m < dv; m++) y[m] += q[d] * s[d * dv + m];
            for (int64_t m = 0; m < dv; m++) y[m] *= j->scale;
        }
    }
}

od_code eng_linear_attention_run(eng_ctx *c, od_status *st)
{
    linear_job j = {.heads = eng_node_int(c->node, "kv_num_heads", 1), .rows = c->in[0]->dims[1],
                    .scale = eng_node_float(c->node, "scale", 0.0f)};
    OD_TRY(rule_of(c, &j.r, st));
    for (int i = 0; i < 6; i++) j.in[i] = input(c, i);
    j.group = eng_node_int(c->node, "q_num_heads", 1) / j.heads;
    j.dk = c->in[IN_K]->dims[2] / j.heads;
    j.dv = c->in[IN_V]->dims[2] / j.heads;
    if (j.scale == 0.0f) j.scale = (float)(1.0 / sqrt((double)j.dk));
    int64_t units = c->in[0]->dims[0] * j.heads, count = units * j.dk * j.dv;
    bool kept = c->n_out > 1 && c->out[1];
    j.states = kept ? c->out[1]->data : od_arena_array(c->scratch, float, count);
    j.slots = od_arena_array(c->scratch, float, j.dv * od_pool_slots(c->pool));
    float *spare = c->out[0] ? NULL : od_arena_array(c->scratch, float, units * j.group * j.rows * j.dv);
    j.y = c->out[0] ? c->out[0]->data : spare;
    if (!j.states || !j.slots || !j.y) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " states", units);
    if (input(c, IN_PAST)) memcpy(j.states, c->in[IN_PAST]->data, (size_t)count * sizeof(float));
    else memset(j.states, 0, (size_t)count * sizeof(float));
    od_pool_for(c->pool, units, run_head, &j);
    return OD_OK;
}
