#include "server/store/inside.h"
#include "engine/base/cpu.h"
#include "engine/base/log.h"
#include "server/store/follow.h"

#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SETTLE_MS = 500,
    PATIENCE = 20,    /* times the settle time, while changes go on */
    RESCAN_MS = 15000 /* SRV_CONTROL_POLL: network file systems do not tell of changes */
};

/* ---- the store's thread: what is on disk -------------------------------------------------- */

static bool slot_on_disk(const srv_found *found, int n, int64_t version)
{
    for (int i = 0; i < n; i++)
        if (found[i].version == version) return true;
    return false;
}

/* Slots for found[0 .. n) and for those in use, newest first; what is gone from disk is let go. */
static bool sync_slots(srv_store *s, srv_store_entry *e, const srv_found *found, int n)
{
    for (int i = 0; i < e->n_slots; i++)
        if (e->slots[i].held && !slot_on_disk(found, n, e->slots[i].version))
            srv_slot_exchange(s, e, &e->slots[i], NULL, SRV_STATE_UNAVAILABLE, "its files are gone");
    srv_slot *slots = calloc((size_t)n + 1, sizeof *slots);
    if (!slots) return false;
    for (int i = 0; i < n; i++) {
        srv_slot *old = srv_find_slot(e, found[i].version);
        slots[i] = old ? *old : (srv_slot){.version = found[i].version};
    }
    pthread_mutex_lock(&s->lock);
    free(e->slots);
    e->slots = slots;
    e->n_slots = n;
    pthread_mutex_unlock(&s->lock);
    return true;
}

static srv_store_entry *add_entry(srv_store *s, const char *name)
{
    srv_store_entry *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    snprintf(e->name, sizeof e->name, "%s", name);
    pthread_mutex_lock(&s->lock);
    srv_store_entry **at = &s->entries;
    while (*at && strcmp((*at)->name, name) < 0) at = &(*at)->next;
    e->next = *at;
    *at = e;
    pthread_mutex_unlock(&s->lock);
    return e;
}

void srv_free_entry(srv_store_entry *e)
{
    srv_upload_remove(e->folder);
    free(e->slots);
    free(e->card_json);
    free(e);
}

static void drop_entry(srv_store *s, srv_store_entry *e)
{
    sync_slots(s, e, NULL, 0);
    pthread_mutex_lock(&s->lock);
    for (srv_store_entry **at = &s->entries; *at; at = &(*at)->next) {
        if (*at != e) continue;
        *at = e->next;
        break;
    }
    pthread_mutex_unlock(&s->lock);
    srv_free_entry(e);
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

bool srv_store_is_stopping(srv_store *s)
{
    pthread_mutex_lock(&s->lock);
    bool stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

/* Entries for all that was found. */
od_code srv_sync_entries(srv_store *s, const srv_scan *scan, od_status *st)
{
    for (int i = 0; i < scan->n;) {
        const srv_found *first = &scan->found[i];
        int n = 0;
        while (i < scan->n && !strcmp(scan->found[i].name, first->name)) i++, n++;
        srv_store_entry *e = srv_find_entry(s, first->name);
        if (!e) e = add_entry(s, first->name);
        if (!e || !sync_slots(s, e, first, n)) return od_fail(st, OD_NO_MEMORY, "no memory for a list of models");
    }
    return OD_OK;
}

static uint64_t signature_of(const srv_found *found, int n)
{
    uint64_t h = (uint64_t)n + 1;
    for (int i = 0; i < n; i++) h = (h ^ found[i].signature ^ (uint64_t)found[i].version) * 0x100000001b3u;
    return h;
}

/* A loader is to bring `e` up to the lines found[0 .. n) of `scan`, which it takes. */
static od_code load_later(srv_store *s, srv_store_entry *e, srv_scan *scan, const srv_found *found, int n, bool force, const srv_command *c,
                          od_status *st)
{
    srv_loading *l = calloc(1, sizeof *l);
    if (!l) return od_fail(st, OD_NO_MEMORY, "no memory for a model");
    *l = (srv_loading){.entry = e, .scan = *scan, .found = found, .n = n, .force = force, .done = c ? c->done : NULL, .arg = c ? c->arg : NULL};
    *scan = (srv_scan){0};
    e->seen = signature_of(found, n);
    srv_load_start(s, l);
    return OD_OK;
}

/* Files of `e` as they are now: of its own folder, or in the store's. */
static od_code scan_again(const srv_store *s, const srv_store_entry *e, srv_scan *out, od_status *st)
{
    return e->folder ? srv_scan_model(e->folder, e->name, out, st) : srv_scan_name(s->o.dir, e->name, out, st);
}

static bool is_busy(srv_store *s, srv_store_entry *e, bool look_again)
{
    pthread_mutex_lock(&s->lock);
    bool busy = e->busy;
    if (busy && look_again) e->again = true;
    pthread_mutex_unlock(&s->lock);
    return busy;
}

static void follow_entry(srv_store *s, srv_store_entry *e)
{
    srv_scan scan;
    od_status st = {0};
    if (s->o.control == SRV_CONTROL_EXPLICIT && (e->off || !e->was_ready)) return; /* nobody asks for it */
    if (scan_again(s, e, &scan, &st) == OD_OK && scan.n && signature_of(scan.found, scan.n) != e->seen && sync_slots(s, e, scan.found, scan.n)) {
        e->off = false;
        load_later(s, e, &scan, scan.found, scan.n, false, NULL, &st);
    }
    if (st.code) od_log(OD_ERROR, "model '%s': %s", e->name, st.msg);
    srv_scan_fini(&scan);
}

static void follow_changes(srv_store *s)
{
    srv_scan scan;
    od_status st = {0};
    if (srv_scan_folder(s->o.dir, &scan, &st) != OD_OK) {
        od_log(OD_ERROR, "%s; models go on serving", st.msg);
        return;
    }
    for (srv_store_entry *e = s->entries, *next; e; e = next) {
        const srv_found *first = NULL;
        next = e->next;
        if (e->folder || lines_of(&scan, e->name, &first) || is_busy(s, e, true)) continue;
        od_log(OD_INFO, "model '%s' is gone from the folder", e->name);
        drop_entry(s, e);
    }
    for (int i = 0; i < scan.n; i++)
        if (!srv_find_entry(s, scan.found[i].name) && !add_entry(s, scan.found[i].name)) od_log(OD_ERROR, "no memory for a list of models");
    srv_scan_fini(&scan);
    for (srv_store_entry *e = s->entries; e && !srv_store_is_stopping(s); e = e->next)
        if (!is_busy(s, e, true)) follow_entry(s, e);
}

/* ---- the store's thread: commands --------------------------------------------------------- */

/* Slots for what is there now, then a loader goes on and tells who waits. When it fails nobody is told. */
static od_code do_load(srv_store *s, srv_command *c, od_status *st)
{
    srv_scan scan = {0};
    const srv_found *first = NULL;
    srv_store_entry *e = srv_find_entry(s, c->name);
    od_code rc = c->folder          ? srv_scan_model(c->folder, c->name, &scan, st)
                 : c->kind == START && e ? scan_again(s, e, &scan, st)
                                    : srv_scan_folder(s->o.dir, &scan, st);
    int n = lines_of(&scan, c->name, &first);
    if (rc != OD_OK) goto done;
    if (!n) rc = od_fail(st, OD_NOT_FOUND, "no model is called '%.180s'", c->name);
    else if (!e && !(e = add_entry(s, c->name))) rc = od_fail(st, OD_NO_MEMORY, "no memory for a model");
    else if (!sync_slots(s, e, first, n)) rc = od_fail(st, OD_NO_MEMORY, "no memory for a model");
    if (rc != OD_OK) goto done;
    e->off = false;
    if (c->kind == LOAD) {
        free(e->card_json);
        e->card_json = c->card_json;
        srv_upload_remove(e->folder);
        e->folder = c->folder;
        c->card_json = c->folder = NULL;
    }
    rc = load_later(s, e, &scan, first, n, c->kind == LOAD, c, st);
done:
    srv_scan_fini(&scan);
    return rc;
}

/* true: the answer comes when the last user is gone. */
static bool do_unload(srv_store *s, const srv_command *c, od_status *st)
{
    srv_store_entry *e = srv_find_entry(s, c->name);
    srv_unloading *u = e ? calloc(1, sizeof *u) : NULL;
    if (!u) {
        if (e) od_fail(st, OD_NO_MEMORY, "no memory");
        else od_fail(st, OD_NOT_FOUND, "no model is called '%.180s'", c->name);
        return false;
    }
    *u = (srv_unloading){.done = c->done, .arg = c->arg};
    e->off = true;
    srv_upload_remove(e->folder);
    e->folder = NULL;
    for (int i = 0; i < e->n_slots; i++)
        if (e->slots[i].held) u->left++, e->slots[i].held->waiting = u;
    bool later = u->left > 0;
    if (!later) free(u);
    for (int i = 0; i < e->n_slots; i++) {
        srv_slot *v = &e->slots[i];
        if (v->held) srv_slot_exchange(s, e, v, NULL, SRV_STATE_UNLOADING, "unloaded");
        else if (v->tried) srv_slot_state(s, v, SRV_STATE_UNAVAILABLE, "unloaded");
        v->tried = false;
    }
    od_log(OD_INFO, "model '%s' is unloaded", e->name);
    return later;
}

void srv_free_command(srv_command *c)
{
    free(c->card_json);
    srv_upload_remove(c->folder);
    free(c);
}

void srv_note_start(srv_store *s)
{
    bool all = true;
    pthread_mutex_lock(&s->lock);
    for (srv_store_entry *e = s->entries; e; e = e->next) all = all && (!e->initial || e->was_ready);
    if (s->started && all) s->all_ready = true;
    pthread_mutex_unlock(&s->lock);
}

static void run_command(srv_store *s, srv_command *c)
{
    od_status st = {0};
    bool later = c->kind == UNLOAD ? do_unload(s, c, &st) : do_load(s, c, &st) == OD_OK;
    if (!later) {
        srv_note_start(s);
        if (c->done) c->done(c->arg, &st);
    }
    srv_free_command(c);
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
    od_budget_give(s->o.budget, bytes);
    srv_store_entry *e = srv_find_entry(s, name);
    srv_slot *v = e ? srv_find_slot(e, version) : NULL;
    if (v && v->state == SRV_STATE_UNLOADING) v->state = SRV_STATE_UNAVAILABLE;
    pthread_mutex_unlock(&s->lock);
    if (!u || --u->left) return;
    malloc_trim(0);
    od_status ok = {0};
    if (u->done) u->done(u->arg, &ok);
    free(u);
}

/* ---- the store's thread: its life --------------------------------------------------------- */

/* The first command about a model that is not being loaded. Under the lock. */
static srv_command *take_command(srv_store *s)
{
    for (srv_command **at = &s->commands; *at; at = &(*at)->next) {
        srv_command *c = *at;
        const srv_store_entry *e = srv_find_entry(s, c->name);
        if (e && e->busy) continue;
        *at = c->next;
        if (s->commands_end == &c->next) s->commands_end = at;
        return c;
    }
    return NULL;
}

/* Frees, obeys and looks for changes until there is nothing to do; false: the store ends. */
static bool work(srv_store *s)
{
    bool freed = false;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool stop = s->stop, rescan = s->rescan;
        srv_held *h = s->dead;
        srv_command *c = h || stop ? NULL : take_command(s);
        if (h) s->dead = h->next;
        if (!h && !c) s->rescan = false;
        pthread_mutex_unlock(&s->lock);
        if (h) free_dead(s, h), freed = true;
        else if (stop) return false;
        else if (c) run_command(s, c);
        else if (rescan) follow_changes(s), srv_note_start(s);
        else break;
    }
    if (freed) malloc_trim(0); /* what a model held goes back to the system */
    return true;
}

void *srv_store_main(void *arg)
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

