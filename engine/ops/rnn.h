/* rnn.h - what RNN, GRU and LSTM are once their attributes are read. */
#ifndef ENG_OPS_RNN_H
#define ENG_OPS_RNN_H

#include "engine/op.h"

enum { ENG_RNN_DIRS = 2 };

typedef enum eng_rnn_kind { ENG_RNN_RNN, ENG_RNN_GRU, ENG_RNN_LSTM } eng_rnn_kind;

/* Activations beside those of eng_act. */
enum { ENG_RNN_AFFINE = ENG_ACTS, ENG_RNN_THRESHOLD, ENG_RNN_SCALED_TANH, ENG_RNN_SOFTSIGN };

typedef struct eng_rnn_act {
    int kind; /* eng_act or one of those above */
    float alpha, beta;
} eng_rnn_act;

typedef struct eng_rnn_params {
    eng_rnn_kind kind;
    int gates, dirs;
    bool reverse[ENG_RNN_DIRS], layout, reset_after, input_forget;
    float clip; /* INFINITY: none */
    eng_rnn_act acts[ENG_RNN_DIRS][3];
    const float *w, *r; /* packed constants of all directions; NULL: not constant */
} eng_rnn_params;

typedef struct eng_rnn_size {
    int64_t steps, batch, input, hidden;
    int dirs;
} eng_rnn_size;

/* Sizes from the inputs, all of which are checked. */
od_code eng_rnn_sizes(const eng_ctx *c, const eng_rnn_params *p, eng_rnn_size *s, od_status *st);

/* The whole operator on doubles, by its definition. Lengths are checked already. */
od_code eng_rnn_run_double(eng_ctx *c, const eng_rnn_params *p, const eng_rnn_size *s, od_status *st);

#endif
