/* vec_avx2.h - the vector that kernel templates are written in: eight floats of AVX2.
 * vec_avx512.h and vec_neon.h define the same names over their own registers; a file includes exactly one
 * of them and is compiled for that processor. vf is a vector of VL floats, vb the answer of a comparison,
 * vpart "the first n lanes". */
#ifndef ENG_VEC_H
#define ENG_VEC_H

#include "engine/base/status.h"

#include <immintrin.h>

enum { VL = 8 };
typedef __m256 vf, vb;
typedef struct vpart {
    __m256i lanes;
    int n;
} vpart;

static inline vf v_set(float x) { return _mm256_set1_ps(x); }
static inline vf v_zero(void) { return _mm256_setzero_ps(); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf v_spread(const float *p) { return _mm256_broadcast_ss(p); } /* *p in every lane */

/* x is loaded here, once: some compilers would read memory again for each use. */
#define v_hold(x) __asm__("" : "+x"(x))
/* What is stored before it is not stored after it. */
#define v_in_order() __asm__ volatile("" : : : "memory")

static inline vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }   /* a b + c */
static inline vf v_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); } /* c - a b */
/* The second operand comes through when either is NaN. */
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf v_abs(vf x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
static inline vf v_with_sign(vf magnitude, vf of) { return _mm256_or_ps(magnitude, _mm256_and_ps(_mm256_set1_ps(-0.0f), of)); }
static inline vf v_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

static inline vb v_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vb v_equal(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
static inline vb v_is_nan(vf x) { return _mm256_cmp_ps(x, x, _CMP_UNORD_Q); }
static inline vb v_or(vb a, vb b) { return _mm256_or_ps(a, b); }
static inline vb v_none(void) { return _mm256_setzero_ps(); }
static inline bool v_any(vb b) { return _mm256_movemask_ps(b) != 0; }
static inline vf v_pick(vb b, vf yes, vf no) { return _mm256_blendv_ps(no, yes, b); }

/* 2^(k / V_STEPS) within the normal range, for whole k: the last bits of u, which is that quotient + V_TO_STEPS. What the
 * table has of a step's exponent below that of 1 the shifted k brings. */
enum { V_STEPS = 4 };
static inline vf v_power(vf u)
{
    const __m256i steps = _mm256_setr_epi32(0x3f800000, 0x3f7837f0, 0x3f7504f3, 0x3f7744fd, 0x3f800000, 0x3f7837f0, 0x3f7504f3, 0x3f7744fd);
    __m256i k = _mm256_castps_si256(u), step = _mm256_castps_si256(_mm256_permutevar_ps(_mm256_castsi256_ps(steps), k));
    return _mm256_castsi256_ps(_mm256_add_epi32(step, _mm256_slli_epi32(k, 21)));
}

/* x 2^n for whole n: in two factors, since n reaches beyond what one exponent holds. */
static inline vf v_scale(vf x, vf n)
{
    __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1), rest = _mm256_sub_epi32(e, half);
    __m256 s1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, _mm256_set1_epi32(127)), 23));
    __m256 s2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, _mm256_set1_epi32(127)), 23));
    return _mm256_mul_ps(_mm256_mul_ps(x, s1), s2);
}

/* Normal positive x as m 2^e, m from sqrt(1/2) to sqrt(2). */
static inline vf v_split(vf x, vf *e)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i n = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
    *e = _mm256_cvtepi32_ps(n);
    return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(n, 23)));
}

static inline vpart v_first(int64_t n) /* n from 0; above VL counts as VL */
{
    int some = n > VL ? VL : (int)n;
    return (vpart){_mm256_cmpgt_epi32(_mm256_set1_epi32(some), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), some};
}

static inline vf v_load_part(const float *p, vpart k) { return _mm256_maskload_ps(p, k.lanes); } /* zeros elsewhere */
static inline vf v_only(vpart k, vf x) { return _mm256_and_ps(_mm256_castsi256_ps(k.lanes), x); }
static inline vf v_pick_part(vpart k, vf yes, vf no) { return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(k.lanes)); }

static inline void v_store_part(float *p, vpart k, vf x) /* in pieces: masked stores are slow on some processors */
{
    if (k.n == VL) {
        _mm256_storeu_ps(p, x);
        return;
    }
    __m128 h = _mm256_castps256_ps128(x);
    if (k.n & 4) {
        _mm_storeu_ps(p, h);
        h = _mm256_extractf128_ps(x, 1);
        p += 4;
    }
    if (k.n & 2) {
        _mm_storel_pi((__m64 *)(void *)p, h);
        h = _mm_movehl_ps(h, h);
        p += 2;
    }
    if (k.n & 1) _mm_store_ss(p, h);
}

static inline float v_sum(vf x)
{
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_shuffle_ps(m, m, 1)));
}

static inline float v_top(vf x)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

/* Lane i of every four is the sum, the largest, of vector i. */
#define V_QUARTERS(OP, a, b, c, d)                                                                             \
    __m256 ab = OP(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));                                        \
    __m256 cd = OP(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));                                        \
    __m256 x = OP(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));                           \
    return OP(x, _mm256_permute2f128_ps(x, x, 1))
static inline vf v_sums(vf a, vf b, vf c, vf d) { V_QUARTERS(_mm256_add_ps, a, b, c, d); }
static inline vf v_tops(vf a, vf b, vf c, vf d) { V_QUARTERS(_mm256_max_ps, a, b, c, d); }
#define v_one_of_four(x, i) _mm256_permute_ps(x, (i) * 0x55) /* lane i of every four, in all of them; i is a constant */
static inline vf v_four(const float *a, const float *b, const float *c, const float *d) /* in every four lanes */
{
    __m128 x = _mm_setr_ps(*a, *b, *c, *d);
    return _mm256_set_m128(x, x);
}
static inline void v_store_four(float *p, vf x) { _mm_storeu_ps(p, _mm256_castps256_ps128(x)); }

#endif
