/* tfs.c - TensorFlow Serving's REST API: /v1/models/{m}:predict in row form ("instances") and column form
 * ("inputs"), status and metadata. Bytes come as {"b64": text}. A model of pictures takes encoded ones. */
#include "server/protocols/infer.h"

#include "server/protocols/json_numbers.h"
#include "server/protocols/oip_infer.h"

#include <string.h>

typedef struct tfs_request {
    oip_request oip; /* what decoding pictures and running needs */
    bool rows;
    int64_t n_rows;
} tfs_request;

/* ---- reading */

/* The extents of the value at `j`, which is passed; objects are leaves. `*text`: leaves are text or bytes. */
static od_code measure(srv_json *j, int depth, eng_tensor *t, bool *text, bool known, od_status *st)
{
    if (srv_json_peek(j) != '[') {
        char c = srv_json_peek(j);
        if (known && t->rank != depth) return srv_json_fail(j, st, "the array is not rectangular");
        t->rank = depth;
        *text = c == '"' || c == '{';
        return srv_json_skip(j, NULL, st);
    }
    if (depth == ENG_MAX_RANK) return srv_json_fail(j, st, "nested deeper than %d", ENG_MAX_RANK);
    int64_t n = 0;
    OD_TRY(srv_json_array(j, st));
    for (; srv_json_item(j, st); n++) OD_TRY(measure(j, depth + 1, t, text, known || n, st));
    OD_TRY(srv_json_code(j));
    if (!n && !known) t->rank = depth + 1;
    if (known && (t->dims[depth] != n || t->rank <= depth)) return srv_json_fail(j, st, "the array is not rectangular");
    t->dims[depth] = n;
    return OD_OK;
}

/* A lone value as an array of one, in a text of its own. */
static od_code wrap(srv_request *r, eng_str value, srv_json *out, const srv_json *like, od_status *st)
{
    char *text = od_arena_calloc(&r->arena, value.len + 2 + SRV_JSON_PAD, 1);
    if (!text) return od_fail(st, OD_NO_MEMORY, "no memory for a value");
    text[0] = '[';
    memcpy(text + 1, value.ptr, value.len);
    text[value.len + 1] = ']';
    *out = srv_json_init(text, value.len + 2, &r->arena, like->max_depth);
    return OD_OK;
}

/* Read the value at `j` as input `index`; with `rows` above 0 it is row `row` of so many, whose extent comes first. */
static od_code read_value(srv_infer *i, srv_json *j, int index, int64_t row, int64_t rows, od_status *st)
{
    srv_request *r = i->r;
    tfs_request *q = i->arg;
    eng_tensor t = {0}, *to = &i->inputs[index];
    bool text = false;
    srv_json ahead = *j, alone;
    OD_TRY(measure(&ahead, 0, &t, &text, false, st));
    eng_dtype want = i->graph->values[i->graph->inputs[index]].dtype;
    t.dtype = text ? ENG_STRING : want;
    if (text && want != ENG_STRING) {
        if (!srv_oip_takes_pictures(i, index)) return srv_json_fail(j, st, "numbers are wanted");
        q->oip.pictures = true;
    }
    int64_t count;
    if (!eng_dims_count(t.rank, t.dims, &count)) return od_fail(st, OD_BAD_SHAPE, "extents whose product is too large");
    if (rows > 0) {
        if (t.rank == ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "more than %d extents", ENG_MAX_RANK - 1);
        if (!row) {
            *to = (eng_tensor){.dtype = t.dtype, .rank = t.rank + 1, .dims = {rows}};
            memcpy(to->dims + 1, t.dims, (size_t)t.rank * sizeof *t.dims);
            int64_t total;
            if (!eng_dims_count(to->rank, to->dims, &total)) return od_fail(st, OD_BAD_SHAPE, "extents whose product is too large");
            to->data = total <= j->end - j->begin ? od_arena_calloc(&r->arena, (size_t)total, eng_dtype_size(t.dtype)) : NULL;
            if (!to->data) return od_fail(st, OD_BAD_SHAPE, "instances of different shapes");
        }
        if (to->rank != t.rank + 1 || to->dtype != t.dtype || memcmp(to->dims + 1, t.dims, (size_t)t.rank * sizeof *t.dims))
            return od_fail(st, OD_BAD_SHAPE, "instance %" PRId64 " has another shape or type than the first", row);
    }
    const srv_json *source = j;
    if (!t.rank) {
        eng_str value;
        srv_json again = *j;
        OD_TRY(srv_json_skip(&again, &value, st));
        OD_TRY(wrap(r, value, &alone, j, st));
        source = &alone;
    }
    srv_json reader = *source;
    eng_tensor piece = t;
    OD_TRY(srv_tensor_from_json(r, &piece, &reader, st));
    if (rows > 0) memcpy((char *)to->data + (size_t)(row * count) * eng_dtype_size(t.dtype), piece.data, (size_t)count * eng_dtype_size(t.dtype));
    else *to = piece;
    j->at = ahead.at;
    return OD_OK;
}

static bool is_bytes(const srv_json *j)
{
    const char *p = srv_json_space(srv_json_space(j->at) + 1);
    return !strncmp(p, "\"b64\"", 5);
}

static int only_input(const srv_infer *i)
{
    int found = -1, n = 0;
    for (int k = 0; k < i->graph->n_inputs; k++)
        if (!i->graph->values[i->graph->inputs[k]].constant) found = k, n++;
    return n == 1 ? found : -1;
}

/* {"name": value, ...} */
static od_code read_named(srv_infer *i, srv_json *j, int64_t row, int64_t rows, od_status *st)
{
    eng_str key;
    int n = 0;
    OD_TRY(srv_json_object(j, st));
    for (; srv_json_member(j, &key, st); n++) {
        int index = srv_input_index(i->graph, key);
        if (index < 0) return od_fail(st, OD_BAD_ARGUMENT, "the model has no input '%.*s'", srv_cut(key.len), key.ptr);
        if (row && !i->inputs[index].data) return od_fail(st, OD_BAD_ARGUMENT, "instance %" PRId64 " has an input that the first has not", row);
        if (read_value(i, j, index, row, rows, st) != OD_OK) return od_note(st, "input '%.*s'", srv_cut(key.len), key.ptr);
    }
    OD_TRY(srv_json_code(j));
    for (int k = 0, given = 0; row && k < i->graph->n_inputs; k++) {
        given += i->inputs[k].data != NULL;
        if (k + 1 == i->graph->n_inputs && given != n) return od_fail(st, OD_BAD_ARGUMENT, "instance %" PRId64 " lacks an input that the first has", row);
    }
    return OD_OK;
}

static od_code read_instances(srv_infer *i, srv_json *j, od_status *st)
{
    tfs_request *q = i->arg;
    srv_json ahead = *j;
    q->rows = true;
    OD_TRY(srv_json_array(&ahead, st));
    while (srv_json_item(&ahead, st)) {
        OD_TRY(srv_json_skip(&ahead, NULL, st));
        q->n_rows++;
    }
    OD_TRY(srv_json_code(&ahead));
    if (!q->n_rows) return od_fail(st, OD_BAD_ARGUMENT, "'instances' is empty");
    srv_json inside = *j;
    OD_TRY(srv_json_array(&inside, st));
    inside.fresh = false;
    if (srv_json_peek(&inside) != '{' || is_bytes(&inside)) { /* values of the one input: the array is the tensor */
        int only = only_input(i);
        if (only < 0) return od_fail(st, OD_BAD_ARGUMENT, "the model has %d inputs: instances are objects of them", i->graph->n_inputs);
        return read_value(i, j, only, 0, 0, st);
    }
    OD_TRY(srv_json_array(j, st));
    for (int64_t row = 0; srv_json_item(j, st); row++) OD_TRY(read_named(i, j, row, q->n_rows, st));
    return srv_json_code(j);
}

static od_code read_columns(srv_infer *i, srv_json *j, od_status *st)
{
    if (srv_json_peek(j) == '{' && !is_bytes(j)) return read_named(i, j, 0, 0, st);
    int only = only_input(i);
    if (only < 0) return od_fail(st, OD_BAD_ARGUMENT, "the model has %d inputs: \"inputs\" is an object of them", i->graph->n_inputs);
    return read_value(i, j, only, 0, 0, st);
}

static od_code read_request(srv_infer *i, od_status *st)
{
    srv_request *r = i->r;
    srv_json j = srv_json_init(r->body, r->body_len, &r->arena, 0);
    eng_str key, text;
    int given = 0;
    OD_TRY(srv_json_object(&j, st));
    while (srv_json_member(&j, &key, st)) {
        if (srv_str_is(key, "instances") || srv_str_is(key, "inputs")) {
            if (given++) return od_fail(st, OD_BAD_ARGUMENT, "one of 'instances' and 'inputs' is wanted, once");
            OD_TRY(srv_str_is(key, "inputs") ? read_columns(i, &j, st) : read_instances(i, &j, st));
        } else if (srv_str_is(key, "signature_name")) {
            OD_TRY(srv_json_string(&j, &text, st));
            if (text.len && !srv_str_is(text, "serving_default"))
                return od_fail(st, OD_BAD_ARGUMENT, "there is no signature '%.*s', only serving_default", srv_cut(text.len), text.ptr);
        } else {
            return od_fail(st, OD_BAD_ARGUMENT, "'%.*s': instances, inputs or signature_name is wanted", srv_cut(key.len), key.ptr);
        }
    }
    OD_TRY(srv_json_code(&j));
    OD_TRY(srv_json_finish(&j, st));
    return given ? OD_OK : od_fail(st, OD_BAD_ARGUMENT, "'instances' or 'inputs' is missing");
}

/* ---- answering */

/* Elements from `at` on as nested arrays, from axis `axis`. */
static int64_t nested(srv_text *text, const eng_tensor *t, int axis, int64_t at)
{
    if (axis == t->rank) {
        srv_text_elements(text, t, at, 1);
        return at + 1;
    }
    srv_text_add(text, "[", 1);
    if (axis == t->rank - 1) {
        srv_text_elements(text, t, at, t->dims[axis]);
        at += t->dims[axis];
    } else {
        for (int64_t k = 0; k < t->dims[axis]; k++) {
            if (k) srv_text_add(text, ",", 1);
            at = nested(text, t, axis + 1, at);
        }
    }
    srv_text_add(text, "]", 1);
    return at;
}

static od_code check_rows(const srv_infer *i, int64_t rows, od_status *st)
{
    for (int k = 0; k < i->n_outputs; k++) {
        const eng_tensor *t = &i->job.outputs[k];
        if (i->wanted[k] && (t->rank < 1 || t->dims[0] != rows))
            return od_fail(st, OD_BAD_ARGUMENT, "output '%.100s' has no row for each of the %" PRId64 " instances: use the column form",
                           i->graph->values[i->graph->outputs[k]].name, rows);
    }
    return OD_OK;
}

/* All outputs, or row `row` of them, as one value or as an object by name. */
static void add_outputs(srv_infer *i, int64_t row)
{
    srv_text *text = &i->r->reply.body;
    int wanted = 0, seen = 0;
    for (int k = 0; k < i->n_outputs; k++) wanted += i->wanted[k];
    if (wanted != 1) srv_text_add(text, "{", 1);
    for (int k = 0; k < i->n_outputs; k++) {
        if (!i->wanted[k]) continue;
        const eng_tensor *t = &i->job.outputs[k];
        const char *name = i->graph->values[i->graph->outputs[k]].name;
        if (seen++) srv_text_add(text, ",", 1);
        if (wanted != 1) {
            srv_text_json(text, name, strlen(name));
            srv_text_add(text, ":", 1);
        }
        nested(text, t, row >= 0, row >= 0 ? row * (t->dims[0] ? eng_tensor_count(t) / t->dims[0] : 0) : 0);
    }
    if (wanted != 1) srv_text_add(text, "}", 1);
}

static void answer(srv_infer *i)
{
    srv_request *r = i->r;
    const tfs_request *q = i->arg;
    od_status st = {0};
    if (q->rows && check_rows(i, q->n_rows, &st) != OD_OK) {
        srv_infer_fail(i, &st);
        return;
    }
    srv_text *text = &r->reply.body;
    *text = (srv_text){.arena = &r->arena};
    if (q->rows) {
        srv_text_add(text, "{\"predictions\":[", 16);
        for (int64_t row = 0; row < q->n_rows; row++) {
            if (row) srv_text_add(text, ",", 1);
            add_outputs(i, row);
        }
        srv_text_add(text, "]}", 2);
    } else {
        srv_text_add(text, "{\"outputs\":", 11);
        add_outputs(i, -1);
        srv_text_add(text, "}", 1);
    }
    srv_infer_answered(i);
}

void srv_tfs_predict(srv_request *r)
{
    od_status st = {0};
    srv_infer *i;
    if (srv_infer_begin(r, &i, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    tfs_request *q = od_arena_array(&r->arena, tfs_request, 1);
    i->arg = q;
    i->answer = answer;
    if (!q) od_fail(&st, OD_NO_MEMORY, "no memory for a request");
    else read_request(i, &st);
    if (st.code) srv_infer_fail(i, &st);
    else if (q->oip.pictures) srv_request_work(r, srv_oip_decode_pictures);
    else srv_infer_run(i);
}

static void tell_status(srv_request *r, srv_text *t, const srv_model *m)
{
    (void)r;
    srv_text_printf(t, "{\"model_version_status\":[{\"version\":\"%" PRId64 "\",\"state\":\"AVAILABLE\",\"status\":{\"error_code\":\"OK\",\"error_message\":\"\"}}]}",
                    m->version);
}

void srv_tfs_status(srv_request *r)
{
    srv_reply_about(r, tell_status);
}

static const char *tfs_type(eng_dtype t)
{
    switch (t) {
    case ENG_FLOAT: return "DT_FLOAT";
    case ENG_DOUBLE: return "DT_DOUBLE";
    case ENG_FLOAT16: return "DT_HALF";
    case ENG_BFLOAT16: return "DT_BFLOAT16";
    case ENG_INT8: return "DT_INT8";
    case ENG_INT16: return "DT_INT16";
    case ENG_INT32: return "DT_INT32";
    case ENG_INT64: return "DT_INT64";
    case ENG_UINT8: return "DT_UINT8";
    case ENG_UINT16: return "DT_UINT16";
    case ENG_UINT32: return "DT_UINT32";
    case ENG_UINT64: return "DT_UINT64";
    case ENG_BOOL: return "DT_BOOL";
    case ENG_STRING: return "DT_STRING";
    default: return "DT_INVALID";
    }
}

static void signature(srv_text *text, const eng_graph *g, const int *list, int n)
{
    srv_text_add(text, "{", 1);
    for (int k = 0; k < n; k++) {
        const eng_value *v = &g->values[list[k]];
        if (k) srv_text_add(text, ",", 1);
        srv_text_json(text, v->name, strlen(v->name));
        srv_text_printf(text, ":{\"dtype\":\"%s\",\"tensor_shape\":{\"dim\":[", tfs_type(v->dtype));
        for (int d = 0; d < v->rank; d++) srv_text_printf(text, "%s{\"size\":\"%" PRId64 "\",\"name\":\"\"}", d ? "," : "", v->dims[d]);
        srv_text_printf(text, "],\"unknown_rank\":%s},\"name\":", v->rank < 0 ? "true" : "false");
        srv_text_json(text, v->name, strlen(v->name));
        srv_text_add(text, "}", 1);
    }
    srv_text_add(text, "}", 1);
}

static void tell_metadata(srv_request *r, srv_text *t, const srv_model *m)
{
    const eng_graph *g = m->model->graph;
    (void)r;
    srv_text_add(t, "{\"model_spec\":{\"name\":", 22);
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_printf(t, ",\"signature_name\":\"\",\"version\":\"%" PRId64 "\"},\"metadata\":{\"signature_def\":{\"signature_def\":{\"serving_default\":{\"inputs\":", m->version);
    signature(t, g, g->inputs, g->n_inputs);
    srv_text_add(t, ",\"outputs\":", 11);
    signature(t, g, g->outputs, g->n_outputs);
    srv_text_add(t, ",\"method_name\":\"tensorflow/serving/predict\"}}}}}", 48);
}

void srv_tfs_metadata(srv_request *r)
{
    srv_reply_about(r, tell_metadata);
}
