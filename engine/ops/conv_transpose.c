/* conv_transpose.c - ConvTranspose, on channels-last tensors of one to three spatial axes.
 * An output coordinate o meets tap k at input coordinate (o + before - k * dilation) / stride where that
 * is whole. So outputs with the same remainder of o by the stride, a phase, use the same taps and are an
 * ordinary convolution of stride 1: a matrix product whose rows are pointers to pixels (kernels.h), or of two taps
 * and more along a line or a plane, one through Winograd's transforms (winograd.h). With
 * P = stride / gcd(stride, dilation) the taps of a phase are k0, k0 + P, k0 + 2 P ...; k0 names them, and
 * weights are packed in the order of k0. With few output channels panels would be mostly padding: there
 * one product gives the contributions of all taps, which are then added up for each output pixel. */
#include "engine/kernels/winograd.h"
#include "engine/ops/conv.h"
#include "engine/ops/ops.h"
#include "engine/packed.h"

#include <string.h>

enum { BLOCK = 96, FEW = 8, SHORT_ROW = 12 }; /* pixels of a block; few output channels; pixels of a short line */

typedef struct pack_form {
    int64_t period[3], group; /* P of each axis */
    int64_t winograd[2][2];   /* eng_winograd_form of phases with the most taps (0), or one less (1), of the last two axes */
} pack_form;

typedef struct params {
    eng_window window;
    pack_form form;
    int64_t group, out_pad[3], out_shape[3]; /* out_shape 0: follows */
    const float *packed;                     /* NULL: not constant */
} params;

/* ---- weights --------------------------------------------------------------------------------- */

typedef struct weights {
    int64_t k[3], taps, group, per_group, n; /* input and output channels of a group */
    int64_t merged;                          /* groups taken together as one, with zeros where they do not meet */
} weights;

static weights shape_weights(const eng_tensor *w, int64_t group)
{
    weights s = {.k = {1, 1, 1}, .taps = 1, .group = group, .per_group = w->dims[0] / group, .n = w->dims[1], .merged = 1};
    for (int i = 2; i < w->rank; i++) s.taps *= s.k[i - 2 + 5 - w->rank] = w->dims[i];
    return s;
}

/* The same as floats are packed: groups of few channels are one. */
static weights merge_weights(const eng_tensor *w, int64_t group)
{
    weights s = shape_weights(w, group);
    if (group > 1 && group * s.n <= FEW && w->dims[0] <= 2 * FEW) {
        s.merged = group;
        s.group = 1;
        s.per_group *= group;
        s.n *= group;
    }
    return s;
}

static bool is_depthwise(const weights *s)
{
    return s->group > 1 && s->per_group == 1 && s->n == 1;
}

/* The weight of tap t from input channel c to output channel o, of groups that are merged. */
static float weight_at(const weights *s, const float *w, int64_t c, int64_t o, int64_t t)
{
    int64_t own = s->n / s->merged;
    return c / (s->per_group / s->merged) == o / own ? w[(c * own + o % own) * s->taps + t] : 0.0f;
}

static bool is_few(const weights *s)
{
    return s->group == 1 && s->n <= FEW && s->taps > 1;
}

/* How many taps k0, k0 + period .. an axis of `k` taps has. */
static int64_t class_size(int64_t k, int64_t period, int64_t k0)
{
    return k0 < k ? (k - k0 - 1) / period + 1 : 0;
}

/* The window of the taps that k0 names, of two axes; form ENG_WINOGRAD_NONE: it is a product with pointers. */
static eng_winograd_window window_of(const weights *s, const pack_form *f, const int64_t *k0)
{
    eng_winograd_window win = {.stride = {1, 1}, .dilation = {1, 1}};
    int less[2];
    for (int a = 0; a < 2; a++) {
        win.size[a] = class_size(s->k[a + 1], f->period[a + 1], k0[a + 1]);
        less[a] = win.size[a] < class_size(s->k[a + 1], f->period[a + 1], 0);
    }
    win.form = f->winograd[less[0]][less[1]];
    return win;
}

static bool has_winograd(const pack_form *f)
{
    return f->winograd[0][0] || f->winograd[0][1] || f->winograd[1][0] || f->winograd[1][1];
}

static int64_t class_floats(const weights *s, const pack_form *f, const int64_t *k0)
{
    int64_t taps = 1;
    const eng_winograd_window win = window_of(s, f, k0);
    if (win.form) return eng_winograd_floats(&win, s->per_group, s->n);
    for (int i = 0; i < 3; i++) taps *= class_size(s->k[i], f->period[i], k0[i]);
    return taps * eng_packed_floats(s->per_group, s->n);
}

/* The next k0 in the order of packed weights. false: there is none. */
static bool next_class(const weights *s, const pack_form *f, int64_t *k0)
{
    for (int i = 2; i >= 0; k0[i--] = 0)
        if (++k0[i] < od_min_i64(f->period[i], s->k[i])) return true;
    return false;
}

static int64_t packed_floats(const weights *s, const pack_form *f)
{
    int64_t k0[3] = {0}, n = 0;
    if (is_depthwise(s)) return s->taps * s->group;
    if (is_few(s)) return eng_packed_floats(s->per_group, s->taps * s->n);
    if (!has_winograd(f)) return s->group * s->taps * eng_packed_floats(s->per_group, s->n);
    do n += class_floats(s, f, k0);
    while (next_class(s, f, k0));
    return n;
}

/* A convolution reads from the lowest pixel on: the last tap first. */
static void pack_winograd(const weights *s, const float *w, const pack_form *f, const int64_t *k0, float **to)
{
    const eng_winograd_window win = window_of(s, f, k0);
    const int64_t row = f->period[1] * s->k[2], col = f->period[2];
    const eng_winograd_weights from = {.w = w + k0[1] * s->k[2] + k0[2] + (win.size[0] - 1) * row + (win.size[1] - 1) * col,
                                       .channels = s->per_group, .out = s->n, .merged = 1,
                                       .apart = {s->taps, s->n * s->taps, -row, -col}};
    eng_winograd_pack(&win, &from, *to, NULL);
    *to += eng_winograd_floats(&win, s->per_group, s->n);
}

/* Input channels c .. end, counted from `w` on, of a panel's columns from p on, at one tap. What lies behind the last column
 * is cleared. */
static void pack_channels(const weights *s, const float *w, int64_t c, int64_t end, int64_t p, int64_t tap, float *to)
{
    int64_t n = od_min_i64(ENG_NR, s->n - p);
    for (; c < end; c++, to += ENG_NR) {
        const float *from = w + (c * s->n + p) * s->taps + tap;
        for (int64_t j = 0; j < n; j++) to[j] = s->merged == 1 ? from[j * s->taps] : weight_at(s, w, c, p + j, tap);
    }
}

/* `w`: the input channels of `part`, which is whole where there are groups, or transforms. */
static void pack_class(const weights *s, const float *w, const eng_pack_part *part, const pack_form *f, const int64_t *k0, int64_t g, float **to)
{
    enum { NEAR = 64 }; /* channels whose weights stay in a cache while all taps are taken from them */
    int64_t count[3], taps = 1, depth = is_depthwise(s) ? 1 : s->per_group, here = od_min_i64(depth, part->count);
    if (window_of(s, f, k0).form) {
        pack_winograd(s, w, f, k0, to);
        return;
    }
    for (int i = 0; i < 3; i++) taps *= count[i] = class_size(s->k[i], f->period[i], k0[i]);
    for (int64_t p = 0; p < (is_depthwise(s) ? 1 : s->n); p += ENG_NR) {
        for (int64_t c = 0; c < here; c += NEAR)
            for (int64_t t = 0; t < taps; t++) {
                int64_t m[3] = {t / count[2] / count[1], t / count[2] % count[1], t % count[2]}, tap = 0;
                for (int i = 0; i < 3; i++) tap = tap * s->k[i] + k0[i] + m[i] * f->period[i];
                if (!is_depthwise(s))
                    pack_channels(s, w + g * depth * s->n * s->taps, c, od_min_i64(here, c + NEAR), p, tap,
                                  *to + (t * depth + part->first + c) * ENG_NR);
                for (int64_t d = 0; is_depthwise(s) && d < s->group; d++) (*to)[t * s->group + d] = w[d * s->taps + tap];
            }
        *to += taps * (is_depthwise(s) ? s->group : depth * ENG_NR);
    }
}

/* W [group * per_group][n][taps] by group, then k0 of each axis, then panels with k = tap, channel. */
static void pack(const eng_tensor *w, const eng_pack_part *part, const void *arg, void *out)
{
    const pack_form *f = arg;
    weights s = merge_weights(w, f->group);
    const float *from = part->bytes;
    float *to = out;
    if (is_few(&s)) { /* columns are taps, then channels */
        int64_t here = od_min_i64(s.per_group, part->count);
        for (int64_t p = 0; p < s.taps * s.n; p += ENG_NR)
            for (int64_t c = 0; c < here; c++)
                for (int64_t j = p; j < od_min_i64(s.taps * s.n, p + ENG_NR); j++)
                    to[p * s.per_group + (part->first + c) * ENG_NR + j - p] = weight_at(&s, from, c, j % s.n, j / s.n);
        return;
    }
    int64_t k0[3] = {0};
    for (int64_t g = 0; g < (is_depthwise(&s) ? 1 : s.group); g++)
        do pack_class(&s, from, part, f, k0, g, &to);
        while (next_class(&s, f, k0));
}

static pack_form form_of(const params *p)
{
    pack_form f = {.group = p->group};
    for (int i = 0; i < 3; i++) {
        int64_t a = p->window.stride[i], b = p->window.dilation[i];
        while (b) {
            int64_t rest = a % b;
            a = b;
            b = rest;
        }
        f.period[i] = p->window.stride[i] / a;
    }
    return f;
}

/* Phases that are convolutions along a line or a plane may go through Winograd's transforms. */
static void choose_winograd(const eng_graph *g, const eng_node *n, const eng_tensor *w, const weights *s, params *p)
{
    enum { SIDE = 28 }; /* of a map that is not known */
    if (w->rank > 4 || s->group > 1 || s->merged > 1 || is_few(s)) return;
    for (int i = 0; i < 3; i++)
        if (p->window.dilation[i] > 1) return;
    const int64_t phases = p->window.stride[1] * p->window.stride[2];
    int64_t map[2] = {w->rank == 4 ? SIDE : 1, w->rank == 4 ? SIDE : SIDE * SIDE}, items = 1;
    const eng_tensor *x = g->probe && n->in[0] < g->n_probe ? &g->probe[n->in[0]] : NULL;
    if (x && x->rank == w->rank) {
        items = od_max_i64(x->dims[0], 1);
        for (int a = 4 - w->rank; a < 2; a++)
            if (x->dims[a + w->rank - 2] > 0) map[a] = x->dims[a + w->rank - 2];
    }
    for (int i = 0; i < 4; i++) {
        const int less[2] = {i / 2, i % 2};
        eng_winograd_window win = {.stride = {1, 1}, .dilation = {1, 1}};
        for (int a = 0; a < 2; a++) win.size[a] = (s->k[a + 1] + (less[a] ? 0 : p->form.period[a + 1] - 1)) / p->form.period[a + 1];
        if (win.size[0] > 0 && win.size[1] > 0)
            p->form.winograd[less[0]][less[1]] = eng_winograd_choose(&win, phases, items, map[0], map[1], s->per_group, s->n);
    }
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static od_code read_axis_list(const eng_node *n, const char *name, int64_t *to, bool tail, od_status *st)
{
    enum { MOST = 1 << 24 };
    int64_t count;
    const int64_t *v = eng_node_ints(n, name, &count);
    if (v && tail && count > 3) { /* older exporters wrote batch and channels too */
        v += 2;
        count -= 2;
    }
    if (count > 3) return od_fail(st, OD_BAD_ARGUMENT, "%s has %" PRId64 " numbers", name, count);
    for (int64_t i = 0; i < count; i++) {
        if (v[i] < 0 || v[i] > MOST) return od_fail(st, OD_BAD_ARGUMENT, "%s holds %" PRId64, name, v[i]);
        to[3 - count + i] = v[i];
    }
    return OD_OK;
}

od_code eng_conv_transpose_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    params *p = eng_model_alloc(g, sizeof *p);
    (void)pool;
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a convolution");
    n->params = p;
    OD_TRY(eng_window_read(n, &p->window, st));
    OD_TRY(read_axis_list(n, "output_padding", p->out_pad, false, st));
    OD_TRY(read_axis_list(n, "output_shape", p->out_shape, true, st));
    p->group = eng_node_int(n, "group", 1);
    if (p->group < 1) return od_fail(st, OD_BAD_ARGUMENT, "group is %" PRId64, p->group);
    p->form = form_of(p);
    const eng_tensor *w = eng_node_weights(g, n, 1);
    if (!w || w->dtype != ENG_FLOAT || w->rank < 3 || w->rank > 5 || !eng_tensor_count(w) || w->dims[0] % p->group || g->model->probing)
        return OD_OK; /* not constant, or infer refuses it */
    weights s = merge_weights(w, p->group);
    choose_winograd(g, n, w, &s, p);
    const size_t bytes = (size_t)packed_floats(&s, &p->form) * sizeof(float);
    const bool in_parts = s.group == 1 && s.merged == 1 && !has_winograd(&p->form);
    return eng_model_pack(g, n, 1, "conv_transpose", &p->form, sizeof p->form, bytes, in_parts ? 1 : 0, pack, &p->packed, st);
}

static od_code check_inputs(const eng_ctx *c, int64_t group, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL, *w = c->n_in > 1 ? c->in[1] : NULL, *b = c->n_in > 2 ? c->in[2] : NULL;
    if (!x || !w) return od_fail(st, OD_BAD_MODEL, "ConvTranspose needs X and W");
    if (x->rank < 3 || x->rank > 5 || w->rank != x->rank)
        return od_fail(st, OD_BAD_SHAPE, "X has rank %d, W rank %d: equal ranks from 3 to 5 are wanted", x->rank, w->rank);
    if (w->dtype != x->dtype || (b && b->dtype != x->dtype))
        return od_fail(st, OD_BAD_TYPE, "W is %s, X %s", eng_dtype_name(w->dtype), eng_dtype_name(x->dtype));
    if (w->dims[0] != x->dims[1] || w->dims[0] % group)
        return od_fail(st, OD_BAD_SHAPE, "X has %" PRId64 " channels, W %" PRId64 " in %" PRId64 " groups", x->dims[1], w->dims[0], group);
    if (b && (b->rank != 1 || b->dims[0] != w->dims[1] * group))
        return od_fail(st, OD_BAD_SHAPE, "B has %" PRId64 " elements, wanted %" PRId64, eng_tensor_count(b), w->dims[1] * group);
    return OD_OK;
}

/* Fit the window to X: in, size, out and the padding that counts, `before`. */
static od_code fit(const eng_ctx *c, eng_window *win, od_status *st)
{
    const params *p = c->node->params;
    const eng_tensor *x = c->in[0], *w = c->in[1];
    int axes = x->rank - 2;
    *win = p->window;
    if (win->given && win->given != axes)
        return od_fail(st, OD_BAD_SHAPE, "the input has %d spatial axes, the attributes name %d", axes, win->given);
    for (int i = 0; i < 3; i++) {
        int a = i - (3 - axes);
        win->in[i] = a < 0 ? 1 : x->dims[2 + a];
        win->size[i] = a < 0 ? 1 : w->dims[2 + a];
        if (win->size[i] < 1 || win->size[i] > 1 << 24) return od_fail(st, OD_BAD_SHAPE, "a kernel of extent %" PRId64, win->size[i]);
        if (win->kernel[i] && a >= 0 && win->kernel[i] != win->size[i])
            return od_fail(st, OD_BAD_SHAPE, "kernel_shape says %" PRId64 ", the weights %" PRId64, win->kernel[i], win->size[i]);
        if (win->in[i] > (int64_t)1 << 36) return od_fail(st, OD_BAD_SHAPE, "an extent of %" PRId64, win->in[i]);
        int64_t full = (win->in[i] - 1) * win->stride[i] + p->out_pad[i] + (win->size[i] - 1) * win->dilation[i] + 1;
        bool upper = win->auto_pad == ENG_PAD_SAME_UPPER, same = upper || win->auto_pad == ENG_PAD_SAME_LOWER;
        if (a < 0) {
            win->out[i] = 1;
        } else if (p->out_shape[i] || same) {
            win->out[i] = p->out_shape[i] ? p->out_shape[i] : win->in[i] * win->stride[i];
            int64_t pad = od_max_i64(0, full - win->out[i]);
            win->before[i] = upper ? pad / 2 : pad - pad / 2;
        } else {
            win->out[i] = full - win->before[i] - win->after[i];
        }
        if (win->out[i] < 0) return od_fail(st, OD_BAD_SHAPE, "an output of extent %" PRId64, win->out[i]);
    }
    return OD_OK;
}

od_code eng_conv_transpose_infer(eng_ctx *c, od_status *st)
{
    const params *p = c->node->params;
    eng_window win;
    OD_TRY(check_inputs(c, p->group, st));
    OD_TRY(fit(c, &win, st));
    int64_t dims[ENG_MAX_RANK] = {c->in[0]->dims[0]};
    if (!od_mul_i64(c->in[1]->dims[1], p->group, &dims[1])) return od_fail(st, OD_BAD_SHAPE, "too many output channels");
    for (int i = 2; i < c->in[0]->rank; i++) dims[i] = win.out[i - 2 + 5 - c->in[0]->rank];
    return eng_set_out(c, 0, c->in[0]->dtype, c->in[0]->rank, dims, st);
}

/* ---- phases ---------------------------------------------------------------------------------- */

/* Output coordinates r, r + stride ..: what they read. */
typedef struct phase {
    int64_t k0, taps, before; /* taps 0: nothing; taps of smaller k0 */
    int64_t base;             /* input coordinate that output r reads with tap k0 */
    int64_t extent;           /* output coordinates */
} phase;

typedef struct job {
    eng_window win;
    weights s;
    const float *x, *packed, *bias, *zeros, *add;
    float *y, *columns;
    int64_t x_pitch, y_pitch, add_pitch, items;
    int64_t n_phases[3], step[3]; /* input coordinates back from a tap to the next */
    phase *phases[3];
    int64_t block, blocks, splits, split;
    eng_epilogue f;
    char *slots;
    size_t rows_bytes, slot_bytes;
} job;

static od_code find_phases(job *j, const pack_form *f, od_arena *a, od_status *st)
{
    const eng_window *w = &j->win;
    for (int i = 0; i < 3; i++) {
        int64_t stride = w->stride[i], period = f->period[i], before = 0, n = j->n_phases[i] = od_min_i64(stride, w->out[i]);
        if (!(j->phases[i] = od_arena_array(a, phase, n))) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " phases", n);
        j->step[i] = period * w->dilation[i] / stride;
        for (int64_t r = 0; r < n; r++) j->phases[i][r].extent = (w->out[i] - r - 1) / stride + 1;
        for (int64_t k0 = 0; k0 < od_min_i64(period, w->size[i]); k0++) {
            int64_t size = class_size(w->size[i], period, k0), r = (k0 * w->dilation[i] - w->before[i]) % stride;
            if (r < 0) r += stride;
            if (r < n) {
                phase *p = &j->phases[i][r];
                p->k0 = k0;
                p->taps = size;
                p->before = before;
                p->base = (r + w->before[i] - k0 * w->dilation[i]) / stride;
            }
            before += size;
        }
    }
    return OD_OK;
}

/* Taps that lie before those of a phase in the packed weights. */
static int64_t taps_before(const job *j, const phase *const *p)
{
    return p[0]->before * j->s.k[1] * j->s.k[2] + p[0]->taps * (p[1]->before * j->s.k[2] + p[1]->taps * p[2]->before);
}

/* rows[tap * m + i] for m pixels of a phase from number `pixel` on. */
static void point_taps(const job *j, const phase *const *p, int64_t item, int64_t pixel, int64_t m, int64_t channel, const float **rows)
{
    const int64_t *in = j->win.in;
    int64_t q[3] = {pixel / p[2]->extent / p[1]->extent, pixel / p[2]->extent % p[1]->extent, pixel % p[2]->extent};
    const float *x = j->x + channel;
    for (int64_t i = 0; i < m; i++) {
        const float **to = rows + i;
        for (int64_t a = 0; a < p[0]->taps; a++) {
            int64_t d = p[0]->base + q[0] - a * j->step[0];
            for (int64_t b = 0; b < p[1]->taps; b++) {
                int64_t h = p[1]->base + q[1] - b * j->step[1], line = ((item * in[0] + d) * in[1] + h) * in[2];
                bool inside = (uint64_t)d < (uint64_t)in[0] && (uint64_t)h < (uint64_t)in[1];
                for (int64_t c = 0, w = p[2]->base + q[2]; c < p[2]->taps; c++, w -= j->step[2], to += m)
                    *to = inside && (uint64_t)w < (uint64_t)in[2] ? x + (line + w) * j->x_pitch : j->zeros;
            }
        }
        for (int k = 2; k >= 0 && ++q[k] == p[k]->extent && k; k--) q[k] = 0;
    }
}

/* Where pixel number `pixel` of a phase lies, counted in output pixels. */
static int64_t output_of(const job *j, const phase *const *p, const int64_t *r, int64_t item, int64_t pixel)
{
    const eng_window *w = &j->win;
    int64_t q[3] = {pixel / p[2]->extent / p[1]->extent, pixel / p[2]->extent % p[1]->extent, pixel % p[2]->extent}, at = item;
    for (int i = 0; i < 3; i++) at = at * w->out[i] + r[i] + q[i] * w->stride[i];
    return at;
}

/* Rows of a block lie in y line by line, a stride apart. */
static void store_lines(const job *j, const phase *const *p, const int64_t *r, int64_t item, int64_t pixel, int64_t col, eng_gemm *g)
{
    const float *const *rows = g->rows;
    for (int64_t at = 0, n, m = g->m; at < m; at += n) {
        n = od_min_i64(m - at, p[2]->extent - (pixel + at) % p[2]->extent);
        int64_t out = output_of(j, p, r, item, pixel + at);
        bool dense = g->segments == 1 && rows[at] != j->zeros && rows[at + n - 1] != j->zeros; /* then all between lie inside too */
        g->m = n;
        g->rows = dense ? NULL : rows + at;
        g->a = rows[at];
        g->lda = j->x_pitch;
        g->c = j->y + out * j->y_pitch + col;
        g->ldc = j->win.stride[2] * j->y_pitch;
        g->add = j->add ? j->add + out * j->add_pitch + col : NULL;
        g->ld_add = j->win.stride[2] * j->add_pitch;
        eng_kernels_get()->gemm_f32(g);
    }
}

/* Lines are short: compute the block in one piece and spread it. */
static void store_spread(const job *j, const phase *const *p, const int64_t *r, int64_t item, int64_t pixel, int64_t col, float *tmp, eng_gemm *g)
{
    size_t bytes = (size_t)g->n * sizeof *tmp;
    float *add = tmp + g->m * g->n;
    g->c = tmp;
    g->ldc = g->ld_add = g->n;
    if (j->add) {
        g->add = add;
        for (int64_t i = 0; i < g->m; i++)
            memcpy(add + i * g->n, j->add + output_of(j, p, r, item, pixel + i) * j->add_pitch + col, bytes);
    }
    eng_kernels_get()->gemm_f32(g);
    for (int64_t i = 0; i < g->m; i++)
        memcpy(j->y + output_of(j, p, r, item, pixel + i) * j->y_pitch + col, tmp + i * g->n, bytes);
}

static eng_gemm gemm_of(const job *j)
{
    return (eng_gemm){.act = j->f.act, .alpha = j->f.alpha, .beta = j->f.beta, .residual = j->f.residual};
}

/* Taps of the phase: `none` when it has none, and then stands for one tap of zeros. */
static void run_block(void *arg, int64_t chunk, int slot)
{
    const job *j = arg;
    int64_t split = chunk % j->splits, g = chunk / j->splits % j->s.group, block = chunk / j->splits / j->s.group, r[3];
    int64_t pixel = block % j->blocks * j->block, item = block / j->blocks;
    const phase *p[3];
    for (int i = 2; i >= 0; i--) {
        r[i] = item % j->n_phases[i];
        item /= j->n_phases[i];
        p[i] = &j->phases[i][r[i]];
    }
    int64_t m = od_min_i64(j->block, p[0]->extent * p[1]->extent * p[2]->extent - pixel), taps = p[0]->taps * p[1]->taps * p[2]->taps;
    if (m <= 0) return;
    const float **rows = (const float **)(void *)(j->slots + (size_t)slot * j->slot_bytes);
    int64_t col = split * j->split, n = od_min_i64(j->split, j->s.n - col), panel = eng_packed_floats(j->s.per_group, j->s.n);
    eng_gemm e = gemm_of(j);
    e.m = e.ld_rows = m;
    e.n = n;
    e.rows = rows;
    e.segments = od_max_i64(taps, 1);
    e.length = taps ? j->s.per_group : 1;
    e.b = taps ? j->packed + g * j->s.taps * panel + taps_before(j, p) * panel + col * taps * j->s.per_group : j->zeros;
    e.bias = j->bias ? j->bias + g * j->s.n + col : NULL;
    if (taps) point_taps(j, p, item, pixel, m, g * j->s.per_group, rows);
    else for (int64_t i = 0; i < m; i++) rows[i] = j->zeros;
    if (p[2]->extent >= SHORT_ROW) store_lines(j, p, r, item, pixel, g * j->s.n + col, &e);
    else store_spread(j, p, r, item, pixel, g * j->s.n + col, (float *)(void *)((char *)rows + j->rows_bytes), &e);
}

/* One channel a group. */
static void run_depthwise(void *arg, int64_t chunk, int slot)
{
    const job *j = arg;
    int64_t line = chunk, r[3], q[2];
    const phase *p[3];
    for (int i = 2; i >= 0; i--) {
        r[i] = line % j->n_phases[i];
        line /= j->n_phases[i];
        p[i] = &j->phases[i][r[i]];
    }
    q[1] = line % j->phases[1][0].extent;
    q[0] = line / j->phases[1][0].extent % j->phases[0][0].extent;
    int64_t item = line / j->phases[1][0].extent / j->phases[0][0].extent, taps = p[0]->taps * p[1]->taps * p[2]->taps;
    if (q[0] >= p[0]->extent || q[1] >= p[1]->extent) return;
    const float **rows = (const float **)(void *)(j->slots + (size_t)slot * j->slot_bytes);
    for (int64_t at = 0; at < p[2]->extent; at += j->block) {
        int64_t pixel = (q[0] * p[1]->extent + q[1]) * p[2]->extent + at, m = od_min_i64(j->block, p[2]->extent - at);
        int64_t out = output_of(j, p, r, item, pixel);
        if (taps) point_taps(j, p, item, pixel, m, 0, rows);
        else for (int64_t i = 0; i < m; i++) rows[i] = j->zeros;
        eng_depthwise_taps d = {.pixels = m, .channels = j->s.group, .n_taps = od_max_i64(taps, 1), .taps = rows,
                                .w = taps ? j->packed + taps_before(j, p) * j->s.group : j->zeros,
                                .end = {.bias = j->bias, .c = j->y + out * j->y_pitch, .ldc = j->win.stride[2] * j->y_pitch,
                                        .act = j->f.act, .alpha = j->f.alpha, .beta = j->f.beta, .residual = j->f.residual,
                                        .add = j->add ? j->add + out * j->add_pitch : NULL,
                                        .ld_add = j->win.stride[2] * j->add_pitch}};
        eng_kernels_get()->depthwise_taps_f32(&d);
    }
}

/* ---- few output channels --------------------------------------------------------------------- */

/* to[q * to_step + k] += from[q * from_step + k], k below n: a loop each for what n may be. */
static void add_pixels(float *restrict to, int64_t to_step, const float *restrict from, int64_t from_step, int64_t count, int64_t n)
{
#define ADD(N)                                                                                                       \
    case N:                                                                                                          \
        for (int64_t q = 0; q < count; q++, to += to_step, from += from_step)                                        \
            for (int k = 0; k < N; k++) to[k] += from[k];                                                            \
        break
    switch (n) {
        ADD(1);
        ADD(2);
        ADD(3);
        ADD(4);
        ADD(5);
        ADD(6);
        ADD(7);
        ADD(8);
    }
#undef ADD
}

/* What one line of input pixels, from column `tap` * n on, adds to the outputs of phase r of a line. */
static void add_line(const job *j, const phase *p, int64_t r, const float *line, int64_t tap, float *sum)
{
    const eng_window *w = &j->win;
    int64_t n = j->s.n, all = j->s.taps * n, stride = w->stride[2], period = j->step[2] * stride / w->dilation[2];
    for (int64_t c = 0; c < p->taps; c++) {
        int64_t v = p->base - c * j->step[2], from = od_max_i64(0, -v), count = od_min_i64(p->extent, w->in[2] - v) - from;
        float *to = sum + (r + from * stride) * n;
        const float *x = line + (v + from) * all + (tap + p->k0 + c * period) * n;
        add_pixels(to, stride * n, x, all, count, n);
    }
}

/* The epilogue of n numbers with the residual `add`, or NULL. */
static void finish(const job *j, float *sum, const float *add, int64_t n)
{
    for (int64_t c = 0; add && j->f.residual == ENG_RES_BEFORE_ACT && c < n; c++) sum[c] += add[c];
    if (j->f.act) eng_kernels_get()->act_f32(j->f.act, j->f.alpha, j->f.beta, sum, sum, n);
    for (int64_t c = 0; add && j->f.residual == ENG_RES_AFTER_ACT && c < n; c++) sum[c] += add[c];
}

/* A line of output: its taps' contributions are columns of the product of each input pixel. */
static void gather_line(void *arg, int64_t line, int slot)
{
    const job *j = arg;
    const eng_window *w = &j->win;
    int64_t n = j->s.n, all = j->s.taps * n, o[2] = {line / w->out[1], line % w->out[1]}, period[2];
    const phase *p0 = &j->phases[0][o[0] % w->stride[0]], *p1 = &j->phases[1][o[1] % w->stride[1]];
    float *sum = (float *)(void *)(j->slots + (size_t)slot * j->slot_bytes);
    for (int64_t x = 0; x < w->out[2]; x++)
        for (int64_t k = 0; k < n; k++) sum[x * n + k] = j->bias ? j->bias[k] : 0.0f;
    for (int i = 0; i < 2; i++) period[i] = j->step[i] * w->stride[i] / w->dilation[i];
    for (int64_t a = 0; a < p0->taps; a++) {
        int64_t d = p0->base + o[0] / w->stride[0] - a * j->step[0];
        for (int64_t b = 0; b < p1->taps; b++) {
            int64_t h = p1->base + o[1] / w->stride[1] - b * j->step[1];
            if ((uint64_t)d >= (uint64_t)w->in[0] || (uint64_t)h >= (uint64_t)w->in[1]) continue;
            const float *from = j->columns + (d * w->in[1] + h) * w->in[2] * all;
            int64_t tap = ((p0->k0 + a * period[0]) * j->s.k[1] + p1->k0 + b * period[1]) * j->s.k[2];
            for (int64_t r = 0; r < j->n_phases[2]; r++) add_line(j, &j->phases[2][r], r, from, tap, sum);
        }
    }
    float *y = j->y + line * w->out[2] * j->y_pitch;
    const float *add = j->add ? j->add + line * w->out[2] * j->add_pitch : NULL;
    if (j->y_pitch == n && (!add || j->add_pitch == n)) {
        finish(j, sum, add, w->out[2] * n);
        memcpy(y, sum, (size_t)(w->out[2] * n) * sizeof *sum);
        return;
    }
    for (int64_t x = 0; x < w->out[2]; x++) {
        finish(j, sum + x * n, add ? add + x * j->add_pitch : NULL, n);
        memcpy(y + x * j->y_pitch, sum + x * n, (size_t)n * sizeof *sum);
    }
}

static od_code run_few(eng_ctx *c, job *j, od_status *st)
{
    const int64_t *in = j->win.in, *out = j->win.out;
    int64_t pixels = in[0] * in[1] * in[2], n = j->s.taps * j->s.n, lines = out[0] * out[1];
    j->slot_bytes = ((size_t)(out[2] * j->s.n) * sizeof(float) + 63) & ~(size_t)63;
    j->slots = od_arena_alloc(c->scratch, j->slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!j->slots || !(j->columns = od_arena_alloc(c->scratch, (size_t)(pixels * n) * sizeof(float))))
        return od_fail(st, OD_NO_MEMORY, "no memory for the taps' contributions");
    for (int64_t i = 0; i < j->items; i++) {
        eng_gemm g = {.m = pixels, .n = n, .segments = 1, .length = j->s.per_group, .a = j->x + i * pixels * j->x_pitch,
                      .lda = j->x_pitch, .b = j->packed, .c = j->columns, .ldc = n};
        eng_gemm_parallel(&g, c->scratch, c->pool);
        od_pool_for(c->pool, lines, gather_line, j);
        j->y += lines * out[2] * j->y_pitch;
        if (j->add) j->add += lines * out[2] * j->add_pitch;
    }
    return OD_OK;
}

/* ---- running --------------------------------------------------------------------------------- */

static void cut(job *j)
{
    enum { CHUNKS_WANTED = 16 };
    int64_t pixels = 1, phases = 1, panels = od_ceil_div(j->s.n, ENG_NR), taps = 1;
    for (int i = 0; i < 3; i++) {
        int64_t most = 1;
        for (int64_t r = 0; r < j->n_phases[i]; r++) most = od_max_i64(most, j->phases[i][r].taps);
        pixels *= j->phases[i][0].extent;
        phases *= j->n_phases[i];
        taps *= most;
    }
    j->block = od_min_i64(BLOCK, pixels);
    j->blocks = od_ceil_div(pixels, j->block);
    int64_t chunks = j->blocks * phases * j->items * j->s.group;
    j->splits = chunks < CHUNKS_WANTED ? od_min_i64(panels, od_ceil_div(CHUNKS_WANTED, chunks)) : 1;
    j->split = od_ceil_div(panels, j->splits) * ENG_NR;
    j->splits = od_ceil_div(panels * ENG_NR, j->split);
    j->rows_bytes = ((size_t)(j->block * taps) * sizeof(float *) + 63) & ~(size_t)63;
    size_t spread = j->phases[2][0].extent < SHORT_ROW + 1 ? (size_t)(2 * j->block * j->split) * sizeof(float) : 0;
    j->slot_bytes = (j->rows_bytes + spread + 63) & ~(size_t)63;
}

static void set_job(const eng_ctx *c, job *j)
{
    const params *p = c->node->params;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    j->s = merge_weights(c->in[1], p->group);
    j->x = x->data;
    j->y = y->data;
    j->x_pitch = x->pitch;
    j->y_pitch = y->pitch;
    j->items = x->dims[0];
    j->bias = c->n_in > 2 && c->in[2] && c->node->fused.residual_in != 2 ? c->in[2]->data : NULL;
    j->f = c->node->fused;
    if (j->f.residual) {
        j->add = c->in[j->f.residual_in]->data;
        j->add_pitch = c->in[j->f.residual_in]->pitch;
    }
}

static od_code run_all(eng_ctx *c, job *j, od_status *st)
{
    const int64_t phases = j->n_phases[0] * j->n_phases[1] * j->n_phases[2];
    cut(j);
    j->slots = od_arena_alloc(c->scratch, j->slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!j->slots) return od_fail(st, OD_NO_MEMORY, "no memory for a block of pixels");
    if (is_depthwise(&j->s)) od_pool_for(c->pool, j->items * j->phases[0][0].extent * j->phases[1][0].extent * phases, run_depthwise, j);
    else od_pool_for(c->pool, j->items * phases * j->blocks * j->s.group * j->splits, run_block, j);
    return OD_OK;
}

/* One after the other: those of two axes, the first of which is of rows. */
static od_code run_phase(eng_ctx *c, const job *j, const pack_form *f, int64_t row, int64_t col, od_status *st)
{
    phase of[3] = {j->phases[0][0], j->phases[1][row], j->phases[2][col]};
    int64_t k0[3] = {0};
    job one = *j;
    for (int i = 0; i < 3; i++) {
        one.phases[i] = &of[i];
        one.n_phases[i] = 1;
        of[i].before = 0;
    }
    for (; k0[1] != of[1].k0 || k0[2] != of[2].k0; next_class(&j->s, f, k0)) one.packed += class_floats(&j->s, f, k0);
    one.y += (row * j->win.out[2] + col) * j->y_pitch;
    if (j->add) one.add += (row * j->win.out[2] + col) * j->add_pitch;
    const eng_winograd_window win = window_of(&j->s, f, k0);
    if (!win.form || !of[1].taps || !of[2].taps) return run_all(c, &one, st);
    eng_winograd w = {.window = win, .x = j->x, .x_pitch = j->x_pitch, .items = j->items, .height = j->win.in[1], .width = j->win.in[2],
                      .channels = j->s.per_group, .top = of[1].taps - 1 - of[1].base, .left = of[2].taps - 1 - of[2].base,
                      .out_height = of[1].extent, .out_width = of[2].extent, .out = j->s.n, .map = {j->win.out[1], j->win.out[2]},
                      .step = {j->win.stride[1], j->win.stride[2]}, .weights = one.packed, .end = gemm_of(j)};
    w.end.bias = j->bias;
    w.end.c = one.y;
    w.end.ldc = j->y_pitch;
    w.end.add = one.add;
    w.end.ld_add = j->add_pitch;
    return eng_winograd_run(&w, c->pool, c->scratch, st);
}

static od_code run_phases(eng_ctx *c, const job *j, const pack_form *f, od_status *st)
{
    for (int64_t row = 0; row < j->n_phases[1]; row++)
        for (int64_t col = 0; col < j->n_phases[2]; col++) {
            od_arena_mark mark = od_arena_save(c->scratch);
            OD_TRY(run_phase(c, j, f, row, col, st));
            od_arena_rewind(c->scratch, mark);
        }
    return OD_OK;
}

static od_code run_float(eng_ctx *c, od_status *st)
{
    const params *p = c->node->params;
    job j = {.packed = p->packed};
    OD_TRY(fit(c, &j.win, st));
    set_job(c, &j);
    if (!eng_tensor_count(c->out[0])) return OD_OK;
    if (!j.packed) {
        float *to = od_arena_array(c->scratch, float, packed_floats(&j.s, &p->form));
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to pack weights");
        eng_pack_part whole = eng_pack_all(c->in[1]);
        pack(c->in[1], &whole, &p->form, to);
        j.packed = to;
    }
    OD_TRY(find_phases(&j, &p->form, c->scratch, st));
    if (is_few(&j.s)) return run_few(c, &j, st);
    j.zeros = od_arena_array(c->scratch, float, od_max_i64(j.s.per_group * j.s.group, j.s.n) + 2 * ENG_NR);
    if (!j.zeros) return od_fail(st, OD_NO_MEMORY, "no memory for a pixel of zeros");
    return has_winograd(&p->form) ? run_phases(c, &j, &p->form, st) : run_all(c, &j, st);
}

/* Doubles are rare enough for the definition itself. */
static od_code run_double(eng_ctx *c, od_status *st)
{
    const params *p = c->node->params;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    const double *bias = c->n_in > 2 && c->in[2] ? c->in[2]->data : NULL, *xd = x->data, *wd = c->in[1]->data;
    weights s = shape_weights(c->in[1], p->group);
    eng_window win;
    OD_TRY(fit(c, &win, st));
    int64_t channels = y->dims[1], pixels = channels ? eng_tensor_count(y) / channels : 0;
    for (int64_t i = 0; i < pixels * channels; i++) {
        int64_t pixel = i / channels, o = i % channels, at[3], item = pixel;
        for (int a = 2; a >= 0; a--) {
            at[a] = item % win.out[a];
            item /= win.out[a];
        }
        double sum = bias ? bias[o] : 0.0;
        for (int64_t t = 0; t < s.taps; t++) {
            int64_t k[3] = {t / s.k[2] / s.k[1], t / s.k[2] % s.k[1], t % s.k[2]}, from = item;
            bool inside = true;
            for (int a = 0; a < 3; a++) {
                int64_t v = at[a] + win.before[a] - k[a] * win.dilation[a];
                inside &= v >= 0 && v % win.stride[a] == 0 && v / win.stride[a] < win.in[a];
                from = from * win.in[a] + v / win.stride[a];
            }
            for (int64_t ch = o / s.n * s.per_group; inside && ch < (o / s.n + 1) * s.per_group; ch++)
                sum += xd[from * x->pitch + ch] * wd[(ch * s.n + o % s.n) * s.taps + t];
        }
        ((double *)y->data)[pixel * y->pitch + o] = sum;
    }
    return OD_OK;
}

od_code eng_conv_transpose_run(eng_ctx *c, od_status *st)
{
    return c->in[0]->dtype == ENG_DOUBLE ? run_double(c, st) : run_float(c, st);
}
