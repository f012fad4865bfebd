/* query.c - what a request may ask for. */
#include "server/tasks/tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 10000 };

void srv_query_init(srv_query *q)
{
    *q = (srv_query){.score_threshold = -1, .iou_threshold = -1};
}

static od_code set_count(int64_t *to, const char *key, const char *value, od_status *st)
{
    char *end;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno || end == value || *end || n < 1 || n > COUNT_MAX)
        return od_fail(st, OD_BAD_ARGUMENT, "%s is '%.40s'; a whole number from 1 to %d is wanted", key, value, COUNT_MAX);
    *to = n;
    return OD_OK;
}

static od_code set_share(double *to, const char *key, const char *value, od_status *st)
{
    char *end;
    double x = strtod(value, &end);
    if (end == value || *end || !(x >= 0 && x <= 1))
        return od_fail(st, OD_BAD_ARGUMENT, "%s is '%.40s'; a number from 0 to 1 is wanted", key, value);
    *to = x;
    return OD_OK;
}

static od_code set_mask(srv_mask *to, const char *value, od_status *st)
{
    static const struct { const char *name; srv_mask mask; } masks[] = {
        {"rle", SRV_MASK_RLE}, {"polygon", SRV_MASK_POLYGON}, {"png", SRV_MASK_PNG}, {"none", SRV_MASK_NONE}};
    for (size_t i = 0; i < OD_COUNT(masks); i++)
        if (!strcmp(value, masks[i].name)) {
            *to = masks[i].mask;
            return OD_OK;
        }
    return od_fail(st, OD_BAD_ARGUMENT, "mask is '%.40s'; one of rle, polygon, png, none is wanted", value);
}

od_code srv_query_set(srv_query *q, const char *key, const char *value, od_status *st)
{
    if (!strcmp(key, "top_k")) return set_count(&q->top_k, key, value, st);
    if (!strcmp(key, "max_detections")) return set_count(&q->max_detections, key, value, st);
    if (!strcmp(key, "score_threshold")) return set_share(&q->score_threshold, key, value, st);
    if (!strcmp(key, "iou_threshold")) return set_share(&q->iou_threshold, key, value, st);
    if (!strcmp(key, "mask")) return set_mask(&q->mask, value, st);
    return od_fail(st, OD_BAD_ARGUMENT,
                   "no parameter '%.40s'; there are top_k, score_threshold, iou_threshold, max_detections, mask", key);
}
