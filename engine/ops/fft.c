#include "engine/ops/fft.h"

#include <math.h>

enum { PRIME_MAX = 31 };

static inline eng_complex mul(eng_complex a, eng_complex b)
{
    return (eng_complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static inline eng_complex plus(eng_complex a, eng_complex b)
{
    return (eng_complex){a.re + b.re, a.im + b.im};
}

static inline eng_complex minus(eng_complex a, eng_complex b)
{
    return (eng_complex){a.re - b.re, a.im - b.im};
}

/* exp(-2 pi i k / n) */
static eng_complex root(int64_t k, int64_t n)
{
    double t = -2.0 * M_PI * (double)k / (double)n;
    return (eng_complex){cos(t), sin(t)};
}

/* Factors of n, fours first; false when one is a prime above PRIME_MAX. */
static bool factor(eng_fft *f)
{
    int64_t n = f->n;
    f->n_factors = 0;
    for (int p = 4; n > 1; p = p == 4 ? 2 : p == 2 ? 3 : p + 2) {
        if (p > PRIME_MAX) return false;
        for (; n % p == 0; n /= p) f->factors[f->n_factors++] = p;
    }
    return true;
}

static od_code init_bluestein(eng_fft *f, od_arena *a, od_status *st)
{
    int64_t m = 1, n = f->n;
    while (m < 2 * n - 1) m *= 2;
    f->inner = od_arena_array(a, eng_fft, 1);
    f->chirp = od_arena_array(a, eng_complex, n);
    f->filter = od_arena_array(a, eng_complex, m);
    eng_complex *b = od_arena_array(a, eng_complex, m);
    if (!f->inner || !f->chirp || !f->filter || !b) return od_fail(st, OD_NO_MEMORY, "no memory for a transform");
    OD_TRY(eng_fft_init(f->inner, m, a, st));
    for (int64_t k = 0, square = 0; k < n; k++) {
        f->chirp[k] = root(square, 2 * n);
        square = (square + 2 * k + 1) % (2 * n); /* k^2 itself would lose its low bits */
        b[k] = (eng_complex){f->chirp[k].re / (double)m, -f->chirp[k].im / (double)m};
        if (k) b[m - k] = b[k];
    }
    eng_fft_run(f->inner, b, f->filter, NULL);
    f->n_work = 2 * m;
    return OD_OK;
}

od_code eng_fft_init(eng_fft *f, int64_t n, od_arena *a, od_status *st)
{
    *f = (eng_fft){.n = n};
    if (n < 1 || n > (int64_t)1 << 40)
        return od_fail(st, OD_TOO_LARGE, "a transform of length %" PRId64, n);
    if (!factor(f)) return init_bluestein(f, a, st);
    f->roots = od_arena_array(a, eng_complex, n);
    if (!f->roots) return od_fail(st, OD_NO_MEMORY, "no memory for a transform of length %" PRId64, n);
    for (int64_t k = 0; k < n; k++) f->roots[k] = root(k, n);
    return OD_OK;
}

static void radix2(const eng_complex *roots, eng_complex *x, int64_t m, int64_t step)
{
    for (int64_t k = 0; k < m; k++) {
        eng_complex a = x[k], b = mul(x[m + k], roots[k * step]);
        x[k] = plus(a, b);
        x[m + k] = minus(a, b);
    }
}

static void radix4(const eng_complex *roots, eng_complex *x, int64_t m, int64_t step)
{
    for (int64_t k = 0; k < m; k++) {
        eng_complex a = x[k], b = mul(x[m + k], roots[k * step]), c = mul(x[2 * m + k], roots[2 * k * step]),
                    d = mul(x[3 * m + k], roots[3 * k * step]);
        eng_complex ac = plus(a, c), a_c = minus(a, c), bd = plus(b, d), b_d = minus(b, d);
        x[k] = plus(ac, bd);
        x[2 * m + k] = minus(ac, bd);
        x[m + k] = (eng_complex){a_c.re + b_d.im, a_c.im - b_d.re};
        x[3 * m + k] = (eng_complex){a_c.re - b_d.im, a_c.im + b_d.re};
    }
}

static void radix_any(const eng_complex *roots, eng_complex *x, int p, int64_t m, int64_t step)
{
    eng_complex t[PRIME_MAX];
    for (int64_t k = 0; k < m; k++) {
        for (int q = 0; q < p; q++) t[q] = mul(x[q * m + k], roots[q * k * step]);
        for (int u = 0; u < p; u++) {
            eng_complex sum = t[0];
            for (int q = 1; q < p; q++) sum = plus(sum, mul(t[q], roots[(int64_t)q * u % p * m * step]));
            x[u * m + k] = sum;
        }
    }
}

/* Elements of `in`, `step` apart, into out[n]; step * n is the whole length. */
static void transform(const eng_fft *f, const eng_complex *in, eng_complex *out, int64_t n, int64_t step, int level)
{
    if (n == 1) {
        *out = *in;
        return;
    }
    int p = f->factors[level];
    int64_t m = n / p;
    for (int q = 0; q < p; q++) transform(f, in + q * step, out + q * m, m, step * p, level + 1);
    if (p == 2) radix2(f->roots, out, m, step);
    else if (p == 4) radix4(f->roots, out, m, step);
    else radix_any(f->roots, out, p, m, step);
}

void eng_fft_run(const eng_fft *f, const eng_complex *in, eng_complex *out, eng_complex *work)
{
    if (!f->inner) {
        transform(f, in, out, f->n, 1, 0);
        return;
    }
    int64_t m = f->inner->n;
    eng_complex *a = work, *b = work + m;
    for (int64_t k = 0; k < m; k++) a[k] = k < f->n ? mul(in[k], f->chirp[k]) : (eng_complex){0, 0};
    eng_fft_run(f->inner, a, b, NULL);
    for (int64_t k = 0; k < m; k++) { /* the inverse is the transform with the parts changed over */
        eng_complex p = mul(b[k], f->filter[k]);
        a[k] = (eng_complex){p.im, p.re};
    }
    eng_fft_run(f->inner, a, b, NULL);
    for (int64_t k = 0; k < f->n; k++) out[k] = mul((eng_complex){b[k].im, b[k].re}, f->chirp[k]);
}
