/* TensorProto into tensors: every type in every form, and what must be refused. */
#include "loaders/onnx/external.c"
#include "tests/test.h"

static od_arena arena;
static eng_tensor t;

static Onnx__TensorProto proto(int type, int rank, int64_t *dims)
{
    Onnx__TensorProto p = ONNX__TENSOR_PROTO__INIT;
    p.has_data_type = 1;
    p.data_type = type;
    p.n_dims = (size_t)rank;
    p.dims = dims;
    p.name = (char *)"w";
    return p;
}

static void raw(Onnx__TensorProto *p, const void *bytes, size_t size)
{
    p->has_raw_data = 1;
    p->raw_data = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)bytes};
}

static od_code convert(const Onnx__TensorProto *p)
{
    ldr_source src = {.arena = &arena};
    return ldr_tensor_from_proto(p, &src, &t, &st);
}

TEST(floats_come_raw_or_as_a_list)
{
    int64_t dims[] = {2, 1};
    float v[] = {1.5f, -2};
    Onnx__TensorProto p = proto(ENG_FLOAT, 2, dims);
    raw(&p, v, sizeof v);
    CHECK_OK(convert(&p));
    CHECK_EQ(t.rank, 2);
    CHECK_EQ(t.dims[0], 2);
    CHECK_NEAR(((float *)t.data)[1], -2, 0);
    p = proto(ENG_FLOAT, 2, dims);
    p.n_float_data = 2;
    p.float_data = v;
    CHECK_OK(convert(&p));
    CHECK_NEAR(((float *)t.data)[0], 1.5, 0);
}

TEST(lists_of_every_wide_type_are_read)
{
    int64_t dims[] = {1}, i64[] = {INT64_MIN};
    uint64_t u64[] = {UINT64_MAX};
    double f64[] = {0.25, 4};
    float f32[] = {1, 2};
    Onnx__TensorProto p = proto(ENG_INT64, 1, dims);
    p.n_int64_data = 1;
    p.int64_data = i64;
    CHECK_OK(convert(&p));
    CHECK(((int64_t *)t.data)[0] == INT64_MIN);
    p = proto(ENG_UINT64, 1, dims);
    p.n_uint64_data = 1;
    p.uint64_data = u64;
    CHECK_OK(convert(&p));
    CHECK(((uint64_t *)t.data)[0] == UINT64_MAX);
    p.data_type = ENG_UINT32;
    u64[0] = UINT32_MAX;
    CHECK_OK(convert(&p));
    CHECK(((uint32_t *)t.data)[0] == UINT32_MAX);
    p = proto(ENG_DOUBLE, 1, dims);
    p.n_double_data = 1;
    p.double_data = f64;
    CHECK_OK(convert(&p));
    CHECK_NEAR(((double *)t.data)[0], 0.25, 0);
    p.data_type = ENG_COMPLEX128;
    p.n_double_data = 2;
    CHECK_OK(convert(&p));
    CHECK_NEAR(((double *)t.data)[1], 4, 0);
    p = proto(ENG_COMPLEX64, 1, dims);
    p.n_float_data = 2;
    p.float_data = f32;
    CHECK_OK(convert(&p));
    CHECK_NEAR(((float *)t.data)[1], 2, 0);
}

TEST(int32_data_holds_the_narrow_types)
{
    int64_t dims[] = {2};
    int32_t v[] = {0x3c00, -1};
    static const int types[] = {ENG_INT8, ENG_UINT8, ENG_INT16, ENG_UINT16, ENG_INT32, ENG_FLOAT16, ENG_BFLOAT16,
                                ENG_FLOAT8E4M3FN};
    for (size_t i = 0; i < OD_COUNT(types); i++) {
        Onnx__TensorProto p = proto(types[i], 1, dims);
        p.n_int32_data = 2;
        p.int32_data = v;
        CHECK_OK(convert(&p));
        switch (eng_dtype_size(t.dtype)) {
        case 1: CHECK_EQ(((uint8_t *)t.data)[1], 255); break;
        case 2: CHECK_EQ(((uint16_t *)t.data)[0], 0x3c00); break;
        default: CHECK_EQ(((int32_t *)t.data)[1], -1); break;
        }
    }
}

TEST(booleans_become_zero_or_one)
{
    int64_t dims[] = {3};
    uint8_t bytes[] = {0, 2, 255};
    int32_t v[] = {0, 256, 1};
    Onnx__TensorProto p = proto(ENG_BOOL, 1, dims);
    raw(&p, bytes, 3);
    CHECK_OK(convert(&p));
    CHECK_EQ(((uint8_t *)t.data)[1], 1);
    CHECK_EQ(((uint8_t *)t.data)[2], 1);
    p = proto(ENG_BOOL, 1, dims);
    p.n_int32_data = 3;
    p.int32_data = v;
    CHECK_OK(convert(&p));
    CHECK_EQ(((uint8_t *)t.data)[0], 0);
    CHECK_EQ(((uint8_t *)t.data)[1], 1);
}

TEST(four_bit_types_are_unpacked_low_half_first)
{
    int64_t dims[] = {3};
    uint8_t bytes[] = {0x8f, 0x07};
    int32_t list[] = {0x8f, 0x07};
    Onnx__TensorProto p = proto(ENG_INT4, 1, dims);
    raw(&p, bytes, 2);
    CHECK_OK(convert(&p));
    CHECK_EQ(((int8_t *)t.data)[0], -1);
    CHECK_EQ(((int8_t *)t.data)[1], -8);
    CHECK_EQ(((int8_t *)t.data)[2], 7);
    p = proto(ENG_UINT4, 1, dims);
    p.n_int32_data = 2;
    p.int32_data = list;
    CHECK_OK(convert(&p));
    CHECK_EQ(((uint8_t *)t.data)[0], 15);
    CHECK_EQ(((uint8_t *)t.data)[1], 8);
}

TEST(two_bit_types_are_unpacked_low_bits_first)
{
    int64_t dims[] = {5};
    uint8_t bytes[] = {0xe4, 0x03}; /* 0, 1, 2, 3, then 3 */
    Onnx__TensorProto p = proto(ENG_INT2, 1, dims);
    raw(&p, bytes, 2);
    CHECK_OK(convert(&p));
    CHECK_EQ(((int8_t *)t.data)[1], 1);
    CHECK_EQ(((int8_t *)t.data)[2], -2);
    CHECK_EQ(((int8_t *)t.data)[4], -1);
    p.data_type = ENG_UINT2;
    CHECK_OK(convert(&p));
    CHECK_EQ(((uint8_t *)t.data)[3], 3);
}

TEST(six_bit_types_are_unpacked_across_bytes)
{
    uint8_t raw[] = {0x41, 0x30, 0x10, 0x3f}; /* 1, 1, 3, 4, 63 in 6 bits each, low bits first */
    int64_t dims[] = {5};
    Onnx__TensorProto p = proto(ENG_FLOAT6E3M2, 1, dims);
    p.has_raw_data = 1;
    p.raw_data = (ProtobufCBinaryData){sizeof raw, raw};
    CHECK_OK(convert(&p));
    static const uint8_t want[] = {1, 1, 3, 4, 63};
    for (int i = 0; i < 5; i++) CHECK_EQ(((uint8_t *)t.data)[i], want[i]);
    CHECK_EQ(eng_tensor_double(&t, 4), -28.0);
}

TEST(strings_are_copied)
{
    int64_t dims[] = {2};
    char text[] = "ab";
    ProtobufCBinaryData list[] = {{2, (uint8_t *)text}, {0, NULL}};
    Onnx__TensorProto p = proto(ENG_STRING, 1, dims);
    p.n_string_data = 2;
    p.string_data = list;
    CHECK_OK(convert(&p));
    text[0] = 'x';
    CHECK_EQ(((eng_str *)t.data)[0].len, 2);
    CHECK_EQ(((eng_str *)t.data)[0].ptr[0], 'a');
    CHECK_EQ(((eng_str *)t.data)[1].len, 0);
    p.n_string_data = 1;
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
}

TEST(data_may_be_empty_and_rank_zero_holds_one)
{
    int64_t dims[] = {0, 7};
    float v = 3;
    Onnx__TensorProto p = proto(ENG_FLOAT, 2, dims);
    CHECK_OK(convert(&p));
    CHECK_EQ(eng_tensor_count(&t), 0);
    raw(&p, "", 0);
    CHECK_OK(convert(&p));
    p = proto(ENG_FLOAT, 0, NULL);
    raw(&p, &v, 4);
    CHECK_OK(convert(&p));
    CHECK_EQ(t.rank, 0);
}

TEST(data_that_does_not_fit_the_shape_is_refused)
{
    int64_t dims[] = {3};
    float v[2] = {0};
    Onnx__TensorProto p = proto(ENG_FLOAT, 1, dims);
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
    raw(&p, v, sizeof v);
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
    CHECK_STR(st.msg, "tensor 'w': 8 bytes of data; its shape and type take 12");
    p = proto(ENG_FLOAT, 1, dims);
    p.n_float_data = 2;
    p.float_data = v;
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
    CHECK_STR(st.msg, "tensor 'w': 2 elements in float_data; its shape and type take 3");
}

TEST(shapes_out_of_range_are_refused)
{
    int64_t negative[] = {2, -1}, huge[] = {INT64_MAX, INT64_MAX}, many[ENG_MAX_RANK + 1] = {0};
    Onnx__TensorProto p = proto(ENG_FLOAT, 2, negative);
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "dimension 1 is -1");
    p = proto(ENG_FLOAT, 2, huge);
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "overflows");
    p = proto(ENG_FLOAT, ENG_MAX_RANK + 1, many);
    CHECK_CODE(convert(&p), OD_UNSUPPORTED);
    CHECK_HAS(st.msg, "rank 13");
}

TEST(types_that_are_none_are_refused)
{
    Onnx__TensorProto p = proto(0, 0, NULL);
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
    p.data_type = -5;
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
    p.data_type = 99;
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
    p.data_type = ENG_SEQUENCE;
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
}

/* ---- sparse ------------------------------------------------------------------------------- */

static Onnx__TensorProto sparse_values, sparse_indices;
static Onnx__SparseTensorProto sparse;
static float two[] = {7, 8};
static int64_t two_dims[] = {2}, indices[4], index_dims[] = {2, 2}, dense_dims[] = {2, 3};

static void make_sparse(int index_rank)
{
    sparse_values = proto(ENG_FLOAT, 1, two_dims);
    raw(&sparse_values, two, sizeof two);
    sparse_indices = proto(ENG_INT64, index_rank, index_dims);
    raw(&sparse_indices, indices, (size_t)(index_rank == 1 ? 2 : 4) * sizeof *indices);
    sparse = (Onnx__SparseTensorProto)ONNX__SPARSE_TENSOR_PROTO__INIT;
    sparse.values = &sparse_values;
    sparse.indices = &sparse_indices;
    sparse.n_dims = 2;
    sparse.dims = dense_dims;
}

static od_code convert_sparse(void)
{
    ldr_source src = {.arena = &arena};
    return ldr_tensor_from_sparse(&sparse, &src, &t, &st);
}

TEST(sparse_tensors_become_dense)
{
    make_sparse(1);
    indices[0] = 1;
    indices[1] = 5;
    CHECK_OK(convert_sparse());
    CHECK_NEAR(((float *)t.data)[0], 0, 0);
    CHECK_NEAR(((float *)t.data)[1], 7, 0);
    CHECK_NEAR(((float *)t.data)[5], 8, 0);
    make_sparse(2);
    memcpy(indices, (int64_t[]){0, 2, 1, 0}, sizeof indices);
    CHECK_OK(convert_sparse());
    CHECK_NEAR(((float *)t.data)[2], 7, 0);
    CHECK_NEAR(((float *)t.data)[3], 8, 0);
}

TEST(sparse_indices_out_of_range_are_refused)
{
    make_sparse(1);
    indices[0] = 0;
    indices[1] = 6;
    CHECK_CODE(convert_sparse(), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "index 6 of 6 elements");
    indices[1] = -1;
    CHECK_CODE(convert_sparse(), OD_BAD_MODEL);
    make_sparse(2);
    memcpy(indices, (int64_t[]){0, 3, 0, 0}, sizeof indices);
    CHECK_CODE(convert_sparse(), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "index 3 of axis 1, whose extent is 3");
}

TEST(sparse_parts_must_fit_together)
{
    int64_t vast[] = {1 << 20, 1 << 20};
    make_sparse(1);
    sparse.indices = NULL;
    CHECK_CODE(convert_sparse(), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "has no indices");
    make_sparse(1);
    sparse_values.n_dims = 0;
    sparse_values.raw_data.len = 4;
    CHECK_CODE(convert_sparse(), OD_BAD_MODEL);
    make_sparse(2);
    sparse.n_dims = 1;
    CHECK_CODE(convert_sparse(), OD_BAD_MODEL);
    make_sparse(1);
    indices[0] = indices[1] = 0;
    sparse.dims = vast;
    CHECK_CODE(convert_sparse(), OD_TOO_LARGE);
}

/* ---- external data ------------------------------------------------------------------------ */

static char folder[] = "/tmp/onnxd_external_XXXXXX", outside[] = "/tmp/onnxd_outside_XXXXXX";
static Onnx__StringStringEntryProto entries[3], *entry_list[3] = {&entries[0], &entries[1], &entries[2]};
static float weights[] = {1, 2, 3, 4};

static void make_files(void)
{
    static bool made;
    char path[128];
    if (made) return;
    made = true;
    CHECK(mkdtemp(folder));
    int fd = mkstemp(outside);
    CHECK(write(fd, weights, sizeof weights) == sizeof weights);
    close(fd);
    snprintf(path, sizeof path, "%s/w.bin", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(write(fd, weights, sizeof weights) == sizeof weights);
    close(fd);
    snprintf(path, sizeof path, "%s/link.bin", folder);
    CHECK(!symlink(outside, path));
    snprintf(path, sizeof path, "%s/inner.bin", folder);
    CHECK(!symlink("w.bin", path));
}

__attribute__((destructor)) static void remove_files(void)
{
    static const char *const names[] = {"w.bin", "link.bin", "inner.bin"};
    char path[128];
    for (size_t i = 0; i < OD_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    unlink(outside);
}

static od_code read_external(const char *location, const char *offset, const char *length)
{
    static int64_t dims[] = {2};
    Onnx__TensorProto p = proto(ENG_FLOAT, 1, dims);
    const char *pairs[3][2] = {{"location", location}, {"offset", offset}, {"length", length}};
    ldr_external x;
    make_files();
    ldr_external_init(&x, folder);
    p.has_data_location = 1;
    p.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    p.external_data = entry_list;
    for (int i = 0; i < 3; i++) {
        if (!pairs[i][1]) continue;
        Onnx__StringStringEntryProto *e = entry_list[p.n_external_data++];
        *e = (Onnx__StringStringEntryProto)ONNX__STRING_STRING_ENTRY_PROTO__INIT;
        e->key = (char *)(uintptr_t)pairs[i][0];
        e->value = (char *)(uintptr_t)pairs[i][1];
    }
    ldr_source src = {.arena = &arena, .external = &x};
    od_code rc = ldr_tensor_from_proto(&p, &src, &t, &st);
    ldr_external_fini(&x);
    return rc;
}

TEST(external_data_is_read_at_its_offset)
{
    CHECK_OK(read_external("w.bin", NULL, NULL));
    CHECK_NEAR(((float *)t.data)[0], 1, 0);
    CHECK_OK(read_external("./w.bin", "8", "8"));
    CHECK_NEAR(((float *)t.data)[0], 3, 0);
    CHECK_OK(read_external("inner.bin", "4", NULL)); /* a link that stays inside */
    CHECK_NEAR(((float *)t.data)[0], 2, 0);
}

TEST(external_data_beyond_the_file_is_refused)
{
    CHECK_CODE(read_external("w.bin", "12", NULL), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "which has 16");
    CHECK_CODE(read_external("w.bin", "9223372036854775807", NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external("w.bin", "-1", NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external("w.bin", "99999999999999999999", NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external("w.bin", "8x", NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external("w.bin", NULL, "4"), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "4 bytes of external data");
}

TEST(external_paths_may_not_leave_the_folder)
{
    CHECK_CODE(read_external(outside, NULL, NULL), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "must be relative");
    CHECK_CODE(read_external("../w.bin", NULL, NULL), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "leaves the model's folder");
    CHECK_CODE(read_external("a/../../w.bin", NULL, NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external("..", NULL, NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external("link.bin", NULL, NULL), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "leaves the model's folder");
    CHECK_CODE(read_external("", NULL, NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external(NULL, NULL, NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external(".", NULL, NULL), OD_BAD_MODEL);
    CHECK_CODE(read_external("absent.bin", NULL, NULL), OD_NOT_FOUND);
}

TEST(kernels_without_openat2_are_served_too)
{
    make_files();
    int at = open(folder, O_RDONLY | O_DIRECTORY), fd = open_compared(at, "w.bin");
    CHECK(fd >= 0);
    close(fd);
    fd = open_compared(at, "inner.bin");
    CHECK(fd >= 0);
    close(fd);
    CHECK_EQ(open_compared(at, "link.bin"), -1);
    CHECK_EQ(errno, EXDEV);
    close(at);
}

TEST(external_data_without_a_folder_is_refused)
{
    int64_t dims[] = {2};
    Onnx__TensorProto p = proto(ENG_FLOAT, 1, dims);
    p.has_data_location = 1;
    p.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    CHECK_CODE(convert(&p), OD_UNSUPPORTED);
    p.data_type = ENG_STRING;
    CHECK_CODE(convert(&p), OD_BAD_MODEL);
}

TEST_MAIN
