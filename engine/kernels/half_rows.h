/* half_rows.h - bfloat16 rows, in a form that compilers vectorise under any flags. */
#ifndef ENG_KERNELS_HALF_ROWS_H
#define ENG_KERNELS_HALF_ROWS_H

#include <stdint.h>
#include <string.h>

static inline void bfloat_to_float_row(const uint16_t *from, float *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(to + i, &bits, sizeof bits);
    }
}

static inline void float_to_bfloat_row(const float *from, uint16_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t b;
        memcpy(&b, from + i, sizeof b);
        uint32_t nan = (b >> 16) | 0x40u; /* quiet: the cut must not turn NaN into infinity */
        uint32_t even = (b + 0x7fffu + (b >> 16 & 1u)) >> 16;
        to[i] = (uint16_t)((b & 0x7fffffffu) > 0x7f800000u ? nan : even);
    }
}

#endif
