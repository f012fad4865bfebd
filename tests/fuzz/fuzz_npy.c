/* fuzz_npy.c - any bytes as a .npy file: never more tensor than file. */
#include "loaders/tensor.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    od_status st = {0};
    od_arena a = {0};
    eng_tensor t;
    od_arena_init(&a, (size_t)256 << 20);
    od_code rc = ldr_npy_read(fuzz_file(data, size), &a, &t, &st);
    if (rc == OD_OK) fuzz_check(eng_tensor_bytes(&t) <= size);
    else fuzz_check(st.code == rc && st.msg[0] && rc != OD_INTERNAL);
    od_arena_fini(&a);
    return 0;
}
