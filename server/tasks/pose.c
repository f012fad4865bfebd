/* pose.c - one point for each kind of keypoint of the one thing in the picture.
 *
 * Decoders: "heatmap" [1, points, rows, columns], the highest place, moved a quarter towards its higher neighbour
 * (Newell et al., "Stacked hourglass networks"); "simcc" [1, points, bins] for x, then for y, with `bins` (2) of them a pixel;
 * "movenet" [1, 1, points, 3]: y and x relative to the input, score. */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

static bool is_simcc(const srv_answer *w)
{
    return w->card->decoder && !strcmp(w->card->decoder, "simcc");
}

static bool is_movenet(const srv_answer *w)
{
    return w->card->decoder && !strcmp(w->card->decoder, "movenet");
}

static od_code check(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    const char *name = w->card->decoder ? w->card->decoder : "heatmap";
    if (is_simcc(w)) {
        if (w->n_outputs != 2) return od_fail(w->st, OD_BAD_SHAPE, "decoder 'simcc' reads two outputs, not %d", w->n_outputs);
        OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
        OD_TRY(srv_want(w, 1, 3, (int64_t[]){1, t->rank == 3 ? t->dims[1] : -1, -1}));
    } else if (!strcmp(name, "heatmap")) {
        OD_TRY(srv_want(w, 0, 4, (int64_t[]){1, -1, -1, -1}));
    } else if (!strcmp(name, "movenet")) {
        OD_TRY(srv_want(w, 0, 4, (int64_t[]){1, 1, -1, 3}));
    } else {
        return od_fail(w->st, OD_BAD_MODEL, "'decoder' is '%.40s'; for task pose there are heatmap, simcc, movenet", name);
    }
    return t->rank < 0 ? OD_OK : srv_check_labels(w, t->dims[is_movenet(w) ? 2 : 1]);
}

static int64_t highest(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* A quarter towards the higher of two neighbours; nothing at the edge. */
static float quarter(const float *x, int64_t i, int64_t n, int64_t step)
{
    if (i <= 0 || i >= n - 1) return 0;
    float d = x[step] - x[-step];
    return d > 0 ? 0.25f : d < 0 ? -0.25f : 0;
}

typedef struct point {
    float x, y, score; /* in pixels of the input */
} point;

static point from_heatmap(const srv_answer *w, const float *x, int64_t k)
{
    int64_t rows = w->outputs[0].dims[2], columns = w->outputs[0].dims[3];
    x += k * rows * columns;
    int64_t at = highest(x, rows * columns), px = at % columns, py = at / columns;
    float fx = (float)px + quarter(x + at, px, columns, 1), fy = (float)py + quarter(x + at, py, rows, columns);
    return (point){fx * (float)w->place->input_width / (float)columns, fy * (float)w->place->input_height / (float)rows, x[at]};
}

static point from_simcc(const srv_answer *w, const float *x, const float *y, int64_t k)
{
    int64_t nx = w->outputs[0].dims[2], ny = w->outputs[1].dims[2];
    float bins = (float)srv_number(w, "bins", 2);
    int64_t px = highest(x += k * nx, nx), py = highest(y += k * ny, ny);
    return (point){(float)px / bins, (float)py / bins, fminf(x[px], y[py])};
}

static point from_movenet(const srv_answer *w, const float *x)
{
    return (point){x[1] * (float)w->place->input_width, x[0] * (float)w->place->input_height, x[2]};
}

static od_code answer(const srv_answer *w)
{
    bool simcc = is_simcc(w);
    const float *x = srv_floats(w, 0), *y = x && simcc ? srv_floats(w, 1) : x;
    if (!y) return w->st->code;
    bool empty = eng_tensor_count(&w->outputs[0]) < 1 || (simcc && eng_tensor_count(&w->outputs[1]) < 1);
    srv_text_printf(w->json, "\"keypoints\":[");
    for (int64_t k = 0; k < w->outputs[0].dims[is_movenet(w) ? 2 : 1] && !empty; k++) {
        point p = simcc ? from_simcc(w, x, y, k) : is_movenet(w) ? from_movenet(w, x + 3 * k) : from_heatmap(w, x, k);
        srv_text_printf(w->json, "%s{", k ? "," : "");
        srv_add_class(w->json, w->card, k, p.score);
        srv_text_printf(w->json, ",\"point\":[");
        srv_add_pixel(w->json, srv_to_picture_x(w, p.x));
        srv_text_add(w->json, ",", 1);
        srv_add_pixel(w->json, srv_to_picture_y(w, p.y));
        srv_text_add(w->json, "]}", 2);
    }
    srv_text_add(w->json, "]", 1);
    return OD_OK;
}

const srv_task srv_pose = {check, answer};
