/* tiff.c - TIFF files through libtiff, for ImageDecoder. libtiff is opened when it is first needed; its header alone is
 * needed to build. */
#include "loaders/image/library.h"
#include "loaders/image/parts.h"

#if __has_include(<tiffio.h>)
#include <string.h>
#include <tiffio.h>

enum { CLIENT_OPEN, CLOSE, GET_FIELD, READ_RGBA, QUIET_ERRORS, QUIET_WARNINGS, FUNCTIONS };
static const char *const names[FUNCTIONS] = {"TIFFClientOpen", "TIFFClose", "TIFFGetField", "TIFFReadRGBAImageOriented", "TIFFSetErrorHandler",
                                             "TIFFSetWarningHandler"};

typedef struct source {
    const uint8_t *bytes;
    toff_t size, at;
} source;

static tmsize_t read_bytes(thandle_t handle, void *to, tmsize_t n)
{
    source *s = handle;
    toff_t left = s->at < s->size ? s->size - s->at : 0;
    if (n < 0) return -1;
    if ((toff_t)n > left) n = (tmsize_t)left;
    if (n) memcpy(to, s->bytes + s->at, (size_t)n);
    s->at += (toff_t)n;
    return n;
}

static tmsize_t write_nothing(thandle_t handle, void *from, tmsize_t n)
{
    (void)handle, (void)from, (void)n;
    return -1;
}

static toff_t seek(thandle_t handle, toff_t to, int whence)
{
    source *s = handle;
    return s->at = whence == SEEK_SET ? to : whence == SEEK_CUR ? s->at + to : s->size + to;
}

static int close_nothing(thandle_t handle)
{
    (void)handle;
    return 0;
}

static toff_t size_of(thandle_t handle)
{
    return ((source *)handle)->size;
}

static int map(thandle_t handle, void **base, toff_t *size)
{
    source *s = handle;
    *base = (void *)(uintptr_t)s->bytes;
    *size = s->size;
    return 1;
}

static void unmap(thandle_t handle, void *base, toff_t size)
{
    (void)handle, (void)base, (void)size;
}

typedef TIFF *open_fn(const char *, const char *, thandle_t, TIFFReadWriteProc, TIFFReadWriteProc, TIFFSeekProc, TIFFCloseProc, TIFFSizeProc,
                      TIFFMapFileProc, TIFFUnmapFileProc);
typedef int get_field_fn(TIFF *, uint32_t, ...);
typedef int read_rgba_fn(TIFF *, uint32_t, uint32_t, uint32_t *, int, int);
typedef TIFFErrorHandler set_handler_fn(TIFFErrorHandler);

static od_code decode(void *const *lib, TIFF *t, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st)
{
    uint32_t width = 0, height = 0;
    get_field_fn *get = (get_field_fn *)lib[GET_FIELD];
    if (!get(t, TIFFTAG_IMAGEWIDTH, &width) || !get(t, TIFFTAG_IMAGELENGTH, &height)) return od_fail(st, OD_BAD_VALUE, "TIFF: without a size");
    OD_TRY(ldr_image_check_size(width, height, o, st));
    OD_TRY(ldr_image_alloc(a, width, height, o->channels, out, st));
    uint32_t *rgba = od_arena_array(a, uint32_t, (int64_t)width * height);
    if (!rgba) return od_fail(st, OD_NO_MEMORY, "TIFF: no memory for %u x %u pixels", width, height);
    if (!((read_rgba_fn *)lib[READ_RGBA])(t, width, height, rgba, ORIENTATION_TOPLEFT, 0)) return od_fail(st, OD_BAD_VALUE, "TIFF: corrupt, or cut short");
    uint8_t *bytes = (uint8_t *)rgba; /* colours are multiplied by alpha already: black lies under them */
    for (int64_t i = 0; i < (int64_t)width * height; i++) {
        uint32_t p = rgba[i];
        bytes[4 * i] = (uint8_t)TIFFGetR(p);
        bytes[4 * i + 1] = (uint8_t)TIFFGetG(p);
        bytes[4 * i + 2] = (uint8_t)TIFFGetB(p);
        bytes[4 * i + 3] = 255;
    }
    ldr_image_flatten(bytes, (int64_t)width * height, 4, o, out->data);
    return OD_OK;
}

od_code ldr_tiff_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st)
{
    void *lib[FUNCTIONS];
    source s = {bytes, size, 0};
    OD_TRY(ldr_library_open("libtiff.so.6", names, lib, FUNCTIONS, st));
    ((set_handler_fn *)lib[QUIET_ERRORS])(NULL);
    ((set_handler_fn *)lib[QUIET_WARNINGS])(NULL);
    TIFF *t = ((open_fn *)lib[CLIENT_OPEN])("picture", "r", &s, read_bytes, write_nothing, seek, close_nothing, size_of, map, unmap);
    if (!t) return od_fail(st, OD_BAD_VALUE, "TIFF: a broken header");
    od_code rc = decode(lib, t, o, a, out, st);
    ((void (*)(TIFF *))lib[CLOSE])(t);
    return rc;
}
#else
od_code ldr_tiff_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st)
{
    (void)bytes, (void)size, (void)o, (void)a, (void)out;
    return od_fail(st, OD_UNSUPPORTED, "TIFF: this program was built without it");
}
#endif
