/* fuzz_card.c - any bytes as a model.json: refused with a reason, or a card that can be written and read again. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static eng_model *model;
    if (!model) model = small_model();
    od_status st = {0};
    od_arena a = {0};
    ldr_card card;
    char *text, *again;
    od_arena_init(&a, (size_t)64 << 20);
    char *json = od_arena_strdup(&a, (const char *)data, size);
    od_code rc = ldr_card_find(NULL, json, model, &a, &card, &st);
    if (rc == OD_OK) {
        fuzz_check(ldr_card_json(&card, model, &a, &text, &st) == OD_OK);
        fuzz_check(ldr_card_find(NULL, text, model, &a, &card, &st) == OD_OK);
        fuzz_check(ldr_card_json(&card, model, &a, &again, &st) == OD_OK && !strcmp(text, again));
    } else {
        fuzz_check(st.code == rc && st.msg[0] && rc != OD_INTERNAL);
    }
    od_arena_fini(&a);
    return 0;
}
