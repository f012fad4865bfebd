/* concat.c - Concat and Split along any axis in either layout. The plan lets producers write into
 * their part of a concatenation; a part of a Split is a view where the layout can express one. */
#include "engine/ops/shape.h"

#include <string.h>

/* ---- Concat --------------------------------------------------------------------------------- */

/* Opset 1 took the axis for 1. */
od_code eng_concat_import(eng_graph *g, eng_node *n, od_status *st)
{
    return eng_node_attr(n, "axis") ? OD_OK : eng_node_set_int(g, n, "axis", 1, st);
}

od_code eng_concat_infer(eng_ctx *c, od_status *st)
{
    int axis;
    if (c->n_in < 1) return od_fail(st, OD_BAD_MODEL, "no inputs");
    OD_TRY(eng_need_inputs(c, c->n_in, st));
    OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st));
    OD_TRY(eng_axis_attr(c, 1, &axis, st));
    eng_tensor sum = *c->in[0];
    for (int i = 1; i < c->n_in; i++) {
        const eng_tensor *t = c->in[i];
        if (t->rank != sum.rank) return od_fail(st, OD_BAD_SHAPE, "input %d has rank %d, input 0 has %d", i, t->rank, sum.rank);
        for (int d = 0; d < sum.rank; d++)
            if (d != axis && t->dims[d] != sum.dims[d])
                return od_fail(st, OD_BAD_SHAPE, "extent %d is %" PRId64 " in input %d and %" PRId64 " in input 0", d, t->dims[d],
                               i, sum.dims[d]);
        if (__builtin_add_overflow(sum.dims[axis], t->dims[axis], &sum.dims[axis]))
            return od_fail(st, OD_BAD_SHAPE, "extents along axis %d overflow", axis);
    }
    return eng_set_out(c, 0, sum.dtype, sum.rank, sum.dims, st);
}

/* The part of `whole` that begins at `from` along `axis` and has the extents of `part`, as strides of
 * `whole`; its first element. */
static char *part_of(const eng_tensor *whole, int axis, int64_t from, int64_t *strides)
{
    eng_tensor_strides(whole, strides);
    return (char *)whole->data + from * strides[axis] * (int64_t)eng_dtype_size(whole->dtype);
}

od_code eng_concat_run(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t at = 0, to[ENG_MAX_RANK], from[ENG_MAX_RANK];
    OD_TRY(eng_axis_attr(c, 1, &axis, st));
    if (!c->out[0]) return OD_OK;
    for (int i = 0; i < c->n_in; i++) {
        const eng_tensor *x = c->in[i];
        eng_move m = {.from = x->data, .size = eng_dtype_size(x->dtype)};
        m.to = part_of(c->out[0], axis, at, to);
        at += x->dims[axis];
        if (m.to == m.from) continue; /* written in place */
        eng_tensor_strides(x, from);
        for (int d = 0; d < x->rank; d++) eng_move_axis(&m, x->dims[d], to[d], from[d]);
        eng_move_run(&m, c->pool);
    }
    return OD_OK;
}

/* ---- Split ---------------------------------------------------------------------------------- */

od_code eng_split_import(eng_graph *g, eng_node *n, od_status *st)
{
    return eng_attr_to_input(g, n, "split", 1, false, st);
}

/* Where the parts begin: start[0 .. n_out], the last one being the extent. */
static od_code split_starts(const eng_ctx *c, int axis, int64_t *start, od_status *st)
{
    int64_t extent = c->in[0]->dims[axis], n;
    start[0] = 0;
    if (c->n_in > 1 && c->in[1]) {
        if (c->node->opset < 2 && ENG_T(c->in[1]->dtype) & ENG_T_FLOAT) { /* of the data's type then */
            OD_TRY(eng_need(c, 1));
            n = eng_tensor_count(c->in[1]);
            for (int64_t k = 0; k < od_min_i64(n, c->n_out); k++) start[k + 1] = eng_tensor_int(c->in[1], k);
        } else {
            OD_TRY(eng_ints_in(c, 1, c->n_out, start + 1, &n, st));
        }
        if (n != c->n_out) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " parts are named, there are %d outputs", n, c->n_out);
        for (int k = 0; k < c->n_out; k++)
            if (start[k + 1] < 0 || __builtin_add_overflow(start[k], start[k + 1], &start[k + 1]))
                return od_fail(st, OD_BAD_SHAPE, "part %d has a negative extent", k);
        if (start[n] != extent)
            return od_fail(st, OD_BAD_SHAPE, "parts sum to %" PRId64 ", axis %d has extent %" PRId64, start[n], axis, extent);
        return OD_OK;
    }
    int64_t parts = eng_node_int(c->node, "num_outputs", c->n_out);
    if (parts != c->n_out) return od_fail(st, OD_BAD_ARGUMENT, "num_outputs is %" PRId64 ", there are %d outputs", parts, c->n_out);
    int64_t part = od_ceil_div(extent, c->n_out);
    if (c->node->opset < 18 && part * c->n_out != extent)
        return od_fail(st, OD_BAD_SHAPE, "extent %" PRId64 " in %d equal parts", extent, c->n_out);
    for (int k = 1; k <= c->n_out; k++) start[k] = od_min_i64(part * k, extent);
    return OD_OK;
}

static od_code read_split(const eng_ctx *c, int *axis, int64_t **start, od_status *st)
{
    OD_TRY(eng_axis_attr(c, 0, axis, st));
    *start = od_arena_array(c->scratch, int64_t, c->n_out + 1);
    if (!*start) return od_fail(st, OD_NO_MEMORY, "no memory for %d parts", c->n_out);
    return split_starts(c, *axis, *start, st);
}

od_code eng_split_infer(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t *start;
    OD_TRY(eng_need_inputs(c, 1, st));
    OD_TRY(read_split(c, &axis, &start, st));
    for (int k = 0; k < c->n_out; k++) {
        eng_tensor t = *c->in[0];
        t.dims[axis] = start[k + 1] - start[k];
        OD_TRY(eng_set_out(c, k, t.dtype, t.rank, t.dims, st));
    }
    return OD_OK;
}

bool eng_split_alias(const eng_ctx *c, int k, int64_t *offset)
{
    int axis;
    int64_t *start, strides[ENG_MAX_RANK];
    od_status unused;
    if (read_split(c, &axis, &start, &unused) != OD_OK) return false;
    eng_tensor_strides(c->in[0], strides);
    *offset = start[k] * strides[axis];
    return eng_view_strided(c->out[k], strides);
}

od_code eng_split_run(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t *start;
    OD_TRY(read_split(c, &axis, &start, st));
    for (int k = 0; k < c->n_out; k++) {
        int64_t from[ENG_MAX_RANK] = {0}, strides[ENG_MAX_RANK];
        from[axis] = start[k];
        if (!c->out[k] || c->out[k]->data == part_of(c->in[0], axis, start[k], strides)) continue;
        eng_move_box(c->out[k], c->in[0], from, NULL, c->pool);
    }
    return OD_OK;
}
