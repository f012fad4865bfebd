/* vmath.h - exp, log, tanh, erf and what is made of them, a vector at a time; include a vec_*.h first.
 * Relative errors: exp, tanh, log below 3e-7, erf below 2e-7. Coefficients are least-squares fits with
 * relative weights over the intervals named. */
#ifndef ENG_VMATH_H
#define ENG_VMATH_H

#define VM(x) v_set(x)

/* c[n-1] x^(n-1) + ... + c[0] */
static inline vf vm_poly(vf x, const float *c, int n)
{
    vf y = VM(c[n - 1]);
    for (int i = n - 2; i >= 0; i--) y = v_fma(y, x, VM(c[i]));
    return y;
}

/* e^x = 2^n e^r with |r| <= ln(2) / 2: e^r, and n. */
static inline vf vm_exp_parts(vf x, vf *n)
{
    static const float c[] = {1.0f, 1.0f, 0.5f, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720};
    *n = v_round(v_mul(x, VM(1.44269504f)));
    vf r = v_fnma(*n, VM(0.693359375f), x);
    return vm_poly(v_fnma(*n, VM(-2.12194440e-4f), r), c, 7);
}

/* Overflows to infinity, falls to zero, keeps NaN. */
static inline vf vm_exp(vf x)
{
    vf n, p = vm_exp_parts(v_min(v_max(x, VM(-104.0f)), VM(89.0f)), &n);
    return v_pick(v_is_nan(x), x, v_scale(p, n));
}

/* For arguments that are known to lie within -80 .. 80. */
static inline vf vm_exp_tame(vf x)
{
    vf n, p = vm_exp_parts(x, &n);
    return v_scale_tame(p, n);
}

static inline vf vm_clamp(vf x, float lo, float hi) /* NaN stays */
{
    return v_min(VM(hi), v_max(VM(lo), x));
}

static inline vf vm_sigmoid(vf x)
{
    vf e = vm_exp_tame(v_sub(v_zero(), vm_clamp(x, -80.0f, 80.0f)));
    return v_div(VM(1.0f), v_add(VM(1.0f), e));
}

/* Odd polynomial up to 0.625, then 1 - 2 / (e^2x + 1). */
static inline vf vm_tanh(vf x)
{
    static const float c[] = {0.999999996f, -0.333332542f, 0.13330979f, -0.0537090637f, 0.0205519643f, -0.00561610532f};
    vf a = v_abs(x);
    vf e = vm_exp_tame(v_min(VM(20.0f), v_add(a, a)));
    vf far = v_with_sign(v_sub(VM(1.0f), v_div(VM(2.0f), v_add(e, VM(1.0f)))), x);
    vf near = v_mul(x, vm_poly(v_mul(x, x), c, 6));
    return v_pick(v_is_nan(x), x, v_pick(v_less(a, VM(0.625f)), near, far));
}

/* Odd polynomial up to 1, then 1 - e^(-x^2) g(1 / (1 + x / 2)) up to 4, where it is 1. */
static inline vf vm_erf(vf x)
{
    static const float small[] = {1.12837917f, -0.376126258f, 0.112835851f, -0.0268538119f, 0.00518832756f, -0.000801019252f, 7.8538577e-05f};
    static const float large[] = {-0.000153188139f, 0.284896251f, 0.259801654f, 0.34736115f, -0.102592916f, 0.561873669f, -0.47015213f, 0.119016156f};
    vf a = v_min(VM(4.0f), v_abs(x)), square = v_mul(a, a);
    vf near = v_mul(x, vm_poly(square, small, 7));
    vf s = v_div(VM(1.0f), v_fma(a, VM(0.5f), VM(1.0f)));
    vf e = vm_exp_tame(v_sub(v_zero(), square));
    vf far = v_with_sign(v_fnma(e, vm_poly(s, large, 8), VM(1.0f)), x);
    return v_pick(v_is_nan(x), x, v_pick(v_less(v_abs(x), VM(1.0f)), near, far));
}

/* log of 2^e (1 + f), 1 + f between sqrt(1/2) and sqrt(2). */
static inline vf vm_log(vf x)
{
    static const float c[] = {0.333333299f, -0.250003039f, 0.200012008f, -0.16641581f, 0.142099521f, -0.129892908f, 0.12655651f, -0.0797411047f};
    vb tiny = v_less(x, VM(1.17549435e-38f)); /* scale subnormals up */
    vf n, f = v_sub(v_split(v_pick(tiny, v_mul(x, VM(8388608.0f)), x), &n), VM(1.0f)), f2 = v_mul(f, f);
    n = v_sub(n, v_pick(tiny, VM(23.0f), v_zero()));
    vf y = v_mul(v_mul(f2, f), vm_poly(f, c, 8));
    y = v_fma(n, VM(-2.12194440e-4f), y);
    y = v_fnma(f2, VM(0.5f), y);
    y = v_fma(n, VM(0.693359375f), v_add(f, y));
    vf inf = VM(__builtin_inff()), zero = v_zero();
    y = v_pick(v_equal(x, inf), inf, y);
    y = v_pick(v_equal(x, zero), v_sub(zero, inf), y);
    y = v_pick(v_less(x, zero), VM(__builtin_nanf("")), y);
    return v_pick(v_is_nan(x), x, y);
}

/* x / 2 (1 + erf(x / sqrt(2))), erf as x p(x^2) / q(x^2): relative error below 2e-7 above zero, absolute below
 * 1e-6 under it. At the bound the quotient rounds to 1 exactly, so that the result is 0 beyond -5.5. */
static inline vf vm_gelu_erf(vf x)
{
    static const float p[] = {0.797884548f, 0.0669171532f, 0.00930292177f, 0.000329140538f, 1.26030863e-05f, 4.58625202e-08f};
    static const float q[] = {1.0f, 0.250534616f, 0.0284159445f, 0.00186062648f, 7.21657923e-05f, 1.19902782e-06f};
    vf a = vm_clamp(x, -5.5f, 5.5f), square = v_mul(a, a), half = v_mul(x, VM(0.5f));
    return v_fma(half, v_div(v_mul(a, vm_poly(square, p, 6)), vm_poly(square, q, 6)), half);
}

static inline vf vm_gelu_tanh(vf x)
{
    vf cube = v_mul(v_mul(x, x), x);
    vf t = vm_tanh(v_mul(VM(0.79788456f), v_fma(VM(0.044715f), cube, x)));
    return v_mul(v_mul(VM(0.5f), x), v_add(VM(1.0f), t));
}

/* tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2) with e = e^x */
static inline vf vm_mish(vf x)
{
    vf e = vm_exp_tame(vm_clamp(x, -40.0f, 20.0f));
    vf p = v_mul(e, v_add(e, VM(2.0f)));
    return v_mul(x, v_div(p, v_add(p, VM(2.0f))));
}

static inline vf vm_softplus(vf x)
{
    vf e = vm_exp_tame(v_max(VM(-80.0f), v_sub(v_zero(), v_abs(x))));
    vf one_more = v_add(VM(1.0f), e);
    /* log1p: log(1 + e) plus what the rounding of 1 + e lost */
    vf lost = v_sub(e, v_sub(one_more, VM(1.0f)));
    return v_add(v_max(v_zero(), x), v_add(vm_log(one_more), v_div(lost, one_more)));
}

/* e^x - 1 below zero: a short series close to it, where the subtraction would lose digits */
static inline vf vm_expm1(vf x)
{
    static const float c[] = {1.0f, 0.5f, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720};
    vf far = v_sub(vm_exp_tame(vm_clamp(x, -80.0f, 80.0f)), VM(1.0f));
    vf near = v_mul(x, vm_poly(x, c, 6));
    return v_pick(v_less(v_abs(x), VM(0.35f)), near, far);
}

#endif
