/* det.c - Det and ONNX Runtime's Inverse, of square matrices in the last two axes. */
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

static od_code check_square(const eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL;
    if (!x || x->rank < 2 || x->dims[x->rank - 1] != x->dims[x->rank - 2])
        return od_fail(st, OD_BAD_SHAPE, "the last two axes are not a square matrix");
    return OD_OK;
}

od_code eng_det_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(check_square(c, st));
    return eng_set_out(c, 0, c->in[0]->dtype, c->in[0]->rank - 2, c->in[0]->dims, st);
}

od_code eng_inverse_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(check_square(c, st));
    return eng_infer_same(c, st);
}

/* Bring the n x n matrix `a` to upper triangular form and do the same to the rows of `b` (or NULL), with
 * the largest pivot of each column. Returns the determinant. */
static double eliminate(double *a, double *b, int64_t n)
{
    double det = 1.0;
    for (int64_t i = 0; i < n; i++) {
        int64_t best = i;
        for (int64_t r = i + 1; r < n; r++)
            if (fabs(a[r * n + i]) > fabs(a[best * n + i])) best = r;
        if (a[best * n + i] == 0.0) return 0.0;
        for (int64_t k = 0; best != i && k < n; k++) {
            double t = a[i * n + k];
            a[i * n + k] = a[best * n + k];
            a[best * n + k] = t;
            if (!b) continue;
            t = b[i * n + k];
            b[i * n + k] = b[best * n + k];
            b[best * n + k] = t;
        }
        det *= best == i ? a[i * n + i] : -a[i * n + i];
        for (int64_t r = i + 1; r < n; r++) {
            double f = a[r * n + i] / a[i * n + i];
            for (int64_t k = i; k < n; k++) a[r * n + k] -= f * a[i * n + k];
            for (int64_t k = 0; b && k < n; k++) b[r * n + k] -= f * b[i * n + k];
        }
    }
    return det;
}

static void load(const eng_tensor *x, int64_t from, int64_t count, double *to)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = x->dtype == ENG_DOUBLE ? ((const double *)x->data)[from + i] : (double)((const float *)x->data)[from + i];
}

static void store(eng_tensor *y, int64_t i, double d)
{
    if (y->dtype == ENG_DOUBLE) ((double *)y->data)[i] = d;
    else ((float *)y->data)[i] = (float)d;
}

od_code eng_det_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    int64_t n = x->dims[x->rank - 1], count = eng_tensor_count(c->out[0]);
    double *a = od_arena_array(c->scratch, double, n * n);
    if (!a) return od_fail(st, OD_NO_MEMORY, "no memory for a matrix of %" PRId64, n);
    for (int64_t i = 0; i < count; i++) {
        load(x, i * n * n, n * n, a);
        store(c->out[0], i, eliminate(a, NULL, n));
    }
    return OD_OK;
}

od_code eng_inverse_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    int64_t n = x->dims[x->rank - 1], count = n ? eng_tensor_count(x) / (n * n) : 0;
    double *a = od_arena_array(c->scratch, double, n * n), *b = od_arena_array(c->scratch, double, n * n);
    if (!a || !b) return od_fail(st, OD_NO_MEMORY, "no memory for a matrix of %" PRId64, n);
    for (int64_t m = 0; m < count; m++) {
        load(x, m * n * n, n * n, a);
        memset(b, 0, (size_t)(n * n) * sizeof *b);
        for (int64_t i = 0; i < n; i++) b[i * n + i] = 1.0;
        if (eliminate(a, b, n) == 0.0) return od_fail(st, OD_BAD_VALUE, "matrix %" PRId64 " has no inverse", m);
        for (int64_t i = n - 1; i >= 0; i--)
            for (int64_t k = 0; k < n; k++) {
                double d = b[i * n + k];
                for (int64_t r = i + 1; r < n; r++) d -= a[i * n + r] * b[r * n + k];
                b[i * n + k] = d / a[i * n + i];
                store(c->out[0], m * n * n + i * n + k, b[i * n + k]);
            }
    }
    return OD_OK;
}
