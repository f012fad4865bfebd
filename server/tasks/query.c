/* query.c - what a request may ask for. */
#include "server/tasks/tasks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/tasks/explain.h"

enum { COUNT_MAX = 10000 };

void srv_query_init(srv_query *q)
{
    *q = (srv_query){.score_threshold = -1, .iou_threshold = -1, .soft_nms = -1, .class_agnostic = -1, .explain_class = -1, .explain_point = -1, .crop_mean = -1};
}

static od_code set_count(int64_t *to, const char *key, const char *value, int64_t least, int64_t most, od_status *st)
{
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno || end == value || *end || n < least || n > most)
        return od_fail(st, OD_BAD_ARGUMENT, "%s is '%.40s'; a whole number from %" PRId64 " to %" PRId64 " is wanted", key, value, least, most);
    *to = n;
    return OD_OK;
}

static od_code set_number(double *to, const char *key, const char *value, int most, od_status *st)
{
    char *end;
    double x = strtod(value, &end);
    if (end == value || *end || !(x >= 0 && x <= most))
        return od_fail(st, OD_BAD_ARGUMENT, "%s is '%.40s'; a number from 0 to %d is wanted", key, value, most);
    *to = x;
    return OD_OK;
}

/* Which of `names`, that end with NULL, `value` is. */
static od_code set_name(int *to, const char *key, const char *value, const char *const *names, od_status *st)
{
    char all[100] = "";
    for (int i = 0; names[i]; i++) {
        if (!strcmp(value, names[i])) {
            *to = i;
            return OD_OK;
        }
        size_t len = strlen(all);
        snprintf(all + len, sizeof all - len, "%s%s", i ? ", " : "", names[i]);
    }
    return od_fail(st, OD_BAD_ARGUMENT, "%s is '%.40s'; one of %s is wanted", key, value, all);
}

static od_code set_mask(srv_mask *to, const char *value, od_status *st)
{
    static const char *const names[] = {"none", "rle", "polygon", "png", NULL};
    int at;
    OD_TRY(set_name(&at, "mask", value, names, st));
    *to = (srv_mask)(SRV_MASK_NONE + at);
    return OD_OK;
}

static od_code set_format(srv_format *to, const char *value, od_status *st)
{
    static const char *const names[] = {"png", "floats", "base64", NULL};
    int at;
    OD_TRY(set_name(&at, "format", value, names, st));
    *to = (srv_format)(SRV_FORMAT_PNG + at);
    return OD_OK;
}

static od_code set_method(srv_method *to, const char *value, od_status *st)
{
    static const char *const names[] = {"cam", "occlusion", "rise", NULL};
    int at;
    OD_TRY(set_name(&at, "method", value, names, st));
    *to = (srv_method)(SRV_METHOD_CAM + at);
    return OD_OK;
}

static od_code set_crops(int64_t *to, const char *value, od_status *st)
{
    static const char *const names[] = {"1", "5", "10", NULL};
    int at;
    OD_TRY(set_name(&at, "crops", value, names, st));
    *to = at ? 5 * at : 1;
    return OD_OK;
}

static od_code set_flag(int *to, const char *key, const char *value, od_status *st)
{
    *to = !strcmp(value, "1") || !strcmp(value, "true");
    if (*to || !strcmp(value, "0") || !strcmp(value, "false")) return OD_OK;
    return od_fail(st, OD_BAD_ARGUMENT, "%s is '%.40s'; 1 or 0 is wanted", key, value);
}

od_code srv_query_set(srv_query *q, const char *key, const char *value, od_status *st)
{
    if (!strcmp(key, "top_k")) return set_count(&q->top_k, key, value, 1, COUNT_MAX, st);
    if (!strcmp(key, "max_detections")) return set_count(&q->max_detections, key, value, 1, COUNT_MAX, st);
    if (!strcmp(key, "score_threshold")) return set_number(&q->score_threshold, key, value, 1, st);
    if (!strcmp(key, "iou_threshold")) return set_number(&q->iou_threshold, key, value, 1, st);
    if (!strcmp(key, "soft_nms")) return set_number(&q->soft_nms, key, value, 100, st);
    if (!strcmp(key, "class_agnostic")) return set_flag(&q->class_agnostic, key, value, st);
    if (!strcmp(key, "mask")) return set_mask(&q->mask, value, st);
    if (!strcmp(key, "format")) return set_format(&q->format, value, st);
    if (!strcmp(key, "explain")) {
        int on;
        OD_TRY(set_flag(&on, key, value, st));
        q->explain = on;
        return OD_OK;
    }
    if (!strcmp(key, "class")) return set_count(&q->explain_class, key, value, 0, INT32_MAX, st);
    if (!strcmp(key, "box")) return set_count(&q->explain_box, key, value, 0, COUNT_MAX, st);
    if (!strcmp(key, "point")) return set_count(&q->explain_point, key, value, 0, COUNT_MAX, st);
    if (!strcmp(key, "head")) {
        q->explain_head = value;
        return OD_OK;
    }
    if (!strcmp(key, "passes")) return set_count(&q->passes, key, value, 1, SRV_PASSES_MOST, st);
    if (!strcmp(key, "method")) return set_method(&q->method, value, st);
    if (!strcmp(key, "crops")) return set_crops(&q->crops, value, st);
    if (!strcmp(key, "crop_mean")) return set_name(&q->crop_mean, key, value, ldr_mean_names, st);
    return od_fail(st, OD_BAD_ARGUMENT,
                   "no parameter '%.40s'; there are top_k, score_threshold, iou_threshold, class_agnostic, soft_nms, max_detections, mask, format, crops, crop_mean, explain, head, class, box, point, passes, method", key);
}
