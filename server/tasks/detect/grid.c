/* grid.c - heads that say where a thing lies relative to a cell of their map.
 *
 * "yolox": [1, cells, 5 + classes], scores as they are. Parameter strides (8, 16, 32).
 * "yolov5-heads" (also v7), "yolov3" (also v4): one output a level, [1, anchors, rows, columns, 5 + classes] or
 *   [1, anchors * (5 + classes), rows, columns], or [1, rows, columns, anchors, 5 + classes], all numbers raw. Parameters anchors:
 *   widths and heights in pixels of the input, level by level in the order of the outputs (YOLOv5's unless said); activation (1; 0:
 *   scores as they are); of "yolov3" scale_x_y (1), of each level or of all, by which v4 lets centres reach over their cells.
 * "nanodet": [1, cells, classes + 4 * (reg_max + 1)], scores as they are, distances as distributions. Parameters
 *   reg_max (7), strides (8, 16, 32, 64).
 * "fcos": class maps of all levels, then distance maps, then centreness maps. Parameters in_strides (1: distances
 *   count strides), strides (8, 16, 32, 64, 128).
 * "centernet": heat map of classes (logits; parameter activation 0: as they are), sizes, offsets. */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

enum { LEVELS_MAX = 16 };

/* The strides of the levels: the parameter or the given ones. */
static int strides_of(const srv_answer *w, const double *usual, int n_usual, double *out)
{
    int n;
    const double *said = ldr_card_param(w->card, "strides", &n);
    if (!said) said = usual, n = n_usual;
    if (n > LEVELS_MAX) n = LEVELS_MAX;
    for (int i = 0; i < n; i++) out[i] = said[i] >= 1 ? said[i] : 1;
    return n;
}

/* Walks over the cells of all levels, row by row. */
typedef struct cells {
    double strides[LEVELS_MAX];
    int64_t columns[LEVELS_MAX], rows[LEVELS_MAX], total;
    int n;
} cells;

static cells cells_of(const srv_answer *w, const double *usual, int n_usual)
{
    cells c = {.n = 0};
    c.n = strides_of(w, usual, n_usual, c.strides);
    for (int i = 0; i < c.n; i++) {
        c.columns[i] = (int64_t)ceil((double)w->place->input_width / c.strides[i]);
        c.rows[i] = (int64_t)ceil((double)w->place->input_height / c.strides[i]);
        c.total += c.columns[i] * c.rows[i];
    }
    return c;
}

static od_code check_total(const srv_answer *w, const cells *c, int64_t have)
{
    if (c->total == have) return OD_OK;
    return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s': %" PRId64 " boxes where an input of %" PRId64 " x %" PRId64
                   " has %" PRId64 " cells at the parameter strides", w->card->decoder, have, w->place->input_width,
                   w->place->input_height, c->total);
}

/* ---- YOLOX -------------------------------------------------------------------------------- */

static const double yolox_strides[] = {8, 16, 32};

static od_code check_yolox(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    if (t->rank < 0 || t->dims[2] < 0) return OD_OK;
    if (t->dims[2] < 6) return srv_want(w, 0, 3, (int64_t[]){1, -1, 6});
    return srv_check_labels(w, t->dims[2] - 5);
}

static od_code decode_yolox(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0);
    cells c = cells_of(w, yolox_strides, OD_COUNT(yolox_strides));
    if (!x) return w->st->code;
    OD_TRY(check_total(w, &c, w->outputs[0].dims[1]));
    int64_t columns = w->outputs[0].dims[2], source = 0;
    for (int level = 0; level < c.n; level++)
        for (int64_t i = 0; i < c.rows[level] * c.columns[level]; i++, source++, x += columns) {
            float s = (float)c.strides[level];
            int64_t best = 5;
            for (int64_t k = 6; k < columns; k++)
                if (x[k] > x[best]) best = k;
            float score = x[4] * x[best];
            if ((double)score > w->score_threshold)
                srv_boxes_add(out, srv_box_around((x[0] + (float)(i % c.columns[level])) * s,
                                                  (x[1] + (float)(i / c.columns[level])) * s,
                                                  expf(x[2]) * s, expf(x[3]) * s, score, best - 5, source));
        }
    return OD_OK;
}

const srv_detector srv_yolox = {.name = "yolox", .check = check_yolox, .n_outputs = 1, .decode = decode_yolox};

/* ---- anchors ------------------------------------------------------------------------------ */

static const double yolov5_anchors[] = {10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326};

/* One level's map in either order of extents. */
typedef struct head {
    const float *x;
    int64_t anchors, rows, columns, numbers; /* numbers: 5 + classes */
    int64_t anchor_step, number_step, cell_step;
    bool scores; /* not logits */
    float scale; /* of the centres' reach */
} head;

static const double *anchors_of(const srv_answer *w, int64_t *each)
{
    int n;
    const double *anchors = ldr_card_param(w->card, "anchors", &n);
    if (!anchors) anchors = yolov5_anchors, n = OD_COUNT(yolov5_anchors);
    *each = n / 2 / w->n_outputs;
    return anchors;
}

static od_code shape_head(const srv_answer *w, int i, head *h)
{
    const eng_tensor *t = &w->outputs[i];
    anchors_of(w, &h->anchors);
    if (h->anchors < 1) return od_fail(w->st, OD_BAD_MODEL, "'anchors' are too few for %d outputs", w->n_outputs);
    if (t->rank == 5 && t->dims[3] == h->anchors && t->dims[1] != h->anchors) {
        OD_TRY(srv_want(w, i, 5, (int64_t[]){1, -1, -1, -1, -1}));
        h->rows = t->dims[1], h->columns = t->dims[2], h->numbers = t->dims[4];
        h->number_step = 1, h->anchor_step = h->numbers, h->cell_step = h->anchors * h->numbers;
    } else if (t->rank == 5) {
        OD_TRY(srv_want(w, i, 5, (int64_t[]){1, h->anchors, -1, -1, -1}));
        h->rows = t->dims[2], h->columns = t->dims[3], h->numbers = t->dims[4];
        h->number_step = 1, h->cell_step = h->numbers, h->anchor_step = h->rows * h->columns * h->numbers;
    } else {
        OD_TRY(srv_want(w, i, 4, (int64_t[]){1, -1, -1, -1}));
        if (t->rank < 0) return OD_OK;
        if (t->dims[1] > 0 && t->dims[1] % h->anchors)
            return od_fail(w->st, OD_BAD_SHAPE, "output %d has %" PRId64 " channels, which %" PRId64 " anchors do not divide", i,
                           t->dims[1], h->anchors);
        h->rows = t->dims[2], h->columns = t->dims[3], h->numbers = t->dims[1] / h->anchors;
        h->cell_step = 1, h->number_step = h->rows * h->columns, h->anchor_step = h->number_step * h->numbers;
    }
    if (h->numbers > 0 && h->numbers < 6)
        return od_fail(w->st, OD_BAD_SHAPE, "output %d has %" PRId64 " numbers an anchor; at least 6 are wanted", i, h->numbers);
    return OD_OK;
}

static od_code check_heads(const srv_answer *w)
{
    for (int i = 0; i < w->n_outputs; i++) {
        head h = {0};
        OD_TRY(shape_head(w, i, &h));
        if (h.numbers > 5) OD_TRY(srv_check_labels(w, h.numbers - 5));
    }
    return OD_OK;
}

static float scale_of(const srv_answer *w, int level)
{
    int n;
    const double *scale = ldr_card_param(w->card, "scale_x_y", &n);
    return n > 0 ? (float)scale[level < n ? level : n - 1] : 1;
}

static void decode_cell(const srv_answer *w, const head *h, const float *x, const double *anchor, int64_t cell, bool v3,
                        int64_t source, srv_boxes *out)
{
    int64_t k = h->number_step, best = 5;
    float object = h->scores ? x[4 * k] : srv_sigmoid(x[4 * k]);
    if (!((double)object > w->score_threshold)) return;
    for (int64_t c = 6; c < h->numbers; c++)
        if (x[c * k] > x[best * k]) best = c;
    float score = object * (h->scores ? x[best * k] : srv_sigmoid(x[best * k]));
    if (!((double)score > w->score_threshold)) return;
    float sx = (float)w->place->input_width / (float)h->columns, sy = (float)w->place->input_height / (float)h->rows;
    float gx = (float)(cell % h->columns), gy = (float)(cell / h->columns), aw = (float)anchor[0], ah = (float)anchor[1];
    float px = srv_sigmoid(x[0]), py = srv_sigmoid(x[k]);
    if (v3) {
        px = px * h->scale - (h->scale - 1) / 2;
        py = py * h->scale - (h->scale - 1) / 2;
        srv_boxes_add(out, srv_box_around((px + gx) * sx, (py + gy) * sy, expf(x[2 * k]) * aw, expf(x[3 * k]) * ah, score,
                                          best - 5, source));
    } else {
        float pw = 2 * srv_sigmoid(x[2 * k]), ph = 2 * srv_sigmoid(x[3 * k]);
        srv_boxes_add(out, srv_box_around((2 * px - 0.5f + gx) * sx, (2 * py - 0.5f + gy) * sy, pw * pw * aw, ph * ph * ah,
                                          score, best - 5, source));
    }
}

static od_code decode_heads(const srv_answer *w, srv_boxes *out)
{
    bool v3 = !strcmp(w->card->decoder, "yolov3");
    int64_t each, source = 0;
    const double *anchors = anchors_of(w, &each);
    for (int i = 0; i < w->n_outputs; i++) {
        head h = {0};
        OD_TRY(shape_head(w, i, &h));
        if (!(h.x = srv_floats(w, i))) return w->st->code;
        h.scores = srv_number(w, "activation", 1) == 0;
        h.scale = scale_of(w, i);
        for (int64_t a = 0; a < h.anchors; a++)
            for (int64_t cell = 0; cell < h.rows * h.columns; cell++)
                decode_cell(w, &h, h.x + a * h.anchor_step + cell * h.cell_step, anchors + 2 * (i * h.anchors + a), cell, v3,
                            source++, out);
    }
    return OD_OK;
}

const srv_detector srv_yolov5_heads = {.name = "yolov5-heads", .check = check_heads, .decode = decode_heads};
const srv_detector srv_yolov3 = {.name = "yolov3", .check = check_heads, .decode = decode_heads};

/* ---- NanoDet ------------------------------------------------------------------------------ */

static const double nanodet_strides[] = {8, 16, 32, 64};

static int64_t bins_of(const srv_answer *w)
{
    double m = srv_number(w, "reg_max", 7);
    return m >= 0 && m < 1000 ? (int64_t)m + 1 : 8;
}

static od_code check_nanodet(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    int64_t least = 4 * bins_of(w) + 1;
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    if (t->rank < 0 || t->dims[2] < 0) return OD_OK;
    if (t->dims[2] < least) return od_fail(w->st, OD_BAD_SHAPE, "decoder 'nanodet': %" PRId64 " numbers a cell; at least %" PRId64
                                           " are wanted", t->dims[2], least);
    return srv_check_labels(w, t->dims[2] - least + 1);
}

static od_code decode_nanodet(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0);
    cells c = cells_of(w, nanodet_strides, OD_COUNT(nanodet_strides));
    if (!x) return w->st->code;
    OD_TRY(check_total(w, &c, w->outputs[0].dims[1]));
    int64_t columns = w->outputs[0].dims[2], bins = bins_of(w), classes = columns - 4 * bins, source = 0;
    for (int level = 0; level < c.n; level++)
        for (int64_t i = 0; i < c.rows[level] * c.columns[level]; i++, source++, x += columns) {
            int64_t best = 0;
            for (int64_t k = 1; k < classes; k++)
                if (x[k] > x[best]) best = k;
            if (!((double)x[best] > w->score_threshold)) continue;
            float s = (float)c.strides[level], d[4];
            float cx = (float)(i % c.columns[level]) * s, cy = (float)(i / c.columns[level]) * s;
            for (int k = 0; k < 4; k++) d[k] = srv_expectation(x + classes + k * bins, bins, 1) * s;
            srv_boxes_add(out, (srv_box){cx - d[0], cy - d[1], cx + d[2], cy + d[3], x[best], 0, (int32_t)best, (int32_t)source});
        }
    return OD_OK;
}

const srv_detector srv_nanodet = {.name = "nanodet", .n_outputs = 1, .check = check_nanodet, .decode = decode_nanodet};

/* ---- FCOS --------------------------------------------------------------------------------- */

static const double fcos_strides[] = {8, 16, 32, 64, 128};

static od_code check_fcos(const srv_answer *w)
{
    int levels = w->n_outputs / 3;
    if (levels < 1 || w->n_outputs % 3)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'fcos' reads three outputs a level, not %d", w->n_outputs);
    for (int i = 0; i < levels; i++) {
        const eng_tensor *t = &w->outputs[i];
        int64_t rows = t->rank == 4 ? t->dims[2] : -1, columns = t->rank == 4 ? t->dims[3] : -1;
        OD_TRY(srv_want(w, i, 4, (int64_t[]){1, -1, -1, -1}));
        OD_TRY(srv_want(w, levels + i, 4, (int64_t[]){1, 4, rows, columns}));
        OD_TRY(srv_want(w, 2 * levels + i, 4, (int64_t[]){1, 1, rows, columns}));
        if (t->rank == 4) OD_TRY(srv_check_labels(w, t->dims[1]));
    }
    return OD_OK;
}

static od_code decode_fcos(const srv_answer *w, srv_boxes *out)
{
    double strides[LEVELS_MAX] = {0};
    int levels = w->n_outputs / 3;
    bool in_strides = srv_number(w, "in_strides", 0) != 0;
    if (strides_of(w, fcos_strides, OD_COUNT(fcos_strides), strides) < levels)
        return od_fail(w->st, OD_BAD_MODEL, "'strides' are fewer than the %d levels", levels);
    int64_t source = 0;
    for (int level = 0; level < levels; level++) {
        const eng_tensor *t = &w->outputs[level];
        const float *score = srv_floats(w, level), *side = score ? srv_floats(w, levels + level) : NULL;
        const float *centre = side ? srv_floats(w, 2 * levels + level) : NULL;
        if (!centre) return w->st->code;
        int64_t n = t->dims[2] * t->dims[3];
        float s = (float)strides[level], f = in_strides ? s : 1;
        for (int64_t c = 0; c < t->dims[1]; c++)
            for (int64_t i = 0; i < n; i++) {
                float p = sqrtf(srv_sigmoid(score[c * n + i]) * srv_sigmoid(centre[i]));
                if (!((double)p > w->score_threshold)) continue;
                float cx = ((float)(i % t->dims[3]) + 0.5f) * s, cy = ((float)(i / t->dims[3]) + 0.5f) * s;
                srv_boxes_add(out, (srv_box){cx - side[i] * f, cy - side[n + i] * f, cx + side[2 * n + i] * f,
                                             cy + side[3 * n + i] * f, p,
                                             0, (int32_t)c, (int32_t)(source + i)});
            }
        source += n;
    }
    return OD_OK;
}

const srv_detector srv_fcos = {.name = "fcos", .check = check_fcos, .decode = decode_fcos};

/* ---- CenterNet ---------------------------------------------------------------------------- */

static od_code check_centernet(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    int64_t rows = t->rank == 4 ? t->dims[2] : -1, columns = t->rank == 4 ? t->dims[3] : -1;
    OD_TRY(srv_want(w, 0, 4, (int64_t[]){1, -1, -1, -1}));
    OD_TRY(srv_want(w, 1, 4, (int64_t[]){1, 2, rows, columns}));
    OD_TRY(srv_want(w, 2, 4, (int64_t[]){1, 2, rows, columns}));
    return t->rank < 0 ? OD_OK : srv_check_labels(w, t->dims[1]);
}

/* No neighbour of place `i` is higher. */
static bool is_peak(const float *heat, int64_t i, int64_t rows, int64_t columns)
{
    int64_t x = i % columns, y = i / columns;
    for (int64_t v = od_max_i64(y - 1, 0); v <= od_min_i64(y + 1, rows - 1); v++)
        for (int64_t u = od_max_i64(x - 1, 0); u <= od_min_i64(x + 1, columns - 1); u++)
            if (heat[v * columns + u] > heat[i]) return false;
    return true;
}

static od_code decode_centernet(const srv_answer *w, srv_boxes *out)
{
    const float *heat = srv_floats(w, 0), *size = heat ? srv_floats(w, 1) : NULL, *offset = size ? srv_floats(w, 2) : NULL;
    if (!offset) return w->st->code;
    const eng_tensor *t = &w->outputs[0];
    bool logits = srv_number(w, "activation", 1) != 0;
    int64_t rows = t->dims[2], columns = t->dims[3], n = rows * columns;
    float sx = (float)w->place->input_width / (float)columns, sy = (float)w->place->input_height / (float)rows;
    for (int64_t c = 0; c < t->dims[1]; c++, heat += n)
        for (int64_t i = 0; i < n; i++) {
            float score = logits ? srv_sigmoid(heat[i]) : heat[i];
            if (!((double)score > w->score_threshold) || !is_peak(heat, i, rows, columns)) continue;
            srv_boxes_add(out, srv_box_around(((float)(i % columns) + offset[i]) * sx,
                                              ((float)(i / columns) + offset[n + i]) * sy,
                                              size[i] * sx, size[n + i] * sy, score, c, i));
        }
    return OD_OK;
}

const srv_detector srv_centernet = {.name = "centernet", .n_outputs = 3, .check = check_centernet, .decode = decode_centernet,
                                    .no_nms = true};
