/* build.h - one ONNX message on its way to a model: what the parts of the loader share. */
#ifndef LDR_ONNX_BUILD_H
#define LDR_ONNX_BUILD_H

#include "engine/model.h"
#include "loaders/onnx/tensor.h"
#include "loaders/onnx/wire.h"

enum {
    LDR_IR_MAX = 14,
    LDR_GRAPH_DEPTH = 24,    /* subgraphs in subgraphs */
    LDR_FUNCTION_DEPTH = 32, /* functions in functions */
};
#define LDR_INLINE_MAX ((size_t)512 << 20) /* bytes that inlined nodes may come to */

/* An attribute as it reaches a node: in a function body it may be the caller's. */
typedef struct ldr_scope ldr_scope;
typedef struct ldr_attr {
    const char *name;
    const Onnx__AttributeProto *value;
    const ldr_scope *scope; /* in which the names of its graphs are meant */
} ldr_attr;

typedef struct ldr_rename {
    const char *formal, *actual; /* actual "": left out by the caller */
} ldr_rename;

/* The names and attributes that nodes mean: the model's own, or those of one call of a function. */
struct ldr_scope {
    int opset[ENG_DOMAINS];
    int depth;                           /* functions around this body; 0: the model's graph */
    const Onnx__FunctionProto *function; /* NULL: the model's graph; nothing below is used then */
    char prefix[64];                     /* of the body's own names */
    ldr_rename *renames;                 /* inputs and outputs, sorted by formal name */
    int n_renames;
    const ldr_attr *attrs; /* what the caller gave */
    int n_attrs;
};

typedef struct ldr_build {
    ldr_heap *heap; /* gone when loading ends */
    eng_model *model;
    const Onnx__ModelProto *proto;
    ldr_source source;
    const Onnx__FunctionProto **functions; /* sorted by ldr_function_compare */
    size_t n_functions;
    size_t inlined_bytes;
    int calls;          /* functions inlined so far */
    int inlining;       /* calls that are being inlined right now */
    char unknown[160];  /* operators of domains that onnxd does not know */
    int n_unknown;
} ldr_build;

/* graph.c ------------------------------------------------------------------------------------ */

/* Everything of `p` into the empty graph `g`. */
od_code ldr_build_graph(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__GraphProto *p, int depth,
                        od_status *st);

/* One node: an operator, a Constant, or a call of a function. */
od_code ldr_build_node(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__NodeProto *p, int depth,
                       od_status *st);

/* What `name` is called in the model; NULL: no memory. */
const char *ldr_build_name(ldr_build *b, const ldr_scope *scope, const char *name);

/* attributes.c ------------------------------------------------------------------------------- */

/* The attributes of `p` with references to the function's attributes resolved; absent ones go. */
od_code ldr_attrs_resolve(ldr_build *b, const ldr_scope *scope, const Onnx__NodeProto *p, ldr_attr **out, int *count,
                          od_status *st);

od_code ldr_attr_copy(ldr_build *b, eng_graph *g, const ldr_attr *a, int depth, eng_attr *out, od_status *st);

/* The tensor that a Constant node with this one attribute stands for. */
od_code ldr_attr_constant(ldr_build *b, const ldr_attr *a, eng_tensor *out, od_status *st);

/* functions.c -------------------------------------------------------------------------------- */

od_code ldr_functions_init(ldr_build *b, od_status *st);

/* The model-local function that `p` calls, or NULL. */
const Onnx__FunctionProto *ldr_function_find(const ldr_build *b, const Onnx__NodeProto *p);

od_code ldr_function_inline(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__NodeProto *p,
                            const Onnx__FunctionProto *f, int depth, od_status *st);

/* Inside of a call: count bytes that exist because the function is inlined. OD_TOO_LARGE. */
od_code ldr_inline_charge(ldr_build *b, size_t bytes, od_status *st);

/* types.c ------------------------------------------------------------------------------------ */

/* "" and "ai.onnx" are one. false: a domain that onnxd does not know. */
bool ldr_domain(const char *name, eng_domain *out);

/* Operator set versions by domain, 0 where absent. */
od_code ldr_opsets(size_t n, Onnx__OperatorSetIdProto *const *p, int *opset, od_status *st);

/* Declare value `v` to be of type `p` (NULL: nothing is known). */
od_code ldr_type_apply(ldr_build *b, eng_graph *g, int v, const Onnx__TypeProto *p, od_status *st);

/* What a type attribute says, outermost first: sequence, then float, say. At most `max` numbers. */
od_code ldr_type_chain(const Onnx__TypeProto *p, int64_t *out, int max, int *count, od_status *st);

#endif
