/* global_pool.c - GlobalAveragePool, GlobalMaxPool, GlobalLpPool: all pixels of an image to one.
 * Pixels are added in blocks of floats, the blocks in doubles; cuts follow from the shape alone. */
#include "engine/kernels/pool.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 32, LANES = 64, PART = 2048 }; /* pixels of a block; channels of a chunk; pixels of one */

typedef enum global_kind { GLOBAL_AVERAGE, GLOBAL_MAX, GLOBAL_LP } global_kind;

typedef struct global_job {
    global_kind kind;
    eng_dtype dtype;
    size_t size;
    const eng_tensor *x;
    int64_t pixels, parts, strips; /* of one image; parts of its pixels, strips of its channels */
    double p;
    double *partial; /* [image][part][channel] */
} global_job;

od_code eng_global_pool_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL;
    if (!x || x->rank < 3) return od_fail(st, OD_BAD_SHAPE, "an input of rank 3 or more is wanted");
    int64_t dims[ENG_MAX_RANK] = {x->dims[0], x->dims[1]};
    for (int i = 2; i < x->rank; i++) {
        if (!x->dims[i] && x->dims[0] && x->dims[1]) return od_fail(st, OD_BAD_SHAPE, "spatial axis %d is empty", i);
        dims[i] = 1;
    }
    double p = eng_lp_order(c->node);
    if (!(p > 0)) return od_fail(st, OD_BAD_ARGUMENT, "p is %g", p);
    return eng_set_out(c, 0, x->dtype, x->rank, dims, st);
}

static void add_powers(const global_job *j, const char *x, int64_t pixels, int64_t n, double *sums)
{
    for (int64_t i = 0; i < pixels; i++, x += (size_t)j->x->pitch * j->size)
        for (int64_t c = 0; c < n; c++) {
            double v = fabs(j->dtype == ENG_FLOAT ? (double)((const float *)(const void *)x)[c] : ((const double *)(const void *)x)[c]);
            sums[c] += j->p == 2 ? v * v : j->p == 1 ? v : pow(v, j->p);
        }
}

static void reduce_block(const global_job *j, const char *x, int64_t pixels, int64_t n, bool first, double *out)
{
    const eng_pool_table *t = eng_pool_get();
    const void *taps[BLOCK];
    union {
        float f[LANES];
        double d[LANES];
    } y;
    for (int64_t i = 0; i < pixels; i++) taps[i] = x + (size_t)(i * j->x->pitch) * j->size;
    eng_pool_row row = {.taps = taps, .n_taps = pixels, .pixels = 1, .channels = n, .y = &y, .ldy = n, .scale = 1.0};
    bool max = j->kind == GLOBAL_MAX;
    if (j->dtype == ENG_FLOAT) (max ? t->max_f32 : t->sum_f32)(&row);
    else (max ? t->max_f64 : t->sum_f64)(&row);
    for (int64_t c = 0; c < n; c++) {
        double v = j->dtype == ENG_FLOAT ? (double)y.f[c] : y.d[c];
        if (!max) out[c] += v;
        else if (first || v > out[c]) out[c] = v;
    }
}

static void run_part(void *arg, int64_t chunk, int slot)
{
    const global_job *j = arg;
    (void)slot;
    int64_t strip = chunk % j->strips * LANES, part = chunk / j->strips % j->parts, image = chunk / j->strips / j->parts;
    int64_t from = part * j->pixels / j->parts, to = (part + 1) * j->pixels / j->parts;
    int64_t channels = j->x->dims[1], n = od_min_i64(LANES, channels - strip);
    double *out = j->partial + (image * j->parts + part) * channels + strip;
    for (int64_t at = from; at < to; at += BLOCK) {
        const char *x = (const char *)j->x->data + (size_t)((image * j->pixels + at) * j->x->pitch + strip) * j->size;
        if (j->kind == GLOBAL_LP) add_powers(j, x, od_min_i64(BLOCK, to - at), n, out);
        else reduce_block(j, x, od_min_i64(BLOCK, to - at), n, at == from, out);
    }
}

/* Bring the parts together in their order. */
static void finish(const global_job *j, const eng_tensor *y)
{
    int64_t channels = y->dims[1];
    for (int64_t i = 0; i < y->dims[0] * channels; i++) {
        int64_t image = i / channels, channel = i % channels;
        const double *from = j->partial + image * j->parts * channels + channel;
        double v = *from;
        for (int64_t k = 1; k < j->parts; k++) {
            double w = from[k * channels];
            if (j->kind != GLOBAL_MAX) v += w;
            else if (w > v) v = w;
        }
        if (j->kind == GLOBAL_AVERAGE) v /= (double)j->pixels;
        if (j->kind == GLOBAL_LP) v = j->p == 2 ? sqrt(v) : j->p == 1 ? v : pow(v, 1 / j->p);
        int64_t to = image * y->pitch + channel;
        if (j->dtype == ENG_FLOAT) ((float *)y->data)[to] = (float)v;
        else ((double *)y->data)[to] = v;
    }
}

static od_code run(eng_ctx *c, global_kind kind, od_status *st)
{
    const eng_tensor *x = c->in[0];
    global_job j = {.kind = kind, .dtype = x->dtype, .size = eng_dtype_size(x->dtype), .x = x, .pixels = 1, .p = eng_lp_order(c->node)};
    if (!eng_tensor_count(x)) return OD_OK;
    for (int i = 2; i < x->rank; i++) j.pixels *= x->dims[i];
    j.parts = od_min_i64(od_ceil_div(j.pixels, PART), 32);
    j.strips = od_ceil_div(x->dims[1], LANES);
    j.partial = od_arena_array(c->scratch, double, x->dims[0] * j.parts * x->dims[1]);
    if (!j.partial) return od_fail(st, OD_NO_MEMORY, "no memory for partial results");
    bool small = eng_tensor_count(x) < 1 << 14;
    od_pool_for(small ? NULL : c->pool, x->dims[0] * j.parts * j.strips, run_part, &j);
    finish(&j, c->out[0]);
    return OD_OK;
}

od_code eng_global_average_pool_run(eng_ctx *c, od_status *st)
{
    return run(c, GLOBAL_AVERAGE, st);
}

od_code eng_global_max_pool_run(eng_ctx *c, od_status *st)
{
    return run(c, GLOBAL_MAX, st);
}

od_code eng_global_lp_pool_run(eng_ctx *c, od_status *st)
{
    return run(c, GLOBAL_LP, st);
}
