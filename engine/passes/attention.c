/* attention.c - softmax(scale q k^T + mask) v as one operator, whatever way q, k and v were cut out of
 * what they come from: Transpose, Gather of one of three, Squeeze and Unsqueeze are undone here, and
 * the operator reads the tensor behind them by strides. The operator is engine/ops/attention_own.c. */
#include "engine/passes/passes.h"

#include <string.h>

enum { B, H, L, D, AXES };

/* Where the axes of an operand lie in the tensor it is cut from; -1: it has no such axis. */
typedef struct operand {
    int base;
    int64_t axis[AXES];
    int64_t select_axis, select_index; /* -1: nothing is selected */
} operand;

/* Look behind one node that only moves axes. */
static bool look_behind(const eng_rewrite *r, operand *o)
{
    const eng_node *n = eng_rewrite_maker(r, o->base, NULL);
    const eng_tensor *x = n && n->n_in ? eng_rewrite_type(r, n->in[0]) : NULL;
    if (!x || n->domain != ENG_DOMAIN_ONNX) return false;
    if (eng_node_is(n, "Transpose")) {
        int64_t count;
        const int64_t *perm = eng_node_ints(n, "perm", &count);
        if (!perm || count != x->rank) return false;
        for (int i = 0; i < AXES; i++)
            if (o->axis[i] >= 0) o->axis[i] = perm[o->axis[i]];
        if (o->select_axis >= 0) o->select_axis = perm[o->select_axis];
    } else if (eng_node_is(n, "Gather")) {
        const eng_tensor *index = eng_rewrite_constant(r, n->in[1]);
        int64_t axis = eng_node_int(n, "axis", 0);
        if (!index || index->rank || o->select_axis >= 0) return false;
        if (axis < 0) axis += x->rank;
        for (int i = 0; i < AXES; i++) o->axis[i] += o->axis[i] >= axis;
        o->select_axis = axis;
        o->select_index = eng_tensor_int(index, 0);
    } else {
        return false;
    }
    o->base = n->in[0];
    return true;
}

/* The operand `v`, whose last two axes are `row` and `column`. */
static bool trace(const eng_rewrite *r, int v, int row, int column, operand *o)
{
    const eng_tensor *t = eng_rewrite_type(r, v);
    if (!t || t->dtype != ENG_FLOAT || t->rank < 3 || t->rank > 4) return false;
    *o = (operand){.base = v, .axis = {0, t->rank == 4 ? 1 : -1, -1, -1}, .select_axis = -1};
    o->axis[row] = t->rank - 2;
    o->axis[column] = t->rank - 1;
    while (look_behind(r, o)) {}
    return true;
}

/* v = x * c or x / c with a scalar c: multiplies *scale and gives x; else v itself. */
static int without_scale(const eng_rewrite *r, int v, double *scale)
{
    const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, NULL) : NULL;
    double c;
    int x;
    if (!n || !(eng_node_is(n, "Mul") || eng_node_is(n, "Div"))) return v;
    if (!eng_rewrite_scalar_operand(r, n, &c, &x)) return v;
    if (eng_node_is(n, "Div") && (x != n->in[0] || c == 0)) return v;
    *scale = eng_node_is(n, "Mul") ? *scale * c : *scale / c;
    return x;
}

typedef struct match {
    operand q, k, v;
    double scale;
    int mask, factor; /* added to, multiplied with the scores; ENG_NONE */
    int rank;         /* of the scores */
} match;

static bool is_scores(const eng_rewrite *r, int v)
{
    const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "MatMul") : NULL;
    return n && n->n_in == 2 && !n->fused.act && !n->fused.residual;
}

/* v = scores, or scores through a scale, a factor per head, one added mask, in this order. */
static bool find_scores(const eng_rewrite *r, int v, match *m, const eng_node **scores)
{
    m->scale = 1.0;
    m->mask = m->factor = ENG_NONE;
    for (int depth = 0; depth < 4; depth++) {
        if (is_scores(r, v)) {
            *scores = eng_rewrite_maker(r, v, "MatMul");
            return true;
        }
        double scale = 1.0;
        int inner = without_scale(r, v, &scale);
        const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, NULL) : NULL;
        if (inner != v) {
            m->scale *= scale;
            v = inner;
        } else if (n && eng_node_is(n, "Add") && n->n_in == 2 && m->mask < 0 && m->factor < 0 && m->scale == 1.0) {
            double ignored = 1.0;
            int side = is_scores(r, without_scale(r, n->in[0], &ignored)) ? 0 : 1;
            m->mask = n->in[1 - side];
            v = n->in[side];
        } else if (n && eng_node_is(n, "Mul") && n->n_in == 2 && m->factor < 0) {
            int side = is_scores(r, n->in[0]) ? 0 : 1;
            const eng_tensor *f = eng_rewrite_type(r, n->in[1 - side]);
            if (!f || f->rank < 2 || f->dims[f->rank - 1] != 1 || f->dims[f->rank - 2] != 1) return false;
            m->factor = n->in[1 - side];
            v = n->in[side];
        } else {
            return false;
        }
    }
    return false;
}

/* May `v` (if any) be broadcast into the scores without making them larger? */
static bool broadcasts(const eng_rewrite *r, int v, int scores)
{
    if (v < 0) return true;
    const eng_tensor *t = eng_rewrite_type(r, v);
    if (!t || t->dtype != ENG_FLOAT || !eng_rewrite_type(r, scores)) return false;
    for (int round = 0; round < 2; round++) {
        const eng_model *m = r->g->model;
        const eng_tensor *s = &m->guess[round][scores];
        const eng_tensor *x = r->g->values[v].constant ? r->g->values[v].constant : &m->guess[round][v];
        if (x->rank > s->rank) return false;
        for (int d = 1; d <= x->rank; d++)
            if (x->dims[x->rank - d] != 1 && x->dims[x->rank - d] != s->dims[s->rank - d]) return false;
    }
    return true;
}

/* Batch and head extents of both products agree, so that nothing is broadcast between them. */
static bool same_heads(const eng_rewrite *r, int a, int b)
{
    const eng_model *m = r->g->model;
    if (!eng_rewrite_type(r, a) || !eng_rewrite_type(r, b)) return false;
    for (int round = 0; round < 2; round++) {
        const eng_tensor *x = &m->guess[round][a], *y = &m->guess[round][b];
        if (x->rank != y->rank) return false;
        for (int d = 0; d < x->rank - 2; d++)
            if (x->dims[d] != y->dims[d]) return false;
    }
    return true;
}

static bool match_attention(const eng_rewrite *r, const eng_node *n, match *m)
{
    if (!eng_node_is(n, "MatMul") || n->n_in != 2 || n->fused.act || n->fused.residual) return false;
    const eng_node *soft = eng_rewrite_private(r, n->in[0]) ? eng_rewrite_maker(r, n->in[0], "Softmax") : NULL;
    const eng_tensor *p = soft ? eng_rewrite_type(r, soft->out[0]) : NULL;
    const eng_node *scores = NULL;
    if (!p || p->rank < 3 || p->rank > 4 || p->dtype != ENG_FLOAT) return false;
    int64_t axis = eng_node_int(soft, "axis", soft->opset < 13 ? 1 : -1);
    if (axis != -1 && axis != p->rank - 1) return false;
    if (!find_scores(r, soft->in[0], m, &scores)) return false;
    int q = without_scale(r, scores->in[0], &m->scale), k = without_scale(r, scores->in[1], &m->scale);
    if (!same_heads(r, scores->in[0], scores->in[1]) || !same_heads(r, scores->in[0], n->in[1])) return false;
    if (r->g->values[q].constant || r->g->values[k].constant) return false; /* a product with weights is faster */
    m->rank = p->rank;
    if (!broadcasts(r, m->mask, scores->out[0]) || !broadcasts(r, m->factor, scores->out[0])) return false;
    return trace(r, q, L, D, &m->q) && trace(r, k, D, L, &m->k) && trace(r, n->in[1], L, D, &m->v);
}

static od_code put_operand(eng_rewrite *r, eng_node *n, const char *name, const operand *o, od_status *st)
{
    int64_t v[AXES + 2];
    memcpy(v, o->axis, sizeof o->axis);
    v[AXES] = o->select_axis;
    v[AXES + 1] = o->select_index;
    return eng_node_set_ints(r->g, n, name, v, AXES + 2, st);
}

static od_code rewrite(eng_rewrite *r, eng_node *n, const match *m, bool heads_last, od_status *st)
{
    OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_OWN, "Attention", 1, 5, st));
    n->in[0] = m->q.base;
    n->in[1] = m->k.base;
    n->in[2] = m->v.base;
    n->in[3] = m->mask;
    n->in[4] = m->factor;
    OD_TRY(put_operand(r, n, "q", &m->q, st));
    OD_TRY(put_operand(r, n, "k", &m->k, st));
    OD_TRY(put_operand(r, n, "v", &m->v, st));
    OD_TRY(eng_node_set_int(r->g, n, "rank", m->rank, st));
    OD_TRY(eng_node_set_int(r->g, n, "heads_last", heads_last, st));
    return eng_node_set_float(r->g, n, "scale", (float)m->scale, st);
}

/* The Transpose behind `n` that brings heads beside their channels, [B,H,L,D] to [B,L,H,D]. */
static eng_node *heads_transpose(const eng_rewrite *r, const eng_node *n)
{
    static const int64_t want[4] = {0, 2, 1, 3};
    eng_node *t = eng_rewrite_only_reader(r, n->out[0]);
    int64_t count;
    const int64_t *perm = t && eng_node_is(t, "Transpose") ? eng_node_ints(t, "perm", &count) : NULL;
    return perm && count == 4 && !memcmp(perm, want, sizeof want) ? t : NULL;
}

od_code eng_pass_attention(eng_rewrite *r, od_status *st)
{
    if (!eng_op_find(ENG_DOMAIN_OWN, "Attention", 1)) return OD_OK;
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        match m;
        if (n->dead || !match_attention(r, n, &m)) continue;
        eng_node *t = heads_transpose(r, n);
        OD_TRY(rewrite(r, t ? t : n, &m, t != NULL, st));
    }
    return OD_OK;
}
