#include "engine/ops/ml.h"
#include "engine/ops/elementwise.h"

#include <math.h>
#include <string.h>

od_code eng_ml_post(const eng_node *n, eng_post *post, od_status *st)
{
    static const char *const names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
    for (size_t i = 0; i < OD_COUNT(names); i++)
        if (eng_node_string_is(n, "post_transform", "NONE", names[i])) {
            *post = (eng_post)i;
            return OD_OK;
        }
    return od_fail(st, OD_BAD_ARGUMENT, "post_transform is none of NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT");
}

double eng_ml_logistic(double x)
{
    double v = 1.0 / (1.0 + exp(-fabs(x)));
    return x < 0 ? 1.0 - v : v;
}

/* The inverse error function by Winitzki's approximation, as the standard's own implementation has it. */
double eng_ml_probit(double x)
{
    double y = 2.0 * x - 1.0, log_term = log((1.0 - y) * (1.0 + y)), a = 2.0 / (M_PI * 0.147) + 0.5 * log_term;
    return copysign(M_SQRT2 * sqrt(sqrt(a * a - log_term / 0.147) - a), y);
}

static void softmax(double *s, int64_t n, bool keep_zeros)
{
    double top = s[0], sum = 0.0;
    for (int64_t i = 1; i < n; i++) top = s[i] > top ? s[i] : top;
    for (int64_t i = 0; i < n; i++) {
        bool zero = keep_zeros && fabs(s[i]) <= 1e-7;
        s[i] = zero ? s[i] * exp(-top) : exp(s[i] - top);
        sum += s[i];
    }
    for (int64_t i = 0; i < n; i++) s[i] = sum != 0.0 ? s[i] / sum : 0.5;
}

void eng_ml_transform(eng_post post, double *s, int64_t n)
{
    switch (post) {
    case ENG_POST_NONE: return;
    case ENG_POST_SOFTMAX:
    case ENG_POST_SOFTMAX_ZERO: softmax(s, n, post == ENG_POST_SOFTMAX_ZERO); return;
    case ENG_POST_LOGISTIC:
        for (int64_t i = 0; i < n; i++) s[i] = eng_ml_logistic(s[i]);
        return;
    case ENG_POST_PROBIT:
        for (int64_t i = 0; i < n; i++) s[i] = eng_ml_probit(s[i]);
    }
}

void eng_ml_pair(eng_post post, bool mirrored, double score, double *out)
{
    out[1] = score;
    out[0] = mirrored || post == ENG_POST_LOGISTIC ? -score : 1.0 - score;
    if (post == ENG_POST_LOGISTIC || post == ENG_POST_PROBIT) eng_ml_transform(post, out, 2);
}

od_code eng_ml_rows(const eng_ctx *c, int64_t *rows, int64_t *features, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL;
    if (!x) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    if (x->rank < 1 || x->rank > 2) return od_fail(st, OD_BAD_SHAPE, "input 0 has rank %d, wanted 1 or 2", x->rank);
    *rows = x->rank == 2 ? x->dims[0] : 1;
    *features = x->dims[x->rank - 1];
    return OD_OK;
}

void eng_ml_row(const eng_tensor *x, int64_t row, int64_t features, double *out)
{
    const char *from = (const char *)x->data + (size_t)(row * features) * eng_dtype_size(x->dtype);
    eng_load_doubles(out, from, x->dtype, 1, features);
}

typedef struct row_job {
    eng_ml_row_fn *fn;
    void *arg;
    double *scratch;
    int64_t doubles, rows, chunks;
} row_job;

static void row_chunk(void *arg, int64_t chunk, int slot)
{
    const row_job *j = arg;
    for (int64_t r = j->rows * chunk / j->chunks; r < j->rows * (chunk + 1) / j->chunks; r++)
        j->fn(j->arg, r, j->scratch + slot * j->doubles);
}

od_code eng_ml_each_row(eng_ctx *c, int64_t rows, int64_t doubles, int64_t cost, eng_ml_row_fn *fn, void *arg, od_status *st)
{
    int64_t all;
    row_job j = {.fn = fn, .arg = arg, .doubles = (doubles + 7) & ~(int64_t)7, .rows = rows};
    if (od_mul_i64(j.doubles, od_pool_slots(c->pool), &all)) j.scratch = od_arena_array(c->scratch, double, all);
    if (!j.scratch) return od_fail(st, OD_NO_MEMORY, "no memory for rows of %" PRId64 " values", doubles);
    j.chunks = eng_chunks(rows, 1 + 20000 / (cost > 0 ? cost : 1));
    od_pool_for(c->pool, j.chunks, row_chunk, &j);
    return OD_OK;
}

od_code eng_labels_read(const eng_node *n, const char *ints_name, eng_labels *l, od_status *st)
{
    int64_t n_ints;
    const int64_t *ints = eng_node_ints(n, ints_name, &n_ints);
    const eng_attr *strings = eng_node_attr(n, "classlabels_strings");
    bool text = strings && strings->n;
    if (text && n_ints) return od_fail(st, OD_BAD_ARGUMENT, "there are both integer and string labels");
    *l = (eng_labels){text ? strings->n : n_ints, ints, text ? strings->strings : NULL};
    return OD_OK;
}

void eng_labels_put(const eng_labels *l, const eng_tensor *out, int64_t row, int64_t which)
{
    if (!out) return;
    if (l->strings) ((eng_str *)out->data)[row] = l->strings[which];
    else ((int64_t *)out->data)[row] = l->n ? l->ints[which] : which;
}

void eng_labels_put_sign(const eng_labels *l, const eng_tensor *out, int64_t row, bool positive)
{
    if (!out) return;
    if (l->n == 2) eng_labels_put(l, out, row, positive);
    else if (l->strings) ((eng_str *)out->data)[row] = (eng_str){positive ? "1" : "0", 1};
    else ((int64_t *)out->data)[row] = positive;
}
