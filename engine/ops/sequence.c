/* sequence.c - lists of tensors: made, read, changed, split into and joined from. Elements are shared,
 * never copied: inputs of these operators live as long as the run. */
#include "engine/ops/control.h"
#include "engine/ops/ops.h"

#include <string.h>

/* A sequence with room for `n` elements. */
static od_code make(eng_ctx *c, int64_t n, eng_tensor *out, od_status *st)
{
    size_t bytes;
    *out = (eng_tensor){.dtype = ENG_SEQUENCE, .rank = 1, .dims = {n}};
    if (od_mul((size_t)n, sizeof(eng_tensor), &bytes)) out->data = eng_run_alloc(c, bytes);
    return out->data ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for a sequence of %" PRId64, n);
}

static eng_tensor *elements(const eng_tensor *sequence)
{
    return sequence->data;
}

static od_code check_sequence(const eng_ctx *c, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "the sequence is missing");
    if (c->in[0]->dtype == ENG_SEQUENCE) return OD_OK;
    return od_fail(st, OD_BAD_TYPE, "input 0 is %s, wanted a sequence", eng_dtype_name(c->in[0]->dtype));
}

/* Input `i`, a position, brought from -n .. n-1 (or .. n when `end`) to 0 ..; `absent` when it is omitted. */
static od_code position(const eng_ctx *c, int i, int64_t n, bool end, int64_t absent, int64_t *out, od_status *st)
{
    int64_t at = absent, count;
    if (i < c->n_in && c->in[i]) {
        OD_TRY(eng_ints_in(c, i, 1, &at, &count, st));
        if (count != 1) return od_fail(st, OD_BAD_SHAPE, "the position is empty");
        if (at < -n || at >= n + end)
            return od_fail(st, OD_BAD_VALUE, "position %" PRId64 " in a sequence of %" PRId64, at, n);
        if (at < 0) at += n;
    }
    *out = at;
    return OD_OK;
}

od_code eng_sequence_empty_infer(eng_ctx *c, od_status *st)
{
    eng_tensor s;
    OD_TRY(make(c, 0, &s, st));
    eng_give(c, 0, &s);
    return OD_OK;
}

od_code eng_sequence_construct_infer(eng_ctx *c, od_status *st)
{
    eng_tensor s;
    if (c->n_in < 1) return od_fail(st, OD_BAD_MODEL, "a sequence needs an element");
    OD_TRY(make(c, c->n_in, &s, st));
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i]) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
        elements(&s)[i] = *c->in[i];
    }
    OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st));
    eng_give(c, 0, &s);
    return OD_OK;
}

od_code eng_sequence_at_infer(eng_ctx *c, od_status *st)
{
    int64_t at;
    OD_TRY(check_sequence(c, st));
    if (c->n_in < 2 || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "the position is missing");
    OD_TRY(position(c, 1, c->in[0]->dims[0], false, 0, &at, st));
    eng_give(c, 0, &elements(c->in[0])[at]);
    return OD_OK;
}

od_code eng_sequence_insert_infer(eng_ctx *c, od_status *st)
{
    eng_tensor s;
    OD_TRY(check_sequence(c, st));
    int64_t n = c->in[0]->dims[0], at;
    const eng_tensor *old = elements(c->in[0]), *e = c->n_in > 1 ? c->in[1] : NULL;
    if (!e) return od_fail(st, OD_BAD_MODEL, "the tensor to insert is missing");
    if (n && old[0].dtype != e->dtype)
        return od_fail(st, OD_BAD_TYPE, "a %s goes into a sequence of %s", eng_dtype_name(e->dtype),
                       eng_dtype_name(old[0].dtype));
    OD_TRY(position(c, 2, n, true, n, &at, st));
    OD_TRY(make(c, n + 1, &s, st));
    if (at) memcpy(elements(&s), old, (size_t)at * sizeof *old);
    elements(&s)[at] = *e;
    if (n > at) memcpy(elements(&s) + at + 1, old + at, (size_t)(n - at) * sizeof *old);
    eng_give(c, 0, &s);
    return OD_OK;
}

od_code eng_sequence_erase_infer(eng_ctx *c, od_status *st)
{
    eng_tensor s;
    OD_TRY(check_sequence(c, st));
    int64_t n = c->in[0]->dims[0], at;
    const eng_tensor *old = elements(c->in[0]);
    if (!n) return od_fail(st, OD_BAD_VALUE, "the sequence is empty");
    OD_TRY(position(c, 1, n, false, n - 1, &at, st));
    OD_TRY(make(c, n - 1, &s, st));
    memcpy(elements(&s), old, (size_t)at * sizeof *old);
    memcpy(elements(&s) + at, old + at + 1, (size_t)(n - 1 - at) * sizeof *old);
    eng_give(c, 0, &s);
    return OD_OK;
}

od_code eng_sequence_length_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(check_sequence(c, st));
    return eng_set_out(c, 0, ENG_INT64, 0, NULL, st);
}

od_code eng_sequence_length_run(eng_ctx *c, od_status *st)
{
    (void)st;
    *(int64_t *)c->out[0]->data = c->in[0]->dims[0];
    return OD_OK;
}

/* ---- SplitToSequence ---------------------------------------------------------------------- */

/* The piece of `from` that is [begin, begin + n) of `axis`: a view along axis 0, else a copy. */
static od_code cut(eng_ctx *c, const eng_tensor *from, int axis, int64_t begin, int64_t n, eng_tensor *out, od_status *st)
{
    int64_t outer = 1, inner = 1, extent = from->dims[axis];
    for (int d = 0; d < axis; d++) outer *= from->dims[d];
    for (int d = axis + 1; d < from->rank; d++) inner *= from->dims[d];
    size_t size = eng_dtype_size(from->dtype), piece = (size_t)(n * inner) * size;
    const char *src = (const char *)from->data + (size_t)(begin * inner) * size;
    *out = *from;
    out->dims[axis] = n;
    if (outer == 1) {
        out->data = (char *)(uintptr_t)src;
        return OD_OK;
    }
    out->data = eng_run_alloc(c, (size_t)outer * piece);
    if (!out->data) return od_fail(st, OD_NO_MEMORY, "no memory for a piece of %zu bytes", (size_t)outer * piece);
    for (int64_t o = 0; o < outer && piece; o++)
        memcpy((char *)out->data + (size_t)o * piece, src + (size_t)(o * extent * inner) * size, piece);
    return OD_OK;
}

typedef struct pieces {
    int64_t n, each;      /* all of size `each` but for a shorter last one, or of */
    const eng_tensor *of; /* these sizes */
} pieces;

static od_code piece_sizes(const eng_ctx *c, int64_t extent, pieces *p, od_status *st)
{
    const eng_tensor *split = c->n_in > 1 ? c->in[1] : NULL;
    *p = (pieces){.n = extent, .each = 1};
    if (!split) return OD_OK;
    if (split->dtype != ENG_INT64 && split->dtype != ENG_INT32)
        return od_fail(st, OD_BAD_TYPE, "split is %s, wanted int64", eng_dtype_name(split->dtype));
    if (split->rank == 0) {
        p->each = eng_tensor_int(split, 0);
        if (p->each < 1) return od_fail(st, OD_BAD_VALUE, "split is %" PRId64 ", wanted at least 1", p->each);
        p->n = od_ceil_div(extent, p->each);
        return OD_OK;
    }
    if (split->rank != 1) return od_fail(st, OD_BAD_SHAPE, "split has rank %d, wanted 0 or 1", split->rank);
    p->n = split->dims[0];
    p->of = split;
    int64_t left = extent;
    for (int64_t i = 0; i < p->n; i++) {
        int64_t size = eng_tensor_int(split, i);
        if (size < 0 || size > left)
            return od_fail(st, OD_BAD_VALUE, "split %" PRId64 " is %" PRId64 " where %" PRId64 " are left", i, size, left);
        left -= size;
    }
    if (left) return od_fail(st, OD_BAD_VALUE, "split leaves %" PRId64 " of %" PRId64, left, extent);
    return OD_OK;
}

od_code eng_split_to_sequence_infer(eng_ctx *c, od_status *st)
{
    eng_tensor s;
    pieces p;
    int axis;
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    const eng_tensor *x = c->in[0];
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", 0), x->rank, false, &axis, st));
    bool squeeze = (c->n_in < 2 || !c->in[1]) && !eng_node_int(c->node, "keepdims", 1);
    OD_TRY(piece_sizes(c, x->dims[axis], &p, st));
    OD_TRY(make(c, p.n, &s, st));
    for (int64_t i = 0, at = 0, n; i < p.n; i++, at += n) {
        eng_tensor *e = &elements(&s)[i];
        n = p.of ? eng_tensor_int(p.of, i) : od_min_i64(p.each, x->dims[axis] - at);
        OD_TRY(cut(c, x, axis, at, n, e, st));
        if (!squeeze) continue;
        memmove(e->dims + axis, e->dims + axis + 1, (size_t)(e->rank - axis - 1) * sizeof *e->dims);
        e->rank--;
    }
    eng_give(c, 0, &s);
    return OD_OK;
}

/* ---- ConcatFromSequence ------------------------------------------------------------------- */

od_code eng_concat_from_sequence_infer(eng_ctx *c, od_status *st)
{
    char have[160], want[160];
    OD_TRY(check_sequence(c, st));
    int64_t n = c->in[0]->dims[0], total = 0;
    const eng_tensor *e = elements(c->in[0]);
    const eng_attr *attr = eng_node_attr(c->node, "axis");
    bool fresh = eng_node_int(c->node, "new_axis", 0) != 0;
    int axis;
    if (!n) return od_fail(st, OD_BAD_VALUE, "the sequence is empty");
    if (!attr) return od_fail(st, OD_BAD_MODEL, "attribute axis is missing");
    OD_TRY(eng_axis(attr->i, e[0].rank, fresh, &axis, st));
    eng_tensor out = e[0];
    for (int64_t i = 0; i < n; i++) {
        eng_tensor like = e[i];
        if (!fresh && like.rank == e[0].rank) like.dims[axis] = e[0].dims[axis];
        if (like.dtype != e[0].dtype || !eng_dims_equal(&like, &e[0]))
            return od_fail(st, OD_BAD_SHAPE, "element %" PRId64 " is %s, element 0 is %s: they do not join along axis %d", i,
                           eng_tensor_text(&e[i], have, sizeof have), eng_tensor_text(&e[0], want, sizeof want), axis);
        if (__builtin_add_overflow(total, fresh ? 1 : e[i].dims[axis], &total))
            return od_fail(st, OD_BAD_SHAPE, "axis %d becomes too long", axis);
    }
    if (e[0].dtype >= ENG_SEQUENCE)
        return od_fail(st, OD_BAD_TYPE, "elements of type %s cannot be joined", eng_dtype_name(e[0].dtype));
    if (fresh) {
        if (out.rank == ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "elements of rank %d get no further axis", out.rank);
        memmove(out.dims + axis + 1, out.dims + axis, (size_t)(out.rank - axis) * sizeof *out.dims);
        out.rank++;
    }
    out.dims[axis] = total;
    return eng_set_out(c, 0, out.dtype, out.rank, out.dims, st);
}

od_code eng_concat_from_sequence_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *e = elements(c->in[0]), *out = c->out[0];
    bool fresh = eng_node_int(c->node, "new_axis", 0) != 0;
    int axis;
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", 0), e[0].rank, fresh, &axis, st));
    int64_t outer = 1;
    for (int d = 0; d < axis; d++) outer *= out->dims[d];
    size_t row = outer ? eng_tensor_bytes(out) / (size_t)outer : 0;
    char *to = out->data;
    for (int64_t i = 0; i < c->in[0]->dims[0]; i++) {
        size_t piece = outer ? eng_tensor_bytes(&e[i]) / (size_t)outer : 0;
        for (int64_t o = 0; o < outer && piece; o++)
            memcpy(to + (size_t)o * row, (const char *)e[i].data + (size_t)o * piece, piece);
        to += piece;
    }
    return OD_OK;
}

/* ---- SequenceMap -------------------------------------------------------------------------- */

od_code eng_sequence_map_infer(eng_ctx *c, od_status *st)
{
    eng_body b;
    int own;
    OD_TRY(check_sequence(c, st));
    OD_TRY(eng_body_find(c, "body", &b, &own, st));
    int64_t n = c->in[0]->dims[0];
    if (own != b.n_own || b.graph->n_outputs < c->n_out)
        return od_fail(st, OD_BAD_MODEL, "%d inputs and %d outputs, its body has %d and %d", own, c->n_out, b.n_own,
                       b.graph->n_outputs);
    eng_tensor *s = od_arena_array(c->scratch, eng_tensor, b.graph->n_outputs);
    if (!s) return od_fail(st, OD_NO_MEMORY, "no memory for %d sequences", b.graph->n_outputs);
    for (int k = 0; k < b.graph->n_outputs; k++) OD_TRY(make(c, n, &s[k], st));
    for (int i = 1; i < own; i++)
        if (c->in[i] && c->in[i]->dtype == ENG_SEQUENCE && c->in[i]->dims[0] != n)
            return od_fail(st, OD_BAD_SHAPE, "sequence %d has %" PRId64 " elements, the first %" PRId64, i,
                           c->in[i]->dims[0], n);
    for (int64_t r = 0; r < n; r++) {
        for (int i = 0; i < own; i++)
            b.args[i] = c->in[i] && c->in[i]->dtype == ENG_SEQUENCE ? &elements(c->in[i])[r] : c->in[i];
        if (eng_body_run(c, &b, st) != OD_OK) return od_note(st, "element %" PRId64, r);
        for (int k = 0; k < b.graph->n_outputs; k++)
            OD_TRY(eng_tensor_copy(&elements(&s[k])[r], &b.outputs[k], c->memory, st));
    }
    for (int k = 0; k < c->n_out; k++) eng_give(c, k, &s[k]);
    return OD_OK;
}
