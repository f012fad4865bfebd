/* Test cases that pass, differ, crash, hang, or are listed; and when two values are equal. */
#include "proto/onnx.pb-c.h"
#include "server/cli/cmd_verify.c"
#include "tests/test.h"

static const verify_options usual = {.threads = 1, .timeout_s = 20, .rtol = 1e-3, .atol = 1e-7};
static char root[] = "/tmp/onnxd_verify_XXXXXX";

/* ---- comparing ---------------------------------------------------------------------------- */

static eng_tensor floats(float *v, int64_t n)
{
    return (eng_tensor){.dtype = ENG_FLOAT, .rank = 1, .dims = {n}, .data = v};
}

static od_code compare_floats(float got, float want)
{
    eng_tensor g = floats(&got, 1), w = floats(&want, 1);
    return compare(&g, &w, &usual, &st);
}

TEST(numbers_may_differ_by_the_tolerance)
{
    CHECK_OK(compare_floats(1000.9f, 1000));
    CHECK_CODE(compare_floats(1001.1f, 1000), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "element 0 of 1 is 1001.09998, wanted 1000");
    CHECK_OK(compare_floats(5e-8f, 0));
    CHECK_CODE(compare_floats(2e-7f, 0), OD_BAD_VALUE);
}

TEST(what_is_no_number_equals_itself_only)
{
    CHECK_OK(compare_floats(NAN, NAN));
    CHECK_CODE(compare_floats(0, NAN), OD_BAD_VALUE);
    CHECK_CODE(compare_floats(NAN, 0), OD_BAD_VALUE);
    CHECK_OK(compare_floats(INFINITY, INFINITY));
    CHECK_CODE(compare_floats(-INFINITY, INFINITY), OD_BAD_VALUE);
    CHECK_CODE(compare_floats(1e30f, INFINITY), OD_BAD_VALUE);
}

TEST(shapes_and_types_must_be_equal)
{
    float v[2] = {0};
    eng_tensor a = floats(v, 2), b = floats(v, 1);
    CHECK_CODE(compare(&a, &b, &usual, &st), OD_BAD_SHAPE);
    CHECK_STR(st.msg, "float[2], wanted float[1]");
    b = a;
    b.dtype = ENG_INT32;
    CHECK_CODE(compare(&a, &b, &usual, &st), OD_BAD_SHAPE);
}

TEST(integers_and_strings_must_be_equal)
{
    int64_t i = 100000, j = 100001;
    eng_str s = {"ab", 2}, z = {"ac", 2};
    eng_tensor a = {.dtype = ENG_INT64, .data = &i}, b = {.dtype = ENG_INT64, .data = &j};
    CHECK_CODE(compare(&a, &b, &usual, &st), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "is 100000, wanted 100001");
    a = (eng_tensor){.dtype = ENG_STRING, .data = &s};
    b = (eng_tensor){.dtype = ENG_STRING, .data = &z};
    CHECK_OK(compare(&a, &a, &usual, &st));
    CHECK_CODE(compare(&a, &b, &usual, &st), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "'ab', wanted 'ac'");
}

TEST(sequences_are_compared_element_by_element)
{
    float one = 1, two = 2;
    eng_tensor a[] = {floats(&one, 1), floats(&two, 1)}, b[] = {floats(&one, 1), floats(&one, 1)};
    eng_tensor x = {.dtype = ENG_SEQUENCE, .rank = 1, .dims = {2}, .data = a}, y = x;
    CHECK_OK(compare(&x, &y, &usual, &st));
    y.data = b;
    CHECK_CODE(compare(&x, &y, &usual, &st), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "sequence[1]: element 0");
    y.dims[0] = 1;
    CHECK_CODE(compare(&x, &y, &usual, &st), OD_BAD_SHAPE);
}

/* ---- cases -------------------------------------------------------------------------------- */

static void put(const char *case_name, const char *file, const void *message)
{
    char path[256];
    uint8_t bytes[1024];
    snprintf(path, sizeof path, "%s/%s", root, case_name);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/test_data_set_0", root, case_name);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", root, case_name, file);
    FILE *f = fopen(path, "wb");
    CHECK(f && protobuf_c_message_get_packed_size(message) <= sizeof bytes);
    fwrite(bytes, protobuf_c_message_pack(message, bytes), 1, f);
    fclose(f);
}

static Onnx__ValueInfoProto value(const char *name)
{
    static Onnx__TypeProto__Tensor tensor = ONNX__TYPE_PROTO__TENSOR__INIT;
    static Onnx__TypeProto type = ONNX__TYPE_PROTO__INIT;
    Onnx__ValueInfoProto v = ONNX__VALUE_INFO_PROTO__INIT;
    tensor.has_elem_type = 1;
    tensor.elem_type = ENG_FLOAT;
    type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type.tensor_type = &tensor;
    v.name = (char *)(uintptr_t)name;
    v.type = &type;
    return v;
}

/* y = x + x on x = 2, said to give `wanted`. */
static const char *make_case(const char *name, float wanted)
{
    static char path[256];
    float two = 2;
    char *xx[] = {(char *)"x", (char *)"x"}, *y[] = {(char *)"y"};
    Onnx__NodeProto node = ONNX__NODE_PROTO__INIT, *nodes[] = {&node};
    Onnx__ValueInfoProto in = value("x"), out = value("y"), *ins[] = {&in}, *outs[] = {&out};
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[] = {&opset};
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    Onnx__TensorProto t = ONNX__TENSOR_PROTO__INIT;
    node.op_type = (char *)"Add";
    node.n_input = 2, node.input = xx;
    node.n_output = 1, node.output = y;
    graph.n_node = 1, graph.node = nodes;
    graph.n_input = 1, graph.input = ins;
    graph.n_output = 1, graph.output = outs;
    opset.has_version = model.has_ir_version = 1;
    opset.version = 13;
    model.ir_version = 8;
    model.n_opset_import = 1, model.opset_import = opsets;
    model.graph = &graph;
    t.has_data_type = 1;
    t.data_type = ENG_FLOAT;
    t.n_float_data = 1;
    t.float_data = &two;
    put(name, "model.onnx", &model);
    put(name, "test_data_set_0/input_0.pb", &t);
    t.float_data = &wanted;
    put(name, "test_data_set_0/output_0.pb", &t);
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

__attribute__((constructor)) static void make_root(void)
{
    if (!mkdtemp(root)) abort();
}

__attribute__((destructor)) static void remove_root(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", root);
    if (system(command)) abort();
}

TEST(a_case_passes_or_tells_what_differs)
{
    CHECK_OK(run_apart(make_case("good", 4), &usual, &st));
    CHECK_CODE(run_apart(make_case("bad", 5), &usual, &st), OD_BAD_VALUE);
    CHECK_STR(st.msg, "test_data_set_0: output 0 'y': element 0 of 1 is 4, wanted 5");
}

TEST(a_case_has_its_own_tolerances)
{
    const char *folder = make_case("loose", 4.1f);
    char path[300];
    CHECK_CODE(run_apart(folder, &usual, &st), OD_BAD_VALUE);
    snprintf(path, sizeof path, "%s/data.json", folder);
    FILE *f = fopen(path, "w");
    fputs("{\"rtol\": 0.1, \"atol\": 0}", f);
    fclose(f);
    CHECK_OK(run_apart(folder, &usual, &st));
}

TEST(cases_without_data_fail)
{
    char path[300];
    const char *folder = make_case("empty", 4);
    snprintf(path, sizeof path, "%s/test_data_set_0/output_0.pb", folder);
    unlink(path);
    CHECK_CODE(run_apart(folder, &usual, &st), OD_NOT_FOUND);
    CHECK_HAS(st.msg, "no output_0.pb for 'y'");
    snprintf(path, sizeof path, "%s/test_data_set_0/input_0.pb", folder);
    unlink(path);
    CHECK_CODE(run_apart(folder, &usual, &st), OD_NOT_FOUND);
    CHECK_HAS(st.msg, "no input_0.pb for 'x'");
}

TEST(a_case_that_crashes_is_one_failure)
{
    int ends[2];
    CHECK(!pipe(ends));
    pid_t child = fork();
    if (!child) raise(SIGKILL); /* as a crash would, but without the sanitizers' handlers */
    close(ends[1]);
    CHECK_CODE(await_child(child, ends[0], 20, &st), OD_INTERNAL);
    CHECK_HAS(st.msg, "killed by signal 9");
    close(ends[0]);
    CHECK(!pipe(ends));
    child = fork();
    if (!child) _exit(7);
    close(ends[1]);
    CHECK_CODE(await_child(child, ends[0], 20, &st), OD_INTERNAL);
    CHECK_HAS(st.msg, "ended with exit code 7");
    close(ends[0]);
}

TEST(a_case_that_hangs_is_ended)
{
    int ends[2];
    CHECK(!pipe(ends));
    pid_t child = fork();
    if (!child) {
        for (;;) pause();
    }
    close(ends[1]);
    CHECK_CODE(await_child(child, ends[0], 1, &st), OD_TIMEOUT);
    CHECK_HAS(st.msg, "not done after 1 seconds");
    close(ends[0]);
}

TEST(listed_cases_are_skipped_and_must_fail)
{
    char list[300];
    verify_run r = {.options = usual};
    make_case("p1", 4);
    make_case("f1", 5);
    make_case("f2", 5);
    snprintf(list, sizeof list, "%s/list.txt", root);
    FILE *f = fopen(list, "w");
    fputs("# comment\n\nf1 known reason\np1\n", f);
    fclose(f);
    CHECK_OK(read_exceptions(&r, list, &st));
    CHECK_EQ(r.n_exceptions, 2);
    CHECK_STR(r.exceptions[0].reason, "known reason");
    static const char *const names[] = {"p1", "f1", "f2"};
    for (size_t i = 0; i < OD_COUNT(names); i++) {
        char folder[300];
        snprintf(folder, sizeof folder, "%s/%s", root, names[i]);
        CHECK_OK(collect(&r, folder, 0, &st));
        verify_case(&r, folder);
    }
    CHECK_EQ(r.skipped, 1);
    CHECK_EQ(r.failed, 2); /* f2, and p1, which passes although it is listed */
    CHECK_EQ(r.n_cases, 3);
    free_run(&r);
}

TEST(folders_are_searched_and_must_be_there)
{
    verify_run r = {.options = usual};
    make_case("deep", 4);
    CHECK_OK(collect(&r, root, 0, &st));
    CHECK(r.n_cases >= 1);
    CHECK_CODE(collect(&r, "/nowhere", 0, &st), OD_IO);
    CHECK_CODE(read_exceptions(&r, "/nowhere/list", &st), OD_IO);
    free_run(&r);
}

TEST(command_lines_that_are_wrong_give_2)
{
    char *none[] = {(char *)"verify", NULL}, *unknown[] = {(char *)"verify", (char *)"--foo", NULL};
    CHECK_EQ(srv_cmd_verify(1, none), 2);
    CHECK_EQ(srv_cmd_verify(2, unknown), 2);
}

TEST_MAIN
