/* rnn_double.c - RNN, GRU and LSTM of doubles: the definition, one direction of one item after the other. */
#include "engine/ops/rnn.h"

#include <math.h>
#include <string.h>

static double act(const eng_rnn_act *f, double x)
{
    double a = (double)f->alpha, b = (double)f->beta;
    switch (f->kind) {
    case ENG_ACT_RELU: return x > 0 ? x : 0;
    case ENG_ACT_TANH: return tanh(x);
    case ENG_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case ENG_ACT_LEAKY_RELU: return x < 0 ? a * x : x;
    case ENG_ACT_HARD_SIGMOID: return fmax(0, fmin(1, a * x + b));
    case ENG_ACT_ELU: return x < 0 ? a * (exp(x) - 1) : x;
    case ENG_ACT_SOFTPLUS: return x > 30 ? x + log1p(exp(-x)) : log1p(exp(x));
    case ENG_RNN_AFFINE: return a * x + b;
    case ENG_RNN_THRESHOLD: return x > a ? x : 0;
    case ENG_RNN_SCALED_TANH: return a * tanh(b * x);
    default: return x / (1 + fabs(x)); /* ENG_RNN_SOFTSIGN */
    }
}

/* One direction of one item. */
typedef struct lane {
    const eng_rnn_params *p;
    const eng_rnn_act *acts;
    const double *w, *r, *b, *peep; /* b, peep: NULL when absent */
    int64_t input, hidden;
    double *h, *cell, *gates, *reset;
} lane;

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static double gate(const lane *l, int which, double x)
{
    double clip = (double)l->p->clip;
    return act(&l->acts[which], x > clip ? clip : x < -clip ? -clip : x);
}

/* W x + R h + both biases for row `k` of the gates; `h` NULL: without the recurrent part. */
static double row(const lane *l, int64_t k, const double *x, const double *h)
{
    int64_t rows = l->p->gates * l->hidden;
    double sum = dot(l->w + k * l->input, x, l->input) + (l->b ? l->b[k] : 0);
    return h ? sum + dot(l->r + k * l->hidden, h, l->hidden) + (l->b ? l->b[rows + k] : 0) : sum;
}

static void gru_step(const lane *l, const double *x)
{
    int64_t n = l->hidden, rows = 3 * n;
    double *update = l->gates, *reset = l->gates + n, *cand = l->gates + 2 * n;
    for (int64_t i = 0; i < n; i++) update[i] = gate(l, 0, row(l, i, x, l->h));
    for (int64_t i = 0; i < n; i++) reset[i] = gate(l, 0, row(l, n + i, x, l->h));
    for (int64_t i = 0; i < n; i++) l->reset[i] = reset[i] * l->h[i];
    for (int64_t i = 0; i < n; i++) {
        int64_t k = 2 * n + i;
        double z;
        if (l->p->reset_after) z = row(l, k, x, NULL) + reset[i] * (dot(l->r + k * n, l->h, n) + (l->b ? l->b[rows + k] : 0));
        else z = row(l, k, x, l->reset);
        cand[i] = gate(l, 1, z);
    }
    for (int64_t i = 0; i < n; i++) l->h[i] = (1 - update[i]) * cand[i] + update[i] * l->h[i];
}

static void lstm_step(const lane *l, const double *x)
{
    int64_t n = l->hidden;
    for (int64_t k = 0; k < 4 * n; k++) l->gates[k] = row(l, k, x, l->h);
    for (int64_t i = 0; i < n; i++) { /* input, output, forget, candidate */
        const double *z = l->gates + i;
        double peep_in = l->peep ? l->peep[i] * l->cell[i] : 0, peep_forget = l->peep ? l->peep[2 * n + i] * l->cell[i] : 0;
        double in = gate(l, 0, z[0] + peep_in);
        double forget = l->p->input_forget ? 1 - in : gate(l, 0, z[2 * n] + peep_forget);
        l->cell[i] = forget * l->cell[i] + in * gate(l, 1, z[3 * n]);
        double out = gate(l, 0, z[n] + (l->peep ? l->peep[n + i] * l->cell[i] : 0));
        l->h[i] = out * act(&l->acts[2], l->cell[i]);
    }
}

static void rnn_step(const lane *l, const double *x)
{
    for (int64_t i = 0; i < l->hidden; i++) l->gates[i] = gate(l, 0, row(l, i, x, l->h));
    memcpy(l->h, l->gates, (size_t)l->hidden * sizeof *l->h);
}

static const double *data_of(const eng_ctx *c, int i)
{
    return i < c->n_in && c->in[i] ? c->in[i]->data : NULL;
}

static double *out_of(const eng_ctx *c, int k)
{
    return k < c->n_out && c->out[k] ? c->out[k]->data : NULL;
}

od_code eng_rnn_run_double(eng_ctx *c, const eng_rnn_params *p, const eng_rnn_size *s, od_status *st)
{
    const double *x = data_of(c, 0), *b = data_of(c, 3), *h0 = data_of(c, 5), *c0 = data_of(c, 6), *peep = data_of(c, 7);
    const int32_t *lens = c->n_in > 4 && c->in[4] ? c->in[4]->data : NULL;
    double *y = out_of(c, 0), *last = out_of(c, 1), *last_cell = out_of(c, 2);
    int64_t n = s->hidden, rows = p->gates * n;
    size_t bytes = (size_t)n * sizeof *x;
    double *work = od_arena_array(c->scratch, double, 3 * n + rows);
    if (!work) return od_fail(st, OD_NO_MEMORY, "no memory for a state of %" PRId64, n);
    if (y && lens) memset(y, 0, eng_tensor_bytes(c->out[0]));
    for (int64_t k = 0; k < s->dirs * s->batch; k++) {
        int64_t d = k / s->batch, item = k % s->batch, state = (p->layout ? item * s->dirs + d : k) * n;
        int64_t length = lens ? lens[item] : s->steps;
        lane l = {.p = p, .acts = p->acts[d], .w = data_of(c, 1) + d * rows * s->input, .r = data_of(c, 2) + d * rows * n, .b = b ? b + d * 2 * rows : NULL,
                  .peep = p->kind == ENG_RNN_LSTM && peep ? peep + d * 3 * n : NULL, .input = s->input, .hidden = n, .h = work, .cell = work + n,
                  .reset = work + 2 * n, .gates = work + 3 * n};
        memset(work, 0, 2 * bytes);
        if (h0) memcpy(l.h, h0 + state, bytes);
        if (c0 && p->kind == ENG_RNN_LSTM) memcpy(l.cell, c0 + state, bytes);
        for (int64_t i = 0; i < length; i++) {
            int64_t t = p->reverse[d] ? length - 1 - i : i;
            const double *now = x + (p->layout ? item * s->steps + t : t * s->batch + item) * s->input;
            (p->kind == ENG_RNN_LSTM ? lstm_step : p->kind == ENG_RNN_GRU ? gru_step : rnn_step)(&l, now);
            int64_t at = p->layout ? (item * s->steps + t) * s->dirs + d : (t * s->dirs + d) * s->batch + item;
            if (y) memcpy(y + at * n, l.h, bytes);
        }
        if (last) memcpy(last + state, l.h, bytes);
        if (last_cell) memcpy(last_cell + state, l.cell, bytes);
    }
    return OD_OK;
}
