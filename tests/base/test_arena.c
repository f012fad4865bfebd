#include "engine/base/arena.h"
#include "tests/test.h"

static bool aligned_to(const void *p, size_t align)
{
    return ((uintptr_t)p & (align - 1)) == 0;
}

/* As the contract says for `size` bytes of numbers. */
static bool aligned(const void *p, size_t size)
{
    return aligned_to(p, size > 32 ? 64 : size > 16 ? 32 : size > 8 ? 16 : 8);
}

/* A small generator with a fixed seed, so that failures repeat. */
static uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

TEST(arenas_share_a_budget_and_give_back_what_they_took) {
    od_budget budget = {.limit = 1 << 20};
    od_arena a = {.budget = &budget}, b = {.budget = &budget};
    CHECK(od_arena_alloc(&a, 700 << 10));
    CHECK(!od_arena_alloc(&b, 700 << 10));
    CHECK(od_arena_alloc(&b, 100 << 10));
    CHECK_EQ(atomic_load(&budget.used), od_arena_bytes(&a) + od_arena_bytes(&b));
    od_arena_fini(&a);
    CHECK(od_arena_alloc(&b, 700 << 10));
    od_arena_fini(&b);
    CHECK_EQ(atomic_load(&budget.used), 0);
    CHECK(od_budget_take(NULL, SIZE_MAX));
}

TEST(a_zeroed_arena_is_a_valid_empty_one) {
    od_arena a = {0};
    CHECK_EQ(od_arena_bytes(&a), 0);
    od_arena_reset(&a);
    char *p = od_arena_alloc(&a, 10);
    CHECK(p && aligned(p, 10));
    memset(p, 1, 10);
    od_arena_fini(&a);
    od_arena_fini(&a);
    CHECK_EQ(od_arena_bytes(&a), 0);
}

TEST(pieces_are_aligned_and_apart) {
    enum { N = 2000 };
    static unsigned char *piece[N];
    static size_t size[N];
    od_arena a = {0};
    uint32_t seed = 1;
    for (int i = 0; i < N; i++) {
        size[i] = random_next(&seed) % (i % 50 ? 300 : 200000);
        piece[i] = od_arena_alloc(&a, size[i]);
        CHECK(piece[i] && aligned(piece[i], size[i]));
        memset(piece[i], i & 255, size[i]);
    }
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < size[i]; k++) CHECK(piece[i][k] == (i & 255));
    od_arena_fini(&a);
}

TEST(pieces_that_grow_from_reset_to_reset_do_not_pile_up) {
    od_budget budget = {.limit = 0};
    od_arena a = {.budget = &budget};
    size_t size = 0;
    for (int i = 1; i <= 100; i++) {
        od_arena_reset(&a);
        CHECK(od_arena_alloc(&a, 10));
        size = (size_t)i << 17;
        for (int k = 0; k < 3; k++) CHECK(od_arena_alloc(&a, size));
    }
    CHECK(od_arena_bytes(&a) < 6 * size); /* one of each would be a hundred and fifty times as much */
    CHECK_EQ(atomic_load(&budget.used), od_arena_bytes(&a));
    size_t held = od_arena_bytes(&a);
    od_arena_reset(&a);
    CHECK(od_arena_alloc(&a, 10));
    for (int k = 0; k < 3; k++) CHECK(od_arena_alloc(&a, size));
    CHECK_EQ(od_arena_bytes(&a), held); /* what repeats takes nothing */
    od_arena_fini(&a);
    CHECK_EQ(atomic_load(&budget.used), 0);
}

TEST(a_size_of_zero_gives_a_pointer_of_its_own) {
    od_arena a = {0};
    void *p = od_arena_alloc(&a, 0), *q = od_arena_alloc(&a, 0);
    CHECK(p && q && p != q);
    CHECK(od_arena_array(&a, int64_t, 0) != NULL);
    od_arena_fini(&a);
}

TEST(cleared_pieces_are_zero_also_where_memory_is_reused) {
    od_arena a = {0};
    memset(od_arena_alloc(&a, 1000), 0xff, 1000);
    od_arena_reset(&a);
    const char *p = od_arena_zalloc(&a, 1000);
    for (int i = 0; i < 1000; i++) CHECK(p[i] == 0);
    od_arena_reset(&a);
    memset(od_arena_alloc(&a, 1000), 0xff, 1000);
    od_arena_reset(&a);
    const int *n = od_arena_array(&a, int, 250);
    for (int i = 0; i < 250; i++) CHECK(n[i] == 0);
    od_arena_fini(&a);
}

TEST(sizes_that_overflow_give_null) {
    od_arena a = {0};
    CHECK(!od_arena_alloc(&a, SIZE_MAX));
    CHECK(!od_arena_alloc(&a, SIZE_MAX - 200));
    CHECK(!od_arena_zalloc(&a, SIZE_MAX));
    CHECK(!od_arena_calloc(&a, SIZE_MAX / 4, 8));
    CHECK(!od_arena_strdup(&a, "x", SIZE_MAX));
    volatile int64_t negative = -1;
    CHECK(!od_arena_array(&a, int64_t, negative));
    volatile int64_t huge = INT64_MAX;
    CHECK(!od_arena_array(&a, int64_t, huge));
    CHECK(od_arena_alloc(&a, 1) != NULL); /* and the arena stays usable */
    od_arena_fini(&a);
}

TEST(a_bound_is_kept_and_its_refusal_leaves_the_arena_usable) {
    od_arena a;
    od_arena_init(&a, 256 * 1024);
    CHECK(!od_arena_alloc(&a, 256 * 1024 + 1));
    CHECK_EQ(od_arena_bytes(&a), 0);
    int pieces = 0;
    while (od_arena_alloc(&a, 1024)) pieces++;
    CHECK(pieces >= 200 && pieces <= 256);
    CHECK(od_arena_bytes(&a) <= 256 * 1024);
    od_arena_reset(&a);
    CHECK(od_arena_alloc(&a, 1024) != NULL);
    od_arena_fini(&a);
    CHECK_EQ(a.limit, 256 * 1024); /* the bound outlives fini */
    CHECK(od_arena_alloc(&a, 200 * 1024) != NULL);
    od_arena_fini(&a);
}

TEST(work_that_repeats_takes_nothing_more_from_the_heap) {
    od_arena a = {0};
    size_t after_first = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 40; i++) {
            size_t size = i % 7 == 0 ? 300000 : 5000; /* large pieces make small chunks be skipped */
            CHECK(od_arena_alloc(&a, size) != NULL);
        }
        if (round == 0) after_first = od_arena_bytes(&a);
        CHECK_EQ(od_arena_bytes(&a), after_first);
        od_arena_reset(&a);
    }
    od_arena_fini(&a);
}

TEST(marks_nest) {
    od_arena a = {0};
    od_arena_mark start = od_arena_save(&a);
    char *kept = od_arena_strdup(&a, "kept", 4);
    od_arena_mark outer = od_arena_save(&a);
    void *first = od_arena_alloc(&a, 500);
    od_arena_mark inner = od_arena_save(&a);
    for (int i = 0; i < 10; i++) CHECK(od_arena_alloc(&a, 100000) != NULL); /* over several chunks */
    od_arena_rewind(&a, inner);
    void *again = od_arena_alloc(&a, 500);
    od_arena_rewind(&a, inner);
    CHECK(od_arena_alloc(&a, 500) == again);
    od_arena_rewind(&a, outer);
    CHECK(od_arena_alloc(&a, 500) == first);
    CHECK_STR(kept, "kept");
    od_arena_rewind(&a, start); /* a mark of the empty arena */
    CHECK(od_arena_alloc(&a, 4) == (void *)kept);
    od_arena_fini(&a);
}

TEST(lent_bytes_serve_large_pieces_while_they_last) {
    static _Alignas(64) char lent[3 * OD_LENT_MIN];
    od_arena a = {0};
    od_arena_mark start = od_arena_save(&a);
    od_arena_lend(&a, lent, sizeof lent);
    char *small = od_arena_alloc(&a, OD_LENT_MIN - 1);
    CHECK(small < lent || small >= lent + sizeof lent);
    CHECK(od_arena_alloc(&a, OD_LENT_MIN + 1) == lent);
    od_arena_mark mark = od_arena_save(&a);
    char *second = od_arena_alloc(&a, OD_LENT_MIN);
    CHECK(second == lent + OD_LENT_MIN + 64);
    char *third = od_arena_alloc(&a, OD_LENT_MIN); /* does not fit */
    CHECK(third < lent || third >= lent + sizeof lent);
    od_arena_rewind(&a, mark);
    CHECK(od_arena_alloc(&a, OD_LENT_MIN) == second);
    od_arena_rewind(&a, start);
    CHECK(od_arena_alloc(&a, 3 * OD_LENT_MIN) == lent);
    od_arena_lend(&a, NULL, 0);
    char *none = od_arena_alloc(&a, OD_LENT_MIN);
    CHECK(none && (none < lent || none >= lent + sizeof lent));
    od_arena_fini(&a);
}

TEST(structures_lie_close_and_aligned) {
    typedef struct pair { int64_t a, b, c; } pair;
    od_arena a = {0};
    od_arena_strdup(&a, "x", 1);
    pair *first = od_arena_array(&a, pair, 1), *second = od_arena_array(&a, pair, 1);
    CHECK(aligned_to(first, 16) && (char *)second - (char *)first == 32);
    od_arena_fini(&a);
}

TEST(a_copied_string_ends_in_zero_and_may_hold_zeros) {
    od_arena a = {0};
    const char *s = od_arena_strdup(&a, "ab\0cdef", 5);
    CHECK(!memcmp(s, "ab\0cd\0", 6));
    CHECK_STR(od_arena_strdup(&a, NULL, 0), "");
    od_arena_fini(&a);
}

TEST(random_use_with_marks_never_mixes_pieces) {
    enum { N = 400 };
    static unsigned char *piece[N];
    static size_t size[N];
    static od_arena_mark mark[N];
    od_arena a = {0};
    uint32_t seed = 7;
    int n = 0;
    for (int step = 0; step < 20000; step++) {
        if (n == N || (n && random_next(&seed) % 8 == 0)) {
            int back = n - (int)(random_next(&seed) % (uint32_t)n) - 1;
            for (int i = back; i < n; i++)
                for (size_t k = 0; k < size[i]; k += 997) CHECK(piece[i][k] == (i & 255));
            n = back;
            od_arena_rewind(&a, mark[n]);
            continue;
        }
        mark[n] = od_arena_save(&a);
        size[n] = random_next(&seed) % (random_next(&seed) % 16 ? 2000 : 150000);
        piece[n] = od_arena_alloc(&a, size[n]);
        CHECK(piece[n] && aligned(piece[n], size[n]));
        memset(piece[n], n & 255, size[n]);
        n++;
    }
    od_arena_fini(&a);
}

TEST_MAIN
