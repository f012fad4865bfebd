/* explain.c - passes run in lanes: each lane covers the input, has it run, notes the score and begins the next pass, so that as
 * many are in the queue at one time as make a batch, whatever the number of passes. */
#include "server/protocols/explain.h"

#include <string.h>

enum { LANES_MOST = 16 };

typedef struct lane {
    srv_explaining *e;
    srv_job job;
    od_arena arena;
    eng_tensor *inputs;
    int64_t pass;
} lane;

static void conclude(srv_explaining *e, const srv_evidence *evidence)
{
    if (!e->st.code) {
        srv_text_add(e->json, ",", 1);
        srv_explain_answer(e->model->card, &e->picture->placement, evidence, &e->target, e->arena, e->json, &e->st);
    }
    e->done(e->arg, &e->st);
}

static void lane_ends(lane *l)
{
    srv_explaining *e = l->e;
    od_arena_fini(&l->arena);
    if (atomic_fetch_sub(&e->left, 1) != 1) return;
    srv_evidence evidence = {0};
    for (int64_t i = 0; i < e->trial.passes && !e->st.code; i++) srv_trial_take(&e->trial, i, e->scores[i]);
    if (!e->st.code) srv_trial_end(&e->trial, &evidence);
    conclude(e, &evidence);
}

static void lane_fails(lane *l, const od_status *st)
{
    if (!atomic_exchange(&l->e->failed, true)) l->e->st = *st;
    lane_ends(l);
}

static void lane_goes_on(lane *l);

static void ran(srv_job *job)
{
    lane *l = job->arg;
    srv_explaining *e = l->e;
    od_status st = job->st;
    if (!st.code)
        srv_target_score(e->model->card, &e->view, job->outputs, e->query, &e->target, &e->scores[l->pass], &l->arena, &st);
    if (st.code) lane_fails(l, &st);
    else lane_goes_on(l);
}

/* Begin a lane's next pass. */
static void lane_goes_on(lane *l)
{
    srv_explaining *e = l->e;
    int input = e->model->card->input;
    od_status st = {0};
    l->pass = atomic_fetch_add(&e->next, 1);
    if (atomic_load(&e->failed) || l->pass >= e->trial.passes) {
        lane_ends(l);
        return;
    }
    od_arena_reset(&l->arena);
    srv_trial_cover(&e->trial, l->pass, l->inputs[input].data);
    l->job = (srv_job){.inputs = l->inputs, .arena = &l->arena, .priority = SRV_PRIORITY_LAST, .since_ns = e->since_ns, .done = ran, .arg = l};
    if (atomic_load(e->cancelled)) od_fail(&st, OD_CANCELLED, "the client has gone");
    else srv_batcher_submit(e->model->batcher, &l->job, &st);
    if (st.code) lane_fails(l, &st);
}

static od_code make_lanes(srv_explaining *e, od_status *st)
{
    int64_t want = od_max_i64(e->server->workers, srv_batcher_rows(e->model->batcher));
    int input = e->model->card->input, n_inputs = e->picture->n_inputs;
    e->n_lanes = (int)od_min_i64(od_min_i64(want, LANES_MOST), e->trial.passes);
    e->lanes = od_arena_array(e->arena, lane, e->n_lanes);
    e->scores = od_arena_array(e->arena, float, e->trial.passes);
    if (!e->lanes || !e->scores) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " passes", e->trial.passes);
    for (int i = 0; i < e->n_lanes; i++) {
        lane *l = &e->lanes[i];
        *l = (lane){.e = e, .arena = {.budget = e->arena->budget}, .inputs = od_arena_array(e->arena, eng_tensor, n_inputs)};
        if (!l->inputs) return od_fail(st, OD_NO_MEMORY, "no memory for inputs");
        memcpy(l->inputs, e->picture->inputs, (size_t)n_inputs * sizeof *l->inputs);
        l->inputs[input].data = od_arena_alloc(e->arena, eng_tensor_bytes(&l->inputs[input]));
        if (!l->inputs[input].data) return od_fail(st, OD_NO_MEMORY, "no memory for inputs");
    }
    return OD_OK;
}

/* Exactly, when that is asked for or possible. */
static od_code look_inside(srv_explaining *e, srv_evidence *out, bool *found, od_status *st)
{
    const ldr_card *card = e->model->card;
    const struct ldr_card_head *h = e->target.head;
    int64_t index = e->target.index + (h ? h->first : 0);
    bool first = card->task == LDR_TASK_CLASSIFY && (h ? h->output == 0 : !card->outputs || card->outputs[0] == 0);
    *found = false;
    if (e->query->method != SRV_METHOD_AUTO && e->query->method != SRV_METHOD_CAM) return OD_OK;
    if (first && e->model->class_maps)
        OD_TRY(srv_class_maps_run(e->model->class_maps, &e->view, e->outputs, index, e->server->pool, e->server->run_memory, e->arena, out,
                                  found, st));
    if (*found || e->query->method == SRV_METHOD_AUTO) return OD_OK;
    return od_fail(st, OD_BAD_ARGUMENT, "method cam: this network does not end in global pooling and one linear layer; occlusion and rise are possible");
}

static od_code begin(srv_explaining *e, srv_evidence *evidence, bool *found, od_status *st)
{
    const ldr_card *card = e->model->card;
    float base;
    OD_TRY(srv_target_find(card, e->picture, e->outputs, e->query, &e->target, e->arena, st));
    e->view = *e->picture;
    e->view.n_views = 1;
    base = e->target.score;
    if (e->picture->n_views > 1) OD_TRY(srv_target_score(card, &e->view, e->outputs, e->query, &e->target, &base, e->arena, st));
    OD_TRY(look_inside(e, evidence, found, st));
    if (*found) return OD_OK;
    OD_TRY(srv_trial_init(&e->trial, card, &e->view, e->query->method, e->query->passes, base, e->arena, st));
    return make_lanes(e, st);
}

void srv_explain_run(srv_explaining *e)
{
    srv_evidence evidence = {0};
    bool found;
    e->st = (od_status){0};
    if (begin(e, &evidence, &found, &e->st) != OD_OK || found) {
        conclude(e, &evidence);
        return;
    }
    int n = e->n_lanes;
    lane *lanes = e->lanes; /* the last lane to end takes `e` with it */
    atomic_init(&e->next, 0);
    atomic_init(&e->failed, false);
    atomic_init(&e->left, n);
    for (int i = 0; i < n; i++) lane_goes_on(&lanes[i]);
}
