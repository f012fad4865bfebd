/* elementwise.h - one walk over tensors that broadcast to a shape, for every elementwise operator.
 *
 * A walk orders the axes as they lie in memory of its first tensor (the output), whatever layouts
 * and pitches the others have, merges axes that every tensor crosses in one stride, and hands out
 * rows: runs along the innermost merged axis. Tensors of one shape thus give a single row, a scalar
 * operand a step of 0, a vector along the last axis one row per repetition. */
#ifndef ENG_OPS_ELEMENTWISE_H
#define ENG_OPS_ELEMENTWISE_H

#include "engine/op.h"

enum { ENG_WALK_MAX = 13 };

typedef struct eng_walk {
    int n, rank; /* tensors; merged axes, at least 1 */
    int64_t dims[ENG_MAX_RANK];
    char *data[ENG_WALK_MAX];
    size_t size[ENG_WALK_MAX];                     /* bytes of one element */
    int64_t stride[ENG_WALK_MAX][ENG_MAX_RANK];    /* in elements */
} eng_walk;

/* `n` elements from p[k] on for each tensor k, `step[k]` elements apart. */
typedef void eng_row_fn(void *arg, int64_t n, char *const *p, const int64_t *step);

/* A walk over t[0 .. n-1], each of which must broadcast to t[0]. Writes through t[0] only if the row
 * function does. */
void eng_walk_init(eng_walk *w, int n, const eng_tensor *const *t);

/* Call `fn` for every element once, in parallel when there is enough to do. `cost` is the work of
 * one element, 1 being an addition of floats. Cuts depend on the shapes only. */
void eng_walk_run(const eng_walk *w, od_pool *pool, int64_t cost, eng_row_fn *fn, void *arg);

/* Blocks of this many elements lie in the nearest cache, a few at a time. */
enum { ENG_BLOCK = 2048 };

/* The same in blocks of up to ENG_BLOCK elements across axes: every tensor is dense over a block or one element
 * (step 1 or 0); what is neither goes through a buffer. p[w->n] is `extra` bytes for the row function. `memory` has
 * eng_walk_memory bytes for each thread of the pool. */
void eng_walk_blocks(const eng_walk *w, od_pool *pool, int64_t cost, size_t extra, void *memory, eng_row_fn *fn, void *arg);
size_t eng_walk_memory(const eng_walk *w, size_t extra);

/* eng_walk_run for what an operator's run does; c->rows, where given, gets the row function instead (it holds until
 * the operator's run returns): so a Chain learns what its steps do to a row. */
void eng_walk_go(eng_ctx *c, const eng_walk *w, int64_t cost, eng_row_fn *fn, void *arg);
typedef struct eng_rows {
    void (*take)(struct eng_rows *to, int64_t cost, eng_row_fn *fn, void *arg);
} eng_rows;

/* Both for the output and the first `n_in` inputs of `c`; nothing happens when nobody reads the
 * output. The inputs must be present. */
void eng_walk_ctx(eng_ctx *c, int n_in, int64_t cost, eng_row_fn *fn, void *arg);

/* The row function of a type, as families list them; NULL in `fn`: the type is not there. */
typedef struct eng_typed_row {
    eng_dtype dtype;
    eng_row_fn *fn;
} eng_typed_row;

/* The one for `dtype`, or OD_BAD_TYPE. */
od_code eng_row_for(const eng_typed_row *rows, int count, eng_dtype dtype, eng_row_fn **out, od_status *st);

/* A float row of one input and one output. */
typedef void eng_f32_row(float *to, const float *from, int64_t n);

/* Run `fn` over a float input and output of any steps: rows that are not dense go through a buffer.
 * `arg` of the walk points to an eng_f32_row *. */
eng_row_fn eng_row_f32;

/* `n` elements of a numeric type, `step` apart, as doubles; and back: integers are truncated as
 * hardware does. float, double and integers only; the half types never reach rows. */
void eng_load_doubles(double *to, const char *from, eng_dtype type, int64_t step, int64_t n);
void eng_store_doubles(char *to, const double *from, eng_dtype type, int64_t step, int64_t n);

/* `d` without its fraction; the lowest number where it does not fit. */
int64_t eng_truncate(double d);

/* Run a function of one double over any numeric type. `arg` of the walk points to this. */
typedef struct eng_double_fn {
    double (*fn)(double x, double alpha, double beta);
    double alpha, beta;
    eng_dtype from, to;
} eng_double_fn;
eng_row_fn eng_row_double;

/* DynamicQuantizeLinear's scale and zero point of `n` floats. */
float eng_dynamic_scale(const float *x, int64_t n, od_pool *pool, uint8_t *zero);

/* X(type, ENG_TYPE, unsigned type to compute in without overflow being undefined, widest type of the
 * same sign, its letter) */
#define ENG_FOR_INTS(X)                          \
    X(int8_t, ENG_INT8, uint32_t, int64_t, s)    \
    X(int16_t, ENG_INT16, uint32_t, int64_t, s)  \
    X(int32_t, ENG_INT32, uint32_t, int64_t, s)  \
    X(int64_t, ENG_INT64, uint64_t, int64_t, s)  \
    X(uint8_t, ENG_UINT8, uint32_t, uint64_t, u) \
    X(uint16_t, ENG_UINT16, uint32_t, uint64_t, u) \
    X(uint32_t, ENG_UINT32, uint32_t, uint64_t, u) \
    X(uint64_t, ENG_UINT64, uint64_t, uint64_t, u)

/* ---- shared between families --------------------------------------------------------------- */

/* Input 1 of a two-input operator as NumPy would broadcast it: operators of opset 1 to 6 that line B
 * up with an inner axis of A get ones behind B's extents. */
od_code eng_aligned_b(const eng_ctx *c, eng_tensor *view, od_status *st);

/* Output 0 is the broadcast of inputs 0 and 1, aligned as above, of type `dtype`; both inputs must be
 * there and of one type. */
od_code eng_infer_pair(eng_ctx *c, eng_dtype dtype, od_status *st);

/* The walk over output, input 0 and aligned input 1. */
od_code eng_walk_pair(eng_ctx *c, int64_t cost, eng_row_fn *fn, void *arg, od_status *st);

#endif
