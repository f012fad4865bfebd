/* rows.h - the inner loops of resizing and normalising, by rows. Private to loaders/image.
 *
 * A picture is resized as Pillow does it: each row across, rounded to whole levels, then down over those
 * rows. (The other order gives other levels, by one, in a tenth of the pixels.) Weights are 16-bit whole numbers whose
 * sum is 1 << bits, so that products of pairs add up in 32.
 * Where a filter has negative weights a level that is off by one in between could end as two, so their first
 * direction has weights in two parts, k * 256 + lo.
 * OpenCV's bilinear filter, which nothing widens, comes out bit for bit: its weights have 11 bits, what lies between the
 * directions has 7 of fraction, and sums are cut where the others round.
 * rows_ref.c is the contract; the variants keep it bit for bit, but for the last bit of the floats.
 *
 * Rows of int16 and of results have room for LDR_ROW_SLACK elements behind their last, which may be
 * overwritten; rows of pixels may not be read beyond their end. */
#ifndef LDR_IMAGE_ROWS_H
#define LDR_IMAGE_ROWS_H

#include "loaders/image.h"

enum { LDR_ROW_SLACK = 32 };

/* The weights of one direction: output i is the sum of k[i * n + j] * input[start[i] + j] over j < len[i]. */
typedef struct ldr_taps {
    int64_t count;
    int n;          /* a multiple of 4; weights from len[i] on are zero */
    int bits;
    int32_t *start; /* grows, or stays, with i */
    int32_t *len;
    int16_t *k;
    int16_t *lo;    /* the weights' lower 8 bits, or NULL */
    int pairs;      /* of weights that any output has */
    int16_t *wide, *wide_lo; /* the same for vectors over three channels that make two outputs at once: for outputs i and i + 1,
                                i even, by pairs a b of weights abababab of the first and then of the second; the row
                                of two outputs begins at i * pairs * 8. An odd count has a last output of zeros */
    bool overshoots;         /* there are weights below zero */
    bool cuts;               /* sums are cut instead of rounded: OpenCV's bilinear filter */
} ldr_taps;

/* Levels to numbers: y = x * scale[c] + bias[c], c the channel of the output; `bgr`: the output's channel c
 * is the row's channel 2 - c. */
typedef struct ldr_levels {
    float scale[3], bias[3];
    int channels;
    bool bgr;
} ldr_levels;

typedef struct ldr_rows {
    /* One row of `width` pixels across into t->count pixels. `keep` 0: rounded to 0 .. 255; else rounded to
     * 1 / (1 << keep), with what is out of range kept. */
    void (*across)(const uint8_t *row, int64_t width, int channels, const ldr_taps *t, int keep, int16_t *to);
    /* to[i] = the sum of k[j] * rows[j][i] over j < n, divided by 1 << shift, rounded to 0 .. 255; n is at least 1. */
    void (*down)(const int16_t *const *rows, const int16_t *k, int n, int shift, int64_t count, uint8_t *to);
    /* OpenCV's way down between two rows with 7 bits of fraction, weights of 11 bits. */
    void (*down_pair)(const int16_t *a, const int16_t *b, int16_t ka, int16_t kb, int64_t count, uint8_t *to);
    /* `count` pixels into one row of each plane. Planes have no slack. */
    void (*to_planes)(const uint8_t *row, int64_t count, const ldr_levels *l, float *const *planes);
    /* The same, interleaved. No slack in `to`; `row` has it. */
    void (*to_pixels)(const uint8_t *row, int64_t count, const ldr_levels *l, float *to);
} ldr_rows;

extern const ldr_rows ldr_rows_ref;
#if defined(__x86_64__)
extern const ldr_rows ldr_rows_avx2;
#endif

/* Weights for outputs first .. first + count - 1 of `out`, over `in` inputs; `exact`: in two parts. From `a`;
 * false: no memory. */
bool ldr_taps_make(ldr_taps *t, ldr_filter filter, bool antialias, bool exact, int64_t in, int64_t out, int64_t first,
                   int64_t count, od_arena *a);

/* Between which two inputs output `at` lies as OpenCV finds it, the first of them perhaps -1 and the second `in`:
 * the weight of the second, from 0 to 1. */
float ldr_taps_pair(int64_t in, int64_t out, int64_t at, int64_t *first);

/* Where the sums of `t` begin. */
static inline int32_t ldr_taps_half(const ldr_taps *t, int shift)
{
    return t->cuts ? 0 : 1 << (shift - 1);
}

/* What is left over from a variant's vectors: outputs from `i` on. */
static inline void ldr_across_from(int64_t i, const uint8_t *row, int channels, const ldr_taps *t, int keep, int16_t *to)
{
    int shift = t->bits - keep;
    for (; i < t->count; i++) {
        const int16_t *k = t->k + i * t->n;
        const uint8_t *from = row + (int64_t)t->start[i] * channels;
        for (int c = 0; c < channels; c++) {
            int32_t sum = ldr_taps_half(t, shift);
            for (int j = 0; j < t->len[i]; j++) {
                int weight = t->lo ? k[j] * 256 + t->lo[i * t->n + j] : k[j];
                sum += weight * from[j * channels + c];
            }
            sum >>= shift;
            if (!keep) sum = sum < 0 ? 0 : sum > 255 ? 255 : sum;
            to[i * channels + c] = (int16_t)sum;
        }
    }
}

static inline void ldr_planes_from(int64_t i, const uint8_t *row, int64_t count, const ldr_levels *l, float *const *planes)
{
    for (; i < count; i++)
        for (int c = 0; c < l->channels; c++)
            planes[c][i] = (float)row[i * l->channels + (l->bgr ? 2 - c : c)] * l->scale[c] + l->bias[c];
}

static inline void ldr_pixels_from(int64_t i, const uint8_t *row, int64_t count, const ldr_levels *l, float *to)
{
    for (; i < count; i++)
        for (int c = 0; c < l->channels; c++)
            to[i * l->channels + c] = (float)row[i * l->channels + (l->bgr ? 2 - c : c)] * l->scale[c] + l->bias[c];
}

#endif
