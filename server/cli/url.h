/* url.h - http://HOST[:PORT][/PATH] taken apart, for the commands that are clients. */
#ifndef SRV_URL_H
#define SRV_URL_H

#include "engine/base/status.h"

typedef struct srv_url {
    char host[256], port[8], path[1024]; /* path with its query; "" when the URL has none */
} srv_url;

/* A bare HOST:PORT is fine too, [ADDRESS] for IPv6. The port is 8000 unless given. OD_BAD_ARGUMENT; OD_UNSUPPORTED: https. */
od_code srv_url_parse(const char *url, srv_url *out, od_status *st);

struct addrinfo;
/* Addresses to connect to, freed by freeaddrinfo. OD_IO. */
od_code srv_url_resolve(const srv_url *u, struct addrinfo **out, od_status *st);

#endif
