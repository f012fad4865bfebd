/* reply.h - from what went wrong to what a client is told: the one table. */
#ifndef SRV_REPLY_H
#define SRV_REPLY_H

#include "engine/base/status.h"

/* The HTTP status for an error. */
int srv_reply_status(od_code code);

/* "Not Found" for 404: the words that belong to a status. */
const char *srv_reply_reason(int status);

#endif
