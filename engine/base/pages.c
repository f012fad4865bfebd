#include "engine/base/pages.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
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

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static int dear; /* a fresh large page has been, in this process */

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
    return p + front;
}

/* The advice of these is a wish: older systems refuse it and lose nothing else. */

void od_pages_want_large(void *p, size_t size)
{
    if (size >= LARGE) madvise(p, size, MADV_HUGEPAGE);
}

/* Of this thread alone: on a busy machine others take milliseconds in between. */
static int64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void od_pages_populate(void *p, size_t size, size_t from, size_t count)
{
    enum { DEAR_NS = 1000000 }; /* clearing a large page takes 100000 to 300000 */
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), block = (uintptr_t)p & ~(page - 1), end = (uintptr_t)p + from + count;
    uintptr_t block_end = ((uintptr_t)p + size + page - 1) & ~(page - 1);
    for (uintptr_t at = ((uintptr_t)p + from) & ~(uintptr_t)(LARGE - 1); at < end; at += LARGE) {
        uintptr_t begin = at < block ? block : at, stop = block_end - at < LARGE ? block_end : at + LARGE;
        bool large = stop - begin == LARGE && !__atomic_load_n(&dear, __ATOMIC_RELAXED);
        int64_t began = thread_ns();
        if (large) od_pages_want_large((void *)begin, LARGE);
        madvise((void *)begin, stop - begin, MADV_POPULATE_WRITE);
        if (large && thread_ns() - began > DEAR_NS) __atomic_store_n(&dear, 1, __ATOMIC_RELAXED);
    }
}

void od_pages_enlarge(void *p, size_t size, bool (*stop)(void *arg), void *arg)
{
    char *end = (char *)p + size;
    for (char *at = p; end - at >= LARGE && !stop(arg); at += LARGE)
        if (madvise(at, LARGE, MADV_COLLAPSE) && errno == EINVAL) return; /* unknown here */
}

void od_pages_free(void *p, size_t size)
{
    if (p) munmap(p, size);
}

void *od_block_alloc(size_t size)
{
    if (size >= BLOCK_MIN) {
        void *p = od_pages_alloc(size);
        if (p && !__atomic_load_n(&dear, __ATOMIC_RELAXED)) od_pages_want_large(p, size);
        return p;
    }
    return aligned_alloc(64, size ? (size + 63) & ~(size_t)63 : 64);
}

void od_block_free(void *p, size_t size)
{
    if (size >= BLOCK_MIN) od_pages_free(p, size);
    else free(p);
}

/* The whole pages among the bytes; none: false. */
static bool whole_pages(void *p, size_t size, void **first, size_t *bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p, to = from + size;
    from = (from + page - 1) & ~(page - 1);
    to &= ~(page - 1);
    *first = (void *)from;
    *bytes = from < to ? to - from : 0;
    return *bytes;
}

void od_pages_guard(void *p, size_t size, bool on)
{
    void *first;
    size_t bytes;
    if (whole_pages(p, size, &first, &bytes)) mprotect(first, bytes, on ? PROT_NONE : PROT_READ | PROT_WRITE);
}

void od_pages_drop(void *p, size_t size)
{
    void *first;
    size_t bytes;
    if (whole_pages(p, size, &first, &bytes)) madvise(first, bytes, MADV_DONTNEED);
}
