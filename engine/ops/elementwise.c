#include "engine/ops/elementwise.h"
#include "engine/kernels/elementwise.h"

#include <string.h>

/* Strides of `t` along the axes of `shape`, in the memory order of `shape`; 0 where t is repeated. */
static void strides_along(const eng_tensor *shape, const eng_tensor *t, int64_t *out)
{
    int64_t own[ENG_MAX_RANK];
    eng_tensor_strides(t, own);
    int lead = shape->rank - t->rank;
    for (int axis = 0; axis < shape->rank; axis++) {
        int64_t s = axis < lead || t->dims[axis - lead] == 1 ? 0 : own[axis - lead];
        out[eng_tensor_phys_axis(shape, axis)] = s;
    }
}

/* Axis `p` continues axis `at` for every tensor. */
static bool merges(const eng_walk *w, int at, int64_t (*stride)[ENG_MAX_RANK], int p, int64_t extent)
{
    for (int k = 0; k < w->n; k++)
        if (w->stride[k][at] != stride[k][p] * extent) return false;
    return true;
}

void eng_walk_init(eng_walk *w, int n, const eng_tensor *const *t)
{
    int64_t dims[ENG_MAX_RANK], unused[ENG_MAX_RANK], stride[ENG_WALK_MAX][ENG_MAX_RANK];
    const eng_tensor *shape = t[0];
    eng_tensor_phys(shape, dims, unused);
    w->n = n;
    w->rank = 0;
    for (int k = 0; k < n; k++) {
        w->data[k] = t[k]->data;
        w->size[k] = eng_dtype_size(t[k]->dtype);
        strides_along(shape, t[k], stride[k]);
    }
    for (int p = 0; p < shape->rank; p++) {
        if (dims[p] == 1) continue;
        int at = w->rank - 1;
        if (at >= 0 && merges(w, at, stride, p, dims[p])) {
            w->dims[at] *= dims[p];
        } else {
            at = w->rank++;
            w->dims[at] = dims[p];
        }
        for (int k = 0; k < n; k++) w->stride[k][at] = stride[k][p];
    }
    if (!w->rank) {
        w->rank = 1;
        w->dims[0] = 1;
        for (int k = 0; k < n; k++) w->stride[k][0] = 1;
    }
}

enum { FEW = 4 }; /* tensors of an operator, at most */

typedef struct walk_job {
    const eng_walk *w;
    eng_row_fn *fn;
    void *arg;
    int64_t total, unit; /* elements; chunks start at multiples of unit */
    int64_t chunks;
} walk_job;

static int64_t cut(const walk_job *j, int64_t chunk)
{
    int64_t units = (j->total + j->unit - 1) / j->unit;
    int64_t at = (units / j->chunks * chunk + units % j->chunks * chunk / j->chunks) * j->unit;
    return od_min_i64(at, j->total);
}

static void walk_chunk(void *arg, int64_t chunk, int slot)
{
    const walk_job *j = arg;
    const eng_walk *w = j->w;
    (void)slot;
    int64_t from = cut(j, chunk), left = cut(j, chunk + 1) - from, at[ENG_MAX_RANK] = {0}, step[ENG_WALK_MAX];
    int last = w->rank - 1;
    char *p[ENG_WALK_MAX];
    for (int i = last; i >= 0; i--) {
        at[i] = from % w->dims[i];
        from /= w->dims[i];
    }
    for (int k = 0; k < w->n; k++) {
        step[k] = w->stride[k][last];
        int64_t offset = 0;
        for (int i = 0; i <= last; i++) offset += at[i] * w->stride[k][i];
        p[k] = w->data[k] + offset * (int64_t)w->size[k];
    }
    while (left > 0) {
        int64_t n = od_min_i64(w->dims[last] - at[last], left), move[ENG_WALK_MAX];
        j->fn(j->arg, n, p, step);
        if (!(left -= n)) return;
        for (int k = 0; k < w->n; k++) move[k] = -at[last] * w->stride[k][last];
        at[last] = 0;
        for (int i = last - 1; i >= 0; i--) {
            bool carry = ++at[i] == w->dims[i];
            for (int k = 0; k < w->n; k++) move[k] += w->stride[k][i] * (carry ? 1 - w->dims[i] : 1);
            if (!carry) break;
            at[i] = 0;
        }
        for (int k = 0; k < w->n; k++) p[k] += move[k] * (int64_t)w->size[k];
    }
}

enum { GRAIN = 32768, LONG = 4096, ALIGN = 256, SHORT = 32 };

static void block_chunk(void *arg, int64_t chunk, int slot);

void eng_walk_run(const eng_walk *w, od_pool *pool, int64_t cost, eng_row_fn *fn, void *arg)
{
    walk_job j = {.w = w, .fn = fn, .arg = arg, .total = 1};
    for (int i = 0; i < w->rank; i++) j.total *= w->dims[i];
    if (!j.total) return;
    int64_t row = w->dims[w->rank - 1];
    j.unit = w->rank > 1 && row <= LONG ? row : ALIGN;
    j.chunks = eng_chunks(j.total, GRAIN / (cost < 1 ? 1 : cost > 256 ? 256 : cost));
    bool blocks = w->rank > 1 && row < SHORT && j.total > 2 * row && w->n <= FEW;
    od_pool_for(j.chunks > 1 ? pool : NULL, j.chunks, blocks ? block_chunk : walk_chunk, &j);
}

/* ---- blocks -------------------------------------------------------------------------------- */

/* Where block axes begin: a block takes up to `run` of axis `axis` and all of those behind it. */
typedef struct block_shape {
    int axis;
    int64_t inner, run;
} block_shape;

static block_shape shape_of_blocks(const eng_walk *w)
{
    block_shape b = {.axis = w->rank - 1, .inner = 1};
    for (; b.axis > 0 && b.inner * w->dims[b.axis] <= ENG_BLOCK; b.axis--) b.inner *= w->dims[b.axis];
    b.run = od_min_i64(ENG_BLOCK / b.inner, w->dims[b.axis]);
    return b;
}

/* 1: tensor k is dense over a block, 0: it is one element, -1: neither. */
static int64_t block_step(const eng_walk *w, const block_shape *b, int k)
{
    int64_t next = 1, any = 0;
    bool dense = true;
    for (int i = w->rank - 1; i >= b->axis; i--) {
        dense &= w->stride[k][i] == next;
        any |= w->stride[k][i];
        next *= w->dims[i];
    }
    return dense ? 1 : any ? -1 : 0;
}

/* Rows of `n` elements, `step` apart, `stride` from one to the next, behind each other. May write up to seven more. */
static void gather_rows(char *to, const char *from, size_t size, int64_t rows, int64_t stride, int64_t step, int64_t n)
{
    if (size == 4) {
        eng_elementwise_table()->gather_32((uint32_t *)(void *)to, (const uint32_t *)(const void *)from, rows, stride, step, n);
        return;
    }
    for (int64_t r = 0; r < rows; r++, from += stride * (int64_t)size)
        for (int64_t i = 0; i < n; i++, to += size) memcpy(to, from + i * step * (int64_t)size, size);
}

static void scatter_row(char *to, const char *from, size_t size, int64_t step, int64_t n)
{
    if (step == 1) memcpy(to, from, (size_t)n * size);
    else
        for (int64_t i = 0; i < n; i++) memcpy(to + i * step * (int64_t)size, from + i * (int64_t)size, size);
}

/* Copy a block of tensor k, `run` of axis `axis`, from where it lies to `dense`, or back when `out`. */
static void copy_block(const eng_walk *w, int k, int axis, int64_t run, char *at, char **dense, bool out)
{
    int last = w->rank - 1;
    int64_t size = (int64_t)w->size[k], stride = w->stride[k][axis], row = w->dims[last], step = w->stride[k][last];
    if (axis == last) {
        if (out) scatter_row(at, *dense, w->size[k], step, run);
        else gather_rows(*dense, at, w->size[k], 1, 0, step, run);
        *dense += run * size;
    } else if (axis == last - 1 && !out) {
        gather_rows(*dense, at, w->size[k], run, stride, step, row);
        *dense += run * row * size;
    } else {
        for (int64_t i = 0; i < run; i++) copy_block(w, k, axis + 1, w->dims[axis + 1], at + i * stride * size, dense, out);
    }
}

enum { SLACK = 8 * 16, APART = 1088 }; /* buffers lie apart by no multiple of 4 KiB: a load behind a store to such waits for it */

static size_t buffer_bytes(const eng_walk *w, int k)
{
    return (ENG_BLOCK * w->size[k] + SLACK + APART) & ~(size_t)63;
}

size_t eng_walk_memory(const eng_walk *w, size_t extra)
{
    size_t bytes = (extra + APART) & ~(size_t)63;
    for (int k = 0; k < w->n; k++) bytes += buffer_bytes(w, k);
    return bytes;
}

static void one_block(const walk_job *j, const block_shape *b, int64_t block, char *memory)
{
    const eng_walk *w = j->w;
    int64_t along = (w->dims[b->axis] + b->run - 1) / b->run, outer = block / along, step[ENG_WALK_MAX] = {0};
    int64_t at = block % along * b->run, run = od_min_i64(b->run, w->dims[b->axis] - at), offset[ENG_WALK_MAX];
    char *p[ENG_WALK_MAX + 1], *lies = NULL;
    for (int k = 0; k < w->n; k++) offset[k] = at * w->stride[k][b->axis];
    for (int i = b->axis - 1; i >= 0; i--) {
        int64_t index = outer % w->dims[i];
        outer /= w->dims[i];
        for (int k = 0; k < w->n; k++) offset[k] += index * w->stride[k][i];
    }
    for (int k = 0; k < w->n; k++) {
        p[k] = w->data[k] + offset[k] * (int64_t)w->size[k];
        step[k] = block_step(w, b, k);
        if (step[k] >= 0) continue;
        step[k] = 1;
        char *dense = memory;
        if (k == 0) lies = p[0];
        else copy_block(w, k, b->axis, run, p[k], &dense, false);
        p[k] = memory;
        memory += buffer_bytes(w, k);
    }
    p[w->n] = memory;
    j->fn(j->arg, run * b->inner, p, step);
    if (lies) copy_block(w, 0, b->axis, run, lies, &p[0], true);
}

static int64_t count_blocks(const eng_walk *w, const block_shape *b)
{
    int64_t n = (w->dims[b->axis] + b->run - 1) / b->run;
    for (int i = 0; i < b->axis; i++) n *= w->dims[i];
    return n;
}

/* Short rows, a chunk of the blocks. */
static void block_chunk(void *arg, int64_t chunk, int slot)
{
    const walk_job *j = arg;
    block_shape b = shape_of_blocks(j->w);
    int64_t blocks = count_blocks(j->w, &b);
    char memory[FEW * ((ENG_BLOCK * 16 + SLACK + APART) & ~63)];
    (void)slot;
    for (int64_t i = blocks * chunk / j->chunks; i < blocks * (chunk + 1) / j->chunks; i++) one_block(j, &b, i, memory);
}

typedef struct blocks_job {
    walk_job walk;
    block_shape shape;
    char *memory;
    size_t per_thread;
} blocks_job;

static void blocks_chunk(void *arg, int64_t block, int slot)
{
    const blocks_job *j = arg;
    one_block(&j->walk, &j->shape, block, j->memory + (size_t)slot * j->per_thread);
}

void eng_walk_blocks(const eng_walk *w, od_pool *pool, int64_t cost, size_t extra, void *memory, eng_row_fn *fn, void *arg)
{
    blocks_job j = {.walk = {.w = w, .fn = fn, .arg = arg}, .shape = shape_of_blocks(w), .memory = memory,
                    .per_thread = eng_walk_memory(w, extra)};
    int64_t blocks = count_blocks(w, &j.shape);
    od_pool_for(blocks * ENG_BLOCK * cost >= GRAIN ? pool : NULL, blocks, blocks_chunk, &j);
}

/* ---- for operators ------------------------------------------------------------------------- */

void eng_walk_go(eng_ctx *c, const eng_walk *w, int64_t cost, eng_row_fn *fn, void *arg)
{
    if (c->rows) c->rows->take(c->rows, cost, fn, arg);
    else eng_walk_run(w, c->pool, cost, fn, arg);
}

void eng_walk_ctx(eng_ctx *c, int n_in, int64_t cost, eng_row_fn *fn, void *arg)
{
    if (c->n_out < 1 || !c->out[0]) return;
    const eng_tensor *t[ENG_WALK_MAX] = {c->out[0]};
    for (int i = 0; i < n_in; i++) t[i + 1] = c->in[i];
    eng_walk w;
    eng_walk_init(&w, n_in + 1, t);
    eng_walk_go(c, &w, cost, fn, arg);
}

od_code eng_row_for(const eng_typed_row *rows, int count, eng_dtype dtype, eng_row_fn **out, od_status *st)
{
    for (int i = 0; i < count; i++)
        if (rows[i].dtype == dtype) {
            *out = rows[i].fn;
            return OD_OK;
        }
    return od_fail(st, OD_BAD_TYPE, "elements are %s: not among the operator's types", eng_dtype_name(dtype));
}

void eng_row_f32(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    enum { BLOCK = 256 };
    eng_f32_row *fn = *(eng_f32_row **)arg;
    float *to = (float *)(void *)p[0];
    const float *from = (const float *)(const void *)p[1];
    float in[BLOCK], out[BLOCK];
    if (step[0] == 1 && step[1] == 1) {
        fn(to, from, n);
        return;
    }
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = od_min_i64(BLOCK, n - i);
        for (int64_t k = 0; k < m; k++) in[k] = from[(i + k) * step[1]];
        fn(out, in, m);
        for (int64_t k = 0; k < m; k++) to[(i + k) * step[0]] = out[k];
    }
}

int64_t eng_truncate(double d)
{
    return d >= -0x1p63 && d < 0x1p63 ? (int64_t)d : INT64_MIN;
}

#define LOAD_CASE(T, TAG, W, L, S)                                                                 \
    case TAG:                                                                                      \
        for (int64_t i = 0; i < n; i++) to[i] = (double)((const T *)(const void *)from)[i * step]; \
        break;
void eng_load_doubles(double *to, const char *from, eng_dtype type, int64_t step, int64_t n)
{
    switch (type) {
        ENG_FOR_INTS(LOAD_CASE)
        LOAD_CASE(float, ENG_FLOAT, , , )
    default:
        for (int64_t i = 0; i < n; i++) to[i] = ((const double *)(const void *)from)[i * step];
    }
}

#define STORE_CASE(T, TAG, W, L, S)                                                                \
    case TAG:                                                                                      \
        for (int64_t i = 0; i < n; i++) ((T *)(void *)to)[i * step] = (T)eng_truncate(from[i]);    \
        break;
void eng_store_doubles(char *to, const double *from, eng_dtype type, int64_t step, int64_t n)
{
    switch (type) {
        ENG_FOR_INTS(STORE_CASE)
    case ENG_FLOAT:
        for (int64_t i = 0; i < n; i++) ((float *)(void *)to)[i * step] = (float)from[i];
        break;
    default:
        for (int64_t i = 0; i < n; i++) ((double *)(void *)to)[i * step] = from[i];
    }
}

void eng_row_double(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    enum { BLOCK = 256 };
    const eng_double_fn *f = arg;
    double x[BLOCK];
    int64_t from = (int64_t)eng_dtype_size(f->from) * step[1], to = (int64_t)eng_dtype_size(f->to) * step[0];
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = od_min_i64(BLOCK, n - i);
        eng_load_doubles(x, p[1] + i * from, f->from, step[1], m);
        for (int64_t k = 0; k < m; k++) x[k] = f->fn(x[k], f->alpha, f->beta);
        eng_store_doubles(p[0] + i * to, x, f->to, step[0], m);
    }
}
