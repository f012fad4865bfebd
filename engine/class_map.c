/* class_map.c - one more output for networks that end in global pooling and one linear layer: what the layer would give at each
 * place of the pooled map. The logits are its mean over all places (plus the bias), so it tells exactly how much
 * each place says for each class (Zhou et al., "Learning deep features for discriminative localization"). */
#include "engine/graph.h"

#include <string.h>

static const eng_node *maker(const eng_graph *g, int v)
{
    for (int i = 0; i < g->n_nodes && v >= 0; i++)
        for (int k = 0; k < g->nodes[i].n_out; k++)
            if (g->nodes[i].out[k] == v) return &g->nodes[i];
    return NULL;
}

static bool is_one_of(const eng_node *n, const char *const *names)
{
    for (; *names; names++)
        if (n->domain == ENG_DOMAIN_ONNX && !strcmp(n->op_type, *names)) return true;
    return false;
}

static const eng_tensor *constant_of(const eng_graph *g, const eng_node *n, int i)
{
    return i < n->n_in && n->in[i] >= 0 ? g->values[n->in[i]].constant : NULL;
}

/* The value that the nodes of these kinds in front of `v` begin with. Additions of constants too, when `bias`. */
static int before(const eng_graph *g, int v, const char *const *names, bool bias)
{
    for (const eng_node *n; (n = maker(g, v)) && n->n_in;) {
        if (is_one_of(n, names)) v = n->in[0];
        else if (bias && n->n_in == 2 && is_one_of(n, (const char *const[]){"Add", NULL}) && constant_of(g, n, 1)) v = n->in[0];
        else if (bias && n->n_in == 2 && is_one_of(n, (const char *const[]){"Add", NULL}) && constant_of(g, n, 0)) v = n->in[1];
        else break;
    }
    return v;
}

static bool over_places(const eng_graph *g, const eng_node *n)
{
    if (is_one_of(n, (const char *const[]){"GlobalAveragePool", NULL})) return true;
    int64_t count = 0;
    const int64_t *axes = eng_node_ints(n, "axes", &count);
    const eng_tensor *t = constant_of(g, n, 1);
    if (!axes && t && t->dtype == ENG_INT64) axes = t->data, count = eng_tensor_count(t);
    if (!axes || count != 2 || !is_one_of(n, (const char *const[]){"ReduceMean", NULL})) return false;
    int64_t a = axes[0] < 0 ? axes[0] + 4 : axes[0], b = axes[1] < 0 ? axes[1] + 4 : axes[1];
    return (a == 2 && b == 3) || (a == 3 && b == 2);
}

/* The layer's weights as those of a 1x1 convolution, [classes, channels, 1, 1]; NULL: `n` is no such layer. Of its own bytes,
 * since weights that were packed are given back. */
static const eng_tensor *weights_of(eng_graph *g, const eng_node *n)
{
    bool gemm = is_one_of(n, (const char *const[]){"Gemm", NULL}), conv = is_one_of(n, (const char *const[]){"Conv", NULL});
    if (!gemm && !conv && !is_one_of(n, (const char *const[]){"MatMul", NULL})) return NULL;
    const eng_tensor *w = eng_node_constant(g, n, 1);
    if (!w || w->dtype != ENG_FLOAT || w->rank != (conv ? 4 : 2) || (conv && (w->dims[2] != 1 || w->dims[3] != 1))) return NULL;
    if (conv && eng_node_int(n, "group", 1) != 1) return NULL;
    if (gemm && (eng_node_int(n, "transA", 0) || eng_node_float(n, "alpha", 1) != 1)) return NULL;
    bool turned = conv || (gemm && eng_node_int(n, "transB", 0));
    int64_t classes = w->dims[turned ? 0 : 1], channels = w->dims[turned ? 1 : 0];
    eng_tensor *out = od_arena_array(&g->model->arena, eng_tensor, 1);
    float *to = od_arena_array(&g->model->arena, float, eng_tensor_count(w));
    if (!out || !to) return NULL;
    const float *from = w->data;
    for (int64_t k = 0; k < classes; k++)
        for (int64_t c = 0; c < channels; c++) to[k * channels + c] = turned ? from[k * channels + c] : from[c * classes + k];
    *out = (eng_tensor){.dtype = ENG_FLOAT, .rank = 4, .dims = {classes, channels, 1, 1}, .data = to};
    return out;
}

static od_code append(eng_graph *g, const char *op, int in, const eng_tensor *weights, od_status *st)
{
    int out = eng_graph_value(g, ENG_CLASS_MAP), w = weights ? eng_graph_value(g, "") : ENG_NONE;
    eng_node *n = out >= 0 ? eng_graph_add_node(g, op, ENG_CLASS_MAP, weights ? 2 : 1, 1, 0) : NULL;
    if (!n || (weights && w < 0)) return od_fail(st, OD_NO_MEMORY, "no memory for a map of classes");
    n->domain = ENG_DOMAIN_ONNX;
    n->opset = g->model->opset[ENG_DOMAIN_ONNX];
    n->in[0] = in;
    n->out[0] = out;
    if (weights) {
        n->in[1] = w;
        OD_TRY(eng_graph_set_constant(g, w, weights, st));
    }
    return eng_graph_add_output(g, out, st);
}

od_code eng_class_map_add(eng_model *m, od_status *st)
{
    static const char *const ends[] = {"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Dropout", "Flatten", "Reshape", "Squeeze", NULL};
    static const char *const shapes[] = {"Flatten", "Reshape", "Squeeze", "Identity", "Dropout", NULL};
    eng_graph *g = m->graph;
    if (!g->n_outputs || eng_graph_find(g, ENG_CLASS_MAP) != ENG_NONE) return OD_OK;
    const eng_node *n = maker(g, before(g, g->outputs[0], ends, true));
    if (!n || !n->n_in) return OD_OK;
    if (over_places(g, n)) return append(g, "Identity", n->in[0], NULL, st); /* the maps are the classes' own */
    const eng_tensor *w = weights_of(g, n);
    const eng_node *pool = w ? maker(g, before(g, n->in[0], shapes, false)) : NULL;
    return pool && pool->n_in && over_places(g, pool) ? append(g, "Conv", pool->in[0], w, st) : OD_OK;
}
