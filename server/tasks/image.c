/* image.c - a picture out.
 *
 * Decoders: "picture" [1, 1 or 3, rows, columns] at its own size without the input's padding, level = x * scale + offset (255, 0); "depth"
 * [1, rows, columns] or [1, 1, rows, columns], at the picture's size, black the least and white the most of it. Parameter
 * align_corners (0): its outermost places lie on the picture's outermost pixels; cubic (0): by cubic instead of linear
 * interpolation, PyTorch's. Either as PNG, or its numbers as the model gives them. */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

static bool is_depth(const srv_answer *w)
{
    return w->card->decoder && !strcmp(w->card->decoder, "depth");
}

static od_code check(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    const char *name = w->card->decoder ? w->card->decoder : "picture";
    OD_TRY(srv_want_one(w));
    if (is_depth(w)) return t->rank == 3 ? srv_want(w, 0, 3, (int64_t[]){1, -1, -1}) : srv_want(w, 0, 4,
                                                                                                (int64_t[]){1, 1, -1, -1});
    if (strcmp(name, "picture") != 0)
        return od_fail(w->st, OD_BAD_MODEL, "'decoder' is '%.40s'; for task image there are picture, depth", name);
    return srv_want(w, 0, 4, (int64_t[]){1, t->rank == 4 && t->dims[1] == 1 ? 1 : 3, -1, -1});
}

/* Numbers of a picture: rows of pixels, channels side by side in the order of RGB. */
typedef struct numbers {
    float *x;
    int64_t width, height, row; /* row: elements from one to the next */
    int channels;
} numbers;

static od_code make_numbers(const srv_answer *w, int64_t width, int64_t height, int64_t channels, numbers *to)
{
    int64_t row, total;
    *to = (numbers){.width = width, .height = height, .row = width * channels, .channels = (int)channels};
    if (width < 1 || height < 1) return od_fail(w->st, OD_BAD_SHAPE, "output 0 is empty");
    if (!od_mul_i64(width, channels, &row) || !od_mul_i64(row, height, &total) || !(to->x = od_arena_array(w->a, float, total)))
        return od_fail(w->st, OD_NO_MEMORY, "no memory for a picture of %" PRId64 " x %" PRId64, width, height);
    return OD_OK;
}

/* Without what lies over the input's padding. */
static void cut_padding(const srv_answer *w, numbers *p)
{
    const ldr_placement *at = w->place;
    double fx = (double)p->width / (double)at->input_width, fy = (double)p->height / (double)at->input_height;
    if (at->offset_x < 0 || at->offset_y < 0) return; /* the picture goes on beyond the input */
    int64_t x = srv_index(rint(at->offset_x * fx), p->width - 1), y = srv_index(rint(at->offset_y * fy), p->height - 1);
    p->x += y * p->row + x * p->channels;
    p->width = od_max_i64(1, srv_index(rint(at->scale_x * (double)at->image_width * fx), p->width - x));
    p->height = od_max_i64(1, srv_index(rint(at->scale_y * (double)at->image_height * fy), p->height - y));
}

static od_code read_picture(const srv_answer *w, numbers *p)
{
    const eng_tensor *t = &w->outputs[0];
    const float *x = srv_floats(w, 0);
    int64_t plane = t->dims[2] * t->dims[3];
    if (!x) return w->st->code;
    OD_TRY(make_numbers(w, t->dims[3], t->dims[2], t->dims[1], p));
    for (int c = 0; c < p->channels; c++) {
        int to = w->card->pre.bgr && p->channels == 3 ? 2 - c : c;
        for (int64_t i = 0; i < plane; i++) p->x[i * p->channels + to] = x[c * plane + i];
    }
    cut_padding(w, p);
    return OD_OK;
}

/* Weights of the four places around one that lies `t` behind the second of them: Keys' cubic of a = -3/4. */
static void cubic_weights(float t, float w[4])
{
    const float a = -0.75f;
    for (int i = 0; i < 4; i++) {
        float x = fabsf(t + 1 - (float)i);
        w[i] = x < 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : (((x - 5) * x + 8) * x - 4) * a;
    }
}

/* Where a pixel of the picture lies in the map, which may be before its first place or behind its last. */
static double place(int64_t pixel, double scale, double offset, int64_t input, int64_t map)
{
    return (((double)pixel + 0.5) * scale + offset) * (double)map / (double)input - 0.5;
}

static float cubic_at(const ldr_placement *at, const float *x, int64_t width, int64_t height, int64_t column, int64_t line)
{
    double u = place(column, at->scale_x, at->offset_x, at->input_width, width);
    double v = place(line, at->scale_y, at->offset_y, at->input_height, height);
    int64_t x0 = (int64_t)floor(u), y0 = (int64_t)floor(v);
    float wx[4], wy[4], sum = 0;
    cubic_weights((float)(u - floor(u)), wx);
    cubic_weights((float)(v - floor(v)), wy);
    for (int64_t i = 0; i < 4; i++) {
        const float *row = x + od_max_i64(od_min_i64(y0 - 1 + i, height - 1), 0) * width;
        for (int64_t j = 0; j < 4; j++) sum += wy[i] * wx[j] * row[od_max_i64(od_min_i64(x0 - 1 + j, width - 1), 0)];
    }
    return sum;
}

static od_code read_depth(const srv_answer *w, numbers *p)
{
    const eng_tensor *t = &w->outputs[0];
    const ldr_placement *at = w->place;
    const float *x = srv_floats(w, 0);
    int64_t height = t->dims[t->rank - 2], width = t->dims[t->rank - 1];
    if (!x) return w->st->code;
    if (height < 1 || width < 1) return od_fail(w->st, OD_BAD_SHAPE, "output 0 is empty");
    OD_TRY(make_numbers(w, at->image_width, at->image_height, 1, p));
    srv_between bx, by;
    bool corners = srv_number(w, "align_corners", 0) != 0, cubic = srv_number(w, "cubic", 0) != 0;
    bool fine = corners ? srv_place_corners(&bx, at->image_width, width, w->a) && srv_place_corners(&by, at->image_height, height, w->a)
                        : srv_place_between(&bx, at->image_width, at->scale_x, at->offset_x, at->input_width, width, w->a) &&
                              srv_place_between(&by, at->image_height, at->scale_y, at->offset_y, at->input_height, height, w->a);
    if (!fine) return od_fail(w->st, OD_NO_MEMORY, "no memory for a map");
    for (int64_t y = 0; y < p->height; y++)
        for (int64_t k = 0; k < p->width; k++) {
            srv_corners c = srv_corners_at(x, width, 1, &bx, &by, k, y);
            p->x[y * p->row + k] = cubic ? cubic_at(at, x, width, height, k, y) : srv_interpolate(&c, 0);
        }
    return OD_OK;
}

/* The least and the most of a map: of the one that came, and of what lies between its places where that may be beyond. */
static void find_range(const srv_answer *w, const numbers *p, float *least, float *most)
{
    const eng_tensor *t = &w->outputs[0];
    const float *x = srv_floats(w, 0);
    int64_t n = eng_tensor_count(t);
    *least = *most = x[0];
    for (int64_t i = 1; i < n; i++) *least = fminf(*least, x[i]), *most = fmaxf(*most, x[i]);
    if (srv_number(w, "cubic", 0) == 0) return;
    for (int64_t i = 0; i < p->width * p->height; i++) *least = fminf(*least, p->x[i]), *most = fmaxf(*most, p->x[i]);
}

static uint8_t level(float x)
{
    return (uint8_t)(x > 0 ? fminf(x + 0.5f, 255) : 0); /* NaN is black */
}

/* Levels are (x - low) * scale + offset. */
static od_code add_png(const srv_answer *w, const numbers *from, float low, float scale, float offset)
{
    ldr_pixels p = {.width = from->width, .height = from->height, .channels = from->channels, .stride = from->width * from->channels};
    if (!(p.data = od_arena_alloc(w->a, (size_t)(p.stride * p.height)))) return od_fail(w->st, OD_NO_MEMORY, "no memory for a picture");
    for (int64_t y = 0; y < p.height; y++)
        for (int64_t i = 0; i < p.stride; i++) p.data[y * p.stride + i] = level((from->x[y * from->row + i] - low) * scale + offset);
    srv_text_printf(w->json, ",\"png\":");
    return srv_add_png(w->json, &p, w->a, w->st);
}

static void add_floats(const srv_answer *w, const numbers *p)
{
    int64_t row = p->width * p->channels;
    for (int64_t y = 0; y < p->height; y++) memmove(p->x + y * row, p->x + y * p->row, (size_t)row * sizeof *p->x); /* side by side */
    srv_text_add(w->json, ",", 1);
    srv_add_floats(w, p->x, p->channels > 1 ? 3 : 2, (int64_t[]){p->height, p->width, p->channels});
}

static od_code answer(const srv_answer *w)
{
    numbers p = {0};
    float least = 0, most = 0;
    bool depth = is_depth(w);
    OD_TRY(depth ? read_depth(w, &p) : read_picture(w, &p));
    if (depth) find_range(w, &p, &least, &most);
    srv_text_printf(w->json, "\"image\":{\"size\":[%" PRId64 ",%" PRId64 "]", p.height, p.width);
    if (w->format == SRV_FORMAT_PNG || w->format == SRV_FORMAT_DEFAULT) {
        float scale = depth ? most > least ? 255 / (most - least) : 0 : (float)srv_number(w, "scale", 255);
        OD_TRY(add_png(w, &p, least, scale, depth ? 0 : (float)srv_number(w, "offset", 0)));
    } else {
        add_floats(w, &p);
    }
    if (depth) {
        srv_text_printf(w->json, ",\"least\":");
        srv_text_float(w->json, least);
        srv_text_printf(w->json, ",\"most\":");
        srv_text_float(w->json, most);
    }
    srv_text_add(w->json, "}", 1);
    return OD_OK;
}

const srv_task srv_image = {check, answer};
