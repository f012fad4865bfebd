/* png.c - PNG files through libpng, in and out. Its errors come back by longjmp to the two functions at the
 * end, whose state all lives in one struct. */
#include "loaders/image/parts.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

typedef struct png_run {
    png_structp png;
    png_infop info;
    jmp_buf door;
    const uint8_t *bytes; /* reading */
    size_t size, at;
    const ldr_decode_options *o;
    od_arena *a;
    ldr_pixels *out;
    int orientation;
    uint8_t *written; /* writing */
    size_t len, cap;
    od_code rc;
    od_status *st;
} png_run;

static void on_error(png_structp png, png_const_charp text)
{
    png_run *r = png_get_error_ptr(png);
    r->rc = od_fail(r->st, OD_BAD_VALUE, "PNG: %s", text);
    longjmp(r->door, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text; /* libpng has mended it */
}

static void give_bytes(png_structp png, png_bytep to, size_t n)
{
    png_run *r = png_get_io_ptr(png);
    if (n > r->size - r->at) png_error(png, "cut short");
    memcpy(to, r->bytes + r->at, n);
    r->at += n;
}

static od_code read_rows(png_run *r)
{
    int have = png_get_channels(r->png, r->info);
    size_t row = png_get_rowbytes(r->png, r->info), bytes;
    int64_t height = r->out->height;
    if (png_get_interlace_type(r->png, r->info) == PNG_INTERLACE_NONE) {
        uint8_t *line = od_arena_alloc(r->a, row);
        if (!line) return od_fail(r->st, OD_NO_MEMORY, "PNG: a row of %zu bytes", row);
        for (int64_t y = 0; y < height; y++) {
            png_read_row(r->png, line, NULL);
            ldr_image_flatten(line, r->out->width, have, r->o, r->out->data + y * r->out->stride);
        }
    } else { /* every pass touches all rows */
        uint8_t *all = od_mul(row, (size_t)height, &bytes) ? od_arena_alloc(r->a, bytes) : NULL;
        png_bytepp rows = od_arena_array(r->a, png_bytep, height);
        if (!all || !rows) return od_fail(r->st, OD_NO_MEMORY, "PNG: %" PRId64 " rows of %zu bytes", height, row);
        for (int64_t y = 0; y < height; y++) rows[y] = all + (size_t)y * row;
        png_read_image(r->png, rows);
        for (int64_t y = 0; y < height; y++) ldr_image_flatten(rows[y], r->out->width, have, r->o, r->out->data + y * r->out->stride);
    }
    png_read_end(r->png, NULL);
    return OD_OK;
}

static od_code decode(png_run *r)
{
    png_bytep exif;
    png_uint_32 exif_size;
    png_set_read_fn(r->png, r, give_bytes);
    png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* the bound on the product is ours */
    png_set_chunk_cache_max(r->png, 64);
    png_set_chunk_malloc_max(r->png, 8u << 20);
    png_read_info(r->png, r->info);
    int64_t width = png_get_image_width(r->png, r->info), height = png_get_image_height(r->png, r->info);
    OD_TRY(ldr_image_check_size(width, height, r->o, r->st));
    if (png_get_eXIf_1(r->png, r->info, &exif_size, &exif)) r->orientation = ldr_exif_orientation(exif, exif_size);
    png_set_expand(r->png); /* palettes to RGB, few bits to 8, tRNS to alpha */
    png_set_scale_16(r->png);
    if (png_get_interlace_type(r->png, r->info) != PNG_INTERLACE_NONE) png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    OD_TRY(ldr_image_alloc(r->a, width, height, r->o->channels, r->out, r->st));
    return read_rows(r);
}

od_code ldr_png_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out,
                       int *orientation, od_status *st)
{
    png_run r = {.bytes = bytes, .size = size, .o = o, .a = a, .out = out, .st = st, .orientation = 1};
    if (!(r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning)))
        return od_fail(st, OD_NO_MEMORY, "PNG: no memory");
    if (!setjmp(r.door)) {
        r.info = png_create_info_struct(r.png);
        r.rc = r.info ? decode(&r) : od_fail(st, OD_NO_MEMORY, "PNG: no memory");
    }
    *orientation = r.orientation;
    png_destroy_read_struct(&r.png, &r.info, NULL);
    return r.rc;
}

/* ---- out ---------------------------------------------------------------------------------- */

static void take_bytes(png_structp png, png_bytep from, size_t n)
{
    png_run *r = png_get_io_ptr(png);
    if (n > r->cap - r->len) {
        size_t cap = r->cap * 2 > r->len + n ? r->cap * 2 : r->len + n;
        uint8_t *more = od_arena_alloc(r->a, cap);
        if (!more) {
            r->rc = od_fail(r->st, OD_NO_MEMORY, "PNG: %zu bytes", cap);
            longjmp(r->door, 1);
        }
        if (r->len) memcpy(more, r->written, r->len);
        r->written = more;
        r->cap = cap;
    }
    memcpy(r->written + r->len, from, n);
    r->len += n;
}

static void keep_bytes(png_structp png)
{
    (void)png; /* nothing to flush to */
}

static void encode(png_run *r, const ldr_pixels *p)
{
    png_set_write_fn(r->png, r, take_bytes, keep_bytes);
    png_set_compression_level(r->png, 3); /* masks and maps shrink well with little effort */
    png_set_IHDR(r->png, r->info, (png_uint_32)p->width, (png_uint_32)p->height, 8,
                 p->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(r->png, r->info);
    for (int64_t y = 0; y < p->height; y++) png_write_row(r->png, p->data + y * p->stride);
    png_write_end(r->png, r->info);
}

od_code ldr_png_encode(const ldr_pixels *p, od_arena *a, void **bytes, size_t *size, od_status *st)
{
    png_run r = {.a = a, .st = st};
    if (p->width < 1 || p->height < 1 || p->width > PNG_UINT_31_MAX || p->height > PNG_UINT_31_MAX)
        return od_fail(st, OD_BAD_ARGUMENT, "PNG: %" PRId64 " x %" PRId64 " pixels", p->width, p->height);
    if (!(r.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning)))
        return od_fail(st, OD_NO_MEMORY, "PNG: no memory");
    if (!setjmp(r.door)) {
        if ((r.info = png_create_info_struct(r.png))) encode(&r, p);
        else r.rc = od_fail(st, OD_NO_MEMORY, "PNG: no memory");
    }
    png_destroy_write_struct(&r.png, &r.info);
    *bytes = r.written;
    *size = r.len;
    return r.rc;
}
