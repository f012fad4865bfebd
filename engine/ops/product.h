/* product.h - batches of float matrix products C = A B + bias through an epilogue, given by strides, for
 * every operator that comes down to one. B is packed first (kernels.h), once a distinct matrix; blocks
 * of rows and parts of the columns then run in parallel. Cuts depend on extents only. */
#ifndef ENG_OPS_PRODUCT_H
#define ENG_OPS_PRODUCT_H

#include "engine/kernels/kernels.h"
#include "engine/op.h"

typedef struct eng_product {
    int64_t m, n, k;
    const float *a, *b;
    int64_t a_row, a_col, b_row, b_col; /* strides in elements */
    const float *packed; /* every distinct B, as eng_product_pack writes them; then b may be NULL */
    float *c;
    int64_t c_row;       /* rows of C are dense */
    const float *bias, *scale; /* n floats each, or NULL; see epilogue.h */
    eng_act act;
    float alpha, beta;   /* of the activation */
    eng_residual residual;
    const float *add;    /* the residual */
    int64_t add_row;
    int batch_rank;      /* outermost first; a step of 0 repeats a matrix */
    int64_t batch[ENG_MAX_RANK], a_step[ENG_MAX_RANK], b_step[ENG_MAX_RANK], c_step[ENG_MAX_RANK], add_step[ENG_MAX_RANK];
} eng_product;

/* Floats that the packed B takes; -1 when that overflows. */
int64_t eng_product_packed_floats(const eng_product *p);

/* Pack every distinct B, multiplied by `factor`, in the order of the batch axes that B has. */
void eng_product_pack(const eng_product *p, float factor, float *packed, od_pool *pool);

/* For prepare: ask for the packed form, times `factor`, of the constant input `input` of `n`, float or half,
 * whose extents and strides p's B has. *slot as eng_model_pack says; nothing is asked for where B is empty. */
od_code eng_product_pack_constant(const eng_product *p, float factor, eng_graph *g, const eng_node *n, int input,
                                  const float **slot, od_status *st);

/* Compute. Packs B into scratch when `packed` is NULL. OD_NO_MEMORY. */
od_code eng_product_run(const eng_product *p, od_arena *scratch, od_pool *pool, od_status *st);

/* The same as one product of dense rows of A, where B is packed and its batches differ in nothing but these rows. */
bool eng_product_rows(const eng_product *p, eng_gemm *g);

/* What a MatMul computes, as such a product. Data may be missing. */
bool eng_matmul_rows(const eng_ctx *c, eng_gemm *g);

/* May `second`, which alone reads output 0 of `first`, make that itself, a band of rows at a time in the nearest cache?
 * So run two products (MatMul, or Conv of one tap) of which the first one makes more than that holds. Shapes are known,
 * data is not. */
bool eng_products_join(const eng_ctx *first, const eng_ctx *second);

/* Run `c` and what its c->ahead is. OD_NO_MEMORY. */
od_code eng_product_chain_run(eng_ctx *c, od_status *st);

/* The plain loops for double and integers, without bias and epilogue: a, b, c point to `type`. Sums of
 * integers wrap. OD_BAD_TYPE. */
od_code eng_product_plain(const eng_product *p, eng_dtype type, od_pool *pool, od_status *st);

/* Broadcast the batch axes of A and B (strides along all axes but the last two) into p; `dims` gets the
 * batch extents. Axes of extent 1 are left out. */
od_code eng_product_batch(eng_product *p, int ra, const int64_t *da, const int64_t *sa, int rb, const int64_t *db,
                          const int64_t *sb, int *rank, int64_t *dims, od_status *st);

#endif
