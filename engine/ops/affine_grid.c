/* affine_grid.c - AffineGrid: the places that an affine map gives the pixels of an image. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <string.h>

od_code eng_affine_grid_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *theta = c->n_in ? c->in[0] : NULL;
    int64_t size[5], n, dims[5];
    if (!theta || c->n_in < 2 || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "theta and size are wanted");
    OD_TRY(eng_ints_in(c, 1, 5, size, &n, st));
    int axes = (int)n - 2;
    if (axes < 2 || theta->rank != 3 || theta->dims[0] != size[0] || theta->dims[1] != axes || theta->dims[2] != axes + 1)
        return od_fail(st, OD_BAD_SHAPE, "theta does not fit a size of %" PRId64 " numbers", n);
    dims[0] = size[0];
    memcpy(dims + 1, size + 2, (size_t)axes * sizeof *dims);
    dims[axes + 1] = axes;
    return eng_set_out(c, 0, theta->dtype, axes + 2, dims, st);
}

/* The centre of pixel i of n between -1 and 1. */
static double centre(int64_t i, int64_t n, bool corners)
{
    if (corners) return n > 1 ? 2.0 * (double)i / (double)(n - 1) - 1 : -1;
    return (2.0 * (double)i + 1) / (double)n - 1;
}

od_code eng_affine_grid_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *theta = c->in[0], *y = c->out[0];
    bool corners = eng_node_int(c->node, "align_corners", 0) != 0;
    int axes = y->rank - 2;
    size_t size = eng_dtype_size(theta->dtype);
    int64_t pixels = 1, per = (int64_t)axes * (axes + 1);
    (void)st;
    for (int i = 1; i <= axes; i++) pixels *= y->dims[i];
    for (int64_t image = 0; image < y->dims[0]; image++) {
        double m[12];
        eng_load_doubles(m, (const char *)theta->data + (size_t)(image * per) * size, theta->dtype, 1, per);
        for (int64_t p = 0; p < pixels; p++) {
            double at[3] = {0}, to[3]; /* innermost axis first */
            for (int64_t i = axes, rest = p; i >= 1; rest /= y->dims[i], i--) at[axes - i] = centre(rest % y->dims[i], y->dims[i], corners);
            for (int i = 0; i < axes; i++) {
                to[i] = m[i * (axes + 1) + axes];
                for (int k = 0; k < axes; k++) to[i] += m[i * (axes + 1) + k] * at[k];
            }
            eng_store_doubles((char *)y->data + (size_t)((image * pixels + p) * axes) * size, to, y->dtype, 1, axes);
        }
    }
    return OD_OK;
}
