/* spelled.c - activations that a file spells out in smaller operators become the one that kernels know: Relu, Clip,
 * LeakyRelu, Sigmoid, HardSigmoid, Swish, Mish, Softmax. The gate pass has those that are x times a gate of x. */
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>

/* v = u op c with a scalar c, of float u. */
static bool with_scalar(const eng_rewrite *r, int v, const char *op, double *c, int *u)
{
    const eng_node *n = eng_rewrite_maker(r, v, op);
    return n && eng_rewrite_scalar_operand(r, n, c, u);
}

static od_code become_act(eng_rewrite *r, eng_node *n, const char *op, int opset, int x, od_status *st)
{
    OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_ONNX, op, opset, 1, st));
    n->in[0] = x;
    return OD_OK;
}

/* ---- bounds ---------------------------------------------------------------------------------- */

/* What clamps: Relu, Clip, Max and Min with a scalar. A NaN in them is left alone. */
static bool read_clamp(const eng_rewrite *r, const eng_node *n, int *x, double *low, double *high)
{
    bool max = eng_node_is(n, "Max");
    double c;
    *low = -INFINITY;
    *high = INFINITY;
    if (n->fused.act || n->fused.residual || n->n_in < 1) return false;
    *x = n->in[0];
    if (eng_node_is(n, "Relu")) *low = 0.0;
    else if (eng_node_is(n, "Clip")) {
        if (n->n_in > 1 && n->in[1] >= 0 && !eng_rewrite_scalar(r, n->in[1], low)) return false;
        if (n->n_in > 2 && n->in[2] >= 0 && !eng_rewrite_scalar(r, n->in[2], high)) return false;
    } else if (max || eng_node_is(n, "Min")) {
        if (!eng_rewrite_scalar_operand(r, n, &c, x)) return false;
        *(max ? low : high) = c;
    } else {
        return false;
    }
    return eng_rewrite_is_float(r, *x) && *low <= *high;
}

static od_code write_bound(eng_rewrite *r, eng_node *n, int slot, double bound, od_status *st)
{
    float *to;
    if (isinf(bound)) return OD_OK;
    n->in[slot] = eng_rewrite_new_floats(r, 0, NULL, &to);
    if (n->in[slot] < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a bound");
    *to = (float)bound;
    return OD_OK;
}

/* Max and Min with a scalar become Clip or Relu, and so do two clamps in a row. */
static od_code match_clamp(eng_rewrite *r, eng_node *n, od_status *st)
{
    int x, inner_x;
    double low, high, inner_low, inner_high;
    if (!read_clamp(r, n, &x, &low, &high)) return OD_OK;
    const eng_node *inner = eng_rewrite_private(r, x) ? eng_rewrite_maker(r, x, NULL) : NULL;
    bool two = inner && read_clamp(r, inner, &inner_x, &inner_low, &inner_high);
    if (!two && (eng_node_is(n, "Relu") || eng_node_is(n, "Clip"))) return OD_OK;
    if (two) { /* the ends of the inner range, clamped */
        x = inner_x;
        low = fmin(fmax(inner_low, low), high);
        high = fmax(fmin(inner_high, high), low);
    }
    if (low == 0.0 && high == INFINITY) return become_act(r, n, "Relu", 14, x, st);
    OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_ONNX, "Clip", 13, 3, st));
    n->in[0] = x;
    OD_TRY(write_bound(r, n, 1, low, st));
    return write_bound(r, n, 2, high, st);
}

/* clip(x + shift, 0, high) / high */
static od_code match_hard_sigmoid(eng_rewrite *r, eng_node *n, od_status *st)
{
    double by, low, high, shift;
    int v, sum, x;
    if (!eng_rewrite_scalar_operand(r, n, &by, &v) || (eng_node_is(n, "Div") && v != n->in[0])) return OD_OK;
    const eng_node *clip = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "Clip") : NULL;
    if (!clip || !read_clamp(r, clip, &sum, &low, &high) || low != 0.0 || !(high > 0.0) || isinf(high)) return OD_OK;
    if (eng_node_is(n, "Div")) by = 1.0 / by;
    if (fabs(by * high - 1.0) > 1e-6 || !with_scalar(r, sum, "Add", &shift, &x) || !eng_rewrite_is_float(r, x)) return OD_OK;
    OD_TRY(become_act(r, n, "HardSigmoid", 6, x, st));
    OD_TRY(eng_node_set_float(r->g, n, "alpha", (float)by, st));
    return eng_node_set_float(r->g, n, "beta", (float)(shift * by), st);
}

/* ---- slopes ---------------------------------------------------------------------------------- */

static od_code become_leaky(eng_rewrite *r, eng_node *n, int x, double slope, od_status *st)
{
    OD_TRY(become_act(r, n, "LeakyRelu", 16, x, st));
    return eng_node_set_float(r->g, n, "alpha", (float)slope, st);
}

/* PRelu of one slope, max(x, x slope), where(x > 0, x, x slope) */
static od_code match_leaky(eng_rewrite *r, eng_node *n, od_status *st)
{
    double slope, zero;
    int x;
    if (eng_node_is(n, "PRelu") && n->n_in == 2) {
        const eng_tensor *t = eng_rewrite_type(r, n->in[0]), *s = eng_rewrite_constant(r, n->in[1]);
        if (!s || !eng_rewrite_is_float(r, n->in[0]) || s->rank > t->rank || !eng_rewrite_scalar(r, n->in[1], &slope)) return OD_OK;
        return become_leaky(r, n, n->in[0], slope, st);
    }
    if (eng_node_is(n, "Max") && n->n_in == 2)
        for (int k = 0; k < 2; k++)
            if (with_scalar(r, n->in[k], "Mul", &slope, &x) && x == n->in[1 - k] && eng_rewrite_is_float(r, x) && slope >= 0.0 && slope <= 1.0)
                return become_leaky(r, n, x, slope, st);
    if (!eng_node_is(n, "Where") || n->n_in != 3) return OD_OK;
    const eng_node *above = eng_rewrite_maker(r, n->in[0], NULL);
    if (!eng_node_is(above, "Greater") && !eng_node_is(above, "GreaterOrEqual")) return OD_OK;
    if (!eng_rewrite_scalar(r, above->in[1], &zero) || zero != 0.0 || above->in[0] != n->in[1] || !eng_rewrite_is_float(r, n->in[1])) return OD_OK;
    if (!with_scalar(r, n->in[2], "Mul", &slope, &x) || x != n->in[1] || !eng_rewrite_same_shape(r, x, n->out[0])) return OD_OK;
    return become_leaky(r, n, x, slope, st);
}

/* ---- exponentials ---------------------------------------------------------------------------- */

/* v = 1 + e^x, or 1 + e^-x where `negative` */
static bool is_one_plus_exp(const eng_rewrite *r, int v, bool negative, int *x)
{
    double one;
    const eng_node *e = with_scalar(r, v, "Add", &one, x) && one == 1.0 ? eng_rewrite_maker(r, *x, "Exp") : NULL;
    if (e) *x = e->in[0];
    const eng_node *neg = e && negative ? eng_rewrite_maker(r, *x, "Neg") : NULL;
    if (neg) *x = neg->in[0];
    return e && (neg || !negative) && eng_rewrite_is_float(r, *x);
}

/* e / sum(e) with e = exp(x - max(x)) over one axis */
static od_code match_softmax(eng_rewrite *r, eng_node *n, od_status *st)
{
    int64_t axis[2];
    const eng_node *e = eng_rewrite_maker(r, n->in[0], "Exp"), *made[2] = {NULL, eng_rewrite_maker(r, n->in[1], "ReduceSum")};
    const eng_node *sub = e ? eng_rewrite_maker(r, e->in[0], "Sub") : NULL;
    made[0] = sub ? eng_rewrite_maker(r, sub->in[1], "ReduceMax") : NULL;
    const eng_tensor *x = made[0] ? eng_rewrite_type(r, sub->in[0]) : NULL;
    if (!x || !made[1] || x->dtype != ENG_FLOAT || made[0]->in[0] != sub->in[0] || made[1]->in[0] != n->in[0]) return OD_OK;
    for (int k = 0; k < 2; k++) {
        const eng_tensor *list = made[k]->n_in > 1 ? eng_rewrite_constant(r, made[k]->in[1]) : NULL;
        if (!list || eng_tensor_count(list) != 1 || !eng_node_int(made[k], "keepdims", 1)) return OD_OK;
        axis[k] = eng_tensor_int(list, 0);
        if (axis[k] < 0) axis[k] += x->rank;
    }
    if (axis[0] != axis[1] || axis[0] < 0 || axis[0] >= x->rank) return OD_OK;
    OD_TRY(become_act(r, n, "Softmax", 13, sub->in[0], st));
    return eng_node_set_int(r->g, n, "axis", axis[0] - x->rank, st);
}

static od_code match_exponential(eng_rewrite *r, eng_node *n, od_status *st)
{
    int x;
    double one;
    bool division = eng_node_is(n, "Div");
    if (eng_node_is(n, "Reciprocal") || (division && eng_rewrite_scalar(r, n->in[0], &one) && one == 1.0))
        return is_one_plus_exp(r, n->in[division], true, &x) ? become_act(r, n, "Sigmoid", 13, x, st) : OD_OK;
    if (division && is_one_plus_exp(r, n->in[1], true, &x) && x == n->in[0]) return become_act(r, n, "Swish", 24, x, st);
    if (division) return match_softmax(r, n, st);
    for (int k = 0; k < 2; k++) { /* tanh of a logarithm that overflows is 1 all the same */
        const eng_node *t = eng_rewrite_maker(r, n->in[k], "Tanh"), *log = t ? eng_rewrite_maker(r, t->in[0], "Log") : NULL;
        if (log && is_one_plus_exp(r, log->in[0], false, &x) && x == n->in[1 - k]) return become_act(r, n, "Mish", 18, x, st);
    }
    return OD_OK;
}

od_code eng_pass_spelled(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (n->dead || n->n_out < 1 || n->n_in < 1 || n->fused.act || n->fused.residual || n->domain != ENG_DOMAIN_ONNX) continue;
        OD_TRY(match_leaky(r, n, st));
        OD_TRY(match_clamp(r, n, st));
        if (n->n_in == 2 && (eng_node_is(n, "Div") || eng_node_is(n, "Mul"))) OD_TRY(match_hard_sigmoid(r, n, st));
        if (eng_node_is(n, "Reciprocal") || (n->n_in == 2 && (eng_node_is(n, "Div") || eng_node_is(n, "Mul")))) OD_TRY(match_exponential(r, n, st));
    }
    return OD_OK;
}
