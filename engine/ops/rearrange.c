/* rearrange.c - Rearrange, our own: Reshape, Transpose and perhaps Reshape in one copy. Inputs: data,
 * the first shape, the second shape or nothing; attribute perm.
 *
 * Alone, a Reshape must have its tensor row-major. Together they are one strided copy from either
 * layout into either: shuffled channels, pixels moved to depth, windows of an image. */
#include "engine/ops/shape.h"

#include <string.h>

enum { ATOMS = 3 * ENG_MAX_RANK };

/* A piece of an axis that the copy crosses with one stride on each side. */
typedef struct atom {
    int64_t extent, a, b; /* strides */
    int axis;             /* of the second list it was cut from */
} atom;

typedef struct list {
    int n;
    int64_t extent[ATOMS], stride[ATOMS];
} list;

/* Cut the axes of `a` and `b`, two shapes over the same elements in the same order, at each other's
 * borders; outermost first. -1: they do not nest. */
static int cut(const list *a, const list *b, atom *out)
{
    int i = a->n - 1, j = b->n - 1, n = 0;
    int64_t ra = i >= 0 ? a->extent[i] : 1, rb = j >= 0 ? b->extent[j] : 1;
    int64_t sa = i >= 0 ? a->stride[i] : 0, sb = j >= 0 ? b->stride[j] : 0;
    while (i >= 0 || j >= 0) {
        if (ra == 1 && i >= 0) {
            if (--i >= 0) ra = a->extent[i], sa = a->stride[i];
            continue;
        }
        if (rb == 1 && j >= 0) {
            if (--j >= 0) rb = b->extent[j], sb = b->stride[j];
            continue;
        }
        int64_t piece = od_min_i64(ra, rb);
        if (ra % piece || rb % piece || n == ATOMS) return -1;
        out[n++] = (atom){piece, sa, sb, j};
        ra /= piece;
        rb /= piece;
        sa *= piece;
        sb *= piece;
    }
    for (int k = 0; k < n / 2; k++) {
        atom t = out[k];
        out[k] = out[n - 1 - k];
        out[n - 1 - k] = t;
    }
    return n;
}

typedef struct shapes {
    eng_tensor first, turned, second; /* after Reshape, Transpose, Reshape */
    int perm[ENG_MAX_RANK];
} shapes;

static od_code read_shapes(const eng_ctx *c, shapes *s, od_status *st)
{
    OD_TRY(eng_need_inputs(c, 2, st));
    s->first = *c->in[0];
    OD_TRY(eng_reshaped(c, 1, &s->first, st));
    OD_TRY(eng_perm_attr(c, s->first.rank, s->perm, st));
    s->turned = s->first;
    for (int d = 0; d < s->first.rank; d++) s->turned.dims[d] = s->first.dims[s->perm[d]];
    s->second = s->turned;
    return c->n_in > 2 && c->in[2] ? eng_reshaped(c, 2, &s->second, st) : OD_OK;
}

/* The copy as atoms with strides in the input (a) and in `out` (b), or -1. */
static int plan_copy(const shapes *s, const eng_tensor *in, const eng_tensor *out, atom *atoms)
{
    list a = {.n = in->rank}, b = {.n = s->first.rank}, turned = {0}, last = {.n = out->rank};
    atom first[ATOMS];
    if (!eng_tensor_count(in)) return -1;
    eng_tensor_strides(in, a.stride);
    memcpy(a.extent, in->dims, sizeof in->dims);
    memcpy(b.extent, s->first.dims, sizeof s->first.dims);
    if (in->layout == ENG_ROW) { /* any shape over it is dense too */
        eng_tensor row = s->first;
        row.layout = ENG_ROW;
        eng_tensor_strides(&row, b.stride);
        a = b;
    }
    int n = cut(&a, &b, first);
    if (n < 0) return -1;
    for (int d = 0; d < s->first.rank; d++)
        for (int k = 0; k < n; k++) {
            if (first[k].axis != s->perm[d]) continue;
            turned.extent[turned.n] = first[k].extent;
            turned.stride[turned.n++] = first[k].a;
        }
    eng_tensor_strides(out, last.stride);
    memcpy(last.extent, out->dims, sizeof out->dims);
    if (out->layout == ENG_ROW) {
        last = turned;
        for (int64_t k = last.n - 1, stride = 1; k >= 0; k--) {
            last.stride[k] = stride;
            stride *= last.extent[k];
        }
    }
    return cut(&turned, &last, atoms);
}

/* Strides of `out`'s axes in the input's bytes, where each axis has one. */
static bool as_view(const shapes *s, const eng_tensor *in, const eng_tensor *out, int64_t *strides)
{
    atom atoms[ATOMS];
    eng_tensor probe = *out; /* row strides of `out` say which axis an atom belongs to */
    list dims = {.n = out->rank}, pieces = {0};
    probe.layout = ENG_ROW;
    int n = plan_copy(s, in, &probe, atoms);
    if (n < 0) return false;
    for (int k = 0; k < n; k++) {
        pieces.extent[k] = atoms[k].extent;
        pieces.stride[k] = atoms[k].a;
    }
    pieces.n = n;
    memcpy(dims.extent, out->dims, sizeof out->dims);
    if ((n = cut(&pieces, &dims, atoms)) < 0) return false;
    for (int d = 0; d < out->rank; d++) strides[d] = 1;
    for (int k = n - 1, last = -1; k >= 0; last = atoms[k--].axis) {
        const atom *t = &atoms[k];
        if (t->axis != last) strides[t->axis] = t->a;
        else if (t->a != atoms[k + 1].a * atoms[k + 1].extent) return false;
    }
    return true;
}

od_code eng_rearrange_infer(eng_ctx *c, od_status *st)
{
    shapes s;
    OD_TRY(read_shapes(c, &s, st));
    return eng_set_out(c, 0, s.second.dtype, s.second.rank, s.second.dims, st);
}

void eng_rearrange_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    shapes s;
    od_status unused;
    atom atoms[ATOMS];
    int64_t strides[ENG_MAX_RANK];
    for (int i = 1; i < c->n_in; i++) want_in[i] = ENG_ROW;
    if (!c->out[0] || read_shapes(c, &s, &unused) != OD_OK) return;
    const eng_tensor *in = c->in[0];
    eng_tensor out = *c->out[0];
    bool image = out.rank >= 3;
    out.layout = ENG_CL;
    out.pitch = image ? out.dims[1] : 0;
    if (as_view(&s, in, &out, strides)) {
        eng_tensor row = out;
        row.layout = ENG_ROW;
        if (eng_view_strided(&row, strides)) return;
        if (image && eng_view_strided(&out, strides)) {
            *want_out = ENG_CL;
            return;
        }
        out.pitch = image ? out.dims[1] : 0;
    }
    if (in->layout == ENG_CL && image && in->rank == out.rank && plan_copy(&s, in, &out, atoms) >= 0) {
        *want_out = ENG_CL;
        return;
    }
    out.layout = ENG_ROW;
    if (plan_copy(&s, in, &out, atoms) < 0) want_in[0] = ENG_ROW;
}

bool eng_rearrange_alias(const eng_ctx *c, int k, int64_t *offset)
{
    shapes s;
    od_status unused;
    int64_t strides[ENG_MAX_RANK];
    (void)offset;
    return read_shapes(c, &s, &unused) == OD_OK && as_view(&s, c->in[0], c->out[k], strides) &&
           eng_view_strided(c->out[k], strides);
}

od_code eng_rearrange_run(eng_ctx *c, od_status *st)
{
    shapes s;
    atom atoms[ATOMS];
    OD_TRY(read_shapes(c, &s, st));
    const eng_tensor *in = c->in[0], *out = c->out[0];
    if (!out || !eng_tensor_count(out)) return OD_OK;
    int n = plan_copy(&s, in, out, atoms);
    if (n < 0) return od_fail(st, OD_INTERNAL, "the shapes do not nest in these layouts");
    eng_move m = {.to = out->data, .from = in->data, .size = eng_dtype_size(in->dtype)};
    for (int k = 0; k < n; k++) eng_move_axis(&m, atoms[k].extent, atoms[k].b, atoms[k].a);
    eng_move_run(&m, c->pool);
    return OD_OK;
}
