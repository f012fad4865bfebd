/* winograd.h - 3x3 convolution of stride 1 through Winograd's transforms, on channels-last pixels.
 * An output tile of 4x4 pixels (F4) needs 36 multiplications a channel instead of 144, one of 2x2 (F2) 16
 * instead of 36: windows of 6x6 (4x4) pixels are transformed, each of the 36 (16) coefficients is a matrix
 * product over the channels, and its results are transformed back with the epilogue. The three stages run
 * over blocks of tiles that stay in the second-level cache. F4 takes the points 0, +-1/sqrt(2), +-sqrt(2),
 * whose error is about twice that of the sum itself; with the usual 0, +-1, +-2 it is eight times. */
#ifndef ENG_WINOGRAD_H
#define ENG_WINOGRAD_H

#include "engine/base/arena.h"
#include "engine/kernels/kernels.h"

typedef enum eng_winograd_form { ENG_WINOGRAD_NONE = 0, ENG_WINOGRAD_F2 = 2, ENG_WINOGRAD_F4 = 4 } eng_winograd_form;

typedef struct eng_winograd {
    eng_winograd_form form;
    const float *x;
    int64_t x_pitch; /* floats from pixel to pixel */
    int64_t items, height, width, channels, top, left; /* input, and its padding in front */
    int64_t out_height, out_width, out;
    const float *weights; /* of eng_winograd_pack */
    eng_gemm end;         /* c, ldc, bias, add, ld_add and the epilogue; rows are output pixels */
} eng_winograd;

/* Which form is cheapest for maps of this many output pixels, ENG_WINOGRAD_NONE where the direct sum is.
 * items 0: unknown, taken as 1. */
eng_winograd_form eng_winograd_choose(int64_t items, int64_t out_height, int64_t out_width, int64_t channels, int64_t out);

/* Floats of packed weights, [coefficient][panel][channel][16]. */
int64_t eng_winograd_floats(eng_winograd_form form, int64_t channels, int64_t out);

/* Weights [out][channels / merged][3][3]: of `merged` groups taken as one, each output reads its own group's
 * channels and has zeros for the others. */
typedef struct eng_winograd_weights {
    const float *w;
    int64_t channels, out, merged;
} eng_winograd_weights;

/* Transform weights, in double. */
void eng_winograd_pack(eng_winograd_form form, const eng_winograd_weights *w, float *to, od_pool *pool);

/* OD_NO_MEMORY: `scratch` is full. The bits do not depend on the number of threads. */
od_code eng_winograd_run(const eng_winograd *w, od_pool *pool, od_arena *scratch, od_status *st);

/* ---- the two transforms, a slot of the kernel table each ------------------------------------ */

/* Tiles first .. first+tiles-1 in the order items, rows, columns. */
typedef struct eng_winograd_block {
    const eng_winograd *w;
    int64_t first, tiles;
    const float *zeros;    /* as many as a pixel's channels: what padding reads */
    float *v;              /* transformed windows: v[e * v_plane + tile * v_pitch + channel] */
    int64_t v_plane, v_pitch;
    const float *m;        /* products: m[e * m_plane + tile * m_pitch + column] */
    int64_t m_plane, m_pitch;
    int64_t col, cols;     /* output channels of m */
} eng_winograd_block;

static inline int64_t eng_winograd_tiles(const eng_winograd *w)
{
    return w->items * od_ceil_div(w->out_height, w->form) * od_ceil_div(w->out_width, w->form);
}

/* Item, and first output row and column, of a tile. */
static inline void eng_winograd_tile_at(const eng_winograd *w, int64_t tile, int64_t *item, int64_t *row, int64_t *col)
{
    int64_t across = od_ceil_div(w->out_width, w->form), down = od_ceil_div(w->out_height, w->form);
    *col = tile % across * w->form;
    *row = tile / across % down * w->form;
    *item = tile / across / down;
}

#endif
