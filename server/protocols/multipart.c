#include "server/protocols/multipart.h"

#include <string.h>
#include <strings.h>

enum { BOUNDARY_MOST = 70 };

od_code srv_multipart_init(srv_multipart *m, const char *content_type, const char *body, size_t len, od_status *st)
{
    const char *b = strcasestr(content_type, "boundary=");
    size_t n = 0;
    if (b) {
        b += 9;
        if (*b == '"') n = strcspn(++b, "\"");
        else n = strcspn(b, "; \t");
    }
    if (!n || n > BOUNDARY_MOST) return od_fail(st, OD_BAD_ARGUMENT, "multipart without a boundary of 1 to %d characters", BOUNDARY_MOST);
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, b, n);
    m->n = n + 4;
    /* the first delimiter may open the body, without its line end */
    const char *first = len >= m->n - 2 && !memcmp(body, m->delimiter + 2, m->n - 2) ? body - 2 : memmem(body, len, m->delimiter, m->n);
    if (!first) return od_fail(st, OD_BAD_ARGUMENT, "the multipart boundary is not in the body");
    m->at = first + m->n;
    m->end = body + len;
    return OD_OK;
}

/* The value of `key` in a header line such as `form-data; name="image"; filename="a.jpg"`. */
static eng_str parameter(eng_str line, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i + n + 1 < line.len; i++) {
        const char *p = line.ptr + i, *end = line.ptr + line.len;
        if (strncasecmp(p, key, n) || p[n] != '=' || (i && p[-1] != ' ' && p[-1] != ';' && p[-1] != '\t')) continue;
        p += n + 1;
        bool quoted = p < end && *p == '"';
        const char *from = p += quoted;
        while (p < end && (quoted ? *p != '"' : *p != ';' && *p != ' ')) p++;
        return (eng_str){from, (size_t)(p - from)};
    }
    return (eng_str){0};
}

static void take_header(srv_part *part, eng_str line)
{
    if (line.len > 20 && !strncasecmp(line.ptr, "content-disposition:", 20)) {
        part->name = parameter(line, "name");
        part->filename = parameter(line, "filename");
    } else if (line.len > 13 && !strncasecmp(line.ptr, "content-type:", 13)) {
        part->type = (eng_str){line.ptr + 13, line.len - 13};
        while (part->type.len && *part->type.ptr == ' ') part->type.ptr++, part->type.len--;
    }
}

bool srv_multipart_next(srv_multipart *m, srv_part *part, od_status *st)
{
    const char *p = m->at;
    *part = (srv_part){0};
    if (m->end - p >= 2 && p[0] == '-' && p[1] == '-') return false; /* the closing delimiter */
    while (p < m->end && (*p == ' ' || *p == '\t')) p++;
    if (m->end - p < 2 || p[0] != '\r' || p[1] != '\n') {
        od_fail(st, OD_BAD_ARGUMENT, "the multipart body breaks off");
        return false;
    }
    for (p += 2;;) { /* header lines up to an empty one */
        const char *line_end = memmem(p, (size_t)(m->end - p), "\r\n", 2);
        if (!line_end) {
            od_fail(st, OD_BAD_ARGUMENT, "a part's headers break off");
            return false;
        }
        if (line_end == p) break;
        take_header(part, (eng_str){p, (size_t)(line_end - p)});
        p = line_end + 2;
    }
    part->data = p + 2;
    const char *next = memmem(p, (size_t)(m->end - p), m->delimiter, m->n); /* from p: an empty part's line ends coincide */
    if (!next) {
        od_fail(st, OD_BAD_ARGUMENT, "a part without the boundary behind it");
        return false;
    }
    part->len = next > part->data ? (size_t)(next - part->data) : 0;
    m->at = next + m->n;
    return true;
}
