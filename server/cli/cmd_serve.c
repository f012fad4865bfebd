#include "engine/base/cpu.h"
#include "engine/base/log.h"
#include "server/cli/cli.h"
#include "server/cli/notify.h"
#include "server/protocols/protocols.h"
#include "server/settings.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { DRAIN_TICK_MS = 5, LINGER_MS = 50 };

typedef struct serving {
    srv_settings settings;
    srv_server server;
    od_arena arena;
    const char *initial[256];
    int n_initial;
    int signals; /* a signalfd */
    int argc;
    char **argv;
} serving;

static od_code set_log_level(const char *name, od_status *st)
{
    static const char *const names[] = {"debug", "info", "warn", "error", "silent"};
    for (size_t i = 0; i < OD_COUNT(names); i++)
        if (!strcmp(name, names[i])) {
            od_log_level((od_level)i);
            return OD_OK;
        }
    return od_fail(st, OD_BAD_ARGUMENT, "--log-level %.40s: debug, info, warn, error or silent is wanted", name);
}

static od_code read_pem(const char *path, char *to, size_t most, od_status *st)
{
    FILE *f = fopen(path, "re");
    if (!f) return od_fail(st, OD_IO, "%s: %s", path, strerror(errno));
    to[fread(to, 1, most, f)] = '\0';
    fclose(f);
    return OD_OK;
}

static od_code use_certificate(const srv_settings *o, od_status *st)
{
    enum { MOST = 1 << 20 };
    char *cert = malloc(2 * (MOST + 1));
    if (!cert) return od_fail(st, OD_NO_MEMORY, "no memory for a certificate");
    char *key = cert + MOST + 1;
    od_code rc = read_pem(o->tls_cert, cert, MOST, st);
    if (rc == OD_OK) rc = read_pem(o->tls_key, key, MOST, st);
    if (rc == OD_OK) rc = srv_tls_use(cert, key, st);
    explicit_bzero(key, MOST);
    free(cert);
    return rc;
}

static od_code check(serving *s, od_status *st)
{
    srv_settings *o = &s->settings;
    if (!o->models) return od_fail(st, OD_BAD_ARGUMENT, "which folder of models? onnxd serve DIR");
    if (!o->tls_cert != !o->tls_key) return od_fail(st, OD_BAD_ARGUMENT, "--tls-cert and --tls-key belong together");
    size_t n = strlen(o->prefix);
    if (n && (o->prefix[0] != '/' || o->prefix[n - 1] == '/' || strpbrk(o->prefix, "?%#")))
        return od_fail(st, OD_BAD_ARGUMENT, "--api-prefix %.60s: it begins with '/' and does not end with it", o->prefix);
    OD_TRY(set_log_level(o->log_level, st));
    if (o->tls_cert) OD_TRY(use_certificate(o, st));
    for (char *list = o->load_models ? od_arena_strdup(&s->arena, o->load_models, strlen(o->load_models)) : NULL, *name; list;) {
        name = strsep(&list, ",");
        if (!*name) continue;
        if (s->n_initial == (int)OD_COUNT(s->initial)) return od_fail(st, OD_BAD_ARGUMENT, "--load-models: more than %d names", s->n_initial);
        s->initial[s->n_initial++] = name;
    }
    return OD_OK;
}

static bool is_loopback(const char *host)
{
    return !strncmp(host, "127.", 4) || !strcmp(host, "localhost") || !strcmp(host, "::1");
}

static od_code open_port(serving *s, od_status *st)
{
    const srv_settings *o = &s->settings;
    srv_http_options http = {
        .host = o->host, .port = (int)o->port, .socket_path = o->socket, .threads = s->server.socket_threads,
        .max_connections = (int)o->max_connections, .max_header = (size_t)o->max_header, .max_body = (size_t)o->max_body,
        .max_body_total = (size_t)o->max_body_total, .budget = &s->server.memory, .max_inflate_ratio = (int)o->max_inflate_ratio,
        .idle_ms = o->idle_timeout_s * 1000, .receive_ms = o->receive_timeout_s * 1000, .send_ms = o->send_timeout_s * 1000,
        .compress_above = (size_t)o->compress_above, .prefix = o->prefix, .cors_origin = o->cors_origin,
        .tls = o->tls_cert != NULL, .routes = srv_routes, .n_routes = srv_n_routes, .admit = srv_admit, .sent = srv_seen,
        .turned_away = srv_turned_away, .pool = s->server.pool, .context = &s->server};
    OD_TRY(srv_http_create(&s->server.http, &http, st));
    if (o->socket) {
        od_log(OD_INFO, "listening on %s", o->socket);
        return OD_OK;
    }
    od_log(OD_INFO, "listening on %s://%s:%d%s", o->tls_cert ? "https" : "http", o->host, srv_http_port(s->server.http), o->prefix);
    if (!is_loopback(o->host) && !o->tokens && !o->tls_cert)
        od_log(OD_WARN, "%s is reachable from outside, and neither --tokens nor --tls-cert is given: anybody may use the models", o->host);
    return OD_OK;
}

/* Runs of all workers together fit into what the machine or the container has. */
static size_t run_memory(const serving *s)
{
    if (s->settings.run_memory) return (size_t)s->settings.run_memory;
    return od_memory_limit() / 5 * 4 / (size_t)(od_pool_slots(s->server.pool) - 1);
}

static od_code open_store(serving *s, od_status *st)
{
    const srv_settings *o = &s->settings;
    s->server.run_memory = run_memory(s);
    srv_store_options store = {
        .dir = o->models, .initial = s->initial, .n_initial = s->n_initial, .budget = &s->server.memory,
        .load = {.pool = s->server.pool, .pack_cache = o->pack_cache, .tune = o->tune}, .pool = s->server.pool, .versions = (int)o->served_versions,
        .loaders = o->load_threads ? (int)o->load_threads : (int)od_min_i64(4, s->server.workers),
        .batch = {.max_batch_size = o->max_batch_size, .max_queue_delay_us = o->max_queue_delay_us, .max_queue = o->max_queue,
                  .timeout_us = o->request_timeout_ms * 1000, .memory_limit = s->server.run_memory, .budget = &s->server.memory}};
    if (!strcmp(o->model_control, "none")) store.control = SRV_CONTROL_NONE;
    else if (!strcmp(o->model_control, "poll")) store.control = SRV_CONTROL_POLL;
    else if (!strcmp(o->model_control, "explicit")) store.control = SRV_CONTROL_EXPLICIT;
    else return od_fail(st, OD_BAD_ARGUMENT, "--model-control %.40s: none, poll or explicit is wanted", o->model_control);
    OD_TRY(srv_store_create(&s->server.store, &store, st));
    atomic_store(&s->server.open, true);
    return OD_OK;
}

static od_code access_log_form(const srv_settings *o, bool *json, bool *off, od_status *st)
{
    *json = !strcmp(o->access_log, "json");
    *off = !strcmp(o->access_log, "off");
    if (*json || *off || !strcmp(o->access_log, "text")) return OD_OK;
    return od_fail(st, OD_BAD_ARGUMENT, "--access-log %.40s: off, text or json is wanted", o->access_log);
}

/* Lines in the form and to the place that `o` says; the log is made when it is first wanted. */
static od_code use_access_log(serving *s, const srv_settings *o, od_status *st)
{
    bool json, off;
    srv_access_log *log = atomic_load(&s->server.access_log);
    OD_TRY(access_log_form(o, &json, &off, st));
    if (log) {
        srv_access_log_form(log, json, off);
        srv_access_log_reopen(log, o->access_log_file);
    } else if (!off) {
        OD_TRY(srv_access_log_create(&log, o->access_log_file, json, st));
        atomic_store(&s->server.access_log, log);
    }
    return OD_OK;
}

/* SIGHUP: what can change without a new socket or new threads. All of it or, when something is wrong, nothing. */
static void reread(serving *s)
{
    od_status st = {0};
    srv_settings fresh;
    bool help = false, json, off;
    char others[400];
    srv_notify("RELOADING=1\nMONOTONIC_USEC=%" PRId64, od_now_ns() / 1000);
    od_code rc = srv_settings_read(&fresh, s->argc, s->argv, &s->arena, &help, &st);
    if (rc == OD_OK) rc = access_log_form(&fresh, &json, &off, &st);
    if (rc == OD_OK && s->settings.tls_cert && fresh.tls_cert && fresh.tls_key) rc = use_certificate(&fresh, &st);
    if (rc == OD_OK) rc = set_log_level(fresh.log_level, &st);
    if (rc == OD_OK) rc = srv_admit_read(fresh.tokens, &st);
    if (rc == OD_OK) rc = use_access_log(s, &fresh, &st);
    srv_notify("READY=1");
    if (rc != OD_OK) {
        od_log(OD_ERROR, "SIGHUP: settings stay as they were: %s", st.msg);
        return;
    }
    srv_store_rescan(s->server.store);
    srv_settings_changed(&s->settings, &fresh, others, sizeof others);
    if (*others) od_log(OD_WARN, "SIGHUP: a new start is needed for %s", others);
    od_log(OD_INFO, "SIGHUP: log level %s; tokens, certificate, access log and models looked at again", fresh.log_level);
}

/* The next signal, or 0 after `ms` without one (-1: wait). */
static int next_signal(const serving *s, int ms)
{
    struct pollfd p = {.fd = s->signals, .events = POLLIN};
    struct signalfd_siginfo info;
    if (poll(&p, 1, ms) <= 0 || read(s->signals, &info, sizeof info) != (ssize_t)sizeof info) return 0;
    return (int)info.ssi_signo;
}

/* Readiness is false and new work is refused; what runs gets its time. Exit code. */
static int drain(serving *s)
{
    srv_server *server = &s->server;
    int64_t until = od_now_ns() + s->settings.grace_s * 1000000000, quiet_since = 0;
    od_log(OD_INFO, "stopping: %d requests are at work, up to %" PRId64 " s for them", srv_http_active(server->http), s->settings.grace_s);
    srv_notify("STOPPING=1\nSTATUS=Finishing %d requests", srv_http_active(server->http));
    atomic_store(&server->draining, true);
    srv_http_drain(server->http);
    for (;;) {
        int64_t now = od_now_ns();
        bool busy = srv_http_active(server->http) > 0;
        if (busy) quiet_since = 0;
        else if (!quiet_since) quiet_since = now;
        /* a request may be on its way on an open connection: linger for it */
        bool long_enough = quiet_since && (now - quiet_since > LINGER_MS * 1000000 || !srv_http_connections(server->http));
        if (long_enough && srv_http_close(server->http)) return 0;
        if (now > until) {
            od_log(OD_WARN, "stopping: %d requests did not finish in time", srv_http_active(server->http));
            _exit(1);
        }
        int signal = next_signal(s, DRAIN_TICK_MS);
        if (signal == SIGTERM || signal == SIGINT) {
            od_log(OD_WARN, "a second signal: ending at once");
            _exit(1);
        }
    }
}

/* Descriptors for so many connections and for all else, as far as the system lets us. */
static void allow_connections(int64_t n)
{
    enum { OTHERS = 256 };
    struct rlimit limit;
    rlim_t want = (rlim_t)n + OTHERS;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= want) return;
    bool enough = limit.rlim_max >= want;
    limit.rlim_cur = enough ? want : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) || !enough)
        od_log(OD_WARN, "only %ju files may be open (ulimit -n): not enough for %" PRId64 " connections", (uintmax_t)limit.rlim_cur, n);
}

/* One answers a hundred thousand small requests a second; more of them only push each other, and workers, off few cores. */
static int socket_threads_for(int cores)
{
    return cores <= 4 ? 1 : cores >= 64 ? 16 : (cores + 3) / 4;
}

static od_code serve(serving *s, od_status *st)
{
    OD_TRY(check(s, st));
    OD_TRY(srv_admit_read(s->settings.tokens, st));
    int workers = s->settings.threads ? (int)s->settings.threads : od_cpu_count();
    s->server.workers = workers;
    s->server.socket_threads = s->settings.socket_threads ? (int)s->settings.socket_threads : socket_threads_for(od_cpu_count());
    OD_TRY(srv_metrics_create(&s->server.metrics, st));
    OD_TRY(use_access_log(s, &s->settings, st));
    OD_TRY(od_pool_create(&s->server.pool, workers, st));
    s->server.memory.limit = s->settings.memory_budget ? (size_t)s->settings.memory_budget : od_memory_limit() / 10 * 9;
    allow_connections(s->settings.max_connections);
    OD_TRY(open_port(s, st)); /* first: liveness does not wait for a look at the folder, however slow its disk */
    OD_TRY(open_store(s, st));
    od_log(OD_INFO, "%d workers, threads for sockets: %d, %s, models in %s", workers, s->server.socket_threads,
           od_cpu_isa_name(od_cpu_isa()), s->settings.models);
    srv_notify("READY=1\nSTATUS=Serving %s", s->settings.models);
    for (int watchdog_ms = srv_notify_watchdog_ms();;) {
        int signal = next_signal(s, watchdog_ms);
        if (signal == SIGHUP) reread(s);
        else if (signal) return OD_OK;
        srv_store_ready(s->server.store); /* a store whose lock nobody gives back is no life */
        if (watchdog_ms > 0) srv_notify("WATCHDOG=1");
    }
}

static int help(void)
{
    printf("usage: onnxd serve DIR [--flag VALUE]...\n\nServes the models of DIR over HTTP until SIGTERM or SIGINT.\n\n");
    srv_settings_help(stdout);
    return 0;
}

int srv_cmd_serve(int argc, char **argv)
{
    static serving s; /* its addresses must hold until the very end */
    od_status st = {0};
    bool wants_help = false;
    sigset_t set;
    s.argc = argc;
    s.argv = argv;
    s.server.settings = &s.settings;
    if (srv_settings_read(&s.settings, argc, argv, &s.arena, &wants_help, &st) != OD_OK) {
        srv_cli_fail(&st);
        return st.code == OD_BAD_ARGUMENT ? 2 : 1;
    }
    if (wants_help) return help();
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s.signals = signalfd(-1, &set, SFD_CLOEXEC);
    int code = 0;
    if (serve(&s, &st) != OD_OK) code = srv_cli_fail(&st) + (st.code == OD_BAD_ARGUMENT);
    else code = drain(&s);
    srv_http_destroy(s.server.http);
    srv_store_destroy(s.server.store);
    od_pool_destroy(s.server.pool);
    srv_access_log_destroy(atomic_load(&s.server.access_log));
    srv_metrics_destroy(s.server.metrics);
    srv_admit_read(NULL, &st);
    od_arena_fini(&s.arena);
    close(s.signals);
    return code;
}
