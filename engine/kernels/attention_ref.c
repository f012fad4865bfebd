#include "engine/kernels/attention.h"
#include "engine/kernels/kernels.h"

#include <math.h>

static float exp_row(float *row, int64_t n, float scale, const float *mask, int64_t mask_stride, const float *more)
{
    float largest = -INFINITY, sum = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        row[i] = row[i] * scale + ((mask ? mask[i * mask_stride] : 0.0f) + (more ? more[i] : 0.0f));
        if (row[i] > largest || isnan(row[i])) largest = row[i];
    }
    for (int64_t i = 0; i < n; i++) {
        row[i] = largest == -INFINITY ? 0.0f : expf(row[i] - largest);
        sum += row[i];
    }
    return sum;
}

static void weigh_rows(const eng_scores *s, float *factors)
{
    for (int64_t i = 0; i < s->rows; i++)
        factors[i] = 1.0f / exp_row(s->row + i * s->pitch, s->n, s->scale, s->mask ? s->mask + i * s->mask_row : NULL, 1,
                                    s->more ? s->more + i * s->more_row : NULL);
}

static void dots(const float *x, int64_t x_pitch, int64_t rows, const float *y, int64_t n, float *to, int64_t to_pitch)
{
    for (int64_t i = 0; i < rows; i++) {
        float sum = 0.0f;
        for (int64_t k = 0; k < n; k++) sum += x[i * x_pitch + k] * y[k];
        to[i * to_pitch] = sum;
    }
}

static void scale_rows(const float *x, int64_t x_pitch, const float *factor, int64_t rows, int64_t n, float *y, int64_t y_pitch)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) y[i * y_pitch + j] = x[i * x_pitch + j] * factor[i];
}

const eng_attention_kernels eng_attention_ref = {eng_gemm_pack, exp_row, weigh_rows, dots, scale_rows};
