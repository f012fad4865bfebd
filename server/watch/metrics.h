/* metrics.h - what happened, counted for Prometheus and for the statistics extension.
 *
 * Counting never waits: counters are atomic, in copies that threads spread over. A series exists for each
 * model version that was asked something; beyond SRV_SERIES_MAX they are counted together under the model
 * name "_other". Counters live as long as the server, through exchanges of models. */
#ifndef SRV_METRICS_H
#define SRV_METRICS_H

#include "server/store/store.h"
#include "server/text.h"

enum { SRV_SERIES_MAX = 1000 };

typedef struct srv_metrics srv_metrics;

typedef enum srv_phase {
    SRV_QUEUE,
    SRV_DECODE,
    SRV_PREPROCESS,
    SRV_COMPUTE,
    SRV_POSTPROCESS,
    SRV_REQUEST, /* first line to reply */
    SRV_PHASES
} srv_phase;

typedef enum srv_outcome { SRV_DONE, SRV_FAILED, SRV_REJECTED, SRV_EXPIRED, SRV_CANCELLED, SRV_OUTCOMES } srv_outcome;

/* How a request that asks a model ended, by its status; OD_BUSY and OD_UNAVAILABLE are SRV_REJECTED. */
srv_outcome srv_outcome_of(od_code code);

/* One request that is over. */
typedef struct srv_observation {
    const char *model; /* NULL: about no model, or none that exists */
    int64_t version;
    srv_outcome outcome;     /* of a request about a model */
    int status;              /* HTTP */
    int64_t ns[SRV_PHASES];  /* below 0: it had no such phase */
} srv_observation;

/* Why a request was turned away without work. */
typedef enum srv_refusal {
    SRV_REFUSED_QUEUE,       /* queue full, or too long for the timeout */
    SRV_REFUSED_RATE,        /* a client above its rate */
    SRV_REFUSED_MEMORY,      /* bodies in flight */
    SRV_REFUSED_CONNECTIONS,
    SRV_REFUSED_DRAINING,
    SRV_REFUSED_UNAVAILABLE, /* model not ready */
    SRV_REFUSED_TOO_LARGE,   /* body, pixels, tensors above a bound */
    SRV_REFUSED_TOKEN,       /* none, or not allowed to */
    SRV_REFUSALS
} srv_refusal;

od_code srv_metrics_create(srv_metrics **out, od_status *st);
void srv_metrics_destroy(srv_metrics *m);

void srv_metrics_observe(srv_metrics *m, const srv_observation *o);
void srv_metrics_refuse(srv_metrics *m, srv_refusal why);

/* Sums over the finished requests of one model version: for the statistics extension. */
typedef struct srv_totals {
    uint64_t outcomes[SRV_OUTCOMES];
    uint64_t count[SRV_PHASES], ns[SRV_PHASES];
    uint64_t failed_ns;       /* whole requests that did not end well */
    int64_t last_ms;          /* since the epoch; 0: never */
} srv_totals;

void srv_metrics_totals(srv_metrics *m, const char *model, int64_t version, srv_totals *out);

/* What only the server knows at the moment of asking. */
typedef struct srv_gauges {
    const char *program_version, *isa;
    int workers, socket_threads;
    int64_t connections, in_flight;  /* requests begun and not answered */
    int64_t body_bytes;              /* held for requests in flight */
    int64_t memory_bytes, memory_limit; /* of the budget */
    uint64_t log_dropped;            /* lines of the access log */
    bool ready, draining;
    bool triton_names;               /* nv_inference_* too */
} srv_gauges;

/* The whole page, in Prometheus' text format 0.0.4. `store` may be NULL. Never waits for the pool. */
void srv_metrics_write(srv_metrics *m, srv_store *store, const srv_gauges *now, srv_text *out);

#endif
