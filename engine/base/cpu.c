#include "engine/base/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static unsigned detect_isa(void)
{
    unsigned isa = 0;
#if defined(__x86_64__)
    __builtin_cpu_init(); /* these builtins ask XCR0 too, so the system's consent is included */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        isa |= OD_ISA_AVX2;
        unsigned a, b, c, d; /* clang's builtin does not know F16C by name */
        if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C)) isa |= OD_ISA_F16C;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            isa |= OD_ISA_AVX512;
    }
#elif defined(__aarch64__)
    isa |= OD_ISA_NEON;
#endif
    return isa;
}

unsigned od_cpu_isa(void)
{
    unsigned isa = detect_isa();
    const char *cap = getenv("ONNXD_ISA");
    if (!cap || !*cap) return isa;
    if (!strcmp(cap, "ref")) return 0;
    if (!strcmp(cap, "avx2")) return isa & ~(unsigned)OD_ISA_AVX512;
    return isa;
}

const char *od_cpu_isa_name(unsigned isa)
{
    if (isa & OD_ISA_AVX512) return "avx512";
    if (isa & OD_ISA_AVX2) return "avx2";
    if (isa & OD_ISA_NEON) return "neon";
    return "ref";
}

/* The first line of a small file of the system; false when it cannot be read. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(line, (int)size, f) != NULL;
    fclose(f);
    return ok;
}

typedef void cgroup_fn(const char *folder, void *arg);

/* Is `name` one of the words of `list`, which commas part and a colon ends? */
static bool lists(const char *list, const char *name)
{
    size_t len = strlen(name), n;
    for (;; list += n + 1) {
        n = strcspn(list, ",:");
        if (n == len && !strncmp(list, name, len)) return true;
        if (list[n] != ',') return false;
    }
}

/* The folders below `mount` of this process's cgroup of `controller` ("": version 2) and of those around it: a
 * limit of any of them holds. In a container the mount itself is the process's own. */
static void each_cgroup(const char *controller, const char *mount, cgroup_fn *fn, void *arg)
{
    char line[1024], folder[1200];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path || !lists(list + 1, controller)) continue;
        path++;
        path[strcspn(path, "\n")] = '\0';
        for (char *end = path + strlen(path); end > path; end = strrchr(path, '/')) {
            *end = '\0';
            snprintf(folder, sizeof folder, "%s%s", mount, path);
            if (*path) fn(folder, arg);
        }
    }
    if (f) fclose(f);
    fn(mount, arg);
}

static bool read_in(const char *folder, const char *name, char *line, size_t size)
{
    char path[1300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return read_line(path, line, size);
}

static void look_at_quota(const char *folder, void *arg)
{
    char line[256];
    long long quota = 0, period = 0, *cores = arg;
    if (read_in(folder, "cpu.max", line, sizeof line)) {
        if (sscanf(line, "%lld %lld", &quota, &period) != 2) return;
    } else {
        if (!read_in(folder, "cpu.cfs_quota_us", line, sizeof line)) return;
        quota = atoll(line);
        if (!read_in(folder, "cpu.cfs_period_us", line, sizeof line)) return;
        period = atoll(line);
    }
    if (quota <= 0 || period <= 0) return;
    long long n = (quota + period - 1) / period;
    if (!*cores || n < *cores) *cores = n;
}

/* Cores that the quota of this process's cgroup grants, or 0 for no quota. */
static int cgroup_cores(void)
{
    long long cores = 0;
    each_cgroup("", "/sys/fs/cgroup", look_at_quota, &cores);
    each_cgroup("cpu", "/sys/fs/cgroup/cpu", look_at_quota, &cores);
    return cores > 4096 ? 4096 : (int)cores;
}

static void look_at_memory(const char *folder, void *arg)
{
    char line[256];
    uint64_t *least = arg;
    if (!read_in(folder, "memory.max", line, sizeof line) && !read_in(folder, "memory.limit_in_bytes", line, sizeof line)) return;
    uint64_t n = strtoull(line, NULL, 10); /* "max" is 0 */
    if (n && n < *least) *least = n;
}

size_t od_memory_limit(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t least = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : SIZE_MAX;
    each_cgroup("", "/sys/fs/cgroup", look_at_memory, &least);
    each_cgroup("memory", "/sys/fs/cgroup/memory", look_at_memory, &least);
    return (size_t)least;
}

int od_cpu_count(void)
{
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    int quota = cgroup_cores();
    if (quota > 0 && quota < n) n = quota;
    return n < 1 ? 1 : n;
}

static size_t cache_size(int name, size_t guess)
{
    long n = sysconf(name);
    return n > 0 ? (size_t)n : guess;
}

od_cpu_caches od_cpu_cache_sizes(void)
{
    od_cpu_caches c = {32u << 10, 512u << 10, 8u << 20};
#ifdef _SC_LEVEL1_DCACHE_SIZE
    c.l1d = cache_size(_SC_LEVEL1_DCACHE_SIZE, c.l1d);
    c.l2 = cache_size(_SC_LEVEL2_CACHE_SIZE, c.l2);
    c.l3 = cache_size(_SC_LEVEL3_CACHE_SIZE, c.l3);
#endif
    return c;
}

unsigned od_cpu_float_fast(void)
{
#if defined(__x86_64__)
    unsigned was = _mm_getcsr();
    _mm_setcsr(was | 0x8040u); /* flush to zero, denormals are zero */
    return was;
#else
    return 0;
#endif
}

void od_cpu_float_restore(unsigned was)
{
#if defined(__x86_64__)
    _mm_setcsr(was);
#else
    (void)was;
#endif
}

int64_t od_now_coarse_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t od_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
