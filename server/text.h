/* text.h - growing text from an arena, for JSON answers. */
#ifndef SRV_TEXT_H
#define SRV_TEXT_H

#include "engine/base/arena.h"

#include <string.h>

typedef struct srv_text {
    od_arena *arena;
    char *data; /* not zero-terminated */
    size_t len, cap;
    bool full;  /* no memory: what came after is missing */
} srv_text;

/* Room for `more` bytes behind the text; NULL, and `full`, when there is none. The caller writes there and
 * raises `len`. */
char *srv_text_room(srv_text *t, size_t more);

static inline void srv_text_add(srv_text *t, const char *bytes, size_t len)
{
    char *to = len <= t->cap - t->len ? t->data + t->len : srv_text_room(t, len);
    if (!to || !len) return;
    memcpy(to, bytes, len);
    t->len += len;
}
#define srv_text_put(t, s) srv_text_add((t), (s), __builtin_strlen(s))
void srv_text_printf(srv_text *t, const char *fmt, ...) OD_PRINTF(2, 3);
/* A JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
void srv_text_json(srv_text *t, const char *s, size_t len);
/* The shortest decimal that reads back as the same number; null when it is not finite. */
void srv_text_float(srv_text *t, float x);
void srv_text_double(srv_text *t, double x);

/* The length of the UTF-8 sequence at p, which has `left` bytes; 0: it is none. */
int srv_utf8_length(const unsigned char *p, size_t left);

#endif
