/* conn.h - what the files of server/http share. Private to them. */
#ifndef SRV_HTTP_CONN_H
#define SRV_HTTP_CONN_H

#include "server/http/http.h"

#include <gnutls/abstract.h>
#include <microhttpd.h>
#include <pthread.h>

typedef enum srv_stage {
    SRV_STAGE_IDLE,      /* no request */
    SRV_STAGE_RECEIVING, /* its first line has come */
    SRV_STAGE_WORKING,   /* a handler has it */
    SRV_STAGE_SENDING
} srv_stage;

/* Where a request stands between its handler and its socket thread. */
enum { SRV_PROGRESS_RUNNING, SRV_PROGRESS_SUSPENDED, SRV_PROGRESS_DONE };

typedef struct srv_conn {
    srv_request request; /* first: a request is its connection */
    struct MHD_Connection *mhd;
    int fd;
    char peer[48];
    struct srv_conn *next, **link; /* in srv_http.conns, under its lock */
    atomic_int stage;              /* srv_stage */
    atomic_llong since_ns;         /* when it began */
    atomic_int progress;           /* SRV_PROGRESS_RUNNING, ... */
    bool began;                    /* the head was looked at */
    bool refused;                  /* answered already; the rest of the body is thrown away */
    bool queued;                   /* the reply is with libmicrohttpd */
    atomic_bool kicked;            /* its socket was shut by the watcher */
    size_t body_cap, body_want;    /* allocated; Content-Length, or SIZE_MAX: not known */
    const char *content_coding;    /* Content-Encoding, the last one; NULL: none */
    bool body_in_arena;            /* too small to be counted, and gone with the request */
    size_t body_lead;              /* unused bytes in front of the body, so that tensors in it are aligned */
    size_t charged;                /* bytes counted in srv_http.body_bytes */
    size_t discarded;
    pthread_mutex_t lock;          /* guards request.gone */
} srv_conn;

struct srv_http {
    srv_http_options o;
    struct MHD_Daemon *daemon;
    int listen_fd, port;
    int stop_fd;          /* an eventfd: the acceptor is to end */
    pthread_t acceptor;
    bool accepting;
    atomic_bool draining;
    atomic_bool closing;  /* no request is begun any more: what comes is answered at once */
    atomic_bool stopping; /* libmicrohttpd is ending all connections */
    atomic_int cut;       /* requests that had begun when it did */
    atomic_int active, connections; /* of these, those that MHD has not begun with yet, too */
    atomic_size_t body_bytes;
    pthread_mutex_t lock; /* guards conns and the watcher's sleep */
    pthread_cond_t wake;
    srv_conn *conns;
    bool stop, watching;
    atomic_bool watch_lazy; /* the watcher looks but seldom */
    pthread_t watcher;
};

static inline srv_conn *srv_conn_of(srv_request *r)
{
    return (srv_conn *)r;
}

void srv_conn_stage(srv_conn *c, srv_stage stage, int64_t now);

/* route.c: find r->route and captures for r->path. An error has reply.status set (404, 405 with Allow, 400). */
od_code srv_route_find(srv_request *r, od_status *st);

/* headers.c: refuse a head that is ambiguous, take what requests need of it. `needs_host`: it is of HTTP/1.1. */
od_code srv_head_check(srv_conn *c, bool needs_host, od_status *st);
/* Digits only; false: anything else, or more than 18 of them. */
bool srv_whole(const char *s, size_t *out);

/* coding.c: undo the body's Content-Encoding; compress the reply when it is asked for and worth it. */
od_code srv_body_decode(srv_request *r, od_status *st);
void srv_reply_encode(srv_request *r);

/* watcher.c: the thread that looks at deadlines and at clients that have gone. */
od_code srv_watcher_start(srv_http *h, od_status *st);
void srv_watcher_stop(srv_http *h);
/* A request goes to a worker: its client may leave. Cheap when the watcher is awake. */
void srv_watcher_wake(srv_http *h);

/* tls.c: what GnuTLS asks for a certificate; and nothing is left of those that were used. */
gnutls_certificate_retrieve_function2 srv_tls_choose;
void srv_tls_end(void);

/* listen.c: a listening socket for the options' address. */
od_code srv_listen(srv_http *h, od_status *st);

/* accept.c: the thread that gives new connections to libmicrohttpd, or turns them away. Stopping takes in those that
 * wait already and closes the listening socket. */
od_code srv_accept_start(srv_http *h, od_status *st);
void srv_accept_stop(srv_http *h);

#endif
