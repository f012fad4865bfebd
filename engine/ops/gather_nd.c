/* gather_nd.c - picks of single elements or slices: GatherElements, GatherND, Compress. */
#include "engine/kernels/transpose_rows.h"
#include "engine/ops/shape.h"

#include <string.h>

static od_code check_index_type(const eng_ctx *c, int i, od_status *st)
{
    eng_dtype t = c->in[i]->dtype;
    if (t == ENG_INT64 || t == ENG_INT32) return OD_OK;
    return od_fail(st, OD_BAD_TYPE, "indices are %s, wanted int64 or int32", eng_dtype_name(t));
}

/* ---- GatherElements ------------------------------------------------------------------------- */

od_code eng_gather_elements_infer(eng_ctx *c, od_status *st)
{
    int axis;
    OD_TRY(eng_need_inputs(c, 2, st));
    const eng_tensor *x = c->in[0], *at = c->in[1];
    OD_TRY(check_index_type(c, 1, st));
    OD_TRY(eng_axis_attr(c, 0, &axis, st));
    if (at->rank != x->rank) return od_fail(st, OD_BAD_SHAPE, "indices have rank %d, the data %d", at->rank, x->rank);
    for (int d = 0; d < x->rank; d++)
        if (d != axis && at->dims[d] > x->dims[d])
            return od_fail(st, OD_BAD_SHAPE, "extent %d of the indices is %" PRId64 ", of the data %" PRId64, d, at->dims[d],
                           x->dims[d]);
    return eng_set_out(c, 0, x->dtype, at->rank, at->dims, st);
}

void eng_join_tail(eng_tensor *box, eng_tensor *x, int axis)
{
    int64_t n = 1;
    for (int d = axis + 1; d < box->rank; d++) {
        if (box->dims[d] != x->dims[d]) return;
        n *= box->dims[d];
    }
    if (axis + 2 >= box->rank) return;
    box->dims[axis + 1] = x->dims[axis + 1] = n;
    box->rank = x->rank = axis + 2;
}

int64_t eng_next_row(const eng_tensor *box, const int64_t *strides, int axis, int64_t *at, int64_t base)
{
    for (int d = box->rank - 2; d >= 0; d--) {
        int64_t stride = d == axis ? 0 : strides[d];
        base += stride;
        if (++at[d] < box->dims[d]) break;
        base -= stride * box->dims[d];
        at[d] = 0;
    }
    return base;
}

#define PICK(N)                                                                                      \
    case N:                                                                                          \
        for (int64_t i = 0; i < n; i++)                                                              \
            ((eng_move##N *)to)[i] = ((const eng_move##N *)from)[base + at[i] * stride + i * step];  \
        break;

od_code eng_gather_elements_run(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t strides[ENG_MAX_RANK], where[ENG_MAX_RANK] = {0};
    const int64_t *at;
    OD_TRY(eng_axis_attr(c, 0, &axis, st));
    OD_TRY(eng_indices(c, 1, c->in[0]->dims[axis], &at, st));
    if (!c->out[0] || !eng_tensor_count(c->out[0])) return OD_OK;
    eng_tensor x = *c->in[0], y = *c->out[0];
    eng_join_tail(&y, &x, axis);
    size_t size = eng_dtype_size(y.dtype);
    eng_tensor_strides(&x, strides);
    int64_t n = y.dims[y.rank - 1], rows = eng_tensor_count(&y) / n, stride = strides[axis];
    int64_t step = axis == y.rank - 1 ? 0 : 1; /* along the last axis elements of other axes advance */
    const char *from = x.data;
    char *to = y.data;
    for (int64_t row = 0, base = 0; row < rows; row++, at += n, to += (size_t)n * size) {
        if (row) base = eng_next_row(&y, strides, axis, where, base);
        switch (size) {
            PICK(1)
            PICK(2)
            PICK(4)
            PICK(8)
            PICK(16)
        default: return od_fail(st, OD_BAD_TYPE, "elements are %s", eng_dtype_name(y.dtype));
        }
    }
    return OD_OK;
}

/* ---- GatherND ------------------------------------------------------------------------------- */

od_code eng_tuples(const eng_ctx *c, int batch, const eng_tensor *x, int64_t **out, int64_t *count, int64_t *slice, od_status *st)
{
    const eng_tensor *t = c->in[1];
    int width = (int)t->dims[t->rank - 1], depth = batch + width;
    int64_t n = 1, per_batch = 1, tail = 1;
    for (int d = 0; d < t->rank - 1; d++) {
        n *= t->dims[d];
        if (d >= batch) per_batch *= t->dims[d];
    }
    for (int d = depth; d < x->rank; d++) tail *= x->dims[d];
    int64_t *to = od_arena_alloc(c->scratch, (size_t)n * sizeof *to);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " indices", n);
    for (int64_t i = 0, at = 0, left = 0; i < n; i++, left--) {
        if (!left) { /* the next batch */
            at = i / per_batch;
            left = per_batch;
        }
        int64_t where = at;
        for (int k = 0; k < width; k++) {
            int64_t extent = x->dims[batch + k], from = i * width + k;
            int64_t v = t->dtype == ENG_INT64 ? ((const int64_t *)t->data)[from] : ((const int32_t *)t->data)[from];
            if (v < -extent || v >= extent)
                return od_fail(st, OD_BAD_VALUE, "index %" PRId64 " of axis %d of extent %" PRId64, v, batch + k, extent);
            where = where * extent + (v < 0 ? v + extent : v);
        }
        to[i] = where * tail;
    }
    *out = to;
    *count = n;
    *slice = tail;
    return OD_OK;
}

od_code eng_gather_nd_infer(eng_ctx *c, od_status *st)
{
    int64_t dims[2 * ENG_MAX_RANK], batch = eng_node_int(c->node, "batch_dims", 0);
    OD_TRY(eng_need_inputs(c, 2, st));
    const eng_tensor *x = c->in[0], *at = c->in[1];
    OD_TRY(check_index_type(c, 1, st));
    if (x->rank < 1 || at->rank < 1 || batch < 0 || batch >= x->rank || batch >= at->rank)
        return od_fail(st, OD_BAD_SHAPE, "batch_dims %" PRId64 " with ranks %d and %d", batch, x->rank, at->rank);
    int64_t width = at->dims[at->rank - 1];
    if (width < 1 || width > x->rank - batch)
        return od_fail(st, OD_BAD_SHAPE, "indices are tuples of %" PRId64 ", the data has rank %d", width, x->rank);
    for (int d = 0; d < batch; d++)
        if (x->dims[d] != at->dims[d])
            return od_fail(st, OD_BAD_SHAPE, "extent %d is %" PRId64 " and %" PRId64, d, x->dims[d], at->dims[d]);
    int rank = 0;
    for (int d = 0; d < at->rank - 1; d++) dims[rank++] = at->dims[d];
    for (int d = (int)(batch + width); d < x->rank; d++) dims[rank++] = x->dims[d];
    return eng_set_out(c, 0, x->dtype, rank, dims, st);
}

od_code eng_gather_nd_run(eng_ctx *c, od_status *st)
{
    int64_t *at, n, slice;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    if (!y || !eng_tensor_count(y)) return OD_OK;
    OD_TRY(eng_tuples(c, (int)eng_node_int(c->node, "batch_dims", 0), x, &at, &n, &slice, st));
    size_t size = eng_dtype_size(x->dtype), bytes = (size_t)slice * size;
    char *to = y->data;
    const char *from = x->data;
    if (bytes == 4 && size == 4) /* single numbers, the usual case */
        for (int64_t i = 0; i < n; i++) memcpy(to + i * 4, from + at[i] * 4, 4);
    else
        for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * bytes, from + (size_t)at[i] * size, bytes);
    return OD_OK;
}

/* ---- Compress ------------------------------------------------------------------------------- */

/* Positions of `extent` that the condition keeps; it may be shorter. */
static int64_t kept(const eng_tensor *condition, int64_t extent)
{
    const uint8_t *keep = condition->data;
    int64_t n = 0;
    for (int64_t i = 0; i < od_min_i64(condition->dims[0], extent); i++) n += keep[i] != 0;
    return n;
}

od_code eng_compress_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 2, st));
    const eng_tensor *x = c->in[0], *keep = c->in[1];
    if (keep->dtype != ENG_BOOL || keep->rank != 1)
        return od_fail(st, OD_BAD_TYPE, "the condition is %s of rank %d, wanted a list of bool", eng_dtype_name(keep->dtype), keep->rank);
    OD_TRY(eng_need(c, 1));
    if (!eng_node_attr(c->node, "axis"))
        return eng_set_out(c, 0, x->dtype, 1, &(int64_t){kept(keep, eng_tensor_count(x))}, st);
    int axis;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(eng_axis_attr(c, 0, &axis, st));
    for (int d = 0; d < x->rank; d++) dims[d] = d == axis ? kept(keep, x->dims[d]) : x->dims[d];
    return eng_set_out(c, 0, x->dtype, x->rank, dims, st);
}

od_code eng_compress_run(eng_ctx *c, od_status *st)
{
    int axis = 0;
    const eng_tensor *x = c->in[0];
    const uint8_t *keep = c->in[1]->data;
    if (!c->out[0]) return OD_OK;
    bool flat = !eng_node_attr(c->node, "axis");
    if (!flat) OD_TRY(eng_axis_attr(c, 0, &axis, st));
    int64_t outer = 1, extent = flat ? eng_tensor_count(x) : x->dims[axis], inner = 1;
    for (int d = 0; d < x->rank && !flat; d++) {
        if (d < axis) outer *= x->dims[d];
        if (d > axis) inner *= x->dims[d];
    }
    size_t bytes = (size_t)inner * eng_dtype_size(x->dtype);
    int64_t n = od_min_i64(c->in[1]->dims[0], extent);
    char *to = c->out[0]->data;
    for (int64_t o = 0; o < outer; o++) {
        const char *from = (const char *)x->data + (size_t)(o * extent) * bytes;
        for (int64_t i = 0; i < n; i++) {
            if (!keep[i]) continue;
            memcpy(to, from + (size_t)i * bytes, bytes);
            to += bytes;
        }
    }
    return OD_OK;
}
