/* packed.h - constant weights in the form that a kernel wants, made once per content.
 *
 * An operator's prepare asks for a packed form; all that were asked for are made in parallel when the
 * model's nodes are prepared. The same weights in the same form are made once in the process, however
 * many models, versions and nodes want them. With a cache folder each large form is also kept in a file
 * there, by content, and the next process maps it instead of making it; and of weights that lie in a model's file
 * their sums are, by model->identity, so that it need not read these.
 *
 * Weights that every reader has packed are given back to the system page by page as they are packed:
 * their bytes read as zeros afterwards. */
#ifndef ENG_PACKED_H
#define ENG_PACKED_H

#include "engine/base/threads.h"
#include "engine/model.h"

/* Rows first .. first + count of axis 0 of weights. */
typedef struct eng_pack_part {
    const void *bytes; /* of these rows alone */
    int64_t first, count;
} eng_pack_part;

/* Write what comes of `part` in the packed form of `w`, whose data is not to be read, to its place in `to`: where the form
 * begins; cleared, 64-byte aligned, of the size asked for. Runs on any thread; must depend on the weights and the bytes of
 * `arg` alone, and must not use the thread pool. */
typedef void eng_pack_fn(const eng_tensor *w, const eng_pack_part *part, const void *arg, void *to);

/* All rows of `w`. */
eng_pack_part eng_pack_all(const eng_tensor *w);

/* For prepare: ask for the packed form of the constant input `input` of `n`. *slot (in memory that lives as
 * long as the model) is NULL until eng_packs_make and points to `size` bytes after it; they die with the
 * model. `form` names the form and `arg[arg_size]` its numbers: together with the weights they must determine
 * every byte. `unit`: weights may come in parts that begin at multiples of so many rows; 0: only whole. OD_NO_MEMORY. */
od_code eng_model_pack(eng_graph *g, const eng_node *n, int input, const char *form, const void *arg, size_t arg_size,
                       size_t size, int64_t unit, eng_pack_fn *fn, const float **slot, od_status *st);

/* Make what was asked for. `folder` (NULL: none) is the cache's; a file there that is not what its name
 * says is made anew, one that cannot be written is done without. OD_NO_MEMORY. */
od_code eng_packs_make(eng_model *m, od_pool *pool, const char *folder, od_status *st);

/* Let go of all packed forms of `m`. */
void eng_packs_release(eng_model *m);

#endif
