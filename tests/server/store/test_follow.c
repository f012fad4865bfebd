#include "server/store/follow.h"
#include "tests/server/store/files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

static bool tells(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static int unread(int fd)
{
    int n = 0;
    CHECK(ioctl(fd, FIONREAD, &n) == 0);
    return n;
}

static void touch(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", files_dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    CHECK(fd >= 0);
    close(fd);
    CHECK(unlink(path) == 0);
}

TEST(changes_three_folders_deep_are_told)
{
    files_begin();
    files_write("m/1/model.onnx", "a", 1);
    int fd = srv_follow_open(files_dir);
    CHECK(fd >= 0 && !tells(fd));
    files_write("m/1/model.onnx", "b", 1);
    CHECK(tells(fd));
    srv_follow_drain(fd, files_dir);
    CHECK(!tells(fd));
    srv_follow_close(fd);
    files_end();
}

/* More events than the system keeps: what they said is lost, but not that there were some, and folders that came meanwhile are
 * followed. */
TEST(an_overflow_of_the_systems_queue_loses_no_folder)
{
    int queue = 0;
    FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    CHECK(f && fscanf(f, "%d", &queue) == 1 && !fclose(f));
    files_begin();
    int fd = srv_follow_open(files_dir);
    CHECK(fd >= 0);
    for (int i = 0, before = -1; i < 3 * queue && unread(fd) != before; i++) {
        if (i % 64 == 0) before = unread(fd); /* full when it no longer grows */
        touch(i % 2 ? "a" : "b");
    }
    int full = unread(fd);
    files_write("new/1/model.onnx", "a", 1);
    CHECK_EQ(unread(fd), full); /* nobody was told of it */
    CHECK(tells(fd));
    srv_follow_drain(fd, files_dir);
    CHECK(!tells(fd));
    files_write("new/1/model.onnx", "b", 1);
    CHECK(tells(fd));
    srv_follow_close(fd);
    files_end();
}

TEST_MAIN
