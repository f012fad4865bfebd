/* flex_attention.c - ai.onnx.preview FlexAttention: scores and probabilities go whole through subgraphs of
 * the model (score_mod, prob_mod) in the type of softmax_precision. Without subgraphs it is Attention. */
#include "engine/kernels/half.h"
#include "engine/kernels/kernels.h"
#include "engine/ops/control.h"
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

#include <math.h>
#include <string.h>

od_code eng_flex_attention_infer(eng_ctx *c, od_status *st)
{
    for (int i = 0; i < 3; i++)
        if (i >= c->n_in || !c->in[i] || c->in[i]->rank != 4 || c->in[i]->dtype != c->in[0]->dtype)
            return od_fail(st, OD_BAD_SHAPE, "Q, K and V are not three tensors of rank 4 and one type");
    const int64_t *q = c->in[0]->dims, *k = c->in[1]->dims, *v = c->in[2]->dims;
    if (q[0] != k[0] || k[0] != v[0] || k[1] != v[1] || k[2] != v[2] || q[3] != k[3] || !k[1] || q[1] % k[1])
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " heads of Q and %" PRId64 " of K, or their extents, do not fit", q[1], k[1]);
    return eng_set_out(c, 0, c->in[0]->dtype, 4, (int64_t[]){q[0], q[1], q[2], v[3]}, st);
}

/* `from`, float or double, as type `to` in scratch. */
static od_code cast_to(eng_ctx *c, const eng_tensor *from, eng_dtype to, eng_tensor *out, od_status *st)
{
    int64_t n = eng_tensor_count(from);
    *out = *from;
    if (from->dtype == to) return OD_OK;
    out->dtype = to;
    out->data = od_arena_alloc(c->scratch, eng_tensor_bytes(out));
    if (!out->data) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " scores", n);
    for (int64_t i = 0; i < n; i++) {
        double d = eng_tensor_double(from, i);
        if (to == ENG_DOUBLE) ((double *)out->data)[i] = d;
        else if (to == ENG_FLOAT) ((float *)out->data)[i] = (float)d;
        else ((uint16_t *)out->data)[i] = (uint16_t)eng_small_float(d, to, false, ENG_E8_NEAREST);
    }
    return OD_OK;
}

/* `t` through the subgraph `name`, if the node has it. */
static od_code modify(eng_ctx *c, const char *name, eng_tensor *t, od_status *st)
{
    eng_body body;
    if (!eng_node_attr(c->node, name)) return OD_OK;
    OD_TRY(eng_body_find(c, name, &body, NULL, st));
    if (body.n_own != 1 || body.graph->n_outputs != 1) return od_fail(st, OD_BAD_MODEL, "%s is not one tensor to one", name);
    body.args[0] = t;
    OD_TRY(eng_body_run(c, &body, st));
    if (!eng_dims_equal(&body.outputs[0], t) || body.outputs[0].dtype != t->dtype)
        return od_fail(st, OD_BAD_SHAPE, "%s changes shape or type", name);
    *t = body.outputs[0];
    return OD_OK;
}

static void softmax_rows(const eng_tensor *t)
{
    int64_t n = t->dims[3], rows = n ? eng_tensor_count(t) / n : 0;
    for (int64_t r = 0; r < rows; r++) {
        if (t->dtype == ENG_FLOAT) {
            float *x = (float *)t->data + r * n;
            eng_kernels_get()->softmax_f32(x, x, n);
            continue;
        }
        double *x = (double *)t->data + r * n, top = -(double)INFINITY, sum = 0.0;
        for (int64_t i = 0; i < n; i++) top = fmax(top, x[i]);
        for (int64_t i = 0; i < n; i++) sum += x[i] = exp(x[i] - top);
        for (int64_t i = 0; i < n; i++) x[i] /= sum;
    }
}

static od_code multiply(eng_ctx *c, eng_product *p, eng_dtype type, od_status *st)
{
    return type == ENG_DOUBLE ? eng_product_plain(p, type, c->pool, st) : eng_product_run(p, c->scratch, c->pool, st);
}

od_code eng_flex_attention_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2];
    eng_dtype type = q->dtype, wide = type == ENG_DOUBLE ? ENG_DOUBLE : ENG_FLOAT;
    eng_dtype precision = (eng_dtype)eng_node_int(c->node, "softmax_precision", wide);
    bool known = precision == ENG_FLOAT || precision == ENG_DOUBLE || precision == ENG_FLOAT16 || precision == ENG_BFLOAT16;
    if (!known) return od_fail(st, OD_BAD_ARGUMENT, "softmax_precision is %d", (int)precision);
    int64_t heads = q->dims[1], kv = k->dims[1], rows = q->dims[2], keys = k->dims[2], d = q->dims[3], dv = v->dims[3];
    double scale = (double)eng_node_float(c->node, "scale", (float)(1.0 / sqrt((double)d)));
    if (!eng_node_attr(c->node, "scale")) scale = 1.0 / sqrt((double)d);
    eng_tensor scores = {.dtype = type, .rank = 4, .dims = {q->dims[0], heads, rows, keys}};
    scores.data = od_arena_alloc(c->scratch, eng_tensor_bytes(&scores));
    if (!scores.data) return od_fail(st, OD_NO_MEMORY, "no memory for scores");
    eng_product p = {.m = rows, .n = keys, .k = d, .a = q->data, .a_row = d, .a_col = 1, .b = k->data, .b_row = 1, .b_col = d,
                     .c = scores.data, .c_row = keys, .batch_rank = 3, .batch = {q->dims[0], kv, heads / kv},
                     .a_step = {heads * rows * d, heads / kv * rows * d, rows * d}, .b_step = {kv * keys * d, keys * d, 0},
                     .c_step = {heads * rows * keys, heads / kv * rows * keys, rows * keys}};
    OD_TRY(multiply(c, &p, type, st));
    for (int64_t i = 0; i < eng_tensor_count(&scores); i++) {
        if (type == ENG_DOUBLE) ((double *)scores.data)[i] *= scale;
        else ((float *)scores.data)[i] *= (float)scale;
    }
    eng_tensor t;
    OD_TRY(cast_to(c, &scores, precision, &t, st));
    OD_TRY(modify(c, "score_mod", &t, st));
    OD_TRY(cast_to(c, &t, precision == ENG_DOUBLE ? ENG_DOUBLE : ENG_FLOAT, &scores, st));
    softmax_rows(&scores);
    OD_TRY(cast_to(c, &scores, precision, &t, st));
    OD_TRY(modify(c, "prob_mod", &t, st));
    OD_TRY(cast_to(c, &t, type, &scores, st));
    p = (eng_product){.m = rows, .n = dv, .k = keys, .a = scores.data, .a_row = keys, .a_col = 1, .b = v->data, .b_row = dv, .b_col = 1,
                      .c = c->out[0]->data, .c_row = dv, .batch_rank = 3, .batch = {q->dims[0], kv, heads / kv},
                      .a_step = {heads * rows * keys, heads / kv * rows * keys, rows * keys}, .b_step = {kv * keys * dv, keys * dv, 0},
                      .c_step = {heads * rows * dv, heads / kv * rows * dv, rows * dv}};
    return multiply(c, &p, type, st);
}
