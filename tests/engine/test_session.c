/* Sessions: plans per shape, layouts, in-place steps, defaults, bad inputs. */
#include "engine/session.h"
#include "tests/test.h"

#include <malloc.h>

static eng_model *model;
static eng_session *session;

static int value(const char *name, eng_dtype dtype, int rank, const int64_t *dims)
{
    int v = eng_graph_value(model->graph, name);
    eng_value *value = &model->graph->values[v];
    value->dtype = dtype;
    value->rank = rank;
    for (int i = 0; i < rank; i++) value->dims[i] = dims[i];
    return v;
}

static eng_node *node(const char *op, const char *name, int n_in, const char *const *in, const char *out)
{
    eng_node *n = eng_graph_add_node(model->graph, op, name, n_in, 1, 0);
    n->opset = 17;
    for (int i = 0; i < n_in; i++) n->in[i] = eng_graph_value(model->graph, in[i]);
    n->out[0] = eng_graph_value(model->graph, out);
    return n;
}

/* y = relu(x + c) + x, x of [N, 3] */
static void build(void)
{
    static float c[3] = {-1, 0, 1};
    eng_tensor constant = {.dtype = ENG_FLOAT, .rank = 1, .dims = {3}, .data = c};
    CHECK_OK(eng_model_create(&model, &st));
    int x = value("x", ENG_FLOAT, 2, (int64_t[]){-1, 3});
    CHECK_OK(eng_graph_add_input(model->graph, x, &st));
    CHECK_OK(eng_graph_set_constant(model->graph, eng_graph_value(model->graph, "c"), &constant, &st));
    node("Add", "add", 2, (const char *[]){"x", "c"}, "s");
    node("Relu", "relu", 1, (const char *[]){"s"}, "r");
    node("Add", "add2", 2, (const char *[]){"r", "x"}, "y");
    CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, "y"), &st));
}

static void finish(void)
{
    CHECK_OK(eng_model_finish(model, NULL, &st));
    CHECK_OK(eng_session_create(&session, model, NULL, 0, &st));
}

static void drop(void)
{
    eng_session_destroy(session);
    eng_model_destroy(model);
    session = NULL;
    model = NULL;
}

TEST(a_network_runs_at_several_batch_sizes)
{
    float x[12] = {1, 2, 3, -4, -5, -6, 0, 0, 0, 7, -1, 2};
    build();
    finish();
    for (int round = 0; round < 3; round++) {
        for (int64_t n = 1; n <= 4; n++) {
            eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {n, 3}, .data = x}, out;
            CHECK_OK(eng_session_run(session, &in, &out, &st));
            CHECK_EQ(out.rank, 2);
            CHECK_EQ(out.dims[0], n);
            for (int64_t i = 0; i < n * 3; i++) {
                float s = x[i] + (float)(i % 3 - 1);
                CHECK_NEAR(((float *)out.data)[i], (s > 0 ? s : 0) + x[i], 0);
            }
        }
    }
    drop();
}

TEST(inputs_that_do_not_fit_are_named)
{
    float x[4] = {0};
    int64_t whole[3] = {0};
    eng_tensor out;
    build();
    finish();
    eng_tensor wide = {.dtype = ENG_FLOAT, .rank = 2, .dims = {1, 4}, .data = x};
    CHECK_CODE(eng_session_run(session, &wide, &out, &st), OD_BAD_SHAPE);
    CHECK_HAS(st.msg, "input 'x' is float[1,4], the model takes float[-1,3]");
    eng_tensor ints = {.dtype = ENG_INT64, .rank = 2, .dims = {1, 3}, .data = whole};
    CHECK_CODE(eng_session_run(session, &ints, &out, &st), OD_BAD_TYPE);
    eng_tensor none = {.dtype = ENG_FLOAT};
    CHECK_CODE(eng_session_run(session, &none, &out, &st), OD_BAD_ARGUMENT);
    CHECK_HAS(st.msg, "missing");
    eng_tensor good = {.dtype = ENG_FLOAT, .rank = 2, .dims = {1, 3}, .data = x};
    CHECK_OK(eng_session_run(session, &good, &out, &st)); /* still usable */
    drop();
}

TEST(an_empty_batch_gives_an_empty_answer)
{
    float x[1] = {0};
    eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {0, 3}, .data = x}, out;
    build();
    finish();
    CHECK_OK(eng_session_run(session, &in, &out, &st));
    CHECK_EQ(eng_tensor_count(&out), 0);
    CHECK(out.data != NULL);
    drop();
}

TEST(a_memory_limit_is_kept)
{
    static float x[3 * 100000];
    eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {100000, 3}, .data = x}, out;
    build();
    CHECK_OK(eng_model_finish(model, NULL, &st));
    CHECK_OK(eng_session_create(&session, model, NULL, 100000, &st));
    CHECK_CODE(eng_session_run(session, &in, &out, &st), OD_NO_MEMORY);
    in.dims[0] = 10;
    CHECK_OK(eng_session_run(session, &in, &out, &st));
    drop();
}

TEST(plans_beyond_the_cache_still_run)
{
    static float x[3 * 64];
    build();
    finish();
    for (int64_t n = 1; n <= 64; n++) {
        eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {n, 3}, .data = x}, out;
        CHECK_OK(eng_session_run(session, &in, &out, &st));
    }
    drop();
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

TEST(a_thousand_shapes_take_no_more_memory_than_a_hundred)
{
    static float x[3 * 1100];
    size_t before = 0;
    build();
    finish();
    for (int i = 1; i <= 1100; i++) { /* every one of them needs a plan; a few are kept */
        eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {i % 100 * 11 + i / 100, 3}, .data = x}, out;
        CHECK_OK(eng_session_run(session, &in, &out, &st));
        CHECK_EQ(out.dims[0], in.dims[0]);
        if (i == 100) before = mallinfo2().uordblks + mallinfo2().hblkhd;
    }
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    CHECK(after < before + (1 << 20));
    drop();
}

TEST(a_run_can_be_cancelled)
{
    float x[3] = {0};
    eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {1, 3}, .data = x}, out;
    build();
    finish();
    eng_session_set_cancel(session, always, NULL);
    CHECK_CODE(eng_session_run(session, &in, &out, &st), OD_CANCELLED);
    drop();
}

TEST(a_default_input_may_be_left_out)
{
    static float c[3] = {5, 5, 5};
    float x[3] = {1, 2, 3};
    eng_tensor constant = {.dtype = ENG_FLOAT, .rank = 1, .dims = {3}, .data = c}, out;
    CHECK_OK(eng_model_create(&model, &st));
    CHECK_OK(eng_graph_add_input(model->graph, value("x", ENG_FLOAT, 1, (int64_t[]){3}), &st));
    int d = value("d", ENG_FLOAT, 1, (int64_t[]){3});
    CHECK_OK(eng_graph_add_input(model->graph, d, &st));
    CHECK_OK(eng_graph_set_constant(model->graph, d, &constant, &st));
    node("Add", "add", 2, (const char *[]){"x", "d"}, "y");
    CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, "y"), &st));
    finish();
    eng_tensor in[2] = {{.dtype = ENG_FLOAT, .rank = 1, .dims = {3}, .data = x}, {.dtype = ENG_FLOAT}};
    CHECK_OK(eng_session_run(session, in, &out, &st));
    CHECK_NEAR(((float *)out.data)[2], 8, 0);
    in[1] = in[0]; /* a request replaces it */
    CHECK_OK(eng_session_run(session, in, &out, &st));
    CHECK_NEAR(((float *)out.data)[2], 6, 0);
    drop();
}

TEST(a_cycle_is_refused_by_name)
{
    CHECK_OK(eng_model_create(&model, &st));
    CHECK_OK(eng_graph_add_input(model->graph, value("x", ENG_FLOAT, 1, (int64_t[]){3}), &st));
    node("Add", "first", 2, (const char *[]){"x", "b"}, "a");
    node("Relu", "second", 1, (const char *[]){"a"}, "b");
    CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, "b"), &st));
    CHECK_CODE(eng_model_finish(model, NULL, &st), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "cycle");
    drop();
}

TEST(a_value_nobody_makes_is_refused_by_name)
{
    CHECK_OK(eng_model_create(&model, &st));
    CHECK_OK(eng_graph_add_input(model->graph, value("x", ENG_FLOAT, 1, (int64_t[]){3}), &st));
    node("Add", "sum", 2, (const char *[]){"x", "nowhere"}, "y");
    CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, "y"), &st));
    CHECK_CODE(eng_model_finish(model, NULL, &st), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "'nowhere'");
    drop();
}

TEST(all_unknown_operators_are_named_at_once)
{
    CHECK_OK(eng_model_create(&model, &st));
    CHECK_OK(eng_graph_add_input(model->graph, value("x", ENG_FLOAT, 1, (int64_t[]){3}), &st));
    node("Frobnicate", "f", 1, (const char *[]){"x"}, "a");
    node("Gyre", "g", 1, (const char *[]){"a"}, "b");
    CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, "b"), &st));
    CHECK_CODE(eng_model_finish(model, NULL, &st), OD_UNSUPPORTED);
    CHECK_HAS(st.msg, "Frobnicate");
    CHECK_HAS(st.msg, "Gyre");
    drop();
}

TEST(two_makers_of_one_value_are_refused)
{
    CHECK_OK(eng_model_create(&model, &st));
    CHECK_OK(eng_graph_add_input(model->graph, value("x", ENG_FLOAT, 1, (int64_t[]){3}), &st));
    node("Relu", "one", 1, (const char *[]){"x"}, "y");
    node("Abs", "two", 1, (const char *[]){"x"}, "y");
    CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, "y"), &st));
    CHECK_CODE(eng_model_finish(model, NULL, &st), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "made twice");
    drop();
}

TEST(a_node_with_fewer_inputs_than_its_operator_takes_is_refused)
{
    const char *const ops[] = {"Div", "Mul", "Add", "MatMul", "Conv", "Gemm", "Where", "ReduceMean"};
    for (size_t i = 0; i < OD_COUNT(ops); i++) {
        CHECK_OK(eng_model_create(&model, &st));
        CHECK_OK(eng_graph_add_input(model->graph, value("x", ENG_FLOAT, 2, (int64_t[]){-1, 3}), &st));
        node("Relu", "relu", 1, (const char *[]){"x"}, "r");
        node(ops[i], "short", 1, (const char *[]){"r"}, "y");
        CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, "y"), &st));
        if (eng_model_finish(model, NULL, &st) == OD_OK && eng_session_create(&session, model, NULL, 0, &st) == OD_OK) {
            float x[3] = {1, 2, 3};
            eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {1, 3}, .data = x}, out;
            od_code rc = eng_session_run(session, &in, &out, &st);
            CHECK(rc != OD_OK || !strcmp(ops[i], "ReduceMean")); /* which reduces all axes */
        }
        drop();
    }
}

TEST_MAIN
