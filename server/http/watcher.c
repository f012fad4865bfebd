#include "server/http/conn.h"

#include "engine/base/cpu.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

enum {
    TICK_MS = 20,        /* while requests are with workers: how soon a client's leaving is seen */
    LAZY_MS = 500,       /* when none has been for so long, and connections are only open */
    SETTLED_MS = 15      /* requests younger than this are not looked at */
};

/* The client has shut its side or its connection is broken. libmicrohttpd does not look at a suspended
 * connection, so nobody else would see it. */
static bool has_gone(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* The client has gone in the middle of a request and all that it sent was read. libmicrohttpd 0.9.75 often misses that when the
 * end comes together with the last bytes. */
static bool has_broken_off(int fd)
{
    int unread = 0;
    return has_gone(fd) && ioctl(fd, FIONREAD, &unread) == 0 && !unread;
}

static int64_t allowed_ms(const srv_http *h, int stage)
{
    switch (stage) {
    case SRV_STAGE_IDLE: return h->o.idle_ms;
    case SRV_STAGE_RECEIVING: return h->o.receive_ms;
    case SRV_STAGE_SENDING: return h->o.send_ms;
    default: return 0; /* the batcher's deadlines hold for work */
    }
}

/* true: the connection has a request at work. */
static bool look_at(srv_http *h, srv_conn *c, int64_t now)
{
    int stage = atomic_load(&c->stage);
    int64_t age_ms = (now - atomic_load(&c->since_ns)) / 1000000, allowed = allowed_ms(h, stage);
    if (stage != SRV_STAGE_WORKING) {
        bool broken = stage == SRV_STAGE_RECEIVING && age_ms > LAZY_MS && has_broken_off(c->fd);
        if (((allowed && age_ms > allowed) || broken) && !c->kicked) {
            c->kicked = true;
            shutdown(c->fd, SHUT_RDWR); /* its socket thread sees the end and cleans up */
        }
        return false;
    }
    if (age_ms < SETTLED_MS || c->kicked || !has_gone(c->fd)) return true;
    pthread_mutex_lock(&c->lock);
    c->kicked = true;
    if (c->request.gone) c->request.gone(&c->request);
    pthread_mutex_unlock(&c->lock);
    return true;
}

static void *watch(void *arg)
{
    srv_http *h = arg;
    int64_t lazy_at = 0;
    pthread_mutex_lock(&h->lock);
    while (!h->stop) {
        int64_t now = od_now_ns();
        bool working = false;
        atomic_store(&h->watch_lazy, now >= lazy_at); /* before the look: what is given to a worker behind it says so */
        for (srv_conn *c = h->conns; c; c = c->next) working |= look_at(h, c, now);
        if (!h->conns) {
            pthread_cond_wait(&h->wake, &h->lock);
            continue;
        }
        if (working) {
            lazy_at = now + LAZY_MS * (int64_t)1000000;
            atomic_store(&h->watch_lazy, false);
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        int64_t ns = until.tv_nsec + (now < lazy_at ? TICK_MS : LAZY_MS) * (int64_t)1000000;
        until.tv_sec += ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
        pthread_cond_timedwait(&h->wake, &h->lock, &until);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

void srv_watcher_wake(srv_http *h)
{
    if (!atomic_load(&h->watch_lazy)) return;
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->watch_lazy, false);
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
}

od_code srv_watcher_start(srv_http *h, od_status *st)
{
    if (pthread_create(&h->watcher, NULL, watch, h)) return od_fail(st, OD_IO, "the system refused a thread");
    h->watching = true;
    return OD_OK;
}

void srv_watcher_stop(srv_http *h)
{
    if (!h->watching) return;
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->watcher, NULL);
    h->watching = false;
}
