/* kernels.c - flop per cycle of the float kernels and their share of the FMA peak, shape by shape.
 *
 *     build/tests/bench/kernels [gemm|conv|depthwise|rows]
 *
 * User cycles of this thread (nanoseconds where they cannot be counted), the smallest of many runs; the peak is that of a loop of nothing but
 * independent multiply-adds in this process. ONNXD_ISA chooses a lower variant. */
#include "engine/base/cpu.h"
#include "engine/kernels/winograd.h"

#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int counter = -1;
static double peak;
static const char *unit = "cycle";

static uint64_t cycles(void)
{
    uint64_t v = 0;
    if (counter >= 0 && read(counter, &v, sizeof v) == sizeof v) return v;
    return (uint64_t)od_now_ns();
}

static void open_counter(void)
{
    struct perf_event_attr a = {.size = sizeof a, .type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_CPU_CYCLES,
                                .exclude_kernel = 1};
    counter = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
    if (counter < 0) unit = "ns"; /* no counter here */
}

static float *random_floats(int64_t n)
{
    static uint32_t x = 1;
    float *p = aligned_alloc(64, ((size_t)n * sizeof(float) + 127) & ~(size_t)63);
    if (!p) abort();
    for (int64_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (float)(x >> 8) / (1 << 24) - 0.5f;
    }
    return p;
}

/* The smallest cycles of some runs that take about `budget` cycles together. */
static double measure(void (*run)(void *), void *arg)
{
    uint64_t best = UINT64_MAX, total = 0;
    for (int i = 0; i < 400 && (i < 5 || total < 200000000); i++) {
        uint64_t t = cycles();
        run(arg);
        t = cycles() - t;
        total += t;
        if (t < best) best = t;
    }
    return (double)best;
}

static void report(const char *what, double flops, double best)
{
    printf("  %-44s %9.4f M%ss %6.1f flop/%s %5.1f %%\n", what, best / 1e6, unit, flops / best, unit, 100 * flops / best / peak);
}

/* ---- matrix products ----------------------------------------------------------------------- */

static void run_gemm(void *arg)
{
    eng_kernels_get()->gemm_f32(arg);
}

static void bench_product(int64_t m, int64_t n, int64_t k, eng_act act, bool residual)
{
    char name[64];
    float *a = random_floats(m * k), *b = random_floats(eng_packed_floats(k, n)), *c = random_floats(m * n);
    float *bias = random_floats(n), *add = random_floats(m * n);
    eng_gemm g = {.m = m, .n = n, .segments = 1, .length = k, .a = a, .lda = k, .b = b, .bias = bias, .c = c, .ldc = n,
                  .act = act, .alpha = 1.0f};
    if (residual) g.residual = ENG_RES_BEFORE_ACT, g.add = add, g.ld_add = n;
    snprintf(name, sizeof name, "%d x %d x %d%s%s", (int)m, (int)n, (int)k, residual ? ", residual" : "",
             act == ENG_ACT_SILU ? ", SiLU" : act == ENG_ACT_GELU_ERF ? ", Gelu" : "");
    report(name, 2.0 * (double)m * (double)n * (double)k, measure(run_gemm, &g));
    if (eng_gemm_wants_work(&g)) {
        g.work = random_floats(eng_gemm_work_floats(&g));
        strcat(name, ", 7 of 8");
        report(name, 2.0 * (double)m * (double)n * (double)k, measure(run_gemm, &g));
        free(g.work);
    }
    free(a), free(b), free(c), free(bias), free(add);
}

static void bench_gemm(void)
{
    static const int64_t shapes[][3] = {
        {48, 32, 64}, /* all of it in the first-level cache */
        {3136, 256, 64}, {3136, 64, 256}, {784, 512, 128}, {784, 128, 512}, {196, 1024, 256}, {196, 256, 1024}, {49, 2048, 512},
        {49, 512, 2048}, {197, 1152, 384}, {197, 384, 1536}, {197, 3072, 768}, {197, 768, 3072}, {12544, 16, 96}, {12544, 96, 16},
        {12544, 32, 27}, {3136, 24, 144}, {3136, 144, 24}, {784, 32, 192}, {784, 192, 32}, {196, 96, 576}, {196, 576, 96},
        {49, 160, 960}, {196, 512, 4608}, {8, 1000, 2048}, {4, 1000, 512}, {2, 1000, 512}, {1, 1000, 512}, {1, 4096, 4096}};
    printf("matrix products, M x N x K\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        bench_product(shapes[i][0], shapes[i][1], shapes[i][2], ENG_ACT_RELU, false);
    bench_product(3136, 256, 64, ENG_ACT_RELU, true);
    bench_product(196, 1024, 256, ENG_ACT_RELU, true);
    bench_product(3136, 144, 24, ENG_ACT_SILU, false);
    bench_product(784, 240, 40, ENG_ACT_SILU, false);
    bench_product(3136, 384, 96, ENG_ACT_GELU_ERF, false);
}

/* ---- 3x3 convolutions ---------------------------------------------------------------------- */

static od_arena arena;

static void run_winograd(void *arg)
{
    od_status st;
    od_arena_mark mark = od_arena_save(&arena);
    if (eng_winograd_run(arg, NULL, &arena, &st) != OD_OK) abort();
    od_arena_rewind(&arena, mark);
}

/* The flops are those of the direct sum, so that Winograd's share may exceed 100 %. */
static void bench_conv(void)
{
    static const int64_t shapes[][4] = {/* items, side, channels, out */
        {1, 224, 16, 16}, {1, 112, 32, 32}, {1, 112, 64, 64}, {1, 56, 64, 64}, {1, 28, 128, 128}, {1, 28, 256, 256},
        {1, 14, 256, 256}, {1, 14, 512, 512}, {1, 7, 512, 512}, {1, 7, 160, 160}, {1, 40, 64, 64}, {1, 20, 128, 128},
        {1, 28, 128, 32}, {1, 7, 128, 32}, {8, 7, 512, 512}, {8, 14, 256, 256}};
    printf("3x3 convolutions, items x side x channels x out\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t items = shapes[i][0], side = shapes[i][1], c = shapes[i][2], out = shapes[i][3], pixels = items * side * side;
        double flops = 18.0 * (double)(pixels * c * out);
        float *x = random_floats(pixels * c), *y = random_floats(pixels * out), *w = random_floats(out * c * 9);
        float *bias = random_floats(out);
        for (int form = 2; form <= 4; form += 2) {
            char name[64];
            const eng_winograd_window window = {form, {3, 3}, {1, 1}, {1, 1}};
            float *packed = random_floats(eng_winograd_floats(&window, c, out));
            eng_winograd_pack(&window, &(eng_winograd_weights){.w = w, .channels = c, .out = out, .merged = 1}, packed, NULL);
            eng_winograd job = {.window = window, .x = x, .x_pitch = c, .items = items, .height = side, .width = side,
                                .channels = c, .top = 1, .left = 1, .out_height = side, .out_width = side, .out = out,
                                .weights = packed, .end = {.c = y, .ldc = out, .bias = bias, .act = ENG_ACT_RELU}};
            snprintf(name, sizeof name, "%d x %d x %d x %d F(%d)", (int)items, (int)side, (int)c, (int)out, form);
            report(name, flops, measure(run_winograd, &job));
            free(packed);
        }
        free(x), free(y), free(w), free(bias);
    }
}

/* ---- depthwise convolutions ---------------------------------------------------------------- */

static void run_depthwise(void *arg)
{
    eng_kernels_get()->depthwise_f32(arg);
}

static void bench_depthwise(void)
{
    static const int64_t shapes[][4] = {/* channels, side, window, stride */
        {32, 112, 3, 1}, {96, 112, 3, 2}, {144, 56, 3, 1}, {192, 28, 3, 1}, {384, 14, 3, 1}, {576, 14, 3, 1}, {960, 7, 3, 1},
        {240, 28, 5, 1}, {240, 28, 3, 2}, {672, 14, 5, 2}, {1152, 7, 5, 1}, {96, 56, 7, 1}, {768, 7, 7, 1}, {64, 40, 3, 1},
        {20, 40, 3, 1}, {96, 28, 13, 1}};
    printf("depthwise convolutions, channels @ side, window, stride\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t c = shapes[i][0], side = shapes[i][1], k = shapes[i][2], stride = shapes[i][3], out = (side + stride - 1) / stride;
        char name[64];
        float *zeros = random_floats(c);
        memset(zeros, 0, (size_t)c * sizeof *zeros);
        eng_depthwise d = {.x = random_floats(c * side * side), .x_pitch = c, .in = {1, side, side}, .out = {1, out, out},
                           .size = {1, k, k}, .stride = {1, stride, stride}, .dilation = {1, 1, 1}, .before = {0, k / 2, k / 2},
                           .channels = c, .w = random_floats(eng_packed_floats(k * k, c)), .zeros = zeros, .last = out, .to = c,
                           .end = {.c = random_floats(c * out * out), .ldc = c, .bias = random_floats(c), .act = ENG_ACT_RELU}};
        snprintf(name, sizeof name, "%d @ %d, %d x %d, %d", (int)c, (int)side, (int)k, (int)k, (int)stride);
        report(name, 2.0 * (double)(c * out * out * k * k), measure(run_depthwise, &d));
        free(zeros), free((void *)(uintptr_t)d.x), free((void *)(uintptr_t)d.w), free(d.end.c), free((void *)(uintptr_t)d.end.bias);
    }
}

/* ---- rows ---------------------------------------------------------------------------------- */

typedef struct row_case {
    eng_act act;
    float *x, *y;
    int64_t n;
    void (*row)(const float *, float *, int64_t);
} row_case;

static void run_act(void *arg)
{
    row_case *r = arg;
    if (r->row) r->row(r->x, r->y, r->n);
    else eng_kernels_get()->act_f32(r->act, 1.0f, 0.5f, r->x, r->y, r->n);
}

static void bench_rows(void)
{
    static const char *const names[] = {"copy", "Relu", "Clip", "LeakyRelu", "Sigmoid", "SiLU", "HardSigmoid", "HardSwish",
                                        "Gelu", "Gelu (tanh)", "Tanh", "Mish", "Elu", "Softplus"};
    const eng_kernels *k = eng_kernels_get();
    row_case r = {.x = random_floats(4096), .y = random_floats(4096), .n = 4096};
    printf("rows of 4096 floats, %ss an element\n", unit);
    for (int a = 0; a < ENG_ACTS; a++) {
        r.act = (eng_act)a;
        printf("  %-44s %9.3f\n", names[a], measure(run_act, &r) / 4096);
    }
    r.row = k->softmax_f32;
    printf("  %-44s %9.3f\n", "Softmax", measure(run_act, &r) / 4096);
    r.row = k->exp_f32;
    printf("  %-44s %9.3f\n", "exp", measure(run_act, &r) / 4096);
    free(r.x), free(r.y);
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : "";
    open_counter();
    peak = od_fma_rate(cycles);
    printf("variant %s, FMA peak %.1f flop/%s\n", od_cpu_isa_name(od_cpu_isa()), peak, unit);
    if (!*only || !strcmp(only, "gemm")) bench_gemm();
    if (!*only || !strcmp(only, "conv")) bench_conv();
    if (!*only || !strcmp(only, "depthwise")) bench_depthwise();
    if (!*only || !strcmp(only, "rows")) bench_rows();
    return 0;
}
