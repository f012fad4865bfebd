/* fuzz_decoder.c - any bytes as ImageDecoder's picture, with the formats that /predict does not take. */
#include "loaders/image/operator.c"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    od_status st = {0};
    od_arena a = {0};
    eng_tensor t;
    int channels = size % 2 ? 3 : 1;
    od_arena_init(&a, (size_t)64 << 20);
    od_code rc = decode(data, size, channels, &a, &t, &st);
    if (rc == OD_OK) fuzz_check(t.rank == 3 && t.dims[0] > 0 && t.dims[1] > 0 && t.dims[2] == channels && t.dims[0] * t.dims[1] <= MAX_PIXELS);
    else fuzz_check(st.code == rc && st.msg[0] && rc != OD_INTERNAL);
    od_arena_fini(&a);
    return 0;
}
