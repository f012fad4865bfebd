/* parts.h - what the files of server/tasks share. Private to the folder.
 *
 * A decoder reads the model's outputs and nothing else of the model. It has two functions: `check` says
 * whether outputs of these types and extents can be read (extents of -1 fit everything: they are free until
 * a run), and is called at load and again before each `decode`. */
#ifndef SRV_TASKS_PARTS_H
#define SRV_TASKS_PARTS_H

#include "server/tasks/region.h"

/* A map of labels, row by row, of the picture's size. */
typedef struct srv_map {
    int64_t width, height;
    uint16_t *labels;
    uint16_t *scratch; /* as large; used by the functions below, which make it */
} srv_map;

typedef struct srv_answer {
    const ldr_card *card;
    const ldr_placement *place; /* NULL at load */
    const eng_tensor *outputs;  /* those the decoder reads, in its order */
    int n_outputs;
    int64_t top_k, max_detections;
    double score_threshold, iou_threshold, soft_nms;
    bool class_agnostic;
    srv_mask mask;
    srv_format format;
    srv_picture *picture; /* whose regions are wanted; NULL: they are not */
    srv_map *map; /* one that decoders may use, for one thing after another: see srv_map_clear */
    od_arena *a;  /* the text grows in it, so nothing is given back before the end */
    srv_text *json;
    od_status *st;
    struct srv_judge *judge;       /* NULL: the answer is written */
    const struct srv_answer *next; /* the picture's next view, of which only card, outputs and st are set; NULL: there is none */
    bool mean_of_outputs;          /* of views */
} srv_answer;

/* ---- answer.c: help for decoders ---- */

/* Output `i` has these extents; -1 on either side fits. OD_BAD_SHAPE. */
od_code srv_want(const srv_answer *w, int i, int rank, const int64_t *dims);

/* The card names no more than the one output that is read. OD_BAD_MODEL. */
od_code srv_want_one(const srv_answer *w);

/* The elements of output `i` as floats, converted where need be. NULL: no memory, or no numbers; the status is set. */
const float *srv_floats(const srv_answer *w, int i);

/* The card's labels are as many as the model's classes. Below 1: unknown. OD_BAD_MODEL. */
od_code srv_check_labels(const srv_answer *w, int64_t classes);

/* `"label":...,"index":...,"score":...`; the label of class `i` is null where the card has none. */
void srv_add_class(srv_text *json, const ldr_card *card, int64_t i, float score);
void srv_add_label(srv_text *json, const ldr_card *card, int64_t i);

static inline float srv_sigmoid(float x)
{
    return 1.0f / (1.0f + __builtin_expf(-x));
}

/* The outputs that the decoder reads, checked, as floats, with what the query asks. */
od_code srv_answer_open(srv_answer *w, const ldr_card *card, const srv_picture *p, const eng_tensor *outputs, const srv_query *q, od_arena *a,
                        od_status *st);

void srv_add_array(srv_text *json, const float *x, int64_t n);

/* `"shape":[...],"datatype":"FP32"`, and the numbers as `"data":[...]`, flat, or as `"base64":"..."` of their bytes, the least first. */
void srv_add_floats(const srv_answer *w, const float *x, int rank, const int64_t *dims);

/* ---- views.c: several crops of a picture ---- */

/* How many views the picture makes. OD_BAD_ARGUMENT: crops that cannot be had. */
od_code srv_views_count(const ldr_card *card, const eng_model *m, const srv_query *q, const ldr_placement *whole, int64_t *n, od_status *st);

/* View `k` behind those before it, which are made; `views` is the first, the input of batch extent 1 (rank 4), `centre` its place. */
od_code srv_view_make(const ldr_card *card, const ldr_pixels *px, const ldr_placement *centre, int64_t k, const eng_tensor *views, od_arena *a, od_status *st);

/* A card with the decoder and labels of its head `h`; NULL: the card. */
ldr_card srv_head_card(const ldr_card *card, const struct ldr_card_head *h);

/* The score of class `index` of head `h` (NULL: there is but one list); below 0: of the best, which is put there.
 * OD_BAD_ARGUMENT: no such class. */
od_code srv_class_score(const srv_answer *w, const struct ldr_card_head *h, int64_t *index, float *score);

/* The class of each pixel; not of decoders that give segments. */
od_code srv_segment_labels(const srv_answer *w, srv_map *m);

/* ---- target.c: instances are compared instead of written ---- */

typedef struct srv_judge {
    struct srv_target *target; /* explain.h */
    bool keep;      /* its mask or points are to be found; else others are compared with them */
    float like;     /* how like it the last one was, 0 to 1 */
    int64_t number; /* of segments: the first that may be it */
    bool found;
    float best;     /* likeness times score, of all segments */
} srv_judge;

/* May an instance of this label be looked for? */
bool srv_judge_wants(const srv_judge *j, int64_t label);
/* Pixels of `label` in the map; points [n][3] as srv_add_keypoints has them. OD_NO_MEMORY. */
od_code srv_judge_mask(const srv_answer *w, const srv_map *m, int label);
od_code srv_judge_points(const srv_answer *w, const float *points, int64_t n);
/* Segment `number` of the answer, whose pixels are those of `value` in the map. */
od_code srv_judge_segment(const srv_answer *w, int64_t number, int64_t label, float score, const srv_map *m, int value);

/* ---- tasks ---- */

typedef struct srv_task {
    od_code (*check)(const srv_answer *w);
    od_code (*answer)(const srv_answer *w); /* after check; appends to w->json */
} srv_task;

extern const srv_task srv_classify, srv_detect, srv_segment, srv_pose, srv_embed, srv_image;

/* ---- detectors ---- */

typedef struct srv_box {
    float x1, y1, x2, y2; /* corners, in pixels of the model's input */
    float score;
    float angle;          /* of boxes that are turned about their centre, in radians from x to y */
    int32_t label;
    int32_t source;       /* the decoder's own: which row of its output this was */
} srv_box;

typedef struct srv_boxes {
    srv_box *list;
    int64_t n, cap;
    od_arena *a;
    bool full; /* no memory */
} srv_boxes;

void srv_boxes_add(srv_boxes *b, srv_box box);

/* A box from its centre and size. */
static inline srv_box srv_box_around(float cx, float cy, float w, float h, float score, int64_t label, int64_t source)
{
    return (srv_box){.x1 = cx - w / 2, .y1 = cy - h / 2, .x2 = cx + w / 2, .y2 = cy + h / 2, .score = score,
                     .label = (int32_t)label, .source = (int32_t)source};
}

/* How much two boxes overlap, 0 to 1. */
typedef float srv_overlap_fn(const srv_box *a, const srv_box *b);
float srv_overlap(const srv_box *a, const srv_box *b);

/* What an answer of the detector has, best first. */
od_code srv_detect_boxes(const srv_answer *w, srv_boxes *out);

/* What it has of one of them besides: written, or judged. */
od_code srv_detect_more(const srv_answer *w, const srv_box *box);

/* How much two of its boxes overlap, 0 to 1. */
float srv_detect_overlap(const srv_answer *w, const srv_box *a, const srv_box *b);

typedef struct srv_detector {
    const char *name;
    int n_outputs; /* that it reads; 0: any number */
    od_code (*check)(const srv_answer *w);
    od_code (*decode)(const srv_answer *w, srv_boxes *out);
    /* More members of a detection's JSON object, each with a comma before it; NULL: none. */
    od_code (*more)(const srv_answer *w, const srv_box *box);
    srv_overlap_fn *overlap; /* NULL: srv_overlap */
    bool fast_nms;           /* boxes that are gone still suppress others (Bolya et al., "YOLACT") */
    bool no_nms;             /* its boxes do not overlap by training, or suppression is in the graph */
} srv_detector;

extern const srv_detector srv_yolov8, srv_yolov8_seg, srv_yolov8_pose, srv_yolov8_obb, srv_yolov10, srv_yolov10_seg,
    srv_yolov10_pose, srv_yolov10_obb, srv_yolov5, srv_yolov5_heads,
    srv_yolov3, srv_yolox, srv_detr, srv_rtdetr, srv_torchvision, srv_tf_od, srv_scored_boxes, srv_ultraface, srv_ssd,
    srv_blazeface, srv_nanodet, srv_centernet, srv_fcos, srv_fastestdet, srv_movenet, srv_posenet, srv_retinanet, srv_yolov8_heads;

/* ---- detect/anchors.c ---- */

enum { SRV_LEVELS_MAX = 16 };

typedef struct srv_anchor {
    float cx, cy, w, h; /* in pixels of the input */
} srv_anchor;

/* Level by level, row by row, cell by cell, as heads have them. */
typedef struct srv_anchors {
    srv_anchor *list;
    int64_t n;
    int levels;
    int64_t cells[SRV_LEVELS_MAX], each[SRV_LEVELS_MAX]; /* cells of a level, anchors of a cell */
} srv_anchors;

/* The card's parameters of anchors are possible. OD_BAD_MODEL. */
od_code srv_anchors_check(const srv_answer *w);

/* The anchors of the input at hand, after the check. OD_BAD_SHAPE: they are not so many as `boxes`; OD_NO_MEMORY. */
od_code srv_anchors_make(const srv_answer *w, int64_t boxes, srv_anchors *out);

/* The mean of the numbers of `bins` bins by the softmax of `x`, which lie `step` apart; of one bin x itself. */
float srv_expectation(const float *x, int64_t bins, int64_t step);

/* Keep the best of each heap of overlapping boxes: sorted by score, at most `most`. `agnostic`: boxes of
 * different labels suppress each other too. `fast`: so do boxes that are not kept themselves. */
void srv_nms(srv_boxes *b, double iou_threshold, bool agnostic, int64_t most, srv_overlap_fn *overlap, bool fast);

/* From pixels of the input to those of the picture. */
double srv_to_picture_x(const srv_answer *w, float x);
double srv_to_picture_y(const srv_answer *w, float y);

/* `x` to the hundredth of a pixel, as JSON. */
void srv_add_pixel(srv_text *json, double x);

/* `,"keypoints":[[x,y,score],...]` of points [n][3]: x and y in pixels of the input, score. */
od_code srv_add_keypoints(const srv_answer *w, const float *points, int64_t n);

/* The card's parameter `name` as one number, or `otherwise`. */
double srv_number(const srv_answer *w, const char *name, double otherwise);

/* The parameter "activation": how logits of classes become scores. */
enum { SRV_AS_THEY_ARE, SRV_SIGMOID, SRV_SOFTMAX };
typedef struct srv_activation {
    int how;
    float most, scale; /* of the softmax: exp(x - most) * scale */
} srv_activation;

/* Of a box's `n` logits, 1 at least, that lie `step` apart. */
srv_activation srv_activation_of(int how, const float *x, int64_t n, int64_t step);

static inline float srv_activate(const srv_activation *a, float x)
{
    return a->how == SRV_SOFTMAX ? __builtin_expf(x - a->most) * a->scale : a->how == SRV_SIGMOID ? srv_sigmoid(x) : x;
}

/* `x` as an index from 0 to n, whatever it is. */
static inline int64_t srv_index(double x, int64_t n)
{
    return x > 0 ? x < (double)n ? (int64_t)x : n : 0; /* NaN is 0 */
}

/* ---- refine.c: heat maps of keypoints ---- */

/* The card's parameters of refinement are possible. OD_BAD_MODEL. */
od_code srv_refine_check(const srv_answer *w);

/* How far from the highest place (x, y) the peak lies, by the card's decoder; left alone where that does not smooth. */
void srv_refine(const srv_answer *w, const float *map, int64_t rows, int64_t columns, int64_t x, int64_t y, float *dx, float *dy);

/* ---- between.c: maps at the picture's size ---- */

/* Between which two columns (or rows) of a map each of the picture lies, and how far from the first. */
typedef struct srv_between {
    int32_t *first;
    float *share;
    int64_t n; /* of the map */
} srv_between;

/* For `picture` pixels that lie in `input` pixels by scale and offset, of which the map has `map`. false: no memory. */
bool srv_place_between(srv_between *b, int64_t picture, double scale, double offset, int64_t input, int64_t map, od_arena *a);

/* The same where the map's outermost places lie on the picture's outermost pixels ("align_corners"). */
bool srv_place_corners(srv_between *b, int64_t picture, int64_t map, od_arena *a);

/* Four neighbours of a map around a pixel of the picture, and where it lies between them. */
typedef struct srv_corners {
    const float *at[4]; /* upper left, upper right, lower left, lower right */
    float tx, ty;
} srv_corners;

static inline srv_corners srv_corners_at(const float *map, int64_t row, int64_t pixel, const srv_between *bx,
                                         const srv_between *by, int64_t x, int64_t y)
{
    int64_t x0 = bx->first[x], x1 = od_min_i64(x0 + 1, bx->n - 1), y0 = by->first[y], y1 = od_min_i64(y0 + 1, by->n - 1);
    const float *up = map + y0 * row, *down = map + y1 * row;
    return (srv_corners){{up + x0 * pixel, up + x1 * pixel, down + x0 * pixel, down + x1 * pixel}, bx->share[x], by->share[y]};
}

static inline float srv_interpolate(const srv_corners *c, int64_t offset)
{
    float up = c->at[0][offset] + (c->at[1][offset] - c->at[0][offset]) * c->tx;
    float down = c->at[2][offset] + (c->at[3][offset] - c->at[2][offset]) * c->tx;
    return up + (down - up) * c->ty;
}

/* ---- queries.c: masks of queries ---- */

/* Are there two outputs, classes and masks of queries, of such extents; how many classes, 0: unknown. */
od_code srv_queries_check(const srv_answer *w, int64_t *classes);

/* Scores of the classes at each place, `classes` maps of `height` x `width`. NULL: the status is set. */
const float *srv_queries_sum(const srv_answer *w, int64_t *classes, int64_t *height, int64_t *width);

/* Is it "maskformer-instance" or "maskformer-panoptic"? Append `"segmentation":{"size":[...],"segments":[...]}` then. */
bool srv_gives_segments(const srv_answer *w);
od_code srv_queries_answer(const srv_answer *w);

/* ---- masks ---- */

/* All of w->map zero, at the picture's size. */
od_code srv_map_clear(const srv_answer *w);

/* The pixels of each label as COCO's compressed run lengths: texts[l] for each l < n. */
od_code srv_map_rle(srv_map *m, int n, srv_text *texts, od_arena *a, od_status *st);

/* `[[x,y,...],...]`: the borders of the pixels of `label`, along pixel edges, holes as rings of their own: filling
 * all rings by the even-odd rule gives the pixels back. */
od_code srv_map_polygons(srv_map *m, int label, srv_text *json, od_arena *a, od_status *st);

/* The pixels of `label` as the request wants them: `,"mask":{...}`, `,"polygons":[...]`, `,"png":"..."` or nothing.
 * `rle`: run lengths made before, or NULL. */
od_code srv_add_mask(const srv_answer *w, srv_map *m, int label, const srv_text *rle);

/* Base64 of bytes, in quotes. */
void srv_add_base64(srv_text *t, const void *bytes, size_t size);

/* Base64 of a picture's PNG, in quotes. */
od_code srv_add_png(srv_text *json, const ldr_pixels *p, od_arena *a, od_status *st);

/* Base64 of an 8-bit PNG whose levels are the labels, in quotes. OD_UNSUPPORTED: labels above 255. */
od_code srv_map_png(srv_map *m, srv_text *json, od_arena *a, od_status *st);

#endif
