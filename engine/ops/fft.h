/* fft.h - discrete Fourier transforms of any length in double precision.
 * Lengths with small prime factors go by mixed radix; others as a convolution of a power of two
 * (Bluestein), so that no length costs more than n log n. */
#ifndef ENG_OPS_FFT_H
#define ENG_OPS_FFT_H

#include "engine/base/arena.h"

typedef struct eng_complex {
    double re, im;
} eng_complex;

typedef struct eng_fft {
    int64_t n, n_work; /* elements a transform takes as `work` */
    int n_factors;
    int factors[64];
    eng_complex *roots;            /* exp(-2 pi i k / n) */
    struct eng_fft *inner;         /* Bluestein: the power of two */
    eng_complex *chirp, *filter;   /* exp(-pi i k^2 / n); the transformed filter, scaled */
} eng_fft;

/* A plan for length n >= 1 from `a`. OD_NO_MEMORY; OD_TOO_LARGE. */
od_code eng_fft_init(eng_fft *f, int64_t n, od_arena *a, od_status *st);

/* out = the transform of in, n elements each, not the same. Any number of threads may share `f`. */
void eng_fft_run(const eng_fft *f, const eng_complex *in, eng_complex *out, eng_complex *work);

#endif
