/* attention.h - softmax(scale q k^T + mask) v for every attention operator, with operands read by strides
 * from wherever they lie. A head's scores are worked on in blocks of rows that stay in the cache. What a
 * query may look at is a range of keys (causal, window, length), a mask, or both. */
#ifndef ENG_OPS_ATTENTION_H
#define ENG_OPS_ATTENTION_H

#include "engine/op.h"

enum { ENG_ATT_B, ENG_ATT_H, ENG_ATT_L, ENG_ATT_D, ENG_ATT_AXES };

/* Item, head, row, channel; of a mask: item, head, query, key, where a stride of 0 repeats. */
typedef struct eng_att_view {
    const float *data;
    int64_t dims[ENG_ATT_AXES], strides[ENG_ATT_AXES];
} eng_att_view;

typedef enum eng_att_tap { ENG_ATT_RAW, ENG_ATT_CAPPED, ENG_ATT_BIASED, ENG_ATT_PROBABILITIES } eng_att_tap;

typedef struct eng_attention {
    eng_att_view q, k, v, out; /* heads of q are a multiple of those of k and v: groups share them */
    float scale, softcap;      /* softcap 0: none */
    eng_att_view mask;         /* added; data NULL: none */
    eng_att_view windows;      /* added too, item being item % window_count; data NULL: none */
    int64_t window_count;
    eng_att_view factor;       /* multiplied with the scores, one a head; data NULL: none */
    const uint8_t *allow;      /* 0: the key takes no part; NULL: none. Strides as the mask's: */
    int64_t allow_strides[ENG_ATT_AXES];
    int64_t keys;              /* that take part at all; 0 .. k.dims[L] */
    bool causal;               /* query at place p sees keys 0 .. p */
    int64_t left, right;       /* and these many before and behind p; -1: all */
    int64_t past;              /* the place of query 0 ... */
    const int64_t *offsets;    /* ... or by item; NULL: past */
    const int64_t *lengths;    /* keys by item; NULL: `keys` */
    const float *sinks;        /* a score more a head, which only adds to the sum; NULL: none */
    bool nan_when_empty;       /* a query that sees nothing gives NaN, as Softmax does, instead of zeros */
    float *tap;                /* [item][head][query][key] scores or probabilities; NULL: not wanted */
    eng_att_tap tap_at;
} eng_attention;

/* Compute; `a->out.data` is written. OD_NO_MEMORY. */
od_code eng_attention_run(const eng_attention *a, od_arena *scratch, od_pool *pool, od_status *st);

/* A [item, row, head * channel] or [item, head, row, channel] tensor with `heads` heads, from element
 * `offset` of each row on and `width` channels a head (0: all). */
eng_att_view eng_att_rows(const eng_tensor *t, int64_t heads, int64_t offset, int64_t width);

/* `t` aligned at the right of item, head, query, key. Its data are taken as they are. */
eng_att_view eng_att_mask(const eng_tensor *t);

/* to[item, head, past + row, channel] = past rows, then new ones; `past` data may be NULL (no rows). */
void eng_att_concat(const eng_att_view *past, const eng_att_view *now, float *to, od_pool *pool);

#endif
