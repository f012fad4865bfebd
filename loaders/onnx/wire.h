/* wire.h - the protobuf wire format, as far as it must be seen before it is unpacked.
 *
 * protobuf-c recurses without bound and copies every byte. So files are walked once here: nesting and
 * lengths are checked over the whole message, and the weights, which are nearly all of a file, are
 * left where they are. */
#ifndef LDR_ONNX_WIRE_H
#define LDR_ONNX_WIRE_H

#include "engine/base/arena.h"
#include "proto/onnx.pb-c.h"

enum { LDR_WIRE_DEPTH = 96 }; /* messages inside messages; a subgraph takes three */

/* Memory that unpacked messages live in; gone as a whole. Zeroed is empty. */
typedef struct ldr_heap {
    od_arena arena;
    char *at, *end;
    ProtobufCAllocator allocator;
} ldr_heap;

/* At most `limit` bytes. */
void ldr_heap_init(ldr_heap *h, size_t limit);
void ldr_heap_fini(ldr_heap *h);
void *ldr_heap_alloc(ldr_heap *h, size_t size); /* not cleared, 16-byte aligned; NULL: full */

/* Pieces taken after `save` are gone after `rewind`; marks nest. */
typedef struct ldr_heap_mark {
    od_arena_mark arena;
    char *at, *end;
} ldr_heap_mark;
ldr_heap_mark ldr_heap_save(const ldr_heap *h);
void ldr_heap_rewind(ldr_heap *h, ldr_heap_mark mark);

/* Where the large weights are: field numbers of ModelProto, GraphProto and TensorProto. */
enum { LDR_MODEL_GRAPH = 7, LDR_GRAPH_INITIALIZER = 5, LDR_TENSOR_RAW_DATA = 9 };

enum { LDR_WIRE_BYTES = 2 }; /* the type of a field that has a length */

typedef struct ldr_wire_field {
    uint32_t number;
    int type;
    const uint8_t *start; /* the tag */
    const uint8_t *at;    /* the payload */
    size_t size;          /* of the payload */
} ldr_wire_field;

/* The field that begins at `bytes`, of which no more than 20 bytes are touched. false: none, or broken. */
bool ldr_wire_next(const uint8_t *bytes, const uint8_t *end, ldr_wire_field *f);

/* Check the framing and nesting of a message of type `d`. OD_BAD_MODEL, OD_TOO_LARGE. */
od_code ldr_wire_check(const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t size, od_status *st);

/* Unpack a message that ldr_wire_check has seen. OD_BAD_MODEL; OD_TOO_LARGE: over the heap's limit. */
od_code ldr_wire_unpack(ldr_heap *h, const ProtobufCMessageDescriptor *d, const uint8_t *bytes, size_t size,
                        void *out, od_status *st);

/* A whole ModelProto: checks and unpacks. The raw_data of the main graph's initializers are not copied:
 * they point into `bytes`, in ascending order, and everything else of `bytes` is free for reuse. */
od_code ldr_wire_model(ldr_heap *h, uint8_t *bytes, size_t size, Onnx__ModelProto **out, od_status *st);

#endif
