#include "engine/passes/passes.h"
#include "engine/lazy.h"
#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

/* In the order they run; all but the last ones again while any changes something. */
const eng_pass eng_passes[] = {
    {"half", eng_pass_half, false, false},             /* float16 and bfloat16 become float, with casts at the graph's edges */
    {"identity", eng_pass_identity, false, false},     /* Identity, Dropout and casts to the same type go */
    {"cse", eng_pass_cse, false, false},               /* equal nodes on equal inputs become one */
    {"transpose", eng_pass_transpose, false, false},   /* opposite Transposes go, also with others between them */
    {"shapes", eng_pass_shapes, false, false},  /* shape arithmetic that no request changes */
    {"branch", eng_pass_branch, false, false},  /* If with a known condition */
    {"dead", eng_pass_dead, true, false},              /* what nobody reads goes */
    {"spelled", eng_pass_spelled, false, false},       /* activations from smaller operators */
    {"gate", eng_pass_gate, false, false},             /* x * sigmoid(x) and its like become one activation */
    {"gelu", eng_pass_gelu, false, false},             /* Gelu from its parts */
    {"normalize", eng_pass_normalize, false, false},   /* normalizations of layers, groups, instances from their parts */
    {"lrn", eng_pass_lrn, false, false},               /* local response normalization from its parts */
    {"attention", eng_pass_attention, false, false},   /* softmax(q k^T) v as one operator */
    {"pad", eng_pass_pad, false, false},               /* Pad into the convolution or pool behind it */
    {"bias", eng_pass_bias, false, false},             /* MatMul + Add */
    {"scaled", eng_pass_scaled, false, false},         /* MatMul * factors + residual */
    {"affine", eng_pass_affine, false, false},         /* BatchNormalization and scaling into weights */
    {"merge_conv", eng_pass_merge_conv, false, false}, /* parallel branches into one convolution */
    {"activation", eng_pass_activation, false, false}, /* into the epilogue of what makes its input */
    {"residual", eng_pass_residual, false, false},     /* Add into the epilogue */
    {"activation2", eng_pass_activation, false, false}, /* the one behind a residual */
    {"slices", eng_pass_slices, false, false},         /* what is sliced and put together otherwise is one copy */
    {"rows", eng_pass_rows, false, true},        /* several moves of rows as one, also in a normalization or a sum */
    {"dead2", eng_pass_dead, false, true},       /* shapes that these moves were given */
    {"rearrange", eng_pass_rearrange, false, true}, /* Reshape, Transpose, Reshape of images as one copy */
    {"channels", eng_pass_channels, false, true}, /* channels that say nothing go; last, as it makes the probe's extents wrong */
    {"chain", eng_pass_chain, false, true},      /* runs of elementwise operators as one */
};
const int eng_passes_count = (int)OD_COUNT(eng_passes);

enum { ROUNDS = 6 };

/* Which inputs read a value, so that replacing it need not look at every node. */
typedef struct eng_use {
    int node, slot, next;
} eng_use;

struct eng_uses {
    int *first; /* by value: a use, the others by `next` */
    eng_use *all;
    int n, cap;            /* of `all` */
    int n_values, n_nodes; /* of the graph then */
};

static void drop_uses(eng_rewrite *r)
{
    if (r->uses) free(r->uses->first), free(r->uses->all);
    free(r->uses);
    r->uses = NULL;
}

static void list_use(struct eng_uses *uses, int v, int use)
{
    if (v >= uses->n_values) return; /* made since: whoever replaces it finds its uses anew */
    uses->all[use].next = uses->first[v];
    uses->first[v] = use;
}

static bool find_uses(eng_rewrite *r)
{
    const eng_graph *g = r->g;
    int64_t count = 1;
    if (!(r->uses = calloc(1, sizeof *r->uses))) return false;
    struct eng_uses *uses = r->uses;
    for (int i = 0; i < g->n_nodes; i++) count += g->nodes[i].n_in;
    if (count <= INT32_MAX) {
        uses->first = malloc((size_t)(g->n_values + 1) * sizeof *uses->first);
        uses->all = malloc((size_t)count * sizeof *uses->all);
    }
    if (!uses->first || !uses->all) return drop_uses(r), false;
    uses->cap = (int)count;
    uses->n_values = g->n_values;
    uses->n_nodes = g->n_nodes;
    for (int v = 0; v < g->n_values; v++) uses->first[v] = ENG_NONE;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++) {
            if (g->nodes[i].in[k] < 0) continue;
            uses->all[uses->n] = (eng_use){.node = i, .slot = k, .next = ENG_NONE};
            list_use(uses, g->nodes[i].in[k], uses->n++);
        }
    return true;
}

static od_code count_readers(eng_rewrite *r, od_status *st)
{
    const eng_graph *g = r->g;
    r->n_values = g->n_values;
    r->readers = od_arena_array(r->tmp, int, g->n_values);
    r->last_reader = od_arena_array(r->tmp, int, g->n_values);
    r->is_output = od_arena_array(r->tmp, bool, g->n_values);
    r->is_input = od_arena_array(r->tmp, bool, g->n_values);
    if (!r->readers || !r->last_reader || !r->is_output || !r->is_input)
        return od_fail(st, OD_NO_MEMORY, "no memory to rewrite %d values", g->n_values);
    for (int v = 0; v < g->n_values; v++) r->last_reader[v] = ENG_NONE;
    for (int i = 0; i < g->n_nodes; i++) {
        const eng_node *n = &g->nodes[i];
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k] < 0) continue;
            r->readers[n->in[k]]++;
            r->last_reader[n->in[k]] = i;
        }
    }
    for (int k = 0; k < g->n_outputs; k++) {
        r->readers[g->outputs[k]]++;
        r->is_output[g->outputs[k]] = true;
    }
    for (int k = 0; k < g->n_inputs; k++) r->is_input[g->inputs[k]] = true;
    return OD_OK;
}

static bool named_in(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, name, len) && (at[len] == ',' || !at[len])) return true;
    return false;
}

/* A reader that a pass forgot is an error, not a wrong answer. */
static od_code check_made(const eng_graph *g, od_status *st)
{
    od_arena tmp = {0};
    bool *is_input = od_arena_array(&tmp, bool, g->n_values);
    od_code rc = is_input ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for %d values", g->n_values);
    for (int k = 0; rc == OD_OK && k < g->n_inputs; k++) is_input[g->inputs[k]] = true;
    for (int i = 0; rc == OD_OK && i < g->n_nodes; i++)
        for (int k = 0; rc == OD_OK && k < g->nodes[i].n_in; k++) {
            int v = g->nodes[i].in[k];
            if (v < 0 || is_input[v] || g->values[v].constant || g->values[v].producer >= 0) continue;
            rc = od_fail(st, OD_INTERNAL, "node '%s' is left to read '%s', which nothing makes", g->nodes[i].name, g->values[v].name);
        }
    od_arena_fini(&tmp);
    return rc;
}

/* Each pass over `g` and then over the graphs in its nodes, which passes may have changed. */
static od_code run_round(eng_graph *g, const eng_load_options *o, bool last, bool *changed, od_status *st)
{
    for (int i = 0; i < eng_passes_count; i++) {
        const eng_pass *pass = &eng_passes[i];
        if (pass->last != last || (!pass->needed && (o->keep_graph || named_in(o->disabled_passes, pass->name)))) continue;
        od_arena tmp = {0};
        eng_rewrite r = {.g = g, .tmp = &tmp};
        od_code rc = count_readers(&r, st);
        if (rc == OD_OK) rc = pass->run(&r, st);
        drop_uses(&r);
        od_arena_fini(&tmp);
        if (rc == OD_OK && r.changed) rc = eng_graph_sort(g, st);
        if (rc == OD_OK && r.changed) rc = check_made(g, st);
        if (rc != OD_OK) return od_note(st, "pass '%s'", pass->name);
        *changed |= r.changed;
        if (r.changed && pass->run == eng_pass_half) return OD_OK; /* types must be found anew */
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_attrs; k++) {
            const eng_attr *a = &g->nodes[i].attrs[k];
            for (int64_t j = 0; a->name && a->graphs && j < a->n; j++)
                if (run_round(a->graphs[j], o, last, changed, st) != OD_OK) return eng_note_node(g, &g->nodes[i], st);
        }
    return OD_OK;
}

od_code eng_passes_run(eng_model *m, const eng_load_options *options, od_status *st)
{
    bool changed = true;
    for (int round = 0; round <= ROUNDS; round++) {
        bool last = round == ROUNDS || !changed;
        changed = false;
        OD_TRY(run_round(m->graph, options, last, &changed, st));
        if (changed) OD_TRY(eng_model_fold(m, st));
        if (changed) OD_TRY(eng_model_probe(m, st));
        if (last) break;
    }
    return OD_OK;
}

bool eng_node_is(const eng_node *n, const char *op_type)
{
    return n && !n->dead && n->domain == ENG_DOMAIN_ONNX && *n->op_type == *op_type && !strcmp(n->op_type, op_type);
}

const eng_tensor *eng_rewrite_type(const eng_rewrite *r, int v)
{
    const eng_graph *g = r->g;
    if (v < 0) return NULL;
    if (g->values[v].constant) return g->values[v].constant;
    if (!g->probe || v >= g->n_probe || g->probe[v].rank < 0 || !g->probe[v].dtype) return NULL;
    return &g->probe[v];
}

bool eng_rewrite_same_shape(const eng_rewrite *r, int a, int b)
{
    const eng_graph *g = r->g;
    if (!eng_rewrite_type(r, a) || !eng_rewrite_type(r, b)) return false;
    for (int i = 0; i < 2; i++) {
        const eng_tensor *x = a < g->n_probe ? &g->guess[i][a] : NULL, *y = b < g->n_probe ? &g->guess[i][b] : NULL;
        if (r->g->values[a].constant) x = r->g->values[a].constant;
        if (r->g->values[b].constant) y = r->g->values[b].constant;
        if (!x || !y || !eng_dims_equal(x, y)) return false;
    }
    return true;
}

eng_node *eng_rewrite_maker(const eng_rewrite *r, int v, const char *op_type)
{
    if (v < 0 || r->g->values[v].producer < 0) return NULL;
    eng_node *n = &r->g->nodes[r->g->values[v].producer];
    if (n->dead || (op_type && !eng_node_is(n, op_type))) return NULL;
    return n;
}

bool eng_rewrite_private(const eng_rewrite *r, int v)
{
    return v >= 0 && v < r->n_values && r->readers[v] == 1 && !r->is_output[v];
}

eng_node *eng_rewrite_only_reader(const eng_rewrite *r, int v)
{
    if (!eng_rewrite_private(r, v) || r->last_reader[v] < 0) return NULL;
    eng_node *n = &r->g->nodes[r->last_reader[v]];
    return n->dead ? NULL : n;
}

const eng_tensor *eng_rewrite_weights(const eng_rewrite *r, int v)
{
    if (v < 0 || (v < r->n_values && r->is_input[v])) return NULL;
    return r->g->values[v].constant;
}

const eng_tensor *eng_rewrite_constant(const eng_rewrite *r, int v)
{
    const eng_tensor *t = eng_rewrite_weights(r, v);
    od_status st; /* eng_lazy_check has it too */
    return t && eng_lazy_load(r->g->model, t, &st) == OD_OK ? t : NULL;
}

bool eng_rewrite_own(const eng_rewrite *r, int v)
{
    const eng_tensor *t = eng_rewrite_weights(r, v);
    return t && eng_graph_uses(r->g->model->graph, t) == 1;
}

bool eng_rewrite_scalar(const eng_rewrite *r, int v, double *x)
{
    const eng_tensor *t = eng_rewrite_weights(r, v);
    if (!t || eng_tensor_count(t) != 1 || !(ENG_T(t->dtype) & ENG_T_NUMERIC)) return false;
    *x = eng_tensor_double(t, 0);
    return true;
}

bool eng_rewrite_scalar_operand(const eng_rewrite *r, const eng_node *n, double *x, int *other)
{
    if (n->n_in != 2) return false;
    for (int k = 0; k < 2; k++) {
        const eng_tensor *t = eng_rewrite_weights(r, n->in[k]);
        const eng_tensor *o = eng_rewrite_type(r, n->in[1 - k]);
        if (!eng_rewrite_scalar(r, n->in[k], x)) continue;
        if (t->rank && (!o || o->rank < t->rank)) continue; /* [1] would raise the other's rank */
        *other = n->in[1 - k];
        return true;
    }
    return false;
}

bool eng_rewrite_replace(eng_rewrite *r, int old, int now)
{
    eng_graph *g = r->g;
    if (old == now) return true;
    if (r->uses && (r->uses->n_nodes != g->n_nodes || od_max_i64(old, r->is_output[old] ? now : 0) >= r->uses->n_values)) drop_uses(r);
    if (!r->uses && !find_uses(r)) return false;
    if (r->is_output[old]) {
        /* keep the output's own value: the maker of `now` writes it, and readers of `now` follow */
        int p = g->values[now].producer;
        if (p < 0 || now >= r->n_values || r->is_output[now] || r->is_input[now]) return false;
        int from = g->values[old].producer;
        if (from >= 0)
            for (int k = 0; k < g->nodes[from].n_out; k++)
                if (g->nodes[from].out[k] == old) g->nodes[from].out[k] = ENG_NONE;
        for (int k = 0; k < g->nodes[p].n_out; k++)
            if (g->nodes[p].out[k] == now) g->nodes[p].out[k] = old;
        g->values[old].producer = p;
        int swap = old;
        old = now;
        now = swap;
    }
    for (int u = r->uses->first[old], next; u >= 0; u = next) {
        eng_use *use = &r->uses->all[u];
        eng_node *n = &g->nodes[use->node];
        next = use->next;
        if (n->dead || use->slot >= n->n_in || n->in[use->slot] != old) continue; /* no more */
        n->in[use->slot] = now;
        if (now < r->n_values) {
            r->readers[now]++;
            r->last_reader[now] = use->node;
        }
        if (old < r->n_values) r->readers[old]--;
        list_use(r->uses, now, u);
    }
    r->uses->first[old] = ENG_NONE;
    r->changed = true;
    return true;
}

bool eng_rewrite_is_float(const eng_rewrite *r, int v)
{
    const eng_tensor *t = eng_rewrite_type(r, v);
    return t && t->dtype == ENG_FLOAT;
}

bool eng_rewrite_pads(const eng_node *n)
{
    int64_t count;
    const int64_t *p = eng_node_ints(n, "pads", &count);
    if (eng_node_string_is(n, "auto_pad", "NOTSET", "VALID")) return false;
    for (int64_t i = 0; i < count; i++)
        if (p[i]) return true;
    return !eng_node_string_is(n, "auto_pad", "NOTSET", "NOTSET");
}

od_code eng_rewrite_read(eng_rewrite *r, eng_node *n, int slot, int v, od_status *st)
{
    struct eng_uses *uses = r->uses;
    n->in[slot] = v;
    if (v < 0) return OD_OK;
    if (v < r->n_values) r->readers[v]++;
    if (!uses) return OD_OK;
    if (uses->n == uses->cap) {
        eng_use *more = uses->cap > INT32_MAX / 4 ? NULL : realloc(uses->all, (size_t)uses->cap * 2 * sizeof *more);
        if (!more) return od_fail(st, OD_NO_MEMORY, "no memory to rewrite %d nodes", r->g->n_nodes);
        uses->all = more;
        uses->cap *= 2;
    }
    uses->all[uses->n] = (eng_use){.node = (int)(n - r->g->nodes), .slot = slot, .next = ENG_NONE};
    list_use(uses, v, uses->n++);
    return OD_OK;
}

void eng_rewrite_kill(eng_rewrite *r, eng_node *n)
{
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && n->in[k] < r->n_values) r->readers[n->in[k]]--;
    n->dead = true;
    r->changed = true;
}

od_code eng_rewrite_become(eng_rewrite *r, eng_node *n, eng_domain domain, const char *op_type, int opset, int n_in,
                           od_status *st)
{
    const eng_op *op = eng_op_find(domain, op_type, opset);
    if (!op) return od_fail(st, OD_UNSUPPORTED, "no operator %s", op_type);
    int *in = eng_ports(r->g, n_in);
    if (!in) return od_fail(st, OD_NO_MEMORY, "no memory for a node");
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && n->in[k] < r->n_values) r->readers[n->in[k]]--;
    for (int k = 0; k < n_in; k++) in[k] = ENG_NONE;
    n->op = op;
    n->op_type = op->name;
    n->domain = domain;
    n->opset = opset;
    n->in = in;
    n->n_in = n_in;
    n->n_attrs = 0;
    n->params = NULL;
    n->fused = (eng_epilogue){0};
    drop_uses(r); /* its inputs are set by the caller */
    r->changed = true;
    return OD_OK;
}

/* A new constant like `t`, of zeros. */
static int new_constant(eng_rewrite *r, eng_tensor *t)
{
    od_status ignored;
    int v = eng_graph_value(r->g, "");
    if (v < 0) return ENG_NONE;
    t->data = od_arena_zalloc(&r->g->model->arena, eng_tensor_bytes(t));
    return t->data && eng_graph_set_constant(r->g, v, t, &ignored) == OD_OK ? v : ENG_NONE;
}

int eng_rewrite_new_floats(eng_rewrite *r, int rank, const int64_t *dims, float **data)
{
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = rank};
    if (rank) memcpy(t.dims, dims, (size_t)rank * sizeof *dims);
    int v = new_constant(r, &t);
    *data = t.data;
    return v;
}

int eng_rewrite_new_ints(eng_rewrite *r, int64_t count, int64_t **data)
{
    eng_tensor t = {.dtype = ENG_INT64, .rank = 1, .dims = {count}};
    int v = new_constant(r, &t);
    *data = t.data;
    return v;
}
