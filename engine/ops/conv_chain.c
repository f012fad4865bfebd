/* conv_chain.c - a 1x1 convolution or one of few channels, a depthwise one that reads it, and a 1x1 one that reads
 * that, band by band of lines: what one makes for the next stays in the second-level cache. In inverted residuals
 * that is six times as much as what comes in and goes out. The middle one is always there. */
#include "engine/ops/conv_job.h"
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

#include <string.h>

typedef struct chain {
    eng_gemm expand, project; /* over all pixels */
    conv_job stem;            /* or the expansion is one of few channels, */
    conv_few few;             /* if its j is not NULL */
    eng_depthwise middle;
    bool expands, projects;
    int64_t items, lines, in_line; /* output lines of an item; floats of a line of what expand makes */
    int64_t band, held, part, parts; /* output lines of a band; lines of expand's that are kept; output lines of a part */
    char *slots;
    size_t held_bytes, slot_bytes;
} chain;

/* The lines that output lines y .. y + n - 1 read: *from .. *to - 1. */
static void reads(const chain *h, int64_t y, int64_t n, int64_t *from, int64_t *to)
{
    const eng_depthwise *d = &h->middle;
    int64_t first = y * d->stride[1] - d->before[1], last = first + (n - 1) * d->stride[1] + (d->size[1] - 1) * d->dilation[1];
    *from = od_min_i64(od_max_i64(first, 0), d->in[1]);
    *to = od_max_i64(od_min_i64(last + 1, d->in[1]), *from);
}

static void run_part(void *arg, int64_t chunk, int slot)
{
    const chain *h = arg;
    const int64_t item = chunk / h->parts, begin = chunk % h->parts * h->part, end = od_min_i64(begin + h->part, h->lines);
    const eng_kernels *k = eng_kernels_get();
    float *held = (float *)(void *)(h->slots + (size_t)slot * h->slot_bytes), *made = held + h->held_bytes / sizeof *held;
    int64_t low = 0, high = 0; /* the lines that are in `held` */
    for (int64_t y = begin, n; y < end; y += n) {
        const int64_t width = h->middle.out[2], at = (item * h->lines + y) * width;
        eng_depthwise d = h->middle;
        n = od_min_i64(h->band, end - y);
        if (h->expands) {
            int64_t from, to;
            reads(h, y, n, &from, &to);
            if (y == begin || high < from) low = high = from;
            memmove(held, held + (from - low) * h->in_line, (size_t)((high - from) * h->in_line) * sizeof *held);
            low = from;
            if (high < to && h->few.j) {
                eng_conv_few_lines(&h->few, slot, item, high, to - high, held + (high - low) * h->in_line, d.x_pitch);
                high = to;
            } else if (high < to) {
                eng_gemm g = eng_gemm_part(&h->expand, (item * d.in[1] + high) * d.in[2], (to - high) * d.in[2], 0, h->expand.n);
                g.c = held + (high - low) * h->in_line;
                g.ldc = d.x_pitch;
                k->gemm_f32(&g);
                high = to;
            }
            d.x = held - low * h->in_line;
        } else {
            d.x += item * d.in[1] * d.in[2] * d.x_pitch;
        }
        d.first = y;
        d.last = y + n;
        if (h->projects) d.end.c = made - y * width * d.end.ldc;
        else d.end.c += item * h->lines * width * d.end.ldc;
        if (d.end.add) d.end.add += item * h->lines * width * d.end.ld_add;
        k->depthwise_f32(&d);
        if (h->projects) {
            eng_gemm g = eng_gemm_part(&h->project, at, n * width, 0, h->project.n);
            g.a = made;
            k->gemm_f32(&g);
        }
    }
}

/* Bands as high as the cache allows, parts for the threads. */
static void cut(chain *h, int64_t threads)
{
    enum { BYTES = 384 << 10 };
    const eng_depthwise *d = &h->middle;
    int64_t over = (d->size[1] - 1) * d->dilation[1] + 1 - d->stride[1]; /* lines that a band reads beside its own */
    int64_t line = (h->expands ? d->stride[1] * h->in_line : 0) + (h->projects ? d->out[2] * d->channels : 0);
    int64_t fit = (BYTES / (int64_t)sizeof(float) - (h->expands ? od_max_i64(over, 0) * h->in_line : 0)) / od_max_i64(line, 1);
    const bool costly = h->expands && h->lines * h->items < 16 * threads * over; /* each part makes those again */
    int64_t wanted = threads > 1 ? od_ceil_div(costly ? threads : threads * 2, h->items) : 1;
    wanted += wanted > 1 && wanted % 2; /* so that two threads have a half each */
    h->part = od_ceil_div(h->lines, od_min_i64(wanted, h->lines));
    h->parts = od_ceil_div(h->lines, h->part);
    h->band = od_min_i64(od_max_i64(fit, 1), h->part);
    h->band = od_ceil_div(h->part, od_ceil_div(h->part, h->band));
    h->band += h->band > 1 && h->band % 2; /* depthwise kernels like pairs of lines */
    h->held = (h->band - 1) * d->stride[1] + (d->size[1] - 1) * d->dilation[1] + 1;
    h->held_bytes = h->expands ? ((size_t)(h->held * h->in_line) * sizeof(float) + 63) & ~(size_t)63 : 0;
    h->slot_bytes = h->held_bytes;
    if (h->projects) h->slot_bytes += ((size_t)(h->band * d->out[2] * d->channels) * sizeof(float) + 63) & ~(size_t)63;
    h->slot_bytes += 64 * sizeof(float); /* whole vectors are read */
}

od_code eng_conv_chain_run(eng_ctx *c, od_status *st)
{
    conv_job j;
    if (eng_products_join(c->ahead, c)) return eng_product_chain_run(c, st);
    chain h = {.items = c->in[0]->dims[0]};
    eng_ctx middle = *c, expand;
    h.projects = c->ahead->ahead || ((const conv_params *)c->node->params)->form.merged;
    if (h.projects) {
        OD_TRY(eng_conv_setup(c, &j, st));
        h.project = eng_conv_product(&j);
        middle = *c->ahead;
    }
    OD_TRY(eng_conv_setup(&middle, &j, st));
    if (!j.pixels) return OD_OK;
    float *zeros = od_arena_array(c->scratch, float, j.form.out + ENG_NR);
    j.zeros = zeros;
    h.middle = eng_conv_depthwise(&j);
    h.lines = h.middle.out[1];
    if (middle.ahead) {
        expand = *middle.ahead;
        expand.scratch = c->scratch;
        expand.pool = c->pool;
        OD_TRY(eng_conv_setup(&expand, &h.stem, st));
        if (eng_conv_in_place(&h.stem)) h.expand = eng_conv_product(&h.stem);
        else OD_TRY(eng_conv_few_start(&expand, &h.stem, &h.few, st));
        h.expands = true;
        h.middle.x_pitch = h.stem.form.out;
    }
    if (h.projects) {
        h.middle.end.ldc = h.middle.channels;
        h.project.lda = h.middle.channels;
    }
    h.in_line = h.middle.in[2] * h.middle.x_pitch;
    cut(&h, od_pool_slots(c->pool));
    h.slots = od_arena_alloc(c->scratch, h.slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!zeros || !h.slots) return od_fail(st, OD_NO_MEMORY, "no memory for a band of lines");
    od_pool_for(c->pool, h.items * h.parts, run_part, &h);
    return OD_OK;
}

/* ---- which ----------------------------------------------------------------------------------- */

bool eng_conv_is_packed(const eng_ctx *c, conv_job *j)
{
    const conv_params *p = c->node->params;
    od_status st;
    if (c->node->op->run != eng_conv_run || !p || !p->packed || c->in[0]->dtype != ENG_FLOAT || c->in[0]->rank > 4) return false;
    return eng_conv_setup((eng_ctx *)c, j, &st) == OD_OK && j->pixels > 0;
}

static bool is_middle(const conv_job *j)
{
    return !j->form.merged && j->form.out == j->channels && j->win.size[2] < 8 && j->win.dilation[2] == 1;
}

bool eng_conv_joins(const eng_ctx *first, const eng_ctx *second)
{
    enum {
        LEAST = 768 << 10,   /* bytes: what fits the cache beside weights need not be kept short */
        DEPTH = 192,         /* deeper products are worth more than the trip to memory */
        WEIGHTS = 256 << 10, /* bytes, read once a band */
    };
    conv_job a, b;
    if (eng_conv_scales(first, second)) return true;
    if (!eng_conv_is_packed(first, &a) || !eng_conv_is_packed(second, &b)) return false;
    const bool few = eng_conv_few(first->node->params, first->in[0]);
    const bool expands = (few || eng_conv_in_place(&a)) && is_middle(&b), projects = is_middle(&a) && eng_conv_in_place(&b);
    const eng_gemm product = eng_conv_product(expands ? &a : &b);
    if ((!expands && !projects) || (expands && first->ahead)) return false;
    if (product.length >= DEPTH || product.length * product.n * (int64_t)sizeof(float) > WEIGHTS) return false;
    return a.pixels * a.form.out * (int64_t)sizeof(float) >= LEAST || first->ahead;
}
