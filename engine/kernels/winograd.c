#include "engine/kernels/winograd.h"
#include "engine/base/cpu.h"
#include "engine/kernels/transpose.h"

#include <math.h>
#include <string.h>

static int64_t coefficients(eng_winograd_form form)
{
    return (form + 2) * (form + 2);
}

static int64_t panels_of(int64_t out)
{
    return od_ceil_div(out, ENG_NR);
}

int64_t eng_winograd_floats(eng_winograd_form form, int64_t channels, int64_t out)
{
    return coefficients(form) * panels_of(out) * channels * ENG_NR;
}

/* ---- weights ------------------------------------------------------------------------------- */

typedef struct pack_job {
    eng_winograd_form form;
    eng_winograd_weights w;
    float *to;
    double g[6][3]; /* the transform of a column of weights */
} pack_job;

static void weight_transform(eng_winograd_form form, double g[6][3])
{
    const double f2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
    const double points[5] = {0, sqrt(0.5), -sqrt(0.5), sqrt(2), -sqrt(2)};
    if (form == ENG_WINOGRAD_F2) {
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 3; k++) g[i][k] = f2[i][k];
        return;
    }
    for (int i = 0; i < 5; i++) { /* row i evaluates at a point, divided by the product of its distances */
        double distances = 1;
        for (int j = 0; j < 5; j++)
            if (j != i) distances *= points[i] - points[j];
        g[i][0] = 1 / distances;
        g[i][1] = points[i] / distances;
        g[i][2] = points[i] * points[i] / distances;
    }
    g[5][0] = g[5][1] = 0; /* the point at infinity */
    g[5][2] = 1;
}

enum { GATHERED = 32 /* channels at a time */ };

/* Channels first .. first+n-1 of a panel's outputs as [channel][tap][16]. */
static void gather(const eng_winograd_weights *from, int64_t panel, int64_t first, int64_t n, float (*to)[ENG_NR])
{
    int64_t width = od_min_i64(ENG_NR, from->out - panel * ENG_NR);
    if (width < ENG_NR || from->merged > 1) memset(to, 0, (size_t)(n * 9) * sizeof *to);
    if (from->merged == 1) {
        const float *w = from->w + (panel * ENG_NR * from->channels + first) * 9;
        eng_transposes_get()->by_log2[2]((char *)to, sizeof *to, (const char *)w, from->channels * 9 * (int64_t)sizeof *w, width, n * 9);
        return;
    }
    int64_t inputs = from->channels / from->merged, outputs = from->out / from->merged; /* of a group */
    for (int64_t c = first; c < first + n; c++)
        for (int64_t j = 0; j < width; j++) {
            int64_t out = panel * ENG_NR + j;
            for (int i = 0; i < 9 && out / outputs == c / inputs; i++) to[(c - first) * 9 + i][j] = from->w[(out * inputs + c % inputs) * 9 + i];
        }
}

/* One panel: sixteen output channels side by side in every step. */
static void pack_panel(void *arg, int64_t panel, int slot)
{
    const pack_job *p = arg;
    int side = (int)p->form + 2;
    int64_t channels = p->w.channels, plane = panels_of(p->w.out) * channels * ENG_NR;
    float w[GATHERED * 9][ENG_NR];
    (void)slot;
    for (int64_t c = 0; c < channels; c += GATHERED) {
        int64_t n = od_min_i64(GATHERED, channels - c);
        float *to = p->to + (panel * channels + c) * ENG_NR;
        gather(&p->w, panel, c, n, w);
        for (int64_t i = 0; i < n; i++) eng_kernels_get()->winograd_weights(side, p->g, (const float (*)[ENG_NR])w + i * 9, to + i * ENG_NR, plane);
    }
}

void eng_winograd_pack(eng_winograd_form form, const eng_winograd_weights *w, float *to, od_pool *pool)
{
    pack_job p = {.form = form, .w = *w, .to = to};
    weight_transform(form, p.g);
    od_pool_for(pool, panels_of(w->out), pack_panel, &p);
}

/* ---- running ------------------------------------------------------------------------------- */

typedef struct run_job {
    const eng_winograd *w;
    const float *zeros;
    int64_t tiles, blocks;        /* all tiles, and the parts they are cut into, nearly equal */
    int64_t cols, col_blocks;     /* output channels of a part, a multiple of ENG_NR */
    bool shared;                  /* v holds all tiles */
    int64_t v_pitch, v_plane, m_plane;
    float *v, *m;                 /* v: one a slot, or one for all when it is shared; m: one a slot */
    int64_t v_floats, m_floats;
} run_job;

static eng_winograd_block block_of(const run_job *r, int64_t block)
{
    int64_t first = r->tiles * block / r->blocks;
    return (eng_winograd_block){.w = r->w, .first = first, .tiles = r->tiles * (block + 1) / r->blocks - first,
                                .zeros = r->zeros, .v_plane = r->v_plane, .v_pitch = r->v_pitch,
                                .m_plane = r->m_plane, .m_pitch = r->cols};
}

/* The products of a block's coefficients with some columns of weights, and the way back. b->v is there. */
static void multiply(const run_job *r, eng_winograd_block *b, int64_t part, int slot)
{
    const eng_winograd *w = r->w;
    int64_t panels = panels_of(w->out), col = part * r->cols, cols = od_min_i64(r->cols, panels * ENG_NR - col);
    float *m = r->m + slot * r->m_floats;
    for (int64_t e = 0; e < coefficients(w->form); e++) {
        eng_gemm g = {.m = b->tiles, .n = cols, .segments = 1, .length = w->channels, .a = b->v + e * b->v_plane,
                      .lda = b->v_pitch, .b = w->weights + (e * panels * ENG_NR + col) * w->channels,
                      .c = m + e * b->m_plane, .ldc = r->cols};
        if (e + 1 < coefficients(w->form)) g.ahead = g.b + panels * ENG_NR * w->channels;
        else if (col + r->cols < panels * ENG_NR) g.ahead = w->weights + (col + r->cols) * w->channels;
        eng_kernels_get()->gemm_f32(&g);
    }
    b->m = m;
    b->col = col;
    b->cols = od_min_i64(cols, w->out - col);
    eng_kernels_get()->winograd_out(b);
}

static void run_block(void *arg, int64_t chunk, int slot)
{
    const run_job *r = arg;
    eng_winograd_block b = block_of(r, chunk);
    b.v = r->v + slot * r->v_floats;
    eng_kernels_get()->winograd_in(&b);
    for (int64_t part = 0; part < r->col_blocks; part++) multiply(r, &b, part, slot);
}

static void transform_block(void *arg, int64_t chunk, int slot)
{
    const run_job *r = arg;
    eng_winograd_block b = block_of(r, chunk);
    (void)slot;
    b.v = r->v + b.first * b.v_pitch;
    eng_kernels_get()->winograd_in(&b);
}

static void multiply_block(void *arg, int64_t chunk, int slot)
{
    const run_job *r = arg;
    eng_winograd_block b = block_of(r, 0);
    b.tiles = r->tiles;
    b.v = r->v;
    multiply(r, &b, chunk, slot);
}

static void cut(run_job *r, int64_t threads)
{
    enum { COLS = 128, FEWEST = 24, MOST = 128, SHARED_BELOW = 12 };
    const eng_winograd *w = r->w;
    int64_t n = coefficients(w->form), budget = (int64_t)(od_cpu_cache_sizes().l2 / 8 * 5 / sizeof(float));
    r->tiles = eng_winograd_tiles(w);
    r->cols = od_min_i64(panels_of(w->out) * ENG_NR, COLS);
    r->v_pitch = od_ceil_div(w->channels, ENG_NR) * ENG_NR;
    int64_t most = budget / (n * (r->v_pitch + r->cols));
    most = most < FEWEST ? FEWEST : most > MOST ? MOST : most;
    r->blocks = od_ceil_div(r->tiles, most);
    r->blocks += r->blocks > 1 && r->blocks % 2; /* halves of a map for two threads */
    int64_t tiles = od_ceil_div(r->tiles, r->blocks);
    if (threads > 1 && r->blocks < 2 * threads) {
        if (r->tiles >= 2 * threads * SHARED_BELOW) {
            r->blocks = 2 * threads;
            tiles = od_ceil_div(r->tiles, r->blocks);
        } else { /* few tiles: all windows are transformed first, then the threads share the output channels */
            r->shared = true;
            r->blocks = od_min_i64(r->tiles, threads * 4);
            tiles = r->tiles;
            while (r->cols > 2 * ENG_NR && od_ceil_div(w->out, r->cols) < threads * 3) r->cols -= 2 * ENG_NR;
        }
    }
    r->col_blocks = od_ceil_div(w->out, r->cols);
    r->v_plane = tiles * r->v_pitch + ENG_NR; /* planes a power of two apart would share cache sets */
    r->m_plane = tiles * r->cols + ENG_NR;
    r->v_floats = n * r->v_plane;
    r->m_floats = n * r->m_plane;
}

od_code eng_winograd_run(const eng_winograd *w, od_pool *pool, od_arena *scratch, od_status *st)
{
    int64_t threads = od_pool_slots(pool);
    run_job r = {.w = w};
    if (w->items < 1 || w->out_height < 1 || w->out_width < 1 || w->out < 1) return OD_OK;
    cut(&r, threads);
    r.zeros = od_arena_array(scratch, float, r.v_pitch);
    r.v = od_arena_alloc(scratch, (size_t)(r.v_floats * (r.shared ? 1 : threads)) * sizeof(float));
    r.m = od_arena_alloc(scratch, (size_t)(r.m_floats * threads) * sizeof(float));
    if (!r.zeros || !r.v || !r.m) return od_fail(st, OD_NO_MEMORY, "no memory for the transforms of a convolution");
    if (r.shared) {
        od_pool_for(pool, r.blocks, transform_block, &r);
        od_pool_for(pool, r.col_blocks, multiply_block, &r);
    } else {
        od_pool_for(pool, r.blocks, run_block, &r);
    }
    return OD_OK;
}

/* ---- choosing ------------------------------------------------------------------------------ */

/* Cycles at 32 flops each, from measurements: what the products reach of the peak, what a tile's transforms
 * take for each channel; and weights that no cache keeps from one run to the next come at 5.4 bytes a cycle. */
static double cost(eng_winograd_form form, double pixels, double tiles, double channels, double out)
{
    double weights = 4.0 * channels * out, products, transforms = 0.0;
    if (form == ENG_WINOGRAD_NONE) {
        weights *= 9;
        products = 1.06 * 18 * pixels * channels * out / 32;
    } else {
        double n = (double)coefficients(form);
        weights *= n;
        products = 1.05 * 2 * n * tiles * channels * out / 32;
        transforms = tiles * (channels + out) * (form == ENG_WINOGRAD_F4 ? 22 : 6.7);
    }
    double memory = weights > 8e6 ? weights / 5.4 : 0.0;
    return (products > memory ? products : memory) + transforms;
}

eng_winograd_form eng_winograd_choose(int64_t items, int64_t out_height, int64_t out_width, int64_t channels, int64_t out)
{
    eng_winograd_form best = ENG_WINOGRAD_NONE;
    if (channels < 8 || out < 8) return best;
    eng_winograd w = {.items = od_max_i64(items, 1), .out_height = out_height, .out_width = out_width};
    double pixels = (double)(w.items * out_height) * (double)out_width, n = (double)(panels_of(out) * ENG_NR), least = 0.0;
    static const eng_winograd_form forms[] = {ENG_WINOGRAD_NONE, ENG_WINOGRAD_F2, ENG_WINOGRAD_F4};
    for (int i = 0; i < 3; i++) {
        w.form = forms[i];
        double tiles = w.form ? (double)eng_winograd_tiles(&w) : 0.0, now = cost(w.form, pixels, tiles, (double)channels, n);
        if (i && now >= least * (best ? 1.0 : 0.9)) continue;
        least = now;
        best = w.form;
    }
    return best;
}
