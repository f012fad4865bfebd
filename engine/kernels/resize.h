/* resize.h - weighted sums along one axis of a tensor: whole lines, or the pixels of a line.
 * Works on the calling thread, allocates nothing. Output and input must not overlap. */
#ifndef ENG_KERNELS_RESIZE_H
#define ENG_KERNELS_RESIZE_H

#include "engine/base/status.h"

/* y[i] = sum over t of w[t] * rows[t][i], i below n; at least one row. */
typedef struct eng_blend {
    const void *const *rows;
    const float *w;
    int64_t n_rows, n;
    void *y;
} eng_blend;

/* y[p * ldy + c] = sum over t of w[p * taps + t] * x[at[p * taps + t] * pitch + c]. */
typedef struct eng_resize_line {
    const void *x;
    const int64_t *at;
    const float *w;
    int64_t taps, pixels, channels, pitch;
    void *y;
    int64_t ldy;
} eng_resize_line;

typedef struct eng_resize_table {
    void (*blend_f32)(const eng_blend *b);
    void (*blend_f64)(const eng_blend *b);
    void (*line_f32)(const eng_resize_line *l);
    void (*line_f64)(const eng_resize_line *l);
} eng_resize_table;

/* The best table for this processor; chosen once. Any thread. */
const eng_resize_table *eng_resize_get(void);

extern const eng_resize_table eng_resize_ref;
#if defined(__x86_64__)
extern const eng_resize_table eng_resize_avx2;
#endif

#endif
