#include "server/store/inside.h"
#include "server/store/follow.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

const char *srv_state_name(srv_state s)
{
    static const char *const names[] = {"UNKNOWN", "LOADING", "READY", "UNLOADING", "UNAVAILABLE"};
    return names[s];
}

void srv_store_wake(srv_store *s)
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
    srv_store_wake(s); /* under the lock: the store may end once this model is freed */
    pthread_mutex_unlock(&s->lock);
}

srv_slot *srv_find_slot(srv_store_entry *e, int64_t version)
{
    for (int i = 0; i < e->n_slots; i++)
        if (e->slots[i].version == version) return &e->slots[i];
    return NULL;
}

srv_store_entry *srv_find_entry(const srv_store *s, const char *name)
{
    srv_store_entry *e = s->entries;
    while (e && strcmp(e->name, name)) e = e->next;
    return e;
}

static od_code why_not(const srv_store_entry *e, int64_t version, od_status *st)
{
    const srv_slot *best = NULL;
    for (int i = 0; i < e->n_slots; i++) {
        const srv_slot *v = &e->slots[i];
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
    srv_store_entry *e = srv_find_entry(s, name);
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

/* ---- asking from outside ------------------------------------------------------------------ */

/* Takes `folder`, also when it fails. */
static od_code queue_command(srv_store *s, int kind, const char *name, const char *card_json, char *folder, srv_store_done *done, void *arg,
                             od_status *st)
{
    srv_command *c = calloc(1, sizeof *c);
    if (c && card_json) c->card_json = strdup(card_json);
    if (!c || (card_json && !c->card_json)) {
        free(c);
        srv_upload_remove(folder);
        return od_fail(st, OD_NO_MEMORY, "no memory for a request to the model store");
    }
    c->folder = folder;
    c->kind = kind;
    c->done = done;
    c->arg = arg;
    if (strlen(name) >= sizeof c->name) {
        srv_free_command(c);
        return od_fail(st, OD_NOT_FOUND, "no model is called '%.180s...'", name);
    }
    strcpy(c->name, name);
    pthread_mutex_lock(&s->lock);
    *s->commands_end = c;
    s->commands_end = &c->next;
    srv_store_wake(s);
    pthread_mutex_unlock(&s->lock);
    return OD_OK;
}

od_code srv_store_load_begin(srv_store *s, const char *name, const char *card_json, const srv_file *files, int n, srv_store_done *done, void *arg,
                             od_status *st)
{
    char *folder = NULL;
    if (n && s->o.control != SRV_CONTROL_EXPLICIT)
        return od_fail(st, OD_BAD_ARGUMENT, "model files are taken from requests with --model-control explicit only: put them into the repository");
    if (n && !srv_name_is_usable(name)) return od_fail(st, OD_BAD_ARGUMENT, "no model can be called '%.180s'", name);
    if (n) OD_TRY(srv_upload_write(files, n, &folder, st));
    return queue_command(s, LOAD, name, card_json, folder, done, arg, st);
}

od_code srv_store_unload_begin(srv_store *s, const char *name, srv_store_done *done, void *arg, od_status *st)
{
    return queue_command(s, UNLOAD, name, NULL, NULL, done, arg, st);
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
    OD_TRY(queue_command(s, kind, name, card_json, NULL, tell_waiter, &w, st));
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
    srv_store_wake(s);
    pthread_mutex_unlock(&s->lock);
}

bool srv_store_ready(srv_store *s)
{
    pthread_mutex_lock(&s->lock);
    bool ready = s->all_ready;
    pthread_mutex_unlock(&s->lock);
    return ready;
}

int srv_store_versions(srv_store *s, const char *name, int64_t *list, int max)
{
    int n = 0;
    pthread_mutex_lock(&s->lock);
    const srv_store_entry *e = srv_find_entry(s, name);
    for (int i = 0; e && i < e->n_slots; i++)
        if (e->slots[i].held && n < max) list[n++] = e->slots[i].version;
    pthread_mutex_unlock(&s->lock);
    return n;
}

size_t srv_store_bytes(srv_store *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->bytes;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static int by_name(const void *a, const void *b)
{
    const srv_entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->version < y->version ? -1 : x->version > y->version;
}

/* Models that came into the folder and that nobody has asked for yet have no entries: the caller holds the lock. */
static size_t add_new_names(const srv_store *s, const srv_scan *scan, srv_entry *out, size_t n)
{
    for (int i = 0; i < scan->n; i++) {
        const char *name = scan->found[i].name;
        if (!srv_find_entry(s, name) && (!n || strcmp(out[n - 1].name, name))) memcpy(out[n++].name, name, strlen(name) + 1);
    }
    return n;
}

od_code srv_store_index(srv_store *s, srv_entry **list, int *count, od_status *st)
{
    srv_scan scan = {0};
    od_status ignored = {0};
    if (s->o.control == SRV_CONTROL_EXPLICIT) srv_scan_folder(s->o.dir, &scan, &ignored);
    pthread_mutex_lock(&s->lock);
    size_t most = 1 + (size_t)scan.n, n = 0;
    for (srv_store_entry *e = s->entries; e; e = e->next) most += (size_t)e->n_slots + 1;
    srv_entry *out = calloc(most, sizeof *out);
    for (srv_store_entry *e = s->entries; out && e; e = e->next) {
        size_t before = n;
        for (int i = 0; i < e->n_slots; i++) {
            const srv_slot *v = &e->slots[i];
            if (v->state == SRV_STATE_UNKNOWN) continue;
            srv_entry *line = &out[n++];
            memcpy(line->name, e->name, sizeof line->name);
            line->version = v->version;
            line->state = v->state;
            memcpy(line->reason, v->reason, sizeof line->reason);
        }
        if (n == before) memcpy(out[n++].name, e->name, sizeof e->name);
    }
    if (out) n = add_new_names(s, &scan, out, n);
    pthread_mutex_unlock(&s->lock);
    srv_scan_fini(&scan);
    if (out) qsort(out, n, sizeof *out, by_name);
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
    od_code rc = srv_sync_entries(s, &scan, st);
    srv_scan_fini(&scan);
    for (int i = 0; rc == OD_OK && s->o.control == SRV_CONTROL_EXPLICIT && i < s->o.n_initial; i++)
        if (!srv_find_entry(s, s->o.initial[i]))
            rc = od_fail(st, OD_NOT_FOUND, "model '%s' is to be loaded, and is not in %s", s->o.initial[i], s->o.dir);
    for (srv_store_entry *e = s->entries; rc == OD_OK && e; e = e->next) {
        e->initial = is_initial(&s->o, e->name);
        if (!e->initial) continue;
        if (e->n_slots) e->slots[0].state = SRV_STATE_LOADING;
        rc = queue_command(s, START, e->name, NULL, NULL, NULL, NULL, st);
    }
    s->started = true;
    srv_note_start(s); /* an empty folder is ready */
    return rc;
}

static void free_store(srv_store *s)
{
    for (srv_command *c = s->commands, *next; c; c = next) {
        od_status st = {0};
        next = c->next;
        od_fail(&st, OD_UNAVAILABLE, "the server ends");
        if (c->done) c->done(c->arg, &st);
        srv_free_command(c);
    }
    for (srv_loading *l = s->loadings, *next; l; l = next) {
        od_status st = {0};
        next = l->next;
        od_fail(&st, OD_UNAVAILABLE, "the server ends");
        srv_load_drop(l, &st);
    }
    for (srv_store_entry *e = s->entries, *next; e; e = next) {
        next = e->next;
        for (int i = 0; i < e->n_slots; i++) {
            if (e->slots[i].held) od_budget_give(s->o.budget, e->slots[i].held->m.bytes);
            srv_held_destroy(e->slots[i].held);
        }
        srv_free_entry(e);
    }
    srv_follow_close(s->follow_fd);
    if (s->wake_fd >= 0) close(s->wake_fd);
    pthread_cond_destroy(&s->loaded);
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
    s->loadings_end = &s->loadings;
    if (s->o.loaders < 1) s->o.loaders = 1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->loaded, NULL);
    s->wake_fd = eventfd(0, EFD_CLOEXEC);
    s->o.dir = s->dir = strdup(options->dir);
    if (s->wake_fd < 0 || !s->dir) {
        od_fail(st, OD_NO_MEMORY, "no memory for the model store");
        goto fail;
    }
    if (s->o.control == SRV_CONTROL_POLL) s->follow_fd = srv_follow_open(s->dir);
    if (begin(s, st) != OD_OK) goto fail;
    s->o.initial = NULL; /* the caller's, and done with */
    if (pthread_create(&s->thread, NULL, srv_store_main, s)) {
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
    pthread_mutex_unlock(&s->lock);
    srv_load_wait(s);
    srv_store_wake(s); /* now: its thread frees what loaders let go */
    pthread_join(s->thread, NULL);
    free_store(s);
}
