/* kernels_gemm.h - the matrix product of one thread: a template for kernels_*.c, after kernels_rows.h.
 * Tiles: 6 x 16 with 8-float registers (12 accumulators of 16) and with 4-float ones (24 of 32), 8 x 32
 * with 16-float ones (16 of 32). Columns that are left over take a narrower one, of a vector, or of one or
 * three half ones. */

#include <string.h>

typedef void tile_fn(const float *const *rows, int64_t stride, int64_t segments, int64_t length, const float *b, int64_t panel,
                     const float *ahead, const float *bias, float *c, int64_t ldc, const tile_end *e, int64_t count);

enum {
    TILE_MAX = VL == 16 ? 8 : 6,   /* rows */
    TILE_WIDE = VL == 16 ? 32 : 16 /* columns */
};

#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define ROWS_7(X) ROWS_6(X) X(6)
#define ROWS_8(X) ROWS_7(X) X(7)

/* Factors of the seven products of kernels_strassen.h in the order of use, by that of the rows: quadrants of A or sums of them. */
enum { STR_A11, STR_S2, STR_S3, STR_A22, STR_A12, STR_S1, STR_S4 };

typedef struct str_factors {
    const float *rows[TILE_MAX], *b, *ahead;
    int64_t panel; /* floats from a panel of b to the next */
} str_factors;

/* What a quadrant of C starts from, a bias or sums of earlier depths, and where it goes. */
typedef struct str_out {
    const float *from;
    float *c;
    tile_end end;
} str_out;

typedef struct str_seven {
    str_factors factors[7];
    str_out out[4];           /* C11, C12, C21, C22 */
    int64_t length, ldc, ld_from; /* half of k; 0: `from` is a row */
    const float *b12;
    float *t[4]; /* the sums of columns */
} str_seven;

/* Columns of these sizes are better not added up: they differ much, or are not finite. */
static inline bool str_uneven(vf left, vf right)
{
    const vf ratio = VM(ENG_WORK_RATIO), sum = v_add(left, right);
    return v_any(v_or(v_or(v_less(v_mul(left, ratio), right), v_less(v_mul(right, ratio), left)),
                      v_or(v_is_nan(sum), v_less(VM(1e30f), sum))));
}

#if defined(__AVX512F__)
#define TILE_ROWS_MAX 8
#define TILE_ROWS(X) ROWS_8(X)
#define TILE_HALF 1
#define TILE_NV 1
#define TILE_TAG 1h
#include "engine/kernels/kernels_tile.h"
#undef TILE_NV
#undef TILE_TAG
#define TILE_NV 3
#define TILE_TAG 3h
#include "engine/kernels/kernels_tile.h"
#undef TILE_HALF
#undef TILE_NV
#undef TILE_TAG
#define TILE_HALF 0
#define TILE_NV 1
#define TILE_TAG 1
#include "engine/kernels/kernels_tile.h"
#undef TILE_NV
#undef TILE_TAG
#define TILE_NV 2
#define TILE_TAG 2
#define TILE_SEVEN
#include "engine/kernels/kernels_tile.h"
#undef TILE_NV
#undef TILE_TAG
#define TILE_NV 3
#define TILE_TAG 3
#include "engine/kernels/kernels_tile.h"
static inline tile_fn *tile_for(int64_t rows, int64_t cols)
{
    return cols > 24 ? tiles_2[rows] : cols > 16 ? tiles_3h[rows] : cols > 8 ? tiles_1[rows] : tiles_1h[rows];
}
#elif defined(__AVX2__)
#define TILE_ROWS_MAX 6
#define TILE_ROWS(X) ROWS_6(X)
#define TILE_HALF 0
#define TILE_NV 1
#define TILE_TAG 1
#include "engine/kernels/kernels_tile.h"
#undef TILE_NV
#undef TILE_TAG
#define TILE_NV 2
#define TILE_TAG 2
#define TILE_SEVEN
#include "engine/kernels/kernels_tile.h"
static inline tile_fn *tile_for(int64_t rows, int64_t cols) { return cols > 8 ? tiles_2[rows] : tiles_1[rows]; }
#else
#define TILE_ROWS_MAX 6
#define TILE_ROWS(X) ROWS_6(X)
#define TILE_HALF 0
#define TILE_NV 4
#define TILE_TAG 4
#define TILE_SEVEN
#include "engine/kernels/kernels_tile.h"
static inline tile_fn *tile_for(int64_t rows, int64_t cols) { return (void)cols, tiles_4[rows]; }
#endif

/* One row by one panel: four sums, since one would wait for itself, over memory read in one stream. */
static void one_row(const float *a, const float *b, int64_t k, float *sum)
{
    vf c[4][ENG_NR / VL];
    for (int u = 0; u < 4; u++)
        for (int v = 0; v < ENG_NR / VL; v++) c[u][v] = v_zero();
    int64_t i = 0;
    for (; i + 4 <= k; i += 4, b += 4 * ENG_NR)
        for (int u = 0; u < 4; u++)
            for (int v = 0; v < ENG_NR / VL; v++)
                c[u][v] = v_fma(v_spread(a + i + u), v_load(b + u * ENG_NR + v * VL), c[u][v]);
    for (; i < k; i++, b += ENG_NR)
        for (int v = 0; v < ENG_NR / VL; v++) c[0][v] = v_fma(v_spread(a + i), v_load(b + v * VL), c[0][v]);
    for (int v = 0; v < ENG_NR / VL; v++)
        v_store(sum + v * VL, v_add(v_load(sum + v * VL), v_add(v_add(c[0][v], c[1][v]), v_add(c[2][v], c[3][v]))));
}

static void gemm_row(const eng_gemm *g, tile_end *e)
{
    for (int64_t j = 0; j < g->n; j += ENG_NR) {
        float sum[ENG_NR] = {0};
        e->cols = od_min_i64(ENG_NR, g->n - j);
        for (int64_t x = 0; g->bias && x < e->cols; x++) sum[x] = g->bias[j + x];
        for (int64_t s = 0; s < g->segments; s++)
            one_row(g->rows ? g->rows[s * g->ld_rows] : g->a, g->b + j * g->depth + (g->places ? g->places[s] : s * g->length * ENG_NR),
                    g->length, sum);
        e->add = g->add ? g->add + j : NULL;
        e->scale = g->scale ? g->scale + j : NULL;
        finish_tile(1, ENG_NR, sum, g->c + j, g->ldc, e);
    }
}

/* Few columns: sixteen lanes of a panel would mostly be padding, so sums run along the rows instead. Whether a
 * column comes here must not depend on how a product was cut, which happens at multiples of NARROW_AT. */
enum { NARROW_COLS = 4, NARROW_AT = 2 * ENG_NR, NARROW_DEPTH = 2048 };

static inline bool is_narrow(const eng_gemm *g, int64_t j)
{
    const int64_t cols = g->n - j, k = g->segments * g->length;
    if (j % NARROW_AT || cols > NARROW_COLS || g->offsets || k > NARROW_DEPTH) return false;
    /* cycles a row: adding up the lanes takes ten or so, a tile one a step */
    return cols * (g->segments * od_ceil_div(g->length, ENG_NR) + 10) < k;
}

static void gemm_narrow(const eng_gemm *g, int64_t from, int64_t to, int64_t j, tile_end *e)
{
    enum { ROWS = 4 };
    float w[NARROW_COLS][NARROW_DEPTH], t[ROWS * VL] = {0};
    const float *panel = g->b + j * g->depth;
    e->cols = g->n - j;
    for (int64_t s = 0; s < g->segments; s++) {
        const float *b = panel + (g->places ? g->places[s] : s * g->length * ENG_NR);
        for (int64_t i = 0; i < g->length; i++)
            for (int64_t c = 0; c < e->cols; c++) w[c][s * g->length + i] = b[i * ENG_NR + c];
    }
    for (int64_t i = from; i < to; i += ROWS) {
        int rows = (int)od_min_i64(ROWS, to - i);
        for (int64_t c = 0; c < e->cols; c++) {
            vf sum[ROWS] = {v_zero(), v_zero(), v_zero(), v_zero()};
            for (int64_t s = 0; s < g->segments; s++) {
                const float *a[ROWS], *b = w[c] + s * g->length;
                int64_t x = 0;
                for (int r = 0; r < ROWS; r++) {
                    int64_t row = i + (r < rows ? r : 0);
                    a[r] = g->rows ? g->rows[s * g->ld_rows + row] : g->a + row * g->lda;
                }
                for (; x + VL <= g->length; x += VL) {
                    vf k = v_load(b + x);
#pragma GCC unroll 4
                    for (int r = 0; r < ROWS; r++) sum[r] = v_fma(v_load(a[r] + x), k, sum[r]);
                }
                vpart part = v_first(g->length - x);
                for (int r = 0; x < g->length && r < ROWS; r++)
                    sum[r] = v_fma(v_load_part(a[r] + x, part), v_load_part(b + x, part), sum[r]);
            }
            for (int r = 0; r < rows; r++) t[r * VL + c] = v_sum(sum[r]) + (g->bias ? g->bias[j + c] : 0.0f);
        }
        e->add = g->add ? g->add + i * g->ld_add + j : NULL;
        e->scale = g->scale ? g->scale + j : NULL;
        finish_tile(rows, VL, t, g->c + i * g->ldc + j, g->ldc, e);
    }
}

/* Rows of a block: as many as a third of a common second-level cache holds of A. B then passes through
 * once a block, from wherever it lies, at less than two bytes a cycle. */
enum { BLOCK_MOST = 384 };

static int64_t rows_of_block(int64_t k)
{
    enum { BYTES = 192 << 10, FEWEST = 4 * TILE_MAX };
    int64_t rows = BYTES / 4 / od_max_i64(k, 1);
    return rows < FEWEST ? FEWEST : rows > BLOCK_MOST ? BLOCK_MOST : rows;
}

/* The rows of a tile without the segments that all of them lack. */
typedef struct tile_rows {
    const float *rows[ENG_PRESENT_MAX * TILE_MAX];
    int64_t places[ENG_PRESENT_MAX], segments;
} tile_rows;

static bool lacks_segments(const eng_gemm *g, int64_t i, int64_t rows, tile_rows *t)
{
    uint64_t present = 0;
    for (int64_t r = 0; r < rows; r++) present |= g->present[i + r];
    if (present == UINT64_MAX >> (64 - g->segments)) return false;
    t->segments = 0;
    for (int64_t s = 0; s < g->segments; s++) {
        if (!(present >> s & 1)) continue;
        for (int64_t r = 0; r < rows; r++) t->rows[t->segments * TILE_MAX + r] = g->rows[s * g->ld_rows + i + r];
        t->places[t->segments++] = g->places ? g->places[s] : s * g->length * ENG_NR;
    }
    return true;
}

/* Tiles of nearly equal height: one row less still keeps the FMA pipes full, one row alone does not. The first tiles
 * share the panels that come next, to fetch them: otherwise the first tile there would wait. */
static void gemm_block(const eng_gemm *g, int64_t from, int64_t to, tile_end *e)
{
    enum { FETCHING = TILE_WIDE / ENG_NR };
    const int64_t k = g->depth, panel = k * ENG_NR;
    const float *dense[BLOCK_MOST];
    for (; to - from > BLOCK_MOST; from += BLOCK_MOST) gemm_block(g, from, from + BLOCK_MOST, e);
    for (int64_t i = from; !g->rows && i < to; i++) dense[i - from] = g->a + i * g->lda;
    for (int64_t j = 0; j < g->n; j += TILE_WIDE) {
        float bias[TILE_WIDE] = {0};
        if (is_narrow(g, j)) {
            gemm_narrow(g, from, to, j, e);
            return;
        }
        const float *b = g->b + j * k, *next = j + TILE_WIDE < g->n ? b + TILE_WIDE * k : g->ahead;
        e->cols = od_min_i64(TILE_WIDE, g->n - j);
        e->scale = g->scale ? g->scale + j : NULL;
        if (g->bias)
            for (int64_t x = 0; x < e->cols; x++) bias[x] = g->bias[j + x];
        int64_t i = from;
        const int64_t tiles = od_ceil_div(to - from, TILE_MAX);
        for (int64_t left = tiles, count; left > 0; left -= count) {
            const int64_t rows = od_ceil_div(to - i, left), number = tiles - left, equal = to - i - left * (rows - 1);
            const bool fetches = next && number < FETCHING;
            tile_rows some;
            bool lacks = g->present && lacks_segments(g, i, rows, &some);
            count = fetches || g->present || g->residual ? 1 : equal;
            e->places = lacks ? some.places : g->places;
            e->add = g->add ? g->add + i * g->ld_add + j : NULL;
            tile_for(rows, e->cols)(lacks ? some.rows : g->rows ? g->rows + i : dense + (i - from), lacks ? TILE_MAX : g->ld_rows,
                                    lacks ? some.segments : g->segments, g->length, b, panel, fetches ? next + number * panel : b, bias,
                                    g->c + i * g->ldc + j, g->ldc, e, count);
            i += rows * count;
        }
    }
}

#include "engine/kernels/kernels_strassen.h"

static void gemm(const eng_gemm *g)
{
    tile_end e = end_of(g);
    eng_gemm own = *g;
    if (!own.ld_rows) own.ld_rows = own.m;
    if (!own.depth) own.depth = own.segments * own.length;
    if (g->work) {
        strassen(&own, &e);
        return;
    }
    if (g->m == 1 && !g->offsets) {
        gemm_row(&own, &e);
        return;
    }
    int64_t blocks = od_ceil_div(g->m, rows_of_block(g->segments * g->length));
    for (int64_t i = 0; blocks > 0; blocks--) {
        int64_t to = i + od_ceil_div(g->m - i, blocks);
        gemm_block(&own, i, to, &e);
        i = to;
    }
}
