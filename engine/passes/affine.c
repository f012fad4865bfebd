/* affine.c - y = a x + b per channel, behind a convolution or a matrix product with constant weights or in
 * front of one, goes into the weights: BatchNormalization, and Mul, Add, Sub, Div by constants, Neg. Exact but
 * for rounding: (W x + c) a + b = (a W) x + (a c + b). */
#include "engine/lazy.h"
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>

/* What makes x: where its output channels lie in the weights. */
typedef struct linear {
    eng_node *node;
    const eng_tensor *w;
    int bias_in;       /* input that holds the bias */
    int64_t channels;
    int64_t groups;    /* of ConvTranspose: weights are [in, out / groups, ...] */
    char kind;         /* 'c' Conv, 't' ConvTranspose, 'm' MatMul and Gemm without transposition, 'g' Gemm with transB */
} linear;

static const eng_tensor *float_constant(const eng_rewrite *r, int v)
{
    const eng_tensor *t = eng_rewrite_constant(r, v);
    return t && t->dtype == ENG_FLOAT ? t : NULL;
}

/* The same, for its shape alone. */
static const eng_tensor *float_weights(const eng_rewrite *r, int v)
{
    const eng_tensor *t = eng_rewrite_weights(r, v);
    return t && t->dtype == ENG_FLOAT ? t : NULL;
}

/* Is `v` made by a node whose weights we may change for this one reader? */
static bool find_linear(const eng_rewrite *r, int v, linear *l)
{
    eng_node *n = eng_rewrite_maker(r, v, NULL);
    if (!n || !eng_rewrite_private(r, v) || n->fused.act || n->fused.residual || n->n_in < 2) return false;
    *l = (linear){.node = n, .w = float_weights(r, n->in[1]), .bias_in = 2, .groups = 1};
    if (!l->w) return false;
    if (eng_node_is(n, "Conv")) {
        if (l->w->rank < 3) return false;
        l->kind = 'c';
        l->channels = l->w->dims[0];
    } else if (eng_node_is(n, "ConvTranspose")) {
        if (l->w->rank < 3) return false;
        l->kind = 't';
        l->groups = eng_node_int(n, "group", 1);
        l->channels = l->w->dims[1] * l->groups;
        if (l->groups < 1 || l->w->dims[0] % l->groups) return false;
    } else if (eng_node_is(n, "Gemm")) {
        if (l->w->rank != 2 || eng_node_float(n, "alpha", 1) != 1.0f || eng_node_float(n, "beta", 1) != 1.0f) return false;
        l->kind = eng_node_int(n, "transB", 0) ? 'g' : 'm';
        l->channels = l->w->dims[l->kind == 'g' ? 0 : 1];
    } else if (eng_node_is(n, "MatMul")) {
        const eng_tensor *x = eng_rewrite_type(r, n->in[0]);
        if (l->w->rank != 2 || !x || x->rank < 2) return false;
        l->kind = 'm';
        l->channels = l->w->dims[1];
    } else {
        return false;
    }
    if (n->n_in > l->bias_in && n->in[l->bias_in] >= 0) {
        const eng_tensor *b = float_constant(r, n->in[l->bias_in]);
        if (!b || b->rank != 1 || b->dims[0] != l->channels) return false;
    }
    return l->channels > 0;
}

static int64_t channel_axis(const linear *l, int rank)
{
    return l->kind == 'c' || l->kind == 't' ? 1 : rank - 1;
}

/* A constant that broadcasts against x of `rank` dimensions along the channel axis only: its value for
 * each channel into to[channels]. */
static bool per_channel(const eng_tensor *t, int rank, int64_t axis, int64_t channels, double *to)
{
    int64_t n = eng_tensor_count(t);
    if (t->rank > rank) return false;
    if (n == 1) {
        for (int64_t c = 0; c < channels; c++) to[c] = eng_tensor_double(t, 0);
        return true;
    }
    int64_t at = axis - (rank - t->rank); /* the channel axis within t */
    if (n != channels || at < 0 || at >= t->rank || t->dims[at] != channels) return false;
    for (int64_t c = 0; c < channels; c++) to[c] = eng_tensor_double(t, c);
    return true;
}

static bool from_batch_norm(const eng_rewrite *r, const eng_node *n, int64_t channels, double *a, double *b)
{
    const eng_tensor *p[4];
    if (n->n_in < 5 || eng_node_int(n, "training_mode", 0)) return false;
    for (int k = 1; k < n->n_out; k++)
        if (n->out[k] >= 0 && r->readers[n->out[k]]) return false;
    for (int k = 0; k < 4; k++) {
        p[k] = float_constant(r, n->in[k + 1]);
        if (!p[k] || eng_tensor_count(p[k]) != channels) return false;
    }
    double eps = (double)eng_node_float(n, "epsilon", 1e-5f);
    for (int64_t c = 0; c < channels; c++) {
        double scale = eng_tensor_double(p[0], c), shift = eng_tensor_double(p[1], c);
        double mean = eng_tensor_double(p[2], c), var = eng_tensor_double(p[3], c);
        a[c] = scale / sqrt(var + eps);
        b[c] = shift - mean * a[c];
        if (!isfinite(a[c]) || !isfinite(b[c])) return false;
    }
    return true;
}

/* The affine map that `n` is of its input `x_in`. */
static bool find_map(const eng_rewrite *r, const eng_node *n, int x_in, const linear *l, double *a, double *b)
{
    const eng_tensor *x = eng_rewrite_type(r, n->in[x_in]);
    if (!x || x->dtype != ENG_FLOAT) return false;
    if (n->fused.act) return false;
    if (eng_node_is(n, "BatchNormalization")) return l->kind != 'm' && l->kind != 'g' ? from_batch_norm(r, n, l->channels, a, b) : x->rank == 2 && from_batch_norm(r, n, l->channels, a, b);
    if (eng_node_is(n, "Neg")) {
        for (int64_t c = 0; c < l->channels; c++) a[c] = -1.0, b[c] = 0.0;
        return true;
    }
    const eng_tensor *t = n->n_in == 2 ? float_constant(r, n->in[1 - x_in]) : NULL;
    double *to = a;
    bool add = eng_node_is(n, "Add"), sub = eng_node_is(n, "Sub");
    if (add || sub) to = b;
    else if (!eng_node_is(n, "Mul") && !eng_node_is(n, "Div")) return false;
    if (eng_node_is(n, "Div") && x_in != 0) return false;
    if (!t || !per_channel(t, x->rank, channel_axis(l, x->rank), l->channels, to)) return false;
    for (int64_t c = 0; c < l->channels; c++) {
        if (add || sub) a[c] = sub && x_in ? -1.0 : 1.0;
        else b[c] = 0.0;
        if (sub && !x_in) b[c] = -b[c];
        if (eng_node_is(n, "Div")) a[c] = 1.0 / a[c];
        if (!isfinite(a[c]) || !isfinite(b[c])) return false;
    }
    return true;
}

/* to = from times a of each channel. */
static void scale(const linear *l, const float *from, const double *a, float *to)
{
    int64_t out = 1, per = l->channels, groups = 1, count = eng_tensor_count(l->w), run = 1; /* [.., groups, .., out of a group, run] */
    if (l->kind == 'c' || l->kind == 'g') run = count / l->channels;
    if (l->kind == 't') { /* [in, out / groups, taps]: the group of an input channel gives the output's */
        per = l->w->dims[1];
        groups = l->groups;
        run = count / (l->w->dims[0] * per);
        out = l->w->dims[0] / groups;
    } else {
        out = count / (run * per);
    }
    for (int64_t g = 0; g < groups; g++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t c = 0; c < per; c++, from += run, to += run)
                for (int64_t i = 0; i < run; i++) to[i] = (float)((double)from[i] * a[g * per + c]);
}

static od_code apply(eng_rewrite *r, const linear *l, const double *a, const double *b, od_status *st)
{
    eng_node *n = l->node;
    float *bias, *w = l->w->data;
    int bv = eng_rewrite_new_floats(r, 1, &l->channels, &bias);
    if (bv < 0) return od_fail(st, OD_NO_MEMORY, "no memory for folded weights");
    const eng_tensor *old = n->n_in > l->bias_in ? float_constant(r, n->in[l->bias_in]) : NULL;
    bool scaled = false;
    for (int64_t c = 0; c < l->channels; c++) {
        bias[c] = (float)((old ? eng_tensor_double(old, c) : 0.0) * a[c] + b[c]);
        scaled |= a[c] != 1.0;
    }
    if (scaled) {
        int wv = n->in[1];
        OD_TRY(eng_lazy_load(r->g->model, l->w, st));
        if (!eng_rewrite_own(r, wv)) wv = eng_rewrite_new_floats(r, l->w->rank, l->w->dims, &w);
        if (wv < 0) return od_fail(st, OD_NO_MEMORY, "no memory for folded weights");
        scale(l, l->w->data, a, w);
        n->in[1] = wv;
    }
    if (n->n_in <= l->bias_in && !eng_node_set_inputs(r->g, n, l->bias_in + 1))
        return od_fail(st, OD_NO_MEMORY, "no memory for a bias");
    n->in[l->bias_in] = bv;
    return OD_OK;
}

/* ---- in front of the weights ------------------------------------------------------------------ */

/* The linear layer that alone reads `v`, by the channels of its input. */
static bool find_reader(const eng_rewrite *r, int v, linear *l)
{
    eng_node *n = eng_rewrite_only_reader(r, v);
    if (!n || n->n_in < 2 || n->in[0] != v || n->in[1] == v) return false;
    *l = (linear){.node = n, .w = float_weights(r, n->in[1]), .bias_in = 2, .groups = 1};
    if (!l->w || eng_tensor_count(l->w) < 1) return false;
    int64_t outputs;
    if (eng_node_is(n, "Conv")) {
        l->groups = eng_node_int(n, "group", 1);
        if (l->w->rank < 3 || l->groups < 1 || l->w->dims[0] % l->groups) return false;
        l->kind = 'c';
        l->channels = l->w->dims[1] * l->groups;
        outputs = l->w->dims[0];
    } else if (eng_node_is(n, "Gemm") || eng_node_is(n, "MatMul")) {
        const eng_tensor *x = eng_rewrite_type(r, v);
        if (l->w->rank != 2 || !x || x->rank < 2 || eng_node_int(n, "transA", 0)) return false;
        if (eng_node_float(n, "alpha", 1) != 1.0f || eng_node_float(n, "beta", 1) != 1.0f) return false;
        l->kind = eng_node_is(n, "Gemm") && eng_node_int(n, "transB", 0) ? 'g' : 'm';
        l->channels = l->w->dims[l->kind == 'g' ? 1 : 0];
        outputs = l->w->dims[l->kind == 'g' ? 0 : 1];
    } else {
        return false;
    }
    if (n->n_in <= 2 || n->in[2] < 0) return true;
    const eng_tensor *b = float_constant(r, n->in[2]);
    return b && b->rank == 1 && b->dims[0] == outputs;
}

/* W (a x + b) + c = (a W) x + (W b + c), a and b for each channel of the input. */
static od_code apply_before(eng_rewrite *r, const linear *l, const double *a, const double *b, od_status *st)
{
    eng_node *n = l->node;
    OD_TRY(eng_lazy_load(r->g->model, l->w, st));
    bool last = l->kind == 'm'; /* outputs are the last axis of the weights */
    int64_t outputs = l->w->dims[last ? 1 : 0], inputs = l->w->dims[last ? 0 : 1], run = eng_tensor_count(l->w) / outputs / inputs;
    const eng_tensor *old = n->n_in > 2 ? float_constant(r, n->in[2]) : NULL;
    const float *from = l->w->data;
    float *w, *bias;
    int wv = eng_rewrite_new_floats(r, l->w->rank, l->w->dims, &w), bv = eng_rewrite_new_floats(r, 1, &outputs, &bias);
    if (wv < 0 || bv < 0 || (n->n_in < 3 && !eng_node_set_inputs(r->g, n, 3))) return od_fail(st, OD_NO_MEMORY, "no memory for folded weights");
    for (int64_t o = 0; o < outputs; o++) {
        double sum = old ? eng_tensor_double(old, o) : 0.0;
        int64_t first = o / (outputs / l->groups) * inputs; /* channel of its group */
        for (int64_t c = 0; c < inputs; c++)
            for (int64_t i = 0; i < run; i++) {
                int64_t at = last ? c * outputs + o : (o * inputs + c) * run + i;
                w[at] = (float)((double)from[at] * a[first + c]);
                sum += (double)from[at] * b[first + c];
            }
        bias[o] = (float)sum;
    }
    n->in[1] = wv;
    n->in[2] = bv;
    return OD_OK;
}

/* `n` is such a map, in front of a layer whose padding it leaves zero. */
static od_code fold_before(eng_rewrite *r, eng_node *n, od_status *st)
{
    linear l;
    if (!find_reader(r, n->out[0], &l)) return OD_OK;
    double *a = od_arena_array(r->tmp, double, l.channels), *b = od_arena_array(r->tmp, double, l.channels);
    if (!a || !b) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " channels", l.channels);
    for (int x_in = 0; x_in < n->n_in && x_in < 2; x_in++) {
        int x = n->in[x_in];
        if (x < 0 || r->g->values[x].constant || !find_map(r, n, x_in, &l, a, b) || !eng_rewrite_same_shape(r, x, n->out[0])) continue;
        bool shifts = false;
        for (int64_t c = 0; c < l.channels; c++) shifts |= b[c] != 0.0;
        if ((shifts && eng_node_is(l.node, "Conv") && eng_rewrite_pads(l.node)) || n->fused.residual) continue;
        OD_TRY(apply_before(r, &l, a, b, st));
        OD_TRY(eng_rewrite_read(r, l.node, 0, x, st));
        eng_rewrite_kill(r, n);
        return OD_OK;
    }
    return OD_OK;
}

od_code eng_pass_affine(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (n->dead || n->n_out < 1 || n->domain != ENG_DOMAIN_ONNX) continue;
        for (int x_in = 0; x_in < n->n_in && x_in < 2; x_in++) {
            linear l;
            if (n->in[x_in] < 0 || !find_linear(r, n->in[x_in], &l)) continue;
            od_arena_mark mark = od_arena_save(r->tmp);
            double *a = od_arena_array(r->tmp, double, l.channels), *b = od_arena_array(r->tmp, double, l.channels);
            if (!a || !b) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " channels", l.channels);
            bool found = find_map(r, n, x_in, &l, a, b) && eng_rewrite_same_shape(r, n->in[x_in], n->out[0]);
            if (found && eng_rewrite_replace(r, n->out[0], n->in[x_in])) {
                OD_TRY(apply(r, &l, a, b, st));
                eng_rewrite_kill(r, n);
            }
            od_arena_rewind(r->tmp, mark);
            if (n->dead) break;
        }
        od_arena_mark mark = od_arena_save(r->tmp);
        if (!n->dead && n->out[0] >= 0) OD_TRY(fold_before(r, n, st));
        od_arena_rewind(r->tmp, mark);
    }
    return OD_OK;
}
