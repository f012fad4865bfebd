/* Places of values: none lie over each other while they live, middles meet where that costs no memory, and what is
 * called free is. */
#include "engine/plan_memory.c"
#include "tests/test.h"

enum { MOST = 40, STEPS = 30 };

static eng_pvalue values[MOST], *places[MOST];
static eng_step steps[STEPS];
static eng_plan plan;

/* Value v takes `kib` KiB from step `first` to `last`. */
static void lives(int v, int64_t kib, int first, int last)
{
    values[v] = (eng_pvalue){.where = ENG_AT_SCRATCH, .first = first, .last = last};
    values[v].t = (eng_tensor){.dtype = ENG_UINT8, .rank = 1, .dims = {kib << 10}};
    places[v] = &values[v];
}

static void place(int n)
{
    static char memory[1 << 16];
    od_arena scratch;
    memset(steps, 0, sizeof steps);
    plan = (eng_plan){.values = places, .steps = steps, .n_values = n, .n_steps = STEPS};
    od_arena_init(&scratch, 0);
    od_arena_lend(&scratch, memory, sizeof memory);
    CHECK_OK(place_blocks(&plan, &scratch, &st));
    od_arena_fini(&scratch);
}

static int64_t end_of(int v) { return values[v].offset + values[v].t.dims[0]; }
static int64_t middle_of(int v) { return values[v].offset + values[v].t.dims[0] / 2; }

TEST(one_after_the_other_they_share_a_middle) {
    lives(0, 1024, 0, 1);
    lives(1, 512, 2, 3);
    lives(2, 256, 4, 5);
    place(3);
    CHECK_EQ(plan.scratch_bytes, 1024 << 10);
    CHECK_EQ(middle_of(1), middle_of(0));
    CHECK_EQ(middle_of(2), middle_of(0));
}

TEST(those_that_meet_have_middles_of_their_own) {
    lives(0, 1024, 0, 1);
    lives(1, 512, 1, 2);
    lives(2, 256, 2, 3);
    lives(3, 128, 3, 4);
    place(4);
    CHECK_EQ(plan.scratch_bytes, 1536 << 10);
    CHECK_EQ(middle_of(2), middle_of(0));
    CHECK_EQ(middle_of(3), middle_of(1));
}

TEST(no_memory_is_given_for_a_middle) {
    lives(0, 1024, 0, 0);
    lives(1, 512, 1, 1); /* around the middle it would leave no 512 KiB */
    lives(2, 512, 1, 1);
    place(3);
    CHECK_EQ(plan.scratch_bytes, 1024 << 10);
}

TEST(a_step_gets_the_largest_gap) {
    lives(0, 1024, 0, 0);
    lives(1, 256, 1, 1);
    place(2);
    CHECK_EQ(steps[0].free_bytes, 0);
    CHECK_EQ(steps[1].free_from, 0);
    CHECK_EQ(steps[1].free_bytes, 384 << 10);
    CHECK_EQ(steps[2].free_bytes, 1024 << 10); /* nothing lives */
}

TEST(nothing_lies_over_what_lives) {
    for (unsigned seed = 1; seed <= 300; seed++) {
        srand(seed);
        const int n = 1 + rand() % MOST;
        for (int v = 0; v < n; v++) {
            int first = rand() % STEPS, last = first + rand() % (STEPS - first);
            lives(v, 1 + rand() % (seed % 2 ? 100 : 1000), first, rand() % 8 ? last : STEPS);
        }
        place(n);
        for (int v = 0; v < n; v++) {
            CHECK(values[v].offset % 64 == 0 && end_of(v) <= (int64_t)plan.scratch_bytes);
            for (int u = 0; u < v; u++) {
                bool meet = values[u].first <= values[v].last && values[v].first <= values[u].last;
                CHECK(!meet || end_of(u) <= values[v].offset || end_of(v) <= values[u].offset);
            }
            for (int k = values[v].first; k <= values[v].last && k < STEPS; k++) {
                int64_t from = (int64_t)steps[k].free_from, to = from + (int64_t)steps[k].free_bytes;
                CHECK(from == to || end_of(v) <= from || to <= values[v].offset);
            }
        }
        for (int k = 0; k < STEPS; k++) CHECK(steps[k].free_from + steps[k].free_bytes <= plan.scratch_bytes);
    }
}

TEST_MAIN
