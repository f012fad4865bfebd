/* ml_tree.c - TreeEnsemble, TreeEnsembleClassifier, TreeEnsembleRegressor.
 * Whatever the operator's attributes look like, prepare makes one form of them: branches that lead to
 * branches (>= 0) or leaves (~ of their number), leaves that give votes, a list of roots. Rows are walked
 * in parallel, each through all trees in order, votes summed in double. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ml.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum tree_mode { MODE_LEQ, MODE_LT, MODE_GTE, MODE_GT, MODE_EQ, MODE_NEQ, MODE_MEMBER, MODE_LEAF } tree_mode;
typedef enum tree_sum { SUM_AVERAGE, SUM_SUM, SUM_MIN, SUM_MAX } tree_sum;

typedef struct branch {
    double value; /* MODE_MEMBER: the first of its members, a NaN ends them */
    int32_t feature, yes, no;
    uint8_t mode, missing; /* missing: NaN goes the way of yes */
} branch;

typedef struct leaf {
    int64_t first, n; /* votes */
} leaf;

typedef struct vote {
    int64_t target;
    double weight;
} vote;

typedef struct trees {
    branch *branches;
    leaf *leaves;
    vote *votes;
    int32_t *roots;
    const eng_tensor *members;
    int64_t n_branches, n_leaves, n_roots, n_targets, n_base, max_feature;
    double *base;
    tree_sum sum;
    eng_post post;
    bool classifier, plain, all_positive; /* plain: all <=, NaN never yes */
    int64_t only; /* the one class that has votes, or -1 */
    eng_labels labels;
} trees;

/* ---- making the common form --------------------------------------------------------------- */

/* A list attribute of floats, or the tensor of the same name with _as_tensor. */
typedef struct numbers {
    const float *floats;
    const eng_tensor *tensor;
    int64_t n;
} numbers;

static numbers read_numbers(const eng_node *n, const char *name)
{
    char other[64];
    numbers v = {.n = 0};
    v.floats = eng_node_floats(n, name, &v.n);
    snprintf(other, sizeof other, "%s_as_tensor", name);
    const eng_attr *a = eng_node_attr(n, other);
    if (!v.n && a && a->n == 1) {
        v.tensor = &a->tensors[0];
        v.n = eng_tensor_count(v.tensor);
    }
    return v;
}

static double number_at(const numbers *v, int64_t i)
{
    return v->tensor ? eng_tensor_double(v->tensor, i) : (double)v->floats[i];
}

static void *room(eng_graph *g, int64_t n, size_t size)
{
    size_t bytes;
    return od_mul((size_t)n + 1, size, &bytes) ? eng_model_alloc(g, bytes) : NULL;
}

/* Every walk must end: no branch may lead back to itself. Branches without a way in are taken off one by
 * one; what is left then lies on a cycle. */
static od_code check_acyclic(eng_graph *g, const trees *t, od_status *st)
{
    od_arena tmp = {0};
    int32_t *ways = od_arena_array(&tmp, int32_t, t->n_branches), *open = od_arena_array(&tmp, int32_t, t->n_branches);
    int64_t n = 0, done = 0;
    (void)g;
    if (!ways || !open) {
        od_arena_fini(&tmp);
        return od_fail(st, OD_NO_MEMORY, "no memory to check %" PRId64 " branches", t->n_branches);
    }
    for (int64_t i = 0; i < t->n_branches; i++)
        for (int way = 0; way < 2; way++) {
            int32_t to = way ? t->branches[i].no : t->branches[i].yes;
            if (to >= 0) ways[to]++;
        }
    for (int64_t i = 0; i < t->n_branches; i++)
        if (!ways[i]) open[n++] = (int32_t)i;
    for (; done < n; done++)
        for (int way = 0; way < 2; way++) {
            const branch *b = &t->branches[open[done]];
            int32_t to = way ? b->no : b->yes;
            if (to >= 0 && !--ways[to]) open[n++] = to;
        }
    od_arena_fini(&tmp);
    if (done == t->n_branches) return OD_OK;
    return od_fail(st, OD_BAD_MODEL, "%" PRId64 " branches lie on cycles", t->n_branches - done);
}

/* (tree, node) -> place among the nodes, sorted for look-ups. */
typedef struct place {
    int64_t tree, node;
    int32_t at;
} place;

static int compare_places(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->tree != y->tree) return x->tree < y->tree ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

static int32_t find_place(const place *places, int64_t n, int64_t tree, int64_t node)
{
    place key = {tree, node, 0};
    const place *p = bsearch(&key, places, (size_t)n, sizeof *places, compare_places);
    return p ? p->at : -1;
}

static int mode_of(const eng_str *s)
{
    static const char *const names[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ",
                                        "BRANCH_MEMBER", "LEAF"};
    for (int i = 0; i < (int)OD_COUNT(names); i++)
        if (strlen(names[i]) == s->len && !memcmp(names[i], s->ptr, s->len) && i != MODE_MEMBER) return i;
    return -1;
}

typedef struct listed { /* the node lists of the older operators */
    int64_t n;
    const int64_t *tree, *node, *feature, *yes, *no, *missing;
    const eng_str *modes;
    numbers values;
} listed;

static od_code read_lists(const eng_node *n, listed *l, od_status *st)
{
    int64_t count[6];
    const eng_attr *modes = eng_node_attr(n, "nodes_modes");
    l->tree = eng_node_ints(n, "nodes_treeids", &count[0]);
    l->node = eng_node_ints(n, "nodes_nodeids", &count[1]);
    l->feature = eng_node_ints(n, "nodes_featureids", &count[2]);
    l->yes = eng_node_ints(n, "nodes_truenodeids", &count[3]);
    l->no = eng_node_ints(n, "nodes_falsenodeids", &count[4]);
    l->missing = eng_node_ints(n, "nodes_missing_value_tracks_true", &count[5]);
    l->values = read_numbers(n, "nodes_values");
    l->n = count[0];
    l->modes = modes ? modes->strings : NULL;
    if (!count[5]) l->missing = NULL;
    bool same = modes && modes->n == l->n && l->values.n == l->n && (!l->missing || count[5] == l->n);
    for (int i = 1; i < 5; i++) same &= count[i] == l->n;
    if (!same || l->n < 1 || l->n > INT32_MAX / 2)
        return od_fail(st, OD_BAD_ARGUMENT, "the nodes_* attributes are not lists of one length: nodes_treeids has %" PRId64,
                       l->n);
    return OD_OK;
}

/* Where node i of the lists lies in the common form: a branch, or ~ a leaf. */
static od_code place_nodes(const listed *l, trees *t, int32_t *ref, place *places, od_status *st)
{
    for (int64_t i = 0; i < l->n; i++) {
        int mode = mode_of(&l->modes[i]);
        if (mode < 0) return od_fail(st, OD_BAD_ARGUMENT, "nodes_modes[%" PRId64 "] is no known mode", i);
        ref[i] = mode == MODE_LEAF ? ~(int32_t)t->n_leaves++ : (int32_t)t->n_branches++;
        places[i] = (place){l->tree[i], l->node[i], (int32_t)i};
    }
    qsort(places, (size_t)l->n, sizeof *places, compare_places);
    for (int64_t i = 1; i < l->n; i++)
        if (!compare_places(&places[i - 1], &places[i]))
            return od_fail(st, OD_BAD_MODEL, "tree %" PRId64 " has two nodes %" PRId64, places[i].tree, places[i].node);
    return OD_OK;
}

static od_code add_branches(eng_graph *g, const listed *l, trees *t, const int32_t *ref, const place *places, bool *child,
                            od_status *st)
{
    t->branches = room(g, t->n_branches, sizeof *t->branches);
    t->leaves = room(g, t->n_leaves, sizeof *t->leaves);
    t->roots = room(g, l->n, sizeof *t->roots);
    if (!t->branches || !t->leaves || !t->roots) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " nodes", l->n);
    for (int64_t i = 0; i < l->n; i++) {
        if (ref[i] < 0) continue;
        branch *b = &t->branches[ref[i]];
        int32_t yes = find_place(places, l->n, l->tree[i], l->yes[i]), no = find_place(places, l->n, l->tree[i], l->no[i]);
        if (yes < 0 || no < 0)
            return od_fail(st, OD_BAD_MODEL, "node %" PRId64 " of tree %" PRId64 " leads to a node that is not there", l->node[i],
                           l->tree[i]);
        if (l->feature[i] < 0 || l->feature[i] > INT32_MAX)
            return od_fail(st, OD_BAD_ARGUMENT, "nodes_featureids[%" PRId64 "] is %" PRId64, i, l->feature[i]);
        child[yes] = child[no] = true;
        *b = (branch){.value = number_at(&l->values, i), .feature = (int32_t)l->feature[i], .yes = ref[yes], .no = ref[no],
                      .mode = (uint8_t)mode_of(&l->modes[i]), .missing = l->missing && l->missing[i]};
    }
    for (int64_t i = 0; i < l->n; i++)
        if (!child[i]) t->roots[t->n_roots++] = ref[i];
    return OD_OK;
}

/* The votes of attributes PREFIX_treeids, _nodeids, _ids, _weights, sorted to their leaves. */
static od_code add_votes(eng_graph *g, const eng_node *n, const char *prefix, const listed *l, trees *t, const int32_t *ref,
                         const place *places, od_status *st)
{
    char name[4][32];
    int64_t count[3];
    const char *const ends[] = {"treeids", "nodeids", "ids", "weights"};
    for (int i = 0; i < 4; i++) snprintf(name[i], sizeof name[i], "%s_%s", prefix, ends[i]);
    const int64_t *tree = eng_node_ints(n, name[0], &count[0]), *node = eng_node_ints(n, name[1], &count[1]);
    const int64_t *target = eng_node_ints(n, name[2], &count[2]);
    numbers weights = read_numbers(n, name[3]);
    int64_t m = count[0], at = 0;
    if (count[1] != m || count[2] != m || weights.n != m)
        return od_fail(st, OD_BAD_ARGUMENT, "the %s_* attributes are not lists of one length: %s has %" PRId64, prefix, name[0],
                       m);
    t->votes = room(g, m, sizeof *t->votes);
    if (!t->votes) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " votes", m);
    t->only = m ? target[0] : -1;
    t->all_positive = true;
    for (int64_t i = 0; i < m; i++) {
        int32_t p = find_place(places, l->n, tree[i], node[i]);
        if (p < 0 || ref[p] >= 0) {
            if (p >= 0) continue; /* votes of a branch are never reached */
            return od_fail(st, OD_BAD_MODEL, "%s %" PRId64 " is for node %" PRId64 " of tree %" PRId64 ", which is not there",
                           name[3], i, node[i], tree[i]);
        }
        if (target[i] < 0 || target[i] >= t->n_targets)
            return od_fail(st, OD_BAD_ARGUMENT, "%s[%" PRId64 "] is %" PRId64 ", there are %" PRId64, name[2], i, target[i],
                           t->n_targets);
        t->leaves[~ref[p]].n++;
        if (target[i] != t->only) t->only = -1;
        t->all_positive &= number_at(&weights, i) >= 0.0;
    }
    for (int64_t i = 0; i < t->n_leaves; i++) {
        t->leaves[i].first = at;
        at += t->leaves[i].n;
        t->leaves[i].n = 0;
    }
    for (int64_t i = 0; i < m; i++) {
        int32_t p = find_place(places, l->n, tree[i], node[i]);
        if (ref[p] >= 0) continue;
        leaf *f = &t->leaves[~ref[p]];
        t->votes[f->first + f->n++] = (vote){target[i], number_at(&weights, i)};
    }
    return OD_OK;
}

static od_code add_base(eng_graph *g, const eng_node *n, trees *t, od_status *st)
{
    numbers base = read_numbers(n, "base_values");
    if (base.n && base.n != t->n_targets && !(base.n == 1 && t->n_targets == 2 && t->classifier))
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " base_values for %" PRId64 " targets", base.n, t->n_targets);
    t->n_base = base.n;
    t->base = room(g, base.n, sizeof *t->base);
    if (!t->base) return od_fail(st, OD_NO_MEMORY, "no memory for base values");
    for (int64_t i = 0; i < base.n; i++) t->base[i] = number_at(&base, i);
    return OD_OK;
}

static od_code finish_trees(eng_graph *g, eng_node *n, trees *t, od_status *st)
{
    OD_TRY(check_acyclic(g, t, st));
    t->plain = true;
    t->max_feature = -1;
    for (int64_t i = 0; i < t->n_branches; i++) {
        const branch *b = &t->branches[i];
        t->plain &= b->mode == MODE_LEQ && !b->missing;
        t->max_feature = od_max_i64(t->max_feature, b->feature);
    }
    n->params = t;
    return OD_OK;
}

static od_code from_lists(eng_graph *g, eng_node *n, trees *t, const char *prefix, od_status *st)
{
    listed l;
    OD_TRY(read_lists(n, &l, st));
    od_arena tmp = {0};
    int32_t *ref = od_arena_array(&tmp, int32_t, l.n);
    place *places = od_arena_array(&tmp, place, l.n);
    bool *child = od_arena_array(&tmp, bool, l.n);
    od_code rc = OD_OK;
    if (!ref || !places || !child) rc = od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " nodes", l.n);
    if (rc == OD_OK) rc = place_nodes(&l, t, ref, places, st);
    if (rc == OD_OK) rc = add_branches(g, &l, t, ref, places, child, st);
    if (rc == OD_OK) rc = add_votes(g, n, prefix, &l, t, ref, places, st);
    od_arena_fini(&tmp);
    if (rc != OD_OK) return rc;
    OD_TRY(add_base(g, n, t, st));
    return finish_trees(g, n, t, st);
}

od_code eng_tree_classifier_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    (void)pool;
    if (n->params) return OD_OK;
    trees *t = eng_model_alloc(g, sizeof *t);
    if (!t) return od_fail(st, OD_NO_MEMORY, "no memory for trees");
    OD_TRY(eng_ml_post(n, &t->post, st));
    OD_TRY(eng_labels_read(n, "classlabels_int64s", &t->labels, st));
    if (!t->labels.n) return od_fail(st, OD_BAD_ARGUMENT, "there are no class labels");
    t->classifier = true;
    t->sum = SUM_SUM;
    t->n_targets = t->labels.n;
    return from_lists(g, n, t, "class", st);
}

od_code eng_tree_regressor_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    static const char *const sums[] = {"AVERAGE", "SUM", "MIN", "MAX"};
    int k = 0;
    (void)pool;
    if (n->params) return OD_OK;
    trees *t = eng_model_alloc(g, sizeof *t);
    if (!t) return od_fail(st, OD_NO_MEMORY, "no memory for trees");
    OD_TRY(eng_ml_post(n, &t->post, st));
    while (k < 4 && !eng_node_string_is(n, "aggregate_function", "SUM", sums[k])) k++;
    if (k == 4) return od_fail(st, OD_BAD_ARGUMENT, "aggregate_function is none of AVERAGE, SUM, MIN, MAX");
    t->sum = (tree_sum)k;
    t->n_targets = eng_node_int(n, "n_targets", 1);
    if (t->n_targets < 1 || t->n_targets > INT32_MAX)
        return od_fail(st, OD_BAD_ARGUMENT, "n_targets is %" PRId64, t->n_targets);
    return from_lists(g, n, t, "target", st);
}

/* ---- TreeEnsemble ------------------------------------------------------------------------- */

static const eng_tensor *tensor_attr(const eng_node *n, const char *name)
{
    const eng_attr *a = eng_node_attr(n, name);
    return a && a->kind == ENG_ATTR_TENSOR && a->n == 1 ? &a->tensors[0] : NULL;
}

/* A child's place: a leaf when `leafs` says so. */
static od_code child_of(const int64_t *ids, const int64_t *leafs, int64_t i, const trees *t, int32_t *out, od_status *st)
{
    int64_t n = leafs[i] ? t->n_leaves : t->n_branches;
    if (ids[i] < 0 || ids[i] >= n)
        return od_fail(st, OD_BAD_MODEL, "branch %" PRId64 " leads to %s %" PRId64 " of %" PRId64, i,
                       leafs[i] ? "leaf" : "branch", ids[i], n);
    *out = leafs[i] ? ~(int32_t)ids[i] : (int32_t)ids[i];
    return OD_OK;
}

static od_code add_ensemble_branches(const eng_node *n, trees *t, const eng_tensor *splits, const eng_tensor *modes,
                                     od_status *st)
{
    int64_t count[6], at = 0;
    const int64_t *feature = eng_node_ints(n, "nodes_featureids", &count[0]);
    const int64_t *yes = eng_node_ints(n, "nodes_truenodeids", &count[1]), *no = eng_node_ints(n, "nodes_falsenodeids", &count[2]);
    const int64_t *yes_leaf = eng_node_ints(n, "nodes_trueleafs", &count[3]), *no_leaf = eng_node_ints(n, "nodes_falseleafs", &count[4]);
    const int64_t *missing = eng_node_ints(n, "nodes_missing_value_tracks_true", &count[5]);
    bool same = (!count[5] || count[5] == t->n_branches) && eng_tensor_count(splits) == t->n_branches;
    for (int i = 0; i < 5; i++) same &= count[i] == t->n_branches;
    if (!same)
        return od_fail(st, OD_BAD_ARGUMENT, "the nodes_* attributes are not lists of one length: nodes_modes has %" PRId64,
                       t->n_branches);
    for (int64_t i = 0; i < t->n_branches; i++) {
        branch *b = &t->branches[i];
        int64_t mode = eng_tensor_int(modes, i);
        if (mode < 0 || mode > MODE_MEMBER) return od_fail(st, OD_BAD_ARGUMENT, "nodes_modes[%" PRId64 "] is %" PRId64, i, mode);
        if (feature[i] < 0 || feature[i] > INT32_MAX)
            return od_fail(st, OD_BAD_ARGUMENT, "nodes_featureids[%" PRId64 "] is %" PRId64, i, feature[i]);
        *b = (branch){.value = eng_tensor_double(splits, i), .feature = (int32_t)feature[i], .mode = (uint8_t)mode,
                      .missing = count[5] && missing[i]};
        OD_TRY(child_of(yes, yes_leaf, i, t, &b->yes, st));
        OD_TRY(child_of(no, no_leaf, i, t, &b->no, st));
        if (mode != MODE_MEMBER) continue;
        b->value = (double)at;
        int64_t n_members = t->members ? eng_tensor_count(t->members) : 0;
        while (at < n_members && !isnan(eng_tensor_double(t->members, at))) at++;
        if (at++ >= n_members) return od_fail(st, OD_BAD_MODEL, "membership_values end before branch %" PRId64, i);
    }
    return OD_OK;
}

od_code eng_tree_ensemble_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    int64_t n_ids;
    (void)pool;
    if (n->params) return OD_OK;
    trees *t = eng_model_alloc(g, sizeof *t);
    if (!t) return od_fail(st, OD_NO_MEMORY, "no memory for trees");
    const eng_tensor *splits = tensor_attr(n, "nodes_splits"), *modes = tensor_attr(n, "nodes_modes");
    const eng_tensor *weights = tensor_attr(n, "leaf_weights");
    const int64_t *ids = eng_node_ints(n, "leaf_targetids", &n_ids), *roots = eng_node_ints(n, "tree_roots", &t->n_roots);
    if (!splits || !modes || !weights || n_ids != eng_tensor_count(weights))
        return od_fail(st, OD_BAD_ARGUMENT, "nodes_splits, nodes_modes, leaf_weights and leaf_targetids are wanted, the last two "
                                            "of one length");
    int64_t post = eng_node_int(n, "post_transform", 0), sum = eng_node_int(n, "aggregate_function", SUM_SUM);
    if (post < 0 || post > ENG_POST_PROBIT || sum < 0 || sum > SUM_MAX)
        return od_fail(st, OD_BAD_ARGUMENT, "post_transform is %" PRId64 ", aggregate_function %" PRId64, post, sum);
    t->post = (eng_post)post;
    t->sum = (tree_sum)sum;
    t->members = tensor_attr(n, "membership_values");
    t->n_targets = eng_node_int(n, "n_targets", 1);
    t->n_branches = eng_tensor_count(modes);
    t->n_leaves = n_ids;
    if (t->n_targets < 1 || t->n_targets > INT32_MAX || t->n_branches > INT32_MAX / 2 || n_ids > INT32_MAX / 2)
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " targets, %" PRId64 " branches, %" PRId64 " leaves", t->n_targets,
                       t->n_branches, n_ids);
    t->branches = room(g, t->n_branches, sizeof *t->branches);
    t->leaves = room(g, n_ids, sizeof *t->leaves);
    t->votes = room(g, n_ids, sizeof *t->votes);
    t->roots = room(g, t->n_roots, sizeof *t->roots);
    if (!t->branches || !t->leaves || !t->votes || !t->roots) return od_fail(st, OD_NO_MEMORY, "no memory for trees");
    for (int64_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || ids[i] >= t->n_targets)
            return od_fail(st, OD_BAD_ARGUMENT, "leaf_targetids[%" PRId64 "] is %" PRId64 ", there are %" PRId64, i, ids[i],
                           t->n_targets);
        t->leaves[i] = (leaf){i, 1};
        t->votes[i] = (vote){ids[i], eng_tensor_double(weights, i)};
    }
    OD_TRY(add_ensemble_branches(n, t, splits, modes, st));
    for (int64_t i = 0; i < t->n_roots; i++) {
        if (roots[i] < 0 || roots[i] >= t->n_branches)
            return od_fail(st, OD_BAD_MODEL, "tree_roots[%" PRId64 "] is %" PRId64, i, roots[i]);
        t->roots[i] = (int32_t)roots[i];
    }
    return finish_trees(g, n, t, st);
}

/* ---- shapes ------------------------------------------------------------------------------- */

static od_code check_rows(const eng_ctx *c, int64_t *rows, od_status *st)
{
    const trees *t = c->node->params;
    int64_t features;
    OD_TRY(eng_ml_rows(c, rows, &features, st));
    if (t->max_feature >= features)
        return od_fail(st, OD_BAD_SHAPE, "rows have %" PRId64 " features, the trees ask for feature %" PRId64, features,
                       t->max_feature);
    return OD_OK;
}

od_code eng_tree_classifier_infer(eng_ctx *c, od_status *st)
{
    const trees *t = c->node->params;
    int64_t rows;
    OD_TRY(check_rows(c, &rows, st));
    OD_TRY(eng_set_out(c, 0, t->labels.strings ? ENG_STRING : ENG_INT64, 1, &rows, st));
    return eng_set_out(c, 1, ENG_FLOAT, 2, (int64_t[]){rows, t->n_targets}, st);
}

od_code eng_tree_regressor_infer(eng_ctx *c, od_status *st)
{
    const trees *t = c->node->params;
    int64_t rows;
    OD_TRY(check_rows(c, &rows, st));
    bool wide = !strcmp(c->node->op_type, "TreeEnsemble"); /* gives what it takes; the older ones floats */
    return eng_set_out(c, 0, wide ? c->in[0]->dtype : ENG_FLOAT, 2, (int64_t[]){rows, t->n_targets}, st);
}

/* ---- running ------------------------------------------------------------------------------ */

static bool is_member(const eng_tensor *members, int64_t at, double x)
{
    for (double m; !isnan(m = eng_tensor_double(members, at)); at++)
        if (m == x) return true;
    return false;
}

static bool goes_yes(const trees *t, const branch *b, double x)
{
    if (b->missing && isnan(x)) return true;
    switch (b->mode) {
    case MODE_LEQ: return x <= b->value;
    case MODE_LT: return x < b->value;
    case MODE_GTE: return x >= b->value;
    case MODE_GT: return x > b->value;
    case MODE_EQ: return x == b->value;
    case MODE_NEQ: return x != b->value;
    default: return is_member(t->members, (int64_t)b->value, x);
    }
}

static const leaf *walk(const trees *t, int32_t at, const double *x)
{
    if (t->plain)
        while (at >= 0) {
            const branch *b = &t->branches[at];
            at = x[b->feature] <= b->value ? b->yes : b->no;
        }
    while (at >= 0) {
        const branch *b = &t->branches[at];
        at = goes_yes(t, b, x[b->feature]) ? b->yes : b->no;
    }
    return &t->leaves[~at];
}

/* All votes on a row; seen[k]: target k had one. */
static void sum_votes(const trees *t, const double *x, double *s, bool *seen)
{
    memset(s, 0, (size_t)t->n_targets * sizeof *s);
    memset(seen, 0, (size_t)t->n_targets * sizeof *seen);
    for (int64_t r = 0; r < t->n_roots; r++) {
        const leaf *f = walk(t, t->roots[r], x);
        for (int64_t i = 0; i < f->n; i++) {
            const vote *v = &t->votes[f->first + i];
            double *to = &s[v->target];
            if (t->sum == SUM_MIN) *to = seen[v->target] && *to < v->weight ? *to : v->weight;
            else if (t->sum == SUM_MAX) *to = seen[v->target] && *to > v->weight ? *to : v->weight;
            else *to += v->weight;
            seen[v->target] = true;
        }
    }
    if (t->sum == SUM_AVERAGE && t->n_roots)
        for (int64_t k = 0; k < t->n_targets; k++) s[k] /= (double)t->n_roots;
}

typedef struct tree_job {
    const trees *t;
    const eng_tensor *x, *y, *z;
    int64_t features;
} tree_job;

static void regress(void *arg, int64_t row, double *x)
{
    const tree_job *j = arg;
    const trees *t = j->t;
    double *s = x + j->features;
    eng_ml_row(j->x, row, j->features, x);
    sum_votes(t, x, s, (bool *)(s + t->n_targets));
    for (int64_t k = 0; k < t->n_base; k++) s[k] += t->base[k];
    if (t->n_targets > 1) eng_ml_transform(t->post, s, t->n_targets);
    else if (t->post == ENG_POST_PROBIT) s[0] = eng_ml_probit(s[0]);
    eng_store_doubles((char *)j->y->data + (size_t)(row * t->n_targets) * eng_dtype_size(j->y->dtype), s, j->y->dtype, 1,
                      t->n_targets);
}

/* Of two classes only one has votes: they decide against a threshold, 1/2 where they are probabilities. */
static void decide_pair(const tree_job *j, int64_t row, double *s)
{
    const trees *t = j->t;
    double threshold = t->all_positive ? 0.5 : 0.0, score = s[t->only];
    if (t->n_base) score += t->base[t->n_base == 2 ? t->only : 0];
    eng_labels_put(&t->labels, j->y, row, score > threshold);
    if (t->only == 0) {
        eng_ml_pair(t->post, !t->all_positive, score, s);
    } else {
        s[0] = 0.0;
        s[1] = score;
        eng_ml_transform(t->post, s, 2);
    }
}

static void decide(const tree_job *j, int64_t row, double *s, bool *seen)
{
    const trees *t = j->t;
    int64_t best = -1;
    for (int64_t k = 0; k < t->n_base; k++) {
        s[k] += t->base[k];
        seen[k] = true;
    }
    for (int64_t k = 0; k < t->n_targets; k++) /* a class without a vote loses even to a negative score */
        if (seen[k] && (best < 0 || s[k] > s[best])) best = k;
    eng_labels_put(&t->labels, j->y, row, best < 0 ? 0 : best);
    eng_ml_transform(t->post, s, t->n_targets);
}

static void classify(void *arg, int64_t row, double *x)
{
    const tree_job *j = arg;
    const trees *t = j->t;
    double *s = x + j->features;
    bool *seen = (bool *)(s + t->n_targets);
    eng_ml_row(j->x, row, j->features, x);
    sum_votes(t, x, s, seen);
    if (t->n_targets == 1) {
        if (t->n_base) s[0] += t->base[0];
        eng_labels_put_sign(&t->labels, j->y, row, s[0] > 0);
        if (t->post == ENG_POST_PROBIT) s[0] = eng_ml_probit(s[0]);
    } else if (t->n_targets == 2 && t->only >= 0) {
        decide_pair(j, row, s);
    } else {
        decide(j, row, s, seen);
    }
    if (j->z) eng_store_doubles((char *)((float *)j->z->data + row * t->n_targets), s, ENG_FLOAT, 1, t->n_targets);
}

od_code eng_trees_run(eng_ctx *c, od_status *st)
{
    tree_job j = {.t = c->node->params, .x = c->in[0], .y = c->out[0], .z = c->n_out > 1 ? c->out[1] : NULL};
    int64_t rows;
    OD_TRY(eng_ml_rows(c, &rows, &j.features, st));
    int64_t doubles = j.features + 2 * j.t->n_targets + 1, cost = 20 * j.t->n_roots + j.features;
    if (!j.t->classifier && !j.y) return OD_OK;
    return eng_ml_each_row(c, rows, doubles, cost, j.t->classifier ? classify : regress, &j, st);
}
