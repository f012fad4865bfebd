/* fuzz_bodies.c - any bytes as the other bodies that requests have; the first byte says which: TensorFlow Serving's
 * JSON, a multipart form, base64. */
#include "server/protocols/tfs.c"
#include "server/base64.h"
#include "server/protocols/multipart.h"
#include "tests/fuzz/fuzz.h"

static eng_value values[] = {
    {.name = "x", .dtype = ENG_FLOAT, .rank = 2, .dims = {-1, 4}}, {.name = "s", .dtype = ENG_STRING, .rank = 1, .dims = {-1}},
    {.name = "y", .dtype = ENG_FLOAT, .rank = 2, .dims = {-1, 4}}};
static int inputs[] = {0, 1}, outputs[] = {2};

static void tensorflow(char *body, size_t size, bool one)
{
    od_status st = {0};
    ldr_card card = {.task = LDR_TASK_NONE};
    srv_model model = {.card = &card};
    srv_request r = {.body = body, .body_len = size};
    eng_graph g = {.values = values, .inputs = inputs, .outputs = outputs, .n_values = 3, .n_inputs = one ? 1 : 2, .n_outputs = 1};
    eng_tensor tensors[2] = {{.dtype = ENG_FLOAT}, {.dtype = ENG_STRING}};
    tfs_request q = {0};
    od_arena_init(&r.arena, (size_t)256 << 20);
    srv_infer i = {.r = &r, .model = &model, .graph = &g, .inputs = tensors, .n_outputs = 1, .arg = &q};
    if (read_request(&i, &st) == OD_OK) {
        for (int k = 0; k < 2; k++) {
            if (!tensors[k].data) continue;
            volatile char last = ((char *)tensors[k].data)[eng_tensor_bytes(&tensors[k]) ? eng_tensor_bytes(&tensors[k]) - 1 : 0];
            (void)last;
            for (int64_t e = 0; tensors[k].dtype == ENG_STRING && e < eng_tensor_count(&tensors[k]); e++)
                fuzz_check(((eng_str *)tensors[k].data)[e].len <= size);
        }
    } else {
        fuzz_check(st.code && st.msg[0]);
    }
    od_arena_fini(&r.arena);
}

static void form(const char *body, size_t size)
{
    od_status st = {0};
    srv_multipart m;
    srv_part p;
    if (srv_multipart_init(&m, "multipart/form-data; boundary=b", body, size, &st) != OD_OK) return;
    while (srv_multipart_next(&m, &p, &st)) fuzz_check(p.data >= body && p.len <= size && p.data + p.len <= body + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    char *body = malloc(size - 1 + SRV_JSON_PAD), *out;
    fuzz_check(body != NULL);
    memcpy(body, data + 1, size - 1);
    memset(body + size - 1, 0, SRV_JSON_PAD);
    if (data[0] % 4 < 2) {
        tensorflow(body, size - 1, data[0] & 1);
    } else if (data[0] % 4 == 2) {
        form(body, size - 1);
    } else {
        od_status st = {0};
        od_arena a = {0};
        size_t n;
        if (srv_base64_decode(body, size - 1, &a, &out, &n, &st) == OD_OK) fuzz_check(n <= size);
        od_arena_fini(&a);
    }
    free(body);
    return 0;
}
