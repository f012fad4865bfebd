/* functions.c - calls of model-local functions become the functions' nodes. */
#include "loaders/onnx/build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS_MAX = 1 << 20, NAME_BYTES = 64 };

static const char *text(const char *s)
{
    return s ? s : "";
}

static const char *plain_domain(const char *domain)
{
    return domain && strcmp(domain, "ai.onnx") ? domain : "";
}

static int compare_keys(const char *da, const char *na, const char *oa, const Onnx__FunctionProto *f)
{
    int order = strcmp(text(na), text(f->name));
    if (!order) order = strcmp(plain_domain(da), plain_domain(f->domain));
    return order ? order : strcmp(text(oa), text(f->overload));
}

static int compare_functions(const void *a, const void *b)
{
    const Onnx__FunctionProto *f = *(Onnx__FunctionProto *const *)a, *g = *(Onnx__FunctionProto *const *)b;
    return compare_keys(f->domain, f->name, f->overload, g);
}

static int compare_call(const void *node, const void *f)
{
    const Onnx__NodeProto *n = node;
    return compare_keys(n->domain, n->op_type, n->overload, *(Onnx__FunctionProto *const *)f);
}

od_code ldr_functions_init(ldr_build *b, od_status *st)
{
    size_t n = b->proto->n_functions;
    b->functions = ldr_heap_alloc(b->heap, n * sizeof *b->functions);
    if (!b->functions) return od_fail(st, OD_NO_MEMORY, "no memory for %zu functions", n);
    for (size_t i = 0; i < n; i++) {
        b->functions[i] = b->proto->functions[i];
        if (!*text(b->functions[i]->name)) return od_fail(st, OD_BAD_MODEL, "function %zu has no name", i);
    }
    b->n_functions = n;
    qsort(b->functions, n, sizeof *b->functions, compare_functions);
    for (size_t i = 1; i < n; i++)
        if (!compare_functions(&b->functions[i - 1], &b->functions[i]))
            return od_fail(st, OD_BAD_MODEL, "function '%.60s' is defined twice", b->functions[i]->name);
    return OD_OK;
}

const Onnx__FunctionProto *ldr_function_find(const ldr_build *b, const Onnx__NodeProto *p)
{
    if (!b->n_functions) return NULL;
    const Onnx__FunctionProto *const *f =
        bsearch(p, b->functions, b->n_functions, sizeof *b->functions, compare_call);
    return f ? *f : NULL;
}

od_code ldr_inline_charge(ldr_build *b, size_t bytes, od_status *st)
{
    if (!b->inlining) return OD_OK;
    if (bytes > LDR_INLINE_MAX - b->inlined_bytes)
        return od_fail(st, OD_TOO_LARGE, "the model's functions come to more than %zu bytes when inlined",
                       LDR_INLINE_MAX);
    b->inlined_bytes += bytes;
    return OD_OK;
}

static int compare_renames(const void *a, const void *b)
{
    return strcmp(((const ldr_rename *)a)->formal, ((const ldr_rename *)b)->formal);
}

static const char *find_rename(const ldr_scope *scope, const char *name)
{
    ldr_rename key = {name, NULL};
    if (!scope->n_renames) return NULL;
    const ldr_rename *r =
        bsearch(&key, scope->renames, (size_t)scope->n_renames, sizeof key, compare_renames);
    return r ? r->actual : NULL;
}

const char *ldr_build_name(ldr_build *b, const ldr_scope *scope, const char *name)
{
    if (!scope->function || !*name) return name;
    const char *actual = find_rename(scope, name);
    if (actual) return actual;
    size_t prefix = strlen(scope->prefix), len = strlen(name);
    char *full = ldr_heap_alloc(b->heap, prefix + len + 1);
    if (!full) return NULL;
    memcpy(full, scope->prefix, prefix);
    memcpy(full + prefix, name, len + 1);
    return full;
}

/* A function whose output is its input: as nodes may not do that, something must stand between. */
static od_code add_identity(eng_graph *g, const char *from, const char *to, int opset, od_status *st)
{
    eng_node *n = eng_graph_add_node(g, "Identity", "", 1, 1, 0);
    if (!n) return od_fail(st, OD_NO_MEMORY, "no memory for a node");
    n->domain = ENG_DOMAIN_ONNX;
    n->opset = opset;
    n->in[0] = *from ? eng_graph_value(g, from) : ENG_NONE;
    n->out[0] = eng_graph_value(g, to);
    if (n->in[0] == ENG_NONE) return od_fail(st, OD_BAD_MODEL, "it returns an input that the caller left out");
    return n->out[0] == ENG_NONE ? od_fail(st, OD_NO_MEMORY, "no memory for a value") : OD_OK;
}

/* Tell the formal names' meaning. Outputs that the caller leaves out stay names of the body. */
static od_code bind_names(ldr_build *b, eng_graph *g, const ldr_scope *outer, const Onnx__NodeProto *p,
                          ldr_scope *inner, od_status *st)
{
    const Onnx__FunctionProto *f = inner->function;
    if (p->n_input > f->n_input || p->n_output > f->n_output)
        return od_fail(st, OD_BAD_MODEL, "called with %zu inputs and %zu outputs; it has %zu and %zu", p->n_input,
                       p->n_output, f->n_input, f->n_output);
    inner->renames = ldr_heap_alloc(b->heap, (f->n_input + f->n_output) * sizeof *inner->renames);
    if (!inner->renames) return od_fail(st, OD_NO_MEMORY, "no memory for a call");
    int n = 0;
    for (size_t i = 0; i < f->n_input; i++) {
        const char *actual = i < p->n_input ? ldr_build_name(b, outer, p->input[i]) : "";
        if (!actual) return od_fail(st, OD_NO_MEMORY, "no memory for a call");
        inner->renames[n++] = (ldr_rename){f->input[i], actual};
    }
    inner->n_renames = n;
    qsort(inner->renames, (size_t)n, sizeof *inner->renames, compare_renames);
    int n_inputs = n;
    for (size_t i = 0; i < p->n_output; i++) {
        const char *actual = ldr_build_name(b, outer, p->output[i]);
        if (!actual) return od_fail(st, OD_NO_MEMORY, "no memory for a call");
        if (!*actual) continue;
        inner->n_renames = n_inputs;
        const char *input = find_rename(inner, f->output[i]);
        if (input) OD_TRY(add_identity(g, input, actual, inner->opset[ENG_DOMAIN_ONNX], st));
        else inner->renames[n++] = (ldr_rename){f->output[i], actual};
    }
    inner->n_renames = n;
    qsort(inner->renames, (size_t)n, sizeof *inner->renames, compare_renames);
    for (int i = 1; i < n; i++)
        if (!compare_renames(&inner->renames[i - 1], &inner->renames[i]))
            return od_fail(st, OD_BAD_MODEL, "'%.60s' is twice among its inputs and outputs", inner->renames[i].formal);
    return OD_OK;
}

static bool has_attr(const ldr_attr *attrs, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(attrs[i].name, name)) return true;
    return false;
}

/* The caller's attributes, then the defaults of those it left out. */
static od_code bind_attrs(ldr_build *b, const ldr_scope *outer, const Onnx__NodeProto *p, ldr_scope *inner,
                          od_status *st)
{
    const Onnx__FunctionProto *f = inner->function;
    ldr_attr *given;
    int n;
    OD_TRY(ldr_attrs_resolve(b, outer, p, &given, &n, st));
    ldr_attr *all = ldr_heap_alloc(b->heap, ((size_t)n + f->n_attribute_proto) * sizeof *all);
    if (!all) return od_fail(st, OD_NO_MEMORY, "no memory for a call");
    if (n) memcpy(all, given, (size_t)n * sizeof *all);
    int total = n;
    for (size_t i = 0; i < f->n_attribute_proto; i++) {
        const Onnx__AttributeProto *a = f->attribute_proto[i];
        if (!a->name) return od_fail(st, OD_BAD_MODEL, "a default without a name");
        if (!has_attr(given, n, a->name)) all[total++] = (ldr_attr){a->name, a, inner};
    }
    inner->attrs = all;
    inner->n_attrs = total;
    return OD_OK;
}

static od_code inline_body(ldr_build *b, eng_graph *g, const ldr_scope *outer, const Onnx__NodeProto *p,
                           ldr_scope *inner, int depth, od_status *st)
{
    const Onnx__FunctionProto *f = inner->function;
    OD_TRY(ldr_opsets(f->n_opset_import, f->opset_import, inner->opset, st));
    for (int d = 0; d < ENG_DOMAINS; d++)
        if (!inner->opset[d]) inner->opset[d] = outer->opset[d];
    OD_TRY(ldr_inline_charge(b, NAME_BYTES * (1 + f->n_input + f->n_output), st));
    OD_TRY(bind_names(b, g, outer, p, inner, st));
    OD_TRY(bind_attrs(b, outer, p, inner, st));
    for (size_t i = 0; i < f->n_node; i++) OD_TRY(ldr_build_node(b, g, inner, f->node[i], depth, st));
    return OD_OK;
}

od_code ldr_function_inline(ldr_build *b, eng_graph *g, const ldr_scope *scope, const Onnx__NodeProto *p,
                            const Onnx__FunctionProto *f, int depth, od_status *st)
{
    ldr_scope inner = {.function = f, .depth = scope->depth + 1};
    if (inner.depth > LDR_FUNCTION_DEPTH)
        return od_fail(st, OD_TOO_LARGE, "function '%.60s': functions call each other more than %d deep", f->name,
                       LDR_FUNCTION_DEPTH);
    if (b->calls++ >= CALLS_MAX) return od_fail(st, OD_TOO_LARGE, "more than %d calls of functions", CALLS_MAX);
    snprintf(inner.prefix, sizeof inner.prefix, "%.32s#%d/", f->name, b->calls);
    b->inlining++;
    od_code rc = inline_body(b, g, scope, p, &inner, depth, st);
    b->inlining--;
    if (rc == OD_OK) return OD_OK;
    return st->code == OD_TOO_LARGE ? st->code : od_note(st, "function '%.40s'", f->name);
}
