/* region.h - parts of a picture that a detector found, cut out for the models that come behind it. */
#ifndef SRV_REGION_H
#define SRV_REGION_H

#include "server/tasks/tasks.h"

/* A box in pixels of the picture: its corner, and the edges from there. */
typedef struct srv_region {
    double x, y, ux, uy, vx, vy;
    bool turned;
    int64_t label;
    size_t json_at; /* where more members of its JSON object go */
} srv_region;

enum { SRV_CHAIN_DEPTH = 4 }; /* models one behind the other */

/* The part with `margin` times its extents more on each side. Upright ones are cut at whole pixels, outwards, where the
 * picture is; turned ones are set upright, bilinearly, repeating the picture's edge beyond it. Copies turned ones into `a`,
 * lends `from`'s pixels otherwise. OD_TOO_LARGE: more than `max_pixels`; OD_BAD_SHAPE: nothing of it is in the picture. */
od_code srv_region_cut(const srv_region *r, double margin, const ldr_pixels *from, int64_t max_pixels, od_arena *a, ldr_pixels *out,
                       od_status *st);

/* ---- what the models behind say of the parts */

/* One part's way through one model. */
typedef struct srv_onward {
    const srv_region *region;
    int then;      /* which of the card's */
    srv_text json; /* the members of its answer */
} srv_onward;

/* All ways of a picture, in the order of its answer; from `a`. */
od_code srv_onward_list(const ldr_card *card, const srv_picture *p, od_arena *a, srv_onward **out, int64_t *n, od_status *st);

/* The detector's JSON becomes one whose detections have `"then":{MODEL:{...}}`; from `a`. */
od_code srv_onward_join(const ldr_card *card, const srv_onward *list, int64_t n, od_arena *a, srv_text *json, od_status *st);

#endif
