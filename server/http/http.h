/* http.h - sockets, requests, replies; a small fixed number of threads for any number of requests.
 *
 * A request's head and body are read by libmicrohttpd on a socket thread. Then its route's handler runs:
 * there, or on a worker when the route says so. The handler fills the reply and calls srv_request_finish,
 * at once or later from any thread; until then the connection is suspended and holds no thread. One
 * thread accepts connections, one watcher looks at the clock and at sockets whose clients have gone.
 *
 * A connection keeps one srv_request and uses it again for each of its requests. */
#ifndef SRV_HTTP_H
#define SRV_HTTP_H

#include "engine/base/threads.h"
#include "server/text.h"

#include <stdatomic.h>

typedef struct srv_http srv_http;
typedef struct srv_request srv_request;
struct MHD_Connection;

typedef struct srv_piece {
    const void *data;
    size_t len;
} srv_piece;

typedef struct srv_header {
    const char *name, *value;
} srv_header;

enum { SRV_CAPTURES = 3, SRV_REPLY_HEADERS = 12, SRV_ID_CHARS = 128 };

typedef struct srv_reply {
    int status;          /* 0: no answer yet */
    const char *type;    /* Content-Type; "application/json" unless set */
    srv_text body;
    srv_piece *pieces;   /* what follows the body: tensors' bytes, which stay in the request's arena */
    int n_pieces;
    bool tensors;        /* pieces follow: Inference-Header-Content-Length is the body's length */
    srv_header headers[SRV_REPLY_HEADERS]; /* more headers; static or in the request's arena */
    int n_headers;
    bool close;          /* the connection ends after this reply */
} srv_reply;

typedef void srv_handler(srv_request *r);

enum {
    SRV_ROUTE_WORK = 1,    /* the handler runs on a worker */
    SRV_ROUTE_WORK_BIG = 2,/* ... when the body is large or compressed */
    SRV_ROUTE_ADMIN = 4,   /* changes what is served */
    SRV_ROUTE_OPEN = 8,    /* needs no token: probes */
    SRV_ROUTE_INFER = 16,  /* new work: refused while draining */
    SRV_ROUTE_QUEUE = 32   /* for the model of its first capture, with the default timeout: refused before its body when the queue is full */
};

/* `pattern` has segments of text or "{}", which matches one segment or the part of it before the text
 * behind the braces ("{}:predict"). */
typedef struct srv_route {
    const char *method, *pattern;
    srv_handler *run;
    unsigned flags;
} srv_route;

struct srv_request {
    srv_http *http;
    void *context;              /* srv_http_options.context */
    const srv_route *route;     /* NULL: none matched */
    char method[16];
    const char *target;         /* as sent: path and query */
    const char *path;           /* without prefix, not decoded */
    const char *query;          /* behind '?', not decoded; "" */
    const char *captures[SRV_CAPTURES]; /* decoded segments that "{}" matched */
    int n_captures;
    char *body;                 /* SRV_JSON_PAD zero bytes follow; decoded already */
    size_t body_len;
    size_t header_part;         /* Inference-Header-Content-Length */
    bool has_header_part;
    od_arena arena;             /* what the request needs until its reply is sent */
    srv_reply reply;
    char id[SRV_ID_CHARS + 1];  /* X-Request-Id: the client's, or made here */
    char traceparent[56];       /* the client's trace, continued; "": none given */
    od_code code;               /* of the error that was answered */
    bool queue_full;            /* it is that of a queue */
    uint64_t sent_bytes;        /* of the reply's body */
    const char *model;          /* for logs: set by handlers, in the arena */
    int64_t version;
    const char *client;         /* name of the token used, or NULL */
    int64_t started_ns, received_ns, sent_ns; /* first line there, body there, reply sent */
    int64_t queue_ns, decode_ns, preprocess_ns, compute_ns, postprocess_ns; /* for Server-Timing; below 0: not so */
    int64_t explain_ns, chain_ns; /* behind those; Server-Timing alone has them */
    int64_t batch_rows;
    void *state;                /* the handler's */
    /* Called under a lock by the watcher when the client has gone before the reply; NULL: nothing to do. */
    void (*gone)(srv_request *r);
};

typedef struct srv_http_options {
    const char *host;            /* address or name to listen on */
    int port;                    /* 0: any free one */
    const char *socket_path;     /* a unix socket instead of host and port; NULL: none */
    int threads;                 /* for sockets */
    int max_connections;
    size_t max_header, max_body; /* bytes; bodies after decompression, too */
    size_t max_body_total;       /* of all requests being read or answered at one time; 0: none */
    od_budget *budget;           /* of all memory: bodies and requests' arenas are taken from it; NULL: none */
    int max_inflate_ratio;
    int64_t idle_ms;             /* a connection without a request */
    int64_t receive_ms;          /* from a request's first line to its last byte */
    int64_t send_ms;             /* a reply that the client does not take */
    size_t compress_above;       /* replies shorter than this are never compressed */
    const char *prefix;          /* in front of every path: "/api"; "": none */
    const char *cors_origin;     /* Access-Control-Allow-Origin; NULL: no CORS */
    bool tls;                    /* with the certificate of srv_tls_use */
    const srv_route *routes;
    int n_routes;
    /* Asked before a request's body is read; what is not OD_OK refuses it, with reply.status if that was set. May be NULL. */
    od_code (*admit)(srv_request *r, od_status *st);
    /* Called when a reply was sent or could not be (`complete` false), before `r` is cleared. May be NULL. */
    void (*sent)(srv_request *r, bool complete);
    /* Called when a connection above max_connections was answered 503. May be NULL. */
    void (*turned_away)(void *context);
    od_pool *pool;               /* runs SRV_ROUTE_WORK; NULL: everything on socket threads */
    void *context;
} srv_http_options;

/* Listens and serves until destroy. Texts of `options` must stay. OD_IO: the address is taken or not ours. */
od_code srv_http_create(srv_http **out, const srv_http_options *options, od_status *st);
/* Show this certificate (PEM texts) to new connections; before create, and again whenever it is renewed. OD_BAD_ARGUMENT: they are
 * none, or do not belong together; the one before stays. */
od_code srv_tls_use(const char *cert, const char *key, od_status *st);
int srv_http_port(const srv_http *h);

/* No new connections; replies from now on end theirs. */
void srv_http_drain(srv_http *h);
/* Is no request there? Then from now on none is begun: what still comes before destroy is answered 503 at once. */
bool srv_http_close(srv_http *h);
size_t srv_http_body_bytes(const srv_http *h);
/* Requests whose first line has come and whose reply is not sent yet. */
int srv_http_active(const srv_http *h);
int srv_http_connections(const srv_http *h);

/* Ends all connections. Requests that handlers still hold must have been finished. */
void srv_http_destroy(srv_http *h);

/* ---- for handlers */

/* The reply is complete, or will be as an error. Exactly once a request; any thread; `r` must not be
 * touched afterwards. */
void srv_request_finish(srv_request *r);

/* Make the reply {"error": ...} with the status of st->code (or reply.status when it is set) and finish. */
void srv_request_fail(srv_request *r, const od_status *st);

/* Set or clear what the watcher calls when the client has gone. */
void srv_request_on_gone(srv_request *r, void (*gone)(srv_request *r));

/* Run the rest of a request on a worker: fn(r). On this thread when there is none. */
void srv_request_work(srv_request *r, void (*fn)(srv_request *r));

/* A header's value, NULL: absent. Until the reply is sent. */
const char *srv_request_header(const srv_request *r, const char *name);

/* Does Accept-Encoding name `coding`? For handlers that hold an encoded form and set Content-Encoding themselves. */
bool srv_request_accepts(const srv_request *r, const char *coding);

/* "127.0.0.1", or "unix". */
const char *srv_request_peer(const srv_request *r);

/* Add a header to the reply; both texts must last until it is sent. */
void srv_reply_header(srv_request *r, const char *name, const char *value);

/* The next key=value of r->query, decoded into the arena; `at` starts as r->query. false: no more, or
 * (with an error in st) a bad escape. */
bool srv_query_next(srv_request *r, const char **at, const char **key, const char **value, od_status *st);

/* Decode %XX of `len` bytes (and '+' as space when `form`) into the arena. NULL: a bad escape, %00, or no memory. */
char *srv_percent_decode(od_arena *a, const char *s, size_t len, bool form);

#endif
