/* test.h - claims and checks for the C tests. Each file of tests ends with TEST_MAIN.
 * A failed check prints where and what and ends its test; the others go on. */
#ifndef TEST_H
#define TEST_H

#include "engine/base/status.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
} test_case;

static test_case *test_first, **test_last = &test_first;
static jmp_buf test_door;
OD_UNUSED static od_status st;

#define TEST(claim)                                                                             \
    static void test_##claim(void);                                                             \
    __attribute__((constructor)) static void add_##claim(void)                                  \
    {                                                                                           \
        static test_case c = {#claim, test_##claim, NULL};                                      \
        *test_last = &c;                                                                        \
        test_last = &c.next;                                                                    \
    }                                                                                           \
    static void test_##claim(void)

#define TEST_FAIL(...)                                                                          \
    do {                                                                                        \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                         \
        fprintf(stderr, __VA_ARGS__);                                                           \
        fputc('\n', stderr);                                                                    \
        longjmp(test_door, 1);                                                                  \
    } while (0)

#define CHECK(what)                                                                             \
    do {                                                                                        \
        if (!(what)) TEST_FAIL("not so: %s", #what);                                            \
    } while (0)
#define CHECK_OK(call)                                                                          \
    do {                                                                                        \
        if ((call) != OD_OK) TEST_FAIL("%s: %s: %s", #call, od_code_name(st.code), st.msg);     \
    } while (0)
#define CHECK_CODE(call, want)                                                                  \
    do {                                                                                        \
        od_code got_ = (call);                                                                  \
        if (got_ != (want)) TEST_FAIL("%s gave %s, wanted %s", #call, od_code_name(got_), #want); \
    } while (0)
#define CHECK_EQ(a, b)                                                                          \
    do {                                                                                        \
        long long a_ = (long long)(a), b_ = (long long)(b);                                     \
        if (a_ != b_) TEST_FAIL("%s is %lld, wanted %lld (%s)", #a, a_, b_, #b);                \
    } while (0)
#define CHECK_NEAR(a, b, tolerance)                                                             \
    do {                                                                                        \
        double a_ = (double)(a), b_ = (double)(b);                                              \
        if (!(fabs(a_ - b_) <= (tolerance))) TEST_FAIL("%s is %.9g, wanted %.9g", #a, a_, b_);  \
    } while (0)
#define CHECK_STR(a, b)                                                                         \
    do {                                                                                        \
        const char *a_ = (a), *b_ = (b);                                                        \
        if (strcmp(a_, b_)) TEST_FAIL("%s is \"%s\", wanted \"%s\"", #a, a_, b_);               \
    } while (0)
#define CHECK_HAS(a, part)                                                                      \
    do {                                                                                        \
        const char *a_ = (a), *p_ = (part);                                                     \
        if (!strstr(a_, p_)) TEST_FAIL("%s is \"%s\", without \"%s\"", #a, a_, p_);             \
    } while (0)

#define TEST_MAIN                                                                               \
    int main(void)                                                                              \
    {                                                                                           \
        volatile int passed = 0, failed = 0;                                                    \
        for (test_case *volatile c = test_first; c; c = c->next) {                              \
            if (setjmp(test_door)) {                                                            \
                printf("FAIL %s\n", c->name);                                                   \
                failed++;                                                                       \
                continue;                                                                       \
            }                                                                                   \
            c->run();                                                                           \
            passed++;                                                                           \
        }                                                                                       \
        printf("%d passed, %d failed\n", passed, failed);                                       \
        return failed != 0;                                                                     \
    }

#endif
