#include "server/batch/runner.h"
#include "engine/base/cpu.h"

#include <stdlib.h>
#include <string.h>

od_code srv_runner_create(srv_runner **out, eng_model *model, od_pool *pool, size_t memory_limit, od_budget *budget, od_status *st)
{
    srv_runner *r = calloc(1, sizeof *r);
    if (r) r->outputs = calloc((size_t)model->graph->n_outputs + 1, sizeof *r->outputs);
    if (!r || !r->outputs) {
        srv_runner_destroy(r);
        return od_fail(st, OD_NO_MEMORY, "no memory for a session");
    }
    r->model = model;
    r->budget = budget;
    od_arena_init(&r->arena, memory_limit);
    if (eng_session_create(&r->session, model, pool, memory_limit, st) != OD_OK) {
        srv_runner_destroy(r);
        return st->code;
    }
    *out = r;
    return OD_OK;
}

void srv_runner_destroy(srv_runner *r)
{
    if (!r) return;
    od_budget_give(r->budget, r->charged);
    eng_session_destroy(r->session);
    od_arena_fini(&r->arena);
    free(r->outputs);
    free(r);
}

size_t srv_runner_count(srv_runner *r)
{
    size_t bytes = eng_session_bytes(r->session) + od_arena_bytes(&r->arena);
    if (bytes == r->charged) return bytes;
    od_budget_charge(r->budget, bytes);
    od_budget_give(r->budget, r->charged);
    return r->charged = bytes;
}

bool srv_inputs_agree(const eng_tensor *a, const eng_tensor *b, int n)
{
    for (int i = 0; i < n; i++) {
        if (!a[i].data != !b[i].data) return false;
        if (!a[i].data) continue;
        if (a[i].dtype != b[i].dtype || a[i].rank != b[i].rank || a[i].layout != b[i].layout) return false;
        if (a[i].layout == ENG_CL && (a[i].pitch != a[i].dims[1] || b[i].pitch != b[i].dims[1])) return false;
        for (int d = 1; d < a[i].rank; d++)
            if (a[i].dims[d] != b[i].dims[d]) return false;
    }
    return true;
}

/* One input of all jobs, rows one behind the other; the first extent is outermost in either layout. */
static od_code gather(srv_runner *r, const srv_job *first, int64_t rows, int i, eng_tensor *out, od_status *st)
{
    *out = first->inputs[i];
    if (!out->data) return OD_OK; /* its default */
    out->dims[0] = rows;
    int64_t count;
    if (!eng_dims_count(out->rank, out->dims, &count)) return od_fail(st, OD_BAD_SHAPE, "the batch is too large");
    char *to = od_arena_alloc(&r->arena, eng_tensor_bytes(out));
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for a batch of %" PRId64 " rows", rows);
    out->data = to;
    for (const srv_job *job = first; job; job = job->next) {
        size_t bytes = eng_tensor_bytes(&job->inputs[i]);
        memcpy(to, job->inputs[i].data, bytes);
        to += bytes;
    }
    return OD_OK;
}

static bool all_cancelled(void *arg)
{
    for (srv_job *job = arg; job; job = job->next)
        if (!atomic_load_explicit(&job->cancelled, memory_order_relaxed)) return false;
    return true;
}

/* Rows `from` .. of the run's outputs into the job's arena. */
static od_code give_outputs(const srv_runner *r, srv_job *job, int64_t from, bool whole, od_status *st)
{
    int n = r->model->graph->n_outputs;
    job->outputs = od_arena_array(job->arena, eng_tensor, n);
    if (!job->outputs) return od_fail(st, OD_NO_MEMORY, "no memory for %d outputs", n);
    for (int k = 0; k < n; k++) {
        eng_tensor view = r->outputs[k];
        if (!whole) {
            int64_t row = view.dims[0] ? eng_tensor_count(&view) / view.dims[0] : 0;
            view.data = (char *)view.data + (size_t)(from * row) * eng_dtype_size(view.dtype);
            view.dims[0] = job->rows;
        }
        if (job->wanted && !job->wanted[k]) view.data = NULL;
        if (eng_tensor_copy(&job->outputs[k], &view, job->arena, st) != OD_OK)
            return od_note(st, "output '%s'", r->model->graph->values[r->model->graph->outputs[k]].name);
    }
    return OD_OK;
}

static od_code run_together(srv_runner *r, srv_job *first, int64_t rows, od_status *st)
{
    const eng_graph *g = r->model->graph;
    int64_t from_ns = od_now_ns();
    od_arena_reset(&r->arena);
    eng_tensor *inputs = od_arena_array(&r->arena, eng_tensor, g->n_inputs);
    if (!inputs) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", g->n_inputs);
    for (int i = 0; i < g->n_inputs; i++) OD_TRY(gather(r, first, rows, i, &inputs[i], st));
    r->gather_ns = od_now_ns() - from_ns;
    OD_TRY(eng_session_run(r->session, inputs, r->outputs, st));
    for (int k = 0; k < g->n_outputs; k++)
        if (r->outputs[k].rank < 1 || r->outputs[k].dims[0] != rows)
            return od_fail(st, OD_BAD_SHAPE, "output %d does not follow the batch", k);
    return OD_OK;
}

/* The job's part of a run that began at `from_ns` and whose outputs were there at `ran_ns`. */
static void finish(srv_job *job, const od_status *st, int64_t from_ns, int64_t ran_ns, int64_t gather_ns, int64_t rows)
{
    int64_t now = od_now_ns();
    job->st = *st;
    job->ended_ns = now;
    job->compute_ns = now - from_ns;
    job->gather_ns = gather_ns;
    job->give_ns = now - ran_ns;
    job->batch_rows = rows;
}

static void run_alone(srv_runner *r, srv_job *job)
{
    od_status st = {0};
    int64_t from_ns = od_now_ns();
    srv_job *next = job->next;
    job->next = NULL; /* all_cancelled looks at this one alone */
    eng_session_set_cancel(r->session, all_cancelled, job);
    od_code rc = eng_session_run(r->session, job->inputs, r->outputs, &st);
    int64_t ran_ns = od_now_ns();
    if (rc == OD_OK) give_outputs(r, job, 0, true, &st);
    eng_session_set_cancel(r->session, NULL, NULL);
    job->next = next;
    finish(job, &st, from_ns, ran_ns, 0, job->rows);
}

int srv_runner_run(srv_runner *r, srv_job *first, int n, int64_t rows)
{
    if (n == 1) {
        run_alone(r, first);
        return 1;
    }
    od_status st = {0};
    int64_t from_ns = od_now_ns(), row = 0;
    eng_session_set_cancel(r->session, all_cancelled, first);
    od_code rc = run_together(r, first, rows, &st);
    eng_session_set_cancel(r->session, NULL, NULL);
    if (rc != OD_OK && rc != OD_CANCELLED) { /* one job's data may be at fault: each for itself */
        for (srv_job *job = first; job; job = job->next) run_alone(r, job);
        return n;
    }
    int64_t ran_ns = od_now_ns();
    for (srv_job *job = first; job; job = job->next) {
        od_status own = st;
        if (rc == OD_OK) give_outputs(r, job, row, false, &own);
        row += job->rows;
        finish(job, &own, from_ns, ran_ns, r->gather_ns, rows);
    }
    return 1;
}
