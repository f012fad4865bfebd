/* unique.c - Unique: the distinct elements of a tensor, or its distinct slices along an axis, sorted
 * or as they come. com.microsoft's form takes them as they come and leaves out the first positions. */
#include "engine/ops/shape.h"

#include <math.h>
#include <string.h>

/* `n` slices: slice i is, for each o below `outer`, the `inner` elements from (o * n + i) * inner on. */
typedef struct slices {
    const eng_tensor *x;
    int64_t n, outer, inner;
} slices;

typedef struct groups {
    int64_t count;
    int64_t *of;    /* group of each slice */
    int64_t *first; /* by group: the first slice of it */
    int64_t *size;
} groups;

static int compare_element(const eng_tensor *x, int64_t i, int64_t j)
{
    if (x->dtype == ENG_STRING) {
        const eng_str *a = (const eng_str *)x->data + i, *b = (const eng_str *)x->data + j;
        size_t n = a->len < b->len ? a->len : b->len;
        int c = n ? memcmp(a->ptr, b->ptr, n) : 0;
        return c ? c : (a->len > b->len) - (a->len < b->len);
    }
    if (x->dtype == ENG_UINT64) {
        uint64_t a = ((const uint64_t *)x->data)[i], b = ((const uint64_t *)x->data)[j];
        return (a > b) - (a < b);
    }
    if (ENG_T(x->dtype) & (ENG_T_INT | ENG_T(ENG_BOOL))) {
        int64_t a = eng_tensor_int(x, i), b = eng_tensor_int(x, j);
        return (a > b) - (a < b);
    }
    if (x->dtype == ENG_COMPLEX64 || x->dtype == ENG_COMPLEX128) { /* by real parts, then imaginary ones */
        eng_tensor part = {.dtype = x->dtype == ENG_COMPLEX64 ? ENG_FLOAT : ENG_DOUBLE, .data = x->data};
        int real = compare_element(&part, 2 * i, 2 * j);
        return real ? real : compare_element(&part, 2 * i + 1, 2 * j + 1);
    }
    double a = eng_tensor_double(x, i), b = eng_tensor_double(x, j);
    if (isnan(a) || isnan(b)) return isnan(a) - isnan(b); /* NaNs are one, and last */
    return (a > b) - (a < b);
}

static int compare(const slices *s, int64_t a, int64_t b)
{
    for (int64_t o = 0; o < s->outer; o++)
        for (int64_t k = 0; k < s->inner; k++) {
            int c = compare_element(s->x, (o * s->n + a) * s->inner + k, (o * s->n + b) * s->inner + k);
            if (c) return c;
        }
    return 0;
}

/* Merge sort of order[0 .. n-1], stable, with `spare` as long. */
static void sort_slices(const slices *s, int64_t *order, int64_t *spare, int64_t n)
{
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t from = 0; from < n; from += 2 * width) {
            int64_t a = from, mid = od_min_i64(from + width, n), b = mid, end = od_min_i64(from + 2 * width, n);
            for (int64_t i = from; i < end; i++)
                spare[i] = b >= end || (a < mid && compare(s, order[a], order[b]) <= 0) ? order[a++] : order[b++];
        }
        memcpy(order, spare, (size_t)n * sizeof *order);
    }
}

static od_code read_slices(const eng_ctx *c, slices *s, od_status *st)
{
    const eng_tensor *x = c->in[0];
    *s = (slices){x, eng_tensor_count(x), 1, 1};
    if (!eng_node_attr(c->node, "axis")) return OD_OK;
    int axis;
    OD_TRY(eng_axis_attr(c, 0, &axis, st));
    s->n = x->dims[axis];
    for (int d = 0; d < x->rank; d++) {
        if (d < axis) s->outer *= x->dims[d];
        if (d > axis) s->inner *= x->dims[d];
    }
    return OD_OK;
}

static od_code find_groups(const eng_ctx *c, const slices *s, groups *g, od_status *st)
{
    bool sorted = c->node->domain == ENG_DOMAIN_ONNX && eng_node_int(c->node, "sorted", 1);
    int64_t n = s->n, *order = od_arena_array(c->scratch, int64_t, n), *spare = od_arena_array(c->scratch, int64_t, n);
    *g = (groups){.of = od_arena_array(c->scratch, int64_t, n), .first = od_arena_array(c->scratch, int64_t, n),
                  .size = od_arena_array(c->scratch, int64_t, n)};
    if (!order || !spare || !g->of || !g->first || !g->size) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " elements", n);
    for (int64_t i = 0; i < n; i++) order[i] = i;
    sort_slices(s, order, spare, n);
    for (int64_t i = 0; i < n; i++) {
        if (!i || compare(s, order[i - 1], order[i])) g->first[g->count++] = order[i]; /* stable: the first of its kind */
        g->of[order[i]] = g->count - 1;
    }
    if (!sorted) { /* number the groups anew, as their first slices come */
        int64_t *renamed = order, count = 0;
        for (int64_t i = 0; i < n; i++)
            if (g->first[g->of[i]] == i) renamed[g->of[i]] = count++;
        for (int64_t i = 0; i < n; i++) {
            bool first = g->first[g->of[i]] == i;
            spare[i] = renamed[g->of[i]];
            if (first) g->size[spare[i]] = i; /* kept here until all have been asked for */
        }
        memcpy(g->of, spare, (size_t)n * sizeof *spare);
        memcpy(g->first, g->size, (size_t)g->count * sizeof *spare);
        memset(g->size, 0, (size_t)n * sizeof *spare);
    }
    for (int64_t i = 0; i < n; i++) g->size[g->of[i]]++;
    return OD_OK;
}

od_code eng_unique_infer(eng_ctx *c, od_status *st)
{
    slices s;
    OD_TRY(eng_need_inputs(c, 1, st));
    OD_TRY(read_slices(c, &s, st));
    OD_TRY(eng_need(c, 0));
    groups *g = od_arena_array(c->scratch, groups, 1);
    if (!g) return od_fail(st, OD_NO_MEMORY, "no memory");
    OD_TRY(find_groups(c, &s, g, st));
    c->stash = g;
    eng_tensor y = {.rank = 1, .dims = {g->count}};
    if (eng_node_attr(c->node, "axis")) {
        int axis;
        OD_TRY(eng_axis_attr(c, 0, &axis, st));
        y = *s.x;
        y.dims[axis] = g->count;
    }
    OD_TRY(eng_set_out(c, 0, s.x->dtype, y.rank, y.dims, st));
    int k = 1;
    if (c->node->domain == ENG_DOMAIN_ONNX) OD_TRY(eng_set_out(c, k++, ENG_INT64, 1, &g->count, st));
    OD_TRY(eng_set_out(c, k, ENG_INT64, 1, &s.n, st));
    return eng_set_out(c, k + 1, ENG_INT64, 1, &g->count, st);
}

static void put(const eng_ctx *c, int k, const int64_t *from)
{
    if (k < c->n_out && c->out[k]) memcpy(c->out[k]->data, from, eng_tensor_bytes(c->out[k]));
}

od_code eng_unique_run(eng_ctx *c, od_status *st)
{
    slices s;
    groups found, *g = c->stash;
    OD_TRY(read_slices(c, &s, st));
    if (!g) {
        g = &found;
        OD_TRY(find_groups(c, &s, g, st));
    }
    size_t bytes = (size_t)s.inner * eng_dtype_size(s.x->dtype);
    for (int64_t o = 0; c->out[0] && o < s.outer; o++)
        for (int64_t i = 0; i < g->count; i++)
            memcpy((char *)c->out[0]->data + (size_t)(o * g->count + i) * bytes,
                   (const char *)s.x->data + (size_t)(o * s.n + g->first[i]) * bytes, bytes);
    int k = 1;
    if (c->node->domain == ENG_DOMAIN_ONNX) put(c, k++, g->first);
    put(c, k, g->of);
    put(c, k + 1, g->size);
    return OD_OK;
}
