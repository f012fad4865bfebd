/* passes.h - graph rewrites and what they share.
 *
 * A pass looks at one graph through an eng_rewrite, changes nodes in place and says whether it did.
 * It never leaves the graph in a state in which it would compute something else. It may kill nodes
 * and turn a node into another; it adds none (half.c alone does), so node pointers hold during a pass. Shapes come from
 * the graph's probe: for values that passes made in the same round, and in bodies whose inputs nothing is
 * known of, eng_rewrite_type says NULL and a pass that needs it leaves the place alone. */
#ifndef ENG_PASSES_H
#define ENG_PASSES_H

#include "engine/graph.h"

typedef struct eng_rewrite {
    eng_graph *g;
    od_arena *tmp;
    int *readers;     /* by value: nodes that read it, plus one per graph output; a node that reads it
                         twice counts twice */
    int *last_reader; /* by value: a node that reads it, or ENG_NONE */
    bool *is_output;  /* by value */
    bool *is_input;
    int n_values;     /* values the arrays know */
    struct eng_uses *uses; /* private to passes.c */
    bool changed;
} eng_rewrite;

typedef od_code eng_pass_fn(eng_rewrite *r, od_status *st);

typedef struct eng_pass {
    const char *name;
    eng_pass_fn *run;
    bool needed; /* runs even when the caller asked for no passes */
    bool last;   /* runs once, when nothing else changes anything more: what it makes hides patterns */
} eng_pass;

extern const eng_pass eng_passes[];
extern const int eng_passes_count;

/* Type and shape of value `v` (extents that are free are -1), or NULL. */
const eng_tensor *eng_rewrite_type(const eng_rewrite *r, int v);

/* Both shapes known and equal, free extents included. */
bool eng_rewrite_same_shape(const eng_rewrite *r, int a, int b);

/* By value, in r->tmp: a bit for each axis whose extent no request changes, which is then what eng_rewrite_type says.
 * More than two guesses that agree: proved. Values that passes made since the probe have none. In shapes.c. */
od_code eng_rewrite_fixed(eng_rewrite *r, unsigned **fixed, od_status *st);

/* The node that makes `v` if it is of type `op_type` of ai.onnx (NULL: any), else NULL. */
eng_node *eng_rewrite_maker(const eng_rewrite *r, int v, const char *op_type);

/* The node that alone reads `v`, if `v` is no graph output; else NULL. */
eng_node *eng_rewrite_only_reader(const eng_rewrite *r, int v);

/* `v` is read once and is no graph output: its maker may be merged into its reader. */
bool eng_rewrite_private(const eng_rewrite *r, int v);

/* The constant behind `v`, or NULL: none, or an input's default, which a request may replace. */
const eng_tensor *eng_rewrite_constant(const eng_rewrite *r, int v);

/* The same, for its type and shape alone: its bytes may still be in the file (engine/lazy.h). */
const eng_tensor *eng_rewrite_weights(const eng_rewrite *r, int v);

/* The constant `v` has one reader, and nobody else reads its bytes: a pass that rewrites the reader may change them. */
bool eng_rewrite_own(const eng_rewrite *r, int v);

/* `v` is a float constant of one element: its value in *x. */
bool eng_rewrite_scalar(const eng_rewrite *r, int v, double *x);

/* For a node of two inputs: the one that is a scalar constant (in *x) and the other (in *other). */
bool eng_rewrite_scalar_operand(const eng_rewrite *r, const eng_node *n, double *x, int *other);

/* Every reader of `old` reads `now` instead, and graph outputs keep their names. false: not possible
 * (an output that would be an input, a constant or another output). */
bool eng_rewrite_replace(eng_rewrite *r, int old, int now);

/* `n` reads `v` at `slot`, which it has. A pass that replaces values gives nodes no other value but constants of its own otherwise.
 * OD_NO_MEMORY. */
od_code eng_rewrite_read(eng_rewrite *r, eng_node *n, int slot, int v, od_status *st);

void eng_rewrite_kill(eng_rewrite *r, eng_node *n);

/* Turn `n` into another operator with `n_in` inputs (all ENG_NONE) and no attributes; outputs stay.
 * OD_UNSUPPORTED when the table has no such operator; `n` is unchanged then. */
od_code eng_rewrite_become(eng_rewrite *r, eng_node *n, eng_domain domain, const char *op_type, int opset, int n_in,
                           od_status *st);

/* A convolution lies behind `v` through elementwise operators: it is channels-last, and moves of its rows would turn it around.
 * In slices.c. */
bool eng_rewrite_image(const eng_rewrite *r, int v);

/* Is `v` known to be float? */
bool eng_rewrite_is_float(const eng_rewrite *r, int v);

/* May convolution or pool `n` read around its input? */
bool eng_rewrite_pads(const eng_node *n);

/* The activation that node `n` computes of its input 0 into *e; false: it computes none. */
bool eng_rewrite_act(const eng_rewrite *r, const eng_node *n, eng_epilogue *e);

/* A new constant with its own float data of `count` = product(dims) elements, cleared; the value and
 * the data. ENG_NONE: no memory. */
int eng_rewrite_new_floats(eng_rewrite *r, int rank, const int64_t *dims, float **data);

/* The same for a list of int64. */
int eng_rewrite_new_ints(eng_rewrite *r, int64_t count, int64_t **data);

bool eng_node_is(const eng_node *n, const char *op_type);

eng_pass_fn eng_pass_half, eng_pass_identity, eng_pass_cse, eng_pass_dead, eng_pass_affine, eng_pass_bias, eng_pass_scaled, eng_pass_activation,
    eng_pass_residual, eng_pass_gate, eng_pass_transpose, eng_pass_slices, eng_pass_channels, eng_pass_gelu, eng_pass_normalize, eng_pass_spelled, eng_pass_merge_conv, eng_pass_pad,
    eng_pass_attention, eng_pass_rearrange, eng_pass_rows, eng_pass_chain, eng_pass_shapes,
    eng_pass_branch, eng_pass_lrn;

#endif
