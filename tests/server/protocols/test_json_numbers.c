#include "server/protocols/json_numbers.h"
#include "tests/test.h"

#include <stdlib.h>

static od_arena arena;

/* A reader over a copy that ends as readers want it. */
static srv_json reader(const char *text)
{
    size_t n = strlen(text);
    char *copy = od_arena_zalloc(&arena, n + SRV_JSON_PAD);
    memcpy(copy, text, n);
    return srv_json_init(copy, n, &arena, 0);
}

static uint32_t next(void)
{
    static uint64_t x = 88172645463325252u;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 16);
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static float scan_text(const char *text)
{
    char padded[96] = {0};
    float x = -1;
    snprintf(padded, sizeof padded - SRV_JSON_PAD, "%s", text);
    const char *rest = srv_scan_float(padded, &x);
    return rest && !*rest ? x : NAN;
}

TEST(floats_print_shortest_and_read_back) {
    char text[64 + SRV_JSON_PAD], want[64];
    for (int i = 0; i < 400000; i++) {
        uint32_t bits = i < 1000 ? (uint32_t)i : i < 2000 ? (uint32_t)(i - 1000) << 23 | (i & 1) : next();
        float x = float_of(bits), back;
        if (!isfinite(x)) continue;
        memset(text, 0, sizeof text);
        char *end = srv_print_float(text, x);
        CHECK(end - text < SRV_FLOAT_CHARS);
        memset(end, 0, SRV_JSON_PAD);
        if (srv_scan_float(text, &back) != end) TEST_FAIL("%.9g: %s is not read", (double)x, text);
        if (memcmp(&back, &x, 4)) TEST_FAIL("%.9g printed as %s, read as %.9g", (double)x, text, (double)back);
        CHECK(strtof(text, NULL) == x);
        int digits = 1;
        while (snprintf(want, sizeof want, "%.*e", digits - 1, (double)x), strtof(want, NULL) != x) digits++;
        int got = 0, zeros = 0;
        for (char *p = text; *p && *p != 'e'; p++) {
            if (*p < '0' || *p > '9' || (*p == '0' && !got)) continue;
            zeros = *p == '0' ? zeros + 1 : 0;
            got++;
        }
        if (got - zeros > digits) TEST_FAIL("%s has more digits than %s", text, want);
    }
}

TEST(floats_are_read_correctly_rounded) {
    char text[80];
    for (int i = 0; i < 400000; i++) {
        uint32_t a = next(), b = next();
        if (i % 4 == 0) snprintf(text, sizeof text, "%.17g", (double)float_of(a));
        else if (i % 4 == 1) snprintf(text, sizeof text, "0.%u%u", a, b % 100000000);
        else if (i % 4 == 2) snprintf(text, sizeof text, "%u.%ue%d", a % 10 + 1, b, (int)(a >> 8) % 60 - 40);
        else { /* the middle between two floats, and a hair above it */
            double middle = ((double)float_of(a & 0x7f7fffff) + (double)float_of((a & 0x7f7fffff) + 1)) / 2;
            if (fabs(middle) < 1e-20 || fabs(middle) > 1e20) continue;
            snprintf(text, sizeof text, b & 1 ? "%.40f" : "%.19e", middle);
        }
        float want = strtof(text, NULL), got = scan_text(text);
        if (!isfinite(want)) continue;
        if (memcmp(&want, &got, 4)) TEST_FAIL("%s read as %.9g, wanted %.9g", text, (double)got, (double)want);
    }
}

TEST(doubles_are_read_correctly_rounded_and_print_back) {
    char text[96] = {0};
    for (int i = 0; i < 300000; i++) {
        uint64_t bits = (uint64_t)next() << 32 | next();
        double x, got;
        memcpy(&x, &bits, 8);
        if (!isfinite(x)) continue;
        if (i & 1) x = (double)(int64_t)bits / 1e15;
        memset(text, 0, sizeof text);
        snprintf(text, 64, i % 3 ? "%.17g" : "%.18e", x);
        CHECK(srv_scan_double(text, &got) && got == strtod(text, NULL));
        memset(text, 0, sizeof text);
        char *end = srv_print_double(text, x);
        CHECK(end - text < SRV_DOUBLE_CHARS);
        *end = 0;
        CHECK(strtod(text, NULL) == x);
    }
}

TEST(whole_numbers_keep_64_bits_and_their_bounds) {
    int64_t x = 0;
    char low[40] = "-9223372036854775808", over[40] = "9223372036854775808", exact[40] = "3.50e1", part[40] = "3.5";
    CHECK(srv_scan_int64(low, &x) && x == INT64_MIN);
    CHECK(!srv_scan_int64(over, &x));
    CHECK(srv_scan_int64(exact, &x) && x == 35);
    CHECK(!srv_scan_int64(part, &x));
    uint64_t u = 0;
    eng_tensor t = {.dtype = ENG_UINT64, .rank = 1, .dims = {1}, .data = &u};
    srv_json j = reader("[18446744073709551615]");
    CHECK_OK(srv_json_numbers(&j, &t, &st));
    CHECK(u == UINT64_MAX);
    j = reader("[18446744073709551616]");
    CHECK_CODE(srv_json_numbers(&j, &t, &st), OD_BAD_VALUE);
    uint8_t b;
    t = (eng_tensor){.dtype = ENG_UINT8, .rank = 1, .dims = {1}, .data = &b};
    j = reader("[256]");
    CHECK_CODE(srv_json_numbers(&j, &t, &st), OD_BAD_VALUE);
    j = reader("[-1]");
    CHECK_CODE(srv_json_numbers(&j, &t, &st), OD_BAD_VALUE);
}

TEST(arrays_may_be_flat_or_nested_and_must_have_the_count) {
    float x[6];
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 2, .dims = {2, 3}, .data = x};
    const char *good[] = {"[1,2,3,4,5,6]", " [ [1, 2,3] ,[4,5,\n6] ] ", "[[[1],[2],[3]],[[4],[5],[6]]]", "[1e0,2.0,3,4,0.5e1,6]"};
    for (size_t i = 0; i < OD_COUNT(good); i++) {
        srv_json j = reader(good[i]);
        CHECK_OK(srv_json_numbers(&j, &t, &st));
        CHECK_OK(srv_json_finish(&j, &st));
        for (int k = 0; k < 6; k++) CHECK(x[k] == (float)(k + 1));
    }
    const char *bad[] = {"[1,2,3,4,5]", "[1,2,3,4,5,6,7]", "[]", "[[]]", "[1,2,3,4,5,]", "[1,2,3,4,5,6", "[1 2]", "[,]", "1",
                         "[1,2,3,4,5,{}]", "[1,2,3,4,5,\"6\"]", "[01,2,3,4,5,6]", "[1.,2,3,4,5,6]", "[+1,2,3,4,5,6]", "[.5]",
                         "[1,2,3,4,5,6e]", "[1,2,3,4,5,6e999]", "[--1]", "[0x10]", "[[1,2,3],[4,5,6]", "[true,2,3,4,5,6]"};
    for (size_t i = 0; i < OD_COUNT(bad); i++) {
        srv_json j = reader(bad[i]);
        if (srv_json_numbers(&j, &t, &st) == OD_OK) TEST_FAIL("%s was taken", bad[i]);
    }
}

TEST(null_is_nan_for_floats_and_bools_are_words) {
    float x[3];
    uint8_t b[3];
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 1, .dims = {3}, .data = x};
    srv_json j = reader("[null, NaN, -Infinity]");
    CHECK_OK(srv_json_numbers(&j, &t, &st));
    CHECK(isnan(x[0]) && isnan(x[1]) && isinf(x[2]) && x[2] < 0);
    t = (eng_tensor){.dtype = ENG_BOOL, .rank = 1, .dims = {3}, .data = b};
    j = reader("[true,false,1]");
    CHECK_OK(srv_json_numbers(&j, &t, &st));
    CHECK(b[0] == 1 && b[1] == 0 && b[2] == 1);
}

TEST(halves_round_to_nearest_even) {
    CHECK_EQ(srv_double_to_half(1.0), 0x3c00);
    CHECK_EQ(srv_double_to_half(65504), 0x7bff);
    CHECK_EQ(srv_double_to_half(65520), 0x7c00);
    CHECK_EQ(srv_double_to_half(5.960464477539063e-08), 1);
    CHECK_EQ(srv_double_to_half(2.9e-08), 0);
    CHECK_EQ(srv_double_to_half(1.0 + 1.0 / 2048), 0x3c00);
    CHECK_EQ(srv_double_to_half(1.0 + 3.0 / 2048), 0x3c02);
    CHECK_EQ(srv_double_to_half(-2.0), 0xc000);
    CHECK_EQ(srv_double_to_bfloat16(1.0), 0x3f80);
    CHECK_EQ(srv_double_to_bfloat16(1.0 + 1.0 / 256), 0x3f80);
}

TEST(tensors_print_as_json) {
    float x[] = {0, -0.0f, 1, 0.1f, 1e-7f, 3.4028235e38f, 16777216, NAN, 123456.79f, 1e-45f};
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 1, .dims = {10}, .data = x};
    srv_text text = {.arena = &arena};
    srv_text_elements(&text, &t, 0, 10);
    srv_text_add(&text, "", 1);
    CHECK_STR(text.data, "0,-0,1,0.1,1e-7,3.4028235e38,16777216,null,123456.79,1e-45");
    eng_str s[] = {{"a\"b\\\n\x01", 6}, {"\xff", 1}};
    t = (eng_tensor){.dtype = ENG_STRING, .rank = 1, .dims = {2}, .data = s};
    text = (srv_text){.arena = &arena};
    srv_text_elements(&text, &t, 0, 2);
    srv_text_add(&text, "", 1);
    CHECK_STR(text.data, "\"a\\\"b\\\\\\n\\u0001\",\"\xef\xbf\xbd\"");
}

TEST_MAIN
