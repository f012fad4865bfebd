/* vec_avx512.h - what vec_avx2.h says, with sixteen floats of AVX-512 (F, BW, DQ, VL). */
#ifndef ENG_VEC_H
#define ENG_VEC_H

#include "engine/base/status.h"

#include <immintrin.h>

enum { VL = 16 };
typedef __m512 vf;
typedef __mmask16 vb, vpart;

static inline vf v_set(float x) { return _mm512_set1_ps(x); }
static inline vf v_zero(void) { return _mm512_setzero_ps(); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf v_spread(const float *p) { return _mm512_set1_ps(*p); }

#define v_hold(x) __asm__("" : "+v"(x))
#define v_in_order() __asm__ volatile("" : : : "memory")

static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf v_abs(vf x) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x); }
static inline vf v_with_sign(vf magnitude, vf of) { return _mm512_or_ps(magnitude, _mm512_and_ps(_mm512_set1_ps(-0.0f), of)); }
static inline vf v_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/* The same for half a vector, its first eight lanes. */
typedef __m256 vh;
static inline vh vh_set(float x) { return _mm256_set1_ps(x); }
static inline vh vh_spread(const float *p) { return _mm256_broadcast_ss(p); }
static inline vh vh_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vh_store(float *p, vh x) { _mm256_storeu_ps(p, x); }
static inline vh vh_add(vh a, vh b) { return _mm256_add_ps(a, b); }
static inline vh vh_fma(vh a, vh b, vh c) { return _mm256_fmadd_ps(a, b, c); }
static inline vh vh_max(vh a, vh b) { return _mm256_max_ps(a, b); }
static inline vh vh_min(vh a, vh b) { return _mm256_min_ps(a, b); }

static inline vb v_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vb v_equal(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vb v_is_nan(vf x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q); }
static inline vb v_or(vb a, vb b) { return (vb)(a | b); }
static inline vb v_none(void) { return 0; }
static inline bool v_any(vb b) { return b != 0; }
static inline vf v_pick(vb b, vf yes, vf no) { return _mm512_mask_blend_ps(b, no, yes); }

static inline vf v_scale(vf x, vf n) { return _mm512_scalef_ps(x, n); }

enum { V_STEPS = 32 };
static inline vf v_power(vf u)
{
    static const int steps[] = {0x3f800000, 0x3f7ecd87, 0x3f7daac3, 0x3f7c980f, 0x3f7b95c2, 0x3f7aa43a, 0x3f79c3d3, 0x3f78f4f0,
                                0x3f7837f0, 0x3f778d3a, 0x3f76f532, 0x3f767043, 0x3f75fed7, 0x3f75a15b, 0x3f75583f, 0x3f7523f6,
                                0x3f7504f3, 0x3f74fbaf, 0x3f7508a4, 0x3f752c4d, 0x3f75672a, 0x3f75b9be, 0x3f76248c, 0x3f76a81e,
                                0x3f7744fd, 0x3f77fbb8, 0x3f78ccdf, 0x3f79b907, 0x3f7ac0c7, 0x3f7be4ba, 0x3f7d257d, 0x3f7e83b3};
    __m512i k = _mm512_castps_si512(u), step = _mm512_permutex2var_epi32(_mm512_loadu_si512(steps), k, _mm512_loadu_si512(steps + 16));
    return _mm512_castsi512_ps(_mm512_add_epi32(step, _mm512_slli_epi32(k, 18)));
}

static inline vf v_split(vf x, vf *e)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i n = _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x3f3504f3)), 23);
    *e = _mm512_cvtepi32_ps(n);
    return _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(n, 23)));
}

#define V_TABLE 1
/* Entries of 16 that the lowest four bits of each lane choose. */
static inline vf v_entry(const float *table, vf bits) { return _mm512_permutexvar_ps(_mm512_castps_si512(bits), _mm512_loadu_ps(table)); }

static inline vpart v_first(int64_t n) { return (vpart)(n >= VL ? 0xffffu : (1u << n) - 1u); }
static inline vf v_load_part(const float *p, vpart k) { return _mm512_maskz_loadu_ps(k, p); }
static inline vf v_only(vpart k, vf x) { return _mm512_maskz_mov_ps(k, x); }
static inline vf v_pick_part(vpart k, vf yes, vf no) { return _mm512_mask_blend_ps(k, no, yes); }
static inline void v_store_part(float *p, vpart k, vf x) { _mm512_mask_storeu_ps(p, k, x); }
static inline float v_sum(vf x) { return _mm512_reduce_add_ps(x); }
static inline float v_top(vf x) { return _mm512_reduce_max_ps(x); }

/* One step of v_sums and v_tops: quarters of each become two pairs, and pairs then all four. */
#define V_QUARTERS(OP, a, b, c, d)                                                                             \
    __m512 ab = OP(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));                                        \
    __m512 cd = OP(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));                                        \
    __m512 x = OP(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));                           \
    x = OP(x, _mm512_shuffle_f32x4(x, x, 0x4e));                                                               \
    return OP(x, _mm512_shuffle_f32x4(x, x, 0xb1))
static inline vf v_sums(vf a, vf b, vf c, vf d) { V_QUARTERS(_mm512_add_ps, a, b, c, d); }
static inline vf v_tops(vf a, vf b, vf c, vf d) { V_QUARTERS(_mm512_max_ps, a, b, c, d); }
#define v_one_of_four(x, i) _mm512_permute_ps(x, (i) * 0x55)
static inline vf v_four(const float *a, const float *b, const float *c, const float *d)
{
    return _mm512_broadcast_f32x4(_mm_setr_ps(*a, *b, *c, *d));
}
static inline void v_store_four(float *p, vf x) { _mm_storeu_ps(p, _mm512_castps512_ps128(x)); }

#endif
