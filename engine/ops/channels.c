#include "engine/ops/channels.h"

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
} affine_job;

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
        if (v->x_channel == 1 && v->y_channel == 1) /* a block of pixels */
            k->affine(x + at * v->x_pixel, v->x_pixel, y + at * v->y_pixel, v->y_pixel, od_min_i64(j->block, v->pixels - at),
                      v->channels, s, b, 1);
        else /* one channel */
            k->affine(x + at * v->x_channel, 0, y + at * v->y_channel, 0, 1, v->pixels, s + at, b + at, 0);
    }
}

void eng_channels_affine(const eng_channels *v, const float *x, float *y, const float *scale, const float *bias,
                         int64_t item_step, od_pool *pool)
{
    enum { GRAIN = 16384 };
    affine_job j = {.v = v, .x = x, .y = y, .scale = scale, .bias = bias, .item_step = item_step};
    int64_t total = v->items * v->channels * v->pixels;
    if (!total) return;
    bool pixels = v->x_channel == 1 && v->y_channel == 1;
    j.block = pixels ? od_max_i64(1, GRAIN / v->channels) : 1;
    j.blocks = od_ceil_div(pixels ? v->pixels : v->channels, j.block);
    j.units = v->items * j.blocks;
    j.chunks = od_min_i64(j.units, eng_chunks(total, GRAIN));
    od_pool_for(j.chunks > 1 ? pool : NULL, j.chunks, affine_units, &j);
}
