#include "server/store/follow.h"
#include "engine/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DEPTH = 3, /* DIR, NAME, VERSION; or NAME, onnx */
    EVENTS = IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
};

/* Adding a folder a second time changes nothing, so that all may be added again after each change. */
static bool add_folders(int fd, const char *dir, int depth)
{
    char path[4096];
    if (inotify_add_watch(fd, dir, EVENTS | IN_ONLYDIR) < 0 && errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
        od_log(OD_WARN, "cannot follow changes of %s: %s", dir, strerror(errno));
        return false;
    }
    DIR *d = depth > 1 ? opendir(dir) : NULL;
    if (!d) return true;
    bool all = true;
    for (struct dirent *e; all && (e = readdir(d));) {
        struct stat info;
        int n = snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] == '.' || n < 0 || n >= (int)sizeof path || stat(path, &info) || !S_ISDIR(info.st_mode)) continue;
        all = add_folders(fd, path, depth - 1);
    }
    closedir(d);
    return all;
}

int srv_follow_open(const char *dir)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) {
        od_log(OD_WARN, "cannot follow changes of %s: %s", dir, strerror(errno));
        return -1;
    }
    add_folders(fd, dir, DEPTH);
    return fd;
}

void srv_follow_drain(int fd, const char *dir)
{
    char buffer[8192] __attribute__((aligned(8)));
    while (read(fd, buffer, sizeof buffer) > 0) {}
    add_folders(fd, dir, DEPTH);
}

void srv_follow_close(int fd)
{
    if (fd >= 0) close(fd);
}
