/* logic.c - And, Or, Xor, Not of bools. Any byte but 0 is true. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#define ROW(name, expr)                                                          \
    static void name(void *arg, int64_t n, char *const *p, const int64_t *step)  \
    {                                                                            \
        (void)arg;                                                               \
        for (int64_t i = 0; i < n; i++) {                                        \
            bool x = p[1][i * step[1]] != 0, y = p[2][i * step[2]] != 0;         \
            p[0][i * step[0]] = (expr);                                          \
        }                                                                        \
    }
ROW(and_row, x & y)
ROW(or_row, x | y)
ROW(xor_row, x ^ y)

static void not_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    (void)arg;
    for (int64_t i = 0; i < n; i++) p[0][i * step[0]] = !p[1][i * step[1]];
}

od_code eng_and_run(eng_ctx *c, od_status *st)
{
    return eng_walk_pair(c, 1, and_row, NULL, st);
}

od_code eng_or_run(eng_ctx *c, od_status *st)
{
    return eng_walk_pair(c, 1, or_row, NULL, st);
}

od_code eng_xor_run(eng_ctx *c, od_status *st)
{
    return eng_walk_pair(c, 1, xor_row, NULL, st);
}

od_code eng_not_run(eng_ctx *c, od_status *st)
{
    (void)st;
    eng_walk_ctx(c, 1, 1, not_row, NULL);
    return OD_OK;
}
