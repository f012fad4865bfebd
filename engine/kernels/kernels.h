/* kernels.h - the float kernels chosen once for this processor, behind one table.
 * Each slot has a plain C reference in a *_ref.c file, which is complete, so no slot is ever NULL. A
 * kernel works on the calling thread, allocates nothing, and may be called from any thread. Row kernels
 * take dense rows of n floats; x and y may be the same row. */
#ifndef ENG_KERNELS_H
#define ENG_KERNELS_H

#include "engine/base/arena.h"
#include "engine/base/threads.h"
#include "engine/epilogue.h"

enum { ENG_NR = 16 }; /* columns of a packed panel */

enum { ENG_PRESENT_MAX = 64 }; /* segments of rows that may lack some */

/* C = A B (+ bias) through an epilogue, for one block of rows and some panels of columns.
 * B is packed: panel p holds columns 16 p .. as [k][16], tail columns zero; k = segments * length.
 * A's rows are dense at a + i * lda (segments 1), or given by pointers to their segments:
 * rows[s * ld_rows + i] is segment s of row i, `length` floats (a tap of a convolution's window). With
 * `offsets` (segments 1) element k of a row is the one offsets[k] floats from its first. */
typedef struct eng_gemm {
    int64_t m, n;
    int64_t segments, length;
    const int64_t *offsets; /* NULL: elements follow each other */
    const float *a;
    int64_t lda;
    const float *const *rows; /* NULL: a, lda */
    int64_t ld_rows;          /* pointers from one segment's to the next's; 0: m */
    const uint64_t *present;  /* bit s of present[i]: segment s of row i is not all zeros; NULL: none may be left out */
    const float *b;
    const int64_t *places; /* where the segments' rows lie in a panel, in floats; NULL: one after the other */
    int64_t depth;         /* rows of a panel; 0: segments * length */
    const float *ahead; /* what is read next after B, as a hint to fetch it, or NULL */
    const float *bias, *scale; /* n floats each, or NULL; scale is multiplied with the sum, by gemm_f32 alone */
    float *c;
    int64_t ldc;
    eng_act act;
    float alpha, beta;
    eng_residual residual;
    const float *add; /* residual, placed like c */
    int64_t ld_add;
    float *work; /* eng_gemm_work_floats of this thread, for a product that eng_gemm_wants_work; NULL: by plain tiles */
    int64_t work_cols; /* eng_gemm_work_cols of the whole product that this is a part of */
} eng_gemm;

/* Large products take seven eighths of the multiplications (kernels_strassen.h), given room for sums of A and B. */
enum {
    ENG_WORK_ROWS = 48,  /* such a product is cut at multiples of so many rows and columns */
    ENG_WORK_COLS = 64,  /* or of one and a half times as many, if that divides columns evenly */
    ENG_WORK_RATIO = 16, /* rows, and columns, of more different sizes are not added up */
    ENG_WORK_DEPTH = 768,      /* deeper ones are done in parts of so much of k */
    ENG_WORK_BLOCK = 384,      /* rows whose sums are kept at a time, if they are no more floats than */
    ENG_WORK_SUMS = 144 << 10, /* these: half of the second-level cache of processors with AVX-512 */
    ENG_WORK_PART_ROWS = 208,  /* rows and columns at a time, where there are parts */
    ENG_WORK_PART_COLS = 512,
};

/* Columns that are cut at multiples of, 0: there is no such cut. Those left over would be multiplied plainly, and equal
 * columns must not come out differently: a softmax over logits of 1e10 shows the last bit. */
static inline int64_t eng_gemm_work_cols(const eng_gemm *g)
{
    return g->n % ENG_WORK_COLS == 0 ? ENG_WORK_COLS : g->n % (ENG_WORK_COLS / 2 * 3) == 0 ? ENG_WORK_COLS / 2 * 3 : 0;
}

/* Measured against plain tiles: sums of A want columns, those of B rows, and each product of a tile some depth. */
static inline bool eng_gemm_wants_work(const eng_gemm *g)
{
    const int64_t m = g->m, n = g->n, k = g->length;
    if (!eng_gemm_work_cols(g) || g->segments != 1 || g->places || g->offsets || g->depth || k % 32) return false;
    if (m < 96) return m >= 48 && n >= (m < 64 ? 384 : 256) && k >= (m < 64 ? 384 : 256);
    return k >= 192 ? n >= 96 : k >= 128 ? n >= 128 : k >= 96 && n >= 256 && m >= 384;
}

/* Floats of `work` for g or some of its rows and columns. */
static inline int64_t eng_gemm_work_floats(const eng_gemm *g)
{
    const int64_t parts = od_ceil_div(g->length, ENG_WORK_DEPTH), depth = od_ceil_div(g->length / 32, parts) * 32;
    return od_min_i64(ENG_WORK_SUMS, od_min_i64(g->m, ENG_WORK_BLOCK) * depth) + ENG_WORK_COLS / 2 * 3 * depth +
           (parts > 1 ? ENG_WORK_PART_ROWS * ENG_WORK_PART_COLS : 0);
}

/* Rows of a depthwise convolution on channels-last pixels of three spatial axes (fewer: extents of 1).
 * output channel c reads input channel c / multiplier. Output rows are numbered over items and the first
 * two axes; rows first .. last-1 and channels from .. to-1 are computed, `from` a multiple of ENG_NR. Axes are outermost first. */
typedef struct eng_depthwise {
    const float *x;
    int64_t x_pitch, x_line; /* floats from pixel to pixel, and from line to line; 0: without gaps */
    int64_t in[3], out[3], size[3], stride[3], dilation[3], before[3];
    int64_t channels;
    const float *w;     /* [channels / ENG_NR, rounded up][taps][ENG_NR] */
    const float *zeros; /* a pixel of them */
    int64_t first, last, from, to;
    eng_gemm end;       /* bias, c, ldc, add, ld_add and the epilogue; rows are output pixels */
} eng_depthwise;

/* The same where pixels are scattered: pixel p is the sum over taps t of taps[t * pixels + p][c] * w[t][c]. */
typedef struct eng_depthwise_taps {
    int64_t pixels, channels, n_taps;
    const float *const *taps;
    const float *w; /* [n_taps][channels] */
    eng_gemm end;
} eng_depthwise_taps;

struct eng_winograd_block;

typedef struct eng_kernels {
    void (*gemm_f32)(const eng_gemm *g);
    void (*depthwise_f32)(const eng_depthwise *d);
    void (*depthwise_taps_f32)(const eng_depthwise_taps *d);
    void (*winograd_in)(const struct eng_winograd_block *b); /* winograd.h */
    void (*winograd_out)(const struct eng_winograd_block *b);
    /* One channel of sixteen outputs: their taps, transformed by g from both sides, to to[e * plane + output] for each of side x side
     * coefficients e. Rows 1 and 2, 3 and 4 of g differ in the sign of their middle only; the last one takes the last tap as it is. */
    void (*winograd_weights)(int side, const double (*g)[3], const float (*taps)[ENG_NR], float *to, int64_t plane);
    void (*act_f32)(eng_act act, float alpha, float beta, const float *x, float *y, int64_t n);
    void (*exp_f32)(const float *x, float *y, int64_t n);
    void (*log_f32)(const float *x, float *y, int64_t n);
    void (*tanh_f32)(const float *x, float *y, int64_t n);
    void (*erf_f32)(const float *x, float *y, int64_t n);
    void (*softmax_f32)(const float *x, float *y, int64_t n);
    void (*logsoftmax_f32)(const float *x, float *y, int64_t n);
    /* Rows of n that follow each other, each for itself; scale and bias may be NULL: ones and zeros */
    void (*layernorm_f32)(const float *x, const float *scale, const float *bias, float eps, float *y, int64_t n, int64_t rows);
    float (*sum_f32)(const float *x, int64_t n); /* the same order on every call */
} eng_kernels;

/* The table of a file that defines all of these by the names of its own. */
#define ENG_KERNELS_TABLE                                                                                          \
    {gemm,    depthwise, depthwise_taps, winograd_in, winograd_out, winograd_weights, act_row, exp_row, log_row,   \
     tanh_row, erf_row, softmax_row, logsoftmax_row, layernorm_rows, sum_row}

const eng_kernels *eng_kernels_get(void);

extern const eng_kernels eng_kernels_ref, eng_kernels_avx2, eng_kernels_avx512, eng_kernels_neon;

/* Floats of B packed; 16 n-columns a panel. */
static inline int64_t eng_packed_floats(int64_t k, int64_t n)
{
    return od_ceil_div(n, ENG_NR) * ENG_NR * k;
}

/* Pack a B of k x n: element (k, n) lies at b[k * row + n * col]. */
void eng_gemm_pack(const float *b, int64_t row, int64_t col, int64_t k, int64_t n, float *packed);
void eng_gemm_pack_parallel(const float *b, int64_t row, int64_t col, int64_t k, int64_t n, float *packed, od_pool *pool);

/* The product of m rows from `row` on and n columns from `col` on (a multiple of ENG_NR). */
eng_gemm eng_gemm_part(const eng_gemm *g, int64_t row, int64_t m, int64_t col, int64_t n);

/* gemm_f32 over the pool's threads, by rows where there are many and by columns where not. Not inside a
 * region. The bits do not depend on the cut, so neither on the number of threads. `work` comes from `scratch`. */
void eng_gemm_parallel(const eng_gemm *g, od_arena *scratch, od_pool *pool);

#endif
