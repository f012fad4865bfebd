/* ms_attention.c - ONNX Runtime's Attention and QAttention: q, k and v come out of one product of the input
 * with [q | k | v] weights. Past and present hold keys and values, [2, item, head, row, channel]. */
#include "engine/kernels/kernels.h"
#include "engine/ops/attention.h"
#include "engine/ops/ms_attention.h"
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

#include <math.h>
#include <string.h>

enum { B = ENG_ATT_B, H = ENG_ATT_H, L = ENG_ATT_L, D = ENG_ATT_D };

/* Where the inputs of the two operators are. */
typedef struct places {
    int bias, mask, past, more; /* more: attention_bias, or -1 */
} places;

static bool quantized(const eng_ctx *c)
{
    return c->node->op_type[0] == 'Q';
}

static places places_of(const eng_ctx *c)
{
    return quantized(c) ? (places){2, 5, 8, -1} : (places){2, 3, 4, 5};
}

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i >= 0 && i < c->n_in ? c->in[i] : NULL;
}

typedef struct shape {
    int64_t items, rows, in, heads, width[3], past; /* width of q, k, v: all heads */
} shape;

static od_code look(const eng_ctx *c, shape *s, od_status *st)
{
    const eng_tensor *x = input(c, 0), *w = input(c, 1), *bias = input(c, 2), *past = input(c, places_of(c).past);
    int64_t count;
    const int64_t *sizes = eng_node_ints(c->node, "qkv_hidden_sizes", &count);
    if (!x || !w || x->rank != 3 || w->rank != 2 || w->dims[0] != x->dims[2])
        return od_fail(st, OD_BAD_SHAPE, "input [items, rows, channels] and weights [channels, q k v] do not fit");
    *s = (shape){.items = x->dims[0], .rows = x->dims[1], .in = x->dims[2], .heads = eng_node_int(c->node, "num_heads", 0)};
    if (sizes && count != 3) return od_fail(st, OD_BAD_ARGUMENT, "qkv_hidden_sizes has %" PRId64 " numbers", count);
    for (int i = 0; i < 3; i++) {
        s->width[i] = sizes ? sizes[i] : w->dims[1] / 3;
        if (s->heads < 1 || s->width[i] < 1 || s->width[i] % s->heads)
            return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " channels for %" PRId64 " heads", s->width[i], s->heads);
    }
    if (s->width[0] != s->width[1] || s->width[0] > w->dims[1] || s->width[0] * 2 + s->width[2] != w->dims[1])
        return od_fail(st, OD_BAD_SHAPE, "weights have %" PRId64 " columns: not what the heads want", w->dims[1]);
    if (bias && (bias->rank != 1 || bias->dims[0] != w->dims[1])) return od_fail(st, OD_BAD_SHAPE, "the bias does not fit the weights");
    if (eng_node_int(c->node, "do_rotary", 0)) return od_fail(st, OD_UNSUPPORTED, "do_rotary");
    if (!past) return OD_OK;
    int64_t d = s->width[0] / s->heads;
    if (past->rank != 5 || past->dims[0] != 2 || past->dims[1] != s->items || past->dims[2] != s->heads || past->dims[4] != d || s->width[2] != s->width[0])
        return od_fail(st, OD_BAD_SHAPE, "past does not fit");
    s->past = past->dims[3];
    return OD_OK;
}

od_code eng_ms_attention_infer(eng_ctx *c, od_status *st)
{
    shape s;
    OD_TRY(look(c, &s, st));
    eng_dtype type = quantized(c) ? ENG_FLOAT : c->in[0]->dtype;
    const eng_tensor *more = input(c, places_of(c).more), *mask = input(c, places_of(c).mask);
    int64_t scores[4] = {s.items, s.heads, s.rows, s.past + s.rows};
    OD_TRY(eng_ms_check_bias(more, scores, st));
    OD_TRY(eng_ms_check_mask(mask, scores, st));
    if ((s.past || (c->n_out > 1 && c->out[1])) && s.width[2] != s.width[0])
        return od_fail(st, OD_UNSUPPORTED, "present of values wider than keys");
    OD_TRY(eng_set_out(c, 0, type, 3, (int64_t[]){s.items, s.rows, s.width[2]}, st));
    return eng_set_out(c, 1, type, 5, (int64_t[]){2, s.items, s.heads, s.past + s.rows, s.width[0] / s.heads}, st);
}

/* ---- masks --------------------------------------------------------------------------------- */

od_code eng_ms_check_bias(const eng_tensor *t, const int64_t *scores, od_status *st)
{
    for (int d = 1; t && d <= t->rank; d++)
        if (t->rank != 4 || (t->dims[4 - d] != 1 && t->dims[4 - d] != scores[4 - d]))
            return od_fail(st, OD_BAD_SHAPE, "attention_bias does not broadcast to the scores");
    return OD_OK;
}

od_code eng_ms_check_mask(const eng_tensor *t, const int64_t *scores, od_status *st)
{
    if (!t) return OD_OK;
    int64_t items = scores[B], rows = scores[L], keys = scores[D], n = t->rank ? t->dims[0] : 0;
    if (t->dtype != ENG_INT32) return od_fail(st, OD_BAD_TYPE, "the mask is %s, wanted int32", eng_dtype_name(t->dtype));
    bool fits = t->rank == 1   ? n == items || n == 2 * items
                : t->rank == 2 ? n == items && t->dims[1] == keys
                : t->rank == 3 ? n == items && t->dims[1] == rows && t->dims[2] == keys
                               : t->rank == 4 && n == items && t->dims[1] == 1 && t->dims[2] >= keys && t->dims[3] == t->dims[2];
    return fits ? OD_OK : od_fail(st, OD_BAD_SHAPE, "the mask does not fit %" PRId64 " items, %" PRId64 " keys", items, keys);
}

od_code eng_ms_set_mask(eng_ctx *c, const eng_tensor *mask, const eng_tensor *bias, float filter, eng_attention *a, od_status *st)
{
    int64_t items = a->q.dims[B], rows = a->q.dims[L], keys = a->k.dims[L], past = keys - rows;
    if (bias) a->mask = eng_att_mask(bias);
    if (!mask) return OD_OK;
    bool by_row = mask->rank > 2 || (bias && bias->dims[2] != 1);
    int64_t heads = bias ? bias->dims[1] : 1, lines = by_row ? rows : 1;
    float *to = od_arena_array(c->scratch, float, items * heads * lines * keys);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for a mask");
    const int32_t *m = mask->data;
    for (int64_t i = 0; i < items * heads * lines * keys; i++) {
        int64_t k = i % keys, l = i / keys % lines, b = i / keys / lines / heads, h = i / keys / lines % heads;
        bool sees;
        if (mask->rank == 1) sees = k < m[b] && (mask->dims[0] == items || k >= m[items + b]);
        else if (mask->rank == 2) sees = m[b * keys + k] > 0;
        else if (mask->rank == 3) sees = m[(b * rows + l) * keys + k] > 0;
        else sees = m[(b * mask->dims[2] + past + l) * mask->dims[3] + k] > 0;
        const eng_att_view *v = &a->mask;
        float add = bias ? v->data[b * v->strides[B] + h * v->strides[H] + l * v->strides[L] + k * v->strides[D]] : 0.0f;
        to[i] = add + (sees ? 0.0f : filter);
    }
    a->mask = (eng_att_view){.data = to, .dims = {items, heads, lines, keys},
                             .strides = {heads * lines * keys, heads == 1 ? 0 : lines * keys, lines == 1 ? 0 : keys, 1}};
    return OD_OK;
}

/* ---- the product --------------------------------------------------------------------------- */

typedef struct params {
    const float *packed; /* [q | k | v] weights; NULL: not constant */
} params;

od_code eng_ms_attention_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    params *p = eng_model_alloc(g, sizeof *p);
    const eng_tensor *w = eng_node_weights(g, n, 1);
    (void)pool;
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for attention");
    n->params = p;
    if (!w || w->rank != 2 || w->dtype != ENG_FLOAT || g->model->probing) return OD_OK;
    eng_product q = {.k = w->dims[0], .n = w->dims[1], .b = w->data, .b_row = w->dims[1], .b_col = 1};
    return eng_product_pack_constant(&q, 1.0f, g, n, 1, &p->packed, st);
}

/* Bytes minus their zero point, and times the scales of their columns, as floats. */
static float *widen(eng_ctx *c, const eng_tensor *t, const eng_tensor *zero, const eng_tensor *scale)
{
    int64_t n = eng_tensor_count(t), columns = t->dims[t->rank - 1];
    float *to = od_arena_array(c->scratch, float, n);
    int64_t zeros = zero ? eng_tensor_count(zero) : 0, scales = scale ? eng_tensor_count(scale) : 0;
    for (int64_t i = 0; to && i < n; i++) {
        int64_t z = zeros ? eng_tensor_int(zero, zeros == 1 ? 0 : i % columns) : 0;
        float s = scales ? ((const float *)scale->data)[scales == 1 ? 0 : i % columns] : 1.0f;
        to[i] = (float)(eng_tensor_int(t, i) - z) * s;
    }
    return to;
}

static od_code check_quantization(const eng_ctx *c, od_status *st)
{
    const eng_tensor *scale[2] = {input(c, 3), input(c, 4)}, *zero[2] = {input(c, 6), input(c, 7)};
    for (int i = 0; i < 2; i++) {
        int64_t most = i ? c->in[1]->dims[1] : 1, n = scale[i] ? eng_tensor_count(scale[i]) : 0, z = zero[i] ? eng_tensor_count(zero[i]) : 1;
        if (!scale[i] || scale[i]->dtype != ENG_FLOAT || (n != 1 && n != most) || (z != 1 && z != most))
            return od_fail(st, OD_BAD_SHAPE, "scales and zero points do not fit");
    }
    return OD_OK;
}

static od_code project(eng_ctx *c, const shape *s, float *qkv, od_status *st)
{
    const params *p = c->node->params;
    const eng_tensor *bias = input(c, 2);
    int64_t n = s->width[0] * 2 + s->width[2];
    eng_product g = {.m = s->items * s->rows, .n = n, .k = s->in, .a = c->in[0]->data, .a_row = s->in, .a_col = 1, .b = c->in[1]->data,
                     .b_row = n, .b_col = 1, .packed = p->packed, .c = qkv, .c_row = n, .bias = bias ? bias->data : NULL};
    if (quantized(c)) {
        OD_TRY(check_quantization(c, st));
        g.a = widen(c, c->in[0], input(c, 6), c->in[3]);
        g.b = widen(c, c->in[1], input(c, 7), c->in[4]);
        if (!g.a || !g.b) return od_fail(st, OD_NO_MEMORY, "no memory to widen bytes");
    }
    return eng_product_run(&g, c->scratch, c->pool, st);
}

od_code eng_ms_attention_run(eng_ctx *c, od_status *st)
{
    shape s;
    OD_TRY(look(c, &s, st));
    places at = places_of(c);
    int64_t n = s.width[0] * 2 + s.width[2], d = s.width[0] / s.heads, total = s.past + s.rows, half = s.items * s.heads * total * d;
    float *qkv = od_arena_array(c->scratch, float, s.items * s.rows * n);
    if (!qkv) return od_fail(st, OD_NO_MEMORY, "no memory for q, k and v");
    OD_TRY(project(c, &s, qkv, st));
    eng_tensor rows = {.dtype = ENG_FLOAT, .rank = 3, .dims = {s.items, s.rows, n}, .data = qkv};
    eng_attention a = {.q = eng_att_rows(&rows, s.heads, 0, d), .k = eng_att_rows(&rows, s.heads, s.width[0], d),
                       .v = eng_att_rows(&rows, s.heads, 2 * s.width[0], s.width[2] / s.heads), .left = -1, .right = -1,
                       .causal = eng_node_int(c->node, "unidirectional", 0), .past = s.past,
                       .scale = eng_node_float(c->node, "scale", 0.0f)};
    if (a.scale == 0.0f) a.scale = (float)(1.0 / sqrt((double)d));
    float *present = c->n_out > 1 && c->out[1] ? c->out[1]->data : s.past ? od_arena_array(c->scratch, float, 2 * half) : NULL;
    if (s.past && !present) return od_fail(st, OD_NO_MEMORY, "no memory for keys and values");
    for (int i = 0; present && i < 2; i++) { /* keys, then values */
        eng_att_view before = {0}, *now = i ? &a.v : &a.k;
        eng_tensor out = {.dtype = ENG_FLOAT, .rank = 4, .dims = {s.items, s.heads, total, d}, .data = present + i * half}, old = out;
        old.dims[2] = s.past;
        old.data = s.past ? (float *)c->in[at.past]->data + i * s.items * s.heads * s.past * d : NULL;
        if (s.past) before = eng_att_rows(&old, s.heads, 0, 0);
        eng_att_concat(&before, now, out.data, c->pool);
        *now = eng_att_rows(&out, s.heads, 0, 0);
    }
    if (!c->out[0]) return OD_OK;
    a.out = eng_att_rows(c->out[0], s.heads, 0, 0);
    a.keys = total;
    OD_TRY(eng_ms_set_mask(c, input(c, at.mask), input(c, at.more), eng_node_float(c->node, "mask_filter_value", -10000.0f), &a, st));
    return eng_attention_run(&a, c->scratch, c->pool, st);
}
