/* page.c - GET /: the page for people, one text with its style and script in it. join.sh makes page_bytes.h of the sources beside this. */
#include "server/page/page_bytes.h"
#include "server/protocols/protocols.h"

#include <string.h>

#define PLAIN_TAG "\"" PAGE_ETAG "\""
#define GZIP_TAG "\"" PAGE_ETAG "-gz\""

void srv_page(srv_request *r)
{
    bool gzip = srv_request_accepts(r, "gzip");
    const char *tag = gzip ? GZIP_TAG : PLAIN_TAG, *known = srv_request_header(r, "If-None-Match");
    r->reply.type = "text/html; charset=utf-8";
    r->reply.body = (srv_text){.arena = &r->arena};
    srv_reply_header(r, "ETag", tag);
    srv_reply_header(r, "Cache-Control", "no-cache");
    srv_reply_header(r, "Vary", "Accept-Encoding");
    srv_reply_header(r, "Content-Security-Policy", PAGE_POLICY);
    srv_reply_header(r, "X-Content-Type-Options", "nosniff");
    srv_reply_header(r, "Referrer-Policy", "no-referrer");
    if (known && (strstr(known, tag) || !strcmp(known, "*"))) {
        r->reply.status = 304;
    } else if ((r->reply.pieces = od_arena_array(&r->arena, srv_piece, 1))) {
        *r->reply.pieces = gzip ? (srv_piece){page_gzip, sizeof page_gzip} : (srv_piece){page_plain, sizeof page_plain};
        r->reply.n_pieces = 1;
        if (gzip) srv_reply_header(r, "Content-Encoding", "gzip");
    } else {
        r->reply.body.full = true;
    }
    srv_request_finish(r);
}
