/* move.h - copying elements between two arrays that walk the same box with different strides.
 *
 * The one routine under every operator that only moves data: a change of layout, Transpose, Slice,
 * Concat, Tile, pixel shuffles. Axes are given in any order; it drops extents of one, orders the
 * axes by where they are written, merges those that both sides cross in one go, and picks block
 * copies, transposes of squares, or plain loops. */
#ifndef ENG_KERNELS_MOVE_H
#define ENG_KERNELS_MOVE_H

#include "engine/base/threads.h"

enum { ENG_MOVE_RANK = 40 };

typedef struct eng_move {
    void *to;
    const void *from;
    size_t size; /* bytes of an element: 1, 2, 4, 8, 16 or any multiple of those */
    int rank;
    int64_t dims[ENG_MOVE_RANK];
    /* in elements; `to` strides are positive and reach each element once, `from` strides may be 0
     * (repeat) or negative (backwards) */
    int64_t to_stride[ENG_MOVE_RANK], from_stride[ENG_MOVE_RANK];
} eng_move;

/* Add an axis of `extent`. At most ENG_MOVE_RANK. */
static inline void eng_move_axis(eng_move *m, int64_t extent, int64_t to_stride, int64_t from_stride)
{
    m->dims[m->rank] = extent;
    m->to_stride[m->rank] = to_stride;
    m->from_stride[m->rank++] = from_stride;
}

/* Copy. `to` and `from` do not overlap. Parallel where there is enough to move; pool NULL: here. */
void eng_move_run(const eng_move *m, od_pool *pool);

/* memcpy, in parallel where it is large. */
void eng_move_bytes(void *to, const void *from, size_t bytes, od_pool *pool);

#endif
