/* chain.c - parts of a picture run in lanes, as many at one time as make a batch: a lane cuts a part out, has it run, keeps its
 * JSON, and takes the next one. */
#include "server/protocols/chain.h"
#include "server/protocols/views.h"

#include <string.h>

enum { LANES_MOST = 16 };

/* ---- the models --------------------------------------------------------------------------- */

typedef struct opening {
    srv_store *store;
    od_arena *a;
    const char *names[SRV_CHAIN_DEPTH]; /* from the first to this one */
} opening;

static od_code open_links(opening *o, srv_chain *c, int depth, od_status *st);

static od_code open_link(opening *o, const char *name, int depth, srv_chain **out, od_status *st)
{
    for (int i = 0; i < depth; i++)
        if (!strcmp(o->names[i], name)) return od_fail(st, OD_BAD_MODEL, "the chain goes round: '%.80s' comes behind itself", name);
    if (depth == SRV_CHAIN_DEPTH) return od_fail(st, OD_BAD_MODEL, "'%.80s' would be number %d of a chain: %d are possible", name, depth + 1, SRV_CHAIN_DEPTH);
    srv_chain *c = od_arena_zalloc(o->a, sizeof *c);
    if (!c) return od_fail(st, OD_NO_MEMORY, "no memory for a chain");
    *out = c; /* whoever closes the chain releases what was acquired */
    OD_TRY(srv_store_acquire(o->store, name, 0, &c->model, st));
    if (c->model->card->task == LDR_TASK_NONE) return od_fail(st, OD_BAD_ARGUMENT, "'%.80s' takes no pictures", name);
    return open_links(o, c, depth, st);
}

static od_code open_links(opening *o, srv_chain *c, int depth, od_status *st)
{
    const ldr_card *card = c->model->card;
    o->names[depth] = c->model->name;
    if (!card->n_then) return OD_OK;
    c->links = od_arena_zalloc(o->a, (size_t)card->n_then * sizeof *c->links);
    if (!c->links) return od_fail(st, OD_NO_MEMORY, "no memory for a chain");
    for (int i = 0; i < card->n_then; i++)
        if (open_link(o, card->then[i].model, depth + 1, &c->links[i], st) != OD_OK) return od_note(st, "behind model '%.80s'", c->model->name);
    return OD_OK;
}

od_code srv_chain_open(srv_chain **out, srv_store *store, srv_model *first, od_arena *a, od_status *st)
{
    opening o = {.store = store, .a = a};
    *out = NULL;
    if (!first->card->n_then) return OD_OK;
    srv_chain *c = od_arena_zalloc(a, sizeof *c);
    if (!c) return od_fail(st, OD_NO_MEMORY, "no memory for a chain");
    c->model = first;
    if (open_links(&o, c, 0, st) != OD_OK) {
        srv_chain_close(c);
        /* the cards are wrong, not the request */
        if (st->code != OD_UNAVAILABLE && st->code != OD_NO_MEMORY) st->code = OD_INTERNAL;
        return st->code;
    }
    *out = c;
    return OD_OK;
}

void srv_chain_close(srv_chain *c)
{
    for (int i = 0; c && c->links && i < c->model->card->n_then; i++) {
        srv_chain *link = c->links[i];
        if (!link || !link->model) continue;
        srv_chain_close(link);
        srv_model_release(link->model);
    }
}

/* ---- the parts ---------------------------------------------------------------------------- */

typedef struct chain_lane {
    srv_chaining *c;
    srv_onward *part;
    od_arena *arena; /* the part's */
    srv_picture picture;
    srv_views views;
    srv_chaining behind;
} chain_lane;

static const srv_chain *link_of(const chain_lane *l)
{
    return l->c->chain->links[l->part->then];
}

static void lane_ends(srv_chaining *c)
{
    if (atomic_fetch_sub(&c->left, 1) != 1) return;
    if (!c->st.code) srv_onward_join(c->chain->model->card, c->parts, c->n_parts, c->arena, c->json, &c->st);
    for (int64_t i = 0; i < c->n_parts; i++) od_arena_fini(&c->arenas[i]);
    c->done(c->arg, &c->st);
}

static void lane_goes_on(chain_lane *l);

static void part_done(void *arg, const od_status *st)
{
    chain_lane *l = arg;
    srv_chaining *c = l->c;
    if (!st->code) {
        lane_goes_on(l);
        return;
    }
    if (!atomic_exchange(&c->failed, true)) {
        c->st = *st;
        od_note(&c->st, "behind '%.60s': model '%.60s'", c->chain->model->name, link_of(l)->model->name);
    }
    lane_ends(c);
}

static void read_out(chain_lane *l)
{
    const srv_chain *link = link_of(l);
    srv_onward *p = l->part;
    srv_query query;
    od_status st = l->views.job.st;
    srv_query_init(&query);
    p->json = (srv_text){.arena = l->arena};
    if (!st.code) srv_picture_answer(link->model->card, &l->picture, l->views.outputs, &query, l->arena, &p->json, &st);
    if (st.code || !link->links) {
        part_done(l, &st);
        return;
    }
    l->behind = (srv_chaining){.server = l->c->server, .chain = link, .picture = &l->picture, .cancelled = l->c->cancelled, .since_ns = l->c->since_ns,
                               .arena = l->arena, .json = &p->json, .done = part_done, .arg = l};
    srv_chain_run(&l->behind);
}

static void read_out_later(void *arg)
{
    read_out(arg);
}

static void ran(srv_views *v)
{
    chain_lane *l = v->arg;
    if (!od_pool_submit(l->c->server->pool, read_out_later, l)) read_out(l);
}

static od_code begin_part(chain_lane *l, od_status *st)
{
    srv_chaining *c = l->c;
    const srv_model *m = link_of(l)->model;
    const struct ldr_card_then *then = &c->chain->model->card->then[l->part->then];
    int64_t max_pixels = od_max_i64(c->picture->pixels.width * c->picture->pixels.height, 1);
    ldr_pixels cut;
    srv_query query;
    srv_query_init(&query);
    if (atomic_load(c->cancelled)) return od_fail(st, OD_CANCELLED, "the client has gone");
    OD_TRY(srv_region_cut(l->part->region, then->margin, &c->picture->pixels, 4 * max_pixels, l->arena, &cut, st));
    OD_TRY(srv_picture_open_pixels(m->card, m->model, &query, &cut, l->arena, &l->picture, st));
    l->views = (srv_views){.model = m, .picture = &l->picture, .job = {.arena = l->arena, .since_ns = c->since_ns}, .done = ran, .arg = l};
    return srv_views_run(&l->views, st);
}

static void lane_goes_on(chain_lane *l)
{
    srv_chaining *c = l->c;
    od_status st = {0};
    int64_t at = atomic_fetch_add(&c->next, 1);
    if (atomic_load(&c->failed) || at >= c->n_parts) {
        lane_ends(c);
        return;
    }
    l->part = &c->parts[at];
    l->arena = &c->arenas[at];
    if (begin_part(l, &st) != OD_OK) part_done(l, &st);
}

static od_code list_parts(srv_chaining *c, od_status *st)
{
    OD_TRY(srv_onward_list(c->chain->model->card, c->picture, c->arena, &c->parts, &c->n_parts, st));
    c->lanes = od_arena_array(c->arena, chain_lane, LANES_MOST);
    c->arenas = od_arena_array(c->arena, od_arena, c->n_parts);
    if (!c->lanes || !c->arenas) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " parts", c->n_parts);
    for (int64_t i = 0; i < c->n_parts; i++) c->arenas[i].budget = c->arena->budget;
    return OD_OK;
}

void srv_chain_run(srv_chaining *c)
{
    c->st = (od_status){0};
    if (list_parts(c, &c->st) != OD_OK || !c->n_parts) {
        c->done(c->arg, &c->st);
        return;
    }
    int n = (int)od_min_i64(LANES_MOST, c->n_parts);
    chain_lane *lanes = c->lanes; /* the last lane to end takes `c` with it */
    atomic_init(&c->next, 0);
    atomic_init(&c->failed, false);
    atomic_init(&c->left, n);
    for (int i = 0; i < n; i++) lanes[i].c = c;
    for (int i = 0; i < n; i++) lane_goes_on(&lanes[i]);
}
