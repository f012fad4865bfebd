/* types.c - domains, operator set versions, and declared types. */
#include "loaders/onnx/build.h"
#include "loaders/onnx.h"

#include <string.h>

static const struct {
    const char *name;
    int opset_max;
} domains[ENG_DOMAINS] = {
    [ENG_DOMAIN_ONNX] = {"ai.onnx", 28},
    [ENG_DOMAIN_ML] = {"ai.onnx.ml", 5},
    [ENG_DOMAIN_MS] = {"com.microsoft", 1},
    [ENG_DOMAIN_PREVIEW] = {"ai.onnx.preview", 1},
};

int ldr_onnx_opset_max(eng_domain domain)
{
    return domains[domain].opset_max;
}

bool ldr_domain(const char *name, eng_domain *out)
{
    *out = ENG_DOMAIN_ONNX;
    if (!name || !*name) return true;
    for (int d = 0; d < ENG_DOMAINS; d++) {
        if (!domains[d].name || strcmp(name, domains[d].name)) continue;
        *out = (eng_domain)d;
        return true;
    }
    return false;
}

od_code ldr_opsets(size_t n, Onnx__OperatorSetIdProto *const *p, int *opset, od_status *st)
{
    memset(opset, 0, ENG_DOMAINS * sizeof *opset);
    for (size_t i = 0; i < n; i++) {
        eng_domain d;
        if (!ldr_domain(p[i]->domain, &d)) continue; /* many models import what they do not use */
        if (p[i]->version < 1)
            return od_fail(st, OD_BAD_MODEL, "operator set %" PRId64 " of %s", p[i]->version, domains[d].name);
        if (p[i]->version > domains[d].opset_max)
            return od_fail(st, OD_UNSUPPORTED, "operator set %" PRId64 " of %s; onnxd knows up to %d", p[i]->version,
                           domains[d].name, domains[d].opset_max);
        opset[d] = (int)p[i]->version;
    }
    return OD_OK;
}

static od_code apply_shape(ldr_build *b, eng_value *v, const Onnx__TensorShapeProto *p, od_status *st)
{
    if (!p) return OD_OK;
    if (p->n_dim > ENG_MAX_RANK)
        return od_fail(st, OD_UNSUPPORTED, "rank %zu; onnxd knows up to %d", p->n_dim, ENG_MAX_RANK);
    v->rank = (int)p->n_dim;
    v->dim_names = NULL;
    for (int i = 0; i < v->rank; i++) {
        const Onnx__TensorShapeProto__Dimension *d = p->dim[i];
        v->dims[i] = -1;
        if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value >= 0)
            v->dims[i] = d->dim_value;
        if (d->value_case != ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM || !*d->dim_param) continue;
        if (!v->dim_names) v->dim_names = od_arena_array(&b->model->arena, const char *, v->rank);
        const char *name = od_arena_strdup(&b->model->arena, d->dim_param, strlen(d->dim_param));
        if (v->dim_names) v->dim_names[i] = name;
        if (!v->dim_names || !name) return od_fail(st, OD_NO_MEMORY, "no memory for a dimension's name");
    }
    return OD_OK;
}

static od_code apply(ldr_build *b, eng_value *v, const Onnx__TypeProto *p, od_status *st)
{
    switch (p->value_case) {
    case ONNX__TYPE_PROTO__VALUE__NOT_SET: return OD_OK;
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
        if (p->tensor_type->elem_type) OD_TRY(ldr_tensor_type(p->tensor_type->elem_type, &v->dtype, st));
        return apply_shape(b, v, p->tensor_type->shape, st);
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE: v->dtype = ENG_SEQUENCE; return OD_OK;
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE: v->dtype = ENG_OPTIONAL; return OD_OK;
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE: v->dtype = ENG_MAP; return OD_OK;
    case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE:
        return od_fail(st, OD_UNSUPPORTED, "a value that is a sparse tensor; only constants may be");
    default: return od_fail(st, OD_UNSUPPORTED, "a value of an opaque type");
    }
}

od_code ldr_type_apply(ldr_build *b, eng_graph *g, int v, const Onnx__TypeProto *p, od_status *st)
{
    if (!p || apply(b, &g->values[v], p, st) == OD_OK) return OD_OK;
    return od_note(st, "type of '%.60s'", g->values[v].name);
}

od_code ldr_type_chain(const Onnx__TypeProto *p, int64_t *out, int max, int *count, od_status *st)
{
    *count = 0;
    while (p) {
        eng_dtype t;
        if (*count == max) return od_fail(st, OD_UNSUPPORTED, "types are nested more than %d deep", max);
        switch (p->value_case) {
        case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
            OD_TRY(ldr_tensor_type(p->tensor_type->elem_type, &t, st));
            out[(*count)++] = t;
            return OD_OK;
        case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
            out[(*count)++] = ENG_SEQUENCE;
            p = p->sequence_type->elem_type;
            break;
        case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
            out[(*count)++] = ENG_OPTIONAL;
            p = p->optional_type->elem_type;
            break;
        default: return od_fail(st, OD_UNSUPPORTED, "a type attribute that is no tensor, sequence or optional");
        }
    }
    return OD_OK;
}
