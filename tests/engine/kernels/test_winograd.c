#include "engine/base/cpu.h"
#include "engine/kernels/winograd.h"
#include "tests/engine/kernels/guard.h"
#include "tests/test.h"

typedef struct shape {
    int64_t items, height, width, channels, out, pad;
} shape;

static eng_winograd make(const shape *s, const float *w, eng_winograd_form form)
{
    int64_t oh = s->height + 2 * s->pad - 2, ow = s->width + 2 * s->pad - 2, pitch = s->channels + 3;
    float *packed = guard_floats(eng_winograd_floats(form, s->channels, s->out));
    eng_winograd_pack(form, &(eng_winograd_weights){w, s->channels, s->out, 1}, packed, NULL);
    return (eng_winograd){.form = form, .x_pitch = pitch, .items = s->items, .height = s->height, .width = s->width,
                          .channels = s->channels, .top = s->pad, .left = s->pad, .out_height = oh, .out_width = ow, .out = s->out,
                          .weights = packed, .end = {.ldc = s->out + 1}};
}

static int64_t c_floats(const eng_winograd *w)
{
    return (w->items * w->out_height * w->out_width - 1) * w->end.ldc + w->out;
}

/* The sum itself, in double. */
static double direct(const eng_winograd *w, const float *k, int64_t item, int64_t y, int64_t x, int64_t n)
{
    double sum = w->end.bias ? (double)w->end.bias[n] : 0.0;
    for (int64_t i = 0; i < 3; i++)
        for (int64_t j = 0; j < 3; j++) {
            int64_t iy = y + i - w->top, ix = x + j - w->left;
            if (iy < 0 || iy >= w->height || ix < 0 || ix >= w->width) continue;
            const float *p = w->x + ((item * w->height + iy) * w->width + ix) * w->x_pitch;
            for (int64_t c = 0; c < w->channels; c++) sum += (double)p[c] * (double)k[((n * w->channels + c) * 3 + i) * 3 + j];
        }
    return sum;
}

/* Root mean square of the error, divided by that of the outputs. */
static double relative_error(const eng_winograd *w, const float *k)
{
    double error = 0.0, power = 0.0;
    int64_t pixel = 0;
    for (int64_t item = 0; item < w->items; item++)
        for (int64_t y = 0; y < w->out_height; y++)
            for (int64_t x = 0; x < w->out_width; x++, pixel++)
                for (int64_t n = 0; n < w->out; n++) {
                    double want = direct(w, k, item, y, x, n), got = (double)w->end.c[pixel * w->end.ldc + n];
                    error += (got - want) * (got - want);
                    power += want * want;
                }
    return sqrt(error / power);
}

TEST(weights_are_transformed_as_the_matrices_say)
{
    enum { PLANE = ENG_NR + 3 };
    static const double six[6][3] = {{0.5, 0, 0}, {0.3, 0.7, 0.2}, {0.3, -0.7, 0.2}, {-0.1, 0.4, 0.9}, {-0.1, -0.4, 0.9}, {0, 0, 1}};
    static const double four[4][3] = {{1, 0, 0}, {0.5, 0.25, 0.5}, {0.5, -0.25, 0.5}, {0, 0, 1}};
    for (int side = 4; side <= 6; side += 2) {
        const double (*g)[3] = side == 6 ? six : four;
        const int64_t floats = (side * side - 1) * PLANE + ENG_NR;
        const float (*taps)[ENG_NR] = (const float (*)[ENG_NR])guard_floats(9 * ENG_NR);
        float *want = guard_floats(floats), *got = guard_floats(floats);
        memcpy(got, want, (size_t)floats * sizeof *got); /* what lies between planes stays */
        eng_kernels_ref.winograd_weights(side, g, taps, want, PLANE);
        eng_kernels_get()->winograd_weights(side, g, taps, got, PLANE);
        for (int64_t i = 0; i < floats; i++) CHECK_NEAR(got[i], want[i], 1e-6);
        guard_release();
    }
}

TEST(ragged_maps_agree_with_the_sum_and_touch_nothing_else) {
    static const shape shapes[] = {{1, 3, 3, 1, 1, 0}, {1, 1, 1, 5, 17, 1}, {2, 5, 6, 17, 9, 1}, {1, 7, 7, 16, 33, 1},
                                   {3, 8, 4, 24, 16, 0}, {1, 13, 9, 40, 47, 1}, {1, 4, 17, 8, 64, 2}, {1, 30, 30, 19, 20, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int form = 2; form <= 4; form += 2) {
            const shape *s = &shapes[i];
            float *k = guard_floats(s->out * s->channels * 9);
            eng_winograd w = make(s, k, (eng_winograd_form)form);
            w.x = guard_floats((s->items * s->height * s->width - 1) * w.x_pitch + s->channels);
            w.end.bias = guard_floats(s->out);
            w.end.c = guard_floats(c_floats(&w));
            for (int64_t p = 0; p < c_floats(&w); p++) w.end.c[p] = 77.0f;
            od_arena a = {0};
            CHECK_OK(eng_winograd_run(&w, NULL, &a, &st));
            double e = relative_error(&w, k);
            if (!(e < 3e-6)) TEST_FAIL("shape %d, F(%d): error %g", (int)i, form, e);
            for (int64_t p = 0; p < c_floats(&w); p++)
                if (p % w.end.ldc == s->out) CHECK(w.end.c[p] == 77.0f);
            od_arena_fini(&a);
            guard_release();
        }
}

TEST(errors_stay_far_below_what_a_layer_may_have) {
    static const int64_t channels[] = {64, 256, 512};
    for (int i = 0; i < 3; i++)
        for (int form = 2; form <= 4; form += 2) {
            shape s = {1, 8, 8, channels[i], 32, 1};
            float *k = guard_floats(s.out * s.channels * 9);
            eng_winograd w = make(&s, k, (eng_winograd_form)form);
            float *x = guard_floats(64 * w.x_pitch);
            for (int64_t p = 0; p < 64 * w.x_pitch; p++) x[p] = x[p] > 0 ? x[p] : 0; /* as after Relu */
            w.x = x;
            w.end.c = guard_floats(c_floats(&w));
            od_arena a = {0};
            CHECK_OK(eng_winograd_run(&w, NULL, &a, &st));
            double e = relative_error(&w, k);
            if (!(e < (form == 4 ? 4e-6 : 2e-6))) TEST_FAIL("%d channels, F(%d): error %g of the output", (int)s.channels, form, e);
            od_arena_fini(&a);
            guard_release();
        }
}

static float *run_with(eng_winograd w, od_pool *pool)
{
    od_arena a = {0};
    w.end.c = guard_bytes((size_t)c_floats(&w) * sizeof(float));
    CHECK_OK(eng_winograd_run(&w, pool, &a, &st));
    od_arena_fini(&a);
    return w.end.c;
}

TEST(any_number_of_threads_gives_the_same_bits) {
    static const shape shapes[] = {{1, 7, 7, 64, 200, 1}, {1, 14, 14, 32, 96, 1}, {1, 56, 56, 16, 32, 1}, {2, 28, 28, 40, 40, 1}, {1, 3, 3, 33, 70, 1}};
    for (int workers = 1; workers < 4; workers++) {
        od_pool *pool = NULL;
        CHECK_OK(od_pool_create(&pool, workers, &st));
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int form = 2; form <= 4; form += 2) {
                eng_winograd w = make(&shapes[i], guard_floats(shapes[i].out * shapes[i].channels * 9), (eng_winograd_form)form);
                w.x = guard_floats(shapes[i].items * shapes[i].height * shapes[i].width * w.x_pitch);
                float *one = run_with(w, NULL), *many = run_with(w, pool);
                CHECK(!memcmp(one, many, (size_t)c_floats(&w) * sizeof(float)));
                guard_release();
            }
        od_pool_destroy(pool);
    }
}

/* Each variant's transforms beside the reference's matrices, with every epilogue. */
static void compare_transforms(const eng_kernels *k, const shape *s, eng_winograd_form form, eng_act act, eng_residual residual)
{
    eng_winograd w = make(s, guard_floats(s->out * s->channels * 9), form);
    int64_t tiles = eng_winograd_tiles(&w), n = (form + 2) * (form + 2), v_pitch = od_ceil_div(s->channels, 16) * 16, cols = 48;
    w.x = guard_floats((s->items * s->height * s->width - 1) * w.x_pitch + s->channels);
    w.end.bias = guard_floats(s->out);
    w.end.act = act, w.end.alpha = 0.3f, w.end.beta = 0.6f;
    w.end.residual = residual;
    w.end.ld_add = s->out + 2;
    if (residual) w.end.add = guard_floats((w.items * w.out_height * w.out_width - 1) * w.end.ld_add + s->out);
    float *v[2] = {guard_bytes((size_t)(n * tiles * v_pitch) * 4), guard_bytes((size_t)(n * tiles * v_pitch) * 4)};
    float *c[2] = {guard_bytes((size_t)c_floats(&w) * 4), guard_bytes((size_t)c_floats(&w) * 4)};
    eng_winograd_block b = {.w = &w, .tiles = tiles, .zeros = guard_bytes((size_t)s->channels * 4), .v_plane = tiles * v_pitch,
                            .v_pitch = v_pitch, .m = guard_floats(n * tiles * cols), .m_plane = tiles * cols, .m_pitch = cols,
                            .col = s->out > 16 ? 16 : 0};
    b.cols = od_min_i64(cols, s->out - b.col);
    for (int i = 0; i < 2; i++) {
        const eng_kernels *use = i ? k : &eng_kernels_ref;
        b.v = v[i];
        w.end.c = c[i];
        use->winograd_in(&b);
        use->winograd_out(&b);
    }
    for (int64_t e = 0; e < n; e++)
        for (int64_t t = 0; t < tiles; t++)
            for (int64_t i = 0; i < s->channels; i++)
                CHECK_NEAR(v[1][(e * tiles + t) * v_pitch + i], v[0][(e * tiles + t) * v_pitch + i], 2e-5);
    for (int64_t i = 0; i < c_floats(&w); i++) CHECK_NEAR(c[1][i], c[0][i], 2e-5 * (1 + fabs((double)c[0][i])));
    guard_release();
}

TEST(transforms_of_all_variants_agree_with_their_matrices) {
    static const shape shapes[] = {{1, 6, 6, 16, 16, 0}, {2, 5, 9, 21, 39, 1}, {1, 3, 2, 3, 5, 1}, {1, 11, 4, 8, 64, 1}};
    const eng_kernels *k[2];
    int n = 0;
#if defined(__x86_64__)
    if (od_cpu_isa() & OD_ISA_AVX2) k[n++] = &eng_kernels_avx2;
    if (od_cpu_isa() & OD_ISA_AVX512) k[n++] = &eng_kernels_avx512;
#elif defined(__aarch64__)
    k[n++] = &eng_kernels_neon;
#endif
    for (int v = 0; v < n; v++)
        for (size_t i = 0; i < 4; i++)
            for (int form = 2; form <= 4; form += 2)
                for (int act = 0; act < ENG_ACTS; act += 1)
                    compare_transforms(k[v], &shapes[i], (eng_winograd_form)form, (eng_act)act, (eng_residual)((act + i) % 3));
}

TEST(large_maps_take_f4_and_small_ones_with_many_weights_f2) {
    CHECK_EQ(eng_winograd_choose(1, 56, 56, 64, 64), ENG_WINOGRAD_F4);
    CHECK_EQ(eng_winograd_choose(1, 14, 14, 256, 256), ENG_WINOGRAD_F4);
    CHECK_EQ(eng_winograd_choose(1, 7, 7, 512, 512), ENG_WINOGRAD_F2);
    CHECK_EQ(eng_winograd_choose(8, 7, 7, 512, 512), ENG_WINOGRAD_F4);
    CHECK_EQ(eng_winograd_choose(1, 224, 224, 3, 64), ENG_WINOGRAD_NONE);
}

TEST_MAIN
