#include "server/store/store.h"
#include "engine/base/cpu.h"
#include "engine/base/log.h"
#include "server/store/follow.h"
#include "server/store/held.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    SETTLE_MS = 500,
    PATIENCE = 20,    /* times the settle time, while changes go on */
    RESCAN_MS = 15000 /* SRV_CONTROL_POLL: network file systems do not tell of changes */
};

/* A version of a model, on disk, in memory, or both. */
typedef struct slot {
    int64_t version;
    uint64_t signature; /* of the files when they were tried last */
    bool tried;
    srv_state state;
    char reason[240];
    srv_held *held;
} slot;

typedef struct entry {
    struct entry *next;
    char name[256];
    slot *slots; /* from the newest version to the oldest */
    int n_slots;
    char *card_json; /* given with the last load; NULL: none */
    bool initial;    /* to be loaded at the start */
    bool was_ready;
    bool off;        /* unloaded on request */
} entry;

/* Somebody's wish, done by the store's thread in turn. */
typedef struct command {
    struct command *next;
    enum { LOAD, UNLOAD, START } kind;
    char name[256];
    char *card_json;
    srv_store_done *done;
    void *arg;
} command;

/* An unload that waits for models to be freed. */
typedef struct srv_unloading {
    int left;
    srv_store_done *done;
    void *arg;
} srv_unloading;

struct srv_store {
    srv_store_options o;
    char *dir;
    pthread_t thread;
    int wake_fd, follow_fd;

    pthread_mutex_t lock; /* all below; entries and slots are changed by the store's thread alone */
    entry *entries;       /* by name */
    command *commands, **commands_end;
    srv_held *dead;       /* released by all, to be freed */
    size_t bytes;
    bool stop, rescan, started, all_ready;
};

const char *srv_state_name(srv_state s)
{
    static const char *const names[] = {"UNKNOWN", "LOADING", "READY", "UNLOADING", "UNAVAILABLE"};
    return names[s];
}

static void wake(srv_store *s)
{
    uint64_t one = 1;
    while (write(s->wake_fd, &one, sizeof one) < 0) {} /* interrupted */
}

/* ---- versions in use ---------------------------------------------------------------------- */

void srv_model_release(srv_model *m)
{
    if (!m) return;
    srv_held *h = (srv_held *)m;
    if (atomic_fetch_sub(&h->refs, 1) > 1) return;
    srv_store *s = h->store;
    pthread_mutex_lock(&s->lock);
    h->next = s->dead;
    s->dead = h;
    wake(s); /* under the lock: the store may end once this model is freed */
    pthread_mutex_unlock(&s->lock);
}

static entry *find_entry(const srv_store *s, const char *name)
{
    entry *e = s->entries;
    while (e && strcmp(e->name, name)) e = e->next;
    return e;
}

static od_code why_not(const entry *e, int64_t version, od_status *st)
{
    const slot *best = NULL;
    for (int i = 0; i < e->n_slots; i++) {
        const slot *v = &e->slots[i];
        if (version >= 1 && v->version != version) continue;
        if (!best || v->state == SRV_STATE_LOADING) best = v;
    }
    if (!best && version >= 1) return od_fail(st, OD_NOT_FOUND, "model '%s' has no version %" PRId64, e->name, version);
    if (best && best->state == SRV_STATE_LOADING) return od_fail(st, OD_UNAVAILABLE, "model '%s' is being loaded", e->name);
    if (best && *best->reason) return od_fail(st, OD_UNAVAILABLE, "model '%s' is not ready: %s", e->name, best->reason);
    return od_fail(st, OD_UNAVAILABLE, "model '%s' is not loaded", e->name);
}

od_code srv_store_acquire(srv_store *s, const char *name, int64_t version, srv_model **out, od_status *st)
{
    od_code rc = OD_OK;
    srv_held *h = NULL;
    pthread_mutex_lock(&s->lock);
    entry *e = find_entry(s, name);
    for (int i = 0; e && i < e->n_slots && !h; i++)
        if (version < 1 || e->slots[i].version == version) h = e->slots[i].held;
    if (h) atomic_fetch_add(&h->refs, 1);
    else if (e) rc = why_not(e, version, st);
    pthread_mutex_unlock(&s->lock);
    if (!e) return od_fail(st, OD_NOT_FOUND, "no model is called '%.180s'", name);
    if (!h) return rc;
    *out = &h->m;
    return OD_OK;
}

/* ---- the store's thread: loading ---------------------------------------------------------- */

static void set_state(srv_store *s, slot *v, srv_state state, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    v->state = state;
    snprintf(v->reason, sizeof v->reason, "%s", reason);
    pthread_mutex_unlock(&s->lock);
}

/* Put `h` (NULL: nothing) in the slot, and let go of what was there. */
static void exchange(srv_store *s, entry *e, slot *v, srv_held *h, srv_state state, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    srv_held *old = v->held;
    v->held = h;
    v->state = state;
    snprintf(v->reason, sizeof v->reason, "%s", reason);
    if (h) {
        e->was_ready = true;
        s->bytes += h->m.bytes;
    }
    pthread_mutex_unlock(&s->lock);
    if (old) srv_model_release(&old->m);
}

static od_code check_budget(const srv_store *s, size_t bytes, od_status *st)
{
    if (!s->o.memory_budget || s->bytes + bytes <= s->o.memory_budget) return OD_OK;
    return od_fail(st, OD_TOO_LARGE, "it needs %zu MB, %zu MB of %zu MB for models are in use", bytes >> 20, s->bytes >> 20,
                   s->o.memory_budget >> 20);
}

static od_code load_version(srv_store *s, entry *e, slot *v, const srv_found *f, od_status *st)
{
    srv_held *h = NULL;
    od_code rc;
    v->tried = true;
    v->signature = f->signature;
    if (!v->held) set_state(s, v, SRV_STATE_LOADING, "");
    if (!f->path) rc = od_fail(st, OD_BAD_MODEL, "%s", f->problem);
    else if ((rc = check_budget(s, (size_t)f->bytes, st)) == OD_OK)
        rc = srv_held_create(&h, f, e->card_json, &s->o, st);
    if (rc == OD_OK && (rc = check_budget(s, h->m.bytes, st)) != OD_OK) srv_held_destroy(h);
    if (rc != OD_OK) {
        od_log(OD_ERROR, "model '%s' version %" PRId64 " cannot be loaded: %s%s", f->name, f->version, st->msg,
               v->held ? "; the one before goes on serving" : "");
        set_state(s, v, v->held ? SRV_STATE_READY : SRV_STATE_UNAVAILABLE, st->msg);
        return rc;
    }
    h->store = s;
    exchange(s, e, v, h, SRV_STATE_READY, "");
    od_log(OD_INFO, "model '%s' version %" PRId64 " is ready after %.0f ms: %zu MB, batches of up to %" PRId64, f->name, f->version,
           h->m.load_seconds * 1e3, h->m.bytes >> 20, srv_batcher_rows(h->m.batcher));
    return OD_OK;
}

static slot *find_slot(entry *e, int64_t version)
{
    for (int i = 0; i < e->n_slots; i++)
        if (e->slots[i].version == version) return &e->slots[i];
    return NULL;
}

/* Bring the model's versions up to what lies on disk, found[0 .. n). `force`: load the newest again also when
 * nothing changed. The error is the newest version's. */
static od_code refresh(srv_store *s, entry *e, const srv_found *found, int n, bool force, od_status *st)
{
    int keep = s->o.versions < 0 ? n : s->o.versions ? s->o.versions : 1, ready = 0;
    od_code rc = OD_OK;
    for (int i = 0; i < n; i++) {
        slot *v = find_slot(e, found[i].version);
        if (ready >= keep) {
            if (v->held) exchange(s, e, v, NULL, SRV_STATE_UNAVAILABLE, "a newer version is served");
            v->tried = false;
            continue;
        }
        od_status own = {0};
        bool changed = !v->tried || v->signature != found[i].signature;
        if (changed || (force && (!i || v->held))) {
            if (load_version(s, e, v, &found[i], &own) != OD_OK && !i) *st = own, rc = own.code;
        }
        if (v->held) ready++;
    }
    return rc;
}

/* ---- the store's thread: what is on disk -------------------------------------------------- */

static bool slot_on_disk(const srv_found *found, int n, int64_t version)
{
    for (int i = 0; i < n; i++)
        if (found[i].version == version) return true;
    return false;
}

/* Slots for found[0 .. n) and for those in use, newest first; what is gone from disk is let go. */
static bool sync_slots(srv_store *s, entry *e, const srv_found *found, int n)
{
    for (int i = 0; i < e->n_slots; i++)
        if (e->slots[i].held && !slot_on_disk(found, n, e->slots[i].version))
            exchange(s, e, &e->slots[i], NULL, SRV_STATE_UNAVAILABLE, "its files are gone");
    slot *slots = calloc((size_t)n + 1, sizeof *slots);
    if (!slots) return false;
    for (int i = 0; i < n; i++) {
        slot *old = find_slot(e, found[i].version);
        slots[i] = old ? *old : (slot){.version = found[i].version};
    }
    pthread_mutex_lock(&s->lock);
    free(e->slots);
    e->slots = slots;
    e->n_slots = n;
    pthread_mutex_unlock(&s->lock);
    return true;
}

static entry *add_entry(srv_store *s, const char *name)
{
    entry *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    snprintf(e->name, sizeof e->name, "%s", name);
    pthread_mutex_lock(&s->lock);
    entry **at = &s->entries;
    while (*at && strcmp((*at)->name, name) < 0) at = &(*at)->next;
    e->next = *at;
    *at = e;
    pthread_mutex_unlock(&s->lock);
    return e;
}

static void free_entry(entry *e)
{
    free(e->slots);
    free(e->card_json);
    free(e);
}

static void drop_entry(srv_store *s, entry *e)
{
    sync_slots(s, e, NULL, 0);
    pthread_mutex_lock(&s->lock);
    for (entry **at = &s->entries; *at; at = &(*at)->next) {
        if (*at != e) continue;
        *at = e->next;
        break;
    }
    pthread_mutex_unlock(&s->lock);
    free_entry(e);
}

/* The lines of `name` in the scan. */
static int lines_of(const srv_scan *scan, const char *name, const srv_found **first)
{
    int n = 0;
    for (int i = 0; i < scan->n; i++) {
        if (strcmp(scan->found[i].name, name)) continue;
        if (!n++) *first = &scan->found[i];
    }
    return n;
}

static bool is_stopping(srv_store *s)
{
    pthread_mutex_lock(&s->lock);
    bool stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

/* Entries for all that was found. */
static od_code sync_entries(srv_store *s, const srv_scan *scan, od_status *st)
{
    for (int i = 0; i < scan->n;) {
        const srv_found *first = &scan->found[i];
        int n = 0;
        while (i < scan->n && !strcmp(scan->found[i].name, first->name)) i++, n++;
        entry *e = find_entry(s, first->name);
        if (!e) e = add_entry(s, first->name);
        if (!e || !sync_slots(s, e, first, n)) return od_fail(st, OD_NO_MEMORY, "no memory for a list of models");
    }
    return OD_OK;
}

static void follow_changes(srv_store *s)
{
    srv_scan scan;
    od_status st = {0};
    if (srv_scan_folder(s->o.dir, &scan, &st) != OD_OK) {
        od_log(OD_ERROR, "%s; models go on serving", st.msg);
        return;
    }
    for (entry *e = s->entries, *next; e; e = next) {
        const srv_found *first = NULL;
        next = e->next;
        if (lines_of(&scan, e->name, &first)) continue;
        od_log(OD_INFO, "model '%s' is gone from the folder", e->name);
        drop_entry(s, e);
    }
    if (sync_entries(s, &scan, &st) != OD_OK) od_log(OD_ERROR, "%s", st.msg);
    for (entry *e = s->entries; e && !is_stopping(s); e = e->next) {
        const srv_found *first = NULL;
        od_status own = {0};
        int n = lines_of(&scan, e->name, &first);
        if (s->o.control == SRV_CONTROL_EXPLICIT && (e->off || !e->was_ready)) continue; /* nobody asks for it */
        if (e->off && n == e->n_slots && find_slot(e, first->version)->signature == first->signature) continue;
        e->off = false;
        refresh(s, e, first, n, false, &own);
    }
    srv_scan_fini(&scan);
}

/* ---- the store's thread: commands --------------------------------------------------------- */

static od_code do_load(srv_store *s, command *c, od_status *st)
{
    srv_scan scan;
    const srv_found *first = NULL;
    OD_TRY(srv_scan_folder(s->o.dir, &scan, st));
    int n = lines_of(&scan, c->name, &first);
    od_code rc = OD_OK;
    entry *e = find_entry(s, c->name);
    if (!n) rc = od_fail(st, OD_NOT_FOUND, "no model is called '%.180s'", c->name);
    else if (!e && !(e = add_entry(s, c->name))) rc = od_fail(st, OD_NO_MEMORY, "no memory for a model");
    else if (!sync_slots(s, e, first, n)) rc = od_fail(st, OD_NO_MEMORY, "no memory for a model");
    if (rc == OD_OK) {
        e->off = false;
        if (c->kind == LOAD) {
            free(e->card_json);
            e->card_json = c->card_json;
            c->card_json = NULL;
        }
        rc = refresh(s, e, first, n, c->kind == LOAD, st);
    }
    srv_scan_fini(&scan);
    return rc;
}

/* true: the answer comes when the last user is gone. */
static bool do_unload(srv_store *s, const command *c, od_status *st)
{
    entry *e = find_entry(s, c->name);
    srv_unloading *u = e ? calloc(1, sizeof *u) : NULL;
    if (!u) {
        if (e) od_fail(st, OD_NO_MEMORY, "no memory");
        else od_fail(st, OD_NOT_FOUND, "no model is called '%.180s'", c->name);
        return false;
    }
    *u = (srv_unloading){.done = c->done, .arg = c->arg};
    e->off = true;
    for (int i = 0; i < e->n_slots; i++)
        if (e->slots[i].held) u->left++, e->slots[i].held->waiting = u;
    bool later = u->left > 0;
    if (!later) free(u);
    for (int i = 0; i < e->n_slots; i++) {
        slot *v = &e->slots[i];
        if (v->held) exchange(s, e, v, NULL, SRV_STATE_UNLOADING, "unloaded");
        else if (v->tried) set_state(s, v, SRV_STATE_UNAVAILABLE, "unloaded");
        v->tried = false;
    }
    od_log(OD_INFO, "model '%s' is unloaded", e->name);
    return later;
}

static void free_command(command *c)
{
    free(c->card_json);
    free(c);
}

static void note_start(srv_store *s)
{
    bool all = true;
    pthread_mutex_lock(&s->lock);
    for (entry *e = s->entries; e; e = e->next) all = all && (!e->initial || e->was_ready);
    if (s->started && all) s->all_ready = true;
    pthread_mutex_unlock(&s->lock);
}

static void run_command(srv_store *s, command *c)
{
    od_status st = {0};
    bool later = false;
    if (c->kind == UNLOAD) later = do_unload(s, c, &st);
    else do_load(s, c, &st);
    note_start(s);
    if (!later && c->done) c->done(c->arg, &st);
    free_command(c);
}

static void free_dead(srv_store *s, srv_held *h)
{
    char name[256];
    snprintf(name, sizeof name, "%s", h->m.name);
    int64_t version = h->m.version;
    size_t bytes = h->m.bytes;
    srv_unloading *u = h->waiting;
    srv_held_destroy(h);
    pthread_mutex_lock(&s->lock);
    s->bytes -= bytes;
    entry *e = find_entry(s, name);
    slot *v = e ? find_slot(e, version) : NULL;
    if (v && v->state == SRV_STATE_UNLOADING) v->state = SRV_STATE_UNAVAILABLE;
    pthread_mutex_unlock(&s->lock);
    if (!u || --u->left) return;
    malloc_trim(0);
    od_status ok = {0};
    if (u->done) u->done(u->arg, &ok);
    free(u);
}

/* ---- the store's thread: its life --------------------------------------------------------- */

/* Frees, obeys and looks for changes until there is nothing to do; false: the store ends. */
static bool work(srv_store *s)
{
    bool freed = false;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool stop = s->stop, rescan = s->rescan;
        srv_held *h = s->dead;
        command *c = h || stop ? NULL : s->commands;
        if (h) s->dead = h->next;
        if (c) {
            s->commands = c->next;
            if (!s->commands) s->commands_end = &s->commands;
        }
        if (!h && !c) s->rescan = false;
        pthread_mutex_unlock(&s->lock);
        if (h) free_dead(s, h), freed = true;
        else if (stop) return false;
        else if (c) run_command(s, c);
        else if (rescan) follow_changes(s), note_start(s);
        else break;
    }
    if (freed) malloc_trim(0); /* what a model held goes back to the system */
    return true;
}

static void *store_main(void *arg)
{
    srv_store *s = arg;
    bool follows = s->o.control == SRV_CONTROL_POLL;
    int64_t settle_ns = (int64_t)(s->o.settle_ms > 0 ? s->o.settle_ms : SETTLE_MS) * 1000000;
    int64_t rescan_at = follows ? od_now_ns() + RESCAN_MS * 1000000ll : 0, changing_since = 0;
    while (work(s)) {
        struct pollfd fds[2] = {{.fd = s->wake_fd, .events = POLLIN}, {.fd = s->follow_fd, .events = POLLIN}};
        int64_t left_ms = rescan_at ? od_max_i64(0, (rescan_at - od_now_ns()) / 1000000 + 1) : -1;
        poll(fds, 2, (int)left_ms);
        uint64_t count;
        if (fds[0].revents && read(s->wake_fd, &count, sizeof count) < 0) continue;
        int64_t now = od_now_ns();
        if (fds[1].revents) {
            srv_follow_drain(s->follow_fd, s->o.dir);
            if (!changing_since) changing_since = now;
            /* each further change puts it off, so that half a file is not loaded, but not for ever */
            rescan_at = od_min_i64(now + settle_ns, changing_since + settle_ns * PATIENCE);
        } else if (rescan_at && now >= rescan_at) {
            rescan_at = now + RESCAN_MS * 1000000ll;
            changing_since = 0;
            srv_store_rescan(s);
        }
    }
    return NULL;
}

/* ---- asking from outside ------------------------------------------------------------------ */

static od_code queue_command(srv_store *s, int kind, const char *name, const char *card_json, srv_store_done *done, void *arg,
                             od_status *st)
{
    command *c = calloc(1, sizeof *c);
    if (c && card_json) c->card_json = strdup(card_json);
    if (!c || (card_json && !c->card_json)) {
        free(c);
        return od_fail(st, OD_NO_MEMORY, "no memory for a request to the model store");
    }
    c->kind = kind;
    c->done = done;
    c->arg = arg;
    if (strlen(name) >= sizeof c->name) {
        free_command(c);
        return od_fail(st, OD_NOT_FOUND, "no model is called '%.180s...'", name);
    }
    strcpy(c->name, name);
    pthread_mutex_lock(&s->lock);
    *s->commands_end = c;
    s->commands_end = &c->next;
    wake(s);
    pthread_mutex_unlock(&s->lock);
    return OD_OK;
}

od_code srv_store_load_begin(srv_store *s, const char *name, const char *card_json, srv_store_done *done, void *arg, od_status *st)
{
    return queue_command(s, LOAD, name, card_json, done, arg, st);
}

od_code srv_store_unload_begin(srv_store *s, const char *name, srv_store_done *done, void *arg, od_status *st)
{
    return queue_command(s, UNLOAD, name, NULL, done, arg, st);
}

typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool done;
    od_status st;
} waiter;

static void tell_waiter(void *arg, const od_status *result)
{
    waiter *w = arg;
    pthread_mutex_lock(&w->lock);
    w->st = *result;
    w->done = true;
    pthread_cond_signal(&w->told);
    pthread_mutex_unlock(&w->lock);
}

static od_code wait_for(srv_store *s, int kind, const char *name, const char *card_json, od_status *st)
{
    waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER};
    OD_TRY(queue_command(s, kind, name, card_json, tell_waiter, &w, st));
    pthread_mutex_lock(&w.lock);
    while (!w.done) pthread_cond_wait(&w.told, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.told);
    pthread_mutex_destroy(&w.lock);
    if (w.st.code != OD_OK) *st = w.st;
    return w.st.code;
}

od_code srv_store_load(srv_store *s, const char *name, const char *card_json, od_status *st)
{
    return wait_for(s, LOAD, name, card_json, st);
}

od_code srv_store_unload(srv_store *s, const char *name, od_status *st)
{
    return wait_for(s, UNLOAD, name, NULL, st);
}

void srv_store_rescan(srv_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->rescan = true;
    wake(s);
    pthread_mutex_unlock(&s->lock);
}

bool srv_store_ready(srv_store *s)
{
    pthread_mutex_lock(&s->lock);
    bool ready = s->all_ready;
    pthread_mutex_unlock(&s->lock);
    return ready;
}

size_t srv_store_bytes(srv_store *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->bytes;
    pthread_mutex_unlock(&s->lock);
    return n;
}

od_code srv_store_index(srv_store *s, srv_entry **list, int *count, od_status *st)
{
    pthread_mutex_lock(&s->lock);
    size_t most = 1, n = 0;
    for (entry *e = s->entries; e; e = e->next) most += (size_t)e->n_slots + 1;
    srv_entry *out = calloc(most, sizeof *out);
    for (entry *e = s->entries; out && e; e = e->next) {
        size_t before = n;
        for (int i = 0; i < e->n_slots; i++) {
            const slot *v = &e->slots[i];
            if (v->state == SRV_STATE_UNKNOWN) continue;
            srv_entry *line = &out[n++];
            memcpy(line->name, e->name, sizeof line->name);
            line->version = v->version;
            line->state = v->state;
            memcpy(line->reason, v->reason, sizeof line->reason);
        }
        if (n == before) memcpy(out[n++].name, e->name, sizeof e->name);
    }
    pthread_mutex_unlock(&s->lock);
    if (!out) return od_fail(st, OD_NO_MEMORY, "no memory for a list of models");
    *list = out;
    *count = (int)n;
    return OD_OK;
}

/* ---- life --------------------------------------------------------------------------------- */

static bool is_initial(const srv_store_options *o, const char *name)
{
    if (o->control != SRV_CONTROL_EXPLICIT) return true;
    for (int i = 0; i < o->n_initial; i++)
        if (!strcmp(o->initial[i], name)) return true;
    return false;
}

/* The thread does not run yet. What is to be loaded says so from the start. */
static od_code begin(srv_store *s, od_status *st)
{
    srv_scan scan;
    OD_TRY(srv_scan_folder(s->o.dir, &scan, st));
    od_code rc = sync_entries(s, &scan, st);
    srv_scan_fini(&scan);
    for (int i = 0; rc == OD_OK && s->o.control == SRV_CONTROL_EXPLICIT && i < s->o.n_initial; i++)
        if (!find_entry(s, s->o.initial[i]))
            rc = od_fail(st, OD_NOT_FOUND, "model '%s' is to be loaded, and is not in %s", s->o.initial[i], s->o.dir);
    for (entry *e = s->entries; rc == OD_OK && e; e = e->next) {
        e->initial = is_initial(&s->o, e->name);
        if (!e->initial) continue;
        if (e->n_slots) e->slots[0].state = SRV_STATE_LOADING;
        rc = queue_command(s, START, e->name, NULL, NULL, NULL, st);
    }
    s->started = true;
    note_start(s); /* an empty folder is ready */
    return rc;
}

static void free_store(srv_store *s)
{
    for (command *c = s->commands, *next; c; c = next) {
        od_status st = {0};
        next = c->next;
        od_fail(&st, OD_UNAVAILABLE, "the server ends");
        if (c->done) c->done(c->arg, &st);
        free_command(c);
    }
    for (entry *e = s->entries, *next; e; e = next) {
        next = e->next;
        for (int i = 0; i < e->n_slots; i++) srv_held_destroy(e->slots[i].held);
        free_entry(e);
    }
    srv_follow_close(s->follow_fd);
    if (s->wake_fd >= 0) close(s->wake_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->dir);
    free(s);
}

od_code srv_store_create(srv_store **out, const srv_store_options *options, od_status *st)
{
    srv_store *s = calloc(1, sizeof *s);
    if (!s) return od_fail(st, OD_NO_MEMORY, "no memory for the model store");
    s->o = *options;
    s->follow_fd = -1;
    s->commands_end = &s->commands;
    pthread_mutex_init(&s->lock, NULL);
    s->wake_fd = eventfd(0, EFD_CLOEXEC);
    s->o.dir = s->dir = strdup(options->dir);
    if (s->wake_fd < 0 || !s->dir) {
        od_fail(st, OD_NO_MEMORY, "no memory for the model store");
        goto fail;
    }
    if (s->o.control == SRV_CONTROL_POLL) s->follow_fd = srv_follow_open(s->dir);
    if (begin(s, st) != OD_OK) goto fail;
    s->o.initial = NULL; /* the caller's, and done with */
    if (pthread_create(&s->thread, NULL, store_main, s)) {
        od_fail(st, OD_IO, "the system refused a thread for the model store");
        goto fail;
    }
    pthread_setname_np(s->thread, "store");
    *out = s;
    return OD_OK;
fail:
    free_store(s);
    return st->code;
}

void srv_store_destroy(srv_store *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    wake(s);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    free_store(s);
}
