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
    for (int64_t r = j->rows * chunk / j->chunks; r < j->rows * (chunk + 1) / j->chunks; r++) {
        const float *x = (const float *)j->x + r * j->n;
        float *y = (float *)j->y + r * j->n;
        if (j->skip || j->add || j->sum) x = add_rows(j, r, x, y);
        if (!j->rms && !j->mean && !j->inverse) {
            eng_kernels_get()->layernorm_f32(x, j->scale, j->bias, (float)j->eps, y, j->n);
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
    eng_dtype stat = x->dtype == ENG_DOUBLE && c->node->domain != ENG_DOMAIN_ONNX ? ENG_DOUBLE : ENG_FLOAT;
    if (c->node->domain == ENG_DOMAIN_ONNX && c->node->opset < 17) stat = x->dtype == ENG_DOUBLE ? ENG_DOUBLE : ENG_FLOAT;
    for (int k = 1; k < 3; k++) OD_TRY(eng_set_out(c, k, stat, x->rank, stats, st));
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
    if (output(c, 1) && c->out[1]->dtype == ENG_FLOAT) j.mean = c->out[1]->data;
    if (output(c, 2) && c->out[2]->dtype == ENG_FLOAT) j.inverse = c->out[2]->data;
    run_rows(&j, x->dtype, c->pool);
    if (!rows) scale_any(c);
    return OD_OK;
}
