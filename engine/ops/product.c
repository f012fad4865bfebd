#include "engine/ops/product.h"

#include "engine/kernels/elementwise.h"
#include "engine/kernels/half.h"
#include "engine/kernels/kernels.h"
#include "engine/packed.h"

#include <string.h>

od_code eng_product_batch(eng_product *p, int ra, const int64_t *da, const int64_t *sa, int rb, const int64_t *db,
                          const int64_t *sb, int *rank, int64_t *dims, od_status *st)
{
    OD_TRY(eng_broadcast(ra, da, rb, db, rank, dims, st));
    int64_t c_step = p->m * p->n;
    int used = 0;
    for (int i = 0; i < *rank; i++) used += dims[i] != 1;
    p->batch_rank = used;
    for (int i = *rank - 1; i >= 0; i--) {
        int a = i - (*rank - ra), b = i - (*rank - rb);
        if (dims[i] == 1) continue;
        used--;
        p->batch[used] = dims[i];
        p->a_step[used] = a < 0 || da[a] == 1 ? 0 : sa[a];
        p->b_step[used] = b < 0 || db[b] == 1 ? 0 : sb[b];
        p->c_step[used] = p->add_step[used] = c_step;
        c_step *= dims[i];
    }
    return OD_OK;
}

/* ---- packing B ----------------------------------------------------------------------------- */

/* Matrices that differ. */
static int64_t distinct(const eng_product *p)
{
    int64_t n = 1;
    for (int i = 0; i < p->batch_rank; i++)
        if (p->b_step[i]) n *= p->batch[i];
    return n;
}

int64_t eng_product_packed_floats(const eng_product *p)
{
    int64_t floats, width = od_ceil_div(p->n, ENG_NR) * ENG_NR;
    if (!od_mul_i64(distinct(p), width, &floats) || !od_mul_i64(floats, p->k, &floats)) return -1;
    return floats < INT64_MAX / 8 ? floats : -1;
}

typedef struct pack_job {
    const eng_product *p;
    float factor, *to;
    int64_t panels, parts, part; /* panels of a matrix; parts of them, and panels of a part */
} pack_job;

static void pack_part(void *arg, int64_t chunk, int slot)
{
    const pack_job *j = arg;
    const eng_product *p = j->p;
    (void)slot;
    int64_t matrix = chunk / j->parts, col = chunk % j->parts * j->part * ENG_NR, at = matrix;
    int64_t cols = od_min_i64(j->part * ENG_NR, p->n - col);
    const float *b = p->b + col * p->b_col;
    for (int i = p->batch_rank - 1; i >= 0; i--) {
        if (!p->b_step[i]) continue;
        b += at % p->batch[i] * p->b_step[i];
        at /= p->batch[i];
    }
    float *to = j->to + (matrix * j->panels * ENG_NR + col) * p->k;
    if (cols <= 0) return;
    eng_gemm_pack(b, p->b_row, p->b_col, p->k, cols, to);
    if (j->factor != 1.0f)
        for (int64_t i = 0; i < eng_packed_floats(p->k, cols); i++) to[i] *= j->factor;
}

void eng_product_pack(const eng_product *p, float factor, float *packed, od_pool *pool)
{
    enum { GRAIN = 16384 }; /* floats of a part */
    pack_job j = {.p = p, .factor = factor, .to = packed, .panels = od_ceil_div(p->n, ENG_NR)};
    int64_t matrices = distinct(p);
    if (!matrices || !j.panels || !p->k) return;
    j.part = od_min_i64(j.panels, od_max_i64(1, GRAIN / (ENG_NR * p->k)));
    j.parts = od_ceil_div(j.panels, j.part);
    bool small = matrices * j.panels * ENG_NR * p->k < GRAIN;
    od_pool_for(small ? NULL : pool, matrices * j.parts, pack_part, &j);
}

/* What packed weights depend on beside the weights: no bytes between the members, since it is a key. */
typedef struct pack_form {
    int64_t k, n, b_row, b_col, batch_rank, batch[ENG_MAX_RANK], b_step[ENG_MAX_RANK];
    double factor;
} pack_form;

/* Are the rows of the weights of one matrix its rows? */
static bool rows_are_rows(const pack_form *f)
{
    return f->batch_rank == 0 && f->b_col == 1 && f->b_row == f->n;
}

static bool rows_are_columns(const pack_form *f)
{
    return f->batch_rank == 0 && f->b_row == 1 && f->b_col == f->k;
}

/* Some rows of B, to their places in its panels. */
static void pack_rows(const pack_form *f, const eng_pack_part *part, float *to)
{
    for (int64_t col = 0; col < f->n; col += ENG_NR) {
        eng_product p = {.k = part->count, .n = od_min_i64(ENG_NR, f->n - col), .b_row = f->b_row, .b_col = 1, .b = (const float *)part->bytes + col};
        eng_product_pack(&p, (float)f->factor, to + col * f->k + part->first * ENG_NR, NULL);
    }
}

static void pack_constant(const eng_tensor *w, const eng_pack_part *part, const void *arg, void *to)
{
    const pack_form *f = arg;
    eng_product p = {.k = f->k, .n = f->n, .b_row = f->b_row, .b_col = f->b_col, .batch_rank = (int)f->batch_rank, .b = part->bytes};
    memcpy(p.batch, f->batch, sizeof p.batch);
    memcpy(p.b_step, f->b_step, sizeof p.b_step);
    if (part->count < eng_pack_all(w).count && rows_are_rows(f)) {
        pack_rows(f, part, to);
        return;
    }
    if (part->count < eng_pack_all(w).count) {
        p.n = part->count;
        to = (float *)to + part->first * p.k;
    }
    if (w->dtype == ENG_FLOAT) {
        eng_product_pack(&p, (float)f->factor, to, NULL);
        return;
    }
    const uint16_t *half = part->bytes; /* 16 columns at a time, each widened where it lands */
    void (*widen)(const uint16_t *, float *, int64_t) = w->dtype == ENG_FLOAT16 ? eng_half_to_float : eng_bfloat_to_float;
    float *packed = to;
    int64_t matrices = distinct(&p);
    for (int64_t m = 0; m < matrices; m++) {
        int64_t from = 0, at = m;
        for (int i = p.batch_rank - 1; i >= 0; i--) {
            if (!p.b_step[i]) continue;
            from += at % p.batch[i] * p.b_step[i];
            at /= p.batch[i];
        }
        for (int64_t col = 0; col < p.n; col += ENG_NR)
            for (int64_t k = 0; k < p.k; k++, packed += ENG_NR)
                for (int64_t c = 0; c < od_min_i64(ENG_NR, p.n - col); c++) {
                    widen(half + from + k * p.b_row + (col + c) * p.b_col, packed + c, 1);
                    packed[c] *= (float)f->factor;
                }
    }
}

od_code eng_product_pack_constant(const eng_product *p, float factor, eng_graph *g, const eng_node *n, int input,
                                  const float **slot, od_status *st)
{
    pack_form f = {.k = p->k, .n = p->n, .b_row = p->b_row, .b_col = p->b_col, .batch_rank = p->batch_rank, .factor = (double)factor};
    int64_t floats = eng_product_packed_floats(p);
    if (floats == 0) return OD_OK;
    if (floats < 0) return od_fail(st, OD_NO_MEMORY, "no memory for packed weights");
    memcpy(f.batch, p->batch, (size_t)p->batch_rank * sizeof *f.batch);
    memcpy(f.b_step, p->b_step, (size_t)p->batch_rank * sizeof *f.b_step);
    const eng_tensor *w = eng_node_weights(g, n, input);
    int64_t unit = 0;
    if (w->rank == 2 && rows_are_rows(&f) && w->dims[0] == f.k) unit = w->dtype == ENG_FLOAT ? 1 : 0;
    else if (w->rank == 2 && rows_are_columns(&f) && w->dims[0] == f.n) unit = ENG_NR;
    return eng_model_pack(g, n, input, "product", &f, sizeof f, (size_t)floats * sizeof(float), unit, pack_constant, slot, st);
}

/* ---- products ------------------------------------------------------------------------------ */

typedef struct product_job {
    eng_product p;
    int64_t b_number[ENG_MAX_RANK]; /* packed matrices from one index of a batch axis to the next */
    int64_t block, blocks, split, splits; /* rows of a block, columns of a part */
    int64_t units, per_chunk;
    float *slots; /* rows of A made dense, where its columns are not */
} product_job;

/* Batch axes along which B stays and A, C and the residual just go on are more rows. */
static void fold_batches(eng_product *p)
{
    for (int i = p->batch_rank - 1; i >= 0; i--) {
        bool on = !p->b_step[i] && p->a_step[i] == p->m * p->a_row && p->c_step[i] == p->m * p->c_row;
        if (!on || (p->residual && p->add_step[i] != p->m * p->add_row)) return;
        p->m *= p->batch[i];
        p->batch_rank--;
    }
}

bool eng_product_rows(const eng_product *whole, eng_gemm *g)
{
    eng_product p = *whole;
    fold_batches(&p);
    if (!p.packed || p.batch_rank || (p.a_col != 1 && p.k != 1)) return false;
    *g = (eng_gemm){.m = p.m, .n = p.n, .segments = 1, .length = p.k, .a = p.a, .lda = p.a_row, .b = p.packed, .bias = p.bias,
                    .scale = p.scale, .c = p.c, .ldc = p.c_row, .act = p.act, .alpha = p.alpha, .beta = p.beta,
                    .residual = p.residual, .add = p.add, .ld_add = p.add_row};
    return true;
}

static void run_unit(const product_job *j, int64_t unit, int slot)
{
    const eng_product *p = &j->p;
    int64_t col = unit % j->splits * j->split, rest = unit / j->splits, row = rest % j->blocks * j->block;
    int64_t at = rest / j->blocks, matrix = 0;
    const float *a = p->a + row * p->a_row, *add = p->residual ? p->add + row * p->add_row + col : NULL;
    float *c = p->c + row * p->c_row + col;
    for (int i = p->batch_rank - 1; i >= 0; i--) {
        int64_t x = at % p->batch[i];
        at /= p->batch[i];
        a += x * p->a_step[i];
        c += x * p->c_step[i];
        matrix += x * j->b_number[i];
        if (add) add += x * p->add_step[i];
    }
    eng_gemm g = {.m = od_min_i64(j->block, p->m - row), .n = od_min_i64(j->split, p->n - col), .segments = 1,
                  .length = p->k, .a = a, .lda = p->a_row, .c = c, .ldc = p->c_row, .act = p->act, .alpha = p->alpha,
                  .beta = p->beta, .residual = p->residual, .add = add, .ld_add = p->add_row};
    g.b = p->packed + (matrix * od_ceil_div(p->n, ENG_NR) * ENG_NR + col) * p->k;
    g.bias = p->bias ? p->bias + col : NULL;
    g.scale = p->scale ? p->scale + col : NULL;
    if (j->slots) {
        float *dense = j->slots + slot * j->block * p->k;
        for (int64_t k = 0; k < p->k; k++)
            for (int64_t i = 0; i < g.m; i++) dense[i * p->k + k] = a[i * p->a_row + k * p->a_col];
        g.a = dense;
        g.lda = p->k;
    }
    eng_kernels_get()->gemm_f32(&g);
}

static void run_units(void *arg, int64_t chunk, int slot)
{
    const product_job *j = arg;
    int64_t end = od_min_i64((chunk + 1) * j->per_chunk, j->units);
    for (int64_t u = chunk * j->per_chunk; u < end; u++) run_unit(j, u, slot);
}

/* ---- few rows: B is read as it lies, since packing it would take longer than the product ---------------- */

enum { FLAT_ROWS = 4, FLAT_COLS = 512 };

static bool is_flat(const eng_product *p)
{
    return !p->packed && p->m <= FLAT_ROWS && (p->a_col == 1 || p->k == 1) && (p->b_col == 1 || p->b_row == 1);
}

/* Unit = some columns of a matrix. */
static void flat_unit(const product_job *j, int64_t unit)
{
    const eng_product *p = &j->p;
    const eng_elementwise *row = eng_elementwise_table();
    int64_t col = unit % j->splits * j->split, at = unit / j->splits, n = od_min_i64(j->split, p->n - col);
    int64_t a_at = 0, b_at = col * p->b_col, c_at = col, add_at = col;
    for (int i = p->batch_rank - 1; i >= 0; i--) {
        int64_t x = at % p->batch[i];
        at /= p->batch[i];
        a_at += x * p->a_step[i];
        b_at += x * p->b_step[i];
        c_at += x * p->c_step[i];
        add_at += x * p->add_step[i];
    }
    for (int64_t i = 0; i < p->m; i++) {
        const float *a = p->a + a_at + i * p->a_row, *b = p->b + b_at, *add = p->residual ? p->add + add_at + i * p->add_row : NULL;
        float *c = p->c + c_at + i * p->c_row;
        for (int64_t x = 0; x < n; x++) c[x] = p->bias ? p->bias[col + x] : 0.0f;
        if (p->b_col == 1) row->combine(c, a, p->k, b, p->b_row, n);
        else for (int64_t x = 0; x < n; x++) c[x] += row->dot(a, b + x * p->b_col, p->k);
        for (int64_t x = 0; p->scale && x < n; x++) c[x] *= p->scale[col + x];
        if (p->residual == ENG_RES_BEFORE_ACT) row->bin[ENG_BIN_ADD](c, 1, c, 1, add, 1, n);
        if (p->act) eng_kernels_get()->act_f32(p->act, p->alpha, p->beta, c, c, n);
        if (p->residual == ENG_RES_AFTER_ACT) row->bin[ENG_BIN_ADD](c, 1, c, 1, add, 1, n);
    }
}

static void flat_units(void *arg, int64_t chunk, int slot)
{
    const product_job *j = arg;
    int64_t end = od_min_i64((chunk + 1) * j->per_chunk, j->units);
    (void)slot;
    for (int64_t u = chunk * j->per_chunk; u < end; u++) flat_unit(j, u);
}

static void run_flat(product_job *j, od_pool *pool)
{
    enum { GRAIN = 1 << 15 };
    const eng_product *p = &j->p;
    j->split = FLAT_COLS;
    j->units = j->splits = od_ceil_div(p->n, j->split);
    for (int i = 0; i < p->batch_rank; i++) j->units *= p->batch[i];
    j->per_chunk = od_max_i64(1, GRAIN / od_max_i64(1, p->m * od_min_i64(p->n, j->split) * p->k));
    int64_t chunks = od_ceil_div(j->units, j->per_chunk);
    od_pool_for(chunks > 1 ? pool : NULL, chunks, flat_units, j);
}

/* Blocks of rows, and where these are few, parts of the columns, so that all threads find work. */
static void cut(product_job *j)
{
    enum { BLOCK = 96, BLOCK_LEAST = 24, WANTED = 16, GRAIN = 1 << 16 };
    const eng_product *p = &j->p;
    int64_t batches = 1, panels = od_ceil_div(p->n, ENG_NR);
    for (int i = 0; i < p->batch_rank; i++) batches *= p->batch[i];
    j->block = BLOCK;
    while (j->block > BLOCK_LEAST && batches * od_ceil_div(p->m, j->block) < WANTED) j->block -= BLOCK_LEAST;
    j->block = od_min_i64(j->block, p->m);
    j->blocks = od_ceil_div(p->m, j->block);
    j->splits = od_max_i64(1, od_min_i64(panels, od_ceil_div(WANTED, od_max_i64(1, batches * j->blocks))));
    j->split = od_ceil_div(panels, j->splits) * ENG_NR;
    int64_t work = j->block * j->split * od_max_i64(p->k, 1);
    if (work < GRAIN) { /* little work: no parts */
        j->split = panels * ENG_NR;
        work = j->block * j->split * od_max_i64(p->k, 1);
    }
    j->splits = od_ceil_div(panels * ENG_NR, j->split);
    j->units = batches * j->blocks * j->splits;
    j->per_chunk = od_max_i64(1, GRAIN / work);
}

od_code eng_product_run(const eng_product *p, od_arena *scratch, od_pool *pool, od_status *st)
{
    product_job j = {.p = *p};
    if (!p->m || !p->n) return OD_OK;
    for (int i = 0; i < p->batch_rank; i++)
        if (!p->batch[i]) return OD_OK;
    if (is_flat(p)) {
        run_flat(&j, pool);
        return OD_OK;
    }
    if (!p->packed) {
        int64_t floats = eng_product_packed_floats(p);
        float *to = od_arena_alloc(scratch, floats < 0 ? SIZE_MAX / 2 : (size_t)floats * sizeof(float));
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to pack %" PRId64 "x%" PRId64 " matrices", p->k, p->n);
        eng_product_pack(p, 1.0f, to, pool);
        j.p.packed = to;
    }
    eng_gemm g;
    if (eng_product_rows(&j.p, &g)) {
        eng_gemm_parallel(&g, scratch, pool);
        return OD_OK;
    }
    fold_batches(&j.p);
    int64_t number = 1;
    for (int i = j.p.batch_rank - 1; i >= 0; i--) {
        if (!j.p.b_step[i]) continue;
        j.b_number[i] = number;
        number *= j.p.batch[i];
    }
    cut(&j);
    if (p->a_col != 1 && p->k > 1) {
        size_t bytes;
        bool fits = od_mul((size_t)(j.block * p->k), sizeof(float) * (size_t)od_pool_slots(pool), &bytes);
        j.slots = fits ? od_arena_alloc(scratch, bytes) : NULL;
        if (!j.slots) return od_fail(st, OD_NO_MEMORY, "no memory for rows of %" PRId64 " numbers", p->k);
    }
    int64_t chunks = od_ceil_div(j.units, j.per_chunk);
    od_pool_for(chunks > 1 ? pool : NULL, chunks, run_units, &j);
    return OD_OK;
}

/* ---- other types --------------------------------------------------------------------------- */

typedef void plain_rows(const eng_product *p, int64_t row, int64_t rows, const void *a, const void *b, void *c);

/* Rows of the inner loop run along C when B's columns are dense, else along k. */
#define PLAIN(NAME, T, SUM)                                                                                   \
    static void NAME(const eng_product *p, int64_t row, int64_t rows, const void *pa, const void *pb, void *pc) \
    {                                                                                                         \
        for (int64_t i = row; i < row + rows; i++) {                                                          \
            const T *a = (const T *)pa + i * p->a_row;                                                        \
            T *c = (T *)pc + i * p->c_row;                                                                    \
            for (int64_t j = 0; j < p->n; j++) c[j] = 0;                                                      \
            for (int64_t k = 0; k < p->k; k++) {                                                              \
                const T *b = (const T *)pb + k * p->b_row;                                                    \
                SUM x = (SUM)a[k * p->a_col];                                                                 \
                for (int64_t j = 0; j < p->n; j++) c[j] = (T)((SUM)c[j] + x * (SUM)b[j * p->b_col]);          \
            }                                                                                                 \
        }                                                                                                     \
    }
PLAIN(rows_double, double, double)
PLAIN(rows_32, int32_t, uint32_t)
PLAIN(rows_64, int64_t, uint64_t)

typedef struct plain_job {
    const eng_product *p;
    plain_rows *fn;
    int64_t size, rows; /* bytes of an element; of C in all */
    int64_t chunks;
} plain_job;

static void run_plain(void *arg, int64_t chunk, int slot)
{
    const plain_job *j = arg;
    const eng_product *p = j->p;
    (void)slot;
    int64_t from = j->rows * chunk / j->chunks, to = j->rows * (chunk + 1) / j->chunks;
    while (from < to) {
        int64_t row = from % p->m, rows = od_min_i64(p->m - row, to - from), at = from / p->m;
        int64_t a = 0, b = 0, c = 0;
        for (int i = p->batch_rank - 1; i >= 0; i--) {
            int64_t x = at % p->batch[i];
            at /= p->batch[i];
            a += x * p->a_step[i];
            b += x * p->b_step[i];
            c += x * p->c_step[i];
        }
        j->fn(p, row, rows, (const char *)(const void *)p->a + a * j->size, (const char *)(const void *)p->b + b * j->size,
              (char *)(void *)p->c + c * j->size);
        from += rows;
    }
}

od_code eng_product_plain(const eng_product *p, eng_dtype type, od_pool *pool, od_status *st)
{
    plain_job j = {.p = p, .size = (int64_t)eng_dtype_size(type), .rows = p->m};
    switch (type) {
    case ENG_DOUBLE: j.fn = rows_double; break;
    case ENG_INT32:
    case ENG_UINT32: j.fn = rows_32; break;
    case ENG_INT64:
    case ENG_UINT64: j.fn = rows_64; break;
    default: return od_fail(st, OD_BAD_TYPE, "matrices of %s", eng_dtype_name(type));
    }
    for (int i = 0; i < p->batch_rank; i++) j.rows *= p->batch[i];
    if (!j.rows || !p->n) return OD_OK;
    j.chunks = od_min_i64(j.rows, eng_chunks(j.rows * p->n * od_max_i64(p->k, 1), 1 << 15));
    od_pool_for(j.chunks > 1 ? pool : NULL, j.chunks, run_plain, &j);
    return OD_OK;
}
