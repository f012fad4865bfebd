/* statistics.c - the statistics and model configuration extensions. */
#include "server/protocols/protocols.h"
#include "server/settings.h"

#include <stdlib.h>
#include <string.h>

enum { SIZES_MOST = 64 };

static void pair(srv_text *t, const char *name, uint64_t count, uint64_t ns, bool last)
{
    srv_text_printf(t, "\"%s\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64 "}%s", name, count, ns, last ? "" : ",");
}

static void add_stats(srv_text *t, srv_model *m, srv_metrics *metrics)
{
    srv_totals sums;
    srv_batch_stats s;
    srv_batch_size_stats sizes[SIZES_MOST];
    srv_batcher_stats(m->batcher, &s);
    int n = srv_batcher_size_stats(m->batcher, sizes, SIZES_MOST);
    srv_metrics_totals(metrics, m->name, m->version, &sums);
    srv_text_add(t, "{\"name\":", 8);
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_printf(t, ",\"version\":\"%" PRId64 "\",\"last_inference\":%" PRId64 ",\"inference_count\":%" PRIu64 ",\"execution_count\":%" PRIu64 ",\"inference_stats\":{",
                    m->version, sums.last_ms, s.rows, s.runs);
    uint64_t ran = s.succeeded; /* tensors are joined and cut as part of the run; the rest is of pictures */
    uint64_t input_ns = sums.ns[SRV_DECODE] + sums.ns[SRV_PREPROCESS], output_ns = sums.ns[SRV_POSTPROCESS];
    pair(t, "success", s.succeeded, s.queue_ns + input_ns + s.compute_ns + output_ns, false);
    pair(t, "fail", s.failed + s.expired + s.cancelled + s.rejected, sums.failed_ns, false);
    pair(t, "queue", ran, s.queue_ns, false);
    pair(t, "compute_input", ran, input_ns, false);
    pair(t, "compute_infer", ran, s.compute_ns, false);
    pair(t, "compute_output", ran, output_ns, false);
    pair(t, "cache_hit", 0, 0, false);
    pair(t, "cache_miss", 0, 0, true);
    srv_text_add(t, "},\"response_stats\":{},\"batch_stats\":[", 37);
    for (int i = 0; i < n; i++) {
        srv_text_printf(t, "%s{\"batch_size\":%" PRId64 ",", i ? "," : "", sizes[i].rows);
        pair(t, "compute_input", sizes[i].runs, 0, false);
        pair(t, "compute_infer", sizes[i].runs, sizes[i].compute_ns, false);
        pair(t, "compute_output", sizes[i].runs, 0, true);
        srv_text_add(t, "}", 1);
    }
    srv_text_printf(t, "],\"memory_usage\":[{\"type\":\"CPU\",\"id\":\"0\",\"byte_size\":%zu}]}", m->bytes + srv_batcher_bytes(m->batcher));
}

void srv_oip_model_stats(srv_request *r)
{
    od_status st = {0};
    srv_model *m;
    if (srv_request_model(r, &m, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    srv_text *t = &r->reply.body;
    *t = (srv_text){.arena = &r->arena};
    srv_text_add(t, "{\"model_stats\":[", 16);
    add_stats(t, m, srv_server_of(r)->metrics);
    srv_text_add(t, "]}", 2);
    srv_model_release(m);
    srv_request_finish(r);
}

void srv_oip_stats(srv_request *r)
{
    od_status st = {0};
    srv_store *store = srv_server_of(r)->store;
    srv_entry *list = NULL;
    int n = 0;
    if (srv_store_index(store, &list, &n, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    srv_text *t = &r->reply.body;
    *t = (srv_text){.arena = &r->arena};
    srv_text_add(t, "{\"model_stats\":[", 16);
    bool first = true;
    for (int i = 0; i < n; i++) {
        srv_model *m;
        if (list[i].state != SRV_STATE_READY || srv_store_acquire(store, list[i].name, list[i].version, &m, &st) != OD_OK) continue;
        if (!first) srv_text_add(t, ",", 1);
        first = false;
        add_stats(t, m, srv_server_of(r)->metrics);
        srv_model_release(m);
    }
    srv_text_add(t, "]}", 2);
    free(list);
    srv_request_finish(r);
}

/* "TYPE_FP32": the configuration's names. */
static void add_type(srv_text *t, eng_dtype type)
{
    const char *name = type == ENG_STRING ? "STRING" : srv_datatype_name(type);
    srv_text_printf(t, "\"data_type\":\"TYPE_%s\"", *name == '?' ? "INVALID" : name);
}

static void add_values(srv_text *t, const eng_graph *g, const int *list, int n, bool batched)
{
    srv_text_add(t, "[", 1);
    for (int i = 0; i < n; i++) {
        const eng_value *v = &g->values[list[i]];
        int skip = batched && v->rank > 0;
        srv_text_add(t, i ? ",{\"name\":" : "{\"name\":", i ? 9 : 8);
        srv_text_json(t, v->name, strlen(v->name));
        srv_text_add(t, ",", 1);
        add_type(t, v->dtype);
        srv_text_add(t, ",\"dims\":", 8);
        srv_text_dims(t, v->rank < 0 ? 0 : v->rank - skip, v->dims + skip);
        srv_text_add(t, "}", 1);
    }
    srv_text_add(t, "]", 1);
}

void srv_oip_config(srv_request *r)
{
    od_status st = {0};
    srv_model *m;
    if (srv_request_model(r, &m, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    const eng_graph *g = m->model->graph;
    bool batched = m->max_batch_size > 1;
    srv_text *t = &r->reply.body;
    *t = (srv_text){.arena = &r->arena};
    srv_text_add(t, "{\"name\":", 8);
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_printf(t, ",\"platform\":\"onnxruntime_onnx\",\"backend\":\"onnxd\",\"version_policy\":{\"latest\":{\"num_versions\":%" PRId64 "}},"
                       "\"max_batch_size\":%" PRId64 ",\"input\":",
                    od_max_i64(srv_server_of(r)->settings->served_versions, 1), batched ? m->max_batch_size : 0);
    add_values(t, g, g->inputs, g->n_inputs, batched);
    srv_text_add(t, ",\"output\":", 10);
    add_values(t, g, g->outputs, g->n_outputs, batched);
    if (batched) srv_text_printf(t, ",\"dynamic_batching\":{\"max_queue_delay_microseconds\":%" PRId64 "}", srv_server_of(r)->settings->max_queue_delay_us);
    srv_text_add(t, ",\"instance_group\":[{\"name\":", 27);
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_add(t, ",\"kind\":\"KIND_CPU\",\"count\":1}]}", 31);
    srv_model_release(m);
    srv_request_finish(r);
}
