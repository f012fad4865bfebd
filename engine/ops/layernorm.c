/* layernorm.c - LayerNormalization and RMSNormalization over the last axes, and ONNX Runtime's forms with
 * a residual in front (SkipLayerNormalization ...): rows of n numbers, normalized one by one. */
#include "engine/kernels/kernels.h"
#include "engine/kernels/reduce.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

typedef struct norm_job {
    int64_t rows, n, chunks;
    bool rms;
    double eps;
    const void *x;
    const float *scale, *bias; /* n floats, or NULL */
    void *y;
    float *mean, *inverse;     /* a row each, or NULL */
    /* before it: x + skip + add, kept in sum unless NULL */
    const float *skip, *add;
    int64_t skip_rows;         /* skip repeats after so many */
    float *sum;
} norm_job;

/* ---- rows ---------------------------------------------------------------------------------- */

static const float *add_rows(const norm_job *j, int64_t row, const float *x, float *y)
{
    const float *skip = j->skip ? j->skip + row % j->skip_rows * j->n : NULL;
    float *to = j->sum ? j->sum + row * j->n : y;
    for (int64_t i = 0; skip && i < j->n; i++) to[i] = x[i] + skip[i];
    if (skip) x = to;
    for (int64_t i = 0; j->add && i < j->n; i++) to[i] = x[i] + j->add[i];
    if (j->add) x = to;
    if (x != to && j->sum) memcpy(to, x, (size_t)j->n * sizeof *to);
    return x;
}

static void float_rows(void *arg, int64_t chunk, int slot)
{
    const norm_job *j = arg;
    const eng_reduce_kernels *k = eng_reduce_get();
    (void)slot;
    const int64_t from = j->rows * chunk / j->chunks, to = j->rows * (chunk + 1) / j->chunks;
    const bool alike = !j->rms && !j->mean && !j->inverse, added = j->skip || j->add || j->sum;
    if (alike && !added) {
        eng_kernels_get()->layernorm_f32((const float *)j->x + from * j->n, j->scale, j->bias, (float)j->eps, (float *)j->y + from * j->n, j->n, to - from);
        return;
    }
    for (int64_t r = from; r < to; r++) {
        const float *x = (const float *)j->x + r * j->n;
        float *y = (float *)j->y + r * j->n;
        if (added) x = add_rows(j, r, x, y);
        if (alike) {
            eng_kernels_get()->layernorm_f32(x, j->scale, j->bias, (float)j->eps, y, j->n, 1);
            continue;
        }
        float mean = j->rms ? 0.0f : k->row(ENG_RED_SUM, x, j->n, 0.0f) / (float)j->n;
        float inverse = 1.0f / sqrtf(k->row(ENG_RED_SQUARE, x, j->n, mean) / (float)j->n + (float)j->eps);
        k->normal(x, mean, inverse, j->scale, j->bias, y, j->n);
        if (j->mean) j->mean[r] = mean;
        if (j->inverse) j->inverse[r] = inverse;
    }
}

static void double_rows(void *arg, int64_t chunk, int slot)
{
    const norm_job *j = arg;
    (void)slot;
    for (int64_t r = j->rows * chunk / j->chunks; r < j->rows * (chunk + 1) / j->chunks; r++) {
        const double *x = (const double *)j->x + r * j->n;
        double *y = (double *)j->y + r * j->n, mean = 0.0, square = 0.0;
        for (int64_t i = 0; !j->rms && i < j->n; i++) mean += x[i] / (double)j->n;
        for (int64_t i = 0; i < j->n; i++) square += (x[i] - mean) * (x[i] - mean);
        double inverse = 1.0 / sqrt(square / (double)j->n + j->eps);
        for (int64_t i = 0; i < j->n; i++) y[i] = (x[i] - mean) * inverse;
        if (j->mean) j->mean[r] = (float)mean;
        if (j->inverse) j->inverse[r] = (float)inverse;
    }
}

static void run_rows(norm_job *j, eng_dtype type, od_pool *pool)
{
    enum { GRAIN = 16384 };
    j->chunks = od_min_i64(j->rows, eng_chunks(j->rows * j->n, GRAIN));
    if (j->n) od_pool_for(j->chunks > 1 ? pool : NULL, j->chunks, type == ENG_DOUBLE ? double_rows : float_rows, j);
}

/* ---- ai.onnx ------------------------------------------------------------------------------- */

static bool is_rms(const eng_node *n)
{
    return n->op_type[0] == 'R' || strstr(n->op_type, "Simplified");
}

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static eng_tensor *output(const eng_ctx *c, int k)
{
    return k < c->n_out ? c->out[k] : NULL;
}

od_code eng_layernorm_infer(eng_ctx *c, od_status *st)
{
    int axis;
    OD_TRY(eng_infer_same(c, st));
    const eng_tensor *x = c->in[0];
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", -1), x->rank, false, &axis, st));
    int64_t dims[ENG_MAX_RANK], stats[ENG_MAX_RANK];
    for (int i = 0; i < x->rank; i++) stats[i] = i < axis ? x->dims[i] : 1;
    for (int i = 1; i < 3; i++) {
        int rank;
        const eng_tensor *t = input(c, i);
        if (!t && i == 1) return od_fail(st, OD_BAD_MODEL, "the scale is missing");
        if (!t) continue;
        OD_TRY(eng_broadcast(x->rank, x->dims, t->rank, t->dims, &rank, dims, st));
        if (rank != x->rank || memcmp(dims, x->dims, (size_t)rank * sizeof *dims))
            return od_fail(st, OD_BAD_SHAPE, "input %d is larger than X", i);
    }
    if (eng_node_int(c->node, "stash_type", 1) != 1) return od_fail(st, OD_UNSUPPORTED, "stash_type is not float");
    for (int k = 1; k < 3; k++) OD_TRY(eng_set_out(c, k, ENG_FLOAT, x->rank, stats, st));
    return OD_OK;
}

/* t's elements are one row of n, repeated for every row of x. */
static bool is_row(const eng_tensor *t, int64_t n, int axis, int rank)
{
    if (!t || t->rank < rank - axis || eng_tensor_count(t) != n) return !t;
    for (int i = 0; i < t->rank - (rank - axis); i++)
        if (t->dims[i] != 1) return false;
    return true;
}

static void scale_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    bool wide = ((const bool *)arg)[0], add = ((const bool *)arg)[1];
    for (int64_t i = 0; i < n; i++) {
        if (wide) {
            double x = ((double *)(void *)p[1])[i * step[1]], *y = (double *)(void *)p[0] + i * step[0];
            *y = add ? *y + x : *y * x;
        } else {
            float x = ((float *)(void *)p[1])[i * step[1]], *y = (float *)(void *)p[0] + i * step[0];
            *y = add ? *y + x : *y * x;
        }
    }
}

/* y = y * scale + bias for tensors of any broadcast shape. */
static void scale_any(eng_ctx *c)
{
    for (int i = 1; i < 3; i++) {
        if (!input(c, i)) continue;
        bool how[2] = {c->out[0]->dtype == ENG_DOUBLE, i == 2};
        eng_walk w;
        eng_walk_init(&w, 2, (const eng_tensor *[]){c->out[0], c->in[i]});
        eng_walk_run(&w, c->pool, 1, scale_row, how);
    }
}

od_code eng_layernorm_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0], *scale = input(c, 1), *bias = input(c, 2);
    norm_job j = {.rows = 1, .n = 1, .x = x->data, .y = c->out[0]->data, .rms = is_rms(c->node),
                  .eps = (double)eng_node_float(c->node, "epsilon", 1e-5f)};
    int axis;
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", -1), x->rank, false, &axis, st));
    for (int i = 0; i < x->rank; i++) *(i < axis ? &j.rows : &j.n) *= x->dims[i];
    bool rows = x->dtype == ENG_FLOAT && is_row(scale, j.n, axis, x->rank) && is_row(bias, j.n, axis, x->rank);
    if (rows) {
        j.scale = scale->data;
        j.bias = bias ? bias->data : NULL;
    }
    eng_tensor *mean = j.rms ? NULL : output(c, 1), *inverse = output(c, j.rms ? 1 : 2);
    if (mean) j.mean = mean->data;
    if (inverse) j.inverse = inverse->data;
    run_rows(&j, x->dtype, c->pool);
    if (!rows) scale_any(c);
    return OD_OK;
}

/* ---- com.microsoft ------------------------------------------------------------------------- */

/* Inputs of SkipLayerNormalization and SkipSimplifiedLayerNormalization. */
typedef struct skip_inputs {
    const eng_tensor *x, *skip, *scale, *bias, *add;
} skip_inputs;

static skip_inputs skip_of(const eng_ctx *c)
{
    bool rms = is_rms(c->node);
    return (skip_inputs){input(c, 0), input(c, 1), input(c, 2), rms ? NULL : input(c, 3), input(c, rms ? 3 : 4)};
}

od_code eng_skip_layernorm_infer(eng_ctx *c, od_status *st)
{
    skip_inputs in = skip_of(c);
    OD_TRY(eng_infer_same(c, st));
    const eng_tensor *x = in.x, *vectors[3] = {in.scale, in.bias, in.add};
    int64_t stats[ENG_MAX_RANK];
    if (x->rank < 2 || !in.skip || !in.scale) return od_fail(st, OD_BAD_MODEL, "input, skip and gamma of rank 2 or more are wanted");
    OD_TRY(eng_check_types(c, 1, x->dtype, st));
    int64_t n = x->dims[x->rank - 1], rows = eng_tensor_count(in.skip), all = eng_tensor_count(x);
    if (!in.skip->rank || in.skip->dims[in.skip->rank - 1] != n || (rows ? all % rows != 0 : all != 0) ||
        (rows != all && in.skip->rank > 1 && in.skip->dims[in.skip->rank - 2] != x->dims[x->rank - 2]))
        return od_fail(st, OD_BAD_SHAPE, "the skip does not fit the input");
    for (int i = 0; i < 3; i++)
        if (vectors[i] && eng_tensor_count(vectors[i]) != n)
            return od_fail(st, OD_BAD_SHAPE, "a vector of %" PRId64 " for rows of %" PRId64, eng_tensor_count(vectors[i]), n);
    memcpy(stats, x->dims, sizeof stats);
    stats[x->rank - 1] = 1;
    for (int k = 1; k < 3; k++) OD_TRY(eng_set_out(c, k, ENG_FLOAT, x->rank, stats, st));
    return eng_set_out(c, 3, x->dtype, x->rank, x->dims, st);
}

od_code eng_skip_layernorm_run(eng_ctx *c, od_status *st)
{
    skip_inputs in = skip_of(c);
    int64_t n = in.x->dims[in.x->rank - 1], count = eng_tensor_count(in.x);
    if (!count) return OD_OK;
    float *spare = c->out[0] ? NULL : od_arena_array(c->scratch, float, count);
    norm_job j = {.rows = count / n, .n = n, .rms = is_rms(c->node), .eps = (double)eng_node_float(c->node, "epsilon", 1e-12f),
                  .x = in.x->data, .y = c->out[0] ? c->out[0]->data : spare, .scale = in.scale->data,
                  .bias = in.bias ? in.bias->data : NULL, .skip = in.skip->data, .skip_rows = eng_tensor_count(in.skip) / n,
                  .add = in.add ? in.add->data : NULL};
    if (!j.y) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " numbers", count);
    if (output(c, 1)) j.mean = c->out[1]->data;
    if (output(c, 2)) j.inverse = c->out[2]->data;
    if (output(c, 3)) j.sum = c->out[3]->data;
    run_rows(&j, ENG_FLOAT, c->pool);
    return OD_OK;
}

enum { EMBED_IDS, EMBED_SEGMENTS, EMBED_WORDS, EMBED_PLACES, EMBED_SEGMENT_TABLE, EMBED_SCALE, EMBED_BIAS, EMBED_MASK, EMBED_POSITIONS };

od_code eng_embed_layernorm_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *ids = input(c, EMBED_IDS), *words = input(c, EMBED_WORDS);
    if (!ids || ids->rank != 2 || ids->dtype != ENG_INT32) return od_fail(st, OD_BAD_SHAPE, "input_ids are not int32 [items, rows]");
    if (!words || words->rank != 2) return od_fail(st, OD_BAD_SHAPE, "the table of words has rank %d", words ? words->rank : -1);
    int64_t n = words->dims[1], out[3] = {ids->dims[0], ids->dims[1], n};
    for (int i = EMBED_PLACES; i <= EMBED_BIAS; i++) {
        const eng_tensor *t = input(c, i);
        if (!t && i == EMBED_SEGMENT_TABLE) continue;
        bool table = i <= EMBED_SEGMENT_TABLE;
        if (!t || t->rank != (table ? 2 : 1) || t->dims[t->rank - 1] != n || t->dtype != words->dtype)
            return od_fail(st, OD_BAD_SHAPE, "input %d does not fit %" PRId64 " channels", i, n);
    }
    static const int lists[] = {EMBED_SEGMENTS, EMBED_MASK, EMBED_POSITIONS};
    for (size_t k = 0; k < OD_COUNT(lists); k++) {
        const eng_tensor *t = input(c, lists[k]);
        bool one = t && lists[k] == EMBED_POSITIONS && t->rank == 2 && t->dims[0] == 1 && t->dims[1] == ids->dims[1];
        if (t && !one && (!eng_dims_equal(t, ids) || t->dtype != ENG_INT32))
            return od_fail(st, OD_BAD_SHAPE, "input %d does not fit input_ids", lists[k]);
    }
    OD_TRY(eng_set_out(c, 0, words->dtype, 3, out, st));
    OD_TRY(eng_set_out(c, 1, ENG_INT32, 1, out, st));
    return eng_set_out(c, 2, words->dtype, 3, out, st);
}

/* Row `index` of a table, added to `to`. */
static od_code add_entry(const eng_tensor *table, int64_t index, float *to, od_status *st)
{
    if (index < 0 || index >= table->dims[0]) return od_fail(st, OD_BAD_VALUE, "entry %" PRId64 " of a table of %" PRId64, index, table->dims[0]);
    const float *from = (const float *)table->data + index * table->dims[1];
    for (int64_t i = 0; i < table->dims[1]; i++) to[i] += from[i];
    return OD_OK;
}

od_code eng_embed_layernorm_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *ids = c->in[EMBED_IDS], *words = c->in[EMBED_WORDS], *mask = input(c, EMBED_MASK);
    const eng_tensor *positions = input(c, EMBED_POSITIONS), *segments = input(c, EMBED_SEGMENTS), *table = input(c, EMBED_SEGMENT_TABLE);
    int64_t items = ids->dims[0], rows = ids->dims[1], n = words->dims[1];
    float *sum = output(c, 2) ? c->out[2]->data : od_arena_array(c->scratch, float, items * rows * n);
    if (!sum) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " rows", items * rows);
    memset(sum, 0, (size_t)(items * rows * n) * sizeof *sum);
    for (int64_t i = 0; i < items * rows; i++) {
        int64_t place = !positions ? i % rows : eng_tensor_int(positions, positions->dims[0] == 1 ? i % rows : i);
        OD_TRY(add_entry(words, eng_tensor_int(ids, i), sum + i * n, st));
        OD_TRY(add_entry(c->in[EMBED_PLACES], place, sum + i * n, st));
        if (segments && table) OD_TRY(add_entry(table, eng_tensor_int(segments, i), sum + i * n, st));
    }
    for (int64_t b = 0; output(c, 1) && b < items; b++) {
        int32_t length = 0;
        for (int64_t i = 0; mask && i < rows; i++) length += eng_tensor_int(mask, b * rows + i) != 0;
        ((int32_t *)c->out[1]->data)[b] = length;
    }
    if (!output(c, 0)) return OD_OK;
    norm_job j = {.rows = items * rows, .n = n, .eps = (double)eng_node_float(c->node, "epsilon", 1e-12f), .x = sum,
                  .y = c->out[0]->data, .scale = c->in[EMBED_SCALE]->data, .bias = c->in[EMBED_BIAS]->data};
    if (j.rows) run_rows(&j, ENG_FLOAT, c->pool);
    return OD_OK;
}
