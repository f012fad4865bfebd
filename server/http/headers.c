#include "server/http/conn.h"

#include "server/watch/ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct head {
    srv_conn *c;
    int lengths, codings, contents, hosts, header_parts;
    const char *length, *coding, *header_part;
    const char *bad_name;
    size_t bytes;
} head;

/* RFC 9110's token characters. A name with anything else, such as a blank before the colon, is read one way
 * by us and another way by a proxy in front of us. */
static bool is_token(const char *s)
{
    static const uint32_t allowed[8] = {[1] = 0x03ff6cfa, 0xc7fffffe, 0x57ffffff}; /* a bit a character: letters, digits, !#$%&'*+-.^_`|~ */
    if (!*s) return false;
    for (; *s; s++)
        if (!(allowed[(unsigned char)*s / 32] >> (unsigned char)*s % 32 & 1)) return false;
    return true;
}

static enum MHD_Result take(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    head *h = arg;
    srv_request *r = &h->c->request;
    (void)kind;
    if (!value) value = "";
    h->bytes += strlen(name) + strlen(value) + 4;
    if (!is_token(name)) h->bad_name = name;
    switch (name[0] | 32) {
    case 'c':
        if (!strcasecmp(name, "content-length")) h->lengths++, h->length = value;
        else if (!strcasecmp(name, "content-encoding")) h->contents++, h->c->content_coding = value;
        break;
    case 'h':
        if (!strcasecmp(name, "host")) h->hosts++;
        break;
    case 'i':
        if (!strcasecmp(name, "inference-header-content-length")) h->header_parts++, h->header_part = value;
        break;
    case 't':
        if (!strcasecmp(name, "transfer-encoding")) h->codings++, h->coding = value;
        else if (!strcasecmp(name, "traceparent") && !srv_traceparent_continue(value, r->traceparent)) r->traceparent[0] = '\0';
        break;
    case 'x':
        if (!strcasecmp(name, "x-request-id") && srv_id_is_usable(value)) memcpy(r->id, value, strlen(value) + 1);
        break;
    default: break;
    }
    return MHD_YES;
}

bool srv_whole(const char *s, size_t *out)
{
    size_t n = 0, value = 0;
    for (; s[n] >= '0' && s[n] <= '9' && n < 19; n++) value = value * 10 + (size_t)(s[n] - '0');
    *out = value;
    return n && n < 19 && !s[n];
}

od_code srv_head_check(srv_conn *c, bool needs_host, od_status *st)
{
    head h = {.c = c};
    srv_request *r = &c->request;
    MHD_get_connection_values(c->mhd, MHD_HEADER_KIND, take, &h);
    c->body_want = SIZE_MAX;
    r->reply.close = true; /* what follows an ambiguous head cannot be trusted to be a request */
    if (h.bad_name) return od_fail(st, OD_BAD_ARGUMENT, "a header name with impossible characters: %.60s", h.bad_name);
    if (h.bytes > r->http->o.max_header) {
        r->reply.status = 431;
        return od_fail(st, OD_TOO_LARGE, "headers of %zu bytes: at most %zu", h.bytes, r->http->o.max_header);
    }
    if (h.lengths > 1) return od_fail(st, OD_BAD_ARGUMENT, "Content-Length is given %d times", h.lengths);
    if (h.codings > 1) return od_fail(st, OD_BAD_ARGUMENT, "Transfer-Encoding is given %d times", h.codings);
    if (h.lengths && h.codings) return od_fail(st, OD_BAD_ARGUMENT, "both Content-Length and Transfer-Encoding are given");
    if (!h.hosts && needs_host) return od_fail(st, OD_BAD_ARGUMENT, "the header Host is missing, which HTTP/1.1 asks for");
    if (h.hosts > 1) return od_fail(st, OD_BAD_ARGUMENT, "Host is given %d times", h.hosts);
    if (h.codings && strcasecmp(h.coding, "chunked")) {
        r->reply.status = 501;
        return od_fail(st, OD_UNSUPPORTED, "Transfer-Encoding '%.40s': only chunked is known", h.coding);
    }
    if (h.lengths && !srv_whole(h.length, &c->body_want))
        return od_fail(st, OD_BAD_ARGUMENT, "Content-Length '%.40s' is no length", h.length);
    if (!h.lengths && !h.codings) c->body_want = 0; /* neither: there is no body */
    r->reply.close = false;
    if (h.contents > 1) {
        r->reply.status = 415;
        return od_fail(st, OD_UNSUPPORTED, "Content-Encoding is given %d times: one coding is known at a time", h.contents);
    }
    if (h.header_parts > 1 || (h.header_part && !srv_whole(h.header_part, &r->header_part)))
        return od_fail(st, OD_BAD_ARGUMENT, "Inference-Header-Content-Length '%.40s' is no length", h.header_part);
    r->has_header_part = h.header_part != NULL;
    return OD_OK;
}
