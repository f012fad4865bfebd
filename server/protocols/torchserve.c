/* torchserve.c - TorchServe's inference API: /ping, and /predictions/{m} for pictures. A classifier answers as
 * TorchServe's image_classifier does, {"label": score, ...}; other tasks answer as /predict, without its frame. */
#include "server/protocols/predict.h"

#include "server/protocols/json.h"

#include <string.h>

void srv_torchserve_ping(srv_request *r)
{
    srv_server *s = srv_server_of(r);
    bool well = srv_server_is_ready(s);
    r->reply.body = (srv_text){.arena = &r->arena};
    r->reply.status = well ? 200 : 503;
    srv_text_printf(&r->reply.body, "{\"status\":\"%s\"}", well ? "Healthy" : "Unhealthy");
    srv_request_finish(r);
}

/* One entry of "classes": {"label": ..., "index": ..., "score": ...}. */
static od_code add_class(srv_json *j, srv_text *t, bool first, od_status *st)
{
    eng_str key, label = {0}, index = {0}, score = {0};
    OD_TRY(srv_json_object(j, st));
    while (srv_json_member(j, &key, st)) {
        if (srv_str_is(key, "label")) OD_TRY(srv_json_skip(j, &label, st));
        else if (srv_str_is(key, "index")) OD_TRY(srv_json_skip(j, &index, st));
        else if (srv_str_is(key, "score")) OD_TRY(srv_json_skip(j, &score, st));
        else OD_TRY(srv_json_skip(j, NULL, st));
    }
    OD_TRY(srv_json_code(j));
    bool named = label.len > 1 && *label.ptr == '"';
    srv_text_printf(t, "%s%s%.*s%s:%.*s", first ? "" : ",", named ? "" : "\"", named ? (int)label.len : (int)index.len,
                    named ? label.ptr : index.ptr ? index.ptr : "", named ? "" : "\"", (int)score.len, score.ptr ? score.ptr : "");
    return OD_OK;
}

/* The members of a result, rewritten when they are a classifier's. */
static od_code add_result(srv_request *r, const srv_text *result, srv_text *t, od_status *st)
{
    char *text = od_arena_calloc(&r->arena, result->len + 2 + SRV_JSON_PAD, 1);
    if (!text) return od_fail(st, OD_NO_MEMORY, "no memory for the answer");
    text[0] = '{';
    if (result->len) memcpy(text + 1, result->data, result->len);
    text[result->len + 1] = '}';
    srv_json j = srv_json_init(text, result->len + 2, &r->arena, 0);
    eng_str key;
    OD_TRY(srv_json_object(&j, st));
    while (srv_json_member(&j, &key, st)) {
        if (!srv_str_is(key, "classes")) {
            OD_TRY(srv_json_skip(&j, NULL, st));
            continue;
        }
        bool first = true;
        srv_text_add(t, "{", 1);
        OD_TRY(srv_json_array(&j, st));
        for (; srv_json_item(&j, st); first = false) OD_TRY(add_class(&j, t, first, st));
        srv_text_add(t, "}", 1);
        return srv_json_code(&j);
    }
    OD_TRY(srv_json_code(&j));
    srv_text_add(t, text, result->len + 2);
    return OD_OK;
}

static void answer(srv_prediction *p)
{
    srv_request *r = srv_prediction_request(p);
    srv_text *t = &r->reply.body;
    od_status st = {0};
    bool several = srv_prediction_several(p);
    *t = (srv_text){.arena = &r->arena};
    if (several) srv_text_add(t, "[", 1);
    for (int i = 0; i < srv_prediction_count(p); i++) {
        if (i) srv_text_add(t, ",", 1);
        if (add_result(r, srv_prediction_result(p, i), t, &st) != OD_OK) t->full = true; /* answered as no memory */
    }
    if (several) srv_text_add(t, "]", 1);
}

void srv_torchserve_predict(srv_request *r)
{
    srv_prediction_run(r, answer);
}
