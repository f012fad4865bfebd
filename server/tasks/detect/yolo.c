/* yolo.c - YOLO heads that come decoded: a box (centre and size in pixels of the input) and its scores.
 *
 * "yolov8" (also v9, v11, v12): [1, 4 + classes, boxes], or the same transposed. Parameter normalized (0): boxes are
 * relative to the input, as of Ultralytics' RT-DETR. Its sisters have more numbers
 * behind the classes: "yolov8-seg" weights of mask prototypes, which are a second output, "yolov8-pose"
 * keypoints (parameter keypoints: [how many, numbers of each]), "yolov8-obb" an angle.
 * "yolov10" (also v26, and exports with suppression in the graph): [1, boxes, 6], corners, score and class; nothing overlaps
 *   any more. Parameters normalized (0), centered (0): centre and size instead of corners. "yolov10-seg", "yolov10-pose" and
 *   "yolov10-obb" (always centered) have the same numbers behind the class as those of v8 behind the classes.
 * "yolov5" (also v7, YOLOX with decoding in the graph): [1, boxes, 5 + classes], with objectness. */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

static int64_t extra_count(const srv_answer *w); /* numbers of a row behind its classes */

/* Rows of finished boxes, where one score and one class stand for the scores of all classes. */
static bool is_finished(const srv_answer *w)
{
    return !strncmp(w->card->decoder, "yolov10", 7);
}

static bool is_kind(const srv_answer *w, const char *kind)
{
    const char *dash = strchr(w->card->decoder, '-');
    return dash && !strcmp(dash, kind);
}

static od_code check_columns(const srv_answer *w, int64_t columns, int64_t fixed)
{
    if (columns < 0) return OD_OK;
    if (columns <= fixed)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s': %" PRId64 " numbers a box; more than %" PRId64 " are wanted",
                       w->card->decoder, columns, fixed);
    return srv_check_labels(w, columns - fixed);
}

/* ---- v8 ----------------------------------------------------------------------------------- */

/* Boxes lie along the last extent unless that is the shorter one. */
static bool channels_first(const eng_tensor *t)
{
    return t->dims[2] < 0 || t->dims[1] < t->dims[2];
}

static od_code check_v8(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    return t->rank < 0 ? OD_OK : check_columns(w, channels_first(t) ? t->dims[1] : t->dims[2], 4 + extra_count(w));
}

/* The best score of each of `n` boxes whose scores of one class lie side by side. Without the class: the
 * loop then is loads and maxima, and few boxes pass the threshold. */
static void best_scores(const float *scores, int64_t classes, int64_t stride, int64_t n, float *best)
{
    for (int64_t i = 0; i < n; i++) best[i] = scores[i];
    for (int64_t c = 1; c < classes; c++)
        for (int64_t i = 0; i < n; i++) {
            float x = scores[c * stride + i];
            best[i] = x > best[i] ? x : best[i];
        }
}

static void decode_v8_columns(const srv_answer *w, const float *x, int64_t classes, int64_t boxes, srv_boxes *out)
{
    enum { BLOCK = 512 };
    float best[BLOCK], least = (float)w->score_threshold;
    for (int64_t at = 0; at < boxes; at += BLOCK) {
        int64_t n = od_min_i64(BLOCK, boxes - at);
        const float *p = x + at;
        best_scores(p + 4 * boxes, classes, boxes, n, best);
        for (int64_t i = 0; i < n; i++) {
            if (!(best[i] > least)) continue;
            int64_t label = 0;
            while (label < classes - 1 && !(p[(4 + label) * boxes + i] == best[i])) label++;
            srv_boxes_add(out, srv_box_around(p[i], p[boxes + i], p[2 * boxes + i], p[3 * boxes + i], best[i], label, at + i));
        }
    }
}

static void decode_v8_rows(const srv_answer *w, const float *x, int64_t classes, int64_t extra, int64_t boxes, srv_boxes *out)
{
    for (int64_t i = 0; i < boxes; i++, x += 4 + classes + extra) {
        int64_t label = 0;
        for (int64_t c = 1; c < classes; c++)
            if (x[4 + c] > x[4 + label]) label = c;
        if ((double)x[4 + label] > w->score_threshold)
            srv_boxes_add(out, srv_box_around(x[0], x[1], x[2], x[3], x[4 + label], label, i));
    }
}

static void decode_v8(const srv_answer *w, const float *x, int64_t extra, srv_boxes *out)
{
    const eng_tensor *t = &w->outputs[0];
    if (channels_first(t)) decode_v8_columns(w, x, t->dims[1] - 4 - extra, t->dims[2], out);
    else decode_v8_rows(w, x, t->dims[2] - 4 - extra, extra, t->dims[1], out);
    if (srv_number(w, "normalized", 0) == 0) return;
    float width = (float)w->place->input_width, height = (float)w->place->input_height;
    for (int64_t i = 0; i < out->n; i++) {
        srv_box *b = &out->list[i];
        b->x1 *= width, b->x2 *= width, b->y1 *= height, b->y2 *= height;
    }
}

static od_code decode(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    decode_v8(w, x, extra_count(w), out);
    return OD_OK;
}

const srv_detector srv_yolov8 = {.name = "yolov8", .n_outputs = 1, .check = check_v8, .decode = decode};

/* ---- v8's sisters ------------------------------------------------------------------------- */

/* Numbers behind the classes of a row, by the decoder's name and the second output. */
static int64_t extra_count(const srv_answer *w)
{
    int n;
    if (is_kind(w, "-seg")) {
        bool known = w->n_outputs == 2 && w->outputs[1].rank == 4;
        return known ? od_max_i64(w->outputs[1].dims[1], 0) : 0;
    }
    if (is_kind(w, "-obb")) return 1;
    if (!is_kind(w, "-pose")) return 0;
    const double *shape = ldr_card_param(w->card, "keypoints", &n);
    bool said = n == 2 && shape[0] >= 1 && shape[0] <= 10000 && shape[1] >= 2 && shape[1] <= 3;
    return said ? (int64_t)shape[0] * (int64_t)shape[1] : 17 * 3; /* COCO's people */
}

/* Number `k` of those behind the classes, of box `source`. */
static float extra_of(const srv_answer *w, const float *x, int32_t source, int64_t k)
{
    const eng_tensor *t = &w->outputs[0];
    bool first = !is_finished(w) && channels_first(t);
    int64_t channels = first ? t->dims[1] : t->dims[2], at = channels - extra_count(w) + k;
    return first ? x[at * t->dims[2] + source] : x[source * channels + at];
}

static od_code decode_obb(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    decode_v8(w, x, 1, out);
    for (int64_t i = 0; i < out->n; i++) out->list[i].angle = extra_of(w, x, out->list[i].source, 0);
    return OD_OK;
}

/* A turned box as a normal distribution: the terms of its covariance. */
typedef struct spread {
    double a, b, c;
} spread;

static spread spread_of(const srv_box *b)
{
    double w = (double)(b->x2 - b->x1), h = (double)(b->y2 - b->y1), c = cos((double)b->angle), s = sin((double)b->angle);
    double x = w * w / 12, y = h * h / 12;
    return (spread){x * c * c + y * s * s, x * s * s + y * c * c, (x - y) * c * s};
}

/* One minus the Hellinger distance of the two distributions (Llerena et al., "Gaussian bounding boxes and
 * probabilistic intersection-over-union"), by which these networks are trained. */
static float probabilistic_overlap(const srv_box *p, const srv_box *q)
{
    enum { MOST = 100 };
    const double tiny = 1e-7;
    spread s = spread_of(p), t = spread_of(q);
    double dx = (double)(p->x1 + p->x2 - q->x1 - q->x2) / 2, dy = (double)(p->y1 + p->y2 - q->y1 - q->y2) / 2;
    if (dx * dx + dy * dy > 96 * (s.a + s.b + t.a + t.b)) return 0; /* so far apart that it is less than 1e-5 */
    double a = s.a + t.a, b = s.b + t.b, c = s.c + t.c, det = a * b - c * c + tiny;
    double own = fmax(s.a * s.b - s.c * s.c, 0) * fmax(t.a * t.b - t.c * t.c, 0);
    double distance = (a * dy * dy + b * dx * dx) / det / 4 - c * dx * dy / det / 2;
    distance += log(det / (4 * sqrt(own) + tiny) + tiny) / 2;
    distance = fmin(fmax(distance, tiny), MOST);
    return (float)(1 - sqrt(1 - exp(-distance) + tiny));
}

static od_code add_corners(const srv_answer *w, const srv_box *b)
{
    double cx = (double)(b->x1 + b->x2) / 2, cy = (double)(b->y1 + b->y2) / 2;
    double c = cos((double)b->angle), s = sin((double)b->angle);
    double dx = (double)(b->x2 - b->x1) / 2, dy = (double)(b->y2 - b->y1) / 2;
    static const int sx[4] = {-1, 1, 1, -1}, sy[4] = {-1, -1, 1, 1};
    srv_text_printf(w->json, ",\"corners\":[");
    for (int i = 0; i < 4; i++) {
        if (i) srv_text_add(w->json, ",", 1);
        srv_add_pixel(w->json, srv_to_picture_x(w, (float)(cx + sx[i] * dx * c - sy[i] * dy * s)));
        srv_text_add(w->json, ",", 1);
        srv_add_pixel(w->json, srv_to_picture_y(w, (float)(cy + sx[i] * dx * s + sy[i] * dy * c)));
    }
    srv_text_printf(w->json, "],\"angle\":");
    srv_text_double(w->json, rint((double)b->angle * 1e4) / 1e4);
    return OD_OK;
}

const srv_detector srv_yolov8_obb = {.name = "yolov8-obb", .n_outputs = 1, .check = check_v8, .decode = decode_obb,
                                     .more = add_corners, .overlap = probabilistic_overlap, .fast_nms = true};

static od_code add_keypoints(const srv_answer *w, const srv_box *b)
{
    int n;
    const double *shape = ldr_card_param(w->card, "keypoints", &n);
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    int64_t numbers = n == 2 && shape[1] == 2 ? 2 : 3, count = extra_count(w) / numbers;
    float *points = od_arena_array(w->a, float, 3 * count);
    if (!points) return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " points", count);
    for (int64_t k = 0; k < count; k++)
        for (int64_t i = 0; i < 3; i++) points[3 * k + i] = i < numbers ? extra_of(w, x, b->source, k * numbers + i) : 1;
    return srv_add_keypoints(w, points, count);
}

const srv_detector srv_yolov8_pose = {.name = "yolov8-pose", .n_outputs = 1, .check = check_v8, .decode = decode,
                                      .more = add_keypoints};

static od_code check_seg(const srv_answer *w)
{
    OD_TRY(srv_want(w, 1, 4, (int64_t[]){1, -1, -1, -1}));
    return check_v8(w);
}

/* The prototypes' sum by this box's weights, at each place of their map that the box touches. */
static void sum_prototypes(const srv_answer *w, const float *weights, const float *protos, const srv_box *b, float *sum)
{
    const eng_tensor *t = &w->outputs[1];
    int64_t n = t->dims[1], height = t->dims[2], width = t->dims[3];
    float sy = (float)height / (float)w->place->input_height;
    int64_t y0 = srv_index((double)(b->y1 * sy) - 2, height), y1 = srv_index((double)(b->y2 * sy) + 3, height);
    for (int64_t y = y0; y < y1; y++) {
        float *row = sum + y * width;
        for (int64_t x = 0; x < width; x++) row[x] = 0;
        for (int64_t k = 0; k < n; k++)
            for (int64_t x = 0; x < width; x++) row[x] += weights[k] * protos[(k * height + y) * width + x];
    }
}

/* How many places of a finer map lie in one place of the map along an extent, 1, 2 or 4: as many as it takes for the
 * padding to end between two of them. Ultralytics makes the map so fine before it cuts the padding off. */
static int64_t fineness(double offset, double scale, int64_t picture, int64_t input, int64_t map)
{
    int64_t fine = 1;
    double end = rint((double)picture * scale + offset), n = (double)input;
    while (fine < 4 && (fmod(offset * (double)(fine * map), n) != 0 || fmod(end * (double)(fine * map), n) != 0)) fine *= 2;
    return fine;
}

/* From which three places of the map a pixel of the picture is made: between the places of the finer map, from its first to
 * its last that is picture and not padding, each of which lies between places of the map. */
typedef struct mix {
    int64_t first;
    float share[3];
} mix;

static mix mix_of(int64_t pixel, double scale, double offset, int64_t picture, int64_t input, int64_t map, int64_t fine)
{
    double per = (double)(fine * map) / (double)input;
    double at = (((double)pixel + 0.5) * scale + offset) * per - 0.5;
    double least = rint(fmax(offset, 0) * per), most = rint(fmin((double)picture * scale + offset, (double)input) * per) - 1;
    at = fmax(0, fmax(least, fmin(at, most)));
    double below = floor(at), part = at - below;
    mix m = {.first = -1};
    for (int i = 0; i < 2; i++) { /* the finer map's place below and the one above */
        double x = fmax(0, fmin((fmin(below + i, most) + 0.5) / (double)fine - 0.5, (double)(map - 1)));
        int64_t place = (int64_t)x;
        float share = (float)(i ? part : 1 - part), second = (float)(x - floor(x));
        if (m.first < 0) m.first = place;
        int64_t k = od_min_i64(place - m.first, 1); /* places of neighbours are neighbours */
        m.share[k] += share * (1 - second);
        m.share[k + 1] += share * second;
    }
    return m;
}

/* Which pixels of the picture are the thing: above zero, and their corners inside the box. `row` has room for one of the map, `across` for the picture's. */
static void fill_mask(const srv_answer *w, const float *sum, const srv_box *b, srv_map *m, float *row, mix *across)
{
    const ldr_placement *p = w->place;
    const eng_tensor *t = &w->outputs[1];
    int64_t height = t->dims[2], width = t->dims[3];
    int64_t x0 = srv_index(ceil(srv_to_picture_x(w, b->x1)), m->width), x1 = srv_index(ceil(srv_to_picture_x(w, b->x2)), m->width);
    int64_t y0 = srv_index(ceil(srv_to_picture_y(w, b->y1)), m->height), y1 = srv_index(ceil(srv_to_picture_y(w, b->y2)), m->height);
    int64_t fine = od_max_i64(fineness(p->offset_x, p->scale_x, p->image_width, p->input_width, width),
                              fineness(p->offset_y, p->scale_y, p->image_height, p->input_height, height));
    for (int64_t x = x0; x < x1; x++) across[x] = mix_of(x, p->scale_x, p->offset_x, p->image_width, p->input_width, width, fine);
    for (int64_t y = y0; y < y1; y++) {
        mix v = mix_of(y, p->scale_y, p->offset_y, p->image_height, p->input_height, height, fine);
        for (int64_t x = 0; x < width; x++) row[x] = 0;
        for (int k = 0; k < 3; k++)
            for (int64_t x = 0; x < width && v.share[k] != 0; x++) row[x] += v.share[k] * sum[(v.first + k) * width + x];
        for (int64_t x = x0; x < x1; x++) {
            const mix *h = &across[x];
            const float *at = row + h->first;
            float level = h->share[0] * at[0] + h->share[1] * at[1] + h->share[2] * at[2];
            m->labels[y * m->width + x] = level > 0;
        }
    }
}

static od_code add_mask(const srv_answer *w, const srv_box *b)
{
    if (w->mask == SRV_MASK_NONE) return OD_OK;
    const float *x = srv_floats(w, 0), *protos = x ? srv_floats(w, 1) : NULL;
    if (!protos) return w->st->code;
    int64_t n = w->outputs[1].dims[1], places = w->outputs[1].dims[2] * w->outputs[1].dims[3];
    OD_TRY(srv_map_clear(w));
    float *weights = od_arena_array(w->a, float, n), *sum = od_arena_array(w->a, float, places);
    float *row = od_arena_array(w->a, float, w->outputs[1].dims[3] + 2); /* mixes may read, by nothing, behind its end */
    mix *across = od_arena_array(w->a, mix, w->place->image_width);
    if (!weights || !sum || !row || !across) return od_fail(w->st, OD_NO_MEMORY, "no memory for a mask");
    for (int64_t k = 0; k < n; k++) weights[k] = extra_of(w, x, b->source, k);
    sum_prototypes(w, weights, protos, b, sum);
    fill_mask(w, sum, b, w->map, row, across);
    return srv_add_mask(w, w->map, 1, NULL);
}

const srv_detector srv_yolov8_seg = {.name = "yolov8-seg", .n_outputs = 2, .check = check_seg, .decode = decode,
                                     .more = add_mask};

/* ---- v10 ---------------------------------------------------------------------------------- */

static od_code check_v10(const srv_answer *w)
{
    bool seg = is_kind(w, "-seg");
    if (seg) OD_TRY(srv_want(w, 1, 4, (int64_t[]){1, -1, -1, -1}));
    int64_t extra = seg && (w->outputs[1].rank < 0 || w->outputs[1].dims[1] < 0) ? -1 : extra_count(w);
    return srv_want(w, 0, 3, (int64_t[]){1, -1, extra < 0 ? -1 : 6 + extra});
}

static od_code decode_v10(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    bool obb = is_kind(w, "-obb"), centered = obb || srv_number(w, "centered", 0) != 0, normalized = srv_number(w, "normalized", 0) != 0;
    float sx = normalized ? (float)w->place->input_width : 1, sy = normalized ? (float)w->place->input_height : 1;
    int64_t columns = w->outputs[0].dims[2];
    for (int64_t i = 0; i < w->outputs[0].dims[1]; i++, x += columns) {
        if (!((double)x[4] > w->score_threshold && x[5] >= 0 && x[5] < 1e6f)) continue;
        srv_box b = {x[0] * sx, x[1] * sy, x[2] * sx, x[3] * sy, x[4], 0, (int32_t)x[5], (int32_t)i};
        if (centered) b = srv_box_around(b.x1, b.y1, b.x2, b.y2, b.score, b.label, i);
        if (obb) b.angle = x[6];
        srv_boxes_add(out, b);
    }
    return OD_OK;
}

const srv_detector srv_yolov10 = {.name = "yolov10", .n_outputs = 1, .check = check_v10, .decode = decode_v10, .no_nms = true};
const srv_detector srv_yolov10_seg = {.name = "yolov10-seg", .n_outputs = 2, .check = check_v10, .decode = decode_v10,
                                      .more = add_mask, .no_nms = true};
const srv_detector srv_yolov10_pose = {.name = "yolov10-pose", .n_outputs = 1, .check = check_v10, .decode = decode_v10,
                                       .more = add_keypoints, .no_nms = true};
const srv_detector srv_yolov10_obb = {.name = "yolov10-obb", .n_outputs = 1, .check = check_v10, .decode = decode_v10,
                                      .more = add_corners, .no_nms = true};

/* ---- v5 ----------------------------------------------------------------------------------- */

static od_code check_v5(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    return t->rank < 0 ? OD_OK : check_columns(w, t->dims[2], 5);
}

static od_code decode_v5(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    int64_t boxes = w->outputs[0].dims[1], columns = w->outputs[0].dims[2];
    for (int64_t i = 0; i < boxes; i++, x += columns) {
        if (!((double)x[4] > w->score_threshold)) continue; /* scores are products with it */
        int64_t label = 5;
        for (int64_t c = 6; c < columns; c++)
            if (x[c] > x[label]) label = c;
        float score = x[4] * x[label];
        if ((double)score > w->score_threshold) srv_boxes_add(out, srv_box_around(x[0], x[1], x[2], x[3], score, label - 5, i));
    }
    return OD_OK;
}

const srv_detector srv_yolov5 = {.name = "yolov5", .n_outputs = 1, .check = check_v5, .decode = decode_v5};
