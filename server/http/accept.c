/* accept.c - a thread of its own for new connections: it alone knows how many there are, and can say so to one too many. */
#include "server/http/conn.h"

#include "engine/base/cpu.h"
#include "engine/base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LINGERING = 64,                  /* sockets of clients that were turned away, until they have read why */
    LINGER_MS = 500,
    SHORT_OF_FILES_MS = 20
};

typedef struct lingering {
    int fd[LINGERING];
    int64_t since_ns[LINGERING];
    int first, n;
} lingering;

/* To close a socket with unread bytes in it would take the reply back. */
static void let_go(lingering *l)
{
    char bytes[4096];
    int fd = l->fd[l->first];
    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {}
    close(fd);
    l->first = (l->first + 1) % LINGERING;
    l->n--;
}

static void turn_away(srv_http *h, int fd, lingering *l)
{
#define TOO_MANY "{\"error\":\"too many connections: the server has as many as it may, retry\"}"
    static const char reply[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 73\r\n"
                                "Retry-After: 1\r\nConnection: close\r\n\r\n" TOO_MANY;
    _Static_assert(sizeof TOO_MANY == 73 + 1, "Content-Length");
    if (h->o.turned_away) h->o.turned_away(h->o.context);
    if (h->o.tls || send(fd, reply, sizeof reply - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        close(fd);
        return;
    }
    shutdown(fd, SHUT_WR);
    if (l->n == LINGERING) let_go(l);
    int at = (l->first + l->n++) % LINGERING;
    l->fd[at] = fd;
    l->since_ns[at] = od_now_ns();
}

/* All that wait at the door. */
static void take_in(srv_http *h, lingering *l)
{
    for (;;) {
        struct sockaddr_storage from;
        socklen_t size = sizeof from;
        int fd = accept4(h->listen_fd, (struct sockaddr *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            nanosleep(&(struct timespec){.tv_nsec = SHORT_OF_FILES_MS * 1000000}, NULL); /* they wait until others leave */
            return;
        }
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (fd < 0) return;
        if (atomic_fetch_add(&h->connections, 1) < h->o.max_connections) {
            if (MHD_add_connection(h->daemon, fd, (struct sockaddr *)&from, size) != MHD_YES) atomic_fetch_sub(&h->connections, 1); /* it closed fd */
        } else {
            atomic_fetch_sub(&h->connections, 1);
            turn_away(h, fd, l);
        }
    }
}

static void *accept_main(void *arg)
{
    srv_http *h = arg;
    lingering l = {.n = 0};
    struct pollfd fds[2] = {{.fd = h->stop_fd, .events = POLLIN}, {.fd = h->listen_fd, .events = POLLIN}};
    do {
        poll(fds, 2, l.n ? LINGER_MS / 2 : -1);
        if (fds[0].revents || fds[1].revents) take_in(h, &l); /* at the end also: who is at the door already is answered */
        int64_t now = od_now_ns();
        while (l.n && now - l.since_ns[l.first] > LINGER_MS * INT64_C(1000000)) let_go(&l);
    } while (!fds[0].revents);
    while (l.n) let_go(&l);
    return NULL;
}

od_code srv_accept_start(srv_http *h, od_status *st)
{
    h->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (h->stop_fd < 0) return od_fail(st, OD_IO, "no event descriptor: %s", strerror(errno));
    if (pthread_create(&h->acceptor, NULL, accept_main, h)) return od_fail(st, OD_IO, "the system refused a thread");
    pthread_setname_np(h->acceptor, "accept");
    h->accepting = true;
    return OD_OK;
}

void srv_accept_stop(srv_http *h)
{
    uint64_t one = 1;
    if (!h->accepting) return;
    while (write(h->stop_fd, &one, sizeof one) < 0 && errno == EINTR) {}
    pthread_join(h->acceptor, NULL);
    h->accepting = false;
    close(h->listen_fd);
    h->listen_fd = -1;
}
