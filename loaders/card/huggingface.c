/* huggingface.c - folders of the Hugging Face hub: config.json with preprocessor_config.json, as Optimum
 * exports them, and timm's config.json with its pretrained_cfg. These files hold much that is not for us, so
 * unknown keys are passed over. */
#include "loaders/card/parts.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 16 << 20 };

static const cJSON *get(const cJSON *j, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(j, key);
}

static int64_t whole(const cJSON *j, int64_t otherwise)
{
    return cJSON_IsNumber(j) && j->valuedouble >= 1 && j->valuedouble <= 1 << 20 ? (int64_t)j->valuedouble : otherwise;
}

static bool is_on(const cJSON *j, const char *key, bool otherwise)
{
    const cJSON *x = get(j, key);
    return cJSON_IsBool(x) ? cJSON_IsTrue(x) : otherwise;
}

static void three(const cJSON *j, float out[3])
{
    int n = cJSON_IsArray(j) ? cJSON_GetArraySize(j) : 0;
    for (int c = 0; c < 3 && n > 0; c++) {
        const cJSON *x = cJSON_GetArrayItem(j, n < 3 ? 0 : c);
        if (cJSON_IsNumber(x)) out[c] = (float)x->valuedouble;
    }
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* ---- labels ------------------------------------------------------------------------------- */

/* {"0": "cat", "1": "dog"}: the keys say the order. Gaps stay empty. */
static od_code take_id2label(const cJSON *j, od_arena *a, ldr_card *card, od_status *st)
{
    enum { LABELS_MAX = 1000000 };
    long most = -1;
    for (const cJSON *k = cJSON_IsObject(j) ? j->child : NULL; k; k = k->next) {
        char *end;
        long id = strtol(k->string, &end, 10);
        if (*end || id < 0 || id >= LABELS_MAX || !cJSON_IsString(k)) return OD_OK;
        if (id > most) most = id;
    }
    if (most < 0) return OD_OK;
    const char **labels = od_arena_array(a, const char *, most + 1);
    if (!labels) return od_fail(st, OD_NO_MEMORY, "%ld labels", most + 1);
    for (long i = 0; i <= most; i++) labels[i] = "";
    for (const cJSON *k = j->child; k; k = k->next) {
        const char *text = od_arena_strdup(a, k->valuestring, strlen(k->valuestring));
        if (!text) return od_fail(st, OD_NO_MEMORY, "%ld labels", most + 1);
        labels[strtol(k->string, NULL, 10)] = text;
    }
    card->labels = labels;
    card->n_labels = (int)most + 1;
    return OD_OK;
}

static od_code take_label_list(const cJSON *j, od_arena *a, ldr_card *card, od_status *st)
{
    int n = cJSON_IsArray(j) ? cJSON_GetArraySize(j) : 0, i = 0;
    if (!n) return OD_OK;
    const char **labels = od_arena_array(a, const char *, n);
    if (!labels) return od_fail(st, OD_NO_MEMORY, "%d labels", n);
    for (const cJSON *k = j->child; k; k = k->next, i++) {
        labels[i] = cJSON_IsString(k) ? od_arena_strdup(a, k->valuestring, strlen(k->valuestring)) : "";
        if (!labels[i]) return od_fail(st, OD_NO_MEMORY, "%d labels", n);
    }
    card->labels = labels;
    card->n_labels = n;
    return OD_OK;
}

/* ---- transformers ------------------------------------------------------------------------- */

/* Pillow's numbers of its filters; Hamming, which nobody uses, is left out. */
static ldr_filter resample(const cJSON *j)
{
    static const ldr_filter filters[] = {LDR_NEAREST, LDR_LANCZOS, LDR_BILINEAR, LDR_BICUBIC, LDR_BOX};
    return cJSON_IsNumber(j) && j->valueint >= 0 && j->valueint < (int)OD_COUNT(filters) ? filters[j->valueint] : LDR_BILINEAR;
}

static bool begins_with_any(const char *s, const char *const *names, size_t n)
{
    for (size_t i = 0; s && i < n; i++)
        if (!strncmp(s, names[i], strlen(names[i]))) return true;
    return false;
}

/* Processors whose `size`, where it is one number, means the shorter side. */
static bool number_is_shorter_side(const char *processor)
{
    static const char *const names[] = {"CLIP", "ConvNext", "DeiTImage", "Detr", "Yolos", "Deformable", "MobileNetV", "Levit",
                                        "PoolFormer", "VideoMAE", "MaskFormer", "Mask2Former"};
    return begins_with_any(processor, names, OD_COUNT(names));
}

/* Processors that stretch to multiples of `size_divisor`, where others pad. */
static bool stretches_to_multiples(const char *processor)
{
    static const char *const names[] = {"MaskFormer", "Mask2Former"};
    return begins_with_any(processor, names, OD_COUNT(names));
}

/* {"height": h, "width": w}, {"shortest_edge": s, "longest_edge": l}, or s. */
typedef struct size_said {
    int64_t width, height, shorter, longer;
} size_said;

static size_said read_size(const cJSON *j, bool shorter)
{
    if (cJSON_IsNumber(j)) {
        int64_t n = whole(j, 0);
        if (shorter) return (size_said){.shorter = n};
        return (size_said){n, n, 0, 0};
    }
    return (size_said){whole(get(j, "width"), 0), whole(get(j, "height"), 0), whole(get(j, "shortest_edge"), 0),
                       whole(get(j, "longest_edge"), 0)};
}

static void take_resize(const cJSON *j, ldr_preprocess *p)
{
    const cJSON *type = get(j, "image_processor_type") ? get(j, "image_processor_type") : get(j, "feature_extractor_type");
    const char *processor = cJSON_IsString(type) ? type->valuestring : NULL;
    size_said size = read_size(get(j, "size"), number_is_shorter_side(processor));
    size_said crop = read_size(get(j, "crop_size"), false);
    const cJSON *pct = get(j, "crop_pct");
    if (!size.longer) size.longer = whole(get(j, "max_size"), 0);
    if (cJSON_IsNumber(pct) && pct->valuedouble > 0 && size.shorter) { /* ConvNext: the size is that after the crop */
        p->width = p->height = size.shorter;
        if (size.shorter >= 384) return;
        p->fit = LDR_FIT_CROP;
        p->shorter = (int64_t)((double)size.shorter / pct->valuedouble);
    } else if (is_on(j, "do_center_crop", false) && crop.width && crop.height) {
        p->fit = LDR_FIT_CROP;
        p->shorter = size.shorter;
        p->resize_width = size.shorter ? 0 : size.width;
        p->resize_height = size.shorter ? 0 : size.height;
        p->width = crop.width;
        p->height = crop.height;
    } else if (size.width && size.height) {
        p->width = size.width;
        p->height = size.height;
    } else if (size.shorter) {
        p->fit = LDR_FIT_SHORTER;
        p->shorter = size.shorter;
        p->longer = size.longer;
    }
    const cJSON *divisor = get(j, "size_divisor");
    if (processor && !strncmp(processor, "GLPN", 4)) {
        p->fit = LDR_FIT_MULTIPLES;
        p->multiple = whole(divisor, 32);
        p->width = p->height = 0;
    } else if (is_on(j, "keep_aspect_ratio", false) && size.width && size.height) { /* DPT, Depth Anything */
        p->fit = LDR_FIT_MULTIPLES;
        p->multiple = whole(get(j, "ensure_multiple_of"), 1);
    }
    if (p->fit == LDR_FIT_SHORTER && stretches_to_multiples(processor)) {
        if ((p->multiple = whole(divisor, 0)) > 1) p->fit = LDR_FIT_MULTIPLES;
    } else if (p->fit == LDR_FIT_SHORTER && is_on(j, "do_pad", false)) p->multiple = whole(divisor, 0);
}

static void take_preprocessor(const cJSON *j, const ldr_preprocess *graph, ldr_preprocess *p)
{
    *p = (ldr_preprocess){.channels = graph->channels, .width = graph->width, .height = graph->height, .crop_floor = true,
                          .filter = resample(get(j, "resample")), .antialias = true, .rescale = 1, .std = {1, 1, 1}};
    const cJSON *factor = get(j, "rescale_factor");
    bool said = cJSON_IsNumber(factor) && factor->valuedouble > 0;
    if (is_on(j, "do_rescale", true)) p->rescale = said ? (float)factor->valuedouble : 1 / 255.0f;
    p->bgr = is_on(j, "do_flip_channel_order", false);
    if (is_on(j, "do_normalize", get(j, "image_mean") && !p->bgr)) { /* MobileViT's says nothing, but has means */
        three(get(j, "image_mean"), p->mean);
        three(get(j, "image_std"), p->std);
    }
    for (int c = 0; c < 3; c++)
        if (!(p->std[c] > 0)) p->std[c] = 1;
    const cJSON *type = get(j, "image_processor_type");
    if (cJSON_IsString(type) && !strncmp(type->valuestring, "Swin2SR", 7)) {
        p->fit = LDR_FIT_NONE;
        p->above = p->mirror = true;
        p->multiple = is_on(j, "do_pad", true) ? whole(get(j, "size_divisor"), whole(get(j, "pad_size"), 8)) : 0;
    } else if (cJSON_IsString(type) && !strncmp(type->valuestring, "VitPose", 7) && is_on(j, "do_affine_transform", true)) {
        size_said size = read_size(get(j, "size"), false);
        p->fit = LDR_FIT_AFFINE;
        p->margin = 0.125f;
        p->align_corners = true;
        if (size.width && size.height) p->width = size.width, p->height = size.height;
    } else if (is_on(j, "do_resize", true)) {
        take_resize(j, p);
    } else {
        p->fit = LDR_FIT_NONE;
    }
}

/* A task by the end of the architecture's name. */
static const struct head {
    const char *ending;
    ldr_task task;
    const char *decoder;
} heads[] = {
    {"ForImageClassification", LDR_TASK_CLASSIFY, "softmax"},
    {"ForImageClassificationWithTeacher", LDR_TASK_CLASSIFY, "softmax"},
    {"ForObjectDetection", LDR_TASK_DETECT, "detr"},
    {"ForSemanticSegmentation", LDR_TASK_SEGMENT, "argmax"},
    {"ForUniversalSegmentation", LDR_TASK_SEGMENT, "maskformer-panoptic"},
    {"ForInstanceSegmentation", LDR_TASK_SEGMENT, "maskformer-panoptic"},
    {"DetrForSegmentation", LDR_TASK_SEGMENT, "maskformer-panoptic"},
    {"ForPoseEstimation", LDR_TASK_POSE, "heatmap-udp"},
    {"ForDepthEstimation", LDR_TASK_IMAGE, "depth"},
    {"VisionModel", LDR_TASK_EMBED, NULL},
    {"VisionModelWithProjection", LDR_TASK_EMBED, NULL},
    {"ViTModel", LDR_TASK_EMBED, NULL},
    {"Dinov2Model", LDR_TASK_EMBED, NULL},
    {"ForImageSuperResolution", LDR_TASK_IMAGE, "picture"},
    {"ForImageToImage", LDR_TASK_IMAGE, "picture"},
};

/* Detectors whose scores are sigmoids without a class for nothing. */
static bool has_sigmoid_scores(const char *architecture)
{
    static const char *const names[] = {"RTDetr", "DeformableDetr", "Deta", "DFine", "ConditionalDetr", "DabDetr"};
    return begins_with_any(architecture, names, OD_COUNT(names));
}

/* Of several outputs the one that is the result, by the names that Optimum gives. */
static od_code take_output(const eng_model *m, od_arena *a, ldr_card *card, od_status *st)
{
    static const char *const names[] = {"logits", "heatmaps", "predicted_depth", "reconstruction", "image_embeds", "pooler_output",
                                        "last_hidden_state"};
    int at = -1;
    for (size_t i = 0; at < 0 && i < OD_COUNT(names); i++) at = ldr_card_output_at(m, names[i]);
    if (at < 0 || m->graph->n_outputs < 2) return OD_OK;
    int *outputs = od_arena_array(a, int, 1);
    if (!outputs) return od_fail(st, OD_NO_MEMORY, "outputs");
    outputs[0] = at;
    card->outputs = outputs;
    card->n_outputs = 1;
    return OD_OK;
}

static od_code take_two(const eng_model *m, const char *architecture, const char *first, const char *second, od_arena *a,
                        ldr_card *card, od_status *st)
{
    int *outputs = od_arena_array(a, int, 2);
    if (!outputs) return od_fail(st, OD_NO_MEMORY, "outputs");
    outputs[0] = ldr_card_output_at(m, first);
    outputs[1] = ldr_card_output_at(m, second);
    if (outputs[0] < 0 || outputs[1] < 0)
        return od_fail(st, OD_BAD_MODEL, "%.60s, but the model has no outputs '%s' and '%s'", architecture, first, second);
    card->outputs = outputs;
    card->n_outputs = 2;
    return OD_OK;
}

/* Networks whose masks belong to queries are trained for one of three answers, which only the hub's names of them tell; else
 * it is the one that transformers' own pipeline takes first. */
static od_code take_queries(const cJSON *config, const char *architecture, const eng_model *m, od_arena *a, ldr_card *card, od_status *st)
{
    static const double side[2] = {384, 384}; /* whatever the input */
    static const struct ldr_card_param enlarge = {"enlarge", 2, side};
    const cJSON *name = get(config, "_name_or_path");
    if (cJSON_IsString(name) && strstr(name->valuestring, "semantic")) card->decoder = "maskformer";
    else if (cJSON_IsString(name) && strstr(name->valuestring, "instance")) card->decoder = "maskformer-instance";
    if (begins_with_any(architecture, (const char *const[]){"Mask2Former"}, 1)) {
        card->params = &enlarge;
        card->n_params = 1;
    }
    if (ends_with(architecture, "DetrForSegmentation")) return take_two(m, architecture, "logits", "pred_masks", a, card, st);
    return take_two(m, architecture, "class_queries_logits", "masks_queries_logits", a, card, st);
}

/* ViTPose, as its processor reads heat maps. Names of classes that are as many as the points are theirs. */
static od_code take_points(const cJSON *config, const eng_model *m, od_arena *a, ldr_card *card, od_status *st)
{
    static const double one = 1, kernel = 11, sigma = 0.8;
    static const struct ldr_card_param params[] = {{"align_corners", 1, &one}, {"kernel", 1, &kernel}, {"sigma", 1, &sigma},
                                                    {"edge_twice", 1, &one}};
    card->params = params;
    card->n_params = (int)OD_COUNT(params);
    OD_TRY(take_id2label(get(config, "id2label"), a, card, st));
    eng_tensor t = ldr_card_shape(m, m->graph->outputs[card->outputs ? card->outputs[0] : 0]);
    if (t.rank == 4 && t.dims[1] != card->n_labels) card->labels = NULL, card->n_labels = 0;
    return OD_OK;
}

static od_code from_transformers(const cJSON *config, const cJSON *pre, const eng_model *m, od_arena *a, ldr_card *card,
                                 bool *found, od_status *st)
{
    const cJSON *name = cJSON_GetArrayItem(get(config, "architectures"), 0);
    const struct head *head = NULL;
    for (size_t i = 0; cJSON_IsString(name) && i < OD_COUNT(heads); i++)
        if (ends_with(name->valuestring, heads[i].ending)) head = &heads[i];
    if (!head) return OD_OK;
    *found = true;
    ldr_card_task_defaults(card, head->task);
    card->decoder = head->decoder;
    ldr_preprocess graph = card->pre;
    if (pre) take_preprocessor(pre, &graph, &card->pre);
    const cJSON *kind = get(config, "problem_type");
    if (head->task == LDR_TASK_CLASSIFY && cJSON_IsString(kind) && !strcmp(kind->valuestring, "multi_label_classification"))
        card->decoder = "sigmoid";
    if (head->task == LDR_TASK_DETECT) {
        card->score_threshold = 0.5;
        if (has_sigmoid_scores(name->valuestring)) card->decoder = "rtdetr";
        OD_TRY(take_two(m, name->valuestring, "logits", "pred_boxes", a, card, st));
        eng_tensor logits = ldr_card_shape(m, m->graph->outputs[card->outputs[0]]);
        bool as_queries = !strncmp(name->valuestring, "RTDetr", 6) || !strncmp(name->valuestring, "DFine", 5);
        if (as_queries && logits.rank == 3 && logits.dims[1] > 0) card->max_detections = od_min_i64(logits.dims[1], 1000000);
    } else if (head->decoder && !strcmp(head->decoder, "maskformer-panoptic")) {
        OD_TRY(take_queries(config, name->valuestring, m, a, card, st));
    } else {
        OD_TRY(take_output(m, a, card, st));
    }
    if (head->decoder && !strcmp(head->decoder, "depth")) {
        static const double one = 1;
        static const struct ldr_card_param cubic = {"cubic", 1, &one};
        card->params = &cubic;
        card->n_params = 1;
    }
    if (head->task == LDR_TASK_POSE) return take_points(config, m, a, card, st);
    return take_id2label(get(config, "id2label"), a, card, st);
}

/* ---- timm --------------------------------------------------------------------------------- */

static od_code from_timm(const cJSON *config, const cJSON *cfg, od_arena *a, ldr_card *card, od_status *st)
{
    ldr_preprocess *p = &card->pre;
    const cJSON *size = get(cfg, "input_size"), *how = get(cfg, "interpolation"), *pct = get(cfg, "crop_pct");
    const cJSON *mode = get(cfg, "crop_mode");
    int64_t height = whole(cJSON_GetArrayItem(size, 1), p->height), width = whole(cJSON_GetArrayItem(size, 2), p->width);
    double share = cJSON_IsNumber(pct) && pct->valuedouble > 0.1 && pct->valuedouble <= 1 ? pct->valuedouble : 0.875;
    const char *filter = cJSON_IsString(how) ? how->valuestring : "bicubic";
    ldr_card_task_defaults(card, LDR_TASK_CLASSIFY);
    card->decoder = "softmax";
    *p = (ldr_preprocess){.fit = LDR_FIT_CROP, .width = width, .height = height, .channels = p->channels, .antialias = true,
                          .rescale = 1 / 255.0f, .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
    p->filter = !strcmp(filter, "bicubic") ? LDR_BICUBIC : !strcmp(filter, "nearest") ? LDR_NEAREST
                : !strncmp(filter, "lanczos", 7) ? LDR_LANCZOS : LDR_BILINEAR;
    const bool border = cJSON_IsString(mode) && !strcmp(mode->valuestring, "border");
    if (border) {
        p->longer = (int64_t)((double)od_min_i64(width, height) / share);
    } else if (cJSON_IsString(mode) && !strcmp(mode->valuestring, "squash")) {
        p->resize_width = (int64_t)((double)width / share);
        p->resize_height = (int64_t)((double)height / share);
    } else {
        p->shorter = (int64_t)((double)od_min_i64(width, height) / share);
    }
    three(get(cfg, "mean"), p->mean);
    three(get(cfg, "std"), p->std);
    for (int c = 0; border && c < 3; c++) p->pad[c] = (uint8_t)lrintf(255 * fmaxf(0, fminf(p->mean[c], 1)));
    const cJSON *names = get(config, "label_names") ? get(config, "label_names") : get(cfg, "label_names");
    const cJSON *described = get(config, "label_descriptions");
    if (cJSON_IsArray(names) && cJSON_IsObject(described)) { /* names are WordNet's numbers, descriptions are for people */
        int n = cJSON_GetArraySize(names), i = 0;
        const char **labels = od_arena_array(a, const char *, n);
        if (!labels) return od_fail(st, OD_NO_MEMORY, "%d labels", n);
        for (const cJSON *k = names->child; k; k = k->next, i++) {
            const cJSON *text = cJSON_IsString(k) ? get(described, k->valuestring) : NULL;
            const char *s = cJSON_IsString(text) ? text->valuestring : cJSON_IsString(k) ? k->valuestring : "";
            if (!(labels[i] = od_arena_strdup(a, s, strlen(s)))) return od_fail(st, OD_NO_MEMORY, "%d labels", n);
        }
        card->labels = labels;
        card->n_labels = n;
        return OD_OK;
    }
    return take_label_list(names, a, card, st);
}

/* ------------------------------------------------------------------------------------------- */

od_code ldr_card_from_hugging_face(const char *model_path, const eng_model *m, od_arena *a, ldr_card *card, bool *found,
                                   od_status *st)
{
    char *config_text, *pre_text;
    *found = false;
    OD_TRY(ldr_card_read_beside(model_path, "config.json", FILE_MAX, a, &config_text, st));
    if (!config_text) return OD_OK;
    OD_TRY(ldr_card_read_beside(model_path, "preprocessor_config.json", FILE_MAX, a, &pre_text, st));
    cJSON *config = cJSON_Parse(config_text), *pre = pre_text ? cJSON_Parse(pre_text) : NULL;
    od_code rc = OD_OK;
    const cJSON *cfg = get(config, "pretrained_cfg");
    if (cJSON_IsObject(cfg)) {
        *found = true;
        rc = from_timm(config, cfg, a, card, st);
    } else if (cJSON_IsObject(config)) {
        rc = from_transformers(config, pre, m, a, card, found, st);
    }
    cJSON_Delete(config);
    cJSON_Delete(pre);
    return rc;
}
