/* count_copies.c - LD_PRELOAD: counts the bytes that a program copies by memcpy, memmove and realloc in pieces of 4 KiB and more, and
 * writes their sum into the file that COUNT_COPIES names when it ends. What realloc moves counts as copied. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum { LARGE = 4096 };
static atomic_size_t copied;

static void copy(char *to, const char *from, size_t n)
{
    if (n >= LARGE) atomic_fetch_add(&copied, n);
    if (to < from || to >= from + n)
        for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = from[i];
    else
        for (size_t i = n; i--;) ((volatile char *)to)[i] = from[i];
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    copy(to, from, n);
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    copy(to, from, n);
    return to;
}

void *__memcpy_chk(void *to, const void *from, size_t n, size_t room)
{
    if (n > room) abort();
    copy(to, from, n);
    return to;
}

void *realloc(void *p, size_t n)
{
    static void *(*real)(void *, size_t);
    if (!real) real = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    size_t had = p ? malloc_usable_size(p) : 0;
    void *q = real(p, n);
    if (q != p && had >= LARGE) atomic_fetch_add(&copied, had < n ? had : n);
    return q;
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("COUNT_COPIES");
    FILE *f = path ? fopen(path, "w") : NULL;
    if (f) fprintf(f, "%zu\n", atomic_load(&copied));
    if (f) fclose(f);
}
