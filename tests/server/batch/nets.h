/* nets.h - small networks made in memory, for tests of batching. */
#ifndef NETS_H
#define NETS_H

#include "engine/session.h"
#include "tests/test.h"

static int net_value(eng_model *m, const char *name, int rank, const int64_t *dims)
{
    int v = eng_graph_value(m->graph, name);
    eng_value *value = &m->graph->values[v];
    value->dtype = ENG_FLOAT;
    value->rank = rank;
    for (int i = 0; i < rank; i++) value->dims[i] = dims[i];
    return v;
}

static void net_node(eng_model *m, const char *op, int n_in, const char *const *in, const char *out)
{
    eng_node *n = eng_graph_add_node(m->graph, op, out, n_in, 1, 0);
    n->opset = 17;
    for (int i = 0; i < n_in; i++) n->in[i] = eng_graph_value(m->graph, in[i]);
    n->out[0] = eng_graph_value(m->graph, out);
}

/* x [first, width] -> y [first, 8] = relu(x w) with w [width, 8]; `steps` more products of 8 x 8 make it slower. */
OD_UNUSED static eng_model *net_dense(int64_t first, int64_t width, int steps)
{
    eng_model *m = NULL;
    char from[16], to[16];
    CHECK_OK(eng_model_create(&m, &st));
    CHECK_OK(eng_graph_add_input(m->graph, net_value(m, "x", 2, (int64_t[]){first, width}), &st));
    for (int k = 0; k < 2; k++) {
        eng_tensor w = {.dtype = ENG_FLOAT, .rank = 2, .dims = {k ? 8 : width, 8}};
        int64_t count = eng_tensor_count(&w);
        float *data = od_arena_array(&m->arena, float, count);
        for (int64_t i = 0; i < count; i++) data[i] = (float)((i * 7919 + 13) % 101 - 50) / 200.0f;
        w.data = data;
        CHECK_OK(eng_graph_set_constant(m->graph, eng_graph_value(m->graph, k ? "v" : "w"), &w, &st));
    }
    net_node(m, "MatMul", 2, (const char *[]){"x", "w"}, "s0");
    for (int i = 0; i < steps; i++) {
        snprintf(from, sizeof from, "s%d", i);
        snprintf(to, sizeof to, "s%d", i + 1);
        net_node(m, "MatMul", 2, (const char *[]){from, "v"}, to);
    }
    snprintf(from, sizeof from, "s%d", steps);
    net_node(m, "Relu", 1, (const char *[]){from}, "y");
    CHECK_OK(eng_graph_add_output(m->graph, net_value(m, "y", 2, (int64_t[]){first, 8}), &st));
    CHECK_OK(eng_model_finish(m, NULL, &st));
    return m;
}

/* y [N, 2]: what lies in x [N, 2] less the mean over all rows: rows are not independent. */
OD_UNUSED static eng_model *net_mixing_rows(void)
{
    eng_model *m = NULL;
    CHECK_OK(eng_model_create(&m, &st));
    CHECK_OK(eng_graph_add_input(m->graph, net_value(m, "x", 2, (int64_t[]){-1, 2}), &st));
    eng_node *n = eng_graph_add_node(m->graph, "ReduceMean", "mean", 1, 1, 1);
    n->opset = 17;
    n->in[0] = eng_graph_value(m->graph, "x");
    n->out[0] = eng_graph_value(m->graph, "mean");
    static const int64_t first[] = {0};
    n->attrs[0] = (eng_attr){.name = "axes", .kind = ENG_ATTR_INTS, .n = 1, .ints = first};
    net_node(m, "Sub", 2, (const char *[]){"x", "mean"}, "y");
    CHECK_OK(eng_graph_add_output(m->graph, net_value(m, "y", 2, (int64_t[]){-1, 2}), &st));
    CHECK_OK(eng_model_finish(m, NULL, &st));
    return m;
}

/* y [N] = table[x [N]], a table of 4: other indices are errors that only running finds. */
OD_UNUSED static eng_model *net_lookup(void)
{
    static float table[4] = {10, 11, 12, 13};
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 1, .dims = {4}, .data = table};
    eng_model *m = NULL;
    CHECK_OK(eng_model_create(&m, &st));
    int x = net_value(m, "x", 1, (int64_t[]){-1});
    m->graph->values[x].dtype = ENG_INT64;
    CHECK_OK(eng_graph_add_input(m->graph, x, &st));
    CHECK_OK(eng_graph_set_constant(m->graph, eng_graph_value(m->graph, "t"), &t, &st));
    net_node(m, "Gather", 2, (const char *[]){"t", "x"}, "y");
    CHECK_OK(eng_graph_add_output(m->graph, net_value(m, "y", 1, (int64_t[]){-1}), &st));
    CHECK_OK(eng_model_finish(m, NULL, &st));
    return m;
}

#endif
