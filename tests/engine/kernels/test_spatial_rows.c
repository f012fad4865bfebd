/* The rows of pooling and Resize: every variant beside the plain one, on ragged sizes. */
#include "engine/base/cpu.h"
#include "engine/kernels/pool.h"
#include "engine/kernels/resize.h"
#include "tests/test.h"

enum { MOST = 4096 };
static float x[MOST], a[MOST], b[MOST];

static void fill(void)
{
    uint32_t s = 1;
    for (int i = 0; i < MOST; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)(s >> 8) / 8388608.0f - 1.0f;
    }
}

#if defined(__x86_64__)
TEST(pools_of_all_variants_have_the_same_bits)
{
    if (!(od_cpu_isa() & OD_ISA_AVX2)) return;
    fill();
    x[77] = NAN;
    for (int64_t channels = 1; channels < 75; channels++)
        for (int64_t n = 1; n < 10; n += 2) {
            const void *taps[9];
            for (int64_t t = 0; t < n; t++) taps[t] = x + 13 * t;
            eng_pool_row r = {.taps = taps, .n_taps = n, .step = 2 * channels, .pixels = 7, .channels = channels, .y = a, .ldy = channels + 1, .scale = 0.3};
            memset(a, 0, sizeof a);
            memset(b, 0, sizeof b);
            eng_pool_ref.max_f32(&r);
            r.y = b;
            eng_pool_avx2.max_f32(&r);
            CHECK(!memcmp(a, b, sizeof a));
            eng_pool_avx2.sum_f32(&r);
            r.y = a;
            eng_pool_ref.sum_f32(&r);
            CHECK(!memcmp(a, b, sizeof a));
        }
}

TEST(resized_lines_of_all_variants_agree)
{
    if (!(od_cpu_isa() & OD_ISA_AVX2)) return;
    fill();
    for (int64_t channels = 1; channels < 40; channels++)
        for (int64_t taps = 1; taps < 7; taps++) {
            int64_t where[6 * 6];
            for (int64_t i = 0; i < 6 * taps; i++) where[i] = i * 7 % 11;
            eng_resize_line l = {.x = x, .at = where, .w = x + 3000, .taps = taps, .pixels = 6, .channels = channels, .pitch = channels + 2, .y = a, .ldy = channels + 3};
            memset(a, 0, sizeof a);
            memset(b, 0, sizeof b);
            eng_resize_ref.line_f32(&l);
            l.y = b;
            eng_resize_avx2.line_f32(&l);
            for (int i = 0; i < MOST; i++) CHECK_NEAR(a[i], b[i], 1e-6);
        }
}

TEST(blended_lines_of_all_variants_agree)
{
    if (!(od_cpu_isa() & OD_ISA_AVX2)) return;
    fill();
    for (int64_t n = 1; n < 70; n++)
        for (int64_t rows = 1; rows < 6; rows++) {
            const void *from[5];
            for (int64_t t = 0; t < rows; t++) from[t] = x + 100 * t;
            eng_blend l = {.rows = from, .w = x + 3000, .n_rows = rows, .n = n, .y = a};
            memset(a, 0, sizeof a);
            memset(b, 0, sizeof b);
            eng_resize_ref.blend_f32(&l);
            l.y = b;
            eng_resize_avx2.blend_f32(&l);
            for (int i = 0; i < MOST; i++) CHECK_NEAR(a[i], b[i], 1e-6);
        }
}
#endif

TEST(doubles_are_weighted_too)
{
    double in[4] = {1, 2, 3, 4}, out[2];
    int64_t where[4] = {0, 1, 2, 3};
    float w[4] = {0.25f, 0.75f, 0.5f, 0.5f};
    eng_resize_line l = {.x = in, .at = where, .w = w, .taps = 2, .pixels = 2, .channels = 1, .pitch = 1, .y = out, .ldy = 1};
    eng_resize_get()->line_f64(&l);
    CHECK_NEAR(out[0], 1.75, 1e-12);
    CHECK_NEAR(out[1], 3.5, 1e-12);
}

TEST_MAIN
