/* Queries, and decoders on outputs made by hand. Whole models: tests/server/test_predict.py. */
#include "server/tasks/parts.h"
#include "tests/test.h"

static od_arena arena;

static od_code set(srv_query *q, const char *key, const char *value)
{
    return srv_query_set(q, key, value, &st);
}

TEST(queries_take_what_is_possible)
{
    srv_query q;
    srv_query_init(&q);
    CHECK(q.score_threshold < 0 && q.iou_threshold < 0 && !q.top_k && !q.max_detections);
    CHECK_OK(set(&q, "top_k", "7"));
    CHECK_OK(set(&q, "score_threshold", "0.5"));
    CHECK_OK(set(&q, "iou_threshold", "0"));
    CHECK_OK(set(&q, "max_detections", "10000"));
    CHECK_OK(set(&q, "mask", "polygon"));
    CHECK_EQ(q.top_k, 7);
    CHECK_NEAR(q.iou_threshold, 0, 0);
    CHECK_EQ(q.mask, SRV_MASK_POLYGON);
}

TEST(queries_refuse_the_rest_and_say_what_is_possible)
{
    static const char *const bad[][3] = {
        {"top_k", "0", "1 to"}, {"top_k", "-1", "1 to"}, {"top_k", "many", "1 to"}, {"top_k", "99999999999999999999", "1 to"},
        {"top_k", "1x", "1 to"}, {"score_threshold", "2", "0 to 1"}, {"score_threshold", "", "0 to 1"},
        {"iou_threshold", "nan", "0 to 1"}, {"mask", "ascii", "polygon"}, {"soft_nms", "-1", "0 to 100"}, {"class_agnostic", "2", "1 or 0"},
        {"crops", "7", "1, 5, 10"}, {"crop_mean", "median", "scores, outputs"}, {"format", "tiff", "base64"}, {"point", "-1", "0 to"}, {"tpo_k", "3", "top_k"}};
    srv_query q;
    srv_query_init(&q);
    for (size_t i = 0; i < OD_COUNT(bad); i++) {
        CHECK_CODE(set(&q, bad[i][0], bad[i][1]), OD_BAD_ARGUMENT);
        CHECK_HAS(st.msg, bad[i][2]);
    }
}

/* ---- answers ------------------------------------------------------------------------------ */

static const char *const two_labels[] = {"cat", "dog"};

static ldr_card card_for(ldr_task task, const char *decoder)
{
    return (ldr_card){.task = task, .source = "model.json", .decoder = decoder, .top_k = 5, .max_detections = 100,
                      .score_threshold = 0.5, .iou_threshold = 0.5};
}

static const char *ask(const ldr_card *card, const eng_tensor *outputs, int n, const srv_query *query)
{
    /* a picture of 200 x 100 stretched to 100 x 100 */
    srv_picture p = {.placement = {0.5, 1, 0, 0, 200, 100, 100, 100}, .n_outputs = n};
    srv_text json = {.arena = &arena};
    srv_query q;
    srv_query_init(&q);
    if (srv_picture_answer(card, &p, outputs, query ? query : &q, &arena, &json, &st) != OD_OK) return "refused";
    srv_text_add(&json, "", 1);
    return json.data;
}

static eng_tensor floats(int rank, const int64_t *dims, float *data)
{
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = rank, .data = data};
    memcpy(t.dims, dims, (size_t)rank * sizeof *dims);
    return t;
}

TEST(classes_come_best_first)
{
    float x[3] = {1, 3, 2};
    eng_tensor t = floats(4, (int64_t[]){1, 3, 1, 1}, x);
    ldr_card c = card_for(LDR_TASK_CLASSIFY, "softmax");
    c.score_threshold = 0;
    c.top_k = 2;
    CHECK_STR(ask(&c, &t, 1, NULL), "\"classes\":[{\"label\":null,\"index\":1,\"score\":0.66524094},{\"label\":null,\"index\":2,\"score\":0.24472848}]");
    c.decoder = "probabilities";
    CHECK_HAS(ask(&c, &t, 1, NULL), "\"score\":3}");
    c.decoder = "sigmoid";
    c.score_threshold = 0.9;
    CHECK_STR(ask(&c, &t, 1, NULL), "\"classes\":[{\"label\":null,\"index\":1,\"score\":0.95257413}]");
}

TEST(scores_that_are_no_numbers_come_last)
{
    float x[2] = {NAN, 0.25f};
    eng_tensor t = floats(2, (int64_t[]){1, 2}, x);
    ldr_card c = card_for(LDR_TASK_CLASSIFY, "probabilities");
    c.score_threshold = 0;
    c.labels = two_labels;
    c.n_labels = 2;
    CHECK_STR(ask(&c, &t, 1, NULL), "\"classes\":[{\"label\":\"dog\",\"index\":1,\"score\":0.25}]");
}

TEST(outputs_that_do_not_fit_are_refused)
{
    float x[6] = {0};
    eng_tensor t = floats(2, (int64_t[]){2, 3}, x), word = {.dtype = ENG_STRING, .rank = 1, .dims = {1}};
    ldr_card c = card_for(LDR_TASK_CLASSIFY, "softmax");
    CHECK_STR(ask(&c, &t, 1, NULL), "refused");
    CHECK_HAS(st.msg, "2x3");
    CHECK_STR(ask(&c, &word, 1, NULL), "refused");
    c = card_for(LDR_TASK_DETECT, "yolov8");
    CHECK_STR(ask(&c, &t, 1, NULL), "refused");
    c.decoder = "ultraface";
    CHECK_STR(ask(&c, &t, 1, NULL), "refused");
    CHECK_HAS(st.msg, "'outputs'");
    c.decoder = "what";
    CHECK_STR(ask(&c, &t, 1, NULL), "refused");
    CHECK_HAS(st.msg, "yolov8");
}

/* Two boxes of one class that overlap by half, one of the other class in the same place; columns of v8. */
static float heads[6 * 8] = {20, 25, 20, 70, 0, 0, 0, 0, /* cx */ 20, 20, 20, 70, 0, 0, 0, 0, /* cy */
                             20, 20, 20, 90, 0, 0, 0, 0, /* w */  20, 20, 20, 10, 0, 0, 0, 0, /* h */
                             0.9f, 0.8f, 0.1f, 0.1f, 0, 0, 0, 0, /* cat */ 0.1f, 0.1f, 0.7f, 0.6f, 0.2f, 0, 0, 0 /* dog */};

TEST(boxes_are_in_pixels_of_the_picture_and_within_it)
{
    eng_tensor t = floats(3, (int64_t[]){1, 6, 8}, heads);
    ldr_card c = card_for(LDR_TASK_DETECT, "yolov8");
    c.labels = two_labels;
    c.n_labels = 2;
    CHECK_STR(ask(&c, &t, 1, NULL),
              "\"detections\":[{\"label\":\"cat\",\"index\":0,\"score\":0.9,\"box\":[20,10,40,20]},"
              "{\"label\":\"dog\",\"index\":1,\"score\":0.7,\"box\":[20,10,40,20]},"
              "{\"label\":\"dog\",\"index\":1,\"score\":0.6,\"box\":[50,65,150,10]}]");
}

TEST(suppression_follows_the_query_and_the_card)
{
    eng_tensor t = floats(3, (int64_t[]){1, 6, 8}, heads);
    ldr_card c = card_for(LDR_TASK_DETECT, "yolov8");
    srv_query q;
    srv_query_init(&q);
    q.iou_threshold = 0.7; /* the overlap is 0.6 */
    CHECK_HAS(ask(&c, &t, 1, &q), "0.8");
    q.max_detections = 1;
    CHECK(!strstr(ask(&c, &t, 1, &q), "0.8"));
    c.class_agnostic = true;
    CHECK(!strstr(ask(&c, &t, 1, NULL), "0.7"));
    srv_query_init(&q);
    q.class_agnostic = 0; /* the request's word counts */
    CHECK_HAS(ask(&c, &t, 1, &q), "0.7");
}

TEST(both_orders_of_a_head_are_read)
{
    float rows[8 * 6];
    for (int i = 0; i < 8; i++)
        for (int c = 0; c < 6; c++) rows[i * 6 + c] = heads[c * 8 + i];
    eng_tensor t = floats(3, (int64_t[]){1, 6, 8}, heads), u = floats(3, (int64_t[]){1, 8, 6}, rows);
    ldr_card c = card_for(LDR_TASK_DETECT, "yolov8");
    CHECK_STR(ask(&c, &t, 1, NULL), ask(&c, &u, 1, NULL));
}

TEST(no_boxes_are_an_empty_list)
{
    float zeros[48] = {0};
    eng_tensor t = floats(3, (int64_t[]){1, 6, 8}, zeros), none = floats(3, (int64_t[]){1, 0, 7}, zeros);
    ldr_card c = card_for(LDR_TASK_DETECT, "yolov8");
    CHECK_STR(ask(&c, &t, 1, NULL), "\"detections\":[]");
    c.decoder = "yolov5";
    CHECK_STR(ask(&c, &none, 1, NULL), "\"detections\":[]");
}

TEST(labels_must_be_as_many_as_classes)
{
    float x[3] = {1, 3, 2};
    eng_tensor t = floats(2, (int64_t[]){1, 3}, x);
    ldr_card c = card_for(LDR_TASK_CLASSIFY, "softmax");
    c.labels = two_labels;
    c.n_labels = 2;
    CHECK_STR(ask(&c, &t, 1, NULL), "refused");
    CHECK_HAS(st.msg, "3 classes");
}

/* ---- masks -------------------------------------------------------------------------------- */

static srv_map map_of(int64_t width, int64_t height, uint16_t *labels)
{
    return (srv_map){.width = width, .height = height, .labels = labels};
}

TEST(run_lengths_are_packed_as_coco_packs_them)
{
    /* Columns 0 1 / 1 1 / 0 0 of height 2: COCO's counts 1 3 2, which pycocotools writes as "132". */
    uint16_t labels[6] = {0, 1, 0, 1, 1, 0};
    srv_map m = map_of(3, 2, labels);
    srv_text t[2] = {{.arena = &arena}, {.arena = &arena}};
    CHECK_OK(srv_map_rle(&m, 2, t, &arena, &st));
    CHECK_EQ(t[1].len, 3);
    CHECK(!memcmp(t[1].data, "132", 3));
    CHECK(!memcmp(t[0].data, "0131", 4)); /* 0 1 3 2: the fourth as the difference to the second */
}

TEST(long_runs_take_several_characters)
{
    static uint16_t labels[100 * 100];
    for (int i = 0; i < 100 * 100; i++) labels[i] = i % 100 >= 50; /* the right half */
    srv_map m = map_of(100, 100, labels);
    srv_text t[2] = {{.arena = &arena}, {.arena = &arena}};
    CHECK_OK(srv_map_rle(&m, 2, t, &arena, &st));
    CHECK_EQ(t[1].len, 6); /* 5000 5000, three characters each: 8 | 32, 28 | 32, 4 */
    CHECK(!memcmp(t[1].data, t[1].data + 3, 3));
    CHECK_EQ(t[1].data[0], 48 + 32 + (5000 & 31));
    CHECK_EQ(t[1].data[1], 48 + 32 + (5000 >> 5 & 31));
    CHECK_EQ(t[1].data[2], 48 + (5000 >> 10));
}

static const char *polygons(srv_map *m, int label)
{
    srv_text t = {.arena = &arena};
    CHECK_OK(srv_map_polygons(m, label, &t, &arena, &st));
    srv_text_add(&t, "", 1);
    return t.data;
}

TEST(polygons_follow_pixel_edges)
{
    uint16_t square[9] = {0, 0, 0, 0, 1, 0, 0, 0, 0}, corners[4] = {1, 0, 0, 1};
    uint16_t ring[9] = {1, 1, 1, 1, 0, 1, 1, 1, 1};
    srv_map m = map_of(3, 3, square), n = map_of(2, 2, corners), o = map_of(3, 3, ring);
    CHECK_STR(polygons(&m, 1), "[[1,2,2,2,2,1,1,1]]");
    CHECK_STR(polygons(&m, 2), "[]");
    CHECK_STR(polygons(&n, 1), "[[0,1,1,1,1,0,0,0],[1,2,2,2,2,1,1,1]]"); /* touching at a corner only */
    CHECK_STR(polygons(&o, 1), "[[0,3,3,3,3,0,0,0],[2,2,1,2,1,1,2,1]]");
}

TEST(maps_are_labelled_at_the_pictures_size)
{
    float x[8] = {1, 0, 1, 0, /* background */ 0, 1, 0, 1 /* thing on the right */};
    eng_tensor t = floats(4, (int64_t[]){1, 2, 2, 2}, x);
    ldr_card c = card_for(LDR_TASK_SEGMENT, "argmax");
    srv_query q;
    srv_query_init(&q);
    q.mask = SRV_MASK_NONE;
    CHECK_STR(ask(&c, &t, 1, &q), "\"segmentation\":{\"size\":[100,200],\"classes\":[{\"label\":null,\"index\":0,\"area\":10000,\"share\":0.5},"
                                  "{\"label\":null,\"index\":1,\"area\":10000,\"share\":0.5}]}");
    eng_tensor one = floats(4, (int64_t[]){1, 1, 2, 2}, x);
    static const char *const label[] = {"thing"};
    c.decoder = "probabilities";
    c.labels = label;
    c.n_labels = 1;
    CHECK_HAS(ask(&c, &one, 1, &q), "{\"label\":\"thing\",\"index\":1,\"area\":10000");
    int64_t map[4] = {0, 3, 0, 3};
    eng_tensor ints = {.dtype = ENG_INT64, .rank = 3, .dims = {1, 2, 2}, .data = map};
    c.decoder = "labels";
    CHECK_HAS(ask(&c, &ints, 1, &q), "\"index\":3,\"area\":10000");
}

TEST_MAIN
