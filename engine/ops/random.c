/* random.c - RandomNormal, RandomUniform and their Like forms, Bernoulli, Multinomial, Dropout that trains.
 *
 * Number i of a stream is a hash of the stream's key and i, so streams need no state, may be cut
 * among threads, and repeat for a given `seed`. Without one each run draws a fresh key. */
#include "engine/kernels/half.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include "engine/base/cpu.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

static uint64_t mix(uint64_t x) /* SplitMix64's finalizer */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static double uniform(uint64_t key, uint64_t i) /* [0, 1) */
{
    return (double)(mix(key + (i + 1) * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
}

static double normal(uint64_t key, uint64_t i) /* Box and Muller's, the cosine half */
{
    double u = 1 - uniform(key, 2 * i); /* (0, 1] */
    return sqrt(-2 * log(u)) * cos(2 * M_PI * uniform(key, 2 * i + 1));
}

static uint64_t key_of(const eng_ctx *c)
{
    static _Atomic uint64_t runs;
    const eng_attr *seed = eng_node_attr(c->node, "seed");
    if (seed) {
        uint32_t bits;
        memcpy(&bits, &seed->f, sizeof bits);
        return mix(seed->kind == ENG_ATTR_INT ? (uint64_t)seed->i : bits); /* Dropout's is an integer */
    }
    return mix((uint64_t)od_now_ns() + mix(atomic_fetch_add(&runs, 1)));
}

/* ---- distributions ---------------------------------------------------------------------------- */

typedef double draw_fn(uint64_t key, uint64_t i, double a, double b);

typedef struct draw_job {
    draw_fn *draw;
    uint64_t key;
    double a, b;
    eng_tensor *out;
    int64_t n, chunks;
} draw_job;

static double draw_uniform(uint64_t key, uint64_t i, double low, double high)
{
    return low + (high - low) * uniform(key, i);
}

static double draw_normal(uint64_t key, uint64_t i, double mean, double scale)
{
    return mean + scale * normal(key, i);
}

static void store(eng_tensor *t, int64_t i, double v)
{
    switch (t->dtype) {
    case ENG_FLOAT: ((float *)t->data)[i] = (float)v; break;
    case ENG_FLOAT16:
    case ENG_BFLOAT16: ((uint16_t *)t->data)[i] = (uint16_t)eng_small_float(v, t->dtype, false, ENG_E8_UP); break;
    case ENG_FLOAT8E4M3FN:
    case ENG_FLOAT8E4M3FNUZ:
    case ENG_FLOAT8E5M2:
    case ENG_FLOAT8E5M2FNUZ: ((uint8_t *)t->data)[i] = (uint8_t)eng_small_float(v, t->dtype, true, ENG_E8_UP); break;
    case ENG_BOOL: ((uint8_t *)t->data)[i] = v != 0; break;
    default: eng_store_doubles((char *)t->data + (size_t)i * eng_dtype_size(t->dtype), &v, t->dtype, 1, 1);
    }
}

static void draw_chunk(void *arg, int64_t chunk, int slot)
{
    const draw_job *j = arg;
    (void)slot;
    int64_t from = j->n / j->chunks * chunk, to = chunk + 1 == j->chunks ? j->n : j->n / j->chunks * (chunk + 1);
    for (int64_t i = from; i < to; i++) store(j->out, i, j->draw(j->key, (uint64_t)i, j->a, j->b));
}

static od_code draw(eng_ctx *c, draw_fn *fn, double a, double b)
{
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    int64_t n = eng_tensor_count(c->out[0]);
    draw_job j = {fn, key_of(c), a, b, c->out[0], n, eng_chunks(n, 2048)};
    od_pool_for(c->pool, j.chunks, draw_chunk, &j);
    return OD_OK;
}

static double attr(const eng_ctx *c, const char *name, float otherwise)
{
    return (double)eng_node_float(c->node, name, otherwise);
}

od_code eng_random_normal_run(eng_ctx *c, od_status *st)
{
    (void)st;
    return draw(c, draw_normal, attr(c, "mean", 0.0f), attr(c, "scale", 1.0f));
}

od_code eng_random_uniform_run(eng_ctx *c, od_status *st)
{
    (void)st;
    return draw(c, draw_uniform, attr(c, "low", 0.0f), attr(c, "high", 1.0f));
}

static od_code type_of(const eng_ctx *c, int64_t otherwise, uint32_t allowed, eng_dtype *out, od_status *st)
{
    int64_t t = eng_node_int(c->node, "dtype", otherwise);
    if (t <= 0 || t >= 32 || !(allowed & ENG_T((unsigned)t)))
        return od_fail(st, OD_BAD_TYPE, "random numbers of type %" PRId64 " (%s)", t,
                       t < 0 || t >= ENG_DTYPES ? "?" : eng_dtype_name((eng_dtype)t));
    *out = (eng_dtype)t;
    return OD_OK;
}

od_code eng_random_infer(eng_ctx *c, od_status *st)
{
    eng_dtype t;
    int64_t rank;
    const int64_t *dims = eng_node_ints(c->node, "shape", &rank);
    OD_TRY(type_of(c, ENG_FLOAT, ENG_T_FLOAT, &t, st));
    if (rank > ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "a shape of rank %" PRId64, rank);
    return eng_set_out(c, 0, t, (int)rank, dims, st);
}

od_code eng_random_like_infer(eng_ctx *c, od_status *st)
{
    eng_dtype t;
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    eng_dtype in = c->in[0]->dtype;
    OD_TRY(type_of(c, ENG_T_FLOAT & ENG_T(in) ? in : ENG_FLOAT, ENG_T_FLOAT, &t, st));
    return eng_set_out(c, 0, t, c->in[0]->rank, c->in[0]->dims, st);
}

/* ---- Bernoulli -------------------------------------------------------------------------------- */

typedef struct coin_job {
    const eng_tensor *p;
    eng_tensor *out;
    uint64_t key;
    int64_t n, chunks;
} coin_job;

static void coin_chunk(void *arg, int64_t chunk, int slot)
{
    const coin_job *j = arg;
    (void)slot;
    int64_t from = j->n / j->chunks * chunk, to = chunk + 1 == j->chunks ? j->n : j->n / j->chunks * (chunk + 1);
    for (int64_t i = from; i < to; i++)
        store(j->out, i, uniform(j->key, (uint64_t)i) < eng_tensor_double(j->p, i) ? 1 : 0);
}

od_code eng_bernoulli_infer(eng_ctx *c, od_status *st)
{
    eng_dtype t;
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    OD_TRY(type_of(c, c->in[0]->dtype, ENG_T_NUMERIC | ENG_T(ENG_BOOL), &t, st));
    return eng_set_out(c, 0, t, c->in[0]->rank, c->in[0]->dims, st);
}

od_code eng_bernoulli_run(eng_ctx *c, od_status *st)
{
    (void)st;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    int64_t n = eng_tensor_count(c->out[0]);
    coin_job j = {c->in[0], c->out[0], key_of(c), n, eng_chunks(n, 4096)};
    od_pool_for(c->pool, j.chunks, coin_chunk, &j);
    return OD_OK;
}

/* ---- Dropout ----------------------------------------------------------------------------------- */

od_code eng_drop_some(eng_ctx *c, double ratio, od_status *st)
{
    const eng_tensor *x = c->in[0], *mask = c->n_out > 1 ? c->out[1] : NULL;
    eng_tensor *y = c->out[0];
    uint64_t key = key_of(c);
    int64_t n = eng_tensor_count(x), run = x->layout == ENG_CL ? x->dims[1] : n, step = x->layout == ENG_CL ? x->pitch : n;
    (void)st;
    for (int64_t i = 0; i < n; i++) {
        bool keep = uniform(key, (uint64_t)i) >= ratio;
        if (mask) store((eng_tensor *)(uintptr_t)mask, i, keep);
        if (y) store(y, i, keep ? eng_tensor_double(x, i / run * step + i % run) / (1 - ratio) : 0);
    }
    return OD_OK;
}

/* ---- Multinomial: rows of unnormalized log-probabilities -------------------------------------- */

od_code eng_multinomial_infer(eng_ctx *c, od_status *st)
{
    eng_dtype t;
    char text[80];
    int64_t samples = eng_node_int(c->node, "sample_size", 1);
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    if (c->in[0]->rank != 2)
        return od_fail(st, OD_BAD_SHAPE, "input 0 is %s: batch and classes are wanted",
                       eng_tensor_text(c->in[0], text, sizeof text));
    if (samples < 0) return od_fail(st, OD_BAD_ARGUMENT, "sample_size %" PRId64, samples);
    if (samples > 0 && c->in[0]->dims[0] > 0 && c->in[0]->dims[1] == 0)
        return od_fail(st, OD_BAD_SHAPE, "nothing to choose from: there are no classes");
    OD_TRY(type_of(c, ENG_INT32, ENG_T(ENG_INT32) | ENG_T(ENG_INT64), &t, st));
    return eng_set_out(c, 0, t, 2, (int64_t[]){c->in[0]->dims[0], samples}, st);
}

/* Running sums of the probabilities of one row. */
static void accumulate(const eng_tensor *t, int64_t row, int64_t classes, double *sums)
{
    double top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < classes; k++) top = fmax(top, eng_tensor_double(t, row * classes + k));
    for (int64_t k = 0; k < classes; k++) {
        double p = exp(eng_tensor_double(t, row * classes + k) - top);
        sum += isnan(p) ? 0 : p;
        sums[k] = sum;
    }
}

/* The first class whose running sum is above `x`. */
static int64_t choose(const double *sums, int64_t classes, double x)
{
    int64_t lo = 0, hi = classes - 1;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (sums[mid] > x) hi = mid;
        else lo = mid + 1;
    }
    return lo;
}

od_code eng_multinomial_run(eng_ctx *c, od_status *st)
{
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    int64_t classes = c->in[0]->dims[1], samples = c->out[0]->dims[1];
    uint64_t key = key_of(c);
    double *sums = od_arena_array(c->scratch, double, classes);
    if (!sums) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " classes", classes);
    for (int64_t row = 0; row < c->in[0]->dims[0] && samples; row++) {
        accumulate(c->in[0], row, classes, sums);
        for (int64_t s = 0; s < samples; s++) {
            int64_t at = row * samples + s;
            int64_t k = choose(sums, classes, uniform(key, (uint64_t)at) * sums[classes - 1]);
            if (c->out[0]->dtype == ENG_INT32) ((int32_t *)c->out[0]->data)[at] = (int32_t)k;
            else ((int64_t *)c->out[0]->data)[at] = k;
        }
    }
    return OD_OK;
}
