#include "engine/kernels/transpose_rows.h"

#include <immintrin.h>

/* 8 x 8 elements of 4 bytes: pairs, then quads, then halves change places. */
static inline void tile_8x8(char *to, int64_t to_row, const char *from, int64_t from_row)
{
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps((const float *)(const void *)(from + i * from_row));
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps((float *)(void *)(to + i * to_row), _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps((float *)(void *)(to + (i + 4) * to_row), _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

/* Squares of 16, so that whole cache lines are read and written on both sides. */
static void transpose_4_avx2(char *to, int64_t to_row, const char *from, int64_t from_row, int64_t rows, int64_t cols)
{
    enum { TILE = 8, SQUARE = 16, SIZE = 4 };
    if (few_4(to, to_row, from, from_row, rows, cols)) return;
    int64_t whole_rows = rows / TILE * TILE, whole_cols = cols / TILE * TILE;
    for (int64_t r = 0; r < whole_rows; r += SQUARE)
        for (int64_t c = 0; c < whole_cols; c += SQUARE)
            for (int64_t j = c; j < od_min_i64(c + SQUARE, whole_cols); j += TILE)
                for (int64_t i = r; i < od_min_i64(r + SQUARE, whole_rows); i += TILE)
                    tile_8x8(to + j * to_row + i * SIZE, to_row, from + i * from_row + j * SIZE, from_row);
    if (whole_cols < cols)
        blocks_4(to + whole_cols * to_row, to_row, from + whole_cols * SIZE, from_row, rows, cols - whole_cols);
    if (whole_rows < rows)
        blocks_4(to + whole_rows * SIZE, to_row, from + whole_rows * from_row, from_row, rows - whole_rows, whole_cols);
}

const eng_transposes eng_transposes_avx2 = {{transpose_1, transpose_2, transpose_4_avx2, transpose_8, transpose_16}};
