/* lists.c - outputs that are lists of boxes already.
 *
 * "torchvision": boxes [N, 4] in pixels of the input, labels [N], scores [N]; suppression is in the graph. Perhaps
 *   masks [N, 1, rows, columns] at the input's size, or keypoints [N, points, 3].
 * "tf-od": TensorFlow Object Detection: boxes [1, N, 4] (y, x, y, x relative), classes, scores, perhaps a count.
 *   Classes count from parameter first_class (1) on.
 * "scored-boxes": boxes [1, N, 4] (or [1, N, 1, 4], as a YOLOv4 has them) and scores [1, N, classes]. Parameters, all 0 unless said: normalized (boxes are
 *   relative to the input), centered (centre and size instead of corners), background (1: score 0 is of nothing),
 *   activation (1: sigmoid, 2: softmax of the scores).
 * "ultraface": the same with scores first, normalized, with background. */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

/* ---- torchvision -------------------------------------------------------------------------- */

static od_code check_torchvision(const srv_answer *w)
{
    int64_t n = w->outputs[0].rank == 2 ? w->outputs[0].dims[0] : -1;
    OD_TRY(srv_want(w, 0, 2, (int64_t[]){n, 4}));
    if (w->n_outputs != 3 && w->n_outputs != 4)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'torchvision' reads boxes, labels, scores and perhaps masks or keypoints, "
                       "not %d outputs", w->n_outputs);
    OD_TRY(srv_want(w, 1, 1, &n));
    OD_TRY(srv_want(w, 2, 1, &n));
    if (w->n_outputs == 3 || w->outputs[3].rank < 0) return OD_OK;
    if (w->outputs[3].rank == 3) return srv_want(w, 3, 3, (int64_t[]){n, -1, 3});
    return srv_want(w, 3, 4, (int64_t[]){n, 1, -1, -1});
}

static od_code decode_torchvision(const srv_answer *w, srv_boxes *out)
{
    const float *boxes = srv_floats(w, 0), *scores = boxes ? srv_floats(w, 2) : NULL;
    if (!scores) return w->st->code;
    if (!(ENG_T(w->outputs[1].dtype) & ENG_T_INT)) return od_fail(w->st, OD_BAD_TYPE, "labels are %s",
                                                                  eng_dtype_name(w->outputs[1].dtype));
    for (int64_t i = 0; i < w->outputs[0].dims[0]; i++, boxes += 4)
        if ((double)scores[i] > w->score_threshold)
            srv_boxes_add(out, (srv_box){boxes[0], boxes[1], boxes[2], boxes[3], scores[i], 0,
                                         (int32_t)eng_tensor_int(&w->outputs[1], i), (int32_t)i});
    return OD_OK;
}

/* A mask of the input's size: above one half is the thing. */
static od_code add_pasted_mask(const srv_answer *w, const float *x, int64_t rows, int64_t columns)
{
    const ldr_placement *p = w->place;
    srv_between bx, by;
    if (w->mask == SRV_MASK_NONE || rows < 1 || columns < 1) return OD_OK;
    OD_TRY(srv_map_clear(w));
    if (!srv_place_between(&bx, p->image_width, p->scale_x, p->offset_x, p->input_width, columns, w->a) ||
        !srv_place_between(&by, p->image_height, p->scale_y, p->offset_y, p->input_height, rows, w->a))
        return od_fail(w->st, OD_NO_MEMORY, "no memory for a mask");
    for (int64_t y = 0; y < p->image_height; y++)
        for (int64_t k = 0; k < p->image_width; k++) {
            srv_corners c = srv_corners_at(x, columns, 1, &bx, &by, k, y);
            w->map->labels[y * p->image_width + k] = srv_interpolate(&c, 0) > 0.5f;
        }
    return srv_add_mask(w, w->map, 1, NULL);
}

static od_code add_fourth(const srv_answer *w, const srv_box *b)
{
    if (w->n_outputs < 4) return OD_OK;
    const eng_tensor *t = &w->outputs[3];
    const float *x = srv_floats(w, 3);
    if (!x) return w->st->code;
    if (t->rank == 4) return add_pasted_mask(w, x + b->source * t->dims[2] * t->dims[3], t->dims[2], t->dims[3]);
    return srv_add_keypoints(w, x + b->source * t->dims[1] * 3, t->dims[1]);
}

const srv_detector srv_torchvision = {.name = "torchvision", .check = check_torchvision, .decode = decode_torchvision,
                                      .more = add_fourth, .no_nms = true};

/* ---- TensorFlow Object Detection ---------------------------------------------------------- */

static od_code check_tf(const srv_answer *w)
{
    int64_t n = w->outputs[0].rank == 3 ? w->outputs[0].dims[1] : -1;
    if (w->n_outputs != 3 && w->n_outputs != 4)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'tf-od' reads boxes, classes, scores, perhaps a count, not %d outputs",
                       w->n_outputs);
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, n, 4}));
    OD_TRY(srv_want(w, 1, 2, (int64_t[]){1, n}));
    return srv_want(w, 2, 2, (int64_t[]){1, n});
}

static od_code decode_tf(const srv_answer *w, srv_boxes *out)
{
    const float *b = srv_floats(w, 0), *classes = b ? srv_floats(w, 1) : NULL, *scores = classes ? srv_floats(w, 2) : NULL;
    if (!scores) return w->st->code;
    float width = (float)w->place->input_width, height = (float)w->place->input_height;
    float first = (float)srv_number(w, "first_class", 1);
    int64_t n = w->outputs[0].dims[1];
    if (w->n_outputs == 4 && eng_tensor_count(&w->outputs[3]) > 0) {
        double count = eng_tensor_double(&w->outputs[3], 0);
        if (count >= 0 && count < (double)n) n = (int64_t)count;
    }
    for (int64_t i = 0; i < n; i++, b += 4)
        if ((double)scores[i] > w->score_threshold && fabsf(classes[i]) < 1e6f)
            srv_boxes_add(out, (srv_box){b[1] * width, b[0] * height, b[3] * width, b[2] * height, scores[i], 0,
                                         (int32_t)(classes[i] - first), (int32_t)i});
    return OD_OK;
}

const srv_detector srv_tf_od = {.name = "tf-od", .check = check_tf, .decode = decode_tf, .no_nms = true};

/* ---- boxes and scores of all classes ------------------------------------------------------ */

typedef struct list_style {
    int boxes, scores; /* which output */
    bool normalized, centered, background;
    int activation;
} list_style;

static list_style style_of(const srv_answer *w)
{
    if (!strcmp(w->card->decoder, "ultraface")) return (list_style){1, 0, true, false, true, SRV_AS_THEY_ARE};
    return (list_style){0, 1, srv_number(w, "normalized", 0) != 0, srv_number(w, "centered", 0) != 0,
                        srv_number(w, "background", 0) != 0, (int)srv_number(w, "activation", 0)};
}

static od_code check_scored(const srv_answer *w)
{
    list_style s = style_of(w);
    const eng_tensor *scores = &w->outputs[s.scores];
    int64_t rows = scores->rank == 3 ? scores->dims[1] : -1, classes = scores->rank == 3 ? scores->dims[2] : -1;
    OD_TRY(srv_want(w, s.scores, 3, (int64_t[]){1, -1, -1}));
    bool four = w->outputs[s.boxes].rank == 4;
    OD_TRY(srv_want(w, s.boxes, four ? 4 : 3, four ? (int64_t[]){1, rows, 1, 4} : (int64_t[]){1, rows, 4}));
    if (s.activation < SRV_AS_THEY_ARE || s.activation > SRV_SOFTMAX)
        return od_fail(w->st, OD_BAD_MODEL, "'activation' is %d; 0, 1 (sigmoid) or 2 (softmax) is wanted", s.activation);
    if (classes >= 0 && classes < 1 + s.background)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s': %" PRId64 " scores a box; at least %d are wanted",
                       w->card->decoder, classes,
                       1 + s.background);
    return srv_check_labels(w, classes - s.background);
}

static od_code decode_scored(const srv_answer *w, srv_boxes *out)
{
    list_style s = style_of(w);
    const float *scores = srv_floats(w, s.scores), *b = scores ? srv_floats(w, s.boxes) : NULL;
    if (!b) return w->st->code;
    int64_t rows = w->outputs[s.scores].dims[1], classes = w->outputs[s.scores].dims[2];
    float fx = s.normalized ? (float)w->place->input_width : 1, fy = s.normalized ? (float)w->place->input_height : 1;
    for (int64_t i = 0; i < rows; i++, b += 4, scores += classes) {
        srv_activation act = srv_activation_of(s.activation, scores, classes, 1);
        for (int64_t c = s.background; c < classes; c++) {
            float score = srv_activate(&act, scores[c]);
            if (!((double)score > w->score_threshold)) continue;
            int64_t label = c - s.background;
            if (s.centered) srv_boxes_add(out, srv_box_around(b[0] * fx, b[1] * fy, b[2] * fx, b[3] * fy, score, label, i));
            else srv_boxes_add(out, (srv_box){b[0] * fx, b[1] * fy, b[2] * fx, b[3] * fy, score, 0, (int32_t)label, (int32_t)i});
        }
    }
    return OD_OK;
}

const srv_detector srv_scored_boxes = {.name = "scored-boxes", .n_outputs = 2, .check = check_scored, .decode = decode_scored};
const srv_detector srv_ultraface = {.name = "ultraface", .n_outputs = 2, .check = check_scored, .decode = decode_scored};
