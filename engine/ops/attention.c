/* attention.c - ai.onnx Attention, opsets 23 to 25. Q, K, V are [item, head, row, channel] or [item, row,
 * head * channel]; heads of K and V may be shared by groups of Q's. Doubles go through plain loops. */
#include "engine/ops/attention.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

enum { B = ENG_ATT_B, H = ENG_ATT_H, L = ENG_ATT_L, D = ENG_ATT_D };
enum { IN_Q, IN_K, IN_V, IN_MASK, IN_PAST_K, IN_PAST_V, IN_LENGTHS };

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static eng_tensor *output(const eng_ctx *c, int k)
{
    return k < c->n_out ? c->out[k] : NULL;
}

/* [item, head, row, channel] of Q, K or V. */
static od_code heads_of(const eng_ctx *c, int i, int64_t *dims, od_status *st)
{
    static const char *const names[] = {"Q", "K", "V"};
    const eng_tensor *t = input(c, i);
    if (!t || t->rank < 3 || t->rank > 4 || t->rank != c->in[0]->rank)
        return od_fail(st, OD_BAD_SHAPE, "%s has rank %d, wanted 3 or 4 for all of Q, K, V", names[i], t ? t->rank : -1);
    if (t->rank == 4) {
        memcpy(dims, t->dims, 4 * sizeof *dims);
    } else {
        const char *name = i == IN_Q ? "q_num_heads" : "kv_num_heads";
        int64_t heads = eng_node_int(c->node, name, 0);
        if (heads < 1 || t->dims[2] % heads)
            return od_fail(st, OD_BAD_ARGUMENT, "%s is %" PRId64 " for %" PRId64 " channels of %s", name, heads, t->dims[2], names[i]);
        dims[B] = t->dims[0];
        dims[H] = heads;
        dims[L] = t->dims[1];
        dims[D] = t->dims[2] / heads;
    }
    return OD_OK;
}

static od_code check_past(const eng_ctx *c, int i, const int64_t *now, int64_t *past, od_status *st)
{
    const eng_tensor *t = input(c, i);
    *past = 0;
    if (!t) return OD_OK;
    if (t->rank != 4 || t->dims[0] != now[B] || t->dims[1] != now[H] || t->dims[3] != now[D])
        return od_fail(st, OD_BAD_SHAPE, "input %d does not fit the new keys and values", i);
    *past = t->dims[2];
    return OD_OK;
}

static od_code check_mask(const eng_ctx *c, const int64_t *scores, od_status *st)
{
    const eng_tensor *m = input(c, IN_MASK);
    if (!m) return OD_OK;
    if (m->rank < 1 || m->rank > 4) return od_fail(st, OD_BAD_SHAPE, "the mask has rank %d", m->rank);
    for (int d = 1; d <= m->rank; d++) {
        int64_t have = m->dims[m->rank - d], want = scores[4 - d];
        if (d == 1 ? have > want : have != 1 && have != want)
            return od_fail(st, OD_BAD_SHAPE, "the mask has an extent of %" PRId64 " where the scores have %" PRId64, have, want);
    }
    return OD_OK;
}

/* q, k and v by head; past rows. */
static od_code look(const eng_ctx *c, int64_t (*dims)[4], int64_t *past, od_status *st)
{
    for (int i = IN_Q; i <= IN_V; i++) OD_TRY(heads_of(c, i, dims[i], st));
    const int64_t *q = dims[IN_Q], *k = dims[IN_K], *v = dims[IN_V];
    if (q[B] != k[B] || k[B] != v[B] || k[H] != v[H] || k[L] != v[L] || q[D] != k[D] || !k[H] || q[H] % k[H])
        return od_fail(st, OD_BAD_SHAPE, "Q is %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 ", K %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64
                       ", V with %" PRId64 " heads and %" PRId64 " rows", q[B], q[H], q[L], q[D], k[B], k[H], k[L], k[D], v[H], v[L]);
    if (!input(c, IN_PAST_K) != !input(c, IN_PAST_V)) return od_fail(st, OD_BAD_MODEL, "past_key and past_value come together");
    int64_t past_v;
    OD_TRY(check_past(c, IN_PAST_K, k, past, st));
    OD_TRY(check_past(c, IN_PAST_V, v, &past_v, st));
    return *past == past_v ? OD_OK : od_fail(st, OD_BAD_SHAPE, "%" PRId64 " past keys, %" PRId64 " past values", *past, past_v);
}

od_code eng_attention_infer(eng_ctx *c, od_status *st)
{
    int64_t d[3][4], past, total;
    if (!input(c, IN_Q)) return od_fail(st, OD_BAD_MODEL, "Q is missing");
    OD_TRY(look(c, d, &past, st));
    eng_dtype type = c->in[IN_Q]->dtype, value = c->in[IN_V]->dtype;
    if (c->in[IN_K]->dtype != type)
        return od_fail(st, OD_BAD_TYPE, "Q is %s, K %s, V %s", eng_dtype_name(type), eng_dtype_name(c->in[IN_K]->dtype), eng_dtype_name(value));
    total = past + d[IN_K][L];
    int64_t scores[4] = {d[0][B], d[0][H], d[0][L], total};
    OD_TRY(check_mask(c, scores, st));
    const eng_tensor *lengths = input(c, IN_LENGTHS);
    if (lengths && (lengths->rank != 1 || lengths->dims[0] != d[0][B] || lengths->dtype != ENG_INT64))
        return od_fail(st, OD_BAD_SHAPE, "nonpad_kv_seqlen is no list of %" PRId64 " int64", d[0][B]);
    if (lengths && input(c, IN_PAST_K)) return od_fail(st, OD_BAD_MODEL, "nonpad_kv_seqlen and past_key exclude each other");
    int64_t width = d[IN_V][D];
    int64_t y4[4] = {d[0][B], d[0][H], d[0][L], width}, y3[3] = {d[0][B], d[0][L], d[0][H] * width};
    int64_t k[4] = {d[0][B], d[IN_K][H], total, d[IN_K][D]}, v[4] = {d[0][B], d[IN_K][H], total, width};
    OD_TRY(eng_set_out(c, 0, type, c->in[0]->rank, c->in[0]->rank == 4 ? y4 : y3, st));
    OD_TRY(eng_set_out(c, 1, type, 4, k, st));
    OD_TRY(eng_set_out(c, 2, value, 4, v, st));
    return eng_set_out(c, 3, type, 4, scores, st);
}

/* ---- running ------------------------------------------------------------------------------- */

/* Past rows and new ones behind each other: into the output when it is read, else into scratch. */
static od_code join_past(eng_ctx *c, int past, int out, eng_att_view *now, od_status *st)
{
    eng_att_view before = {0};
    if (!input(c, past) && !output(c, out)) return OD_OK;
    if (input(c, past)) before = eng_att_rows(c->in[past], now->dims[H], 0, 0);
    int64_t total = before.dims[L] + now->dims[L];
    float *to = output(c, out) ? c->out[out]->data
                               : od_arena_array(c->scratch, float, now->dims[B] * now->dims[H] * total * now->dims[D]);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " keys", total);
    eng_att_concat(&before, now, to, c->pool);
    now->data = to;
    now->dims[L] = total;
    now->strides[D] = 1;
    now->strides[L] = now->dims[D];
    now->strides[H] = total * now->dims[D];
    now->strides[B] = now->strides[H] * now->dims[H];
    return OD_OK;
}

static od_code set_mask(eng_ctx *c, eng_attention *a, od_status *st)
{
    const eng_tensor *m = input(c, IN_MASK);
    a->keys = a->k.dims[L];
    if (!m) return OD_OK;
    a->keys = m->dims[m->rank - 1]; /* shorter ones end in keys that take no part */
    eng_att_view v = eng_att_mask(m);
    if (m->rank) v.strides[D] = 1;
    if (m->dtype == ENG_BOOL) {
        a->allow = m->data;
        memcpy(a->allow_strides, v.strides, sizeof a->allow_strides);
        return OD_OK;
    }
    if (m->dtype != ENG_FLOAT) {
        int64_t n = eng_tensor_count(m);
        float *wide = od_arena_array(c->scratch, float, n);
        if (!wide) return od_fail(st, OD_NO_MEMORY, "no memory for a mask");
        for (int64_t i = 0; i < n; i++) wide[i] = (float)eng_tensor_double(m, i);
        v.data = wide;
    }
    a->mask = v;
    return OD_OK;
}

static void read_attributes(const eng_ctx *c, eng_attention *a, int64_t width, int64_t past)
{
    a->scale = eng_node_float(c->node, "scale", (float)(1.0 / sqrt((double)width)));
    a->softcap = eng_node_float(c->node, "softcap", 0.0f);
    a->causal = eng_node_int(c->node, "is_causal", 0);
    a->left = eng_node_int(c->node, "left_window_size", -1);
    a->right = eng_node_int(c->node, "right_window_size", -1);
    a->past = past;
    int64_t at = eng_node_int(c->node, "qk_matmul_output_mode", 0);
    a->tap_at = at == 1 ? ENG_ATT_CAPPED : at == 2 ? ENG_ATT_BIASED : at == 3 ? ENG_ATT_PROBABILITIES : ENG_ATT_RAW;
}

static od_code set_lengths(eng_ctx *c, eng_attention *a, od_status *st)
{
    const eng_tensor *t = input(c, IN_LENGTHS);
    if (!t) return OD_OK;
    int64_t *offsets = od_arena_array(c->scratch, int64_t, t->dims[0]);
    if (!offsets) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " lengths", t->dims[0]);
    a->lengths = t->data;
    for (int64_t i = 0; i < t->dims[0]; i++) {
        if (a->lengths[i] < 0 || a->lengths[i] > a->k.dims[L])
            return od_fail(st, OD_BAD_VALUE, "item %" PRId64 " has %" PRId64 " of %" PRId64 " keys", i, a->lengths[i], a->k.dims[L]);
        offsets[i] = a->lengths[i] - a->q.dims[L];
    }
    a->offsets = offsets;
    return OD_OK;
}

/* Doubles: copies as floats keep the shapes simple, but not the digits, so the definition itself. */
static od_code run_double(eng_ctx *c, int64_t (*d)[4], int64_t past, od_status *st)
{
    const eng_tensor *m = input(c, IN_MASK), *t[3] = {c->in[0], c->in[1], c->in[2]}, *before[3] = {NULL, input(c, IN_PAST_K), input(c, IN_PAST_V)};
    const int64_t *lengths = input(c, IN_LENGTHS) ? input(c, IN_LENGTHS)->data : NULL;
    int64_t total = past + d[IN_K][L], group = d[0][H] / d[1][H], width = d[2][D];
    eng_attention a = {0};
    read_attributes(c, &a, d[0][D], past);
    double scale = (double)a.scale, *s = od_arena_array(c->scratch, double, total + 1);
    eng_att_view mv = eng_att_mask(m);
    if (!s) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " scores", total);
#define AT(i, b, h, r) \
    ((const double *)t[i]->data + (t[i]->rank == 4 ? (((b)*d[i][H] + (h)) * d[i][L] + (r)) * d[i][D] : (((b)*d[i][L] + (r)) * d[i][H] + (h)) * d[i][D]))
#define KEY(i, b, h, r) ((r) < past ? (const double *)before[i]->data + (((b)*d[i][H] + (h)) * past + (r)) * d[i][D] : AT(i, b, h, (r)-past))
    for (int k = 1; k < 3; k++)
        for (int64_t r = 0; output(c, k) && r < d[0][B] * d[k][H] * total; r++)
            memcpy((double *)c->out[k]->data + r * d[k][D], KEY(k, r / total / d[k][H], r / total % d[k][H], r % total),
                   (size_t)d[k][D] * sizeof(double));
    for (int64_t r = 0; r < d[0][B] * d[0][H] * d[0][L]; r++) {
        int64_t b = r / d[0][L] / d[0][H], h = r / d[0][L] % d[0][H], i = r % d[0][L], place = i + (lengths ? lengths[b] - d[0][L] : past);
        const double *q = AT(0, b, h, i);
        double top = -(double)INFINITY, sum = 0.0, *tap = output(c, 3) ? (double *)c->out[3]->data + r * total : NULL;
        for (int64_t k = 0; k < total; k++) {
            const double *key = KEY(1, b, h / group, k);
            double x = 0.0;
            for (int64_t e = 0; e < d[0][D]; e++) x += q[e] * key[e];
            x *= scale;
            if (tap && a.tap_at == ENG_ATT_RAW) tap[k] = x;
            if (a.softcap > 0.0f) x = (double)a.softcap * tanh(x / (double)a.softcap);
            if (tap && a.tap_at == ENG_ATT_CAPPED) tap[k] = x;
            bool sees = (!a.causal || k <= place) && (a.left < 0 || k >= place - a.left) && (a.right < 0 || k <= place + a.right);
            sees = sees && (!lengths || k < lengths[b]) && (!m || k < m->dims[m->rank - 1]);
            int64_t at = b * mv.strides[B] + h * mv.strides[H] + i * mv.strides[L] + k;
            if (sees && m && m->dtype == ENG_BOOL) sees = ((const uint8_t *)m->data)[at];
            else if (sees && m) x += eng_tensor_double(m, at);
            s[k] = sees ? x : -(double)INFINITY;
            if (tap && a.tap_at == ENG_ATT_BIASED) tap[k] = s[k];
            top = fmax(top, s[k]);
        }
        for (int64_t k = 0; k < total; k++) sum += s[k] = isinf(s[k]) ? 0.0 : exp(s[k] - top);
        double *y = (double *)c->out[0]->data + (c->out[0]->rank == 4 ? r * width : ((b * d[0][L] + i) * d[0][H] + h) * width);
        for (int64_t e = 0; e < width; e++) y[e] = 0.0;
        for (int64_t k = 0; k < total; k++) {
            double w = sum > 0.0 ? s[k] / sum : 0.0;
            if (tap && a.tap_at == ENG_ATT_PROBABILITIES) tap[k] = w;
            for (int64_t e = 0; e < width; e++) y[e] += w * KEY(2, b, h / group, k)[e];
        }
    }
#undef AT
#undef KEY
    return OD_OK;
}

/* One of Q and V is double, the other float: both are made double. */
static od_code run_mixed(eng_ctx *c, int64_t (*d)[4], int64_t past, od_status *st)
{
    enum { PORTS = 6 };
    eng_ctx w = *c;
    eng_tensor in[PORTS], out[PORTS];
    const eng_tensor *ins[IN_LENGTHS + 1] = {NULL};
    eng_tensor *outs[4] = {NULL};
    for (int i = 0; i < c->n_in && i <= IN_LENGTHS; i++) {
        ins[i] = c->in[i];
        if (!c->in[i] || c->in[i]->dtype != ENG_FLOAT || i == IN_MASK) continue;
        in[i] = *c->in[i];
        in[i].dtype = ENG_DOUBLE;
        in[i].data = od_arena_alloc(c->scratch, eng_tensor_bytes(&in[i]) + 1);
        if (!in[i].data) return od_fail(st, OD_NO_MEMORY, "no memory to widen input %d", i);
        for (int64_t k = 0; k < eng_tensor_count(&in[i]); k++) ((double *)in[i].data)[k] = (double)((const float *)c->in[i]->data)[k];
        ins[i] = &in[i];
    }
    for (int k = 0; k < c->n_out && k < 4; k++) {
        if (!(outs[k] = c->out[k]) || c->out[k]->dtype == ENG_DOUBLE) continue;
        out[k] = *c->out[k];
        out[k].dtype = ENG_DOUBLE;
        if (!(out[k].data = od_arena_alloc(c->scratch, eng_tensor_bytes(&out[k]) + 1))) return od_fail(st, OD_NO_MEMORY, "no memory to widen output %d", k);
        outs[k] = &out[k];
    }
    w.in = ins;
    w.out = outs;
    w.n_in = (int)od_min_i64(c->n_in, IN_LENGTHS + 1);
    w.n_out = (int)od_min_i64(c->n_out, 4);
    OD_TRY(run_double(&w, d, past, st));
    for (int k = 0; k < w.n_out; k++)
        for (int64_t i = 0; outs[k] && outs[k] != c->out[k] && i < eng_tensor_count(outs[k]); i++)
            ((float *)c->out[k]->data)[i] = (float)((const double *)outs[k]->data)[i];
    return OD_OK;
}

od_code eng_attention_op_run(eng_ctx *c, od_status *st)
{
    int64_t d[3][4], past;
    OD_TRY(look(c, d, &past, st));
    bool doubles[2] = {c->in[0]->dtype == ENG_DOUBLE, c->in[2]->dtype == ENG_DOUBLE};
    if (doubles[0] || doubles[1]) return doubles[0] && doubles[1] ? run_double(c, d, past, st) : run_mixed(c, d, past, st);
    eng_attention a = {.q = eng_att_rows(c->in[0], d[0][H], 0, 0), .k = eng_att_rows(c->in[1], d[1][H], 0, 0),
                       .v = eng_att_rows(c->in[2], d[2][H], 0, 0)};
    if (output(c, 0)) a.out = eng_att_rows(c->out[0], d[0][H], 0, 0);
    read_attributes(c, &a, d[0][D], past);
    OD_TRY(join_past(c, IN_PAST_K, 1, &a.k, st));
    OD_TRY(join_past(c, IN_PAST_V, 2, &a.v, st));
    OD_TRY(set_mask(c, &a, st));
    OD_TRY(set_lengths(c, &a, st));
    if (output(c, 3)) a.tap = c->out[3]->data;
    return eng_attention_run(&a, c->scratch, c->pool, st);
}
