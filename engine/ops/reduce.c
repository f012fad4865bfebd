/* reduce.c - ReduceSum, Mean, Max, Min, Prod, L1, L2, SumSquare, LogSum, LogSumExp over any axes of either
 * layout. Axes are taken as they lie in memory and merged, so that there is an innermost run that is
 * either reduced (rows) or kept (columns); floats then go through engine/kernels/reduce.h. */
#include "engine/kernels/reduce.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <math.h>
#include <string.h>

typedef enum kind { SUM, MEAN, MAX, MIN, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP } kind;

/* Runs of memory, outermost first. */
typedef struct runs {
    int n;
    int64_t dims[ENG_MAX_RANK], strides[ENG_MAX_RANK], count;
} runs;

typedef struct reduce_job {
    kind kind;
    runs kept, reduced; /* without `inner`; kept runs lie in the order of the output */
    int64_t inner, inner_stride;
    bool inner_kept;
    int64_t parts, part;  /* the first reduced run is cut into parts of this extent */
    int64_t tile, tiles;  /* of a kept inner run */
    int64_t units, chunks;
    eng_dtype type;
    const char *x;
    char *y;
    float *partial; /* [parts][outputs] */
    int64_t outputs;
} reduce_job;

/* The axes to reduce, as a mask. */
static od_code axes_of(const eng_ctx *c, bool *reduce, od_status *st)
{
    int64_t axes[ENG_MAX_RANK], count;
    int rank = c->in[0]->rank;
    OD_TRY(eng_ints_in(c, 1, ENG_MAX_RANK, axes, &count, st));
    bool all = !count && !eng_node_int(c->node, "noop_with_empty_axes", 0);
    for (int i = 0; i < rank; i++) reduce[i] = all;
    for (int64_t i = 0; i < count; i++) {
        int axis;
        OD_TRY(eng_axis(axes[i], rank, false, &axis, st));
        reduce[axis] = true;
    }
    return OD_OK;
}

od_code eng_reduce_import(eng_graph *g, eng_node *n, od_status *st)
{
    return eng_attr_to_input(g, n, "axes", 1, false, st);
}

od_code eng_reduce_infer(eng_ctx *c, od_status *st)
{
    bool reduce[ENG_MAX_RANK];
    int64_t dims[ENG_MAX_RANK];
    int rank = 0;
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    OD_TRY(axes_of(c, reduce, st));
    bool keep = eng_node_int(c->node, "keepdims", 1);
    for (int i = 0; i < c->in[0]->rank; i++)
        if (!reduce[i] || keep) dims[rank++] = reduce[i] ? 1 : c->in[0]->dims[i];
    return eng_set_out(c, 0, c->in[0]->dtype, rank, dims, st);
}

/* A channels-last input stays so when what is kept has the same order in the output. */
void eng_reduce_layout(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out)
{
    bool reduce[ENG_MAX_RANK];
    od_status ignored;
    for (int i = 1; i < c->n_in; i++) want_in[i] = ENG_ROW;
    const eng_tensor *x = c->in[0];
    if (want_in[0] != ENG_CL) return;
    want_in[0] = ENG_ROW;
    if (axes_of(c, reduce, &ignored) != OD_OK) return;
    bool keep = eng_node_int(c->node, "keepdims", 1), ordered = true, spatial = false;
    for (int i = 2; i < x->rank; i++) spatial |= !reduce[i] && x->dims[i] != 1;
    ordered = reduce[1] || x->dims[1] == 1 || !spatial;
    if (!keep && !ordered) return;
    want_in[0] = ENG_CL;
    *want_out = keep ? ENG_CL : ENG_ROW;
}

static void add_run(runs *r, int64_t dim, int64_t stride)
{
    r->count *= dim;
    if (dim == 1) return;
    if (r->n && r->strides[r->n - 1] == dim * stride) {
        r->dims[r->n - 1] *= dim;
        r->strides[r->n - 1] = stride;
        return;
    }
    r->dims[r->n] = dim;
    r->strides[r->n++] = stride;
}

static void set_runs(const eng_tensor *x, const bool *reduce, reduce_job *j)
{
    int64_t dims[ENG_MAX_RANK], strides[ENG_MAX_RANK];
    bool by_place[ENG_MAX_RANK] = {false};
    eng_tensor_phys(x, dims, strides);
    for (int i = 0; i < x->rank; i++) by_place[eng_tensor_phys_axis(x, i)] = reduce[i];
    j->kept.count = j->reduced.count = 1;
    for (int i = 0; i < x->rank; i++) add_run(by_place[i] ? &j->reduced : &j->kept, dims[i], strides[i]);
    int last = x->rank - 1;
    while (last >= 0 && dims[last] == 1) last--;
    j->inner = j->inner_stride = 1;
    j->inner_kept = last >= 0 && !by_place[last];
    runs *r = j->inner_kept ? &j->kept : &j->reduced;
    if (r->n && r->strides[r->n - 1] == 1) j->inner = r->dims[--r->n];
}

/* Offset of the `index`-th place of the runs. */
static int64_t offset_of(const runs *r, int64_t index)
{
    int64_t offset = 0;
    for (int i = r->n - 1; i >= 0; i--) {
        offset += index % r->dims[i] * r->strides[i];
        index /= r->dims[i];
    }
    return offset;
}

/* ---- floats by kernels --------------------------------------------------------------------- */

static eng_red step_of(kind k)
{
    switch (k) {
    case MAX: return ENG_RED_MAX;
    case MIN: return ENG_RED_MIN;
    case L1: return ENG_RED_ABS;
    case L2:
    case SUM_SQUARE: return ENG_RED_SQUARE;
    default: return ENG_RED_SUM;
    }
}

/* How partial results are put together. */
static eng_red join_of(kind k)
{
    return k == MAX ? ENG_RED_MAX : k == MIN ? ENG_RED_MIN : ENG_RED_SUM;
}

static void finish(const reduce_job *j, float *y, int64_t n)
{
    int64_t count = j->reduced.count;
    for (int64_t i = 0; i < n; i++) {
        if (j->kind == MEAN) y[i] = y[i] / (float)count;
        else if (j->kind == L2) y[i] = sqrtf(y[i]);
        else if (j->kind == LOG_SUM) y[i] = logf(y[i]);
    }
}

static void join(const reduce_job *j, float *acc, const float *more, int64_t n, bool first)
{
    eng_red k = join_of(j->kind);
    for (int64_t i = 0; i < n; i++) {
        if (first) acc[i] = more[i];
        else if (k == ENG_RED_SUM) acc[i] += more[i];
        else if (isnan(more[i]) || (k == ENG_RED_MAX ? more[i] > acc[i] : more[i] < acc[i])) acc[i] = more[i];
    }
}

enum { TILE = 256 };

/* Part `part` of the reduced runs, for the output (or tile of outputs) whose first element is at x. */
static void reduce_part(const reduce_job *j, const float *x, int64_t width, int64_t part, float *acc)
{
    const eng_reduce_kernels *k = eng_reduce_get();
    const runs *r = &j->reduced;
    int64_t from = part * j->part, rows = r->n ? od_min_i64(j->part, r->dims[0] - from) : 1;
    float more[TILE];
    if (r->n) x += from * r->strides[0];
    int last = r->n - 1;
    int64_t deep = 1, at[ENG_MAX_RANK] = {0}, extent[ENG_MAX_RANK];
    for (int i = 0; i <= last; i++) extent[i] = i ? r->dims[i] : rows;
    if (j->inner_kept) { /* the last reduced run goes down the columns */
        for (int i = 0; i < last; i++) deep *= extent[i];
        int64_t down = last >= 0 ? extent[last] : 1, stride = last >= 0 ? r->strides[last] : 0;
        for (int64_t i = 0; i < deep; i++) {
            k->columns(step_of(j->kind), x, stride, down, width, NULL, more);
            join(j, acc, more, width, !i);
            for (int d = last - 1; d >= 0; d--) {
                x += r->strides[d];
                if (++at[d] < extent[d]) break;
                x -= extent[d] * r->strides[d];
                at[d] = 0;
            }
        }
        return;
    }
    for (int i = 0; i <= last; i++) deep *= extent[i];
    double total = 0.0; /* runs may be short and many */
    for (int64_t i = 0; i < deep; i++) {
        *more = k->row(step_of(j->kind), x, j->inner, 0.0f);
        total += (double)*more;
        join(j, acc, more, 1, !i);
        for (int d = last; d >= 0; d--) {
            x += r->strides[d];
            if (++at[d] < extent[d]) break;
            x -= extent[d] * r->strides[d];
            at[d] = 0;
        }
    }
    if (join_of(j->kind) == ENG_RED_SUM) *acc = (float)total;
}

/* Unit = (output run, part, tile): threads so read the parts of a map that they wrote. */
static void reduce_units(void *arg, int64_t chunk, int slot)
{
    const reduce_job *j = arg;
    (void)slot;
    for (int64_t u = j->units * chunk / j->chunks; u < j->units * (chunk + 1) / j->chunks; u++) {
        int64_t tile = u % j->tiles, part = u / j->tiles % j->parts, out = u / j->tiles / j->parts;
        const float *x = (const float *)(const void *)j->x + offset_of(&j->kept, out) + tile * j->tile;
        int64_t at = j->inner_kept ? out * j->inner + tile * j->tile : out;
        int64_t width = j->inner_kept ? od_min_i64(j->tile, j->inner - tile * j->tile) : 1;
        float *y = (j->partial ? j->partial + part * j->outputs : (float *)(void *)j->y) + at;
        reduce_part(j, x, width, part, y);
        if (!j->partial) finish(j, y, width);
    }
}

static od_code run_f32(eng_ctx *c, reduce_job *j, od_status *st)
{
    enum { GRAIN = 32768, WANTED = 8 };
    int64_t total = j->outputs * j->reduced.count;
    j->tile = TILE;
    j->tiles = j->inner_kept ? od_ceil_div(j->inner, TILE) : 1;
    j->units = j->kept.count / (j->inner_kept ? j->inner : 1) * j->tiles;
    j->parts = 1;
    j->part = j->reduced.n ? j->reduced.dims[0] : 1;
    if (j->units < WANTED && total >= 2 * GRAIN && j->reduced.n) {
        j->parts = od_min_i64(od_min_i64(WANTED, total / GRAIN), j->part);
        j->part = od_ceil_div(j->part, j->parts);
        j->parts = od_ceil_div(j->reduced.dims[0], j->part);
    }
    if (j->parts > 1) {
        j->partial = od_arena_array(c->scratch, float, j->parts * j->outputs);
        if (!j->partial) return od_fail(st, OD_NO_MEMORY, "no memory for partial results");
    }
    j->units *= j->parts;
    j->chunks = od_min_i64(j->units, eng_chunks(total, GRAIN));
    od_pool_for(j->chunks > 1 ? c->pool : NULL, j->chunks, reduce_units, j);
    if (!j->partial) return OD_OK;
    float *y = (float *)(void *)j->y;
    for (int64_t p = 0; p < j->parts; p++) join(j, y, j->partial + p * j->outputs, j->outputs, !p);
    finish(j, y, j->outputs);
    return OD_OK;
}

/* ---- every type and kind, an element at a time ---------------------------------------------- */

typedef union number {
    double d;
    int64_t s;
    uint64_t u;
} number;

static bool is_float(eng_dtype t)
{
    return t == ENG_FLOAT || t == ENG_DOUBLE;
}

static bool is_unsigned(eng_dtype t)
{
    return t == ENG_BOOL || (ENG_T(t) & ENG_T_UNSIGNED);
}

#define LOAD(T, TAG, W, L, S) \
    case TAG: return (number){.S = ((const T *)(const void *)x)[i]};
static number load(const char *x, eng_dtype type, int64_t i)
{
    switch (type) {
        ENG_FOR_INTS(LOAD)
    case ENG_BOOL: return (number){.u = ((const uint8_t *)(const void *)x)[i] != 0};
    case ENG_FLOAT: return (number){.d = (double)((const float *)(const void *)x)[i]};
    default: return (number){.d = ((const double *)(const void *)x)[i]};
    }
}

#define STORE(T, TAG, W, L, S) \
    case TAG: ((T *)(void *)y)[i] = (T)v.u; break;
static void store(char *y, eng_dtype type, int64_t i, number v)
{
    switch (type) {
        ENG_FOR_INTS(STORE)
    case ENG_BOOL: ((uint8_t *)(void *)y)[i] = v.u != 0; break;
    case ENG_FLOAT: ((float *)(void *)y)[i] = (float)v.d; break;
    default: ((double *)(void *)y)[i] = v.d; break;
    }
}

static double as_double(eng_dtype t, number v)
{
    return is_float(t) ? v.d : is_unsigned(t) ? (double)v.u : (double)v.s;
}

static number lowest(eng_dtype t, bool highest)
{
    if (is_float(t)) return (number){.d = highest ? (double)INFINITY : -(double)INFINITY};
    if (t == ENG_BOOL) return (number){.u = highest};
    unsigned bits = (unsigned)eng_dtype_size(t) * 8;
    if (is_unsigned(t)) return (number){.u = highest ? UINT64_MAX >> (64 - bits) : 0};
    int64_t top = (int64_t)(UINT64_MAX >> (65 - bits));
    return (number){.s = highest ? top : -top - 1};
}

static number step_double(kind k, number acc, double x, double top)
{
    switch (k) {
    case MAX: acc.d = x > acc.d || isnan(x) ? x : acc.d; break;
    case MIN: acc.d = x < acc.d || isnan(x) ? x : acc.d; break;
    case PROD: acc.d *= x; break;
    case L1: acc.d += fabs(x); break;
    case L2:
    case SUM_SQUARE: acc.d += x * x; break;
    case LOG_SUM_EXP: acc.d += exp(x - top); break;
    default: acc.d += x; break;
    }
    return acc;
}

static number step_int(kind k, eng_dtype t, number acc, number x)
{
    bool less = is_unsigned(t) ? x.u < acc.u : x.s < acc.s;
    switch (k) {
    case MAX: return less ? acc : x;
    case MIN: return less ? x : acc;
    case PROD: acc.u *= x.u; break;
    case L1: acc.u += !is_unsigned(t) && x.s < 0 ? 0 - x.u : x.u; break;
    case L2:
    case SUM_SQUARE: acc.u += x.u * x.u; break;
    default: acc.u += x.u; break;
    }
    return acc;
}

static number finish_any(kind k, eng_dtype t, number acc, double top, int64_t count)
{
    if (is_float(t)) {
        if (k == MEAN) acc.d /= (double)count;
        if (k == L2) acc.d = sqrt(acc.d);
        if (k == LOG_SUM) acc.d = log(acc.d);
        if (k == LOG_SUM_EXP) acc.d = isinf(top) ? top : top + log(acc.d);
        return acc;
    }
    if (k == MEAN && count) {
        if (is_unsigned(t)) acc.u /= (uint64_t)count;
        else acc.s /= count;
    }
    if (k == L2) acc.s = eng_truncate(sqrt(as_double(t, acc)));
    if (k == LOG_SUM) acc.s = eng_truncate(log(as_double(t, acc)));
    return acc;
}

/* LogSumExp of integers is computed on doubles. */
static number reduce_one(const reduce_job *j, int64_t at)
{
    bool wide = is_float(j->type) || j->kind == LOG_SUM_EXP;
    double top = -(double)INFINITY;
    int64_t count = j->reduced.count;
    number acc = {.u = 0};
    if (wide) acc.d = j->kind == PROD ? 1.0 : 0.0;
    else acc.u = j->kind == PROD;
    if (j->kind == MAX || j->kind == MIN) acc = lowest(j->type, j->kind == MIN);
    for (int round = j->kind == LOG_SUM_EXP ? 0 : 1; round < 2; round++) {
        for (int64_t i = 0; i < count; i++) {
            int64_t inner = j->inner_kept ? 1 : j->inner;
            number x = load(j->x, j->type, at + offset_of(&j->reduced, i / inner) + i % inner);
            if (!round) top = fmax(top, as_double(j->type, x));
            else if (wide) acc = step_double(j->kind, acc, as_double(j->type, x), isinf(top) && j->kind == LOG_SUM_EXP ? 0.0 : top);
            else acc = step_int(j->kind, j->type, acc, x);
        }
    }
    if (!wide || is_float(j->type)) return finish_any(j->kind, j->type, acc, top, count);
    return (number){.s = eng_truncate(top + log(acc.d))};
}

static void reduce_any(void *arg, int64_t chunk, int slot)
{
    const reduce_job *j = arg;
    (void)slot;
    int64_t inner = j->inner_kept ? j->inner : 1;
    for (int64_t o = j->units * chunk / j->chunks; o < j->units * (chunk + 1) / j->chunks; o++)
        store(j->y, j->type, o, reduce_one(j, offset_of(&j->kept, o / inner) + o % inner));
}

static od_code run(eng_ctx *c, kind k, od_status *st)
{
    enum { GRAIN = 2048 };
    const eng_tensor *x = c->in[0];
    reduce_job j = {.kind = k, .type = x->dtype, .x = x->data, .y = c->out[0]->data};
    bool reduce[ENG_MAX_RANK];
    OD_TRY(axes_of(c, reduce, st));
    if (!(j.outputs = eng_tensor_count(c->out[0]))) return OD_OK;
    set_runs(x, reduce, &j);
    if (j.type == ENG_FLOAT && j.reduced.count && k != PROD && k != LOG_SUM_EXP) return run_f32(c, &j, st);
    j.units = j.outputs;
    j.chunks = od_min_i64(j.units, eng_chunks(j.outputs * (j.reduced.count + 1), GRAIN));
    od_pool_for(j.chunks > 1 ? c->pool : NULL, j.chunks, reduce_any, &j);
    return OD_OK;
}

#define RUN(NAME, KIND)                          \
    od_code NAME(eng_ctx *c, od_status *st)      \
    {                                            \
        return run(c, KIND, st);                 \
    }
RUN(eng_reduce_sum_run, SUM)
RUN(eng_reduce_mean_run, MEAN)
RUN(eng_reduce_max_run, MAX)
RUN(eng_reduce_min_run, MIN)
RUN(eng_reduce_prod_run, PROD)
RUN(eng_reduce_l1_run, L1)
RUN(eng_reduce_l2_run, L2)
RUN(eng_reduce_sum_square_run, SUM_SQUARE)
RUN(eng_reduce_log_sum_run, LOG_SUM)
RUN(eng_reduce_log_sum_exp_run, LOG_SUM_EXP)
