/* seen.c - what the operator sees of requests: the access log, and /metrics. */
#include "server/protocols/protocols.h"

#include "engine/base/cpu.h"
#include "server/settings.h"

static srv_refusal refusal_of(const srv_request *r, bool *refused)
{
    *refused = true;
    switch (r->code) {
    case OD_BUSY: return r->reply.status == 429 ? SRV_REFUSED_RATE : r->queue_full ? SRV_REFUSED_QUEUE : SRV_REFUSED_MEMORY;
    case OD_NO_MEMORY: return SRV_REFUSED_MEMORY;
    case OD_TOO_LARGE: return SRV_REFUSED_TOO_LARGE;
    case OD_UNAVAILABLE: return atomic_load(&((srv_server *)r->context)->draining) ? SRV_REFUSED_DRAINING : SRV_REFUSED_UNAVAILABLE;
    default:
        *refused = r->reply.status == 401 || r->reply.status == 403;
        return SRV_REFUSED_TOKEN;
    }
}

void srv_seen(srv_request *r, bool complete)
{
    srv_server *s = srv_server_of(r);
    int64_t total = r->sent_ns - r->started_ns;
    bool refused, asks = r->model && r->route && (r->route->flags & SRV_ROUTE_INFER) && (r->version || r->code != OD_NOT_FOUND);
    srv_observation o = {
        .model = asks ? r->model : NULL, .version = r->version, .status = r->reply.status,
        .outcome = complete ? srv_outcome_of(r->code) : SRV_CANCELLED,
        .ns = {[SRV_QUEUE] = r->queue_ns, [SRV_DECODE] = r->decode_ns, [SRV_PREPROCESS] = r->preprocess_ns,
               [SRV_COMPUTE] = r->compute_ns, [SRV_POSTPROCESS] = r->postprocess_ns, [SRV_REQUEST] = total}};
    srv_metrics_observe(s->metrics, &o);
    srv_refusal why = refusal_of(r, &refused);
    if (refused) srv_metrics_refuse(s->metrics, why);
    srv_access_log *log = atomic_load_explicit(&s->access_log, memory_order_acquire);
    if (!log) return;
    srv_access a = {
        .peer = srv_request_peer(r), .client = r->client, .method = r->method, .target = r->target, .id = r->id,
        .traceparent = r->traceparent, .model = r->model, .version = r->version, .status = complete ? r->reply.status : 0,
        .bytes_in = r->body_len, .bytes_out = r->sent_bytes, .total_ns = total, .queue_ns = r->queue_ns, .decode_ns = r->decode_ns,
        .preprocess_ns = r->preprocess_ns, .compute_ns = r->compute_ns, .postprocess_ns = r->postprocess_ns, .batch_rows = r->batch_rows};
    srv_access_log_write(log, &a);
}

void srv_turned_away(void *server)
{
    srv_metrics_refuse(((srv_server *)server)->metrics, SRV_REFUSED_CONNECTIONS);
}

void srv_metrics_page(srv_request *r)
{
    srv_server *s = srv_server_of(r);
    srv_gauges now = {
        .program_version = SRV_VERSION_TEXT, .isa = od_cpu_isa_name(od_cpu_isa()), .workers = s->workers,
        .socket_threads = s->socket_threads, .connections = srv_http_connections(r->http),
        .in_flight = srv_http_active(r->http), .body_bytes = (int64_t)srv_http_body_bytes(r->http),
        .memory_bytes = (int64_t)atomic_load(&s->memory.used), .memory_limit = (int64_t)s->memory.limit,
        .log_dropped = srv_access_log_dropped(atomic_load(&s->access_log)), .ready = srv_server_is_ready(s),
        .draining = atomic_load(&s->draining), .triton_names = s->settings->triton_metrics};
    r->reply.type = "text/plain; version=0.0.4; charset=utf-8";
    r->reply.body = (srv_text){.arena = &r->arena};
    srv_metrics_write(s->metrics, atomic_load(&s->open) ? s->store : NULL, &now, &r->reply.body);
    srv_request_finish(r);
}
