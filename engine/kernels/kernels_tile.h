/* kernels_tile.h - the register tile of the matrix product, a template: TILE_ROWS_MAX, TILE_NV (vectors across its
 * columns), TILE_HALF (whether they are half ones) and TILE_TAG (both as part of a name) come from kernels_gemm.h,
 * which includes it once for each width of tile.
 *
 * A tile of R rows has its accumulators in registers with names: arrays of registers end on the stack with
 * some compilers. A[r] are read by index from row pointers, one broadcast for all columns of a row. */

#define TILE_JOIN_(a, b, c) a##b##_##c
#define TILE_JOIN(a, b, c) TILE_JOIN_(a, b, c)
#define TILE_NAME(r) TILE_JOIN(tile, r, TILE_TAG)
#if TILE_HALF
#define TILE_VL (VL / 2)
#define TV vh
#define T(operation) vh_##operation
#else
#define TILE_VL VL
#define TV vf
#define T(operation) v_##operation
#endif
#define TILE_COLS (TILE_NV * TILE_VL)
#define TILE_SILU (VL == 16 && !TILE_HALF && TILE_NV < 3) /* registers are left for its constants */
#define TILE_LATE (VL == 16 && TILE_NV < 3 ? 4 : 0)       /* or for the last steps' weights */
#define TILE_BOUNDS                                                                            \
    const float least = !e->act ? -INFINITY : e->act == ENG_ACT_RELU ? 0.0f : e->alpha,       \
                most = !e->act || e->act == ENG_ACT_RELU ? INFINITY : e->beta;                \
    const TV bottom = T(set)(least), top = T(set)(most);
/* Vector v of a row of the packed panels; panels lie `panel` floats apart. */
#define TILE_AT(b, v) ((b) + (v) * TILE_VL / ENG_NR * panel + (v) * TILE_VL % ENG_NR)

#if TILE_NV == 1
#define EACH_COL(X, r) X(r, 0)
#elif TILE_NV == 2
#define EACH_COL(X, r) X(r, 0) X(r, 1)
#elif TILE_NV == 3
#define EACH_COL(X, r) X(r, 0) X(r, 1) X(r, 2)
#else
#define EACH_COL(X, r) X(r, 0) X(r, 1) X(r, 2) X(r, 3)
#endif

#define COL_LOAD(r, v) TV b##v = T(load)(TILE_AT(b, v));
#define COL_BIAS(r, v) TV bias##v = T(load)(bias + (v) * TILE_VL);
#define COL_INIT(r, v) TV c##r##_##v = bias##v;
#define COL_STEP(r, v) c##r##_##v = T(fma)(x, b##v, c##r##_##v);
#define COL_ADD(r, v) c##r##_##v = T(add)(c##r##_##v, T(load)(e->add + (r) * e->ld_add + (v) * TILE_VL));
#define COL_CLIP(r, v) c##r##_##v = T(min)(top, T(max)(bottom, c##r##_##v));
#define COL_FETCH(r, v) __builtin_prefetch(e->add + (r) * e->ld_add + (v) * TILE_VL);
#define COL_STORE(r, v) T(store)(c + (r) * ldc + (v) * TILE_VL, c##r##_##v);
#define COL_SPILL(r, v) T(store)(t + (r) * TILE_COLS + (v) * TILE_VL, c##r##_##v);

#define ROW_INIT(r) EACH_COL(COL_INIT, r)
#define ROW_POINTER(r) const float *a##r = rows[s * stride + r];
#define ROW_STEP(r)                   \
    {                                 \
        TV x = T(spread)(a##r + i); \
        EACH_COL(COL_STEP, r)         \
    }
#define ROW_STEP_AT(r)                        \
    {                                         \
        TV x = T(spread)(a##r + offsets[i]); \
        EACH_COL(COL_STEP, r)                 \
    }
#if TILE_HALF
#define ROW_SILU(r) (void)silu;
#else
#define COL_SILU(r, v) c##r##_##v = vm_silu(silu, c##r##_##v);
#define ROW_SILU(r) EACH_COL(COL_SILU, r)
#endif
#define COL_LATE(r, v)                                                                        \
    const TV l0_##v = T(load)(TILE_AT(b, v)), l1_##v = T(load)(TILE_AT(b + ENG_NR, v)),       \
             l2_##v = T(load)(TILE_AT(b + 2 * ENG_NR, v)), l3_##v = T(load)(TILE_AT(b + 3 * ENG_NR, v));
#define COL_STEP_LATE(r, v) \
    c##r##_##v = T(fma)(x3, l3_##v, T(fma)(x2, l2_##v, T(fma)(x1, l1_##v, T(fma)(x0, l0_##v, c##r##_##v))));
#define ROW_LATE(r)                                                                           \
    {                                                                                         \
        const TV x0 = T(spread)(a##r + i), x1 = T(spread)(a##r + i + 1);                      \
        const TV x2 = T(spread)(a##r + i + 2), x3 = T(spread)(a##r + i + 3);                  \
        EACH_COL(COL_STEP_LATE, r)                                                            \
    }
#define ROW_DONE(r) ROW_LATE(r) EACH_COL(COL_CLIP, r) EACH_COL(COL_STORE, r) v_in_order();
#define ROW_ADD(r) EACH_COL(COL_ADD, r)
#define ROW_CLIP(r) EACH_COL(COL_CLIP, r)
#define ROW_FETCH(r) EACH_COL(COL_FETCH, r)
#define ROW_STORE(r) EACH_COL(COL_STORE, r)
#define ROW_SPILL(r) EACH_COL(COL_SPILL, r)

/* Sums leave the registers through `e` for c. */
#define TILE_LEAVE(R)                                                                                                 \
    if (e->cols == TILE_COLS && !e->scale && (e->act <= ENG_ACT_CLIP || (TILE_SILU && e->act == ENG_ACT_SILU))) {                  \
        if (e->residual == ENG_RES_BEFORE_ACT) { ROWS_##R(ROW_ADD) }                                                  \
        if (TILE_SILU && e->act == ENG_ACT_SILU) {                                                                    \
            const vm_silu_of silu = vm_silu_for(VM(e->alpha));                                                        \
            ROWS_##R(ROW_SILU)                                                                                        \
        } else if (e->act) {                                                                                          \
            TILE_BOUNDS ROWS_##R(ROW_CLIP)                                                                            \
        }                                                                                                             \
        if (e->residual == ENG_RES_AFTER_ACT) { ROWS_##R(ROW_ADD) }                                                   \
        ROWS_##R(ROW_STORE)                                                                                           \
    } else {                                                                                                          \
        _Alignas(64) float t[(R) * TILE_COLS + VL]; /* whole vectors are read */                                     \
        ROWS_##R(ROW_SPILL) finish_tile(R, TILE_COLS, t, c, ldc, e);                                                  \
    }

/* `count` tiles below each other, one if there is a residual. rows[s * stride + r] is segment s of row r. A line of
 * `ahead` is fetched to the second-level cache a step.
 * The last TILE_LATE steps go row by row, and each row is stored when it is done: if all stores came at once, they
 * and what is behind them would wait for the last sums. */
#define DEFINE_TILE(R)                                                                                                \
    static void TILE_NAME(R)(const float *const *rows, int64_t stride, int64_t segments, int64_t length,              \
                             const float *panels, int64_t panel, const float *ahead, const float *bias, float *c,     \
                             int64_t ldc, const tile_end *e, int64_t count)                                           \
    {                                                                                                                 \
        const bool late = TILE_LATE && segments > 0 && length >= TILE_LATE && !e->offsets;                            \
        const bool plain = e->act <= ENG_ACT_CLIP && !e->residual && !e->scale && e->cols == TILE_COLS;                            \
        const float *const fetched = ahead;                                                                           \
        (void)panel;                                                                                                  \
        for (; count > 0; count--, rows += R, c += R * ldc, ahead = fetched)                                          \
        {                                                                                                             \
            if (e->residual) { ROWS_##R(ROW_FETCH) }                                                                  \
            EACH_COL(COL_BIAS, 0) ROWS_##R(ROW_INIT)                                                                  \
            if (e->offsets) {                                                                                         \
                const int64_t *offsets = e->offsets, s = 0;                                                           \
                const float *b = panels;                                                                              \
                ROWS_##R(ROW_POINTER) for (int64_t i = 0; i < length; i++, b += ENG_NR)                               \
                {                                                                                                     \
                    EACH_COL(COL_LOAD, 0) ROWS_##R(ROW_STEP_AT)                                                       \
                }                                                                                                     \
                TILE_LEAVE(R) continue;                                                                               \
            }                                                                                                         \
            for (int64_t s = 0; s < segments; s++)                                                                    \
            {                                                                                                         \
                const float *b = e->places ? panels + e->places[s] : panels + s * length * ENG_NR;                    \
                const int64_t steps = late && s + 1 == segments ? length - TILE_LATE : length;                        \
                int64_t i = 0;                                                                                        \
                ROWS_##R(ROW_POINTER) for (; i < steps; i++, b += ENG_NR, ahead += ENG_NR)                            \
                {                                                                                                     \
                    __builtin_prefetch(ahead, 0, 2);                                                                  \
                    EACH_COL(COL_LOAD, 0) ROWS_##R(ROW_STEP)                                                          \
                }                                                                                                     \
                if (steps == length) continue;                                                                        \
                for (int u = 0; u < TILE_LATE; u++) __builtin_prefetch(ahead + u * ENG_NR, 0, 2);                     \
                EACH_COL(COL_LATE, 0)                                                                                 \
                if (plain) {                                                                                          \
                    TILE_BOUNDS ROWS_##R(ROW_DONE)                                                                    \
                } else {                                                                                              \
                    ROWS_##R(ROW_LATE)                                                                                \
                }                                                                                                     \
            }                                                                                                         \
            if (late && plain) continue;                                                                              \
            TILE_LEAVE(R)                                                                                             \
        }                                                                                                             \
    }

DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)
#if TILE_ROWS_MAX >= 8
DEFINE_TILE(7)
DEFINE_TILE(8)
#endif

static tile_fn *const TILE_JOIN(tiles, , TILE_TAG)[] = {
    0, TILE_NAME(1), TILE_NAME(2), TILE_NAME(3), TILE_NAME(4), TILE_NAME(5), TILE_NAME(6),
#if TILE_ROWS_MAX >= 8
    TILE_NAME(7), TILE_NAME(8),
#endif
};

#ifdef TILE_SEVEN
#include "engine/kernels/kernels_seven.h"
#endif

#undef TILE_JOIN_
#undef TILE_JOIN
#undef TILE_NAME
#undef TILE_VL
#undef TV
#undef T
#undef TILE_COLS
#undef TILE_SILU
#undef TILE_LATE
#undef TILE_BOUNDS
#undef TILE_AT
#undef TILE_LEAVE
#undef EACH_COL
#undef COL_LOAD
#undef COL_BIAS
#undef COL_INIT
#undef COL_STEP
#undef COL_ADD
#undef COL_CLIP
#undef COL_SILU
#undef COL_FETCH
#undef COL_STORE
#undef COL_SPILL
#undef COL_LATE
#undef COL_STEP_LATE
#undef ROW_INIT
#undef ROW_POINTER
#undef ROW_STEP
#undef ROW_STEP_AT
#undef ROW_LATE
#undef ROW_DONE
#undef ROW_ADD
#undef ROW_CLIP
#undef ROW_SILU
#undef ROW_FETCH
#undef ROW_STORE
#undef ROW_SPILL
#undef DEFINE_TILE
