/* slices.c - a Concat of Slices of one tensor is one copy: along the axis that was sliced it is a Gather (rows that are
 * rolled, as in Swin), and of every b-th pixel of each kind it moves pixels to channels (the Focus of YOLOv5, SPD). */
#include "engine/passes/passes.h"

#include <string.h>

enum { INDICES_MAX = 1 << 20, BLOCK_MAX = 8 };

/* What a Slice takes along one axis. */
typedef struct cut {
    int axis;
    int64_t from, step, count;
} cut;

typedef struct view {
    eng_rewrite *r;
    unsigned *fixed; /* see eng_rewrite_fixed */
    int n_values;
} view;

/* The cuts of Slice `n` in the order that it names them; their number, or -1: not certain. */
static int read_slice(const view *w, const eng_node *n, cut *cuts)
{
    const eng_rewrite *r = w->r;
    const eng_tensor *t[5] = {NULL}, *x = eng_rewrite_type(r, n->in[0]);
    if (n->n_in < 3 || !x || n->in[0] >= w->n_values) return -1;
    for (int k = 1; k < 5 && k < n->n_in; k++)
        if (n->in[k] >= 0 && !(t[k] = eng_rewrite_constant(r, n->in[k]))) return -1;
    int64_t count = t[1] ? eng_tensor_count(t[1]) : 0;
    if (!t[2] || count < 1 || count > x->rank) return -1;
    for (int i = 0; i < count; i++) {
        int64_t axis = t[3] ? eng_tensor_int(t[3], i) : i, step = t[4] ? eng_tensor_int(t[4], i) : 1;
        if (axis < 0) axis += x->rank;
        if (axis < 0 || axis >= x->rank || step < 1 || x->dims[axis] < 1 || !(w->fixed[n->in[0]] >> axis & 1)) return -1;
        int64_t extent = x->dims[axis], from = eng_tensor_int(t[1], i), until = eng_tensor_int(t[2], i);
        if (from < 0) from += extent;
        if (until < 0) until += extent;
        if (until > extent) until = extent;
        if (from < 0 || from >= until) return -1;
        cuts[i] = (cut){(int)axis, from, step, (until - from - 1) / step + 1};
    }
    return (int)count;
}

/* ---- rolled ---------------------------------------------------------------------------------- */

bool eng_rewrite_image(const eng_rewrite *r, int v)
{
    for (int depth = 0; depth < 8; depth++) {
        const eng_node *n = eng_rewrite_maker(r, v, NULL);
        if (!n || n->n_in < 1) return false;
        if (n->op->flags & ENG_CL_FIRST) return true;
        if (!(n->op->flags & ENG_CL_ALL)) return false;
        v = n->in[0];
    }
    return true;
}

static od_code to_gather(const view *w, eng_node *n, int axis, od_status *st)
{
    eng_rewrite *r = w->r;
    const eng_node *first = eng_rewrite_maker(r, n->in[0], "Slice");
    int x = first->in[0], at = 0;
    int64_t total = 0;
    cut cuts[ENG_MAX_RANK];
    if (eng_rewrite_image(r, x) || !eng_op_find(ENG_DOMAIN_ONNX, "Gather", 13)) return OD_OK;
    for (int k = 0; k < n->n_in; k++) {
        const eng_node *s = eng_rewrite_maker(r, n->in[k], "Slice");
        if (!s || s->in[0] != x || read_slice(w, s, cuts) != 1 || cuts[0].axis != axis) return OD_OK;
        total += cuts[0].count;
    }
    if (total > INDICES_MAX) return OD_OK;
    int64_t *data;
    int v = eng_rewrite_new_ints(r, total, &data);
    if (v < 0) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " indices", total);
    for (int k = 0; k < n->n_in; k++) {
        read_slice(w, eng_rewrite_maker(r, n->in[k], "Slice"), cuts);
        for (int64_t i = 0; i < cuts[0].count; i++) data[at++] = cuts[0].from + i * cuts[0].step;
    }
    OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_ONNX, "Gather", 13, 2, st));
    n->in[0] = x;
    n->in[1] = v;
    return eng_node_set_int(r->g, n, "axis", axis, st);
}

/* ---- pixels to channels ---------------------------------------------------------------------- */

/* v is every b-th line and column of an image from (row, column) on: the image, or ENG_NONE. *block 0: not known yet. */
static int read_phase(const view *w, int v, int64_t *block, int64_t *row, int64_t *column)
{
    unsigned cut_axes = 0;
    const eng_node *n;
    while ((n = eng_rewrite_maker(w->r, v, "Slice")) && cut_axes != 12) {
        const eng_tensor *t = eng_rewrite_type(w->r, n->in[0]);
        cut cuts[ENG_MAX_RANK];
        int count = t && t->rank == 4 ? read_slice(w, n, cuts) : -1;
        for (int i = 0; i < count; i++) {
            const cut *c = &cuts[i];
            if (c->axis < 2 || cut_axes >> c->axis & 1 || c->from >= c->step) return ENG_NONE;
            if (c->from + (c->count - 1) * c->step < t->dims[c->axis] - c->step || t->dims[c->axis] % c->step) return ENG_NONE;
            if (!*block) *block = c->step;
            if (c->step != *block) return ENG_NONE;
            *(c->axis == 2 ? row : column) = c->from;
            cut_axes |= 1u << c->axis;
        }
        if (count < 0) return ENG_NONE;
        v = n->in[0];
    }
    return cut_axes == 12 ? v : ENG_NONE;
}

static int shape_of(eng_rewrite *r, int rank, const int64_t *dims)
{
    int64_t *to;
    int v = eng_rewrite_new_ints(r, rank, &to);
    if (v >= 0) memcpy(to, dims, (size_t)rank * sizeof *dims);
    return v;
}

static od_code to_channels(const view *w, eng_node *n, od_status *st)
{
    eng_rewrite *r = w->r;
    static const int64_t by_rows[] = {0, 3, 5, 1, 2, 4}, by_columns[] = {0, 5, 3, 1, 2, 4};
    int64_t b = 0;
    int x = ENG_NONE;
    bool rows = true, columns = true;
    for (int k = 0; k < n->n_in; k++) {
        int64_t row = 0, column = 0;
        int from = read_phase(w, n->in[k], &b, &row, &column);
        if (from < 0 || (k && from != x) || b < 2 || b > BLOCK_MAX || n->n_in != b * b) return OD_OK;
        x = from;
        rows &= k == row * b + column;
        columns &= k == column * b + row;
    }
    const eng_tensor *t = eng_rewrite_type(r, x);
    if ((!rows && !columns) || !t || t->dims[1] < 1 || !(w->fixed[x] >> 1 & 1) || !eng_op_find(ENG_DOMAIN_OWN, "Rearrange", 1)) return OD_OK;
    int64_t high = t->dims[2] / b, wide = t->dims[3] / b;
    int apart = shape_of(r, 6, (int64_t[]){0, t->dims[1], high, b, wide, b});
    int together = shape_of(r, 4, (int64_t[]){0, t->dims[1] * b * b, high, wide});
    if (apart < 0 || together < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a shape");
    OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_OWN, "Rearrange", 1, 3, st));
    n->in[0] = x;
    n->in[1] = apart;
    n->in[2] = together;
    return eng_node_set_ints(r->g, n, "perm", rows ? by_rows : by_columns, 6, st);
}

od_code eng_pass_slices(eng_rewrite *r, od_status *st)
{
    view w = {.r = r};
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (n->dead || n->fused.act || n->n_in < 2 || !eng_node_is(n, "Concat")) continue;
        const eng_node *s = eng_rewrite_maker(r, n->in[0], "Slice");
        const eng_tensor *t = s ? eng_rewrite_type(r, s->in[0]) : NULL;
        int64_t axis = eng_node_int(n, "axis", 0);
        if (!t) continue;
        if (axis < 0) axis += t->rank;
        if (!w.fixed) {
            w.n_values = r->g->n_values;
            OD_TRY(eng_rewrite_fixed(r, &w.fixed, st));
        }
        if (t->rank == 4 && axis == 1) OD_TRY(to_channels(&w, n, st));
        if (eng_node_is(n, "Concat") && axis >= 0 && axis < t->rank) OD_TRY(to_gather(&w, n, (int)axis, st));
    }
    return OD_OK;
}
