/* rows.c - Reshape, Transpose, Gather, Slice and Concat that leave the last axis alone move rows. Several of them in a row are
 * one copy (windows that were rolled, as in Swin, and pixels merged to channels), and one that stands behind a
 * LayerNormalization or before an Add goes into it. The operator is engine/ops/gather_rows.c. */
#include "engine/passes/passes.h"

#include <string.h>

enum { ROWS_MAX = 1 << 18, DEPTH = 12, SHORTEST = 16 /* floats of a row that is worth it */ };

typedef struct look {
    eng_rewrite *r;
    unsigned *fixed; /* see eng_rewrite_fixed */
    int n_values;
    od_arena *tmp; /* of one place of the graph */
} look;

/* The rows of a value as those of `base`, for one of the guesses; index NULL: the same. */
typedef struct moved {
    int base, moves; /* nodes that do more than to name axes otherwise */
    int64_t count, *index;
} moved;

/* Computed, float, and no request changes an extent but the first. */
static bool is_rows(const look *l, int v)
{
    const eng_tensor *t = v < 0 || v >= l->n_values || l->r->g->values[v].constant ? NULL : eng_rewrite_type(l->r, v);
    if (!t || t->dtype != ENG_FLOAT || t->rank < 2 || t->dims[t->rank - 1] < SHORTEST) return false;
    const unsigned all = (1u << t->rank) - 1;
    return ((l->fixed[v] | 1) & all) == all;
}

/* Rows of axes `axis` and on. */
static int64_t count_from(const eng_tensor *t, int axis)
{
    int64_t n = 1;
    for (int i = axis; i + 1 < t->rank; i++) n *= t->dims[i];
    return n;
}

static int64_t count_rows(const eng_tensor *t) { return count_from(t, 0); }

/* Along each axis of the result, how many rows of the input further a coordinate lies; to[axis * most + coordinate]. */
static bool find_steps(const look *l, const eng_node *n, const eng_tensor *x, const eng_tensor *y, int64_t most, int64_t *to)
{
    const eng_rewrite *r = l->r;
    const int rows = y->rank - 1;
    int64_t strides[ENG_MAX_RANK], count, from[ENG_MAX_RANK] = {0}, step[ENG_MAX_RANK], source[ENG_MAX_RANK];
    const eng_tensor *index = NULL, *t[5] = {NULL};
    int64_t axis = -1;
    for (int d = rows - 1; d >= 0; d--) strides[d] = d + 1 < rows ? strides[d + 1] * x->dims[d + 1] : 1;
    for (int d = 0; d < rows; d++) source[d] = d, step[d] = 1;
    if (eng_node_is(n, "Transpose")) {
        const int64_t *perm = eng_node_ints(n, "perm", &count);
        if (!perm || count != x->rank || perm[rows] != rows) return false;
        memcpy(source, perm, (size_t)rows * sizeof *perm);
    } else if (eng_node_is(n, "Gather")) {
        index = eng_rewrite_constant(r, n->in[1]);
        axis = eng_node_int(n, "axis", 0);
        if (axis < 0) axis += x->rank;
        if (!index || index->rank != 1 || axis < 0 || axis >= rows) return false;
    } else if (eng_node_is(n, "Slice")) {
        if (n->n_in < 3) return false;
        for (int k = 1; k < 5 && k < n->n_in; k++)
            if (n->in[k] >= 0 && !(t[k] = eng_rewrite_constant(r, n->in[k]))) return false;
        if (!t[1]) return false;
        for (int64_t i = 0; i < eng_tensor_count(t[1]); i++) {
            int64_t a = t[3] ? eng_tensor_int(t[3], i) : i, start = eng_tensor_int(t[1], i), by = t[4] ? eng_tensor_int(t[4], i) : 1;
            if (a < 0) a += x->rank;
            if (a < 0 || a >= rows || by < 1) return false;
            if (start < 0) start += x->dims[a];
            from[a] = start < 0 ? 0 : start;
            step[a] = by;
        }
    } else {
        return false;
    }
    for (int d = 0; d < rows; d++)
        for (int64_t i = 0; i < y->dims[d]; i++) {
            int64_t at = from[d] + i * step[d], extent = x->dims[source[d]];
            if (d == axis) at = eng_tensor_int(index, i) + (eng_tensor_int(index, i) < 0 ? extent : 0);
            if (at < 0 || at >= extent) return false;
            to[d * most + i] = at * strides[source[d]];
        }
    return true;
}

static bool trace(const look *l, int v, int round, int depth, moved *m);

/* Through one node that moves rows of x to those of y. */
static bool move(const look *l, const eng_node *n, const eng_tensor *x, const eng_tensor *y, moved *m)
{
    bool moves = false; /* or it is a view */
    int64_t most = 1, at[ENG_MAX_RANK] = {0}, total = count_rows(y);
    const int rows = y->rank - 1;
    for (int d = 0; d < rows; d++) most = od_max_i64(most, y->dims[d]);
    if (total < 1 || total > ROWS_MAX || x->rank != y->rank) return false;
    int64_t *steps = od_arena_array(l->tmp, int64_t, rows * most), *index = od_arena_array(l->tmp, int64_t, total);
    if (!steps || !index || !find_steps(l, n, x, y, most, steps)) return false;
    for (int d = 0; eng_node_is(n, "Slice") && d < rows; d++) /* with steps */
        moves |= y->dims[d] > 1 && x->dims[d] > 1 && steps[d * most + 1] - steps[d * most] > count_from(x, d + 1);
    for (int64_t i = 0; i < total; i++) {
        int64_t row = 0;
        for (int d = 0; d < rows; d++) row += steps[d * most + at[d]];
        if (!eng_node_is(n, "Slice")) moves |= row != i;
        index[i] = m->index ? m->index[row] : row;
        for (int d = rows - 1; d >= 0 && ++at[d] == y->dims[d]; d--) at[d] = 0;
    }
    m->index = index;
    m->count = total;
    m->moves += moves;
    return true;
}

/* Values beside each other in the last axis are rows that take turns. */
static bool take_turns(const look *l, const eng_node *n, int round, int depth, moved *m)
{
    const int parts = n->n_in;
    moved part;
    int64_t *index = NULL;
    *m = (moved){0};
    for (int k = 0; k < parts; k++) {
        if (!is_rows(l, n->in[k])) return false;
        const eng_tensor *t = &l->r->g->guess[round][n->in[k]], *first = &l->r->g->guess[round][n->in[0]];
        if (t->dims[t->rank - 1] != first->dims[first->rank - 1] || !trace(l, n->in[k], round, depth, &part)) return false;
        if (!k) *m = part;
        if (part.base != m->base || part.count != m->count || part.count > ROWS_MAX / parts) return false;
        if (!k && !(index = od_arena_array(l->tmp, int64_t, part.count * parts))) return false;
        for (int64_t i = 0; i < part.count; i++) index[i * parts + k] = part.index ? part.index[i] : i;
        m->moves += k ? part.moves : 1;
    }
    m->count *= parts;
    m->index = index;
    return true;
}

static bool trace(const look *l, int v, int round, int depth, moved *m)
{
    const eng_graph *g = l->r->g;
    *m = (moved){.base = v, .count = count_rows(&g->guess[round][v])};
    const eng_node *n = depth ? eng_rewrite_maker(l->r, v, NULL) : NULL;
    if (!n || n->domain != ENG_DOMAIN_ONNX || n->fused.act || n->n_in < 1 || !is_rows(l, n->in[0])) return true;
    const eng_tensor *x = &g->guess[round][n->in[0]], *y = &g->guess[round][v];
    moved from;
    if (eng_node_is(n, "Reshape")) {
        if (x->dims[x->rank - 1] == y->dims[y->rank - 1]) return trace(l, n->in[0], round, depth - 1, m);
    } else if (eng_node_is(n, "Transpose") || eng_node_is(n, "Gather") || eng_node_is(n, "Slice")) {
        if (!trace(l, n->in[0], round, depth - 1, &from)) return false;
        if (move(l, n, x, y, &from)) *m = from;
    }
    return true;
}

/* The rows that node `n` gives, as those of one value; `rows` of an item of that one, in the first m->count of m->index. */
static bool find_rows(const look *l, const eng_node *n, moved *m, int64_t *rows)
{
    moved all[2];
    for (int round = 0; round < 2; round++) {
        const eng_tensor *t = &l->r->g->guess[round][n->out[0]];
        int64_t axis = eng_node_is(n, "Concat") ? eng_node_int(n, "axis", 0) : 0;
        bool turns = axis && (axis == -1 || axis == t->rank - 1);
        bool fits = turns ? take_turns(l, n, round, DEPTH, &all[round]) : trace(l, n->out[0], round, DEPTH, &all[round]);
        if (!fits || !all[round].index || all[round].base != all[0].base) return false;
    }
    if (!is_rows(l, all[0].base)) return false;
    const int64_t a = count_rows(&l->r->g->guess[0][all[0].base]), b = count_rows(&l->r->g->guess[1][all[0].base]);
    *m = all[0];
    *rows = a;
    if (a < 1 || b % a || all[1].count != b / a * m->count) return false;
    for (int64_t i = 0; i < all[1].count; i++) /* an item's rows stay in the item, and each item's are moved alike */
        if (all[1].index[i] != i / m->count * a + m->index[i % m->count]) return false;
    return true;
}

/* One node reads `v`, and perhaps some want its shape; where they are to look for it is `shape_of`, if that is a value. */
static bool has_one_reader(const look *l, int v, int shape_of, od_status *st)
{
    eng_rewrite *r = l->r;
    int readers = 0;
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        for (int k = 0; k < n->n_in && !n->dead; k++) {
            if (n->in[k] != v) continue;
            if (!eng_node_is(n, "Shape")) readers++;
            else if (shape_of >= 0 && eng_rewrite_read(r, n, k, shape_of, st) != OD_OK) return false;
        }
    }
    return readers == 1 && !r->is_output[v];
}

/* The LayerNormalization of whole rows that gives m->base to one node alone. */
static eng_node *norm_before(const look *l, const moved *m)
{
    eng_rewrite *r = l->r;
    od_status unused;
    eng_node *n = eng_rewrite_maker(r, m->base, "LayerNormalization");
    const eng_tensor *x = n && is_rows(l, n->in[0]) ? eng_rewrite_type(r, n->in[0]) : NULL;
    int64_t axis = n ? eng_node_int(n, "axis", -1) : 0;
    if (!x || n->domain != ENG_DOMAIN_ONNX || n->fused.act || (axis != -1 && axis != x->rank - 1) || n->n_in < 2) return NULL;
    for (int k = 1; k < n->n_out; k++)
        if (n->out[k] >= 0) return NULL;
    for (int k = 1; k < n->n_in; k++) {
        const eng_tensor *t = n->in[k] < 0 ? NULL : eng_rewrite_constant(r, n->in[k]);
        if (n->in[k] < 0 ? k == 1 : !t || t->rank != 1 || t->dims[0] != x->dims[x->rank - 1]) return NULL;
    }
    return has_one_reader(l, m->base, ENG_NONE, &unused) ? n : NULL;
}

/* The Add that alone reads what `n` gives, to a tensor of the same shape. */
static eng_node *add_behind(const look *l, const eng_node *n, int *other)
{
    eng_node *add = eng_rewrite_only_reader(l->r, n->out[0]);
    if (!add || !eng_node_is(add, "Add") || add->n_in != 2 || add->fused.act || add->fused.residual) return NULL;
    *other = add->in[add->in[0] == n->out[0]];
    return *other >= 0 && *other != n->out[0] && eng_rewrite_is_float(l->r, *other) && eng_rewrite_same_shape(l->r, *other, n->out[0]) &&
           eng_rewrite_same_shape(l->r, add->out[0], n->out[0]) ? add : NULL;
}

static od_code rewrite(const look *l, eng_node *n, const moved *m, int64_t rows, od_status *st)
{
    eng_rewrite *r = l->r;
    int other = ENG_NONE, scale = ENG_NONE, bias = ENG_NONE, base = m->base;
    eng_node *norm = norm_before(l, m), *add = add_behind(l, n, &other);
    if (!add || eng_rewrite_image(r, other)) add = NULL, other = ENG_NONE;
    if (m->moves < (norm || add ? 1 : 2) || eng_rewrite_image(r, base)) return OD_OK;
    float eps = 0.0f;
    if (norm) {
        if (!has_one_reader(l, base, norm->in[0], st)) return od_note(st, "the shape of a normalization");
        base = norm->in[0];
        scale = norm->in[1];
        bias = norm->n_in > 2 ? norm->in[2] : ENG_NONE;
        eps = eng_node_float(norm, "epsilon", 1e-5f);
    }
    const eng_tensor *t = eng_rewrite_type(r, n->out[0]);
    int64_t *data, dims[ENG_MAX_RANK];
    memcpy(dims, t->dims, sizeof dims);
    const int rank = t->rank, index = eng_rewrite_new_ints(r, m->count, &data);
    if (index < 0) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " indices", m->count);
    memcpy(data, m->index, (size_t)m->count * sizeof *data);
    eng_node *to = add ? add : n;
    OD_TRY(eng_rewrite_become(r, to, ENG_DOMAIN_OWN, "GatherRows", 1, 5, st));
    const int in[] = {base, index, scale, bias, other};
    for (int k = 0; k < 5; k++) {
        to->in[k] = in[k];
        if (in[k] >= 0 && in[k] < r->n_values) r->readers[in[k]]++;
    }
    OD_TRY(eng_node_set_int(r->g, to, "rows", rows, st));
    OD_TRY(eng_node_set_ints(r->g, to, "dims", dims, rank, st));
    return eng_node_set_float(r->g, to, "epsilon", eps, st);
}

static bool moves_rows(const eng_node *n)
{
    static const char *const types[] = {"Reshape", "Transpose", "Gather", "Slice", "Concat"};
    for (size_t i = 0; i < OD_COUNT(types); i++)
        if (eng_node_is(n, types[i])) return n->domain == ENG_DOMAIN_ONNX && !n->fused.act && n->n_in > 0 && n->out[0] >= 0;
    return false;
}

/* Does a node that alone reads `n` move its rows on, so that it is begun from there? */
static bool goes_on(const look *l, const eng_node *n)
{
    const eng_node *next = eng_rewrite_only_reader(l->r, n->out[0]);
    moved m;
    return next && moves_rows(next) && is_rows(l, next->out[0]) && trace(l, next->out[0], 0, DEPTH, &m) && m.base != next->out[0] &&
           m.base != n->out[0];
}

od_code eng_pass_rows(eng_rewrite *r, od_status *st)
{
    od_arena tmp = {0};
    look l = {.r = r, .n_values = r->g->n_values, .tmp = &tmp};
    od_code rc = OD_OK;
    if (!eng_op_find(ENG_DOMAIN_OWN, "GatherRows", 1)) return OD_OK;
    for (int i = r->g->n_nodes - 1; rc == OD_OK && i >= 0; i--) { /* from the last of several on */
        eng_node *n = &r->g->nodes[i];
        moved m;
        int64_t rows;
        if (n->dead || !moves_rows(n) || n->out[0] >= r->n_values || (!r->readers[n->out[0]] && !r->is_output[n->out[0]])) continue;
        od_arena_reset(&tmp);
        if (!l.fixed && (rc = eng_rewrite_fixed(r, &l.fixed, st)) != OD_OK) break;
        if (!is_rows(&l, n->out[0]) || goes_on(&l, n) || !find_rows(&l, n, &m, &rows)) continue;
        rc = rewrite(&l, n, &m, rows, st);
    }
    od_arena_fini(&tmp);
    return rc;
}
