/* topk.c - TopK: the k largest or smallest of every line, best first; among equals the lower index.
 * Every type is turned into keys that order as unsigned numbers, so that one selection serves all. */
#include "engine/kernels/elementwise.h"
#include "engine/ops/lines.h"
#include "engine/ops/ops.h"

#include <string.h>

typedef struct entry {
    uint64_t key; /* larger is better */
    int64_t index;
} entry;

typedef struct topk_job {
    eng_lines l;
    int64_t k;
    bool smallest, is_short;
    eng_dtype type;
    size_t size;
    const char *x;
    char *values;
    int64_t *indices;
    entry *slots;
    int64_t units, chunks;
} topk_job;

od_code eng_topk_import(eng_graph *g, eng_node *n, od_status *st)
{
    if (!eng_node_attr(n, "k")) return od_fail(st, OD_BAD_MODEL, "attribute 'k' is missing");
    return eng_attr_to_input(g, n, "k", 1, false, st);
}

od_code eng_topk_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL;
    int axis;
    int64_t k, count, dims[ENG_MAX_RANK];
    if (!x || c->n_in < 2 || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "TopK needs X and K");
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", -1), x->rank, false, &axis, st));
    OD_TRY(eng_ints_in(c, 1, 1, &k, &count, st));
    if (count != 1) return od_fail(st, OD_BAD_SHAPE, "K is empty");
    if (k < 0 || k > x->dims[axis]) return od_fail(st, OD_BAD_VALUE, "K is %" PRId64 " of %" PRId64, k, x->dims[axis]);
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = k;
    OD_TRY(eng_set_out(c, 0, x->dtype, x->rank, dims, st));
    return eng_set_out(c, 1, ENG_INT64, x->rank, dims, st);
}

/* NaN above all numbers, -0 like 0. */
static uint64_t key_of(const char *x, eng_dtype t, int64_t i)
{
    const uint64_t top = UINT64_C(1) << 63;
    uint64_t bits;
    double d;
    switch (t) {
    case ENG_FLOAT: d = (double)((const float *)(const void *)x)[i]; break;
    case ENG_DOUBLE: d = ((const double *)(const void *)x)[i]; break;
    case ENG_INT8: return (uint64_t)(int64_t)((const int8_t *)x)[i] ^ top;
    case ENG_INT16: return (uint64_t)(int64_t)((const int16_t *)(const void *)x)[i] ^ top;
    case ENG_INT32: return (uint64_t)(int64_t)((const int32_t *)(const void *)x)[i] ^ top;
    case ENG_INT64: return (uint64_t)((const int64_t *)(const void *)x)[i] ^ top;
    case ENG_UINT8: return ((const uint8_t *)x)[i];
    case ENG_UINT16: return ((const uint16_t *)(const void *)x)[i];
    case ENG_UINT32: return ((const uint32_t *)(const void *)x)[i];
    default: return ((const uint64_t *)(const void *)x)[i];
    }
    if (d != d) return UINT64_MAX;
    d += 0.0;
    memcpy(&bits, &d, sizeof bits);
    return bits & top ? ~bits : bits | top;
}

static bool worse(const entry *a, const entry *b)
{
    return a->key != b->key ? a->key < b->key : a->index > b->index;
}

/* heap[0] is the worst of those kept. */
static void sift_down(entry *heap, int64_t n, int64_t at)
{
    entry e = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && worse(&heap[child + 1], &heap[child])) child++;
        if (!worse(&heap[child], &e)) break;
        heap[at] = heap[child];
    }
    heap[at] = e;
}

static void select_line(const topk_job *j, int64_t line, entry *heap)
{
    int64_t outer = line / j->l.inner, inner = line % j->l.inner, k = j->k;
    int64_t from = outer * j->l.n * j->l.inner + inner, to = outer * k * j->l.inner + inner;
    for (int64_t i = 0; i < j->l.n; i++) {
        uint64_t key = key_of(j->x, j->type, from + i * j->l.inner);
        entry e = {j->smallest ? ~key : key, i};
        if (i < k) {
            heap[i] = e;
            if (i == k - 1)
                for (int64_t h = k / 2 - 1; h >= 0; h--) sift_down(heap, k, h);
        } else if (e.key > heap[0].key) { /* an equal key has a higher index */
            heap[0] = e;
            sift_down(heap, k, 0);
        }
    }
    for (int64_t n = k; n > 0; n--) { /* the worst to the end */
        entry e = heap[0];
        heap[0] = heap[n - 1];
        if (n > 1) sift_down(heap, n - 1, 0);
        int64_t at = to + (n - 1) * j->l.inner;
        if (j->indices) j->indices[at] = e.index;
        if (j->values) memcpy(j->values + at * (int64_t)j->size, j->x + (from + e.index * j->l.inner) * (int64_t)j->size, j->size);
    }
}

/* A short line: every element's place counted at once, which vectors do faster than a heap. */
enum { SHORT = 64 };

/* Keys of a line that order as its elements do; false where they are none of 32 bits. */
static bool short_keys(const topk_job *j, int64_t from, int32_t *keys)
{
    const int64_t n = j->l.n, step = j->l.inner;
    const int32_t flip = j->smallest ? -1 : 0;
    if (j->type == ENG_INT64) {
        const int64_t *x = (const int64_t *)(const void *)j->x + from;
        bool fits = true;
        for (int64_t i = 0; i < n; i++) {
            keys[i] = (int32_t)x[i * step] ^ flip;
            fits &= (keys[i] ^ flip) == x[i * step];
        }
        return fits;
    }
    const int32_t *x = (const int32_t *)(const void *)j->x + from;
    if (step == 1) memcpy(keys, x, (size_t)n * sizeof *keys);
    else for (int64_t i = 0; i < n; i++) keys[i] = x[i * step];
    for (int64_t i = 0; j->type == ENG_FLOAT && i < n; i++) { /* negative ones the other way round, -0 as 0, NaN above all */
        const int32_t bits = keys[i], size = bits & INT32_MAX, key = bits < 0 ? -size : size;
        keys[i] = size > 0x7f800000 ? INT32_MAX : key;
    }
    for (int64_t i = 0; flip && i < n; i++) keys[i] = ~keys[i];
    return true;
}

#define PLACE_BEST(T)                                                                                                  \
    for (int64_t r = 0; r < j->k; r++) ((T *)(void *)j->values)[to + r * step] = ((const T *)(const void *)j->x)[from + order[r] * step]

static bool select_short(const topk_job *j, int64_t line)
{
    int32_t keys[SHORT] = {0}, rank[SHORT];
    uint8_t order[SHORT] = {0};
    int64_t outer = line / j->l.inner, inner = line % j->l.inner, step = j->l.inner;
    int64_t from = outer * j->l.n * step + inner, to = outer * j->k * step + inner;
    if (!short_keys(j, from, keys)) return false;
    eng_elementwise_table()->rank_s32(keys, rank, (int32_t)j->l.n);
    for (int64_t i = 0; i < j->l.n; i++) order[rank[i]] = (uint8_t)i; /* of all: which are among the best cannot be foretold */
    for (int64_t r = 0; j->indices && r < j->k; r++) j->indices[to + r * step] = order[r];
    if (j->values && j->size == 4) PLACE_BEST(uint32_t);
    else if (j->values) PLACE_BEST(uint64_t);
    return true;
}

static void select_lines(void *arg, int64_t chunk, int slot)
{
    const topk_job *j = arg;
    for (int64_t u = j->units * chunk / j->chunks; u < j->units * (chunk + 1) / j->chunks; u++)
        if (!j->is_short || !select_short(j, u)) select_line(j, u, j->slots + slot * j->k);
}

od_code eng_topk_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    const eng_tensor *out = c->out[0] ? c->out[0] : c->out[1];
    int axis;
    if (!out) return OD_OK;
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", -1), x->rank, false, &axis, st));
    topk_job j = {.l = eng_lines_of(x, axis), .k = out->dims[axis], .smallest = !eng_node_int(c->node, "largest", 1), .type = x->dtype,
                  .size = eng_dtype_size(x->dtype), .x = x->data, .values = c->out[0] ? c->out[0]->data : NULL,
                  .indices = c->n_out > 1 && c->out[1] ? c->out[1]->data : NULL};
    if (!j.k || !eng_tensor_count(x)) return OD_OK;
    j.slots = od_arena_array(c->scratch, entry, j.k * od_pool_slots(c->pool));
    if (!j.slots) return od_fail(st, OD_NO_MEMORY, "no memory for the best %" PRId64, j.k);
    j.units = j.l.outer * j.l.inner;
    j.is_short = j.l.n <= SHORT && (ENG_T(j.type) & (ENG_T(ENG_FLOAT) | ENG_T(ENG_INT32) | ENG_T(ENG_INT64)));
    j.chunks = od_min_i64(j.units, eng_chunks(eng_tensor_count(x), 4096));
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, select_lines, &j);
    return OD_OK;
}
