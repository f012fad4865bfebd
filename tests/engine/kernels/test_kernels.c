#include "engine/base/cpu.h"
#include "engine/kernels/kernels.h"
#include "tests/engine/kernels/guard.h"
#include "tests/test.h"

/* The variants that this processor runs. */
static int variants(const eng_kernels **k)
{
    unsigned isa = od_cpu_isa();
    int n = 0;
    (void)isa;
#if defined(__x86_64__)
    if (isa & OD_ISA_AVX2) k[n++] = &eng_kernels_avx2;
    if (isa & OD_ISA_AVX512) k[n++] = &eng_kernels_avx512;
#elif defined(__aarch64__)
    if (isa & OD_ISA_NEON) k[n++] = &eng_kernels_neon;
#endif
    return n;
}

static bool close_to(float a, float b, float tolerance)
{
    return fabsf(a - b) <= tolerance * (1.0f + fabsf(b)) || (isnan(a) && isnan(b));
}

static void compare(const float *got, const float *want, int64_t rows, int64_t n, int64_t pitch, const char *what)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            if (!close_to(got[r * pitch + i], want[r * pitch + i], 2e-5f))
                TEST_FAIL("%s: row %d, column %d is %g, wanted %g", what, (int)r, (int)i, (double)got[r * pitch + i],
                          (double)want[r * pitch + i]);
}

/* ---- matrix product ------------------------------------------------------------------------ */

/* Run g by every variant and compare with the reference; nothing between rows may be written. */
static void check_gemm(eng_gemm g, int64_t floats)
{
    const eng_kernels *k[4];
    int n = variants(k);
    float *want = guard_bytes((size_t)floats * sizeof(float)), *got = guard_bytes((size_t)floats * sizeof(float));
    char what[96];
    for (int64_t i = 0; i < floats; i++) want[i] = 77.0f;
    g.c = want;
    eng_kernels_ref.gemm_f32(&g);
    snprintf(what, sizeof what, "%dx%dx%d act %d residual %d", (int)g.m, (int)g.n, (int)(g.segments * g.length), (int)g.act,
             (int)g.residual);
    for (int v = 0; v < n; v++) {
        for (int64_t i = 0; i < floats; i++) got[i] = 77.0f;
        g.c = got;
        k[v]->gemm_f32(&g);
        compare(got, want, 1, floats, floats, what);
    }
}

TEST(products_of_ragged_sizes_agree_and_touch_nothing_else) {
    static const int64_t ms[] = {1, 2, 3, 5, 7, 8, 9, 13, 17, 49}, ns[] = {1, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 50, 64};
    static const int64_t ks[] = {1, 2, 3, 5, 8, 33};
    for (size_t a = 0; a < sizeof ms / sizeof *ms; a++)
        for (size_t b = 0; b < sizeof ns / sizeof *ns; b++)
            for (size_t c = 0; c < sizeof ks / sizeof *ks; c++) {
                int64_t m = ms[a], n = ns[b], k = ks[c], ldc = n + (int64_t)(a % 3), lda = k + (int64_t)(b % 2);
                float *dense = guard_floats(k * n), *packed = guard_floats(eng_packed_floats(k, n));
                eng_gemm_pack(dense, n, 1, k, n, packed);
                eng_gemm g = {.m = m, .n = n, .segments = 1, .length = k, .a = guard_floats((m - 1) * lda + k), .lda = lda,
                              .b = packed, .bias = (a + b) % 2 ? guard_floats(n) : NULL, .ldc = ldc,
                              .act = (eng_act)((a + b + c) % ENG_ACTS), .alpha = 0.1f, .beta = 0.7f,
                              .residual = (eng_residual)((b + c) % 3), .scale = (a + c) % 3 ? NULL : guard_floats(n)};
                if (g.residual) {
                    g.ld_add = n + (int64_t)(c % 2);
                    g.add = guard_floats((m - 1) * g.ld_add + n);
                }
                check_gemm(g, (m - 1) * ldc + n);
                guard_release();
            }
}

TEST(rows_given_by_pointers_agree) {
    static const int64_t shapes[][4] = {{1, 16, 2, 3}, {5, 17, 9, 4}, {50, 33, 9, 16}, {19, 40, 3, 7}};
    for (size_t i = 0; i < 4; i++) {
        int64_t m = shapes[i][0], n = shapes[i][1], segments = shapes[i][2], length = shapes[i][3];
        float *x = guard_floats(m * length), *packed = guard_floats(eng_packed_floats(segments * length, n));
        const float **rows = guard_bytes((size_t)(segments * m) * sizeof *rows);
        for (int64_t r = 0; r < segments * m; r++) rows[r] = x + r * 7 % m * length;
        eng_gemm g = {.m = m, .n = n, .segments = segments, .length = length, .rows = rows, .b = packed,
                      .bias = guard_floats(n), .ldc = n, .act = ENG_ACT_RELU};
        check_gemm(g, m * n);
        uint64_t *present = guard_bytes((size_t)m * sizeof *present); /* one segment fewer every few rows */
        float *zeros = guard_bytes((size_t)length * sizeof *zeros);
        for (int64_t k = 0; k < length; k++) zeros[k] = 0.0f;
        for (int64_t r = 0; r < m; r++) {
            int64_t gone = r / 5 % segments;
            present[r] = (UINT64_MAX >> (64 - segments)) & ~(1ull << gone);
            rows[gone * m + r] = zeros;
        }
        g.present = present;
        check_gemm(g, m * n);
        guard_release();
    }
}

TEST(rows_read_at_offsets_agree) {
    static const int64_t shapes[][3] = {{1, 16, 27}, {5, 17, 9}, {50, 33, 75}, {19, 3, 147}};
    for (size_t i = 0; i < 4; i++) {
        int64_t m = shapes[i][0], n = shapes[i][1], length = shapes[i][2], floats = m + 3 * length;
        float *x = guard_floats(floats), *packed = guard_floats(eng_packed_floats(length, n));
        const float **rows = guard_bytes((size_t)m * sizeof *rows);
        int64_t *offsets = guard_bytes((size_t)length * sizeof *offsets);
        for (int64_t r = 0; r < m; r++) rows[r] = x + r;
        for (int64_t k = 0; k < length; k++) offsets[k] = k + k / 3 * 5;
        eng_gemm g = {.m = m, .n = n, .segments = 1, .length = length, .offsets = offsets, .rows = rows, .b = packed,
                      .bias = guard_floats(n), .ldc = n, .act = ENG_ACT_SILU, .alpha = 1.0f};
        check_gemm(g, m * n);
        guard_release();
    }
}

TEST(large_products_by_seven_multiplications_agree) {
    static const int64_t shapes[][3] = {{96, 128, 192}, {101, 197, 224}, {140, 700, 1568}, {300, 129, 768}, {533, 160, 192}, {49, 256, 64}, {1000, 130, 96}, {15, 64, 32}, {165, 288, 96}, {49, 96, 1568}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int kind = 0; kind < 6; kind++) {
            int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2], lda = k + kind % 2, ldc = n + kind % 3;
            float *a = guard_floats((m - 1) * lda + k);
            for (int64_t x = 0; x < (m - 1) * lda + k; x++) a[x] /= 16.0f; /* results near 1, which errors are compared with */
            eng_gemm g = {.m = m, .n = n, .segments = 1, .length = k, .a = a, .lda = lda,
                          .b = guard_floats(eng_packed_floats(k, n)), .bias = kind ? guard_floats(n) : NULL, .ldc = ldc,
                          .act = (eng_act[]){ENG_ACT_NONE, ENG_ACT_RELU, ENG_ACT_CLIP, ENG_ACT_GELU_ERF, ENG_ACT_NONE, ENG_ACT_TANH}[kind],
                          .alpha = -0.5f, .beta = 2.0f, .residual = (eng_residual)(kind == 4 ? 2 : kind * (int)i % 3),
                          .scale = (kind + i) % 3 == 1 ? guard_floats(n) : NULL};
            g.work = guard_floats(eng_gemm_work_floats(&g));
            const float **rows = guard_bytes((size_t)m * sizeof *rows);
            for (int64_t r = 0; r < m; r++) rows[r] = g.a + r * lda;
            if (kind % 2) g.rows = rows;
            if (g.residual) g.add = guard_floats(m * n), g.ld_add = n;
            check_gemm(g, (m - 1) * ldc + n);
            guard_release();
        }
}

/* Sums of two rows must not bring what is wrong with one to the other. */
TEST(rows_that_are_not_finite_or_of_another_size_spoil_no_others) {
    enum { M = 120, N = 160, K = 256, BAD = 17, LARGE = 50 };
    const eng_kernels *k[4];
    int variants_here = variants(k);
    float *a = guard_floats(M * K), *want = guard_floats(M * N), *got = guard_floats(M * N);
    eng_gemm g = {.m = M, .n = N, .segments = 1, .length = K, .a = a, .lda = K, .b = guard_floats(eng_packed_floats(K, N)), .ldc = N};
    float *work = guard_floats(eng_gemm_work_floats(&g));
    a[BAD * K + 5] = NAN;
    a[(BAD + 40) * K + 9] = INFINITY;
    for (int i = 0; i < K; i++) a[LARGE * K + i] *= 1e6f;
    g.c = want;
    eng_kernels_ref.gemm_f32(&g);
    for (int v = 0; v < variants_here; v++) {
        g.c = got;
        g.work = work;
        k[v]->gemm_f32(&g);
        for (int i = 0; i < M; i++)
            if (i != BAD && i != BAD + 40 && i != LARGE) compare(got + i * N, want + i * N, 1, N, N, "a row beside a bad one");
        CHECK(isnan(got[BAD * N + 3]));
    }
    guard_release();
}

TEST(a_column_of_another_size_spoils_no_others) {
    enum { M = 120, N = 192, K = 256, LARGE = 37 };
    const eng_kernels *k[4];
    int variants_here = variants(k);
    float *b = guard_floats(eng_packed_floats(K, N)), *want = guard_floats(M * N), *got = guard_floats(M * N);
    eng_gemm g = {.m = M, .n = N, .segments = 1, .length = K, .a = guard_floats(M * K), .lda = K, .b = b, .ldc = N};
    float *work = guard_floats(eng_gemm_work_floats(&g));
    for (int bad = 0; bad < 2; bad++) {
        for (int i = 0; i < K; i++) b[(LARGE / ENG_NR * K + i) * ENG_NR + LARGE % ENG_NR] *= bad ? NAN : 1e6f;
        g.c = want;
        g.work = NULL;
        eng_kernels_ref.gemm_f32(&g);
        for (int v = 0; v < variants_here; v++) {
            g.c = got;
            g.work = work;
            k[v]->gemm_f32(&g);
            compare(got, want, M, LARGE, N, "columns before a large one");
            compare(got + LARGE + 1, want + LARGE + 1, M, N - LARGE - 1, N, "columns behind a large one");
        }
    }
    guard_release();
}

TEST(a_product_in_parts_has_the_bits_of_the_whole) {
    static const int64_t shapes[][3] = {{1, 300, 700}, {3, 1000, 512}, {49, 512, 300}, {197, 384, 128}, {1000, 24, 77}, {300, 700, 64},
                                        {197, 384, 192}, {100, 1024, 1600}, {1000, 320, 224}, {500, 288, 96}};
    const eng_kernels *k = eng_kernels_get();
    od_arena scratch = {0};
    for (int workers = 1; workers < 4; workers += 2) {
        od_pool *pool = NULL;
        CHECK_OK(od_pool_create(&pool, workers, &st));
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            int64_t m = shapes[i][0], n = shapes[i][1], len = shapes[i][2];
            float *one = guard_floats(m * n), *many = guard_floats(m * n);
            eng_gemm g = {.m = m, .n = n, .segments = 1, .length = len, .a = guard_floats(m * len), .lda = len,
                          .b = guard_floats(eng_packed_floats(len, n)), .bias = guard_floats(n), .c = one, .ldc = n,
                          .act = ENG_ACT_SILU, .alpha = 1.0f, .residual = ENG_RES_AFTER_ACT, .add = guard_floats(m * n), .ld_add = n,
                          .scale = i % 2 ? guard_floats(n) : NULL};
            if (eng_gemm_wants_work(&g)) g.work = od_arena_alloc(&scratch, (size_t)eng_gemm_work_floats(&g) * sizeof(float));
            k->gemm_f32(&g);
            g.work = NULL;
            g.c = many;
            eng_gemm_parallel(&g, &scratch, pool);
            CHECK(!memcmp(one, many, (size_t)(m * n) * sizeof(float)));
            guard_release();
        }
        od_pool_destroy(pool);
    }
    od_arena_fini(&scratch);
}

TEST(packing_in_parallel_is_packing) {
    od_pool *pool = NULL;
    CHECK_OK(od_pool_create(&pool, 2, &st));
    for (int turned = 0; turned < 2; turned++) {
        int64_t k = 300, n = 333;
        float *b = guard_floats(k * n), *one = guard_floats(eng_packed_floats(k, n)), *many = guard_floats(eng_packed_floats(k, n));
        int64_t row = turned ? 1 : n, col = turned ? k : 1;
        eng_gemm_pack(b, row, col, k, n, one);
        eng_gemm_pack_parallel(b, row, col, k, n, many, pool);
        CHECK(!memcmp(one, many, (size_t)eng_packed_floats(k, n) * sizeof(float)));
        guard_release();
    }
    od_pool_destroy(pool);
}

/* ---- depthwise ----------------------------------------------------------------------------- */

static void check_depthwise(int64_t channels, int64_t height, int64_t width, int64_t kh, int64_t kw, int64_t stride, int64_t dilation,
                            int64_t pad, eng_act act, eng_residual residual)
{
    const eng_kernels *k[4];
    int n = variants(k);
    int64_t oh = (height + 2 * pad - (kh - 1) * dilation - 1) / stride + 1;
    int64_t ow = (width + 2 * pad - (kw - 1) * dilation - 1) / stride + 1, pitch = channels + 1, ldc = channels + 2;
    int64_t line = width * pitch + 3;
    if (oh < 1 || ow < 1) return;
    float *zeros = guard_bytes((size_t)channels * sizeof *zeros);
    eng_depthwise d = {                       .x = guard_floats((2 * height - 1) * line + (width - 1) * pitch + channels), .x_pitch = pitch, .x_line = line, .in = {1, height, width},
                       .out = {1, oh, ow}, .size = {1, kh, kw}, .stride = {1, stride, stride}, .dilation = {1, dilation, dilation},
                       .before = {0, pad, pad}, .channels = channels, .w = guard_floats(eng_packed_floats(kh * kw, channels)), .zeros = zeros,
                       .last = 2 * oh, .to = channels};
    int64_t floats = (2 * oh * ow - 1) * ldc + channels;
    d.end = (eng_gemm){.bias = guard_floats(channels), .ldc = ldc, .act = act, .alpha = -0.2f, .beta = 0.4f, .residual = residual};
    if (residual) d.end.add = guard_floats(floats), d.end.ld_add = ldc;
    float *want = guard_bytes((size_t)floats * 4), *got = guard_bytes((size_t)floats * 4);
    char what[96];
    d.end.c = want;
    for (int64_t i = 0; i < floats; i++) want[i] = 77.0f;
    eng_kernels_ref.depthwise_f32(&d);
    snprintf(what, sizeof what, "%d @ %dx%d, %dx%d, stride %d, dilation %d", (int)channels, (int)height, (int)width, (int)kh, (int)kw,
             (int)stride, (int)dilation);
    for (int v = 0; v < n; v++) {
        d.end.c = got;
        for (int64_t i = 0; i < floats; i++) got[i] = 77.0f;
        for (int part = 0; part < 4; part++) { /* by rows and by channels */
            d.first = part / 2 ? oh + 1 : 0, d.last = part / 2 ? 2 * oh : oh + 1;
            d.from = part % 2 && channels > 16 ? 16 : 0, d.to = !(part % 2) && channels > 16 ? 16 : channels;
            k[v]->depthwise_f32(&d);
        }
        compare(got, want, 1, floats, floats, what);
    }
    guard_release();
}

TEST(scattered_depthwise_pixels_agree) {
    const eng_kernels *k[4];
    int n = variants(k);
    for (int64_t pixels = 1; pixels < 12; pixels++)
        for (int64_t channels = 1; channels < 36; channels += 3) {
            int64_t n_taps = 1 + pixels % 5, floats = (pixels - 1) * (channels + 1) + channels;
            float *x = guard_floats(7 * channels), *want = guard_floats(floats), *got = guard_floats(floats);
            const float **taps = guard_bytes((size_t)(pixels * n_taps) * sizeof *taps);
            for (int64_t i = 0; i < pixels * n_taps; i++) taps[i] = x + i * 5 % 7 * channels;
            eng_depthwise_taps d = {.pixels = pixels, .channels = channels, .n_taps = n_taps, .taps = taps,
                                    .w = guard_floats(n_taps * channels),
                                    .end = {.c = want, .ldc = channels + 1, .bias = guard_floats(channels), .act = ENG_ACT_TANH}};
            memcpy(got, want, (size_t)floats * sizeof *got);
            eng_kernels_ref.depthwise_taps_f32(&d);
            for (int v = 0; v < n; v++) {
                d.end.c = got;
                k[v]->depthwise_taps_f32(&d);
                compare(got, want, 1, floats, floats, "scattered pixels");
            }
            guard_release();
        }
}

TEST(depthwise_windows_of_all_kinds_agree_and_touch_nothing_else) {
    static const int64_t windows[][2] = {{3, 3}, {5, 5}, {7, 7}, {1, 3}, {3, 1}, {2, 4}, {9, 9}, {8, 7}, {1, 6}, {2, 11}};
    static const int64_t sides[][2] = {{1, 1}, {4, 3}, {7, 7}, {6, 10}, {9, 15}, {5, 31}};
    static const int64_t channels[] = {1, 8, 15, 16, 17, 40};
    int count = 0;
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (size_t s = 0; s < sizeof sides / sizeof *sides; s++)
            for (size_t c = 0; c < sizeof channels / sizeof *channels; c++)
                for (int64_t stride = 1; stride < 4; stride++, count++) {
                    const int64_t dilation = count % 5 == 0 ? 2 : count % 7 == 0 ? 3 : 1;
                    check_depthwise(channels[c], sides[s][0], sides[s][1], windows[w][0], windows[w][1], stride, dilation,
                                    windows[w][1] / 2 * dilation + (count % 11 ? 0 : windows[w][1]), (eng_act)(count % ENG_ACTS), (eng_residual)(count % 3));
                }
}

TEST(depthwise_bits_do_not_depend_on_how_rows_are_cut) {
    static const int64_t sizes[][4] = {{3, 1, 7, 7}, {3, 2, 9, 15}, {5, 1, 6, 16}, {5, 2, 15, 15}, {7, 1, 8, 9}, {7, 2, 17, 33}};
    static const eng_act acts[] = {ENG_ACT_NONE, ENG_ACT_CLIP, ENG_ACT_SILU, ENG_ACT_HARD_SWISH, ENG_ACT_TANH};
    enum { CHANNELS = 40 };
    const eng_kernels *k[4];
    int n = variants(k);
    for (size_t s = 0; s < OD_COUNT(sizes) * OD_COUNT(acts); s++) {
        const int64_t *z = sizes[s % OD_COUNT(sizes)], side = z[0], stride = z[1], h = z[2], w = z[3], oh = (h - 1) / stride + 1, ow = (w - 1) / stride + 1;
        const int64_t floats = oh * ow * CHANNELS;
        float *zeros = guard_bytes(CHANNELS * sizeof *zeros), *whole = guard_floats(floats), *cut = guard_floats(floats);
        memset(zeros, 0, CHANNELS * sizeof *zeros);
        eng_depthwise d = {.x = guard_floats(h * w * CHANNELS), .x_pitch = CHANNELS, .in = {1, h, w}, .out = {1, oh, ow}, .size = {1, side, side},
                           .stride = {1, stride, stride}, .dilation = {1, 1, 1}, .before = {0, side / 2, side / 2}, .channels = CHANNELS,
                           .w = guard_floats(eng_packed_floats(side * side, CHANNELS)), .zeros = zeros, .to = CHANNELS};
        d.end = (eng_gemm){.bias = guard_floats(CHANNELS), .ldc = CHANNELS, .act = acts[s / OD_COUNT(sizes)], .alpha = 0.5f, .beta = 0.9f};
        for (int v = 0; v < n; v++) {
            d.first = 0, d.last = oh, d.end.c = whole;
            k[v]->depthwise_f32(&d);
            d.end.c = cut;
            for (d.first = 0; d.first < oh; d.first = d.last) {
                d.last = od_min_i64(d.first + 1 + d.first % 3, oh);
                k[v]->depthwise_f32(&d);
            }
            CHECK(memcmp(whole, cut, (size_t)floats * sizeof *whole) == 0);
        }
        guard_release();
    }
}

/* ---- rows ---------------------------------------------------------------------------------- */

static const float specials[] = {0.0f, -0.0f, 1e-30f, -1e-6f, 0.3f, -0.9f, 1.0f, 5.0f, -5.0f, 20.0f, -30.0f, 88.0f, -88.0f,
                                 1000.0f, -1000.0f, INFINITY, -INFINITY, NAN};
enum { SPECIALS = sizeof specials / sizeof *specials };

TEST(activations_agree_on_all_magnitudes) {
    const eng_kernels *k[4];
    int n_variants = variants(k);
    for (int act = 0; act < ENG_ACTS; act++)
        for (int64_t n = 1; n < 40; n++) {
            float *x = guard_floats(n), *want = guard_floats(n), *got = guard_floats(n);
            for (int64_t i = 0; i < n; i++) x[i] = n % 2 ? specials[(i + n) % (SPECIALS - 3)] : x[i] * 12.0f;
            float alpha = act == ENG_ACT_CLIP ? -0.5f : act == ENG_ACT_SILU ? 1.0f : 0.2f, beta = 0.5f;
            eng_kernels_ref.act_f32((eng_act)act, alpha, beta, x, want, n);
            for (int v = 0; v < n_variants; v++) {
                k[v]->act_f32((eng_act)act, alpha, beta, x, got, n);
                for (int64_t i = 0; i < n; i++)
                    if (!close_to(got[i], want[i], 3e-6f))
                        TEST_FAIL("activation %d of %g is %g, wanted %g", act, (double)x[i], (double)got[i], (double)want[i]);
            }
            guard_release();
        }
}

TEST(nan_comes_through_every_activation) {
    const eng_kernels *k[4];
    int n_variants = variants(k);
    k[n_variants++] = &eng_kernels_ref;
    for (int v = 0; v < n_variants; v++)
        for (int act = 0; act < ENG_ACTS; act++) {
            float x[3] = {NAN, 1.0f, NAN};
            if (act == ENG_ACT_HARD_SIGMOID || act == ENG_ACT_HARD_SWISH || act == ENG_ACT_CLIP) continue; /* clamps */
            k[v]->act_f32((eng_act)act, 1.0f, 0.5f, x, x, 3);
            if (!isnan(x[0]) || isnan(x[1]) || !isnan(x[2])) TEST_FAIL("activation %d, variant %d", act, v);
        }
}

typedef void row_fn(const float *, float *, int64_t);

static void check_row(row_fn *f, row_fn *want_f, float tolerance, bool special, float low, const char *name)
{
    for (int64_t n = 1; n < 70; n += n < 34 ? 1 : 13) {
        float *x = guard_floats(n), *want = guard_floats(n), *got = guard_floats(n);
        for (int64_t i = 0; i < n; i++) {
            x[i] *= 9.0f;
            if (special && i % 3 == 0) x[i] = specials[(i + n) % SPECIALS];
            if (x[i] < low) x[i] = low - x[i];
        }
        want_f(x, want, n);
        f(x, got, n);
        for (int64_t i = 0; i < n; i++) {
            if (got[i] == want[i] || close_to(got[i], want[i], tolerance)) continue;
            TEST_FAIL("%s: %d of %d, of %g, is %g, wanted %g", name, (int)i, (int)n, (double)x[i], (double)got[i], (double)want[i]);
        }
        f(x, x, n); /* in place */
        for (int64_t i = 0; i < n; i++) CHECK(x[i] == got[i] || (isnan(x[i]) && isnan(got[i])));
        guard_release();
    }
}

TEST(row_functions_agree) {
    const eng_kernels *k[4];
    int n_variants = variants(k);
    for (int v = 0; v < n_variants; v++) {
        check_row(k[v]->exp_f32, eng_kernels_ref.exp_f32, 1e-6f, true, -200.0f, "exp");
        check_row(k[v]->log_f32, eng_kernels_ref.log_f32, 1e-6f, true, -200.0f, "log");
        check_row(k[v]->tanh_f32, eng_kernels_ref.tanh_f32, 1e-6f, true, -2000.0f, "tanh");
        check_row(k[v]->erf_f32, eng_kernels_ref.erf_f32, 1e-6f, true, -2000.0f, "erf");
        check_row(k[v]->softmax_f32, eng_kernels_ref.softmax_f32, 1e-6f, false, -2000.0f, "softmax");
        check_row(k[v]->logsoftmax_f32, eng_kernels_ref.logsoftmax_f32, 2e-6f, false, -2000.0f, "log softmax");
    }
}

TEST(normalized_rows_and_sums_agree) {
    const eng_kernels *k[4];
    int n_variants = variants(k);
    for (int v = 0; v < n_variants; v++)
        for (int64_t n = 1; n < 1200; n += n < 34 ? 1 : 97) {
            const int64_t rows = n % 7 + 1;
            float *x = guard_floats(rows * n), *scale = n % 2 ? guard_floats(n) : NULL, *bias = n % 3 ? guard_floats(n) : NULL;
            float *want = guard_floats(rows * n), *got = guard_floats(rows * n), *alone = guard_floats(n);
            eng_kernels_ref.layernorm_f32(x, scale, bias, 1e-3f, want, n, rows);
            k[v]->layernorm_f32(x, scale, bias, 1e-3f, got, n, rows);
            compare(got, want, rows, n, n, "layer normalization");
            for (int64_t r = 0; r < rows; r++) { /* a row's bits do not depend on its neighbours */
                k[v]->layernorm_f32(x + r * n, scale, bias, 1e-3f, alone, n, 1);
                CHECK(!memcmp(alone, got + r * n, (size_t)n * sizeof *got));
            }
            k[v]->layernorm_f32(x, scale, bias, 1e-3f, x, n, rows);
            CHECK(!memcmp(x, got, (size_t)(rows * n) * sizeof *got));
            CHECK(close_to(k[v]->sum_f32(x, n), eng_kernels_ref.sum_f32(x, n), 1e-5f));
            guard_release();
        }
}

TEST_MAIN
