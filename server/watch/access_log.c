#include "server/watch/access_log.h"
#include "engine/base/log.h"
#include "server/text.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER = 256 * 1024, /* of lines not yet written; there are two */
    LINE_BYTES = 8192,   /* longer lines lose the end of their target */
    TARGET_MAX = 512,
    GATHER_MS = 20       /* lines are written together */
};

struct srv_access_log {
    int fd;
    bool own;       /* fd is to be closed */
    char *new_path; /* to be opened before the next lines; NULL: nothing is */
    atomic_bool json, off;
    pthread_t thread;
    pthread_mutex_t lock; /* held for copying a line, never while writing */
    pthread_cond_t filled;
    char *front, *back;
    size_t used;
    bool stop;
    atomic_uint_least64_t dropped;
};

/* ---- a line ------------------------------------------------------------------------------- */

typedef struct line {
    char data[LINE_BYTES];
    size_t len;
} line;

static void put(line *l, const char *fmt, ...) OD_PRINTF(2, 3);

static void put(line *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(l->data + l->len, sizeof l->data - l->len, fmt, args);
    va_end(args);
    if (n > 0) l->len = l->len + (size_t)n < sizeof l->data ? l->len + (size_t)n : sizeof l->data - 1;
}

/* A JSON string of at most TARGET_MAX bytes of `s`; also in text lines, where it keeps lines whole. */
static void put_quoted(line *l, const char *s)
{
    char escaped[TARGET_MAX * 6 + 128];
    od_arena none = {0};
    srv_text t = {.arena = &none, .data = escaped, .cap = sizeof escaped};
    srv_text_json(&t, s, strnlen(s, TARGET_MAX));
    put(l, "%.*s", (int)t.len, t.data);
}

static void put_time(line *l)
{
    struct timespec now;
    struct tm utc;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    put(l, "%s.%03dZ", text, (int)(now.tv_nsec / 1000000));
}

typedef struct phase {
    const char *name;
    int64_t ns;
} phase;

enum { PHASES = 5 };

static void phases_of(const srv_access *a, phase out[PHASES])
{
    out[0] = (phase){"queue", a->queue_ns};
    out[1] = (phase){"decode", a->decode_ns};
    out[2] = (phase){"preprocess", a->preprocess_ns};
    out[3] = (phase){"compute", a->compute_ns};
    out[4] = (phase){"postprocess", a->postprocess_ns};
}

static void put_json_member(line *l, const char *name, const char *value)
{
    if (!value || !*value) return;
    put(l, ",\"%s\":", name);
    put_quoted(l, value);
}

static void make_json(line *l, const srv_access *a)
{
    phase p[PHASES];
    phases_of(a, p);
    put(l, "{\"time\":\"");
    put_time(l);
    put(l, "\",\"status\":%d,\"ms\":%.3f", a->status, (double)a->total_ns / 1e6);
    put_json_member(l, "method", a->method);
    put_json_member(l, "target", a->target);
    put_json_member(l, "peer", a->peer);
    put_json_member(l, "client", a->client);
    put_json_member(l, "id", a->id);
    put_json_member(l, "traceparent", a->traceparent);
    put(l, ",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64, a->bytes_in, a->bytes_out);
    if (a->model) {
        put_json_member(l, "model", a->model);
        put(l, ",\"version\":%" PRId64, a->version);
    }
    for (int i = 0; i < PHASES; i++)
        if (p[i].ns >= 0) put(l, ",\"%s_ms\":%.3f", p[i].name, (double)p[i].ns / 1e6);
    if (a->batch_rows > 0) put(l, ",\"batch\":%" PRId64, a->batch_rows);
    put(l, "}");
}

static void make_text(line *l, const srv_access *a)
{
    phase p[PHASES];
    phases_of(a, p);
    put_time(l);
    put(l, " %s %s ", a->peer ? a->peer : "-", a->method);
    put_quoted(l, a->target);
    put(l, " %d %" PRIu64 " %" PRIu64 " %.3fms id=", a->status, a->bytes_in, a->bytes_out, (double)a->total_ns / 1e6);
    put_quoted(l, a->id ? a->id : "");
    if (a->client) {
        put(l, " client=");
        put_quoted(l, a->client);
    }
    if (a->model) {
        put(l, " model=");
        put_quoted(l, a->model);
        put(l, " version=%" PRId64, a->version);
    }
    for (int i = 0; i < PHASES; i++)
        if (p[i].ns >= 0) put(l, " %s=%.3fms", p[i].name, (double)p[i].ns / 1e6);
    if (a->batch_rows > 0) put(l, " batch=%" PRId64, a->batch_rows);
}

void srv_access_log_write(srv_access_log *log, const srv_access *a)
{
    if (!log || atomic_load_explicit(&log->off, memory_order_relaxed)) return;
    line l;
    l.len = 0;
    if (atomic_load_explicit(&log->json, memory_order_relaxed)) make_json(&l, a);
    else make_text(&l, a);
    l.data[l.len++] = '\n'; /* put leaves room for it */
    pthread_mutex_lock(&log->lock);
    bool fits = log->used + l.len <= BUFFER;
    if (fits) {
        memcpy(log->front + log->used, l.data, l.len);
        if (!log->used) pthread_cond_signal(&log->filled);
        log->used += l.len;
    }
    pthread_mutex_unlock(&log->lock);
    if (!fits) atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
}

/* ---- writing ------------------------------------------------------------------------------ */

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

/* The descriptor that `path` stands for; below 0: it cannot be opened. `*own`: it is to be closed. */
static int open_path(const char *path, bool *own)
{
    *own = path && strcmp(path, "-") && strcmp(path, "stderr");
    return *own ? open_file(path) : path && !strcmp(path, "stderr") ? STDERR_FILENO : STDOUT_FILENO;
}

/* On the writer's thread. Takes `path`. */
static void reopen(srv_access_log *log, char *path)
{
    bool own;
    int fd = open_path(path, &own);
    if (fd < 0) {
        od_log(OD_WARN, "access log %s: %s; the old file goes on", path, strerror(errno));
    } else {
        if (log->own) close(log->fd);
        log->fd = fd;
        log->own = own;
    }
    free(path);
}

static void write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return; /* a full disk or a closed pipe loses lines, not requests */
        data += n;
        size -= (size_t)n;
    }
}

static void *writer_main(void *arg)
{
    srv_access_log *log = arg;
    pthread_mutex_lock(&log->lock);
    for (;;) {
        while (!log->used && !log->stop && !log->new_path) pthread_cond_wait(&log->filled, &log->lock);
        bool stop = log->stop;
        if (!stop && !log->new_path) {
            pthread_mutex_unlock(&log->lock);
            nanosleep(&(struct timespec){0, GATHER_MS * 1000000}, NULL);
            pthread_mutex_lock(&log->lock);
        }
        char *full = log->front;
        size_t size = log->used;
        log->front = log->back;
        log->back = full;
        log->used = 0;
        char *path = log->new_path; /* it may have come while lines were gathered */
        log->new_path = NULL;
        pthread_mutex_unlock(&log->lock);
        if (path) reopen(log, path);
        write_all(log->fd, full, size);
        if (stop) return NULL;
        pthread_mutex_lock(&log->lock);
    }
}

od_code srv_access_log_create(srv_access_log **out, const char *path, bool json, od_status *st)
{
    srv_access_log *log = calloc(1, sizeof *log);
    if (log) {
        log->fd = -1;
        log->front = malloc(BUFFER);
        log->back = malloc(BUFFER);
    }
    if (!log || !log->front || !log->back) {
        od_fail(st, OD_NO_MEMORY, "no memory for the access log");
        goto fail;
    }
    log->json = json;
    if ((log->fd = open_path(path, &log->own)) < 0) {
        od_fail(st, OD_IO, "access log %s: %s", path, strerror(errno));
        goto fail;
    }
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->filled, NULL);
    if (!pthread_create(&log->thread, NULL, writer_main, log)) {
        pthread_setname_np(log->thread, "access-log");
        *out = log;
        return OD_OK;
    }
    od_fail(st, OD_IO, "the system refused a thread for the access log");
    if (log->own) close(log->fd);
fail:
    if (log) {
        free(log->front);
        free(log->back);
    }
    free(log);
    return st->code;
}

void srv_access_log_destroy(srv_access_log *log)
{
    if (!log) return;
    pthread_mutex_lock(&log->lock);
    log->stop = true;
    pthread_cond_signal(&log->filled);
    pthread_mutex_unlock(&log->lock);
    pthread_join(log->thread, NULL);
    if (log->own) close(log->fd);
    pthread_cond_destroy(&log->filled);
    pthread_mutex_destroy(&log->lock);
    free(log->front);
    free(log->back);
    free(log->new_path);
    free(log);
}

void srv_access_log_form(srv_access_log *log, bool json, bool off)
{
    if (!log) return;
    atomic_store(&log->json, json);
    atomic_store(&log->off, off);
}

void srv_access_log_reopen(srv_access_log *log, const char *path)
{
    char *copy = log ? strdup(path ? path : "-") : NULL;
    if (!copy) return; /* the old file goes on */
    pthread_mutex_lock(&log->lock);
    free(log->new_path);
    log->new_path = copy;
    pthread_cond_signal(&log->filled);
    pthread_mutex_unlock(&log->lock);
}

uint64_t srv_access_log_dropped(const srv_access_log *log)
{
    return log ? atomic_load_explicit(&((srv_access_log *)(uintptr_t)log)->dropped, memory_order_relaxed) : 0;
}
