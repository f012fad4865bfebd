/* lines.h - a dense tensor seen along one axis, in memory order, whatever its layout: outer x n x inner.
 * For operators that work on lines of n elements, `inner` apart. */
#ifndef ENG_OPS_LINES_H
#define ENG_OPS_LINES_H

#include "engine/op.h"

typedef struct eng_lines {
    int64_t outer, n, inner;
} eng_lines;

/* `t` is dense; `axis` from 0 on. A scalar is one line of one. */
static inline eng_lines eng_lines_of(const eng_tensor *t, int axis)
{
    int64_t dims[ENG_MAX_RANK], strides[ENG_MAX_RANK];
    eng_lines l = {1, 1, 1};
    int place = t->rank ? eng_tensor_phys_axis(t, axis) : 0;
    eng_tensor_phys(t, dims, strides);
    for (int i = 0; i < t->rank; i++) *(i < place ? &l.outer : i == place ? &l.n : &l.inner) *= dims[i];
    return l;
}

#endif
