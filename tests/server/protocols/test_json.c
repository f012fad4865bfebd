#include "server/protocols/json.h"
#include "tests/test.h"

static od_arena arena;

static srv_json reader(const char *text)
{
    size_t n = strlen(text);
    char *copy = od_arena_zalloc(&arena, n + SRV_JSON_PAD);
    memcpy(copy, text, n);
    return srv_json_init(copy, n, &arena, 0);
}

static bool is_json(const char *text)
{
    srv_json j = reader(text);
    return srv_json_skip(&j, NULL, &st) == OD_OK && srv_json_finish(&j, &st) == OD_OK;
}

TEST(each_byte_anywhere_in_text_is_passed_or_refused) {
    enum { N = 24 };
    for (int c = 1; c < 256; c++)
        for (int at = 0; at < N; at++) {
            char text[N + 3] = "";
            memset(text, 'a', N + 2);
            text[0] = text[N + 1] = '"';
            text[1 + at] = (char)c;
            text[N + 2] = '\0';
            srv_json j = reader(text);
            eng_str s;
            bool good = srv_json_string(&j, &s, &st) == OD_OK;
            if (good != (c >= 0x20 && c < 0x80 && c != '\\')) TEST_FAIL("byte %d at %d", c, at);
            if (good) CHECK_EQ(s.len, c == '"' ? (size_t)at : (size_t)N);
        }
}

TEST(objects_are_walked_in_order) {
    srv_json j = reader(" { \"a\" : [1, 2 ], \"b\":{\"c\":true}, \"d\":\"x\" } ");
    eng_str key, text;
    int64_t n = 0, sum = 0;
    bool yes = false;
    CHECK_OK(srv_json_object(&j, &st));
    while (srv_json_member(&j, &key, &st)) {
        if (srv_str_is(key, "a")) {
            CHECK_OK(srv_json_array(&j, &st));
            while (srv_json_item(&j, &st)) {
                CHECK_OK(srv_json_int(&j, &n, &st));
                sum += n;
            }
        } else if (srv_str_is(key, "b")) {
            CHECK_OK(srv_json_object(&j, &st));
            while (srv_json_member(&j, &key, &st)) CHECK_OK(srv_json_bool(&j, &yes, &st));
        } else {
            CHECK_OK(srv_json_skip(&j, &text, &st));
            CHECK(srv_str_is(text, "\"x\""));
        }
    }
    CHECK_OK(srv_json_code(&j));
    CHECK_OK(srv_json_finish(&j, &st));
    CHECK(yes && sum == 3);
}

TEST(strings_are_decoded) {
    eng_str s;
    srv_json j = reader("\"a\\n\\u00e9\\ud83d\\ude00\\/\\\\\"");
    CHECK_OK(srv_json_string(&j, &s, &st));
    CHECK(srv_str_is(s, "a\n\xc3\xa9\xf0\x9f\x98\x80/\\"));
    const char *bad[] = {"\"\\ud83d\"", "\"\\ude00\"", "\"\\u12\"", "\"\\x\"", "\"a", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\n\"", "\"\\"};
    for (size_t i = 0; i < OD_COUNT(bad); i++) {
        j = reader(bad[i]);
        if (srv_json_string(&j, &s, &st) == OD_OK) TEST_FAIL("%s was taken", bad[i]);
    }
}

TEST(only_json_passes) {
    const char *good[] = {"{}", "[]", "0", "-0.5e+3", "\"\"", "null", "[[],{}]", "{\"a\":{\"b\":[1,{\"c\":null}]},\"d\":[]}", " [ 1 , 2 ] "};
    const char *bad[] = {"", "{", "[", "{]", "[}", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "nul", "tru", "01", "1 2",
                         "[1 2]", "'a'", "-", "1e", "[,1]", "{,}", "{\"a\":1 \"b\":2}", "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < OD_COUNT(good); i++)
        if (!is_json(good[i])) TEST_FAIL("%s was refused: %s", good[i], st.msg);
    for (size_t i = 0; i < OD_COUNT(bad); i++)
        if (is_json(bad[i])) TEST_FAIL("%s was taken", bad[i]);
}

TEST(nesting_is_bounded) {
    char deep[4096 + 1] = {0};
    memset(deep, '[', 2000);
    memset(deep + 2000, ']', 2000);
    CHECK(!is_json(deep));
    CHECK_HAS(st.msg, "nested deeper than 100");
    deep[2100] = 0;
    CHECK(is_json(deep + 1900)); /* a hundred are fine */
}

TEST_MAIN
