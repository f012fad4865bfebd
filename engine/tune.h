/* tune.h - which form of a 3x3 convolution is the quickest on this machine, measured instead of looked up.
 *
 * kernels/winograd.h chooses by a table of costs. With eng_load_options.tune each shape of layer is run in
 * every form instead, as often as a small budget of time allows, with weights pushed out of the caches as far
 * as the model's size would have it. What was found is kept in a file of the pack cache's folder, by processor
 * and threads, and holds for the next start. Forms differ in rounding: tuned starts on different machines may
 * differ in the last bits. Private to engine/. */
#ifndef ENG_TUNE_H
#define ENG_TUNE_H

#include "engine/kernels/winograd.h"
#include "engine/model.h"

/* Of stride 1, padded by one on each side. */
typedef struct eng_tune_layer {
    int64_t items, height, width, channels, out;
} eng_tune_layer;

/* Tune `m` from here to the end. OD_NO_MEMORY. */
od_code eng_tune_begin(eng_model *m, const eng_load_options *options, od_status *st);
void eng_tune_end(eng_model *m);

/* The form for a layer of `m`: measured while it is tuned, else from the table. */
eng_winograd_form eng_tune_choose(eng_model *m, const eng_tune_layer *layer);

#endif
