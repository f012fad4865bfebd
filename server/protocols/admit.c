/* admit.c - who may ask what, before a request's body is read.
 *
 * The file of tokens has a line a client: NAME TOKEN [admin] [rate=N], N requests a second; '#' begins a
 * comment. Without a file everybody may do everything. */
#include "server/protocols/infer.h"

#include "engine/base/cpu.h"
#include "engine/base/log.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { TOKEN_MOST = 512, BURST_SECONDS = 1 };

typedef struct token {
    char name[64], text[TOKEN_MOST];
    size_t len;
    bool admin;
    double rate, left; /* requests a second, 0: any number; what is left of it */
    int64_t at_ns;     /* when `left` was right */
} token;

static struct {
    pthread_mutex_t lock;
    token *list;
    int n;
    atomic_bool on; /* looked at without the lock first */
} tokens = {.lock = PTHREAD_MUTEX_INITIALIZER};

static od_code read_line(char *line, token *t, od_status *st)
{
    char *rest = line, *word;
    int n = 0;
    *t = (token){0};
    line[strcspn(line, "#\r\n")] = '\0';
    while ((word = strsep(&rest, " \t"))) {
        if (!*word) continue;
        if (n == 0) {
            if (strlen(word) >= sizeof t->name) return od_fail(st, OD_BAD_ARGUMENT, "a name of more than %zu characters", sizeof t->name - 1);
            strcpy(t->name, word);
        } else if (n == 1) {
            t->len = strlen(word);
            if (t->len < 8 || t->len >= TOKEN_MOST) return od_fail(st, OD_BAD_ARGUMENT, "a token of %zu characters: 8 to %d", t->len, TOKEN_MOST - 1);
            strcpy(t->text, word);
        } else if (!strcmp(word, "admin")) {
            t->admin = true;
        } else if (!strncmp(word, "rate=", 5)) {
            char *end;
            t->rate = t->left = strtod(word + 5, &end);
            if (*end || !(t->rate > 0) || t->rate > 1e9) return od_fail(st, OD_BAD_ARGUMENT, "'%.40s' is no rate", word);
        } else {
            return od_fail(st, OD_BAD_ARGUMENT, "'%.40s': admin or rate=N is wanted", word);
        }
        n++;
    }
    if (n == 1) return od_fail(st, OD_BAD_ARGUMENT, "a name without a token");
    return OD_OK;
}

static od_code read_file(FILE *f, token **list, int *n, od_status *st)
{
    char line[TOKEN_MOST * 2];
    for (int number = 1; fgets(line, sizeof line, f); number++) {
        token t;
        if (read_line(line, &t, st) != OD_OK) return od_note(st, "line %d", number);
        if (!t.len) continue;
        token *more = realloc(*list, (size_t)(*n + 1) * sizeof t);
        if (!more) return od_fail(st, OD_NO_MEMORY, "no memory for tokens");
        *list = more;
        more[(*n)++] = t;
    }
    return OD_OK;
}

od_code srv_admit_read(const char *path, od_status *st)
{
    token *list = NULL;
    int n = 0;
    if (path) {
        FILE *f = fopen(path, "re");
        if (!f) return od_fail(st, OD_IO, "%s: %s", path, strerror(errno));
        od_code rc = read_file(f, &list, &n, st);
        fclose(f);
        if (!rc && !n) rc = od_fail(st, OD_BAD_ARGUMENT, "no token in it");
        if (rc) {
            free(list);
            return od_note(st, "%s", path);
        }
    }
    pthread_mutex_lock(&tokens.lock);
    token *old = tokens.list;
    tokens.list = list;
    tokens.n = n;
    atomic_store(&tokens.on, path != NULL);
    pthread_mutex_unlock(&tokens.lock);
    free(old);
    return OD_OK;
}

/* Takes as long whatever the texts are: a loop over `len` bytes of both. `a` has room for TOKEN_MOST. */
static bool same(const char *a, const char *b, size_t a_len, size_t b_len)
{
    volatile unsigned char differ = a_len != b_len;
    for (size_t i = 0; i < TOKEN_MOST; i++) differ |= (unsigned char)(a[i] ^ b[i]);
    return !differ;
}

static double burst(const token *t)
{
    return t->rate * BURST_SECONDS < 1 ? 1 : t->rate * BURST_SECONDS;
}

/* One request from the token's bucket; false: it is empty, and `*wait_us` is when it will not be. */
static bool take(token *t, int64_t *wait_us)
{
    int64_t now = od_now_ns();
    double most = burst(t);
    if (t->at_ns) t->left += (double)(now - t->at_ns) / 1e9 * t->rate;
    if (t->left > most) t->left = most;
    t->at_ns = now;
    if (t->left < 1) {
        *wait_us = (int64_t)((1 - t->left) / t->rate * 1e6);
        return false;
    }
    t->left--;
    return true;
}

/* What clients know from draft-ietf-httpapi-ratelimit-headers: requests that may come at once, how many of them are left, and in
 * how many seconds none will be missing. */
static void tell_rate(srv_request *r, const token *t)
{
    enum { ROOM = 24 };
    static const char *const names[] = {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"};
    const double values[] = {burst(t), t->left, ceil((burst(t) - t->left) / t->rate)};
    char *text = od_arena_alloc(&r->arena, sizeof names / sizeof *names * ROOM);
    for (size_t i = 0; text && i < OD_COUNT(names); i++, text += ROOM) {
        snprintf(text, ROOM, "%.0f", floor(values[i]));
        srv_reply_header(r, names[i], text);
    }
}

static od_code check_token(srv_request *r, od_status *st)
{
    const char *header = srv_request_header(r, "Authorization");
    char given[TOKEN_MOST] = {0};
    int64_t wait_us = 0;
    size_t len = 0;
    if (header && !strncasecmp(header, "Bearer ", 7)) {
        header += 7 + strspn(header + 7, " ");
        len = strlen(header);
        if (len < TOKEN_MOST) memcpy(given, header, len);
    }
    bool found = false, admin = false, in_rate = true;
    for (int i = 0; i < tokens.n; i++) {
        token *t = &tokens.list[i];
        if (!same(given, t->text, len, t->len)) continue;
        found = true;
        admin = t->admin;
        r->client = od_arena_strdup(&r->arena, t->name, strlen(t->name));
        if (t->rate <= 0) continue;
        in_rate = take(t, &wait_us);
        tell_rate(r, t);
    }
    if (!found) {
        r->reply.status = 401;
        srv_reply_header(r, "WWW-Authenticate", "Bearer");
        return od_fail(st, OD_BAD_ARGUMENT, header ? "the token is not known" : "a token is needed: Authorization: Bearer ...");
    }
    if ((r->route->flags & SRV_ROUTE_ADMIN) && !admin) {
        r->reply.status = 403;
        return od_fail(st, OD_BAD_ARGUMENT, "this token may not change which models are served");
    }
    if (!in_rate) {
        r->reply.status = 429;
        srv_retry_after(r, wait_us);
        return od_fail(st, OD_BUSY, "more requests than this token's rate allows");
    }
    return OD_OK;
}

/* A picture that nobody will look at need not be sent, nor kept. */
static od_code check_queue(srv_request *r, od_status *st)
{
    srv_model *m;
    OD_TRY(srv_request_model(r, &m, st));
    od_code rc = srv_batcher_has_room(m->batcher, 0, st);
    if (rc == OD_BUSY) srv_queue_full(r, m->batcher);
    srv_model_release(m);
    return rc;
}

od_code srv_admit(srv_request *r, od_status *st)
{
    unsigned flags = r->route->flags;
    if (flags & SRV_ROUTE_OPEN) return OD_OK;
    if (!atomic_load(&srv_server_of(r)->open)) {
        srv_reply_header(r, "Retry-After", "1");
        return od_fail(st, OD_UNAVAILABLE, "the server is starting");
    }
    if ((flags & SRV_ROUTE_INFER) && atomic_load(&srv_server_of(r)->draining)) {
        srv_reply_header(r, "Retry-After", "1");
        return od_fail(st, OD_UNAVAILABLE, "shutting down");
    }
    if (atomic_load(&tokens.on)) {
        pthread_mutex_lock(&tokens.lock);
        od_code rc = atomic_load(&tokens.on) ? check_token(r, st) : OD_OK;
        pthread_mutex_unlock(&tokens.lock);
        if (rc != OD_OK) return rc;
    }
    return flags & SRV_ROUTE_QUEUE ? check_queue(r, st) : OD_OK;
}
