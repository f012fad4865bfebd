#include "engine/kernels/reduce.h"

#include <math.h>

static double start(eng_red kind)
{
    return kind == ENG_RED_MAX ? -(double)INFINITY : kind == ENG_RED_MIN ? (double)INFINITY : 0.0;
}

static double step(eng_red kind, double acc, double x)
{
    switch (kind) {
    case ENG_RED_SUM: return acc + x;
    case ENG_RED_SQUARE: return acc + x * x;
    case ENG_RED_ABS: return acc + fabs(x);
    case ENG_RED_MAX: return x > acc || isnan(x) ? x : acc;
    default: return x < acc || isnan(x) ? x : acc;
    }
}

static float row(eng_red kind, const float *x, int64_t n, float shift)
{
    double acc = start(kind);
    for (int64_t i = 0; i < n; i++) acc = step(kind, acc, (double)(x[i] - shift));
    return (float)acc;
}

static void columns(eng_red kind, const float *x, int64_t stride, int64_t rows, int64_t width, const float *shift, float *acc)
{
    for (int64_t k = 0; k < width; k++) {
        double sum = start(kind);
        for (int64_t i = 0; i < rows; i++) sum = step(kind, sum, (double)(x[i * stride + k] - (shift ? shift[k] : 0.0f)));
        acc[k] = (float)sum;
    }
}

static void affine(const float *x, int64_t x_stride, float *y, int64_t y_stride, int64_t rows, int64_t width,
                   const float *scale, const float *bias, int64_t s)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < width; k++) y[i * y_stride + k] = x[i * x_stride + k] * scale[k * s] + bias[k * s];
}

static void normal(const float *x, float mean, float inverse, const float *scale, const float *bias, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * inverse;
        y[i] = v * (scale ? scale[i] : 1.0f) + (bias ? bias[i] : 0.0f);
    }
}

const eng_reduce_kernels eng_reduce_ref = {row, columns, affine, normal};
