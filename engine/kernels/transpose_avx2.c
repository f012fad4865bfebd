#include "engine/kernels/transpose_rows.h"

#include <immintrin.h>

/* 8 x 8 elements of 4 bytes: pairs, then quads, then halves change places. */
static inline void tile_4(char *to, int64_t to_row, const char *from, int64_t from_row)
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

/* As many elements as a register has lanes, squared: dealing the rows out like two halves of a pack of
 * cards, log2(lanes) times. */
#define DEFINE_TILE(N, LANES, ROUNDS)                                                                        \
    static inline void tile_##N(char *to, int64_t to_row, const char *from, int64_t from_row)                \
    {                                                                                                        \
        __m128i r[LANES], t[LANES];                                                                          \
        for (int i = 0; i < LANES; i++) r[i] = _mm_loadu_si128((const __m128i *)(const void *)(from + i * from_row)); \
        for (int round = 0; round < ROUNDS; round++) {                                                       \
            for (int i = 0; i < LANES / 2; i++) {                                                            \
                t[2 * i] = N == 1 ? _mm_unpacklo_epi8(r[i], r[i + LANES / 2]) : _mm_unpacklo_epi16(r[i], r[i + LANES / 2]); \
                t[2 * i + 1] = N == 1 ? _mm_unpackhi_epi8(r[i], r[i + LANES / 2]) : _mm_unpackhi_epi16(r[i], r[i + LANES / 2]); \
            }                                                                                                \
            for (int i = 0; i < LANES; i++) r[i] = t[i];                                                     \
        }                                                                                                    \
        for (int i = 0; i < LANES; i++) _mm_storeu_si128((__m128i *)(void *)(to + i * to_row), r[i]);        \
    }
DEFINE_TILE(1, 16, 4)
DEFINE_TILE(2, 8, 3)

/* Squares of tiles, so that whole cache lines are read and written on both sides; the ragged rest in
 * plain C. */
#define DEFINE_TRANSPOSE_TILED(N, TILE, SQUARE)                                                              \
    static void transpose_##N##_tiled(char *to, int64_t to_row, const char *from, int64_t from_row, int64_t rows, int64_t cols) \
    {                                                                                                        \
        if (few_##N(to, to_row, from, from_row, rows, cols)) return;                                         \
        int64_t whole_rows = rows / TILE * TILE, whole_cols = cols / TILE * TILE;                            \
        for (int64_t r = 0; r < whole_rows; r += SQUARE)                                                     \
            for (int64_t c = 0; c < whole_cols; c += SQUARE)                                                 \
                for (int64_t j = c; j < od_min_i64(c + SQUARE, whole_cols); j += TILE)                       \
                    for (int64_t i = r; i < od_min_i64(r + SQUARE, whole_rows); i += TILE)                   \
                        tile_##N(to + j * to_row + i * N, to_row, from + i * from_row + j * N, from_row);    \
        if (whole_cols < cols)                                                                               \
            blocks_##N(to + whole_cols * to_row, to_row, from + whole_cols * N, from_row, rows, cols - whole_cols); \
        if (whole_rows < rows)                                                                               \
            blocks_##N(to + whole_rows * N, to_row, from + whole_rows * from_row, from_row, rows - whole_rows, whole_cols); \
    }
DEFINE_TRANSPOSE_TILED(1, 16, 64)
DEFINE_TRANSPOSE_TILED(2, 8, 32)
DEFINE_TRANSPOSE_TILED(4, 8, 16)

const eng_transposes eng_transposes_avx2 = {
    {transpose_1_tiled, transpose_2_tiled, transpose_4_tiled, transpose_8, transpose_16}};
