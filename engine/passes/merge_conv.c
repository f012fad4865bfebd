/* merge_conv.c - parallel linear branches of one input whose results are added become one convolution
 * (structural re-parameterization: RepVGG, Ding et al. 2021; RepLKNet and UniRepLKNet with dilated
 * branches). Exact but for rounding. */
#include "engine/lazy.h"
#include "engine/passes/passes.h"

#include <math.h>
#include <string.h>

enum { AXES = 3 };

/* A convolution with constant weights, or a BatchNormalization seen as one of size 1. */
typedef struct branch {
    eng_node *node;
    int axes;              /* spatial ones */
    int64_t size[AXES];    /* of the kernel, holes of dilation included */
    int64_t taps[AXES];    /* stored */
    int64_t dilation[AXES], stride[AXES], before[AXES], after[AXES];
    int64_t groups, out, per_group; /* output channels; input channels of a group */
    const eng_tensor *w, *bias;     /* w NULL: diagonal `diag` */
    const double *diag, *shift;     /* a channel's own weight, at every tap */
} branch;

static bool read_axes(const eng_node *n, const char *name, int axes, int64_t otherwise, int64_t *to)
{
    int64_t count;
    const int64_t *v = eng_node_ints(n, name, &count);
    if (v && count != axes) return false;
    for (int i = 0; i < axes; i++) to[i] = v ? v[i] : otherwise;
    return true;
}

static bool read_conv(const eng_rewrite *r, eng_node *n, branch *b)
{
    int64_t count;
    if (!eng_node_is(n, "Conv") || n->n_in < 2 || n->fused.act || n->fused.residual) return false;
    *b = (branch){.node = n, .w = eng_rewrite_weights(r, n->in[1])};
    if (!b->w || b->w->dtype != ENG_FLOAT || b->w->rank < 3 || b->w->rank > 2 + AXES) return false;
    if (!eng_node_string_is(n, "auto_pad", "NOTSET", "NOTSET")) return false;
    if (n->n_in > 2 && n->in[2] >= 0) {
        b->bias = eng_rewrite_constant(r, n->in[2]);
        if (!b->bias || b->bias->dtype != ENG_FLOAT || eng_tensor_count(b->bias) != b->w->dims[0]) return false;
    }
    b->axes = b->w->rank - 2;
    b->groups = eng_node_int(n, "group", 1);
    b->out = b->w->dims[0];
    b->per_group = b->w->dims[1];
    const int64_t *pads = eng_node_ints(n, "pads", &count);
    if (pads && count != 2 * b->axes) return false;
    if (!read_axes(n, "dilations", b->axes, 1, b->dilation) || !read_axes(n, "strides", b->axes, 1, b->stride)) return false;
    for (int i = 0; i < b->axes; i++) {
        b->taps[i] = b->w->dims[2 + i];
        if (b->taps[i] < 1 || b->dilation[i] < 1) return false;
        b->size[i] = (b->taps[i] - 1) * b->dilation[i] + 1;
        b->before[i] = pads ? pads[i] : 0;
        b->after[i] = pads ? pads[b->axes + i] : 0;
    }
    return b->groups >= 1 && b->out % b->groups == 0;
}

/* A BatchNormalization of `like`'s input, as a convolution of size 1 with `like`'s groups. */
static bool read_norm(const eng_rewrite *r, eng_node *n, const branch *like, branch *b)
{
    const eng_tensor *p[4];
    if (!eng_node_is(n, "BatchNormalization") || n->fused.act || n->n_in < 5 || like->out != like->per_group * like->groups) return false;
    for (int k = 0; k < 4; k++) {
        p[k] = eng_rewrite_constant(r, n->in[k + 1]);
        if (!p[k] || p[k]->dtype != ENG_FLOAT || eng_tensor_count(p[k]) != like->out) return false;
    }
    double *diag = od_arena_array(r->tmp, double, like->out), *shift = od_arena_array(r->tmp, double, like->out);
    double eps = (double)eng_node_float(n, "epsilon", 1e-5f);
    if (!diag || !shift) return false;
    for (int64_t c = 0; c < like->out; c++) {
        diag[c] = eng_tensor_double(p[0], c) / sqrt(eng_tensor_double(p[3], c) + eps);
        shift[c] = eng_tensor_double(p[1], c) - eng_tensor_double(p[2], c) * diag[c];
        if (!isfinite(diag[c]) || !isfinite(shift[c])) return false;
    }
    *b = (branch){.node = n, .axes = like->axes, .groups = like->groups, .out = like->out, .per_group = like->per_group,
                  .diag = diag, .shift = shift};
    for (int i = 0; i < b->axes; i++) b->size[i] = b->taps[i] = b->dilation[i] = b->stride[i] = 1;
    return true;
}

/* An AveragePool of `like`'s input that divides by the whole window everywhere: the same weight at each tap. */
static bool read_mean(const eng_rewrite *r, eng_node *n, const branch *like, branch *b)
{
    int64_t count, taps = 1, ones[AXES];
    if (!eng_node_is(n, "AveragePool") || n->fused.act || like->out != like->per_group * like->groups) return false;
    *b = (branch){.node = n, .axes = like->axes, .groups = like->groups, .out = like->out, .per_group = like->per_group};
    const int64_t *pads = eng_node_ints(n, "pads", &count);
    if ((pads && count != 2 * b->axes) || !eng_node_string_is(n, "auto_pad", "NOTSET", "NOTSET") || eng_node_int(n, "ceil_mode", 0)) return false;
    if (!read_axes(n, "kernel_shape", b->axes, 0, b->taps) || !read_axes(n, "strides", b->axes, 1, b->stride)) return false;
    if (!read_axes(n, "dilations", b->axes, 1, ones)) return false;
    for (int i = 0; i < b->axes; i++) {
        if (ones[i] != 1 || b->taps[i] < 1) return false;
        b->dilation[i] = 1;
        b->size[i] = b->taps[i];
        b->before[i] = pads ? pads[i] : 0;
        b->after[i] = pads ? pads[b->axes + i] : 0;
        if ((b->before[i] || b->after[i]) && !eng_node_int(n, "count_include_pad", 0)) return false;
        if (!od_mul_i64(taps, b->taps[i], &taps)) return false;
    }
    double *diag = od_arena_array(r->tmp, double, like->out);
    b->shift = od_arena_array(r->tmp, double, like->out); /* zeros */
    for (int64_t c = 0; diag && c < like->out; c++) diag[c] = 1.0 / (double)taps;
    b->diag = diag;
    return diag && b->shift;
}

/* Can `small` be laid into `big`'s window? Its place goes into `at`. */
static bool fits_into(const branch *big, const branch *small, int64_t *at)
{
    if (big->axes != small->axes || big->groups != small->groups || big->out != small->out ||
        big->per_group != small->per_group)
        return false;
    for (int i = 0; i < big->axes; i++) {
        at[i] = big->before[i] - small->before[i];
        if (big->stride[i] != small->stride[i] || at[i] < 0 || at[i] + small->size[i] > big->size[i]) return false;
        if (big->after[i] - small->after[i] != big->size[i] - small->size[i] - at[i]) return false;
    }
    return true;
}

/* Add `b`'s kernel to the dense window `w` of `big`'s size, from tap `at` on. `place`: room for b's taps. */
static void add_kernel(float *w, const branch *big, const branch *b, const int64_t *at, int64_t *place)
{
    int64_t window = 1, taps = 1;
    for (int i = 0; i < big->axes; i++) {
        window *= big->size[i];
        taps *= b->taps[i];
    }
    for (int64_t t = 0; t < taps; t++) {
        int64_t rest = t, step = 1;
        place[t] = 0;
        for (int i = b->axes - 1; i >= 0; i--) {
            place[t] += (at[i] + rest % b->taps[i] * b->dilation[i]) * step;
            rest /= b->taps[i];
            step *= big->size[i];
        }
    }
    for (int64_t o = 0; b->diag && o < b->out; o++) {
        float *to = w + (o * big->per_group + o % b->per_group) * window;
        for (int64_t t = 0; t < taps; t++) to[place[t]] = (float)((double)to[place[t]] + b->diag[o]);
    }
    const float *from = b->w ? b->w->data : NULL;
    for (int64_t c = 0; from && c < b->out * b->per_group; c++, from += taps, w += window)
        for (int64_t t = 0; t < taps; t++) w[place[t]] += from[t];
}

static od_code merge(eng_rewrite *r, const branch *big, const branch *small, const int64_t *at, od_status *st)
{
    int64_t dims[2 + AXES] = {big->out, big->per_group}, taps = 1;
    float *w = big->w->data, *bias;
    int wv = big->node->in[1], bv = eng_rewrite_new_floats(r, 1, &big->out, &bias);
    for (int i = 0; i < big->axes; i++) {
        dims[2 + i] = big->size[i];
        taps *= small->taps[i];
    }
    int64_t *place = od_arena_array(r->tmp, int64_t, taps);
    OD_TRY(eng_lazy_load(r->g->model, big->w, st));
    if (small->w) OD_TRY(eng_lazy_load(r->g->model, small->w, st));
    if (!eng_rewrite_own(r, wv) && (wv = eng_rewrite_new_floats(r, 2 + big->axes, dims, &w)) >= 0)
        memcpy(w, big->w->data, eng_tensor_bytes(big->w)); /* dense: as large as its window */
    if (!place || wv < 0 || bv < 0 || !eng_node_set_inputs(r->g, big->node, 3))
        return od_fail(st, OD_NO_MEMORY, "no memory to merge convolutions");
    add_kernel(w, big, small, at, place);
    for (int64_t o = 0; o < big->out; o++) {
        double b = big->bias ? eng_tensor_double(big->bias, o) : 0.0;
        if (small->bias) b += eng_tensor_double(small->bias, o);
        if (small->shift) b += small->shift[o];
        bias[o] = (float)b;
    }
    big->node->in[1] = wv;
    big->node->in[2] = bv;
    for (int i = 0; i < big->axes; i++) dims[i] = 1;
    OD_TRY(eng_node_set_ints(r->g, big->node, "dilations", dims, big->axes, st));
    return eng_node_set_ints(r->g, big->node, "kernel_shape", big->size, big->axes, st);
}

/* Does a dilated kernel stay cheaper than the dense window it would become? Only merged into a window
 * that is there anyway: the bigger one must be dense itself. */
static bool dense(const branch *b)
{
    for (int i = 0; i < b->axes; i++)
        if (b->dilation[i] != 1) return false;
    return true;
}

od_code eng_pass_merge_conv(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *n = &r->g->nodes[i];
        if (!(eng_node_is(n, "Add") || eng_node_is(n, "Sum")) || n->n_in != 2 || n->in[0] == n->in[1]) continue;
        for (int k = 0; k < 2; k++) {
            branch big, small;
            int64_t at[AXES];
            eng_node *a = eng_rewrite_maker(r, n->in[k], "Conv"), *b = eng_rewrite_maker(r, n->in[1 - k], NULL);
            if (!a || !b || !eng_rewrite_private(r, n->in[0]) || !eng_rewrite_private(r, n->in[1])) continue;
            if (a->in[0] != b->in[0] || !read_conv(r, a, &big) || !dense(&big)) continue;
            if (!read_conv(r, b, &small) && !read_norm(r, b, &big, &small) && !read_mean(r, b, &big, &small)) continue;
            if (!fits_into(&big, &small, at) || !eng_rewrite_replace(r, n->out[0], n->in[k])) continue;
            OD_TRY(merge(r, &big, &small, at, st));
            eng_rewrite_kill(r, n);
            eng_rewrite_kill(r, b);
            break;
        }
    }
    return OD_OK;
}
