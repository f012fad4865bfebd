/* reshape.c - Reshape, Flatten, Squeeze, Unsqueeze: the same bytes under other extents.
 *
 * Channels-last tensors stay so where batch and channels are left alone and the pixels are only
 * regrouped: (N,C,H,W) to (N,C,H*W) and back, extents of one that come and go behind. */
#include "engine/ops/shape.h"

#include <string.h>

/* ---- shapes --------------------------------------------------------------------------------- */

od_code eng_reshape_import(eng_graph *g, eng_node *n, od_status *st)
{
    return eng_attr_to_input(g, n, "shape", 1, false, st);
}

od_code eng_reshaped(const eng_ctx *c, int i, eng_tensor *t, od_status *st)
{
    int64_t dims[ENG_MAX_RANK], rank;
    OD_TRY(eng_ints_in(c, i, ENG_MAX_RANK, dims, &rank, st));
    bool zeros = eng_node_int(c->node, "allowzero", 0) != 0;
    for (int d = 0; d < rank && !zeros; d++) {
        if (dims[d]) continue;
        if (d >= t->rank) return od_fail(st, OD_BAD_SHAPE, "extent %d is copied from a tensor of rank %d", d, t->rank);
        dims[d] = t->dims[d];
    }
    return eng_tensor_reshape(t, (int)rank, dims, st);
}

od_code eng_reshape_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 2, st));
    eng_tensor t = *c->in[0];
    OD_TRY(eng_reshaped(c, 1, &t, st));
    return eng_set_out(c, 0, t.dtype, t.rank, t.dims, st);
}

od_code eng_flatten_infer(eng_ctx *c, od_status *st)
{
    int axis;
    OD_TRY(eng_need_inputs(c, 1, st));
    const eng_tensor *x = c->in[0];
    int64_t at = eng_node_int(c->node, "axis", 1), dims[2] = {1, 1};
    if (at < -x->rank || at > x->rank) return od_fail(st, OD_BAD_ARGUMENT, "axis %" PRId64 " of a tensor of rank %d", at, x->rank);
    axis = (int)(at < 0 ? at + x->rank : at);
    for (int d = 0; d < x->rank; d++) dims[d >= axis] *= x->dims[d];
    return eng_set_out(c, 0, x->dtype, 2, dims, st);
}

od_code eng_squeeze_import(eng_graph *g, eng_node *n, od_status *st)
{
    return eng_attr_to_input(g, n, "axes", 1, false, st);
}

/* The axes of input 1 as marks on 0 .. rank-1. */
static od_code mark_axes(eng_ctx *c, int rank, bool *marked, od_status *st)
{
    int64_t axes[ENG_MAX_RANK], n;
    memset(marked, 0, ENG_MAX_RANK * sizeof *marked);
    OD_TRY(eng_ints_in(c, 1, ENG_MAX_RANK, axes, &n, st));
    for (int64_t i = 0; i < n; i++) {
        int axis;
        OD_TRY(eng_axis(axes[i], rank, false, &axis, st));
        if (marked[axis]) return od_fail(st, OD_BAD_ARGUMENT, "axis %d is named twice", axis);
        marked[axis] = true;
    }
    return OD_OK;
}

od_code eng_squeeze_infer(eng_ctx *c, od_status *st)
{
    bool marked[ENG_MAX_RANK];
    int64_t dims[ENG_MAX_RANK];
    int rank = 0;
    OD_TRY(eng_need_inputs(c, 1, st));
    const eng_tensor *x = c->in[0];
    bool all = c->n_in < 2 || !c->in[1];
    if (!all) OD_TRY(mark_axes(c, x->rank, marked, st));
    for (int d = 0; d < x->rank; d++) {
        if (all ? x->dims[d] == 1 : marked[d]) {
            if (x->dims[d] != 1) return od_fail(st, OD_BAD_SHAPE, "extent %d is %" PRId64 ", not 1", d, x->dims[d]);
            continue;
        }
        dims[rank++] = x->dims[d];
    }
    return eng_set_out(c, 0, x->dtype, rank, dims, st);
}

od_code eng_unsqueeze_infer(eng_ctx *c, od_status *st)
{
    bool marked[ENG_MAX_RANK];
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(eng_need_inputs(c, 2, st));
    const eng_tensor *x = c->in[0];
    int64_t more = eng_tensor_count(c->in[1]);
    if (more > ENG_MAX_RANK - x->rank)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " axes more than rank %d: at most %d are possible", more, x->rank, ENG_MAX_RANK);
    int rank = x->rank + (int)more;
    OD_TRY(mark_axes(c, rank, marked, st));
    for (int d = 0, from = 0; d < rank; d++) dims[d] = marked[d] ? 1 : x->dims[from++];
    return eng_set_out(c, 0, x->dtype, rank, dims, st);
}

/* ---- layouts, bytes ------------------------------------------------------------------------- */

static bool regroups_pixels(const eng_tensor *in, const eng_tensor *out)
{
    return in->rank >= 3 && out->rank >= 3 && in->dims[0] == out->dims[0] && in->dims[1] == out->dims[1];
}

void eng_reshape_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    bool keep = c->out[0] && c->in[0]->layout == ENG_CL && regroups_pixels(c->in[0], c->out[0]);
    for (int i = 0; i < c->n_in; i++) want_in[i] = ENG_ROW;
    if (keep) want_in[0] = *want_out = ENG_CL;
}

bool eng_reshape_alias(const eng_ctx *c, int k, int64_t *offset)
{
    (void)offset;
    if (c->in[0]->layout != c->out[k]->layout) return false;
    c->out[k]->pitch = c->in[0]->pitch;
    return true;
}

/* Only where no view was possible: copies go through the layout of the input. */
od_code eng_reshape_run(eng_ctx *c, od_status *st)
{
    (void)st;
    if (!c->out[0]) return OD_OK;
    eng_tensor t = *c->in[0];
    t.data = c->out[0]->data;
    if (t.layout == ENG_CL) t.pitch = t.dims[1];
    eng_move_box(&t, c->in[0], NULL, NULL, c->pool);
    return OD_OK;
}
