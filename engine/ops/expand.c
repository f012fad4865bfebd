/* expand.c - Expand and Tile: one input, repeated along axes. */
#include "engine/ops/shape.h"

od_code eng_expand_infer(eng_ctx *c, od_status *st)
{
    int64_t dims[ENG_MAX_RANK], n;
    int rank;
    OD_TRY(eng_need_inputs(c, 2, st));
    OD_TRY(eng_ints_in(c, 1, ENG_MAX_RANK, dims, &n, st));
    OD_TRY(eng_broadcast(c->in[0]->rank, c->in[0]->dims, (int)n, dims, &rank, dims, st));
    return eng_set_out(c, 0, c->in[0]->dtype, rank, dims, st);
}

od_code eng_expand_run(eng_ctx *c, od_status *st)
{
    int64_t to[ENG_MAX_RANK], from[ENG_MAX_RANK];
    (void)st;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    if (!y) return OD_OK;
    int lead = y->rank - x->rank;
    eng_move m = {.to = y->data, .from = x->data, .size = eng_dtype_size(y->dtype)};
    eng_tensor_strides(y, to);
    eng_tensor_strides(x, from);
    for (int d = 0; d < y->rank; d++)
        eng_move_axis(&m, y->dims[d], to[d], d < lead || x->dims[d - lead] == 1 ? 0 : from[d - lead]);
    eng_move_run(&m, c->pool);
    return OD_OK;
}

od_code eng_tile_infer(eng_ctx *c, od_status *st)
{
    int64_t dims[ENG_MAX_RANK], n;
    OD_TRY(eng_need_inputs(c, 2, st));
    const eng_tensor *x = c->in[0];
    if (c->node->opset < 6) { /* tiles and axis, a number each */
        int64_t tiles = 1, at = 0;
        OD_TRY(eng_need_inputs(c, 3, st));
        OD_TRY(eng_need(c, 1));
        OD_TRY(eng_need(c, 2));
        if (eng_tensor_count(c->in[1]) != 1 || eng_tensor_count(c->in[2]) != 1)
            return od_fail(st, OD_BAD_SHAPE, "tiles and axis must be one number each");
        int axis;
        tiles = eng_tensor_int(c->in[1], 0);
        at = eng_tensor_int(c->in[2], 0);
        OD_TRY(eng_axis(at, x->rank, false, &axis, st));
        for (int d = 0; d < x->rank; d++) dims[d] = d == axis ? tiles : 1;
        n = x->rank;
    } else {
        OD_TRY(eng_ints_in(c, 1, ENG_MAX_RANK, dims, &n, st));
    }
    if (n != x->rank) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " repeats for a tensor of rank %d", n, x->rank);
    for (int d = 0; d < x->rank; d++)
        if (dims[d] < 0 || !od_mul_i64(dims[d], x->dims[d], &dims[d]))
            return od_fail(st, OD_BAD_VALUE, "axis %d of extent %" PRId64 " is repeated too often or below 0 times", d, x->dims[d]);
    return eng_set_out(c, 0, x->dtype, x->rank, dims, st);
}

od_code eng_tile_run(eng_ctx *c, od_status *st)
{
    int64_t to[ENG_MAX_RANK], from[ENG_MAX_RANK];
    (void)st;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    if (!y || !eng_tensor_count(y)) return OD_OK;
    eng_move m = {.to = y->data, .from = x->data, .size = eng_dtype_size(y->dtype)};
    eng_tensor_strides(y, to);
    eng_tensor_strides(x, from);
    for (int d = 0; d < y->rank; d++) {
        eng_move_axis(&m, y->dims[d] / x->dims[d], to[d] * x->dims[d], 0);
        eng_move_axis(&m, x->dims[d], to[d], from[d]);
    }
    eng_move_run(&m, c->pool);
    return OD_OK;
}
