/* pb.c - the values of ONNX test cases: tensors, sequences, optionals, maps. */
#include "loaders/onnx/tensor.h"
#include "loaders/onnx/wire.h"
#include "loaders/tensor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The whole file in `h`. */
static od_code read_file(const char *path, ldr_heap *h, uint8_t **bytes, size_t *size, od_status *st)
{
    FILE *f = fopen(path, "rbe");
    if (!f) return od_fail(st, errno == ENOENT ? OD_NOT_FOUND : OD_IO, "%s", strerror(errno));
    od_code rc = OD_OK;
    long end = fseek(f, 0, SEEK_END) ? -1 : ftell(f);
    if (end < 0 || fseek(f, 0, SEEK_SET)) {
        rc = od_fail(st, OD_IO, "%s", strerror(errno));
    } else if (!(*bytes = ldr_heap_alloc(h, (size_t)end))) {
        rc = od_fail(st, OD_NO_MEMORY, "no memory for %ld bytes", end);
    } else if (fread(*bytes, 1, (size_t)end, f) != (size_t)end) {
        rc = od_fail(st, OD_IO, "cannot read %ld bytes", end);
    } else {
        *size = (size_t)end;
    }
    fclose(f);
    return rc;
}

static od_code from_sequence(const Onnx__SequenceProto *p, ldr_source *src, eng_tensor *out, od_status *st);
static od_code from_map(const Onnx__MapProto *p, ldr_source *src, eng_tensor *out, od_status *st);
static od_code from_optional(const Onnx__OptionalProto *p, ldr_source *src, eng_tensor *out, od_status *st);

static od_code make_list(ldr_source *src, eng_dtype dtype, size_t n, eng_tensor *out, od_status *st)
{
    *out = (eng_tensor){.dtype = dtype, .rank = 1, .dims = {(int64_t)n}};
    out->data = od_arena_calloc(src->arena, n, sizeof(eng_tensor));
    return out->data ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for %zu elements", n);
}

static od_code from_sequence(const Onnx__SequenceProto *p, ldr_source *src, eng_tensor *out, od_status *st)
{
    size_t k = 0, n = p->n_tensor_values + p->n_sparse_tensor_values + p->n_sequence_values + p->n_map_values +
                      p->n_optional_values;
    OD_TRY(make_list(src, ENG_SEQUENCE, n, out, st));
    eng_tensor *to = out->data;
    for (size_t i = 0; i < p->n_tensor_values; i++)
        OD_TRY(ldr_tensor_from_proto(p->tensor_values[i], src, &to[k++], st));
    for (size_t i = 0; i < p->n_sparse_tensor_values; i++)
        OD_TRY(ldr_tensor_from_sparse(p->sparse_tensor_values[i], src, &to[k++], st));
    for (size_t i = 0; i < p->n_sequence_values; i++)
        OD_TRY(from_sequence(p->sequence_values[i], src, &to[k++], st));
    for (size_t i = 0; i < p->n_map_values; i++) OD_TRY(from_map(p->map_values[i], src, &to[k++], st));
    for (size_t i = 0; i < p->n_optional_values; i++)
        OD_TRY(from_optional(p->optional_values[i], src, &to[k++], st));
    return OD_OK;
}

static od_code from_optional(const Onnx__OptionalProto *p, ldr_source *src, eng_tensor *out, od_status *st)
{
    bool some = p->tensor_value || p->sparse_tensor_value || p->sequence_value || p->map_value || p->optional_value;
    OD_TRY(make_list(src, ENG_OPTIONAL, some, out, st));
    eng_tensor *to = out->data;
    if (p->tensor_value) return ldr_tensor_from_proto(p->tensor_value, src, to, st);
    if (p->sparse_tensor_value) return ldr_tensor_from_sparse(p->sparse_tensor_value, src, to, st);
    if (p->sequence_value) return from_sequence(p->sequence_value, src, to, st);
    if (p->map_value) return from_map(p->map_value, src, to, st);
    return some ? from_optional(p->optional_value, src, to, st) : OD_OK;
}

static od_code map_keys(const Onnx__MapProto *p, ldr_source *src, eng_tensor *out, od_status *st)
{
    bool strings = p->n_string_keys > 0;
    size_t n = strings ? p->n_string_keys : p->n_keys;
    *out = (eng_tensor){.dtype = strings ? ENG_STRING : ENG_INT64, .rank = 1, .dims = {(int64_t)n}};
    out->data = od_arena_calloc(src->arena, n, eng_dtype_size(out->dtype));
    if (!out->data) return od_fail(st, OD_NO_MEMORY, "no memory for %zu keys", n);
    if (!strings) {
        if (n) memcpy(out->data, p->keys, n * sizeof(int64_t));
        return OD_OK;
    }
    for (size_t i = 0; i < n; i++) {
        const ProtobufCBinaryData *s = &p->string_keys[i];
        char *copy = od_arena_strdup(src->arena, s->len ? (const char *)s->data : "", s->len);
        if (!copy) return od_fail(st, OD_NO_MEMORY, "no memory for a key of %zu bytes", s->len);
        ((eng_str *)out->data)[i] = (eng_str){copy, s->len};
    }
    return OD_OK;
}

/* Scalars of one type become one list. */
static od_code merge_scalars(ldr_source *src, eng_tensor *values, od_status *st)
{
    const eng_tensor *from = values->data;
    int64_t n = values->dims[0];
    for (int64_t i = 0; i < n; i++)
        if (from[i].dtype != from[0].dtype || from[i].dtype >= ENG_SEQUENCE || eng_tensor_count(&from[i]) != 1)
            return OD_OK;
    eng_tensor t = {.dtype = n ? from[0].dtype : ENG_FLOAT, .rank = 1, .dims = {n}};
    size_t size = eng_dtype_size(t.dtype);
    t.data = od_arena_calloc(src->arena, (size_t)n, size);
    if (!t.data) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " values", n);
    for (int64_t i = 0; i < n; i++) memcpy((char *)t.data + (size_t)i * size, from[i].data, size);
    *values = t;
    return OD_OK;
}

static od_code from_map(const Onnx__MapProto *p, ldr_source *src, eng_tensor *out, od_status *st)
{
    OD_TRY(make_list(src, ENG_MAP, 2, out, st));
    eng_tensor *pair = out->data;
    OD_TRY(map_keys(p, src, &pair[0], st));
    if (!p->values) return od_fail(st, OD_BAD_MODEL, "a map without values");
    OD_TRY(from_sequence(p->values, src, &pair[1], st));
    if (pair[0].dims[0] != pair[1].dims[0])
        return od_fail(st, OD_BAD_MODEL, "a map of %" PRId64 " keys and %" PRId64 " values", pair[0].dims[0],
                       pair[1].dims[0]);
    return merge_scalars(src, &pair[1], st);
}

static od_code unpack(ldr_heap *h, const uint8_t *bytes, size_t size, eng_dtype kind, ldr_source *src,
                      eng_tensor *out, od_status *st)
{
    const ProtobufCMessageDescriptor *d = kind == ENG_SEQUENCE   ? &onnx__sequence_proto__descriptor
                                          : kind == ENG_OPTIONAL ? &onnx__optional_proto__descriptor
                                          : kind == ENG_MAP      ? &onnx__map_proto__descriptor
                                                                 : &onnx__tensor_proto__descriptor;
    const void *message;
    OD_TRY(ldr_wire_check(d, bytes, size, st));
    OD_TRY(ldr_wire_unpack(h, d, bytes, size, &message, st));
    switch (kind) {
    case ENG_SEQUENCE: return from_sequence(message, src, out, st);
    case ENG_OPTIONAL: return from_optional(message, src, out, st);
    case ENG_MAP: return from_map(message, src, out, st);
    default: return ldr_tensor_from_proto(message, src, out, st);
    }
}

od_code ldr_pb_read(const char *path, od_arena *a, eng_dtype kind, eng_tensor *out, od_status *st)
{
    enum { HEAP_MAX_GB = 16 };
    ldr_heap heap;
    ldr_source src = {.arena = a};
    uint8_t *bytes = NULL;
    size_t size = 0;
    ldr_heap_init(&heap, (size_t)HEAP_MAX_GB << 30);
    od_code rc = read_file(path, &heap, &bytes, &size, st);
    if (rc == OD_OK) rc = unpack(&heap, bytes, size, kind, &src, out, st);
    ldr_heap_fini(&heap);
    return rc == OD_OK ? rc : od_note(st, "%.100s", path);
}
