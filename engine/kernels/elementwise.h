/* elementwise.h - float rows of operators that need no more than a few instructions an element.
 * Steps are 0 (one element for all), 1 (dense) or anything else (slower). Output and inputs may be
 * the same rows. Minimum, maximum and comparisons treat NaN as NumPy does. */
#ifndef ENG_KERNELS_ELEMENTWISE_H
#define ENG_KERNELS_ELEMENTWISE_H

#include "engine/base/status.h"

typedef enum eng_bin {
    ENG_BIN_ADD,
    ENG_BIN_SUB,
    ENG_BIN_MUL,
    ENG_BIN_DIV,
    ENG_BIN_MIN,
    ENG_BIN_MAX,
    ENG_BIN_PRELU, /* a below 0: a * b */
    ENG_BINS
} eng_bin;

typedef enum eng_un {
    ENG_UN_ABS,
    ENG_UN_NEG,
    ENG_UN_SQRT,
    ENG_UN_RECIPROCAL,
    ENG_UN_FLOOR,
    ENG_UN_CEIL,
    ENG_UN_ROUND, /* half to even */
    ENG_UN_SIGN,
    ENG_UN_SQUARE,
    ENG_UN_CUBE,
    ENG_UN_RELU,
    ENG_UN_SOFTSIGN,
    ENG_UN_POW_1_2, /* as pow does it: of -inf it is inf, of -0 it is 0 */
    ENG_UN_POW_3_4,
    ENG_UNS
} eng_un;

typedef enum eng_par { /* with two parameters */
    ENG_PAR_CLIP,         /* alpha .. beta */
    ENG_PAR_LEAKY,        /* alpha * x below 0 */
    ENG_PAR_HARD_SIGMOID, /* clip(alpha * x + beta, 0, 1) */
    ENG_PAR_HARD_SWISH,   /* x * clip(alpha * x + beta, 0, 1) */
    ENG_PAR_THRESHOLD,    /* 0 unless above alpha */
    ENG_PAR_SHRINK,       /* x + beta below -alpha, x - beta above alpha, else 0 */
    ENG_PARS
} eng_par;

typedef enum eng_cmp { ENG_CMP_EQ, ENG_CMP_LT, ENG_CMP_GT, ENG_CMP_LE, ENG_CMP_GE, ENG_CMPS } eng_cmp;

typedef void eng_bin_f32(float *o, int64_t so, const float *a, int64_t sa, const float *b, int64_t sb, int64_t n);
typedef void eng_un_f32(float *o, const float *x, int64_t n);
typedef void eng_par_f32(float *o, const float *x, int64_t n, float alpha, float beta);
typedef void eng_cmp_f32(uint8_t *o, int64_t so, const float *a, int64_t sa, const float *b, int64_t sb, int64_t n);

typedef struct eng_elementwise {
    eng_bin_f32 *bin[ENG_BINS];
    eng_un_f32 *un[ENG_UNS];
    eng_par_f32 *par[ENG_PARS];
    eng_cmp_f32 *cmp[ENG_CMPS];
    /* o = c ? a : b on 4-byte elements; all dense, or a and b of step 0. */
    void (*where_32)(uint32_t *o, const uint8_t *c, const uint32_t *a, int64_t sa, const uint32_t *b, int64_t sb,
                     int64_t n);
    /* `rows` rows of n 4-byte elements, `step` apart (0: one, n times), rows `stride` apart, behind each other. Writes
     * up to seven elements more. */
    void (*gather_32)(uint32_t *o, const uint32_t *x, int64_t rows, int64_t stride, int64_t step, int64_t n);
    /* Bytes as floats, none above `highest`. */
    void (*widen_u8)(float *o, const uint8_t *x, int64_t n, uint8_t highest);
    /* Bytes of rint(x / scale) + zero, from lo to hi; NaN gives lo. Signed results as their bits. */
    void (*quantize_8)(uint8_t *o, const float *x, int64_t n, float scale, float zero, float lo, float hi);
    /* (x - zero) * scale */
    void (*dequantize_u8)(float *o, const uint8_t *x, int64_t n, float scale, int32_t zero);
    void (*dequantize_s8)(float *o, const int8_t *x, int64_t n, float scale, int32_t zero);
    /* The same from 32-bit sums: rint(x * scale[i]) + zero, from lo to hi; `step` 0: one scale. */
    void (*requantize)(uint8_t *o, const int32_t *x, int64_t n, const float *scale, int64_t step, float zero, float lo,
                       float hi);
    /* sum[i] += a * b[i], wrapping */
    void (*mac_u8)(int32_t *sum, int32_t a, const uint8_t *b, int64_t n);
    void (*mac_s8)(int32_t *sum, int32_t a, const int8_t *b, int64_t n);
    void (*mac_s16)(int32_t *sum, int32_t a, const int16_t *b, int64_t n);
    float (*dot)(const float *a, const float *b, int64_t n); /* in an order of its own */
    /* rank[i] = how many of the first n keys are larger than key[i], or equal and before it; i below n rounded up to 8 */
    void (*rank_s32)(const int32_t *key, int32_t *rank, int32_t n);
    /* y[i] += the sum of w[k] * rows[k * ld + i] over k */
    void (*combine)(float *y, const float *w, int64_t k, const float *rows, int64_t ld, int64_t n);
} eng_elementwise;

/* The best table for this processor; chosen once. Any thread. */
const eng_elementwise *eng_elementwise_table(void);

extern const eng_elementwise eng_elementwise_ref;
#if defined(__x86_64__)
extern const eng_elementwise eng_elementwise_avx2;
#endif

#endif
