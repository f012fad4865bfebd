/* fuzz_pb.c - any bytes as the .pb file of a test case, as each kind of value. */
#include "loaders/tensor.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const eng_dtype kinds[] = {ENG_FLOAT, ENG_SEQUENCE, ENG_OPTIONAL, ENG_MAP};
    const char *path = fuzz_file(data, size);
    for (size_t i = 0; i < OD_COUNT(kinds); i++) {
        od_status st = {0};
        od_arena a = {0};
        eng_tensor t;
        od_arena_init(&a, (size_t)256 << 20);
        od_code rc = ldr_pb_read(path, &a, kinds[i], &t, &st);
        fuzz_check(rc == OD_OK || (st.code == rc && st.msg[0] && rc != OD_INTERNAL));
        od_arena_fini(&a);
    }
    return 0;
}
