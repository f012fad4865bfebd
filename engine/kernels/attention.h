/* attention.h - softmax(scale q k^T + mask) v for one block of rows of one head at a time.
 * The scores of a block stay in the cache and are never stored whole. K and V are packed once a head
 * into panels of 16 columns. Everything is float; strides count elements. Any thread. */
#ifndef ENG_KERNELS_ATTENTION_H
#define ENG_KERNELS_ATTENTION_H

#include "engine/base/status.h"

enum { ENG_PANEL = 16 }; /* columns of a panel */

typedef struct eng_attention_kernels {
    /* panels[n / 16][k][16] = element (k, n) of a matrix with the given strides; columns from n to the
     * next multiple of 16 become zero. */
    void (*pack)(const float *m, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n, float *panels);
    /* c[m][n rounded up to 16] = a[m][k] times panels, which lie `stride` floats apart; ldc is at least
     * that. Rows of `a` are dense. */
    void (*multiply)(const float *a, int64_t lda, const float *panels, int64_t stride, int64_t m, int64_t n, int64_t k,
                     float *c, int64_t ldc);
    /* row[i] = exp(scale row[i] + mask[i] - largest); gives the sum. mask NULL: none; its stride is 0 or 1.
     * A row of nothing but -inf gives zeros and the sum 0. */
    float (*exp_row)(float *row, int64_t n, float scale, const float *mask, int64_t mask_stride);
} eng_attention_kernels;

/* Chosen once for this processor. */
const eng_attention_kernels *eng_attention_get(void);

extern const eng_attention_kernels eng_attention_ref, eng_attention_avx2;

/* Floats that the panels of a [k, n] matrix take. */
static inline int64_t eng_panel_floats(int64_t k, int64_t n)
{
    return od_ceil_div(n, ENG_PANEL) * ENG_PANEL * k;
}

#endif
