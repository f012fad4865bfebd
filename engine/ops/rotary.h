/* rotary.h - turning pairs of channels of one row of one head. */
#ifndef ENG_OPS_ROTARY_H
#define ENG_OPS_ROTARY_H

#include "engine/op.h"

/* Pair i is channels i and i + pairs, or 2 i and 2 i + 1 when interleaved. x and y may not overlap. */
void eng_rotate(const float *x, const float *cosines, const float *sines, int64_t pairs, bool interleaved, float *y);

#endif
