#include "server/http/conn.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

static od_code listen_unix(srv_http *h, od_status *st)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat info;
    const char *path = h->o.socket_path;
    if (strlen(path) >= sizeof a.sun_path) return od_fail(st, OD_BAD_ARGUMENT, "socket path of %zu bytes: at most %zu", strlen(path), sizeof a.sun_path - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return od_fail(st, OD_IO, "no socket: %s", strerror(errno));
    /* what a server that has died left behind is in the way; a living one answers */
    if (lstat(path, &info) == 0 && S_ISSOCK(info.st_mode)) {
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EAGAIN) {
            close(fd);
            return od_fail(st, OD_IO, "%s: another server listens there", path);
        }
        unlink(path);
    }
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, BACKLOG)) {
        int e = errno;
        close(fd);
        return od_fail(st, OD_IO, "%s: %s", path, strerror(e));
    }
    h->listen_fd = fd;
    return OD_OK;
}

static int open_at(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    int yes = 1;
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int e = errno;
    close(fd);
    errno = e;
    return -1;
}

od_code srv_listen(srv_http *h, od_status *st)
{
    if (h->o.socket_path) return listen_unix(h, st);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", h->o.port);
    int rc = getaddrinfo(h->o.host, port, &hints, &found);
    if (rc) return od_fail(st, OD_BAD_ARGUMENT, "host '%s': %s", h->o.host, gai_strerror(rc));
    int fd = -1;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) fd = open_at(a);
    int e = errno;
    freeaddrinfo(found);
    if (fd < 0) return od_fail(st, OD_IO, "%s port %d: %s", h->o.host, h->o.port, strerror(e));
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char text[16] = "0";
    if (getsockname(fd, (struct sockaddr *)&bound, &size) == 0)
        getnameinfo((struct sockaddr *)&bound, size, NULL, 0, text, sizeof text, NI_NUMERICSERV);
    h->port = (int)strtol(text, NULL, 10);
    h->listen_fd = fd;
    return OD_OK;
}
