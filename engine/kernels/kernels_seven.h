/* kernels_seven.h - the seven products of a group of rows and a pair of columns, as kernels_strassen.h has them: a template
 * that kernels_tile.h includes for wide tiles, whose macros it uses.
 *
 * Sums stay in registers where one is the start of the next. The first group makes the sums of columns while it
 * multiplies, since adders and stores have little else to do then. */

#define SEVEN_AT(b, panel, v) ((b) + (v) * VL / ENG_NR * (panel) + (v) * VL % ENG_NR)
#define SEVEN_KEPT(t, r, v) ((t) + (r) * TILE_COLS + (v) * VL)

#define COL_NAME(r, v) vf c##r##_##v = v_zero();
#define COL_ZERO(r, v) c##r##_##v = v_zero();
#define COL_KEEP(r, v) v_store(SEVEN_KEPT(kept, r, v), c##r##_##v);
#define COL_TAKE(r, v) c##r##_##v = v_load(SEVEN_KEPT(kept, r, v));
#define COL_FROM(r, v) c##r##_##v = v_add(c##r##_##v, v_load(o->from + (r) * s->ld_from + (v) * VL));
#define COL_WRITE(r, v) __builtin_prefetch(o->c + (r) * s->ldc + (v) * VL, 1);
#define COL_SCALE(r, v) c##r##_##v = v_mul(c##r##_##v, v_load(e->scale + (v) * VL));
#define COL_ADD_LOW(r, v) c##r##_##v = v_add(c##r##_##v, v_load(SEVEN_KEPT(low, r, v)));
#define COL_ADD_U(r, v) c##r##_##v = v_add(c##r##_##v, v_load(SEVEN_KEPT(u, r, v)));
#define ROW_NAME(r) EACH_COL(COL_NAME, r)
#define ROW_ZERO(r) EACH_COL(COL_ZERO, r)
#define ROW_KEEP(r) EACH_COL(COL_KEEP, r)
#define ROW_TAKE(r) EACH_COL(COL_TAKE, r)
#define ROW_FROM(r) EACH_COL(COL_FROM, r)
#define ROW_WRITE(r) EACH_COL(COL_WRITE, r)
#define ROW_SCALE(r) EACH_COL(COL_SCALE, r)
#define ROW_ADD_LOW(r) EACH_COL(COL_ADD_LOW, r)
#define ROW_ADD_U(r) EACH_COL(COL_ADD_U, r)
#define ROW_FACTOR(r) const float *a##r = f->rows[r];
#define ROW_BEHIND(r) const float *a##r = f->rows[r] + length; /* counting up to zero saves a register */

/* Columns of a step: as they are, or made of those of B. */
#define COL_B(r, v) const vf b##v = v_load(SEVEN_AT(b, own, v));
#define COL_SIZES(r, v) vf left##v = v_zero(), right##v = v_zero();
#define COL_OF(x, v) v_load(SEVEN_AT(x, panel, v) + at)
#define COL_T(x, v) SEVEN_AT(s->t[x], length * ENG_NR, v) + at
#define COL_T1(r, v)                                  \
    const vf b##v = v_sub(COL_OF(b12, v), COL_OF(b11, v)); \
    v_store(COL_T(0, v), b##v);
#define COL_T2(r, v)                                                       \
    const vf w##v = COL_OF(b11, v), x##v = COL_OF(b12, v), y##v = COL_OF(b22, v); \
    const vf b##v = v_sub(y##v, v_sub(x##v, w##v));                        \
    v_store(COL_T(1, v), b##v);                                            \
    left##v = v_add(left##v, v_abs(w##v));                                 \
    right##v = v_add(right##v, v_add(v_abs(x##v), v_abs(y##v)));
#define COL_T3(r, v)                                  \
    const vf b##v = v_sub(COL_OF(b22, v), COL_OF(b12, v)); \
    v_store(COL_T(2, v), b##v);
#define COL_T4(r, v)                                             \
    const vf w##v = COL_OF(b21, v), b##v = v_sub(w##v, v_load(COL_T(1, v))); \
    v_store(COL_T(3, v), b##v);                                  \
    left##v = v_add(left##v, v_abs(w##v));
#define COL_UNEVEN(r, v) uneven |= str_uneven(left##v, right##v);

#define SEVEN_RUN(X)                                                                             \
    {                                                                                            \
        const str_factors *f = &s->factors[X];                                                   \
        const float *ahead = f->ahead, *b = f->b;                                                \
        const int64_t own = f->panel;                                                            \
        TILE_ROWS(ROW_BEHIND)                                                                    \
        for (int64_t i = -length; i < 0; i++, b += ENG_NR, ahead += ENG_NR) {                    \
            __builtin_prefetch(ahead, 0, 2);                                                     \
            EACH_COL(COL_B, 0) TILE_ROWS(ROW_STEP)                                               \
        }                                                                                        \
    }
#define SEVEN_MAKE(X, COLS)                                                                      \
    {                                                                                            \
        const str_factors *f = &s->factors[X];                                                   \
        const float *ahead = f->ahead;                                                           \
        TILE_ROWS(ROW_FACTOR)                                                                    \
        for (int64_t i = 0, at = 0; i < length; i++, at += ENG_NR, ahead += ENG_NR) {            \
            __builtin_prefetch(ahead, 0, 2);                                                     \
            EACH_COL(COLS, 0) TILE_ROWS(ROW_STEP)                                                \
        }                                                                                        \
    }
#define SEVEN_KEEP(at) { float *kept = at; TILE_ROWS(ROW_KEEP) }
#define SEVEN_TAKE(at) { const float *kept = at; TILE_ROWS(ROW_TAKE) }
#define SEVEN_WRITE(X)                                                                           \
    {                                                                                            \
        const str_out *o = &s->out[X];                                                           \
        const tile_end *e = &o->end;                                                             \
        TILE_ROWS(ROW_WRITE)                                                                     \
        if (e->residual) { TILE_ROWS(ROW_FETCH) }                                                \
    }
#define SEVEN_LEAVE(X)                                                                           \
    {                                                                                            \
        const str_out *o = &s->out[X];                                                           \
        const tile_end *e = &o->end;                                                             \
        TILE_ROWS(ROW_FROM)                                                                      \
        if (direct) {                                                                            \
            float *c = o->c;                                                                     \
            const int64_t ldc = s->ldc;                                                          \
            if (e->scale) { TILE_ROWS(ROW_SCALE) }                                               \
            if (e->residual) { TILE_ROWS(ROW_ADD) }                                              \
            TILE_BOUNDS TILE_ROWS(ROW_CLIP) TILE_ROWS(ROW_STORE)                                 \
        } else {                                                                                 \
            TILE_ROWS(ROW_SPILL)                                                                 \
            finish_tile(TILE_ROWS_MAX, TILE_COLS, t, o->c, s->ldc, e);                           \
        }                                                                                        \
    }

static inline __attribute__((always_inline)) bool TILE_JOIN(products, TILE_ROWS_MAX, TILE_NV)(const str_seven *s, const bool first)
{
    _Alignas(64) float p[TILE_ROWS_MAX * TILE_COLS], u[TILE_ROWS_MAX * TILE_COLS], low[TILE_ROWS_MAX * TILE_COLS],
                        t[TILE_ROWS_MAX * TILE_COLS];
    const float *b11 = s->factors[STR_A11].b, *b21 = s->factors[STR_A12].b, *b22 = s->factors[STR_S4].b, *b12 = s->b12;
    const int64_t panel = s->factors[STR_A11].panel, length = s->length;
    const bool direct = s->out[0].end.act <= ENG_ACT_CLIP && s->out[0].end.residual != ENG_RES_AFTER_ACT;
    EACH_COL(COL_SIZES, 0) TILE_ROWS(ROW_NAME)
    SEVEN_RUN(STR_A11)
    SEVEN_KEEP(p)
    if (first) SEVEN_MAKE(STR_S2, COL_T2) else SEVEN_RUN(STR_S2)
    SEVEN_KEEP(u)
    if (first) SEVEN_MAKE(STR_S3, COL_T3) else SEVEN_RUN(STR_S3)
    SEVEN_KEEP(low)
    SEVEN_WRITE(2)
    if (first) {
        bool uneven = false;
        SEVEN_MAKE(STR_A22, COL_T4)
        EACH_COL(COL_UNEVEN, 0)
        if (uneven) return false; /* before anything is written */
    } else SEVEN_RUN(STR_A22)
    SEVEN_LEAVE(2)
    SEVEN_TAKE(p)
    SEVEN_WRITE(0)
    SEVEN_RUN(STR_A12)
    SEVEN_LEAVE(0)
    TILE_ROWS(ROW_ZERO)
    if (first) SEVEN_MAKE(STR_S1, COL_T1) else SEVEN_RUN(STR_S1)
    SEVEN_KEEP(p)
    TILE_ROWS(ROW_ADD_U)
    SEVEN_WRITE(1)
    SEVEN_WRITE(3)
    SEVEN_RUN(STR_S4)
    SEVEN_LEAVE(1)
    SEVEN_TAKE(p)
    TILE_ROWS(ROW_ADD_LOW)
    SEVEN_LEAVE(3)
    return true;
}

static __attribute__((noinline)) void TILE_JOIN(seven, TILE_ROWS_MAX, TILE_NV)(const str_seven *s)
{
    TILE_JOIN(products, TILE_ROWS_MAX, TILE_NV)(s, false);
}

/* Makes s->t; false where columns are better not added up. */
static __attribute__((noinline)) bool TILE_JOIN(first, TILE_ROWS_MAX, TILE_NV)(const str_seven *s)
{
    return TILE_JOIN(products, TILE_ROWS_MAX, TILE_NV)(s, true);
}
