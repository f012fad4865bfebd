/* scan.c - Scan: a subgraph over the slices of its inputs. Opset 8 has a batch before the slices. */
#include "engine/ops/control.h"
#include "engine/ops/ops.h"

#include <string.h>

typedef struct scan {
    eng_body body;
    int n_states, n_inputs, n_outputs;
    const eng_tensor **states; /* initial ones, then of the round before */
    eng_tensor *inputs;        /* slices along axis 0 */
    eng_tensor *slices, *carried;
    bool *in_reverse, *out_reverse;
    int *out_axis;
    eng_stack *stacks;
    int64_t length;
} scan;

static od_code scan_start(eng_ctx *c, scan *s, int skip, od_status *st)
{
    int own;
    OD_TRY(eng_body_find(c, "body", &s->body, &own, st));
    const eng_graph *g = s->body.graph;
    own -= skip;
    int64_t n_inputs = eng_node_int(c->node, "num_scan_inputs", 0);
    if (n_inputs < 1 || n_inputs > own)
        return od_fail(st, OD_BAD_ARGUMENT, "num_scan_inputs is %" PRId64 " where there are %d inputs", n_inputs, own);
    s->n_inputs = (int)n_inputs;
    s->n_states = own - s->n_inputs;
    s->n_outputs = g->n_outputs - s->n_states;
    if (s->body.n_own != own || s->n_outputs < 0 || c->n_out > g->n_outputs)
        return od_fail(st, OD_BAD_MODEL, "a scan of %d states and %d inputs has a body of %d inputs and %d outputs",
                       s->n_states, s->n_inputs, s->body.n_own, g->n_outputs);
    s->states = od_arena_array(c->scratch, const eng_tensor *, s->n_states);
    s->carried = od_arena_array(c->scratch, eng_tensor, s->n_states);
    s->inputs = od_arena_array(c->scratch, eng_tensor, s->n_inputs);
    s->slices = od_arena_array(c->scratch, eng_tensor, s->n_inputs);
    s->in_reverse = od_arena_array(c->scratch, bool, s->n_inputs);
    s->out_reverse = od_arena_array(c->scratch, bool, s->n_outputs);
    s->out_axis = od_arena_array(c->scratch, int, s->n_outputs);
    s->stacks = od_arena_array(c->scratch, eng_stack, s->n_outputs);
    if (!s->states || !s->carried || !s->inputs || !s->slices || !s->in_reverse || !s->out_reverse || !s->out_axis ||
        !s->stacks)
        return od_fail(st, OD_NO_MEMORY, "no memory for a scan");
    for (int i = 0; i < own; i++)
        if (!c->in[skip + i]) return od_fail(st, OD_BAD_MODEL, "input %d is missing", skip + i);
    return OD_OK;
}

/* Attribute `name` as a list of `n` directions. */
static od_code directions(const eng_ctx *c, const char *name, int n, bool *reverse, od_status *st)
{
    int64_t count;
    const int64_t *v = eng_node_ints(c->node, name, &count);
    if (!v) return OD_OK;
    if (count != n) return od_fail(st, OD_BAD_ARGUMENT, "%s has %" PRId64 " entries, wanted %d", name, count, n);
    for (int i = 0; i < n; i++) {
        if (v[i] != 0 && v[i] != 1)
            return od_fail(st, OD_BAD_ARGUMENT, "%s has a %" PRId64 ", wanted 0 or 1", name, v[i]);
        reverse[i] = v[i] == 1;
    }
    return OD_OK;
}

static od_code axis_of(const eng_ctx *c, const char *name, int i, int n, int rank, int *axis, od_status *st)
{
    int64_t count;
    const int64_t *v = eng_node_ints(c->node, name, &count);
    *axis = 0;
    if (!v) return OD_OK;
    if (count != n) return od_fail(st, OD_BAD_ARGUMENT, "%s has %" PRId64 " entries, wanted %d", name, count, n);
    return eng_axis(v[i], rank, false, axis, st);
}

/* `was` with axis `from` moved to `to`, one of which is 0; a copy from `a` unless they are the same. `out` may
 * be `was`. */
static od_code move_axis(const eng_tensor *was, int from, int to, od_arena *a, eng_tensor *out, od_status *st)
{
    const eng_tensor like = *was, *t = &like;
    *out = like;
    if (from == to) return OD_OK;
    int axis = from ? from : to;
    int64_t extent = t->dims[from], outer = 1, inner = 1;
    for (int d = axis + 1; d < t->rank; d++) inner *= t->dims[d];
    for (int d = from ? 0 : 1; d < (from ? axis : axis + 1); d++) outer *= t->dims[d];
    if (from) memmove(out->dims + 1, t->dims, (size_t)axis * sizeof *t->dims);
    else memmove(out->dims, t->dims + 1, (size_t)axis * sizeof *t->dims);
    out->dims[to] = extent;
    size_t piece = (size_t)inner * eng_dtype_size(t->dtype);
    out->data = od_arena_alloc(a, eng_tensor_bytes(t));
    if (!out->data) return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes", eng_tensor_bytes(t));
    for (int64_t e = 0; e < extent && piece; e++)
        for (int64_t o = 0; o < outer; o++) {
            int64_t first = e * outer + o, moved = o * extent + e; /* where the piece lies with the axis in front, behind */
            memcpy((char *)out->data + (size_t)(from ? first : moved) * piece,
                   (const char *)t->data + (size_t)(from ? moved : first) * piece, piece);
        }
    return OD_OK;
}

/* Element `at` of axis 0. */
static eng_tensor slice_of(const eng_tensor *t, int64_t at)
{
    eng_tensor s = *t;
    s.rank--;
    memmove(s.dims, t->dims + 1, (size_t)s.rank * sizeof *s.dims);
    s.data = (char *)t->data + (size_t)at * eng_tensor_bytes(&s);
    return s;
}

static od_code scan_round(eng_ctx *c, scan *s, int64_t at, int64_t length, od_status *st)
{
    eng_body *b = &s->body;
    for (int i = 0; i < s->n_states; i++) b->args[i] = s->states[i];
    for (int i = 0; i < s->n_inputs; i++) {
        s->slices[i] = slice_of(&s->inputs[i], s->in_reverse[i] ? length - 1 - at : at);
        b->args[s->n_states + i] = &s->slices[i];
    }
    if (eng_body_run(c, b, st) != OD_OK) return od_note(st, "iteration %" PRId64, at);
    for (int k = 0; k < s->n_outputs; k++) {
        if (s->n_states + k >= c->n_out || !c->out[s->n_states + k]) continue;
        int64_t to = s->out_reverse[k] ? length - 1 - at : at;
        if (eng_stack_put(c, &s->stacks[k], to, s->length, &b->outputs[s->n_states + k], st) != OD_OK)
            return od_note(st, "scan output %d", k);
    }
    OD_TRY(eng_subgraph_carry(c, b->graph, b->outputs, s->n_states, st));
    for (int i = 0; i < s->n_states; i++) {
        s->carried[i] = b->outputs[i];
        s->states[i] = &s->carried[i];
    }
    return OD_OK;
}

static od_code same_length(scan *s, od_status *st)
{
    for (int i = 0; i < s->n_inputs; i++) {
        if (i && s->inputs[i].dims[0] != s->length)
            return od_fail(st, OD_BAD_SHAPE, "scan input %d has %" PRId64 " slices, the first %" PRId64, i,
                           s->inputs[i].dims[0], s->length);
        s->length = s->inputs[i].dims[0];
    }
    return OD_OK;
}

od_code eng_scan_infer(eng_ctx *c, od_status *st)
{
    scan s = {.length = 0};
    int axis;
    OD_TRY(scan_start(c, &s, 0, st));
    OD_TRY(directions(c, "scan_input_directions", s.n_inputs, s.in_reverse, st));
    OD_TRY(directions(c, "scan_output_directions", s.n_outputs, s.out_reverse, st));
    for (int i = 0; i < s.n_states; i++) s.states[i] = c->in[i];
    for (int i = 0; i < s.n_inputs; i++) {
        const eng_tensor *t = c->in[s.n_states + i];
        if (t->rank < 1 || t->dtype >= ENG_SEQUENCE) return od_fail(st, OD_BAD_SHAPE, "scan input %d has no axis", i);
        OD_TRY(axis_of(c, "scan_input_axes", i, s.n_inputs, t->rank, &axis, st));
        OD_TRY(move_axis(t, axis, 0, c->scratch, &s.inputs[i], st));
    }
    OD_TRY(same_length(&s, st));
    for (int64_t at = 0; at < s.length; at++) OD_TRY(scan_round(c, &s, at, s.length, st));
    for (int i = 0; i < s.n_states; i++) eng_give(c, i, s.states[i]);
    for (int k = 0; k < s.n_outputs && s.n_states + k < c->n_out; k++) {
        eng_tensor *t = &s.stacks[k].t;
        if (!c->out[s.n_states + k]) continue;
        if (!t->data) OD_TRY(eng_stack_empty(c, &s.body, s.n_states + k, t, st));
        OD_TRY(axis_of(c, "scan_output_axes", k, s.n_outputs, t->rank, &axis, st));
        OD_TRY(move_axis(t, 0, axis, c->memory, t, st));
        eng_give(c, s.n_states + k, t);
    }
    return OD_OK;
}

/* ---- opset 8 ------------------------------------------------------------------------------ */

static od_code check_batch(const eng_ctx *c, int64_t *batch, od_status *st)
{
    for (int i = 1; i < c->n_in - (c->n_in ? eng_node_attr(c->node, "body")->graphs[0]->n_captures : 0); i++) {
        if (c->in[i]->rank < 1 || (i > 1 && c->in[i]->dims[0] != *batch))
            return od_fail(st, OD_BAD_SHAPE, "input %d has not the batch of input 1", i);
        *batch = c->in[i]->dims[0];
    }
    return OD_OK;
}

/* How many slices batch element `b` has. */
static od_code length_of(const eng_ctx *c, const scan *s, int64_t batch, int64_t b, int64_t *length, od_status *st)
{
    const eng_tensor *lens = c->in[0];
    *length = s->length;
    if (!lens) return OD_OK;
    if (lens->dtype != ENG_INT64 || lens->rank != 1 || lens->dims[0] != batch)
        return od_fail(st, OD_BAD_SHAPE, "sequence_lens must be int64[%" PRId64 "]", batch);
    *length = eng_tensor_int(lens, b);
    if (*length < 0 || *length > s->length)
        return od_fail(st, OD_BAD_VALUE, "sequence length %" PRId64 " of %" PRId64 " slices", *length, s->length);
    return OD_OK;
}

/* What batch element `b` left behind goes into the node's outputs. */
static od_code collect(eng_ctx *c, scan *s, eng_stack *all, int64_t batch, int64_t b, int64_t length, od_status *st)
{
    for (int i = 0; i < s->n_states; i++) OD_TRY(eng_stack_put(c, &all[i], b, batch, s->states[i], st));
    for (int k = 0; k < s->n_outputs && s->n_states + k < c->n_out; k++) {
        eng_tensor *t = &s->stacks[k].t;
        if (!c->out[s->n_states + k]) continue;
        if (!t->data) {
            OD_TRY(eng_stack_empty(c, &s->body, s->n_states + k, t, st));
            t->dims[0] = s->length;
            if (!(t->data = eng_run_alloc(c, eng_tensor_bytes(t)))) return od_fail(st, OD_NO_MEMORY, "no memory for padding");
        }
        size_t row = t->dims[0] ? eng_tensor_bytes(t) / (size_t)t->dims[0] : 0;
        memset((char *)t->data + (size_t)length * row, 0, (size_t)(s->length - length) * row);
        OD_TRY(eng_stack_put(c, &all[s->n_states + k], b, batch, t, st));
    }
    return OD_OK;
}

od_code eng_scan8_infer(eng_ctx *c, od_status *st)
{
    scan s = {.length = 0};
    int64_t batch = 0, length;
    OD_TRY(scan_start(c, &s, 1, st));
    OD_TRY(directions(c, "directions", s.n_inputs, s.in_reverse, st));
    OD_TRY(check_batch(c, &batch, st));
    eng_stack *all = od_arena_array(c->scratch, eng_stack, (int64_t)s.n_states + s.n_outputs);
    eng_tensor *initial = od_arena_array(c->scratch, eng_tensor, s.n_states);
    if (!all || !initial) return od_fail(st, OD_NO_MEMORY, "no memory for a scan");
    for (int64_t b = 0; b < batch; b++) {
        for (int i = 0; i < s.n_states; i++) {
            initial[i] = slice_of(c->in[1 + i], b);
            s.states[i] = &initial[i];
        }
        for (int i = 0; i < s.n_inputs; i++) {
            s.inputs[i] = slice_of(c->in[1 + s.n_states + i], b);
            if (s.inputs[i].rank < 1) return od_fail(st, OD_BAD_SHAPE, "scan input %d has rank 1, wanted 2 or more", i);
        }
        for (int k = 0; k < s.n_outputs; k++) s.stacks[k] = (eng_stack){.t = {.data = NULL}};
        s.length = 0;
        OD_TRY(same_length(&s, st));
        OD_TRY(length_of(c, &s, batch, b, &length, st));
        for (int64_t at = 0; at < length; at++) OD_TRY(scan_round(c, &s, at, length, st));
        OD_TRY(collect(c, &s, all, batch, b, length, st));
    }
    for (int k = 0; k < s.n_states + s.n_outputs && k < c->n_out; k++) {
        if (!c->out[k]) continue;
        if (!all[k].t.data) return od_fail(st, OD_BAD_SHAPE, "a batch of 0 has no result");
        eng_give(c, k, &all[k].t);
    }
    return OD_OK;
}
