/* BMP and PNM for the engine's ImageDecoder. */
#include "loaders/image/operator.c"
#include "tests/test.h"

static od_arena arena;
static eng_tensor out;

static od_code try(const void *bytes, size_t size, int channels)
{
    /* a heap copy of the exact size, so that a read behind it is seen */
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    od_code rc = decode(copy, size, channels, &arena, &out, &st);
    free(copy);
    return rc;
}

/* Two rows of two pixels, 24 bits: rows are padded to 8 bytes. */
static const uint8_t bmp[70] = {'B', 'M', 70, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 24, 0,
                                [54] = 1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12};

TEST(a_bmp_is_read_from_the_bottom_up)
{
    static const uint8_t want[12] = {9, 8, 7, 12, 11, 10, 3, 2, 1, 6, 5, 4};
    uint8_t down[70];
    CHECK_OK(try(bmp, sizeof bmp, 3));
    CHECK(!memcmp(out.data, want, sizeof want));
    memcpy(down, bmp, sizeof bmp);
    memcpy(down + 22, (uint8_t[]){0xfe, 0xff, 0xff, 0xff}, 4); /* -2 rows */
    CHECK_OK(try(down, sizeof down, 3));
    CHECK(!memcmp(out.data, want + 6, 6));
    od_arena_reset(&arena);
}

TEST(a_bmp_that_lies_is_refused)
{
    uint8_t b[70];
    for (size_t n = 2; n < sizeof bmp; n++) CHECK(try(bmp, n, 3) != OD_OK);
    memcpy(b, bmp, sizeof b);
    memset(b + 10, 0xff, 4); /* pixels behind the end */
    CHECK_CODE(try(b, sizeof b, 3), OD_BAD_VALUE);
    memcpy(b, bmp, sizeof b);
    memcpy(b + 22, (uint8_t[]){0, 0, 0, 0x80}, 4);
    CHECK_CODE(try(b, sizeof b, 3), OD_TOO_LARGE);
    memcpy(b, bmp, sizeof b);
    b[28] = 8;
    CHECK_CODE(try(b, sizeof b, 3), OD_UNSUPPORTED);
    od_arena_fini(&arena);
}

TEST(a_pnm_may_have_comments_and_gray)
{
    static const char color[] = "P6 # a comment 9\n2 1\n255\nabcdef", gray[] = "P5\n2 1 255\nxy";
    CHECK_OK(try(color, sizeof color - 1, 3));
    CHECK(!memcmp(out.data, "abcdef", 6));
    CHECK_OK(try(gray, sizeof gray - 1, 1));
    CHECK(!memcmp(out.data, "xy", 2));
    CHECK_EQ(out.dims[1], 2);
    for (size_t n = 2; n < sizeof color - 1; n++) CHECK(try(color, n, 3) != OD_OK);
    CHECK_CODE(try("P6 99999999 99999999 255 ", 25, 3), OD_TOO_LARGE);
    CHECK(try("P6 -1 1 255 ", 12, 3) != OD_OK);
    od_arena_fini(&arena);
}

TEST(other_bytes_are_no_picture)
{
    CHECK_CODE(try("hello", 5, 3), OD_UNSUPPORTED);
    CHECK(try("", 0, 3) != OD_OK);
    od_arena_fini(&arena);
}

TEST_MAIN
