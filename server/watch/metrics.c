#include "server/watch/metrics.h"
#include "server/watch/process.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BUCKETS = 17,
    COPIES = 8,      /* of each counter, so that threads seldom share a cache line */
    SLOTS = 2048,    /* of the table of series; a power of two above SRV_SERIES_MAX */
    STATUS_MAX = 600
};

/* Upper bounds in nanoseconds, and as Prometheus prints them. */
static const int64_t bounds_ns[BUCKETS] = {100000,    250000,    500000,     1000000,    2500000,    5000000,
                                           10000000,  25000000,  50000000,   100000000,  250000000,  500000000,
                                           1000000000, 2500000000, 5000000000, 10000000000, 30000000000};
static const char *const bounds_text[BUCKETS] = {"0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05",
                                                 "0.1",    "0.25",    "0.5",    "1",     "2.5",    "5",     "10",   "30"};

static const char *const phase_names[SRV_PHASES] = {"onnxd_queue_duration_seconds",       "onnxd_decode_duration_seconds",
                                                    "onnxd_preprocess_duration_seconds",  "onnxd_compute_duration_seconds",
                                                    "onnxd_postprocess_duration_seconds", "onnxd_request_duration_seconds"};
static const char *const phase_help[SRV_PHASES] = {
    "Time that requests waited for a worker.",     "Time of decoding pictures.",
    "Time from pixels to the model's input.",      "Time of the run that a request was part of.",
    "Time from the model's output to the answer.", "Time from a request's first line to its reply."};
static const char *const outcome_names[SRV_OUTCOMES] = {"ok", "failed", "rejected", "timeout", "cancelled"};
static const char *const refusal_names[SRV_REFUSALS] = {"queue_full", "rate_limit",  "memory",    "connections",
                                                        "draining",   "unavailable", "too_large", "token"};

typedef atomic_uint_least64_t counter;

typedef struct copy {
    _Alignas(64) counter bucket[SRV_PHASES][BUCKETS + 1]; /* the last: above all bounds */
    counter ns[SRV_PHASES];
    counter outcome[SRV_OUTCOMES];
    counter failed_ns;
} copy;

typedef struct series {
    copy copies[COPIES];
    atomic_int_least64_t last_ms;
    int64_t version;
    char name[256];
} series;

struct srv_metrics {
    _Atomic(series *) slots[SLOTS]; /* open addressing; series are added, never taken away */
    pthread_mutex_t adding;
    int n_series;
    series *other;
    counter statuses[STATUS_MAX]; /* of all requests, by HTTP status */
    counter refusals[SRV_REFUSALS];
    int64_t started_s;
};

/* ---- counting ----------------------------------------------------------------------------- */

static void add(counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static uint64_t get(const counter *c)
{
    return atomic_load_explicit((counter *)(uintptr_t)c, memory_order_relaxed);
}

static int my_copy(void)
{
    static atomic_int threads;
    static _Thread_local int mine;
    if (!mine) mine = 1 + (atomic_fetch_add(&threads, 1) & (COPIES - 1));
    return mine - 1;
}

srv_outcome srv_outcome_of(od_code code)
{
    switch (code) {
    case OD_OK: return SRV_DONE;
    case OD_BUSY:
    case OD_UNAVAILABLE: return SRV_REJECTED;
    case OD_TIMEOUT: return SRV_EXPIRED;
    case OD_CANCELLED: return SRV_CANCELLED;
    default: return SRV_FAILED;
    }
}

static unsigned hash(const char *name, int64_t version)
{
    uint64_t h = 0xcbf29ce484222325u + (uint64_t)version;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return (unsigned)(h ^ (h >> 32)) & (SLOTS - 1);
}

/* The series, or NULL and the slot where it would be. */
static series *find(srv_metrics *m, const char *name, int64_t version, unsigned *slot)
{
    for (*slot = hash(name, version);; *slot = (*slot + 1) & (SLOTS - 1)) {
        series *s = atomic_load_explicit(&m->slots[*slot], memory_order_acquire);
        if (!s || (s->version == version && !strcmp(s->name, name))) return s;
    }
}

static series *make_series(const char *name, int64_t version)
{
    series *s = aligned_alloc(64, sizeof *s);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->version = version;
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

static series *series_of(srv_metrics *m, const char *name, int64_t version)
{
    unsigned slot;
    series *s = find(m, name, version, &slot);
    if (s) return s;
    pthread_mutex_lock(&m->adding);
    s = find(m, name, version, &slot); /* somebody may have been faster */
    if (!s && m->n_series < SRV_SERIES_MAX && strlen(name) < sizeof s->name && (s = make_series(name, version))) {
        atomic_store_explicit(&m->slots[slot], s, memory_order_release);
        m->n_series++;
    }
    pthread_mutex_unlock(&m->adding);
    return s ? s : m->other;
}

void srv_metrics_observe(srv_metrics *m, const srv_observation *o)
{
    if (o->status >= 0 && o->status < STATUS_MAX) add(&m->statuses[o->status], 1);
    if (!o->model) return;
    series *s = series_of(m, o->model, o->version);
    copy *c = &s->copies[my_copy()];
    for (int p = 0; p < SRV_PHASES; p++) {
        int b = 0;
        if (o->ns[p] < 0) continue;
        while (b < BUCKETS && o->ns[p] > bounds_ns[b]) b++;
        add(&c->bucket[p][b], 1);
        add(&c->ns[p], (uint64_t)o->ns[p]);
    }
    add(&c->outcome[o->outcome], 1);
    if (o->outcome != SRV_DONE && o->ns[SRV_REQUEST] > 0) add(&c->failed_ns, (uint64_t)o->ns[SRV_REQUEST]);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    atomic_store_explicit(&s->last_ms, now.tv_sec * 1000 + now.tv_nsec / 1000000, memory_order_relaxed);
}

void srv_metrics_refuse(srv_metrics *m, srv_refusal why)
{
    add(&m->refusals[why], 1);
}

/* ---- adding up ---------------------------------------------------------------------------- */

typedef struct sums {
    srv_totals t;
    uint64_t bucket[SRV_PHASES][BUCKETS + 1];
} sums;

static void add_up(const series *s, sums *out)
{
    *out = (sums){0};
    for (int k = 0; k < COPIES; k++) {
        const copy *c = &s->copies[k];
        for (int p = 0; p < SRV_PHASES; p++) {
            for (int b = 0; b <= BUCKETS; b++) out->bucket[p][b] += get(&c->bucket[p][b]);
            out->t.ns[p] += get(&c->ns[p]);
        }
        for (int i = 0; i < SRV_OUTCOMES; i++) out->t.outcomes[i] += get(&c->outcome[i]);
        out->t.failed_ns += get(&c->failed_ns);
    }
    for (int p = 0; p < SRV_PHASES; p++)
        for (int b = 0; b <= BUCKETS; b++) out->t.count[p] += out->bucket[p][b];
    out->t.last_ms = atomic_load_explicit(&((series *)(uintptr_t)s)->last_ms, memory_order_relaxed);
}

void srv_metrics_totals(srv_metrics *m, const char *model, int64_t version, srv_totals *out)
{
    unsigned slot;
    sums all = {0};
    const series *s = find(m, model, version, &slot);
    if (s) add_up(s, &all);
    *out = all.t;
}

/* ---- the page ----------------------------------------------------------------------------- */

/* What is written of one model version: its series added up, and what its batcher says. */
typedef struct shown {
    const char *name;
    int64_t version;
    sums s;
    bool loaded;
    srv_batch_stats batch;
    srv_batch_size_stats sizes[64];
    int n_sizes;
    size_t weight_bytes, session_bytes;
    double load_seconds;
} shown;

typedef struct page {
    srv_text *out;
    shown *list;
    int n;
    srv_entry *entries; /* of the store */
    int n_entries;
} page;

static void family(srv_text *t, const char *name, const char *type, const char *help)
{
    srv_text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* {model="...",version="1"; the caller goes on and closes */
static void labels(srv_text *t, const char *name, int64_t version)
{
    srv_text_printf(t, "{model=");
    srv_text_json(t, name, strlen(name));
    srv_text_printf(t, ",version=\"%" PRId64 "\"", version);
}

static void one(srv_text *t, const char *name, const char *type, const char *help, double value)
{
    family(t, name, type, help);
    srv_text_printf(t, "%s %.17g\n", name, value);
}

static void write_phase(page *g, int p)
{
    const char *name = phase_names[p];
    family(g->out, name, "histogram", phase_help[p]);
    for (int i = 0; i < g->n; i++) {
        const shown *m = &g->list[i];
        uint64_t below = 0;
        if (!m->s.t.count[p]) continue;
        for (int b = 0; b <= BUCKETS; b++) {
            below += m->s.bucket[p][b];
            srv_text_printf(g->out, "%s_bucket", name);
            labels(g->out, m->name, m->version);
            srv_text_printf(g->out, ",le=\"%s\"} %" PRIu64 "\n", b < BUCKETS ? bounds_text[b] : "+Inf", below);
        }
        srv_text_printf(g->out, "%s_sum", name);
        labels(g->out, m->name, m->version);
        srv_text_printf(g->out, "} %.9f\n%s_count", (double)m->s.t.ns[p] / 1e9, name);
        labels(g->out, m->name, m->version);
        srv_text_printf(g->out, "} %" PRIu64 "\n", below);
    }
}

static void write_batch_sizes(page *g)
{
    static const int64_t bounds[] = {1, 2, 4, 8, 16, 32, 64, 128};
    const char *name = "onnxd_batch_size_rows";
    family(g->out, name, "histogram", "Rows of a run.");
    for (int i = 0; i < g->n; i++) {
        const shown *m = &g->list[i];
        uint64_t below = 0, rows = 0;
        int at = 0;
        if (!m->n_sizes) continue;
        for (size_t b = 0; b <= OD_COUNT(bounds); b++) {
            for (; at < m->n_sizes && (b == OD_COUNT(bounds) || m->sizes[at].rows <= bounds[b]); at++) {
                below += m->sizes[at].runs;
                rows += m->sizes[at].runs * (uint64_t)m->sizes[at].rows;
            }
            srv_text_printf(g->out, "%s_bucket", name);
            labels(g->out, m->name, m->version);
            if (b < OD_COUNT(bounds)) srv_text_printf(g->out, ",le=\"%" PRId64 "\"} %" PRIu64 "\n", bounds[b], below);
            else srv_text_printf(g->out, ",le=\"+Inf\"} %" PRIu64 "\n", below);
        }
        srv_text_printf(g->out, "%s_sum", name);
        labels(g->out, m->name, m->version);
        srv_text_printf(g->out, "} %" PRIu64 "\n%s_count", rows, name);
        labels(g->out, m->name, m->version);
        srv_text_printf(g->out, "} %" PRIu64 "\n", below);
    }
}

/* A line for each loaded model. */
typedef double value_fn(const shown *m);

static double waiting(const shown *m) { return (double)m->batch.waiting; }
static double running(const shown *m) { return (double)m->batch.running; }
static double rows_done(const shown *m) { return (double)m->batch.rows; }
static double runs_done(const shown *m) { return (double)m->batch.runs; }
static double load_seconds(const shown *m) { return m->load_seconds; }

static void write_loaded(page *g, const char *name, const char *type, const char *help, value_fn *value)
{
    family(g->out, name, type, help);
    for (int i = 0; i < g->n; i++) {
        if (!g->list[i].loaded) continue;
        srv_text_add(g->out, name, strlen(name));
        labels(g->out, g->list[i].name, g->list[i].version);
        srv_text_printf(g->out, "} %.9g\n", value(&g->list[i]));
    }
}

static void write_outcomes(page *g)
{
    family(g->out, "onnxd_requests_total", "counter", "Requests to models by outcome.");
    for (int i = 0; i < g->n; i++) {
        for (int k = 0; k < SRV_OUTCOMES; k++) {
            srv_text_printf(g->out, "onnxd_requests_total");
            labels(g->out, g->list[i].name, g->list[i].version);
            srv_text_printf(g->out, ",outcome=\"%s\"} %" PRIu64 "\n", outcome_names[k], g->list[i].s.t.outcomes[k]);
        }
    }
}

static void write_models(page *g)
{
    family(g->out, "onnxd_model_state", "gauge", "1 for the state that a model version is in.");
    for (int i = 0; i < g->n_entries; i++) {
        if (!g->entries[i].version) continue;
        srv_text_printf(g->out, "onnxd_model_state");
        labels(g->out, g->entries[i].name, g->entries[i].version);
        srv_text_printf(g->out, ",state=\"%s\"} 1\n", srv_state_name(g->entries[i].state));
    }
    family(g->out, "onnxd_model_memory_bytes", "gauge", "Memory of a model's weights and of its runs.");
    for (int i = 0; i < g->n; i++) {
        if (!g->list[i].loaded) continue;
        srv_text_printf(g->out, "onnxd_model_memory_bytes");
        labels(g->out, g->list[i].name, g->list[i].version);
        srv_text_printf(g->out, ",kind=\"weights\"} %zu\nonnxd_model_memory_bytes", g->list[i].weight_bytes);
        labels(g->out, g->list[i].name, g->list[i].version);
        srv_text_printf(g->out, ",kind=\"runs\"} %zu\n", g->list[i].session_bytes);
    }
    write_loaded(g, "onnxd_model_load_duration_seconds", "gauge", "Time of loading and warming up.", load_seconds);
    write_loaded(g, "onnxd_queue_depth", "gauge", "Requests that wait for a worker.", waiting);
    write_loaded(g, "onnxd_running", "gauge", "Requests whose run goes on.", running);
    write_loaded(g, "onnxd_inference_rows_total", "counter", "Rows that were run.", rows_done);
    write_loaded(g, "onnxd_inference_runs_total", "counter", "Runs; one may hold rows of several requests.", runs_done);
}

static void write_server(const srv_metrics *m, const srv_gauges *now, srv_text *t)
{
    family(t, "onnxd_build_info", "gauge", "Version and the kernels chosen for this processor.");
    srv_text_printf(t, "onnxd_build_info{version=\"%s\",isa=\"%s\"} 1\n", now->program_version, now->isa);
    family(t, "onnxd_http_requests_total", "counter", "Requests answered, by HTTP status; 0: the client had gone.");
    for (int i = 0; i < STATUS_MAX; i++)
        if (get(&m->statuses[i])) srv_text_printf(t, "onnxd_http_requests_total{code=\"%d\"} %" PRIu64 "\n", i, get(&m->statuses[i]));
    family(t, "onnxd_rejected_total", "counter", "Requests turned away without work, by reason.");
    for (int i = 0; i < SRV_REFUSALS; i++)
        srv_text_printf(t, "onnxd_rejected_total{reason=\"%s\"} %" PRIu64 "\n", refusal_names[i], get(&m->refusals[i]));
    family(t, "onnxd_threads", "gauge", "Threads by what they do.");
    srv_text_printf(t, "onnxd_threads{kind=\"workers\"} %d\nonnxd_threads{kind=\"sockets\"} %d\n", now->workers, now->socket_threads);
    one(t, "onnxd_ready", "gauge", "1 when all models of the start are ready and the server is not ending.", now->ready);
    one(t, "onnxd_draining", "gauge", "1 when the server is ending.", now->draining);
    one(t, "onnxd_connections", "gauge", "Open connections.", (double)now->connections);
    one(t, "onnxd_requests_in_flight", "gauge", "Requests begun and not yet answered.", (double)now->in_flight);
    one(t, "onnxd_request_body_bytes", "gauge", "Memory of the bodies of requests in flight.", (double)now->body_bytes);
    one(t, "onnxd_memory_used_bytes", "gauge", "Memory of models, their runs, and requests, as --memory-budget counts it.", (double)now->memory_bytes);
    one(t, "onnxd_memory_limit_bytes", "gauge", "What that may be.", (double)now->memory_limit);
    one(t, "onnxd_access_log_dropped_total", "counter", "Lines that the access log had no room for.", (double)now->log_dropped);
}

static void write_process(const srv_metrics *m, srv_text *t)
{
    srv_process p;
    srv_process_read(&p);
    one(t, "process_cpu_seconds_total", "counter", "User and system time.", p.cpu_seconds);
    one(t, "process_resident_memory_bytes", "gauge", "Resident memory.", (double)p.resident_bytes);
    one(t, "process_virtual_memory_bytes", "gauge", "Virtual memory.", (double)p.virtual_bytes);
    one(t, "process_open_fds", "gauge", "Open file descriptors.", (double)p.open_fds);
    one(t, "process_max_fds", "gauge", "File descriptors that may be open.", (double)p.max_fds);
    one(t, "process_threads", "gauge", "Threads.", (double)p.threads);
    one(t, "process_start_time_seconds", "gauge", "Start since the epoch.", (double)m->started_s);
}

/* ---- the same under the names of Triton --------------------------------------------------- */

static void triton_line(page *g, const char *name, const char *help, const char *type, uint64_t (*value)(const shown *))
{
    family(g->out, name, type, help);
    for (int i = 0; i < g->n; i++) {
        srv_text_add(g->out, name, strlen(name));
        labels(g->out, g->list[i].name, g->list[i].version);
        srv_text_printf(g->out, "} %" PRIu64 "\n", value(&g->list[i]));
    }
}

static uint64_t t_success(const shown *m) { return m->s.t.outcomes[SRV_DONE]; }
static uint64_t t_rows(const shown *m) { return m->batch.rows; }
static uint64_t t_runs(const shown *m) { return m->batch.runs; }
static uint64_t t_pending(const shown *m) { return m->batch.waiting; }
static uint64_t t_request(const shown *m) { return m->s.t.ns[SRV_REQUEST] / 1000; }
static uint64_t t_queue(const shown *m) { return m->s.t.ns[SRV_QUEUE] / 1000; }
static uint64_t t_input(const shown *m) { return (m->s.t.ns[SRV_DECODE] + m->s.t.ns[SRV_PREPROCESS]) / 1000; }
static uint64_t t_infer(const shown *m) { return m->s.t.ns[SRV_COMPUTE] / 1000; }
static uint64_t t_output(const shown *m) { return m->s.t.ns[SRV_POSTPROCESS] / 1000; }

static void write_triton(page *g)
{
    triton_line(g, "nv_inference_request_success", "Requests that went well.", "counter", t_success);
    family(g->out, "nv_inference_request_failure", "counter", "Requests that did not.");
    for (int i = 0; i < g->n; i++) {
        for (int k = SRV_FAILED; k < SRV_OUTCOMES; k++) {
            srv_text_printf(g->out, "nv_inference_request_failure");
            labels(g->out, g->list[i].name, g->list[i].version);
            srv_text_printf(g->out, ",reason=\"%s\"} %" PRIu64 "\n",
                            k == SRV_REJECTED ? "REJECTED" : k == SRV_CANCELLED ? "CANCELED" : k == SRV_EXPIRED ? "REJECTED_TIMEOUT" : "OTHER",
                            g->list[i].s.t.outcomes[k]);
        }
    }
    triton_line(g, "nv_inference_count", "Rows that were run.", "counter", t_rows);
    triton_line(g, "nv_inference_exec_count", "Runs.", "counter", t_runs);
    triton_line(g, "nv_inference_pending_request_count", "Requests that wait.", "gauge", t_pending);
    triton_line(g, "nv_inference_request_duration_us", "Whole requests.", "counter", t_request);
    triton_line(g, "nv_inference_queue_duration_us", "Waiting.", "counter", t_queue);
    triton_line(g, "nv_inference_compute_input_duration_us", "Decoding and preprocessing.", "counter", t_input);
    triton_line(g, "nv_inference_compute_infer_duration_us", "Runs.", "counter", t_infer);
    triton_line(g, "nv_inference_compute_output_duration_us", "Postprocessing.", "counter", t_output);
}

/* ---- putting the page together ------------------------------------------------------------ */

static shown *show(page *g, const char *name, int64_t version)
{
    for (int i = 0; i < g->n; i++)
        if (g->list[i].version == version && !strcmp(g->list[i].name, name)) return &g->list[i];
    shown *m = &g->list[g->n++];
    *m = (shown){.name = name, .version = version};
    return m;
}

static void show_series(page *g, const series *s)
{
    shown *m = show(g, s->name, s->version);
    add_up(s, &m->s);
}

static void show_entry(page *g, srv_store *store, const srv_entry *e)
{
    srv_model *model = NULL;
    od_status st = {0};
    if (e->state != SRV_STATE_READY || srv_store_acquire(store, e->name, e->version, &model, &st) != OD_OK) return;
    shown *m = show(g, e->name, e->version);
    m->loaded = true;
    m->weight_bytes = model->bytes;
    m->load_seconds = model->load_seconds;
    srv_batcher_stats(model->batcher, &m->batch);
    m->n_sizes = srv_batcher_size_stats(model->batcher, m->sizes, (int)OD_COUNT(m->sizes));
    m->session_bytes = srv_batcher_bytes(model->batcher);
    srv_model_release(model);
}

void srv_metrics_write(srv_metrics *m, srv_store *store, const srv_gauges *now, srv_text *out)
{
    page g = {.out = out};
    od_status st = {0};
    if (store && srv_store_index(store, &g.entries, &g.n_entries, &st) != OD_OK) g.n_entries = 0;
    pthread_mutex_lock(&m->adding);
    size_t most = (size_t)m->n_series + (size_t)g.n_entries + 1;
    pthread_mutex_unlock(&m->adding);
    g.list = calloc(most, sizeof *g.list);
    if (g.list) {
        size_t seen = 1;
        for (int i = 0; i < g.n_entries; i++) show_entry(&g, store, &g.entries[i]);
        for (int i = 0; i < SLOTS; i++) {
            series *s = atomic_load_explicit(&m->slots[i], memory_order_acquire);
            if (s && seen + (size_t)g.n_entries < most) show_series(&g, s), seen++; /* later ones next time */
        }
        sums other;
        add_up(m->other, &other);
        if (other.t.count[SRV_REQUEST]) show_series(&g, m->other);
    }
    write_server(m, now, out);
    write_outcomes(&g);
    for (int p = 0; p < SRV_PHASES; p++) write_phase(&g, p);
    write_batch_sizes(&g);
    write_models(&g);
    if (now->triton_names) write_triton(&g);
    write_process(m, out);
    free(g.list);
    free(g.entries);
}

/* ---- life --------------------------------------------------------------------------------- */

od_code srv_metrics_create(srv_metrics **out, od_status *st)
{
    srv_metrics *m = calloc(1, sizeof *m);
    if (!m || !(m->other = make_series("_other", 0))) {
        free(m);
        return od_fail(st, OD_NO_MEMORY, "no memory for metrics");
    }
    pthread_mutex_init(&m->adding, NULL);
    m->started_s = time(NULL);
    *out = m;
    return OD_OK;
}

void srv_metrics_destroy(srv_metrics *m)
{
    if (!m) return;
    for (int i = 0; i < SLOTS; i++) free(atomic_load(&m->slots[i]));
    free(m->other);
    pthread_mutex_destroy(&m->adding);
    free(m);
}
