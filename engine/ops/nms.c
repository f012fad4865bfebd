/* nms.c - NonMaxSuppression. How many boxes remain is the work itself, so infer does it and keeps the
 * result for run. Classes are independent and go in parallel; a heap gives the boxes by score. */
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

typedef struct box {
    float y1, x1, y2, x2, area;
} box;

typedef struct nms_job {
    const float *boxes, *scores;
    int64_t n_boxes, classes, most; /* boxes of an image; classes; boxes to keep of each */
    float iou, score;
    bool centre, has_score;
    int32_t *kept, *counts;         /* [image * class][most], [image * class] */
    char *slots;
    size_t slot_bytes;
} nms_job;

static od_code scalar_in(const eng_ctx *c, int i, double otherwise, double *out, od_status *st)
{
    const eng_tensor *t = i < c->n_in ? c->in[i] : NULL;
    *out = otherwise;
    if (!t || !eng_tensor_count(t)) return OD_OK;
    if (eng_tensor_count(t) != 1) return od_fail(st, OD_BAD_SHAPE, "input %d has %" PRId64 " elements, wanted one", i, eng_tensor_count(t));
    OD_TRY(eng_need(c, i));
    *out = t->dtype == ENG_INT64 || t->dtype == ENG_INT32 ? (double)eng_tensor_int(t, 0) : eng_tensor_double(t, 0);
    return OD_OK;
}

static box box_at(const nms_job *j, int64_t image, int64_t i)
{
    const float *p = j->boxes + (image * j->n_boxes + i) * 4;
    box b;
    if (j->centre) b = (box){p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2, 0};
    else b = (box){fminf(p[0], p[2]), fminf(p[1], p[3]), fmaxf(p[0], p[2]), fmaxf(p[1], p[3]), 0};
    b.area = (b.y2 - b.y1) * (b.x2 - b.x1);
    return b;
}

static bool overlap(const box *a, const box *b, float threshold)
{
    float h = fminf(a->y2, b->y2) - fmaxf(a->y1, b->y1), w = fminf(a->x2, b->x2) - fmaxf(a->x1, b->x1);
    if (!(h > 0 && w > 0) || a->area <= 0 || b->area <= 0) return false;
    float both = h * w, all = a->area + b->area - both;
    return all > 0 && both / all > threshold;
}

/* Does box a come before b: a higher score, or the same and a lower number? */
static bool before(const float *scores, int32_t a, int32_t b)
{
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
}

static void sift(const float *scores, int32_t *heap, int64_t n, int64_t i)
{
    int32_t v = heap[i];
    for (int64_t k; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && before(scores, heap[k + 1], heap[k])) k++;
        if (!before(scores, heap[k], v)) break;
        heap[i] = heap[k];
    }
    heap[i] = v;
}

/* The boxes kept so far, a list a coordinate, to be compared many at a time. */
typedef struct chosen {
    float *y1, *x1, *y2, *x2, *area;
} chosen;

/* Does `b` overlap one of the first n? Nearly all pairs do not even touch, which needs comparisons only. */
static bool overlaps_any(const chosen *c, int64_t n, const box *b, float threshold)
{
    enum { MANY = 16 };
    int64_t k = 0;
    for (; k + MANY <= n; k += MANY) {
        int touch = 0;
        for (int i = 0; i < MANY; i++)
            touch |= (b->y2 > c->y1[k + i]) & (c->y2[k + i] > b->y1) & (b->x2 > c->x1[k + i]) & (c->x2[k + i] > b->x1);
        for (int i = 0; touch && i < MANY; i++)
            if (overlap(b, &(box){c->y1[k + i], c->x1[k + i], c->y2[k + i], c->x2[k + i], c->area[k + i]}, threshold)) return true;
    }
    for (; k < n; k++)
        if (overlap(b, &(box){c->y1[k], c->x1[k], c->y2[k], c->x2[k], c->area[k]}, threshold)) return true;
    return false;
}

static void select_class(void *arg, int64_t chunk, int slot)
{
    const nms_job *j = arg;
    int64_t image = chunk / j->classes, n = 0, kept = 0;
    const float *scores = j->scores + chunk * j->n_boxes;
    int32_t *heap = (int32_t *)(void *)(j->slots + (size_t)slot * j->slot_bytes), *out = j->kept + chunk * j->most;
    float *lists = (float *)(void *)((char *)heap + ((size_t)j->n_boxes * sizeof *heap + 63) / 64 * 64);
    chosen c = {lists, lists + j->most, lists + 2 * j->most, lists + 3 * j->most, lists + 4 * j->most};
    for (int64_t i = 0; i < j->n_boxes; i++)
        if (j->has_score ? scores[i] > j->score : !isnan(scores[i])) heap[n++] = (int32_t)i;
    for (int64_t i = n / 2; i-- > 0;) sift(scores, heap, n, i);
    while (n && kept < j->most) {
        int32_t top = heap[0];
        heap[0] = heap[--n];
        if (n) sift(scores, heap, n, 0);
        box b = box_at(j, image, top);
        if (overlaps_any(&c, kept, &b, j->iou)) continue;
        c.y1[kept] = b.y1;
        c.x1[kept] = b.x1;
        c.y2[kept] = b.y2;
        c.x2[kept] = b.x2;
        c.area[kept] = b.area;
        out[kept++] = top;
    }
    j->counts[chunk] = (int32_t)kept;
}

static od_code check_shapes(const eng_ctx *c, od_status *st)
{
    const eng_tensor *b = c->n_in ? c->in[0] : NULL, *s = c->n_in > 1 ? c->in[1] : NULL;
    if (!b || !s) return od_fail(st, OD_BAD_MODEL, "boxes and scores are wanted");
    if (b->dtype != ENG_FLOAT || s->dtype != ENG_FLOAT) return od_fail(st, OD_BAD_TYPE, "boxes and scores must be float");
    if (b->rank != 3 || s->rank != 3 || b->dims[2] != 4 || b->dims[0] != s->dims[0] || b->dims[1] != s->dims[2] || b->dims[1] > INT32_MAX / 2) {
        char have[80], other[80];
        return od_fail(st, OD_BAD_SHAPE, "boxes are %s, scores %s", eng_tensor_text(b, have, sizeof have), eng_tensor_text(s, other, sizeof other));
    }
    OD_TRY(eng_need(c, 0));
    return eng_need(c, 1);
}

od_code eng_nms_infer(eng_ctx *c, od_status *st)
{
    double most, iou, score;
    OD_TRY(check_shapes(c, st));
    OD_TRY(scalar_in(c, 2, 0, &most, st));
    OD_TRY(scalar_in(c, 3, 0, &iou, st));
    OD_TRY(scalar_in(c, 4, 0, &score, st));
    const eng_tensor *boxes = c->in[0], *scores = c->in[1], *limit = c->n_in > 4 ? c->in[4] : NULL;
    nms_job j = {.boxes = boxes->data, .scores = scores->data, .n_boxes = boxes->dims[1], .classes = scores->dims[1], .iou = (float)iou,
                 .score = (float)score, .has_score = limit && eng_tensor_count(limit), .centre = eng_node_int(c->node, "center_point_box", 0) != 0};
    if (!(iou >= 0 && iou <= 1)) return od_fail(st, OD_BAD_VALUE, "iou_threshold is %g", iou);
    j.most = most <= 0 ? 0 : most < (double)j.n_boxes ? (int64_t)most : j.n_boxes;
    int64_t lists = boxes->dims[0] * j.classes, total = 0, all;
    if (!j.most || !lists) return eng_set_out(c, 0, ENG_INT64, 2, (int64_t[]){0, 3}, st);
    if (!od_mul_i64(lists, j.most, &all)) return od_fail(st, OD_BAD_SHAPE, "too many boxes");
    j.kept = od_arena_alloc(c->scratch, (size_t)all * sizeof *j.kept);
    j.counts = od_arena_array(c->scratch, int32_t, lists);
    j.slot_bytes = ((size_t)j.n_boxes * sizeof(int32_t) + 63) / 64 * 64 + ((size_t)j.most * sizeof(box) + 63) / 64 * 64;
    j.slots = od_arena_alloc(c->scratch, j.slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!j.kept || !j.counts || !j.slots) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " boxes", all);
    od_pool_for(c->pool, lists, select_class, &j);
    for (int64_t i = 0; i < lists; i++) total += j.counts[i];
    int64_t *rows = od_arena_array(c->scratch, int64_t, 3 * total + 1);
    if (!rows) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " boxes", total);
    c->stash = rows;
    for (int64_t i = 0; i < lists; i++)
        for (int64_t k = 0; k < j.counts[i]; k++, rows += 3) {
            rows[0] = i / j.classes;
            rows[1] = i % j.classes;
            rows[2] = j.kept[i * j.most + k];
        }
    return eng_set_out(c, 0, ENG_INT64, 2, (int64_t[]){total, 3}, st);
}

od_code eng_nms_run(eng_ctx *c, od_status *st)
{
    if (!c->stash) OD_TRY(eng_nms_infer(c, st));
    if (eng_tensor_count(c->out[0])) memcpy(c->out[0]->data, c->stash, eng_tensor_bytes(c->out[0]));
    return OD_OK;
}
