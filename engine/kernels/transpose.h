/* transpose.h - swapping rows and columns of a block of elements of 1, 2, 4, 8 or 16 bytes. */
#ifndef ENG_KERNELS_TRANSPOSE_H
#define ENG_KERNELS_TRANSPOSE_H

#include "engine/base/status.h"

/* Element c, r of `to` becomes element r, c of `from`: to + c * to_row + r * size, from + r * from_row +
 * c * size. Row distances are in bytes and need no alignment. The arrays do not overlap. */
typedef void eng_transpose_fn(char *to, int64_t to_row, const char *from, int64_t from_row, int64_t rows, int64_t cols);

typedef struct eng_transposes {
    eng_transpose_fn *by_log2[5]; /* size 1 << i */
} eng_transposes;

/* The best table for this processor; chosen once. Any thread. */
const eng_transposes *eng_transposes_get(void);

extern const eng_transposes eng_transposes_ref, eng_transposes_avx2;

#endif
