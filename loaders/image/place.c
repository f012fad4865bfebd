/* place.c - how large a picture becomes and where it lies in the model's input. The rounding is that of the
 * tools the models come from: torchvision and Hugging Face for crops, Ultralytics for letterboxes. */
#include "loaders/image/parts.h"

#include <math.h>

static int64_t round_up(int64_t x, int64_t multiple)
{
    return multiple > 1 ? od_ceil_div(x, multiple) * multiple : x;
}

/* Shorter side to `shorter`, the longer in proportion, cut to whole pixels. */
static void to_shorter(double shorter, double exact, int64_t fw, int64_t fh, int64_t *rw, int64_t *rh)
{
    double w = (double)fw, h = (double)fh;
    *rw = fw <= fh ? (int64_t)shorter : (int64_t)(exact * w / h);
    *rh = fw <= fh ? (int64_t)(exact * h / w) : (int64_t)shorter;
}

static void shorter_extents(const ldr_preprocess *p, int64_t fw, int64_t fh, int64_t *rw, int64_t *rh)
{
    double w = (double)fw, h = (double)fh, exact = (double)p->shorter, size = exact;
    if (p->longer > 0 && fmax(w, h) / fmin(w, h) * size > (double)p->longer) {
        exact = (double)p->longer * fmin(w, h) / fmax(w, h);
        size = rint(exact);
    }
    to_shorter(size, exact, fw, fh, rw, rh);
}

static void resized_extents(const ldr_preprocess *p, int64_t fw, int64_t fh, int64_t *rw, int64_t *rh)
{
    double w = (double)fw, h = (double)fh;
    switch (p->fit) {
    case LDR_FIT_STRETCH:
        *rw = p->width;
        *rh = p->height;
        break;
    case LDR_FIT_LETTERBOX: {
        double r = fmin((double)p->width / w, (double)p->height / h);
        if (!p->enlarge && r > 1) r = 1;
        *rw = od_min_i64(p->width, p->centered ? llrint(w * r) : (int64_t)(w * r + 1e-6));
        *rh = od_min_i64(p->height, p->centered ? llrint(h * r) : (int64_t)(h * r + 1e-6));
        break;
    }
    case LDR_FIT_CROP:
        if (p->resize_width > 0) {
            *rw = p->resize_width;
            *rh = p->resize_height;
        } else if (p->shorter > 0) {
            to_shorter((double)p->shorter, (double)p->shorter, fw, fh, rw, rh);
        } else { /* as timm rounds */
            double ratio = fmax(w, h) / (double)p->longer;
            *rw = llrint(w / ratio);
            *rh = llrint(h / ratio);
        }
        break;
    case LDR_FIT_SHORTER:
        shorter_extents(p, fw, fh, rw, rh);
        break;
    case LDR_FIT_MULTIPLES: { /* GLPN's, with extents DPT's, with a shorter side MaskFormer's */
        if (p->shorter > 0) {
            shorter_extents(p, fw, fh, rw, rh);
            *rw = round_up(*rw, p->multiple);
            *rh = round_up(*rh, p->multiple);
            break;
        }
        double m = (double)od_max_i64(p->multiple, 1), sx = (double)p->width / w, sy = (double)p->height / h;
        double scale = fabs(1 - sx) < fabs(1 - sy) ? sx : sy;
        bool near = p->width > 0 && p->height > 0;
        *rw = (int64_t)((near ? rint(scale * w / m) : floor(w / m)) * m);
        *rh = (int64_t)((near ? rint(scale * h / m) : floor(h / m)) * m);
        *rw = od_max_i64(*rw, (int64_t)m);
        *rh = od_max_i64(*rh, (int64_t)m);
        break;
    }
    default:
        *rw = fw;
        *rh = fh;
    }
    *rw = od_max_i64(*rw, 1);
    *rh = od_max_i64(*rh, 1);
}

/* Where a resized extent begins in an input's extent; below zero: so much is cut off. */
static double begin(const ldr_preprocess *p, int64_t resized, int64_t input)
{
    int64_t spare = input - resized;
    if (p->fit == LDR_FIT_LETTERBOX) return p->centered ? (double)(spare / 2) : 0;
    if (p->fit != LDR_FIT_CROP) return 0;
    if (spare >= 0) return (double)(spare / 2);
    return p->crop_floor ? -(double)(-spare / 2) : -rint((double)-spare / 2);
}

/* As the tools of top-down poses place a person's box, which here is the picture. */
static ldr_placement place_affine(const ldr_preprocess *p, int64_t full_width, int64_t full_height)
{
    double w = (double)full_width * (1 + 2 * (double)p->margin), h = (double)full_height * (1 + 2 * (double)p->margin);
    double aspect = (double)p->width / (double)p->height, corner = p->align_corners && p->width > 1 && p->height > 1;
    if (w > h * aspect) h = w / aspect;
    else w = h * aspect;
    double sx = ((double)p->width - corner) / w, sy = ((double)p->height - corner) / h;
    return (ldr_placement){.scale_x = sx, .scale_y = sy, .offset_x = sx * (w - (double)full_width) / 2,
                           .offset_y = sy * (h - (double)full_height) / 2, .image_width = full_width, .image_height = full_height,
                           .input_width = p->width, .input_height = p->height};
}

od_code ldr_image_place(const ldr_preprocess *p, int64_t full_width, int64_t full_height, ldr_placement *out, od_status *st)
{
    int64_t rw, rh, iw = p->width, ih = p->height;
    resized_extents(p, full_width, full_height, &rw, &rh);
    if (p->fit == LDR_FIT_SHORTER || p->fit == LDR_FIT_NONE || p->fit == LDR_FIT_MULTIPLES || (p->fit == LDR_FIT_LETTERBOX && p->multiple > 0)) {
        int64_t more = p->above && p->multiple > 1 && p->fit != LDR_FIT_MULTIPLES && p->fit != LDR_FIT_LETTERBOX;
        iw = round_up(rw + more, p->multiple);
        ih = round_up(rh + more, p->multiple);
    }
    if (iw < 1 || ih < 1 || iw > LDR_INPUT_MAX / ih)
        return od_fail(st, OD_TOO_LARGE, "an input of %" PRId64 " x %" PRId64 " pixels; at most %d are possible", iw, ih,
                       LDR_INPUT_MAX);
    if (p->fit == LDR_FIT_AFFINE) {
        *out = place_affine(p, full_width, full_height);
        return OD_OK;
    }
    *out = (ldr_placement){.scale_x = (double)rw / (double)full_width, .scale_y = (double)rh / (double)full_height,
                           .offset_x = begin(p, rw, iw), .offset_y = begin(p, rh, ih),
                           .image_width = full_width, .image_height = full_height, .input_width = iw, .input_height = ih};
    return OD_OK;
}
