/* resize_rows.h - the bodies of resize.h, for compilers to vectorise under the flags of the file that
 * includes them. */
#ifndef ENG_KERNELS_RESIZE_ROWS_H
#define ENG_KERNELS_RESIZE_ROWS_H

#include "engine/kernels/resize.h"

#define RESIZE_ROWS(blend, line, T)                                                      \
    OD_UNUSED static void blend(const eng_blend *b)                                      \
    {                                                                                    \
        T *restrict y = b->y;                                                            \
        for (int64_t t = 0; t < b->n_rows; t++) {                                        \
            const T *restrict x = b->rows[t];                                            \
            const T w = (T)b->w[t];                                                      \
            if (!t) for (int64_t i = 0; i < b->n; i++) y[i] = w * x[i];                  \
            else for (int64_t i = 0; i < b->n; i++) y[i] += w * x[i];                    \
        }                                                                                \
    }                                                                                    \
    static void line(const eng_resize_line *l)                                           \
    {                                                                                    \
        const int64_t *at = l->at;                                                       \
        const float *w = l->w;                                                           \
        for (int64_t p = 0; p < l->pixels; p++, at += l->taps, w += l->taps) {           \
            T *restrict y = (T *)l->y + p * l->ldy;                                      \
            for (int64_t c = 0; c < l->channels; c++) {                                  \
                const T *x = (const T *)l->x + c;                                        \
                T sum = (T)w[0] * x[at[0] * l->pitch];                                   \
                for (int64_t t = 1; t < l->taps; t++) sum += (T)w[t] * x[at[t] * l->pitch]; \
                y[c] = sum;                                                              \
            }                                                                            \
        }                                                                                \
    }

#endif
