/* einsum.c - Einsum of any number of operands: each is seen through one stride a label (a repeated label is
 * a diagonal, an ellipsis stands for labels of its own), and operands are contracted two at a time, left
 * to right, as a batch of matrix products. */
#include "engine/kernels/move.h"
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

#include <string.h>

enum { LETTERS = 52, LABELS = LETTERS + ENG_MAX_RANK, OPERANDS = 32 };

typedef uint64_t label_set; /* bit l: label l */
#define BIT(l) (UINT64_C(1) << (l))

typedef struct einsum_params {
    int n_terms;               /* operands, then the result */
    int n_labels[OPERANDS + 1];
    int8_t label[OPERANDS + 1][ENG_MAX_RANK]; /* -1: the ellipsis */
    const float *packed;                      /* the constant one of two operands, or NULL */
} einsum_params;

/* An operand by label. */
typedef struct view {
    const void *data;
    label_set has;
    int64_t dim[LABELS], stride[LABELS];
} view;

typedef struct order { /* labels, outermost first */
    int n;
    int8_t label[LABELS];
} order;

/* ---- the equation -------------------------------------------------------------------------- */

static int letter(char ch)
{
    return ch >= 'A' && ch <= 'Z' ? ch - 'A' : ch >= 'a' && ch <= 'z' ? ch - 'a' + 26 : -1;
}

static od_code parse_term(const char **at, const char *end, einsum_params *p, od_status *st)
{
    int term = p->n_terms, n = 0;
    bool dots = false;
    if (term > OPERANDS) return od_fail(st, OD_UNSUPPORTED, "more than %d operands", OPERANDS);
    for (; *at < end && **at != ',' && **at != '-'; (*at)++) {
        if (**at == ' ') continue;
        bool is_dots = end - *at >= 3 && !memcmp(*at, "...", 3);
        if (n == ENG_MAX_RANK || (is_dots && dots) || (!is_dots && letter(**at) < 0))
            return od_fail(st, OD_BAD_ARGUMENT, "equation: '%c' in term %d", **at, term);
        p->label[term][n++] = (int8_t)(is_dots ? -1 : letter(**at));
        dots |= is_dots;
        if (is_dots) *at += 2;
    }
    p->n_labels[term] = n;
    p->n_terms++;
    return OD_OK;
}

/* Without an arrow the result is the ellipsis and every label that occurs once, in alphabetical order. */
static od_code implied_result(einsum_params *p, od_status *st)
{
    int count[LETTERS] = {0}, dots = 0, n = 0, result = p->n_terms++;
    if (result > OPERANDS) return od_fail(st, OD_UNSUPPORTED, "more than %d operands", OPERANDS);
    for (int t = 0; t < result; t++)
        for (int i = 0; i < p->n_labels[t]; i++)
            if (p->label[t][i] < 0) dots = 1;
            else count[p->label[t][i]]++;
    if (dots) p->label[result][n++] = -1;
    for (int l = 0; l < LETTERS; l++) {
        if (count[l] != 1) continue;
        if (n == ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "the result has more than %d axes", ENG_MAX_RANK);
        p->label[result][n++] = (int8_t)l;
    }
    p->n_labels[result] = n;
    return OD_OK;
}

/* ---- labels and extents -------------------------------------------------------------------- */

/* Axes that the ellipsis of `term` stands for. */
static int dots_of(const einsum_params *p, int term, int rank)
{
    for (int i = 0; i < p->n_labels[term]; i++)
        if (p->label[term][i] < 0) return rank - (p->n_labels[term] - 1);
    return 0;
}

/* `t` by label; an ellipsis of k axes is the last k of the labels behind the letters. */
static od_code look(const einsum_params *p, int term, const eng_tensor *t, view *v, od_status *st)
{
    int64_t strides[ENG_MAX_RANK];
    int axis = 0;
    if (!t) return od_fail(st, OD_BAD_MODEL, "operand %d is missing", term);
    int dots = dots_of(p, term, t->rank);
    *v = (view){.data = t->data};
    if (dots < 0)
        return od_fail(st, OD_BAD_SHAPE, "operand %d has rank %d, its term %d labels", term, t->rank, p->n_labels[term]);
    eng_tensor_strides(t, strides);
    for (int i = 0; i < p->n_labels[term]; i++) {
        int l = p->label[term][i], n = l < 0 ? dots : 1;
        for (int k = 0; k < n; k++, axis++) {
            int at = l < 0 ? LABELS - dots + k : l;
            if (axis >= t->rank) return od_fail(st, OD_BAD_SHAPE, "operand %d has rank %d: too few axes", term, t->rank);
            if ((v->has & BIT(at)) && v->dim[at] != t->dims[axis])
                return od_fail(st, OD_BAD_SHAPE, "operand %d: a diagonal of %" PRId64 " by %" PRId64, term, v->dim[at], t->dims[axis]);
            v->has |= BIT(at);
            v->dim[at] = t->dims[axis];
            v->stride[at] += strides[axis];
        }
    }
    return axis == t->rank ? OD_OK : od_fail(st, OD_BAD_SHAPE, "operand %d has rank %d: too many axes", term, t->rank);
}

/* The extent of every label over all operands, and the labels of the result. */
static od_code extents(const eng_ctx *c, int64_t *dim, order *result, od_status *st)
{
    const einsum_params *p = c->node->params;
    int dots = 0, last = p->n_terms - 1;
    label_set has = 0;
    for (int l = 0; l < LABELS; l++) dim[l] = 1;
    for (int t = 0; t < last; t++) {
        view v;
        OD_TRY(look(p, t, c->in[t], &v, st));
        dots = dots > dots_of(p, t, c->in[t]->rank) ? dots : dots_of(p, t, c->in[t]->rank);
        has |= v.has;
        for (int l = 0; l < LABELS; l++) {
            if (!(v.has & BIT(l)) || v.dim[l] == 1) continue;
            if (dim[l] != 1 && dim[l] != v.dim[l])
                return od_fail(st, OD_BAD_SHAPE, "operand %d has an extent of %" PRId64 " where another has %" PRId64, t, v.dim[l], dim[l]);
            dim[l] = v.dim[l];
        }
    }
    result->n = 0;
    label_set seen = 0;
    for (int i = 0; i < p->n_labels[last]; i++) {
        int l = p->label[last][i];
        for (int k = 0; k < (l < 0 ? dots : 1); k++) {
            int at = l < 0 ? LABELS - dots + k : l;
            if (!(has & BIT(at)) || (seen & BIT(at)))
                return od_fail(st, OD_BAD_ARGUMENT, "equation: the result has a label that occurs %s", seen & BIT(at) ? "twice" : "nowhere");
            seen |= BIT(at);
            if (result->n == ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "the result has more than %d axes", ENG_MAX_RANK);
            result->label[result->n++] = (int8_t)at;
        }
    }
    return OD_OK;
}

od_code eng_einsum_infer(eng_ctx *c, od_status *st)
{
    int64_t dim[LABELS], dims[ENG_MAX_RANK];
    order result;
    if (!c->n_in) return od_fail(st, OD_BAD_MODEL, "no operands");
    OD_TRY(extents(c, dim, &result, st));
    OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st));
    for (int i = 0; i < result.n; i++) dims[i] = dim[result.label[i]];
    return eng_set_out(c, 0, c->in[0]->dtype, result.n, dims, st);
}

/* ---- moving and summing -------------------------------------------------------------------- */

static int64_t count_of(const order *o, const int64_t *dim)
{
    int64_t n = 1;
    for (int i = 0; i < o->n; i++)
        if (__builtin_mul_overflow(n, dim[o->label[i]], &n)) return INT64_MAX / 64;
    return n;
}

static void append(order *o, label_set set)
{
    for (int l = 0; l < LABELS; l++)
        if (set & BIT(l)) o->label[o->n++] = (int8_t)l;
}

/* Dense strides for the labels of `o`. */
static view dense(const order *o, const int64_t *dim, void *data)
{
    view v = {.data = data};
    int64_t stride = 1;
    for (int i = o->n - 1; i >= 0; i--) {
        int l = o->label[i];
        v.has |= BIT(l);
        v.dim[l] = dim[l];
        v.stride[l] = stride;
        stride *= dim[l];
    }
    return v;
}

static int64_t stride_of(const view *v, int l)
{
    return (v->has & BIT(l)) && v->dim[l] != 1 ? v->stride[l] : 0;
}

/* Advance `at`, whose extents follow behind LABELS, by one place of the order; how far that moves in `v`. */
static int64_t step_odometer(const order *o, const view *v, int64_t *at)
{
    int64_t move = 0;
    for (int i = o->n - 1; i >= 0; i--) {
        int64_t s = stride_of(v, o->label[i]), extent = at[LABELS + i];
        move += s;
        if (++at[i] < extent) return move;
        move -= s * extent;
        at[i] = 0;
    }
    return move;
}

#define ADD_UP(TAG, T, W)                                                      \
    case TAG:                                                                  \
        for (int64_t i = 0; i < n; i++) {                                      \
            W sum = 0;                                                         \
            const T *x = (const T *)from->data + offset[0];                    \
            for (int64_t k = 0; k < sums; k++) {                               \
                sum += (W)*x;                                                  \
                x += step_odometer(gone, from, at_gone);                       \
            }                                                                  \
            ((T *)to)[i] = (T)sum;                                             \
            offset[0] += step_odometer(keep, from, at_keep);                   \
        }                                                                      \
        break;

/* to[keep] = the sum of `from` over the labels of `gone`. */
static void add_up(const view *from, const order *keep, const order *gone, const int64_t *dim, eng_dtype type, void *to, od_pool *pool)
{
    if (!gone->n) {
        view now = dense(keep, dim, to);
        eng_move m = {.to = to, .from = from->data, .size = eng_dtype_size(type)};
        for (int i = 0; i < keep->n; i++)
            eng_move_axis(&m, dim[keep->label[i]], now.stride[keep->label[i]], stride_of(from, keep->label[i]));
        eng_move_run(&m, pool);
        return;
    }
    int64_t n = count_of(keep, dim), sums = count_of(gone, dim), offset[1] = {0};
    int64_t at_keep[2 * LABELS] = {0}, at_gone[2 * LABELS] = {0};
    for (int i = 0; i < keep->n; i++) at_keep[LABELS + i] = dim[keep->label[i]];
    for (int i = 0; i < gone->n; i++) at_gone[LABELS + i] = dim[gone->label[i]];
    switch (type) {
        ADD_UP(ENG_FLOAT, float, double)
        ADD_UP(ENG_DOUBLE, double, double)
        ADD_UP(ENG_INT32, int32_t, uint32_t)
        ADD_UP(ENG_UINT32, uint32_t, uint32_t)
        ADD_UP(ENG_INT64, int64_t, uint64_t)
    default:
        ADD_UP(ENG_UINT64, uint64_t, uint64_t)
    }
}

/* `v` laid out densely in the order `keep`, its other labels summed. */
static od_code lay_out(const view *v, const order *keep, const int64_t *dim, eng_dtype type, eng_ctx *c, view *out,
                       od_status *st)
{
    order gone = {0};
    label_set kept = 0;
    for (int i = 0; i < keep->n; i++) kept |= BIT(keep->label[i]);
    append(&gone, v->has & ~kept);
    int64_t count = count_of(keep, dim);
    void *to = od_arena_calloc(c->scratch, (size_t)count, eng_dtype_size(type));
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for an operand of %" PRId64 " numbers", count);
    add_up(v, keep, &gone, dim, type, to, c->pool);
    *out = dense(keep, dim, to);
    return OD_OK;
}

/* ---- two operands -------------------------------------------------------------------------- */

/* Labels from..to-1 of the order lie in `v` as one axis would: its extent and stride. */
static bool as_one(const view *v, const order *o, int from, int to, const int64_t *dim, int64_t *extent, int64_t *stride)
{
    *extent = 1;
    *stride = 1;
    bool first = true;
    for (int i = to - 1; i >= from; i--) {
        int l = o->label[i];
        if (dim[l] == 1) continue;
        if (first) *stride = stride_of(v, l);
        else if (stride_of(v, l) != *stride * *extent) return false;
        first = false;
        *extent *= dim[l];
    }
    return true;
}

/* A product of matrices: c[m, n] = sum over k of a[m, k] b[k, n], one for each place of `batch`. */
typedef struct pair {
    view a, b;
    label_set shared, m, n, k; /* in a, b and c; in a and c; in b and c; summed */
    const int64_t *dim;
    eng_dtype type;
} pair;

/* A pair as matrices that lie as they should: what cannot be an axis of one is an axis of the batch. */
typedef struct matrices {
    order batch, m, n, k;
} matrices;

static bool last_is_in(const order *o, label_set set)
{
    return o->n && (set & BIT(o->label[o->n - 1]));
}

/* The labels of `set` in the order of falling strides of `v`. */
static void append_by_stride(order *o, label_set set, const view *v)
{
    int from = o->n;
    append(o, set);
    for (int i = from + 1; i < o->n; i++)
        for (int j = i; j > from && stride_of(v, o->label[j]) > stride_of(v, o->label[j - 1]); j--) {
            int8_t l = o->label[j];
            o->label[j] = o->label[j - 1];
            o->label[j - 1] = l;
        }
}

/* Labels from..to-1 of the order, without the outermost ones that do not go on from the others in `v`. */
static void take_axis(order *axis, const view *v, const order *o, int from, int to, const int64_t *dim)
{
    int64_t extent, stride;
    while (from < to && !as_one(v, o, from, to, dim, &extent, &stride)) from++;
    axis->n = 0;
    for (int i = from; i < to; i++) axis->label[axis->n++] = o->label[i];
}

/* The columns are the end of the result; the rows are the last labels of `a` that lie together before it. What b
 * has to do with it depends on nothing of a's but its labels, so that a constant b can be packed beforehand. */
static void cut(const pair *p, const order *want, matrices *x)
{
    int end = want->n, from = end;
    *x = (matrices){0};
    while (from > 0 && (p->n & BIT(want->label[from - 1]))) from--;
    take_axis(&x->n, &p->b, want, from, end, p->dim);
    end -= x->n.n;
    int to = end;
    while (to > 0 && !(p->m & BIT(want->label[to - 1]))) to--;
    for (from = to; from > 0 && (p->m & BIT(want->label[from - 1]));) from--;
    take_axis(&x->m, &p->a, want, from, to, p->dim);
    for (int i = 0; i < end; i++)
        if (i < to - x->m.n || i >= to) x->batch.label[x->batch.n++] = want->label[i];
    append_by_stride(&x->k, p->k, &p->b);
}

static label_set set_of(const order *o)
{
    label_set set = 0;
    for (int i = 0; i < o->n; i++) set |= BIT(o->label[i]);
    return set;
}

/* Make `v` one with a row and a column axis, by laying it out anew if need be. */
static od_code matrix(view *v, const pair *p, const matrices *x, const order *row, const order *col, eng_ctx *c,
                      int64_t *rows, int64_t *row_step, int64_t *cols, int64_t *col_step, od_status *st)
{
    label_set used = set_of(&x->batch) | set_of(row) | set_of(col);
    for (int again = 0;; again++) {
        bool fits = as_one(v, row, 0, row->n, p->dim, rows, row_step) && as_one(v, col, 0, col->n, p->dim, cols, col_step);
        if (fits && !(v->has & ~used)) return OD_OK;
        order all = {0};
        for (int i = 0; i < x->batch.n; i++)
            if (v->has & BIT(x->batch.label[i])) all.label[all.n++] = x->batch.label[i];
        for (int i = 0; i < row->n; i++) all.label[all.n++] = row->label[i];
        for (int i = 0; i < col->n; i++) all.label[all.n++] = col->label[i];
        OD_TRY(lay_out(v, &all, p->dim, p->type, c, v, st));
    }
}

/* The pair into `to`, whose labels are those of `want` in its order. `packed`: b, or NULL. */
static od_code multiply(eng_ctx *c, pair *p, const order *want, void *to, const float *packed, od_status *st)
{
    matrices x;
    eng_product g = {0};
    int64_t extent, col;
    cut(p, want, &x);
    OD_TRY(matrix(&p->b, p, &x, &x.k, &x.n, c, &g.k, &g.b_row, &g.n, &g.b_col, st));
    OD_TRY(matrix(&p->a, p, &x, &x.m, &x.k, c, &g.m, &g.a_row, &g.k, &g.a_col, st));
    view out = dense(want, p->dim, to);
    as_one(&out, &x.m, 0, x.m.n, p->dim, &extent, &g.c_row);
    as_one(&out, &x.n, 0, x.n.n, p->dim, &extent, &col);
    if (g.m == 1) g.a_row = g.k, g.c_row = g.n;
    for (int i = 0; i < x.batch.n; i++) {
        int l = x.batch.label[i];
        if (p->dim[l] == 1) continue;
        g.batch[g.batch_rank] = p->dim[l];
        g.a_step[g.batch_rank] = stride_of(&p->a, l);
        g.b_step[g.batch_rank] = stride_of(&p->b, l);
        g.c_step[g.batch_rank++] = out.stride[l];
    }
    g.a = p->a.data;
    g.b = p->b.data;
    g.c = to;
    g.packed = packed;
    return p->type == ENG_FLOAT ? eng_product_run(&g, c->scratch, c->pool, st) : eng_product_plain(&g, p->type, c->pool, st);
}

static void swap_sides(pair *p)
{
    view v = p->a;
    label_set set = p->m;
    p->a = p->b, p->m = p->n;
    p->b = v, p->n = set;
}

/* Are a's labels better the columns? They come last, and b has none or they are dense in a, where k is not. */
static bool swaps(const pair *p, const order *want)
{
    return last_is_in(want, p->m) && (p->n || (p->a.stride[want->label[want->n - 1]] == 1 && p->k));
}

/* Sort the labels of both operands; `need`: those that are not summed. */
static void sort_labels(pair *p, label_set need)
{
    label_set both = p->a.has & p->b.has;
    p->shared = both & need;
    p->k = both & ~need;
    p->m = p->a.has & ~both & need;
    p->n = p->b.has & ~both & need;
}

static od_code contract(eng_ctx *c, pair *p, const order *want, void *to, const float *packed, od_status *st)
{
    if (swaps(p, want)) swap_sides(p);
    if (!p->n || last_is_in(want, p->n)) return multiply(c, p, want, to, packed, st);
    order first = {0}; /* columns last, then moved to where they belong */
    append(&first, p->shared);
    append_by_stride(&first, p->m, &p->a);
    append_by_stride(&first, p->n, &p->b);
    int64_t count = count_of(&first, p->dim);
    void *tmp = od_arena_calloc(c->scratch, (size_t)count, eng_dtype_size(p->type));
    if (!tmp) return od_fail(st, OD_NO_MEMORY, "no memory for a product of %" PRId64 " numbers", count);
    OD_TRY(multiply(c, p, &first, tmp, NULL, st));
    view out = dense(&first, p->dim, tmp);
    add_up(&out, want, &(order){0}, p->dim, p->type, to, c->pool);
    return OD_OK;
}

od_code eng_einsum_run(eng_ctx *c, od_status *st)
{
    const einsum_params *p = c->node->params;
    int operands = p->n_terms - 1;
    int64_t dim[LABELS];
    order result;
    label_set later[OPERANDS + 1] = {0};
    view acc;
    eng_dtype type = c->in[0]->dtype;
    if (!eng_tensor_count(c->out[0])) return OD_OK;
    OD_TRY(extents(c, dim, &result, st));
    for (int i = 0; i < result.n; i++) later[operands] |= BIT(result.label[i]);
    for (int t = operands - 1; t > 0; t--) {
        view v;
        OD_TRY(look(p, t, c->in[t], &v, st));
        later[t] = later[t + 1] | v.has;
    }
    OD_TRY(look(p, 0, c->in[0], &acc, st));
    if (operands == 1) {
        order gone = {0};
        append(&gone, acc.has & ~later[1]);
        add_up(&acc, &result, &gone, dim, type, c->out[0]->data, c->pool);
        return OD_OK;
    }
    for (int t = 1; t < operands; t++) {
        pair q = {.a = acc, .dim = dim, .type = type};
        OD_TRY(look(p, t, c->in[t], &q.b, st));
        const float *packed = operands == 2 ? p->packed : NULL;
        for (int l = 0; l < LABELS && !packed; l++) /* an extent of 1 that is broadcast is the other's label alone */
            if ((q.a.has & q.b.has & BIT(l)) && (q.a.dim[l] == 1) != (q.b.dim[l] == 1))
                *(q.a.dim[l] == 1 ? &q.a.has : &q.b.has) &= ~BIT(l);
        sort_labels(&q, later[t + 1]);
        order want = {0};
        bool last = t == operands - 1;
        if (last) want = result;
        else append(&want, (q.a.has | q.b.has) & later[t + 1]);
        void *to = last ? c->out[0]->data : od_arena_calloc(c->scratch, (size_t)count_of(&want, dim), eng_dtype_size(type));
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " numbers", count_of(&want, dim));
        OD_TRY(contract(c, &q, &want, to, packed, st));
        acc = dense(&want, dim, to);
    }
    return OD_OK;
}

/* ---- preparing ----------------------------------------------------------------------------- */

/* Ask for the constant one of two operands in packed form, if it is the columns' side as it lies. Needed of the
 * other are its labels only: an extent of 1 there is broadcast by its stride. */
static od_code pack_constant(eng_graph *g, const eng_node *n, einsum_params *p, od_status *st)
{
    int which = eng_node_weights(g, n, 1) ? 1 : 0;
    const eng_tensor *t = eng_node_weights(g, n, which);
    int64_t dim[LABELS];
    pair q = {.dim = dim, .type = ENG_FLOAT};
    view *constant = which ? &q.b : &q.a, *other = which ? &q.a : &q.b;
    order want = {0};
    matrices x;
    if (!t || !(ENG_T(t->dtype) & (ENG_T(ENG_FLOAT) | ENG_T_HALF))) return OD_OK;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < p->n_labels[i]; k++)
            if (p->label[i][k] < 0) return OD_OK;
    OD_TRY(look(p, which, t, constant, st));
    for (int l = 0; l < LABELS; l++) {
        dim[l] = (constant->has & BIT(l)) ? constant->dim[l] : 2;
        if (dim[l] < 2) return OD_OK;
    }
    for (int k = 0; k < p->n_labels[1 - which]; k++) {
        other->has |= BIT(p->label[1 - which][k]);
        other->dim[p->label[1 - which][k]] = 2; /* anything */
    }
    label_set need = 0;
    for (int k = 0; k < p->n_labels[2]; k++) {
        if (need & BIT(p->label[2][k]) || !((q.a.has | q.b.has) & BIT(p->label[2][k]))) return OD_OK; /* infer refuses it */
        need |= BIT(p->label[2][k]);
        want.label[want.n++] = p->label[2][k];
    }
    sort_labels(&q, need);
    bool swap = q.n && swaps(&q, &want);
    if (swap == (which == 1)) return OD_OK;
    if (swap) swap_sides(&q);
    if (!last_is_in(&want, q.n)) return OD_OK;
    cut(&q, &want, &x);
    eng_product f = {0};
    label_set used = set_of(&x.batch) | set_of(&x.k) | set_of(&x.n);
    if (!as_one(&q.b, &x.k, 0, x.k.n, dim, &f.k, &f.b_row) || !as_one(&q.b, &x.n, 0, x.n.n, dim, &f.n, &f.b_col) || q.b.has & ~used)
        return OD_OK;
    for (int i = 0; i < x.batch.n; i++) {
        int l = x.batch.label[i];
        if (!(q.b.has & BIT(l))) continue;
        f.batch[f.batch_rank] = dim[l];
        f.b_step[f.batch_rank++] = q.b.stride[l];
    }
    return eng_product_pack_constant(&f, 1.0f, g, n, which, &p->packed, st);
}

od_code eng_einsum_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    const eng_attr *a = eng_node_attr(n, "equation");
    einsum_params *p = eng_model_alloc(g, sizeof *p);
    (void)pool;
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for an equation");
    if (!a || a->kind != ENG_ATTR_STRING) return od_fail(st, OD_BAD_MODEL, "attribute 'equation' is missing");
    const char *at = a->s.ptr, *end = at + a->s.len;
    for (;;) {
        OD_TRY(parse_term(&at, end, p, st));
        if (at == end) break;
        if (*at == ',') at++;
        else break;
    }
    int operands = p->n_terms;
    if (at == end) {
        OD_TRY(implied_result(p, st));
    } else {
        if (end - at < 2 || at[1] != '>') return od_fail(st, OD_BAD_ARGUMENT, "equation: '-' without '>'");
        at += 2;
        OD_TRY(parse_term(&at, end, p, st));
        if (at != end) return od_fail(st, OD_BAD_ARGUMENT, "equation: something follows the result");
    }
    if (operands != n->n_in) return od_fail(st, OD_BAD_ARGUMENT, "%d terms for %d operands", operands, n->n_in);
    n->params = p;
    return operands == 2 && !g->model->probing ? pack_constant(g, n, p, st) : OD_OK;
}
