#include "engine/kernels/attention.h"

#include <math.h>

static void pack(const float *m, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n, float *panels)
{
    for (int64_t p = 0; p < n; p += ENG_PANEL)
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < ENG_PANEL; j++)
                *panels++ = p + j < n ? m[i * row_stride + (p + j) * col_stride] : 0.0f;
}

static void multiply(const float *a, int64_t lda, const float *panels, int64_t stride, int64_t m, int64_t n, int64_t k,
                     float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < od_ceil_div(n, ENG_PANEL) * ENG_PANEL; j++) {
            const float *b = panels + j / ENG_PANEL * stride + j % ENG_PANEL;
            float sum = 0.0f;
            for (int64_t x = 0; x < k; x++) sum += a[i * lda + x] * b[x * ENG_PANEL];
            c[i * ldc + j] = sum;
        }
}

static float exp_row(float *row, int64_t n, float scale, const float *mask, int64_t mask_stride)
{
    float largest = -INFINITY, sum = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        row[i] = row[i] * scale + (mask ? mask[i * mask_stride] : 0.0f);
        if (row[i] > largest || isnan(row[i])) largest = row[i];
    }
    for (int64_t i = 0; i < n; i++) {
        row[i] = largest == -INFINITY ? 0.0f : expf(row[i] - largest);
        sum += row[i];
    }
    return sum;
}

const eng_attention_kernels eng_attention_ref = {pack, multiply, exp_row};
