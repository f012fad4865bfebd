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
    } else if (eng_node_is(n, "Squeeze")) { /* of one part of a Split into parts of one */
        const eng_node *split = eng_rewrite_maker(r, n->in[0], "Split");
        const eng_tensor *axes = n->n_in > 1 ? eng_rewrite_constant(r, n->in[1]) : NULL;
        if (!split || !axes || eng_tensor_count(axes) != 1 || o->select_axis >= 0) return false;
        int64_t axis = eng_tensor_int(axes, 0), split_axis = eng_node_int(split, "axis", 0), part = 0;
        axis += axis < 0 ? x->rank : 0;
        split_axis += split_axis < 0 ? x->rank : 0;
        if (axis != split_axis || axis < 0 || axis >= x->rank) return false;
        for (int k = 0; k < split->n_out; k++) {
            const eng_tensor *t = split->out[k] < 0 ? NULL : eng_rewrite_type(r, split->out[k]);
            if (!t || t->rank != x->rank || t->dims[axis] != 1) return false;
            if (split->out[k] == n->in[0]) part = k;
        }
        for (int i = 0; i < AXES; i++) o->axis[i] += o->axis[i] >= axis;
        o->select_axis = axis;
        o->select_index = part;
        n = split;
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

enum { SCALARS = 2 };

typedef struct match {
    operand q, k, v;
    double scale;
    int scalars[SCALARS], n_scalars; /* more scales, known only when shapes are */
    int mask, factor;                /* added to, multiplied with the scores; ENG_NONE */
    eng_node *add;                   /* adds `mask`, ... */
    int first_mask;                  /* ... to scores that have this one already; ENG_NONE */
    eng_node *where;                 /* takes the scores or a very low number; NULL */
    int where_side;                  /* its input that is the scores */
    bool sideways;                   /* the product is v softmax^T: channels before rows */
    bool zero_when_empty;            /* a row of NaN counts as zeros */
    int windows;                     /* a mask [1, windows, heads, queries, keys] that repeats over the items; ENG_NONE */
    int rank;                        /* of the scores */
} match;

/* v = x * s with a single number s that is no constant: notes s and gives x; else v itself. */
static int without_scalar(const eng_rewrite *r, int v, match *m)
{
    const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "Mul") : NULL;
    for (int k = 0; n && n->n_in == 2 && k < 2 && m->n_scalars < SCALARS; k++) {
        const eng_tensor *s = eng_rewrite_type(r, n->in[k]), *x = eng_rewrite_type(r, n->in[1 - k]);
        if (!s || !x || s->dtype != ENG_FLOAT || s->rank > x->rank) continue;
        bool one = true;
        for (int i = 0; i < s->rank; i++) one &= s->dims[i] == 1;
        if (!one) continue;
        m->scalars[m->n_scalars++] = n->in[k];
        return n->in[1 - k];
    }
    return v;
}

/* All scales off an operand. */
static int without_scales(const eng_rewrite *r, int v, match *m)
{
    for (int before = ENG_NONE; before != v;) {
        before = v;
        v = without_scalar(r, without_scale(r, v, &m->scale), m);
    }
    return v;
}

/* Scales that lie behind moves of axes. */
static void trace_scales(const eng_rewrite *r, operand *o, match *m)
{
    for (int v; (v = without_scales(r, o->base, m)) != o->base;) {
        o->base = v;
        while (look_behind(r, o)) {}
    }
}

/* v = Reshape(Add(Reshape(x), mask)) with the items of x seen as [items, windows]: notes the mask and
 * gives x; else v itself. */
static int without_windows(const eng_rewrite *r, int v, match *m)
{
    const eng_graph *g = r->g;
    const eng_node *back = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "Reshape") : NULL;
    const eng_node *add = back && eng_rewrite_private(r, back->in[0]) ? eng_rewrite_maker(r, back->in[0], "Add") : NULL;
    if (!add || add->n_in != 2 || !eng_rewrite_type(r, back->in[0])) return v;
    for (int k = 0; k < 2; k++) {
        const eng_node *there = eng_rewrite_private(r, add->in[k]) ? eng_rewrite_maker(r, add->in[k], "Reshape") : NULL;
        const eng_tensor *mask = eng_rewrite_type(r, add->in[1 - k]);
        if (!there || !mask || mask->dtype != ENG_FLOAT || mask->rank != 5 || !eng_rewrite_same_shape(r, there->in[0], v)) continue;
        bool fits = true;
        for (int round = 0; round < 2 && fits; round++) {
            const eng_tensor *five = &g->guess[round][back->in[0]], *four = &g->guess[round][v];
            const eng_tensor *w = r->g->values[add->in[1 - k]].constant;
            if (!w) w = &g->guess[round][add->in[1 - k]];
            fits = five->rank == 5 && four->rank == 4 && w->dims[0] == 1 && w->dims[1] == five->dims[1] && w->dims[4] == four->dims[3];
            for (int i = 1; i < 4 && fits; i++)
                fits = five->dims[i + 1] == four->dims[i] && (w->dims[i + 1] == 1 || w->dims[i + 1] == four->dims[i]);
        }
        if (!fits) continue;
        m->windows = add->in[1 - k];
        return there->in[0];
    }
    return v;
}

static bool is_scores(const eng_rewrite *r, int v)
{
    const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "MatMul") : NULL;
    return n && n->n_in == 2 && !n->fused.act && !n->fused.residual;
}

/* A Mul of the scores with one number a head. */
static bool is_head_factor(const eng_rewrite *r, const eng_node *n)
{
    int side = is_scores(r, n->in[0]) ? 0 : 1;
    const eng_tensor *f = eng_rewrite_type(r, n->in[1 - side]);
    return f && f->rank >= 2 && f->dims[f->rank - 1] == 1 && f->dims[f->rank - 2] == 1;
}

/* Is `v` scores, perhaps with masks added and scaled? */
static bool leads_to_scores(const eng_rewrite *r, int v, int depth)
{
    double ignored = 1.0;
    v = without_scale(r, v, &ignored);
    if (is_scores(r, v)) return true;
    const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "Add") : NULL;
    return n && n->n_in == 2 && depth > 0 && (leads_to_scores(r, n->in[0], depth - 1) || leads_to_scores(r, n->in[1], depth - 1));
}

/* Which input of an Add is the scores, the other being a mask. */
static int scores_side(const eng_rewrite *r, const eng_node *add)
{
    double ignored = 1.0;
    if (is_scores(r, without_scale(r, add->in[0], &ignored))) return 0;
    if (is_scores(r, without_scale(r, add->in[1], &ignored))) return 1;
    return leads_to_scores(r, add->in[0], 1) ? 0 : 1;
}

/* v = Where(condition, scores, low) or Where(condition, low, scores), `low` being so low that to add it is to put it there:
 * notes the node and gives the scores; else v itself. */
static int without_choice(const eng_rewrite *r, int v, match *m)
{
    const double low = -1e9;
    eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "Where") : NULL;
    double x;
    for (int side = 1; n && n->n_in == 3 && side < 3; side++) {
        if (!eng_rewrite_scalar(r, n->in[3 - side], &x) || !(x <= low) || !leads_to_scores(r, n->in[side], 2)) continue;
        m->where = n;
        m->where_side = side;
        return n->in[side];
    }
    return v;
}

/* v = scores, or scores through a choice, a scale, a factor per head, one or two added masks, in this order. */
static bool find_scores(const eng_rewrite *r, int v, match *m, const eng_node **scores)
{
    m->scale = 1.0;
    m->n_scalars = 0;
    m->mask = m->factor = m->first_mask = ENG_NONE;
    m->windows = ENG_NONE;
    m->where = m->add = NULL;
    v = without_windows(r, v, m);
    if (m->windows < 0) v = without_choice(r, v, m);
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
        } else if (n && eng_node_is(n, "Add") && n->n_in == 2 && m->first_mask < 0 && m->factor < 0 && !m->n_scalars && m->scale == 1.0) {
            int side = scores_side(r, n);
            *(m->mask < 0 ? &m->mask : &m->first_mask) = n->in[1 - side];
            if (!m->add) m->add = eng_rewrite_maker(r, v, NULL);
            v = n->in[side];
        } else if (n && eng_node_is(n, "Mul") && n->n_in == 2 && m->factor < 0 && is_head_factor(r, n)) {
            int side = is_scores(r, n->in[0]) ? 0 : 1;
            m->factor = n->in[1 - side];
            v = n->in[side];
        } else if ((inner = without_scalar(r, v, m)) != v) {
            v = inner;
        } else {
            return false;
        }
    }
    return false;
}

/* May `v` (if any), of `type`, be broadcast into the scores without making them larger? */
static bool broadcasts(const eng_rewrite *r, int v, eng_dtype type, int scores)
{
    if (v < 0) return true;
    const eng_tensor *t = eng_rewrite_type(r, v);
    if (!t || t->dtype != type || !eng_rewrite_type(r, scores)) return false;
    for (int round = 0; round < 2; round++) {
        const eng_graph *g = r->g;
        const eng_tensor *s = &g->guess[round][scores];
        const eng_tensor *x = r->g->values[v].constant ? r->g->values[v].constant : &g->guess[round][v];
        if (x->rank > s->rank) return false;
        for (int d = 1; d <= x->rank; d++)
            if (x->dims[x->rank - d] != 1 && x->dims[x->rank - d] != s->dims[s->rank - d]) return false;
    }
    return true;
}

/* Batch and head extents of both products agree, so that nothing is broadcast between them. */
static bool same_heads(const eng_rewrite *r, int a, int b)
{
    const eng_graph *g = r->g;
    if (!eng_rewrite_type(r, a) || !eng_rewrite_type(r, b)) return false;
    for (int round = 0; round < 2; round++) {
        const eng_tensor *x = &g->guess[round][a], *y = &g->guess[round][b];
        if (x->rank != y->rank) return false;
        for (int d = 0; d < x->rank - 2; d++)
            if (x->dims[d] != y->dims[d]) return false;
    }
    return true;
}

/* What makes the probabilities `v`: a Softmax, or one whose NaN are made zeros (what a row that sees nothing gives; one that
 * comes of a NaN in q or k would be no zero here). */
static const eng_node *find_softmax(const eng_rewrite *r, int v, match *m)
{
    const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, NULL) : NULL;
    double zero;
    m->zero_when_empty = false;
    if (eng_node_is(n, "Softmax")) return n;
    if (!eng_node_is(n, "Where") || n->n_in != 3 || !eng_rewrite_scalar(r, n->in[1], &zero) || zero != 0.0) return NULL;
    const eng_node *nan = eng_rewrite_maker(r, n->in[0], "IsNaN");
    if (!nan || nan->in[0] != n->in[2] || r->is_output[n->in[2]] || r->readers[n->in[2]] != 2) return NULL;
    m->zero_when_empty = true;
    return eng_rewrite_maker(r, n->in[2], "Softmax");
}

/* x of v = Transpose(x) that swaps the last two axes alone; else ENG_NONE. */
static int transposed(const eng_rewrite *r, int v)
{
    int64_t count;
    const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "Transpose") : NULL;
    const int64_t *perm = n ? eng_node_ints(n, "perm", &count) : NULL;
    if (!perm || count < 3) return ENG_NONE;
    for (int64_t i = 0; i < count - 2; i++)
        if (perm[i] != i) return ENG_NONE;
    return perm[count - 2] == count - 1 ? n->in[0] : ENG_NONE;
}

static bool match_attention(const eng_rewrite *r, const eng_node *n, match *m)
{
    if (!eng_node_is(n, "MatMul") || n->n_in != 2 || n->fused.act || n->fused.residual) return false;
    const eng_node *soft = find_softmax(r, n->in[0], m);
    int values = n->in[1], turned = soft ? ENG_NONE : transposed(r, n->in[1]);
    m->sideways = turned >= 0;
    if (m->sideways) {
        soft = find_softmax(r, turned, m);
        values = n->in[0];
    }
    const eng_tensor *p = soft ? eng_rewrite_type(r, soft->out[0]) : NULL;
    const eng_node *scores = NULL;
    if (!p || p->rank < 3 || p->rank > 4 || p->dtype != ENG_FLOAT) return false;
    int64_t axis = eng_node_int(soft, "axis", soft->opset < 13 ? 1 : -1);
    if (axis != -1 && axis != p->rank - 1) return false;
    if (!find_scores(r, soft->in[0], m, &scores)) return false;
    int q = without_scales(r, scores->in[0], m), k = without_scales(r, scores->in[1], m);
    if (!same_heads(r, scores->in[0], scores->in[1]) || !same_heads(r, scores->in[0], values)) return false;
    if (r->g->values[q].constant || r->g->values[k].constant) return false; /* a product with weights is faster */
    m->rank = p->rank;
    if (!broadcasts(r, m->mask, ENG_FLOAT, scores->out[0]) || !broadcasts(r, m->factor, ENG_FLOAT, scores->out[0])) return false;
    if (!broadcasts(r, m->first_mask, ENG_FLOAT, scores->out[0])) return false;
    if (m->where && !broadcasts(r, m->where->in[0], ENG_BOOL, scores->out[0])) return false;
    if (!trace(r, q, L, D, &m->q) || !trace(r, k, D, L, &m->k)) return false;
    trace_scales(r, &m->q, m);
    trace_scales(r, &m->k, m);
    return m->sideways ? trace(r, values, D, L, &m->v) : trace(r, values, L, D, &m->v);
}

/* One mask of all: the nodes that put masks on the scores put them together instead. */
static od_code join_masks(eng_rewrite *r, match *m, od_status *st)
{
    if (m->first_mask >= 0) {
        m->add->in[m->add->in[0] == m->mask ? 1 : 0] = m->first_mask;
        m->mask = m->add->out[0];
    }
    if (!m->where) return OD_OK;
    if (m->mask < 0) {
        float *zero;
        m->mask = eng_rewrite_new_floats(r, 0, NULL, &zero);
        if (m->mask < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a mask");
    }
    m->where->in[m->where_side] = m->mask;
    m->mask = m->where->out[0];
    return OD_OK;
}

static od_code put_operand(eng_rewrite *r, eng_node *n, const char *name, const operand *o, od_status *st)
{
    int64_t v[AXES + 2];
    memcpy(v, o->axis, sizeof o->axis);
    v[AXES] = o->select_axis;
    v[AXES + 1] = o->select_index;
    return eng_node_set_ints(r->g, n, name, v, AXES + 2, st);
}

/* `perm`: of the Transpose behind it, or NULL. */
static od_code rewrite(eng_rewrite *r, eng_node *n, const match *m, const int64_t *perm, od_status *st)
{
    int rows = m->rank - (m->sideways ? 1 : 2), columns = m->rank - (m->sideways ? 2 : 1);
    int64_t out[AXES] = {[B] = 0, [H] = m->rank == 4 ? 1 : -1, [L] = rows, [D] = columns};
    for (int a = 0; perm && a < AXES; a++) { /* axis a of the product lies where perm says a */
        int at = 0;
        while (perm[at] != out[a]) at++;
        out[a] = at;
    }
    OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_OWN, "Attention", 1, 6 + m->n_scalars, st));
    n->in[0] = m->q.base;
    n->in[1] = m->k.base;
    n->in[2] = m->v.base;
    n->in[3] = m->mask;
    n->in[4] = m->factor;
    n->in[5] = m->windows;
    for (int i = 0; i < m->n_scalars; i++) n->in[6 + i] = m->scalars[i];
    OD_TRY(put_operand(r, n, "q", &m->q, st));
    OD_TRY(put_operand(r, n, "k", &m->k, st));
    OD_TRY(put_operand(r, n, "v", &m->v, st));
    OD_TRY(eng_node_set_int(r->g, n, "rank", m->rank, st));
    OD_TRY(eng_node_set_int(r->g, n, "zero_when_empty", m->zero_when_empty, st));
    OD_TRY(eng_node_set_ints(r->g, n, "out", out, AXES, st));
    return eng_node_set_float(r->g, n, "scale", (float)m->scale, st);
}

/* The Transpose behind `n` that moves heads and channels but not items: the operator writes its result so. */
static eng_node *transpose_behind(const eng_rewrite *r, const eng_node *n, const int64_t **perm)
{
    eng_node *t = eng_rewrite_only_reader(r, n->out[0]);
    int64_t count;
    *perm = t && eng_node_is(t, "Transpose") ? eng_node_ints(t, "perm", &count) : NULL;
    return *perm && count == AXES && (*perm)[0] == 0 ? t : NULL;
}

od_code eng_pass_attention(eng_rewrite *r, od_status *st)
{
    if (!eng_op_find(ENG_DOMAIN_OWN, "Attention", 1)) return OD_OK;
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        match m;
        const int64_t *perm;
        if (n->dead || !match_attention(r, n, &m)) continue;
        eng_node *t = m.rank == AXES ? transpose_behind(r, n, &perm) : NULL;
        OD_TRY(join_masks(r, &m, st));
        OD_TRY(rewrite(r, t ? t : n, &m, t ? perm : NULL, st));
    }
    return OD_OK;
}
