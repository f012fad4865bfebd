#include "server/http/conn.h"

#include "engine/base/cpu.h"
#include "engine/base/log.h"
#include "server/protocols/json_numbers.h"
#include "server/reply.h"
#include "server/watch/ids.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FIRST_BODY = 64 << 10,    /* allocated at once for bodies of unknown length */
    CHARGE_STEP = 16 << 10,
    KEEP_ARENA = 256 << 10,   /* an idle connection holds no more */
    BODY_ALIGN = 16,
    SMALL_BODY = 16 << 10,    /* lies in the connection's arena, which is there anyway */
    BIG_BODY = 32 << 10,      /* JSON that is parsed on a worker (SRV_ROUTE_WORK_BIG) */
    BIG_BYTES = 4 << 20,      /* and any body */
    ONE_BUFFER = 64 << 10,    /* replies up to this are sent as one buffer */
    POOL_STEP = 8 << 10
};

void srv_conn_stage(srv_conn *c, srv_stage stage, int64_t now)
{
    atomic_store(&c->since_ns, now);
    atomic_store(&c->stage, (int)stage);
}

/* ---- the life of a connection's request */

static void clear(srv_conn *c, int64_t now)
{
    srv_request *r = &c->request;
    srv_http *h = r->http;
    if (c->charged) {
        atomic_fetch_sub(&h->body_bytes, c->charged);
        od_budget_give(h->o.budget, c->charged);
    }
    if (r->body && !c->body_in_arena) free(r->body - c->body_lead);
    if (od_arena_bytes(&r->arena) > KEEP_ARENA) od_arena_fini(&r->arena);
    else od_arena_reset(&r->arena);
    od_arena arena = r->arena;
    *r = (srv_request){.http = h, .context = h->o.context, .arena = arena,
                       .queue_ns = -1, .decode_ns = -1, .preprocess_ns = -1, .compute_ns = -1, .postprocess_ns = -1,
                       .explain_ns = -1, .chain_ns = -1};
    c->began = c->refused = c->queued = c->body_in_arena = false;
    c->content_coding = NULL;
    atomic_store(&c->progress, SRV_PROGRESS_RUNNING);
    c->body_cap = c->body_want = c->body_lead = c->charged = c->discarded = 0;
    if (atomic_load(&c->stage) != SRV_STAGE_IDLE) atomic_fetch_sub(&h->active, 1);
    srv_conn_stage(c, SRV_STAGE_IDLE, now);
}

/* libmicrohttpd has read the request line. */
static void *on_line(void *arg, const char *uri, struct MHD_Connection *mhd)
{
    srv_http *h = arg;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    srv_conn *c = info ? info->socket_context : NULL;
    if (!c) return NULL;
    srv_request *r = &c->request;
    atomic_fetch_add(&h->active, 1);
    r->started_ns = od_now_ns();
    srv_conn_stage(c, SRV_STAGE_RECEIVING, r->started_ns);
    size_t len = strlen(uri), prefix = strlen(h->o.prefix);
    char *target = od_arena_strdup(&r->arena, uri, len), *path = od_arena_strdup(&r->arena, uri, len);
    if (!target || !path) return c;
    r->target = target;
    if (*path != '/' && strstr(path, "://")) { /* "http://host/v2", as to a proxy: what stands behind the host */
        path = strstr(path, "://") + 3;
        path += strcspn(path, "/?");
        if (*path != '/') path--, *path = '/'; /* of what stood there nothing is needed */
    }
    char *query = strchr(path, '?');
    if (query) *query = '\0';
    r->query = query ? query + 1 : "";
    bool inside = !prefix || (!strncmp(path, h->o.prefix, prefix) && (!path[prefix] || path[prefix] == '/'));
    r->path = inside ? path + prefix : "/?"; /* no route has that path */
    return c;
}

static void read_peer(srv_conn *c)
{
    struct sockaddr_storage a = {.ss_family = AF_UNIX};
    socklen_t size = sizeof a;
    strcpy(c->peer, "unix");
    if (getpeername(c->fd, (struct sockaddr *)&a, &size) == 0 && a.ss_family != AF_UNIX)
        getnameinfo((struct sockaddr *)&a, size, c->peer, sizeof c->peer, NULL, 0, NI_NUMERICHOST);
}

const char *srv_request_peer(const srv_request *r)
{
    return ((const srv_conn *)r)->peer;
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what)
{
    srv_http *h = arg;
    srv_conn *c = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        c = calloc(1, sizeof *c);
        if (!c || !info) {
            free(c);
            return;
        }
        c->mhd = mhd;
        c->fd = (int)info->connect_fd;
        c->request.http = h;
        pthread_mutex_init(&c->lock, NULL);
        read_peer(c);
        c->request.arena.budget = h->o.budget;
        clear(c, od_now_ns());
        *context = c;
        pthread_mutex_lock(&h->lock);
        bool first = !h->conns;
        c->next = h->conns;
        c->link = &h->conns;
        if (c->next) c->next->link = &c->next;
        h->conns = c;
        if (first) pthread_cond_signal(&h->wake);
        pthread_mutex_unlock(&h->lock);
    } else if (c) {
        if (atomic_load(&h->stopping) && atomic_load(&c->stage) != SRV_STAGE_IDLE) atomic_fetch_add(&h->cut, 1);
        pthread_mutex_lock(&h->lock);
        *c->link = c->next;
        if (c->next) c->next->link = c->link;
        pthread_mutex_unlock(&h->lock);
        clear(c, 0);
        od_arena_fini(&c->request.arena);
        pthread_mutex_destroy(&c->lock);
        atomic_fetch_sub(&h->connections, 1);
        free(c);
        *context = NULL;
    }
}

static void on_completed(void *arg, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why)
{
    srv_http *h = arg;
    srv_conn *c = *context;
    (void)mhd;
    if (!c) return;
    c->request.sent_ns = od_now_ns();
    if (h->o.sent && c->began) h->o.sent(&c->request, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    clear(c, c->request.sent_ns);
    *context = NULL;
}

/* ---- the body */

/* Count memory of the body up to `need` bytes, in steps. What is allocated and not yet written is only addresses. */
static od_code charge(srv_conn *c, size_t need, od_status *st)
{
    srv_http *h = c->request.http;
    if (need <= c->charged) return OD_OK;
    size_t added = (need - c->charged + CHARGE_STEP - 1) / CHARGE_STEP * CHARGE_STEP;
    bool fits = atomic_fetch_add(&h->body_bytes, added) + added <= h->o.max_body_total || !h->o.max_body_total;
    if (!fits || !od_budget_take(h->o.budget, added)) {
        atomic_fetch_sub(&h->body_bytes, added);
        srv_reply_header(&c->request, "Retry-After", "1");
        if (fits) return od_fail(st, OD_BUSY, "the memory that models and requests may have together is used up");
        return od_fail(st, OD_BUSY, "the bodies of all requests together would exceed %zu bytes", h->o.max_body_total);
    }
    c->charged += added;
    return OD_OK;
}

/* Room for `more` bytes and the zeros behind them: for the whole body at once where its length is known, so that what has come
 * is not copied again. */
static od_code body_room(srv_conn *c, size_t more, od_status *st)
{
    srv_request *r = &c->request;
    size_t need = c->body_lead + r->body_len + more + SRV_JSON_PAD;
    bool small = c->body_want <= SMALL_BODY && !c->content_coding;
    if (r->body_len + more && !small) OD_TRY(charge(c, need, st));
    if (need <= c->body_cap) return OD_OK;
    if (small && r->body) return od_fail(st, OD_BAD_VALUE, "a body of more than the %zu bytes that were announced", c->body_want);
    size_t cap = c->body_want == SIZE_MAX ? (c->body_cap ? c->body_cap * 2 : FIRST_BODY) : c->body_lead + c->body_want + SRV_JSON_PAD;
    if (cap < need) cap = need;
    char *base = small ? od_arena_alloc(&r->arena, cap) : realloc(r->body ? r->body - c->body_lead : NULL, cap);
    if (!base) return od_fail(st, OD_NO_MEMORY, "no memory for a body of %zu bytes", cap);
    r->body = base + c->body_lead;
    c->body_cap = cap;
    c->body_in_arena = small;
    return OD_OK;
}

static od_code take_body(srv_conn *c, const char *bytes, size_t n, od_status *st)
{
    srv_request *r = &c->request;
    if (r->body_len + n > r->http->o.max_body)
        return od_fail(st, OD_TOO_LARGE, "a body of more than the %zu bytes that are allowed", r->http->o.max_body);
    OD_TRY(body_room(c, n, st));
    memcpy(r->body + r->body_len, bytes, n);
    r->body_len += n;
    return OD_OK;
}

/* ---- the reply */

void srv_reply_header(srv_request *r, const char *name, const char *value)
{
    srv_reply *p = &r->reply;
    if (p->n_headers < SRV_REPLY_HEADERS) p->headers[p->n_headers++] = (srv_header){name, value};
}

static void make_error(srv_request *r, const od_status *st)
{
    srv_reply *p = &r->reply;
    if (p->status < 400) p->status = srv_reply_status(st->code);
    p->type = NULL;
    p->body = (srv_text){.arena = &r->arena};
    p->n_pieces = 0;
    p->tensors = false;
    r->code = st->code;
    srv_text_add(&p->body, "{\"error\":", 9);
    srv_text_json(&p->body, st->msg, strlen(st->msg));
    srv_text_add(&p->body, "}", 1);
}

/* "queue;dur=0.123, ..." in milliseconds. */
static char *timing(char *to, const char *name, int64_t ns, bool first)
{
    if (!first) *to++ = ',', *to++ = ' ';
    size_t n = strlen(name);
    memcpy(to, name, n);
    memcpy(to + n, ";dur=", 5);
    int64_t us = od_min_i64(ns / 1000, 1000000000000);
    to = srv_print_int(to + n + 5, us / 1000);
    *to++ = '.';
    for (int64_t unit = 100; unit; unit /= 10) *to++ = (char)('0' + us / unit % 10);
    return to;
}

static void add_timing(srv_request *r, struct MHD_Response *m)
{
    static const char *const names[] = {"queue", "decode", "preprocess", "compute", "postprocess", "explain", "chain"};
    const int64_t ns[] = {r->queue_ns, r->decode_ns, r->preprocess_ns, r->compute_ns, r->postprocess_ns, r->explain_ns, r->chain_ns};
    char text[256], *to = text;
    for (size_t i = 0; i < OD_COUNT(ns); i++)
        if (ns[i] >= 0) to = timing(to, names[i], ns[i], to == text);
    if (to == text) return;
    *to = '\0';
    MHD_add_response_header(m, "Server-Timing", text);
}

static struct MHD_Response *body_of(srv_request *r)
{
    srv_reply *p = &r->reply;
    size_t total = p->body.len;
    for (int i = 0; i < p->n_pieces; i++) total += p->pieces[i].len;
    if (!p->n_pieces) return MHD_create_response_from_buffer(total, p->body.data, MHD_RESPMEM_PERSISTENT);
    if (total <= ONE_BUFFER) { /* one system call sends it together with the head */
        char *to = srv_text_room(&p->body, total - p->body.len);
        if (!to) return NULL;
        for (int i = 0; i < p->n_pieces; i++) {
            memcpy(to, p->pieces[i].data, p->pieces[i].len);
            to += p->pieces[i].len;
        }
        return MHD_create_response_from_buffer(total, p->body.data, MHD_RESPMEM_PERSISTENT);
    }
    struct MHD_IoVec *v = od_arena_array(&r->arena, struct MHD_IoVec, p->n_pieces + 1);
    if (!v) return NULL;
    v[0] = (struct MHD_IoVec){p->body.data, p->body.len};
    for (int i = 0; i < p->n_pieces; i++) v[i + 1] = (struct MHD_IoVec){p->pieces[i].data, p->pieces[i].len};
    return MHD_create_response_from_iovec(v, (unsigned)p->n_pieces + 1, NULL, NULL);
}

static enum MHD_Result send_reply(srv_conn *c)
{
    srv_request *r = &c->request;
    srv_reply *p = &r->reply;
    srv_http *h = r->http;
    char length[24];
    size_t head = p->body.len;
    r->sent_bytes = head;
    for (int i = 0; i < p->n_pieces; i++) r->sent_bytes += p->pieces[i].len;
    struct MHD_Response *m = body_of(r);
    if (!m) return MHD_NO;
    MHD_add_response_header(m, "Content-Type", p->type ? p->type : "application/json");
    if (p->tensors) {
        *srv_print_int(length, (int64_t)head) = '\0';
        MHD_add_response_header(m, "Inference-Header-Content-Length", length);
    }
    for (int i = 0; i < p->n_headers; i++) MHD_add_response_header(m, p->headers[i].name, p->headers[i].value);
    MHD_add_response_header(m, "X-Request-Id", r->id);
    if (r->traceparent[0]) MHD_add_response_header(m, "traceparent", r->traceparent);
    if (r->compute_ns >= 0) add_timing(r, m);
    if (h->o.cors_origin) {
        MHD_add_response_header(m, "Access-Control-Allow-Origin", h->o.cors_origin);
        MHD_add_response_header(m, "Access-Control-Expose-Headers", "Inference-Header-Content-Length, Server-Timing, X-Request-Id, "
                                                                     "Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset");
    }
    if (p->close || atomic_load(&h->draining)) MHD_add_response_header(m, "Connection", "close");
    srv_conn_stage(c, SRV_STAGE_SENDING, od_now_coarse_ns());
    c->queued = true;
    enum MHD_Result rc = MHD_queue_response(c->mhd, (unsigned)p->status, m);
    MHD_destroy_response(m);
    return rc;
}

void srv_request_finish(srv_request *r)
{
    srv_conn *c = srv_conn_of(r);
    od_status st = {0};
    if (r->reply.body.full) {
        r->reply.status = 0;
        od_fail(&st, OD_NO_MEMORY, "no memory for the answer");
        make_error(r, &st);
    }
    if (!r->reply.status) r->reply.status = 200;
    srv_reply_encode(r);
    pthread_mutex_lock(&c->lock);
    r->gone = NULL;
    pthread_mutex_unlock(&c->lock);
    if (atomic_exchange(&c->progress, SRV_PROGRESS_DONE) == SRV_PROGRESS_SUSPENDED) MHD_resume_connection(c->mhd);
}

void srv_request_fail(srv_request *r, const od_status *st)
{
    make_error(r, st);
    srv_request_finish(r);
}

void srv_request_on_gone(srv_request *r, void (*gone)(srv_request *r))
{
    srv_conn *c = srv_conn_of(r);
    pthread_mutex_lock(&c->lock);
    r->gone = gone;
    if (gone && atomic_load(&c->kicked)) gone(r);
    pthread_mutex_unlock(&c->lock);
}

const char *srv_request_header(const srv_request *r, const char *name)
{
    return MHD_lookup_connection_value(((const srv_conn *)r)->mhd, MHD_HEADER_KIND, name);
}

/* ---- from head to handler */

typedef struct work {
    srv_request *r;
    void (*fn)(srv_request *r);
} work;

static void run_work(void *arg)
{
    work *w = arg;
    w->fn(w->r);
}

void srv_request_work(srv_request *r, void (*fn)(srv_request *r))
{
    work *w = od_arena_array(&r->arena, work, 1);
    if (w) {
        *w = (work){r, fn};
        if (od_pool_submit(r->http->o.pool, run_work, w)) return;
    }
    fn(r);
}

/* The same before pictures are decoded: reading a body is short, and only then is known how urgent it is. */
static void work_ahead(srv_request *r, void (*fn)(srv_request *r))
{
    work *w = od_arena_array(&r->arena, work, 1);
    if (w) {
        *w = (work){r, fn};
        if (od_pool_submit_ahead(r->http->o.pool, run_work, w)) return;
    }
    fn(r);
}

static void handle(srv_request *r)
{
    od_status st = {0};
    if (srv_body_decode(r, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    r->route->run(r);
}

/* Everything that can be said before the body comes. */
static od_code check_head(srv_conn *c, const char *method, const char *version, od_status *st)
{
    srv_request *r = &c->request;
    const srv_http_options *o = &r->http->o;
    memcpy(r->method, method, strnlen(method, sizeof r->method - 1)); /* the rest is zero */
    srv_id_make(r->id);
    if (atomic_load(&r->http->closing)) {
        r->reply.close = true; /* nobody waits for its body */
        return od_fail(st, OD_UNAVAILABLE, "shutting down");
    }
    OD_TRY(srv_head_check(c, !strcmp(version, MHD_HTTP_VERSION_1_1), st));
    if (!r->path) return od_fail(st, OD_NO_MEMORY, "no memory for a request");
    OD_TRY(srv_route_find(r, st));
    if (o->admit) OD_TRY(o->admit(r, st));
    if (c->body_want != SIZE_MAX && c->body_want > o->max_body)
        return od_fail(st, OD_TOO_LARGE, "a body of %zu bytes: at most %zu are allowed", c->body_want, o->max_body);
    if (r->has_header_part) c->body_lead = (BODY_ALIGN - r->header_part % BODY_ALIGN) % BODY_ALIGN;
    return OD_OK;
}

/* The reply is made; the rest of the body is thrown away first, so that the client gets to read the reply, unless
 * it is too long for that or the connection ends anyway. */
static enum MHD_Result refuse(srv_conn *c, const od_status *st)
{
    srv_request *r = &c->request;
    size_t left = c->body_want == SIZE_MAX ? 1 : c->body_want, most = 2 * r->http->o.max_body;
    const char *expect = srv_request_header(r, "Expect");
    c->refused = true;
    bool now = r->reply.close || left > most || (left && expect);
    if (now) r->reply.close = true;
    srv_request_fail(r, st);
    return now ? send_reply(c) : MHD_YES;
}

/* CORS preflight: OPTIONS anywhere, when it is switched on. */
static bool is_preflight(const srv_request *r)
{
    return r->http->o.cors_origin && !strcmp(r->method, "OPTIONS");
}

static enum MHD_Result begin(srv_conn *c, const char *method, const char *version)
{
    srv_request *r = &c->request;
    od_status st = {0};
    c->began = true;
    if (check_head(c, method, version, &st) == OD_OK) return MHD_YES;
    if (is_preflight(r) && r->reply.status) {
        r->reply.n_headers = 0;
        srv_reply_header(r, "Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
        srv_reply_header(r, "Access-Control-Allow-Headers", "Authorization, Content-Type, Content-Encoding, "
                                                            "Inference-Header-Content-Length, X-Request-Id, traceparent");
        srv_reply_header(r, "Access-Control-Max-Age", "3600");
        r->reply.status = 204;
        c->refused = true;
        srv_request_finish(r);
        return MHD_YES;
    }
    return refuse(c, &st);
}

static enum MHD_Result more_body(srv_conn *c, const char *bytes, size_t *n)
{
    od_status st = {0};
    size_t len = *n;
    *n = 0;
    if (!c->refused && take_body(c, bytes, len, &st) != OD_OK) {
        c->refused = true;
        srv_request_fail(&c->request, &st);
    }
    if (!c->refused) return MHD_YES;
    c->discarded += len;
    return c->discarded <= c->request.http->o.max_body + FIRST_BODY ? MHD_YES : MHD_NO;
}

static void dispatch(srv_conn *c)
{
    srv_request *r = &c->request;
    od_status st = {0};
    if (!r->body && body_room(c, 0, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    memset(r->body + r->body_len, 0, SRV_JSON_PAD);
    r->received_ns = od_now_ns();
    srv_conn_stage(c, SRV_STAGE_WORKING, r->received_ns);
    unsigned flags = r->route->flags;
    size_t text = r->has_header_part ? r->header_part : r->body_len; /* bytes of tensors are used where they lie */
    bool big = text > BIG_BODY || r->body_len > BIG_BYTES || c->content_coding;
    if ((flags & SRV_ROUTE_WORK_BIG) && big) work_ahead(r, handle);
    else if (flags & SRV_ROUTE_WORK) srv_request_work(r, handle);
    else handle(r);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **context)
{
    srv_conn *c = *context;
    (void)arg, (void)mhd, (void)url;
    if (!c) return MHD_NO;
    if (!c->began) return begin(c, method, version);
    if (*upload_size) return c->queued ? MHD_NO : more_body(c, upload, upload_size);
    if (c->queued) return MHD_YES;
    if (atomic_load(&c->progress) == SRV_PROGRESS_RUNNING) {
        dispatch(c);
        if (atomic_load(&c->progress) != SRV_PROGRESS_DONE) {
            srv_watcher_wake(c->request.http);
            MHD_suspend_connection(c->mhd);
            int running = SRV_PROGRESS_RUNNING;
            if (!atomic_compare_exchange_strong(&c->progress, &running, SRV_PROGRESS_SUSPENDED)) MHD_resume_connection(c->mhd);
            return MHD_YES;
        }
    }
    return send_reply(c);
}

/* ---- the server */

static size_t keep_escapes(void *arg, struct MHD_Connection *mhd, char *s)
{
    (void)arg, (void)mhd;
    return strlen(s); /* segments are decoded after they are split */
}

static void OD_PRINTF(2, 0) on_log(void *arg, const char *fmt, va_list args)
{
    char text[200];
    (void)arg;
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = '\0';
    od_log(OD_DEBUG, "http: %s", text);
}

static od_code start(srv_http *h, od_status *st)
{
    const srv_http_options *o = &h->o;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)srv_tls_choose}, {MHD_OPTION_END, 0, NULL}};
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET;
    if (o->tls) flags |= MHD_USE_TLS;
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem pool[] = {{MHD_OPTION_THREAD_POOL_SIZE, o->threads, NULL}, {MHD_OPTION_END, 0, NULL}};
    h->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_ARRAY, o->threads > 1 ? pool : none,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->max_connections * (unsigned)o->threads, /* it divides by threads; accept.c counts */
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->max_header + POOL_STEP, /* cleared for each request: not too large */
        MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)POOL_STEP, MHD_OPTION_URI_LOG_CALLBACK, on_line, h,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_ARRAY, o->tls ? tls : none, MHD_OPTION_END);
    if (h->daemon) return OD_OK;
    return od_fail(st, OD_IO, "libmicrohttpd could not start %d threads", o->threads);
}

od_code srv_http_create(srv_http **out, const srv_http_options *options, od_status *st)
{
    srv_http *h = calloc(1, sizeof *h);
    if (!h) return od_fail(st, OD_NO_MEMORY, "no memory for a server");
    pthread_condattr_t clock;
    h->o = *options;
    h->listen_fd = h->stop_fd = -1;
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&h->wake, &clock);
    od_code rc;
    if ((rc = srv_listen(h, st)) != OD_OK || (rc = srv_watcher_start(h, st)) != OD_OK || (rc = start(h, st)) != OD_OK ||
        (rc = srv_accept_start(h, st)) != OD_OK) {
        srv_http_destroy(h);
        return rc;
    }
    *out = h;
    return OD_OK;
}

int srv_http_port(const srv_http *h)
{
    return h->port;
}

void srv_http_drain(srv_http *h)
{
    if (atomic_exchange(&h->draining, true)) return;
    srv_accept_stop(h);
    if (h->o.socket_path) unlink(h->o.socket_path);
}

bool srv_http_close(srv_http *h)
{
    atomic_store(&h->closing, true); /* who has begun before sees it not, and is counted in `active` already */
    if (!srv_http_active(h)) return true;
    atomic_store(&h->closing, false);
    return false;
}

int srv_http_active(const srv_http *h)
{
    return atomic_load(&((srv_http *)(uintptr_t)h)->active);
}

size_t srv_http_body_bytes(const srv_http *h)
{
    return atomic_load(&((srv_http *)(uintptr_t)h)->body_bytes);
}

int srv_http_connections(const srv_http *h)
{
    return atomic_load(&((srv_http *)(uintptr_t)h)->connections);
}

void srv_http_destroy(srv_http *h)
{
    if (!h) return;
    srv_watcher_stop(h);
    if (h->accepting) srv_http_drain(h);
    atomic_store(&h->stopping, true);
    if (h->daemon) MHD_stop_daemon(h->daemon);
    if (atomic_load(&h->cut)) od_log(OD_WARN, "%d requests that had begun were cut off", atomic_load(&h->cut));
    if (h->o.tls) srv_tls_end();
    if (h->listen_fd >= 0) close(h->listen_fd);
    if (h->stop_fd >= 0) close(h->stop_fd);
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
