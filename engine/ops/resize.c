/* resize.c - Resize and Upsample: nearest, linear and cubic, any axes of any rank.
 * Interpolation is separable. The tensor is seen as [outer][A][mid][B][inner], B being the innermost
 * axis that is resized (of channels-last images the last spatial one) and A the next one out: for each
 * line of output the lines it comes from are blended into a buffer, then pixels along B into the output.
 * Resized axes further out go first, one at a time, through temporary tensors. */
#include "engine/ops/resize.h"

#include "engine/graph.h"
#include "engine/kernels/resize.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

typedef struct resize_spec {
    int rank;
    eng_resize_axis axis[ENG_MAX_RANK];
} resize_spec;

/* ---- attributes ------------------------------------------------------------------------------ */

static od_code pick(const eng_node *n, const char *name, const char *const *names, int count, int *to, od_status *st)
{
    const eng_attr *a = eng_node_attr(n, name);
    for (int i = 0; i < count; i++)
        if (eng_node_string_is(n, name, names[0], names[i])) {
            *to = i;
            return OD_OK;
        }
    return od_fail(st, OD_BAD_ARGUMENT, "%s is '%.*s'", name, a ? (int)od_min_i64((int64_t)a->s.len, 40) : 0, a ? a->s.ptr : "");
}

od_code eng_resize_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear"};
    static const char *const coords[ENG_COORDS] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "tf_half_pixel_for_nn",
                                                   "align_corners", "asymmetric", "tf_crop_and_resize"};
    static const char *const rounds[ENG_ROUNDS] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "before_opset_11"};
    static const char *const policies[ENG_POLICIES] = {"stretch", "not_larger", "not_smaller"};
    eng_resize_rule *r = eng_model_alloc(g, sizeof *r);
    int mode = 0, coord = 0, round = 0, policy = 0;
    (void)pool;
    if (!r) return od_fail(st, OD_NO_MEMORY, "no memory for a rule");
    OD_TRY(pick(n, "mode", modes, (int)OD_COUNT(modes), &mode, st));
    OD_TRY(pick(n, "coordinate_transformation_mode", coords, ENG_COORDS, &coord, st));
    OD_TRY(pick(n, "nearest_mode", rounds, ENG_ROUNDS, &round, st));
    OD_TRY(pick(n, "keep_aspect_ratio_policy", policies, ENG_POLICIES, &policy, st));
    *r = (eng_resize_rule){.mode = mode == 3 ? ENG_RESIZE_LINEAR : (eng_resize_mode)mode, .coord = (eng_resize_coord)coord,
                           .round = (eng_resize_round)round, .policy = (eng_resize_policy)policy,
                           .antialias = eng_node_int(n, "antialias", 0) != 0,
                           .exclude_outside = eng_node_int(n, "exclude_outside", 0) != 0,
                           .cubic_a = eng_node_float(n, "cubic_coeff_a", -0.75f)};
    n->params = r;
    return OD_OK;
}

/* Up to opset 10 there are X and scales only, and one rule for coordinates. */
od_code eng_resize10_import(eng_graph *g, eng_node *n, od_status *st)
{
    OD_TRY(eng_attr_to_input(g, n, "scales", 1, false, st)); /* Upsample 7 */
    if (n->n_in != 2 || n->in[1] < 0) return od_fail(st, OD_BAD_MODEL, "two inputs are wanted: X and scales");
    if (!eng_node_set_inputs(g, n, 3)) return od_fail(st, OD_NO_MEMORY, "no memory for inputs");
    n->in[2] = n->in[1];
    n->in[1] = ENG_NONE;
    OD_TRY(eng_node_set_string(g, n, "coordinate_transformation_mode", "asymmetric", st));
    return eng_node_set_string(g, n, "nearest_mode", "before_opset_11", st);
}

/* Upsample 1 names the scales of an image's height and width. */
od_code eng_upsample1_import(eng_graph *g, eng_node *n, od_status *st)
{
    float scales[4] = {1, 1, eng_node_float(n, "height_scale", 0), eng_node_float(n, "width_scale", 0)};
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 1, .dims = {4}, .data = od_arena_alloc(&g->model->arena, sizeof scales)};
    if (!t.data) return od_fail(st, OD_NO_MEMORY, "no memory for scales");
    memcpy(t.data, scales, sizeof scales);
    eng_node_drop_attr(n, "height_scale");
    eng_node_drop_attr(n, "width_scale");
    OD_TRY(eng_set_input_constant(g, n, 1, &t, st));
    return eng_resize10_import(g, n, st);
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static const eng_tensor *given(const eng_ctx *c, int i) /* opset 11 wants empty tensors for absent ones */
{
    const eng_tensor *t = i < c->n_in ? c->in[i] : NULL;
    return t && eng_tensor_count(t) ? t : NULL;
}

/* The axes that the inputs speak of. */
static od_code read_axes(const eng_ctx *c, int rank, int *axes, int *count, od_status *st)
{
    int64_t n;
    const int64_t *list = eng_node_ints(c->node, "axes", &n);
    bool seen[ENG_MAX_RANK] = {false};
    *count = list ? (int)od_min_i64(n, ENG_MAX_RANK + 1) : rank;
    if (*count > rank) return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " axes of a tensor of rank %d", n, rank);
    for (int i = 0; i < *count; i++) {
        OD_TRY(eng_axis(list ? list[i] : i, rank, false, &axes[i], st));
        if (seen[axes[i]]) return od_fail(st, OD_BAD_ARGUMENT, "axis %d is named twice", axes[i]);
        seen[axes[i]] = true;
    }
    return OD_OK;
}

static od_code check_list(const eng_ctx *c, int i, const char *name, int64_t want, od_status *st)
{
    const eng_tensor *t = c->in[i];
    if (t->rank != 1 || t->dims[0] != want)
        return od_fail(st, OD_BAD_SHAPE, "%s has rank %d and %" PRId64 " numbers: a list of %" PRId64 " is wanted", name, t->rank,
                       eng_tensor_count(t), want);
    return eng_need(c, i);
}

static od_code read_scales(const eng_ctx *c, resize_spec *s, const int *axes, int count, od_status *st)
{
    OD_TRY(check_list(c, 2, "scales", count, st));
    for (int i = 0; i < count; i++) {
        eng_resize_axis *a = &s->axis[axes[i]];
        a->scale = (float)eng_tensor_double(c->in[2], i);
        if (!(a->scale > 0) || a->scale > 1e9f) return od_fail(st, OD_BAD_VALUE, "scale %d is %g", i, (double)a->scale);
        a->length = a->scale * (float)a->in;
        if (!(a->length < 0x1p40f)) return od_fail(st, OD_BAD_VALUE, "scale %d is %g", i, (double)a->scale);
        a->out = (int64_t)a->length;
    }
    return OD_OK;
}

static od_code read_sizes(const eng_ctx *c, resize_spec *s, const int *axes, int count, eng_resize_policy policy, od_status *st)
{
    float scale = policy == ENG_POLICY_NOT_LARGER ? INFINITY : 0.0f;
    OD_TRY(check_list(c, 3, "sizes", count, st));
    for (int i = 0; i < count; i++) {
        eng_resize_axis *a = &s->axis[axes[i]];
        int64_t size = eng_tensor_int(c->in[3], i);
        if (size < 0 || size > (int64_t)1 << 40) return od_fail(st, OD_BAD_VALUE, "size %d is %" PRId64, i, size);
        a->out = size;
        a->scale = a->in ? (float)size / (float)a->in : 1.0f;
        a->length = (float)size;
        scale = policy == ENG_POLICY_NOT_LARGER ? fminf(scale, a->scale) : fmaxf(scale, a->scale);
    }
    for (int i = 0; policy && i < count; i++) {
        eng_resize_axis *a = &s->axis[axes[i]];
        a->scale = scale;
        a->length = scale * (float)a->in;
        if (!(a->length < 0x1p40f)) return od_fail(st, OD_BAD_VALUE, "the sizes ask for a scale of %g", (double)scale);
        a->out = (int64_t)(a->length + 0.5f);
    }
    return OD_OK;
}

static od_code read_roi(const eng_ctx *c, resize_spec *s, const int *axes, int count, od_status *st)
{
    if (!given(c, 1)) return od_fail(st, OD_BAD_MODEL, "tf_crop_and_resize wants roi");
    OD_TRY(check_list(c, 1, "roi", 2 * (int64_t)count, st));
    for (int i = 0; i < count; i++) {
        s->axis[axes[i]].start = (float)eng_tensor_double(c->in[1], i);
        s->axis[axes[i]].end = (float)eng_tensor_double(c->in[1], count + i);
    }
    return OD_OK;
}

static od_code read_spec(const eng_ctx *c, resize_spec *s, od_status *st)
{
    const eng_resize_rule *r = c->node->params;
    const eng_tensor *x = c->n_in ? c->in[0] : NULL, *scales = given(c, 2), *sizes = given(c, 3);
    int axes[ENG_MAX_RANK], count;
    if (!x) return od_fail(st, OD_BAD_MODEL, "X is missing");
    if (!scales == !sizes && x->rank) return od_fail(st, OD_BAD_MODEL, "one of scales and sizes is wanted");
    *s = (resize_spec){.rank = x->rank};
    OD_TRY(read_axes(c, x->rank, axes, &count, st));
    for (int i = 0; i < s->rank; i++)
        s->axis[i] = (eng_resize_axis){.in = x->dims[i], .out = x->dims[i], .scale = 1, .length = (float)x->dims[i], .end = 1};
    if (scales) OD_TRY(read_scales(c, s, axes, count, st));
    else if (sizes) OD_TRY(read_sizes(c, s, axes, count, r->policy, st));
    if (r->coord == ENG_COORD_CROP) OD_TRY(read_roi(c, s, axes, count, st));
    for (int i = 0; i < s->rank; i++) {
        eng_resize_axis *a = &s->axis[i];
        a->resized = a->in != a->out || a->scale != 1.0f || a->start != 0.0f || a->end != 1.0f;
        if (!a->in && a->out) return od_fail(st, OD_BAD_SHAPE, "axis %d is empty and would be %" PRId64, i, a->out);
    }
    return OD_OK;
}

static bool is_complex(const eng_tensor *t)
{
    return t->dtype == ENG_COMPLEX64 || t->dtype == ENG_COMPLEX128;
}

od_code eng_resize_infer(eng_ctx *c, od_status *st)
{
    resize_spec s;
    int64_t dims[ENG_MAX_RANK];
    OD_TRY(read_spec(c, &s, st));
    for (int i = 0; i < s.rank; i++) dims[i] = s.axis[i].out;
    const eng_resize_rule *r = c->node->params;
    if (c->in[0]->dtype == ENG_STRING && (r->mode != ENG_RESIZE_NEAREST || r->coord == ENG_COORD_CROP))
        return od_fail(st, OD_BAD_TYPE, "X holds strings, which only mode nearest without a crop can resize");
    if (is_complex(c->in[0]) && s.rank == ENG_MAX_RANK) return od_fail(st, OD_BAD_SHAPE, "complex numbers of rank %d", s.rank);
    return eng_set_out(c, 0, c->in[0]->dtype, s.rank, dims, st);
}

/* Images become channels-last, sequences stay as they are, unless channels themselves are resized. */
void eng_resize_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    resize_spec s;
    od_status st;
    eng_layout now = want_in[0];
    for (int i = 0; i < c->n_in; i++) want_in[i] = ENG_ROW;
    if (is_complex(c->in[0])) return;
    if (c->in[0]->rank < 3 || (c->in[0]->rank == 3 && now == ENG_ROW)) return;
    if (read_spec(c, &s, &st) != OD_OK || s.axis[1].resized) return;
    want_in[0] = *want_out = ENG_CL;
}

/* ---- running --------------------------------------------------------------------------------- */

typedef struct resize_job {
    const eng_resize_axis *a, *b; /* a NULL: only b */
    const char *x;
    char *y;
    size_t size;
    int64_t outer, mid, inner, x_pitch, y_pitch;
    int64_t rows, chunks;
    void (*blend)(const eng_blend *);
    void (*line)(const eng_resize_line *);
    char *slots; /* a blended line and pointers for each thread */
    size_t line_bytes, slot_bytes;
} resize_job;

/* Copy pixel at[p] of a line to pixel p. */
static void copy_line(const char *x, const int64_t *at, int64_t pixels, size_t x_step, size_t bytes, char *y, size_t y_step)
{
    if (bytes == 4) {
        for (int64_t p = 0; p < pixels; p++) memcpy(y + (size_t)p * y_step, x + (size_t)at[p] * x_step, 4);
    } else if (bytes == 1) {
        for (int64_t p = 0; p < pixels; p++) y[(size_t)p * y_step] = x[(size_t)at[p] * x_step];
    } else {
        for (int64_t p = 0; p < pixels; p++) memcpy(y + (size_t)p * y_step, x + (size_t)at[p] * x_step, bytes);
    }
}

/* The lines of `mid` times B pixels that output line `o` of axis A comes from, blended into `buffer`
 * when there are several. Returns where to read; *pitch is set to what it has there. */
static const char *blend_lines(const resize_job *j, int64_t outer, int64_t o, char *buffer, int64_t *pitch)
{
    const eng_resize_axis *a = j->a;
    const void **rows = (const void **)(void *)(buffer + j->line_bytes);
    int64_t pixels = j->mid * j->b->in, taps = a ? a->taps : 1, step = pixels * j->x_pitch;
    const int64_t *at = a ? a->at + o * taps : NULL;
    *pitch = j->x_pitch;
    if (!a || !a->w) return j->x + (size_t)((a ? outer * a->in + *at : outer) * step) * j->size;
    bool dense = j->x_pitch == j->inner;
    for (int64_t p = 0; p < (dense ? 1 : pixels); p++) {
        for (int64_t t = 0; t < taps; t++) rows[t] = j->x + (size_t)((outer * a->in + at[t]) * step + p * j->x_pitch) * j->size;
        j->blend(&(eng_blend){.rows = rows, .w = a->w + o * taps, .n_rows = taps, .n = dense ? step : j->inner,
                              .y = buffer + (size_t)(p * j->inner) * j->size});
    }
    *pitch = j->inner;
    return buffer;
}

static void run_rows(void *arg, int64_t chunk, int slot)
{
    const resize_job *j = arg;
    const eng_resize_axis *a = j->a, *b = j->b;
    char *buffer = j->slots + (size_t)slot * j->slot_bytes;
    int64_t lines = a ? a->out : 1, from = chunk * j->rows / j->chunks, to = (chunk + 1) * j->rows / j->chunks;
    size_t row_bytes = (size_t)(j->mid * b->out * j->y_pitch) * j->size;
    for (int64_t row = from; row < to; row++) {
        int64_t o = row % lines, pitch;
        char *y = j->y + (size_t)row * row_bytes;
        if (a && !a->w && row > from && o && a->at[o] == a->at[o - 1] && j->y_pitch == j->inner) {
            memcpy(y, y - row_bytes, row_bytes);
            continue;
        }
        const char *x = blend_lines(j, row / lines, o, buffer, &pitch);
        for (int64_t m = 0; m < j->mid; m++) {
            const char *line = x + (size_t)(m * b->in * pitch) * j->size;
            char *out = y + (size_t)(m * b->out * j->y_pitch) * j->size;
            if (!b->w)
                copy_line(line, b->at, b->out, (size_t)pitch * j->size, (size_t)j->inner * j->size, out, (size_t)j->y_pitch * j->size);
            else
                j->line(&(eng_resize_line){.x = line, .at = b->at, .w = b->w, .taps = b->taps, .pixels = b->out,
                                           .channels = j->inner, .pitch = pitch, .y = out, .ldy = j->y_pitch});
        }
    }
}

/* Axes ia (or -1) and ib of `dims`, in memory order, from x to y; dims become the output's. `last` is
 * how many of dims lie in front of the pixels' channels. */
static od_code run_axes(eng_ctx *c, const eng_tensor *like, int64_t *dims, int n_dims, const eng_resize_axis *const *axes,
                        int ia, int ib, const void *x, int64_t x_pitch, void *y, int64_t y_pitch, od_status *st)
{
    enum { GRAIN = 1 << 14 };
    bool wide = like->dtype == ENG_DOUBLE;
    const eng_resize_table *t = eng_resize_get();
    resize_job j = {.a = ia < 0 ? NULL : axes[ia], .b = axes[ib], .x = x, .y = y, .size = eng_dtype_size(like->dtype), .outer = 1,
                    .mid = 1, .inner = 1, .blend = wide ? t->blend_f64 : t->blend_f32, .line = wide ? t->line_f64 : t->line_f32};
    for (int i = 0; i < n_dims; i++)
        if (i > ib) j.inner *= dims[i];
        else if (i < ib && i > ia && ia >= 0) j.mid *= dims[i];
        else if (i != ib && i != ia) j.outer *= dims[i];
    j.x_pitch = x_pitch ? x_pitch : j.inner;
    j.y_pitch = y_pitch ? y_pitch : j.inner;
    j.rows = j.outer * (j.a ? j.a->out : 1);
    j.chunks = eng_chunks(j.rows, GRAIN / (j.mid * j.b->out * j.inner) + 1);
    size_t line = j.a && j.a->w ? (size_t)(j.mid * j.b->in * j.inner) * j.size : 0;
    j.line_bytes = (line + 63) & ~(size_t)63;
    j.slot_bytes = (j.line_bytes + (size_t)(j.a ? j.a->taps : 0) * sizeof(char *) + 63) & ~(size_t)63;
    j.slots = od_arena_alloc(c->scratch, j.slot_bytes * (size_t)od_pool_slots(c->pool));
    if (!j.slots) return od_fail(st, OD_NO_MEMORY, "no memory for a line");
    od_pool_for(c->pool, j.chunks, run_rows, &j);
    if (ia >= 0) dims[ia] = j.a->out;
    dims[ib] = j.b->out;
    return OD_OK;
}

/* From x to y, of one layout and one type that the kernels know (any when nearest). */
static od_code resize(eng_ctx *c, resize_spec *s, const eng_tensor *x, const eng_tensor *y, od_status *st)
{
    const eng_resize_axis *axes[ENG_MAX_RANK];
    int64_t dims[ENG_MAX_RANK], unused[ENG_MAX_RANK], x_pitch = 0, y_pitch = 0;
    int resized[ENG_MAX_RANK] = {0}, n = 0;
    eng_tensor dense = *x; /* only its order of axes matters */
    eng_tensor_phys(&dense, dims, unused);
    for (int i = 0; i < s->rank; i++) axes[eng_tensor_phys_axis(x, i)] = &s->axis[i];
    for (int i = 0; i < s->rank; i++)
        if (axes[i]->resized || (x->layout == ENG_CL && i == s->rank - 2)) resized[n++] = i;
    if (x->layout == ENG_CL) {
        x_pitch = x->pitch;
        y_pitch = y->pitch;
    }
    const void *from = x->data;
    int k = 0;
    for (; n - k > 2; k++) { /* the outer ones through a temporary tensor each */
        int64_t count = axes[resized[k]]->out;
        bool pixels = x_pitch && x_pitch != x->dims[1];
        for (int i = 0; i < s->rank; i++)
            if (i != resized[k]) count *= dims[i];
        void *tmp = od_arena_calloc(c->scratch, (size_t)count + 1, eng_dtype_size(x->dtype));
        if (!tmp) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " elements", count);
        int last = x->layout == ENG_CL ? s->rank - 2 : resized[k]; /* pixels may lie apart */
        eng_resize_axis keep = *axes[last];
        const eng_resize_axis *was = axes[last];
        if (pixels) { /* line by line: the last spatial axis stays as it is for now */
            keep = (eng_resize_axis){.in = dims[last], .out = dims[last], .scale = 1};
            OD_TRY(eng_resize_taps(c->node->params, &keep, c->scratch, st));
            axes[last] = &keep;
            OD_TRY(run_axes(c, x, dims, s->rank, axes, resized[k], last, from, x_pitch, tmp, 0, st));
            axes[last] = was;
        } else {
            OD_TRY(run_axes(c, x, dims, s->rank, axes, -1, resized[k], from, 0, tmp, 0, st));
        }
        from = tmp;
        x_pitch = 0;
    }
    return run_axes(c, x, dims, s->rank, axes, n - k == 2 ? resized[k] : -1, resized[n - 1], from, x_pitch, y->data, y_pitch, st);
}

/* Every element with a coordinate outside gets the extrapolation value. */
static void fill_outside(const eng_ctx *c, const resize_spec *s, const eng_tensor *y)
{
    int64_t strides[ENG_MAX_RANK], at[ENG_MAX_RANK] = {0}, count = eng_tensor_count(y);
    double value = (double)eng_node_float(c->node, "extrapolation_value", 0.0f);
    bool any = false;
    for (int d = 0; d < s->rank; d++)
        for (int64_t o = 0; s->axis[d].outside && o < s->axis[d].out; o++) any |= s->axis[d].outside[o];
    eng_tensor_strides(y, strides);
    for (int64_t i = 0; any && i < count; i++) {
        int64_t offset = 0;
        bool outside = false;
        for (int d = 0; d < s->rank; d++) {
            offset += at[d] * strides[d];
            outside |= s->axis[d].outside && s->axis[d].outside[at[d]];
        }
        if (outside) eng_store_doubles((char *)y->data + (size_t)offset * eng_dtype_size(y->dtype), &value, y->dtype, 1, 1);
        for (int d = s->rank - 1; d >= 0 && ++at[d] == y->dims[d]; d--) at[d] = 0;
    }
}

static void convert_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const eng_dtype *type = arg; /* to, from: one of them is double */
    if (type[0] == ENG_DOUBLE && step[0] == 1) {
        eng_load_doubles((double *)(void *)p[0], p[1], type[1], step[1], n);
    } else {
        for (int64_t i = 0; i < n; i++) {
            double v;
            eng_load_doubles(&v, p[1] + (size_t)(i * step[1]) * eng_dtype_size(type[1]), type[1], 1, 1);
            eng_store_doubles(p[0] + (size_t)(i * step[0]) * eng_dtype_size(type[0]), &v, type[0], 1, 1);
        }
    }
}

/* Elements of `from` as the type of `to`. */
static void convert(eng_ctx *c, const eng_tensor *to, const eng_tensor *from)
{
    eng_dtype types[2] = {to->dtype, from->dtype};
    eng_walk w;
    eng_walk_init(&w, 2, (const eng_tensor *[]){to, from});
    eng_walk_run(&w, c->pool, 4, convert_row, types);
}

/* The parts of complex numbers as an innermost axis of two. */
static void split_parts(eng_tensor *t)
{
    t->dtype = t->dtype == ENG_COMPLEX64 ? ENG_FLOAT : ENG_DOUBLE;
    t->dims[t->rank++] = 2;
}

/* Integers are interpolated as doubles and cut off. */
static od_code resize_integers(eng_ctx *c, resize_spec *s, const eng_tensor *x, const eng_tensor *y, od_status *st)
{
    eng_tensor wide_x = *x, wide_y = *y;
    wide_x.dtype = wide_y.dtype = ENG_DOUBLE;
    wide_x.data = od_arena_alloc(c->scratch, eng_tensor_bytes(&wide_x) + 1);
    wide_y.data = od_arena_alloc(c->scratch, eng_tensor_bytes(&wide_y) + 1);
    if (!wide_x.data || !wide_y.data) return od_fail(st, OD_NO_MEMORY, "no memory to interpolate integers");
    convert(c, &wide_x, x);
    OD_TRY(resize(c, s, &wide_x, &wide_y, st));
    convert(c, y, &wide_y);
    return OD_OK;
}

od_code eng_resize_run(eng_ctx *c, od_status *st)
{
    const eng_resize_rule *r = c->node->params;
    eng_tensor real[2] = {*c->in[0], *c->out[0]};
    const eng_tensor *x = &real[0], *y = &real[1];
    resize_spec s;
    bool resized = false;
    OD_TRY(read_spec(c, &s, st));
    if (is_complex(x)) {
        s.axis[s.rank++] = (eng_resize_axis){.in = 2, .out = 2, .scale = 1, .length = 2, .end = 1};
        for (int i = 0; i < 2; i++) split_parts(&real[i]);
    }
    if (!eng_tensor_count(y)) return OD_OK;
    for (int i = 0; i < s.rank; i++) {
        OD_TRY(eng_resize_taps(r, &s.axis[i], c->scratch, st));
        resized |= s.axis[i].resized;
    }
    if (!resized) {
        eng_tensor_relayout(y, x, c->pool);
        return OD_OK;
    }
    if (r->mode == ENG_RESIZE_NEAREST || x->dtype == ENG_FLOAT || x->dtype == ENG_DOUBLE) OD_TRY(resize(c, &s, x, y, st));
    else OD_TRY(resize_integers(c, &s, x, y, st));
    fill_outside(c, &s, y);
    return OD_OK;
}
