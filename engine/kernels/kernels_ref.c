/* kernels_ref.c - what every variant must compute, in plain C. */
#include "engine/kernels/kernels.h"

#include <math.h>

static float act(eng_act a, float alpha, float beta, float x)
{
    switch (a) {
    case ENG_ACT_RELU: return x > 0.0f || isnan(x) ? x : 0.0f;
    case ENG_ACT_CLIP: return x < alpha ? alpha : x > beta ? beta : x;
    case ENG_ACT_LEAKY_RELU: return x < 0.0f ? alpha * x : x;
    case ENG_ACT_SIGMOID: return 1.0f / (1.0f + expf(-x));
    case ENG_ACT_SILU: return x / (1.0f + expf(-alpha * x));
    case ENG_ACT_HARD_SIGMOID: return fminf(1.0f, fmaxf(0.0f, alpha * x + beta));
    case ENG_ACT_HARD_SWISH: return x * fminf(1.0f, fmaxf(0.0f, x / 6.0f + 0.5f));
    case ENG_ACT_GELU_ERF: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case ENG_ACT_GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case ENG_ACT_TANH: return tanhf(x);
    case ENG_ACT_MISH: return x * tanhf(x > 20.0f ? x : log1pf(expf(x)));
    case ENG_ACT_ELU: return x < 0.0f ? alpha * expm1f(x) : x;
    case ENG_ACT_SOFTPLUS: return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
    default: return x;
    }
}

static void gemm(const eng_gemm *g)
{
    int64_t k = g->segments * g->length;
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            const float *b = g->b + j / ENG_NR * ENG_NR * k + j % ENG_NR;
            float sum = g->bias ? g->bias[j] : 0.0f;
            for (int64_t s = 0; s < g->segments; s++) {
                const float *a = g->rows ? g->rows[s * (g->ld_rows ? g->ld_rows : g->m) + i] : g->a + i * g->lda;
                for (int64_t x = 0; x < g->length; x++, b += ENG_NR) sum += a[x] * *b;
            }
            float add = g->residual ? g->add[i * g->ld_add + j] : 0.0f;
            if (g->residual == ENG_RES_BEFORE_ACT) sum += add;
            sum = act(g->act, g->alpha, g->beta, sum);
            if (g->residual == ENG_RES_AFTER_ACT) sum += add;
            g->c[i * g->ldc + j] = sum;
        }
    }
}

static void depthwise(const eng_depthwise *d)
{
    for (int64_t p = 0; p < d->pixels; p++) {
        for (int64_t c = 0; c < d->channels; c++) {
            float sum = d->bias ? d->bias[c] : 0.0f;
            for (int64_t t = 0; t < d->n_taps; t++) sum += d->taps[t * d->pixels + p][c] * d->w[t * d->channels + c];
            float add = d->residual ? d->add[p * d->ld_add + c] : 0.0f;
            if (d->residual == ENG_RES_BEFORE_ACT) sum += add;
            sum = act(d->act, d->alpha, d->beta, sum);
            if (d->residual == ENG_RES_AFTER_ACT) sum += add;
            d->c[p * d->ldc + c] = sum;
        }
    }
}

static void act_row(eng_act a, float alpha, float beta, const float *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = act(a, alpha, beta, x[i]);
}

#define ROW(NAME, F)                                            \
    static void NAME(const float *x, float *y, int64_t n)       \
    {                                                           \
        for (int64_t i = 0; i < n; i++) y[i] = F(x[i]);         \
    }
ROW(exp_row, expf)
ROW(log_row, logf)
ROW(tanh_row, tanhf)
ROW(erf_row, erff)

static float largest(const float *x, int64_t n)
{
    float m = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > m || isnan(x[i])) m = x[i];
    return m;
}

static void softmax_row(const float *x, float *y, int64_t n)
{
    float m = largest(x, n);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)(y[i] = expf(x[i] - m));
    for (int64_t i = 0; i < n; i++) y[i] = (float)((double)y[i] / sum);
}

static void logsoftmax_row(const float *x, float *y, int64_t n)
{
    float m = largest(x, n);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += exp((double)(x[i] - m));
    float shift = (float)log(sum);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] - m - shift;
}

static void layernorm_row(const float *x, const float *scale, const float *bias, float eps, float *y, int64_t n)
{
    double mean = 0.0, var = 0.0;
    for (int64_t i = 0; i < n; i++) mean += (double)x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean);
    double inv = 1.0 / sqrt(var / (double)n + (double)eps);
    for (int64_t i = 0; i < n; i++) {
        float v = (float)(((double)x[i] - mean) * inv);
        y[i] = v * (scale ? scale[i] : 1.0f) + (bias ? bias[i] : 0.0f);
    }
}

static float sum_row(const float *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
    return (float)sum;
}

const eng_kernels eng_kernels_ref = ENG_KERNELS_TABLE;
