/* chain.c - Chain: elementwise operators over blocks. Every step's row function comes from the operator's own run,
 * called with scalars in place of the tensors: it hands the function over instead of walking (eng_walk_go). What
 * it hands over lives on its stack, so each step is asked from within the one before it, and the last one walks. */
#include "engine/chain.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"
#include "engine/plan.h"

#include <string.h>

bool eng_chain_takes(const eng_node *n)
{
    static const char *const others[] = {"Mean", "BitCast"}; /* walk twice, or not at all */
    const unsigned flags = ENG_EW & ~ENG_HALF, all = flags | ENG_AS_DOUBLE | ENG_AS_INT32;
    if (n->domain != ENG_DOMAIN_ONNX || (n->op->flags & all) != flags || n->fused.act || n->fused.residual) return false;
    for (size_t i = 0; i < OD_COUNT(others); i++)
        if (!strcmp(n->op_type, others[i])) return false;
    bool more = !strcmp(n->op_type, "Clip") || !strcmp(n->op_type, "Where");
    for (int k = 0; k < n->n_in; k++)
        if (k > (more ? 2 : 1) || (n->in[k] < 0 && strcmp(n->op_type, "Clip"))) return false;
    return n->n_in > 0 && n->in[0] >= 0 && n->n_out == 1 && n->out[0] >= 0;
}

/* Give each result a buffer: one that the step reads for the last time, or one that nobody needs any more. */
od_code eng_chain_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    eng_chain *chain = n->chain;
    int last[ENG_CHAIN_STEPS], until[ENG_CHAIN_STEPS];
    size_t width[ENG_CHAIN_STEPS];
    if (!chain) return od_fail(st, OD_BAD_MODEL, "a Chain comes from onnxd's own rewriting only");
    chain->n_buffers = 0;
    for (int s = 0; s < chain->n_steps; s++) {
        eng_node *step = &chain->steps[s];
        last[s] = s;
        for (int k = 0; k < step->n_in; k++)
            if (step->in[k] >= ENG_CHAIN_INPUTS) last[step->in[k] - ENG_CHAIN_INPUTS] = s;
        if (step->op->prepare) OD_TRY(step->op->prepare(g, step, pool, st));
    }
    for (int s = 0; s < chain->n_steps; s++) {
        size_t size = eng_dtype_size(chain->dtype[s]);
        int b = 0;
        while (b < chain->n_buffers && (until[b] > s || (until[b] == s && width[b] != size))) b++;
        if (b == chain->n_buffers) chain->n_buffers++;
        until[b] = last[s];
        width[b] = size;
        chain->buffer[s] = b;
    }
    return OD_OK;
}

od_code eng_chain_infer(eng_ctx *c, od_status *st)
{
    const eng_chain *chain = c->node->chain;
    eng_tensor *made = od_arena_array(c->scratch, eng_tensor, ENG_CHAIN_STEPS);
    if (!made) return od_fail(st, OD_NO_MEMORY, "no memory for the steps of a chain");
    for (int i = 0; i < c->n_in; i++)
        if (!c->in[i]) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
    for (int s = 0; s < chain->n_steps; s++) {
        const eng_node *step = &chain->steps[s];
        const eng_tensor *in[3];
        eng_tensor *out = &made[s];
        eng_ctx own = {.node = step, .n_in = step->n_in, .n_out = 1, .in = in, .out = &out, .scratch = c->scratch};
        for (int k = 0; k < step->n_in; k++)
            in[k] = step->in[k] < 0                  ? NULL
                    : step->in[k] < ENG_CHAIN_INPUTS ? c->in[step->in[k]]
                                                     : &made[step->in[k] - ENG_CHAIN_INPUTS];
        if (eng_check_op_type(&own, st) != OD_OK || eng_op_infer(&own, st) != OD_OK)
            return od_note(st, "step %d (%s)", s, step->op_type);
    }
    const eng_tensor *last = &made[chain->n_steps - 1];
    return eng_set_out(c, 0, last->dtype, last->rank, last->dims, st);
}

typedef struct chain_run {
    eng_rows rows; /* first: take is given its address */
    eng_ctx *c;
    const eng_chain *chain;
    int step; /* the one that is asked */
    int64_t cost;
    eng_row_fn *fn[ENG_CHAIN_STEPS];
    void *arg[ENG_CHAIN_STEPS];
    bool done;
    od_code rc;
    od_status *st;
} chain_run;

enum { BUFFER_BYTES = ENG_BLOCK * 8 + 1088 }; /* see elementwise.c for why not a multiple of 4 KiB */

/* All steps over one block: p[0] the output, p[1 ..] the inputs, p[1 + n_in] room for results. */
static void chain_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const chain_run *r = arg;
    const eng_chain *chain = r->chain;
    char *room = p[1 + r->c->n_in];
    for (int s = 0; s < chain->n_steps; s++) {
        const eng_node *node = &chain->steps[s];
        char *q[4];
        int64_t by[4] = {1, 1, 1, 1};
        q[0] = s == chain->n_steps - 1 ? p[0] : room + chain->buffer[s] * BUFFER_BYTES;
        for (int k = 0; k < node->n_in; k++) {
            int from = node->in[k];
            if (from < 0) continue;
            q[k + 1] = from < ENG_CHAIN_INPUTS ? p[from + 1] : room + chain->buffer[from - ENG_CHAIN_INPUTS] * BUFFER_BYTES;
            if (from < ENG_CHAIN_INPUTS) by[k + 1] = step[from + 1];
        }
        r->fn[s](r->arg[s], n, q, by);
    }
}

static od_code walk(chain_run *r)
{
    eng_ctx *c = r->c;
    const eng_tensor *t[ENG_WALK_MAX] = {c->out[0]};
    eng_walk w;
    size_t extra = (size_t)r->chain->n_buffers * BUFFER_BYTES;
    for (int i = 0; i < c->n_in; i++) t[i + 1] = c->in[i];
    eng_walk_init(&w, c->n_in + 1, t);
    void *memory = od_arena_alloc(c->scratch, (size_t)od_pool_slots(c->pool) * eng_walk_memory(&w, extra));
    if (!memory) return od_fail(r->st, OD_NO_MEMORY, "no memory for the blocks of a chain");
    eng_walk_blocks(&w, c->pool, r->cost, extra, memory, chain_row, r);
    r->done = true;
    return OD_OK;
}

/* Ask step r->step for its row function: the operator's run, on scalars. */
static od_code ask(chain_run *r)
{
    const eng_node *step = &r->chain->steps[r->step];
    uint64_t nothing[2] = {0};
    eng_tensor x[4];
    const eng_tensor *in[3];
    eng_tensor *out = &x[3];
    eng_ctx c = {.node = step, .n_in = step->n_in, .n_out = 1, .in = in, .out = &out, .rows = &r->rows};
    x[3] = (eng_tensor){.dtype = r->chain->dtype[r->step], .data = nothing};
    for (int k = 0; k < step->n_in; k++) {
        int from = step->in[k];
        in[k] = from < 0 ? NULL : &x[k];
        if (from < 0) continue;
        x[k] = (eng_tensor){.dtype = from < ENG_CHAIN_INPUTS ? r->c->in[from]->dtype : r->chain->dtype[from - ENG_CHAIN_INPUTS],
                            .data = from < ENG_CHAIN_INPUTS ? r->c->in[from]->data : nothing};
    }
    od_code rc = step->op->run(&c, r->st);
    return rc != OD_OK ? rc : r->rc;
}

static void take(eng_rows *rows, int64_t cost, eng_row_fn *fn, void *arg)
{
    chain_run *r = (chain_run *)rows;
    r->fn[r->step] = fn;
    r->arg[r->step] = arg;
    r->cost += cost;
    r->rc = ++r->step < r->chain->n_steps ? ask(r) : walk(r);
}

od_code eng_chain_run(eng_ctx *c, od_status *st)
{
    chain_run r;
    if (!c->out[0] || !eng_tensor_count(c->out[0])) return OD_OK;
    r.rows.take = take;
    r.c = c;
    r.chain = c->node->chain;
    r.step = 0;
    r.cost = 0;
    r.done = false;
    r.rc = OD_OK;
    r.st = st;
    OD_TRY(ask(&r));
    return r.done ? OD_OK : od_fail(st, OD_INTERNAL, "step %d (%s) has no rows", r.step, r.chain->steps[r.step].op_type);
}
