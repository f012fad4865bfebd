#include "engine/base/threads.h"
#include "engine/base/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    REGIONS = 64,       /* regions that can be open at once; more run on their owners alone */
    SHARES = 8,         /* parts of a region that have counters of their own */
    SPIN_NS = 50000,    /* a worker with nothing to do looks out before it sleeps, */
    HELD_NS = 1000000,  /* or, in a pool that is held, before it lets others have its processor: they keep it for long */
    AHEAD_RUN = 4       /* tasks from the list ahead that may start in a row while others wait */
};

/* Neighbouring chunks. Each thread begins with the share that is always its own and then helps with the others:
 * the same thread so handles the same part of an image in one operator after the other, and reads what it wrote
 * from its own cache. Between cores that share none, a line of another's costs like memory, or more. */
typedef struct share {
    _Alignas(64) atomic_llong next; /* first chunk nobody has claimed */
    int64_t end;
} share;

/* A worker may be inside a region only between raising and lowering `inside`, and looks at the
 * other fields only after it has seen `open` while raised. The owner closes the region and waits
 * for `inside` to fall to zero before it reuses the slot. */
typedef struct region {
    _Alignas(64) atomic_bool taken;
    atomic_bool open;
    atomic_int inside;
    int owner; /* slot of the worker whose region it is; 0: of a thread outside the pool */
    int threads, shares; /* that can be inside; parts */
    od_chunk_fn *fn;
    void *arg;
    share share[SHARES];
} region;

typedef struct task {
    struct task *next;
    od_task_fn *fn;
    void *arg;
} task;

typedef struct task_list {
    task *head, *tail;
} task_list;

typedef struct worker {
    od_pool *pool;
    pthread_t thread;
    int slot;
    atomic_int cpu;  /* where it ran when it last looked for work; -1: not yet anywhere */
    atomic_int away; /* the processor it is kept off; -1: it may be on all */
    atomic_bool busy; /* inside a task, whose regions are its own */
} worker;

struct od_pool {
    region regions[REGIONS];
    _Alignas(64) atomic_uint published; /* rises with each region and task */
    atomic_int sleepers;
    atomic_int idle;
    atomic_int held; /* workers stay awake while it is above zero */
    atomic_int queued; /* tasks not yet started */
    atomic_bool stop;
    pthread_mutex_t lock; /* guards the task list and sleeping */
    pthread_cond_t wake;
    task_list ahead, usual;
    int ahead_in_a_row;
    int workers;
    worker *worker;
    cpu_set_t allowed; /* processors of the process */
    bool placed;       /* they are enough: workers are kept off the processor of who gives them work */
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The thread numbered `rank` among those that can be inside takes chunks of its share, then of the others.
 * false: none were left. */
static bool work_through(region *r, int slot, int rank)
{
    bool worked = false;
    int home = rank * r->shares / r->threads;
    for (int i = 0; i < r->shares; i++) {
        share *s = &r->share[(home + i) % r->shares];
        int64_t chunk;
        while (atomic_load_explicit(&s->next, memory_order_relaxed) < s->end &&
               (chunk = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed)) < s->end) {
            r->fn(r->arg, chunk, slot);
            worked = true;
        }
    }
    return worked;
}

/* Join one open region that has chunks left; false when there is none. */
static bool join_region(od_pool *p, int slot)
{
    for (int i = 0; i < REGIONS; i++) {
        region *r = &p->regions[i];
        if (!atomic_load_explicit(&r->open, memory_order_relaxed)) continue;
        atomic_fetch_add(&r->inside, 1);
        bool worked = atomic_load(&r->open) && work_through(r, slot, r->owner && slot > r->owner ? slot - 1 : slot);
        atomic_fetch_sub(&r->inside, 1);
        if (worked) return true;
    }
    return false;
}

static task *take_task(od_pool *p)
{
    bool ahead = p->ahead.head && (!p->usual.head || p->ahead_in_a_row < AHEAD_RUN);
    task_list *from = ahead ? &p->ahead : &p->usual;
    task *t = from->head;
    if (!t) return NULL;
    from->head = t->next;
    if (!from->head) from->tail = NULL;
    p->ahead_in_a_row = ahead ? p->ahead_in_a_row + 1 : 0;
    atomic_fetch_sub(&p->queued, 1);
    return t;
}

static void note_place(worker *w)
{
    int cpu = sched_getcpu();
    if (atomic_load_explicit(&w->cpu, memory_order_relaxed) != cpu) atomic_store_explicit(&w->cpu, cpu, memory_order_relaxed);
}

static bool run_task(worker *w)
{
    od_pool *p = w->pool;
    if (!atomic_load_explicit(&p->queued, memory_order_relaxed)) return false;
    pthread_mutex_lock(&p->lock);
    task *t = take_task(p);
    pthread_mutex_unlock(&p->lock);
    if (!t) return false;
    atomic_store(&w->busy, true);
    t->fn(t->arg);
    atomic_store(&w->busy, false);
    free(t);
    return true;
}

/* Wait for a moment or until something is published, after `ns` of waiting; false: better sleep. */
static bool wait_awake(od_pool *p, unsigned seen, int64_t ns)
{
    bool held = atomic_load_explicit(&p->held, memory_order_relaxed);
    if (ns > SPIN_NS && !held) return false;
    if (ns > HELD_NS) sched_yield();
    for (int i = 0; i < 8 && atomic_load_explicit(&p->published, memory_order_relaxed) == seen; i++) relax();
    return true;
}

static void sleep_until_published(od_pool *p, unsigned seen)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->published) == seen && !atomic_load(&p->stop)) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

/* Keep a worker off the processor `cpu`, where the caller runs. Left alone, the system likes to wake a worker
 * beside who woke it, and the two then take turns on one processor while another does nothing. */
static void keep_off(od_pool *p, worker *w, int cpu)
{
    cpu_set_t set = p->allowed;
    if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET((size_t)cpu, &set) || atomic_exchange(&w->away, cpu) == cpu) return;
    CPU_CLR((size_t)cpu, &set);
    pthread_setaffinity_np(w->thread, sizeof set, &set);
}

/* Called by who is about to publish regions: a worker on its processor, or with `sleeping` one that may wake there, moves. */
static void make_room(od_pool *p, bool sleeping)
{
    if (!p->placed) return;
    int cpu = sched_getcpu();
    for (int i = 0; i < p->workers; i++) {
        worker *w = &p->worker[i];
        bool here = atomic_load_explicit(&w->cpu, memory_order_relaxed) == cpu;
        if ((here || sleeping) && !atomic_load_explicit(&w->busy, memory_order_relaxed)) keep_off(p, w, cpu);
    }
}

static _Thread_local const worker *self; /* NULL outside of pools */

static void *worker_main(void *arg)
{
    worker *w = arg;
    od_pool *p = w->pool;
    self = w;
    od_cpu_float_fast();
    atomic_fetch_add(&p->idle, 1);
    for (int64_t since = od_now_ns();;) {
        unsigned seen = atomic_load(&p->published);
        bool stopping = atomic_load(&p->stop); /* before looking for work: what came earlier is then seen */
        atomic_fetch_sub(&p->idle, 1);
        note_place(w);
        bool worked = run_task(w) || join_region(p, w->slot);
        atomic_fetch_add(&p->idle, 1);
        if (worked) {
            since = od_now_ns();
        } else if (stopping) {
            break;
        } else if (!wait_awake(p, seen, od_now_ns() - since)) {
            sleep_until_published(p, seen);
            since = od_now_ns();
        }
    }
    return NULL;
}

static void publish(od_pool *p)
{
    atomic_fetch_add(&p->published, 1);
    if (!atomic_load(&p->sleepers)) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

od_code od_pool_create(od_pool **out, int workers, od_status *st)
{
    if (workers < 0 || workers > 1024)
        return od_fail(st, OD_BAD_ARGUMENT, "%d worker threads: from 0 to 1024 are possible", workers);
    od_pool *p = aligned_alloc(64, sizeof *p);
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a thread pool");
    *p = (od_pool){0};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->placed = sched_getaffinity(0, sizeof p->allowed, &p->allowed) == 0 && CPU_COUNT(&p->allowed) > 1 &&
                CPU_COUNT(&p->allowed) >= workers;
    p->worker = calloc((size_t)workers + 1, sizeof *p->worker);
    if (!p->worker) {
        od_pool_destroy(p);
        return od_fail(st, OD_NO_MEMORY, "no memory for %d workers", workers);
    }
    for (int i = 0; i < workers; i++) {
        p->worker[i] = (worker){.pool = p, .slot = i + 1, .cpu = -1, .away = -1};
        if (pthread_create(&p->worker[i].thread, NULL, worker_main, &p->worker[i])) {
            od_pool_destroy(p);
            return od_fail(st, OD_IO, "the system refused worker thread %d of %d", i + 1, workers);
        }
        p->workers++;
    }
    *out = p;
    return OD_OK;
}

void od_pool_destroy(od_pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    publish(p);
    for (int i = 0; i < p->workers; i++) pthread_join(p->worker[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->worker);
    free(p);
}

static region *take_region(od_pool *p)
{
    for (int i = 0; i < REGIONS; i++) {
        region *r = &p->regions[i];
        if (!atomic_load_explicit(&r->taken, memory_order_relaxed) && !atomic_exchange(&r->taken, true)) return r;
    }
    return NULL;
}

static void share_out(const od_pool *p, region *r, int64_t chunks)
{
    r->owner = self && self->pool == p ? self->slot : 0;
    r->threads = p->workers + !r->owner;
    r->shares = r->threads < SHARES ? r->threads : SHARES;
    int64_t at = 0;
    for (int i = 0; i < r->shares; i++) {
        atomic_store_explicit(&r->share[i].next, at, memory_order_relaxed);
        at += chunks / r->shares + (i < chunks % r->shares);
        r->share[i].end = at;
    }
}

void od_pool_for(od_pool *p, int64_t chunks, od_chunk_fn *fn, void *arg)
{
    region *r = p && p->workers && chunks > 1 ? take_region(p) : NULL;
    if (!r) {
        for (int64_t i = 0; i < chunks; i++) fn(arg, i, 0);
        return;
    }
    r->fn = fn;
    r->arg = arg;
    share_out(p, r, chunks);
    make_room(p, false);
    atomic_store(&r->open, true);
    publish(p);
    work_through(r, 0, 0);
    atomic_store(&r->open, false);
    for (int spins = 0; atomic_load(&r->inside); spins++) {
        if (spins < 4096) relax();
        else sched_yield();
    }
    atomic_store(&r->taken, false);
}

void od_pool_hold(od_pool *p)
{
    if (!p) return;
    make_room(p, true);
    atomic_fetch_add(&p->held, 1);
}

void od_pool_release(od_pool *p)
{
    if (p) atomic_fetch_sub(&p->held, 1);
}

static bool submit(od_pool *p, task_list *to, od_task_fn *fn, void *arg)
{
    task *t = p->workers ? malloc(sizeof *t) : NULL;
    if (!t) return false;
    *t = (task){.fn = fn, .arg = arg};
    pthread_mutex_lock(&p->lock);
    if (to->tail) to->tail->next = t;
    else to->head = t;
    to->tail = t;
    atomic_fetch_add(&p->queued, 1);
    pthread_mutex_unlock(&p->lock);
    publish(p);
    return true;
}

bool od_pool_submit(od_pool *p, od_task_fn *fn, void *arg)
{
    return p && submit(p, &p->usual, fn, arg);
}

bool od_pool_submit_ahead(od_pool *p, od_task_fn *fn, void *arg)
{
    return p && submit(p, &p->ahead, fn, arg);
}

int od_pool_slots(const od_pool *p)
{
    return p ? p->workers + 1 : 1;
}

int od_pool_idle(const od_pool *p)
{
    return p ? atomic_load(&((od_pool *)(uintptr_t)p)->idle) : 0;
}
