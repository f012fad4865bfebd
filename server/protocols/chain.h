/* chain.h - models behind a detector: what it found is cut out of the picture and goes through them, in the same request.
 *
 * A card's "then" names the models. All of a chain, further ones behind those included, are held from the request's
 * beginning to its end, so that one request sees one version of each. */
#ifndef SRV_CHAIN_H
#define SRV_CHAIN_H

#include "server/server.h"
#include "server/tasks/region.h"

typedef struct srv_chain {
    srv_model *model;
    struct srv_chain **links; /* as many as the card has `then` */
} srv_chain;

/* Hold all models behind `first`, which stays the caller's. *out NULL: there are none. OD_UNAVAILABLE: one
 * is not ready; OD_INTERNAL: one is not there, takes no pictures, comes behind itself, or they are more than SRV_CHAIN_DEPTH. */
od_code srv_chain_open(srv_chain **out, srv_store *store, srv_model *first, od_arena *a, od_status *st);
void srv_chain_close(srv_chain *c);

/* One picture's run through what comes behind. The caller keeps everything until `done`. */
typedef struct srv_chaining {
    const srv_server *server;
    const srv_chain *chain;
    const srv_picture *picture; /* with its regions and pixels */
    const atomic_bool *cancelled;
    int64_t since_ns;
    od_arena *arena;
    srv_text *json;             /* of the detector; replaced by one whose detections have `"then":{MODEL:{...}}` */
    void (*done)(void *arg, const od_status *st);
    void *arg;
    /* its own */
    srv_onward *parts;
    od_arena *arenas;           /* as many */
    struct chain_lane *lanes;
    int64_t n_parts;
    atomic_int_least64_t next;
    atomic_int left;
    atomic_bool failed;
    od_status st;
} srv_chaining;

/* Calls `done` once, maybe before it returns. To be called on a worker. */
void srv_chain_run(srv_chaining *c);

#endif
