#include "engine/ops/utf8.h"

#include <locale.h>
#include <pthread.h>
#include <wctype.h>

int eng_utf8_next(const char *s, size_t len, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)s;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    int n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    uint32_t c = n == 1 ? p[0] : n ? p[0] & (0xffu >> (n + 1)) : 0;
    bool ok = n && (size_t)n <= len;
    for (int i = 1; ok && i < n; i++) {
        ok = p[i] >> 6 == 2;
        c = c << 6 | (p[i] & 63u);
    }
    if (!ok || c < least[n] || c > ENG_CODE_MAX || (c >= 0xd800 && c < 0xe000)) {
        *code = 0xfffd;
        return 1;
    }
    *code = c;
    return n;
}

int eng_utf8_put(char *to, uint32_t code)
{
    int n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, code >>= 6) to[i] = (char)(0x80 | (code & 63));
    to[0] = (char)(n == 1 ? code : (0xf00u >> n & 0xffu) | code);
    return n;
}

/* A locale that the C library always has. */
static locale_t unicode;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_unicode(void)
{
    unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

uint32_t eng_utf8_case(uint32_t code, bool upper)
{
    pthread_once(&once, make_unicode);
    if (!unicode) return (uint32_t)(upper ? towupper((wint_t)code) : towlower((wint_t)code));
    return (uint32_t)(upper ? towupper_l((wint_t)code, unicode) : towlower_l((wint_t)code, unicode));
}
