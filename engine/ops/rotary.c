/* rotary.c - RotaryEmbedding of ai.onnx and of ONNX Runtime: pairs of channels turned by angles that are
 * looked up by position. X is [item, head, row, channel] or [item, row, head * channel]. */
#include "engine/ops/ops.h"
#include "engine/ops/rotary.h"

#include <string.h>

typedef struct shape {
    int64_t items, heads, rows, width; /* channels of a head */
    int64_t item_step, head_step, row_step;
    int64_t rotated; /* of the channels; the rest is copied */
} shape;

/* ai.onnx: X, cos, sin, positions. com.microsoft: X, positions, cos, sin. */
static const eng_tensor *part(const eng_ctx *c, int which)
{
    static const int onnx[] = {1, 2, 3}, ms[] = {2, 3, 1};
    int i = (c->node->domain == ENG_DOMAIN_MS ? ms : onnx)[which];
    return i < c->n_in ? c->in[i] : NULL;
}
enum { COS, SIN, POSITIONS };

static od_code look(const eng_ctx *c, shape *s, od_status *st)
{
    const eng_tensor *x = c->in[0], *cosines = part(c, COS);
    if (!x || x->rank < 3 || x->rank > 4) return od_fail(st, OD_BAD_SHAPE, "X has rank %d, wanted 3 or 4", x ? x->rank : -1);
    int64_t heads = eng_node_int(c->node, "num_heads", 0), rotated = eng_node_int(c->node, "rotary_embedding_dim", 0);
    *s = (shape){.items = x->dims[0]};
    if (x->rank == 4) {
        s->heads = x->dims[1];
        s->rows = x->dims[2];
        s->width = x->dims[3];
        s->row_step = s->width;
        s->head_step = s->rows * s->width;
        s->item_step = s->heads * s->head_step;
    } else {
        s->rows = x->dims[1];
        if (c->node->domain == ENG_DOMAIN_MS && !rotated && cosines && cosines->rank == 2 && cosines->dims[1])
            heads = x->dims[2] / (2 * cosines->dims[1]); /* heads follow from the width of the table */
        if (heads < 1 || x->dims[2] % heads) return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " heads of %" PRId64 " channels", heads, x->dims[2]);
        s->heads = heads;
        s->width = x->dims[2] / heads;
        s->head_step = s->width;
        s->row_step = x->dims[2];
        s->item_step = s->rows * s->row_step;
    }
    s->rotated = rotated ? rotated : s->width;
    if (s->rotated < 0 || s->rotated % 2 || s->rotated > s->width)
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " of %" PRId64 " channels to turn", s->rotated, s->width);
    return OD_OK;
}

od_code eng_rotary_infer(eng_ctx *c, od_status *st)
{
    shape s;
    OD_TRY(eng_infer_same(c, st));
    OD_TRY(look(c, &s, st));
    const eng_tensor *positions = part(c, POSITIONS), *t[2] = {part(c, COS), part(c, SIN)};
    for (int i = 0; i < 2; i++) {
        if (!t[i]) return od_fail(st, OD_BAD_MODEL, "the tables of cosines and sines are missing");
        if (t[i]->dtype != c->in[0]->dtype) return od_fail(st, OD_BAD_TYPE, "a table of %s", eng_dtype_name(t[i]->dtype));
        bool fits = positions ? t[i]->rank == 2 : t[i]->rank == 3 && t[i]->dims[0] == s.items && t[i]->dims[1] == s.rows;
        if (!fits || t[i]->dims[t[i]->rank - 1] != s.rotated / 2 || t[i]->dims[0] != t[0]->dims[0])
            return od_fail(st, OD_BAD_SHAPE, "a table of %" PRId64 " columns for %" PRId64 " pairs of channels", t[i]->dims[t[i]->rank - 1], s.rotated / 2);
    }
    if (!positions) return OD_OK;
    if (positions->dtype != ENG_INT64) return od_fail(st, OD_BAD_TYPE, "positions are %s", eng_dtype_name(positions->dtype));
    int64_t n = eng_tensor_count(positions);
    bool first_only = c->node->domain == ENG_DOMAIN_MS && n == 1;
    if (!first_only && n != s.items * s.rows) return od_fail(st, OD_BAD_SHAPE, "%" PRId64 " positions for %" PRId64 " rows", n, s.items * s.rows);
    return OD_OK;
}

void eng_rotate(const float *x, const float *cosines, const float *sines, int64_t pairs, bool interleaved, float *y)
{
    int64_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : pairs;
    for (int64_t i = 0; i < pairs; i++) {
        float a = x[i * step], b = x[i * step + apart];
        y[i * step] = cosines[i] * a - sines[i] * b;
        y[i * step + apart] = sines[i] * a + cosines[i] * b;
    }
}

typedef struct rotary_job {
    shape s;
    const float *x, *cosines, *sines;
    float *y;
    const int64_t *positions; /* NULL: a table row a row of X */
    bool first_only;          /* positions hold the first row's only */
    bool interleaved;
} rotary_job;

static void rotate_rows(void *arg, int64_t unit, int slot)
{
    const rotary_job *j = arg;
    const shape *s = &j->s;
    int64_t item = unit / s->rows, row = unit % s->rows, place = unit;
    (void)slot;
    if (j->positions) place = j->first_only ? *j->positions + row : j->positions[unit];
    for (int64_t h = 0; h < s->heads; h++) {
        int64_t at = item * s->item_step + h * s->head_step + row * s->row_step;
        eng_rotate(j->x + at, j->cosines + place * (s->rotated / 2), j->sines + place * (s->rotated / 2), s->rotated / 2, j->interleaved, j->y + at);
        memcpy(j->y + at + s->rotated, j->x + at + s->rotated, (size_t)(s->width - s->rotated) * sizeof(float));
    }
}

od_code eng_rotary_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *positions = part(c, POSITIONS);
    rotary_job j = {.x = c->in[0]->data, .y = c->out[0]->data, .cosines = part(c, COS)->data, .sines = part(c, SIN)->data,
                    .positions = positions ? positions->data : NULL, .interleaved = eng_node_int(c->node, "interleaved", 0)};
    OD_TRY(look(c, &j.s, st));
    int64_t n = j.s.items * j.s.rows, table = part(c, COS)->dims[0];
    j.first_only = positions && eng_tensor_count(positions) == 1 && c->node->domain == ENG_DOMAIN_MS;
    for (int64_t i = 0; positions && i < n; i++) {
        int64_t place = j.first_only ? *j.positions + i % j.s.rows : j.positions[i];
        if (place < 0 || place >= table) return od_fail(st, OD_BAD_VALUE, "position %" PRId64 " of a table of %" PRId64, place, table);
    }
    od_pool_for(eng_tensor_count(c->in[0]) > 16384 ? c->pool : NULL, n, rotate_rows, &j);
    return OD_OK;
}
