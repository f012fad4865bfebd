#include "tests/engine/ops/op_case.h"

static float x[24];
static op_case one;

static void fill(void)
{
    for (int i = 0; i < 24; i++) x[i] = (float)(i % 7) - 2.0f;
}

/* Short lines take another way than long ones. */
TEST(the_best_of_a_short_line_are_those_of_a_long_one) {
    static float line[70];
    static int64_t whole[70];
    int64_t k = 9;
    for (int large = 0; large < 2; large++)
        for (int kind = 0; kind < 3; kind++) {
            int64_t first[9];
            for (int n = 0; n < 2; n++) { /* what comes behind the first 40 loses */
                for (int i = 0; i < 70; i++) {
                    int v = i * 13 % 11 - 5;
                    if (i >= 40) v = large ? -100 : 100;
                    line[i] = i == 7 && large ? NAN : i == 8 ? -0.0f : (float)v;
                    whole[i] = kind == 2 && i < 40 ? v * ((int64_t)1 << 40) : v;
                }
                op_case c = {.n_in = 0};
                CASE_IN(&c, kind ? ENG_INT64 : ENG_FLOAT, kind ? (void *)whole : (void *)line, 1, n ? 70 : 40);
                CASE_IN(&c, ENG_INT64, &k, 1);
                case_int(&c, "largest", large);
                CHECK_OK(case_run(&c, "TopK", &st));
                if (!n) memcpy(first, c.out.data, kind ? sizeof first : 9 * sizeof(float));
                else CHECK(!memcmp(first, c.out.data, kind ? sizeof first : 9 * sizeof(float)));
                case_end(&c);
            }
        }
}

TEST(the_place_of_an_extreme_is_the_first_or_the_last_and_nan_is_passed_over) {
    static float line[2 * 41];
    for (int i = 0; i < 82; i++) line[i] = (float)(i * 11 % 17);
    line[3] = line[29] = 40;
    line[41 + 5] = NAN;
    line[41 + 7] = line[41 + 40] = 40;
    for (int last = 0; last < 2; last++) {
        op_case c = {.n_in = 0};
        CASE_IN(&c, ENG_FLOAT, line, 2, 41);
        case_int(&c, "axis", 1);
        case_int(&c, "select_last_index", last);
        CHECK_OK(case_run(&c, "ArgMax", &st));
        CHECK_EQ(((const int64_t *)c.out.data)[0], last ? 29 : 3);
        CHECK_EQ(((const int64_t *)c.out.data)[1], last ? 40 : 7);
        case_end(&c);
    }
}

TEST(axes_out_of_range_are_refused) {
    int64_t axes[2] = {0, 3};
    CASE_IN(&one, ENG_FLOAT, x, 2, 3, 4);
    CASE_IN(&one, ENG_INT64, axes, 2);
    CHECK_CODE(case_run(&one, "ReduceSum", &st), OD_BAD_ARGUMENT);
    CHECK_HAS(st.msg, "axis 3");
    case_end(&one);
}

TEST(channels_last_gives_the_same_numbers) {
    int64_t axes[2] = {2, 3};
    float cl[24];
    fill();
    for (int ch = 0; ch < 3; ch++)
        for (int p = 0; p < 8; p++) cl[p * 3 + ch] = x[ch * 8 + p];
    for (int layout = 0; layout < 2; layout++) {
        CASE_IN(&one, ENG_FLOAT, layout ? cl : x, 1, 3, 2, 4);
        one.in[0].layout = layout ? ENG_CL : ENG_ROW;
        one.in[0].pitch = 3;
        one.out.layout = layout ? ENG_CL : ENG_ROW;
        CASE_IN(&one, ENG_INT64, axes, 2);
        CHECK_OK(case_run(&one, "ReduceMax", &st));
        for (int ch = 0; ch < 3; ch++) {
            float best = x[ch * 8];
            for (int p = 1; p < 8; p++) best = x[ch * 8 + p] > best ? x[ch * 8 + p] : best;
            CHECK_NEAR(F(one, ch), best, 0);
        }
        case_end(&one);
    }
}

TEST(nothing_has_the_sum_zero_and_the_lowest_maximum) {
    int64_t axis = 1;
    CASE_IN(&one, ENG_INT32, x, 2, 0);
    CASE_IN(&one, ENG_INT64, &axis, 1);
    CHECK_OK(case_run(&one, "ReduceMax", &st));
    CHECK_EQ(I32(one, 1), INT32_MIN);
    case_end(&one);
    CASE_IN(&one, ENG_FLOAT, x, 2, 0);
    CASE_IN(&one, ENG_INT64, &axis, 1);
    CHECK_OK(case_run(&one, "ReduceSum", &st));
    CHECK_NEAR(F(one, 0), 0, 0);
    case_end(&one);
}

TEST(nan_wins_in_a_maximum) {
    float with[40] = {0};
    int64_t axis = 0;
    with[17] = NAN;
    CASE_IN(&one, ENG_FLOAT, with, 40);
    CASE_IN(&one, ENG_INT64, &axis, 1);
    CHECK_OK(case_run(&one, "ReduceMax", &st));
    CHECK(isnan(F(one, 0)));
    case_end(&one);
}

TEST(k_above_the_axis_is_refused) {
    int64_t k = 5;
    CASE_IN(&one, ENG_FLOAT, x, 2, 4);
    CASE_IN(&one, ENG_INT64, &k, 1);
    CHECK_CODE(case_run(&one, "TopK", &st), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "K is 5 of 4");
    k = -1;
    CHECK_CODE(case_run(&one, "TopK", &st), OD_BAD_VALUE);
    case_end(&one);
}

TEST(among_equals_the_first_is_taken) {
    float same[5] = {1, 3, 3, -0.0f, 0.0f};
    case_int(&one, "axis", 0);
    CASE_IN(&one, ENG_FLOAT, same, 5);
    CHECK_OK(case_run(&one, "ArgMax", &st));
    CHECK_EQ(I64(one, 0), 1);
    case_end(&one);
    case_int(&one, "axis", 0);
    case_int(&one, "select_last_index", 1);
    CASE_IN(&one, ENG_FLOAT, same, 5);
    CHECK_OK(case_run(&one, "ArgMax", &st));
    CHECK_EQ(I64(one, 0), 2);
    case_end(&one);
}

TEST(the_index_of_nothing_is_refused) {
    case_int(&one, "axis", 1);
    CASE_IN(&one, ENG_FLOAT, x, 2, 0);
    CHECK_CODE(case_run(&one, "ArgMax", &st), OD_BAD_SHAPE);
    case_end(&one);
}

TEST(a_sum_wants_one_axis) {
    int64_t axes[2] = {0, 1};
    CASE_IN(&one, ENG_FLOAT, x, 2, 4);
    CASE_IN(&one, ENG_INT64, axes, 2);
    CHECK_CODE(case_run(&one, "CumSum", &st), OD_BAD_SHAPE);
    case_end(&one);
    axes[0] = 2;
    CASE_IN(&one, ENG_FLOAT, x, 2, 4);
    CASE_IN(&one, ENG_INT64, axes);
    CHECK_CODE(case_run(&one, "CumSum", &st), OD_BAD_ARGUMENT);
    case_end(&one);
}

TEST(softmax_refuses_an_axis_beyond_the_rank_and_takes_nothing) {
    case_int(&one, "axis", 2);
    CASE_IN(&one, ENG_FLOAT, x, 2, 4);
    CHECK_CODE(case_run(&one, "Softmax", &st), OD_BAD_ARGUMENT);
    case_end(&one);
    CASE_IN(&one, ENG_FLOAT, x, 2, 0);
    CHECK_OK(case_run(&one, "Softmax", &st));
    case_end(&one);
}

TEST(before_opset_13_softmax_runs_over_all_axes_behind) {
    float zeros[24] = {0};
    CASE_IN(&one, ENG_FLOAT, zeros, 2, 3, 4);
    CHECK_OK(case_run_at(&one, ENG_DOMAIN_ONNX, "Softmax", 11, &st));
    CHECK_NEAR(F(one, 0), 1.0 / 12, 1e-7);
    case_end(&one);
}

TEST(classes_out_of_range_are_refused_unless_ignored) {
    int64_t classes[2] = {1, 9};
    fill();
    CASE_IN(&one, ENG_FLOAT, x, 2, 3);
    CASE_IN(&one, ENG_INT64, classes, 2);
    CHECK_CODE(case_run(&one, "NegativeLogLikelihoodLoss", &st), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "class 9 of 3");
    case_int(&one, "ignore_index", 9);
    CHECK_OK(case_run(&one, "NegativeLogLikelihoodLoss", &st));
    CHECK_NEAR(F(one, 0), 1.0, 1e-6);
    case_end(&one);
}

TEST_MAIN
