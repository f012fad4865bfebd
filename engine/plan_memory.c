/* plan_memory.c - where the values of a plan lie: which share bytes, and at which offsets. */
#include "engine/ops/conv.h"
#include "engine/ops/product.h"
#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

/* ---- lifetimes ---------------------------------------------------------------------------- */

static int root_of(const eng_plan *plan, int v)
{
    while (plan->values[v]->where == ENG_AT_ALIAS) v = plan->values[v]->of;
    return v;
}

/* The step that does the work of step i: itself, or the one that it is left to. */
static int run_at(const eng_plan *plan, int i)
{
    while (plan->steps[i].left) {
        int by = i + 1;
        while (plan->steps[by].ahead != i) by++;
        i = by;
    }
    return i;
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
            int until = s->dynamic ? plan->n_steps : run_at(plan, i);
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

/* ---- steps in parts ------------------------------------------------------------------------- */

static eng_ctx ctx_of(const eng_plan *plan, const eng_step *s, const eng_tensor **in, eng_tensor **out)
{
    for (int k = 0; k < s->n_in; k++) in[k] = s->in[k] < 0 ? NULL : &plan->values[s->in[k]]->t;
    *out = &plan->values[s->out[0]]->t;
    return (eng_ctx){.node = s->node, .n_in = s->n_in, .n_out = 1, .in = in, .out = out};
}

/* Leave a convolution or product to the one that reads it where that can make it in parts: its output then needs no place. */
static void join_steps(eng_plan *plan)
{
    enum { INPUTS = 5 };
    for (int i = 1; i < plan->n_steps; i++) {
        eng_step *s = &plan->steps[i], *f = NULL;
        const eng_tensor *in[3][INPUTS];
        eng_tensor *out[3];
        if (!s->node || s->dynamic || s->n_in < 2 || s->n_in > INPUTS || s->out[0] < 0 || s->in[0] < 0) continue;
        const eng_pvalue *v = plan->values[s->in[0]];
        if (v->where != ENG_AT_SCRATCH || v->shared || v->readers != 1 || v->relayout >= 0) continue;
        for (int k = i - 1; k >= 0 && !f; k--)
            if (plan->steps[k].n_out && plan->steps[k].out[0] == s->in[0]) f = &plan->steps[k];
        if (!f || !f->node || f->dynamic || f->n_in > INPUTS) continue;
        eng_ctx first = ctx_of(plan, f, in[0], &out[0]), second = ctx_of(plan, s, in[1], &out[1]), before;
        if (f->ahead >= 0) {
            before = ctx_of(plan, &plan->steps[f->ahead], in[2], &out[2]);
            first.ahead = &before;
        }
        if (!eng_conv_joins(&first, &second) && !eng_products_join(&first, &second)) continue;
        f->left = true;
        s->ahead = (int)(f - plan->steps);
        s->macs += f->macs;
        f->macs = 0;
        plan->values[s->in[0]]->where = ENG_AT_NOTHING;
    }
}

/* ---- offsets ------------------------------------------------------------------------------ */

enum { MIDDLE_LEAST = 16 << 10 }; /* bytes: smaller blocks lie anywhere */

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

/* The first `n` blocks that live at the same time as `x`, by offset. */
static int alive_with(const block *x, const block *b, int n, const block **alive)
{
    int m = 0;
    for (int j = 0; j < n; j++)
        if (b[j].first <= x->last && x->first <= b[j].last) alive[m++] = &b[j];
    qsort(alive, (size_t)m, sizeof *alive, lower_first);
    return m;
}

static size_t lowest_gap(const block *const *alive, int m, size_t size)
{
    size_t at = 0;
    for (int j = 0; j < m && (alive[j]->offset < at || alive[j]->offset - at < size); j++)
        if (alive[j]->offset + alive[j]->size > at) at = alive[j]->offset + alive[j]->size;
    return at;
}

/* Is there room around one of the middles, below `top`? */
static bool around_a_middle(const size_t *middle, int n, const block *const *alive, int m, size_t size, size_t top, size_t *at)
{
    for (int i = 0; i < n; i++) {
        if (middle[i] < size / 2) continue;
        size_t from = (middle[i] - size / 2) & ~(size_t)63;
        bool fits = from + size <= top;
        for (int j = 0; j < m && fits; j++) fits = alive[j]->offset >= from + size || alive[j]->offset + alive[j]->size <= from;
        if (!fits) continue;
        *at = from;
        return true;
    }
    return false;
}

/* Greedy by size: each block goes to the lowest gap among the placed ones that live at the same time, from the block
 * numbered `around` on to where its middle lies on that of an earlier one: of what two threads halve, each then writes
 * over what was its own, and not over lines in the other's cache. Returns the bytes of all. */
static size_t place_all(block *b, int n, int around, const block **alive)
{
    enum { MIDDLES = 8 };
    size_t middle[MIDDLES], top = 0;
    int middles = 0;
    for (int i = 0; i < n; i++) {
        int m = alive_with(&b[i], b, i, alive);
        if (i < around || b[i].size < MIDDLE_LEAST || !around_a_middle(middle, middles, alive, m, b[i].size, top, &b[i].offset)) {
            b[i].offset = lowest_gap(alive, m, b[i].size);
            if (middles < MIDDLES) middle[middles++] = b[i].offset + b[i].size / 2;
        }
        if (b[i].offset + b[i].size > top) top = b[i].offset + b[i].size;
    }
    return top;
}

/* Where from the block number `around` on middles meet, and no more memory is taken for it; of the large blocks, since
 * the small ones behind them fill gaps. Lists that would take long to try are left as they are. */
static int find_around(block *b, int n, const block **alive)
{
    enum { MANY = 1000 };
    int large = 0, around = 0;
    while (large < n && b[large].size >= MIDDLE_LEAST) large++;
    if (large > MANY) return n;
    const size_t least = place_all(b, large, large, alive);
    while (around < large && place_all(b, large, around, alive) > least) around = 2 * around + 1;
    return around;
}

static void note_gap(eng_step *s, size_t from, size_t to)
{
    if (to > from && to - from > s->free_bytes) s->free_from = from, s->free_bytes = to - from;
}

/* For each step the largest part of the scratch block that holds nothing while it runs. `b` are all blocks by offset. */
static od_code find_free(eng_plan *plan, const block *const *b, int n, od_arena *scratch, od_status *st)
{
    size_t *end = od_arena_array(scratch, size_t, plan->n_steps); /* of the last block that lives during a step */
    if (!end) return od_fail(st, OD_NO_MEMORY, "no memory to plan %d steps", plan->n_steps);
    memset(end, 0, (size_t)plan->n_steps * sizeof *end);
    for (int i = 0; i < n; i++)
        for (int k = b[i]->first; k <= b[i]->last && k < plan->n_steps; k++) {
            note_gap(&plan->steps[k], end[k], b[i]->offset);
            end[k] = b[i]->offset + b[i]->size;
        }
    for (int k = 0; k < plan->n_steps; k++) note_gap(&plan->steps[k], end[k], plan->scratch_bytes);
    return OD_OK;
}

static od_code place_blocks(eng_plan *plan, od_arena *scratch, od_status *st)
{
    int n = 0;
    block *b = od_arena_array(scratch, block, plan->n_values);
    const block **some = od_arena_array(scratch, const block *, plan->n_values);
    if (!b || !some) return od_fail(st, OD_NO_MEMORY, "no memory to plan %d values", plan->n_values);
    for (int v = 0; v < plan->n_values; v++) {
        const eng_pvalue *pv = plan->values[v];
        if (pv->where != ENG_AT_SCRATCH || pv->first > plan->n_steps) continue;
        size_t size = (eng_tensor_bytes(&pv->t) + 63) & ~(size_t)63;
        b[n++] = (block){.size = size ? size : 64, .first = pv->first, .last = pv->last, .value = v};
    }
    qsort(b, (size_t)n, sizeof *b, larger_first);
    plan->scratch_bytes = place_all(b, n, find_around(b, n, some), some);
    for (int i = 0; i < n; i++) {
        plan->values[b[i].value]->offset = (int64_t)b[i].offset;
        some[i] = &b[i];
    }
    qsort(some, (size_t)n, sizeof *some, lower_first);
    return find_free(plan, some, n, scratch, st);
}

od_code eng_plan_place(eng_plan *plan, od_arena *scratch, od_status *st)
{
    place_concats(plan);
    join_steps(plan);
    find_lifetimes(plan);
    share_in_place(plan);
    return place_blocks(plan, scratch, st);
}
