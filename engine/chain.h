/* chain.h - a run of elementwise operators as one node, made by engine/passes/chain.c: blocks of the output go
 * through all steps while they lie in the nearest cache, so that memory is crossed once and not once a step. */
#ifndef ENG_CHAIN_H
#define ENG_CHAIN_H

#include "engine/model.h"

enum { ENG_CHAIN_STEPS = 24, ENG_CHAIN_INPUTS = 12 };

/* A step's inputs number what it reads: input i of the chain, or ENG_CHAIN_INPUTS + j for the result of step j,
 * which comes before it. The last step's result is the chain's; every step's extents broadcast to it. */
typedef struct eng_chain {
    int n_steps, n_buffers;
    eng_dtype dtype[ENG_CHAIN_STEPS]; /* of the results */
    int buffer[ENG_CHAIN_STEPS]; /* where the result waits until its last reader; set by prepare */
    eng_node steps[ENG_CHAIN_STEPS]; /* in a model that is finished there is room for n_steps */
} eng_chain;

#define ENG_CHAIN_BYTES(n_steps) (offsetof(eng_chain, steps) + (size_t)(n_steps) * sizeof(eng_node))

/* Can `n` be a step, its inputs and outputs being of plain numeric types? */
bool eng_chain_takes(const eng_node *n);

#endif
