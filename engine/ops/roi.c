/* roi.c - RoiAlign, MaxRoiPool and ONNX Runtime's CropAndResize: regions of images to a fixed size.
 * RoiAlign and CropAndResize turn each output pixel into taps with weights, which the kernel of Resize
 * adds up for all channels. */
#include "engine/kernels/resize.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { GRID_MAX = 4096 }; /* samples a bin and axis: more than any image needs */

typedef struct region {
    int64_t image, grid[2]; /* samples a bin, of height and width */
    double start[2], bin[2];
} region;

typedef struct roi_job {
    const eng_tensor *x, *y;
    region *regions;
    int64_t most; /* taps of a pixel */
    bool max;
    char *slots;
    size_t slot_bytes;
    float extrapolation;
    bool nearest;
} roi_job;

od_code eng_roi_align10_import(eng_graph *g, eng_node *n, od_status *st)
{
    return eng_node_set_string(g, n, "coordinate_transformation_mode", "output_half_pixel", st);
}

static od_code check_inputs(const eng_ctx *c, int64_t per_roi, bool indices, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL, *rois = c->n_in > 1 ? c->in[1] : NULL, *batch = c->n_in > 2 ? c->in[2] : NULL;
    if (!x || !rois || (indices && !batch)) return od_fail(st, OD_BAD_MODEL, "an input is missing");
    if (x->rank != 4 || rois->rank != 2 || rois->dims[1] != per_roi) {
        char have[80], other[80];
        return od_fail(st, OD_BAD_SHAPE, "X is %s, rois %s: rank 4 and [n,%" PRId64 "] are wanted", eng_tensor_text(x, have, sizeof have),
                       eng_tensor_text(rois, other, sizeof other), per_roi);
    }
    if (rois->dtype != x->dtype) return od_fail(st, OD_BAD_TYPE, "rois are %s, X %s", eng_dtype_name(rois->dtype), eng_dtype_name(x->dtype));
    if (!indices) return OD_OK;
    if (batch->dtype != ENG_INT64 && batch->dtype != ENG_INT32) return od_fail(st, OD_BAD_TYPE, "batch_indices are %s", eng_dtype_name(batch->dtype));
    if (batch->rank != 1 || batch->dims[0] != rois->dims[0])
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " rois and %" PRId64 " batch_indices", rois->dims[0], eng_tensor_count(batch));
    return OD_OK;
}

static od_code set_out(eng_ctx *c, int64_t height, int64_t width, od_status *st)
{
    if (height < 1 || width < 1) return od_fail(st, OD_BAD_ARGUMENT, "an output of %" PRId64 " by %" PRId64, height, width);
    return eng_set_out(c, 0, c->in[0]->dtype, 4, (int64_t[]){c->in[1]->dims[0], c->in[0]->dims[1], height, width}, st);
}

static od_code image_of(const eng_ctx *c, double index, int64_t *image, od_status *st)
{
    if (!(index >= 0 && index < (double)c->in[0]->dims[0])) return od_fail(st, OD_BAD_VALUE, "a region of image %g of %" PRId64, index, c->in[0]->dims[0]);
    *image = (int64_t)index;
    return OD_OK;
}

/* Numbers of region r, `n` of them. */
static void read_roi(const eng_tensor *rois, int64_t r, int64_t n, double *to)
{
    eng_load_doubles(to, (const char *)rois->data + (size_t)(r * n) * eng_dtype_size(rois->dtype), rois->dtype, 1, n);
}

static void *pixel_of(const eng_tensor *t, int64_t pixel)
{
    return (char *)t->data + (size_t)(pixel * t->pitch) * eng_dtype_size(t->dtype);
}

static void add_taps(const roi_job *j, int64_t image, const int64_t *at, const float *w, int64_t taps, int64_t pixels, int64_t to)
{
    const eng_tensor *x = j->x, *y = j->y;
    const eng_resize_table *t = eng_resize_get();
    eng_resize_line l = {.x = pixel_of(x, image * x->dims[2] * x->dims[3]), .at = at, .w = w, .taps = taps, .pixels = pixels,
                         .channels = x->dims[1], .pitch = x->pitch, .y = pixel_of(y, to), .ldy = y->pitch};
    (x->dtype == ENG_DOUBLE ? t->line_f64 : t->line_f32)(&l);
}

/* ---- RoiAlign -------------------------------------------------------------------------------- */

od_code eng_roi_align_infer(eng_ctx *c, od_status *st)
{
    const eng_node *n = c->node;
    OD_TRY(check_inputs(c, 4, true, st));
    if (!eng_node_string_is(n, "mode", "avg", "avg") && !eng_node_string_is(n, "mode", "", "max")) return od_fail(st, OD_BAD_ARGUMENT, "mode is neither avg nor max");
    if (!eng_node_string_is(n, "coordinate_transformation_mode", "half_pixel", "half_pixel") &&
        !eng_node_string_is(n, "coordinate_transformation_mode", "", "output_half_pixel"))
        return od_fail(st, OD_BAD_ARGUMENT, "coordinate_transformation_mode is neither half_pixel nor output_half_pixel");
    int64_t ratio = eng_node_int(n, "sampling_ratio", 0);
    if (ratio < 0 || ratio > GRID_MAX) return od_fail(st, OD_BAD_ARGUMENT, "sampling_ratio is %" PRId64, ratio);
    return set_out(c, eng_node_int(n, "output_height", 1), eng_node_int(n, "output_width", 1), st);
}

static od_code read_regions(const eng_ctx *c, roi_job *j, od_status *st)
{
    const eng_tensor *y = c->out[0];
    bool half = eng_node_string_is(c->node, "coordinate_transformation_mode", "half_pixel", "half_pixel");
    int64_t ratio = eng_node_int(c->node, "sampling_ratio", 0);
    double scale = (double)eng_node_float(c->node, "spatial_scale", 1.0f), offset = half ? 0.5 : 0.0;
    for (int64_t r = 0; r < y->dims[0]; r++) {
        region *g = &j->regions[r];
        double v[4];
        read_roi(c->in[1], r, 4, v);
        OD_TRY(image_of(c, (double)eng_tensor_int(c->in[2], r), &g->image, st));
        for (int i = 0; i < 2; i++) { /* height, width */
            double extent = (v[3 - i] - v[1 - i]) * scale;
            g->start[i] = v[1 - i] * scale - offset;
            if (!half) extent = fmax(extent, 1.0);
            g->bin[i] = extent / (double)y->dims[2 + i];
            if (!isfinite(g->start[i]) || !(g->bin[i] <= GRID_MAX) || !isfinite(g->bin[i]))
                return od_fail(st, OD_BAD_VALUE, "region %" PRId64 " is %g long from %g", r, extent, g->start[i]);
            g->grid[i] = ratio ? ratio : od_max_i64(0, (int64_t)ceil(g->bin[i]));
        }
        j->most = od_max_i64(j->most, 4 * g->grid[0] * g->grid[1]);
    }
    return OD_OK;
}

/* The two taps of one coordinate; false: outside, all weights are zero. */
static bool axis_taps(double v, int64_t in, int64_t *at, double *w)
{
    bool inside = v >= -1.0 && v <= (double)in;
    v = !inside || v < 0 ? 0 : v;
    at[0] = od_min_i64((int64_t)v, in - 1);
    at[1] = od_min_i64(at[0] + 1, in - 1);
    w[1] = at[1] == at[0] ? 0 : v - (double)at[0];
    w[0] = 1 - w[1];
    return inside;
}

static void bin_taps(const roi_job *j, const region *g, const int64_t *bin, int64_t *at, float *w)
{
    double share = j->max ? 1.0 : 1.0 / (double)(g->grid[0] * g->grid[1]), wy[2], wx[2];
    int64_t ay[2], ax[2], height = j->x->dims[2], width = j->x->dims[3];
    for (int64_t i = 0; i < g->grid[0]; i++) {
        bool in_y = axis_taps(g->start[0] + ((double)bin[0] + ((double)i + 0.5) / (double)g->grid[0]) * g->bin[0], height, ay, wy);
        for (int64_t k = 0; k < g->grid[1]; k++, at += 4, w += 4) {
            bool in_x = axis_taps(g->start[1] + ((double)bin[1] + ((double)k + 0.5) / (double)g->grid[1]) * g->bin[1], width, ax, wx);
            for (int t = 0; t < 4; t++) {
                at[t] = ay[t / 2] * width + ax[t % 2];
                w[t] = in_y && in_x ? (float)(wy[t / 2] * wx[t % 2] * share) : 0.0f;
            }
        }
    }
}

static void largest_tap(const roi_job *j, int64_t image, const int64_t *at, const float *w, int64_t taps, int64_t to)
{
    const void *x = pixel_of(j->x, image * j->x->dims[2] * j->x->dims[3]);
    void *y = pixel_of(j->y, to);
    for (int64_t c = 0; c < j->x->dims[1]; c++) {
        double best = -DBL_MAX;
        for (int64_t t = 0; t < taps; t++) {
            int64_t from = at[t] * j->x->pitch + c;
            best = fmax(best, (double)w[t] * (j->x->dtype == ENG_DOUBLE ? ((const double *)x)[from] : (double)((const float *)x)[from]));
        }
        if (j->x->dtype == ENG_DOUBLE) ((double *)y)[c] = best;
        else ((float *)y)[c] = (float)best;
    }
}

static void align_bin(void *arg, int64_t chunk, int slot)
{
    const roi_job *j = arg;
    int64_t height = j->y->dims[2], width = j->y->dims[3], bin[2] = {chunk / width % height, chunk % width};
    const region *g = &j->regions[chunk / width / height];
    int64_t taps = 4 * g->grid[0] * g->grid[1], *at = (int64_t *)(void *)(j->slots + (size_t)slot * j->slot_bytes);
    float *w = (float *)(void *)(at + j->most);
    if (!taps) {
        memset(pixel_of(j->y, chunk), 0, (size_t)j->y->dims[1] * eng_dtype_size(j->y->dtype));
        return;
    }
    bin_taps(j, g, bin, at, w);
    if (j->max) largest_tap(j, g->image, at, w, taps, chunk);
    else add_taps(j, g->image, at, w, taps, 1, chunk);
}

od_code eng_roi_align_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0], *y = c->out[0];
    roi_job j = {.x = x, .y = y, .max = eng_node_string_is(c->node, "mode", "avg", "max")};
    if (!eng_tensor_count(y)) return OD_OK;
    if (!x->dims[2] || !x->dims[3]) return od_fail(st, OD_BAD_SHAPE, "X has no pixels");
    if (!(j.regions = od_arena_array(c->scratch, region, y->dims[0]))) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " regions", y->dims[0]);
    OD_TRY(read_regions(c, &j, st));
    j.slot_bytes = ((size_t)j.most * (sizeof(int64_t) + sizeof(float)) + 63) & ~(size_t)63;
    if (!(j.slots = od_arena_alloc(c->scratch, j.slot_bytes * (size_t)od_pool_slots(c->pool)))) return od_fail(st, OD_NO_MEMORY, "no memory for taps");
    od_pool_for(c->pool, y->dims[0] * y->dims[2] * y->dims[3], align_bin, &j);
    return OD_OK;
}

/* ---- MaxRoiPool ------------------------------------------------------------------------------ */

od_code eng_max_roi_pool_infer(eng_ctx *c, od_status *st)
{
    int64_t n;
    const int64_t *shape = eng_node_ints(c->node, "pooled_shape", &n);
    OD_TRY(check_inputs(c, 5, false, st));
    if (n != 2) return od_fail(st, OD_BAD_ARGUMENT, "pooled_shape has %" PRId64 " numbers", n);
    return set_out(c, shape[0], shape[1], st);
}

/* The largest of the pixels from[i] .. to[i]-1; zero when there are none. */
static void largest_pixel(const eng_tensor *x, const eng_tensor *y, int64_t image, const int64_t *from, const int64_t *to, int64_t out)
{
    for (int64_t c = 0; c < x->dims[1]; c++) {
        double best = from[0] < to[0] && from[1] < to[1] ? -DBL_MAX : 0;
        for (int64_t h = from[0]; h < to[0]; h++)
            for (int64_t w = from[1]; w < to[1]; w++) {
                const void *p = pixel_of(x, (image * x->dims[2] + h) * x->dims[3] + w);
                best = fmax(best, x->dtype == ENG_DOUBLE ? ((const double *)p)[c] : (double)((const float *)p)[c]);
            }
        if (x->dtype == ENG_DOUBLE) ((double *)pixel_of(y, out))[c] = best;
        else ((float *)pixel_of(y, out))[c] = (float)best;
    }
}

od_code eng_max_roi_pool_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0], *y = c->out[0];
    double scale = (double)eng_node_float(c->node, "spatial_scale", 1.0f);
    int64_t area = y->dims[2] * y->dims[3];
    for (int64_t r = 0; r < y->dims[0]; r++) {
        double v[5], start[2], extent[2];
        int64_t image = 0;
        read_roi(c->in[1], r, 5, v);
        OD_TRY(image_of(c, v[0], &image, st));
        for (int i = 0; i < 2; i++) {
            start[i] = round(v[2 - i] * scale);
            extent[i] = fmax(round(v[4 - i] * scale) - start[i] + 1, 1);
            if (!(fabs(start[i]) < 1e9) || !(extent[i] < 1e9)) return od_fail(st, OD_BAD_VALUE, "region %" PRId64 " is %g long from %g", r, extent[i], start[i]);
        }
        for (int64_t p = 0; p < area; p++) {
            int64_t at[2] = {p / y->dims[3], p % y->dims[3]}, from[2], to[2];
            for (int i = 0; i < 2; i++) {
                double bin = extent[i] / (double)y->dims[2 + i];
                from[i] = od_min_i64(od_max_i64((int64_t)(floor((double)at[i] * bin) + start[i]), 0), x->dims[2 + i]);
                to[i] = od_min_i64(od_max_i64((int64_t)(ceil((double)(at[i] + 1) * bin) + start[i]), 0), x->dims[2 + i]);
            }
            largest_pixel(x, y, image, from, to, r * area + p);
        }
    }
    return OD_OK;
}

/* ---- CropAndResize --------------------------------------------------------------------------- */

od_code eng_crop_and_resize_infer(eng_ctx *c, od_status *st)
{
    int64_t size[2], n;
    OD_TRY(check_inputs(c, 4, true, st));
    if (!eng_node_string_is(c->node, "mode", "bilinear", "bilinear") && !eng_node_string_is(c->node, "mode", "", "nearest"))
        return od_fail(st, OD_BAD_ARGUMENT, "mode is neither bilinear nor nearest");
    OD_TRY(eng_ints_in(c, 3, 2, size, &n, st));
    if (n != 2) return od_fail(st, OD_BAD_SHAPE, "crop_size has %" PRId64 " numbers", n);
    return set_out(c, size[0], size[1], st);
}

/* Where output coordinate `at` of axis i reads. */
static double crop_place(const roi_job *j, const region *g, int i, int64_t at)
{
    double last = (double)(j->x->dims[2 + i] - 1);
    int64_t out = j->y->dims[2 + i];
    if (out == 1) return 0.5 * (g->start[i] + g->bin[i]) * last; /* bin holds the end */
    return g->start[i] * last + (double)at * ((g->bin[i] - g->start[i]) * last / (double)(out - 1));
}

static void crop_line(void *arg, int64_t chunk, int slot)
{
    const roi_job *j = arg;
    const eng_tensor *x = j->x, *y = j->y;
    int64_t height = y->dims[2], width = y->dims[3], ay[2], ax[2], at[4];
    const region *g = &j->regions[chunk / height];
    double wy[2], wx[2], v = crop_place(j, g, 0, chunk % height), value = (double)j->extrapolation;
    (void)slot;
    for (int64_t i = 0; i < width; i++) {
        double h = crop_place(j, g, 1, i);
        int64_t to = chunk * width + i;
        if (!(v >= 0 && v <= (double)(x->dims[2] - 1) && h >= 0 && h <= (double)(x->dims[3] - 1))) {
            for (int64_t c = 0; c < y->dims[1]; c++)
                eng_store_doubles((char *)pixel_of(y, to) + (size_t)c * eng_dtype_size(y->dtype), &value, y->dtype, 1, 1);
            continue;
        }
        axis_taps(j->nearest ? round(v) : v, x->dims[2], ay, wy);
        axis_taps(j->nearest ? round(h) : h, x->dims[3], ax, wx);
        float w[4];
        for (int t = 0; t < 4; t++) {
            at[t] = ay[t / 2] * x->dims[3] + ax[t % 2];
            w[t] = (float)(wy[t / 2] * wx[t % 2]);
        }
        add_taps(j, g->image, at, w, 4, 1, to);
    }
}

od_code eng_crop_and_resize_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0], *y = c->out[0];
    roi_job j = {.x = x, .y = y, .extrapolation = eng_node_float(c->node, "extrapolation_value", 0.0f),
                 .nearest = eng_node_string_is(c->node, "mode", "bilinear", "nearest")};
    if (!eng_tensor_count(y)) return OD_OK;
    if (!x->dims[2] || !x->dims[3]) return od_fail(st, OD_BAD_SHAPE, "X has no pixels");
    if (!(j.regions = od_arena_array(c->scratch, region, y->dims[0]))) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " regions", y->dims[0]);
    for (int64_t r = 0; r < y->dims[0]; r++) {
        double v[4]; /* y1, x1, y2, x2 */
        read_roi(c->in[1], r, 4, v);
        j.regions[r] = (region){.start = {v[0], v[1]}, .bin = {v[2], v[3]}};
        OD_TRY(image_of(c, (double)eng_tensor_int(c->in[2], r), &j.regions[r].image, st));
    }
    od_pool_for(c->pool, y->dims[0] * y->dims[2], crop_line, &j);
    return OD_OK;
}
