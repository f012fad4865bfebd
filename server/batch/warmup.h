/* warmup.h - what a model's first runs, on made-up input, tell about it. Private to server/batch. */
#ifndef SRV_WARMUP_H
#define SRV_WARMUP_H

#include "server/batch/batch.h"

typedef struct srv_warmup {
    bool independent; /* rows may be put together: each gives what it gives alone */
    int64_t rows;     /* up to which that pays; 1: it does not, or they may not */
    int64_t run_ns;   /* of one row on one thread; 0: input could not be made up, nothing is known */
    int64_t elements; /* of that row's inputs */
    size_t bytes;     /* that a session held after runs of up to `rows` */
} srv_warmup;

od_code srv_warmup_run(eng_model *model, const srv_batch_options *options, srv_warmup *out, od_status *st);

/* The largest size of a run, of those that are used, of at most `rows` rows. Few sizes: each one has a plan. */
int64_t srv_warmup_size(int64_t rows);

#endif
