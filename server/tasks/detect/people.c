/* people.c - persons with the points of their bodies.
 *
 * "movenet": [1, persons, 3 points + 5]: of each point y, x and score, then the box's top, left, bottom and right, all relative
 *   to the input, and its score. */
#include "server/tasks/parts.h"

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
