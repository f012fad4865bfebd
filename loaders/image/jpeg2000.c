/* jpeg2000.c - JPEG 2000 files and code streams through OpenJPEG, for ImageDecoder. The library is opened when it is
 * first needed; its header alone is needed to build. */
#include "loaders/image/library.h"
#include "loaders/image/parts.h"

#if __has_include(<openjpeg-2.5/openjpeg.h>)
#include <openjpeg-2.5/openjpeg.h>
#include <math.h>
#include <string.h>

enum { STREAM_CREATE, STREAM_DESTROY, SET_READ, SET_SKIP, SET_SEEK, SET_DATA, SET_LENGTH, CREATE, DESTROY, DEFAULTS, SETUP, HEADER, DECODE, IMAGE_DESTROY, FUNCTIONS };
static const char *const names[FUNCTIONS] = {
    "opj_stream_default_create", "opj_stream_destroy", "opj_stream_set_read_function", "opj_stream_set_skip_function", "opj_stream_set_seek_function",
    "opj_stream_set_user_data", "opj_stream_set_user_data_length", "opj_create_decompress", "opj_destroy_codec", "opj_set_default_decoder_parameters",
    "opj_setup_decoder", "opj_read_header", "opj_decode", "opj_image_destroy"};

typedef struct source {
    const uint8_t *bytes;
    size_t size, at;
} source;

static OPJ_SIZE_T read_bytes(void *to, OPJ_SIZE_T n, void *arg)
{
    source *s = arg;
    if (s->at == s->size) return (OPJ_SIZE_T)-1;
    if (n > s->size - s->at) n = s->size - s->at;
    memcpy(to, s->bytes + s->at, n);
    s->at += n;
    return n;
}

static OPJ_OFF_T skip(OPJ_OFF_T n, void *arg)
{
    source *s = arg;
    if (n < 0) return -1;
    if ((size_t)n > s->size - s->at) n = (OPJ_OFF_T)(s->size - s->at);
    s->at += (size_t)n;
    return n;
}

static OPJ_BOOL seek(OPJ_OFF_T to, void *arg)
{
    source *s = arg;
    if (to < 0 || (size_t)to > s->size) return OPJ_FALSE;
    s->at = (size_t)to;
    return OPJ_TRUE;
}

/* Sample of component `c` at x, y of the picture, in 8 bits. */
static int sample(const opj_image_comp_t *c, int64_t x, int64_t y)
{
    int64_t sx = x / c->dx, sy = y / c->dy;
    if (sx >= c->w) sx = c->w - 1;
    if (sy >= c->h) sy = c->h - 1;
    int64_t v = c->data[sy * c->w + sx] + (c->sgnd ? (int64_t)1 << (c->prec - 1) : 0);
    v = c->prec > 8 ? v >> (c->prec - 8) : c->prec < 8 ? v * 255 / (((int64_t)1 << c->prec) - 1) : v;
    return v < 0 ? 0 : v > 255 ? 255 : (int)v;
}

static uint8_t level(double v)
{
    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)lround(v);
}

static od_code take_pixels(const opj_image_t *image, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st)
{
    int64_t width = (int64_t)image->x1 - image->x0, height = (int64_t)image->y1 - image->y0;
    int have = image->numcomps > 4 ? 3 : (int)image->numcomps;
    for (int c = 0; c < have; c++) {
        const opj_image_comp_t *comp = &image->comps[c];
        if (!comp->data || !comp->w || !comp->h || !comp->dx || !comp->dy || comp->prec < 1 || comp->prec > 31)
            return od_fail(st, OD_BAD_VALUE, "JPEG 2000: component %d is empty", c);
    }
    OD_TRY(ldr_image_alloc(a, width, height, o->channels, out, st));
    bool ycc = have >= 3 && (image->color_space == OPJ_CLRSPC_SYCC || image->comps[1].dx != image->comps[0].dx);
    for (int64_t i = 0; i < width * height; i++) {
        uint8_t p[4];
        int v[4];
        for (int c = 0; c < have; c++) v[c] = sample(&image->comps[c], i % width, i / width);
        for (int c = 0; c < have; c++) p[c] = (uint8_t)v[c];
        if (ycc) {
            p[0] = level(v[0] + 1.402 * (v[2] - 128));
            p[1] = level(v[0] - 0.344136 * (v[1] - 128) - 0.714136 * (v[2] - 128));
            p[2] = level(v[0] + 1.772 * (v[1] - 128));
        }
        ldr_image_flatten(p, 1, have, o, out->data + i * o->channels);
    }
    return OD_OK;
}

static od_code decode(void *const *lib, opj_codec_t *codec, opj_stream_t *stream, opj_image_t **image, const ldr_decode_options *o, od_status *st)
{
    opj_dparameters_t how;
    ((void (*)(opj_dparameters_t *))lib[DEFAULTS])(&how);
    if (!((OPJ_BOOL(*)(opj_codec_t *, opj_dparameters_t *))lib[SETUP])(codec, &how) ||
        !((OPJ_BOOL(*)(opj_stream_t *, opj_codec_t *, opj_image_t **))lib[HEADER])(stream, codec, image) || !*image || !(*image)->numcomps)
        return od_fail(st, OD_BAD_VALUE, "JPEG 2000: a broken header");
    OD_TRY(ldr_image_check_size((int64_t)(*image)->x1 - (*image)->x0, (int64_t)(*image)->y1 - (*image)->y0, o, st));
    if ((*image)->numcomps > 16) return od_fail(st, OD_UNSUPPORTED, "JPEG 2000: %u components", (*image)->numcomps);
    if (!((OPJ_BOOL(*)(opj_codec_t *, opj_stream_t *, opj_image_t *))lib[DECODE])(codec, stream, *image))
        return od_fail(st, OD_BAD_VALUE, "JPEG 2000: corrupt, or cut short");
    return OD_OK;
}

od_code ldr_jpeg2000_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st)
{
    void *lib[FUNCTIONS];
    source s = {bytes, size, 0};
    opj_image_t *image = NULL;
    OD_TRY(ldr_library_open("libopenjp2.so.7", names, lib, FUNCTIONS, st));
    bool bare = size > 2 && bytes[0] == 0xff;
    opj_codec_t *codec = ((opj_codec_t * (*)(OPJ_CODEC_FORMAT)) lib[CREATE])(bare ? OPJ_CODEC_J2K : OPJ_CODEC_JP2);
    opj_stream_t *stream = ((opj_stream_t * (*)(OPJ_BOOL)) lib[STREAM_CREATE])(OPJ_TRUE);
    od_code rc = codec && stream ? OD_OK : od_fail(st, OD_NO_MEMORY, "JPEG 2000: no memory");
    if (rc == OD_OK) {
        ((void (*)(opj_stream_t *, opj_stream_read_fn))lib[SET_READ])(stream, read_bytes);
        ((void (*)(opj_stream_t *, opj_stream_skip_fn))lib[SET_SKIP])(stream, skip);
        ((void (*)(opj_stream_t *, opj_stream_seek_fn))lib[SET_SEEK])(stream, seek);
        ((void (*)(opj_stream_t *, void *, opj_stream_free_user_data_fn))lib[SET_DATA])(stream, &s, NULL);
        ((void (*)(opj_stream_t *, OPJ_UINT64))lib[SET_LENGTH])(stream, size);
        rc = decode(lib, codec, stream, &image, o, st);
    }
    if (rc == OD_OK) rc = take_pixels(image, o, a, out, st);
    if (image) ((void (*)(opj_image_t *))lib[IMAGE_DESTROY])(image);
    if (stream) ((void (*)(opj_stream_t *))lib[STREAM_DESTROY])(stream);
    if (codec) ((void (*)(opj_codec_t *))lib[DESTROY])(codec);
    return rc;
}
#else
od_code ldr_jpeg2000_decode(const uint8_t *bytes, size_t size, const ldr_decode_options *o, od_arena *a, ldr_pixels *out, od_status *st)
{
    (void)bytes, (void)size, (void)o, (void)a, (void)out;
    return od_fail(st, OD_UNSUPPORTED, "JPEG 2000: this program was built without it");
}
#endif
