/* The access log and the names of requests. */
#include "server/watch/access_log.h"
#include "server/watch/ids.h"
#include "tests/test.h"

#include <pthread.h>
#include <unistd.h>

static char path[64];
static srv_access_log *access_log;

static void start(bool json)
{
    strcpy(path, "/tmp/onnxd_log_XXXXXX");
    close(mkstemp(path));
    CHECK_OK(srv_access_log_create(&access_log, path, json, &st));
}

static char *text(void)
{
    static char all[1 << 20];
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    all[fread(all, 1, sizeof all - 1, f)] = 0;
    fclose(f);
    return all;
}

static const srv_access example = {.peer = "127.0.0.1", .method = "POST", .target = "/v2/models/m/infer?a=\"b\nc", .id = "7", .model = "m",
                                   .version = 3, .status = 200, .bytes_in = 10, .bytes_out = 20, .total_ns = 1500000, .queue_ns = 0,
                                   .decode_ns = -1, .preprocess_ns = -1, .compute_ns = 1000000, .postprocess_ns = -1, .batch_rows = 4};

TEST(a_request_is_a_line_of_json)
{
    start(true);
    srv_access_log_write(access_log, &example);
    srv_access_log_destroy(access_log);
    const char *t = text();
    CHECK_HAS(t, "\"status\":200,\"ms\":1.500,\"method\":\"POST\",\"target\":\"/v2/models/m/infer?a=\\\"b\\nc\"");
    CHECK_HAS(t, "\"model\":\"m\",\"version\":3,\"queue_ms\":0.000,\"compute_ms\":1.000,\"batch\":4}\n");
    CHECK(!strstr(t, "decode_ms"));
    CHECK(t[strlen(t) - 1] == '\n' && strchr(t, '\n') == t + strlen(t) - 1);
    unlink(path);
}

TEST(a_request_is_a_line_of_text)
{
    start(false);
    srv_access_log_write(access_log, &example);
    srv_access_log_destroy(access_log);
    CHECK_HAS(text(), "Z 127.0.0.1 POST \"/v2/models/m/infer?a=\\\"b\\nc\" 200 10 20 1.500ms id=\"7\" model=\"m\" version=3 queue=0.000ms "
                      "compute=1.000ms batch=4\n");
    unlink(path);
}

TEST(a_log_that_was_moved_away_is_opened_anew)
{
    char moved[80];
    start(false);
    snprintf(moved, sizeof moved, "%s.1", path);
    srv_access_log_write(access_log, &example);
    for (int i = 0; i < 500 && !*text(); i++) usleep(2000);
    CHECK(!rename(path, moved));
    srv_access_log_reopen(access_log, path);
    for (int i = 0; i < 500 && access(path, F_OK); i++) usleep(2000);
    srv_access_log_write(access_log, &example);
    srv_access_log_destroy(access_log);
    CHECK(*text());
    unlink(path);
    unlink(moved);
}

enum { THREADS = 4, EACH = 3000 };

static void *write_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < EACH; i++) srv_access_log_write(access_log, &example);
    return NULL;
}

TEST(threads_write_whole_lines_and_dropped_ones_are_counted)
{
    pthread_t threads[THREADS];
    start(true);
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, write_many, NULL));
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    uint64_t dropped = srv_access_log_dropped(access_log), lines = 0;
    srv_access_log_destroy(access_log);
    FILE *f = fopen(path, "r");
    char line[1024];
    while (fgets(line, sizeof line, f)) {
        CHECK(line[0] == '{' && line[strlen(line) - 2] == '}');
        lines++;
    }
    fclose(f);
    CHECK_EQ(lines + dropped, THREADS * EACH);
    unlink(path);
}

TEST(no_log_is_a_log_too)
{
    srv_access_log_write(NULL, &example);
    srv_access_log_reopen(NULL, NULL);
    srv_access_log_destroy(NULL);
    CHECK_EQ(srv_access_log_dropped(NULL), 0);
    CHECK_CODE(srv_access_log_create(&access_log, "/no/such/folder/log", false, &st), OD_IO);
}

TEST(ids_differ_and_given_ones_are_checked)
{
    char a[SRV_ID_BYTES], b[SRV_ID_BYTES], longer[200] = {0};
    srv_id_make(a);
    srv_id_make(b);
    CHECK_EQ(strlen(a), 32);
    CHECK(strcmp(a, b));
    CHECK(srv_id_is_usable("a-1"));
    CHECK(!srv_id_is_usable(""));
    CHECK(!srv_id_is_usable("a b"));
    CHECK(!srv_id_is_usable("a\r\nX: y"));
    memset(longer, 'x', 129);
    CHECK(!srv_id_is_usable(longer));
}

TEST(a_trace_goes_on_with_a_parent_of_our_own)
{
    const char *given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    char out[SRV_TRACEPARENT_BYTES];
    CHECK(srv_traceparent_continue(given, out));
    CHECK(!strncmp(out, given, 36));
    CHECK(strncmp(out + 36, given + 36, 16));
    CHECK_STR(out + 52, "-01");
    CHECK(srv_traceparent_continue("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0a-more", out));
    CHECK_STR(out + 52, "-00");
    static const char *const bad[] = {"", "00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                      "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                                      "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                                      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                                      "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"};
    for (size_t i = 0; i < OD_COUNT(bad); i++) {
        CHECK(!srv_traceparent_continue(bad[i], out));
        CHECK_EQ(strlen(out), 55);
        CHECK_STR(out + 52, "-00");
    }
    CHECK(!srv_traceparent_continue(NULL, out));
}

TEST_MAIN
