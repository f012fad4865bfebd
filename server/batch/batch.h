/* batch.h - requests of one model gathered into runs.
 *
 * A job is one request's tensors. Jobs whose inputs agree in type and in every extent but the first run
 * together, their rows one behind the other, up to the model's max_batch_size. A job never waits while a
 * worker is idle; when all are busy it waits in the queue, by priority and then by age, and whoever
 * becomes free takes as many as pay. `max_queue_delay_us` lets a lone job wait for company even when a
 * worker is idle. How many rows pay is measured when the batcher is made: more are neither waited for nor
 * put together, since they would only be answered later. A later priority counts as PRIORITY_STEP_MS of
 * age for each level, so that nobody waits for ever. Expired and cancelled jobs are dropped before they
 * run. Queues are bounded. When a run of several jobs fails, each is run again alone, so that one job's
 * error is its own.
 *
 * A request with work to do before its job can be submitted (decoding a picture) takes a place in the
 * queue first by srv_batcher_admit, so that an overloaded server does not do that work in vain. */
#ifndef SRV_BATCH_H
#define SRV_BATCH_H

#include "engine/session.h"

#include <stdatomic.h>

enum {
    SRV_PRIORITY_DEFAULT = 5, /* of a job that says 0 */
    SRV_PRIORITY_LAST = 16,   /* later ones count as this */
    SRV_PRIORITY_STEP_MS = 500
};

typedef struct srv_batcher srv_batcher;

typedef struct srv_batch_options {
    int64_t max_batch_size;      /* rows of a run; 0 or 1, or a model with a fixed first extent: no batching */
    int64_t max_queue_delay_us;
    int64_t max_queue;           /* jobs waiting; 0: 1000 */
    int64_t timeout_us;          /* default deadline of a job, from submission; 0: none */
    size_t memory_limit;         /* of one session's run; 0: none */
    od_budget *budget;           /* that runs are counted in; NULL: none */
    /* Extents of made-up input for the graph input `picture_input`, where the graph leaves them free; the
     * first is not used. All 0: the batcher makes them up, too. Only read by srv_batcher_create. */
    int picture_input;
    int64_t picture_dims[4];
} srv_batch_options;

typedef struct srv_job {
    /* set by the caller; everything stays alive until `done` */
    const eng_tensor *inputs; /* as many as the graph has, in order; data NULL: the model's default */
    const bool *wanted;       /* outputs that are read, by graph output; NULL: all */
    od_arena *arena;          /* outputs are copied here, by the worker, before `done` */
    int priority;             /* 1 first, 0: SRV_PRIORITY_DEFAULT, larger later */
    bool admitted;            /* holds a place from srv_batcher_admit, which submit uses up also when it fails */
    int64_t timeout_us;       /* 0: the model's default */
    int64_t since_ns;         /* when the request came, by od_now_ns: the timeout counts from here; 0: from submission */
    void (*done)(struct srv_job *job); /* on another thread, exactly once for each job that submit accepted, maybe before
                                          submit returns; must not block, nor free the batcher */
    void *arg;
    int64_t prepare_ns;       /* what making the inputs took, for the statistics */
    atomic_bool cancelled;    /* may be set by any thread: the job is dropped when its turn comes, or between
                                 nodes when all jobs of its run are cancelled */
    /* the result */
    od_status st;             /* st.code OD_OK: outputs are there */
    eng_tensor *outputs;      /* as many as the graph has, ENG_ROW; not wanted ones have data NULL */
    int64_t queue_ns, compute_ns; /* waiting; the run it was part of */
    int64_t gather_ns, give_ns;   /* of compute_ns: putting the rows of that run together, copying its outputs to their jobs */
    int64_t ended_ns;         /* when compute_ns ended, by od_now_ns */
    int64_t batch_rows;       /* of that run; 0: it was not run, and the times but for queue_ns are not set */
    /* the batcher's own */
    struct srv_job *next, *prev;
    int64_t rows, submitted_ns, deadline_ns, order_ns;
    bool joins;               /* may run together with others */
} srv_job;

/* Counters since creation; each only grows, but for the last two. */
typedef struct srv_batch_stats {
    uint64_t accepted, succeeded, failed, expired, cancelled, rejected; /* jobs */
    uint64_t rows, runs;                        /* inference_count, execution_count of the protocol */
    uint64_t queue_ns, compute_ns;              /* sums over jobs that were run */
    uint64_t gather_ns, give_ns;                /* parts of compute_ns */
    uint64_t prepare_ns, answer_ns;             /* before and after it, as callers said */
    uint64_t waiting, running;                  /* jobs, now */
} srv_batch_stats;

typedef struct srv_batch_size_stats {
    int64_t rows;
    uint64_t runs, compute_ns, gather_ns, give_ns; /* the latter two are parts of compute_ns */
} srv_batch_size_stats;

/* `model` and `pool` (with a worker at least) must outlive the batcher. Sessions are made as they are
 * needed, one a running batch. Warms up on the calling thread: runs made-up input and, where rows turn out
 * to be independent of each other, measures which batch sizes pay. A model whose inputs cannot be made up
 * is taken as it is, unbatched. Errors of a run that say that no input of the model's can work. */
od_code srv_batcher_create(srv_batcher **out, eng_model *model, od_pool *pool, const srv_batch_options *options, od_status *st);

/* Waits until every accepted job is done; not to be called on a worker. NULL is accepted. */
void srv_batcher_destroy(srv_batcher *b);

/* Take a place in the queue for a job to come. OD_BUSY: the queue is full, or the job would wait longer
 * than `timeout_us` (0: the model's default). srv_batcher_leave gives a place back that no submit used up. */
od_code srv_batcher_admit(srv_batcher *b, int64_t timeout_us, od_status *st);
void srv_batcher_leave(srv_batcher *b);
/* The same answer without taking a place: before so much as a body is read. */
od_code srv_batcher_has_room(srv_batcher *b, int64_t timeout_us, od_status *st);

/* Is it still worth preparing this job? OD_CANCELLED, OD_TIMEOUT: no; they are counted, and the place stays taken. */
od_code srv_batcher_still_wanted(srv_batcher *b, const srv_job *job, od_status *st);

/* OD_BUSY: the queue is full, or the job would wait longer than its timeout; OD_BAD_ARGUMENT, OD_BAD_SHAPE,
 * OD_BAD_TYPE: inputs do not fit the model. `done` is not called then. */
od_code srv_batcher_submit(srv_batcher *b, srv_job *job, od_status *st);

/* Run the job here and now when that is better than handing it to a worker: a model of microseconds, or one of
 * a tenth of a millisecond that nobody else uses at this moment (else batches form). true: the result is in `job`, `done` is not called, a place is used up.
 * false: nothing happened; submit it. */
bool srv_batcher_run_now(srv_batcher *b, srv_job *job);

/* An answer was made from a job's outputs in so much time: for the statistics. */
void srv_batcher_note_answer(srv_batcher *b, int64_t ns);

void srv_batcher_stats(srv_batcher *b, srv_batch_stats *out);
/* Runs by their number of rows into rows[max], ascending; how many there are. */
int srv_batcher_size_stats(srv_batcher *b, srv_batch_size_stats *rows, int max);

/* May rows of several jobs be put together? A property of the model and of max_batch_size alone. */
bool srv_batcher_can_batch(const srv_batcher *b);
/* Rows up to which that pays here, as measured; 1: jobs are run one by one. */
int64_t srv_batcher_rows(const srv_batcher *b);

/* Microseconds until a job submitted now would probably start: for Retry-After. */
int64_t srv_batcher_delay_us(srv_batcher *b);

/* Bytes held for runs by the sessions that exist. */
size_t srv_batcher_bytes(srv_batcher *b);

#endif
