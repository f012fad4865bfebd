#include "engine/kernels/elementwise_rows.h"

#if defined(__x86_64__)
const eng_elementwise eng_elementwise_avx2 = ELEMENTWISE_TABLE;
#endif
