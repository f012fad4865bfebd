#include "engine/kernels/move.h"
#include "engine/base/cpu.h"
#include "engine/kernels/transpose.h"
#include "tests/test.h"

static uint32_t seed = 1;

static int64_t rnd(int64_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (int64_t)(seed >> 8) % n;
}

enum { ROOM = 1 << 20 };
static unsigned char from[ROOM], to[ROOM], want[ROOM];

static void fill(void)
{
    for (int i = 0; i < ROOM; i++) {
        from[i] = (unsigned char)(i * 131 + (i >> 8) * 7);
        to[i] = want[i] = 0xee;
    }
}

/* The definition: element by element. */
static void move_slowly(const eng_move *m, char *out)
{
    int64_t at[ENG_MOVE_RANK] = {0}, n = 1;
    for (int d = 0; d < m->rank; d++) n *= m->dims[d];
    for (int64_t i = 0; i < n; i++) {
        int64_t a = 0, b = 0;
        for (int d = 0; d < m->rank; d++) {
            a += at[d] * m->to_stride[d];
            b += at[d] * m->from_stride[d];
        }
        memcpy(out + a * (int64_t)m->size, (const char *)m->from + b * (int64_t)m->size, m->size);
        for (int d = m->rank - 1; d >= 0 && ++at[d] == m->dims[d]; d--) at[d] = 0;
    }
}

/* A random box whose axes lie in one random order in `to` and another in `from`, with gaps, repeats
 * and axes that run backwards. */
static eng_move random_move(int most, bool plain)
{
    static const size_t sizes[] = {1, 2, 4, 8, 16, 4, 4};
    eng_move m = {.to = to, .size = sizes[rnd((int64_t)OD_COUNT(sizes))]};
    int64_t rank = rnd(5), a = 1, b = 1, first = 0;
    bool used_a[8] = {false}, used_b[8] = {false};
    for (int d = 0; d < rank; d++) eng_move_axis(&m, rnd(9) ? 1 + rnd(most) : rnd(3), 0, 0);
    for (int d = 0; d < rank; d++) {
        int64_t p, q;
        do p = rnd(rank); while (used_a[p]);
        do q = rnd(rank); while (used_b[q]);
        used_a[p] = used_b[q] = true;
        m.to_stride[p] = a;
        m.from_stride[q] = b;
        a *= od_max_i64(1, m.dims[p]) + (plain || rnd(3) ? 0 : rnd(3));
        b *= od_max_i64(1, m.dims[q]) + (plain || rnd(3) ? 0 : rnd(3));
        if (plain || rnd(4)) continue;
        if (rnd(2)) {
            m.from_stride[q] = 0;
        } else if (m.dims[q]) {
            first += (m.dims[q] - 1) * m.from_stride[q];
            m.from_stride[q] = -m.from_stride[q];
        }
    }
    m.from = from + first * (int64_t)m.size;
    if (a * (int64_t)m.size > ROOM || b * (int64_t)m.size > ROOM) m.dims[0] = 0;
    return m;
}

static bool is_right(const eng_move *m, od_pool *pool)
{
    fill();
    move_slowly(m, (char *)want);
    eng_move_run(m, pool);
    return !memcmp(to, want, ROOM);
}

TEST(any_box_arrives_element_by_element) {
    for (int i = 0; i < 1500; i++) {
        eng_move m = random_move(i % 2 ? 5 : 20, false);
        CHECK(is_right(&m, NULL));
    }
}

TEST(permutations_arrive_in_parallel_too) {
    od_pool *pool;
    bool right = true;
    CHECK_OK(od_pool_create(&pool, 2, &st));
    for (int i = 0; i < 500 && right; i++) {
        eng_move m = random_move(40, true);
        right = is_right(&m, pool);
    }
    od_pool_destroy(pool);
    CHECK(right);
}

TEST(large_transposes_and_few_channels_are_right) {
    static const int64_t shapes[][2] = {{3, 5000}, {5000, 3}, {2, 777}, {777, 2}, {4, 999}, {1000, 4}, {130, 70}, {64, 64}, {257, 129}};
    for (size_t i = 0; i < OD_COUNT(shapes); i++)
        for (size_t size = 1; size <= 16; size *= 2) {
            int64_t r = shapes[i][0], c = shapes[i][1];
            eng_move m = {.to = to, .from = from, .size = size};
            eng_move_axis(&m, r, 1, c);
            eng_move_axis(&m, c, r, 1);
            CHECK(is_right(&m, NULL));
        }
}

TEST(elements_of_any_size_are_moved) {
    for (size_t size = 3; size < 400; size += 7) {
        eng_move m = {.to = to, .from = from, .size = size};
        eng_move_axis(&m, 7, 1, 11);
        eng_move_axis(&m, 11, 7, 1);
        CHECK(is_right(&m, NULL));
    }
}

TEST(one_long_run_is_copied_whole) {
    eng_move m = {.to = to, .from = from, .size = 4};
    eng_move_axis(&m, ROOM / 4, 1, 1);
    CHECK(is_right(&m, NULL));
    fill();
    eng_move_bytes(to, from, ROOM - 3, NULL);
    CHECK(!memcmp(to, from, ROOM - 3));
    CHECK_EQ(to[ROOM - 3], 0xee);
}

TEST(variants_agree_on_ragged_squares) {
    if (!(od_cpu_isa() & OD_ISA_AVX2)) return;
    for (int i = 0; i < 300; i++) {
        int64_t rows = 1 + rnd(40), cols = 1 + rnd(40), size = 1 << i % 5, to_row = (rows + rnd(3)) * size,
                from_row = (cols + rnd(3)) * size;
        fill();
        eng_transposes_ref.by_log2[i % 5]((char *)want, to_row, (char *)from, from_row, rows, cols);
        eng_transposes_avx2.by_log2[i % 5]((char *)to, to_row, (char *)from, from_row, rows, cols);
        CHECK(!memcmp(to, want, ROOM));
    }
}

TEST_MAIN
