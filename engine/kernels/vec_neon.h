/* vec_neon.h - what vec_avx2.h says, with four floats of AArch64's Advanced SIMD. */
#ifndef ENG_VEC_H
#define ENG_VEC_H

#include "engine/base/status.h"

#include <arm_neon.h>

enum { VL = 4 };
typedef float32x4_t vf;
typedef uint32x4_t vb;
typedef int vpart; /* lanes */

static inline vf v_set(float x) { return vdupq_n_f32(x); }
static inline vf v_zero(void) { return vdupq_n_f32(0.0f); }
static inline vf v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, vf x) { vst1q_f32(p, x); }
static inline vf v_spread(const float *p) { return vld1q_dup_f32(p); }

#define v_hold(x) __asm__("" : "+w"(x))
#define v_in_order() __asm__ volatile("" : : : "memory")

static inline vf v_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf v_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf v_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf v_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
static inline vf v_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vf v_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vf v_abs(vf x) { return vabsq_f32(x); }
static inline vf v_with_sign(vf magnitude, vf of) { return vbslq_f32(vdupq_n_u32(0x80000000u), of, magnitude); }
static inline vf v_round(vf x) { return vrndnq_f32(x); }

static inline vb v_less(vf a, vf b) { return vcltq_f32(a, b); }
static inline vb v_equal(vf a, vf b) { return vceqq_f32(a, b); }
static inline vb v_is_nan(vf x) { return vmvnq_u32(vceqq_f32(x, x)); }
static inline vb v_or(vb a, vb b) { return vorrq_u32(a, b); }
static inline vb v_none(void) { return vdupq_n_u32(0); }
static inline bool v_any(vb b) { return vmaxvq_u32(b) != 0; }
static inline vf v_pick(vb b, vf yes, vf no) { return vbslq_f32(b, yes, no); }

enum { V_STEPS = 1 };
static inline vf v_power(vf u)
{
    return vreinterpretq_f32_s32(vaddq_s32(vdupq_n_s32(0x3f800000), vshlq_n_s32(vreinterpretq_s32_f32(u), 23)));
}

static inline vf v_scale(vf x, vf n)
{
    int32x4_t e = vcvtq_s32_f32(n), half = vshrq_n_s32(e, 1), rest = vsubq_s32(e, half), bias = vdupq_n_s32(127);
    vf s1 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    vf s2 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return vmulq_f32(vmulq_f32(x, s1), s2);
}

static inline vf v_split(vf x, vf *e)
{
    int32x4_t bits = vreinterpretq_s32_f32(x);
    int32x4_t n = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f3)), 23);
    *e = vcvtq_f32_s32(n);
    return vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(n, 23)));
}

static inline vpart v_first(int64_t n) { return n > VL ? VL : (int)n; }

static inline vf v_load_part(const float *p, vpart k)
{
    float t[VL] = {0};
    for (int i = 0; i < k; i++) t[i] = p[i];
    return vld1q_f32(t);
}

static inline void v_store_part(float *p, vpart k, vf x)
{
    float t[VL];
    vst1q_f32(t, x);
    for (int i = 0; i < k; i++) p[i] = t[i];
}

static inline vf v_pick_part(vpart k, vf yes, vf no)
{
    const uint32_t at[VL] = {0, 1, 2, 3};
    return vbslq_f32(vcltq_u32(vld1q_u32(at), vdupq_n_u32((uint32_t)k)), yes, no);
}

static inline vf v_only(vpart k, vf x) { return v_pick_part(k, x, v_zero()); }
static inline float v_sum(vf x) { return vaddvq_f32(x); }
static inline float v_top(vf x) { return vmaxvq_f32(x); }

static inline vf v_sums(vf a, vf b, vf c, vf d) { return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)); }
static inline vf v_tops(vf a, vf b, vf c, vf d) { return vpmaxq_f32(vpmaxq_f32(a, b), vpmaxq_f32(c, d)); }
#define v_one_of_four(x, i) vdupq_laneq_f32(x, i)
static inline vf v_four(const float *a, const float *b, const float *c, const float *d)
{
    const float four[VL] = {*a, *b, *c, *d};
    return vld1q_f32(four);
}
static inline void v_store_four(float *p, vf x) { vst1q_f32(p, x); }

#endif
