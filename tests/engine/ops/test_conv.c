/* Conv as a whole network, against the definition in double: forms, groups, axes, epilogues, threads. */
#include "engine/session.h"
#include "tests/test.h"

typedef struct conv_case {
    int axes; /* spatial */
    int64_t items, channels, out, group;
    int64_t in[3], size[3], stride[3], dilation[3], before[3], after[3];
} conv_case;

static uint32_t seed = 1;

static float *randoms(int64_t n)
{
    float *p = malloc((size_t)(n + 1) * sizeof *p);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(seed >> 8) / (1 << 23) - 1.0f;
    }
    return p;
}

static int64_t product(int n, const int64_t *v)
{
    int64_t p = 1;
    for (int i = 0; i < n; i++) p *= v[i];
    return p;
}

static int64_t out_extent(const conv_case *k, int a)
{
    return (k->in[a] + k->before[a] + k->after[a] - (k->size[a] - 1) * k->dilation[a] - 1) / k->stride[a] + 1;
}

/* Element `at` (item, channel, position) of the result before an activation. */
static double definition(const conv_case *k, const float *x, const float *w, const float *b, int64_t item, int64_t o, const int64_t *at)
{
    int64_t per = k->channels / k->group, taps = product(k->axes, k->size), area = product(k->axes, k->in);
    double sum = (double)b[o];
    for (int64_t t = 0; t < taps; t++) {
        int64_t rest = t, from = 0, step = 1;
        bool inside = true;
        for (int a = k->axes - 1; a >= 0; a--) {
            int64_t p = at[a] * k->stride[a] + rest % k->size[a] * k->dilation[a] - k->before[a];
            rest /= k->size[a];
            inside &= p >= 0 && p < k->in[a];
            from += p * step;
            step *= k->in[a];
        }
        for (int64_t c = 0; inside && c < per; c++) {
            int64_t channel = o / (k->out / k->group) * per + c;
            sum += (double)x[(item * k->channels + channel) * area + from] * (double)w[(o * per + c) * taps + t];
        }
    }
    return sum;
}

static eng_model *build(const conv_case *k, const float *w, const float *b, bool constant, const char *act)
{
    eng_model *m = NULL;
    CHECK_OK(eng_model_create(&m, &st));
    int values[3], rank = k->axes + 2;
    const char *names[3] = {"x", "w", "b"};
    eng_tensor t[3] = {{.dtype = ENG_FLOAT, .rank = rank, .dims = {k->items, k->channels}},
                       {.dtype = ENG_FLOAT, .rank = rank, .dims = {k->out, k->channels / k->group}, .data = (void *)(uintptr_t)w},
                       {.dtype = ENG_FLOAT, .rank = 1, .dims = {k->out}, .data = (void *)(uintptr_t)b}};
    for (int a = 0; a < k->axes; a++) {
        t[0].dims[2 + a] = k->in[a];
        t[1].dims[2 + a] = k->size[a];
    }
    for (int i = 0; i < 3; i++) {
        values[i] = eng_graph_value(m->graph, names[i]);
        eng_value *v = &m->graph->values[values[i]];
        v->dtype = ENG_FLOAT;
        v->rank = t[i].rank;
        memcpy(v->dims, t[i].dims, sizeof v->dims);
        if (i == 0 || (i == 1 && !constant)) CHECK_OK(eng_graph_add_input(m->graph, values[i], &st));
        else CHECK_OK(eng_graph_set_constant(m->graph, values[i], &t[i], &st));
    }
    int64_t *pads = malloc(6 * sizeof *pads);
    for (int a = 0; a < k->axes; a++) pads[a] = k->before[a], pads[k->axes + a] = k->after[a];
    eng_node *n = eng_graph_add_node(m->graph, "Conv", "conv", 3, 1, 4);
    n->opset = 17;
    for (int i = 0; i < 3; i++) n->in[i] = values[i];
    n->out[0] = eng_graph_value(m->graph, act ? "sum" : "y");
    n->attrs[0] = (eng_attr){.name = "group", .kind = ENG_ATTR_INT, .i = k->group};
    n->attrs[1] = (eng_attr){.name = "strides", .kind = ENG_ATTR_INTS, .n = k->axes, .ints = k->stride};
    n->attrs[2] = (eng_attr){.name = "dilations", .kind = ENG_ATTR_INTS, .n = k->axes, .ints = k->dilation};
    n->attrs[3] = (eng_attr){.name = "pads", .kind = ENG_ATTR_INTS, .n = 2 * k->axes, .ints = pads};
    if (act) {
        n = eng_graph_add_node(m->graph, act, "act", 1, 1, 0);
        n->opset = 17;
        n->in[0] = eng_graph_value(m->graph, "sum");
        n->out[0] = eng_graph_value(m->graph, "y");
    }
    CHECK_OK(eng_graph_add_output(m->graph, eng_graph_value(m->graph, "y"), &st));
    CHECK_OK(eng_model_finish(m, NULL, &st));
    free(pads);
    return m;
}

static void check_case(int number, const conv_case *k, bool constant, const char *act, od_pool *pool)
{
    int64_t taps = product(k->axes, k->size), outs[3] = {1, 1, 1};
    float *x = randoms(k->items * k->channels * product(k->axes, k->in)), *w = randoms(k->out * k->channels / k->group * taps);
    float *b = randoms(k->out), *keep = malloc((size_t)(k->out * k->channels / k->group * taps) * sizeof *keep);
    memcpy(keep, w, (size_t)(k->out * k->channels / k->group * taps) * sizeof *keep); /* packing may take constants away */
    for (int a = 0; a < k->axes; a++) outs[a] = out_extent(k, a);
    eng_model *m = build(k, w, b, constant, act);
    eng_session *one = NULL, *many = NULL;
    eng_tensor in[2] = {{.dtype = ENG_FLOAT, .rank = k->axes + 2, .dims = {k->items, k->channels}, .data = x},
                        {.dtype = ENG_FLOAT, .rank = k->axes + 2, .dims = {k->out, k->channels / k->group}, .data = w}};
    for (int a = 0; a < k->axes; a++) in[0].dims[2 + a] = k->in[a], in[1].dims[2 + a] = k->size[a];
    eng_tensor y, z;
    CHECK_OK(eng_session_create(&one, m, NULL, 0, &st));
    CHECK_OK(eng_session_create(&many, m, pool, 0, &st));
    CHECK_OK(eng_session_run(one, in, &y, &st));
    CHECK_OK(eng_session_run(many, in, &z, &st));
    int64_t area = product(k->axes, outs), count = k->items * k->out * area;
    CHECK_EQ(eng_tensor_count(&y), count);
    CHECK(!memcmp(y.data, z.data, (size_t)count * sizeof(float)));
    double scale = sqrt((double)(taps * k->channels / k->group)) + 1;
    for (int64_t i = 0; i < count; i++) {
        int64_t at[3] = {0}, rest = i % area;
        for (int a = k->axes - 1; a >= 0; a--) at[a] = rest % outs[a], rest /= outs[a];
        double want = definition(k, x, keep, b, i / area / k->out, i / area % k->out, at), got = (double)((float *)y.data)[i];
        if (act && !strcmp(act, "Relu")) want = want > 0 ? want : 0;
        if (act && !strcmp(act, "Tanh")) want = tanh(want);
        if (fabs(got - want) > 3e-6 * scale) TEST_FAIL("case %d, element %d is %g, wanted %g", number, (int)i, got, want);
    }
    eng_session_destroy(one);
    eng_session_destroy(many);
    eng_model_destroy(m);
    free(x), free(w), free(b), free(keep);
}

static const conv_case cases[] = {
    /* 1x1: in place, strided, padded */
    {2, 2, 20, 33, 1, {7, 5}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
    {2, 1, 17, 40, 1, {9, 9}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
    {2, 1, 5, 3, 1, {3, 4}, {1, 1}, {1, 1}, {1, 1}, {1, 2}, {0, 1}},
    /* 3x3: Winograd, strided, dilated, uneven padding */
    {2, 1, 32, 48, 1, {14, 14}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 2, 19, 21, 1, {11, 8}, {3, 3}, {1, 1}, {1, 1}, {0, 1}, {2, 1}},
    {2, 1, 24, 17, 1, {15, 13}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 16, 24, 1, {12, 12}, {3, 3}, {1, 1}, {2, 3}, {2, 3}, {2, 3}},
    /* few channels: lines, gaps between taps */
    {2, 1, 3, 32, 1, {33, 31}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
    {2, 2, 3, 20, 1, {30, 30}, {7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}},
    {2, 1, 3, 40, 1, {32, 32}, {4, 4}, {4, 4}, {1, 1}, {0, 0}, {0, 0}},
    {2, 1, 1, 8, 1, {12, 10}, {5, 3}, {1, 1}, {1, 1}, {4, 2}, {4, 2}},
    {2, 1, 4, 9, 1, {16, 16}, {3, 3}, {1, 1}, {1, 2}, {1, 2}, {1, 2}},
    /* groups: merged, wide, of odd sizes; some by Winograd */
    {2, 1, 64, 64, 16, {12, 12}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 2, 96, 96, 3, {13, 14}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 96, 120, 2, {9, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 32, 32, 8, {9, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 24, 12, 4, {8, 7}, {3, 3}, {2, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 64, 80, 2, {7, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 2, 15, 20, 5, {6, 6}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
    {2, 1, 36, 24, 12, {5, 5}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
    /* depthwise: strips of all lengths, strides, windows, several outputs a channel */
    {2, 1, 24, 24, 24, {15, 14}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 2, 37, 37, 37, {9, 23}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 16, 16, 16, {7, 5}, {5, 5}, {1, 1}, {1, 1}, {2, 2}, {2, 2}},
    {2, 1, 21, 21, 21, {16, 16}, {5, 5}, {2, 2}, {1, 1}, {2, 1}, {1, 2}},
    {2, 1, 8, 8, 8, {14, 14}, {7, 7}, {1, 1}, {1, 1}, {3, 3}, {3, 3}},
    {2, 1, 8, 8, 8, {13, 20}, {7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}},
    {2, 1, 10, 10, 10, {3, 3}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 12, 12, 12, {12, 17}, {3, 3}, {1, 1}, {2, 2}, {2, 2}, {2, 2}},
    {2, 1, 6, 6, 6, {20, 20}, {9, 11}, {1, 1}, {1, 1}, {4, 5}, {4, 5}},
    {2, 1, 6, 18, 6, {10, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 9, 9, 9, {30, 1}, {3, 1}, {1, 1}, {1, 1}, {1, 0}, {1, 0}},
    /* windows wider than the map: taps that only read padding */
    {2, 1, 20, 20, 1, {7, 7}, {3, 3}, {1, 1}, {12, 6}, {12, 6}, {12, 6}},
    {2, 1, 2, 12, 1, {9, 9}, {17, 17}, {1, 1}, {1, 1}, {8, 8}, {8, 8}},
    {2, 1, 3, 5, 1, {2, 3}, {3, 3}, {1, 2}, {1, 1}, {4, 5}, {4, 5}},
    {2, 1, 20, 20, 20, {5, 9}, {3, 3}, {1, 1}, {6, 6}, {6, 6}, {6, 6}},
    /* one and three axes */
    {3, 1, 1, 8, 1, {4, 10, 9}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
    {3, 1, 6, 6, 6, {5, 6, 9}, {5, 5, 9}, {1, 1, 1}, {1, 1, 1}, {2, 2, 4}, {2, 2, 4}},
    {1, 2, 12, 30, 1, {50}, {5}, {2}, {1}, {2}, {2}},
    {1, 1, 1, 16, 1, {64}, {10}, {5}, {1}, {0}, {0}},
    {1, 1, 40, 40, 40, {33}, {3}, {1}, {2}, {4}, {0}},
    {3, 1, 3, 18, 1, {5, 8, 9}, {3, 3, 3}, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
    {3, 1, 20, 20, 1, {4, 5, 6}, {3, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 0, 0}, {1, 0, 0}},
    {3, 1, 20, 20, 20, {4, 7, 8}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
    /* through Winograd's transforms: planes and lines of three axes, and windows that are not 3x3 */
    {3, 2, 32, 32, 1, {3, 9, 10}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}},
    {3, 2, 32, 48, 1, {3, 8, 9}, {1, 3, 3}, {1, 2, 2}, {1, 1, 1}, {0, 1, 0}, {0, 1, 2}},
    {3, 2, 32, 32, 1, {9, 5, 7}, {3, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 0, 0}, {1, 0, 0}},
    {3, 1, 32, 48, 1, {12, 6, 5}, {3, 1, 1}, {2, 1, 1}, {1, 1, 1}, {1, 0, 0}, {1, 0, 0}},
    {3, 1, 32, 32, 1, {9, 5, 7}, {3, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 0, 2}}, /* pixels that read padding alone */
    {2, 1, 32, 40, 1, {11, 13}, {5, 5}, {1, 1}, {1, 1}, {2, 2}, {2, 2}},
    {2, 2, 32, 32, 1, {17, 12}, {3, 3}, {1, 1}, {2, 2}, {2, 2}, {2, 2}},
    {1, 2, 48, 32, 1, {41}, {7}, {1}, {3}, {9}, {9}},
};

static void check_all(bool constant, const char *act)
{
    od_pool *pool = NULL;
    CHECK_OK(od_pool_create(&pool, 2, &st));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case((int)i, &cases[i], constant, act, pool);
    od_pool_destroy(pool);
}

TEST(constant_weights_give_the_definition) { check_all(true, NULL); }
TEST(weights_that_are_an_input_give_the_definition) { check_all(false, NULL); }
TEST(a_clamp_is_applied_once) { check_all(true, "Relu"); }
TEST(a_transcendental_activation_is_applied_once) { check_all(true, "Tanh"); }

TEST_MAIN
