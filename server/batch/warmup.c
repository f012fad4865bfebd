#include "server/batch/warmup.h"
#include "engine/base/cpu.h"
#include "engine/base/log.h"
#include "server/cli/cli.h"

#include <stdio.h>
#include <string.h>

enum {
    SLOW_NS = 500000000,      /* a run of one row that takes longer is not measured at other sizes */
    BUDGET_NS = 600000000,    /* of measuring */
    ROUNDS = 3,
    RUN_COST_NS = 5000,       /* of a run beside the network: scheduling, locks */
    INPUT_BYTES = 96 << 20    /* of made-up input */
};

/* A larger run must do a row in this share of a smaller one's time to be worth its latency. */
static const double PAYS = 0.9;

int64_t srv_warmup_size(int64_t rows)
{
    int64_t size = 1;
    while (size * 2 <= rows) size *= 2;
    return rows >= size + size / 2 ? size + size / 2 : size; /* 1 2 3 4 6 8 12 16 24 .. */
}

/* Does the model leave one and the same first extent free in all inputs, and give plain tensors? */
static bool declares_batch(const eng_model *m)
{
    const eng_graph *g = m->graph;
    const char *name = NULL;
    int free_inputs = 0;
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        if (v->constant) continue;
        if (v->rank < 1 || v->dims[0] >= 0 || v->dtype >= ENG_SEQUENCE) return false;
        const char *own = eng_dim_name(v, 0);
        if (name && own && strcmp(name, own)) return false;
        if (own) name = own;
        free_inputs++;
    }
    for (int k = 0; k < g->n_outputs; k++) {
        const eng_value *v = &g->values[g->outputs[k]];
        if (v->constant || v->dtype >= ENG_SEQUENCE || v->rank == 0 || (v->rank > 0 && v->dims[0] >= 0)) return false;
    }
    return free_inputs && g->n_outputs;
}

static bool all_but_batch_fixed(const eng_model *m)
{
    for (int i = 0; i < m->graph->n_inputs; i++) {
        const eng_value *v = &m->graph->values[m->graph->inputs[i]];
        if (v->rank < 0 && !v->constant) return false;
        for (int d = 1; d < v->rank; d++)
            if (v->dims[d] < 0) return false;
    }
    return true;
}

typedef struct trial {
    const eng_model *model;
    eng_session *session;
    eng_tensor *inputs; /* of all rows */
    int64_t rows;
    eng_tensor *view, *outputs;
    od_arena *arena;
} trial;

/* Inputs of `rows` rows in at most INPUT_BYTES, of fewer where they are large; t->rows says how many. */
static od_code make_inputs(trial *t, const srv_batch_options *o, int64_t rows, od_status *st)
{
    const eng_graph *g = t->model->graph;
    for (;; rows /= 2) {
        char line[512];
        const char *lines[] = {line};
        bool given = o->picture_dims[1] > 0;
        od_arena_reset(t->arena);
        t->inputs = od_arena_array(t->arena, eng_tensor, g->n_inputs);
        t->view = od_arena_array(t->arena, eng_tensor, g->n_inputs);
        t->outputs = od_arena_array(t->arena, eng_tensor, g->n_outputs);
        if (!t->inputs || !t->view || !t->outputs) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", g->n_inputs);
        if (given) {
            const eng_value *v = &g->values[g->inputs[o->picture_input]];
            snprintf(line, sizeof line, "%s=%" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64, v->name, v->dims[0] < 0 ? rows : v->dims[0],
                     o->picture_dims[1], o->picture_dims[2], o->picture_dims[3]);
        }
        t->rows = rows;
        od_code rc = srv_cli_make_inputs(t->model, lines, given, rows, t->arena, t->inputs, st);
        if (rc != OD_NO_MEMORY || rows == 1) return rc;
    }
}

/* Rows from .. from + n of the made-up input. */
static od_code run_rows(trial *t, int64_t from, int64_t n, bool batched, int64_t *ns, od_status *st)
{
    for (int i = 0; i < t->model->graph->n_inputs; i++) {
        eng_tensor *v = &t->view[i];
        *v = t->inputs[i];
        if (!batched || !v->data) continue;
        int64_t row = eng_tensor_count(v) / v->dims[0];
        v->data = (char *)v->data + (size_t)(from * row) * eng_dtype_size(v->dtype);
        v->dims[0] = n;
    }
    int64_t begin = od_now_ns();
    od_code rc = eng_session_run(t->session, t->view, t->outputs, st);
    *ns = od_now_ns() - begin;
    return rc;
}

/* Is `n` elements of `a` near those of `b`? Rows that influence each other are far apart. */
static bool near(const eng_tensor *a, const eng_tensor *b, int64_t b_from)
{
    int64_t n = eng_tensor_count(a);
    if (a->dtype == ENG_STRING) return true;
    double scale = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = eng_tensor_double(a, i);
        if (x > scale) scale = x;
        if (-x > scale) scale = -x;
    }
    for (int64_t i = 0; i < n; i++) {
        double x = eng_tensor_double(a, i), y = eng_tensor_double(b, b_from + i), d = x > y ? x - y : y - x;
        if (d > 1e-3 * scale || (x != x) != (y != y)) return false;
    }
    return true;
}

/* Do two rows together give what each gives alone? */
static bool rows_are_independent(trial *t, od_status *st)
{
    int n = t->model->graph->n_outputs;
    int64_t ns;
    eng_tensor *alone[2] = {od_arena_array(t->arena, eng_tensor, n), od_arena_array(t->arena, eng_tensor, n)};
    if (!alone[0] || !alone[1]) return false;
    for (int r = 0; r < 2; r++) {
        if (run_rows(t, r, 1, true, &ns, st) != OD_OK) return false;
        for (int k = 0; k < n; k++) {
            if (t->outputs[k].rank < 1 || t->outputs[k].dims[0] != 1 || t->outputs[k].dtype >= ENG_COMPLEX64) {
                if (t->outputs[k].dtype != ENG_BFLOAT16) return false;
            }
            if (eng_tensor_copy(&alone[r][k], &t->outputs[k], t->arena, st) != OD_OK) return false;
        }
    }
    if (run_rows(t, 0, 2, true, &ns, st) != OD_OK) return false;
    for (int k = 0; k < n; k++) {
        const eng_tensor *both = &t->outputs[k];
        if (both->rank != alone[0][k].rank || both->dims[0] != 2) return false;
        for (int d = 1; d < both->rank; d++)
            if (both->dims[d] != alone[0][k].dims[d] || both->dims[d] != alone[1][k].dims[d]) return false;
        if (!near(&alone[0][k], both, 0) || !near(&alone[1][k], both, eng_tensor_count(&alone[0][k]))) return false;
    }
    return true;
}

/* One run's time; of short ones, the best of some. */
static od_code time_rows(trial *t, int64_t rows, int64_t *best, od_status *st)
{
    int64_t spent = 0, ns;
    for (int i = 0; i < 8 && (!i || spent < 1000000); i++) {
        OD_TRY(run_rows(t, 0, rows, true, &ns, st));
        spent += ns;
        *best = od_min_i64(*best, ns);
    }
    return OD_OK;
}

/* The smallest size whose rows take not much longer than any other's. Sizes are timed in turn, several times, since
 * something else may run on this machine. */
static int64_t measure_sizes(trial *t, int64_t max_rows, int64_t *run_ns)
{
    int64_t best[32];
    double least = 0;
    int n = 0;
    for (int64_t rows = 1; rows <= max_rows && n < (int)OD_COUNT(best); rows *= 2) {
        if (n && rows * 2 * ROUNDS * *run_ns > BUDGET_NS) break;
        best[n++] = INT64_MAX;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < n; i++) {
            od_status st = {0};
            if (time_rows(t, (int64_t)1 << i, &best[i], &st) != OD_OK) n = i; /* it has not the memory for more */
        }
    }
    if (!n) return 1;
    *run_ns = best[0];
    for (int i = 0; i < n; i++) {
        double per_row = (double)(best[i] + RUN_COST_NS) / (double)((int64_t)1 << i);
        if (!i || per_row < least) least = per_row;
    }
    for (int i = 0; i < n; i++) {
        int64_t rows = (int64_t)1 << i;
        if ((double)(best[i] + RUN_COST_NS) / (double)rows * PAYS <= least) return rows * 2 > max_rows ? max_rows : rows;
    }
    return 1;
}

/* An error that no other input could avoid. */
static bool hopeless(const eng_model *m, od_code rc)
{
    if (rc == OD_UNSUPPORTED || rc == OD_NO_MEMORY || rc == OD_INTERNAL) return true;
    return (rc == OD_BAD_SHAPE || rc == OD_BAD_TYPE || rc == OD_BAD_MODEL) && all_but_batch_fixed(m);
}

static od_code observe(trial *t, bool batched, srv_warmup *out, od_status *st)
{
    const eng_graph *g = t->model->graph;
    int64_t ns;
    od_status own = {0};
    if (run_rows(t, 0, 1, batched, &ns, &own) != OD_OK) {
        if (hopeless(t->model, own.code)) {
            *st = own;
            return od_note(st, "the first run, on made-up input");
        }
        od_log(OD_DEBUG, "no warm-up, made-up input does not suit the model: %s", own.msg);
        return OD_OK;
    }
    for (int i = 0; i < g->n_inputs; i++) out->elements += t->view[i].data ? eng_tensor_count(&t->view[i]) : 0;
    OD_TRY(run_rows(t, 0, 1, batched, &out->run_ns, st)); /* the first one made the plan */
    out->independent = batched && rows_are_independent(t, &own);
    if (out->independent && out->run_ns < SLOW_NS) out->rows = measure_sizes(t, t->rows, &out->run_ns);
    return OD_OK;
}

od_code srv_warmup_run(eng_model *model, const srv_batch_options *o, srv_warmup *out, od_status *st)
{
    bool batched = o->max_batch_size > 1 && declares_batch(model);
    od_arena arena;
    od_arena_init(&arena, INPUT_BYTES);
    trial t = {.model = model, .arena = &arena};
    od_status own = {0};
    od_code rc;
    *out = (srv_warmup){.rows = 1};
    if ((rc = eng_session_create(&t.session, model, NULL, o->memory_limit, st)) != OD_OK) goto done;
    if (make_inputs(&t, o, batched ? o->max_batch_size : 1, &own) != OD_OK) {
        od_log(OD_DEBUG, "no warm-up: %s", own.msg);
        goto done;
    }
    batched = batched && t.rows > 1;
    arena.limit = 0; /* the rest is copies of outputs */
    rc = observe(&t, batched, out, st);
    out->bytes = eng_session_bytes(t.session);
done:
    eng_session_destroy(t.session);
    od_arena_fini(&arena);
    return rc;
}
