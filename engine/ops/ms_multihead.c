/* ms_multihead.c - ONNX Runtime's MultiHeadAttention and GroupQueryAttention. */
#include "engine/ops/ms_attention.h"
#include "engine/ops/ops.h"
#include "engine/ops/rotary.h"

#include <math.h>
#include <string.h>

enum { B = ENG_ATT_B, H = ENG_ATT_H, L = ENG_ATT_L, D = ENG_ATT_D };

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static eng_tensor *output(const eng_ctx *c, int k)
{
    return k < c->n_out ? c->out[k] : NULL;
}

/* ---- MultiHeadAttention -------------------------------------------------------------------- */

enum { MHA_Q, MHA_K, MHA_V, MHA_BIAS, MHA_PADDING, MHA_MORE, MHA_PAST_K, MHA_PAST_V };

typedef struct mha {
    eng_att_view q, k, v;
    int64_t past;
    bool ready; /* k and v are [item, head, row, channel] of earlier and get no bias */
} mha;

/* A [items, rows, heads, parts, channels] tensor: one of its parts. */
static eng_att_view packed_part(const eng_tensor *t, int part)
{
    int64_t parts = t->dims[3], d = t->dims[4], heads = t->dims[2], row = heads * parts * d;
    return (eng_att_view){.data = t->data ? (const float *)t->data + part * d : NULL, .dims = {t->dims[0], heads, t->dims[1], d},
                          .strides = {t->dims[1] * row, parts * d, row, 1}};
}

static od_code look_mha(const eng_ctx *c, mha *m, od_status *st)
{
    const eng_tensor *q = input(c, MHA_Q), *k = input(c, MHA_K), *v = input(c, MHA_V), *past = input(c, MHA_PAST_K);
    int64_t heads = eng_node_int(c->node, "num_heads", 0);
    *m = (mha){0};
    if (!q || heads < 1) return od_fail(st, OD_BAD_MODEL, "query and num_heads are wanted");
    if (q->rank == 5 && !k && !v) { /* q, k and v beside each other */
        if (q->dims[3] != 3 || q->dims[2] != heads) return od_fail(st, OD_BAD_SHAPE, "the packed query is not [items, rows, heads, 3, channels]");
        m->q = packed_part(q, 0);
        m->k = packed_part(q, 1);
        m->v = packed_part(q, 2);
    } else {
        if (q->rank != 3 || q->dims[2] % heads) return od_fail(st, OD_BAD_SHAPE, "the query is not [items, rows, heads * channels]");
        m->q = eng_att_rows(q, heads, 0, 0);
        if (k && k->rank == 5 && !v) {
            if (k->dims[3] != 2) return od_fail(st, OD_BAD_SHAPE, "the packed key is not [items, rows, heads, 2, channels]");
            m->k = packed_part(k, 0);
            m->v = packed_part(k, 1);
        } else {
            for (int i = MHA_K; i <= MHA_V; i++) {
                const eng_tensor *t = input(c, i);
                if (!t || t->rank < 3 || t->rank > 4 || (t->rank == 3 && t->dims[2] % heads))
                    return od_fail(st, OD_BAD_SHAPE, "input %d has rank %d", i, t ? t->rank : -1);
            }
            m->k = eng_att_rows(k, heads, 0, 0);
            m->v = eng_att_rows(v, heads, 0, 0);
            m->ready = k->rank == 4;
        }
    }
    if (m->k.dims[B] != m->q.dims[B] || m->v.dims[B] != m->q.dims[B] || m->k.dims[H] != heads || m->v.dims[H] != heads ||
        m->k.dims[D] != m->q.dims[D] || m->k.dims[L] != m->v.dims[L])
        return od_fail(st, OD_BAD_SHAPE, "query, key and value do not fit each other");
    int64_t width = heads * (m->q.dims[D] + m->k.dims[D] + m->v.dims[D]);
    const eng_tensor *bias = input(c, MHA_BIAS);
    if (bias && (bias->rank != 1 || bias->dims[0] != width)) return od_fail(st, OD_BAD_SHAPE, "the bias does not have %" PRId64 " numbers", width);
    if (!past) return OD_OK;
    const eng_tensor *pv = input(c, MHA_PAST_V);
    if (!pv || past->rank != 4 || pv->rank != 4 || past->dims[0] != m->q.dims[B] || past->dims[1] != heads || past->dims[3] != m->k.dims[D] ||
        pv->dims[0] != m->q.dims[B] || pv->dims[1] != heads || pv->dims[3] != m->v.dims[D] || past->dims[2] != pv->dims[2] || input(c, 8))
        return od_fail(st, OD_BAD_SHAPE, "past_key and past_value do not fit");
    m->past = past->dims[2];
    return OD_OK;
}

od_code eng_mha_infer(eng_ctx *c, od_status *st)
{
    mha m;
    OD_TRY(look_mha(c, &m, st));
    eng_dtype type = c->in[0]->dtype;
    int64_t items = m.q.dims[B], heads = m.q.dims[H], rows = m.q.dims[L], total = m.past + m.k.dims[L], scores[4] = {items, heads, rows, total};
    OD_TRY(eng_ms_check_bias(input(c, MHA_MORE), scores, st));
    OD_TRY(eng_ms_check_mask(input(c, MHA_PADDING), scores, st));
    OD_TRY(eng_set_out(c, 0, type, 3, (int64_t[]){items, rows, heads * m.v.dims[D]}, st));
    OD_TRY(eng_set_out(c, 1, type, 4, (int64_t[]){items, heads, total, m.k.dims[D]}, st));
    OD_TRY(eng_set_out(c, 2, type, 4, (int64_t[]){items, heads, total, m.v.dims[D]}, st));
    return eng_set_out(c, 3, type, 4, scores, st);
}

static eng_att_view dense_view(const float *data, const eng_att_view *like)
{
    int64_t d = like->dims[D], head = like->dims[L] * d;
    eng_att_view v = {.data = data, .strides = {head * like->dims[H], head, d, 1}};
    memcpy(v.dims, like->dims, sizeof v.dims);
    return v;
}

/* v plus a bias a channel of each head, in scratch. */
static od_code add_bias(eng_ctx *c, const float *bias, eng_att_view *v, od_status *st)
{
    int64_t n = v->dims[B] * v->dims[H] * v->dims[L], d = v->dims[D];
    float *to = od_arena_array(c->scratch, float, n * d);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " rows", n);
    for (int64_t r = 0; r < n; r++) {
        int64_t i = r % v->dims[L], h = r / v->dims[L] % v->dims[H], b = r / v->dims[L] / v->dims[H];
        const float *from = v->data + b * v->strides[B] + h * v->strides[H] + i * v->strides[L];
        for (int64_t k = 0; k < d; k++) to[r * d + k] = from[k * v->strides[D]] + bias[h * d + k];
    }
    *v = dense_view(to, v);
    return OD_OK;
}

/* Past rows before the new ones, in the output where it is read. */
static od_code join(eng_ctx *c, const eng_tensor *past, eng_tensor *out, eng_att_view *now, od_status *st)
{
    eng_att_view before = {0};
    if (!past && !out) return OD_OK;
    if (past) before = eng_att_rows(past, now->dims[H], 0, 0);
    eng_att_view all = *now;
    all.dims[L] += before.dims[L];
    float *to = out ? out->data : od_arena_array(c->scratch, float, all.dims[B] * all.dims[H] * all.dims[L] * all.dims[D]);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " keys", all.dims[L]);
    eng_att_concat(&before, now, to, c->pool);
    *now = dense_view(to, &all);
    return OD_OK;
}

od_code eng_mha_run(eng_ctx *c, od_status *st)
{
    mha m;
    OD_TRY(look_mha(c, &m, st));
    const float *bias = input(c, MHA_BIAS) ? c->in[MHA_BIAS]->data : NULL;
    int64_t heads = m.q.dims[H], width = heads * m.q.dims[D];
    if (bias) OD_TRY(add_bias(c, bias, &m.q, st));
    if (bias && !m.ready) {
        OD_TRY(add_bias(c, bias + width, &m.k, st));
        OD_TRY(add_bias(c, bias + 2 * width, &m.v, st));
    }
    OD_TRY(join(c, input(c, MHA_PAST_K), output(c, 1), &m.k, st));
    OD_TRY(join(c, input(c, MHA_PAST_V), output(c, 2), &m.v, st));
    eng_attention a = {.q = m.q, .k = m.k, .v = m.v, .left = -1, .right = -1, .past = m.past, .keys = m.k.dims[L],
                       .causal = eng_node_int(c->node, "unidirectional", 0), .scale = eng_node_float(c->node, "scale", 0.0f)};
    if (a.scale == 0.0f) a.scale = (float)(1.0 / sqrt((double)m.q.dims[D]));
    OD_TRY(eng_ms_set_mask(c, input(c, MHA_PADDING), input(c, MHA_MORE), eng_node_float(c->node, "mask_filter_value", -10000.0f), &a, st));
    if (output(c, 3)) a.tap = c->out[3]->data;
    if (!output(c, 0)) return OD_OK;
    a.out = eng_att_rows(c->out[0], heads, 0, 0);
    return eng_attention_run(&a, c->scratch, c->pool, st);
}

/* ---- GroupQueryAttention ------------------------------------------------------------------- */

enum { GQA_Q, GQA_K, GQA_V, GQA_PAST_K, GQA_PAST_V, GQA_LENGTHS, GQA_TOTAL, GQA_COS, GQA_SIN, GQA_POSITIONS, GQA_MORE, GQA_SINK };

typedef struct gqa {
    eng_att_view q, k, v;
    int64_t past, total, present; /* rows of the past buffer, of all sequences at most, of the present one */
} gqa;

/* What ONNX Runtime has beyond floats in and out: told at load. */
od_code eng_gqa_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    static const char *const inputs[] = {"k_scale", "v_scale", "q_norm_weight", "k_norm_weight", "query_seqlens"};
    (void)g, (void)pool;
    if (!eng_node_string_is(n, "k_quant_type", "NONE", "NONE") || !eng_node_string_is(n, "v_quant_type", "NONE", "NONE"))
        return od_fail(st, OD_UNSUPPORTED, "a quantized cache of keys and values (k_quant_type, v_quant_type)");
    if (eng_node_int(n, "sliding_window_cache", 0)) return od_fail(st, OD_UNSUPPORTED, "sliding_window_cache");
    if (eng_node_int(n, "qk_output", 0) || (n->n_out > 3 && n->out[3] >= 0)) return od_fail(st, OD_UNSUPPORTED, "output_qk");
    for (int i = GQA_SINK + 1; i < n->n_in; i++)
        if (n->in[i] >= 0) return od_fail(st, OD_UNSUPPORTED, "input %d, %s", i, i - GQA_SINK <= (int)OD_COUNT(inputs) ? inputs[i - GQA_SINK - 1] : "?");
    return OD_OK;
}

static od_code look_gqa(const eng_ctx *c, gqa *g, od_status *st)
{
    const eng_tensor *q = input(c, GQA_Q), *k = input(c, GQA_K), *v = input(c, GQA_V), *lengths = input(c, GQA_LENGTHS), *total = input(c, GQA_TOTAL);
    int64_t heads = eng_node_int(c->node, "num_heads", 0), kv = eng_node_int(c->node, "kv_num_heads", 0);
    *g = (gqa){0};
    if (!q || q->rank != 3 || heads < 1 || kv < 1 || heads % kv) return od_fail(st, OD_BAD_SHAPE, "query [items, rows, channels] for %" PRId64 " of %" PRId64 " heads", kv, heads);
    if (!k != !v) return od_fail(st, OD_BAD_MODEL, "key and value come together");
    if (!k) {
        int64_t d = q->dims[2] / (heads + 2 * kv);
        if (d * (heads + 2 * kv) != q->dims[2]) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " channels of q, k and v", q->dims[2]);
        g->q = eng_att_rows(q, heads, 0, d);
        g->k = eng_att_rows(q, kv, heads * d, d);
        g->v = eng_att_rows(q, kv, (heads + kv) * d, d);
    } else {
        if (k->rank != 3 || v->rank != 3 || q->dims[2] % heads || k->dims[2] % kv || v->dims[2] % kv)
            return od_fail(st, OD_BAD_SHAPE, "key and value are not [items, rows, channels]");
        g->q = eng_att_rows(q, heads, 0, 0);
        g->k = eng_att_rows(k, kv, 0, 0);
        g->v = eng_att_rows(v, kv, 0, 0);
    }
    for (int i = 0; i < ENG_ATT_AXES; i++)
        if (i != H && (g->k.dims[i] != g->q.dims[i] || g->v.dims[i] != g->q.dims[i])) return od_fail(st, OD_BAD_SHAPE, "query, key and value differ");
    if (!lengths || lengths->dtype != ENG_INT32 || eng_tensor_count(lengths) != g->q.dims[B] || !total || total->dtype != ENG_INT32 ||
        eng_tensor_count(total) != 1)
        return od_fail(st, OD_BAD_SHAPE, "seqlens_k and total_sequence_length are not int32, one an item and one");
    OD_TRY(eng_need(c, GQA_TOTAL));
    g->total = eng_tensor_int(total, 0);
    for (int i = GQA_PAST_K; i <= GQA_PAST_V; i++) {
        const eng_tensor *t = input(c, i);
        if (!t) continue;
        if (t->rank != 4 || t->dims[0] != g->q.dims[B] || t->dims[1] != kv || t->dims[3] != g->k.dims[D] || (i == GQA_PAST_V && t->dims[2] != g->past))
            return od_fail(st, OD_BAD_SHAPE, "input %d does not fit", i);
        g->past = t->dims[2];
    }
    if (!input(c, GQA_PAST_K) != !input(c, GQA_PAST_V)) return od_fail(st, OD_BAD_MODEL, "past_key and past_value come together");
    if (g->total < g->q.dims[L]) return od_fail(st, OD_BAD_VALUE, "total_sequence_length is %" PRId64 " for %" PRId64 " rows", g->total, g->q.dims[L]);
    g->present = od_max_i64(g->past, g->total);
    return OD_OK;
}

od_code eng_gqa_infer(eng_ctx *c, od_status *st)
{
    gqa g;
    OD_TRY(look_gqa(c, &g, st));
    eng_dtype type = c->in[0]->dtype;
    int64_t kv = g.k.dims[H], d = g.q.dims[D], cache[4] = {g.q.dims[B], kv, g.present, d};
    const eng_tensor *cosines = input(c, GQA_COS), *sines = input(c, GQA_SIN), *positions = input(c, GQA_POSITIONS), *sink = input(c, GQA_SINK);
    if (eng_node_int(c->node, "do_rotary", 0)) {
        if (!cosines || !sines || cosines->rank != 2 || !eng_dims_equal(cosines, sines) || cosines->dims[1] * 2 > d)
            return od_fail(st, OD_BAD_SHAPE, "cos_cache and sin_cache do not fit %" PRId64 " channels", d);
        if (positions && (positions->dtype != ENG_INT64 || eng_tensor_count(positions) != g.q.dims[B] * g.q.dims[L]))
            return od_fail(st, OD_BAD_SHAPE, "position_ids do not fit the rows");
    }
    if (sink && eng_tensor_count(sink) != g.q.dims[H]) return od_fail(st, OD_BAD_SHAPE, "head_sink has %" PRId64 " numbers", eng_tensor_count(sink));
    int64_t scores[4] = {g.q.dims[B], g.q.dims[H], g.q.dims[L], g.total};
    OD_TRY(eng_ms_check_bias(input(c, GQA_MORE), scores, st));
    OD_TRY(eng_set_out(c, 0, type, 3, (int64_t[]){g.q.dims[B], g.q.dims[L], g.q.dims[H] * d}, st));
    OD_TRY(eng_set_out(c, 1, type, 4, cache, st));
    return eng_set_out(c, 2, type, 4, cache, st);
}

/* The place of the first new row of an item, and its keys in all. */
static od_code place_of(const eng_ctx *c, const gqa *g, int64_t item, int64_t *first, int64_t *length, od_status *st)
{
    int64_t rows = g->q.dims[L];
    *length = eng_tensor_int(c->in[GQA_LENGTHS], item) + 1;
    *first = g->total == rows ? 0 : *length - rows; /* a prompt may be padded behind its end */
    if (*length < 1 || *length > g->total || *first < 0 || *first > g->past)
        return od_fail(st, OD_BAD_VALUE, "item %" PRId64 " has %" PRId64 " of %" PRId64 " keys", item, *length, g->total);
    return OD_OK;
}

/* Turn the rows of every head into scratch. */
static od_code turn(eng_ctx *c, const gqa *g, const int64_t *first, eng_att_view *v, od_status *st)
{
    const eng_tensor *cosines = c->in[GQA_COS], *positions = input(c, GQA_POSITIONS);
    int64_t n = v->dims[B] * v->dims[H] * v->dims[L], d = v->dims[D], pairs = cosines->dims[1];
    bool interleaved = eng_node_int(c->node, "rotary_interleaved", 0);
    float *to = od_arena_array(c->scratch, float, n * d);
    (void)g;
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " rows", n);
    for (int64_t r = 0; r < n; r++) {
        int64_t i = r % v->dims[L], h = r / v->dims[L] % v->dims[H], b = r / v->dims[L] / v->dims[H];
        int64_t place = positions ? ((const int64_t *)positions->data)[b * v->dims[L] + i] : first[b] + i;
        if (place < 0 || place >= cosines->dims[0]) return od_fail(st, OD_BAD_VALUE, "position %" PRId64 " of %" PRId64, place, cosines->dims[0]);
        const float *from = v->data + b * v->strides[B] + h * v->strides[H] + i * v->strides[L];
        eng_rotate(from, (const float *)cosines->data + place * pairs, (const float *)c->in[GQA_SIN]->data + place * pairs, pairs, interleaved, to + r * d);
        memcpy(to + r * d + 2 * pairs, from + 2 * pairs, (size_t)(d - 2 * pairs) * sizeof(float));
    }
    *v = dense_view(to, v);
    return OD_OK;
}

/* The cache with the new rows at their places; rows that hold nothing are zero. */
static od_code fill_cache(eng_ctx *c, const gqa *g, const int64_t *first, const eng_tensor *past, eng_tensor *out, eng_att_view *now, od_status *st)
{
    eng_att_view all = *now;
    int64_t d = now->dims[D];
    all.dims[L] = g->present;
    float *to = out ? out->data : od_arena_array(c->scratch, float, all.dims[B] * all.dims[H] * g->present * d);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " keys", g->present);
    all = dense_view(to, &all);
    for (int64_t u = 0; u < all.dims[B] * all.dims[H]; u++) {
        int64_t b = u / all.dims[H], h = u % all.dims[H], used = past ? od_min_i64(g->past, first[b]) : 0, rows = od_min_i64(now->dims[L], g->present - first[b]);
        float *row = to + u * g->present * d;
        if (used) memcpy(row, (const float *)past->data + u * g->past * d, (size_t)(used * d) * sizeof(float));
        memset(row + used * d, 0, (size_t)((g->present - used) * d) * sizeof(float));
        for (int64_t i = 0; i < rows; i++)
            memcpy(row + (first[b] + i) * d, now->data + b * now->strides[B] + h * now->strides[H] + i * now->strides[L], (size_t)d * sizeof(float));
    }
    *now = all;
    return OD_OK;
}

od_code eng_gqa_run(eng_ctx *c, od_status *st)
{
    gqa g;
    OD_TRY(look_gqa(c, &g, st));
    int64_t items = g.q.dims[B], window = eng_node_int(c->node, "local_window_size", -1);
    int64_t *first = od_arena_array(c->scratch, int64_t, items), *length = od_arena_array(c->scratch, int64_t, items);
    float *zeros = od_arena_array(c->scratch, float, g.q.dims[H]);
    if (!first || !length || !zeros) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " lengths", items);
    for (int64_t b = 0; b < items; b++) OD_TRY(place_of(c, &g, b, &first[b], &length[b], st));
    if (eng_node_int(c->node, "do_rotary", 0)) {
        OD_TRY(turn(c, &g, first, &g.q, st));
        OD_TRY(turn(c, &g, first, &g.k, st));
    }
    OD_TRY(fill_cache(c, &g, first, input(c, GQA_PAST_K), output(c, 1), &g.k, st));
    OD_TRY(fill_cache(c, &g, first, input(c, GQA_PAST_V), output(c, 2), &g.v, st));
    if (!output(c, 0)) return OD_OK;
    g.k.dims[L] = g.v.dims[L] = g.total; /* the cache may be longer */
    eng_attention a = {.q = g.q, .k = g.k, .v = g.v, .scale = eng_node_float(c->node, "scale", 0.0f), .keys = g.total,
                       .softcap = eng_node_float(c->node, "softcap", 0.0f), .causal = eng_node_int(c->node, "causal", 1),
                       .left = window > 0 ? window - 1 : -1, .right = -1, .offsets = first};
    if (g.total != g.q.dims[L]) a.lengths = length; /* rows behind the end of a prompt are the caller's to ignore */
    if (a.scale == 0.0f) a.scale = (float)(1.0 / sqrt((double)g.q.dims[D]));
    if (input(c, GQA_SINK)) a.sinks = c->in[GQA_SINK]->data;
    else if (eng_node_int(c->node, "smooth_softmax", 0) > 0) a.sinks = zeros;
    if (input(c, GQA_MORE)) a.mask = eng_att_mask(c->in[GQA_MORE]);
    a.out = eng_att_rows(c->out[0], g.q.dims[H], 0, 0);
    return eng_attention_run(&a, c->scratch, c->pool, st);
}
