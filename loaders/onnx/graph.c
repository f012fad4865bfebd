/* graph.c - GraphProto into eng_graph: values, constants, nodes. */
#include "loaders/onnx/build.h"

#include <stdio.h>
#include <string.h>

enum { NODE_BYTES = 256, VALUE_BYTES = 320 /* roughly what these take in a model */ };

/* The value that `name` means; it must not be empty. */
static od_code value_of(ldr_build *b, eng_graph *g, const ldr_scope *scope, const char *name, const char *what, int *v,
                        od_status *st)
{
    if (!name || !*name) return od_fail(st, OD_BAD_MODEL, "%s has no name", what);
    const char *actual = ldr_build_name(b, scope, name);
    if (actual && !*actual)
        return od_fail(st, OD_BAD_MODEL, "%s '%.60s' is a function's input, which the caller left out", what, name);
    OD_TRY(ldr_inline_charge(b, VALUE_BYTES + strlen(name), st));
    *v = actual ? eng_graph_value(g, actual) : ENG_NONE;
    return *v >= 0 ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for value '%.60s'", name);
}

static od_code set_constant(eng_graph *g, int v, const eng_tensor *t, od_status *st)
{
    eng_value *value = &g->values[v];
    if (value->constant) return od_fail(st, OD_BAD_MODEL, "value '%.60s' is set twice", value->name);
    value->dtype = t->dtype;
    value->rank = t->rank;
    memcpy(value->dims, t->dims, sizeof value->dims);
    return eng_graph_set_constant(g, v, t, st);
}

static od_code add_initializers(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__GraphProto *p,
                                od_status *st)
{
    int v;
    eng_tensor t;
    for (size_t i = 0; i < p->n_initializer; i++) {
        OD_TRY(value_of(b, g, scope, p->initializer[i]->name, "an initializer", &v, st));
        OD_TRY(ldr_inline_charge(b, ldr_tensor_cost(p->initializer[i]), st));
        OD_TRY(ldr_tensor_from_proto(p->initializer[i], &b->source, &t, st));
        OD_TRY(set_constant(g, v, &t, st));
    }
    b->source.floor = NULL; /* only the main graph's initializers lie in the file's buffer */
    for (size_t i = 0; i < p->n_sparse_initializer; i++) {
        const Onnx__SparseTensorProto *sparse = p->sparse_initializer[i];
        const char *name = sparse->values ? sparse->values->name : NULL;
        OD_TRY(value_of(b, g, scope, name, "a sparse initializer", &v, st));
        OD_TRY(ldr_inline_charge(b, LDR_INLINE_MAX / 64, st));
        OD_TRY(ldr_tensor_from_sparse(sparse, &b->source, &t, st));
        OD_TRY(set_constant(g, v, &t, st));
    }
    return OD_OK;
}

/* A declared type must agree with the constant that is there already. */
static od_code declare(ldr_build *b, eng_graph *g, int v, const Onnx__TypeProto *type, od_status *st)
{
    eng_dtype was = g->values[v].constant ? g->values[v].dtype : ENG_UNDEFINED;
    OD_TRY(ldr_type_apply(b, g, v, type, st));
    eng_value *value = &g->values[v];
    if (was && value->dtype != was)
        return od_fail(st, OD_BAD_MODEL, "'%.60s' is declared as %s, but its constant is %s", value->name,
                       eng_dtype_name(value->dtype), eng_dtype_name(was));
    return OD_OK;
}

/* Since IR 4 an initializer that is an input too is a default, which a request may replace and no pass may
 * build on. Before, every initializer had to be an input; exporters kept that habit for years, so a model of
 * some size that lists all of them means constants as well. */
static bool has_defaults(const ldr_build *b, const eng_graph *g, const ldr_scope *scope, const Onnx__GraphProto *p)
{
    enum { IR_DEFAULTS = 4, HABIT_MIN = 16 };
    size_t listed = 0;
    if (b->proto->ir_version < IR_DEFAULTS) return false;
    for (size_t i = 0; i < p->n_input; i++) {
        int v = scope->function || !p->input[i]->name ? ENG_NONE : eng_graph_find(g, p->input[i]->name);
        listed += v >= 0 && g->values[v].constant;
    }
    return listed < HABIT_MIN || listed < p->n_initializer + p->n_sparse_initializer;
}

static od_code add_inputs(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__GraphProto *p, od_status *st)
{
    bool defaults = has_defaults(b, g, scope, p);
    for (size_t i = 0; i < p->n_input; i++) {
        int v;
        OD_TRY(value_of(b, g, scope, p->input[i]->name, "a graph input", &v, st));
        OD_TRY(declare(b, g, v, p->input[i]->type, st));
        if (g->values[v].constant && !defaults) continue;
        OD_TRY(eng_graph_add_input(g, v, st));
    }
    return OD_OK;
}

static od_code add_outputs(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__GraphProto *p,
                           od_status *st)
{
    for (size_t i = 0; i < p->n_output; i++) {
        int v;
        OD_TRY(value_of(b, g, scope, p->output[i]->name, "a graph output", &v, st));
        OD_TRY(declare(b, g, v, p->output[i]->type, st));
        OD_TRY(eng_graph_add_output(g, v, st));
    }
    for (size_t i = 0; i < p->n_value_info; i++) {
        const Onnx__ValueInfoProto *info = p->value_info[i];
        const char *name = ldr_build_name(b, scope, info->name ? info->name : "");
        if (!name) return od_fail(st, OD_NO_MEMORY, "no memory for a name");
        int v = eng_graph_find(g, name);
        if (v >= 0) OD_TRY(declare(b, g, v, info->type, st)); /* exporters leave some of values that went */
    }
    return OD_OK;
}

/* ---- nodes -------------------------------------------------------------------------------- */

/* Which operators are unknown is told at the end, all at once. */
static void note_unknown(ldr_build *b, const Onnx__NodeProto *p)
{
    size_t used = strlen(b->unknown), room = sizeof b->unknown - used;
    char name[80];
    snprintf(name, sizeof name, "%.40s (%.30s)", p->op_type, p->domain);
    if (strstr(b->unknown, name)) return;
    if (b->n_unknown++ && room > strlen(name) + 3) snprintf(b->unknown + used, room, ", %s", name);
    else if (!used) snprintf(b->unknown, room, "%s", name);
}

static od_code connect(ldr_build *b, eng_graph *g, const ldr_scope *scope, size_t n, char *const *names, int *values,
                       od_status *st)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = ldr_build_name(b, scope, names[i]);
        if (!name) return od_fail(st, OD_NO_MEMORY, "no memory for a name");
        OD_TRY(ldr_inline_charge(b, VALUE_BYTES + strlen(name), st));
        values[i] = *name ? eng_graph_value(g, name) : ENG_NONE;
        if (*name && values[i] < 0) return od_fail(st, OD_NO_MEMORY, "no memory for value '%.60s'", name);
    }
    return OD_OK;
}

static od_code add_constant(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__NodeProto *p,
                            const ldr_attr *attrs, int n_attrs, od_status *st)
{
    int v;
    eng_tensor t;
    if (n_attrs != 1 || p->n_output != 1 || p->n_input)
        return od_fail(st, OD_BAD_MODEL, "%d attributes, %zu inputs and %zu outputs; wanted 1, 0 and 1", n_attrs,
                       p->n_input, p->n_output);
    OD_TRY(value_of(b, g, scope, p->output[0], "its output", &v, st));
    OD_TRY(ldr_attr_constant(b, attrs, &t, st));
    return set_constant(g, v, &t, st);
}

static od_code add_operator(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__NodeProto *p,
                            const ldr_attr *attrs, int n_attrs, int depth, od_status *st)
{
    eng_domain domain;
    if (!ldr_domain(p->domain, &domain)) {
        note_unknown(b, p);
        return OD_OK;
    }
    if (!scope->opset[domain])
        return od_fail(st, OD_BAD_MODEL, "the model imports no operator set for its domain");
    if (domain == ENG_DOMAIN_ONNX && !strcmp(p->op_type, "Constant"))
        return add_constant(b, g, scope, p, attrs, n_attrs, st);
    OD_TRY(ldr_inline_charge(b, NODE_BYTES, st));
    eng_node *n = eng_graph_add_node(g, p->op_type, p->name ? p->name : "", (int)p->n_input, (int)p->n_output, n_attrs);
    if (!n) return od_fail(st, OD_NO_MEMORY, "no memory for a node");
    n->domain = domain;
    n->opset = scope->opset[domain];
    OD_TRY(connect(b, g, scope, p->n_input, p->input, n->in, st));
    OD_TRY(connect(b, g, scope, p->n_output, p->output, n->out, st));
    for (int i = 0; i < n_attrs; i++) OD_TRY(ldr_attr_copy(b, g, &attrs[i], depth, &n->attrs[i], st));
    return OD_OK;
}

od_code ldr_build_node(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__NodeProto *p, int depth,
                       od_status *st)
{
    ldr_attr *attrs;
    int n_attrs;
    if (!p->op_type || !*p->op_type)
        return od_fail(st, OD_BAD_MODEL, "node '%.60s' has no operator", p->name ? p->name : "");
    const Onnx__FunctionProto *f = ldr_function_find(b, p);
    ldr_heap_mark mark = ldr_heap_save(b->heap); /* names and lists of attributes serve one node */
    od_code rc;
    if (f) {
        rc = ldr_function_inline(b, g, scope, p, f, depth, st);
    } else {
        rc = ldr_attrs_resolve(b, scope, p, &attrs, &n_attrs, st);
        if (rc == OD_OK) rc = add_operator(b, g, scope, p, attrs, n_attrs, depth, st);
        if (rc != OD_OK && rc != OD_TOO_LARGE) od_note(st, "node '%.60s' (%.40s)", p->name ? p->name : "", p->op_type);
    }
    ldr_heap_rewind(b->heap, mark);
    return rc;
}

od_code ldr_build_graph(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__GraphProto *p, int depth,
                        od_status *st)
{
    if (depth > LDR_GRAPH_DEPTH)
        return od_fail(st, OD_TOO_LARGE, "subgraphs are nested more than %d deep", LDR_GRAPH_DEPTH);
    OD_TRY(add_initializers(b, g, scope, p, st));
    OD_TRY(add_inputs(b, g, scope, p, st));
    for (size_t i = 0; i < p->n_node; i++) OD_TRY(ldr_build_node(b, g, scope, p->node[i], depth, st));
    return add_outputs(b, g, scope, p, st);
}
