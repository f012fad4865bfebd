#include "engine/kernels/winograd.h"
#include "engine/base/cpu.h"
#include "engine/kernels/transpose.h"

#include <math.h>
#include <string.h>

static int64_t coefficients(const eng_winograd_window *w)
{
    return eng_winograd_side(w, 0) * eng_winograd_side(w, 1);
}

static int64_t panels_of(int64_t out)
{
    return od_ceil_div(out, ENG_NR);
}

/* ---- parts --------------------------------------------------------------------------------- */

/* Of an axis. */
static int64_t axis_parts(const eng_winograd_window *w, int axis)
{
    int64_t n = 0;
    for (int64_t first = 0; first < od_min_i64(w->stride[axis], w->size[axis]); first++)
        n += od_ceil_div(od_ceil_div(w->size[axis] - first, w->stride[axis]), 3);
    return n;
}

static int64_t parts_of(const eng_winograd_window *w)
{
    return axis_parts(w, 0) * axis_parts(w, 1);
}

static eng_winograd_part axis_part(const eng_winograd_window *w, int axis, int64_t number)
{
    const int64_t side = eng_winograd_side(w, axis), stride = w->stride[axis];
    if (side == 1) return (eng_winograd_part){.taps = 1, .to = 1};
    for (int64_t first = 0;; first++) {
        int64_t taps = od_ceil_div(w->size[axis] - first, stride) - 3 * number;
        if (taps <= 0) {
            number -= od_ceil_div(od_ceil_div(w->size[axis] - first, stride), 3);
            continue;
        }
        return (eng_winograd_part){.tap = first + 3 * number * stride, .taps = od_min_i64(taps, 3), .place = taps == 1,
                                   .from = taps == 1, .to = side - (taps < 3)};
    }
}

static void find_part(const eng_winograd_window *w, int64_t number, eng_winograd_part part[2])
{
    int64_t across = axis_parts(w, 1);
    part[0] = axis_part(w, 0, number / across);
    part[1] = axis_part(w, 1, number % across);
}

static int64_t part_coefficients(const eng_winograd_part part[2])
{
    return (part[0].to - part[0].from) * (part[1].to - part[1].from);
}

/* Coefficients that some part has: the first part of an axis has most taps. */
static void find_all(const eng_winograd_window *w, eng_winograd_part all[2])
{
    find_part(w, 0, all);
}

/* Products of all parts. */
static int64_t products_of(const eng_winograd_window *w)
{
    eng_winograd_part part[2];
    int64_t n = 0;
    for (int64_t p = 0; p < parts_of(w); p++) {
        find_part(w, p, part);
        n += part_coefficients(part);
    }
    return n;
}

int64_t eng_winograd_floats(const eng_winograd_window *w, int64_t channels, int64_t out)
{
    return products_of(w) * panels_of(out) * channels * ENG_NR;
}

/* ---- weights ------------------------------------------------------------------------------- */

typedef struct pack_job {
    const eng_winograd_window *window;
    eng_winograd_weights w;
    float *to;
    double g[6][3]; /* the transform of three taps along an axis */
} pack_job;

static void weight_transform(int64_t form, double g[6][3])
{
    const double f2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
    const double points[5] = {0, sqrt(0.5), -sqrt(0.5), sqrt(2), -sqrt(2)};
    if (form == ENG_WINOGRAD_F2) {
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 3; k++) g[i][k] = f2[i][k];
        return;
    }
    for (int i = 0; i < 5; i++) { /* row i evaluates at a point, divided by the product of its distances */
        double distances = 1;
        for (int j = 0; j < 5; j++)
            if (j != i) distances *= points[i] - points[j];
        g[i][0] = 1 / distances;
        g[i][1] = points[i] / distances;
        g[i][2] = points[i] * points[i] / distances;
    }
    g[5][0] = g[5][1] = 0; /* the point at infinity */
    g[5][2] = 1;
}

enum { GATHERED = 9 * 32 /* taps of some channels at a time */ };
_Static_assert(GATHERED >= ENG_WINOGRAD_TAPS_MAX * ENG_WINOGRAD_TAPS_MAX, "no room for a window");

/* Channels first .. first+n-1 of a panel's outputs as [channel][tap][16]. */
static void gather(const pack_job *p, int64_t panel, int64_t first, int64_t n, float (*to)[ENG_NR])
{
    const eng_winograd_weights *from = &p->w;
    const int64_t taps = p->window->size[0] * p->window->size[1], width = od_min_i64(ENG_NR, from->out - panel * ENG_NR);
    if (width < ENG_NR || from->merged > 1) memset(to, 0, (size_t)(n * taps) * sizeof *to);
    if (from->apart[0]) {
        const int64_t *apart = from->apart, *size = p->window->size;
        for (int64_t c = 0; c < n; c++)
            for (int64_t t = 0; t < taps; t++) {
                const float *w = from->w + panel * ENG_NR * apart[0] + (first + c) * apart[1] + t / size[1] * apart[2] + t % size[1] * apart[3];
                for (int64_t j = 0; j < width; j++) to[c * taps + t][j] = w[j * apart[0]];
            }
        return;
    }
    if (from->merged == 1) {
        const float *w = from->w + ((panel * ENG_NR - from->first) * from->channels + first) * taps;
        eng_transposes_get()->by_log2[2]((char *)to, sizeof *to, (const char *)w, from->channels * taps * (int64_t)sizeof *w, width, n * taps);
        return;
    }
    int64_t inputs = from->channels / from->merged, outputs = from->out / from->merged; /* of a group */
    for (int64_t c = first; c < first + n; c++)
        for (int64_t j = 0; j < width; j++) {
            int64_t out = panel * ENG_NR + j;
            for (int64_t i = 0; i < taps && out / outputs == c / inputs; i++)
                to[(c - first) * taps + i][j] = from->w[(out * inputs + c % inputs) * taps + i];
        }
}

/* A part of the taps of a channel, transformed. Along an axis of one tap that is what the point at infinity makes of the last
 * of three. */
static void pack_part(const pack_job *p, const eng_winograd_part part[2], const float (*taps)[ENG_NR], float *to)
{
    const eng_winograd_window *win = p->window;
    const int64_t plane = panels_of(p->w.out) * p->w.channels * ENG_NR;
    const int side = (int)win->form + 2;
    int64_t place[2], from[2];
    if (win->size[0] * win->size[1] == part[0].taps * part[1].taps && part[0].taps == 3 && part[1].taps == 3) {
        eng_kernels_get()->winograd_weights(side, p->g, taps, to, plane);
        return;
    }
    float three[9][ENG_NR] = {{0}}, all[36][ENG_NR];
    for (int a = 0; a < 2; a++) {
        const bool one = win->size[a] == 1;
        place[a] = one ? 2 : part[a].place;
        from[a] = one ? side - 1 : part[a].from;
    }
    for (int64_t y = 0; y < part[0].taps; y++)
        for (int64_t x = 0; x < part[1].taps; x++)
            memcpy(three[(place[0] + y) * 3 + place[1] + x],
                   taps[(part[0].tap + y * win->stride[0]) * win->size[1] + part[1].tap + x * win->stride[1]], sizeof *three);
    eng_kernels_get()->winograd_weights(side, p->g, (const float (*)[ENG_NR])three, all[0], ENG_NR);
    for (int64_t i = 0; i < part[0].to - part[0].from; i++)
        for (int64_t k = 0; k < part[1].to - part[1].from; k++, to += plane) memcpy(to, all[(from[0] + i) * side + from[1] + k], sizeof *all);
}

/* One panel, counted from the first that is there: sixteen output channels side by side in every step. */
static void pack_panel(void *arg, int64_t panel, int slot)
{
    const pack_job *p = arg;
    const int64_t channels = p->w.channels, taps = p->window->size[0] * p->window->size[1], step = GATHERED / taps;
    float w[GATHERED][ENG_NR];
    (void)slot;
    panel += p->w.first / ENG_NR;
    for (int64_t c = 0; c < channels; c += step) {
        const int64_t n = od_min_i64(step, channels - c);
        float *to = p->to + (panel * channels + c) * ENG_NR;
        gather(p, panel, c, n, w);
        for (int64_t number = 0; number < parts_of(p->window); number++) {
            eng_winograd_part part[2];
            find_part(p->window, number, part);
            for (int64_t i = 0; i < n; i++) pack_part(p, part, (const float (*)[ENG_NR])w + i * taps, to + i * ENG_NR);
            to += part_coefficients(part) * panels_of(p->w.out) * channels * ENG_NR;
        }
    }
}

void eng_winograd_pack(const eng_winograd_window *window, const eng_winograd_weights *w, float *to, od_pool *pool)
{
    pack_job p = {.window = window, .w = *w, .to = to};
    weight_transform(window->form, p.g);
    od_pool_for(pool, panels_of(w->count ? w->count : w->out), pack_panel, &p);
}

/* ---- running ------------------------------------------------------------------------------- */

typedef struct run_job {
    const eng_winograd *w;
    const float *zeros;
    int64_t tiles, blocks;        /* all tiles, and the parts they are cut into, nearly equal */
    int64_t cols, col_blocks;     /* output channels of a part, a multiple of ENG_NR */
    int64_t parts;                /* of the window */
    bool shared;                  /* v holds all tiles, of each part of the window */
    int64_t v_pitch, v_plane, m_plane;
    float *v, *m;                 /* v: one a slot, or one for all when it is shared; m: one a slot */
    int64_t v_floats, m_floats;
} run_job;

static eng_winograd_block block_of(const run_job *r, int64_t block)
{
    int64_t first = r->tiles * block / r->blocks;
    return (eng_winograd_block){.w = r->w, .first = first, .tiles = r->tiles * (block + 1) / r->blocks - first,
                                .zeros = r->zeros, .v_plane = r->v_plane, .v_pitch = r->v_pitch,
                                .m_plane = r->m_plane, .m_pitch = r->cols};
}

/* The products of a block's coefficients with some columns of weights, added up over the parts. */
static void multiply_parts(const run_job *r, eng_winograd_block *b, int64_t col, int64_t cols, float *m)
{
    const eng_winograd *w = r->w;
    const int64_t plane = panels_of(w->out) * w->channels * ENG_NR, across = eng_winograd_side(&w->window, 1);
    const float *weights = w->weights + col * w->channels, *end = weights + eng_winograd_floats(&w->window, w->channels, w->out);
    uint64_t begun = 0;
    for (int64_t p = 0; p < r->parts; p++) {
        find_part(&w->window, p, b->part);
        if (r->shared) b->v = r->v + p * r->v_floats;
        else if (r->parts > 1 || !col) eng_kernels_get()->winograd_in(b);
        for (int64_t i = b->part[0].from; i < b->part[0].to; i++)
            for (int64_t j = b->part[1].from; j < b->part[1].to; j++, weights += plane) {
                const int64_t e = i * across + j;
                eng_gemm g = {.m = b->tiles, .n = cols, .segments = 1, .length = w->channels, .a = b->v + e * b->v_plane,
                              .lda = b->v_pitch, .b = weights, .c = m + e * b->m_plane, .ldc = r->cols};
                if (begun >> e & 1) g.residual = ENG_RES_BEFORE_ACT, g.add = g.c, g.ld_add = g.ldc;
                begun |= UINT64_C(1) << e;
                if (weights + plane < end) g.ahead = weights + plane;
                else if (col + r->cols < panels_of(w->out) * ENG_NR) g.ahead = w->weights + (col + r->cols) * w->channels;
                eng_kernels_get()->gemm_f32(&g);
            }
    }
}

/* A part of the output channels: products, and the way back. b->v is there, or room for it. */
static void multiply(const run_job *r, eng_winograd_block *b, int64_t part, int slot)
{
    const eng_winograd *w = r->w;
    int64_t col = part * r->cols, cols = od_min_i64(r->cols, panels_of(w->out) * ENG_NR - col);
    float *m = r->m + slot * r->m_floats;
    multiply_parts(r, b, col, cols, m);
    find_all(&w->window, b->part);
    b->m = m;
    b->col = col;
    b->cols = od_min_i64(cols, w->out - col);
    eng_kernels_get()->winograd_out(b);
}

static void run_block(void *arg, int64_t chunk, int slot)
{
    const run_job *r = arg;
    eng_winograd_block b = block_of(r, chunk);
    b.v = r->v + slot * r->v_floats;
    for (int64_t part = 0; part < r->col_blocks; part++) multiply(r, &b, part, slot);
}

static void transform_block(void *arg, int64_t chunk, int slot)
{
    const run_job *r = arg;
    eng_winograd_block b = block_of(r, chunk / r->parts);
    (void)slot;
    b.v = r->v + chunk % r->parts * r->v_floats + b.first * b.v_pitch;
    find_part(&r->w->window, chunk % r->parts, b.part);
    eng_kernels_get()->winograd_in(&b);
}

static void multiply_block(void *arg, int64_t chunk, int slot)
{
    const run_job *r = arg;
    eng_winograd_block b = block_of(r, 0);
    b.tiles = r->tiles;
    multiply(r, &b, chunk, slot);
}

static void cut(run_job *r, int64_t threads)
{
    enum { COLS = 128, COLS_LINE = 512, FEWEST = 24, MOST = 128, SHARED_BELOW = 12 };
    const eng_winograd *w = r->w;
    int64_t n = coefficients(&w->window), budget = (int64_t)(od_cpu_cache_sizes().l2 / 8 * 5 / sizeof(float));
    r->tiles = eng_winograd_tiles(w);
    r->parts = parts_of(&w->window);
    r->cols = od_min_i64(panels_of(w->out) * ENG_NR, n > ENG_WINOGRAD_F4 + 2 ? COLS : COLS_LINE);
    r->v_pitch = od_ceil_div(w->channels, ENG_NR) * ENG_NR;
    int64_t most = budget / (n * (r->v_pitch + r->cols));
    most = most < FEWEST ? FEWEST : most > MOST ? MOST : most;
    r->blocks = od_ceil_div(r->tiles, most);
    r->blocks += r->blocks > 1 && r->blocks % 2; /* halves of a map for two threads */
    int64_t tiles = od_ceil_div(r->tiles, r->blocks);
    if (threads > 1 && r->blocks < 2 * threads) {
        if (r->tiles >= 2 * threads * SHARED_BELOW) {
            r->blocks = 2 * threads;
            tiles = od_ceil_div(r->tiles, r->blocks);
        } else { /* few tiles: all windows are transformed first, then the threads share the output channels */
            r->shared = true;
            r->blocks = od_min_i64(r->tiles, threads * 4);
            tiles = r->tiles;
            while (r->cols > 2 * ENG_NR && od_ceil_div(w->out, r->cols) < threads * 3) r->cols -= 2 * ENG_NR;
        }
    }
    r->col_blocks = od_ceil_div(w->out, r->cols);
    r->v_plane = tiles * r->v_pitch + ENG_NR; /* planes a power of two apart would share cache sets */
    r->m_plane = tiles * r->cols + ENG_NR;
    r->v_floats = n * r->v_plane;
    r->m_floats = n * r->m_plane;
}

od_code eng_winograd_run(const eng_winograd *w, od_pool *pool, od_arena *scratch, od_status *st)
{
    int64_t threads = od_pool_slots(pool);
    run_job r = {.w = w};
    if (w->items < 1 || w->out_height < 1 || w->out_width < 1 || w->out < 1) return OD_OK;
    cut(&r, threads);
    r.zeros = od_arena_array(scratch, float, r.v_pitch);
    r.v = od_arena_alloc(scratch, (size_t)(r.v_floats * (r.shared ? r.parts : threads)) * sizeof(float));
    r.m = od_arena_alloc(scratch, (size_t)(r.m_floats * threads) * sizeof(float));
    if (!r.zeros || !r.v || !r.m) return od_fail(st, OD_NO_MEMORY, "no memory for the transforms of a convolution");
    if (r.shared) {
        od_pool_for(pool, r.blocks * r.parts, transform_block, &r);
        od_pool_for(pool, r.col_blocks, multiply_block, &r);
    } else {
        od_pool_for(pool, r.blocks, run_block, &r);
    }
    return OD_OK;
}

/* ---- choosing ------------------------------------------------------------------------------ */

/* Taps along an axis that are on the map, on the average, where padding keeps its extent. Without a dilation direct sums have
 * hardly a tile of rows that lacks one. */
static double taps_on_map(const eng_winograd_window *w, int axis, int64_t out)
{
    double taps = 0.0, extent = (double)od_max_i64(out, 1);
    if (w->dilation[axis] == 1) return (double)w->size[axis];
    for (int64_t k = 0; k < w->size[axis]; k++) {
        double away = fabs((double)k - (double)(w->size[axis] - 1) / 2) * (double)w->dilation[axis];
        if (away < extent) taps += 1.0 - away / extent;
    }
    return taps;
}

/* Cycles at 32 flops each, from measurements: what the products reach of the peak, what a tile's transforms
 * take for each channel; and weights come from the last cache at 10 bytes a cycle, those that no cache keeps from one run
 * to the next at 5.4. `taps` of a window read no padding; `times` are run in turn. */
static double cost(const eng_winograd_window *w, double times, double taps, double pixels, double tiles, double channels, double out)
{
    double weights = 4.0 * channels * out, products, transforms = 0.0;
    if (w->form == ENG_WINOGRAD_NONE) {
        weights *= (double)(w->size[0] * w->size[1]);
        products = 1.06 * 2 * taps * pixels * channels * out / 32;
    } else {
        double n = (double)products_of(w), once = (double)coefficients(w), each = w->form == ENG_WINOGRAD_F4 ? 22.0 / 36 : 6.7 / 16;
        weights *= n;
        products = 1.05 * 2 * n * tiles * channels * out / 32;
        transforms = tiles * (n * channels + once * out) * each + tiles * (n - once) * out * 0.15; /* and sums of parts */
    }
    double memory = weights / (weights * times > 8e6 ? 5.4 : 10);
    return (products > memory ? products : memory) + transforms;
}

eng_winograd_form eng_winograd_choose(const eng_winograd_window *window, int64_t times, int64_t items, int64_t out_height,
                                      int64_t out_width, int64_t channels, int64_t out)
{
    eng_winograd_form best = ENG_WINOGRAD_NONE;
    eng_winograd w = {.window = *window, .items = od_max_i64(items, 1), .out_height = out_height, .out_width = out_width};
    bool line = false;
    for (int a = 0; a < 2; a++) {
        line |= window->size[a] == 1;
        if (window->size[a] > ENG_WINOGRAD_TAPS_MAX || (window->stride[a] > 1 && window->dilation[a] > 1)) return best;
    }
    if (channels < 8 || out < 8 || window->size[0] * window->size[1] < 2) return best;
    double pixels = (double)(w.items * out_height) * (double)out_width, n = (double)(panels_of(out) * ENG_NR), least = 0.0;
    const double taps = taps_on_map(window, 0, out_height) * taps_on_map(window, 1, out_width);
    static const eng_winograd_form forms[] = {ENG_WINOGRAD_NONE, ENG_WINOGRAD_F2, ENG_WINOGRAD_F4};
    for (int i = 0; i < 3; i++) {
        w.window.form = forms[i];
        if (forms[i] == ENG_WINOGRAD_F2 && line) continue; /* there is none along one axis */
        double tiles = i ? (double)eng_winograd_tiles(&w) : 0.0, now = cost(&w.window, (double)times, taps, pixels, tiles, (double)channels, n);
        if (i && now >= least * (best ? 1.0 : 0.9)) continue;
        least = now;
        best = forms[i];
    }
    return best;
}
