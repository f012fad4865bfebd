/* fields.c - the keys of model.json, in the order in which they are written. */
#include "loaders/card/parts.h"

#include <stddef.h>

const char *const ldr_task_names[] = {"none", "classify", "detect", "segment", "pose", "embed", "image", NULL};
const char *const ldr_mean_names[] = {"scores", "outputs", NULL};
const char *const ldr_color_names[] = {"rgb", "bgr", "gray", NULL};
static const char *const fit_names[] = {"stretch", "letterbox", "crop", "shorter", "none", "affine", "multiples", NULL};
static const char *const filter_names[] = {"nearest", "bilinear", "bicubic", "lanczos", "box", NULL};

enum { SIDE_MAX = 1 << 20, COUNT_MAX = 1000000 };

#define AT(member) offsetof(ldr_preprocess, member)
const ldr_field ldr_preprocess_fields[] = {
    {"fit", LDR_FIELD_NAME, AT(fit), 0, 0, fit_names, true},
    {"width", LDR_FIELD_INT, AT(width), 1, SIDE_MAX, NULL, false},
    {"height", LDR_FIELD_INT, AT(height), 1, SIDE_MAX, NULL, false},
    {"shorter", LDR_FIELD_INT, AT(shorter), 1, SIDE_MAX, NULL, false},
    {"longer", LDR_FIELD_INT, AT(longer), 1, SIDE_MAX, NULL, false},
    {"resize_width", LDR_FIELD_INT, AT(resize_width), 1, SIDE_MAX, NULL, false},
    {"resize_height", LDR_FIELD_INT, AT(resize_height), 1, SIDE_MAX, NULL, false},
    {"multiple", LDR_FIELD_INT, AT(multiple), 1, 4096, NULL, false},
    {"above", LDR_FIELD_BOOL, AT(above), 0, 0, NULL, false},
    {"mirror", LDR_FIELD_BOOL, AT(mirror), 0, 0, NULL, false},
    {"margin", LDR_FIELD_FLOAT, AT(margin), 0, 10, NULL, false},
    {"align_corners", LDR_FIELD_BOOL, AT(align_corners), 0, 0, NULL, false},
    {"centered", LDR_FIELD_BOOL, AT(centered), 0, 0, NULL, false},
    {"enlarge", LDR_FIELD_BOOL, AT(enlarge), 0, 0, NULL, false},
    {"crop_floor", LDR_FIELD_BOOL, AT(crop_floor), 0, 0, NULL, false},
    {"filter", LDR_FIELD_NAME, AT(filter), 0, 0, filter_names, true},
    {"antialias", LDR_FIELD_BOOL, AT(antialias), 0, 0, NULL, true},
    {"pad", LDR_FIELD_LEVELS, AT(pad), 0, 255, NULL, false},
    {"rescale", LDR_FIELD_FLOAT, AT(rescale), 1e-9, 1e9, NULL, true},
    {"mean", LDR_FIELD_FLOATS, AT(mean), -1e9, 1e9, NULL, true},
    {"std", LDR_FIELD_FLOATS, AT(std), 1e-9, 1e9, NULL, true},
};
#undef AT

#define AT(member) offsetof(ldr_card, member)
const ldr_field ldr_card_fields[] = {
    {"task", LDR_FIELD_NAME, AT(task), 0, 0, ldr_task_names, true},
    {"background", LDR_FIELD_LEVELS, AT(background), 0, 255, NULL, false},
    {"decoder", LDR_FIELD_TEXT, AT(decoder), 0, 0, NULL, false},
    {"top_k", LDR_FIELD_INT, AT(top_k), 1, COUNT_MAX, NULL, false},
    {"score_threshold", LDR_FIELD_DOUBLE, AT(score_threshold), 0, 1, NULL, true},
    {"iou_threshold", LDR_FIELD_DOUBLE, AT(iou_threshold), 0, 1, NULL, true},
    {"max_detections", LDR_FIELD_INT, AT(max_detections), 1, COUNT_MAX, NULL, false},
    {"class_agnostic", LDR_FIELD_BOOL, AT(class_agnostic), 0, 0, NULL, false},
    {"crops", LDR_FIELD_INT, AT(crops), 1, 10, NULL, false},
    {"crop_mean", LDR_FIELD_NAME, AT(crop_mean), 0, 0, ldr_mean_names, false},
};

const ldr_field ldr_batching_fields[] = {
    {"max_batch_size", LDR_FIELD_INT, AT(max_batch_size), 0, COUNT_MAX, NULL, true},
    {"max_queue_delay_us", LDR_FIELD_INT, AT(max_queue_delay_us), 0, 1e9, NULL, true},
    {"max_queue", LDR_FIELD_INT, AT(max_queue), 1, COUNT_MAX, NULL, true},
    {"timeout_us", LDR_FIELD_INT, AT(timeout_us), 0, 1e12, NULL, true},
};
#undef AT

#define AT(member) offsetof(struct ldr_card_then, member)
const ldr_field ldr_then_fields[] = {
    {"model", LDR_FIELD_TEXT, AT(model), 0, 0, NULL, true},
    {"margin", LDR_FIELD_DOUBLE, AT(margin), 0, 10, NULL, true},
};
#undef AT

#define AT(member) offsetof(struct ldr_card_head, member)
const ldr_field ldr_head_fields[] = {
    {"name", LDR_FIELD_TEXT, AT(name), 0, 0, NULL, true},
    {"decoder", LDR_FIELD_TEXT, AT(decoder), 0, 0, NULL, false},
    {"first", LDR_FIELD_INT, AT(first), 0, COUNT_MAX, NULL, false},
    {"count", LDR_FIELD_INT, AT(count), 1, COUNT_MAX, NULL, false},
};
#undef AT

const int ldr_card_fields_count = OD_COUNT(ldr_card_fields), ldr_preprocess_fields_count = OD_COUNT(ldr_preprocess_fields),
          ldr_batching_fields_count = OD_COUNT(ldr_batching_fields), ldr_then_fields_count = OD_COUNT(ldr_then_fields),
          ldr_head_fields_count = OD_COUNT(ldr_head_fields);
