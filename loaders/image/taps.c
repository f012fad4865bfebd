/* taps.c - the weights of the resizing filters: Pillow's, and OpenCV's where nothing is widened. */
#include "loaders/image/rows.h"

#include <math.h>

static double sinc(double x)
{
    return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x);
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys' cubic; a is -0.5 in Pillow and -0.75 in OpenCV. */
static double cubic(double x, double a)
{
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double lanczos(double x, double lobes)
{
    return fabs(x) < lobes ? sinc(x) * sinc(x / lobes) : 0;
}

static double widened(ldr_filter f, double x)
{
    switch (f) {
    case LDR_BOX: return x > -0.5 && x <= 0.5 ? 1 : 0;
    case LDR_BILINEAR: return bilinear(x);
    case LDR_BICUBIC: return cubic(x, -0.5);
    default: return lanczos(x, 3);
    }
}

float ldr_taps_pair(int64_t in, int64_t out, int64_t at, int64_t *first)
{
    double scale = 1 / ((double)out / (double)in);
    float x = (float)(((double)at + 0.5) * scale - 0.5), whole = floorf(x);
    *first = (int64_t)whole;
    return x - whole;
}

static double plain(ldr_filter f, double x)
{
    return f == LDR_BICUBIC ? cubic(x, -0.75) : lanczos(x, 4);
}

/* Half the width of each filter, in inputs (or, widened, in outputs). */
static double support_of(ldr_filter f, bool antialias)
{
    switch (f) {
    case LDR_BOX: return 0.5;
    case LDR_BILINEAR: return 1;
    case LDR_BICUBIC: return 2;
    default: return antialias ? 3 : 4;
    }
}

typedef struct window {
    int64_t start;
    int len;
} window;

/* The weights of output `at` into w (room enough for any of this direction). */
static window weigh(ldr_filter f, bool antialias, int64_t in, int64_t out, int64_t at, double *w)
{
    double scale = (double)in / (double)out, centre = ((double)at + 0.5) * scale;
    if (antialias) {
        double widen = fmax(scale, 1), support = support_of(f, true) * widen;
        int64_t lo = od_max_i64((int64_t)(centre - support + 0.5), 0), hi = od_min_i64((int64_t)(centre + support + 0.5), in);
        for (int64_t i = lo; i < hi; i++) w[i - lo] = widened(f, ((double)i - centre + 0.5) / widen);
        return (window){lo, (int)(hi - lo)};
    }
    if (f == LDR_BOX) { /* what the output's area covers of each input */
        double from = (double)at * scale, to = from + scale;
        int64_t lo = od_min_i64((int64_t)(from + 1e-9), in - 1), hi = od_min_i64((int64_t)ceil(to - 1e-9), in);
        if (hi <= lo) hi = lo + 1;
        for (int64_t i = lo; i < hi; i++) w[i - lo] = fmax(fmin(to, (double)i + 1) - fmax(from, (double)i), 1e-9);
        return (window){lo, (int)(hi - lo)};
    }
    if (f == LDR_BILINEAR) {
        int64_t first;
        float second = ldr_taps_pair(in, out, at, &first);
        bool edge = first < 0 || first >= in - 1;
        w[0] = edge ? 1 : (double)(1 - second);
        w[1] = (double)second;
        return (window){od_max_i64(od_min_i64(first, in - 1), 0), edge ? 1 : 2};
    }
    /* Taps around the centre; those beyond the edge count for the edge. */
    int reach = (int)support_of(f, false);
    int64_t first = (int64_t)floor(centre - 0.5) - reach + 1;
    int64_t lo = od_min_i64(od_max_i64(first, 0), in - 1), hi = od_max_i64(od_min_i64(first + 2 * reach, in), lo + 1);
    for (int64_t i = lo; i < hi; i++) w[i - lo] = 0;
    for (int64_t i = first; i < first + 2 * reach; i++)
        w[od_max_i64(od_min_i64(i, hi - 1), lo) - lo] += plain(f, (double)i + 0.5 - centre);
    return (window){lo, (int)(hi - lo)};
}

/* To whole numbers whose sum is exactly 1 << bits. What rounding leaves over goes to the largest weight, or
 * where it is more than a few, as for long filters of small weights, one by one from the first on. The largest. */
static int32_t quantize(const double *w, int len, double sum, int bits, int32_t *k)
{
    int32_t left = 1 << bits;
    int largest = 0;
    for (int j = 0; j < len; j++) {
        k[j] = (int32_t)lrint(w[j] / sum * (double)(1 << bits));
        left -= k[j];
        if (k[j] > k[largest]) largest = j;
    }
    if (left >= -4 && left <= 4) {
        k[largest] += left;
        return k[largest];
    }
    for (int j = 0, step = left > 0 ? 1 : -1; left; j = (j + 1) % len, left -= step) k[j] += step;
    return k[largest];
}

static double total(const double *w, int len)
{
    double sum = 0;
    for (int j = 0; j < len; j++) sum += w[j];
    return sum;
}

/* Pairs of weights four times each, two outputs side by side: see rows.h. */
static int16_t *widen(const ldr_taps *t, const int16_t *k, od_arena *a)
{
    size_t rows = (size_t)(t->count + 1) / 2, pairs = (size_t)t->pairs;
    int16_t *wide = od_arena_calloc(a, rows * pairs, 16 * sizeof *wide);
    for (int64_t i = 0; wide && i < t->count; i++)
        for (int p = 0; p < t->pairs; p++) {
            int16_t *to = wide + ((i / 2 * t->pairs + p) * 2 + i % 2) * 8;
            for (int c = 0; c < 8; c++) to[c] = k[i * t->n + 2 * p + c % 2];
        }
    return wide;
}

/* How many pairs the longest output has. */
static int most_pairs(const ldr_taps *t)
{
    int most = 1;
    for (int64_t i = 0; i < t->count; i++) most = t->len[i] > most ? t->len[i] : most;
    return (most + 1) / 2;
}

/* One tap each: the input under the output's centre as Pillow finds it, step by step, or under its corner. */
static bool nearest(ldr_taps *t, bool antialias, int64_t in, double scale, int64_t first, od_arena *a)
{
    t->n = 4;
    t->bits = 14;
    if (!(t->k = od_arena_zalloc(a, (size_t)t->count * 4 * sizeof *t->k))) return false;
    double at = scale * 0.5;
    for (int64_t i = 0; i < first + t->count; i++, at += scale) {
        if (i < first) continue;
        t->start[i - first] = (int32_t)od_min_i64((int64_t)(antialias ? at : (double)i * scale), in - 1);
        t->len[i - first] = 1;
        t->k[(i - first) * 4] = 1 << 14;
    }
    t->pairs = 1;
    return (t->wide = widen(t, t->k, a)) != NULL;
}

bool ldr_taps_make(ldr_taps *t, ldr_filter filter, bool antialias, bool exact, int64_t in, int64_t out, int64_t first,
                   int64_t count, od_arena *a)
{
    enum { BITS = 20, EXACT_BITS = 22, OPENCV_BITS = 11 };
    double scale = (double)in / (double)out;
    double reach = support_of(filter, antialias) * (antialias || filter == LDR_BOX ? fmax(scale, 1) : 1);
    double taps = ceil(2 * reach) + 1;
    *t = (ldr_taps){.count = count, .n = (int)(od_ceil_div((int64_t)taps, 4) * 4)};
    double *w = od_arena_array(a, double, t->n);
    int32_t *whole = od_arena_array(a, int32_t, t->n);
    t->start = od_arena_array(a, int32_t, count);
    t->len = od_arena_array(a, int32_t, count);
    if (filter == LDR_NEAREST) /* OpenCV's factor is one over that of enlarging */
        return t->start && t->len && nearest(t, antialias, in, antialias ? scale : 1 / ((double)out / (double)in), first, a);
    size_t weights = (size_t)count * (size_t)t->n;
    t->k = od_arena_calloc(a, weights, sizeof *t->k);
    if (exact && !(t->lo = od_arena_calloc(a, weights, sizeof *t->lo))) return false;
    if (!w || !whole || !t->start || !t->len || !t->k) return false;
    t->cuts = filter == LDR_BILINEAR && !antialias;
    t->bits = exact ? EXACT_BITS : t->cuts ? OPENCV_BITS : BITS;
    for (int64_t i = 0; i < count; i++) {
        window win = weigh(filter, antialias, in, out, first + i, w);
        int32_t largest = quantize(w, win.len, total(w, win.len), t->bits, whole);
        if (!exact && largest > INT16_MAX) { /* too fine for 16 bits: begin again */
            t->bits--;
            i = -1;
            continue;
        }
        for (int j = 0; j < t->n; j++) {
            int32_t weight = j < win.len ? whole[j] : 0;
            t->overshoots = t->overshoots || weight < 0;
            t->k[i * t->n + j] = (int16_t)(exact ? weight >> 8 : weight);
            if (exact) t->lo[i * t->n + j] = weight & 255;
        }
        t->start[i] = (int32_t)win.start;
        t->len[i] = win.len;
    }
    t->pairs = most_pairs(t);
    t->wide = widen(t, t->k, a);
    t->wide_lo = exact ? widen(t, t->lo, a) : NULL;
    return t->wide && (!exact || t->wide_lo);
}
