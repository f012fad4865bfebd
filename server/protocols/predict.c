/* predict.c - POST /v2/models/{m}/predict: pictures in, results out.
 *
 * A request takes its places in the model's queue before anything is decoded. Each picture then goes its own way
 * through decoding, the batcher and its task, with an arena of its own; the last one to arrive makes the reply. */
#include "server/protocols/predict.h"

#include "engine/base/cpu.h"
#include "server/protocols/chain.h"
#include "server/protocols/explain.h"
#include "server/protocols/infer.h"
#include "server/protocols/views.h"
#include "server/settings.h"

#include <stdlib.h>
#include <string.h>

typedef struct shot {
    struct srv_prediction *p;
    srv_piece bytes;
    od_arena own, *arena; /* the request's own when it is the only picture */
    srv_picture picture;
    srv_views views;
    int64_t waited_ns; /* for a worker to decode it; the job's own waiting comes behind that */
    srv_text json;
    srv_explaining *why;  /* NULL: nobody asks */
    srv_chaining *behind; /* NULL: no models behind this one */
    int64_t answered_ns, later_ns; /* when its own answer was there; what explaining or the models behind it took from then on */
    od_status st;
    int status;           /* HTTP status of an error that has its own */
} shot;

struct srv_prediction {
    srv_request *r;
    srv_model *model;
    srv_chain *chain;     /* NULL: it is alone */
    srv_query query;
    srv_pictures pictures;
    shot *shots;
    int n;
    atomic_int left;      /* pictures that have not arrived */
    void (*answer)(struct srv_prediction *p);
};

static void add_time(int64_t *sum, int64_t ns)
{
    *sum = od_max_i64(*sum, 0) + ns;
}

/* Times of all pictures: work adds up, waiting does not. */
static void take_times(srv_prediction *p)
{
    srv_request *r = p->r;
    for (int i = 0; i < p->n; i++) {
        const shot *s = &p->shots[i];
        add_time(&r->decode_ns, s->picture.decode_ns);
        add_time(&r->preprocess_ns, s->picture.preprocess_ns);
        add_time(&r->postprocess_ns, s->picture.postprocess_ns);
        if (s->why) r->explain_ns = od_max_i64(r->explain_ns, s->later_ns);
        if (s->behind) r->chain_ns = od_max_i64(r->chain_ns, s->later_ns);
        r->queue_ns = od_max_i64(r->queue_ns, s->waited_ns + s->views.job.queue_ns);
        r->compute_ns = od_max_i64(r->compute_ns, s->views.job.compute_ns);
        r->batch_rows = od_max_i64(r->batch_rows, s->views.job.batch_rows);
    }
}

int srv_prediction_count(const srv_prediction *p)
{
    return p->n;
}

bool srv_prediction_several(const srv_prediction *p)
{
    return p->pictures.several;
}

const srv_text *srv_prediction_result(const srv_prediction *p, int i)
{
    return &p->shots[i].json;
}

srv_request *srv_prediction_request(const srv_prediction *p)
{
    return p->r;
}

const srv_model *srv_prediction_model(const srv_prediction *p)
{
    return p->model;
}

static void conclude(srv_prediction *p)
{
    srv_request *r = p->r;
    const shot *bad = NULL;
    od_status st;
    for (int i = 0; i < p->n && !bad; i++)
        if (p->shots[i].st.code) bad = &p->shots[i];
    if (!bad) take_times(p);
    if (bad) {
        st = bad->st;
        r->reply.status = bad->status;
        if (p->pictures.several) od_note(&st, "picture %td", bad - p->shots);
        if (st.code == OD_BUSY) srv_queue_full(r, p->model->batcher);
    } else {
        p->answer(p);
    }
    for (int i = 0; i < p->n; i++) od_arena_fini(&p->shots[i].own);
    srv_chain_close(p->chain);
    srv_model_release(p->model);
    if (bad) srv_request_fail(r, &st);
    else srv_request_finish(r);
}

static void arrive(shot *s)
{
    srv_prediction *p = s->p;
    if (atomic_fetch_sub(&p->left, 1) == 1) conclude(p);
}

static void later_done(void *arg, const od_status *st)
{
    shot *s = arg;
    s->st = *st;
    s->later_ns = od_now_ns() - s->answered_ns;
    arrive(s);
}

static void explain(void *arg)
{
    shot *s = arg;
    srv_explain_run(s->why);
}

/* Takes a while, so the worker that made the run is not kept. */
static void begin_explaining(shot *s)
{
    const srv_prediction *p = s->p;
    s->why = od_arena_array(s->arena, srv_explaining, 1);
    if (!s->why) {
        od_fail(&s->st, OD_NO_MEMORY, "no memory for an explanation");
        arrive(s);
        return;
    }
    *s->why = (srv_explaining){.server = srv_server_of(p->r), .model = p->model, .query = &p->query, .picture = &s->picture, .outputs = s->views.outputs,
                               .cancelled = &s->views.job.cancelled, .since_ns = p->r->received_ns, .arena = s->arena, .json = &s->json,
                               .done = later_done, .arg = s};
    if (!od_pool_submit(srv_server_of(p->r)->pool, explain, s)) explain(s);
}

static void run_behind(void *arg)
{
    shot *s = arg;
    srv_chain_run(s->behind);
}

static void begin_chain(shot *s)
{
    const srv_prediction *p = s->p;
    s->behind = od_arena_array(s->arena, srv_chaining, 1);
    if (!s->behind) {
        od_fail(&s->st, OD_NO_MEMORY, "no memory for a chain");
        arrive(s);
        return;
    }
    *s->behind = (srv_chaining){.server = srv_server_of(p->r), .chain = p->chain, .picture = &s->picture, .cancelled = &s->views.job.cancelled,
                                .since_ns = p->r->received_ns, .arena = s->arena, .json = &s->json, .done = later_done, .arg = s};
    if (!od_pool_submit(srv_server_of(p->r)->pool, run_behind, s)) run_behind(s);
}

static void postprocess(void *arg)
{
    shot *s = arg;
    const srv_prediction *p = s->p;
    s->json = (srv_text){.arena = s->arena};
    od_code rc = srv_picture_answer(p->model->card, &s->picture, s->views.outputs, &p->query, s->arena, &s->json, &s->st);
    s->answered_ns = od_now_ns();
    srv_batcher_note_answer(p->model->batcher, s->picture.postprocess_ns);
    if (rc == OD_OK && p->query.explain) begin_explaining(s);
    else if (rc == OD_OK && p->chain) begin_chain(s);
    else arrive(s);
}

static void ran(srv_views *v)
{
    shot *s = v->arg;
    if (v->job.st.code) {
        s->st = v->job.st;
        arrive(s);
    } else if (v->job.batch_rows > s->picture.n_views && od_pool_submit(srv_server_of(s->p->r)->pool, postprocess, s)) {
        return; /* the others of this run are not made to wait */
    } else {
        postprocess(s);
    }
}

static void open_picture(void *arg)
{
    shot *s = arg;
    srv_prediction *p = s->p;
    srv_batcher *b = p->model->batcher;
    srv_views *v = &s->views;
    const srv_server *server = srv_server_of(p->r);
    v->job.since_ns = p->r->received_ns;
    s->waited_ns = od_now_ns() - p->r->received_ns;
    od_code rc = srv_batcher_still_wanted(b, &v->job, &s->st);
    if (rc == OD_OK) rc = srv_picture_open(p->model->card, p->model->model, &p->query, s->bytes.data, s->bytes.len, server->settings->max_pixels,
                                           s->arena, &s->picture, &s->st);
    if (rc) {
        if (rc == OD_UNSUPPORTED) s->status = 415;
        srv_batcher_leave(b);
        arrive(s);
        return;
    }
    v->job.prepare_ns = s->picture.decode_ns + s->picture.preprocess_ns;
    v->job.arena = s->arena;
    v->job.admitted = true;
    v->model = p->model;
    v->picture = &s->picture;
    v->here = true;
    v->done = ran;
    v->arg = s;
    if (srv_views_run(v, &s->st) != OD_OK) arrive(s);
}

static void gone(srv_request *r)
{
    srv_prediction *p = r->state;
    for (int i = 0; i < p->n; i++) atomic_store(&p->shots[i].views.job.cancelled, true);
}

/* Places in the queue for all pictures but the first, which has one. */
static od_code admit_rest(srv_prediction *p, od_status *st)
{
    srv_batcher *b = p->model->batcher;
    for (int i = 1; i < p->pictures.n; i++) {
        if (srv_batcher_admit(b, 0, st) == OD_OK) continue;
        while (--i > 0) srv_batcher_leave(b);
        return st->code;
    }
    return OD_OK;
}

static od_code prepare(srv_prediction *p, od_status *st)
{
    srv_request *r = p->r;
    OD_TRY(srv_chain_open(&p->chain, srv_server_of(r)->store, p->model, &r->arena, st));
    OD_TRY(srv_pictures_find(r, &p->pictures, &p->query, st));
    p->shots = od_arena_array(&r->arena, shot, p->pictures.n);
    if (!p->shots) return od_fail(st, OD_NO_MEMORY, "no memory for %d pictures", p->pictures.n);
    return admit_rest(p, st);
}

/* On a worker, with one place in the queue. */
static void begin(srv_request *r)
{
    srv_prediction *p = r->state;
    od_status st = {0};
    if (prepare(p, &st) != OD_OK) {
        srv_batcher_leave(p->model->batcher);
        if (st.code == OD_BUSY) srv_queue_full(r, p->model->batcher);
        srv_chain_close(p->chain);
        srv_model_release(p->model);
        srv_request_fail(r, &st);
        return;
    }
    int n = p->pictures.n;
    for (int i = 0; i < n; i++) {
        shot *s = &p->shots[i];
        *s = (shot){.p = p, .bytes = p->pictures.list[i], .own = {.budget = r->arena.budget}, .arena = n == 1 ? &r->arena : &s->own};
    }
    p->n = n;
    atomic_store(&p->left, n);
    srv_request_on_gone(r, gone);
    for (int i = 1; i < n; i++)
        if (!od_pool_submit(srv_server_of(r)->pool, open_picture, &p->shots[i])) open_picture(&p->shots[i]);
    open_picture(&p->shots[0]);
}

static od_code start(srv_request *r, void (*answer)(srv_prediction *p), od_status *st)
{
    srv_model *m;
    OD_TRY(srv_request_model(r, &m, st));
    srv_prediction *p = od_arena_array(&r->arena, srv_prediction, 1);
    if (!p) od_fail(st, OD_NO_MEMORY, "no memory for a request");
    else if (m->card->task == LDR_TASK_NONE)
        od_fail(st, OD_BAD_ARGUMENT, "model '%.100s' has no task for pictures (its card says none): send tensors to /infer", m->name);
    else if (srv_batcher_admit(m->batcher, 0, st) == OD_BUSY) srv_queue_full(r, m->batcher);
    if (st->code) {
        srv_model_release(m);
        return st->code;
    }
    p->r = r;
    p->model = m;
    p->chain = NULL;
    p->answer = answer;
    srv_query_init(&p->query);
    r->state = p;
    return OD_OK;
}

void srv_prediction_run(srv_request *r, void (*answer)(srv_prediction *p))
{
    od_status st = {0};
    if (start(r, answer, &st) != OD_OK) srv_request_fail(r, &st);
    else srv_request_work(r, begin);
}

/* ---- our own form of the answer */

static void add_result(srv_text *t, const srv_text *result)
{
    srv_text_add(t, result->data, result->len);
}

static void answer(srv_prediction *p)
{
    srv_text *t = &p->r->reply.body;
    *t = (srv_text){.arena = &p->r->arena};
    srv_text_add(t, "{\"model_name\":", 14);
    srv_text_json(t, p->model->name, strlen(p->model->name));
    srv_text_printf(t, ",\"model_version\":\"%" PRId64 "\"", p->model->version);
    if (!p->pictures.several) {
        if (p->shots[0].json.len) srv_text_add(t, ",", 1);
        add_result(t, &p->shots[0].json);
    } else {
        srv_text_add(t, ",\"results\":[", 12);
        for (int i = 0; i < p->n; i++) {
            srv_text_add(t, i ? ",{" : "{", i ? 2 : 1);
            add_result(t, &p->shots[i].json);
            srv_text_add(t, "}", 1);
        }
        srv_text_add(t, "]", 1);
    }
    srv_text_add(t, "}", 1);
}

void srv_predict(srv_request *r)
{
    srv_prediction_run(r, answer);
}
