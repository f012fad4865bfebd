/* infer.h - one request's tensors through its model.
 *
 *     OD_TRY(srv_infer_begin(r, &i, st));    the model is held, inputs are empty
 *     ... set i->inputs, i->wanted, i->priority, i->timeout_us; i->answer ...
 *     srv_infer_run(i);                      later i->answer(i) makes the reply, on any thread
 *
 * Errors on the way are answered here, and the model is released when the answer is made. */
#ifndef SRV_INFER_H
#define SRV_INFER_H

#include "server/protocols/json.h"
#include "server/protocols/protocols.h"

typedef struct srv_infer {
    srv_request *r;
    srv_model *model;
    const eng_graph *graph;
    eng_tensor *inputs;  /* as many as the graph has */
    bool *wanted;        /* as many as it has outputs; those that are tensors, to begin with */
    int n_outputs;
    srv_job job;
    int64_t began_ns, ran_ns; /* reading of the request, and the run's end: for decode and postprocess of Server-Timing */
    int64_t waited_ns;   /* before there was a job: for a worker to decode pictures */
    void (*answer)(struct srv_infer *i); /* makes the reply, then srv_infer_answered or srv_infer_fail */
    void *arg;           /* the protocol's */
} srv_infer;

/* Nothing is held when it fails. */
od_code srv_infer_begin(srv_request *r, srv_infer **out, od_status *st);
void srv_infer_run(srv_infer *i);
/* The reply is made: release the model and finish the request. */
void srv_infer_answered(srv_infer *i);
/* Instead of running: release the model and answer with the error. */
void srv_infer_fail(srv_infer *i, const od_status *st);

/* Index of the graph's input or output with this name, or -1. */
int srv_input_index(const eng_graph *g, eng_str name);
int srv_output_index(const eng_graph *g, eng_str name);

/* Bytes for the elements of `t` (dtype and dims set) from the request's arena, and those of `size` bytes that came:
 * used in place where they are aligned. Text is length-prefixed. OD_BAD_SHAPE, OD_BAD_VALUE. */
od_code srv_tensor_from_binary(srv_request *r, eng_tensor *t, const char *bytes, size_t size, od_status *st);
/* The elements from JSON at `j`. */
od_code srv_tensor_from_json(srv_request *r, eng_tensor *t, srv_json *j, od_status *st);
/* The bytes of `t` as the protocol sends them. */
od_code srv_tensor_to_binary(srv_request *r, const eng_tensor *t, srv_piece *out, od_status *st);

/* Retry-After for a refusal because of load, and for one by this batcher's queue. */
void srv_retry_after(srv_request *r, int64_t delay_us);
void srv_queue_full(srv_request *r, srv_batcher *b);

#endif
