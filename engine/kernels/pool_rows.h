/* pool_rows.h - the bodies of pool.h, for compilers to vectorise under the flags of the file that
 * includes them. */
#ifndef ENG_KERNELS_POOL_ROWS_H
#define ENG_KERNELS_POOL_ROWS_H

#include "engine/kernels/pool.h"

#include <string.h>

#define POOL_ROWS(name, T, step_expr, scale_expr)                                        \
    static void name(const eng_pool_row *r)                                              \
    {                                                                                    \
        OD_UNUSED const T scale = (T)r->scale;                                           \
        for (int64_t p = 0; p < r->pixels; p++) {                                        \
            T *restrict y = (T *)r->y + p * r->ldy;                                      \
            memcpy(y, (const T *)r->taps[0] + p * r->step, (size_t)r->channels * sizeof *y); \
            for (int64_t t = 1; t < r->n_taps; t++) {                                    \
                const T *restrict x = (const T *)r->taps[t] + p * r->step;               \
                for (int64_t c = 0; c < r->channels; c++) y[c] = (T)(step_expr);         \
            }                                                                            \
            scale_expr                                                                   \
        }                                                                                \
    }

#define POOL_MAX(name, T) POOL_ROWS(name, T, x[c] > y[c] ? x[c] : y[c], )
#define POOL_SUM(name, T) POOL_ROWS(name, T, y[c] + x[c], for (int64_t c = 0; c < r->channels; c++) y[c] *= scale;)

#endif
