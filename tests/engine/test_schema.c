/* Nodes against what their operators may have. */
#include "engine/schema.h"
#include "tests/test.h"

static eng_model *model;

static eng_node *node(const char *op, int opset, int n_in, int n_out, int n_attrs)
{
    CHECK_OK(eng_model_create(&model, &st));
    eng_node *n = eng_graph_add_node(model->graph, op, "n", n_in, n_out, n_attrs);
    n->opset = opset;
    for (int i = 0; i < n_in; i++) n->in[i] = eng_graph_value(model->graph, "x");
    for (int i = 0; i < n_out; i++) n->out[i] = eng_graph_value(model->graph, "y");
    return n;
}

static void refused(const eng_node *n, const char *why)
{
    CHECK_EQ(eng_schema_check(n, &st), OD_BAD_MODEL);
    CHECK_STR(st.msg, why);
    eng_model_destroy(model);
}

static void accepted(const eng_node *n)
{
    CHECK_OK(eng_schema_check(n, &st));
    eng_model_destroy(model);
}

TEST(inputs_and_outputs_are_counted)
{
    refused(node("Relu", 14, 2, 1, 0), "2 inputs, wanted 1");
    refused(node("Conv", 11, 4, 1, 0), "4 inputs, wanted 2 to 3");
    refused(node("Concat", 13, 0, 1, 0), "0 inputs, wanted at least 1");
    refused(node("Add", 14, 2, 2, 0), "2 outputs, wanted 1");
    refused(node("MaxPool", 12, 1, 3, 0), "3 outputs, wanted 1 to 2");
    accepted(node("Sum", 13, 400, 1, 0));
}

TEST(omitted_ones_at_the_end_do_not_count)
{
    eng_node *n = node("Relu", 14, 3, 1, 0);
    n->in[1] = n->in[2] = ENG_NONE;
    accepted(n);
    n = node("Clip", 13, 3, 1, 0);
    n->in[1] = ENG_NONE; /* in between they do */
    accepted(n);
}

TEST(attributes_are_of_the_kind_that_the_operator_reads)
{
    eng_node *n = node("MaxPool", 12, 1, 1, 1);
    n->attrs[0] = (eng_attr){.name = "kernel_shape", .kind = ENG_ATTR_FLOAT, .f = 3};
    refused(n, "attribute 'kernel_shape' is a float, wanted a list of integers");
    n = node("Softmax", 13, 1, 1, 1);
    n->attrs[0] = (eng_attr){.name = "axis", .kind = ENG_ATTR_STRING, .s = {"last", 4}};
    refused(n, "attribute 'axis' is a string, wanted an integer");
    n = node("LeakyRelu", 16, 1, 1, 1);
    n->attrs[0] = (eng_attr){.name = "alpha", .kind = ENG_ATTR_INT, .i = 1};
    refused(n, "attribute 'alpha' is an integer, wanted a float");
    n = node("Transpose", 13, 1, 1, 1);
    n->attrs[0] = (eng_attr){.name = "perm", .kind = ENG_ATTR_FLOATS};
    accepted(n); /* an empty list says nothing of its kind */
}

TEST(attributes_that_an_operator_does_not_have_are_refused)
{
    eng_node *n = node("Conv", 11, 2, 1, 1);
    n->attrs[0] = (eng_attr){.name = "kernel_shap", .kind = ENG_ATTR_INTS};
    refused(n, "attribute 'kernel_shap' is none of this operator's");
    n = node("Conv", 11, 2, 1, 1);
    n->attrs[0] = (eng_attr){.name = "__note", .kind = ENG_ATTR_INTS};
    accepted(n);
}

TEST(attributes_that_must_be_there_are_missed)
{
    refused(node("Concat", 13, 2, 1, 0), "attribute 'axis' is missing");
    refused(node("MaxPool", 12, 1, 1, 0), "attribute 'kernel_shape' is missing");
}

TEST(the_opset_says_which_form_is_meant)
{
    eng_node *n = node("Squeeze", 11, 1, 1, 1);
    n->attrs[0] = (eng_attr){.name = "axes", .kind = ENG_ATTR_INTS};
    accepted(n);
    n = node("Squeeze", 13, 1, 1, 1);
    n->attrs[0] = (eng_attr){.name = "axes", .kind = ENG_ATTR_INTS};
    refused(n, "attribute 'axes' is none of this operator's");
    refused(node("Squeeze", 11, 2, 1, 0), "2 inputs, wanted 1");
}

TEST(an_operator_without_a_line_may_have_anything)
{
    accepted(node("Crop", 1, 5, 5, 0));
    accepted(node("Nobody", 1, 5, 5, 0));
    accepted(node("", 1, 5, 5, 0));
}

TEST_MAIN
