/* plan.h - one graph at one set of input shapes, worked out ahead of running.
 *
 * A plan knows every shape, every layout, where each value's bytes lie, and the steps that are left
 * after everything that follows from shapes alone has been computed. Values whose shape follows from
 * data are marked ENG_AT_RUN and their nodes are dynamic steps: inferred and allocated when they run.
 * A plan never changes once made; sessions share it and hold references. Private to engine/. */
#ifndef ENG_PLAN_H
#define ENG_PLAN_H

#include "engine/op.h"

typedef enum eng_where {
    ENG_AT_NOTHING, /* not computed: nobody reads it, or who does makes it some lines at a time (ops/conv.h) */
    ENG_AT_INPUT,   /* the caller's bytes */
    ENG_AT_PLAN,    /* known already; data is set */
    ENG_AT_SCRATCH, /* `offset` bytes into the session's scratch block */
    ENG_AT_ALIAS,   /* `offset` elements into planned value `of` */
    ENG_AT_RUN      /* shape and place are found at run time */
} eng_where;

/* The first graph->n_values planned values are the graph's; behind them lie the same values in
 * other layouts. */
typedef struct eng_pvalue {
    eng_tensor t;
    eng_where where;
    int of;         /* ENG_AT_INPUT: which input; ENG_AT_ALIAS: which planned value */
    int64_t offset;
    int readers;    /* graph nodes and outputs that read the value */
    int relayout;   /* planned value that is this one in another layout, or ENG_NONE */
    int first, last; /* steps between which the bytes are needed; of ENG_AT_SCRATCH */
    bool shared;    /* others lie in its bytes, so it cannot move into a concatenation */
} eng_pvalue;

typedef struct eng_step {
    const eng_node *node; /* NULL: copy in[0] into the layout of out[0] */
    int *in, *out;        /* planned values or ENG_NONE */
    int n_in, n_out;
    bool dynamic;
    bool left;      /* not run: a later step makes its output in parts */
    int ahead;      /* which step this one does that for, or ENG_NONE */
    int64_t macs;   /* with those of steps that are left to it */
    size_t free_from, free_bytes; /* of the scratch block: holds nothing while the step runs */
} eng_step;

typedef struct eng_plan {
    od_arena arena;
    const eng_graph *graph;
    eng_tensor *key; /* the inputs' shapes, types and layouts; data non-NULL where one was given */
    eng_pvalue **values;
    eng_step *steps;
    int *outputs; /* planned values, ENG_ROW unless ENG_AT_RUN */
    int n_values, n_steps;
    size_t scratch_bytes;
    int refs;
    uint64_t used_at; /* for leaving the cache */

    struct eng_plan *part; /* the plan to run `parts` times instead, or NULL; see parts.c */
    int64_t parts;
    bool *divided; /* by input: cut along axis 0, not the same for each part */
} eng_plan;

/* A plan for `g` at the shapes of `inputs` (g->n_inputs), from the cache when it is there. The caller
 * owns a reference. Any thread. Errors name the node. */
od_code eng_plan_acquire(eng_plan **out, eng_graph *g, const eng_tensor *inputs, od_pool *pool, od_status *st);
void eng_plan_release(eng_plan *plan); /* NULL is accepted */
eng_plan *eng_plan_keep(eng_plan *plan); /* one more reference */

/* The parts of it. A plan for these shapes, not from the cache; one reference is the caller's. */
od_code eng_plan_build(eng_plan **out, const eng_graph *g, const eng_tensor *inputs, od_pool *pool, od_status *st);
void eng_plan_free(eng_plan *plan);

/* Give each value of a plan whose steps are there its place. OD_NO_MEMORY. */
od_code eng_plan_place(eng_plan *plan, od_arena *scratch, od_status *st);

/* Let a plan of a batch run in parts where its items have nothing to do with each other and it pays. In parts.c. */
void eng_plan_divide(eng_plan *whole, od_pool *pool);

/* Free the cache of `g`. */
void eng_plans_destroy(eng_graph *g);

/* Shapes and types only, as far as they go: what could not be inferred stays rank -1. `known` (by
 * value, may be NULL) receives copies of values that follow from constants alone, in `keep`. */
od_code eng_plan_probe(eng_graph *g, const eng_tensor *inputs, eng_tensor *types, const eng_tensor **known,
                       od_arena *keep, bool tolerant, od_status *st);

/* Which layouts `c`'s node wants its inputs in, and its outputs get. Shared by plans and dynamic steps. */
void eng_layout_choose(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out);

/* Does input i accept a pitch? */
bool eng_accepts_pitch(const eng_node *n, int i);

/* Multiply-adds of the node with these tensors; 0 where they do not count. */
int64_t eng_node_macs(const eng_ctx *c);

/* Refuse input 0 of a type that the operator does not take. */
od_code eng_check_op_type(const eng_ctx *c, od_status *st);

/* The operator's infer; OD_BAD_MODEL too: the node has an output that the operator does not give. */
od_code eng_op_infer(eng_ctx *c, od_status *st);

bool eng_node_has_graph(const eng_node *n);

/* The operator's run, with a conversion around it where it does not know the type but one that holds its
 * numbers: ENG_HALF, ENG_AS_DOUBLE, ENG_AS_INT32. In wide.c. */
od_code eng_op_run(eng_ctx *c, od_status *st);

/* The same with inputs and outputs that are all ENG_ROW: brought to the layouts that the operator wants and
 * back, in c->scratch. For what is computed ahead of a run. */
od_code eng_op_compute(eng_ctx *c, od_status *st);

/* Put "node 17 'fc1' (Reshape)" in front of the message. */
od_code eng_note_node(const eng_graph *g, const eng_node *n, od_status *st);

#endif
