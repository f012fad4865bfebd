/* tasks.h - from a picture's bytes to the JSON answer, cut into the steps between which a request waits.
 *
 *   srv_picture_open     bytes -> pixels -> the model's input tensor      (any worker)
 *   (the batcher runs the model)
 *   srv_picture_answer   output tensors of this item -> results -> JSON   (any worker)
 *
 * A picture is one view, its input, or several crops of it whose mean is the answer.
 *
 * What to do is in the model's card (loaders/card.h). Nothing here knows of sockets. */
#ifndef SRV_TASKS_H
#define SRV_TASKS_H

#include "engine/tensor.h"
#include "loaders/card.h"
#include "loaders/image.h"
#include "server/text.h"

typedef enum srv_mask { SRV_MASK_DEFAULT, SRV_MASK_NONE, SRV_MASK_RLE, SRV_MASK_POLYGON, SRV_MASK_PNG } srv_mask;

/* Form of pictures and vectors. FLOATS: an array of numbers; BASE64: their bytes. DEFAULT: PNG of pictures, an array of vectors. */
typedef enum srv_format { SRV_FORMAT_DEFAULT, SRV_FORMAT_PNG, SRV_FORMAT_FLOATS, SRV_FORMAT_BASE64 } srv_format;

/* How ?explain=1 finds what speaks for a class. AUTO: exactly where the network allows it, else by occlusion. */
typedef enum srv_method { SRV_METHOD_AUTO, SRV_METHOD_CAM, SRV_METHOD_OCCLUSION, SRV_METHOD_RISE } srv_method;

/* What a request may change; unset fields keep the card's value. */
typedef struct srv_query {
    int64_t top_k;          /* 0: unset */
    int64_t max_detections; /* 0: unset */
    double score_threshold, iou_threshold; /* below 0: unset */
    double soft_nms;        /* sigma; 0: none; below 0: unset */
    int class_agnostic;     /* below 0: unset */
    srv_mask mask;
    srv_format format;
    bool explain;           /* see explain.h */
    int64_t explain_class;  /* below 0: the best */
    const char *explain_head; /* of classifiers: which list, lent; NULL: the first */
    int64_t explain_box;    /* of detectors: the answer's box (or segment) of this number, from 0; with a class the first of it from there on */
    int64_t explain_point;  /* of boxes with keypoints: this one; below 0: all */
    int64_t passes;         /* 0: unset */
    srv_method method;
    int64_t crops;          /* 1, 5 or 10; 0: unset */
    int crop_mean;          /* an ldr_crop_mean; below 0: unset */
} srv_query;

void srv_query_init(srv_query *q);

/* One key=value of a query string or JSON "parameters". OD_BAD_ARGUMENT: unknown key, or a value that is
 * not possible, with what is. */
od_code srv_query_set(srv_query *q, const char *key, const char *value, od_status *st);

/* Is there such a decoder, and can it read outputs of these shapes? To be called once a model and its card
 * are loaded. A card without a task passes; a guessed one that cannot be read loses its task and passes.
 * OD_BAD_MODEL, naming what was found and what was wanted. */
od_code srv_task_check(ldr_card *card, const eng_model *m, od_status *st);

typedef struct srv_picture {
    ldr_placement placement;
    /* Every input of the model, as eng_session_run wants them, batch extent 1. The picture of an NCHW model is
     * ENG_CL (ENG_ROW where its input has no batch): whoever joins items of a batch copies bytes behind one
     * another and keeps the layout. Inputs that the model gives a default have data NULL. */
    eng_tensor *inputs;
    int n_inputs, n_outputs; /* the model's */
    /* Views of the picture: the centre, then the corners, then these five of its mirror image. `inputs` is the first; the
     * others' pixels lie behind its own. */
    int64_t n_views;
    int input;               /* which of `inputs` takes the pixels */
    int64_t decode_ns, preprocess_ns, postprocess_ns; /* for Server-Timing */
    ldr_pixels pixels;       /* three channels, whole, where the card has models behind it; else data NULL */
    struct srv_region *regions; /* what was found for those: region.h; after srv_picture_answer */
    int64_t n_regions;
} srv_picture;

/* Decode `bytes` and make the model's inputs, as many views as `q` (NULL: one) and the card say. All memory from `a`, which
 * the caller keeps until the answer is sent. `max_pixels` 0: the default of ldr_image_decode, whose errors these are;
 * OD_UNSUPPORTED too: a card without a task; OD_BAD_ARGUMENT: crops where there can be none. Any thread. */
od_code srv_picture_open(const ldr_card *card, const eng_model *m, const srv_query *q, const void *bytes, size_t size, int64_t max_pixels,
                         od_arena *a, srv_picture *out, od_status *st);

/* The same from pixels. `pixels` must last until the answer is there. */
od_code srv_picture_open_pixels(const ldr_card *card, const eng_model *m, const srv_query *q, const ldr_pixels *pixels, od_arena *a,
                                srv_picture *out, od_status *st);

/* What a run of `n` views from `first` on takes: p->n_inputs tensors that share the picture's bytes. `n` above 1: the
 * model takes batches. */
void srv_picture_views(const srv_picture *p, int64_t first, int64_t n, eng_tensor *inputs);

/* The `run`'s outputs, one view behind the other, into those of all views: p->n_outputs tensors a view, batch extent 1,
 * that share its bytes. OD_BAD_SHAPE: an output has not a row for each. */
od_code srv_picture_take(const srv_picture *p, const eng_tensor *run, int64_t first, int64_t n, eng_tensor *outputs, od_status *st);

/* Append the answer's members, such as `"classes":[...]`, without braces around, so that callers can add
 * their own. `outputs` are the model's, in graph order, ENG_ROW, batch extent 1, of one view behind the other. OD_BAD_SHAPE,
 * OD_BAD_TYPE: outputs that the decoder cannot read. Any thread. */
od_code srv_picture_answer(const ldr_card *card, srv_picture *p, const eng_tensor *outputs, const srv_query *q, od_arena *a,
                           srv_text *json, od_status *st);

#endif
