/* What operators that move data refuse, and corners that the ONNX node tests leave out. */
#include "tests/engine/ops/op_case.h"

static const float six[6] = {0, 1, 2, 3, 4, 5};

static void ints_attr(op_case *c, const char *name, const int64_t *v, int64_t n)
{
    c->attrs[c->n_attrs++] = (eng_attr){.name = name, .kind = ENG_ATTR_INTS, .n = n, .ints = v};
}

#define LIST(c, ...) \
    CASE_IN(c, ENG_INT64, ((int64_t[]){__VA_ARGS__}), (int64_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

TEST(reshape_refuses_two_free_extents_and_counts_that_differ) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    LIST(&c, -1, -1);
    CHECK_CODE(case_run(&c, "Reshape", &st), OD_BAD_SHAPE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    LIST(&c, 4, 2);
    CHECK_CODE(case_run(&c, "Reshape", &st), OD_BAD_SHAPE);
    CHECK_HAS(st.msg, "cannot view 6 elements as 8");
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    LIST(&c, 2, 3, 0);
    CHECK_CODE(case_run(&c, "Reshape", &st), OD_BAD_SHAPE);
    case_end(&c);
}

TEST(reshape_of_nothing_infers_its_free_extent) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 0, 3);
    LIST(&c, 0, -1);
    case_int(&c, "allowzero", 1);
    CHECK_OK(case_run(&c, "Reshape", &st));
    CHECK_EQ(c.out.dims[1], 0);
    case_end(&c);
}

TEST(squeeze_refuses_an_extent_that_is_not_one) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    LIST(&c, 0);
    CHECK_CODE(case_run(&c, "Squeeze", &st), OD_BAD_SHAPE);
    case_end(&c);
}

TEST(unsqueeze_refuses_axes_named_twice_and_ranks_too_high) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, 0, -3);
    CHECK_CODE(case_run(&c, "Unsqueeze", &st), OD_BAD_ARGUMENT);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    CHECK_CODE(case_run(&c, "Unsqueeze", &st), OD_BAD_SHAPE);
    case_end(&c);
}

TEST(transpose_refuses_what_is_no_permutation) {
    static const int64_t twice[] = {0, 0}, high[] = {0, 2};
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    ints_attr(&c, "perm", twice, 2);
    CHECK_CODE(case_run(&c, "Transpose", &st), OD_BAD_ARGUMENT);
    c.attrs[0].ints = high;
    CHECK_CODE(case_run(&c, "Transpose", &st), OD_BAD_ARGUMENT);
    c.attrs[0].n = 1;
    CHECK_CODE(case_run(&c, "Transpose", &st), OD_BAD_ARGUMENT);
    case_end(&c);
}

TEST(concat_refuses_other_extents_and_types) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    CASE_IN(&c, ENG_FLOAT, six, 3, 2);
    case_int(&c, "axis", 0);
    CHECK_CODE(case_run(&c, "Concat", &st), OD_BAD_SHAPE);
    c.in[1].dtype = ENG_INT32;
    CHECK_CODE(case_run(&c, "Concat", &st), OD_BAD_TYPE);
    case_end(&c);
}

TEST(split_refuses_parts_that_do_not_fill_the_axis) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, 5);
    CHECK_CODE(case_run(&c, "Split", &st), OD_BAD_SHAPE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 6);
    case_int(&c, "num_outputs", 2);
    CHECK_CODE(case_run(&c, "Split", &st), OD_BAD_ARGUMENT);
    case_end(&c);
}

TEST(slice_refuses_steps_of_zero_and_axes_named_twice) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    LIST(&c, 0);
    LIST(&c, 1);
    LIST(&c, 1);
    LIST(&c, 0);
    CHECK_CODE(case_run(&c, "Slice", &st), OD_BAD_VALUE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    LIST(&c, 0, 0);
    LIST(&c, 1, 1);
    LIST(&c, 1, -1);
    CHECK_CODE(case_run(&c, "Slice", &st), OD_BAD_ARGUMENT);
    case_end(&c);
}

TEST(slice_takes_the_ends_of_all_numbers) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, INT64_MAX);
    LIST(&c, INT64_MIN);
    LIST(&c, 0);
    LIST(&c, INT64_MIN);
    CHECK_OK(case_run(&c, "Slice", &st));
    CHECK_EQ(c.out.dims[0], 1);
    CHECK_NEAR(F(c, 0), 5, 0);
    case_end(&c);
}

TEST(a_backward_slice_from_before_the_first_element_begins_at_it) {
    for (int64_t extent = 0; extent <= 6; extent += 3) {
        op_case c = {0};
        CASE_IN(&c, ENG_FLOAT, six, extent);
        LIST(&c, -8);
        LIST(&c, -9);
        LIST(&c, 0);
        LIST(&c, -2);
        CHECK_OK(case_run(&c, "Slice", &st));
        CHECK_EQ(c.out.dims[0], extent ? 1 : 0);
        if (extent) CHECK_NEAR(F(c, 0), six[0], 0);
        case_end(&c);
    }
}

TEST(gathers_refuse_indices_out_of_range) {
    static const char *const ops[] = {"Gather", "GatherElements", "GatherND"};
    static const int64_t bad[] = {3, -4, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < 12; i++) {
        op_case c = {0};
        CASE_IN(&c, ENG_FLOAT, six, 3, 2);
        CASE_IN(&c, ENG_INT64, &bad[i % 4], 1, 1);
        CHECK_CODE(case_run(&c, ops[i / 4], &st), OD_BAD_VALUE);
        case_end(&c);
    }
}

TEST(scatters_refuse_indices_out_of_range) {
    static const int64_t bad[] = {3, -4, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < 8; i++) {
        op_case c = {0};
        CASE_IN(&c, ENG_FLOAT, six, 3, 2);
        CASE_IN(&c, ENG_INT64, &bad[i % 4], 1, 1);
        if (i < 4) CASE_IN(&c, ENG_FLOAT, six, 1, 1);
        else CASE_IN(&c, ENG_FLOAT, six, 1, 2);
        CHECK_CODE(case_run(&c, i < 4 ? "ScatterElements" : "ScatterND", &st), OD_BAD_VALUE);
        case_end(&c);
    }
}

TEST(scatters_refuse_to_add_strings) {
    eng_str s[2] = {{"a", 1}, {"b", 1}};
    op_case c = {0};
    CASE_IN(&c, ENG_STRING, s, 2);
    LIST(&c, 0);
    CASE_IN(&c, ENG_STRING, s, 1);
    case_string(&c, "reduction", "add");
    CHECK_CODE(case_run(&c, "ScatterElements", &st), OD_BAD_TYPE);
    c.n_attrs = 0;
    CHECK_OK(case_run(&c, "ScatterElements", &st));
    case_end(&c);
}

TEST(repeated_indices_add_up_in_every_integer_type) {
    static const int8_t x[2] = {100, 1}, u[3] = {100, 2, 3};
    op_case c = {0};
    CASE_IN(&c, ENG_INT8, x, 2);
    LIST(&c, 0, 1, 1);
    CASE_IN(&c, ENG_INT8, u, 3);
    case_string(&c, "reduction", "add");
    CHECK_OK(case_run(&c, "ScatterElements", &st));
    CHECK_EQ(I8(c, 0), -56); /* wraps */
    CHECK_EQ(I8(c, 1), 6);
    case_end(&c);
}

TEST(pads_refuse_to_cut_more_than_there_is) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, -4, -3);
    CHECK_CODE(case_run(&c, "Pad", &st), OD_BAD_VALUE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, INT64_MAX, 1);
    CHECK_CODE(case_run(&c, "Pad", &st), OD_BAD_VALUE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 0);
    LIST(&c, 1, 1);
    case_string(&c, "mode", "edge");
    CHECK_CODE(case_run(&c, "Pad", &st), OD_BAD_SHAPE);
    case_end(&c);
}

TEST(pads_shift_when_one_side_grows_as_the_other_shrinks) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, 2, -2);
    CHECK_OK(case_run(&c, "Pad", &st));
    CHECK_EQ(c.out.dims[0], 6);
    CHECK_NEAR(F(c, 1), 0, 0);
    CHECK_NEAR(F(c, 2), 0, 0);
    CHECK_NEAR(F(c, 5), 3, 0);
    case_end(&c);
}

TEST(reflection_goes_to_and_fro_over_short_axes) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 2);
    LIST(&c, 3, 4);
    case_string(&c, "mode", "reflect");
    CHECK_OK(case_run(&c, "Pad", &st));
    for (int i = 0; i < 9; i++) CHECK_NEAR(F(c, i), (i + 1) % 2, 0);
    case_end(&c);
}

TEST(tile_and_expand_refuse_impossible_counts) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, -1);
    CHECK_CODE(case_run(&c, "Tile", &st), OD_BAD_VALUE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, INT64_MAX);
    CHECK_CODE(case_run(&c, "Tile", &st), OD_BAD_VALUE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 6);
    LIST(&c, 4);
    CHECK_CODE(case_run(&c, "Expand", &st), OD_BAD_SHAPE);
    case_end(&c);
}

TEST(range_refuses_steps_that_lead_nowhere) {
    static const int64_t zero = 0, five = 5, most = INT64_MAX, least = INT64_MIN, one = 1;
    static const float f0 = 0, f1 = 1;
    op_case c = {0};
    CASE_IN(&c, ENG_INT64, &zero);
    CASE_IN(&c, ENG_INT64, &five);
    CASE_IN(&c, ENG_INT64, &zero);
    CHECK_CODE(case_run(&c, "Range", &st), OD_BAD_VALUE);
    case_end(&c);
    CASE_IN(&c, ENG_INT64, &least);
    CASE_IN(&c, ENG_INT64, &most);
    CASE_IN(&c, ENG_INT64, &one);
    CHECK_CODE(case_run(&c, "Range", &st), OD_BAD_VALUE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, &f0);
    CASE_IN(&c, ENG_FLOAT, &f1);
    CASE_IN(&c, ENG_FLOAT, &f0);
    CHECK_CODE(case_run(&c, "Range", &st), OD_BAD_VALUE);
    case_end(&c);
}

TEST(one_hot_refuses_negative_depths_and_skips_what_lies_outside) {
    static const int64_t at[] = {0, 5, -1}, bad = -1, three = 3;
    static const float values[] = {0, 1};
    op_case c = {0};
    CASE_IN(&c, ENG_INT64, at, 3);
    CASE_IN(&c, ENG_INT64, &bad);
    CASE_IN(&c, ENG_FLOAT, values, 2);
    CHECK_CODE(case_run(&c, "OneHot", &st), OD_BAD_SHAPE);
    c.in[1].data = (void *)(uintptr_t)&three;
    CHECK_OK(case_run(&c, "OneHot", &st));
    CHECK_NEAR(F(c, 0), 1, 0);
    CHECK_NEAR(F(c, 4), 0, 0);
    CHECK_NEAR(F(c, 8), 1, 0);
    case_end(&c);
}

TEST(reverse_sequence_refuses_lengths_beyond_the_axis) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 2, 3);
    LIST(&c, 1, 2, 3);
    CHECK_CODE(case_run(&c, "ReverseSequence", &st), OD_BAD_VALUE);
    case_end(&c);
}

TEST(pixel_shuffles_refuse_channels_that_do_not_divide) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 1, 6, 1, 1);
    case_int(&c, "blocksize", 2);
    CHECK_CODE(case_run(&c, "DepthToSpace", &st), OD_BAD_SHAPE);
    c.attrs[0].i = 0;
    CHECK_CODE(case_run(&c, "DepthToSpace", &st), OD_BAD_ARGUMENT);
    c.attrs[0].i = INT64_MAX;
    CHECK_CODE(case_run(&c, "SpaceToDepth", &st), OD_BAD_ARGUMENT);
    case_end(&c);
}

TEST(col2im_refuses_columns_that_no_image_gives) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 1, 2, 3);
    LIST(&c, 2, 2);
    LIST(&c, 1, 2);
    CHECK_CODE(case_run(&c, "Col2Im", &st), OD_BAD_SHAPE);
    case_end(&c);
    CASE_IN(&c, ENG_FLOAT, six, 1, 2, 3);
    LIST(&c, 0, 2);
    LIST(&c, 1, 2);
    CHECK_CODE(case_run(&c, "Col2Im", &st), OD_BAD_VALUE);
    case_end(&c);
}

TEST(unique_keeps_the_order_of_appearance_in_com_microsoft) {
    static const float x[] = {2, 1, 1, 3, 4, 3};
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, x, 6);
    CHECK_OK(case_run_at(&c, ENG_DOMAIN_MS, "Unique", 1, &st));
    CHECK_EQ(c.out.dims[0], 4);
    CHECK_NEAR(F(c, 0), 2, 0);
    CHECK_NEAR(F(c, 1), 1, 0);
    case_end(&c);
}

TEST(unique_takes_nans_for_one_and_last) {
    const float x[] = {NAN, 1, NAN, 0};
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, x, 4);
    CHECK_OK(case_run(&c, "Unique", &st));
    CHECK_EQ(c.out.dims[0], 3);
    CHECK(isnan(F(c, 2)));
    case_end(&c);
}

TEST(trilu_of_far_diagonals_keeps_all_or_nothing) {
    static const int64_t far[] = {INT64_MAX, INT64_MIN};
    for (int i = 0; i < 4; i++) {
        op_case c = {0};
        CASE_IN(&c, ENG_FLOAT, six, 2, 3);
        CASE_IN(&c, ENG_INT64, &far[i % 2]);
        case_int(&c, "upper", i / 2);
        CHECK_OK(case_run(&c, "Trilu", &st));
        CHECK_NEAR(F(c, 5), i == 0 || i == 3 ? 5 : 0, 0);
        case_end(&c);
    }
}

TEST(indices_of_another_type_are_refused) {
    op_case c = {0};
    CASE_IN(&c, ENG_FLOAT, six, 6);
    CASE_IN(&c, ENG_FLOAT, six, 1);
    CHECK_CODE(case_run(&c, "Gather", &st), OD_BAD_TYPE);
    CHECK_CODE(case_run(&c, "GatherND", &st), OD_BAD_TYPE);
    case_end(&c);
}

TEST(empty_tensors_pass_through) {
    static const char *const ops[] = {"Transpose", "Identity", "NonZero", "Flatten"};
    for (size_t i = 0; i < OD_COUNT(ops); i++) {
        op_case c = {0};
        CASE_IN(&c, ENG_FLOAT, six, 0, 3);
        CHECK_OK(case_run(&c, ops[i], &st));
        case_end(&c);
    }
}

TEST(rows_are_gathered_item_by_item_normalized_and_added_to) {
    static float x[2 * 3 * 4], ones[4] = {1, 1, 1, 1}, added[2 * 2 * 4];
    int64_t index[2] = {2, 0};
    for (int i = 0; i < 24; i++) x[i] = (float)(i * i % 7);
    for (int i = 0; i < 16; i++) added[i] = (float)i;
    for (int how = 0; how < 4; how++) {
        op_case c = {0};
        CASE_IN(&c, ENG_FLOAT, x, 2, 3, 4);
        CASE_IN(&c, ENG_INT64, index, 2);
        CASE_IN(&c, ENG_FLOAT, ones, 4);
        CASE_IN(&c, ENG_FLOAT, ones, 4);
        CASE_IN(&c, ENG_FLOAT, added, 2, 8);
        if (!(how & 1)) c.in[2].dtype = c.in[3].dtype = 0; /* left out */
        if (!(how & 2)) c.in[4].dtype = 0;
        case_int(&c, "rows", 3);
        case_ints(&c, "dims", 2, (int64_t[]){-1, 8});
        case_float(&c, "epsilon", 1e-5f);
        CHECK_OK(case_run_at(&c, ENG_DOMAIN_OWN, "GatherRows", 1, &st));
        CHECK(c.out.rank == 2 && c.out.dims[0] == 2 && c.out.dims[1] == 8);
        for (int r = 0; r < 4; r++) {
            const float *from = x + (r / 2 * 3 + index[r % 2]) * 4;
            double mean = 0, square = 0;
            for (int i = 0; i < 4; i++) mean += (double)from[i] / 4;
            for (int i = 0; i < 4; i++) square += ((double)from[i] - mean) * ((double)from[i] - mean) / 4;
            for (int i = 0; i < 4; i++) {
                double y = how & 1 ? ((double)from[i] - mean) / sqrt(square + 1e-5) + 1 : (double)from[i];
                CHECK_NEAR(((float *)c.out.data)[r * 4 + i], y + (how & 2 ? (double)added[r * 4 + i] : 0), 1e-5);
            }
        }
        case_end(&c);
    }
}

TEST(rows_outside_an_item_and_parts_of_items_are_refused) {
    static float x[24];
    for (int how = 0; how < 3; how++) {
        int64_t index[2] = {2, how == 0 ? 3 : 0};
        op_case c = {0};
        CASE_IN(&c, ENG_FLOAT, x, 2, 3, 4);
        CASE_IN(&c, ENG_INT64, index, 2);
        case_int(&c, "rows", how == 1 ? 4 : 3);
        case_ints(&c, "dims", 2, (int64_t[]){-1, how == 2 ? 5 : 8});
        CHECK(case_run_at(&c, ENG_DOMAIN_OWN, "GatherRows", 1, &st) != OD_OK);
        CHECK_HAS(st.msg, how == 0 ? "row 3 of 3" : how == 1 ? "6 rows are no items of 4" : "4 rows of 4 in parts of 5");
        case_end(&c);
    }
}

TEST_MAIN
