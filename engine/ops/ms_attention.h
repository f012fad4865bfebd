/* ms_attention.h - masks as ONNX Runtime's attention operators take them. `scores` are the extents of
 * item, head, query, key. */
#ifndef ENG_OPS_MS_ATTENTION_H
#define ENG_OPS_MS_ATTENTION_H

#include "engine/ops/attention.h"

/* An additive [1 or items, 1 or heads, 1 or queries, keys], or NULL. */
od_code eng_ms_check_bias(const eng_tensor *t, const int64_t *scores, od_status *st);

/* int32: lengths [items], ends and starts [2 items], or 0 and 1 as [items, keys], [items, queries, keys],
 * [items, 1, longest, longest]; or NULL. */
od_code eng_ms_check_mask(const eng_tensor *t, const int64_t *scores, od_status *st);

/* Put both into a->mask: `filter` is added where the mask is 0. Reads extents of a->q and a->k. */
od_code eng_ms_set_mask(eng_ctx *c, const eng_tensor *mask, const eng_tensor *bias, float filter, eng_attention *a, od_status *st);

#endif
