#include "server/protocols/views.h"

/* Views of the next run. */
static int64_t count(const srv_views *v)
{
    return od_min_i64(od_max_i64(v->model->max_batch_size, 1), v->picture->n_views - v->at);
}

/* What a run gave; is another one wanted? */
static bool take(srv_views *v)
{
    srv_job *job = &v->job;
    job->admitted = false;
    v->queue_ns += job->queue_ns;
    v->compute_ns += job->compute_ns;
    v->batch_rows = od_max_i64(v->batch_rows, job->batch_rows);
    if (v->picture->n_views == 1) v->outputs = job->outputs;
    else if (!job->st.code) srv_picture_take(v->picture, job->outputs, v->at, count(v), v->outputs, &job->st);
    v->at += count(v);
    return !job->st.code && v->at < v->picture->n_views;
}

static void end(srv_views *v)
{
    v->job.queue_ns = v->queue_ns;
    v->job.compute_ns = v->compute_ns;
    v->job.batch_rows = v->batch_rows;
    v->done(v);
}

static od_code next(srv_views *v, od_status *st)
{
    srv_batcher *b = v->model->batcher;
    do {
        if (v->picture->n_views > 1) srv_picture_views(v->picture, v->at, count(v), v->inputs);
        if (!v->here || !srv_batcher_run_now(b, &v->job)) return srv_batcher_submit(b, &v->job, st);
    } while (take(v));
    end(v);
    return OD_OK;
}

static void ran(srv_job *job)
{
    srv_views *v = job->arg;
    od_status st = {0};
    if (take(v) && next(v, &st) == OD_OK) return;
    if (st.code) job->st = st;
    end(v);
}

od_code srv_views_run(srv_views *v, od_status *st)
{
    const srv_picture *p = v->picture;
    v->inputs = p->inputs;
    if (p->n_views > 1) {
        v->inputs = od_arena_array(v->job.arena, eng_tensor, p->n_inputs);
        v->outputs = od_arena_array(v->job.arena, eng_tensor, p->n_views * p->n_outputs);
        if (!v->inputs || !v->outputs) {
            if (v->job.admitted) srv_batcher_leave(v->model->batcher);
            return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " crops", p->n_views);
        }
    }
    v->job.inputs = v->inputs;
    v->job.done = ran;
    v->job.arg = v;
    return next(v, st);
}
