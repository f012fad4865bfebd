/* transpose.c - Transpose. Where the order of axes in memory stays, it is a view: NHWC to NCHW makes
 * a row-major tensor a channels-last one, and back. */
#include "engine/ops/shape.h"

od_code eng_perm_attr(const eng_ctx *c, int rank, int *perm, od_status *st)
{
    int64_t n;
    unsigned seen = 0;
    const int64_t *p = eng_node_ints(c->node, "perm", &n);
    if (p && n != rank) return od_fail(st, OD_BAD_ARGUMENT, "perm has %" PRId64 " axes, the input %d", n, rank);
    for (int d = 0; d < rank; d++) {
        int64_t axis = p ? p[d] : rank - 1 - d;
        if (axis < -rank || axis >= rank || seen >> (axis < 0 ? axis + rank : axis) & 1u)
            return od_fail(st, OD_BAD_ARGUMENT, "perm[%d] is %" PRId64 ": not an axis, or there twice", d, axis);
        perm[d] = (int)(axis < 0 ? axis + rank : axis);
        seen |= 1u << perm[d];
    }
    return OD_OK;
}

od_code eng_transpose_infer(eng_ctx *c, od_status *st)
{
    int perm[ENG_MAX_RANK];
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(eng_need_inputs(c, 1, st));
    OD_TRY(eng_perm_attr(c, c->in[0]->rank, perm, st));
    for (int d = 0; d < c->in[0]->rank; d++) dims[d] = c->in[0]->dims[perm[d]];
    return eng_set_out(c, 0, c->in[0]->dtype, c->in[0]->rank, dims, st);
}

/* The input's strides in the order of the output's axes. */
static bool permuted(const eng_ctx *c, int64_t *strides)
{
    int perm[ENG_MAX_RANK];
    int64_t own[ENG_MAX_RANK];
    od_status unused;
    if (eng_perm_attr(c, c->in[0]->rank, perm, &unused) != OD_OK) return false;
    eng_tensor_strides(c->in[0], own);
    for (int d = 0; d < c->in[0]->rank; d++) strides[d] = own[perm[d]];
    return true;
}

void eng_transpose_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    int64_t strides[ENG_MAX_RANK];
    (void)want_in; /* any */
    if (!c->out[0] || c->out[0]->rank < 3 || !permuted(c, strides)) return;
    eng_tensor t = *c->out[0];
    t.layout = ENG_ROW;
    if (eng_view_strided(&t, strides)) return;
    t.layout = ENG_CL;
    if (eng_view_strided(&t, strides)) *want_out = ENG_CL;
}

bool eng_transpose_alias(const eng_ctx *c, int k, int64_t *offset)
{
    int64_t strides[ENG_MAX_RANK];
    (void)offset;
    return permuted(c, strides) && eng_view_strided(c->out[k], strides);
}

od_code eng_transpose_run(eng_ctx *c, od_status *st)
{
    int64_t to[ENG_MAX_RANK], from[ENG_MAX_RANK] = {0};
    (void)st;
    if (!c->out[0] || !permuted(c, from)) return OD_OK;
    const eng_tensor *y = c->out[0];
    eng_move m = {.to = y->data, .from = c->in[0]->data, .size = eng_dtype_size(y->dtype)};
    eng_tensor_strides(y, to);
    for (int d = 0; d < y->rank; d++) eng_move_axis(&m, y->dims[d], to[d], from[d]);
    eng_move_run(&m, c->pool);
    return OD_OK;
}
