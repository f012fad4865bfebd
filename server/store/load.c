/* load.c - versions of models are loaded, some models at one time, and exchanged. */
#include "server/store/inside.h"
#include "engine/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void srv_slot_state(srv_store *s, srv_slot *v, srv_state state, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    v->state = state;
    snprintf(v->reason, sizeof v->reason, "%s", reason);
    pthread_mutex_unlock(&s->lock);
}

void srv_slot_exchange(srv_store *s, srv_store_entry *e, srv_slot *v, srv_held *h, srv_state state, const char *reason)
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

/* Room for what a model's files or, then, the model takes. */
static od_code take_memory(srv_store *s, size_t bytes, od_status *st)
{
    od_budget *b = s->o.budget;
    if (od_budget_take(b, bytes)) return OD_OK;
    return od_fail(st, OD_TOO_LARGE, "it needs %zu MB, %zu MB of %zu MB are in use", bytes >> 20, atomic_load(&b->used) >> 20, b->limit >> 20);
}

static od_code load_version(srv_store *s, srv_store_entry *e, srv_slot *v, const srv_found *f, const ldr_versions *versions, od_status *st)
{
    srv_held *h = NULL;
    od_code rc;
    v->tried = true;
    v->signature = f->signature;
    if (!v->held) srv_slot_state(s, v, SRV_STATE_LOADING, "");
    if (!f->path) rc = od_fail(st, OD_BAD_MODEL, "%s", f->problem);
    else if ((rc = take_memory(s, (size_t)f->bytes, st)) == OD_OK) {
        rc = srv_held_create(&h, f, e->card_json, &s->o, st);
        od_budget_give(s->o.budget, (size_t)f->bytes);
        if (rc == OD_OK && (rc = take_memory(s, h->m.bytes, st)) != OD_OK) srv_held_destroy(h);
    }
    if (rc != OD_OK) {
        od_log(OD_ERROR, "model '%s' version %" PRId64 " cannot be loaded: %s%s", f->name, f->version, st->msg,
               v->held ? "; the one before goes on serving" : "");
        srv_slot_state(s, v, v->held ? SRV_STATE_READY : SRV_STATE_UNAVAILABLE, st->msg);
        return rc;
    }
    h->store = s;
    h->m.versions = *versions;
    srv_slot_exchange(s, e, v, h, SRV_STATE_READY, "");
    od_log(OD_INFO, "model '%s' version %" PRId64 " is ready after %.0f ms: %zu MB, batches of up to %" PRId64, f->name, f->version,
           h->m.load_seconds * 1e3, h->m.bytes >> 20, srv_batcher_rows(h->m.batcher));
    return OD_OK;
}

/* Is a version to be served, `ready` newer ones being there already? */
static bool is_wanted(const srv_store *s, const ldr_versions *v, int64_t version, int ready, const char **why_not)
{
    *why_not = "not among the versions that are to be served";
    for (int i = 0; v->kind == LDR_VERSIONS_SPECIFIC && i < v->n; i++)
        if (v->list[i] == version) return true;
    if (v->kind == LDR_VERSIONS_SPECIFIC) return false;
    *why_not = "a newer version is served";
    int64_t keep = v->kind == LDR_VERSIONS_LATEST ? v->latest : s->o.versions ? s->o.versions : 1;
    return keep < 0 || ready < keep;
}

static od_code find_policy(const srv_store *s, const srv_store_entry *e, ldr_versions *out, od_status *st)
{
    char folder[4096];
    int n = snprintf(folder, sizeof folder, "%s%s%s", e->folder ? e->folder : s->o.dir, e->folder ? "" : "/", e->folder ? "" : e->name);
    if (n < 0 || n >= (int)sizeof folder) return od_fail(st, OD_TOO_LARGE, "a path of %d characters", n);
    return ldr_versions_find(folder, e->card_json, out, st);
}

/* The error is the newest wanted version's. */
static od_code refresh(srv_store *s, const srv_loading *l, od_status *st)
{
    srv_store_entry *e = l->entry;
    ldr_versions policy;
    int ready = 0, tried = 0;
    od_code rc = OD_OK;
    if (find_policy(s, e, &policy, st) != OD_OK) { /* what is served goes on */
        for (int i = 0; i < l->n; i++) {
            srv_slot *v = srv_find_slot(e, l->found[i].version);
            v->tried = true;
            v->signature = l->found[i].signature;
            srv_slot_state(s, v, v->held ? SRV_STATE_READY : SRV_STATE_UNAVAILABLE, st->msg);
        }
        od_log(OD_ERROR, "model '%s': %s", e->name, st->msg);
        return st->code;
    }
    for (int i = 0; i < l->n && !srv_store_is_stopping(s); i++) {
        const srv_found *f = &l->found[i];
        srv_slot *v = srv_find_slot(e, f->version);
        const char *why_not;
        if (!is_wanted(s, &policy, f->version, ready, &why_not)) {
            if (v->held) srv_slot_exchange(s, e, v, NULL, SRV_STATE_UNAVAILABLE, why_not);
            else if (v->state == SRV_STATE_LOADING) srv_slot_state(s, v, SRV_STATE_UNKNOWN, "");
            v->tried = false;
            continue;
        }
        od_status own = {0};
        bool changed = !v->tried || v->signature != f->signature;
        if (changed || (l->force && (!tried || v->held))) {
            if (load_version(s, e, v, f, &policy, &own) != OD_OK && !tried) *st = own, rc = own.code;
        }
        tried++;
        if (v->held) ready++;
    }
    if (srv_store_is_stopping(s)) return od_fail(st, OD_UNAVAILABLE, "the server ends");
    if (!tried && l->n) rc = od_fail(st, OD_NOT_FOUND, "none of the versions that are to be served is there");
    return rc;
}

/* ---- loaders ------------------------------------------------------------------------------ */

static void free_loading(srv_loading *l)
{
    srv_scan_fini(&l->scan);
    free(l);
}

void srv_load_drop(srv_loading *l, const od_status *st)
{
    if (l->done) l->done(l->arg, st);
    free_loading(l);
}

static void run(srv_store *s, srv_loading *l)
{
    od_status st = {0};
    refresh(s, l, &st);
    pthread_mutex_lock(&s->lock);
    l->entry->busy = false;
    s->rescan |= l->entry->again;
    l->entry->again = false;
    pthread_mutex_unlock(&s->lock);
    srv_note_start(s);
    srv_load_drop(l, &st);
    srv_store_wake(s);
}

static void *loader_main(void *arg)
{
    srv_store *s = arg;
    pthread_setname_np(pthread_self(), "loader");
    pthread_mutex_lock(&s->lock);
    while (s->loadings && !s->stop) {
        srv_loading *l = s->loadings;
        s->loadings = l->next;
        if (!s->loadings) s->loadings_end = &s->loadings;
        pthread_mutex_unlock(&s->lock);
        run(s, l);
        pthread_mutex_lock(&s->lock);
    }
    s->loaders--;
    pthread_cond_broadcast(&s->loaded);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void srv_load_start(srv_store *s, srv_loading *l)
{
    pthread_t thread;
    l->next = NULL;
    pthread_mutex_lock(&s->lock);
    l->entry->busy = true;
    *s->loadings_end = l;
    s->loadings_end = &l->next;
    bool more = s->loaders < s->o.loaders, none = !s->loaders;
    if (more) s->loaders++;
    pthread_mutex_unlock(&s->lock);
    if (!more) return;
    if (!pthread_create(&thread, NULL, loader_main, s)) pthread_detach(thread);
    else if (none) loader_main(s); /* the system refuses threads: here, then */
    else {
        pthread_mutex_lock(&s->lock);
        s->loaders--;
        pthread_mutex_unlock(&s->lock);
    }
}

void srv_load_wait(srv_store *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->loaders) pthread_cond_wait(&s->loaded, &s->lock);
    pthread_mutex_unlock(&s->lock);
}
