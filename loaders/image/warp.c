/* warp.c - pixels between pixels, where a picture is not resized to whole ones. */
#include "loaders/image/parts.h"

#include <math.h>

/* The picture's pixel before place `i` of the input, and how far it is from there to the next. */
static int64_t find(const ldr_warp *w, int64_t i, double scale, double offset, int64_t n, float *share)
{
    double at = ((double)i - offset) / scale, first = floor(at);
    if (w->sharp && (at < 0 || at > (double)(n - 1))) first = -2, at = -2;
    *share = (float)(at - first);
    return (int64_t)first;
}

bool ldr_warp_init(ldr_warp *w, const ldr_pixels *from, const ldr_placement *place, bool sharp, const uint8_t pad[3], od_arena *a)
{
    *w = (ldr_warp){.from = from, .place = place, .sharp = sharp, .pad = {pad[0], pad[1], pad[2]}};
    w->left = od_arena_array(a, int64_t, place->input_width);
    w->share = od_arena_array(a, float, place->input_width);
    if (!w->left || !w->share) return false;
    for (int64_t x = 0; x < place->input_width; x++)
        w->left[x] = find(w, x, place->scale_x, place->offset_x, from->width, &w->share[x]);
    return true;
}

static const uint8_t *pixel(const ldr_warp *w, int64_t x, int64_t y)
{
    const ldr_pixels *p = w->from;
    bool inside = x >= 0 && x < p->width && y >= 0 && y < p->height;
    return inside ? p->data + y * p->stride + x * p->channels : w->pad;
}

void ldr_warp_row(const ldr_warp *w, int64_t y, uint8_t *to)
{
    float down;
    int64_t top = find(w, y, w->place->scale_y, w->place->offset_y, w->from->height, &down);
    int n = w->from->channels;
    for (int64_t x = 0; x < w->place->input_width; x++, to += n) {
        int64_t left = w->left[x];
        const uint8_t *a = pixel(w, left, top), *b = pixel(w, left + 1, top);
        const uint8_t *c = pixel(w, left, top + 1), *d = pixel(w, left + 1, top + 1);
        for (int k = 0; k < n; k++) {
            float up = (float)a[k] + ((float)b[k] - (float)a[k]) * w->share[x];
            float low = (float)c[k] + ((float)d[k] - (float)c[k]) * w->share[x];
            to[k] = (uint8_t)(up + (low - up) * down + 0.5f);
        }
    }
}
