/* loss.c - NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: log probabilities [N, C, places], a class
 * for every place, an optional weight a class. */
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

typedef enum reduction { NONE, SUM, MEAN } reduction;

static od_code reduction_of(const eng_ctx *c, reduction *r, od_status *st)
{
    static const char *const names[] = {"none", "sum", "mean"};
    for (int i = 0; i < 3; i++)
        if (eng_node_string_is(c->node, "reduction", "mean", names[i])) return *r = (reduction)i, OD_OK;
    return od_fail(st, OD_BAD_ARGUMENT, "unknown reduction");
}

od_code eng_loss_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->n_in > 0 ? c->in[0] : NULL, *t = c->n_in > 1 ? c->in[1] : NULL, *w = c->n_in > 2 ? c->in[2] : NULL;
    reduction r = NONE;
    OD_TRY(reduction_of(c, &r, st));
    if (!x || !t || x->rank < 2 || t->rank != x->rank - 1 || t->dims[0] != x->dims[0] ||
        memcmp(t->dims + 1, x->dims + 2, (size_t)(x->rank - 2) * sizeof *t->dims))
        return od_fail(st, OD_BAD_SHAPE, "scores [N, C, ...] and classes [N, ...] do not fit");
    if (t->dtype != ENG_INT32 && t->dtype != ENG_INT64) return od_fail(st, OD_BAD_TYPE, "classes are %s", eng_dtype_name(t->dtype));
    if (w && (w->rank != 1 || w->dims[0] != x->dims[1] || w->dtype != x->dtype))
        return od_fail(st, OD_BAD_SHAPE, "weights do not fit %" PRId64 " classes", x->dims[1]);
    OD_TRY(eng_set_out(c, 0, x->dtype, r == NONE ? t->rank : 0, t->dims, st));
    return eng_set_out(c, 1, x->dtype, x->rank, x->dims, st);
}

static double get(const eng_tensor *t, int64_t i)
{
    return t->dtype == ENG_DOUBLE ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

static void put(eng_tensor *t, int64_t i, double v)
{
    if (t->dtype == ENG_DOUBLE) ((double *)t->data)[i] = v;
    else ((float *)t->data)[i] = (float)v;
}

/* log(sum of exp) of a line of classes, so that x minus it is the log probability. */
static double log_sum_exp(const eng_tensor *x, int64_t from, int64_t n, int64_t step)
{
    double top = -(double)INFINITY, sum = 0.0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, get(x, from + i * step));
    for (int64_t i = 0; i < n; i++) sum += exp(get(x, from + i * step) - top);
    return top + log(sum);
}

static od_code run(eng_ctx *c, bool softmax, od_status *st)
{
    const eng_tensor *x = c->in[0], *t = c->in[1], *w = c->n_in > 2 ? c->in[2] : NULL;
    eng_tensor *log_prob = c->n_out > 1 ? c->out[1] : NULL;
    int64_t classes = x->dims[1], places = 1, count = eng_tensor_count(t);
    const eng_attr *ignore = eng_node_attr(c->node, "ignore_index");
    double total = 0.0, weights = 0.0;
    reduction r = NONE;
    OD_TRY(reduction_of(c, &r, st));
    for (int i = 2; i < x->rank; i++) places *= x->dims[i];
    for (int64_t i = 0; i < count; i++) {
        int64_t from = i / places * classes * places + i % places, k = eng_tensor_int(t, i);
        bool skip = ignore && k == ignore->i;
        if (!skip && (k < 0 || k >= classes)) return od_fail(st, OD_BAD_VALUE, "class %" PRId64 " of %" PRId64, k, classes);
        double shift = softmax ? log_sum_exp(x, from, classes, places) : 0.0;
        for (int64_t n = 0; log_prob && n < classes; n++) put(log_prob, from + n * places, get(x, from + n * places) - shift);
        double weight = skip ? 0.0 : w ? get(w, k) : 1.0, loss = skip ? 0.0 : -weight * (get(x, from + k * places) - shift);
        total += loss;
        weights += weight;
        if (c->out[0] && r == NONE) put(c->out[0], i, loss);
    }
    if (c->out[0] && r != NONE) put(c->out[0], 0, r == SUM ? total : total / weights);
    return OD_OK;
}

od_code eng_nll_loss_run(eng_ctx *c, od_status *st)
{
    return run(c, false, st);
}

od_code eng_softmax_loss_run(eng_ctx *c, od_status *st)
{
    return run(c, true, st);
}
