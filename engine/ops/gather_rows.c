/* gather_rows.c - GatherRows, our own: rows of one tensor in another order, perhaps normalized, perhaps with those of
 * another tensor added. Inputs: data, whose rows are its last axis; a list of the rows of data that those of the result are, for
 * one item; scale and bias of a LayerNormalization, or nothing; what is added, or nothing. Attributes: `rows` of an item of
 * data; the extents of the result, `dims`, but for the first, which follows from the number of items; `epsilon`. */
#include "engine/kernels/elementwise.h"
#include "engine/kernels/kernels.h"
#include "engine/ops/ops.h"

#include <string.h>

typedef struct job {
    int64_t n, rows_in, rows_out, all, chunks; /* floats of a row; rows of an item; rows of the result */
    const int64_t *index;
    const float *x, *scale, *bias, *add;
    float eps, *y;
} job;

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

/* Extents of rows and items; the result's in dims. */
static od_code look(const eng_ctx *c, job *j, int *rank, int64_t *dims, od_status *st)
{
    const eng_tensor *x = input(c, 0), *index = input(c, 1);
    int64_t count, rest = 1;
    const int64_t *want = eng_node_ints(c->node, "dims", &count);
    if (!x || !index || x->rank < 2 || index->rank != 1 || count < 2 || count > ENG_MAX_RANK)
        return od_fail(st, OD_BAD_MODEL, "rows, their order and extents are wanted");
    *j = (job){.n = x->dims[x->rank - 1], .rows_in = eng_node_int(c->node, "rows", 0), .rows_out = index->dims[0]};
    int64_t have = 1;
    for (int i = 0; i + 1 < x->rank; i++) have *= x->dims[i];
    if (j->rows_in < 1 || have % j->rows_in) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " rows are no items of %" PRId64, have, j->rows_in);
    j->all = have / j->rows_in * j->rows_out;
    for (int64_t i = 1; i < count; i++) {
        dims[i] = want[i];
        if (want[i] < 1 || rest > INT64_MAX / want[i]) return od_fail(st, OD_BAD_SHAPE, "an extent is %" PRId64, want[i]);
        rest *= want[i];
    }
    int64_t floats;
    if (__builtin_mul_overflow(j->all, j->n, &floats) || floats % rest)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " rows of %" PRId64 " in parts of %" PRId64, j->all, j->n, rest);
    dims[0] = floats / rest;
    *rank = (int)count;
    return OD_OK;
}

od_code eng_gather_rows_infer(eng_ctx *c, od_status *st)
{
    job j;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(look(c, &j, &rank, dims, st));
    for (int i = 2; i < 4; i++) {
        const eng_tensor *t = input(c, i);
        if (t && eng_tensor_count(t) != j.n) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " factors for rows of %" PRId64, eng_tensor_count(t), j.n);
    }
    const eng_tensor *add = input(c, 4);
    if (add && (add->rank != rank || memcmp(add->dims, dims, (size_t)rank * sizeof *dims)))
        return od_fail(st, OD_BAD_SHAPE, "what is added has another shape");
    return eng_set_out(c, 0, ENG_FLOAT, rank, dims, st);
}

/* What lies together is moved together. */
static void some_rows(void *arg, int64_t chunk, int slot)
{
    const job *j = arg;
    eng_bin_f32 *add = eng_elementwise_table()->bin[ENG_BIN_ADD];
    const int64_t end = j->all * (chunk + 1) / j->chunks;
    (void)slot;
    for (int64_t r = j->all * chunk / j->chunks, count; r < end; r += count) {
        const int64_t item = r / j->rows_out, k = r % j->rows_out, most = od_min_i64(end - r, j->rows_out - k);
        const float *x = j->x + (item * j->rows_in + j->index[k]) * j->n;
        float *y = j->y + r * j->n;
        count = 1;
        while (count < most && j->index[k + count] == j->index[k] + count) count++;
        if (j->scale) eng_kernels_get()->layernorm_f32(x, j->scale, j->bias, j->eps, y, j->n, count);
        else if (!j->add) memcpy(y, x, (size_t)(count * j->n) * sizeof *y);
        if (j->add) add(y, 1, j->scale ? y : x, 1, j->add + r * j->n, 1, count * j->n);
    }
}

od_code eng_gather_rows_run(eng_ctx *c, od_status *st)
{
    enum { GRAIN = 16384 };
    job j;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(look(c, &j, &rank, dims, st));
    if (!c->out[0] || !eng_tensor_count(c->out[0])) return OD_OK;
    const eng_tensor *scale = input(c, 2), *bias = input(c, 3), *add = input(c, 4);
    j.index = c->in[1]->data;
    j.x = c->in[0]->data;
    j.y = c->out[0]->data;
    if (scale) j.scale = scale->data;
    if (bias) j.bias = bias->data;
    if (add) j.add = add->data;
    j.eps = eng_node_float(c->node, "epsilon", 1e-5f);
    for (int64_t i = 0; i < j.rows_out; i++)
        if (j.index[i] < 0 || j.index[i] >= j.rows_in) return od_fail(st, OD_BAD_VALUE, "row %" PRId64 " of %" PRId64, j.index[i], j.rows_in);
    j.chunks = od_min_i64(j.all, eng_chunks(j.all * j.n, GRAIN));
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, some_rows, &j);
    return OD_OK;
}
