/* depth_space.c - pixels regrouped: DepthToSpace, SpaceToDepth in either layout; Col2Im. */
#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"

#include <string.h>

/* ---- DepthToSpace, SpaceToDepth ------------------------------------------------------------- */

static od_code read_block(const eng_ctx *c, int64_t *block, bool *crd, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 1, st));
    *block = eng_node_int(c->node, "blocksize", 0);
    *crd = eng_node_string_is(c->node, "mode", "DCR", "CRD");
    if (*block < 1 || *block > 1 << 15) return od_fail(st, OD_BAD_ARGUMENT, "blocksize is %" PRId64, *block);
    if (!*crd && !eng_node_string_is(c->node, "mode", "DCR", "DCR")) return od_fail(st, OD_BAD_ARGUMENT, "mode is neither DCR nor CRD");
    if (c->in[0]->rank != 4) return od_fail(st, OD_BAD_SHAPE, "input 0 has rank %d, wanted 4", c->in[0]->rank);
    return OD_OK;
}

od_code eng_depth_to_space_infer(eng_ctx *c, od_status *st)
{
    int64_t b, h, w;
    bool crd;
    OD_TRY(read_block(c, &b, &crd, st));
    const int64_t *x = c->in[0]->dims;
    if (x[1] % (b * b)) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " channels in blocks of %" PRId64, x[1], b * b);
    if (!od_mul_i64(x[2], b, &h) || !od_mul_i64(x[3], b, &w)) return od_fail(st, OD_BAD_SHAPE, "extents overflow");
    return eng_set_out(c, 0, c->in[0]->dtype, 4, (int64_t[]){x[0], x[1] / (b * b), h, w}, st);
}

od_code eng_space_to_depth_infer(eng_ctx *c, od_status *st)
{
    int64_t b, channels;
    bool crd;
    OD_TRY(read_block(c, &b, &crd, st));
    const int64_t *x = c->in[0]->dims;
    if (x[2] % b || x[3] % b) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " x %" PRId64 " pixels in blocks of %" PRId64, x[2], x[3], b);
    if (!od_mul_i64(x[1], b * b, &channels)) return od_fail(st, OD_BAD_SHAPE, "channels overflow");
    return eng_set_out(c, 0, c->in[0]->dtype, 4, (int64_t[]){x[0], channels, x[2] / b, x[3] / b}, st);
}

/* `deep` has the channels, `wide` the pixels: the box of both, axis by axis, with either as source. */
static void regroup(const eng_ctx *c, const eng_tensor *deep, const eng_tensor *wide, int64_t b, bool crd)
{
    int64_t d[ENG_MAX_RANK], w[ENG_MAX_RANK], channels = wide->dims[1];
    eng_tensor_strides(deep, d);
    eng_tensor_strides(wide, w);
    int64_t row = crd ? b * d[1] : b * channels * d[1], col = crd ? d[1] : channels * d[1], channel = crd ? b * b * d[1] : d[1];
    const int64_t dims[] = {deep->dims[0], channels, deep->dims[2], b, deep->dims[3], b};
    const int64_t in_deep[] = {d[0], channel, d[2], row, d[3], col};
    const int64_t in_wide[] = {w[0], w[1], w[2] * b, w[2], w[3] * b, w[3]};
    bool to_wide = wide == c->out[0];
    eng_move m = {.to = c->out[0]->data, .from = c->in[0]->data, .size = eng_dtype_size(deep->dtype)};
    for (int i = 0; i < 6; i++) eng_move_axis(&m, dims[i], to_wide ? in_wide[i] : in_deep[i], to_wide ? in_deep[i] : in_wide[i]);
    eng_move_run(&m, c->pool);
}

od_code eng_depth_to_space_run(eng_ctx *c, od_status *st)
{
    int64_t b;
    bool crd;
    OD_TRY(read_block(c, &b, &crd, st));
    if (c->out[0]) regroup(c, c->in[0], c->out[0], b, crd);
    return OD_OK;
}

od_code eng_space_to_depth_run(eng_ctx *c, od_status *st)
{
    int64_t b;
    bool crd;
    OD_TRY(read_block(c, &b, &crd, st));
    if (c->out[0]) regroup(c, c->out[0], c->in[0], b, crd);
    return OD_OK;
}

/* ---- Col2Im --------------------------------------------------------------------------------- */

typedef struct col2im {
    int n; /* spatial axes */
    int64_t image[ENG_MAX_RANK], kernel[ENG_MAX_RANK], stride[ENG_MAX_RANK], dilation[ENG_MAX_RANK], begin[ENG_MAX_RANK],
        steps[ENG_MAX_RANK]; /* positions of the kernel along each axis */
    int64_t taps, positions, pixels;
} col2im;

static od_code read_list(const eng_ctx *c, const char *name, int n, int64_t least, int64_t otherwise, int64_t *out, od_status *st)
{
    enum { MOST = 1 << 24 };
    int64_t count;
    const int64_t *v = eng_node_ints(c->node, name, &count);
    if (v && count != n) return od_fail(st, OD_BAD_ARGUMENT, "%s has %" PRId64 " entries, wanted %d", name, count, n);
    for (int i = 0; i < n; i++) {
        out[i] = v ? v[i] : otherwise;
        if (out[i] < least || out[i] > MOST) return od_fail(st, OD_BAD_ARGUMENT, "%s[%d] is %" PRId64, name, i, out[i]);
    }
    return OD_OK;
}

static od_code read_col2im(const eng_ctx *c, col2im *p, od_status *st)
{
    enum { AXES = ENG_MAX_RANK - 2, MOST = 1 << 24 };
    int64_t n, m, pads[2 * ENG_MAX_RANK];
    OD_TRY(eng_need_inputs(c, 3, st));
    OD_TRY(eng_ints_in(c, 1, AXES, p->image, &n, st));
    OD_TRY(eng_ints_in(c, 2, AXES, p->kernel, &m, st));
    if (n != m || n < 1) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " extents of the image, %" PRId64 " of the block", n, m);
    p->n = (int)n;
    OD_TRY(read_list(c, "strides", p->n, 1, 1, p->stride, st));
    OD_TRY(read_list(c, "dilations", p->n, 1, 1, p->dilation, st));
    OD_TRY(read_list(c, "pads", 2 * p->n, 0, 0, pads, st));
    p->taps = p->positions = p->pixels = 1;
    for (int d = 0; d < p->n; d++) {
        if (p->image[d] < 1 || p->kernel[d] < 1 || p->image[d] > MOST || p->kernel[d] > MOST)
            return od_fail(st, OD_BAD_VALUE, "image extent %" PRId64 ", block extent %" PRId64, p->image[d], p->kernel[d]);
        int64_t room = p->image[d] + pads[d] + pads[d + p->n] - p->dilation[d] * (p->kernel[d] - 1) - 1;
        if (room < 0) return od_fail(st, OD_BAD_SHAPE, "the block does not fit into axis %d", d);
        p->begin[d] = pads[d];
        p->steps[d] = room / p->stride[d] + 1;
        if (!od_mul_i64(p->taps, p->kernel[d], &p->taps) || !od_mul_i64(p->positions, p->steps[d], &p->positions) ||
            !od_mul_i64(p->pixels, p->image[d], &p->pixels))
            return od_fail(st, OD_BAD_SHAPE, "extents overflow");
    }
    const eng_tensor *x = c->in[0];
    if (x->rank != 3) return od_fail(st, OD_BAD_SHAPE, "input 0 has rank %d, wanted 3", x->rank);
    if (x->dims[1] % p->taps || x->dims[2] != p->positions)
        return od_fail(st, OD_BAD_SHAPE, "columns are %" PRId64 " x %" PRId64 ", wanted a multiple of %" PRId64 " x %" PRId64,
                       x->dims[1], x->dims[2], p->taps, p->positions);
    return OD_OK;
}

od_code eng_col2im_infer(eng_ctx *c, od_status *st)
{
    col2im p;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(read_col2im(c, &p, st));
    dims[0] = c->in[0]->dims[0];
    dims[1] = c->in[0]->dims[1] / p.taps;
    for (int d = 0; d < p.n; d++) dims[2 + d] = p.image[d];
    return eng_set_out(c, 0, c->in[0]->dtype, p.n + 2, dims, st);
}

/* The pixel that tap `tap` of the block at `position` covers, or -1. */
static int64_t pixel_of(const col2im *p, int64_t tap, int64_t position)
{
    int64_t pixel = 0, scale = 1;
    for (int d = p->n - 1; d >= 0; d--) {
        int64_t at = position % p->steps[d] * p->stride[d] + tap % p->kernel[d] * p->dilation[d] - p->begin[d];
        if (at < 0 || at >= p->image[d]) return -1;
        pixel += at * scale;
        scale *= p->image[d];
        position /= p->steps[d];
        tap /= p->kernel[d];
    }
    return pixel;
}

typedef struct col2im_job {
    const col2im *p;
    const eng_tensor *x, *y;
} col2im_job;

#define SUM_CASE(T, TAG, W, L, S)                                                         \
    case TAG: {                                                                           \
        T *to = (T *)j->y->data + image * p->pixels;                                      \
        const T *from = (const T *)j->x->data + image * p->taps * p->positions;           \
        for (int64_t tap = 0; tap < p->taps; tap++)                                       \
            for (int64_t i = 0; i < p->positions; i++, from++) {                          \
                int64_t at = pixel_of(p, tap, i);                                         \
                if (at >= 0) to[at] = (T)((W)to[at] + (W)*from);                          \
            }                                                                             \
        break;                                                                            \
    }

/* One image of one channel. */
static void col2im_image(void *arg, int64_t image, int slot)
{
    const col2im_job *j = arg;
    const col2im *p = j->p;
    (void)slot;
    switch (j->x->dtype) {
        ENG_FOR_INTS(SUM_CASE)
        SUM_CASE(float, ENG_FLOAT, float, , )
        SUM_CASE(double, ENG_DOUBLE, double, , )
        SUM_CASE(float _Complex, ENG_COMPLEX64, float _Complex, , )
        SUM_CASE(double _Complex, ENG_COMPLEX128, double _Complex, , )
        SUM_CASE(bool, ENG_BOOL, bool, , )
    default: break;
    }
}

od_code eng_col2im_run(eng_ctx *c, od_status *st)
{
    col2im p;
    OD_TRY(read_col2im(c, &p, st));
    if (!c->out[0]) return OD_OK;
    col2im_job j = {&p, c->in[0], c->out[0]};
    memset(c->out[0]->data, 0, eng_tensor_bytes(c->out[0]));
    od_pool_for(c->pool, c->out[0]->dims[0] * c->out[0]->dims[1], col2im_image, &j);
    return OD_OK;
}
