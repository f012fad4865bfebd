/* onehot.c - tensors made or cut by position: OneHot, Trilu, NonZero, ReverseSequence. */
#include "engine/ops/shape.h"

#include <string.h>

/* ---- OneHot --------------------------------------------------------------------------------- */

od_code eng_one_hot_infer(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t dims[ENG_MAX_RANK + 1];
    OD_TRY(eng_need_inputs(c, 3, st));
    const eng_tensor *at = c->in[0], *depth = c->in[1], *values = c->in[2];
    if (!(ENG_T(depth->dtype) & ENG_T_NUMERIC) || eng_tensor_count(depth) != 1)
        return od_fail(st, OD_BAD_SHAPE, "the depth is not one number");
    if (eng_tensor_count(values) != 2)
        return od_fail(st, OD_BAD_SHAPE, "there are %" PRId64 " values, wanted off and on", eng_tensor_count(values));
    OD_TRY(eng_need(c, 1));
    if (at->rank >= ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "input 0 has rank %d", at->rank);
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", -1), at->rank, true, &axis, st));
    for (int d = 0; d < at->rank; d++) dims[d < axis ? d : d + 1] = at->dims[d];
    dims[axis] = eng_tensor_int(depth, 0);
    return eng_set_out(c, 0, values->dtype, at->rank + 1, dims, st);
}

od_code eng_one_hot_run(eng_ctx *c, od_status *st)
{
    int axis;
    const eng_tensor *at = c->in[0], *values = c->in[2], *y = c->out[0];
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", -1), at->rank, true, &axis, st));
    if (!y) return OD_OK;
    size_t size = eng_dtype_size(y->dtype);
    const char *on = (const char *)values->data + size;
    int64_t depth = y->dims[axis], inner = 1, n = eng_tensor_count(at);
    for (int d = axis; d < at->rank; d++) inner *= at->dims[d];
    eng_fill(y->data, eng_tensor_count(y), size, values->data);
    for (int64_t i = 0; i < n; i++) {
        int64_t hot = eng_tensor_int(at, i);
        if (hot < -depth || hot >= depth) continue; /* all off, says the specification */
        if (hot < 0) hot += depth;
        memcpy((char *)y->data + (size_t)((i / inner * depth + hot) * inner + i % inner) * size, on, size);
    }
    return OD_OK;
}

/* ---- Trilu ---------------------------------------------------------------------------------- */

od_code eng_trilu_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 1, st));
    if (c->in[0]->rank < 2) return od_fail(st, OD_BAD_SHAPE, "input 0 has rank %d, wanted a matrix", c->in[0]->rank);
    if (c->n_in > 1 && c->in[1] && (c->in[1]->dtype != ENG_INT64 || eng_tensor_count(c->in[1]) != 1))
        return od_fail(st, OD_BAD_SHAPE, "k is not one number of int64");
    return eng_infer_same(c, st);
}

od_code eng_trilu_run(eng_ctx *c, od_status *st)
{
    (void)st;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    if (!y || !eng_tensor_count(y)) return OD_OK;
    bool upper = eng_node_int(c->node, "upper", 1) != 0;
    int64_t k = c->n_in > 1 && c->in[1] ? eng_tensor_int(c->in[1], 0) : 0;
    int64_t rows = x->dims[x->rank - 2], cols = x->dims[x->rank - 1], all = eng_tensor_count(x) / cols;
    size_t size = eng_dtype_size(x->dtype);
    k = od_max_i64(-rows, od_min_i64(k, cols));
    for (int64_t i = 0; i < all; i++) {
        /* the row is kept from `from` to `to` */
        int64_t edge = od_max_i64(0, od_min_i64(i % rows + k + !upper, cols)), from = upper ? edge : 0, to = upper ? cols : edge;
        char *row = (char *)y->data + (size_t)(i * cols) * size;
        const char *own = (const char *)x->data + (size_t)(i * cols) * size;
        memset(row, 0, (size_t)from * size);
        memmove(row + (size_t)from * size, own + (size_t)from * size, (size_t)(to - from) * size);
        memset(row + (size_t)to * size, 0, (size_t)(cols - to) * size);
    }
    return OD_OK;
}

/* ---- NonZero -------------------------------------------------------------------------------- */

static bool is_zero(const eng_tensor *x, int64_t i)
{
    if (x->dtype == ENG_BOOL || x->dtype == ENG_UINT8) return !((const uint8_t *)x->data)[i];
    if (x->dtype == ENG_FLOAT) return ((const float *)x->data)[i] == 0.0f;
    if (x->dtype == ENG_STRING) return !((const eng_str *)x->data)[i].len;
    if (x->dtype == ENG_COMPLEX64) return ((const float *)x->data)[2 * i] == 0.0f && ((const float *)x->data)[2 * i + 1] == 0.0f;
    if (x->dtype == ENG_COMPLEX128) return ((const double *)x->data)[2 * i] == 0.0 && ((const double *)x->data)[2 * i + 1] == 0.0;
    if (ENG_T(x->dtype) & ENG_T_INT) return !eng_tensor_int(x, i);
    return eng_tensor_double(x, i) == 0.0;
}

od_code eng_non_zero_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 1, st));
    OD_TRY(eng_need(c, 0));
    const eng_tensor *x = c->in[0];
    int64_t all = eng_tensor_count(x), n = 0;
    if (x->dtype == ENG_BOOL) { /* what a comparison made: a loop that vectorises */
        const uint8_t *b = x->data;
        for (int64_t i = 0; i < all; i++) n += b[i] != 0;
    } else {
        for (int64_t i = 0; i < all; i++) n += !is_zero(x, i);
    }
    return eng_set_out(c, 0, ENG_INT64, 2, (int64_t[]){x->rank, n}, st);
}

/* From `i` on, the first element that is not zero, or `end`. */
static int64_t next_non_zero(const eng_tensor *x, int64_t i, int64_t end)
{
    if (x->dtype == ENG_BOOL) {
        const uint8_t *b = x->data;
        for (uint64_t eight; i + 8 <= end; i += 8) { /* most of a mask is empty */
            memcpy(&eight, b + i, sizeof eight);
            if (eight) break;
        }
    }
    while (i < end && is_zero(x, i)) i++;
    return i;
}

od_code eng_non_zero_run(eng_ctx *c, od_status *st)
{
    (void)st;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    if (!y || !eng_tensor_count(y)) return OD_OK;
    int64_t *to = y->data, n = y->dims[1], all = eng_tensor_count(x), at = -1;
    for (int64_t found = 0; found < n; found++) {
        at = next_non_zero(x, at + 1, all);
        int64_t rest = at;
        for (int d = x->rank - 1; d > 0; d--) {
            to[d * n + found] = rest % x->dims[d];
            rest /= x->dims[d];
        }
        to[found] = rest;
    }
    return OD_OK;
}

/* ---- ReverseSequence ------------------------------------------------------------------------ */

static od_code reverse_axes(const eng_ctx *c, int64_t *batch, int64_t *time, od_status *st)
{
    *batch = eng_node_int(c->node, "batch_axis", 1);
    *time = eng_node_int(c->node, "time_axis", 0);
    if (c->in[0]->rank < 2 || *batch + *time != 1 || *batch < 0 || *time < 0)
        return od_fail(st, OD_BAD_ARGUMENT, "batch axis %" PRId64 " and time axis %" PRId64 " of rank %d: wanted 0 and 1", *batch, *time,
                       c->in[0]->rank);
    return OD_OK;
}

od_code eng_reverse_sequence_infer(eng_ctx *c, od_status *st)
{
    int64_t batch, time;
    OD_TRY(eng_need_inputs(c, 2, st));
    OD_TRY(reverse_axes(c, &batch, &time, st));
    const eng_tensor *lens = c->in[1];
    if (lens->dtype != ENG_INT64 || lens->rank != 1 || lens->dims[0] != c->in[0]->dims[batch])
        return od_fail(st, OD_BAD_SHAPE, "the lengths are not %" PRId64 " numbers of int64", c->in[0]->dims[batch]);
    return eng_infer_same(c, st);
}

od_code eng_reverse_sequence_run(eng_ctx *c, od_status *st)
{
    int64_t batch, time;
    const eng_tensor *x = c->in[0];
    OD_TRY(reverse_axes(c, &batch, &time, st));
    if (!c->out[0] || !eng_tensor_count(x)) return OD_OK;
    size_t size = eng_dtype_size(x->dtype);
    int64_t batches = x->dims[batch], times = x->dims[time], inner = eng_tensor_count(x) / batches / times;
    size_t bytes = (size_t)inner * size;
    for (int64_t b = 0; b < batches; b++) {
        int64_t len = ((const int64_t *)c->in[1]->data)[b];
        if (len < 0 || len > times) return od_fail(st, OD_BAD_VALUE, "length %" PRId64 " of a sequence of %" PRId64, len, times);
        for (int64_t t = 0; t < times; t++) {
            int64_t s = t < len ? len - 1 - t : t;
            int64_t to = batch ? t * batches + b : b * times + t, from = batch ? s * batches + b : b * times + s;
            memcpy((char *)c->out[0]->data + (size_t)to * bytes, (const char *)x->data + (size_t)from * bytes, bytes);
        }
    }
    return OD_OK;
}
