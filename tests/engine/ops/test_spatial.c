/* Pooling, resampling and detection: what they refuse, and that layouts and threads change nothing. */
#include "tests/engine/ops/op_case.h"

#define INTS(c, name, ...) case_ints((c), (name), sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static float ramp[4096];

__attribute__((constructor)) static void fill(void)
{
    for (int i = 0; i < 4096; i++) ramp[i] = (float)((i * 2654435761u >> 12) % 1000) / 500.0f - 1.0f;
}

/* Input 0 channels-last with `pad` lanes between pixels, the output so too. */
static void last(op_case *c, int64_t pad)
{
    eng_tensor row = c->in[0], *t = &c->in[0];
    t->layout = c->out.layout = ENG_CL;
    t->pitch = t->dims[1] + pad;
    t->data = od_arena_zalloc(&c->arena, eng_tensor_bytes(t) + 1);
    eng_tensor_relayout(t, &row, NULL);
}

/* Element `i` of the output in row-major order. */
static float at(op_case *c, int64_t i)
{
    eng_tensor row = c->out;
    row.layout = ENG_ROW;
    row.data = od_arena_zalloc(&c->arena, eng_tensor_bytes(&row));
    eng_tensor_relayout(&row, &c->out, NULL);
    return ((float *)row.data)[i];
}

/* ---- pooling ------------------------------------------------------------------------------------ */

static void pool_case(op_case *c, int64_t k)
{
    *c = (op_case){.n_in = 0};
    CASE_IN(c, ENG_FLOAT, ramp, 1, 3, 5, 7);
    INTS(c, "kernel_shape", k, k);
}

TEST(windows_along_one_axis_of_one_channel_are_averaged_along_it) {
    enum { C = 9, P = 21, K = 5 };
    static float x[2 * C * P];
    op_case c = {.n_in = 0};
    for (int i = 0; i < 2 * C * P; i++) x[i] = (float)(i * 7 % 31);
    CASE_IN(&c, ENG_FLOAT, x, 2, 1, C, 3, 7);
    case_ints(&c, "kernel_shape", 3, (int64_t[]){K, 1, 1});
    case_ints(&c, "pads", 6, (int64_t[]){2, 0, 0, 1, 0, 0});
    last(&c, 0);
    CHECK_OK(case_run(&c, "AveragePool", &st));
    CHECK_EQ(c.out.dims[2], C - 1);
    for (int n = 0; n < 2; n++)
        for (int o = 0; o < C - 1; o++)
            for (int p = 0; p < P; p++) {
                float sum = 0;
                int taps = 0;
                for (int k = o - 2; k < o + K - 2; k++)
                    if (k >= 0 && k < C) sum += x[(n * C + k) * P + p], taps++;
                CHECK_NEAR(F(c, (n * (C - 1) + o) * P + p), sum / (float)taps, 1e-5);
            }
    case_end(&c);
}

TEST(a_pool_refuses_attributes_that_contradict_themselves)
{
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 3, 5, 7);
    last(&c, 0);
    CHECK_CODE(case_run(&c, "MaxPool", &st), OD_BAD_MODEL); /* no kernel_shape */
    case_end(&c);
    pool_case(&c, 3);
    INTS(&c, "strides", 1, 1, 1);
    CHECK_CODE(case_run(&c, "MaxPool", &st), OD_BAD_ARGUMENT);
    CHECK_HAS(st.msg, "has 2 numbers"); /* after three strides */
    case_end(&c);
    pool_case(&c, 0);
    CHECK_CODE(case_run(&c, "MaxPool", &st), OD_BAD_ARGUMENT);
    case_end(&c);
    pool_case(&c, 7);
    CHECK_CODE(case_run(&c, "AveragePool", &st), OD_BAD_SHAPE);
    CHECK_HAS(st.msg, "does not fit");
    case_end(&c);
    pool_case(&c, 2);
    case_string(&c, "auto_pad", "SAME");
    CHECK_CODE(case_run(&c, "MaxPool", &st), OD_BAD_ARGUMENT);
    case_end(&c);
    pool_case(&c, 2);
    c.in[0].rank = 3; /* one spatial axis */
    CHECK_CODE(case_run(&c, "MaxPool", &st), OD_BAD_SHAPE);
    case_end(&c);
    pool_case(&c, 2);
    case_int(&c, "p", 0);
    CHECK_CODE(case_run(&c, "LpPool", &st), OD_BAD_ARGUMENT);
    case_end(&c);
}

TEST(an_input_that_lacks_less_than_a_stride_of_its_window_has_one)
{
    static const float two[2] = {1, 2};
    static const struct {
        const char *op;
        int64_t k, stride, ceil, windows;
        float want;
    } cases[] = {{"AveragePool", 3, 2, 0, 1, 1.5f}, {"AveragePool", 4, 3, 1, 1, 1.5f}, {"MaxPool", 4, 3, 0, 1, 2},
                 {"MaxPool", 3, 1, 0, 0, 0}, {"MaxPool", 4, 2, 1, 0, 0}, {"AveragePool", 5, 2, 0, 0, 0}, {"MaxPool", 6, 2, 0, -1, 0}};
    for (size_t i = 0; i < OD_COUNT(cases); i++) {
        op_case c = {.n_in = 0};
        CASE_IN(&c, ENG_FLOAT, two, 1, 1, 2);
        INTS(&c, "kernel_shape", cases[i].k);
        INTS(&c, "strides", cases[i].stride);
        case_int(&c, "ceil_mode", cases[i].ceil);
        case_int(&c, "count_include_pad", 1);
        last(&c, 0);
        CHECK_CODE(case_run(&c, cases[i].op, &st), cases[i].windows < 0 ? OD_BAD_SHAPE : OD_OK);
        if (cases[i].windows >= 0) CHECK_EQ(c.out.dims[2], cases[i].windows);
        if (cases[i].windows > 0) CHECK_NEAR(F(c, 0), cases[i].want, 1e-6);
        case_end(&c);
    }
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, two, 1, 1, 0);
    INTS(&c, "kernel_shape", 1);
    INTS(&c, "strides", 2);
    CHECK_CODE(case_run(&c, "MaxPool", &st), OD_BAD_SHAPE); /* an empty axis has no window */
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, two, 0, 1, 0); /* of no batch it has as many as its shape says */
    INTS(&c, "kernel_shape", 1);
    last(&c, 0);
    CHECK_OK(case_run(&c, "MaxPool", &st));
    CHECK_EQ(c.out.dims[2], 0);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, two, 1, 1, 2);
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 1, 3);
    INTS(&c, "strides", 2);
    CHECK_CODE(case_run(&c, "Conv", &st), OD_BAD_SHAPE); /* nor has a convolution */
    case_end(&c);
}

TEST(lanes_between_pixels_change_no_pool)
{
    static const char *const names[] = {"MaxPool", "AveragePool", "LpPool"};
    for (int op = 0; op < 3; op++) {
        float want[3 * 5 * 7];
        for (int64_t pad = 0; pad < 12; pad += 11) {
            op_case c;
            pool_case(&c, 3);
            INTS(&c, "pads", 1, 1, 1, 1);
            last(&c, pad);
            if (pad) c.out.pitch = 3 + 2;
            CHECK_OK(case_run(&c, names[op], &st));
            for (int i = 0; i < 3 * 5 * 7; i++) {
                float v = at(&c, i);
                if (!pad) want[i] = v;
                else CHECK(v == want[i]);
            }
            case_end(&c);
        }
    }
}

TEST(a_window_in_the_padding_alone_has_the_lowest_number)
{
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 1, 2, 2);
    INTS(&c, "kernel_shape", 1, 1);
    INTS(&c, "pads", 1, 1, 1, 1);
    last(&c, 0);
    CHECK_OK(case_run(&c, "MaxPool", &st));
    CHECK(F(c, 0) < -3e38f);
    CHECK(F(c, 5) == ramp[0]);
    case_end(&c);
}

TEST(an_empty_batch_is_pooled_to_an_empty_one)
{
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, ramp, 0, 3, 4, 4);
    INTS(&c, "kernel_shape", 2, 2);
    last(&c, 0);
    CHECK_OK(case_run(&c, "MaxPool", &st));
    CHECK_EQ(eng_tensor_count(&c.out), 0);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 3, 0, 4);
    last(&c, 0);
    CHECK_CODE(case_run(&c, "GlobalAveragePool", &st), OD_BAD_SHAPE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, ramp, 0, 3, 0, 4); /* no average of nothing is asked for */
    last(&c, 0);
    CHECK_OK(case_run(&c, "GlobalAveragePool", &st));
    CHECK_EQ(c.out.dims[2], 1);
    case_end(&c);
}

TEST(unpooling_refuses_indices_outside)
{
    float x[2] = {1, 2};
    int64_t bad[2] = {0, 1LL << 40}, negative[2] = {-1, 0}, behind[2] = {0, 3}, short_shape[3] = {1, 1, 2};
    const int64_t *const indices[3] = {bad, negative, behind};
    for (int i = 0; i < 3; i++) {
        op_case c = {.n_in = 0};
        CASE_IN(&c, ENG_FLOAT, x, 1, 1, 2);
        CASE_IN(&c, ENG_INT64, indices[i], 1, 1, 2);
        if (i == 2) CASE_IN(&c, ENG_INT64, short_shape, 3);
        INTS(&c, "kernel_shape", 2);
        INTS(&c, "strides", 2);
        CHECK_CODE(case_run(&c, "MaxUnpool", &st), OD_BAD_VALUE);
        case_end(&c);
    }
}

/* ---- resizing ----------------------------------------------------------------------------------- */

static od_code resize(op_case *c, const float *scales, int64_t n, const char *mode)
{
    *c = (op_case){.n_in = 0};
    CASE_IN(c, ENG_FLOAT, ramp, 1, 2, 4, 5);
    CASE_IN(c, ENG_UNDEFINED, NULL, 0);
    CASE_IN(c, ENG_FLOAT, scales, n);
    case_string(c, "mode", mode);
    return case_run(c, "Resize", &st);
}

TEST(resize_refuses_scales_that_are_none)
{
    op_case c;
    CHECK_CODE(resize(&c, (float[]){1, 1, 0, 2}, 4, "nearest"), OD_BAD_VALUE);
    case_end(&c);
    CHECK_CODE(resize(&c, (float[]){1, 1, NAN, 2}, 4, "nearest"), OD_BAD_VALUE);
    case_end(&c);
    CHECK_CODE(resize(&c, (float[]){1, 1, INFINITY, 2}, 4, "nearest"), OD_BAD_VALUE);
    case_end(&c);
    CHECK_CODE(resize(&c, (float[]){1, 1, 2}, 3, "nearest"), OD_BAD_SHAPE);
    case_end(&c);
    CHECK_CODE(resize(&c, (float[]){1, 1, 2, 2}, 4, "magic"), OD_BAD_ARGUMENT);
    CHECK_HAS(st.msg, "mode is 'magic'");
    case_end(&c);
    CHECK_CODE(resize(&c, (float[]){1, 1, 9e8f, 9e8f}, 4, "linear"), OD_BAD_SHAPE);
    case_end(&c);
}

TEST(resize_refuses_bad_sizes_and_axes)
{
    for (int i = 0; i < 4; i++) {
        op_case c = {.n_in = 0};
        CASE_IN(&c, ENG_FLOAT, ramp, 1, 2, i == 3 ? 0 : 4, 5);
        CASE_IN(&c, ENG_UNDEFINED, NULL, 0);
        CASE_IN(&c, ENG_UNDEFINED, NULL, 0);
        CASE_IN(&c, ENG_INT64, ((int64_t[]){i ? 4 : -1, 4}), 2);
        INTS(&c, "axes", 2, i == 1 ? 2 : i == 2 ? 4 : 3);
        CHECK_CODE(case_run(&c, "Resize", &st), i == 0 ? OD_BAD_VALUE : i == 3 ? OD_BAD_SHAPE : OD_BAD_ARGUMENT);
        case_end(&c);
    }
}

TEST(layouts_give_the_same_resized_image)
{
    for (int mode = 0; mode < 3; mode++) {
        float want[2 * 12 * 8 * 15];
        for (int64_t pad = -1; pad < 8; pad += 4) { /* -1: rows */
            op_case c = {.n_in = 0};
            CASE_IN(&c, ENG_FLOAT, ramp, 2, 12, 4, 5);
            CASE_IN(&c, ENG_UNDEFINED, NULL, 0);
            CASE_IN(&c, ENG_FLOAT, ((float[]){1, 1, 2, 3}), 4);
            case_string(&c, "mode", mode == 0 ? "nearest" : mode == 1 ? "linear" : "cubic");
            if (pad >= 0) last(&c, pad);
            if (pad > 0) c.out.pitch = 12 + 3;
            CHECK_OK(case_run(&c, "Resize", &st));
            for (int i = 0; i < 2 * 12 * 8 * 15; i++) {
                float v = at(&c, i);
                if (pad < 0) want[i] = v;
                else CHECK_NEAR(v, want[i], 2e-6);
            }
            case_end(&c);
        }
    }
}

TEST(volumes_with_lanes_between_pixels_resize)
{
    float want[2 * 4 * 6 * 8];
    for (int64_t pad = 0; pad < 4; pad += 3) {
        op_case c = {.n_in = 0};
        CASE_IN(&c, ENG_FLOAT, ramp, 1, 2, 2, 3, 4);
        CASE_IN(&c, ENG_UNDEFINED, NULL, 0);
        CASE_IN(&c, ENG_FLOAT, ((float[]){1, 1, 2, 2, 2}), 5);
        case_string(&c, "mode", "linear");
        last(&c, pad);
        CHECK_OK(case_run(&c, "Resize", &st));
        for (int i = 0; i < 2 * 4 * 6 * 8; i++) {
            float v = at(&c, i);
            if (!pad) want[i] = v;
            else CHECK_NEAR(v, want[i], 1e-6);
        }
        case_end(&c);
    }
}

/* ---- ConvTranspose ------------------------------------------------------------------------------ */

static void transpose_case(op_case *c, int64_t in, int64_t out, int64_t k)
{
    *c = (op_case){.n_in = 0};
    CASE_IN(c, ENG_FLOAT, ramp, 1, in, 5, 6);
    CASE_IN(c, ENG_FLOAT, ramp + 500, in, out, k, k);
}

TEST(transposed_convolution_refuses_what_does_not_fit)
{
    op_case c;
    transpose_case(&c, 4, 3, 3);
    c.in[1].dims[0] = 5;
    CHECK_CODE(case_run(&c, "ConvTranspose", &st), OD_BAD_SHAPE);
    case_end(&c);
    transpose_case(&c, 4, 3, 3);
    case_int(&c, "group", 3);
    CHECK_CODE(case_run(&c, "ConvTranspose", &st), OD_BAD_SHAPE);
    case_end(&c);
    transpose_case(&c, 4, 3, 3);
    case_int(&c, "group", 0);
    CHECK_CODE(case_run(&c, "ConvTranspose", &st), OD_BAD_ARGUMENT);
    case_end(&c);
    transpose_case(&c, 4, 3, 3);
    INTS(&c, "pads", 9, 9, 9, 9);
    CHECK_CODE(case_run(&c, "ConvTranspose", &st), OD_BAD_SHAPE);
    case_end(&c);
    transpose_case(&c, 4, 3, 3);
    INTS(&c, "output_padding", 0, -1);
    CHECK_CODE(case_run(&c, "ConvTranspose", &st), OD_BAD_ARGUMENT);
    case_end(&c);
    transpose_case(&c, 4, 3, 3);
    CASE_IN(&c, ENG_FLOAT, ramp, 4);
    CHECK_CODE(case_run(&c, "ConvTranspose", &st), OD_BAD_SHAPE);
    case_end(&c);
}

TEST(lanes_between_pixels_change_no_transposed_convolution)
{
    for (int64_t out = 3; out < 40; out += 17) /* by columns of taps, and by phases */
        for (int64_t stride = 1; stride < 5; stride++) {
            static float want[37 * 32 * 32];
            int64_t n = 0;
            for (int64_t pad = 0; pad < 6; pad += 5) {
                op_case c;
                transpose_case(&c, 7, out, 3);
                INTS(&c, "strides", stride, stride);
                last(&c, pad);
                if (pad) c.out.pitch = out + 3;
                CHECK_OK(case_run(&c, "ConvTranspose", &st));
                n = eng_tensor_count(&c.out);
                eng_tensor row = c.out;
                row.layout = ENG_ROW;
                row.data = od_arena_zalloc(&c.arena, (size_t)n * sizeof(float));
                eng_tensor_relayout(&row, &c.out, NULL);
                for (int64_t i = 0; i < n; i++) {
                    float v = ((float *)row.data)[i];
                    if (!pad) want[i] = v;
                    else CHECK(v == want[i]);
                }
                case_end(&c);
            }
        }
}

TEST(strides_beyond_the_kernel_leave_gaps)
{
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, ((float[]){1, 2}), 1, 1, 2);
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 16, 1);
    CASE_IN(&c, ENG_FLOAT, ramp + 100, 16);
    INTS(&c, "strides", 3);
    last(&c, 0);
    CHECK_OK(case_run(&c, "ConvTranspose", &st));
    CHECK_EQ(c.out.dims[2], 4);
    for (int i = 0; i < 16; i++) {
        CHECK_NEAR(at(&c, 4 * i), ramp[i] + ramp[100 + i], 1e-6);
        CHECK_NEAR(at(&c, 4 * i + 1), ramp[100 + i], 1e-6);
        CHECK_NEAR(at(&c, 4 * i + 3), 2 * ramp[i] + ramp[100 + i], 1e-6);
    }
    case_end(&c);
}

/* ---- sampling and detection --------------------------------------------------------------------- */

TEST(a_grid_may_hold_anything)
{
    static const char *const pads[] = {"zeros", "border", "reflection"}, *const modes[] = {"linear", "nearest", "cubic"};
    float grid[12] = {NAN, 0, INFINITY, 1, -INFINITY, -INFINITY, 1e30f, -1e30f, 3, -3, 0, NAN};
    for (int i = 0; i < 9; i++) {
        op_case c = {.n_in = 0};
        CASE_IN(&c, ENG_FLOAT, ramp, 1, 3, 4, 5);
        CASE_IN(&c, ENG_FLOAT, grid, 1, 2, 3, 2);
        case_string(&c, "mode", modes[i % 3]);
        case_string(&c, "padding_mode", pads[i / 3]);
        last(&c, 1);
        CHECK_OK(case_run(&c, "GridSample", &st));
        for (int k = 0; k < 18; k++) CHECK(fabsf(at(&c, k)) < 10);
        case_end(&c);
    }
}

TEST(grids_that_do_not_fit_are_refused)
{
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 3, 4, 5);
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 2, 3, 3);
    CHECK_CODE(case_run(&c, "GridSample", &st), OD_BAD_SHAPE);
    c.in[1].dims[3] = 2;
    c.in[1].dims[0] = 2;
    CHECK_CODE(case_run(&c, "GridSample", &st), OD_BAD_SHAPE);
    case_end(&c);
}

static od_code align(const float *roi, int64_t image, int64_t height)
{
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, ramp, 2, 3, 4, 5);
    CASE_IN(&c, ENG_FLOAT, roi, 1, 4);
    CASE_IN(&c, ENG_INT64, &image, 1);
    case_int(&c, "output_height", height);
    last(&c, 0);
    od_code rc = case_run(&c, "RoiAlign", &st);
    case_end(&c);
    return rc;
}

TEST(regions_outside_of_reason_are_refused)
{
    CHECK_OK(align((float[]){0, 0, 3, 3}, 1, 2));
    CHECK_OK(align((float[]){5, 5, 1, 1}, 1, 2)); /* turned inside out: nothing to sample */
    CHECK_OK(align((float[]){-90, -90, 90, 90}, 1, 2));
    CHECK_CODE(align((float[]){0, 0, 3, 3}, 2, 2), OD_BAD_VALUE);
    CHECK_CODE(align((float[]){0, 0, 3, 3}, -1, 2), OD_BAD_VALUE);
    CHECK_CODE(align((float[]){0, 0, 1e9f, 3}, 0, 2), OD_BAD_VALUE);
    CHECK_CODE(align((float[]){0, NAN, 3, 3}, 0, 2), OD_BAD_VALUE);
    CHECK_CODE(align((float[]){0, 0, 3, 3}, 0, 0), OD_BAD_ARGUMENT);
}

TEST(pooled_regions_outside_of_reason_are_refused)
{
    float rois[3][5] = {{0, 0, 0, 3, 3}, {2, 0, 0, 3, 3}, {0, 0, INFINITY, 3, 3}};
    for (int i = 0; i < 3; i++) {
        op_case c = {.n_in = 0};
        CASE_IN(&c, ENG_FLOAT, ramp, 2, 3, 4, 5);
        CASE_IN(&c, ENG_FLOAT, rois[i], 1, 5);
        INTS(&c, "pooled_shape", 2, 2);
        last(&c, 0);
        CHECK_CODE(case_run(&c, "MaxRoiPool", &st), i ? OD_BAD_VALUE : OD_OK);
        case_end(&c);
    }
}

TEST(suppression_needs_scores_of_its_boxes)
{
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 6, 4);
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 2, 5);
    CASE_IN(&c, ENG_INT64, ((int64_t[]){INT64_MAX}), 1);
    CHECK_CODE(case_run(&c, "NonMaxSuppression", &st), OD_BAD_SHAPE);
    c.in[1].dims[2] = 6;
    CHECK_OK(case_run(&c, "NonMaxSuppression", &st)); /* as many as there are */
    c.out = (eng_tensor){.dtype = ENG_UNDEFINED};
    CASE_IN(&c, ENG_FLOAT, ((float[]){1.5f}), 1);
    CHECK_CODE(case_run(&c, "NonMaxSuppression", &st), OD_BAD_VALUE);
    case_end(&c);
}

TEST(boxes_of_no_number_are_never_kept)
{
    float boxes[8] = {0, 0, 1, 1, 5, 5, 6, 6}, scores[2] = {NAN, 0.5f};
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, boxes, 1, 2, 4);
    CASE_IN(&c, ENG_FLOAT, scores, 1, 1, 2);
    CASE_IN(&c, ENG_INT64, ((int64_t[]){9}), 1);
    CHECK_OK(case_run(&c, "NonMaxSuppression", &st));
    CHECK_EQ(c.out.dims[0], 1);
    CHECK_EQ(I64(c, 2), 1);
    case_end(&c);
}

TEST(deformed_convolution_refuses_offsets_of_another_shape)
{
    static float offsets[18 * 4 * 5];
    offsets[3] = NAN;
    offsets[4] = 1e30f;
    for (int i = 0; i < 3; i++) {
        op_case c = {.n_in = 0};
        CASE_IN(&c, ENG_FLOAT, ramp, 1, 4, 4, 5);
        CASE_IN(&c, ENG_FLOAT, ramp, 6, 4, 3, 3);
        CASE_IN(&c, ENG_FLOAT, offsets, 1, i == 1 ? 16 : 18, 4, 5);
        INTS(&c, "pads", 1, 1, 1, 1);
        if (i == 2) case_int(&c, "offset_group", 3);
        last(&c, 2);
        CHECK_CODE(case_run(&c, "DeformConv", &st), i ? OD_BAD_SHAPE : OD_OK);
        case_end(&c);
    }
}

TEST(a_state_must_have_the_length_of_the_kernel_less_one)
{
    op_case c = {.n_in = 0};
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 2, 3);
    CASE_IN(&c, ENG_FLOAT, ramp, 2, 1, 4);
    CASE_IN(&c, ENG_UNDEFINED, NULL, 0);
    CASE_IN(&c, ENG_FLOAT, ramp, 1, 2, 4);
    CHECK_CODE(case_run(&c, "CausalConvWithState", &st), OD_BAD_SHAPE);
    c.in[3].dims[2] = 3;
    CHECK_OK(case_run(&c, "CausalConvWithState", &st));
    case_end(&c);
}

TEST_MAIN
