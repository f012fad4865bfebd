/* cleanup.c - nodes that do nothing, nodes that say the same twice, nodes that nobody reads. */
#include "engine/passes/passes.h"

#include <string.h>

/* x + 0, x - 0, x * 1, x / 1, x ^ 1. The type is known to be x's: both operands have one. */
static bool is_neutral(const eng_rewrite *r, const eng_node *n, int *x)
{
    double c;
    bool sum = eng_node_is(n, "Add") || eng_node_is(n, "Sub");
    if (!sum && !eng_node_is(n, "Mul") && !eng_node_is(n, "Div") && !eng_node_is(n, "Pow")) return false;
    if (!eng_rewrite_scalar_operand(r, n, &c, x) || c != (sum ? 0.0 : 1.0)) return false;
    if (eng_node_is(n, "Pow")) { /* its exponent may be of another type */
        const eng_tensor *t = eng_rewrite_type(r, *x), *e = eng_rewrite_constant(r, n->in[1]);
        if (!t || !e || t->dtype != e->dtype) return false;
    }
    return *x == n->in[0] || eng_node_is(n, "Add") || eng_node_is(n, "Mul");
}

static bool is_noop(const eng_rewrite *r, const eng_node *n)
{
    if (n->n_in < 1 || n->n_out < 1 || n->in[0] < 0 || n->out[0] < 0) return false;
    if (eng_node_is(n, "Identity")) return true;
    if (eng_node_is(n, "Dropout")) { /* the mask is wanted by nobody, and it does not train */
        for (int k = 1; k < n->n_out; k++)
            if (n->out[k] >= 0 && r->readers[n->out[k]]) return false;
        double ratio;
        if (n->n_in < 3 || n->in[2] < 0) return true;
        const eng_tensor *trains = eng_rewrite_constant(r, n->in[2]);
        if (trains && eng_tensor_count(trains) == 1 && !eng_tensor_int(trains, 0)) return true;
        return eng_rewrite_scalar(r, n->in[1], &ratio) && ratio == 0.0; /* a training that drops nothing */
    }
    if (eng_node_is(n, "Cast")) {
        const eng_tensor *t = eng_rewrite_type(r, n->in[0]);
        return t && t->dtype == (eng_dtype)eng_node_int(n, "to", 0);
    }
    if (eng_node_is(n, "Concat") || eng_node_is(n, "Sum") || eng_node_is(n, "Max") || eng_node_is(n, "Min") ||
        eng_node_is(n, "Mean"))
        return n->n_in == 1;
    if (eng_node_is(n, "Reshape") || eng_node_is(n, "Expand") || eng_node_is(n, "Flatten")) {
        /* rank 1 tells nothing of what a free extent becomes; else equal guesses mean equal shapes */
        return eng_rewrite_same_shape(r, n->in[0], n->out[0]);
    }
    if (eng_node_is(n, "Transpose")) {
        int64_t count;
        const int64_t *perm = eng_node_ints(n, "perm", &count);
        for (int64_t i = 0; i < count; i++)
            if (perm[i] != i) return false;
        return perm != NULL;
    }
    if (eng_node_is(n, "Pad") && n->n_in > 1) {
        const eng_tensor *pads = eng_rewrite_constant(r, n->in[1]);
        for (int64_t i = 0; pads && i < eng_tensor_count(pads); i++)
            if (eng_tensor_int(pads, i)) return false;
        return pads != NULL;
    }
    return false;
}

od_code eng_pass_identity(eng_rewrite *r, od_status *st)
{
    (void)st;
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        int x = n->n_in ? n->in[0] : ENG_NONE;
        if (n->dead || n->domain != ENG_DOMAIN_ONNX || n->fused.act || n->fused.residual || (!is_noop(r, n) && !is_neutral(r, n, &x))) continue;
        if (eng_rewrite_replace(r, n->out[0], x)) eng_rewrite_kill(r, n);
    }
    return OD_OK;
}

static bool same_attr(const eng_attr *a, const eng_attr *b)
{
    if (!a->name || !b->name) return a->name == b->name;
    if (strcmp(a->name, b->name) || a->kind != b->kind || a->n != b->n) return false;
    switch (a->kind) {
    case ENG_ATTR_INT: return a->i == b->i;
    case ENG_ATTR_FLOAT: return !memcmp(&a->f, &b->f, sizeof a->f);
    case ENG_ATTR_STRING: return a->s.len == b->s.len && !memcmp(a->s.ptr, b->s.ptr, a->s.len);
    case ENG_ATTR_INTS: return !a->n || !memcmp(a->ints, b->ints, (size_t)a->n * sizeof *a->ints);
    case ENG_ATTR_FLOATS: return !a->n || !memcmp(a->floats, b->floats, (size_t)a->n * sizeof *a->floats);
    default: return false;
    }
}

/* The same value, or small constants with the same content. */
static bool same_value(const eng_graph *g, int a, int b)
{
    enum { BYTES_MAX = 4096 };
    if (a == b) return true;
    if (a < 0 || b < 0) return false;
    const eng_tensor *x = g->values[a].constant, *y = g->values[b].constant;
    if (!x || !y || x->dtype != y->dtype || !eng_dims_equal(x, y)) return false;
    if (x->data == y->data) return true;
    size_t bytes = eng_tensor_bytes(x);
    return x->dtype != ENG_STRING && x->dtype < ENG_SEQUENCE && bytes <= BYTES_MAX && !memcmp(x->data, y->data, bytes);
}

static bool same_node(const eng_graph *g, const eng_node *a, const eng_node *b)
{
    if (a->op != b->op || a->n_in != b->n_in || a->n_out != b->n_out || a->n_attrs != b->n_attrs) return false;
    if (a->op->flags & ENG_RANDOM || a->chain != b->chain || memcmp(&a->fused, &b->fused, sizeof a->fused)) return false;
    for (int k = 0; k < a->n_in; k++)
        if (!same_value(g, a->in[k], b->in[k])) return false;
    for (int k = 0; k < a->n_attrs; k++)
        if (!same_attr(&a->attrs[k], &b->attrs[k])) return false;
    return true;
}

static uint32_t node_hash(const eng_graph *g, const eng_node *n)
{
    uint64_t h = (uint64_t)(uintptr_t)n->op * 0x9E3779B97F4A7C15u + (uint64_t)n->n_in;
    for (int k = 0; k < n->n_in; k++) {
        bool constant = n->in[k] >= 0 && g->values[n->in[k]].constant; /* compared by content */
        h = (h ^ (constant ? 1u : (uint64_t)n->in[k] + 2)) * 0x9E3779B97F4A7C15u;
    }
    return (uint32_t)(h >> 32);
}

od_code eng_pass_cse(eng_rewrite *r, od_status *st)
{
    eng_graph *g = r->g;
    int cap = 64;
    while (cap < 2 * g->n_nodes) cap *= 2;
    int *table = od_arena_array(r->tmp, int, cap);
    if (!table) return od_fail(st, OD_NO_MEMORY, "no memory for %d nodes", g->n_nodes);
    for (int i = 0; i < g->n_nodes; i++) {
        eng_node *n = &g->nodes[i];
        if (n->dead || n->n_in == 0) continue;
        for (uint32_t at = node_hash(g, n);; at++) {
            int *slot = &table[at & (uint32_t)(cap - 1)];
            if (!*slot) {
                *slot = i + 1;
                break;
            }
            const eng_node *twin = &g->nodes[*slot - 1];
            if (twin->dead || !same_node(g, n, twin)) continue;
            bool all = true;
            for (int k = 0; k < n->n_out; k++)
                all &= n->out[k] < 0 || (twin->out[k] >= 0 && !r->is_output[n->out[k]]);
            for (int k = 0; all && k < n->n_out; k++)
                if (n->out[k] >= 0) all = eng_rewrite_replace(r, n->out[k], twin->out[k]);
            if (all) eng_rewrite_kill(r, n);
            break;
        }
    }
    return OD_OK;
}

od_code eng_pass_dead(eng_rewrite *r, od_status *st)
{
    (void)st;
    for (int i = r->g->n_nodes - 1; i >= 0; i--) { /* readers come behind their makers */
        eng_node *n = &r->g->nodes[i];
        bool read = false;
        for (int k = 0; k < n->n_out && !read; k++)
            read = n->out[k] >= 0 && (n->out[k] >= r->n_values || r->readers[n->out[k]] > 0);
        if (!n->dead && !read) eng_rewrite_kill(r, n);
    }
    return OD_OK;
}
