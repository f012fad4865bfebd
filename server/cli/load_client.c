#include "server/cli/load_client.h"

#include "engine/base/cpu.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MOST = 16384, EVENTS = 256, DRAIN_MS = 2000 };

const char *const srv_load_stages[SRV_LOAD_STAGES] = {"queue", "decode", "preprocess", "compute", "postprocess"};

typedef struct conn {
    int fd; /* -1: not connected */
    bool busy;
    size_t sent;
    int64_t due_ns;    /* from when its request's latency counts */
    char head[HEAD_MOST + 1];
    size_t head_len;
    int status;        /* 0: head not whole yet */
    bool close;
    size_t body_left;
} conn;

typedef struct run {
    const srv_load_options *o;
    srv_load_result *out;
    const struct addrinfo *address;
    int epoll;
    conn *conns;
    int *free_list, n_free;  /* connections that could take a request */
    size_t cap;
    int64_t begin_ns, from_ns, until_ns; /* start, end of the warm-up, end */
    uint64_t issued;         /* open loop: requests taken from the schedule */
    int busy;
    bool failed;             /* no memory */
} run;

static void drop(run *r, conn *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    if (c->busy) r->busy--;
    c->busy = false;
    r->free_list[r->n_free++] = (int)(c - r->conns);
}

static void count_error(run *r, conn *c)
{
    if (c->due_ns >= r->from_ns && c->due_ns < r->until_ns) r->out->errors++;
    drop(r, c);
}

static bool open_socket(run *r, conn *c)
{
    int one = 1;
    c->fd = socket(r->address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.u32 = (uint32_t)(c - r->conns)};
    if (connect(c->fd, r->address->ai_addr, r->address->ai_addrlen) && errno != EINPROGRESS) return false;
    return epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &e) == 0;
}

static void push(run *r, conn *c)
{
    while (c->busy && c->sent < r->o->request_len) {
        ssize_t n = send(c->fd, r->o->request + c->sent, r->o->request_len - c->sent, MSG_NOSIGNAL);
        if (n > 0) c->sent += (size_t)n;
        else if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
        else {
            count_error(r, c);
            return;
        }
    }
}

/* Send a request that was due at `due_ns` on a free connection; false: there is none. */
static bool issue(run *r, int64_t due_ns)
{
    if (!r->n_free) return false;
    conn *c = &r->conns[r->free_list[--r->n_free]];
    c->busy = true;
    r->busy++;
    c->due_ns = due_ns;
    c->sent = c->head_len = 0;
    c->status = 0;
    if (c->fd < 0 && !open_socket(r, c)) {
        count_error(r, c);
        return true;
    }
    push(r, c);
    return true;
}

static void take_stages(run *r, const char *value)
{
    for (int k = 0; k < SRV_LOAD_STAGES; k++) {
        char key[32];
        snprintf(key, sizeof key, "%s;dur=", srv_load_stages[k]);
        const char *at = strstr(value, key);
        while (at && at != value && at[-1] != ' ' && at[-1] != ',') at = strstr(at + 1, key); /* "process" is in "preprocess" */
        if (at) r->out->stage_ms[k] += strtod(at + strlen(key), NULL);
    }
    r->out->staged++;
}

/* The head is whole: status, length, whether the connection goes on. */
static bool read_head(run *r, conn *c, size_t end)
{
    bool counts = c->due_ns >= r->from_ns;
    c->head[end] = '\0';
    if (strncmp(c->head, "HTTP/1.", 7) || end < 12) return false;
    c->status = (int)strtol(c->head + 9, NULL, 10);
    if (c->status < 100 || c->status > 599) return false;
    c->close = false;
    c->body_left = 0;
    for (char *line = strstr(c->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15)) c->body_left = strtoull(line + 15, NULL, 10);
        else if (!strncasecmp(line, "connection:", 11)) c->close = strcasestr(line, "close") != NULL;
        else if (counts && !strncasecmp(line, "server-timing:", 14)) {
            line[strcspn(line, "\r")] = '\0';
            take_stages(r, line + 14);
            line[strlen(line)] = '\r';
        }
    }
    return true;
}

static void answered(run *r, conn *c)
{
    srv_load_result *out = r->out;
    int64_t now = od_now_ns();
    if (c->due_ns >= r->from_ns && c->due_ns < r->until_ns) {
        out->statuses[c->status]++;
        if (c->status == 200) {
            if (out->n == r->cap) {
                size_t cap = r->cap ? r->cap * 2 : 65536;
                int64_t *more = realloc(out->latency_ns, cap * sizeof *more);
                if (!more) {
                    r->failed = true;
                    return;
                }
                out->latency_ns = more;
                r->cap = cap;
            }
            out->latency_ns[out->n++] = now - c->due_ns;
        }
    }
    if (c->close) {
        drop(r, c);
    } else {
        c->busy = false;
        r->busy--;
        r->free_list[r->n_free++] = (int)(c - r->conns);
    }
    if (r->o->rate <= 0 && now < r->until_ns) issue(r, now);
}

/* What came: head first, then as much body as it said. false: the connection is of no more use. */
static bool take(run *r, conn *c, const char *bytes, size_t n)
{
    if (!c->status) {
        size_t room = HEAD_MOST - c->head_len, part = n < room ? n : room;
        memcpy(c->head + c->head_len, bytes, part);
        size_t before = c->head_len;
        c->head_len += part;
        c->head[c->head_len] = '\0';
        char *end = memmem(c->head, c->head_len, "\r\n\r\n", 4);
        if (!end) return c->head_len < HEAD_MOST;
        size_t head = (size_t)(end - c->head);
        if (!read_head(r, c, head)) return false;
        n -= head + 4 - before;
    }
    if (n > c->body_left) return false;
    c->body_left -= n;
    if (!c->body_left) answered(r, c);
    return true;
}

static void pull(run *r, conn *c)
{
    char buffer[65536];
    while (c->fd >= 0) {
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n > 0 && c->busy && take(r, c, buffer, (size_t)n)) continue;
        if (c->busy) {
            count_error(r, c);
        } else if (c->fd >= 0) { /* the server ended an idle connection: it is opened anew when it is needed */
            close(c->fd);
            c->fd = -1;
        }
        return;
    }
}

/* Open loop: everything that is due by now, as far as connections go. When the next one is due. */
static int64_t issue_due(run *r, int64_t now)
{
    double gap = 1e9 / r->o->rate;
    int64_t due;
    while ((due = r->begin_ns + (int64_t)(gap * (double)r->issued)) <= now && due < r->until_ns) {
        if (!issue(r, due)) return now + 1000000;
        r->issued++;
    }
    return due;
}

static void wait_for_events(run *r, int64_t until_ns)
{
    struct epoll_event events[EVENTS];
    int64_t now = od_now_ns();
    struct timespec left = {0};
    if (until_ns > now) left = (struct timespec){(until_ns - now) / 1000000000, (until_ns - now) % 1000000000};
    int n = epoll_pwait2(r->epoll, events, EVENTS, &left, NULL);
    for (int i = 0; i < n; i++) {
        conn *c = &r->conns[events[i].data.u32];
        if (c->fd < 0) continue;
        if (events[i].events & EPOLLOUT) push(r, c);
        if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) pull(r, c);
    }
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void drive(run *r)
{
    const srv_load_options *o = r->o;
    r->begin_ns = od_now_ns();
    r->from_ns = r->begin_ns + (int64_t)(o->warmup_s * 1e9);
    r->until_ns = r->from_ns + (int64_t)(o->seconds * 1e9);
    int64_t now;
    while ((now = od_now_ns()) < r->until_ns && !r->failed) {
        int64_t next = r->until_ns;
        if (o->rate > 0) next = od_min_i64(next, issue_due(r, now));
        else
            while (r->n_free && issue(r, od_now_ns()) && od_now_ns() < r->until_ns) {}
        wait_for_events(r, next);
    }
    /* answers to what was due within the time still count */
    int64_t end = r->until_ns + DRAIN_MS * (int64_t)1000000;
    if (o->rate > 0) issue_due(r, od_now_ns());
    while (r->busy && (now = od_now_ns()) < end && !r->failed) {
        if (o->rate > 0) issue_due(r, now);
        wait_for_events(r, od_min_i64(end, now + 1000000));
    }
    if (o->rate > 0) {
        uint64_t all = (uint64_t)(o->rate * (o->warmup_s + o->seconds));
        r->out->late = (uint64_t)r->busy + (all > r->issued ? all - r->issued : 0);
    } else {
        r->out->late = (uint64_t)r->busy;
    }
}

od_code srv_load_run(const srv_load_options *o, srv_load_result *out, od_status *st)
{
    struct addrinfo *found = NULL;
    run r = {.o = o, .out = out, .epoll = -1};
    *out = (srv_load_result){.seconds = o->seconds};
    OD_TRY(srv_url_resolve(&o->url, &found, st));
    od_code rc = OD_OK;
    int fd = -1;
    for (const struct addrinfo *a = found; a && !r.address; a = a->ai_next) { /* the first that answers */
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) r.address = a;
        if (fd >= 0) close(fd);
    }
    r.conns = calloc((size_t)o->connections, sizeof *r.conns);
    r.free_list = calloc((size_t)o->connections, sizeof *r.free_list);
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!r.address) rc = od_fail(st, OD_IO, "nobody listens on %s port %s", o->url.host, o->url.port);
    else if (!r.conns || !r.free_list) rc = od_fail(st, OD_NO_MEMORY, "no memory for %d connections", o->connections);
    else if (r.epoll < 0) rc = od_fail(st, OD_IO, "epoll: %s", strerror(errno));
    else {
        for (int i = o->connections; i-- > 0;) {
            r.conns[i].fd = -1;
            r.free_list[r.n_free++] = i;
        }
        drive(&r);
        if (r.failed) rc = od_fail(st, OD_NO_MEMORY, "no memory for %zu latencies", out->n);
        for (int i = 0; i < o->connections; i++)
            if (r.conns[i].fd >= 0) close(r.conns[i].fd);
        if (out->n) qsort(out->latency_ns, out->n, sizeof *out->latency_ns, ascending);
    }
    if (r.epoll >= 0) close(r.epoll);
    free(r.conns);
    free(r.free_list);
    freeaddrinfo(found);
    if (rc) srv_load_free(out);
    return rc;
}

void srv_load_free(srv_load_result *r)
{
    free(r->latency_ns);
    r->latency_ns = NULL;
}
