/* batch.h - requests of one model gathered into runs.
 *
 * A job is one request's tensors. Jobs whose inputs agree in type and in every extent but the first run
 * together, their rows one behind the other, up to the model's max_batch_size. A job never waits while a
 * worker is idle; when all are busy it waits in the queue, by priority and then by age, and whoever
 * becomes free takes as many as fit. `max_queue_delay_us` lets a lone job wait for company even when a
 * worker is idle; batch sizes that loading has measured not to pay are not waited for. Expired and
 * cancelled jobs are dropped before they run. Queues are bounded. */
#ifndef SRV_BATCH_H
#define SRV_BATCH_H

#include "engine/session.h"

#include <stdatomic.h>

typedef struct srv_batcher srv_batcher;

typedef struct srv_batch_options {
    int64_t max_batch_size;      /* rows of a run; 0 or 1, or a model with a fixed first extent: no batching */
    int64_t max_queue_delay_us;
    int64_t max_queue;           /* jobs waiting */
    int64_t timeout_us;          /* default deadline of a job, from submission; 0: none */
    size_t memory_limit;         /* of one session's run; 0: none */
} srv_batch_options;

typedef struct srv_job {
    /* set by the caller; everything stays alive until `done` */
    const eng_tensor *inputs; /* as many as the graph has, in order; data NULL: the model's default */
    const bool *wanted;       /* outputs that are read, by graph output; NULL: all */
    od_arena *arena;          /* outputs are copied here, by the worker, before `done` */
    int priority;             /* 1 first, 0: the model's default, larger later */
    int64_t timeout_us;       /* 0: the model's default */
    void (*done)(struct srv_job *job); /* on a worker, exactly once for each job that submit accepted; must not block */
    void *arg;
    atomic_bool cancelled;    /* may be set by any thread: the job is dropped when its turn comes, or between
                                 nodes when it runs alone */
    /* the result */
    od_status st;             /* st.code OD_OK: outputs are there */
    eng_tensor *outputs;      /* as many as the graph has; not wanted ones have data NULL */
    int64_t queue_ns, compute_ns; /* waiting; the run it was part of */
    int64_t batch_rows;       /* of that run */
    /* the batcher's own */
    struct srv_job *next;
    int64_t rows, submitted_ns, deadline_ns, order;
} srv_job;

/* Counters since creation; each only grows. */
typedef struct srv_batch_stats {
    uint64_t accepted, succeeded, failed, expired, cancelled, rejected; /* jobs */
    uint64_t rows, runs;                        /* inference_count, execution_count of the protocol */
    uint64_t queue_ns, compute_ns;              /* sums over jobs */
    uint64_t waiting, running;                  /* now */
} srv_batch_stats;

typedef struct srv_batch_size_stats {
    int64_t rows;
    uint64_t runs, compute_ns;
} srv_batch_size_stats;

/* `model` and `pool` must outlive the batcher. Sessions are made as they are needed, one a running batch.
 * Warms up: runs made-up input once (and, where batches are possible, measures which sizes pay). */
od_code srv_batcher_create(srv_batcher **out, eng_model *model, od_pool *pool, const srv_batch_options *options, od_status *st);

/* Waits until every accepted job is done. */
void srv_batcher_destroy(srv_batcher *b);

/* OD_BUSY: the queue is full; OD_BAD_SHAPE, OD_BAD_TYPE: inputs do not fit the model. `done` is not called then. */
od_code srv_batcher_submit(srv_batcher *b, srv_job *job, od_status *st);

void srv_batcher_stats(srv_batcher *b, srv_batch_stats *out);
/* Runs by their number of rows into rows[max]; how many there are. */
int srv_batcher_size_stats(srv_batcher *b, srv_batch_size_stats *rows, int max);

/* Microseconds until a job submitted now would probably start: for Retry-After. */
int64_t srv_batcher_delay_us(srv_batcher *b);

#endif
