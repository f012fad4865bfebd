/* conv.h - the sliding window that convolutions and pooling share, with three spatial axes: a tensor
 * with fewer has leading axes of extent 1. */
#ifndef ENG_OPS_CONV_H
#define ENG_OPS_CONV_H

#include "engine/op.h"

typedef enum eng_auto_pad { ENG_PAD_EXPLICIT, ENG_PAD_SAME_UPPER, ENG_PAD_SAME_LOWER, ENG_PAD_VALID } eng_auto_pad;

typedef struct eng_window {
    /* from the node */
    int given;             /* spatial axes the attributes name; 0: none of them does */
    int64_t stride[3], dilation[3], before[3], after[3];
    int64_t kernel[3];     /* kernel_shape; 0: absent */
    eng_auto_pad auto_pad;
    bool ceil_mode;        /* a last window that only begins inside the input counts too */
    bool overhang;         /* of pools: an input smaller than the window, by less than a stride, has one window */
    /* from eng_window_fit */
    int64_t size[3], in[3], out[3];
} eng_window;

/* Read strides, dilations, pads, kernel_shape and auto_pad. OD_BAD_ARGUMENT: lengths that differ, or
 * values below what they may be. */
od_code eng_window_read(const eng_node *n, eng_window *w, od_status *st);

/* Fit to input `x` with a window of `size` (one number a spatial axis of x): sets size, in, out and,
 * with auto_pad, before and after. OD_BAD_SHAPE: ranks differ, or the window does not fit. */
od_code eng_window_fit(eng_window *w, const eng_tensor *x, const int64_t *size, od_status *st);

/* May `second`, which alone reads output 0 of `first`, do without it? A 1x1 convolution takes factors of its input's
 * channels into its weights. Some lines at a time, in the nearest cache, so run a 1x1 convolution (or one of few
 * channels), a depthwise one behind it, and a 1x1 behind that. Shapes are known, data is not; `second` has `ahead`
 * set where it does so for another already. */
bool eng_conv_joins(const eng_ctx *first, const eng_ctx *second);

#endif
