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
    int64_t segments, length;          /* taps, and channels; of few channels: lines, and all of a line; scattered: 1, and all */
    const int64_t *offsets, *places;   /* of each segment (element) from the window's first pixel; in a panel of weights */
    int64_t whole[3], skipped[3];      /* the window before it was cropped; its first tap that is left */
    bool few, scattered;               /* channels; elements of a line that do not follow each other */
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

/* ---- few channels, lines at a time: what they read is copied with its padding, to channels-last if it comes as planes ---- */

typedef struct conv_padding {
    const float *x;
    float *to;
    int64_t x_pitch, to_pitch, channels, times; /* each channel `times` times */
    int64_t in[3], before[3], extent[3];
    bool planes; /* x is one map a channel; then to_pitch is channels, and in[0] 1 */
} conv_padding;

typedef struct conv_few {
    const conv_job *j;
    conv_padding pad;
    int64_t band, reach; /* output lines that are made at a time; lines that one of them reads */
    size_t rows_bytes;   /* a slot of j->slots has pointers to windows, then the lines that they point into */
} conv_few;

/* Are windows of `x` to be read that way: few channels, and bands with enough pixels to read the weights anew for each? */
bool eng_conv_few(const conv_params *p, const eng_tensor *x);

/* Prepare that, for a job from eng_conv_setup, which must stay. */
od_code eng_conv_few_start(eng_ctx *c, conv_job *j, conv_few *few, od_status *st);

/* Output lines y .. y + n - 1 of an item to `to`, pixels `ldc` floats apart; `slot` is the calling thread's. */
void eng_conv_few_lines(const conv_few *few, int slot, int64_t item, int64_t y, int64_t n, float *to, int64_t ldc);

/* Run `c` and what its c->ahead is, lines at a time. */
od_code eng_conv_chain_run(eng_ctx *c, od_status *st);

/* conv_squeeze.c: may 1x1 convolution `second` take the factors of `first` into its weights? Run `c` with those of its c->ahead. */
bool eng_conv_scales(const eng_ctx *first, const eng_ctx *second);
od_code eng_conv_scaled_run(eng_ctx *c, od_status *st);

#endif
