/* winograd.h - convolution through Winograd's transforms, on channels-last pixels.
 * Of a 3x3 window, an output tile of 4x4 pixels (F4) needs 36 multiplications a channel instead of 144, one of 2x2 (F2) 16
 * instead of 36: windows of 6x6 (4x4) pixels are transformed, each of the 36 (16) coefficients is a matrix
 * product over the channels, and its results are transformed back with the epilogue. The three stages run
 * over blocks of tiles that stay in the second-level cache. F4 takes the points 0, +-1/sqrt(2), +-sqrt(2),
 * whose error is about twice that of the sum itself; with the usual 0, +-1, +-2 it is eight times.
 *
 * Other windows are sums of such: taps are taken three at a time along each axis, every stride-th together, and their
 * products are added up before they are transformed back. Of three taps that only two, or the middle one alone, are there,
 * the coefficients of the point at infinity, and of 0, vanish. An axis of one tap stays as it is. A dilated window is
 * one of neighbouring taps on every dilation-th pixel. */
#ifndef ENG_WINOGRAD_H
#define ENG_WINOGRAD_H

#include "engine/base/arena.h"
#include "engine/kernels/kernels.h"

typedef enum eng_winograd_form { ENG_WINOGRAD_NONE = 0, ENG_WINOGRAD_F2 = 2, ENG_WINOGRAD_F4 = 4 } eng_winograd_form;

/* Rows, columns. Each axis has a stride or a dilation of 1. Numbers of int64_t alone: it is part of a key. */
typedef struct eng_winograd_window {
    int64_t form; /* an eng_winograd_form */
    int64_t size[2], stride[2], dilation[2];
} eng_winograd_window;

enum { ENG_WINOGRAD_TAPS_MAX = 16 }; /* of an axis */

typedef struct eng_winograd {
    eng_winograd_window window;
    const float *x;
    int64_t x_pitch; /* floats from pixel to pixel */
    int64_t items, height, width, channels, top, left; /* input, and its padding in front */
    int64_t out_height, out_width, out;
    /* Where outputs are only some pixels of a map: its extents, and how far apart they are; end.c and end.add are the first
     * one's. Zeros: they are all of it. */
    int64_t map[2], step[2];
    const float *weights; /* of eng_winograd_pack */
    eng_gemm end;         /* c, ldc, bias, add, ld_add and the epilogue; rows are pixels of that map */
} eng_winograd;

/* Which form is cheapest for `times` convolutions, one after the other and with weights each, of maps of this many output
 * pixels, ENG_WINOGRAD_NONE where the direct sum is. window->form is not read. items 0: unknown, taken as 1. */
eng_winograd_form eng_winograd_choose(const eng_winograd_window *window, int64_t times, int64_t items, int64_t out_height,
                                      int64_t out_width, int64_t channels, int64_t out);

/* Floats of packed weights, [part][coefficient][panel][channel][16]. */
int64_t eng_winograd_floats(const eng_winograd_window *window, int64_t channels, int64_t out);

/* Weights [out][channels / merged][rows][columns]: of `merged` groups taken as one, each output reads its own group's
 * channels and has zeros for the others. Or, merged being 1, at any distances: of outputs, channels, rows and columns, the
 * latter two maybe backwards. */
typedef struct eng_winograd_weights {
    const float *w;
    int64_t channels, out, merged;
    int64_t first, count; /* `w` begins with that output, and has so many; count 0: has all. Of one group, first a multiple of ENG_NR */
    int64_t apart[4]; /* zeros: as above */
} eng_winograd_weights;

/* Transform weights, in double. */
void eng_winograd_pack(const eng_winograd_window *window, const eng_winograd_weights *w, float *to, od_pool *pool);

/* OD_NO_MEMORY: `scratch` is full. The bits do not depend on the number of threads. */
od_code eng_winograd_run(const eng_winograd *w, od_pool *pool, od_arena *scratch, od_status *st);

/* ---- the two transforms, a slot of the kernel table each ------------------------------------ */

/* Along an axis: up to three taps, `stride` apart, at `place` in the window of form + 2 elements, which stride * dilation
 * pixels apart; coefficients from .. to-1 do not vanish. */
typedef struct eng_winograd_part {
    int64_t tap, taps, place, from, to;
} eng_winograd_part;

/* Tiles first .. first+tiles-1 in the order items, rows, columns. */
typedef struct eng_winograd_block {
    const eng_winograd *w;
    int64_t first, tiles;
    eng_winograd_part part[2]; /* in: of the taps; out: what coefficients there are */
    const float *zeros;    /* as many as a pixel's channels: what padding reads */
    float *v;              /* transformed windows: v[e * v_plane + tile * v_pitch + channel] */
    int64_t v_plane, v_pitch;
    const float *m;        /* products: m[e * m_plane + tile * m_pitch + column] */
    int64_t m_plane, m_pitch;
    int64_t col, cols;     /* output channels of m */
} eng_winograd_block;

/* Output pixels of a tile along an axis, and coefficients. */
static inline int64_t eng_winograd_outputs(const eng_winograd_window *w, int axis)
{
    return w->size[axis] == 1 ? 1 : w->form;
}

static inline int64_t eng_winograd_side(const eng_winograd_window *w, int axis)
{
    return w->size[axis] == 1 ? 1 : w->form + 2;
}

/* Tiles along both axes. Along one, tiles that begin at the first `phases` pixels, one for each of a dilation, are numbered
 * first, then the next of each. */
typedef struct eng_winograd_grid {
    int64_t phases[2], across[2]; /* across: tiles in all */
} eng_winograd_grid;

static inline eng_winograd_grid eng_winograd_grid_of(const eng_winograd *w)
{
    eng_winograd_grid g;
    const int64_t out[2] = {w->out_height, w->out_width};
    for (int a = 0; a < 2; a++) {
        g.phases[a] = od_min_i64(w->window.dilation[a], out[a]);
        g.across[a] = g.phases[a] * od_ceil_div(od_ceil_div(out[a], w->window.dilation[a]), eng_winograd_outputs(&w->window, a));
    }
    return g;
}

static inline int64_t eng_winograd_tiles(const eng_winograd *w)
{
    const eng_winograd_grid g = eng_winograd_grid_of(w);
    return w->items * g.across[0] * g.across[1];
}

/* First output pixel of tile number `at` along an axis; it may lie outside. */
static inline int64_t eng_winograd_start(const eng_winograd_window *w, const eng_winograd_grid *g, int axis, int64_t at)
{
    const int64_t outputs = eng_winograd_outputs(w, axis), phases = g->phases[axis];
    return phases == 1 ? at * outputs * w->dilation[axis] : at % phases + at / phases * outputs * w->dilation[axis];
}

/* Item, and first output row and column, of a tile. */
static inline void eng_winograd_tile_at(const eng_winograd *w, const eng_winograd_grid *g, int64_t tile, int64_t *item, int64_t *row, int64_t *col)
{
    const int64_t line = tile / g->across[1];
    *item = line / g->across[0];
    *col = eng_winograd_start(&w->window, g, 1, tile - line * g->across[1]);
    *row = eng_winograd_start(&w->window, g, 0, line - *item * g->across[0]);
}

/* The map's pixel that is output pixel (row, col) of an item. */
static inline int64_t eng_winograd_pixel(const eng_winograd *w, int64_t item, int64_t row, int64_t col)
{
    if (!w->step[0]) return (item * w->out_height + row) * w->out_width + col;
    return (item * w->map[0] + row * w->step[0]) * w->map[1] + col * w->step[1];
}

/* How many of a tile's output pixels along an axis, from `start` on, there are. */
static inline int64_t eng_winograd_there(const eng_winograd_window *w, int axis, int64_t start, int64_t out)
{
    return start < out ? od_min_i64(eng_winograd_outputs(w, axis), od_ceil_div(out - start, w->dilation[axis])) : 0;
}

/* The input pixel, which may lie outside, that is element `i` of the window of a tile that begins at `start`. */
static inline int64_t eng_winograd_element(const eng_winograd_window *w, int axis, const eng_winograd_part *p, int64_t start,
                                           int64_t before, int64_t i)
{
    return start * w->stride[axis] - before + p->tap * w->dilation[axis] + (i - p->place) * w->stride[axis] * w->dilation[axis];
}

#endif
