/* ssd.c - boxes relative to boxes that are known beforehand.
 *
 * "ssd": offsets [1, N, 4] and logits [1, N, classes], class 0 nothing; or all levels' maps of offsets [1, anchors * 4, rows,
 *   columns], then all of logits [1, anchors * classes, rows, columns]. "retinanet": the same, with what RetinaNets have.
 *   Parameters (ssd's, retinanet's unless said): variances (0.1 and 0.2; 1 and 1), activation (2: softmax; 1: sigmoid; 0: as they
 *   are), background (1: class 0 is nothing; 0), clip (1: boxes end at the picture's edge before they suppress each other, as in
 *   torchvision and MMDetection; 0: not, as in Detectron2).
 *   The boxes: priors (centre and size of each, relative to the input: 4 N numbers), or by rules (torchvision's RetinaNet unless
 *   said): strides of the levels; sizes in pixels, as many of each level; ratios, height by width, or for each level other ones,
 *   ratio_counts of them; offset of the centres in their cells, in strides (0); round (0: extents as they are; 1: half extents
 *   rounded, as torchvision does); sizes_first (0: a ratio's sizes one behind the other; 1: a size's ratios, as Detectron2 has it).
 *   default_boxes (0; 1: SSD's own: one size more than levels, ratios above 1 that count twice, offset 0.5).
 * "blazeface": offsets and keypoints [1, N, 4 + 2 k] in pixels of the input, and logits [1, N, 1], at MediaPipe's
 *   anchors: N is 896 (16 x 16 x 2 and 8 x 8 x 6) or 2304 (48 x 48). */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

static od_code check_pair(const srv_answer *w, int64_t numbers, int64_t classes)
{
    int64_t n = w->outputs[0].rank == 3 ? w->outputs[0].dims[1] : -1;
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, n, numbers}));
    return srv_want(w, 1, 3, (int64_t[]){1, n, classes});
}

typedef struct style {
    bool background;
    int activation;
    float near, size; /* variances */
    srv_box within;   /* where boxes end before they suppress each other */
} style;

static style style_of(const srv_answer *w)
{
    int n;
    bool retina = !strcmp(w->card->decoder, "retinanet");
    const double *v = ldr_card_param(w->card, "variances", &n);
    style s = {.background = srv_number(w, "background", !retina) != 0, .activation = (int)srv_number(w, "activation", retina ? 1 : 2),
               .near = retina ? 1 : 0.1f, .size = retina ? 1 : 0.2f};
    if (v && n == 2) s.near = (float)v[0], s.size = (float)v[1];
    return s;
}

/* The picture's edges in the input. */
static srv_box edges(const srv_answer *w)
{
    const ldr_placement *p = w->place;
    if (srv_number(w, "clip", 1) == 0) return (srv_box){.x1 = -INFINITY, .y1 = -INFINITY, .x2 = INFINITY, .y2 = INFINITY};
    double right = p->offset_x + (double)p->image_width * p->scale_x, bottom = p->offset_y + (double)p->image_height * p->scale_y;
    return (srv_box){.x1 = (float)fmax(p->offset_x, 0), .y1 = (float)fmax(p->offset_y, 0), .x2 = (float)fmin(right, (double)p->input_width),
                     .y2 = (float)fmin(bottom, (double)p->input_height)};
}

static bool has_maps(const srv_answer *w)
{
    return w->n_outputs > 2 || w->outputs[0].rank == 4;
}

/* Maps of a level belong together, and have the same number of places. */
static od_code check_maps(const srv_answer *w, const style *s)
{
    int levels = w->n_outputs / 2;
    if (w->n_outputs % 2)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s' reads offsets and logits of each level, not %d outputs", w->card->decoder, w->n_outputs);
    for (int i = 0; i < levels; i++) {
        const eng_tensor *d = &w->outputs[i], *x = &w->outputs[levels + i];
        OD_TRY(srv_want(w, i, 4, (int64_t[]){1, -1, -1, -1}));
        OD_TRY(srv_want(w, levels + i, 4, (int64_t[]){1, -1, d->rank < 0 ? -1 : d->dims[2], d->rank < 0 ? -1 : d->dims[3]}));
        if (d->rank < 0 || x->rank < 0 || d->dims[1] < 0 || x->dims[1] < 0) continue;
        int64_t each = d->dims[1] / 4;
        if (each < 1 || d->dims[1] % 4 || x->dims[1] % each)
            return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s': level %d has %" PRId64 " offsets and %" PRId64 " logits a place", w->card->decoder, i,
                           d->dims[1], x->dims[1]);
        OD_TRY(srv_check_labels(w, x->dims[1] / each - s->background));
    }
    return OD_OK;
}

static od_code check_ssd(const srv_answer *w)
{
    int n = 0;
    style s = style_of(w);
    if (s.activation < 0 || s.activation > 2)
        return od_fail(w->st, OD_BAD_MODEL, "'activation' is %d; 0, 1 (sigmoid) or 2 (softmax) is wanted", s.activation);
    if (w->n_outputs < 2) return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s' reads offsets and logits, not one output", w->card->decoder);
    bool maps = has_maps(w), priors = ldr_card_param(w->card, "priors", &n) != NULL;
    if (maps && priors) return od_fail(w->st, OD_BAD_MODEL, "'priors' are of one list; maps of levels need rules");
    if (!priors) OD_TRY(srv_anchors_check(w));
    if (maps) return check_maps(w, &s);
    int64_t rows = w->outputs[0].rank == 3 ? w->outputs[0].dims[1] : -1;
    int64_t classes = w->outputs[1].rank == 3 ? w->outputs[1].dims[2] : -1;
    OD_TRY(check_pair(w, 4, -1));
    if (priors && rows >= 0 && n != 4 * rows)
        return od_fail(w->st, OD_BAD_MODEL, "'priors' are %d numbers; %" PRId64 " boxes need %" PRId64, n, rows, 4 * rows);
    return srv_check_labels(w, classes - s.background);
}

static od_code find_anchors(const srv_answer *w, srv_anchors *out)
{
    int n;
    int64_t boxes = has_maps(w) ? 0 : w->outputs[0].dims[1];
    for (int k = 0; has_maps(w) && k < w->n_outputs / 2; k++) {
        const int64_t *d = w->outputs[k].dims;
        boxes += d[1] / 4 * d[2] * d[3];
    }
    const double *p = ldr_card_param(w->card, "priors", &n);
    if (!p) return srv_anchors_make(w, boxes, out);
    double width = (double)w->place->input_width, height = (double)w->place->input_height;
    *out = (srv_anchors){.n = n / 4, .list = od_arena_array(w->a, srv_anchor, n / 4)};
    if (!out->list) return od_fail(w->st, OD_NO_MEMORY, "no memory for %d anchors", n / 4);
    for (int i = 0; i < n / 4; i++, p += 4)
        out->list[i] = (srv_anchor){(float)(p[0] * width), (float)(p[1] * height), (float)(p[2] * width), (float)(p[3] * height)};
    return OD_OK;
}

/* A size that is this much larger than the anchor's is no answer: 1000 pixels where the anchor has 16. */
static float grown(float d)
{
    const float most = 4.135166556742356f;
    return expf(fminf(d, most));
}

static void add_boxes(const srv_answer *w, const style *s, const srv_anchor *a, const float *d, const float *x, int64_t classes, int64_t step,
                      int64_t source, srv_boxes *out)
{
    srv_activation act = srv_activation_of(s->activation, x, classes, step);
    for (int64_t c = s->background; c < classes; c++) {
        float score = srv_activate(&act, x[c * step]);
        if (!((double)score > w->score_threshold)) continue;
        srv_box b = srv_box_around(a->cx + d[0] * s->near * a->w, a->cy + d[step] * s->near * a->h, a->w * grown(d[2 * step] * s->size),
                                   a->h * grown(d[3 * step] * s->size), score, c - s->background, source);
        b.x1 = fminf(fmaxf(b.x1, s->within.x1), s->within.x2);
        b.x2 = fminf(fmaxf(b.x2, s->within.x1), s->within.x2);
        b.y1 = fminf(fmaxf(b.y1, s->within.y1), s->within.y2);
        b.y2 = fminf(fmaxf(b.y2, s->within.y1), s->within.y2);
        srv_boxes_add(out, b);
    }
}

static od_code decode_list(const srv_answer *w, const style *s, const srv_anchors *anchors, srv_boxes *out)
{
    const float *d = srv_floats(w, 0), *x = d ? srv_floats(w, 1) : NULL;
    int64_t n = w->outputs[0].dims[1], classes = w->outputs[1].dims[2];
    if (!x) return w->st->code;
    for (int64_t i = 0; i < n; i++) add_boxes(w, s, &anchors->list[i], d + 4 * i, x + classes * i, classes, 1, i, out);
    return OD_OK;
}

static od_code decode_maps(const srv_answer *w, const style *s, const srv_anchors *anchors, srv_boxes *out)
{
    const srv_anchor *a = anchors->list;
    int levels = w->n_outputs / 2;
    int64_t source = 0;
    if (levels != anchors->levels) return od_fail(w->st, OD_BAD_MODEL, "'strides' are %d for %d levels", anchors->levels, levels);
    for (int k = 0; k < levels; k++) {
        const eng_tensor *t = &w->outputs[k];
        const float *d = srv_floats(w, k), *x = d ? srv_floats(w, levels + k) : NULL;
        if (!x) return w->st->code;
        int64_t n = t->dims[2] * t->dims[3], each = t->dims[1] / 4, classes = w->outputs[levels + k].dims[1] / od_max_i64(each, 1);
        if (n != anchors->cells[k] || each != anchors->each[k])
            return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s': level %d has %" PRId64 " places of %" PRId64 " boxes where the card makes %" PRId64
                           " of %" PRId64, w->card->decoder, k, n, each, anchors->cells[k], anchors->each[k]);
        for (int64_t i = 0; i < n; i++)
            for (int64_t b = 0; b < each; b++, a++, source++)
                add_boxes(w, s, a, d + 4 * b * n + i, x + classes * b * n + i, classes, n, source, out);
    }
    return OD_OK;
}

static od_code decode_ssd(const srv_answer *w, srv_boxes *out)
{
    srv_anchors anchors;
    style s = style_of(w);
    s.within = edges(w);
    OD_TRY(find_anchors(w, &anchors));
    return (has_maps(w) ? decode_maps : decode_list)(w, &s, &anchors, out);
}

const srv_detector srv_ssd = {.name = "ssd", .check = check_ssd, .decode = decode_ssd};
const srv_detector srv_retinanet = {.name = "retinanet", .check = check_ssd, .decode = decode_ssd};

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
