#include "server/base64.h"

#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum { BAD = 0x40, SPACE = 0x80 }; /* bits no value has */

#define Z BAD
static const uint8_t values[256] = {
    ['\n'] = SPACE, ['\r'] = SPACE, [' '] = SPACE, ['\t'] = SPACE,
    ['A'] = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    [0 ... 8] = Z, [11 ... 12] = Z, [14 ... 31] = Z, [33 ... 42] = Z, ['+'] = 62, [','] = Z, ['-'] = 62, ['.'] = Z, ['/'] = 63,
    ['0'] = 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, [':' ... '@'] = Z, ['['] = Z, Z, Z, Z, ['_'] = 63, ['`'] = Z,
    ['a'] = 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51,
    ['{' ... 255] = Z};
#undef Z

od_code srv_base64_decode(const char *s, size_t len, od_arena *a, char **out, size_t *out_len, od_status *st)
{
    if (len > 5 && !memcmp(s, "data:", 5)) {
        const char *comma = memchr(s, ',', len < 200 ? len : 200);
        if (!comma) return od_fail(st, OD_BAD_VALUE, "a data: address without a comma");
        len -= (size_t)(comma + 1 - s);
        s = comma + 1;
    }
    const unsigned char *p = (const unsigned char *)s, *end = p + len;
    char *to = od_arena_alloc(a, len / 4 * 3 + 4);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %zu characters of base64", len);
    *out = to;
    uint32_t group = 0;
    int n = 0;
    while (p < end) {
        if (!n && end - p >= 4) { /* the usual case, four at a time */
            uint8_t v0 = values[p[0]], v1 = values[p[1]], v2 = values[p[2]], v3 = values[p[3]];
            if (!((v0 | v1 | v2 | v3) & (BAD | SPACE))) {
                group = (uint32_t)v0 << 18 | (uint32_t)v1 << 12 | (uint32_t)v2 << 6 | v3;
                to[0] = (char)(group >> 16);
                to[1] = (char)(group >> 8);
                to[2] = (char)group;
                to += 3;
                p += 4;
                continue;
            }
        }
        uint8_t v = values[*p];
        if (*p == '=') break;
        if (v & BAD) return od_fail(st, OD_BAD_VALUE, "character %zu is no base64", (size_t)(p - (const unsigned char *)s));
        p++;
        if (v & SPACE) continue;
        group = group << 6 | v;
        if (++n < 4) continue;
        *to++ = (char)(group >> 16);
        *to++ = (char)(group >> 8);
        *to++ = (char)group;
        n = 0;
    }
    for (; p < end; p++)
        if (*p != '=' && values[*p] != SPACE) return od_fail(st, OD_BAD_VALUE, "base64 goes on behind its '='");
    if (n == 1) return od_fail(st, OD_BAD_VALUE, "base64 that breaks off");
    if (n >= 2) *to++ = (char)(group >> (n == 2 ? 4 : 10));
    if (n == 3) *to++ = (char)(group >> 2);
    *out_len = (size_t)(to - *out);
    return OD_OK;
}

char *srv_base64_encode(char *to, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    for (; len >= 3; len -= 3, p += 3) {
        uint32_t x = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        for (int i = 18; i >= 0; i -= 6) *to++ = letters[x >> i & 63];
    }
    if (!len) return to;
    uint32_t x = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);
    *to++ = letters[x >> 18];
    *to++ = letters[x >> 12 & 63];
    *to++ = len == 2 ? letters[x >> 6 & 63] : '=';
    *to++ = '=';
    return to;
}
