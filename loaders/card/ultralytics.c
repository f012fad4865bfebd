/* ultralytics.c - what Ultralytics' exporters leave in the ONNX file: task, names, stride, imgsz, kpt_shape. The
 * older YOLOv5 leaves names and stride only. */
#include "loaders/card/parts.h"

#include <stdlib.h>
#include <string.h>

static const char *metadata(const eng_model *m, const char *key)
{
    for (int i = 0; i < m->info.n_metadata; i++)
        if (!strcmp(m->info.metadata_keys[i], key)) return m->info.metadata_values[i];
    return NULL;
}

/* The texts between quotes in Python's way of writing {0: 'a', 1: "b"} or ['a', 'b'], in order; their number.
 * `out` NULL: count only. -1: no memory. */
static int quoted_texts(const char *s, const char **out, od_arena *a)
{
    int n = 0;
    for (; *s; s++) {
        if (*s != '\'' && *s != '"') continue;
        char quote = *s++, *text = out ? od_arena_strdup(a, s, strlen(s)) : NULL;
        size_t len = 0;
        if (out && !text) return -1;
        for (; *s && *s != quote; s++) {
            if (*s == '\\' && s[1]) s++;
            if (text) text[len] = *s;
            len++;
        }
        if (text) {
            text[len] = 0;
            out[n] = text;
        }
        n++;
        if (!*s) break;
    }
    return n;
}

/* Up to `most` whole numbers of "[640, 480]"; their number. */
static int whole_numbers(const char *s, int64_t *out, int most)
{
    int n = 0;
    while (s && *s && n < most) {
        char *end;
        long long x = strtoll(s, &end, 10);
        if (end == s) s++;
        else {
            out[n++] = x;
            s = end;
        }
    }
    return n;
}

static od_code take_names(const char *names, od_arena *a, ldr_card *card, od_status *st)
{
    enum { LENGTH_MAX = 1 << 16 }; /* each name is cut from a copy of the rest */
    if (strlen(names) > LENGTH_MAX) return OD_OK;
    int n = quoted_texts(names, NULL, a);
    const char **labels = od_arena_array(a, const char *, n);
    if (!labels || quoted_texts(names, labels, a) < 0) return od_fail(st, OD_NO_MEMORY, "%d labels", n);
    card->labels = labels;
    card->n_labels = n;
    return OD_OK;
}

static od_code add_param(ldr_card *card, const char *name, int n, const int64_t *values, od_arena *a, od_status *st)
{
    struct ldr_card_param *p = od_arena_array(a, struct ldr_card_param, card->n_params + 1);
    double *x = od_arena_array(a, double, n);
    if (!p || !x) return od_fail(st, OD_NO_MEMORY, "'%s'", name);
    for (int i = 0; i < n; i++) x[i] = (double)values[i];
    if (card->n_params) memcpy(p, card->params, (size_t)card->n_params * sizeof *p);
    p[card->n_params++] = (struct ldr_card_param){name, n, x};
    card->params = p;
    return OD_OK;
}

/* RT-DETR leaves the same metadata as YOLO, but its boxes are relative to a stretched picture, and do not overlap: rows of a
 * box and the scores of all classes, or as later versions export it, of a box, a score and a class. */
static bool is_rtdetr(const eng_model *m, const ldr_card *card)
{
    const char *head = metadata(m, "head");
    eng_tensor t = ldr_card_shape(m, m->graph->outputs[0]);
    if (head) return !strcmp(head, "RTDETRDecoder");
    return t.rank == 3 && t.dims[2] == 4 + card->n_labels && t.dims[1] != 4 + card->n_labels && t.dims[1] <= 1000;
}

static od_code take_rtdetr(const eng_model *m, ldr_card *card, od_arena *a, od_status *st)
{
    ldr_preprocess *p = &card->pre;
    p->fit = LDR_FIT_STRETCH;
    p->centered = p->enlarge = false;
    p->multiple = 0;
    memset(p->pad, 0, sizeof p->pad);
    card->iou_threshold = 1;
    OD_TRY(add_param(card, "normalized", 1, (int64_t[]){1}, a, st));
    eng_tensor t = ldr_card_shape(m, m->graph->outputs[0]);
    if (t.rank != 3 || t.dims[2] != 6 || (card->n_labels == 2 && !metadata(m, "head"))) return OD_OK;
    card->decoder = "yolov10";
    return add_param(card, "centered", 1, (int64_t[]){1}, a, st);
}

/* Are the rows finished boxes? The network's own ("end2end"), or suppressed in the graph (nms in "args"); older exports say
 * neither, but have 300 rows. */
static bool is_finished(const eng_model *m, int64_t extra, int classes)
{
    const char *end2end = metadata(m, "end2end"), *args = metadata(m, "args");
    bool said = (end2end && !strcmp(end2end, "True")) || (args && strstr(args, "'nms': True"));
    eng_tensor t = ldr_card_shape(m, m->graph->outputs[0]);
    return said || (t.rank == 3 && t.dims[1] == 300 && t.dims[2] == 6 + extra && classes != 2);
}

/* The decoder, from the task and whether the rows are finished. */
static const char *decoder_of(const eng_model *m, const char *task, int64_t keypoints, int classes)
{
    static const struct { const char *task, *raw, *finished; } known[] = {
        {"segment", "yolov8-seg", "yolov10-seg"}, {"pose", "yolov8-pose", "yolov10-pose"}, {"obb", "yolov8-obb", "yolov10-obb"},
        {"detect", "yolov8", "yolov10"}};
    eng_tensor protos = m->graph->n_outputs > 1 ? ldr_card_shape(m, m->graph->outputs[1]) : (eng_tensor){.rank = -1};
    for (size_t i = 0; i < OD_COUNT(known); i++) {
        int64_t extra = i == 0 ? (protos.rank == 4 ? protos.dims[1] : 0) : i == 1 ? keypoints : i == 2;
        if (!strcmp(task, known[i].task)) return is_finished(m, extra, classes) ? known[i].finished : known[i].raw;
    }
    return "yolov8";
}

static od_code take_depth(ldr_card *card, od_arena *a, od_status *st)
{
    ldr_card_task_defaults(card, LDR_TASK_IMAGE);
    card->decoder = "depth";
    return add_param(card, "align_corners", 1, (int64_t[]){1}, a, st);
}

od_code ldr_card_from_ultralytics(const eng_model *m, od_arena *a, ldr_card *card, bool *found, od_status *st)
{
    const char *names = metadata(m, "names"), *stride = metadata(m, "stride"), *task = metadata(m, "task");
    int64_t size[2] = {640, 640}, steps = 32;
    *found = names && stride && m->graph->n_outputs > 0 && m->graph->n_inputs > 0;
    if (!*found) return OD_OK;
    OD_TRY(take_names(names, a, card, st));
    whole_numbers(stride, &steps, 1);
    ldr_preprocess *p = &card->pre;
    const eng_value *v = &m->graph->values[m->graph->inputs[card->input]];
    bool fixed = v->rank == 4 && v->dims[2] > 0 && v->dims[3] > 0;
    if (fixed) size[0] = v->dims[2], size[1] = v->dims[3];
    else if (whole_numbers(metadata(m, "imgsz"), size, 2) == 1) size[1] = size[0];
    *p = (ldr_preprocess){.height = size[0], .width = size[1], .channels = p->channels ? p->channels : 3, .filter = LDR_BILINEAR,
                          .rescale = 1 / 255.0f, .std = {1, 1, 1}};
    if (task && !strcmp(task, "depth")) return take_depth(card, a, st);
    if (task && !strcmp(task, "classify")) {
        ldr_card_task_defaults(card, LDR_TASK_CLASSIFY);
        card->decoder = "probabilities";
        p->fit = LDR_FIT_CROP;
        p->shorter = od_min_i64(size[0], size[1]);
        p->antialias = true;
        return OD_OK;
    }
    bool semantic = task && !strcmp(task, "semantic");
    ldr_card_task_defaults(card, semantic ? LDR_TASK_SEGMENT : LDR_TASK_DETECT);
    p->fit = LDR_FIT_LETTERBOX;
    p->centered = p->enlarge = true;
    p->multiple = fixed ? 0 : steps > 0 && steps <= 1024 ? steps : 32;
    memset(p->pad, 114, sizeof p->pad);
    if (semantic) { /* the best class of each place, or one channel's, may have been found in the graph */
        eng_tensor t = ldr_card_shape(m, m->graph->outputs[0]);
        card->decoder = t.rank == 3 ? "labels" : t.rank == 4 && t.dims[1] == 1 ? "sigmoid" : "argmax";
        return OD_OK;
    }
    int64_t shape[2] = {0, 0};
    bool keypoints = whole_numbers(metadata(m, "kpt_shape"), shape, 2) == 2;
    card->decoder = task ? decoder_of(m, task, shape[0] * shape[1], card->n_labels) : m->graph->n_outputs == 1 ? "yolov5" : NULL;
    card->iou_threshold = task ? 0.7 : 0.45;
    card->max_detections = 300;
    if (task && !strcmp(task, "detect") && is_rtdetr(m, card)) return take_rtdetr(m, card, a, st);
    if (!keypoints) return OD_OK;
    return add_param(card, "keypoints", 2, shape, a, st);
}
