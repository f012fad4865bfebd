/* tensor.h - tensors from and to files: NumPy's .npy, and the .pb files of ONNX test cases.
 * Files are not trusted: headers, sizes and nesting are checked before memory is taken. All functions
 * may be called from any thread. */
#ifndef LDR_TENSOR_H
#define LDR_TENSOR_H

#include "engine/tensor.h"

/* Read a .npy file (format 1 to 3, little-endian; Fortran order is turned to row-major): booleans,
 * integers, float16 to float64, complex. Bytes from `a`. OD_NOT_FOUND, OD_IO, OD_BAD_VALUE: not such
 * a file, or cut short; OD_UNSUPPORTED: strings, big-endian numbers, records; OD_NO_MEMORY. */
od_code ldr_npy_read(const char *path, od_arena *a, eng_tensor *out, od_status *st);

/* Write `t`, any layout, as .npy format 1. bfloat16 and float8 are written as unsigned integers of
 * their bits, types below 8 bits as int8 or uint8. A file left half-written is removed. OD_IO;
 * OD_UNSUPPORTED: strings, sequences, optionals, maps; OD_NO_MEMORY. */
od_code ldr_npy_write(const char *path, const eng_tensor *t, od_status *st);

/* Read a protobuf file that holds a TensorProto or, as `kind` says (ENG_SEQUENCE, ENG_OPTIONAL,
 * ENG_MAP), one of these; any other `kind` means a tensor. Everything is allocated from `a`. A map's
 * values become one rank-1 tensor when they are scalars of one type, else a sequence. OD_NOT_FOUND,
 * OD_IO, OD_BAD_MODEL, OD_UNSUPPORTED, OD_TOO_LARGE, OD_NO_MEMORY. */
od_code ldr_pb_read(const char *path, od_arena *a, eng_dtype kind, eng_tensor *out, od_status *st);

#endif
