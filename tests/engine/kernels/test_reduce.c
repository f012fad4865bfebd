#include "engine/base/cpu.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/reduce.h"
#include "tests/engine/kernels/guard.h"
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

/* The variants that this processor runs. */
static int variants(const eng_attention_kernels **k)
{
    unsigned isa = od_cpu_isa();
    int n = 0;
    (void)isa;
#if defined(__x86_64__)
    if (isa & OD_ISA_AVX2) k[n++] = &eng_attention_avx2;
    if (isa & OD_ISA_AVX512) k[n++] = &eng_attention_avx512;
#elif defined(__aarch64__)
    if (isa & OD_ISA_NEON) k[n++] = &eng_attention_neon;
#endif
    return n;
}

TEST(exponentials_of_a_row_are_the_reference) {
    const eng_attention_kernels *k[4];
    for (int v = variants(k) - 1; v >= 0; v--)
        for (int n = 0; n < 70; n++)
            for (int how = 0; how < 12; how++) {
                fill();
                memcpy(a, x, sizeof a);
                memcpy(b, x, sizeof b);
                const float *mask = how % 3 ? x + 100 : NULL, *more = how < 6 ? NULL : x + 200;
                float scale = how % 2 ? 0.5f : -0.5f;
                float have = k[v]->exp_row(a, n, scale, mask, how % 3 == 2, more);
                float want = eng_attention_ref.exp_row(b, n, scale, mask, how % 3 == 2, more);
                CHECK_NEAR(have, want, 1e-5);
                for (int i = 0; i < n + 1; i++) CHECK_NEAR(a[i], b[i], 1e-6);
            }
}

/* Scores, masks and what they are made of end where they may not be read. */
TEST(weights_of_several_rows_are_the_reference) {
    enum { PITCH = 80, ROWS = 9 };
    const eng_attention_kernels *k[4];
    for (int v = variants(k) - 1; v >= 0; v--)
        for (int n = 1; n < 68; n++)
            for (int how = 0; how < 12; how++) {
                const int rows = 1 + (n + how) % ROWS, mask_row = how % 2 ? n : 0;
                const size_t size = (size_t)((rows - 1) * PITCH + n);
                float *own = guard_floats((int64_t)size), *ref = guard_floats((int64_t)size), have[16], want[16];
                float *mask = guard_floats((rows - 1) * mask_row + n), *more = guard_floats((rows - 1) * n + n);
                for (size_t i = 0; i < size; i++) own[i] *= 30.0f;
                if (how == 7) own[n / 2] = INFINITY; /* NaN, alone in its row */
                if (how == 8) own[n - 1] = NAN;
                for (int i = 0; how == 9 && i < n; i++) more[i] = -INFINITY;
                for (int i = 0; how == 10 && i < n; i++) own[i] = -INFINITY;
                memcpy(ref, own, size * sizeof *own);
                eng_scores s = {.row = own, .pitch = PITCH, .rows = rows, .n = n, .scale = how == 11 ? -0.5f : how == 6 ? 0.0f : 0.25f,
                                .mask = how % 3 == 1 ? mask : NULL, .mask_row = mask_row, .more = how % 4 == 1 ? more : NULL, .more_row = n};
                k[v]->weigh_rows(&s, have);
                s.row = ref;
                eng_attention_ref.weigh_rows(&s, want);
                for (int i = 0; i < rows; i++) {
                    if (isnan(want[i])) CHECK(isnan(have[i]));
                    else if (isinf(want[i])) CHECK(have[i] == want[i]);
                    else CHECK_NEAR(have[i], want[i], 1e-5);
                    for (int c = 0; c < (i + 1 < rows ? PITCH : n) && !isnan(want[i]); c++)
                        CHECK_NEAR(own[i * PITCH + c], ref[i * PITCH + c], c < n ? 1e-6 : 0);
                }
                guard_release();
            }
}

TEST(products_of_rows_and_one_more_are_the_reference) {
    enum { PITCH = 70, ROWS = 9 };
    const eng_attention_kernels *k[4];
    for (int v = variants(k) - 1; v >= 0; v--)
        for (int n = 1; n < PITCH; n++)
            for (int rows = 1; rows < ROWS; rows++) {
                float *x_rows = guard_floats((rows - 1) * PITCH + n), *y = guard_floats(n), have[ROWS * 3], want[ROWS * 3];
                memset(have, 0, sizeof have);
                memset(want, 0, sizeof want);
                k[v]->dots(x_rows, PITCH, rows, y, n, have, 3);
                eng_attention_ref.dots(x_rows, PITCH, rows, y, n, want, 3);
                for (int i = 0; i < ROWS * 3; i++) CHECK_NEAR(have[i], want[i], 1e-5);
                guard_release();
            }
}

TEST(a_row_of_minus_infinity_is_zero_and_nan_spreads) {
    const eng_attention_kernels *k[4];
    for (int v = variants(k) - 1; v >= 0; v--) {
        for (int i = 0; i < 20; i++) a[i] = -INFINITY;
        CHECK_NEAR(k[v]->exp_row(a, 20, 1.0f, NULL, 0, NULL), 0, 0);
        CHECK_NEAR(a[19], 0, 0);
        for (int nan = 3; nan < 20; nan += 16) { /* among others, and alone */
            for (int i = 0; i < 20; i++) a[i] = nan == 3 ? (float)i : -INFINITY;
            a[nan] = NAN;
            CHECK(isnan(k[v]->exp_row(a, 20, 1.0f, NULL, 0, NULL)));
        }
        for (int i = 0; i < 20; i++) a[i] = i ? -INFINITY : 3.0f;
        CHECK_NEAR(k[v]->exp_row(a, 20, 2.0f, NULL, 0, NULL), 1, 0);
        CHECK_NEAR(a[19], 0, 0);
    }
}

TEST(panels_and_scaled_rows_are_the_reference) {
    const eng_attention_kernels *k[4];
    fill();
    for (int v = variants(k) - 1; v >= 0; v--)
        for (int n = 1; n < 40; n++)
            for (int how = 0; how < 3; how++) {
                int row = how == 0 ? 41 : how == 1 ? 1 : 80, col = how == 0 ? 1 : how == 1 ? 41 : 2;
                memset(a, 1, sizeof a);
                memset(b, 1, sizeof b);
                k[v]->pack(x, row, col, 9, n, a);
                eng_attention_ref.pack(x, row, col, 9, n, b);
                CHECK(!memcmp(a, b, sizeof a));
                k[v]->scale_rows(x, 50, x + 9, 5, n, a, 60);
                eng_attention_ref.scale_rows(x, 50, x + 9, 5, n, b, 60);
                CHECK(!memcmp(a, b, sizeof a));
            }
}

TEST_MAIN
