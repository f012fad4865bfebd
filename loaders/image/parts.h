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

/* Rows of an input that a picture is laid into by scale and offset, from centres of pixels to centres. */
typedef struct ldr_warp {
    const ldr_pixels *from;
    const ldr_placement *place;
    bool sharp;     /* beyond the outermost pixels' centres is padding only; else they fade into it */
    uint8_t pad[3]; /* in the picture's order of channels */
    int64_t *left;  /* of each column: the picture's pixel to the left of it, below 0 or behind its end in the padding */
    float *share;   /* how far it is from there to the next */
} ldr_warp;

/* false: no memory. `from` must not have been shrunk. */
bool ldr_warp_init(ldr_warp *w, const ldr_pixels *from, const ldr_placement *place, bool sharp, const uint8_t pad[3], od_arena *a);

/* Row `y`: each pixel between four of the picture or its padding. */
void ldr_warp_row(const ldr_warp *w, int64_t y, uint8_t *to);

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
