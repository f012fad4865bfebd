#include "loaders/onnx/tensor.h"

#include <string.h>

od_code ldr_tensor_type(int32_t onnx_type, eng_dtype *out, od_status *st)
{
    if (onnx_type <= ENG_UNDEFINED || onnx_type >= ENG_SEQUENCE)
        return od_fail(st, OD_BAD_MODEL, "element type %d does not exist", onnx_type);
    *out = (eng_dtype)onnx_type;
    return OD_OK;
}

/* Bits of an element as it is stored; engine sizes differ below 8. */
static size_t stored_bits(eng_dtype t)
{
    switch (t) {
    case ENG_UINT4:
    case ENG_INT4:
    case ENG_FLOAT4E2M1: return 4;
    case ENG_UINT2:
    case ENG_INT2: return 2;
    case ENG_FLOAT6E2M3:
    case ENG_FLOAT6E3M2: return 6;
    default: return eng_dtype_size(t) * 8;
    }
}

static size_t stored_bytes(eng_dtype t, int64_t count)
{
    size_t bits = stored_bits(t);
    return bits >= 8 ? (size_t)count * (bits / 8) : ((size_t)count * bits + 7) / 8;
}

/* Elements of 2, 4 or 6 bits, low bits first, to a byte each. `from` and `to` must not overlap. */
static void unpack_bits(eng_dtype t, int64_t count, const uint8_t *from, uint8_t *to)
{
    unsigned bits = (unsigned)stored_bits(t), mask = (1u << bits) - 1;
    bool sign = t == ENG_INT4 || t == ENG_INT2;
    for (int64_t i = 0; i < count; i++) {
        uint64_t at = (uint64_t)i * bits;
        unsigned shift = (unsigned)(at % 8), v = (unsigned)from[at / 8] >> shift;
        if (shift + bits > 8) v |= (unsigned)from[at / 8 + 1] << (8 - shift);
        v &= mask;
        if (sign && v >> (bits - 1)) v |= 0xffu << bits;
        to[i] = (uint8_t)v;
    }
}

static void normalise_bools(int64_t count, uint8_t *b)
{
    for (int64_t i = 0; i < count; i++) b[i] = b[i] != 0;
}

static od_code take_memory(ldr_source *src, eng_tensor *t, size_t bytes, od_status *st)
{
    t->data = od_arena_alloc(src->arena, bytes);
    return t->data ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes of weights", bytes);
}

/* Only what can be weights is left to be read when it is wanted: shapes and indices are looked at everywhere. */
static bool may_wait(const eng_tensor *t)
{
    return t->rank >= 2 && (t->dtype == ENG_FLOAT || t->dtype == ENG_FLOAT16 || t->dtype == ENG_BFLOAT16);
}

/* `bytes` of raw data to `to`, which may overlap them. */
static od_code move_raw(ldr_source *src, uint8_t *raw, size_t bytes, uint8_t *to, od_status *st)
{
    if (!bytes) return OD_OK;
    if (src->floor && ldr_file_hole(src->file, raw)) return ldr_file_read(src->file, (uint64_t)(raw - src->file->bytes), bytes, to, st);
    if (to != raw) memmove(to, raw, bytes);
    return OD_OK;
}

/* Raw data in the model's own buffer is used where it lies. Nearly all are unaligned there, but what is before
 * them has been read already, so they can move down a little. NULL: not possible. */
static uint8_t *place_of(const ldr_source *src, const eng_tensor *t, uint8_t *raw)
{
    size_t align = eng_dtype_size(t->dtype) < 8 ? eng_dtype_size(t->dtype) : 8;
    if (!src->floor || raw < src->floor) return NULL;
    uint8_t *to = raw - (uintptr_t)raw % align;
    return to < src->floor ? NULL : to;
}

static od_code use_in_place(ldr_source *src, eng_tensor *t, uint8_t *raw, size_t bytes, uint8_t *to, od_status *st)
{
    if (may_wait(t) && ldr_file_hole(src->file, raw)) OD_TRY(eng_model_leave_out(src->model, to, bytes, (uint64_t)(raw - src->file->bytes), st));
    else OD_TRY(move_raw(src, raw, bytes, to, st));
    src->floor = to + bytes;
    src->in_place = true;
    t->data = to;
    return OD_OK;
}

static od_code read_raw(const Onnx__TensorProto *p, ldr_source *src, int64_t count, eng_tensor *t, od_status *st)
{
    size_t want = stored_bytes(t->dtype, count);
    bool packed = stored_bits(t->dtype) < 8;
    if (p->raw_data.len != want)
        return od_fail(st, OD_BAD_MODEL, "%zu bytes of data; its shape and type take %zu", p->raw_data.len, want);
    uint8_t *raw = p->raw_data.data, *to = packed ? NULL : place_of(src, t, raw);
    if (to) {
        OD_TRY(use_in_place(src, t, raw, want, to, st));
    } else {
        OD_TRY(take_memory(src, t, (size_t)count * eng_dtype_size(t->dtype), st));
        if (packed) OD_TRY(move_raw(src, raw, want, raw, st));
        if (packed) unpack_bits(t->dtype, count, raw, t->data);
        else OD_TRY(move_raw(src, raw, want, t->data, st));
    }
    if (t->dtype == ENG_BOOL) normalise_bools(count, t->data);
    return OD_OK;
}

/* Leave the bytes of an initializer of the main graph in the other file, if they lie there as they must in memory. */
static od_code leave_external(const Onnx__TensorProto *p, ldr_source *src, size_t size, eng_tensor *t, bool *left, od_status *st)
{
    int64_t offset;
    const ldr_beside *file;
    uint64_t where;
    OD_TRY(ldr_external_find(src->external, p, size, &offset, st));
    if ((size_t)offset % eng_dtype_size(t->dtype) || !ldr_file_beside(src->file, src->external->fd, &file, &where)) return OD_OK;
    if ((uint64_t)offset > file->size || size > file->size - (uint64_t)offset) return OD_OK; /* it has shrunk: reading says so */
    t->data = file->bytes + offset;
    src->in_place = *left = true;
    return eng_model_leave_out(src->model, t->data, size, where + (uint64_t)offset, st);
}

static od_code read_external(const Onnx__TensorProto *p, ldr_source *src, int64_t count, eng_tensor *t, od_status *st)
{
    size_t stored = stored_bytes(t->dtype, count);
    bool packed = stored_bits(t->dtype) < 8;
    if (!src->external) return od_fail(st, OD_UNSUPPORTED, "external data is not allowed here");
    if (src->floor && !packed && stored >= LDR_HOLE_MIN && may_wait(t)) {
        bool left = false;
        OD_TRY(leave_external(p, src, stored, t, &left, st));
        if (left) return OD_OK;
    }
    OD_TRY(take_memory(src, t, stored, st));
    OD_TRY(ldr_external_read(src->external, p, stored, t->data, st));
    if (packed) {
        const uint8_t *from = t->data;
        OD_TRY(take_memory(src, t, (size_t)count, st));
        unpack_bits(t->dtype, count, from, t->data);
    }
    if (t->dtype == ENG_BOOL) normalise_bools(count, t->data);
    return OD_OK;
}

static od_code check_count(const char *field, size_t have, size_t want, od_status *st)
{
    if (have == want) return OD_OK;
    return od_fail(st, OD_BAD_MODEL, "%zu elements in %s; its shape and type take %zu", have, field, want);
}

static od_code read_strings(const Onnx__TensorProto *p, ldr_source *src, int64_t count, eng_tensor *t, od_status *st)
{
    OD_TRY(check_count("string_data", p->n_string_data, (size_t)count, st));
    OD_TRY(take_memory(src, t, (size_t)count * sizeof(eng_str), st));
    eng_str *to = t->data;
    for (size_t i = 0; i < p->n_string_data; i++) {
        const ProtobufCBinaryData *s = &p->string_data[i];
        char *copy = od_arena_strdup(src->arena, s->len ? (const char *)s->data : "", s->len);
        if (!copy) return od_fail(st, OD_NO_MEMORY, "no memory for a string of %zu bytes", s->len);
        to[i] = (eng_str){copy, s->len};
    }
    return OD_OK;
}

/* All types of up to 32 bits but float and uint32 come one a varint. */
static od_code read_int32s(const Onnx__TensorProto *p, ldr_source *src, int64_t count, eng_tensor *t, od_status *st)
{
    size_t size = eng_dtype_size(t->dtype), n = p->n_int32_data;
    bool packed = stored_bits(t->dtype) < 6; /* 6 bits come one a varint too */
    OD_TRY(check_count("int32_data", n, packed ? stored_bytes(t->dtype, count) : (size_t)count, st));
    OD_TRY(take_memory(src, t, (size_t)count * size, st));
    if (packed) {
        uint8_t *bytes = od_arena_alloc(src->arena, n);
        if (!bytes) return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes of weights", n);
        for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)p->int32_data[i];
        unpack_bits(t->dtype, count, bytes, t->data);
        return OD_OK;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t v = p->int32_data[i];
        switch (size) {
        case 1: ((uint8_t *)t->data)[i] = (uint8_t)(stored_bits(t->dtype) == 6 ? v & 0x3f : v); break;
        case 2: ((uint16_t *)t->data)[i] = (uint16_t)v; break;
        default: ((int32_t *)t->data)[i] = v; break;
        }
    }
    if (t->dtype == ENG_BOOL)
        for (size_t i = 0; i < n; i++) ((uint8_t *)t->data)[i] = p->int32_data[i] != 0;
    return OD_OK;
}

static od_code copy_list(ldr_source *src, eng_tensor *t, const char *field, const void *from, size_t have, size_t want,
                         size_t size, od_status *st)
{
    OD_TRY(check_count(field, have, want, st));
    OD_TRY(take_memory(src, t, want * size, st));
    if (want) memcpy(t->data, from, want * size);
    return OD_OK;
}

static od_code read_lists(const Onnx__TensorProto *p, ldr_source *src, int64_t count, eng_tensor *t, od_status *st)
{
    size_t n = (size_t)count;
    switch (t->dtype) {
    case ENG_FLOAT: return copy_list(src, t, "float_data", p->float_data, p->n_float_data, n, 4, st);
    case ENG_COMPLEX64: return copy_list(src, t, "float_data", p->float_data, p->n_float_data, n * 2, 4, st);
    case ENG_DOUBLE: return copy_list(src, t, "double_data", p->double_data, p->n_double_data, n, 8, st);
    case ENG_COMPLEX128: return copy_list(src, t, "double_data", p->double_data, p->n_double_data, n * 2, 8, st);
    case ENG_INT64: return copy_list(src, t, "int64_data", p->int64_data, p->n_int64_data, n, 8, st);
    case ENG_UINT64: return copy_list(src, t, "uint64_data", p->uint64_data, p->n_uint64_data, n, 8, st);
    case ENG_UINT32:
        OD_TRY(check_count("uint64_data", p->n_uint64_data, n, st));
        OD_TRY(take_memory(src, t, n * 4, st));
        for (size_t i = 0; i < n; i++) ((uint32_t *)t->data)[i] = (uint32_t)p->uint64_data[i];
        return OD_OK;
    default: return read_int32s(p, src, count, t, st);
    }
}

static od_code read_dims(size_t n, const int64_t *dims, eng_tensor *t, int64_t *count, od_status *st)
{
    if (n > ENG_MAX_RANK) return od_fail(st, OD_UNSUPPORTED, "rank %zu; onnxd knows up to %d", n, ENG_MAX_RANK);
    for (size_t i = 0; i < n; i++) {
        if (dims[i] < 0) return od_fail(st, OD_BAD_MODEL, "dimension %zu is %" PRId64, i, dims[i]);
        t->dims[i] = dims[i];
    }
    t->rank = (int)n;
    if (!eng_dims_count(t->rank, t->dims, count))
        return od_fail(st, OD_BAD_MODEL, "its dimensions' product overflows");
    return OD_OK;
}

static od_code read_tensor(const Onnx__TensorProto *p, ldr_source *src, eng_tensor *out, od_status *st)
{
    eng_tensor t = {0};
    int64_t count;
    OD_TRY(ldr_tensor_type(p->data_type, &t.dtype, st));
    OD_TRY(read_dims(p->n_dims, p->dims, &t, &count, st));
    if (p->segment) return od_fail(st, OD_UNSUPPORTED, "tensors in segments are not supported");
    if (p->has_data_location && p->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        if (t.dtype == ENG_STRING) return od_fail(st, OD_BAD_MODEL, "strings cannot be external data");
        OD_TRY(read_external(p, src, count, &t, st));
    } else if (t.dtype == ENG_STRING) {
        OD_TRY(read_strings(p, src, count, &t, st));
    } else if (p->has_raw_data && (p->raw_data.len || !count)) {
        OD_TRY(read_raw(p, src, count, &t, st));
    } else {
        OD_TRY(read_lists(p, src, count, &t, st));
    }
    *out = t;
    return OD_OK;
}

od_code ldr_tensor_from_proto(const Onnx__TensorProto *p, ldr_source *src, eng_tensor *out, od_status *st)
{
    if (read_tensor(p, src, out, st) == OD_OK) return OD_OK;
    return p->name && *p->name ? od_note(st, "tensor '%.60s'", p->name) : od_note(st, "tensor");
}

size_t ldr_tensor_cost(const Onnx__TensorProto *p)
{
    size_t bytes = 128 + 4 * p->raw_data.len + 8 * (p->n_float_data + p->n_int32_data + p->n_int64_data);
    bytes += 8 * (p->n_double_data + p->n_uint64_data) + 128 * p->n_string_data;
    for (size_t i = 0; i < p->n_string_data; i++) bytes += p->string_data[i].len;
    return bytes;
}

/* ---- sparse ------------------------------------------------------------------------------- */

/* Where element `i` of the values goes in the dense tensor; each must come after the one before. */
static od_code sparse_place(const eng_tensor *indices, const eng_tensor *t, int64_t i, int64_t count, int64_t *at,
                            od_status *st)
{
    const int64_t *index = indices->data;
    if (indices->rank == 1) {
        *at = index[i];
    } else {
        *at = 0;
        for (int d = 0; d < t->rank; d++) {
            int64_t x = index[i * t->rank + d];
            if (x < 0 || x >= t->dims[d])
                return od_fail(st, OD_BAD_MODEL, "index %" PRId64 " of axis %d, whose extent is %" PRId64, x, d,
                               t->dims[d]);
            *at = *at * t->dims[d] + x;
        }
    }
    if (*at < 0 || *at >= count)
        return od_fail(st, OD_BAD_MODEL, "index %" PRId64 " of %" PRId64 " elements", *at, count);
    return OD_OK;
}

static od_code fill_sparse(const Onnx__SparseTensorProto *p, ldr_source *src, eng_tensor *t, int64_t count,
                           od_status *st)
{
    eng_tensor values, indices;
    OD_TRY(ldr_tensor_from_proto(p->values, src, &values, st));
    OD_TRY(ldr_tensor_from_proto(p->indices, src, &indices, st));
    if (values.rank != 1 || values.dtype == ENG_STRING)
        return od_fail(st, OD_BAD_MODEL, "values of rank %d and type %s; wanted a list of numbers", values.rank,
                       eng_dtype_name(values.dtype));
    bool linear = indices.rank == 1 && indices.dims[0] == values.dims[0];
    bool rows = indices.rank == 2 && indices.dims[0] == values.dims[0] && indices.dims[1] == t->rank;
    if (indices.dtype != ENG_INT64 || (!linear && !rows))
        return od_fail(st, OD_BAD_MODEL, "its indices fit neither [%" PRId64 "] nor [%" PRId64 ",%d] of int64",
                       values.dims[0], values.dims[0], t->rank);
    size_t size = eng_dtype_size(values.dtype);
    if ((size_t)count > LDR_SPARSE_MAX / size)
        return od_fail(st, OD_TOO_LARGE, "%" PRId64 " elements when dense; the limit is %d bytes", count,
                       LDR_SPARSE_MAX);
    t->dtype = values.dtype;
    t->data = od_arena_zalloc(src->arena, (size_t)count * size);
    if (!t->data) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " elements", count);
    for (int64_t i = 0; i < values.dims[0]; i++) {
        int64_t at;
        OD_TRY(sparse_place(&indices, t, i, count, &at, st));
        memcpy((char *)t->data + (size_t)at * size, (char *)values.data + (size_t)i * size, size);
    }
    return OD_OK;
}

od_code ldr_tensor_from_sparse(const Onnx__SparseTensorProto *p, ldr_source *src, eng_tensor *out, od_status *st)
{
    eng_tensor t = {0};
    int64_t count;
    const char *name = p->values && p->values->name ? p->values->name : "";
    if (!p->values || !p->indices)
        return od_fail(st, OD_BAD_MODEL, "sparse tensor '%.60s' has no %s", name, p->values ? "indices" : "values");
    if (read_dims(p->n_dims, p->dims, &t, &count, st) != OD_OK || fill_sparse(p, src, &t, count, st) != OD_OK)
        return od_note(st, "sparse tensor '%.60s'", name);
    *out = t;
    return OD_OK;
}
