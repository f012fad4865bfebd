/* ssd.c - boxes relative to boxes that are known beforehand.
 *
 * "ssd": offsets [1, N, 4] and logits [1, N, classes], class 0 nothing. Parameters priors (centre and size of each,
 *   relative to the input: 4 N numbers), variances (0.1, 0.2), activation (2: softmax; 1: sigmoid; 0: as they are).
 * "blazeface": offsets and keypoints [1, N, 4 + 2 k] in pixels of the input, and logits [1, N, 1], at MediaPipe's
 *   anchors: N is 896 (16 x 16 x 2 and 8 x 8 x 6) or 2304 (48 x 48). */
#include "server/tasks/parts.h"

#include <math.h>

static od_code check_pair(const srv_answer *w, int64_t numbers, int64_t classes)
{
    int64_t n = w->outputs[0].rank == 3 ? w->outputs[0].dims[1] : -1;
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, n, numbers}));
    return srv_want(w, 1, 3, (int64_t[]){1, n, classes});
}

static od_code check_ssd(const srv_answer *w)
{
    int n;
    int64_t rows = w->outputs[0].rank == 3 ? w->outputs[0].dims[1] : -1;
    int64_t classes = w->outputs[1].rank == 3 ? w->outputs[1].dims[2] : -1;
    OD_TRY(check_pair(w, 4, -1));
    ldr_card_param(w->card, "priors", &n);
    if (rows >= 0 && n != 4 * rows)
        return od_fail(w->st, OD_BAD_MODEL, "'priors' are %d numbers; %" PRId64 " boxes need %" PRId64, n, rows, 4 * rows);
    return srv_check_labels(w, classes - 1);
}

static float class_score(const float *x, int64_t classes, int64_t c, int activation)
{
    if (activation == 0) return x[c];
    if (activation == 1) return srv_sigmoid(x[c]);
    float most = x[0], sum = 0;
    for (int64_t i = 1; i < classes; i++) most = fmaxf(most, x[i]);
    for (int64_t i = 0; i < classes; i++) sum += expf(x[i] - most);
    return expf(x[c] - most) / sum;
}

static od_code decode_ssd(const srv_answer *w, srv_boxes *out)
{
    const float *d = srv_floats(w, 0), *x = d ? srv_floats(w, 1) : NULL;
    int n, n_variances;
    const double *p = ldr_card_param(w->card, "priors", &n), *v = ldr_card_param(w->card, "variances", &n_variances);
    if (!x) return w->st->code;
    float near = n_variances == 2 ? (float)v[0] : 0.1f, size = n_variances == 2 ? (float)v[1] : 0.2f;
    float width = (float)w->place->input_width, height = (float)w->place->input_height;
    int64_t classes = w->outputs[1].dims[2];
    int activation = (int)srv_number(w, "activation", 2);
    for (int64_t i = 0; i < w->outputs[0].dims[1]; i++, d += 4, p += 4, x += classes)
        for (int64_t c = 1; c < classes; c++) {
            float score = class_score(x, classes, c, activation), pw = (float)p[2], ph = (float)p[3];
            if (!((double)score > w->score_threshold)) continue;
            srv_boxes_add(out, srv_box_around(((float)p[0] + d[0] * near * pw) * width, ((float)p[1] + d[1] * near * ph) * height,
                                              pw * expf(d[2] * size) * width, ph * expf(d[3] * size) * height, score, c - 1, i));
        }
    return OD_OK;
}

const srv_detector srv_ssd = {.name = "ssd", .n_outputs = 2, .check = check_ssd, .decode = decode_ssd};

/* ---- BlazeFace ---------------------------------------------------------------------------- */

enum { FINE = 16 * 16 * 2, ALL = FINE + 8 * 8 * 6, WIDE = 48 * 48 };

/* Where anchor `i` has its centre, relative to the input. */
static void anchor_centre(int64_t i, int64_t n, float *x, float *y)
{
    int64_t side = n == WIDE ? 48 : i < FINE ? 16 : 8, cell = n == WIDE ? i : i < FINE ? i / 2 : (i - FINE) / 6;
    *x = ((float)(cell % side) + 0.5f) / (float)side;
    *y = ((float)(cell / side) + 0.5f) / (float)side;
}

static od_code check_blazeface(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    OD_TRY(check_pair(w, -1, 1));
    if (t->rank < 0) return OD_OK;
    if ((t->dims[1] >= 0 && t->dims[1] != ALL && t->dims[1] != WIDE) || (t->dims[2] >= 0 && (t->dims[2] < 4 || t->dims[2] % 2)))
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'blazeface': %" PRId64 " x %" PRId64 " numbers; %d or %d rows of 4 and two a "
                       "keypoint are wanted",
                       t->dims[1], t->dims[2], ALL, WIDE);
    return srv_check_labels(w, 1);
}

static od_code decode_blazeface(const srv_answer *w, srv_boxes *out)
{
    const float *d = srv_floats(w, 0), *x = d ? srv_floats(w, 1) : NULL;
    if (!x) return w->st->code;
    int64_t n = w->outputs[0].dims[1], numbers = w->outputs[0].dims[2];
    float width = (float)w->place->input_width, height = (float)w->place->input_height, ax, ay;
    for (int64_t i = 0; i < n; i++, d += numbers) {
        float score = srv_sigmoid(fminf(fmaxf(x[i], -100), 100));
        if (!((double)score > w->score_threshold)) continue;
        anchor_centre(i, n, &ax, &ay);
        srv_boxes_add(out, srv_box_around(d[0] + ax * width, d[1] + ay * height, d[2], d[3], score, 0, i));
    }
    return OD_OK;
}

static od_code add_keypoints(const srv_answer *w, const srv_box *b)
{
    const float *d = srv_floats(w, 0);
    if (!d) return w->st->code;
    int64_t numbers = w->outputs[0].dims[2];
    float ax, ay;
    anchor_centre(b->source, w->outputs[0].dims[1], &ax, &ay);
    d += b->source * numbers;
    int64_t n = (numbers - 4) / 2;
    float *points = od_arena_array(w->a, float, 3 * n);
    if (!points) return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " points", n);
    for (int64_t k = 0; k < n; k++) {
        points[3 * k] = d[4 + 2 * k] + ax * (float)w->place->input_width;
        points[3 * k + 1] = d[5 + 2 * k] + ay * (float)w->place->input_height;
        points[3 * k + 2] = 1;
    }
    return srv_add_keypoints(w, points, n);
}

const srv_detector srv_blazeface = {.name = "blazeface", .n_outputs = 2, .check = check_blazeface, .decode = decode_blazeface,
                                    .more = add_keypoints};
