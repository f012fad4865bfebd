/* op_case.h - runs one operator of the registry on tensors made by hand. */
#ifndef OP_CASE_H
#define OP_CASE_H

#include "engine/op.h"
#include "tests/test.h"

enum { CASE_MAX = 8 };

typedef struct op_case {
    eng_attr attrs[CASE_MAX];
    int n_attrs, n_in;
    eng_tensor in[CASE_MAX];
    eng_tensor out; /* layout and pitch may be set before the run */
    od_arena arena;
    eng_model *model; /* owns what prepare made */
} op_case;

OD_UNUSED static void case_int(op_case *c, const char *name, int64_t v)
{
    c->attrs[c->n_attrs++] = (eng_attr){.name = name, .kind = ENG_ATTR_INT, .i = v};
}

OD_UNUSED static void case_float(op_case *c, const char *name, float v)
{
    c->attrs[c->n_attrs++] = (eng_attr){.name = name, .kind = ENG_ATTR_FLOAT, .f = v};
}

OD_UNUSED static void case_ints(op_case *c, const char *name, int64_t n, const int64_t *v)
{
    int64_t *copy = od_arena_alloc(&c->arena, (size_t)n * sizeof *v);
    memcpy(copy, v, (size_t)n * sizeof *v);
    c->attrs[c->n_attrs++] = (eng_attr){.name = name, .kind = ENG_ATTR_INTS, .n = n, .ints = copy};
}

OD_UNUSED static void case_string(op_case *c, const char *name, const char *v)
{
    c->attrs[c->n_attrs++] = (eng_attr){.name = name, .kind = ENG_ATTR_STRING, .s = {v, strlen(v)}};
}

/* Input of the extents that follow, borrowed data; NULL is an omitted input. */
#define CASE_IN(c, type, data_, ...)                                                                    \
    case_in((c), (type), (data_), (int)(sizeof(int64_t[]){0, __VA_ARGS__} / sizeof(int64_t)) - 1,       \
            &(int64_t[]){0, __VA_ARGS__}[1])
OD_UNUSED static void case_in(op_case *c, eng_dtype type, const void *data, int rank, const int64_t *dims)
{
    eng_tensor *t = &c->in[c->n_in++];
    *t = (eng_tensor){.dtype = type, .rank = rank, .data = (void *)(uintptr_t)data};
    if (rank) memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
}

/* Prepare, infer, make room for the output, run. The last opset's line unless `opset` is given. */
OD_UNUSED static od_code case_run_at(op_case *c, eng_domain domain, const char *name, int opset, od_status *s)
{
    const eng_op *op = eng_op_find(domain, name, opset);
    if (!op) return od_fail(s, OD_NOT_FOUND, "no operator %s", name);
    const eng_tensor *in[CASE_MAX];
    eng_tensor *out[1] = {&c->out};
    for (int i = 0; i < c->n_in; i++) in[i] = c->in[i].dtype ? &c->in[i] : NULL;
    eng_node node = {.name = "n", .op_type = name, .domain = domain, .opset = opset, .n_attrs = c->n_attrs,
                     .attrs = c->attrs, .op = op};
    eng_ctx x = {.node = &node, .n_in = c->n_in, .n_out = 1, .in = in, .out = out, .scratch = &c->arena};
    if (op->prepare) {
        eng_model_destroy(c->model);
        OD_TRY(eng_model_create(&c->model, s));
        OD_TRY(op->prepare(c->model->graph, &node, NULL, s));
    }
    OD_TRY(op->infer(&x, s));
    if (c->out.layout == ENG_CL && !c->out.pitch) c->out.pitch = c->out.dims[1];
    if (!c->out.data) c->out.data = od_arena_zalloc(&c->arena, eng_tensor_bytes(&c->out) + 1);
    return op->run(&x, s);
}

OD_UNUSED static od_code case_run(op_case *c, const char *name, od_status *s)
{
    return case_run_at(c, ENG_DOMAIN_ONNX, name, 28, s);
}

OD_UNUSED static void case_end(op_case *c)
{
    eng_model_destroy(c->model);
    od_arena_fini(&c->arena);
    memset(c, 0, sizeof *c);
}

#define F(c, i) (((const float *)(c).out.data)[i])
#define I64(c, i) (((const int64_t *)(c).out.data)[i])
#define I32(c, i) (((const int32_t *)(c).out.data)[i])
#define U8(c, i) (((const uint8_t *)(c).out.data)[i])
#define I8(c, i) (((const int8_t *)(c).out.data)[i])

#endif
