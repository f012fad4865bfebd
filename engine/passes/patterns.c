/* patterns.c - Gelu, LayerNormalization and RMSNormalization from the small operators that exporters
 * write them in, matched by what they compute rather than by one exporter's order of operands. */
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>

enum { FACTORS_MAX = 6 };

/* A product taken apart: scale * factor[0] * factor[1] ... */
typedef struct product {
    double scale;
    int factor[FACTORS_MAX];
    int n;
} product;

/* Multiply `p` by value `v`, looking through products, divisions by scalars and squares of values that
 * nobody else reads (`root`: the value that the search starts from, which others may read). */
static bool take_apart(const eng_rewrite *r, int v, bool root, product *p)
{
    double x;
    if (eng_rewrite_scalar(r, v, &x)) {
        p->scale *= x;
        return true;
    }
    const eng_node *n = root || eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, NULL) : NULL;
    if (n && eng_node_is(n, "Mul") && n->n_in == 2 && n->in[0] != n->in[1])
        return take_apart(r, n->in[0], false, p) && take_apart(r, n->in[1], false, p);
    if (n && eng_node_is(n, "Div") && eng_rewrite_scalar(r, n->in[1], &x)) {
        p->scale /= x;
        return take_apart(r, n->in[0], false, p);
    }
    if (p->n == FACTORS_MAX) return false;
    p->factor[p->n++] = v;
    return true;
}

/* Take one factor equal to `v` out of `p`. */
static bool remove_factor(product *p, int v)
{
    for (int i = 0; i < p->n; i++) {
        if (p->factor[i] != v) continue;
        p->factor[i] = p->factor[--p->n];
        return true;
    }
    return false;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-3 * fabs(b);
}

/* v = u + c with a scalar c: gives u. */
static bool plus_scalar(const eng_rewrite *r, int v, double c, int *u)
{
    const eng_node *n = eng_rewrite_maker(r, v, "Add");
    double x;
    return n && eng_rewrite_scalar_operand(r, n, &x, u) && near(x, c);
}

/* v = scale * x^power, from products and Pow. */
static bool is_power(const eng_rewrite *r, int v, int x, int power, double scale)
{
    product p = {.scale = 1.0};
    if (!take_apart(r, v, true, &p) || !near(p.scale, scale)) return false;
    while (p.n) {
        int f = p.factor[--p.n];
        double e;
        const eng_node *n = eng_rewrite_maker(r, f, NULL);
        if (f == x) power -= 1;
        else if (n && eng_node_is(n, "Mul") && n->in[0] == x && n->in[1] == x) power -= 2;
        else if (n && eng_node_is(n, "Pow") && n->in[0] == x && eng_rewrite_scalar(r, n->in[1], &e) && e == floor(e) &&
                 e >= 1 && e <= power)
            power -= (int)e;
        else return false;
    }
    return power == 0;
}

/* 1 + erf(x / sqrt 2) */
static bool is_erf_gate(const eng_rewrite *r, int v, int x)
{
    int u;
    product p = {.scale = 1.0};
    if (!plus_scalar(r, v, 1.0, &u)) return false;
    const eng_node *erf_node = eng_rewrite_maker(r, u, "Erf");
    return erf_node && take_apart(r, erf_node->in[0], true, &p) && near(p.scale, 0.70710678) && p.n == 1 && p.factor[0] == x;
}

/* 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)), also with x taken out of the bracket */
static bool is_tanh_gate(const eng_rewrite *r, int v, int x)
{
    int u, inner;
    product p = {.scale = 1.0};
    if (!plus_scalar(r, v, 1.0, &u)) return false;
    const eng_node *tanh_node = eng_rewrite_maker(r, u, "Tanh");
    if (!tanh_node || !take_apart(r, tanh_node->in[0], true, &p) || !near(p.scale, 0.79788456)) return false;
    if (p.n == 2 && remove_factor(&p, x) && plus_scalar(r, p.factor[0], 1.0, &inner))
        return is_power(r, inner, x, 2, 0.044715);
    const eng_node *add = p.n == 1 ? eng_rewrite_maker(r, p.factor[0], "Add") : NULL;
    for (int k = 0; add && add->n_in == 2 && k < 2; k++)
        if (add->in[k] == x && is_power(r, add->in[1 - k], x, 3, 0.044715)) return true;
    return false;
}

static od_code match_gelu(eng_rewrite *r, eng_node *n, od_status *st)
{
    product p = {.scale = 1.0};
    if (!take_apart(r, n->out[0], true, &p) || p.n != 2 || !near(p.scale, 0.5)) return OD_OK;
    for (int k = 0; k < 2; k++) {
        int x = p.factor[k], gate = p.factor[1 - k];
        bool by_erf = is_erf_gate(r, gate, x), by_tanh = !by_erf && is_tanh_gate(r, gate, x);
        if (!by_erf && !by_tanh) continue;
        if (!eng_op_find(ENG_DOMAIN_ONNX, "Gelu", 20)) return OD_OK;
        OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_ONNX, "Gelu", 20, 1, st));
        n->in[0] = x;
        return by_tanh ? eng_node_set_string(r->g, n, "approximate", "tanh", st) : OD_OK;
    }
    return OD_OK;
}

/* ---- normalizations ------------------------------------------------------------------------ */

/* v is the mean of u over the last axis, kept. */
static bool is_last_mean(const eng_rewrite *r, int v, int *u)
{
    const eng_node *n = eng_rewrite_maker(r, v, "ReduceMean");
    const eng_tensor *x = n ? eng_rewrite_type(r, n->in[0]) : NULL;
    const eng_tensor *axes = n && n->n_in > 1 ? eng_rewrite_constant(r, n->in[1]) : NULL;
    if (!x || !axes || x->dtype != ENG_FLOAT || !eng_node_int(n, "keepdims", 1) || eng_tensor_count(axes) != 1) return false;
    int64_t axis = eng_tensor_int(axes, 0);
    *u = n->in[0];
    return axis == -1 || axis == x->rank - 1;
}

/* v = u^2 */
static bool is_square(const eng_rewrite *r, int v, int *u)
{
    const eng_node *n = eng_rewrite_maker(r, v, NULL);
    double e;
    if (!n || n->n_in != 2) return false;
    *u = n->in[0];
    if (eng_node_is(n, "Mul")) return n->in[0] == n->in[1];
    return eng_node_is(n, "Pow") && eng_rewrite_scalar(r, n->in[1], &e) && e == 2.0;
}

/* v = sqrt(mean(u^2) + eps), over the last axis */
static bool is_root_mean_square(const eng_rewrite *r, int v, int *u, double *eps)
{
    int mean, square;
    const eng_node *root = eng_rewrite_maker(r, v, "Sqrt");
    const eng_node *add = root ? eng_rewrite_maker(r, root->in[0], "Add") : NULL;
    if (!add || !eng_rewrite_scalar_operand(r, add, eps, &mean)) return false;
    return is_last_mean(r, mean, &square) && is_square(r, square, u);
}

/* n = u / rms(u), as a division or as a product with a reciprocal. */
static bool is_normalized(const eng_rewrite *r, const eng_node *n, int *u, double *eps)
{
    int of;
    if (n->n_in != 2) return false;
    if (eng_node_is(n, "Div") && is_root_mean_square(r, n->in[1], &of, eps)) {
        *u = n->in[0];
        return of == *u;
    }
    for (int k = 0; eng_node_is(n, "Mul") && k < 2; k++) {
        const eng_node *inverse = eng_rewrite_maker(r, n->in[k], NULL);
        double one;
        if (!inverse || inverse->n_in < 1) continue;
        int root = eng_node_is(inverse, "Reciprocal") ? inverse->in[0] : ENG_NONE;
        if (eng_node_is(inverse, "Div") && eng_rewrite_scalar(r, inverse->in[0], &one) && one == 1.0) root = inverse->in[1];
        if (root < 0 || !is_root_mean_square(r, root, &of, eps)) continue;
        *u = n->in[1 - k];
        return of == *u;
    }
    return false;
}

/* u = x - mean(x) */
static bool is_centred(const eng_rewrite *r, int u, int *x)
{
    int of;
    const eng_node *n = eng_rewrite_maker(r, u, "Sub");
    if (!n || !is_last_mean(r, n->in[1], &of)) return false;
    *x = n->in[0];
    return of == *x;
}

/* The reader of `v` that is `op` with a float constant of the last axis's length: the constant's value. */
static eng_node *row_operand(const eng_rewrite *r, int v, const char *op, int64_t width, int *constant)
{
    eng_node *n = eng_rewrite_only_reader(r, v);
    if (!n || !eng_node_is(n, op) || n->n_in != 2) return NULL;
    *constant = n->in[n->in[0] == v ? 1 : 0];
    const eng_tensor *t = eng_rewrite_constant(r, *constant);
    return t && t->dtype == ENG_FLOAT && t->rank == 1 && t->dims[0] == width ? n : NULL;
}

static od_code match_normalization(eng_rewrite *r, eng_node *n, od_status *st)
{
    int u, x, scale = ENG_NONE, shift = ENG_NONE;
    double eps;
    if (!is_normalized(r, n, &u, &eps)) return OD_OK;
    bool centred = is_centred(r, u, &x);
    if (!centred) x = u;
    const eng_tensor *t = eng_rewrite_type(r, x);
    if (!t || t->rank < 1 || t->dims[t->rank - 1] < 1) return OD_OK;
    int64_t width = t->dims[t->rank - 1];
    const char *op = centred ? "LayerNormalization" : "RMSNormalization";
    int opset = centred ? 17 : 23;
    if (!eng_op_find(ENG_DOMAIN_ONNX, op, opset)) return OD_OK;
    eng_node *end = n, *mul = row_operand(r, n->out[0], "Mul", width, &scale);
    if (mul) end = mul;
    eng_node *add = mul && centred ? row_operand(r, mul->out[0], "Add", width, &shift) : NULL;
    if (add) end = add;
    if (!mul) {
        float *ones;
        scale = eng_rewrite_new_floats(r, 1, &width, &ones);
        if (scale < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a scale");
        for (int64_t i = 0; i < width; i++) ones[i] = 1.0f;
    }
    OD_TRY(eng_rewrite_become(r, end, ENG_DOMAIN_ONNX, op, opset, add ? 3 : 2, st));
    end->in[0] = x;
    end->in[1] = scale;
    if (add) end->in[2] = shift;
    OD_TRY(eng_node_set_int(r->g, end, "axis", -1, st));
    return eng_node_set_float(r->g, end, "epsilon", (float)eps, st);
}

od_code eng_pass_patterns(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (n->dead || n->n_out < 1 || n->out[0] < 0) continue;
        if (eng_node_is(n, "Mul") || eng_node_is(n, "Div")) OD_TRY(match_gelu(r, n, st));
        if (eng_node_is(n, "Mul") || eng_node_is(n, "Div")) OD_TRY(match_normalization(r, n, st));
    }
    return OD_OK;
}
