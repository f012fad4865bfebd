#include "server/cli/cli.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { SECONDS = 4 }; /* the container's probe gives up after five */

typedef struct target {
    char host[256], port[8], path[512];
} target;

/* http://HOST[:PORT][/PATH], or a bare HOST:PORT. */
static od_code parse_url(const char *url, target *t, od_status *st)
{
    if (!strncmp(url, "https://", 8)) return od_fail(st, OD_UNSUPPORTED, "%.100s: only http is probed", url);
    const char *at = !strncmp(url, "http://", 7) ? url + 7 : url;
    size_t len = strcspn(at, "/"), host = len;
    const char *name = at;
    if (*at == '[') { /* an IPv6 address */
        name = at + 1;
        host = strcspn(name, "]/");
        if (name[host] != ']') return od_fail(st, OD_BAD_ARGUMENT, "%.100s: no ']'", url);
        at = name + host + 1;
        len = strcspn(at, "/");
        if (*at && *at != ':' && *at != '/') return od_fail(st, OD_BAD_ARGUMENT, "%.100s is no URL", url);
        snprintf(t->port, sizeof t->port, "%.*s", (int)(len ? len - 1 : 0), len ? at + 1 : "");
    } else {
        host = strcspn(at, ":/");
        snprintf(t->port, sizeof t->port, "%.*s", (int)(host < len ? len - host - 1 : 0), at + host + (host < len));
    }
    if (!host || host >= sizeof t->host || strlen(at + len) >= sizeof t->path) return od_fail(st, OD_BAD_ARGUMENT, "%.100s is no URL", url);
    memcpy(t->host, name, host);
    t->host[host] = '\0';
    if (!t->port[0]) strcpy(t->port, "8000");
    const char *path = at + len;
    snprintf(t->path, sizeof t->path, "%s%s", path, !*path || !strcmp(path, "/") ? (*path ? "v2/health/ready" : "/v2/health/ready") : "");
    return OD_OK;
}

static od_code ask(const target *t, char *answer, size_t size, od_status *st)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    struct timeval limit = {.tv_sec = SECONDS};
    char request[1024];
    int rc = getaddrinfo(t->host, t->port, &hints, &found), fd = -1;
    if (rc) return od_fail(st, OD_IO, "%s: %s", t->host, gai_strerror(rc));
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, a->ai_addr, a->ai_addrlen)) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0) return od_fail(st, OD_IO, "nobody listens on %s port %s", t->host, t->port);
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", t->path, t->host);
    size_t used = 0;
    ssize_t n = send(fd, request, (size_t)len, MSG_NOSIGNAL);
    while (n > 0 && used + 1 < size && (n = recv(fd, answer + used, size - 1 - used, 0)) > 0) used += (size_t)n;
    close(fd);
    answer[used] = '\0';
    if (strncmp(answer, "HTTP/1.", 7) || used < 12) return od_fail(st, OD_IO, "%s port %s gave no HTTP answer", t->host, t->port);
    return OD_OK;
}

int srv_cmd_health(int argc, char **argv)
{
    srv_args a = {.argc = argc, .at = 1, .argv = argv};
    const char *url = NULL, *word;
    while (a.at < argc && !a.failed) {
        if (srv_args_flag(&a, "--help")) {
            printf("usage: onnxd health [URL]\n\nAsks http://127.0.0.1:8000/v2/health/ready, or URL, which may name another host, port or path.\n"
                   "ONNXD_PORT and ONNXD_API_PREFIX hold here too. Exit code 0 when the answer is 200.\n");
            return 0;
        }
        if (!url && (word = srv_args_word(&a))) url = word;
        else srv_args_unknown(&a);
    }
    if (a.failed) return 2;
    od_status st = {0};
    char own[600], answer[4096];
    target t = {0};
    const char *port = getenv("ONNXD_PORT"), *prefix = getenv("ONNXD_API_PREFIX");
    if (!url) {
        snprintf(own, sizeof own, "http://127.0.0.1:%.7s%.400s/v2/health/ready", port && *port ? port : "8000", prefix ? prefix : "");
        url = own;
    }
    if (parse_url(url, &t, &st) != OD_OK) {
        srv_cli_fail(&st);
        return 2;
    }
    if (ask(&t, answer, sizeof answer, &st) != OD_OK) return srv_cli_fail(&st);
    if (!strncmp(answer + 8, " 200", 4)) return 0;
    const char *body = strstr(answer, "\r\n\r\n");
    fprintf(stderr, "onnxd: %.*s %s\n", (int)strcspn(answer, "\r\n"), answer, body ? body + 4 : "");
    return 1;
}
