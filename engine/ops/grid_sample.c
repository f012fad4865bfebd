/* grid_sample.c - GridSample on images of one to three spatial axes.
 * For each output pixel of a line the grid gives a place; per axis it becomes taps with weights, and
 * their products the taps of the pixel, which the kernel of Resize adds up for all channels. */
#include "engine/kernels/resize.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>

typedef enum padding { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION } padding;
enum { NEAREST = 1, LINEAR = 2, CUBIC = 4, LINE = 64 }; /* modes are taps an axis; pixels of a piece of line */

typedef struct params {
    int mode;
    padding pad;
    bool corners;
} params;

typedef struct axis_taps {
    int64_t at[CUBIC]; /* -1: reads zero */
    double w[CUBIC];
} axis_taps;

typedef struct job {
    const params *p;
    const eng_tensor *x, *y, *grid;
    int axes;
    int64_t in[3], line, lines, taps, pieces, area;
    char *slots;
    size_t slot_bytes;
} job;

od_code eng_grid_sample_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    params *p = eng_model_alloc(g, sizeof *p);
    (void)pool;
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a sampler");
    if (eng_node_string_is(n, "mode", "linear", "linear") || eng_node_string_is(n, "mode", "", "bilinear")) p->mode = LINEAR;
    else if (eng_node_string_is(n, "mode", "", "nearest")) p->mode = NEAREST;
    else if (eng_node_string_is(n, "mode", "", "cubic") || eng_node_string_is(n, "mode", "", "bicubic")) p->mode = CUBIC;
    else return od_fail(st, OD_BAD_ARGUMENT, "mode is none of linear, nearest, cubic");
    if (eng_node_string_is(n, "padding_mode", "zeros", "zeros")) p->pad = PAD_ZEROS;
    else if (eng_node_string_is(n, "padding_mode", "", "border")) p->pad = PAD_BORDER;
    else if (eng_node_string_is(n, "padding_mode", "", "reflection")) p->pad = PAD_REFLECTION;
    else return od_fail(st, OD_BAD_ARGUMENT, "padding_mode is none of zeros, border, reflection");
    p->corners = eng_node_int(n, "align_corners", 0) != 0;
    n->params = p;
    return OD_OK;
}

od_code eng_grid_sample_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->n_in ? c->in[0] : NULL, *grid = c->n_in > 1 ? c->in[1] : NULL;
    if (!x || !grid) return od_fail(st, OD_BAD_MODEL, "X and grid are wanted");
    if (x->rank < 3 || x->rank > 5 || grid->rank != x->rank)
        return od_fail(st, OD_BAD_SHAPE, "X has rank %d, grid rank %d: equal ranks from 3 to 5 are wanted", x->rank, grid->rank);
    if (x->dtype == ENG_STRING && ((const params *)c->node->params)->mode != NEAREST)
        return od_fail(st, OD_BAD_TYPE, "X holds strings, which only mode nearest can sample");
    if (!(ENG_T(grid->dtype) & ENG_T_FLOAT)) return od_fail(st, OD_BAD_TYPE, "grid is %s", eng_dtype_name(grid->dtype));
    if (grid->dims[0] != x->dims[0] || grid->dims[x->rank - 1] != x->rank - 2)
        return od_fail(st, OD_BAD_SHAPE, "grid is for %" PRId64 " images of %" PRId64 " axes, X has %" PRId64 " of %d", grid->dims[0],
                       grid->dims[x->rank - 1], x->dims[0], x->rank - 2);
    int64_t dims[ENG_MAX_RANK] = {x->dims[0], x->dims[1]};
    for (int i = 2; i < x->rank; i++) {
        dims[i] = grid->dims[i - 1];
        if (!x->dims[i]) return od_fail(st, OD_BAD_SHAPE, "axis %d of X is empty", i);
    }
    return eng_set_out(c, 0, x->dtype, x->rank, dims, st);
}

/* ---- places ---------------------------------------------------------------------------------- */

static double place_of(double n, bool wide, int64_t in, bool corners)
{
    if (wide) return corners ? (n + 1) / 2 * (double)(in - 1) : ((n + 1) * (double)in - 1) / 2;
    float f = (float)n, size = (float)in;
    return (double)(corners ? (f + 1) / 2 * (size - 1) : ((f + 1) * size - 1) / 2);
}

static double reflect(double x, double lo, double hi)
{
    if (hi <= lo) return lo;
    double range = hi - lo, past = fabs(x < lo ? lo - x : x - hi), rest = fmod(past, range);
    if (x >= lo && x <= hi) return x;
    bool same_side = fmod(floor(past / range), 2) == 0; /* an even number of walls in between */
    return (x < lo) == same_side ? lo + rest : hi - rest;
}

static int64_t tap_at(const params *p, double i, int64_t in)
{
    double last = (double)(in - 1);
    if (p->pad == PAD_ZEROS) return i < 0 || i > last ? -1 : (int64_t)i;
    if (p->pad == PAD_REFLECTION) i = trunc(reflect(i, p->corners ? 0 : -0.5, p->corners ? last : last + 0.5));
    return i < 0 ? 0 : i > last ? (int64_t)last : (int64_t)i;
}

static void find_taps(const params *p, double x, int64_t in, axis_taps *t)
{
    const double far = 1e9, a = -0.75;
    double lo = p->corners ? 0 : -0.5, hi = p->corners ? (double)(in - 1) : (double)in - 0.5;
    x = !(x > -far) ? -far : x < far ? x : far; /* NaN lies far outside */
    if (p->mode == NEAREST) x = nearbyint(x);
    if (x < lo || x > hi) {
        if (p->pad == PAD_BORDER && p->mode != CUBIC) x = x < 0 ? 0 : (double)(in - 1);
        if (p->pad == PAD_REFLECTION) x = reflect(x, lo, hi);
    }
    double from = p->mode == NEAREST ? trunc(x) : floor(x), d = x - floor(x), e = 1 - d;
    if (p->mode == NEAREST) {
        t->w[0] = 1;
    } else if (p->mode == LINEAR) {
        t->w[0] = e;
        t->w[1] = d;
    } else {
        from -= 1;
        t->w[0] = ((a * (d + 1) - 5 * a) * (d + 1) + 8 * a) * (d + 1) - 4 * a;
        t->w[1] = ((a + 2) * d - (a + 3)) * d * d + 1;
        t->w[2] = ((a + 2) * e - (a + 3)) * e * e + 1;
        t->w[3] = ((a * (e + 1) - 5 * a) * (e + 1) + 8 * a) * (e + 1) - 4 * a;
    }
    for (int k = 0; k < p->mode; k++) t->at[k] = tap_at(p, from + k, in);
}

/* The commonest case: four pixels of an image, all inside it. false: something else. */
static bool inner_taps(const job *j, const double *place, int64_t *at, float *w)
{
    if (j->axes != 2 || j->p->mode != LINEAR) return false;
    bool wide = j->grid->dtype == ENG_DOUBLE;
    double x = place_of(place[0], wide, j->in[2], j->p->corners), y = place_of(place[1], wide, j->in[1], j->p->corners);
    if (!(x >= 0 && y >= 0 && x < (double)(j->in[2] - 1) && y < (double)(j->in[1] - 1))) return false;
    int64_t h = (int64_t)y, v = (int64_t)x;
    double dy = y - (double)h, dx = x - (double)v;
    at[0] = h * j->in[2] + v;
    at[1] = at[0] + 1;
    at[2] = at[0] + j->in[2];
    at[3] = at[2] + 1;
    w[0] = (float)((1 - dy) * (1 - dx));
    w[1] = (float)((1 - dy) * dx);
    w[2] = (float)(dy * (1 - dx));
    w[3] = (float)(dy * dx);
    return true;
}

/* Taps of one output pixel from the grid's numbers at `place`, innermost axis first. */
static void pixel_taps(const job *j, const double *place, int64_t *at, float *w)
{
    if (inner_taps(j, place, at, w)) return;
    axis_taps t[3];
    for (int i = 0; i < 3; i++) {
        t[i].at[0] = 0;
        t[i].w[0] = 1;
        int from = 2 - i; /* of the grid */
        if (from < j->axes) find_taps(j->p, place_of(place[from], j->grid->dtype == ENG_DOUBLE, j->in[i], j->p->corners), j->in[i], &t[i]);
    }
    int m[3];
    for (int i = 0; i < 3; i++) m[i] = 2 - i < j->axes ? j->p->mode : 1;
    for (int a = 0; a < m[0]; a++)
        for (int b = 0; b < m[1]; b++)
            for (int c = 0; c < m[2]; c++, at++, w++) {
                bool inside = t[0].at[a] >= 0 && t[1].at[b] >= 0 && t[2].at[c] >= 0;
                *at = inside ? (t[0].at[a] * j->in[1] + t[1].at[b]) * j->in[2] + t[2].at[c] : 0;
                *w = inside ? (float)(t[0].w[a] * t[1].w[b] * t[2].w[c]) : 0.0f;
            }
}

/* Strings, where the nearest pixel lies inside; empty ones elsewhere. */
static void pick_strings(const eng_resize_line *l)
{
    const eng_str *x = l->x;
    eng_str *y = l->y;
    for (int64_t i = 0; i < l->pixels; i++)
        for (int64_t c = 0; c < l->channels; c++)
            y[i * l->ldy + c] = l->w[i] != 0.0f ? x[l->at[i] * l->pitch + c] : (eng_str){"", 0};
}

static void run_piece(void *arg, int64_t chunk, int slot)
{
    const job *j = arg;
    const eng_resize_table *t = eng_resize_get();
    int64_t first = chunk % j->pieces * LINE, n = od_min_i64(LINE, j->line - first), pixel = chunk / j->pieces * j->line + first;
    int64_t *at = (int64_t *)(void *)(j->slots + (size_t)slot * j->slot_bytes), image = pixel / j->area;
    float *w = (float *)(void *)(at + LINE * j->taps);
    double place[3 * LINE];
    size_t size = eng_dtype_size(j->x->dtype);
    eng_load_doubles(place, (const char *)j->grid->data + (size_t)(pixel * j->axes) * eng_dtype_size(j->grid->dtype), j->grid->dtype, 1, n * j->axes);
    for (int64_t i = 0; i < n; i++) pixel_taps(j, place + i * j->axes, at + i * j->taps, w + i * j->taps);
    eng_resize_line l = {.x = (const char *)j->x->data + (size_t)(image * j->in[0] * j->in[1] * j->in[2] * j->x->pitch) * size, .at = at, .w = w,
                         .taps = j->taps, .pixels = n, .channels = j->x->dims[1], .pitch = j->x->pitch,
                         .y = (char *)j->y->data + (size_t)(pixel * j->y->pitch) * size, .ldy = j->y->pitch};
    (j->x->dtype == ENG_STRING ? pick_strings : j->x->dtype == ENG_DOUBLE ? t->line_f64 : t->line_f32)(&l);
}

od_code eng_grid_sample_run(eng_ctx *c, od_status *st)
{
    eng_tensor parts[2] = {*c->in[0], *c->out[0]};
    for (int i = 0; i < 2; i++) { /* of complex numbers each part is a channel */
        if (!(ENG_T(parts[i].dtype) & (ENG_T(ENG_COMPLEX64) | ENG_T(ENG_COMPLEX128)))) continue;
        parts[i].dtype = parts[i].dtype == ENG_COMPLEX64 ? ENG_FLOAT : ENG_DOUBLE;
        parts[i].dims[1] *= 2;
        parts[i].pitch *= 2;
    }
    const eng_tensor *x = &parts[0], *y = &parts[1];
    job j = {.p = c->node->params, .x = x, .y = y, .grid = c->in[1], .axes = x->rank - 2, .in = {1, 1, 1}, .taps = 1, .area = 1};
    if (!eng_tensor_count(y)) return OD_OK;
    for (int i = 0; i < j.axes; i++) {
        j.in[3 - j.axes + i] = x->dims[2 + i];
        j.taps *= j.p->mode;
        j.area *= y->dims[2 + i];
    }
    j.line = y->dims[y->rank - 1];
    j.lines = y->dims[0] * j.area / j.line;
    j.pieces = od_ceil_div(j.line, LINE);
    j.slot_bytes = (size_t)(LINE * j.taps) * (sizeof(int64_t) + sizeof(float)); /* a multiple of 64 */
    j.slots = od_arena_alloc(c->scratch, j.slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!j.slots) return od_fail(st, OD_NO_MEMORY, "no memory for taps");
    od_pool_for(c->pool, j.lines * j.pieces, run_piece, &j);
    return OD_OK;
}
