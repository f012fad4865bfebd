/* compare.c - Equal, Less, Greater, LessOrEqual, GreaterOrEqual: two tensors to bool. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <string.h>

#define ROW(name, T, expr)                                                              \
    static void name(void *arg, int64_t n, char *const *p, const int64_t *step)         \
    {                                                                                   \
        const T *a = (const T *)(const void *)p[1], *b = (const T *)(const void *)p[2]; \
        (void)arg;                                                                      \
        for (int64_t i = 0; i < n; i++) {                                               \
            T x = a[i * step[1]], y = b[i * step[2]];                                   \
            p[0][i * step[0]] = (expr);                                                 \
        }                                                                               \
    }

#define ROWS(T, TAG, W, L, S)  \
    ROW(eq_##T, T, x == y)     \
    ROW(lt_##T, T, x < y)      \
    ROW(gt_##T, T, x > y)      \
    ROW(le_##T, T, x <= y)     \
    ROW(ge_##T, T, x >= y)
ENG_FOR_INTS(ROWS)
ROWS(double, , , , )
ROW(eq_eng_str, eng_str, x.len == y.len && (!x.len || !memcmp(x.ptr, y.ptr, x.len)))

static void float_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    eng_cmp_f32 *fn = *(eng_cmp_f32 **)arg;
    fn((uint8_t *)p[0], step[0], (const float *)(const void *)p[1], step[1], (const float *)(const void *)p[2], step[2],
       n);
}

#define EQ_ENTRY(T, TAG, W, L, S) {TAG, eq_##T},
#define LT_ENTRY(T, TAG, W, L, S) {TAG, lt_##T},
#define GT_ENTRY(T, TAG, W, L, S) {TAG, gt_##T},
#define LE_ENTRY(T, TAG, W, L, S) {TAG, le_##T},
#define GE_ENTRY(T, TAG, W, L, S) {TAG, ge_##T},
static const eng_typed_row eq_rows[] = {{ENG_FLOAT, float_row}, {ENG_DOUBLE, eq_double}, {ENG_BOOL, eq_uint8_t},
                                        {ENG_STRING, eq_eng_str}, ENG_FOR_INTS(EQ_ENTRY)};
static const eng_typed_row lt_rows[] = {{ENG_FLOAT, float_row}, {ENG_DOUBLE, lt_double}, ENG_FOR_INTS(LT_ENTRY)};
static const eng_typed_row gt_rows[] = {{ENG_FLOAT, float_row}, {ENG_DOUBLE, gt_double}, ENG_FOR_INTS(GT_ENTRY)};
static const eng_typed_row le_rows[] = {{ENG_FLOAT, float_row}, {ENG_DOUBLE, le_double}, ENG_FOR_INTS(LE_ENTRY)};
static const eng_typed_row ge_rows[] = {{ENG_FLOAT, float_row}, {ENG_DOUBLE, ge_double}, ENG_FOR_INTS(GE_ENTRY)};

od_code eng_compare_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_check_types(c, 1, c->n_in > 0 && c->in[0] ? c->in[0]->dtype : ENG_UNDEFINED, st));
    return eng_infer_pair(c, ENG_BOOL, st);
}

static od_code run(eng_ctx *c, const eng_typed_row *rows, int count, eng_cmp kernel, od_status *st)
{
    eng_row_fn *fn;
    eng_cmp_f32 *f32 = eng_elementwise_table()->cmp[kernel];
    OD_TRY(eng_row_for(rows, count, c->in[0]->dtype, &fn, st));
    return eng_walk_pair(c, 1, fn, &f32, st);
}

od_code eng_equal_run(eng_ctx *c, od_status *st)
{
    return run(c, eq_rows, (int)OD_COUNT(eq_rows), ENG_CMP_EQ, st);
}

od_code eng_less_run(eng_ctx *c, od_status *st)
{
    return run(c, lt_rows, (int)OD_COUNT(lt_rows), ENG_CMP_LT, st);
}

od_code eng_greater_run(eng_ctx *c, od_status *st)
{
    return run(c, gt_rows, (int)OD_COUNT(gt_rows), ENG_CMP_GT, st);
}

od_code eng_less_or_equal_run(eng_ctx *c, od_status *st)
{
    return run(c, le_rows, (int)OD_COUNT(le_rows), ENG_CMP_LE, st);
}

od_code eng_greater_or_equal_run(eng_ctx *c, od_status *st)
{
    return run(c, ge_rows, (int)OD_COUNT(ge_rows), ENG_CMP_GE, st);
}
