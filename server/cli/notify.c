#include "server/cli/notify.h"

#include "engine/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void srv_notify(const char *fmt, ...)
{
    static bool failed;
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if (failed || !len) return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    bool named = (path[0] == '/' || path[0] == '@') && len < sizeof to.sun_path && n > 0 && n < (int)sizeof text;
    int fd = named ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (named) memcpy(to.sun_path, path, len);
    if (path[0] == '@') to.sun_path[0] = '\0'; /* in the abstract namespace */
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (fd < 0 || sendto(fd, text, (size_t)n, MSG_NOSIGNAL, (const struct sockaddr *)&to, size) < 0) {
        od_log(OD_WARN, "NOTIFY_SOCKET %.100s: %s", path, named ? strerror(errno) : "no name of a socket");
        failed = true;
    }
    if (fd >= 0) close(fd);
}

int srv_notify_watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!usec || (pid && *pid && strtoll(pid, NULL, 10) != (long long)getpid())) return -1;
    long long us = strtoll(usec, NULL, 10);
    return us > 0 ? (int)od_min_i64(od_max_i64(us / 2000, 1), INT32_MAX) : -1;
}
