#include "engine/base/cpu.h"
#include "tests/test.h"

#include <unistd.h>

#include <float.h>

static unsigned isa_under(const char *cap)
{
    if (cap) setenv("ONNXD_ISA", cap, 1);
    else unsetenv("ONNXD_ISA");
    unsigned isa = od_cpu_isa();
    unsetenv("ONNXD_ISA");
    return isa;
}

TEST(the_environment_lowers_the_instruction_set_and_never_raises_it) {
    unsigned full = isa_under(NULL);
    CHECK_EQ(isa_under("ref"), 0);
    CHECK_EQ(isa_under("avx2") & OD_ISA_AVX512, 0);
    CHECK_EQ(isa_under("avx2") & ~full, 0);
    CHECK_EQ(isa_under("avx512") & ~full, 0);
    CHECK_EQ(isa_under("neon") & ~full, 0);
    CHECK_EQ(isa_under(""), full);
}

TEST(wider_sets_imply_the_narrower) {
    unsigned isa = isa_under(NULL);
    if (isa & OD_ISA_AVX512) CHECK(isa & OD_ISA_AVX2);
    if (isa & OD_ISA_F16C) CHECK(isa & OD_ISA_AVX2);
}

TEST(the_best_bit_gives_the_name) {
    CHECK_STR(od_cpu_isa_name(0), "ref");
    CHECK_STR(od_cpu_isa_name(OD_ISA_AVX2), "avx2");
    CHECK_STR(od_cpu_isa_name(OD_ISA_AVX2 | OD_ISA_F16C | OD_ISA_AVX512), "avx512");
    CHECK_STR(od_cpu_isa_name(OD_ISA_NEON), "neon");
}

TEST(there_is_a_core_and_a_cache) {
    CHECK(od_cpu_count() >= 1 && od_cpu_count() <= 65536);
    od_cpu_caches c = od_cpu_cache_sizes();
    CHECK(c.l1d >= 4096 && c.l2 >= c.l1d && c.l3 >= 4096);
}

TEST(time_does_not_run_backwards) {
    int64_t last = od_now_ns();
    for (int i = 0; i < 10000; i++) {
        int64_t now = od_now_ns();
        CHECK(now >= last);
        last = now;
    }
}

TEST(denormals_are_zero_until_restored) {
#if defined(__x86_64__)
    volatile float tiny = FLT_MIN, half = 0.5f;
    volatile float product = tiny * half;
    CHECK(product > 0);
    unsigned was = od_cpu_float_fast();
    product = tiny * half;
    CHECK(product == 0);
    od_cpu_float_restore(was);
    product = tiny * half;
    CHECK(product > 0);
#endif
}

TEST(the_memory_limit_is_not_above_what_the_machine_has) {
    size_t all = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    CHECK(od_memory_limit() > 0 && od_memory_limit() <= all);
}

TEST_MAIN
