/* shape.h - what operators that only move data share. Everything here works by element size, so on
 * every type, and by strides, so in both layouts. */
#ifndef ENG_OPS_SHAPE_H
#define ENG_OPS_SHAPE_H

#include "engine/kernels/move.h"
#include "engine/ops/ops.h"

/* Input 0 stays in the layout it has and outputs of its rank get the same; other inputs ENG_ROW. */
eng_layout_fn eng_layout_keep;

/* Any layout will do, as only shapes are read. */
eng_layout_fn eng_layout_any;

/* `out`, with its dims and layout, as a view whose logical axes lie `strides` apart: true when its
 * layout can express that; then out->pitch is set. */
bool eng_view_strided(eng_tensor *out, const int64_t *strides);

/* Output k is input 0's bytes with the same dims: Identity and what turns out to be one. */
eng_alias_fn eng_alias_same;

/* out[..] = in[from[d] + step[d] * ..] : the box of `out`'s extents, in any layouts. */
void eng_move_box(const eng_tensor *out, const eng_tensor *in, const int64_t *from, const int64_t *step, od_pool *pool);

/* Attribute `axis` of input 0. */
od_code eng_axis_attr(const eng_ctx *c, int64_t otherwise, int *axis, od_status *st);

/* The integers of input i as positions on an axis of `extent`; negative ones count from the end. Lent by
 * the input or scratch memory. OD_BAD_VALUE: one is out of range. */
od_code eng_indices(const eng_ctx *c, int i, int64_t extent, const int64_t **out, od_status *st);

/* Make one axis of those behind `axis` where `box` has the same extents there as `x`. */
void eng_join_tail(eng_tensor *box, eng_tensor *x, int axis);

/* Rows of `box` are runs along its last axis. From the row at position `at` (first zeros) to the next: what
 * `base`, the place in a tensor of `strides` where `axis` counts as 0, becomes. */
int64_t eng_next_row(const eng_tensor *box, const int64_t *strides, int axis, int64_t *at, int64_t base);

/* Input 1 is tuples of indices into `x` behind `batch` axes: where the slice of each tuple begins, how many
 * there are, and elements of a slice. OD_BAD_VALUE: out of range. */
od_code eng_tuples(const eng_ctx *c, int batch, const eng_tensor *x, int64_t **out, int64_t *count, int64_t *slice,
                   od_status *st);

/* Attribute `perm` for a tensor of `rank`; absent: the axes in reverse. */
od_code eng_perm_attr(const eng_ctx *c, int rank, int *perm, od_status *st);

/* Give `t` the shape that input i asks for, as Reshape reads it. */
od_code eng_reshaped(const eng_ctx *c, int i, eng_tensor *t, od_status *st);

/* Inputs 0 .. n-1 are there; else OD_BAD_MODEL. */
od_code eng_need_inputs(const eng_ctx *c, int n, od_status *st);

/* Fill `n` elements of `size` bytes with the one at `value`; NULL: zeros. */
void eng_fill(void *to, int64_t n, size_t size, const void *value);

#endif
