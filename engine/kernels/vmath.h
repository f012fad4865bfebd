/* vmath.h - exp, log, tanh, erf and what is made of them, a vector at a time; include a vec_*.h first.
 * Relative errors of exp, tanh, erf and log are below 5e-7. Coefficients are fits of the relative error over the
 * intervals named, levelled to nearly equal peaks. */
#ifndef ENG_VMATH_H
#define ENG_VMATH_H

#define VM(x) v_set(x)
#define LOG2E 1.44269504f

/* c[n-1] x^(n-1) + ... + c[0] */
static inline vf vm_poly(vf x, const float *c, int n)
{
    vf y = VM(c[n - 1]);
    for (int i = n - 2; i >= 0; i--) y = v_fma(y, x, VM(c[i]));
    return y;
}

/* e^x = 2^n e^r with |r| <= ln(2) / 2. Overflows to infinity, falls to zero, keeps NaN. */
static inline vf vm_exp(vf x)
{
    static const float c[] = {1.0f, 1.0f, 0.5f, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720};
    vf clipped = v_min(v_max(x, VM(-104.0f)), VM(89.0f)), n = v_round(v_mul(clipped, VM(LOG2E)));
    vf r = v_fnma(n, VM(0.693359375f), clipped);
    vf p = vm_poly(v_fnma(n, VM(-2.12194440e-4f), r), c, 7);
    return v_pick(v_is_nan(x), x, v_scale(p, n));
}

/* 2^(a b) as a power of steps times *rest, for -127 .. 125.6: e^x within -88 .. 87, where log2(e) in one float is
 * good to 1e-6. -127 itself, and what rounds to it, gives zero. */
#define V_TO_STEPS (12582912.0f / V_STEPS) /* added to this number, another is rounded to steps, and the last bits count them */
#if defined(__AVX512F__)
#define V_REST 1.0f, 0.693157315f, 0.240226492f /* of 2^x between half steps */
#elif defined(__AVX2__)
#define V_REST 1.0f, 0.693147063f, 0.240226567f, 0.0555299297f, 0.00961571373f
#else
#define V_REST 1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151206f, 0.00132647192f
#endif
static inline vf vm_exp2_parts(vf a, vf b, vf *rest)
{
    static const float c[] = {V_REST};
    const vf to_steps = VM(V_TO_STEPS);
    vf u = v_fma(a, b, to_steps);
    *rest = vm_poly(v_fma(a, b, v_sub(to_steps, u)), c, sizeof c / sizeof *c);
    return v_power(u);
}

#define VM_EACH(i) _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)
/* x[i] = 2^(x[i] b), step by step for all four: one after the other they would fill the processor's queues with what waits. */
static inline void vm_exp2_four(vf x[4], vf b)
{
    static const float c[] = {V_REST};
    enum { N = sizeof c / sizeof *c };
    const vf to_steps = VM(V_TO_STEPS);
    vf u[4], y[4];
    VM_EACH(i) u[i] = v_fma(x[i], b, to_steps);
    VM_EACH(i) y[i] = v_sub(to_steps, u[i]);
    VM_EACH(i) x[i] = v_fma(x[i], b, y[i]);
    VM_EACH(i) u[i] = v_power(u[i]);
    VM_EACH(i) y[i] = v_fma(x[i], VM(c[N - 1]), VM(c[N - 2]));
    for (int k = N - 3; k >= 0; k--) VM_EACH(i) y[i] = v_fma(y[i], x[i], VM(c[k]));
    VM_EACH(i) x[i] = v_mul(u[i], y[i]);
}

static inline vf vm_exp_tame(vf x)
{
    vf rest, step = vm_exp2_parts(x, VM(LOG2E), &rest);
    return v_mul(step, rest);
}

static inline vf vm_clamp(vf x, float lo, float hi) /* NaN stays */
{
    return v_min(VM(hi), v_max(VM(lo), x));
}

static inline vf vm_sigmoid(vf x)
{
    vf rest, step = vm_exp2_parts(vm_clamp(x, -87.0f, 87.0f), VM(-LOG2E), &rest);
    return v_div(VM(1.0f), v_fma(step, rest, VM(1.0f)));
}

/* x / (1 + e^(-alpha x)), with what depends on alpha alone apart: that is worked out once. */
typedef struct vm_silu_of {
    vf scale, least, most;
} vm_silu_of;

static inline vm_silu_of vm_silu_for(vf alpha)
{
    vf most = v_div(VM(87.0f), v_abs(alpha));
    return (vm_silu_of){v_mul(alpha, VM(-LOG2E)), v_sub(v_zero(), most), most};
}

static inline vf vm_silu(vm_silu_of of, vf x)
{
    vf rest, step = vm_exp2_parts(v_min(of.most, v_max(of.least, x)), of.scale, &rest);
    return v_div(x, v_fma(step, rest, VM(1.0f)));
}

/* y, but 1 with x's sign where |x| >= from. */
static inline vf vm_to_one(vf x, float from, vf y)
{
    return v_pick(v_less(v_abs(x), VM(from)), y, v_pick(v_is_nan(x), x, v_with_sign(VM(1.0f), x)));
}

/* x P(x^2) / Q(x^2), all terms positive, up to where it is 1. */
static inline vf vm_tanh(vf x)
{
    static const float p[] = {1.0f, 0.134068742f, 0.00352640054f, 2.11223651e-05f, 1.40824552e-08f};
    static const float q[] = {1.0f, 0.467401952f, 0.0259938948f, 0.000333626842f, 8.07062918e-07f};
    vf a = vm_clamp(x, -8.6f, 8.6f), t = v_mul(a, a);
    return vm_to_one(x, 8.6f, v_div(v_mul(a, vm_poly(t, p, 5)), vm_poly(t, q, 5)));
}

static inline vf vm_erf(vf x)
{
    static const float p[] = {1.12837911f, 0.187225595f, 0.0524100289f, 0.00364979659f, 0.000285984308f, 2.12526515e-06f};
    static const float q[] = {1.0f, 0.499257267f, 0.112868503f, 0.0147365844f, 0.00114118343f, 3.89222878e-05f};
    vf a = vm_clamp(x, -3.83f, 3.83f), t = v_mul(a, a);
    return vm_to_one(x, 3.83f, v_div(v_mul(a, vm_poly(t, p, 6)), vm_poly(t, q, 6)));
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

#ifdef V_TABLE
/* x / 2 (1 + erf(x / sqrt(2))) with half of the erf by polynomials over sixteen intervals, as near as the quotient below
 * at half its cost. The last one ends in 1 / 2 exactly, so that the result is 0 beyond -5.45. */
static inline vf vm_gelu_erf(vf x)
{
    static const float c[5][16] = {
        {0.0f, 0.137520835f, 0.259183884f, 0.354406148f, 0.420339614f, 0.460728198f, 0.48261553f, 0.49310869f,
         0.497559011f, 0.499228716f, 0.49978292f, 0.499945641f, 0.4999879f, 0.499997616f, 0.499999583f, 0.49999997f},
        {0.140363485f, 0.131938562f, 0.109579951f, 0.0804135576f, 0.0521393269f, 0.0298701953f, 0.0151197789f,
         0.00676215952f, 0.00267211557f, 0.000932936207f, 0.000287787552f, 7.84352887e-05f, 1.88871327e-05f,
         4.01819125e-06f, 7.55265887e-07f, 1.254203e-07f},
        {5.1660495e-06f, -0.00816622842f, -0.0135647664f, -0.0149314962f, -0.0129086562f, -0.00924416538f,
         -0.00561515475f, -0.00292991824f, -0.00132320297f, -0.000519741443f, -0.000178147413f, -5.34108913e-05f,
         -1.40312113e-05f, -3.23406675e-06f, -6.5468987e-07f, -1.16494647e-07f},
        {-0.00292498874f, -0.00237325509f, -0.00114016747f, 0.000181543306f, 0.00104463263f, 0.0012838199f,
         0.00107589003f, 0.000707663072f, 0.000383603474f, 0.000175387642f, 6.85212945e-05f, 2.30612077e-05f,
         6.72242004e-06f, 1.70380702e-06f, 3.76520887e-07f, 7.27041183e-08f},
        {6.66356646e-05f, 0.000240221241f, 0.000347967638f, 0.000289074815f, 0.000135947514f, -7.94814605e-06f,
         -8.33544982e-05f, -9.21777319e-05f, -6.71567323e-05f, -3.78245968e-05f, -1.7385406e-05f, -6.6905709e-06f,
         -2.18723426e-06f, -6.12958502e-07f, -1.48163593e-07f, -3.1026353e-08f}};
    const vf from = VM(12582912.0f); /* adding it rounds, and leaves the interval in the lowest bits */
    vf size = v_abs(x), a = v_min(VM(5.45f), size), bits = v_fma(a, VM(2.84220195f), from);
    vf r = v_fma(a, VM(2.84220195f), v_sub(from, bits)), y = v_entry(c[4], bits);
    for (int i = 3; i >= 0; i--) y = v_fma(y, r, v_entry(c[i], bits));
    return v_fma(size, y, v_mul(x, VM(0.5f)));
}
#else
/* x / 2 (1 + erf(x / sqrt(2))), erf as x p(x^2) / q(x^2): relative error below 2e-7 above zero, absolute below
 * 1e-6 under it. At the bound the quotient rounds to 1 exactly, so that the result is 0 beyond -5.5. */
static inline vf vm_gelu_erf(vf x)
{
    static const float p[] = {0.797884548f, 0.0669171532f, 0.00930292177f, 0.000329140538f, 1.26030863e-05f, 4.58625202e-08f};
    static const float q[] = {1.0f, 0.250534616f, 0.0284159445f, 0.00186062648f, 7.21657923e-05f, 1.19902782e-06f};
    vf a = vm_clamp(x, -5.5f, 5.5f), square = v_mul(a, a), half = v_mul(x, VM(0.5f));
    return v_fma(half, v_div(v_mul(a, vm_poly(square, p, 6)), vm_poly(square, q, 6)), half);
}
#endif

/* x / (1 + e^-2u), which is x / 2 (1 + tanh(u)), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static inline vf vm_gelu_tanh(vf x)
{
    vf rest, twice = v_mul(x, v_fma(v_mul(x, x), VM(0.071354816f), VM(1.59576912f)));
    vf step = vm_exp2_parts(vm_clamp(twice, -87.0f, 87.0f), VM(-LOG2E), &rest);
    return v_div(x, v_fma(step, rest, VM(1.0f)));
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
