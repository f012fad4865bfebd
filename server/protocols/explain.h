/* explain.h - ?explain=1 on a server: the runs that an explanation takes, through the model's queue. */
#ifndef SRV_PROTOCOLS_EXPLAIN_H
#define SRV_PROTOCOLS_EXPLAIN_H

#include "server/server.h"
#include "server/tasks/explain.h"

typedef struct srv_explaining {
    /* set by the caller, who keeps everything until `done` */
    const srv_server *server;
    const srv_model *model;
    const srv_query *query;
    const srv_picture *picture;
    const eng_tensor *outputs; /* the picture's own, of all views */
    const atomic_bool *cancelled;
    int64_t since_ns;          /* when the request came: its deadline holds for all runs together */
    od_arena *arena;
    srv_text *json;            /* the explanation is appended */
    void (*done)(void *arg, const od_status *st);
    void *arg;
    /* its own */
    srv_trial trial;
    srv_target target;
    srv_picture view;          /* the picture's first, at which is looked */
    float *scores;             /* by pass */
    struct lane *lanes;
    int n_lanes;
    atomic_int_least64_t next; /* pass to begin */
    atomic_int left;           /* lanes that go on */
    atomic_bool failed;
    od_status st;              /* of the lane that failed first */
} srv_explaining;

/* Calls `done` once, maybe before it returns. To be called on a worker. */
void srv_explain_run(srv_explaining *e);

#endif
