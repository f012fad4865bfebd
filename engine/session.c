#include "engine/session.h"
#include "engine/base/cpu.h"
#include "engine/base/pages.h"
#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

/* A session of a subgraph, kept for the next time its node runs. */
typedef struct child {
    struct child *next;
    eng_session *session;
} child;

enum { OTHERS_MAX = 64 };

struct eng_session {
    eng_model *model;
    eng_graph *graph;
    od_pool *pool;
    size_t memory_limit;
    int depth; /* subgraphs inside subgraphs */

    eng_plan *plan;     /* the one the fields up to `block_size` were made for */
    od_arena bound;     /* tensors and contexts of that plan */
    eng_tensor *t;      /* by planned value */
    eng_ctx *ctx;       /* by step */
    int *of_inputs, n_of_inputs; /* planned values that lie in an input's bytes */
    char *block;        /* the scratch block */
    size_t block_size;

    od_arena scratch; /* of the operator that runs */
    od_arena memory;  /* lives from the start of a run to the start of the next */
    od_arena carried[2]; /* of a subgraph: what eng_subgraph_carry copied last, and before that */
    int turn;
    child *children;
    eng_session *others[OTHERS_MAX]; /* without a pool: they run parts of a batch beside each other */
    bool (*cancelled)(void *);
    void *cancel_arg;
    bool profiling;
    eng_profile_row *rows; /* by step; NULL while nobody profiles this plan */
    eng_profile_row *shown; /* those that ran, for eng_session_profile_rows */
};

enum { DEPTH_MAX = 32 };

void *eng_run_alloc(eng_ctx *c, size_t size)
{
    return od_arena_alloc(c->memory, size);
}

/* ---- binding a plan ----------------------------------------------------------------------- */

/* Fill in where value `v` lies, its base first. Bases come before their views except where a pass
 * over steps made an earlier value a view of a later one, hence the recursion. */
static void place_value(eng_session *s, int v)
{
    const eng_pvalue *pv = s->plan->values[v];
    eng_tensor *t = &s->t[v];
    if (pv->where == ENG_AT_SCRATCH) {
        t->data = s->block + pv->offset;
    } else if (pv->where == ENG_AT_ALIAS) {
        place_value(s, pv->of);
        char *base = s->t[pv->of].data;
        t->data = base ? base + pv->offset * (int64_t)eng_dtype_size(t->dtype) : NULL;
    }
}

static bool lies_in_input(const eng_plan *plan, int v)
{
    while (plan->values[v]->where == ENG_AT_ALIAS) v = plan->values[v]->of;
    return plan->values[v]->where == ENG_AT_INPUT;
}

static od_code bind_steps(eng_session *s, od_status *st)
{
    const eng_plan *plan = s->plan;
    s->ctx = od_arena_array(&s->bound, eng_ctx, plan->n_steps);
    if (!s->ctx) return od_fail(st, OD_NO_MEMORY, "no memory for %d steps", plan->n_steps);
    for (int i = 0; i < plan->n_steps; i++) {
        const eng_step *step = &plan->steps[i];
        eng_ctx *c = &s->ctx[i];
        *c = (eng_ctx){.node = step->node, .n_in = step->n_in, .n_out = step->n_out, .scratch = &s->scratch,
                       .memory = &s->memory, .pool = s->pool, .session = s, .ahead = step->ahead < 0 ? NULL : &s->ctx[step->ahead]};
        c->in = od_arena_array(&s->bound, const eng_tensor *, step->n_in);
        c->out = od_arena_array(&s->bound, eng_tensor *, step->n_out);
        if (!c->in || !c->out) return od_fail(st, OD_NO_MEMORY, "no memory for %d steps", plan->n_steps);
        for (int k = 0; k < step->n_in; k++) c->in[k] = step->in[k] < 0 ? NULL : &s->t[step->in[k]];
        for (int k = 0; k < step->n_out; k++) {
            int v = step->out[k];
            c->out[k] = v < 0 || (k && step->dynamic && !plan->values[v]->readers) ? NULL : &s->t[v];
        }
    }
    return OD_OK;
}

static od_code make_rows(eng_session *s, od_status *st)
{
    if (!s->profiling || !s->plan || s->rows) return OD_OK;
    s->shown = od_arena_array(&s->bound, eng_profile_row, s->plan->n_steps);
    s->rows = s->shown ? od_arena_array(&s->bound, eng_profile_row, s->plan->n_steps) : NULL;
    return s->rows ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory to profile %d steps", s->plan->n_steps);
}

static void unbind(eng_session *s)
{
    eng_plan_release(s->plan);
    s->plan = NULL;
    s->rows = NULL;
    od_arena_reset(&s->bound);
}

static od_code bind(eng_session *s, eng_plan *plan, od_status *st)
{
    if (plan == s->plan) return OD_OK;
    unbind(s);
    s->plan = eng_plan_keep(plan);
    if (plan->scratch_bytes > s->block_size) {
        od_block_free(s->block, s->block_size);
        s->block = NULL;
        s->block_size = 0;
        if (!s->memory_limit || plan->scratch_bytes <= s->memory_limit) s->block = od_block_alloc(plan->scratch_bytes);
        if (!s->block) {
            od_fail(st, OD_NO_MEMORY, "this run needs %zu bytes for intermediate values", plan->scratch_bytes);
            goto fail;
        }
        od_pages_want_large(s->block, s->block_size = plan->scratch_bytes);
    }
    s->t = od_arena_array(&s->bound, eng_tensor, plan->n_values);
    s->of_inputs = od_arena_array(&s->bound, int, plan->n_values);
    if (!s->t || !s->of_inputs) {
        od_fail(st, OD_NO_MEMORY, "no memory for %d values", plan->n_values);
        goto fail;
    }
    s->n_of_inputs = 0;
    for (int v = 0; v < plan->n_values; v++) s->t[v] = plan->values[v]->t;
    for (int v = 0; v < plan->n_values; v++) {
        if (lies_in_input(plan, v)) s->of_inputs[s->n_of_inputs++] = v;
        else place_value(s, v);
    }
    if (bind_steps(s, st) == OD_OK && make_rows(s, st) == OD_OK) return OD_OK;
fail:
    unbind(s);
    return st->code;
}

static void bind_inputs(eng_session *s, const eng_tensor *inputs)
{
    for (int i = 0; i < s->n_of_inputs; i++) {
        int v = s->of_inputs[i];
        const eng_pvalue *pv = s->plan->values[v];
        if (pv->where == ENG_AT_INPUT) s->t[v] = inputs[pv->of];
    }
    for (int i = 0; i < s->n_of_inputs; i++) place_value(s, s->of_inputs[i]);
}

/* ---- dynamic steps ------------------------------------------------------------------------ */

/* A copy or relabelled view of `t` in `layout`, dense unless `pitch_ok`. */
static const eng_tensor *relayout(eng_session *s, const eng_tensor *t, eng_layout layout, bool pitch_ok)
{
    bool dense = t->layout == ENG_ROW || t->pitch == t->dims[1];
    if (t->layout == layout && (dense || pitch_ok)) return t;
    eng_tensor *to = od_arena_array(&s->memory, eng_tensor, 1);
    if (!to) return NULL;
    *to = *t;
    to->layout = layout;
    to->pitch = layout == ENG_CL ? t->dims[1] : 0;
    if (eng_tensor_layout_free(t)) return to;
    to->data = od_arena_alloc(&s->memory, eng_tensor_bytes(to));
    if (!to->data) return NULL;
    eng_tensor_relayout(to, t, s->pool);
    return to;
}

static const eng_tensor *extend_rank(eng_session *s, const eng_tensor *t, int rank)
{
    eng_tensor *to = od_arena_array(&s->memory, eng_tensor, 1);
    if (!to) return NULL;
    *to = *t;
    int more = rank - t->rank;
    memmove(to->dims + more, t->dims, (size_t)t->rank * sizeof *t->dims);
    for (int i = 0; i < more; i++) to->dims[i] = 1;
    to->rank = rank;
    return to;
}

static od_code settle_layouts(eng_session *s, eng_ctx *c, od_status *st)
{
    eng_layout want_out, *want_in = od_arena_array(&s->scratch, eng_layout, c->n_in);
    if (!want_in) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", c->n_in);
    eng_layout_choose(c, want_in, &want_out);
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i]) continue;
        if (c->node->op->flags & ENG_CL_ALL && want_in[i] == ENG_CL && c->out[0] && c->in[i]->rank < c->out[0]->rank)
            c->in[i] = extend_rank(s, c->in[i], c->out[0]->rank);
        if (c->in[i] && c->in[i]->rank < 3) want_in[i] = ENG_ROW;
        if (c->in[i]) c->in[i] = relayout(s, c->in[i], want_in[i], eng_accepts_pitch(c->node, i));
        if (!c->in[i]) return od_fail(st, OD_NO_MEMORY, "no memory for input %d in another layout", i);
    }
    for (int k = 0; k < c->n_out; k++) {
        if (!c->out[k]) continue;
        c->out[k]->layout = c->out[k]->rank >= 3 ? want_out : ENG_ROW;
        c->out[k]->pitch = c->out[k]->layout == ENG_CL ? c->out[k]->dims[1] : 0;
    }
    return OD_OK;
}

/* Infer, place and run a node whose shapes are known only now. */
static od_code run_dynamic(eng_session *s, const eng_ctx *bound, od_status *st)
{
    eng_ctx c = *bound;
    const eng_op *op = c.node->op;
    bool layouts = op->flags & (ENG_CL_FIRST | ENG_CL_ALL) || op->layout;
    c.in = od_arena_array(&s->scratch, const eng_tensor *, c.n_in);
    if (!c.in) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", c.n_in);
    for (int i = 0; i < c.n_in; i++) {
        c.in[i] = bound->in[i];
        if (c.in[i] && !layouts && !(c.in[i] = relayout(s, c.in[i], ENG_ROW, false)))
            return od_fail(st, OD_NO_MEMORY, "no memory for input %d in another layout", i);
    }
    OD_TRY(eng_check_op_type(&c, st));
    for (int k = 0; k < c.n_out; k++)
        if (c.out[k]) *c.out[k] = (eng_tensor){.rank = 0};
    od_code rc = eng_op_infer(&c, st);
    if (rc == OD_UNKNOWN_YET)
        return od_fail(st, OD_INTERNAL, "its shape stays unknown with all inputs there");
    if (rc != OD_OK) return rc;
    OD_TRY(settle_layouts(s, &c, st));
    bool needed = false;
    for (int k = 0; k < c.n_out; k++) {
        if (!c.out[k]) continue;
        int64_t offset = 0;
        if (c.out[k]->data) continue; /* infer did it all */
        if (op->alias && op->alias(&c, k, &offset)) {
            c.out[k]->data = (char *)c.in[0]->data + offset * (int64_t)eng_dtype_size(c.in[0]->dtype);
            continue;
        }
        needed = true;
        c.out[k]->data = od_arena_alloc(&s->memory, eng_tensor_bytes(c.out[k]));
        if (!c.out[k]->data)
            return od_fail(st, OD_NO_MEMORY, "no memory for output %d of %zu bytes", k, eng_tensor_bytes(c.out[k]));
    }
    return needed ? eng_op_run(&c, st) : OD_OK;
}

/* ---- a run -------------------------------------------------------------------------------- */

static od_code run_step(eng_session *s, int i, od_status *st)
{
    const eng_step *step = &s->plan->steps[i];
    eng_ctx *c = &s->ctx[i];
    if (!step->node) {
        eng_tensor_relayout(c->out[0], c->in[0], s->pool);
        return OD_OK;
    }
    od_arena_mark mark = od_arena_save(&s->scratch);
    od_arena_lend(&s->scratch, s->block ? s->block + step->free_from : NULL, step->free_bytes);
    od_code rc = step->dynamic ? run_dynamic(s, c, st) : eng_op_run(c, st);
    od_arena_rewind(&s->scratch, mark);
    od_arena_lend(&s->scratch, NULL, 0);
    return rc == OD_OK ? OD_OK : eng_note_node(s->graph, step->node, st);
}

static od_code run_steps(eng_session *s, od_status *st)
{
    for (int i = 0; i < s->plan->n_steps; i++) {
        if (s->cancelled && s->cancelled(s->cancel_arg)) return od_fail(st, OD_CANCELLED, "the run was cancelled");
        if (s->plan->steps[i].left) continue;
        if (!s->profiling) {
            OD_TRY(run_step(s, i, st));
            continue;
        }
        int64_t from = od_now_ns();
        OD_TRY(run_step(s, i, st));
        eng_profile_row *r = &s->rows[i];
        int64_t ns = od_now_ns() - from;
        r->ns += ns;
        if (!r->runs++ || ns < r->least_ns) r->least_ns = ns;
    }
    return OD_OK;
}

static od_code collect_outputs(eng_session *s, eng_tensor *outputs, od_status *st)
{
    for (int k = 0; k < s->graph->n_outputs; k++) {
        const eng_tensor *t = relayout(s, &s->t[s->plan->outputs[k]], ENG_ROW, false);
        if (!t) return od_fail(st, OD_NO_MEMORY, "no memory for output %d", k);
        outputs[k] = *t;
    }
    return OD_OK;
}

static od_code check_input(const eng_graph *g, int i, const eng_tensor *t, od_status *st)
{
    const eng_value *v = &g->values[g->inputs[i]];
    char have[160];
    int64_t count;
    if (!t->data) {
        if (v->constant) return OD_OK;
        return od_fail(st, OD_BAD_ARGUMENT, "input '%s' is missing", v->name);
    }
    if (t->rank < 0 || t->rank > ENG_MAX_RANK || !eng_dims_count(t->rank, t->dims, &count))
        return od_fail(st, OD_BAD_SHAPE, "input '%s' has an impossible shape", v->name);
    bool fits = v->rank < 0 || v->rank == t->rank;
    for (int d = 0; fits && d < v->rank; d++) fits = v->dims[d] < 0 || v->dims[d] == t->dims[d];
    if (fits && (!v->dtype || v->dtype == t->dtype)) return OD_OK;
    eng_tensor want = {.dtype = v->dtype, .rank = v->rank < 0 ? 0 : v->rank};
    char wanted[160];
    memcpy(want.dims, v->dims, sizeof want.dims);
    return od_fail(st, fits ? OD_BAD_TYPE : OD_BAD_SHAPE, "input '%s' is %s, the model takes %s", v->name,
                   eng_tensor_text(t, have, sizeof have), eng_tensor_text(&want, wanted, sizeof wanted));
}

/* Run the bound plan. */
static od_code run_once(eng_session *s, const eng_tensor *inputs, eng_tensor *outputs, od_status *st)
{
    bind_inputs(s, inputs);
    OD_TRY(run_steps(s, st));
    return collect_outputs(s, outputs, st);
}

/* A batch that runs in parts. */
typedef struct parts_job {
    eng_session *s;
    const eng_plan *whole;
    const eng_tensor *inputs;
    eng_tensor *outputs; /* of the whole batch */
    int64_t parts, runners; /* parts to share out */
    od_status status[OTHERS_MAX];
} parts_job;

/* Run part `p` on `s`, to which the part's plan is bound. */
static od_code run_part(parts_job *job, eng_session *s, int64_t p, od_status *st)
{
    int n_in = s->graph->n_inputs, n_out = s->graph->n_outputs;
    eng_tensor *in = od_arena_array(&s->memory, eng_tensor, n_in), *out = od_arena_array(&s->memory, eng_tensor, n_out);
    if (!in || !out) return od_fail(st, OD_NO_MEMORY, "no memory for the parts of a batch");
    for (int i = 0; i < n_in; i++) {
        int64_t strides[ENG_MAX_RANK];
        in[i] = job->inputs[i];
        if (!job->whole->divided[i]) continue;
        in[i].dims[0] /= job->whole->parts;
        eng_tensor_strides(&in[i], strides);
        in[i].data = (char *)in[i].data + p * in[i].dims[0] * strides[0] * (int64_t)eng_dtype_size(in[i].dtype);
    }
    OD_TRY(run_once(s, in, out, st));
    for (int k = 0; k < n_out; k++) {
        size_t bytes = eng_tensor_bytes(&out[k]);
        memcpy((char *)job->outputs[k].data + (size_t)p * bytes, out[k].data, bytes);
    }
    return OD_OK;
}

static void run_share(void *arg, int64_t runner, int slot)
{
    parts_job *job = arg;
    unsigned was = od_cpu_float_fast();
    (void)slot;
    for (int64_t p = runner; p < job->parts && job->status[runner].code == OD_OK; p += job->runners)
        run_part(job, job->s->others[runner], p, &job->status[runner]);
    od_cpu_float_restore(was);
}

/* A session for each runner, ready to run parts. */
static od_code ready_others(eng_session *s, const eng_plan *whole, int64_t runners, od_status *st)
{
    for (int64_t r = 0; r < runners; r++) {
        eng_session *o = s->others[r];
        if (!o) {
            OD_TRY(eng_session_create(&o, s->model, NULL, s->memory_limit, st));
            s->others[r] = o;
        }
        eng_session_set_cancel(o, s->cancelled, s->cancel_arg);
        od_arena_reset(&o->memory);
        od_arena_reset(&o->scratch);
        OD_TRY(bind(o, whole->part, st));
    }
    return OD_OK;
}

/* Run a batch in parts: as many at once as there are idle workers, and what is left over with all of them. */
static od_code run_parts(eng_session *s, const eng_plan *whole, const eng_tensor *inputs, eng_tensor *outputs, od_status *st)
{
    parts_job job = {.s = s, .whole = whole, .inputs = inputs, .outputs = outputs};
    job.runners = s->profiling ? 1 : od_min_i64(od_min_i64(od_pool_idle(s->pool) + 1, whole->parts), OTHERS_MAX);
    for (int k = 0; k < s->graph->n_outputs; k++) {
        outputs[k] = whole->values[whole->outputs[k]]->t;
        outputs[k].data = od_arena_alloc(&s->memory, eng_tensor_bytes(&outputs[k]));
        if (!outputs[k].data) return od_fail(st, OD_NO_MEMORY, "no memory for output %d", k);
    }
    if (job.runners > 1) {
        job.parts = whole->parts - whole->parts % job.runners;
        OD_TRY(ready_others(s, whole, job.runners, st));
        od_pool_for(s->pool, job.runners, run_share, &job);
        for (int64_t r = 0; r < job.runners; r++) {
            if (job.status[r].code == OD_OK) continue;
            *st = job.status[r];
            return st->code;
        }
    }
    if (job.parts < whole->parts) OD_TRY(bind(s, whole->part, st));
    for (int64_t p = job.parts; p < whole->parts; p++) OD_TRY(run_part(&job, s, p, st));
    return OD_OK;
}

static od_code run(eng_session *s, const eng_tensor *inputs, eng_tensor *outputs, od_status *st)
{
    eng_plan *plan = NULL;
    od_arena_reset(&s->memory);
    od_arena_reset(&s->scratch);
    OD_TRY(eng_plan_acquire(&plan, s->graph, inputs, s->pool, st));
    od_code rc = plan->part ? run_parts(s, plan, inputs, outputs, st) : bind(s, plan, st);
    if (!plan->part && rc == OD_OK) rc = run_once(s, inputs, outputs, st);
    eng_plan_release(plan);
    return rc;
}

od_code eng_model_check_inputs(const eng_model *model, const eng_tensor *inputs, od_status *st)
{
    for (int i = 0; i < model->graph->n_inputs; i++) OD_TRY(check_input(model->graph, i, &inputs[i], st));
    return OD_OK;
}

od_code eng_session_run(eng_session *s, const eng_tensor *inputs, eng_tensor *outputs, od_status *st)
{
    OD_TRY(eng_model_check_inputs(s->model, inputs, st));
    unsigned was = od_cpu_float_fast();
    od_pool_hold(s->pool);
    od_code rc = run(s, inputs, outputs, st);
    od_pool_release(s->pool);
    od_cpu_float_restore(was);
    return rc;
}

/* ---- subgraphs ---------------------------------------------------------------------------- */

static eng_session *child_of(eng_session *s, const eng_graph *sub, od_status *st)
{
    for (child *c = s->children; c; c = c->next)
        if (c->session->graph == sub) return c->session;
    if (s->depth >= DEPTH_MAX) {
        od_fail(st, OD_UNSUPPORTED, "subgraphs lie more than %d deep", DEPTH_MAX);
        return NULL;
    }
    child *c = calloc(1, sizeof *c);
    if (!c || eng_session_create(&c->session, s->model, s->pool, s->memory_limit, st) != OD_OK) {
        free(c);
        od_fail(st, OD_NO_MEMORY, "no memory for a subgraph");
        return NULL;
    }
    c->session->graph = (eng_graph *)(uintptr_t)sub; /* its plan cache changes, under a lock; it does not */
    c->session->depth = s->depth + 1;
    c->session->cancelled = s->cancelled;
    c->session->cancel_arg = s->cancel_arg;
    c->next = s->children;
    s->children = c;
    return c->session;
}

od_code eng_subgraph_run(eng_ctx *c, const eng_graph *sub, const eng_tensor *const *inputs, eng_tensor *outputs,
                         od_status *st)
{
    eng_session *s = child_of(c->session, sub, st);
    if (!s) return st->code;
    if (s->cancelled && s->cancelled(s->cancel_arg)) return od_fail(st, OD_CANCELLED, "the run was cancelled");
    od_arena_mark mark = od_arena_save(c->scratch);
    eng_tensor *in = od_arena_array(c->scratch, eng_tensor, sub->n_inputs);
    if (!in) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs of a subgraph", sub->n_inputs);
    for (int i = 0; i < sub->n_inputs; i++)
        if (inputs[i]) in[i] = *inputs[i];
    od_code rc = run(s, in, outputs, st);
    od_arena_rewind(c->scratch, mark);
    return rc == OD_OK ? OD_OK : od_note(st, "subgraph '%s'", sub->name);
}

od_code eng_subgraph_carry(eng_ctx *c, const eng_graph *sub, eng_tensor *outputs, int n, od_status *st)
{
    eng_session *s = child_of(c->session, sub, st);
    if (!s) return st->code;
    od_arena *to = &s->carried[s->turn ^= 1];
    od_arena_reset(to);
    for (int k = 0; k < n; k++) OD_TRY(eng_tensor_copy(&outputs[k], &outputs[k], to, st));
    return OD_OK;
}

/* ---- the rest ----------------------------------------------------------------------------- */

od_code eng_session_create(eng_session **out, eng_model *model, od_pool *pool, size_t memory_limit, od_status *st)
{
    eng_session *s = calloc(1, sizeof *s);
    if (!s) return od_fail(st, OD_NO_MEMORY, "no memory for a session");
    s->model = model;
    s->graph = model->graph;
    s->pool = pool;
    s->memory_limit = memory_limit;
    od_arena_init(&s->scratch, memory_limit);
    od_arena_init(&s->memory, memory_limit);
    for (int i = 0; i < 2; i++) od_arena_init(&s->carried[i], memory_limit);
    *out = s;
    return OD_OK;
}

void eng_session_destroy(eng_session *s)
{
    if (!s) return;
    for (child *c = s->children, *next; c; c = next) {
        next = c->next;
        eng_session_destroy(c->session);
        free(c);
    }
    for (int i = 0; i < OTHERS_MAX; i++) eng_session_destroy(s->others[i]);
    unbind(s);
    od_arena_fini(&s->bound);
    od_arena_fini(&s->scratch);
    od_arena_fini(&s->memory);
    for (int i = 0; i < 2; i++) od_arena_fini(&s->carried[i]);
    od_block_free(s->block, s->block_size);
    free(s);
}

void eng_session_set_cancel(eng_session *s, bool (*cancelled)(void *), void *arg)
{
    s->cancelled = cancelled;
    s->cancel_arg = arg;
    for (child *c = s->children; c; c = c->next) eng_session_set_cancel(c->session, cancelled, arg);
}

size_t eng_session_bytes(const eng_session *s)
{
    size_t n = s->block_size + od_arena_bytes(&s->bound) + od_arena_bytes(&s->scratch) + od_arena_bytes(&s->memory) +
               od_arena_bytes(&s->carried[0]) + od_arena_bytes(&s->carried[1]);
    for (child *c = s->children; c; c = c->next) n += eng_session_bytes(c->session);
    for (int i = 0; i < OTHERS_MAX && s->others[i]; i++) n += eng_session_bytes(s->others[i]);
    return n;
}

od_code eng_session_profile(eng_session *s, bool on)
{
    od_status st;
    s->profiling = on;
    return make_rows(s, &st);
}

int eng_session_profile_rows(const eng_session *s, const eng_profile_row **rows)
{
    int n = 0;
    for (int i = 0; s->plan && s->rows && i < s->plan->n_steps; i++) {
        const eng_step *step = &s->plan->steps[i];
        eng_profile_row *r = &s->shown[n];
        if (!s->rows[i].runs) continue;
        *r = s->rows[i];
        r->node = step->node;
        r->macs = step->macs;
        char *end = r->what + sizeof r->what - 1;
        memset(r->what, 0, sizeof r->what);
        strncpy(r->what, step->node ? step->dynamic ? "dynamic" : "" : "relayout", (size_t)(end - r->what));
        n++;
    }
    *rows = s->shown;
    return n;
}

od_code eng_session_cost(eng_session *s, const eng_tensor *inputs, int64_t *macs, size_t *planned, od_status *st)
{
    eng_plan *plan = NULL;
    OD_TRY(eng_plan_acquire(&plan, s->graph, inputs, s->pool, st));
    *macs = 0;
    for (int i = 0; i < plan->n_steps; i++) *macs += plan->steps[i].macs;
    *planned = (plan->part ? plan->part : plan)->scratch_bytes;
    eng_plan_release(plan);
    return OD_OK;
}
