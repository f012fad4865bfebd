/* deform_conv.c - DeformConv on images: taps lie where `offset` says, between pixels.
 * For a block of output pixels the values at all taps are interpolated into rows [pixel][tap][channel];
 * what is left is the matrix product of an ordinary convolution. */
#include "engine/kernels/kernels.h"
#include "engine/kernels/resize.h"
#include "engine/ops/conv.h"
#include "engine/ops/ops.h"
#include "engine/packed.h"

#include <math.h>

enum { BLOCK = 48 }; /* output pixels */

typedef struct params {
    eng_window window;
    int64_t group, offset_group;
    const float *packed; /* NULL: not constant */
} params;

typedef struct job {
    const params *p;
    eng_window win;
    const float *x, *packed, *offset, *bias, *mask;
    float *y;
    int64_t x_pitch, y_pitch, channels, out, taps, area, blocks; /* of one image */
    char *slots;
    size_t slot_bytes;
} job;

/* W [out][per_group][taps] by group into panels, k = tap, channel. */
static void pack(const eng_tensor *w, const eng_pack_part *part, const void *arg, void *out)
{
    int64_t group = *(const int64_t *)arg, n = w->dims[0] / group, per = w->dims[1], taps = w->dims[2] * w->dims[3];
    const float *from = part->bytes;
    float *to = out;
    for (int64_t g = 0; g < group; g++)
        for (int64_t p = 0; p < n; p += ENG_NR)
            for (int64_t t = 0; t < taps; t++)
                for (int64_t c = 0; c < per; c++)
                    for (int64_t j = p; j < p + ENG_NR; j++) *to++ = j < n ? from[((g * n + j) * per + c) * taps + t] : 0.0f;
}

static size_t packed_bytes(const eng_tensor *w, int64_t group)
{
    return (size_t)(group * eng_packed_floats(w->dims[1] * w->dims[2] * w->dims[3], w->dims[0] / group)) * sizeof(float);
}

od_code eng_deform_conv_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    params *p = eng_model_alloc(g, sizeof *p);
    (void)pool;
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a convolution");
    n->params = p;
    OD_TRY(eng_window_read(n, &p->window, st));
    p->group = eng_node_int(n, "group", 1);
    p->offset_group = eng_node_int(n, "offset_group", 1);
    if (p->group < 1 || p->offset_group < 1)
        return od_fail(st, OD_BAD_ARGUMENT, "group is %" PRId64 ", offset_group %" PRId64, p->group, p->offset_group);
    const eng_tensor *w = eng_node_weights(g, n, 1);
    if (!w || w->dtype != ENG_FLOAT || w->rank != 4 || !eng_tensor_count(w) || w->dims[0] % p->group || g->model->probing) return OD_OK;
    return eng_model_pack(g, n, 1, "deform_conv", &p->group, sizeof p->group, packed_bytes(w, p->group), 0, pack, &p->packed, st);
}

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static od_code check_map(const eng_tensor *t, const char *name, int64_t items, int64_t channels, const eng_window *w, od_status *st)
{
    if (t->rank == 4 && t->dims[0] == items && t->dims[1] == channels && t->dims[2] == w->out[1] && t->dims[3] == w->out[2]) return OD_OK;
    char have[80];
    return od_fail(st, OD_BAD_SHAPE, "%s is %s: [%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "] is wanted", name,
                   eng_tensor_text(t, have, sizeof have), items, channels, w->out[1], w->out[2]);
}

od_code eng_deform_conv_infer(eng_ctx *c, od_status *st)
{
    const params *p = c->node->params;
    const eng_tensor *x = input(c, 0), *w = input(c, 1), *offset = input(c, 2), *b = input(c, 3), *mask = input(c, 4);
    eng_window win = p->window;
    if (!x || !w || !offset) return od_fail(st, OD_BAD_MODEL, "X, W and offset are wanted");
    OD_TRY(eng_check_types(c, 1, x->dtype, st));
    if (x->rank != 4 || w->rank != 4) return od_fail(st, OD_UNSUPPORTED, "X has rank %d, W rank %d: images only", x->rank, w->rank);
    if (w->dims[1] * p->group != x->dims[1] || w->dims[0] % p->group || x->dims[1] % p->offset_group)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " and %" PRId64 " channels in %" PRId64 " groups and %" PRId64 " of offsets", x->dims[1], w->dims[0],
                       p->group, p->offset_group);
    OD_TRY(eng_window_fit(&win, x, w->dims + 2, st));
    int64_t taps = w->dims[2] * w->dims[3] * p->offset_group;
    OD_TRY(check_map(offset, "offset", x->dims[0], 2 * taps, &win, st));
    if (mask) OD_TRY(check_map(mask, "mask", x->dims[0], taps, &win, st));
    if (b && (b->rank != 1 || b->dims[0] != w->dims[0])) return od_fail(st, OD_BAD_SHAPE, "B does not fit %" PRId64 " channels", w->dims[0]);
    return eng_set_out(c, 0, x->dtype, 4, (int64_t[]){x->dims[0], w->dims[0], win.out[1], win.out[2]}, st);
}

/* Four pixels around (h, w) with their weights times `scale`; outside is zero. */
static void place(const job *j, double h, double w, float scale, int64_t *at, float *weight)
{
    int64_t height = j->win.in[1], width = j->win.in[2];
    bool inside = h > -1 && w > -1 && h < (double)height && w < (double)width;
    double y = inside ? floor(h) : 0, x = inside ? floor(w) : 0, dy = h - y, dx = w - x;
    for (int t = 0; t < 4; t++) {
        int64_t r = (int64_t)y + t / 2, c = (int64_t)x + t % 2;
        bool in = inside && (uint64_t)r < (uint64_t)height && (uint64_t)c < (uint64_t)width;
        at[t] = in ? r * width + c : 0;
        weight[t] = in ? (float)((t / 2 ? dy : 1 - dy) * (t % 2 ? dx : 1 - dx)) * scale : 0.0f;
    }
}

/* Values of tap t, offset group g, for m pixels from `pixel` on, into rows of `ld` floats. */
static void sample(const job *j, int64_t image, int64_t pixel, int64_t m, int64_t g, int64_t t, float *rows, int64_t ld)
{
    const eng_window *win = &j->win;
    int64_t at[4 * BLOCK], per = j->channels / j->p->offset_group, map = (image * j->p->offset_group + g) * j->taps + t;
    float w[4 * BLOCK];
    const float *dh = j->offset + 2 * map * j->area, *dw = dh + j->area, *mask = j->mask ? j->mask + map * j->area : NULL;
    for (int64_t i = 0; i < m; i++) {
        int64_t o = pixel + i, h = o / win->out[2] * win->stride[1] - win->before[1] + t / win->size[2] * win->dilation[1];
        int64_t v = o % win->out[2] * win->stride[2] - win->before[2] + t % win->size[2] * win->dilation[2];
        place(j, (double)h + (double)dh[o], (double)v + (double)dw[o], mask ? mask[o] : 1.0f, at + 4 * i, w + 4 * i);
    }
    eng_resize_line l = {.x = j->x + image * win->in[1] * win->in[2] * j->x_pitch + g * per, .at = at, .w = w, .taps = 4, .pixels = m,
                         .channels = per, .pitch = j->x_pitch, .y = rows + t * j->channels + g * per, .ldy = ld};
    eng_resize_get()->line_f32(&l);
}

static void run_block(void *arg, int64_t chunk, int slot)
{
    const job *j = arg;
    int64_t image = chunk / j->blocks, pixel = chunk % j->blocks * BLOCK, m = od_min_i64(BLOCK, j->area - pixel);
    int64_t ld = j->taps * j->channels, per = j->channels / j->p->group, n = j->out / j->p->group;
    float *rows = (float *)(void *)(j->slots + (size_t)slot * j->slot_bytes);
    const float **segments = (const float **)(void *)(rows + BLOCK * ld);
    for (int64_t g = 0; g < j->p->offset_group; g++)
        for (int64_t t = 0; t < j->taps; t++) sample(j, image, pixel, m, g, t, rows, ld);
    for (int64_t g = 0; g < j->p->group; g++) {
        for (int64_t t = 0; t < j->taps; t++)
            for (int64_t i = 0; i < m; i++) segments[t * m + i] = rows + i * ld + t * j->channels + g * per;
        eng_gemm e = {.m = m, .n = n, .segments = j->taps, .length = per, .rows = segments, .ld_rows = m,
                      .b = j->packed + g * eng_packed_floats(j->taps * per, n), .bias = j->bias ? j->bias + g * n : NULL,
                      .c = j->y + (image * j->area + pixel) * j->y_pitch + g * n, .ldc = j->y_pitch};
        eng_kernels_get()->gemm_f32(&e);
    }
}

/* Doubles: the definition. */
static double sample_double(const double *x, int64_t pitch, const eng_window *win, double h, double w)
{
    double sum = 0;
    if (!(h > -1 && w > -1 && h < (double)win->in[1] && w < (double)win->in[2])) return 0;
    int64_t top = (int64_t)floor(h), left = (int64_t)floor(w);
    double dy = h - (double)top, dx = w - (double)left;
    for (int t = 0; t < 4; t++) {
        int64_t r = top + t / 2, c = left + t % 2;
        if (r >= 0 && c >= 0 && r < win->in[1] && c < win->in[2]) sum += x[(r * win->in[2] + c) * pitch] * (t / 2 ? dy : 1 - dy) * (t % 2 ? dx : 1 - dx);
    }
    return sum;
}

static void run_double(const eng_ctx *c, const params *p, const eng_window *win)
{
    const eng_tensor *x = c->in[0], *w = c->in[1], *y = c->out[0];
    const double *offset = c->in[2]->data, *b = input(c, 3) ? c->in[3]->data : NULL, *mask = input(c, 4) ? c->in[4]->data : NULL;
    int64_t taps = w->dims[2] * w->dims[3], area = win->out[1] * win->out[2], out = w->dims[0], per = w->dims[1];
    int64_t per_offset = x->dims[1] / p->offset_group;
    for (int64_t at = 0; at < x->dims[0] * area * out; at++) {
        int64_t o = at % out, pixel = at / out % area, image = at / out / area;
        const double *from = (const double *)x->data + image * win->in[1] * win->in[2] * x->pitch;
        double sum = b ? b[o] : 0;
        for (int64_t k = 0; k < per * taps; k++) {
            int64_t channel = o / (out / p->group) * per + k / taps, t = k % taps;
            int64_t map = (image * p->offset_group + channel / per_offset) * taps + t;
            double h = (double)(pixel / win->out[2] * win->stride[1] - win->before[1] + t / win->size[2] * win->dilation[1]);
            double v = (double)(pixel % win->out[2] * win->stride[2] - win->before[2] + t % win->size[2] * win->dilation[2]);
            h += offset[2 * map * area + pixel];
            v += offset[(2 * map + 1) * area + pixel];
            sum += ((const double *)w->data)[o * per * taps + k] * sample_double(from + channel, x->pitch, win, h, v) * (mask ? mask[map * area + pixel] : 1);
        }
        ((double *)y->data)[(image * area + pixel) * y->pitch + o] = sum;
    }
}

od_code eng_deform_conv_run(eng_ctx *c, od_status *st)
{
    const params *p = c->node->params;
    const eng_tensor *x = c->in[0], *w = c->in[1], *y = c->out[0], *b = input(c, 3), *mask = input(c, 4);
    job j = {.p = p, .win = p->window, .x = x->data, .packed = p->packed, .offset = c->in[2]->data, .bias = b ? b->data : NULL,
             .mask = mask ? mask->data : NULL, .y = y->data, .x_pitch = x->pitch, .y_pitch = y->pitch, .channels = x->dims[1],
             .out = y->dims[1], .taps = w->dims[2] * w->dims[3], .area = y->dims[2] * y->dims[3]};
    OD_TRY(eng_window_fit(&j.win, x, w->dims + 2, st));
    if (!eng_tensor_count(y)) return OD_OK;
    if (!eng_tensor_count(x)) return od_fail(st, OD_BAD_SHAPE, "X is empty");
    if (x->dtype == ENG_DOUBLE) return run_double(c, p, &j.win), OD_OK;
    if (!j.packed) {
        float *to = od_arena_alloc(c->scratch, packed_bytes(w, p->group));
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to pack weights");
        eng_pack_part whole = eng_pack_all(c->in[1]);
        pack(c->in[1], &whole, &p->group, to);
        j.packed = to;
    }
    j.blocks = od_ceil_div(j.area, BLOCK);
    j.slot_bytes = (size_t)(BLOCK * j.taps) * ((size_t)j.channels * sizeof(float) + sizeof(float *)); /* a multiple of 64 */
    if (!(j.slots = od_arena_alloc(c->scratch, j.slot_bytes * (size_t)od_pool_slots(c->pool)))) return od_fail(st, OD_NO_MEMORY, "no memory for a block of pixels");
    od_pool_for(c->pool, x->dims[0] * j.blocks, run_block, &j);
    return OD_OK;
}
