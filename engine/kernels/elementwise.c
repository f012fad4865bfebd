#include "engine/kernels/elementwise.h"

#include "engine/base/cpu.h"

#include <pthread.h>

static const eng_elementwise *table = &eng_elementwise_ref;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
#if defined(__x86_64__)
    if (od_cpu_isa() & OD_ISA_AVX2) table = &eng_elementwise_avx2;
#endif
}

const eng_elementwise *eng_elementwise_table(void)
{
    pthread_once(&once, choose);
    return table;
}
