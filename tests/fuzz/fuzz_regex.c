/* fuzz_regex.c - any bytes as a pattern, a zero byte and a text: refused with a reason, or matched within bounds. */
#include "engine/ops/regex.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    od_status st = {0};
    od_arena a = {0};
    eng_regex *r;
    bool matches;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t len = zero ? (size_t)(zero - data) : size;
    eng_str pattern = {(const char *)data, len}, text = {(const char *)data + len, size - len};
    if (zero) text.ptr++, text.len--;
    od_arena_init(&a, (size_t)256 << 20);
    od_code rc = eng_regex_compile(&r, pattern, &a, &st);
    if (rc == OD_OK) rc = eng_regex_matches(r, text, &a, &matches, &st);
    fuzz_check(rc == OD_OK || (st.code == rc && st.msg[0] && rc != OD_INTERNAL));
    od_arena_fini(&a);
    return 0;
}
