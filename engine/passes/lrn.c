/* lrn.c - LRN as PyTorch exports it: x / (k + alpha * mean of x^2 over neighbouring channels)^beta, the mean being an
 * AveragePool along channels that stand in for depth, of padded squares. */
#include "engine/passes/passes.h"

/* v = u + c or u * c with a scalar c. */
static bool with_scalar(const eng_rewrite *r, int v, const char *op, double *c, int *u)
{
    const eng_node *n = eng_rewrite_maker(r, v, op);
    return n && eng_rewrite_scalar_operand(r, n, c, u);
}

/* v is u with (Unsqueeze) or without (Squeeze) an axis 1 of one element. */
static bool axis_one(const eng_rewrite *r, int v, const char *op, int *u)
{
    const eng_node *n = eng_rewrite_maker(r, v, op);
    const eng_tensor *axes = n && n->n_in > 1 ? eng_rewrite_constant(r, n->in[1]) : NULL;
    if (!axes || eng_tensor_count(axes) != 1 || eng_tensor_int(axes, 0) != 1) return false;
    *u = n->in[0];
    return true;
}

/* v is u with zeros before and after along axis 2 alone: what there is of Pads; counts are added. */
static bool zeros_around(const eng_rewrite *r, int v, int *u, int64_t *before, int64_t *after)
{
    *u = v;
    for (const eng_node *n; (n = eng_rewrite_maker(r, *u, "Pad")) != NULL; *u = n->in[0]) {
        const eng_tensor *x = eng_rewrite_type(r, n->in[0]), *pads = n->n_in > 1 ? eng_rewrite_constant(r, n->in[1]) : NULL;
        double value = 0.0;
        if (!x || !pads || eng_tensor_count(pads) != 2 * x->rank) return false;
        if (!eng_node_string_is(n, "mode", "constant", "constant")) return false;
        if (n->n_in > 3 && n->in[3] >= 0) return false;
        if (n->n_in > 2 && n->in[2] >= 0 && (!eng_rewrite_scalar(r, n->in[2], &value) || value != 0.0)) return false;
        for (int d = 0; d < 2 * x->rank; d++)
            if (d % x->rank != 2 && eng_tensor_int(pads, d)) return false;
        *before += eng_tensor_int(pads, 2);
        *after += eng_tensor_int(pads, x->rank + 2);
    }
    return true;
}

/* A mean over `size` neighbours along axis 2, of all places; zeros that it counts there are added to *before and *after. */
static bool mean_along_depth(const eng_node *n, int64_t *size, int64_t *before, int64_t *after)
{
    int64_t count, strides;
    const int64_t *kernel = eng_node_ints(n, "kernel_shape", &count), *pads, *dilations;
    const int64_t *stride = eng_node_ints(n, "strides", &strides);
    if (!kernel || count < 1 || !eng_node_string_is(n, "auto_pad", "NOTSET", "NOTSET")) return false;
    if (eng_node_int(n, "ceil_mode", 0)) return false;
    for (int64_t i = 0; i < strides; i++)
        if (stride[i] != 1) return false;
    for (int64_t i = 1; i < count; i++)
        if (kernel[i] != 1) return false;
    *size = kernel[0];
    pads = eng_node_ints(n, "pads", &count);
    for (int64_t i = 0; i < count; i++)
        if (pads[i] < 0 || (pads[i] && (i % (count / 2) || !eng_node_int(n, "count_include_pad", 0)))) return false;
    *before = count > 1 ? pads[0] : 0;
    *after = count > 1 ? pads[count / 2] : 0;
    dilations = eng_node_ints(n, "dilations", &count);
    for (int64_t i = 0; i < count; i++)
        if (dilations[i] != 1) return false;
    return *size > 0;
}

static bool is_square(const eng_rewrite *r, int v, int x)
{
    const eng_node *n = eng_rewrite_maker(r, v, NULL);
    double e = 0;
    if (!n || n->n_in != 2 || n->in[0] != x) return false;
    return eng_node_is(n, "Mul") ? n->in[1] == x : eng_node_is(n, "Pow") && eng_rewrite_scalar(r, n->in[1], &e) && e == 2.0;
}

static od_code match(eng_rewrite *r, eng_node *n, od_status *st)
{
    int x = n->in[0], v, inner;
    double beta, bias, alpha;
    int64_t size, before = 0, after = 0;
    const eng_node *power = eng_rewrite_maker(r, n->in[1], "Pow");
    const eng_tensor *t = eng_rewrite_type(r, x);
    if (!power || !t || t->dtype != ENG_FLOAT || t->rank < 2 || !eng_rewrite_scalar(r, power->in[1], &beta)) return OD_OK;
    if (!with_scalar(r, power->in[0], "Add", &bias, &v) || !with_scalar(r, v, "Mul", &alpha, &v)) return OD_OK;
    if (!axis_one(r, v, "Squeeze", &v)) return OD_OK;
    const eng_node *pool = eng_rewrite_maker(r, v, "AveragePool");
    if (!pool || !mean_along_depth(pool, &size, &before, &after) || !zeros_around(r, pool->in[0], &inner, &before, &after)) return OD_OK;
    if (before != (size - 1) / 2 || after != size - 1 - before) return OD_OK;
    if (!axis_one(r, inner, "Unsqueeze", &v) || !is_square(r, v, x)) return OD_OK;
    if (eng_rewrite_become(r, n, ENG_DOMAIN_ONNX, "LRN", 13, 1, st) != OD_OK)
        return st->code == OD_UNSUPPORTED ? OD_OK : st->code;
    n->in[0] = x;
    OD_TRY(eng_node_set_int(r->g, n, "size", size, st));
    OD_TRY(eng_node_set_float(r->g, n, "alpha", (float)alpha, st));
    OD_TRY(eng_node_set_float(r->g, n, "beta", (float)beta, st));
    return eng_node_set_float(r->g, n, "bias", (float)bias, st);
}

od_code eng_pass_lrn(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (!n->dead && eng_node_is(n, "Div") && n->n_in == 2 && n->in[0] >= 0 && n->in[1] >= 0) OD_TRY(match(r, n, st));
    }
    return OD_OK;
}
