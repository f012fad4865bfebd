/* jpeg.c - JPEG files through libjpeg-turbo. Its errors come back by longjmp to ldr_jpeg_decode, whose
 * state all lives in one struct, so that nothing is lost in registers. */
#include "loaders/image/parts.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

enum {
    SCANS_MAX = 200, /* of a progressive file: each costs a pass over all coefficients, whatever its bytes */
    EXIF_MARKER = JPEG_APP0 + 1
};

typedef struct jpeg_run {
    struct jpeg_decompress_struct c; /* first: libjpeg hands back its address */
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf door;
    const ldr_decode_options *o;
    od_arena *a;
    ldr_pixels *out;
    int orientation;
    od_code rc;
    od_status *st;
    bool ended, starved; /* the file ended; pixels were made without data */
} jpeg_run;

static void on_error(j_common_ptr c)
{
    jpeg_run *r = (jpeg_run *)(void *)c;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    bool memory = c->err->msg_code == JERR_OUT_OF_MEMORY;
    r->rc = od_fail(r->st, memory ? OD_NO_MEMORY : OD_BAD_VALUE, "JPEG: %s", text);
    longjmp(r->door, 1);
}

/* Warnings: remember those that tell a file cut short. */
static void on_message(j_common_ptr c, int level)
{
    jpeg_run *r = (jpeg_run *)(void *)c;
    if (level >= 0) return;
    if (c->err->msg_code == JWRN_JPEG_EOF) r->ended = true;
    if (c->err->msg_code == JWRN_HIT_MARKER) r->starved = true;
}

static void on_progress(j_common_ptr c)
{
    jpeg_run *r = (jpeg_run *)(void *)c;
    if (!c->is_decompressor || r->c.input_scan_number <= SCANS_MAX) return;
    r->rc = od_fail(r->st, OD_TOO_LARGE, "JPEG: more than %d scans", SCANS_MAX);
    longjmp(r->door, 1);
}

static int exif_orientation(const jpeg_run *r)
{
    for (jpeg_saved_marker_ptr m = r->c.marker_list; m; m = m->next)
        if (m->marker == EXIF_MARKER && m->data_length >= 6 && !memcmp(m->data, "Exif\0\0", 6))
            return ldr_exif_orientation(m->data + 6, m->data_length - 6);
    return 1;
}

/* The largest of 1, 2, 4, 8 by which the picture may shrink while decoding. With four times the needed extents left,
 * levels are within one of those without shrinking but for a hundredth of them; with twice, a quarter of them are not. */
static unsigned shrink_by(const jpeg_run *r)
{
    enum { MARGIN = 4 };
    int64_t w = r->o->need_width, h = r->o->need_height;
    if (w <= 0 || h <= 0) return 1;
    if (r->orientation >= 5) {
        w = r->o->need_height;
        h = r->o->need_width;
    }
    unsigned by = 8;
    while (by > 1 && ((int64_t)r->c.image_width < MARGIN * w * by || (int64_t)r->c.image_height < MARGIN * h * by)) by /= 2;
    return by;
}

/* Adobe's programs, which write nearly all of these files, store the inks inverted and say so in a marker. */
static void row_from_cmyk(const uint8_t *from, uint8_t *to, int64_t n, bool inverted, int channels)
{
    unsigned flip = inverted ? 0 : 255;
    for (int64_t x = 0; x < n; x++, from += 4, to += channels) {
        unsigned rgb[3];
        for (int i = 0; i < 3; i++) rgb[i] = ldr_mul255(from[i] ^ flip, from[3] ^ flip);
        if (channels == 1) to[0] = ldr_luma(rgb[0], rgb[1], rgb[2]);
        else
            for (int i = 0; i < 3; i++) to[i] = (uint8_t)rgb[i];
    }
}

static od_code read_rows(jpeg_run *r)
{
    struct jpeg_decompress_struct *c = &r->c;
    bool cmyk = c->out_color_space == JCS_CMYK;
    uint8_t *inks = NULL;
    if (cmyk && !(inks = od_arena_alloc(r->a, (size_t)c->output_width * 4))) return od_fail(r->st, OD_NO_MEMORY, "JPEG: a row");
    while (c->output_scanline < c->output_height) {
        uint8_t *row = r->out->data + (int64_t)c->output_scanline * r->out->stride;
        JSAMPROW rows[1] = {cmyk ? inks : row};
        if (jpeg_read_scanlines(c, rows, 1) != 1) return od_fail(r->st, OD_BAD_VALUE, "JPEG: cut short");
        if (cmyk) row_from_cmyk(inks, row, r->out->width, c->saw_Adobe_marker, r->out->channels);
    }
    /* A scan that lost its end was filled with gray; a progressive file that lost its later scans is a blur. */
    if (r->ended && (r->starved || jpeg_has_multiple_scans(c))) return od_fail(r->st, OD_BAD_VALUE, "JPEG: cut short");
    return OD_OK;
}

static od_code decode(jpeg_run *r, const uint8_t *bytes, size_t size)
{
    struct jpeg_decompress_struct *c = &r->c;
    jpeg_create_decompress(c);
    c->progress = &r->progress;
    r->progress.progress_monitor = on_progress;
    jpeg_mem_src(c, bytes, size);
    jpeg_save_markers(c, EXIF_MARKER, 0xffff);
    jpeg_read_header(c, TRUE);
    OD_TRY(ldr_image_check_size(c->image_width, c->image_height, r->o, r->st));
    r->orientation = exif_orientation(r);
    bool cmyk = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    bool gray = r->o->channels == 1 && (c->jpeg_color_space == JCS_GRAYSCALE || c->jpeg_color_space == JCS_YCbCr ||
                                        c->jpeg_color_space == JCS_RGB);
    c->out_color_space = cmyk ? JCS_CMYK : gray ? JCS_GRAYSCALE : JCS_RGB;
    c->scale_num = 1;
    c->scale_denom = shrink_by(r);
    jpeg_start_decompress(c);
    OD_TRY(ldr_image_alloc(r->a, c->output_width, c->output_height, r->o->channels, r->out, r->st));
    r->out->full_width = c->image_width;
    r->out->full_height = c->image_height;
    if (!cmyk && c->output_components != r->o->channels)
        return od_fail(r->st, OD_UNSUPPORTED, "JPEG: %d components where %d are wanted", c->output_components, r->o->channels);
    return read_rows(r);
}

od_code ldr_jpeg_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out,
                        int *orientation, od_status *st)
{
    jpeg_run r = {.o = o, .a = a, .out = out, .st = st, .orientation = 1};
    r.c.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    if (!setjmp(r.door)) r.rc = decode(&r, bytes, size);
    *orientation = r.orientation;
    jpeg_destroy_decompress(&r.c);
    return r.rc;
}
