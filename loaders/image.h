/* image.h - pictures into pixels, pixels into a model's input tensor, pixels into PNG.
 *
 * A file is not trusted: its kind, size and headers are checked, and the bound on pixels is applied,
 * before anything is decoded. Pixels are 8-bit, rows top to bottom, channels interleaved. */
#ifndef LDR_IMAGE_H
#define LDR_IMAGE_H

#include "engine/tensor.h"

typedef struct ldr_pixels {
    uint8_t *data;
    int64_t width, height;
    int channels;   /* 1: luminance, 3: red, green, blue */
    int64_t stride; /* bytes from a row to the next */
    /* Extents of the picture as its file says, after EXIF orientation; larger than width and height
     * when the decoder shrank it (JPEG's DCT scaling). Boxes are answered in these. */
    int64_t full_width, full_height;
} ldr_pixels;

typedef struct ldr_decode_options {
    int64_t max_pixels;    /* width * height at most; 0: 64 million */
    int channels;          /* wanted: 1 or 3 */
    uint8_t background[3]; /* what lies under transparent pixels */
    /* The extents that matter later: a JPEG may be shrunk by 2, 4 or 8 while decoding as long as both
     * sides stay at least four times as long as these. 0: never shrink. */
    int64_t need_width, need_height;
} ldr_decode_options;

/* Decode a JPEG (gray, colour, CMYK, progressive), a PNG (all colour types, 16 bits, interlaced) or a WebP (lossy,
 * lossless, alpha; no animation); EXIF orientation is applied. Pixels from `a`. OD_UNSUPPORTED: none of them; OD_TOO_LARGE: over max_pixels;
 * OD_BAD_VALUE: corrupt or cut short; OD_NO_MEMORY. Any thread. */
od_code ldr_image_decode(const void *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out,
                         od_status *st);

/* Let the engine's ImageDecoder decode with ldr_image_decode, and BMP, PNM, and TIFF and JPEG 2000 where libtiff
 * and OpenJPEG are installed, besides. Loading a model does
 * this. Any thread. */
void ldr_image_decoder_install(void);

typedef enum ldr_fit {
    LDR_FIT_STRETCH,   /* to width x height, whatever the proportions */
    LDR_FIT_LETTERBOX, /* the largest size inside width x height that keeps proportions, rest padded */
    LDR_FIT_CROP,      /* shorter side to `shorter`, or without that the longer to `longer`, or all to resize_width x
                          resize_height; then width x height from the centre, padded where the picture ends */
    LDR_FIT_SHORTER,   /* shorter side to `shorter`, but the longer one to `longer` at most; no crop */
    LDR_FIT_NONE,      /* as it is */
    LDR_FIT_AFFINE,    /* with `margin` of its extents more on each side, the largest size inside width x height that keeps
                          proportions, in the middle, to fractions of pixels; each pixel lies between four of the picture */
    LDR_FIT_MULTIPLES  /* to multiples of `multiple`: with width and height to the nearest ones, of the scale that brings
                          one side there and changes less, with `shorter` (and `longer`) up from what SHORTER gives, else
                          down to the next below */
} ldr_fit;

typedef enum ldr_filter { LDR_NEAREST, LDR_BILINEAR, LDR_BICUBIC, LDR_LANCZOS, LDR_BOX } ldr_filter;

/* From pixels to numbers: y = (x * rescale - mean[c]) / std[c], c in the order of the output. */
typedef struct ldr_preprocess {
    ldr_fit fit;
    int64_t width, height; /* of the input; not read by SHORTER and NONE; MULTIPLES: 0 may be */
    int64_t shorter, longer;
    int64_t resize_width, resize_height;
    int64_t multiple;      /* LETTERBOX: the input is the resized picture, padded to multiples of this, instead of
                              width x height; SHORTER and NONE: padded to multiples of this; 0: not */
    bool above;            /* SHORTER and NONE: to the next multiple above, also of extents that are multiples already */
    bool mirror;           /* SHORTER and NONE: what is padded repeats the picture backwards, its edge first */
    float margin;          /* AFFINE: on each side, in extents of the picture; black, or `pad` */
    bool align_corners;    /* AFFINE: the first and the last pixel, not their outer edges, lie where the margins end (Huang et
                              al., "The devil is in the details: unbiased data processing for human pose estimation");
                              then the picture does not fade into its margins */
    bool centered;         /* LETTERBOX: picture in the middle, else top left */
    bool enlarge;          /* LETTERBOX: small pictures grow too */
    bool crop_floor;       /* CROP: an odd margin's larger half lies below, always; else alternately (round half to even) */
    ldr_filter filter;
    bool antialias;        /* widen the filter when shrinking, as Pillow does; else as OpenCV does */
    uint8_t pad[3];        /* in the order of the output */
    int channels;          /* 1 or 3 */
    bool bgr;
    float rescale, mean[3], std[3];
} ldr_preprocess;

/* Where the picture lies in the input: input = picture * scale + offset, in pixels of the full picture
 * and pixels of the input; of AFFINE from pixels' centres to pixels' centres, else from edges to edges. */
typedef struct ldr_placement {
    double scale_x, scale_y, offset_x, offset_y;
    int64_t image_width, image_height; /* full */
    int64_t input_width, input_height;
} ldr_placement;

/* The extents that the input gets for a picture of this size, and where the picture lies in it.
 * OD_TOO_LARGE: an input of more than LDR_INPUT_MAX pixels. */
enum { LDR_INPUT_MAX = 1 << 26 };
od_code ldr_image_place(const ldr_preprocess *p, int64_t full_width, int64_t full_height, ldr_placement *out, od_status *st);

/* Resize, pad or crop, normalise `from` into `to`, one item of the batch: rank 4, dims [1, C, H, W] as
 * ENG_ROW or ENG_CL, or [1, H, W, C] as ENG_ROW when `nhwc`; float, float16, uint8 or int32 (of whole
 * numbers: without rescale, mean, std). Its H and W must be those of `place`. `scratch` is used and rewound. */
od_code ldr_image_to_tensor(const ldr_pixels *from, const ldr_preprocess *p, const ldr_placement *place, bool nhwc,
                            eng_tensor *to, od_arena *scratch, od_status *st);

/* Resize alone, within 1/255 of what Pillow (antialias; across first, then down, as Pillow up to 12 always does)
 * or OpenCV gives; LDR_BOX without antialias is OpenCV's
 * INTER_AREA. `to` has its width, height, channels (those of `from`), stride and data set. */
od_code ldr_image_resize(const ldr_pixels *from, ldr_filter filter, bool antialias, ldr_pixels *to, od_arena *scratch,
                         od_status *st);

/* An 8-bit PNG of gray (1 channel) or RGB pixels; bytes from `a`. */
od_code ldr_png_encode(const ldr_pixels *p, od_arena *a, void **bytes, size_t *size, od_status *st);

#endif
