/* detr.c - transformers with a set of queries: logits [1, queries, classes], boxes [1, queries, 4] as centre and size
 * relative to the picture (not to the padding behind it). Nothing overlaps by training.
 *
 * "detr" (also YOLOS): softmax, the last class is nothing; each query counts for its best class.
 * "rtdetr" (also Deformable DETR, DETA, D-FINE): sigmoids; each class of each query counts for itself. */
#include "server/tasks/parts.h"

#include <math.h>

static od_code check_queries(const srv_answer *w, int64_t nothing)
{
    const eng_tensor *t = &w->outputs[0];
    int64_t queries = t->rank == 3 ? t->dims[1] : -1;
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    OD_TRY(srv_want(w, 1, 3, (int64_t[]){1, queries, 4}));
    return t->rank < 0 || t->dims[2] < 0 ? OD_OK : srv_check_labels(w, t->dims[2] - nothing);
}

static void add_query(const srv_answer *w, const float *b, float score, int64_t label, int64_t query, srv_boxes *out)
{
    const ldr_placement *p = w->place;
    float width = (float)(p->scale_x * (double)p->image_width), height = (float)(p->scale_y * (double)p->image_height);
    if ((double)score > w->score_threshold)
        srv_boxes_add(out, srv_box_around(b[0] * width, b[1] * height, b[2] * width, b[3] * height, score, label, query));
}

static od_code check_detr(const srv_answer *w)
{
    return check_queries(w, 1);
}

static od_code decode_detr(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0), *b = x ? srv_floats(w, 1) : NULL;
    if (!b) return w->st->code;
    int64_t classes = w->outputs[0].dims[2];
    for (int64_t q = 0; q < w->outputs[0].dims[1]; q++, x += classes, b += 4) {
        int64_t best = 0;
        float most = x[0], sum = 0;
        for (int64_t c = 1; c < classes; c++) {
            most = fmaxf(most, x[c]);
            if (c < classes - 1 && x[c] > x[best]) best = c;
        }
        for (int64_t c = 0; c < classes; c++) sum += expf(x[c] - most);
        add_query(w, b, expf(x[best] - most) / sum, best, q, out);
    }
    return OD_OK;
}

const srv_detector srv_detr = {.name = "detr", .n_outputs = 2, .check = check_detr, .decode = decode_detr, .no_nms = true};

static od_code check_rtdetr(const srv_answer *w)
{
    return check_queries(w, 0);
}

static od_code decode_rtdetr(const srv_answer *w, srv_boxes *out)
{
    const float *x = srv_floats(w, 0), *b = x ? srv_floats(w, 1) : NULL;
    if (!b) return w->st->code;
    int64_t classes = w->outputs[0].dims[2];
    for (int64_t q = 0; q < w->outputs[0].dims[1]; q++, x += classes, b += 4)
        for (int64_t c = 0; c < classes; c++) add_query(w, b, srv_sigmoid(x[c]), c, q, out);
    return OD_OK;
}

const srv_detector srv_rtdetr = {.name = "rtdetr", .n_outputs = 2, .check = check_rtdetr, .decode = decode_rtdetr,
                                 .no_nms = true};
