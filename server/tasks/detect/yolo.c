/* yolo.c - YOLO heads that come decoded: a box (centre and size in pixels of the input) and its scores.
 *
 * "yolov8" (also v9, v11, v12): [1, 4 + classes, boxes], or the same transposed.
 * "yolov5" (also v7, YOLOX with decoding in the graph): [1, boxes, 5 + classes], with objectness. */
#include "server/tasks/parts.h"

#include <math.h>

static srv_box from_centre(float cx, float cy, float w, float h, float score, int64_t label, int64_t source)
{
    return (srv_box){cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, (int32_t)label, (int32_t)source};
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
    return t->rank < 0 ? OD_OK : check_columns(w, channels_first(t) ? t->dims[1] : t->dims[2], 4);
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
            srv_boxes_add(out, from_centre(p[i], p[boxes + i], p[2 * boxes + i], p[3 * boxes + i], best[i], label, at + i));
        }
    }
}

static void decode_v8_rows(const srv_answer *w, const float *x, int64_t classes, int64_t boxes, srv_boxes *out)
{
    for (int64_t i = 0; i < boxes; i++, x += 4 + classes) {
        int64_t label = 0;
        for (int64_t c = 1; c < classes; c++)
            if (x[4 + c] > x[4 + label]) label = c;
        if ((double)x[4 + label] > w->score_threshold)
            srv_boxes_add(out, from_centre(x[0], x[1], x[2], x[3], x[4 + label], label, i));
    }
}

static od_code decode_v8(const srv_answer *w, srv_boxes *out)
{
    const eng_tensor *t = &w->outputs[0];
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    if (channels_first(t)) decode_v8_columns(w, x, t->dims[1] - 4, t->dims[2], out);
    else decode_v8_rows(w, x, t->dims[2] - 4, t->dims[1], out);
    return OD_OK;
}

const srv_detector srv_yolov8 = {"yolov8", 1, check_v8, decode_v8, false};

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
        if ((double)score > w->score_threshold) srv_boxes_add(out, from_centre(x[0], x[1], x[2], x[3], score, label - 5, i));
    }
    return OD_OK;
}

const srv_detector srv_yolov5 = {"yolov5", 1, check_v5, decode_v5, false};
