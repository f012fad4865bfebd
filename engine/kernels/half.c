/* half.c - which variant, and the types too narrow to be worth one. */
#include "engine/kernels/half.h"

#include "engine/base/cpu.h"

#include <math.h>
#include <pthread.h>

static const eng_half_table *table = &eng_half_ref;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
#if defined(__x86_64__)
    unsigned need = OD_ISA_AVX2 | OD_ISA_F16C;
    if ((od_cpu_isa() & need) == need) table = &eng_half_avx2;
#endif
}

static const eng_half_table *chosen(void)
{
    pthread_once(&once, choose);
    return table;
}

void eng_half_to_float(const uint16_t *from, float *to, int64_t n)
{
    chosen()->half_to_float(from, to, n);
}

void eng_float_to_half(const float *from, uint16_t *to, int64_t n)
{
    chosen()->float_to_half(from, to, n);
}

void eng_bfloat_to_float(const uint16_t *from, float *to, int64_t n)
{
    chosen()->bfloat_to_float(from, to, n);
}

void eng_float_to_bfloat(const float *from, uint16_t *to, int64_t n)
{
    chosen()->float_to_bfloat(from, to, n);
}

/* What a narrow type is made of. `top` is the code of its largest finite number. */
typedef struct format {
    int exp, man, bias;
    unsigned top, inf, nan;
    bool saturates, minus_zero;
} format;

static format format_of(eng_dtype type)
{
    switch (type) {
    case ENG_FLOAT16: return (format){5, 10, 15, 0x7bff, 0x7c00, 0x7e00, false, true};
    case ENG_BFLOAT16: return (format){8, 7, 127, 0x7f7f, 0x7f80, 0x7fc0, false, true};
    case ENG_FLOAT8E4M3FN: return (format){4, 3, 7, 0x7e, 0x7f, 0x7f, true, true};
    case ENG_FLOAT8E4M3FNUZ: return (format){4, 3, 8, 0x7f, 0x80, 0x80, true, false};
    case ENG_FLOAT8E5M2: return (format){5, 2, 15, 0x7b, 0x7c, 0x7f, true, true};
    case ENG_FLOAT8E5M2FNUZ: return (format){5, 2, 16, 0x7f, 0x80, 0x80, true, false};
    case ENG_FLOAT6E2M3: return (format){2, 3, 1, 0x1f, 0x1f, 0x20, false, true};
    case ENG_FLOAT6E3M2: return (format){3, 2, 3, 0x1f, 0x1f, 0x20, false, true};
    default: return (format){2, 1, 1, 0x7, 0x7, 0x8, false, true}; /* float4e2m1: saturates; NaN becomes -0 */
    }
}

static unsigned to_e8(double x, bool saturate, eng_e8_round round)
{
    if (isnan(x)) return 255;
    x = fabs(x);
    if (isinf(x)) return saturate ? 254 : 255;
    if (x == 0) return saturate ? 0 : 255;
    int e;
    double m = frexp(x, &e); /* x = m * 2^e, m in [1/2, 1) */
    e--;
    if ((round == ENG_E8_UP && m > 0.5) || (round == ENG_E8_NEAREST && m >= 0.75)) e++;
    if (e > 127) return saturate ? 254 : 255;
    if (e < -127) return saturate ? 0 : 255;
    return (unsigned)(e + 127);
}

unsigned eng_small_float(double x, eng_dtype type, bool saturate, eng_e8_round round)
{
    if (type == ENG_FLOAT8E8M0) return to_e8(x, saturate, round);
    format f = format_of(type);
    unsigned sign = signbit(x) ? 1u << (f.exp + f.man) : 0u;
    if (isnan(x)) return f.minus_zero ? sign | f.nan : f.nan;
    bool clamp = f.saturates && saturate;
    double a = fabs(x);
    unsigned code;
    if (isinf(a)) {
        code = clamp ? f.top : f.inf;
    } else {
        int e = -9999; /* zero is the least of all */
        if (a > 0) frexp(a, &e);
        e = e - 1 < 1 - f.bias ? 1 - f.bias : e - 1;      /* subnormals share the lowest exponent */
        double units = nearbyint(ldexp(a, f.man - e));     /* below 2^(man + 1), or just that */
        double wide = units + ldexp((double)(e + f.bias - 1), f.man); /* a carry moves to the exponent */
        code = wide > (double)f.top ? (clamp ? f.top : f.inf) : (unsigned)wide;
    }
    if (!f.minus_zero && (code == 0 || code == f.nan)) return code;
    return sign | code;
}
