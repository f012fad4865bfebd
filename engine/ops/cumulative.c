/* cumulative.c - CumSum and CumProd along an axis that is an input. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/lines.h"
#include "engine/ops/ops.h"

#include <string.h>

enum { WIDE = 16 }; /* lines side by side that are worth a call for each step */

typedef struct cum_job cum_job;
typedef void cum_fn(const cum_job *j, int64_t outer);

struct cum_job {
    eng_lines l;
    bool product, exclusive, reverse;
    cum_fn *fn;
    const void *x;
    void *y;
};

/* Lines of one outer index, side by side: element i of the result is that of i - 1 joined with an input. */
#define CUMULATE(T, TAG, W, L, S)                                                               \
    static void cumulate_##T(const cum_job *j, int64_t outer)                                   \
    {                                                                                           \
        int64_t n = j->l.n, w = j->l.inner, base = outer * n * w;                               \
        const T *x = (const T *)j->x + base;                                                    \
        T *y = (T *)j->y + base;                                                                \
        for (int64_t i = 0; i < n; i++) {                                                       \
            int64_t at = j->reverse ? n - 1 - i : i, before = j->reverse ? at + 1 : at - 1;     \
            const T *from = x + (j->exclusive ? before : at) * w;                               \
            for (int64_t k = 0; k < w; k++) {                                                   \
                if (!i) y[at * w + k] = j->exclusive ? (T)j->product : x[at * w + k];           \
                else if (j->product) y[at * w + k] = (T)((W)y[before * w + k] * (W)from[k]);    \
                else y[at * w + k] = (T)((W)y[before * w + k] + (W)from[k]);                    \
            }                                                                                   \
        }                                                                                       \
    }
ENG_FOR_INTS(CUMULATE)
CUMULATE(float, , float, , )
CUMULATE(double, , double, , )

/* Lines of floats that lie side by side. */
static void cumulate_rows(const cum_job *j, int64_t outer)
{
    const int64_t n = j->l.n, w = j->l.inner, step = j->reverse ? -w : w;
    const int64_t begin = (outer * n + (j->reverse ? n - 1 : 0)) * w;
    const float *from = (const float *)j->x + begin - (j->exclusive ? step : 0);
    float *to = (float *)j->y + begin;
    eng_bin_f32 *join = eng_elementwise_table()->bin[j->product ? ENG_BIN_MUL : ENG_BIN_ADD];
    if (j->exclusive) for (int64_t k = 0; k < w; k++) to[k] = (float)j->product;
    else memcpy(to, from, (size_t)w * sizeof *to);
    for (int64_t i = 1; i < n; i++) {
        from += step;
        to += step;
        join(to, 1, to - step, 1, from, 1, w);
    }
}

#define CASE(T, TAG, W, L, S) \
    case TAG: return cumulate_##T;
static cum_fn *fn_for(eng_dtype t)
{
    switch (t) {
        ENG_FOR_INTS(CASE)
    case ENG_FLOAT: return cumulate_float;
    default: return cumulate_double;
    }
}

od_code eng_cumulative_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_infer_same(c, st));
    const eng_tensor *axis = c->n_in > 1 ? c->in[1] : NULL;
    if (!axis || eng_tensor_count(axis) != 1 || axis->rank > 1) return od_fail(st, OD_BAD_SHAPE, "the axis is not one number");
    if (axis->dtype != ENG_INT32 && axis->dtype != ENG_INT64)
        return od_fail(st, OD_BAD_TYPE, "the axis is %s", eng_dtype_name(axis->dtype));
    return c->in[0]->rank ? OD_OK : od_fail(st, OD_BAD_SHAPE, "X is a scalar");
}

static void cumulate_outer(void *arg, int64_t outer, int slot)
{
    const cum_job *j = arg;
    (void)slot;
    j->fn(j, outer);
}

static od_code run(eng_ctx *c, bool product, od_status *st)
{
    int axis;
    const eng_tensor *x = c->in[0];
    OD_TRY(eng_axis(eng_tensor_int(c->in[1], 0), x->rank, false, &axis, st));
    cum_job j = {.l = eng_lines_of(x, axis), .product = product, .exclusive = eng_node_int(c->node, "exclusive", 0),
                 .reverse = eng_node_int(c->node, "reverse", 0), .fn = fn_for(x->dtype), .x = x->data, .y = c->out[0]->data};
    if (x->dtype == ENG_FLOAT && j.l.inner >= WIDE) j.fn = cumulate_rows;
    if (eng_tensor_count(x)) od_pool_for(eng_tensor_count(x) > 16384 ? c->pool : NULL, j.l.outer, cumulate_outer, &j);
    return OD_OK;
}

od_code eng_cumsum_run(eng_ctx *c, od_status *st)
{
    return run(c, false, st);
}

od_code eng_cumprod_run(eng_ctx *c, od_status *st)
{
    return run(c, true, st);
}
