/* identity.c - Identity, Dropout, and tensors that follow from
 * shapes or a few numbers: Shape, Size, ConstantOfShape, Range, EyeLike. */
#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"

#include <math.h>
#include <string.h>

od_code eng_identity_run(eng_ctx *c, od_status *st)
{
    (void)st;
    if (c->out[0]) eng_move_box(c->out[0], c->in[0], NULL, NULL, c->pool);
    return OD_OK;
}

/* ---- Dropout -------------------------------------------------------------------------------- */

/* The share of elements that a node drops: 0 unless it is asked to train. Known values only. */
static double drops(const eng_ctx *c)
{
    bool trains = c->node->opset >= 12 && c->n_in > 2 && c->in[2] && eng_tensor_count(c->in[2]) > 0 && eng_tensor_int(c->in[2], 0);
    if (!trains) return 0.0;
    return c->in[1] && eng_tensor_count(c->in[1]) > 0 ? eng_tensor_double(c->in[1], 0) : 0.5;
}

od_code eng_dropout_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 1, st));
    if (c->node->opset >= 12 && c->n_in > 2 && c->in[2]) {
        OD_TRY(eng_need(c, 2));
        OD_TRY(eng_need(c, 1));
        double ratio = drops(c);
        if (!(ratio >= 0 && ratio < 1)) return od_fail(st, OD_BAD_VALUE, "ratio is %g: from 0 to below 1 is possible", ratio);
    }
    const eng_tensor *x = c->in[0];
    OD_TRY(eng_set_out(c, 0, x->dtype, x->rank, x->dims, st));
    return eng_set_out(c, 1, c->node->opset < 10 ? x->dtype : ENG_BOOL, x->rank, x->dims, st);
}

bool eng_dropout_alias(const eng_ctx *c, int k, int64_t *offset)
{
    bool known = c->node->opset < 12 || c->n_in < 3 || !c->in[2] || (c->in[2]->data && (!c->in[1] || c->in[1]->data));
    return k == 0 && known && drops(c) == 0.0 && eng_alias_same(c, k, offset);
}

/* The mask: everything is kept. */
static void fill_ones(const eng_tensor *t)
{
    int64_t n = eng_tensor_count(t);
    double one = 1.0;
    char value[16];
    if (t->dtype == ENG_FLOAT16 || t->dtype == ENG_BFLOAT16) {
        uint16_t bits = t->dtype == ENG_FLOAT16 ? 0x3c00 : 0x3f80;
        memcpy(value, &bits, sizeof bits);
    } else {
        eng_store_doubles(value, &one, t->dtype == ENG_BOOL ? ENG_UINT8 : t->dtype, 1, 1);
    }
    eng_fill(t->data, n, eng_dtype_size(t->dtype), value);
}

od_code eng_dropout_run(eng_ctx *c, od_status *st)
{
    if (drops(c) > 0.0) return eng_drop_some(c, drops(c), st);
    if (c->n_out > 1 && c->out[1]) fill_ones(c->out[1]);
    if (!c->out[0] || c->out[0]->data == c->in[0]->data) return OD_OK;
    return eng_identity_run(c, st);
}

/* ---- Shape, Size ---------------------------------------------------------------------------- */

static void shape_range(const eng_ctx *c, int *from, int *to)
{
    int64_t rank = c->in[0]->rank, start = eng_node_int(c->node, "start", 0), end = eng_node_int(c->node, "end", rank);
    if (start < 0) start = start < -rank ? 0 : start + rank;
    if (end < 0) end = end < -rank ? 0 : end + rank;
    *from = (int)od_min_i64(start, rank);
    *to = (int)od_max_i64(od_min_i64(end, rank), *from);
}

od_code eng_shape_infer(eng_ctx *c, od_status *st)
{
    int from, to;
    OD_TRY(eng_need_inputs(c, 1, st));
    shape_range(c, &from, &to);
    return eng_set_out(c, 0, ENG_INT64, 1, &(int64_t){to - from}, st);
}

od_code eng_shape_run(eng_ctx *c, od_status *st)
{
    int from, to;
    (void)st;
    shape_range(c, &from, &to);
    if (c->out[0] && to > from) memcpy(c->out[0]->data, c->in[0]->dims + from, (size_t)(to - from) * sizeof(int64_t));
    return OD_OK;
}

od_code eng_size_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 1, st));
    return eng_set_out(c, 0, ENG_INT64, 0, NULL, st);
}

od_code eng_size_run(eng_ctx *c, od_status *st)
{
    (void)st;
    if (c->out[0]) *(int64_t *)c->out[0]->data = eng_tensor_count(c->in[0]);
    return OD_OK;
}

/* ---- ConstantOfShape ------------------------------------------------------------------------ */

od_code eng_constant_of_shape_infer(eng_ctx *c, od_status *st)
{
    int64_t dims[ENG_MAX_RANK], rank;
    OD_TRY(eng_need_inputs(c, 1, st));
    OD_TRY(eng_ints_in(c, 0, ENG_MAX_RANK, dims, &rank, st));
    const eng_attr *a = eng_node_attr(c->node, "value");
    if (a && (a->kind != ENG_ATTR_TENSOR || a->n != 1 || eng_tensor_count(a->tensors) != 1 || !a->tensors->data))
        return od_fail(st, OD_BAD_MODEL, "attribute 'value' is not a tensor of one element");
    return eng_set_out(c, 0, a ? a->tensors->dtype : ENG_FLOAT, (int)rank, dims, st);
}

od_code eng_constant_of_shape_run(eng_ctx *c, od_status *st)
{
    (void)st;
    const eng_attr *a = eng_node_attr(c->node, "value");
    if (c->out[0])
        eng_fill(c->out[0]->data, eng_tensor_count(c->out[0]), eng_dtype_size(c->out[0]->dtype), a ? a->tensors->data : NULL);
    return OD_OK;
}

/* ---- Range ---------------------------------------------------------------------------------- */

od_code eng_range_infer(eng_ctx *c, od_status *st)
{
    int64_t n;
    OD_TRY(eng_need_inputs(c, 3, st));
    OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st));
    for (int i = 0; i < 3; i++) {
        if (eng_tensor_count(c->in[i]) != 1)
            return od_fail(st, OD_BAD_SHAPE, "input %d has %" PRId64 " elements, wanted a scalar", i, eng_tensor_count(c->in[i]));
        OD_TRY(eng_need(c, i));
    }
    if (ENG_T(c->in[0]->dtype) & ENG_T_INT) {
        int64_t from = eng_tensor_int(c->in[0], 0), to = eng_tensor_int(c->in[1], 0), step = eng_tensor_int(c->in[2], 0), span;
        if (!step) return od_fail(st, OD_BAD_VALUE, "delta is 0");
        if (__builtin_sub_overflow(to, from, &span)) return od_fail(st, OD_BAD_VALUE, "limit - start overflows");
        bool empty = (span > 0) != (step > 0) || !span;
        n = empty ? 0 : step == INT64_MIN ? 1 : span / step + (span % step != 0);
    } else {
        double from = eng_tensor_double(c->in[0], 0), to = eng_tensor_double(c->in[1], 0), step = eng_tensor_double(c->in[2], 0);
        double count = ceil((to - from) / step);
        if (!(count < 0x1p53)) return od_fail(st, OD_BAD_VALUE, "from %g to %g by %g", from, to, step);
        n = count > 0 ? (int64_t)count : 0;
    }
    return eng_set_out(c, 0, c->in[0]->dtype, 1, &n, st);
}

#define RANGE_CASE(T, TAG, W, L, S)                                                                        \
    case TAG: {                                                                                            \
        T *to = (T *)y->data;                                                                              \
        W first = (W)eng_tensor_int(c->in[0], 0), delta = (W)eng_tensor_int(c->in[2], 0);                  \
        for (int64_t i = 0; i < n; i++) to[i] = (T)(first + (W)i * delta);                                 \
        return OD_OK;                                                                                      \
    }
od_code eng_range_run(eng_ctx *c, od_status *st)
{
    eng_tensor *y = c->out[0];
    if (!y) return OD_OK;
    int64_t n = eng_tensor_count(y);
    double from, step;
    switch (y->dtype) {
        ENG_FOR_INTS(RANGE_CASE)
    case ENG_FLOAT:
    case ENG_DOUBLE: break;
    default: return od_fail(st, OD_BAD_TYPE, "elements are %s", eng_dtype_name(y->dtype));
    }
    from = eng_tensor_double(c->in[0], 0);
    step = eng_tensor_double(c->in[2], 0);
    for (int64_t i = 0; i < n; i++) {
        double v = from + (double)i * step;
        if (y->dtype == ENG_FLOAT) ((float *)y->data)[i] = (float)v;
        else ((double *)y->data)[i] = v;
    }
    return OD_OK;
}

/* ---- EyeLike -------------------------------------------------------------------------------- */

od_code eng_eye_like_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 1, st));
    const eng_tensor *x = c->in[0];
    int64_t dtype = eng_node_int(c->node, "dtype", x->dtype);
    if (x->rank != 2) return od_fail(st, OD_BAD_SHAPE, "input 0 has rank %d, wanted 2", x->rank);
    if (dtype <= 0 || dtype >= 32 || !(ENG_T(dtype) & (ENG_T_NUMERIC | ENG_T(ENG_BOOL))))
        return od_fail(st, OD_BAD_ARGUMENT, "dtype %" PRId64 " is not a number's", dtype);
    return eng_set_out(c, 0, (eng_dtype)dtype, 2, x->dims, st);
}

od_code eng_eye_like_run(eng_ctx *c, od_status *st)
{
    (void)st;
    eng_tensor *y = c->out[0];
    if (!y) return OD_OK;
    int64_t rows = y->dims[0], cols = y->dims[1], k = eng_node_int(c->node, "k", 0);
    size_t size = eng_dtype_size(y->dtype);
    memset(y->data, 0, eng_tensor_bytes(y));
    if (k <= -rows || k >= cols) return OD_OK;
    for (int64_t r = k < 0 ? -k : 0; r < rows && r + k < cols; r++) {
        eng_tensor one = {.dtype = y->dtype, .data = (char *)y->data + (size_t)(r * cols + r + k) * size};
        fill_ones(&one);
    }
    return OD_OK;
}
