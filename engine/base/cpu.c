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
static bool read_line(const char *path, char *line, int size)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok;
}

/* Cores that the quota of this process's cgroup grants, or 0 for no quota. */
static int cgroup_cores(void)
{
    char line[256];
    long long quota = 0, period = 0;
    if (read_line("/sys/fs/cgroup/cpu.max", line, sizeof line)) {
        if (sscanf(line, "%lld %lld", &quota, &period) != 2) return 0;
    } else {
        if (!read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", line, sizeof line)) return 0;
        quota = atoll(line);
        if (!read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", line, sizeof line)) return 0;
        period = atoll(line);
    }
    if (quota <= 0 || period <= 0) return 0;
    long long cores = (quota + period - 1) / period;
    return cores > 4096 ? 4096 : (int)cores;
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

int64_t od_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
