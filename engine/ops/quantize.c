/* quantize.c - QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
 *
 * Scales and zero points become tensors that broadcast to the data: a scalar, a vector along one
 * axis, or, for blocks, written out to the data's extents. Bytes and floats have rows of their own;
 * the other types go through doubles, rounded where the operator's precision is narrower. */
#include "engine/kernels/elementwise.h"
#include "engine/kernels/half.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const eng_tensor *input(const eng_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

/* ---- scales as tensors that broadcast to the data -------------------------------------------- */

static od_code check_blocks(const eng_tensor *x, const eng_tensor *p, int axis, int64_t block, const char *what,
                            od_status *st)
{
    char text[80], data[80];
    bool ok = p->rank == x->rank && block > 0;
    for (int i = 0; ok && i < x->rank; i++)
        ok = p->dims[i] == (i == axis ? od_ceil_div(x->dims[i], block) : x->dims[i]);
    if (ok) return OD_OK;
    return od_fail(st, OD_BAD_SHAPE, "%s %s does not fit %s in blocks of %" PRId64 " along axis %d", what,
                   eng_tensor_text(p, text, sizeof text), eng_tensor_text(x, data, sizeof data), block, axis);
}

/* Check a scale or zero point against the data; *axis is where its vector or blocks lie. */
static od_code check_parameter(const eng_ctx *c, int i, int *axis, od_status *st)
{
    const eng_tensor *x = c->in[0], *p = input(c, i);
    const char *what = i == 1 ? "scale" : "zero point";
    int64_t block = eng_node_int(c->node, "block_size", 0);
    char text[80];
    *axis = 0;
    if (!p || eng_tensor_count(p) == 1) return OD_OK;
    if (block < 0 || block > INT32_MAX) return od_fail(st, OD_BAD_ARGUMENT, "block_size %" PRId64, block);
    OD_TRY(eng_axis(eng_node_int(c->node, "axis", 1), x->rank, false, axis, st));
    if (block > 0) return check_blocks(x, p, *axis, block, what, st);
    if (p->rank == 1 && p->dims[0] == x->dims[*axis]) return OD_OK;
    return od_fail(st, OD_BAD_SHAPE, "%s %s: a scalar or %" PRId64 " elements along axis %d are wanted", what,
                   eng_tensor_text(p, text, sizeof text), x->dims[*axis], *axis);
}

/* Element of a blocked parameter for each element of x, in row-major order. */
static od_code write_out_blocks(eng_ctx *c, const eng_tensor *p, int axis, eng_tensor *out, od_status *st)
{
    const eng_tensor *x = c->in[0];
    int64_t block = eng_node_int(c->node, "block_size", 0), inner = 1, outer = 1;
    size_t size = eng_dtype_size(p->dtype);
    *out = *x;
    out->dtype = p->dtype;
    out->layout = ENG_ROW;
    char *to = out->data = od_arena_alloc(c->scratch, eng_tensor_bytes(out));
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory to write out blocks");
    for (int i = 0; i < axis; i++) outer *= x->dims[i];
    for (int i = axis + 1; i < x->rank; i++) inner *= x->dims[i];
    for (int64_t o = 0; o < outer; o++)
        for (int64_t a = 0; a < x->dims[axis]; a++) {
            memcpy(to, (const char *)p->data + (size_t)((o * p->dims[axis] + a / block) * inner) * size,
                   (size_t)inner * size);
            to += (size_t)inner * size;
        }
    return OD_OK;
}

/* Parameter `i` as a tensor that broadcasts to the data. */
static od_code parameter(eng_ctx *c, int i, eng_tensor *view, od_status *st)
{
    const eng_tensor *x = c->in[0], *p = c->in[i];
    int axis;
    OD_TRY(check_parameter(c, i, &axis, st));
    if (eng_tensor_count(p) == 1) {
        *view = (eng_tensor){.dtype = p->dtype, .data = p->data};
        return OD_OK;
    }
    if (p->rank > 1) return write_out_blocks(c, p, axis, view, st);
    *view = (eng_tensor){.dtype = p->dtype, .data = p->data, .rank = x->rank - axis};
    view->dims[0] = p->dims[0];
    for (int k = 1; k < view->rank; k++) view->dims[k] = 1;
    return OD_OK;
}

/* Data keeps the layout it has, except that blocks need rows; scales are read as they are. */
void eng_quantize_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    const eng_tensor *scale = input(c, 1);
    for (int i = 1; i < c->n_in; i++) want_in[i] = ENG_ROW;
    if (scale && scale->rank > 1 && eng_tensor_count(scale) != 1) want_in[0] = ENG_ROW;
    *want_out = want_in[0];
}

/* ---- rows ------------------------------------------------------------------------------------ */

enum { BLOCK = 256 };

typedef struct q_job {
    eng_dtype x, scale, zero, to; /* zero ENG_UNDEFINED: none */
    eng_dtype precision;          /* QuantizeLinear: what the quotient is rounded to */
    bool saturate;
} q_job;

static void load(double *to, const char *p, eng_dtype t, int64_t step, int64_t n)
{
    eng_tensor in = {.dtype = t, .data = (void *)(uintptr_t)p};
    for (int64_t i = 0; i < n; i++) to[i] = eng_tensor_double(&in, i * step);
}

static void range_of(eng_dtype t, double *lo, double *hi)
{
    int bits = t == ENG_INT2 || t == ENG_UINT2   ? 2
               : t == ENG_INT4 || t == ENG_UINT4 ? 4
                                                 : (int)eng_dtype_size(t) * 8;
    bool sign = t == ENG_INT2 || t == ENG_INT4 || t == ENG_INT8 || t == ENG_INT16;
    *lo = sign ? -ldexp(1, bits - 1) : 0;
    *hi = ldexp(1, sign ? bits - 1 : bits) - 1;
}

static double round_to(double v, eng_dtype t)
{
    if (t == ENG_DOUBLE) return v;
    if (t == ENG_FLOAT) return (double)(float)v;
    uint16_t bits = (uint16_t)eng_small_float(v, t, false, ENG_E8_UP);
    return eng_tensor_double(&(eng_tensor){.dtype = t, .data = &bits}, 0);
}

static void store_quantized(const q_job *j, char *p, int64_t at, double quotient, double zero)
{
    if (ENG_T(j->to) & (ENG_T_FLOAT8 | ENG_T_FLOAT6 | ENG_T(ENG_FLOAT4E2M1))) {
        bool narrow = !(ENG_T(j->to) & ENG_T_FLOAT8);
        ((uint8_t *)p)[at] =
            (uint8_t)eng_small_float(narrow ? quotient + zero : quotient, j->to, j->saturate, ENG_E8_UP);
        return;
    }
    double lo, hi, v = rint(quotient) + zero;
    range_of(j->to, &lo, &hi);
    v = v > lo ? v : lo;
    int32_t i = (int32_t)(v < hi ? v : hi);
    if (eng_dtype_size(j->to) == 2) ((uint16_t *)(void *)p)[at] = (uint16_t)i;
    else ((uint8_t *)p)[at] = (uint8_t)i;
}

static bool quantize_fast(const q_job *j, int64_t n, char *const *p, const int64_t *step)
{
    bool bytes = j->to == ENG_UINT8 || j->to == ENG_INT8;
    if (j->x != ENG_FLOAT || j->scale != ENG_FLOAT || j->precision != ENG_FLOAT || !bytes) return false;
    if (step[0] != 1 || step[1] != 1 || step[2] != 0 || (j->zero && step[3] != 0)) return false;
    float zero = !j->zero ? 0 : j->to == ENG_UINT8 ? (float)*(const uint8_t *)p[3] : (float)*(const int8_t *)p[3];
    float lo = j->to == ENG_UINT8 ? 0.0f : -128.0f;
    eng_elementwise_table()->quantize_8((uint8_t *)p[0], (const float *)(const void *)p[1], n,
                                        *(const float *)(const void *)p[2], zero, lo, lo + 255.0f);
    return true;
}

static void quantize_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const q_job *j = arg;
    double x[BLOCK], scale[BLOCK], zero[BLOCK] = {0};
    if (quantize_fast(j, n, p, step)) return;
    int64_t sx = (int64_t)eng_dtype_size(j->x), ss = (int64_t)eng_dtype_size(j->scale),
            sz = (int64_t)eng_dtype_size(j->zero);
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = od_min_i64(BLOCK, n - i);
        load(x, p[1] + i * step[1] * sx, j->x, step[1], m);
        load(scale, p[2] + i * step[2] * ss, j->scale, step[2], m);
        if (j->zero) load(zero, p[3] + i * step[3] * sz, j->zero, step[3], m);
        for (int64_t k = 0; k < m; k++)
            store_quantized(j, p[0], (i + k) * step[0], round_to(x[k] / scale[k], j->precision), zero[k]);
    }
}

static bool dequantize_fast(const q_job *j, int64_t n, char *const *p, const int64_t *step)
{
    if (j->to != ENG_FLOAT || j->scale != ENG_FLOAT || !(ENG_T_INT8 & ENG_T(j->x))) return false;
    if (step[0] != 1 || step[1] != 1 || step[2] != 0 || (j->zero && step[3] != 0)) return false;
    float scale = *(const float *)(const void *)p[2], *to = (float *)(void *)p[0];
    const eng_elementwise *k = eng_elementwise_table();
    if (j->x == ENG_UINT8)
        k->dequantize_u8(to, (const uint8_t *)p[1], n, scale, j->zero ? *(const uint8_t *)p[3] : 0);
    else
        k->dequantize_s8(to, (const int8_t *)p[1], n, scale, j->zero ? *(const int8_t *)p[3] : 0);
    return true;
}

static void store_real(eng_dtype t, char *p, int64_t at, double v)
{
    if (t == ENG_FLOAT) ((float *)(void *)p)[at] = (float)v;
    else ((uint16_t *)(void *)p)[at] = (uint16_t)eng_small_float(v, t, false, ENG_E8_UP);
}

static void dequantize_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const q_job *j = arg;
    double x[BLOCK], scale[BLOCK], zero[BLOCK] = {0};
    if (dequantize_fast(j, n, p, step)) return;
    int64_t sx = (int64_t)eng_dtype_size(j->x), ss = (int64_t)eng_dtype_size(j->scale);
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = od_min_i64(BLOCK, n - i);
        load(x, p[1] + i * step[1] * sx, j->x, step[1], m);
        load(scale, p[2] + i * step[2] * ss, j->scale, step[2], m);
        if (j->zero) load(zero, p[3] + i * step[3] * sx, j->zero, step[3], m);
        for (int64_t k = 0; k < m; k++)
            store_real(j->to, p[0], (i + k) * step[0], (double)((float)(x[k] - zero[k]) * (float)scale[k]));
    }
}

/* The walk over output, data, scale and, when there is one, zero point. */
static od_code run_rows(eng_ctx *c, q_job *j, eng_row_fn *fn, od_status *st)
{
    eng_tensor scale, zero;
    eng_walk w;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    OD_TRY(parameter(c, 1, &scale, st));
    j->zero = input(c, 2) ? c->in[2]->dtype : ENG_UNDEFINED;
    if (j->zero) OD_TRY(parameter(c, 2, &zero, st));
    eng_walk_init(&w, j->zero ? 4 : 3, (const eng_tensor *[]){c->out[0], c->in[0], &scale, &zero});
    eng_walk_run(&w, c->pool, 2, fn, j);
    return OD_OK;
}

/* ---- QuantizeLinear and DequantizeLinear ----------------------------------------------------- */

static od_code check_parameters(eng_ctx *c, od_status *st)
{
    int axis;
    if (c->n_in < 2 || !c->in[0] || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "data and scale are wanted");
    const eng_tensor *scale = c->in[1], *zero = input(c, 2);
    OD_TRY(check_parameter(c, 1, &axis, st));
    if (!((ENG_T(ENG_FLOAT) | ENG_T_HALF | ENG_T(ENG_INT32) | ENG_T(ENG_FLOAT8E8M0)) & ENG_T(scale->dtype)))
        return od_fail(st, OD_BAD_TYPE, "the scale is %s", eng_dtype_name(scale->dtype));
    if (!zero) return OD_OK;
    OD_TRY(check_parameter(c, 2, &axis, st));
    if (eng_tensor_count(zero) == eng_tensor_count(scale)) return OD_OK;
    return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " scales and %" PRId64 " zero points", eng_tensor_count(scale),
                   eng_tensor_count(zero));
}

od_code eng_quantize_infer(eng_ctx *c, od_status *st)
{
    int64_t to = eng_node_int(c->node, "output_dtype", 0), precision = eng_node_int(c->node, "precision", 0);
    OD_TRY(check_parameters(c, st));
    const eng_tensor *zero = input(c, 2);
    if (zero && to && to != (int64_t)zero->dtype)
        return od_fail(st, OD_BAD_TYPE, "output_dtype is %" PRId64 ", the zero point %s", to,
                       eng_dtype_name(zero->dtype));
    if (zero) to = zero->dtype;
    if (!to) to = ENG_UINT8;
    if (to < 0 || to >= ENG_SEQUENCE || !(ENG_T_QUANTIZED & ENG_T((unsigned)to)))
        return od_fail(st, OD_BAD_TYPE, "quantizing to %s", to < 0 || to >= ENG_SEQUENCE ? "?" : eng_dtype_name((eng_dtype)to));
    if (precision && precision != ENG_FLOAT && precision != ENG_FLOAT16 && precision != ENG_BFLOAT16 &&
        precision != ENG_DOUBLE)
        return od_fail(st, OD_BAD_ARGUMENT, "precision %" PRId64, precision);
    return eng_set_out(c, 0, (eng_dtype)to, c->in[0]->rank, c->in[0]->dims, st);
}

od_code eng_quantize_run(eng_ctx *c, od_status *st)
{
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    q_job j = {.x = c->in[0]->dtype, .scale = c->in[1]->dtype, .to = c->out[0]->dtype};
    j.precision = (eng_dtype)eng_node_int(c->node, "precision", 0);
    if (!j.precision) j.precision = ENG_T(j.scale) & ENG_T_HALF ? j.scale : ENG_FLOAT;
    if (!eng_node_int(c->node, "precision", 0) && j.x != j.scale && j.precision != ENG_FLOAT) j.precision = ENG_FLOAT;
    j.saturate = eng_node_int(c->node, "saturate", 1) != 0;
    return run_rows(c, &j, quantize_row, st);
}

od_code eng_dequantize_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(check_parameters(c, st));
    int64_t to = eng_node_int(c->node, "output_dtype", 0);
    if (!to) to = c->in[1]->dtype;
    if (input(c, 2) && c->in[2]->dtype != c->in[0]->dtype)
        return od_fail(st, OD_BAD_TYPE, "data is %s, the zero point %s", eng_dtype_name(c->in[0]->dtype),
                       eng_dtype_name(c->in[2]->dtype));
    if (to != ENG_FLOAT && to != ENG_FLOAT16 && to != ENG_BFLOAT16)
        return od_fail(st, OD_BAD_TYPE, "dequantizing to type %" PRId64, to);
    return eng_set_out(c, 0, (eng_dtype)to, c->in[0]->rank, c->in[0]->dims, st);
}

od_code eng_dequantize_run(eng_ctx *c, od_status *st)
{
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    q_job j = {.x = c->in[0]->dtype, .scale = c->in[1]->dtype, .to = c->out[0]->dtype};
    return run_rows(c, &j, dequantize_row, st);
}

/* ---- DynamicQuantizeLinear ------------------------------------------------------------------- */

enum { RANGE_CHUNKS = 64 };

typedef struct range_job {
    const float *x;
    int64_t n, chunks;
    float lo[RANGE_CHUNKS], hi[RANGE_CHUNKS];
} range_job;

static void range_chunk(void *arg, int64_t chunk, int slot)
{
    range_job *j = arg;
    (void)slot;
    float lo = 0, hi = 0; /* zero must be among the numbers that bytes can stand for */
    int64_t from = j->n / j->chunks * chunk, to = chunk + 1 == j->chunks ? j->n : j->n / j->chunks * (chunk + 1);
    for (int64_t i = from; i < to; i++) {
        lo = j->x[i] < lo ? j->x[i] : lo;
        hi = j->x[i] > hi ? j->x[i] : hi;
    }
    j->lo[chunk] = lo;
    j->hi[chunk] = hi;
}

float eng_dynamic_scale(const float *x, int64_t n, od_pool *pool, uint8_t *zero)
{
    range_job j = {.x = x, .n = n, .chunks = eng_chunks(n, 32768)};
    od_pool_for(pool, j.chunks, range_chunk, &j);
    float lo = 0, hi = 0;
    for (int64_t i = 0; i < j.chunks; i++) {
        lo = j.lo[i] < lo ? j.lo[i] : lo;
        hi = j.hi[i] > hi ? j.hi[i] : hi;
    }
    float scale = hi == lo ? 1.0f : (hi - lo) / 255.0f, z = rintf(-lo / scale);
    *zero = (uint8_t)(z < 255.0f ? (z > 0 ? z : 0) : 255);
    return scale;
}

od_code eng_dynamic_quantize_infer(eng_ctx *c, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    OD_TRY(eng_set_out(c, 0, ENG_UINT8, c->in[0]->rank, c->in[0]->dims, st));
    OD_TRY(eng_set_out(c, 1, ENG_FLOAT, 0, NULL, st));
    return eng_set_out(c, 2, ENG_UINT8, 0, NULL, st);
}

typedef struct bytes_job {
    float scale, zero;
} bytes_job;

static void bytes_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const bytes_job *j = arg;
    (void)step; /* both tensors are rows of one shape */
    eng_elementwise_table()->quantize_8((uint8_t *)p[0], (const float *)(const void *)p[1], n, j->scale, j->zero, 0,
                                        255.0f);
}

od_code eng_dynamic_quantize_run(eng_ctx *c, od_status *st)
{
    (void)st;
    uint8_t zero;
    float scale = eng_dynamic_scale(c->in[0]->data, eng_tensor_count(c->in[0]), c->pool, &zero);
    bytes_job j = {scale, (float)zero};
    eng_walk_ctx(c, 1, 2, bytes_row, &j);
    if (c->n_out > 1 && c->out[1]) *(float *)c->out[1]->data = scale;
    if (c->n_out > 2 && c->out[2]) *(uint8_t *)c->out[2]->data = zero;
    return OD_OK;
}
