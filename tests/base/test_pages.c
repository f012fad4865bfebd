#include "engine/base/pages.h"
#include "tests/test.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

TEST(pages_are_cleared_and_large_blocks_begin_at_a_large_page)
{
    for (size_t size = 1; size < (size_t)9 * MIB; size = size * 3 + 7) {
        char *p = od_pages_alloc(size);
        CHECK(p != NULL);
        CHECK_EQ((uintptr_t)p % (size >= 2 * MIB ? 2 * MIB : 4096), 0);
        CHECK_EQ(p[0] | p[size / 2] | p[size - 1], 0);
        p[0] = p[size - 1] = 1; /* the last byte is ours */
        od_pages_free(p, size);
    }
}

TEST(sizes_that_cannot_be_are_refused)
{
    CHECK(od_pages_alloc(0) == NULL);
    CHECK(od_pages_alloc(SIZE_MAX) == NULL);
    CHECK(od_block_alloc(SIZE_MAX - 4096) == NULL);
}

TEST(whole_pages_that_are_dropped_read_as_zeros_and_their_neighbours_stay)
{
    char *p = od_pages_alloc(4 * 4096);
    memset(p, 1, 4 * 4096);
    od_pages_drop(p + 100, 2 * 4096); /* covers one page wholly */
    CHECK_EQ(p[4095], 1);
    CHECK_EQ(p[4096], 0);
    CHECK_EQ(p[2 * 4096 - 1], 0);
    CHECK_EQ(p[2 * 4096], 1);
    od_pages_free(p, 4 * 4096);
}

/* Could a byte be read there? */
static bool readable(const char *p)
{
    int ends[2];
    CHECK(!pipe(ends));
    ssize_t n = write(ends[1], p, 1);
    CHECK(n == 1 || errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return n == 1;
}

TEST(whole_pages_are_guarded_and_their_neighbours_are_not)
{
    char *p = od_pages_alloc(4 * 4096);
    od_pages_guard(p + 100, 2 * 4096, true); /* covers one page wholly */
    CHECK(readable(p + 4095) && readable(p + 2 * 4096));
    CHECK(!readable(p + 4096) && !readable(p + 2 * 4096 - 1));
    od_pages_guard(p + 100, 2 * 4096, false);
    CHECK(readable(p + 4096));
    p[4096] = 1;
    od_pages_free(p, 4 * 4096);
}

TEST(parts_that_begin_between_large_pages_are_filled_too)
{
    size_t size = 5 * MIB;
    char *p = od_pages_alloc(size);
    od_pages_populate(p + MIB + 4096, 3 * MIB, 0, 3 * MIB);
    for (size_t i = 0; i < size; i += 4096) CHECK_EQ(p[i], 0);
    od_pages_free(p, size);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

TEST(filling_in_advance_and_moving_to_large_pages_change_no_byte)
{
    size_t size = 5 * MIB + 12345;
    char *p = od_pages_alloc(size);
    memset(p + 3 * MIB, 7, MIB);
    od_pages_populate(p, size, 0, size);
    od_pages_populate(p, size, size - 1, 1);
    od_pages_populate(p, size, 100, 0);
    od_pages_want_large(p, size);
    od_pages_enlarge(p, size, never, NULL);
    for (size_t i = 0; i < size; i += 511) CHECK_EQ(p[i], i >= 3 * MIB && i < 4 * MIB ? 7 : 0);
    p[size - 1] = 1;
    od_pages_free(p, size);
}

TEST(blocks_of_every_size_are_aligned)
{
    for (size_t size = 0; size < (size_t)9 * MIB; size = size * 2 + 33) {
        char *p = od_block_alloc(size);
        CHECK(p != NULL);
        CHECK_EQ((uintptr_t)p % 64, 0);
        if (size) p[size - 1] = 1;
        od_block_free(p, size);
    }
}

TEST_MAIN
