/* access_log.h - a line a request, as text or as JSON, written by a thread of its own.
 * Serving never waits for the disk: lines go into a buffer, and when that is full they are dropped and
 * counted. */
#ifndef SRV_ACCESS_LOG_H
#define SRV_ACCESS_LOG_H

#include "engine/base/status.h"

typedef struct srv_access_log srv_access_log;

typedef struct srv_access {
    const char *peer;         /* address; NULL: unknown */
    const char *client;       /* name of the token; NULL: none */
    const char *method, *target, *id;
    const char *traceparent;  /* NULL or "": none */
    const char *model;        /* NULL: none */
    int64_t version;
    int status;               /* 0: the client had gone */
    uint64_t bytes_in, bytes_out;
    int64_t total_ns;         /* from the first line to the reply's last byte */
    int64_t queue_ns, decode_ns, preprocess_ns, compute_ns, postprocess_ns; /* below 0: not so */
    int64_t batch_rows;       /* 0: not so */
} srv_access;

/* `path`: a file that is appended to; NULL or "-": standard output; "stderr": standard error. OD_IO. */
od_code srv_access_log_create(srv_access_log **out, const char *path, bool json, od_status *st);
/* Writes what is left. NULL is accepted. */
void srv_access_log_destroy(srv_access_log *log);

/* NULL is accepted: nothing is written. Any thread. */
void srv_access_log_write(srv_access_log *log, const srv_access *a);

/* Open the file anew before the next lines: after it was moved away. `path` as for create; when it cannot be opened the old file
 * goes on and a warning is logged. Any thread but never two at once. */
void srv_access_log_reopen(srv_access_log *log, const char *path);
/* Lines as JSON or text from now on, or none. */
void srv_access_log_form(srv_access_log *log, bool json, bool off);

uint64_t srv_access_log_dropped(const srv_access_log *log);

#endif
