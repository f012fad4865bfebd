/* parts.c - a batch in parts, one after the other.
 *
 * Layers that work on a whole batch push each other's results out of the caches long before the next layer
 * reads them. Where no item of a batch has to do with another, the network goes over one item at a time
 * instead, each thread over another one: results stay near, and threads meet once a run and not once a layer.
 * What is lost is that weights are read once a part.
 *
 * That items are apart is shown operator by operator on two plans, of the whole batch and of one item: every
 * value either is the same in both, or has as many times the extent 0 as there are times the items and comes
 * from an operator that is known to keep rows of axis 0 apart. Anything else: the batch runs as a whole. */
#include "engine/plan.h"

#include <string.h>

enum { NEAR_BYTES = 1 << 20 /* intermediate values that need no help to stay near */ };

typedef enum kind {
    ABSENT,
    SAME,  /* one value, whatever the batch */
    ITEMS, /* rows of axis 0 belong to items, in their order */
    SIZES  /* known ahead, and changes with the batch: shapes and what comes of them */
} kind;

typedef struct look {
    const eng_plan *whole, *part;
    int64_t n;    /* items of the batch */
    kind *kinds;  /* by value of the graph, once it is computed */
} look;

/* A node as the rules see it: kinds and tensors (of the whole batch) of its inputs, output 0. */
typedef struct view {
    const eng_node *node;
    int n_in;
    kind *in;
    const eng_tensor **t, **t_part;
    const eng_tensor *out;
} view;

/* Extent 0 in step with the items, all others alike. */
static bool scales(const look *l, const eng_tensor *whole, const eng_tensor *part)
{
    if (whole->rank < 1 || whole->rank != part->rank || whole->dtype != part->dtype) return false;
    for (int d = 1; d < whole->rank; d++)
        if (whole->dims[d] != part->dims[d]) return false;
    return whole->dims[0] / l->n == part->dims[0] && whole->dims[0] % l->n == 0;
}

static bool same_value(const eng_tensor *a, const eng_tensor *b)
{
    return a->dtype == b->dtype && a->layout == b->layout && a->pitch == b->pitch && eng_dims_equal(a, b) &&
           (a->data == b->data || (a->dtype != ENG_STRING && a->dtype < ENG_SEQUENCE && !memcmp(a->data, b->data, eng_tensor_bytes(a))));
}

/* A value known ahead in both plans: does it hold the same rows for every item? */
static bool same_rows(const look *l, const eng_tensor *whole, const eng_tensor *part)
{
    if (!scales(l, whole, part) || whole->layout != ENG_ROW || part->layout != ENG_ROW || whole->dtype == ENG_STRING ||
        whole->dtype >= ENG_SEQUENCE)
        return false;
    size_t item = eng_tensor_bytes(part);
    for (int64_t i = 0; i < l->n; i++)
        if (memcmp((const char *)whole->data + (size_t)i * item, part->data, item)) return false;
    return true;
}

static kind kind_of(const look *l, int v)
{
    if (v < 0) return ABSENT;
    const eng_pvalue *w = l->whole->values[v], *p = l->part->values[v];
    if (w->where != ENG_AT_PLAN) return l->kinds[v];
    if (l->whole->graph->values[v].constant) return SAME;
    if (p->where != ENG_AT_PLAN) return ABSENT;
    return same_value(&w->t, &p->t) ? SAME : same_rows(l, &w->t, &p->t) ? ITEMS : SIZES;
}

/* ---- rules: does the operator keep the items of these inputs apart? ------------------------- */

typedef bool rule_fn(const view *v);

/* Input i, where it is there, lines up with the output's axis 0 or takes no part in it. */
static bool aligned(const view *v, int i)
{
    const eng_tensor *t = v->t[i];
    if (v->in[i] == ABSENT) return v->node->in[i] < 0;
    if (v->in[i] == SAME) return t->rank < v->out->rank || (t->rank == v->out->rank && (!t->rank || t->dims[0] == 1));
    return v->in[i] == ITEMS && t->rank == v->out->rank && t->dims[0] == v->out->dims[0];
}

static bool aligned_from(const view *v, int i)
{
    for (; i < v->n_in; i++)
        if (!aligned(v, i)) return false;
    return true;
}

static bool rest_same(const view *v, int i)
{
    for (; i < v->n_in; i++)
        if (v->in[i] != SAME && v->node->in[i] >= 0) return false;
    return true;
}

static bool first_is_items(const view *v)
{
    return v->n_in && v->in[0] == ITEMS;
}

static bool elementwise(const view *v)
{
    return aligned_from(v, 0);
}

/* The same bytes in the same order: that extent 0 scales says it all. */
static bool reshapes(const view *v)
{
    return first_is_items(v);
}

/* Axis 0 is the batch by definition; weights are the same for all. */
static bool by_image(const view *v)
{
    if (!first_is_items(v) || v->out->dims[0] != v->t[0]->dims[0]) return false;
    for (int i = 1; i < v->n_in; i++)
        if (v->in[i] != SAME && v->node->in[i] >= 0 && !aligned(v, i)) return false;
    return true;
}

/* Resize: `sizes` may name the batch. */
static bool resizes(const view *v)
{
    return first_is_items(v) && v->out->dims[0] == v->t[0]->dims[0];
}

static bool multiplies(const view *v)
{
    if (v->n_in < 2 || !aligned_from(v, 2)) return false;
    const eng_tensor *a = v->t[0], *b = v->t[1];
    if (v->in[0] == ITEMS && v->in[1] == SAME)
        return a->rank >= 2 && v->out->rank == a->rank && (b->rank < a->rank || b->rank == 2 || b->dims[0] == 1);
    return aligned(v, 0) && aligned(v, 1) && v->out->rank >= 3;
}

static bool gemm(const view *v)
{
    return v->n_in >= 2 && first_is_items(v) && v->in[1] == SAME && !eng_node_int(v->node, "transA", 0) && aligned_from(v, 2);
}

static bool axis_apart(const view *v, int64_t axis)
{
    int rank = v->t[0]->rank;
    return axis > 0 ? axis < rank : axis > -rank && axis < 0;
}

static bool by_last_axis(const view *v) /* an axis that is the last one unless said otherwise */
{
    return first_is_items(v) && axis_apart(v, eng_node_int(v->node, "axis", -1)) && aligned_from(v, 1);
}

static bool by_axis(const view *v) /* axis 0 unless said otherwise */
{
    return first_is_items(v) && axis_apart(v, eng_node_int(v->node, "axis", 0)) && rest_same(v, 1);
}

static bool concatenates(const view *v)
{
    for (int i = 0; i < v->n_in; i++)
        if (v->in[i] != ITEMS || v->t[i]->dims[0] != v->out->dims[0]) return false;
    return v->n_in && axis_apart(v, eng_node_int(v->node, "axis", 0));
}

static bool gathers(const view *v)
{
    if (v->n_in != 2) return false;
    int64_t axis = eng_node_int(v->node, "axis", 0);
    if (v->in[0] == ITEMS) return axis_apart(v, axis) && v->in[1] == SAME;
    return v->in[0] == SAME && v->in[1] == ITEMS && axis == 0; /* rows of a table */
}

/* Axes in input `i`, all of them known and none of them 0. */
static bool axes_apart(const view *v, int i)
{
    if (v->n_in <= i || v->in[i] != SAME || !v->t[i]->data || !eng_tensor_count(v->t[i])) return false;
    for (int64_t k = 0; k < eng_tensor_count(v->t[i]); k++)
        if (!axis_apart(v, eng_tensor_int(v->t[i], k))) return false;
    return true;
}

static bool reduces(const view *v)
{
    return first_is_items(v) && axes_apart(v, 1);
}

static bool slices(const view *v)
{
    return first_is_items(v) && rest_same(v, 1) && axes_apart(v, 3);
}

static bool pads(const view *v)
{
    if (!first_is_items(v) || v->n_in < 2 || !rest_same(v, 1) || (v->n_in > 3 && v->in[3] != ABSENT)) return false;
    const eng_tensor *p = v->t[1];
    int rank = v->t[0]->rank;
    return p->data && eng_tensor_count(p) == 2 * rank && !eng_tensor_int(p, 0) && !eng_tensor_int(p, rank);
}

static bool turns(const view *v)
{
    int64_t n;
    const int64_t *perm = eng_node_ints(v->node, "perm", &n);
    return first_is_items(v) && perm && n && perm[0] == 0;
}

/* Rearrange: the items are outermost after the first Reshape too. */
static bool rearranges(const view *v)
{
    if (!turns(v) || v->n_in < 2 || (v->in[1] != SAME && v->in[1] != SIZES)) return false;
    const eng_tensor *w = v->t[1], *p = v->t_part[1];
    int64_t n = eng_tensor_count(w);
    if (!w->data || !p->data || n < 1 || eng_tensor_count(p) != n) return false;
    for (int64_t i = 1; i < n; i++)
        if (eng_tensor_int(w, i) != eng_tensor_int(p, i)) return false;
    int64_t a = eng_tensor_int(w, 0), b = eng_tensor_int(p, 0), items = v->t[0]->dims[0], part = v->t_part[0]->dims[0];
    return a == b ? a <= 0 : a > 0 && b > 0 && a * part == b * items;
}

/* GatherRows: see engine/ops/gather_rows.c; rows of an item stay in it, if an item of the batch is not less. */
static bool gathers_rows(const view *v)
{
    if (!first_is_items(v) || v->n_in < 5 || v->in[1] != SAME || !aligned(v, 4)) return false;
    return (v->in[2] == SAME || v->node->in[2] < 0) && (v->in[3] == SAME || v->node->in[3] < 0);
}

static bool expands(const view *v)
{
    return first_is_items(v) && aligned(v, 0);
}

/* Our own attention: see engine/ops/attention_own.c. */
static bool attends(const view *v)
{
    static const char *const sides[] = {"q", "k", "v", "out"};
    if (v->node->domain != ENG_DOMAIN_OWN || v->n_in < 5) return false;
    for (int i = 0; i < 4; i++) {
        int64_t n;
        const int64_t *axes = eng_node_ints(v->node, sides[i], &n);
        if (!axes || !n || axes[0] != 0 || (i < 3 && v->in[i] != ITEMS)) return false;
    }
    return aligned(v, 3) && aligned(v, 4) && rest_same(v, 5);
}

static const struct {
    const char *name;
    rule_fn *apart;
} rules[] = {
    {"Reshape", reshapes}, {"Flatten", reshapes}, {"Squeeze", reshapes}, {"Unsqueeze", reshapes},
    {"Conv", by_image}, {"FusedConv", by_image}, {"ConvTranspose", by_image}, {"DeformConv", by_image},
    {"MaxPool", by_image}, {"AveragePool", by_image}, {"LpPool", by_image}, {"GlobalAveragePool", by_image},
    {"GlobalMaxPool", by_image}, {"GlobalLpPool", by_image}, {"LRN", by_image}, {"GridSample", by_image},
    {"BatchNormalization", by_image}, {"InstanceNormalization", by_image}, {"GroupNormalization", by_image},
    {"DepthToSpace", by_image}, {"SpaceToDepth", by_image}, {"Resize", resizes},
    {"MatMul", multiplies}, {"Gemm", gemm},
    {"Softmax", by_last_axis}, {"LogSoftmax", by_last_axis}, {"LayerNormalization", by_last_axis},
    {"RMSNormalization", by_last_axis}, {"LpNormalization", by_last_axis},
    {"Split", by_axis}, {"ArgMax", by_axis}, {"ArgMin", by_axis}, {"Concat", concatenates}, {"Gather", gathers},
    {"ReduceMean", reduces}, {"ReduceSum", reduces}, {"ReduceMax", reduces}, {"ReduceMin", reduces}, {"ReduceL2", reduces},
    {"ReduceL1", reduces}, {"ReduceSumSquare", reduces},
    {"Slice", slices}, {"Pad", pads}, {"Transpose", turns}, {"Rearrange", rearranges}, {"Expand", expands}, {"Attention", attends}, {"GatherRows", gathers_rows},
};

static rule_fn *rule_for(const eng_node *n)
{
    if (n->op->flags & ENG_RANDOM) return NULL;
    for (size_t i = 0; i < OD_COUNT(rules); i++)
        if (!strcmp(rules[i].name, n->op->name)) return rules[i].apart;
    return n->op->flags & ENG_CL_ALL ? elementwise : NULL;
}

/* ---- the graph ---------------------------------------------------------------------------- */

static bool node_apart(look *l, const eng_node *n, od_arena *a)
{
    view v = {.node = n, .n_in = n->n_in};
    v.in = od_arena_array(a, kind, n->n_in);
    v.t = od_arena_array(a, const eng_tensor *, n->n_in);
    v.t_part = od_arena_array(a, const eng_tensor *, n->n_in);
    if (!v.in || !v.t || !v.t_part) return false;
    bool items = false, sizes = false, computed = false;
    for (int i = 0; i < n->n_in; i++) {
        v.in[i] = kind_of(l, n->in[i]);
        if (v.in[i] == ABSENT && n->in[i] >= 0) return false;
        if (n->in[i] < 0) continue;
        v.t[i] = &l->whole->values[n->in[i]]->t;
        v.t_part[i] = &l->part->values[n->in[i]]->t;
        items |= v.in[i] == ITEMS;
        sizes |= v.in[i] == SIZES;
    }
    for (int k = 0; k < n->n_out; k++) {
        if (n->out[k] < 0) continue;
        const eng_pvalue *w = l->whole->values[n->out[k]], *p = l->part->values[n->out[k]];
        if (w->where == ENG_AT_RUN || p->where == ENG_AT_RUN) return false;
        if (w->where == ENG_AT_PLAN) continue; /* what is kept nowhere may yet be read, by a Conv that makes it itself */
        computed = true;
        if (items ? !scales(l, &w->t, &p->t) : !eng_dims_equal(&w->t, &p->t)) return false;
        l->kinds[n->out[k]] = items ? ITEMS : SAME;
    }
    if (!computed) return true;
    if (!items) return !sizes && !(n->op->flags & ENG_RANDOM);
    rule_fn *apart = rule_for(n);
    v.out = n->out[0] < 0 ? NULL : &l->whole->values[n->out[0]]->t;
    return apart && v.out && apart(&v);
}

/* Input i holds a row for each of *n items (0: not known yet), or is the same for all. */
static bool input_kind(const eng_graph *g, const eng_tensor *key, int i, int64_t *n, kind *k)
{
    const eng_value *v = &g->values[g->inputs[i]];
    *k = SAME;
    if (key->dtype >= ENG_SEQUENCE || (v->constant && key->data)) return false;
    if (v->constant || !v->rank || (v->rank > 0 && v->dims[0] >= 0)) return true;
    if (key->rank < 1 || (*n && key->dims[0] != *n)) return false;
    *n = key->dims[0];
    *k = ITEMS;
    return true;
}

static bool items_apart(look *l, od_arena *a)
{
    const eng_graph *g = l->whole->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        od_arena_mark mark = od_arena_save(a);
        bool apart = node_apart(l, &g->nodes[i], a);
        od_arena_rewind(a, mark);
        if (!apart) return false;
    }
    for (int k = 0; k < g->n_outputs; k++)
        if (kind_of(l, g->outputs[k]) != ITEMS) return false;
    return true;
}

/* Bytes that the steps of a plan write. */
static size_t written(const eng_plan *plan)
{
    size_t bytes = 0;
    for (int i = 0; i < plan->n_steps; i++)
        for (int k = 0; k < plan->steps[i].n_out; k++)
            if (plan->steps[i].out[k] >= 0) bytes += eng_tensor_bytes(&plan->values[plan->steps[i].out[k]]->t);
    return bytes;
}

/* Bytes of weights that a run reads. */
static size_t weights(const eng_plan *plan)
{
    const eng_graph *g = plan->graph;
    size_t bytes = 0;
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].constant && plan->values[v]->readers) bytes += eng_tensor_bytes(g->values[v].constant);
    return bytes > g->model->packed_bytes ? bytes : g->model->packed_bytes;
}

/* Weights are read again by each part: they must not be much more than what an item's results are. Parts are
 * of one item then, since those of a few were never better than both, measured. */
static bool pays(const eng_plan *whole, int64_t n)
{
    return whole->scratch_bytes > NEAR_BYTES && weights(whole) / 4 <= written(whole) / (size_t)n;
}

void eng_plan_divide(eng_plan *whole, od_pool *pool)
{
    const eng_graph *g = whole->graph;
    look l = {.whole = whole};
    od_arena a = {0};
    eng_plan *part = NULL;
    if (g->parent) return;
    for (int i = 0; i < whole->n_steps; i++)
        if (whole->steps[i].dynamic) return;
    l.kinds = od_arena_array(&a, kind, g->n_values);
    eng_tensor *inputs = od_arena_array(&a, eng_tensor, g->n_inputs);
    bool *divided = od_arena_array(&whole->arena, bool, g->n_inputs);
    if (!l.kinds || !inputs || !divided) goto done;
    for (int i = 0; i < g->n_inputs; i++) {
        if (!input_kind(g, &whole->key[i], i, &l.n, &l.kinds[g->inputs[i]])) goto done;
        divided[i] = l.kinds[g->inputs[i]] == ITEMS;
    }
    if (l.n < 2 || !pays(whole, l.n)) goto done;
    for (int i = 0; i < g->n_inputs; i++) {
        inputs[i] = whole->key[i];
        if (divided[i]) inputs[i].dims[0] = 1;
    }
    od_status ignored;
    if (eng_plan_build(&part, g, inputs, pool, &ignored) != OD_OK) goto done;
    l.part = part;
    if (!items_apart(&l, &a)) goto done;
    whole->part = part;
    whole->divided = divided;
    whole->parts = l.n;
    part = NULL;
done:
    eng_plan_free(part);
    od_arena_fini(&a);
}
