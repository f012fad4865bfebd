#include "server/tasks/explain.h"

#include "loaders/onnx.h"
#include "server/tasks/parts.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- exactly ------------------------------------------------------------------------------ */

struct srv_class_maps {
    pthread_mutex_t lock;
    char *path;
    bool tried;
    eng_model *model; /* NULL: not made yet, or its end has not the form */
};

od_code srv_class_maps_create(srv_class_maps **out, const char *path, od_status *st)
{
    srv_class_maps *c = calloc(1, sizeof *c);
    if (!c || !(c->path = strdup(path))) {
        free(c);
        return od_fail(st, OD_NO_MEMORY, "no memory for explanations");
    }
    pthread_mutex_init(&c->lock, NULL);
    *out = c;
    return OD_OK;
}

void srv_class_maps_destroy(srv_class_maps *c)
{
    if (!c) return;
    eng_model_destroy(c->model);
    pthread_mutex_destroy(&c->lock);
    free(c->path);
    free(c);
}

static eng_model *model_of(srv_class_maps *c, od_pool *pool)
{
    od_status ignored = {0};
    pthread_mutex_lock(&c->lock);
    if (!c->tried) {
        eng_load_options o = {.class_map = true, .pool = pool};
        c->tried = true;
        if (ldr_onnx_load(c->path, &o, &c->model, &ignored) != OD_OK) c->model = NULL;
        const eng_graph *g = c->model ? c->model->graph : NULL;
        if (g && strcmp(g->values[g->outputs[g->n_outputs - 1]].name, ENG_CLASS_MAP) != 0) {
            eng_model_destroy(c->model);
            c->model = NULL;
        }
    }
    eng_model *m = c->model;
    pthread_mutex_unlock(&c->lock);
    return m;
}

/* The other program computes in another order, so the last bits differ. */
static bool same_numbers(const eng_tensor *a, const eng_tensor *b)
{
    int64_t n = eng_tensor_count(a);
    double most = 0;
    if (a->dtype != b->dtype || n != eng_tensor_count(b)) return false;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(eng_tensor_double(b, i)));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(eng_tensor_double(a, i) - eng_tensor_double(b, i)) <= 1e-3 * most + 1e-9)) return false;
    return true;
}

static od_code take_map(const eng_tensor *map, int64_t index, od_arena *a, srv_evidence *out, bool *found, od_status *st)
{
    if (map->dtype != ENG_FLOAT || map->rank != 4 || map->dims[0] != 1 || index >= map->dims[1] || eng_tensor_count(map) < 1) return OD_OK;
    int64_t places = map->dims[2] * map->dims[3];
    *out = (srv_evidence){.rows = map->dims[2], .columns = map->dims[3], .passes = 1, .method = "cam"};
    if (!(out->cells = od_arena_array(a, double, places))) return od_fail(st, OD_NO_MEMORY, "no memory for an explanation");
    const float *x = (const float *)map->data + index * places;
    for (int64_t i = 0; i < places; i++) out->cells[i] = (double)x[i];
    *found = true;
    return OD_OK;
}

od_code srv_class_maps_run(srv_class_maps *c, const srv_picture *p, const eng_tensor *outputs, int64_t index, od_pool *pool,
                           size_t memory_limit, od_arena *a, srv_evidence *out, bool *found, od_status *st)
{
    eng_session *s = NULL;
    eng_model *m = model_of(c, pool);
    *found = false;
    if (!m || m->graph->n_inputs != p->n_inputs || m->graph->n_outputs != p->n_outputs + 1) return OD_OK;
    eng_tensor *own = od_arena_array(a, eng_tensor, m->graph->n_outputs);
    if (!own) return od_fail(st, OD_NO_MEMORY, "no memory for an explanation");
    od_code rc = eng_session_create(&s, m, pool, memory_limit, st);
    if (rc == OD_OK) rc = eng_session_run(s, p->inputs, own, st);
    if (rc == OD_OK && same_numbers(&own[0], &outputs[0])) rc = take_map(&own[p->n_outputs], index, a, out, found, st);
    eng_session_destroy(s);
    return rc;
}

/* ---- by trying ---------------------------------------------------------------------------- */

enum { RISE_GRID = 7, RISE_CELLS = 28, WINDOWS = 64, COVERS = 256 };

od_code srv_trial_init(srv_trial *t, const ldr_card *card, const srv_picture *p, srv_method method, int64_t passes, float base, od_arena *a,
                       od_status *st)
{
    const eng_tensor *x = &p->inputs[card->input];
    *t = (srv_trial){.input = x, .rise = method == SRV_METHOD_RISE, .base = base, .height = p->placement.input_height,
                     .width = p->placement.input_width, .channels = card->pre.channels};
    if (x->dtype != ENG_FLOAT && x->dtype != ENG_UINT8)
        return od_fail(st, OD_UNSUPPORTED, "explanations by trying want float or uint8 pixels, not %s", eng_dtype_name(x->dtype));
    t->passes = passes ? passes : t->rise ? COVERS : WINDOWS;
    t->rows = t->columns = RISE_CELLS;
    if (!t->rise) { /* cells about as high as wide */
        t->rows = (int64_t)rint(sqrt((double)t->passes * (double)t->height / (double)t->width));
        t->rows = od_max_i64(1, od_min_i64(t->rows, od_min_i64(t->passes, t->height)));
        t->columns = od_max_i64(1, od_min_i64(t->passes / t->rows, t->width));
        t->passes = t->rows * t->columns;
    }
    t->weight = od_arena_zalloc(a, (size_t)(t->rows * t->columns) * sizeof *t->weight);
    t->sum = od_arena_zalloc(a, (size_t)(t->rows * t->columns) * sizeof *t->sum);
    if (!t->weight || !t->sum) return od_fail(st, OD_NO_MEMORY, "no memory for an explanation");
    int64_t places = t->height * t->width;
    for (int c = 0; c < t->channels; c++) {
        for (int64_t i = 0; i < places; i++) {
            int64_t at = i * t->channels + c;
            t->fill[c] += x->dtype == ENG_FLOAT ? (double)((const float *)x->data)[at] : (double)((const uint8_t *)x->data)[at];
        }
        t->fill[c] /= (double)od_max_i64(places, 1);
    }
    return OD_OK;
}

/* How much of the pixel at (y, x), as shares of the extents, pass `i` lets see. A window covers its cell and half of each
 * neighbour. */
static double occlusion_at(const srv_trial *t, int64_t i, double y, double x)
{
    double cy = (double)(i / t->columns) + 0.5, cx = (double)(i % t->columns) + 0.5;
    return fabs(y * (double)t->rows - cy) <= 1 && fabs(x * (double)t->columns - cx) <= 1 ? 0 : 1;
}

static uint32_t random_bits(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(x >> 32);
}

typedef struct rise_mask {
    float on[RISE_GRID + 1][RISE_GRID + 1];
    double shift_y, shift_x;
} rise_mask;

static void rise_make(int64_t i, rise_mask *m)
{
    uint64_t seed = (uint64_t)i * 101;
    for (int y = 0; y <= RISE_GRID; y++)
        for (int x = 0; x <= RISE_GRID; x++) m->on[y][x] = random_bits(seed + (uint64_t)(y * (RISE_GRID + 1) + x)) & 1 ? 1 : 0;
    m->shift_y = random_bits(seed + 90) / 4294967296.0;
    m->shift_x = random_bits(seed + 91) / 4294967296.0;
}

static double rise_at(const rise_mask *m, double y, double x)
{
    y = fmin(y * (RISE_GRID - 1) + m->shift_y, RISE_GRID - 1e-6);
    x = fmin(x * (RISE_GRID - 1) + m->shift_x, RISE_GRID - 1e-6);
    int y0 = (int)y, x0 = (int)x;
    double ty = y - y0, tx = x - x0;
    double up = (double)m->on[y0][x0] * (1 - tx) + (double)m->on[y0][x0 + 1] * tx;
    double down = (double)m->on[y0 + 1][x0] * (1 - tx) + (double)m->on[y0 + 1][x0 + 1] * tx;
    return up * (1 - ty) + down * ty;
}

void srv_trial_cover(const srv_trial *t, int64_t i, void *to)
{
    rise_mask m;
    if (t->rise) rise_make(i, &m);
    for (int64_t y = 0; y < t->height; y++)
        for (int64_t x = 0; x < t->width; x++) {
            double py = ((double)y + 0.5) / (double)t->height, px = ((double)x + 0.5) / (double)t->width;
            double seen = t->rise ? rise_at(&m, py, px) : occlusion_at(t, i, py, px);
            int64_t at = (y * t->width + x) * t->channels;
            for (int64_t c = 0; c < t->channels; c++) {
                if (t->input->dtype == ENG_FLOAT)
                    ((float *)to)[at + c] = (float)(t->fill[c] + ((double)((const float *)t->input->data)[at + c] - t->fill[c]) * seen);
                else
                    ((uint8_t *)to)[at + c] = (uint8_t)(t->fill[c] + ((double)((const uint8_t *)t->input->data)[at + c] - t->fill[c]) * seen + 0.5);
            }
        }
}

void srv_trial_take(srv_trial *t, int64_t i, float score)
{
    rise_mask m;
    if (t->rise) rise_make(i, &m);
    for (int64_t k = 0; k < t->rows * t->columns; k++) {
        double y = ((double)(k / t->columns) + 0.5) / (double)t->rows, x = ((double)(k % t->columns) + 0.5) / (double)t->columns;
        double share = t->rise ? rise_at(&m, y, x) : 1 - occlusion_at(t, i, y, x);
        t->weight[k] += share;
        t->sum[k] += share * (double)(t->rise ? score : t->base - score);
    }
}

void srv_trial_end(srv_trial *t, srv_evidence *out)
{
    int64_t n = t->rows * t->columns;
    double mean = 0;
    for (int64_t k = 0; k < n; k++) {
        t->sum[k] /= fmax(t->weight[k], 1e-9);
        mean += t->sum[k] / (double)n;
    }
    for (int64_t k = 0; k < n && t->rise; k++) t->sum[k] -= mean; /* covers that do not matter score the mean */
    *out = (srv_evidence){.rows = t->rows, .columns = t->columns, .cells = t->sum, .passes = t->passes, .method = t->rise ? "rise" : "occlusion"};
}

/* ---- the answer --------------------------------------------------------------------------- */

/* The evidence at a place of the input, between cells; 0 beside the input, which the model did not see. */
static double evidence_at(const srv_evidence *e, double y, double x)
{
    if (!(y >= 0 && y < 1 && x >= 0 && x < 1)) return 0;
    y = fmax(0, fmin(y * (double)e->rows - 0.5, (double)e->rows - 1));
    x = fmax(0, fmin(x * (double)e->columns - 0.5, (double)e->columns - 1));
    int64_t y0 = (int64_t)y, x0 = (int64_t)x, y1 = od_min_i64(y0 + 1, e->rows - 1), x1 = od_min_i64(x0 + 1, e->columns - 1);
    double ty = y - (double)y0, tx = x - (double)x0;
    const double *up = e->cells + y0 * e->columns, *down = e->cells + y1 * e->columns;
    return (up[x0] * (1 - tx) + up[x1] * tx) * (1 - ty) + (down[x0] * (1 - tx) + down[x1] * tx) * ty;
}

/* Over the picture, what speaks against the class left out, at most 1. */
static double *over_picture(const srv_evidence *e, const ldr_placement *p, int64_t height, int64_t width, od_arena *a)
{
    double *map = od_arena_array(a, double, height * width), most = 0;
    for (int64_t i = 0; map && i < height * width; i++) {
        double y = ((double)(i / width) + 0.5) / (double)height * (double)p->image_height, x = ((double)(i % width) + 0.5) / (double)width * (double)p->image_width;
        map[i] = evidence_at(e, (y * p->scale_y + p->offset_y) / (double)p->input_height, (x * p->scale_x + p->offset_x) / (double)p->input_width);
        if (!(map[i] > 0)) map[i] = 0;
        most = fmax(most, map[i]);
    }
    for (int64_t i = 0; map && most > 0 && i < height * width; i++) map[i] /= most;
    return map;
}

/* Extents in the picture's proportions, the longer `longest`. */
static void extents(const ldr_placement *p, int64_t longest, int64_t *height, int64_t *width)
{
    double w = (double)p->image_width, h = (double)p->image_height, scale = (double)longest / fmax(w, h);
    *height = od_max_i64(1, (int64_t)rint(h * scale));
    *width = od_max_i64(1, (int64_t)rint(w * scale));
}

od_code srv_explain_answer(const ldr_card *card, const ldr_placement *place, const srv_evidence *e, const srv_target *t, od_arena *a, srv_text *json,
                           od_status *st)
{
    enum { FINE = 256, COARSE = 16 };
    int64_t height, width, rows, columns;
    extents(place, FINE, &height, &width);
    extents(place, COARSE, &rows, &columns);
    const double *fine = over_picture(e, place, height, width, a), *grid = over_picture(e, place, rows, columns, a);
    ldr_pixels p = {.data = od_arena_alloc(a, (size_t)(height * width)), .width = width, .height = height, .channels = 1, .stride = width};
    if (!fine || !grid || !p.data) return od_fail(st, OD_NO_MEMORY, "no memory for an explanation");
    for (int64_t i = 0; i < height * width; i++) p.data[i] = (uint8_t)(fine[i] * 255 + 0.5);
    ldr_card own = srv_head_card(card, t->head);
    srv_text_printf(json, "\"explanation\":{");
    if (t->head) {
        srv_text_printf(json, "\"head\":");
        srv_text_json(json, t->head->name, strlen(t->head->name));
        srv_text_add(json, ",", 1);
    }
    srv_add_class(json, &own, t->index, t->score);
    srv_text_printf(json, ",\"method\":\"%s\",\"passes\":%" PRId64 ",\"grid\":[", e->method, e->passes);
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < columns; x++) {
            srv_text_add(json, x ? "," : y ? ",[" : "[", x || !y ? 1 : 2);
            srv_text_double(json, rint(grid[y * columns + x] * 1000) / 1000);
            if (x == columns - 1) srv_text_add(json, "]", 1);
        }
    srv_text_printf(json, "],\"png\":");
    OD_TRY(srv_add_png(json, &p, a, st));
    srv_text_add(json, "}", 1);
    return json->full ? od_fail(st, OD_NO_MEMORY, "no memory for the answer") : OD_OK;
}
