#include "server/watch/ids.h"
#include "engine/base/cpu.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* splitmix64, seeded by the system once a thread: ids must differ, not be secret. */
static uint64_t next_random(void)
{
    static _Thread_local uint64_t state;
    if (!state && getrandom(&state, sizeof state, GRND_NONBLOCK) != (ssize_t)sizeof state)
        state = (uint64_t)od_now_ns() ^ (uint64_t)(uintptr_t)&state;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void put_hex(char *to, uint64_t x)
{
    for (int i = 15; i >= 0; i--, x >>= 4) to[i] = "0123456789abcdef"[x & 15];
}

/* All zeros are no valid trace or parent. */
static void put_random(char *to)
{
    uint64_t x = next_random();
    put_hex(to, x ? x : 1);
}

void srv_id_make(char id[SRV_ID_BYTES])
{
    put_random(id);
    put_random(id + 16);
    id[32] = 0;
}

bool srv_id_is_usable(const char *id)
{
    size_t n = 0;
    for (; id[n]; n++)
        if (n == 128 || id[n] <= 0x20 || id[n] > 0x7e) return false;
    return n > 0;
}

static bool is_hex(const char *s, int n)
{
    bool zero = true;
    for (int i = 0; i < n; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f'))) return false;
        zero = zero && s[i] == '0';
    }
    return n == 2 || !zero; /* ids are not all zero; version and flags may be */
}

/* version-trace-parent-flags; later versions may have more behind. */
static bool is_traceparent(const char *s)
{
    size_t n = strnlen(s, 512);
    if (n < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-') return false;
    if (!is_hex(s, 2) || !is_hex(s + 3, 32) || !is_hex(s + 36, 16) || !is_hex(s + 53, 2)) return false;
    if (!strncmp(s, "ff", 2)) return false;
    return n == 55 || (strncmp(s, "00", 2) && s[55] == '-');
}

bool srv_traceparent_continue(const char *given, char out[SRV_TRACEPARENT_BYTES])
{
    bool goes_on = given && is_traceparent(given);
    memcpy(out, "00-", 3);
    if (goes_on) {
        memcpy(out + 3, given + 3, 32);
        memcpy(out + 53, given + 53, 2);
        out[53] = '0'; /* of the flags version 00 knows two */
        out[54] = (char)(given[54] & 1 ? '1' : '0');
        if (given[54] >= 'a') out[54] = (given[54] - 'a') & 1 ? '1' : '0'; /* a is 10, even */
    } else {
        put_random(out + 3);
        put_random(out + 19);
        memcpy(out + 53, "00", 2);
    }
    out[35] = out[52] = '-';
    put_random(out + 36);
    out[55] = 0;
    return goes_on;
}
