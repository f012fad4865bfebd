#include "tests/engine/ops/op_case.h"

static float x[96], ones[8] = {1, 1, 1, 1, 1, 1, 1, 1}, zeros[8];
static op_case one;

static void fill(void)
{
    for (int i = 0; i < 96; i++) x[i] = (float)(i * 37 % 19) - 9.0f;
}

TEST(statistics_of_another_length_are_refused) {
    CASE_IN(&one, ENG_FLOAT, x, 2, 4, 3);
    CASE_IN(&one, ENG_FLOAT, ones, 4);
    CASE_IN(&one, ENG_FLOAT, zeros, 4);
    CASE_IN(&one, ENG_FLOAT, zeros, 3);
    CASE_IN(&one, ENG_FLOAT, ones, 4);
    CHECK_CODE(case_run(&one, "BatchNormalization", &st), OD_BAD_SHAPE);
    CHECK_HAS(st.msg, "mean has 3 elements, wanted 4");
    case_end(&one);
}

/* Each operator in both layouts. */
static void check_layouts(const char *op, int n_in)
{
    float row[96], cl[96];
    fill();
    for (int n = 0; n < 2; n++)
        for (int ch = 0; ch < 6; ch++)
            for (int p = 0; p < 8; p++) cl[(n * 8 + p) * 6 + ch] = x[(n * 6 + ch) * 8 + p];
    for (int layout = 0; layout < 2; layout++) {
        case_int(&one, "num_groups", 3);
        case_int(&one, "size", 3);
        CASE_IN(&one, ENG_FLOAT, layout ? cl : x, 2, 6, 2, 4);
        one.in[0].layout = one.out.layout = layout ? ENG_CL : ENG_ROW;
        one.in[0].pitch = 6;
        for (int i = 1; i < n_in; i++) CASE_IN(&one, ENG_FLOAT, i % 2 ? ones : zeros, 6);
        CHECK_OK(case_run(&one, op, &st));
        for (int n = 0; n < 2; n++)
            for (int ch = 0; ch < 6; ch++)
                for (int p = 0; p < 8; p++) {
                    int at = (n * 6 + ch) * 8 + p;
                    if (layout) CHECK_NEAR(F(one, (n * 8 + p) * 6 + ch), row[at], 2e-6);
                    else row[at] = F(one, at);
                }
        case_end(&one);
    }
}

TEST(instance_and_group_normalization_agree_in_both_layouts) {
    check_layouts("InstanceNormalization", 3);
    check_layouts("GroupNormalization", 3);
}

TEST(groups_that_do_not_divide_the_channels_are_refused) {
    case_int(&one, "num_groups", 4);
    CASE_IN(&one, ENG_FLOAT, x, 2, 6, 8);
    CASE_IN(&one, ENG_FLOAT, ones, 6);
    CASE_IN(&one, ENG_FLOAT, zeros, 6);
    CHECK_CODE(case_run(&one, "GroupNormalization", &st), OD_BAD_ARGUMENT);
    CHECK_HAS(st.msg, "6 channels in 4 groups");
    case_end(&one);
}

TEST(a_scale_larger_than_its_rows_is_refused) {
    CASE_IN(&one, ENG_FLOAT, x, 2, 6);
    CASE_IN(&one, ENG_FLOAT, x, 4, 2, 6);
    CHECK_CODE(case_run(&one, "LayerNormalization", &st), OD_BAD_SHAPE);
    case_end(&one);
}

TEST(a_scale_that_varies_by_row_is_spread) {
    float scale[2] = {1, 10};
    fill();
    CASE_IN(&one, ENG_FLOAT, x, 2, 8);
    CASE_IN(&one, ENG_FLOAT, scale, 2, 1);
    CHECK_OK(case_run(&one, "LayerNormalization", &st));
    double sum = 0;
    for (int i = 8; i < 16; i++) sum += (double)F(one, i) * (double)F(one, i);
    CHECK_NEAR(sum / 8, 100.0, 1e-2);
    case_end(&one);
}

TEST(bad_sizes_and_norms_are_refused) {
    case_int(&one, "size", 0);
    CASE_IN(&one, ENG_FLOAT, x, 1, 4, 2, 2);
    CHECK_CODE(case_run(&one, "LRN", &st), OD_BAD_ARGUMENT);
    case_end(&one);
    case_int(&one, "p", 3);
    CASE_IN(&one, ENG_FLOAT, x, 2, 4);
    CHECK_CODE(case_run(&one, "LpNormalization", &st), OD_BAD_ARGUMENT);
    case_end(&one);
}

TEST_MAIN
