/* half.c - a graph that computes in float16 or bfloat16 made one that computes in float: its constants are
 * widened once, its inputs and outputs are cast where they enter and leave. Without this every operator would be
 * run between two conversions, and no other pass would know its patterns. Results are those of exact
 * arithmetic to more places than the narrow type has, so they are not rounded between operators. */
#include "engine/kernels/half.h"
#include "engine/lazy.h"
#include "engine/passes/passes.h"

#include <string.h>

static bool is_half(eng_dtype t)
{
    return t == ENG_FLOAT16 || t == ENG_BFLOAT16;
}

/* The type of value `v`; ENG_UNDEFINED: unknown. */
static eng_dtype type_of(const eng_graph *g, int v)
{
    const eng_tensor *t = g->values[v].constant ? g->values[v].constant : v < g->n_probe ? &g->probe[v] : NULL;
    return t ? t->dtype : ENG_UNDEFINED;
}

/* Operators that take any type and have nothing in their attributes that depends on it. */
static bool only_moves(const eng_node *n)
{
    static const char *const names[] = {
        "Cast", "CastLike", "CenterCropPad", "Compress", "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements",
        "GatherND", "Identity", "NonZero", "Pad", "Reshape", "ReverseSequence", "Scatter", "ScatterElements", "ScatterND", "Shape", "Size",
        "Slice", "SpaceToDepth", "Split", "Squeeze", "TensorScatter", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where"};
    for (size_t i = 0; i < OD_COUNT(names); i++)
        if (eng_node_is(n, names[i])) return true;
    return false;
}

/* May `n` compute on floats instead? An attribute that names a type or holds a number of one would contradict. */
static bool may_widen(const eng_node *n)
{
    static const char *const names[] = {"dtype", "output_dtype", "output_datatype", "value", "precision"};
    for (size_t i = 0; i < OD_COUNT(names); i++)
        if (eng_node_attr(n, names[i])) return false;
    return (n->op->flags & ENG_HALF) || only_moves(n);
}

/* Is it worth it, and is every node that touches a half value one that may? */
static bool wanted(const eng_graph *g)
{
    int computing = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const eng_node *n = &g->nodes[i];
        bool half = false;
        for (int k = 0; k < n->n_attrs; k++)
            if (n->attrs[k].kind == ENG_ATTR_GRAPH || n->attrs[k].kind == ENG_ATTR_GRAPHS) return false;
        for (int k = 0; k < n->n_in; k++) half |= n->in[k] >= 0 && is_half(type_of(g, n->in[k]));
        for (int k = 0; k < n->n_out; k++) {
            if (n->out[k] < 0) continue;
            half |= is_half(type_of(g, n->out[k]));
            if (!type_of(g, n->out[k])) return false;
        }
        if (half && !may_widen(n)) return false;
        computing += half && (n->op->flags & ENG_HALF);
    }
    return computing > 1;
}

static od_code add_cast(eng_graph *g, int from, int to, eng_dtype type, od_status *st)
{
    enum { CAST_OPSET = 13 };
    const char *name = g->values[from].name;
    eng_node *n = eng_graph_add_node(g, "Cast", *name ? name : g->values[to].name, 1, 1, 0);
    if (!n) return od_fail(st, OD_NO_MEMORY, "no memory for a cast");
    n->domain = ENG_DOMAIN_ONNX;
    n->opset = CAST_OPSET;
    n->op = eng_op_find(ENG_DOMAIN_ONNX, "Cast", CAST_OPSET);
    n->in[0] = from;
    n->out[0] = to;
    if (!n->op) return od_fail(st, OD_UNSUPPORTED, "no operator Cast");
    return eng_node_set_int(g, n, "to", type, st);
}

/* The float value that readers of half value `v` take instead. */
static od_code widened(eng_rewrite *r, int v, int *now, od_status *st)
{
    eng_graph *g = r->g;
    const eng_tensor *t = g->values[v].constant;
    *now = v;
    if (t && !r->is_input[v]) {
        float *data;
        OD_TRY(eng_lazy_load(g->model, t, st));
        int wide = eng_rewrite_new_floats(r, t->rank, t->dims, &data);
        if (wide < 0) return od_fail(st, OD_NO_MEMORY, "no memory to widen '%s'", g->values[v].name);
        if (t->dtype == ENG_FLOAT16) eng_half_to_float(t->data, data, eng_tensor_count(t));
        else eng_bfloat_to_float(t->data, data, eng_tensor_count(t));
        *now = wide;
        return OD_OK;
    }
    if (!r->is_input[v] && !r->is_output[v]) {
        g->values[v].dtype = ENG_FLOAT;
        return OD_OK;
    }
    *now = eng_graph_value(g, "");
    if (*now < 0) return od_fail(st, OD_NO_MEMORY, "no memory to widen '%s'", g->values[v].name);
    return r->is_input[v] ? add_cast(g, v, *now, ENG_FLOAT, st) : add_cast(g, *now, v, type_of(g, v), st);
}

od_code eng_pass_half(eng_rewrite *r, od_status *st)
{
    eng_graph *g = r->g;
    if (g->parent || !g->probe || !wanted(g)) return OD_OK;
    const int n_nodes = g->n_nodes;
    int *now = od_arena_array(r->tmp, int, r->n_values);
    if (!now) return od_fail(st, OD_NO_MEMORY, "no memory to widen %d values", r->n_values);
    for (int v = 0; v < r->n_values; v++) {
        now[v] = v;
        if (is_half(type_of(g, v)) && r->readers[v]) OD_TRY(widened(r, v, &now[v], st));
    }
    for (int i = 0; i < n_nodes; i++) {
        eng_node *n = &g->nodes[i];
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0) n->in[k] = now[n->in[k]];
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0) n->out[k] = now[n->out[k]];
        if (eng_node_is(n, "Cast") && is_half((eng_dtype)eng_node_int(n, "to", 0))) OD_TRY(eng_node_set_int(g, n, "to", ENG_FLOAT, st));
    }
    r->changed = true;
    return OD_OK;
}
