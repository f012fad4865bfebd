/* node.c - what can be asked of one node, and its layouts. */
#include "engine/plan.h"

#include <string.h>

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
