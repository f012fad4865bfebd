/* attention_own.c - the attention that engine/passes/attention.c finds: softmax(scale q k^T factor + mask) v
 * with q, k and v read by strides from the tensors they were cut out of.
 * Inputs: what q, k, v are cut from; a mask and a factor that broadcast against the scores, or none.
 * Attributes q, k, v: the axis of batch, head, row, channel (-1: none), then the selected axis and
 * index (-1: none). `rank` of the result is 3 or 4; `out` says where its axes are. Input 5 is a second mask,
 * [1, windows, heads, queries, keys], which repeats over the items; what follows are factors of the scale. */
#include "engine/ops/attention.h"
#include "engine/ops/ops.h"

#include <string.h>

enum { B = ENG_ATT_B, H = ENG_ATT_H, L = ENG_ATT_L, D = ENG_ATT_D, AXES = ENG_ATT_AXES };

typedef struct side {
    int64_t axis[AXES], select_axis, select_index;
} side;

typedef struct params {
    side side[3]; /* q, k, v */
    int rank;
    int64_t out[AXES]; /* where item, head, row, channel lie in the result; -1: nowhere */
    float scale;
    bool zero_when_empty; /* a query that sees nothing gives zeros, not NaN */
} params;

typedef eng_att_view view;

od_code eng_attention_own_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    static const char *const names[3] = {"q", "k", "v"};
    (void)pool;
    params *p = eng_model_alloc(g, sizeof *p);
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for attention");
    for (int i = 0; i < 3; i++) {
        int64_t count;
        const int64_t *v = eng_node_ints(n, names[i], &count);
        if (count != AXES + 2) return od_fail(st, OD_BAD_ARGUMENT, "attribute '%s' has %" PRId64 " numbers", names[i], count);
        memcpy(p->side[i].axis, v, sizeof p->side[i].axis);
        p->side[i].select_axis = v[AXES];
        p->side[i].select_index = v[AXES + 1];
    }
    p->rank = (int)eng_node_int(n, "rank", 4);
    int64_t count;
    const int64_t *out = eng_node_ints(n, "out", &count);
    if (count != AXES || p->rank < 3 || p->rank > 4) return od_fail(st, OD_BAD_ARGUMENT, "attribute 'out' has %" PRId64 " numbers", count);
    memcpy(p->out, out, sizeof p->out);
    for (int i = 0; i < AXES; i++)
        if (p->out[i] >= p->rank || (p->out[i] < 0 && (i != H || p->rank == 4))) return od_fail(st, OD_BAD_ARGUMENT, "attribute 'out' is wrong");
    p->scale = eng_node_float(n, "scale", 1.0f);
    p->zero_when_empty = eng_node_int(n, "zero_when_empty", 0) != 0;
    n->params = p;
    return OD_OK;
}

static od_code look_at(const eng_tensor *t, const side *s, view *v, od_status *st)
{
    int64_t strides[ENG_MAX_RANK], offset = 0;
    if (!t) return od_fail(st, OD_BAD_MODEL, "an operand is missing");
    eng_tensor_strides(t, strides);
    if (s->select_axis >= 0) {
        if (s->select_axis >= t->rank) return od_fail(st, OD_BAD_SHAPE, "axis %" PRId64 " of rank %d", s->select_axis, t->rank);
        int64_t extent = t->dims[s->select_axis], i = s->select_index + (s->select_index < 0 ? extent : 0);
        if (i < 0 || i >= extent) return od_fail(st, OD_BAD_VALUE, "index %" PRId64 " of %" PRId64, s->select_index, extent);
        offset = i * strides[s->select_axis];
    }
    for (int i = 0; i < AXES; i++) {
        int64_t a = s->axis[i];
        if (a >= t->rank) return od_fail(st, OD_BAD_SHAPE, "axis %" PRId64 " of rank %d", a, t->rank);
        v->dims[i] = a < 0 ? 1 : t->dims[a];
        v->strides[i] = a < 0 ? 0 : strides[a];
    }
    v->data = t->data ? (const float *)t->data + offset : NULL;
    return OD_OK;
}

/* A tensor that broadcasts against the scores, aligned at the right. */
static void look_at_broadcast(const eng_tensor *t, int rank, view *v)
{
    static const int axes4[4] = {B, H, L, D}, axes3[3] = {B, L, D};
    int64_t strides[ENG_MAX_RANK];
    *v = (view){.dims = {1, 1, 1, 1}};
    if (!t) return;
    v->data = t->data;
    eng_tensor_strides(t, strides);
    for (int d = 0; d < t->rank; d++) {
        int a = rank == 4 ? axes4[d + 4 - t->rank] : axes3[d + 3 - t->rank];
        v->dims[a] = t->dims[d];
        v->strides[a] = t->dims[d] == 1 ? 0 : strides[d];
    }
}

static od_code look(const eng_ctx *c, view *q, view *k, view *v, od_status *st)
{
    const params *p = c->node->params;
    OD_TRY(look_at(c->in[0], &p->side[0], q, st));
    OD_TRY(look_at(c->in[1], &p->side[1], k, st));
    OD_TRY(look_at(c->in[2], &p->side[2], v, st));
    for (int i = 0; i < 2; i++)
        if (q->dims[i] != k->dims[i] || q->dims[i] != v->dims[i])
            return od_fail(st, OD_BAD_SHAPE, "q, k and v have %" PRId64 ", %" PRId64 " and %" PRId64 " %s", q->dims[i],
                           k->dims[i], v->dims[i], i == B ? "items" : "heads");
    if (q->dims[D] != k->dims[D] || k->dims[L] != v->dims[L])
        return od_fail(st, OD_BAD_SHAPE, "q is %" PRId64 "x%" PRId64 ", k %" PRId64 "x%" PRId64 ", v %" PRId64 "x%" PRId64,
                       q->dims[L], q->dims[D], k->dims[L], k->dims[D], v->dims[L], v->dims[D]);
    return OD_OK;
}

od_code eng_attention_own_infer(eng_ctx *c, od_status *st)
{
    const params *p = c->node->params;
    view q, k, v;
    if (c->n_in < 5) return od_fail(st, OD_BAD_MODEL, "%d inputs", c->n_in);
    OD_TRY(look(c, &q, &k, &v, st));
    const eng_tensor *extra[2] = {c->in[3], c->in[4]};
    int64_t scores[AXES] = {q.dims[B], q.dims[H], q.dims[L], k.dims[L]};
    if (p->rank == 3) scores[1] = scores[2], scores[2] = scores[3];
    for (int i = 0; i < 2; i++) {
        for (int d = 1; extra[i] && d <= extra[i]->rank; d++) {
            int64_t want = d <= p->rank ? scores[p->rank - d] : 0, have = extra[i]->dims[extra[i]->rank - d];
            if (d > p->rank || (have != 1 && have != want))
                return od_fail(st, OD_BAD_SHAPE, "mask or factor of extent %" PRId64 " against scores of %" PRId64, have, want);
        }
    }
    const eng_tensor *w = c->n_in > 5 ? c->in[5] : NULL;
    if (w) { /* [1, windows, heads, queries, keys] */
        bool fits = w->rank == 5 && p->rank == 4 && w->dims[0] == 1 && w->dims[1] > 0 && q.dims[B] % w->dims[1] == 0 && w->dims[4] == k.dims[L];
        for (int i = 1; i < 3 && fits; i++) fits = w->dims[i + 1] == 1 || w->dims[i + 1] == scores[i];
        if (!fits) return od_fail(st, OD_BAD_SHAPE, "the mask of windows does not fit %" PRId64 " items", q.dims[B]);
    }
    for (int i = 6; i < c->n_in; i++)
        if (!c->in[i] || eng_tensor_count(c->in[i]) != 1) return od_fail(st, OD_BAD_SHAPE, "scale %d is not one number", i - 6);
    int64_t all[AXES] = {q.dims[B], q.dims[H], q.dims[L], v.dims[D]}, out[AXES] = {0};
    for (int i = 0; i < AXES; i++)
        if (p->out[i] >= 0) out[p->out[i]] = all[i];
    return eng_set_out(c, 0, ENG_FLOAT, p->rank, out, st);
}

static void look_at_out(const eng_ctx *c, view *out)
{
    const params *p = c->node->params;
    side s = {.select_axis = -1};
    od_status ignored;
    memcpy(s.axis, p->out, sizeof s.axis);
    look_at(c->out[0], &s, out, &ignored);
}

od_code eng_attention_own_run(eng_ctx *c, od_status *st)
{
    const params *p = c->node->params;
    eng_attention a = {.scale = p->scale, .left = -1, .right = -1, .nan_when_empty = !p->zero_when_empty};
    OD_TRY(look(c, &a.q, &a.k, &a.v, st));
    look_at_broadcast(c->in[3], p->rank, &a.mask);
    look_at_broadcast(c->in[4], p->rank, &a.factor);
    look_at_out(c, &a.out);
    a.keys = a.k.dims[L];
    if (c->n_in > 5 && c->in[5]) {
        eng_tensor w = *c->in[5]; /* without its leading axis of one */
        w.rank = 4;
        memmove(w.dims, w.dims + 1, 4 * sizeof *w.dims);
        look_at_broadcast(&w, 4, &a.windows);
        a.window_count = w.dims[0];
    }
    for (int i = 6; i < c->n_in; i++) a.scale *= *(const float *)c->in[i]->data;
    return eng_attention_run(&a, c->scratch, c->pool, st);
}
