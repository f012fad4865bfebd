/* kernels_strassen.h - large matrix products by seven multiplications of halves instead of eight (Strassen's method in
 * Winograd's form): a template for kernels_*.c, included by kernels_gemm.h.
 *
 * A group of rows is a tile of upper rows and one of lower ones, a pair of columns is a tile's width and the next,
 * and k is cut in two. With quadrants A11 .. A22 and B11 .. B22,
 *     S1 = A21 + A22   S2 = S1 - A11   S3 = A11 - A21   S4 = A12 - S2
 *     T1 = B12 - B11   T2 = B22 - T1   T3 = B22 - B12   T4 = B21 - T2
 *     C11 = A11 B11 + A12 B21          U = A11 B11 + S2 T2       V = U + S3 T3
 *     C12 = U + S1 T1 + S4 B22         C21 = V + A22 T4          C22 = V + S1 T1
 * All of it is done for one group and pair at a time, on tiles that stay in the first-level cache, so C is written
 * once and A12, A22 and B are read where they lie. The sums of a block of rows are made once, those of a pair of columns
 * once a block of rows. Depths beyond K_MAX are done in parts, whose results wait in `parts`.
 *
 * Rounding errors of a row then depend on the row it is added to: where two differ in size by more than RATIO, or one
 * is not finite, their group is multiplied plainly, and so it is with columns. What is done to a group depends on its numbers alone,
 * so bits depend on cuts only if these part groups. */

enum {
    STR_ROWS = 2 * TILE_MAX,   /* of a group */
    STR_COLS = 2 * TILE_WIDE,  /* of a pair */
    STR_TILE = TILE_MAX * TILE_WIDE,
    STR_K_MAX = 768,           /* of a part of k */
    STR_K_UNIT = 32,           /* that parts are a multiple of */
    /* of sums of rows: bounds a block, which with its sums should stay in the second-level cache: that of processors
     * with AVX-512 has a megabyte at least */
    STR_A_FLOATS = (VL == 16 ? 72 : 40) << 10,
    STR_B_FLOATS = 2 * STR_K_MAX * TILE_WIDE,
    STR_PART_ROWS = 192,       /* of a block, and columns at a time, where there are parts of k */
    STR_PART_COLS = 512,
};
_Static_assert(STR_A_FLOATS + STR_B_FLOATS + STR_PART_ROWS * STR_PART_COLS <= ENG_WORK_FLOATS, "the work area is too small");
_Static_assert(STR_K_MAX % STR_K_UNIT == 0 && STR_K_UNIT % (2 * VL) == 0 && ENG_WORK_ROWS % STR_ROWS == 0, "uneven parts");

/* One part of k for one pair of columns. */
typedef struct str_columns {
    const float *b[2][2]; /* quadrants: [half of k][half of the columns] */
    const float *next;    /* the panels that come after these, to fetch, or NULL */
    float *t[4];
    int64_t h, panel;     /* half of k; floats from one panel of B to the next */
    bool balanced;
} str_columns;

static inline const float *str_row(const eng_gemm *g, int64_t i)
{
    return g->rows ? g->rows[i] : g->a + i * g->lda;
}

static void str_sum_columns(str_columns *c)
{
    enum { NV = ENG_NR / VL };
    const vf ratio = VM(ENG_WORK_RATIO), large = VM(1e30f);
    c->balanced = true;
    for (int64_t p = 0; p < TILE_WIDE / ENG_NR; p++) {
        const float *b11 = c->b[0][0] + p * c->panel, *b12 = c->b[0][1] + p * c->panel, *b21 = c->b[1][0] + p * c->panel,
                    *b22 = c->b[1][1] + p * c->panel;
        int64_t at = p * c->h * ENG_NR;
        vf left[NV], right[NV];
        for (int v = 0; v < NV; v++) left[v] = right[v] = v_zero();
        for (int64_t i = 0; i < c->h; i++, at += ENG_NR)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) {
                const int64_t x = i * ENG_NR + v * VL;
                vf w11 = v_load(b11 + x), w12 = v_load(b12 + x), w21 = v_load(b21 + x), w22 = v_load(b22 + x);
                vf t1 = v_sub(w12, w11), t2 = v_sub(w22, t1);
                v_store(c->t[0] + at + v * VL, t1);
                v_store(c->t[1] + at + v * VL, t2);
                v_store(c->t[2] + at + v * VL, v_sub(w22, w12));
                v_store(c->t[3] + at + v * VL, v_sub(w21, t2));
                left[v] = v_add(left[v], v_add(v_abs(w11), v_abs(w21)));
                right[v] = v_add(right[v], v_add(v_abs(w12), v_abs(w22)));
            }
        for (int v = 0; v < NV; v++) {
            vf l = left[v], r = right[v];
            vb uneven = v_or(v_less(v_mul(l, ratio), r), v_less(v_mul(r, ratio), l));
            uneven = v_or(uneven, v_or(v_is_nan(v_add(l, r)), v_less(large, v_add(l, r))));
            c->balanced &= !v_any(uneven);
        }
    }
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

/* Where sums of a tile go: with a bias, through e->act. */
typedef struct str_out {
    float *c;
    int64_t ldc;
    const float *bias;
    eng_act act;
    float alpha, beta;
} str_out;

/* The sum of a tile of rows times b, + add. */
static inline void str_tile(const float *const *rows, int64_t length, const float *b, int64_t panel, const float *ahead,
                            const float *add, const str_out *o)
{
    tile_end e = {.act = o->act, .alpha = o->alpha, .beta = o->beta, .cols = TILE_WIDE,
                  .residual = add ? ENG_RES_BEFORE_ACT : ENG_RES_NONE, .add = add, .ld_add = TILE_WIDE};
    tile_for(TILE_MAX, TILE_WIDE)(rows, 0, 1, length, b, panel, ahead ? ahead : b, o->bias, o->c, o->ldc, &e, 1);
}

/* out = C11, C12, C21, C22 of a group and a pair. The first products of a block fetch the next panels, one half each. */
static void str_products(const eng_gemm *g, int64_t row, int64_t k, const str_columns *c, const float *sums, int64_t number,
                         const str_out out[4])
{
    static const float zeros[TILE_WIDE];
    const int64_t h = c->h, own = h * ENG_NR;
    const float *a11[TILE_MAX], *a12[TILE_MAX], *a22[TILE_MAX], *s[4][TILE_MAX], *ahead[7];
    for (int i = 0; i < 7; i++) {
        int64_t half = number * 7 + i;
        ahead[i] = c->next && half < 2 * STR_COLS / ENG_NR ? c->next + half / 2 * c->panel + half % 2 * own : NULL;
    }
    for (int r = 0; r < TILE_MAX; r++) {
        a11[r] = str_row(g, row + r) + k;
        a12[r] = a11[r] + h;
        a22[r] = str_row(g, row + TILE_MAX + r) + k + h;
        for (int i = 0; i < 4; i++) s[i][r] = sums + (i * TILE_MAX + r) * h;
    }
    float u[STR_TILE], v[STR_TILE], p[STR_TILE];
    const str_out to_u = {.c = u, .ldc = TILE_WIDE, .bias = zeros}, to_v = {.c = v, .ldc = TILE_WIDE, .bias = zeros},
                  to_p = {.c = p, .ldc = TILE_WIDE, .bias = zeros};
    str_tile(a11, h, c->b[0][0], c->panel, ahead[0], NULL, &to_p);
    str_tile(a12, h, c->b[1][0], c->panel, ahead[1], p, &out[0]);
    str_tile(s[1], h, c->t[1], own, ahead[2], p, &to_u);
    str_tile(s[2], h, c->t[2], own, ahead[3], u, &to_v);
    str_tile(a22, h, c->t[3], own, ahead[4], v, &out[2]);
    str_tile(s[0], h, c->t[0], own, ahead[5], NULL, &to_p);
    const str_out *o = &out[3];
    const vf bottom = VM(o->act == ENG_ACT_RELU ? 0.0f : o->alpha), top = VM(o->act == ENG_ACT_RELU ? INFINITY : o->beta);
    for (int r = 0; r < TILE_MAX; r++)
        for (int j = 0; j < TILE_WIDE; j += VL) {
            const int at = r * TILE_WIDE + j;
            vf x = v_load(p + at), y = v_add(v_add(v_load(v + at), x), v_load(o->bias + j));
            v_store(u + at, v_add(v_load(u + at), x));
            v_store(o->c + r * o->ldc + j, o->act ? v_min(top, v_max(bottom, y)) : y);
        }
    str_tile(s[3], h, c->b[1][1], c->panel, ahead[6], u, &out[1]);
}

/* The same plainly. */
static void str_plain(const eng_gemm *g, int64_t row, int64_t k, const str_columns *c, const str_out out[4])
{
    for (int i = 0; i < 4; i++) {
        const float *a[TILE_MAX];
        for (int r = 0; r < TILE_MAX; r++) a[r] = str_row(g, row + i / 2 * TILE_MAX + r) + k;
        str_tile(a, 2 * c->h, c->b[0][i % 2], c->panel, NULL, NULL, &out[i]);
    }
}

#define STR_EACH(r, j)                       \
    for (int r = 0; r < TILE_MAX; r++)       \
        for (int j = 0; j < TILE_WIDE; j += VL)

/* Sums `q` of a tile, with their bias, go on to the parts of k that come later or through the epilogue to C. */
static void str_settle(const eng_gemm *g, int64_t row, int64_t col, float *q, float *part, bool first, bool last)
{
    const bool clamp = g->act && g->act <= ENG_ACT_CLIP;
    const vf bottom = VM(g->act == ENG_ACT_RELU ? 0.0f : g->alpha), top = VM(g->act == ENG_ACT_RELU ? INFINITY : g->beta);
    float *c = g->c + row * g->ldc + col;
    const float *add = g->residual ? g->add + row * g->ld_add + col : NULL;
    if (!first) STR_EACH(r, j) v_store(q + r * TILE_WIDE + j, v_add(v_load(q + r * TILE_WIDE + j), v_load(part + r * STR_PART_COLS + j)));
    if (!last) {
        STR_EACH(r, j) v_store(part + r * STR_PART_COLS + j, v_load(q + r * TILE_WIDE + j));
        return;
    }
    if (g->residual == ENG_RES_BEFORE_ACT)
        STR_EACH(r, j) v_store(q + r * TILE_WIDE + j, v_add(v_load(q + r * TILE_WIDE + j), v_load(add + r * g->ld_add + j)));
    if (clamp) STR_EACH(r, j) v_store(q + r * TILE_WIDE + j, v_min(top, v_max(bottom, v_load(q + r * TILE_WIDE + j))));
    else if (g->act) act_row(g->act, g->alpha, g->beta, q, q, STR_TILE);
    if (g->residual == ENG_RES_AFTER_ACT)
        STR_EACH(r, j) v_store(c + r * g->ldc + j, v_add(v_load(q + r * TILE_WIDE + j), v_load(add + r * g->ld_add + j)));
    else
        STR_EACH(r, j) v_store(c + r * g->ldc + j, v_load(q + r * TILE_WIDE + j));
}

/* Rows from .. to-1, whole groups, and columns col .. end-1, whole pairs; one part of k. `next`: panels used after it. */
static void str_block(const eng_gemm *g, int64_t from, int64_t to, int64_t col, int64_t end, int64_t k, int64_t h, const float *next)
{
    static const float zeros[TILE_WIDE];
    const bool first = !k, last = k + 2 * h == g->depth, direct = first && last && g->act <= ENG_ACT_CLIP && !g->residual;
    bool balanced[STR_A_FLOATS / (2 * TILE_MAX * STR_K_UNIT)];
    float *sums = g->work, *t = sums + STR_A_FLOATS, *parts = t + STR_B_FLOATS, q[4][STR_TILE];
    str_columns c = {.h = h, .panel = g->depth * ENG_NR};
    for (int i = 0; i < 4; i++) c.t[i] = t + i * h * TILE_WIDE;
    for (int64_t i = from; i < to; i += STR_ROWS)
        balanced[(i - from) / STR_ROWS] = str_sum_rows(g, i, k, h, sums + (i - from) * 2 * h);
    for (int64_t j = col; j < end; j += STR_COLS) {
        const float *panels = g->b + j * g->depth + k * ENG_NR;
        for (int i = 0; i < 4; i++) c.b[i / 2][i % 2] = panels + i % 2 * TILE_WIDE * g->depth + i / 2 * h * ENG_NR;
        c.next = j + STR_COLS < end ? panels + STR_COLS * g->depth : next;
        str_sum_columns(&c);
        for (int64_t i = from; i < to; i += STR_ROWS) {
            str_out out[4];
            for (int x = 0; x < 4; x++) {
                int64_t row = i + x / 2 * TILE_MAX, place = j + x % 2 * TILE_WIDE;
                out[x] = (str_out){.c = q[x], .ldc = TILE_WIDE, .bias = last && g->bias ? g->bias + place : zeros};
                if (!direct) continue;
                out[x].c = g->c + row * g->ldc + place, out[x].ldc = g->ldc;
                out[x].act = g->act, out[x].alpha = g->alpha, out[x].beta = g->beta;
            }
            if (c.balanced && balanced[(i - from) / STR_ROWS])
                str_products(g, i, k, &c, sums + (i - from) * 2 * h, (i - from) / STR_ROWS, out);
            else str_plain(g, i, k, &c, out);
            for (int x = 0; x < 4 && !direct; x++)
                str_settle(g, i + x / 2 * TILE_MAX, j + x % 2 * TILE_WIDE, q[x],
                           parts + (i - from + x / 2 * TILE_MAX) * STR_PART_COLS + j - col + x % 2 * TILE_WIDE, first, last);
        }
    }
}

static void strassen(const eng_gemm *g, tile_end *e)
{
    const int64_t units = g->depth / STR_K_UNIT, n_parts = od_ceil_div(g->depth, STR_K_MAX), whole = od_ceil_div(units, n_parts) * STR_K_UNIT;
    const int64_t rows = g->m / STR_ROWS * STR_ROWS, cols = g->n / STR_COLS * STR_COLS;
    int64_t block = STR_A_FLOATS / whole / STR_ROWS * STR_ROWS, width = cols;
    if (n_parts > 1) block = od_min_i64(block, STR_PART_ROWS), width = STR_PART_COLS;
    const int64_t blocks = od_ceil_div(rows, block);
    eng_gemm rest = eng_gemm_part(g, 0, g->m, cols, g->n - cols);
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = rows / STR_ROWS * b / blocks * STR_ROWS, to = rows / STR_ROWS * (b + 1) / blocks * STR_ROWS;
        for (int64_t j = 0; j < cols; j += width)
            for (int64_t p = 0; p < n_parts; p++) {
                int64_t k = units * p / n_parts * STR_K_UNIT, stop = units * (p + 1) / n_parts * STR_K_UNIT;
                const float *next = p + 1 < n_parts ? g->b + j * g->depth + stop * ENG_NR : j + width < cols ? g->b + (j + width) * g->depth : NULL;
                str_block(g, from, to, j, od_min_i64(j + width, cols), k, (stop - k) / 2, next);
            }
        if (cols < g->n) gemm_block(&rest, from, to, e);
    }
    if (rows < g->m) gemm_block(g, rows, g->m, e);
}
