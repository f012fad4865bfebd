/* parts.h - what the files of loaders/card share. Private to the folder. */
#ifndef LDR_CARD_PARTS_H
#define LDR_CARD_PARTS_H

#include "loaders/card.h"

struct cJSON;

/* ---- files.c ---- */

/* The file `name` beside the model at `model_path`, or in the folder above where the model's own folder is
 * a version's number or "onnx"; zero-terminated, from `a`. *text NULL: there is none.
 * OD_BAD_MODEL: `name` would leave the folder; OD_TOO_LARGE: more than `limit` bytes; OD_IO. */
od_code ldr_card_read_beside(const char *model_path, const char *name, size_t limit, od_arena *a, char **text, od_status *st);

/* The lines of `text`, without empty ones at its end, as the card's labels. Cuts `text` up. */
od_code ldr_card_label_lines(char *text, od_arena *a, ldr_card *card, od_status *st);

/* ---- json.c ---- */

/* Lay the text of a model.json over `card`. */
od_code ldr_card_read_json(const char *text, const char *model_path, const eng_model *m, od_arena *a, ldr_card *card,
                           od_status *st);

/* ---- what other tools leave: each fills in a guessed card and says whether it found its files ---- */

od_code ldr_card_from_ultralytics(const eng_model *m, od_arena *a, ldr_card *card, bool *found, od_status *st);
od_code ldr_card_from_hugging_face(const char *model_path, const eng_model *m, od_arena *a, ldr_card *card, bool *found,
                                   od_status *st);
od_code ldr_card_from_triton(const char *model_path, od_arena *a, ldr_card *card, bool *found, od_status *st);

/* ---- triton.c ---- */

/* What a configuration of Triton's says that concerns us. */
typedef struct ldr_triton {
    char label_file[256];
    int64_t max_batch_size, max_queue_delay_us, max_queue, timeout_us; /* -1: not there */
    ldr_versions versions;
} ldr_triton;

/* The text of a config.pbtxt. OD_BAD_MODEL. */
od_code ldr_triton_read_text(const char *text, ldr_triton *out, od_status *st);
/* The same as JSON, as the model repository extension's clients send it; false: it is none (a card, or no JSON). */
bool ldr_triton_read_json(const char *json, ldr_triton *out);
void ldr_triton_apply(const ldr_triton *t, ldr_card *card);

/* ---- fields.c: the keys of model.json and where they lie ---- */

typedef enum ldr_field_kind {
    LDR_FIELD_INT,    /* int64_t */
    LDR_FIELD_DOUBLE,
    LDR_FIELD_FLOAT,
    LDR_FIELD_BOOL,
    LDR_FIELD_NAME,   /* an enum as one of `names` */
    LDR_FIELD_TEXT,   /* const char * */
    LDR_FIELD_LEVELS, /* uint8_t[3]; one number stands for all three */
    LDR_FIELD_FLOATS  /* float[3]; the same */
} ldr_field_kind;

typedef struct ldr_field {
    const char *key;
    ldr_field_kind kind;
    size_t offset;            /* in the struct that the object stands for */
    double lo, hi;            /* of numbers */
    const char *const *names; /* ends with NULL */
    bool always;              /* written also when zero */
} ldr_field;

extern const ldr_field ldr_card_fields[];       /* of ldr_card */
extern const ldr_field ldr_preprocess_fields[]; /* of ldr_preprocess */
extern const ldr_field ldr_batching_fields[];   /* of ldr_card */
extern const ldr_field ldr_then_fields[];       /* of struct ldr_card_then */
extern const ldr_field ldr_head_fields[];       /* of struct ldr_card_head */
extern const int ldr_card_fields_count, ldr_preprocess_fields_count, ldr_batching_fields_count, ldr_then_fields_count,
    ldr_head_fields_count;

extern const char *const ldr_task_names[];
extern const char *const ldr_color_names[]; /* rgb, bgr, gray: together `channels` and `bgr` */

/* ---- graph.c: what the graph says ---- */

/* The graph's index of the input or output called `name`, or -1. */
int ldr_card_input_at(const eng_model *m, const char *name);
int ldr_card_output_at(const eng_model *m, const char *name);

/* A card from nothing but the graph; `source` is left alone. */
void ldr_card_guess(const eng_model *m, od_arena *a, ldr_card *card);

/* The decoder of classes in output `output`: "probabilities" where the graph makes them itself, else "softmax". */
const char *ldr_card_scores(const eng_model *m, int output);

/* Defaults of a task's numbers. */
void ldr_card_task_defaults(ldr_card *card, ldr_task task);

/* OD_BAD_MODEL when the card contradicts the graph. */
od_code ldr_card_check(const ldr_card *card, const eng_model *m, od_status *st);

#endif
