/* control.c - If and Loop, and how operators run their subgraphs. */
#include "engine/graph.h"
#include "engine/ops/control.h"
#include "engine/ops/ops.h"
#include "engine/plan.h"

#include <string.h>

/* ---- subgraphs ---------------------------------------------------------------------------- */

od_code eng_body_find(eng_ctx *c, const char *name, eng_body *b, int *own, od_status *st)
{
    const eng_node *n = c->node;
    int captures = 0, first = 0;
    *b = (eng_body){.graph = NULL};
    for (int i = 0; i < n->n_attrs; i++) {
        const eng_attr *a = &n->attrs[i];
        if (!a->name || a->kind != ENG_ATTR_GRAPH) continue;
        if (!strcmp(a->name, name)) {
            b->graph = a->graphs[0];
            first = captures;
        }
        captures += a->graphs[0]->n_captures;
    }
    if (!b->graph) return od_fail(st, OD_BAD_MODEL, "there is no graph '%s'", name);
    int own_inputs = c->n_in - captures;
    if (own) *own = own_inputs;
    b->n_own = b->graph->n_inputs - b->graph->n_captures;
    b->args = od_arena_array(c->scratch, const eng_tensor *, b->graph->n_inputs);
    b->outputs = od_arena_array(c->scratch, eng_tensor, b->graph->n_outputs);
    if (!b->args || !b->outputs) return od_fail(st, OD_NO_MEMORY, "no memory for a subgraph");
    for (int i = 0; i < b->graph->n_captures; i++) b->args[b->n_own + i] = c->in[own_inputs + first + i];
    return OD_OK;
}

od_code eng_body_run(eng_ctx *c, eng_body *b, od_status *st)
{
    for (int i = 0; i < b->graph->n_inputs; i++)
        if (!b->args[i]) return od_fail(st, OD_BAD_ARGUMENT, "input %d of subgraph '%s' is missing", i, b->graph->name);
    return eng_subgraph_run(c, b->graph, b->args, b->outputs, st);
}

od_code eng_scalar_in(const eng_tensor *t, const char *what, eng_dtype dtype, int64_t *out, od_status *st)
{
    if (t->dtype != dtype)
        return od_fail(st, OD_BAD_TYPE, "%s is %s, wanted %s", what, eng_dtype_name(t->dtype), eng_dtype_name(dtype));
    if (eng_tensor_count(t) != 1)
        return od_fail(st, OD_BAD_SHAPE, "%s has %" PRId64 " elements, wanted 1", what, eng_tensor_count(t));
    *out = eng_tensor_int(t, 0);
    return OD_OK;
}

/* ---- stacks ------------------------------------------------------------------------------- */

static od_code stack_room(eng_ctx *c, eng_stack *s, int64_t filled, int64_t room, od_status *st)
{
    eng_tensor bigger = s->t;
    int64_t count;
    bigger.dims[0] = room;
    if (!eng_dims_count(bigger.rank, bigger.dims, &count) || !(bigger.data = eng_run_alloc(c, eng_tensor_bytes(&bigger))))
        return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " results of a subgraph", room);
    if (s->t.data) {
        s->t.dims[0] = filled;
        memcpy(bigger.data, s->t.data, eng_tensor_bytes(&s->t));
    } else if (bigger.dtype == ENG_STRING) {
        memset(bigger.data, 0, eng_tensor_bytes(&bigger));
    }
    s->t = bigger;
    return OD_OK;
}

static od_code check_like(const eng_stack *s, const eng_tensor *e, int64_t at, od_status *st)
{
    char have[160], want[160];
    eng_tensor slice = s->t;
    slice.rank--;
    memmove(slice.dims, slice.dims + 1, (size_t)slice.rank * sizeof *slice.dims);
    if (slice.dtype == e->dtype && eng_dims_equal(&slice, e)) return OD_OK;
    return od_fail(st, OD_BAD_SHAPE, "result %" PRId64 " of a subgraph is %s, those before it were %s", at,
                   eng_tensor_text(e, have, sizeof have), eng_tensor_text(&slice, want, sizeof want));
}

od_code eng_stack_put(eng_ctx *c, eng_stack *s, int64_t at, int64_t room, const eng_tensor *e, od_status *st)
{
    enum { START = 16 };
    if (e->dtype >= ENG_SEQUENCE)
        return od_fail(st, OD_BAD_TYPE, "results of type %s cannot be stacked", eng_dtype_name(e->dtype));
    if (!s->t.data) {
        if (e->rank >= ENG_MAX_RANK)
            return od_fail(st, OD_BAD_SHAPE, "results of rank %d cannot be stacked: at most %d is possible", e->rank,
                           ENG_MAX_RANK - 1);
        s->t = (eng_tensor){.dtype = e->dtype, .rank = e->rank + 1};
        memcpy(s->t.dims + 1, e->dims, (size_t)e->rank * sizeof *e->dims);
        OD_TRY(stack_room(c, s, 0, room ? room : START, st));
    } else {
        OD_TRY(check_like(s, e, at, st));
    }
    if (at >= s->t.dims[0]) OD_TRY(stack_room(c, s, at, at * 2, st));
    eng_tensor copy = *e;
    if (e->dtype == ENG_STRING) OD_TRY(eng_tensor_copy(&copy, e, c->memory, st));
    size_t bytes = eng_tensor_bytes(e);
    if (bytes) memcpy((char *)s->t.data + (size_t)at * bytes, copy.data, bytes);
    return OD_OK;
}

od_code eng_stack_empty(eng_ctx *c, const eng_body *b, int k, eng_tensor *out, od_status *st)
{
    const eng_value *v = &b->graph->values[b->graph->outputs[k]];
    if (!v->dtype || v->dtype >= ENG_SEQUENCE || v->rank >= ENG_MAX_RANK)
        return od_fail(st, OD_BAD_MODEL, "there is no result to stack, and output %d of '%s' declares no tensor type", k,
                       b->graph->name);
    *out = (eng_tensor){.dtype = v->dtype, .rank = 1};
    for (int d = 0; d < v->rank; d++) out->dims[out->rank++] = v->dims[d] < 0 ? 0 : v->dims[d];
    out->data = eng_run_alloc(c, 0);
    return out->data ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for an empty result");
}

/* ---- If ----------------------------------------------------------------------------------- */

static od_code find_branch(eng_ctx *c, eng_body *b, od_status *st)
{
    int64_t yes;
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "the condition is missing");
    OD_TRY(eng_need(c, 0));
    OD_TRY(eng_scalar_in(c->in[0], "the condition", ENG_BOOL, &yes, st));
    OD_TRY(eng_body_find(c, yes ? "then_branch" : "else_branch", b, NULL, st));
    if (b->n_own) return od_fail(st, OD_BAD_MODEL, "subgraph '%s' of If has %d inputs", b->graph->name, b->n_own);
    if (b->graph->n_outputs < c->n_out)
        return od_fail(st, OD_BAD_MODEL, "subgraph '%s' has %d outputs, If has %d", b->graph->name, b->graph->n_outputs,
                       c->n_out);
    return OD_OK;
}

/* While a plan is made: when the condition follows from shapes and so do the outputs', what comes behind can
 * be planned too. */
static od_code plan_branch(eng_ctx *c, const eng_body *b, od_status *st)
{
    eng_graph *g = (eng_graph *)(uintptr_t)b->graph; /* probing leaves it as it is */
    eng_tensor *in = od_arena_array(c->scratch, eng_tensor, g->n_inputs);
    eng_tensor *types = od_arena_array(c->scratch, eng_tensor, g->n_values);
    if (!in || !types) return od_fail(st, OD_NO_MEMORY, "no memory to plan a branch");
    for (int i = 0; i < g->n_inputs; i++)
        if (b->args[i]) in[i] = *b->args[i];
    OD_TRY(eng_plan_probe(g, in, types, NULL, NULL, false, st));
    for (int k = 0; k < c->n_out; k++) {
        const eng_tensor *t = &types[g->outputs[k]];
        if (t->rank < 0 || !t->dtype || t->dtype >= ENG_SEQUENCE) return OD_UNKNOWN_YET;
    }
    for (int k = 0; k < c->n_out; k++)
        OD_TRY(eng_set_out(c, k, types[g->outputs[k]].dtype, types[g->outputs[k]].rank, types[g->outputs[k]].dims, st));
    return OD_OK;
}

od_code eng_if_infer(eng_ctx *c, od_status *st)
{
    eng_body b;
    OD_TRY(find_branch(c, &b, st));
    if (!c->session) return plan_branch(c, &b, st);
    OD_TRY(eng_body_run(c, &b, st));
    for (int k = 0; k < c->n_out; k++) eng_give(c, k, &b.outputs[k]);
    return OD_OK;
}

od_code eng_if_run(eng_ctx *c, od_status *st)
{
    eng_body b;
    char have[160], want[160];
    OD_TRY(find_branch(c, &b, st));
    OD_TRY(eng_body_run(c, &b, st));
    for (int k = 0; k < c->n_out; k++) {
        const eng_tensor *t = &b.outputs[k];
        if (!c->out[k]) continue;
        if (t->dtype != c->out[k]->dtype || !eng_dims_equal(t, c->out[k]))
            return od_fail(st, OD_INTERNAL, "output %d is %s, planned was %s", k, eng_tensor_text(t, have, sizeof have),
                           eng_tensor_text(c->out[k], want, sizeof want));
        eng_tensor_relayout(c->out[k], t, c->pool);
    }
    return OD_OK;
}

od_code eng_no_run(eng_ctx *c, od_status *st)
{
    return od_fail(st, OD_INTERNAL, "%s has left an output without data", c->node->op_type);
}

/* ---- Loop --------------------------------------------------------------------------------- */

#define APPENDS "onnxd:appends" /* by state: 1 where the body gives only what comes behind it */

static int count_readers(const eng_graph *g, int value)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++) n += g->nodes[i].in[k] == value;
    for (int k = 0; k < g->n_outputs; k++) n += g->outputs[k] == value;
    return n;
}

/* Exporters collect results by appending them to a state, which copies all of it in every round. Such a body is made to
 * give what it would append, and the loop does that. */
od_code eng_loop_import(eng_graph *g, eng_node *n, od_status *st)
{
    enum { STATES_MAX = 64 };
    int64_t appends[STATES_MAX] = {0};
    const eng_attr *a = eng_node_attr(n, "body");
    eng_graph *body = a && a->kind == ENG_ATTR_GRAPH ? a->graphs[0] : NULL;
    int states = body ? body->n_inputs - body->n_captures - 2 : 0, found = 0;
    if (states < 1 || states > STATES_MAX || body->n_outputs <= states) return OD_OK;
    for (int i = 0; i < states; i++) {
        int state = body->inputs[2 + i], *out = &body->outputs[1 + i], at = body->values[*out].producer;
        eng_node *concat = at < 0 ? NULL : &body->nodes[at];
        if (!concat || strcmp(concat->op_type, "Concat") != 0 || concat->domain != ENG_DOMAIN_ONNX || concat->n_in != 2 ||
            concat->in[0] != state || concat->in[1] == state || eng_node_int(concat, "axis", -1) != 0 ||
            count_readers(body, state) != 1 || count_readers(body, *out) != 1)
            continue;
        *out = concat->in[1];
        concat->dead = true;
        appends[i] = 1;
        found++;
    }
    if (!found) return OD_OK;
    OD_TRY(eng_graph_sort(body, st)); /* without the dead */
    return eng_node_set_ints(g, n, APPENDS, appends, states, st);
}

typedef struct loop {
    eng_body body;
    int64_t trips; /* INT64_MAX: no bound */
    int64_t go;    /* the condition */
    int n_states, n_scans;
    eng_tensor count, cond; /* the body's first inputs */
    int64_t at;
    uint8_t cond_byte;
    eng_stack *scans;
    const int64_t *appends; /* by state, see APPENDS; NULL: none does */
    eng_stack *grown;       /* those states, row by row */
} loop;

static od_code loop_start(eng_ctx *c, loop *l, od_status *st)
{
    int own;
    eng_body *b = &l->body;
    OD_TRY(eng_body_find(c, "body", b, &own, st));
    l->n_states = own > 2 ? own - 2 : 0;
    l->n_scans = b->graph->n_outputs - 1 - l->n_states;
    if (b->n_own != 2 + l->n_states || l->n_scans < 0)
        return od_fail(st, OD_BAD_MODEL, "a loop with %d states has a body of %d inputs and %d outputs", l->n_states,
                       b->n_own, b->graph->n_outputs);
    if (c->n_out > l->n_states + l->n_scans)
        return od_fail(st, OD_BAD_MODEL, "a loop of %d states and %d scan outputs has %d outputs", l->n_states, l->n_scans,
                       c->n_out);
    l->trips = INT64_MAX;
    l->go = 1;
    if (own > 0 && c->in[0]) OD_TRY(eng_scalar_in(c->in[0], "the trip count", ENG_INT64, &l->trips, st));
    if (own > 1 && c->in[1]) OD_TRY(eng_scalar_in(c->in[1], "the condition", ENG_BOOL, &l->go, st));
    int64_t n_appends;
    l->appends = eng_node_ints(c->node, APPENDS, &n_appends);
    if (n_appends != l->n_states) l->appends = NULL;
    l->scans = od_arena_array(c->scratch, eng_stack, l->n_scans);
    l->grown = od_arena_array(c->scratch, eng_stack, l->n_states);
    if (!l->scans || !l->grown) return od_fail(st, OD_NO_MEMORY, "no memory for %d scan outputs", l->n_scans);
    /* some old exporters declare the two as lists of one */
    l->count = (eng_tensor){.dtype = ENG_INT64, .data = &l->at};
    l->cond = (eng_tensor){.dtype = ENG_BOOL, .data = &l->cond_byte};
    if (b->graph->values[b->graph->inputs[0]].rank == 1) l->count.rank = 1, l->count.dims[0] = 1;
    if (b->graph->values[b->graph->inputs[1]].rank == 1) l->cond.rank = 1, l->cond.dims[0] = 1;
    b->args[0] = &l->count;
    b->args[1] = &l->cond;
    for (int i = 0; i < l->n_states; i++) b->args[2 + i] = c->in[2 + i];
    return OD_OK;
}

/* Rows of `t`, which is like state `i` but for their number, behind those that it has. */
static od_code append_rows(eng_ctx *c, eng_stack *grown, eng_tensor *state, const eng_tensor *t, od_status *st)
{
    char have[160], want[160];
    eng_tensor row = *t, like = *state;
    if (t->rank > 0) like.dims[0] = t->dims[0];
    if (t->rank < 1 || t->dtype != like.dtype || !eng_dims_equal(&like, t))
        return od_fail(st, OD_BAD_SHAPE, "%s cannot be appended to %s", eng_tensor_text(t, have, sizeof have),
                       eng_tensor_text(state, want, sizeof want));
    row.rank--;
    memmove(row.dims, row.dims + 1, (size_t)row.rank * sizeof *row.dims);
    for (int64_t k = 0; k < t->dims[0]; k++) {
        row.data = (char *)t->data + (size_t)k * eng_tensor_bytes(&row);
        OD_TRY(eng_stack_put(c, grown, state->dims[0]++, 0, &row, st));
    }
    if (grown->t.data) state->data = grown->t.data;
    return OD_OK;
}

/* What the states are after a round. */
static od_code next_states(eng_ctx *c, loop *l, eng_tensor *states, od_status *st)
{
    eng_body *b = &l->body;
    OD_TRY(eng_subgraph_carry(c, b->graph, b->outputs + 1, l->n_states, st));
    for (int i = 0; i < l->n_states; i++) {
        if (l->appends && l->appends[i]) {
            if (!l->at) {
                if (!c->in[2 + i]) return od_fail(st, OD_BAD_ARGUMENT, "initial value %d is missing", i);
                states[i] = *c->in[2 + i];
                states[i].dims[0] = 0;
                OD_TRY(append_rows(c, &l->grown[i], &states[i], c->in[2 + i], st));
            }
            OD_TRY(append_rows(c, &l->grown[i], &states[i], &b->outputs[1 + i], st));
        } else { /* the body does not read the others, so it may see the first value: its plan stays the same */
            states[i] = b->outputs[1 + i];
            b->args[2 + i] = &states[i];
        }
    }
    return OD_OK;
}

static od_code loop_round(eng_ctx *c, loop *l, eng_tensor *states, od_status *st)
{
    eng_body *b = &l->body;
    l->cond_byte = 1;
    if (eng_body_run(c, b, st) != OD_OK) return od_note(st, "iteration %" PRId64, l->at);
    OD_TRY(eng_scalar_in(&b->outputs[0], "the body's condition", ENG_BOOL, &l->go, st));
    for (int k = 0; k < l->n_scans; k++) {
        int out = l->n_states + k; /* of the node; in the body the condition stands before */
        if (out >= c->n_out || !c->out[out]) continue;
        if (eng_stack_put(c, &l->scans[k], l->at, 0, &b->outputs[1 + out], st) != OD_OK)
            return od_note(st, "scan output %d", k);
    }
    return next_states(c, l, states, st);
}

od_code eng_loop_infer(eng_ctx *c, od_status *st)
{
    loop l = {.at = 0};
    OD_TRY(loop_start(c, &l, st));
    eng_tensor *states = od_arena_array(c->scratch, eng_tensor, l.n_states);
    if (!states) return od_fail(st, OD_NO_MEMORY, "no memory for %d states", l.n_states);
    for (; l.at < l.trips && l.go; l.at++) OD_TRY(loop_round(c, &l, states, st));
    for (int i = 0; i < l.n_states; i++) {
        if (!l.body.args[2 + i]) return od_fail(st, OD_BAD_ARGUMENT, "initial value %d is missing", i);
        eng_give(c, i, l.at && l.appends && l.appends[i] ? &states[i] : l.body.args[2 + i]);
    }
    for (int k = 0; k < l.n_scans && l.n_states + k < c->n_out; k++) {
        eng_tensor t = l.scans[k].t;
        t.dims[0] = l.at;
        if (!t.data && c->out[l.n_states + k]) OD_TRY(eng_stack_empty(c, &l.body, 1 + l.n_states + k, &t, st));
        eng_give(c, l.n_states + k, &t);
    }
    return OD_OK;
}
