/* clip.c - Clip: bounds as inputs; bounds as attributes become such at load. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <float.h>

od_code eng_clip_import(eng_graph *g, eng_node *n, od_status *st)
{
    static const char *const names[] = {"min", "max"};
    for (int i = 0; i < 2; i++) OD_TRY(eng_attr_to_input(g, n, names[i], i + 1, true, st));
    eng_node_drop_attr(n, "consumed_inputs");
    return OD_OK;
}

static const eng_tensor *bound(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

od_code eng_clip_infer(eng_ctx *c, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    if (c->node->opset >= 11) OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st)); /* attributes are floats whatever the data */
    for (int i = 1; i < 3; i++) {
        const eng_tensor *b = bound(c, i);
        char text[80];
        if (b && eng_tensor_count(b) != 1)
            return od_fail(st, OD_BAD_SHAPE, "%s is %s, a scalar is wanted", i == 1 ? "min" : "max",
                           eng_tensor_text(b, text, sizeof text));
    }
    return eng_infer_same(c, st);
}

typedef struct clip_f32 {
    float lo, hi;
} clip_f32;

static void float_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const clip_f32 *j = arg;
    float *to = (float *)(void *)p[0];
    const float *from = (const float *)(const void *)p[1];
    eng_par_f32 *clip = eng_elementwise_table()->par[ENG_PAR_CLIP];
    if (step[0] == 1 && step[1] == 1) {
        clip(to, from, n, j->lo, j->hi);
        return;
    }
    for (int64_t i = 0; i < n; i++) clip(to + i * step[0], from + i * step[1], 1, j->lo, j->hi);
}

/* The bounds of integers are compared in their own type: doubles would round large ones. */
#define CLIP_ROWS(T, TAG, W, L, S)                                                        \
    typedef struct clip_##T {                                                             \
        T lo, hi;                                                                         \
    } clip_##T;                                                                           \
    static void row_##T(void *arg, int64_t n, char *const *p, const int64_t *step)        \
    {                                                                                     \
        const clip_##T *j = arg;                                                          \
        T *to = (T *)(void *)p[0];                                                        \
        const T *from = (const T *)(const void *)p[1];                                    \
        for (int64_t i = 0; i < n; i++) {                                                 \
            T x = from[i * step[1]];                                                      \
            x = x < j->lo ? j->lo : x;                                                    \
            to[i * step[0]] = x > j->hi ? j->hi : x;                                      \
        }                                                                                 \
    }
ENG_FOR_INTS(CLIP_ROWS)
CLIP_ROWS(double, , , , )

#define RUN_INT(T, TAG, W, L, S)                                                                  \
    case TAG: {                                                                                   \
        clip_##T j = {S##_LOWEST(T), S##_HIGHEST(T)};                                             \
        if (lo) j.lo = *(const T *)lo->data;                                                      \
        if (hi) j.hi = *(const T *)hi->data;                                                      \
        eng_walk_ctx(c, 1, 1, row_##T, &j);                                                       \
        return OD_OK;                                                                             \
    }
#define s_HIGHEST(T) ((T)(UINT64_MAX >> (65 - 8 * sizeof(T))))
#define s_LOWEST(T) ((T)(-s_HIGHEST(T) - 1))
#define u_HIGHEST(T) ((T)UINT64_MAX)
#define u_LOWEST(T) ((T)0)

od_code eng_clip_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *lo = bound(c, 1), *hi = bound(c, 2);
    eng_dtype t = c->in[0]->dtype;
    (void)st;
    switch (t) {
        ENG_FOR_INTS(RUN_INT)
    case ENG_DOUBLE: {
        clip_double j = {lo ? eng_tensor_double(lo, 0) : -DBL_MAX, hi ? eng_tensor_double(hi, 0) : DBL_MAX};
        eng_walk_ctx(c, 1, 1, row_double, &j);
        return OD_OK;
    }
    default: {
        clip_f32 j = {lo ? *(const float *)lo->data : -FLT_MAX, hi ? *(const float *)hi->data : FLT_MAX};
        eng_walk_ctx(c, 1, 1, float_row, &j);
        return OD_OK;
    }
    }
}
