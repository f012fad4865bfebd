/* .npy files and the .pb files of test cases: round trips, what NumPy writes, what is refused. */
#include "loaders/tensor.h"
#include "proto/onnx.pb-c.h"
#include "tests/test.h"

#include <fcntl.h>
#include <unistd.h>

static od_arena arena;
static char path[] = "/tmp/onnxd_tensor_XXXXXX";
static eng_tensor t;

__attribute__((constructor)) static void make_path(void)
{
    close(mkstemp(path));
}

__attribute__((destructor)) static void remove_path(void)
{
    unlink(path);
    od_arena_fini(&arena);
}

static void write_file(const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

/* A .npy file of this header, padded to 118 bytes as NumPy does, and data. */
static void write_npy(int version, const char *header, const void *data, size_t size)
{
    uint8_t file[512] = {0x93, 'N', 'U', 'M', 'P', 'Y', (uint8_t)version, 0};
    size_t at = version == 1 ? 10 : 12, len = 118;
    file[8] = (uint8_t)len;
    memset(file + at, ' ', len);
    memcpy(file + at, header, strlen(header));
    file[at + len - 1] = '\n';
    memcpy(file + at + len, data, size);
    write_file(file, at + len + size);
}

#define READ() ldr_npy_read(path, &arena, &t, &st)

TEST(arrays_as_numpy_writes_them_are_read)
{
    int16_t v[] = {1, -2, 3, -4, 5, -6};
    for (int version = 1; version <= 3; version++) {
        write_npy(version, "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }", v, sizeof v);
        CHECK_OK(READ());
        CHECK_EQ(t.dtype, ENG_INT16);
        CHECK_EQ(t.rank, 2);
        CHECK_EQ(t.dims[1], 3);
        CHECK_EQ(((int16_t *)t.data)[5], -6);
    }
    write_npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", &(double){2.5}, 8);
    CHECK_OK(READ());
    CHECK_EQ(t.rank, 0);
    CHECK_NEAR(*(double *)t.data, 2.5, 0);
    write_npy(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", "\x00\x07", 2);
    CHECK_OK(READ());
    CHECK_EQ(((uint8_t *)t.data)[1], 1);
}

TEST(fortran_order_is_turned)
{
    int32_t v[] = {0, 3, 1, 4, 2, 5};
    write_npy(1, "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }", v, sizeof v);
    CHECK_OK(READ());
    for (int i = 0; i < 6; i++) CHECK_EQ(((int32_t *)t.data)[i], i);
    write_npy(1, "{'descr': '<i4', 'fortran_order': True, 'shape': (0, 3), }", v, 0);
    CHECK_OK(READ());
}

TEST(every_type_survives_a_round_trip)
{
    static const eng_dtype types[] = {ENG_FLOAT, ENG_UINT8, ENG_INT8, ENG_UINT16, ENG_INT16, ENG_INT32, ENG_INT64,
                                      ENG_BOOL, ENG_FLOAT16, ENG_DOUBLE, ENG_UINT32, ENG_UINT64, ENG_COMPLEX64,
                                      ENG_COMPLEX128};
    uint8_t bytes[6 * 16];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i & 1);
    for (size_t i = 0; i < OD_COUNT(types); i++) {
        eng_tensor x = {.dtype = types[i], .rank = 3, .dims = {1, 2, 3}, .data = bytes};
        CHECK_OK(ldr_npy_write(path, &x, &st));
        CHECK_OK(READ());
        CHECK_EQ(t.dtype, x.dtype);
        CHECK(eng_dims_equal(&t, &x));
        CHECK(!memcmp(t.data, bytes, eng_tensor_bytes(&x)));
    }
}

TEST(types_numpy_lacks_are_written_as_their_bits)
{
    uint8_t bytes[4] = {1, 2, 3, 255};
    static const eng_dtype types[][2] = {
        {ENG_BFLOAT16, ENG_UINT16}, {ENG_FLOAT8E5M2, ENG_UINT8}, {ENG_INT4, ENG_INT8}, {ENG_UINT4, ENG_UINT8}};
    for (size_t i = 0; i < OD_COUNT(types); i++) {
        eng_tensor x = {.dtype = types[i][0], .rank = 1, .dims = {2}, .data = bytes};
        CHECK_OK(ldr_npy_write(path, &x, &st));
        CHECK_OK(READ());
        CHECK_EQ(t.dtype, types[i][1]);
    }
}

TEST(channels_last_tensors_are_written_row_major)
{
    float v[] = {0, 3, 1, 4, 2, 5};
    eng_tensor x = {.dtype = ENG_FLOAT, .layout = ENG_CL, .rank = 3, .dims = {1, 2, 3}, .pitch = 2, .data = v};
    CHECK_OK(ldr_npy_write(path, &x, &st));
    CHECK_OK(READ());
    for (int i = 0; i < 6; i++) CHECK_NEAR(((float *)t.data)[i], i, 0);
}

TEST(ranks_and_extents_of_any_size_are_written)
{
    int64_t big = 1;
    eng_tensor x = {.dtype = ENG_FLOAT, .rank = 12, .data = &big};
    for (int i = 1; i < 12; i++) x.dims[i] = INT64_MAX / 1000;
    CHECK_OK(ldr_npy_write(path, &x, &st));
    CHECK_CODE(READ(), OD_BAD_VALUE); /* such extents are no array, with a zero among them or not */
    for (int i = 1; i < 12; i++) x.dims[i] = 3;
    CHECK_OK(ldr_npy_write(path, &x, &st));
    CHECK_OK(READ());
    CHECK_EQ(t.rank, 12);
}

TEST(what_is_no_array_is_refused)
{
    CHECK_CODE(ldr_npy_read("/nowhere/x.npy", &arena, &t, &st), OD_NOT_FOUND);
    CHECK_HAS(st.msg, "/nowhere/x.npy: ");
    write_file("", 0);
    CHECK_CODE(READ(), OD_BAD_VALUE);
    write_file("hello, world", 12);
    CHECK_CODE(READ(), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "not a .npy file");
    write_npy(4, "{}", "", 0);
    CHECK_CODE(READ(), OD_UNSUPPORTED);
    write_npy(1, "{}", "", 0);
    CHECK_CODE(READ(), OD_UNSUPPORTED);
    write_npy(1, "{} 'descr'", "", 0); /* a key at the very end */
    CHECK_CODE(READ(), OD_UNSUPPORTED);
    write_npy(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "", 0);
    CHECK_CODE(READ(), OD_UNSUPPORTED);
    CHECK_HAS(st.msg, "records");
    write_npy(1, "{'descr': '<U3', 'fortran_order': False, 'shape': (1,), }", "", 0);
    CHECK_CODE(READ(), OD_UNSUPPORTED);
    CHECK_HAS(st.msg, "'<U3'");
    write_npy(1, "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "", 0);
    CHECK_CODE(READ(), OD_UNSUPPORTED);
    CHECK_HAS(st.msg, "big-endian");
}

TEST(shapes_that_lie_are_refused)
{
    float v[3] = {0};
    write_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", v, sizeof v);
    CHECK_CODE(READ(), OD_BAD_VALUE);
    CHECK_HAS(st.msg, "12 bytes of data; its shape and type take 16");
    write_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", v, sizeof v);
    CHECK_CODE(READ(), OD_BAD_VALUE);
    write_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", v, sizeof v);
    CHECK_CODE(READ(), OD_BAD_VALUE);
    write_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", v, sizeof v);
    CHECK_CODE(READ(), OD_BAD_VALUE);
    write_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1), }", v, sizeof v);
    CHECK_CODE(READ(), OD_UNSUPPORTED);
    write_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1", v, sizeof v);
    CHECK_CODE(READ(), OD_BAD_VALUE);
    write_npy(1, "{'descr': '<f4', 'shape': (1,), }", v, sizeof v);
    CHECK_CODE(READ(), OD_BAD_VALUE);
}

TEST(what_cannot_be_written_is_refused)
{
    eng_str s = {"a", 1};
    float v[4096] = {0};
    eng_tensor x = {.dtype = ENG_STRING, .rank = 1, .dims = {1}, .data = &s};
    CHECK_CODE(ldr_npy_write(path, &x, &st), OD_UNSUPPORTED);
    x = (eng_tensor){.dtype = ENG_FLOAT, .rank = 1, .dims = {4096}, .data = v};
    CHECK_CODE(ldr_npy_write("/nowhere/x.npy", &x, &st), OD_IO);
    CHECK_CODE(ldr_npy_write("/dev/full", &x, &st), OD_IO);
    CHECK(!access("/dev/full", F_OK)); /* not removed as a half-written file would be */
}

/* ---- .pb ---------------------------------------------------------------------------------- */

static Onnx__TensorProto number(float *v)
{
    Onnx__TensorProto p = ONNX__TENSOR_PROTO__INIT;
    p.has_data_type = 1;
    p.data_type = ENG_FLOAT;
    p.n_float_data = 1;
    p.float_data = v;
    return p;
}

static void write_message(const void *message)
{
    uint8_t bytes[1024];
    CHECK(protobuf_c_message_get_packed_size(message) <= sizeof bytes);
    write_file(bytes, protobuf_c_message_pack(message, bytes));
}

TEST(tensors_and_sequences_of_test_cases_are_read)
{
    float a = 1, b = 2;
    Onnx__TensorProto one = number(&a), two = number(&b), *both[] = {&one, &two};
    Onnx__SequenceProto s = ONNX__SEQUENCE_PROTO__INIT;
    write_message(&two);
    CHECK_OK(ldr_pb_read(path, &arena, ENG_FLOAT, &t, &st));
    CHECK_NEAR(*(float *)t.data, 2, 0);
    s.n_tensor_values = 2;
    s.tensor_values = both;
    write_message(&s);
    CHECK_OK(ldr_pb_read(path, &arena, ENG_SEQUENCE, &t, &st));
    CHECK_EQ(t.dtype, ENG_SEQUENCE);
    CHECK_EQ(t.dims[0], 2);
    CHECK_NEAR(*(float *)((eng_tensor *)t.data)[1].data, 2, 0);
}

TEST(optionals_of_test_cases_are_read)
{
    float a = 1;
    Onnx__TensorProto one = number(&a), *list[] = {&one};
    Onnx__SequenceProto s = ONNX__SEQUENCE_PROTO__INIT;
    Onnx__OptionalProto o = ONNX__OPTIONAL_PROTO__INIT;
    write_message(&o);
    CHECK_OK(ldr_pb_read(path, &arena, ENG_OPTIONAL, &t, &st));
    CHECK_EQ(t.dtype, ENG_OPTIONAL);
    CHECK_EQ(t.dims[0], 0);
    s.n_tensor_values = 1;
    s.tensor_values = list;
    o.sequence_value = &s;
    write_message(&o);
    CHECK_OK(ldr_pb_read(path, &arena, ENG_OPTIONAL, &t, &st));
    CHECK_EQ(t.dims[0], 1);
    CHECK_EQ(((eng_tensor *)t.data)->dtype, ENG_SEQUENCE);
}

TEST(maps_of_test_cases_are_read)
{
    float a = 1, b = 2;
    int64_t keys[] = {7, 9};
    ProtobufCBinaryData names[] = {{3, (uint8_t *)"cat"}, {3, (uint8_t *)"dog"}};
    Onnx__TensorProto one = number(&a), two = number(&b), *both[] = {&one, &two};
    Onnx__SequenceProto s = ONNX__SEQUENCE_PROTO__INIT;
    Onnx__MapProto m = ONNX__MAP_PROTO__INIT;
    s.n_tensor_values = 2;
    s.tensor_values = both;
    m.values = &s;
    m.n_keys = 2;
    m.keys = keys;
    write_message(&m);
    CHECK_OK(ldr_pb_read(path, &arena, ENG_MAP, &t, &st));
    const eng_tensor *pair = t.data;
    CHECK_EQ(((int64_t *)pair[0].data)[1], 9);
    CHECK_EQ(pair[1].dtype, ENG_FLOAT);
    CHECK_NEAR(((float *)pair[1].data)[1], 2, 0);
    m.n_keys = 0;
    m.n_string_keys = 2;
    m.string_keys = names;
    write_message(&m);
    CHECK_OK(ldr_pb_read(path, &arena, ENG_MAP, &t, &st));
    CHECK_EQ(((eng_str *)((eng_tensor *)t.data)[0].data)[1].ptr[0], 'd');
    m.n_string_keys = 1;
    write_message(&m);
    CHECK_CODE(ldr_pb_read(path, &arena, ENG_MAP, &t, &st), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "a map of 1 keys and 2 values");
    m.values = NULL;
    write_message(&m);
    CHECK_CODE(ldr_pb_read(path, &arena, ENG_MAP, &t, &st), OD_BAD_MODEL);
}

TEST(values_that_are_none_are_refused)
{
    CHECK_CODE(ldr_pb_read("/nowhere/x.pb", &arena, ENG_FLOAT, &t, &st), OD_NOT_FOUND);
    write_file("\xff\xff\xff", 3);
    CHECK_CODE(ldr_pb_read(path, &arena, ENG_FLOAT, &t, &st), OD_BAD_MODEL);
    write_file("", 0);
    CHECK_CODE(ldr_pb_read(path, &arena, ENG_FLOAT, &t, &st), OD_BAD_MODEL);
}

TEST_MAIN
