/* Whole models, packed here as they come in files: what loads, what runs, and what is refused how. */
#include "loaders/onnx/load.c" /* for load_file */
#include "engine/session.h"
#include "proto/onnx.pb-c.h"
#include "tests/test.h"

#include <sys/mman.h>

enum { LIST_MAX = 8 };

/* ---- building messages: a model of one graph, with room for what a test adds ----------------- */

static Onnx__ModelProto model;
static Onnx__GraphProto graph;
static Onnx__OperatorSetIdProto opset, *opsets[LIST_MAX];
static od_arena arena;
static eng_model *loaded;

static void *make(const ProtobufCMessageDescriptor *d)
{
    void *m = od_arena_zalloc(&arena, d->sizeof_message);
    protobuf_c_message_init(d, m);
    return m;
}

#define MAKE(type) make(&onnx__##type##__descriptor)

/* Append to a repeated field of pointers. */
static void append(size_t *n, void *list, void *item)
{
    void **old = *(void ***)list, **more = od_arena_alloc(&arena, (*n + 1) * sizeof *more);
    if (*n) memcpy(more, old, *n * sizeof *more);
    more[(*n)++] = item;
    *(void ***)list = more;
}

#define APPEND(message, field, item) append(&(message)->n_##field, &(message)->field, item)

static char *text(const char *s)
{
    return od_arena_strdup(&arena, s, strlen(s));
}

static void new_model(void)
{
    eng_model_destroy(loaded);
    loaded = NULL;
    model = (Onnx__ModelProto)ONNX__MODEL_PROTO__INIT;
    graph = (Onnx__GraphProto)ONNX__GRAPH_PROTO__INIT;
    opset = (Onnx__OperatorSetIdProto)ONNX__OPERATOR_SET_ID_PROTO__INIT;
    opset.has_version = 1;
    opset.version = 13;
    opsets[0] = &opset;
    model.has_ir_version = 1;
    model.ir_version = 8;
    model.n_opset_import = 1;
    model.opset_import = opsets;
    model.graph = &graph;
}

static Onnx__ValueInfoProto *new_value(const char *name, int type, int rank, const int64_t *dims)
{
    Onnx__ValueInfoProto *v = MAKE(value_info_proto);
    v->name = text(name);
    v->type = MAKE(type_proto);
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    v->type->tensor_type = MAKE(type_proto__tensor);
    v->type->tensor_type->has_elem_type = 1;
    v->type->tensor_type->elem_type = type;
    v->type->tensor_type->shape = MAKE(tensor_shape_proto);
    for (int i = 0; i < rank; i++) {
        Onnx__TensorShapeProto__Dimension *d = MAKE(tensor_shape_proto__dimension);
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        d->dim_value = dims[i];
        APPEND(v->type->tensor_type->shape, dim, d);
    }
    return v;
}

static void add_input(const char *name)
{
    APPEND(&graph, input, new_value(name, ENG_FLOAT, 1, (int64_t[]){2}));
}

static void add_output(const char *name)
{
    APPEND(&graph, output, new_value(name, ENG_FLOAT, 1, (int64_t[]){2}));
}

/* "a,b" into names. */
static void add_names(size_t *n, char ***list, const char *names)
{
    while (*names) {
        size_t len = strcspn(names, ",");
        append(n, list, od_arena_strdup(&arena, names, len));
        names += len + (names[len] == ',');
    }
}

static Onnx__NodeProto *new_node(const char *op, const char *inputs, const char *outputs)
{
    Onnx__NodeProto *n = MAKE(node_proto);
    n->op_type = text(op);
    n->name = text("n");
    add_names(&n->n_input, &n->input, inputs);
    add_names(&n->n_output, &n->output, outputs);
    return n;
}

static Onnx__NodeProto *add_node(const char *op, const char *inputs, const char *outputs)
{
    Onnx__NodeProto *n = new_node(op, inputs, outputs);
    APPEND(&graph, node, n);
    return n;
}

static Onnx__TensorProto *new_floats(const char *name, int count, const float *v)
{
    Onnx__TensorProto *t = MAKE(tensor_proto);
    t->name = text(name);
    t->has_data_type = 1;
    t->data_type = ENG_FLOAT;
    t->n_dims = 1;
    t->dims = od_arena_alloc(&arena, sizeof(int64_t));
    t->dims[0] = count;
    t->has_raw_data = 1;
    t->raw_data.len = (size_t)count * sizeof *v;
    t->raw_data.data = od_arena_alloc(&arena, t->raw_data.len);
    memcpy(t->raw_data.data, v, t->raw_data.len);
    return t;
}

static Onnx__AttributeProto *add_attr(Onnx__NodeProto *n, const char *name, int type)
{
    Onnx__AttributeProto *a = MAKE(attribute_proto);
    a->name = text(name);
    a->has_type = 1;
    a->type = (Onnx__AttributeProto__AttributeType)type;
    APPEND(n, attribute, a);
    return a;
}

static Onnx__AttributeProto *add_float_attr(Onnx__NodeProto *n, const char *name, float f)
{
    Onnx__AttributeProto *a = add_attr(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    a->has_f = 1;
    a->f = f;
    return a;
}

/* y = x + w, w = (10, 20) */
static void sum_model(void)
{
    new_model();
    add_input("x");
    add_output("y");
    APPEND(&graph, initializer, new_floats("w", 2, (float[]){10, 20}));
    add_node("Add", "x,w", "y");
}

static size_t pack(uint8_t **bytes)
{
    size_t size = onnx__model_proto__get_packed_size(&model);
    *bytes = od_arena_alloc(&arena, size + 1);
    onnx__model_proto__pack(&model, *bytes);
    return size;
}

static od_code load(void)
{
    uint8_t *bytes;
    size_t size = pack(&bytes);
    eng_model_destroy(loaded);
    loaded = NULL;
    return ldr_onnx_load_bytes(bytes, size, NULL, NULL, &loaded, &st);
}

/* Run the loaded model on (x0, x1) and give its first output's two numbers. */
static od_code run(float x0, float x1, float *y)
{
    eng_session *s = NULL;
    float x[] = {x0, x1};
    eng_tensor in[LIST_MAX] = {{.dtype = ENG_FLOAT, .rank = 1, .dims = {2}, .data = x}}, out[LIST_MAX];
    OD_TRY(eng_session_create(&s, loaded, NULL, 0, &st));
    od_code rc = eng_session_run(s, in, out, &st);
    if (rc == OD_OK) memcpy(y, out[0].data, 2 * sizeof *y);
    eng_session_destroy(s);
    return rc;
}

#define CHECK_LOAD(code, part)                                                                  \
    do {                                                                                        \
        CHECK_CODE(load(), code);                                                               \
        CHECK_HAS(st.msg, part);                                                                \
    } while (0)

/* ---- what loads --------------------------------------------------------------------------- */

TEST(a_model_loads_and_runs)
{
    float y[2];
    sum_model();
    CHECK_OK(load());
    CHECK_EQ(loaded->graph->n_inputs, 1);
    CHECK_EQ(loaded->opset[ENG_DOMAIN_ONNX], 13);
    CHECK_OK(run(1, 2, y));
    CHECK_NEAR(y[0], 11, 0);
    CHECK_NEAR(y[1], 22, 0);
}

TEST(a_model_loads_from_a_file_too)
{
    char path[] = "/tmp/onnxd_model_XXXXXX";
    uint8_t *bytes;
    float y[2];
    sum_model();
    size_t size = pack(&bytes);
    int fd = mkstemp(path);
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    close(fd);
    od_code rc = ldr_onnx_load(path, NULL, &loaded, &st);
    unlink(path);
    CHECK_OK(rc);
    CHECK_OK(run(1, 2, y));
    CHECK_NEAR(y[1], 22, 0);
}

/* A tensor of rows x columns, too large to be read before it is wanted; its last number is `last`. */
static Onnx__TensorProto *new_matrix(const char *name, int rows, int columns, float last)
{
    float *v = od_arena_alloc(&arena, (size_t)(rows * columns) * sizeof *v);
    for (int i = 0; i < rows * columns; i++) v[i] = (float)(i % 7);
    v[rows * columns - 1] = last;
    Onnx__TensorProto *t = new_floats(name, rows * columns, v);
    t->n_dims = 2;
    t->dims = od_arena_alloc(&arena, 2 * sizeof *t->dims);
    t->dims[0] = rows;
    t->dims[1] = columns;
    return t;
}

enum { WIDE = 20000 };

/* y = x + what is left of large weights that are packed (A, and B scaled by a BatchNormalization), read by a node that packs none
 * (C), folded (D), and looked up (E). */
static void heavy_model(void)
{
    new_model();
    add_input("x");
    add_output("y");
    APPEND(&graph, initializer, new_matrix("A", 2, WIDE, 3));
    APPEND(&graph, initializer, new_matrix("B", WIDE, 2, 5));
    APPEND(&graph, initializer, new_matrix("C", 1, WIDE, 7));
    APPEND(&graph, initializer, new_matrix("D", WIDE, 2, 9));
    APPEND(&graph, initializer, new_matrix("E", WIDE, 2, 11));
    APPEND(&graph, initializer, new_floats("scale", 2, (float[]){0.5f, 2}));
    Onnx__TensorProto *row = new_floats("row", 1, (float[]){0});
    row->data_type = ENG_INT32;
    *(int32_t *)row->raw_data.data = WIDE - 1;
    APPEND(&graph, initializer, row);
    add_node("MatMul", "x,A", "a");
    add_node("Mul", "a,C", "c");
    add_node("MatMul", "c,B", "b");
    add_node("Mul", "b,scale", "s");
    add_node("Add", "D,D", "d");
    add_node("Gather", "d,row", "g");
    add_node("Identity", "row", "again");
    add_node("Gather", "E,again", "e");
    add_node("Add", "s,g", "t");
    add_node("Add", "t,e", "u");
    add_node("Reshape", "u,two", "y");
    Onnx__TensorProto *two = new_floats("two", 2, (float[]){0, 0});
    two->data_type = ENG_INT64;
    two->dims[0] = 1;
    *(int64_t *)two->raw_data.data = 2;
    APPEND(&graph, initializer, two);
}

TEST(weights_that_stay_in_the_file_until_they_are_wanted_are_those_of_the_file)
{
    char path[] = "/tmp/onnxd_model_XXXXXX";
    uint8_t *bytes;
    float want[2], y[2];
    heavy_model();
    size_t size = pack(&bytes);
    CHECK_OK(load());
    CHECK_OK(run(1, 2, want));
    eng_model_destroy(loaded);
    loaded = NULL;
    int fd = mkstemp(path);
    for (size_t hole_min = 1; hole_min <= LDR_HOLE_MIN; hole_min *= LDR_HOLE_MIN) {
        CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size);
        CHECK_OK(load_file(fd, hole_min, NULL, NULL, &loaded, &st));
        CHECK(!ftruncate(fd, 0)); /* what comes later needs no file */
        CHECK_OK(run(1, 2, y));
        CHECK_EQ(y[0], want[0]);
        CHECK_EQ(y[1], want[1]);
        eng_model_destroy(loaded);
        loaded = NULL;
    }
    close(fd);
    unlink(path);
}

TEST(files_that_are_none_are_refused)
{
    new_model();
    CHECK_CODE(ldr_onnx_load("/nowhere/model.onnx", NULL, &loaded, &st), OD_NOT_FOUND);
    CHECK_HAS(st.msg, "/nowhere/model.onnx: ");
    CHECK_CODE(ldr_onnx_load("/tmp", NULL, &loaded, &st), OD_BAD_MODEL);
    CHECK_CODE(ldr_onnx_load("/dev/null", NULL, &loaded, &st), OD_BAD_MODEL);
    CHECK_CODE(ldr_onnx_load_bytes("", 0, NULL, NULL, &loaded, &st), OD_BAD_MODEL);
    CHECK_CODE(ldr_onnx_load_bytes("hello", 5, NULL, NULL, &loaded, &st), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "not an ONNX");
}

TEST(metadata_and_names_are_kept)
{
    sum_model();
    Onnx__StringStringEntryProto *e = MAKE(string_string_entry_proto);
    e->key = text("names");
    e->value = text("{0: 'cat'}");
    APPEND(&model, metadata_props, e);
    model.producer_name = text("me");
    graph.input[0]->type->tensor_type->shape->dim[0]->value_case =
        ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    graph.input[0]->type->tensor_type->shape->dim[0]->dim_param = text("batch");
    CHECK_OK(load());
    CHECK_STR(loaded->info.producer, "me");
    CHECK_EQ(loaded->info.n_metadata, 1);
    CHECK_STR(loaded->info.metadata_values[0], "{0: 'cat'}");
    const eng_value *x = &loaded->graph->values[loaded->graph->inputs[0]];
    CHECK_STR(x->name, "x");
    CHECK_EQ(x->dims[0], -1);
    CHECK_STR(eng_dim_name(x, 0), "batch");
}

TEST(odd_offsets_of_weights_do_not_matter)
{
    static const char *const names[] = {"w", "ww", "www", "wwww", "wwwww"};
    for (size_t i = 0; i < OD_COUNT(names); i++) {
        float y[2];
        new_model();
        add_input("x");
        add_output("y");
        APPEND(&graph, initializer, new_floats(names[i], 2, (float[]){3, 4}));
        APPEND(&graph, initializer, new_floats("v", 2, (float[]){5, 6}));
        char inputs[16];
        snprintf(inputs, sizeof inputs, "x,%s", names[i]);
        add_node("Add", inputs, "s");
        add_node("Add", "s,v", "y");
        CHECK_OK(load());
        CHECK_OK(run(1, 2, y));
        CHECK_NEAR(y[0], 9, 0);
        CHECK_NEAR(y[1], 12, 0);
    }
}

TEST(initializers_that_are_inputs_are_defaults_since_ir_4)
{
    sum_model();
    add_input("w");
    CHECK_OK(load());
    CHECK_EQ(loaded->graph->n_inputs, 2);
    float y[2];
    CHECK_OK(run(1, 2, y));
    CHECK_NEAR(y[0], 11, 0);
    model.ir_version = 3;
    CHECK_OK(load());
    CHECK_EQ(loaded->graph->n_inputs, 1);
}

TEST(a_model_that_lists_every_initializer_as_an_input_has_no_defaults)
{
    static const char names[16][8] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"};
    for (int more = 0; more < 2; more++) {
        new_model();
        add_input("x");
        add_output("y");
        for (int i = 0; i < 16; i++) {
            APPEND(&graph, initializer, new_floats(names[i], 2, (float[]){1, 2}));
            add_input(names[i]);
        }
        if (more) APPEND(&graph, initializer, new_floats("hidden", 2, (float[]){1, 2}));
        add_node("Add", "x,a", "y");
        CHECK_OK(load());
        CHECK_EQ(loaded->graph->n_inputs, more ? 17 : 1);
    }
}

TEST(constants_are_known_before_the_model_runs)
{
    float y[2];
    new_model();
    add_input("x");
    add_output("y");
    Onnx__NodeProto *n = add_node("Constant", "", "c");
    Onnx__AttributeProto *a = add_attr(n, "value_floats", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS);
    a->n_floats = 2;
    a->floats = (float[]){5, 6};
    n = add_node("Constant", "", "d");
    add_float_attr(n, "value_float", 100);
    add_node("Add", "x,c", "s");
    add_node("Add", "s,d", "y");
    CHECK_OK(load());
    CHECK_OK(run(1, 2, y));
    CHECK_NEAR(y[0], 106, 0);
    CHECK_NEAR(y[1], 108, 0);
}

/* ---- functions ---------------------------------------------------------------------------- */

static Onnx__FunctionProto *add_function(const char *name, const char *inputs, const char *outputs)
{
    Onnx__FunctionProto *f = MAKE(function_proto);
    f->name = text(name);
    f->domain = text("own");
    add_names(&f->n_input, &f->input, inputs);
    add_names(&f->n_output, &f->output, outputs);
    APPEND(&model, functions, f);
    return f;
}

static Onnx__NodeProto *call(Onnx__NodeProto *n)
{
    n->domain = text("own");
    return n;
}

TEST(functions_are_inlined_with_attributes_and_defaults)
{
    float y[2];
    new_model();
    add_input("x");
    add_output("y");
    Onnx__FunctionProto *f = add_function("Leak", "a", "b");
    Onnx__NodeProto *inner = new_node("LeakyRelu", "a", "t");
    add_float_attr(inner, "alpha", 0)->ref_attr_name = text("slope");
    inner->attribute[0]->has_f = 0;
    APPEND(f, node, inner);
    APPEND(f, node, new_node("Add", "t,t", "b"));
    Onnx__AttributeProto *slope = MAKE(attribute_proto);
    slope->name = text("slope");
    slope->has_f = 1;
    slope->f = 0.5f;
    APPEND(f, attribute_proto, slope);
    call(add_node("Leak", "x", "m")); /* twice, so names inside must not meet */
    add_float_attr(call(add_node("Leak", "m", "y")), "slope", 0.25f);
    CHECK_OK(load());
    CHECK_OK(run(-1, 2, y));
    CHECK_NEAR(y[0], -0.5, 1e-6); /* -1 * 0.5 * 2 * 0.25 * 2 */
    CHECK_NEAR(y[1], 8, 0);
}

TEST(functions_may_call_functions_and_return_their_inputs)
{
    float y[2];
    new_model();
    add_input("x");
    add_output("y");
    Onnx__FunctionProto *f = add_function("Outer", "a", "b");
    APPEND(f, node, call(new_node("Inner", "a,a", "b,rest")));
    f = add_function("Inner", "p,q,r", "s,p");
    APPEND(f, node, new_node("Add", "p,q", "s"));
    call(add_node("Outer", "x", "y"));
    CHECK_OK(load());
    CHECK_OK(run(1, 2, y));
    CHECK_NEAR(y[1], 4, 0);
}

TEST(functions_that_call_themselves_are_refused)
{
    sum_model();
    Onnx__FunctionProto *f = add_function("Loop", "a", "b");
    APPEND(f, node, call(new_node("Loop", "a", "b")));
    call(add_node("Loop", "x", "z"));
    CHECK_LOAD(OD_TOO_LARGE, "function 'Loop': functions call each other more than 32 deep");
}

TEST(functions_that_explode_are_refused)
{
    sum_model();
    for (int i = 0; i < 30; i++) {
        char name[16], next[16];
        snprintf(name, sizeof name, "F%d", i);
        snprintf(next, sizeof next, "F%d", i + 1);
        Onnx__FunctionProto *f = add_function(name, "a", "b");
        APPEND(f, node, i < 29 ? call(new_node(next, "a", "t")) : new_node("Relu", "a", "t"));
        APPEND(f, node, i < 29 ? call(new_node(next, "t", "b")) : new_node("Relu", "t", "b"));
    }
    call(add_node("F0", "x", "z"));
    CHECK_LOAD(OD_TOO_LARGE, "the model's functions come to more than");
}

TEST(calls_must_fit_their_function)
{
    sum_model();
    Onnx__FunctionProto *f = add_function("F", "a", "b");
    APPEND(f, node, new_node("Relu", "a", "b"));
    call(add_node("F", "x,x", "z"));
    CHECK_LOAD(OD_BAD_MODEL, "function 'F': called with 2 inputs and 1 outputs; it has 1 and 1");
    sum_model();
    f = add_function("F", "a,a", "b");
    call(add_node("F", "x,x", "z"));
    CHECK_LOAD(OD_BAD_MODEL, "'a' is twice among its inputs and outputs");
    sum_model();
    add_function("F", "a", "b");
    add_function("F", "a", "b");
    CHECK_LOAD(OD_BAD_MODEL, "function 'F' is defined twice");
}

TEST(references_outside_of_functions_are_refused)
{
    sum_model();
    add_float_attr(graph.node[0], "alpha", 0)->ref_attr_name = text("slope");
    CHECK_LOAD(OD_BAD_MODEL, "node 'n' (Add): attribute 'alpha' refers to 'slope' outside of any function");
}

/* ---- what is refused ---------------------------------------------------------------------- */

TEST(versions_beyond_what_is_known_are_refused)
{
    sum_model();
    opset.version = 29;
    CHECK_LOAD(OD_UNSUPPORTED, "operator set 29 of ai.onnx; onnxd knows up to 28");
    opset.version = 0;
    CHECK_LOAD(OD_BAD_MODEL, "operator set 0");
    opset.version = INT64_MIN;
    CHECK_LOAD(OD_BAD_MODEL, "operator set -9223372036854775808");
    sum_model();
    model.ir_version = 15;
    CHECK_LOAD(OD_UNSUPPORTED, "IR version 15; onnxd knows up to 14");
    model.has_ir_version = 0;
    CHECK_LOAD(OD_BAD_MODEL, "no IR version");
    sum_model();
    model.n_opset_import = 0;
    CHECK_LOAD(OD_BAD_MODEL, "imports no operator set");
    sum_model();
    model.graph = NULL;
    CHECK_LOAD(OD_BAD_MODEL, "no graph");
}

TEST(all_unknown_domains_are_named)
{
    sum_model();
    add_node("Foo", "x", "a")->domain = text("org.example");
    add_node("Adam", "x", "b")->domain = text("ai.onnx.preview.training");
    add_node("Foo", "x", "c")->domain = text("org.example");
    CHECK_LOAD(OD_UNSUPPORTED, "Foo (org.example), Adam (ai.onnx.preview.training)");
}

TEST(names_are_wanted)
{
    sum_model();
    graph.initializer[0]->name = NULL;
    CHECK_LOAD(OD_BAD_MODEL, "an initializer has no name");
    sum_model();
    graph.input[0]->name = text("");
    CHECK_LOAD(OD_BAD_MODEL, "a graph input has no name");
    sum_model();
    graph.output[0]->name = text("");
    CHECK_LOAD(OD_BAD_MODEL, "a graph output has no name");
    sum_model();
    graph.node[0]->op_type = NULL;
    CHECK_LOAD(OD_BAD_MODEL, "node 'n' has no operator");
    sum_model();
    add_float_attr(graph.node[0], "", 1);
    CHECK_LOAD(OD_BAD_MODEL, "node 'n' (Add): attribute 0 has no name");
}

TEST(values_are_made_once)
{
    sum_model();
    APPEND(&graph, initializer, new_floats("w", 2, (float[]){1, 2}));
    CHECK_LOAD(OD_BAD_MODEL, "value 'w' is set twice");
    sum_model();
    add_node("Add", "x,x", "y");
    CHECK_LOAD(OD_BAD_MODEL, "'y'");
    sum_model();
    add_node("Add", "x,x", "w");
    CHECK_LOAD(OD_BAD_MODEL, "'w'");
    sum_model();
    add_node("Add", "y,y", "x");
    CHECK_LOAD(OD_BAD_MODEL, "'x'");
    sum_model();
    add_input("x");
    CHECK_LOAD(OD_BAD_MODEL, "input 'x' is declared twice");
}

TEST(cycles_and_missing_values_are_refused)
{
    sum_model();
    graph.node[0]->input[1] = text("late");
    add_node("Add", "y,y", "late");
    CHECK_LOAD(OD_BAD_MODEL, "");
    sum_model();
    graph.node[0]->input[1] = text("never");
    CHECK_LOAD(OD_BAD_MODEL, "never");
    sum_model();
    add_output("nothing");
    CHECK_LOAD(OD_BAD_MODEL, "nothing");
}

TEST(declared_types_must_agree_with_constants)
{
    sum_model();
    APPEND(&graph, input, new_value("w", ENG_INT64, 1, (int64_t[]){2}));
    CHECK_LOAD(OD_BAD_MODEL, "'w' is declared as int64, but its constant is float");
    sum_model();
    graph.input[0]->type->tensor_type->elem_type = 77;
    CHECK_LOAD(OD_BAD_MODEL, "type of 'x': element type 77 does not exist");
    sum_model();
    graph.input[0] = new_value("x", ENG_FLOAT, 13, (int64_t[13]){0});
    CHECK_LOAD(OD_UNSUPPORTED, "type of 'x': rank 13; onnxd knows up to 12");
}

TEST(weights_must_fit_their_shape)
{
    sum_model();
    graph.initializer[0]->dims[0] = 3;
    CHECK_LOAD(OD_BAD_MODEL, "tensor 'w': 8 bytes of data; its shape and type take 12");
    sum_model();
    graph.initializer[0]->dims[0] = INT64_MAX;
    CHECK_LOAD(OD_BAD_MODEL, "tensor 'w'");
    sum_model();
    graph.initializer[0]->has_data_location = 1;
    graph.initializer[0]->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    Onnx__StringStringEntryProto *e = MAKE(string_string_entry_proto);
    e->key = text("location");
    e->value = text("w.bin");
    APPEND(graph.initializer[0], external_data, e);
    CHECK_LOAD(OD_UNSUPPORTED, "external data, but the model has no folder");
}

TEST(attributes_must_be_what_they_say)
{
    sum_model();
    Onnx__AttributeProto *a = add_float_attr(graph.node[0], "axis", 1);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    CHECK_LOAD(OD_BAD_MODEL, "attribute 'axis' is none of this operator's"); /* an empty list may stand beside a stray number */
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    CHECK_LOAD(OD_BAD_MODEL, "attribute 'axis': its value is not of the kind it declares");
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
    CHECK_LOAD(OD_BAD_MODEL, "attribute 'axis'");
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
    CHECK_LOAD(OD_BAD_MODEL, "attribute 'axis'");
    a->type = (Onnx__AttributeProto__AttributeType)99;
    CHECK_LOAD(OD_UNSUPPORTED, "attribute 'axis': its kind, 99, is not supported");
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
    add_float_attr(graph.node[0], "axis", 1);
    CHECK_LOAD(OD_BAD_MODEL, "attribute 'axis' is there twice");
}

TEST(constants_must_have_one_value)
{
    sum_model();
    Onnx__NodeProto *n = add_node("Constant", "", "c");
    CHECK_LOAD(OD_BAD_MODEL, "(Constant): 0 attributes, 0 inputs and 1 outputs; wanted 1, 0 and 1");
    add_float_attr(n, "value", 1);
    CHECK_LOAD(OD_BAD_MODEL, "attribute 'value' of a Constant is of another kind");
    n->attribute[0]->name = text("other");
    CHECK_LOAD(OD_BAD_MODEL, "a Constant with an attribute 'other'");
    n->attribute[0]->g = MAKE(graph_proto);
    n->attribute[0]->name = text("value");
    CHECK_LOAD(OD_BAD_MODEL, "a Constant with a graph");
}

TEST(nesting_without_end_is_refused)
{
    sum_model();
    Onnx__GraphProto *at = &graph;
    for (int i = 0; i < 28; i++) {
        Onnx__NodeProto *n = new_node("If", "x", "z");
        APPEND(at, node, n);
        Onnx__AttributeProto *a = add_attr(n, "then_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH);
        at = a->g = MAKE(graph_proto);
    }
    CHECK_LOAD(OD_TOO_LARGE, "subgraphs are nested more than 24 deep");
    for (int i = 0; i < 12; i++) {
        Onnx__NodeProto *n = new_node("If", "x", "z");
        APPEND(at, node, n);
        Onnx__AttributeProto *a = add_attr(n, "then_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH);
        at = a->g = MAKE(graph_proto);
    }
    CHECK_LOAD(OD_TOO_LARGE, "messages are nested more than 96 deep");
}

TEST(two_graphs_are_refused)
{
    uint8_t *bytes;
    sum_model();
    size_t size = pack(&bytes);
    uint8_t *twice = od_arena_alloc(&arena, size * 2);
    memcpy(twice, bytes, size);
    memcpy(twice + size, bytes, size);
    CHECK_CODE(ldr_onnx_load_bytes(twice, size * 2, NULL, NULL, &loaded, &st), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "more than one graph");
}

/* ---- broken bytes ------------------------------------------------------------------------- */

/* A model with a bit of everything. */
static void rich_model(void)
{
    static int64_t ints[] = {1, -1};
    static ProtobufCBinaryData string = {2, (uint8_t *)"hi"};
    sum_model();
    Onnx__FunctionProto *f = add_function("F", "a", "b");
    APPEND(f, node, new_node("Relu", "a", "b"));
    call(add_node("F", "y", "z"));
    Onnx__NodeProto *n = add_node("Constant", "", "c");
    add_attr(n, "value", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR)->t = new_floats("", 1, (float[]){1});
    n = add_node("Constant", "", "i");
    Onnx__AttributeProto *a = add_attr(n, "value_ints", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    a->n_ints = 2;
    a->ints = ints;
    n = add_node("Constant", "", "s");
    a = add_attr(n, "value_strings", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS);
    a->n_strings = 1;
    a->strings = &string;
    add_node("Add", "z,c", "out");
    add_output("out");
    Onnx__StringStringEntryProto *e = MAKE(string_string_entry_proto);
    e->key = text("k");
    e->value = text("v");
    APPEND(&model, metadata_props, e);
}

/* The bytes lie at the end of their own allocation, so that a read beyond them is seen. */
static void load_exactly(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    eng_model *m = NULL;
    memcpy(copy, bytes, size);
    od_code rc = ldr_onnx_load_bytes(copy, size, NULL, NULL, &m, &st), other = OD_IO;
    if (rc == OD_OK) eng_model_destroy(m);
    free(copy);
    int fd = memfd_create("model", MFD_CLOEXEC); /* and from a file, whose weights are read when they are wanted */
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    if (size && (other = load_file(fd, 1, NULL, NULL, &m, &st)) == OD_OK) eng_model_destroy(m);
    CHECK_EQ(other, size ? rc : OD_IO);
    close(fd);
}

TEST(a_file_cut_anywhere_does_no_harm)
{
    uint8_t *bytes;
    rich_model();
    CHECK_OK(load());
    size_t size = pack(&bytes);
    for (size_t n = 0; n < size; n++) load_exactly(bytes, n);
}

TEST(a_byte_changed_anywhere_does_no_harm)
{
    static const uint8_t flips[] = {0x01, 0x02, 0x08, 0x40, 0x80, 0xff};
    uint8_t *bytes;
    rich_model();
    size_t size = pack(&bytes);
    for (size_t n = 0; n < size; n++)
        for (size_t k = 0; k < OD_COUNT(flips); k++) {
            bytes[n] ^= flips[k];
            load_exactly(bytes, size);
            bytes[n] ^= flips[k];
        }
}

TEST(the_last_model_is_freed)
{
    eng_model_destroy(loaded);
    loaded = NULL;
    od_arena_fini(&arena);
}

TEST_MAIN
