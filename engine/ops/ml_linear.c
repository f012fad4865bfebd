/* ml_linear.c - LinearClassifier and LinearRegressor, SVMClassifier and SVMRegressor. Sums in double. */
#include "engine/ops/ml.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

static double dot(const double *x, const float *w, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * (double)w[i];
    return sum;
}

static int64_t argmax(const double *s, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (s[i] > s[best]) best = i;
    return best;
}

static void put_scores(const eng_tensor *out, int64_t row, const double *s, int64_t n)
{
    for (int64_t i = 0; out && i < n; i++) ((float *)out->data)[row * n + i] = (float)s[i];
}

/* ---- linear models ------------------------------------------------------------------------ */

typedef struct linear {
    eng_post post;
    eng_labels labels;
    int64_t targets, features, width; /* width: of the scores */
    const float *coefficients, *intercepts;
    const eng_tensor *x, *y, *z;
} linear;

static od_code read_linear(const eng_ctx *c, int64_t targets, linear *l, int64_t *rows, od_status *st)
{
    int64_t n, n_intercepts;
    OD_TRY(eng_ml_post(c->node, &l->post, st));
    OD_TRY(eng_ml_rows(c, rows, &l->features, st));
    l->x = c->in[0];
    l->coefficients = eng_node_floats(c->node, "coefficients", &n);
    l->intercepts = eng_node_floats(c->node, "intercepts", &n_intercepts);
    l->targets = targets ? targets : l->features ? n / l->features : 0;
    int64_t want;
    if (l->targets < 1 || !od_mul_i64(l->targets, l->features, &want) || n != want)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " coefficients for rows of %" PRId64 " features and %" PRId64 " targets", n,
                       l->features, l->targets);
    if (n_intercepts && n_intercepts != l->targets)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " intercepts for %" PRId64 " targets", n_intercepts, l->targets);
    if (!n_intercepts) l->intercepts = NULL;
    l->width = l->targets;
    return OD_OK;
}

static void linear_scores(const linear *l, int64_t row, double *x, double *s)
{
    eng_ml_row(l->x, row, l->features, x);
    for (int64_t t = 0; t < l->targets; t++)
        s[t] = dot(x, l->coefficients + t * l->features, l->features) + (l->intercepts ? (double)l->intercepts[t] : 0.0);
}

od_code eng_linear_regressor_infer(eng_ctx *c, od_status *st)
{
    linear l = {.targets = 0};
    int64_t rows;
    OD_TRY(read_linear(c, eng_node_int(c->node, "targets", 1), &l, &rows, st));
    return eng_set_out(c, 0, ENG_FLOAT, 2, (int64_t[]){rows, l.targets}, st);
}

static void regress(void *arg, int64_t row, double *scratch)
{
    const linear *l = arg;
    double *s = scratch + l->features;
    linear_scores(l, row, scratch, s);
    if (l->targets > 1) eng_ml_transform(l->post, s, l->targets);
    else if (l->post == ENG_POST_PROBIT) s[0] = eng_ml_probit(s[0]);
    put_scores(l->y, row, s, l->targets);
}

od_code eng_linear_regressor_run(eng_ctx *c, od_status *st)
{
    linear l = {.y = c->out[0]};
    int64_t rows;
    OD_TRY(read_linear(c, eng_node_int(c->node, "targets", 1), &l, &rows, st));
    return eng_ml_each_row(c, rows, l.features + l.targets, l.features * l.targets, regress, &l, st);
}

static od_code read_linear_classifier(const eng_ctx *c, linear *l, int64_t *rows, od_status *st)
{
    OD_TRY(eng_labels_read(c->node, "classlabels_ints", &l->labels, st));
    OD_TRY(read_linear(c, 0, l, rows, st));
    if (l->targets == 1 && l->labels.n == 2) l->width = 2;
    if (l->targets > 1 && l->labels.n && l->labels.n != l->targets)
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " class labels for %" PRId64 " classes", l->labels.n, l->targets);
    return OD_OK;
}

od_code eng_linear_classifier_infer(eng_ctx *c, od_status *st)
{
    linear l = {.targets = 0};
    int64_t rows;
    OD_TRY(read_linear_classifier(c, &l, &rows, st));
    OD_TRY(eng_set_out(c, 0, l.labels.strings ? ENG_STRING : ENG_INT64, 1, &rows, st));
    return eng_set_out(c, 1, ENG_FLOAT, 2, (int64_t[]){rows, l.width}, st);
}

static void classify(void *arg, int64_t row, double *scratch)
{
    const linear *l = arg;
    double *s = scratch + l->features;
    linear_scores(l, row, scratch, s);
    if (l->targets == 1) {
        eng_labels_put_sign(&l->labels, l->y, row, s[0] > 0);
        if (l->width == 2) eng_ml_pair(l->post, false, s[0], s);
        else if (l->post == ENG_POST_PROBIT) s[0] = eng_ml_probit(s[0]);
    } else {
        eng_labels_put(&l->labels, l->y, row, argmax(s, l->targets));
        eng_ml_transform(l->post, s, l->targets);
    }
    put_scores(l->z, row, s, l->width);
}

od_code eng_linear_classifier_run(eng_ctx *c, od_status *st)
{
    linear l = {.y = c->out[0], .z = c->n_out > 1 ? c->out[1] : NULL};
    int64_t rows;
    OD_TRY(read_linear_classifier(c, &l, &rows, st));
    return eng_ml_each_row(c, rows, l.features + l.targets + 1, l.features * l.targets, classify, &l, st);
}

/* ---- support vectors ---------------------------------------------------------------------- */

typedef enum svm_kernel { KERNEL_LINEAR, KERNEL_POLY, KERNEL_RBF, KERNEL_SIGMOID } svm_kernel;

typedef struct svm {
    eng_post post;
    eng_labels labels;
    svm_kernel kernel;
    double gamma, coef0, degree;
    int64_t features, vectors, classes, pairs, width;
    const float *support, *coefficients, *rho, *prob_a, *prob_b;
    const int64_t *per_class; /* NULL: a linear model */
    int64_t n_rho;
    bool one_class;
    const eng_tensor *x, *y, *z;
} svm;

static double kernel(const svm *s, const double *x, const float *v)
{
    double sum = 0.0;
    if (s->kernel == KERNEL_RBF) {
        for (int64_t i = 0; i < s->features; i++) {
            double d = x[i] - (double)v[i];
            sum += d * d;
        }
        return exp(-s->gamma * sum);
    }
    sum = dot(x, v, s->features);
    if (s->kernel == KERNEL_POLY) return pow(s->gamma * sum + s->coef0, s->degree);
    return s->kernel == KERNEL_SIGMOID ? tanh(s->gamma * sum + s->coef0) : sum;
}

static od_code read_svm(const eng_ctx *c, svm *s, int64_t vectors, int64_t *rows, od_status *st)
{
    static const char *const kernels[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
    int64_t n_params, n_support, k = 0;
    OD_TRY(eng_ml_post(c->node, &s->post, st));
    OD_TRY(eng_ml_rows(c, rows, &s->features, st));
    s->x = c->in[0];
    s->vectors = vectors;
    while (k < 4 && !eng_node_string_is(c->node, "kernel_type", "LINEAR", kernels[k])) k++;
    if (k == 4) return od_fail(st, OD_BAD_ARGUMENT, "kernel_type is none of LINEAR, POLY, RBF, SIGMOID");
    s->kernel = vectors ? (svm_kernel)k : KERNEL_LINEAR;
    const float *params = eng_node_floats(c->node, "kernel_params", &n_params);
    if (n_params && n_params != 3) return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " kernel_params, wanted 3", n_params);
    if (n_params) s->gamma = (double)params[0], s->coef0 = (double)params[1], s->degree = (double)params[2];
    s->support = eng_node_floats(c->node, "support_vectors", &n_support);
    s->rho = eng_node_floats(c->node, "rho", &s->n_rho);
    int64_t want;
    if (!od_mul_i64(vectors, s->features, &want) || (vectors && n_support != want))
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " values of %" PRId64 " support vectors for %" PRId64 " features", n_support,
                       vectors, s->features);
    if (s->n_rho < 1) return od_fail(st, OD_BAD_ARGUMENT, "rho is missing");
    return OD_OK;
}

static od_code read_coefficients(const eng_ctx *c, svm *s, int64_t a, int64_t b, od_status *st)
{
    int64_t n, want;
    s->coefficients = eng_node_floats(c->node, "coefficients", &n);
    if (!od_mul_i64(a, b, &want) || n != want)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " coefficients, wanted %" PRId64 " x %" PRId64, n, a, b);
    return OD_OK;
}

static od_code read_svm_regressor(const eng_ctx *c, svm *s, int64_t *rows, od_status *st)
{
    int64_t vectors = eng_node_int(c->node, "n_supports", 0);
    if (vectors < 0) return od_fail(st, OD_BAD_ARGUMENT, "n_supports is %" PRId64, vectors);
    OD_TRY(read_svm(c, s, vectors, rows, st));
    s->one_class = eng_node_int(c->node, "one_class", 0) != 0;
    return read_coefficients(c, s, 1, vectors ? vectors : s->features, st);
}

od_code eng_svm_regressor_infer(eng_ctx *c, od_status *st)
{
    svm s = {.vectors = 0};
    int64_t rows;
    OD_TRY(read_svm_regressor(c, &s, &rows, st));
    return eng_set_out(c, 0, ENG_FLOAT, 2, (int64_t[]){rows, 1}, st);
}

static void svm_regress(void *arg, int64_t row, double *x)
{
    const svm *s = arg;
    double sum = (double)s->rho[0];
    eng_ml_row(s->x, row, s->features, x);
    if (!s->vectors) sum += dot(x, s->coefficients, s->features);
    for (int64_t j = 0; j < s->vectors; j++) sum += (double)s->coefficients[j] * kernel(s, x, s->support + j * s->features);
    if (s->one_class) sum = sum > 0 ? 1.0 : -1.0;
    put_scores(s->y, row, &sum, 1);
}

od_code eng_svm_regressor_run(eng_ctx *c, od_status *st)
{
    svm s = {.y = c->out[0]};
    int64_t rows;
    OD_TRY(read_svm_regressor(c, &s, &rows, st));
    return eng_ml_each_row(c, rows, s.features, s.features * (s.vectors + 1), svm_regress, &s, st);
}

static od_code read_svm_classifier(const eng_ctx *c, svm *s, int64_t *rows, od_status *st)
{
    int64_t n_per, vectors = 0, n_a, n_b;
    OD_TRY(eng_labels_read(c->node, "classlabels_ints", &s->labels, st));
    const int64_t *per = eng_node_ints(c->node, "vectors_per_class", &n_per);
    for (int64_t i = 0; i < n_per; i++)
        if (per[i] < 0 || __builtin_add_overflow(vectors, per[i], &vectors))
            return od_fail(st, OD_BAD_ARGUMENT, "vectors_per_class[%" PRId64 "] is %" PRId64, i, per[i]);
    OD_TRY(read_svm(c, s, vectors, rows, st));
    s->classes = s->labels.n ? s->labels.n : 1;
    if (!vectors) {
        s->width = s->classes;
        return read_coefficients(c, s, s->classes, s->features, st);
    }
    s->per_class = per;
    s->pairs = s->classes * (s->classes - 1) / 2;
    if (n_per != s->classes || s->classes > 100000)
        return od_fail(st, OD_BAD_ARGUMENT, "vectors_per_class has %" PRId64 " entries, there are %" PRId64 " labels", n_per,
                       s->classes);
    if (s->n_rho < s->pairs)
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " values of rho for %" PRId64 " pairs of classes", s->n_rho, s->pairs);
    s->prob_a = eng_node_floats(c->node, "prob_a", &n_a);
    s->prob_b = eng_node_floats(c->node, "prob_b", &n_b);
    if (n_a && (n_a < s->pairs || n_b < s->pairs))
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " prob_a and %" PRId64 " prob_b for %" PRId64 " pairs of classes", n_a,
                       n_b, s->pairs);
    if (!n_a) s->prob_a = NULL;
    s->width = s->prob_a || s->classes == 2 ? s->classes : s->pairs;
    return read_coefficients(c, s, s->classes - 1, vectors, st);
}

od_code eng_svm_classifier_infer(eng_ctx *c, od_status *st)
{
    svm s = {.vectors = 0};
    int64_t rows;
    OD_TRY(read_svm_classifier(c, &s, &rows, st));
    OD_TRY(eng_set_out(c, 0, s.labels.strings ? ENG_STRING : ENG_INT64, 1, &rows, st));
    return eng_set_out(c, 1, ENG_FLOAT, 2, (int64_t[]){rows, s.width}, st);
}

/* One against one: a score and a vote for each pair of classes. */
static void svm_pairs(const svm *s, const double *x, double *kernels, double *votes, double *scores)
{
    int64_t start_i = 0, pair = 0;
    for (int64_t j = 0; j < s->vectors; j++) kernels[j] = kernel(s, x, s->support + j * s->features);
    memset(votes, 0, (size_t)s->classes * sizeof *votes);
    for (int64_t i = 0; i < s->classes; start_i += s->per_class[i++]) {
        int64_t start_j = start_i + s->per_class[i];
        for (int64_t j = i + 1; j < s->classes; start_j += s->per_class[j++], pair++) {
            double sum = (double)s->rho[pair];
            sum += dot(kernels + start_i, s->coefficients + (j - 1) * s->vectors + start_i, s->per_class[i]);
            sum += dot(kernels + start_j, s->coefficients + i * s->vectors + start_j, s->per_class[j]);
            scores[pair] = sum;
            votes[sum > 0 ? i : j] += 1.0;
        }
    }
}

/* Class probabilities p that agree best with the pairwise ones r, by Wu, Lin and Weng's iteration (their
 * second method); q is k x k scratch, qp k. */
static void couple(int64_t k, const double *r, double *q, double *qp, double *p)
{
    for (int64_t t = 0; t < k; t++) {
        p[t] = 1.0 / (double)k;
        q[t * k + t] = 0.0;
        for (int64_t j = 0; j < k; j++) {
            if (j == t) continue;
            q[t * k + t] += r[j * k + t] * r[j * k + t];
            q[t * k + j] = -r[j * k + t] * r[t * k + j];
        }
    }
    for (int64_t round = 0, most = k > 100 ? k : 100; round < most; round++) {
        double pqp = 0.0, worst = 0.0;
        for (int64_t t = 0; t < k; t++) {
            qp[t] = 0.0;
            for (int64_t j = 0; j < k; j++) qp[t] += q[t * k + j] * p[j];
            pqp += p[t] * qp[t];
        }
        for (int64_t t = 0; t < k; t++) worst = fmax(worst, fabs(qp[t] - pqp));
        if (worst < 0.005 / (double)k) return;
        for (int64_t t = 0; t < k; t++) {
            double diff = (pqp - qp[t]) / q[t * k + t], scale = 1.0 / (1.0 + diff);
            p[t] += diff;
            pqp = (pqp + diff * (diff * q[t * k + t] + 2.0 * qp[t])) * scale * scale;
            for (int64_t j = 0; j < k; j++) {
                qp[j] = (qp[j] + diff * q[t * k + j]) * scale;
                p[j] *= scale;
            }
        }
    }
}

static void probabilities(const svm *s, const double *scores, double *r, double *p)
{
    int64_t k = s->classes, pair = 0;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = i + 1; j < k; j++, pair++) {
            double v = 1.0 - eng_ml_logistic(scores[pair] * (double)s->prob_a[pair] + (double)s->prob_b[pair]);
            r[i * k + j] = fmin(fmax(v, 1e-7), 1.0 - 1e-7);
            r[j * k + i] = 1.0 - r[i * k + j];
        }
    couple(k, r, r + k * k, r + 2 * k * k, p);
}

static void svm_classify(void *arg, int64_t row, double *x)
{
    const svm *s = arg;
    double *kernels = x + s->features, *votes = kernels + s->vectors, *scores = votes + s->classes;
    double *out = scores + s->pairs + s->classes, *r = out + s->classes + 2;
    eng_ml_row(s->x, row, s->features, x);
    if (!s->vectors) {
        for (int64_t j = 0; j < s->classes; j++)
            scores[j] = dot(x, s->coefficients + j * s->features, s->features) + (double)s->rho[0];
        if (s->classes == 1) eng_labels_put_sign(&s->labels, s->y, row, scores[0] > 0);
        else eng_labels_put(&s->labels, s->y, row, argmax(scores, s->classes));
        if (s->classes > 1) eng_ml_transform(s->post, scores, s->classes);
        else if (s->post == ENG_POST_PROBIT) scores[0] = eng_ml_probit(scores[0]);
        put_scores(s->z, row, scores, s->width);
        return;
    }
    svm_pairs(s, x, kernels, votes, scores);
    eng_labels_put(&s->labels, s->y, row, argmax(votes, s->classes));
    if (s->prob_a) {
        probabilities(s, scores, r, out);
        if (s->classes > 1) eng_ml_transform(s->post, out, s->classes);
        put_scores(s->z, row, out, s->width);
    } else if (s->classes == 2) {
        eng_ml_pair(s->post, s->post == ENG_POST_NONE, scores[0], out);
        put_scores(s->z, row, out, 2);
    } else {
        if (s->pairs > 1) eng_ml_transform(s->post, scores, s->pairs);
        put_scores(s->z, row, scores, s->width);
    }
}

od_code eng_svm_classifier_run(eng_ctx *c, od_status *st)
{
    svm s = {.y = c->out[0], .z = c->n_out > 1 ? c->out[1] : NULL};
    int64_t rows;
    OD_TRY(read_svm_classifier(c, &s, &rows, st));
    int64_t k = s.classes, doubles = s.features + s.vectors + 3 * k + s.pairs + 2 + (s.prob_a ? 2 * k * k + k : 0);
    return eng_ml_each_row(c, rows, doubles, s.features * (s.vectors + k), svm_classify, &s, st);
}
