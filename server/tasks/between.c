#include "server/tasks/parts.h"

#include <math.h>

static bool init(srv_between *b, int64_t picture, int64_t map, od_arena *a)
{
    b->n = map;
    b->first = od_arena_array(a, int32_t, picture);
    b->share = od_arena_array(a, float, picture);
    return b->first && b->share;
}

static void set(srv_between *b, int64_t i, double at)
{
    at = fmax(0, fmin(at, (double)(b->n - 1)));
    b->first[i] = (int32_t)at;
    b->share[i] = (float)(at - floor(at));
}

bool srv_place_between(srv_between *b, int64_t picture, double scale, double offset, int64_t input, int64_t map, od_arena *a)
{
    if (!init(b, picture, map, a)) return false;
    for (int64_t i = 0; i < picture; i++) set(b, i, (((double)i + 0.5) * scale + offset) * (double)map / (double)input - 0.5);
    return true;
}

bool srv_place_corners(srv_between *b, int64_t picture, int64_t map, od_arena *a)
{
    if (!init(b, picture, map, a)) return false;
    for (int64_t i = 0; i < picture; i++) set(b, i, picture > 1 ? (double)i * (double)(map - 1) / (double)(picture - 1) : 0);
    return true;
}
