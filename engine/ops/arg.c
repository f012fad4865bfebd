/* arg.c - ArgMax and ArgMin along one axis of either layout. */
#include "engine/kernels/reduce.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/lines.h"
#include "engine/ops/ops.h"

#include <math.h>

enum { TILE = 64 };

typedef struct arg_job arg_job;
typedef void tile_fn(const arg_job *j, const void *x, int64_t *y, int64_t width);

struct arg_job {
    eng_lines l;
    bool least, last; /* ArgMin; the last index among equals */
    tile_fn *fn;
    size_t size;
    const char *x;
    int64_t *y;
    int64_t tiles, units, chunks;
};

/* `width` lines beside each other. */
#define TILE_OF(T, TAG, W, L, S)                                                                         \
    static void tile_##T(const arg_job *j, const void *px, int64_t *y, int64_t width)                    \
    {                                                                                                    \
        const T *x = px;                                                                                 \
        T best[TILE];                                                                                    \
        for (int64_t k = 0; k < width; k++) best[k] = x[k], y[k] = 0;                                    \
        for (int64_t i = 1; i < j->l.n; i++)                                                             \
            for (int64_t k = 0; k < width; k++) {                                                        \
                T v = x[i * j->l.inner + k];                                                             \
                bool better = j->least ? v < best[k] : v > best[k];                                      \
                if (better || (j->last && v == best[k])) best[k] = v, y[k] = i;                          \
            }                                                                                            \
    }
ENG_FOR_INTS(TILE_OF)
TILE_OF(float, , , , )
TILE_OF(double, , , , )

/* A dense line of floats: its extreme by vectors, then where that is. */
static void dense_line(const arg_job *j, const void *px, int64_t *y, int64_t width)
{
    const float *x = px, best = eng_reduce_get()->row(j->least ? ENG_RED_MIN : ENG_RED_MAX, x, j->l.n, 0.0f);
    if (isnan(best)) {
        tile_float(j, px, y, width);
        return;
    }
    int64_t i = j->last ? j->l.n - 1 : 0;
    while (x[i] != best) i += j->last ? -1 : 1;
    *y = i;
}

#define CASE(T, TAG, W, L, S) \
    case TAG: return tile_##T;
static tile_fn *tile_for(eng_dtype t)
{
    switch (t) {
        ENG_FOR_INTS(CASE)
    case ENG_FLOAT: return tile_float;
    default: return tile_double;
    }
}

od_code eng_arg_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL;
    int axis, rank = 0;
    int64_t dims[ENG_MAX_RANK];
    if (!x) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", 0), x->rank ? x->rank : 1, false, &axis, st));
    bool keep = eng_node_int(c->node, "keepdims", 1);
    if (x->rank && !x->dims[axis] && eng_tensor_count(x) == 0) {
        int64_t others = 1;
        for (int i = 0; i < x->rank; i++) others *= i == axis ? 1 : x->dims[i];
        if (others) return od_fail(st, OD_BAD_SHAPE, "axis %d is empty", axis);
    }
    for (int i = 0; i < x->rank; i++)
        if (i != axis || keep) dims[rank++] = i == axis ? 1 : x->dims[i];
    return eng_set_out(c, 0, ENG_INT64, rank, dims, st);
}

/* Channels-last is kept when the order of what remains is. */
void eng_arg_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    int axis;
    od_status ignored;
    bool keep = eng_node_int(c->node, "keepdims", 1);
    if (want_in[0] != ENG_CL) return;
    if (eng_axis(eng_node_int(c->node, "axis", 0), c->in[0]->rank, false, &axis, &ignored) != OD_OK || (!keep && axis != 1))
        want_in[0] = ENG_ROW;
    *want_out = keep ? want_in[0] : ENG_ROW;
}

static void arg_units(void *arg, int64_t chunk, int slot)
{
    const arg_job *j = arg;
    (void)slot;
    for (int64_t u = j->units * chunk / j->chunks; u < j->units * (chunk + 1) / j->chunks; u++) {
        int64_t outer = u / j->tiles, from = u % j->tiles * TILE;
        j->fn(j, j->x + (outer * j->l.n * j->l.inner + from) * (int64_t)j->size, j->y + outer * j->l.inner + from,
              od_min_i64(TILE, j->l.inner - from));
    }
}

static od_code run(eng_ctx *c, bool least, od_status *st)
{
    const eng_tensor *x = c->in[0];
    int axis;
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", 0), x->rank ? x->rank : 1, false, &axis, st));
    arg_job j = {.l = eng_lines_of(x, axis), .least = least, .last = eng_node_int(c->node, "select_last_index", 0),
                 .fn = tile_for(x->dtype), .size = eng_dtype_size(x->dtype), .x = x->data, .y = c->out[0]->data};
    if (!eng_tensor_count(x)) return OD_OK;
    if (j.fn == tile_float && j.l.inner == 1) j.fn = dense_line;
    j.tiles = od_ceil_div(j.l.inner, TILE);
    j.units = j.l.outer * j.tiles;
    j.chunks = od_min_i64(j.units, eng_chunks(eng_tensor_count(x), 16384));
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, arg_units, &j);
    return OD_OK;
}

od_code eng_argmax_run(eng_ctx *c, od_status *st)
{
    return run(c, false, st);
}

od_code eng_argmin_run(eng_ctx *c, od_status *st)
{
    return run(c, true, st);
}
