/* image_decoder.c - ImageDecoder. The size of the picture is found by decoding, so infer does that and
 * keeps the pixels for run. */
#include "engine/image_decoder.h"
#include "engine/ops/ops.h"

#include <stdatomic.h>
#include <string.h>

static _Atomic(eng_image_decode_fn *) decoder;

void eng_image_decoder_set(eng_image_decode_fn *fn)
{
    atomic_store(&decoder, fn);
}

od_code eng_image_decoder_infer(eng_ctx *c, od_status *st)
{
    const eng_node *n = c->node;
    bool gray = eng_node_string_is(n, "pixel_format", "RGB", "Grayscale"), bgr = eng_node_string_is(n, "pixel_format", "RGB", "BGR");
    if (!gray && !bgr && !eng_node_string_is(n, "pixel_format", "RGB", "RGB")) return od_fail(st, OD_BAD_ARGUMENT, "pixel_format is none of RGB, BGR, Grayscale");
    if (c->n_in < 1 || !c->in[0] || c->in[0]->rank != 1) return od_fail(st, OD_BAD_SHAPE, "the stream must have rank 1");
    eng_image_decode_fn *decode = atomic_load(&decoder);
    if (!decode) return od_fail(st, OD_UNSUPPORTED, "this program decodes no pictures");
    OD_TRY(eng_need(c, 0));
    eng_tensor pixels = {.dtype = ENG_UINT8, .rank = 3, .dims = {0, 0, gray ? 1 : 3}};
    od_status why;
    od_code rc = decode(c->in[0]->data, (size_t)c->in[0]->dims[0], gray ? 1 : 3, c->scratch, &pixels, &why);
    if (rc == OD_NO_MEMORY || rc == OD_TOO_LARGE) return od_fail(st, rc, "%s", why.msg);
    if (rc != OD_OK) return eng_set_out(c, 0, ENG_UINT8, 3, (int64_t[]){0, 0, gray ? 1 : 3}, st); /* as the standard asks */
    uint8_t *p = c->stash = pixels.data;
    for (int64_t i = 0; bgr && i < eng_tensor_count(&pixels); i += 3) {
        uint8_t red = p[i];
        p[i] = p[i + 2];
        p[i + 2] = red;
    }
    return eng_set_out(c, 0, ENG_UINT8, 3, pixels.dims, st);
}

od_code eng_image_decoder_run(eng_ctx *c, od_status *st)
{
    if (!c->stash) OD_TRY(eng_image_decoder_infer(c, st));
    if (eng_tensor_count(c->out[0])) memcpy(c->out[0]->data, c->stash, eng_tensor_bytes(c->out[0]));
    return OD_OK;
}
