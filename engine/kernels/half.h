/* half.h - rows of floats to and from the narrower float types.
 * All conversions round to nearest even; what is too large becomes infinity where the type has one;
 * NaN stays NaN. Rows of `to` and `from` must not overlap unless they start at the same address and
 * the target's elements are not wider. Any thread. */
#ifndef ENG_KERNELS_HALF_H
#define ENG_KERNELS_HALF_H

#include "engine/tensor.h"

void eng_half_to_float(const uint16_t *from, float *to, int64_t n);
void eng_float_to_half(const float *from, uint16_t *to, int64_t n);
void eng_bfloat_to_float(const uint16_t *from, float *to, int64_t n);
void eng_float_to_bfloat(const float *from, uint16_t *to, int64_t n);

/* How E8M0, which has exponents only, rounds. */
typedef enum eng_e8_round { ENG_E8_UP, ENG_E8_DOWN, ENG_E8_NEAREST } eng_e8_round;

/* The bits of `x` in `type`: float16, bfloat16, a float8, float4e2m1 or float8e8m0, rounded once.
 * `saturate` (the float8s only): too large becomes the largest instead of infinity or NaN. */
unsigned eng_small_float(double x, eng_dtype type, bool saturate, eng_e8_round round);

/* Variants: the table is filled once by half.c. */
typedef struct eng_half_table {
    void (*half_to_float)(const uint16_t *from, float *to, int64_t n);
    void (*float_to_half)(const float *from, uint16_t *to, int64_t n);
    void (*bfloat_to_float)(const uint16_t *from, float *to, int64_t n);
    void (*float_to_bfloat)(const float *from, uint16_t *to, int64_t n);
} eng_half_table;
extern const eng_half_table eng_half_ref;
#if defined(__x86_64__)
extern const eng_half_table eng_half_avx2; /* needs F16C too */
#endif

#endif
