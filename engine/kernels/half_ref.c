#include "engine/kernels/half.h"
#include "engine/kernels/half_rows.h"

#include <math.h>

static float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 1023u, bits;
    if (e == 31) {
        bits = sign | 0x7f800000u | m << 13 | (m ? 0x400000u : 0u);
    } else if (e) {
        bits = sign | (e + 112u) << 23 | m << 13;
    } else { /* subnormal: m * 2^-24, exact in float */
        float f = (float)m * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    }
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static uint16_t float_to_half(float f)
{
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    uint32_t sign = b >> 16 & 0x8000u, a = b & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x1ffu));
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (a < 0x38800000u) { /* subnormal: adding 1/2 aligns the mantissa so that the adder rounds */
        float v;
        memcpy(&v, &a, sizeof v);
        v += 0.5f;
        memcpy(&a, &v, sizeof a);
        return (uint16_t)(sign | (a - 0x3f000000u));
    }
    return (uint16_t)(sign | ((a + 0xfffu + (a >> 13 & 1u) - 0x38000000u) >> 13));
}

static void half_to_float_ref(const uint16_t *from, float *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = half_to_float(from[i]);
}

static void float_to_half_ref(const float *from, uint16_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = float_to_half(from[i]);
}

static void bfloat_to_float_ref(const uint16_t *from, float *to, int64_t n)
{
    bfloat_to_float_row(from, to, n);
}

static void float_to_bfloat_ref(const float *from, uint16_t *to, int64_t n)
{
    float_to_bfloat_row(from, to, n);
}

const eng_half_table eng_half_ref = {half_to_float_ref, float_to_half_ref, bfloat_to_float_ref, float_to_bfloat_ref};
