/* guard.h - buffers that end where an unreadable page begins, and random floats to fill them. */
#ifndef GUARD_H
#define GUARD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct guarded {
    void *base;
    size_t size;
} guarded;

static guarded guards[256];
static int n_guards;

/* `bytes` cleared bytes, the last of them right before a page that cannot be touched. */
static void *guard_bytes(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (bytes + page - 1) / page * page + page;
    char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || n_guards == 256 || mprotect(base + size - page, page, PROT_NONE)) abort();
    guards[n_guards++] = (guarded){base, size};
    return base + size - page - bytes;
}

static uint32_t guard_seed = 1;

static float random_float(void) /* -1 .. 1 */
{
    guard_seed = guard_seed * 1664525u + 1013904223u;
    return (float)(guard_seed >> 8) / (1 << 23) - 1.0f;
}

static float *guard_floats(int64_t n)
{
    float *p = guard_bytes((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) p[i] = random_float();
    return p;
}

static void guard_release(void)
{
    while (n_guards) {
        n_guards--;
        munmap(guards[n_guards].base, guards[n_guards].size);
    }
}

#endif
