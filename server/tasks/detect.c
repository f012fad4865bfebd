/* detect.c - boxes: which decoder reads them, which of them stay, and their JSON. */
#include "server/tasks/parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const srv_detector *const detectors[] = {
    &srv_yolov8, &srv_yolov8_seg, &srv_yolov8_pose, &srv_yolov8_obb, &srv_yolov10, &srv_yolov10_seg,
    &srv_yolov10_pose, &srv_yolov10_obb, &srv_yolov5, &srv_yolov5_heads, &srv_yolov3,
    &srv_yolox, &srv_detr, &srv_rtdetr, &srv_torchvision, &srv_tf_od, &srv_scored_boxes, &srv_ultraface, &srv_ssd, &srv_blazeface,
    &srv_nanodet, &srv_centernet, &srv_fcos, &srv_fastestdet, &srv_movenet,
    &srv_posenet, &srv_retinanet, &srv_yolov8_heads};

static od_code find_detector(const srv_answer *w, const srv_detector **out)
{
    char all[320] = "";
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
        return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s' reads %d outputs, not %d: name them by 'outputs'", d->name,
                       d->n_outputs, w->n_outputs);
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

float srv_overlap(const srv_box *a, const srv_box *b)
{
    float w = fminf(a->x2, b->x2) - fmaxf(a->x1, b->x1), h = fminf(a->y2, b->y2) - fmaxf(a->y1, b->y1);
    if (!(w > 0 && h > 0)) return 0;
    float both = w * h;
    return both / ((a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - both);
}

/* Does one of the first `n` boxes overlap `box` too much? */
static bool is_covered(const srv_box *list, int64_t n, const srv_box *box, double iou_threshold, bool agnostic, srv_overlap_fn *overlap)
{
    for (int64_t k = 0; k < n; k++)
        if ((agnostic || list[k].label == box->label) && !((double)overlap(&list[k], box) <= iou_threshold)) return true;
    return false;
}

void srv_nms(srv_boxes *b, double iou_threshold, bool agnostic, int64_t most, srv_overlap_fn *overlap, bool fast)
{
    int64_t kept = 0;
    if (b->n > 1) qsort(b->list, (size_t)b->n, sizeof *b->list, by_score);
    for (int64_t i = 0; i < b->n && kept < most; i++) {
        srv_box box = b->list[i];
        if (is_covered(b->list, fast ? i : kept, &box, iou_threshold, agnostic, overlap)) continue;
        memmove(b->list + kept + 1, b->list + kept, (size_t)(fast ? i - kept : 0) * sizeof box); /* kept ones first, none lost */
        b->list[kept++] = box;
    }
    b->n = kept;
}

/* Instead of dropping what overlaps, let its score decay with the overlap (Bodla et al., "Soft-NMS", Gaussian form), and
 * drop what falls below the threshold. */
static void soft_nms(srv_boxes *b, double sigma, const srv_answer *w, srv_overlap_fn *overlap)
{
    enum { CANDIDATES_MAX = 5000 };
    int64_t kept = 0;
    if (b->n > 1) qsort(b->list, (size_t)b->n, sizeof *b->list, by_score);
    if (b->n > CANDIDATES_MAX) b->n = CANDIDATES_MAX;
    for (; kept < b->n && kept < w->max_detections; kept++) {
        srv_box *best = &b->list[kept];
        for (int64_t i = kept + 1; i < b->n; i++)
            if (b->list[i].score > best->score) best = &b->list[i];
        if (!((double)best->score > w->score_threshold)) break;
        srv_box chosen = *best;
        *best = b->list[kept];
        b->list[kept] = chosen;
        for (int64_t i = kept + 1; i < b->n; i++) {
            srv_box *other = &b->list[i];
            if (!w->class_agnostic && other->label != chosen.label) continue;
            double share = (double)overlap(&chosen, other);
            other->score = (float)((double)other->score * exp(-share * share / sigma));
        }
    }
    b->n = kept;
}

/* What overlaps too much goes. */
static void suppress(const srv_answer *w, const srv_detector *d, srv_boxes *b)
{
    srv_overlap_fn *overlap = d->overlap ? d->overlap : srv_overlap;
    if (w->soft_nms > 0 && !d->no_nms) soft_nms(b, w->soft_nms, w, overlap);
    else srv_nms(b, d->no_nms ? 1 : w->iou_threshold, w->class_agnostic, w->max_detections, overlap, d->fast_nms);
}

/* ---- JSON --------------------------------------------------------------------------------- */

/* Boxes end where the picture ends. */
static double within(double p, int64_t extent)
{
    return p > 0 ? fmin(p, (double)extent) : 0; /* NaN is 0 */
}

double srv_to_picture_x(const srv_answer *w, float x)
{
    return ((double)x - w->place->offset_x) / w->place->scale_x;
}

double srv_to_picture_y(const srv_answer *w, float y)
{
    return ((double)y - w->place->offset_y) / w->place->scale_y;
}

void srv_add_pixel(srv_text *json, double x)
{
    srv_text_double(json, rint(x * 100) / 100);
}

od_code srv_add_keypoints(const srv_answer *w, const float *points, int64_t n)
{
    if (w->judge) return srv_judge_points(w, points, n);
    srv_text_printf(w->json, ",\"keypoints\":[");
    for (int64_t k = 0; k < n; k++, points += 3) {
        srv_text_printf(w->json, "%s[", k ? "," : "");
        srv_add_pixel(w->json, srv_to_picture_x(w, points[0]));
        srv_text_add(w->json, ",", 1);
        srv_add_pixel(w->json, srv_to_picture_y(w, points[1]));
        srv_text_add(w->json, ",", 1);
        srv_text_double(w->json, rint((double)points[2] * 1e4) / 1e4);
        srv_text_add(w->json, "]", 1);
    }
    srv_text_add(w->json, "]", 1);
    return OD_OK;
}

double srv_number(const srv_answer *w, const char *name, double otherwise)
{
    int n;
    const double *x = ldr_card_param(w->card, name, &n);
    return n ? x[0] : otherwise;
}

srv_activation srv_activation_of(int how, const float *x, int64_t n, int64_t step)
{
    srv_activation a = {.how = how};
    float sum = 0;
    if (how != SRV_SOFTMAX) return a;
    a.most = x[0];
    for (int64_t i = 1; i < n; i++) a.most = fmaxf(a.most, x[i * step]);
    for (int64_t i = 0; i < n; i++) sum += expf(x[i * step] - a.most);
    a.scale = 1 / sum;
    return a;
}

/* The upright box around one that is turned. */
static srv_box upright(const srv_box *b)
{
    if (b->angle == 0) return *b;
    srv_box out = *b;
    float c = fabsf(cosf(b->angle)), s = fabsf(sinf(b->angle)), w = fabsf(b->x2 - b->x1), h = fabsf(b->y2 - b->y1);
    float cx = (b->x1 + b->x2) / 2, cy = (b->y1 + b->y2) / 2, dx = (w * c + h * s) / 2, dy = (w * s + h * c) / 2;
    out.x1 = cx - dx, out.x2 = cx + dx, out.y1 = cy - dy, out.y2 = cy + dy;
    return out;
}

static void add_box(const srv_answer *w, const srv_box *box)
{
    srv_box b = upright(box);
    int64_t width = w->place->image_width, height = w->place->image_height;
    double x1 = within(srv_to_picture_x(w, b.x1), width), y1 = within(srv_to_picture_y(w, b.y1), height);
    double x2 = within(srv_to_picture_x(w, b.x2), width), y2 = within(srv_to_picture_y(w, b.y2), height);
    double xywh[4] = {x1, y1, x2 - x1, y2 - y1};
    srv_text_printf(w->json, ",\"box\":[");
    for (int i = 0; i < 4; i++) {
        if (i) srv_text_add(w->json, ",", 1);
        srv_add_pixel(w->json, xywh[i]);
    }
    srv_text_add(w->json, "]", 1);
}

/* The box in the picture, as its JSON has it, for models that come behind. */
static void keep_region(const srv_answer *w, const srv_box *b)
{
    srv_region *r = &w->picture->regions[w->picture->n_regions++];
    double x[3], y[3], c = cos((double)b->angle), s = sin((double)b->angle);
    double cx = (double)(b->x1 + b->x2) / 2, cy = (double)(b->y1 + b->y2) / 2, dx = (double)(b->x2 - b->x1) / 2, dy = (double)(b->y2 - b->y1) / 2;
    static const int sx[3] = {-1, 1, -1}, sy[3] = {-1, -1, 1};
    for (int i = 0; i < 3; i++) {
        x[i] = srv_to_picture_x(w, (float)(cx + sx[i] * dx * c - sy[i] * dy * s));
        y[i] = srv_to_picture_y(w, (float)(cy + sx[i] * dx * s + sy[i] * dy * c));
        if (b->angle == 0) x[i] = within(x[i], w->place->image_width), y[i] = within(y[i], w->place->image_height);
    }
    for (int i = 1; i < 3; i++) { /* rounded as they are written: corner and extents */
        x[i] = rint((x[i] - x[0]) * 100) / 100;
        y[i] = rint((y[i] - y[0]) * 100) / 100;
    }
    *r = (srv_region){.x = rint(x[0] * 100) / 100, .y = rint(y[0] * 100) / 100, .ux = x[1], .uy = y[1], .vx = x[2], .vy = y[2],
                      .turned = b->angle != 0, .label = b->label, .json_at = w->json->len};
}

od_code srv_detect_boxes(const srv_answer *w, srv_boxes *out)
{
    const srv_detector *d;
    OD_TRY(find_detector(w, &d));
    OD_TRY(d->decode(w, out));
    if (out->full) return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " boxes", out->n);
    suppress(w, d, out);
    return OD_OK;
}

od_code srv_detect_more(const srv_answer *w, const srv_box *box)
{
    const srv_detector *d;
    OD_TRY(find_detector(w, &d));
    return d->more ? d->more(w, box) : OD_OK;
}

float srv_detect_overlap(const srv_answer *w, const srv_box *a, const srv_box *b)
{
    const srv_detector *d;
    return find_detector(w, &d) == OD_OK && d->overlap ? d->overlap(a, b) : srv_overlap(a, b);
}

static od_code answer(const srv_answer *whole)
{
    srv_map map = {0};
    srv_answer own = *whole, *w = &own;
    const srv_detector *d;
    own.map = &map;
    srv_boxes boxes = {.a = w->a};
    OD_TRY(find_detector(w, &d));
    OD_TRY(srv_detect_boxes(w, &boxes));
    if (w->picture && !(w->picture->regions = od_arena_array(w->a, srv_region, boxes.n)))
        return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " boxes", boxes.n);
    srv_text_printf(w->json, "\"detections\":[");
    for (int64_t i = 0; i < boxes.n; i++) {
        const srv_box *b = &boxes.list[i];
        srv_text_printf(w->json, "%s{", i ? "," : "");
        srv_add_class(w->json, w->card, b->label, b->score);
        add_box(w, b);
        if (d->more) OD_TRY(d->more(w, b));
        if (w->picture) keep_region(w, b);
        srv_text_add(w->json, "}", 1);
    }
    srv_text_add(w->json, "]", 1);
    return OD_OK;
}

const srv_task srv_detect = {check, answer};
