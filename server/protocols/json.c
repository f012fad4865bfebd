#include "server/protocols/json.h"

#include "server/protocols/json_numbers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

srv_json srv_json_init(const char *text, size_t len, od_arena *arena, int max_depth)
{
    return (srv_json){.begin = text, .at = text, .end = text + len, .arena = arena,
                      .max_depth = max_depth > 0 ? max_depth : SRV_JSON_DEPTH};
}

od_code srv_json_fail(srv_json *j, od_status *st, const char *fmt, ...)
{
    char text[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return j->code = od_fail(st, OD_BAD_ARGUMENT, "byte %td of the JSON: %s", j->at - j->begin, text);
}

/* A word for what stands at the reader, for messages. */
static const char *found(srv_json *j)
{
    static const char *const names[128] = {['{'] = "an object", ['['] = "an array", ['"'] = "text", ['0'] = "a number",
                                           ['t'] = "true", ['f'] = "false", ['n'] = "null"};
    char c = srv_json_peek(j);
    return c ? names[(unsigned char)c] : j->at >= j->end ? "the end" : "something that is no JSON";
}

char srv_json_peek(srv_json *j)
{
    j->at = srv_json_space(j->at);
    if (j->at >= j->end) return '\0';
    switch (*j->at) {
    case '{': case '[': case '"': case 't': case 'f': case 'n': return *j->at;
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': return '0';
    default: return '\0';
    }
}

static od_code enter(srv_json *j, char bracket, const char *what, od_status *st)
{
    if (srv_json_peek(j) != bracket) return srv_json_fail(j, st, "%s is wanted, found %s", what, found(j));
    if (++j->depth > j->max_depth) return srv_json_fail(j, st, "nested deeper than %d", j->max_depth);
    j->at++;
    j->fresh = true;
    return OD_OK;
}

/* Behind a bracket or a value: true when another value follows, false behind the closing bracket. */
static bool more(srv_json *j, char closing, od_status *st)
{
    if (j->code) return false;
    bool first = j->fresh;
    j->fresh = false;
    j->at = srv_json_space(j->at);
    if (*j->at == closing && j->at < j->end) {
        j->at++;
        j->depth--;
        return false;
    }
    if (first) return true;
    if (*j->at != ',' || j->at >= j->end) {
        srv_json_fail(j, st, "',' or '%c' is wanted, found %s", closing, found(j));
        return false;
    }
    j->at++;
    return true;
}

od_code srv_json_object(srv_json *j, od_status *st)
{
    return enter(j, '{', "an object", st);
}

od_code srv_json_array(srv_json *j, od_status *st)
{
    return enter(j, '[', "an array", st);
}

bool srv_json_item(srv_json *j, od_status *st)
{
    return more(j, ']', st);
}

bool srv_json_member(srv_json *j, eng_str *key, od_status *st)
{
    if (!more(j, '}', st)) return false;
    if (srv_json_peek(j) != '"') {
        srv_json_fail(j, st, "a name in quotes is wanted, found %s", found(j));
        return false;
    }
    if (srv_json_string(j, key, st) != OD_OK) return false;
    j->at = srv_json_space(j->at);
    if (*j->at != ':') {
        srv_json_fail(j, st, "':' is wanted behind a name");
        return false;
    }
    j->at++;
    return true;
}

/* The four hexadecimal digits at p, -1: none. */
static int32_t hex4(const char *p)
{
    int32_t x = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i], digit = c >= '0' && c <= '9'         ? c - '0'
                              : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                   : -1;
        if (digit < 0) return -1;
        x = x << 4 | digit;
    }
    return x;
}

static char *put_utf8(char *to, int32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* The first of the bytes from `p` on that are a quote, a backslash, a control character or no ASCII. */
static inline const char *plain_end(const char *p)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    for (;; p += 8) { /* of each byte the top bit: x - n borrows where x < n; what it borrows from lies behind */
        uint64_t x;
        memcpy(&x, p, 8);
        uint64_t quote = x ^ ones * '"', slash = x ^ ones * '\\';
        uint64_t stop = (((x - ones * 0x20) | (quote - ones) | (slash - ones)) | x) & high;
        if (stop) return p + (__builtin_ctzll(stop) >> 3);
    }
#else
    while ((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\') p++;
    return p;
#endif
}

/* Pass the string at the reader; `escaped`: it has backslashes. Its bytes lie between the quotes. */
static od_code pass_string(srv_json *j, eng_str *raw, bool *escaped, od_status *st)
{
    const char *p = j->at + 1, *from = p;
    *escaped = false;
    for (; *(p = plain_end(p)) != '"';) {
        unsigned char c = (unsigned char)*p;
        if (c == '\\') {
            *escaped = true;
            if (!strchr("\"\\/bfnrtu", p[1]) || !p[1]) {
                j->at = p;
                return srv_json_fail(j, st, "a backslash before something that is no escape");
            }
            p += 2;
        } else if (c < 0x20) {
            j->at = p;
            return srv_json_fail(j, st, p >= j->end ? "text without its closing quote" : "a control character inside text");
        } else {
            int n = srv_utf8_length((const unsigned char *)p, (size_t)(j->end - p));
            if (!n) {
                j->at = p;
                return srv_json_fail(j, st, "text that is not UTF-8");
            }
            p += n;
        }
    }
    *raw = (eng_str){from, (size_t)(p - from)};
    j->at = p + 1;
    return OD_OK;
}

od_code srv_json_string(srv_json *j, eng_str *out, od_status *st)
{
    bool escaped;
    if (srv_json_peek(j) != '"') return srv_json_fail(j, st, "text is wanted, found %s", found(j));
    OD_TRY(pass_string(j, out, &escaped, st));
    if (!escaped) return OD_OK;
    char *to = od_arena_alloc(j->arena, out->len + 1), *start = to;
    if (!to) return j->code = od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes of text", out->len);
    for (const char *p = out->ptr, *end = p + out->len; p < end;) {
        if (*p != '\\') {
            *to++ = *p++;
            continue;
        }
        char c = p[1];
        p += 2;
        switch (c) {
        case 'b': *to++ = '\b'; break;
        case 'f': *to++ = '\f'; break;
        case 'n': *to++ = '\n'; break;
        case 'r': *to++ = '\r'; break;
        case 't': *to++ = '\t'; break;
        case 'u': {
            int32_t x = hex4(p), low;
            p += 4;
            if (x >= 0xd800 && x < 0xdc00 && p[0] == '\\' && p[1] == 'u' && (low = hex4(p + 2)) >= 0xdc00 && low < 0xe000) {
                x = 0x10000 + ((x - 0xd800) << 10) + (low - 0xdc00);
                p += 6;
            }
            if (x < 0 || (x >= 0xd800 && x < 0xe000)) return srv_json_fail(j, st, "a \\u escape that is no character");
            to = put_utf8(to, x);
            break;
        }
        default: *to++ = c;
        }
    }
    *out = (eng_str){start, (size_t)(to - start)};
    return OD_OK;
}

od_code srv_json_int(srv_json *j, int64_t *out, od_status *st)
{
    if (srv_json_peek(j) != '0') return srv_json_fail(j, st, "a whole number is wanted, found %s", found(j));
    const char *rest = srv_scan_int64(j->at, out);
    if (!rest) return srv_json_fail(j, st, "a whole number of 64 bits is wanted");
    j->at = rest;
    return OD_OK;
}

od_code srv_json_double(srv_json *j, double *out, od_status *st)
{
    if (srv_json_peek(j) != '0') return srv_json_fail(j, st, "a number is wanted, found %s", found(j));
    const char *rest = srv_scan_double(j->at, out);
    if (!rest) return srv_json_fail(j, st, "a number is wanted");
    j->at = rest;
    return OD_OK;
}

/* Pass the literal at the reader. */
static od_code literal(srv_json *j, const char *word, od_status *st)
{
    size_t n = strlen(word);
    if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n))
        return srv_json_fail(j, st, "a word that is none of true, false, null");
    j->at += n;
    return OD_OK;
}

od_code srv_json_bool(srv_json *j, bool *out, od_status *st)
{
    char c = srv_json_peek(j);
    if (c != 't' && c != 'f') return srv_json_fail(j, st, "true or false is wanted, found %s", found(j));
    *out = c == 't';
    return literal(j, c == 't' ? "true" : "false", st);
}

static od_code skip_scalar(srv_json *j, od_status *st)
{
    eng_str raw;
    bool escaped;
    double x;
    switch (srv_json_peek(j)) {
    case '"': return pass_string(j, &raw, &escaped, st);
    case '0': return srv_json_double(j, &x, st);
    case 't': return literal(j, "true", st);
    case 'f': return literal(j, "false", st);
    case 'n': return literal(j, "null", st);
    default: return srv_json_fail(j, st, "a value is wanted, found %s", found(j));
    }
}

od_code srv_json_skip(srv_json *j, eng_str *text, od_status *st)
{
    enum { LEVELS = 1024 }; /* one bit a level: an object or an array */
    uint64_t objects[LEVELS / 64] = {0};
    int level = 0;
    srv_json_peek(j);
    const char *from = j->at;
    do {
        char c = srv_json_peek(j);
        if (c == '{' || c == '[') {
            OD_TRY(c == '{' ? srv_json_object(j, st) : srv_json_array(j, st));
            if (level >= LEVELS) return srv_json_fail(j, st, "nested deeper than %d", LEVELS);
            if (c == '{') objects[level / 64] |= 1ull << level % 64;
            else objects[level / 64] &= ~(1ull << level % 64);
            level++;
        } else {
            OD_TRY(skip_scalar(j, st));
        }
        /* go to the next value, leaving what ends here */
        while (level > 0) {
            eng_str key;
            bool object = objects[(level - 1) / 64] >> (level - 1) % 64 & 1;
            if (object ? srv_json_member(j, &key, st) : srv_json_item(j, st)) break;
            if (j->code) return j->code;
            level--;
        }
    } while (level > 0);
    if (text) *text = (eng_str){from, (size_t)(j->at - from)};
    return OD_OK;
}

od_code srv_json_finish(srv_json *j, od_status *st)
{
    j->at = srv_json_space(j->at);
    if (j->at < j->end) return srv_json_fail(j, st, "more behind the value's end");
    return OD_OK;
}
