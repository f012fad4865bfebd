/* Two products band by band: equal to each alone, whatever the sizes and threads, and only where nobody else reads what lies
 * between. */
#include "engine/ops/product.h"
#include "engine/plan.h"
#include "engine/session.h"
#include "tests/test.h"

typedef struct chain_case {
    int64_t items, rows, in, between, out; /* rows of an item; columns */
    const char *act;
    bool conv, scaled, residual; /* 1x1 convolutions of a map one pixel high; the rest of the block behind the second product */
} chain_case;

static float *randoms(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return x;
}

static int constant(eng_model *m, const char *name, const float *data, int rank, const int64_t *dims)
{
    int v = eng_graph_value(m->graph, name);
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = rank, .data = (void *)(uintptr_t)data};
    memcpy(t.dims, dims, (size_t)rank * sizeof *dims);
    CHECK_OK(eng_graph_set_constant(m->graph, v, &t, &st));
    return v;
}

static int apply(eng_model *m, const char *op, int a, int b, const char *to)
{
    eng_node *n = eng_graph_add_node(m->graph, op, to, b < 0 ? 1 : 2, 1, 0);
    n->opset = 20;
    n->in[0] = a;
    if (b >= 0) n->in[1] = b;
    return n->out[0] = eng_graph_value(m->graph, to);
}

static void output(eng_model *m, int v)
{
    CHECK_OK(eng_graph_add_output(m->graph, v, &st));
}

typedef struct chain_data {
    float *x, *w[2], *b[2], *scale;
} chain_data;

static chain_data data_of(const chain_case *k)
{
    return (chain_data){randoms(k->items * k->rows * k->in), {randoms(k->in * k->between), randoms(k->between * k->out)},
                        {randoms(k->between), randoms(k->out)}, randoms(k->out)};
}

/* y = scale * (act(x w0 + b0) w1 + b1) + x; what lies between is an output too, or read once more. */
static eng_model *build(const chain_case *k, const chain_data *d, bool shown, bool read)
{
    eng_model *m;
    CHECK_OK(eng_model_create(&m, &st));
    const char *op = k->conv ? "Conv" : "MatMul";
    const int rank = k->conv ? 4 : 2;
    const int64_t dims[4] = {k->items, k->conv ? k->in : k->rows, k->conv ? 1 : k->in, k->rows};
    int x = eng_graph_value(m->graph, "x");
    m->graph->values[x].dtype = ENG_FLOAT;
    m->graph->values[x].rank = rank == 4 ? 4 : 3;
    memcpy(m->graph->values[x].dims, dims, sizeof dims);
    CHECK_OK(eng_graph_add_input(m->graph, x, &st));
    int v = apply(m, op, x, constant(m, "w0", d->w[0], rank, k->conv ? (int64_t[]){k->between, k->in, 1, 1} : (int64_t[]){k->in, k->between}), "h0");
    v = apply(m, "Add", v, constant(m, "b0", d->b[0], k->conv ? 3 : 1, (int64_t[]){k->between, 1, 1}), "h1");
    if (k->act) v = apply(m, k->act, v, -1, "h2");
    const int between = v;
    v = apply(m, op, v, constant(m, "w1", d->w[1], rank, k->conv ? (int64_t[]){k->out, k->between, 1, 1} : (int64_t[]){k->between, k->out}), "y0");
    v = apply(m, "Add", v, constant(m, "b1", d->b[1], k->conv ? 3 : 1, (int64_t[]){k->out, 1, 1}), "y1");
    if (k->scaled) v = apply(m, "Mul", v, constant(m, "s", d->scale, 1, (int64_t[]){k->out}), "y2");
    if (k->residual) v = apply(m, "Add", v, x, "y3");
    output(m, v);
    if (shown) output(m, between);
    if (read) output(m, apply(m, "Abs", between, -1, "abs"));
    CHECK_OK(eng_model_finish(m, NULL, &st));
    return m;
}

static int left_steps(const eng_model *m, const eng_tensor *x)
{
    eng_plan *plan;
    int n = 0;
    CHECK_OK(eng_plan_build(&plan, m->graph, x, NULL, &st));
    for (int i = 0; i < plan->n_steps; i++) n += plan->steps[i].left;
    eng_plan_free(plan);
    return n;
}

static float *run(eng_model *m, const eng_tensor *x, od_pool *pool, int64_t *count)
{
    eng_session *s = NULL;
    eng_tensor y[2];
    CHECK_OK(eng_session_create(&s, m, pool, 0, &st));
    CHECK_OK(eng_session_run(s, x, y, &st));
    *count = eng_tensor_count(&y[0]);
    float *copy = malloc((size_t)*count * sizeof *copy);
    memcpy(copy, y[0].data, (size_t)*count * sizeof *copy);
    eng_session_destroy(s);
    return copy;
}

static void drop(eng_model *m, chain_data *d)
{
    eng_model_destroy(m);
    free(d->x), free(d->w[0]), free(d->w[1]), free(d->b[0]), free(d->b[1]), free(d->scale);
}

static eng_tensor input_of(const chain_case *k, const chain_data *d)
{
    eng_tensor x = {.dtype = ENG_FLOAT, .rank = k->conv ? 4 : 3, .dims = {k->items, k->conv ? k->in : k->rows, k->conv ? 1 : k->in, k->rows}, .data = d->x};
    return x;
}

static const chain_case joined[] = {
    {1, 3136, 96, 384, 96, "Gelu", false, true, true}, /* both by sums of halves */
    {2, 1501, 96, 384, 96, "Gelu", false, false, true},
    {1, 1585, 192, 768, 192, "Gelu", false, true, true},
    {1, 2663, 160, 640, 160, "Gelu", false, true, true}, /* the first one alone */
    {3, 1101, 40, 200, 24, "Relu", false, false, false},
    {1, 20001, 1, 33, 2, NULL, false, false, false},
    {1, 1307, 100, 1023, 65, "Tanh", false, false, false},
    {2, 1301, 64, 256, 64, "Relu", true, false, true},
    {1, 5999, 19, 125, 7, NULL, true, false, false},
};

TEST(bits_are_those_of_each_alone_on_any_number_of_threads)
{
    od_pool *pool = NULL;
    CHECK_OK(od_pool_create(&pool, 2, &st));
    for (size_t i = 0; i < OD_COUNT(joined); i++) {
        const chain_case *k = &joined[i];
        chain_data d = data_of(k), copy = d; /* packing may take constants away */
        copy.w[0] = memcpy(malloc((size_t)(k->in * k->between) * sizeof(float)), d.w[0], (size_t)(k->in * k->between) * sizeof(float));
        copy.w[1] = memcpy(malloc((size_t)(k->between * k->out) * sizeof(float)), d.w[1], (size_t)(k->between * k->out) * sizeof(float));
        eng_model *together = build(k, &d, false, false), *apart = build(k, &copy, true, false);
        const eng_tensor x = input_of(k, &d);
        int64_t count, other;
        CHECK_EQ(left_steps(together, &x), 1);
        CHECK_EQ(left_steps(apart, &x), 0);
        float *y = run(together, &x, NULL, &count), *z = run(together, &x, pool, &other), *want = run(apart, &x, NULL, &other);
        CHECK_EQ(count, k->items * k->rows * k->out);
        CHECK_EQ(other, count);
        CHECK(!memcmp(y, z, (size_t)count * sizeof *y));
        for (int64_t j = 0; j < count; j++)
            if (y[j] != want[j]) TEST_FAIL("case %d, element %d is %g, alone %g", (int)i, (int)j, (double)y[j], (double)want[j]);
        free(y), free(z), free(want), free(copy.w[0]), free(copy.w[1]);
        eng_model_destroy(apart);
        drop(together, &d);
    }
    od_pool_destroy(pool);
}

static const chain_case alone[] = {
    {1, 1600, 96, 384, 96, "Gelu", false, true, true},  /* little between */
    {1, 784, 192, 768, 192, "Gelu", false, true, true}, /* much of weights, beside it */
    {1, 1568, 384, 1536, 384, NULL, false, false, true}, /* and beside the cache */
};

static void check_alone(const chain_case *k, bool read)
{
    chain_data d = data_of(k);
    const eng_tensor x = input_of(k, &d);
    eng_model *m = build(k, &d, false, read);
    CHECK_EQ(left_steps(m, &x), 0);
    drop(m, &d);
}

TEST(where_it_does_not_pay_each_runs_alone)
{
    for (size_t i = 0; i < OD_COUNT(alone); i++) check_alone(&alone[i], false);
}

TEST(what_another_node_reads_is_made)
{
    check_alone(&joined[0], true);
}

TEST(a_plan_has_no_place_for_what_lies_between)
{
    const chain_case *k = &joined[0];
    chain_data d = data_of(k);
    const eng_tensor x = input_of(k, &d);
    eng_model *m = build(k, &d, false, false);
    eng_plan *plan;
    CHECK_OK(eng_plan_build(&plan, m->graph, &x, NULL, &st));
    CHECK(plan->scratch_bytes < (size_t)(k->rows * k->between) * sizeof(float));
    eng_plan_free(plan);
    drop(m, &d);
}

TEST_MAIN
