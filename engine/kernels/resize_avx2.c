/* resize_avx2.c - eight channels at a time; two taps, those of linear interpolation, by themselves. */
#include "engine/kernels/resize_rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

RESIZE_ROWS(blend_narrow, line_narrow, float)
RESIZE_ROWS(blend_f64, line_f64, double)

static void blend_f32(const eng_blend *b)
{
    const float *const *rows = (const float *const *)(const void *)b->rows;
    float *y = b->y;
    int64_t i = 0;
    for (; i + 16 <= b->n; i += 16) {
        __m256 w = _mm256_set1_ps(b->w[0]);
        __m256 v0 = _mm256_mul_ps(w, _mm256_loadu_ps(rows[0] + i)), v1 = _mm256_mul_ps(w, _mm256_loadu_ps(rows[0] + i + 8));
        for (int64_t t = 1; t < b->n_rows; t++) {
            w = _mm256_set1_ps(b->w[t]);
            v0 = _mm256_fmadd_ps(w, _mm256_loadu_ps(rows[t] + i), v0);
            v1 = _mm256_fmadd_ps(w, _mm256_loadu_ps(rows[t] + i + 8), v1);
        }
        _mm256_storeu_ps(y + i, v0);
        _mm256_storeu_ps(y + i + 8, v1);
    }
    for (; i < b->n; i++) {
        float sum = b->w[0] * rows[0][i];
        for (int64_t t = 1; t < b->n_rows; t++) sum += b->w[t] * rows[t][i];
        y[i] = sum;
    }
}

/* The last vector of a pixel overlaps the one before: the same sums once more. */
static void line_two(const eng_resize_line *l)
{
    for (int64_t p = 0; p < l->pixels; p++) {
        const float *a = (const float *)l->x + l->at[2 * p] * l->pitch, *b = (const float *)l->x + l->at[2 * p + 1] * l->pitch;
        const __m256 wa = _mm256_set1_ps(l->w[2 * p]), wb = _mm256_set1_ps(l->w[2 * p + 1]);
        float *y = (float *)l->y + p * l->ldy;
        for (int64_t c = 0; c < l->channels; c += 8) {
            if (c + 8 > l->channels) c = l->channels - 8;
            __m256 v = _mm256_mul_ps(wa, _mm256_loadu_ps(a + c));
            _mm256_storeu_ps(y + c, _mm256_fmadd_ps(wb, _mm256_loadu_ps(b + c), v));
        }
    }
}

/* One channel: nothing to gain from vectors but loops without inner ones. */
static void line_single(const eng_resize_line *l)
{
    const float *x = l->x, *w = l->w;
    const int64_t *at = l->at, step = l->pitch;
    float *y = l->y;
    if (l->taps == 2) {
        for (int64_t p = 0; p < l->pixels; p++) y[p * l->ldy] = w[2 * p] * x[at[2 * p] * step] + w[2 * p + 1] * x[at[2 * p + 1] * step];
        return;
    }
    for (int64_t p = 0; p < l->pixels; p++, at += 4, w += 4)
        y[p * l->ldy] = w[0] * x[at[0] * step] + w[1] * x[at[1] * step] + w[2] * x[at[2] * step] + w[3] * x[at[3] * step];
}

static void line_f32(const eng_resize_line *l)
{
    if (l->channels == 1 && (l->taps == 2 || l->taps == 4)) {
        line_single(l);
        return;
    }
    if (l->channels < 8) {
        line_narrow(l);
        return;
    }
    if (l->taps == 2) {
        line_two(l);
        return;
    }
    const int64_t *at = l->at;
    const float *w = l->w, *x = l->x;
    for (int64_t p = 0; p < l->pixels; p++, at += l->taps, w += l->taps) {
        float *y = (float *)l->y + p * l->ldy;
        for (int64_t c = 0; c < l->channels; c += 8) {
            if (c + 8 > l->channels) c = l->channels - 8;
            __m256 v = _mm256_mul_ps(_mm256_set1_ps(w[0]), _mm256_loadu_ps(x + at[0] * l->pitch + c));
            for (int64_t t = 1; t < l->taps; t++)
                v = _mm256_fmadd_ps(_mm256_set1_ps(w[t]), _mm256_loadu_ps(x + at[t] * l->pitch + c), v);
            _mm256_storeu_ps(y + c, v);
        }
    }
}

const eng_resize_table eng_resize_avx2 = {blend_f32, blend_f64, line_f32, line_f64};
#endif
