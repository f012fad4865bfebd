#include "tests/engine/ops/op_case.h"

static float ones[4096];
static op_case one;

static void fill(void)
{
    for (int i = 0; i < 4096; i++) ones[i] = 1.0f;
}

TEST(inner_extents_that_differ_are_named) {
    fill();
    CASE_IN(&one, ENG_FLOAT, ones, 2, 3);
    CASE_IN(&one, ENG_FLOAT, ones, 4, 5);
    CHECK_CODE(case_run(&one, "MatMul", &st), OD_BAD_SHAPE);
    CHECK_HAS(st.msg, "3 columns, B 4 rows");
    case_end(&one);
}

TEST(a_scalar_is_no_matrix) {
    CASE_IN(&one, ENG_FLOAT, ones);
    CASE_IN(&one, ENG_FLOAT, ones, 4, 5);
    CHECK_CODE(case_run(&one, "MatMul", &st), OD_BAD_SHAPE);
    case_end(&one);
}

TEST(operands_of_two_types_are_refused) {
    CASE_IN(&one, ENG_FLOAT, ones, 2, 4);
    CASE_IN(&one, ENG_DOUBLE, ones, 4, 5);
    CHECK_CODE(case_run(&one, "MatMul", &st), OD_BAD_TYPE);
    case_end(&one);
}

TEST(batches_that_do_not_broadcast_are_refused) {
    CASE_IN(&one, ENG_FLOAT, ones, 2, 3, 4);
    CASE_IN(&one, ENG_FLOAT, ones, 3, 4, 5);
    CHECK_CODE(case_run(&one, "MatMul", &st), OD_BAD_SHAPE);
    case_end(&one);
}

TEST(a_product_over_nothing_is_zero) {
    fill();
    CASE_IN(&one, ENG_FLOAT, ones, 2, 0);
    CASE_IN(&one, ENG_FLOAT, ones, 0, 3);
    CHECK_OK(case_run(&one, "MatMul", &st));
    CHECK_EQ(one.out.dims[1], 3);
    for (int i = 0; i < 6; i++) CHECK_NEAR(F(one, i), 0, 0);
    case_end(&one);
}

TEST(no_rows_give_no_rows) {
    CASE_IN(&one, ENG_FLOAT, ones, 0, 4);
    CASE_IN(&one, ENG_FLOAT, ones, 4, 3);
    CHECK_OK(case_run(&one, "MatMul", &st));
    CHECK_EQ(one.out.dims[0], 0);
    case_end(&one);
}

TEST(vectors_give_a_scalar) {
    fill();
    CASE_IN(&one, ENG_FLOAT, ones, 7);
    CASE_IN(&one, ENG_FLOAT, ones, 7);
    CHECK_OK(case_run(&one, "MatMul", &st));
    CHECK_EQ(one.out.rank, 0);
    CHECK_NEAR(F(one, 0), 7, 0);
    case_end(&one);
}

/* B is read as it lies for few rows and packed for more: a row must not depend on how many come with it. */
TEST(few_rows_give_what_many_give) {
    enum { M = 9, K = 37, N = 600 };
    static float a[M * K], b[K * N], few[4 * N];
    for (int i = 0; i < M * K; i++) a[i] = (float)(i * 7 % 13) - 6;
    for (int i = 0; i < K * N; i++) b[i] = (float)(i * 5 % 11) - 5; /* sums of whole numbers are exact in any order */
    for (int rows = 1; rows <= 4; rows++) {
        CASE_IN(&one, ENG_FLOAT, a, rows, K);
        CASE_IN(&one, ENG_FLOAT, b, K, N);
        CHECK_OK(case_run(&one, "MatMul", &st));
        memcpy(few, one.out.data, (size_t)(rows * N) * sizeof *few);
        case_end(&one);
        CASE_IN(&one, ENG_FLOAT, a, M, K);
        CASE_IN(&one, ENG_FLOAT, b, K, N);
        CHECK_OK(case_run(&one, "MatMul", &st));
        for (int i = 0; i < rows * N; i++) CHECK_NEAR(F(one, i), few[i], 0);
        case_end(&one);
    }
}

TEST(integers_wrap) {
    int32_t a[2] = {INT32_MAX, 1}, b[2] = {1, 1};
    CASE_IN(&one, ENG_INT32, a, 1, 2);
    CASE_IN(&one, ENG_INT32, b, 2, 1);
    CHECK_OK(case_run(&one, "MatMul", &st));
    CHECK_EQ(I32(one, 0), INT32_MIN);
    case_end(&one);
}

TEST(gemm_wants_matrices_and_a_c_that_broadcasts) {
    fill();
    CASE_IN(&one, ENG_FLOAT, ones, 2, 3, 4);
    CASE_IN(&one, ENG_FLOAT, ones, 4, 5);
    CHECK_CODE(case_run(&one, "Gemm", &st), OD_BAD_SHAPE);
    case_end(&one);
    CASE_IN(&one, ENG_FLOAT, ones, 2, 4);
    CASE_IN(&one, ENG_FLOAT, ones, 4, 5);
    CASE_IN(&one, ENG_FLOAT, ones, 4);
    CHECK_CODE(case_run(&one, "Gemm", &st), OD_BAD_SHAPE);
    CHECK_HAS(st.msg, "extent of 4 where the result has 5");
    case_end(&one);
}

TEST(gemm_spreads_a_column_and_scales_it) {
    fill();
    float column[2] = {10, 20};
    case_float(&one, "beta", 0.5f);
    case_float(&one, "alpha", 2.0f);
    CASE_IN(&one, ENG_FLOAT, ones, 2, 4);
    CASE_IN(&one, ENG_FLOAT, ones, 4, 5);
    CASE_IN(&one, ENG_FLOAT, column, 2, 1);
    CHECK_OK(case_run(&one, "Gemm", &st));
    CHECK_NEAR(F(one, 4), 13, 0);
    CHECK_NEAR(F(one, 9), 18, 0);
    case_end(&one);
}

TEST(fused_gemm_refuses_an_activation_it_does_not_know) {
    case_string(&one, "activation", "Swirl");
    CASE_IN(&one, ENG_FLOAT, ones, 2, 4);
    CASE_IN(&one, ENG_FLOAT, ones, 4, 5);
    CHECK_CODE(case_run_at(&one, ENG_DOMAIN_MS, "FusedGemm", 1, &st), OD_UNSUPPORTED);
    CHECK_HAS(st.msg, "Swirl");
    case_end(&one);
}

static od_code einsum_of(const char *equation, int operands)
{
    od_code rc;
    fill();
    case_string(&one, "equation", equation);
    for (int i = 0; i < operands; i++) CASE_IN(&one, ENG_FLOAT, ones, 3, 4);
    rc = case_run(&one, "Einsum", &st);
    case_end(&one);
    return rc;
}

TEST(equations_that_do_not_fit_are_refused) {
    /* prepare sees a node without inputs here, so every count of terms is wrong for it */
    CHECK_CODE(einsum_of("ij->ji", 1), OD_BAD_ARGUMENT);
    CHECK_HAS(st.msg, "1 terms for 0 operands");
    CHECK_CODE(einsum_of("i1->i", 1), OD_BAD_ARGUMENT);
    CHECK_CODE(einsum_of("i......->i", 1), OD_BAD_ARGUMENT);
    CHECK_CODE(einsum_of("ij-i", 1), OD_BAD_ARGUMENT);
    CHECK_CODE(einsum_of("ij->i,j", 1), OD_BAD_ARGUMENT);
    CHECK_CODE(einsum_of("abcdefghijklmnop->a", 1), OD_BAD_ARGUMENT);
}

TEST(a_singular_matrix_has_no_inverse) {
    float m[4] = {1, 2, 2, 4};
    CASE_IN(&one, ENG_FLOAT, m, 2, 2);
    CHECK_CODE(case_run_at(&one, ENG_DOMAIN_MS, "Inverse", 1, &st), OD_BAD_VALUE);
    case_end(&one);
    CASE_IN(&one, ENG_FLOAT, ones, 2, 3);
    CHECK_CODE(case_run(&one, "Det", &st), OD_BAD_SHAPE);
    case_end(&one);
}

TEST_MAIN
