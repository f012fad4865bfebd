#include "engine/kernels/elementwise_rows.h"

const eng_elementwise eng_elementwise_ref = ELEMENTWISE_TABLE;
