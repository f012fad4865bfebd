/* channels.c - channels between two linear layers that say nothing go: those that the first gives the same value everywhere,
 * as all their weights are zero (structured pruning), whose share goes into the bias of the second, and those that the
 * second reads with zeros alone. Between the two may be activations, pools and depthwise convolutions. Where the second
 * pads, only a channel of zeros is the same everywhere. Exact but for rounding. */
#include "engine/lazy.h"
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>

enum { BETWEEN_MAX = 8 };

/* A linear layer's weights, seen as [outer, channels, run] along one of its two channel axes. */
typedef struct weights {
    eng_node *node;
    const eng_tensor *w;
    int64_t outer, channels, run;
} weights;

typedef struct path {
    weights p, q; /* the first, by its outputs; the second, by its inputs */
    eng_node *between[BETWEEN_MAX]; /* from the second to the first */
    int n;
    double *value;
    bool *constant, *keep; /* by channel */
    int64_t kept;
} path;

/* ---- reading --------------------------------------------------------------------------------- */

static bool plain_bias(const eng_rewrite *r, const eng_node *n, int64_t outputs)
{
    if (n->n_in <= 2 || n->in[2] < 0) return true;
    const eng_tensor *b = eng_rewrite_constant(r, n->in[2]);
    return b && b->dtype == ENG_FLOAT && b->rank == 1 && b->dims[0] == outputs;
}

static bool outputs_first(const eng_node *n)
{
    return eng_node_is(n, "Conv") || (eng_node_is(n, "Gemm") && eng_node_int(n, "transB", 0));
}

/* `inputs`: along the axis of what `n` reads, else of what it makes. */
static bool read_weights(const eng_rewrite *r, eng_node *n, bool inputs, weights *to)
{
    const eng_tensor *w = n && n->n_in > 1 ? eng_rewrite_weights(r, n->in[1]) : NULL;
    if (!w || w->dtype != ENG_FLOAT || w->rank < 2 || n->domain != ENG_DOMAIN_ONNX) return false;
    if (eng_node_is(n, "Conv")) {
        if (w->rank < 3 || eng_node_int(n, "group", 1) != 1 || n->fused.residual > (inputs ? ENG_RES_AFTER_ACT : ENG_RES_NONE)) return false;
    } else if (eng_node_is(n, "Gemm")) {
        if (w->rank != 2 || eng_node_float(n, "alpha", 1) != 1.0f || eng_node_float(n, "beta", 1) != 1.0f || eng_node_int(n, "transA", 0)) return false;
    } else if (!eng_node_is(n, "MatMul") || w->rank != 2) {
        return false;
    }
    if (!inputs && n->fused.residual) return false;
    bool rows = outputs_first(n);
    int64_t outputs = w->dims[rows ? 0 : 1], count = eng_tensor_count(w);
    if (count < 1 || !plain_bias(r, n, outputs)) return false;
    *to = (weights){.node = n, .w = w, .outer = 1};
    if (rows == inputs) {
        to->outer = w->dims[0];
        to->channels = w->dims[1];
    } else {
        to->channels = w->dims[0];
    }
    to->run = count / to->outer / to->channels;
    return true;
}

static bool is_depthwise(const eng_rewrite *r, const eng_node *n, int64_t channels)
{
    const eng_tensor *w = eng_node_is(n, "Conv") && n->n_in > 1 && !n->fused.residual ? eng_rewrite_weights(r, n->in[1]) : NULL;
    return w && w->dtype == ENG_FLOAT && w->rank >= 3 && w->dims[0] == channels && w->dims[1] == 1 &&
           eng_node_int(n, "group", 1) == channels && plain_bias(r, n, channels);
}

/* *worth: `w` may hold channels of zeros, and is loaded. Of what is still in the file some channels are looked at first: to
 * read it all for nothing is dear, and a network that was pruned has many such channels. */
static od_code load_if_zeros(eng_rewrite *r, const weights *w, bool *worth, od_status *st)
{
    enum { SAMPLES = 16, FLOATS = 16 };
    eng_model *m = r->g->model;
    *worth = true;
    if (!eng_lazy(m, w->w)) return OD_OK;
    *worth = false;
    for (int64_t i = 0; i < SAMPLES && i < w->channels && !*worth; i++) {
        float start[FLOATS];
        int64_t c = w->channels <= SAMPLES ? i : i * w->channels / SAMPLES, n = od_min_i64(w->run, FLOATS);
        OD_TRY(eng_lazy_copy(m, w->w, (size_t)(c * w->run) * sizeof *start, (size_t)n * sizeof *start, start, st));
        *worth = true;
        for (int64_t k = 0; k < n; k++) *worth &= start[k] == 0.0f;
    }
    return *worth ? eng_lazy_load(m, w->w, st) : OD_OK;
}

static bool all_zero(const weights *w, int64_t channel)
{
    const float *at = (const float *)w->w->data + channel * w->run;
    for (int64_t o = 0; o < w->outer; o++, at += w->channels * w->run)
        for (int64_t i = 0; i < w->run; i++)
            if (at[i] != 0.0f) return false;
    return true;
}

/* ---- what channels are worth ------------------------------------------------------------------ */

static double activated(const eng_epilogue *e, double x)
{
    switch (e->act) {
    case ENG_ACT_NONE: return x;
    case ENG_ACT_RELU: return fmax(x, 0.0);
    case ENG_ACT_CLIP: return fmin(fmax(x, (double)e->alpha), (double)e->beta);
    case ENG_ACT_LEAKY_RELU: return x < 0.0 ? (double)e->alpha * x : x;
    case ENG_ACT_SIGMOID: return 1.0 / (1.0 + exp(-x));
    case ENG_ACT_SILU: return x / (1.0 + exp(-(double)e->alpha * x));
    case ENG_ACT_HARD_SIGMOID: return fmin(fmax((double)e->alpha * x + (double)e->beta, 0.0), 1.0);
    case ENG_ACT_HARD_SWISH: return x * fmin(fmax(x / 6.0 + 0.5, 0.0), 1.0);
    case ENG_ACT_GELU_ERF: return 0.5 * x * (1.0 + erf(x * sqrt(0.5)));
    case ENG_ACT_TANH: return tanh(x);
    case ENG_ACT_ELU: return x < 0.0 ? (double)e->alpha * expm1(x) : x;
    default: return NAN; /* not worked out: nothing is certain */
    }
}

static double bias_of(const eng_rewrite *r, const eng_node *n, int64_t c)
{
    const eng_tensor *b = n->n_in > 2 && n->in[2] >= 0 ? eng_rewrite_constant(r, n->in[2]) : NULL;
    return b ? (double)((const float *)b->data)[c] : 0.0;
}

/* What depthwise convolution `n` makes of the values. */
static od_code through_depthwise(eng_rewrite *r, path *f, eng_node *n, od_status *st)
{
    weights d = {.node = n, .w = eng_rewrite_weights(r, n->in[1]), .outer = 1, .channels = f->p.channels};
    d.run = eng_tensor_count(d.w) / d.channels;
    bool worth, any = false;
    for (int64_t c = 0; c < d.channels; c++) any |= f->constant[c];
    if (any) OD_TRY(eng_lazy_load(r->g->model, d.w, st));
    OD_TRY(load_if_zeros(r, &d, &worth, st));
    if (!any && !worth) return OD_OK;
    for (int64_t c = 0; c < d.channels; c++) {
        bool zero = all_zero(&d, c);
        double sum = 0.0;
        for (int64_t i = 0; i < d.run; i++) sum += (double)((const float *)d.w->data)[c * d.run + i];
        f->constant[c] = zero || (f->constant[c] && (f->value[c] == 0.0 || !eng_rewrite_pads(n)));
        f->value[c] = bias_of(r, n, c) + (zero ? 0.0 : sum * f->value[c]);
    }
    return OD_OK;
}

static od_code find_values(eng_rewrite *r, path *f, od_status *st)
{
    bool worth;
    OD_TRY(load_if_zeros(r, &f->p, &worth, st));
    for (int64_t c = 0; c < f->p.channels; c++) {
        f->constant[c] = worth && all_zero(&f->p, c);
        f->value[c] = bias_of(r, f->p.node, c);
    }
    for (int i = f->n; i >= 0; i--) {
        eng_node *n = i == f->n ? f->p.node : f->between[i];
        eng_epilogue act = n->fused;
        if (i < f->n && eng_node_is(n, "Conv")) OD_TRY(through_depthwise(r, f, n, st));
        else if (i < f->n && !act.act) eng_rewrite_act(r, n, &act);
        bool counts = eng_node_is(n, "AveragePool") && eng_rewrite_pads(n) && eng_node_int(n, "count_include_pad", 0);
        for (int64_t c = 0; c < f->p.channels; c++) {
            f->value[c] = activated(&act, f->value[c]);
            f->constant[c] &= isfinite(f->value[c]) && !(counts && f->value[c] != 0.0);
        }
    }
    return OD_OK;
}

/* ---- the way between -------------------------------------------------------------------------- */

/* May channels, of axis 1 of an image, go through `n` each by itself? */
static bool lets_through(const eng_rewrite *r, const eng_node *n, int64_t channels)
{
    static const char *const pools[] = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"};
    if (is_depthwise(r, n, channels)) return true;
    for (size_t i = 0; i < OD_COUNT(pools); i++)
        if (eng_node_is(n, pools[i])) return !eng_node_int(n, "ceil_mode", 0) && !n->fused.act;
    return false;
}

/* The way back from q to p; false: there is none. */
static bool find_path(const eng_rewrite *r, eng_node *q, path *f)
{
    *f = (path){.n = 0};
    if (!read_weights(r, q, true, &f->q)) return false;
    bool image = eng_node_is(q, "Conv"); /* channels are axis 1, else the last one */
    bool flat = false;                   /* of q's inputs, each channel of the image is a block */
    for (int v = q->in[0];; v = f->between[f->n - 1]->in[0]) {
        eng_node *n = eng_rewrite_private(r, v) ? eng_rewrite_maker(r, v, NULL) : NULL;
        if (!n || n->n_out < 1 || n->out[0] != v) return false;
        if (read_weights(r, n, false, &f->p)) {
            if (eng_node_is(n, "Conv") != image || f->q.channels % f->p.channels) return false;
            int64_t block = f->q.channels / f->p.channels;
            f->q.run *= block;
            f->q.channels = f->p.channels;
            return block == 1 || flat;
        }
        const eng_tensor *x = n->n_in ? eng_rewrite_type(r, n->in[0]) : NULL;
        eng_epilogue act;
        if (f->n == BETWEEN_MAX || !x || x->rank < 2 || n->n_out != 1 || n->fused.residual) return false;
        f->between[f->n++] = n;
        if (eng_rewrite_act(r, n, &act) || (image && lets_through(r, n, x->dims[1]))) continue;
        if (image || x->rank < 3 || !eng_node_is(n, "Flatten") || eng_node_int(n, "axis", 1) != 1) return false;
        image = flat = true;
    }
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* Input `slot` of `n`, [outer, channels, run], without the channels that go. */
static od_code shrink(eng_rewrite *r, const path *f, eng_node *n, int slot, int axis, int64_t outer, int64_t run, od_status *st)
{
    const eng_tensor *t = eng_rewrite_constant(r, n->in[slot]);
    int64_t dims[ENG_MAX_RANK];
    float *to;
    memcpy(dims, t->dims, sizeof dims);
    dims[axis] = t->dims[axis] / f->p.channels * f->kept;
    int v = eng_rewrite_new_floats(r, t->rank, dims, &to);
    if (v < 0) return od_fail(st, OD_NO_MEMORY, "no memory for weights");
    const float *from = t->data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t c = 0; c < f->p.channels; c++, from += run) {
            if (!f->keep[c]) continue;
            memcpy(to, from, (size_t)run * sizeof *to);
            to += run;
        }
    n->in[slot] = v;
    return OD_OK;
}

/* The bias of q, with what the channels that go add to it. */
static od_code add_shares(eng_rewrite *r, const path *f, od_status *st)
{
    const weights *q = &f->q;
    bool rows = outputs_first(q->node); /* [outputs, channels, run], else [channels, run] with the outputs last */
    int64_t outputs = q->w->dims[rows ? 0 : 1];
    float *bias;
    int v = eng_rewrite_new_floats(r, 1, &outputs, &bias);
    if (v < 0 || (q->node->n_in < 3 && !eng_node_set_inputs(r->g, q->node, 3))) return od_fail(st, OD_NO_MEMORY, "no memory for a bias");
    const float *w = q->w->data;
    for (int64_t o = 0; o < outputs; o++) {
        double sum = bias_of(r, q->node, o);
        for (int64_t c = 0; c < q->channels; c++) {
            if (f->keep[c] || !f->constant[c] || f->value[c] == 0.0) continue;
            const float *at = rows ? w + (o * q->channels + c) * q->run : w + c * q->run + o;
            for (int64_t i = 0; i < q->run; i += rows ? 1 : outputs) sum += f->value[c] * (double)at[i];
        }
        bias[o] = (float)sum;
    }
    q->node->in[2] = v;
    return OD_OK;
}

static od_code remove_channels(eng_rewrite *r, path *f, od_status *st)
{
    OD_TRY(eng_lazy_load(r->g->model, f->p.w, st));
    OD_TRY(eng_lazy_load(r->g->model, f->q.w, st));
    OD_TRY(add_shares(r, f, st));
    OD_TRY(shrink(r, f, f->q.node, 1, outputs_first(f->q.node) ? 1 : 0, f->q.outer, f->q.run, st));
    OD_TRY(shrink(r, f, f->p.node, 1, outputs_first(f->p.node) ? 0 : 1, f->p.outer, f->p.run, st));
    if (f->p.node->n_in > 2 && f->p.node->in[2] >= 0) OD_TRY(shrink(r, f, f->p.node, 2, 0, 1, 1, st));
    for (int i = 0; i < f->n; i++) {
        eng_node *n = f->between[i];
        if (!eng_node_is(n, "Conv")) continue;
        const eng_tensor *w = eng_rewrite_constant(r, n->in[1]);
        OD_TRY(shrink(r, f, n, 1, 0, 1, eng_tensor_count(w) / f->p.channels, st));
        if (n->n_in > 2 && n->in[2] >= 0) OD_TRY(shrink(r, f, n, 2, 0, 1, 1, st));
        OD_TRY(eng_node_set_int(r->g, n, "group", f->kept, st));
    }
    r->changed = true;
    return OD_OK;
}

static od_code match(eng_rewrite *r, eng_node *q, od_status *st)
{
    path f;
    bool worth, padded = eng_node_is(q, "Conv") && eng_rewrite_pads(q);
    if (!find_path(r, q, &f) || f.p.channels < 2) return OD_OK;
    f.value = od_arena_array(r->tmp, double, f.p.channels);
    f.constant = od_arena_array(r->tmp, bool, f.p.channels);
    f.keep = od_arena_array(r->tmp, bool, f.p.channels);
    if (!f.value || !f.constant || !f.keep) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " channels", f.p.channels);
    OD_TRY(find_values(r, &f, st));
    OD_TRY(load_if_zeros(r, &f.q, &worth, st));
    for (int64_t c = 0; c < f.p.channels; c++) {
        f.keep[c] = !(f.constant[c] && (f.value[c] == 0.0 || !padded)) && !(worth && all_zero(&f.q, c));
        f.kept += f.keep[c];
    }
    if (!f.kept) { /* a tensor of no channels is no image */
        f.keep[0] = true;
        f.kept = 1;
    }
    return f.kept < f.p.channels ? remove_channels(r, &f, st) : OD_OK;
}

od_code eng_pass_channels(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        od_arena_mark mark = od_arena_save(r->tmp);
        if (!r->g->nodes[i].dead) OD_TRY(match(r, &r->g->nodes[i], st));
        od_arena_rewind(r->tmp, mark);
    }
    return OD_OK;
}
