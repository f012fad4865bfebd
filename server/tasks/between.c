#include "server/tasks/parts.h"

#include <math.h>

bool srv_place_between(srv_between *b, int64_t picture, double scale, double offset, int64_t input, int64_t map, od_arena *a)
{
    b->n = map;
    b->first = od_arena_array(a, int32_t, picture);
    b->share = od_arena_array(a, float, picture);
    if (!b->first || !b->share) return false;
    for (int64_t i = 0; i < picture; i++) {
        double at = (((double)i + 0.5) * scale + offset) * (double)map / (double)input - 0.5;
        at = fmax(0, fmin(at, (double)(map - 1)));
        b->first[i] = (int32_t)at;
        b->share[i] = (float)(at - floor(at));
    }
    return true;
}
