#include "server/cli/cli.h"
#include "server/cli/url.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { SECONDS = 4 }; /* the container's probe gives up after five */

static od_code ask(const srv_url *u, char *answer, size_t size, od_status *st)
{
    struct addrinfo *found = NULL;
    struct timeval limit = {.tv_sec = SECONDS};
    char request[2048];
    int fd = -1;
    OD_TRY(srv_url_resolve(u, &found, st));
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
    if (fd < 0) return od_fail(st, OD_IO, "nobody listens on %s port %s", u->host, u->port);
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", u->path, u->host);
    size_t used = 0;
    ssize_t n = send(fd, request, (size_t)len, MSG_NOSIGNAL);
    while (n > 0 && used + 1 < size && (n = recv(fd, answer + used, size - 1 - used, 0)) > 0) used += (size_t)n;
    close(fd);
    answer[used] = '\0';
    if (strncmp(answer, "HTTP/1.", 7) || used < 12) return od_fail(st, OD_IO, "%s port %s gave no HTTP answer", u->host, u->port);
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
    srv_url u;
    const char *port = getenv("ONNXD_PORT"), *prefix = getenv("ONNXD_API_PREFIX");
    if (!url) {
        snprintf(own, sizeof own, "http://127.0.0.1:%.7s%.400s/v2/health/ready", port && *port ? port : "8000", prefix ? prefix : "");
        url = own;
    }
    if (srv_url_parse(url, &u, &st) != OD_OK) {
        srv_cli_fail(&st);
        return 2;
    }
    if (!u.path[0] || !strcmp(u.path, "/")) strcpy(u.path, "/v2/health/ready");
    if (ask(&u, answer, sizeof answer, &st) != OD_OK) return srv_cli_fail(&st);
    if (!strncmp(answer + 8, " 200", 4)) return 0;
    const char *body = strstr(answer, "\r\n\r\n");
    fprintf(stderr, "onnxd: %.*s %s\n", (int)strcspn(answer, "\r\n"), answer, body ? body + 4 : "");
    return 1;
}
