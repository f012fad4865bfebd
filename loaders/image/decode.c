/* decode.c - which format a file has, the bound on its pixels, and EXIF's orientation. */
#include "loaders/image/parts.h"

#include <string.h>

enum { MAX_PIXELS = 64 * 1000 * 1000 };

od_code ldr_image_check_size(int64_t width, int64_t height, const ldr_decode_options *o, od_status *st)
{
    if (width < 1 || height < 1)
        return od_fail(st, OD_BAD_VALUE, "a picture of %" PRId64 " x %" PRId64 " pixels", width, height);
    if (height > o->max_pixels / width)
        return od_fail(st, OD_TOO_LARGE, "a picture of %" PRId64 " x %" PRId64 " pixels; at most %" PRId64 " are allowed",
                       width, height, o->max_pixels);
    return OD_OK;
}

od_code ldr_image_alloc(od_arena *a, int64_t width, int64_t height, int channels, ldr_pixels *out, od_status *st)
{
    size_t bytes;
    *out = (ldr_pixels){.width = width, .height = height, .channels = channels, .stride = width * channels,
                        .full_width = width, .full_height = height};
    if (!od_mul((size_t)out->stride, (size_t)height, &bytes) || !(out->data = od_arena_alloc(a, bytes + 64)))
        return od_fail(st, OD_NO_MEMORY, "no memory for a picture of %" PRId64 " x %" PRId64 " pixels", width, height);
    return OD_OK;
}

void ldr_image_flatten(const uint8_t *from, int64_t count, int have, const ldr_decode_options *o, uint8_t *to)
{
    int colours = have >= 3 ? 3 : 1, want = o->channels;
    bool alpha = have == 2 || have == 4;
    for (int64_t x = 0; x < count; x++, from += have, to += want) {
        unsigned rgb[3];
        for (int i = 0; i < 3; i++) {
            rgb[i] = from[colours == 3 ? i : 0];
            if (alpha) rgb[i] = ldr_mul255(rgb[i], from[have - 1]) + ldr_mul255(o->background[i], 255u - from[have - 1]);
            if (rgb[i] > 255) rgb[i] = 255;
        }
        if (want == 1) to[0] = ldr_luma(rgb[0], rgb[1], rgb[2]);
        else
            for (int i = 0; i < 3; i++) to[i] = (uint8_t)rgb[i];
    }
}

/* ---- EXIF --------------------------------------------------------------------------------- */

static unsigned read_uint(const uint8_t *at, int bytes, bool big)
{
    unsigned x = 0;
    for (int i = 0; i < bytes; i++) x |= (unsigned)at[i] << 8 * (big ? bytes - 1 - i : i);
    return x;
}

int ldr_exif_orientation(const uint8_t *tiff, size_t size)
{
    enum { ORIENTATION = 0x0112, SHORT = 3, ENTRY = 12 };
    if (size < 8 || (memcmp(tiff, "II*\0", 4) && memcmp(tiff, "MM\0*", 4))) return 1;
    bool big = tiff[0] == 'M';
    size_t at = read_uint(tiff + 4, 4, big);
    if (at > size - 2) return 1;
    unsigned entries = read_uint(tiff + at, 2, big);
    at += 2;
    for (unsigned i = 0; i < entries && size - at >= ENTRY; i++, at += ENTRY) {
        if (read_uint(tiff + at, 2, big) != ORIENTATION || read_uint(tiff + at + 2, 2, big) != SHORT) continue;
        unsigned value = read_uint(tiff + at + 8, 2, big);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* Turn and mirror as orientation 2 to 8 asks. */
static od_code orient(ldr_pixels *p, int orientation, od_arena *a, od_status *st)
{
    bool swap = orientation >= 5;                                               /* rows become columns */
    bool right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8; /* x runs backwards */
    bool up = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;    /* y runs backwards */
    ldr_pixels out;
    int n = p->channels;
    OD_TRY(ldr_image_alloc(a, swap ? p->height : p->width, swap ? p->width : p->height, n, &out, st));
    for (int64_t y = 0; y < out.height; y++) {
        uint8_t *to = out.data + y * out.stride;
        for (int64_t x = 0; x < out.width; x++, to += n) {
            int64_t sx = swap ? y : x, sy = swap ? x : y;
            if (right) sx = p->width - 1 - sx;
            if (up) sy = p->height - 1 - sy;
            const uint8_t *from = p->data + sy * p->stride + sx * n;
            for (int c = 0; c < n; c++) to[c] = from[c];
        }
    }
    out.full_width = swap ? p->full_height : p->full_width;
    out.full_height = swap ? p->full_width : p->full_height;
    *p = out;
    return OD_OK;
}

/* ------------------------------------------------------------------------------------------- */

od_code ldr_image_decode(const void *bytes, size_t size, const ldr_decode_options *options, od_arena *a, ldr_pixels *out,
                         od_status *st)
{
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    const uint8_t *data = bytes;
    ldr_decode_options o = *options;
    int orientation = 1;
    if (o.max_pixels <= 0) o.max_pixels = MAX_PIXELS;
    if (!size) return od_fail(st, OD_BAD_VALUE, "no bytes where a picture is wanted");
    if (size >= 3 && data[0] == 0xff && data[1] == 0xd8 && data[2] == 0xff)
        OD_TRY(ldr_jpeg_decode(data, size, &o, a, out, &orientation, st));
    else if (size >= sizeof png && !memcmp(data, png, sizeof png))
        OD_TRY(ldr_png_decode(data, size, &o, a, out, &orientation, st));
    else if (size >= 12 && !memcmp(data, "RIFF", 4) && !memcmp(data + 8, "WEBP", 4))
        OD_TRY(ldr_webp_decode(data, size, &o, a, out, &orientation, st));
    else
        return od_fail(st, OD_UNSUPPORTED, "none of JPEG, PNG and WebP");
    return orientation > 1 ? orient(out, orientation, a, st) : OD_OK;
}
