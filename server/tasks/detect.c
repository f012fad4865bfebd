/* detect.c - boxes: which decoder reads them, which of them stay, and their JSON. */
#include "server/tasks/parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const srv_detector *const detectors[] = {&srv_yolov8, &srv_yolov5, &srv_fastestdet, &srv_ultraface};

static od_code find_detector(const srv_answer *w, const srv_detector **out)
{
    char all[160] = "";
    for (size_t i = 0; i < OD_COUNT(detectors); i++) {
        if (w->card->decoder && !strcmp(w->card->decoder, detectors[i]->name)) {
            *out = detectors[i];
            return OD_OK;
        }
        size_t len = strlen(all);
        snprintf(all + len, sizeof all - len, "%s%s", i ? ", " : "", detectors[i]->name);
    }
    return od_fail(w->st, OD_BAD_MODEL, "'decoder' is %.30s; for task detect there are %s",
                   w->card->decoder ? w->card->decoder : "missing", all);
}

static od_code check(const srv_answer *w)
{
    const srv_detector *d;
    OD_TRY(find_detector(w, &d));
    if (d->n_outputs && w->n_outputs != d->n_outputs)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s' reads %d outputs, not %d: name them by 'outputs'", d->name, d->n_outputs,
                       w->n_outputs);
    return d->check(w);
}

void srv_boxes_add(srv_boxes *b, srv_box box)
{
    enum { MOST = 1 << 24 };
    if (b->n == b->cap) {
        int64_t cap = b->cap ? 2 * b->cap : 256;
        srv_box *list = cap <= MOST ? od_arena_alloc(b->a, (size_t)cap * sizeof *list) : NULL;
        if (!list) {
            b->full = true;
            return;
        }
        if (b->n) memcpy(list, b->list, (size_t)b->n * sizeof *list);
        b->list = list;
        b->cap = cap;
    }
    b->list[b->n++] = box;
}

static int by_score(const void *a, const void *b)
{
    const srv_box *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->source != y->source) return x->source < y->source ? -1 : 1;
    return x->label < y->label ? -1 : x->label > y->label;
}

static float overlap(const srv_box *a, const srv_box *b)
{
    float w = fminf(a->x2, b->x2) - fmaxf(a->x1, b->x1), h = fminf(a->y2, b->y2) - fmaxf(a->y1, b->y1);
    if (!(w > 0 && h > 0)) return 0;
    float both = w * h;
    return both / ((a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - both);
}

void srv_nms(srv_boxes *b, double iou_threshold, bool agnostic, int64_t most)
{
    int64_t kept = 0;
    if (b->n > 1) qsort(b->list, (size_t)b->n, sizeof *b->list, by_score);
    for (int64_t i = 0; i < b->n && kept < most; i++) {
        bool stays = true;
        for (int64_t k = 0; k < kept && stays; k++)
            if (agnostic || b->list[k].label == b->list[i].label)
                stays = (double)overlap(&b->list[k], &b->list[i]) <= iou_threshold;
        if (stays) b->list[kept++] = b->list[i];
    }
    b->n = kept;
}

/* From pixels of the input to those of the picture, within it. */
static double to_picture(float x, double offset, double scale, int64_t extent)
{
    double p = ((double)x - offset) / scale;
    return p > 0 ? fmin(p, (double)extent) : 0; /* NaN is 0 */
}

static double hundredths(double x)
{
    return rint(x * 100) / 100;
}

static void add_box(srv_text *json, const srv_box *b, const ldr_placement *p)
{
    double x1 = to_picture(b->x1, p->offset_x, p->scale_x, p->image_width);
    double y1 = to_picture(b->y1, p->offset_y, p->scale_y, p->image_height);
    double box[4] = {x1, y1, to_picture(b->x2, p->offset_x, p->scale_x, p->image_width) - x1,
                     to_picture(b->y2, p->offset_y, p->scale_y, p->image_height) - y1};
    srv_text_printf(json, ",\"box\":[");
    for (int i = 0; i < 4; i++) {
        if (i) srv_text_add(json, ",", 1);
        srv_text_double(json, hundredths(box[i]));
    }
    srv_text_add(json, "]", 1);
}

static od_code answer(const srv_answer *w)
{
    const srv_detector *d;
    srv_boxes boxes = {.a = w->a};
    OD_TRY(find_detector(w, &d));
    OD_TRY(d->decode(w, &boxes));
    if (boxes.full) return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " boxes", boxes.n);
    srv_nms(&boxes, d->no_nms ? 1 : w->iou_threshold, w->card->class_agnostic, w->max_detections);
    srv_text_printf(w->json, "\"detections\":[");
    for (int64_t i = 0; i < boxes.n; i++) {
        srv_text_printf(w->json, "%s{", i ? "," : "");
        srv_add_class(w->json, w->card, boxes.list[i].label, boxes.list[i].score);
        add_box(w->json, &boxes.list[i], w->place);
        srv_text_add(w->json, "}", 1);
    }
    srv_text_add(w->json, "]", 1);
    return OD_OK;
}

const srv_task srv_detect = {check, answer};
