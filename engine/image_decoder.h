/* image_decoder.h - how the engine's ImageDecoder gets at pictures: it knows no picture format, so a
 * program tells it who does. */
#ifndef ENG_IMAGE_DECODER_H
#define ENG_IMAGE_DECODER_H

#include "engine/tensor.h"

/* Decode `bytes` into `out`: uint8, [height, width, channels], ENG_ROW, data from `a`; 1 channel is
 * luminance, 3 are red, green, blue. Any thread. OD_NO_MEMORY and OD_TOO_LARGE fail the run; any other
 * failure means that this is no picture. */
typedef od_code eng_image_decode_fn(const void *bytes, size_t size, int channels, od_arena *a, eng_tensor *out, od_status *st);

/* Set who decodes, for all models of the process. Any thread. */
void eng_image_decoder_set(eng_image_decode_fn *fn);

#endif
