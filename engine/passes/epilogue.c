/* epilogue.c - bias, residual and activation into the kernel that makes their input (epilogue.h), and
 * the spellings of gated activations into one operator each. */
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>

/* ---- MatMul + Add -------------------------------------------------------------------------- */

od_code eng_pass_bias(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (!eng_node_is(n, "Add") || n->n_in != 2) continue;
        for (int k = 0; k < 2; k++) {
            const eng_tensor *bias = eng_rewrite_constant(r, n->in[k]);
            eng_node *mm = eng_rewrite_maker(r, n->in[1 - k], "MatMul");
            if (!bias || bias->rank != 1 || bias->dtype != ENG_FLOAT || !mm || !eng_rewrite_private(r, n->in[1 - k]))
                continue;
            const eng_tensor *w = eng_rewrite_type(r, mm->in[1]), *x = eng_rewrite_type(r, mm->in[0]);
            if (!w || w->rank < 2 || !x || x->rank < 2 || w->dims[w->rank - 1] != bias->dims[0]) continue;
            if (mm->n_in > 2 || mm->fused.act || mm->fused.residual || w->dtype != ENG_FLOAT) continue;
            int bias_v = n->in[k];
            if (!eng_rewrite_replace(r, n->out[0], n->in[1 - k])) continue;
            if (!eng_node_set_inputs(r->g, mm, 3)) return od_fail(st, OD_NO_MEMORY, "no memory for a bias");
            mm->in[2] = bias_v;
            eng_rewrite_kill(r, n);
            break;
        }
    }
    return OD_OK;
}

/* ---- activations --------------------------------------------------------------------------- */

static bool clip_bounds(const eng_rewrite *r, const eng_node *n, eng_epilogue *e)
{
    double lo = -INFINITY, hi = INFINITY;
    if (n->n_in > 1 && n->in[1] >= 0 && !eng_rewrite_scalar(r, n->in[1], &lo)) return false;
    if (n->n_in > 2 && n->in[2] >= 0 && !eng_rewrite_scalar(r, n->in[2], &hi)) return false;
    if (!(lo <= hi)) return false; /* ONNX then gives hi everywhere: leave it to Clip itself */
    *e = (eng_epilogue){.act = ENG_ACT_CLIP, .alpha = (float)lo, .beta = (float)hi};
    return true;
}

bool eng_rewrite_act(const eng_rewrite *r, const eng_node *n, eng_epilogue *e)
{
    static const struct {
        const char *op;
        eng_act act;
        float alpha, beta; /* defaults of the attributes of these names */
    } plain[] = {
        {"Relu", ENG_ACT_RELU, 0, 0},         {"LeakyRelu", ENG_ACT_LEAKY_RELU, 0.01f, 0},
        {"Sigmoid", ENG_ACT_SIGMOID, 0, 0},   {"HardSigmoid", ENG_ACT_HARD_SIGMOID, 0.2f, 0.5f},
        {"Tanh", ENG_ACT_TANH, 0, 0},         {"HardSwish", ENG_ACT_HARD_SWISH, 0, 0},
        {"Elu", ENG_ACT_ELU, 1.0f, 0},        {"Swish", ENG_ACT_SILU, 1.0f, 0},
        {"Mish", ENG_ACT_MISH, 0, 0},         {"Softplus", ENG_ACT_SOFTPLUS, 0, 0},
    };
    if (eng_node_is(n, "Clip")) return clip_bounds(r, n, e);
    if (eng_node_is(n, "Gelu")) {
        bool tanh_form = eng_node_string_is(n, "approximate", "none", "tanh");
        *e = (eng_epilogue){.act = tanh_form ? ENG_ACT_GELU_TANH : ENG_ACT_GELU_ERF};
        return true;
    }
    for (size_t i = 0; i < OD_COUNT(plain); i++) {
        if (!eng_node_is(n, plain[i].op)) continue;
        *e = (eng_epilogue){.act = plain[i].act, .alpha = eng_node_float(n, "alpha", plain[i].alpha),
                            .beta = eng_node_float(n, "beta", plain[i].beta)};
        return true;
    }
    return false;
}

od_code eng_pass_activation(eng_rewrite *r, od_status *st)
{
    (void)st;
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        eng_epilogue e;
        if (n->dead || n->n_in < 1 || !eng_rewrite_act(r, n, &e) || !eng_rewrite_is_float(r, n->in[0])) continue;
        eng_node *maker = eng_rewrite_maker(r, n->in[0], NULL);
        if (!maker || maker->fused.residual == ENG_RES_AFTER_ACT) continue;
        if (e.act == ENG_ACT_RELU && maker->fused.act == ENG_ACT_RELU) {
            if (eng_rewrite_replace(r, n->out[0], n->in[0])) eng_rewrite_kill(r, n); /* a second one does nothing */
            continue;
        }
        if (!(maker->op->flags & (ENG_FUSES | ENG_FUSES_ACT)) || maker->out[0] != n->in[0]) continue;
        if (maker->fused.act || !eng_rewrite_private(r, n->in[0])) continue;
        if (!eng_rewrite_replace(r, n->out[0], n->in[0])) continue;
        maker->fused.act = e.act;
        maker->fused.alpha = e.alpha;
        maker->fused.beta = e.beta;
        eng_rewrite_kill(r, n);
    }
    return OD_OK;
}

/* ---- residuals ----------------------------------------------------------------------------- */

/* Does `v` follow from `from`? Then `from`'s node must not wait for it. */
static bool depends_on(const eng_graph *g, int v, int node, char *seen)
{
    int p = v < 0 ? ENG_NONE : g->values[v].producer;
    if (p < 0 || p < node || seen[p]) return false; /* sorted: a maker before `node` cannot read it */
    if (p == node) return true;
    seen[p] = 1;
    for (int k = 0; k < g->nodes[p].n_in; k++)
        if (depends_on(g, g->nodes[p].in[k], node, seen)) return true;
    return false;
}

/* Is `n` a Transpose of images that puts their last axis behind the first? It costs nothing where layouts are ENG_CL. */
static bool is_to_first(const eng_node *n)
{
    int64_t rank;
    const int64_t *perm = eng_node_is(n, "Transpose") ? eng_node_ints(n, "perm", &rank) : NULL;
    if (!perm || rank < 4 || perm[0] != 0 || perm[1] != rank - 1) return false;
    for (int64_t i = 2; i < rank; i++)
        if (perm[i] != i - 1) return false;
    return true;
}

/* What is_to_first makes `v` of, or a new value for that; ENG_NONE: that would be a copy. */
static od_code before_transpose(eng_rewrite *r, int v, int *to, od_status *st)
{
    int64_t perm[ENG_MAX_RANK];
    const eng_node *maker = eng_rewrite_maker(r, v, NULL);
    const eng_tensor *type = eng_rewrite_type(r, v);
    *to = maker && is_to_first(maker) ? maker->in[0] : ENG_NONE;
    if (*to >= 0 || !maker || !(maker->op->flags & ENG_CL_FIRST) || !type) return OD_OK;
    for (int i = 0; i < type->rank; i++) perm[i] = i == 0 ? 0 : i == type->rank - 1 ? 1 : i + 1;
    int x = eng_graph_value(r->g, "");
    eng_node *t = x < 0 ? NULL : eng_graph_add_node(r->g, "Transpose", "", 1, 1, 1);
    if (!t) return od_fail(st, OD_NO_MEMORY, "no memory for a Transpose");
    t->opset = 13;
    t->op = eng_op_find(ENG_DOMAIN_ONNX, "Transpose", t->opset);
    t->in[0] = v;
    t->out[0] = x;
    r->g->values[x].producer = r->g->n_nodes - 1;
    if (v < r->n_values) r->readers[v]++;
    *to = x;
    return eng_node_set_ints(r->g, t, "perm", perm, type->rank, st);
}

/* For y times the constant `v` along the channels of y's maker, which are y's last axis, or its second behind is_to_first: a vector
 * of `channels`. ENG_NONE: it is no such. */
static int factors(eng_rewrite *r, int v, int y, bool turned, int64_t channels, od_status *st)
{
    const eng_tensor *c = eng_rewrite_constant(r, v), *type = eng_rewrite_type(r, y);
    if (!c || !type || c->dtype != ENG_FLOAT || c->rank > type->rank || eng_tensor_count(c) != channels) return ENG_NONE;
    int axis = (turned ? 1 : type->rank - 1) - (type->rank - c->rank);
    if (axis < 0 || c->dims[axis] != channels) return ENG_NONE;
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 1, .dims = {channels}, .data = c->data};
    int made = eng_graph_value(r->g, "");
    return made >= 0 && eng_graph_set_constant(r->g, made, &t, st) == OD_OK ? made : ENG_NONE;
}

/* An Add whose one side is made by what fuses sums, with a Transpose that is_to_first or, if `scaled`, factors of the channels between:
 * t(m) + other is t(m + other before it). */
static od_code fuse_sum(eng_rewrite *r, int node, bool scaled, od_status *st)
{
    eng_graph *g = r->g;
    for (int way = 0; way < 4; way++) {
        const eng_node *n = &g->nodes[node];
        int x = n->in[way / 2], other = n->in[1 - way / 2], y = n->out[0], factor = ENG_NONE;
        const eng_node *mul = eng_rewrite_maker(r, x, "Mul");
        if (scaled && (!mul || mul->n_in != 2 || mul->fused.act || mul->fused.residual || !eng_rewrite_private(r, x))) continue;
        if (!scaled && way % 2) continue;
        int v = scaled ? mul->in[way % 2] : x, from = v;
        const eng_node *m = eng_rewrite_maker(r, v, NULL);
        const bool turned = m && is_to_first(m);
        if (turned) m = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, from = m->in[0], NULL) : NULL;
        if (!m || !(m->op->flags & ENG_FUSES) || m->fused.residual || m->out[0] != from || !eng_rewrite_private(r, from)) continue;
        if (!turned && !scaled) continue; /* as any */
        int made = g->values[from].producer, slot = m->n_in < 3 ? 3 : m->n_in;
        if (!eng_rewrite_same_shape(r, v, other) || g->values[other].constant || g->values[other].producer >= made) continue;
        if (scaled) {
            const eng_tensor *w = eng_node_is(m, "MatMul") ? eng_rewrite_weights(r, m->in[1]) : NULL;
            if (!w || w->rank != 2 || m->fused.act || m->n_in > 3 || !eng_rewrite_same_shape(r, v, x)) continue;
            factor = factors(r, mul->in[1 - way % 2], v, turned, w->dims[1], st);
            if (factor < 0) continue;
        }
        if (turned) OD_TRY(before_transpose(r, other, &other, st));
        if (other < 0) continue;
        eng_node *maker = &g->nodes[made];
        if (!eng_rewrite_replace(r, y, v)) return od_fail(st, OD_NO_MEMORY, "no memory to rewrite a sum");
        if (!eng_node_set_inputs(g, maker, slot + 1 + scaled)) return od_fail(st, OD_NO_MEMORY, "no memory for a residual");
        if (scaled) OD_TRY(eng_rewrite_read(r, maker, slot, factor, st));
        maker->fused.scale_in = scaled ? slot++ : 0;
        OD_TRY(eng_rewrite_read(r, maker, slot, other, st));
        maker->fused.residual = maker->fused.act ? ENG_RES_AFTER_ACT : ENG_RES_BEFORE_ACT;
        maker->fused.residual_in = slot;
        if (scaled) eng_rewrite_kill(r, &g->nodes[g->values[x].producer]);
        eng_rewrite_kill(r, &g->nodes[node]);
        return OD_OK;
    }
    return OD_OK;
}

static bool is_sum(const eng_rewrite *r, const eng_node *n)
{
    return eng_node_is(n, "Add") && n->n_in == 2 && n->in[0] != n->in[1] && eng_rewrite_is_float(r, n->in[0]);
}

/* x + factors * product, as of layers that begin as the identity. Into the weights the factors would go too, but columns of very different
 * sizes are not multiplied as fast. */
od_code eng_pass_scaled(eng_rewrite *r, od_status *st)
{
    for (int i = 0, nodes = r->g->n_nodes; i < nodes; i++)
        if (is_sum(r, &r->g->nodes[i])) OD_TRY(fuse_sum(r, i, true, st));
    return OD_OK;
}

od_code eng_pass_residual(eng_rewrite *r, od_status *st)
{
    eng_graph *g = r->g;
    for (int i = 0, nodes = g->n_nodes; i < nodes; i++) {
        eng_node *n = &g->nodes[i];
        if (!is_sum(r, n)) continue;
        OD_TRY(fuse_sum(r, i, false, st));
        n = &g->nodes[i];
        if (n->dead) continue;
        int best = ENG_NONE; /* the side made last, so that the other is there by then */
        for (int k = 0; k < 2; k++) {
            const eng_node *m = eng_rewrite_maker(r, n->in[k], NULL);
            if (!m || !(m->op->flags & ENG_FUSES) || m->fused.residual || !eng_rewrite_private(r, n->in[k])) continue;
            if (!eng_rewrite_same_shape(r, n->in[0], n->in[1]) || m->out[0] != n->in[k]) continue;
            if (best < 0 || g->values[n->in[k]].producer > g->values[n->in[best]].producer) best = k;
        }
        if (best < 0) continue;
        int x = n->in[best], other = n->in[1 - best], made = g->values[x].producer;
        char *seen = od_arena_array(r->tmp, char, g->n_nodes);
        if (!seen) return od_fail(st, OD_NO_MEMORY, "no memory for %d nodes", g->n_nodes);
        if (depends_on(g, other, made, seen)) continue;
        eng_node *m = &g->nodes[made];
        int slot = m->n_in;
        if (slot < 3) slot = 3; /* behind the bias, given or not */
        if (!eng_rewrite_replace(r, n->out[0], x)) continue;
        if (!eng_node_set_inputs(g, m, slot + 1)) return od_fail(st, OD_NO_MEMORY, "no memory for a residual");
        OD_TRY(eng_rewrite_read(r, m, slot, other, st));
        m->fused.residual = m->fused.act ? ENG_RES_AFTER_ACT : ENG_RES_BEFORE_ACT;
        m->fused.residual_in = slot;
        eng_rewrite_kill(r, n);
    }
    return OD_OK;
}

/* ---- x * gate(x) --------------------------------------------------------------------------- */

/* softplus(x) inside: Mish is x * tanh(softplus(x)) */
static bool is_mish_gate(const eng_rewrite *r, const eng_node *gate, int x)
{
    const eng_node *inner = eng_node_is(gate, "Tanh") ? eng_rewrite_maker(r, gate->in[0], "Softplus") : NULL;
    return inner && inner->in[0] == x;
}

/* HardSigmoid(1/6, 1/2), or Clip(x + 3, 0, 6) with a division by six behind it. */
static bool is_hard_gate(const eng_rewrite *r, const eng_node *gate, int x, double *divided)
{
    *divided = 1.0;
    if (eng_node_is(gate, "HardSigmoid") && gate->in[0] == x)
        return fabs((double)eng_node_float(gate, "alpha", 0.2f) - 1.0 / 6) < 1e-4 &&
               fabs((double)eng_node_float(gate, "beta", 0.5f) - 0.5) < 1e-6;
    double by = 1.0;
    if (eng_node_is(gate, "Div") || eng_node_is(gate, "Mul")) {
        int inner;
        if (!eng_rewrite_scalar_operand(r, gate, &by, &inner)) return false;
        if (eng_node_is(gate, "Div") && inner != gate->in[0]) return false;
        if (eng_node_is(gate, "Mul")) by = 1.0 / by;
        gate = eng_rewrite_maker(r, inner, "Clip");
    }
    eng_epilogue clip;
    if (!gate || !eng_node_is(gate, "Clip") || !clip_bounds(r, gate, &clip) || clip.alpha != 0.0f || clip.beta != 6.0f)
        return false;
    const eng_node *add = eng_rewrite_maker(r, gate->in[0], "Add");
    double three;
    int inner;
    *divided = by;
    return add && eng_rewrite_scalar_operand(r, add, &three, &inner) && inner == x && three == 3.0;
}

/* v = factor * x with a scalar factor */
static bool is_multiple(const eng_rewrite *r, int v, int x, double *factor)
{
    int of;
    const eng_node *n = eng_rewrite_maker(r, v, "Mul");
    return n && eng_rewrite_scalar_operand(r, n, factor, &of) && of == x;
}

static od_code rewrite_gate(eng_rewrite *r, eng_node *n, const char *op, int opset, int x, od_status *st)
{
    OD_TRY(eng_rewrite_become(r, n, ENG_DOMAIN_ONNX, op, opset, 1, st));
    n->in[0] = x;
    return OD_OK;
}

/* Mul(x, gate(x)); also Div(Mul(x, Clip(x + 3, 0, 6)), 6). */
static od_code match_gate(eng_rewrite *r, eng_node *n, od_status *st)
{
    if (eng_node_is(n, "Div") || eng_node_is(n, "Mul")) {
        double by;
        int inner;
        if (eng_rewrite_scalar_operand(r, n, &by, &inner) && (eng_node_is(n, "Mul") || inner == n->in[0])) {
            const eng_node *mul = eng_rewrite_maker(r, inner, "Mul");
            if (eng_node_is(n, "Mul")) by = 1.0 / by;
            for (int k = 0; mul && mul->n_in == 2 && k < 2; k++) {
                double divided;
                const eng_node *gate = eng_rewrite_maker(r, mul->in[1 - k], "Clip");
                if (gate && is_hard_gate(r, gate, mul->in[k], &divided) && fabs(by - 6.0) < 1e-4)
                    return rewrite_gate(r, n, "HardSwish", 14, mul->in[k], st);
            }
        }
    }
    if (!eng_node_is(n, "Mul") || n->n_in != 2) return OD_OK;
    for (int k = 0; k < 2; k++) {
        int x = n->in[k];
        const eng_node *gate = eng_rewrite_maker(r, n->in[1 - k], NULL);
        double divided;
        if (!gate || gate->n_in < 1 || gate->fused.act) continue;
        if (eng_node_is(gate, "Sigmoid") && gate->in[0] == x) return rewrite_gate(r, n, "Swish", 24, x, st);
        if (eng_node_is(gate, "Sigmoid") && is_multiple(r, gate->in[0], x, &divided)) {
            OD_TRY(rewrite_gate(r, n, "Swish", 24, x, st));
            return eng_node_set_float(r->g, n, "alpha", (float)divided, st);
        }
        if (is_mish_gate(r, gate, x)) return rewrite_gate(r, n, "Mish", 18, x, st);
        if (is_hard_gate(r, gate, x, &divided) && (eng_node_is(gate, "HardSigmoid") || fabs(divided - 6.0) < 1e-4))
            return rewrite_gate(r, n, "HardSwish", 14, x, st);
    }
    return OD_OK;
}

od_code eng_pass_gate(eng_rewrite *r, od_status *st)
{
    if (!eng_op_find(ENG_DOMAIN_ONNX, "Swish", 24) || !eng_op_find(ENG_DOMAIN_ONNX, "Mish", 18) ||
        !eng_op_find(ENG_DOMAIN_ONNX, "HardSwish", 14))
        return OD_OK;
    for (int i = 0; i < r->g->n_nodes; i++)
        if (!r->g->nodes[i].dead) OD_TRY(match_gate(r, &r->g->nodes[i], st));
    return OD_OK;
}
