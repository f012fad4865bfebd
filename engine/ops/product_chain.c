/* product_chain.c - two matrix products, the second of what the first makes, band by band of rows: what lies between, mostly
 * four times as wide as what comes in and goes out, stays in the second-level cache. */
#include "engine/ops/conv_job.h"
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

typedef struct chain {
    eng_gemm first, second; /* all rows; c of the first and a of the second are a slot's */
    int64_t rows, bands;    /* the most of a band */
    char *slots;
    size_t made_bytes, slot_bytes;
    bool works[2];          /* by sums of halves, as each would be done alone */
} chain;

/* Cuts are at multiples of what such sums want, so that no bit depends on them. Rows that are left over are the last band's. */
static int64_t band_begin(const chain *h, int64_t band)
{
    return band < h->bands ? od_ceil_div(h->first.m / ENG_WORK_ROWS * band, h->bands) * ENG_WORK_ROWS : h->first.m;
}

static void run_band(void *arg, int64_t band, int slot)
{
    const chain *h = arg;
    const int64_t row = band_begin(h, band), rows = band_begin(h, band + 1) - row;
    float *made = (float *)(void *)(h->slots + (size_t)slot * h->slot_bytes), *work = made + h->made_bytes / sizeof *made;
    eng_gemm g = eng_gemm_part(&h->first, row, rows, 0, h->first.n);
    g.c = made;
    g.work = h->works[0] ? work : NULL;
    g.work_cols = eng_gemm_work_cols(&g);
    eng_kernels_get()->gemm_f32(&g);
    g = eng_gemm_part(&h->second, row, rows, 0, h->second.n);
    g.a = made;
    g.work = h->works[1] ? work : NULL;
    g.work_cols = eng_gemm_work_cols(&g);
    eng_kernels_get()->gemm_f32(&g);
}

/* Bands that leave room in the cache for weights and sums, but are high enough to read these for, and as many for each thread. */
static void cut(chain *h, int64_t threads)
{
    enum { BYTES = 384 << 10, FEWEST = 144, MOST = 384 }; /* rows */
    const int64_t fit = BYTES / (int64_t)sizeof(float) / h->first.n, unit = ENG_WORK_ROWS, units = od_max_i64(h->first.m / unit, 1);
    const int64_t high = od_min_i64(od_max_i64(fit, FEWEST), MOST) / unit;
    h->bands = od_min_i64(od_ceil_div(od_ceil_div(units, high), threads) * threads, units);
    h->rows = od_ceil_div(units, h->bands) * unit + h->first.m % unit;
}

static size_t aligned_bytes(int64_t floats)
{
    return ((size_t)floats * sizeof(float) + 63) & ~(size_t)63;
}

static int64_t work_floats(const eng_gemm *whole, int64_t rows)
{
    eng_gemm g = *whole;
    g.m = rows;
    return eng_gemm_work_floats(&g);
}

/* The product of a node as it would run alone. */
static bool product_of(const eng_ctx *c, eng_gemm *g)
{
    if (c->node->op->run == eng_matmul_run) return eng_matmul_rows(c, g);
    conv_job j;
    if (!eng_conv_is_packed(c, &j) || !eng_conv_in_place(&j)) return false;
    *g = eng_conv_product(&j);
    return true;
}

od_code eng_product_chain_run(eng_ctx *c, od_status *st)
{
    chain h = {0};
    int64_t work = 0;
    if (!product_of(c->ahead, &h.first) || !product_of(c, &h.second)) return od_fail(st, OD_INTERNAL, "what was joined are no products");
    h.works[0] = eng_gemm_wants_work(&h.first);
    h.works[1] = eng_gemm_wants_work(&h.second);
    h.first.ldc = h.second.lda = h.first.n;
    cut(&h, od_pool_slots(c->pool));
    if (h.works[0]) work = work_floats(&h.first, h.rows);
    if (h.works[1]) work = od_max_i64(work, work_floats(&h.second, h.rows));
    h.made_bytes = aligned_bytes(h.rows * h.first.n);
    h.slot_bytes = h.made_bytes + aligned_bytes(work);
    h.slots = od_arena_alloc(c->scratch, h.slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!h.slots) return od_fail(st, OD_NO_MEMORY, "no memory for a band of rows");
    od_pool_for(c->pool, h.bands, run_band, &h);
    return OD_OK;
}

bool eng_products_join(const eng_ctx *first, const eng_ctx *second)
{
    enum {
        LEAST = 2560 << 10,   /* bytes between: less stays near enough by itself */
        RATIO = 4,            /* less times as much as of weights is not worth reading these once a band */
        WEIGHTS = 1280 << 10, /* bytes, which the cache has to hold beside a band */
        WIDEST = 1024,        /* columns between, of which a band can be high enough */
    };
    eng_gemm a, b;
    if (first->ahead || !product_of(first, &a) || !product_of(second, &b) || b.m != a.m || b.length != a.n || a.n > WIDEST) return false;
    const int64_t weights = (a.length + b.n) * a.n * (int64_t)sizeof(float), between = a.m * a.n * (int64_t)sizeof(float);
    return weights <= WEIGHTS && between >= LEAST && between >= RATIO * weights;
}
