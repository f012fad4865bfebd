#include "server/protocols/pictures.h"

#include "server/base64.h"
#include "server/protocols/infer.h"
#include "server/protocols/multipart.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static od_code add(srv_request *r, srv_pictures *p, const void *bytes, size_t len, od_status *st)
{
    if (!p->list) p->list = od_arena_array(&r->arena, srv_piece, SRV_PICTURES_MOST);
    if (!p->list) return od_fail(st, OD_NO_MEMORY, "no memory for pictures");
    if (p->n == SRV_PICTURES_MOST) return od_fail(st, OD_TOO_LARGE, "more than %d pictures", SRV_PICTURES_MOST);
    p->list[p->n++] = (srv_piece){bytes, len};
    return OD_OK;
}

static od_code set_text(srv_request *r, srv_query *q, eng_str key, eng_str value, od_status *st)
{
    char *k = od_arena_strdup(&r->arena, key.ptr, key.len), *v = od_arena_strdup(&r->arena, value.ptr, value.len);
    if (!k || !v) return od_fail(st, OD_NO_MEMORY, "no memory for parameters");
    return srv_query_set(q, k, v, st);
}

static od_code from_url(srv_request *r, srv_query *q, od_status *st)
{
    const char *at = r->query, *key, *value;
    while (srv_query_next(r, &at, &key, &value, st)) OD_TRY(srv_query_set(q, key, value, st));
    return st->code;
}

static od_code from_multipart(srv_request *r, const char *type, srv_pictures *p, srv_query *q, od_status *st)
{
    srv_multipart m;
    srv_part part;
    OD_TRY(srv_multipart_init(&m, type, r->body, r->body_len, st));
    while (srv_multipart_next(&m, &part, st)) {
        if (part.filename.ptr || part.type.ptr) OD_TRY(add(r, p, part.data, part.len, st));
        else OD_TRY(set_text(r, q, part.name.ptr ? part.name : (eng_str){"", 0}, (eng_str){part.data, part.len}, st));
    }
    return st->code;
}

/* "base64", or {"b64": "base64"}. */
static od_code one_from_json(srv_request *r, srv_json *j, srv_pictures *p, od_status *st)
{
    eng_str key, text = {0};
    char *bytes;
    size_t len;
    if (srv_json_peek(j) == '{') {
        OD_TRY(srv_json_object(j, st));
        while (srv_json_member(j, &key, st)) {
            if (!srv_str_is(key, "b64")) return od_fail(st, OD_BAD_ARGUMENT, "a picture is base64 text or {\"b64\": text}");
            OD_TRY(srv_json_string(j, &text, st));
        }
        OD_TRY(srv_json_code(j));
    } else {
        OD_TRY(srv_json_string(j, &text, st));
    }
    OD_TRY(srv_base64_decode(text.ptr ? text.ptr : "", text.len, &r->arena, &bytes, &len, st));
    return add(r, p, bytes, len, st);
}

static od_code parameters_from_json(srv_request *r, srv_json *j, srv_query *q, od_status *st)
{
    eng_str key, value;
    OD_TRY(srv_json_object(j, st));
    while (srv_json_member(j, &key, st)) {
        if (srv_json_peek(j) == '"') OD_TRY(srv_json_string(j, &value, st));
        else OD_TRY(srv_json_skip(j, &value, st));
        OD_TRY(set_text(r, q, key, value, st));
    }
    return srv_json_code(j);
}

static od_code from_json(srv_request *r, srv_pictures *p, srv_query *q, od_status *st)
{
    srv_json j = srv_json_init(r->body, r->body_len, &r->arena, 0);
    eng_str key;
    OD_TRY(srv_json_object(&j, st));
    while (srv_json_member(&j, &key, st)) {
        if (srv_str_is(key, "image")) {
            OD_TRY(one_from_json(r, &j, p, st));
        } else if (srv_str_is(key, "images")) {
            p->several = true;
            OD_TRY(srv_json_array(&j, st));
            while (srv_json_item(&j, st))
                if (one_from_json(r, &j, p, st) != OD_OK) return od_note(st, "images[%d]", p->n);
            OD_TRY(srv_json_code(&j));
        } else if (srv_str_is(key, "parameters")) {
            OD_TRY(parameters_from_json(r, &j, q, st));
        } else {
            return od_fail(st, OD_BAD_ARGUMENT, "'%.*s': image, images or parameters is wanted", srv_cut(key.len), key.ptr);
        }
    }
    OD_TRY(srv_json_code(&j));
    return srv_json_finish(&j, st);
}

/* JPEG's, PNG's or WebP's first bytes. */
static bool looks_like_picture(const char *b, size_t n)
{
    return n >= 12 && (!memcmp(b, "\xff\xd8\xff", 3) || !memcmp(b, "\x89PNG", 4) || (!memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WEBP", 4)));
}

static bool is_type(const char *header, const char *type)
{
    size_t n = strlen(type);
    return !strncasecmp(header, type, n) && (!header[n] || header[n] == ';' || header[n] == ' ' || type[n - 1] == '/');
}

od_code srv_pictures_find(srv_request *r, srv_pictures *out, srv_query *query, od_status *st)
{
    const char *type = srv_request_header(r, "Content-Type");
    *out = (srv_pictures){0};
    OD_TRY(from_url(r, query, st));
    if (type && is_type(type, "multipart/form-data")) {
        OD_TRY(from_multipart(r, type, out, query, st));
    } else if (type && is_type(type, "application/json")) {
        OD_TRY(from_json(r, out, query, st));
    } else if (!type || is_type(type, "image/") || is_type(type, "application/octet-stream") ||
               (is_type(type, "application/x-www-form-urlencoded") && looks_like_picture(r->body, r->body_len))) {
        OD_TRY(add(r, out, r->body, r->body_len, st)); /* the form type is what curl says when it is told none */
    } else {
        r->reply.status = 415;
        return od_fail(st, OD_UNSUPPORTED, "Content-Type '%.60s': image/jpeg, image/png, image/webp, multipart/form-data or application/json is wanted", type);
    }
    if (!out->n) return od_fail(st, OD_BAD_ARGUMENT, "there is no picture in the request");
    out->several |= out->n > 1;
    return OD_OK;
}
