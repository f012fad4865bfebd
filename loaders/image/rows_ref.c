#include "loaders/image/rows.h"

static void across(const uint8_t *row, int64_t width, int channels, const ldr_taps *t, int keep, int16_t *to)
{
    (void)width;
    ldr_across_from(0, row, channels, t, keep, to);
}

static void down(const int16_t *const *rows, const int16_t *k, int n, int shift, int64_t count, uint8_t *to)
{
    for (int64_t i = 0; i < count; i++) {
        int32_t sum = 1 << (shift - 1);
        for (int j = 0; j < n; j++) sum += k[j] * rows[j][i];
        sum >>= shift;
        to[i] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

static void down_pair(const int16_t *a, const int16_t *b, int16_t ka, int16_t kb, int64_t count, uint8_t *to)
{
    for (int64_t i = 0; i < count; i++) to[i] = (uint8_t)((((ka * a[i]) >> 16) + ((kb * b[i]) >> 16) + 2) >> 2);
}

static void to_planes(const uint8_t *row, int64_t count, const ldr_levels *l, float *const *planes)
{
    ldr_planes_from(0, row, count, l, planes);
}

static void to_pixels(const uint8_t *row, int64_t count, const ldr_levels *l, float *to)
{
    ldr_pixels_from(0, row, count, l, to);
}

const ldr_rows ldr_rows_ref = {across, down, down_pair, to_planes, to_pixels};
