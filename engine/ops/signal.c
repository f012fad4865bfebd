/* signal.c - DFT and STFT, window functions, the weights of mel spectra. */
#include "engine/ops/elementwise.h"
#include "engine/ops/fft.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

/* Input `i`, an integer scalar, or `otherwise` when it is omitted. */
static od_code int_in(const eng_ctx *c, int i, const char *what, int64_t otherwise, int64_t *out, od_status *st)
{
    int64_t count;
    *out = otherwise;
    if (i >= c->n_in || !c->in[i]) return OD_OK;
    OD_TRY(eng_ints_in(c, i, 1, out, &count, st));
    return count == 1 ? OD_OK : od_fail(st, OD_BAD_SHAPE, "%s is empty", what);
}

/* ---- DFT and STFT ------------------------------------------------------------------------- */

/* Many transforms of one length. Transform i reads `count` samples of `parts` (1: real) values each from
 * x + from(i), `stride` apart, zeros behind them, and writes `bins` results of `out_parts`. */
typedef struct dft {
    eng_fft fft;
    eng_dtype dtype;
    const char *x, *window; /* window: `count` values, or NULL */
    char *y;
    int64_t length, count, bins; /* of the transform; samples that there are; results */
    int parts, out_parts;
    bool inverse, mirror; /* mirror: the second half of the input follows from the first */
    int64_t outer, inner, frames, frame_step; /* transforms: outer x frames x inner */
    int64_t x_extent, y_extent;               /* of the axis */
    int64_t chunks;
    char *slots;
    size_t slot_bytes;
} dft;

static void load(const dft *d, int64_t outer, int64_t frame, int64_t inner, eng_complex *in, double *tmp)
{
    size_t size = eng_dtype_size(d->dtype);
    int64_t first = ((outer * d->x_extent + frame * d->frame_step) * d->inner + inner) * d->parts;
    const char *x = d->x + (size_t)first * size;
    int64_t step = d->inner * d->parts;
    eng_load_doubles(tmp, x, d->dtype, step, d->count);
    for (int64_t k = 0; k < d->length; k++) in[k] = (eng_complex){k < d->count ? tmp[k] : 0.0, 0.0};
    if (d->parts == 2) {
        eng_load_doubles(tmp, x + size, d->dtype, step, d->count);
        for (int64_t k = 0; k < d->count; k++) in[k].im = tmp[k];
    }
    if (d->mirror) /* what lies beyond the middle is the mirror image, whatever was given there */
        for (int64_t k = d->length / 2 + 1; k < d->length; k++) in[k] = (eng_complex){in[d->length - k].re, -in[d->length - k].im};
    if (!d->window) return;
    eng_load_doubles(tmp, d->window, d->dtype, 1, d->count);
    for (int64_t k = 0; k < d->count; k++) in[k] = (eng_complex){in[k].re * tmp[k], in[k].im * tmp[k]};
}

static void dft_one(const dft *d, int64_t i, char *slot)
{
    eng_complex *in = (eng_complex *)(void *)slot, *out = in + d->length, *work = out + d->length;
    double *tmp = (double *)(void *)(work + d->fft.n_work);
    int64_t inner = i % d->inner, frame = i / d->inner % d->frames, outer = i / d->inner / d->frames;
    load(d, outer, frame, inner, in, tmp);
    if (d->inverse)
        for (int64_t k = 0; k < d->length; k++) in[k] = (eng_complex){in[k].im, in[k].re};
    eng_fft_run(&d->fft, in, out, work);
    double scale = d->inverse ? 1.0 / (double)d->length : 1.0;
    size_t size = eng_dtype_size(d->dtype);
    char *y = d->y + (size_t)(((outer * d->frames + frame) * d->bins * d->inner + inner) * d->out_parts) * size;
    for (int part = 0; part < d->out_parts; part++) {
        for (int64_t k = 0; k < d->bins; k++) tmp[k] = ((part == 1) != d->inverse ? out[k].im : out[k].re) * scale;
        eng_store_doubles(y + (size_t)part * size, tmp, d->dtype, d->inner * d->out_parts, d->bins);
    }
}

static void dft_chunk(void *arg, int64_t chunk, int slot)
{
    const dft *d = arg;
    int64_t n = d->outer * d->frames * d->inner;
    for (int64_t i = n * chunk / d->chunks; i < n * (chunk + 1) / d->chunks; i++)
        dft_one(d, i, d->slots + (size_t)slot * d->slot_bytes);
}

static od_code dft_all(eng_ctx *c, dft *d, od_status *st)
{
    int64_t n = d->outer * d->frames * d->inner;
    if (!n || !d->bins) return OD_OK;
    OD_TRY(eng_fft_init(&d->fft, d->length, c->scratch, st));
    d->slot_bytes = (size_t)(2 * d->length + d->fft.n_work) * sizeof(eng_complex) + (size_t)d->length * sizeof(double);
    d->slot_bytes = (d->slot_bytes + 63) & ~(size_t)63;
    d->slots = od_arena_calloc(c->scratch, (size_t)od_pool_slots(c->pool), d->slot_bytes);
    if (!d->slots) return od_fail(st, OD_NO_MEMORY, "no memory for transforms of length %" PRId64, d->length);
    d->chunks = eng_chunks(n, 1 + 4096 / d->length);
    od_pool_for(c->pool, d->chunks, dft_chunk, d);
    return OD_OK;
}

static od_code parts_of(const eng_tensor *t, int *parts, od_status *st)
{
    int64_t last = t->rank ? t->dims[t->rank - 1] : 0;
    if (t->rank < 2 || last < 1 || last > 2)
        return od_fail(st, OD_BAD_SHAPE, "the last axis has extent %" PRId64 ", wanted 1 (real) or 2 (complex)", last);
    *parts = (int)last;
    return OD_OK;
}

typedef struct dft_sizes {
    int axis, parts;
    int64_t length, bins;
    bool inverse, onesided;
} dft_sizes;

static od_code read_dft(const eng_ctx *c, dft_sizes *s, od_status *st)
{
    int64_t axis;
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    const eng_tensor *x = c->in[0];
    OD_TRY(parts_of(x, &s->parts, st));
    OD_TRY(int_in(c, 2, "axis", -2, &axis, st));
    OD_TRY(eng_axis(axis, x->rank, false, &s->axis, st));
    if (s->axis == x->rank - 1) return od_fail(st, OD_BAD_ARGUMENT, "axis %" PRId64 " holds real and imaginary parts", axis);
    s->inverse = eng_node_int(c->node, "inverse", 0) != 0;
    s->onesided = eng_node_int(c->node, "onesided", 0) != 0;
    bool real_out = s->inverse && s->onesided;
    if (s->onesided && s->parts != 1 + s->inverse)
        return od_fail(st, OD_BAD_SHAPE, "a onesided %s takes %s input", s->inverse ? "inverse" : "transform",
                       s->inverse ? "complex" : "real");
    int64_t extent = x->dims[s->axis];
    OD_TRY(int_in(c, 1, "dft_length", real_out ? od_max_i64(2 * (extent - 1), 0) : extent, &s->length, st));
    if (s->length < 0 || (!s->length && c->n_in > 1 && c->in[1]) || s->length > INT32_MAX)
        return od_fail(st, OD_BAD_VALUE, "dft_length is %" PRId64, s->length);
    s->bins = s->onesided && !s->inverse && s->length ? s->length / 2 + 1 : s->length;
    return OD_OK;
}

od_code eng_dft_infer(eng_ctx *c, od_status *st)
{
    dft_sizes s;
    OD_TRY(read_dft(c, &s, st));
    int64_t dims[ENG_MAX_RANK];
    memcpy(dims, c->in[0]->dims, sizeof dims);
    dims[s.axis] = s.bins;
    dims[c->in[0]->rank - 1] = s.inverse && s.onesided ? 1 : 2;
    return eng_set_out(c, 0, c->in[0]->dtype, c->in[0]->rank, dims, st);
}

od_code eng_dft_run(eng_ctx *c, od_status *st)
{
    dft_sizes s;
    OD_TRY(read_dft(c, &s, st));
    const eng_tensor *x = c->in[0];
    dft d = {.dtype = x->dtype, .x = x->data, .y = c->out[0]->data, .length = s.length, .bins = s.bins, .parts = s.parts,
             .out_parts = s.inverse && s.onesided ? 1 : 2, .inverse = s.inverse, .mirror = s.inverse && s.onesided,
             .outer = 1, .inner = 1, .frames = 1, .x_extent = x->dims[s.axis]};
    d.count = od_min_i64(d.length, d.x_extent);
    for (int i = 0; i < s.axis; i++) d.outer *= x->dims[i];
    for (int i = s.axis + 1; i < x->rank - 1; i++) d.inner *= x->dims[i];
    return dft_all(c, &d, st);
}

/* Until opset 20 the axis was an attribute. */
od_code eng_dft17_import(eng_graph *g, eng_node *n, od_status *st)
{
    if (!eng_node_attr(n, "axis")) OD_TRY(eng_node_set_int(g, n, "axis", 1, st));
    return eng_attr_to_input(g, n, "axis", 2, true, st);
}

typedef struct stft_sizes {
    int parts;
    int64_t length, step, frames, bins;
} stft_sizes;

static od_code read_stft(const eng_ctx *c, stft_sizes *s, od_status *st)
{
    if (c->n_in < 2 || !c->in[0] || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "STFT needs signal and frame_step");
    const eng_tensor *x = c->in[0], *window = c->n_in > 2 ? c->in[2] : NULL;
    if (x->rank != 3) return od_fail(st, OD_BAD_SHAPE, "signal has rank %d, wanted 3", x->rank);
    OD_TRY(parts_of(x, &s->parts, st));
    if (window && (window->rank != 1 || window->dtype != x->dtype))
        return od_fail(st, OD_BAD_SHAPE, "window has rank %d and type %s, wanted 1 and %s", window->rank,
                       eng_dtype_name(window->dtype), eng_dtype_name(x->dtype));
    OD_TRY(int_in(c, 1, "frame_step", 1, &s->step, st));
    OD_TRY(int_in(c, 3, "frame_length", window ? window->dims[0] : x->dims[1], &s->length, st));
    if (s->step < 1) return od_fail(st, OD_BAD_VALUE, "frame_step is %" PRId64, s->step);
    if (s->length < 1 || s->length > x->dims[1])
        return od_fail(st, OD_BAD_VALUE, "frame_length is %" PRId64 ", signal has %" PRId64 " samples", s->length, x->dims[1]);
    if (window && window->dims[0] != s->length)
        return od_fail(st, OD_BAD_SHAPE, "window has %" PRId64 " values, frame_length is %" PRId64, window->dims[0], s->length);
    bool onesided = eng_node_int(c->node, "onesided", 1) != 0;
    if (onesided && s->parts == 2) return od_fail(st, OD_BAD_SHAPE, "a onesided transform takes real input");
    s->frames = (x->dims[1] - s->length) / s->step + 1;
    s->bins = onesided ? s->length / 2 + 1 : s->length;
    return OD_OK;
}

od_code eng_stft_infer(eng_ctx *c, od_status *st)
{
    stft_sizes s;
    OD_TRY(read_stft(c, &s, st));
    return eng_set_out(c, 0, c->in[0]->dtype, 4, (int64_t[]){c->in[0]->dims[0], s.frames, s.bins, 2}, st);
}

od_code eng_stft_run(eng_ctx *c, od_status *st)
{
    stft_sizes s;
    OD_TRY(read_stft(c, &s, st));
    const eng_tensor *x = c->in[0], *window = c->n_in > 2 ? c->in[2] : NULL;
    dft d = {.dtype = x->dtype, .x = x->data, .window = window ? window->data : NULL, .y = c->out[0]->data,
             .length = s.length, .count = s.length, .bins = s.bins, .parts = s.parts, .out_parts = 2, .outer = x->dims[0],
             .inner = 1, .frames = s.frames, .frame_step = s.step, .x_extent = x->dims[1]};
    return dft_all(c, &d, st);
}

/* ---- windows ------------------------------------------------------------------------------ */

static od_code out_type(const eng_ctx *c, eng_dtype *type, od_status *st)
{
    int64_t t = eng_node_int(c->node, "output_datatype", ENG_FLOAT);
    if (t <= 0 || t >= ENG_SEQUENCE || !(ENG_T(t) & ENG_T_NUMERIC))
        return od_fail(st, OD_BAD_ARGUMENT, "output_datatype is %" PRId64, t);
    *type = (eng_dtype)t;
    return OD_OK;
}

od_code eng_cosine_window_infer(eng_ctx *c, od_status *st)
{
    int64_t size;
    eng_dtype type = ENG_FLOAT;
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    OD_TRY(out_type(c, &type, st));
    OD_TRY(int_in(c, 0, "size", 0, &size, st));
    return eng_set_out(c, 0, type, 1, &size, st);
}

/* a[0] - a[1] cos(t) + a[2] cos(2 t), t one turn over the window. */
static od_code cosine_window(eng_ctx *c, const double *a, od_status *st)
{
    const eng_tensor *out = c->out[0];
    int64_t n = out->dims[0];
    bool periodic = eng_node_int(c->node, "periodic", 1) != 0;
    double *w = od_arena_array(c->scratch, double, n);
    if (!w) return od_fail(st, OD_NO_MEMORY, "no memory for a window of %" PRId64, n);
    for (int64_t i = 0; i < n; i++) {
        double t = n == 1 && !periodic ? 0.0 : 2.0 * M_PI * (double)i / (double)(periodic ? n : n - 1);
        w[i] = a[0] - a[1] * cos(t) + a[2] * cos(2.0 * t);
        if (out->dtype != ENG_DOUBLE) w[i] = (double)(float)w[i]; /* a peak of 1 - 1e-16 is 1 to integers too */
    }
    eng_store_doubles(out->data, w, out->dtype, 1, n);
    return OD_OK;
}

od_code eng_hann_window_run(eng_ctx *c, od_status *st)
{
    return cosine_window(c, (const double[]){0.5, 0.5, 0.0}, st);
}

od_code eng_hamming_window_run(eng_ctx *c, od_status *st)
{
    return cosine_window(c, (const double[]){25.0 / 46.0, 21.0 / 46.0, 0.0}, st);
}

od_code eng_blackman_window_run(eng_ctx *c, od_status *st)
{
    return cosine_window(c, (const double[]){0.42, 0.5, 0.08}, st);
}

/* ---- MelWeightMatrix ---------------------------------------------------------------------- */

static od_code read_mel(const eng_ctx *c, int64_t *bands, int64_t *length, int64_t *rate, od_status *st)
{
    for (int i = 0; i < 5; i++)
        if (i >= c->n_in || !c->in[i]) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
    OD_TRY(int_in(c, 0, "num_mel_bins", 0, bands, st));
    OD_TRY(int_in(c, 1, "dft_length", 0, length, st));
    OD_TRY(int_in(c, 2, "sample_rate", 0, rate, st));
    if (*bands < 1 || *length < 1 || *rate < 1 || *length > INT32_MAX || *bands > INT32_MAX)
        return od_fail(st, OD_BAD_VALUE, "num_mel_bins %" PRId64 ", dft_length %" PRId64 ", sample_rate %" PRId64, *bands,
                       *length, *rate);
    for (int i = 3; i < 5; i++)
        if (eng_tensor_count(c->in[i]) != 1 || !(ENG_T(c->in[i]->dtype) & ENG_T_FLOAT))
            return od_fail(st, OD_BAD_SHAPE, "input %d must be one float", i);
    return OD_OK;
}

od_code eng_mel_weights_infer(eng_ctx *c, od_status *st)
{
    int64_t bands, length, rate;
    eng_dtype type = ENG_FLOAT;
    OD_TRY(out_type(c, &type, st));
    OD_TRY(read_mel(c, &bands, &length, &rate, st));
    return eng_set_out(c, 0, type, 2, (int64_t[]){length / 2 + 1, bands}, st);
}

static double mel_of(double hertz)
{
    return 2595.0 * log10(1.0 + hertz / 700.0);
}

od_code eng_mel_weights_run(eng_ctx *c, od_status *st)
{
    int64_t bands, length, rate;
    OD_TRY(read_mel(c, &bands, &length, &rate, st));
    const eng_tensor *out = c->out[0];
    int64_t bins = length / 2 + 1;
    double low = mel_of(eng_tensor_double(c->in[3], 0)), high = mel_of(eng_tensor_double(c->in[4], 0));
    double *w = od_arena_array(c->scratch, double, bins), *at = od_arena_array(c->scratch, double, bands + 2);
    if (!w || !at) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " bands", bands);
    for (int64_t i = 0; i < bands + 2; i++) { /* the spectrum bins where bands begin, peak and end */
        double hertz = 700.0 * (pow(10.0, ((double)i * (high - low) / (double)(bands + 2) + low) / 2595.0) - 1.0);
        at[i] = floor((double)(length + 1) * hertz / (double)rate);
        if (!(at[i] >= 0.0 && at[i] < (double)bins))
            return od_fail(st, OD_BAD_VALUE, "band edge %" PRId64 " lies at bin %g of %" PRId64, i, at[i], bins);
    }
    for (int64_t i = 0; i < bands; i++) {
        int64_t lower = (int64_t)at[i], centre = (int64_t)at[i + 1], upper = (int64_t)at[i + 2];
        memset(w, 0, (size_t)bins * sizeof *w);
        for (int64_t k = lower; k < centre; k++) w[k] = (double)(k - lower) / (double)(centre - lower);
        if (centre >= lower) w[centre] = 1.0;
        for (int64_t k = centre; k < upper; k++) w[k] = (double)(upper - k) / (double)(upper - centre);
        eng_store_doubles((char *)out->data + (size_t)i * eng_dtype_size(out->dtype), w, out->dtype, bands, bins);
    }
    return OD_OK;
}
