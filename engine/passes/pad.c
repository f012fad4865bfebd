/* pad.c - a Pad of zeros in front of a convolution or a pool becomes its padding. Convolutions read zeros there.
 * AveragePool does where it counts them; MaxPool reads nothing there, which is the same where what was padded is
 * nowhere below the value of the padding and no window lies in the padding alone. */
#include "engine/passes/passes.h"

#include <math.h>

enum { AXES = 3, EXTENT_MAX = 1 << 20, DEPTH = 16 };

/* What a Pad adds around the spatial axes: `before` and `after` in the order of `pads`. */
typedef struct frame {
    int axes;
    int64_t pads[2 * AXES];
    double value;
} frame;

static bool read_pad(const eng_rewrite *r, const eng_node *pad, frame *f)
{
    const eng_tensor *x = pad->n_in ? eng_rewrite_type(r, pad->in[0]) : NULL;
    const eng_tensor *pads = pad->n_in > 1 ? eng_rewrite_constant(r, pad->in[1]) : NULL;
    const eng_tensor *axes = pad->n_in > 3 ? eng_rewrite_constant(r, pad->in[3]) : NULL;
    *f = (frame){.value = 0.0};
    if (!pads || !x || x->rank < 3 || x->rank > 2 + AXES || !eng_node_string_is(pad, "mode", "constant", "constant")) return false;
    if (pad->n_in > 2 && pad->in[2] >= 0 && !eng_rewrite_scalar(r, pad->in[2], &f->value)) return false;
    if (pad->n_in > 3 && pad->in[3] >= 0 && !axes) return false;
    int64_t n = axes ? eng_tensor_count(axes) : x->rank;
    if (eng_tensor_count(pads) != 2 * n) return false;
    f->axes = x->rank - 2;
    for (int64_t i = 0; i < 2 * n; i++) {
        int64_t p = eng_tensor_int(pads, i), axis = axes ? eng_tensor_int(axes, i % n) : i % n;
        axis = (axis < 0 ? axis + x->rank : axis) - 2;
        if (p < 0 || p > EXTENT_MAX || axis >= f->axes || (axis < 0 && p)) return false;
        if (axis >= 0) f->pads[i / n * f->axes + axis] += p;
    }
    return true;
}

/* `f` with the padding that `n` has itself. */
static bool add_own(const eng_node *n, frame *f, bool *own)
{
    int64_t count;
    const int64_t *pads = eng_node_ints(n, "pads", &count);
    *own = false;
    if (eng_node_string_is(n, "auto_pad", "NOTSET", "VALID")) return true;
    if (!eng_node_string_is(n, "auto_pad", "NOTSET", "NOTSET") || (pads && count != 2 * f->axes)) return false;
    for (int i = 0; pads && i < 2 * f->axes; i++) {
        if (pads[i] < 0 || pads[i] > EXTENT_MAX) return false;
        *own |= pads[i] != 0;
        f->pads[i] += pads[i];
    }
    return true;
}

/* Every window of pool `n` holds an element that is not padding. */
static bool windows_reach_in(const eng_node *n, const frame *f)
{
    int64_t count;
    const int64_t *dilation = eng_node_ints(n, "dilations", &count);
    for (int64_t i = 0; i < count; i++)
        if (dilation[i] != 1) return false;
    const int64_t *kernel = eng_node_ints(n, "kernel_shape", &count);
    if (!kernel || count != f->axes) return false;
    for (int i = 0; i < 2 * f->axes; i++)
        if (f->pads[i] >= kernel[i % f->axes]) return false;
    return true;
}

static bool act_is_at_least(const eng_epilogue *e, double low)
{
    switch (e->act) {
    case ENG_ACT_RELU:
    case ENG_ACT_SIGMOID:
    case ENG_ACT_HARD_SIGMOID:
    case ENG_ACT_SOFTPLUS: return low <= 0.0;
    case ENG_ACT_CLIP: return (double)e->alpha >= low;
    default: return false;
    }
}

/* No element of `v` is below `low`. */
static bool is_at_least(const eng_rewrite *r, int v, double low, int depth)
{
    static const char *const positive[] = {"Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs", "Exp", "Softmax"};
    static const char *const picks[] = {"MaxPool", "AveragePool", "Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"};
    const eng_node *n = eng_rewrite_maker(r, v, NULL);
    double bound;
    if (low == -INFINITY) return true;
    if (!n || n->domain != ENG_DOMAIN_ONNX || n->fused.residual == ENG_RES_AFTER_ACT || n->n_in < 1 || depth > DEPTH) return false;
    if (n->fused.act) return act_is_at_least(&n->fused, low);
    for (size_t i = 0; i < OD_COUNT(positive); i++)
        if (eng_node_is(n, positive[i])) return low <= 0.0;
    if (eng_node_is(n, "Clip")) return n->n_in > 1 && eng_rewrite_scalar(r, n->in[1], &bound) && bound >= low;
    for (size_t i = 0; i < OD_COUNT(picks); i++)
        if (eng_node_is(n, picks[i])) return low <= 0.0 && is_at_least(r, n->in[0], low, depth + 1); /* a mean may count zeros */
    if (!eng_node_is(n, "Concat")) return false;
    for (int k = 0; k < n->n_in; k++)
        if (!is_at_least(r, n->in[k], low, depth + 1)) return false;
    return true;
}

/* Can `n` read a frame of `f->value` around `x` as its own padding? */
static bool takes(const eng_rewrite *r, const eng_node *n, int x, frame *f)
{
    bool own, counts = eng_node_int(n, "count_include_pad", 0) != 0;
    if (!add_own(n, f, &own)) return false;
    if (eng_node_is(n, "Conv")) return f->value == 0.0;
    if (eng_node_int(n, "ceil_mode", 0)) return false; /* how far windows hang over depends on whose padding it is */
    if (eng_node_is(n, "AveragePool")) return f->value == 0.0 && (counts || !own) && windows_reach_in(n, f);
    if (!eng_node_is(n, "MaxPool") || eng_node_int(n, "storage_order", 0) || !windows_reach_in(n, f)) return false;
    if (n->n_out > 1 && n->out[1] >= 0 && r->readers[n->out[1]]) return false; /* indices count the padding */
    return is_at_least(r, x, f->value, 0);
}

od_code eng_pass_pad(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        frame f;
        if (n->dead || n->n_in < 1) continue;
        const eng_node *pad = eng_rewrite_maker(r, n->in[0], "Pad");
        if (!pad || !read_pad(r, pad, &f) || !takes(r, n, pad->in[0], &f)) continue;
        OD_TRY(eng_node_set_ints(r->g, n, "pads", f.pads, 2 * f.axes, st));
        OD_TRY(eng_node_set_string(r->g, n, "auto_pad", "NOTSET", st));
        if (eng_node_is(n, "AveragePool")) OD_TRY(eng_node_set_int(r->g, n, "count_include_pad", 1, st));
        n->in[0] = pad->in[0];
        r->changed = true;
    }
    return OD_OK;
}
