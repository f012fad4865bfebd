/* normalize.c - LayerNormalization, RMSNormalization, InstanceNormalization and GroupNormalization from the small
 * operators that exporters write them in, matched by what they compute rather than by one exporter's order:
 *     y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * scale + shift
 * Means over the last axes are a LayerNormalization, over all behind the channels an InstanceNormalization; without
 * the mean taken off it is an RMSNormalization. An InstanceNormalization of groups, reshaped there and back, is a
 * GroupNormalization, which needs no row-major tensor. */
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>

typedef struct norm {
    int x;
    unsigned axes; /* bit a: axis a is averaged */
    double eps;
    bool centred;
    int scale, shift; /* constants, or ENG_NONE */
} norm;

/* ---- the statistics -------------------------------------------------------------------------- */

/* v is the mean of u over *axes, kept. */
static bool is_mean(const eng_rewrite *r, int v, int *u, unsigned *axes)
{
    const eng_node *n = eng_rewrite_maker(r, v, "ReduceMean");
    const eng_tensor *x = n ? eng_rewrite_type(r, n->in[0]) : NULL;
    const eng_tensor *list = n && n->n_in > 1 ? eng_rewrite_constant(r, n->in[1]) : NULL;
    if (!x || !list || x->dtype != ENG_FLOAT || !eng_node_int(n, "keepdims", 1) || !eng_tensor_count(list)) return false;
    *u = n->in[0];
    *axes = 0;
    for (int64_t i = 0; i < eng_tensor_count(list); i++) {
        int64_t axis = eng_tensor_int(list, i);
        if (axis < 0) axis += x->rank;
        if (axis < 0 || axis >= x->rank) return false;
        *axes |= 1u << axis;
    }
    return true;
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

/* v = mean(u^2) + eps */
static bool is_power(const eng_rewrite *r, int v, int *u, norm *m)
{
    int mean, square;
    const eng_node *add = eng_rewrite_maker(r, v, "Add");
    return add && eng_rewrite_scalar_operand(r, add, &m->eps, &mean) && is_mean(r, mean, &square, &m->axes) && is_square(r, square, u);
}

/* v = base^exponent, or a root of it. */
static bool is_pow(const eng_rewrite *r, int v, double exponent, int *base)
{
    double e;
    const eng_node *n = eng_rewrite_maker(r, v, NULL);
    if (!n || n->n_in < 1) return false;
    *base = n->in[0];
    if (eng_node_is(n, "Sqrt")) return exponent == 0.5;
    return eng_node_is(n, "Pow") && eng_rewrite_scalar(r, n->in[1], &e) && e == exponent;
}

/* v = sqrt(mean(u^2) + eps) */
static bool is_root(const eng_rewrite *r, int v, int *u, norm *m)
{
    int power;
    return is_pow(r, v, 0.5, &power) && is_power(r, power, u, m);
}

/* v = 1 / sqrt(mean(u^2) + eps) */
static bool is_inverse(const eng_rewrite *r, int v, int *u, norm *m)
{
    double one;
    int power;
    const eng_node *n = eng_rewrite_maker(r, v, NULL);
    if (!n || n->n_in < 1) return false;
    if (eng_node_is(n, "Reciprocal")) return is_root(r, n->in[0], u, m);
    if (eng_node_is(n, "Div")) return eng_rewrite_scalar(r, n->in[0], &one) && one == 1.0 && is_root(r, n->in[1], u, m);
    return is_pow(r, v, -0.5, &power) && is_power(r, power, u, m);
}

/* v is the inverse, or its product with a constant scale. */
static bool is_factor(const eng_rewrite *r, int v, int *u, norm *m)
{
    m->scale = ENG_NONE;
    if (is_inverse(r, v, u, m)) return true;
    const eng_node *n = eng_rewrite_maker(r, v, "Mul");
    for (int k = 0; n && n->n_in == 2 && k < 2; k++) {
        if (!eng_rewrite_constant(r, n->in[k]) || !is_inverse(r, n->in[1 - k], u, m)) continue;
        m->scale = n->in[k];
        return true;
    }
    return false;
}

/* u = x - mean(x) over the axes of `m` */
static bool is_centred(const eng_rewrite *r, int u, const norm *m, int *x)
{
    int of;
    unsigned axes;
    const eng_node *n = eng_rewrite_maker(r, u, "Sub");
    if (!n || !is_mean(r, n->in[1], &of, &axes) || axes != m->axes) return false;
    *x = n->in[0];
    return of == *x;
}

/* n = u / rms(u), times a scale perhaps */
static bool is_quotient(const eng_rewrite *r, const eng_node *n, norm *m)
{
    int of;
    m->scale = ENG_NONE;
    if (eng_node_is(n, "Div") && is_root(r, n->in[1], &of, m) && of == n->in[0]) m->x = of;
    for (int k = 0; eng_node_is(n, "Mul") && k < 2 && m->x < 0; k++)
        if (is_factor(r, n->in[k], &of, m) && of == n->in[1 - k]) m->x = of;
    if (m->x < 0) return false;
    m->centred = is_centred(r, m->x, m, &of);
    if (m->centred) m->x = of;
    return true;
}

/* n = x f + (shift - mean(x) f) with f = scale / rms(x - mean(x)): TensorFlow's */
static bool is_map(const eng_rewrite *r, const eng_node *n, norm *m)
{
    for (int k = 0; k < 2; k++) {
        const eng_node *a = eng_rewrite_maker(r, n->in[k], "Mul"), *b = eng_rewrite_maker(r, n->in[1 - k], "Sub");
        const eng_node *c = b ? eng_rewrite_maker(r, b->in[1], "Mul") : NULL;
        if (!a || !c || !eng_rewrite_constant(r, b->in[0])) continue;
        for (int i = 0; i < 4; i++) { /* which of each product is f */
            int f = a->in[i & 1], u, x, of;
            unsigned axes;
            if (f != c->in[i >> 1] || !is_factor(r, f, &u, m) || !is_centred(r, u, m, &x) || x != a->in[1 - (i & 1)]) continue;
            if (!is_mean(r, c->in[1 - (i >> 1)], &of, &axes) || of != x || axes != m->axes) continue;
            m->x = x;
            m->shift = b->in[0];
            return m->centred = true;
        }
    }
    return false;
}

/* ---- scale and shift ------------------------------------------------------------------------- */

/* First axis of the last ones if these are what `axes` has, else -1. */
static int last_axes(unsigned axes, int rank)
{
    int first = rank;
    while (first > 0 && axes >> (first - 1) & 1) first--;
    return first < rank && axes >> first << first == axes ? first : -1;
}

/* Is float constant `v` what x's extents from axis `first` on say? */
static bool along_rows(const eng_rewrite *r, int v, const eng_tensor *x, int first)
{
    const eng_tensor *t = eng_rewrite_constant(r, v);
    int more = t ? t->rank - (x->rank - first) : -1;
    if (more < 0 || t->dtype != ENG_FLOAT || t->rank > x->rank) return false;
    for (int d = 0; d < t->rank; d++)
        if (t->dims[d] != (d < more ? 1 : x->dims[first + d - more])) return false;
    return true;
}

/* Is float constant `v` a number for each channel of x? */
static bool along_channels(const eng_rewrite *r, int v, const eng_tensor *x)
{
    const eng_tensor *t = eng_rewrite_constant(r, v);
    if (!t || t->dtype != ENG_FLOAT || t->rank > x->rank || t->rank < x->rank - 1 || x->dims[1] < 1) return false;
    return eng_tensor_count(t) == x->dims[1] && t->dims[t->rank - x->rank + 1] == x->dims[1];
}

static bool fits(const eng_rewrite *r, int v, const eng_tensor *x, int first)
{
    return first >= 0 ? along_rows(r, v, x, first) : along_channels(r, v, x);
}

/* The only reader of `v` if it is `op` with a constant that fits. */
static eng_node *operand_behind(const eng_rewrite *r, int v, const char *op, const eng_tensor *x, int first, int *constant)
{
    eng_node *n = eng_rewrite_only_reader(r, v);
    if (!n || !eng_node_is(n, op) || n->n_in != 2 || n->in[0] == n->in[1]) return NULL;
    *constant = n->in[n->in[0] == v ? 1 : 0];
    return fits(r, *constant, x, first) ? n : NULL;
}

/* A constant of the extents `dims`: the data of `v`, or `otherwise` everywhere. */
static int operand(eng_rewrite *r, int v, int rank, const int64_t *dims, float otherwise)
{
    float *to;
    const eng_tensor *t = eng_rewrite_constant(r, v);
    if (t && t->rank == rank) return v;
    int made = eng_rewrite_new_floats(r, rank, dims, &to);
    int64_t count = 1;
    for (int d = 0; d < rank; d++) count *= dims[d];
    for (int64_t i = 0; made >= 0 && i < count; i++) to[i] = t ? ((const float *)t->data)[i] : otherwise;
    return made;
}

static od_code write_norm(eng_rewrite *r, eng_node *n, const norm *m, const eng_tensor *x, int first, od_status *st)
{
    bool rows = first >= 0, shifted = m->centred && (m->shift >= 0 || !rows);
    const char *op = !rows ? "InstanceNormalization" : m->centred ? "LayerNormalization" : "RMSNormalization";
    int rank = rows ? x->rank - first : 1;
    const int64_t *dims = rows ? x->dims + first : x->dims + 1;
    int scale = operand(r, m->scale, rank, dims, 1.0f), shift = shifted ? operand(r, m->shift, rank, dims, 0.0f) : ENG_NONE;
    if (scale < 0 || (shifted && shift < 0)) return od_fail(st, OD_NO_MEMORY, "no memory for a scale");
    OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_ONNX, op, m->centred ? 17 : 23, shifted ? 3 : 2, st));
    n->in[0] = m->x;
    n->in[1] = scale;
    if (shifted) n->in[2] = shift;
    if (rows) OD_TRY(eng_node_set_int(r->g, n, "axis", first - x->rank, st));
    return eng_node_set_float(r->g, n, "epsilon", (float)m->eps, st);
}

/* Which of the two forms: *first is the first axis of a row, or -1 for channels. */
static bool choose_form(const eng_rewrite *r, const norm *m, const eng_node *n, const eng_tensor *x, int *first)
{
    int constant;
    bool channels = m->centred && x->rank >= 3 && x->dims[1] > 0 && m->axes == (1u << x->rank) - 4u;
    *first = last_axes(m->axes, x->rank);
    for (int d = *first; d >= 0 && d < x->rank; d++)
        if (x->dims[d] < 1) *first = -1;
    if (m->scale >= 0 || m->shift >= 0) {
        bool rows = *first >= 0 && (m->scale < 0 || fits(r, m->scale, x, *first)) && (m->shift < 0 || fits(r, m->shift, x, *first));
        if (!rows) *first = -1;
        return rows || (channels && (m->scale < 0 || fits(r, m->scale, x, -1)) && (m->shift < 0 || fits(r, m->shift, x, -1)));
    }
    bool by_row = *first >= 0 && operand_behind(r, n->out[0], "Mul", x, *first, &constant);
    bool by_channel = channels && operand_behind(r, n->out[0], "Mul", x, -1, &constant);
    if (channels && !by_row && (by_channel || x->rank > 3)) *first = -1;
    return *first >= 0 || channels;
}

static od_code match(eng_rewrite *r, eng_node *n, od_status *st)
{
    norm m = {.x = ENG_NONE, .scale = ENG_NONE, .shift = ENG_NONE};
    int first, constant;
    if (n->n_in != 2 || !(eng_node_is(n, "Add") ? is_map(r, n, &m) : is_quotient(r, n, &m))) return OD_OK;
    const eng_tensor *x = eng_rewrite_type(r, m.x);
    if (!x || x->rank < 1 || !choose_form(r, &m, n, x, &first)) return OD_OK;
    const char *op = first < 0 ? "InstanceNormalization" : m.centred ? "LayerNormalization" : "RMSNormalization";
    if (!eng_op_find(ENG_DOMAIN_ONNX, op, m.centred ? 17 : 23)) return OD_OK;
    eng_node *end = n, *next;
    if (m.scale < 0 && m.shift < 0 && (next = operand_behind(r, end->out[0], "Mul", x, first, &constant))) {
        m.scale = constant;
        end = next;
    }
    if (m.centred && m.shift < 0 && (next = operand_behind(r, end->out[0], "Add", x, first, &constant))) {
        m.shift = constant;
        end = next;
    }
    return write_norm(r, end, &m, x, first, st);
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* x, seen as groups by `v`: [items, groups, ...] of [items, channels, ...]. */
static bool is_grouped(const eng_rewrite *r, int v, int *x, int64_t *groups)
{
    const eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, "Reshape") : NULL;
    const eng_tensor *from = n ? eng_rewrite_type(r, n->in[0]) : NULL, *to = n ? eng_rewrite_type(r, v) : NULL;
    const eng_graph *g = r->g;
    if (!from || !to || from->rank < 3 || to->rank < 3 || from->dtype != ENG_FLOAT || n->in[0] >= g->n_probe) return false;
    *x = n->in[0];
    *groups = to->dims[1];
    if (*groups < 1 || from->dims[1] < 1 || from->dims[1] % *groups || r->g->values[*x].constant) return false;
    return g->guess[0][v].dims[0] == g->guess[0][*x].dims[0] && g->guess[1][v].dims[0] == g->guess[1][*x].dims[0];
}

static const float *floats_of(const eng_rewrite *r, int v, int64_t count)
{
    const eng_tensor *t = eng_rewrite_constant(r, v);
    return t && t->dtype == ENG_FLOAT && eng_tensor_count(t) == count ? t->data : NULL;
}

static od_code match_groups(eng_rewrite *r, eng_node *n, od_status *st)
{
    int x, mul_by = ENG_NONE, add_to = ENG_NONE;
    int64_t groups;
    float *scale, *shift, eps = eng_node_float(n, "epsilon", 1e-5f);
    if (!eng_node_is(n, "InstanceNormalization") || n->n_in < 3 || n->fused.act || !is_grouped(r, n->in[0], &x, &groups)) return OD_OK;
    const float *s = floats_of(r, n->in[1], groups), *b = floats_of(r, n->in[2], groups);
    eng_node *back = eng_rewrite_only_reader(r, n->out[0]);
    if (!s || !b || !eng_node_is(back, "Reshape") || back->in[0] != n->out[0] || !eng_rewrite_same_shape(r, back->out[0], x)) return OD_OK;
    if (!eng_op_find(ENG_DOMAIN_ONNX, "GroupNormalization", 21)) return OD_OK;
    const eng_tensor *t = eng_rewrite_type(r, x);
    int64_t channels = t->dims[1], per = channels / groups;
    eng_node *mul = operand_behind(r, back->out[0], "Mul", t, -1, &mul_by), *end = mul ? mul : back;
    eng_node *add = operand_behind(r, end->out[0], "Add", t, -1, &add_to);
    if (add) end = add;
    const float *by = mul ? floats_of(r, mul_by, channels) : NULL, *to = add ? floats_of(r, add_to, channels) : NULL;
    int sv = eng_rewrite_new_floats(r, 1, &channels, &scale), bv = eng_rewrite_new_floats(r, 1, &channels, &shift);
    if (sv < 0 || bv < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a scale");
    for (int64_t c = 0; c < channels; c++) {
        scale[c] = s[c / per] * (by ? by[c] : 1.0f);
        shift[c] = b[c / per] * (by ? by[c] : 1.0f) + (to ? to[c] : 0.0f);
    }
    OD_TRY(eng_rewrite_become(r, end, ENG_DOMAIN_ONNX, "GroupNormalization", 21, 3, st));
    end->in[0] = x;
    end->in[1] = sv;
    end->in[2] = bv;
    OD_TRY(eng_node_set_int(r->g, end, "num_groups", groups, st));
    return eng_node_set_float(r->g, end, "epsilon", eps, st);
}

od_code eng_pass_normalize(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (n->dead || n->n_out < 1 || n->out[0] < 0) continue;
        if (eng_node_is(n, "Mul") || eng_node_is(n, "Div") || eng_node_is(n, "Add")) OD_TRY(match(r, n, st));
        if (eng_node_is(n, "InstanceNormalization")) OD_TRY(match_groups(r, n, st));
    }
    return OD_OK;
}
