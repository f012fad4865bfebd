/* server.h - what requests of a running server share. */
#ifndef SRV_SERVER_H
#define SRV_SERVER_H

#include "server/http/http.h"
#include "server/store/store.h"
#include "server/watch/access_log.h"
#include "server/watch/metrics.h"

#define SRV_VERSION_TEXT "0.1.0"

struct srv_settings;

typedef struct srv_server {
    const struct srv_settings *settings;
    od_pool *pool;
    srv_store *store;
    srv_http *http;
    srv_metrics *metrics;
    _Atomic(srv_access_log *) access_log; /* NULL: none; once there it stays */
    int workers, socket_threads;
    size_t run_memory;    /* that one run may take */
    od_budget memory;     /* of models, their runs, and requests together */
    atomic_bool open;     /* `store` is there: until then only probes and pages are answered */
    atomic_bool draining; /* no new work; readiness is false */
} srv_server;

static inline bool srv_server_is_ready(srv_server *s)
{
    return atomic_load(&s->open) && !atomic_load(&s->draining) && srv_store_ready(s->store);
}

static inline srv_server *srv_server_of(srv_request *r)
{
    return r->context;
}

#endif
