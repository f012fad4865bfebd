/* fuzz_card.c - any bytes as a model.json, and as what other tools leave: refused with a reason, or a card that can be
 * written and read again. */
#include "loaders/card.h"
#include "tests/fuzz/fuzz.h"

/* A picture's colour means as classes. */
static eng_model *small_model(void)
{
    static const char *const names[] = {"pixels", "mean", "scores"}, *const ops[] = {"GlobalAveragePool", "Flatten"};
    eng_model *m = NULL;
    od_status st = {0};
    fuzz_check(eng_model_create(&m, &st) == OD_OK);
    int v = eng_graph_value(m->graph, names[0]);
    m->graph->values[v].dtype = ENG_FLOAT;
    m->graph->values[v].rank = 4;
    memcpy(m->graph->values[v].dims, (int64_t[]){-1, 3, 32, 32}, 4 * sizeof(int64_t));
    fuzz_check(eng_graph_add_input(m->graph, v, &st) == OD_OK);
    for (int i = 0; i < 2; i++) {
        eng_node *n = eng_graph_add_node(m->graph, ops[i], "", 1, 1, 0);
        n->opset = 17;
        n->in[0] = eng_graph_value(m->graph, names[i]);
        n->out[0] = eng_graph_value(m->graph, names[i + 1]);
    }
    fuzz_check(eng_graph_add_output(m->graph, eng_graph_find(m->graph, names[2]), &st) == OD_OK);
    fuzz_check(eng_model_finish(m, NULL, &st) == OD_OK);
    return m;
}

static void check_card(const char *model_path, const char *json, const eng_model *m)
{
    od_status st = {0};
    od_arena a = {0};
    ldr_card card;
    char *text, *again;
    od_arena_init(&a, (size_t)64 << 20);
    od_code rc = ldr_card_find(model_path, json, m, &a, &card, &st);
    if (rc == OD_OK) {
        fuzz_check(ldr_card_json(&card, m, &a, &text, &st) == OD_OK);
        rc = ldr_card_find(NULL, text, m, &a, &card, &st);
        if (rc != OD_OK) fprintf(stderr, "%s\n%s\n", st.msg, text);
        fuzz_check(rc == OD_OK);
        fuzz_check(ldr_card_json(&card, m, &a, &again, &st) == OD_OK && !strcmp(text, again));
    } else {
        fuzz_check(st.code == rc && st.msg[0] && rc != OD_INTERNAL);
    }
    od_arena_fini(&a);
}

/* The bytes as the file `name` beside the model. */
static void check_file(const char *folder, const char *name, const uint8_t *data, size_t size, const eng_model *m)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    fuzz_check(f && fwrite(data, 1, size, f) == size);
    fclose(f);
    char model_path[256];
    snprintf(model_path, sizeof model_path, "%s/model.onnx", folder);
    check_card(model_path, NULL, m);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static eng_model *model;
    static char folder[] = "/tmp/fuzz_card_XXXXXX", *made;
    static const char *keys[] = {"names", "stride", "imgsz", "kpt_shape", "task"};
    if (!model) model = small_model();
    if (!made) made = mkdtemp(folder);
    char *text = malloc(size + 1);
    fuzz_check(made && text);
    memcpy(text, data, size);
    text[size] = 0;
    check_card(NULL, text, model);
    check_file(folder, "config.json", data, size, model);
    check_file(folder, "config.pbtxt", data, size, model);
    const char *values[] = {text, "32", text, text, size % 2 ? "pose" : "detect"};
    model->info.n_metadata = OD_COUNT(keys);
    model->info.metadata_keys = keys;
    model->info.metadata_values = values;
    check_card(NULL, NULL, model);
    model->info.n_metadata = 0;
    free(text);
    return 0;
}
