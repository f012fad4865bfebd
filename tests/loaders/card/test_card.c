/* Cards: guessed, read, refused, written back. */
#include "loaders/card.h"
#include "tests/test.h"

#include <sys/stat.h>
#include <unistd.h>

static od_arena arena;
static eng_model *model;
static ldr_card card;

static int port(const char *name, eng_dtype dtype, const int64_t dims[4], int rank)
{
    int v = eng_graph_value(model->graph, name);
    eng_value *value = &model->graph->values[v];
    value->dtype = dtype;
    value->rank = rank;
    memcpy(value->dims, dims, (size_t)rank * sizeof *dims);
    return v;
}

static void node(const char *op, const char *in, const char *out)
{
    eng_node *n = eng_graph_add_node(model->graph, op, "", 1, 1, 0);
    n->opset = 17;
    n->in[0] = eng_graph_value(model->graph, in);
    n->out[0] = eng_graph_value(model->graph, out);
}

/* Colours' means of a picture as three classes, with another operator behind. */
static void make(eng_dtype dtype, const int64_t dims[4], const char *end)
{
    eng_model_destroy(model);
    CHECK_OK(eng_model_create(&model, &st));
    CHECK_OK(eng_graph_add_input(model->graph, port("pixels", dtype, dims, 4), &st));
    node("GlobalAveragePool", "pixels", "mean");
    node("Flatten", "mean", "flat");
    if (end) node(end, "flat", "scores");
    CHECK_OK(eng_graph_add_output(model->graph, eng_graph_value(model->graph, end ? "scores" : "flat"), &st));
    CHECK_OK(eng_model_finish(model, NULL, &st));
}

static void usual(void)
{
    make(ENG_FLOAT, (int64_t[]){-1, 3, 32, 32}, NULL);
}

static od_code read_card(const char *json)
{
    return ldr_card_find(NULL, json, model, &arena, &card, &st);
}

TEST(a_classifier_is_guessed_from_its_output)
{
    usual();
    CHECK_OK(read_card(NULL));
    CHECK_STR(card.source, LDR_GUESSED);
    CHECK_EQ(card.task, LDR_TASK_CLASSIFY);
    CHECK_STR(card.decoder, "softmax");
    CHECK_EQ(card.pre.width, 32);
    CHECK_EQ(card.pre.fit, LDR_FIT_CROP);
    CHECK_NEAR(card.pre.mean[0], 0.485, 1e-6);
    make(ENG_FLOAT, (int64_t[]){1, 3, 32, 32}, "Softmax");
    CHECK_OK(read_card(NULL));
    CHECK_STR(card.decoder, "probabilities");
    make(ENG_FLOAT, (int64_t[]){1, 3, -1, -1}, "Sigmoid");
    CHECK_OK(read_card(NULL));
    CHECK_STR(card.decoder, "probabilities");
    CHECK_EQ(card.pre.height, 224);
}

TEST(what_takes_no_picture_gets_no_task)
{
    make(ENG_FLOAT, (int64_t[]){1, 5, 32, 32}, NULL);
    CHECK_OK(read_card(NULL));
    CHECK_EQ(card.task, LDR_TASK_NONE);
}

TEST(a_card_says_everything)
{
    usual();
    CHECK_OK(read_card("{\"task\":\"detect\",\"input\":\"pixels\",\"layout\":\"nchw\",\"decoder\":\"yolov8\",\"outputs\":[\"flat\"],"
                       "\"preprocess\":{\"fit\":\"letterbox\",\"centered\":true,\"colors\":\"bgr\",\"filter\":\"bicubic\","
                       "\"antialias\":false,\"pad\":[1,2,3],\"rescale\":0.5,\"mean\":[1,2,3],\"std\":4},"
                       "\"background\":7,\"top_k\":3,\"score_threshold\":0.1,\"iou_threshold\":0.2,\"max_detections\":9,"
                       "\"class_agnostic\":true,\"labels\":[\"a\",\"b\"],\"parameters\":{\"strides\":[8,16],\"x\":2},"
                       "\"batching\":{\"max_batch_size\":4,\"timeout_us\":1000}}"));
    int n;
    CHECK_EQ(card.task, LDR_TASK_DETECT);
    CHECK_EQ(card.pre.fit, LDR_FIT_LETTERBOX);
    CHECK_EQ(card.pre.width, 32); /* the graph's */
    CHECK(card.pre.bgr && card.pre.centered && !card.pre.antialias && card.class_agnostic);
    CHECK_EQ(card.pre.pad[2], 3);
    CHECK_NEAR(card.pre.std[2], 4, 0);
    CHECK_EQ(card.background[1], 7);
    CHECK_EQ(card.max_detections, 9);
    CHECK_STR(card.labels[1], "b");
    CHECK_NEAR(ldr_card_param(&card, "strides", &n)[1], 16, 0);
    CHECK_EQ(n, 2);
    CHECK(!ldr_card_param(&card, "nothing", &n));
    CHECK_EQ(card.max_batch_size, 4);
    CHECK_EQ(card.max_queue, -1);
}

TEST(a_card_written_and_read_is_the_same_card)
{
    usual();
    char *first, *second;
    static const char *const texts[] = {NULL, "{\"task\":\"none\"}",
        "{\"preprocess\":{\"fit\":\"crop\",\"shorter\":40,\"crop_floor\":true,\"rescale\":0.00392156862745098,\"mean\":[0.485,0.456,0.406],"
        "\"std\":[0.229,0.224,0.225]},\"labels\":[\"a \\\"b\\\"\",\"\\u00e9\",\"\"],\"batching\":{\"max_batch_size\":8},\"parameters\":{\"a\":[1]}}"};
    for (size_t i = 0; i < OD_COUNT(texts); i++) {
        CHECK_OK(read_card(texts[i]));
        CHECK_OK(ldr_card_json(&card, model, &arena, &first, &st));
        CHECK_OK(read_card(first));
        CHECK_OK(ldr_card_json(&card, model, &arena, &second, &st));
        CHECK_STR(first, second);
    }
}

TEST(cards_that_break_the_form_are_refused_by_key)
{
    static const struct { const char *json, *words; } bad[] = {
        {"", "not JSON"}, {"[]", "object"}, {"{\"task\":\"classify\"", "not JSON"}, {"{} x", "not JSON"},
        {"{\"colour\":1}", "'colour'"}, {"{\"preprocess\":{\"colour\":1}}", "'colour' in preprocess"},
        {"{\"task\":\"juggle\"}", "'juggle'"}, {"{\"task\":3}", "'task'"}, {"{\"labels\":3}", "labels"}, {"{\"labels\":[3]}", "labels"},
        {"{\"top_k\":0}", "'top_k' is 0"}, {"{\"top_k\":1.5}", "whole"}, {"{\"score_threshold\":2}", "from 0 to 1"},
        {"{\"preprocess\":3}", "object"}, {"{\"preprocess\":{\"mean\":[1,2]}}", "three"}, {"{\"preprocess\":{\"std\":0}}", "'std'"},
        {"{\"preprocess\":{\"antialias\":1}}", "true or false"}, {"{\"input\":\"x\"}", "no input 'x'"},
        {"{\"outputs\":[\"x\"]}", "no output 'x'"}, {"{\"outputs\":[]}", "names"}, {"{\"decoder\":3}", "text"},
        {"{\"parameters\":{\"a\":\"b\"}}", "'a'"}, {"{\"parameters\":[]}", "object"}, {"{\"top_k\":1,\"top_k\":2}", "twice"},
        {"{\"batching\":{\"x\":1}}", "'x' in batching"}, {"{\"labels\":\"labels.txt\"}", "no file"}};
    usual();
    for (size_t i = 0; i < OD_COUNT(bad); i++) {
        CHECK_CODE(read_card(bad[i].json), OD_BAD_MODEL);
        CHECK_HAS(st.msg, bad[i].words);
    }
    char deep[20001] = "";
    memset(deep, '[', 20000);
    CHECK_CODE(read_card(deep), OD_BAD_MODEL);
}

TEST(cards_that_contradict_the_graph_are_refused)
{
    static const struct { const char *json, *words; } bad[] = {
        {"{\"preprocess\":{\"width\":40}}", "'width' is 40"}, {"{\"preprocess\":{\"colors\":\"gray\"}}", "'colors'"},
        {"{\"layout\":\"nhwc\"}", "nhwc"}, {"{\"preprocess\":{\"fit\":\"none\"}}", "'fit'"},
        {"{\"preprocess\":{\"fit\":\"crop\"}}", "'shorter'"}, {"{\"preprocess\":{\"fit\":\"shorter\"}}", "'shorter'"}};
    usual();
    for (size_t i = 0; i < OD_COUNT(bad); i++) {
        CHECK_CODE(read_card(bad[i].json), OD_BAD_MODEL);
        CHECK_HAS(st.msg, bad[i].words);
    }
    make(ENG_FLOAT, (int64_t[]){8, 3, 32, 32}, NULL);
    CHECK_CODE(read_card("{\"task\":\"classify\"}"), OD_BAD_MODEL);
    CHECK_HAS(st.msg, "8 pictures at once");
    CHECK_OK(read_card(NULL)); /* a guess only loses its task */
    CHECK_EQ(card.task, LDR_TASK_NONE);
}

/* ---- files -------------------------------------------------------------------------------- */

static char folder[64], model_path[128];

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    CHECK(f);
    fputs(text, f);
    fclose(f);
}

static void make_folder(void)
{
    strcpy(folder, "/tmp/onnxd_card_XXXXXX");
    CHECK(mkdtemp(folder));
    snprintf(model_path, sizeof model_path, "%s/model.onnx", folder);
}

static void drop_folder(void)
{
    static const char *const names[] = {"model.json", "labels.txt"};
    char path[256];
    for (size_t i = 0; i < OD_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

TEST(labels_are_lines_of_a_file)
{
    usual();
    make_folder();
    write_file("model.json", "{\"labels\":\"labels.txt\"}");
    write_file("labels.txt", "red\r\ngreen light\nblue\n\n");
    od_code rc = ldr_card_find(model_path, NULL, model, &arena, &card, &st);
    drop_folder();
    CHECK_OK(rc);
    CHECK_STR(card.source, "model.json");
    CHECK_EQ(card.n_labels, 3);
    CHECK_STR(card.labels[0], "red");
    CHECK_STR(card.labels[1], "green light");
    CHECK_STR(card.labels[2], "blue");
}

TEST(files_elsewhere_are_not_read)
{
    usual();
    make_folder();
    static const char *const names[] = {"../../etc/passwd", "/etc/passwd", "..", "", "nowhere.txt"};
    for (size_t i = 0; i < OD_COUNT(names); i++) {
        char json[100];
        snprintf(json, sizeof json, "{\"labels\":\"%s\"}", names[i]);
        CHECK_CODE(ldr_card_find(model_path, json, model, &arena, &card, &st), OD_BAD_MODEL);
    }
    drop_folder();
}

TEST_MAIN
