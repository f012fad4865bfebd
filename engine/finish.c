/* finish.c - from what a loader built to a model that sessions can run: captures, operators,
 * canonical form, probing, passes, prepared weights. */
#include "engine/base/pages.h"
#include "engine/graph.h"
#include "engine/lazy.h"
#include "engine/packed.h"
#include "engine/plan.h"
#include "engine/schema.h"
#include "engine/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const domain_names[ENG_DOMAINS] = {"ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview", "onnxd"};

/* Calls `fn` for `g` and every graph in its nodes' attributes, outer ones first. */
static od_code for_graphs(eng_graph *g, od_code (*fn)(eng_graph *, void *, od_status *), void *arg, od_status *st)
{
    OD_TRY(fn(g, arg, st));
    for (int i = 0; i < g->n_nodes; i++) {
        const eng_node *n = &g->nodes[i];
        for (int k = 0; k < n->n_attrs; k++) {
            const eng_attr *a = &n->attrs[k];
            if (!a->name || (a->kind != ENG_ATTR_GRAPH && a->kind != ENG_ATTR_GRAPHS)) continue;
            for (int64_t j = 0; j < a->n; j++)
                if (a->graphs[j] && for_graphs(a->graphs[j], fn, arg, st) != OD_OK) return eng_note_node(g, n, st);
        }
    }
    return OD_OK;
}

/* ---- captures ----------------------------------------------------------------------------- */

static od_code resolve_graph(eng_graph *g, od_status *st);

/* The constant that name means outside `g`, or NULL: an overridable one is no constant here. */
static const eng_tensor *outer_constant(const eng_graph *g, const char *name)
{
    for (const eng_graph *p = g->parent; p; p = p->parent) {
        int v = eng_graph_find(p, name);
        if (v < 0) continue;
        for (int i = 0; i < p->n_inputs; i++)
            if (p->inputs[i] == v) return NULL;
        for (int i = 0; i < p->n_nodes; i++)
            for (int k = 0; k < p->nodes[i].n_out; k++)
                if (p->nodes[i].out[k] == v) return NULL;
        if (p->values[v].constant) return p->values[v].constant;
    }
    return NULL;
}

/* Give node `n` of `g` the names that `sub` takes from outside as inputs behind its own. */
static od_code capture(eng_graph *g, eng_node *n, eng_graph *sub, od_status *st)
{
    OD_TRY(resolve_graph(sub, st)); /* may give `sub` nodes' more inputs of its own */
    OD_TRY(eng_graph_link(sub, st));
    char *used = od_arena_array(&g->model->arena, char, sub->n_values);
    if (!used) return od_fail(st, OD_NO_MEMORY, "no memory for captures");
    for (int i = 0; i < sub->n_nodes; i++)
        for (int k = 0; k < sub->nodes[i].n_in; k++)
            if (sub->nodes[i].in[k] >= 0) used[sub->nodes[i].in[k]] = 1;
    for (int i = 0; i < sub->n_outputs; i++) used[sub->outputs[i]] = 1;
    for (int i = 0; i < sub->n_inputs; i++) used[sub->inputs[i]] = 0;
    int n_values = sub->n_values;
    for (int v = 0; v < n_values; v++) {
        if (!used[v] || sub->values[v].constant || sub->values[v].producer >= 0) continue;
        const char *name = sub->values[v].name;
        const eng_tensor *t = *name ? outer_constant(sub, name) : NULL;
        if (t) {
            sub->values[v].constant = t;
            continue;
        }
        int outer = *name ? eng_graph_value(g, name) : ENG_NONE;
        int slot = n->n_in;
        if (outer < 0 || !eng_node_set_inputs(g, n, slot + 1))
            return od_fail(st, OD_NO_MEMORY, "no memory to capture '%s'", name);
        n->in[slot] = outer;
        OD_TRY(eng_graph_add_input(sub, v, st));
        sub->n_captures++;
    }
    return OD_OK;
}

static od_code resolve_graph(eng_graph *g, od_status *st)
{
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_attrs; k++) {
            const eng_attr *a = &g->nodes[i].attrs[k];
            if (!a->name || (a->kind != ENG_ATTR_GRAPH && a->kind != ENG_ATTR_GRAPHS)) continue;
            for (int64_t j = 0; j < a->n; j++)
                if (capture(g, &g->nodes[i], a->graphs[j], st) != OD_OK) return eng_note_node(g, &g->nodes[i], st);
        }
    }
    return OD_OK;
}

/* ---- checks and operators ----------------------------------------------------------------- */

static bool is_input(const eng_graph *g, int v)
{
    for (int i = 0; i < g->n_inputs; i++)
        if (g->inputs[i] == v) return true;
    return false;
}

static od_code check_made(const eng_graph *g, int v, const char *whose, const char *reader, od_status *st)
{
    const eng_value *value = &g->values[v];
    if (value->producer >= 0 || value->constant || is_input(g, v)) return OD_OK;
    return od_fail(st, OD_BAD_MODEL, "%s '%s' reads '%s', which nothing makes", whose, reader, value->name);
}

static od_code sort_and_check(eng_graph *g, void *arg, od_status *st)
{
    (void)arg;
    OD_TRY(eng_graph_sort(g, st));
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] >= 0) OD_TRY(check_made(g, g->nodes[i].in[k], "node", g->nodes[i].name, st));
    for (int i = 0; i < g->n_outputs; i++) OD_TRY(check_made(g, g->outputs[i], "graph output", "", st));
    return OD_OK;
}

static od_code check_schemas(eng_graph *g, void *arg, od_status *st)
{
    (void)arg;
    for (int i = 0; i < g->n_nodes; i++)
        if (eng_schema_check(&g->nodes[i], st) != OD_OK) return eng_note_node(g, &g->nodes[i], st);
    return OD_OK;
}

typedef struct missing {
    char text[160];
    int n;
} missing;

static od_code find_operators(eng_graph *g, void *arg, od_status *st)
{
    missing *m = arg;
    (void)st;
    for (int i = 0; i < g->n_nodes; i++) {
        eng_node *n = &g->nodes[i];
        char item[80];
        n->op = eng_op_find(n->domain, n->op_type, n->opset);
        if (n->op) continue;
        snprintf(item, sizeof item, "%s (%s %d, node %d '%.20s')", n->op_type, domain_names[n->domain], n->opset, i,
                 n->name);
        char *paren = strchr(item, '(');
        size_t word = paren ? (size_t)(paren - item) : 0;
        bool told = false; /* each operator once */
        for (const char *at = m->text; word && (at = strstr(at, n->op_type)); at++)
            told |= !strncmp(at, item, word);
        if (told) continue;
        m->n++;
        size_t len = strlen(m->text);
        snprintf(m->text + len, sizeof m->text - len, "%s%s", len ? ", " : "", item);
    }
    return OD_OK;
}

static od_code import_nodes(eng_graph *g, void *arg, od_status *st)
{
    (void)arg;
    for (int i = 0; i < g->n_nodes; i++) {
        eng_node *n = &g->nodes[i];
        if (n->op->import && n->op->import(g, n, st) != OD_OK) return eng_note_node(g, n, st);
    }
    return OD_OK;
}

static od_code prepare_nodes(eng_graph *g, void *arg, od_status *st)
{
    for (int i = 0; i < g->n_nodes; i++) {
        eng_node *n = &g->nodes[i];
        if (!n->dead && n->op->prepare && n->op->prepare(g, n, arg, st) != OD_OK) return eng_note_node(g, n, st);
    }
    return OD_OK;
}

/* ---- probing ------------------------------------------------------------------------------ */

/* An extent for one that is free: `round` 0 and 1 differ, so that what follows from it shows. */
static int64_t guess_extent(const eng_value *v, int axis, int round)
{
    static const int64_t batch[2] = {1, 2}, image[2] = {224, 256}, other[2] = {64, 96};
    if (axis == 0) return batch[round];
    return v->rank == 4 && axis >= 2 ? image[round] : other[round];
}

/* Stand-ins for the graph's inputs. true when an extent had to be guessed. */
static bool guess_inputs(const eng_graph *g, eng_tensor *inputs, int round)
{
    bool guessed = false;
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        inputs[i] = (eng_tensor){.dtype = v->dtype, .rank = v->rank};
        if (v->constant) { /* has a default, which a caller may replace: nothing to guess */
            inputs[i] = *v->constant;
            inputs[i].data = NULL;
            continue;
        }
        if (v->rank < 0 || !v->dtype) guessed = true;
        for (int d = 0; d < v->rank; d++) {
            inputs[i].dims[d] = v->dims[d] >= 0 ? v->dims[d] : guess_extent(v, d, round);
            guessed |= v->dims[d] < 0;
        }
    }
    return guessed;
}

/* A node is evaluated whole or not at all, so its first output tells: those behind it that are not
 * known are read by nobody. */
static od_code fold_known(eng_graph *g, const eng_tensor **known, od_status *st)
{
    bool folded = false;
    for (int i = 0; i < g->n_nodes; i++) {
        eng_node *n = &g->nodes[i];
        if (n->n_out < 1 || n->out[0] < 0 || !known[n->out[0]]) continue;
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0) g->values[n->out[k]].constant = known[n->out[k]];
        n->dead = folded = true;
    }
    return folded ? eng_graph_sort(g, st) : OD_OK;
}

/* Inputs with a default must not be folded: a request may give them. Hide their values meanwhile. */
static void hide_defaults(eng_graph *g, const eng_tensor **kept, bool hide)
{
    for (int i = 0; i < g->n_inputs; i++) {
        eng_value *v = &g->values[g->inputs[i]];
        if (hide) {
            kept[i] = v->constant;
            v->constant = NULL;
        } else {
            v->constant = kept[i];
        }
    }
}

static void merge_guesses(eng_graph *g)
{
    for (int v = 0; v < g->n_probe; v++) {
        eng_tensor *a = &g->probe[v];
        const eng_tensor *b = &g->guess[1][v];
        *a = g->guess[0][v];
        if (a->rank != b->rank || a->dtype != b->dtype) a->rank = -1;
        for (int d = 0; d < a->rank; d++)
            if (a->dims[d] != b->dims[d]) a->dims[d] = -1;
    }
}

/* Room for what is found of every value of `g`, from the last probe if it suffices. */
static od_code clear_probe(eng_graph *g, od_status *st)
{
    eng_tensor **all[] = {&g->probe, &g->guess[0], &g->guess[1]};
    int n = g->n_values, cap = g->cap_probe;
    if (n >= cap) cap = n > INT32_MAX / 2 ? n : n + n / 4 + 1; /* passes make some more */
    for (size_t i = 0; i < OD_COUNT(all); i++) {
        if (cap == g->cap_probe) memset(*all[i], 0, (size_t)n * sizeof **all[i]);
        else *all[i] = od_arena_array(&g->model->arena, eng_tensor, cap);
    }
    bool there = g->probe && g->guess[0] && g->guess[1];
    g->n_probe = there ? n : 0;
    g->cap_probe = there ? cap : 0;
    return there ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory to probe %d values", n);
}

static od_code probe_subgraphs(eng_graph *g, od_status *st);

/* What the body of `n` gets in this round of guesses; `first` is the node's input that its captures begin with. What a Loop
 * carries from round to round is of one type only if the body says so, see keeps_types. */
static void subgraph_inputs(const eng_graph *g, const eng_node *n, const eng_graph *sub, int first, int round, bool carries, eng_tensor *inputs)
{
    int own = sub->n_inputs - sub->n_captures;
    bool loop = n->domain == ENG_DOMAIN_ONNX && !strcmp(n->op_type, "Loop");
    for (int i = 0; i < sub->n_inputs; i++) {
        int v = i >= own ? n->in[first + i - own] : loop && i >= 2 && carries && i < first ? n->in[i] : ENG_NONE;
        inputs[i] = (eng_tensor){.rank = -1};
        if (loop && i < 2 && i < own) inputs[i] = (eng_tensor){.dtype = i ? ENG_BOOL : ENG_INT64};
        else if (v >= 0) inputs[i] = g->values[v].constant ? *g->values[v].constant : g->guess[round][v];
        inputs[i].data = NULL;
    }
}

/* Are the states of a Loop after a round of the types they had before? */
static bool keeps_types(const eng_graph *sub)
{
    int own = sub->n_inputs - sub->n_captures;
    for (int i = 2; i < own; i++)
        for (int round = 0; round < 2; round++) {
            int to = i - 1 < sub->n_outputs ? sub->outputs[i - 1] : ENG_NONE;
            const eng_tensor *a = &sub->guess[round][sub->inputs[i]], *b = to < 0 ? NULL : sub->values[to].constant ? sub->values[to].constant : &sub->guess[round][to];
            if (!b || a->rank < 0 || a->dtype != b->dtype || !eng_dims_equal(a, b)) return false;
        }
    return true;
}

static od_code probe_subgraph(const eng_graph *g, const eng_node *n, eng_graph *sub, int first, od_status *st)
{
    od_arena tmp = {0};
    eng_tensor *inputs = od_arena_array(&tmp, eng_tensor, sub->n_inputs);
    od_code rc = inputs ? clear_probe(sub, st) : od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", sub->n_inputs);
    for (int carries = 1; rc == OD_OK && carries >= 0; carries--) {
        for (int round = 0; rc == OD_OK && round < 2; round++) {
            subgraph_inputs(g, n, sub, first, round, carries, inputs);
            rc = eng_plan_probe(sub, inputs, sub->guess[round], NULL, NULL, true, st);
        }
        if (rc != OD_OK || keeps_types(sub)) break;
    }
    od_arena_fini(&tmp);
    if (rc == OD_BAD_TYPE || rc == OD_UNSUPPORTED) { /* it need not ever run */
        sub->n_probe = 0;
        return OD_OK;
    }
    if (rc != OD_OK) return rc;
    merge_guesses(sub);
    return probe_subgraphs(sub, st);
}

/* Types in the graphs of `g`'s nodes, from those in `g`. */
static od_code probe_subgraphs(eng_graph *g, od_status *st)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const eng_node *n = &g->nodes[i];
        int first = n->n_in;
        for (int k = 0; k < n->n_attrs; k++)
            for (int64_t j = 0; n->attrs[k].name && n->attrs[k].graphs && j < n->attrs[k].n; j++) first -= n->attrs[k].graphs[j]->n_captures;
        for (int k = 0; k < n->n_attrs; k++)
            for (int64_t j = 0; n->attrs[k].name && n->attrs[k].graphs && j < n->attrs[k].n; j++) {
                eng_graph *sub = n->attrs[k].graphs[j];
                if (first < 0) return OD_OK;
                if (probe_subgraph(g, n, sub, first, st) != OD_OK) return eng_note_node(g, n, st);
                first += sub->n_captures;
            }
    }
    return OD_OK;
}

od_code eng_model_probe(eng_model *m, od_status *st)
{
    eng_graph *g = m->graph;
    od_arena tmp = {0};
    od_code rc = OD_NO_MEMORY;
    eng_tensor *inputs = od_arena_array(&tmp, eng_tensor, g->n_inputs);
    const eng_tensor **known = od_arena_array(&tmp, const eng_tensor *, g->n_values);
    const eng_tensor **defaults = od_arena_array(&tmp, const eng_tensor *, g->n_inputs);
    if (!inputs || !known || !defaults) {
        od_fail(st, OD_NO_MEMORY, "no memory to probe %d values", g->n_values);
        goto done;
    }
    if ((rc = clear_probe(g, st)) != OD_OK) goto done;
    m->probing = true;
    if ((rc = for_graphs(g, prepare_nodes, NULL, st)) != OD_OK) goto done;
    bool guessed = guess_inputs(g, inputs, 0);
    hide_defaults(g, defaults, true);
    rc = eng_plan_probe(g, inputs, g->guess[0], guessed ? NULL : known, &m->arena, guessed, st);
    if (rc == OD_OK && guessed) {
        guess_inputs(g, inputs, 1);
        rc = eng_plan_probe(g, inputs, g->guess[1], NULL, &m->arena, true, st);
    } else if (rc == OD_OK) {
        memcpy(g->guess[1], g->guess[0], (size_t)g->n_values * sizeof *g->guess[0]);
    }
    hide_defaults(g, defaults, false);
    if (rc != OD_OK) goto done;
    merge_guesses(g);
    if ((rc = probe_subgraphs(g, st)) == OD_OK && !guessed) rc = fold_known(g, known, st);
done:
    m->probing = false;
    od_arena_fini(&tmp);
    return rc;
}

/* ---- constants ---------------------------------------------------------------------------- */

static bool constant_inputs(const eng_graph *g, const eng_node *n)
{
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0) continue;
        if (!g->values[n->in[k]].constant || is_input(g, n->in[k])) return false;
    }
    return !(n->op->flags & (ENG_RANDOM | ENG_SEQ)) && !eng_node_has_graph(n);
}

/* Compute one node with constant inputs; its outputs become constants. *done stays false when they are
 * larger than `limit` bytes, or cannot be computed before a run. alias: they lie in input 0. */
static od_code compute_node(eng_graph *g, eng_node *n, size_t limit, od_arena *tmp, bool *done, od_status *st)
{
    eng_model *m = g->model;
    eng_ctx c = {.node = n, .n_in = n->n_in, .n_out = n->n_out, .scratch = tmp, .memory = &m->arena};
    eng_tensor *out = od_arena_array(&m->arena, eng_tensor, n->n_out);
    c.in = od_arena_array(tmp, const eng_tensor *, n->n_in);
    c.out = od_arena_array(tmp, eng_tensor *, n->n_out);
    size_t bytes = 0;
    if (!out || !c.in || !c.out) return od_fail(st, OD_NO_MEMORY, "no memory to fold a node");
    for (int k = 0; k < n->n_in; k++) c.in[k] = n->in[k] < 0 ? NULL : g->values[n->in[k]].constant;
    for (int k = 0; k < n->n_out; k++) c.out[k] = n->out[k] < 0 ? NULL : &out[k];
    for (int k = 0; k < n->n_in; k++) OD_TRY(eng_lazy_load(m, c.in[k], st));
    OD_TRY(eng_check_op_type(&c, st));
    od_code rc = eng_op_infer(&c, st);
    if (rc != OD_OK) return rc == OD_UNKNOWN_YET ? OD_OK : rc;
    int64_t offset = 0;
    bool alias = n->op->alias && n->n_out == 1 && c.in[0] && c.out[0] && n->op->alias(&c, 0, &offset);
    if (alias) c.out[0]->data = (char *)c.in[0]->data + offset * (int64_t)eng_dtype_size(c.in[0]->dtype);
    for (int k = 0; k < n->n_out; k++) bytes += c.out[k] ? eng_tensor_bytes(c.out[k]) : 0;
    if (bytes > limit) return OD_OK;
    for (int k = 0; k < n->n_out && !alias; k++)
        if (c.out[k] && !(c.out[k]->data = od_arena_alloc(&m->arena, eng_tensor_bytes(c.out[k]))))
            return od_fail(st, OD_NO_MEMORY, "no memory for a constant of %zu bytes", bytes);
    if (!alias) OD_TRY(eng_op_compute(&c, st));
    for (int k = 0; k < n->n_out; k++)
        if (c.out[k]) g->values[n->out[k]].constant = c.out[k];
    *done = true;
    return OD_OK;
}

/* By value: how many nodes and outputs read it. */
static int *count_readers(const eng_graph *g, od_arena *a)
{
    int *readers = od_arena_array(a, int, g->n_values);
    for (int i = 0; readers && i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] >= 0) readers[g->nodes[i].in[k]]++;
    for (int k = 0; readers && k < g->n_outputs; k++) readers[g->outputs[k]]++;
    return readers;
}

enum { WORTH_DROPPING = 64 << 10 };

/* Give back the pages of a constant that nobody reads by its value, nor as part of another. false: it is read, or small. */
static bool drop_unread(eng_model *m, const eng_tensor *t)
{
    if (!t || t->dtype == ENG_STRING || t->dtype >= ENG_SEQUENCE || eng_tensor_bytes(t) < WORTH_DROPPING) return false;
    if (eng_graph_uses(m->graph, t)) return false;
    od_pages_drop(t->data, eng_tensor_bytes(t));
    return true;
}

/* Fold nodes whose inputs are all constants, in the order they run. Results may be as large as all
 * weights are by nature, but a small file must not blow up: 256 MiB a node. */
static od_code fold_constants(eng_graph *g, void *arg, od_status *st)
{
    const size_t limit = (size_t)256 << 20;
    bool any = false;
    (void)arg;
    od_arena tmp = {0};
    int *readers = count_readers(g, &tmp);
    od_code rc = readers ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory to fold %d nodes", g->n_nodes);
    for (int i = 0; rc == OD_OK && i < g->n_nodes; i++) {
        eng_node *n = &g->nodes[i];
        bool done = false;
        if (n->dead || !constant_inputs(g, n)) continue;
        od_arena_mark mark = od_arena_save(&tmp);
        if (n->op->prepare) rc = n->op->prepare(g, n, NULL, st);
        if (rc == OD_OK) rc = compute_node(g, n, limit, &tmp, &done, st);
        od_arena_rewind(&tmp, mark);
        if (rc != OD_OK) eng_note_node(g, n, st);
        if (rc != OD_OK || !done) continue;
        n->dead = any = true;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0 && --readers[n->in[k]] == 0) drop_unread(g->model, g->values[n->in[k]].constant);
    }
    od_arena_fini(&tmp);
    return rc == OD_OK && any ? eng_graph_sort(g, st) : rc;
}

od_code eng_model_fold(eng_model *m, od_status *st)
{
    m->probing = true; /* what is computed once is not worth packing */
    od_code rc = for_graphs(m->graph, fold_constants, NULL, st);
    m->probing = false;
    return rc;
}

/* ---- weights that nobody reads any more ---------------------------------------------------- */

/* What passes have put others in the place of: give its pages back before packing takes more. */
static od_code drop_replaced(eng_graph *g, void *arg, od_status *st)
{
    od_arena tmp = {0};
    (void)arg;
    int *readers = count_readers(g, &tmp);
    if (!readers) return od_fail(st, OD_NO_MEMORY, "no memory for %d values", g->n_values);
    for (int v = 0; v < g->n_values; v++)
        if (!readers[v] && drop_unread(g->model, g->values[v].constant)) g->values[v].constant = NULL;
    od_arena_fini(&tmp);
    return OD_OK;
}

/* ---- the order of it all ------------------------------------------------------------------ */

static od_code check_ports(const eng_graph *g, od_status *st)
{
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        const eng_tensor *t = v->constant;
        if (!t || !v->dtype || t->dtype == v->dtype) continue;
        return od_fail(st, OD_BAD_MODEL, "input '%s' is declared %s, its initializer is %s", v->name,
                       eng_dtype_name(v->dtype), eng_dtype_name(t->dtype));
    }
    return OD_OK;
}

od_code eng_model_finish(eng_model *m, const eng_load_options *options, od_status *st)
{
    static const eng_load_options usual;
    missing lacks = {.n = 0};
    if (!options) options = &usual;
    eng_lazies_settle(m);
    OD_TRY(for_graphs(m->graph, check_schemas, NULL, st)); /* captures and passes add inputs and attributes */
    if (options->class_map) OD_TRY(eng_class_map_add(m, st));
    OD_TRY(resolve_graph(m->graph, st));
    OD_TRY(check_ports(m->graph, st));
    OD_TRY(for_graphs(m->graph, sort_and_check, NULL, st));
    OD_TRY(for_graphs(m->graph, find_operators, &lacks, st));
    if (lacks.n)
        return od_fail(st, OD_UNSUPPORTED, "%d operator%s not supported: %s", lacks.n, lacks.n > 1 ? "s are" : " is",
                       lacks.text);
    OD_TRY(for_graphs(m->graph, import_nodes, NULL, st));
    OD_TRY(eng_model_fold(m, st));
    OD_TRY(eng_model_probe(m, st));
    OD_TRY(eng_passes_run(m, options, st));
    OD_TRY(for_graphs(m->graph, drop_replaced, NULL, st));
    OD_TRY(eng_model_compact(m, st));
    if (options->tune) OD_TRY(eng_tune_begin(m, options, st));
    OD_TRY(for_graphs(m->graph, prepare_nodes, options->pool, st));
    eng_tune_end(m);
    OD_TRY(eng_lazy_check(m, st));
    OD_TRY(eng_packs_make(m, options->pool, options->pack_cache, st));
    eng_lazy_end(m);
    return OD_OK;
}

static od_code drop_plans(eng_graph *g, void *arg, od_status *st)
{
    (void)arg, (void)st;
    eng_plans_destroy(g);
    return OD_OK;
}

void eng_model_destroy(eng_model *m)
{
    od_status st;
    if (!m) return;
    if (m->graph) for_graphs(m->graph, drop_plans, NULL, &st);
    eng_packs_release(m);
    eng_tune_end(m);
    od_arena_fini(&m->arena);
    free(m->graph);
    if (m->backing_free) m->backing_free(m->backing);
    free(m);
}
