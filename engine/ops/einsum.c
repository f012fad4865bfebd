/* einsum.c - Einsum of any number of operands: each is seen through one stride a label (a repeated label is
 * a diagonal, an ellipsis stands for labels of its own), and operands are contracted two at a time, left
 * to right, as a batch of matrix products. */
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
static void add_up(const view *from, const order *keep, const order *gone, const int64_t *dim, eng_dtype type, void *to)
{
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
static od_code lay_out(const view *v, const order *keep, const int64_t *dim, eng_dtype type, od_arena *scratch, view *out, od_status *st)
{
    order gone = {0};
    label_set kept = 0;
    for (int i = 0; i < keep->n; i++) kept |= BIT(keep->label[i]);
    append(&gone, v->has & ~kept);
    int64_t count = count_of(keep, dim);
    void *to = od_arena_calloc(scratch, (size_t)count, eng_dtype_size(type));
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for an operand of %" PRId64 " numbers", count);
    add_up(v, keep, &gone, dim, type, to);
    *out = dense(keep, dim, to);
    return OD_OK;
}

/* ---- two operands -------------------------------------------------------------------------- */

/* The labels of `set` that lie in `v` as one axis would, in the order `o`: its extent and stride. */
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

typedef struct pair {
    view a, b;
    label_set batch, m, n, k;
    const int64_t *dim;
    eng_dtype type;
} pair;

static od_code contract(eng_ctx *c, pair *p, const order *want, void *to, od_status *st)
{
    order oa = {0}, ob = {0}, oc = {0};
    append(&oa, p->batch);
    append(&ob, p->batch);
    append(&oc, p->batch);
    int nb = oa.n;
    append(&oa, p->m);
    append(&oa, p->k);
    append(&ob, p->k);
    append(&ob, p->n);
    append(&oc, p->m);
    append(&oc, p->n);
    int am = nb + __builtin_popcountll(p->m), bk = nb + __builtin_popcountll(p->k);
    eng_product g = {0};
    int64_t ignored;
    /* operands that are not matrices as they lie are laid out anew */
    if (!as_one(&p->a, &oa, nb, am, p->dim, &g.m, &g.a_row) || !as_one(&p->a, &oa, am, oa.n, p->dim, &g.k, &g.a_col) ||
        p->a.has & ~(p->batch | p->m | p->k)) {
        OD_TRY(lay_out(&p->a, &oa, p->dim, p->type, c->scratch, &p->a, st));
        as_one(&p->a, &oa, nb, am, p->dim, &g.m, &g.a_row);
        as_one(&p->a, &oa, am, oa.n, p->dim, &g.k, &g.a_col);
    }
    if (!as_one(&p->b, &ob, bk, ob.n, p->dim, &g.n, &g.b_col) || !as_one(&p->b, &ob, nb, bk, p->dim, &ignored, &g.b_row) ||
        p->b.has & ~(p->batch | p->n | p->k)) {
        OD_TRY(lay_out(&p->b, &ob, p->dim, p->type, c->scratch, &p->b, st));
        as_one(&p->b, &ob, bk, ob.n, p->dim, &g.n, &g.b_col);
        as_one(&p->b, &ob, nb, bk, p->dim, &ignored, &g.b_row);
    }
    view out = dense(want, p->dim, to);
    int64_t col, extent;
    int cm = nb + __builtin_popcountll(p->m);
    bool direct = as_one(&out, &oc, nb, cm, p->dim, &extent, &g.c_row) && as_one(&out, &oc, cm, oc.n, p->dim, &extent, &col) && col == 1;
    if (!direct) {
        int64_t count = count_of(&oc, p->dim);
        void *tmp = od_arena_calloc(c->scratch, (size_t)count, eng_dtype_size(p->type));
        if (!tmp) return od_fail(st, OD_NO_MEMORY, "no memory for a product of %" PRId64 " numbers", count);
        out = dense(&oc, p->dim, tmp);
        g.c_row = g.n;
    }
    if (g.m == 1) g.a_row = g.k, g.c_row = g.n;
    for (int i = 0; i < nb; i++) {
        int l = oa.label[i];
        if (p->dim[l] == 1) continue;
        if (g.batch_rank == ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "more than %d shared axes", ENG_MAX_RANK);
        g.batch[g.batch_rank] = p->dim[l];
        g.a_step[g.batch_rank] = stride_of(&p->a, l);
        g.b_step[g.batch_rank] = stride_of(&p->b, l);
        g.c_step[g.batch_rank++] = out.stride[l];
    }
    g.a = p->a.data;
    g.b = p->b.data;
    g.c = (float *)(uintptr_t)out.data;
    OD_TRY(p->type == ENG_FLOAT ? eng_product_run(&g, c->scratch, c->pool, st) : eng_product_plain(&g, p->type, c->pool, st));
    if (!direct) add_up(&out, want, &(order){0}, p->dim, p->type, to);
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
        add_up(&acc, &result, &gone, dim, type, c->out[0]->data);
        return OD_OK;
    }
    for (int t = 1; t < operands; t++) {
        pair q = {.a = acc, .dim = dim, .type = type};
        OD_TRY(look(p, t, c->in[t], &q.b, st));
        label_set need = later[t + 1], both = q.a.has & q.b.has;
        for (int l = 0; l < LABELS; l++) /* an extent of 1 that is broadcast is the other's label alone */
            if ((both & BIT(l)) && (q.a.dim[l] == 1) != (q.b.dim[l] == 1)) {
                *(q.a.dim[l] == 1 ? &q.a.has : &q.b.has) &= ~BIT(l);
                both &= ~BIT(l);
            }
        q.batch = both & need;
        q.k = both & ~need;
        q.m = q.a.has & ~both & need;
        q.n = q.b.has & ~both & need;
        order want = {0};
        bool last = t == operands - 1;
        if (last) want = result;
        else append(&want, (q.a.has | q.b.has) & need);
        void *to = last ? c->out[0]->data : od_arena_calloc(c->scratch, (size_t)count_of(&want, dim), eng_dtype_size(type));
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " numbers", count_of(&want, dim));
        OD_TRY(contract(c, &q, &want, to, st));
        acc = dense(&want, dim, to);
    }
    return OD_OK;
}
