/* unpool.c - MaxUnpool: each element to the place that MaxPool found it at, zeros elsewhere. */
#include "engine/ops/conv.h"
#include "engine/ops/ops.h"

#include <string.h>

/* The extents that MaxPool's input had as far as the attributes tell. */
static od_code input_dims(const eng_ctx *c, int64_t *dims, od_status *st)
{
    const eng_window *w = c->node->params;
    const eng_tensor *x = c->in[0];
    int axes = x->rank - 2;
    if (axes < 1 || axes > 3 || w->given != axes) return od_fail(st, OD_BAD_SHAPE, "X has rank %d, kernel_shape %d axes", x->rank, w->given);
    dims[0] = x->dims[0];
    dims[1] = x->dims[1];
    for (int i = 0; i < axes; i++) {
        int k = 3 - axes + i;
        int64_t full;
        if (!od_mul_i64(x->dims[2 + i] - 1, w->stride[k], &full)) return od_fail(st, OD_BAD_SHAPE, "an extent of %" PRId64, x->dims[2 + i]);
        dims[2 + i] = full - w->before[k] - w->after[k] + w->kernel[k];
        if (dims[2 + i] < 0) return od_fail(st, OD_BAD_SHAPE, "an output of extent %" PRId64, dims[2 + i]);
    }
    return OD_OK;
}

od_code eng_max_unpool_infer(eng_ctx *c, od_status *st)
{
    int64_t dims[ENG_MAX_RANK], given[ENG_MAX_RANK], n;
    if (c->n_in < 2 || !c->in[0] || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "X and I are wanted");
    const eng_tensor *x = c->in[0];
    if (c->in[1]->dtype != ENG_INT64) return od_fail(st, OD_BAD_TYPE, "I is %s", eng_dtype_name(c->in[1]->dtype));
    if (!eng_dims_equal(x, c->in[1])) return od_fail(st, OD_BAD_SHAPE, "X and I differ in shape");
    OD_TRY(input_dims(c, dims, st));
    OD_TRY(eng_ints_in(c, 2, ENG_MAX_RANK, given, &n, st));
    if (n && n != x->rank) return od_fail(st, OD_BAD_SHAPE, "output_shape has %" PRId64 " numbers, X rank %d", n, x->rank);
    return eng_set_out(c, 0, x->dtype, x->rank, n ? given : dims, st);
}

od_code eng_max_unpool_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0], *y = c->out[0];
    const int64_t *indices = c->in[1]->data;
    size_t size = eng_dtype_size(x->dtype);
    int64_t dims[ENG_MAX_RANK], all = 1;
    OD_TRY(input_dims(c, dims, st));
    for (int i = 0; i < x->rank; i++)
        if (!od_mul_i64(all, dims[i], &all)) return od_fail(st, OD_BAD_SHAPE, "too many elements");
    memset(y->data, 0, eng_tensor_bytes(y));
    for (int64_t i = 0; i < eng_tensor_count(x); i++) {
        int64_t rest = indices[i], to = 0, stride = 1;
        bool inside = rest >= 0 && rest < all;
        for (int d = x->rank - 1; inside && d >= 0; d--) {
            int64_t at = rest % dims[d];
            inside = at < y->dims[d];
            rest /= dims[d];
            to += at * stride;
            stride *= y->dims[d];
        }
        if (!inside) return od_fail(st, OD_BAD_VALUE, "index %" PRId64 " lies outside of the output", indices[i]);
        memcpy((char *)y->data + (size_t)to * size, (const char *)x->data + (size_t)i * size, size);
    }
    return OD_OK;
}
