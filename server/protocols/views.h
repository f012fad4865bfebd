/* views.h - a picture's views through its model's queue: as many in one job as the model takes in a batch, else one job
 * behind the other. */
#ifndef SRV_VIEWS_H
#define SRV_VIEWS_H

#include "server/server.h"
#include "server/tasks/tasks.h"

typedef struct srv_views {
    /* set by the caller, who keeps everything until `done`; of `job` arena, since_ns, prepare_ns, admitted and priority may be */
    const srv_model *model;
    const srv_picture *picture;
    bool here; /* short runs may be made on the calling thread */
    void (*done)(struct srv_views *v); /* once, as a job's */
    void *arg;
    srv_job job; /* afterwards its status, and its times with all runs together */
    eng_tensor *outputs; /* those of all views, as srv_picture_answer reads them */
    /* its own */
    eng_tensor *inputs;
    int64_t at; /* views that are through */
    int64_t queue_ns, compute_ns, batch_rows;
} srv_views;

/* Errors are those of srv_batcher_submit; `done` is not called then, and an admitted job's place is used up. */
od_code srv_views_run(srv_views *v, od_status *st);

#endif
