/* control.h - what the operators with subgraphs share. */
#ifndef ENG_CONTROL_H
#define ENG_CONTROL_H

#include "engine/op.h"

eng_import_fn eng_loop_import;

/* A subgraph as its node calls it. `args` are its inputs, to be filled up to n_own; captures are there. */
typedef struct eng_body {
    const eng_graph *graph;
    int n_own; /* inputs before the captures */
    const eng_tensor **args;
    eng_tensor *outputs;
} eng_body;

/* The subgraph of attribute `name`; *own (may be NULL) receives the node's inputs before all captures. */
od_code eng_body_find(eng_ctx *c, const char *name, eng_body *b, int *own, od_status *st);
od_code eng_body_run(eng_ctx *c, eng_body *b, od_status *st);

/* Equal tensors put one behind the other along a new axis 0, in memory of the run. */
typedef struct eng_stack {
    eng_tensor t; /* dims[0]: as many as there is room for */
} eng_stack;

/* Put `e` at index `at`, which may lie anywhere below `room`, or at the end when `room` is 0 (grows). */
od_code eng_stack_put(eng_ctx *c, eng_stack *s, int64_t at, int64_t room, const eng_tensor *e, od_status *st);

/* What a stack without elements is, by the declaration of the subgraph's output k. */
od_code eng_stack_empty(eng_ctx *c, const eng_body *b, int k, eng_tensor *out, od_status *st);

/* A known bool or integer of one element. */
od_code eng_scalar_in(const eng_tensor *t, const char *what, eng_dtype dtype, int64_t *out, od_status *st);

#endif
