/* resample.c - pixels of one size into rows of another, and those into the model's input.
 *
 * The result is made row by row: the source's rows are resized across as they are needed and kept in a ring just long
 * enough for the filter's height, so that everything but the picture itself stays in the cache. */
#include "engine/base/cpu.h"
#include "loaders/image/parts.h"
#include "loaders/image/rows.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

static const ldr_rows *rows_variant(void)
{
    static _Atomic(const ldr_rows *) chosen; /* asking the processor is slow in a virtual machine */
    const ldr_rows *r = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (r) return r;
    r = &ldr_rows_ref;
#if defined(__x86_64__)
    if (od_cpu_isa() & OD_ISA_AVX2) r = &ldr_rows_avx2;
#endif
    atomic_store_explicit(&chosen, r, memory_order_relaxed);
    return r;
}

typedef struct resampler {
    const ldr_pixels *from;
    const ldr_rows *rows;
    ldr_taps x, y;
    int keep;             /* fraction bits of the rows in between */
    int16_t **ring;       /* slots; source row r lies in slot r % slots */
    const int16_t **window;
    int slots;
    int64_t next;         /* source rows before this one have been resized across */
    int64_t full_height, top; /* where OpenCV's bilinear filter finds its two rows */
} resampler;

static od_code no_memory(const ldr_pixels *from, int64_t width, int64_t height, od_status *st)
{
    return od_fail(st, OD_NO_MEMORY, "no memory to resize %" PRId64 " x %" PRId64 " pixels to %" PRId64 " x %" PRId64,
                   from->width, from->height, width, height);
}

/* Rows top .. top+height-1, columns left .. left+width-1 of `from` resized to full_width x full_height. */
static od_code resampler_init(resampler *r, const ldr_pixels *from, ldr_filter filter, bool antialias, int64_t full_width,
                              int64_t full_height, int64_t left, int64_t top, int64_t width, int64_t height, od_arena *a,
                              od_status *st)
{
    *r = (resampler){.from = from, .rows = rows_variant(), .full_height = full_height, .top = top};
    /* Pillow rounds between the directions, OpenCV does not: it shows where a filter overshoots. */
    bool overshoots = filter == LDR_BICUBIC || filter == LDR_LANCZOS;
    if (!antialias && overshoots) r->keep = 6;
    if (!antialias && filter == LDR_BILINEAR) r->keep = 7;
    bool fine = ldr_taps_make(&r->x, filter, antialias, antialias && overshoots, from->width, full_width, left, width, a) &&
                ldr_taps_make(&r->y, filter, antialias, false, from->height, full_height, top, height, a);
    if (fine) {
        r->slots = r->y.n;
        r->ring = od_arena_array(a, int16_t *, r->slots);
        r->window = od_arena_array(a, const int16_t *, r->slots);
        fine = r->ring && r->window;
    }
    size_t row = ((size_t)(width * from->channels) + LDR_ROW_SLACK) * sizeof(int16_t);
    for (int i = 0; fine && i < r->slots; i++) fine = (r->ring[i] = od_arena_zalloc(a, row)) != NULL;
    return fine ? OD_OK : no_memory(from, full_width, full_height, st);
}

/* OpenCV weighs both rows also at the edge, where they are one and the same: each product is cut. */
static void between_rows(resampler *r, int64_t i, uint8_t *to)
{
    int64_t first, last = r->from->height - 1;
    float second = ldr_taps_pair(r->from->height, r->full_height, r->top + i, &first);
    const int16_t *a = r->ring[od_max_i64(first, 0) % r->slots], *b = r->ring[od_min_i64(first + 1, last) % r->slots];
    r->rows->down_pair(a, b, (int16_t)lrintf((1 - second) * 2048), (int16_t)lrintf(second * 2048), r->x.count * r->from->channels, to);
}

/* Row `i` of the result into `to`, which has LDR_ROW_SLACK bytes to spare. Rows are asked for in order. */
static void resample_row(resampler *r, int64_t i, uint8_t *to)
{
    const ldr_pixels *p = r->from;
    int64_t start = r->y.start[i], len = r->y.len[i];
    if (r->next < start) r->next = start;
    for (; r->next < start + len; r->next++)
        r->rows->across(p->data + r->next * p->stride, p->width, p->channels, &r->x, r->keep, r->ring[r->next % r->slots]);
    if (r->y.cuts) {
        between_rows(r, i, to);
        return;
    }
    for (int64_t j = 0; j < len; j++) r->window[j] = r->ring[(start + j) % r->slots];
    r->rows->down(r->window, r->y.k + i * r->y.n, (int)len, r->y.bits + r->keep, r->x.count * p->channels, to);
}

od_code ldr_image_resize(const ldr_pixels *from, ldr_filter filter, bool antialias, ldr_pixels *to, od_arena *scratch,
                         od_status *st)
{
    resampler r;
    od_arena_mark mark = od_arena_save(scratch);
    od_code rc = resampler_init(&r, from, filter, antialias, to->width, to->height, 0, 0, to->width, to->height, scratch, st);
    size_t bytes = (size_t)(to->width * to->channels);
    uint8_t *line = rc == OD_OK ? od_arena_alloc(scratch, bytes + LDR_ROW_SLACK) : NULL;
    if (rc == OD_OK && !line) rc = od_fail(st, OD_NO_MEMORY, "no memory for a row of %zu bytes", bytes);
    for (int64_t y = 0; rc == OD_OK && y < to->height; y++) {
        resample_row(&r, y, line);
        memcpy(to->data + y * to->stride, line, bytes);
    }
    od_arena_rewind(scratch, mark);
    return rc;
}

/* ---- into the model's input --------------------------------------------------------------- */

/* Round to nearest even; too large becomes infinity. */
static uint16_t half_from_float(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a >= 0x7f800000) return (uint16_t)(sign | 0x7c00 | (a > 0x7f800000 ? 0x200 : 0));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000) { /* subnormal: adding a half shifts the mantissa into place and rounds */
        float magic, m;
        uint32_t bits = 0x3f000000;
        memcpy(&magic, &bits, sizeof magic);
        memcpy(&m, &a, sizeof m);
        m += magic;
        memcpy(&a, &m, sizeof a);
        return (uint16_t)(sign | (a - bits));
    }
    a += 0xc8000fff + (a >> 13 & 1);
    return (uint16_t)(sign | a >> 13);
}

typedef struct writer {
    const ldr_rows *rows;
    eng_tensor *to;
    ldr_levels levels;
    int64_t width, height, pixel; /* pixel: elements between pixels of interleaved layouts, 0: planes */
    float *floats;                /* a row of numbers for types that take another step */
} writer;

static void write_float16(writer *w, int64_t y)
{
    uint16_t *to = w->to->data;
    int n = w->levels.channels;
    for (int64_t x = 0; x < w->width; x++)
        for (int c = 0; c < n; c++) {
            int64_t at = w->pixel ? (y * w->width + x) * w->pixel + c : (c * w->height + y) * w->width + x;
            to[at] = half_from_float(w->floats[x * n + c]);
        }
}

/* Levels as they are. */
static void write_whole(const writer *w, const uint8_t *line, int64_t y)
{
    int n = w->levels.channels;
    for (int64_t x = 0; x < w->width; x++)
        for (int c = 0; c < n; c++) {
            int64_t at = w->pixel ? (y * w->width + x) * w->pixel + c : (c * w->height + y) * w->width + x;
            uint8_t level = line[x * n + (w->levels.bgr ? n - 1 - c : c)];
            if (w->to->dtype == ENG_UINT8) ((uint8_t *)w->to->data)[at] = level;
            else ((int32_t *)w->to->data)[at] = level;
        }
}

static void write_row(writer *w, const uint8_t *line, int64_t y)
{
    float *to = w->to->data;
    if (w->to->dtype == ENG_UINT8 || w->to->dtype == ENG_INT32) {
        write_whole(w, line, y);
    } else if (w->to->dtype == ENG_FLOAT16) {
        w->rows->to_pixels(line, w->width, &w->levels, w->floats);
        write_float16(w, y);
    } else if (w->pixel) { /* pitch is the channels: see check_target */
        w->rows->to_pixels(line, w->width, &w->levels, to + y * w->width * w->pixel);
    } else {
        float *planes[3];
        for (int c = 0; c < 3; c++) planes[c] = to + (c * w->height + y) * w->width;
        w->rows->to_planes(line, w->width, &w->levels, planes);
    }
}

static od_code check_target(const ldr_preprocess *p, const ldr_placement *place, bool nhwc, const eng_tensor *t, od_status *st)
{
    const int64_t *d = t->dims;
    bool fits = t->rank == 4 && d[0] == 1 && d[nhwc ? 3 : 1] == p->channels && d[nhwc ? 1 : 2] == place->input_height &&
                d[nhwc ? 2 : 3] == place->input_width && (t->layout == ENG_ROW || (!nhwc && t->pitch == p->channels));
    char text[128];
    if (!fits)
        return od_fail(st, OD_BAD_SHAPE, "a picture of %d x %" PRId64 " x %" PRId64 " (channels, height, width) does not fit %s",
                       p->channels, place->input_height, place->input_width, eng_tensor_text(t, text, sizeof text));
    if (t->dtype != ENG_FLOAT && t->dtype != ENG_FLOAT16 && t->dtype != ENG_UINT8 && t->dtype != ENG_INT32)
        return od_fail(st, OD_BAD_TYPE, "pictures become float, float16, uint8 or int32, not %s", eng_dtype_name(t->dtype));
    return OD_OK;
}

/* `line` filled with the padding, in the row's order of channels. */
static void pad_line(uint8_t *line, int64_t width, const ldr_preprocess *p)
{
    int n = p->channels;
    for (int64_t x = 0; x < width; x++)
        for (int c = 0; c < n; c++) line[x * n + c] = p->pad[p->bgr ? n - 1 - c : c];
}

/* Where `i`, behind an extent of n, lies in it when it is read forwards and backwards in turn. */
static int64_t mirrored(int64_t i, int64_t n)
{
    i %= 2 * n;
    return i < n ? i : 2 * n - 1 - i;
}

static void mirror_line(uint8_t *line, int64_t from, int64_t width, int n)
{
    for (int64_t x = from; x < width; x++)
        for (int c = 0; c < n; c++) line[x * n + c] = line[mirrored(x, from) * n + c];
}

/* Row `from` of the result once more. */
static void repeat_row(const writer *w, int64_t from, int64_t y)
{
    int n = w->levels.channels, planes = w->pixel ? 1 : n;
    size_t size = eng_dtype_size(w->to->dtype), row = (size_t)w->width * (size_t)(w->pixel ? n : 1) * size;
    for (int64_t c = 0; c < planes; c++) {
        uint8_t *plane = (uint8_t *)w->to->data + (size_t)(c * w->height) * row;
        memcpy(plane + (size_t)y * row, plane + (size_t)from * row, row);
    }
}

static od_code fill_tensor(writer *w, const ldr_pixels *from, const ldr_preprocess *p, const ldr_placement *place,
                           od_arena *scratch, od_status *st)
{
    int64_t full_width = (int64_t)(place->scale_x * (double)place->image_width + 0.5);
    int64_t full_height = (int64_t)(place->scale_y * (double)place->image_height + 0.5);
    int64_t dx = (int64_t)place->offset_x, dy = (int64_t)place->offset_y;
    int64_t x0 = od_max_i64(dx, 0), x1 = od_min_i64(dx + full_width, w->width); /* what of the input is picture */
    int64_t y0 = od_max_i64(dy, 0), y1 = od_min_i64(dy + full_height, w->height);
    int n = p->channels;
    bool mirror = p->mirror && x0 == 0 && y0 == 0 && x1 > 0 && y1 > 0;
    size_t bytes = (size_t)(w->width * n);
    uint8_t *line = od_arena_alloc(scratch, bytes + LDR_ROW_SLACK), *part = od_arena_alloc(scratch, bytes + LDR_ROW_SLACK);
    w->floats = od_arena_alloc(scratch, bytes * sizeof(float));
    if (!line || !part || !w->floats) return od_fail(st, OD_NO_MEMORY, "no memory for rows of %zu bytes", bytes);
    resampler r;
    OD_TRY(resampler_init(&r, from, p->filter, p->antialias, full_width, full_height, x0 - dx, y0 - dy, x1 - x0, y1 - y0,
                          scratch, st));
    pad_line(line, w->width, p);
    for (int64_t y = 0; y < y0; y++) write_row(w, line, y);
    for (int64_t y = y0; y < y1; y++) {
        bool whole = x1 - x0 == w->width;
        resample_row(&r, y - y0, whole ? line : part);
        if (!whole) memcpy(line + x0 * n, part, (size_t)((x1 - x0) * n));
        if (mirror) mirror_line(line, x1, w->width, n);
        write_row(w, line, y);
    }
    pad_line(line, w->width, p);
    for (int64_t y = y1; y < w->height; y++) {
        if (mirror) repeat_row(w, mirrored(y, y1), y);
        else write_row(w, line, y);
    }
    return OD_OK;
}

static od_code warp_tensor(writer *w, const ldr_pixels *from, const ldr_preprocess *p, const ldr_placement *place, od_arena *scratch,
                           od_status *st)
{
    ldr_warp warp;
    size_t bytes = (size_t)(w->width * p->channels);
    uint8_t *line = od_arena_alloc(scratch, bytes + LDR_ROW_SLACK), pad[3];
    w->floats = od_arena_alloc(scratch, bytes * sizeof(float));
    for (int c = 0; c < 3; c++) pad[c] = p->pad[p->bgr ? 2 - c : c];
    if (!line || !w->floats || !ldr_warp_init(&warp, from, place, p->align_corners, pad, scratch))
        return od_fail(st, OD_NO_MEMORY, "no memory for rows of %zu bytes", bytes);
    for (int64_t y = 0; y < w->height; y++) {
        ldr_warp_row(&warp, y, line);
        write_row(w, line, y);
    }
    return OD_OK;
}

od_code ldr_image_to_tensor(const ldr_pixels *from, const ldr_preprocess *p, const ldr_placement *place, bool nhwc,
                            eng_tensor *to, od_arena *scratch, od_status *st)
{
    OD_TRY(check_target(p, place, nhwc, to, st));
    if (from->channels != p->channels)
        return od_fail(st, OD_BAD_SHAPE, "%d channels where %d are wanted", from->channels, p->channels);
    writer w = {.rows = rows_variant(), .to = to, .width = place->input_width, .height = place->input_height,
                .pixel = nhwc || to->layout == ENG_CL ? p->channels : 0};
    w.levels.channels = p->channels;
    w.levels.bgr = p->bgr && p->channels == 3;
    for (int c = 0; c < p->channels; c++) {
        w.levels.scale[c] = p->rescale / p->std[c];
        w.levels.bias[c] = -p->mean[c] / p->std[c];
    }
    od_arena_mark mark = od_arena_save(scratch);
    od_code rc = (p->fit == LDR_FIT_AFFINE ? warp_tensor : fill_tensor)(&w, from, p, place, scratch, st);
    od_arena_rewind(scratch, mark);
    return rc;
}
