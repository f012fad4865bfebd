/* gemm.c - packing and cutting of matrix products, for every variant alike. */
#include "engine/kernels/kernels.h"
#include "engine/kernels/transpose.h"

#include <string.h>

enum { WIDE = 2 * ENG_NR }; /* columns of the widest tile */

/* Columns are beside each other: some panels at a time, so that what is read of a row fills lines and pages. */
static void pack_rows(const float *b, int64_t row, int64_t k, int64_t n, float *packed)
{
    enum { COLS = 8 * ENG_NR };
    for (int64_t p = 0; p < n; p += COLS)
        for (int64_t i = 0; i < k; i++) {
            const float *from = b + i * row + p;
            float *to = packed + p * k + i * ENG_NR;
            int64_t left = od_min_i64(COLS, n - p);
            for (; left >= ENG_NR; left -= ENG_NR, from += ENG_NR, to += k * ENG_NR) memcpy(to, from, ENG_NR * sizeof *to);
            for (int64_t j = 0; left && j < ENG_NR; j++) to[j] = j < left ? from[j] : 0.0f;
        }
}

void eng_gemm_pack(const float *b, int64_t row, int64_t col, int64_t k, int64_t n, float *packed)
{
    if (col == 1) {
        pack_rows(b, row, k, n, packed);
        return;
    }
    eng_transpose_fn *transpose = eng_transposes_get()->by_log2[2];
    for (int64_t p = 0; p < n; p += ENG_NR, packed += k * ENG_NR) {
        int64_t width = od_min_i64(ENG_NR, n - p);
        const float *from = b + p * col;
        if (row == 1) { /* columns are dense: a panel is their transpose */
            if (width < ENG_NR) memset(packed, 0, (size_t)(k * ENG_NR) * sizeof *packed);
            transpose((char *)packed, ENG_NR * sizeof *packed, (const char *)from, col * (int64_t)sizeof *from, width, k);
        } else {
            for (int64_t i = 0; i < k; i++)
                for (int64_t j = 0; j < ENG_NR; j++) packed[i * ENG_NR + j] = j < width ? from[i * row + j * col] : 0.0f;
        }
    }
}

typedef struct pack_job {
    const float *b;
    int64_t row, col, k, n, share; /* share: columns of a chunk */
    float *packed;
} pack_job;

static void pack_chunk(void *arg, int64_t chunk, int slot)
{
    const pack_job *j = arg;
    int64_t from = chunk * j->share;
    (void)slot;
    eng_gemm_pack(j->b + from * j->col, j->row, j->col, j->k, od_min_i64(j->share, j->n - from), j->packed + from * j->k);
}

void eng_gemm_pack_parallel(const float *b, int64_t row, int64_t col, int64_t k, int64_t n, float *packed, od_pool *pool)
{
    enum { FLOATS = 1 << 14 }; /* of a chunk at least */
    pack_job j = {b, row, col, k, n, od_ceil_div(FLOATS, od_max_i64(k, 1) * ENG_NR) * ENG_NR, packed};
    od_pool_for(pool, od_ceil_div(n, j.share), pack_chunk, &j);
}

eng_gemm eng_gemm_part(const eng_gemm *g, int64_t row, int64_t m, int64_t col, int64_t n)
{
    eng_gemm p = *g;
    p.m = m;
    p.n = n;
    p.ld_rows = g->ld_rows ? g->ld_rows : g->m;
    p.depth = g->depth ? g->depth : g->segments * g->length;
    if (g->rows) p.rows += row;
    else p.a += row * g->lda;
    if (g->present) p.present += row;
    p.b += col * p.depth;
    if (g->bias) p.bias += col;
    if (g->scale) p.scale += col;
    if (g->add) p.add += row * g->ld_add + col;
    p.c += row * g->ldc + col;
    return p;
}

typedef struct product {
    const eng_gemm *g;
    int64_t row_parts, col_parts, row_unit, col_unit; /* cuts are at multiples of the units */
    float *work;
    int64_t work_floats; /* of a thread */
} product;

static void multiply_part(void *arg, int64_t chunk, int slot)
{
    const product *p = arg;
    const eng_gemm *g = p->g;
    int64_t tall = g->m / p->row_unit, wide = od_ceil_div(g->n, p->col_unit), r = chunk / p->col_parts, c = chunk % p->col_parts;
    int64_t row = tall * r / p->row_parts * p->row_unit;
    int64_t end = r + 1 < p->row_parts ? tall * (r + 1) / p->row_parts * p->row_unit : g->m;
    int64_t col = wide * c / p->col_parts * p->col_unit, stop = wide * (c + 1) / p->col_parts * p->col_unit;
    eng_gemm part = eng_gemm_part(g, row, end - row, col, od_min_i64(stop, g->n) - col);
    if (p->work) part.work = p->work + slot * p->work_floats, part.work_cols = p->col_unit;
    eng_kernels_get()->gemm_f32(&part);
}

/* Of the largest part times the parts that a thread has. Each part makes the sums of its rows and columns for itself;
 * half a tile takes a little more than half of one's time. */
static int64_t time_of_parts(const product *p, int64_t threads)
{
    int64_t rows = od_ceil_div(p->g->m / p->row_unit, p->row_parts) * p->row_unit + p->g->m % p->row_unit;
    int64_t cols = od_ceil_div(od_ceil_div(p->g->n, p->col_unit), p->col_parts) * p->col_unit, halves = cols % WIDE ? 2 : 0;
    return od_ceil_div(p->row_parts * p->col_parts, threads) * (rows * (cols + halves) + (p->work ? 4 * rows + 5 * cols : 0));
}

/* B passes through once a part: parts have few rows only where it stays near, or where a thread would else have no rows of
 * its own. Rows that another thread wrote cost more than that. */
static int64_t row_parts_for(const product *p, int64_t threads)
{
    enum { ROWS = 48, FEWEST = 24, NEAR = 1 << 16, NEAR_ENOUGH = 1 << 19 }; /* floats of B: some of a second-level cache; about all */
    const int64_t m = p->g->m, floats = eng_packed_floats(p->g->segments * p->g->length, p->g->n);
    if (p->work || floats > NEAR_ENOUGH) return od_max_i64(m / ROWS, 1);
    if (floats <= NEAR) return od_max_i64(m / FEWEST, 1);
    return od_max_i64(m / ROWS, od_max_i64(od_min_i64(m / FEWEST, threads), 1));
}

/* Rows are cut first: threads then find what they wrote before. Where that is uneven, more is cut of the columns, and
 * where these are, as few parts of them as there are threads and half tiles are tried. */
static void cut(product *p, int64_t parts, int64_t threads)
{
    int64_t most = od_min_i64(parts, row_parts_for(p, threads)), least = INT64_MAX / 8;
    const int64_t unit = p->col_unit, half = p->work || p->g->n % ENG_NR ? unit : ENG_NR;
    most -= most > 1 && most % 2; /* halves of a map for two threads */
    product best = *p;
    for (p->row_parts = most; p->row_parts > 0; p->row_parts /= 2)
        for (int i = 0; i < 3; i++) {
            p->col_unit = i == 2 ? half : unit;
            p->col_parts = od_min_i64(od_ceil_div(i ? threads : parts, p->row_parts), od_ceil_div(p->g->n, p->col_unit));
            int64_t time = time_of_parts(p, threads);
            if (time >= (p->work ? least : least / 8 * 7)) continue;
            least = time;
            best = *p;
        }
    *p = best;
}

void eng_gemm_parallel(const eng_gemm *g, od_arena *scratch, od_pool *pool)
{
    enum {
        FEWEST = 8,    /* rows: fewer wait as long for B to come from memory */
        WORK = 1 << 17 /* multiply-adds of a part at least: some microseconds */
    };
    int64_t threads = od_pool_slots(pool), parts = threads * 4;
    double work = (double)od_max_i64(g->m, FEWEST) * (double)g->n * (double)(g->segments * g->length) / WORK;
    if (g->m < 1 || g->n < 1) return;
    product p = {.g = g, .row_unit = 1, .col_unit = WIDE, .row_parts = 1, .col_parts = 1};
    if (eng_gemm_wants_work(g)) {
        p.work_floats = eng_gemm_work_floats(g);
        p.work = od_arena_alloc(scratch, (size_t)(threads * p.work_floats) * sizeof(float));
        p.row_unit = ENG_WORK_ROWS; /* also without room, where it is plain tiles */
        p.col_unit = eng_gemm_work_cols(g);
        parts = threads * 2;
    }
    if (work < (double)parts) parts = (int64_t)work;
    if (threads > 1 && parts > 1) cut(&p, parts, threads);
    od_pool_for(pool, p.row_parts * p.col_parts, multiply_part, &p);
}
