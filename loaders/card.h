/* card.h - how pictures become a model's input and its output becomes results: data, not code.
 *
 * A card comes from model.json beside the model, else from what the exporting tool left, else it is guessed
 * from the graph. It is checked against the graph: names, extents, types. Unknown keys are errors. */
#ifndef LDR_CARD_H
#define LDR_CARD_H

#include "engine/model.h"
#include "loaders/image.h"

typedef enum ldr_task {
    LDR_TASK_NONE, /* tensors only */
    LDR_TASK_CLASSIFY,
    LDR_TASK_DETECT,
    LDR_TASK_SEGMENT,
    LDR_TASK_POSE,
    LDR_TASK_EMBED,
    LDR_TASK_IMAGE, /* depth, restoration, super-resolution: a picture or a map out */
    LDR_TASKS
} ldr_task;

/* What is averaged over the crops of a picture. */
typedef enum ldr_crop_mean { LDR_MEAN_SCORES, LDR_MEAN_OUTPUTS } ldr_crop_mean;
extern const char *const ldr_mean_names[]; /* "scores", "outputs", NULL */

#define LDR_GUESSED "guessed" /* a card's source when only the graph was asked */

typedef struct ldr_card {
    ldr_task task;
    const char *source;   /* where it came from: "model.json", "config.json", "guessed", ... */
    int input;            /* index of the graph input that takes the picture */
    bool nhwc;            /* it is [N, H, W, C] or, without a batch, [H, W, C] */
    ldr_preprocess pre;
    uint8_t background[3]; /* under transparent pixels */
    const char *decoder;  /* "softmax", "sigmoid", "yolov8", ...: see docs/cards.md; NULL: the task's default */
    const int *outputs;   /* indices of the graph outputs the decoder reads, in its order; NULL: all */
    int n_outputs;
    int64_t top_k, max_detections;
    double score_threshold, iou_threshold; /* iou_threshold 1: nothing is suppressed */
    bool class_agnostic;
    int64_t crops;           /* of classifiers: inputs that a picture makes, 5 or 10; else 0 or 1 */
    ldr_crop_mean crop_mean;
    int n_labels;
    const char *const *labels; /* NULL: numbers only */
    const struct ldr_card_param {
        const char *name;  /* a decoder's own number or list, such as "strides" or "anchors" */
        int n;
        const double *values;
    } *params;
    int n_params;
    const struct ldr_card_param *constants; /* numbers of inputs beside the picture, by the inputs' names */
    int n_constants;
    const struct ldr_card_head {
        const char *name;    /* several answers of a classifier, each with classes of its own */
        int output;          /* index of the graph output they are in */
        const char *decoder;
        int64_t first, count; /* which of its classes; count 0: all from `first` on */
        int n_labels;
        const char *const *labels;
    } *heads;
    int n_heads;
    const struct ldr_card_then {
        const char *model;     /* what a detector finds is cut out and goes through this one */
        const char *const *of; /* labels of what does; NULL: all */
        int n_of;
        double margin;         /* on each side, in extents of the box */
    } *then;
    int n_then;
    /* batching; -1: not said, the server's defaults hold */
    int64_t max_batch_size, max_queue_delay_us, max_queue, timeout_us;
} ldr_card;

/* Which versions of a model are to be served. */
typedef struct ldr_versions {
    enum { LDR_VERSIONS_UNSAID, LDR_VERSIONS_LATEST, LDR_VERSIONS_SPECIFIC } kind;
    int64_t latest;   /* so many, the newest; below 0: all */
    int64_t list[64]; /* these */
    int n;
} ldr_versions;

/* What `json` (a card or a configuration in Triton's form; NULL: none), else model.json or config.pbtxt in `folder` says of the
 * versions in that folder. OD_BAD_MODEL: it breaks its form; what else is in them is not looked at. */
od_code ldr_versions_find(const char *folder, const char *json, ldr_versions *out, od_status *st);

/* The card of the model whose file is `model_path` (used to find files beside it and in the folder above;
 * NULL: none), checked against `m`. `json` (NULL: none) is used instead of model.json; a model configuration in Triton's
 * form is laid over the card that is found, in what it says of batching. What a card does not
 * say is guessed from the graph. Everything is allocated from `a`. OD_BAD_MODEL: a card that breaks its form
 * or contradicts the graph, naming the key; OD_TOO_LARGE, OD_IO, OD_NOT_FOUND: its files. Names of decoders
 * are the server's: srv_task_check looks at those. */
od_code ldr_card_find(const char *model_path, const char *json, const eng_model *m, od_arena *a, ldr_card *out, od_status *st);

/* The card as the text of a model.json that gives the same card. */
od_code ldr_card_json(const ldr_card *card, const eng_model *m, od_arena *a, char **text, od_status *st);

/* Type and extents of value `v` of the graph, declared or inferred; rank -1: unknown; free extents -1. */
eng_tensor ldr_card_shape(const eng_model *m, int v);

/* The values of parameter `name`, `*n` of them; NULL: not given. */
const double *ldr_card_param(const ldr_card *card, const char *name, int *n);

#endif
