#include "engine/ops/channels.h"

#include "engine/kernels/kernels.h"
#include "engine/kernels/reduce.h"

static void strides_of(const eng_tensor *t, int64_t pixels, int64_t *item, int64_t *channel, int64_t *pixel)
{
    int64_t channels = t->rank > 1 ? t->dims[1] : 1;
    bool cl = t->layout == ENG_CL;
    *channel = cl ? 1 : pixels;
    *pixel = cl ? t->pitch : 1;
    *item = pixels * (cl ? t->pitch : channels);
}

void eng_channels_view(const eng_tensor *x, const eng_tensor *y, eng_channels *v)
{
    *v = (eng_channels){.items = x->rank ? x->dims[0] : 1, .channels = x->rank > 1 ? x->dims[1] : 1, .pixels = 1};
    for (int i = 2; i < x->rank; i++) v->pixels *= x->dims[i];
    strides_of(x, v->pixels, &v->x_item, &v->x_channel, &v->x_pixel);
    strides_of(y, v->pixels, &v->y_item, &v->y_channel, &v->y_pixel);
}

typedef struct affine_job {
    const eng_channels *v;
    const float *x, *scale, *bias;
    float *y;
    int64_t item_step, block, blocks, units, chunks;
    const eng_epilogue *act;
} affine_job;

/* The activation, in place, of `rows` rows that lie `stride` apart. */
static void activate(const eng_epilogue *e, float *y, int64_t rows, int64_t stride, int64_t n)
{
    if (stride == n || rows == 1) {
        eng_kernels_get()->act_f32(e->act, e->alpha, e->beta, y, y, rows * n);
        return;
    }
    for (int64_t r = 0; r < rows; r++, y += stride) eng_kernels_get()->act_f32(e->act, e->alpha, e->beta, y, y, n);
}

static void affine_units(void *arg, int64_t chunk, int slot)
{
    const affine_job *j = arg;
    const eng_channels *v = j->v;
    const eng_reduce_kernels *k = eng_reduce_get();
    (void)slot;
    for (int64_t u = j->units * chunk / j->chunks; u < j->units * (chunk + 1) / j->chunks; u++) {
        int64_t n = u / j->blocks, at = u % j->blocks * j->block;
        const float *x = j->x + n * v->x_item, *s = j->scale + n * j->item_step, *b = j->bias + n * j->item_step;
        float *y = j->y + n * v->y_item;
        if (v->x_channel == 1 && v->y_channel == 1) { /* a block of pixels */
            int64_t rows = od_min_i64(j->block, v->pixels - at);
            k->affine(x + at * v->x_pixel, v->x_pixel, y + at * v->y_pixel, v->y_pixel, rows, v->channels, s, b, 1);
            if (j->act->act) activate(j->act, y + at * v->y_pixel, rows, v->y_pixel, v->channels);
        } else { /* one channel */
            k->affine(x + at * v->x_channel, 0, y + at * v->y_channel, 0, 1, v->pixels, s + at, b + at, 0);
            if (j->act->act) activate(j->act, y + at * v->y_channel, 1, 0, v->pixels);
        }
    }
}

void eng_channels_affine(const eng_channels *v, const float *x, float *y, const float *scale, const float *bias,
                         int64_t item_step, const eng_epilogue *act, od_pool *pool)
{
    enum { GRAIN = 16384, NEAR = 4096 }; /* so that an activation finds its row in the nearest cache */
    affine_job j = {.v = v, .x = x, .y = y, .scale = scale, .bias = bias, .item_step = item_step, .act = act};
    int64_t total = v->items * v->channels * v->pixels;
    if (!total) return;
    bool pixels = v->x_channel == 1 && v->y_channel == 1;
    j.block = pixels ? od_max_i64(1, (act->act ? NEAR : GRAIN) / v->channels) : 1;
    j.blocks = od_ceil_div(pixels ? v->pixels : v->channels, j.block);
    j.units = v->items * j.blocks;
    j.chunks = od_min_i64(j.units, eng_chunks(total, GRAIN));
    od_pool_for(j.chunks > 1 ? pool : NULL, j.chunks, affine_units, &j);
}

/* ---- moments ------------------------------------------------------------------------------- */

typedef struct moment_job {
    const eng_channels *v;
    const float *x;
    int64_t groups, per_group;
    float *mean, *var;
    /* channels-last: pixels are cut into parts, each with its sums a channel */
    int64_t part, parts;
    const float *shift; /* [items][channels]; NULL in the first pass */
    float *sums;        /* [items][parts][channels] */
} moment_job;

/* Rows: a group's channels lie behind each other. */
static void group_rows(void *arg, int64_t unit, int slot)
{
    const moment_job *j = arg;
    const eng_channels *v = j->v;
    const eng_reduce_kernels *k = eng_reduce_get();
    int64_t n = j->per_group * v->pixels;
    const float *x = j->x + unit / j->groups * v->x_item + unit % j->groups * n;
    (void)slot;
    j->mean[unit] = k->row(ENG_RED_SUM, x, n, 0.0f) / (float)n;
    j->var[unit] = k->row(ENG_RED_SQUARE, x, n, j->mean[unit]) / (float)n;
}

static void channel_sums(void *arg, int64_t unit, int slot)
{
    const moment_job *j = arg;
    const eng_channels *v = j->v;
    int64_t item = unit / j->parts, at = unit % j->parts * j->part;
    (void)slot;
    eng_reduce_get()->columns(j->shift ? ENG_RED_SQUARE : ENG_RED_SUM, j->x + item * v->x_item + at * v->x_pixel, v->x_pixel,
                              od_min_i64(j->part, v->pixels - at), v->channels, j->shift ? j->shift + item * v->channels : NULL,
                              j->sums + unit * v->channels);
}

static void join_sums(const moment_job *j, float *out)
{
    const eng_channels *v = j->v;
    for (int64_t g = 0; g < v->items * j->groups; g++) {
        double sum = 0.0;
        const float *from = j->sums + g / j->groups * j->parts * v->channels + g % j->groups * j->per_group;
        for (int64_t p = 0; p < j->parts; p++)
            for (int64_t c = 0; c < j->per_group; c++) sum += (double)from[p * v->channels + c];
        out[g] = (float)(sum / (double)(j->per_group * v->pixels));
    }
}

od_code eng_channels_moments(const eng_channels *v, const float *x, int64_t groups, float *mean, float *var, od_arena *scratch,
                             od_pool *pool, od_status *st)
{
    enum { GRAIN = 16384 };
    moment_job j = {.v = v, .x = x, .groups = groups, .per_group = v->channels / groups, .mean = mean, .var = var};
    if (!v->items || !v->channels || !v->pixels) return OD_OK;
    if (v->items * v->channels * v->pixels < GRAIN) pool = NULL;
    if (v->x_channel != 1 || v->pixels == 1) {
        od_pool_for(pool, v->items * groups, group_rows, &j);
        return OD_OK;
    }
    j.part = od_max_i64(16, GRAIN / v->channels);
    j.parts = od_ceil_div(v->pixels, j.part);
    float *shift = od_arena_array(scratch, float, v->items * v->channels);
    j.sums = od_arena_array(scratch, float, v->items * j.parts * v->channels);
    if (!shift || !j.sums) return od_fail(st, OD_NO_MEMORY, "no memory for sums of %" PRId64 " channels", v->channels);
    od_pool_for(pool, v->items * j.parts, channel_sums, &j);
    join_sums(&j, mean);
    for (int64_t i = 0; i < v->items * v->channels; i++) shift[i] = mean[i / j.per_group];
    j.shift = shift;
    od_pool_for(pool, v->items * j.parts, channel_sums, &j);
    join_sums(&j, var);
    return OD_OK;
}
