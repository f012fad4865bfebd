/* multipart.h - the parts of a multipart/form-data body, found in place. */
#ifndef SRV_MULTIPART_H
#define SRV_MULTIPART_H

#include "engine/tensor.h"

typedef struct srv_part {
    eng_str name, filename, type; /* ptr NULL: not given */
    const char *data;
    size_t len;
} srv_part;

typedef struct srv_multipart {
    const char *at, *end;
    char delimiter[76]; /* "\r\n--" and the boundary, of at most 70 characters */
    size_t n;
} srv_multipart;

/* `content_type` is the request's header. OD_BAD_ARGUMENT: no boundary, or none in the body. */
od_code srv_multipart_init(srv_multipart *m, const char *content_type, const char *body, size_t len, od_status *st);

/* The next part; false at the end, or with an error in `st`. */
bool srv_multipart_next(srv_multipart *m, srv_part *part, od_status *st);

#endif
