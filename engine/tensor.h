/* tensor.h - a shape, an element type, a layout, and a view of the bytes behind them.
 *
 * A tensor never frees its data: the arena or buffer it was cut from does. `dims` are always the
 * logical, ONNX extents; dimension 0 is the outermost. Rank 0 is a scalar and holds one element.
 *
 * Two layouts exist. ENG_ROW is dense row-major. ENG_CL, channels-last, is for rank 3 and more: in
 * memory the order is dims[0], dims[2] .. dims[rank-1], dims[1], and consecutive pixels lie `pitch`
 * elements apart (pitch >= dims[1]; larger where the tensor is a slice of channels of a wider one).
 *
 * Types are ONNX's numbers. Types of fewer than 8 bits take one byte an element here (int4 and int2
 * sign-extended); loaders unpack them. A string tensor's data is an array of eng_str. Sequences,
 * optionals and maps are tensors too: ENG_SEQUENCE has rank 1, dims[0] elements and an array of
 * eng_tensor as data; ENG_OPTIONAL the same with 0 or 1; ENG_MAP an array of two: keys, values. */
#ifndef ENG_TENSOR_H
#define ENG_TENSOR_H

#include "engine/base/arena.h"
#include "engine/base/threads.h"

enum { ENG_MAX_RANK = 12 };

typedef enum eng_dtype {
    ENG_UNDEFINED = 0,
    ENG_FLOAT = 1,
    ENG_UINT8 = 2,
    ENG_INT8 = 3,
    ENG_UINT16 = 4,
    ENG_INT16 = 5,
    ENG_INT32 = 6,
    ENG_INT64 = 7,
    ENG_STRING = 8,
    ENG_BOOL = 9,
    ENG_FLOAT16 = 10,
    ENG_DOUBLE = 11,
    ENG_UINT32 = 12,
    ENG_UINT64 = 13,
    ENG_COMPLEX64 = 14,
    ENG_COMPLEX128 = 15,
    ENG_BFLOAT16 = 16,
    ENG_FLOAT8E4M3FN = 17,
    ENG_FLOAT8E4M3FNUZ = 18,
    ENG_FLOAT8E5M2 = 19,
    ENG_FLOAT8E5M2FNUZ = 20,
    ENG_UINT4 = 21,
    ENG_INT4 = 22,
    ENG_FLOAT4E2M1 = 23,
    ENG_FLOAT8E8M0 = 24,
    ENG_UINT2 = 25,
    ENG_INT2 = 26,
    ENG_FLOAT6E2M3 = 27,
    ENG_FLOAT6E3M2 = 28,
    ENG_SEQUENCE = 29, /* from here on the engine's own numbers */
    ENG_OPTIONAL = 30,
    ENG_MAP = 31,
    ENG_DTYPES
} eng_dtype;

/* Sets of types, as bit masks: 1u << dtype. */
#define ENG_T(dtype) (1u << (dtype))
#define ENG_T_HALF (ENG_T(ENG_FLOAT16) | ENG_T(ENG_BFLOAT16))
#define ENG_T_FLOAT (ENG_T(ENG_FLOAT) | ENG_T(ENG_DOUBLE) | ENG_T_HALF)
#define ENG_T_COMPLEX (ENG_T(ENG_COMPLEX64) | ENG_T(ENG_COMPLEX128))
#define ENG_T_SIGNED (ENG_T(ENG_INT8) | ENG_T(ENG_INT16) | ENG_T(ENG_INT32) | ENG_T(ENG_INT64))
#define ENG_T_UNSIGNED (ENG_T(ENG_UINT8) | ENG_T(ENG_UINT16) | ENG_T(ENG_UINT32) | ENG_T(ENG_UINT64))
#define ENG_T_INT (ENG_T_SIGNED | ENG_T_UNSIGNED)
#define ENG_T_NUMERIC (ENG_T_FLOAT | ENG_T_INT)
#define ENG_T_TENSOR (ENG_T(ENG_SEQUENCE) - 2u) /* every plain tensor type */
#define ENG_T_ANY 0xffffffffu

typedef enum eng_layout { ENG_ROW, ENG_CL } eng_layout;

typedef struct eng_str {
    const char *ptr; /* not zero-terminated */
    size_t len;
} eng_str;

typedef struct eng_tensor {
    eng_dtype dtype;
    eng_layout layout;
    int rank;
    int64_t dims[ENG_MAX_RANK];
    int64_t pitch; /* ENG_CL only: elements from one pixel to the next */
    void *data;    /* NULL: shape and type only */
} eng_tensor;

/* "FLOAT" is "float", as the ONNX documentation spells types; "?" for what is none. */
const char *eng_dtype_name(eng_dtype t);

/* Bytes of one element; for strings sizeof(eng_str), for sequences sizeof(eng_tensor). */
size_t eng_dtype_size(eng_dtype t);

/* Number of elements. Tensors in the engine always have a product that fits; see eng_dims_count. */
int64_t eng_tensor_count(const eng_tensor *t);

/* Bytes from the first element to the last (a pitch's unused lanes between pixels included). */
size_t eng_tensor_bytes(const eng_tensor *t);

/* Product of the extents into `count`; false when one is negative or the product times 16 (the
 * largest element) overflows ptrdiff_t. For sizes that come from outside. */
bool eng_dims_count(int rank, const int64_t *dims, int64_t *count);

bool eng_dims_equal(const eng_tensor *a, const eng_tensor *b);

/* Both layouts have the same bytes in the same order, so a tensor may be relabelled for free:
 * one channel, or no extent but dims[0] and dims[1] above 1; and no pitch beyond the channels. */
bool eng_tensor_layout_free(const eng_tensor *t);

/* Where logical axis `axis` (0 .. rank-1) lies in memory order. */
int eng_tensor_phys_axis(const eng_tensor *t, int axis);

/* Extents and strides (in elements) in memory order, outermost first, as wide as the rank. */
void eng_tensor_phys(const eng_tensor *t, int64_t *dims, int64_t *strides);

/* Strides in elements of the logical dimensions, for either layout. */
void eng_tensor_strides(const eng_tensor *t, int64_t *strides);

/* Give `t` new extents over the same bytes. One entry of dims[rank] may be -1: inferred.
 * Needs ENG_ROW. Never allocates. OD_BAD_SHAPE: element counts differ, or two extents are -1; `t`
 * is unchanged. */
od_code eng_tensor_reshape(eng_tensor *t, int rank, const int64_t *dims, od_status *st);

/* A tensor with the shape and type of `like`, ENG_ROW, bytes from `a`. Strings and nested tensors
 * are copied deeply. Any layout is read; NULL data stays NULL. OD_NO_MEMORY. */
od_code eng_tensor_copy(eng_tensor *out, const eng_tensor *like, od_arena *a, od_status *st);

/* Copy elements between two tensors of equal dims and type in any layouts. `pool` may be NULL. */
void eng_tensor_relayout(const eng_tensor *to, const eng_tensor *from, od_pool *pool);

/* "float[1,3,224,224]" into `text`; returns `text`. */
char *eng_tensor_text(const eng_tensor *t, char *text, size_t size);

/* Element `i` (row-major, ENG_ROW) of any integer or bool tensor as int64; floats are truncated. */
int64_t eng_tensor_int(const eng_tensor *t, int64_t i);

/* Element `i` of any numeric tensor as double; half types and float8 are widened. */
double eng_tensor_double(const eng_tensor *t, int64_t i);

#endif
