/* branch.c - an If whose condition is known is the branch it takes. */
#include "engine/passes/passes.h"

#include <string.h>

static const eng_graph *taken_branch(const eng_rewrite *r, const eng_node *n)
{
    const eng_tensor *condition = eng_node_is(n, "If") && n->n_in > 0 ? eng_rewrite_constant(r, n->in[0]) : NULL;
    if (!condition || condition->dtype != ENG_BOOL || eng_tensor_count(condition) != 1) return NULL;
    const eng_attr *a = eng_node_attr(n, eng_tensor_int(condition, 0) ? "then_branch" : "else_branch");
    return a && a->kind == ENG_ATTR_GRAPH && a->n == 1 ? a->graphs[0] : NULL;
}

/* Where the branch's inputs, captures of the graph around it, lie among the node's: behind the condition, those of
 * all graphs in the order of the attributes. */
static int first_input(const eng_node *n, const eng_graph *branch)
{
    int at = 1;
    for (int k = 0; k < n->n_attrs; k++) {
        if (!n->attrs[k].name || n->attrs[k].kind != ENG_ATTR_GRAPH) continue;
        if (n->attrs[k].graphs[0] == branch) return at;
        at += n->attrs[k].graphs[0]->n_captures;
    }
    return at;
}

/* A node of `g` like `from`, a node of the branch; `map` gives the values of g for those of the branch. */
static od_code copy_node(eng_graph *g, const eng_node *from, const int *map, od_status *st)
{
    eng_node *n = eng_graph_add_node(g, from->op_type, from->name, from->n_in, from->n_out, from->n_attrs);
    if (!n) return od_fail(st, OD_NO_MEMORY, "no memory for a node");
    n->domain = from->domain;
    n->opset = from->opset;
    n->op = from->op;
    n->fused = from->fused;
    n->chain = from->chain;
    for (int k = 0; k < from->n_in; k++) n->in[k] = from->in[k] < 0 ? ENG_NONE : map[from->in[k]];
    for (int k = 0; k < from->n_out; k++) n->out[k] = from->out[k] < 0 ? ENG_NONE : map[from->out[k]];
    for (int k = 0; k < from->n_attrs; k++) {
        n->attrs[k] = from->attrs[k];
        for (int64_t j = 0; n->attrs[k].graphs && j < n->attrs[k].n; j++)
            if (n->attrs[k].graphs[j]) n->attrs[k].graphs[j]->parent = g;
    }
    return OD_OK;
}

static od_code same_as(eng_graph *g, int from, int to, const char *name, od_status *st)
{
    eng_node *n = eng_graph_add_node(g, "Identity", name, 1, 1, 0);
    if (!n) return od_fail(st, OD_NO_MEMORY, "no memory for a node");
    n->opset = 16;
    n->op = eng_op_find(ENG_DOMAIN_ONNX, "Identity", n->opset);
    n->in[0] = from;
    n->out[0] = to;
    return n->op ? OD_OK : od_fail(st, OD_UNSUPPORTED, "no operator Identity");
}

static od_code inline_branch(eng_rewrite *r, int node, const eng_graph *b, od_status *st)
{
    eng_graph *g = r->g;
    int *map = od_arena_array(r->tmp, int, b->n_values), at = first_input(&g->nodes[node], b);
    const eng_node n = g->nodes[node]; /* the array may move */
    if (!map) return od_fail(st, OD_NO_MEMORY, "no memory for %d values of a branch", b->n_values);
    for (int v = 0; v < b->n_values; v++) {
        int input = 0;
        while (input < b->n_inputs && b->inputs[input] != v) input++;
        map[v] = input < b->n_inputs ? n.in[at + input] : eng_graph_value(g, "");
        if (map[v] < 0) return od_fail(st, OD_NO_MEMORY, "no memory for a value");
        if (input < b->n_inputs) continue;
        g->values[map[v]].constant = b->values[v].constant;
        g->values[map[v]].dtype = b->values[v].dtype;
        g->values[map[v]].rank = -1;
    }
    for (int i = 0; i < b->n_nodes; i++)
        if (!b->nodes[i].dead) OD_TRY(copy_node(g, &b->nodes[i], map, st));
    eng_rewrite_kill(r, &g->nodes[node]);
    for (int k = 0; k < n.n_out; k++)
        if (n.out[k] >= 0) OD_TRY(same_as(g, map[b->outputs[k]], n.out[k], n.name, st));
    return OD_OK;
}

od_code eng_pass_branch(eng_rewrite *r, od_status *st)
{
    int n_nodes = r->g->n_nodes;
    for (int i = 0; i < n_nodes; i++) {
        const eng_node *n = &r->g->nodes[i];
        const eng_graph *b = n->dead ? NULL : taken_branch(r, n);
        if (!b || b->n_outputs < n->n_out || b->n_inputs != b->n_captures) continue;
        if (first_input(n, b) + b->n_inputs > n->n_in) continue;
        OD_TRY(inline_branch(r, i, b, st));
    }
    return OD_OK;
}
