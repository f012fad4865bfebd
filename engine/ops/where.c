/* where.c - Where: elements of X where the condition holds, of Y elsewhere. Any type, by size. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

typedef struct wide {
    uint64_t half[2];
} wide;

#define ROW(T)                                                                          \
    static void row_##T(void *arg, int64_t n, char *const *p, const int64_t *step)      \
    {                                                                                   \
        T *o = (T *)(void *)p[0];                                                       \
        const T *a = (const T *)(const void *)p[2], *b = (const T *)(const void *)p[3]; \
        (void)arg;                                                                      \
        for (int64_t i = 0; i < n; i++)                                                 \
            o[i * step[0]] = p[1][i * step[1]] ? a[i * step[2]] : b[i * step[3]];       \
    }
ROW(uint8_t)
ROW(uint16_t)
ROW(uint32_t)
ROW(uint64_t)
ROW(wide)

static bool is_unit(int64_t step)
{
    return step == 0 || step == 1;
}

static void row_32(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    if (step[0] == 1 && step[1] == 1 && is_unit(step[2]) && is_unit(step[3]))
        eng_elementwise_table()->where_32((uint32_t *)(void *)p[0], (const uint8_t *)p[1],
                                          (const uint32_t *)(const void *)p[2], step[2],
                                          (const uint32_t *)(const void *)p[3], step[3], n);
    else
        row_uint32_t(arg, n, p, step);
}

od_code eng_where_infer(eng_ctx *c, od_status *st)
{
    if (c->n_in < 3 || !c->in[0] || !c->in[1] || !c->in[2]) return od_fail(st, OD_BAD_MODEL, "three inputs are wanted");
    OD_TRY(eng_check_types(c, 2, c->in[1]->dtype, st));
    OD_TRY(eng_infer_broadcast(c, st));
    if (c->n_out > 0 && c->out[0]) c->out[0]->dtype = c->in[1]->dtype;
    return OD_OK;
}

od_code eng_where_run(eng_ctx *c, od_status *st)
{
    eng_row_fn *fn = NULL;
    switch (eng_dtype_size(c->in[1]->dtype)) {
    case 1: fn = row_uint8_t; break;
    case 2: fn = row_uint16_t; break;
    case 4: fn = row_32; break;
    case 8: fn = row_uint64_t; break;
    case 16: fn = row_wide; break;
    default: return od_fail(st, OD_BAD_TYPE, "elements are %s", eng_dtype_name(c->in[1]->dtype));
    }
    eng_walk_ctx(c, 3, 1, fn, NULL);
    return OD_OK;
}
