/* fuzz_image.c - any bytes as a picture: refused with a reason, or pixels within the bound that can be resized. */
#include "loaders/image.h"
#include "tests/fuzz/fuzz.h"

enum { PIXELS_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    od_status st = {0};
    od_arena a = {0};
    ldr_pixels p;
    ldr_preprocess pre = {.fit = LDR_FIT_CROP, .shorter = 20, .width = 17, .height = 13, .filter = LDR_BICUBIC, .antialias = true,
                          .rescale = 1, .std = {1, 1, 1}};
    ldr_placement at;
    float out[3 * 17 * 13];
    od_arena_init(&a, (size_t)64 << 20);
    pre.channels = size % 2 ? 3 : 1;
    ldr_decode_options o = {.max_pixels = PIXELS_MAX, .channels = pre.channels, .background = {1, 2, 3}};
    if (size % 3) o.need_width = o.need_height = 20;
    od_code rc = ldr_image_decode(data, size, &o, &a, &p, &st);
    if (rc == OD_OK) {
        fuzz_check(p.width > 0 && p.height > 0 && p.full_width * p.full_height <= PIXELS_MAX && p.channels == pre.channels);
        rc = ldr_image_place(&pre, p.full_width, p.full_height, &at, &st);
        eng_tensor t = {.dtype = ENG_FLOAT, .rank = 4, .dims = {1, pre.channels, 13, 17}, .data = out};
        if (rc == OD_OK) rc = ldr_image_to_tensor(&p, &pre, &at, false, &t, &a, &st);
    }
    if (rc != OD_OK) fuzz_check(st.code == rc && st.msg[0] && rc != OD_INTERNAL);
    od_arena_fini(&a);
    return 0;
}
