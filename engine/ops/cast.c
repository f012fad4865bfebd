/* cast.c - Cast, CastLike, BitCast: every pair of types.
 *
 * A block of elements is widened to int64, uint64 or double, whichever holds its type exactly, and
 * narrowed from there, so that types need not know each other. What a processor does with floats
 * that do not fit an integer is undefined in C; here they become what x86 makes of them. */
#include "engine/kernels/elementwise.h"
#include "engine/kernels/half.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256 };

typedef enum wide_kind { WIDE_INT, WIDE_UINT, WIDE_FLOAT } wide_kind;

typedef struct wide_block {
    wide_kind kind;
    union {
        int64_t i[BLOCK];
        uint64_t u[BLOCK];
        double d[BLOCK];
    } of;
} wide_block;

typedef struct cast_job {
    eng_ctx *c;
    eng_dtype from, to;
    bool saturate;
    eng_e8_round round;
    od_status *st;
    od_code rc; /* of strings, which are cast on one thread */
} cast_job;

/* ---- widening ------------------------------------------------------------------------------- */

#define WIDEN(T, field)                                                                       \
    for (int64_t i = 0; i < n; i++) w->of.field[i] = ((const T *)(const void *)p)[i * step];  \
    return

static void widen(wide_block *w, const char *p, eng_dtype t, int64_t step, int64_t n)
{
    w->kind = WIDE_INT;
    switch (t) {
    case ENG_INT8:
    case ENG_INT4:
    case ENG_INT2: WIDEN(int8_t, i);
    case ENG_INT16: WIDEN(int16_t, i);
    case ENG_INT32: WIDEN(int32_t, i);
    case ENG_INT64: WIDEN(int64_t, i);
    case ENG_UINT8:
    case ENG_UINT4:
    case ENG_UINT2: WIDEN(uint8_t, i);
    case ENG_UINT16: WIDEN(uint16_t, i);
    case ENG_UINT32: WIDEN(uint32_t, i);
    case ENG_BOOL:
        for (int64_t i = 0; i < n; i++) w->of.i[i] = p[i * step] != 0;
        return;
    case ENG_UINT64: w->kind = WIDE_UINT; WIDEN(uint64_t, u);
    case ENG_FLOAT:
        w->kind = WIDE_FLOAT;
        for (int64_t i = 0; i < n; i++) w->of.d[i] = (double)((const float *)(const void *)p)[i * step];
        return;
    case ENG_DOUBLE: w->kind = WIDE_FLOAT; WIDEN(double, d);
    default: {
        eng_tensor in = {.dtype = t, .data = (void *)(uintptr_t)p};
        w->kind = WIDE_FLOAT;
        for (int64_t i = 0; i < n; i++) w->of.d[i] = eng_tensor_double(&in, i * step);
    }
    }
}

/* ---- narrowing ------------------------------------------------------------------------------ */

static int32_t int32_of(double d)
{
    return d > -0x1p31 - 1 && d < 0x1p31 ? (int32_t)d : INT32_MIN;
}

static uint64_t uint64_of(double d)
{
    if (!(d >= 0x1p63)) return (uint64_t)eng_truncate(d);
    return d < 0x1p64 ? (uint64_t)d : UINT64_MAX;
}

/* Bits of element i as an integer of at most `width` bits would take them. */
static uint64_t bits_at(const wide_block *w, int64_t i, int width)
{
    if (w->kind != WIDE_FLOAT) return w->of.u[i];
    double d = w->of.d[i];
    return width > 32 ? (uint64_t)eng_truncate(d) : (uint64_t)(int64_t)int32_of(d);
}

static uint8_t low_bits(uint64_t bits, int width, bool is_signed)
{
    uint64_t v = bits & ((1u << width) - 1u);
    if (is_signed && v >> (width - 1)) v |= ~(uint64_t)0 << width;
    return (uint8_t)v;
}

#define NARROW(T, expr)                                                              \
    for (int64_t i = 0; i < n; i++) ((T *)(void *)p)[i * step] = (T)(expr);          \
    return
#define NARROW_FLOAT(T)                                                              \
    if (w->kind == WIDE_INT) {                                                       \
        NARROW(T, w->of.i[i]);                                                       \
    }                                                                                \
    if (w->kind == WIDE_UINT) {                                                      \
        NARROW(T, w->of.u[i]);                                                       \
    }                                                                                \
    NARROW(T, w->of.d[i])

static double double_at(const wide_block *w, int64_t i)
{
    return w->kind == WIDE_INT ? (double)w->of.i[i] : w->kind == WIDE_UINT ? (double)w->of.u[i] : w->of.d[i];
}

static void narrow(const cast_job *j, char *p, const wide_block *w, int64_t step, int64_t n)
{
    switch (j->to) {
    case ENG_INT8: NARROW(int8_t, bits_at(w, i, 32));
    case ENG_INT16: NARROW(int16_t, bits_at(w, i, 32));
    case ENG_INT32: NARROW(int32_t, bits_at(w, i, 32));
    case ENG_INT64: NARROW(int64_t, bits_at(w, i, 64));
    case ENG_UINT8: NARROW(uint8_t, bits_at(w, i, 32));
    case ENG_UINT16: NARROW(uint16_t, bits_at(w, i, 32));
    case ENG_UINT32: NARROW(uint32_t, bits_at(w, i, 64));
    case ENG_UINT64: NARROW(uint64_t, w->kind == WIDE_FLOAT ? uint64_of(w->of.d[i]) : w->of.u[i]);
    case ENG_INT4: NARROW(uint8_t, low_bits(bits_at(w, i, 32), 4, true));
    case ENG_UINT4: NARROW(uint8_t, low_bits(bits_at(w, i, 32), 4, false));
    case ENG_INT2: NARROW(uint8_t, low_bits(bits_at(w, i, 32), 2, true));
    case ENG_UINT2: NARROW(uint8_t, low_bits(bits_at(w, i, 32), 2, false));
    case ENG_BOOL: NARROW(uint8_t, w->kind == WIDE_FLOAT ? w->of.d[i] != 0 : w->of.u[i] != 0);
    case ENG_FLOAT: NARROW_FLOAT(float);
    case ENG_DOUBLE: NARROW_FLOAT(double);
    case ENG_FLOAT16:
    case ENG_BFLOAT16: NARROW(uint16_t, eng_small_float(double_at(w, i), j->to, false, j->round));
    default: NARROW(uint8_t, eng_small_float(double_at(w, i), j->to, j->saturate, j->round));
    }
}

/* ---- strings -------------------------------------------------------------------------------- */

/* The value of `d` in type `t`, for finding how many digits tell it from its neighbours. */
static double as_type(double d, eng_dtype t)
{
    uint16_t bits[2] = {0};
    if (t == ENG_DOUBLE) return d;
    if (t == ENG_FLOAT) return (double)(float)d;
    unsigned code = eng_small_float(d, t, false, ENG_E8_NEAREST);
    if (eng_dtype_size(t) == 2) bits[0] = (uint16_t)code;
    else *(uint8_t *)bits = (uint8_t)code;
    return eng_tensor_double(&(eng_tensor){.dtype = t, .data = bits}, 0);
}

/* Shortest decimal that reads back as `d`, laid out as Python does: a point always, an exponent only
 * below 1e-4 and from 1e16 on. */
static void float_text(char *text, size_t size, double d, eng_dtype t)
{
    char digits[40];
    int count = 1, exponent;
    if (isnan(d) || isinf(d)) {
        snprintf(text, size, "%s", isnan(d) ? "nan" : d > 0 ? "inf" : "-inf");
        return;
    }
    do snprintf(digits, sizeof digits, "%.*e", count - 1, d);
    while (count++ < 17 && as_type(strtod(digits, NULL), t) != d);
    count--;
    exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16)
        snprintf(text, size, "%s", digits);
    else
        snprintf(text, size, "%.*f", count - 1 - exponent > 1 ? count - 1 - exponent : 1, d);
}

static od_code put_string(cast_job *j, eng_str *out, const wide_block *w, int64_t i)
{
    char text[48];
    if (j->from == ENG_BOOL)
        snprintf(text, sizeof text, "%s", w->of.i[i] ? "True" : "False");
    else if (w->kind == WIDE_INT)
        snprintf(text, sizeof text, "%" PRId64, w->of.i[i]);
    else if (w->kind == WIDE_UINT)
        snprintf(text, sizeof text, "%" PRIu64, w->of.u[i]);
    else
        float_text(text, sizeof text, w->of.d[i], j->from);
    size_t len = strlen(text);
    char *copy = eng_run_alloc(j->c, len + 1);
    if (!copy) return od_fail(j->st, OD_NO_MEMORY, "no memory for a string of %zu bytes", len);
    memcpy(copy, text, len + 1);
    *out = (eng_str){copy, len};
    return OD_OK;
}

/* Element i of `w` from a number in a string. Integers keep all their digits. */
static od_code get_string(cast_job *j, wide_block *w, int64_t i, const eng_str *s)
{
    char text[64], *end = text;
    if (s->len && s->len < sizeof text) {
        memcpy(text, s->ptr, s->len);
        text[s->len] = 0;
        errno = 0;
        long long whole = strtoll(text, &end, 10);
        w->of.d[i] = strtod(text, &end);
        bool number = end != text && *end == 0;
        if (!number && j->to == ENG_BOOL && (!strcasecmp(text, "true") || !strcasecmp(text, "false"))) {
            w->of.d[i] = tolower((unsigned char)text[0]) == 't';
            return OD_OK;
        }
        if (number && j->to == ENG_UINT64 && w->of.d[i] >= 0x1p63 && !strpbrk(text, ".eExXnN"))
            w->of.u[i] = strtoull(text, NULL, 10);
        else if (number && (j->to == ENG_INT64 || j->to == ENG_UINT64))
            w->of.i[i] = strpbrk(text, ".eExXnN") ? eng_truncate(w->of.d[i]) : whole;
        if (number) return OD_OK;
    }
    return od_fail(j->st, OD_BAD_VALUE, "\"%.*s\" is no number", (int)(s->len > 60 ? 60 : s->len), s->len ? s->ptr : "");
}

static void from_string(cast_job *j, int64_t n, char *const *p, const int64_t *step)
{
    const eng_str *s = (const eng_str *)(const void *)p[1];
    size_t size = eng_dtype_size(j->to);
    wide_block w;
    w.kind = j->to == ENG_INT64 ? WIDE_INT : j->to == ENG_UINT64 ? WIDE_UINT : WIDE_FLOAT;
    for (int64_t i = 0; i < n && j->rc == OD_OK; i++) {
        if (j->to == ENG_STRING) {
            ((eng_str *)(void *)p[0])[i * step[0]] = s[i * step[1]];
            continue;
        }
        j->rc = get_string(j, &w, 0, &s[i * step[1]]);
        if (j->rc == OD_OK) narrow(j, p[0] + i * step[0] * (int64_t)size, &w, 1, 1);
    }
}

static void to_string(cast_job *j, int64_t n, char *const *p, const int64_t *step)
{
    wide_block w;
    size_t size = eng_dtype_size(j->from);
    for (int64_t i = 0; i < n && j->rc == OD_OK; i++) {
        widen(&w, p[1] + i * step[1] * (int64_t)size, j->from, 1, 1);
        j->rc = put_string(j, (eng_str *)(void *)p[0] + i * step[0], &w, 0);
    }
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Dense rows that have a loop of their own; false: not these types. */
static bool cast_fast(const cast_job *j, int64_t n, char *const *p, const int64_t *step)
{
    const void *from = p[1];
    void *to = p[0];
    if (step[0] != 1 || step[1] != 1) return false;
    if (j->from == j->to) {
        memmove(to, from, (size_t)n * eng_dtype_size(j->from));
    } else if (j->from == ENG_FLOAT16 && j->to == ENG_FLOAT) {
        eng_half_to_float(from, to, n);
    } else if (j->from == ENG_FLOAT && j->to == ENG_FLOAT16) {
        eng_float_to_half(from, to, n);
    } else if (j->from == ENG_BFLOAT16 && j->to == ENG_FLOAT) {
        eng_bfloat_to_float(from, to, n);
    } else if (j->from == ENG_FLOAT && j->to == ENG_BFLOAT16) {
        eng_float_to_bfloat(from, to, n);
    } else if (j->to == ENG_FLOAT && (j->from == ENG_BOOL || j->from == ENG_UINT8)) {
        eng_elementwise_table()->widen_u8(to, from, n, j->from == ENG_BOOL ? 1 : 255);
    } else if (j->from == ENG_INT64 && j->to == ENG_FLOAT) {
        for (int64_t i = 0; i < n; i++) ((float *)to)[i] = (float)((const int64_t *)from)[i];
    } else if (j->from == ENG_INT32 && j->to == ENG_FLOAT) {
        for (int64_t i = 0; i < n; i++) ((float *)to)[i] = (float)((const int32_t *)from)[i];
    } else if (j->from == ENG_FLOAT && j->to == ENG_BOOL) {
        for (int64_t i = 0; i < n; i++) ((uint8_t *)to)[i] = ((const float *)from)[i] != 0;
    } else {
        return false;
    }
    return true;
}

static void cast_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const cast_job *j = arg;
    if (cast_fast(j, n, p, step)) return;
    wide_block w;
    int64_t from = step[1] * (int64_t)eng_dtype_size(j->from), to = step[0] * (int64_t)eng_dtype_size(j->to);
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = od_min_i64(BLOCK, n - i);
        widen(&w, p[1] + i * from, j->from, step[1], m);
        narrow(j, p[0] + i * to, &w, step[0], m);
    }
}

static void string_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    cast_job *j = arg;
    if (j->from == ENG_STRING) from_string(j, n, p, step);
    else to_string(j, n, p, step);
}

/* ---- operators ------------------------------------------------------------------------------ */

static bool castable(eng_dtype t)
{
    return t > ENG_UNDEFINED && t < ENG_SEQUENCE && t != ENG_COMPLEX64 && t != ENG_COMPLEX128;
}

static od_code infer_to(eng_ctx *c, int64_t to, od_status *st)
{
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    if (to < 0 || to >= ENG_DTYPES || !castable((eng_dtype)to))
        return od_fail(st, OD_UNSUPPORTED, "casting to type %" PRId64 " (%s)", to,
                       to < 0 || to >= ENG_DTYPES ? "?" : eng_dtype_name((eng_dtype)to));
    if (!castable(c->in[0]->dtype))
        return od_fail(st, OD_UNSUPPORTED, "casting from %s", eng_dtype_name(c->in[0]->dtype));
    return eng_set_out(c, 0, (eng_dtype)to, c->in[0]->rank, c->in[0]->dims, st);
}

static od_code check_round(const eng_ctx *c, od_status *st)
{
    const eng_attr *a = eng_node_attr(c->node, "round_mode");
    static const char *const known[] = {"up", "down", "nearest"};
    for (int i = 0; i < 3; i++)
        if (eng_node_string_is(c->node, "round_mode", "up", known[i])) return OD_OK;
    return od_fail(st, OD_BAD_ARGUMENT, "round_mode \"%.*s\" is neither up, down nor nearest",
                   a ? (int)od_min_i64((int64_t)a->s.len, 40) : 0, a ? a->s.ptr : "");
}

od_code eng_cast_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(check_round(c, st));
    return infer_to(c, eng_node_int(c->node, "to", 0), st);
}

od_code eng_cast_like_infer(eng_ctx *c, od_status *st)
{
    if (c->n_in < 2 || !c->in[1]) return od_fail(st, OD_BAD_MODEL, "input 1 is missing");
    OD_TRY(check_round(c, st));
    return infer_to(c, c->in[1]->dtype, st);
}

od_code eng_cast_run(eng_ctx *c, od_status *st)
{
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    cast_job j = {.c = c, .from = c->in[0]->dtype, .to = c->out[0]->dtype, .st = st};
    j.saturate = eng_node_int(c->node, "saturate", 1) != 0;
    j.round = eng_node_string_is(c->node, "round_mode", "up", "down")      ? ENG_E8_DOWN
              : eng_node_string_is(c->node, "round_mode", "up", "nearest") ? ENG_E8_NEAREST
                                                                           : ENG_E8_UP;
    bool strings = j.from == ENG_STRING || j.to == ENG_STRING;
    eng_walk w;
    eng_walk_init(&w, 2, (const eng_tensor *[]){c->out[0], c->in[0]});
    if (strings) eng_walk_run(&w, NULL, 2, string_row, &j);
    else eng_walk_go(c, &w, 2, cast_row, &j);
    return j.rc;
}

/* Opset 1 named the type: "FLOAT". */
od_code eng_cast_import(eng_graph *g, eng_node *n, od_status *st)
{
    const eng_attr *a = eng_node_attr(n, "to");
    if (!a || a->kind != ENG_ATTR_STRING) return OD_OK;
    for (int t = ENG_FLOAT; t < ENG_SEQUENCE; t++) {
        const char *name = eng_dtype_name((eng_dtype)t);
        if (strlen(name) != a->s.len || strncasecmp(name, a->s.ptr, a->s.len)) continue;
        eng_node_drop_attr(n, "to");
        return eng_node_set_int(g, n, "to", t, st);
    }
    return od_fail(st, OD_BAD_MODEL, "no type is called \"%.*s\"", (int)od_min_i64((int64_t)a->s.len, 40), a->s.ptr);
}

/* ---- BitCast -------------------------------------------------------------------------------- */

static int bit_width(eng_dtype t)
{
    switch (t) {
    case ENG_INT2:
    case ENG_UINT2: return 2;
    case ENG_INT4:
    case ENG_UINT4:
    case ENG_FLOAT4E2M1: return 4;
    case ENG_FLOAT6E2M3:
    case ENG_FLOAT6E3M2: return 6;
    default: return (int)eng_dtype_size(t) * 8;
    }
}

od_code eng_bit_cast_infer(eng_ctx *c, od_status *st)
{
    int64_t to = eng_node_int(c->node, "to", 0);
    if (c->n_in < 1 || !c->in[0]) return od_fail(st, OD_BAD_MODEL, "input 0 is missing");
    eng_dtype from = c->in[0]->dtype;
    if (to <= 0 || to >= ENG_SEQUENCE || to == ENG_STRING || from == ENG_STRING)
        return od_fail(st, OD_BAD_ARGUMENT, "%s seen as type %" PRId64, eng_dtype_name(from), to);
    if (bit_width(from) != bit_width((eng_dtype)to))
        return od_fail(st, OD_BAD_ARGUMENT, "%s has %d bits, %s has %d", eng_dtype_name(from), bit_width(from),
                       eng_dtype_name((eng_dtype)to), bit_width((eng_dtype)to));
    return eng_set_out(c, 0, (eng_dtype)to, c->in[0]->rank, c->in[0]->dims, st);
}

od_code eng_bit_cast_run(eng_ctx *c, od_status *st)
{
    (void)st;
    if (c->n_out < 1 || !c->out[0]) return OD_OK;
    eng_dtype to = c->out[0]->dtype;
    int width = bit_width(to);
    const uint8_t *from = c->in[0]->data;
    uint8_t *out = c->out[0]->data;
    if (width >= 8) {
        memmove(out, from, eng_tensor_bytes(c->in[0]));
        return OD_OK;
    }
    int64_t n = eng_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) out[i] = low_bits(from[i], width, to == ENG_INT4 || to == ENG_INT2);
    return OD_OK;
}
