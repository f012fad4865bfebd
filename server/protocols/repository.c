/* repository.c - the model repository extension: what there is, load, unload. */
#include "server/protocols/infer.h"

#include "server/base64.h"

#include <stdlib.h>
#include <string.h>

enum { REQUEST_DEPTH = 16 };

/* {} or nothing, or {"ready": bool}. */
static od_code read_index_request(srv_request *r, bool *only_ready, od_status *st)
{
    srv_json j = srv_json_init(r->body, r->body_len, &r->arena, REQUEST_DEPTH);
    eng_str key;
    *only_ready = false;
    if (!r->body_len) return OD_OK;
    OD_TRY(srv_json_object(&j, st));
    while (srv_json_member(&j, &key, st)) {
        if (srv_str_is(key, "ready")) OD_TRY(srv_json_bool(&j, only_ready, st));
        else OD_TRY(srv_json_skip(&j, NULL, st));
    }
    OD_TRY(srv_json_code(&j));
    return srv_json_finish(&j, st);
}

void srv_oip_index(srv_request *r)
{
    od_status st = {0};
    srv_entry *list = NULL;
    int n = 0;
    bool only_ready, first = true;
    if (read_index_request(r, &only_ready, &st) != OD_OK || srv_store_index(srv_server_of(r)->store, &list, &n, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    srv_text *t = &r->reply.body;
    *t = (srv_text){.arena = &r->arena};
    srv_text_add(t, "[", 1);
    for (int i = 0; i < n; i++) {
        const srv_entry *e = &list[i];
        if (only_ready && e->state != SRV_STATE_READY) continue;
        srv_text_add(t, first ? "{\"name\":" : ",{\"name\":", first ? 8 : 9);
        first = false;
        srv_text_json(t, e->name, strlen(e->name));
        if (e->version > 0) srv_text_printf(t, ",\"version\":\"%" PRId64 "\",\"state\":\"%s\"", e->version, srv_state_name(e->state));
        if (e->version > 0 && e->reason[0]) {
            srv_text_add(t, ",\"reason\":", 10);
            srv_text_json(t, e->reason, strlen(e->reason));
        }
        srv_text_add(t, "}", 1);
    }
    srv_text_add(t, "]", 1);
    free(list);
    srv_request_finish(r);
}

enum { FILES_MOST = 64 };

typedef struct load_request {
    const char *config;
    srv_file *files;
    int n_files;
} load_request;

/* "file:1/model.onnx": "base64" */
static od_code read_file(srv_request *r, srv_json *j, eng_str name, load_request *q, od_status *st)
{
    eng_str text;
    char *bytes;
    if (!q->files) q->files = od_arena_array(&r->arena, srv_file, FILES_MOST);
    if (!q->files) return od_fail(st, OD_NO_MEMORY, "no memory for files");
    if (q->n_files == FILES_MOST) return od_fail(st, OD_TOO_LARGE, "more than %d files", FILES_MOST);
    srv_file *f = &q->files[q->n_files++];
    OD_TRY(srv_json_string(j, &text, st));
    f->name = od_arena_strdup(&r->arena, name.ptr, name.len);
    if (!f->name) return od_fail(st, OD_NO_MEMORY, "no memory for a file's name");
    if (strlen(f->name) != name.len) return od_fail(st, OD_BAD_ARGUMENT, "a file's name with a zero in it");
    if (srv_base64_decode(text.ptr ? text.ptr : "", text.len, &r->arena, &bytes, &f->len, st) != OD_OK)
        return od_note(st, "file '%.*s'", srv_cut(name.len), name.ptr);
    f->data = bytes;
    return OD_OK;
}

/* {} or nothing, or {"parameters": {"config": "the text of a model.json, or of Triton's configuration as JSON",
 * "file:NAME": "base64", "unload_dependents": bool}}. */
static od_code read_parameters(srv_request *r, load_request *q, od_status *st)
{
    srv_json j = srv_json_init(r->body, r->body_len, &r->arena, REQUEST_DEPTH);
    eng_str key, text;
    if (!r->body_len) return OD_OK;
    OD_TRY(srv_json_object(&j, st));
    while (srv_json_member(&j, &key, st)) {
        if (!srv_str_is(key, "parameters")) {
            OD_TRY(srv_json_skip(&j, NULL, st));
            continue;
        }
        OD_TRY(srv_json_object(&j, st));
        while (srv_json_member(&j, &key, st)) {
            if (srv_str_is(key, "config")) {
                OD_TRY(srv_json_string(&j, &text, st));
                if (!text.len) continue; /* none */
                q->config = od_arena_strdup(&r->arena, text.ptr, text.len);
                if (!q->config) return od_fail(st, OD_NO_MEMORY, "no memory for a configuration");
            } else if (key.len > 5 && !memcmp(key.ptr, "file:", 5)) {
                OD_TRY(read_file(r, &j, (eng_str){key.ptr + 5, key.len - 5}, q, st));
            } else {
                OD_TRY(srv_json_skip(&j, NULL, st));
            }
        }
        OD_TRY(srv_json_code(&j));
    }
    OD_TRY(srv_json_code(&j));
    return srv_json_finish(&j, st);
}

static void done(void *arg, const od_status *result)
{
    srv_request *r = arg;
    if (result->code != OD_OK) {
        srv_request_fail(r, result);
        return;
    }
    r->reply.body = (srv_text){.arena = &r->arena};
    srv_request_finish(r); /* an empty 200, as clients of this extension expect */
}

void srv_oip_load(srv_request *r)
{
    od_status st = {0};
    load_request q = {0};
    r->model = r->captures[0];
    if (read_parameters(r, &q, &st) != OD_OK ||
        srv_store_load_begin(srv_server_of(r)->store, r->captures[0], q.config, q.files, q.n_files, done, r, &st) != OD_OK)
        srv_request_fail(r, &st);
}

void srv_oip_unload(srv_request *r)
{
    od_status st = {0};
    load_request q = {0};
    r->model = r->captures[0];
    if (read_parameters(r, &q, &st) != OD_OK || srv_store_unload_begin(srv_server_of(r)->store, r->captures[0], done, r, &st) != OD_OK)
        srv_request_fail(r, &st);
}

void srv_oip_other_repository(srv_request *r)
{
    od_status st;
    od_fail(&st, OD_UNSUPPORTED, "there is one repository: the paths begin with /v2/repository/index and /v2/repository/models/");
    srv_request_fail(r, &st);
}
