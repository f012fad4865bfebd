#include "engine/ops/attention.h"
#include "tests/engine/ops/op_case.h"

static float numbers[8192];
static op_case one;

static void fill(void)
{
    for (int i = 0; i < 8192; i++) numbers[i] = (float)(i * 7919 % 1013) / 1013.0f - 0.5f;
}

TEST(heads_that_do_not_divide_are_refused) {
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 3, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    CHECK_CODE(case_run(&one, "Attention", &st), OD_BAD_SHAPE);
    case_end(&one);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 4, 8);
    CHECK_CODE(case_run(&one, "Attention", &st), OD_BAD_ARGUMENT);
    CHECK_HAS(st.msg, "q_num_heads is 0");
    case_end(&one);
}

TEST(a_mask_longer_than_the_keys_is_refused) {
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 4, 5);
    CHECK_CODE(case_run(&one, "Attention", &st), OD_BAD_SHAPE);
    case_end(&one);
}

TEST(past_keys_without_values_are_refused) {
    for (int i = 0; i < 3; i++) CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    CASE_IN(&one, ENG_UNDEFINED, NULL);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 3, 8);
    CHECK_CODE(case_run(&one, "Attention", &st), OD_BAD_MODEL);
    case_end(&one);
}

TEST(lengths_beyond_the_keys_are_refused) {
    int64_t length = 5;
    for (int i = 0; i < 3; i++) CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    for (int i = 0; i < 3; i++) CASE_IN(&one, ENG_UNDEFINED, NULL);
    CASE_IN(&one, ENG_INT64, &length, 1);
    CHECK_CODE(case_run(&one, "Attention", &st), OD_BAD_VALUE);
    case_end(&one);
}

TEST(a_query_without_keys_gives_zeros) {
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 0, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 0, 8);
    CHECK_OK(case_run(&one, "Attention", &st));
    for (int i = 0; i < 64; i++) CHECK_NEAR(F(one, i), 0, 0);
    case_end(&one);
}

TEST(positions_outside_the_table_are_refused) {
    int64_t positions[4] = {0, 1, 2, 9};
    CASE_IN(&one, ENG_FLOAT, numbers, 1, 2, 4, 8);
    CASE_IN(&one, ENG_FLOAT, numbers, 8, 4);
    CASE_IN(&one, ENG_FLOAT, numbers, 8, 4);
    CASE_IN(&one, ENG_INT64, positions, 1, 4);
    CHECK_CODE(case_run(&one, "RotaryEmbedding", &st), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "position 9 of a table of 8");
    case_end(&one);
}

/* One row of the definition. */
static double expected(const eng_attention *a, int64_t item, int64_t head, int64_t row, int64_t d)
{
    double sum = 0, y = 0;
    int64_t group = a->q.dims[1] / a->k.dims[1], place = row + a->past;
    for (int64_t k = 0; k < a->keys; k++) {
        const float *q = a->q.data + item * a->q.strides[0] + head * a->q.strides[1] + row * a->q.strides[2];
        const float *key = a->k.data + item * a->k.strides[0] + head / group * a->k.strides[1] + k * a->k.strides[2];
        const float *v = a->v.data + item * a->v.strides[0] + head / group * a->v.strides[1] + k * a->v.strides[2];
        double s = 0;
        if ((a->causal && k > place) || (a->left >= 0 && k < place - a->left) || (a->right >= 0 && k > place + a->right)) continue;
        for (int64_t i = 0; i < a->q.dims[3]; i++) s += (double)q[i * a->q.strides[3]] * (double)key[i * a->k.strides[3]];
        s *= (double)a->scale;
        if (a->mask.data) s += (double)a->mask.data[row * a->mask.strides[2] + k * a->mask.strides[3]];
        if (a->windows.data) s += (double)a->windows.data[item % a->window_count * a->windows.strides[0] + row * a->windows.strides[2] + k];
        sum += exp(s);
        y += exp(s) * (double)v[d * a->v.strides[3]];
    }
    return sum > 0 ? y / sum : 0;
}

TEST(every_mix_of_ranges_masks_and_strides_is_the_definition) {
    static float out[8192];
    od_arena arena = {0};
    fill();
    for (int mix = 0; mix < 64; mix++) {
        int64_t items = 2, heads = mix & 1 ? 12 : 4, kv = mix & 2 ? heads / 2 : heads, rows = 7, keys = mix & 4 ? mix & 2 ? 17 : 19 : 7, d = 5;
        eng_tensor q = {.dtype = ENG_FLOAT, .rank = 3, .dims = {items, rows, heads * d}, .data = numbers}, y = q;
        eng_tensor k = {.dtype = ENG_FLOAT, .rank = 3, .dims = {items, keys, kv * d}, .data = numbers + 1000};
        eng_tensor v = {.dtype = ENG_FLOAT, .rank = 3, .dims = {items, keys, kv * d}, .data = numbers + 4000};
        eng_tensor m = {.dtype = ENG_FLOAT, .rank = 2, .dims = {rows, keys}, .data = numbers + 100};
        eng_tensor w = {.dtype = ENG_FLOAT, .rank = 4, .dims = {2, 1, rows, keys}, .data = numbers + 300};
        y.data = out;
        eng_attention a = {.q = eng_att_rows(&q, heads, 0, 0), .k = eng_att_rows(&k, kv, 0, 0), .v = eng_att_rows(&v, kv, 0, 0),
                           .out = eng_att_rows(&y, heads, 0, 0), .scale = 3.0f, .keys = keys, .past = keys - rows, .causal = mix & 8,
                           .left = mix & 16 ? 3 : -1, .right = mix & 8 ? -1 : mix & 16 ? 1 : -1, .window_count = 2};
        if (mix & 32) {
            a.mask = eng_att_mask(&m);
            if (mix & 1) a.windows = eng_att_mask(&w);
        }
        CHECK_OK(eng_attention_run(&a, &arena, NULL, &st));
        for (int64_t i = 0; i < items * rows * heads * d; i++)
            CHECK_NEAR(out[i], expected(&a, i / d / heads / rows, i / d % heads, i / d / heads % rows, i % d), 2e-6);
        od_arena_reset(&arena);
    }
    od_arena_fini(&arena);
}

TEST_MAIN
