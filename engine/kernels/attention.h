/* attention.h - what softmax(scale q k^T + mask) v needs beside products (kernels.h), a row of scores at a time.
 * Everything is float; strides count elements. Any thread. */
#ifndef ENG_KERNELS_ATTENTION_H
#define ENG_KERNELS_ATTENTION_H

#include "engine/base/status.h"

/* Rows of scores, n floats each. */
typedef struct eng_scores {
    float *row;
    int64_t pitch, rows, n;
    float scale;
    const float *mask, *more; /* added; NULL: none */
    int64_t mask_row, more_row;
} eng_scores;

typedef struct eng_attention_kernels {
    /* Panels of 16 columns, as kernels.h packs them, of a k x n matrix with the given strides. */
    void (*pack)(const float *m, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n, float *panels);
    /* row[i] = exp(scale row[i] + mask[i] + more[i] - largest); gives the sum. mask, more: NULL: none; mask's stride is
     * 0 or 1. A row of nothing but -inf gives zeros and the sum 0; a NaN anywhere makes the sum NaN. */
    float (*exp_row)(float *row, int64_t n, float scale, const float *mask, int64_t mask_stride, const float *more);
    /* exp_row of each row, several rows at a time. factors[i] = 1 / the sum (of 0: infinity); it has room for a multiple of ENG_NR of them. */
    void (*weigh_rows)(const eng_scores *s, float *factors);
    /* to[i * to_pitch] = the product of x[i], n floats, and y. */
    void (*dots)(const float *x, int64_t x_pitch, int64_t rows, const float *y, int64_t n, float *to, int64_t to_pitch);
    /* y[i][j] = x[i][j] * factor[i] for rows that lie so many floats apart. */
    void (*scale_rows)(const float *x, int64_t x_pitch, const float *factor, int64_t rows, int64_t n, float *y, int64_t y_pitch);
} eng_attention_kernels;

/* Chosen once for this processor. */
const eng_attention_kernels *eng_attention_get(void);

extern const eng_attention_kernels eng_attention_ref, eng_attention_avx2, eng_attention_avx512, eng_attention_neon;

#endif
