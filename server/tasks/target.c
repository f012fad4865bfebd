/* target.c - what of an answer is explained, and how much of it another run of the model shows: of a classifier a class's score;
 * of a detector how near the best box of the same label comes, overlap times score (Petsiuk et al., "D-RISE", without its
 * term for the other classes); of a segmenter the share of a class's pixels that it keeps. */
#include "server/tasks/explain.h"
#include "server/tasks/parts.h"

#include <string.h>

static od_code find_box(const srv_answer *w, const srv_query *q, srv_target *out)
{
    srv_boxes boxes = {.a = w->a};
    OD_TRY(srv_detect_boxes(w, &boxes));
    int64_t at = q->explain_box;
    while (q->explain_class >= 0 && at < boxes.n && boxes.list[at].label != q->explain_class) at++;
    if (at >= boxes.n)
        return od_fail(w->st, OD_BAD_ARGUMENT, "there is no such box: %" PRId64 " were found", boxes.n);
    out->box = boxes.list + at;
    out->index = boxes.list[at].label;
    out->score = boxes.list[at].score;
    return OD_OK;
}

static int64_t count_kept(const uint16_t *labels, const uint16_t *others, int64_t n, int64_t index)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) kept += labels[i] == index && others[i] == index;
    return kept;
}

/* Without a class the largest but 0, which is what lies behind in most models. */
static od_code find_area(const srv_answer *w, const srv_query *q, srv_target *out)
{
    srv_map m = {0};
    OD_TRY(srv_segment_labels(w, &m));
    int64_t n = m.width * m.height, *areas = od_arena_array(w->a, int64_t, UINT16_MAX + 1), best = 0;
    if (!areas) return od_fail(w->st, OD_NO_MEMORY, "no memory for areas");
    for (int64_t i = 0; i < n; i++) areas[m.labels[i]]++;
    for (int64_t i = 1; i <= UINT16_MAX; i++)
        if (areas[i] > (best ? areas[best] : 0)) best = i;
    out->index = q->explain_class >= 0 ? q->explain_class : best;
    out->area = out->index <= UINT16_MAX ? areas[out->index] : 0;
    if (!out->area) return od_fail(w->st, OD_BAD_ARGUMENT, "class %" PRId64 " has no pixel in this picture", out->index);
    out->labels = m.labels;
    out->score = 1;
    return OD_OK;
}

static od_code find_head(const ldr_card *card, const srv_query *q, const struct ldr_card_head **out, od_status *st)
{
    const char *name = q->explain_head;
    if (!name && card->n_heads) *out = card->heads;
    for (int i = 0; name && i < card->n_heads; i++)
        if (!strcmp(name, card->heads[i].name)) *out = &card->heads[i];
    return !name || *out ? OD_OK : od_fail(st, OD_BAD_ARGUMENT, "head is '%.40s'; the model's card has no such head", name);
}

od_code srv_target_find(const ldr_card *card, const srv_picture *p, const eng_tensor *outputs, const srv_query *q, srv_target *out,
                        od_arena *a, od_status *st)
{
    srv_answer w;
    *out = (srv_target){.index = q->explain_class};
    OD_TRY(srv_answer_open(&w, card, p, outputs, q, a, st));
    switch (card->task) {
    case LDR_TASK_CLASSIFY:
        OD_TRY(find_head(card, q, &out->head, st));
        return srv_class_score(&w, out->head, &out->index, &out->score);
    case LDR_TASK_DETECT: return find_box(&w, q, out);
    case LDR_TASK_SEGMENT: return find_area(&w, q, out);
    default: return od_fail(st, OD_BAD_ARGUMENT, "only classifiers, detectors and segmenters can be explained");
    }
}

od_code srv_target_score(const ldr_card *card, const srv_picture *p, const eng_tensor *outputs, const srv_query *q, const srv_target *t,
                         float *score, od_arena *a, od_status *st)
{
    srv_answer w;
    int64_t index = t->index;
    OD_TRY(srv_answer_open(&w, card, p, outputs, q, a, st));
    *score = 0;
    if (card->task == LDR_TASK_CLASSIFY) return srv_class_score(&w, t->head, &index, score);
    if (card->task == LDR_TASK_SEGMENT) {
        srv_map m = {0};
        OD_TRY(srv_segment_labels(&w, &m));
        *score = (float)count_kept(t->labels, m.labels, m.width * m.height, index) / (float)t->area;
        return OD_OK;
    }
    enum { MOST = 1000 };
    srv_boxes boxes = {.a = a};
    w.score_threshold = 0.02 * w.score_threshold; /* boxes that are covered are weak ones */
    w.max_detections = MOST;
    OD_TRY(srv_detect_boxes(&w, &boxes));
    for (int64_t i = 0; i < boxes.n; i++) {
        float near = boxes.list[i].label == t->index ? srv_overlap(&boxes.list[i], t->box) * boxes.list[i].score : 0;
        if (near > *score) *score = near;
    }
    return OD_OK;
}
