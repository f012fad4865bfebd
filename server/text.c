#include "server/text.h"

#include "server/protocols/json_numbers.h"

#include <stdio.h>
#include <string.h>

static char *no_room(srv_text *t)
{
    t->full = true;
    t->cap = t->len; /* nothing more comes in, however short */
    return NULL;
}

char *srv_text_room(srv_text *t, size_t more)
{
    size_t want, cap;
    if (t->full || !od_add(t->len, more, &want)) return no_room(t);
    if (want <= t->cap) return t->data + t->len;
    cap = t->cap ? t->cap : 512;
    while (cap < want)
        if (!od_mul(cap, 2, &cap)) return no_room(t);
    char *data = od_arena_alloc(t->arena, cap);
    if (!data) return no_room(t);
    if (t->len) memcpy(data, t->data, t->len);
    t->data = data;
    t->cap = cap;
    return data + t->len;
}

void srv_text_printf(srv_text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *to = n < 0 ? NULL : srv_text_room(t, (size_t)n + 1);
    if (!to) return;
    va_start(args, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, args);
    va_end(args);
    t->len += (size_t)n;
}

int srv_utf8_length(const unsigned char *p, size_t left)
{
    if (!left) return 0;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    int n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (left < (size_t)n) return 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0; /* too long; surrogates */
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0; /* too long; above U+10FFFF */
    return n;
}

void srv_text_json(srv_text *t, const char *s, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t i = 0, plain = 0;
    srv_text_add(t, "\"", 1);
    while (i < len) {
        unsigned char c = (unsigned char)s[i];
        int n = c >= 0x20 && c != '"' && c != '\\' ? srv_utf8_length((const unsigned char *)s + i, len - i) : 0;
        if (n) {
            i += (size_t)n;
            continue;
        }
        srv_text_add(t, s + plain, i - plain);
        plain = ++i;
        if (c >= 0x80) {
            srv_text_add(t, "\xef\xbf\xbd", 3);
        } else {
            char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            const char *at = strchr("\"\"\\\\\bb\ff\nn\rr\tt", c); /* pairs: the character, its letter */
            bool letter = c && at;
            if (letter) escape[1] = c == '"' || c == '\\' ? (char)c : at[1];
            srv_text_add(t, escape, letter ? 2 : 6);
        }
    }
    srv_text_add(t, s + plain, len - plain);
    srv_text_add(t, "\"", 1);
}

void srv_text_float(srv_text *t, float x)
{
    char *to = srv_text_room(t, SRV_FLOAT_CHARS);
    if (to) t->len += (size_t)(srv_print_float(to, x) - to);
}

void srv_text_double(srv_text *t, double x)
{
    char *to = srv_text_room(t, SRV_DOUBLE_CHARS);
    if (to) t->len += (size_t)(srv_print_double(to, x) - to);
}
