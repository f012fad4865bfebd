/* kernels_strassen.h - large matrix products by seven multiplications of halves instead of eight (Strassen's method in
 * Winograd's form): a template for kernels_*.c, included by kernels_gemm.h.
 *
 * A group of rows is a tile of upper rows and one of lower ones, a pair of columns is a tile's width and the next,
 * and k is cut in two. With quadrants A11 .. A22 and B11 .. B22,
 *     S1 = A21 + A22   S2 = S1 - A11   S3 = A11 - A21   S4 = A12 - S2
 *     T1 = B12 - B11   T2 = B22 - T1   T3 = B22 - B12   T4 = B21 - T2
 *     C11 = A11 B11 + A12 B21          U = A11 B11 + S2 T2       V = U + S3 T3
 *     C12 = U + S1 T1 + S4 B22         C21 = V + A22 T4          C22 = V + S1 T1
 * All of it is done for one group and pair at a time (kernels_seven.h): C is written once, and A and B are read where they
 * lie, but for the sums. Those of a block of rows are made before it is multiplied, those of a pair of columns while the
 * block's first group is. Depths beyond ENG_WORK_DEPTH are done in parts, whose results wait in `waiting`. Rows that make
 * no group are multiplied plainly while B is near.
 *
 * Rounding errors of a row then depend on the row it is added to: where two differ in size by more than RATIO, or one
 * is not finite, their group is multiplied plainly, and so it is with columns. What is done to a group depends on its numbers alone,
 * so bits depend on cuts only if these part groups. */

enum {
    STR_ROWS = 2 * TILE_MAX,   /* of a group */
    STR_WIDEST = TILE_WIDE / 2 * 3, /* columns of a tile */
    STR_K_UNIT = 32,           /* that parts of k are a multiple of */
    STR_SUMS = VL == 16 ? ENG_WORK_SUMS : 40 << 10, /* other processors have a quarter of that cache */
};
_Static_assert(ENG_WORK_DEPTH % STR_K_UNIT == 0 && STR_K_UNIT % (2 * VL) == 0 && ENG_WORK_ROWS % STR_ROWS == 0, "uneven parts");

/* What has tiles of `wide` columns, half a pair. */
typedef struct str_tiles {
    int64_t wide;
    tile_fn *const *plain;
    void (*seven)(const str_seven *s);
    bool (*first)(const str_seven *s);
} str_tiles;

#if defined(__AVX512F__)
static const str_tiles str_two = {32, tiles_2, seven8_2, first8_2}, str_three = {48, tiles_3, seven8_3, first8_3};
#elif defined(__AVX2__)
static const str_tiles str_two = {16, tiles_2, seven6_2, first6_2};
#define str_three str_two
#else
static const str_tiles str_two = {16, tiles_4, seven6_4, first6_4};
#define str_three str_two
#endif

static inline const float *str_row(const eng_gemm *g, int64_t i)
{
    return g->rows ? g->rows[i] : g->a + i * g->lda;
}

/* Sums of the rows of a group, S1 .. S4 one after the other; false where they are better not used. */
static bool str_sum_rows(const eng_gemm *g, int64_t row, int64_t k, int64_t h, float *s)
{
    bool balanced = true;
    for (int r = 0; r < TILE_MAX; r++, s += h) {
        const float *up = str_row(g, row + r) + k, *low = str_row(g, row + TILE_MAX + r) + k;
        vf upper = v_zero(), lower = v_zero();
        for (int64_t i = 0; i < h; i += VL) {
            vf a11 = v_load(up + i), a12 = v_load(up + h + i), a21 = v_load(low + i), a22 = v_load(low + h + i);
            vf s1 = v_add(a21, a22), s2 = v_sub(s1, a11);
            v_store(s + i, s1);
            v_store(s + TILE_MAX * h + i, s2);
            v_store(s + 2 * TILE_MAX * h + i, v_sub(a11, a21));
            v_store(s + 3 * TILE_MAX * h + i, v_sub(a12, s2));
            upper = v_add(upper, v_add(v_abs(a11), v_abs(a12)));
            lower = v_add(lower, v_add(v_abs(a21), v_abs(a22)));
        }
        float u = v_sum(upper), l = v_sum(lower);
        balanced &= u * ENG_WORK_RATIO >= l && l * ENG_WORK_RATIO >= u && u + l < 1e30f; /* not with NaN */
    }
    return balanced;
}

/* All of `count` rows times a tile's columns of B, plainly. */
static void str_plain(const eng_gemm *g, int64_t row, int64_t count, int64_t k, int64_t length, const float *b, int64_t panel,
                      const str_tiles *tiles, const str_seven *s, const str_out *o)
{
    static const float zeros[STR_WIDEST];
    const int64_t wide = tiles->wide;
    const float *a[TILE_MAX];
    _Alignas(64) float t[TILE_MAX * STR_WIDEST + VL]; /* whole vectors are read */
    tile_end sum = {.cols = wide, .residual = s->ld_from ? ENG_RES_BEFORE_ACT : ENG_RES_NONE, .add = o->from, .ld_add = s->ld_from};
    for (int64_t r = 0; r < count; r++) a[r] = str_row(g, row + r) + k;
    if (count == 1) { /* whose sums would wait for each other in a tile */
        memcpy(t, o->from, (size_t)wide * sizeof *t);
        for (int64_t p = 0; p < wide / ENG_NR; p++) one_row(a[0], b + p * panel, length, t + p * ENG_NR);
    } else {
        tiles->plain[count](a, 0, 1, length, b, panel, b, s->ld_from ? zeros : o->from, t, wide, &sum, 1);
    }
    finish_tile((int)count, (int)wide, t, o->c, s->ldc, &o->end);
}

/* One part of k of a block of rows from .. to-1 and of some columns. */
typedef struct str_part {
    int64_t from, to, col, end, k, h;
    bool last;         /* of k */
    const float *next; /* panels that are used after it */
    const str_tiles *tiles;
    float *sums, *t;   /* of rows, and of columns */
    float *waiting;    /* sums of products that wait for the parts to come, [row][ENG_WORK_PART_COLS] */
} str_part;

/* Where the quadrants of C at `row`, `col` start and go, from `lower` rows on the lower ones. */
static void str_place(const eng_gemm *g, const str_part *part, int64_t row, int64_t col, int64_t lower, str_seven *s)
{
    static const float zeros[STR_WIDEST];
    for (int x = 0; x < 4; x++) {
        int64_t i = row + x / 2 * lower, j = col + x % 2 * part->tiles->wide;
        float *waiting = part->waiting + (i - part->from) * ENG_WORK_PART_COLS + j - part->col;
        str_out *o = &s->out[x];
        o->from = part->k ? waiting : g->bias ? g->bias + j : zeros;
        o->c = part->last ? g->c + i * g->ldc + j : waiting;
        if (o->end.residual) o->end.add = g->add + i * g->ld_add + j;
        if (part->last && g->scale) o->end.scale = g->scale + j;
    }
}

/* The factors of a group of rows. Groups behind the first, which has enough to wait for, fetch the next panels, each half
 * of one during some product. */
static void str_factor(const eng_gemm *g, int64_t row, const str_part *part, const float *sums, const float *next, str_seven *s)
{
    const int64_t halves = 4 * part->tiles->wide / ENG_NR, h = part->h, panel = g->depth * ENG_NR, number = (row - part->from) / STR_ROWS;
    const int64_t step = od_max_i64(1, 7 * ((part->to - part->from) / STR_ROWS - 1) / halves);
    for (int64_t x = 0; x < 7; x++) {
        int64_t at = 7 * (number - 1) + x, half = at / step;
        bool fetch = next && number && at % step == 0 && half < halves;
        s->factors[x].ahead = fetch ? next + half / 2 * panel + half % 2 * h * ENG_NR : s->factors[x].b;
    }
    for (int r = 0; r < TILE_MAX; r++) {
        const float *up = str_row(g, row + r) + part->k, *low = str_row(g, row + TILE_MAX + r) + part->k;
        s->factors[STR_A11].rows[r] = up;
        s->factors[STR_A12].rows[r] = up + h;
        s->factors[STR_A22].rows[r] = low + h;
        s->factors[STR_S1].rows[r] = sums + r * h;
        s->factors[STR_S2].rows[r] = sums + (TILE_MAX + r) * h;
        s->factors[STR_S3].rows[r] = sums + (2 * TILE_MAX + r) * h;
        s->factors[STR_S4].rows[r] = sums + (3 * TILE_MAX + r) * h;
    }
}

/* Groups of rows, then those that make no group. */
static void str_block(const eng_gemm *g, const str_part *part)
{
    enum { NEW, MADE, UNEVEN } columns;
    const int64_t k = part->k, h = part->h, groups = (part->to - part->from) / STR_ROWS, rest = part->from + groups * STR_ROWS;
    const int64_t panel = g->depth * ENG_NR, wide = part->tiles->wide;
    bool balanced[ENG_WORK_BLOCK / STR_ROWS];
    float *sums = part->sums;
    str_seven s = {.length = h, .ldc = part->last ? g->ldc : ENG_WORK_PART_COLS, .ld_from = k ? ENG_WORK_PART_COLS : 0};
    for (int i = 0; i < 4; i++) {
        s.t[i] = part->t + i * h * wide;
        s.out[i].end = part->last ? end_of(g) : (tile_end){0};
        s.out[i].end.cols = wide;
    }
    s.factors[STR_A11].panel = s.factors[STR_A12].panel = s.factors[STR_S4].panel = panel;
    s.factors[STR_S1].panel = s.factors[STR_S2].panel = s.factors[STR_S3].panel = s.factors[STR_A22].panel = h * ENG_NR;
    s.factors[STR_S1].b = s.t[0], s.factors[STR_S2].b = s.t[1], s.factors[STR_S3].b = s.t[2], s.factors[STR_A22].b = s.t[3];
    for (int64_t i = 0; i < groups; i++) balanced[i] = str_sum_rows(g, part->from + i * STR_ROWS, k, h, sums + i * STR_ROWS * 2 * h);
    for (int64_t j = part->col; j < part->end; j += 2 * wide) {
        const float *left = g->b + j * g->depth + k * ENG_NR, *right = left + wide * g->depth;
        const float *next = j + 2 * wide < part->end ? left + 2 * wide * g->depth : part->next;
        s.factors[STR_A11].b = left, s.factors[STR_A12].b = left + h * ENG_NR;
        s.b12 = right, s.factors[STR_S4].b = right + h * ENG_NR;
        columns = NEW;
        for (int64_t i = 0; i < groups; i++) {
            const int64_t row = part->from + i * STR_ROWS;
            str_place(g, part, row, j, TILE_MAX, &s);
            if (balanced[i] && columns != UNEVEN) {
                str_factor(g, row, part, sums + i * STR_ROWS * 2 * h, next, &s);
                if (columns == MADE) part->tiles->seven(&s);
                else columns = part->tiles->first(&s) ? MADE : UNEVEN;
            }
            if (!balanced[i] || columns == UNEVEN)
                for (int x = 0; x < 4; x++)
                    str_plain(g, row + x / 2 * TILE_MAX, TILE_MAX, k, 2 * h, x % 2 ? right : left, panel, part->tiles, &s, &s.out[x]);
        }
        for (int64_t i = rest, rows; i < part->to; i += rows) {
            rows = od_ceil_div(part->to - i, part->to - i > TILE_MAX ? 2 : 1);
            str_place(g, part, i, j, 0, &s);
            for (int x = 0; x < 2; x++) str_plain(g, i, rows, k, 2 * h, x ? right : left, panel, part->tiles, &s, &s.out[x]);
        }
    }
}

static void strassen(const eng_gemm *g, tile_end *e)
{
    const int64_t units = g->depth / STR_K_UNIT, n_parts = od_ceil_div(g->depth, ENG_WORK_DEPTH), whole = od_ceil_div(units, n_parts) * STR_K_UNIT;
    const str_tiles *tiles = (g->work_cols ? g->work_cols : eng_gemm_work_cols(g)) > ENG_WORK_COLS ? &str_three : &str_two;
    const int64_t pair = 2 * tiles->wide, groups = g->m / STR_ROWS, cols = g->n / pair * pair;
    const int64_t width = n_parts > 1 ? ENG_WORK_PART_COLS / pair * pair : cols;
    int64_t block = od_min_i64(ENG_WORK_BLOCK, STR_SUMS / whole) / STR_ROWS;
    if (n_parts > 1) block = od_min_i64(block, ENG_WORK_PART_ROWS / STR_ROWS - 1); /* with rows that make no group */
    const int64_t blocks = od_max_i64(od_ceil_div(groups, block), 1);
    float *t = g->work + od_min_i64(block, groups) * STR_ROWS * whole, *waiting = t + pair * whole;
    eng_gemm rest = eng_gemm_part(g, 0, g->m, cols, g->n - cols);
    for (int64_t b = 0; b < blocks; b++) {
        str_part p = {.from = groups * b / blocks * STR_ROWS, .sums = g->work, .t = t, .waiting = waiting, .tiles = tiles};
        p.to = b + 1 < blocks ? groups * (b + 1) / blocks * STR_ROWS : g->m;
        for (p.col = 0; p.col < cols; p.col += width)
            for (int64_t i = 0; i < n_parts; i++) {
                int64_t stop = units * (i + 1) / n_parts * STR_K_UNIT;
                p.k = units * i / n_parts * STR_K_UNIT;
                p.h = (stop - p.k) / 2;
                p.last = i + 1 == n_parts;
                p.end = od_min_i64(p.col + width, cols);
                p.next = i + 1 < n_parts ? g->b + p.col * g->depth + stop * ENG_NR
                         : p.col + width < cols ? g->b + (p.col + width) * g->depth : NULL;
                str_block(g, &p);
            }
        if (cols < g->n) gemm_block(&rest, p.from, p.to, e);
    }
}
