/* Every line of the operator table against nodes that no exporter would write: too few inputs, too many,
 * left out ones, ranks and types that do not fit. Whatever comes of it must be an answer or a status. */
#include "engine/op.h"
#include "engine/session.h"
#include "tests/test.h"

enum { PORTS = 7, BYTES = 1 << 16 };

static char zeros[BYTES];

static const struct shape {
    int rank;
    int64_t dims[5];
} shapes[] = {{0, {0}}, {1, {2}}, {2, {2, 3}}, {3, {1, 2, 4}}, {4, {1, 2, 4, 4}}, {4, {0, 2, 4, 4}}, {5, {1, 2, 2, 2, 2}}};

static eng_dtype a_type(uint32_t mask, int which)
{
    static const eng_dtype usual[] = {ENG_FLOAT, ENG_INT64, ENG_UINT8, ENG_BOOL, ENG_FLOAT16, ENG_DOUBLE, ENG_INT32};
    for (size_t i = 0; i < OD_COUNT(usual); i++)
        if (mask & ENG_T(usual[i]) && which-- == 0) return usual[i];
    return ENG_FLOAT;
}

typedef struct attempt {
    const eng_op *op;
    int n_in, n_out, without; /* input `without` is left out */
    const struct shape *shape;
    eng_dtype first, rest;
    bool constant; /* all inputs but the first */
} attempt;

/* Build, finish and run a model of one node. What happens, happens. */
static void try_node(const attempt *t)
{
    eng_model *m = NULL;
    eng_session *s = NULL;
    eng_tensor inputs[PORTS] = {{0}}, outputs[PORTS];
    CHECK_OK(eng_model_create(&m, &st));
    eng_graph *g = m->graph;
    for (int d = 0; d < ENG_DOMAINS; d++) m->opset[d] = 28;
    eng_node *n = eng_graph_add_node(g, t->op->name, "n", t->n_in, t->n_out, 0);
    n->domain = t->op->domain;
    n->opset = t->op->since;
    int given = 0;
    for (int i = 0; i < t->n_in; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        n->in[i] = ENG_NONE;
        if (i == t->without) continue;
        int v = n->in[i] = eng_graph_value(g, name);
        eng_tensor x = {.dtype = i ? t->rest : t->first, .rank = t->shape->rank, .data = zeros};
        memcpy(x.dims, t->shape->dims, sizeof t->shape->dims);
        if (i && t->constant) {
            CHECK_OK(eng_graph_set_constant(g, v, &x, &st));
            continue;
        }
        g->values[v].dtype = x.dtype;
        g->values[v].rank = x.rank;
        memcpy(g->values[v].dims, x.dims, sizeof t->shape->dims);
        CHECK_OK(eng_graph_add_input(g, v, &st));
        inputs[given++] = x;
    }
    for (int k = 0; k < t->n_out; k++) {
        char name[16];
        snprintf(name, sizeof name, "y%d", k);
        n->out[k] = eng_graph_value(g, name);
        CHECK_OK(eng_graph_add_output(g, n->out[k], &st));
    }
    if (eng_model_finish(m, NULL, &st) == OD_OK && eng_session_create(&s, m, NULL, (size_t)1 << 28, &st) == OD_OK)
        eng_session_run(s, inputs, outputs, &st);
    eng_session_destroy(s);
    eng_model_destroy(m);
}

static void try_all(bool constant)
{
    for (int i = 0; i < eng_ops_count; i++) {
        const eng_op *op = &eng_ops[i];
        if (op->domain == ENG_DOMAIN_OWN) continue; /* made by passes, which check first */
        for (size_t s = 0; s < OD_COUNT(shapes); s++)
            for (int n_in = 0; n_in < PORTS; n_in++)
                for (int types = 0; types < 2; types++) {
                    attempt t = {.op = op, .n_in = n_in, .n_out = 1 + (n_in + (int)s) % 3, .without = ENG_NONE, .shape = &shapes[s],
                                 .first = a_type(op->types, types), .constant = constant};
                    t.rest = types ? ENG_INT64 : t.first;
                    try_node(&t);
                    if (n_in < 2) continue;
                    t.without = (n_in + (int)s) % n_in;
                    try_node(&t);
                }
    }
}

TEST(no_operator_is_brought_down_by_inputs_that_do_not_fit)
{
    try_all(false);
}

TEST(no_operator_is_brought_down_by_constants_that_do_not_fit)
{
    try_all(true);
}

TEST_MAIN
