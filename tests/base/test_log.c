#include "engine/base/log.h"
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

/* Standard error goes to a file while a test writes, and comes back before it checks. */
static int kept_stderr, file;

static void capture(void)
{
    char path[] = "/tmp/onnxd_test_log_XXXXXX";
    file = mkstemp(path);
    unlink(path);
    kept_stderr = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
}

static const char *captured(void)
{
    static char text[200000];
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    close(file);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

TEST(a_line_has_time_level_and_message) {
    capture();
    od_log(OD_WARN, "disk %s at %d", "full", 3);
    const char *text = captured();
    int year, month, day, hour, minute, second, ms, end = 0;
    CHECK_EQ(sscanf(text, "%d-%d-%dT%d:%d:%d.%dZ%n", &year, &month, &day, &hour, &minute, &second, &ms, &end), 7);
    CHECK_STR(text + end, " warn disk full at 3\n");
}

TEST(messages_below_the_level_are_dropped) {
    capture();
    od_log(OD_DEBUG, "unseen");
    od_log_level(OD_ERROR);
    od_log(OD_WARN, "unseen");
    od_log(OD_ERROR, "seen");
    od_log_level(OD_SILENT);
    od_log(OD_ERROR, "unseen");
    od_log_level(OD_DEBUG);
    od_log(OD_DEBUG, "this too");
    od_log_level(OD_INFO);
    const char *text = captured();
    CHECK(!strstr(text, "unseen"));
    CHECK_HAS(text, " error seen\n");
    CHECK_HAS(text, " debug this too\n");
}

TEST(long_lines_are_cut_and_still_end) {
    static char big[5000];
    memset(big, 'x', sizeof big - 1);
    capture();
    od_log(OD_INFO, "%s", big);
    od_log(OD_INFO, "next");
    const char *text = captured();
    CHECK_HAS(text, "x\n");
    CHECK_HAS(text, " info next\n");
    CHECK(strlen(text) < 1200);
}

static void *writes(void *arg)
{
    for (int i = 0; i < 200; i++) od_log(OD_INFO, "%s", (const char *)arg);
    return NULL;
}

TEST(lines_of_threads_do_not_mix) {
    pthread_t t[4];
    static const char *const words[] = {"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc", "dddddddddddddddd"};
    capture();
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, writes, (void *)(uintptr_t)words[i]);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    const char *text = captured();
    int lines = 0;
    for (const char *p = text, *end; (end = strchr(p, '\n')); p = end + 1, lines++) {
        CHECK(end - p > 16);
        for (const char *q = end - 15; q < end; q++) CHECK(*q == end[-16]);
    }
    CHECK_EQ(lines, 800);
}

TEST_MAIN
