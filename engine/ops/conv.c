/* conv.c - Conv, on channels-last tensors of one to three spatial axes.
 * Every form is a matrix product whose rows are pixels (kernels.h): a 1x1 convolution reads the input in
 * place; a larger window is read through pointers to its taps, padding being a pointer to zeros. Where channels
 * are few a padded copy of the input costs little, and a window is one pointer and the same offsets everywhere.
 * Groups of few channels are merged, with zeros where they do not meet. One input channel a group is the
 * depthwise kernel. Windows of constant weights may go through Winograd's transforms (winograd.h). */
#include "engine/ops/conv_job.h"

#include "engine/kernels/transpose.h"
#include "engine/ops/ops.h"
#include "engine/packed.h"
#include "engine/tune.h"

#include <string.h>

/* ---- packing ------------------------------------------------------------------------------- */

static int64_t window_taps(const eng_tensor *w)
{
    int64_t taps = 1;
    for (int i = 2; i < w->rank; i++) taps *= w->dims[i];
    return taps;
}

/* Weights that infer has accepted, or NULL data: then out and taps may be zero. */
static conv_form form_of(const eng_tensor *w, int64_t group)
{
    conv_form f = {.group = group, .out = w->dims[0], .per_group = w->dims[1], .taps = window_taps(w), .merged = 1};
    int64_t n = f.out / group;
    if (group > 1 && f.per_group == 1) f.merged = 0;
    else if (n > 0) /* as many groups as fill the columns of a panel: it would be padded to them anyway */
        while (f.merged * n * 2 <= ENG_NR && group % (f.merged * 2) == 0) f.merged *= 2;
    return f;
}

static int64_t packed_floats(const conv_form *f)
{
    if (f->winograd.form) return groups_of(f) * eng_winograd_floats(&f->winograd, inputs_of(f), outputs_of(f));
    if (!f->merged) return eng_packed_floats(f->taps, f->out);
    return groups_of(f) * eng_packed_floats(inputs_of(f) * f->taps, outputs_of(f));
}

typedef struct pack_job {
    const float *w;
    const conv_form *f;
    float *to; /* cleared where groups are merged */
} pack_job;

/* Panel `chunk`, counted over the groups: k = tap * channels + channel. */
static void pack_panel(void *arg, int64_t chunk, int slot)
{
    const pack_job *j = arg;
    const conv_form *f = j->f;
    int64_t n = outputs_of(f), inputs = inputs_of(f), panels = od_ceil_div(n, ENG_NR), own = f->out / f->group;
    int64_t g = chunk / panels, p = chunk % panels * ENG_NR;
    float *to = j->to + chunk * ENG_NR * inputs * f->taps;
    (void)slot;
    if (f->merged == 1) {
        int64_t step = inputs * f->taps; /* from one output to the next */
        for (int64_t t = 0; t < f->taps; t++)
            eng_gemm_pack(j->w + (g * n + p) * step + t, f->taps, step, inputs, od_min_i64(ENG_NR, n - p), to + t * inputs * ENG_NR);
        return;
    }
    for (int64_t c = 0; c < f->per_group; c++)
        for (int64_t t = 0; t < f->taps; t++)
            for (int64_t col = 0; col < ENG_NR; col++) {
                int64_t part = (p + col) / own, out = g * n + p + col; /* which of the merged groups */
                if (p + col < n) to[(t * inputs + part * f->per_group + c) * ENG_NR + col] = j->w[(out * f->per_group + c) * f->taps + t];
                else to[(t * inputs + c) * ENG_NR + col] = 0.0f;
            }
}

/* To panels a group; depthwise weights to panels of [tap][channel]. */
static void pack_direct(const float *w, const conv_form *f, float *to, od_pool *pool)
{
    pack_job j = {w, f, to};
    if (f->merged) od_pool_for(pool, groups_of(f) * od_ceil_div(outputs_of(f), ENG_NR), pack_panel, &j);
    else eng_gemm_pack(w, 1, f->taps, f->taps, f->out, to);
}

/* Can output channels be packed some at a time? */
static bool in_parts(const conv_form *f)
{
    return f->group == 1 && f->merged == 1;
}

static void pack_constant(const eng_tensor *w, const eng_pack_part *part, const void *arg, void *to)
{
    const conv_form *f = arg;
    eng_winograd_weights source = {.w = part->bytes, .channels = inputs_of(f), .out = outputs_of(f), .merged = f->merged};
    const eng_winograd_window *win = &f->winograd;
    conv_form some = *f;
    (void)w;
    if (in_parts(f)) {
        source.first = part->first;
        source.count = some.out = part->count;
    }
    if (!win->form) pack_direct(part->bytes, &some, (float *)to + part->first * inputs_of(f) * f->taps, NULL);
    for (int64_t g = 0; win->form && g < groups_of(f); g++) {
        eng_winograd_weights group = source;
        group.w += g * source.out * f->per_group * f->taps;
        eng_winograd_pack(win, &group, (float *)to + g * eng_winograd_floats(win, source.channels, source.out), NULL);
    }
}

/* The axes that Winograd's transforms take for rows and columns: the last two, or with three of which only the first has more
 * than one tap that one and both others as one. The axes that are not among them must stay as they are. */
typedef enum planar { NOT_PLANAR, LAST_TWO, FIRST_ALONE } planar;

static planar planar_axes(const eng_window *win, const int64_t *taps)
{
    bool still[3];
    for (int a = 0; a < 3; a++) still[a] = taps[a] == 1 && win->stride[a] == 1 && !win->before[a] && !win->after[a];
    return still[0] ? LAST_TWO : still[1] && still[2] ? FIRST_ALONE : NOT_PLANAR;
}

/* Is a transformed product cheaper? By the weights and, where it is known, the input's shape. */
static void choose_winograd(const eng_graph *g, const eng_node *n, conv_params *p, const eng_tensor *w)
{
    const eng_window *win = &p->window;
    const int64_t inputs = inputs_of(&p->form), outputs = outputs_of(&p->form);
    const int axes = w->rank - 2, skip = 3 - axes; /* axes that the tensor has; those in front that it lacks */
    int64_t taps[3] = {1, 1, 1}, map[3] = {1, 1, 1}, items = 1;
    if (!p->form.merged) return;
    for (int a = skip; a < 3; a++) taps[a] = w->dims[a + 2 - skip];
    const planar kind = planar_axes(win, taps);
    if (kind == NOT_PLANAR) return;
    eng_winograd_window to = {.form = ENG_WINOGRAD_NONE, .size = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
    bool usual = axes == 2;
    for (int a = 0; a < 2; a++) {
        const int from = kind == LAST_TWO ? a + 1 : 0;
        if (kind == FIRST_ALONE && a == 1) break;
        to.size[a] = taps[from];
        to.stride[a] = win->stride[from];
        to.dilation[a] = win->dilation[from];
        usual &= to.size[a] == 3 && to.stride[a] == 1 && to.dilation[a] == 1;
    }
    /* unknown: a map of medium size; where a stride makes it smaller, the more channels the smaller it mostly is */
    const int64_t side = to.stride[1] > 1 ? od_max_i64(od_min_i64(112 * 32 / inputs, 112), 7) : 56;
    for (int a = skip; a < 3; a++) map[a] = axes == 1 ? 1024 : a ? side : 16;
    const eng_tensor *x = g->probe && n->in[0] < g->n_probe ? &g->probe[n->in[0]] : NULL;
    if (x && x->rank == w->rank) {
        items = od_max_i64(x->dims[0], 1);
        for (int a = skip; a < 3; a++)
            if (x->dims[a + 2 - skip] > 0) map[a] = x->dims[a + 2 - skip];
    }
    int64_t rows = kind == LAST_TWO ? map[1] : map[0], cols = kind == LAST_TWO ? map[2] : map[1] * map[2];
    if (kind == LAST_TWO) items *= map[0];
    rows = od_ceil_div(rows, to.stride[0]);
    cols = od_ceil_div(cols, to.stride[1]);
    const eng_tune_layer layer = {items, rows, cols, inputs, outputs};
    to.form = usual ? eng_tune_choose(g->model, &layer) : eng_winograd_choose(&to, 1, items, rows, cols, inputs, outputs);
    if (to.form) p->form.winograd = to;
}

od_code eng_conv_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    conv_params *p = eng_model_alloc(g, sizeof *p);
    (void)pool;
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a convolution");
    n->params = p;
    OD_TRY(eng_window_read(n, &p->window, st));
    p->group = eng_node_int(n, "group", 1);
    if (p->group < 1) return od_fail(st, OD_BAD_ARGUMENT, "group is %" PRId64, p->group);
    const eng_tensor *w = eng_node_weights(g, n, 1);
    if (!w || w->dtype != ENG_FLOAT || w->rank < 3 || g->model->probing) return OD_OK;
    if (w->dims[0] % p->group || window_taps(w) < 1 || w->dims[1] < 1 || w->dims[0] < 1) return OD_OK; /* infer refuses it */
    p->form = form_of(w, p->group);
    choose_winograd(g, n, p, w);
    size_t size = (size_t)packed_floats(&p->form) * sizeof(float);
    return eng_model_pack(g, n, 1, "conv", &p->form, sizeof p->form, size, in_parts(&p->form) ? ENG_NR : 0, pack_constant, &p->packed, st);
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

/* Where the window at `first` of an item begins, if all of it is on the map. */
static const float *window_at(const conv_job *j, int64_t item, const int64_t *first)
{
    const eng_window *w = &j->win;
    return j->x + (((item * w->in[0] + first[0]) * w->in[1] + first[1]) * w->in[2] + first[2]) * j->x_pitch;
}

/* The segments of a window that is not all on the map; its first tap is (z, y, x) of `item`. Returns which are,
 * as bits. */
static uint64_t point_edge(const conv_job *j, int64_t item, const int64_t *first, int64_t channel, const float **to, int64_t m)
{
    const eng_window *w = &j->win;
    int64_t z = first[0], y;
    uint64_t present = 0, bit = 1;
    for (int64_t kz = 0; kz < w->size[0]; kz++, z += w->dilation[0]) {
        y = first[1];
        for (int64_t ky = 0; ky < w->size[1]; ky++, y += w->dilation[1]) {
            bool on = z >= 0 && z < w->in[0] && y >= 0 && y < w->in[1];
            const float *line = on ? j->x + ((item * w->in[0] + z) * w->in[1] + y) * w->in[2] * j->x_pitch : NULL;
            int64_t x = first[2];
            for (int64_t s = 0; s < w->size[2]; s++, x += w->dilation[2], to += m, bit <<= 1) {
                bool there = on && x >= 0 && x < w->in[2];
                *to = there ? line + x * j->x_pitch + channel : j->zeros;
                if (there) present |= bit;
            }
        }
    }
    return present;
}

/* rows[s * m + i] for m output pixels from `pixel` on, reading from input channel `channel` on; bit s of present[i]
 * says that it is on the map. */
static void point_rows(const conv_job *j, int64_t pixel, int64_t m, int64_t channel, const float **rows, uint64_t *present)
{
    const eng_window *w = &j->win;
    int64_t at[4], last[3], step = w->stride[2] * j->x_pitch;
    for (int i = 0; i < 3; i++) last[i] = w->in[i] - (w->size[i] - 1) * w->dilation[i]; /* first taps below it are inside */
    pixel_at(w, pixel, at);
    for (int64_t i = 0, n; i < m; i += n, at[3] += n - 1, next_pixel(w, at)) {
        int64_t first[3];
        for (int a = 0; a < 3; a++) first[a] = at[1 + a] * w->stride[a] - w->before[a];
        n = 1;
        if (first[0] < 0 || first[0] >= last[0] || first[1] < 0 || first[1] >= last[1] || first[2] < 0 || first[2] >= last[2]) {
            present[i] = point_edge(j, at[0], first, channel, rows + i, m);
            continue;
        }
        n = od_min_i64(od_min_i64(m - i, w->out[2] - at[3]), od_ceil_div(last[2] - first[2], w->stride[2])); /* neighbours */
        const float *p = window_at(j, at[0], first) + channel;
        for (int64_t s = 0; s < j->segments; s++) {
            const float **to = rows + s * m + i, *from = p + j->offsets[s];
            for (int64_t k = 0; k < n; k++) to[k] = from + k * step;
        }
        for (int64_t k = 0; k < n; k++) present[i + k] = UINT64_MAX >> (64 - od_min_i64(j->segments, 64));
    }
}

static void run_block(void *arg, int64_t chunk, int slot)
{
    const conv_job *j = arg;
    int64_t groups = groups_of(&j->form), n = outputs_of(&j->form), inputs = inputs_of(&j->form), depth = j->form.taps * inputs;
    int64_t split = chunk % j->splits, rest = chunk / j->splits, g = rest % groups, pixel = rest / groups * j->block;
    eng_gemm e = eng_gemm_part(&j->end, pixel, od_min_i64(j->block, j->pixels - pixel), 0, n);
    const float **rows = (const float **)(void *)(j->slots + (size_t)slot * j->slot_bytes);
    uint64_t *present = (uint64_t *)(void *)(rows + j->block * j->segments);
    point_rows(j, pixel, e.m, g * inputs, rows, present);
    e.rows = rows;
    e.ld_rows = e.m;
    e.segments = j->segments;
    e.length = j->length;
    if (j->scattered) e.offsets = j->offsets;
    else if (!j->few) e.places = j->places;
    if (!j->few && j->segments <= ENG_PRESENT_MAX) e.present = present;
    e.depth = depth;
    e.b = j->packed + g * eng_packed_floats(depth, n);
    if (e.bias) e.bias += g * n;
    if (e.add) e.add += g * n;
    e.c += g * n;
    e = eng_gemm_part(&e, 0, e.m, split * j->split, od_min_i64(j->split, n - split * j->split));
    eng_kernels_get()->gemm_f32(&e);
}

/* ---- padded copies of the input -------------------------------------------------------------- */

static void repeat_channels(const float *x, int64_t channels, int64_t times, float *to)
{
    if (times == 2)
        for (int64_t c = 0; c < channels; c++) to[2 * c] = to[2 * c + 1] = x[c];
    else
        for (int64_t c = 0; c < channels; c++, to += times)
            for (int64_t t = 0; t < times; t++) to[t] = x[c];
}

static void pad_line(void *arg, int64_t line, int slot)
{
    const conv_padding *j = arg;
    const int64_t y = line % j->extent[1] - j->before[1], z = line / j->extent[1] % j->extent[0] - j->before[0];
    const int64_t item = line / j->extent[1] / j->extent[0], out = j->channels * j->times;
    const int64_t width = od_min_i64(j->in[2], j->extent[2] - j->before[2]);
    float *to = j->to + line * j->extent[2] * j->to_pitch;
    const float *from = j->x + ((item * j->in[0] + z) * j->in[1] + y) * j->in[2] * j->x_pitch;
    (void)slot;
    if (z < 0 || z >= j->in[0] || y < 0 || y >= j->in[1]) {
        memset(to, 0, (size_t)(j->extent[2] * j->to_pitch) * sizeof *to);
        return;
    }
    memset(to, 0, (size_t)(j->before[2] * j->to_pitch) * sizeof *to);
    to += j->before[2] * j->to_pitch;
    if (j->planes) {
        const int64_t plane = j->in[1] * j->in[2];
        eng_transposes_get()->by_log2[2]((char *)to, out * (int64_t)sizeof *to, (const char *)(j->x + item * out * plane + y * j->in[2]),
                                         plane * (int64_t)sizeof *to, out, width);
        to += width * out;
    } else if (j->times == 1 && j->x_pitch == j->to_pitch) memcpy(to, from, (size_t)(width * out) * sizeof *to), to += width * out;
    else for (int64_t p = 0; p < width; p++, to += j->to_pitch, from += j->x_pitch) {
        if (j->times == 1) memcpy(to, from, (size_t)out * sizeof *to);
        else repeat_channels(from, j->channels, j->times, to);
    }
    memset(to, 0, (size_t)((j->extent[2] - j->before[2] - width) * j->to_pitch) * sizeof *to);
}

/* A copy of the input with zeros so that windows stay inside along the axes from `axis` on, where each channel is `times` times
 * and pixels are to_pitch floats apart. Returns whether anything would change. */
static bool plan_padding(const conv_job *j, int axis, int64_t times, int64_t to_pitch, conv_padding *p)
{
    const eng_window *w = &j->win;
    *p = (conv_padding){.x = j->x, .x_pitch = j->x_pitch, .to_pitch = to_pitch, .channels = j->channels, .times = times};
    bool needed = times > 1;
    for (int a = 0; a < 3; a++) {
        int64_t reach = (w->out[a] - 1) * w->stride[a] + (w->size[a] - 1) * w->dilation[a] + 1;
        p->in[a] = p->extent[a] = w->in[a];
        if (a < axis) continue;
        p->before[a] = od_max_i64(w->before[a], 0);
        p->extent[a] = reach - w->before[a] + p->before[a];
        needed |= p->before[a] > 0 || p->extent[a] > w->in[a];
    }
    return needed;
}

/* Windows then lie on the copy. */
static void read_padded(conv_job *j, const conv_padding *p)
{
    j->x_pitch = p->to_pitch;
    for (int a = 0; a < 3; a++) {
        j->win.in[a] = p->extent[a];
        j->win.before[a] -= p->before[a];
    }
}

/* Read such a copy instead. */
static od_code pad_input(eng_ctx *c, conv_job *j, int axis, int64_t times, int64_t to_pitch, od_status *st)
{
    conv_padding p;
    int64_t floats = to_pitch, lines = c->in[0]->dims[0];
    if (!plan_padding(j, axis, times, to_pitch, &p)) return OD_OK;
    for (int a = 0; a < 3; a++) {
        if (!od_mul_i64(floats, p.extent[a], &floats)) return od_fail(st, OD_NO_MEMORY, "a padded input is too large");
        if (a < 2) lines *= p.extent[a];
    }
    if (!od_mul_i64(floats, c->in[0]->dims[0], &floats) || !(p.to = od_arena_array(c->scratch, float, floats)))
        return od_fail(st, OD_NO_MEMORY, "no memory for a padded input");
    od_pool_for(floats < 1 << 14 ? NULL : c->pool, lines, pad_line, &p);
    j->x = p.to;
    read_padded(j, &p);
    return OD_OK;
}

/* ---- direct sums --------------------------------------------------------------------------- */

/* Leave out the outer taps of each axis that read padding wherever the window stands: with a dilation near
 * the map's extent these are most of them. */
static void crop_window(conv_job *j)
{
    eng_window *w = &j->win;
    for (int a = 0; a < 3; a++) {
        int64_t first = w->size[a], last = -1, end = (w->out[a] - 1) * w->stride[a];
        j->whole[a] = w->size[a];
        for (int64_t k = 0; k < w->size[a]; k++) {
            int64_t from = k * w->dilation[a] - w->before[a]; /* the tap reads from .. from + end */
            if (from >= w->in[a] || from + end < 0) continue;
            if (first > k) first = k;
            last = k;
        }
        if (last < 0) first = last = 0;
        j->skipped[a] = first;
        w->size[a] = last - first + 1;
        w->before[a] -= first * w->dilation[a];
    }
}

/* Blocks of pixels, and where these are too few for the threads, columns in parts too. */
static void cut_blocks(conv_job *j, int64_t threads)
{
    enum { BLOCK = 96, LEAST = 48, POINTERS = 8192 };
    int64_t n = outputs_of(&j->form), groups = groups_of(&j->form), wanted = threads > 1 ? threads * 4 : 1;
    j->block = BLOCK;
    if (threads > 1 && od_ceil_div(j->pixels, j->block) * groups < wanted) j->block = LEAST;
    if (j->block * j->segments > POINTERS) j->block = od_max_i64(POINTERS / j->segments, 24);
    j->blocks = od_ceil_div(j->pixels, j->block);
    j->block = od_ceil_div(j->pixels, j->blocks);
    j->blocks = od_ceil_div(j->pixels, j->block);
    j->split = od_ceil_div(n, 2 * ENG_NR) * 2 * ENG_NR;
    if (j->blocks * groups < wanted) {
        int64_t parts = od_min_i64(od_ceil_div(n, 2 * ENG_NR), od_ceil_div(wanted, j->blocks * groups));
        j->split = od_ceil_div(od_ceil_div(n, 2 * ENG_NR), parts) * 2 * ENG_NR;
    }
    j->splits = od_ceil_div(n, j->split);
    j->slot_bytes = ((size_t)j->block * ((size_t)j->segments * sizeof(float *) + sizeof(uint64_t)) + 63) & ~(size_t)63;
}

bool eng_conv_in_place(const conv_job *j)
{
    const eng_window *w = &j->win;
    bool in_place = j->form.merged && j->form.taps == 1 && groups_of(&j->form) == 1;
    for (int i = 0; i < 3; i++) in_place &= w->stride[i] == 1 && !w->before[i] && w->out[i] == w->in[i];
    return in_place;
}

eng_gemm eng_conv_product(const conv_job *j)
{
    eng_gemm g = j->end;
    g.segments = 1;
    g.length = j->channels;
    g.a = j->x;
    g.lda = j->x_pitch;
    g.b = j->packed;
    return g;
}

/* One tap that strides, or reads padding: a product as any other but that its rows lie anywhere. */
static od_code run_points(eng_ctx *c, const conv_job *j, od_status *st)
{
    eng_gemm g = eng_conv_product(j);
    const float **rows = od_arena_array(c->scratch, const float *, j->pixels);
    uint64_t *present = od_arena_array(c->scratch, uint64_t, j->pixels);
    if (!rows || !present) return od_fail(st, OD_NO_MEMORY, "no memory for pointers to pixels");
    point_rows(j, 0, j->pixels, 0, rows, present);
    g.rows = rows;
    eng_gemm_parallel(&g, c->scratch, c->pool);
    return OD_OK;
}

/* Where the taps lie, from the first on, and their weights. */
static od_code place_taps(eng_ctx *c, conv_job *j, od_status *st)
{
    const eng_window *w = &j->win;
    int64_t *offsets = od_arena_array(c->scratch, int64_t, j->segments), *places = od_arena_array(c->scratch, int64_t, j->segments);
    if (!offsets || !places) return od_fail(st, OD_NO_MEMORY, "no memory for the places of a window");
    for (int64_t s = 0; s < j->segments; s++) {
        int64_t line = s / w->size[2], z = line / w->size[1], y = line % w->size[1], x = s % w->size[2];
        offsets[s] = ((z * w->dilation[0] * w->in[1] + y * w->dilation[1]) * w->in[2] + x * w->dilation[2]) * j->x_pitch;
        int64_t tap = ((z + j->skipped[0]) * j->whole[1] + y + j->skipped[1]) * j->whole[2] + x + j->skipped[2];
        places[s] = tap * inputs_of(&j->form) * ENG_NR;
    }
    j->offsets = offsets;
    j->places = places;
    return OD_OK;
}

/* Few enough channels for all of a window, or a line of it, to be read from one place on. */
static bool is_few(const conv_form *f, int64_t channels)
{
    enum { FEW = 16, NARROW = 4 }; /* channels; outputs that the kernel sums along channels instead */
    return f->merged && groups_of(f) == 1 && channels < FEW && f->taps > 1 && (f->out > NARROW || channels < NARROW);
}

bool eng_conv_few(const conv_params *p, const eng_tensor *x)
{
    enum { WEIGHTS = 64 << 10, LINES = 8 };
    return p && p->packed && !p->form.winograd.form && x->rank == 4 && x->dtype == ENG_FLOAT && is_few(&p->form, x->dims[1]) &&
           packed_floats(&p->form) * (int64_t)sizeof(float) <= WEIGHTS && x->dims[2] / p->window.stride[1] >= LINES;
}

/* Images mostly come as planes: what a band reads is brought to channels-last together with its padding. */
void eng_conv_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    const eng_node *n = c->node;
    for (int i = 0; i < c->n_in; i++) want_in[i] = ENG_ROW;
    if (!c->in[0] || c->in[0]->rank < 3) return;
    want_in[0] = c->in[0]->layout == ENG_ROW && eng_conv_few(n->params, c->in[0]) ? ENG_ROW : ENG_CL;
    *want_out = ENG_CL;
    if (n->fused.residual) want_in[n->fused.residual_in] = ENG_CL;
}

/* Windows of few channels: where their elements lie, from the first on, and as what they are multiplied. */
static od_code place_few(eng_ctx *c, conv_job *j, od_status *st)
{
    enum { LENGTH = 8, NARROW = 4 }; /* of a line that is worth a pointer of its own; outputs with a way that does not know offsets */
    const eng_window *w = &j->win;
    const int64_t lines = w->size[0] * w->size[1], length = w->size[2] * j->channels;
    j->scattered = w->dilation[2] > 1 || j->x_pitch > j->channels || length < LENGTH || j->form.out <= NARROW;
    j->segments = j->scattered ? 1 : lines;
    j->length = j->scattered ? lines * length : length;
    int64_t *offsets = od_arena_array(c->scratch, int64_t, lines * length);
    if (!offsets) return od_fail(st, OD_NO_MEMORY, "no memory for the places of a window");
    j->offsets = offsets;
    for (int64_t s = 0; s < lines; s++) {
        const int64_t at = (s / w->size[1] * w->dilation[0] * w->in[1] + s % w->size[1] * w->dilation[1]) * w->in[2] * j->x_pitch;
        for (int64_t k = 0; k < (j->scattered ? length : 1); k++)
            *offsets++ = at + k / j->channels * w->dilation[2] * j->x_pitch + k % j->channels;
    }
    return OD_OK;
}

void eng_conv_few_lines(const conv_few *b, int slot, int64_t item, int64_t y, int64_t n, float *to, int64_t ldc)
{
    const conv_job *j = b->j;
    const eng_window *w = &j->win;
    char *own = j->slots + (size_t)slot * j->slot_bytes;
    conv_padding pad = b->pad;
    for (int64_t end = y + n; y < end; y += n, to += n * w->out[2] * ldc) {
        const int64_t first = item * pad.extent[1] + y * w->stride[1] - w->before[1];
        n = od_min_i64(b->band, end - y);
        pad.to = (float *)(void *)(own + b->rows_bytes) - first * pad.extent[2] * pad.to_pitch;
        for (int64_t l = 0; l < (n - 1) * w->stride[1] + b->reach; l++) pad_line(&pad, first + l, slot);
        eng_gemm e = eng_gemm_part(&j->end, (item * w->out[1] + y) * w->out[2], n * w->out[2], 0, j->form.out);
        e.rows = (const float *const *)(void *)own;
        e.ld_rows = b->band * w->out[2];
        e.segments = j->segments;
        e.length = j->length;
        if (j->scattered) e.offsets = j->offsets;
        e.depth = j->form.taps * j->channels;
        e.b = j->packed;
        e.c = to;
        e.ldc = ldc;
        eng_kernels_get()->gemm_f32(&e);
    }
}

od_code eng_conv_few_start(eng_ctx *c, conv_job *j, conv_few *b, od_status *st)
{
    enum { FLOATS = 6 << 10, POINTERS = 8192, PARTS = 8 };
    const eng_window *w = &j->win;
    *b = (conv_few){.j = j};
    plan_padding(j, 0, 1, j->channels, &b->pad);
    b->pad.planes = c->in[0]->layout == ENG_ROW;
    read_padded(j, &b->pad);
    OD_TRY(place_few(c, j, st));
    const int64_t line = od_max_i64(w->in[2] * j->channels, 1), slots = od_pool_slots(c->pool);
    b->reach = (w->size[1] - 1) * w->dilation[1] + 1;
    b->band = od_min_i64((FLOATS / line - b->reach) / w->stride[1] + 1, POINTERS / (w->out[2] * j->segments));
    b->band = od_max_i64(od_min_i64(b->band, od_ceil_div(w->out[1], PARTS)), 1);
    const int64_t pixels = b->band * w->out[2];
    b->rows_bytes = ((size_t)(pixels * j->segments) * sizeof(float *) + 63) & ~(size_t)63;
    int64_t floats;
    if (!od_mul_i64(line, (b->band - 1) * w->stride[1] + b->reach, &floats) || floats > INT64_MAX / 64 / slots)
        return od_fail(st, OD_NO_MEMORY, "padded lines are too large");
    j->slot_bytes = b->rows_bytes + (((size_t)floats * sizeof(float) + 63) & ~(size_t)63);
    if (!(j->slots = od_arena_alloc(c->scratch, j->slot_bytes * (size_t)slots))) return od_fail(st, OD_NO_MEMORY, "no memory for a band of lines");
    for (int64_t s = 0; s < slots; s++) {
        const float **rows = (const float **)(void *)(j->slots + (size_t)s * j->slot_bytes);
        const float *held = (const float *)(const void *)((const char *)rows + b->rows_bytes);
        for (int64_t k = 0; k < j->segments; k++)
            for (int64_t i = 0; i < pixels; i++)
                *rows++ = held + i / w->out[2] * w->stride[1] * line + (i % w->out[2] * w->stride[2] - w->before[2]) * j->channels +
                          j->offsets[k];
    }
    return OD_OK;
}

typedef struct few_run {
    conv_few few;
    int64_t band, bands; /* output lines of a chunk; chunks of an item */
} few_run;

static void run_few_chunk(void *arg, int64_t chunk, int slot)
{
    const few_run *r = arg;
    const eng_gemm *end = &r->few.j->end;
    const eng_window *w = &r->few.j->win;
    const int64_t item = chunk / r->bands, y = chunk % r->bands * r->band;
    if (y < w->out[1])
        eng_conv_few_lines(&r->few, slot, item, y, od_min_i64(r->band, w->out[1] - y), end->c + (item * w->out[1] + y) * w->out[2] * end->ldc,
                           end->ldc);
}

static od_code run_few(eng_ctx *c, conv_job *j, od_status *st)
{
    few_run r;
    OD_TRY(eng_conv_few_start(c, j, &r.few, st));
    r.bands = od_ceil_div(j->win.out[1], r.few.band);
    r.bands += r.bands > 1 && r.bands % 2; /* so that two threads have a half each */
    r.band = od_ceil_div(j->win.out[1], r.bands);
    od_pool_for(c->pool, c->in[0]->dims[0] * r.bands, run_few_chunk, &r);
    return OD_OK;
}

static od_code run_direct(eng_ctx *c, conv_job *j, od_status *st)
{
    const eng_window *w = &j->win;
    if (eng_conv_in_place(j)) {
        eng_gemm g = eng_conv_product(j);
        eng_gemm_parallel(&g, c->scratch, c->pool);
        return OD_OK;
    }
    j->few = is_few(&j->form, j->channels);
    if (j->few) {
        conv_padding pad;
        const bool moves = c->in[0]->layout == ENG_ROW || plan_padding(j, 0, 1, j->channels, &pad);
        if (moves && eng_conv_few(c->node->params, c->in[0])) return run_few(c, j, st);
        OD_TRY(pad_input(c, j, 0, 1, j->channels, st));
        OD_TRY(place_few(c, j, st));
    } else {
        crop_window(j);
        j->segments = w->size[0] * w->size[1] * w->size[2];
        j->length = inputs_of(&j->form);
    }
    cut_blocks(j, od_pool_slots(c->pool));
    j->zeros = od_arena_array(c->scratch, float, od_max_i64(j->length, j->channels));
    j->slots = od_arena_alloc(c->scratch, j->slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!j->zeros || !j->slots) return od_fail(st, OD_NO_MEMORY, "no memory for a block of pixels");
    if (!j->few) OD_TRY(place_taps(c, j, st));
    if (j->form.taps == 1 && groups_of(&j->form) == 1) return run_points(c, j, st);
    od_pool_for(c->pool, j->blocks * groups_of(&j->form) * j->splits, run_block, j);
    return OD_OK;
}

/* ---- depthwise ----------------------------------------------------------------------------- */

eng_depthwise eng_conv_depthwise(const conv_job *j)
{
    const eng_window *w = &j->win;
    eng_depthwise d = {.x = j->x, .x_pitch = j->x_pitch, .channels = j->form.out, .w = j->packed, .zeros = j->zeros,
                       .last = j->pixels / w->out[2], .to = j->form.out, .end = j->end};
    for (int i = 0; i < 3; i++) {
        d.in[i] = w->in[i], d.out[i] = w->out[i], d.size[i] = w->size[i];
        d.stride[i] = w->stride[i], d.dilation[i] = w->dilation[i], d.before[i] = w->before[i];
    }
    return d;
}

static void run_band(void *arg, int64_t chunk, int slot)
{
    const conv_job *j = arg;
    int64_t band = chunk / j->parts, part = chunk % j->parts;
    eng_depthwise d = eng_conv_depthwise(j);
    const int64_t rows = d.last;
    (void)slot;
    d.first = od_ceil_div(rows * band, j->bands), d.last = od_ceil_div(rows * (band + 1), j->bands);
    d.from = part * j->part, d.to = od_min_i64((part + 1) * j->part, j->form.out);
    eng_kernels_get()->depthwise_f32(&d);
}

/* The kernel takes one output a channel, and a large window is quicker without padding to look out for: a copy
 * of the input with each channel repeated and its lines padded has both. */
static od_code widen_input(eng_ctx *c, conv_job *j, od_status *st)
{
    enum { WIDE = 8 };
    const eng_window *w = &j->win;
    bool phases = w->stride[2] == 1 && (w->size[2] == 3 || w->size[2] == 5 || w->size[2] == 7); /* the kernel's own way */
    bool wide = w->size[2] >= WIDE || (w->dilation[2] > 1 && !phases);
    int64_t pitch = od_ceil_div(j->form.out, ENG_NR) * ENG_NR + ENG_NR; /* a power of two would share cache sets */
    return pad_input(c, j, wide ? 2 : 3, j->form.out / j->channels, pitch, st);
}

static od_code run_depthwise(eng_ctx *c, conv_job *j, od_status *st)
{
    enum { ROWS = 4, PART = 64 };
    int64_t rows = j->pixels / j->win.out[2], threads = od_pool_slots(c->pool), wanted = threads > 1 ? threads * 4 : 1;
    OD_TRY(widen_input(c, j, st));
    j->zeros = od_arena_array(c->scratch, float, j->form.out + ENG_NR);
    if (!j->zeros) return od_fail(st, OD_NO_MEMORY, "no memory for a pixel of zeros");
    j->bands = od_ceil_div(rows, od_max_i64(od_ceil_div(rows, wanted), od_min_i64(ROWS, rows)));
    j->bands += j->bands > 1 && j->bands % 2; /* so that two threads have a half of the map each, in every operator the same */
    int64_t parts = od_min_i64(od_ceil_div(threads > 1 ? threads * 2 : 1, j->bands), od_ceil_div(j->form.out, PART));
    j->part = od_ceil_div(od_ceil_div(j->form.out, parts), ENG_NR) * ENG_NR;
    j->parts = od_ceil_div(j->form.out, j->part);
    od_pool_for(c->pool, j->bands * j->parts, run_band, j);
    return OD_OK;
}

static od_code run_winograd(eng_ctx *c, const conv_job *j, od_status *st)
{
    const int64_t inputs = inputs_of(&j->form), n = outputs_of(&j->form);
    const eng_window *win = &j->win;
    eng_winograd w = {.window = j->form.winograd, .x = j->x, .x_pitch = j->x_pitch, .items = c->in[0]->dims[0] * win->in[0],
                      .height = win->in[1], .width = win->in[2], .channels = inputs, .top = win->before[1], .left = win->before[2],
                      .out_height = win->out[1], .out_width = win->out[2], .out = n, .weights = j->packed, .end = j->end};
    if (win->size[0] > 1) { /* FIRST_ALONE */
        w.items = c->in[0]->dims[0];
        w.height = win->in[0], w.width = win->in[1] * win->in[2];
        w.top = win->before[0], w.left = 0;
        w.out_height = win->out[0], w.out_width = win->out[1] * win->out[2];
    }
    for (int64_t g = 0; g < groups_of(&j->form); g++) {
        od_arena_mark mark = od_arena_save(c->scratch);
        OD_TRY(eng_winograd_run(&w, c->pool, c->scratch, st));
        od_arena_rewind(c->scratch, mark);
        w.x += inputs;
        w.weights += eng_winograd_floats(&w.window, inputs, n);
        w.end.c += n;
        if (w.end.bias) w.end.bias += n;
        if (w.end.add) w.end.add += n;
    }
    return OD_OK;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static void set_end(const eng_ctx *c, conv_job *j)
{
    const eng_epilogue *f = &c->node->fused;
    const eng_tensor *y = c->out[0], *add = f->residual ? c->in[f->residual_in] : NULL;
    j->end = (eng_gemm){.m = j->pixels, .n = j->form.out, .c = y->data, .ldc = y->pitch, .act = f->act, .alpha = f->alpha,
                        .beta = f->beta, .residual = f->residual, .bias = c->n_in > 2 && c->in[2] ? c->in[2]->data : NULL};
    if (add) {
        j->end.add = add->data;
        j->end.ld_add = add->pitch;
    }
}

od_code eng_conv_setup(eng_ctx *c, conv_job *j, od_status *st)
{
    const conv_params *p = c->node->params;
    const eng_tensor *x = c->in[0], *w = c->in[1], *y = c->out[0];
    *j = (conv_job){.form = p->packed ? p->form : form_of(w, p->group), .win = p->window, .x = x->data, .x_pitch = x->pitch,
                    .channels = x->dims[1], .packed = p->packed};
    OD_TRY(eng_window_fit(&j->win, x, w->dims + 2, st));
    j->pixels = y->dims[1] ? eng_tensor_count(y) / y->dims[1] : 0;
    set_end(c, j);
    return OD_OK;
}

static od_code run_float(eng_ctx *c, od_status *st)
{
    const eng_tensor *w = c->in[1];
    conv_job j;
    if (c->ahead) return c->ahead->node->op->run == eng_mul_run ? eng_conv_scaled_run(c, st) : eng_conv_chain_run(c, st);
    OD_TRY(eng_conv_setup(c, &j, st));
    if (!j.pixels) return OD_OK;
    if (!j.packed) {
        size_t bytes = (size_t)packed_floats(&j.form) * sizeof(float);
        float *to = j.form.merged > 1 ? od_arena_zalloc(c->scratch, bytes) : od_arena_alloc(c->scratch, bytes);
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to pack weights");
        pack_direct(w->data, &j.form, to, c->pool);
        j.packed = to;
    }
    if (j.form.winograd.form) return run_winograd(c, &j, st);
    return j.form.merged ? run_direct(c, &j, st) : run_depthwise(c, &j, st);
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
