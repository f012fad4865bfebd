/* held.h - one loaded version with everything that lives and dies with it. Private to server/store. */
#ifndef SRV_HELD_H
#define SRV_HELD_H

#include "server/store/scan.h"
#include "server/store/store.h"

typedef struct srv_held {
    srv_model m; /* first: users hold a pointer to it */
    atomic_int refs;
    srv_store *store;
    od_arena arena; /* the strings and the card */
    ldr_card card;
    struct srv_unloading *waiting; /* who is to be told when it is freed */
    struct srv_held *next;
} srv_held;

/* Load, find the card, warm up. One reference is the caller's. */
od_code srv_held_create(srv_held **out, const srv_found *found, const char *card_json, const srv_store_options *o, od_status *st);
/* Waits until the batcher is quiet. */
void srv_held_destroy(srv_held *h);

#endif
