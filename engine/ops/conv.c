/* conv.c - Conv, on channels-last tensors of one to three spatial axes.
 * Every form is a matrix product whose rows are pixels (kernels.h): a 1x1 convolution reads the input in
 * place, a larger window goes through pointers to its taps, and few input channels are gathered into
 * dense rows first. One channel a group is the depthwise kernel. Padding is a pointer to zeros.
 * 3x3 of stride 1 with constant weights may go through Winograd's transforms (winograd.h). */
#include "engine/ops/conv.h"

#include "engine/kernels/winograd.h"
#include "engine/ops/ops.h"

#include <string.h>

enum { BLOCK = 96 }; /* pixels of a block: their rows and one panel of weights stay in the cache */

typedef struct conv_params {
    eng_window window;
    int64_t group;
    const float *direct;    /* packed constant weights; NULL: not constant */
    eng_winograd_form form;
    const float *winograd;  /* the same transformed; then direct is NULL */
} conv_params;

/* ---- packing ------------------------------------------------------------------------------- */

static bool is_depthwise(int64_t group, int64_t channels, int64_t out)
{
    return group > 1 && group == channels && group == out;
}

static int64_t packed_floats(int64_t group, int64_t out, int64_t per_group, int64_t taps)
{
    if (is_depthwise(group, per_group * group, out)) return taps * out;
    return group * eng_packed_floats(per_group * taps, out / group);
}

/* Weights [out][per_group][taps] into panels a group, k = tap * per_group + channel; depthwise ones into
 * [taps][channels]. */
static void pack_weights(const float *w, int64_t group, int64_t out, int64_t per_group, int64_t taps, float *to)
{
    if (is_depthwise(group, per_group * group, out)) {
        for (int64_t t = 0; t < taps; t++)
            for (int64_t c = 0; c < out; c++) to[t * out + c] = w[c * taps + t];
        return;
    }
    int64_t n = out / group;
    for (int64_t g = 0; g < group; g++) {
        for (int64_t p = 0; p < n; p += ENG_NR) {
            for (int64_t t = 0; t < taps; t++)
                for (int64_t c = 0; c < per_group; c++)
                    for (int64_t j = 0; j < ENG_NR; j++, to++)
                        *to = p + j < n ? w[((g * n + p + j) * per_group + c) * taps + t] : 0.0f;
        }
    }
}

static int64_t window_taps(const eng_tensor *w)
{
    int64_t taps = 1;
    for (int i = 2; i < w->rank; i++) taps *= w->dims[i];
    return taps;
}

/* Is a transformed product cheaper? By the weights and, where it is known, the input's shape. */
static eng_winograd_form winograd_form(const eng_graph *g, const eng_node *n, const conv_params *p, const eng_tensor *w)
{
    const eng_window *win = &p->window;
    if (p->group != 1 || w->rank != 4 || w->dims[2] != 3 || w->dims[3] != 3) return ENG_WINOGRAD_NONE;
    for (int i = 1; i < 3; i++)
        if (win->stride[i] != 1 || win->dilation[i] != 1) return ENG_WINOGRAD_NONE;
    int64_t size[3] = {0, 56, 56}; /* unknown: a map of medium size */
    const eng_tensor *x = !g->parent && g->model->probe && n->in[0] < g->model->n_probe ? &g->model->probe[n->in[0]] : NULL;
    if (x && x->rank == 4) {
        size[0] = od_max_i64(x->dims[0], 0);
        for (int i = 1; i < 3; i++)
            if (x->dims[i + 1] > 0) size[i] = x->dims[i + 1];
    }
    return eng_winograd_choose(size[0], size[1], size[2], w->dims[1], w->dims[0]);
}

od_code eng_conv_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    conv_params *p = eng_model_alloc(g, sizeof *p);
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a convolution");
    n->params = p;
    OD_TRY(eng_window_read(n, &p->window, st));
    p->group = eng_node_int(n, "group", 1);
    if (p->group < 1) return od_fail(st, OD_BAD_ARGUMENT, "group is %" PRId64, p->group);
    const eng_tensor *w = eng_node_constant(g, n, 1);
    if (!w || w->dtype != ENG_FLOAT || w->rank < 3 || g->model->probing) return OD_OK;
    int64_t taps = window_taps(w), out = w->dims[0], per_group = w->dims[1];
    if (out % p->group || taps < 1 || per_group < 1) return OD_OK; /* infer refuses it */
    if ((p->form = winograd_form(g, n, p, w)) != ENG_WINOGRAD_NONE) {
        float *to = eng_model_alloc(g, (size_t)eng_winograd_floats(p->form, per_group, out) * sizeof(float));
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for transformed weights");
        eng_winograd_pack(p->form, w->data, per_group, out, to, pool);
        p->winograd = to;
        return OD_OK;
    }
    float *to = eng_model_alloc(g, (size_t)packed_floats(p->group, out, per_group, taps) * sizeof(float));
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for packed weights");
    pack_weights(w->data, p->group, out, per_group, taps, to);
    p->direct = to;
    return OD_OK;
}

/* ---- shapes -------------------------------------------------------------------------------- */

static od_code check_weights(const eng_ctx *c, int64_t group, od_status *st)
{
    const eng_tensor *x = c->in[0], *w = c->n_in > 1 ? c->in[1] : NULL, *b = c->n_in > 2 ? c->in[2] : NULL;
    if (!x || !w) return od_fail(st, OD_BAD_MODEL, "Conv needs X and W");
    if (x->rank < 3 || x->rank > 5 || w->rank != x->rank)
        return od_fail(st, OD_BAD_SHAPE, "X has rank %d, W rank %d: equal ranks from 3 to 5 are wanted", x->rank, w->rank);
    if (w->dtype != x->dtype || (b && b->dtype != x->dtype))
        return od_fail(st, OD_BAD_TYPE, "W is %s, X %s", eng_dtype_name(w->dtype), eng_dtype_name(x->dtype));
    if (w->dims[1] * group != x->dims[1])
        return od_fail(st, OD_BAD_SHAPE, "X has %" PRId64 " channels, W wants %" PRId64 " in %" PRId64 " groups", x->dims[1],
                       w->dims[1] * group, group);
    if (w->dims[0] % group)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " output channels in %" PRId64 " groups", w->dims[0], group);
    if (b && (b->rank != 1 || b->dims[0] != w->dims[0]))
        return od_fail(st, OD_BAD_SHAPE, "B has %" PRId64 " elements, wanted %" PRId64, eng_tensor_count(b), w->dims[0]);
    return OD_OK;
}

od_code eng_conv_infer(eng_ctx *c, od_status *st)
{
    const conv_params *p = c->node->params;
    OD_TRY(check_weights(c, p->group, st));
    eng_window win = p->window;
    OD_TRY(eng_window_fit(&win, c->in[0], c->in[1]->dims + 2, st));
    int64_t dims[ENG_MAX_RANK] = {c->in[0]->dims[0], c->in[1]->dims[0]};
    for (int i = 2; i < c->in[0]->rank; i++) dims[i] = win.out[i - 2 + 5 - c->in[0]->rank];
    return eng_set_out(c, 0, c->in[0]->dtype, c->in[0]->rank, dims, st);
}

/* ---- running ------------------------------------------------------------------------------- */

typedef struct conv_job {
    const conv_params *p;
    eng_window win;
    const float *x, *bias, *zeros;
    float *y;
    int64_t x_pitch, y_pitch, channels, out, taps, pixels; /* output pixels of all items */
    int64_t group, per_group, n; /* input and output channels of a group */
    const float *packed;
    int64_t block, blocks, splits, split; /* rows of a block; parts and columns of a part of n */
    bool in_place, gather; /* 1x1 over dense pixels; few channels */
    char *slots;
    size_t slot_bytes;
    eng_gemm proto;        /* epilogue */
    int64_t add_pitch;
    const float *add;
} conv_job;

/* Where tap (kd, kh, kw) of output pixel `at` reads, or NULL in the padding. */
static const float *tap_of(const conv_job *j, const int64_t *at, int64_t tap)
{
    const eng_window *w = &j->win;
    int64_t k[3] = {tap / (w->size[1] * w->size[2]), tap / w->size[2] % w->size[1], tap % w->size[2]}, offset = at[0];
    for (int i = 0; i < 3; i++) {
        int64_t x = at[1 + i] * w->stride[i] + k[i] * w->dilation[i] - w->before[i];
        if ((uint64_t)x >= (uint64_t)w->in[i]) return NULL;
        offset = offset * w->in[i] + x;
    }
    return j->x + offset * j->x_pitch;
}

/* Output pixel number -> item and three coordinates. */
static void pixel_at(const eng_window *w, int64_t pixel, int64_t *at)
{
    for (int i = 2; i >= 0; i--) {
        at[1 + i] = pixel % w->out[i];
        pixel /= w->out[i];
    }
    at[0] = pixel;
}

static void next_pixel(const eng_window *w, int64_t *at)
{
    for (int i = 2; i >= 0; i--) {
        if (++at[1 + i] < w->out[i]) return;
        at[1 + i] = 0;
    }
    at[0]++;
}

/* rows[tap * m + i] for m output pixels from `pixel` on. */
static void point_taps(const conv_job *j, int64_t pixel, int64_t m, const float **rows)
{
    int64_t at[4];
    pixel_at(&j->win, pixel, at);
    for (int64_t i = 0; i < m; i++, next_pixel(&j->win, at)) {
        for (int64_t t = 0; t < j->taps; t++) {
            const float *p = tap_of(j, at, t);
            rows[t * m + i] = p ? p : j->zeros;
        }
    }
}

/* The same windows copied into dense rows. */
static void gather_taps(const conv_job *j, int64_t pixel, int64_t m, float *to)
{
    int64_t at[4];
    pixel_at(&j->win, pixel, at);
    for (int64_t i = 0; i < m; i++, next_pixel(&j->win, at)) {
        for (int64_t t = 0; t < j->taps; t++, to += j->channels) {
            const float *p = tap_of(j, at, t);
            for (int64_t c = 0; c < j->channels; c++) to[c] = p ? p[c] : 0.0f;
        }
    }
}

static void run_block(void *arg, int64_t chunk, int slot)
{
    const conv_job *j = arg;
    int64_t split = chunk % j->splits, rest = chunk / j->splits;
    int64_t g = rest % j->group, pixel = rest / j->group * j->block;
    int64_t m = od_min_i64(j->block, j->pixels - pixel), col = split * j->split;
    void *scratch = j->slots + (size_t)slot * j->slot_bytes;
    eng_gemm e = j->proto;
    e.m = m;
    e.n = od_min_i64(j->split, j->n - col);
    e.segments = 1;
    e.length = j->taps * j->per_group;
    e.b = j->packed + g * eng_packed_floats(e.length, j->n) + col * e.length;
    if (j->in_place) {
        e.a = j->x + pixel * j->x_pitch + g * j->per_group;
        e.lda = j->x_pitch;
    } else if (j->gather) {
        gather_taps(j, pixel, m, scratch);
        e.a = scratch;
        e.lda = e.length;
    } else {
        point_taps(j, pixel, m, scratch);
        const float **rows = scratch;
        for (int64_t i = 0; g && i < m * j->taps; i++)
            if (rows[i] != j->zeros) rows[i] += g * j->per_group;
        e.rows = rows;
        e.segments = j->taps;
        e.length = j->per_group;
    }
    int64_t at = g * j->n + col;
    e.bias = j->bias ? j->bias + at : NULL;
    e.c = j->y + pixel * j->y_pitch + at;
    e.add = j->add ? j->add + pixel * j->add_pitch + at : NULL;
    eng_kernels_get()->gemm_f32(&e);
}

static void run_depthwise(void *arg, int64_t chunk, int slot)
{
    const conv_job *j = arg;
    int64_t pixel = chunk * j->block, m = od_min_i64(j->block, j->pixels - pixel);
    const float **rows = (const float **)(void *)(j->slots + (size_t)slot * j->slot_bytes);
    point_taps(j, pixel, m, rows);
    eng_depthwise d = {.pixels = m, .channels = j->out, .n_taps = j->taps, .taps = rows, .w = j->packed, .bias = j->bias,
                       .c = j->y + pixel * j->y_pitch, .ldc = j->y_pitch, .act = j->proto.act, .alpha = j->proto.alpha,
                       .beta = j->proto.beta, .residual = j->proto.residual,
                       .add = j->add ? j->add + pixel * j->add_pitch : NULL, .ld_add = j->add_pitch};
    eng_kernels_get()->depthwise_f32(&d);
}

static void set_job(const eng_ctx *c, conv_job *j)
{
    const eng_tensor *x = c->in[0], *w = c->in[1], *y = c->out[0];
    const eng_epilogue *f = &c->node->fused;
    j->p = c->node->params;
    j->x = x->data;
    j->y = y->data;
    j->x_pitch = x->pitch;
    j->y_pitch = y->pitch;
    j->bias = c->n_in > 2 && c->in[2] ? c->in[2]->data : NULL;
    j->channels = x->dims[1];
    j->out = y->dims[1];
    j->taps = window_taps(w);
    j->group = j->p->group;
    j->per_group = w->dims[1];
    j->n = j->out / j->group;
    j->pixels = j->out ? eng_tensor_count(y) / j->out : 0;
    j->packed = j->p->direct;
    j->proto = (eng_gemm){.ldc = j->y_pitch, .act = f->act, .alpha = f->alpha, .beta = f->beta, .residual = f->residual};
    if (f->residual) {
        j->add = c->in[f->residual_in]->data;
        j->add_pitch = j->proto.ld_add = c->in[f->residual_in]->pitch;
    }
}

/* Blocks of pixels, and where these are few, columns in parts too, so that all threads find work. */
static void cut(conv_job *j, bool depthwise)
{
    enum { CHUNKS_WANTED = 16, GATHER_BELOW = 9 };
    const eng_window *w = &j->win;
    j->in_place = j->taps == 1;
    for (int i = 0; i < 3; i++) j->in_place &= w->stride[i] == 1 && !w->before[i] && w->out[i] == w->in[i];
    j->gather = !j->in_place && j->group == 1 && j->channels < GATHER_BELOW;
    j->block = depthwise ? od_max_i64(w->out[2], 1) : BLOCK;
    if (depthwise && j->block > 512) j->block = 512;
    while (!depthwise && j->block > 24 && od_ceil_div(j->pixels, j->block) < CHUNKS_WANTED) j->block -= 24;
    j->blocks = od_ceil_div(j->pixels, j->block);
    j->splits = 1;
    int64_t panels = od_ceil_div(j->n, ENG_NR);
    if (!depthwise && j->blocks * j->group < CHUNKS_WANTED)
        j->splits = od_min_i64(panels, od_ceil_div(CHUNKS_WANTED, j->blocks * j->group));
    j->split = od_ceil_div(panels, j->splits) * ENG_NR;
    j->splits = od_ceil_div(panels * ENG_NR, j->split);
    j->slot_bytes = (size_t)(j->block * j->taps) * sizeof(float *);
    if (j->gather) j->slot_bytes = (size_t)(j->block * j->taps * j->channels) * sizeof(float);
    j->slot_bytes = (j->slot_bytes + 63) & ~(size_t)63;
}

static od_code run_winograd(eng_ctx *c, const conv_job *j, od_status *st)
{
    eng_winograd w = {.form = j->p->form, .x = j->x, .x_pitch = j->x_pitch, .items = c->in[0]->dims[0], .height = j->win.in[1],
                      .width = j->win.in[2], .channels = j->channels, .top = j->win.before[1], .left = j->win.before[2],
                      .out_height = j->win.out[1], .out_width = j->win.out[2], .out = j->out, .weights = j->p->winograd,
                      .end = j->proto};
    w.end.c = j->y;
    w.end.bias = j->bias;
    w.end.add = j->add;
    return eng_winograd_run(&w, c->pool, c->scratch, st);
}

static od_code run_float(eng_ctx *c, od_status *st)
{
    conv_job j = {0};
    const eng_tensor *w = c->in[1];
    set_job(c, &j);
    j.win = j.p->window;
    OD_TRY(eng_window_fit(&j.win, c->in[0], w->dims + 2, st));
    if (!j.pixels || !j.out) return OD_OK;
    if (j.p->winograd) return run_winograd(c, &j, st);
    bool depthwise = is_depthwise(j.group, j.channels, j.out);
    if (!j.packed) {
        float *to = od_arena_array(c->scratch, float, packed_floats(j.group, j.out, j.per_group, j.taps));
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to pack weights");
        pack_weights(w->data, j.group, j.out, j.per_group, j.taps, to);
        j.packed = to;
    }
    cut(&j, depthwise);
    j.zeros = od_arena_array(c->scratch, float, j.channels + ENG_NR);
    j.slots = od_arena_alloc(c->scratch, j.slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!j.zeros || !j.slots) return od_fail(st, OD_NO_MEMORY, "no memory for a block of pixels");
    if (depthwise) od_pool_for(c->pool, j.blocks, run_depthwise, &j);
    else od_pool_for(c->pool, j.blocks * j.group * j.splits, run_block, &j);
    return OD_OK;
}

/* Doubles are rare enough for the definition itself. */
static od_code run_double(eng_ctx *c, od_status *st)
{
    const conv_params *p = c->node->params;
    const eng_tensor *x = c->in[0], *w = c->in[1], *y = c->out[0];
    const double *bias = c->n_in > 2 && c->in[2] ? c->in[2]->data : NULL, *xd = x->data, *wd = w->data;
    eng_window win = p->window;
    OD_TRY(eng_window_fit(&win, x, w->dims + 2, st));
    int64_t taps = window_taps(w), out = w->dims[0], per_group = w->dims[1], n = out / p->group;
    int64_t pixels = out ? eng_tensor_count(y) / out : 0, at[4];
    for (int64_t i = 0; i < pixels; i++) {
        pixel_at(&win, i, at);
        for (int64_t o = 0; o < out; o++) {
            double sum = bias ? bias[o] : 0.0;
            for (int64_t t = 0; t < taps; t++) {
                int64_t k[3] = {t / (win.size[1] * win.size[2]), t / win.size[2] % win.size[1], t % win.size[2]}, from = at[0];
                bool inside = true;
                for (int a = 0; a < 3; a++) {
                    int64_t v = at[1 + a] * win.stride[a] + k[a] * win.dilation[a] - win.before[a];
                    inside &= (uint64_t)v < (uint64_t)win.in[a];
                    from = from * win.in[a] + v;
                }
                for (int64_t ch = 0; inside && ch < per_group; ch++)
                    sum += xd[from * x->pitch + o / n * per_group + ch] * wd[(o * per_group + ch) * taps + t];
            }
            ((double *)y->data)[i * y->pitch + o] = sum;
        }
    }
    return OD_OK;
}

od_code eng_conv_run(eng_ctx *c, od_status *st)
{
    return c->in[0]->dtype == ENG_DOUBLE ? run_double(c, st) : run_float(c, st);
}
