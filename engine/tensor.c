#include "engine/tensor.h"
#include "engine/kernels/move.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} types[ENG_DTYPES] = {
    [ENG_UNDEFINED] = {"undefined", 0},
    [ENG_FLOAT] = {"float", 4},
    [ENG_UINT8] = {"uint8", 1},
    [ENG_INT8] = {"int8", 1},
    [ENG_UINT16] = {"uint16", 2},
    [ENG_INT16] = {"int16", 2},
    [ENG_INT32] = {"int32", 4},
    [ENG_INT64] = {"int64", 8},
    [ENG_STRING] = {"string", sizeof(eng_str)},
    [ENG_BOOL] = {"bool", 1},
    [ENG_FLOAT16] = {"float16", 2},
    [ENG_DOUBLE] = {"double", 8},
    [ENG_UINT32] = {"uint32", 4},
    [ENG_UINT64] = {"uint64", 8},
    [ENG_COMPLEX64] = {"complex64", 8},
    [ENG_COMPLEX128] = {"complex128", 16},
    [ENG_BFLOAT16] = {"bfloat16", 2},
    [ENG_FLOAT8E4M3FN] = {"float8e4m3fn", 1},
    [ENG_FLOAT8E4M3FNUZ] = {"float8e4m3fnuz", 1},
    [ENG_FLOAT8E5M2] = {"float8e5m2", 1},
    [ENG_FLOAT8E5M2FNUZ] = {"float8e5m2fnuz", 1},
    [ENG_UINT4] = {"uint4", 1},
    [ENG_INT4] = {"int4", 1},
    [ENG_FLOAT4E2M1] = {"float4e2m1", 1},
    [ENG_FLOAT8E8M0] = {"float8e8m0", 1},
    [ENG_UINT2] = {"uint2", 1},
    [ENG_INT2] = {"int2", 1},
    [ENG_FLOAT6E2M3] = {"float6e2m3", 1},
    [ENG_FLOAT6E3M2] = {"float6e3m2", 1},
    [ENG_SEQUENCE] = {"sequence", sizeof(eng_tensor)},
    [ENG_OPTIONAL] = {"optional", sizeof(eng_tensor)},
    [ENG_MAP] = {"map", sizeof(eng_tensor)},
};

const char *eng_dtype_name(eng_dtype t)
{
    return (unsigned)t < ENG_DTYPES && types[t].name ? types[t].name : "?";
}

size_t eng_dtype_size(eng_dtype t)
{
    return (unsigned)t < ENG_DTYPES ? types[t].size : 0;
}

int64_t eng_tensor_count(const eng_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

/* Pixels of an ENG_CL tensor: everything but the channels. */
static int64_t pixels(const eng_tensor *t)
{
    int64_t n = t->dims[0];
    for (int i = 2; i < t->rank; i++) n *= t->dims[i];
    return n;
}

size_t eng_tensor_bytes(const eng_tensor *t)
{
    int64_t n;
    if (t->layout == ENG_CL) {
        n = pixels(t);
        if (n) n = (n - 1) * t->pitch + t->dims[1];
    } else {
        n = eng_tensor_count(t);
    }
    return (size_t)n * eng_dtype_size(t->dtype);
}

bool eng_dims_count(int rank, const int64_t *dims, int64_t *count)
{
    /* An extent of zero makes the product zero, but the others must still be sane: strides and
     * loops use partial products. */
    int64_t n = 1, partial = 1;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0) return false;
        if (!od_mul_i64(n, dims[i], &n)) return false;
        if (dims[i] && (!od_mul_i64(partial, dims[i], &partial) || partial > PTRDIFF_MAX / 128)) return false;
    }
    *count = n;
    return true;
}

bool eng_dims_equal(const eng_tensor *a, const eng_tensor *b)
{
    return a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims);
}

bool eng_tensor_layout_free(const eng_tensor *t)
{
    if (t->rank < 3) return t->layout == ENG_ROW;
    if (t->layout == ENG_CL && t->pitch != t->dims[1]) return false;
    if (t->dims[1] == 1) return true;
    for (int i = 2; i < t->rank; i++)
        if (t->dims[i] != 1) return false;
    return true;
}

int eng_tensor_phys_axis(const eng_tensor *t, int axis)
{
    if (t->layout == ENG_ROW || axis == 0) return axis;
    return axis == 1 ? t->rank - 1 : axis - 1;
}

void eng_tensor_phys(const eng_tensor *t, int64_t *dims, int64_t *strides)
{
    int64_t stride = 1;
    for (int p = t->rank - 1; p >= 0; p--) {
        int axis = t->layout == ENG_ROW || p == 0 ? p : p == t->rank - 1 ? 1 : p + 1;
        dims[p] = t->dims[axis];
        strides[p] = stride;
        stride *= t->layout == ENG_CL && p == t->rank - 1 ? t->pitch : dims[p];
    }
}

void eng_tensor_strides(const eng_tensor *t, int64_t *strides)
{
    int64_t dims[ENG_MAX_RANK], phys[ENG_MAX_RANK];
    eng_tensor_phys(t, dims, phys);
    for (int i = 0; i < t->rank; i++) strides[i] = phys[eng_tensor_phys_axis(t, i)];
}

od_code eng_tensor_reshape(eng_tensor *t, int rank, const int64_t *dims, od_status *st)
{
    int64_t have = eng_tensor_count(t), want = 1;
    int inferred = -1;
    if (rank < 0 || rank > ENG_MAX_RANK)
        return od_fail(st, OD_BAD_SHAPE, "rank %d: at most %d is possible", rank, ENG_MAX_RANK);
    for (int i = 0; i < rank; i++) {
        if (dims[i] == -1) {
            if (inferred >= 0) return od_fail(st, OD_BAD_SHAPE, "extents %d and %d are both -1", inferred, i);
            inferred = i;
        } else if (dims[i] < 0 || !od_mul_i64(want, dims[i], &want)) {
            return od_fail(st, OD_BAD_SHAPE, "extent %d is %" PRId64, i, dims[i]);
        }
    }
    int64_t fill = inferred >= 0 && want > 0 ? have / want : 0;
    if (inferred >= 0 ? (want ? fill * want != have : have != 0) : want != have)
        return od_fail(st, OD_BAD_SHAPE, "cannot view %" PRId64 " elements as %" PRId64, have, want);
    t->rank = rank;
    for (int i = 0; i < rank; i++) t->dims[i] = i == inferred ? fill : dims[i];
    return OD_OK;
}

static od_code copy_strings(eng_str *to, const eng_str *from, int64_t n, od_arena *a, od_status *st)
{
    for (int64_t i = 0; i < n; i++) {
        char *s = od_arena_strdup(a, from[i].ptr ? from[i].ptr : "", from[i].len);
        if (!s) return od_fail(st, OD_NO_MEMORY, "no memory for a string of %zu bytes", from[i].len);
        to[i] = (eng_str){s, from[i].len};
    }
    return OD_OK;
}

od_code eng_tensor_copy(eng_tensor *out, const eng_tensor *like, od_arena *a, od_status *st)
{
    eng_tensor t = *like;
    t.layout = ENG_ROW;
    t.pitch = 0;
    t.data = NULL;
    if (like->data) {
        int64_t n = eng_tensor_count(like);
        t.data = od_arena_alloc(a, eng_tensor_bytes(&t));
        if (!t.data) return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes of a tensor", eng_tensor_bytes(&t));
        if (like->dtype == ENG_STRING) {
            OD_TRY(copy_strings(t.data, like->data, n, a, st));
        } else if (like->dtype >= ENG_SEQUENCE) {
            for (int64_t i = 0; i < n; i++)
                OD_TRY(eng_tensor_copy((eng_tensor *)t.data + i, (const eng_tensor *)like->data + i, a, st));
        } else if (like->layout == ENG_ROW) {
            memcpy(t.data, like->data, eng_tensor_bytes(&t));
        } else {
            eng_tensor_relayout(&t, like, NULL);
        }
    }
    *out = t;
    return OD_OK;
}

void eng_tensor_relayout(const eng_tensor *to, const eng_tensor *from, od_pool *pool)
{
    int64_t to_stride[ENG_MAX_RANK] = {0}, from_stride[ENG_MAX_RANK] = {0};
    eng_move m = {.to = to->data, .from = from->data, .size = eng_dtype_size(from->dtype)};
    if (to->data == from->data && to->layout == from->layout) return;
    eng_tensor_strides(to, to_stride);
    eng_tensor_strides(from, from_stride);
    for (int d = 0; d < from->rank; d++) eng_move_axis(&m, from->dims[d], to_stride[d], from_stride[d]);
    eng_move_run(&m, pool);
}

char *eng_tensor_text(const eng_tensor *t, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "%s[", eng_dtype_name(t->dtype));
    for (int i = 0; i < t->rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, i ? ",%" PRId64 : "%" PRId64, t->dims[i]);
    if (at < size) snprintf(text + at, size - at, "]");
    return text;
}

int64_t eng_tensor_int(const eng_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case ENG_INT64: return ((const int64_t *)t->data)[i];
    case ENG_INT32: return ((const int32_t *)t->data)[i];
    case ENG_UINT64: return (int64_t)((const uint64_t *)t->data)[i];
    case ENG_UINT32: return ((const uint32_t *)t->data)[i];
    case ENG_INT16: return ((const int16_t *)t->data)[i];
    case ENG_UINT16: return ((const uint16_t *)t->data)[i];
    case ENG_INT8:
    case ENG_INT4:
    case ENG_INT2: return ((const int8_t *)t->data)[i];
    case ENG_UINT8:
    case ENG_UINT4:
    case ENG_UINT2:
    case ENG_BOOL: return ((const uint8_t *)t->data)[i];
    default: {
        double d = eng_tensor_double(t, i);
        return d >= 9.2e18 ? INT64_MAX : d <= -9.2e18 ? INT64_MIN : isnan(d) ? 0 : (int64_t)d;
    }
    }
}

/* A number of `exp` exponent and `man` mantissa bits, IEEE style with subnormals. Infinities and NaN
 * follow `kind`: 'i' IEEE, 'f' finite only with NaN at all ones (E4M3FN), 'z' NaN at minus zero. */
static double small_float(unsigned bits, int exp, int man, char kind, int bias)
{
    unsigned sign = bits >> (exp + man) & 1u, e = bits >> man & ((1u << exp) - 1u), m = bits & ((1u << man) - 1u);
    unsigned top = (1u << exp) - 1u;
    if (kind == 'z' && sign && !e && !m) return NAN;
    if (kind == 'i' && e == top) return m ? NAN : sign ? -INFINITY : INFINITY;
    if (kind == 'f' && e == top && m == (1u << man) - 1u) return NAN;
    double v = e ? ldexp(1.0 + ldexp((double)m, -man), (int)e - bias) : ldexp((double)m, 1 - bias - man);
    return sign ? -v : v;
}

double eng_tensor_double(const eng_tensor *t, int64_t i)
{
    const uint8_t *b = t->data;
    switch (t->dtype) {
    case ENG_FLOAT: return (double)((const float *)t->data)[i];
    case ENG_DOUBLE: return ((const double *)t->data)[i];
    case ENG_FLOAT16: return small_float(((const uint16_t *)t->data)[i], 5, 10, 'i', 15);
    case ENG_BFLOAT16: return small_float(((const uint16_t *)t->data)[i], 8, 7, 'i', 127);
    case ENG_FLOAT8E4M3FN: return small_float(b[i], 4, 3, 'f', 7);
    case ENG_FLOAT8E4M3FNUZ: return small_float(b[i], 4, 3, 'z', 8);
    case ENG_FLOAT8E5M2: return small_float(b[i], 5, 2, 'i', 15);
    case ENG_FLOAT8E5M2FNUZ: return small_float(b[i], 5, 2, 'z', 16);
    case ENG_FLOAT4E2M1: return small_float(b[i], 2, 1, 'n', 1);
    case ENG_FLOAT6E2M3: return small_float(b[i], 2, 3, 'n', 1);
    case ENG_FLOAT6E3M2: return small_float(b[i], 3, 2, 'n', 3);
    case ENG_FLOAT8E8M0: return b[i] == 255 ? NAN : ldexp(1.0, b[i] - 127);
    case ENG_UINT64: return (double)((const uint64_t *)t->data)[i];
    case ENG_INT64:
    case ENG_INT32:
    case ENG_UINT32:
    case ENG_INT16:
    case ENG_UINT16:
    case ENG_INT8:
    case ENG_UINT8:
    case ENG_INT4:
    case ENG_UINT4:
    case ENG_INT2:
    case ENG_UINT2:
    case ENG_BOOL: return (double)eng_tensor_int(t, i);
    default: return NAN;
    }
}
