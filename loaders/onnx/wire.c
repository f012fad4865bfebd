#include "loaders/onnx/wire.h"

#include <string.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = LDR_WIRE_BYTES, FIXED32 = 5 };

/* ---- memory ------------------------------------------------------------------------------- */

enum { HEAP_BLOCK = 1 << 18 };

void *ldr_heap_alloc(ldr_heap *h, size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    size = size ? (size + 15) & ~(size_t)15 : 16;
    if (size > HEAP_BLOCK / 4) return od_arena_alloc(&h->arena, size);
    if (size > (size_t)(h->end - h->at)) {
        char *block = od_arena_alloc(&h->arena, HEAP_BLOCK);
        if (!block) return NULL;
        h->at = block;
        h->end = block + HEAP_BLOCK;
    }
    void *p = h->at;
    h->at += size;
    return p;
}

ldr_heap_mark ldr_heap_save(const ldr_heap *h)
{
    return (ldr_heap_mark){od_arena_save(&h->arena), h->at, h->end};
}

void ldr_heap_rewind(ldr_heap *h, ldr_heap_mark mark)
{
    od_arena_rewind(&h->arena, mark.arena);
    h->at = mark.at;
    h->end = mark.end;
}

static void *heap_alloc(void *heap, size_t size)
{
    return ldr_heap_alloc(heap, size);
}

static void heap_free(void *heap, void *p)
{
    (void)heap;
    (void)p;
}

void ldr_heap_init(ldr_heap *h, size_t limit)
{
    *h = (ldr_heap){.allocator = {heap_alloc, heap_free, h}};
    od_arena_init(&h->arena, limit);
}

void ldr_heap_fini(ldr_heap *h)
{
    od_arena_fini(&h->arena);
    *h = (ldr_heap){0};
}

/* ---- fields ------------------------------------------------------------------------------- */

typedef struct wire_reader {
    const uint8_t *at, *end;
    const char *trouble; /* why the last read failed */
} wire_reader;

static bool read_varint(wire_reader *r, uint64_t *out)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (r->at == r->end) return r->trouble = "ends inside a number", false;
        uint8_t b = *r->at++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return *out = v, true;
    }
    return r->trouble = "has a number of more than 10 bytes", false;
}

/* The next field, or false: at the end (trouble NULL) or broken. */
static bool next_field(wire_reader *r, ldr_wire_field *f)
{
    uint64_t tag, size = 0;
    if (r->at == r->end) return false;
    f->start = r->at;
    if (!read_varint(r, &tag)) return false;
    if (tag >> 3 == 0 || tag >> 32 != 0) return r->trouble = "has a field number that cannot be", false;
    f->number = (uint32_t)(tag >> 3);
    f->type = (int)(tag & 7);
    f->at = r->at;
    switch (f->type) {
    case VARINT:
        if (!read_varint(r, &size)) return false;
        f->size = (size_t)(r->at - f->at);
        return true;
    case FIXED64: size = 8; break;
    case FIXED32: size = 4; break;
    case BYTES:
        if (!read_varint(r, &size)) return false;
        f->at = r->at;
        break;
    default: return r->trouble = "has a field of a wire type that cannot be", false;
    }
    if (size > (size_t)(r->end - r->at)) return r->trouble = "ends inside a field", false;
    f->size = (size_t)size;
    r->at += size;
    return true;
}

bool ldr_wire_next(const uint8_t *bytes, const uint8_t *end, ldr_wire_field *f)
{
    wire_reader r = {bytes, end, NULL};
    return next_field(&r, f);
}

static od_code check_message(const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t size, int depth,
                             const uint8_t *file, od_status *st)
{
    wire_reader r = {bytes, bytes + size, NULL};
    ldr_wire_field f;
    if (depth > LDR_WIRE_DEPTH)
        return od_fail(st, OD_TOO_LARGE, "messages are nested more than %d deep", LDR_WIRE_DEPTH);
    while (next_field(&r, &f)) {
        if (f.type != BYTES) continue;
        const ProtobufCFieldDescriptor *fd = protobuf_c_message_descriptor_get_field(d, f.number);
        if (!fd || fd->type != PROTOBUF_C_TYPE_MESSAGE) continue;
        OD_TRY(check_message(fd->descriptor, f.at, f.size, depth + 1, file, st));
    }
    if (r.trouble)
        return od_fail(st, OD_BAD_MODEL, "not an ONNX file, or cut short: %s at byte %zu %s", d->short_name,
                       (size_t)(r.at - file), r.trouble);
    return OD_OK;
}

od_code ldr_wire_check(const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t size, od_status *st)
{
    return check_message(d, bytes, size, 0, bytes, st);
}

/* ---- unpacking ---------------------------------------------------------------------------- */

od_code ldr_wire_unpack(ldr_heap *h, const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t size,
                        void *out, od_status *st)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(d, &h->allocator, size, bytes);
    if (message) {
        memcpy(out, &message, sizeof message); /* `out` is a pointer to a pointer of the message's type */
        return OD_OK;
    }
    size_t limit = h->arena.limit;
    if (limit && od_arena_bytes(&h->arena) + HEAP_BLOCK > limit)
        return od_fail(st, OD_TOO_LARGE, "%s: unpacking %zu bytes takes more than %zu", d->short_name, size, limit);
    return od_fail(st, OD_BAD_MODEL, "not an ONNX file: a %s does not fit its schema", d->short_name);
}

/* `message` without its fields called `number`, which must be framed well. */
static uint8_t *without(ldr_heap *h, const uint8_t *bytes, size_t size, uint32_t number, size_t *rest_size)
{
    wire_reader r = {bytes, bytes + size, NULL};
    ldr_wire_field f;
    size_t total = 0, at = 0;
    while (next_field(&r, &f))
        if (f.number != number) total += (size_t)(r.at - f.start);
    uint8_t *rest = ldr_heap_alloc(h, total);
    if (!rest) return NULL;
    r = (wire_reader){bytes, bytes + size, NULL};
    while (next_field(&r, &f)) {
        if (f.number == number) continue;
        memcpy(rest + at, f.start, (size_t)(r.at - f.start));
        at += (size_t)(r.at - f.start);
    }
    *rest_size = total;
    return rest;
}

/* Unpack all of a message but its fields called `number`. */
static od_code unpack_without(ldr_heap *h, const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t size,
                              uint32_t number, void *out, od_status *st)
{
    size_t rest_size;
    uint8_t *rest = without(h, bytes, size, number, &rest_size);
    if (!rest) return od_fail(st, OD_NO_MEMORY, "no memory to unpack %zu bytes", size);
    return ldr_wire_unpack(h, d, rest, rest_size, out, st);
}

static od_code unpack_initializer(ldr_heap *h, const ldr_wire_field *f, Onnx__TensorProto **out, od_status *st)
{
    OD_TRY(unpack_without(h, &onnx__tensor_proto__descriptor, f->at, f->size, LDR_TENSOR_RAW_DATA, out, st));
    wire_reader r = {f->at, f->at + f->size, NULL};
    ldr_wire_field part;
    while (next_field(&r, &part)) {
        if (part.number != LDR_TENSOR_RAW_DATA) continue;
        if (part.type != BYTES) return od_fail(st, OD_BAD_MODEL, "not an ONNX file: raw_data is a number");
        (*out)->has_raw_data = 1;
        (*out)->raw_data = (ProtobufCBinaryData){part.size, (uint8_t *)(uintptr_t)part.at};
    }
    return OD_OK;
}

static od_code unpack_graph(ldr_heap *h, const ldr_wire_field *graph, Onnx__GraphProto **out, od_status *st)
{
    wire_reader r = {graph->at, graph->at + graph->size, NULL};
    ldr_wire_field f;
    size_t count = 0;
    OD_TRY(unpack_without(h, &onnx__graph_proto__descriptor, graph->at, graph->size, LDR_GRAPH_INITIALIZER, out, st));
    while (next_field(&r, &f)) count += f.number == LDR_GRAPH_INITIALIZER;
    Onnx__TensorProto **list = ldr_heap_alloc(h, count * sizeof *list);
    if (!list) return od_fail(st, OD_NO_MEMORY, "no memory for %zu initializers", count);
    (*out)->initializer = list;
    r = (wire_reader){graph->at, graph->at + graph->size, NULL};
    while (next_field(&r, &f)) {
        if (f.number != LDR_GRAPH_INITIALIZER) continue;
        if (f.type != BYTES) return od_fail(st, OD_BAD_MODEL, "not an ONNX file: an initializer is a number");
        OD_TRY(unpack_initializer(h, &f, &list[(*out)->n_initializer], st));
        (*out)->n_initializer++;
    }
    return OD_OK;
}

od_code ldr_wire_model(ldr_heap *h, uint8_t *bytes, size_t size, Onnx__ModelProto **out, od_status *st)
{
    wire_reader r = {bytes, bytes + size, NULL};
    ldr_wire_field f, graph = {0};
    OD_TRY(ldr_wire_check(&onnx__model_proto__descriptor, bytes, size, st));
    OD_TRY(unpack_without(h, &onnx__model_proto__descriptor, bytes, size, LDR_MODEL_GRAPH, out, st));
    while (next_field(&r, &f)) {
        if (f.number != LDR_MODEL_GRAPH) continue;
        if (f.type != BYTES || graph.start) return od_fail(st, OD_BAD_MODEL, "more than one graph in a model");
        graph = f;
    }
    if (!graph.start) return od_fail(st, OD_BAD_MODEL, "no graph in the file: not an ONNX model");
    return unpack_graph(h, &graph, &(*out)->graph, st);
}
