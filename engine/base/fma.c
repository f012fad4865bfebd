#include "engine/base/cpu.h"

/* Independent chains of multiply-adds, enough of them to hide their latency; the registers are named, for no
 * compiler then keeps one in memory. */
#define RATE(NAME, ATTR, T, N)                                                                                  \
    ATTR __attribute__((noinline)) static double NAME(uint64_t (*ticks)(void))                                  \
    {                                                                                                           \
        enum { ROUNDS = 20000, TRIES = 60 };                                                                    \
        uint64_t best = UINT64_MAX;                                                                             \
        for (int r = 0; r < TRIES; r++) {                                                                       \
            T a = {0}, b = {0}, c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a; \
            uint64_t t = ticks();                                                                               \
            for (int i = 0; i < ROUNDS; i++) {                                                                  \
                c0 = a * b + c0, c1 = a * b + c1, c2 = a * b + c2, c3 = a * b + c3, c4 = a * b + c4;            \
                c5 = a * b + c5, c6 = a * b + c6, c7 = a * b + c7, c8 = a * b + c8, c9 = a * b + c9;            \
                __asm__ volatile("" : VECTOR(a), VECTOR(b), VECTOR(c0), VECTOR(c1), VECTOR(c2), VECTOR(c3));    \
                __asm__ volatile("" : VECTOR(c4), VECTOR(c5), VECTOR(c6), VECTOR(c7), VECTOR(c8), VECTOR(c9));  \
            }                                                                                                   \
            t = ticks() - t;                                                                                    \
            if (t < best) best = t;                                                                             \
        }                                                                                                       \
        return 20.0 * N * ROUNDS / (double)(best ? best : 1);                                                   \
    }

#if defined(__x86_64__)
#define VECTOR(x) "+x"(x)
typedef float v4 __attribute__((vector_size(16)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v16 __attribute__((vector_size(64)));
RATE(rate_sse, , v4, 4)
RATE(rate_avx2, __attribute__((target("avx2,fma"))), v8, 8)
RATE(rate_avx512, __attribute__((target("avx512f"))), v16, 16)
#elif defined(__aarch64__)
#define VECTOR(x) "+w"(x)
typedef float v4 __attribute__((vector_size(16)));
RATE(rate_neon, , v4, 4)
#endif

double od_fma_rate(uint64_t (*ticks)(void))
{
#if defined(__x86_64__)
    unsigned isa = od_cpu_isa();
    double narrow = isa & OD_ISA_AVX2 ? rate_avx2(ticks) : rate_sse(ticks), wide = isa & OD_ISA_AVX512 ? rate_avx512(ticks) : 0.0;
    return wide > narrow ? wide : narrow;
#elif defined(__aarch64__)
    return rate_neon(ticks);
#else
    (void)ticks;
    return 0.0;
#endif
}
