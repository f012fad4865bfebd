/* channels.h - an image tensor as items x channels x pixels in either layout, for operators that work a
 * channel or a group of channels at a time. Dimension 0 is the item, dimension 1 the channel. */
#ifndef ENG_OPS_CHANNELS_H
#define ENG_OPS_CHANNELS_H

#include "engine/op.h"

typedef struct eng_channels {
    int64_t items, channels, pixels;
    int64_t x_item, x_channel, x_pixel; /* strides of the input, in elements */
    int64_t y_item, y_channel, y_pixel; /* of the output */
} eng_channels;

/* x and y have one shape and one layout each. Rank 1 is items of one channel. */
void eng_channels_view(const eng_tensor *x, const eng_tensor *y, eng_channels *v);

/* y = act(x * scale[channel] + bias[channel]), in parallel; item n's lie n * item_step further on. */
void eng_channels_affine(const eng_channels *v, const float *x, float *y, const float *scale, const float *bias,
                         int64_t item_step, const eng_epilogue *act, od_pool *pool);

/* Mean and variance (of the population) of every item's `groups` groups of channels, each items * groups
 * long, in two passes. OD_NO_MEMORY. */
od_code eng_channels_moments(const eng_channels *v, const float *x, int64_t groups, float *mean, float *var, od_arena *scratch,
                             od_pool *pool, od_status *st);

#endif
