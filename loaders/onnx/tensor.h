/* tensor.h - TensorProto and its kin into tensors, checked. */
#ifndef LDR_ONNX_TENSOR_H
#define LDR_ONNX_TENSOR_H

#include "engine/model.h"
#include "loaders/onnx/file.h"
#include "proto/onnx.pb-c.h"

enum { LDR_SPARSE_MAX = 1 << 30 }; /* bytes that a sparse tensor may have when dense */

/* Where data in files beside the model comes from. One file is kept open at a time. */
typedef struct ldr_external {
    const char *folder; /* NULL: external data is refused */
    int folder_fd;      /* -1: not open yet */
    int fd;             /* the last file opened, -1: none */
    char *location;     /* its name */
    int64_t size;       /* its bytes */
} ldr_external;

/* What tensors are made from and in. */
typedef struct ldr_source {
    od_arena *arena;        /* holds the results */
    ldr_external *external; /* NULL: refused */
    uint8_t *floor;         /* raw_data may be used where it lies and moved down, but not below this, to
                               be aligned; NULL: always copied */
    bool in_place;          /* some raw_data was used so */
    ldr_file *file;         /* that raw_data lies in, where there is a floor */
    eng_model *model;       /* whose finishing reads what was left out */
} ldr_source;

/* Data of fewer than 8 bits an element is unpacked, booleans become 0 or 1.
 * OD_BAD_MODEL, OD_UNSUPPORTED, OD_NO_MEMORY, and what external data gives. */
od_code ldr_tensor_from_proto(const Onnx__TensorProto *p, ldr_source *src, eng_tensor *out, od_status *st);

/* A sparse tensor made dense. OD_TOO_LARGE: over LDR_SPARSE_MAX. */
od_code ldr_tensor_from_sparse(const Onnx__SparseTensorProto *p, ldr_source *src, eng_tensor *out, od_status *st);

/* Bytes that making the tensor takes, roughly and not less. */
size_t ldr_tensor_cost(const Onnx__TensorProto *p);

/* The engine's type for an ONNX number; OD_UNSUPPORTED, OD_BAD_MODEL. */
od_code ldr_tensor_type(int32_t onnx_type, eng_dtype *out, od_status *st);

void ldr_external_init(ldr_external *x, const char *folder);
void ldr_external_fini(ldr_external *x);

/* Open, as x->fd, the other file that `p` says `size` bytes are in, and tell where in it. The path must be relative and stay inside
 * the folder, also through symbolic links. */
od_code ldr_external_find(ldr_external *x, const Onnx__TensorProto *p, size_t size, int64_t *offset, od_status *st);

/* The same, and read them. */
od_code ldr_external_read(ldr_external *x, const Onnx__TensorProto *p, size_t size, void *to, od_status *st);

#endif
