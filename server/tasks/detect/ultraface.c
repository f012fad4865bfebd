/* ultraface.c - Ultra-Light face detectors: scores of background and classes, and corners relative to the input. */
#include "server/tasks/parts.h"

static od_code check(const srv_answer *w)
{
    const eng_tensor *scores = &w->outputs[0];
    int64_t rows = scores->rank == 3 ? scores->dims[1] : -1, classes = scores->rank == 3 ? scores->dims[2] : -1;
    OD_TRY(srv_want(w, 0, 3, (int64_t[]){1, -1, -1}));
    OD_TRY(srv_want(w, 1, 3, (int64_t[]){1, rows, 4}));
    if (classes >= 0 && classes < 2)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder 'ultraface': %" PRId64 " scores a box; background and at least one are wanted", classes);
    return srv_check_labels(w, classes - 1);
}

static od_code decode(const srv_answer *w, srv_boxes *out)
{
    const float *scores = srv_floats(w, 0), *boxes = scores ? srv_floats(w, 1) : NULL;
    if (!boxes) return w->st->code;
    int64_t rows = w->outputs[0].dims[1], classes = w->outputs[0].dims[2];
    float width = (float)w->place->input_width, height = (float)w->place->input_height;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 1; c < classes; c++) { /* 0 is background */
            const float *b = boxes + i * 4;
            float score = scores[i * classes + c];
            if ((double)score > w->score_threshold)
                srv_boxes_add(out, (srv_box){b[0] * width, b[1] * height, b[2] * width, b[3] * height, score, (int32_t)c - 1, (int32_t)i});
        }
    return OD_OK;
}

const srv_detector srv_ultraface = {"ultraface", 2, check, decode, false};
