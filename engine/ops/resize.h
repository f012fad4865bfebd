/* resize.h - which input coordinates, with which weights, make each output coordinate of an axis. */
#ifndef ENG_OPS_RESIZE_H
#define ENG_OPS_RESIZE_H

#include "engine/op.h"

typedef enum eng_resize_mode { ENG_RESIZE_NEAREST, ENG_RESIZE_LINEAR, ENG_RESIZE_CUBIC } eng_resize_mode;

typedef enum eng_resize_coord {
    ENG_COORD_HALF_PIXEL,
    ENG_COORD_HALF_PIXEL_SYMMETRIC,
    ENG_COORD_PYTORCH_HALF_PIXEL,
    ENG_COORD_TF_HALF_PIXEL,
    ENG_COORD_ALIGN_CORNERS,
    ENG_COORD_ASYMMETRIC,
    ENG_COORD_CROP,
    ENG_COORDS
} eng_resize_coord;

typedef enum eng_resize_round {
    ENG_ROUND_PREFER_FLOOR,
    ENG_ROUND_PREFER_CEIL,
    ENG_ROUND_FLOOR,
    ENG_ROUND_CEIL,
    ENG_ROUND_OLD, /* before opset 11: down, and up where the axis shrinks */
    ENG_ROUNDS
} eng_resize_round;

typedef enum eng_resize_policy { ENG_POLICY_STRETCH, ENG_POLICY_NOT_LARGER, ENG_POLICY_NOT_SMALLER, ENG_POLICIES } eng_resize_policy;

typedef struct eng_resize_rule {
    eng_resize_mode mode;
    eng_resize_coord coord;
    eng_resize_round round;
    eng_resize_policy policy;
    bool antialias, exclude_outside;
    float cubic_a;
} eng_resize_rule;

typedef struct eng_resize_axis {
    int64_t in, out;
    float scale, length; /* length: of the output before it was rounded */
    float start, end;    /* region of interest, 0 .. 1 */
    bool resized;
    /* from eng_resize_taps */
    int64_t taps;
    int64_t *at;   /* [out][taps] */
    float *w;      /* the same; NULL: ones */
    bool *outside; /* [out]: takes the extrapolation value; NULL: none does */
} eng_resize_axis;

/* Set taps, at, w and outside from the rest. An axis that is not resized gets one tap. in > 0. */
od_code eng_resize_taps(const eng_resize_rule *r, eng_resize_axis *a, od_arena *arena, od_status *st);

#endif
