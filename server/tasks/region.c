#include "server/tasks/region.h"

#include <math.h>
#include <string.h>

static od_code cut_upright(const srv_region *r, const ldr_pixels *from, ldr_pixels *out, od_status *st)
{
    double x1 = fmax(0, floor(r->x)), y1 = fmax(0, floor(r->y));
    double x2 = fmin((double)from->width, ceil(r->x + r->ux)), y2 = fmin((double)from->height, ceil(r->y + r->vy));
    if (!(x2 - x1 >= 1 && y2 - y1 >= 1)) return od_fail(st, OD_BAD_SHAPE, "a box without a pixel");
    *out = *from;
    out->width = out->full_width = (int64_t)(x2 - x1);
    out->height = out->full_height = (int64_t)(y2 - y1);
    out->data = from->data + (int64_t)y1 * from->stride + (int64_t)x1 * from->channels;
    return OD_OK;
}

static uint8_t between(const ldr_pixels *p, double x, double y, int c)
{
    x = fmax(0, fmin(x, (double)(p->width - 1)));
    y = fmax(0, fmin(y, (double)(p->height - 1)));
    int64_t x0 = (int64_t)x, y0 = (int64_t)y, x1 = od_min_i64(x0 + 1, p->width - 1), y1 = od_min_i64(y0 + 1, p->height - 1);
    const uint8_t *up = p->data + y0 * p->stride + c, *down = p->data + y1 * p->stride + c;
    double tx = x - (double)x0, ty = y - (double)y0;
    double a = up[x0 * p->channels] * (1 - tx) + up[x1 * p->channels] * tx, b = down[x0 * p->channels] * (1 - tx) + down[x1 * p->channels] * tx;
    return (uint8_t)(a * (1 - ty) + b * ty + 0.5);
}

static od_code set_upright(const srv_region *r, const ldr_pixels *from, int64_t max_pixels, od_arena *a, ldr_pixels *out, od_status *st)
{
    double w = ceil(hypot(r->ux, r->uy)), h = ceil(hypot(r->vx, r->vy));
    if (!(w >= 1 && h >= 1)) return od_fail(st, OD_BAD_SHAPE, "a box without a pixel");
    if (!(w * h <= (double)max_pixels)) return od_fail(st, OD_TOO_LARGE, "a box of %.0f x %.0f pixels", w, h);
    *out = (ldr_pixels){.width = (int64_t)w, .height = (int64_t)h, .full_width = (int64_t)w, .full_height = (int64_t)h,
                        .channels = from->channels, .stride = (int64_t)w * from->channels};
    if (!(out->data = od_arena_alloc(a, (size_t)(out->stride * out->height)))) return od_fail(st, OD_NO_MEMORY, "no memory for a box");
    for (int64_t i = 0; i < out->height; i++)
        for (int64_t k = 0; k < out->width; k++) {
            double u = ((double)k + 0.5) / w, v = ((double)i + 0.5) / h;
            double x = r->x + u * r->ux + v * r->vx - 0.5, y = r->y + u * r->uy + v * r->vy - 0.5;
            for (int c = 0; c < from->channels; c++) out->data[i * out->stride + k * from->channels + c] = between(from, x, y, c);
        }
    return OD_OK;
}

/* Do boxes of this label go through the model of `then`? */
static bool goes_on(const ldr_card *card, const struct ldr_card_then *then, int64_t label)
{
    for (int i = 0; i < then->n_of; i++)
        if (label >= 0 && label < card->n_labels && !strcmp(then->of[i], card->labels[label])) return true;
    return !then->n_of;
}

od_code srv_region_cut(const srv_region *r, double margin, const ldr_pixels *from, int64_t max_pixels, od_arena *a, ldr_pixels *out,
                       od_status *st)
{
    srv_region wide = *r;
    double more = 1 + 2 * margin;
    wide.x -= margin * (r->ux + r->vx);
    wide.y -= margin * (r->uy + r->vy);
    wide.ux *= more, wide.uy *= more, wide.vx *= more, wide.vy *= more;
    return r->turned ? set_upright(&wide, from, max_pixels, a, out, st) : cut_upright(&wide, from, out, st);
}

od_code srv_onward_list(const ldr_card *card, const srv_picture *p, od_arena *a, srv_onward **out, int64_t *n, od_status *st)
{
    int64_t most = p->n_regions * card->n_then;
    *n = 0;
    if (!(*out = od_arena_array(a, srv_onward, most))) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " parts", most);
    for (int64_t i = 0; i < p->n_regions; i++)
        for (int t = 0; t < card->n_then; t++)
            if (goes_on(card, &card->then[t], p->regions[i].label)) (*out)[(*n)++] = (srv_onward){.region = &p->regions[i], .then = t};
    return OD_OK;
}

od_code srv_onward_join(const ldr_card *card, const srv_onward *list, int64_t n, od_arena *a, srv_text *json, od_status *st)
{
    srv_text out = {.arena = a};
    size_t from = 0;
    for (int64_t i = 0; i < n; i++) {
        const srv_onward *o = &list[i];
        bool first = !i || list[i - 1].region != o->region, last = i + 1 == n || list[i + 1].region != o->region;
        const char *name = card->then[o->then].model;
        if (first) {
            srv_text_add(&out, json->data + from, o->region->json_at - from);
            from = o->region->json_at;
        }
        srv_text_printf(&out, first ? ",\"then\":{" : ",");
        srv_text_json(&out, name, strlen(name));
        srv_text_add(&out, ":{", 2);
        srv_text_add(&out, o->json.data, o->json.len);
        srv_text_printf(&out, last ? "}}" : "}");
    }
    srv_text_add(&out, json->data + from, json->len - from);
    *json = out;
    return out.full ? od_fail(st, OD_NO_MEMORY, "no memory for the answer") : OD_OK;
}
