/* cpu.h - what this processor is, and how much of it and of memory the process may use. */
#ifndef OD_CPU_H
#define OD_CPU_H

#include "engine/base/status.h"

enum { OD_ISA_AVX2 = 1u, OD_ISA_AVX512 = 2u, OD_ISA_NEON = 4u, OD_ISA_F16C = 8u };

/* The instruction sets that both processor and operating system allow, as OD_ISA_ bits. AVX2
 * implies FMA; AVX512 means F, BW, DQ and VL. The environment variable ONNXD_ISA (ref, avx2,
 * avx512, neon) lowers the answer, never raises it. */
unsigned od_cpu_isa(void);

/* "avx2", "avx512", "neon" or "ref": the best set bit's name. */
const char *od_cpu_isa_name(unsigned isa);

/* Cores the process may use: the smaller of its affinity and its cgroup (v1 or v2) quota rounded
 * up, at least 1. */
int od_cpu_count(void);

/* Bytes of memory the process may use: the machine's, or what its cgroup (v1 or v2) grants. */
size_t od_memory_limit(void);

typedef struct od_cpu_caches {
    size_t l1d, l2, l3; /* bytes; sensible guesses where the system does not say */
} od_cpu_caches;

od_cpu_caches od_cpu_cache_sizes(void);

/* Treat denormal floats as zero on the calling thread, and undo that: denormals cost a hundred
 * cycles each on common processors. Returns what was set before, for od_cpu_float_restore. */
unsigned od_cpu_float_fast(void);
void od_cpu_float_restore(unsigned was);

/* The calling core's peak: float operations a tick of `ticks`, two a multiply-add, by a loop of nothing else in the
 * widest vectors od_cpu_isa has. Takes some milliseconds. 0: not known how on this processor. */
double od_fma_rate(uint64_t (*ticks)(void));

/* Monotonic time. */
int64_t od_now_ns(void);
/* The same some milliseconds late, without asking the processor. */
int64_t od_now_coarse_ns(void);

#endif
