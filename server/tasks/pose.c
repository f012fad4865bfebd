/* pose.c - one point for each kind of keypoint of the one thing in the picture.
 *
 * "heatmap" [1, points, rows, columns]: the highest place, moved a quarter towards its higher neighbour (Newell et al., "Stacked
 *   hourglass networks"). "heatmap-dark", "heatmap-udp": moved to where the logarithm of the smoothed map peaks, see refine.c.
 *   Parameter align_corners (0): the outermost places lie on the input's outermost pixels, not as far apart as the rest.
 * "simcc" [1, points, bins] for x, then for y. Parameters bins (2) of a pixel, mean (0): a score is the lesser of the two highest;
 *   1: their mean.
 * "movenet" [1, 1, points, 3]: y and x relative to the input, score. */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

typedef struct point {
    float x, y, score; /* in pixels of the input */
} point;

typedef struct reader {
    const char *name;
    int n_outputs, points_axis;
    od_code (*check)(const srv_answer *w);
    point (*read)(const srv_answer *w, const float *x, const float *y, int64_t k); /* x and y: the first and the last output */
} reader;

static int64_t highest(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* ---- heat maps ---------------------------------------------------------------------------- */

static od_code check_heatmap(const srv_answer *w)
{
    OD_TRY(srv_refine_check(w));
    return srv_want(w, 0, 4, (int64_t[]){1, -1, -1, -1});
}

/* A quarter towards the higher of two neighbours; nothing at the edge. */
static float quarter(const float *x, int64_t i, int64_t n, int64_t step)
{
    if (i <= 0 || i >= n - 1) return 0;
    float d = x[step] - x[-step];
    return d > 0 ? 0.25f : d < 0 ? -0.25f : 0;
}

/* Pixels of the input from one place of a map of `n` places to the next. */
static float stride_of(const srv_answer *w, int64_t input, int64_t n)
{
    if (n > 1 && srv_number(w, "align_corners", 0) != 0) return (float)(input - 1) / (float)(n - 1);
    return (float)input / (float)n;
}

static point read_heatmap(const srv_answer *w, const float *x, const float *y, int64_t k)
{
    (void)y;
    int64_t rows = w->outputs[0].dims[2], columns = w->outputs[0].dims[3];
    x += k * rows * columns;
    int64_t at = highest(x, rows * columns), px = at % columns, py = at / columns;
    float dx = quarter(x + at, px, columns, 1), dy = quarter(x + at, py, rows, columns);
    srv_refine(w, x, rows, columns, px, py, &dx, &dy);
    return (point){((float)px + dx) * stride_of(w, w->place->input_width, columns),
                   ((float)py + dy) * stride_of(w, w->place->input_height, rows), x[at]};
}

/* ---- SimCC -------------------------------------------------------------------------------- */

static od_code check_simcc(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    return srv_want(w, 1, 3, (int64_t[]){1, t->rank == 3 ? t->dims[1] : -1, -1});
}

static point read_simcc(const srv_answer *w, const float *x, const float *y, int64_t k)
{
    int64_t nx = w->outputs[0].dims[2], ny = w->outputs[1].dims[2];
    float bins = (float)srv_number(w, "bins", 2);
    int64_t px = highest(x += k * nx, nx), py = highest(y += k * ny, ny);
    bool mean = srv_number(w, "mean", 0) != 0;
    return (point){(float)px / bins, (float)py / bins, mean ? (x[px] + y[py]) / 2 : fminf(x[px], y[py])};
}

/* ---- MoveNet ------------------------------------------------------------------------------ */

static od_code check_movenet(const srv_answer *w)
{
    return srv_want(w, 0, 4, (int64_t[]){1, 1, -1, 3});
}

static point read_movenet(const srv_answer *w, const float *x, const float *y, int64_t k)
{
    (void)y;
    x += 3 * k;
    return (point){x[1] * (float)w->place->input_width, x[0] * (float)w->place->input_height, x[2]};
}

/* ------------------------------------------------------------------------------------------- */

static const reader readers[] = {{"heatmap", 1, 1, check_heatmap, read_heatmap},
                                 {"heatmap-dark", 1, 1, check_heatmap, read_heatmap},
                                 {"heatmap-udp", 1, 1, check_heatmap, read_heatmap},
                                 {"simcc", 2, 1, check_simcc, read_simcc},
                                 {"movenet", 1, 2, check_movenet, read_movenet}};

static const reader *find_reader(const srv_answer *w)
{
    for (size_t i = 0; i < OD_COUNT(readers); i++)
        if (!strcmp(w->card->decoder ? w->card->decoder : "heatmap", readers[i].name)) return &readers[i];
    return NULL;
}

static od_code check(const srv_answer *w)
{
    const reader *r = find_reader(w);
    const eng_tensor *t = &w->outputs[0];
    if (!r)
        return od_fail(w->st, OD_BAD_MODEL, "'decoder' is '%.40s'; for task pose there are heatmap, heatmap-dark, heatmap-udp, simcc, movenet",
                       w->card->decoder);
    if (w->n_outputs != r->n_outputs)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s' reads %d outputs, not %d: name them by 'outputs'", r->name, r->n_outputs, w->n_outputs);
    OD_TRY(r->check(w));
    return t->rank < 0 ? OD_OK : srv_check_labels(w, t->dims[r->points_axis]);
}

static od_code answer(const srv_answer *w)
{
    const reader *r = find_reader(w);
    const float *x = srv_floats(w, 0), *y = x ? srv_floats(w, r->n_outputs - 1) : NULL;
    if (!y) return w->st->code;
    bool empty = eng_tensor_count(&w->outputs[0]) < 1 || eng_tensor_count(&w->outputs[r->n_outputs - 1]) < 1;
    srv_text_printf(w->json, "\"keypoints\":[");
    for (int64_t k = 0; k < w->outputs[0].dims[r->points_axis] && !empty; k++) {
        point p = r->read(w, x, y, k);
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
