#include "engine/kernels/attention.h"
#include "engine/kernels/reduce.h"
#include "tests/test.h"

static float x[4096], a[4096], b[4096];

static void fill(void)
{
    for (int i = 0; i < 4096; i++) x[i] = (float)(i * 7919 % 1013) / 100.0f - 5.0f;
}

TEST(rows_and_columns_of_any_size_are_the_reference) {
    const eng_reduce_kernels *k = eng_reduce_get();
    fill();
    for (int kind = 0; kind < ENG_REDS; kind++)
        for (int n = 0; n < 80; n++) {
            float want = eng_reduce_ref.row((eng_red)kind, x, n, 0.25f), have = k->row((eng_red)kind, x, n, 0.25f);
            CHECK(have == want || fabsf(have - want) <= 1e-5f * fabsf(want) + 1e-5f);
            k->columns((eng_red)kind, x, 80, 40, n, n % 2 ? x + 7 : NULL, a);
            eng_reduce_ref.columns((eng_red)kind, x, 80, 40, n, n % 2 ? x + 7 : NULL, b);
            for (int i = 0; i < n; i++) CHECK_NEAR(a[i], b[i], 1e-3);
        }
}

TEST(what_lies_behind_a_row_is_not_written) {
    const eng_reduce_kernels *k = eng_reduce_get();
    fill();
    for (int n = 1; n < 40; n++) {
        a[n] = b[n] = 77.0f;
        k->normal(x, 0.5f, 2.0f, n % 3 ? x + 5 : NULL, n % 2 ? x + 9 : NULL, a, n);
        eng_reduce_ref.normal(x, 0.5f, 2.0f, n % 3 ? x + 5 : NULL, n % 2 ? x + 9 : NULL, b, n);
        for (int i = 0; i <= n; i++) CHECK_NEAR(a[i], b[i], 1e-4);
        a[n] = b[n] = 77.0f;
        k->affine(x, n, a, n, 1, n, x + 1, x + 2, 1);
        eng_reduce_ref.affine(x, n, b, n, 1, n, x + 1, x + 2, 1);
        for (int i = 0; i <= n; i++) CHECK_NEAR(a[i], b[i], 1e-4);
    }
}

TEST(exponentials_of_a_row_are_the_reference) {
    const eng_attention_kernels *k = eng_attention_get();
    for (int n = 0; n < 40; n++)
        for (int how = 0; how < 6; how++) {
            fill();
            memcpy(a, x, sizeof a);
            memcpy(b, x, sizeof b);
            const float *mask = how % 3 ? x + 100 : NULL;
            float scale = how < 3 ? 0.5f : -0.5f;
            float have = k->exp_row(a, n, scale, mask, how % 3 == 2), want = eng_attention_ref.exp_row(b, n, scale, mask, how % 3 == 2);
            CHECK_NEAR(have, want, 1e-5);
            for (int i = 0; i < n + 1; i++) CHECK_NEAR(a[i], b[i], 1e-6);
        }
}

TEST(a_row_of_minus_infinity_is_zero_and_nan_spreads) {
    const eng_attention_kernels *k = eng_attention_get();
    for (int i = 0; i < 20; i++) a[i] = -INFINITY;
    CHECK_NEAR(k->exp_row(a, 20, 1.0f, NULL, 0), 0, 0);
    CHECK_NEAR(a[19], 0, 0);
    a[3] = NAN;
    CHECK(isnan(k->exp_row(a, 20, 1.0f, NULL, 0)));
}

TEST_MAIN
