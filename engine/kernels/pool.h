/* pool.h - the largest, or the sum, of what the taps of a window read, for a row of pixels.
 * Every variant adds in the order of the taps, so all give the same bits. Works on the calling
 * thread, allocates nothing. */
#ifndef ENG_KERNELS_POOL_H
#define ENG_KERNELS_POOL_H

#include "engine/base/status.h"

/* y[p * ldy + c] from taps[t][p * step + c], all t: at least one. Steps count elements. `y` must not
 * overlap what the taps read. */
typedef struct eng_pool_row {
    const void *const *taps;
    int64_t n_taps, step;
    int64_t pixels, channels;
    void *y;
    int64_t ldy;
    double scale; /* sums only: their factor */
} eng_pool_row;

typedef void eng_pool_fn(const eng_pool_row *r);

typedef struct eng_pool_table {
    eng_pool_fn *max_f32, *max_f64, *max_u8, *max_s8;
    eng_pool_fn *sum_f32, *sum_f64;
} eng_pool_table;

/* The best table for this processor; chosen once. Any thread. */
const eng_pool_table *eng_pool_get(void);

extern const eng_pool_table eng_pool_ref;
#if defined(__x86_64__)
extern const eng_pool_table eng_pool_avx2;
#endif

#endif
