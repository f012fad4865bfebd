/* scatter.c - a copy of the input with some elements replaced or added to: ScatterElements (Scatter),
 * ScatterND, TensorScatter. Where indices repeat, updates apply in their order. */
#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"

#include <string.h>

typedef enum reduction { REPLACE, ADD, MUL, MIN, MAX, REDUCTIONS } reduction;

/* to[i] = to[i] reduced with from[i] */
typedef void reduce_fn(void *to, const void *from, int64_t n);

#define REDUCE(name, T, expr)                                 \
    static void name(void *to, const void *from, int64_t n)   \
    {                                                         \
        T *o = to;                                            \
        const T *u = from;                                    \
        for (int64_t i = 0; i < n; i++) {                     \
            T a = o[i], b = u[i];                             \
            o[i] = (T)(expr);                                 \
        }                                                     \
    }
#define REDUCES(T, TAG, W, L, S)          \
    REDUCE(add_##T, T, (W)a + (W)b)       \
    REDUCE(mul_##T, T, (W)a * (W)b)       \
    REDUCE(min_##T, T, b < a ? b : a)     \
    REDUCE(max_##T, T, b > a ? b : a)
ENG_FOR_INTS(REDUCES)
REDUCES(float, , float, , )
REDUCES(double, , double, , )

static reduce_fn *find_reduce(eng_dtype type, reduction r)
{
#define ROW(T, TAG, W, L, S) \
    case TAG: return (reduce_fn *const[]){NULL, add_##T, mul_##T, min_##T, max_##T}[r];
    switch (type) {
        ENG_FOR_INTS(ROW)
        ROW(float, ENG_FLOAT, , , )
        ROW(double, ENG_DOUBLE, , , )
    default: return NULL;
    }
}

static od_code read_reduction(const eng_ctx *c, reduction *out, od_status *st)
{
    static const char *const names[REDUCTIONS] = {"none", "add", "mul", "min", "max"};
    for (int r = REPLACE; r < REDUCTIONS; r++)
        if (eng_node_string_is(c->node, "reduction", "none", names[r])) {
            *out = (reduction)r;
            if (r == REPLACE || ENG_T(c->in[0]->dtype) & ENG_T_NUMERIC) return OD_OK;
            return od_fail(st, OD_BAD_TYPE, "elements are %s: nothing to %s", eng_dtype_name(c->in[0]->dtype), names[r]);
        }
    return od_fail(st, OD_BAD_ARGUMENT, "reduction is none of none, add, mul, min, max");
}

static od_code check(const eng_ctx *c, reduction *r, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 3, st));
    if (c->in[1]->dtype != ENG_INT64 && c->in[1]->dtype != ENG_INT32)
        return od_fail(st, OD_BAD_TYPE, "indices are %s, wanted int64 or int32", eng_dtype_name(c->in[1]->dtype));
    OD_TRY(eng_check_types(c, 2, c->in[0]->dtype, st));
    return read_reduction(c, r, st);
}

static void copy_data(const eng_ctx *c)
{
    eng_move_bytes(c->out[0]->data, c->in[0]->data, eng_tensor_bytes(c->in[0]), c->pool);
}

/* ---- ScatterElements ------------------------------------------------------------------------ */

od_code eng_scatter_elements_infer(eng_ctx *c, od_status *st)
{
    int axis;
    reduction r;
    OD_TRY(check(c, &r, st));
    const eng_tensor *x = c->in[0], *at = c->in[1];
    OD_TRY(eng_axis_attr(c, 0, &axis, st));
    if (at->rank != x->rank || !eng_dims_equal(at, c->in[2]))
        return od_fail(st, OD_BAD_SHAPE, "data, indices and updates have ranks %d, %d, %d or extents that differ", x->rank, at->rank,
                       c->in[2]->rank);
    for (int d = 0; d < x->rank; d++)
        if (d != axis && at->dims[d] > x->dims[d])
            return od_fail(st, OD_BAD_SHAPE, "extent %d of the indices is %" PRId64 ", of the data %" PRId64, d, at->dims[d],
                           x->dims[d]);
    return eng_infer_same(c, st);
}

/* Indices that were expanded along a row: it goes to one place as a whole. */
static bool all_equal(const int64_t *at, int64_t n)
{
    int64_t differ = 0;
    for (int64_t i = 1; i < n; i++) differ |= at[i] ^ at[0];
    return !differ;
}

od_code eng_scatter_elements_run(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t strides[ENG_MAX_RANK], where[ENG_MAX_RANK] = {0};
    const int64_t *at;
    reduction r;
    OD_TRY(read_reduction(c, &r, st));
    OD_TRY(eng_axis_attr(c, 0, &axis, st));
    OD_TRY(eng_indices(c, 1, c->in[0]->dims[axis], &at, st));
    if (!c->out[0]) return OD_OK;
    copy_data(c);
    if (!eng_tensor_count(c->in[2])) return OD_OK;
    eng_tensor x = *c->in[0], u = *c->in[2];
    eng_join_tail(&u, &x, axis);
    reduce_fn *fn = find_reduce(x.dtype, r);
    size_t size = eng_dtype_size(x.dtype);
    eng_tensor_strides(&x, strides);
    int64_t n = u.dims[u.rank - 1], rows = eng_tensor_count(&u) / n, step = axis == u.rank - 1 ? 0 : 1;
    const char *from = u.data;
    char *out = c->out[0]->data;
    for (int64_t row = 0, base = 0; row < rows; row++, at += n) {
        if (row) base = eng_next_row(&u, strides, axis, where, base);
        int64_t together = step && all_equal(at, n) ? n : 1;
        for (int64_t i = 0; i < n; i += together, from += (size_t)together * size) {
            char *to = out + (base + at[i] * strides[axis] + i * step) * (int64_t)size;
            if (fn) fn(to, from, together);
            else if (together > 1) memcpy(to, from, (size_t)together * size);
            else if (size == 4) memcpy(to, from, 4);
            else memcpy(to, from, size);
        }
    }
    return OD_OK;
}

/* ---- ScatterND ------------------------------------------------------------------------------ */

od_code eng_scatter_nd_infer(eng_ctx *c, od_status *st)
{
    reduction r;
    OD_TRY(check(c, &r, st));
    const eng_tensor *x = c->in[0], *at = c->in[1], *u = c->in[2];
    int64_t width = at->rank ? at->dims[at->rank - 1] : 0;
    if (x->rank < 1 || at->rank < 1 || width > x->rank)
        return od_fail(st, OD_BAD_SHAPE, "indices are tuples of %" PRId64 ", the data has rank %d", width, x->rank);
    bool fits = u->rank == at->rank - 1 + x->rank - width;
    for (int d = 0; fits && d < u->rank; d++)
        fits = u->dims[d] == (d < at->rank - 1 ? at->dims[d] : x->dims[d - (at->rank - 1) + width]);
    if (!fits) return od_fail(st, OD_BAD_SHAPE, "the updates do not have the shape that data and indices ask for");
    return eng_infer_same(c, st);
}

od_code eng_scatter_nd_run(eng_ctx *c, od_status *st)
{
    int64_t *at, n, slice;
    reduction r;
    OD_TRY(read_reduction(c, &r, st));
    OD_TRY(eng_tuples(c, 0, c->in[0], &at, &n, &slice, st));
    if (!c->out[0]) return OD_OK;
    copy_data(c);
    reduce_fn *fn = find_reduce(c->in[0]->dtype, r);
    size_t size = eng_dtype_size(c->in[0]->dtype), bytes = (size_t)slice * size;
    const char *from = c->in[2]->data;
    for (int64_t i = 0; i < n; i++, from += bytes) {
        char *to = (char *)c->out[0]->data + (size_t)at[i] * size;
        if (fn) fn(to, from, slice);
        else memcpy(to, from, bytes);
    }
    return OD_OK;
}

/* ---- TensorScatter -------------------------------------------------------------------------- */

static od_code tensor_scatter_axis(const eng_ctx *c, int *axis, od_status *st)
{
    OD_TRY(eng_axis_attr(c, -2, axis, st));
    return *axis ? OD_OK : od_fail(st, OD_BAD_ARGUMENT, "axis 0 is the batch");
}

od_code eng_tensor_scatter_infer(eng_ctx *c, od_status *st)
{
    int axis;
    OD_TRY(eng_need_inputs(c, 2, st));
    const eng_tensor *x = c->in[0], *u = c->in[1], *at = c->n_in > 2 ? c->in[2] : NULL;
    OD_TRY(tensor_scatter_axis(c, &axis, st));
    if (u->dtype != x->dtype) return od_fail(st, OD_BAD_TYPE, "the update is %s, the cache %s", eng_dtype_name(u->dtype), eng_dtype_name(x->dtype));
    bool fits = u->rank == x->rank;
    for (int d = 0; fits && d < x->rank; d++) fits = d == axis ? u->dims[d] <= x->dims[d] : u->dims[d] == x->dims[d];
    if (!fits) return od_fail(st, OD_BAD_SHAPE, "the update does not fit into the cache along axis %d", axis);
    if (at && (at->dtype != ENG_INT64 || at->rank != 1 || at->dims[0] != x->dims[0]))
        return od_fail(st, OD_BAD_SHAPE, "write_indices must be %" PRId64 " numbers of int64", x->dims[0]);
    if (!eng_node_string_is(c->node, "mode", "linear", "linear") && !eng_node_string_is(c->node, "mode", "linear", "circular"))
        return od_fail(st, OD_BAD_ARGUMENT, "mode is neither linear nor circular");
    return eng_infer_same(c, st);
}

od_code eng_tensor_scatter_run(eng_ctx *c, od_status *st)
{
    int axis;
    const eng_tensor *x = c->in[0], *u = c->in[1], *at = c->n_in > 2 ? c->in[2] : NULL;
    OD_TRY(tensor_scatter_axis(c, &axis, st));
    if (!c->out[0]) return OD_OK;
    copy_data(c);
    if (!eng_tensor_count(u)) return OD_OK;
    bool circular = eng_node_string_is(c->node, "mode", "linear", "circular");
    int64_t middle = 1, inner = 1, extent = x->dims[axis], n = u->dims[axis];
    for (int d = 1; d < axis; d++) middle *= x->dims[d];
    for (int d = axis + 1; d < x->rank; d++) inner *= x->dims[d];
    size_t bytes = (size_t)inner * eng_dtype_size(x->dtype);
    for (int64_t b = 0; b < x->dims[0]; b++) {
        int64_t first = at ? ((const int64_t *)at->data)[b] : 0;
        if (first < 0 || (!circular && first > extent - n))
            return od_fail(st, OD_BAD_VALUE, "%" PRId64 " entries at %" PRId64 " of an axis of extent %" PRId64, n, first, extent);
        first %= extent;
        int64_t whole = od_min_i64(n, extent - first); /* the rest goes round to the start */
        for (int64_t m = b * middle; m < (b + 1) * middle; m++) {
            const char *from = (const char *)u->data + (size_t)(m * n) * bytes;
            char *to = (char *)c->out[0]->data + (size_t)(m * extent) * bytes;
            memcpy(to + (size_t)first * bytes, from, (size_t)whole * bytes);
            memcpy(to, from + (size_t)whole * bytes, (size_t)(n - whole) * bytes);
        }
    }
    return OD_OK;
}
