/* dfl.c - v8's heads as they come out of the network, with its distributions of distances.
 *
 * "yolov8-heads" (also v9, v11, v12, v6): each level's map [1, 4 * reg_max + classes, rows, columns]; or each level's distances
 *   [1, 4 * reg_max, rows, columns] and scores [1, classes, rows, columns], level by level or all of a kind together; or these with
 *   the levels' cells behind one another, [1, ..., cells], at the parameter strides (8, 16, 32). A distance to a side, from a
 *   cell's centre and in strides, is the mean of reg_max (16) bins by their softmax (Li et al., "Generalized focal loss"); 1: the
 *   number itself. Parameter activation (1: sigmoid of the scores; 0: as they are). */
#include "server/tasks/parts.h"

#include <math.h>

static int64_t bins_of(const srv_answer *w)
{
    double bins = srv_number(w, "reg_max", 16);
    return bins >= 1 && bins <= 1000 ? (int64_t)bins : 16;
}

/* The outputs of the boxes and those of the scores, of each level; how many. Joint maps are both. */
static int sort_outputs(const srv_answer *w, int *boxes, int *scores)
{
    int n_boxes = 0, n_scores = 0;
    int64_t box = 4 * bins_of(w);
    bool alike = true, joint = true;
    for (int i = 0; i < w->n_outputs; i++) {
        alike = alike && w->outputs[i].dims[1] == box; /* as many classes as numbers of a box: in turns */
        joint = joint && w->outputs[i].dims[1] > box;
    }
    for (int i = 0; i < w->n_outputs; i++) {
        if (joint || (alike ? i % 2 == 0 : w->outputs[i].dims[1] == box)) boxes[n_boxes++] = i;
        else scores[n_scores++] = i;
        if (joint) scores[n_scores++] = i;
    }
    return n_boxes == n_scores ? n_boxes : 0;
}

static bool is_known(const srv_answer *w)
{
    for (int i = 0; i < w->n_outputs; i++)
        if (w->outputs[i].rank < 0 || w->outputs[i].dims[1] < 0) return false;
    return true;
}

static od_code check_heads(const srv_answer *w)
{
    int boxes[2 * SRV_LEVELS_MAX], scores[2 * SRV_LEVELS_MAX];
    if (w->n_outputs > 2 * SRV_LEVELS_MAX)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'yolov8-heads' reads up to %d outputs, not %d", 2 * SRV_LEVELS_MAX, w->n_outputs);
    int rank = w->outputs[0].rank == 3 ? 3 : 4;
    for (int i = 0; i < w->n_outputs; i++) OD_TRY(srv_want(w, i, rank, (int64_t[]){1, -1, -1, -1}));
    if (!is_known(w)) return OD_OK;
    int n = sort_outputs(w, boxes, scores);
    if (!n || (rank == 3 && n > 1))
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'yolov8-heads' found %s; maps of %" PRId64 " numbers ('reg_max' is %" PRId64
                       ") and as many of classes are wanted, or maps of both: name them by 'outputs'",
                       rank == 3 ? "several lists" : "other maps", 4 * bins_of(w), bins_of(w));
    for (int i = 0; i < n; i++) {
        const eng_tensor *b = &w->outputs[boxes[i]], *s = &w->outputs[scores[i]];
        OD_TRY(srv_want(w, scores[i], rank, (int64_t[]){1, -1, b->dims[2], rank == 4 ? b->dims[3] : -1}));
        OD_TRY(srv_check_labels(w, s->dims[1] - (b == s ? 4 * bins_of(w) : 0)));
    }
    return OD_OK;
}

float srv_expectation(const float *x, int64_t bins, int64_t step)
{
    float most = x[0], sum = 0, mean = 0;
    if (bins == 1) return x[0];
    for (int64_t i = 1; i < bins; i++) most = fmaxf(most, x[i * step]);
    for (int64_t i = 0; i < bins; i++) {
        float p = expf(x[i * step] - most);
        sum += p;
        mean += p * (float)i;
    }
    return mean / sum;
}

/* One level: numbers of a cell lie `step` apart. */
typedef struct level {
    const float *boxes, *scores;
    int64_t rows, columns, step, classes;
    float stride_x, stride_y;
} level;

static void decode_level(const srv_answer *w, const level *l, int64_t source, srv_boxes *out)
{
    int64_t bins = bins_of(w);
    bool logits = srv_number(w, "activation", 1) != 0;
    for (int64_t i = 0; i < l->rows * l->columns; i++) {
        int64_t best = 0;
        for (int64_t c = 1; c < l->classes; c++)
            if (l->scores[c * l->step + i] > l->scores[best * l->step + i]) best = c;
        float score = l->scores[best * l->step + i], d[4];
        if (logits) score = srv_sigmoid(score);
        if (!((double)score > w->score_threshold)) continue;
        float cx = (float)(i % l->columns) + 0.5f, cy = (float)(i / l->columns) + 0.5f;
        for (int k = 0; k < 4; k++) d[k] = srv_expectation(l->boxes + k * bins * l->step + i, bins, l->step);
        srv_boxes_add(out, (srv_box){(cx - d[0]) * l->stride_x, (cy - d[1]) * l->stride_y, (cx + d[2]) * l->stride_x, (cy + d[3]) * l->stride_y,
                                     score, 0, (int32_t)best, (int32_t)(source + i)});
    }
}

/* All levels' cells behind one another. */
static od_code decode_cells(const srv_answer *w, level l, srv_boxes *out)
{
    static const double usual[] = {8, 16, 32};
    int n;
    const double *strides = ldr_card_param(w->card, "strides", &n);
    if (!strides) strides = usual, n = OD_COUNT(usual);
    int64_t at = 0;
    for (int k = 0; k < n; k++) {
        l.stride_x = l.stride_y = (float)fmax(strides[k], 1);
        l.columns = (int64_t)ceil((double)w->place->input_width / (double)l.stride_x);
        l.rows = (int64_t)ceil((double)w->place->input_height / (double)l.stride_y);
        at += l.rows * l.columns;
        if (at > l.step) break;
        decode_level(w, &l, at - l.rows * l.columns, out);
        l.boxes += l.rows * l.columns;
        l.scores += l.rows * l.columns;
    }
    if (at == l.step) return OD_OK;
    return od_fail(w->st, OD_BAD_SHAPE, "decoder 'yolov8-heads': %" PRId64 " cells where an input of %" PRId64 " x %" PRId64 " has %" PRId64
                   " or more at the parameter strides", l.step, w->place->input_width, w->place->input_height, at);
}

static od_code decode_heads(const srv_answer *w, srv_boxes *out)
{
    int boxes[2 * SRV_LEVELS_MAX], scores[2 * SRV_LEVELS_MAX], n = sort_outputs(w, boxes, scores);
    int64_t source = 0;
    for (int i = 0; i < n; i++) {
        const eng_tensor *t = &w->outputs[scores[i]];
        const float *b = srv_floats(w, boxes[i]), *s = b ? srv_floats(w, scores[i]) : NULL;
        if (!s) return w->st->code;
        level l = {.boxes = b, .scores = s, .classes = t->dims[1]};
        bool list = t->rank == 3;
        l.step = list ? t->dims[2] : t->dims[2] * t->dims[3];
        if (boxes[i] == scores[i]) {
            l.scores += 4 * bins_of(w) * l.step;
            l.classes -= 4 * bins_of(w);
        }
        if (l.classes < 1 || l.step < 1) continue;
        if (list) return decode_cells(w, l, out);
        l.rows = t->dims[2];
        l.columns = t->dims[3];
        l.stride_x = (float)w->place->input_width / (float)l.columns;
        l.stride_y = (float)w->place->input_height / (float)l.rows;
        decode_level(w, &l, source, out);
        source += l.step;
    }
    return OD_OK;
}

const srv_detector srv_yolov8_heads = {.name = "yolov8-heads", .check = check_heads, .decode = decode_heads};
