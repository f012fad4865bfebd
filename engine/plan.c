#include "engine/plan.h"
#include "engine/base/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLANS_MAX = 16,        /* cached plans of a graph */
    EVAL_MAX = 64 << 20    /* bytes of values that one plan computes ahead */
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

od_code eng_note_node(const eng_graph *g, const eng_node *n, od_status *st)
{
    return od_note(st, "node %d '%s' (%s)", (int)(n - g->nodes), n->name, n->op_type);
}

bool eng_node_has_graph(const eng_node *n)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (n->attrs[i].name && (n->attrs[i].kind == ENG_ATTR_GRAPH || n->attrs[i].kind == ENG_ATTR_GRAPHS))
            return true;
    return false;
}

od_code eng_check_op_type(const eng_ctx *c, od_status *st)
{
    const eng_op *op = c->node->op;
    const eng_tensor *t = c->n_in ? c->in[0] : NULL;
    if (!t || (op->types & ENG_T(t->dtype))) return OD_OK;
    return od_fail(st, OD_BAD_TYPE, "input 0 is %s, which this operator does not take", eng_dtype_name(t->dtype));
}

od_code eng_op_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(c->node->op->infer(c, st));
    for (int k = 0; k < c->n_out; k++)
        if (c->out[k] && !c->out[k]->dtype) return od_fail(st, OD_BAD_MODEL, "it has no output %d", k);
    return OD_OK;
}

bool eng_accepts_pitch(const eng_node *n, int i)
{
    if (!(n->op->flags & ENG_PITCH_IN)) return false;
    if (n->op->flags & ENG_CL_FIRST) return i == 0 || (n->fused.residual && i == n->fused.residual_in);
    return true;
}

int64_t eng_node_macs(const eng_ctx *c)
{
    const char *op = c->node->op_type;
    if (c->n_in < 2 || !c->in[0] || !c->in[1] || !c->n_out || !c->out[0]) return 0;
    const eng_tensor *a = c->in[0], *w = c->in[1];
    int64_t per = 0, n = eng_tensor_count(c->out[0]);
    if (!strcmp(op, "Conv") || !strcmp(op, "QLinearConv") || !strcmp(op, "ConvInteger")) {
        if (!strcmp(op, "QLinearConv")) w = c->n_in > 3 ? c->in[3] : NULL;
        if (!w || w->rank < 1 || !w->dims[0]) return 0;
        per = eng_tensor_count(w) / w->dims[0];
    } else if (!strcmp(op, "ConvTranspose")) {
        if (w->rank < 2 || !w->dims[0] || a->rank < 2) return 0;
        n = eng_tensor_count(a);
        per = eng_tensor_count(w) / w->dims[0];
    } else if (!strcmp(op, "MatMul") || !strcmp(op, "FusedMatMul") || !strcmp(op, "MatMulInteger")) {
        per = a->rank ? a->dims[a->rank - 1] : 0;
    } else if (!strcmp(op, "Gemm")) {
        per = a->rank == 2 ? a->dims[eng_node_int(c->node, "transA", 0) ? 0 : 1] : 0;
    } else if (!strcmp(op, "Attention") && a->rank == 4 && w->rank == 4) {
        n = a->dims[0] * a->dims[1] * a->dims[2] * w->dims[2];
        per = 2 * a->dims[3];
    }
    int64_t macs;
    return od_mul_i64(n, per, &macs) ? macs : 0;
}

/* ---- layouts ------------------------------------------------------------------------------ */

/* Elementwise: the layout in which more bytes lie already. */
static eng_layout choose_elementwise(const eng_ctx *c)
{
    const eng_tensor *out = c->out[0];
    int64_t row = 0, cl = 0;
    if (!out || out->rank < 3) return ENG_ROW;
    for (int i = 0; i < c->n_in; i++) {
        const eng_tensor *t = c->in[i];
        if (!t || t->rank != out->rank || eng_tensor_layout_free(t)) continue;
        int64_t n = eng_tensor_count(t);
        if (t->layout == ENG_CL) cl += n;
        else if (!t->data) row += n; /* constants are brought over ahead of time */
    }
    return cl > 0 && cl >= row ? ENG_CL : ENG_ROW;
}

void eng_layout_choose(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    const eng_node *n = c->node;
    unsigned flags = n->op->flags;
    *want_out = ENG_ROW;
    for (int i = 0; i < c->n_in; i++) want_in[i] = c->in[i] ? c->in[i]->layout : ENG_ROW;
    if (n->op->layout) {
        n->op->layout(c, want_in, want_out);
    } else if (flags & ENG_CL_FIRST) {
        bool image = c->in[0] && c->in[0]->rank >= 3;
        for (int i = 0; i < c->n_in; i++) want_in[i] = ENG_ROW;
        if (!image) return;
        want_in[0] = *want_out = ENG_CL;
        if (n->fused.residual) want_in[n->fused.residual_in] = ENG_CL;
    } else {
        eng_layout all = flags & ENG_CL_ALL ? choose_elementwise(c) : ENG_ROW;
        for (int i = 0; i < c->n_in; i++) want_in[i] = all;
        *want_out = all;
    }
}

/* `t` in `layout`, dense, with the bytes of `t` when `copy`. NULL: no memory. */
static eng_tensor *laid_out(const eng_tensor *t, eng_layout layout, bool copy, od_arena *a)
{
    eng_tensor *to = od_arena_array(a, eng_tensor, 1);
    if (!to) return NULL;
    *to = *t;
    to->layout = layout;
    to->pitch = layout == ENG_CL ? t->dims[1] : 0;
    if (!(to->data = od_arena_zalloc(a, eng_tensor_bytes(to)))) return NULL;
    if (copy) eng_tensor_relayout(to, t, NULL);
    return to;
}

od_code eng_op_compute(eng_ctx *c, od_status *st)
{
    od_arena *a = c->scratch;
    eng_ctx own = *c;
    eng_layout want_out, *want_in = od_arena_array(a, eng_layout, c->n_in);
    own.in = od_arena_array(a, const eng_tensor *, c->n_in);
    own.out = od_arena_array(a, eng_tensor *, c->n_out);
    if (!want_in || !own.in || !own.out) return od_fail(st, OD_NO_MEMORY, "no memory for a node");
    eng_layout_choose(c, want_in, &want_out);
    for (int i = 0; i < c->n_in; i++) {
        own.in[i] = c->in[i];
        if (!c->in[i] || !c->in[i]->data || c->in[i]->rank < 3 || want_in[i] == ENG_ROW) continue;
        if (!(own.in[i] = laid_out(c->in[i], want_in[i], true, a)))
            return od_fail(st, OD_NO_MEMORY, "no memory for input %d in another layout", i);
    }
    for (int k = 0; k < c->n_out; k++) {
        own.out[k] = c->out[k];
        if (!c->out[k] || c->out[k]->rank < 3 || want_out == ENG_ROW) continue;
        if (!(own.out[k] = laid_out(c->out[k], want_out, false, a)))
            return od_fail(st, OD_NO_MEMORY, "no memory for output %d in another layout", k);
    }
    OD_TRY(eng_op_run(&own, st));
    for (int k = 0; k < c->n_out; k++)
        if (own.out[k] != c->out[k]) eng_tensor_relayout(c->out[k], own.out[k], c->pool);
    return OD_OK;
}

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
        *s = (eng_step){.node = node, .n_in = n_in, .n_out = n_out};
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

static bool all_known(const eng_ctx *c)
{
    if (c->node->op->flags & ENG_SHAPE_ONLY) return true;
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i] && !c->in[i]->data) return false;
    return true;
}

/* Compute outputs that follow from shapes and constants. *done stays false when they are too large. */
static od_code evaluate(planner *p, eng_ctx *c, bool *done, od_status *st)
{
    size_t bytes = 0;
    for (int k = 0; k < c->n_out; k++)
        if (c->out[k]) bytes += eng_tensor_bytes(c->out[k]);
    if (bytes > EVAL_MAX - p->evaluated) return OD_OK;
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
            c->out[k]->data = od_arena_zalloc(p->arena, eng_tensor_bytes(c->out[k]));
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
    if (!branches && all_known(&c) && !(n->op->flags & ENG_RANDOM)) {
        bool done = false;
        OD_TRY(evaluate(p, &c, &done, st));
        if (done) return OD_OK;
    }
    if (p->shapes_only) return OD_OK;
    return place(p, &c, st);
}

/* ---- the bytes ---------------------------------------------------------------------------- */

static int root_of(const eng_plan *plan, int v)
{
    while (plan->values[v]->where == ENG_AT_ALIAS) v = plan->values[v]->of;
    return v;
}

static void find_lifetimes(eng_plan *plan)
{
    for (int v = 0; v < plan->n_values; v++) {
        plan->values[v]->first = INT32_MAX;
        plan->values[v]->last = -1;
    }
    for (int i = 0; i < plan->n_steps; i++) {
        const eng_step *s = &plan->steps[i];
        for (int k = 0; k < s->n_out; k++) {
            if (s->out[k] < 0) continue;
            eng_pvalue *r = plan->values[root_of(plan, s->out[k])];
            if (i < r->first) r->first = i;
            if (i > r->last) r->last = i;
        }
        for (int k = 0; k < s->n_in; k++) {
            if (s->in[k] < 0) continue;
            eng_pvalue *r = plan->values[root_of(plan, s->in[k])];
            /* what a dynamic step reads may live on in a view that only the run knows of */
            int until = s->dynamic ? plan->n_steps : i;
            if (until > r->last) r->last = until;
        }
    }
    for (int k = 0; k < plan->graph->n_outputs; k++) plan->values[root_of(plan, plan->outputs[k])]->last = plan->n_steps;
}

/* Let elementwise steps write over an input that nobody needs afterwards. */
static void share_in_place(eng_plan *plan)
{
    for (int i = 0; i < plan->n_steps; i++) {
        const eng_step *s = &plan->steps[i];
        if (!s->node || s->dynamic || !(s->node->op->flags & ENG_INPLACE) || s->out[0] < 0) continue;
        eng_pvalue *out = plan->values[s->out[0]];
        if (out->where != ENG_AT_SCRATCH) continue;
        for (int k = 0; k < s->n_in; k++) {
            if (s->in[k] < 0) continue;
            const eng_pvalue *in = plan->values[s->in[k]];
            int root = root_of(plan, s->in[k]);
            eng_pvalue *r = plan->values[root];
            if (r->where != ENG_AT_SCRATCH || r->last != i || !eng_dims_equal(&in->t, &out->t)) continue;
            if (in->t.layout != out->t.layout || in->t.pitch != out->t.pitch) continue;
            if (eng_dtype_size(in->t.dtype) != eng_dtype_size(out->t.dtype)) continue;
            bool alone = true;
            for (int j = 0; j < s->n_in && alone; j++)
                alone = s->in[j] < 0 || s->in[j] == s->in[k] || root_of(plan, s->in[j]) != root;
            if (!alone) continue;
            r->last = out->last;
            out->where = ENG_AT_ALIAS;
            out->of = s->in[k];
            out->offset = 0;
            break;
        }
    }
}

/* ---- concatenations without copies ---------------------------------------------------------- */

/* Do all steps that read or write value `v` manage with a pitch? */
static bool pitch_suits(const eng_plan *plan, int v)
{
    for (int i = 0; i < plan->n_steps; i++) {
        const eng_step *s = &plan->steps[i];
        for (int k = 0; k < s->n_in; k++)
            if (s->in[k] == v && (s->dynamic || (s->node && !eng_accepts_pitch(s->node, k)))) return false;
        for (int k = 0; k < s->n_out; k++)
            if (s->out[k] == v && (s->dynamic || (s->node && !(s->node->op->flags & ENG_PITCH_OUT)))) return false;
    }
    for (int k = 0; k < plan->graph->n_outputs; k++)
        if (plan->outputs[k] == v) return false;
    return true;
}

static bool read_twice(const eng_step *s, int v)
{
    int n = 0;
    for (int k = 0; k < s->n_in; k++) n += s->in[k] == v;
    return n > 1;
}

/* Let input `v` of a channels-last concatenation into `out` be written right where it goes. */
static bool place_channels(eng_plan *plan, const eng_step *s, int v, int64_t channel)
{
    eng_pvalue *in = plan->values[v];
    const eng_pvalue *out = plan->values[s->out[0]];
    if (in->where != ENG_AT_SCRATCH || in->shared || in->t.layout != ENG_CL || read_twice(s, v)) return false;
    if (!pitch_suits(plan, v)) return false;
    in->where = ENG_AT_ALIAS;
    in->of = s->out[0];
    in->offset = channel;
    in->t.pitch = out->t.pitch;
    return true;
}

/* The same where the inputs lie behind each other as whole blocks. Views move with what they view. */
static bool place_block(eng_plan *plan, const eng_step *s, int v, int64_t offset)
{
    int root = v;
    int64_t at = 0, count = eng_tensor_count(&plan->values[v]->t);
    while (plan->values[root]->where == ENG_AT_ALIAS) {
        at += plan->values[root]->offset;
        root = plan->values[root]->of;
    }
    eng_pvalue *r = plan->values[root];
    if (r->where != ENG_AT_SCRATCH || at || root == s->out[0] || read_twice(s, v)) return false;
    if (eng_tensor_count(&r->t) != count || (r->t.layout == ENG_CL && r->t.pitch != r->t.dims[1])) return false;
    if (eng_dtype_size(r->t.dtype) != eng_dtype_size(plan->values[v]->t.dtype)) return false;
    r->where = ENG_AT_ALIAS;
    r->of = s->out[0];
    r->offset = offset;
    return true;
}

/* All inputs lie one behind the other in the channels of one wider value already (as in DenseNet, where
 * each layer reads all before it): the concatenation is a view of that. */
static bool view_of_wider(eng_plan *plan, const eng_step *s)
{
    eng_pvalue *out = plan->values[s->out[0]];
    int base = ENG_NONE;
    int64_t begin = 0, next = 0, pitch = 0;
    if (out->where != ENG_AT_SCRATCH || out->shared) return false;
    for (int k = 0; k < s->n_in; k++) {
        const eng_pvalue *in = plan->values[s->in[k]];
        int64_t at = 0;
        int root = s->in[k];
        if (in->t.layout != ENG_CL) return false;
        while (plan->values[root]->where == ENG_AT_ALIAS) {
            at += plan->values[root]->offset;
            root = plan->values[root]->of;
        }
        if (k == 0) {
            base = root;
            begin = next = at;
            pitch = in->t.pitch;
        }
        if (root != base || at != next || in->t.pitch != pitch) return false;
        next = at + in->t.dims[1];
    }
    if (base < 0 || base == s->out[0] || plan->values[base]->t.layout != ENG_CL || plan->values[base]->t.pitch != pitch)
        return false;
    if (!pitch_suits(plan, s->out[0])) return false;
    out->where = ENG_AT_ALIAS;
    out->of = base;
    out->offset = begin;
    out->t.pitch = pitch;
    plan->values[base]->shared = true;
    return true;
}

/* Place what can be placed; true when nothing is left to copy. */
static bool place_concat(eng_plan *plan, eng_step *s)
{
    const eng_pvalue *out = plan->values[s->out[0]];
    int64_t axis = eng_node_int(s->node, "axis", 0), outer = 1, at = 0;
    bool all = true;
    if (axis < 0) axis += out->t.rank;
    for (int d = 0; d < axis; d++) outer *= out->t.dims[d];
    bool channels = out->t.layout == ENG_CL && axis == 1, blocks = out->t.layout == ENG_ROW && outer == 1;
    if (!channels && !blocks) return false;
    if (channels && view_of_wider(plan, s)) return true;
    if (out->where != ENG_AT_SCRATCH && out->where != ENG_AT_ALIAS) return false;
    for (int k = 0; k < s->n_in; k++) {
        const eng_tensor *t = &plan->values[s->in[k]]->t;
        all &= channels ? place_channels(plan, s, s->in[k], at) : place_block(plan, s, s->in[k], at);
        at += channels ? t->dims[1] : eng_tensor_count(t);
    }
    return all;
}

/* Later concatenations first, so that what they give room to places its own inputs there too. */
static void place_concats(eng_plan *plan)
{
    int kept = 0;
    for (int i = plan->n_steps - 1; i >= 0; i--) {
        eng_step *s = &plan->steps[i];
        if (!s->node || s->dynamic || s->node->domain != ENG_DOMAIN_ONNX || strcmp(s->node->op_type, "Concat")) continue;
        bool plain = s->out[0] >= 0;
        for (int k = 0; k < s->n_in; k++) plain &= s->in[k] >= 0;
        if (plain && place_concat(plan, s)) s->node = NULL, s->n_in = 0;
    }
    for (int i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].node || plan->steps[i].n_in) plan->steps[kept++] = plan->steps[i];
    plan->n_steps = kept;
}

typedef struct block {
    size_t size, offset;
    int first, last, value;
} block;

static int larger_first(const void *a, const void *b)
{
    const block *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->value - y->value;
}

static int lower_first(const void *a, const void *b)
{
    const block *x = *(const block *const *)a, *y = *(const block *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Greedy by size: each block goes to the lowest gap among the placed ones that live at the same time. */
static od_code place_blocks(planner *p, od_status *st)
{
    eng_plan *plan = p->plan;
    int n = 0;
    block *b = od_arena_array(&p->scratch, block, plan->n_values);
    const block **busy = od_arena_array(&p->scratch, const block *, plan->n_values);
    if (!b || !busy) return od_fail(st, OD_NO_MEMORY, "no memory to plan %d values", plan->n_values);
    for (int v = 0; v < plan->n_values; v++) {
        const eng_pvalue *pv = plan->values[v];
        if (pv->where != ENG_AT_SCRATCH || pv->first > plan->n_steps) continue;
        size_t size = (eng_tensor_bytes(&pv->t) + 63) & ~(size_t)63;
        b[n++] = (block){.size = size ? size : 64, .first = pv->first, .last = pv->last, .value = v};
    }
    qsort(b, (size_t)n, sizeof *b, larger_first);
    for (int i = 0; i < n; i++) {
        int m = 0;
        for (int j = 0; j < i; j++)
            if (b[j].first <= b[i].last && b[i].first <= b[j].last) busy[m++] = &b[j];
        qsort(busy, (size_t)m, sizeof *busy, lower_first);
        size_t at = 0;
        for (int j = 0; j < m; j++) {
            if (busy[j]->offset >= at && busy[j]->offset - at >= b[i].size) break;
            if (busy[j]->offset + busy[j]->size > at) at = busy[j]->offset + busy[j]->size;
        }
        b[i].offset = at;
        plan->values[b[i].value]->offset = (int64_t)at;
        if (at + b[i].size > plan->scratch_bytes) plan->scratch_bytes = at + b[i].size;
    }
    return OD_OK;
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

static void plan_free(eng_plan *plan)
{
    if (!plan) return;
    od_arena_fini(&plan->arena);
    free(plan);
}

static od_code build(eng_plan **out, const eng_graph *g, const eng_tensor *inputs, od_pool *pool, od_status *st)
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
    place_concats(plan);
    find_lifetimes(plan);
    share_in_place(plan);
    if ((rc = place_blocks(&p, st)) != OD_OK) goto done;
    *out = plan;
    plan = NULL;
done:
    plan_free(plan);
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
    plan_free(plan);
    od_arena_fini(&p.scratch);
    return rc;
}

/* ---- the cache ---------------------------------------------------------------------------- */

/* One lock for all caches: it is held for a look-up only. */
static pthread_mutex_t plans_lock = PTHREAD_MUTEX_INITIALIZER;

struct eng_plans {
    eng_plan *plan[PLANS_MAX];
    int n;
    uint64_t clock;
};

static bool fits(const eng_plan *plan, const eng_tensor *inputs)
{
    for (int i = 0; i < plan->graph->n_inputs; i++) {
        const eng_tensor *a = &plan->key[i], *b = &inputs[i];
        if (a->dtype >= ENG_SEQUENCE && a->dtype == b->dtype) continue; /* length and elements are data */
        if (a->dtype != b->dtype || !eng_dims_equal(a, b) || a->layout != b->layout || !a->data != !b->data) return false;
        if (a->layout == ENG_CL && a->pitch != b->pitch) return false;
    }
    return true;
}

static eng_plan *find_cached(eng_graph *g, const eng_tensor *inputs)
{
    struct eng_plans *c = g->plans;
    for (int i = 0; c && i < c->n; i++) {
        if (!fits(c->plan[i], inputs)) continue;
        c->plan[i]->used_at = ++c->clock;
        c->plan[i]->refs++;
        return c->plan[i];
    }
    return NULL;
}

/* Put `plan` into the cache, which takes a reference; the least recently used one gives way. */
static void cache_plan(eng_graph *g, eng_plan *plan)
{
    if (!g->plans && !(g->plans = calloc(1, sizeof *g->plans))) return; /* works without a cache too */
    struct eng_plans *c = g->plans;
    int at = c->n;
    if (at == PLANS_MAX) {
        at = 0;
        for (int i = 1; i < c->n; i++)
            if (c->plan[i]->used_at < c->plan[at]->used_at) at = i;
        if (--c->plan[at]->refs == 0) plan_free(c->plan[at]);
    } else {
        c->n++;
    }
    plan->refs++;
    plan->used_at = ++c->clock;
    c->plan[at] = plan;
}

od_code eng_plan_acquire(eng_plan **out, eng_graph *g, const eng_tensor *inputs, od_pool *pool, od_status *st)
{
    pthread_mutex_lock(&plans_lock);
    *out = find_cached(g, inputs);
    pthread_mutex_unlock(&plans_lock);
    if (*out) return OD_OK;
    eng_plan *plan = NULL;
    OD_TRY(build(&plan, g, inputs, pool, st));
    pthread_mutex_lock(&plans_lock);
    eng_plan *other = find_cached(g, inputs); /* somebody may have been faster */
    if (other) {
        plan_free(plan);
        plan = other;
    } else {
        cache_plan(g, plan);
    }
    pthread_mutex_unlock(&plans_lock);
    *out = plan;
    return OD_OK;
}

void eng_plan_release(eng_plan *plan)
{
    if (!plan) return;
    pthread_mutex_lock(&plans_lock);
    bool last = --plan->refs == 0;
    pthread_mutex_unlock(&plans_lock);
    if (last) plan_free(plan);
}

void eng_plans_destroy(eng_graph *g)
{
    struct eng_plans *c = g->plans;
    if (!c) return;
    for (int i = 0; i < c->n; i++) eng_plan_release(c->plan[i]);
    free(c);
    g->plans = NULL;
}
