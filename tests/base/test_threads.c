#include "engine/base/threads.h"
#include "engine/base/cpu.h"
#include "tests/test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

static od_pool *pool_of(int workers)
{
    od_pool *p = NULL;
    CHECK_OK(od_pool_create(&p, workers, &st));
    return p;
}

enum { SLOTS = 16, MOST = 5000 };

typedef struct count_work {
    int seen[MOST]; /* plain ints: od_pool_for must make them visible to its caller */
    atomic_int in_slot[SLOTS];
    atomic_bool shared_slot, bad_slot;
    int slots;
} count_work;

static void count_chunk(void *arg, int64_t chunk, int slot)
{
    count_work *w = arg;
    if (slot < 0 || slot >= w->slots) {
        atomic_store(&w->bad_slot, true);
        return;
    }
    if (atomic_fetch_add(&w->in_slot[slot], 1)) atomic_store(&w->shared_slot, true);
    w->seen[chunk]++;
    atomic_fetch_sub(&w->in_slot[slot], 1);
}

static void check_region(od_pool *p, int64_t chunks)
{
    static _Thread_local count_work w;
    memset(&w, 0, sizeof w);
    w.slots = od_pool_slots(p);
    od_pool_for(p, chunks, count_chunk, &w);
    CHECK(!atomic_load(&w.bad_slot));
    CHECK(!atomic_load(&w.shared_slot));
    for (int64_t i = 0; i < MOST; i++) CHECK_EQ(w.seen[i], i < chunks);
}

TEST(each_chunk_runs_exactly_once_with_any_number_of_workers) {
    for (int workers = 0; workers <= 5; workers++) {
        od_pool *p = pool_of(workers);
        CHECK_EQ(od_pool_slots(p), workers + 1);
        for (int64_t chunks = 0; chunks < 20; chunks++) check_region(p, chunks);
        check_region(p, MOST);
        od_pool_destroy(p);
    }
}

TEST(no_pool_means_the_caller_does_all) {
    check_region(NULL, 100);
    CHECK_EQ(od_pool_slots(NULL), 1);
    CHECK_EQ(od_pool_idle(NULL), 0);
    od_pool_destroy(NULL);
}

TEST(a_negative_number_of_chunks_is_no_work) {
    od_pool *p = pool_of(1);
    od_pool_for(p, -3, count_chunk, NULL);
    od_pool_destroy(p);
}

TEST(absurd_numbers_of_workers_are_refused) {
    od_pool *p = NULL;
    CHECK_CODE(od_pool_create(&p, -1, &st), OD_BAD_ARGUMENT);
    CHECK_HAS(st.msg, "-1 worker");
    CHECK_CODE(od_pool_create(&p, 1025, &st), OD_BAD_ARGUMENT);
    CHECK(p == NULL);
}

TEST(short_regions_in_a_row_lose_nothing) {
    od_pool *p = pool_of(3);
    for (int i = 0; i < 3000; i++) {
        count_work w = {.slots = 4};
        od_pool_for(p, 1 + i % 9, count_chunk, &w);
        for (int k = 0; k < 9; k++) CHECK_EQ(w.seen[k], k < 1 + i % 9);
    }
    od_pool_destroy(p);
}

typedef struct meeting {
    atomic_int inside;
    int slot[2], cpu[2]; /* by chunk */
} meeting;

/* Both chunks must run at the same time. */
static void meet_chunk(void *arg, int64_t chunk, int slot)
{
    meeting *m = arg;
    m->slot[chunk] = slot;
    m->cpu[chunk] = sched_getcpu();
    atomic_fetch_add(&m->inside, 1);
    while (atomic_load(&m->inside) < 2) sched_yield();
}

TEST(a_thread_begins_with_its_own_share) {
    od_pool *p = pool_of(1);
    for (int i = 0; i < 200; i++) {
        meeting m = {0};
        od_pool_for(p, 2, meet_chunk, &m);
        CHECK_EQ(m.slot[0], 0);
        CHECK_EQ(m.slot[1], 1);
    }
    od_pool_destroy(p);
}

TEST(a_worker_runs_on_another_processor_than_who_gives_it_work) {
    cpu_set_t all, one;
    CHECK(!sched_getaffinity(0, sizeof all, &all));
    if (CPU_COUNT(&all) < 2) return;
    od_pool *p = pool_of(1);
    for (int round = 0; round < 20; round++) {
        for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &all)) continue;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            CHECK(!sched_setaffinity(0, sizeof one, &one));
            meeting m = {0};
            od_pool_hold(p);
            od_pool_for(p, 2, meet_chunk, &m);
            od_pool_release(p);
            CHECK_EQ(m.cpu[0], (int)cpu);
            CHECK(m.cpu[1] != (int)cpu);
        }
    }
    CHECK(!sched_setaffinity(0, sizeof all, &all));
    od_pool_destroy(p);
}

typedef struct owner {
    od_pool *pool;
    pthread_t thread;
    int64_t wrong;
} owner;

static void add_chunk(void *arg, int64_t chunk, int slot)
{
    (void)slot;
    atomic_fetch_add((atomic_llong *)arg, chunk);
}

static void *own_regions(void *arg)
{
    owner *o = arg;
    for (int i = 0; i < 1000; i++) {
        atomic_llong sum = 0;
        int64_t n = 1 + i % 40;
        od_pool_for(o->pool, n, add_chunk, &sum);
        if (atomic_load(&sum) != n * (n - 1) / 2) o->wrong++;
    }
    return NULL;
}

TEST(many_owners_share_one_pool) {
    enum { OWNERS = 8 };
    owner o[OWNERS];
    od_pool *p = pool_of(3);
    for (int i = 0; i < OWNERS; i++) {
        o[i] = (owner){.pool = p};
        CHECK(!pthread_create(&o[i].thread, NULL, own_regions, &o[i]));
    }
    for (int i = 0; i < OWNERS; i++) pthread_join(o[i].thread, NULL);
    for (int i = 0; i < OWNERS; i++) CHECK_EQ(o[i].wrong, 0);
    od_pool_destroy(p);
}

typedef struct gate {
    od_pool *pool;
    atomic_int inside;
    atomic_bool open;
    atomic_llong sum;
} gate;

static void wait_chunk(void *arg, int64_t chunk, int slot)
{
    gate *g = arg;
    (void)slot;
    if (chunk == 0) atomic_fetch_add(&g->inside, 1);
    while (!atomic_load(&g->open)) sleep_ms(1);
    atomic_fetch_add(&g->sum, chunk);
}

static void *own_gated(void *arg)
{
    gate *g = arg;
    od_pool_for(g->pool, 3, wait_chunk, g);
    return NULL;
}

TEST(more_regions_than_the_pool_can_hold_still_run) {
    enum { OWNERS = 80 };
    static pthread_t t[OWNERS];
    gate g = {.pool = pool_of(2)};
    for (int i = 0; i < OWNERS; i++) CHECK(!pthread_create(&t[i], NULL, own_gated, &g));
    for (int i = 0; i < 5000 && atomic_load(&g.inside) < OWNERS; i++) sleep_ms(1);
    CHECK_EQ(atomic_load(&g.inside), OWNERS);
    atomic_store(&g.open, true);
    for (int i = 0; i < OWNERS; i++) pthread_join(t[i], NULL);
    CHECK_EQ(atomic_load(&g.sum), OWNERS * 3);
    od_pool_destroy(g.pool);
}

static void add_one(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

TEST(destroy_finishes_the_tasks_that_are_queued) {
    for (int round = 0; round < 20; round++) {
        atomic_int done = 0;
        od_pool *p = pool_of(1 + round % 3);
        for (int i = 0; i < 200; i++) CHECK(od_pool_submit(p, add_one, &done));
        od_pool_destroy(p);
        CHECK_EQ(atomic_load(&done), 200);
    }
}

TEST(without_workers_no_task_is_taken) {
    atomic_int done = 0;
    od_pool *p = pool_of(0);
    CHECK(!od_pool_submit(p, add_one, &done));
    CHECK(!od_pool_submit(NULL, add_one, &done));
    od_pool_destroy(p);
    CHECK_EQ(atomic_load(&done), 0);
}

typedef struct nested {
    od_pool *pool;
    atomic_int done;
    atomic_llong sum;
} nested;

static void region_in_task(void *arg)
{
    nested *n = arg;
    atomic_llong sum = 0;
    od_pool_for(n->pool, 10, add_chunk, &sum);
    atomic_fetch_add(&n->sum, atomic_load(&sum));
    atomic_fetch_add(&n->done, 1);
}

TEST(tasks_may_own_regions) {
    nested n = {.pool = pool_of(3)};
    for (int i = 0; i < 500; i++) CHECK(od_pool_submit(n.pool, region_in_task, &n));
    for (int i = 0; i < 10000 && atomic_load(&n.done) < 500; i++) sleep_ms(1);
    CHECK_EQ(atomic_load(&n.done), 500);
    CHECK_EQ(atomic_load(&n.sum), 500 * 45);
    od_pool_destroy(n.pool);
}

static double cpu_seconds(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

TEST(an_idle_pool_sleeps_and_wakes_again) {
    od_pool *p = pool_of(4);
    check_region(p, 100);
    sleep_ms(100);
    CHECK_EQ(od_pool_idle(p), 4);
    double before = cpu_seconds();
    sleep_ms(300);
    CHECK(cpu_seconds() - before < 0.05); /* 4 spinning workers would use 0.3 and more */
    check_region(p, 100);
    od_pool_destroy(p);
}

/* Gaps of random length make workers pass through spinning, falling asleep and waking. */
TEST(no_wake_up_is_lost) {
    od_pool *p = pool_of(2);
    atomic_int done = 0;
    for (int i = 0; i < 300; i++) {
        CHECK(od_pool_submit(p, add_one, &done));
        int64_t gap = od_now_ns() + (i * 7919 % 200) * 1000;
        while (od_now_ns() < gap) {}
        int waited = 0;
        while (atomic_load(&done) <= i && waited++ < 5000) sleep_ms(1);
        CHECK_EQ(atomic_load(&done), i + 1);
    }
    od_pool_destroy(p);
}

static atomic_int turn, turns[64];
static atomic_bool hold, begun;

static void take_turn(void *arg)
{
    atomic_store(&begun, true);
    while (atomic_load(&hold)) sleep_ms(1);
    int at = atomic_fetch_add(&turn, 1);
    if (at < 64) atomic_store(&turns[at], (int)(intptr_t)arg);
}

TEST(tasks_ahead_start_first_and_do_not_starve_the_others) {
    od_pool *p = pool_of(1);
    atomic_store(&turn, 0);
    atomic_store(&hold, true);
    CHECK(od_pool_submit(p, take_turn, (void *)9));
    while (!atomic_load(&begun)) sleep_ms(1);
    for (int i = 0; i < 4; i++) CHECK(od_pool_submit(p, take_turn, (void *)1));
    for (int i = 0; i < 12; i++) CHECK(od_pool_submit_ahead(p, take_turn, (void *)2));
    atomic_store(&hold, false);
    od_pool_destroy(p);
    CHECK_EQ(atomic_load(&turn), 17);
    for (int i = 1; i <= 4; i++) CHECK_EQ(atomic_load(&turns[i]), 2);
    CHECK_EQ(atomic_load(&turns[5]), 1);
    for (int i = 6; i <= 9; i++) CHECK_EQ(atomic_load(&turns[i]), 2);
    CHECK_EQ(atomic_load(&turns[10]), 1);
}

TEST_MAIN
