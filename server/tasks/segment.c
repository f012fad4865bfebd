/* segment.c - a label for each pixel of the picture.
 *
 * Decoders: "argmax" (scores or logits of classes at any stride), "sigmoid" and "probabilities" (one channel,
 * compared with score_threshold: label 1 above it), "labels" (a map of class numbers), "maskformer", "maskformer-instance",
 * "maskformer-panoptic" (see queries.c). Scores are brought to the picture's size by bilinear interpolation first, so that
 * borders are the picture's and not the map's. */
#include "server/tasks/parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES_MAX = 65535 };

typedef enum reading { READ_ARGMAX, READ_SIGMOID, READ_PROBABILITIES, READ_LABELS, READ_QUERIES, READ_INSTANCES, READ_PANOPTIC } reading;

/* The output as planes of numbers. */
typedef struct field {
    reading how;
    int64_t classes, width, height;
    int64_t plane, row, pixel; /* elements from one to the next */
    const float *x;
} field;

static od_code shape_queries(const srv_answer *w, field *f)
{
    f->how = READ_ARGMAX;
    return srv_queries_check(w, &f->classes);
}

static od_code shape(const srv_answer *w, field *f)
{
    static const char *const names[] = {"argmax", "sigmoid", "probabilities", "labels", "maskformer", "maskformer-instance",
                                        "maskformer-panoptic"};
    const eng_tensor *t = &w->outputs[0];
    const char *name = w->card->decoder ? w->card->decoder : t->rank == 4 && t->dims[1] == 1 ? "sigmoid" : "argmax";
    size_t at = 0;
    while (at < OD_COUNT(names) && strcmp(name, names[at]) != 0) at++;
    if (at == OD_COUNT(names))
        return od_fail(w->st, OD_BAD_MODEL, "'decoder' is '%.40s'; for segment there are argmax, sigmoid, probabilities, labels, "
                       "maskformer, maskformer-instance, maskformer-panoptic", name);
    *f = (field){.how = (reading)at};
    if (at >= READ_QUERIES) return shape_queries(w, f);
    OD_TRY(srv_want_one(w));
    if (t->rank == 3 && at != READ_ARGMAX) { /* no extent for channels */
        f->classes = 1;
        f->height = t->dims[1];
        f->width = t->dims[2];
        f->row = f->width;
        f->pixel = 1;
        return srv_want(w, 0, 3, (int64_t[]){1, -1, -1});
    }
    int channel = w->card->nhwc ? 3 : 1;
    int64_t one[4] = {1, -1, -1, -1};
    if (at != READ_ARGMAX) one[channel] = 1;
    OD_TRY(srv_want(w, 0, 4, one));
    if (t->rank < 0) return OD_OK;
    f->classes = t->dims[channel];
    f->height = t->dims[w->card->nhwc ? 1 : 2];
    f->width = t->dims[w->card->nhwc ? 2 : 3];
    f->pixel = w->card->nhwc ? f->classes : 1;
    f->row = f->width * f->pixel;
    f->plane = w->card->nhwc ? 1 : f->row * f->height;
    return OD_OK;
}

static od_code check(const srv_answer *w)
{
    field f;
    OD_TRY(shape(w, &f));
    if (f.classes > CLASSES_MAX)
        return od_fail(w->st, OD_BAD_SHAPE, "%" PRId64 " classes; at most %d are possible", f.classes, CLASSES_MAX);
    if (f.how == READ_ARGMAX) return srv_check_labels(w, f.classes);
    return f.how == READ_LABELS || w->card->n_labels == 1 ? OD_OK : srv_check_labels(w, 2);
}

/* ---- reading ------------------------------------------------------------------------------ */

/* The best class of each place of the map. */
static void best_classes(const field *f, uint16_t *best)
{
    for (int64_t y = 0; y < f->height; y++)
        for (int64_t x = 0; x < f->width; x++) {
            const float *p = f->x + y * f->row + x * f->pixel;
            int64_t top = 0;
            for (int64_t c = 1; c < f->classes; c++)
                if (p[c * f->plane] > p[top * f->plane]) top = c;
            best[y * f->width + x] = (uint16_t)top;
        }
}

static uint16_t best_between(const field *f, const srv_corners *c)
{
    uint16_t top = 0;
    float most = srv_interpolate(c, 0);
    for (int64_t k = 1; k < f->classes; k++) {
        float x = srv_interpolate(c, k * f->plane);
        if (x > most) {
            most = x;
            top = (uint16_t)k;
        }
    }
    return top;
}

/* One row of the picture. Where all four neighbours have the same best class, it is the best between them
 * too (each score is the same mean of four), so that only borders cost interpolation of all classes. */
static void label_row(const field *f, const uint16_t *best, const srv_between *bx, const srv_between *by, int64_t y, float limit,
                      int64_t width, uint16_t *labels)
{
    int64_t y0 = by->first[y], y1 = od_min_i64(y0 + 1, f->height - 1);
    const uint16_t *up = best + y0 * f->width, *down = best + y1 * f->width;
    for (int64_t x = 0; x < width; x++) {
        int64_t x0 = bx->first[x], x1 = od_min_i64(x0 + 1, f->width - 1);
        bool same = f->how == READ_ARGMAX && up[x0] == up[x1] && up[x0] == down[x0] && up[x0] == down[x1];
        if (same) {
            labels[x] = up[x0];
            continue;
        }
        srv_corners c = srv_corners_at(f->x, f->row, f->pixel, bx, by, x, y);
        labels[x] = f->how == READ_ARGMAX ? best_between(f, &c) : srv_interpolate(&c, 0) > limit;
    }
}

static void nearest_row(const field *f, const srv_between *bx, const srv_between *by, int64_t y, int64_t width, uint16_t *labels)
{
    const float *row = f->x + by->first[y] * f->row;
    for (int64_t x = 0; x < width; x++) {
        float v = row[bx->first[x] * f->pixel];
        labels[x] = v >= 0 && v < CLASSES_MAX ? (uint16_t)v : 0;
    }
}

/* The maps of classes that queries make. */
static od_code sum_queries(const srv_answer *w, field *f)
{
    if (!(f->x = srv_queries_sum(w, &f->classes, &f->height, &f->width))) return w->st->code;
    f->pixel = 1;
    f->row = f->width;
    f->plane = f->row * f->height;
    return OD_OK;
}

static od_code read_map(const srv_answer *w, srv_map *m)
{
    const ldr_placement *p = w->place;
    field f;
    srv_between bx, by;
    OD_TRY(shape(w, &f));
    if (w->card->decoder && !strcmp(w->card->decoder, "maskformer")) {
        OD_TRY(sum_queries(w, &f));
    } else {
        if (f.width < 1 || f.height < 1 || f.classes < 1) return od_fail(w->st, OD_BAD_SHAPE, "output 0 is empty");
        if (!(f.x = srv_floats(w, 0))) return w->st->code;
    }
    m->width = p->image_width;
    m->height = p->image_height;
    m->labels = od_arena_alloc(w->a, (size_t)(m->width * m->height) * sizeof *m->labels);
    uint16_t *best = od_arena_alloc(w->a, (size_t)(f.width * f.height) * sizeof *best);
    double dx = 0, dy = 0; /* class numbers are those under a pixel's corner, as PyTorch finds the nearest */
    if (f.how == READ_LABELS) {
        dx = (double)p->input_width / (double)f.width / 2 - p->scale_x / 2 + 1e-6;
        dy = (double)p->input_height / (double)f.height / 2 - p->scale_y / 2 + 1e-6;
    }
    if (!m->labels || !best || !srv_place_between(&bx, m->width, p->scale_x, p->offset_x + dx, p->input_width, f.width, w->a) ||
        !srv_place_between(&by, m->height, p->scale_y, p->offset_y + dy, p->input_height, f.height, w->a))
        return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " x %" PRId64 " labels", m->width, m->height);
    if (f.how == READ_ARGMAX) best_classes(&f, best);
    double limit = w->score_threshold;
    if (f.how == READ_SIGMOID) limit = log(limit / (1 - limit)); /* the sigmoid's inverse; infinite at 0 and 1 */
    for (int64_t y = 0; y < m->height; y++) {
        uint16_t *labels = m->labels + y * m->width;
        if (f.how == READ_LABELS) nearest_row(&f, &bx, &by, y, m->width, labels);
        else label_row(&f, best, &bx, &by, y, (float)limit, m->width, labels);
    }
    return OD_OK;
}

od_code srv_segment_labels(const srv_answer *w, srv_map *m)
{
    return read_map(w, m);
}

/* ---- the answer --------------------------------------------------------------------------- */

typedef struct part {
    int64_t pixels;
    int label;
} part;

static int by_pixels(const void *a, const void *b)
{
    const part *x = a, *y = b;
    if (x->pixels != y->pixels) return x->pixels > y->pixels ? -1 : 1;
    return x->label - y->label;
}

/* A card of one label names what is label 1. */
static void add_label(const srv_answer *w, int label)
{
    bool foreground = w->card->n_labels == 1 && label == 1;
    if (foreground) {
        srv_text_printf(w->json, "\"label\":");
        srv_text_json(w->json, w->card->labels[0], strlen(w->card->labels[0]));
        srv_text_printf(w->json, ",\"index\":1");
    } else if (w->card->n_labels == 1) {
        srv_text_printf(w->json, "\"label\":null,\"index\":%d", label);
    } else {
        srv_add_label(w->json, w->card, label);
    }
}

static od_code add_class(const srv_answer *w, srv_map *m, const part *area, const srv_text *rle)
{
    srv_text *json = w->json;
    srv_text_add(json, "{", 1);
    add_label(w, area->label);
    srv_text_printf(json, ",\"area\":%" PRId64 ",\"share\":", area->pixels);
    srv_text_double(json, rint((double)area->pixels / (double)(m->width * m->height) * 1e6) / 1e6);
    if (w->mask != SRV_MASK_PNG) OD_TRY(srv_add_mask(w, m, area->label, rle)); /* a PNG holds all labels at once */
    srv_text_add(json, "}", 1);
    return OD_OK;
}

static od_code answer(const srv_answer *w)
{
    srv_map m = {0};
    if (srv_gives_segments(w)) return srv_queries_answer(w);
    OD_TRY(read_map(w, &m));
    part *areas = od_arena_array(w->a, part, CLASSES_MAX + 1);
    if (!areas) return od_fail(w->st, OD_NO_MEMORY, "no memory for areas");
    int n = 0;
    for (int64_t i = 0; i < m.width * m.height; i++) areas[m.labels[i]].pixels++;
    for (int i = 0; i <= CLASSES_MAX; i++) {
        areas[i].label = i;
        if (areas[i].pixels) n = i + 1;
    }
    srv_text *rle = od_arena_array(w->a, srv_text, n);
    if (!rle) return od_fail(w->st, OD_NO_MEMORY, "no memory for %d masks", n);
    for (int i = 0; i < n; i++) rle[i].arena = w->a;
    if (w->mask == SRV_MASK_RLE || w->mask == SRV_MASK_DEFAULT) OD_TRY(srv_map_rle(&m, n, rle, w->a, w->st));
    for (int i = 0; i < n; i++)
        if (rle[i].full) return od_fail(w->st, OD_NO_MEMORY, "no memory for %d masks", n);
    qsort(areas, (size_t)n, sizeof *areas, by_pixels);
    srv_text_printf(w->json, "\"segmentation\":{\"size\":[%" PRId64 ",%" PRId64 "],\"classes\":[", m.height, m.width);
    for (int i = 0; i < n && areas[i].pixels; i++) {
        if (i) srv_text_add(w->json, ",", 1);
        OD_TRY(add_class(w, &m, &areas[i], &rle[areas[i].label]));
    }
    srv_text_add(w->json, "]", 1);
    if (w->mask == SRV_MASK_PNG) {
        srv_text_printf(w->json, ",\"png\":");
        OD_TRY(srv_map_png(&m, w->json, w->a, w->st));
    }
    srv_text_add(w->json, "}", 1);
    return OD_OK;
}

const srv_task srv_segment = {check, answer};
