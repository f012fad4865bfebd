/* tasks.h - from a picture's bytes to the JSON answer, cut into the steps between which a request waits.
 *
 *   srv_picture_open     bytes -> pixels -> the model's input tensor      (any worker)
 *   (the batcher runs the model)
 *   srv_picture_answer   output tensors of this item -> results -> JSON   (any worker)
 *
 * What to do is in the model's card (loaders/card.h). Nothing here knows of sockets. */
#ifndef SRV_TASKS_H
#define SRV_TASKS_H

#include "engine/tensor.h"
#include "loaders/card.h"
#include "loaders/image.h"
#include "server/text.h"

typedef enum srv_mask { SRV_MASK_DEFAULT, SRV_MASK_NONE, SRV_MASK_RLE, SRV_MASK_POLYGON, SRV_MASK_PNG } srv_mask;

/* What a request may change; unset fields keep the card's value. */
typedef struct srv_query {
    int64_t top_k;          /* 0: unset */
    int64_t max_detections; /* 0: unset */
    double score_threshold, iou_threshold; /* below 0: unset */
    srv_mask mask;
} srv_query;

void srv_query_init(srv_query *q);

/* One key=value of a query string or JSON "parameters". OD_BAD_ARGUMENT: unknown key, or a value that is
 * not possible, with what is. */
od_code srv_query_set(srv_query *q, const char *key, const char *value, od_status *st);

typedef struct srv_picture {
    ldr_placement placement;
    eng_tensor *inputs;      /* every input of the model, batch extent 1 */
    int n_inputs;
    int64_t decode_ns, preprocess_ns, postprocess_ns; /* for Server-Timing */
} srv_picture;

/* Decode `bytes` and make the model's inputs. All memory from `a`, which the caller keeps until the answer
 * is sent. Errors of ldr_image_decode. */
od_code srv_picture_open(const ldr_card *card, const void *bytes, size_t size, int64_t max_pixels, od_arena *a,
                         srv_picture *out, od_status *st);

/* Append the answer's members, such as `"classes":[...]`, without braces around, so that callers can add
 * their own. `outputs` are the model's, in graph order, batch extent 1. */
od_code srv_picture_answer(const ldr_card *card, srv_picture *p, const eng_tensor *outputs, const srv_query *q, od_arena *a,
                           srv_text *json, od_status *st);

#endif
