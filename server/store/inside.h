/* inside.h - what the store's own files share: its lists, and which thread may change them. Private to server/store.
 * store.c answers callers; thread.c obeys, frees and follows changes, on one thread; load.c loads, on some that live as long as
 * there is something to load. */
#ifndef SRV_INSIDE_H
#define SRV_INSIDE_H

#include "server/store/held.h"

#include <pthread.h>

/* A version of a model, on disk, in memory, or both. */
typedef struct srv_slot {
    int64_t version;
    uint64_t signature; /* of the files when they were tried last */
    bool tried;
    srv_state state;
    char reason[240];
    srv_held *held;
} srv_slot;

typedef struct srv_store_entry {
    struct srv_store_entry *next;
    char name[256];
    srv_slot *slots; /* from the newest version to the oldest */
    int n_slots;
    char *card_json; /* given with the last load; NULL: none */
    bool initial;    /* to be loaded at the start */
    bool was_ready;
    bool off;        /* unloaded on request */
    char *folder;    /* files that came with the last load lie here; NULL: in the store's folder */
    bool busy;       /* being loaded: its slots are the loader's alone, only its states change under the lock */
    bool again;      /* look at it again after that */
    uint64_t seen;   /* what was on disk when it was loaded last: signature_of */
} srv_store_entry;

/* Somebody's wish, done by the store's thread in turn. */
typedef struct srv_command {
    struct srv_command *next;
    enum { LOAD, UNLOAD, START } kind;
    char name[256];
    char *card_json;
    char *folder; /* of files that came with it */
    srv_store_done *done;
    void *arg;
} srv_command;

/* An entry to be brought up to what lies on disk, found[0 .. n) of the scan. */
typedef struct srv_loading {
    struct srv_loading *next;
    srv_store_entry *entry;
    srv_scan scan;
    const srv_found *found;
    int n;
    bool force;           /* load the newest again also when nothing changed */
    srv_store_done *done; /* NULL: nobody waits */
    void *arg;
} srv_loading;

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

    pthread_mutex_t lock; /* all below; entries and slots are changed by the store's thread, or by an entry's loader, alone */
    srv_store_entry *entries;       /* by name */
    srv_command *commands, **commands_end;
    srv_held *dead;       /* released by all, to be freed */
    srv_loading *loadings, **loadings_end; /* that wait for a loader */
    int loaders;          /* threads that load */
    pthread_cond_t loaded; /* one of them ends */
    size_t bytes;         /* of models held */
    bool stop, rescan, started, all_ready;
};

/* Under the lock, or on the store's thread. NULL: none. */
srv_slot *srv_find_slot(srv_store_entry *e, int64_t version);
srv_store_entry *srv_find_entry(const srv_store *s, const char *name);

/* Entries for all that was found. On the store's thread, or before it runs. */
od_code srv_sync_entries(srv_store *s, const srv_scan *scan, od_status *st);
/* Have all models of the start become ready? Then srv_store_ready says so from now on. */
void srv_note_start(srv_store *s);
void srv_free_entry(srv_store_entry *e);
void srv_free_command(srv_command *c);

/* load.c: have `l` done by a loader, which takes it. Sets entry->busy. */
void srv_load_start(srv_store *s, srv_loading *l);
void srv_load_drop(srv_loading *l, const od_status *st); /* tell who waits, and free it */
void srv_load_wait(srv_store *s); /* until no loader is left; the store ends */

/* Put `h` (NULL: nothing) in the slot, and let go of what was there. */
void srv_slot_exchange(srv_store *s, srv_store_entry *e, srv_slot *v, srv_held *h, srv_state state, const char *reason);
void srv_slot_state(srv_store *s, srv_slot *v, srv_state state, const char *reason);
bool srv_store_is_stopping(srv_store *s);
void srv_store_wake(srv_store *s);

/* The store's thread; `arg` is the store. */
void *srv_store_main(void *arg);

#endif
