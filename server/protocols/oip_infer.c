/* oip_infer.c - POST /v2/models/{m}/infer: JSON and binary tensors in, the same out. */
#include "server/protocols/infer.h"

#include "server/protocols/json_numbers.h"
#include "server/protocols/oip_infer.h"
#include "server/settings.h"

#include <stdio.h>
#include <string.h>

/* One entry of "inputs" as it is read. */
typedef struct oip_input {
    eng_str name, datatype;
    bool has_shape, done;
    int index;           /* of the graph's inputs, -1: not found yet */
    eng_tensor t;
    const char *data;    /* where "data" stands, when it came before what explains it */
    int64_t binary_size; /* -1: not binary */
} oip_input;

static od_code read_shape(srv_json *j, eng_tensor *t, od_status *st)
{
    t->rank = 0;
    OD_TRY(srv_json_array(j, st));
    while (srv_json_item(j, st)) {
        int64_t n;
        OD_TRY(srv_json_int(j, &n, st));
        if (t->rank == ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "more than %d extents", ENG_MAX_RANK);
        if (n < 0) return od_fail(st, OD_BAD_SHAPE, "an extent of %" PRId64, n);
        t->dims[t->rank++] = n;
    }
    OD_TRY(srv_json_code(j));
    int64_t count;
    if (!eng_dims_count(t->rank, t->dims, &count)) return od_fail(st, OD_BAD_SHAPE, "extents whose product is too large");
    return OD_OK;
}

/* Name, type and shape are there: which input of the model it is, and whether its type fits. */
static od_code identify(srv_infer *i, oip_input *in, od_status *st)
{
    if (!in->name.ptr) return od_fail(st, OD_BAD_ARGUMENT, "'name' is missing");
    if (!in->datatype.ptr) return od_fail(st, OD_BAD_ARGUMENT, "'datatype' is missing");
    if (!in->has_shape) return od_fail(st, OD_BAD_ARGUMENT, "'shape' is missing");
    in->index = srv_input_index(i->graph, in->name);
    if (in->index < 0) return od_fail(st, OD_BAD_ARGUMENT, "the model has no such input");
    eng_dtype have = srv_datatype(in->datatype.ptr, in->datatype.len), want = i->graph->values[i->graph->inputs[in->index]].dtype;
    if (!have) return od_fail(st, OD_BAD_TYPE, "'%.*s' is no datatype", srv_cut(in->datatype.len), in->datatype.ptr);
    if (have != want && !(have == ENG_STRING && srv_oip_takes_pictures(i, in->index)))
        return od_fail(st, OD_BAD_TYPE, "the datatype is %s, the model wants %s", srv_datatype_name(have), srv_datatype_name(want));
    in->t.dtype = have;
    in->done = true;
    return OD_OK;
}

static od_code read_input_parameters(srv_json *j, oip_input *in, od_status *st)
{
    eng_str key;
    OD_TRY(srv_json_object(j, st));
    while (srv_json_member(j, &key, st)) {
        if (srv_str_is(key, "binary_data_size")) {
            OD_TRY(srv_json_int(j, &in->binary_size, st));
            if (in->binary_size < 0) return od_fail(st, OD_BAD_ARGUMENT, "a binary_data_size of %" PRId64, in->binary_size);
        } else if (!strncmp(key.ptr, "shared_memory_", 14)) {
            return od_fail(st, OD_UNSUPPORTED, "shared memory is not offered");
        } else {
            OD_TRY(srv_json_skip(j, NULL, st));
        }
    }
    return srv_json_code(j);
}

static od_code read_input(srv_infer *i, srv_json *j, oip_input *in, od_status *st)
{
    eng_str key;
    *in = (oip_input){.index = -1, .binary_size = -1};
    OD_TRY(srv_json_object(j, st));
    while (srv_json_member(j, &key, st)) {
        if (srv_str_is(key, "name")) OD_TRY(srv_json_string(j, &in->name, st));
        else if (srv_str_is(key, "datatype")) OD_TRY(srv_json_string(j, &in->datatype, st));
        else if (srv_str_is(key, "shape")) {
            OD_TRY(read_shape(j, &in->t, st));
            in->has_shape = true;
        } else if (srv_str_is(key, "parameters")) OD_TRY(read_input_parameters(j, in, st));
        else if (srv_str_is(key, "data")) {
            srv_json_peek(j);
            in->data = j->at;
            if (in->name.ptr && in->datatype.ptr && in->has_shape && !in->done) {
                OD_TRY(identify(i, in, st));
                OD_TRY(srv_tensor_from_json(i->r, &in->t, j, st));
            } else {
                OD_TRY(srv_json_skip(j, NULL, st));
            }
        } else {
            OD_TRY(srv_json_skip(j, NULL, st));
        }
    }
    OD_TRY(srv_json_code(j));
    if (!in->done) {
        OD_TRY(identify(i, in, st));
        if (in->data) { /* go back for it */
            srv_json again = *j;
            again.at = in->data;
            OD_TRY(srv_tensor_from_json(i->r, &in->t, &again, st));
        }
    }
    if (in->data && in->binary_size >= 0) return od_fail(st, OD_BAD_ARGUMENT, "both 'data' and 'binary_data_size'");
    if (!in->data && in->binary_size < 0) return od_fail(st, OD_BAD_ARGUMENT, "neither 'data' nor 'binary_data_size'");
    return OD_OK;
}

static od_code read_output_parameters(srv_json *j, oip_output *out, od_status *st)
{
    eng_str key;
    bool yes;
    OD_TRY(srv_json_object(j, st));
    while (srv_json_member(j, &key, st)) {
        if (srv_str_is(key, "binary_data")) {
            OD_TRY(srv_json_bool(j, &yes, st));
            out->binary = yes;
        } else if (srv_str_is(key, "classification")) {
            OD_TRY(srv_json_int(j, &out->classes, st));
            if (out->classes < 0) return od_fail(st, OD_BAD_ARGUMENT, "a classification of %" PRId64, out->classes);
        } else if (!strncmp(key.ptr, "shared_memory_", 14)) {
            return od_fail(st, OD_UNSUPPORTED, "shared memory is not offered");
        } else {
            OD_TRY(srv_json_skip(j, NULL, st));
        }
    }
    return srv_json_code(j);
}

static od_code read_output(srv_infer *i, srv_json *j, oip_output *out, od_status *st)
{
    eng_str key, name = {0};
    *out = (oip_output){.index = -1, .binary = -1};
    OD_TRY(srv_json_object(j, st));
    while (srv_json_member(j, &key, st)) {
        if (srv_str_is(key, "name")) OD_TRY(srv_json_string(j, &name, st));
        else if (srv_str_is(key, "parameters")) OD_TRY(read_output_parameters(j, out, st));
        else OD_TRY(srv_json_skip(j, NULL, st));
    }
    OD_TRY(srv_json_code(j));
    if (!name.ptr) return od_fail(st, OD_BAD_ARGUMENT, "'name' is missing");
    out->index = srv_output_index(i->graph, name);
    if (out->index < 0) return od_fail(st, OD_BAD_ARGUMENT, "the model has no output '%.*s'", srv_cut(name.len), name.ptr);
    return OD_OK;
}

static od_code read_outputs(srv_infer *i, srv_json *j, oip_request *q, od_status *st)
{
    q->outputs = od_arena_array(&i->r->arena, oip_output, i->n_outputs + 1);
    if (!q->outputs) return od_fail(st, OD_NO_MEMORY, "no memory for %d outputs", i->n_outputs);
    q->n_outputs = 0;
    OD_TRY(srv_json_array(j, st));
    while (srv_json_item(j, st)) {
        if (read_output(i, j, &q->outputs[q->n_outputs], st) != OD_OK) return od_note(st, "outputs[%d]", q->n_outputs);
        for (int k = 0; k < q->n_outputs; k++)
            if (q->outputs[k].index == q->outputs[q->n_outputs].index) return od_fail(st, OD_BAD_ARGUMENT, "outputs[%d] repeats an output", q->n_outputs);
        q->n_outputs++;
    }
    return srv_json_code(j);
}

static od_code read_parameters(srv_infer *i, srv_json *j, oip_request *q, od_status *st)
{
    eng_str key;
    int64_t n;
    OD_TRY(srv_json_object(j, st));
    while (srv_json_member(j, &key, st)) {
        if (srv_str_is(key, "binary_data_output")) {
            OD_TRY(srv_json_bool(j, &q->binary, st));
        } else if (srv_str_is(key, "priority")) {
            OD_TRY(srv_json_int(j, &n, st));
            if (n < 0) return od_fail(st, OD_BAD_ARGUMENT, "a priority of %" PRId64, n);
            i->job.priority = (int)od_min_i64(n, SRV_PRIORITY_LAST);
        } else if (srv_str_is(key, "timeout")) {
            OD_TRY(srv_json_int(j, &i->job.timeout_us, st));
            if (i->job.timeout_us < 0) return od_fail(st, OD_BAD_ARGUMENT, "a timeout of %" PRId64 " us", i->job.timeout_us);
        } else if (key.len >= 7 && !memcmp(key.ptr, "triton_", 7)) {
            return od_fail(st, OD_BAD_ARGUMENT, "parameter '%.*s' is reserved", srv_cut(key.len), key.ptr);
        } else if (srv_json_peek(j) == '{' || srv_json_peek(j) == '[') {
            return od_fail(st, OD_BAD_ARGUMENT, "parameter '%.*s' is no text, number or bool", srv_cut(key.len), key.ptr);
        } else {
            OD_TRY(srv_json_skip(j, NULL, st));
        }
    }
    return srv_json_code(j);
}

static od_code take_input(srv_infer *i, oip_request *q, const oip_input *in, od_status *st)
{
    if (in->t.dtype == ENG_STRING && i->inputs[in->index].dtype != ENG_STRING) q->pictures = true;
    if (i->inputs[in->index].data || q->binary_size[in->index] >= 0) return od_fail(st, OD_BAD_ARGUMENT, "the input is given twice");
    i->inputs[in->index] = in->t;
    q->binary_size[in->index] = in->binary_size;
    if (in->binary_size >= 0) q->binary_order[q->n_binary++] = in->index;
    return OD_OK;
}

static od_code read_inputs(srv_infer *i, srv_json *j, oip_request *q, od_status *st)
{
    int n = 0;
    OD_TRY(srv_json_array(j, st));
    for (; srv_json_item(j, st); n++) {
        oip_input in;
        if (read_input(i, j, &in, st) != OD_OK || take_input(i, q, &in, st) != OD_OK) {
            if (!in.name.ptr) return od_note(st, "inputs[%d]", n);
            return od_note(st, "inputs[%d] '%.*s'", n, srv_cut(in.name.len), in.name.ptr);
        }
    }
    return srv_json_code(j);
}

/* The bytes behind the JSON belong to the binary inputs, in their order, all of them. */
static od_code bind_binary(srv_infer *i, const oip_request *q, const char *bytes, size_t left, od_status *st)
{
    for (int k = 0; k < q->n_binary; k++) {
        int index = q->binary_order[k];
        const char *name = i->graph->values[i->graph->inputs[index]].name;
        size_t size = (size_t)q->binary_size[index];
        if (size > left) return od_fail(st, OD_BAD_VALUE, "input '%.80s' says %zu binary bytes, %zu are left", name, size, left);
        if (srv_tensor_from_binary(i->r, &i->inputs[index], bytes, size, st) != OD_OK) return od_note(st, "input '%.80s'", name);
        bytes += size;
        left -= size;
    }
    if (left) return od_fail(st, OD_BAD_VALUE, "%zu bytes behind the last binary input", left);
    return OD_OK;
}

static od_code read_json(srv_infer *i, oip_request *q, size_t json_len, od_status *st)
{
    srv_request *r = i->r;
    srv_json j = srv_json_init(r->body, json_len, &r->arena, q->max_depth);
    eng_str key;
    bool has_inputs = false;
    OD_TRY(srv_json_object(&j, st));
    while (srv_json_member(&j, &key, st)) {
        if (srv_str_is(key, "inputs")) {
            if (has_inputs) return od_fail(st, OD_BAD_ARGUMENT, "'inputs' is given twice");
            OD_TRY(read_inputs(i, &j, q, st));
            has_inputs = true;
        } else if (srv_str_is(key, "outputs")) {
            if (q->outputs) return od_fail(st, OD_BAD_ARGUMENT, "'outputs' is given twice");
            OD_TRY(read_outputs(i, &j, q, st));
        } else if (srv_str_is(key, "id")) {
            OD_TRY(srv_json_string(&j, &q->id, st));
            q->has_id = true;
        } else if (srv_str_is(key, "parameters")) {
            OD_TRY(read_parameters(i, &j, q, st));
        } else {
            OD_TRY(srv_json_skip(&j, NULL, st));
        }
    }
    OD_TRY(srv_json_code(&j));
    OD_TRY(srv_json_finish(&j, st));
    if (!has_inputs && i->graph->n_inputs) return od_fail(st, OD_BAD_ARGUMENT, "'inputs' is missing");
    return bind_binary(i, q, r->body + json_len, r->body_len - json_len, st);
}

/* The whole body is the model's one input; its free extents are 1, but for one that the size tells. */
static od_code read_raw(srv_infer *i, oip_request *q, od_status *st)
{
    srv_request *r = i->r;
    const eng_graph *g = i->graph;
    if (g->n_inputs != 1) return od_fail(st, OD_BAD_ARGUMENT, "a body without JSON is for models with one input, this one has %d", g->n_inputs);
    const eng_value *v = &g->values[g->inputs[0]];
    eng_tensor *t = &i->inputs[0];
    q->binary = true;
    if (v->rank < 0 || *srv_datatype_name(v->dtype) == '?')
        return od_fail(st, OD_BAD_ARGUMENT, "input '%.80s' has no declared shape and type: send JSON", v->name);
    *t = (eng_tensor){.dtype = v->dtype, .rank = v->rank};
    int free_dim = -1, n_free = 0;
    size_t known = eng_dtype_size(v->dtype);
    for (int d = 0; d < v->rank; d++) {
        t->dims[d] = v->dims[d] < 0 ? 1 : v->dims[d];
        if (v->dims[d] < 0) free_dim = d, n_free++;
        if (!od_mul(known, (size_t)t->dims[d], &known)) return od_fail(st, OD_BAD_SHAPE, "the model's extents are too large");
    }
    if (n_free > 2 || (n_free == 2 && v->dims[0] >= 0)) return od_fail(st, OD_BAD_ARGUMENT, "input '%.80s' has %d free extents: send JSON", v->name, n_free);
    if (v->dtype == ENG_STRING) { /* one text, the length in front */
        if (eng_tensor_count(t) != 1) return od_fail(st, OD_BAD_ARGUMENT, "input '%.80s' is more than one text: send JSON", v->name);
    } else if (free_dim >= 0 && known) {
        t->dims[free_dim] = (int64_t)(r->body_len / known);
    }
    if (srv_tensor_from_binary(r, t, r->body, r->body_len, st) != OD_OK) return od_note(st, "input '%.80s'", v->name);
    return OD_OK;
}

static od_code read_request(srv_infer *i, oip_request *q, od_status *st)
{
    srv_request *r = i->r;
    int n = i->graph->n_inputs;
    q->binary_size = od_arena_array(&r->arena, int64_t, n);
    q->binary_order = od_arena_array(&r->arena, int, n);
    if (!q->binary_size || !q->binary_order) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", n);
    for (int k = 0; k < n; k++) q->binary_size[k] = -1;
    if (r->has_header_part && r->header_part > r->body_len)
        return od_fail(st, OD_BAD_ARGUMENT, "Inference-Header-Content-Length is %zu, the body has %zu bytes", r->header_part, r->body_len);
    if (r->has_header_part && !r->header_part && r->body_len) OD_TRY(read_raw(i, q, st));
    else OD_TRY(read_json(i, q, r->has_header_part ? r->header_part : r->body_len, st));
    return srv_oip_choose_outputs(i, q, st);
}

void srv_oip_infer(srv_request *r)
{
    od_status st = {0};
    srv_infer *i;
    if (srv_infer_begin(r, &i, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    oip_request *q = od_arena_array(&r->arena, oip_request, 1);
    if (!q) od_fail(&st, OD_NO_MEMORY, "no memory for a request");
    else q->max_depth = (int)srv_server_of(r)->settings->max_json_depth;
    if (q) read_request(i, q, &st);
    if (st.code) {
        srv_infer_fail(i, &st);
        return;
    }
    i->arg = q;
    i->answer = srv_oip_answer;
    if (!q->pictures) {
        srv_infer_run(i);
    } else if (srv_batcher_admit(i->model->batcher, i->job.timeout_us, &st) != OD_OK) {
        srv_infer_fail(i, &st);
    } else {
        i->job.admitted = true;
        srv_request_work(r, srv_oip_decode_pictures);
    }
}
