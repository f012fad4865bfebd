/* attention.h - what softmax(scale q k^T + mask) v needs beside products (kernels.h), a row of scores at a time.
 * Everything is float; strides count elements. Any thread. */
#ifndef ENG_KERNELS_ATTENTION_H
#define ENG_KERNELS_ATTENTION_H

#include "engine/base/status.h"

typedef struct eng_attention_kernels {
    /* Panels of 16 columns, as kernels.h packs them, of a k x n matrix with the given strides. */
    void (*pack)(const float *m, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n, float *panels);
    /* row[i] = exp(scale row[i] + mask[i] + more[i] - largest); gives the sum. mask, more: NULL: none; mask's stride is
     * 0 or 1. A row of nothing but -inf gives zeros and the sum 0; a NaN anywhere makes the sum NaN. */
    float (*exp_row)(float *row, int64_t n, float scale, const float *mask, int64_t mask_stride, const float *more);
    /* y[i][j] = x[i][j] * factor[i] for rows that lie so many floats apart. */
    void (*scale_rows)(const float *x, int64_t x_pitch, const float *factor, int64_t rows, int64_t n, float *y, int64_t y_pitch);
} eng_attention_kernels;

/* Chosen once for this processor. */
const eng_attention_kernels *eng_attention_get(void);

extern const eng_attention_kernels eng_attention_ref, eng_attention_avx2, eng_attention_avx512, eng_attention_neon;

#endif
