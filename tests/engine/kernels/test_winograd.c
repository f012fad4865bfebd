#include "engine/base/cpu.h"
#include "engine/kernels/winograd.h"
#include "tests/engine/kernels/guard.h"
#include "tests/test.h"

typedef struct shape {
    int64_t items, height, width, channels, out, pad;
    int64_t size[2], stride[2], dilation[2]; /* zeros: 3x3, 1, 1 */
} shape;

/* For a 3x3 window. */
#define MAP(n, h, w, c, o, p) {.items = n, .height = h, .width = w, .channels = c, .out = o, .pad = p}

static eng_winograd_window window_of(const shape *s, int form)
{
    eng_winograd_window w = {.form = form};
    for (int a = 0; a < 2; a++) {
        w.size[a] = s->size[a] ? s->size[a] : 3;
        w.stride[a] = s->stride[a] ? s->stride[a] : 1;
        w.dilation[a] = s->dilation[a] ? s->dilation[a] : 1;
    }
    return w;
}

static int64_t weights_of(const shape *s)
{
    eng_winograd_window w = window_of(s, 0);
    return s->out * s->channels * w.size[0] * w.size[1];
}

static eng_winograd make(const shape *s, const float *k, int form)
{
    eng_winograd w = {.window = window_of(s, form), .x_pitch = s->channels + 3, .items = s->items, .height = s->height,
                      .width = s->width, .channels = s->channels, .top = s->pad, .left = s->pad, .out = s->out, .end = {.ldc = s->out + 1}};
    int64_t out[2], in[2] = {s->height, s->width};
    for (int a = 0; a < 2; a++) out[a] = (in[a] + 2 * s->pad - (w.window.size[a] - 1) * w.window.dilation[a] - 1) / w.window.stride[a] + 1;
    w.out_height = out[0], w.out_width = out[1];
    float *packed = guard_floats(eng_winograd_floats(&w.window, s->channels, s->out));
    eng_winograd_pack(&w.window, &(eng_winograd_weights){.w = k, .channels = s->channels, .out = s->out, .merged = 1}, packed, NULL);
    w.weights = packed;
    float *parts = guard_floats(eng_winograd_floats(&w.window, s->channels, s->out));
    int64_t of_one = s->channels * w.window.size[0] * w.window.size[1];
    for (int64_t first = 0, n; first < s->out; first += n) {
        n = s->out - first < 2 * ENG_NR ? s->out - first : 2 * ENG_NR;
        eng_winograd_pack(&w.window, &(eng_winograd_weights){.w = k + first * of_one, .channels = s->channels, .out = s->out, .merged = 1,
                          .first = first, .count = n}, parts, NULL);
    }
    CHECK(!memcmp(parts, packed, (size_t)eng_winograd_floats(&w.window, s->channels, s->out) * sizeof *parts));
    return w;
}

static int64_t c_floats(const eng_winograd *w)
{
    return (w->items * w->out_height * w->out_width - 1) * w->end.ldc + w->out;
}

/* The sum itself, in double. */
static double direct(const eng_winograd *w, const float *k, int64_t item, int64_t y, int64_t x, int64_t n)
{
    double sum = w->end.bias ? (double)w->end.bias[n] : 0.0;
    const eng_winograd_window *win = &w->window;
    for (int64_t i = 0; i < win->size[0]; i++)
        for (int64_t j = 0; j < win->size[1]; j++) {
            int64_t iy = y * win->stride[0] + i * win->dilation[0] - w->top, ix = x * win->stride[1] + j * win->dilation[1] - w->left;
            if (iy < 0 || iy >= w->height || ix < 0 || ix >= w->width) continue;
            const float *p = w->x + ((item * w->height + iy) * w->width + ix) * w->x_pitch;
            for (int64_t c = 0; c < w->channels; c++)
                sum += (double)p[c] * (double)k[((n * w->channels + c) * win->size[0] + i) * win->size[1] + j];
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

static void agrees_with_the_sum(const shape *s, int form)
{
    float *k = guard_floats(weights_of(s));
    eng_winograd w = make(s, k, form);
    w.x = guard_floats((s->items * s->height * s->width - 1) * w.x_pitch + s->channels);
    w.end.bias = guard_floats(s->out);
    w.end.c = guard_floats(c_floats(&w));
    for (int64_t p = 0; p < c_floats(&w); p++) w.end.c[p] = 77.0f;
    od_arena a = {0};
    CHECK_OK(eng_winograd_run(&w, NULL, &a, &st));
    double e = relative_error(&w, k);
    if (!(e < 3e-6))
        TEST_FAIL("%dx%d of %d channels, window %dx%d, F(%d): error %g", (int)s->height, (int)s->width, (int)s->channels,
                  (int)w.window.size[0], (int)w.window.size[1], form, e);
    for (int64_t p = 0; p < c_floats(&w); p++)
        if (p % w.end.ldc == s->out) CHECK(w.end.c[p] == 77.0f);
    od_arena_fini(&a);
    guard_release();
}

TEST(ragged_maps_agree_with_the_sum_and_touch_nothing_else) {
    static const shape shapes[] = {MAP(1, 3, 3, 1, 1, 0), MAP(1, 1, 1, 5, 17, 1), MAP(2, 5, 6, 17, 9, 1), MAP(1, 7, 7, 16, 33, 1),
                                   MAP(3, 8, 4, 24, 16, 0), MAP(1, 13, 9, 40, 47, 1), MAP(1, 4, 17, 8, 64, 2), MAP(1, 30, 30, 19, 20, 1)};
    for (size_t i = 0; i < OD_COUNT(shapes); i++)
        for (int form = 2; form <= 4; form += 2) agrees_with_the_sum(&shapes[i], form);
}

static const shape windows[] = {
    {.items = 2, .height = 11, .width = 14, .channels = 9, .out = 17, .pad = 2, .size = {5, 5}},
    {.items = 1, .height = 9, .width = 13, .channels = 20, .out = 8, .pad = 3, .size = {7, 7}, .stride = {2, 2}},
    {.items = 1, .height = 14, .width = 9, .channels = 18, .out = 33, .pad = 1, .stride = {2, 2}},
    {.items = 2, .height = 8, .width = 10, .channels = 16, .out = 16, .pad = 1, .size = {4, 4}, .stride = {2, 2}},
    {.items = 1, .height = 17, .width = 6, .channels = 7, .out = 19, .pad = 2, .size = {4, 2}, .stride = {1, 3}},
    {.items = 1, .height = 12, .width = 12, .channels = 12, .out = 48, .pad = 4, .size = {9, 9}},
    {.items = 1, .height = 11, .width = 15, .channels = 8, .out = 16, .pad = 3, .dilation = {3, 2}},
    {.items = 3, .height = 5, .width = 6, .channels = 8, .out = 5, .pad = 9, .dilation = {9, 9}},
    {.items = 1, .height = 6, .width = 19, .channels = 8, .out = 24, .pad = 2, .size = {5, 2}, .stride = {2, 1}, .dilation = {1, 2}},
    {.items = 1, .height = 2, .width = 2, .channels = 3, .out = 2, .pad = 5, .size = {11, 10}}};

static const shape lines[] = {
    {.items = 2, .height = 1, .width = 23, .channels = 18, .out = 40, .size = {1, 3}},
    {.items = 1, .height = 7, .width = 9, .channels = 20, .out = 8, .pad = 3, .size = {1, 7}},
    {.items = 1, .height = 19, .width = 5, .channels = 9, .out = 17, .pad = 3, .size = {7, 1}},
    {.items = 1, .height = 6, .width = 31, .channels = 8, .out = 16, .pad = 2, .size = {1, 5}, .stride = {2, 2}},
    {.items = 1, .height = 24, .width = 3, .channels = 8, .out = 16, .pad = 1, .size = {2, 1}, .dilation = {5, 1}},
    {.items = 2, .height = 1, .width = 40, .channels = 600, .out = 530, .pad = 0, .size = {1, 3}, .dilation = {1, 4}}};

TEST(windows_of_any_size_stride_and_dilation_agree_with_the_sum) {
    for (size_t i = 0; i < OD_COUNT(windows); i++)
        for (int form = 2; form <= 4; form += 2) agrees_with_the_sum(&windows[i], form);
    for (size_t i = 0; i < OD_COUNT(lines); i++) agrees_with_the_sum(&lines[i], 4);
}

/* The phases of a transposed convolution: every second row, every third pixel. */
static void agrees_when_spread(const eng_kernels *kernels, const shape *s, int form)
{
    float *k = guard_floats(weights_of(s));
    eng_winograd dense = make(s, k, form), w = dense;
    const int64_t tiles = eng_winograd_tiles(&w), plane = tiles * 48, n = eng_winograd_side(&w.window, 0) * eng_winograd_side(&w.window, 1);
    w.map[0] = w.out_height * 2 + 1, w.map[1] = w.out_width * 3 + 2;
    w.step[0] = 2, w.step[1] = 3;
    const int64_t floats = (eng_winograd_pixel(&w, w.items - 1, w.out_height - 1, w.out_width - 1)) * w.end.ldc + w.out;
    dense.end.bias = w.end.bias = guard_floats(s->out);
    dense.end.c = guard_floats(c_floats(&dense));
    w.end.c = guard_floats(floats);
    for (int64_t i = 0; i < floats; i++) w.end.c[i] = 77.0f;
    eng_winograd_block b = {.w = &dense, .tiles = tiles, .part = {{.to = eng_winograd_side(&w.window, 0)}, {.to = eng_winograd_side(&w.window, 1)}},
                            .m = guard_floats(n * plane), .m_plane = plane, .m_pitch = 48, .cols = s->out};
    kernels->winograd_out(&b);
    b.w = &w;
    kernels->winograd_out(&b);
    int64_t set = 0, other = 0;
    for (int64_t item = 0, at = 0; item < w.items; item++)
        for (int64_t y = 0; y < w.out_height; y++)
            for (int64_t x = 0; x < w.out_width; x++, at++)
                for (int64_t c = 0; c < w.out; c++, set++)
                    CHECK(w.end.c[eng_winograd_pixel(&w, item, y, x) * w.end.ldc + c] == dense.end.c[at * dense.end.ldc + c]);
    for (int64_t i = 0; i < floats; i++) other += w.end.c[i] == 77.0f;
    CHECK_EQ(set + other, floats);
    guard_release();
}

TEST(outputs_may_be_some_pixels_of_a_map) {
    static const shape shapes[] = {MAP(2, 5, 6, 17, 9, 1), MAP(1, 13, 9, 40, 47, 1), {.items = 1, .height = 6, .width = 19, .channels = 8, .out = 24, .size = {1, 2}}};
    for (size_t i = 0; i < OD_COUNT(shapes); i++)
        for (int form = 2 + 2 * (i == 2); form <= 4; form += 2) {
            agrees_when_spread(&eng_kernels_ref, &shapes[i], form);
            agrees_when_spread(eng_kernels_get(), &shapes[i], form);
        }
}

TEST(weights_may_lie_at_any_distances) {
    const eng_winograd_window win = {.form = ENG_WINOGRAD_F4, .size = {2, 3}, .stride = {1, 1}, .dilation = {1, 1}};
    enum { OUT = 19, CHANNELS = 11, TAPS = 6 };
    float *w = guard_floats(OUT * CHANNELS * TAPS), *turned = guard_floats(OUT * CHANNELS * TAPS);
    const int64_t floats = eng_winograd_floats(&win, CHANNELS, OUT);
    float *want = guard_floats(floats), *got = guard_floats(floats);
    for (int o = 0; o < OUT; o++) /* channels outermost, taps backwards */
        for (int c = 0; c < CHANNELS; c++)
            for (int t = 0; t < TAPS; t++) turned[(c * OUT + o) * TAPS + TAPS - 1 - t] = w[(o * CHANNELS + c) * TAPS + t];
    eng_winograd_pack(&win, &(eng_winograd_weights){.w = w, .channels = CHANNELS, .out = OUT, .merged = 1}, want, NULL);
    eng_winograd_pack(&win, &(eng_winograd_weights){.w = turned + TAPS - 1, .channels = CHANNELS, .out = OUT, .merged = 1,
                                                    .apart = {TAPS, OUT * TAPS, -3, -1}}, got, NULL);
    CHECK(!memcmp(want, got, (size_t)floats * sizeof *want));
    guard_release();
}

TEST(errors_stay_far_below_what_a_layer_may_have) {
    static const int64_t channels[] = {64, 256, 512};
    for (int i = 0; i < 3; i++)
        for (int form = 2; form <= 4; form += 2) {
            shape s = MAP(1, 8, 8, channels[i], 32, 1);
            float *k = guard_floats(s.out * s.channels * 9);
            eng_winograd w = make(&s, k, form);
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

static void same_bits(const shape *s, int form, od_pool *pool)
{
    eng_winograd w = make(s, guard_floats(weights_of(s)), form);
    w.x = guard_floats(s->items * s->height * s->width * w.x_pitch);
    float *one = run_with(w, NULL), *many = run_with(w, pool);
    CHECK(!memcmp(one, many, (size_t)c_floats(&w) * sizeof(float)));
    guard_release();
}

TEST(any_number_of_threads_gives_the_same_bits) {
    static const shape shapes[] = {MAP(1, 7, 7, 64, 200, 1), MAP(1, 14, 14, 32, 96, 1), MAP(1, 56, 56, 16, 32, 1), MAP(2, 28, 28, 40, 40, 1), MAP(1, 3, 3, 33, 70, 1),
                                   {.items = 1, .height = 25, .width = 25, .channels = 24, .out = 150, .pad = 2, .size = {5, 5}}};
    for (int workers = 1; workers < 4; workers++) {
        od_pool *pool = NULL;
        CHECK_OK(od_pool_create(&pool, workers, &st));
        for (size_t i = 0; i < OD_COUNT(shapes); i++)
            for (int form = 2; form <= 4; form += 2) same_bits(&shapes[i], form, pool);
        for (size_t i = 0; i < OD_COUNT(windows); i++) same_bits(&windows[i], 4, pool);
        for (size_t i = 0; i < OD_COUNT(lines); i++) same_bits(&lines[i], 4, pool);
        od_pool_destroy(pool);
    }
}

/* Each variant's transforms beside the reference's matrices, with every epilogue. */
static void compare_transforms(const eng_kernels *k, const shape *s, int form, eng_winograd_part part, eng_act act, eng_residual residual)
{
    eng_winograd w = make(s, guard_floats(weights_of(s)), form);
    int64_t tiles = eng_winograd_tiles(&w), v_pitch = od_ceil_div(s->channels, 16) * 16, cols = 48;
    int64_t n = eng_winograd_side(&w.window, 0) * eng_winograd_side(&w.window, 1);
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
    for (int a = 0; a < 2; a++) {
        b.part[a] = part;
        if (w.window.size[a] == 1) b.part[a] = (eng_winograd_part){.taps = 1, .to = 1};
    }
    b.cols = od_min_i64(cols, s->out - b.col);
    for (int i = 0; i < 2; i++) {
        const eng_kernels *use = i ? k : &eng_kernels_ref;
        b.v = v[i];
        w.end.c = c[i];
        use->winograd_in(&b);
        use->winograd_out(&b);
    }
    for (int64_t e = 0; e < n * tiles; e++)
        for (int64_t i = 0; i < s->channels; i++) CHECK_NEAR(v[1][e * v_pitch + i], v[0][e * v_pitch + i], 2e-5);
    for (int64_t i = 0; i < c_floats(&w); i++) CHECK_NEAR(c[1][i], c[0][i], 2e-5 * (1 + fabs((double)c[0][i])));
    guard_release();
}

TEST(transforms_of_all_variants_agree_with_their_matrices) {
    static const shape shapes[] = {MAP(1, 6, 6, 16, 16, 0), MAP(2, 5, 9, 21, 39, 1), MAP(1, 3, 2, 3, 5, 1), MAP(1, 11, 4, 8, 64, 1),
                                   {.items = 2, .height = 9, .width = 13, .channels = 21, .out = 39, .pad = 2, .size = {5, 4}, .stride = {2, 1}, .dilation = {1, 3}},
                                   {.items = 1, .height = 6, .width = 14, .channels = 20, .out = 40, .pad = 1, .size = {1, 3}},
                                   {.items = 1, .height = 14, .width = 5, .channels = 7, .out = 17, .pad = 1, .size = {3, 1}, .dilation = {2, 1}}};
    const eng_kernels *k[2];
    int n = 0;
#if defined(__x86_64__)
    if (od_cpu_isa() & OD_ISA_AVX2) k[n++] = &eng_kernels_avx2;
    if (od_cpu_isa() & OD_ISA_AVX512) k[n++] = &eng_kernels_avx512;
#elif defined(__aarch64__)
    k[n++] = &eng_kernels_neon;
#endif
    for (int v = 0; v < n; v++)
        for (size_t i = 0; i < OD_COUNT(shapes); i++)
            for (int form = shapes[i].size[0] == 1 || shapes[i].size[1] == 1 ? 4 : 2; form <= 4; form += 2)
                for (int act = 0; act < ENG_ACTS; act += 1) {
                    const int taps = act % 3 + 1;
                    const eng_winograd_part part = {.tap = act % 2, .taps = taps, .place = taps == 1, .from = taps == 1, .to = form + 2 - (taps < 3)};
                    compare_transforms(k[v], &shapes[i], form, part, (eng_act)act, (eng_residual)((act + i) % 3));
                }
}

TEST(large_maps_take_f4_and_small_ones_with_many_weights_f2) {
    const eng_winograd_window usual = {.size = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}};
    CHECK_EQ(eng_winograd_choose(&usual, 1, 1, 56, 56, 64, 64), ENG_WINOGRAD_F4);
    CHECK_EQ(eng_winograd_choose(&usual, 1, 1, 14, 14, 256, 256), ENG_WINOGRAD_F4);
    CHECK_EQ(eng_winograd_choose(&usual, 1, 1, 7, 7, 512, 512), ENG_WINOGRAD_F2);
    CHECK_EQ(eng_winograd_choose(&usual, 1, 8, 7, 7, 512, 512), ENG_WINOGRAD_F4);
    CHECK_EQ(eng_winograd_choose(&usual, 1, 1, 224, 224, 3, 64), ENG_WINOGRAD_NONE);
}

TEST(what_saves_no_products_is_summed_directly) {
    const eng_winograd_window patches = {.size = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}}, large = {.size = {9, 9}, .stride = {1, 1}, .dilation = {1, 1}},
                              both = {.size = {3, 3}, .stride = {2, 2}, .dilation = {2, 2}}, far = {.size = {3, 3}, .stride = {1, 1}, .dilation = {27, 27}};
    CHECK_EQ(eng_winograd_choose(&patches, 1, 1, 56, 56, 64, 64), ENG_WINOGRAD_NONE);
    CHECK_EQ(eng_winograd_choose(&both, 1, 1, 56, 56, 64, 64), ENG_WINOGRAD_NONE);
    CHECK_EQ(eng_winograd_choose(&far, 1, 1, 28, 28, 64, 64), ENG_WINOGRAD_NONE); /* most of its taps read padding */
    CHECK_EQ(eng_winograd_choose(&large, 1, 1, 32, 32, 64, 64), ENG_WINOGRAD_F4);
}

TEST_MAIN
