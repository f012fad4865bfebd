/* explain.h - where in the picture a model saw what it says: a map of how much each place speaks for a class, a box or an area.
 *
 *   exactly     the network ends in pooling and a linear layer: srv_class_maps_run gives what each place adds to the class
 *   by trying   srv_trial_next covers parts of the input, the caller runs it, srv_trial_take learns from the class's
 *               score; "occlusion" covers one window after another, "rise" random parts of it all (Petsiuk et al.)
 *
 * Either fills a srv_evidence, of which srv_explain_answer makes the answer. Nothing here knows of batchers. */
#ifndef SRV_EXPLAIN_H
#define SRV_EXPLAIN_H

#include "engine/session.h"
#include "server/tasks/tasks.h"

enum { SRV_PASSES_MOST = 1000 };

/* How much each cell of a grid over the model's input speaks for the class. */
typedef struct srv_evidence {
    int64_t rows, columns;
    double *cells;
    int64_t passes;   /* runs it took */
    const char *method;
} srv_evidence;

/* What is explained. */
typedef struct srv_target {
    const struct ldr_card_head *head; /* whose class; NULL: there are none */
    int64_t index;          /* the class; also of a box or an area */
    float score;            /* of the whole picture; of an area 1 */
    const struct srv_box *box; /* in pixels of the input; NULL: no detector */
    const float *points;    /* of the box, [n_points][3]: x, y in pixels of the input, score; NULL: it has none */
    int64_t n_points, point; /* point: the one that is asked; below 0: all */
    const uint8_t *mask;    /* of the box or the segment, a byte for each pixel of the picture; NULL: it has none */
    const uint16_t *labels; /* of the picture; NULL: no segmenter of classes */
    int64_t area;           /* pixels of the mask, or of the class */
} srv_target;

/* What the query asks to explain, in the picture's own `outputs`; `out` holds memory of `a`. OD_BAD_ARGUMENT: no such class or box, or
 * a model that cannot be explained. */
od_code srv_target_find(const ldr_card *card, const srv_picture *p, const eng_tensor *outputs, const srv_query *q, srv_target *out,
                        od_arena *a, od_status *st);

/* How much of it other outputs of the same model show, from 0 on. Any thread. */
od_code srv_target_score(const ldr_card *card, const srv_picture *p, const eng_tensor *outputs, const srv_query *q, const srv_target *t,
                         float *score, od_arena *a, od_status *st);

/* ---- exactly */

/* A second copy of the model, with one more output, made when it is first asked for. Packed weights are shared with the first. */
typedef struct srv_class_maps srv_class_maps;
od_code srv_class_maps_create(srv_class_maps **out, const char *path, od_status *st);
void srv_class_maps_destroy(srv_class_maps *c);

/* Run on the picture's inputs. `outputs` are what the served model gave: a file that was changed in the meantime is noticed by
 * others. *found false, and OD_OK: the network has no such end, or the file is another by now. Any thread. */
od_code srv_class_maps_run(srv_class_maps *c, const srv_picture *p, const eng_tensor *outputs, int64_t index, od_pool *pool,
                           size_t memory_limit, od_arena *a, srv_evidence *out, bool *found, od_status *st);

/* ---- by trying */

typedef struct srv_trial {
    const eng_tensor *input; /* the picture's */
    bool rise;
    int64_t passes, rows, columns;
    int64_t height, width, channels;
    double fill[4];          /* the input's mean by channel: what covers */
    double *weight;          /* how often each cell was covered (rise: seen) */
    double *sum;
    float base;              /* the score of the whole picture */
} srv_trial;

/* `passes` 0: 64 windows, or 256 random covers. OD_UNSUPPORTED: inputs of this type. */
od_code srv_trial_init(srv_trial *t, const ldr_card *card, const srv_picture *p, srv_method method, int64_t passes, float base, od_arena *a,
                       od_status *st);
/* The input with what pass `i` covers into `to`, which is as large. Any thread. */
void srv_trial_cover(const srv_trial *t, int64_t i, void *to);
/* What pass `i` scored. One thread at a time. */
void srv_trial_take(srv_trial *t, int64_t i, float score);
void srv_trial_end(srv_trial *t, srv_evidence *out);

/* ---- the answer */

/* Append `"explanation":{...}`: head, where there are some; class, score, method, passes; "grid", rows of numbers from 0 to 1 that lie evenly over the
 * picture; "png", base64 of the same as levels, finer. */
od_code srv_explain_answer(const ldr_card *card, const ldr_placement *place, const srv_evidence *e, const srv_target *t, od_arena *a, srv_text *json,
                           od_status *st);

#endif
