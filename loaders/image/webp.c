/* webp.c - WebP files (lossy, lossless, with alpha) through libwebp. */
#include "loaders/image/parts.h"

#include <string.h>
#include <webp/decode.h>

/* Orientation from the EXIF chunk, if the container has one. */
static int orientation_of(const uint8_t *b, size_t size)
{
    enum { RIFF_HEAD = 12, CHUNK_HEAD = 8 };
    for (size_t at = RIFF_HEAD; size - at >= CHUNK_HEAD && at < size;) {
        size_t len = b[at + 4] | (size_t)b[at + 5] << 8 | (size_t)b[at + 6] << 16 | (size_t)b[at + 7] << 24;
        if (len > size - at - CHUNK_HEAD) break;
        const uint8_t *data = b + at + CHUNK_HEAD;
        if (!memcmp(b + at, "EXIF", 4)) {
            bool headed = len >= 6 && !memcmp(data, "Exif\0\0", 6); /* some writers keep JPEG's mark */
            return ldr_exif_orientation(data + (headed ? 6 : 0), len - (headed ? 6 : 0));
        }
        len += len % 2;
        if (len > size - at - CHUNK_HEAD) break;
        at += CHUNK_HEAD + len;
    }
    return 1;
}

od_code ldr_webp_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out,
                        int *orientation, od_status *st)
{
    WebPBitstreamFeatures f;
    if (WebPGetFeatures(bytes, size, &f) != VP8_STATUS_OK) return od_fail(st, OD_BAD_VALUE, "WebP: corrupt, or cut short");
    if (f.has_animation) return od_fail(st, OD_UNSUPPORTED, "WebP: an animation");
    OD_TRY(ldr_image_check_size(f.width, f.height, o, st));
    OD_TRY(ldr_image_alloc(a, f.width, f.height, o->channels, out, st));
    od_arena_mark mark = od_arena_save(a);
    ldr_pixels read;
    bool direct = !f.has_alpha && o->channels == 3;
    if (direct) read = *out;
    else OD_TRY(ldr_image_alloc(a, f.width, f.height, f.has_alpha ? 4 : 3, &read, st));
    size_t room = (size_t)(read.stride * read.height);
    uint8_t *done = f.has_alpha ? WebPDecodeRGBAInto(bytes, size, read.data, room, (int)read.stride)
                                : WebPDecodeRGBInto(bytes, size, read.data, room, (int)read.stride);
    if (!done) return od_fail(st, OD_BAD_VALUE, "WebP: corrupt, or cut short");
    if (!direct) ldr_image_flatten(read.data, read.width * read.height, read.channels, o, out->data);
    od_arena_rewind(a, mark);
    *orientation = orientation_of(bytes, size);
    return OD_OK;
}
