/* pad.c - Pad (constant, edge, reflect, wrap; negative pads crop) and CenterCropPad, in either layout. */
#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"

#include <string.h>

/* ---- Pad ------------------------------------------------------------------------------------ */

od_code eng_pad_import(eng_graph *g, eng_node *n, od_status *st)
{
    OD_TRY(eng_attr_to_input(g, n, "paddings", 1, false, st));
    OD_TRY(eng_attr_to_input(g, n, "pads", 1, false, st));
    return eng_attr_to_input(g, n, "value", 2, true, st);
}

typedef enum pad_mode { PAD_CONSTANT, PAD_EDGE, PAD_REFLECT, PAD_WRAP } pad_mode;

typedef struct pads {
    pad_mode mode;
    int64_t before[ENG_MAX_RANK], after[ENG_MAX_RANK]; /* by logical axis */
} pads;

static od_code read_pads(const eng_ctx *c, pads *p, od_status *st)
{
    static const char *const modes[] = {"constant", "edge", "reflect", "wrap"};
    int64_t list[2 * ENG_MAX_RANK], n, axes[ENG_MAX_RANK], n_axes;
    int rank = c->in[0]->rank;
    *p = (pads){.mode = PAD_CONSTANT};
    while (!eng_node_string_is(c->node, "mode", "constant", modes[p->mode]))
        if (++p->mode > PAD_WRAP) return od_fail(st, OD_BAD_ARGUMENT, "mode is none of constant, edge, reflect, wrap");
    eng_tensor flat;
    const eng_tensor *in1 = c->in[1];
    if (in1->rank == 2 && in1->dims[0] == 1 && c->node->domain == ENG_DOMAIN_MS) { /* may be [1, n] there */
        flat = *in1;
        flat.rank = 1;
        flat.dims[0] = in1->dims[1];
        c->in[1] = &flat;
    }
    od_code rc = eng_ints_in(c, 1, 2 * ENG_MAX_RANK, list, &n, st);
    c->in[1] = in1;
    OD_TRY(rc);
    OD_TRY(eng_ints_in(c, 3, ENG_MAX_RANK, axes, &n_axes, st));
    bool has_axes = c->n_in > 3 && c->in[3];
    int64_t count = has_axes ? n_axes : rank;
    if (n != 2 * count) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " pads for %" PRId64 " axes", n, count);
    bool seen[ENG_MAX_RANK] = {false};
    for (int64_t i = 0; i < count; i++) {
        int axis = (int)i;
        if (has_axes) OD_TRY(eng_axis(axes[i], rank, false, &axis, st));
        if (seen[axis]) return od_fail(st, OD_BAD_ARGUMENT, "axis %d is named twice", axis);
        seen[axis] = true;
        p->before[axis] = list[i];
        p->after[axis] = list[count + i];
    }
    return OD_OK;
}

od_code eng_pad_infer(eng_ctx *c, od_status *st)
{
    pads p;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(eng_need_inputs(c, 2, st));
    OD_TRY(read_pads(c, &p, st));
    const eng_tensor *x = c->in[0];
    for (int d = 0; d < x->rank; d++) {
        int64_t kept = x->dims[d]; /* cut on both sides first */
        bool fits = !__builtin_add_overflow(kept, od_min_i64(p.before[d], 0), &kept) &&
                    !__builtin_add_overflow(kept, od_min_i64(p.after[d], 0), &kept) && kept >= 0;
        fits = fits && !__builtin_add_overflow(kept, od_max_i64(p.before[d], 0), &dims[d]) &&
               !__builtin_add_overflow(dims[d], od_max_i64(p.after[d], 0), &dims[d]);
        if (!fits)
            return od_fail(st, OD_BAD_VALUE, "axis %d of extent %" PRId64 " padded by %" PRId64 " and %" PRId64, d, x->dims[d],
                           p.before[d], p.after[d]);
        if (!kept && dims[d] && p.mode != PAD_CONSTANT)
            return od_fail(st, OD_BAD_SHAPE, "axis %d has nothing to repeat", d);
    }
    if (c->n_in > 2 && c->in[2] && eng_tensor_count(c->in[2]) != 1)
        return od_fail(st, OD_BAD_SHAPE, "the value has %" PRId64 " elements, wanted one", eng_tensor_count(c->in[2]));
    return eng_set_out(c, 0, x->dtype, x->rank, dims, st);
}

bool eng_pad_alias(const eng_ctx *c, int k, int64_t *offset)
{
    pads p;
    od_status unused;
    if (read_pads(c, &p, &unused) != OD_OK) return false;
    for (int d = 0; d < c->in[0]->rank; d++)
        if (p.before[d] || p.after[d]) return false;
    return eng_alias_same(c, k, offset);
}

/* Where element `i` of the padded axis comes from; -1: the value. */
static int64_t source(pad_mode mode, int64_t i, int64_t extent, int64_t before, int64_t after)
{
    int64_t cut = od_max_i64(0, -before), n = extent - cut - od_max_i64(0, -after), period;
    i -= od_max_i64(0, before);
    if (i < 0 || i >= n) {
        switch (mode) {
        case PAD_CONSTANT: return -1;
        case PAD_EDGE: i = i < 0 ? 0 : n - 1; break;
        case PAD_WRAP: i = (i % n + n) % n; break;
        case PAD_REFLECT:
            period = n > 1 ? 2 * (n - 1) : 1;
            i = (i % period + period) % period;
            if (i >= n) i = period - i;
            break;
        }
    }
    return i + cut;
}

/* Rows along the last padded axis `last` (in memory order); whatever is inside of it is one block. */
typedef struct pad_job {
    int last;
    int64_t dims[ENG_MAX_RANK];          /* of the output, in memory order */
    const int64_t *map[ENG_MAX_RANK];    /* source of each position of axes 0 .. last */
    int64_t stride[ENG_MAX_RANK];        /* of the input, in bytes */
    int64_t block;                       /* bytes */
    int64_t from, to;                    /* of the row: the part that is copied in one go */
    int64_t rows, chunks;
    char *out;
    const char *in, *value;
    size_t size;
} pad_job;

static void pad_part(const pad_job *j, char *out, const char *in, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        int64_t at = j->map[j->last][i];
        if (at < 0) {
            eng_fill(out + i * j->block, (to - i) * (j->block / (int64_t)j->size), j->size, j->value);
            return; /* only the constant mode has -1, and then for the whole part */
        }
        memcpy(out + i * j->block, in + at * j->block, (size_t)j->block);
    }
}

static void pad_row(const pad_job *j, int64_t row)
{
    int64_t extent = j->dims[j->last];
    char *out = j->out + row * extent * j->block;
    const char *in = j->in;
    for (int p = j->last - 1; p >= 0; p--) {
        int64_t at = j->map[p][row % j->dims[p]];
        row /= j->dims[p];
        if (at < 0) {
            eng_fill(out, extent * (j->block / (int64_t)j->size), j->size, j->value);
            return;
        }
        in += at * j->stride[p];
    }
    pad_part(j, out, in, 0, j->from);
    if (j->to > j->from)
        memcpy(out + j->from * j->block, in + j->map[j->last][j->from] * j->block, (size_t)((j->to - j->from) * j->block));
    pad_part(j, out, in, j->to, extent);
}

static void pad_chunk(void *arg, int64_t chunk, int slot)
{
    const pad_job *j = arg;
    (void)slot;
    int64_t from = j->rows / j->chunks * chunk + od_min_i64(chunk, j->rows % j->chunks);
    int64_t n = j->rows / j->chunks + (chunk < j->rows % j->chunks);
    for (int64_t i = 0; i < n; i++) pad_row(j, from + i);
}

/* The value in the type of the data: opsets below 11 had it as a float attribute. */
static od_code read_value(const eng_ctx *c, char *value, od_status *st)
{
    eng_dtype type = c->in[0]->dtype;
    const eng_tensor *v = c->n_in > 2 ? c->in[2] : NULL;
    memset(value, 0, 16);
    if (!v) return OD_OK;
    if (v->dtype == type) {
        memcpy(value, v->data, eng_dtype_size(type));
        return OD_OK;
    }
    double number = eng_tensor_double(v, 0);
    if (!(ENG_T(type) & ENG_T_NUMERIC & ~ENG_T_HALF) || !(ENG_T(v->dtype) & ENG_T_NUMERIC)) {
        if (number == 0.0) return OD_OK;
        return od_fail(st, OD_BAD_TYPE, "the value is %s, the data %s", eng_dtype_name(v->dtype), eng_dtype_name(type));
    }
    eng_store_doubles(value, &number, type, 1, 1);
    return OD_OK;
}

static od_code map_axis(eng_ctx *c, const pads *p, int axis, const int64_t **out, od_status *st)
{
    int64_t n = c->out[0]->dims[axis], *map = od_arena_alloc(c->scratch, (size_t)n * sizeof *map);
    if (!map) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " positions", n);
    for (int64_t i = 0; i < n; i++) map[i] = source(p->mode, i, c->in[0]->dims[axis], p->before[axis], p->after[axis]);
    *out = map;
    return OD_OK;
}

od_code eng_pad_run(eng_ctx *c, od_status *st)
{
    enum { GRAIN = 64 << 10 };
    pads p;
    _Alignas(16) char value[16];
    const eng_tensor *x = c->in[0];
    OD_TRY(read_pads(c, &p, st));
    OD_TRY(read_value(c, value, st));
    if (!c->out[0] || !eng_tensor_count(c->out[0])) return OD_OK;
    if (!x->rank) {
        memcpy(c->out[0]->data, x->data, eng_dtype_size(x->dtype));
        return OD_OK;
    }
    pad_job j = {.out = c->out[0]->data, .in = x->data, .value = value, .size = eng_dtype_size(x->dtype), .rows = 1};
    int64_t unused[ENG_MAX_RANK];
    eng_tensor_phys(c->out[0], j.dims, unused);
    eng_tensor_phys(x, unused, j.stride);
    for (int axis = 0; axis < x->rank; axis++) {
        int at = eng_tensor_phys_axis(x, axis);
        OD_TRY(map_axis(c, &p, axis, &j.map[at], st));
        if ((p.before[axis] || p.after[axis]) && at > j.last) j.last = at;
        j.stride[at] *= (int64_t)j.size;
    }
    for (int d = 0; d < j.last; d++) j.rows *= j.dims[d];
    j.block = j.stride[j.last];
    int axis = 0;
    while (eng_tensor_phys_axis(x, axis) != j.last) axis++;
    j.from = od_max_i64(0, p.before[axis]);
    j.to = j.dims[j.last] - od_max_i64(0, p.after[axis]);
    j.chunks = eng_chunks(j.rows, GRAIN / (j.dims[j.last] * j.block) + 1);
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, pad_chunk, &j);
    return OD_OK;
}

/* ---- CenterCropPad -------------------------------------------------------------------------- */

od_code eng_center_crop_pad_infer(eng_ctx *c, od_status *st)
{
    int64_t shape[ENG_MAX_RANK], n, n_axes, dims[ENG_MAX_RANK];
    OD_TRY(eng_need_inputs(c, 2, st));
    const eng_tensor *x = c->in[0];
    OD_TRY(eng_ints_in(c, 1, ENG_MAX_RANK, shape, &n, st));
    const int64_t *axes = eng_node_ints(c->node, "axes", &n_axes);
    if (n != (axes ? n_axes : x->rank))
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " extents for %" PRId64 " axes", n, axes ? n_axes : (int64_t)x->rank);
    for (int d = 0; d < x->rank; d++) dims[d] = x->dims[d];
    for (int64_t i = 0; i < n; i++) {
        int axis = (int)i;
        if (axes) OD_TRY(eng_axis(axes[i], x->rank, false, &axis, st));
        dims[axis] = shape[i];
    }
    return eng_set_out(c, 0, x->dtype, x->rank, dims, st);
}

od_code eng_center_crop_pad_run(eng_ctx *c, od_status *st)
{
    int64_t to[ENG_MAX_RANK], from[ENG_MAX_RANK], at = 0, skip = 0;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    (void)st;
    if (!y) return OD_OK;
    eng_tensor inner = *y; /* what comes from the input, seen in the output */
    eng_move m = {.size = eng_dtype_size(y->dtype)};
    eng_tensor_strides(y, to);
    eng_tensor_strides(x, from);
    for (int d = 0; d < y->rank; d++) {
        inner.dims[d] = od_min_i64(x->dims[d], y->dims[d]);
        at += (y->dims[d] - inner.dims[d]) / 2 * to[d];
        skip += (x->dims[d] - inner.dims[d]) / 2 * from[d];
        eng_move_axis(&m, inner.dims[d], to[d], from[d]);
    }
    if (!eng_dims_equal(&inner, y)) memset(y->data, 0, eng_tensor_bytes(y));
    m.to = (char *)y->data + at * (int64_t)m.size;
    m.from = (const char *)x->data + skip * (int64_t)m.size;
    eng_move_run(&m, c->pool);
    return OD_OK;
}
