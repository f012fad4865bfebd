/* matmul.c - MatMul for every rank and type, and ONNX Runtime's FusedMatMul, which also transposes and
 * scales. Passes add a bias as input 2 and an epilogue. */
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

#include <string.h>

typedef struct matmul_params {
    const float *packed; /* B times alpha; NULL: not constant */
    float alpha;
    bool trans_a, trans_b, batch_a, batch_b;
} matmul_params;

/* One operand as matrices: extents and strides, the last two axes being rows and columns. */
typedef struct operand {
    int rank;
    int64_t dims[ENG_MAX_RANK], strides[ENG_MAX_RANK];
} operand;

/* `b`: the right operand, whose only axis is a column when its rank is 1. */
static od_code look(const eng_tensor *t, bool b, bool transposed, bool batched, operand *o, od_status *st)
{
    if (!t || !t->rank) return od_fail(st, OD_BAD_SHAPE, "%s is %s", b ? "B" : "A", t ? "a scalar" : "missing");
    *o = (operand){.rank = t->rank};
    eng_tensor_strides(t, o->strides);
    memcpy(o->dims, t->dims, sizeof o->dims);
    if (t->rank == 1) {
        o->rank = 2;
        o->dims[0] = b ? t->dims[0] : 1;
        o->dims[1] = b ? 1 : t->dims[0];
        o->strides[0] = b ? 1 : t->dims[0];
        o->strides[1] = 1;
        return OD_OK;
    }
    int r = o->rank;
    if (batched && r > 2) { /* the first axis is the row: [m, batch.., k] */
        int64_t d = o->dims[0], s = o->strides[0];
        memmove(o->dims, o->dims + 1, (size_t)(r - 2) * sizeof *o->dims);
        memmove(o->strides, o->strides + 1, (size_t)(r - 2) * sizeof *o->strides);
        o->dims[r - 2] = d;
        o->strides[r - 2] = s;
    }
    if (transposed) {
        int64_t d = o->dims[r - 1], s = o->strides[r - 1];
        o->dims[r - 1] = o->dims[r - 2];
        o->strides[r - 1] = o->strides[r - 2];
        o->dims[r - 2] = d;
        o->strides[r - 2] = s;
    }
    return OD_OK;
}

/* Extents and strides of the product, without data; the shape of C. */
static od_code describe(const eng_ctx *c, const matmul_params *p, eng_product *g, int *rank, int64_t *dims, od_status *st)
{
    operand a, b;
    const eng_tensor *ta = c->n_in > 0 ? c->in[0] : NULL, *tb = c->n_in > 1 ? c->in[1] : NULL;
    OD_TRY(look(ta, false, p->trans_a, p->batch_a, &a, st));
    OD_TRY(look(tb, true, p->trans_b, p->batch_b, &b, st));
    *g = (eng_product){.m = a.dims[a.rank - 2], .k = a.dims[a.rank - 1], .n = b.dims[b.rank - 1],
                       .a_row = a.strides[a.rank - 2], .a_col = a.strides[a.rank - 1], .b_row = b.strides[b.rank - 2],
                       .b_col = b.strides[b.rank - 1]};
    g->c_row = g->add_row = g->n;
    if (b.dims[b.rank - 2] != g->k)
        return od_fail(st, OD_BAD_SHAPE, "A has %" PRId64 " columns, B %" PRId64 " rows", g->k, b.dims[b.rank - 2]);
    OD_TRY(eng_product_batch(g, a.rank - 2, a.dims, a.strides, b.rank - 2, b.dims, b.strides, rank, dims, st));
    if (*rank + 2 > ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "rank %d", *rank + 2);
    if (ta->rank > 1) dims[(*rank)++] = g->m;
    if (tb->rank > 1) dims[(*rank)++] = g->n;
    return OD_OK;
}

/* Ask for a constant B to be packed: as for an A of one row that fits it. */
static od_code pack_constant(eng_graph *g, const eng_node *n, const eng_tensor *b, matmul_params *p, od_status *st)
{
    eng_tensor a = {.dtype = b->dtype, .rank = 2, .dims = {1}};
    eng_product q;
    operand o;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    if (b->rank < 1) return OD_OK; /* infer refuses it */
    OD_TRY(look(b, true, p->trans_b, p->batch_b, &o, st));
    a.dims[1] = o.dims[o.rank - 2];
    eng_ctx c = {.n_in = 2, .in = (const eng_tensor *[]){&a, b}};
    matmul_params plain = *p;
    plain.trans_a = plain.batch_a = false;
    OD_TRY(describe(&c, &plain, &q, &rank, dims, st));
    return eng_product_pack_constant(&q, p->alpha, g, n, 1, &p->packed, st);
}

od_code eng_matmul_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    matmul_params *p = eng_model_alloc(g, sizeof *p);
    (void)pool;
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a matrix product");
    n->params = p;
    p->alpha = 1.0f;
    if (n->domain == ENG_DOMAIN_MS) {
        p->alpha = eng_node_float(n, "alpha", 1.0f);
        p->trans_a = eng_node_int(n, "transA", 0);
        p->trans_b = eng_node_int(n, "transB", 0);
        p->batch_a = eng_node_int(n, "transBatchA", 0);
        p->batch_b = eng_node_int(n, "transBatchB", 0);
    }
    const eng_tensor *b = eng_node_weights(g, n, 1);
    if (!b || g->model->probing || !(ENG_T(b->dtype) & (ENG_T(ENG_FLOAT) | ENG_T_HALF))) return OD_OK;
    return pack_constant(g, n, b, p, st);
}

od_code eng_matmul_infer(eng_ctx *c, od_status *st)
{
    eng_product g;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(describe(c, c->node->params, &g, &rank, dims, st));
    OD_TRY(eng_check_types(c, 1, c->in[0]->dtype, st));
    if (c->n_in > 2 && c->in[2] && (c->in[2]->rank != 1 || c->in[2]->dims[0] != g.n))
        return od_fail(st, OD_BAD_SHAPE, "a bias of %" PRId64 " for %" PRId64 " columns", eng_tensor_count(c->in[2]), g.n);
    return eng_set_out(c, 0, c->in[0]->dtype, rank, dims, st);
}

/* alpha of a B that is packed in the run. */
static od_code pack_scaled(eng_ctx *c, eng_product *g, float alpha, od_status *st)
{
    int64_t floats = eng_product_packed_floats(g);
    float *to = floats < 0 ? NULL : od_arena_alloc(c->scratch, (size_t)floats * sizeof(float));
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to pack B");
    eng_product_pack(g, alpha, to, c->pool);
    g->packed = to;
    return OD_OK;
}

static od_code setup(const eng_ctx *c, eng_product *g, od_status *st)
{
    const matmul_params *p = c->node->params;
    const eng_epilogue *f = &c->node->fused;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(describe(c, p, g, &rank, dims, st));
    g->a = c->in[0]->data;
    g->b = c->in[1]->data;
    g->c = c->out[0]->data;
    g->packed = p->packed;
    g->bias = c->n_in > 2 && c->in[2] ? c->in[2]->data : NULL;
    g->act = f->act;
    g->alpha = f->alpha;
    g->beta = f->beta;
    g->residual = f->residual;
    if (f->residual) g->add = c->in[f->residual_in]->data;
    if (f->scale_in) g->scale = c->in[f->scale_in]->data;
    return OD_OK;
}

bool eng_matmul_rows(const eng_ctx *c, eng_gemm *g)
{
    eng_product p;
    od_status st;
    return c->in[0]->dtype == ENG_FLOAT && setup(c, &p, &st) == OD_OK && eng_product_rows(&p, g);
}

od_code eng_matmul_run(eng_ctx *c, od_status *st)
{
    const matmul_params *p = c->node->params;
    eng_product g;
    if (c->ahead) return eng_product_chain_run(c, st);
    OD_TRY(setup(c, &g, st));
    if (c->in[0]->dtype != ENG_FLOAT) return eng_product_plain(&g, c->in[0]->dtype, c->pool, st);
    if (!g.packed && p->alpha != 1.0f) OD_TRY(pack_scaled(c, &g, p->alpha, st));
    return eng_product_run(&g, c->scratch, c->pool, st);
}
