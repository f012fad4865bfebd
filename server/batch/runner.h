/* runner.h - one session and what it takes to run several jobs as one: rows gathered into a batch's
 * tensors, outputs split again. Private to server/batch. */
#ifndef SRV_RUNNER_H
#define SRV_RUNNER_H

#include "server/batch/batch.h"

typedef struct srv_runner {
    struct srv_runner *next;
    eng_model *model;
    eng_session *session;
    od_arena arena; /* a batch's tensors */
    eng_tensor *outputs;
    int64_t gather_ns; /* of the last batch */
    od_budget *budget;
    size_t charged;    /* in it, by srv_runner_count */
} srv_runner;

od_code srv_runner_create(srv_runner **out, eng_model *model, od_pool *pool, size_t memory_limit, od_budget *budget, od_status *st);
void srv_runner_destroy(srv_runner *r);
/* Bytes that it holds, which the budget is told. */
size_t srv_runner_count(srv_runner *r);

/* Run `n` jobs, linked by `next`, of `rows` rows together. A lone job's tensors are used where they lie.
 * Sets st, outputs, batch_rows and times of each. Returns the number of runs that were needed. */
int srv_runner_run(srv_runner *r, srv_job *first, int n, int64_t rows);

/* Do both have the same types, layouts and extents after the first, in all of `n` inputs? */
bool srv_inputs_agree(const eng_tensor *a, const eng_tensor *b, int n);

#endif
