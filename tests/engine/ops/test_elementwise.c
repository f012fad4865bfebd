#include "engine/ops/elementwise.h"
#include "tests/test.h"

static uint32_t seed = 1;

static int64_t rnd(int64_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (int64_t)(seed >> 8) % n;
}

static void sum_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    (void)arg;
    for (int64_t i = 0; i < n; i++)
        ((int32_t *)p[0])[i * step[0]] = ((int32_t *)p[1])[i * step[1]] + 1000 * ((int32_t *)p[2])[i * step[2]];
}

/* The element at logical index `at` of the shape that `t` broadcasts to. */
static int32_t element(const eng_tensor *t, int rank, const int64_t *at)
{
    int64_t s[ENG_MAX_RANK], offset = 0;
    eng_tensor_strides(t, s);
    for (int i = 0; i < t->rank; i++)
        if (t->dims[i] != 1) offset += s[i] * at[rank - t->rank + i];
    return ((const int32_t *)t->data)[offset];
}

static void random_layout(eng_tensor *t)
{
    if (t->rank < 3 || rnd(2)) return;
    t->layout = ENG_CL;
    t->pitch = t->dims[1] + rnd(3);
}

static bool walk_is_right(od_pool *pool, int most)
{
    static int32_t a[200000], b[200000], o[200000];
    eng_tensor out = {.dtype = ENG_INT32, .rank = (int)rnd(6), .data = o}, in[2];
    for (int i = 0; i < out.rank; i++) out.dims[i] = rnd(8) ? 1 + rnd(most) : rnd(2);
    for (int k = 0; k < 2; k++) {
        int rank = rnd(2) ? out.rank : (int)rnd(out.rank + 1);
        in[k] = (eng_tensor){.dtype = ENG_INT32, .rank = rank, .data = k ? b : a};
        for (int i = 0; i < rank; i++) in[k].dims[i] = rnd(3) ? out.dims[out.rank - rank + i] : 1;
        random_layout(&in[k]);
    }
    random_layout(&out);
    if (eng_tensor_bytes(&out) > sizeof o) return true;
    for (int i = 0; i < 200000; i++) {
        a[i] = i;
        b[i] = i % 977;
        o[i] = -1;
    }
    eng_walk w;
    eng_walk_init(&w, 3, (const eng_tensor *[]){&out, &in[0], &in[1]});
    eng_walk_run(&w, pool, 256, sum_row, NULL);
    int64_t at[ENG_MAX_RANK] = {0}, n = eng_tensor_count(&out);
    for (int64_t i = 0; i < n; i++) {
        if (element(&out, out.rank, at) != element(&in[0], out.rank, at) + 1000 * element(&in[1], out.rank, at))
            return false;
        for (int d = out.rank - 1; d >= 0 && ++at[d] == out.dims[d]; d--) at[d] = 0;
    }
    return true;
}

TEST(a_walk_meets_every_element_in_any_mix_of_layouts) {
    for (int i = 0; i < 4000; i++) CHECK(walk_is_right(NULL, 5));
}

TEST(a_walk_in_parallel_meets_the_same) {
    od_pool *pool;
    CHECK_OK(od_pool_create(&pool, 2, &st));
    bool right = true;
    for (int i = 0; i < 500 && right; i++) right = walk_is_right(pool, 10);
    od_pool_destroy(pool);
    CHECK(right);
}

TEST(equal_shapes_are_one_row) {
    eng_tensor t = {.dtype = ENG_FLOAT, .layout = ENG_CL, .rank = 4, .dims = {2, 3, 4, 5}, .pitch = 3};
    eng_walk w;
    eng_walk_init(&w, 2, (const eng_tensor *[]){&t, &t});
    CHECK_EQ(w.rank, 1);
    CHECK_EQ(w.dims[0], 120);
}

TEST(a_type_that_is_not_listed_is_named) {
    eng_row_fn *fn;
    CHECK_CODE(eng_row_for(NULL, 0, ENG_STRING, &fn, &st), OD_BAD_TYPE);
    CHECK_HAS(st.msg, "string");
}

TEST(doubles_are_cut_without_undefined_behaviour) {
    CHECK_EQ(eng_truncate(-2.9), -2);
    CHECK_EQ(eng_truncate(1e300), INT64_MIN);
    CHECK_EQ(eng_truncate(NAN), INT64_MIN);
}

TEST_MAIN
