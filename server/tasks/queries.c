/* queries.c - masks by queries: logits of classes [1, queries, classes + 1], of which the last is nothing, and logits of masks
 * [1, queries, rows, columns], as MaskFormer, Mask2Former and DETR's panoptic head give them; read in three ways, as the
 * image processors of Hugging Face transformers do:
 *
 *   semantic   each place's score of a class is the sum over queries of the class's probability times the mask's
 *   instance   each query and class counts for itself: the mask is where its logit is above zero, the score the class's
 *              probability times the mean of the mask's within it; masks may overlap
 *   panoptic   each place goes to the query of the largest probability of class times mask; a query that keeps too little of
 *              its mask goes
 *
 * Parameter enlarge [rows, columns]: masks are brought to this size first (Mask2Former: 384, 384). */
#include "server/tasks/parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct queries {
    const srv_answer *w;
    int64_t n, classes;            /* classes without nothing */
    int64_t rows, columns;         /* of a mask as it is */
    int64_t height, width;         /* and enlarged */
    const float *logits, *masks;
    srv_between bx, by;            /* of the enlarged in the one as it is */
} queries;

static void extents(const srv_answer *w, queries *q)
{
    int n;
    const eng_tensor *masks = &w->outputs[1];
    const double *enlarge = ldr_card_param(w->card, "enlarge", &n);
    *q = (queries){.w = w, .n = w->outputs[0].dims[1], .classes = w->outputs[0].dims[2] - 1, .rows = masks->dims[2], .columns = masks->dims[3]};
    q->height = n ? srv_index(enlarge[0], 1 << 14) : q->rows;
    q->width = n ? srv_index(enlarge[n - 1], 1 << 14) : q->columns;
}

od_code srv_queries_check(const srv_answer *w, int64_t *classes)
{
    const eng_tensor *t = &w->outputs[0];
    int n;
    const double *enlarge = ldr_card_param(w->card, "enlarge", &n);
    *classes = 0;
    if (w->n_outputs != 2)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder '%.40s' reads 2 outputs, not %d: name them by 'outputs'", w->card->decoder, w->n_outputs);
    if (enlarge && (n > 2 || !(enlarge[0] >= 1 && enlarge[n - 1] >= 1 && enlarge[0] <= 1 << 14 && enlarge[n - 1] <= 1 << 14)))
        return od_fail(w->st, OD_BAD_MODEL, "'enlarge': rows and columns from 1 to %d are wanted", 1 << 14);
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    OD_TRY(srv_want(w, 1, 4, (int64_t[]){1, t->rank == 3 ? t->dims[1] : -1, -1, -1}));
    if (t->rank == 3 && t->dims[2] > 0) *classes = t->dims[2] - 1;
    return OD_OK;
}

static od_code open_queries(const srv_answer *w, queries *q)
{
    extents(w, q);
    q->logits = srv_floats(w, 0);
    q->masks = q->logits ? srv_floats(w, 1) : NULL;
    if (!q->masks) return w->st->code;
    if (q->n < 1 || q->classes < 1 || q->rows < 1 || q->columns < 1) return od_fail(w->st, OD_BAD_SHAPE, "the outputs are empty");
    if (!srv_place_between(&q->bx, q->width, 1, 0, q->width, q->columns, w->a) || !srv_place_between(&q->by, q->height, 1, 0, q->height, q->rows, w->a))
        return od_fail(w->st, OD_NO_MEMORY, "no memory for masks");
    return OD_OK;
}

/* Probabilities of the classes, the last of them nothing, into p[classes + 1]. */
static void softmax(const queries *q, int64_t query, float *p)
{
    const float *x = q->logits + query * (q->classes + 1);
    float most = x[0], sum = 0;
    for (int64_t c = 1; c <= q->classes; c++) most = fmaxf(most, x[c]);
    for (int64_t c = 0; c <= q->classes; c++) sum += p[c] = expf(x[c] - most);
    for (int64_t c = 0; c <= q->classes; c++) p[c] /= sum;
}

/* Row `y` of a query's enlarged mask, as logits. */
static void mask_row(const queries *q, int64_t query, int64_t y, float *to)
{
    const float *mask = q->masks + query * q->rows * q->columns;
    for (int64_t x = 0; x < q->width; x++) {
        srv_corners c = srv_corners_at(mask, q->columns, 1, &q->bx, &q->by, x, y);
        to[x] = srv_interpolate(&c, 0);
    }
}

static void to_probabilities(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = srv_sigmoid(x[i]);
}

/* ---- semantic ----------------------------------------------------------------------------- */

const float *srv_queries_sum(const srv_answer *w, int64_t *classes, int64_t *height, int64_t *width)
{
    queries q;
    int64_t total;
    if (open_queries(w, &q) != OD_OK) return NULL;
    *classes = q.classes, *height = q.height, *width = q.width;
    float *sum = od_mul_i64(q.classes, q.height * q.width, &total) ? od_arena_array(w->a, float, total) : NULL;
    float *p = od_mul_i64(q.n, q.classes + 1, &total) ? od_arena_array(w->a, float, total) : NULL;
    float *row = od_arena_array(w->a, float, q.width);
    if (!sum || !p || !row) {
        od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " maps", q.classes);
        return NULL;
    }
    for (int64_t i = 0; i < q.n; i++) softmax(&q, i, p + i * (q.classes + 1));
    for (int64_t y = 0; y < q.height; y++)
        for (int64_t i = 0; i < q.n; i++) {
            mask_row(&q, i, y, row);
            to_probabilities(row, q.width);
            for (int64_t c = 0; c < q.classes; c++) {
                float share = p[i * (q.classes + 1) + c], *to = sum + (c * q.height + y) * q.width;
                if (share < 1e-6f) continue; /* nearly all of them: most queries are for one class */
                for (int64_t x = 0; x < q.width; x++) to[x] += share * row[x];
            }
        }
    return sum;
}

/* ---- segments ----------------------------------------------------------------------------- */

typedef struct segment {
    int64_t query, label, area;
    float score;
    int64_t within; /* panoptic: pixels where the query's own mask is, whoever has them */
    int id;         /* from 1 on, in the order of the answer; 0: it goes */
} segment;

static int by_score(const void *a, const void *b)
{
    const segment *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->query != y->query) return x->query < y->query ? -1 : 1;
    return x->label < y->label ? -1 : x->label > y->label;
}

static int by_area(const void *a, const void *b)
{
    const segment *x = a, *y = b;
    if (x->area != y->area) return x->area > y->area ? -1 : 1;
    return by_score(a, b);
}

static od_code add_segment(const srv_answer *w, srv_map *m, const segment *s, int label, const srv_text *rle)
{
    if (w->judge) return srv_judge_segment(w, s->id - 1, s->label, s->score, m, label);
    srv_text_printf(w->json, "%s{\"id\":%d,", s->id > 1 ? "," : "", s->id);
    srv_add_class(w->json, w->card, s->label, s->score);
    srv_text_printf(w->json, ",\"area\":%" PRId64, s->area);
    if (w->mask != SRV_MASK_PNG) OD_TRY(srv_add_mask(w, m, label, rle));
    srv_text_add(w->json, "}", 1);
    return OD_OK;
}

static od_code make_map(const srv_answer *w, srv_map *m)
{
    srv_answer own = *w;
    *m = (srv_map){0};
    own.map = m;
    return srv_map_clear(&own);
}

static void begin(const srv_answer *w)
{
    srv_text_printf(w->json, "\"segmentation\":{\"size\":[%" PRId64 ",%" PRId64 "],\"segments\":[", w->place->image_height, w->place->image_width);
}

static od_code end(const srv_answer *w, srv_map *ids)
{
    srv_text_add(w->json, "]", 1);
    if (w->mask == SRV_MASK_PNG) {
        srv_text_printf(w->json, ",\"png\":");
        OD_TRY(srv_map_png(ids, w->json, w->a, w->st));
    }
    srv_text_add(w->json, "}", 1);
    return OD_OK;
}

/* ---- instances ---------------------------------------------------------------------------- */

/* The best pairs of query and class, as many as there are queries, that can still reach the threshold. */
static od_code list_pairs(const queries *q, segment **out, int64_t *n)
{
    const srv_answer *w = q->w;
    float *p = od_arena_array(w->a, float, q->classes + 1);
    int64_t most;
    segment *list = od_mul_i64(q->n, q->classes, &most) ? od_arena_array(w->a, segment, most) : NULL;
    if (!p || !list) return od_fail(w->st, OD_NO_MEMORY, "no memory for segments");
    *n = 0;
    for (int64_t i = 0; i < q->n; i++) {
        softmax(q, i, p);
        for (int64_t c = 0; c < q->classes; c++)
            if ((double)p[c] >= w->score_threshold && srv_judge_wants(w->judge, c)) list[(*n)++] = (segment){.query = i, .label = c, .score = p[c]};
    }
    qsort(list, (size_t)*n, sizeof *list, by_score);
    *n = od_min_i64(*n, q->n);
    *out = list;
    return OD_OK;
}

/* Where the mask is, as zeros and ones; its score. */
static double binary_mask(const queries *q, int64_t query, float *row, uint8_t *on)
{
    double sum = 0, n = 0;
    for (int64_t y = 0; y < q->height; y++) {
        mask_row(q, query, y, row);
        for (int64_t x = 0; x < q->width; x++) {
            bool in = row[x] > 0;
            on[y * q->width + x] = in;
            n += in;
            if (in) sum += (double)srv_sigmoid(row[x]);
        }
    }
    return sum / (n + 1e-6);
}

/* The map's places under the picture's pixels, as PyTorch finds the nearest: under a pixel's corner. */
static int64_t *nearest(int64_t picture, double scale, double offset, int64_t input, int64_t map, od_arena *a)
{
    int64_t *at = od_arena_array(a, int64_t, picture);
    for (int64_t i = 0; at && i < picture; i++) at[i] = od_min_i64(srv_index(((double)i * scale + offset) * (double)map / (double)input + 1e-6, map), map - 1);
    return at;
}

typedef struct projection {
    int64_t *x, *y;
} projection;

/* The mask's pixels get `label`; how many they are. */
static int64_t draw(const queries *q, const projection *p, const uint8_t *on, int label, srv_map *m)
{
    int64_t area = 0;
    for (int64_t y = 0; y < m->height; y++)
        for (int64_t x = 0; x < m->width; x++) {
            if (!on[p->y[y] * q->width + p->x[x]]) continue;
            m->labels[y * m->width + x] = (uint16_t)label;
            area++;
        }
    return area;
}

static od_code answer_instances(const queries *q)
{
    const srv_answer *w = q->w;
    const ldr_placement *at = w->place;
    segment *list = NULL;
    int64_t n = 0, kept = 0;
    srv_map own, ids;
    projection p = {nearest(at->image_width, at->scale_x, at->offset_x, at->input_width, q->width, w->a),
                    nearest(at->image_height, at->scale_y, at->offset_y, at->input_height, q->height, w->a)};
    float *row = od_arena_array(w->a, float, q->width);
    uint8_t *on = od_arena_alloc(w->a, (size_t)(q->height * q->width));
    if (!p.x || !p.y || !row || !on) return od_fail(w->st, OD_NO_MEMORY, "no memory for masks");
    OD_TRY(list_pairs(q, &list, &n));
    OD_TRY(make_map(w, &own));
    OD_TRY(make_map(w, &ids));
    for (int64_t i = 0; i < n; i++) {
        segment s = list[i];
        s.score *= (float)binary_mask(q, s.query, row, on);
        if (!((double)s.score >= w->score_threshold) || !(s.area = draw(q, &p, on, 1, &own))) continue;
        list[kept++] = s;
    }
    qsort(list, (size_t)kept, sizeof *list, by_score);
    kept = od_min_i64(kept, w->max_detections);
    begin(w);
    for (int64_t i = 0; i < kept; i++) {
        list[i].id = (int)i + 1;
        if (w->mask != SRV_MASK_NONE && w->mask != SRV_MASK_PNG) {
            srv_answer one = *w;
            one.map = &own;
            OD_TRY(srv_map_clear(&one));
            binary_mask(q, list[i].query, row, on);
            draw(q, &p, on, 1, &own);
        }
        OD_TRY(add_segment(w, &own, &list[i], 1, NULL));
    }
    for (int64_t i = kept - 1; i >= 0 && w->mask == SRV_MASK_PNG; i--) { /* better ones lie above */
        if (i >= UINT16_MAX) continue;
        binary_mask(q, list[i].query, row, on);
        draw(q, &p, on, (int)i + 1, &ids);
    }
    return end(w, &ids);
}

/* ---- panoptic ----------------------------------------------------------------------------- */

/* Queries of which something is the best class. */
static od_code list_queries(const queries *q, segment **out, int64_t *n)
{
    const srv_answer *w = q->w;
    float *p = od_arena_array(w->a, float, q->classes + 1);
    segment *list = od_arena_array(w->a, segment, q->n);
    if (!p || !list) return od_fail(w->st, OD_NO_MEMORY, "no memory for segments");
    *n = 0;
    for (int64_t i = 0; i < q->n && *n < UINT16_MAX - 1; i++) {
        int64_t best = 0;
        softmax(q, i, p);
        for (int64_t c = 1; c <= q->classes; c++)
            if (p[c] > p[best]) best = c;
        if (best < q->classes && (double)p[best] > w->score_threshold) list[(*n)++] = (segment){.query = i, .label = best, .score = p[best]};
    }
    *out = list;
    return OD_OK;
}

/* Rows of the masks' probabilities around one of the picture's, two of each query. */
typedef struct window {
    float *rows[2];
    int64_t at[2]; /* which these are */
    float *line, *best;
} window;

static od_code make_window(const queries *q, int64_t n, window *v)
{
    const srv_answer *w = q->w;
    int64_t total;
    *v = (window){.at = {-1, -1}};
    if (od_mul_i64(n, q->width, &total))
        for (int i = 0; i < 2; i++) v->rows[i] = od_arena_array(w->a, float, total);
    v->line = od_arena_array(w->a, float, q->width);
    v->best = od_arena_array(w->a, float, w->place->image_width);
    return v->rows[0] && v->rows[1] && v->line && v->best ? OD_OK : od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " masks", n);
}

static const float *window_row(const queries *q, window *v, const segment *list, int64_t n, int64_t y)
{
    int at = (int)(y % 2);
    for (int64_t k = 0; k < n && v->at[at] != y; k++) {
        mask_row(q, list[k].query, y, v->rows[at] + k * q->width);
        to_probabilities(v->rows[at] + k * q->width, q->width);
    }
    v->at[at] = y;
    return v->rows[at];
}

/* One row of the picture: to each pixel the number of the best query, from 1 on. */
static void claim_row(const queries *q, window *v, segment *list, int64_t n, const srv_between *bx, const srv_between *by, int64_t y,
                      float limit, int64_t width, uint16_t *labels)
{
    int64_t y0 = by->first[y], y1 = od_min_i64(y0 + 1, q->height - 1);
    const float *up = window_row(q, v, list, n, y0), *down = window_row(q, v, list, n, y1);
    float ty = by->share[y];
    for (int64_t x = 0; x < width; x++) v->best[x] = -1;
    for (int64_t k = 0; k < n; k++) {
        for (int64_t x = 0; x < q->width; x++) {
            float a = up[k * q->width + x];
            v->line[x] = (a + (down[k * q->width + x] - a) * ty) * list[k].score;
        }
        for (int64_t x = 0; x < width; x++) {
            int64_t x0 = bx->first[x], x1 = od_min_i64(x0 + 1, q->width - 1);
            float p = v->line[x0] + (v->line[x1] - v->line[x0]) * bx->share[x];
            list[k].within += p >= limit;
            if (!(p > v->best[x])) continue;
            v->best[x] = p;
            labels[x] = (uint16_t)(k + 1);
        }
    }
}

static bool is_fused(const srv_answer *w, int64_t label)
{
    int n;
    const double *fused = ldr_card_param(w->card, "label_ids_to_fuse", &n);
    for (int i = 0; i < n; i++)
        if (fused[i] == (double)label) return true;
    return false;
}

/* Queries that keep too little go, those of labels to fuse become one. The segments in the answer's order at the list's front;
 * `ids`: what each query's pixels become. */
static int64_t keep_segments(const srv_answer *w, segment *list, int64_t n, uint16_t *ids)
{
    double share = srv_number(w, "overlap_mask_area_threshold", 0.8);
    int64_t kept = 0;
    for (int64_t k = 0; k < n; k++) {
        segment *s = &list[k], *into = NULL;
        if (!s->area || !s->within || !((double)s->area / (double)s->within > share)) continue;
        for (int64_t i = 0; i < kept && !into && is_fused(w, s->label); i++)
            if (list[i].label == s->label) into = &list[i];
        ids[k + 1] = (uint16_t)(into ? into - list + 1 : kept + 1);
        if (into) {
            into->area += s->area;
            into->score = fmaxf(into->score, s->score);
        } else {
            list[kept] = *s;
            list[kept].id = (int)kept + 1;
            kept++;
        }
    }
    return kept;
}

/* Segments in the order of their areas, numbered so. */
static od_code order_segments(const srv_answer *w, segment *list, int64_t kept, uint16_t *ids, int64_t n)
{
    uint16_t *to = od_arena_array(w->a, uint16_t, kept + 1);
    if (!to) return od_fail(w->st, OD_NO_MEMORY, "no memory for segments");
    qsort(list, (size_t)kept, sizeof *list, by_area);
    for (int64_t i = 0; i < kept; i++) {
        to[list[i].id] = (uint16_t)(i + 1);
        list[i].id = (int)i + 1;
    }
    for (int64_t k = 0; k <= n; k++) ids[k] = to[ids[k]];
    return OD_OK;
}

static od_code answer_panoptic(const queries *q)
{
    const srv_answer *w = q->w;
    const ldr_placement *at = w->place;
    segment *list = NULL;
    int64_t n = 0;
    window v;
    srv_map m;
    srv_between bx, by;
    OD_TRY(list_queries(q, &list, &n));
    OD_TRY(make_map(w, &m));
    OD_TRY(make_window(q, n, &v));
    uint16_t *ids = od_arena_zalloc(w->a, (size_t)(n + 1) * sizeof *ids);
    srv_text *rle = od_arena_array(w->a, srv_text, n + 1);
    if (!ids || !rle || !srv_place_between(&bx, m.width, at->scale_x, at->offset_x, at->input_width, q->width, w->a) ||
        !srv_place_between(&by, m.height, at->scale_y, at->offset_y, at->input_height, q->height, w->a))
        return od_fail(w->st, OD_NO_MEMORY, "no memory for segments");
    float limit = (float)srv_number(w, "mask_threshold", 0.5);
    for (int64_t y = 0; y < m.height; y++) claim_row(q, &v, list, n, &bx, &by, y, limit, m.width, m.labels + y * m.width);
    for (int64_t i = 0; i < m.width * m.height; i++)
        if (m.labels[i]) list[m.labels[i] - 1].area++;
    int64_t kept = keep_segments(w, list, n, ids);
    OD_TRY(order_segments(w, list, kept, ids, n));
    for (int64_t i = 0; i < m.width * m.height; i++) m.labels[i] = ids[m.labels[i]];
    for (int64_t i = 0; i <= n; i++) rle[i].arena = w->a;
    if (w->mask == SRV_MASK_RLE || w->mask == SRV_MASK_DEFAULT) OD_TRY(srv_map_rle(&m, (int)kept + 1, rle, w->a, w->st));
    begin(w);
    for (int64_t i = 0; i < kept; i++) OD_TRY(add_segment(w, &m, &list[i], list[i].id, &rle[list[i].id]));
    return end(w, &m);
}

bool srv_gives_segments(const srv_answer *w)
{
    return w->card->task == LDR_TASK_SEGMENT && w->card->decoder && !strncmp(w->card->decoder, "maskformer-", 11);
}

static bool is_panoptic(const srv_answer *w)
{
    return !strcmp(w->card->decoder, "maskformer-panoptic");
}

od_code srv_queries_answer(const srv_answer *w)
{
    queries q;
    OD_TRY(open_queries(w, &q));
    return is_panoptic(w) ? answer_panoptic(&q) : answer_instances(&q);
}
