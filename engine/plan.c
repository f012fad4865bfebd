/* plan.c - shapes, layouts and steps of a graph at one set of input shapes. */
#include "engine/plan.h"
#include "engine/lazy.h"

#include <stdlib.h>
#include <string.h>

enum {
    EVAL_MAX = 64 << 20, /* bytes of values that one plan computes ahead */
    GUESS_MAX = 64 << 10 /* of one node's, while extents are guessed: what shapes follow from is small */
};

typedef struct planner {
    eng_plan *plan;
    const eng_graph *g;
    od_arena *arena; /* the plan's */
    od_arena scratch;
    od_pool *pool;
    int cap_values, cap_steps;
    size_t evaluated;
    bool shapes_only;
    bool guessing; /* extents are stand-ins: what a condition on them says means nothing */
} planner;

/* ---- planned values and steps ------------------------------------------------------------- */

static bool grow_list(od_arena *a, void **list, int n, int *cap, size_t size)
{
    if (n < *cap) return true;
    int more = *cap ? *cap * 2 : 64;
    void *bigger = od_arena_calloc(a, (size_t)more, size);
    if (!bigger) return false;
    if (n) memcpy(bigger, *list, (size_t)n * size);
    *list = bigger;
    *cap = more;
    return true;
}

static int add_value(planner *p, od_status *st)
{
    eng_plan *plan = p->plan;
    eng_pvalue *v = od_arena_array(p->arena, eng_pvalue, 1);
    if (!v || !grow_list(p->arena, (void **)&plan->values, plan->n_values, &p->cap_values, sizeof *plan->values)) {
        od_fail(st, OD_NO_MEMORY, "no memory for a plan of %d values", plan->n_values);
        return ENG_NONE;
    }
    v->relayout = ENG_NONE;
    plan->values[plan->n_values] = v;
    return plan->n_values++;
}

static eng_step *add_step(planner *p, const eng_node *node, int n_in, int n_out, od_status *st)
{
    eng_plan *plan = p->plan;
    if (grow_list(p->arena, (void **)&plan->steps, plan->n_steps, &p->cap_steps, sizeof *plan->steps)) {
        eng_step *s = &plan->steps[plan->n_steps];
        *s = (eng_step){.node = node, .n_in = n_in, .n_out = n_out, .ahead = ENG_NONE};
        s->in = od_arena_array(p->arena, int, n_in);
        s->out = od_arena_array(p->arena, int, n_out);
        if (s->in && s->out) {
            plan->n_steps++;
            return s;
        }
    }
    od_fail(st, OD_NO_MEMORY, "no memory for a plan of %d steps", plan->n_steps);
    return NULL;
}

static int add_alias(planner *p, int of, const eng_tensor *t, od_status *st)
{
    int v = add_value(p, st);
    if (v < 0) return ENG_NONE;
    eng_pvalue *to = p->plan->values[v], *from = p->plan->values[of];
    to->t = *t;
    to->of = of;
    if (from->where == ENG_AT_PLAN) {
        to->where = ENG_AT_PLAN;
    } else {
        to->where = ENG_AT_ALIAS;
        from->shared = true;
    }
    return v;
}

/* Value `v` seen with `rank` dimensions, ones put in front. */
static int extend_rank(planner *p, int v, int rank, od_status *st)
{
    eng_tensor t = p->plan->values[v]->t;
    int more = rank - t.rank;
    memmove(t.dims + more, t.dims, (size_t)t.rank * sizeof *t.dims);
    for (int i = 0; i < more; i++) t.dims[i] = 1;
    t.rank = rank;
    return add_alias(p, v, &t, st);
}

/* Value `v` in `layout`, dense unless a pitch is accepted: itself, a relabelled view, or a copy. */
static int in_layout(planner *p, int v, eng_layout layout, bool pitch_ok, od_status *st)
{
    eng_pvalue *from = p->plan->values[v];
    eng_tensor t = from->t;
    bool dense = t.layout == ENG_ROW || t.pitch == t.dims[1];
    if (t.layout == layout && (dense || pitch_ok)) return v;
    if (from->relayout >= 0 && p->plan->values[from->relayout]->t.layout == layout) return from->relayout;
    bool relabel = eng_tensor_layout_free(&t);
    t.layout = layout;
    t.pitch = layout == ENG_CL ? t.dims[1] : 0;
    int to = ENG_NONE;
    if (relabel) {
        to = add_alias(p, v, &t, st);
        if (to < 0) return ENG_NONE;
    } else if (from->where == ENG_AT_PLAN) {
        eng_tensor was = from->t;
        if ((to = add_value(p, st)) < 0) return ENG_NONE;
        t.data = od_arena_alloc(p->arena, eng_tensor_bytes(&t));
        if (!t.data) {
            od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes of a constant", eng_tensor_bytes(&t));
            return ENG_NONE;
        }
        eng_tensor_relayout(&t, &was, p->pool);
        p->plan->values[to]->t = t;
        p->plan->values[to]->where = ENG_AT_PLAN;
    } else {
        if ((to = add_value(p, st)) < 0) return ENG_NONE;
        t.data = NULL;
        p->plan->values[to]->t = t;
        p->plan->values[to]->where = ENG_AT_SCRATCH;
        eng_step *s = add_step(p, NULL, 1, 1, st);
        if (!s) return ENG_NONE;
        s->in[0] = v;
        s->out[0] = to;
    }
    from->relayout = to;
    return to;
}

/* ---- one node ----------------------------------------------------------------------------- */

static void make_ctx(planner *p, const eng_node *n, eng_ctx *c)
{
    *c = (eng_ctx){.node = n, .n_in = n->n_in, .n_out = n->n_out, .scratch = &p->scratch, .memory = p->arena,
                   .pool = p->pool};
    c->in = od_arena_array(&p->scratch, const eng_tensor *, n->n_in);
    c->out = od_arena_array(&p->scratch, eng_tensor *, n->n_out);
    if (!c->in || !c->out) return;
    for (int i = 0; i < n->n_in; i++) c->in[i] = n->in[i] < 0 ? NULL : &p->plan->values[n->in[i]]->t;
    for (int k = 0; k < n->n_out; k++) {
        eng_pvalue *v = n->out[k] < 0 ? NULL : p->plan->values[n->out[k]];
        c->out[k] = v && (k == 0 || v->readers) ? &v->t : NULL;
    }
}

static od_code mark_dynamic(planner *p, const eng_node *n, od_status *st)
{
    for (int k = 0; k < n->n_out; k++) {
        if (n->out[k] < 0) continue;
        eng_pvalue *v = p->plan->values[n->out[k]];
        v->where = ENG_AT_RUN;
        v->t = (eng_tensor){.rank = -1};
    }
    if (p->shapes_only) return OD_OK;
    eng_step *s = add_step(p, n, n->n_in, n->n_out, st);
    if (!s) return st->code;
    s->dynamic = true;
    for (int i = 0; i < n->n_in; i++) s->in[i] = n->in[i];
    for (int k = 0; k < n->n_out; k++) s->out[k] = n->out[k];
    return OD_OK;
}

/* An input that is a constant whose bytes are still in the file. */
static bool waits(const planner *p, const eng_ctx *c, int i)
{
    return c->in[i] && !c->in[i]->data && eng_lazy(p->g->model, p->g->values[c->node->in[i]].constant);
}

static bool all_known(const planner *p, const eng_ctx *c)
{
    if (c->node->op->flags & ENG_SHAPE_ONLY) return true;
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i] && !c->in[i]->data && !waits(p, c, i)) return false;
    return true;
}

static od_code load_inputs(planner *p, const eng_ctx *c, od_status *st)
{
    for (int i = 0; i < c->n_in; i++) {
        if (!waits(p, c, i)) continue;
        const eng_tensor *t = p->g->values[c->node->in[i]].constant;
        OD_TRY(eng_lazy_load(p->g->model, t, st));
        p->plan->values[c->node->in[i]]->t.data = t->data;
    }
    return OD_OK;
}

/* Compute outputs that follow from shapes and constants. *done stays false when they are too large. */
static od_code evaluate(planner *p, eng_ctx *c, bool *done, od_status *st)
{
    size_t bytes = 0;
    for (int k = 0; k < c->n_out; k++)
        if (c->out[k]) bytes += eng_tensor_bytes(c->out[k]);
    if (bytes > EVAL_MAX - p->evaluated || (p->guessing && bytes > GUESS_MAX)) return OD_OK;
    OD_TRY(load_inputs(p, c, st));
    if (c->node->op->alias && c->n_in && c->in[0] && c->in[0]->data && c->n_out == 1) {
        int64_t offset = 0;
        if (c->node->op->alias(c, 0, &offset)) {
            c->out[0]->data = (char *)c->in[0]->data + offset * (int64_t)eng_dtype_size(c->in[0]->dtype);
            *done = true;
        }
    }
    if (!*done) {
        for (int k = 0; k < c->n_out; k++) {
            if (!c->out[k]) continue;
            c->out[k]->data = od_arena_alloc(p->arena, eng_tensor_bytes(c->out[k]));
            if (!c->out[k]->data) return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes", bytes);
        }
        OD_TRY(eng_op_compute(c, st));
        p->evaluated += bytes;
        *done = true;
    }
    for (int k = 0; k < c->n_out; k++)
        if (c->node->out[k] >= 0 && c->out[k]) p->plan->values[c->node->out[k]]->where = ENG_AT_PLAN;
    return OD_OK;
}

/* Bring the inputs to their layouts, give the outputs theirs, and append the step. */
static od_code place(planner *p, eng_ctx *c, od_status *st)
{
    const eng_node *n = c->node;
    eng_layout want_out, *want_in = od_arena_array(&p->scratch, eng_layout, c->n_in);
    int *in = od_arena_array(&p->scratch, int, c->n_in);
    if (!want_in || !in) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", c->n_in);
    eng_layout_choose(c, want_in, &want_out);
    for (int i = 0; i < c->n_in; i++) {
        in[i] = n->in[i];
        if (in[i] < 0) continue;
        if (n->op->flags & ENG_CL_ALL && want_in[i] == ENG_CL && c->out[0] && c->in[i]->rank < c->out[0]->rank)
            if ((in[i] = extend_rank(p, in[i], c->out[0]->rank, st)) < 0) return st->code;
        if (p->plan->values[in[i]]->t.rank < 3) want_in[i] = ENG_ROW;
        if ((in[i] = in_layout(p, in[i], want_in[i], eng_accepts_pitch(n, i), st)) < 0) return st->code;
        c->in[i] = &p->plan->values[in[i]]->t;
    }
    for (int k = 0; k < c->n_out; k++) {
        if (!c->out[k]) continue;
        c->out[k]->layout = c->out[k]->rank >= 3 ? want_out : ENG_ROW;
        c->out[k]->pitch = c->out[k]->layout == ENG_CL ? c->out[k]->dims[1] : 0;
    }
    bool needed = false;
    for (int k = 0; k < c->n_out; k++) {
        if (!c->out[k]) continue;
        eng_pvalue *v = p->plan->values[n->out[k]];
        int64_t offset = 0;
        if (n->op->alias && n->op->alias(c, k, &offset)) {
            v->where = ENG_AT_ALIAS;
            v->of = in[0];
            v->offset = offset;
            p->plan->values[in[0]]->shared = true;
            if (p->plan->values[in[0]]->where == ENG_AT_PLAN) {
                v->where = ENG_AT_PLAN;
                v->t.data = (char *)p->plan->values[in[0]]->t.data + offset * (int64_t)eng_dtype_size(v->t.dtype);
            }
        } else {
            v->where = ENG_AT_SCRATCH;
            needed = true;
        }
    }
    if (!needed) return OD_OK;
    eng_step *s = add_step(p, n, n->n_in, n->n_out, st);
    if (!s) return st->code;
    memcpy(s->in, in, (size_t)n->n_in * sizeof *in);
    for (int k = 0; k < n->n_out; k++) s->out[k] = c->out[k] ? n->out[k] : ENG_NONE;
    s->macs = eng_node_macs(c);
    return OD_OK;
}

static od_code plan_node(planner *p, const eng_node *n, od_status *st)
{
    eng_ctx c;
    make_ctx(p, n, &c);
    if (!c.in || !c.out) return od_fail(st, OD_NO_MEMORY, "no memory for a node");
    bool branches = n->op->flags & ENG_BRANCH && !p->guessing;
    if ((n->op->flags & ENG_SEQ || eng_node_has_graph(n)) && !branches) return mark_dynamic(p, n, st);
    for (int i = 0; i < n->n_in; i++)
        if (c.in[i] && (c.in[i]->rank < 0 || c.in[i]->dtype >= ENG_SEQUENCE)) return mark_dynamic(p, n, st);
    OD_TRY(eng_check_op_type(&c, st));
    od_code rc = eng_op_infer(&c, st);
    if (rc == OD_UNKNOWN_YET) return mark_dynamic(p, n, st);
    if (rc != OD_OK) return rc;
    if (!branches && all_known(p, &c) && !(n->op->flags & ENG_RANDOM)) {
        bool done = false;
        OD_TRY(evaluate(p, &c, &done, st));
        if (done) return OD_OK;
    }
    if (p->shapes_only) return OD_OK;
    return place(p, &c, st);
}

/* ---- a whole plan ------------------------------------------------------------------------- */

static void count_readers(eng_plan *plan)
{
    const eng_graph *g = plan->graph;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] >= 0) plan->values[g->nodes[i].in[k]]->readers++;
    for (int k = 0; k < g->n_outputs; k++) plan->values[g->outputs[k]]->readers++;
}

static od_code place_inputs(planner *p, const eng_tensor *inputs, od_status *st)
{
    eng_plan *plan = p->plan;
    const eng_graph *g = p->g;
    for (int v = 0; v < g->n_values; v++) {
        if (add_value(p, st) < 0) return st->code;
        plan->values[v]->t.rank = -1;
        if (!g->values[v].constant) continue;
        plan->values[v]->t = *g->values[v].constant;
        if (eng_lazy(g->model, g->values[v].constant)) plan->values[v]->t.data = NULL; /* until it is wanted */
        plan->values[v]->where = ENG_AT_PLAN;
    }
    plan->key = od_arena_array(p->arena, eng_tensor, g->n_inputs);
    if (!plan->key) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", g->n_inputs);
    for (int i = 0; i < g->n_inputs; i++) {
        eng_pvalue *v = plan->values[g->inputs[i]];
        plan->key[i] = inputs[i];
        if (v->where == ENG_AT_PLAN && !inputs[i].data) continue; /* the model's default */
        v->t = inputs[i];
        v->t.data = NULL;
        v->where = ENG_AT_INPUT;
        v->of = i;
        if (v->t.dtype >= ENG_SEQUENCE) { /* its elements' shapes are data */
            v->t.rank = -1;
        }
    }
    return OD_OK;
}

static od_code place_outputs(planner *p, od_status *st)
{
    eng_plan *plan = p->plan;
    plan->outputs = od_arena_array(p->arena, int, p->g->n_outputs);
    if (!plan->outputs) return od_fail(st, OD_NO_MEMORY, "no memory for %d outputs", p->g->n_outputs);
    for (int k = 0; k < p->g->n_outputs; k++) {
        int v = p->g->outputs[k];
        if (plan->values[v]->where != ENG_AT_RUN && plan->values[v]->t.rank >= 0)
            if ((v = in_layout(p, v, ENG_ROW, false, st)) < 0) return st->code;
        plan->outputs[k] = v;
    }
    return OD_OK;
}

static od_code plan_nodes(planner *p, od_status *st)
{
    for (int i = 0; i < p->g->n_nodes; i++) {
        const eng_node *n = &p->g->nodes[i];
        od_arena_mark mark = od_arena_save(&p->scratch);
        if (plan_node(p, n, st) != OD_OK) return eng_note_node(p->g, n, st);
        od_arena_rewind(&p->scratch, mark);
    }
    return OD_OK;
}

void eng_plan_free(eng_plan *plan)
{
    if (!plan) return;
    od_arena_fini(&plan->arena);
    free(plan);
}

od_code eng_plan_build(eng_plan **out, const eng_graph *g, const eng_tensor *inputs, od_pool *pool, od_status *st)
{
    eng_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return od_fail(st, OD_NO_MEMORY, "no memory for a plan");
    planner p = {.plan = plan, .g = g, .arena = &plan->arena, .pool = pool};
    od_code rc;
    plan->graph = g;
    plan->refs = 1;
    if ((rc = place_inputs(&p, inputs, st)) != OD_OK) goto done;
    count_readers(plan);
    if ((rc = plan_nodes(&p, st)) != OD_OK) goto done;
    if ((rc = place_outputs(&p, st)) != OD_OK) goto done;
    if ((rc = eng_plan_place(plan, &p.scratch, st)) != OD_OK) goto done;
    *out = plan;
    plan = NULL;
done:
    eng_plan_free(plan);
    od_arena_fini(&p.scratch);
    return rc;
}

od_code eng_plan_probe(eng_graph *g, const eng_tensor *inputs, eng_tensor *types, const eng_tensor **known,
                       od_arena *keep, bool tolerant, od_status *st)
{
    eng_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return od_fail(st, OD_NO_MEMORY, "no memory for a plan");
    planner p = {.plan = plan, .g = g, .arena = &plan->arena, .shapes_only = true, .guessing = tolerant};
    od_code rc;
    plan->graph = g;
    if ((rc = place_inputs(&p, inputs, st)) != OD_OK) goto done;
    count_readers(plan);
    for (int i = 0; i < g->n_nodes; i++) {
        const eng_node *n = &g->nodes[i];
        od_arena_mark mark = od_arena_save(&p.scratch);
        rc = plan_node(&p, n, st);
        od_arena_rewind(&p.scratch, mark);
        if (rc == OD_OK) continue;
        bool certain = rc == OD_BAD_TYPE || rc == OD_UNSUPPORTED || rc == OD_NO_MEMORY;
        if (!tolerant || certain) {
            eng_note_node(g, n, st);
            goto done;
        }
        if ((rc = mark_dynamic(&p, n, st)) != OD_OK) goto done;
    }
    for (int v = 0; v < g->n_values; v++) {
        const eng_pvalue *pv = plan->values[v];
        types[v] = pv->t;
        types[v].data = NULL;
        if (!known || pv->where != ENG_AT_PLAN || g->values[v].constant) continue;
        eng_tensor *copy = od_arena_array(keep, eng_tensor, 1);
        if (!copy) {
            rc = od_fail(st, OD_NO_MEMORY, "no memory for a constant");
            goto done;
        }
        if ((rc = eng_tensor_copy(copy, &pv->t, keep, st)) != OD_OK) goto done;
        known[v] = copy;
    }
    rc = OD_OK;
done:
    eng_plan_free(plan);
    od_arena_fini(&p.scratch);
    return rc;
}
