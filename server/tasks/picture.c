/* picture.c - a picture's way in and out of a model. */
#include "engine/base/cpu.h"
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

static const srv_task *task_of(const ldr_card *card)
{
    switch (card->task) {
    case LDR_TASK_CLASSIFY: return &srv_classify;
    case LDR_TASK_DETECT: return &srv_detect;
    case LDR_TASK_SEGMENT: return &srv_segment;
    case LDR_TASK_POSE: return &srv_pose;
    case LDR_TASK_EMBED: return &srv_embed;
    case LDR_TASK_IMAGE: return &srv_image;
    default: return NULL;
    }
}

/* ---- at load ------------------------------------------------------------------------------ */

/* Inputs beside the picture that some exports have: sizes, masks of what is no padding, which data set's experts. */
typedef enum extra { EXTRA_NONE, EXTRA_PICTURE_HW, EXTRA_PICTURE_WH, EXTRA_INPUT_HW, EXTRA_SCALE_YX, EXTRA_ONES, EXTRA_ZERO } extra;

static extra extra_of(const char *name)
{
    static const struct { const char *name; extra what; } known[] = {
        {"image_shape", EXTRA_PICTURE_HW}, {"orig_target_sizes", EXTRA_PICTURE_WH}, {"im_shape", EXTRA_INPUT_HW},
        {"scale_factor", EXTRA_SCALE_YX},  {"pixel_mask", EXTRA_ONES},
        {"dataset_index", EXTRA_ZERO}}; /* of ViTPose's experts: COCO's */
    for (size_t i = 0; i < OD_COUNT(known); i++)
        if (!strcmp(name, known[i].name)) return known[i].what;
    return EXTRA_NONE;
}

/* What the card gives an input beside the picture, or NULL. */
static const struct ldr_card_param *constant_of(const ldr_card *card, const char *name)
{
    for (int i = 0; i < card->n_constants; i++)
        if (!strcmp(card->constants[i].name, name)) return &card->constants[i];
    return NULL;
}

static bool is_settable(const eng_value *v)
{
    return v->dtype == ENG_FLOAT || v->dtype == ENG_INT64 || v->dtype == ENG_INT32 || v->dtype == ENG_BOOL;
}

/* Extents for `n` numbers: of those that are free the first is the batch, the last takes what is left, others are one. */
static bool constant_dims(const eng_value *v, int64_t n, int64_t *dims)
{
    int64_t rest = n;
    int last = -1;
    for (int d = 0; d < v->rank; d++) {
        dims[d] = v->dims[d];
        if (dims[d] >= 0) continue;
        dims[d] = 1;
        if (d > 0 || v->rank == 1) last = d;
    }
    for (int d = 0; d < v->rank; d++) {
        if (dims[d] < 1 || rest % dims[d]) return false;
        rest /= dims[d];
    }
    if (last >= 0) dims[last] = rest;
    return last >= 0 || rest == 1;
}

static od_code check_constants(const ldr_card *card, const eng_model *m, od_status *st)
{
    const eng_graph *g = m->graph;
    int64_t dims[ENG_MAX_RANK];
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        const struct ldr_card_param *c = constant_of(card, v->name);
        if (!c) continue;
        if (i == card->input) return od_fail(st, OD_BAD_MODEL, "'constants': '%.60s' takes the picture", v->name);
        if (v->rank < 0 || !is_settable(v))
            return od_fail(st, OD_BAD_MODEL, "'constants': '%.60s' is %s; float, int64, int32 or bool of known rank is wanted", v->name,
                           eng_dtype_name(v->dtype));
        double most = v->dtype == ENG_INT32 ? INT32_MAX : 0x1p53;
        for (int k = 0; k < c->n; k++)
            if (!(fabs(c->values[k]) <= most)) return od_fail(st, OD_BAD_MODEL, "'constants': '%.60s' has %.9g", v->name, c->values[k]);
        if (c->n < 1 || !constant_dims(v, c->n, dims)) return od_fail(st, OD_BAD_MODEL, "'constants': %d numbers do not fill '%.60s'", c->n, v->name);
    }
    return OD_OK;
}

static od_code check_inputs(const ldr_card *card, const eng_model *m, od_status *st)
{
    const eng_graph *g = m->graph;
    OD_TRY(check_constants(card, m, st));
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        if (constant_of(card, v->name)) continue;
        if (i != card->input && !v->constant && extra_of(v->name) == EXTRA_NONE)
            return od_fail(st, OD_BAD_MODEL, "the model wants '%s' beside the picture, and nothing gives it", v->name);
    }
    return OD_OK;
}

/* The outputs that the decoder reads, from all of the model's. */
static od_code pick_outputs(srv_answer *w, const eng_tensor *all, int n_all)
{
    if (!w->card->outputs) {
        w->outputs = all;
        w->n_outputs = n_all;
        return OD_OK;
    }
    eng_tensor *some = od_arena_array(w->a, eng_tensor, w->card->n_outputs);
    if (!some) return od_fail(w->st, OD_NO_MEMORY, "%d outputs", w->card->n_outputs);
    for (int i = 0; i < w->card->n_outputs; i++) some[i] = all[w->card->outputs[i]];
    w->outputs = some;
    w->n_outputs = w->card->n_outputs;
    return OD_OK;
}

static od_code check_outputs(const ldr_card *card, const eng_model *m, const srv_task *task, od_arena *a, od_status *st)
{
    const eng_graph *g = m->graph;
    srv_answer w = {.card = card, .a = a, .st = st};
    eng_tensor *all = od_arena_array(a, eng_tensor, g->n_outputs);
    if (!all) return od_fail(st, OD_NO_MEMORY, "%d outputs", g->n_outputs);
    for (int i = 0; i < g->n_outputs; i++) all[i] = ldr_card_shape(m, g->outputs[i]);
    OD_TRY(pick_outputs(&w, all, g->n_outputs));
    if (w.n_outputs < 1) return od_fail(st, OD_BAD_MODEL, "the model has no output");
    return task->check(&w);
}

/* The names of parameters that decoders read, made of their sources: see the Makefile. */
static const struct { const char *name; bool one; } parameters[] = {
#include "server/tasks/parameters.h"
};

static od_code check_parameters(const ldr_card *card, od_status *st)
{
    for (int i = 0; i < card->n_params; i++) {
        const struct ldr_card_param *p = &card->params[i];
        const double *x = p->values;
        size_t at = 0;
        while (at < OD_COUNT(parameters) && strcmp(p->name, parameters[at].name) != 0) at++;
        if (at == OD_COUNT(parameters)) return od_fail(st, OD_BAD_MODEL, "'parameters': no decoder has '%.60s'", p->name);
        int pair = !strcmp(p->name, "variances") || !strcmp(p->name, "keypoints") ? 2 : 0, want = parameters[at].one ? 1 : pair;
        if (want && p->n != want) return od_fail(st, OD_BAD_MODEL, "'%s' are %d numbers; %d are wanted", p->name, p->n, want);
        if (!strcmp(p->name, "soft_nms") && !(x[0] >= 0 && x[0] <= 100))
            return od_fail(st, OD_BAD_MODEL, "'soft_nms' is %g; a number from 0 to 100 is wanted", x[0]);
        if (!strcmp(p->name, "keypoints") && !(x[0] >= 1 && x[0] <= 10000 && (x[1] == 2 || x[1] == 3)))
            return od_fail(st, OD_BAD_MODEL, "'keypoints' are %g of %g numbers; 1 to 10000, of 2 or 3, are wanted", x[0], x[1]);
    }
    return OD_OK;
}

od_code srv_task_check(ldr_card *card, const eng_model *m, od_status *st)
{
    if (card->task == LDR_TASK_NONE) return OD_OK;
    od_arena a = {0};
    const srv_task *task = task_of(card);
    od_code rc = task ? OD_OK : od_fail(st, OD_BAD_MODEL, "this task has no decoder");
    if (rc == OD_OK) rc = check_inputs(card, m, st);
    if (rc == OD_OK) rc = check_parameters(card, st);
    if (rc == OD_OK) rc = check_outputs(card, m, task, &a, st);
    od_arena_fini(&a);
    if (rc == OD_OK) return OD_OK;
    if (!strcmp(card->source, LDR_GUESSED)) {
        card->task = LDR_TASK_NONE;
        return OD_OK;
    }
    st->code = OD_BAD_MODEL;
    return od_note(st, "%s", card->source);
}

/* ---- in ----------------------------------------------------------------------------------- */

static od_code give_bytes(eng_tensor *t, const char *name, od_arena *a, od_status *st)
{
    int64_t count;
    if (!eng_dims_count(t->rank, t->dims, &count) || !(t->data = od_arena_alloc(a, eng_tensor_bytes(t))))
        return od_fail(st, OD_NO_MEMORY, "input '%s': no memory", name);
    return OD_OK;
}

static void set_element(eng_tensor *t, int64_t i, double x)
{
    switch (t->dtype) {
    case ENG_FLOAT: ((float *)t->data)[i] = (float)x; break;
    case ENG_INT64: ((int64_t *)t->data)[i] = (int64_t)x; break;
    case ENG_INT32: ((int32_t *)t->data)[i] = (int32_t)x; break;
    case ENG_BOOL: ((uint8_t *)t->data)[i] = x != 0; break;
    default: break;
    }
}

static od_code make_constant(const eng_value *v, const struct ldr_card_param *c, eng_tensor *t, od_arena *a, od_status *st)
{
    *t = (eng_tensor){.dtype = v->dtype, .rank = v->rank};
    if (!constant_dims(v, c->n, t->dims)) return od_fail(st, OD_BAD_SHAPE, "%d numbers do not fill input '%s'", c->n, v->name);
    OD_TRY(give_bytes(t, v->name, a, st));
    for (int64_t i = 0; i < c->n; i++) set_element(t, i, c->values[i]);
    return OD_OK;
}

static od_code make_extra(const eng_value *v, const ldr_placement *p, eng_tensor *t, od_arena *a, od_status *st)
{
    extra what = extra_of(v->name);
    if (what == EXTRA_NONE || !is_settable(v) || v->rank < 1)
        return od_fail(st, OD_UNSUPPORTED, "input '%s': nothing gives it", v->name);
    *t = (eng_tensor){.dtype = v->dtype, .rank = v->rank};
    for (int d = 0; d < v->rank; d++) {
        t->dims[d] = v->dims[d];
        if (t->dims[d] >= 0) continue;
        t->dims[d] = d == 0 || what == EXTRA_ZERO ? 1 : what != EXTRA_ONES ? 2 : d == v->rank - 2 ? p->input_height : p->input_width;
    }
    OD_TRY(give_bytes(t, v->name, a, st));
    int64_t n = eng_tensor_count(t);
    double two[2] = {what != EXTRA_ZERO, what != EXTRA_ZERO};
    switch (what) {
    case EXTRA_PICTURE_HW: two[0] = (double)p->image_height, two[1] = (double)p->image_width; break;
    case EXTRA_PICTURE_WH: two[0] = (double)p->image_width, two[1] = (double)p->image_height; break;
    case EXTRA_INPUT_HW: two[0] = (double)p->input_height, two[1] = (double)p->input_width; break;
    case EXTRA_SCALE_YX: two[0] = p->scale_y, two[1] = p->scale_x; break;
    default: break;
    }
    for (int64_t i = 0; i < n; i++) set_element(t, i, two[i % 2]);
    return OD_OK;
}

static od_code make_views(const ldr_card *card, const ldr_pixels *px, const srv_picture *p, eng_tensor *t, const char *name, od_arena *a, od_status *st)
{
    t->dims[0] = p->n_views;
    OD_TRY(give_bytes(t, name, a, st));
    t->dims[0] = 1;
    for (int64_t k = 0; k < p->n_views; k++) OD_TRY(srv_view_make(card, px, &p->placement, k, t, a, st));
    return OD_OK;
}

static od_code make_inputs(const ldr_card *card, const eng_model *m, const ldr_pixels *px, od_arena *a, srv_picture *out,
                           od_status *st)
{
    const eng_graph *g = m->graph;
    const ldr_placement *p = &out->placement;
    out->n_inputs = g->n_inputs;
    out->n_outputs = g->n_outputs;
    out->input = card->input;
    out->inputs = od_arena_array(a, eng_tensor, g->n_inputs);
    if (!out->inputs) return od_fail(st, OD_NO_MEMORY, "%d inputs", g->n_inputs);
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        eng_tensor *t = &out->inputs[i];
        if (i == card->input) {
            *t = (eng_tensor){.dtype = v->dtype, .rank = 4, .dims = {1, card->pre.channels, p->input_height, p->input_width},
                              .layout = ENG_CL, .pitch = card->pre.channels};
            if (card->nhwc)
                *t = (eng_tensor){.dtype = v->dtype, .rank = 4, .dims = {1, p->input_height, p->input_width, card->pre.channels}};
            if (v->rank == 3 || v->dtype == ENG_INT32) t->layout = ENG_ROW;
            OD_TRY(make_views(card, px, out, t, v->name, a, st));
            if (v->rank == 3) { /* without a batch */
                t->rank = 3;
                memmove(t->dims, t->dims + 1, 3 * sizeof *t->dims);
            }
        } else if (constant_of(card, v->name)) {
            OD_TRY(make_constant(v, constant_of(card, v->name), t, a, st));
        } else if (v->constant) { /* its default holds */
            *t = *v->constant;
            t->data = NULL;
        } else {
            OD_TRY(make_extra(v, p, t, a, st));
        }
    }
    return OD_OK;
}

static od_code check_format(const ldr_card *card, srv_format format, od_status *st)
{
    if (format && card->task != LDR_TASK_IMAGE && card->task != LDR_TASK_EMBED)
        return od_fail(st, OD_BAD_ARGUMENT, "format is for models that give pictures or vectors");
    if (format == SRV_FORMAT_PNG && card->task == LDR_TASK_EMBED)
        return od_fail(st, OD_BAD_ARGUMENT, "format is png, of a vector: floats and base64 are possible");
    return OD_OK;
}

static od_code make_picture(const ldr_card *card, const eng_model *m, const srv_query *q, const ldr_pixels *px, od_arena *a, srv_picture *out,
                            od_status *st)
{
    int64_t begin = od_now_ns();
    OD_TRY(ldr_image_place(&card->pre, px->full_width, px->full_height, &out->placement, st));
    if (q) OD_TRY(check_format(card, q->format, st));
    OD_TRY(srv_views_count(card, m, q, &out->placement, &out->n_views, st));
    OD_TRY(make_inputs(card, m, px, a, out, st));
    out->preprocess_ns = od_now_ns() - begin;
    return OD_OK;
}

/* How many pixels a JPEG must keep at least when it is shrunk while decoding: none of it without antialias,
 * where the result depends on single pixels. The margin is the decoder's. */
static void needed_pixels(const ldr_preprocess *p, ldr_decode_options *o)
{
    if (!p->antialias || p->filter == LDR_NEAREST || p->fit == LDR_FIT_AFFINE) return;
    int64_t w = p->width, h = p->height;
    if (p->fit == LDR_FIT_CROP) {
        int64_t side = p->shorter ? p->shorter : p->longer;
        w = p->resize_width ? p->resize_width : side;
        h = p->resize_height ? p->resize_height : side;
    } else if (p->fit == LDR_FIT_SHORTER) {
        w = h = p->shorter;
    } else if (p->fit == LDR_FIT_LETTERBOX) { /* one side may become much less than the input's; it keeps its margin */
        w = h = od_max_i64(w, h);
    } else if (p->fit == LDR_FIT_NONE || p->fit == LDR_FIT_MULTIPLES) {
        w = h = 0;
    }
    o->need_width = w;
    o->need_height = h;
}

od_code srv_picture_open(const ldr_card *card, const eng_model *m, const srv_query *q, const void *bytes, size_t size, int64_t max_pixels,
                         od_arena *a, srv_picture *out, od_status *st)
{
    *out = (srv_picture){0};
    if (!task_of(card)) return od_fail(st, OD_UNSUPPORTED, "the model has no task that pictures are for: ask it with tensors");
    ldr_decode_options o = {.max_pixels = max_pixels, .channels = card->pre.channels};
    memcpy(o.background, card->background, sizeof o.background);
    if (!card->n_then) needed_pixels(&card->pre, &o); /* else parts of it are wanted as they are */
    ldr_pixels px, whole = {0};
    int64_t begin = od_now_ns();
    OD_TRY(ldr_image_decode(bytes, size, &o, a, &px, st));
    if (card->n_then) {
        whole = px;
        o.channels = 3;
        if (px.channels != 3) OD_TRY(ldr_image_decode(bytes, size, &o, a, &whole, st));
    }
    out->pixels = whole;
    out->decode_ns = od_now_ns() - begin;
    return make_picture(card, m, q, &px, a, out, st);
}

od_code srv_picture_open_pixels(const ldr_card *card, const eng_model *m, const srv_query *q, const ldr_pixels *pixels, od_arena *a,
                                srv_picture *out, od_status *st)
{
    *out = (srv_picture){0};
    if (!task_of(card)) return od_fail(st, OD_UNSUPPORTED, "the model has no task that pictures are for: ask it with tensors");
    if (pixels->channels != card->pre.channels) { /* gray is made as the decoder makes it */
        void *bytes;
        size_t size;
        OD_TRY(ldr_png_encode(pixels, a, &bytes, &size, st));
        return srv_picture_open(card, m, q, bytes, size, 0, a, out, st);
    }
    if (card->n_then) out->pixels = *pixels;
    return make_picture(card, m, q, pixels, a, out, st);
}

/* ---- out ---------------------------------------------------------------------------------- */

/* Outputs of other float types become float once, not each time a decoder looks. */
static od_code widen_outputs(srv_answer *w)
{
    eng_tensor *own = od_arena_array(w->a, eng_tensor, w->n_outputs);
    if (!own) return od_fail(w->st, OD_NO_MEMORY, "%d outputs", w->n_outputs);
    for (int i = 0; i < w->n_outputs; i++) {
        own[i] = w->outputs[i];
        if (!(ENG_T(own[i].dtype) & ENG_T_FLOAT) || own[i].dtype == ENG_FLOAT) continue;
        const float *x = srv_floats(w, i);
        if (!x) return w->st->code;
        own[i].dtype = ENG_FLOAT;
        memcpy(&own[i].data, &x, sizeof x); /* only read from here on */
    }
    w->outputs = own;
    return OD_OK;
}

static od_code open_view(srv_answer *w, const srv_task *task, const eng_tensor *outputs, int n_outputs)
{
    OD_TRY(pick_outputs(w, outputs, n_outputs));
    OD_TRY(task->check(w));
    return widen_outputs(w);
}

od_code srv_answer_open(srv_answer *w, const ldr_card *card, const srv_picture *p, const eng_tensor *outputs, const srv_query *q, od_arena *a,
                        od_status *st)
{
    const srv_task *task = task_of(card);
    *w = (srv_answer){.card = card, .place = &p->placement, .a = a, .st = st,
                      .top_k = q->top_k ? q->top_k : card->top_k,
                      .max_detections = q->max_detections ? q->max_detections : card->max_detections,
                      .score_threshold = q->score_threshold >= 0 ? q->score_threshold : card->score_threshold,
                      .iou_threshold = q->iou_threshold >= 0 ? q->iou_threshold : card->iou_threshold,
                      .class_agnostic = q->class_agnostic < 0 ? card->class_agnostic : q->class_agnostic, .mask = q->mask, .format = q->format,
                      .mean_of_outputs = (q->crop_mean < 0 ? (int)card->crop_mean : q->crop_mean) == LDR_MEAN_OUTPUTS};
    w->soft_nms = q->soft_nms < 0 ? srv_number(w, "soft_nms", 0) : q->soft_nms;
    if (!task) return od_fail(st, OD_UNSUPPORTED, "the model has no task that pictures are for");
    int64_t others = od_max_i64(p->n_views - 1, 0);
    srv_answer *views = od_arena_array(a, srv_answer, others);
    if (!views) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " crops", p->n_views);
    if (others) w->next = views;
    OD_TRY(open_view(w, task, outputs, p->n_outputs));
    for (int64_t k = 0; k < others; k++) {
        views[k] = (srv_answer){.card = card, .place = w->place, .a = a, .st = st, .next = k + 1 < others ? &views[k + 1] : NULL};
        OD_TRY(open_view(&views[k], task, outputs + (k + 1) * p->n_outputs, p->n_outputs));
    }
    return OD_OK;
}

od_code srv_picture_answer(const ldr_card *card, srv_picture *p, const eng_tensor *outputs, const srv_query *q, od_arena *a,
                           srv_text *json, od_status *st)
{
    int64_t begin = od_now_ns();
    srv_answer w;
    OD_TRY(srv_answer_open(&w, card, p, outputs, q, a, st));
    w.json = json;
    if (card->n_then && p->pixels.data) w.picture = p;
    OD_TRY(task_of(card)->answer(&w));
    if (json->full) return od_fail(st, OD_NO_MEMORY, "no memory for the answer");
    p->postprocess_ns = od_now_ns() - begin;
    return OD_OK;
}
