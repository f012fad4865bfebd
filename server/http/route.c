#include "server/http/conn.h"

#include "server/protocols/json.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENTS = 12 };

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

char *srv_percent_decode(od_arena *a, const char *s, size_t len, bool form)
{
    char *out = od_arena_alloc(a, len + 1), *to = out;
    if (!out) return NULL;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (c == '%') {
            int high = i + 2 < len ? hex(s[i + 1]) : -1, low = i + 2 < len ? hex(s[i + 2]) : -1;
            if (high < 0 || low < 0 || (!high && !low)) return NULL;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && form) {
            c = ' ';
        }
        *to++ = c;
    }
    *to = '\0';
    return out;
}

bool srv_query_next(srv_request *r, const char **at, const char **key, const char **value, od_status *st)
{
    while (**at == '&') ++*at;
    if (!**at) return false;
    size_t len = strcspn(*at, "&"), name = strcspn(*at, "=&");
    *key = srv_percent_decode(&r->arena, *at, name, true);
    *value = name < len ? srv_percent_decode(&r->arena, *at + name + 1, len - name - 1, true) : "";
    if (!*key || !*value) {
        od_fail(st, OD_BAD_ARGUMENT, "the query has a '%%' that is no escape");
        return false;
    }
    *at += len;
    return true;
}

/* Does pattern's segment `p` of `n` bytes match `s`? `*hit` and `*hit_len`: the part that "{}" stands for. */
static bool segment_matches(const char *p, size_t n, srv_piece s, srv_piece *hit)
{
    *hit = (srv_piece){0};
    if (n < 2 || p[0] != '{') return n == s.len && !memcmp(p, s.data, n);
    size_t behind = n - 2; /* text behind the braces */
    if (s.len <= behind || memcmp((const char *)s.data + s.len - behind, p + 2, behind)) return false;
    *hit = (srv_piece){s.data, s.len - behind};
    return true;
}

static bool matches(const srv_route *route, const srv_piece *segments, int n, srv_piece *hits, int *n_hits)
{
    const char *p = route->pattern;
    *n_hits = 0;
    for (int i = 0; i < n; i++) {
        if (*p++ != '/') return false;
        size_t len = (size_t)(strchrnul(p, '/') - p);
        srv_piece hit;
        if (!segment_matches(p, len, segments[i], &hit)) return false;
        if (hit.data) hits[(*n_hits)++] = hit;
        p += len;
    }
    return !*p;
}

static int split(const char *path, srv_piece *segments)
{
    int n = 0;
    while (*path == '/' && path[1]) {
        path++;
        size_t len = (size_t)(strchrnul(path, '/') - path);
        if (n == SEGMENTS) return -1;
        segments[n++] = (srv_piece){path, len};
        path += len;
    }
    return n;
}

static od_code refuse(srv_request *r, int status, od_code code, od_status *st, const char *what)
{
    r->reply.status = status;
    return od_fail(st, code, "%s: %.*s", what, 120, r->path);
}

od_code srv_route_find(srv_request *r, od_status *st)
{
    const srv_http_options *o = &r->http->o;
    srv_piece segments[SEGMENTS], hits[SEGMENTS];
    int n = split(r->path, segments), n_hits;
    char allow[64] = "";
    bool special = false; /* "{}:predict" matched: then "{}" alone does not mean this path */
    for (int i = 0; n >= 0 && i < o->n_routes; i++) {
        const srv_route *route = &o->routes[i];
        if (!matches(route, segments, n, hits, &n_hits)) continue;
        bool verb = strstr(route->pattern, "}:") != NULL;
        if (special && !verb) continue;
        special |= verb;
        if (strcmp(route->method, r->method) && !(!strcmp(r->method, "HEAD") && !strcmp(route->method, "GET"))) {
            if (*allow) strcat(allow, ", ");
            strcat(allow, route->method);
            if (!strcmp(route->method, "GET")) strcat(allow, ", HEAD");
            continue;
        }
        for (int k = 0; k < n_hits; k++) {
            char *text = srv_percent_decode(&r->arena, hits[k].data, hits[k].len, false);
            if (!text) return refuse(r, 400, OD_BAD_ARGUMENT, st, "a '%' that is no escape in the path");
            size_t len = strlen(text);
            for (size_t b = 0; b < len;) {
                int u = srv_utf8_length((const unsigned char *)text + b, len - b);
                if (!u) return refuse(r, 400, OD_BAD_ARGUMENT, st, "a path that is not UTF-8");
                b += (size_t)u;
            }
            r->captures[k] = text;
        }
        r->n_captures = n_hits;
        r->route = route;
        return OD_OK;
    }
    if (!*allow) return refuse(r, 404, OD_NOT_FOUND, st, "nothing here");
    char *value = od_arena_strdup(&r->arena, allow, strlen(allow));
    if (value) srv_reply_header(r, "Allow", value);
    r->reply.status = 405;
    return od_fail(st, OD_BAD_ARGUMENT, "%s is not possible here, %s is: %.*s", r->method, allow, 120, r->path);
}
