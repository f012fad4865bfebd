#include "engine/base/pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGE = 2 << 20 /* bytes of a large page */ };

/* Under the address sanitizer every block comes from its heap: it sees nothing beside or behind pages. */
#if defined(__SANITIZE_ADDRESS__)
#define BLOCK_MIN SIZE_MAX
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BLOCK_MIN SIZE_MAX
#endif
#endif
#ifndef BLOCK_MIN
#define BLOCK_MIN ((size_t)4 << 20)
#endif

void *od_pages_alloc(size_t size)
{
    if (!size || size > SIZE_MAX / 2) return NULL;
    size_t more = size >= LARGE ? LARGE : 0; /* to find a large page's boundary in */
    char *p = mmap(NULL, size + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (!more) return p;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), front = (size_t)(-(uintptr_t)p & (LARGE - 1));
    if (front) munmap(p, front);
    size_t end = (size + page - 1) & ~(page - 1);
    if (front + end < size + more) munmap(p + front + end, size + more - front - end);
    madvise(p + front, size, MADV_HUGEPAGE); /* a wish */
    return p + front;
}

void od_pages_free(void *p, size_t size)
{
    if (p) munmap(p, size);
}

void *od_block_alloc(size_t size)
{
    if (size >= BLOCK_MIN) return od_pages_alloc(size);
    return aligned_alloc(64, size ? (size + 63) & ~(size_t)63 : 64);
}

void od_block_free(void *p, size_t size)
{
    if (size >= BLOCK_MIN) od_pages_free(p, size);
    else free(p);
}

void od_pages_drop(void *p, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p, to = from + size;
    from = (from + page - 1) & ~(page - 1);
    to &= ~(page - 1);
    if (from < to) madvise((void *)from, to - from, MADV_DONTNEED);
}
