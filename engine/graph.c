/* graph.c - building graphs: values by name, nodes, attributes. */
#include "engine/graph.h"
#include "engine/lazy.h"

#include <stdlib.h>
#include <string.h>

/* Open addressing from a name to a value, in the model's arena. */
struct eng_names {
    int *slots; /* value + 1; 0: free */
    int cap;    /* a power of two, at least twice the values */
    int used;
};

static uint64_t hash_name(const char *s)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

static int *find_slot(const eng_graph *g, const char *name)
{
    const struct eng_names *n = g->names;
    for (uint64_t at = hash_name(name);; at++) {
        int *slot = &n->slots[at & (uint64_t)(n->cap - 1)];
        if (!*slot || !strcmp(g->values[*slot - 1].name, name)) return slot;
    }
}

static bool grow_names(eng_graph *g)
{
    struct eng_names *n = g->names;
    if (n->used * 2 < n->cap) return true;
    int *old = n->slots, old_cap = n->cap;
    int *slots = od_arena_array(&g->model->arena, int, (int64_t)old_cap * 2);
    if (!slots) return false;
    n->slots = slots;
    n->cap = old_cap * 2;
    for (int i = 0; i < old_cap; i++)
        if (old[i]) *find_slot(g, g->values[old[i] - 1].name) = old[i];
    return true;
}

/* Room for one more element in an array of the model's arena. */
static bool grow(od_arena *a, void **array, int n, int *cap, size_t size)
{
    if (n < *cap) return true;
    if (*cap > INT32_MAX / 4) return false;
    int more = *cap ? *cap * 2 : 16;
    void *bigger = od_arena_calloc(a, (size_t)more, size);
    if (!bigger) return false;
    if (n) memcpy(bigger, *array, (size_t)n * size);
    *array = bigger;
    *cap = more;
    return true;
}

od_code eng_model_create(eng_model **out, od_status *st)
{
    eng_model *m = calloc(1, sizeof *m);
    if (m && (m->graph = calloc(1, sizeof *m->graph)) && eng_graph_init(m->graph, m, NULL, "")) {
        *out = m;
        return OD_OK;
    }
    eng_model_destroy(m);
    return od_fail(st, OD_NO_MEMORY, "no memory for a model");
}

bool eng_graph_init(eng_graph *g, eng_model *m, eng_graph *parent, const char *name)
{
    *g = (eng_graph){.model = m, .parent = parent, .name = od_arena_strdup(&m->arena, name, strlen(name))};
    g->names = od_arena_array(&m->arena, struct eng_names, 1);
    if (!g->name || !g->names) return false;
    g->names->cap = 64;
    g->names->slots = od_arena_array(&m->arena, int, 64);
    return g->names->slots;
}

eng_graph *eng_graph_create(eng_model *m, eng_graph *parent, const char *name)
{
    eng_graph *g = od_arena_array(&m->arena, eng_graph, 1);
    return g && eng_graph_init(g, m, parent, name) ? g : NULL;
}

bool eng_graph_reserve(eng_graph *g, int values, int nodes)
{
    od_arena *a = &g->model->arena;
    g->values = od_arena_array(a, eng_value, values);
    g->nodes = od_arena_array(a, eng_node, nodes);
    g->cap_values = values;
    g->cap_nodes = nodes;
    return g->values && g->nodes;
}

int eng_graph_find(const eng_graph *g, const char *name)
{
    return *name ? *find_slot(g, name) - 1 : ENG_NONE;
}

int eng_graph_value(eng_graph *g, const char *name)
{
    int v = eng_graph_find(g, name);
    return v >= 0 ? v : eng_graph_add_value(g, name);
}

int eng_graph_add_value(eng_graph *g, const char *name)
{
    od_arena *a = &g->model->arena;
    char *copy = od_arena_strdup(a, name, strlen(name));
    if (!copy || !grow_names(g)) return ENG_NONE;
    if (!grow(a, (void **)&g->values, g->n_values, &g->cap_values, sizeof *g->values)) return ENG_NONE;
    int v = g->n_values++;
    g->values[v] = (eng_value){.name = copy, .rank = -1, .producer = ENG_NONE};
    if (*name) {
        *find_slot(g, name) = v + 1;
        g->names->used++;
    }
    return v;
}

const char *eng_dim_name(const eng_value *v, int axis)
{
    return v->dim_names ? v->dim_names[axis] : NULL;
}

static od_code add_port(eng_graph *g, int **list, int *n, int *cap, int value, const char *what, od_status *st)
{
    if (!grow(&g->model->arena, (void **)list, *n, cap, sizeof **list))
        return od_fail(st, OD_NO_MEMORY, "no memory for %s %d", what, *n);
    (*list)[(*n)++] = value;
    return OD_OK;
}

od_code eng_graph_add_input(eng_graph *g, int value, od_status *st)
{
    for (int i = 0; i < g->n_inputs; i++)
        if (g->inputs[i] == value)
            return od_fail(st, OD_BAD_MODEL, "input '%s' is declared twice", g->values[value].name);
    return add_port(g, &g->inputs, &g->n_inputs, &g->cap_inputs, value, "input", st);
}

od_code eng_graph_add_output(eng_graph *g, int value, od_status *st)
{
    return add_port(g, &g->outputs, &g->n_outputs, &g->cap_outputs, value, "output", st);
}

int *eng_ports(eng_graph *g, int n)
{
    enum { SPARE = 4 };
    int *ports = n > INT32_MAX - SPARE ? NULL : od_arena_array(&g->model->arena, int, n + SPARE);
    for (int k = n; ports && k < n + SPARE; k++) ports[k] = ENG_NONE;
    return ports;
}

eng_node *eng_graph_add_node(eng_graph *g, const char *op_type, const char *name, int n_in, int n_out, int n_attrs)
{
    od_arena *a = &g->model->arena;
    if (!grow(a, (void **)&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes)) return NULL;
    eng_node *n = &g->nodes[g->n_nodes];
    *n = (eng_node){.n_in = n_in, .n_out = n_out, .n_attrs = n_attrs};
    n->op_type = od_arena_strdup(a, op_type, strlen(op_type));
    n->name = od_arena_strdup(a, name, strlen(name));
    n->in = eng_ports(g, n_in);
    n->out = eng_ports(g, n_out);
    n->attrs = od_arena_array(a, eng_attr, n_attrs);
    if (!n->op_type || !n->name || !n->in || !n->out || !n->attrs) return NULL;
    g->n_nodes++;
    return n;
}

od_code eng_graph_set_constant(eng_graph *g, int v, const eng_tensor *t, od_status *st)
{
    eng_tensor *copy = od_arena_array(&g->model->arena, eng_tensor, 1);
    if (!copy) return od_fail(st, OD_NO_MEMORY, "no memory for constant '%s'", g->values[v].name);
    *copy = *t;
    g->values[v].constant = copy;
    return OD_OK;
}

const eng_attr *eng_node_attr(const eng_node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (n->attrs[i].name && !strcmp(n->attrs[i].name, name)) return &n->attrs[i];
    return NULL;
}

int64_t eng_node_int(const eng_node *n, const char *name, int64_t otherwise)
{
    const eng_attr *a = eng_node_attr(n, name);
    return a && a->kind == ENG_ATTR_INT ? a->i : otherwise;
}

float eng_node_float(const eng_node *n, const char *name, float otherwise)
{
    const eng_attr *a = eng_node_attr(n, name);
    return a && a->kind == ENG_ATTR_FLOAT ? a->f : otherwise;
}

bool eng_node_string_is(const eng_node *n, const char *name, const char *otherwise, const char *want)
{
    const eng_attr *a = eng_node_attr(n, name);
    if (!a || a->kind != ENG_ATTR_STRING) return !strcmp(otherwise, want);
    return a->s.len == strlen(want) && !memcmp(a->s.ptr, want, a->s.len);
}

const int64_t *eng_node_ints(const eng_node *n, const char *name, int64_t *count)
{
    const eng_attr *a = eng_node_attr(n, name);
    bool have = a && a->kind == ENG_ATTR_INTS;
    *count = have ? a->n : 0;
    return have ? a->ints : NULL;
}

const float *eng_node_floats(const eng_node *n, const char *name, int64_t *count)
{
    const eng_attr *a = eng_node_attr(n, name);
    bool have = a && a->kind == ENG_ATTR_FLOATS;
    *count = have ? a->n : 0;
    return have ? a->floats : NULL;
}

enum { PROBED_CONSTANT_MAX = 4096 }; /* elements; see eng_model.probing */

const eng_tensor *eng_node_weights(const eng_graph *g, const eng_node *n, int i)
{
    if (i >= n->n_in || n->in[i] < 0) return NULL;
    const eng_tensor *t = g->values[n->in[i]].constant;
    if (t && g->model->probing && eng_tensor_count(t) > PROBED_CONSTANT_MAX) return NULL;
    return t;
}

const eng_tensor *eng_node_constant(const eng_graph *g, const eng_node *n, int i)
{
    const eng_tensor *t = eng_node_weights(g, n, i);
    od_status st; /* eng_lazy_check has it too */
    return t && eng_lazy_load(g->model, t, &st) == OD_OK ? t : NULL;
}

/* ---- attributes that import rewrites ------------------------------------------------------ */

static eng_attr *attr_slot(eng_graph *g, eng_node *n, const char *name)
{
    od_arena *a = &g->model->arena;
    for (int i = 0; i < n->n_attrs; i++)
        if (n->attrs[i].name && !strcmp(n->attrs[i].name, name)) return &n->attrs[i];
    eng_attr *more = od_arena_array(a, eng_attr, (int64_t)n->n_attrs + 1);
    char *copy = od_arena_strdup(a, name, strlen(name));
    if (!more || !copy) return NULL;
    if (n->n_attrs) memcpy(more, n->attrs, (size_t)n->n_attrs * sizeof *more);
    n->attrs = more;
    more[n->n_attrs].name = copy;
    return &more[n->n_attrs++];
}

static od_code set_attr(eng_graph *g, eng_node *n, const char *name, eng_attr value, od_status *st)
{
    eng_attr *a = attr_slot(g, n, name);
    if (!a) return od_fail(st, OD_NO_MEMORY, "no memory for attribute '%s'", name);
    value.name = a->name;
    *a = value;
    return OD_OK;
}

od_code eng_node_set_int(eng_graph *g, eng_node *n, const char *name, int64_t value, od_status *st)
{
    return set_attr(g, n, name, (eng_attr){.kind = ENG_ATTR_INT, .i = value}, st);
}

od_code eng_node_set_float(eng_graph *g, eng_node *n, const char *name, float value, od_status *st)
{
    return set_attr(g, n, name, (eng_attr){.kind = ENG_ATTR_FLOAT, .f = value}, st);
}

od_code eng_node_set_string(eng_graph *g, eng_node *n, const char *name, const char *value, od_status *st)
{
    size_t len = strlen(value);
    char *copy = od_arena_strdup(&g->model->arena, value, len);
    if (!copy) return od_fail(st, OD_NO_MEMORY, "no memory for attribute '%s'", name);
    return set_attr(g, n, name, (eng_attr){.kind = ENG_ATTR_STRING, .s = {copy, len}}, st);
}

od_code eng_node_set_ints(eng_graph *g, eng_node *n, const char *name, const int64_t *v, int64_t count, od_status *st)
{
    int64_t *copy = od_arena_array(&g->model->arena, int64_t, count);
    if (!copy) return od_fail(st, OD_NO_MEMORY, "no memory for attribute '%s'", name);
    if (count) memcpy(copy, v, (size_t)count * sizeof *v);
    return set_attr(g, n, name, (eng_attr){.kind = ENG_ATTR_INTS, .ints = copy, .n = count}, st);
}

void eng_node_drop_attr(eng_node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (n->attrs[i].name && !strcmp(n->attrs[i].name, name)) n->attrs[i].name = NULL;
}

bool eng_node_set_inputs(eng_graph *g, eng_node *n, int count)
{
    if (count > n->n_in) {
        int *in = eng_ports(g, count);
        if (!in) return false;
        for (int i = 0; i < count; i++) in[i] = i < n->n_in ? n->in[i] : ENG_NONE;
        n->in = in;
    }
    for (int i = count; i < n->n_in; i++) n->in[i] = ENG_NONE;
    n->n_in = count;
    return true;
}

od_code eng_set_input_constant(eng_graph *g, eng_node *n, int slot, const eng_tensor *t, od_status *st)
{
    int v = eng_graph_value(g, "");
    if (v < 0 || (slot >= n->n_in && !eng_node_set_inputs(g, n, slot + 1)))
        return od_fail(st, OD_NO_MEMORY, "no memory for input %d", slot);
    n->in[slot] = v;
    return eng_graph_set_constant(g, v, t, st);
}

od_code eng_attr_to_input(eng_graph *g, eng_node *n, const char *name, int slot, bool scalar, od_status *st)
{
    const eng_attr *a = eng_node_attr(n, name);
    if (!a) return OD_OK;
    od_arena *arena = &g->model->arena;
    bool real = a->kind == ENG_ATTR_FLOAT || a->kind == ENG_ATTR_FLOATS;
    bool list = a->kind == ENG_ATTR_INTS || a->kind == ENG_ATTR_FLOATS;
    int64_t count = list ? a->n : 1;
    if (a->kind != ENG_ATTR_INT && !real && !list)
        return od_fail(st, OD_BAD_MODEL, "attribute '%s' is neither a number nor a list of numbers", name);
    eng_tensor t = {.dtype = real ? ENG_FLOAT : ENG_INT64, .rank = scalar && count == 1 ? 0 : 1, .dims = {count}};
    t.data = od_arena_alloc(arena, (size_t)count * eng_dtype_size(t.dtype));
    if (!t.data) return od_fail(st, OD_NO_MEMORY, "no memory for attribute '%s'", name);
    const void *from = list ? (real ? (const void *)a->floats : (const void *)a->ints)
                            : (real ? (const void *)&a->f : (const void *)&a->i);
    if (count) memcpy(t.data, from, (size_t)count * eng_dtype_size(t.dtype));
    eng_node_drop_attr(n, name);
    return eng_set_input_constant(g, n, slot, &t, st);
}

void *eng_model_alloc(eng_graph *g, size_t size)
{
    enum { COUNTED = 16384 };
    void *p = od_arena_zalloc(&g->model->arena, size);
    if (p && size >= COUNTED && !g->model->probing) g->model->packed_bytes += size;
    return p;
}

void eng_graph_each_read(const eng_graph *g, void (*fn)(const eng_tensor *t, void *arg), void *arg)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const eng_node *node = &g->nodes[i];
        for (int k = 0; !node->dead && k < node->n_in; k++)
            if (node->in[k] >= 0 && g->values[node->in[k]].constant) fn(g->values[node->in[k]].constant, arg);
        for (int k = 0; k < node->n_attrs; k++) {
            const eng_attr *a = &node->attrs[k];
            if (!a->name) continue;
            bool tensors = !node->dead && (a->kind == ENG_ATTR_TENSOR || a->kind == ENG_ATTR_TENSORS);
            for (int64_t t = 0; tensors && t < a->n; t++) fn(&a->tensors[t], arg);
            if (a->kind != ENG_ATTR_GRAPH && a->kind != ENG_ATTR_GRAPHS) continue;
            for (int64_t s = 0; s < a->n; s++)
                if (a->graphs[s]) eng_graph_each_read(a->graphs[s], fn, arg);
        }
    }
    for (int k = 0; k < g->n_outputs; k++)
        if (g->values[g->outputs[k]].constant) fn(g->values[g->outputs[k]].constant, arg);
    for (int k = 0; k < g->n_inputs; k++)
        if (g->values[g->inputs[k]].constant) fn(g->values[g->inputs[k]].constant, arg); /* a default */
}

typedef struct overlap {
    const char *from, *to;
    int n;
} overlap;

static void count_overlap(const eng_tensor *t, void *arg)
{
    overlap *o = arg;
    const char *data = t->data;
    o->n += data && data < o->to && data + eng_tensor_bytes(t) > o->from;
}

int eng_graph_uses(const eng_graph *g, const eng_tensor *w)
{
    const char *data = w->data;
    overlap o = {data, data + eng_tensor_bytes(w), 0};
    eng_graph_each_read(g, count_overlap, &o);
    return o.n;
}

/* ---- order and links ---------------------------------------------------------------------- */

od_code eng_graph_link(eng_graph *g, od_status *st)
{
    for (int v = 0; v < g->n_values; v++) g->values[v].producer = ENG_NONE;
    for (int i = 0; i < g->n_nodes; i++) {
        eng_node *n = &g->nodes[i];
        if (n->dead) continue;
        for (int k = 0; k < n->n_out; k++) {
            if (n->out[k] < 0) continue;
            eng_value *v = &g->values[n->out[k]];
            if (v->producer != ENG_NONE)
                return od_fail(st, OD_BAD_MODEL, "value '%s' is made twice: by node %d '%s' and node %d '%s'", v->name,
                               v->producer, g->nodes[v->producer].name, i, n->name);
            if (v->constant)
                return od_fail(st, OD_BAD_MODEL, "value '%s' is an initializer and an output of node %d '%s'",
                               v->name, i, n->name);
            v->producer = i;
        }
    }
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        if (v->producer != ENG_NONE)
            return od_fail(st, OD_BAD_MODEL, "graph input '%s' is made by node %d '%s'", v->name, v->producer,
                           g->nodes[v->producer].name);
    }
    return OD_OK;
}

/* Depth-first from node `i` with an explicit stack, so that a deep file cannot use up ours. */
static od_code visit(eng_graph *g, int root, char *mark, int *stack, int *at, int *order, int *n_order, od_status *st)
{
    enum { OPEN = 1, DONE = 2 };
    int depth = 0;
    stack[depth++] = root;
    mark[root] = OPEN;
    at[root] = 0;
    while (depth) {
        int i = stack[depth - 1];
        const eng_node *n = &g->nodes[i];
        if (at[i] == n->n_in) {
            mark[i] = DONE;
            order[(*n_order)++] = i;
            depth--;
            continue;
        }
        int v = n->in[at[i]++];
        int p = v >= 0 ? g->values[v].producer : ENG_NONE;
        if (p < 0 || mark[p] == DONE) continue;
        if (mark[p] == OPEN)
            return od_fail(st, OD_BAD_MODEL, "a cycle: node %d '%s' (%s) needs '%s', which needs that node", i, n->name,
                           n->op_type, g->values[v].name);
        mark[p] = OPEN;
        at[p] = 0;
        stack[depth++] = p;
    }
    return OD_OK;
}

od_code eng_graph_sort(eng_graph *g, od_status *st)
{
    OD_TRY(eng_graph_link(g, st));
    od_arena tmp = {0};
    int n = g->n_nodes, n_order = 0;
    od_code rc = OD_OK;
    char *mark = od_arena_array(&tmp, char, n);
    int *stack = od_arena_array(&tmp, int, n), *at = od_arena_array(&tmp, int, n), *order = od_arena_array(&tmp, int, n);
    eng_node *sorted = od_arena_array(&tmp, eng_node, n);
    if (!mark || !stack || !at || !order || !sorted) {
        rc = od_fail(st, OD_NO_MEMORY, "no memory to sort %d nodes", n);
        goto done;
    }
    for (int i = 0; i < n && rc == OD_OK; i++)
        if (!mark[i] && !g->nodes[i].dead) rc = visit(g, i, mark, stack, at, order, &n_order, st);
    if (rc != OD_OK) goto done;
    for (int i = 0; i < n_order; i++) sorted[i] = g->nodes[order[i]];
    if (n_order) memcpy(g->nodes, sorted, (size_t)n_order * sizeof *sorted);
    g->n_nodes = n_order;
    rc = eng_graph_link(g, st);
done:
    od_arena_fini(&tmp);
    return rc;
}
