/* transpose_rows.h - plain C for every element size; compiled once for each variant. */
#ifndef ENG_KERNELS_TRANSPOSE_ROWS_H
#define ENG_KERNELS_TRANSPOSE_ROWS_H

#include "engine/kernels/transpose.h"

/* Elements that lie anywhere and are of any type. */
#define ENG_MOVED __attribute__((aligned(1), may_alias))
typedef uint8_t eng_move1 ENG_MOVED;
typedef uint16_t eng_move2 ENG_MOVED;
typedef uint32_t eng_move4 ENG_MOVED;
typedef uint64_t eng_move8 ENG_MOVED;
typedef struct __attribute__((packed, may_alias)) eng_move16 {
    uint64_t half[2];
} eng_move16;

/* A few rows become the lanes of dense pixels (planes to channels), or the reverse: with constant
 * counts these are loops the compiler vectorises. Blocks elsewhere keep both sides' lines in L1. */
#define ENG_DEFINE_TRANSPOSE(N)                                                                                \
    static inline void interleave_##N(eng_move##N *to, const char *from, int64_t from_row, int rows, int64_t cols) \
    {                                                                                                          \
        for (int64_t c = 0; c < cols; c++)                                                                     \
            for (int r = 0; r < rows; r++) to[c * rows + r] = ((const eng_move##N *)(from + r * from_row))[c]; \
    }                                                                                                          \
    static inline void separate_##N(char *to, int64_t to_row, const eng_move##N *from, int64_t rows, int cols) \
    {                                                                                                          \
        for (int64_t r = 0; r < rows; r++)                                                                     \
            for (int c = 0; c < cols; c++) ((eng_move##N *)(to + c * to_row))[r] = from[r * cols + c];         \
    }                                                                                                          \
    OD_UNUSED static void blocks_##N(char *to, int64_t to_row, const char *from, int64_t from_row, int64_t rows, \
                                     int64_t cols)                                                             \
    {                                                                                                          \
        enum { BLOCK = 16 };                                                                                   \
        for (int64_t r = 0; r < rows; r += BLOCK)                                                              \
            for (int64_t c = 0; c < cols; c += BLOCK)                                                          \
                for (int64_t j = c; j < od_min_i64(c + BLOCK, cols); j++)                                      \
                    for (int64_t i = r; i < od_min_i64(r + BLOCK, rows); i++)                                  \
                        ((eng_move##N *)(to + j * to_row))[i] = ((const eng_move##N *)(from + i * from_row))[j]; \
    }                                                                                                          \
    static bool few_##N(char *to, int64_t to_row, const char *from, int64_t from_row, int64_t rows, int64_t cols) \
    {                                                                                                          \
        if (to_row == rows * (N)) {                                                                            \
            if (rows == 2) return interleave_##N((eng_move##N *)to, from, from_row, 2, cols), true;            \
            if (rows == 3) return interleave_##N((eng_move##N *)to, from, from_row, 3, cols), true;            \
            if (rows == 4) return interleave_##N((eng_move##N *)to, from, from_row, 4, cols), true;            \
        }                                                                                                      \
        if (from_row == cols * (N)) {                                                                          \
            if (cols == 2) return separate_##N(to, to_row, (const eng_move##N *)from, rows, 2), true;          \
            if (cols == 3) return separate_##N(to, to_row, (const eng_move##N *)from, rows, 3), true;          \
            if (cols == 4) return separate_##N(to, to_row, (const eng_move##N *)from, rows, 4), true;          \
        }                                                                                                      \
        return false;                                                                                          \
    }                                                                                                          \
    OD_UNUSED static void transpose_##N(char *to, int64_t to_row, const char *from, int64_t from_row, int64_t rows, \
                                        int64_t cols)                                                          \
    {                                                                                                          \
        if (!few_##N(to, to_row, from, from_row, rows, cols)) blocks_##N(to, to_row, from, from_row, rows, cols); \
    }
ENG_DEFINE_TRANSPOSE(1)
ENG_DEFINE_TRANSPOSE(2)
ENG_DEFINE_TRANSPOSE(4)
ENG_DEFINE_TRANSPOSE(8)
ENG_DEFINE_TRANSPOSE(16)

#endif
