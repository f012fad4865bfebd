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

/* The counters of a batcher begin anew when a model is loaded again; each for itself only grows. */
static void add_stats(srv_text *t, srv_metrics *metrics, const srv_model *m)
{
    srv_totals sums;
    srv_batch_stats s;
    srv_batch_size_stats sizes[SIZES_MOST];
    srv_batcher_stats(m->batcher, &s);
    int n = srv_batcher_size_stats(m->batcher, sizes, SIZES_MOST);
    srv_metrics_totals(metrics, m->name, m->version, &sums);
    srv_text_put(t, "{\"name\":");
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_printf(t, ",\"version\":\"%" PRId64 "\",\"last_inference\":%" PRId64 ",\"inference_count\":%" PRIu64 ",\"execution_count\":%" PRIu64 ",\"inference_stats\":{",
                    m->version, sums.last_ms, s.rows, s.runs);
    uint64_t failed = 0;
    for (int k = SRV_FAILED; k < SRV_OUTCOMES; k++) failed += sums.outcomes[k];
    pair(t, "success", s.succeeded, s.queue_ns + s.prepare_ns + s.compute_ns + s.answer_ns, false);
    pair(t, "fail", failed, sums.failed_ns, false);
    pair(t, "queue", s.succeeded, s.queue_ns, false);
    pair(t, "compute_input", s.succeeded, s.prepare_ns + s.gather_ns, false);
    pair(t, "compute_infer", s.succeeded, s.compute_ns - s.gather_ns - s.give_ns, false);
    pair(t, "compute_output", s.succeeded, s.give_ns + s.answer_ns, false);
    pair(t, "cache_hit", 0, 0, false);
    pair(t, "cache_miss", 0, 0, true);
    srv_text_put(t, "},\"response_stats\":{},\"batch_stats\":[");
    for (int i = 0; i < n; i++) {
        const srv_batch_size_stats *z = &sizes[i];
        srv_text_printf(t, "%s{\"batch_size\":%" PRId64 ",", i ? "," : "", z->rows);
        pair(t, "compute_input", z->runs, z->gather_ns, false);
        pair(t, "compute_infer", z->runs, z->compute_ns - z->gather_ns - z->give_ns, false);
        pair(t, "compute_output", z->runs, z->give_ns, true);
        srv_text_put(t, "}");
    }
    srv_text_printf(t, "],\"memory_usage\":[{\"type\":\"CPU\",\"id\":\"0\",\"byte_size\":%zu}]}", m->bytes + srv_batcher_bytes(m->batcher));
}

static void tell_stats(srv_request *r, srv_text *t, const srv_model *m)
{
    srv_text_put(t, "{\"model_stats\":[");
    add_stats(t, srv_server_of(r)->metrics, m);
    srv_text_put(t, "]}");
}

void srv_oip_model_stats(srv_request *r)
{
    srv_reply_about(r, tell_stats);
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
        add_stats(t, srv_server_of(r)->metrics, m);
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

static void add_policy(srv_text *t, const ldr_versions *v, int64_t served)
{
    if (v->kind == LDR_VERSIONS_SPECIFIC) {
        srv_text_put(t, "{\"specific\":{\"versions\":");
        srv_text_dims(t, v->n, v->list);
        srv_text_put(t, "}}");
        return;
    }
    int64_t latest = v->kind == LDR_VERSIONS_LATEST ? v->latest : served;
    if (latest < 0) srv_text_put(t, "{\"all\":{}}");
    else srv_text_printf(t, "{\"latest\":{\"num_versions\":%" PRId64 "}}", od_max_i64(latest, 1));
}

static void tell_config(srv_request *r, srv_text *t, const srv_model *m)
{
    const srv_settings *o = srv_server_of(r)->settings;
    const eng_graph *g = m->model->graph;
    bool batched = m->max_batch_size > 1;
    srv_text_put(t, "{\"name\":");
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_put(t, ",\"platform\":\"onnxruntime_onnx\",\"backend\":\"onnxd\",\"version_policy\":");
    add_policy(t, &m->versions, o->served_versions);
    srv_text_printf(t, ",\"max_batch_size\":%" PRId64 ",\"input\":", batched ? m->max_batch_size : 0);
    add_values(t, g, g->inputs, g->n_inputs, batched);
    srv_text_put(t, ",\"output\":");
    add_values(t, g, g->outputs, g->n_outputs, batched);
    int64_t delay = m->card->max_queue_delay_us >= 0 ? m->card->max_queue_delay_us : o->max_queue_delay_us;
    if (batched) srv_text_printf(t, ",\"dynamic_batching\":{\"max_queue_delay_microseconds\":%" PRId64 "}", delay);
    srv_text_put(t, ",\"instance_group\":[{\"name\":");
    srv_text_json(t, m->name, strlen(m->name));
    srv_text_put(t, ",\"kind\":\"KIND_CPU\",\"count\":1}]}");
}

void srv_oip_config(srv_request *r)
{
    srv_reply_about(r, tell_config);
}
