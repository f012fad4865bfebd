/* gemm.c - Gemm: act(alpha A' B' + beta C), and ONNX Runtime's FusedGemm, which names its activation. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

#include <string.h>

typedef struct gemm_params {
    const float *packed; /* B times alpha; NULL: not constant */
    float alpha, beta;
    bool trans_a, trans_b;
    eng_act act; /* FusedGemm's own */
    float act_alpha, act_beta;
} gemm_params;

static od_code describe(const eng_tensor *a, const eng_tensor *b, const gemm_params *p, eng_product *g, od_status *st)
{
    if (!a || !b || a->rank != 2 || b->rank != 2)
        return od_fail(st, OD_BAD_SHAPE, "A and B have ranks %d and %d, wanted 2", a ? a->rank : -1, b ? b->rank : -1);
    int64_t k = b->dims[p->trans_b];
    *g = (eng_product){.m = a->dims[p->trans_a], .k = a->dims[!p->trans_a], .n = b->dims[!p->trans_b],
                       .a_row = p->trans_a ? 1 : a->dims[1], .a_col = p->trans_a ? a->dims[1] : 1,
                       .b_row = p->trans_b ? 1 : b->dims[1], .b_col = p->trans_b ? b->dims[1] : 1};
    g->c_row = g->add_row = g->n;
    if (g->k != k) return od_fail(st, OD_BAD_SHAPE, "A has %" PRId64 " columns, B %" PRId64 " rows", g->k, k);
    return OD_OK;
}

static od_code read_activation(const eng_node *n, gemm_params *p, od_status *st)
{
    static const struct {
        const char *name;
        eng_act act;
        float alpha, beta;
    } known[] = {{"Relu", ENG_ACT_RELU, 0, 0}, {"LeakyRelu", ENG_ACT_LEAKY_RELU, 0.01f, 0}, {"Sigmoid", ENG_ACT_SIGMOID, 0, 0},
                 {"Tanh", ENG_ACT_TANH, 0, 0}, {"Softplus", ENG_ACT_SOFTPLUS, 0, 0}, {"Elu", ENG_ACT_ELU, 1.0f, 0},
                 {"HardSigmoid", ENG_ACT_HARD_SIGMOID, 0.2f, 0.5f}};
    const eng_attr *a = eng_node_attr(n, "activation");
    if (!a) return OD_OK;
    for (size_t i = 0; i < OD_COUNT(known); i++) {
        if (!eng_node_string_is(n, "activation", "", known[i].name)) continue;
        p->act = known[i].act;
        p->act_alpha = eng_node_float(n, "activation_alpha", known[i].alpha);
        p->act_beta = eng_node_float(n, "activation_beta", known[i].beta);
        return OD_OK;
    }
    return od_fail(st, OD_UNSUPPORTED, "activation '%.*s'", (int)od_min_i64((int64_t)a->s.len, 40), a->s.ptr);
}

od_code eng_gemm_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    gemm_params *p = eng_model_alloc(g, sizeof *p);
    (void)pool;
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a matrix product");
    n->params = p;
    p->alpha = eng_node_float(n, "alpha", 1.0f);
    p->beta = eng_node_float(n, "beta", 1.0f);
    p->trans_a = eng_node_int(n, "transA", 0);
    p->trans_b = eng_node_int(n, "transB", 0);
    if (n->domain == ENG_DOMAIN_MS) OD_TRY(read_activation(n, p, st));
    const eng_tensor *b = eng_node_weights(g, n, 1);
    if (!b || b->rank != 2 || g->model->probing || !(ENG_T(b->dtype) & (ENG_T(ENG_FLOAT) | ENG_T_HALF))) return OD_OK;
    eng_product q;
    eng_tensor a = {.rank = 2, .dims = {1, 1}};
    a.dims[!p->trans_a] = b->dims[p->trans_b];
    OD_TRY(describe(&a, b, p, &q, st));
    return eng_product_pack_constant(&q, p->alpha, g, n, 1, &p->packed, st);
}

od_code eng_gemm_infer(eng_ctx *c, od_status *st)
{
    eng_product g;
    const eng_tensor *bias = c->n_in > 2 ? c->in[2] : NULL;
    OD_TRY(describe(c->n_in > 0 ? c->in[0] : NULL, c->n_in > 1 ? c->in[1] : NULL, c->node->params, &g, st));
    OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st));
    int64_t dims[2] = {g.m, g.n};
    for (int d = 1; bias && d <= bias->rank; d++) {
        int64_t have = bias->dims[bias->rank - d], want = d <= 2 ? dims[2 - d] : 1;
        if (d > 2 || (have != 1 && have != want))
            return od_fail(st, OD_BAD_SHAPE, "C has an extent of %" PRId64 " where the result has %" PRId64, have, want);
    }
    return eng_set_out(c, 0, c->in[0]->dtype, 2, dims, st);
}

/* beta C as n floats a column, where it is the same for every row; else spread over the result's shape. */
static od_code place_c(eng_ctx *c, const gemm_params *p, eng_product *g, const float **spread, od_status *st)
{
    const eng_tensor *t = c->n_in > 2 ? c->in[2] : NULL;
    *spread = NULL;
    if (!t || p->beta == 0.0f) return OD_OK;
    const float *x = t->data;
    int64_t row = t->rank == 2 && t->dims[0] != 1 ? t->dims[1] : 0, col = t->rank && t->dims[t->rank - 1] != 1;
    int64_t rows = row ? g->m : 1;
    if (p->beta == 1.0f && ((!row && col) || (row && col))) {
        *(row ? spread : &g->bias) = x;
        return OD_OK;
    }
    float *to = od_arena_array(c->scratch, float, rows * g->n);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to spread C");
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < g->n; j++) to[i * g->n + j] = p->beta * x[i * row + j * col];
    *(row ? spread : &g->bias) = to;
    return OD_OK;
}

static od_code run_float(eng_ctx *c, const gemm_params *p, eng_product *g, od_status *st)
{
    const eng_epilogue *f = &c->node->fused;
    const float *spread, *residual = f->residual ? c->in[f->residual_in]->data : NULL;
    int64_t count = g->m * g->n;
    OD_TRY(place_c(c, p, g, &spread, st));
    g->act = f->act ? f->act : p->act;
    g->alpha = f->act ? f->alpha : p->act_alpha;
    g->beta = f->act ? f->beta : p->act_beta;
    g->residual = f->residual;
    g->add = residual;
    if (spread) { /* a full C takes the residual's place, and a residual of before joins it */
        if (f->residual == ENG_RES_BEFORE_ACT) {
            float *sum = od_arena_array(c->scratch, float, count);
            if (!sum) return od_fail(st, OD_NO_MEMORY, "no memory for C");
            for (int64_t i = 0; i < count; i++) sum[i] = spread[i] + residual[i];
            spread = sum;
        }
        g->residual = ENG_RES_BEFORE_ACT;
        g->add = spread;
    }
    g->packed = p->packed;
    if (!g->packed && p->alpha != 1.0f) {
        int64_t floats = eng_product_packed_floats(g);
        float *to = floats < 0 ? NULL : od_arena_alloc(c->scratch, (size_t)floats * sizeof(float));
        if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to pack B");
        eng_product_pack(g, p->alpha, to, c->pool);
        g->packed = to;
    }
    OD_TRY(eng_product_run(g, c->scratch, c->pool, st));
    if (spread && f->residual == ENG_RES_AFTER_ACT)
        for (int64_t i = 0; i < count; i++) g->c[i] += residual[i];
    return OD_OK;
}

#define SCALE_DOUBLE(x, by) ((x) * (by))
#define SCALE_INT(x, by) ((by) == 1.0 ? (uint64_t)(x) : (uint64_t)eng_truncate((double)(x) * (by)))
#define FINISH(TAG, T, W, SCALE)                                                            \
    case TAG:                                                                               \
        for (int64_t i = 0; i < m * n; i++) {                                               \
            T *y = (T *)c->out[0]->data + i;                                                \
            T add = t ? ((const T *)t->data)[i / n * row + i % n * col] : 0;                \
            *y = (T)((W)SCALE(*y, scale) + (W)SCALE(add, beta));                            \
        }                                                                                   \
        break;

/* alpha and beta C around the plain product. */
static void finish_plain(eng_ctx *c, const gemm_params *p)
{
    const eng_tensor *t = c->n_in > 2 ? c->in[2] : NULL;
    int64_t m = c->out[0]->dims[0], n = c->out[0]->dims[1];
    int64_t row = t && t->rank == 2 && t->dims[0] != 1 ? t->dims[1] : 0, col = t && t->rank && t->dims[t->rank - 1] != 1;
    double scale = (double)p->alpha, beta = (double)p->beta;
    switch (c->out[0]->dtype) {
        FINISH(ENG_DOUBLE, double, double, SCALE_DOUBLE)
        FINISH(ENG_INT32, int32_t, uint64_t, SCALE_INT)
        FINISH(ENG_UINT32, uint32_t, uint64_t, SCALE_INT)
        FINISH(ENG_INT64, int64_t, uint64_t, SCALE_INT)
        FINISH(ENG_UINT64, uint64_t, uint64_t, SCALE_INT)
    default: break;
    }
}

od_code eng_gemm_run(eng_ctx *c, od_status *st)
{
    const gemm_params *p = c->node->params;
    eng_product g;
    OD_TRY(describe(c->in[0], c->in[1], p, &g, st));
    g.a = c->in[0]->data;
    g.b = c->in[1]->data;
    g.c = c->out[0]->data;
    if (c->in[0]->dtype == ENG_FLOAT) return run_float(c, p, &g, st);
    OD_TRY(eng_product_plain(&g, c->in[0]->dtype, c->pool, st));
    finish_plain(c, p);
    return OD_OK;
}
