#include "engine/kernels/attention.h"
#include "engine/base/cpu.h"

#include <pthread.h>

static const eng_attention_kernels *chosen = &eng_attention_ref;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
    unsigned isa = od_cpu_isa();
    (void)isa;
#if defined(__x86_64__)
    if (isa & OD_ISA_AVX2) chosen = &eng_attention_avx2;
    if (isa & OD_ISA_AVX512) chosen = &eng_attention_avx512;
#elif defined(__aarch64__)
    if (isa & OD_ISA_NEON) chosen = &eng_attention_neon;
#endif
}

const eng_attention_kernels *eng_attention_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}
