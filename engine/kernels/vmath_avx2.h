/* vmath_avx2.h - exp, log, tanh, erf and what is made of them, eight floats at a time.
 * Relative errors: exp, tanh, log below 3e-7, erf below 2e-7. Coefficients are least-squares fits with
 * relative weights over the intervals named. For files compiled with -mavx2 -mfma only. */
#ifndef ENG_VMATH_AVX2_H
#define ENG_VMATH_AVX2_H

#include <immintrin.h>

#define VM(x) _mm256_set1_ps(x)

/* c[n-1] x^(n-1) + ... + c[0] */
static inline __m256 vm_poly(__m256 x, const float *c, int n)
{
    __m256 y = VM(c[n - 1]);
    for (int i = n - 2; i >= 0; i--) y = _mm256_fmadd_ps(y, x, VM(c[i]));
    return y;
}

/* e^x = 2^n e^r with |r| <= ln(2) / 2. Overflows to infinity, falls to zero, keeps NaN. */
static inline __m256 vm_exp(__m256 x)
{
    static const float c[] = {1.0f, 1.0f, 0.5f, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720};
    __m256 clipped = _mm256_min_ps(_mm256_max_ps(x, VM(-104.0f)), VM(89.0f));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(clipped, VM(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, VM(0.693359375f), clipped);
    r = _mm256_fnmadd_ps(n, VM(-2.12194440e-4f), r);
    __m256 p = vm_poly(r, c, 7);
    /* 2^n in two factors, since n reaches beyond what one exponent field holds */
    __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1), rest = _mm256_sub_epi32(e, half);
    __m256 s1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, _mm256_set1_epi32(127)), 23));
    __m256 s2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, _mm256_set1_epi32(127)), 23));
    p = _mm256_mul_ps(_mm256_mul_ps(p, s1), s2);
    return _mm256_blendv_ps(p, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

/* The same for arguments that are known to lie within -80 .. 80: one factor. */
static inline __m256 vm_exp_tame(__m256 x)
{
    static const float c[] = {1.0f, 1.0f, 0.5f, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720};
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, VM(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, VM(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, VM(-2.12194440e-4f), r);
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(vm_poly(r, c, 7)), e));
}

static inline __m256 vm_clamp(__m256 x, float lo, float hi) /* NaN stays */
{
    return _mm256_min_ps(VM(hi), _mm256_max_ps(VM(lo), x));
}

static inline __m256 vm_sigmoid(__m256 x)
{
    __m256 e = vm_exp_tame(_mm256_sub_ps(_mm256_setzero_ps(), vm_clamp(x, -80.0f, 80.0f)));
    return _mm256_div_ps(VM(1.0f), _mm256_add_ps(VM(1.0f), e));
}

static inline __m256 vm_abs(__m256 x)
{
    return _mm256_andnot_ps(VM(-0.0f), x);
}

static inline __m256 vm_with_sign(__m256 magnitude, __m256 of)
{
    return _mm256_or_ps(magnitude, _mm256_and_ps(VM(-0.0f), of));
}

/* Odd polynomial up to 0.625, then 1 - 2 / (e^2x + 1). */
static inline __m256 vm_tanh(__m256 x)
{
    static const float c[] = {0.999999996f, -0.333332542f, 0.13330979f, -0.0537090637f, 0.0205519643f, -0.00561610532f};
    __m256 a = vm_abs(x);
    __m256 e = vm_exp_tame(_mm256_min_ps(VM(20.0f), _mm256_add_ps(a, a)));
    __m256 far = _mm256_sub_ps(VM(1.0f), _mm256_div_ps(VM(2.0f), _mm256_add_ps(e, VM(1.0f))));
    far = vm_with_sign(far, x);
    __m256 near = _mm256_mul_ps(x, vm_poly(_mm256_mul_ps(x, x), c, 6));
    __m256 y = _mm256_blendv_ps(far, near, _mm256_cmp_ps(a, VM(0.625f), _CMP_LT_OQ));
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

/* Odd polynomial up to 1, then 1 - e^(-x^2) g(1 / (1 + x / 2)) up to 4, where it is 1. */
static inline __m256 vm_erf(__m256 x)
{
    static const float small[] = {1.12837917f, -0.376126258f, 0.112835851f, -0.0268538119f, 0.00518832756f, -0.000801019252f, 7.8538577e-05f};
    static const float large[] = {-0.000153188139f, 0.284896251f, 0.259801654f, 0.34736115f, -0.102592916f, 0.561873669f, -0.47015213f, 0.119016156f};
    __m256 a = _mm256_min_ps(VM(4.0f), vm_abs(x)), square = _mm256_mul_ps(a, a);
    __m256 near = _mm256_mul_ps(x, vm_poly(square, small, 7));
    __m256 s = _mm256_div_ps(VM(1.0f), _mm256_fmadd_ps(a, VM(0.5f), VM(1.0f)));
    __m256 e = vm_exp_tame(_mm256_sub_ps(_mm256_setzero_ps(), square));
    __m256 far = vm_with_sign(_mm256_fnmadd_ps(e, vm_poly(s, large, 8), VM(1.0f)), x);
    __m256 y = _mm256_blendv_ps(far, near, _mm256_cmp_ps(vm_abs(x), VM(1.0f), _CMP_LT_OQ));
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

/* log of 2^e (1 + f), 1 + f between sqrt(1/2) and sqrt(2). */
static inline __m256 vm_log(__m256 x)
{
    static const float c[] = {0.333333299f, -0.250003039f, 0.200012008f, -0.16641581f, 0.142099521f, -0.129892908f, 0.12655651f, -0.0797411047f};
    __m256 tiny = _mm256_cmp_ps(x, VM(1.17549435e-38f), _CMP_LT_OQ); /* scale subnormals up */
    __m256 v = _mm256_blendv_ps(x, _mm256_mul_ps(x, VM(8388608.0f)), tiny);
    __m256i bits = _mm256_castps_si256(v);
    __m256i shifted = _mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)); /* sqrt(1/2) */
    __m256i e = _mm256_srai_epi32(shifted, 23);
    __m256 m = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(e, 23)));
    __m256 f = _mm256_sub_ps(m, VM(1.0f)), n = _mm256_cvtepi32_ps(e);
    n = _mm256_sub_ps(n, _mm256_and_ps(tiny, VM(23.0f)));
    __m256 f2 = _mm256_mul_ps(f, f);
    __m256 y = _mm256_mul_ps(_mm256_mul_ps(f2, f), vm_poly(f, c, 8));
    y = _mm256_fmadd_ps(n, VM(-2.12194440e-4f), y);
    y = _mm256_fnmadd_ps(f2, VM(0.5f), y);
    y = _mm256_fmadd_ps(n, VM(0.693359375f), _mm256_add_ps(f, y));
    __m256 inf = VM(__builtin_inff()), zero = _mm256_setzero_ps();
    y = _mm256_blendv_ps(y, inf, _mm256_cmp_ps(x, inf, _CMP_EQ_OQ));
    y = _mm256_blendv_ps(y, _mm256_sub_ps(zero, inf), _mm256_cmp_ps(x, zero, _CMP_EQ_OQ));
    y = _mm256_blendv_ps(y, VM(__builtin_nanf("")), _mm256_cmp_ps(x, zero, _CMP_LT_OQ));
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

static inline __m256 vm_gelu_tanh(__m256 x)
{
    __m256 cube = _mm256_mul_ps(_mm256_mul_ps(x, x), x);
    __m256 t = vm_tanh(_mm256_mul_ps(VM(0.79788456f), _mm256_fmadd_ps(VM(0.044715f), cube, x)));
    return _mm256_mul_ps(_mm256_mul_ps(VM(0.5f), x), _mm256_add_ps(VM(1.0f), t));
}

/* tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2) with e = e^x */
static inline __m256 vm_mish(__m256 x)
{
    __m256 e = vm_exp_tame(vm_clamp(x, -40.0f, 20.0f));
    __m256 p = _mm256_mul_ps(e, _mm256_add_ps(e, VM(2.0f)));
    return _mm256_mul_ps(x, _mm256_div_ps(p, _mm256_add_ps(p, VM(2.0f))));
}

static inline __m256 vm_softplus(__m256 x)
{
    __m256 e = vm_exp_tame(_mm256_max_ps(VM(-80.0f), _mm256_sub_ps(_mm256_setzero_ps(), vm_abs(x))));
    __m256 one_more = _mm256_add_ps(VM(1.0f), e);
    /* log1p: log(1 + e) plus what the rounding of 1 + e lost */
    __m256 lost = _mm256_sub_ps(e, _mm256_sub_ps(one_more, VM(1.0f)));
    __m256 l = _mm256_add_ps(vm_log(one_more), _mm256_div_ps(lost, one_more));
    return _mm256_add_ps(_mm256_max_ps(_mm256_setzero_ps(), x), l);
}

/* e^x - 1 below zero: a short series close to it, where the subtraction would lose digits */
static inline __m256 vm_expm1(__m256 x)
{
    static const float c[] = {1.0f, 0.5f, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720};
    __m256 far = _mm256_sub_ps(vm_exp_tame(vm_clamp(x, -80.0f, 80.0f)), VM(1.0f));
    __m256 near = _mm256_mul_ps(x, vm_poly(x, c, 6));
    return _mm256_blendv_ps(far, near, _mm256_cmp_ps(vm_abs(x), VM(0.35f), _CMP_LT_OQ));
}

#endif
