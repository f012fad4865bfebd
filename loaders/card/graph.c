/* graph.c - what a graph says of its own use, and whether a card fits it. */
#include "loaders/card/parts.h"

#include <string.h>

eng_tensor ldr_card_shape(const eng_model *m, int v)
{
    const eng_value *value = &m->graph->values[v];
    eng_tensor t = {.dtype = value->dtype, .rank = value->rank};
    const eng_tensor *found = m->graph->probe && v < m->graph->n_probe ? &m->graph->probe[v] : NULL;
    if (found && found->dtype && !t.dtype) t.dtype = found->dtype;
    if (t.rank < 0 && found) t.rank = found->rank;
    for (int d = 0; d < t.rank; d++) {
        t.dims[d] = value->rank == t.rank ? value->dims[d] : -1;
        if (t.dims[d] < 0 && found && found->rank == t.rank) t.dims[d] = found->dims[d];
    }
    return t;
}

static int find_port(const eng_graph *g, const int *ports, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(g->values[ports[i]].name, name)) return i;
    return -1;
}

int ldr_card_input_at(const eng_model *m, const char *name)
{
    return find_port(m->graph, m->graph->inputs, m->graph->n_inputs, name);
}

int ldr_card_output_at(const eng_model *m, const char *name)
{
    return find_port(m->graph, m->graph->outputs, m->graph->n_outputs, name);
}

/* ---- guessing ----------------------------------------------------------------------------- */

typedef enum ending { END_PLAIN, END_SOFTMAX, END_SIGMOID } ending;

/* The last thing that is computed on the way to output `o`, behind what only moves data. */
static ending graph_end(const eng_model *m, int o)
{
    static const char *const movers[] = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast",
                                         "Dropout"};
    const eng_graph *g = m->graph;
    int v = g->outputs[o];
    for (int steps = 0; steps < 16; steps++) {
        int at = g->values[v].producer;
        if (at < 0) return END_PLAIN;
        const eng_node *n = &g->nodes[at];
        if (n->fused.act == ENG_ACT_SIGMOID || !strcmp(n->op_type, "Sigmoid")) return END_SIGMOID;
        if (!strcmp(n->op_type, "Softmax")) return END_SOFTMAX;
        bool moves = false;
        for (size_t i = 0; i < OD_COUNT(movers); i++) moves = moves || !strcmp(n->op_type, movers[i]);
        if (!moves || n->n_in < 1 || n->in[0] < 0) return END_PLAIN;
        v = n->in[0];
    }
    return END_PLAIN;
}

const char *ldr_card_scores(const eng_model *m, int output)
{
    return graph_end(m, output) == END_PLAIN ? "softmax" : "probabilities";
}

/* An input's extents as those of a batch: of three extents, as torchvision's detectors take, the batch is 1. */
static eng_tensor batch_shape(const eng_value *v)
{
    eng_tensor t = {.dtype = v->dtype, .rank = v->rank, .dims = {1}};
    if (v->rank == 3) memcpy(t.dims + 1, v->dims, 3 * sizeof *t.dims);
    if (v->rank == 4) memcpy(t.dims, v->dims, 4 * sizeof *t.dims);
    return t;
}

/* Does the input take levels as they are? */
static bool is_whole(const eng_value *v)
{
    return v->dtype == ENG_UINT8 || v->dtype == ENG_INT32;
}

/* The first input that can be a picture, or -1. Three extents, or int32, are one only where they are fixed enough to tell. */
static int picture_input(const eng_model *m, bool *nhwc, int *channels)
{
    const eng_graph *g = m->graph;
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        if (v->constant || (v->rank != 4 && v->rank != 3) || !(is_whole(v) || v->dtype == ENG_FLOAT || v->dtype == ENG_FLOAT16)) continue;
        eng_tensor t = batch_shape(v);
        int64_t first = t.dims[1], last = t.dims[3];
        if ((v->rank == 3 || v->dtype == ENG_INT32) && first != 3 && last != 3) continue;
        *nhwc = first != 1 && first != 3 && (last == 1 || last == 3);
        int64_t c = *nhwc ? last : first;
        if (c != 1 && c != 3 && c != -1) continue;
        *channels = c == 1 ? 1 : 3;
        return i;
    }
    return -1;
}

/* Outputs whose names say what they are: the card reads these, in this order. */
static const struct names_said {
    ldr_task task;
    const char *decoder, *outputs[4];
} names_said[] = {
    {LDR_TASK_DETECT, "torchvision", {"boxes", "labels", "scores", "masks"}},
    {LDR_TASK_DETECT, "torchvision", {"boxes", "labels", "scores", "keypoints"}},
    {LDR_TASK_DETECT, "torchvision", {"boxes", "labels", "scores"}},
    {LDR_TASK_DETECT, "tf-od", {"detection_boxes", "detection_classes", "detection_scores", "num_detections"}},
    {LDR_TASK_DETECT, "detr", {"logits", "pred_boxes"}},
    {LDR_TASK_DETECT, "detr", {"logits", "boxes"}},
    {LDR_TASK_POSE, "simcc", {"simcc_x", "simcc_y"}}, /* MMPose's, as MMDeploy exports them */
};

static ldr_task guess_by_names(const eng_model *m, ldr_card *card, od_arena *a)
{
    for (size_t i = 0; i < OD_COUNT(names_said); i++) {
        int n = 0, at[4] = {0};
        while (n < 4 && names_said[i].outputs[n] && (at[n] = ldr_card_output_at(m, names_said[i].outputs[n])) >= 0) n++;
        if (n < 2 || (n < 4 && names_said[i].outputs[n])) continue;
        int *outputs = od_arena_array(a, int, n);
        if (!outputs) return LDR_TASK_NONE;
        memcpy(outputs, at, (size_t)n * sizeof *outputs);
        card->outputs = outputs;
        card->n_outputs = n;
        card->decoder = names_said[i].decoder;
        return names_said[i].task;
    }
    return LDR_TASK_NONE;
}

static bool is_shape(const eng_tensor *t, bool integers, int rank, int64_t last)
{
    return t->rank == rank && (integers ? ENG_T(t->dtype) & ENG_T_INT : t->dtype == ENG_FLOAT) != 0 &&
           (last < 0 || t->dims[rank - 1] == last);
}

/* torchvision's detectors exported without names: boxes [N, 4], and labels and scores [N] in either order, for a picture of
 * three extents. What lies behind them stays unread. */
static bool guess_unnamed_lists(const eng_model *m, ldr_card *card, od_arena *a)
{
    const eng_graph *g = m->graph;
    if (g->n_outputs < 3 || g->values[g->inputs[card->input]].rank != 3) return false;
    eng_tensor t[3];
    for (int i = 0; i < 3; i++) t[i] = ldr_card_shape(m, g->outputs[i]);
    int labels = is_shape(&t[1], true, 1, -1) ? 1 : 2;
    int *outputs = od_arena_array(a, int, 3);
    if (!outputs || !is_shape(&t[0], false, 2, 4) || !is_shape(&t[labels], true, 1, -1) || !is_shape(&t[3 - labels], false, 1, -1))
        return false;
    outputs[1] = labels;
    outputs[2] = 3 - labels;
    card->outputs = outputs;
    card->n_outputs = 3;
    card->decoder = "torchvision";
    return true;
}

/* MoveNet's one person, or its six with their boxes. */
static ldr_task guess_movenet(eng_tensor t, ldr_card *card)
{
    static const char *const person[] = {"person"};
    static const char *const points[] = {"nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder",
                                         "left elbow", "right elbow", "left wrist", "right wrist", "left hip", "right hip",
                                         "left knee", "right knee", "left ankle", "right ankle"};
    bool one = t.rank == 4 && t.dims[1] == 1 && t.dims[2] == 17 && t.dims[3] == 3, six = t.rank == 3 && t.dims[1] == 6 && t.dims[2] == 56;
    if (!one && !six) return LDR_TASK_NONE;
    card->decoder = "movenet";
    card->labels = one ? points : person;
    card->n_labels = one ? (int)OD_COUNT(points) : 1;
    return one ? LDR_TASK_POSE : LDR_TASK_DETECT;
}

static bool is_map(eng_tensor t)
{
    return t.rank == 4 && t.dims[1] > 1 && t.dims[2] != 1 && t.dims[3] != 1;
}

/* Which task outputs of these shapes are for. */
static ldr_task guess_task(const eng_model *m, ldr_card *card, od_arena *a)
{
    const eng_graph *g = m->graph;
    const char **decoder = &card->decoder;
    if (!g->n_outputs) return LDR_TASK_NONE;
    ldr_task named = guess_by_names(m, card, a);
    if (named != LDR_TASK_NONE) return named;
    if (guess_unnamed_lists(m, card, a)) return LDR_TASK_DETECT;
    int out = ldr_card_output_at(m, "out"); /* torchvision's segmentation, often with "aux" too */
    bool map = out >= 0 && (g->n_outputs > 1 || is_map(ldr_card_shape(m, g->outputs[out])));
    int *outputs = map ? od_arena_array(a, int, 1) : NULL;
    if (outputs) {
        outputs[0] = out;
        card->outputs = outputs;
        card->n_outputs = 1;
        *decoder = "argmax";
        return LDR_TASK_SEGMENT;
    }
    eng_tensor t = ldr_card_shape(m, g->outputs[0]);
    ldr_task people = g->n_outputs == 1 ? guess_movenet(t, card) : LDR_TASK_NONE;
    if (people != LDR_TASK_NONE) return people;
    ending end = graph_end(m, 0);
    bool flat = t.rank == 2 || (t.rank == 4 && t.dims[2] == 1 && t.dims[3] == 1);
    if (flat && t.dims[1] > 1 && g->n_outputs == 1) {
        *decoder = end == END_PLAIN ? "softmax" : "probabilities";
        return LDR_TASK_CLASSIFY;
    }
    bool colors = t.rank == 4 && t.dims[1] == 3 && end != END_SOFTMAX; /* perhaps a picture */
    if (g->n_outputs == 1 && t.rank == 4 && t.dims[1] >= 1 && t.dims[1] <= 256 && !colors) {
        *decoder = t.dims[1] > 1 ? "argmax" : end == END_PLAIN ? "sigmoid" : "probabilities";
        return LDR_TASK_SEGMENT;
    }
    if (g->n_outputs == 1 && t.rank == 3 && t.dims[1] > 4 && t.dims[2] > 8 * t.dims[1]) {
        *decoder = "yolov8";
        return LDR_TASK_DETECT;
    }
    if (g->n_outputs == 1 && t.rank == 3 && t.dims[2] > 5 && t.dims[1] > 8 * t.dims[2]) {
        *decoder = "yolov5";
        return LDR_TASK_DETECT;
    }
    if (g->n_outputs == 1 && t.rank == 3 && t.dims[2] == 6 && t.dims[1] <= 1000) {
        *decoder = "yolov10";
        return LDR_TASK_DETECT;
    }
    return LDR_TASK_NONE;
}

void ldr_card_task_defaults(ldr_card *card, ldr_task task)
{
    card->task = task;
    card->top_k = 5;
    card->max_detections = 100;
    card->score_threshold = task == LDR_TASK_DETECT || task == LDR_TASK_POSE ? 0.25 : task == LDR_TASK_SEGMENT ? 0.5 : 0;
    card->iou_threshold = 0.45;
}

enum { TORCHVISION_SHORTER = 520, /* of its presets for segmentation */
       MOVENET_LONGER = 256 };

/* Extents that a graph leaves free, by what networks of the task are mostly trained on. */
static int64_t usual_side(ldr_task task)
{
    return task == LDR_TASK_DETECT || task == LDR_TASK_POSE ? 640 : task == LDR_TASK_SEGMENT ? 512 : 224;
}

void ldr_card_guess(const eng_model *m, od_arena *a, ldr_card *card)
{
    int channels = 3;
    *card = (ldr_card){.source = card->source, .max_batch_size = -1, .max_queue_delay_us = -1, .max_queue = -1, .timeout_us = -1};
    int input = picture_input(m, &card->nhwc, &channels);
    if (input >= 0) card->input = input;
    ldr_card_task_defaults(card, input < 0 ? LDR_TASK_NONE : guess_task(m, card, a));
    if (input < 0) return;
    const eng_value *v = &m->graph->values[m->graph->inputs[input]];
    eng_tensor t = batch_shape(v);
    int64_t height = t.dims[card->nhwc ? 1 : 2], width = t.dims[card->nhwc ? 2 : 3];
    card->pre = (ldr_preprocess){.width = width > 0 ? width : usual_side(card->task),
                                 .height = height > 0 ? height : usual_side(card->task),
                                 .filter = LDR_BILINEAR, .antialias = true, .channels = channels,
                                 .rescale = is_whole(v) ? 1 : 1 / 255.0f, .std = {1, 1, 1}};
    if (card->decoder && !strcmp(card->decoder, "movenet")) { /* levels, padded with black */
        card->pre.fit = LDR_FIT_LETTERBOX;
        card->pre.centered = card->pre.enlarge = true;
        card->pre.antialias = false;
        card->pre.rescale = 1;
        if (width < 0 && height < 0) card->pre.width = card->pre.height = MOVENET_LONGER, card->pre.multiple = 32;
    } else if (card->task == LDR_TASK_DETECT && card->decoder && !strncmp(card->decoder, "yolo", 4)) {
        card->pre.fit = LDR_FIT_LETTERBOX;
        card->pre.centered = card->pre.enlarge = true;
        memset(card->pre.pad, 114, 3);
        card->pre.antialias = false;
    } else if (card->task == LDR_TASK_DETECT && card->outputs && card->decoder && strcmp(card->decoder, "detr") != 0) {
        /* these resize and normalise inside */
        if (width < 0 && height < 0) card->pre.fit = LDR_FIT_NONE;
    } else if (!is_whole(v) && channels == 3 && card->task != LDR_TASK_NONE) { /* ImageNet's, which torchvision uses */
        static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
        memcpy(card->pre.mean, mean, sizeof mean);
        memcpy(card->pre.std, std, sizeof std);
    }
    if (card->task == LDR_TASK_SEGMENT && card->outputs && height < 0 && width < 0) {
        card->pre.fit = LDR_FIT_SHORTER;
        card->pre.shorter = TORCHVISION_SHORTER;
    }
    if (card->decoder && !strcmp(card->decoder, "simcc")) { /* top-down: room around the person */
        card->pre.fit = LDR_FIT_AFFINE;
        card->pre.margin = 0.125f;
    }
    if (card->task == LDR_TASK_CLASSIFY && card->pre.width == card->pre.height) {
        card->pre.fit = LDR_FIT_CROP;
        card->pre.shorter = card->pre.width * 8 / 7; /* 256 for 224 */
    }
}

/* ---- checking ----------------------------------------------------------------------------- */

/* Numbers that other tools' files give must be within what a model.json may say; whole ones of zero or less are unset. */
static od_code check_ranges(const ldr_field *fields, int n, const void *object, od_status *st)
{
    for (int i = 0; i < n; i++) {
        const ldr_field *f = &fields[i];
        const char *at = (const char *)object + f->offset;
        double x[3] = {f->lo, f->lo, f->lo};
        if (f->kind == LDR_FIELD_INT && *(const int64_t *)(const void *)at > 0) x[0] = (double)*(const int64_t *)(const void *)at;
        if (f->kind == LDR_FIELD_DOUBLE) x[0] = *(const double *)(const void *)at;
        if (f->kind == LDR_FIELD_FLOAT) x[0] = (double)*(const float *)(const void *)at;
        for (int c = 0; f->kind == LDR_FIELD_FLOATS && c < 3; c++) x[c] = (double)((const float *)(const void *)at)[c];
        for (int c = 0; c < 3; c++)
            if (!(x[c] >= f->lo && x[c] <= f->hi))
                return od_fail(st, OD_BAD_MODEL, "'%s' is %.9g; a number from %.9g to %.9g is wanted", f->key, x[c], f->lo, f->hi);
    }
    return OD_OK;
}

static od_code check_extent(const char *key, int64_t said, int64_t graph, bool fixed, od_status *st)
{
    if (graph < 0) return OD_OK;
    if (!fixed)
        return od_fail(st, OD_BAD_MODEL, "'fit': the model's input has a fixed %s of %" PRId64 ", which this fit leaves open", key,
                       graph);
    if (said != graph)
        return od_fail(st, OD_BAD_MODEL, "'%s' is %" PRId64 "; the model's input has %" PRId64, key, said, graph);
    return OD_OK;
}

/* Crops are cut out of what the picture is resized to, which must be larger than the input. */
static od_code check_crops(const ldr_card *card, od_status *st)
{
    const ldr_preprocess *p = &card->pre;
    if (card->crop_mean && card->crops <= 1) return od_fail(st, OD_BAD_MODEL, "'crop_mean' is for 'crops' of 5 or 10");
    if (card->crops <= 1) return OD_OK;
    if (card->crops != 5 && card->crops != 10) return od_fail(st, OD_BAD_MODEL, "'crops' is %" PRId64 "; 1, 5 or 10 is wanted", card->crops);
    if (card->task != LDR_TASK_CLASSIFY) return od_fail(st, OD_BAD_MODEL, "'crops' is for task classify");
    if (p->fit != LDR_FIT_CROP) return od_fail(st, OD_BAD_MODEL, "'crops' wants the 'fit' crop");
    bool small = p->resize_width ? p->resize_width < p->width || p->resize_height < p->height
                                 : p->shorter && p->shorter < od_min_i64(p->width, p->height);
    if (small) return od_fail(st, OD_BAD_MODEL, "'crops': what pictures are resized to does not hold crops of %" PRId64 " x %" PRId64, p->width, p->height);
    return OD_OK;
}

od_code ldr_card_check(const ldr_card *card, const eng_model *m, od_status *st)
{
    OD_TRY(check_ranges(ldr_card_fields, ldr_card_fields_count, card, st));
    OD_TRY(check_crops(card, st));
    if (card->class_agnostic && card->task != LDR_TASK_DETECT) return od_fail(st, OD_BAD_MODEL, "'class_agnostic' is for task detect");
    if (card->task == LDR_TASK_NONE) return OD_OK;
    const ldr_preprocess *p = &card->pre;
    const eng_graph *g = m->graph;
    if (card->input < 0 || card->input >= g->n_inputs)
        return od_fail(st, OD_BAD_MODEL, "'task' is '%s', but the model has no input", ldr_task_names[card->task]);
    const eng_value *v = &g->values[g->inputs[card->input]];
    if (v->rank != 4 && v->rank != 3)
        return od_fail(st, OD_BAD_MODEL, "'input': '%s' has %d extents; a picture needs 4, or 3 where there is no batch",
                       v->name, v->rank);
    eng_tensor t = batch_shape(v);
    if (!is_whole(v) && v->dtype != ENG_FLOAT && v->dtype != ENG_FLOAT16)
        return od_fail(st, OD_BAD_MODEL, "'input': '%s' is %s; float, float16, uint8 or int32 are possible", v->name,
                       eng_dtype_name(v->dtype));
    OD_TRY(check_ranges(ldr_preprocess_fields, ldr_preprocess_fields_count, p, st));
    int64_t channels = t.dims[card->nhwc ? 3 : 1];
    if (t.dims[0] > 1)
        return od_fail(st, OD_BAD_MODEL, "'input': '%s' takes %" PRId64 " pictures at once; 1 or any number is possible", v->name,
                       t.dims[0]);
    if (channels > 0 && channels != p->channels)
        return od_fail(st, OD_BAD_MODEL, "'colors' makes %d channels; the model's input '%s' has %" PRId64 " ('layout' is %s)",
                       p->channels, v->name, channels, card->nhwc ? "nhwc" : "nchw");
    bool fixed = p->fit == LDR_FIT_STRETCH || p->fit == LDR_FIT_CROP || p->fit == LDR_FIT_AFFINE || (p->fit == LDR_FIT_LETTERBOX && !p->multiple);
    if ((fixed || p->fit == LDR_FIT_LETTERBOX) && (p->width < 1 || p->height < 1))
        return od_fail(st, OD_BAD_MODEL, "'width' and 'height' are wanted: the model leaves them open");
    if (p->fit == LDR_FIT_CROP && !p->shorter && !p->longer && !(p->resize_width && p->resize_height))
        return od_fail(st, OD_BAD_MODEL, "'fit' is crop: 'shorter' or 'longer', or 'resize_width' and 'resize_height', are wanted");
    if (p->fit == LDR_FIT_SHORTER && !p->shorter) return od_fail(st, OD_BAD_MODEL, "'fit' is shorter: 'shorter' is wanted");
    if (p->fit == LDR_FIT_MULTIPLES && !p->multiple) return od_fail(st, OD_BAD_MODEL, "'fit' is multiples: 'multiple' is wanted");
    OD_TRY(check_extent("width", p->width, t.dims[card->nhwc ? 2 : 3], fixed, st));
    OD_TRY(check_extent("height", p->height, t.dims[card->nhwc ? 1 : 2], fixed, st));
    for (int c = 0; is_whole(v) && c < 3; c++)
        if (p->rescale != 1 || p->mean[c] != 0 || p->std[c] != 1)
            return od_fail(st, OD_BAD_MODEL, "'rescale', 'mean', 'std': the model's input is %s, so 1, 0 and 1 are wanted", eng_dtype_name(v->dtype));
    return OD_OK;
}
