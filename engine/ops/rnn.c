/* rnn.c - RNN, GRU and LSTM.
 * The products of all steps' inputs with W are one matrix product; a step then multiplies the state with
 * R, each gate on its own panels, and works through the gates on rows. Directions run side by side; a
 * large state is cut by hidden units too, a region a step. */
#include "engine/kernels/kernels.h"
#include "engine/ops/ops.h"
#include "engine/ops/rnn.h"
#include "engine/packed.h"

#include <math.h>
#include <string.h>
#include <strings.h>

enum { ROWS = 96 };

/* ---- attributes --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int kind;
    float alpha, beta;
    bool takes_alpha, takes_beta;
} act_table[] = {
    {"Relu", ENG_ACT_RELU, 0, 0, false, false},
    {"Tanh", ENG_ACT_TANH, 0, 0, false, false},
    {"Sigmoid", ENG_ACT_SIGMOID, 0, 0, false, false},
    {"Affine", ENG_RNN_AFFINE, 1.0f, 0, true, true},
    {"LeakyRelu", ENG_ACT_LEAKY_RELU, 0.01f, 0, true, false},
    {"ThresholdedRelu", ENG_RNN_THRESHOLD, 1.0f, 0, true, false},
    {"ScaledTanh", ENG_RNN_SCALED_TANH, 1.0f, 1.0f, true, true},
    {"HardSigmoid", ENG_ACT_HARD_SIGMOID, 0.2f, 0.5f, true, true},
    {"Elu", ENG_ACT_ELU, 1.0f, 0, true, false},
    {"Softsign", ENG_RNN_SOFTSIGN, 0, 0, false, false},
    {"Softplus", ENG_ACT_SOFTPLUS, 0, 0, false, false},
};

static int find_act(const eng_str *name)
{
    for (size_t i = 0; i < OD_COUNT(act_table); i++)
        if (strlen(act_table[i].name) == name->len && !strncasecmp(act_table[i].name, name->ptr, name->len)) return (int)i;
    return -1;
}

/* Activations in the order of directions; alphas and betas go to those that take them, in order. */
static od_code read_acts(const eng_node *n, eng_rnn_params *p, od_status *st)
{
    static const char *const usual[3][3] = {{"Tanh", "", ""}, {"Sigmoid", "Tanh", ""}, {"Sigmoid", "Tanh", "Tanh"}};
    const int per = p->kind == ENG_RNN_RNN ? 1 : p->kind == ENG_RNN_GRU ? 2 : 3;
    int64_t n_alpha, n_beta, at_alpha = 0, at_beta = 0;
    const float *alpha = eng_node_floats(n, "activation_alpha", &n_alpha);
    const float *beta = eng_node_floats(n, "activation_beta", &n_beta);
    const eng_attr *names = eng_node_attr(n, "activations");
    if (names && (names->kind != ENG_ATTR_STRINGS || names->n != (int64_t)per * p->dirs))
        return od_fail(st, OD_BAD_ARGUMENT, "%" PRId64 " activations, wanted %d", names->n, per * p->dirs);
    for (int d = 0; d < p->dirs; d++) {
        for (int k = 0; k < per; k++) {
            const char *word = usual[p->kind][k];
            eng_str s = names ? names->strings[d * per + k] : (eng_str){word, strlen(word)};
            int i = find_act(&s);
            if (i < 0) return od_fail(st, OD_UNSUPPORTED, "activation '%.*s'", (int)od_min_i64((int64_t)s.len, 40), s.ptr);
            eng_rnn_act *a = &p->acts[d][k];
            *a = (eng_rnn_act){act_table[i].kind, act_table[i].alpha, act_table[i].beta};
            if (act_table[i].takes_alpha && at_alpha < n_alpha) a->alpha = alpha[at_alpha++];
            if (act_table[i].takes_beta && at_beta < n_beta) a->beta = beta[at_beta++];
        }
    }
    return OD_OK;
}

static od_code read_params(const eng_node *n, eng_rnn_params *p, od_status *st)
{
    p->kind = !strcmp(n->op_type, "LSTM") ? ENG_RNN_LSTM : !strcmp(n->op_type, "GRU") ? ENG_RNN_GRU : ENG_RNN_RNN;
    p->gates = p->kind == ENG_RNN_LSTM ? 4 : p->kind == ENG_RNN_GRU ? 3 : 1;
    p->dirs = 1;
    if (eng_node_string_is(n, "direction", "forward", "bidirectional")) p->dirs = 2;
    else if (eng_node_string_is(n, "direction", "forward", "reverse")) p->reverse[0] = true;
    else if (!eng_node_string_is(n, "direction", "forward", "forward"))
        return od_fail(st, OD_BAD_ARGUMENT, "direction is neither forward, reverse nor bidirectional");
    p->reverse[1] = true;
    p->layout = eng_node_int(n, "layout", 0) != 0;
    p->reset_after = eng_node_int(n, "linear_before_reset", 0) != 0;
    p->input_forget = eng_node_int(n, "input_forget", 0) != 0;
    p->clip = eng_node_float(n, "clip", INFINITY);
    if (!(p->clip >= 0)) return od_fail(st, OD_BAD_ARGUMENT, "clip is %g", (double)p->clip);
    return read_acts(n, p, st);
}

/* ---- packing ------------------------------------------------------------------------------ */

static int64_t r_floats(int gates, int64_t hidden)
{
    return gates * eng_packed_floats(hidden, hidden);
}

/* R of one direction, [gates * hidden][hidden], gate by gate so that each begins with a whole panel. */
static void pack_r(const float *r, int gates, int64_t hidden, float *to)
{
    for (int k = 0; k < gates; k++)
        eng_gemm_pack(r + k * hidden * hidden, 1, hidden, hidden, hidden, to + k * eng_packed_floats(hidden, hidden));
}

/* W [direction][gates * hidden][input]. */
static void pack_constant_w(const eng_tensor *w, const eng_pack_part *part, const void *arg, void *to)
{
    int64_t rows = w->dims[1], input = w->dims[2];
    (void)arg;
    for (int64_t d = 0; d < w->dims[0]; d++)
        eng_gemm_pack((const float *)part->bytes + d * rows * input, 1, input, input, rows, (float *)to + d * eng_packed_floats(input, rows));
}

static void pack_constant_r(const eng_tensor *r, const eng_pack_part *part, const void *arg, void *to)
{
    const int *gates = arg;
    int64_t hidden = r->dims[2];
    for (int64_t d = 0; d < r->dims[0]; d++)
        pack_r((const float *)part->bytes + d * *gates * hidden * hidden, *gates, hidden, (float *)to + d * r_floats(*gates, hidden));
}

od_code eng_rnn_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    (void)pool;
    eng_rnn_params *p = eng_model_alloc(g, sizeof *p);
    if (!p) return od_fail(st, OD_NO_MEMORY, "no memory for a recurrent network");
    n->params = p;
    OD_TRY(read_params(n, p, st));
    const eng_tensor *w = eng_node_weights(g, n, 1), *r = eng_node_weights(g, n, 2);
    if (g->model->probing || !w || !r || w->dtype != ENG_FLOAT || r->dtype != ENG_FLOAT || w->rank != 3 || r->rank != 3)
        return OD_OK;
    int64_t rows = w->dims[1], input = w->dims[2], hidden = r->dims[2];
    if (w->dims[0] != p->dirs || r->dims[0] != p->dirs || rows != p->gates * hidden || r->dims[1] != rows)
        return OD_OK; /* infer refuses it */
    size_t w_bytes = (size_t)(p->dirs * eng_packed_floats(input, rows)) * sizeof(float);
    size_t r_bytes = (size_t)(p->dirs * r_floats(p->gates, hidden)) * sizeof(float);
    if (w_bytes) OD_TRY(eng_model_pack(g, n, 1, "rnn w", NULL, 0, w_bytes, 0, pack_constant_w, &p->w, st));
    if (r_bytes) OD_TRY(eng_model_pack(g, n, 2, "rnn r", &p->gates, sizeof p->gates, r_bytes, 0, pack_constant_r, &p->r, st));
    return OD_OK;
}

/* ---- shapes ------------------------------------------------------------------------------- */

static od_code want(const eng_ctx *c, int i, const char *what, int rank, const int64_t *dims, od_status *st)
{
    const eng_tensor *t = i < c->n_in ? c->in[i] : NULL;
    char have[160], wanted[160];
    eng_tensor w = {.dtype = t ? t->dtype : ENG_FLOAT, .rank = rank};
    memcpy(w.dims, dims, (size_t)rank * sizeof *dims);
    if (!t || eng_dims_equal(t, &w)) return OD_OK;
    return od_fail(st, OD_BAD_SHAPE, "%s is %s, wanted %s", what, eng_tensor_text(t, have, sizeof have),
                   eng_tensor_text(&w, wanted, sizeof wanted));
}

od_code eng_rnn_sizes(const eng_ctx *c, const eng_rnn_params *p, eng_rnn_size *s, od_status *st)
{
    for (int i = 0; i < 3; i++) {
        if (i >= c->n_in || !c->in[i]) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
        if (c->in[i]->rank != 3) return od_fail(st, OD_BAD_SHAPE, "input %d has rank %d, wanted 3", i, c->in[i]->rank);
    }
    const eng_tensor *x = c->in[0], *r = c->in[2];
    *s = (eng_rnn_size){.steps = x->dims[p->layout], .batch = x->dims[!p->layout], .input = x->dims[2], .hidden = r->dims[2],
                 .dirs = p->dirs};
    int64_t hidden = s->hidden, rows = p->gates * hidden;
    int64_t wish = eng_node_int(c->node, "hidden_size", hidden);
    if (wish != hidden) return od_fail(st, OD_BAD_SHAPE, "hidden_size is %" PRId64 ", R has %" PRId64, wish, hidden);
    OD_TRY(want(c, 1, "W", 3, (int64_t[]){p->dirs, rows, s->input}, st));
    OD_TRY(want(c, 2, "R", 3, (int64_t[]){p->dirs, rows, hidden}, st));
    OD_TRY(want(c, 3, "B", 2, (int64_t[]){p->dirs, 2 * rows}, st));
    OD_TRY(want(c, 4, "sequence_lens", 1, &s->batch, st));
    int64_t state[2][3] = {{p->dirs, s->batch, hidden}, {s->batch, p->dirs, hidden}};
    OD_TRY(want(c, 5, "initial_h", 3, state[p->layout], st));
    if (p->kind != ENG_RNN_LSTM) return OD_OK;
    OD_TRY(want(c, 6, "initial_c", 3, state[p->layout], st));
    return want(c, 7, "P", 2, (int64_t[]){p->dirs, 3 * hidden}, st);
}

od_code eng_rnn_infer(eng_ctx *c, od_status *st)
{
    const eng_rnn_params *p = c->node->params;
    eng_rnn_size s;
    OD_TRY(eng_rnn_sizes(c, p, &s, st));
    for (int i = 1; i < c->n_in; i++) {
        eng_dtype dtype = i == 4 ? ENG_INT32 : c->in[0]->dtype;
        if (c->in[i] && c->in[i]->dtype != dtype)
            return od_fail(st, OD_BAD_TYPE, "input %d is %s, wanted %s", i, eng_dtype_name(c->in[i]->dtype),
                           eng_dtype_name(dtype));
    }
    int64_t y[2][4] = {{s.steps, s.dirs, s.batch, s.hidden}, {s.batch, s.steps, s.dirs, s.hidden}};
    int64_t state[2][3] = {{s.dirs, s.batch, s.hidden}, {s.batch, s.dirs, s.hidden}};
    OD_TRY(eng_set_out(c, 0, c->in[0]->dtype, 4, y[p->layout], st));
    OD_TRY(eng_set_out(c, 1, c->in[0]->dtype, 3, state[p->layout], st));
    return eng_set_out(c, 2, c->in[0]->dtype, 3, state[p->layout], st);
}

/* ---- running ------------------------------------------------------------------------------ */

typedef struct direction {
    bool reverse;
    const eng_rnn_act *acts;
    const float *w, *r, *peep;
    float *bias_x, *bias_r; /* of the whole x product; of the candidate's h product (reset_after) or NULL */
    float *xw;              /* [steps * batch][gates * hidden], rows as X has them */
    float *h[2], *cell, *gates, *reset; /* [batch][...]; h alternates */
} direction;

typedef struct job {
    const eng_rnn_params *p;
    eng_rnn_size s;
    const float *x;
    const int32_t *lens;
    float *y;
    direction dir[ENG_RNN_DIRS];
    int64_t col_parts, row_blocks; /* of the x product */
    int64_t parts, part;           /* of the hidden units in a step, and one's width */
    int64_t step;
    int phase;
    const eng_kernels *k;
} job;

static void apply(const job *j, const eng_rnn_act *a, float *x, int64_t n)
{
    switch (a->kind) {
    case ENG_RNN_AFFINE:
        for (int64_t i = 0; i < n; i++) x[i] = a->alpha * x[i] + a->beta;
        break;
    case ENG_RNN_THRESHOLD:
        for (int64_t i = 0; i < n; i++) x[i] = x[i] > a->alpha ? x[i] : 0.0f;
        break;
    case ENG_RNN_SCALED_TANH:
        for (int64_t i = 0; i < n; i++) x[i] *= a->beta;
        j->k->tanh_f32(x, x, n);
        for (int64_t i = 0; i < n; i++) x[i] *= a->alpha;
        break;
    case ENG_RNN_SOFTSIGN:
        for (int64_t i = 0; i < n; i++) x[i] /= 1.0f + fabsf(x[i]);
        break;
    default: j->k->act_f32((eng_act)a->kind, a->alpha, a->beta, x, x, n);
    }
}

/* The activation of a clipped gate. */
static void gate(const job *j, const eng_rnn_act *a, float *z, int64_t n)
{
    float clip = j->p->clip;
    if (clip < INFINITY)
        for (int64_t i = 0; i < n; i++) z[i] = z[i] > clip ? clip : z[i] < -clip ? -clip : z[i];
    apply(j, a, z, n);
}

static void add(float *z, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) z[i] += x[i];
}

static void add_product(float *z, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) z[i] += a[i] * b[i];
}

/* One batch row of a step, hidden units from .. from + n; z are its gates with h R in them, x those of the
 * input, both at `from`. h is the state before, `next` the one after. */
static void rnn_row(const job *j, const direction *d, float *z, const float *x, float *next, int64_t n)
{
    add(z, x, n);
    gate(j, &d->acts[0], z, n);
    memcpy(next, z, (size_t)n * sizeof *z);
}

static void lstm_row(const job *j, const direction *d, float *z, const float *x, float *cell, float *next, int64_t from,
                     int64_t n)
{
    int64_t h = j->s.hidden;
    float *in = z, *out = z + h, *forget = z + 2 * h, *cand = z + 3 * h;
    const float *peep = d->peep ? d->peep + from : NULL;
    for (int k = 0; k < 4; k++) add(z + k * h, x + k * h, n);
    if (peep) {
        add_product(in, peep, cell, n);
        add_product(forget, peep + 2 * h, cell, n);
    }
    gate(j, &d->acts[0], in, n);
    if (j->p->input_forget)
        for (int64_t i = 0; i < n; i++) forget[i] = 1.0f - in[i];
    else gate(j, &d->acts[0], forget, n);
    gate(j, &d->acts[1], cand, n);
    for (int64_t i = 0; i < n; i++) cand[i] = cell[i] = forget[i] * cell[i] + in[i] * cand[i];
    if (peep) add_product(out, peep + h, cell, n);
    gate(j, &d->acts[0], out, n);
    apply(j, &d->acts[2], cand, n);
    for (int64_t i = 0; i < n; i++) next[i] = out[i] * cand[i];
}

/* Phase 0 gives update and reset, and with reset_after all; phase 1 the candidate from the reset state. */
static void gru_row(const job *j, const direction *d, float *z, const float *x, const float *h, float *reset, float *next,
                    int64_t from, int64_t n)
{
    int64_t hidden = j->s.hidden;
    float *update = z, *r = z + hidden, *cand = z + 2 * hidden;
    if (j->phase == 0) {
        add(update, x, n);
        add(r, x + hidden, n);
        gate(j, &d->acts[0], update, n);
        gate(j, &d->acts[0], r, n);
        if (!j->p->reset_after) {
            for (int64_t i = 0; i < n; i++) reset[i] = r[i] * h[i];
            return;
        }
        add(cand, d->bias_r + from, n);
        for (int64_t i = 0; i < n; i++) cand[i] *= r[i];
    }
    add(cand, x + 2 * hidden, n);
    gate(j, &d->acts[1], cand, n);
    for (int64_t i = 0; i < n; i++) next[i] = (1.0f - update[i]) * cand[i] + update[i] * h[i];
}

static int64_t x_row(const job *j, int64_t t, int64_t b)
{
    return j->p->layout ? b * j->s.steps + t : t * j->s.batch + b;
}

static void store(const job *j, int which, int64_t t, int64_t b, const float *next, int64_t from, int64_t n)
{
    const eng_rnn_size *s = &j->s;
    if (!j->y) return;
    int64_t row = j->p->layout ? (b * s->steps + t) * s->dirs + which : (t * s->dirs + which) * s->batch + b;
    memcpy(j->y + row * s->hidden + from, next, (size_t)n * sizeof *next);
}

/* Units from .. from + n of direction `which` in step j->step, phase j->phase. */
static void step_part(const job *j, int which, int64_t from, int64_t n)
{
    const direction *d = &j->dir[which];
    const eng_rnn_size *s = &j->s;
    int64_t hidden = s->hidden, width = j->p->gates * hidden;
    bool gru = j->p->kind == ENG_RNN_GRU;
    const float *h = d->h[j->step & 1];
    float *next = d->h[~j->step & 1];
    int first = gru && j->phase ? 2 : 0, last = gru && !j->phase && !j->p->reset_after ? 2 : j->p->gates;
    for (int k = first; k < last; k++) {
        eng_gemm m = {.m = s->batch, .n = n, .segments = 1, .length = hidden, .a = gru && j->phase ? d->reset : h,
                      .lda = hidden, .b = d->r + k * eng_packed_floats(hidden, hidden) + from * hidden,
                      .c = d->gates + k * hidden + from, .ldc = width};
        j->k->gemm_f32(&m);
    }
    for (int64_t b = 0; b < s->batch; b++) {
        int64_t length = j->lens ? j->lens[b] : s->steps, at = b * hidden + from;
        if (j->step >= length) { /* its sequence is over: the state stays */
            memcpy(next + at, h + at, (size_t)n * sizeof *h);
            continue;
        }
        int64_t t = d->reverse ? length - 1 - j->step : j->step;
        float *z = d->gates + b * width + from;
        const float *x = d->xw + x_row(j, t, b) * width + from;
        if (j->p->kind == ENG_RNN_LSTM) lstm_row(j, d, z, x, d->cell + at, next + at, from, n);
        else if (gru) gru_row(j, d, z, x, h + at, d->reset + at, next + at, from, n);
        else rnn_row(j, d, z, x, next + at, n);
        if (!gru || j->phase || j->p->reset_after) store(j, which, t, b, next + at, from, n);
    }
}

static void step_chunk(void *arg, int64_t chunk, int slot)
{
    const job *j = arg;
    int64_t from = chunk % j->parts * j->part;
    (void)slot;
    step_part(j, (int)(chunk / j->parts), from, od_min_i64(j->part, j->s.hidden - from));
}

static int phases(const job *j)
{
    return j->p->kind == ENG_RNN_GRU && !j->p->reset_after ? 2 : 1;
}

static void direction_chunk(void *arg, int64_t chunk, int slot)
{
    job j = *(const job *)arg;
    (void)slot;
    for (j.step = 0; j.step < j.s.steps; j.step++)
        for (j.phase = 0; j.phase < phases(&j); j.phase++) step_part(&j, (int)chunk, 0, j.s.hidden);
}

static void run_steps(job *j, od_pool *pool)
{
    const eng_rnn_size *s = &j->s;
    enum { WORTH = 400000 }; /* multiply-adds of a step that pay for a region */
    bool large = (double)s->batch * (double)s->hidden * (double)s->hidden * j->p->gates >= WORTH;
    if (!large || s->dirs >= od_pool_slots(pool)) {
        od_pool_for(pool, s->dirs, direction_chunk, j);
        return;
    }
    int64_t panels = od_ceil_div(s->hidden, ENG_NR);
    j->part = od_ceil_div(panels, eng_chunks(panels, 4)) * ENG_NR;
    j->parts = od_ceil_div(s->hidden, j->part);
    for (j->step = 0; j->step < s->steps; j->step++)
        for (j->phase = 0; j->phase < phases(j); j->phase++) od_pool_for(pool, s->dirs * j->parts, step_chunk, j);
}

static void x_chunk(void *arg, int64_t chunk, int slot)
{
    const job *j = arg;
    (void)slot;
    int64_t width = j->p->gates * j->s.hidden, rows = j->s.steps * j->s.batch;
    int64_t panels = od_ceil_div(width, ENG_NR), part = od_ceil_div(panels, j->col_parts) * ENG_NR;
    int64_t col = chunk % j->col_parts * part, row = chunk / j->col_parts % j->row_blocks * ROWS;
    const direction *d = &j->dir[chunk / j->col_parts / j->row_blocks];
    if (col >= width) return;
    eng_gemm m = {.m = od_min_i64(ROWS, rows - row), .n = od_min_i64(part, width - col), .segments = 1,
                  .length = j->s.input, .a = j->x + row * j->s.input, .lda = j->s.input, .b = d->w + col * j->s.input,
                  .bias = d->bias_x + col, .c = d->xw + row * width + col, .ldc = width};
    j->k->gemm_f32(&m);
}

/* Both biases are added with the input where that is the same; a GRU that resets after the product adds
 * its candidate's recurrent one there. */
static void add_biases(const job *j, direction *d, const float *b)
{
    int64_t hidden = j->s.hidden, width = j->p->gates * hidden;
    if (!b) return;
    for (int64_t i = 0; i < width; i++) {
        bool apart = j->p->kind == ENG_RNN_GRU && j->p->reset_after && i >= 2 * hidden;
        d->bias_x[i] = apart ? b[i] : b[i] + b[width + i];
        if (apart) d->bias_r[i - 2 * hidden] = b[width + i];
    }
}

/* The state of direction `which` as dense rows, from or to an input or output that may be batch-major. */
static void copy_state(const job *j, int which, float *dense, float *outer, bool out)
{
    int64_t h = j->s.hidden, dirs = j->s.dirs;
    for (int64_t b = 0; b < j->s.batch; b++) {
        float *at = outer + (j->p->layout ? b * dirs + which : which * j->s.batch + b) * h;
        memcpy(out ? at : dense + b * h, out ? dense + b * h : at, (size_t)h * sizeof *at);
    }
}

static od_code init_direction(eng_ctx *c, job *j, int which, od_status *st)
{
    const eng_rnn_params *p = j->p;
    const eng_rnn_size *s = &j->s;
    direction *d = &j->dir[which];
    od_arena *a = c->scratch;
    int64_t width = p->gates * s->hidden, state = s->batch * s->hidden;
    *d = (direction){.reverse = p->reverse[which], .acts = p->acts[which]};
    if (p->w) d->w = p->w + which * eng_packed_floats(s->input, width);
    if (p->r) d->r = p->r + which * r_floats(p->gates, s->hidden);
    float *w = d->w ? NULL : od_arena_array(a, float, eng_packed_floats(s->input, width));
    float *r = d->r ? NULL : od_arena_array(a, float, r_floats(p->gates, s->hidden));
    d->bias_x = od_arena_array(a, float, width);
    d->bias_r = od_arena_array(a, float, s->hidden);
    d->xw = od_arena_alloc(a, (size_t)(s->steps * s->batch * width) * sizeof(float));
    for (int i = 0; i < 2; i++) d->h[i] = od_arena_array(a, float, state);
    d->cell = od_arena_array(a, float, state);
    d->reset = od_arena_array(a, float, state);
    d->gates = od_arena_array(a, float, s->batch * width);
    if ((!d->w && !w) || (!d->r && !r) || !d->bias_x || !d->bias_r || !d->xw || !d->h[0] || !d->h[1] || !d->cell ||
        !d->reset || !d->gates)
        return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " steps of %" PRId64 " gates", s->steps, width);
    if (w) {
        eng_gemm_pack((const float *)c->in[1]->data + which * width * s->input, 1, s->input, s->input, width, w);
        d->w = w;
    }
    if (r) {
        pack_r((const float *)c->in[2]->data + which * width * s->hidden, p->gates, s->hidden, r);
        d->r = r;
    }
    if (c->n_in > 3 && c->in[3]) add_biases(j, d, (const float *)c->in[3]->data + which * 2 * width);
    if (c->n_in > 5 && c->in[5]) copy_state(j, which, d->h[0], c->in[5]->data, false);
    if (p->kind != ENG_RNN_LSTM) return OD_OK;
    if (c->n_in > 6 && c->in[6]) copy_state(j, which, d->cell, c->in[6]->data, false);
    if (c->n_in > 7 && c->in[7]) d->peep = (const float *)c->in[7]->data + which * 3 * s->hidden;
    return OD_OK;
}

static od_code check_lengths(const int32_t *lens, const eng_rnn_size *s, od_status *st)
{
    for (int64_t b = 0; lens && b < s->batch; b++)
        if (lens[b] < 0 || lens[b] > s->steps)
            return od_fail(st, OD_BAD_VALUE, "sequence_lens[%" PRId64 "] is %d, X has %" PRId64 " steps", b, lens[b], s->steps);
    return OD_OK;
}

od_code eng_rnn_run(eng_ctx *c, od_status *st)
{
    const eng_rnn_params *p = c->node->params;
    job j = {.p = p, .k = eng_kernels_get(), .x = c->in[0]->data};
    OD_TRY(eng_rnn_sizes(c, p, &j.s, st));
    const eng_rnn_size *s = &j.s;
    j.lens = c->n_in > 4 && c->in[4] ? c->in[4]->data : NULL;
    OD_TRY(check_lengths(j.lens, s, st));
    if (c->in[0]->dtype == ENG_DOUBLE) return eng_rnn_run_double(c, p, s, st);
    j.y = c->n_out > 0 && c->out[0] ? c->out[0]->data : NULL;
    if (j.y && j.lens) memset(j.y, 0, eng_tensor_bytes(c->out[0]));
    for (int d = 0; d < s->dirs; d++) OD_TRY(init_direction(c, &j, d, st));
    j.row_blocks = od_ceil_div(s->steps * s->batch, ROWS);
    j.col_parts = s->dirs * j.row_blocks < 8 ? eng_chunks(od_ceil_div(p->gates * s->hidden, ENG_NR), 4) : 1;
    if (s->hidden && s->batch && s->steps) {
        od_pool_for(c->pool, s->dirs * j.row_blocks * j.col_parts, x_chunk, &j);
        run_steps(&j, c->pool);
    }
    for (int d = 0; d < s->dirs; d++) {
        if (c->n_out > 1 && c->out[1]) copy_state(&j, d, j.dir[d].h[s->steps & 1], c->out[1]->data, true);
        if (c->n_out > 2 && c->out[2]) copy_state(&j, d, j.dir[d].cell, c->out[2]->data, true);
    }
    return OD_OK;
}
