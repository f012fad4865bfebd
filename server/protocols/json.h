/* json.h - reading JSON in place, front to back, without a tree.
 *
 * A reader walks the text once: the caller asks for what it expects and gets it or an error that says where.
 * Strings are decoded (UTF-8 is checked), nesting is bounded, and the members of objects come in the order
 * of the text:
 *
 *     OD_TRY(srv_json_object(j, st));
 *     for (eng_str key; srv_json_member(j, &key, st);) { ... read or skip exactly one value ... }
 *     OD_TRY(srv_json_code(j));
 *
 * The text must be followed by SRV_JSON_PAD zero bytes, so that reading needs no checks of its end. */
#ifndef SRV_JSON_H
#define SRV_JSON_H

#include "engine/tensor.h"

enum { SRV_JSON_PAD = 16, SRV_JSON_DEPTH = 100 };

typedef struct srv_json {
    const char *begin, *at, *end;
    od_arena *arena; /* decoded strings */
    int depth, max_depth;
    bool fresh;      /* just behind an opening bracket */
    od_code code;    /* of the first error; the reader is of no use after it */
} srv_json;

/* Read `len` bytes at `text`. `max_depth` 0: SRV_JSON_DEPTH. */
srv_json srv_json_init(const char *text, size_t len, od_arena *arena, int max_depth);

/* What comes next: one of { [ " 0 (a number) t f n, or '\0' for the end or what is no JSON. */
char srv_json_peek(srv_json *j);

/* Enter an object or array, then take its members one by one. `member` and `item` are false at the closing
 * bracket, which they pass, and on errors: look at `code`. OD_BAD_ARGUMENT everywhere: the text is not
 * JSON, or not what was asked for. */
od_code srv_json_object(srv_json *j, od_status *st);
bool srv_json_member(srv_json *j, eng_str *key, od_status *st);
od_code srv_json_array(srv_json *j, od_status *st);
bool srv_json_item(srv_json *j, od_status *st);

od_code srv_json_string(srv_json *j, eng_str *out, od_status *st);
od_code srv_json_int(srv_json *j, int64_t *out, od_status *st);
od_code srv_json_double(srv_json *j, double *out, od_status *st);
od_code srv_json_bool(srv_json *j, bool *out, od_status *st);

/* Pass one value of any kind, checking its form; `text` (may be NULL) gets its bytes as they are. */
od_code srv_json_skip(srv_json *j, eng_str *text, od_status *st);

/* Nothing but white space may be left. */
od_code srv_json_finish(srv_json *j, od_status *st);

/* Fail at the place where the reader stands: "byte 17: ...". */
od_code srv_json_fail(srv_json *j, od_status *st, const char *fmt, ...) OD_PRINTF(3, 4);

static inline od_code srv_json_code(const srv_json *j)
{
    return j->code;
}

static inline bool srv_str_is(eng_str s, const char *want)
{
    return s.len == __builtin_strlen(want) && !__builtin_memcmp(s.ptr, want, s.len);
}

/* White space is rare in what programs write. */
static inline const char *srv_json_space(const char *p)
{
    if ((unsigned char)*p > ' ') return p;
    while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') p++;
    return p;
}

#endif
