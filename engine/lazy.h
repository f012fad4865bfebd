/* lazy.h - large weights that stay in the model's file until their bytes are wanted.
 *
 * Most weights are read once, to be packed. Reading all of a file first takes as much fresh memory as the file
 * is large, and fresh memory is the dearest part of loading. So a loader may leave the bytes of a constant out and
 * say where they are; they have their address already, but touching them there is an error that the processor
 * catches. Shapes and types are known. Whoever wants the bytes while a model is being finished asks
 * eng_lazy_load, as eng_node_constant and eng_rewrite_constant do; packing streams them. A finished model has none left. */
#ifndef ENG_LAZY_H
#define ENG_LAZY_H

#include "engine/base/threads.h"
#include "engine/model.h"

/* Are bytes of the constant `t` still in the file? */
bool eng_lazy(const eng_model *m, const eng_tensor *t);

/* Before anything is asked of bytes that were left out in any order, or overlap. */
void eng_lazies_settle(eng_model *m);

/* What is told of left out bytes goes from where it lies into m->arena. false: no memory, nothing has changed. */
bool eng_lazies_move(eng_model *m);

/* Have the bytes of `t` where t->data says. What model->lazy_read gives; the model cannot be finished then, which
 * eng_lazy_check tells callers that cannot. The thread that owns the model. */
od_code eng_lazy_load(eng_model *m, const eng_tensor *t, od_status *st);

/* The first failure of eng_lazy_load so far, or OD_OK. */
od_code eng_lazy_check(const eng_model *m, od_status *st);

/* Copy bytes from .. from + size of `t`, which is lazy and stays so. Any thread, while nobody loads. */
od_code eng_lazy_copy(const eng_model *m, const eng_tensor *t, size_t from, size_t size, void *to, od_status *st);

/* Where the bytes of `t`, which is lazy, lie for model->lazy_read. */
uint64_t eng_lazy_place(const eng_model *m, const eng_tensor *t);

/* Load, in parallel, what any node, output or default of any graph of `m` reads and `skip` does not except. */
od_code eng_lazy_load_rest(eng_model *m, od_pool *pool, bool (*skip)(const eng_tensor *t, void *arg), void *arg, od_status *st);

/* From here on what was never loaded reads as zeros. */
void eng_lazy_end(eng_model *m);

#endif
