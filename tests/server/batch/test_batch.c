/* Batching: grouping, limits, deadlines, priorities, cancelling, errors that stay with their job. */
#include "server/batch/batch.h"
#include "engine/base/cpu.h"
#include "engine/base/threads.h"
#include "tests/server/batch/nets.h"

#include <pthread.h>
#include <time.h>

enum { JOBS = 200 };

typedef struct work {
    srv_job job;
    od_arena arena;
    eng_tensor in;
    float x[64];
    int64_t done_at;
} work;

static od_pool *pool;
static eng_model *model;
static srv_batcher *batcher;
static work works[JOBS];
static atomic_int finished;
static atomic_int order;
static atomic_bool gate_shut;

static void sleep_us(long us)
{
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

static void on_done(srv_job *job)
{
    work *w = job->arg;
    w->done_at = atomic_fetch_add(&order, 1);
    atomic_fetch_add(&finished, 1);
}

static void prepare(work *w, int64_t rows, int64_t width, int seed)
{
    od_arena_fini(&w->arena);
    *w = (work){.in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {rows, width}, .data = w->x}};
    for (int64_t i = 0; i < rows * width; i++) w->x[i] = (float)((seed * 31 + (int)i * 17) % 23 - 11) / 8.0f;
    w->job = (srv_job){.inputs = &w->in, .arena = &w->arena, .done = on_done, .arg = w};
}

static void wait_for(int count)
{
    int64_t until = od_now_ns() + 20000000000;
    while (atomic_load(&finished) < count) {
        CHECK(od_now_ns() < until);
        sleep_us(200);
    }
}

static atomic_int held;

static void hold_worker(void *arg)
{
    (void)arg;
    atomic_fetch_add(&held, 1);
    while (atomic_load(&gate_shut)) sleep_us(100);
}

/* All workers wait until the gate opens, so that jobs gather in the queue. */
static void shut_gate(void)
{
    int workers = od_pool_slots(pool) - 1;
    atomic_store(&held, 0);
    atomic_store(&gate_shut, true);
    for (int i = 0; i < workers; i++) CHECK(od_pool_submit_ahead(pool, hold_worker, NULL));
    while (atomic_load(&held) < workers) sleep_us(100);
}

static void open_gate(void)
{
    atomic_store(&gate_shut, false);
}

static void start(eng_model *m, srv_batch_options o, int workers)
{
    atomic_store(&finished, 0);
    atomic_store(&order, 0);
    model = m;
    CHECK_OK(od_pool_create(&pool, workers, &st));
    CHECK_OK(srv_batcher_create(&batcher, m, pool, &o, &st));
}

static void end(void)
{
    srv_batcher_destroy(batcher);
    od_pool_destroy(pool);
    eng_model_destroy(model);
    for (int i = 0; i < JOBS; i++) od_arena_fini(&works[i].arena);
    memset(works, 0, sizeof works);
    batcher = NULL;
}

/* The answer to w's input from a session of its own. */
static void check_answer(const work *w)
{
    eng_session *s = NULL;
    eng_tensor out;
    CHECK_OK(eng_session_create(&s, model, NULL, 0, &st));
    CHECK_OK(eng_session_run(s, &w->in, &out, &st));
    CHECK_EQ(w->job.st.code, OD_OK);
    CHECK(eng_dims_equal(&out, &w->job.outputs[0]));
    /* to the bit, but where a product of one row has a kernel of its own */
    for (int64_t i = 0; i < eng_tensor_count(&out); i++)
        CHECK_NEAR(((float *)w->job.outputs[0].data)[i], ((float *)out.data)[i], 1e-6);
    eng_session_destroy(s);
}

static void submit(int i)
{
    CHECK_OK(srv_batcher_submit(batcher, &works[i].job, &st));
}

TEST(waiting_jobs_run_together_and_each_gets_the_answer_of_its_single_run)
{
    start(net_dense(-1, 16, 3), (srv_batch_options){.max_batch_size = 8}, 2);
    CHECK_EQ(srv_batcher_rows(batcher), 8);
    shut_gate();
    for (int i = 0; i < 40; i++) {
        prepare(&works[i], 1 + i % 3, 16, i);
        submit(i);
    }
    open_gate();
    wait_for(40);
    for (int i = 0; i < 40; i++) check_answer(&works[i]);
    srv_batch_stats s;
    srv_batcher_stats(batcher, &s);
    CHECK_EQ(s.accepted, 40);
    CHECK_EQ(s.succeeded, 40);
    CHECK_EQ(s.rows, 79);
    CHECK(s.runs < 30);
    CHECK_EQ(s.waiting + s.running, 0);
    end();
}

TEST(a_job_that_is_alone_does_not_wait)
{
    start(net_dense(-1, 16, 3), (srv_batch_options){.max_batch_size = 8}, 2);
    for (int i = 0; i < 20; i++) {
        prepare(&works[i], 1, 16, i);
        submit(i);
        wait_for(i + 1);
        CHECK_EQ(works[i].job.batch_rows, 1);
        check_answer(&works[i]);
    }
    end();
}

TEST(a_delay_lets_jobs_gather_and_is_kept)
{
    start(net_dense(-1, 16, 3), (srv_batch_options){.max_batch_size = 4, .max_queue_delay_us = 1000000}, 2);
    prepare(&works[0], 1, 16, 0);
    int64_t from = od_now_ns();
    submit(0);
    wait_for(1);
    CHECK(od_now_ns() - from >= 900000000);
    for (int i = 1; i < 5; i++) { /* a full batch starts at once */
        prepare(&works[i], 1, 16, i);
        submit(i);
    }
    wait_for(5);
    for (int i = 1; i < 5; i++) CHECK_EQ(works[i].job.batch_rows, 4);
    CHECK(works[1].job.queue_ns < 900000000);
    end();
}

TEST(a_fixed_first_extent_is_never_batched)
{
    start(net_dense(1, 16, 1), (srv_batch_options){.max_batch_size = 8}, 1);
    CHECK_EQ(srv_batcher_rows(batcher), 1);
    shut_gate();
    for (int i = 0; i < 10; i++) {
        prepare(&works[i], 1, 16, i);
        submit(i);
    }
    open_gate();
    wait_for(10);
    for (int i = 0; i < 10; i++) {
        check_answer(&works[i]);
        CHECK_EQ(works[i].job.batch_rows, 1);
    }
    end();
}

TEST(rows_that_depend_on_each_other_are_never_put_together)
{
    start(net_mixing_rows(), (srv_batch_options){.max_batch_size = 8}, 1);
    CHECK(!srv_batcher_can_batch(batcher));
    CHECK_EQ(srv_batcher_rows(batcher), 1);
    shut_gate();
    for (int i = 0; i < 6; i++) {
        prepare(&works[i], 1 + i % 2, 2, i);
        submit(i);
    }
    open_gate();
    wait_for(6);
    for (int i = 0; i < 6; i++) check_answer(&works[i]);
    end();
}

TEST(one_jobs_error_is_its_own)
{
    int64_t index[8];
    start(net_lookup(), (srv_batch_options){.max_batch_size = 8}, 1);
    CHECK(srv_batcher_can_batch(batcher));
    shut_gate();
    for (int i = 0; i < 8; i++) {
        prepare(&works[i], 1, 1, 0);
        index[i] = i == 5 ? 400 : i % 4;
        works[i].in = (eng_tensor){.dtype = ENG_INT64, .rank = 1, .dims = {1}, .data = &index[i]};
        submit(i);
    }
    open_gate();
    wait_for(8);
    for (int i = 0; i < 8; i++) {
        if (i == 5) continue;
        CHECK_EQ(works[i].job.st.code, OD_OK);
        CHECK_NEAR(*(float *)works[i].job.outputs[0].data, 10 + i % 4, 0);
    }
    CHECK_EQ(works[5].job.st.code, OD_BAD_VALUE);
    CHECK_HAS(works[5].job.st.msg, "400");
    srv_batch_stats s;
    srv_batcher_stats(batcher, &s);
    CHECK_EQ(s.failed, 1);
    CHECK_EQ(s.succeeded, 7);
    end();
}

TEST(outputs_that_nobody_wants_are_not_copied)
{
    static const bool none[] = {false};
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 8}, 1);
    prepare(&works[0], 1, 16, 0);
    works[0].job.wanted = none;
    submit(0);
    wait_for(1);
    CHECK_EQ(works[0].job.st.code, OD_OK);
    CHECK(!works[0].job.outputs[0].data);
    CHECK_EQ(works[0].job.outputs[0].dims[1], 8);
    end();
}

TEST(a_job_of_more_rows_than_a_batch_runs_alone)
{
    start(net_dense(-1, 4, 1), (srv_batch_options){.max_batch_size = 4}, 1);
    shut_gate();
    for (int i = 0; i < 4; i++) {
        prepare(&works[i], i == 1 ? 9 : 1, 4, i);
        submit(i);
    }
    open_gate();
    wait_for(4);
    for (int i = 0; i < 4; i++) check_answer(&works[i]);
    CHECK_EQ(works[1].job.batch_rows, 9);
    end();
}

TEST(inputs_that_do_not_fit_are_refused_at_once)
{
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 8}, 1);
    prepare(&works[0], 1, 16, 0);
    works[0].in.dims[1] = 8;
    CHECK_CODE(srv_batcher_submit(batcher, &works[0].job, &st), OD_BAD_SHAPE);
    end();
}

TEST(the_queue_is_bounded_and_places_count)
{
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 8, .max_queue = 5}, 1);
    shut_gate();
    CHECK_OK(srv_batcher_admit(batcher, 0, &st));
    for (int i = 0; i < 4; i++) {
        prepare(&works[i], 1, 16, i);
        submit(i);
    }
    prepare(&works[4], 1, 16, 4);
    CHECK_CODE(srv_batcher_submit(batcher, &works[4].job, &st), OD_BUSY);
    CHECK_HAS(st.msg, "queue size");
    CHECK_CODE(srv_batcher_admit(batcher, 0, &st), OD_BUSY);
    works[4].job.admitted = true;
    submit(4);
    CHECK_CODE(srv_batcher_has_room(batcher, 0, &st), OD_BUSY);
    open_gate();
    wait_for(5);
    for (int i = 0; i < 10; i++) CHECK_OK(srv_batcher_has_room(batcher, 0, &st)); /* which takes none */
    CHECK_OK(srv_batcher_admit(batcher, 0, &st));
    srv_batcher_leave(batcher);
    end();
}

TEST(jobs_past_their_deadline_are_dropped_even_while_all_workers_are_busy)
{
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 8, .timeout_us = 20000}, 1);
    shut_gate();
    for (int i = 0; i < 4; i++) prepare(&works[i], 1, 16, i);
    works[3].job.timeout_us = 10000000;
    for (int i = 0; i < 4; i++) submit(i);
    wait_for(3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(works[i].job.st.code, OD_TIMEOUT);
        CHECK_EQ(works[i].job.batch_rows, 0);
    }
    open_gate();
    wait_for(4);
    check_answer(&works[3]);
    end();
}

TEST(a_timeout_counts_from_when_the_request_came)
{
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 8, .timeout_us = 50000}, 1);
    shut_gate();
    prepare(&works[0], 1, 16, 0);
    CHECK_OK(srv_batcher_still_wanted(batcher, &works[0].job, &st));
    works[0].job.since_ns = od_now_ns() - 49000000;
    submit(0);
    wait_for(1);
    CHECK_EQ(works[0].job.st.code, OD_TIMEOUT);
    CHECK(works[0].job.queue_ns < 40000000);
    prepare(&works[1], 1, 16, 1);
    works[1].job.since_ns = od_now_ns() - 51000000;
    CHECK_CODE(srv_batcher_still_wanted(batcher, &works[1].job, &st), OD_TIMEOUT);
    atomic_store(&works[1].job.cancelled, true);
    CHECK_CODE(srv_batcher_still_wanted(batcher, &works[1].job, &st), OD_CANCELLED);
    open_gate();
    end();
}

TEST(cancelled_jobs_are_not_run_and_free_their_places)
{
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 8, .max_queue = 2}, 1);
    shut_gate();
    for (int i = 0; i < 3; i++) prepare(&works[i], 1, 16, i);
    submit(0);
    submit(1);
    atomic_store(&works[0].job.cancelled, true);
    submit(2);
    CHECK_EQ(works[0].job.st.code, OD_CANCELLED);
    open_gate();
    wait_for(3);
    check_answer(&works[1]);
    check_answer(&works[2]);
    srv_batch_stats s;
    srv_batcher_stats(batcher, &s);
    CHECK_EQ(s.cancelled, 1);
    CHECK_EQ(s.succeeded, 2);
    end();
}

/* The first look says that there is no room, the second, without those who are gone, that there is: no trace of the first is left, and
 * each place that was given can be given back. */
TEST(a_place_of_who_is_gone_is_given_without_an_error)
{
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 8, .max_queue = 2}, 1);
    shut_gate();
    for (int i = 0; i < 2; i++) prepare(&works[i], 1, 16, i), submit(i);
    for (int i = 0; i < 2; i++) atomic_store(&works[i].job.cancelled, true);
    for (int i = 0; i < 2; i++) {
        st = (od_status){0};
        CHECK_OK(srv_batcher_admit(batcher, 0, &st));
        CHECK(st.code == OD_OK && !st.msg[0]);
    }
    CHECK_CODE(srv_batcher_admit(batcher, 0, &st), OD_BUSY);
    for (int i = 0; i < 2; i++) srv_batcher_leave(batcher);
    CHECK_EQ(srv_batcher_delay_us(batcher), 0);
    open_gate();
    wait_for(2);
    end();
}

/* When all who waited went away, the time until the next one comes is no part of the pace. */
TEST(a_pause_is_not_taken_for_slowness)
{
    enum { PAUSE_US = 300000 };
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 1}, 1);
    shut_gate();
    for (int i = 0; i < 2; i++) prepare(&works[i], 1, 16, i), submit(i);
    prepare(&works[2], 1, 16, 2);
    CHECK_OK(srv_batcher_admit(batcher, 0, &st)); /* somebody is there when the last run ends */
    open_gate();
    wait_for(2);
    srv_batcher_leave(batcher);
    sleep_us(PAUSE_US);
    submit(2);
    wait_for(3);
    CHECK_OK(srv_batcher_admit(batcher, 0, &st));
    CHECK(srv_batcher_delay_us(batcher) < PAUSE_US / 10);
    srv_batcher_leave(batcher);
    end();
}

TEST(priorities_go_first_but_age_counts)
{
    start(net_dense(1, 16, 1), (srv_batch_options){.max_batch_size = 1}, 1);
    shut_gate();
    prepare(&works[0], 1, 16, 0);
    works[0].job.priority = 2;
    submit(0);
    sleep_us(SRV_PRIORITY_STEP_MS * 1000 + 50000);
    for (int i = 1; i < 6; i++) {
        prepare(&works[i], 1, 16, i);
        works[i].job.priority = i == 5 ? 1 : i == 4 ? 3 : 0;
        submit(i);
    }
    open_gate();
    wait_for(6);
    CHECK_EQ(works[0].done_at, 0); /* waited for longer than the one level that it is behind */
    CHECK_EQ(works[5].done_at, 1);
    CHECK_EQ(works[4].done_at, 2);
    CHECK_EQ(works[1].done_at, 3);
    end();
}

TEST(a_quick_model_can_run_on_the_callers_thread)
{
    start(net_dense(-1, 16, 1), (srv_batch_options){.max_batch_size = 8}, 1);
    prepare(&works[0], 1, 16, 3);
    CHECK(srv_batcher_run_now(batcher, &works[0].job));
    check_answer(&works[0]);
    CHECK_EQ(atomic_load(&finished), 0);
    shut_gate();
    prepare(&works[1], 1, 16, 4);
    prepare(&works[2], 1, 16, 5);
    submit(1);
    CHECK(!srv_batcher_run_now(batcher, &works[2].job)); /* others wait already */
    open_gate();
    wait_for(1);
    end();
}

typedef struct client {
    pthread_t thread;
    int from, to;
} client;

static void *client_main(void *arg)
{
    client *c = arg;
    for (int i = c->from; i < c->to; i++) {
        od_status own = {0};
        if (srv_batcher_submit(batcher, &works[i].job, &own) != OD_OK) abort();
        if (i % 7 == 0) atomic_store(&works[i].job.cancelled, true);
        if (i % 11 == 0) sleep_us(100);
    }
    return NULL;
}

TEST(many_threads_submit_and_every_job_is_done_once_before_destroy_returns)
{
    for (int round = 0; round < 5; round++) {
        client clients[4];
        start(net_dense(-1, 16, 2), (srv_batch_options){.max_batch_size = 8, .max_queue_delay_us = round % 2 * 300}, 1 + round % 3);
        for (int i = 0; i < JOBS; i++) prepare(&works[i], 1 + i % 4, 16, i);
        for (int c = 0; c < 4; c++) {
            clients[c] = (client){.from = c * JOBS / 4, .to = (c + 1) * JOBS / 4};
            CHECK(!pthread_create(&clients[c].thread, NULL, client_main, &clients[c]));
        }
        for (int c = 0; c < 4; c++) pthread_join(clients[c].thread, NULL);
        srv_batcher_destroy(batcher);
        batcher = NULL;
        CHECK_EQ(atomic_load(&finished), JOBS);
        for (int i = 0; i < JOBS; i++)
            if (i % 7) check_answer(&works[i]);
        end();
    }
}

TEST_MAIN
