/* compact.c - after the passes: what is left of a model, without all that loading and rewriting have made on the way.
 *
 * Graphs are copied into a new arena, values that nobody reads or writes left out, and the rest numbered anew: plans
 * and sessions hold something for each value. Bytes of constants stay where they are if their chunk is full of such,
 * and move otherwise. */
#include "engine/chain.h"
#include "engine/graph.h"
#include "engine/lazy.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of constants that overlap, in the old arena. */
typedef struct extent {
    char *from, *to;
    char *now; /* where they lie in the new one */
} extent;

typedef struct compaction {
    eng_model *m;
    od_arena old;
    extent *extents; /* ascending */
    int n, cap;
    bool failed; /* no memory */
} compaction;

/* ---- bytes of constants --------------------------------------------------------------------- */

static void note_extent(const eng_tensor *t, void *arg)
{
    compaction *c = arg;
    char *data = t->data;
    if (!data || !od_arena_holds(&c->old, data)) return;
    if (c->n == c->cap) {
        int cap = c->cap ? c->cap * 2 : 256;
        extent *more = c->cap > INT32_MAX / 4 ? NULL : realloc(c->extents, (size_t)cap * sizeof *more);
        if (!more) {
            c->failed = true;
            return;
        }
        c->extents = more;
        c->cap = cap;
    }
    size_t size = eng_tensor_bytes(t);
    c->extents[c->n++] = (extent){data, data + (size ? size : 1), NULL};
}

static int by_place(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

static void join_extents(compaction *c)
{
    int n = 0;
    if (c->n) qsort(c->extents, (size_t)c->n, sizeof *c->extents, by_place);
    for (int i = 0; i < c->n; i++) {
        extent *last = n ? &c->extents[n - 1] : NULL;
        if (last && c->extents[i].from < last->to) {
            if (c->extents[i].to > last->to) last->to = c->extents[i].to;
        } else {
            c->extents[n++] = c->extents[i];
        }
    }
    c->n = n;
}

/* The last extent that begins at `p` or before. */
static extent *find(const compaction *c, const char *p)
{
    int low = 0, high = c->n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (c->extents[middle].from <= p) low = middle + 1;
        else high = middle;
    }
    return low ? &c->extents[low - 1] : NULL;
}

/* Does a chunk hold so much of constants that it stays whole? Then they stay. */
static bool is_full(const void *bytes, size_t size, void *arg)
{
    const compaction *c = arg;
    const char *begin = bytes, *end = begin + size;
    size_t used = 0;
    for (int i = 0; i < c->n; i++)
        if (c->extents[i].from >= begin && c->extents[i].from < end) used += (size_t)(c->extents[i].to - c->extents[i].from);
    if (used < size / 4) return false;
    for (int i = 0; i < c->n; i++)
        if (c->extents[i].from >= begin && c->extents[i].from < end) c->extents[i].now = c->extents[i].from;
    return true;
}

static bool move_extents(compaction *c)
{
    for (int i = 0; i < c->n; i++) {
        extent *e = &c->extents[i];
        if (e->now) continue;
        size_t size = (size_t)(e->to - e->from);
        if (!(e->now = od_arena_alloc(&c->m->arena, size))) return false;
        memcpy(e->now, e->from, size);
    }
    return true;
}

static void *moved(const compaction *c, void *data)
{
    const extent *e = find(c, data);
    return e && (char *)data < e->to ? e->now + ((char *)data - e->from) : data;
}

/* ---- graphs --------------------------------------------------------------------------------- */

static char *copy_text(compaction *c, const char *s, size_t len)
{
    char *copy = od_arena_strdup(&c->m->arena, s ? s : "", len);
    if (!copy) c->failed = true;
    return copy;
}

static void *copy_bytes(compaction *c, const void *from, size_t count, size_t size)
{
    void *to = od_arena_calloc(&c->m->arena, count, size);
    if (!to) c->failed = true;
    else if (count) memcpy(to, from, count * size);
    return to;
}

static const eng_tensor *copy_tensors(compaction *c, const eng_tensor *from, int64_t n)
{
    eng_tensor *to = copy_bytes(c, from, (size_t)n, sizeof *from);
    for (int64_t i = 0; to && i < n; i++) {
        to[i].data = moved(c, to[i].data);
        eng_str *s = to[i].dtype == ENG_STRING ? to[i].data : NULL;
        int64_t count = s ? eng_tensor_count(&to[i]) : 0;
        for (int64_t k = 0; k < count; k++) s[k].ptr = copy_text(c, s[k].ptr, s[k].len);
    }
    return to;
}

static void copy_graph(compaction *c, const eng_graph *from, eng_graph *to);

static void copy_attr(compaction *c, eng_graph *g, eng_attr *a)
{
    size_t n = (size_t)a->n;
    a->name = a->name ? copy_text(c, a->name, strlen(a->name)) : NULL;
    switch (a->kind) {
    case ENG_ATTR_INT:
    case ENG_ATTR_FLOAT: return;
    case ENG_ATTR_STRING: a->s.ptr = copy_text(c, a->s.ptr, a->s.len); return;
    case ENG_ATTR_INTS: a->ints = copy_bytes(c, a->ints, n, sizeof *a->ints); return;
    case ENG_ATTR_FLOATS: a->floats = copy_bytes(c, a->floats, n, sizeof *a->floats); return;
    case ENG_ATTR_STRINGS: {
        eng_str *s = copy_bytes(c, a->strings, n, sizeof *s);
        for (size_t i = 0; s && i < n; i++) s[i].ptr = copy_text(c, s[i].ptr, s[i].len);
        a->strings = s;
        return;
    }
    case ENG_ATTR_TENSOR:
    case ENG_ATTR_TENSORS: a->tensors = copy_tensors(c, a->tensors, a->n); return;
    case ENG_ATTR_GRAPH:
    case ENG_ATTR_GRAPHS: {
        eng_graph **graphs = copy_bytes(c, a->graphs, n, sizeof *graphs);
        for (size_t i = 0; graphs && i < n && !c->failed; i++) {
            const eng_graph *from = graphs[i];
            if ((graphs[i] = eng_graph_create(c->m, g, from->name))) copy_graph(c, from, graphs[i]);
            else c->failed = true;
        }
        a->graphs = graphs;
        return;
    }
    }
}

/* `map`: new numbers by old ones; NULL: they stay. */
static int *copy_ports(compaction *c, eng_graph *g, const int *from, int n, const int *map)
{
    int *to = eng_ports(g, n);
    if (!to) c->failed = true;
    for (int k = 0; to && k < n; k++) to[k] = map && from[k] >= 0 ? map[from[k]] : from[k];
    return to;
}

static void copy_node(compaction *c, eng_graph *g, eng_node *n, const int *map)
{
    int kept = 0;
    n->name = copy_text(c, n->name, strlen(n->name));
    n->op_type = copy_text(c, n->op_type, strlen(n->op_type));
    n->in = copy_ports(c, g, n->in, n->n_in, map);
    n->out = copy_ports(c, g, n->out, n->n_out, map);
    n->params = NULL; /* prepared anew */
    eng_attr *attrs = copy_bytes(c, n->attrs, (size_t)n->n_attrs, sizeof *attrs);
    for (int i = 0; attrs && i < n->n_attrs; i++)
        if (attrs[i].name) attrs[kept++] = attrs[i];
    n->attrs = attrs;
    n->n_attrs = attrs ? kept : 0;
    for (int i = 0; i < n->n_attrs && !c->failed; i++) copy_attr(c, g, &attrs[i]);
    if (!n->chain || c->failed) return;
    struct eng_chain *chain = od_arena_alloc(&c->m->arena, ENG_CHAIN_BYTES(n->chain->n_steps));
    if (chain) memcpy(chain, n->chain, ENG_CHAIN_BYTES(n->chain->n_steps));
    else c->failed = true;
    for (int i = 0; chain && i < chain->n_steps && !c->failed; i++) copy_node(c, g, &chain->steps[i], NULL);
    n->chain = chain;
}

static void mark(int *map, const int *list, int n)
{
    for (int i = 0; i < n; i++)
        if (list[i] >= 0) map[list[i]] = 1;
}

/* New numbers of the values that are in use; ENG_NONE: of others. */
static int *number_values(const eng_graph *g, int *n)
{
    int *map = calloc((size_t)g->n_values + 1, sizeof *map);
    if (!map) return NULL;
    mark(map, g->inputs, g->n_inputs);
    mark(map, g->outputs, g->n_outputs);
    for (int i = 0; i < g->n_nodes; i++) {
        mark(map, g->nodes[i].in, g->nodes[i].n_in);
        mark(map, g->nodes[i].out, g->nodes[i].n_out);
    }
    *n = 0;
    for (int v = 0; v < g->n_values; v++) map[v] = map[v] ? (*n)++ : ENG_NONE;
    return map;
}

static void copy_values(compaction *c, const eng_graph *from, eng_graph *to, const int *map)
{
    for (int v = 0; v < from->n_values && !c->failed; v++) {
        if (map[v] < 0) continue;
        const eng_value *old = &from->values[v];
        int w = eng_graph_add_value(to, old->name);
        if (w < 0) {
            c->failed = true;
            return;
        }
        eng_value *value = &to->values[w];
        *value = (eng_value){.name = value->name, .dtype = old->dtype, .rank = old->rank, .producer = old->producer};
        memcpy(value->dims, old->dims, sizeof value->dims);
        if (old->constant) value->constant = copy_tensors(c, old->constant, 1);
        if (!old->dim_names) continue;
        value->dim_names = copy_bytes(c, old->dim_names, (size_t)old->rank, sizeof *value->dim_names);
        for (int d = 0; value->dim_names && d < old->rank; d++)
            if (old->dim_names[d]) value->dim_names[d] = copy_text(c, old->dim_names[d], strlen(old->dim_names[d]));
    }
}

/* The guesses were for passes. */
static void copy_probe(compaction *c, const eng_graph *from, eng_graph *to, const int *map)
{
    if (!from->probe) return;
    for (int v = 0; v < from->n_probe; v++) to->n_probe += map[v] >= 0; /* they come first */
    to->probe = od_arena_array(&c->m->arena, eng_tensor, to->n_probe);
    if (!to->probe) c->failed = true;
    for (int v = 0; to->probe && v < from->n_probe; v++)
        if (map[v] >= 0) to->probe[map[v]] = from->probe[v];
}

/* `to` is empty. */
static void copy_graph(compaction *c, const eng_graph *from, eng_graph *to)
{
    int n = 0, *map = number_values(from, &n);
    if (!map || !eng_graph_reserve(to, n, from->n_nodes)) {
        free(map);
        c->failed = true;
        return;
    }
    copy_values(c, from, to, map);
    copy_probe(c, from, to, map);
    to->inputs = copy_ports(c, to, from->inputs, from->n_inputs, map);
    to->outputs = copy_ports(c, to, from->outputs, from->n_outputs, map);
    to->n_inputs = to->cap_inputs = from->n_inputs;
    to->n_outputs = to->cap_outputs = from->n_outputs;
    to->n_captures = from->n_captures;
    for (int i = 0; i < from->n_nodes && !c->failed; i++) {
        to->nodes[i] = from->nodes[i];
        copy_node(c, to, &to->nodes[i], map);
    }
    to->n_nodes = from->n_nodes;
    free(map);
}

static void copy_list(compaction *c, const char ***list, int n)
{
    const char **to = copy_bytes(c, *list, (size_t)n, sizeof *to);
    for (int i = 0; to && i < n; i++) to[i] = copy_text(c, to[i], strlen(to[i]));
    *list = to;
}

static void copy_info(compaction *c, eng_model_info *info)
{
    const char **texts[] = {&info->producer, &info->domain, &info->description};
    for (size_t i = 0; i < OD_COUNT(texts); i++)
        if (*texts[i]) *texts[i] = copy_text(c, *texts[i], strlen(*texts[i]));
    copy_list(c, &info->metadata_keys, info->n_metadata);
    copy_list(c, &info->metadata_values, info->n_metadata);
}

static void find_nested(const eng_tensor *t, void *arg)
{
    bool *nested = arg;
    *nested |= t->dtype >= ENG_SEQUENCE;
}

od_code eng_model_compact(eng_model *m, od_status *st)
{
    eng_graph graph = *m->graph;
    eng_model_info info = m->info;
    struct eng_lazies *lazies = m->lazies;
    compaction c = {.m = m, .old = m->arena};
    bool nested = false;
    eng_graph_each_read(&graph, find_nested, &nested);
    if (nested) return OD_OK;
    eng_graph_each_read(&graph, note_extent, &c);
    join_extents(&c);
    m->arena = (od_arena){.limit = c.old.limit, .budget = c.old.budget};
    od_arena_move(&m->arena, &c.old, is_full, &c);
    if (!eng_graph_init(m->graph, m, NULL, graph.name) || !move_extents(&c) || !eng_lazies_move(m)) c.failed = true;
    if (!c.failed) copy_info(&c, &m->info);
    if (!c.failed) copy_graph(&c, &graph, m->graph);
    free(c.extents);
    if (c.failed) { /* as it was, but for strings that lie elsewhere now */
        od_arena_move(&c.old, &m->arena, NULL, NULL);
        m->arena = c.old;
        *m->graph = graph;
        m->info = info;
        m->lazies = lazies;
        return od_fail(st, OD_NO_MEMORY, "no memory for a model of %d nodes", graph.n_nodes);
    }
    m->pack_jobs = NULL; /* of operators that were prepared to find shapes */
    od_arena_fini(&c.old);
    return OD_OK;
}
