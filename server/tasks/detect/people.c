/* people.c - persons with the points of their bodies.
 *
 * "movenet": [1, persons, 3 points + 5]: of each point y, x and score, then the box's top, left, bottom and right, all relative
 *   to the input, and its score.
 * "posenet": PersonLab's fields as PoseNet has them, [1, rows, columns, numbers] or [1, numbers, rows, columns]: heat maps of the points,
 *   offsets of the points from the places (y of all, then x), displacements along the edges of a tree from parent to child (y of
 *   all, then x) and back, in pixels of the input, whose outermost pixels are the outermost places (Papandreou et al.,
 *   "PersonLab: person pose estimation and instance segmentation with a bottom-up, part-based, geometric embedding model").
 *   Persons grow from the highest peaks along the tree, greedily. Parameters activation (1: sigmoid of the heat maps; 0: as they
 *   are), part_threshold (0.5) of a point that a person grows from, radius (20): points of a kind that are as near are one person's,
 *   edges (PoseNet's): parent and child of each. */
#include "server/tasks/parts.h"

#include <math.h>
#include <stdlib.h>

enum { BOX_NUMBERS = 5 };

static od_code check_movenet(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    if (t->rank == 3 && t->dims[2] >= 0 && (t->dims[2] <= BOX_NUMBERS || (t->dims[2] - BOX_NUMBERS) % 3))
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'movenet': %" PRId64 " numbers a person; three a point and %d are wanted", t->dims[2],
                       BOX_NUMBERS);
    return srv_check_labels(w, 1);
}

static od_code decode_movenet(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    float width = (float)w->place->input_width, height = (float)w->place->input_height;
    int64_t numbers = w->outputs[0].dims[2];
    for (int64_t i = 0; i < w->outputs[0].dims[1]; i++, x += numbers) {
        const float *b = x + numbers - BOX_NUMBERS;
        if ((double)b[4] > w->score_threshold)
            srv_boxes_add(out, (srv_box){b[1] * width, b[0] * height, b[3] * width, b[2] * height, b[4], 0, 0, (int32_t)i});
    }
    return OD_OK;
}

static od_code add_movenet_points(const srv_answer *w, const srv_box *b)
{
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    int64_t numbers = w->outputs[0].dims[2];
    x += b->source * numbers;
    int64_t n = (numbers - BOX_NUMBERS) / 3;
    float *points = od_arena_array(w->a, float, 3 * n);
    if (!points) return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " points", n);
    for (int64_t k = 0; k < n; k++, x += 3) {
        points[3 * k] = x[1] * (float)w->place->input_width;
        points[3 * k + 1] = x[0] * (float)w->place->input_height;
        points[3 * k + 2] = x[2];
    }
    return srv_add_keypoints(w, points, n);
}

const srv_detector srv_movenet = {.name = "movenet", .n_outputs = 1, .check = check_movenet, .decode = decode_movenet,
                                  .more = add_movenet_points, .no_nms = true};

/* ---- PoseNet ------------------------------------------------------------------------------ */

/* A tree over PoseNet's seventeen points, from each parent to its child; the nose is the root. */
static const double usual_edges[] = {0, 1, 1, 3, 0, 2, 2, 4, 0, 5, 5, 7, 7, 9, 5, 11, 11, 13, 13, 15, 0, 6, 6, 8, 8, 10, 6, 12, 12, 14, 14, 16};

enum { POINTS_MAX = 256, PERSONS_MAX = 1000, REFINEMENTS = 2 };

typedef struct place {
    float x, y, score; /* in pixels of the input */
} place;

typedef struct fields {
    const float *heat, *offsets, *forward, *backward;
    int64_t points, edges, rows, columns;
    bool rows_first; /* extents are rows, columns, numbers; else numbers, rows, columns */
    bool logits;
    const double *tree; /* parent and child of each edge */
    float stride_x, stride_y;
} fields;

static bool is_rows_first(const srv_answer *w)
{
    return w->outputs[0].rank == 4 && w->outputs[1].rank == 4 && w->outputs[1].dims[3] == 2 * w->outputs[0].dims[3];
}

static const double *edges_of(const srv_answer *w, int *n)
{
    const double *edges = ldr_card_param(w->card, "edges", n);
    if (!edges) edges = usual_edges, *n = OD_COUNT(usual_edges);
    *n /= 2;
    return edges;
}

static od_code check_posenet(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    bool last = is_rows_first(w);
    int n;
    const double *edges = edges_of(w, &n);
    int64_t points = t->rank == 4 ? t->dims[last ? 3 : 1] : -1, y = t->rank == 4 ? t->dims[last ? 1 : 2] : -1, x = t->rank == 4 ? t->dims[last ? 2 : 3] : -1;
    const int64_t numbers[4] = {-1, points < 0 ? -1 : 2 * points, 2 * n, 2 * n};
    for (int i = 0; i < 4; i++) OD_TRY(srv_want(w, i, 4, last ? (int64_t[]){1, y, x, numbers[i]} : (int64_t[]){1, numbers[i], y, x}));
    if (points > POINTS_MAX) return od_fail(w->st, OD_BAD_SHAPE, "decoder 'posenet': %" PRId64 " points; at most %d are possible", points, POINTS_MAX);
    for (int i = 0; i < 2 * n; i++)
        if (!(edges[i] >= 0 && (points < 0 || edges[i] < (double)points) && edges[i] < POINTS_MAX))
            return od_fail(w->st, OD_BAD_MODEL, "'edges': there is no point %.9g", edges[i]);
    return srv_check_labels(w, 1);
}

/* Number `k` of a field's `n` at a place. */
static float at(const fields *f, const float *field, int64_t n, int64_t k, int64_t y, int64_t x)
{
    return field[f->rows_first ? (y * f->columns + x) * n + k : (k * f->rows + y) * f->columns + x];
}

static float heat_at(const fields *f, int64_t k, int64_t y, int64_t x)
{
    float h = at(f, f->heat, f->points, k, y, x);
    return f->logits ? srv_sigmoid(h) : h;
}

static od_code open_fields(const srv_answer *w, fields *f)
{
    int n;
    const int64_t *d = w->outputs[0].dims;
    *f = (fields){.heat = srv_floats(w, 0), .offsets = srv_floats(w, 1), .forward = srv_floats(w, 2), .backward = srv_floats(w, 3),
                  .rows_first = is_rows_first(w), .logits = srv_number(w, "activation", 1) != 0, .tree = edges_of(w, &n)};
    f->edges = n;
    f->points = d[f->rows_first ? 3 : 1];
    f->rows = d[f->rows_first ? 1 : 2];
    f->columns = d[f->rows_first ? 2 : 3];
    if (f->rows < 1 || f->columns < 1) return od_fail(w->st, OD_BAD_SHAPE, "maps of %" PRId64 " x %" PRId64 " places", f->rows, f->columns);
    if (!f->heat || !f->offsets || !f->forward || !f->backward) return w->st->code;
    f->stride_x = (float)(w->place->input_width - 1) / (float)od_max_i64(f->columns - 1, 1);
    f->stride_y = (float)(w->place->input_height - 1) / (float)od_max_i64(f->rows - 1, 1);
    return OD_OK;
}

static int64_t nearest(float x, float stride, int64_t n)
{
    return srv_index(rint((double)(x / stride)), n - 1);
}

/* Where point `k` lies by the offset of the place (y, x). */
static place offset_place(const fields *f, int64_t k, int64_t y, int64_t x)
{
    return (place){(float)x * f->stride_x + at(f, f->offsets, 2 * f->points, f->points + k, y, x),
                   (float)y * f->stride_y + at(f, f->offsets, 2 * f->points, k, y, x), 0};
}

/* From a point along an edge to the one at its other end. */
static place follow(const fields *f, const float *displacements, int64_t edge, place from, int64_t to)
{
    int64_t x = nearest(from.x, f->stride_x, f->columns), y = nearest(from.y, f->stride_y, f->rows);
    place p = {from.x + at(f, displacements, 2 * f->edges, f->edges + edge, y, x), from.y + at(f, displacements, 2 * f->edges, edge, y, x), 0};
    for (int i = 0; i < REFINEMENTS; i++)
        p = offset_place(f, to, nearest(p.y, f->stride_y, f->rows), nearest(p.x, f->stride_x, f->columns));
    p.score = heat_at(f, to, nearest(p.y, f->stride_y, f->rows), nearest(p.x, f->stride_x, f->columns));
    return p;
}

/* All points of the person whose point `k` is at the place (y, x): up the tree, then down. Those that no edge reaches keep a score of 0. */
static void grow_person(const fields *f, int64_t k, int64_t y, int64_t x, place *out)
{
    bool known[POINTS_MAX] = {false};
    for (int64_t i = 0; i < f->points; i++) out[i] = (place){0};
    out[k] = offset_place(f, k, y, x);
    out[k].score = heat_at(f, k, y, x);
    known[k] = true;
    for (int64_t e = f->edges - 1; e >= 0; e--) {
        int64_t parent = (int64_t)f->tree[2 * e], child = (int64_t)f->tree[2 * e + 1];
        if (!known[child] || known[parent]) continue;
        out[parent] = follow(f, f->backward, e, out[child], parent);
        known[parent] = true;
    }
    for (int64_t e = 0; e < f->edges; e++) {
        int64_t parent = (int64_t)f->tree[2 * e], child = (int64_t)f->tree[2 * e + 1];
        if (!known[parent] || known[child]) continue;
        out[child] = follow(f, f->forward, e, out[parent], child);
        known[child] = true;
    }
}

typedef struct root {
    float score;
    int32_t id; /* point, row and column as one number */
} root;

static int by_score(const void *a, const void *b)
{
    const root *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* No neighbour's score is higher. */
static bool is_peak(const fields *f, int64_t k, int64_t y, int64_t x)
{
    float here = at(f, f->heat, f->points, k, y, x);
    for (int64_t v = od_max_i64(y - 1, 0); v <= od_min_i64(y + 1, f->rows - 1); v++)
        for (int64_t u = od_max_i64(x - 1, 0); u <= od_min_i64(x + 1, f->columns - 1); u++)
            if (at(f, f->heat, f->points, k, v, u) > here) return false;
    return true;
}

static int64_t find_roots(const fields *f, double least, root *out)
{
    int64_t n = 0;
    for (int64_t k = 0; k < f->points; k++)
        for (int64_t y = 0; y < f->rows; y++)
            for (int64_t x = 0; x < f->columns; x++) {
                float score = heat_at(f, k, y, x);
                if ((double)score >= least && is_peak(f, k, y, x)) out[n++] = (root){score, (int32_t)((k * f->rows + y) * f->columns + x)};
            }
    if (n > 1) qsort(out, (size_t)n, sizeof *out, by_score);
    return n;
}

/* Is point `k` of one of the persons so near? */
static bool is_claimed(const place *persons, int64_t n, int64_t points, int64_t k, place p, float radius)
{
    for (int64_t i = 0; i < n; i++) {
        float dx = persons[i * points + k].x - p.x, dy = persons[i * points + k].y - p.y;
        if (dx * dx + dy * dy <= radius * radius) return true;
    }
    return false;
}

/* The box around a person's points; the score is the mean of those that no person before it claims. */
static srv_box person_box(const place *persons, int64_t n, int64_t points, float radius, int32_t id)
{
    const place *own = persons + n * points;
    srv_box b = {.x1 = own[0].x, .x2 = own[0].x, .y1 = own[0].y, .y2 = own[0].y, .source = id};
    for (int64_t k = 0; k < points; k++) {
        b.x1 = fminf(b.x1, own[k].x), b.x2 = fmaxf(b.x2, own[k].x);
        b.y1 = fminf(b.y1, own[k].y), b.y2 = fmaxf(b.y2, own[k].y);
        if (!is_claimed(persons, n, points, k, own[k], radius)) b.score += own[k].score;
    }
    b.score /= (float)points;
    return b;
}

static od_code decode_posenet(const srv_answer *w, srv_boxes *out)
{
    fields f;
    OD_TRY(open_fields(w, &f));
    int64_t places = f.points * f.rows * f.columns, most = od_min_i64(w->max_detections, PERSONS_MAX), n = 0;
    float radius = (float)srv_number(w, "radius", 20);
    if (places < 1 || places > INT32_MAX) return OD_OK;
    root *roots = od_arena_array(w->a, root, places);
    place *persons = od_arena_array(w->a, place, most * f.points);
    if (!roots || !persons) return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " points", places);
    int64_t n_roots = find_roots(&f, srv_number(w, "part_threshold", 0.5), roots);
    for (int64_t i = 0; i < n_roots && n < most; i++) {
        int64_t k = roots[i].id / (f.rows * f.columns), y = roots[i].id / f.columns % f.rows, x = roots[i].id % f.columns;
        if (is_claimed(persons, n, f.points, k, offset_place(&f, k, y, x), radius)) continue;
        grow_person(&f, k, y, x, persons + n * f.points);
        srv_box b = person_box(persons, n++, f.points, radius, roots[i].id);
        if ((double)b.score > w->score_threshold) srv_boxes_add(out, b);
    }
    return OD_OK;
}

static od_code add_posenet_points(const srv_answer *w, const srv_box *b)
{
    fields f;
    place own[POINTS_MAX];
    float *points = od_arena_array(w->a, float, 3 * POINTS_MAX);
    if (!points) return od_fail(w->st, OD_NO_MEMORY, "no memory for %d points", POINTS_MAX);
    OD_TRY(open_fields(w, &f));
    grow_person(&f, b->source / f.columns / f.rows, b->source / f.columns % f.rows, b->source % f.columns, own);
    for (int64_t k = 0; k < f.points; k++) points[3 * k] = own[k].x, points[3 * k + 1] = own[k].y, points[3 * k + 2] = own[k].score;
    return srv_add_keypoints(w, points, f.points);
}

const srv_detector srv_posenet = {.name = "posenet", .n_outputs = 4, .check = check_posenet, .decode = decode_posenet,
                                  .more = add_posenet_points, .no_nms = true};
