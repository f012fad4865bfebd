/* optional.c - values that may be absent. */
#include "engine/ops/ops.h"

od_code eng_optional_infer(eng_ctx *c, od_status *st)
{
    bool has = c->n_in > 0 && c->in[0];
    eng_tensor o = {.dtype = ENG_OPTIONAL, .rank = 1, .dims = {has}, .data = eng_run_alloc(c, sizeof(eng_tensor))};
    if (!o.data) return od_fail(st, OD_NO_MEMORY, "no memory for an optional");
    if (has) *(eng_tensor *)o.data = *c->in[0];
    eng_give(c, 0, &o);
    return OD_OK;
}

od_code eng_optional_has_element_infer(eng_ctx *c, od_status *st)
{
    return eng_set_out(c, 0, ENG_BOOL, 0, NULL, st);
}

/* From opset 18 on a plain tensor or sequence counts as an optional that has it, no input as an empty one. */
od_code eng_optional_has_element_run(eng_ctx *c, od_status *st)
{
    (void)st;
    const eng_tensor *t = c->n_in ? c->in[0] : NULL;
    *(uint8_t *)c->out[0]->data = t && (t->dtype != ENG_OPTIONAL || t->dims[0] > 0);
    return OD_OK;
}

od_code eng_optional_get_element_infer(eng_ctx *c, od_status *st)
{
    const eng_tensor *t = c->n_in ? c->in[0] : NULL;
    if (!t || (t->dtype == ENG_OPTIONAL && !t->dims[0])) return od_fail(st, OD_BAD_VALUE, "the optional is empty");
    eng_give(c, 0, t->dtype == ENG_OPTIONAL ? t->data : t);
    return OD_OK;
}
