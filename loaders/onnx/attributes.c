/* attributes.c - attributes of nodes, and the constants that Constant nodes write with theirs. */
#include "loaders/onnx/build.h"

#include <string.h>

enum { TYPE_CHAIN_MAX = 8, ATTRS_MAX = 256 };

#define KIND(name) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name

/* Old files leave the type to be seen from what is there. */
static int kind_of(const Onnx__AttributeProto *a)
{
    if (a->has_type && a->type) return a->type;
    if (a->has_f) return KIND(FLOAT);
    if (a->has_i) return KIND(INT);
    if (a->has_s) return KIND(STRING);
    if (a->t) return KIND(TENSOR);
    if (a->g) return KIND(GRAPH);
    if (a->n_floats) return KIND(FLOATS);
    if (a->n_ints) return KIND(INTS);
    if (a->n_strings) return KIND(STRINGS);
    if (a->n_tensors) return KIND(TENSORS);
    if (a->n_graphs) return KIND(GRAPHS);
    return KIND(INTS); /* an empty list, of whatever */
}

/* Numbers that are zero may be left out of a file, so an absent one is fine unless another kind of value
 * is there in its place. */
static bool kind_fits(const Onnx__AttributeProto *a, int kind)
{
    bool lists = a->n_floats || a->n_ints || a->n_strings || a->n_tensors || a->n_graphs;
    switch (kind) {
    case KIND(FLOAT): return a->has_f || (!a->has_i && !a->has_s && !a->t && !lists);
    case KIND(INT): return a->has_i || (!a->has_f && !a->has_s && !a->t && !lists);
    case KIND(STRING): return a->has_s || (!a->has_f && !a->has_i && !a->t && !lists);
    case KIND(FLOATS): return a->n_floats || (!a->n_ints && !a->n_strings);
    case KIND(INTS): return a->n_ints || (!a->n_floats && !a->n_strings);
    case KIND(STRINGS): return a->n_strings || (!a->n_floats && !a->n_ints);
    case KIND(TENSOR): return a->t != NULL;
    case KIND(GRAPH): return a->g != NULL;
    case KIND(SPARSE_TENSOR): return a->sparse_tensor != NULL;
    case KIND(TYPE_PROTO): return a->tp != NULL;
    default: return true;
    }
}

od_code ldr_attrs_resolve(ldr_build *b, const ldr_scope *scope, const Onnx__NodeProto *p, ldr_attr **out, int *count,
                          od_status *st)
{
    ldr_attr *list = ldr_heap_alloc(b->heap, p->n_attribute * sizeof *list);
    int n = 0;
    if (!list) return od_fail(st, OD_NO_MEMORY, "no memory for %zu attributes", p->n_attribute);
    if (p->n_attribute > ATTRS_MAX)
        return od_fail(st, OD_TOO_LARGE, "%zu attributes; the limit is %d", p->n_attribute, ATTRS_MAX);
    for (size_t i = 0; i < p->n_attribute; i++) {
        const Onnx__AttributeProto *a = p->attribute[i];
        if (!a->name || !*a->name) return od_fail(st, OD_BAD_MODEL, "attribute %zu has no name", i);
        for (int k = 0; k < n; k++)
            if (!strcmp(list[k].name, a->name))
                return od_fail(st, OD_BAD_MODEL, "attribute '%.60s' is there twice", a->name);
        if (!a->ref_attr_name || !*a->ref_attr_name) {
            list[n++] = (ldr_attr){a->name, a, scope};
            continue;
        }
        if (!scope->function)
            return od_fail(st, OD_BAD_MODEL, "attribute '%.60s' refers to '%.60s' outside of any function", a->name,
                           a->ref_attr_name);
        for (int k = 0; k < scope->n_attrs; k++) {
            if (strcmp(scope->attrs[k].name, a->ref_attr_name)) continue;
            list[n++] = (ldr_attr){a->name, scope->attrs[k].value, scope->attrs[k].scope};
            break;
        }
    }
    *out = list;
    *count = n;
    return OD_OK;
}

static od_code copy_string(ldr_build *b, const ProtobufCBinaryData *from, eng_str *to, od_status *st)
{
    char *copy = od_arena_strdup(&b->model->arena, from->len ? (const char *)from->data : "", from->len);
    if (!copy) return od_fail(st, OD_NO_MEMORY, "no memory for a string of %zu bytes", from->len);
    *to = (eng_str){copy, from->len};
    return OD_OK;
}

static od_code copy_strings(ldr_build *b, size_t n, const ProtobufCBinaryData *from, const eng_str **to, od_status *st)
{
    eng_str *list = od_arena_calloc(&b->model->arena, n, sizeof *list);
    if (!list) return od_fail(st, OD_NO_MEMORY, "no memory for %zu strings", n);
    for (size_t i = 0; i < n; i++) OD_TRY(copy_string(b, &from[i], &list[i], st));
    *to = list;
    return OD_OK;
}

static od_code copy_numbers(ldr_build *b, size_t n, const void *from, size_t size, const void **to, od_status *st)
{
    void *list = od_arena_calloc(&b->model->arena, n, size);
    if (!list) return od_fail(st, OD_NO_MEMORY, "no memory for %zu numbers", n);
    if (n) memcpy(list, from, n * size);
    *to = list;
    return OD_OK;
}

static od_code copy_tensors(ldr_build *b, size_t n, Onnx__TensorProto *const *p, const eng_tensor **to, od_status *st)
{
    eng_tensor *list = od_arena_calloc(&b->model->arena, n, sizeof *list);
    if (!list) return od_fail(st, OD_NO_MEMORY, "no memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) OD_TRY(ldr_tensor_from_proto(p[i], &b->source, &list[i], st));
    *to = list;
    return OD_OK;
}

static od_code copy_sparse(ldr_build *b, size_t n, Onnx__SparseTensorProto *const *p, const eng_tensor **to,
                           od_status *st)
{
    eng_tensor *list = od_arena_calloc(&b->model->arena, n, sizeof *list);
    if (!list) return od_fail(st, OD_NO_MEMORY, "no memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) OD_TRY(ldr_tensor_from_sparse(p[i], &b->source, &list[i], st));
    *to = list;
    return OD_OK;
}

static od_code copy_graphs(ldr_build *b, eng_graph *g, const ldr_scope *scope, size_t n, Onnx__GraphProto *const *p,
                           int depth, eng_graph ***to, od_status *st)
{
    eng_graph **list = od_arena_calloc(&b->model->arena, n, sizeof *list);
    if (!list) return od_fail(st, OD_NO_MEMORY, "no memory for %zu graphs", n);
    for (size_t i = 0; i < n; i++) {
        list[i] = eng_graph_create(b->model, g, p[i]->name ? p[i]->name : "");
        if (!list[i]) return od_fail(st, OD_NO_MEMORY, "no memory for a graph");
        OD_TRY(ldr_build_graph(b, list[i], scope, p[i], depth + 1, st));
    }
    *to = list;
    return OD_OK;
}

static od_code copy_type(ldr_build *b, const Onnx__TypeProto *p, eng_attr *out, od_status *st)
{
    int64_t chain[TYPE_CHAIN_MAX];
    int n;
    OD_TRY(ldr_type_chain(p, chain, TYPE_CHAIN_MAX, &n, st));
    out->n = n;
    return copy_numbers(b, (size_t)n, chain, sizeof *chain, (const void **)&out->ints, st);
}

/* Attributes of functions are copied at each call, so they count. Graphs are counted node by node. */
static size_t bytes_of(const Onnx__AttributeProto *a)
{
    size_t bytes = a->s.len + 8 * (a->n_ints + a->n_floats) + 128 * a->n_strings;
    for (size_t i = 0; i < a->n_strings; i++) bytes += a->strings[i].len;
    if (a->t) bytes += ldr_tensor_cost(a->t);
    for (size_t i = 0; i < a->n_tensors; i++) bytes += ldr_tensor_cost(a->tensors[i]);
    if (a->sparse_tensor || a->n_sparse_tensors) bytes += LDR_INLINE_MAX / 64;
    return bytes;
}

static od_code copy_value(ldr_build *b, eng_graph *g, const ldr_attr *from, int depth, eng_attr *out, od_status *st)
{
    const Onnx__AttributeProto *a = from->value;
    static const uint8_t kinds[] = {
        [KIND(FLOAT)] = ENG_ATTR_FLOAT,
        [KIND(INT)] = ENG_ATTR_INT,
        [KIND(STRING)] = ENG_ATTR_STRING,
        [KIND(TENSOR)] = ENG_ATTR_TENSOR,
        [KIND(GRAPH)] = ENG_ATTR_GRAPH,
        [KIND(FLOATS)] = ENG_ATTR_FLOATS,
        [KIND(INTS)] = ENG_ATTR_INTS,
        [KIND(STRINGS)] = ENG_ATTR_STRINGS,
        [KIND(TENSORS)] = ENG_ATTR_TENSORS,
        [KIND(GRAPHS)] = ENG_ATTR_GRAPHS,
        [KIND(SPARSE_TENSOR)] = ENG_ATTR_TENSOR,
        [KIND(SPARSE_TENSORS)] = ENG_ATTR_TENSORS,
        [KIND(TYPE_PROTO)] = ENG_ATTR_INTS,
    };
    int kind = kind_of(a);
    if (kind < 1 || (size_t)kind >= OD_COUNT(kinds))
        return od_fail(st, OD_UNSUPPORTED, "its kind, %d, is not supported", kind);
    if (!kind_fits(a, kind)) return od_fail(st, OD_BAD_MODEL, "its value is not of the kind it declares, %d", kind);
    out->kind = kinds[kind];
    OD_TRY(ldr_inline_charge(b, bytes_of(a), st));
    switch (kind) {
    case KIND(FLOAT): out->f = a->f; return OD_OK;
    case KIND(INT): out->i = a->i; return OD_OK;
    case KIND(STRING): return copy_string(b, &a->s, &out->s, st);
    case KIND(FLOATS):
        out->n = (int64_t)a->n_floats;
        return copy_numbers(b, a->n_floats, a->floats, sizeof(float), (const void **)&out->floats, st);
    case KIND(INTS):
        out->n = (int64_t)a->n_ints;
        return copy_numbers(b, a->n_ints, a->ints, sizeof(int64_t), (const void **)&out->ints, st);
    case KIND(STRINGS):
        out->n = (int64_t)a->n_strings;
        return copy_strings(b, a->n_strings, a->strings, &out->strings, st);
    case KIND(TENSOR): out->n = 1; return copy_tensors(b, 1, &a->t, &out->tensors, st);
    case KIND(TENSORS):
        out->n = (int64_t)a->n_tensors;
        return copy_tensors(b, a->n_tensors, a->tensors, &out->tensors, st);
    case KIND(SPARSE_TENSOR):
        out->n = 1;
        return copy_sparse(b, 1, &a->sparse_tensor, &out->tensors, st);
    case KIND(SPARSE_TENSORS):
        out->n = (int64_t)a->n_sparse_tensors;
        return copy_sparse(b, a->n_sparse_tensors, a->sparse_tensors, &out->tensors, st);
    case KIND(GRAPH):
        out->n = 1;
        return copy_graphs(b, g, from->scope, 1, &a->g, depth, &out->graphs, st);
    case KIND(GRAPHS):
        out->n = (int64_t)a->n_graphs;
        return copy_graphs(b, g, from->scope, a->n_graphs, a->graphs, depth, &out->graphs, st);
    default: return copy_type(b, a->tp, out, st);
    }
}

od_code ldr_attr_copy(ldr_build *b, eng_graph *g, const ldr_attr *a, int depth, eng_attr *out, od_status *st)
{
    eng_attr v = {.name = od_arena_strdup(&b->model->arena, a->name, strlen(a->name))};
    if (!v.name) return od_fail(st, OD_NO_MEMORY, "no memory for an attribute");
    if (copy_value(b, g, a, depth, &v, st) != OD_OK)
        return st->code == OD_TOO_LARGE ? st->code : od_note(st, "attribute '%.40s'", a->name);
    *out = v; /* only when it is whole: the model may be destroyed any time */
    return OD_OK;
}

od_code ldr_attr_constant(ldr_build *b, const ldr_attr *a, eng_tensor *out, od_status *st)
{
    static const struct {
        const char *name;
        eng_attr_kind kind;
        eng_dtype dtype;
    } forms[] = {
        {"value", ENG_ATTR_TENSOR, ENG_UNDEFINED},  {"sparse_value", ENG_ATTR_TENSOR, ENG_UNDEFINED},
        {"value_int", ENG_ATTR_INT, ENG_INT64},     {"value_ints", ENG_ATTR_INTS, ENG_INT64},
        {"value_float", ENG_ATTR_FLOAT, ENG_FLOAT}, {"value_floats", ENG_ATTR_FLOATS, ENG_FLOAT},
        {"value_string", ENG_ATTR_STRING, ENG_STRING}, {"value_strings", ENG_ATTR_STRINGS, ENG_STRING},
    };
    eng_attr v = {0};
    size_t i = 0;
    while (i < OD_COUNT(forms) && strcmp(forms[i].name, a->name)) i++;
    if (i == OD_COUNT(forms)) return od_fail(st, OD_BAD_MODEL, "a Constant with an attribute '%.40s'", a->name);
    if (a->value->g || a->value->n_graphs) return od_fail(st, OD_BAD_MODEL, "a Constant with a graph");
    if (copy_value(b, NULL, a, 0, &v, st) != OD_OK) return od_note(st, "attribute '%.40s'", a->name);
    if (v.kind != forms[i].kind)
        return od_fail(st, OD_BAD_MODEL, "attribute '%s' of a Constant is of another kind", a->name);
    *out = (eng_tensor){.dtype = forms[i].dtype, .rank = 0};
    const void *from = NULL;
    switch (v.kind) {
    case ENG_ATTR_TENSOR: *out = v.tensors[0]; return OD_OK;
    case ENG_ATTR_INT: from = &v.i; break;
    case ENG_ATTR_FLOAT: from = &v.f; break;
    case ENG_ATTR_STRING: from = &v.s; break;
    case ENG_ATTR_INTS: out->data = (void *)(uintptr_t)v.ints; break;
    case ENG_ATTR_FLOATS: out->data = (void *)(uintptr_t)v.floats; break;
    default: out->data = (void *)(uintptr_t)v.strings; break;
    }
    if (!from) {
        out->rank = 1;
        out->dims[0] = v.n;
        return OD_OK;
    }
    out->data = od_arena_alloc(&b->model->arena, sizeof(eng_str));
    if (!out->data) return od_fail(st, OD_NO_MEMORY, "no memory for a constant");
    memcpy(out->data, from, eng_dtype_size(out->dtype));
    return OD_OK;
}
