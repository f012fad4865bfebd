/* load_client.h - many HTTP connections from one thread, timed.
 *
 * Closed loop: each connection sends its next request when its answer is there. Open loop: requests are due at
 * fixed times whatever the server does, wait for a connection if none is free, and their latency counts from when
 * they were due, so that a server that stalls is not asked less and its stall is seen by all who would have come. */
#ifndef SRV_LOAD_CLIENT_H
#define SRV_LOAD_CLIENT_H

#include "server/cli/url.h"

enum { SRV_LOAD_STAGES = 5 }; /* queue, decode, preprocess, compute, postprocess */

typedef struct srv_load_options {
    srv_url url;
    const char *request; /* head and body, sent as it is */
    size_t request_len;
    int connections;     /* open loop: at most */
    double rate;         /* requests a second; 0: closed loop */
    double warmup_s, seconds;
} srv_load_options;

typedef struct srv_load_result {
    int64_t *latency_ns;    /* of answers with status 200, ascending; freed by srv_load_free */
    size_t n;
    uint64_t statuses[600]; /* answers by status */
    uint64_t errors;        /* connections that failed or broke */
    uint64_t late;          /* open loop: due within the time, not answered at its end */
    double seconds;         /* really measured */
    double stage_ms[SRV_LOAD_STAGES]; /* sums of Server-Timing */
    uint64_t staged;        /* answers that had it */
} srv_load_result;

/* OD_IO: nobody listens there; OD_NO_MEMORY. */
od_code srv_load_run(const srv_load_options *o, srv_load_result *out, od_status *st);
void srv_load_free(srv_load_result *r);

extern const char *const srv_load_stages[SRV_LOAD_STAGES];

#endif
