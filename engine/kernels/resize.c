#include "engine/kernels/resize.h"

#include "engine/base/cpu.h"

#include <pthread.h>

static const eng_resize_table *table = &eng_resize_ref;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
#if defined(__x86_64__)
    if (od_cpu_isa() & OD_ISA_AVX2) table = &eng_resize_avx2;
#endif
}

const eng_resize_table *eng_resize_get(void)
{
    pthread_once(&once, choose);
    return table;
}
