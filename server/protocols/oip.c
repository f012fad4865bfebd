/* oip.c - the Open Inference Protocol's questions about the server and its models. */
#include "server/protocols/protocols.h"

#include <string.h>

static void reply(srv_request *r, const char *json)
{
    r->reply.body = (srv_text){.arena = &r->arena};
    srv_text_add(&r->reply.body, json, strlen(json));
    srv_request_finish(r);
}

void srv_oip_live(srv_request *r)
{
    reply(r, "{\"live\":true}");
}

void srv_oip_ready(srv_request *r)
{
    srv_server *s = srv_server_of(r);
    if (!srv_server_is_ready(s)) {
        od_status st;
        od_fail(&st, OD_UNAVAILABLE, atomic_load(&s->draining) ? "shutting down" : "not every model is loaded yet, or one has failed: see /v2/repository/index");
        srv_request_fail(r, &st);
        return;
    }
    reply(r, "{\"ready\":true}");
}

void srv_oip_server(srv_request *r)
{
    reply(r, "{\"name\":\"onnxd\",\"version\":\"" SRV_VERSION_TEXT "\",\"extensions\":[\"binary_tensor_data\",\"classification\","
             "\"model_configuration\",\"model_repository\",\"parameters\",\"statistics\",\"logging\"]}");
}

static void values(srv_text *t, const srv_model *m, const int *list, int n)
{
    const eng_graph *g = m->model->graph;
    srv_text_add(t, "[", 1);
    for (int i = 0; i < n; i++) {
        const eng_value *v = &g->values[list[i]];
        const eng_tensor *probe = m->model->graph->probe && list[i] < m->model->graph->n_probe ? &m->model->graph->probe[list[i]] : NULL;
        int rank = v->rank;
        const int64_t *dims = v->dims;
        if (rank < 0 && probe && probe->rank >= 0) rank = probe->rank, dims = probe->dims;
        eng_dtype type = v->dtype ? v->dtype : probe ? probe->dtype : ENG_UNDEFINED;
        srv_text_add(t, i ? ",{\"name\":" : "{\"name\":", i ? 9 : 8);
        srv_text_json(t, v->name, strlen(v->name));
        srv_text_printf(t, ",\"datatype\":\"%s\",\"shape\":", srv_datatype_name(type));
        srv_text_dims(t, rank < 0 ? 0 : rank, dims);
        srv_text_add(t, "}", 1);
    }
    srv_text_add(t, "]", 1);
}

static void tell_model(srv_request *r, srv_text *t, const srv_model *m)
{
    const eng_graph *g = m->model->graph;
    int64_t versions[SRV_VERSIONS_MOST];
    int n = srv_store_versions(srv_server_of(r)->store, m->name, versions, SRV_VERSIONS_MOST);
    srv_text_add(t, "{\"name\":", 8);
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_put(t, ",\"versions\":[");
    for (int i = 0; i < n; i++) srv_text_printf(t, "%s\"%" PRId64 "\"", i ? "," : "", versions[i]);
    srv_text_put(t, "],\"platform\":\"onnxruntime_onnx\",\"inputs\":");
    values(t, m, g->inputs, g->n_inputs);
    srv_text_add(t, ",\"outputs\":", 11);
    values(t, m, g->outputs, g->n_outputs);
    srv_text_add(t, "}", 1);
}

void srv_oip_model(srv_request *r)
{
    srv_reply_about(r, tell_model);
}

static void tell_ready(srv_request *r, srv_text *t, const srv_model *m)
{
    (void)r;
    srv_text_add(t, "{\"name\":", 8);
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_add(t, ",\"ready\":true}", 14);
}

void srv_oip_model_ready(srv_request *r)
{
    srv_reply_about(r, tell_ready);
}
