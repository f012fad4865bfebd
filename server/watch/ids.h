/* ids.h - names of requests: X-Request-Id, and W3C Trace Context's traceparent. */
#ifndef SRV_IDS_H
#define SRV_IDS_H

#include "engine/base/status.h"

enum { SRV_ID_BYTES = 33, SRV_TRACEPARENT_BYTES = 56 };

/* 32 hexadecimal digits that nobody else has. */
void srv_id_make(char id[SRV_ID_BYTES]);

/* May a client's X-Request-Id be repeated in headers and logs? 1 to 128 printable characters. */
bool srv_id_is_usable(const char *id);

/* The traceparent of this server's part of a trace: the caller's trace and flags, a parent id of our own.
 * `given` NULL or malformed: a new trace, not sampled; false then. */
bool srv_traceparent_continue(const char *given, char out[SRV_TRACEPARENT_BYTES]);

#endif
