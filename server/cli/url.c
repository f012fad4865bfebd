#include "server/cli/url.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

od_code srv_url_parse(const char *url, srv_url *out, od_status *st)
{
    if (!strncmp(url, "https://", 8)) return od_fail(st, OD_UNSUPPORTED, "%.100s: only http is spoken", url);
    const char *host = !strncmp(url, "http://", 7) ? url + 7 : url, *end;
    size_t n;
    if (*host == '[') { /* an IPv6 address */
        n = strcspn(++host, "]/");
        if (host[n] != ']') return od_fail(st, OD_BAD_ARGUMENT, "%.100s: no ']'", url);
        end = host + n + 1;
    } else {
        n = strcspn(host, ":/?");
        end = host + n;
    }
    size_t port = *end == ':' ? strspn(end + 1, "0123456789") : 0;
    const char *path = end + port + (*end == ':');
    if (!n || n >= sizeof out->host || port >= sizeof out->port || (*path && *path != '/') || strlen(path) >= sizeof out->path)
        return od_fail(st, OD_BAD_ARGUMENT, "%.100s is no URL", url);
    snprintf(out->host, sizeof out->host, "%.*s", (int)n, host);
    snprintf(out->port, sizeof out->port, "%.*s", port ? (int)port : 4, port ? end + 1 : "8000");
    snprintf(out->path, sizeof out->path, "%s", path);
    return OD_OK;
}

od_code srv_url_resolve(const srv_url *u, struct addrinfo **out, od_status *st)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc = getaddrinfo(u->host, u->port, &hints, out);
    return rc ? od_fail(st, OD_IO, "%s: %s", u->host, gai_strerror(rc)) : OD_OK;
}
