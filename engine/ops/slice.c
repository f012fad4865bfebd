/* slice.c - Slice. A slice without steps is a view where the layout can express it. */
#include "engine/ops/shape.h"

od_code eng_slice_import(eng_graph *g, eng_node *n, od_status *st)
{
    OD_TRY(eng_attr_to_input(g, n, "starts", 1, false, st));
    OD_TRY(eng_attr_to_input(g, n, "ends", 2, false, st));
    return eng_attr_to_input(g, n, "axes", 3, false, st);
}

typedef struct slice {
    int64_t from[ENG_MAX_RANK], step[ENG_MAX_RANK], dims[ENG_MAX_RANK];
} slice;

static int64_t clamp(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* Negative positions count from the end, all are brought into range: unlike in Python a start before the
 * first element is the first one for negative steps too. */
static void slice_axis(slice *s, int axis, int64_t extent, int64_t start, int64_t end, int64_t step)
{
    if (start < 0) start = start < -extent ? -1 : start + extent;
    if (end < 0) end = end < -extent ? -1 : end + extent;
    start = step > 0 ? clamp(start, 0, extent) : clamp(start, od_min_i64(0, extent - 1), extent - 1);
    end = step > 0 ? clamp(end, 0, extent) : clamp(end, -1, extent - 1);
    int64_t span = step > 0 ? end - start : start - end;
    if (step == INT64_MIN) step++;
    int64_t stride = step > 0 ? step : -step;
    s->from[axis] = start;
    s->step[axis] = step;
    s->dims[axis] = span > 0 ? (span - 1) / stride + 1 : 0;
    if (s->dims[axis] <= 1) s->step[axis] = 1; /* also keeps strides from overflowing */
}

static od_code read_slice(const eng_ctx *c, slice *s, od_status *st)
{
    const eng_tensor *x = c->in[0];
    int64_t start[ENG_MAX_RANK], end[ENG_MAX_RANK], axes[ENG_MAX_RANK], step[ENG_MAX_RANK], n, ends, n_axes, steps;
    bool seen[ENG_MAX_RANK] = {false};
    OD_TRY(eng_need_inputs(c, 3, st));
    OD_TRY(eng_ints_in(c, 1, ENG_MAX_RANK, start, &n, st));
    OD_TRY(eng_ints_in(c, 2, ENG_MAX_RANK, end, &ends, st));
    OD_TRY(eng_ints_in(c, 3, ENG_MAX_RANK, axes, &n_axes, st));
    OD_TRY(eng_ints_in(c, 4, ENG_MAX_RANK, step, &steps, st));
    bool has_axes = c->n_in > 3 && c->in[3], has_steps = c->n_in > 4 && c->in[4];
    if (ends != n || (has_axes && n_axes != n) || (has_steps && steps != n) || n > x->rank)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " starts, %" PRId64 " ends, %" PRId64 " axes, %" PRId64 " steps for rank %d", n,
                       ends, n_axes, steps, x->rank);
    for (int d = 0; d < x->rank; d++) {
        s->from[d] = 0;
        s->step[d] = 1;
        s->dims[d] = x->dims[d];
    }
    for (int64_t i = 0; i < n; i++) {
        int axis = (int)i;
        if (has_axes) OD_TRY(eng_axis(axes[i], x->rank, false, &axis, st));
        if (seen[axis]) return od_fail(st, OD_BAD_ARGUMENT, "axis %d is named twice", axis);
        seen[axis] = true;
        if (has_steps && !step[i]) return od_fail(st, OD_BAD_VALUE, "the step of axis %d is 0", axis);
        slice_axis(s, axis, x->dims[axis], start[i], end[i], has_steps ? step[i] : 1);
    }
    return OD_OK;
}

od_code eng_slice_infer(eng_ctx *c, od_status *st)
{
    slice s;
    OD_TRY(eng_need_inputs(c, 1, st));
    OD_TRY(read_slice(c, &s, st));
    return eng_set_out(c, 0, c->in[0]->dtype, c->in[0]->rank, s.dims, st);
}

bool eng_slice_alias(const eng_ctx *c, int k, int64_t *offset)
{
    slice s;
    od_status unused;
    int64_t strides[ENG_MAX_RANK];
    if (c->in[0]->layout != c->out[k]->layout || read_slice(c, &s, &unused) != OD_OK) return false;
    eng_tensor_strides(c->in[0], strides);
    for (int d = 0; d < c->in[0]->rank; d++) {
        if (s.step[d] != 1) return false;
        *offset += s.from[d] * strides[d];
    }
    return eng_view_strided(c->out[k], strides);
}

od_code eng_slice_run(eng_ctx *c, od_status *st)
{
    slice s;
    OD_TRY(read_slice(c, &s, st));
    if (c->out[0]) eng_move_box(c->out[0], c->in[0], s.from, s.step, c->pool);
    return OD_OK;
}
