/* base64.h - base64 in, as JSON carries bytes. */
#ifndef SRV_BASE64_H
#define SRV_BASE64_H

#include "engine/base/arena.h"

/* Decode `len` characters (RFC 4648, or its URL-safe letters; '=' at the end may be missing; line ends are
 * passed over; a leading "data:...;base64," too) into `a`. OD_BAD_VALUE: other characters or a cut group. */
od_code srv_base64_decode(const char *s, size_t len, od_arena *a, char **out, size_t *out_len, od_status *st);

/* Encode into `to`, which has room for srv_base64_size(len) characters; the end. */
char *srv_base64_encode(char *to, const void *bytes, size_t len);
static inline size_t srv_base64_size(size_t len)
{
    return (len + 2) / 3 * 4;
}

#endif
