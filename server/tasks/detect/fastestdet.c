/* fastestdet.c - FastestDet: one map of cells; channel 0 objectness, 1 to 4 the box, the rest class probabilities. */
#include "server/tasks/parts.h"

#include <math.h>

static od_code check(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    OD_TRY(srv_want(w, 0, 4, (int64_t[]){1, -1, -1, -1}));
    if (t->rank < 0 || t->dims[1] < 0) return OD_OK;
    if (t->dims[1] < 6)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'fastestdet': %" PRId64 " channels; at least 6 are wanted", t->dims[1]);
    return srv_check_labels(w, t->dims[1] - 5);
}

static od_code decode(const srv_answer *w, srv_boxes *out)
{
    const eng_tensor *t = &w->outputs[0];
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    int64_t classes = t->dims[1] - 5, rows = t->dims[2], columns = t->dims[3], plane = rows * columns;
    float width = (float)w->place->input_width, height = (float)w->place->input_height;
    for (int64_t i = 0; i < plane; i++) {
        int64_t best = 0;
        for (int64_t c = 1; c < classes; c++)
            if (x[(5 + c) * plane + i] > x[(5 + best) * plane + i]) best = c;
        float score = powf(x[i], 0.6f) * powf(x[(5 + best) * plane + i], 0.4f);
        if (!((double)score > w->score_threshold)) continue;
        float cx = ((float)(i % columns) + tanhf(x[plane + i])) / (float)columns * width;
        float cy = ((float)(i / columns) + tanhf(x[2 * plane + i])) / (float)rows * height;
        float bw = srv_sigmoid(x[3 * plane + i]) * width, bh = srv_sigmoid(x[4 * plane + i]) * height;
        srv_boxes_add(out, srv_box_around(cx, cy, bw, bh, score, best, i));
    }
    return OD_OK;
}

const srv_detector srv_fastestdet = {.name = "fastestdet", .n_outputs = 1, .check = check, .decode = decode};
