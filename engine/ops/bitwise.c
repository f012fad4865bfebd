/* bitwise.c - BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitShift: by element size only, but for
 * the right shift, which brings in the sign where there is one. Shifts as long as the type or longer
 * leave nothing but that. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#define ROW(name, T, expr)                                                              \
    static void name(void *arg, int64_t n, char *const *p, const int64_t *step)         \
    {                                                                                   \
        T *o = (T *)(void *)p[0];                                                       \
        const T *a = (const T *)(const void *)p[1], *b = (const T *)(const void *)p[2]; \
        (void)arg;                                                                      \
        for (int64_t i = 0; i < n; i++) {                                               \
            T x = a[i * step[1]], y = b[i * step[2]];                                   \
            o[i * step[0]] = (T)(expr);                                                 \
        }                                                                               \
    }
#define NOT_ROW(name, T)                                                                \
    static void name(void *arg, int64_t n, char *const *p, const int64_t *step)         \
    {                                                                                   \
        T *o = (T *)(void *)p[0];                                                       \
        const T *a = (const T *)(const void *)p[1];                                     \
        (void)arg;                                                                      \
        for (int64_t i = 0; i < n; i++) o[i * step[0]] = (T)~a[i * step[1]];            \
    }

static uint64_t left(uint64_t x, uint64_t by)
{
    return by > 63 ? 0 : x << by;
}

static uint64_t right_u(uint64_t x, uint64_t by)
{
    return by > 63 ? 0 : x >> by;
}

static uint64_t right_s(int64_t x, uint64_t by)
{
    uint64_t sign = x < 0 ? UINT64_MAX : 0;
    return by > 63 ? sign : by == 0 ? (uint64_t)x : (uint64_t)x >> by | sign << (64 - by);
}

#define ROWS(T, TAG, W, L, S)                                 \
    ROW(and_##T, T, x &y)                                     \
    ROW(or_##T, T, x | y)                                     \
    ROW(xor_##T, T, x ^ y)                                    \
    NOT_ROW(not_##T, T)                                       \
    ROW(left_##T, T, left((uint64_t)x, (uint64_t)y))          \
    ROW(right_##T, T, right_##S((L)x, (uint64_t)y))
ENG_FOR_INTS(ROWS)

#define AND_ENTRY(T, TAG, W, L, S) {TAG, and_##T},
#define OR_ENTRY(T, TAG, W, L, S) {TAG, or_##T},
#define XOR_ENTRY(T, TAG, W, L, S) {TAG, xor_##T},
#define NOT_ENTRY(T, TAG, W, L, S) {TAG, not_##T},
#define LEFT_ENTRY(T, TAG, W, L, S) {TAG, left_##T},
#define RIGHT_ENTRY(T, TAG, W, L, S) {TAG, right_##T},
static const eng_typed_row and_rows[] = {ENG_FOR_INTS(AND_ENTRY)};
static const eng_typed_row or_rows[] = {ENG_FOR_INTS(OR_ENTRY)};
static const eng_typed_row xor_rows[] = {ENG_FOR_INTS(XOR_ENTRY)};
static const eng_typed_row not_rows[] = {ENG_FOR_INTS(NOT_ENTRY)};
static const eng_typed_row left_rows[] = {ENG_FOR_INTS(LEFT_ENTRY)};
static const eng_typed_row right_rows[] = {ENG_FOR_INTS(RIGHT_ENTRY)};

static od_code run(eng_ctx *c, const eng_typed_row *rows, od_status *st)
{
    eng_row_fn *fn;
    OD_TRY(eng_row_for(rows, (int)OD_COUNT(and_rows), c->in[0]->dtype, &fn, st));
    return eng_walk_pair(c, 1, fn, NULL, st);
}

od_code eng_bitwise_and_run(eng_ctx *c, od_status *st)
{
    return run(c, and_rows, st);
}

od_code eng_bitwise_or_run(eng_ctx *c, od_status *st)
{
    return run(c, or_rows, st);
}

od_code eng_bitwise_xor_run(eng_ctx *c, od_status *st)
{
    return run(c, xor_rows, st);
}

od_code eng_bitwise_not_run(eng_ctx *c, od_status *st)
{
    eng_row_fn *fn;
    OD_TRY(eng_row_for(not_rows, (int)OD_COUNT(not_rows), c->in[0]->dtype, &fn, st));
    eng_walk_ctx(c, 1, 1, fn, NULL);
    return OD_OK;
}

od_code eng_bit_shift_infer(eng_ctx *c, od_status *st)
{
    bool to_left = eng_node_string_is(c->node, "direction", "", "LEFT");
    if (!to_left && !eng_node_string_is(c->node, "direction", "", "RIGHT"))
        return od_fail(st, OD_BAD_ARGUMENT, "direction is neither LEFT nor RIGHT");
    return eng_arith_infer(c, st);
}

od_code eng_bit_shift_run(eng_ctx *c, od_status *st)
{
    return run(c, eng_node_string_is(c->node, "direction", "", "LEFT") ? left_rows : right_rows, st);
}
