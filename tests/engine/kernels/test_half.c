#include "engine/kernels/half.h"
#include "engine/base/cpu.h"
#include "tests/test.h"

static uint32_t bits_of(float f)
{
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

static bool avx2(void)
{
    return (od_cpu_isa() & OD_ISA_AVX2) && (od_cpu_isa() & OD_ISA_F16C);
}

TEST(every_half_widens_as_the_tensor_says_and_comes_back) {
    for (unsigned h = 0; h < 65536; h++) {
        uint16_t in = (uint16_t)h, back;
        float f;
        eng_half_ref.half_to_float(&in, &f, 1);
        eng_tensor t = {.dtype = ENG_FLOAT16, .data = &in};
        double want = eng_tensor_double(&t, 0);
        if (isnan(want)) {
            CHECK(isnan(f));
            continue;
        }
        CHECK((double)f == want);
        eng_half_ref.float_to_half(&f, &back, 1);
        CHECK_EQ(back, in);
        CHECK_EQ(eng_small_float(want, ENG_FLOAT16, true, ENG_E8_UP), in);
    }
}

TEST(narrowing_rounds_like_the_exact_rule_in_all_variants) {
    uint32_t x = 12345;
    float in[19];
    uint16_t a[19], b[19], c[19], d[19];
    for (int round = 0; round < 20000; round++) {
        for (int i = 0; i < 19; i++) {
            x = x * 1664525u + 1013904223u;
            uint32_t pattern = i % 3 ? x : (x & 0x807fffffu) | (0x30u + (x >> 9 & 31u)) << 24;
            memcpy(in + i, &pattern, sizeof pattern);
        }
        eng_half_ref.float_to_half(in, a, 19);
        eng_half_ref.float_to_bfloat(in, c, 19);
        if (avx2()) {
            eng_half_avx2.float_to_half(in, b, 19);
            eng_half_avx2.float_to_bfloat(in, d, 19);
            CHECK(!memcmp(a, b, sizeof a));
            CHECK(!memcmp(c, d, sizeof c));
        }
        for (int i = 0; i < 19; i++) {
            if (isnan(in[i])) continue;
            CHECK_EQ(a[i], eng_small_float(in[i], ENG_FLOAT16, false, ENG_E8_UP));
            CHECK_EQ(c[i], eng_small_float(in[i], ENG_BFLOAT16, false, ENG_E8_UP));
        }
    }
}

TEST(widening_is_equal_in_all_variants) {
    if (!avx2()) return;
    uint16_t in[65536];
    static float a[65536], b[65536];
    for (unsigned h = 0; h < 65536; h++) in[h] = (uint16_t)h;
    eng_half_ref.half_to_float(in, a, 65533);
    eng_half_avx2.half_to_float(in, b, 65533);
    for (int i = 0; i < 65533; i++) CHECK_EQ(bits_of(a[i]), bits_of(b[i]));
    eng_half_ref.bfloat_to_float(in, a, 65533);
    eng_half_avx2.bfloat_to_float(in, b, 65533);
    CHECK(!memcmp(a, b, 65533 * sizeof *a));
}

TEST(every_float8_code_comes_back) {
    eng_dtype types[] = {ENG_FLOAT8E4M3FN, ENG_FLOAT8E4M3FNUZ, ENG_FLOAT8E5M2, ENG_FLOAT8E5M2FNUZ};
    for (int k = 0; k < 4; k++)
        for (unsigned b = 0; b < 256; b++) {
            uint8_t byte = (uint8_t)b;
            eng_tensor t = {.dtype = types[k], .data = &byte};
            double v = eng_tensor_double(&t, 0);
            unsigned got = eng_small_float(v, types[k], false, ENG_E8_UP);
            if (isnan(v)) {
                byte = (uint8_t)got;
                CHECK(isnan(eng_tensor_double(&t, 0)));
            } else {
                CHECK_EQ(got, b);
            }
        }
}

TEST(float8_saturates_only_when_told) {
    CHECK_EQ(eng_small_float(1e6, ENG_FLOAT8E4M3FN, true, ENG_E8_UP), 0x7e);
    CHECK_EQ(eng_small_float(1e6, ENG_FLOAT8E4M3FN, false, ENG_E8_UP), 0x7f);
    CHECK_EQ(eng_small_float(-INFINITY, ENG_FLOAT8E5M2, true, ENG_E8_UP), 0xfb);
    CHECK_EQ(eng_small_float(-INFINITY, ENG_FLOAT8E5M2, false, ENG_E8_UP), 0xfc);
    CHECK_EQ(eng_small_float(-0.0, ENG_FLOAT8E5M2FNUZ, true, ENG_E8_UP), 0);
    CHECK_EQ(eng_small_float(6.1, ENG_FLOAT4E2M1, true, ENG_E8_UP), 7);
    CHECK_EQ(eng_small_float(-100, ENG_FLOAT4E2M1, true, ENG_E8_UP), 15);
    CHECK_EQ(eng_small_float(2.5, ENG_FLOAT4E2M1, true, ENG_E8_UP), 4);
}

TEST(e8_rounds_three_ways) {
    CHECK_EQ(eng_small_float(2.5, ENG_FLOAT8E8M0, true, ENG_E8_UP), 129);
    CHECK_EQ(eng_small_float(2.5, ENG_FLOAT8E8M0, true, ENG_E8_DOWN), 128);
    CHECK_EQ(eng_small_float(2.5, ENG_FLOAT8E8M0, true, ENG_E8_NEAREST), 128);
    CHECK_EQ(eng_small_float(3.0, ENG_FLOAT8E8M0, true, ENG_E8_NEAREST), 129);
    CHECK_EQ(eng_small_float(INFINITY, ENG_FLOAT8E8M0, true, ENG_E8_UP), 254);
    CHECK_EQ(eng_small_float(0, ENG_FLOAT8E8M0, false, ENG_E8_NEAREST), 255);
}

TEST_MAIN
