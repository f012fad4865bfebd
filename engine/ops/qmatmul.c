/* qmatmul.c - matrix products of bytes: MatMulInteger, QLinearMatMul, and ONNX Runtime's
 * DynamicQuantizeMatMul, MatMulIntegerToFloat, QGemm and MatMulNBits. Sums are exact in 32 bits
 * (wrapping beyond), so every order of summation gives the same bits. */
#include "engine/kernels/elementwise.h"
#include "engine/kernels/half.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

/* A product of matrices after broadcasting: batch x M x K by batch x K x N. */
typedef struct product {
    int rank;                      /* of the batch */
    int64_t batch[ENG_MAX_RANK];   /* extents */
    int64_t a_step[ENG_MAX_RANK], b_step[ENG_MAX_RANK]; /* in matrices */
    int64_t batches, m, k, n;
    bool a_column, b_column;       /* transposed: QGemm */
} product;

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

/* Extents of a product as NumPy's matmul: a vector is a row on the left, a column on the right. The
 * output's own extents go to dims. */
static od_code shape_product(product *p, const eng_tensor *a, const eng_tensor *b, int *rank, int64_t *dims,
                             od_status *st)
{
    char ta[80], tb[80];
    if (a->rank < 1 || b->rank < 1) return od_fail(st, OD_BAD_SHAPE, "a product of scalars");
    *p = (product){.m = a->rank > 1 ? a->dims[a->rank - 2] : 1, .k = a->dims[a->rank - 1],
                   .n = b->rank > 1 ? b->dims[b->rank - 1] : 1};
    int ra = a->rank > 2 ? a->rank - 2 : 0, rb = b->rank > 2 ? b->rank - 2 : 0;
    if ((b->rank > 1 ? b->dims[b->rank - 2] : b->dims[0]) != p->k)
        return od_fail(st, OD_BAD_SHAPE, "%s times %s", eng_tensor_text(a, ta, sizeof ta),
                       eng_tensor_text(b, tb, sizeof tb));
    OD_TRY(eng_broadcast(ra, a->dims, rb, b->dims, &p->rank, p->batch, st));
    p->batches = 1;
    int64_t sa = 1, sb = 1;
    for (int i = p->rank - 1; i >= 0; i--) {
        int ia = i - (p->rank - ra), ib = i - (p->rank - rb);
        p->a_step[i] = ia < 0 || a->dims[ia] == 1 ? 0 : sa;
        p->b_step[i] = ib < 0 || b->dims[ib] == 1 ? 0 : sb;
        if (ia >= 0) sa *= a->dims[ia];
        if (ib >= 0) sb *= b->dims[ib];
        p->batches *= p->batch[i];
    }
    *rank = p->rank;
    memcpy(dims, p->batch, sizeof p->batch);
    if (a->rank > 1 && *rank < ENG_MAX_RANK) dims[(*rank)++] = p->m;
    if (b->rank > 1 && *rank < ENG_MAX_RANK) dims[(*rank)++] = p->n;
    return OD_OK;
}

/* Which matrices of A and B batch `i` multiplies. */
static void matrices_of(const product *p, int64_t i, int64_t *a, int64_t *b)
{
    *a = *b = 0;
    for (int d = p->rank - 1; d >= 0; d--) {
        *a += i % p->batch[d] * p->a_step[d];
        *b += i % p->batch[d] * p->b_step[d];
        i /= p->batch[d];
    }
}

/* ---- parameters: one for all, or one for each row (column) of each matrix -------------------- */

typedef struct param {
    const eng_tensor *t; /* NULL: `otherwise` */
    int64_t count;
    double otherwise;
} param;

static param param_of(const eng_ctx *c, int i, double otherwise)
{
    const eng_tensor *t = input(c, i);
    return (param){t, t ? eng_tensor_count(t) : 1, otherwise};
}

/* For line `line` of `lines` of matrix `matrix`. */
static double param_at(const param *p, int64_t matrix, int64_t line, int64_t lines)
{
    if (!p->t) return p->otherwise;
    if (p->count == 1) return eng_tensor_double(p->t, 0);
    return eng_tensor_double(p->t, p->count == lines ? line : matrix * lines + line);
}

/* Input i must be a scalar, or have one element for each line, or for each line of each matrix. */
static od_code check_param(const eng_ctx *c, int i, const eng_tensor *of, int64_t lines, od_status *st)
{
    const eng_tensor *t = input(c, i);
    char text[80];
    if (!t) return OD_OK;
    int64_t n = eng_tensor_count(t), matrices = 1;
    for (int d = 0; d < of->rank - 2; d++) matrices *= of->dims[d];
    if (n == 1 || n == lines || (n == matrices * lines && t->rank > 1)) return OD_OK;
    return od_fail(st, OD_BAD_SHAPE, "input %d is %s: a scalar or %" PRId64 " elements are wanted", i,
                   eng_tensor_text(t, text, sizeof text), lines);
}

/* ---- the product ----------------------------------------------------------------------------- */

typedef struct product_job {
    const product *p;
    const eng_tensor *a, *b;
    param a_zero, b_zero;
    int32_t *out;
    int64_t rows; /* of one chunk */
} product_job;

static int32_t byte_at(const eng_tensor *t, int64_t i)
{
    return t->dtype == ENG_INT8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
}

static void product_row(const product_job *j, int64_t batch, int64_t row, int32_t *out)
{
    const product *p = j->p;
    const eng_elementwise *kernel = eng_elementwise_table();
    int64_t ma, mb;
    uint32_t total = 0; /* of the row less its zero point: what each column's zero point is taken times */
    matrices_of(p, batch, &ma, &mb);
    int32_t zero = (int32_t)param_at(&j->a_zero, ma, row, p->m);
    const uint8_t *b = (const uint8_t *)j->b->data + mb * p->k * p->n;
    memset(out, 0, (size_t)p->n * sizeof *out);
    for (int64_t k = 0; k < p->k; k++) {
        int32_t a = byte_at(j->a, ma * p->m * p->k + (p->a_column ? k * p->m + row : row * p->k + k)) - zero;
        total += (uint32_t)a;
        if (p->b_column) {
            for (int64_t n = 0; n < p->n; n++)
                out[n] = (int32_t)((uint32_t)out[n] + (uint32_t)a * (uint32_t)byte_at(j->b, mb * p->k * p->n + n * p->k + k));
        } else if (a && j->b->dtype == ENG_INT8) {
            kernel->mac_s8(out, a, (const int8_t *)b + k * p->n, p->n);
        } else if (a) {
            kernel->mac_u8(out, a, b + k * p->n, p->n);
        }
    }
    if (!j->b_zero.t) return;
    for (int64_t n = 0; n < p->n; n++)
        out[n] = (int32_t)((uint32_t)out[n] - total * (uint32_t)(int32_t)param_at(&j->b_zero, mb, n, p->n));
}

static void product_chunk(void *arg, int64_t chunk, int slot)
{
    const product_job *j = arg;
    (void)slot;
    int64_t end = od_min_i64((chunk + 1) * j->rows, j->p->batches * j->p->m);
    for (int64_t r = chunk * j->rows; r < end; r++)
        product_row(j, r / j->p->m, r % j->p->m, j->out + r * j->p->n);
}

static void multiply(eng_ctx *c, product_job *j)
{
    int64_t rows = j->p->batches * j->p->m;
    j->rows = od_max_i64(1, 65536 / od_max_i64(1, j->p->k * j->p->n));
    if (rows && j->p->n) od_pool_for(c->pool, od_ceil_div(rows, j->rows), product_chunk, j);
}

static int32_t *sums_for(eng_ctx *c, const product *p, od_status *st)
{
    int32_t *sums = od_arena_alloc(c->scratch, (size_t)(p->batches * p->m * p->n) * sizeof *sums);
    if (!sums) od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " sums", p->batches * p->m * p->n);
    return sums;
}

static od_code check_bytes(const eng_ctx *c, int i, int zero, od_status *st)
{
    const eng_tensor *t = input(c, i), *z = input(c, zero);
    if (!t) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
    if (!(ENG_T_INT8 & ENG_T(t->dtype)))
        return od_fail(st, OD_BAD_TYPE, "input %d is %s: int8 or uint8 is wanted", i, eng_dtype_name(t->dtype));
    if (z && z->dtype != t->dtype)
        return od_fail(st, OD_BAD_TYPE, "input %d is %s, its zero point %s", i, eng_dtype_name(t->dtype),
                       eng_dtype_name(z->dtype));
    return OD_OK;
}

static od_code check_scale(const eng_ctx *c, int i, od_status *st)
{
    const eng_tensor *t = input(c, i);
    if (t && (ENG_T_FLOAT & ENG_T(t->dtype))) return OD_OK;
    return od_fail(st, OD_BAD_TYPE, "input %d, a scale, is %s", i, t ? eng_dtype_name(t->dtype) : "missing");
}

/* ---- MatMulInteger --------------------------------------------------------------------------- */

od_code eng_matmul_integer_infer(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(check_bytes(c, 0, 2, st));
    OD_TRY(check_bytes(c, 1, 3, st));
    OD_TRY(shape_product(&p, c->in[0], c->in[1], &rank, dims, st));
    OD_TRY(check_param(c, 2, c->in[0], p.m, st));
    OD_TRY(check_param(c, 3, c->in[1], p.n, st));
    return eng_set_out(c, 0, ENG_INT32, rank, dims, st);
}

od_code eng_matmul_integer_run(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(shape_product(&p, c->in[0], c->in[1], &rank, dims, st));
    product_job j = {.p = &p, .a = c->in[0], .b = c->in[1], .a_zero = param_of(c, 2, 0), .b_zero = param_of(c, 3, 0),
                     .out = c->out[0]->data};
    multiply(c, &j);
    return OD_OK;
}

/* ---- sums to bytes --------------------------------------------------------------------------- */

/* Where a product's scales and the output's parameters are found. */
typedef struct rescale {
    param a_scale, b_scale, y_scale, y_zero;
    double alpha;
    eng_dtype to;
} rescale;

static od_code store_bytes(eng_ctx *c, const product *p, const rescale *r, const int32_t *sums, od_status *st)
{
    float *scale = od_arena_array(c->scratch, float, p->n);
    float lo = r->to == ENG_INT8 ? -128.0f : 0.0f;
    uint8_t *out = c->out[0]->data;
    if (!scale) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " scales", p->n);
    for (int64_t row = 0; row < p->batches * p->m; row++) {
        int64_t ma, mb, m = row % p->m;
        matrices_of(p, row / p->m, &ma, &mb);
        float a = (float)(r->alpha * param_at(&r->a_scale, ma, m, p->m)), y = (float)param_at(&r->y_scale, 0, m, p->m);
        for (int64_t n = 0; n < p->n; n++) scale[n] = a * (float)param_at(&r->b_scale, mb, n, p->n) / y;
        eng_elementwise_table()->requantize(out + row * p->n, sums + row * p->n, p->n, scale, 1,
                                            (float)param_at(&r->y_zero, 0, m, p->m), lo, lo + 255.0f);
    }
    return OD_OK;
}

/* ---- QLinearMatMul: a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero ------------------- */

/* Bytes, or float8 with its zero point. */
static od_code check_narrow(const eng_ctx *c, int i, int zero, od_status *st)
{
    const eng_tensor *t = input(c, i), *z = input(c, zero);
    if (!t || !(ENG_T_FLOAT8 & ENG_T(t->dtype))) return check_bytes(c, i, zero, st);
    if (z && z->dtype == t->dtype) return OD_OK;
    return od_fail(st, OD_BAD_TYPE, "input %d is %s, its zero point %s", i, eng_dtype_name(t->dtype), z ? eng_dtype_name(z->dtype) : "missing");
}

static bool has_float8(const eng_ctx *c)
{
    return (ENG_T(c->in[0]->dtype) | ENG_T(c->in[3]->dtype) | ENG_T(c->in[7]->dtype)) & ENG_T_FLOAT8;
}

/* float8 among the types: rare enough for the definition, in doubles. */
static void multiply_float8(const eng_ctx *c, const product *p)
{
    const eng_tensor *a = c->in[0], *b = c->in[3], *y = c->out[0];
    param as = param_of(c, 1, 1), az = param_of(c, 2, 0), bs = param_of(c, 4, 1), bz = param_of(c, 5, 0), ys = param_of(c, 6, 1), yz = param_of(c, 7, 0);
    for (int64_t i = 0; i < p->batches * p->m * p->n; i++) {
        int64_t ma, mb, row = i / p->n % p->m, col = i % p->n;
        double sum = 0, za, zb;
        matrices_of(p, i / p->n / p->m, &ma, &mb);
        za = param_at(&az, ma, row, p->m);
        zb = param_at(&bz, mb, col, p->n);
        for (int64_t k = 0; k < p->k; k++)
            sum += (eng_tensor_double(a, (ma * p->m + row) * p->k + k) - za) * (eng_tensor_double(b, (mb * p->k + k) * p->n + col) - zb);
        double v = sum * param_at(&as, ma, row, p->m) * param_at(&bs, mb, col, p->n) / param_at(&ys, 0, row, p->m), zero = param_at(&yz, 0, row, p->m);
        if (ENG_T(y->dtype) & ENG_T_FLOAT8) {
            ((uint8_t *)y->data)[i] = (uint8_t)eng_small_float(v + zero, y->dtype, true, ENG_E8_UP);
        } else {
            double lo = y->dtype == ENG_INT8 ? -128 : 0, whole = rint(v) + zero;
            ((uint8_t *)y->data)[i] = (uint8_t)(int)(!(whole > lo) ? lo : whole < lo + 255 ? whole : lo + 255);
        }
    }
}

od_code eng_qlinear_matmul_infer(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(check_narrow(c, 0, 2, st));
    OD_TRY(check_narrow(c, 3, 5, st));
    OD_TRY(check_narrow(c, 7, 7, st));
    for (int i = 1; i < 7; i += i == 1 ? 3 : 2) OD_TRY(check_scale(c, i, st));
    OD_TRY(shape_product(&p, c->in[0], c->in[3], &rank, dims, st));
    for (int i = 1; i < 3; i++) OD_TRY(check_param(c, i, c->in[0], p.m, st));
    for (int i = 4; i < 6; i++) OD_TRY(check_param(c, i, c->in[3], p.n, st));
    for (int i = 6; i < 8; i++)
        if (eng_tensor_count(c->in[i]) != 1 && eng_tensor_count(c->in[i]) != p.m)
            return od_fail(st, OD_BAD_SHAPE, "input %d has %" PRId64 " elements: 1 or %" PRId64 " are wanted", i,
                           eng_tensor_count(c->in[i]), p.m);
    return eng_set_out(c, 0, c->in[7]->dtype, rank, dims, st);
}

od_code eng_qlinear_matmul_run(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(shape_product(&p, c->in[0], c->in[3], &rank, dims, st));
    if (has_float8(c)) return multiply_float8(c, &p), OD_OK;
    product_job j = {.p = &p, .a = c->in[0], .b = c->in[3], .a_zero = param_of(c, 2, 0), .b_zero = param_of(c, 5, 0),
                     .out = sums_for(c, &p, st)};
    if (!j.out) return st->code;
    multiply(c, &j);
    rescale r = {param_of(c, 1, 1), param_of(c, 4, 1), param_of(c, 6, 1), param_of(c, 7, 0), 1, c->out[0]->dtype};
    return store_bytes(c, &p, &r, j.out, st);
}

/* ---- sums to floats --------------------------------------------------------------------------- */

static void store_floats(eng_ctx *c, const product *p, const rescale *r, const eng_tensor *bias, const int32_t *sums)
{
    float *out = c->out[0]->data;
    const float *plus = bias ? bias->data : NULL;
    for (int64_t row = 0; row < p->batches * p->m; row++) {
        int64_t ma, mb, m = row % p->m;
        matrices_of(p, row / p->m, &ma, &mb);
        float a = (float)(r->alpha * param_at(&r->a_scale, ma, m, p->m));
        for (int64_t n = 0; n < p->n; n++) {
            float v = (float)sums[row * p->n + n] * (a * (float)param_at(&r->b_scale, mb, n, p->n));
            out[row * p->n + n] = plus ? v + plus[n] : v;
        }
    }
}

static od_code check_bias(const eng_ctx *c, int i, int64_t n, od_status *st)
{
    const eng_tensor *t = input(c, i);
    char text[80];
    if (!t || (t->rank == 1 && t->dims[0] == n && (ENG_T_FLOAT & ENG_T(t->dtype)))) return OD_OK;
    return od_fail(st, OD_BAD_SHAPE, "the bias is %s: %" PRId64 " floats are wanted", eng_tensor_text(t, text, sizeof text),
                   n);
}

/* MatMulIntegerToFloat: A, B, a_scale, b_scale, a_zero, b_zero, bias. */
od_code eng_matmul_integer_to_float_infer(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(check_bytes(c, 0, 4, st));
    OD_TRY(check_bytes(c, 1, 5, st));
    OD_TRY(check_scale(c, 2, st));
    OD_TRY(check_scale(c, 3, st));
    OD_TRY(shape_product(&p, c->in[0], c->in[1], &rank, dims, st));
    for (int i = 2; i < 6; i++) OD_TRY(check_param(c, i, c->in[i & 1], i & 1 ? p.n : p.m, st));
    OD_TRY(check_bias(c, 6, p.n, st));
    return eng_set_out(c, 0, c->in[2]->dtype, rank, dims, st);
}

od_code eng_matmul_integer_to_float_run(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(shape_product(&p, c->in[0], c->in[1], &rank, dims, st));
    product_job j = {.p = &p, .a = c->in[0], .b = c->in[1], .a_zero = param_of(c, 4, 0), .b_zero = param_of(c, 5, 0),
                     .out = sums_for(c, &p, st)};
    if (!j.out) return st->code;
    multiply(c, &j);
    rescale r = {.a_scale = param_of(c, 2, 1), .b_scale = param_of(c, 3, 1), .alpha = 1};
    store_floats(c, &p, &r, input(c, 6), j.out);
    return OD_OK;
}

/* DynamicQuantizeMatMul: A (floats), B, b_scale, b_zero, bias. */
od_code eng_dynamic_quantize_matmul_infer(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    if (!input(c, 0)) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    OD_TRY(check_bytes(c, 1, 3, st));
    OD_TRY(check_scale(c, 2, st));
    OD_TRY(shape_product(&p, c->in[0], c->in[1], &rank, dims, st));
    for (int i = 2; i < 4; i++) OD_TRY(check_param(c, i, c->in[1], p.n, st));
    OD_TRY(check_bias(c, 4, p.n, st));
    return eng_set_out(c, 0, c->in[0]->dtype, rank, dims, st);
}

od_code eng_dynamic_quantize_matmul_run(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    uint8_t zero;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(shape_product(&p, c->in[0], c->in[1], &rank, dims, st));
    int64_t n = eng_tensor_count(c->in[0]);
    eng_tensor a = *c->in[0], a_zero = {.dtype = ENG_UINT8, .data = &zero};
    a.dtype = ENG_UINT8;
    a.data = od_arena_alloc(c->scratch, (size_t)n);
    if (!a.data) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " bytes", n);
    float scale = eng_dynamic_scale(c->in[0]->data, n, c->pool, &zero);
    eng_elementwise_table()->quantize_8(a.data, c->in[0]->data, n, scale, (float)zero, 0, 255.0f);
    product_job j = {.p = &p, .a = &a, .b = c->in[1], .a_zero = {&a_zero, 1, 0}, .b_zero = param_of(c, 3, 0),
                     .out = sums_for(c, &p, st)};
    if (!j.out) return st->code;
    multiply(c, &j);
    rescale r = {.a_scale = {NULL, 1, (double)scale}, .b_scale = param_of(c, 2, 1), .alpha = 1};
    store_floats(c, &p, &r, input(c, 4), j.out);
    return OD_OK;
}

/* ---- QGemm: A, a_scale, a_zero, B, b_scale, b_zero, C (int32), y_scale, y_zero ---------------- */

static od_code shape_gemm(const eng_ctx *c, product *p, od_status *st)
{
    const eng_tensor *a = c->in[0], *b = c->in[3];
    char ta[80], tb[80];
    bool ta_ = eng_node_int(c->node, "transA", 0) != 0, tb_ = eng_node_int(c->node, "transB", 0) != 0;
    if (a->rank == 2 && b->rank == 2 && a->dims[!ta_] == b->dims[tb_]) {
        *p = (product){.m = a->dims[ta_], .k = a->dims[!ta_], .n = b->dims[!tb_], .batches = 1, .a_column = ta_,
                       .b_column = tb_};
        return OD_OK;
    }
    return od_fail(st, OD_BAD_SHAPE, "%s times %s, transA %d, transB %d", eng_tensor_text(a, ta, sizeof ta),
                   eng_tensor_text(b, tb, sizeof tb), ta_, tb_);
}

od_code eng_qgemm_infer(eng_ctx *c, od_status *st)
{
    product p;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(check_bytes(c, 0, 2, st));
    OD_TRY(check_bytes(c, 3, 5, st));
    OD_TRY(check_scale(c, 1, st));
    OD_TRY(check_scale(c, 4, st));
    OD_TRY(shape_gemm(c, &p, st));
    OD_TRY(check_param(c, 1, c->in[0], 1, st));
    OD_TRY(check_param(c, 2, c->in[0], 1, st));
    OD_TRY(check_param(c, 4, c->in[3], p.n, st));
    OD_TRY(check_param(c, 5, c->in[3], p.n, st));
    const eng_tensor *plus = input(c, 6);
    if (plus && plus->dtype != ENG_INT32) return od_fail(st, OD_BAD_TYPE, "C is %s", eng_dtype_name(plus->dtype));
    if (plus) {
        OD_TRY(eng_broadcast(plus->rank, plus->dims, 2, (int64_t[]){p.m, p.n}, &rank, dims, st));
        if (rank != 2 || dims[0] != p.m || dims[1] != p.n) return od_fail(st, OD_BAD_SHAPE, "C does not broadcast");
    }
    for (int i = 7; i < 9; i++)
        if (input(c, i) && eng_tensor_count(c->in[i]) != 1)
            return od_fail(st, OD_BAD_SHAPE, "input %d has %" PRId64 " elements: a scalar is wanted", i,
                           eng_tensor_count(c->in[i]));
    if (input(c, 8)) OD_TRY(check_bytes(c, 8, 8, st));
    return eng_set_out(c, 0, input(c, 8) ? c->in[8]->dtype : ENG_FLOAT, 2, (int64_t[]){p.m, p.n}, st);
}

static void plus_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    int32_t *o = (int32_t *)(void *)p[0];
    const int32_t *a = (const int32_t *)(const void *)p[1];
    (void)arg;
    for (int64_t i = 0; i < n; i++) o[i * step[0]] = (int32_t)((uint32_t)o[i * step[0]] + (uint32_t)a[i * step[1]]);
}

od_code eng_qgemm_run(eng_ctx *c, od_status *st)
{
    product p;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(shape_gemm(c, &p, st));
    product_job j = {.p = &p, .a = c->in[0], .b = c->in[3], .a_zero = param_of(c, 2, 0), .b_zero = param_of(c, 5, 0),
                     .out = sums_for(c, &p, st)};
    if (!j.out) return st->code;
    multiply(c, &j);
    if (input(c, 6)) {
        eng_walk w;
        eng_tensor sums = {.dtype = ENG_INT32, .rank = 2, .dims = {p.m, p.n}, .data = j.out};
        eng_walk_init(&w, 2, (const eng_tensor *[]){&sums, c->in[6]});
        eng_walk_run(&w, c->pool, 1, plus_row, NULL);
    }
    rescale r = {param_of(c, 1, 1), param_of(c, 4, 1), param_of(c, 7, 1), param_of(c, 8, 0),
                 (double)eng_node_float(c->node, "alpha", 1.0f), c->out[0]->dtype};
    if (c->out[0]->dtype != ENG_FLOAT) return store_bytes(c, &p, &r, j.out, st);
    store_floats(c, &p, &r, NULL, j.out);
    return OD_OK;
}

/* ---- MatMulNBits: A, packed B, scales, zero points, g_idx, bias ------------------------------- */

typedef struct nbits {
    int64_t k, n, m, bits, block, blocks, blob; /* blob: bytes of one packed block */
    const float *a, *bias;
    const uint8_t *b, *zeros;
    const eng_tensor *scales, *real_zeros;
    const int32_t *group;                       /* block of each k, or NULL: in order */
    float *row;                                 /* K floats for each slot */
    float *out;
} nbits;

static od_code nbits_of(const eng_ctx *c, nbits *q, od_status *st)
{
    *q = (nbits){.k = eng_node_int(c->node, "K", 0), .n = eng_node_int(c->node, "N", 0),
                 .bits = eng_node_int(c->node, "bits", 4), .block = eng_node_int(c->node, "block_size", 0)};
    bool bits_ok = q->bits == 2 || q->bits == 4 || q->bits == 8;
    if (q->k < 1 || q->n < 1 || q->k > INT32_MAX || q->n > INT32_MAX || q->block < 1 || q->block > INT32_MAX || !bits_ok)
        return od_fail(st, OD_BAD_ARGUMENT, "K %" PRId64 ", N %" PRId64 ", bits %" PRId64 ", block_size %" PRId64, q->k,
                       q->n, q->bits, q->block);
    q->blocks = od_ceil_div(q->k, q->block);
    q->blob = od_ceil_div(q->block * q->bits, 8);
    return OD_OK;
}

od_code eng_matmul_nbits_infer(eng_ctx *c, od_status *st)
{
    nbits q;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(nbits_of(c, &q, st));
    if (c->n_in < 3 || !c->in[0] || !c->in[1] || !c->in[2]) return od_fail(st, OD_BAD_MODEL, "three inputs are wanted");
    const eng_tensor *a = c->in[0], *zero = input(c, 3), *group = input(c, 4), *bias = input(c, 5);
    if (a->rank < 1 || a->dims[a->rank - 1] != q.k)
        return od_fail(st, OD_BAD_SHAPE, "A has rank %d and does not end in %" PRId64, a->rank, q.k);
    if (c->in[1]->dtype != ENG_UINT8 || eng_tensor_count(c->in[1]) != q.n * q.blocks * q.blob)
        return od_fail(st, OD_BAD_SHAPE, "B is %s of %" PRId64 " elements: %" PRId64 " bytes are wanted",
                       eng_dtype_name(c->in[1]->dtype), eng_tensor_count(c->in[1]), q.n * q.blocks * q.blob);
    if (!(ENG_T_FLOAT & ENG_T(c->in[2]->dtype)) || eng_tensor_count(c->in[2]) != q.n * q.blocks)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " scales: %" PRId64 " are wanted", eng_tensor_count(c->in[2]),
                       q.n * q.blocks);
    int64_t zeros = zero && zero->dtype == ENG_UINT8 ? q.n * od_ceil_div(q.blocks * q.bits, 8) : q.n * q.blocks;
    if (zero && eng_tensor_count(zero) != zeros)
        return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " zero points: %" PRId64 " are wanted", eng_tensor_count(zero), zeros);
    if (group && (group->dtype != ENG_INT32 || eng_tensor_count(group) < q.k))
        return od_fail(st, OD_BAD_SHAPE, "g_idx is %s of %" PRId64 " elements", eng_dtype_name(group->dtype),
                       eng_tensor_count(group));
    if (bias && (eng_tensor_count(bias) != q.n || bias->dtype != a->dtype))
        return od_fail(st, OD_BAD_SHAPE, "the bias has %" PRId64 " elements: %" PRId64 " are wanted",
                       eng_tensor_count(bias), q.n);
    memcpy(dims, a->dims, sizeof dims);
    dims[a->rank - 1] = q.n;
    return eng_set_out(c, 0, a->dtype, a->rank, dims, st);
}

static unsigned packed(const uint8_t *p, int64_t i, int64_t bits)
{
    return p[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1u);
}

static void widen_row(const nbits *q, int64_t n, float *to)
{
    const uint8_t *b = q->b + n * q->blocks * q->blob;
    const uint8_t *zeros = q->zeros ? q->zeros + n * od_ceil_div(q->blocks * q->bits, 8) : NULL;
    for (int64_t k = 0; k < q->k; k++) {
        int64_t block = q->group ? q->group[k] : k / q->block;
        float zero = (float)(1u << (q->bits - 1));
        if (q->real_zeros) zero = (float)eng_tensor_double(q->real_zeros, n * q->blocks + block);
        else if (zeros) zero = (float)packed(zeros, block, q->bits);
        unsigned v = packed(b + k / q->block * q->blob, k % q->block, q->bits);
        to[k] = ((float)v - zero) * (float)eng_tensor_double(q->scales, n * q->blocks + block);
    }
}

static void nbits_chunk(void *arg, int64_t chunk, int slot)
{
    const nbits *q = arg;
    float *row = q->row + slot * q->k;
    widen_row(q, chunk, row);
    for (int64_t m = 0; m < q->m; m++) {
        float v = eng_elementwise_table()->dot(q->a + m * q->k, row, q->k);
        q->out[m * q->n + chunk] = q->bias ? v + q->bias[chunk] : v;
    }
}

od_code eng_matmul_nbits_run(eng_ctx *c, od_status *st)
{
    nbits q;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(nbits_of(c, &q, st));
    const eng_tensor *zero = input(c, 3), *group = input(c, 4);
    if (c->in[0]->dtype != ENG_FLOAT) return od_fail(st, OD_BAD_TYPE, "A is %s", eng_dtype_name(c->in[0]->dtype));
    q.m = eng_tensor_count(c->in[0]) / q.k;
    q.a = c->in[0]->data;
    q.b = c->in[1]->data;
    q.scales = c->in[2];
    q.zeros = zero && zero->dtype == ENG_UINT8 ? zero->data : NULL;
    q.real_zeros = zero && zero->dtype != ENG_UINT8 ? zero : NULL;
    q.group = group ? group->data : NULL;
    q.bias = input(c, 5) ? c->in[5]->data : NULL;
    q.out = c->out[0]->data;
    for (int64_t k = 0; q.group && k < q.k; k++)
        if (q.group[k] < 0 || q.group[k] >= q.blocks)
            return od_fail(st, OD_BAD_VALUE, "g_idx[%" PRId64 "] is %d of %" PRId64 " blocks", k, q.group[k], q.blocks);
    q.row = od_arena_array(c->scratch, float, od_pool_slots(c->pool) * q.k);
    if (!q.row) return od_fail(st, OD_NO_MEMORY, "no memory for rows of %" PRId64, q.k);
    od_pool_for(c->pool, q.n, nbits_chunk, &q);
    return OD_OK;
}
