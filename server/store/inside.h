/* inside.h - what the store's own files share: its lists, and which thread may change them. Private to server/store.
 * store.c answers callers, thread.c loads, frees and follows changes. */
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
} srv_store_entry;

/* Somebody's wish, done by the store's thread in turn. */
typedef struct srv_command {
    struct srv_command *next;
    enum { LOAD, UNLOAD, START } kind;
    char name[256];
    char *card_json;
    srv_store_done *done;
    void *arg;
} srv_command;

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
    srv_store_entry *entries;       /* by name */
    srv_command *commands, **commands_end;
    srv_held *dead;       /* released by all, to be freed */
    size_t bytes;
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

/* The store's thread; `arg` is the store. */
void *srv_store_main(void *arg);

#endif
