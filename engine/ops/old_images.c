/* old_images.c - operators that were experimental once and that old converters still write, as ONNX
 * Runtime runs them: ImageScaler, Affine, Crop. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <string.h>

/* x * scale + shift[channel], shift NULL: `otherwise`. Input and output ENG_CL of floats. */
static void scale_and_shift(eng_ctx *c, float scale, const float *shift, float otherwise)
{
    const eng_tensor *x = c->in[0], *y = c->out[0];
    int64_t channels = x->dims[1], pixels = channels ? eng_tensor_count(x) / channels : 0;
    for (int64_t p = 0; p < pixels; p++) {
        const float *from = (const float *)x->data + p * x->pitch;
        float *to = (float *)y->data + p * y->pitch;
        for (int64_t k = 0; k < channels; k++) to[k] = from[k] * scale + (shift ? shift[k] : otherwise);
    }
}

od_code eng_image_scaler_infer(eng_ctx *c, od_status *st)
{
    int64_t n;
    OD_TRY(eng_infer_same(c, st));
    if (c->in[0]->rank != 4) return od_fail(st, OD_BAD_SHAPE, "the input has rank %d, wanted 4", c->in[0]->rank);
    if (eng_node_floats(c->node, "bias", &n) && n != c->in[0]->dims[1])
        return od_fail(st, OD_BAD_ARGUMENT, "bias has %" PRId64 " numbers for %" PRId64 " channels", n, c->in[0]->dims[1]);
    return OD_OK;
}

od_code eng_image_scaler_run(eng_ctx *c, od_status *st)
{
    int64_t n;
    (void)st;
    scale_and_shift(c, eng_node_float(c->node, "scale", 1.0f), eng_node_floats(c->node, "bias", &n), 0.0f);
    return OD_OK;
}

od_code eng_affine_run(eng_ctx *c, od_status *st)
{
    const float *x = c->in[0]->data;
    float *y = c->out[0]->data, alpha = eng_node_float(c->node, "alpha", 1.0f), beta = eng_node_float(c->node, "beta", 0.0f);
    (void)st;
    for (int64_t i = 0; i < eng_tensor_count(c->in[0]); i++) y[i] = alpha * x[i] + beta;
    return OD_OK;
}

/* border [left, top, right, bottom]; scale [height, width], when given, sets the size behind left and top. */
od_code eng_crop_infer(eng_ctx *c, od_status *st)
{
    int64_t n, m;
    const eng_tensor *x = c->n_in ? c->in[0] : NULL;
    const int64_t *border = eng_node_ints(c->node, "border", &n), *scale = eng_node_ints(c->node, "scale", &m);
    if (!x || x->rank != 4) return od_fail(st, OD_BAD_SHAPE, "an input of rank 4 is wanted");
    if (n != 4 || (scale && m != 2)) return od_fail(st, OD_BAD_ARGUMENT, "border has %" PRId64 " numbers, scale %" PRId64, n, m);
    int64_t dims[4] = {x->dims[0], x->dims[1]};
    for (int i = 0; i < 2; i++) {
        int64_t from = border[1 - i], behind = border[3 - i], in = x->dims[2 + i];
        if (from < 0 || from > in || behind < 0 || behind > in - from || (scale && (scale[i] < 0 || scale[i] > in - from)))
            return od_fail(st, OD_BAD_ARGUMENT, "the border does not fit %" PRId64 " pixels", in);
        dims[2 + i] = scale ? scale[i] : in - from - behind;
    }
    return eng_set_out(c, 0, x->dtype, 4, dims, st);
}

od_code eng_crop_run(eng_ctx *c, od_status *st)
{
    int64_t n;
    const eng_tensor *x = c->in[0], *y = c->out[0];
    const int64_t *border = eng_node_ints(c->node, "border", &n);
    size_t row = (size_t)y->dims[3] * sizeof(float);
    (void)st;
    for (int64_t i = 0; i < y->dims[0] * y->dims[1] * y->dims[2]; i++) {
        int64_t line = (i / y->dims[2] * x->dims[2] + border[1] + i % y->dims[2]) * x->dims[3] + border[0];
        memcpy((char *)y->data + (size_t)i * row, (const float *)x->data + line, row);
    }
    return OD_OK;
}
