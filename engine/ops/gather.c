/* gather.c - Gather: whole slices, picked by number along one axis. */
#include "engine/kernels/transpose_rows.h"
#include "engine/ops/shape.h"

#include <string.h>

od_code eng_gather_infer(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t dims[2 * ENG_MAX_RANK];
    OD_TRY(eng_need_inputs(c, 2, st));
    const eng_tensor *x = c->in[0], *at = c->in[1];
    if (at->dtype != ENG_INT64 && at->dtype != ENG_INT32)
        return od_fail(st, OD_BAD_TYPE, "indices are %s, wanted int64 or int32", eng_dtype_name(at->dtype));
    OD_TRY(eng_axis_attr(c, 0, &axis, st));
    int rank = 0;
    for (int d = 0; d < axis; d++) dims[rank++] = x->dims[d];
    for (int d = 0; d < at->rank; d++) dims[rank++] = at->dims[d];
    for (int d = axis + 1; d < x->rank; d++) dims[rank++] = x->dims[d];
    return eng_set_out(c, 0, x->dtype, rank, dims, st);
}

/* With a list of indices every axis stays where it is, so the layout can. */
void eng_gather_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    want_in[1] = ENG_ROW;
    if (c->in[1]->rank != 1) want_in[0] = ENG_ROW;
    *want_out = want_in[0];
}

/* In memory: `outer` runs of `extent` blocks of `inner` elements. */
static void blocks_of(const eng_tensor *x, int axis, int64_t *outer, int64_t *inner)
{
    int64_t dims[ENG_MAX_RANK], unused[ENG_MAX_RANK];
    int at = eng_tensor_phys_axis(x, axis);
    eng_tensor_phys(x, dims, unused);
    *outer = *inner = 1;
    for (int p = 0; p < at; p++) *outer *= dims[p];
    for (int p = at + 1; p < x->rank; p++) *inner *= dims[p];
}

/* One index that is known picks a part of the bytes. */
bool eng_gather_alias(const eng_ctx *c, int k, int64_t *offset)
{
    int axis;
    int64_t outer, inner;
    od_status unused;
    (void)k;
    if (!c->in[1]->data || eng_tensor_count(c->in[1]) != 1 || eng_axis_attr(c, 0, &axis, &unused) != OD_OK) return false;
    const eng_tensor *x = c->in[0];
    int64_t extent = x->dims[axis], at = eng_tensor_int(c->in[1], 0);
    if (at < -extent || at >= extent || x->layout == ENG_CL) return false;
    blocks_of(x, axis, &outer, &inner);
    *offset = (at < 0 ? at + extent : at) * inner;
    return outer == 1;
}

od_code eng_indices(const eng_ctx *c, int i, int64_t extent, const int64_t **out, od_status *st)
{
    const eng_tensor *t = c->in[i];
    int64_t n = eng_tensor_count(t), lowest = 0, *to;
    if (t->dtype == ENG_INT64) {
        const int64_t *v = t->data;
        int64_t highest = 0;
        for (int64_t k = 0; k < n; k++) {
            lowest = od_min_i64(lowest, v[k]);
            highest = od_max_i64(highest, v[k]);
        }
        if (lowest == 0 && highest < extent) { /* as most are; they need no copy */
            *out = v;
            return OD_OK;
        }
    }
    if (!(to = od_arena_alloc(c->scratch, (size_t)n * sizeof *to)))
        return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " indices", n);
    for (int64_t k = 0; k < n; k++) {
        int64_t v = t->dtype == ENG_INT64 ? ((const int64_t *)t->data)[k] : ((const int32_t *)t->data)[k];
        if (v < -extent || v >= extent)
            return od_fail(st, OD_BAD_VALUE, "index %" PRId64 " of an axis of extent %" PRId64, v, extent);
        to[k] = v < 0 ? v + extent : v;
    }
    *out = to;
    return OD_OK;
}

typedef struct gather_job {
    const int64_t *at;
    int64_t n, outer, extent, chunks;
    size_t bytes; /* of a block */
    char *to;
    const char *from;
} gather_job;

#define PICK(N)                                                                                      \
    case N:                                                                                          \
        for (int64_t i = 0; i < n; i++) ((eng_move##N *)to)[i] = ((const eng_move##N *)from)[at[i]]; \
        return;
static void pick(char *to, const char *from, const int64_t *at, int64_t n, size_t bytes)
{
    switch (bytes) {
        PICK(1)
        PICK(2)
        PICK(4)
        PICK(8)
        PICK(16)
    default:
        for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * bytes, from + (size_t)at[i] * bytes, bytes);
    }
}

static void gather_chunk(void *arg, int64_t chunk, int slot)
{
    const gather_job *j = arg;
    (void)slot;
    int64_t total = j->outer * j->n, i = total / j->chunks * chunk + od_min_i64(chunk, total % j->chunks);
    int64_t left = total / j->chunks + (chunk < total % j->chunks);
    while (left > 0) {
        int64_t k = i % j->n, n = od_min_i64(left, j->n - k);
        pick(j->to + (size_t)i * j->bytes, j->from + (size_t)(i / j->n * j->extent) * j->bytes, j->at + k, n, j->bytes);
        i += n;
        left -= n;
    }
}

/* Indices that grow evenly along each of their axes (windows, dilations, ranges) are a box: the
 * distance along each axis, in positions of the gathered one. */
static bool is_even(const eng_tensor *t, const int64_t *at, int64_t *step)
{
    int64_t strides[ENG_MAX_RANK], n = eng_tensor_count(t), pos[ENG_MAX_RANK] = {0}, want = at[0];
    eng_tensor_strides(t, strides);
    for (int d = 0; d < t->rank; d++) step[d] = t->dims[d] > 1 ? at[strides[d]] - at[0] : 0;
    for (int64_t i = 0; i < n; i++) {
        if (at[i] != want) return false;
        for (int d = t->rank - 1; d >= 0; d--) {
            want += step[d];
            if (++pos[d] < t->dims[d]) break;
            want -= step[d] * t->dims[d];
            pos[d] = 0;
        }
    }
    return true;
}

static void gather_box(const gather_job *j, const eng_tensor *t, const int64_t *step, size_t size, od_pool *pool)
{
    int64_t inner = (int64_t)(j->bytes / size), strides[ENG_MAX_RANK];
    eng_move m = {.to = j->to, .from = j->from + (size_t)j->at[0] * j->bytes, .size = size};
    eng_tensor_strides(t, strides);
    eng_move_axis(&m, j->outer, j->n * inner, j->extent * inner);
    for (int d = 0; d < t->rank; d++) eng_move_axis(&m, t->dims[d], strides[d] * inner, step[d] * inner);
    eng_move_axis(&m, inner, 1, 1);
    eng_move_run(&m, pool);
}

od_code eng_gather_run(eng_ctx *c, od_status *st)
{
    enum { GRAIN = 128 << 10 };
    int axis;
    int64_t inner, step[ENG_MAX_RANK] = {0};
    const int64_t *at;
    const eng_tensor *x = c->in[0];
    OD_TRY(eng_axis_attr(c, 0, &axis, st));
    OD_TRY(eng_indices(c, 1, x->dims[axis], &at, st));
    if (!c->out[0] || !eng_tensor_count(c->out[0])) return OD_OK;
    gather_job j = {.at = at, .n = eng_tensor_count(c->in[1]), .extent = x->dims[axis], .to = c->out[0]->data, .from = x->data};
    blocks_of(x, axis, &j.outer, &inner);
    j.bytes = (size_t)inner * eng_dtype_size(x->dtype);
    if (is_even(c->in[1], at, step)) {
        gather_box(&j, c->in[1], step, eng_dtype_size(x->dtype), c->pool);
        return OD_OK;
    }
    j.chunks = eng_chunks(j.outer * j.n, (int64_t)(GRAIN / j.bytes) + 1);
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, gather_chunk, &j);
    return OD_OK;
}
