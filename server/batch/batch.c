#include "server/batch/batch.h"
#include "engine/base/cpu.h"
#include "engine/base/threads.h"
#include "server/batch/runner.h"
#include "server/batch/timer.h"
#include "server/batch/warmup.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIZES_MAX = 64,     /* different numbers of rows that are told apart in the statistics */
    NOW_NS = 100000,    /* a run that takes no longer may be made on the caller's thread while no other goes on */
    ALWAYS_NS = 20000,  /* and one that takes no longer, always: to hand it over costs as much */
    QUEUE_DEFAULT = 1000,
    KEEP_BYTES = 64 << 20, /* a session may hold that much between runs, or four times what warming up took */
    TICK_NS = 1000000   /* deadlines in the queue are noticed with this much delay at most */
};

struct srv_batcher {
    eng_model *model;
    od_pool *pool;
    srv_batch_options o;
    srv_warmup warm;
    int max_tasks; /* workers */
    srv_timer timer;
    atomic_uint_least64_t answer_ns;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t quiet;
    srv_job *head, *tail; /* waiting, by order_ns */
    int64_t n_waiting, waiting_rows, admitted;
    int tasks;            /* given to the pool and not at their end */
    int summoned;         /* of these, not yet started, in front of the pool's line */
    bool lazy;            /* one is in the pool's line behind work that makes company for the jobs that wait */
    int here;             /* runs on callers' threads */
    int64_t wake_ns;      /* what the timer is armed for; 0: nothing */
    bool closing;
    srv_runner *runners[2]; /* idle ones; [1]: without the pool, for runs so short that to wake a worker costs more than it does */
    size_t runner_bytes;  /* of idle ones, when they were last put back */

    double pace_ns;       /* from one row's end to the next one's while there is a queue */
    int64_t last_end_ns;
    bool had_queue;       /* when the last run ended */
    srv_batch_stats stats;
    srv_batch_size_stats sizes[SIZES_MAX];
    int n_sizes;
};

/* ---- the queue; all under the lock -------------------------------------------------------- */

static void enqueue(srv_batcher *b, srv_job *job)
{
    srv_job *after = b->tail;
    while (after && after->order_ns > job->order_ns) after = after->prev;
    job->prev = after;
    job->next = after ? after->next : b->head;
    *(after ? &after->next : &b->head) = job;
    *(job->next ? &job->next->prev : &b->tail) = job;
    b->n_waiting++;
    b->waiting_rows += job->rows;
}

static void unlink_job(srv_batcher *b, srv_job *job)
{
    *(job->prev ? &job->prev->next : &b->head) = job->next;
    *(job->next ? &job->next->prev : &b->tail) = job->prev;
    b->n_waiting--;
    b->waiting_rows -= job->rows;
}

typedef struct job_list {
    srv_job *first, **end;
    int n;
    int64_t rows;
} job_list;

static void append(job_list *l, srv_job *job)
{
    if (!l->end) l->end = &l->first;
    job->next = NULL;
    *l->end = job;
    l->end = &job->next;
    l->n++;
    l->rows += job->rows;
}

/* Does nobody wait for the job any longer? */
static bool is_dead(srv_batcher *b, const srv_job *job, int64_t deadline_ns, int64_t now, od_status *st)
{
    if (atomic_load_explicit((atomic_bool *)(uintptr_t)&job->cancelled, memory_order_relaxed)) {
        od_fail(st, OD_CANCELLED, "the request was cancelled before it ran");
        b->stats.cancelled++;
    } else if (deadline_ns && now >= deadline_ns) {
        od_fail(st, OD_TIMEOUT, "Request timeout expired: no worker came to it in time");
        b->stats.expired++;
    } else {
        return false;
    }
    return true;
}

/* Moves such a job out of the queue. */
static bool drop_dead(srv_batcher *b, srv_job *job, int64_t now, job_list *dropped)
{
    if (!is_dead(b, job, job->deadline_ns, now, &job->st)) return false;
    job->queue_ns = now - job->submitted_ns;
    unlink_job(b, job);
    append(dropped, job);
    return true;
}

static void sweep(srv_batcher *b, int64_t now, job_list *dropped)
{
    for (srv_job *job = b->head, *next; job; job = next) {
        next = job->next;
        drop_dead(b, job, now, dropped);
    }
}

static void finish_dropped(job_list *dropped)
{
    for (srv_job *job = dropped->first, *next; job; job = next) {
        next = job->next;
        job->done(job);
    }
}

static bool may_join(const srv_batcher *b, const srv_job *first, const srv_job *job)
{
    return first->joins && job->joins && srv_inputs_agree(first->inputs, job->inputs, b->model->graph->n_inputs);
}

/* The next run: the first job and those that can join it, in a number of rows that has few plans. */
static void take(srv_batcher *b, int64_t now, job_list *run, job_list *dropped)
{
    int64_t rows = 0;
    srv_job *first = NULL;
    for (srv_job *job = b->head, *next; job && rows < b->warm.rows; job = next) {
        next = job->next;
        if (drop_dead(b, job, now, dropped)) continue;
        if (!first) first = job;
        if (job == first || may_join(b, first, job)) rows += job->rows;
        if (!first->joins) break;
    }
    if (!first) return;
    rows = od_max_i64(first->rows, srv_warmup_size(od_min_i64(rows, b->warm.rows)));
    for (srv_job *job = first, *next; job && run->rows < rows; job = next) {
        next = job->next;
        if (job != first && (run->rows + job->rows > rows || !may_join(b, first, job))) continue;
        unlink_job(b, job);
        job->queue_ns = now - job->submitted_ns;
        append(run, job);
    }
}

/* ---- scheduling; under the lock ----------------------------------------------------------- */

static void run_ahead(void *arg);
static void run_in_line(void *arg);

/* When the first job stops waiting for company. */
static int64_t start_ns(const srv_batcher *b)
{
    const srv_job *job = b->head;
    if (!b->o.max_queue_delay_us || b->warm.rows <= 1 || b->closing || !job->joins || b->waiting_rows >= b->warm.rows) return 0;
    int64_t at = job->submitted_ns + b->o.max_queue_delay_us * 1000;
    return job->deadline_ns ? od_min_i64(at, job->deadline_ns - b->warm.run_ns * b->warm.rows) : at;
}

static void arm(srv_batcher *b, int64_t at_ns)
{
    if (b->wake_ns && b->wake_ns <= at_ns) return;
    b->wake_ns = at_ns;
    srv_timer_arm(&b->timer, at_ns);
}

/* Fewer jobs wait than pay in one run, and others are being decoded in the pool's line. */
static bool company_comes(const srv_batcher *b)
{
    return b->admitted > 0 && b->head->joins && b->waiting_rows < b->warm.rows && !b->closing;
}

/* Give the pool as many tasks as there is work for: in front of its line, so that what is decoded is run before
 * more is decoded; but in line while company comes. */
static void summon(srv_batcher *b, int64_t now)
{
    while (b->n_waiting > b->summoned && b->tasks - b->lazy < b->max_tasks) {
        int64_t at = start_ns(b);
        if (at > now) {
            arm(b, at);
            return;
        }
        bool lazy = company_comes(b);
        if (lazy && (b->lazy || b->summoned)) return;
        if (!(lazy ? od_pool_submit(b->pool, run_in_line, b) : od_pool_submit_ahead(b->pool, run_ahead, b))) {
            if (!b->tasks) arm(b, now + TICK_NS); /* no memory: try again */
            return;
        }
        b->tasks++;
        if (lazy) b->lazy = true;
        else b->summoned++;
    }
}

/* Tells a waiting srv_batcher_destroy when nothing is left. */
static void tell_quiet(srv_batcher *b)
{
    if (!b->tasks && !b->here && !b->n_waiting) pthread_cond_broadcast(&b->quiet);
}

static void on_timer(srv_timer *t)
{
    srv_batcher *b = (srv_batcher *)((char *)t - offsetof(srv_batcher, timer));
    job_list dropped = {0};
    int64_t now = od_now_ns(), next = INT64_MAX;
    pthread_mutex_lock(&b->lock);
    b->wake_ns = 0;
    sweep(b, now, &dropped);
    for (srv_job *job = b->head; job; job = job->next)
        if (job->deadline_ns) next = od_min_i64(next, job->deadline_ns);
    if (next < INT64_MAX) arm(b, next + TICK_NS);
    summon(b, now);
    tell_quiet(b);
    pthread_mutex_unlock(&b->lock);
    finish_dropped(&dropped);
}

/* ---- a run -------------------------------------------------------------------------------- */

/* Under the lock. NULL: there is none. */
static srv_runner *take_runner(srv_batcher *b, bool alone)
{
    srv_runner *r = b->runners[alone];
    if (!r) return NULL;
    b->runners[alone] = r->next;
    b->runner_bytes -= r->charged;
    return r;
}

/* Under the lock. A runner that an unusually large run has made large is better made anew; NULL: it stays. */
static srv_runner *put_back(srv_batcher *b, srv_runner *r, bool alone)
{
    size_t bytes = srv_runner_count(r);
    if (bytes > KEEP_BYTES && bytes > b->warm.bytes * 4) return r;
    r->next = b->runners[alone];
    b->runners[alone] = r;
    b->runner_bytes += bytes;
    return NULL;
}

static void count_size(srv_batcher *b, int64_t rows, const srv_job *job)
{
    int i = 0;
    while (i < b->n_sizes && b->sizes[i].rows < rows) i++;
    if (i == b->n_sizes || b->sizes[i].rows != rows) {
        if (b->n_sizes == SIZES_MAX) return;
        memmove(&b->sizes[i + 1], &b->sizes[i], (size_t)(b->n_sizes - i) * sizeof *b->sizes);
        b->sizes[i] = (srv_batch_size_stats){.rows = rows};
        b->n_sizes++;
    }
    b->sizes[i].runs++;
    b->sizes[i].compute_ns += (uint64_t)job->compute_ns;
    b->sizes[i].gather_ns += (uint64_t)job->gather_ns;
    b->sizes[i].give_ns += (uint64_t)job->give_ns;
}

static void count_job(srv_batcher *b, const srv_job *job)
{
    srv_batch_stats *s = &b->stats;
    s->queue_ns += (uint64_t)job->queue_ns;
    s->compute_ns += (uint64_t)job->compute_ns;
    s->gather_ns += (uint64_t)job->gather_ns;
    s->give_ns += (uint64_t)job->give_ns;
    s->prepare_ns += (uint64_t)job->prepare_ns;
    if (job->st.code == OD_OK) s->succeeded++, s->rows += (uint64_t)job->rows;
    else if (job->st.code == OD_CANCELLED) s->cancelled++;
    else s->failed++;
}

/* Learn the pace: between two ends while somebody waits, else no slower than a run of its own. Of those who waited all may have
 * gone: then the next one came later. */
static void count_pace(srv_batcher *b, int64_t rows, const srv_job *job, int64_t now)
{
    bool waited = b->had_queue && (job->since_ns ? job->since_ns : job->submitted_ns) <= b->last_end_ns;
    double took = (double)(waited ? now - b->last_end_ns : job->compute_ns) / (double)od_max_i64(rows, 1);
    if (waited || took < b->pace_ns) b->pace_ns += (took - b->pace_ns) * 0.2;
    b->last_end_ns = now;
    b->had_queue = b->n_waiting + b->admitted > 0;
}

/* Run `run`'s jobs on `r`, or on a new one: how many runs that took. 0: there is no memory for one, and the jobs have the error. */
static int run_jobs(srv_batcher *b, srv_runner **r, bool alone, job_list *run)
{
    od_status st = {0};
    if (!*r) srv_runner_create(r, b->model, alone ? NULL : b->pool, b->o.memory_limit, b->o.budget, &st);
    if (*r) return srv_runner_run(*r, run->first, run->n, run->rows);
    for (srv_job *job = run->first; job; job = job->next) {
        job->st = st;
        job->ended_ns = od_now_ns();
    }
    return 0;
}

/* Under the lock: count them, put the runner back. One that is too large for that is the caller's to destroy. */
static srv_runner *count_run(srv_batcher *b, srv_runner *r, bool alone, const job_list *run, int runs)
{
    for (const srv_job *job = run->first; job; job = job->next) {
        count_job(b, job);
        if (runs > 1) count_size(b, job->batch_rows, job);
    }
    if (runs == 1) count_size(b, run->rows, run->first);
    b->stats.runs += (uint64_t)runs;
    b->stats.running -= (uint64_t)run->n;
    if (runs) count_pace(b, run->rows, run->first, run->first->ended_ns);
    return r ? put_back(b, r, alone) : NULL;
}

static void run_task(srv_batcher *b, bool lazy)
{
    job_list run = {0}, dropped = {0};
    int64_t now = od_now_ns();
    pthread_mutex_lock(&b->lock);
    if (lazy) b->lazy = false;
    else b->summoned--;
    if (b->head && start_ns(b) <= now) take(b, now, &run, &dropped);
    b->stats.running += (uint64_t)run.n;
    srv_runner *r = run.n ? take_runner(b, false) : NULL, *too_large = NULL;
    pthread_mutex_unlock(&b->lock);
    finish_dropped(&dropped);
    if (run.n) {
        int runs = run_jobs(b, &r, false, &run);
        pthread_mutex_lock(&b->lock);
        too_large = count_run(b, r, false, &run, runs);
        pthread_mutex_unlock(&b->lock);
        srv_runner_destroy(too_large);
        finish_dropped(&run);
    }
    pthread_mutex_lock(&b->lock);
    b->tasks--; /* to the end of the pool's line: other models have a turn */
    summon(b, od_now_ns());
    tell_quiet(b);
    pthread_mutex_unlock(&b->lock);
}

static void run_ahead(void *arg)
{
    run_task(arg, false);
}

static void run_in_line(void *arg)
{
    run_task(arg, true);
}

/* ---- submitting --------------------------------------------------------------------------- */

static int64_t timeout_of(const srv_batcher *b, int64_t timeout_us)
{
    return (timeout_us > 0 ? od_min_i64(timeout_us, INT64_MAX / 4000) : b->o.timeout_us) * 1000;
}

/* Is there a place, and would its turn come in time? */
static od_code check_room(srv_batcher *b, int64_t timeout_ns, od_status *st)
{
    int64_t rows = b->waiting_rows + b->admitted;
    double wait = (double)rows * b->pace_ns;
    if (b->n_waiting + b->admitted >= b->o.max_queue)
        return od_fail(st, OD_BUSY, "Exceeds maximum queue size: %" PRId64 " requests are waiting", b->o.max_queue);
    if (timeout_ns && wait > (double)timeout_ns)
        return od_fail(st, OD_BUSY, "the queue is %.0f ms long, the request's timeout is %" PRId64 " ms", wait / 1e6,
                       timeout_ns / 1000000);
    return OD_OK;
}

static od_code make_room(srv_batcher *b, int64_t timeout_ns, int64_t now, job_list *dropped, od_status *st)
{
    if (b->closing) return od_fail(st, OD_UNAVAILABLE, "the model is being unloaded");
    if (check_room(b, timeout_ns, st) == OD_OK) return OD_OK;
    sweep(b, now, dropped);
    *st = (od_status){0};
    if (check_room(b, timeout_ns, st) == OD_OK) return OD_OK;
    b->stats.rejected++;
    return st->code;
}

static od_code look_for_room(srv_batcher *b, int64_t timeout_us, int places, od_status *st)
{
    job_list dropped = {0};
    pthread_mutex_lock(&b->lock);
    od_code rc = make_room(b, timeout_of(b, timeout_us), od_now_ns(), &dropped, st);
    if (rc == OD_OK) b->admitted += places;
    pthread_mutex_unlock(&b->lock);
    finish_dropped(&dropped);
    return rc;
}

od_code srv_batcher_admit(srv_batcher *b, int64_t timeout_us, od_status *st)
{
    return look_for_room(b, timeout_us, 1, st);
}

od_code srv_batcher_has_room(srv_batcher *b, int64_t timeout_us, od_status *st)
{
    return look_for_room(b, timeout_us, 0, st);
}

static int64_t deadline_of(const srv_batcher *b, const srv_job *job, int64_t now)
{
    int64_t timeout_ns = timeout_of(b, job->timeout_us);
    return timeout_ns ? (job->since_ns ? job->since_ns : now) + timeout_ns : 0;
}

od_code srv_batcher_still_wanted(srv_batcher *b, const srv_job *job, od_status *st)
{
    int64_t now = od_now_ns();
    pthread_mutex_lock(&b->lock);
    bool dead = is_dead(b, job, deadline_of(b, job, now), now, st);
    pthread_mutex_unlock(&b->lock);
    return dead ? st->code : OD_OK;
}

void srv_batcher_leave(srv_batcher *b)
{
    pthread_mutex_lock(&b->lock);
    b->admitted--;
    pthread_mutex_unlock(&b->lock);
}

/* Rows of the job, and whether it may run together with others, which pays only where several rows do. Inputs left to
 * their defaults have no rows. */
static void look_at(const srv_batcher *b, srv_job *job)
{
    const eng_graph *g = b->model->graph;
    int64_t rows = 0;
    job->rows = 1;
    job->joins = false;
    if (!b->warm.independent) return;
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_tensor *t = &job->inputs[i];
        if (!t->data) continue;
        if (g->values[g->inputs[i]].constant || t->rank < 1 || t->dims[0] < 1 || (rows && t->dims[0] != rows)) return;
        if (t->layout == ENG_CL && t->pitch != t->dims[1]) return;
        rows = t->dims[0];
    }
    if (!rows) return;
    job->rows = rows;
    job->joins = b->warm.rows > 1;
}

od_code srv_batcher_submit(srv_batcher *b, srv_job *job, od_status *st)
{
    od_code rc = eng_model_check_inputs(b->model, job->inputs, st);
    if (rc != OD_OK) {
        if (job->admitted) srv_batcher_leave(b);
        return rc;
    }
    job_list dropped = {0};
    int64_t now = od_now_ns(), timeout_ns = timeout_of(b, job->timeout_us);
    int priority = job->priority < 1 ? SRV_PRIORITY_DEFAULT : job->priority;
    if (priority > SRV_PRIORITY_LAST) priority = SRV_PRIORITY_LAST;
    look_at(b, job);
    job->st = (od_status){0};
    job->outputs = NULL;
    job->compute_ns = job->gather_ns = job->give_ns = job->batch_rows = 0;
    job->submitted_ns = now;
    job->deadline_ns = deadline_of(b, job, now);
    job->order_ns = now + (int64_t)(priority - 1) * SRV_PRIORITY_STEP_MS * 1000000;
    pthread_mutex_lock(&b->lock);
    if (job->admitted) b->admitted--;
    else rc = make_room(b, timeout_ns, now, &dropped, st);
    if (rc == OD_OK) {
        b->stats.accepted++;
        enqueue(b, job);
        if (job->deadline_ns) arm(b, job->deadline_ns + TICK_NS);
        summon(b, now);
    }
    pthread_mutex_unlock(&b->lock);
    finish_dropped(&dropped);
    return rc;
}

bool srv_batcher_run_now(srv_batcher *b, srv_job *job)
{
    int64_t elements = 0;
    if (!b->warm.run_ns || b->warm.run_ns > NOW_NS) return false;
    od_status st = {0};
    if (eng_model_check_inputs(b->model, job->inputs, &st) != OD_OK) return false;
    for (int i = 0; i < b->model->graph->n_inputs; i++)
        elements += job->inputs[i].data ? eng_tensor_count(&job->inputs[i]) : 0;
    double ns = (double)b->warm.run_ns * (double)elements / (double)od_max_i64(b->warm.elements, 1);
    if (ns > NOW_NS) return false;
    bool alone = ns <= ALWAYS_NS;
    pthread_mutex_lock(&b->lock);
    bool free_now = !b->n_waiting && !b->closing;
    /* a request right behind another one on this thread is not the last: batches are better then */
    if (free_now && !alone) free_now = !b->tasks && !b->here && (double)(od_now_ns() - b->last_end_ns) > ns / 4;
    srv_runner *r = NULL, *too_large;
    if (free_now) {
        if (job->admitted) b->admitted--;
        b->here++;
        b->stats.accepted++;
        b->stats.running++;
        r = take_runner(b, alone);
    }
    pthread_mutex_unlock(&b->lock);
    if (!free_now) return false;
    look_at(b, job);
    job->submitted_ns = job->queue_ns = job->compute_ns = job->gather_ns = job->give_ns = job->batch_rows = 0;
    job->outputs = NULL;
    job_list run = {0};
    append(&run, job);
    int runs = run_jobs(b, &r, alone, &run);
    pthread_mutex_lock(&b->lock);
    too_large = count_run(b, r, alone, &run, runs);
    b->here--;
    tell_quiet(b);
    pthread_mutex_unlock(&b->lock);
    srv_runner_destroy(too_large);
    return true;
}

/* ---- life --------------------------------------------------------------------------------- */

od_code srv_batcher_create(srv_batcher **out, eng_model *model, od_pool *pool, const srv_batch_options *options, od_status *st)
{
    if (od_pool_slots(pool) < 2) return od_fail(st, OD_BAD_ARGUMENT, "batching needs a pool with a worker at least");
    srv_batcher *b = calloc(1, sizeof *b);
    if (!b) return od_fail(st, OD_NO_MEMORY, "no memory for a batcher");
    b->model = model;
    b->pool = pool;
    b->o = *options;
    b->max_tasks = od_pool_slots(pool) - 1;
    b->timer.fire = on_timer;
    if (b->o.max_queue <= 0) b->o.max_queue = QUEUE_DEFAULT;
    b->o.timeout_us = od_min_i64(od_max_i64(b->o.timeout_us, 0), INT64_MAX / 4000);
    b->o.max_queue_delay_us = od_min_i64(od_max_i64(b->o.max_queue_delay_us, 0), INT64_MAX / 4000);
    if (srv_warmup_run(model, &b->o, &b->warm, st) != OD_OK || srv_timers_use(st) != OD_OK) {
        free(b);
        return st->code;
    }
    b->pace_ns = (double)b->warm.run_ns / b->max_tasks;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->quiet, NULL);
    *out = b;
    return OD_OK;
}

void srv_batcher_destroy(srv_batcher *b)
{
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    b->closing = true;
    summon(b, od_now_ns());
    while (b->tasks || b->here || b->n_waiting) pthread_cond_wait(&b->quiet, &b->lock);
    pthread_mutex_unlock(&b->lock);
    srv_timer_stop(&b->timer);
    srv_timers_leave();
    for (int alone = 0; alone < 2; alone++)
        for (srv_runner *r; (r = take_runner(b, alone));) srv_runner_destroy(r);
    pthread_cond_destroy(&b->quiet);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* ---- numbers ------------------------------------------------------------------------------ */

void srv_batcher_note_answer(srv_batcher *b, int64_t ns)
{
    atomic_fetch_add_explicit(&b->answer_ns, (uint64_t)od_max_i64(ns, 0), memory_order_relaxed);
}

void srv_batcher_stats(srv_batcher *b, srv_batch_stats *out)
{
    pthread_mutex_lock(&b->lock);
    *out = b->stats;
    out->waiting = (uint64_t)b->n_waiting;
    out->answer_ns = atomic_load_explicit(&b->answer_ns, memory_order_relaxed);
    pthread_mutex_unlock(&b->lock);
}

int srv_batcher_size_stats(srv_batcher *b, srv_batch_size_stats *rows, int max)
{
    pthread_mutex_lock(&b->lock);
    int n = b->n_sizes < max ? b->n_sizes : max;
    memcpy(rows, b->sizes, (size_t)n * sizeof *rows);
    pthread_mutex_unlock(&b->lock);
    return n;
}

bool srv_batcher_can_batch(const srv_batcher *b)
{
    return b->warm.independent;
}

int64_t srv_batcher_rows(const srv_batcher *b)
{
    return b->warm.rows;
}

int64_t srv_batcher_delay_us(srv_batcher *b)
{
    pthread_mutex_lock(&b->lock);
    double ns = (double)(b->waiting_rows + b->admitted) * b->pace_ns;
    pthread_mutex_unlock(&b->lock);
    return (int64_t)(ns / 1000);
}

size_t srv_batcher_bytes(srv_batcher *b)
{
    pthread_mutex_lock(&b->lock);
    size_t n = b->runner_bytes;
    pthread_mutex_unlock(&b->lock);
    return n;
}
