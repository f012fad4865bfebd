/* session.h - running a model.
 *
 * A session is one runner of one model: it owns the memory of a run and may be used by one thread
 * at a time. Several sessions of one model run at once; they share weights and plans. A plan is
 * made the first time a set of input shapes is seen and cached with the model (least recently used
 * goes). Running a known plan takes nothing from the heap, unless the network's shapes depend on
 * its data. */
#ifndef ENG_SESSION_H
#define ENG_SESSION_H

#include "engine/base/threads.h"
#include "engine/model.h"

typedef struct eng_session eng_session;

/* `pool` may be NULL: one thread. Both must outlive the session. `memory_limit` bounds the bytes a
 * run may hold (0: no bound). OD_NO_MEMORY. */
od_code eng_session_create(eng_session **out, eng_model *model, od_pool *pool, size_t memory_limit, od_status *st);
void eng_session_destroy(eng_session *s);

/* Run on `inputs`, as many and in the order of model->graph->inputs. An input that the model gives a
 * default (an initializer of the same name) may have NULL data. A tensor of rank 4 may come as
 * ENG_CL. Inputs are borrowed for the call. `outputs`, as many as model->graph->outputs, are ENG_ROW
 * and lent by the session until its next run or end. OD_BAD_SHAPE, OD_BAD_TYPE: an input does not fit
 * the model's declaration; other codes from operators, with the node's name. The session stays
 * usable after a failure. */
od_code eng_session_run(eng_session *s, const eng_tensor *inputs, eng_tensor *outputs, od_status *st);

/* Would a run accept these inputs' types and shapes? The errors of eng_session_run. */
od_code eng_model_check_inputs(const eng_model *model, const eng_tensor *inputs, od_status *st);

/* Called between nodes, from threads of the pool too; a non-zero return ends the run with OD_CANCELLED. NULL: none. */
void eng_session_set_cancel(eng_session *s, bool (*cancelled)(void *), void *arg);

/* Bytes held for runs by this session. */
size_t eng_session_bytes(const eng_session *s);

typedef struct eng_profile_row {
    const eng_node *node;
    char what[48];  /* the algorithm or layout change, where there is a choice */
    int64_t runs, ns, least_ns; /* ns: of all runs; least_ns: of the quickest */
    int64_t macs;   /* multiply-adds of one run; 0: not counted */
} eng_profile_row;

/* Collect times per node from now on. */
od_code eng_session_profile(eng_session *s, bool on);
/* The rows so far, in order of the first run; lent until the next run. */
int eng_session_profile_rows(const eng_session *s, const eng_profile_row **rows);

/* Multiply-adds of one run with these input shapes (Conv, ConvTranspose, MatMul, Gemm and the fused
 * forms), and bytes planned for intermediate values. Plans the shapes if need be. */
od_code eng_session_cost(eng_session *s, const eng_tensor *inputs, int64_t *macs, size_t *planned, od_status *st);

#endif
