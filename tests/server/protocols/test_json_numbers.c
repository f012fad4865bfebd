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

/* The numbers that are hard to round, as text: middles between neighbours in full and a digit beside them, 17 to 24 digits, values of
 * floats and doubles as clients print them, the ends of the range. */
static void hard_number(char *text)
{
    uint32_t a = next(), b = next();
    float x = float_of((a & 0x807fffff) | (90 + b % 76) << 23); /* 1e-11 .. 1e12 */
    double middle = ((double)x + (double)nextafterf(x, INFINITY)) / 2;
    switch (b >> 8 & 15) {
    case 0: snprintf(text, 80, "%.*f", 1 + (int)(a % 22), middle); break;
    case 1: snprintf(text, 80, "%.40f", middle); break;
    case 2: snprintf(text, 80, "%.17g", nextafter(middle, a & 1 ? INFINITY : -INFINITY)); break;
    case 3: snprintf(text, 80, "%.19e", middle); break;
    case 4: snprintf(text, 80, "%.9g", (double)x); break;
    case 5: snprintf(text, 80, "%.17g", (double)x); break;
    case 6: snprintf(text, 80, "%u.%09u%09u", a % 10, a % 1000000000, b % 1000000000); break;
    case 7: snprintf(text, 80, "-0.%05u%09u%09u", b % 100000, a % 1000000000, b % 1000000000); break;
    case 8: snprintf(text, 80, "%u%09u%05u", a % 4000000000u, b % 1000000000, a % 100000); break;
    case 9: snprintf(text, 80, "%.*f", (int)(b % 10), (double)float_of(a & 0x3fffffff)); break;
    case 10: snprintf(text, 80, "%.9g", (double)float_of(a & 0x7fffff)); break; /* below the smallest normal */
    case 11: snprintf(text, 80, "%u", a >> b % 32); break;
    case 12: snprintf(text, 80, "%u.%ue%d", a % 10, b, (int)(a >> 8) % 70 - 45); break;
    case 13: snprintf(text, 80, "%.*f", 1 + (int)(a % 4), (double)(int32_t)b / 1e7); break;
    case 14: snprintf(text, 80, "-%u.%0*u", a % 300, 1 + (int)(b % 9), b % 10); break;
    default: snprintf(text, 80, "%s", a & 1 ? "-0" : a & 2 ? "0.000000000000000000000001" : "-0.0"); break;
    }
    if (!isfinite(strtof(text, NULL))) strcpy(text, "3.4028235e38");
}

/* Arrays long enough to be read many numbers at a time, each element beside the C library. */
TEST(long_arrays_are_read_correctly_rounded) {
    enum { N = 1000, ROUNDS = 2500 };
    static char text[N * 84 + SRV_JSON_PAD];
    static char number[N][80];
    static float floats[N];
    static double doubles[N];
    for (int round = 0; round < ROUNDS; round++) {
        char *to = stpcpy(text, round % 3 == 2 ? "[[" : "[");
        for (int i = 0; i < N; i++) {
            hard_number(number[i]);
            if (i) to = stpcpy(to, round % 3 == 0 ? "," : round % 3 == 1 || i % 97 ? ", " : "] ,[");
            to = stpcpy(to, number[i]);
        }
        to = stpcpy(to, round % 3 == 2 ? "]]" : "]");
        memset(to, 0, SRV_JSON_PAD);
        bool wide = round % 8 == 7;
        eng_tensor t = {.dtype = wide ? ENG_DOUBLE : ENG_FLOAT, .rank = 1, .dims = {N}, .data = wide ? (void *)doubles : floats};
        srv_json j = srv_json_init(text, (size_t)(to - text), &arena, 0);
        CHECK_OK(srv_json_numbers(&j, &t, &st));
        for (int i = 0; i < N; i++) {
            double want = wide ? strtod(number[i], NULL) : (double)strtof(number[i], NULL), got = wide ? doubles[i] : (double)floats[i];
            if (memcmp(&want, &got, sizeof want)) TEST_FAIL("%s read as %.17g, wanted %.17g", number[i], got, want);
        }
    }
}

static bool takes(srv_json j, eng_tensor *t)
{
    return srv_json_numbers(&j, t, &st) == OD_OK && srv_json_finish(&j, &st) == OD_OK;
}

TEST(a_number_that_is_none_is_found_anywhere_in_a_long_array) {
    enum { N = 300 };
    static const char *const bad[] = {"01", "00", "-01.5", "1.", ".5", "-.5", "-", "", "--1", "+1", "1 2", "0x1", "1..2", "1.2.3", ".", "1e", "1a", "1-",
                                      "1.5]", "[1", "{}", "\"1\"", "00.5", "1.5 .5", "123456789012345678901234567890.", "1/2", "1:2", "  -", "- 1"};
    static const char *const good[] = {"1e2", "-0", "0.0", "  7", "7 ", "null", "NaN", "1\n", "\t2", "12345678901234567890123", "-0.00000000000000000000000001", "[3]"};
    static char text[N * 24];
    static float values[N];
    for (int k = 0; k < 2 * (int)OD_COUNT(bad); k++) {
        const char *item = k % 2 ? bad[k / 2] : good[(size_t)k / 2 % OD_COUNT(good)];
        for (int at = 0; at < N; at++) {
            char *to = stpcpy(text, "[");
            for (int i = 0; i < N; i++) to = stpcpy(stpcpy(to, !i ? "" : at & 1 ? ", " : ","), i == at ? item : i % 5 ? "-0.25" : "1");
            to = stpcpy(to, "]");
            memset(to, 0, SRV_JSON_PAD);
            eng_tensor t = {.dtype = ENG_FLOAT, .rank = 1, .dims = {N}, .data = values};
            if (takes(srv_json_init(text, (size_t)(to - text), &arena, 0), &t) == k % 2) TEST_FAIL("'%s' at %d: %s", item, at, k % 2 ? "taken" : "refused");
            if (k % 2 == 0 && item[0] != 'n' && item[0] != 'N')
                for (int i = 0; i < N; i++) CHECK(values[i] == (i == at ? strtof(item[0] == '[' ? item + 1 : item, NULL) : i % 5 ? -0.25f : 1));
        }
    }
}

TEST(long_arrays_of_each_type_keep_their_bounds) {
    enum { N = 200 };
    static const struct { eng_dtype dtype; const char *good, *bad; } cases[] = {
        {ENG_UINT8, "255", "256"}, {ENG_INT8, "-128", "-129"}, {ENG_INT16, "32767", "32768"}, {ENG_UINT16, "65535", "-1"},
        {ENG_INT32, "-2147483648", "2147483648"}, {ENG_UINT32, "4294967295", "4294967296"}, {ENG_INT64, "-9223372036854775808", "9223372036854775808"},
        {ENG_UINT64, "18446744073709551615", "18446744073709551616"}, {ENG_BOOL, "true", "2"}, {ENG_INT32, "3.0", "3.5"}};
    static char text[N * 24];
    static uint64_t values[N];
    for (size_t k = 0; k < OD_COUNT(cases); k++)
        for (int at = 0; at < 2 * N; at++) {
            char *to = stpcpy(text, "[");
            for (int i = 0; i < N; i++) to = stpcpy(stpcpy(to, i ? "," : ""), i != at / 2 ? i % 2 ? "1" : "0" : at & 1 ? cases[k].bad : cases[k].good);
            to = stpcpy(to, "]");
            memset(to, 0, SRV_JSON_PAD);
            eng_tensor t = {.dtype = cases[k].dtype, .rank = 1, .dims = {N}, .data = values};
            if (takes(srv_json_init(text, (size_t)(to - text), &arena, 0), &t) == (at & 1)) TEST_FAIL("%s at %d", at & 1 ? cases[k].bad : cases[k].good, at / 2);
            if (at & 1) continue;
            for (int i = 0; i < N; i++) {
                int64_t want = i != at / 2 ? i % 2 : cases[k].dtype == ENG_BOOL ? 1 : (int64_t)strtoull(cases[k].good, NULL, 10);
                CHECK_EQ(eng_tensor_int(&t, i), want);
            }
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
