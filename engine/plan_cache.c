/* plan_cache.c - the plans of a graph, a few at most. */
#include "engine/plan.h"

#include <pthread.h>
#include <stdlib.h>

enum { PLANS_MAX = 16 /* cached plans of a graph; the least recently used gives way */ };

/* One lock for all caches: it is held for looking up and letting go. */
static pthread_mutex_t plans_lock = PTHREAD_MUTEX_INITIALIZER;

struct eng_plans {
    eng_plan *plan[PLANS_MAX];
    int n;
    uint64_t clock;
};

static bool fits(const eng_plan *plan, const eng_tensor *inputs)
{
    for (int i = 0; i < plan->graph->n_inputs; i++) {
        const eng_tensor *a = &plan->key[i], *b = &inputs[i];
        if (a->dtype >= ENG_SEQUENCE && a->dtype == b->dtype) continue; /* length and elements are data */
        if (a->dtype != b->dtype || !eng_dims_equal(a, b) || a->layout != b->layout || !a->data != !b->data) return false;
        if (a->layout == ENG_CL && a->pitch != b->pitch) return false;
    }
    return true;
}

static eng_plan *find_cached(eng_graph *g, const eng_tensor *inputs)
{
    struct eng_plans *c = g->plans;
    for (int i = 0; c && i < c->n; i++) {
        if (!fits(c->plan[i], inputs)) continue;
        c->plan[i]->used_at = ++c->clock;
        c->plan[i]->refs++;
        return c->plan[i];
    }
    return NULL;
}

/* One reference less, under the lock. */
static void drop(eng_plan *plan)
{
    while (plan && --plan->refs == 0) {
        eng_plan *part = plan->part;
        eng_plan_free(plan);
        plan = part;
    }
}

/* Put `plan` into the cache, which takes a reference; the least recently used one gives way. */
static void cache_plan(eng_graph *g, eng_plan *plan)
{
    if (!g->plans && !(g->plans = calloc(1, sizeof *g->plans))) return; /* works without a cache too */
    struct eng_plans *c = g->plans;
    int at = c->n;
    if (at == PLANS_MAX) {
        at = 0;
        for (int i = 1; i < c->n; i++)
            if (c->plan[i]->used_at < c->plan[at]->used_at) at = i;
        drop(c->plan[at]);
    } else {
        c->n++;
    }
    plan->refs++;
    plan->used_at = ++c->clock;
    c->plan[at] = plan;
}

od_code eng_plan_acquire(eng_plan **out, eng_graph *g, const eng_tensor *inputs, od_pool *pool, od_status *st)
{
    pthread_mutex_lock(&plans_lock);
    *out = find_cached(g, inputs);
    pthread_mutex_unlock(&plans_lock);
    if (*out) return OD_OK;
    eng_plan *plan = NULL;
    OD_TRY(eng_plan_build(&plan, g, inputs, pool, st));
    eng_plan_divide(plan, pool);
    pthread_mutex_lock(&plans_lock);
    eng_plan *other = find_cached(g, inputs); /* somebody may have been faster */
    if (other) {
        drop(plan);
        plan = other;
    } else {
        cache_plan(g, plan);
    }
    pthread_mutex_unlock(&plans_lock);
    *out = plan;
    return OD_OK;
}

eng_plan *eng_plan_keep(eng_plan *plan)
{
    pthread_mutex_lock(&plans_lock);
    plan->refs++;
    pthread_mutex_unlock(&plans_lock);
    return plan;
}

void eng_plan_release(eng_plan *plan)
{
    pthread_mutex_lock(&plans_lock);
    drop(plan);
    pthread_mutex_unlock(&plans_lock);
}

void eng_plans_destroy(eng_graph *g)
{
    struct eng_plans *c = g->plans;
    if (!c) return;
    for (int i = 0; i < c->n; i++) eng_plan_release(c->plan[i]);
    free(c);
    g->plans = NULL;
}
