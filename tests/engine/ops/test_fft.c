/* The transform against its definition. */
#include "engine/ops/fft.h"
#include "tests/test.h"

static void by_definition(const eng_complex *in, eng_complex *out, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        out[k] = (eng_complex){0, 0};
        for (int64_t i = 0; i < n; i++) {
            double t = -2.0 * M_PI * (double)(i * k % n) / (double)n;
            out[k].re += in[i].re * cos(t) - in[i].im * sin(t);
            out[k].im += in[i].re * sin(t) + in[i].im * cos(t);
        }
    }
}

TEST(every_length_up_to_200_and_some_large_ones_are_right)
{
    for (int64_t n = 1; n <= 1009; n = n < 200 ? n + 1 : n + 101) {
        od_arena a = {0};
        eng_fft f;
        CHECK_OK(eng_fft_init(&f, n, &a, &st));
        eng_complex *in = od_arena_array(&a, eng_complex, n), *out = od_arena_array(&a, eng_complex, n),
                    *want = od_arena_array(&a, eng_complex, n), *work = od_arena_array(&a, eng_complex, f.n_work);
        for (int64_t i = 0; i < n; i++) in[i] = (eng_complex){sin((double)(i * i)), cos(3.0 * (double)i)};
        eng_fft_run(&f, in, out, work);
        by_definition(in, want, n);
        for (int64_t i = 0; i < n; i++) {
            CHECK_NEAR(out[i].re, want[i].re, 1e-9);
            CHECK_NEAR(out[i].im, want[i].im, 1e-9);
        }
        od_arena_fini(&a);
    }
}

TEST(lengths_below_one_and_without_memory_are_refused)
{
    eng_fft f;
    od_arena small;
    od_arena_init(&small, 4096);
    CHECK_CODE(eng_fft_init(&f, 0, &small, &st), OD_TOO_LARGE);
    CHECK_CODE(eng_fft_init(&f, 1 << 20, &small, &st), OD_NO_MEMORY);
    CHECK_CODE(eng_fft_init(&f, 1048583, &small, &st), OD_NO_MEMORY); /* a prime */
    od_arena_fini(&small);
}

TEST_MAIN
