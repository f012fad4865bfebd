/* ml_features.c - preparing columns of features: ArrayFeatureExtractor, Binarizer, FeatureVectorizer, Imputer,
 * Normalizer, OneHotEncoder, Scaler. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ml.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

/* ---- ArrayFeatureExtractor ---------------------------------------------------------------- */

od_code eng_array_feature_extractor_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL, *y = c->n_in > 1 ? c->in[1] : NULL;
    int64_t dims[ENG_MAX_RANK];
    if (!x || !y) return od_fail(st, OD_BAD_MODEL, "two inputs are wanted");
    if (y->dtype != ENG_INT64) return od_fail(st, OD_BAD_TYPE, "input 1 is %s, wanted int64", eng_dtype_name(y->dtype));
    if (x->rank < 1) return od_fail(st, OD_BAD_SHAPE, "input 0 is a scalar");
    memcpy(dims, x->dims, sizeof dims);
    int rank = x->rank == 1 ? 2 : x->rank; /* a vector counts as one row */
    dims[0] = x->rank == 1 ? 1 : dims[0];
    dims[rank - 1] = eng_tensor_count(y);
    return eng_set_out(c, 0, x->dtype, rank, dims, st);
}

od_code eng_array_feature_extractor_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    int64_t width = x->dims[x->rank - 1], n = eng_tensor_count(c->in[1]), rows = 1;
    const int64_t *pick = c->in[1]->data;
    size_t size = eng_dtype_size(x->dtype);
    for (int d = 0; d < x->rank - 1; d++) rows *= x->dims[d];
    for (int64_t i = 0; i < n; i++)
        if (pick[i] < 0 || pick[i] >= width)
            return od_fail(st, OD_BAD_VALUE, "index %" PRId64 " is %" PRId64 ", the last axis has %" PRId64, i, pick[i], width);
    char *to = c->out[0]->data;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++, to += size)
            memcpy(to, (const char *)x->data + (size_t)(r * width + pick[i]) * size, size);
    return OD_OK;
}

/* ---- rows to rows ------------------------------------------------------------------------- */

typedef struct row_map {
    const eng_tensor *x, *y;
    int64_t width;
    const eng_node *node;
    const float *scale, *offset;
    int64_t n_scale, n_offset;
    const double *imputed;
    int64_t n_imputed;
    double replaced;
    void (*fn)(const struct row_map *m, double *v);
} row_map;

static void map_row(void *arg, int64_t row, double *v)
{
    const row_map *m = arg;
    eng_ml_row(m->x, row, m->width, v);
    m->fn(m, v);
    eng_store_doubles((char *)m->y->data + (size_t)(row * m->width) * eng_dtype_size(m->y->dtype), v, m->y->dtype, 1, m->width);
}

/* Rows are runs along the last axis, whatever the rank. */
static od_code map_rows(eng_ctx *c, row_map *m, od_status *st)
{
    m->x = c->in[0];
    m->y = c->out[0];
    m->width = m->x->rank ? m->x->dims[m->x->rank - 1] : 1;
    int64_t n = eng_tensor_count(m->x);
    return n ? eng_ml_each_row(c, n / m->width, m->width, m->width, map_row, m, st) : OD_OK;
}

od_code eng_ml_float_infer(eng_ctx *c, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    return eng_set_out(c, 0, ENG_FLOAT, c->in[0]->rank, c->in[0]->dims, st);
}

static void binarize(const row_map *m, double *v)
{
    for (int64_t i = 0; i < m->width; i++) v[i] = v[i] > m->replaced;
}

od_code eng_binarizer_run(eng_ctx *c, od_status *st)
{
    row_map m = {.fn = binarize, .replaced = (double)eng_node_float(c->node, "threshold", 0.0f)};
    return map_rows(c, &m, st);
}

static void divide(double *v, int64_t n, double by)
{
    for (int64_t i = 0; i < n && by != 0.0; i++) v[i] /= by;
}

static void normalize_max(const row_map *m, double *v)
{
    double top = 0.0;
    for (int64_t i = 0; i < m->width; i++) top = fmax(top, fabs(v[i]));
    divide(v, m->width, top);
}

static void normalize_l1(const row_map *m, double *v)
{
    double sum = 0.0;
    for (int64_t i = 0; i < m->width; i++) sum += fabs(v[i]);
    divide(v, m->width, sum);
}

static void normalize_l2(const row_map *m, double *v)
{
    double sum = 0.0;
    for (int64_t i = 0; i < m->width; i++) sum += v[i] * v[i];
    divide(v, m->width, sqrt(sum));
}

od_code eng_normalizer_run(eng_ctx *c, od_status *st)
{
    row_map m = {.fn = NULL};
    if (eng_node_string_is(c->node, "norm", "MAX", "MAX")) m.fn = normalize_max;
    else if (eng_node_string_is(c->node, "norm", "MAX", "L1")) m.fn = normalize_l1;
    else if (eng_node_string_is(c->node, "norm", "MAX", "L2")) m.fn = normalize_l2;
    else return od_fail(st, OD_BAD_ARGUMENT, "norm is none of MAX, L1, L2");
    return map_rows(c, &m, st);
}

static void scale(const row_map *m, double *v)
{
    for (int64_t i = 0; i < m->width; i++) {
        double offset = m->n_offset ? (double)m->offset[m->n_offset == 1 ? 0 : i] : 0.0;
        double by = m->n_scale ? (double)m->scale[m->n_scale == 1 ? 0 : i] : 1.0;
        v[i] = (v[i] - offset) * by;
    }
}

od_code eng_scaler_run(eng_ctx *c, od_status *st)
{
    row_map m = {.fn = scale};
    m.scale = eng_node_floats(c->node, "scale", &m.n_scale);
    m.offset = eng_node_floats(c->node, "offset", &m.n_offset);
    int64_t width = c->in[0]->rank ? c->in[0]->dims[c->in[0]->rank - 1] : 1;
    if ((m.n_scale > 1 && m.n_scale != width) || (m.n_offset > 1 && m.n_offset != width))
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " scales and %" PRId64 " offsets for %" PRId64 " features", m.n_scale,
                       m.n_offset, width);
    return map_rows(c, &m, st);
}

static void impute(const row_map *m, double *v)
{
    for (int64_t i = 0; i < m->width; i++)
        if (isnan(m->replaced) ? isnan(v[i]) : v[i] == m->replaced) v[i] = m->imputed[m->n_imputed == 1 ? 0 : i];
}

/* int64 values beyond 2^53 do not fit a double: integers are replaced as such. */
static od_code impute_ints(eng_ctx *c, const int64_t *values, int64_t n, int64_t width)
{
    const int64_t *x = c->in[0]->data;
    int64_t *y = c->out[0]->data, replaced = eng_node_int(c->node, "replaced_value_int64", 0);
    for (int64_t i = 0; i < eng_tensor_count(c->in[0]); i++)
        y[i] = x[i] == replaced ? values[n == 1 ? 0 : i % width] : x[i];
    return OD_OK;
}

od_code eng_imputer_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    int64_t n_floats, n_ints, width = x->rank ? x->dims[x->rank - 1] : 1;
    const float *floats = eng_node_floats(c->node, "imputed_value_floats", &n_floats);
    const int64_t *ints = eng_node_ints(c->node, "imputed_value_int64s", &n_ints);
    bool is_float = x->dtype == ENG_FLOAT || x->dtype == ENG_DOUBLE;
    int64_t n = is_float ? n_floats : n_ints;
    if (n != 1 && n != width)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " imputed values of the input's kind for %" PRId64 " features", n, width);
    if (x->dtype == ENG_INT64) return impute_ints(c, ints, n, width);
    double *values = od_arena_array(c->scratch, double, n);
    if (!values) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " values", n);
    for (int64_t i = 0; i < n; i++) values[i] = is_float ? (double)floats[i] : (double)ints[i];
    row_map m = {.fn = impute, .imputed = values, .n_imputed = n};
    m.replaced = is_float ? (double)eng_node_float(c->node, "replaced_value_float", 0.0f)
                          : (double)eng_node_int(c->node, "replaced_value_int64", 0);
    return map_rows(c, &m, st);
}

/* ---- FeatureVectorizer -------------------------------------------------------------------- */

static int64_t columns(const eng_tensor *x)
{
    int64_t n = 1;
    for (int d = x->rank > 1 ? 1 : 0; d < x->rank; d++) n *= x->dims[d];
    return n;
}

static int64_t wanted_columns(const eng_ctx *c, int i)
{
    int64_t n;
    const int64_t *dims = eng_node_ints(c->node, "inputdimensions", &n);
    return i < n ? dims[i] : columns(c->in[i]);
}

od_code eng_feature_vectorizer_infer(eng_ctx *c, od_status *st)
{
    int64_t width = 0, rows = 0;
    for (int i = 0; i < c->n_in; i++) {
        const eng_tensor *x = c->in[i];
        if (!x) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
        if (!(ENG_T(x->dtype) & ENG_T_ML)) return od_fail(st, OD_BAD_TYPE, "input %d is %s", i, eng_dtype_name(x->dtype));
        int64_t n = x->rank > 1 ? x->dims[0] : 1, cols = wanted_columns(c, i);
        if (i && n != rows) return od_fail(st, OD_BAD_SHAPE, "input %d has %" PRId64 " rows, input 0 %" PRId64, i, n, rows);
        rows = n;
        if (cols < 0 || __builtin_add_overflow(width, cols, &width))
            return od_fail(st, OD_BAD_ARGUMENT, "inputdimensions[%d] is %" PRId64, i, cols);
    }
    return eng_set_out(c, 0, ENG_FLOAT, 2, (int64_t[]){rows, width}, st);
}

od_code eng_feature_vectorizer_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *out = c->out[0];
    int64_t rows = out->dims[0], width = out->dims[1], at = 0;
    memset(out->data, 0, eng_tensor_bytes(out));
    for (int i = 0; i < c->n_in; i++) {
        const eng_tensor *x = c->in[i];
        int64_t have = columns(x), want = wanted_columns(c, i), n = od_min_i64(have, want);
        double *row = od_arena_array(c->scratch, double, n);
        if (!row) return od_fail(st, OD_NO_MEMORY, "no memory for a row of %" PRId64, n);
        for (int64_t r = 0; r < rows; r++) {
            eng_load_doubles(row, (const char *)x->data + (size_t)(r * have) * eng_dtype_size(x->dtype), x->dtype, 1, n);
            for (int64_t k = 0; k < n; k++) ((float *)out->data)[r * width + at + k] = (float)row[k];
        }
        at += want;
    }
    return OD_OK;
}

/* ---- OneHotEncoder ------------------------------------------------------------------------ */

static od_code categories(const eng_ctx *c, const int64_t **ints, const eng_str **strings, int64_t *n, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    const eng_attr *a = eng_node_attr(c->node, "cats_strings");
    bool text = c->in[0]->dtype == ENG_STRING;
    *ints = eng_node_ints(c->node, "cats_int64s", n);
    *strings = NULL;
    if (text) {
        *strings = a ? a->strings : NULL;
        *n = a ? a->n : 0;
    }
    return *n ? OD_OK : od_fail(st, OD_BAD_ARGUMENT, "there are no %s categories", text ? "string" : "integer");
}

od_code eng_one_hot_encoder_infer(eng_ctx *c, od_status *st)
{
    const int64_t *ints;
    const eng_str *strings;
    int64_t n, dims[ENG_MAX_RANK + 1];
    OD_TRY(categories(c, &ints, &strings, &n, st));
    memcpy(dims, c->in[0]->dims, sizeof c->in[0]->dims);
    dims[c->in[0]->rank] = n;
    return eng_set_out(c, 0, ENG_FLOAT, c->in[0]->rank + 1, dims, st);
}

od_code eng_one_hot_encoder_run(eng_ctx *c, od_status *st)
{
    const int64_t *ints;
    const eng_str *strings;
    int64_t n;
    const eng_tensor *x = c->in[0];
    bool zeros = eng_node_int(c->node, "zeros", 1) != 0;
    OD_TRY(categories(c, &ints, &strings, &n, st));
    float *y = c->out[0]->data;
    memset(y, 0, eng_tensor_bytes(c->out[0]));
    for (int64_t i = 0; i < eng_tensor_count(x); i++, y += n) {
        int64_t k = 0, v = strings ? 0 : eng_tensor_int(x, i);
        const eng_str *s = strings ? (const eng_str *)x->data + i : NULL;
        if (s) while (k < n && (strings[k].len != s->len || memcmp(strings[k].ptr, s->ptr, s->len))) k++;
        else while (k < n && ints[k] != v) k++;
        if (k < n) y[k] = 1.0f;
        else if (!zeros) return od_fail(st, OD_BAD_VALUE, "element %" PRId64 " is in no category", i);
    }
    return OD_OK;
}
