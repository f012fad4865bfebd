/* nhwc.c - ONNX Runtime's forms of convolution and pooling: FusedConv, and those whose tensors are
 * channels-last to the outside. The latter are run by the usual operator on a view: a dense NHWC tensor
 * has the bytes of an NCHW one in ENG_CL. */
#include "engine/ops/ops.h"

#include <string.h>

enum { INPUTS_MAX = 16 };

/* ---- FusedConv: X, W, B, Z ------------------------------------------------------------------- */

od_code eng_fused_conv_import(eng_graph *g, eng_node *n, od_status *st)
{
    static const struct {
        const char *name;
        eng_act act;
        float alpha, beta; /* where the model gives none */
    } acts[] = {{"", ENG_ACT_NONE, 0, 0}, {"Relu", ENG_ACT_RELU, 0, 0}, {"Tanh", ENG_ACT_TANH, 0, 0}, {"Sigmoid", ENG_ACT_SIGMOID, 0, 0},
                {"LeakyRelu", ENG_ACT_LEAKY_RELU, 0.01f, 0}, {"Clip", ENG_ACT_CLIP, -3.4e38f, 3.4e38f}, {"HardSigmoid", ENG_ACT_HARD_SIGMOID, 0.2f, 0.5f},
                {"HardSwish", ENG_ACT_HARD_SWISH, 0, 0}};
    int64_t count;
    const float *given = eng_node_floats(n, "activation_params", &count);
    (void)g;
    for (size_t i = 0; i < OD_COUNT(acts); i++) {
        if (!eng_node_string_is(n, "activation", "", acts[i].name)) continue;
        n->fused = (eng_epilogue){.act = acts[i].act, .alpha = count > 0 ? given[0] : acts[i].alpha, .beta = count > 1 ? given[1] : acts[i].beta};
        if (n->n_in > 3 && n->in[3] >= 0) {
            n->fused.residual = ENG_RES_BEFORE_ACT;
            n->fused.residual_in = 3;
        }
        return OD_OK;
    }
    return od_fail(st, OD_UNSUPPORTED, "this activation");
}

od_code eng_fused_conv_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(eng_conv_infer(c, st));
    const eng_tensor *z = c->n_in > 3 ? c->in[3] : NULL;
    if (z && c->out[0] && (z->dtype != c->out[0]->dtype || !eng_dims_equal(z, c->out[0]))) {
        char have[80], want[80];
        return od_fail(st, OD_BAD_SHAPE, "Z is %s, the output %s", eng_tensor_text(z, have, sizeof have), eng_tensor_text(c->out[0], want, sizeof want));
    }
    return OD_OK;
}

/* ---- views ----------------------------------------------------------------------------------- */

typedef struct view {
    eng_ctx c;
    eng_tensor x, y;
    const eng_tensor *in[INPUTS_MAX];
    eng_tensor *out[1];
} view;

/* A dense NHWC tensor as NCHW in ENG_CL. */
static eng_tensor as_image(const eng_tensor *t)
{
    eng_tensor v = *t;
    v.layout = ENG_CL;
    v.pitch = v.dims[1] = t->dims[t->rank - 1];
    for (int i = 2; i < t->rank; i++) v.dims[i] = t->dims[i - 1];
    return v;
}

static od_code view_images(const eng_ctx *c, view *v, od_status *st)
{
    if (c->n_in < 1 || !c->in[0] || c->in[0]->rank < 3) return od_fail(st, OD_BAD_SHAPE, "an input of rank 3 or more is wanted");
    if (c->n_in > INPUTS_MAX) return od_fail(st, OD_BAD_MODEL, "%d inputs", c->n_in);
    v->c = *c;
    v->x = as_image(c->in[0]);
    v->y = c->out[0]->rank >= 3 ? as_image(c->out[0]) : (eng_tensor){.dtype = ENG_UNDEFINED};
    memcpy(v->in, c->in, (size_t)c->n_in * sizeof *c->in);
    v->in[0] = &v->x;
    v->out[0] = &v->y;
    v->c.in = v->in;
    v->c.out = v->out;
    v->c.n_out = 1;
    return OD_OK;
}

static od_code infer_view(eng_ctx *c, eng_infer_fn *infer, od_status *st)
{
    view v;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(view_images(c, &v, st));
    OD_TRY(infer(&v.c, st));
    dims[0] = v.y.dims[0];
    dims[v.y.rank - 1] = v.y.dims[1];
    for (int i = 2; i < v.y.rank; i++) dims[i - 1] = v.y.dims[i];
    return eng_set_out(c, 0, v.y.dtype, v.y.rank, dims, st);
}

static od_code run_view(eng_ctx *c, eng_run_fn *run, od_status *st)
{
    view v;
    OD_TRY(view_images(c, &v, st));
    return run(&v.c, st);
}

od_code eng_nhwc_conv_infer(eng_ctx *c, od_status *st)
{
    return infer_view(c, eng_conv_infer, st);
}

od_code eng_nhwc_conv_run(eng_ctx *c, od_status *st)
{
    return run_view(c, eng_conv_run, st);
}

od_code eng_nhwc_max_pool_infer(eng_ctx *c, od_status *st)
{
    return infer_view(c, eng_pool_infer, st);
}

od_code eng_nhwc_max_pool_run(eng_ctx *c, od_status *st)
{
    return run_view(c, eng_max_pool_run, st);
}

/* QLinearConv says by an attribute which it is, and knows ENG_ROW only. */
static bool channels_last(const eng_ctx *c)
{
    return eng_node_int(c->node, "channels_last", 0) != 0;
}

od_code eng_ms_qlinear_conv_infer(eng_ctx *c, od_status *st)
{
    return channels_last(c) ? infer_view(c, eng_qlinear_conv_infer, st) : eng_qlinear_conv_infer(c, st);
}

od_code eng_ms_qlinear_conv_run(eng_ctx *c, od_status *st)
{
    if (!channels_last(c)) return eng_qlinear_conv_run(c, st);
    view v;
    OD_TRY(view_images(c, &v, st));
    eng_tensor x = v.x, y = v.y;
    v.x.layout = v.y.layout = ENG_ROW;
    v.x.data = od_arena_alloc(c->scratch, eng_tensor_bytes(&v.x) + 1);
    v.y.data = od_arena_alloc(c->scratch, eng_tensor_bytes(&v.y) + 1);
    if (!v.x.data || !v.y.data) return od_fail(st, OD_NO_MEMORY, "no memory for other layouts");
    eng_tensor_relayout(&v.x, &x, c->pool);
    OD_TRY(eng_qlinear_conv_run(&v.c, st));
    eng_tensor_relayout(&y, &v.y, c->pool);
    return OD_OK;
}
