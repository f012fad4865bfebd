/* wide.c - running an operator in a wider type than its tensors have: eng_op_run. */
#include "engine/kernels/half.h"
#include "engine/plan.h"


static bool is_half(eng_dtype t)
{
    return t == ENG_FLOAT16 || t == ENG_BFLOAT16;
}

/* The type that `op` computes in for a tensor of type `t`, `first` being input 0's. */
static eng_dtype wide_type(const eng_op *op, eng_dtype first, eng_dtype t)
{
    if (op->flags & ENG_HALF && is_half(t)) return ENG_FLOAT;
    if (t != first) return t;
    if (op->flags & ENG_AS_DOUBLE && ENG_T(t) & (ENG_T_INT | ENG_T(ENG_BOOL))) return ENG_DOUBLE;
    if (op->flags & ENG_AS_INT32 && ENG_T(t) & ENG_T_INT && eng_dtype_size(t) < sizeof(int32_t)) return ENG_INT32;
    return t;
}

/* `n` elements from `from` on. */
static void widen(const char *from, eng_dtype is, void *to, eng_dtype becomes, int64_t n)
{
    eng_tensor t = {.dtype = is, .data = (void *)(uintptr_t)from};
    if (is == ENG_FLOAT16) eng_half_to_float((const void *)from, to, n);
    else if (is == ENG_BFLOAT16) eng_bfloat_to_float((const void *)from, to, n);
    else if (becomes == ENG_INT32)
        for (int64_t i = 0; i < n; i++) ((int32_t *)to)[i] = (int32_t)eng_tensor_int(&t, i);
    else
        for (int64_t i = 0; i < n; i++) ((double *)to)[i] = eng_tensor_double(&t, i);
}

static uint64_t whole(double d)
{
    return d >= 0x1p63 ? (uint64_t)d : d > -0x1p63 ? (uint64_t)(int64_t)d : 0; /* also NaN */
}

static void narrow(const char *from, eng_dtype is, char *to, eng_dtype becomes, int64_t n)
{
    if (becomes == ENG_FLOAT16) {
        eng_float_to_half((const void *)from, (void *)to, n);
        return;
    }
    if (becomes == ENG_BFLOAT16) {
        eng_float_to_bfloat((const void *)from, (void *)to, n);
        return;
    }
    size_t size = eng_dtype_size(becomes);
    for (int64_t i = 0; i < n; i++) { /* the lowest bytes come first on every processor that this runs on */
        double d = is == ENG_DOUBLE ? ((const double *)(const void *)from)[i] : 0.0;
        uint64_t v = is == ENG_INT32 ? (uint64_t)(int64_t)((const int32_t *)(const void *)from)[i] : becomes == ENG_BOOL ? (uint64_t)(d != 0.0) : whole(d);
        for (size_t b = 0; b < size; b++) to[(size_t)i * size + b] = (char)(v >> 8 * b);
    }
}

/* Back into `to`, whose pixels may lie apart with other tensors' in between. */
static void write_back(const eng_tensor *to, const eng_tensor *from)
{
    int64_t all = (int64_t)(eng_tensor_bytes(to) / eng_dtype_size(to->dtype)), run = all, step = all;
    if (to->layout == ENG_CL && to->pitch != to->dims[1]) {
        run = to->dims[1];
        step = to->pitch;
    }
    for (int64_t at = 0; at < all; at += step)
        narrow((const char *)from->data + (size_t)at * eng_dtype_size(from->dtype), from->dtype,
               (char *)to->data + (size_t)at * eng_dtype_size(to->dtype), to->dtype, run);
}

/* `like` with data of its own, of another type. */
static bool make_wide(eng_tensor *to, const eng_tensor *like, eng_dtype type, od_arena *a)
{
    size_t n = eng_tensor_bytes(like) / eng_dtype_size(like->dtype);
    *to = *like;
    to->dtype = type;
    return (to->data = od_arena_alloc(a, n * eng_dtype_size(type))) != NULL;
}

static od_code run_wide(eng_ctx *c, eng_dtype first, od_status *st)
{
    const eng_op *op = c->node->op;
    od_arena *a = c->scratch;
    eng_ctx w = *c;
    w.in = od_arena_array(a, const eng_tensor *, c->n_in);
    w.out = od_arena_array(a, eng_tensor *, c->n_out);
    eng_tensor *tmp = od_arena_array(a, eng_tensor, (int64_t)c->n_in + c->n_out);
    if (!w.in || !w.out || !tmp) return od_fail(st, OD_NO_MEMORY, "no memory to widen %d tensors", c->n_in + c->n_out);
    for (int i = 0; i < c->n_in; i++) {
        eng_dtype type = c->in[i] ? wide_type(op, first, c->in[i]->dtype) : ENG_UNDEFINED;
        w.in[i] = c->in[i];
        if (!c->in[i] || type == c->in[i]->dtype) continue;
        if (!make_wide(&tmp[i], c->in[i], type, a)) return od_fail(st, OD_NO_MEMORY, "no memory to widen input %d", i);
        widen(c->in[i]->data, c->in[i]->dtype, tmp[i].data, type, (int64_t)(eng_tensor_bytes(c->in[i]) / eng_dtype_size(c->in[i]->dtype)));
        w.in[i] = &tmp[i];
    }
    for (int k = 0; k < c->n_out; k++) {
        eng_dtype type = c->out[k] ? wide_type(op, first, c->out[k]->dtype) : ENG_UNDEFINED;
        w.out[k] = c->out[k];
        if (!c->out[k] || type == c->out[k]->dtype) continue;
        w.out[k] = &tmp[c->n_in + k];
        if (!make_wide(w.out[k], c->out[k], type, a)) return od_fail(st, OD_NO_MEMORY, "no memory to widen output %d", k);
    }
    OD_TRY(op->run(&w, st));
    for (int k = 0; k < c->n_out; k++)
        if (w.out[k] != c->out[k]) write_back(c->out[k], w.out[k]);
    return OD_OK;
}

od_code eng_op_run(eng_ctx *c, od_status *st)
{
    const eng_op *op = c->node->op;
    eng_dtype first = c->n_in && c->in[0] ? c->in[0]->dtype : ENG_UNDEFINED;
    bool wide = false;
    if (op->flags & (ENG_HALF | ENG_AS_DOUBLE | ENG_AS_INT32)) {
        for (int i = 0; i < c->n_in && !wide; i++) wide = c->in[i] && wide_type(op, first, c->in[i]->dtype) != c->in[i]->dtype;
        for (int k = 0; k < c->n_out && !wide; k++) wide = c->out[k] && wide_type(op, first, c->out[k]->dtype) != c->out[k]->dtype;
    }
    return wide ? run_wide(c, first, st) : op->run(c, st);
}
