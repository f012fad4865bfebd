/* ml_labels.c - mapping single values: LabelEncoder, CategoryMapper; and maps: CastMap, DictVectorizer, ZipMap. */
#include "engine/ops/ml.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same_text(const eng_str *a, const eng_str *b)
{
    return a->len == b->len && (!a->len || !memcmp(a->ptr, b->ptr, a->len));
}

/* ---- a table of keys ---------------------------------------------------------------------- */

/* Keys of any type hashed to their places; of equal ones the first counts. */
typedef struct table {
    eng_tensor keys, values, otherwise; /* otherwise: one element, for what is no key */
    int64_t *slots; /* place + 1; 0: free */
    uint64_t mask;
} table;

/* Element `i` as bits that are equal where keys are: NaN equals NaN, -0 equals 0. */
static uint64_t key_bits(const eng_tensor *t, int64_t i)
{
    if (t->dtype == ENG_STRING) {
        const eng_str *s = (const eng_str *)t->data + i;
        uint64_t h = 1469598103934665603u;
        for (size_t k = 0; k < s->len; k++) h = (h ^ (unsigned char)s->ptr[k]) * 1099511628211u;
        return h;
    }
    if (ENG_T(t->dtype) & ENG_T_FLOAT) {
        double d = eng_tensor_double(t, i);
        uint64_t bits;
        if (isnan(d)) return ~(uint64_t)0;
        if (d == 0.0) d = 0.0;
        memcpy(&bits, &d, sizeof bits);
        return bits;
    }
    return (uint64_t)eng_tensor_int(t, i);
}

/* The slot of the key equal to element `i` of `t`, or a free one. */
static int64_t *find_slot(const table *tab, const eng_tensor *t, int64_t i)
{
    uint64_t bits = key_bits(t, i);
    for (uint64_t at = (bits ^ bits >> 29) * 0x9e3779b97f4a7c15u >> 7;; at++) {
        int64_t *slot = &tab->slots[at & tab->mask];
        if (!*slot) return slot;
        int64_t k = *slot - 1;
        bool same = t->dtype == ENG_STRING
                        ? same_text((const eng_str *)tab->keys.data + k, (const eng_str *)t->data + i)
                        : key_bits(&tab->keys, k) == bits;
        if (same) return slot;
    }
}

static od_code index_keys(eng_graph *g, table *t, od_status *st)
{
    int64_t n = eng_tensor_count(&t->keys);
    uint64_t cap = 16;
    if (eng_tensor_count(&t->values) != n)
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " keys, %" PRId64 " values", n, eng_tensor_count(&t->values));
    while (cap < 2 * (uint64_t)n + 2) cap *= 2;
    t->mask = cap - 1;
    t->slots = eng_model_alloc(g, (size_t)cap * sizeof *t->slots);
    if (!t->slots) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " keys", n);
    for (int64_t i = 0; i < n; i++) {
        int64_t *slot = find_slot(t, &t->keys, i);
        if (!*slot) *slot = i + 1;
    }
    return OD_OK;
}

static od_code table_infer(eng_ctx *c, const table *t, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    if (c->in[0]->dtype != t->keys.dtype)
        return od_fail(st, OD_BAD_TYPE, "input 0 is %s, the keys are %s", eng_dtype_name(c->in[0]->dtype),
                       eng_dtype_name(t->keys.dtype));
    return eng_set_out(c, 0, t->values.dtype, c->in[0]->rank, c->in[0]->dims, st);
}

static od_code table_run(eng_ctx *c, const table *t)
{
    size_t size = eng_dtype_size(t->values.dtype);
    char *to = c->out[0]->data;
    for (int64_t i = 0; i < eng_tensor_count(c->in[0]); i++, to += size) {
        int64_t k = *find_slot(t, c->in[0], i);
        memcpy(to, k ? (const char *)t->values.data + (size_t)(k - 1) * size : t->otherwise.data, size);
    }
    return OD_OK;
}

/* ---- LabelEncoder ------------------------------------------------------------------------- */

static void list_tensor(eng_tensor *t, eng_dtype type, const void *data, int64_t n)
{
    *t = (eng_tensor){.dtype = type, .rank = 1, .dims = {n}, .data = (void *)(uintptr_t)data};
}

/* The list of attribute PREFIX_tensor, _strings, _int64s or _floats. */
static bool read_list(const eng_node *n, const char *prefix, eng_tensor *t)
{
    char name[32];
    int64_t count;
    const void *data;
    snprintf(name, sizeof name, "%s_tensor", prefix);
    const eng_attr *a = eng_node_attr(n, name);
    if (a && a->n == 1) {
        *t = a->tensors[0];
        return true;
    }
    snprintf(name, sizeof name, "%s_strings", prefix);
    if ((a = eng_node_attr(n, name))) return list_tensor(t, ENG_STRING, a->strings, a->n), true;
    snprintf(name, sizeof name, "%s_int64s", prefix);
    if ((data = eng_node_ints(n, name, &count))) return list_tensor(t, ENG_INT64, data, count), true;
    snprintf(name, sizeof name, "%s_floats", prefix);
    if ((data = eng_node_floats(n, name, &count))) return list_tensor(t, ENG_FLOAT, data, count), true;
    return false;
}

/* One element of the type of the values: what becomes of a value that is no key. */
static od_code read_default(eng_graph *g, const eng_node *n, table *t, od_status *st)
{
    union {
        int64_t i;
        float f;
        eng_str s;
    } *one = eng_model_alloc(g, 16);
    const eng_attr *a = eng_node_attr(n, "default_tensor");
    if (!one) return od_fail(st, OD_NO_MEMORY, "no memory for a default");
    if (a && a->n == 1) {
        t->otherwise = a->tensors[0];
        if (t->otherwise.dtype == t->values.dtype && eng_tensor_count(&t->otherwise) == 1) return OD_OK;
        return od_fail(st, OD_BAD_TYPE, "default_tensor is %s, the values are %s", eng_dtype_name(t->otherwise.dtype),
                       eng_dtype_name(t->values.dtype));
    }
    list_tensor(&t->otherwise, t->values.dtype, one, 1);
    const eng_attr *text = eng_node_attr(n, "default_string");
    switch (t->values.dtype) {
    case ENG_STRING: one->s = text ? text->s : (eng_str){"_Unused", 7}; break;
    case ENG_FLOAT: one->f = eng_node_float(n, "default_float", -0.0f); break;
    case ENG_DOUBLE: *(double *)(void *)one = -0.0; break;
    default: one->i = eng_node_int(n, "default_int64", -1); break; /* -1 is -1 in every width */
    }
    return OD_OK;
}

od_code eng_label_encoder_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    (void)pool;
    if (n->params) return OD_OK;
    table *t = eng_model_alloc(g, sizeof *t);
    if (!t) return od_fail(st, OD_NO_MEMORY, "no memory for a table");
    if (!read_list(n, "keys", &t->keys) || !read_list(n, "values", &t->values))
        return od_fail(st, OD_BAD_ARGUMENT, "there are no keys or no values");
    OD_TRY(read_default(g, n, t, st));
    OD_TRY(index_keys(g, t, st));
    n->params = t;
    return OD_OK;
}

od_code eng_label_encoder_infer(eng_ctx *c, od_status *st)
{
    return table_infer(c, c->node->params, st);
}

od_code eng_label_encoder_run(eng_ctx *c, od_status *st)
{
    (void)st;
    return table_run(c, c->node->params);
}

/* ---- LabelEncoder 1 and CategoryMapper: both ways ------------------------------------------ */

typedef struct two_ways {
    table to_int, to_text;
} two_ways;

/* Strings and numbers side by side; without numbers their places. */
static od_code prepare_both(eng_graph *g, eng_node *n, const eng_attr *strings, const int64_t *ints, int64_t n_ints,
                            od_status *st)
{
    two_ways *b = eng_model_alloc(g, sizeof *b);
    int64_t count = strings ? strings->n : 0, *places = NULL;
    if (!ints) {
        places = eng_model_alloc(g, (size_t)(count + 1) * sizeof *places);
        for (int64_t i = 0; places && i < count; i++) places[i] = i;
        n_ints = count;
    }
    if (!b || (!ints && !places)) return od_fail(st, OD_NO_MEMORY, "no memory for a table");
    list_tensor(&b->to_int.keys, ENG_STRING, count ? strings->strings : NULL, count);
    list_tensor(&b->to_int.values, ENG_INT64, ints ? ints : places, n_ints);
    b->to_text.keys = b->to_int.values;
    b->to_text.values = b->to_int.keys;
    OD_TRY(read_default(g, n, &b->to_int, st));
    OD_TRY(read_default(g, n, &b->to_text, st));
    OD_TRY(index_keys(g, &b->to_int, st));
    OD_TRY(index_keys(g, &b->to_text, st));
    n->params = b;
    return OD_OK;
}

od_code eng_label_encoder1_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    (void)pool;
    return n->params ? OD_OK : prepare_both(g, n, eng_node_attr(n, "classes_strings"), NULL, 0, st);
}

od_code eng_category_mapper_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    int64_t count;
    (void)pool;
    const int64_t *ints = eng_node_ints(n, "cats_int64s", &count);
    if (n->params) return OD_OK;
    if (!ints) return od_fail(st, OD_BAD_ARGUMENT, "cats_int64s is missing");
    return prepare_both(g, n, eng_node_attr(n, "cats_strings"), ints, count, st);
}

static const table *way_of(const eng_ctx *c)
{
    const two_ways *b = c->node->params;
    return c->n_in && c->in[0] && c->in[0]->dtype == ENG_STRING ? &b->to_int : &b->to_text;
}

od_code eng_two_ways_infer(eng_ctx *c, od_status *st)
{
    return table_infer(c, way_of(c), st);
}

od_code eng_two_ways_run(eng_ctx *c, od_status *st)
{
    (void)st;
    return table_run(c, way_of(c));
}

/* ---- maps --------------------------------------------------------------------------------- */

static od_code map_in(const eng_ctx *c, const eng_tensor **keys, const eng_tensor **values, od_status *st)
{
    const eng_tensor *m = c->n_in ? c->in[0] : NULL;
    if (!m) return od_fail(st, OD_BAD_MODEL, "the map is missing");
    if (m->dtype != ENG_MAP) return od_fail(st, OD_BAD_TYPE, "input 0 is %s, wanted a map", eng_dtype_name(m->dtype));
    *keys = m->data;
    *values = *keys + 1;
    if (m->rank != 1 || m->dims[0] != 2 || (*values)->dtype >= ENG_SEQUENCE ||
        ((*keys)->dtype != ENG_STRING && (*keys)->dtype != ENG_INT64))
        return od_fail(st, OD_BAD_TYPE, "a map of strings or int64 to single values is wanted");
    if (eng_tensor_count(*keys) == eng_tensor_count(*values)) return OD_OK;
    return od_fail(st, OD_BAD_VALUE, "a map of %" PRId64 " keys and %" PRId64 " values", eng_tensor_count(*keys),
                   eng_tensor_count(*values));
}

static od_code give_new(eng_ctx *c, eng_dtype type, int rank, const int64_t *dims, eng_tensor *t, od_status *st)
{
    *t = (eng_tensor){.dtype = type, .rank = rank};
    memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
    int64_t count;
    if (eng_dims_count(rank, dims, &count)) t->data = eng_run_alloc(c, eng_tensor_bytes(t));
    if (!t->data) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " values", rank ? dims[rank - 1] : 1);
    memset(t->data, 0, eng_tensor_bytes(t));
    for (int64_t i = 0; type == ENG_STRING && i < count; i++) ((eng_str *)t->data)[i] = (eng_str){"", 0};
    eng_give(c, 0, t);
    return OD_OK;
}

/* Element `from` of `t` as element `at` of `to`; numbers become text and the reverse. */
static od_code put(eng_ctx *c, const eng_tensor *to, int64_t at, const eng_tensor *t, int64_t from, od_status *st)
{
    char text[64];
    double d = 0.0;
    if (t->dtype == ENG_STRING) {
        const eng_str *s = (const eng_str *)t->data + from;
        if (to->dtype == ENG_STRING) {
            ((eng_str *)to->data)[at] = *s;
            return OD_OK;
        }
        size_t n = s->len < sizeof text - 1 ? s->len : sizeof text - 1;
        char *end;
        memcpy(text, s->ptr, n);
        text[n] = '\0';
        d = strtod(text, &end);
        if (end == text) return od_fail(st, OD_BAD_VALUE, "'%.40s' is no number", text);
    } else {
        d = eng_tensor_double(t, from);
    }
    switch (to->dtype) {
    case ENG_FLOAT: ((float *)to->data)[at] = (float)d; return OD_OK;
    case ENG_DOUBLE: ((double *)to->data)[at] = d; return OD_OK;
    case ENG_INT64:
        ((int64_t *)to->data)[at] = t->dtype == ENG_STRING ? (int64_t)fmax(fmin(d, 9.2e18), -9.2e18) : eng_tensor_int(t, from);
        return OD_OK;
    default: break;
    }
    int n = snprintf(text, sizeof text, t->dtype == ENG_INT64 ? "%.0f" : "%f", d);
    char *copy = eng_run_alloc(c, (size_t)n);
    if (!copy) return od_fail(st, OD_NO_MEMORY, "no memory for a number's text");
    memcpy(copy, text, (size_t)n);
    ((eng_str *)to->data)[at] = (eng_str){copy, (size_t)n};
    return OD_OK;
}

static int by_key(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return x[0] < y[0] ? -1 : x[0] > y[0];
}

od_code eng_cast_map_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *keys, *values;
    eng_tensor out;
    OD_TRY(map_in(c, &keys, &values, st));
    if (keys->dtype != ENG_INT64) return od_fail(st, OD_BAD_TYPE, "keys are %s, wanted int64", eng_dtype_name(keys->dtype));
    eng_dtype type = eng_node_string_is(c->node, "cast_to", "TO_FLOAT", "TO_STRING")  ? ENG_STRING
                     : eng_node_string_is(c->node, "cast_to", "TO_FLOAT", "TO_INT64") ? ENG_INT64
                                                                                      : ENG_FLOAT;
    bool sparse = eng_node_string_is(c->node, "map_form", "DENSE", "SPARSE");
    int64_t n = eng_tensor_count(keys), width = sparse ? eng_node_int(c->node, "max_map", 1) : n;
    if (width < 0 || width > INT32_MAX) return od_fail(st, OD_BAD_ARGUMENT, "max_map is %" PRId64, width);
    int64_t(*order)[2] = od_arena_calloc(c->scratch, (size_t)n + 1, sizeof *order); /* key, place */
    if (!order) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " keys", n);
    for (int64_t i = 0; i < n; i++) order[i][0] = eng_tensor_int(keys, i), order[i][1] = i;
    qsort(order, (size_t)n, sizeof *order, by_key);
    OD_TRY(give_new(c, type, 2, (int64_t[]){1, width}, &out, st));
    for (int64_t i = 0; i < n; i++) {
        int64_t at = sparse ? order[i][0] : i;
        if (at < 0 || at >= width) return od_fail(st, OD_BAD_VALUE, "key %" PRId64 " with max_map %" PRId64, at, width);
        OD_TRY(put(c, &out, at, values, order[i][1], st));
    }
    return OD_OK;
}

od_code eng_dict_vectorizer_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *keys, *values;
    eng_tensor out, words;
    int64_t n_ints;
    OD_TRY(map_in(c, &keys, &values, st));
    const int64_t *ints = eng_node_ints(c->node, "int64_vocabulary", &n_ints);
    const eng_attr *strings = eng_node_attr(c->node, "string_vocabulary");
    if (keys->dtype == ENG_STRING) list_tensor(&words, ENG_STRING, strings ? strings->strings : NULL, strings ? strings->n : 0);
    else list_tensor(&words, ENG_INT64, ints, n_ints);
    OD_TRY(give_new(c, values->dtype, 2, (int64_t[]){1, words.dims[0]}, &out, st));
    for (int64_t w = 0; w < words.dims[0]; w++)
        for (int64_t i = 0; i < eng_tensor_count(keys); i++) {
            bool same = keys->dtype == ENG_STRING ? same_text((const eng_str *)keys->data + i, (const eng_str *)words.data + w)
                                                  : eng_tensor_int(keys, i) == eng_tensor_int(&words, w);
            if (same) OD_TRY(put(c, &out, w, values, i, st));
        }
    return OD_OK;
}

od_code eng_zip_map_infer(eng_ctx *c, od_status *st)
{
    eng_labels l;
    int64_t rows, width;
    OD_TRY(eng_labels_read(c->node, "classlabels_int64s", &l, st));
    OD_TRY(eng_ml_rows(c, &rows, &width, st));
    if (l.n != width) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " columns for %" PRId64 " labels", width, l.n);
    eng_tensor out = {.dtype = ENG_SEQUENCE, .rank = 1, .dims = {rows}};
    size_t bytes;
    if (!od_mul((size_t)rows, 3 * sizeof(eng_tensor), &bytes) || !(out.data = eng_run_alloc(c, bytes)))
        return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " maps", rows);
    eng_tensor *maps = out.data, *parts = maps + rows;
    for (int64_t r = 0; r < rows; r++, parts += 2) {
        maps[r] = (eng_tensor){.dtype = ENG_MAP, .rank = 1, .dims = {2}, .data = parts};
        if (l.strings) list_tensor(&parts[0], ENG_STRING, l.strings, width);
        else list_tensor(&parts[0], ENG_INT64, l.ints, width);
        list_tensor(&parts[1], c->in[0]->dtype, (const char *)c->in[0]->data + (size_t)(r * width) * eng_dtype_size(c->in[0]->dtype),
                    width);
    }
    eng_give(c, 0, &out);
    return OD_OK;
}
