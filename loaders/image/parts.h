/* parts.h - what the files of loaders/image share. Private to the folder. */
#ifndef LDR_IMAGE_PARTS_H
#define LDR_IMAGE_PARTS_H

#include "loaders/image.h"

/* The three formats: `o` has its defaults filled in. `orientation` (1 to 8, as EXIF counts) is left for the
 * caller to apply; `full_width` and `full_height` are those before it. */
od_code ldr_jpeg_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out,
                        int *orientation, od_status *st);
od_code ldr_png_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out,
                       int *orientation, od_status *st);
od_code ldr_webp_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out,
                        int *orientation, od_status *st);

/* For ImageDecoder alone: OD_UNSUPPORTED where their libraries are not installed. */
od_code ldr_tiff_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st);
od_code ldr_jpeg2000_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st);

/* `count` pixels of `have` channels (gray or RGB, 2 and 4 with alpha) as o->channels, laid over the background. */
void ldr_image_flatten(const uint8_t *from, int64_t count, int have, const ldr_decode_options *o, uint8_t *to);

/* The orientation that a TIFF header's first directory gives; 1 where it gives none or is broken. */
int ldr_exif_orientation(const uint8_t *tiff, size_t size);

/* Both sides at least 1 and their product within the bound. OD_BAD_VALUE, OD_TOO_LARGE. */
od_code ldr_image_check_size(int64_t width, int64_t height, const ldr_decode_options *o, od_status *st);

/* Rows for width x height pixels from `a`, with some readable bytes behind the last. */
od_code ldr_image_alloc(od_arena *a, int64_t width, int64_t height, int channels, ldr_pixels *out, od_status *st);

/* Luminance as Pillow weighs it. */
static inline uint8_t ldr_luma(unsigned r, unsigned g, unsigned b)
{
    return (uint8_t)((r * 19595u + g * 38470u + b * 7471u + 0x8000u) >> 16);
}

/* x * y / 255, rounded. */
static inline unsigned ldr_mul255(unsigned x, unsigned y)
{
    unsigned t = x * y + 128;
    return (t + (t >> 8)) >> 8;
}

#endif
