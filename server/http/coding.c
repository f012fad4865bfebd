#include "server/http/conn.h"

#include "server/protocols/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum { GZIP_WINDOW = 15 + 16, ANY_WINDOW = 15 + 32, RAW_WINDOW = -15, FREE_RATIO = 1 << 20 };

static od_code too_large(const srv_http *h, od_status *st, size_t size)
{
    return od_fail(st, OD_TOO_LARGE, "a body of %zu bytes or more after decompression: at most %zu", size, h->o.max_body);
}

/* Inflate all of `from` into a growing buffer. `window` as zlib's inflateInit2 takes it. */
static od_code inflate_all(const srv_http *h, const char *from, size_t len, int window, char **out, size_t *out_len, od_status *st)
{
    z_stream z = {0};
    size_t cap = 0, used = 0;
    char *to = NULL;
    od_code rc = OD_OK;
    if (inflateInit2(&z, window) != Z_OK) return od_fail(st, OD_NO_MEMORY, "no memory to decompress");
    z.next_in = (Bytef *)(uintptr_t)from;
    z.avail_in = (uInt)len;
    for (int z_rc = Z_OK; z_rc != Z_STREAM_END;) {
        if (used + SRV_JSON_PAD >= cap) {
            size_t most = h->o.max_body + 1;
            if (used >= most) { rc = too_large(h, st, used); break; }
            size_t want = cap ? cap * 2 : len * 4 + 1024;
            if (want > most + SRV_JSON_PAD) want = most + SRV_JSON_PAD;
            char *more = realloc(to, want);
            if (!more) { rc = od_fail(st, OD_NO_MEMORY, "no memory for %zu decompressed bytes", want); break; }
            to = more;
            cap = want;
        }
        size_t room = cap - SRV_JSON_PAD - used;
        z.next_out = (Bytef *)to + used;
        z.avail_out = (uInt)room;
        z_rc = inflate(&z, Z_NO_FLUSH);
        used += room - z.avail_out;
        if (z_rc != Z_OK && z_rc != Z_STREAM_END && z_rc != Z_BUF_ERROR) {
            rc = od_fail(st, OD_BAD_VALUE, "the body is no whole compressed stream: %s", z.msg ? z.msg : "corrupt");
            break;
        }
        if (z_rc != Z_STREAM_END && !z.avail_in && z.avail_out) {
            rc = od_fail(st, OD_BAD_VALUE, "the compressed body breaks off");
            break;
        }
        if (used > FREE_RATIO && used / (size_t)h->o.max_inflate_ratio > len) {
            rc = od_fail(st, OD_TOO_LARGE, "the body grows more than %d times when decompressed", h->o.max_inflate_ratio);
            break;
        }
    }
    if (!rc && z.avail_in) rc = od_fail(st, OD_BAD_VALUE, "%u bytes behind the compressed body", z.avail_in);
    if (!rc && used > h->o.max_body) rc = too_large(h, st, used);
    inflateEnd(&z);
    if (rc) {
        free(to);
        return rc;
    }
    memset(to + used, 0, SRV_JSON_PAD);
    *out = to;
    *out_len = used;
    return OD_OK;
}

od_code srv_body_decode(srv_request *r, od_status *st)
{
    srv_conn *c = srv_conn_of(r);
    const char *coding = c->content_coding;
    if (!coding || !strcasecmp(coding, "identity")) return OD_OK;
    bool gzip = !strcasecmp(coding, "gzip") || !strcasecmp(coding, "x-gzip"), deflate = !strcasecmp(coding, "deflate");
    if (!gzip && !deflate) {
        r->reply.status = 415;
        return od_fail(st, OD_UNSUPPORTED, "Content-Encoding '%.40s': gzip and deflate are known", coding);
    }
    if (!r->body_len) return od_fail(st, OD_BAD_VALUE, "the compressed body breaks off");
    /* "deflate" is the zlib format, but some send the bare stream */
    bool bare = deflate && ((r->body[0] & 15) != 8 || ((unsigned char)r->body[0] * 256 + (unsigned char)r->body[1]) % 31);
    char *plain = NULL;
    size_t plain_len = 0;
    OD_TRY(inflate_all(r->http, r->body, r->body_len, gzip ? GZIP_WINDOW : bare ? RAW_WINDOW : ANY_WINDOW, &plain, &plain_len, st));
    size_t kept = plain_len + SRV_JSON_PAD;
    if (kept > c->charged) { /* what came before is freed: only the difference is new */
        if (!od_budget_take(r->http->o.budget, kept - c->charged)) {
            free(plain);
            srv_reply_header(r, "Retry-After", "1");
            return od_fail(st, OD_BUSY, "the memory that models and requests may have together is used up");
        }
        atomic_fetch_add(&r->http->body_bytes, kept - c->charged);
        c->charged = kept;
    }
    free(r->body - c->body_lead);
    c->body_lead = 0;
    r->body = plain;
    r->body_len = plain_len;
    return OD_OK;
}

/* What Accept-Encoding says of `name`: false when it is absent or has q=0. `*others`: another coding is there. */
static bool accepts(const char *header, const char *name, bool *others)
{
    bool yes = false;
    while (*header) {
        size_t len = strcspn(header, ","), start = strspn(header, " \t"), word = strcspn(header + start, " \t;,");
        const char *q = memmem(header, len, "q=", 2);
        bool off = q && q[2] == '0' && strspn(q + 3, ".0") == strcspn(q + 3, " \t,;");
        if (word == strlen(name) && !strncasecmp(header + start, name, word)) yes = !off;
        else if (word && strncasecmp(header + start, "identity", 8)) *others |= !off;
        header += len;
        if (*header) header++;
    }
    return yes;
}

bool srv_request_accepts(const srv_request *r, const char *coding)
{
    const char *asked = srv_request_header(r, "Accept-Encoding");
    bool others = false;
    return asked && accepts(asked, coding, &others);
}

static bool deflate_part(z_stream *z, const void *data, size_t len, int flush)
{
    const char *p = data;
    do {
        size_t n = len > 1u << 30 ? 1u << 30 : len;
        z->next_in = (Bytef *)(uintptr_t)p;
        z->avail_in = (uInt)n;
        p += n;
        len -= n;
        int rc = deflate(z, len ? Z_NO_FLUSH : flush);
        if (rc == Z_STREAM_ERROR || z->avail_in) return false;
    } while (len);
    return true;
}

void srv_reply_encode(srv_request *r)
{
    srv_reply *p = &r->reply;
    size_t total = p->body.len;
    for (int i = 0; i < p->n_headers; i++)
        if (!strcasecmp(p->headers[i].name, "ETag")) return; /* which names these very bytes */
    for (int i = 0; i < p->n_pieces; i++) total += p->pieces[i].len;
    const char *asked = total > r->http->o.compress_above ? srv_request_header(r, "Accept-Encoding") : NULL;
    if (!asked) return;
    bool besides[2] = {false, false};
    bool gzip = accepts(asked, "gzip", &besides[0]), deflate = accepts(asked, "deflate", &besides[1]) && !gzip;
    /* Some clients name both codings with every request; only one that names just one wants tensors packed. */
    if (!(gzip || deflate) || (p->n_pieces && besides[deflate])) return;
    z_stream z = {0};
    if (deflateInit2(&z, 1, Z_DEFLATED, gzip ? GZIP_WINDOW : 15, 8, Z_DEFAULT_STRATEGY) != Z_OK) return;
    size_t bound = deflateBound(&z, total) + 64;
    char *out = od_arena_alloc(&r->arena, bound);
    bool fine = out && bound < UINT32_MAX;
    if (fine) {
        z.next_out = (Bytef *)out;
        z.avail_out = (uInt)bound;
        fine = deflate_part(&z, p->body.data, p->body.len, p->n_pieces ? Z_NO_FLUSH : Z_FINISH);
        for (int i = 0; fine && i < p->n_pieces; i++)
            fine = deflate_part(&z, p->pieces[i].data, p->pieces[i].len, i + 1 < p->n_pieces ? Z_NO_FLUSH : Z_FINISH);
    }
    size_t packed = bound - z.avail_out;
    deflateEnd(&z);
    if (!fine || packed >= total) return;
    if (p->tensors) {
        char *length = od_arena_alloc(&r->arena, 24);
        if (!length) return;
        snprintf(length, 24, "%zu", p->body.len); /* of the JSON before compression, as clients expect */
        srv_reply_header(r, "Inference-Header-Content-Length", length);
        p->tensors = false;
    }
    p->body = (srv_text){.arena = &r->arena, .data = out, .len = packed, .cap = packed};
    p->n_pieces = 0;
    srv_reply_header(r, "Content-Encoding", gzip ? "gzip" : "deflate");
    srv_reply_header(r, "Vary", "Accept-Encoding");
}
