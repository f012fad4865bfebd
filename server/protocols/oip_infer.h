/* oip_infer.h - what reading an inference request hands to answering it. Private to oip_*.c. */
#ifndef SRV_OIP_INFER_H
#define SRV_OIP_INFER_H

#include "server/protocols/infer.h"
#include "server/protocols/json.h"

typedef struct oip_output {
    int index;       /* of the graph's outputs */
    int binary;      /* -1: as the request says for all */
    int64_t classes; /* 0: the tensor itself */
} oip_output;

typedef struct oip_request {
    eng_str id;
    bool has_id, binary; /* of outputs that do not say */
    oip_output *outputs; /* in the order of the answer */
    int n_outputs;
    int64_t *binary_size; /* by graph input; -1: not binary */
    int *binary_order, n_binary;
    int max_depth;
    bool pictures;       /* an input came as encoded pictures: decode before running */
} oip_request;

/* Encoded pictures, as BYTES, may stand for this input. */
bool srv_oip_takes_pictures(const srv_infer *i, int index);
/* Decode them, then run. */
void srv_oip_decode_pictures(srv_request *r);

/* All outputs when the request names none; marks them wanted. */
od_code srv_oip_choose_outputs(srv_infer *i, oip_request *q, od_status *st);
void srv_oip_answer(srv_infer *i);

#endif
