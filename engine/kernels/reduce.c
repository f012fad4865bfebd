#include "engine/kernels/reduce.h"
#include "engine/base/cpu.h"

#include <pthread.h>

static const eng_reduce_kernels *chosen = &eng_reduce_ref;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
#if defined(__x86_64__)
    if (od_cpu_isa() & OD_ISA_AVX2) chosen = &eng_reduce_avx2;
#endif
}

const eng_reduce_kernels *eng_reduce_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}
