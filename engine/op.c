/* op.c - what operators share: output shapes, broadcasting, axes. */
#include "engine/op.h"

#include <string.h>

od_code eng_need(const eng_ctx *c, int i)
{
    return i >= c->n_in || !c->in[i] || c->in[i]->data ? OD_OK : OD_UNKNOWN_YET;
}

od_code eng_set_out(eng_ctx *c, int k, eng_dtype dtype, int rank, const int64_t *dims, od_status *st)
{
    if (k >= c->n_out || !c->out[k]) return OD_OK;
    if (rank < 0 || rank > ENG_MAX_RANK)
        return od_fail(st, OD_BAD_SHAPE, "output %d has rank %d: at most %d is possible", k, rank, ENG_MAX_RANK);
    int64_t count;
    if (!eng_dims_count(rank, dims, &count)) {
        eng_tensor bad = {.dtype = dtype, .rank = rank};
        char text[160];
        if (rank) memcpy(bad.dims, dims, (size_t)rank * sizeof *dims);
        return od_fail(st, OD_BAD_SHAPE, "output %d would be %s", k, eng_tensor_text(&bad, text, sizeof text));
    }
    eng_tensor *t = c->out[k];
    t->dtype = dtype;
    t->rank = rank;
    if (rank) memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
    return OD_OK;
}

void eng_give(eng_ctx *c, int k, const eng_tensor *t)
{
    if (k < c->n_out && c->out[k]) *c->out[k] = *t;
}

od_code eng_infer_same(eng_ctx *c, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    return eng_set_out(c, 0, c->in[0]->dtype, c->in[0]->rank, c->in[0]->dims, st);
}

od_code eng_broadcast(int ra, const int64_t *a, int rb, const int64_t *b, int *rank, int64_t *out, od_status *st)
{
    int r = ra > rb ? ra : rb;
    int64_t dims[ENG_MAX_RANK];
    for (int i = 0; i < r; i++) {
        int64_t da = i < r - ra ? 1 : a[i - (r - ra)], db = i < r - rb ? 1 : b[i - (r - rb)];
        if (da != db && da != 1 && db != 1)
            return od_fail(st, OD_BAD_SHAPE, "extents %" PRId64 " and %" PRId64 " of axis %d do not broadcast", da, db,
                           i - r);
        dims[i] = da == 1 ? db : da;
    }
    *rank = r;
    if (r) memcpy(out, dims, (size_t)r * sizeof *out);
    return OD_OK;
}

od_code eng_infer_broadcast(eng_ctx *c, od_status *st)
{
    int64_t dims[ENG_MAX_RANK];
    int rank = 0;
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i]) OD_TRY(eng_broadcast(rank, dims, c->in[i]->rank, c->in[i]->dims, &rank, dims, st));
    return eng_set_out(c, 0, c->in[0]->dtype, rank, dims, st);
}

od_code eng_check_types(const eng_ctx *c, int from, eng_dtype dtype, od_status *st)
{
    for (int i = from; i < c->n_in; i++)
        if (c->in[i] && c->in[i]->dtype != dtype)
            return od_fail(st, OD_BAD_TYPE, "input %d is %s, wanted %s", i, eng_dtype_name(c->in[i]->dtype),
                           eng_dtype_name(dtype));
    return OD_OK;
}

od_code eng_axis(int64_t axis, int rank, bool end, int *out, od_status *st)
{
    int top = end ? rank + 1 : rank;
    if (axis < -top || axis >= top)
        return od_fail(st, OD_BAD_ARGUMENT, "axis %" PRId64 " of a tensor of rank %d", axis, rank);
    *out = (int)(axis < 0 ? axis + top : axis);
    return OD_OK;
}

od_code eng_ints_in(const eng_ctx *c, int i, int64_t max, int64_t *out, int64_t *count, od_status *st)
{
    *count = 0;
    const eng_tensor *t = i < c->n_in ? c->in[i] : NULL;
    if (!t) return OD_OK;
    if (t->dtype != ENG_INT64 && t->dtype != ENG_INT32)
        return od_fail(st, OD_BAD_TYPE, "input %d is %s, wanted int64", i, eng_dtype_name(t->dtype));
    int64_t n = eng_tensor_count(t);
    if (t->rank > 1 || n > max)
        return od_fail(st, OD_BAD_SHAPE, "input %d has rank %d and %" PRId64 " elements: a list of at most %" PRId64
                       " is wanted", i, t->rank, n, max);
    OD_TRY(eng_need(c, i));
    for (int64_t k = 0; k < n; k++) out[k] = eng_tensor_int(t, k);
    *count = n;
    return OD_OK;
}

int64_t eng_chunks(int64_t count, int64_t grain)
{
    enum { MOST = 64 };
    if (count <= 0) return 0;
    int64_t n = count / (grain > 0 ? grain : 1);
    for (int64_t even = 8; even > 1; even /= 2)
        if (n >= even) return n > MOST ? MOST : n / even * even;
    return 1;
}
