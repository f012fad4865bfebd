/* malformed.c - what libmicrohttpd itself answers to requests that it cannot read, as JSON.
 *
 * No handler is asked then: it sends a page of HTML that it makes by its own public function. That call, as all those of its
 * public functions, goes through the dynamic linker, which finds the functions here first. Everything but those pages is made
 * as libmicrohttpd makes it. */
#include "server/http/conn.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A page's text between the tags of its body, as {"error": text}; NULL: it is no such page, or no memory. */
static char *as_json(const char *page, size_t size, size_t *len)
{
    static const char begin[] = "<html><head><title>", body[] = "<body>", head[] = "{\"error\":\"", tail[] = "\"}";
    if (size < sizeof begin || memcmp(page, begin, sizeof begin - 1)) return NULL;
    const char *end = page + size, *from = memmem(page, size, body, sizeof body - 1);
    char *text = from ? malloc(size + sizeof head + sizeof tail) : NULL, *to = text;
    if (!text) return NULL;
    memcpy(to, head, sizeof head - 1);
    to += sizeof head - 1;
    bool tag = false;
    for (from += sizeof body - 1; from < end; from++) {
        if (*from == '<') tag = true;
        else if (*from == '>') tag = false;
        else if (!tag) *to++ = *from == '"' || *from == '\\' || (unsigned char)*from < ' ' ? '\'' : *from;
    }
    memcpy(to, tail, sizeof tail - 1);
    *len = (size_t)(to - text) + sizeof tail - 1;
    return text;
}

struct MHD_Response *MHD_create_response_from_buffer(size_t size, void *buffer, enum MHD_ResponseMemoryMode mode)
{
    size_t len = size;
    char *json = mode == MHD_RESPMEM_PERSISTENT && size ? as_json(buffer, size, &len) : NULL;
    if (json) {
        struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback(len, json, free);
        if (r) MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
        else free(json);
        return r;
    }
    if (mode == MHD_RESPMEM_MUST_COPY) {
        void *copy = malloc(size + !size);
        if (!copy) return NULL;
        if (size) memcpy(copy, buffer, size);
        buffer = copy;
    }
    return MHD_create_response_from_buffer_with_free_callback(size, buffer, mode == MHD_RESPMEM_PERSISTENT ? NULL : free);
}

/* libmicrohttpd 0.9.75 sends the head of its answer twice when there is no Host or Content-Length is no number, so it is
 * not told of either; headers.c sees them and answers. */
typedef struct wanted {
    const char *key, *value;
    size_t key_len, value_len;
} wanted;

static enum MHD_Result compare(void *arg, enum MHD_ValueKind kind, const char *key, size_t key_len, const char *value, size_t value_len)
{
    wanted *w = arg;
    (void)kind;
    if (key_len != w->key_len || ((key[0] ^ w->key[0]) & ~0x20) || strncasecmp(key, w->key, key_len)) return MHD_YES;
    w->value = value ? value : "";
    w->value_len = value_len;
    return MHD_NO; /* the first one */
}

enum MHD_Result MHD_lookup_connection_value_n(struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key, size_t key_size,
                                              const char **value, size_t *value_size)
{
    static const char length[] = "Content-Length", host[] = "Host";
    wanted w = {.key = key, .key_len = key_size};
    size_t ignored;
    if (key) MHD_get_connection_values_n(connection, kind, compare, &w);
    if (kind == MHD_HEADER_KIND && key_size == sizeof length - 1 && !strncasecmp(key, length, key_size) && w.value && !srv_whole(w.value, &ignored))
        w.value = NULL;
    if (!w.value && kind == MHD_HEADER_KIND && key_size == sizeof host - 1 && !strncasecmp(key, host, key_size)) w.value = "";
    if (value) *value = w.value;
    if (value_size) *value_size = w.value_len;
    return w.value ? MHD_YES : MHD_NO;
}
