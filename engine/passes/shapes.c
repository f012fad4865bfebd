/* shapes.c - shape arithmetic whose result no request can change. Extents are followed from the inputs' declared
 * ones through the graph, each either fixed or standing for a free extent; then what Shape, Gather, Concat and their
 * like make of them becomes a constant, or, as the target of a Reshape, a constant with 0 or -1 for what stays free.
 * Unlike the probe's stand-ins this proves: an extent that only happens to agree at two sizes is not fixed. */
#include "engine/passes/passes.h"

#include <string.h>

enum { FIXED = 0, UNKNOWN = -1 }; /* of an extent; above 0: the number of a free one */
enum { INTS_MAX = 16 };

typedef struct extents {
    int of[ENG_MAX_RANK];
} extents;

/* A small integer tensor whose elements are looked through. `is` as above: FIXED has its value in x. */
typedef struct ints {
    int n;
    int is[INTS_MAX];
    int64_t x[INTS_MAX];
} ints;

typedef struct follower {
    eng_rewrite *r;
    extents *dims; /* by value */
    ints **ints;   /* by value, or NULL */
    int next;      /* number of the next free extent */
} follower;

/* ---- what a value is ------------------------------------------------------------------------- */

static int rank_of(const follower *f, int v)
{
    const eng_tensor *t = eng_rewrite_type(f->r, v);
    return t ? t->rank : -1;
}

static int64_t extent(const follower *f, int v, int axis)
{
    return eng_rewrite_type(f->r, v)->dims[axis];
}

/* Extent `axis` of `v`, counted from behind when negative. */
static int dim(const follower *f, int v, int axis)
{
    int rank = rank_of(f, v);
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) return UNKNOWN;
    if (f->r->g->values[v].constant && !f->r->is_input[v]) return FIXED;
    return f->dims[v].of[axis];
}

static bool all_fixed(const follower *f, int v)
{
    int rank = rank_of(f, v);
    for (int d = 0; d < rank; d++)
        if (dim(f, v, d) != FIXED) return false;
    return rank >= 0;
}

static const ints *ints_of(follower *f, int v)
{
    const eng_tensor *t = eng_rewrite_constant(f->r, v);
    if (v < 0) return NULL;
    if (f->ints[v] || !t) return f->ints[v];
    if (!(ENG_T(t->dtype) & (ENG_T_SIGNED | ENG_T(ENG_BOOL))) || t->rank > 1 || eng_tensor_count(t) > INTS_MAX) return NULL;
    ints *made = od_arena_array(f->r->tmp, ints, 1);
    if (!made) return NULL;
    made->n = (int)eng_tensor_count(t);
    for (int i = 0; i < made->n; i++) made->x[i] = eng_tensor_int(t, i);
    return f->ints[v] = made;
}

/* All elements of integer tensor `v`, if they are certain. */
static bool certain(follower *f, int v, ints *out)
{
    const ints *a = ints_of(f, v);
    if (!a) return false;
    *out = *a;
    for (int i = 0; i < a->n; i++)
        if (a->is[i] != FIXED) return false;
    return true;
}

/* ---- extents, operator by operator ----------------------------------------------------------- */

/* Extents of `to` are those of inputs that broadcast: one above 1 decides, else all must agree. */
static void broadcast(follower *f, const eng_node *n, int to)
{
    int rank = rank_of(f, to);
    for (int d = 0; d < rank; d++) {
        int is = FIXED;
        bool decided = false;
        for (int k = 0; k < n->n_in && !decided; k++) {
            int at = n->in[k] < 0 ? -1 : d - rank + rank_of(f, n->in[k]);
            if (at < 0) continue;
            int one = dim(f, n->in[k], at);
            if (one == FIXED && extent(f, n->in[k], at) == 1) continue;
            decided = one == FIXED;
            is = one == FIXED || is == FIXED || is == one ? one : UNKNOWN;
        }
        f->dims[to].of[d] = is;
    }
}

static void copy_extents(follower *f, int from, int to)
{
    if (rank_of(f, from) == rank_of(f, to))
        for (int d = 0; d < rank_of(f, to); d++) f->dims[to].of[d] = dim(f, from, d);
}

/* Batch and channels as they are, other extents fixed when they were. */
static void image_extents(follower *f, int from, int to, int channels)
{
    if (rank_of(f, from) != rank_of(f, to)) return;
    for (int d = 0; d < rank_of(f, to); d++)
        f->dims[to].of[d] = d == 1 ? channels : d == 0 || dim(f, from, d) == FIXED ? dim(f, from, d) : UNKNOWN;
}

static void reshape_extents(follower *f, const eng_node *n, int to)
{
    const ints *target = n->n_in > 1 ? ints_of(f, n->in[1]) : NULL;
    bool whole = all_fixed(f, n->in[0]);
    if (!target || eng_node_int(n, "allowzero", 0)) return;
    for (int d = 0; d < target->n; d++) whole &= target->is[d] == FIXED;
    for (int d = 0; d < rank_of(f, to) && d < target->n; d++) {
        int is = target->is[d];
        if (is == FIXED && target->x[d] == 0) is = dim(f, n->in[0], d);
        else if (is == FIXED && target->x[d] < 0) is = whole ? FIXED : UNKNOWN;
        f->dims[to].of[d] = is;
    }
}

/* The axes that input 1 names as marks, of a tensor of `rank`. */
static bool marks(follower *f, const eng_node *n, int rank, bool *marked)
{
    ints axes;
    memset(marked, 0, ENG_MAX_RANK * sizeof *marked);
    if (n->n_in < 2 || n->in[1] < 0 || !certain(f, n->in[1], &axes)) return false;
    for (int i = 0; i < axes.n; i++) {
        int64_t axis = axes.x[i] < 0 ? axes.x[i] + rank : axes.x[i];
        if (axis < 0 || axis >= rank) return false;
        marked[axis] = true;
    }
    return true;
}

/* Squeeze, and reductions that do not keep their axes, leave marked axes out; Unsqueeze puts them in. */
static void drop_axes(follower *f, const eng_node *n, int to, bool keep)
{
    bool marked[ENG_MAX_RANK];
    int from = n->in[0], at = 0;
    if (!marks(f, n, rank_of(f, from), marked)) return;
    for (int d = 0; d < rank_of(f, from) && at < rank_of(f, to); d++)
        if (!marked[d] || keep) f->dims[to].of[at++] = marked[d] ? FIXED : dim(f, from, d);
}

static void add_axes(follower *f, const eng_node *n, int to)
{
    bool marked[ENG_MAX_RANK];
    int at = 0;
    if (!marks(f, n, rank_of(f, to), marked)) return;
    for (int d = 0; d < rank_of(f, to); d++) f->dims[to].of[d] = marked[d] ? FIXED : dim(f, n->in[0], at++);
}

static void concat_extents(follower *f, const eng_node *n, int to)
{
    int rank = rank_of(f, to);
    int64_t axis = eng_node_int(n, "axis", 0);
    if (axis < 0) axis += rank;
    for (int d = 0; d < rank; d++) {
        int is = dim(f, n->in[0], d);
        for (int k = 1; k < n->n_in; k++) {
            int one = dim(f, n->in[k], d);
            if (d == axis) is = one == FIXED && is == FIXED ? FIXED : UNKNOWN;
            else if (one == FIXED) is = FIXED; /* they must agree */
        }
        if (d == axis && n->n_in == 1) is = dim(f, n->in[0], d);
        f->dims[to].of[d] = is;
    }
}

/* Slice: an axis that is cut is fixed when it was and the cut is certain. */
static void slice_extents(follower *f, const eng_node *n, int to)
{
    ints from, until, axes = {0}, steps;
    bool cut = n->n_in > 2 && certain(f, n->in[1], &from) && certain(f, n->in[2], &until);
    if (n->n_in > 4 && n->in[4] >= 0) cut &= certain(f, n->in[4], &steps);
    if (n->n_in < 4 || n->in[3] < 0 || !certain(f, n->in[3], &axes)) return;
    copy_extents(f, n->in[0], to);
    for (int i = 0; i < axes.n; i++) {
        int64_t axis = axes.x[i] < 0 ? axes.x[i] + rank_of(f, to) : axes.x[i];
        if (axis < 0 || axis >= rank_of(f, to)) return;
        if (!cut || f->dims[to].of[axis] != FIXED) f->dims[to].of[axis] = UNKNOWN;
    }
}

static void gather_extents(follower *f, const eng_node *n, int to)
{
    int data = n->in[0], index = n->in[1], at = 0, indices = rank_of(f, index);
    int64_t axis = eng_node_int(n, "axis", 0);
    if (axis < 0) axis += rank_of(f, data);
    for (int d = 0; d < rank_of(f, data) && at + (d == axis ? indices : 1) <= rank_of(f, to); d++) {
        if (d != axis) f->dims[to].of[at++] = dim(f, data, d);
        for (int i = 0; d == axis && i < indices; i++) f->dims[to].of[at++] = dim(f, index, i);
    }
}

static void product_extents(follower *f, const eng_node *n, int to)
{
    int a = n->in[0], b = n->in[1], rank = rank_of(f, to);
    if (rank_of(f, a) < 2 || rank_of(f, b) < 2) return;
    eng_node pair = {.n_in = 2, .in = (int[]){a, b}};
    broadcast(f, &pair, to);
    f->dims[to].of[rank - 2] = dim(f, a, -2);
    f->dims[to].of[rank - 1] = dim(f, b, -1);
}

/* An axis along which `n` may change its input's extent, the others staying: it is fixed when it was. */
static void one_axis(follower *f, const eng_node *n, int to, int64_t axis, bool sure)
{
    copy_extents(f, n->in[0], to);
    if (axis < 0) axis += rank_of(f, to);
    if (axis >= 0 && axis < rank_of(f, to) && !(sure && f->dims[to].of[axis] == FIXED)) f->dims[to].of[axis] = UNKNOWN;
}

static bool among(const eng_node *n, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (eng_node_is(n, names[i])) return true;
    return false;
}

static void follow_extents(follower *f, const eng_node *n)
{
    static const char *const same[] = {"BatchNormalization", "Cast", "CumSum", "Dropout", "GroupNormalization", "Identity",
                                       "InstanceNormalization", "LRN", "LayerNormalization", "LogSoftmax", "LpNormalization",
                                       "RMSNormalization", "Softmax"};
    static const char *const window[] = {"AveragePool", "LpPool", "MaxPool"};
    static const char *const global[] = {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"};
    const unsigned pairs = ENG_CL_ALL | ENG_INPLACE;
    int to = n->out[0], x = n->n_in ? n->in[0] : ENG_NONE, rank = rank_of(f, to);
    bool keeps;
    if (x < 0 || rank < 0 || rank_of(f, x) < 0) return;
    for (int k = 1; k < n->n_in; k++)
        if (n->in[k] >= 0 && rank_of(f, n->in[k]) < 0) return;
    if (among(n, same, OD_COUNT(same))) copy_extents(f, x, to);
    else if (n->domain == ENG_DOMAIN_ONNX && (n->op->flags & pairs) == pairs) broadcast(f, n, to);
    else if (among(n, window, OD_COUNT(window))) image_extents(f, x, to, dim(f, x, 1));
    else if (among(n, global, OD_COUNT(global))) {
        copy_extents(f, x, to);
        for (int d = 2; d < rank; d++) f->dims[to].of[d] = FIXED;
    } else if (eng_node_is(n, "Conv") || eng_node_is(n, "ConvTranspose"))
        image_extents(f, x, to, n->n_in > 1 && all_fixed(f, n->in[1]) ? FIXED : UNKNOWN);
    else if (eng_node_is(n, "Reshape")) reshape_extents(f, n, to);
    else if (eng_node_is(n, "Squeeze")) drop_axes(f, n, to, false);
    else if (eng_node_is(n, "Unsqueeze")) add_axes(f, n, to);
    else if (!strncmp(n->op_type, "Reduce", 6) && n->domain == ENG_DOMAIN_ONNX) {
        keeps = eng_node_int(n, "keepdims", 1) != 0;
        drop_axes(f, n, to, keeps);
    } else if (eng_node_is(n, "Concat")) concat_extents(f, n, to);
    else if (eng_node_is(n, "Slice")) slice_extents(f, n, to);
    else if (eng_node_is(n, "Gather")) gather_extents(f, n, to);
    else if (eng_node_is(n, "MatMul")) product_extents(f, n, to);
    else if (eng_node_is(n, "Gemm")) {
        f->dims[to].of[0] = dim(f, x, eng_node_int(n, "transA", 0) ? 1 : 0);
        f->dims[to].of[1] = dim(f, n->in[1], eng_node_int(n, "transB", 0) ? 0 : 1);
    } else if (eng_node_is(n, "Transpose")) {
        int64_t count;
        const int64_t *perm = eng_node_ints(n, "perm", &count);
        for (int d = 0; d < rank; d++) f->dims[to].of[d] = dim(f, x, !perm ? rank - 1 - d : d < count ? (int)perm[d] : -99);
    } else if (eng_node_is(n, "Pad") && n->n_in > 1 && eng_rewrite_constant(f->r, n->in[1]) && rank == rank_of(f, x)) {
        const eng_tensor *pads = eng_rewrite_constant(f->r, n->in[1]);
        bool whole = eng_tensor_count(pads) == 2 * rank;
        for (int d = 0; d < rank; d++) {
            bool padded = !whole || eng_tensor_int(pads, d) || eng_tensor_int(pads, rank + d);
            int is = dim(f, x, d);
            f->dims[to].of[d] = padded && is != FIXED ? UNKNOWN : is;
        }
    } else if (eng_node_is(n, "Split")) {
        ints parts;
        bool sure = n->n_in < 2 || n->in[1] < 0 || certain(f, n->in[1], &parts);
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0 && rank_of(f, n->out[k]) >= 0) one_axis(f, n, n->out[k], eng_node_int(n, "axis", 0), sure);
    }
}

/* ---- integers, operator by operator ---------------------------------------------------------- */

static bool arithmetic(const eng_node *n, int64_t a, int64_t b, int64_t *y)
{
    switch (n->op_type[0]) {
    case 'A': return !__builtin_add_overflow(a, b, y);
    case 'S': return !__builtin_sub_overflow(a, b, y);
    case 'M': return od_mul_i64(a, b, y);
    default:
        if (b == 0 || b == -1) return false;
        *y = a / b;
        return true;
    }
}

/* Elements `from`, every `step`, of the tensor that `a` is. */
static void take_elements(ints *y, const ints *a, int64_t from, int64_t step)
{
    for (int i = 0; i < y->n; i++) {
        y->is[i] = a->is[from + i * step];
        y->x[i] = a->x[from + i * step];
    }
}

static bool follow_gather(follower *f, const eng_node *n, const ints *a, ints *y)
{
    ints index;
    if (n->n_in != 2 || rank_of(f, n->in[0]) != 1 || !certain(f, n->in[1], &index) || index.n != y->n) return false;
    for (int i = 0; i < y->n; i++) {
        int64_t at = index.x[i] < 0 ? index.x[i] + a->n : index.x[i];
        if (at < 0 || at >= a->n) return false;
        y->is[i] = a->is[at];
        y->x[i] = a->x[at];
    }
    return true;
}

static bool follow_slice(follower *f, const eng_node *n, const ints *a, ints *y)
{
    ints from, until, step = {.n = 1, .x = {1}};
    if (n->n_in < 3 || rank_of(f, n->in[0]) != 1 || !certain(f, n->in[1], &from) || !certain(f, n->in[2], &until)) return false;
    if (n->n_in > 4 && n->in[4] >= 0 && !certain(f, n->in[4], &step)) return false;
    if (from.n != 1 || until.n != 1 || step.n != 1 || step.x[0] < 1 || step.x[0] > INTS_MAX) return false;
    int64_t at = from.x[0] < 0 ? from.x[0] + a->n : from.x[0];
    if (at < 0) at = 0;
    if (at + (y->n - 1) * step.x[0] >= a->n) return false; /* y->n comes from the probe, whose cut is the same */
    take_elements(y, a, at, step.x[0]);
    return true;
}

static bool follow_concat(follower *f, const eng_node *n, ints *y)
{
    int at = 0;
    for (int k = 0; k < n->n_in; k++) {
        const ints *a = n->in[k] < 0 ? NULL : ints_of(f, n->in[k]);
        int64_t count = n->in[k] < 0 || rank_of(f, n->in[k]) != 1 || dim(f, n->in[k], 0) != FIXED ? -1 : extent(f, n->in[k], 0);
        if (count < 0 || at + count > y->n) return false;
        for (int i = 0; i < count; i++, at++) {
            y->is[at] = a ? a->is[i] : UNKNOWN;
            y->x[at] = a ? a->x[i] : 0;
        }
    }
    return at == y->n;
}

static bool follow_pair(follower *f, const eng_node *n, ints *y)
{
    const ints *a = n->n_in == 2 ? ints_of(f, n->in[0]) : NULL, *b = a ? ints_of(f, n->in[1]) : NULL;
    if (!b || (a->n != y->n && a->n != 1) || (b->n != y->n && b->n != 1)) return false;
    bool equal = eng_node_is(n, "Equal");
    for (int i = 0; i < y->n; i++) {
        int p = a->n == 1 ? 0 : i, q = b->n == 1 ? 0 : i;
        bool known = a->is[p] == FIXED && b->is[q] == FIXED;
        if (equal) y->x[i] = known && a->x[p] == b->x[q];
        else known = known && arithmetic(n, a->x[p], b->x[q], &y->x[i]);
        if (equal && !known) /* an extent is never negative */
            known = (a->is[p] > 0 && b->is[q] == FIXED && b->x[q] < 0) || (b->is[q] > 0 && a->is[p] == FIXED && a->x[p] < 0);
        y->is[i] = known ? FIXED : UNKNOWN;
    }
    return true;
}

static bool follow_where(follower *f, const eng_node *n, ints *y)
{
    const ints *c = n->n_in == 3 ? ints_of(f, n->in[0]) : NULL, *side[2];
    if (!c || !(side[0] = ints_of(f, n->in[2])) || !(side[1] = ints_of(f, n->in[1]))) return false;
    if (c->n != y->n && c->n != 1) return false;
    for (int k = 0; k < 2; k++)
        if (side[k]->n != y->n && side[k]->n != 1) return false;
    for (int i = 0; i < y->n; i++) {
        int at = c->n == 1 ? 0 : i;
        const ints *s = side[c->x[at] != 0];
        y->is[i] = c->is[at] == FIXED ? s->is[s->n == 1 ? 0 : i] : UNKNOWN;
        y->x[i] = s->x[s->n == 1 ? 0 : i];
    }
    return true;
}

static bool follow_shape(follower *f, const eng_node *n, ints *y)
{
    int x = n->in[0], rank = rank_of(f, x);
    int64_t from = eng_node_int(n, "start", 0);
    if (rank < 0) return false;
    if (from < 0) from += rank;
    if (from < 0) from = 0;
    for (int i = 0; i < y->n; i++) {
        if (from + i >= rank) return false;
        y->is[i] = dim(f, x, (int)from + i);
        y->x[i] = extent(f, x, (int)from + i);
    }
    return true;
}

static bool follow_fill(follower *f, const eng_node *n, ints *y)
{
    const eng_attr *value = eng_node_attr(n, "value");
    ints shape;
    if (!certain(f, n->in[0], &shape) || !value || value->kind != ENG_ATTR_TENSOR || value->n < 1) return false;
    if (!(ENG_T(value->tensors->dtype) & ENG_T_SIGNED) || eng_tensor_count(value->tensors) != 1) return false;
    for (int i = 0; i < y->n; i++) y->x[i] = eng_tensor_int(value->tensors, 0);
    return true;
}

static bool follow_elements(follower *f, const eng_node *n, ints *y)
{
    static const char *const pairs[] = {"Add", "Sub", "Mul", "Div", "Equal"};
    static const char *const same[] = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"};
    if (eng_node_is(n, "Shape")) return follow_shape(f, n, y);
    if (eng_node_is(n, "Concat")) return follow_concat(f, n, y);
    if (eng_node_is(n, "Where")) return follow_where(f, n, y);
    if (eng_node_is(n, "ConstantOfShape")) return follow_fill(f, n, y);
    if (among(n, pairs, OD_COUNT(pairs))) return follow_pair(f, n, y);
    const ints *a = n->n_in && n->in[0] >= 0 ? ints_of(f, n->in[0]) : NULL;
    if (!a) return false;
    if (eng_node_is(n, "Gather")) return follow_gather(f, n, a, y);
    if (eng_node_is(n, "Slice")) return follow_slice(f, n, a, y);
    if (!among(n, same, OD_COUNT(same)) || a->n != y->n) return false;
    take_elements(y, a, 0, 1);
    return true;
}

static od_code follow_ints(follower *f, const eng_node *n, od_status *st)
{
    const eng_tensor *t = eng_rewrite_type(f->r, n->out[0]);
    if (n->domain != ENG_DOMAIN_ONNX || n->n_out != 1 || !t || t->rank > 1) return OD_OK;
    if (!(ENG_T(t->dtype) & (ENG_T(ENG_INT64) | ENG_T(ENG_INT32) | ENG_T(ENG_BOOL)))) return OD_OK;
    if (t->rank && (f->dims[n->out[0]].of[0] != FIXED || t->dims[0] < 0 || t->dims[0] > INTS_MAX)) {
        if (!eng_node_is(n, "Shape") && !eng_node_is(n, "ConstantOfShape")) return OD_OK;
        if (t->dims[0] < 0 || t->dims[0] > INTS_MAX) return OD_OK;
    }
    ints *y = od_arena_array(f->r->tmp, ints, 1);
    if (!y) return od_fail(st, OD_NO_MEMORY, "no memory for shape arithmetic");
    y->n = t->rank ? (int)t->dims[0] : 1;
    if (!follow_elements(f, n, y)) return OD_OK;
    f->ints[n->out[0]] = y;
    f->dims[n->out[0]].of[0] = FIXED;
    return OD_OK;
}

/* ---- what follows for the graph --------------------------------------------------------------- */

static int new_ints(const follower *f, eng_dtype type, int rank, int64_t count, const int64_t *x)
{
    eng_graph *g = f->r->g;
    eng_tensor t = {.dtype = type, .rank = rank, .dims = {count}};
    od_status ignored;
    int v = eng_graph_value(g, "");
    if (v < 0 || !(t.data = od_arena_zalloc(&g->model->arena, eng_tensor_bytes(&t)))) return ENG_NONE;
    for (int64_t i = 0; i < count; i++) {
        if (type == ENG_INT64) ((int64_t *)t.data)[i] = x[i];
        else if (type == ENG_INT32) ((int32_t *)t.data)[i] = (int32_t)x[i];
        else ((uint8_t *)t.data)[i] = x[i] != 0;
    }
    return eng_graph_set_constant(g, v, &t, &ignored) == OD_OK ? v : ENG_NONE;
}

/* Readers of a value that is certain read a constant. */
static od_code settle(follower *f, const eng_node *n, od_status *st)
{
    int v = n->out[0];
    ints y;
    const eng_tensor *t = eng_rewrite_type(f->r, v);
    if (v < 0 || v >= f->r->n_values || !f->ints[v] || f->r->is_output[v] || !f->r->readers[v]) return OD_OK;
    if (f->r->g->values[v].constant || !certain(f, v, &y)) return OD_OK;
    int now = new_ints(f, t->dtype, t->rank, y.n, y.x);
    if (now < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a constant");
    eng_rewrite_replace(f->r, v, now);
    return OD_OK;
}

/* The target of a Reshape that differs from request to request only where 0 and -1 say it as well. */
static od_code settle_reshape(follower *f, eng_node *n, od_status *st)
{
    int64_t to[INTS_MAX];
    int open = ENG_NONE;
    if (!eng_node_is(n, "Reshape") || n->n_in < 2 || n->in[1] < 0 || eng_node_int(n, "allowzero", 0)) return OD_OK;
    const ints *target = n->in[1] < f->r->n_values && !eng_rewrite_constant(f->r, n->in[1]) ? f->ints[n->in[1]] : NULL;
    if (!target) return OD_OK;
    for (int i = 0; i < target->n; i++) {
        int is = target->is[i];
        to[i] = target->x[i];
        if (is == FIXED && to[i] == -1) is = UNKNOWN;
        else if (is == FIXED && to[i] < 1) return OD_OK;
        if (is == FIXED) continue;
        to[i] = 0;
        if (is > 0 && i < rank_of(f, n->in[0]) && dim(f, n->in[0], i) == is) continue;
        if (open >= 0) return OD_OK;
        to[open = i] = -1;
    }
    int now = new_ints(f, ENG_INT64, 1, target->n, to);
    if (now < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a constant");
    f->r->readers[n->in[1]]--;
    n->in[1] = now;
    f->r->changed = true;
    return OD_OK;
}

/* Follow extents and small integers through the whole graph. */
static od_code follow_graph(follower *f, od_status *st)
{
    eng_rewrite *r = f->r;
    eng_graph *g = r->g;
    f->next = 1;
    f->dims = od_arena_array(r->tmp, extents, g->n_values);
    f->ints = od_arena_array(r->tmp, ints *, g->n_values);
    if (!f->dims || !f->ints) return od_fail(st, OD_NO_MEMORY, "no memory to follow the shapes of %d values", g->n_values);
    memset(f->dims, -1, (size_t)g->n_values * sizeof *f->dims);
    for (int i = 0; i < g->n_inputs && !g->parent; i++) { /* what a body declares of its inputs nobody checks */
        const eng_value *v = &g->values[g->inputs[i]];
        for (int d = 0; d < v->rank; d++) f->dims[g->inputs[i]].of[d] = v->dims[d] >= 0 ? FIXED : f->next++;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const eng_node *n = &g->nodes[i];
        if (n->dead || n->n_out < 1 || n->out[0] < 0) continue;
        follow_extents(f, n);
        for (int k = 0; k < n->n_out; k++) /* an extent that the probe does not give has no value to tell */
            for (int d = 0; n->out[k] >= 0 && d < rank_of(f, n->out[k]); d++)
                if (f->dims[n->out[k]].of[d] == FIXED && extent(f, n->out[k], d) < 0) f->dims[n->out[k]].of[d] = UNKNOWN;
        OD_TRY(follow_ints(f, n, st));
    }
    return OD_OK;
}

od_code eng_rewrite_fixed(eng_rewrite *r, unsigned **fixed, od_status *st)
{
    follower f = {.r = r};
    int n_values = r->g->n_values;
    OD_TRY(follow_graph(&f, st));
    if (!(*fixed = od_arena_array(r->tmp, unsigned, n_values))) return od_fail(st, OD_NO_MEMORY, "no memory for the extents of %d values", n_values);
    for (int v = 0; v < n_values; v++)
        for (int d = 0; d < rank_of(&f, v); d++) (*fixed)[v] |= (unsigned)(dim(&f, v, d) == FIXED) << d;
    return OD_OK;
}

od_code eng_pass_shapes(eng_rewrite *r, od_status *st)
{
    eng_graph *g = r->g;
    follower f = {.r = r};
    int n_nodes = g->n_nodes;
    OD_TRY(follow_graph(&f, st));
    for (int i = 0; i < n_nodes; i++) {
        if (g->nodes[i].dead || g->nodes[i].n_out < 1 || g->nodes[i].out[0] < 0) continue;
        OD_TRY(settle_reshape(&f, &g->nodes[i], st));
        OD_TRY(settle(&f, &g->nodes[i], st));
    }
    return OD_OK;
}
