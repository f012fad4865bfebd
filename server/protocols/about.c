/* about.c - what a model is: its card, its graph in figures, and the time that each operator takes. */
#include "server/protocols/infer.h"

#include "engine/base/cpu.h"
#include "server/cli/cli.h"
#include "server/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILE_RUNS = 20, PROFILE_ROWS = 200 };
static const int64_t PROFILE_NS = 1000000000, PROFILE_LONGEST_NS = 20000000000; /* of all runs; of any one, and its plan */

/* The card as a model.json; what was found or guessed can be saved and edited. */
void srv_model_card(srv_request *r)
{
    od_status st = {0};
    srv_model *m;
    char *text;
    if (srv_request_model(r, &m, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    od_code rc = ldr_card_json(m->card, m->model, &r->arena, &text, &st);
    srv_reply_header(r, "X-Card-Source", od_arena_strdup(&r->arena, m->card->source, strlen(m->card->source)));
    srv_model_release(m);
    if (rc) {
        srv_request_fail(r, &st);
        return;
    }
    r->reply.body = (srv_text){.arena = &r->arena};
    srv_text_add(&r->reply.body, text, strlen(text));
    srv_request_finish(r);
}

/* One row of made-up input, of the size that the card makes of pictures where the graph leaves that open. */
static od_code make_inputs(srv_request *r, const srv_model *m, eng_tensor **inputs, od_status *st)
{
    const ldr_card *card = m->card;
    const eng_graph *g = m->model->graph;
    char line[512];
    const char *lines[] = {line};
    const eng_value *v = card->task != LDR_TASK_NONE ? &g->values[g->inputs[card->input]] : NULL;
    bool given = v && v->rank == 4 && card->pre.width > 0 && card->pre.height > 0;
    if (given) {
        int64_t c = card->pre.channels, h = card->pre.height, w = card->pre.width, first = v->dims[0] < 0 ? 1 : v->dims[0];
        snprintf(line, sizeof line, "%s=%" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64, v->name, first, card->nhwc ? h : c, card->nhwc ? w : h,
                 card->nhwc ? c : w);
    }
    *inputs = od_arena_array(&r->arena, eng_tensor, g->n_inputs);
    if (!*inputs) return od_fail(st, OD_NO_MEMORY, "no memory for %d inputs", g->n_inputs);
    return srv_cli_make_inputs(m->model, lines, given, 1, &r->arena, *inputs, st);
}

static void reply_with(srv_request *r, cJSON *root)
{
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    r->reply.body = (srv_text){.arena = &r->arena, .full = !text};
    if (text) srv_text_add(&r->reply.body, text, strlen(text));
    free(text);
    srv_request_finish(r);
}

void srv_model_graph(srv_request *r)
{
    od_status st = {0};
    srv_model *m;
    if (srv_request_model(r, &m, &st) != OD_OK) {
        srv_request_fail(r, &st);
        return;
    }
    srv_cost cost = {0};
    eng_tensor *inputs;
    if (make_inputs(r, m, &inputs, &st) == OD_OK) srv_cost_find(&cost, m->model, inputs);
    cJSON *root = srv_describe(m->model, &cost, &r->arena);
    srv_model_release(m);
    reply_with(r, root);
}

/* ---- the profile -------------------------------------------------------------------------- */

typedef struct profile {
    int64_t runs, least_ns, macs;
    size_t planned;
    int64_t end_ns; /* no run goes on after this */
} profile;

static bool too_long(void *arg)
{
    return od_now_ns() > ((const profile *)arg)->end_ns;
}

static od_code run_profile(srv_request *r, const srv_model *m, eng_session *s, const eng_tensor *inputs, profile *p, od_status *st)
{
    eng_tensor *outputs = od_arena_array(&r->arena, eng_tensor, m->model->graph->n_outputs);
    if (!outputs) return od_fail(st, OD_NO_MEMORY, "no memory for outputs");
    p->end_ns = od_now_ns() + PROFILE_LONGEST_NS;
    p->least_ns = INT64_MAX;
    eng_session_set_cancel(s, too_long, p);
    OD_TRY(eng_session_run(s, inputs, outputs, st)); /* plans */
    OD_TRY(eng_session_cost(s, inputs, &p->macs, &p->planned, st));
    OD_TRY(eng_session_profile(s, true));
    for (int64_t began = od_now_ns(); p->runs < PROFILE_RUNS && (p->runs < 2 || od_now_ns() - began < PROFILE_NS); p->runs++) {
        int64_t from = od_now_ns();
        OD_TRY(eng_session_run(s, inputs, outputs, st));
        p->least_ns = od_min_i64(p->least_ns, od_now_ns() - from);
    }
    return OD_OK;
}

static cJSON *tell_profile(srv_request *r, const srv_model *m, const eng_session *s, const profile *p)
{
    int n;
    int64_t total;
    const eng_profile_row *rows = srv_profile_sort(s, &r->arena, &n, &total);
    srv_op_time *all = rows ? od_arena_array(&r->arena, srv_op_time, n) : NULL;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "model_name", m->name);
    cJSON_AddNumberToObject(root, "runs", (double)p->runs);
    cJSON_AddNumberToObject(root, "least_ms", (double)p->least_ns / 1e6);
    cJSON_AddNumberToObject(root, "gmacs", (double)p->macs / 1e9);
    cJSON_AddNumberToObject(root, "gflops", 2.0 * (double)p->macs / (double)p->least_ns);
    cJSON_AddNumberToObject(root, "planned_mb", (double)p->planned / 1048576.0);
    cJSON *operators = cJSON_AddArrayToObject(root, "operators"), *nodes = cJSON_AddArrayToObject(root, "nodes");
    int n_all = all ? srv_profile_by_operator(rows, n, all) : 0;
    for (int i = 0; i < n_all; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "operator", all[i].name);
        cJSON_AddNumberToObject(o, "nodes", (double)all[i].count);
        cJSON_AddNumberToObject(o, "us", (double)all[i].ns / 1e3);
        cJSON_AddNumberToObject(o, "share", (double)all[i].ns / (double)od_max_i64(total, 1));
        cJSON_AddItemToArray(operators, o);
    }
    for (int i = 0; all && i < n && i < PROFILE_ROWS; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "operator", srv_profile_operator(&rows[i]));
        cJSON_AddStringToObject(o, "name", rows[i].node ? rows[i].node->name : "");
        cJSON_AddStringToObject(o, "how", rows[i].what);
        cJSON_AddNumberToObject(o, "us", (double)rows[i].least_ns / 1e3);
        cJSON_AddNumberToObject(o, "share", (double)rows[i].least_ns / (double)od_max_i64(total, 1));
        if (rows[i].macs) cJSON_AddNumberToObject(o, "gflops", 2.0 * (double)rows[i].macs / (double)od_max_i64(rows[i].least_ns, 1));
        cJSON_AddItemToArray(nodes, o);
    }
    return root;
}

/* Some runs on made-up input, on this worker and those that are idle. One profile at a time. */
void srv_model_profile(srv_request *r)
{
    static atomic_flag running = ATOMIC_FLAG_INIT;
    od_status st = {0};
    srv_model *m;
    eng_session *s = NULL;
    eng_tensor *inputs;
    profile p = {0};
    cJSON *root = NULL;
    if (atomic_flag_test_and_set(&running)) {
        od_fail(&st, OD_BUSY, "another profile is being made: one at a time");
        srv_retry_after(r, 1000000);
        srv_request_fail(r, &st);
        return;
    }
    const srv_server *server = srv_server_of(r);
    if (srv_request_model(r, &m, &st) == OD_OK) {
        if (make_inputs(r, m, &inputs, &st) == OD_OK && eng_session_create(&s, m->model, server->pool, server->run_memory, &st) == OD_OK &&
            run_profile(r, m, s, inputs, &p, &st) == OD_OK)
            root = tell_profile(r, m, s, &p);
        eng_session_destroy(s);
        srv_model_release(m);
    }
    atomic_flag_clear(&running);
    if (root) reply_with(r, root);
    else srv_request_fail(r, &st);
}
