/* reduce.h - sums, extremes and per-channel scaling of rows of floats, for reductions and
 * normalizations. Strides count elements. Orders of addition depend on extents only. Any thread. */
#ifndef ENG_KERNELS_REDUCE_H
#define ENG_KERNELS_REDUCE_H

#include "engine/base/status.h"

typedef enum eng_red {
    ENG_RED_SUM,
    ENG_RED_SQUARE, /* sum of squares */
    ENG_RED_ABS,    /* sum of magnitudes */
    ENG_RED_MAX,    /* NaN wins */
    ENG_RED_MIN,
    ENG_REDS
} eng_red;

typedef struct eng_reduce_kernels {
    /* Of x[i] - shift over a dense row. Nothing gives 0, and the infinity that never wins. */
    float (*row)(eng_red kind, const float *x, int64_t n, float shift);
    /* acc[k] = the same down `rows` rows of `width` floats; shift NULL: zeros. */
    void (*columns)(eng_red kind, const float *x, int64_t stride, int64_t rows, int64_t width, const float *shift, float *acc);
    /* y[i][k] = x[i][k] * scale[k * step] + bias[k * step] for `rows` rows; step 0 or 1; x and y may be the same. */
    void (*affine)(const float *x, int64_t x_stride, float *y, int64_t y_stride, int64_t rows, int64_t width,
                   const float *scale, const float *bias, int64_t step);
    /* y[i] = (x[i] - mean) * inverse * scale[i] + bias[i]; scale and bias may be NULL; x and y may be the same. */
    void (*normal)(const float *x, float mean, float inverse, const float *scale, const float *bias, float *y, int64_t n);
} eng_reduce_kernels;

/* Chosen once for this processor. */
const eng_reduce_kernels *eng_reduce_get(void);

extern const eng_reduce_kernels eng_reduce_ref, eng_reduce_avx2;

#endif
