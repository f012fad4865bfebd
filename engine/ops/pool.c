/* pool.c - MaxPool, AveragePool, LpPool over windows of one to three spatial axes.
 * A row of output pixels is one or two calls of a kernel (kernels/pool.h): the taps of a window are
 * pointers that all move by the stride from one pixel to the next, so only where a window hangs over an
 * edge does a new run of pixels begin. Where windows overlap much, the lines of input that a row of
 * output covers are first reduced to one line, and the windows to that. */
#include "engine/kernels/pool.h"
#include "engine/ops/conv.h"
#include "engine/ops/ops.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef enum pool_kind { POOL_MAX, POOL_AVERAGE, POOL_SUM } pool_kind;

/* The taps of one output coordinate of an axis that lie inside the input. */
typedef struct span {
    int64_t first, n; /* input coordinate of the first; how many, a dilation apart */
    int64_t share;    /* what an average divides by */
} span;

/* Output pixels of a row whose windows have the same form. */
typedef struct run {
    int64_t from, n;
} run;

typedef struct pool_job {
    eng_window w;
    pool_kind kind;
    const char *x;
    char *y;
    size_t size; /* of an element */
    int64_t x_pitch, y_pitch, channels, rows, chunks;
    span *spans[3];
    run *runs;
    int64_t n_runs, max_lines, max_taps;
    bool two_steps;
    eng_pool_fn *fn;
    eng_dtype dtype;
    char *slots; /* a line of input and pointers to taps for each thread */
    size_t line_bytes, slot_bytes;
    int64_t *indices; /* MaxPool's second output */
    int64_t indices_pitch;
    bool column_major;
} pool_job;

od_code eng_pool_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    eng_window *w = eng_model_alloc(g, sizeof *w);
    (void)pool;
    if (!w) return od_fail(st, OD_NO_MEMORY, "no memory for a window");
    n->params = w;
    OD_TRY(eng_window_read(n, w, st));
    w->overhang = true;
    if (!w->kernel[2]) return od_fail(st, OD_BAD_MODEL, "kernel_shape is missing");
    return OD_OK;
}

static od_code fit(const eng_ctx *c, eng_window *w, od_status *st)
{
    *w = *(const eng_window *)c->node->params;
    return eng_window_fit(w, c->in[0], w->kernel + 3 - w->given, st);
}

od_code eng_pool_infer(eng_ctx *c, od_status *st)
{
    eng_window w;
    const eng_tensor *x = c->n_in ? c->in[0] : NULL;
    if (!x) return od_fail(st, OD_BAD_MODEL, "the input is missing");
    OD_TRY(fit(c, &w, st));
    int64_t dims[ENG_MAX_RANK] = {x->dims[0], x->dims[1]};
    for (int i = 2; i < x->rank; i++) dims[i] = w.out[i - 2 + 5 - x->rank];
    OD_TRY(eng_set_out(c, 0, x->dtype, x->rank, dims, st));
    return eng_set_out(c, 1, ENG_INT64, x->rank, dims, st);
}

/* ---- the form of windows --------------------------------------------------------------------- */

static void span_at(const eng_window *w, int axis, int64_t out, bool count_pads, span *s)
{
    int64_t d = w->dilation[axis], start = out * w->stride[axis] - w->before[axis];
    int64_t from = start < 0 ? od_ceil_div(-start, d) : 0;
    int64_t to = od_min_i64(w->size[axis], start < w->in[axis] ? od_ceil_div(w->in[axis] - start, d) : 0);
    int64_t end = w->in[axis] + w->after[axis]; /* of the padding */
    s->first = start + from * d;
    s->n = od_max_i64(0, to - from);
    s->share = count_pads ? od_min_i64(w->size[axis], start < end ? od_ceil_div(end - start, d) : 0) : s->n;
}

static od_code shape_windows(pool_job *j, od_arena *a, bool count_pads, od_status *st)
{
    const eng_window *w = &j->w;
    int64_t most[3];
    for (int i = 0; i < 3; i++) {
        most[i] = 0;
        if (!(j->spans[i] = od_arena_array(a, span, w->out[i]))) return od_fail(st, OD_NO_MEMORY, "no memory for windows");
        for (int64_t o = 0; o < w->out[i]; o++) {
            span_at(w, i, o, count_pads, &j->spans[i][o]);
            most[i] = od_max_i64(most[i], j->spans[i][o].n);
        }
    }
    if (!(j->runs = od_arena_array(a, run, w->out[2]))) return od_fail(st, OD_NO_MEMORY, "no memory for windows");
    for (int64_t o = 0; o < w->out[2]; o++) {
        const span *s = &j->spans[2][o];
        if (o && s->n == s[-1].n && s->share == s[-1].share && s->first == s[-1].first + w->stride[2])
            j->runs[j->n_runs - 1].n++;
        else
            j->runs[j->n_runs++] = (run){o, 1};
    }
    j->max_lines = od_max_i64(1, most[0] * most[1]);
    j->max_taps = od_max_i64(1, j->max_lines * most[2]);
    j->two_steps = j->max_lines * w->in[2] + most[2] * w->out[2] < j->max_taps * w->out[2];
    return OD_OK;
}

/* ---- a row of output ------------------------------------------------------------------------- */

/* A window without any tap: the lowest number, or a sum of nothing. */
static void fill_empty(const pool_job *j, char *y, int64_t pixels)
{
    for (int64_t p = 0; p < pixels; p++, y += (size_t)j->y_pitch * j->size) {
        if (j->kind != POOL_MAX || j->dtype == ENG_UINT8) memset(y, 0, (size_t)j->channels * j->size);
        else if (j->dtype == ENG_INT8) memset(y, 0x80, (size_t)j->channels);
        else if (j->dtype == ENG_FLOAT) for (int64_t c = 0; c < j->channels; c++) ((float *)(void *)y)[c] = -FLT_MAX;
        else for (int64_t c = 0; c < j->channels; c++) ((double *)(void *)y)[c] = -DBL_MAX;
    }
}

/* Pointers to the lines of input, at coordinate 0, that row `row` of the output reads; their number. */
static int64_t find_lines(const pool_job *j, int64_t row, const char **lines)
{
    const eng_window *w = &j->w;
    const span *h = &j->spans[1][row % w->out[1]], *d = &j->spans[0][row / w->out[1] % w->out[0]];
    int64_t item = row / w->out[1] / w->out[0], n = 0;
    for (int64_t a = 0; a < d->n; a++)
        for (int64_t b = 0; b < h->n; b++) {
            int64_t line = (item * w->in[0] + d->first + a * w->dilation[0]) * w->in[1] + h->first + b * w->dilation[1];
            lines[n++] = j->x + (size_t)(line * w->in[2] * j->x_pitch) * j->size;
        }
    return n;
}

static void pool_row(const pool_job *j, int64_t row, char *slot)
{
    const eng_window *w = &j->w;
    const char **taps = (const char **)(void *)(slot + j->line_bytes), **lines = taps + j->max_taps;
    int64_t n_lines = find_lines(j, row, lines), pitch = j->x_pitch;
    int64_t share = j->spans[1][row % w->out[1]].share * j->spans[0][row / w->out[1] % w->out[0]].share;
    char *y = j->y + (size_t)(row * w->out[2] * j->y_pitch) * j->size;
    if (n_lines > 1 && j->two_steps) {
        bool dense = pitch == j->channels;
        j->fn(&(eng_pool_row){.taps = (const void *const *)lines, .n_taps = n_lines, .pixels = dense ? 1 : w->in[2],
                              .channels = dense ? w->in[2] * pitch : j->channels, .step = pitch, .y = slot,
                              .ldy = j->channels, .scale = 1.0});
        lines[0] = slot;
        n_lines = 1;
        pitch = j->channels;
    }
    for (int64_t r = 0; r < j->n_runs; r++) {
        const span *s = &j->spans[2][j->runs[r].from];
        char *to = y + (size_t)(j->runs[r].from * j->y_pitch) * j->size;
        int64_t n = 0;
        for (int64_t l = 0; l < n_lines; l++)
            for (int64_t k = 0; k < s->n; k++)
                taps[n++] = lines[l] + (size_t)((s->first + k * w->dilation[2]) * pitch) * j->size;
        if (!n) {
            fill_empty(j, to, j->runs[r].n);
            continue;
        }
        double scale = j->kind == POOL_AVERAGE ? 1.0 / (double)(share * s->share) : 1.0;
        j->fn(&(eng_pool_row){.taps = (const void *const *)taps, .n_taps = n, .pixels = j->runs[r].n,
                              .channels = j->channels, .step = w->stride[2] * pitch, .y = to, .ldy = j->y_pitch,
                              .scale = scale});
    }
}

static void run_rows(void *arg, int64_t chunk, int slot)
{
    const pool_job *j = arg;
    int64_t to = (chunk + 1) * j->rows / j->chunks;
    for (int64_t row = chunk * j->rows / j->chunks; row < to; row++)
        pool_row(j, row, j->slots + (size_t)slot * j->slot_bytes);
}

/* ---- where the largest was ------------------------------------------------------------------- */

/* Element number, within its channel, of input coordinates. */
static int64_t index_of(const pool_job *j, const int64_t *at)
{
    const int64_t *in = j->w.in;
    return j->column_major ? (at[2] * in[1] + at[1]) * in[0] + at[0] : (at[0] * in[1] + at[1]) * in[2] + at[2];
}

#define LARGER(name, T)                                                                                        \
    static void name(const pool_job *j, int64_t offset, int64_t index, bool first, char *y, int64_t *indices)  \
    {                                                                                                          \
        const T *x = (const T *)(const void *)j->x + offset;                                                   \
        T *best = (T *)(void *)y;                                                                              \
        for (int64_t c = 0; c < j->channels; c++) {                                                            \
            if (!first && !(x[c] > best[c])) continue;                                                         \
            best[c] = x[c];                                                                                    \
            indices[c] = index;                                                                                \
        }                                                                                                      \
    }
LARGER(larger_f32, float)
LARGER(larger_f64, double)
LARGER(larger_u8, uint8_t)
LARGER(larger_s8, int8_t)

static void larger(const pool_job *j, int64_t offset, int64_t index, bool first, char *y, int64_t *indices)
{
    switch (j->dtype) {
    case ENG_DOUBLE: larger_f64(j, offset, index, first, y, indices); break;
    case ENG_UINT8: larger_u8(j, offset, index, first, y, indices); break;
    case ENG_INT8: larger_s8(j, offset, index, first, y, indices); break;
    default: larger_f32(j, offset, index, first, y, indices);
    }
}

static void indexed_rows(void *arg, int64_t chunk, int slot)
{
    const pool_job *j = arg;
    const eng_window *w = &j->w;
    int64_t area = w->in[0] * w->in[1] * w->in[2], to = (chunk + 1) * j->rows / j->chunks;
    (void)slot;
    for (int64_t pixel = chunk * j->rows / j->chunks * w->out[2]; pixel < to * w->out[2]; pixel++) {
        int64_t row = pixel / w->out[2], item = row / w->out[1] / w->out[0];
        const span *s[3] = {&j->spans[0][row / w->out[1] % w->out[0]], &j->spans[1][row % w->out[1]],
                            &j->spans[2][pixel % w->out[2]]};
        char *y = j->y + (size_t)(pixel * j->y_pitch) * j->size;
        int64_t *indices = j->indices + pixel * j->indices_pitch, taps = s[0]->n * s[1]->n * s[2]->n;
        if (!taps) {
            fill_empty(j, y, 1);
            for (int64_t c = 0; c < j->channels; c++) indices[c] = -1;
            continue;
        }
        for (int64_t t = 0; t < taps; t++) {
            int64_t k[3] = {t / s[2]->n / s[1]->n, t / s[2]->n % s[1]->n, t % s[2]->n}, at[3];
            for (int i = 0; i < 3; i++) at[i] = s[i]->first + k[i] * w->dilation[i];
            int64_t from = ((item * w->in[0] + at[0]) * w->in[1] + at[1]) * w->in[2] + at[2];
            larger(j, from * j->x_pitch, index_of(j, at), !t, y, indices);
        }
        for (int64_t c = 0; c < j->channels; c++) indices[c] += (item * j->channels + c) * area;
    }
}

/* ---- operators ------------------------------------------------------------------------------- */

static eng_pool_fn *kernel_for(pool_kind kind, eng_dtype dtype)
{
    const eng_pool_table *t = eng_pool_get();
    if (kind != POOL_MAX) return dtype == ENG_FLOAT ? t->sum_f32 : dtype == ENG_DOUBLE ? t->sum_f64 : NULL;
    switch (dtype) {
    case ENG_FLOAT: return t->max_f32;
    case ENG_DOUBLE: return t->max_f64;
    case ENG_UINT8: return t->max_u8;
    case ENG_INT8: return t->max_s8;
    default: return NULL;
    }
}

/* An innermost axis along which windows are single pixels is more channels of the axes before it, where
 * pixels lie dense: windows along channels, as a local response normalization is exported, have no others. */
static void fold_lines(pool_job *j)
{
    eng_window *w = &j->w;
    while (w->size[2] == 1 && w->stride[2] == 1 && w->in[2] == w->out[2] && w->size[0] * w->size[1] > 1 &&
           j->x_pitch == j->channels && j->y_pitch == j->channels) {
        j->channels = j->x_pitch = j->y_pitch = j->channels * w->in[2];
        for (int i = 2; i >= 0; i--) {
            w->in[i] = i ? w->in[i - 1] : 1;
            w->out[i] = i ? w->out[i - 1] : 1;
            w->size[i] = i ? w->size[i - 1] : 1;
            w->stride[i] = i ? w->stride[i - 1] : 1;
            w->dilation[i] = i ? w->dilation[i - 1] : 1;
            w->before[i] = i ? w->before[i - 1] : 0;
            w->after[i] = i ? w->after[i - 1] : 0;
        }
    }
}

/* Pool `x`, a tensor like input 0, into output 0. */
static od_code pool_tensor(eng_ctx *c, const eng_tensor *x, pool_kind kind, od_status *st)
{
    enum { GRAIN = 1 << 14 };
    eng_tensor *y = c->out[0], *indices = c->n_out > 1 ? c->out[1] : NULL;
    pool_job j = {.kind = kind, .x = x->data, .y = y->data, .size = eng_dtype_size(x->dtype), .x_pitch = x->pitch,
                  .y_pitch = y->pitch, .channels = x->dims[1], .dtype = x->dtype, .fn = kernel_for(kind, x->dtype)};
    if (!j.fn) return od_fail(st, OD_BAD_TYPE, "the input is %s", eng_dtype_name(x->dtype));
    OD_TRY(fit(c, &j.w, st));
    if (!eng_tensor_count(y)) return OD_OK;
    if (!indices) fold_lines(&j);
    OD_TRY(shape_windows(&j, c->scratch, eng_node_int(c->node, "count_include_pad", 0) != 0, st));
    j.rows = x->dims[0] * j.w.out[0] * j.w.out[1];
    j.chunks = eng_chunks(j.rows, GRAIN / (j.w.out[2] * j.channels * j.max_taps) + 1);
    if (indices) {
        j.indices = indices->data;
        j.indices_pitch = indices->pitch;
        j.column_major = eng_node_int(c->node, "storage_order", 0) != 0;
        od_pool_for(c->pool, j.chunks, indexed_rows, &j);
        return OD_OK;
    }
    size_t line = j.two_steps ? (size_t)(j.w.in[2] * j.channels) * j.size : 0;
    j.line_bytes = (line + 63) & ~(size_t)63;
    j.slot_bytes = (j.line_bytes + (size_t)(j.max_taps + j.max_lines) * sizeof(char *) + 63) & ~(size_t)63;
    j.slots = od_arena_alloc(c->scratch, j.slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!j.slots) return od_fail(st, OD_NO_MEMORY, "no memory for a line of input");
    od_pool_for(c->pool, j.chunks, run_rows, &j);
    return OD_OK;
}

od_code eng_max_pool_run(eng_ctx *c, od_status *st)
{
    return pool_tensor(c, c->in[0], POOL_MAX, st);
}

od_code eng_average_pool_run(eng_ctx *c, od_status *st)
{
    return pool_tensor(c, c->in[0], POOL_AVERAGE, st);
}

/* |x|^p, or with `root` x^(1/p), of n elements. */
static void power_row(eng_dtype dtype, const void *x, void *y, int64_t n, double p, bool root)
{
    for (int64_t i = 0; i < n; i++) {
        double v = dtype == ENG_FLOAT ? (double)((const float *)x)[i] : ((const double *)x)[i];
        v = root ? (p == 2 ? sqrt(v) : p == 1 ? v : pow(v, 1 / p)) : p == 2 ? v * v : p == 1 ? fabs(v) : pow(fabs(v), p);
        if (dtype == ENG_FLOAT) ((float *)y)[i] = (float)v;
        else ((double *)y)[i] = v;
    }
}

double eng_lp_order(const eng_node *n)
{
    const eng_attr *a = eng_node_attr(n, "p"); /* a float up to opset 1 */
    return !a ? 2.0 : a->kind == ENG_ATTR_FLOAT ? (double)a->f : (double)a->i;
}

od_code eng_lp_pool_infer(eng_ctx *c, od_status *st)
{
    double p = eng_lp_order(c->node);
    if (!(p > 0)) return od_fail(st, OD_BAD_ARGUMENT, "p is %g", p);
    return eng_pool_infer(c, st);
}

od_code eng_lp_pool_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    eng_tensor powers = *x, *y = c->out[0];
    double p = eng_lp_order(c->node);
    size_t size = eng_dtype_size(x->dtype);
    if (!(powers.data = od_arena_alloc(c->scratch, eng_tensor_bytes(x) + 1))) return od_fail(st, OD_NO_MEMORY, "no memory for powers");
    int64_t pixels = x->dims[1] ? eng_tensor_count(x) / x->dims[1] : 0, out = y->dims[1] ? eng_tensor_count(y) / y->dims[1] : 0;
    for (int64_t i = 0; i < pixels; i++) {
        size_t at = (size_t)(i * x->pitch) * size;
        power_row(x->dtype, (const char *)x->data + at, (char *)powers.data + at, x->dims[1], p, false);
    }
    OD_TRY(pool_tensor(c, &powers, POOL_SUM, st));
    for (int64_t i = 0; i < out; i++) {
        void *at = (char *)y->data + (size_t)(i * y->pitch) * size;
        power_row(y->dtype, at, at, y->dims[1], p, true);
    }
    return OD_OK;
}
