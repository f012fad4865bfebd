/* lpnorm.c - LpNormalization and MeanVarianceNormalization: rare, so in plain loops over doubles. */
#include "engine/ops/elementwise.h"
#include "engine/ops/lines.h"
#include "engine/ops/ops.h"

#include <math.h>

/* ---- LpNormalization ----------------------------------------------------------------------- */

od_code eng_lpnorm_infer(eng_ctx *c, od_status *st)
{
    int axis;
    int64_t p = eng_node_int(c->node, "p", 2);
    OD_TRY(eng_infer_same(c, st));
    if (p != 1 && p != 2) return od_fail(st, OD_BAD_ARGUMENT, "p is %" PRId64 ", wanted 1 or 2", p);
    return eng_axis(eng_node_int(c->node, "axis", -1), c->in[0]->rank, false, &axis, st);
}

typedef struct line_job {
    eng_lines l;
    bool wide, square;
    const void *x;
    void *y;
    int64_t units, chunks;
} line_job;

#define NORM_LINE(T)                                                                                       \
    static void norm_line_##T(const line_job *j, const T *x, T *y)                                         \
    {                                                                                                      \
        double sum = 0.0;                                                                                  \
        for (int64_t i = 0; i < j->l.n; i++) {                                                             \
            double d = (double)x[i * j->l.inner];                                                          \
            sum += j->square ? d * d : fabs(d);                                                            \
        }                                                                                                  \
        double norm = j->square ? sqrt(sum) : sum;                                                         \
        for (int64_t i = 0; i < j->l.n; i++)                                                               \
            y[i * j->l.inner] = norm == 0.0 ? 0 : (T)((double)x[i * j->l.inner] / norm);                   \
    }
NORM_LINE(float)
NORM_LINE(double)

static void norm_lines(void *arg, int64_t chunk, int slot)
{
    const line_job *j = arg;
    (void)slot;
    for (int64_t u = j->units * chunk / j->chunks; u < j->units * (chunk + 1) / j->chunks; u++) {
        int64_t at = u / j->l.inner * j->l.n * j->l.inner + u % j->l.inner;
        if (j->wide) norm_line_double(j, (const double *)j->x + at, (double *)j->y + at);
        else norm_line_float(j, (const float *)j->x + at, (float *)j->y + at);
    }
}

od_code eng_lpnorm_run(eng_ctx *c, od_status *st)
{
    int axis;
    const eng_tensor *x = c->in[0];
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", -1), x->rank, false, &axis, st));
    line_job j = {.l = eng_lines_of(x, axis), .wide = x->dtype == ENG_DOUBLE, .square = eng_node_int(c->node, "p", 2) == 2,
                  .x = x->data, .y = c->out[0]->data};
    if (!eng_tensor_count(x)) return OD_OK;
    j.units = j.l.outer * j.l.inner;
    j.chunks = od_min_i64(j.units, eng_chunks(eng_tensor_count(x), 16384));
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, norm_lines, &j);
    return OD_OK;
}

/* ---- MeanVarianceNormalization -------------------------------------------------------------- */

static od_code axes_of(const eng_ctx *c, bool *reduced, od_status *st)
{
    static const int64_t usual[] = {0, 2, 3}, across[] = {0, 1, 2, 3};
    int64_t count;
    const int64_t *axes = eng_node_ints(c->node, "axes", &count);
    if (!axes) { /* opset 1 to 8 says it with a flag */
        bool all = c->node->opset < 9 && eng_node_int(c->node, "across_channels", 0);
        axes = all ? across : usual;
        count = all ? 4 : 3;
    }
    for (int i = 0; i < ENG_MAX_RANK; i++) reduced[i] = false;
    for (int64_t i = 0; i < count; i++) {
        int axis;
        OD_TRY(eng_axis(axes[i], c->in[0]->rank, false, &axis, st));
        reduced[axis] = true;
    }
    return OD_OK;
}

od_code eng_mvn_infer(eng_ctx *c, od_status *st)
{
    bool reduced[ENG_MAX_RANK];
    OD_TRY(eng_infer_same(c, st));
    return axes_of(c, reduced, st);
}

/* Sums by kept place: `place` has a stride for each kept axis and 0 for the others. */
static void add_up(const eng_tensor *x, const int64_t *place, const double *mean, double *sum)
{
    int64_t at[ENG_MAX_RANK] = {0}, count = eng_tensor_count(x), to = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = x->dtype == ENG_DOUBLE ? ((const double *)x->data)[i] : (double)((const float *)x->data)[i];
        sum[to] += mean ? (d - mean[to]) * (d - mean[to]) : d;
        for (int a = x->rank - 1; a >= 0; a--) {
            to += place[a];
            if (++at[a] < x->dims[a]) break;
            to -= place[a] * x->dims[a];
            at[a] = 0;
        }
    }
}

od_code eng_mvn_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    bool reduced[ENG_MAX_RANK];
    int64_t place[ENG_MAX_RANK] = {0}, kept = 1, count = eng_tensor_count(x), at[ENG_MAX_RANK] = {0}, from = 0;
    OD_TRY(axes_of(c, reduced, st));
    if (!count) return OD_OK;
    for (int a = x->rank - 1; a >= 0; a--) {
        place[a] = reduced[a] ? 0 : kept;
        if (!reduced[a]) kept *= x->dims[a];
    }
    double *mean = od_arena_array(c->scratch, double, kept), *dev = od_arena_array(c->scratch, double, kept);
    if (!mean || !dev) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " means", kept);
    add_up(x, place, NULL, mean);
    for (int64_t i = 0; i < kept; i++) mean[i] /= (double)(count / kept);
    add_up(x, place, mean, dev);
    for (int64_t i = 0; i < kept; i++) dev[i] = sqrt(dev[i] / (double)(count / kept)) + 1e-9;
    for (int64_t i = 0; i < count; i++) {
        if (x->dtype == ENG_DOUBLE) ((double *)c->out[0]->data)[i] = (((const double *)x->data)[i] - mean[from]) / dev[from];
        else ((float *)c->out[0]->data)[i] = (float)(((double)((const float *)x->data)[i] - mean[from]) / dev[from]);
        for (int a = x->rank - 1; a >= 0; a--) {
            from += place[a];
            if (++at[a] < x->dims[a]) break;
            from -= place[a] * x->dims[a];
            at[a] = 0;
        }
    }
    return OD_OK;
}
