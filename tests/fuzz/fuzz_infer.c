/* fuzz_infer.c - any bytes as the body of an inference request: JSON, JSON with binary tensors behind it, or raw.
 * The first two bytes say which, and where the JSON ends. What is taken must fit the model's inputs. */
#include "server/protocols/oip_infer.c"
#include "tests/fuzz/fuzz.h"

static eng_value values[] = {
    {.name = "x", .dtype = ENG_FLOAT, .rank = 2, .dims = {-1, 4}},  {.name = "s", .dtype = ENG_STRING, .rank = 1, .dims = {-1}},
    {.name = "b", .dtype = ENG_BOOL, .rank = 1, .dims = {2}},       {.name = "h", .dtype = ENG_FLOAT16, .rank = 1, .dims = {-1}},
    {.name = "l", .dtype = ENG_INT64, .rank = 0},                   {.name = "y", .dtype = ENG_FLOAT, .rank = 2, .dims = {-1, 4}},
    {.name = "t", .dtype = ENG_STRING, .rank = 1, .dims = {-1}}};
static int inputs[] = {0, 1, 2, 3, 4}, outputs[] = {5, 6};
static eng_graph many = {.values = values, .inputs = inputs, .outputs = outputs, .n_values = 7, .n_inputs = 5, .n_outputs = 2};
static eng_graph single = {.values = values, .inputs = inputs, .outputs = outputs, .n_values = 7, .n_inputs = 1, .n_outputs = 2};

static void check_tensor(const eng_tensor *t, size_t size)
{
    if (!t->data) return;
    fuzz_check(eng_tensor_bytes(t) <= size * 16 + 64);
    for (int64_t i = 0, n = eng_tensor_count(t); i < n; i++) {
        if (t->dtype != ENG_STRING) {
            volatile double read = eng_tensor_double(t, i);
            (void)read;
        } else {
            const eng_str *s = (const eng_str *)t->data + i;
            fuzz_check(s->len <= size);
            if (s->len) fuzz_check(s->ptr[0] + s->ptr[s->len - 1] < 512);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    od_status st = {0};
    ldr_card card = {.task = LDR_TASK_NONE};
    srv_model model = {.card = &card, .name = "m", .version = 1};
    srv_request r = {.has_header_part = data[0] & 1, .header_part = (size_t)(data[0] >> 2) << 8 | data[1]};
    bool wanted[2] = {true, true};
    data += 2;
    size -= 2;
    od_arena_init(&r.arena, (size_t)256 << 20);
    r.body = malloc(size + SRV_JSON_PAD);
    fuzz_check(r.body != NULL);
    memcpy(r.body, data, size);
    memset(r.body + size, 0, SRV_JSON_PAD);
    r.body_len = size;
    const eng_graph *g = data[-2] & 2 ? &single : &many;
    eng_tensor tensors[5] = {0};
    for (int i = 0; i < 5; i++) tensors[i].dtype = values[i].dtype;
    srv_infer infer = {.r = &r, .model = &model, .graph = g, .inputs = tensors, .wanted = wanted, .n_outputs = 2};
    oip_request q = {0};
    od_code rc = read_request(&infer, &q, &st);
    if (rc == OD_OK) {
        for (int i = 0; i < 5; i++) check_tensor(&tensors[i], size);
        for (int i = 0; i < q.n_outputs; i++) fuzz_check(q.outputs[i].index >= 0 && q.outputs[i].index < 2);
    } else {
        fuzz_check(st.code == rc && st.msg[0] && rc != OD_INTERNAL);
    }
    free(r.body);
    od_arena_fini(&r.arena);
    return 0;
}
