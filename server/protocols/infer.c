#include "server/protocols/infer.h"

#include "engine/base/cpu.h"
#include "server/base64.h"
#include "server/protocols/json_numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- types and names */

static const char *const datatypes[ENG_DTYPES] = {
    [ENG_FLOAT] = "FP32", [ENG_UINT8] = "UINT8", [ENG_INT8] = "INT8", [ENG_UINT16] = "UINT16", [ENG_INT16] = "INT16",
    [ENG_INT32] = "INT32", [ENG_INT64] = "INT64", [ENG_STRING] = "BYTES", [ENG_BOOL] = "BOOL", [ENG_FLOAT16] = "FP16",
    [ENG_DOUBLE] = "FP64", [ENG_UINT32] = "UINT32", [ENG_UINT64] = "UINT64", [ENG_BFLOAT16] = "BF16"};

const char *srv_datatype_name(eng_dtype t)
{
    return (unsigned)t < ENG_DTYPES && datatypes[t] ? datatypes[t] : "?";
}

eng_dtype srv_datatype(const char *name, size_t len)
{
    for (int t = 0; t < ENG_DTYPES; t++)
        if (datatypes[t] && strlen(datatypes[t]) == len && !memcmp(datatypes[t], name, len)) return (eng_dtype)t;
    return ENG_UNDEFINED;
}

static int find(const eng_graph *g, const int *list, int n, eng_str name)
{
    for (int i = 0; i < n; i++)
        if (srv_str_is(name, g->values[list[i]].name)) return i;
    return -1;
}

int srv_input_index(const eng_graph *g, eng_str name)
{
    return find(g, g->inputs, g->n_inputs, name);
}

int srv_output_index(const eng_graph *g, eng_str name)
{
    return find(g, g->outputs, g->n_outputs, name);
}

void srv_text_dims(srv_text *t, int rank, const int64_t *dims)
{
    char number[24];
    srv_text_add(t, "[", 1);
    for (int d = 0; d < rank; d++) {
        char *to = number;
        if (d) *to++ = ',';
        to = srv_print_int(to, dims[d]);
        srv_text_add(t, number, (size_t)(to - number));
    }
    srv_text_add(t, "]", 1);
}

/* ---- bytes */

static od_code text_from_binary(srv_request *r, eng_tensor *t, const char *bytes, size_t size, od_status *st)
{
    int64_t n = eng_tensor_count(t);
    if ((size_t)n > size / 4) return od_fail(st, OD_BAD_SHAPE, "%zu bytes for %" PRId64 " texts with their lengths", size, n);
    eng_str *s = od_arena_array(&r->arena, eng_str, n);
    if (!s) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " texts", n);
    size_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t len;
        if (size - at < 4) return od_fail(st, OD_BAD_SHAPE, "%zu bytes end before text %" PRId64 " of %" PRId64, size, i, n);
        memcpy(&len, bytes + at, 4);
        at += 4;
        if (len > size - at)
            return od_fail(st, OD_BAD_VALUE, "text %" PRId64 " says %u bytes, %zu are left", i, len, size - at);
        s[i] = (eng_str){bytes + at, len};
        at += len;
    }
    if (at != size) return od_fail(st, OD_BAD_SHAPE, "%zu bytes behind the last of %" PRId64 " texts", size - at, n);
    t->data = s;
    return OD_OK;
}

od_code srv_tensor_from_binary(srv_request *r, eng_tensor *t, const char *bytes, size_t size, od_status *st)
{
    if (t->dtype == ENG_STRING) return text_from_binary(r, t, bytes, size, st);
    size_t each = eng_dtype_size(t->dtype), want = (size_t)eng_tensor_count(t) * each;
    if (size != want) return od_fail(st, OD_BAD_SHAPE, "%zu bytes came, the shape needs %zu", size, want);
    if ((uintptr_t)bytes % (each < 16 ? each : 16) == 0) {
        t->data = (void *)(uintptr_t)bytes;
    } else {
        t->data = od_arena_alloc(&r->arena, want);
        if (!t->data) return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes", want);
        memcpy(t->data, bytes, want);
    }
    if (t->dtype == ENG_BOOL)
        for (size_t i = 0; i < want; i++)
            if (((uint8_t *)t->data)[i] > 1) return od_fail(st, OD_BAD_VALUE, "byte %zu is %u, neither 0 nor 1", i, ((uint8_t *)t->data)[i]);
    return OD_OK;
}

/* Text, or {"b64": base64}, as TensorFlow's clients send bytes. */
static od_code one_text(srv_json *j, eng_str *out, od_status *st)
{
    eng_str key, text = {0};
    char *bytes;
    if (srv_json_peek(j) != '{') return srv_json_string(j, out, st);
    OD_TRY(srv_json_object(j, st));
    while (srv_json_member(j, &key, st)) {
        if (!srv_str_is(key, "b64")) return srv_json_fail(j, st, "text or {\"b64\": text} is wanted");
        OD_TRY(srv_json_string(j, &text, st));
    }
    OD_TRY(srv_json_code(j));
    OD_TRY(srv_base64_decode(text.ptr ? text.ptr : "", text.len, j->arena, &bytes, &out->len, st));
    out->ptr = bytes;
    return OD_OK;
}

static od_code texts_from_json(srv_json *j, eng_str *to, int64_t count, int64_t *n, od_status *st)
{
    OD_TRY(srv_json_array(j, st));
    while (srv_json_item(j, st)) {
        if (srv_json_peek(j) == '[') {
            OD_TRY(texts_from_json(j, to, count, n, st)); /* as deep as the reader's bound */
            continue;
        }
        if (*n == count) return od_fail(st, OD_BAD_SHAPE, "more elements than the %" PRId64 " of the shape", count);
        OD_TRY(one_text(j, &to[(*n)++], st));
    }
    return srv_json_code(j);
}

od_code srv_tensor_from_json(srv_request *r, eng_tensor *t, srv_json *j, od_status *st)
{
    int64_t count = eng_tensor_count(t);
    size_t each = eng_dtype_size(t->dtype);
    if (count > (j->end - j->at) / 2 + 1) /* an element takes a character and a comma */
        return od_fail(st, OD_BAD_SHAPE, "fewer elements than the %" PRId64 " of the shape", count);
    t->data = od_arena_alloc(&r->arena, (size_t)count * each);
    if (!t->data) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " elements", count);
    if (t->dtype != ENG_STRING) return srv_json_numbers(j, t, st);
    int64_t n = 0;
    OD_TRY(texts_from_json(j, t->data, count, &n, st));
    if (n != count) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " elements, the shape has %" PRId64, n, count);
    return OD_OK;
}

od_code srv_tensor_to_binary(srv_request *r, const eng_tensor *t, srv_piece *out, od_status *st)
{
    int64_t n = eng_tensor_count(t);
    if (t->dtype != ENG_STRING) {
        *out = (srv_piece){t->data, (size_t)n * eng_dtype_size(t->dtype)};
        return OD_OK;
    }
    const eng_str *s = t->data;
    size_t total = 0;
    for (int64_t i = 0; i < n; i++)
        if (s[i].len > UINT32_MAX || !od_add(total, s[i].len + 4, &total)) return od_fail(st, OD_TOO_LARGE, "text %" PRId64 " is too long", i);
    char *to = od_arena_alloc(&r->arena, total);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes of text", total);
    *out = (srv_piece){to, total};
    for (int64_t i = 0; i < n; i++) {
        uint32_t len = (uint32_t)s[i].len;
        memcpy(to, &len, 4);
        if (len) memcpy(to + 4, s[i].ptr, len);
        to += 4 + len;
    }
    return OD_OK;
}

/* ---- the way through the model */

void srv_queue_full(srv_request *r, srv_batcher *b)
{
    r->queue_full = true;
    srv_retry_after(r, srv_batcher_delay_us(b));
}

void srv_retry_after(srv_request *r, int64_t delay_us)
{
    char *text = od_arena_alloc(&r->arena, 24);
    if (!text) return;
    snprintf(text, 24, "%" PRId64, od_min_i64(od_max_i64(od_ceil_div(delay_us, 1000000), 1), 60));
    srv_reply_header(r, "Retry-After", text);
}

od_code srv_request_model(srv_request *r, srv_model **out, od_status *st)
{
    int64_t version = 0;
    const char *name = r->captures[0];
    r->model = name;
    if (r->n_captures > 1) {
        const char *v = r->captures[1];
        size_t n = strlen(v);
        if (!n || n > 18 || strspn(v, "0123456789") != n) return od_fail(st, OD_BAD_ARGUMENT, "'%.40s' is no version: a number from 1 is wanted", v);
        version = strtoll(v, NULL, 10);
        if (version < 1) return od_fail(st, OD_NOT_FOUND, "model '%.100s' has no version 0", name);
    }
    OD_TRY(srv_store_acquire(srv_server_of(r)->store, name, version, out, st));
    r->version = (*out)->version;
    return OD_OK;
}

void srv_reply_about(srv_request *r, srv_tell *tell)
{
    od_status st = {0};
    srv_model *m;
    if (srv_request_model(r, &m, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    r->reply.body = (srv_text){.arena = &r->arena};
    tell(r, &r->reply.body, m);
    srv_model_release(m);
    srv_request_finish(r);
}

od_code srv_infer_begin(srv_request *r, srv_infer **out, od_status *st)
{
    srv_model *m;
    OD_TRY(srv_request_model(r, &m, st));
    const eng_graph *g = m->model->graph;
    srv_infer *i = od_arena_array(&r->arena, srv_infer, 1);
    eng_tensor *inputs = od_arena_array(&r->arena, eng_tensor, g->n_inputs);
    bool *wanted = od_arena_array(&r->arena, bool, g->n_outputs);
    if (!i || !inputs || !wanted) {
        srv_model_release(m);
        return od_fail(st, OD_NO_MEMORY, "no memory for a request");
    }
    for (int k = 0; k < g->n_outputs; k++) wanted[k] = *srv_datatype_name(g->values[g->outputs[k]].dtype) != '?';
    for (int k = 0; k < g->n_inputs; k++) inputs[k].dtype = g->values[g->inputs[k]].dtype;
    *i = (srv_infer){.began_ns = od_now_ns(), .r = r, .model = m, .graph = g, .inputs = inputs, .wanted = wanted, .n_outputs = g->n_outputs};
    r->state = i;
    *out = i;
    return OD_OK;
}

void srv_infer_fail(srv_infer *i, const od_status *st)
{
    srv_request *r = i->r;
    if (st->code == OD_BUSY) srv_queue_full(r, i->model->batcher);
    srv_model_release(i->model);
    srv_request_fail(r, st);
}

static void conclude(srv_infer *i)
{
    srv_request *r = i->r;
    srv_job *job = &i->job;
    r->queue_ns = i->waited_ns + job->queue_ns;
    r->compute_ns = job->compute_ns;
    r->batch_rows = job->batch_rows;
    i->ran_ns = job->batch_rows ? job->ended_ns : od_now_ns();
    if (job->st.code != OD_OK) srv_infer_fail(i, &job->st);
    else i->answer(i);
}

void srv_infer_answered(srv_infer *i)
{
    srv_request *r = i->r;
    r->postprocess_ns = od_now_ns() - i->ran_ns;
    srv_batcher_note_answer(i->model->batcher, r->postprocess_ns);
    srv_model_release(i->model);
    srv_request_finish(r);
}

static void done(srv_job *job)
{
    conclude(job->arg);
}

static void gone(srv_request *r)
{
    srv_infer *i = r->state;
    atomic_store(&i->job.cancelled, true);
}

/* Every input is there, or the model has a default for it. */
static od_code check_inputs(const srv_infer *i, od_status *st)
{
    const eng_graph *g = i->graph;
    for (int k = 0; k < g->n_inputs; k++) {
        const eng_value *v = &g->values[g->inputs[k]];
        if (!i->inputs[k].data && !v->constant) return od_fail(st, OD_BAD_ARGUMENT, "input '%.100s' is missing", v->name);
    }
    return OD_OK;
}

void srv_infer_run(srv_infer *i)
{
    srv_request *r = i->r;
    srv_job *job = &i->job;
    od_status st = {0};
    job->inputs = i->inputs;
    job->wanted = i->wanted;
    job->arena = &r->arena;
    job->done = done;
    job->arg = i;
    job->since_ns = r->received_ns;
    if (r->decode_ns < 0) r->decode_ns = od_now_ns() - i->began_ns; /* else it is that of pictures, with waiting in between */
    job->prepare_ns = r->decode_ns + od_max_i64(r->preprocess_ns, 0);
    if (check_inputs(i, &st) != OD_OK) {
        if (job->admitted) srv_batcher_leave(i->model->batcher);
        srv_infer_fail(i, &st);
        return;
    }
    if (srv_batcher_run_now(i->model->batcher, job)) {
        conclude(i);
        return;
    }
    srv_request_on_gone(r, gone);
    if (srv_batcher_submit(i->model->batcher, job, &st) != OD_OK) srv_infer_fail(i, &st);
}
