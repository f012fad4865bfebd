#include "tests/test.h"

TEST(fail_sets_code_and_message_and_returns_the_code) {
    od_status s = {0};
    CHECK_CODE(od_fail(&s, OD_BAD_SHAPE, "found %d, wanted %s", 3, "four"), OD_BAD_SHAPE);
    CHECK_EQ(s.code, OD_BAD_SHAPE);
    CHECK_STR(s.msg, "found 3, wanted four");
}

TEST(note_puts_words_in_front_and_keeps_the_code) {
    od_status s = {0};
    od_fail(&s, OD_BAD_TYPE, "found int8");
    CHECK_CODE(od_note(&s, "node %d", 7), OD_BAD_TYPE);
    CHECK_CODE(od_note(&s, "model '%s'", "m"), OD_BAD_TYPE);
    CHECK_STR(s.msg, "model 'm': node 7: found int8");
}

TEST(long_messages_are_cut_and_stay_terminated) {
    od_status s = {0};
    char big[1000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    od_fail(&s, OD_IO, "%s", big);
    CHECK_EQ(strlen(s.msg), sizeof s.msg - 1);
    od_note(&s, "front");
    CHECK_EQ(strlen(s.msg), sizeof s.msg - 1);
    CHECK_HAS(s.msg, "front: xxx");
    od_note(&s, "%s", big);
    CHECK_EQ(strlen(s.msg), sizeof s.msg - 1);
    CHECK_CODE(s.code, OD_IO);
}

TEST(every_code_has_a_name_of_its_own) {
    for (int i = 0; i < OD_CODES; i++) {
        CHECK(od_code_name((od_code)i)[0] != '?');
        for (int j = 0; j < i; j++) CHECK(strcmp(od_code_name((od_code)i), od_code_name((od_code)j)));
    }
    CHECK_STR(od_code_name(OD_CODES), "?");
    CHECK_STR(od_code_name((od_code)-1), "?");
    CHECK_STR(od_code_name(OD_BAD_SHAPE), "BAD_SHAPE");
    CHECK_STR(od_code_name(OD_UNKNOWN_YET), "UNKNOWN_YET");
}

static od_code fails_when(int n, od_status *s)
{
    return n ? od_fail(s, OD_BUSY, "busy %d", n) : OD_OK;
}

static od_code tries(int first, int second, int *reached, od_status *s)
{
    OD_TRY(fails_when(first, s));
    *reached = 1;
    OD_TRY(fails_when(second, s));
    *reached = 2;
    return OD_OK;
}

TEST(try_leaves_at_the_first_failure) {
    od_status s = {0};
    int reached = 0;
    CHECK_CODE(tries(5, 0, &reached, &s), OD_BUSY);
    CHECK_EQ(reached, 0);
    CHECK_CODE(tries(0, 6, &reached, &s), OD_BUSY);
    CHECK_EQ(reached, 1);
    CHECK_STR(s.msg, "busy 6");
    CHECK_CODE(tries(0, 0, &reached, &s), OD_OK);
    CHECK_EQ(reached, 2);
}

TEST(checked_arithmetic_refuses_what_does_not_fit) {
    size_t n = 0;
    int64_t i = 0;
    CHECK(od_mul(1u << 20, 1u << 20, &n) && n == (size_t)1 << 40);
    CHECK(!od_mul(SIZE_MAX / 2, 3, &n));
    CHECK(od_add(SIZE_MAX - 1, 1, &n) && n == SIZE_MAX);
    CHECK(!od_add(SIZE_MAX, 1, &n));
    CHECK(od_mul_i64(-3, 5, &i) && i == -15);
    CHECK(!od_mul_i64(INT64_MAX, 2, &i));
    CHECK(!od_mul_i64(INT64_MIN, -1, &i));
    CHECK_EQ(od_ceil_div(7, 3), 3);
    CHECK_EQ(od_ceil_div(6, 3), 2);
    CHECK_EQ(od_ceil_div(0, 3), 0);
    CHECK_EQ(od_min_i64(-1, 1), -1);
    CHECK_EQ(od_max_i64(-1, 1), 1);
}

TEST_MAIN
