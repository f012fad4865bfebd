/* Subgraphs: what a loop holds, how it ends. What operators compute is in test_control.py. */
#include "engine/session.h"
#include "tests/test.h"

static eng_model *model;
static eng_session *session;

static int value(eng_graph *g, const char *name, eng_dtype dtype, int rank, const int64_t *dims)
{
    int v = eng_graph_value(g, name);
    g->values[v].dtype = dtype;
    g->values[v].rank = rank;
    for (int i = 0; i < rank; i++) g->values[v].dims[i] = dims[i];
    return v;
}

static eng_node *node(eng_graph *g, const char *op, int n_in, const char *const *in, int n_out, const char *const *out,
                      int n_attrs)
{
    eng_node *n = eng_graph_add_node(g, op, op, n_in, n_out, n_attrs);
    n->opset = 17;
    for (int i = 0; i < n_in; i++) n->in[i] = in[i] ? eng_graph_value(g, in[i]) : ENG_NONE;
    for (int k = 0; k < n_out; k++) n->out[k] = eng_graph_value(g, out[k]);
    return n;
}

enum { WIDE = 4096 };

/* s = s + x, m times; with `idle` the body has no node at all and never ends by itself. */
static void build(bool idle)
{
    const int64_t wide = WIDE;
    CHECK_OK(eng_model_create(&model, &st));
    eng_graph *g = model->graph, *body = eng_graph_create(model, g, "body");
    CHECK_OK(eng_graph_add_input(g, value(g, "m", ENG_INT64, 0, NULL), &st));
    CHECK_OK(eng_graph_add_input(g, value(g, "s", ENG_FLOAT, 1, &wide), &st));
    CHECK_OK(eng_graph_add_input(body, value(body, "i", ENG_INT64, 0, NULL), &st));
    CHECK_OK(eng_graph_add_input(body, value(body, "c", ENG_BOOL, 0, NULL), &st));
    CHECK_OK(eng_graph_add_input(body, value(body, "t", ENG_FLOAT, 1, &wide), &st));
    if (!idle) node(body, "Add", 2, (const char *[]){"t", "s"}, 1, (const char *[]){"t2"}, 0);
    CHECK_OK(eng_graph_add_output(body, eng_graph_value(body, "c"), &st));
    CHECK_OK(eng_graph_add_output(body, eng_graph_value(body, idle ? "t" : "t2"), &st));
    static eng_graph *graphs[1];
    graphs[0] = body;
    eng_node *n = node(g, "Loop", 3, (const char *[]){"m", NULL, "s"}, 1, (const char *[]){"y"}, 1);
    n->attrs[0] = (eng_attr){.name = "body", .kind = ENG_ATTR_GRAPH, .n = 1, .graphs = graphs};
    CHECK_OK(eng_graph_add_output(g, eng_graph_value(g, "y"), &st));
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

static od_code run(int64_t trips, eng_tensor *out)
{
    static float s[WIDE];
    for (int i = 0; i < WIDE; i++) s[i] = (float)(i % 7);
    static int64_t m;
    m = trips;
    eng_tensor in[2] = {{.dtype = ENG_INT64, .data = &m}, {.dtype = ENG_FLOAT, .rank = 1, .dims = {WIDE}, .data = s}};
    return eng_session_run(session, in, out, &st);
}

TEST(a_long_loop_holds_no_more_than_a_short_one)
{
    eng_tensor out;
    build(false);
    CHECK_OK(run(4, &out));
    size_t few = eng_session_bytes(session);
    CHECK_OK(run(5000, &out));
    CHECK_EQ(eng_session_bytes(session), few);
    CHECK_NEAR(((float *)out.data)[6], 6 * 5001.0, 0);
    drop();
}

static bool after_a_while(void *arg)
{
    return ++*(int *)arg > 1000;
}

TEST(a_loop_without_end_can_be_cancelled)
{
    eng_tensor out;
    int asked = 0;
    build(true);
    eng_session_set_cancel(session, after_a_while, &asked);
    CHECK_CODE(run(INT64_MAX, &out), OD_CANCELLED);
    drop();
}

TEST(no_trips_give_the_initial_state)
{
    eng_tensor out;
    build(false);
    CHECK_OK(run(-3, &out));
    CHECK_NEAR(((float *)out.data)[6], 6, 0);
    drop();
}

TEST_MAIN
