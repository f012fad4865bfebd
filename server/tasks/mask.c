/* mask.c - maps of labels as run lengths, polygons, PNG. */
#include "server/base64.h"
#include "server/tasks/parts.h"

#include <string.h>

static od_code make_scratch(srv_map *m, od_arena *a, od_status *st)
{
    size_t bytes = (size_t)(m->width * m->height) * sizeof *m->scratch;
    if (!m->scratch && !(m->scratch = od_arena_alloc(a, bytes)))
        return od_fail(st, OD_NO_MEMORY, "no memory for a mask of %" PRId64 " x %" PRId64, m->width, m->height);
    return OD_OK;
}

od_code srv_map_clear(const srv_answer *w)
{
    srv_map *m = w->map;
    m->width = w->place->image_width;
    m->height = w->place->image_height;
    size_t bytes = (size_t)(m->width * m->height) * sizeof *m->labels;
    if (!m->labels && !(m->labels = od_arena_alloc(w->a, bytes)))
        return od_fail(w->st, OD_NO_MEMORY, "no memory for a mask of %" PRId64 " x %" PRId64, m->width, m->height);
    memset(m->labels, 0, bytes);
    return OD_OK;
}

/* ---- COCO's run lengths ------------------------------------------------------------------- */

/* Appends one number as COCO packs them: five bits a character, least first, from the third run on as the
 * difference to the run before the last. */
static void add_run(srv_text *t, int64_t run, int64_t before_last, int64_t index)
{
    int64_t x = index > 2 ? run - before_last : run;
    bool more;
    do {
        int bits = (int)(x & 31);
        x >>= 5;
        more = bits & 16 ? x != -1 : x != 0;
        char c = (char)(bits + (more ? 32 : 0) + 48);
        srv_text_add(t, &c, 1);
    } while (more);
}

typedef struct runs {
    int64_t end;     /* where its last run of ones ended, in COCO's order */
    int64_t last[2]; /* the run before the last, the last */
    int64_t n;
} runs;

static void push_run(srv_text *t, runs *r, int64_t run)
{
    add_run(t, run, r->last[0], r->n++);
    r->last[0] = r->last[1];
    r->last[1] = run;
}

od_code srv_map_rle(srv_map *m, int n, srv_text *texts, od_arena *a, od_status *st)
{
    runs *all = od_arena_array(a, runs, n);
    int64_t total = m->width * m->height;
    /* Column by column, as COCO counts; the map is turned first so that the walk is along memory. */
    OD_TRY(make_scratch(m, a, st));
    uint16_t *turned = m->scratch;
    if (!all) return od_fail(st, OD_NO_MEMORY, "no memory for the masks of %d labels", n);
    enum { TILE = 32 };
    for (int64_t y0 = 0; y0 < m->height; y0 += TILE)
        for (int64_t x0 = 0; x0 < m->width; x0 += TILE)
            for (int64_t x = x0; x < od_min_i64(x0 + TILE, m->width); x++)
                for (int64_t y = y0; y < od_min_i64(y0 + TILE, m->height); y++)
                    turned[x * m->height + y] = m->labels[y * m->width + x];
    for (int64_t at = 0, end; at < total; at = end) {
        int label = turned[at];
        for (end = at + 1; end < total && turned[end] == label;) end++;
        if (label >= n) continue;
        push_run(&texts[label], &all[label], at - all[label].end);
        push_run(&texts[label], &all[label], end - at);
        all[label].end = end;
    }
    for (int i = 0; i < n; i++)
        if (all[i].end < total) push_run(&texts[i], &all[i], total - all[i].end);
    return OD_OK;
}

/* ---- polygons ----------------------------------------------------------------------------- */

typedef struct tracer {
    const srv_map *m;
    int label;
    uint8_t *seen; /* left edges that are part of a ring already, by pixel */
} tracer;

static bool inside(const tracer *t, int64_t x, int64_t y)
{
    return x >= 0 && y >= 0 && x < t->m->width && y < t->m->height && t->m->labels[y * t->m->width + x] == t->label;
}

/* Walks around from the upper left corner of pixel (x, y), downwards along its left edge, with the pixels of
 * the label on the left hand. Where two of them touch at a corner only, it keeps to the one it follows. */
static void trace_ring(tracer *t, int64_t x, int64_t y, srv_text *json)
{
    static const int dx[] = {0, 1, 0, -1}, dy[] = {1, 0, -1, 0}; /* down, right, up, left: each a turn to the left hand */
    /* the pixels before a corner, seen from it: on the left hand, on the right hand */
    static const int lx[] = {0, 0, -1, -1}, ly[] = {0, -1, -1, 0}, rx[] = {-1, 0, 0, -1}, ry[] = {0, 0, -1, -1};
    int64_t px = x, py = y;
    int dir = 0, first = 1;
    srv_text_add(json, "[", 1);
    do {
        int from = dir;
        do { /* straight on */
            if (dir == 0) t->seen[py * t->m->width + px] = 1;
            px += dx[dir];
            py += dy[dir];
            if (!inside(t, px + lx[dir], py + ly[dir])) dir = (dir + 1) % 4;
            else if (inside(t, px + rx[dir], py + ry[dir])) dir = (dir + 3) % 4;
        } while (dir == from && !(px == x && py == y));
        if (dir != from) {
            srv_text_printf(json, "%s%" PRId64 ",%" PRId64, first ? "" : ",", px, py);
            first = 0;
        }
    } while (!(px == x && py == y && dir == 0));
    srv_text_add(json, "]", 1);
}

od_code srv_map_polygons(srv_map *m, int label, srv_text *json, od_arena *a, od_status *st)
{
    OD_TRY(make_scratch(m, a, st));
    tracer t = {.m = m, .label = label, .seen = (uint8_t *)m->scratch};
    memset(t.seen, 0, (size_t)(m->width * m->height));
    bool first = true;
    srv_text_add(json, "[", 1);
    for (int64_t y = 0; y < m->height; y++)
        for (int64_t x = 0; x < m->width; x++) {
            if (!inside(&t, x, y) || inside(&t, x - 1, y) || t.seen[y * m->width + x]) continue;
            if (!first) srv_text_add(json, ",", 1);
            first = false;
            trace_ring(&t, x, y, json);
        }
    srv_text_add(json, "]", 1);
    return OD_OK;
}

/* ---- PNG ---------------------------------------------------------------------------------- */

void srv_add_base64(srv_text *t, const void *bytes, size_t size)
{
    char *to = srv_text_room(t, srv_base64_size(size) + 2);
    if (!to) return;
    *to = '"';
    to = srv_base64_encode(to + 1, bytes, size);
    *to = '"';
    t->len += srv_base64_size(size) + 2;
}

od_code srv_add_png(srv_text *json, const ldr_pixels *p, od_arena *a, od_status *st)
{
    void *bytes;
    size_t size;
    OD_TRY(ldr_png_encode(p, a, &bytes, &size, st));
    srv_add_base64(json, bytes, size);
    return OD_OK;
}

od_code srv_map_png(srv_map *m, srv_text *json, od_arena *a, od_status *st)
{
    OD_TRY(make_scratch(m, a, st));
    int64_t total = m->width * m->height;
    ldr_pixels p = {.data = (uint8_t *)m->scratch, .width = m->width, .height = m->height, .channels = 1,
                    .stride = m->width};
    for (int64_t i = 0; i < total; i++) {
        if (m->labels[i] > 255) return od_fail(st, OD_UNSUPPORTED, "a PNG mask holds 256 labels; take mask=rle");
        p.data[i] = (uint8_t)m->labels[i];
    }
    return srv_add_png(json, &p, a, st);
}

od_code srv_add_mask(const srv_answer *w, srv_map *m, int label, const srv_text *rle)
{
    srv_text *json = w->json;
    if (w->judge) return srv_judge_mask(w, m, label);
    if (w->mask == SRV_MASK_POLYGON) {
        srv_text_printf(json, ",\"polygons\":");
        return srv_map_polygons(m, label, json, w->a, w->st);
    }
    if (w->mask == SRV_MASK_PNG) {
        srv_text_printf(json, ",\"png\":");
        return srv_map_png(m, json, w->a, w->st);
    }
    if (w->mask == SRV_MASK_NONE) return OD_OK;
    if (!rle) {
        srv_text *texts = od_arena_array(w->a, srv_text, label + 1);
        if (!texts) return od_fail(w->st, OD_NO_MEMORY, "no memory for a mask");
        for (int i = 0; i <= label; i++) texts[i].arena = w->a;
        OD_TRY(srv_map_rle(m, label + 1, texts, w->a, w->st));
        rle = &texts[label];
    }
    if (rle->full) return od_fail(w->st, OD_NO_MEMORY, "no memory for a mask");
    srv_text_printf(json, ",\"mask\":{\"size\":[%" PRId64 ",%" PRId64 "],\"counts\":", m->height, m->width);
    srv_text_json(json, rle->data, rle->len); /* its characters include the backslash */
    srv_text_add(json, "}", 1);
    return OD_OK;
}
