/* softmax.c - Softmax, LogSoftmax, Hardmax along one axis of either layout; before opset 13 over all
 * axes from `axis` on, flattened. */
#include "engine/kernels/kernels.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

typedef enum kind { SOFT, LOG, HARD } kind;

typedef struct softmax_job {
    kind kind;
    int64_t outer, n, inner; /* in memory order */
    int64_t units, chunks;
    int64_t tile, tiles;     /* columns worked on at once, where the axis is not innermost */
    const void *x;
    void *y;
} softmax_job;

static bool flattens(const eng_ctx *c)
{
    return c->node->opset < 13;
}

static od_code axis_of(const eng_ctx *c, int *axis, od_status *st)
{
    int64_t a = eng_node_int(c->node, "axis", flattens(c) ? 1 : -1);
    if (!c->in[0]->rank && (a == 0 || a == -1 || flattens(c))) return *axis = 0, OD_OK;
    return eng_axis(a, c->in[0]->rank, flattens(c) && a >= 0, axis, st); /* flattening may begin behind the last */
}

od_code eng_softmax_infer(eng_ctx *c, od_status *st)
{
    int axis;
    OD_TRY(eng_infer_same(c, st));
    return axis_of(c, &axis, st);
}

void eng_softmax_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    enum { FEW = 16 }; /* channels beside each other that fill no vector: rows are better, at the price of a copy */
    const eng_tensor *x = c->in[0];
    int axis;
    od_status st;
    bool narrow = want_in[0] == ENG_CL && x->dims[1] < FEW && axis_of(c, &axis, &st) == OD_OK && axis > 1;
    if (flattens(c) || narrow) want_in[0] = ENG_ROW;
    *want_out = want_in[0];
}

/* ---- rows that are dense ------------------------------------------------------------------- */

static void dense_f32(const softmax_job *j, const float *x, float *y)
{
    if (j->kind == SOFT) {
        eng_kernels_get()->softmax_f32(x, y, j->n);
    } else if (j->kind == LOG) {
        eng_kernels_get()->logsoftmax_f32(x, y, j->n);
    } else {
        int64_t best = 0;
        for (int64_t i = 1; i < j->n; i++)
            if (x[i] > x[best]) best = i;
        for (int64_t i = 0; i < j->n; i++) y[i] = 0.0f;
        y[best] = 1.0f;
    }
}

static void dense_rows(void *arg, int64_t chunk, int slot)
{
    const softmax_job *j = arg;
    (void)slot;
    for (int64_t i = j->units * chunk / j->chunks; i < j->units * (chunk + 1) / j->chunks; i++)
        dense_f32(j, (const float *)j->x + i * j->n, (float *)j->y + i * j->n);
}

/* ---- columns: `tile` of them beside each other --------------------------------------------- */

enum { TILE = 64 };

static void columns_f32(const softmax_job *j, const float *x, float *y, int64_t width)
{
    float top[TILE], sum[TILE];
    memcpy(top, x, (size_t)width * sizeof *top);
    for (int64_t i = 1; i < j->n; i++)
        for (int64_t k = 0; k < width; k++) top[k] = x[i * j->inner + k] > top[k] ? x[i * j->inner + k] : top[k];
    if (j->kind == HARD) {
        bool found[TILE] = {false};
        for (int64_t i = 0; i < j->n; i++)
            for (int64_t k = 0; k < width; k++) {
                bool best = !found[k] && x[i * j->inner + k] == top[k];
                found[k] |= best;
                y[i * j->inner + k] = best ? 1.0f : 0.0f;
            }
        return;
    }
    for (int64_t k = 0; k < width; k++) sum[k] = 0.0f;
    for (int64_t i = 0; i < j->n; i++) {
        const float *from = x + i * j->inner;
        float *to = y + i * j->inner, e[TILE];
        for (int64_t k = 0; k < width; k++) to[k] = from[k] - top[k];
        eng_kernels_get()->exp_f32(to, j->kind == SOFT ? to : e, width);
        const float *add = j->kind == SOFT ? to : e;
        for (int64_t k = 0; k < width; k++) sum[k] += add[k];
    }
    if (j->kind == LOG) eng_kernels_get()->log_f32(sum, sum, width);
    else
        for (int64_t k = 0; k < width; k++) sum[k] = 1.0f / sum[k];
    for (int64_t i = 0; i < j->n; i++) {
        float *to = y + i * j->inner;
        if (j->kind == LOG)
            for (int64_t k = 0; k < width; k++) to[k] -= sum[k];
        else
            for (int64_t k = 0; k < width; k++) to[k] *= sum[k];
    }
}

static void columns(void *arg, int64_t chunk, int slot)
{
    const softmax_job *j = arg;
    (void)slot;
    for (int64_t u = j->units * chunk / j->chunks; u < j->units * (chunk + 1) / j->chunks; u++) {
        int64_t from = u % j->tiles * TILE, at = u / j->tiles * j->n * j->inner + from;
        columns_f32(j, (const float *)j->x + at, (float *)j->y + at, od_min_i64(TILE, j->inner - from));
    }
}

/* ---- doubles ------------------------------------------------------------------------------- */

static void one_double(const softmax_job *j, const double *x, double *y)
{
    double sum = 0.0;
    int64_t best = 0, s = j->inner;
    for (int64_t i = 1; i < j->n; i++)
        if (x[i * s] > x[best * s]) best = i;
    double top = x[best * s];
    for (int64_t i = 0; i < j->n; i++) sum += exp(x[i * s] - top);
    for (int64_t i = 0; i < j->n; i++) {
        double d = x[i * s] - top;
        y[i * s] = j->kind == HARD ? i == best : j->kind == LOG ? d - log(sum) : exp(d) / sum;
    }
}

static void doubles(void *arg, int64_t chunk, int slot)
{
    const softmax_job *j = arg;
    (void)slot;
    for (int64_t u = j->units * chunk / j->chunks; u < j->units * (chunk + 1) / j->chunks; u++) {
        int64_t at = u / j->inner * j->n * j->inner + u % j->inner;
        one_double(j, (const double *)j->x + at, (double *)j->y + at);
    }
}

static od_code run(eng_ctx *c, kind k, od_status *st)
{
    enum { GRAIN = 8192 };
    const eng_tensor *x = c->in[0];
    softmax_job j = {.kind = k, .outer = 1, .n = 1, .inner = 1, .x = x->data, .y = c->out[0]->data};
    int64_t dims[ENG_MAX_RANK], strides[ENG_MAX_RANK];
    int axis;
    OD_TRY(axis_of(c, &axis, st));
    eng_tensor_phys(x, dims, strides);
    if (!flattens(c) && x->rank) axis = eng_tensor_phys_axis(x, axis);
    for (int i = 0; i < x->rank; i++)
        *(i < axis ? &j.outer : i == axis || flattens(c) ? &j.n : &j.inner) *= dims[i];
    int64_t count = j.outer * j.n * j.inner;
    if (!count) return OD_OK;
    j.tiles = od_ceil_div(j.inner, TILE);
    bool wide = x->dtype == ENG_DOUBLE;
    j.units = wide ? j.outer * j.inner : j.inner == 1 ? j.outer : j.outer * j.tiles;
    j.chunks = od_min_i64(j.units, eng_chunks(count, GRAIN));
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, wide ? doubles : j.inner == 1 ? dense_rows : columns, &j);
    return OD_OK;
}

od_code eng_softmax_run(eng_ctx *c, od_status *st)
{
    return run(c, SOFT, st);
}

od_code eng_logsoftmax_run(eng_ctx *c, od_status *st)
{
    return run(c, LOG, st);
}

od_code eng_hardmax_run(eng_ctx *c, od_status *st)
{
    return run(c, HARD, st);
}
