/* Batches in parts: where items are apart, where they are not, and that answers are the same. */
#include "engine/plan.h"
#include "engine/session.h"
#include "tests/test.h"

enum { WIDTH = 1 << 17 }; /* an item's results are too large to stay near */

static eng_model *model;

static void begin(void)
{
    CHECK_OK(eng_model_create(&model, &st));
    int x = eng_graph_value(model->graph, "x");
    model->graph->values[x].dtype = ENG_FLOAT;
    model->graph->values[x].rank = 2;
    model->graph->values[x].dims[0] = -1;
    model->graph->values[x].dims[1] = WIDTH;
    CHECK_OK(eng_graph_add_input(model->graph, x, &st));
}

static eng_node *node(const char *op, const char *a, const char *b, const char *out, int n_attrs)
{
    eng_node *n = eng_graph_add_node(model->graph, op, op, b ? 2 : 1, 1, n_attrs);
    n->opset = 18;
    n->in[0] = eng_graph_value(model->graph, a);
    if (b) n->in[1] = eng_graph_value(model->graph, b);
    n->out[0] = eng_graph_value(model->graph, out);
    return n;
}

static void set_int(eng_node *n, const char *name, int64_t i)
{
    n->attrs[0] = (eng_attr){.name = name, .kind = ENG_ATTR_INT, .i = i};
}

static void constant(const char *name, eng_dtype dtype, int64_t n, void *data)
{
    eng_tensor t = {.dtype = dtype, .rank = 1, .dims = {n}, .data = data};
    CHECK_OK(eng_graph_set_constant(model->graph, eng_graph_value(model->graph, name), &t, &st));
}

static void finish(void)
{
    CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, "y"), &st));
    CHECK_OK(eng_model_finish(model, NULL, &st));
}

/* In how many parts does a batch of n run? 1: as a whole. */
static int64_t parts_of(int64_t n)
{
    float data = 0;
    eng_tensor x = {.dtype = ENG_FLOAT, .rank = 2, .dims = {n, WIDTH}, .data = &data};
    eng_plan *plan;
    CHECK_OK(eng_plan_acquire(&plan, model->graph, &x, NULL, &st));
    int64_t parts = plan->part ? plan->parts : 1;
    eng_plan_release(plan);
    return parts;
}

static int64_t parts_then_drop(int64_t n)
{
    finish();
    int64_t parts = parts_of(n);
    eng_model_destroy(model);
    return parts;
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

/* `workers` of a pool beside the caller */
static void compare_with_single_runs(int workers)
{
    static float x[5 * WIDTH];
    static int64_t axes[1] = {1};
    for (int i = 0; i < 5 * WIDTH; i++) x[i] = (float)(i % 1009) / 1009 + (float)(i / WIDTH);
    begin();
    set_int(node("Softmax", "x", NULL, "p", 1), "axis", 1);
    node("Mul", "p", "x", "m", 0);
    constant("axes", ENG_INT64, 1, axes);
    node("ReduceMax", "m", "axes", "y", 0);
    finish();
    CHECK_EQ(parts_of(5), 5);
    CHECK_EQ(parts_of(1), 1);
    eng_session *s;
    od_pool *pool;
    CHECK_OK(od_pool_create(&pool, workers, &st));
    CHECK_OK(eng_session_create(&s, model, pool, 0, &st));
    float whole[5];
    eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {5, WIDTH}, .data = x}, out;
    for (int round = 0; round < 2; round++) {
        in.dims[0] = 5;
        in.data = x;
        CHECK_OK(eng_session_run(s, &in, &out, &st));
        CHECK_EQ(out.dims[0], 5);
        memcpy(whole, out.data, sizeof whole);
        for (int i = 0; i < 5; i++) {
            in.dims[0] = 1;
            in.data = x + i * WIDTH;
            CHECK_OK(eng_session_run(s, &in, &out, &st));
            CHECK_NEAR(((float *)out.data)[0], whole[i], 0);
            CHECK(whole[i] > 0);
        }
    }
    eng_session_destroy(s);
    eng_model_destroy(model);
    od_pool_destroy(pool);
}

TEST(items_that_are_apart_run_apart_with_the_answers_of_single_runs)
{
    for (int workers = 0; workers <= 3; workers++) compare_with_single_runs(workers);
}

TEST(a_run_in_parts_can_be_cancelled)
{
    static float x[3 * WIDTH];
    eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {3, WIDTH}, .data = x}, out;
    eng_session *s;
    od_pool *pool;
    begin();
    node("Exp", "x", NULL, "e", 0);
    set_int(node("Softmax", "e", NULL, "y", 1), "axis", 1);
    finish();
    CHECK_EQ(parts_of(3), 3);
    CHECK_OK(od_pool_create(&pool, 1, &st));
    CHECK_OK(eng_session_create(&s, model, pool, 0, &st));
    eng_session_set_cancel(s, always, NULL);
    CHECK_CODE(eng_session_run(s, &in, &out, &st), OD_CANCELLED);
    eng_session_set_cancel(s, NULL, NULL);
    CHECK_OK(eng_session_run(s, &in, &out, &st));
    CHECK_NEAR(((float *)out.data)[3 * WIDTH - 1], 1.0f / WIDTH, 1e-9);
    eng_session_destroy(s);
    eng_model_destroy(model);
    od_pool_destroy(pool);
}

TEST(operators_across_the_batch_keep_it_whole)
{
    static int64_t axes[1] = {0}, minus[1] = {-2};
    begin();
    set_int(node("Softmax", "x", NULL, "y", 1), "axis", 0);
    CHECK_EQ(parts_then_drop(4), 1);

    begin();
    set_int(node("Softmax", "x", NULL, "y", 1), "axis", -2);
    CHECK_EQ(parts_then_drop(4), 1);

    for (int i = 0; i < 2; i++) {
        begin();
        constant("axes", ENG_INT64, 1, i ? minus : axes);
        node("ReduceMean", "x", "axes", "m", 0);
        node("Sub", "x", "m", "y", 0);
        CHECK_EQ(parts_then_drop(4), 1);
    }

    begin();
    set_int(node("Concat", "x", "x", "y", 1), "axis", 0);
    CHECK_EQ(parts_then_drop(4), 1);

    begin();
    node("Transpose", "x", NULL, "y", 0);
    CHECK_EQ(parts_then_drop(4), 1);
}

/* y = x * column, where the column has as many twos as there are items, or counts them by twos. */
static int64_t parts_of_a_column(bool counted)
{
    static int64_t zero[1] = {0}, shape[2] = {-1, 1};
    static float two[1] = {2};
    begin();
    node("Shape", "x", NULL, "sizes", 0);
    constant("zero", ENG_INT64, 1, zero);
    node("Gather", "sizes", "zero", "n", 0);
    constant("two", ENG_FLOAT, 1, two);
    constant("shape", ENG_INT64, 2, shape);
    node("Expand", "two", "n", "twos", 0);
    if (counted) node("CumSum", "twos", "zero", "counted", 0);
    node("Reshape", counted ? "counted" : "twos", "shape", "column", 0);
    node("Mul", "x", "column", "y", 0);
    return parts_then_drop(4);
}

TEST(values_that_follow_from_the_size_of_the_batch_keep_it_whole_unless_all_rows_are_the_same)
{
    CHECK_EQ(parts_of_a_column(false), 4);
    CHECK_EQ(parts_of_a_column(true), 1);
}

static void filter(const char *name, int64_t out, int64_t in, int64_t side)
{
    static float ones[64 * 16];
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 4, .dims = {out, in, side, side}, .data = ones};
    for (size_t i = 0; i < OD_COUNT(ones); i++) ones[i] = 1;
    CHECK_OK(eng_graph_set_constant(model->graph, eng_graph_value(model->graph, name), &t, &st));
}

TEST(convolutions_that_run_as_one_do_not_keep_a_batch_whole)
{
    static int64_t shape[4] = {0, 16, 64, 128}, pads[4] = {1, 1, 1, 1};
    float data = 0;
    eng_tensor x = {.dtype = ENG_FLOAT, .rank = 2, .dims = {4, WIDTH}, .data = &data};
    begin();
    constant("shape", ENG_INT64, 4, shape);
    filter("points", 64, 16, 1);
    filter("depths", 64, 1, 3);
    node("Reshape", "x", "shape", "image", 0);
    node("Conv", "image", "points", "wide", 0);
    eng_node *n = node("Conv", "wide", "depths", "y", 2);
    set_int(n, "group", 64);
    n->attrs[1] = (eng_attr){.name = "pads", .kind = ENG_ATTR_INTS, .n = 4, .ints = pads};
    finish();
    CHECK_EQ(parts_of(4), 4);
    eng_plan *plan;
    CHECK_OK(eng_plan_acquire(&plan, model->graph, &x, NULL, &st));
    CHECK_EQ(plan->values[eng_graph_value(model->graph, "wide")]->where, ENG_AT_NOTHING);
    eng_plan_release(plan);
    eng_model_destroy(model);
}

TEST_MAIN
