/* target.c - what of an answer is explained, and how much of it another run of the model shows: of a classifier a class's score;
 * of a detector how near the best box of the same label comes, overlap times score (Petsiuk et al., "D-RISE", without its
 * term for the other classes), where it has masks by how they overlap, where it has keypoints by how near those are; of a
 * segmenter the share of a class's pixels that it keeps, of one that gives segments as of boxes with masks. */
#include "server/tasks/explain.h"
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

/* ---- instances ---------------------------------------------------------------------------- */

bool srv_judge_wants(const srv_judge *j, int64_t label)
{
    return !j || (j->keep && j->target->index < 0) || j->target->index == label;
}

od_code srv_judge_mask(const srv_answer *w, const srv_map *m, int label)
{
    srv_judge *j = w->judge;
    srv_target *t = j->target;
    int64_t n = m->width * m->height, both = 0, either = 0;
    if (j->keep) {
        uint8_t *mask = od_arena_alloc(w->a, (size_t)n);
        if (!mask) return od_fail(w->st, OD_NO_MEMORY, "no memory for a mask");
        t->area = 0;
        for (int64_t i = 0; i < n; i++) t->area += mask[i] = m->labels[i] == label;
        t->mask = t->area ? mask : NULL;
        return OD_OK;
    }
    for (int64_t i = 0; t->mask && i < n; i++) {
        bool in = m->labels[i] == label;
        both += in && t->mask[i];
        either += in || t->mask[i];
    }
    j->like = (float)both / (float)od_max_i64(either, 1);
    return OD_OK;
}

/* COCO's likeness of keypoints, with 0.1 for each point's tolerance: the more they are off, in extents of the box, the less. */
od_code srv_judge_points(const srv_answer *w, const float *points, int64_t n)
{
    const double tolerance = 0.1;
    srv_judge *j = w->judge;
    srv_target *t = j->target;
    if (j->keep) {
        float *own = od_arena_array(w->a, float, 3 * n);
        if (!own) return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " points", n);
        if (t->point >= n) return od_fail(w->st, OD_BAD_ARGUMENT, "point is %" PRId64 "; there are %" PRId64, t->point, n);
        memcpy(own, points, (size_t)(3 * n) * sizeof *own);
        t->points = own;
        t->n_points = n;
        return OD_OK;
    }
    double sum = 0, seen = 0, area = fmax((double)(t->box->x2 - t->box->x1) * (double)(t->box->y2 - t->box->y1), 1);
    for (int64_t k = 0; k < od_min_i64(n, t->n_points); k++) {
        if (t->point >= 0 && k != t->point) continue;
        double dx = (double)(points[3 * k] - t->points[3 * k]), dy = (double)(points[3 * k + 1] - t->points[3 * k + 1]);
        sum += exp(-(dx * dx + dy * dy) / (2 * area * tolerance * tolerance));
        seen++;
    }
    j->like = seen > 0 ? (float)(sum / seen) : 0;
    return OD_OK;
}

od_code srv_judge_segment(const srv_answer *w, int64_t number, int64_t label, float score, const srv_map *m, int value)
{
    srv_judge *j = w->judge;
    if (!srv_judge_wants(j, label) || (j->keep && (j->found || number < j->number))) return OD_OK;
    OD_TRY(srv_judge_mask(w, m, value));
    if (j->keep) {
        j->found = true;
        j->target->index = label;
        j->target->score = score;
    }
    j->best = fmaxf(j->best, j->like * score);
    return OD_OK;
}

static od_code judge_segments(srv_answer *w, srv_judge *j)
{
    srv_text unread = {.arena = w->a};
    w->json = &unread;
    w->judge = j;
    w->mask = SRV_MASK_POLYGON; /* some form that needs each mask by itself */
    const od_code rc = srv_queries_answer(w);
    w->json = NULL;
    w->judge = NULL;
    return rc;
}

static od_code find_segment(srv_answer *w, const srv_query *q, srv_target *out)
{
    srv_judge j = {.target = out, .keep = true, .number = q->explain_box};
    OD_TRY(judge_segments(w, &j));
    if (!j.found || !out->mask) return od_fail(w->st, OD_BAD_ARGUMENT, "there is no such segment");
    return OD_OK;
}

/* What the detector has of the box besides. */
static od_code judge_box(srv_answer *w, const srv_box *box, srv_judge *j)
{
    srv_map map = {0};
    w->map = &map;
    w->mask = SRV_MASK_POLYGON;
    w->judge = j;
    const od_code rc = srv_detect_more(w, box);
    w->map = NULL;
    w->judge = NULL;
    return rc;
}

static od_code find_box(srv_answer *w, const srv_query *q, srv_target *out)
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
    OD_TRY(judge_box(w, out->box, &(srv_judge){.target = out, .keep = true}));
    if (out->point >= 0 && !out->points) return od_fail(w->st, OD_BAD_ARGUMENT, "point is for detectors of keypoints");
    return OD_OK;
}

/* ---- areas -------------------------------------------------------------------------------- */

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
    *out = (srv_target){.index = q->explain_class, .point = q->explain_point};
    OD_TRY(srv_answer_open(&w, card, p, outputs, q, a, st));
    switch (card->task) {
    case LDR_TASK_CLASSIFY:
        OD_TRY(find_head(card, q, &out->head, st));
        return srv_class_score(&w, out->head, &out->index, &out->score);
    case LDR_TASK_DETECT: return find_box(&w, q, out);
    case LDR_TASK_SEGMENT: return srv_gives_segments(&w) ? find_segment(&w, q, out) : find_area(&w, q, out);
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
    if (t->labels) {
        srv_map m = {0};
        OD_TRY(srv_segment_labels(&w, &m));
        *score = (float)count_kept(t->labels, m.labels, m.width * m.height, index) / (float)t->area;
        return OD_OK;
    }
    enum { MOST = 1000 };
    srv_target own = *t;
    srv_judge j = {.target = &own};
    srv_boxes boxes = {.a = a};
    bool panoptic = card->decoder && !strcmp(card->decoder, "maskformer-panoptic"); /* whose parts have their pixels from each other */
    if (!panoptic) w.score_threshold = 0.02 * w.score_threshold; /* what is covered is weak */
    w.max_detections = MOST;
    if (card->task == LDR_TASK_SEGMENT) {
        OD_TRY(judge_segments(&w, &j));
        *score = j.best;
        return OD_OK;
    }
    OD_TRY(srv_detect_boxes(&w, &boxes));
    for (int64_t i = 0; i < boxes.n; i++) {
        const srv_box *b = &boxes.list[i];
        float near = b->label == t->index ? srv_detect_overlap(&w, b, t->box) : 0;
        if (near > 0 && (t->mask || t->points)) {
            OD_TRY(judge_box(&w, b, &j));
            near = j.like;
        }
        *score = fmaxf(*score, near * b->score);
    }
    return OD_OK;
}
