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

/* Do boxes of this label go through the model of `then`, which is the card's? */
bool srv_region_goes_on(const ldr_card *card, const struct ldr_card_then *then, int64_t label);

enum { SRV_CHAIN_DEPTH = 4 }; /* models one behind the other */

/* The part with `margin` times its extents more on each side. Upright ones are cut at whole pixels, outwards, where the
 * picture is; turned ones are set upright, bilinearly, repeating the picture's edge beyond it. Copies turned ones into `a`,
 * lends `from`'s pixels otherwise. OD_TOO_LARGE: more than `max_pixels`; OD_BAD_SHAPE: nothing of it is in the picture. */
od_code srv_region_cut(const srv_region *r, double margin, const ldr_pixels *from, int64_t max_pixels, od_arena *a, ldr_pixels *out,
                       od_status *st);

#endif
