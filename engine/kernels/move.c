#include "engine/kernels/move.h"
#include "engine/base/cpu.h"
#include "engine/kernels/transpose_rows.h"

#include <pthread.h>
#include <string.h>

static const eng_transposes *chosen = &eng_transposes_ref;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
#if defined(__x86_64__)
    if (od_cpu_isa() & OD_ISA_AVX2) chosen = &eng_transposes_avx2;
#endif
}

const eng_transposes *eng_transposes_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}

typedef struct axis {
    int64_t extent, to, from; /* strides in bytes */
} axis;

/* A move in its simplest terms. The inner loops are over the last axis and, where blocks are
 * transposed, the one before it; both are cut into blocks. All other axes are `outer`. */
typedef struct job {
    char *to;
    const char *from;
    int64_t size; /* bytes that lie together on both sides */
    int n;
    axis a[ENG_MOVE_RANK + 1];
    eng_transpose_fn *transpose; /* NULL: `size` bytes at a time along the last axis */
    int outer;
    int64_t block[2];  /* extents of a block of the last axis and the one before */
    int64_t blocks[2]; /* number of blocks */
    int64_t units, per_chunk, chunks;
} job;

/* ---- rows ----------------------------------------------------------------------------------- */

#define DEFINE_STRIDED(N)                                                                       \
    static void strided_##N(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n) \
    {                                                                                           \
        if (to_step == (N) && !from_step) {                                                     \
            eng_move##N v = *(const eng_move##N *)from;                                         \
            for (int64_t i = 0; i < n; i++) ((eng_move##N *)to)[i] = v;                         \
            return;                                                                             \
        }                                                                                       \
        for (int64_t i = 0; i < n; i++)                                                         \
            *(eng_move##N *)(to + i * to_step) = *(const eng_move##N *)(from + i * from_step);  \
    }
DEFINE_STRIDED(1)
DEFINE_STRIDED(2)
DEFINE_STRIDED(4)
DEFINE_STRIDED(8)
DEFINE_STRIDED(16)

/* Blocks of 17 to 64 bytes, too short for a call of memcpy each: the last 16 bytes overlap. */
static void strided_short(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, int64_t size)
{
    for (int64_t i = 0; i < n; i++, to += to_step, from += from_step) {
        for (int64_t at = 0; at < size - 16; at += 16) *(eng_move16 *)(to + at) = *(const eng_move16 *)(from + at);
        *(eng_move16 *)(to + size - 16) = *(const eng_move16 *)(from + size - 16);
    }
}

static void strided(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, int64_t size)
{
    enum { SHORT = 64 };
    switch (size) {
    case 1: strided_1(to, to_step, from, from_step, n); return;
    case 2: strided_2(to, to_step, from, from_step, n); return;
    case 4: strided_4(to, to_step, from, from_step, n); return;
    case 8: strided_8(to, to_step, from, from_step, n); return;
    case 16: strided_16(to, to_step, from, from_step, n); return;
    default: break;
    }
    if (size > 16 && size <= SHORT) {
        strided_short(to, to_step, from, from_step, n, size);
        return;
    }
    for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, (size_t)size);
}

/* ---- bringing a move to its simplest terms ---------------------------------------------------- */

static bool simplify(job *j, const eng_move *m)
{
    int64_t size = (int64_t)m->size;
    *j = (job){.to = m->to, .from = m->from, .size = size};
    for (int i = 0; i < m->rank; i++) {
        if (m->dims[i] == 0) return false;
        if (m->dims[i] == 1) continue;
        axis x = {m->dims[i], m->to_stride[i] * size, m->from_stride[i] * size};
        int at = j->n++;
        while (at > 0 && j->a[at - 1].to < x.to) j->a[at] = j->a[at - 1], at--;
        j->a[at] = x;
    }
    int kept = 0;
    for (int i = 0; i < j->n; i++) {
        axis x = j->a[i], *last = kept ? &j->a[kept - 1] : NULL;
        if (last && last->to == x.to * x.extent && last->from == x.from * x.extent)
            *last = (axis){last->extent * x.extent, x.to, x.from};
        else
            j->a[kept++] = x;
    }
    j->n = kept;
    if (kept && j->a[kept - 1].to == j->size && j->a[kept - 1].from == j->size) j->size *= j->a[--j->n].extent;
    return true;
}

/* Cut what lies together into an axis of its own where a piece is too much for one unit of work. */
static void cut_size(job *j, int64_t most)
{
    if (j->size <= most) return;
    int64_t piece = most;
    while (j->size % piece) piece--;
    if (piece < most / 4) return;
    j->a[j->n++] = (axis){j->size / piece, piece, piece};
    j->size = piece;
}

static int log2_of(int64_t size)
{
    for (int i = 0; i < 5; i++)
        if (size == 1 << i) return i;
    return -1;
}

/* The axis along which `from` is dense, when the last one is not it. */
static void find_transpose(job *j)
{
    enum { FEW = 2 };
    int log2 = log2_of(j->size);
    if (log2 < 0 || j->n < 2 || j->a[j->n - 1].to != j->size || j->a[j->n - 1].from == 0) return;
    for (int i = j->n - 2; i >= 0; i--) {
        if (j->a[i].from != j->size || j->a[i].extent < FEW) continue;
        axis x = j->a[i];
        memmove(&j->a[i], &j->a[i + 1], (size_t)(j->n - 2 - i) * sizeof x);
        j->a[j->n - 2] = x;
        j->transpose = eng_transposes_get()->by_log2[log2];
        return;
    }
}

static void cut_blocks(job *j)
{
    enum { SIDE = 64, BYTES = 64 << 10, LONG_SIDE = 4096 };
    if (!j->n) j->a[j->n++] = (axis){1, j->size, j->size};
    const axis *last = &j->a[j->n - 1];
    j->outer = j->n - 1;
    j->blocks[1] = 1;
    if (j->transpose) {
        const axis *other = last - 1;
        j->outer--;
        /* a short side lets the other be long: then the compact loops of few rows apply */
        j->block[0] = other->extent <= 4 ? LONG_SIDE : SIDE;
        j->block[1] = last->extent <= 4 ? LONG_SIDE : SIDE;
        j->blocks[1] = od_ceil_div(other->extent, j->block[1]);
    } else {
        j->block[0] = od_max_i64(1, BYTES / j->size);
    }
    j->blocks[0] = od_ceil_div(last->extent, j->block[0]);
    j->units = j->blocks[0] * j->blocks[1];
    for (int i = 0; i < j->outer; i++) j->units *= j->a[i].extent;
}

/* ---- running it ----------------------------------------------------------------------------- */

static void run_unit(const job *j, char *to, const char *from, int64_t at0, int64_t at1)
{
    const axis *last = &j->a[j->n - 1];
    int64_t from0 = at0 * j->block[0], n0 = od_min_i64(j->block[0], last->extent - from0);
    to += from0 * last->to;
    from += from0 * last->from;
    if (!j->transpose) {
        strided(to, last->to, from, last->from, n0, j->size);
        return;
    }
    const axis *other = last - 1;
    int64_t from1 = at1 * j->block[1], n1 = od_min_i64(j->block[1], other->extent - from1);
    j->transpose(to + from1 * other->to, other->to, from + from1 * other->from, last->from, n0, n1);
}

static void run_chunk(void *arg, int64_t chunk, int slot)
{
    const job *j = arg;
    (void)slot;
    int64_t first = j->units / j->chunks * chunk + od_min_i64(chunk, j->units % j->chunks);
    int64_t left = j->units / j->chunks + (chunk < j->units % j->chunks), rest = first, at[ENG_MOVE_RANK + 1];
    char *to = j->to;
    const char *from = j->from;
    int64_t at1 = rest % j->blocks[1];
    rest /= j->blocks[1];
    int64_t at0 = rest % j->blocks[0];
    rest /= j->blocks[0];
    for (int i = j->outer - 1; i >= 0; i--) {
        at[i] = rest % j->a[i].extent;
        rest /= j->a[i].extent;
        to += at[i] * j->a[i].to;
        from += at[i] * j->a[i].from;
    }
    while (left--) {
        run_unit(j, to, from, at0, at1);
        if (++at1 < j->blocks[1]) continue;
        at1 = 0;
        if (++at0 < j->blocks[0]) continue;
        at0 = 0;
        for (int i = j->outer - 1; i >= 0; i--) {
            const axis *a = &j->a[i];
            to += a->to;
            from += a->from;
            if (++at[i] < a->extent) break;
            to -= a->to * a->extent;
            from -= a->from * a->extent;
            at[i] = 0;
        }
    }
}

void eng_move_run(const eng_move *m, od_pool *pool)
{
    enum { PIECE = 256 << 10, GRAIN = 128 << 10, CHUNKS = 64 };
    job j;
    if (!simplify(&j, m)) return;
    cut_size(&j, PIECE);
    find_transpose(&j);
    cut_blocks(&j);
    int64_t bytes = j.size;
    for (int i = 0; i < j.n; i++) bytes *= j.a[i].extent;
    j.chunks = od_max_i64(1, od_min_i64(od_min_i64(bytes / GRAIN, CHUNKS), j.units));
    od_pool_for(j.chunks > 1 ? pool : NULL, j.chunks, run_chunk, &j);
}

typedef struct bytes_job {
    char *to;
    const char *from;
    size_t bytes, piece;
} bytes_job;

static void bytes_chunk(void *arg, int64_t chunk, int slot)
{
    const bytes_job *j = arg;
    (void)slot;
    size_t at = (size_t)chunk * j->piece, n = j->bytes - at < j->piece ? j->bytes - at : j->piece;
    memcpy(j->to + at, j->from + at, n);
}

void eng_move_bytes(void *to, const void *from, size_t bytes, od_pool *pool)
{
    enum { PIECE = 256 << 10 };
    if (!bytes) return;
    bytes_job j = {to, from, bytes, PIECE};
    int64_t chunks = (int64_t)((bytes + PIECE - 1) / PIECE);
    od_pool_for(chunks > 1 ? pool : NULL, chunks, bytes_chunk, &j);
}
