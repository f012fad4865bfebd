/* pictures.h - the encoded pictures that a request's body carries, whatever its form. */
#ifndef SRV_PICTURES_H
#define SRV_PICTURES_H

#include "server/protocols/protocols.h"
#include "server/tasks/tasks.h"

enum { SRV_PICTURES_MOST = 256 };

typedef struct srv_pictures {
    srv_piece *list; /* in the body, or in the request's arena */
    int n;
    bool several;    /* they came as a list: the answer is one, too */
} srv_pictures;

/* Find them in the body, by its Content-Type: image/..., multipart/form-data (files are pictures, other
 * fields parameters) or JSON ({"image": base64} or {"images": [...]}, "parameters"). Parameters of the URL and
 * the body go into `query`. OD_BAD_ARGUMENT; OD_UNSUPPORTED with reply.status 415. */
od_code srv_pictures_find(srv_request *r, srv_pictures *out, srv_query *query, od_status *st);

#endif
