/* model.h - a network as onnxd holds it: values, nodes, graphs.
 *
 * A loader builds a model through these functions and hands it over with eng_model_finish, which
 * checks the graph, finds each operator, brings it to canonical form, runs the passes, and lets the
 * operators prepare (pack weights). Until then one thread owns the model; afterwards it never
 * changes and any number of sessions on any threads share it.
 *
 * Everything in a model lives in its arena and dies with it. Values are numbers: an index into
 * graph->values. A subgraph (of If, Loop, Scan) sees names of the graphs around it; eng_model_finish
 * turns each such use into an explicit input behind the subgraph's own (`n_captures` of them) and an
 * input behind the owning node's own, in the same order, so that operators see plain inputs only. */
#ifndef ENG_MODEL_H
#define ENG_MODEL_H

#include "engine/epilogue.h"
#include "engine/tensor.h"

typedef struct eng_op eng_op;
typedef struct eng_graph eng_graph;
typedef struct eng_model eng_model;

enum { ENG_NONE = -1 }; /* in a node's inputs or outputs: left out */

typedef enum eng_domain { ENG_DOMAIN_ONNX, ENG_DOMAIN_ML, ENG_DOMAIN_MS, ENG_DOMAIN_PREVIEW, ENG_DOMAIN_OWN, ENG_DOMAINS } eng_domain;

typedef enum eng_attr_kind {
    ENG_ATTR_INT,
    ENG_ATTR_FLOAT,
    ENG_ATTR_STRING,
    ENG_ATTR_TENSOR,
    ENG_ATTR_GRAPH,
    ENG_ATTR_INTS,
    ENG_ATTR_FLOATS,
    ENG_ATTR_STRINGS,
    ENG_ATTR_TENSORS,
    ENG_ATTR_GRAPHS
} eng_attr_kind;

typedef struct eng_attr {
    const char *name;
    eng_attr_kind kind;
    int64_t i;
    float f;
    eng_str s;
    int64_t n; /* elements of the list kinds */
    const int64_t *ints;
    const float *floats;
    const eng_str *strings;
    const eng_tensor *tensors; /* also ENG_ATTR_TENSOR, n = 1 */
    eng_graph **graphs;        /* also ENG_ATTR_GRAPH, n = 1 */
} eng_attr;

typedef struct eng_value {
    const char *name; /* "" for values that passes make */
    eng_dtype dtype;  /* ENG_UNDEFINED: not declared */
    int rank;         /* -1: not declared */
    int64_t dims[ENG_MAX_RANK];             /* -1: free */
    const char **dim_names;                 /* by extent, symbolic names of free ones, NULL: none; NULL: no names at all */
    const eng_tensor *constant;             /* initializers and folded values; ENG_ROW */
    int producer;                           /* node that writes it, or ENG_NONE */
} eng_value;

typedef struct eng_node {
    const char *name, *op_type;
    eng_domain domain;
    int opset; /* of its domain */
    int n_in, n_out, n_attrs;
    int *in, *out; /* values, or ENG_NONE */
    eng_attr *attrs;
    const eng_op *op;   /* set by eng_model_finish */
    eng_epilogue fused; /* set by passes on operators that say they can */
    struct eng_chain *chain; /* what a Chain computes; see engine/chain.h */
    void *params;       /* the operator's own, made by its prepare */
    bool dead;          /* removed by a pass */
} eng_node;

struct eng_graph {
    eng_model *model;
    eng_graph *parent; /* NULL: the main graph */
    const char *name;
    eng_value *values;
    eng_node *nodes; /* in an order in which they can run, after eng_model_finish */
    int *inputs, *outputs;
    int n_values, n_nodes, n_inputs, n_outputs, n_captures;
    struct eng_names *names; /* name -> value; private to graph.c */
    struct eng_plans *plans; /* cached per input shapes; private to plan_cache.c */
    /* Types and shapes found by inference, by value: rank -1 where unknown, extent -1 where it follows a free
     * extent of an input of the main graph. NULL until eng_model_finish. */
    eng_tensor *probe;
    eng_tensor *guess[2]; /* the same with two different sizes put in for free extents */
    int n_probe, cap_probe; /* values that were there when these were made; room for so many */
    int cap_values, cap_nodes, cap_inputs, cap_outputs;
};

typedef struct eng_model_info {
    const char *producer, *domain, *description;
    int64_t ir_version, model_version;
    int n_metadata;
    const char **metadata_keys, **metadata_values;
} eng_model_info;

struct eng_model {
    od_arena arena;
    eng_graph *graph;
    eng_model_info info;
    int opset[ENG_DOMAINS]; /* 0: not imported */
    void *backing; /* the loader's: e.g. a file mapping that constants point into */
    void (*backing_free)(void *);
    od_code (*lazy_read)(void *backing, uint64_t where, size_t size, void *to, od_status *st); /* of eng_model_leave_out; any thread */
    const char *identity; /* of what lazy_read gives: another whenever the bytes are others; NULL: nothing tells */
    struct eng_lazies *lazies; /* private to lazy.c */
    size_t packed_bytes; /* what prepare has packed */
    struct eng_pack_job *pack_jobs; /* private to packed.c */
    /* While eng_model_finish only looks at shapes: eng_node_constant then hides large constants, so
     * that no prepare packs weights that a pass is still to change. */
    bool probing;
    struct eng_tuning *tuning; /* while it is tuned; private to tune.c */
    int forced_form;           /* of a model that is a trial of tune.c: the form of its convolution, plus one */
};

/* An empty model with an empty main graph. OD_NO_MEMORY. */
od_code eng_model_create(eng_model **out, od_status *st);

/* Frees the model, its arena and its backing. No session of it may be left. NULL is accepted. */
void eng_model_destroy(eng_model *m);

/* A graph for a subgraph attribute inside `parent`. NULL: no memory. */
eng_graph *eng_graph_create(eng_model *m, eng_graph *parent, const char *name);

/* The value called `name` in `g` itself, made when it is new. ENG_NONE: no memory. The name is
 * copied. An empty name always makes a new value. */
int eng_graph_value(eng_graph *g, const char *name);

/* The symbolic name of that extent of `v`, or NULL. */
const char *eng_dim_name(const eng_value *v, int axis);

/* The value called `name` if `g` has it, else ENG_NONE. */
int eng_graph_find(const eng_graph *g, const char *name);

/* Declare graph inputs and outputs, in order. OD_BAD_MODEL: declared twice; OD_NO_MEMORY. */
od_code eng_graph_add_input(eng_graph *g, int value, od_status *st);
od_code eng_graph_add_output(eng_graph *g, int value, od_status *st);

/* Append a node with room for its inputs, outputs and attributes, which the caller fills; strings
 * are copied. The pointer holds until the next eng_graph_add_node. NULL: no memory. */
eng_node *eng_graph_add_node(eng_graph *g, const char *op_type, const char *name, int n_in, int n_out, int n_attrs);

/* Give value `v` a constant; `t` and its bytes must live as long as the model. */
od_code eng_graph_set_constant(eng_graph *g, int v, const eng_tensor *t, od_status *st);

/* For loaders: `size` bytes at `bytes` will be a constant's, but are not there yet. eng_model_finish asks model->lazy_read for
 * them, from `where` on, if it wants them, and the processor catches who touches them before. `bytes` lie in pages of the
 * model's backing that nothing else uses but for those they begin and end in. Where bytes of several calls overlap, `where` differs by as
 * much as `bytes`. OD_NO_MEMORY. */
od_code eng_model_leave_out(eng_model *m, void *bytes, size_t size, uint64_t where, od_status *st);

/* The name of that output, the last one: [N, classes, H, W], how much each place says for each class; its mean over
 * places is the logits without their bias. */
#define ENG_CLASS_MAP "onnxd:class_map"

typedef struct eng_load_options {
    const char *disabled_passes; /* comma-separated names, or NULL */
    bool keep_graph;             /* no passes at all but those that running needs */
    struct od_pool *pool;        /* packs weights in parallel; NULL: on this thread */
    bool class_map;              /* where the network ends in global pooling and a linear layer: one more output, see ENG_CLASS_MAP */
    bool tune;                   /* forms of convolutions are measured instead of looked up, and kept in `pack_cache` */
    const char *pack_cache;      /* folder in which packed weights are kept for the next start; NULL: none */
} eng_load_options;

/* Check, import, rewrite and prepare. `options` NULL: the usual. On failure only
 * eng_model_destroy may follow. OD_BAD_MODEL: the graph contradicts itself (a value made twice, never
 * made, a cycle); OD_UNSUPPORTED: operators (all named) or types that onnxd lacks. */
od_code eng_model_finish(eng_model *m, const eng_load_options *options, od_status *st);

/* Attribute lookup. The value or `otherwise` when it is absent. A wrong kind is found by
 * eng_model_finish (engine/schema.h), not here. */
const eng_attr *eng_node_attr(const eng_node *n, const char *name);
int64_t eng_node_int(const eng_node *n, const char *name, int64_t otherwise);
float eng_node_float(const eng_node *n, const char *name, float otherwise);
/* true when attribute string `name` (or `otherwise` when absent) equals `want`. */
bool eng_node_string_is(const eng_node *n, const char *name, const char *otherwise, const char *want);
/* The list and its length in `*count`; NULL and 0 when absent. */
const int64_t *eng_node_ints(const eng_node *n, const char *name, int64_t *count);
const float *eng_node_floats(const eng_node *n, const char *name, int64_t *count);

/* The constant behind input `i` of `n`, or NULL: omitted or not constant. */
const eng_tensor *eng_node_constant(const eng_graph *g, const eng_node *n, int i);

/* The same, for its type and shape alone: its bytes may still be in the file (engine/lazy.h). */
const eng_tensor *eng_node_weights(const eng_graph *g, const eng_node *n, int i);

#endif
