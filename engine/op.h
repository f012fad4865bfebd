/* op.h - what an operator is to the engine. The manual for everyone who writes one.
 *
 * An operator is up to six functions and a line in the table of engine/registry.c:
 *   import   at load, once a node: bring the form of the model's opset to the canonical one, which
 *            is the newest opset's (attributes that became inputs are turned into constant inputs,
 *            defaults that changed are written out). NULL: nothing to do.
 *   prepare  at load, after the passes: read attributes into node->params (model arena), check them,
 *            pack constant weights. NULL: nothing to do.
 *   infer    whenever input shapes are new: types and shapes of the outputs, from concrete input
 *            shapes and, where needed, input values. Also the place for every check of shapes, so
 *            that run has nothing left to refuse but values.
 *   layout   which layout each input must have and each output gets; see eng_layout_rule.
 *   alias    an output that is input 0's bytes seen otherwise (Reshape, Squeeze, Split ...).
 *   run      compute. Inputs and outputs have their data. Must not write to inputs.
 * Outputs nobody reads are NULL in run when they are optional ones (index > 0).
 *
 * Extents are always concrete and >= 0, zero included. infer runs with in[i]->data NULL where the
 * value is not known yet; an operator that needs it says `OD_TRY(eng_need(c, i))`, which returns
 * OD_UNKNOWN_YET: the node is then inferred at run time, just before it runs, with every value there
 * (ENG_ROW when it gets asked in infer). An operator whose output extents depend on values in a way
 * that is as much work as the operator itself may compute in infer and keep the result in c->stash
 * (memory from c->scratch) for the run that follows at once; stash is NULL in run otherwise. Operators
 * with subgraphs and those of ENG_SEQ are always inferred at run time, and infer may give their outputs
 * data too (memory of eng_run_alloc, or an input's): run is called when an output is left without.
 *
 * Scratch memory comes from c->scratch (od_arena_array), freed by the engine after the call.
 * Parallel loops use od_pool_for(c->pool, ...); inside a region nothing may be allocated. A result
 * must not depend, to the bit, on the number of threads.
 *
 * Which inputs, outputs and attributes a node may have, and of which kind, has been looked at before import
 * (schema.h; `make schemas` adds a new operator to its table).
 *
 * Errors: infer and run return a status that names numbers; the engine puts node and operator in
 * front. What comes from a model file or a request is never trusted: indices, axes, sizes. */
#ifndef ENG_OP_H
#define ENG_OP_H

#include "engine/base/threads.h"
#include "engine/model.h"

typedef struct eng_ctx {
    const eng_node *node;
    int n_in, n_out;
    const eng_tensor **in; /* NULL: omitted */
    eng_tensor **out;      /* NULL: nobody reads it */
    od_arena *scratch; /* rewound after run */
    od_arena *memory;  /* lives as long as the run's outputs; see eng_run_alloc */
    od_pool *pool;
    void *stash;
    const struct eng_ctx *ahead; /* what makes in[0], which has no data: this node makes it in parts (eng_conv_joins, eng_products_join) */
    struct eng_rows *rows;       /* NULL, but for a step of a Chain: see eng_walk_go */
    struct eng_session *session; /* for eng_subgraph_run; NULL while a plan is made */
} eng_ctx;

typedef od_code eng_import_fn(eng_graph *g, eng_node *n, od_status *st);
typedef od_code eng_prepare_fn(eng_graph *g, eng_node *n, od_pool *pool, od_status *st);
typedef od_code eng_infer_fn(eng_ctx *c, od_status *st);
typedef od_code eng_run_fn(eng_ctx *c, od_status *st);

/* want_in[i] is preset to the layout input i has now, *want_out to ENG_ROW (all outputs share it). */
typedef void eng_layout_fn(const eng_ctx *c, eng_layout *want_in, eng_layout *want_out);

/* true: output k is in[0]'s bytes from element *offset on (preset 0), in the layouts both have now.
 * May set out[k]->pitch. Called after infer and layout; data may be NULL. */
typedef bool eng_alias_fn(const eng_ctx *c, int k, int64_t *offset);

typedef enum eng_op_flags {
    /* Layout rules; without one all inputs and outputs are ENG_ROW. */
    ENG_CL_FIRST = 1u << 0, /* input 0, the fused residual and all outputs are ENG_CL (rank >= 3) */
    ENG_CL_ALL = 1u << 1,   /* elementwise over broadcast inputs: if an input of the output's rank is
                               ENG_CL, all become so (lower ranks are extended by ones in front) and
                               so does the output; else all are ENG_ROW */
    /* Inputs (outputs) may have a pitch above their channels; else the engine makes them dense. */
    ENG_PITCH_IN = 1u << 2,
    ENG_PITCH_OUT = 1u << 3,
    ENG_INPLACE = 1u << 4,  /* output 0 may share the bytes of any input of equal dims and type size */
    ENG_HALF = 1u << 5,     /* knows no float16 and bfloat16: the engine runs it on floats around a
                               conversion */
    ENG_RANDOM = 1u << 6,   /* differs from run to run: never folded or merged */
    ENG_FUSES = 1u << 7,    /* honours node->fused */
    ENG_SHAPE_ONLY = 1u << 8, /* reads its inputs' shapes, never their data */
    ENG_SEQ = 1u << 9,      /* reads or writes sequences, optionals or maps */
    ENG_BRANCH = 1u << 10,  /* has subgraphs and ENG_SEQ, yet may be inferred ahead of a run: infer then
                               finds session NULL, and values or OD_UNKNOWN_YET */
    /* The same for other types, of input 0 and the inputs and outputs of its type: */
    ENG_AS_DOUBLE = 1u << 11, /* knows no integers and bools: run as doubles, cut off behind the point */
    ENG_AS_INT32 = 1u << 12,  /* knows no integers of 8 and 16 bits: run as int32, cut to their width */
    ENG_FUSES_ACT = 1u << 15, /* honours node->fused.act, of output 0, and no more of it */
} eng_op_flags;

struct eng_op {
    const char *name;
    eng_domain domain;
    int since;      /* opset from which this form holds, up to the next line of the same name */
    uint32_t types; /* allowed types of input 0, a mask of ENG_T bits (of output 0 when no inputs) */
    unsigned flags; /* eng_op_flags */
    eng_import_fn *import;
    eng_prepare_fn *prepare;
    eng_infer_fn *infer;
    eng_layout_fn *layout;
    eng_alias_fn *alias;
    eng_run_fn *run;
};

/* Every operator, sorted by nothing: lookups go through eng_op_find. */
extern const eng_op eng_ops[];
extern const int eng_ops_count;

/* The line for (domain, name) with the highest `since` not above `opset`, or NULL. */
const eng_op *eng_op_find(eng_domain domain, const char *name, int opset);

/* ---- for infer --------------------------------------------------------------------------- */

/* OD_OK when input i is present and its value known; OD_UNKNOWN_YET when the value is not known.
 * An omitted input is OD_OK too: look for NULL first. */
od_code eng_need(const eng_ctx *c, int i);

/* Set the shape and type of output k. OD_BAD_SHAPE when an extent is negative, the rank is above
 * ENG_MAX_RANK or the size overflows. A NULL output is OD_OK. `dims` may be NULL for rank 0. */
od_code eng_set_out(eng_ctx *c, int k, eng_dtype dtype, int rank, const int64_t *dims, od_status *st);

/* Output k is `t`, data and all: for what is inferred at run time. An output that is not there is left. */
void eng_give(eng_ctx *c, int k, const eng_tensor *t);

/* Output 0 gets shape and type of input 0. The infer of every unary operator. */
od_code eng_infer_same(eng_ctx *c, od_status *st);

/* Output 0 gets the broadcast of all inputs' shapes (ONNX "Broadcasting") and the type of input 0. */
od_code eng_infer_broadcast(eng_ctx *c, od_status *st);

/* The multidirectional broadcast of two shapes into out (ENG_MAX_RANK wide) and *rank. */
od_code eng_broadcast(int ra, const int64_t *a, int rb, const int64_t *b, int *rank, int64_t *out, od_status *st);

/* Check that inputs from .. n_in-1 that are present have type `dtype`. */
od_code eng_check_types(const eng_ctx *c, int from, eng_dtype dtype, od_status *st);

/* Bring `axis` from -rank .. rank-1 (or .. rank when `end`) to 0 ..; OD_BAD_ARGUMENT else. */
od_code eng_axis(int64_t axis, int rank, bool end, int *out, od_status *st);

/* The whole of a known integer tensor (int32 or int64, rank 0 or 1) into out[max]; its length in
 * *count. NULL input: *count 0. OD_UNKNOWN_YET, OD_BAD_SHAPE (more than max), OD_BAD_TYPE. */
od_code eng_ints_in(const eng_ctx *c, int i, int64_t max, int64_t *out, int64_t *count, od_status *st);

/* ---- for import -------------------------------------------------------------------------- */

/* Attribute `name` becomes constant input `slot` (int64 list, int64 scalar as 1-D or rank 0, float
 * scalar), and goes; nothing happens when it is absent. Inputs in between become omitted ones. */
od_code eng_attr_to_input(eng_graph *g, eng_node *n, const char *name, int slot, bool scalar, od_status *st);
/* Make input `slot` the constant `t` (copied shallowly). */
od_code eng_set_input_constant(eng_graph *g, eng_node *n, int slot, const eng_tensor *t, od_status *st);
/* Set or add an attribute. */
od_code eng_node_set_int(eng_graph *g, eng_node *n, const char *name, int64_t value, od_status *st);
od_code eng_node_set_float(eng_graph *g, eng_node *n, const char *name, float value, od_status *st);
od_code eng_node_set_string(eng_graph *g, eng_node *n, const char *name, const char *value, od_status *st);
od_code eng_node_set_ints(eng_graph *g, eng_node *n, const char *name, const int64_t *v, int64_t count, od_status *st);
void eng_node_drop_attr(eng_node *n, const char *name);

/* ---- for prepare ------------------------------------------------------------------------- */

/* `size` cleared bytes that live as long as the model; NULL: no memory. Large ones are counted as
 * packed weights. */
void *eng_model_alloc(eng_graph *g, size_t size);

/* ---- for run ----------------------------------------------------------------------------- */

/* Run `sub`, the graph of an attribute of this node, on `inputs`, as many as sub->n_inputs (its own
 * ones, then captures). `outputs`, as many as sub->n_outputs, hold until the next run of `sub` by this
 * session; for a node that runs it once they may be its own outputs as they are. */
od_code eng_subgraph_run(eng_ctx *c, const eng_graph *sub, const eng_tensor *const *inputs, eng_tensor *outputs,
                         od_status *st);

/* Move n outputs of the last run of `sub` to where they survive the next run, as its inputs for one; what was
 * carried before is gone the time after. */
od_code eng_subgraph_carry(eng_ctx *c, const eng_graph *sub, eng_tensor *outputs, int n, od_status *st);

/* Memory that lives as long as this run's outputs: for string bytes, sequence elements and outputs
 * whose size run itself finds. NULL: no memory or over the run's bound. */
void *eng_run_alloc(eng_ctx *c, size_t size);

/* Split `count` elements into chunks of at least `grain` for od_pool_for: number of chunks. The cut
 * depends on `count` and `grain` only. */
int64_t eng_chunks(int64_t count, int64_t grain);

#endif
