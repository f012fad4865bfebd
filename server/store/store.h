/* store.h - the models of a folder: found, loaded in the background, exchanged while they serve.
 *
 * DIR/NAME/model.onnx, DIR/NAME/VERSION/model.onnx (VERSION a positive number) or DIR/NAME.onnx; a folder
 * with exactly one .onnx file of another name, or with such a folder called onnx, is accepted too. A version
 * is loaded, given its card, and warmed up before it is ready; a new one takes over only then, and the old
 * one is freed when its last user releases it. Of several versions the newest that can be loaded are served,
 * `versions` of them. A file that cannot be loaded is reported with its reason and changes nothing else.
 * Names cannot leave the folder: they are compared with what is there, and never become part of a path.
 *
 * One thread of the store obeys, frees and follows changes; it sleeps while there are none. Models are loaded on threads that
 * end when nothing is left to load, `loaders` at one time. Functions may be called from any thread; those that wait say so and
 * must not be called on the pool's workers. */
#ifndef SRV_STORE_H
#define SRV_STORE_H

#include "loaders/card.h"
#include "server/batch/batch.h"

typedef struct srv_store srv_store;

typedef enum srv_state { SRV_STATE_UNKNOWN, SRV_STATE_LOADING, SRV_STATE_READY, SRV_STATE_UNLOADING, SRV_STATE_UNAVAILABLE } srv_state;

/* "READY", as the model repository extension spells it. */
const char *srv_state_name(srv_state s);

typedef enum srv_control {
    SRV_CONTROL_NONE,     /* what is there at the start */
    SRV_CONTROL_POLL,     /* follow changes of the folder */
    SRV_CONTROL_EXPLICIT  /* only what load and unload ask for (and `initial`) */
} srv_control;

typedef struct srv_store_options {
    const char *dir;
    srv_control control;
    const char *const *initial; /* SRV_CONTROL_EXPLICIT: models to load at the start */
    int n_initial;
    srv_batch_options batch;    /* defaults; a card may say otherwise */
    eng_load_options load;
    od_budget *budget;          /* of all memory: models and, through `batch`, their runs; NULL: none */
    int versions;               /* served of one model, the newest, where its card does not say; 0: 1; below 0: all */
    int loaders;                /* models loaded at one time; 0: 1 */
    int settle_ms;              /* SRV_CONTROL_POLL: files must have been left alone for so long; 0: 500 */
    od_pool *pool;
} srv_store_options;

/* One loaded version. Read only; lives until it is released. */
typedef struct srv_model {
    const char *name;
    int64_t version;
    const char *path;
    eng_model *model;
    const ldr_card *card;
    srv_batcher *batcher;
    struct srv_class_maps *class_maps; /* for explanations; made when the first is asked for */
    int64_t max_batch_size;    /* 0: rows of several requests cannot be put together */
    size_t bytes;              /* weights and packed weights, about */
    ldr_versions versions;     /* which ones are to be served */
    double load_seconds;
} srv_model;

/* Starts loading and returns at once. OD_NOT_FOUND: no such folder. */
od_code srv_store_create(srv_store **out, const srv_store_options *options, od_status *st);
/* Waits for loads that run, then frees all. No model may be held. */
void srv_store_destroy(srv_store *s);

/* Every model that was to be loaded at the start has become ready. Never turns false again because another
 * one loads. */
bool srv_store_ready(srv_store *s);

/* `version` below 1: the newest that is ready. OD_NOT_FOUND: no such model or version; OD_UNAVAILABLE:
 * known but not ready, with the reason. The caller releases it. */
od_code srv_store_acquire(srv_store *s, const char *name, int64_t version, srv_model **out, od_status *st);
void srv_model_release(srv_model *m);

typedef struct srv_file {
    const char *name; /* FILE or VERSION/FILE */
    const void *data;
    size_t len;
} srv_file;

/* Load or reload what is on disk, wait until it is ready, take over. `card_json` (NULL: none) replaces the
 * card's file. OD_NOT_FOUND, loader's and batcher's errors. Waits. */
od_code srv_store_load(srv_store *s, const char *name, const char *card_json, od_status *st);
/* Stop serving all versions, wait until their users are gone and their memory is free. A model that was
 * unloaded comes back by srv_store_load, or when its files change. OD_NOT_FOUND. Waits. */
od_code srv_store_unload(srv_store *s, const char *name, od_status *st);

/* The same without waiting: `done` is called once, on a thread of the store's, with the result. `files`, which are copied (n 0:
 * none), stand for the model's folder until its next load or unload: only with SRV_CONTROL_EXPLICIT, else OD_BAD_ARGUMENT. */
typedef void srv_store_done(void *arg, const od_status *result);
od_code srv_store_load_begin(srv_store *s, const char *name, const char *card_json, const srv_file *files, int n, srv_store_done *done, void *arg,
                             od_status *st);
od_code srv_store_unload_begin(srv_store *s, const char *name, srv_store_done *done, void *arg, od_status *st);

/* Look for changes now, whatever `control` says: for SIGHUP. Does not wait. */
void srv_store_rescan(srv_store *s);

typedef struct srv_entry {
    char name[256];
    int64_t version; /* 0: none was ever loaded */
    srv_state state;
    char reason[240];
} srv_entry;

/* A line a version that was ever tried (or a name without one), sorted by name. The list is malloc'd: free() it. */
od_code srv_store_index(srv_store *s, srv_entry **list, int *count, od_status *st);

/* The versions of a model that are ready, newest first, into list[max]; how many there are. */
enum { SRV_VERSIONS_MOST = 64 };
int srv_store_versions(srv_store *s, const char *name, int64_t *list, int max);

/* Bytes of all loaded models, those that are being freed included. */
size_t srv_store_bytes(srv_store *s);

#endif
