#include "engine/ops/resize.h"

#include <math.h>

/* In floats, as everyone computes it: where a coordinate lies halfway decides about the nearest. */
static float source_of(const eng_resize_rule *r, const eng_resize_axis *a, int64_t out)
{
    float x = (float)out, in = (float)a->in;
    switch (r->coord) {
    case ENG_COORD_HALF_PIXEL: return (x + 0.5f) / a->scale - 0.5f;
    case ENG_COORD_HALF_PIXEL_SYMMETRIC: {
        float adjustment = (float)a->out / (a->scale * in), offset = in / 2 * (1 - adjustment);
        return offset + (x + 0.5f) / a->scale - 0.5f;
    }
    case ENG_COORD_PYTORCH_HALF_PIXEL: return a->out > 1 ? (x + 0.5f) / a->scale - 0.5f : 0.0f;
    case ENG_COORD_TF_HALF_PIXEL: return (x + 0.5f) / a->scale;
    case ENG_COORD_ALIGN_CORNERS: return a->out > 1 && a->length > 1 ? x * (in - 1) / (a->length - 1) : 0.0f;
    case ENG_COORD_CROP:
        return a->out > 1 ? a->start * (in - 1) + x * (a->end - a->start) * (in - 1) / (a->length - 1)
                          : 0.5f * (a->start + a->end) * (in - 1);
    default: return x / a->scale;
    }
}

static float nearest(eng_resize_round round, float x, bool shrinks)
{
    const float near = 1e-6f; /* a scale is rounded, so what should lie halfway may miss it a little */
    float down = floorf(x);
    switch (round) {
    case ENG_ROUND_PREFER_FLOOR: return x - down <= 0.5f + near ? down : down + 1;
    case ENG_ROUND_PREFER_CEIL: return x - down >= 0.5f - near ? down + 1 : down;
    case ENG_ROUND_FLOOR: return floorf(x);
    case ENG_ROUND_CEIL: return ceilf(x);
    default: return shrinks ? ceilf(x) : truncf(x);
    }
}

/* The weight of what lies `d` from the centre. */
static double weight(const eng_resize_rule *r, double d)
{
    double a = (double)r->cubic_a;
    d = fabs(d);
    if (r->mode == ENG_RESIZE_LINEAR) return d < 1 ? 1 - d : 0;
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

static int64_t clamp_index(double x, int64_t in)
{
    return !(x > 0) ? 0 : x > (double)(in - 1) ? in - 1 : (int64_t)x; /* NaN reads the edge */
}

/* Taps from floor(x) - taps / 2 + 1 on; those outside read the edge, or count nothing. */
static void place_taps(const eng_resize_rule *r, const eng_resize_axis *a, float x, double stretch, int64_t *at, float *w)
{
    double first = floor((double)x) - (double)(a->taps / 2 - 1), sum = 0;
    bool normalise = r->antialias || r->exclude_outside;
    for (int pass = 0; pass < (normalise ? 2 : 1); pass++)
        for (int64_t t = 0; t < a->taps; t++) {
            double i = first + (double)t, v = weight(r, (i - (double)x) * stretch);
            if (r->exclude_outside && (i < 0 || i > (double)(a->in - 1))) v = 0;
            if (pass) v = sum != 0 ? v / sum : v;
            else sum += v;
            at[t] = clamp_index(i, a->in);
            w[t] = (float)v;
        }
}

od_code eng_resize_taps(const eng_resize_rule *r, eng_resize_axis *a, od_arena *arena, od_status *st)
{
    bool interpolate = a->resized && r->mode != ENG_RESIZE_NEAREST;
    double stretch = r->antialias && a->scale < 1 ? (double)a->scale : 1.0;
    a->taps = 1;
    if (interpolate) a->taps = 2 - 2 * ((int64_t)floor(-(r->mode == ENG_RESIZE_CUBIC ? 2.0 : 1.0) / stretch) + 1);
    int64_t count;
    if (!od_mul_i64(a->out, a->taps, &count) || !(a->at = od_arena_array(arena, int64_t, count)))
        return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " taps", a->taps);
    if (interpolate && !(a->w = od_arena_array(arena, float, count)))
        return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " weights", count);
    if (a->resized && r->coord == ENG_COORD_CROP && !(a->outside = od_arena_array(arena, bool, a->out)))
        return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " pixels", a->out);
    for (int64_t o = 0; o < a->out; o++) {
        float x = a->resized ? source_of(r, a, o) : (float)o;
        if (!a->resized) a->at[o] = o;
        else if (!interpolate) a->at[o] = clamp_index((double)nearest(r->round, x, a->scale < 1), a->in);
        else place_taps(r, a, x, stretch, a->at + o * a->taps, a->w + o * a->taps);
        if (a->outside) a->outside[o] = x < 0 || x > (float)(a->in - 1);
    }
    return OD_OK;
}
