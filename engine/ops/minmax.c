/* minmax.c - Max, Min, Sum, Mean of any number of tensors that broadcast. NaN wins, as in NumPy.
 * The output is the running result, so every step after the first reads and writes it in place. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <string.h>

#define ROW(name, T, expr)                                                              \
    static void name(void *arg, int64_t n, char *const *p, const int64_t *step)         \
    {                                                                                   \
        T *o = (T *)(void *)p[0];                                                       \
        const T *a = (const T *)(const void *)p[1], *b = (const T *)(const void *)p[2]; \
        (void)arg;                                                                      \
        for (int64_t i = 0; i < n; i++) {                                               \
            T x = a[i * step[1]], y = b[i * step[2]];                                   \
            o[i * step[0]] = (T)(expr);                                                 \
        }                                                                               \
    }
#define INT_ROWS(T, TAG, W, L, S)     \
    ROW(min_##T, T, x < y ? x : y)    \
    ROW(max_##T, T, x > y ? x : y)    \
    ROW(sum_##T, T, (W)x + (W)y)
ENG_FOR_INTS(INT_ROWS)
ROW(min_double, double, (x < y) | (x != x) ? x : y)
ROW(max_double, double, (x > y) | (x != x) ? x : y)
ROW(sum_double, double, x + y)

static void float_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    eng_bin_f32 *fn = *(eng_bin_f32 **)arg;
    fn((float *)(void *)p[0], step[0], (const float *)(const void *)p[1], step[1], (const float *)(const void *)p[2],
       step[2], n);
}

#define MIN_ENTRY(T, TAG, W, L, S) {TAG, min_##T},
#define MAX_ENTRY(T, TAG, W, L, S) {TAG, max_##T},
#define SUM_ENTRY(T, TAG, W, L, S) {TAG, sum_##T},
static const eng_typed_row min_rows[] = {{ENG_FLOAT, float_row}, {ENG_DOUBLE, min_double}, ENG_FOR_INTS(MIN_ENTRY)};
static const eng_typed_row max_rows[] = {{ENG_FLOAT, float_row}, {ENG_DOUBLE, max_double}, ENG_FOR_INTS(MAX_ENTRY)};
static const eng_typed_row sum_rows[] = {{ENG_FLOAT, float_row}, {ENG_DOUBLE, sum_double}, ENG_FOR_INTS(SUM_ENTRY)};

static void copy_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    size_t size = *(const size_t *)arg;
    if (step[0] == 1 && step[1] == 1 && p[0] != p[1]) {
        memcpy(p[0], p[1], (size_t)n * size);
        return;
    }
    for (int64_t i = 0; i < n; i++) /* memmove: an output in place of its input is the same element */
        memmove(p[0] + i * step[0] * (int64_t)size, p[1] + i * step[1] * (int64_t)size, size);
}

/* out = fn(a, b) over the broadcast of both. */
static void combine(eng_ctx *c, const eng_tensor *a, const eng_tensor *b, eng_row_fn *fn, eng_bin_f32 *f32)
{
    eng_walk w;
    eng_walk_init(&w, 3, (const eng_tensor *[]){c->out[0], a, b});
    eng_walk_go(c, &w, 1, fn, &f32);
}

static od_code run(eng_ctx *c, const eng_typed_row *rows, eng_bin kernel, od_status *st)
{
    eng_row_fn *fn;
    eng_bin_f32 *f32 = eng_elementwise_table()->bin[kernel];
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(eng_row_for(rows, (int)OD_COUNT(min_rows), c->in[0]->dtype, &fn, st));
    if (c->n_in == 1) {
        size_t size = eng_dtype_size(c->in[0]->dtype);
        eng_walk_ctx(c, 1, 1, copy_row, &size);
        return OD_OK;
    }
    combine(c, c->in[0], c->in[1], fn, f32);
    for (int i = 2; i < c->n_in; i++) combine(c, c->out[0], c->in[i], fn, f32);
    return OD_OK;
}

od_code eng_variadic_infer(eng_ctx *c, od_status *st)
{
    for (int i = 0; i < c->n_in; i++)
        if (!c->in[i]) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
    OD_TRY(eng_infer_broadcast(c, st));
    return eng_check_types(c, 1, c->in[0]->dtype, st);
}

od_code eng_min_run(eng_ctx *c, od_status *st)
{
    return run(c, min_rows, ENG_BIN_MIN, st);
}

od_code eng_max_run(eng_ctx *c, od_status *st)
{
    return run(c, max_rows, ENG_BIN_MAX, st);
}

od_code eng_sum_run(eng_ctx *c, od_status *st)
{
    return run(c, sum_rows, ENG_BIN_ADD, st);
}

static double share(double x, double count, double unused)
{
    (void)unused;
    return x / count;
}

od_code eng_mean_run(eng_ctx *c, od_status *st)
{
    OD_TRY(run(c, sum_rows, ENG_BIN_ADD, st));
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    eng_dtype t = c->out[0]->dtype;
    eng_double_fn f = {.fn = share, .alpha = c->n_in, .from = t, .to = t};
    eng_walk w;
    eng_walk_init(&w, 2, (const eng_tensor *[]){c->out[0], c->out[0]});
    eng_walk_run(&w, c->pool, 4, eng_row_double, &f);
    return OD_OK;
}
