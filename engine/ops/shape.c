#include "engine/ops/shape.h"

#include <string.h>

void eng_layout_keep(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    for (int i = 1; i < c->n_in; i++) want_in[i] = ENG_ROW;
    for (int k = 0; k < c->n_out; k++) {
        if (!c->out[k]) continue;
        if (c->out[k]->rank == c->in[0]->rank) *want_out = want_in[0];
        else want_in[0] = ENG_ROW;
        return;
    }
}

void eng_layout_any(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    (void)c;
    (void)want_in;
    *want_out = ENG_ROW;
}

bool eng_view_strided(eng_tensor *out, const int64_t *strides)
{
    int64_t dims[ENG_MAX_RANK], unused[ENG_MAX_RANK], stride[ENG_MAX_RANK] = {0};
    int last = out->rank - 1;
    if (!eng_tensor_count(out)) return false;
    eng_tensor_phys(out, dims, unused);
    for (int axis = 0; axis < out->rank; axis++) stride[eng_tensor_phys_axis(out, axis)] = strides[axis];
    int64_t pitch = out->layout == ENG_CL ? 0 : dims[last < 0 ? 0 : last], next = 1;
    for (int p = last; p >= 0; p--) {
        if (out->layout == ENG_CL && p == last - 1) {
            /* the distance of pixels: as the innermost axis that has several of them says */
            for (int q = p; q >= 0 && !pitch; q--)
                if (dims[q] > 1) pitch = stride[q];
            if (!pitch) pitch = dims[last];
            if (pitch < dims[last]) return false;
            next = pitch;
        }
        if (dims[p] > 1 && stride[p] != next) return false;
        next *= dims[p];
    }
    if (out->layout == ENG_CL) out->pitch = pitch;
    return true;
}

bool eng_alias_same(const eng_ctx *c, int k, int64_t *offset)
{
    (void)offset;
    const eng_tensor *in = c->in[0];
    eng_tensor *out = c->out[k];
    if (!eng_dims_equal(in, out) || in->layout != out->layout) return false;
    out->pitch = in->pitch;
    return true;
}

void eng_move_box(const eng_tensor *out, const eng_tensor *in, const int64_t *from, const int64_t *step, od_pool *pool)
{
    int64_t to_stride[ENG_MAX_RANK], from_stride[ENG_MAX_RANK], at = 0;
    eng_move m = {.to = out->data, .size = eng_dtype_size(out->dtype)};
    if (!eng_tensor_count(out)) return;
    eng_tensor_strides(out, to_stride);
    eng_tensor_strides(in, from_stride);
    for (int d = 0; d < out->rank; d++) {
        eng_move_axis(&m, out->dims[d], to_stride[d], from_stride[d] * (step ? step[d] : 1));
        if (from) at += from[d] * from_stride[d];
    }
    m.from = (const char *)in->data + at * (int64_t)m.size;
    eng_move_run(&m, pool);
}

od_code eng_axis_attr(const eng_ctx *c, int64_t otherwise, int *axis, od_status *st)
{
    return eng_axis(eng_node_int(c->node, "axis", otherwise), c->in[0]->rank, false, axis, st);
}

od_code eng_need_inputs(const eng_ctx *c, int n, od_status *st)
{
    for (int i = 0; i < n; i++)
        if (i >= c->n_in || !c->in[i]) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
    return OD_OK;
}

void eng_fill(void *to, int64_t n, size_t size, const void *value)
{
    static const char zeros[sizeof(eng_tensor)];
    if (!n) return;
    if (!value || !memcmp(value, zeros, size)) {
        memset(to, 0, (size_t)n * size);
        return;
    }
    eng_move m = {.to = to, .from = value, .size = size};
    eng_move_axis(&m, n, 1, 0);
    eng_move_run(&m, NULL);
}
