#include "engine/kernels/attention.h"
#include "engine/kernels/kernels.h"
#include "engine/ops/attention.h"

#include <math.h>
#include <string.h>

enum { B = ENG_ATT_B, H = ENG_ATT_H, L = ENG_ATT_L, D = ENG_ATT_D };
enum { BLOCK_MAX = 96, BLOCK_MIN = 8 };

typedef struct job {
    const eng_attention *a;
    const eng_attention_kernels *kernels;
    void (*gemm)(const eng_gemm *g);
    int64_t heads, kv_heads, group; /* items times heads; times heads of k and v; of q for one of k */
    int64_t block, row_blocks;      /* rows worked on at once; their number a head */
    int64_t k_floats, v_floats;     /* of one head's panels */
    float *panels;                  /* of every head of k and v; NULL: packed in the slot */
    float *slots;                   /* scratch of each thread slot */
    int64_t slot_floats, score_pitch, value_pitch;
    int64_t key_columns;            /* of the scores, that are made by panels; one behind them, if any, by itself */
    bool pack_q, ranges;            /* q's rows are not dense; not every query sees every key */
    bool slow, plain;               /* rows go the long way; all keys of all rows have weights alike */
} job;

static const float *head_of(const eng_att_view *v, int64_t item, int64_t head)
{
    return v->data ? v->data + item * v->strides[B] + head * v->strides[H] : NULL;
}

static void pack(const job *j, int64_t item, int64_t head, float *to)
{
    const eng_att_view *k = &j->a->k, *v = &j->a->v;
    j->kernels->pack(head_of(k, item, head), k->strides[D], k->strides[L], k->dims[D], od_min_i64(k->dims[L], j->key_columns), to);
    j->kernels->pack(head_of(v, item, head), v->strides[L], v->strides[D], v->dims[L], v->dims[D], to + j->k_floats);
}

static void pack_head(void *arg, int64_t head, int slot)
{
    const job *j = arg;
    int64_t heads = j->a->k.dims[H];
    (void)slot;
    pack(j, head / heads, head % heads, j->panels + head * (j->k_floats + j->v_floats));
}

/* Rows of q made dense, where their channels lie apart. */
static const float *dense_rows(const eng_att_view *v, const float *q, int64_t rows, float *to)
{
    for (int64_t d = 0; d < v->dims[D]; d++)
        for (int64_t i = 0; i < rows; i++) to[i * v->dims[D] + d] = q[i * v->strides[L] + d * v->strides[D]];
    return to;
}

/* Keys [*from, *to) that query `row` of an item sees. */
static void range_of(const eng_attention *a, int64_t item, int64_t row, int64_t *from, int64_t *to)
{
    int64_t place = row + (a->offsets ? a->offsets[item] : a->past);
    *from = a->left >= 0 ? od_max_i64(0, place - a->left) : 0;
    *to = a->lengths ? od_max_i64(0, od_min_i64(a->keys, a->lengths[item])) : a->keys;
    if (a->causal) *to = od_min_i64(*to, place + 1);
    if (a->right >= 0) *to = od_min_i64(*to, place + a->right + 1);
    if (*to < *from) *to = *from = 0;
}

static float *tap_row(const eng_attention *a, int64_t item, int64_t head, int64_t row)
{
    return a->tap + ((item * a->q.dims[H] + head) * a->q.dims[L] + row) * a->k.dims[L];
}

static void keep(const eng_attention *a, eng_att_tap at, int64_t item, int64_t head, int64_t row, const float *s, float factor)
{
    if (!a->tap || a->tap_at != at) return;
    float *to = tap_row(a, item, head, row);
    for (int64_t k = 0; k < a->k.dims[L]; k++) to[k] = s[k] * factor;
}

/* A row of scores by the long way: cap, masks, range, taps, sink. Gives the sum of exponentials. */
static float weigh(const job *j, int64_t item, int64_t head, int64_t row, float scale, const float *mask, float *s)
{
    const eng_attention *a = j->a;
    int64_t keys = a->k.dims[L], from, to;
    range_of(a, item, row, &from, &to);
    for (int64_t k = 0; k < keys; k++) s[k] *= scale;
    keep(a, ENG_ATT_RAW, item, head, row, s, 1.0f);
    if (a->softcap > 0.0f) {
        for (int64_t k = 0; k < keys; k++) s[k] /= a->softcap;
        eng_kernels_get()->tanh_f32(s, s, keys);
        for (int64_t k = 0; k < keys; k++) s[k] *= a->softcap;
    }
    keep(a, ENG_ATT_CAPPED, item, head, row, s, 1.0f);
    const uint8_t *allow = a->allow;
    if (allow) allow += item * a->allow_strides[B] + head * a->allow_strides[H] + row * a->allow_strides[L];
    for (int64_t k = 0; k < keys; k++) {
        bool sees = k >= from && k < to && (!allow || allow[k * a->allow_strides[D]]);
        float add = sees && mask ? mask[k * a->mask.strides[D]] : 0.0f;
        s[k] = sees && add != -INFINITY ? s[k] + add : -INFINITY; /* chosen, not added: the score may be infinite */
    }
    keep(a, ENG_ATT_BIASED, item, head, row, s, 1.0f);
    if (a->sinks) s[keys] = a->sinks[head];
    return j->kernels->exp_row(s, keys + (a->sinks != NULL), 1.0f, NULL, 0, NULL);
}

static void write_rows(const job *j, const float *values, const float *inverse, int64_t rows, float *out)
{
    const eng_attention *a = j->a;
    int64_t width = a->v.dims[D], row = a->out.strides[L], col = a->out.strides[D];
    if (col == 1) {
        j->kernels->scale_rows(values, j->value_pitch, inverse, rows, width, out, row);
        return;
    }
    for (int64_t d = 0; d < width; d++) /* rows beside each other, as a rule */
        for (int64_t i = 0; i < rows; i++) out[i * row + d * col] = values[i * j->value_pitch + d] * inverse[i];
}

/* A row of scores made weights; zero for keys of first .. last-1 that it does not see. Gives their sum. */
static float weigh_seen(const job *j, int64_t item, int64_t row, float scale, const float *mask, const float *window,
                        int64_t first, int64_t last, float *s)
{
    const eng_attention *a = j->a;
    int64_t from = 0, to = a->k.dims[L], step = a->mask.strides[D];
    if (j->ranges) range_of(a, item, row, &from, &to);
    float sum = j->kernels->exp_row(s + from, to - from, scale, mask ? mask + from * step : NULL, step, window ? window + from : NULL);
    for (int64_t k = first; k < from && k < last; k++) s[k] = 0.0f;
    for (int64_t k = od_max_i64(to, first); k < last; k++) s[k] = 0.0f;
    return sum;
}

/* One block of rows of a head. */
static void run_block(const job *j, int64_t head, int64_t block, const float *panels, float *scratch)
{
    const eng_attention *a = j->a;
    int64_t item = head / a->q.dims[H], h = head % a->q.dims[H], row = block * j->block;
    int64_t rows = od_min_i64(j->block, a->q.dims[L] - row), keys = a->k.dims[L];
    float *scores = scratch, *values = scores + j->block * j->score_pitch;
    const float *q = head_of(&a->q, item, h) + row * a->q.strides[L];
    int64_t lda = a->q.strides[L];
    if (j->pack_q) {
        q = dense_rows(&a->q, q, rows, values + j->block * j->value_pitch);
        lda = a->q.dims[D];
    }
    const float *factor = head_of(&a->factor, item, h), *mask = head_of(&a->mask, item, h);
    const float *window = a->windows.data ? head_of(&a->windows, item % a->window_count, h) : NULL;
    float scale = a->scale * (factor ? *factor : 1.0f), factors[BLOCK_MAX];
    float *out = (float *)(uintptr_t)head_of(&a->out, item, h) + row * a->out.strides[L];
    if (mask) mask += row * a->mask.strides[L];
    if (window) window += row * a->windows.strides[L];
    int64_t first = 0, last = keys; /* keys that any row of the block sees */
    if (j->ranges && !j->slow) {
        int64_t unused;
        range_of(a, item, row, &first, &unused);
        range_of(a, item, row + rows - 1, &unused, &last);
        first = first / ENG_NR * ENG_NR;
        if (last < first) first = last = 0;
    }
    /* whole panels of scores: what is behind the last key is not looked at */
    int64_t columns = od_min_i64(j->key_columns, od_ceil_div(last - first, ENG_NR) * ENG_NR);
    int64_t width = od_ceil_div(a->v.dims[D], ENG_NR) * ENG_NR;
    j->gemm(&(eng_gemm){.m = rows, .n = columns, .segments = 1, .length = a->k.dims[D], .a = q, .lda = lda,
                        .b = panels + first * a->k.dims[D], .c = scores + first, .ldc = j->score_pitch});
    if (j->key_columns < keys) {
        const float *key = head_of(&a->k, item, h / j->group) + j->key_columns * a->k.strides[L];
        j->kernels->dots(q, lda, rows, key, a->k.dims[D], scores + j->key_columns, j->score_pitch);
    }
    if (j->plain)
        j->kernels->weigh_rows(&(eng_scores){.row = scores, .pitch = j->score_pitch, .rows = rows, .n = keys, .scale = scale,
                                             .mask = mask, .mask_row = a->mask.strides[L], .more = window,
                                             .more_row = a->windows.strides[L]}, factors);
    else for (int64_t i = 0; i < rows; i++) {
        float *s = scores + i * j->score_pitch;
        const float *m = mask ? mask + i * a->mask.strides[L] : NULL;
        const float *w = window ? window + i * a->windows.strides[L] : NULL;
        factors[i] = 1.0f / (j->slow ? weigh(j, item, h, row + i, scale, m, s) : weigh_seen(j, item, row + i, scale, m, w, first, last, s));
    }
    for (int64_t i = 0; i < rows && !a->nan_when_empty; i++)
        if (isinf(factors[i])) factors[i] = 0.0f;
    for (int64_t i = 0; i < rows && a->tap; i++)
        keep(a, ENG_ATT_PROBABILITIES, item, h, row + i, scores + i * j->score_pitch, factors[i]);
    j->gemm(&(eng_gemm){.m = rows, .n = width, .segments = 1, .length = last - first, .depth = keys, .a = scores + first,
                        .lda = j->score_pitch, .b = panels + j->k_floats + first * ENG_NR, .c = values, .ldc = j->value_pitch});
    write_rows(j, values, factors, rows, out);
}

/* Unit = a block of rows, k and v being packed. */
static void run_packed(void *arg, int64_t unit, int slot)
{
    const job *j = arg;
    int64_t head = unit / j->row_blocks, kv = head / j->a->q.dims[H] * j->a->k.dims[H] + head % j->a->q.dims[H] / j->group;
    run_block(j, head, unit % j->row_blocks, j->panels + kv * (j->k_floats + j->v_floats), j->slots + slot * j->slot_floats);
}

/* Unit = a head of k and v: packed here, then used while it is in the cache. */
static void run_head(void *arg, int64_t kv, int slot)
{
    const job *j = arg;
    int64_t heads = j->a->k.dims[H], item = kv / heads;
    float *panels = j->slots + slot * j->slot_floats;
    pack(j, item, kv % heads, panels);
    for (int64_t g = 0; g < j->group; g++)
        for (int64_t b = 0; b < j->row_blocks; b++)
            run_block(j, item * j->a->q.dims[H] + kv % heads * j->group + g, b, panels, panels + j->k_floats + j->v_floats);
}

od_code eng_attention_run(const eng_attention *a, od_arena *scratch, od_pool *pool, od_status *st)
{
    enum { NEAR = 6 * 1024, FAR = 48 * 1024, ROWS = 24, HEADS_ENOUGH = 8 }; /* floats of scores in the first caches */
    job j = {.a = a, .kernels = eng_attention_get(), .gemm = eng_kernels_get()->gemm_f32,
             .heads = a->q.dims[B] * a->q.dims[H], .kv_heads = a->k.dims[B] * a->k.dims[H]};
    if (!j.heads || !a->q.dims[L] || !a->v.dims[D]) return OD_OK;
    j.group = a->q.dims[H] / a->k.dims[H];
    j.score_pitch = od_ceil_div(a->k.dims[L] + 1, ENG_NR) * ENG_NR;
    if (j.score_pitch % 512 == 0) j.score_pitch += ENG_NR; /* rows in different sets of the cache */
    j.value_pitch = od_ceil_div(a->v.dims[D], ENG_NR) * ENG_NR;
    j.block = od_max_i64(NEAR / j.score_pitch, od_min_i64(ROWS, FAR / j.score_pitch));
    j.block = od_max_i64(BLOCK_MIN, od_min_i64(BLOCK_MAX, j.block));
    j.row_blocks = od_ceil_div(a->q.dims[L], j.block);
    j.block = od_ceil_div(a->q.dims[L], j.row_blocks);
    j.ranges = a->causal || a->left >= 0 || a->right >= 0 || a->lengths || a->keys != a->k.dims[L];
    j.pack_q = a->q.strides[D] != 1 && a->q.dims[D] != 1;
    j.slow = a->tap || a->softcap > 0.0f || a->allow || a->sinks;
    j.plain = !j.slow && !j.ranges && (!a->mask.data || a->mask.strides[D] == 1);
    bool alone = j.plain && a->k.dims[L] % ENG_NR == 1 && a->k.dims[L] > 1 && a->k.strides[D] == 1;
    j.key_columns = alone ? a->k.dims[L] - 1 : od_ceil_div(a->k.dims[L], ENG_NR) * ENG_NR;
    j.k_floats = eng_packed_floats(a->k.dims[D], j.key_columns);
    j.v_floats = eng_packed_floats(a->v.dims[L], a->v.dims[D]);
    j.slot_floats = j.block * (j.score_pitch + j.value_pitch + (j.pack_q ? a->q.dims[D] : 0)) + ENG_NR;
    j.slot_floats = od_ceil_div(j.slot_floats, ENG_NR) * ENG_NR;
    bool by_head = j.kv_heads >= HEADS_ENOUGH;
    if (by_head) j.slot_floats += j.k_floats + j.v_floats;
    size_t bytes;
    int64_t floats = (by_head ? 0 : j.kv_heads * (j.k_floats + j.v_floats)) + od_pool_slots(pool) * j.slot_floats;
    float *memory = od_mul((size_t)floats, sizeof(float), &bytes) ? od_arena_alloc(scratch, bytes) : NULL;
    if (!memory) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " packed numbers", floats);
    j.slots = memory;
    if (by_head) {
        od_pool_for(pool, j.kv_heads, run_head, &j);
        return OD_OK;
    }
    j.panels = memory + od_pool_slots(pool) * j.slot_floats;
    od_pool_for(pool, j.kv_heads, pack_head, &j);
    od_pool_for(pool, j.heads * j.row_blocks, run_packed, &j);
    return OD_OK;
}

/* ---- operands ------------------------------------------------------------------------------ */

eng_att_view eng_att_rows(const eng_tensor *t, int64_t heads, int64_t offset, int64_t width)
{
    eng_att_view v = {.data = t->data};
    if (t->rank == 4) {
        int64_t strides[ENG_MAX_RANK];
        eng_tensor_strides(t, strides);
        for (int i = 0; i < ENG_ATT_AXES; i++) v.dims[i] = t->dims[i], v.strides[i] = strides[i];
        return v;
    }
    int64_t row = t->dims[2];
    if (!width) width = row / heads;
    v = (eng_att_view){.data = t->data ? (const float *)t->data + offset : NULL, .dims = {t->dims[0], heads, t->dims[1], width},
                       .strides = {t->dims[1] * row, width, row, 1}};
    return v;
}

eng_att_view eng_att_mask(const eng_tensor *t)
{
    eng_att_view v = {.dims = {1, 1, 1, 1}};
    int64_t strides[ENG_MAX_RANK];
    if (!t) return v;
    eng_tensor_strides(t, strides);
    v.data = t->data;
    for (int d = 0; d < t->rank; d++) {
        int a = d + ENG_ATT_AXES - t->rank;
        v.dims[a] = t->dims[d];
        v.strides[a] = t->dims[d] == 1 ? 0 : strides[d];
    }
    return v;
}

typedef struct concat_job {
    const eng_att_view *past, *now;
    float *to;
} concat_job;

static void concat_head(void *arg, int64_t unit, int slot)
{
    const concat_job *j = arg;
    const eng_att_view *parts[2] = {j->past, j->now};
    int64_t item = unit / j->now->dims[H], head = unit % j->now->dims[H], width = j->now->dims[D];
    int64_t before = j->past->data ? j->past->dims[L] : 0, total = before + j->now->dims[L];
    float *to = j->to + unit * total * width;
    (void)slot;
    for (int p = 0; p < 2; p++) {
        const float *from = head_of(parts[p], item, head);
        for (int64_t i = 0; from && i < parts[p]->dims[L]; i++, to += width)
            for (int64_t d = 0; d < width; d++) to[d] = from[i * parts[p]->strides[L] + d * parts[p]->strides[D]];
    }
}

void eng_att_concat(const eng_att_view *past, const eng_att_view *now, float *to, od_pool *pool)
{
    concat_job j = {past, now, to};
    od_pool_for(pool, now->dims[B] * now->dims[H], concat_head, &j);
}
