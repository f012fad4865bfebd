/* conv_job.h - a convolution as conv.c has worked it out, for what runs several at once. */
#ifndef ENG_OPS_CONV_JOB_H
#define ENG_OPS_CONV_JOB_H

#include "engine/kernels/winograd.h"
#include "engine/ops/conv.h"

/* What packed weights depend on beside the weights. Numbers of int64_t alone: it is also a key. */
typedef struct conv_form {
    int64_t group, out, per_group, taps; /* of the weights: [out][per_group][taps] */
    int64_t merged;                      /* groups taken together as one; 0: depthwise */
    eng_winograd_window winograd;        /* its form ENG_WINOGRAD_NONE, and then all zeros: direct sums */
} conv_form;

typedef struct conv_params {
    eng_window window;
    int64_t group;
    conv_form form;      /* of the constant weights */
    const float *packed; /* NULL: weights are not constant */
} conv_params;

/* Groups, and a group's input and output channels, after merging. */
static inline int64_t groups_of(const conv_form *f) { return f->group / f->merged; }
static inline int64_t inputs_of(const conv_form *f) { return f->per_group * f->merged; }
static inline int64_t outputs_of(const conv_form *f) { return f->out / f->group * f->merged; }

typedef struct conv_job {
    conv_form form;
    eng_window win;
    const float *x, *zeros;
    int64_t x_pitch, channels, pixels; /* input channels; output pixels of all items */
    const float *packed;
    eng_gemm end;                      /* c, bias, add, epilogue; rows are output pixels */
    /* direct sums */
    int64_t segments, length;          /* taps of a window, and channels; few channels: 1, and all of them */
    const int64_t *offsets, *places;   /* of each segment (element) from the window's first pixel; in a panel of weights */
    int64_t whole[3], skipped[3];      /* the window before it was cropped; its first tap that is left */
    bool few;
    int64_t block, blocks, split, splits; /* rows of a block; columns of a part, and parts */
    char *slots;
    size_t slot_bytes;
    /* depthwise */
    int64_t bands, part, parts;  /* output rows, channels */
} conv_job;

/* Work out a Conv of floats, all but its scratch. Without pixels nothing is to be done. */
od_code eng_conv_setup(eng_ctx *c, conv_job *j, od_status *st);

/* Work out a Conv of floats whose weights are packed and which has pixels; false: it is none. Data may be missing. */
bool eng_conv_is_packed(const eng_ctx *c, conv_job *j);

/* A window of one tap that stays where it is, without groups: the input is the product's A as it is. */
bool eng_conv_in_place(const conv_job *j);
eng_gemm eng_conv_product(const conv_job *j); /* then */

/* The kernel's view of a depthwise convolution, all of it; zeros are left. */
eng_depthwise eng_conv_depthwise(const conv_job *j);

/* Run `c` and what its c->ahead is, lines at a time. */
od_code eng_conv_chain_run(eng_ctx *c, od_status *st);

#endif
