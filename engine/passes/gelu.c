/* gelu.c - Gelu from the small operators that exporters write it in, matched by what they compute rather than
 * by one exporter's order of operands. */
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>

enum { FACTORS_MAX = 6 };

/* A product taken apart: scale * factor[0] * factor[1] ... */
typedef struct product {
    double scale;
    int factor[FACTORS_MAX];
    int n, steps;
} product;

/* Multiply `p` by value `v`, looking through products, divisions by scalars and squares of values that
 * nobody else reads (`root`: the value that the search starts from, which others may read). */
static bool take_apart(const eng_rewrite *r, int v, bool root, product *p)
{
    enum { STEPS_MAX = 32 }; /* no gate takes more, and a file may chain as many as it likes */
    double x;
    if (++p->steps > STEPS_MAX) return false;
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

/* half * (1 + erf(x / sqrt 2)) with `half` 1 or 1/2 */
static bool is_erf_gate(const eng_rewrite *r, int v, int x, double half)
{
    int u;
    product whole = {.scale = 1.0}, p = {.scale = 1.0};
    if (!plus_scalar(r, v, half, &u) || !take_apart(r, u, true, &whole) || whole.n != 1 || !near(whole.scale, half)) return false;
    const eng_node *erf_node = eng_rewrite_maker(r, whole.factor[0], "Erf");
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
    if (!take_apart(r, n->out[0], true, &p) || p.n != 2 || (!near(p.scale, 0.5) && !near(p.scale, 1.0))) return OD_OK;
    bool halved = near(p.scale, 0.5);
    for (int k = 0; k < 2; k++) {
        int x = p.factor[k], gate = p.factor[1 - k];
        bool by_erf = is_erf_gate(r, gate, x, halved ? 1.0 : 0.5), by_tanh = !by_erf && halved && is_tanh_gate(r, gate, x);
        if (!by_erf && !by_tanh) continue;
        if (!eng_op_find(ENG_DOMAIN_ONNX, "Gelu", 20)) return OD_OK;
        OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_ONNX, "Gelu", 20, 1, st));
        n->in[0] = x;
        return by_tanh ? eng_node_set_string(r->g, n, "approximate", "tanh", st) : OD_OK;
    }
    return OD_OK;
}

od_code eng_pass_gelu(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (n->dead || n->n_out < 1 || n->out[0] < 0) continue;
        if (eng_node_is(n, "Mul") || eng_node_is(n, "Div")) OD_TRY(match_gelu(r, n, st));
    }
    return OD_OK;
}
