/* transpose.c - graphs that come from channels-last frameworks have a Transpose before and behind each operator that
 * wants channels first. Two in a row are one, or none; one that puts channels last goes behind the elementwise operators,
 * concatenations, paddings and slices that follow it, until it meets its opposite, and a mean over pixels needs none. */
#include "engine/passes/passes.h"

#include <string.h>

/* The axes of a Transpose, all of them not negative; false: it does not say, or wrongly. */
static bool read_perm(const eng_node *n, int64_t *perm, int *rank)
{
    int64_t count;
    const int64_t *p = eng_node_is(n, "Transpose") ? eng_node_ints(n, "perm", &count) : NULL;
    unsigned seen = 0;
    if (!p || count < 1 || count > ENG_MAX_RANK) return false;
    for (int64_t i = 0; i < count; i++) {
        if (p[i] < 0 || p[i] >= count || seen >> p[i] & 1) return false;
        seen |= 1u << p[i];
        perm[i] = p[i];
    }
    *rank = (int)count;
    return true;
}

/* A Transpose of a Transpose is one of what that one reads. */
static od_code compose(eng_rewrite *r, eng_node *n, od_status *st)
{
    int64_t outer[ENG_MAX_RANK], inner[ENG_MAX_RANK], both[ENG_MAX_RANK];
    int rank, inner_rank;
    eng_node *first = n->n_in ? eng_rewrite_maker(r, n->in[0], "Transpose") : NULL;
    if (!first || !read_perm(n, outer, &rank) || !read_perm(first, inner, &inner_rank) || rank != inner_rank) return OD_OK;
    for (int i = 0; i < rank; i++) both[i] = inner[outer[i]];
    if (n->in[0] < r->n_values) r->readers[n->in[0]]--;
    n->in[0] = first->in[0];
    if (n->in[0] < r->n_values) r->readers[n->in[0]]++;
    r->changed = true;
    return eng_node_set_ints(r->g, n, "perm", both, rank, st);
}

/* ---- behind other operators ------------------------------------------------------------------ */

/* The Transpose that makes `v` by putting axis 1 last; its rank. */
static eng_node *to_last(const eng_rewrite *r, int v, int *rank)
{
    int64_t perm[ENG_MAX_RANK];
    eng_node *n = v < 0 ? NULL : eng_rewrite_maker(r, v, "Transpose");
    if (!n || !read_perm(n, perm, rank) || *rank < 3 || perm[0] != 0 || perm[*rank - 1] != 1) return NULL;
    for (int i = 1; i < *rank - 1; i++)
        if (perm[i] != i + 1) return NULL;
    return n;
}

/* Where axis `a` of the transposed tensor lies in the other; -1: nowhere. */
static int64_t moved_axis(int64_t a, int rank)
{
    if (a < 0) a += rank;
    if (a < 0 || a >= rank) return -1;
    return a == 0 ? 0 : a == rank - 1 ? 1 : a + 1;
}

/* The constant `v`, which broadcasts against the transposed tensor, for the other: one whose data need no new order. */
static int moved_constant(eng_rewrite *r, int v, int rank, od_status *st)
{
    const eng_tensor *t = eng_rewrite_constant(r, v);
    if (!t || t->dtype >= ENG_SEQUENCE || t->dtype == ENG_STRING || t->rank > rank) return ENG_NONE;
    if (eng_tensor_count(t) == 1) return v;
    eng_tensor to = *t;
    int wide = 0;
    to.rank = rank;
    for (int d = 0; d < rank; d++) to.dims[d] = 1;
    for (int d = 0; d < t->rank; d++) {
        wide += t->dims[d] != 1;
        to.dims[moved_axis(d + rank - t->rank, rank)] = t->dims[d];
    }
    int made = wide > 1 ? ENG_NONE : eng_graph_value(r->g, "");
    return made >= 0 && eng_graph_set_constant(r->g, made, &to, st) == OD_OK ? made : ENG_NONE;
}

/* A constant list of axes, moved; or with `twice` a value for each axis, twice: of Pad. ENG_NONE: not possible. */
static int moved_list(eng_rewrite *r, int v, int rank, bool twice)
{
    const eng_tensor *t = eng_rewrite_constant(r, v);
    int64_t count = t ? eng_tensor_count(t) : -1;
    int64_t *data;
    if (!t || count < 1 || (twice ? count != 2 * rank : count > rank)) return ENG_NONE;
    int made = eng_rewrite_new_ints(r, count, &data);
    for (int64_t i = 0; made >= 0 && i < count; i++) {
        int64_t x = eng_tensor_int(t, i), axis = moved_axis(twice ? i % rank : x, rank);
        if (axis < 0) return ENG_NONE;
        if (twice) data[i / rank * rank + axis] = x;
        else data[i] = axis;
    }
    return made;
}

typedef enum form { FORM_NONE, FORM_PLAIN, FORM_AXIS, FORM_PAD, FORM_SLICE, FORM_REDUCE } form;

static form form_of(const eng_node *n)
{
    const unsigned pairs = ENG_CL_ALL | ENG_INPLACE;
    if (n->domain != ENG_DOMAIN_ONNX || n->fused.residual) return FORM_NONE;
    if (eng_node_is(n, "Concat")) return FORM_AXIS;
    if (eng_node_is(n, "Pad")) return n->n_in < 4 || n->in[3] < 0 ? FORM_PAD : FORM_NONE;
    if (eng_node_is(n, "Slice")) return n->n_in > 3 && n->in[3] >= 0 ? FORM_SLICE : FORM_NONE;
    if (eng_node_is(n, "ReduceMean") || eng_node_is(n, "ReduceMax") || eng_node_is(n, "ReduceSum")) return FORM_REDUCE;
    return (n->op->flags & pairs) == pairs ? FORM_PLAIN : FORM_NONE;
}

/* How often `n` reads `v`. */
static int reads(const eng_node *n, int v)
{
    int count = 0;
    for (int k = 0; k < n->n_in; k++) count += n->in[k] == v;
    return count;
}

/* A reduction over all pixels alone, whose result has no pixels or, kept, ones: no Transpose is left to do, or one of ones. */
static bool over_pixels(const eng_rewrite *r, const eng_node *n, int rank)
{
    const eng_tensor *t = n->n_in > 1 ? eng_rewrite_constant(r, n->in[1]) : NULL;
    unsigned axes = 0;
    for (int64_t i = 0; t && i < eng_tensor_count(t); i++) {
        int64_t axis = moved_axis(eng_tensor_int(t, i), rank);
        if (axis < 2) return false;
        axes |= 1u << axis;
    }
    return axes == (1u << rank) - 4u;
}

/* The inputs that `n` has before the Transposes: tensors from `first` on, `others` being its lists. */
static bool moved_inputs(eng_rewrite *r, const eng_node *n, form f, int rank, int *in, od_status *st)
{
    for (int k = 0; k < n->n_in; k++) {
        int other;
        in[k] = n->in[k];
        if (n->in[k] < 0) continue;
        const eng_node *t = to_last(r, n->in[k], &other);
        bool tensor = f == FORM_PLAIN || f == FORM_AXIS || k == 0;
        if (tensor && t) {
            if (other != rank) return false;
            in[k] = t->in[0];
        } else if (tensor) {
            if (f != FORM_PLAIN || (in[k] = moved_constant(r, n->in[k], rank, st)) < 0) return false;
        } else if ((f == FORM_PAD && k == 1) || (f == FORM_SLICE && k == 3) || (f == FORM_REDUCE && k == 1)) {
            if ((in[k] = moved_list(r, n->in[k], rank, f == FORM_PAD)) < 0) return false;
        }
    }
    return true;
}

/* Who reads what, as chains of (node, input): first[v] and next[entry] are entries plus one. */
typedef struct readers {
    int *first, *next, *node, n_values;
    bool *seen; /* by node */
} readers;

static od_code find_readers(const eng_rewrite *r, readers *to, od_status *st)
{
    const eng_graph *g = r->g;
    int n = 0, count = 0;
    for (int i = 0; i < g->n_nodes; i++) count += g->nodes[i].n_in;
    *to = (readers){.first = od_arena_array(r->tmp, int, g->n_values), .next = od_arena_array(r->tmp, int, count + 1),
                    .node = od_arena_array(r->tmp, int, count + 1), .n_values = g->n_values, .seen = od_arena_array(r->tmp, bool, g->n_nodes)};
    if (!to->first || !to->next || !to->node || !to->seen) return od_fail(st, OD_NO_MEMORY, "no memory for %d values", g->n_values);
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in && !g->nodes[i].dead; k++) {
            if (g->nodes[i].in[k] < 0) continue;
            to->node[n] = i;
            to->next[n] = to->first[g->nodes[i].in[k]];
            to->first[g->nodes[i].in[k]] = ++n;
        }
    return OD_OK;
}

/* Does what `n` makes reach a Transpose that puts channels back, through operators that one may go behind? Else it would
 * only stand elsewhere, where other passes know it less well. */
static bool meets_opposite(const eng_rewrite *r, const readers *to, const eng_node *n, int rank)
{
    int v = n->out[0];
    if (v < 0 || v >= to->n_values) return false;
    for (int e = to->first[v]; e; e = to->next[e - 1]) {
        const eng_node *reader = &r->g->nodes[to->node[e - 1]];
        int64_t perm[ENG_MAX_RANK];
        int other;
        if (reader->dead || to->seen[to->node[e - 1]]) continue;
        to->seen[to->node[e - 1]] = true;
        if (read_perm(reader, perm, &other)) {
            bool opposite = other == rank && perm[0] == 0 && perm[1] == rank - 1;
            for (int i = 2; i < rank && opposite; i++) opposite = perm[i] == i - 1;
            if (opposite) return true;
            continue;
        }
        form f = form_of(reader);
        if (f == FORM_REDUCE && over_pixels(r, reader, rank)) return true;
        if (f != FORM_NONE && f != FORM_REDUCE && (rank > 3 || f == FORM_PLAIN) && meets_opposite(r, to, reader, rank)) return true;
    }
    return false;
}

static od_code sink(eng_rewrite *r, readers *to, eng_node *n, od_status *st)
{
    form f = form_of(n);
    eng_node *spare = NULL;
    int rank = 0, at;
    if (f == FORM_NONE || n->n_out != 1) return OD_OK;
    for (int k = 0; k < n->n_in; k++) {
        eng_node *t = to_last(r, n->in[k], &at);
        if (!t) continue;
        rank = at;
        int v = n->in[k];
        if (v < r->n_values && !r->is_output[v] && r->readers[v] == reads(n, v)) spare = t;
    }
    if (rank == 3 && f != FORM_PLAIN) return OD_OK; /* rows of tokens as often as lines of a signal */
    bool keeps = eng_node_int(n, "keepdims", 1) != 0, whole = f == FORM_REDUCE && rank && over_pixels(r, n, rank);
    if (!rank || (f == FORM_REDUCE && !whole) || (!spare && !(whole && !keeps))) return OD_OK;
    if (f != FORM_REDUCE) {
        memset(to->seen, 0, (size_t)r->g->n_nodes * sizeof *to->seen);
        if (!meets_opposite(r, to, n, rank)) return OD_OK;
    }
    int *in = od_arena_array(r->tmp, int, n->n_in), made = ENG_NONE;
    if (!in) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", n->n_in);
    if (!moved_inputs(r, n, f, rank, in, st)) return OD_OK;
    if (f == FORM_AXIS) {
        int64_t axis = moved_axis(eng_node_int(n, "axis", 0), rank);
        if (axis < 0) return OD_OK;
        OD_TRY(eng_node_set_int(r->g, n, "axis", axis, st));
    }
    bool turned = f != FORM_REDUCE || keeps; /* the result needs the Transpose that its inputs had */
    if (turned && (made = eng_graph_value(r->g, "")) < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a value");
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] >= 0 && n->in[k] < r->n_values) r->readers[n->in[k]]--;
        n->in[k] = in[k];
        if (in[k] >= 0 && in[k] < r->n_values) r->readers[in[k]]++;
    }
    r->changed = true;
    if (!turned) return OD_OK;
    if (spare->in[0] < r->n_values) r->readers[spare->in[0]]--;
    int y = n->out[0];
    n->out[0] = spare->in[0] = made;
    spare->out[0] = y;
    r->g->values[made].producer = (int)(n - r->g->nodes);
    r->g->values[y].producer = (int)(spare - r->g->nodes);
    return OD_OK;
}

od_code eng_pass_transpose(eng_rewrite *r, od_status *st)
{
    readers to;
    OD_TRY(find_readers(r, &to, st));
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (n->dead || n->n_out < 1 || n->out[0] < 0) continue;
        OD_TRY(eng_node_is(n, "Transpose") ? compose(r, n, st) : sink(r, &to, n, st));
    }
    return OD_OK;
}
