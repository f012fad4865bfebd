/* operator.c - pictures for the engine's ImageDecoder: those of ldr_image_decode, the two formats that are little
 * more than rows of pixels, BMP and PNM, and, where their libraries are installed, TIFF and JPEG 2000. */
#include "engine/image_decoder.h"
#include "loaders/image/parts.h"

#include <string.h>

enum { MAX_PIXELS = 64 * 1000 * 1000 };

static unsigned le(const uint8_t *at, int bytes)
{
    unsigned v = 0;
    for (int i = 0; i < bytes; i++) v |= (unsigned)at[i] << 8 * i;
    return v;
}

static void put(uint8_t *to, uint8_t r, uint8_t g, uint8_t b)
{
    to[0] = r;
    to[1] = g;
    to[2] = b;
}

/* Uncompressed, 24 or 32 bits a pixel; rows from the bottom up unless the height is negative. */
static od_code decode_bmp(const uint8_t *p, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st)
{
    enum { HEADER = 54 };
    if (size < HEADER) return od_fail(st, OD_BAD_VALUE, "a BMP of %zu bytes", size);
    int64_t width = (int32_t)le(p + 18, 4), height = (int32_t)le(p + 22, 4), bytes = le(p + 28, 2) / 8;
    bool down = height < 0;
    size_t start = le(p + 10, 4);
    if (down) height = -height;
    if ((bytes != 3 && bytes != 4) || le(p + 28, 2) % 8 || le(p + 30, 4)) return od_fail(st, OD_UNSUPPORTED, "a BMP that is packed or has few colours");
    OD_TRY(ldr_image_check_size(width, height, o, st));
    int64_t stride = (width * bytes + 3) / 4 * 4;
    if (start > size || (uint64_t)(stride * height) > size - start) return od_fail(st, OD_BAD_VALUE, "a BMP that is cut short");
    OD_TRY(ldr_image_alloc(a, width, height, o->channels, out, st));
    for (int64_t y = 0; y < height; y++) {
        const uint8_t *from = p + start + (size_t)((down ? y : height - 1 - y) * stride);
        for (int64_t x = 0; x < width; x++, from += bytes) put(out->data + y * out->stride + 3 * x, from[2], from[1], from[0]);
    }
    return OD_OK;
}

/* The next number of a PNM header, behind blanks and comments; -1: none. */
static int64_t number(const uint8_t *p, size_t size, size_t *at)
{
    int64_t v = -1;
    bool comment = false;
    for (; *at < size && (comment || p[*at] < '0' || p[*at] > '9'); ++*at) {
        if (p[*at] == '#') comment = true;
        else if (p[*at] == '\n') comment = false;
        else if (!comment && p[*at] > ' ') return -1;
    }
    for (; *at < size && p[*at] >= '0' && p[*at] <= '9' && v < 1 << 24; ++*at) v = (v < 0 ? 0 : v * 10) + p[*at] - '0';
    return v;
}

/* P5 and P6: binary, one byte a channel. */
static od_code decode_pnm(const uint8_t *p, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st)
{
    size_t at = 2;
    int64_t width = number(p, size, &at), height = number(p, size, &at), most = number(p, size, &at), bytes = p[1] == '6' ? 3 : 1;
    if (most != 255) return od_fail(st, OD_UNSUPPORTED, "a PNM with values up to %" PRId64, most);
    OD_TRY(ldr_image_check_size(width, height, o, st));
    at++; /* one blank */
    if (at > size || (uint64_t)(width * height * bytes) > size - at) return od_fail(st, OD_BAD_VALUE, "a PNM that is cut short");
    OD_TRY(ldr_image_alloc(a, width, height, o->channels, out, st));
    const uint8_t *from = p + at;
    for (int64_t i = 0; i < width * height; i++, from += bytes) {
        put(out->data + i / width * out->stride + i % width * 3, from[0], from[bytes == 3 ? 1 : 0], from[bytes == 3 ? 2 : 0]);
    }
    return OD_OK;
}

static bool is_tiff(const uint8_t *b, size_t n)
{
    return n >= 8 && (!memcmp(b, "II*\0", 4) || !memcmp(b, "MM\0*", 4) || !memcmp(b, "II+\0", 4) || !memcmp(b, "MM\0+", 4));
}

static bool is_jpeg2000(const uint8_t *b, size_t n)
{
    static const uint8_t boxes[12] = {0, 0, 0, 12, 'j', 'P', ' ', ' ', '\r', '\n', 0x87, '\n'}, stream[4] = {0xff, 0x4f, 0xff, 0x51};
    return n >= 12 && (!memcmp(b, boxes, 12) || !memcmp(b, stream, 4));
}

static od_code decode(const void *bytes, size_t size, int channels, od_arena *a, eng_tensor *out, od_status *st)
{
    ldr_decode_options o = {.channels = 3, .max_pixels = MAX_PIXELS}; /* luminance is what colours make, not a JPEG's own */
    ldr_pixels p;
    const uint8_t *b = bytes;
    if (size >= 2 && !memcmp(b, "BM", 2)) OD_TRY(decode_bmp(b, size, &o, a, &p, st));
    else if (size >= 2 && b[0] == 'P' && (b[1] == '5' || b[1] == '6')) OD_TRY(decode_pnm(b, size, &o, a, &p, st));
    else if (is_tiff(b, size)) OD_TRY(ldr_tiff_decode(b, size, &o, a, &p, st));
    else if (is_jpeg2000(b, size)) OD_TRY(ldr_jpeg2000_decode(b, size, &o, a, &p, st));
    else OD_TRY(ldr_image_decode(bytes, size, &o, a, &p, st));
    *out = (eng_tensor){.dtype = ENG_UINT8, .rank = 3, .dims = {p.height, p.width, channels}};
    uint8_t *to = out->data = od_arena_alloc(a, (size_t)(p.width * p.height * channels) + 1);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for a picture");
    for (int64_t y = 0; y < p.height; y++)
        for (int64_t x = 0; x < p.width; x++, to += channels) {
            const uint8_t *from = p.data + y * p.stride + 3 * x;
            if (channels == 1) *to = ldr_luma(from[0], from[1], from[2]);
            else memcpy(to, from, 3);
        }
    return OD_OK;
}

void ldr_image_decoder_install(void)
{
    eng_image_decoder_set(decode);
}
