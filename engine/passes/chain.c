/* chain.c - runs of elementwise operators become one node each, see engine/chain.h. A run ends in one value;
 * what is read from outside stays a value of its own. */
#include "engine/chain.h"
#include "engine/passes/passes.h"

#include <string.h>

typedef struct group {
    int member[ENG_CHAIN_STEPS]; /* nodes */
    int n, end;                  /* the last one's result is the chain's */
    int in[ENG_CHAIN_INPUTS], n_in;
} group;

static bool plain_type(const eng_rewrite *r, int v)
{
    const uint32_t types = (ENG_T_NUMERIC & ~(unsigned)ENG_T_HALF) | ENG_T(ENG_BOOL);
    const eng_tensor *t = eng_rewrite_type(r, v);
    return t && t->rank >= 0 && (types & ENG_T(t->dtype));
}

static bool is_link(const eng_rewrite *r, const eng_node *n)
{
    if (n->dead || !eng_chain_takes(n) || !plain_type(r, n->out[0])) return false;
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && !plain_type(r, n->in[k])) return false;
    return true;
}

static bool holds(const group *c, int node)
{
    for (int i = 0; i < c->n; i++)
        if (c->member[i] == node) return true;
    return false;
}

/* What the members read from outside into c->in; false: too much. */
static bool find_inputs(const eng_rewrite *r, group *c)
{
    c->n_in = 0;
    for (int i = 0; i < c->n; i++) {
        const eng_node *n = &r->g->nodes[c->member[i]];
        for (int k = 0; k < n->n_in; k++) {
            int v = n->in[k], at = 0;
            if (v < 0 || holds(c, r->g->values[v].producer)) continue;
            while (at < c->n_in && c->in[at] != v) at++;
            if (at < c->n_in) continue;
            if (c->n_in == ENG_CHAIN_INPUTS) return false;
            c->in[c->n_in++] = v;
        }
    }
    return true;
}

/* Does the group alone read what node `p` makes? */
static bool reads_all(const eng_rewrite *r, const group *c, int p)
{
    int v = r->g->nodes[p].out[0], reads = 0;
    for (int i = 0; i < c->n; i++) {
        const eng_node *n = &r->g->nodes[c->member[i]];
        for (int k = 0; k < n->n_in; k++) reads += n->in[k] == v;
    }
    return v < r->n_values && !r->is_output[v] && reads == r->readers[v];
}

/* Take in the makers of what the members read while any fits. */
static void grow(const eng_rewrite *r, group *c)
{
    int shape = r->g->nodes[c->end].out[0];
    for (bool grown = true; grown;) {
        grown = false;
        for (int i = 0; i < c->n; i++) {
            const eng_node *n = &r->g->nodes[c->member[i]];
            for (int k = 0; k < n->n_in && c->n < ENG_CHAIN_STEPS; k++) {
                int p = n->in[k] < 0 ? ENG_NONE : r->g->values[n->in[k]].producer;
                if (p < 0 || holds(c, p) || !is_link(r, &r->g->nodes[p]) || !reads_all(r, c, p)) continue;
                if (!eng_rewrite_same_shape(r, n->in[k], shape)) continue;
                c->member[c->n++] = p;
                if (find_inputs(r, c)) grown = true;
                else c->n--;
            }
        }
    }
}

static int slot_of(const eng_rewrite *r, const group *c, int v)
{
    if (v < 0) return ENG_NONE;
    for (int i = 0; i < c->n; i++)
        if (r->g->values[v].producer == c->member[i]) return ENG_CHAIN_INPUTS + i;
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i] == v) return i;
    return ENG_NONE;
}

static od_code make_chain(eng_rewrite *r, group *c, od_status *st)
{
    eng_graph *g = r->g;
    eng_chain *chain = od_arena_array(&g->model->arena, eng_chain, 1);
    if (!chain || !find_inputs(r, c)) return od_fail(st, OD_NO_MEMORY, "no memory for a chain");
    for (int i = 1; i < c->n; i++) /* in the order they run */
        for (int j = i; j > 0 && c->member[j] < c->member[j - 1]; j--) {
            int swap = c->member[j];
            c->member[j] = c->member[j - 1];
            c->member[j - 1] = swap;
        }
    chain->n_steps = c->n;
    for (int i = 0; i < c->n; i++) {
        const eng_node *n = &g->nodes[c->member[i]];
        int *in = eng_ports(g, n->n_in);
        if (!in) return od_fail(st, OD_NO_MEMORY, "no memory for a chain");
        for (int k = 0; k < n->n_in; k++) in[k] = slot_of(r, c, n->in[k]);
        chain->steps[i] = *n;
        chain->dtype[i] = eng_rewrite_type(r, n->out[0])->dtype;
        chain->steps[i].in = in;
    }
    for (int i = 0; i < c->n; i++)
        if (c->member[i] != c->end) eng_rewrite_kill(r, &g->nodes[c->member[i]]);
    eng_node *end = &g->nodes[c->end];
    OD_TRY(eng_rewrite_become(r, end, ENG_DOMAIN_OWN, "Chain", 1, c->n_in, st));
    for (int i = 0; i < c->n_in; i++) {
        end->in[i] = c->in[i];
        if (c->in[i] < r->n_values) r->readers[c->in[i]]++;
    }
    end->chain = chain;
    return OD_OK;
}

od_code eng_pass_chain(eng_rewrite *r, od_status *st)
{
    if (!eng_op_find(ENG_DOMAIN_OWN, "Chain", 1)) return OD_OK;
    for (int i = r->g->n_nodes - 1; i >= 0; i--) {
        if (!is_link(r, &r->g->nodes[i])) continue;
        group c = {.member = {i}, .n = 1, .end = i};
        if (!find_inputs(r, &c)) continue;
        grow(r, &c);
        if (c.n > 1) OD_TRY(make_chain(r, &c, st));
    }
    return OD_OK;
}
