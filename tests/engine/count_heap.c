/* count_heap.c - preloaded into a program (LD_PRELOAD), counts what it takes from the heap and the system: a number
 * in the file that COUNT_HEAP names, eight bytes, while the program runs. Built by test_heap.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t *count;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("COUNT_HEAP");
    int fd = path ? open(path, O_RDWR) : -1;
    void *p = fd >= 0 ? mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (p != MAP_FAILED) count = p;
    if (fd >= 0) close(fd);
}

static void note(void)
{
    if (count) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

/* The C library's own, by the names it keeps for such as this. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t n)
{
    note();
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    note();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    note();
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    note();
    return __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    note();
    return (*p = __libc_memalign(align, n)) ? 0 : 12; /* ENOMEM */
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    static void *(*next)(void *, size_t, int, int, int, off_t);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "mmap");
    note();
    return next(at, n, protection, flags, fd, offset);
}
