/* tfidf.c - TfIdfVectorizer: counts of n-grams, skipping allowed, weighted or not.
 * The n-grams of the pool form a trie whose edges lie in one hash table: (node, item) -> node. */
#include "engine/ops/ops.h"

#include <string.h>

typedef struct edge {
    int64_t item; /* of strings: an index into the pool */
    int32_t from, to; /* to 0: a free place */
} edge;

typedef struct tfidf_params {
    int64_t least, most, skips, width;
    bool is_string, idf, tf; /* multiply by weights; count */
    const eng_str *strings;
    edge *edges;
    uint64_t mask;
    int32_t n_nodes;
    int64_t *gram_of; /* by node: n-gram + 1 */
    const int64_t *index;
    const float *weights;
} tfidf_params;

static uint64_t mix(uint64_t h)
{
    h ^= h >> 31;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t hash_item(const tfidf_params *p, int64_t item, const eng_str *s)
{
    uint64_t h = 1469598103934665603u;
    if (!p->is_string) return mix((uint64_t)item);
    for (size_t i = 0; i < s->len; i++) h = (h ^ (unsigned char)s->ptr[i]) * 1099511628211u;
    return h;
}

/* The edge from `node` with this item, or the free place where it would lie. */
static edge *find_edge(const tfidf_params *p, int32_t node, int64_t item, const eng_str *s)
{
    for (uint64_t at = mix(hash_item(p, item, s) + (uint64_t)node);; at++) {
        edge *e = &p->edges[at & p->mask];
        if (!e->to) return e;
        if (e->from != node) continue;
        if (!p->is_string) {
            if (e->item == item) return e;
            continue;
        }
        const eng_str *have = &p->strings[e->item];
        if (have->len == s->len && !memcmp(have->ptr, s->ptr, s->len)) return e;
    }
}

static od_code build_trie(eng_graph *g, tfidf_params *p, int64_t n_pool, const int64_t *ints, const int64_t *starts,
                          int64_t n_starts, int64_t n_index, od_status *st)
{
    uint64_t cap = 16;
    while (cap < 2 * (uint64_t)n_pool + 2) cap *= 2;
    p->mask = cap - 1;
    p->edges = eng_model_alloc(g, (size_t)cap * sizeof *p->edges);
    p->gram_of = eng_model_alloc(g, (size_t)(n_pool + 1) * sizeof *p->gram_of);
    if (!p->edges || !p->gram_of) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " n-grams", n_index);
    p->n_nodes = 1;
    int64_t gram = 0;
    for (int64_t n = 1; n <= n_starts; n++) {
        int64_t from = starts[n - 1], to = n < n_starts ? starts[n] : n_pool;
        if (from < 0 || to < from || to > n_pool || (to - from) % n)
            return od_fail(st, OD_BAD_ARGUMENT, "ngram_counts: %" PRId64 "-grams from %" PRId64 " to %" PRId64
                           " of a pool of %" PRId64, n, from, to, n_pool);
        for (; from < to; gram++) {
            int32_t node = 0;
            for (int64_t k = 0; k < n; k++, from++) {
                edge *e = find_edge(p, node, ints ? ints[from] : from, p->is_string ? &p->strings[from] : NULL);
                if (!e->to) *e = (edge){ints ? ints[from] : from, node, p->n_nodes++};
                node = e->to;
            }
            if (gram >= n_index)
                return od_fail(st, OD_BAD_ARGUMENT, "ngram_indexes has %" PRId64 " entries, the pool more n-grams", n_index);
            p->gram_of[node] = gram + 1;
        }
    }
    return OD_OK;
}

od_code eng_tfidf_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    int64_t n_starts, n_index, n_ints, n_weights;
    (void)pool;
    if (n->params) return OD_OK;
    tfidf_params *p = eng_model_alloc(g, sizeof *p);
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for n-grams");
    const int64_t *starts = eng_node_ints(n, "ngram_counts", &n_starts), *ints = eng_node_ints(n, "pool_int64s", &n_ints);
    const eng_attr *strings = eng_node_attr(n, "pool_strings");
    p->index = eng_node_ints(n, "ngram_indexes", &n_index);
    p->weights = eng_node_floats(n, "weights", &n_weights);
    p->least = eng_node_int(n, "min_gram_length", 1);
    p->most = eng_node_int(n, "max_gram_length", 1);
    p->skips = eng_node_int(n, "max_skip_count", 0);
    p->tf = !eng_node_string_is(n, "mode", "", "IDF");
    p->idf = !eng_node_string_is(n, "mode", "", "TF");
    if (p->tf && p->idf && !eng_node_string_is(n, "mode", "", "TFIDF"))
        return od_fail(st, OD_BAD_ARGUMENT, "mode is neither TF, IDF nor TFIDF");
    if (p->least < 1 || p->most < p->least || p->skips < 0 || p->skips > INT32_MAX)
        return od_fail(st, OD_BAD_ARGUMENT, "n-grams of %" PRId64 " to %" PRId64 " with %" PRId64 " skips", p->least, p->most,
                       p->skips);
    if ((ints != NULL) == (strings && strings->n))
        return od_fail(st, OD_BAD_ARGUMENT, "exactly one of pool_int64s and pool_strings is wanted");
    if (p->weights && n_weights != n_index)
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " weights for %" PRId64 " n-grams", n_weights, n_index);
    for (int64_t i = 0; i < n_index; i++) {
        if (p->index[i] < 0 || p->index[i] >= INT32_MAX)
            return od_fail(st, OD_BAD_ARGUMENT, "ngram_indexes[%" PRId64 "] is %" PRId64, i, p->index[i]);
        p->width = od_max_i64(p->width, p->index[i] + 1);
    }
    p->is_string = !ints;
    if (p->is_string) p->strings = strings->strings;
    int64_t n_pool = ints ? n_ints : strings->n;
    if (n_pool >= INT32_MAX) return od_fail(st, OD_TOO_LARGE, "a pool of %" PRId64, n_pool);
    OD_TRY(build_trie(g, p, n_pool, ints, starts, n_starts, n_index, st));
    n->params = p;
    return OD_OK;
}

od_code eng_tfidf_infer(eng_ctx *c, od_status *st)
{
    const tfidf_params *p = c->node->params;
    const eng_tensor *x = c->n_in ? c->in[0] : NULL;
    if (!x) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    if (x->rank < 1 || x->rank > 2) return od_fail(st, OD_BAD_SHAPE, "input 0 has rank %d, wanted 1 or 2", x->rank);
    if ((x->dtype == ENG_STRING) != p->is_string)
        return od_fail(st, OD_BAD_TYPE, "input 0 is %s, the pool is of %s", eng_dtype_name(x->dtype),
                       p->is_string ? "strings" : "integers");
    int64_t dims[2] = {x->dims[0], p->width};
    return eng_set_out(c, 0, ENG_FLOAT, x->rank, dims + 2 - x->rank, st);
}

static void count_gram(const tfidf_params *p, int64_t gram, float *y)
{
    if (!gram) return;
    float *to = &y[p->index[gram - 1]], w = p->idf && p->weights ? p->weights[gram - 1] : 1.0f;
    if (p->tf) *to += w;
    else *to = w;
}

/* All n-grams of `n` items that begin at each place, `step` apart. */
static void count_row(const tfidf_params *p, const eng_tensor *x, int64_t from, int64_t n, int64_t step, float *y)
{
    for (int64_t i = 0; i < n; i++) {
        int32_t node = 0;
        for (int64_t k = 0, at = i; k < p->most && at < n; k++, at += step) {
            const eng_str *s = p->is_string ? (const eng_str *)x->data + from + at : NULL;
            const edge *e = find_edge(p, node, s ? 0 : eng_tensor_int(x, from + at), s);
            if (!e->to) break;
            node = e->to;
            /* single items are the same whatever is skipped: they count once */
            if (k + 1 >= p->least && (k || step == 1)) count_gram(p, p->gram_of[node], y);
        }
    }
}

od_code eng_tfidf_run(eng_ctx *c, od_status *st)
{
    const tfidf_params *p = c->node->params;
    const eng_tensor *x = c->in[0];
    int64_t rows = x->rank == 2 ? x->dims[0] : 1, n = x->dims[x->rank - 1];
    float *y = c->out[0]->data;
    (void)st;
    memset(y, 0, eng_tensor_bytes(c->out[0]));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t step = 1; step <= p->skips + 1 && (step == 1 || step < n); step++)
            count_row(p, x, r * n, n, step, y + r * p->width);
    return OD_OK;
}
