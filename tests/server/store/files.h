/* files.h - folders of small ONNX files, for tests of the store: y [N, 4] = x [N, 4] + constant. */
#ifndef FILES_H
#define FILES_H

#include "proto/onnx.pb-c.h"
#include "tests/test.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static char files_dir[64];

static int files_remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static void files_begin(void)
{
    strcpy(files_dir, "/tmp/onnxd_store_XXXXXX");
    CHECK(mkdtemp(files_dir));
}

static void files_end(void)
{
    nftw(files_dir, files_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Replaces DIR/name by `bytes`, by renaming, and makes the folders on the way. */
static void files_write(const char *name, const void *bytes, size_t size)
{
    char path[256], temporary[280];
    snprintf(path, sizeof path, "%s/%s", files_dir, name);
    for (char *c = path + strlen(files_dir) + 1; *c; c++) {
        if (*c != '/') continue;
        *c = 0;
        mkdir(path, 0777);
        *c = '/';
    }
    snprintf(temporary, sizeof temporary, "%s/.temporary", files_dir);
    FILE *f = fopen(temporary, "wb");
    CHECK(f && fwrite(bytes, 1, size, f) == size && !fclose(f));
    CHECK(!rename(temporary, path));
}

static void files_dims(Onnx__ValueInfoProto *v, const char *name)
{
    static Onnx__TensorShapeProto__Dimension free_extent, four, *dims[2] = {&free_extent, &four};
    static Onnx__TensorShapeProto shape;
    static Onnx__TypeProto__Tensor tensor;
    static Onnx__TypeProto type;
    free_extent = four = (Onnx__TensorShapeProto__Dimension)ONNX__TENSOR_SHAPE_PROTO__DIMENSION__INIT;
    free_extent.value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    free_extent.dim_param = "N";
    four.value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    four.dim_value = 4;
    shape = (Onnx__TensorShapeProto)ONNX__TENSOR_SHAPE_PROTO__INIT;
    shape.n_dim = 2;
    shape.dim = dims;
    tensor = (Onnx__TypeProto__Tensor)ONNX__TYPE_PROTO__TENSOR__INIT;
    tensor.has_elem_type = 1;
    tensor.elem_type = 1;
    tensor.shape = &shape;
    type = (Onnx__TypeProto)ONNX__TYPE_PROTO__INIT;
    type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type.tensor_type = &tensor;
    *v = (Onnx__ValueInfoProto)ONNX__VALUE_INFO_PROTO__INIT;
    v->name = (char *)(uintptr_t)name;
    v->type = &type;
}

/* A model in DIR/name. `ballast` floats of weights make it as large as is wanted. */
OD_UNUSED static void files_model(const char *name, float constant, size_t ballast)
{
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[] = {&opset};
    Onnx__NodeProto add = ONNX__NODE_PROTO__INIT, sum = ONNX__NODE_PROTO__INIT, *nodes[] = {&add, &sum};
    Onnx__TensorProto c = ONNX__TENSOR_PROTO__INIT, w = ONNX__TENSOR_PROTO__INIT, *constants[] = {&c, &w};
    Onnx__ValueInfoProto x, y, *inputs[] = {&x}, *outputs[] = {&y};
    int64_t one[] = {1}, wide[] = {(int64_t)ballast / 4 + 1, 4};
    size_t weights = (size_t)(wide[0] * wide[1]) * sizeof(float);
    char *add_in[] = {"x", "c"}, *add_out[] = {"s"}, *sum_in[] = {"s", "last"}, *sum_out[] = {"y"};
    (void)sum;
    files_dims(&x, "x");
    files_dims(&y, "y");
    opset.has_version = 1;
    opset.version = 13;
    add.op_type = "Add";
    add.n_input = 2;
    add.input = add_in;
    add.n_output = 1;
    add.output = ballast ? add_out : sum_out;
    c.name = "c";
    c.n_dims = 1;
    c.dims = one;
    c.has_data_type = 1;
    c.data_type = 1;
    c.has_raw_data = 1;
    c.raw_data = (ProtobufCBinaryData){4, (uint8_t *)&constant};
    /* y = s + 0 * (the last row of w): the weights stay, since Gather's index is an input of the run's shape */
    w = c;
    w.name = "w";
    w.n_dims = 2;
    w.dims = wide;
    w.raw_data = (ProtobufCBinaryData){weights, calloc(1, weights)};
    char *shape_in[] = {"x"}, *shape_out[] = {"shape"}, *gather_in[] = {"w", "shape"}, *gather_out[] = {"rows"};
    char *reduce_in[] = {"rows"};
    Onnx__NodeProto shape = ONNX__NODE_PROTO__INIT, gather = ONNX__NODE_PROTO__INIT, reduce = ONNX__NODE_PROTO__INIT;
    Onnx__AttributeProto axes = ONNX__ATTRIBUTE_PROTO__INIT, *attributes[] = {&axes};
    int64_t axis[] = {0};
    axes.name = "axes";
    axes.has_type = 1;
    axes.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    axes.n_ints = 1;
    axes.ints = axis;
    shape.op_type = "Shape";
    shape.n_input = 1;
    shape.input = shape_in;
    shape.n_output = 1;
    shape.output = shape_out;
    gather.op_type = "Gather";
    gather.n_input = 2;
    gather.input = gather_in;
    gather.n_output = 1;
    gather.output = gather_out;
    reduce.op_type = "ReduceMax";
    reduce.n_input = 1;
    reduce.input = reduce_in;
    reduce.n_output = 1;
    reduce.output = (char *[]){"last"};
    reduce.n_attribute = 1;
    reduce.attribute = attributes;
    sum.op_type = "Add";
    sum.n_input = 2;
    sum.input = sum_in;
    sum.n_output = 1;
    sum.output = sum_out;
    Onnx__NodeProto *heavy[] = {&add, &shape, &gather, &reduce, &sum};
    graph.name = "g";
    graph.n_node = ballast ? 5 : 1;
    graph.node = ballast ? heavy : nodes;
    graph.n_initializer = ballast ? 2 : 1;
    graph.initializer = constants;
    graph.n_input = graph.n_output = 1;
    graph.input = inputs;
    graph.output = outputs;
    model.has_ir_version = 1;
    model.ir_version = 8;
    model.n_opset_import = 1;
    model.opset_import = opsets;
    model.graph = &graph;
    size_t size = onnx__model_proto__get_packed_size(&model);
    uint8_t *bytes = malloc(size);
    onnx__model_proto__pack(&model, bytes);
    files_write(name, bytes, size);
    free(bytes);
    free(w.raw_data.data);
}

#endif
