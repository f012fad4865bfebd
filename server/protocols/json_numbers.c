#include "server/protocols/json_numbers.h"

#include "engine/base/cpu.h"
#include "server/protocols/decimals.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading */

static const double power10[] = { /* 10^-44 .. 10^44 */
    1e-44, 1e-43, 1e-42, 1e-41, 1e-40, 1e-39, 1e-38, 1e-37, 1e-36, 1e-35, 1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29,
    1e-28, 1e-27, 1e-26, 1e-25, 1e-24, 1e-23, 1e-22, 1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13,
    1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7,
    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26,
    1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44,
};
enum { MOST_DIGITS = 18 /* fit 63 bits */, POWERS = 44, EXACT_POWERS = 22 /* 10^22 < 2^53 * 2^22 is a double */ };

/* A number's text as m * 10^e. */
typedef struct decimal {
    uint64_t m;
    int e;
    bool negative;
    bool cut; /* more than MOST_DIGITS: m means nothing */
} decimal;

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

static inline uint64_t load8(const char *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

/* The digits at p, eight at a time: m * 10^n + their value. A byte is a digit when it is 0 .. 9 after the exclusive or;
 * adding 0x76 raises its top bit when it is more. Carries only reach bytes behind the first that is no digit. */
static inline const char *digits(const char *p, uint64_t *m)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    static const uint64_t scale[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    for (;;) {
        uint64_t x = load8(p) ^ 0x3030303030303030u, stop = ((x + 0x7676767676767676u) | x) & 0x8080808080808080u;
        int n = stop ? __builtin_ctzll(stop) >> 3 : 8;
        x = n ? x << (64 - 8 * n) : 0; /* zeros in front */
        x = x * 10 + (x >> 8);         /* pairs, then fours and eight by two multiplications */
        x = ((x & 0x000000ff000000ffu) * 0x000f424000000064u + (x >> 16 & 0x000000ff000000ffu) * 0x0000271000000001u) >> 32;
        *m = *m * scale[n] + x;
        p += n;
        if (n < 8) return p;
    }
#else
    for (; is_digit(*p); p++) *m = *m * 10 + (uint64_t)(*p - '0');
    return p;
#endif
}

/* JSON's grammar, no more: -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? */
static inline const char *scan(const char *p, decimal *d)
{
    d->negative = *p == '-';
    p += d->negative;
    const char *first = p;
    uint64_t m = 0;
    int e = 0;
    if (!is_digit(*p)) return NULL;
    if (!is_digit(p[1])) m = (uint64_t)(*p++ - '0');
    else if (*p == '0') return NULL;
    else p = digits(p, &m);
    ptrdiff_t n = p - first;
    if (*p == '.') {
        const char *point = ++p;
        p = digits(p, &m);
        if (p == point) return NULL;
        n += p - point;
        e = (int)od_max_i64(point - p, -100000);
    }
    d->cut = false;
    if (__builtin_expect(n > MOST_DIGITS, 0)) { /* zeros in front do not count */
        for (const char *z = first; *z == '0' || *z == '.'; z++) n -= *z == '0';
        d->cut = n > MOST_DIGITS;
    }
    if ((*p | 32) == 'e') {
        bool down = *++p == '-';
        if (*p == '-' || *p == '+') p++;
        if (!is_digit(*p)) return NULL;
        int x = 0;
        for (; is_digit(*p); p++) x = x < 100000 ? x * 10 + (*p - '0') : x;
        e += down ? -x : x;
    }
    d->m = m;
    d->e = e;
    return p;
}

/* Bits below a float's last one, as a double sees them; a double this near to the middle may have been
 * rounded across it. Three roundings (digits, power, product) are at most three units. */
static inline bool near_tie(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, 8);
    return (uint32_t)(bits & 0x1fffffff) - (0x10000000u - 8) <= 16;
}

/* Below: what a decimal is as a value of each type; false when only its text can tell, or the type has no such value. */
static inline bool float_of(const decimal *d, float *out)
{
    if (d->cut || d->e < -POWERS || d->e > POWERS) return false;
    double x = (double)(int64_t)d->m * power10[d->e + POWERS];
    if (__builtin_expect((!(x >= (double)FLT_MIN && x < (double)FLT_MAX) || near_tie(x)) && d->m, 0)) return false;
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits |= (uint32_t)d->negative << 31; /* signs are random: no branch */
    memcpy(out, &bits, 4);
    return true;
}

/* m * 10^e in one exact step, or false: too long, too large, or a tie that only more digits could decide. */
static inline bool magnitude(const decimal *d, double *x)
{
    if (d->cut) return false;
    if (d->m <= 1ull << 53 && d->e >= -EXACT_POWERS && d->e <= EXACT_POWERS) {
        *x = d->e < 0 ? (double)d->m / power10[POWERS - d->e] : (double)d->m * power10[POWERS + d->e];
        return true;
    }
#if LDBL_MANT_DIG == 64 /* 64 bits hold any m and 10^27; what is rounded twice differs only at a tie of doubles */
    static const long double more[] = {1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
    int k = d->e < 0 ? -d->e : d->e;
    if (k > EXACT_POWERS + 5) return false;
    long double power = k <= EXACT_POWERS ? (long double)power10[POWERS + k] : more[k - EXACT_POWERS - 1];
    long double y = d->e < 0 ? (long double)d->m / power : (long double)d->m * power;
    uint64_t bits;
    memcpy(&bits, &y, 8);
    if ((bits & 0x7ff) == 0x400) return false;
    *x = (double)y;
    return true;
#else
    return false;
#endif
}

static inline bool double_of(const decimal *d, double *out)
{
    if (!magnitude(d, out)) return false;
    if (d->negative) *out = -*out;
    return true;
}

/* The magnitude of a number that is whole ("3", "3.0" and "3e2" are). */
static inline bool whole_of(const decimal *d, uint64_t *out)
{
    uint64_t m = d->m;
    if (d->cut) return false;
    for (int e = m ? d->e : 0; e < 0; e++) {
        if (m % 10) return false;
        m /= 10;
    }
    for (int e = m ? d->e : 0; e > 0; e--)
        if (__builtin_mul_overflow(m, 10u, &m)) return false;
    *out = m;
    return true;
}

const char *srv_scan_float(const char *p, float *out)
{
    decimal d;
    const char *rest = scan(p, &d);
    if (!rest || float_of(&d, out)) return rest;
    *out = strtof(p, NULL);
    return isinf(*out) ? NULL : rest;
}

const char *srv_scan_double(const char *p, double *out)
{
    decimal d;
    const char *rest = scan(p, &d);
    if (!rest || double_of(&d, out)) return rest;
    *out = strtod(p, NULL);
    return isinf(*out) ? NULL : rest;
}

static inline const char *scan_whole(const char *p, uint64_t *m, bool *negative)
{
    decimal d;
    const char *rest = scan(p, &d);
    if (!rest) return NULL;
    *negative = d.negative;
    if (whole_of(&d, m)) return rest;
    if (!d.cut || d.e) return NULL;
    char *end; /* 19 digits, and 20 that are not too large, still fit */
    errno = 0;
    *m = strtoull(p + d.negative, &end, 10);
    return errno || end != rest ? NULL : rest;
}

const char *srv_scan_int64(const char *p, int64_t *out)
{
    uint64_t m;
    bool negative;
    const char *rest = scan_whole(p, &m, &negative);
    if (!rest || m > (uint64_t)INT64_MAX + negative) return NULL;
    *out = (int64_t)(negative ? 0 - m : m);
    return rest;
}

/* Round a double's significand to `keep` bits behind the leading one; exponents below `lowest` are
 * denormal. The result as a whole number of units of the last place, its exponent in `e`. */
static uint16_t to_16_bits(double x, int mantissa_bits, int exponent_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1, e;
    uint16_t sign = (uint16_t)(signbit(x) ? 0x8000 : 0), infinity = (uint16_t)(((1 << exponent_bits) - 1) << mantissa_bits);
    if (isnan(x)) return (uint16_t)(sign | infinity | 1 << (mantissa_bits - 1));
    x = fabs(x);
    if (x == 0) return sign;
    if (isinf(x)) return sign | infinity;
    frexp(x, &e);
    e = e - 1 < 1 - bias ? 1 - bias : e - 1;                      /* exponent of the leading one, or of denormals */
    double units = nearbyint(ldexp(x, mantissa_bits - e));        /* exact but for this rounding, to even */
    double bits = units + ldexp((double)(e + bias - 1), mantissa_bits); /* a carry moves into the exponent */
    return (uint16_t)(sign | (bits >= infinity ? infinity : (uint16_t)bits));
}

uint16_t srv_double_to_half(double x)
{
    return to_16_bits(x, 10, 5);
}

uint16_t srv_double_to_bfloat16(double x)
{
    return to_16_bits(x, 7, 8);
}

/* null, NaN, Infinity, -Infinity. */
static const char *scan_special(const char *p, double *out)
{
    static const struct { const char *word; double value; } words[] = {
        {"null", NAN}, {"NaN", NAN}, {"Infinity", INFINITY}, {"-Infinity", -INFINITY}};
    for (size_t i = 0; i < OD_COUNT(words); i++) {
        size_t n = strlen(words[i].word);
        if (strncmp(p, words[i].word, n)) continue;
        *out = words[i].value;
        return p + n;
    }
    return NULL;
}

static inline const char *one_float(const char *p, float *out)
{
    const char *rest = srv_scan_float(p, out);
    double x;
    if (__builtin_expect(rest != NULL, 1) || !(rest = scan_special(p, &x))) return rest;
    *out = (float)x;
    return rest;
}

static inline const char *one_double(const char *p, double *out)
{
    const char *rest = srv_scan_double(p, out);
    return rest ? rest : scan_special(p, out);
}

static inline bool half_of(const decimal *d, uint16_t *out)
{
    double x;
    if (!double_of(d, &x)) return false;
    *out = srv_double_to_half(x);
    return true;
}

static inline bool bfloat16_of(const decimal *d, uint16_t *out)
{
    double x;
    if (!double_of(d, &x)) return false;
    *out = srv_double_to_bfloat16(x);
    return true;
}

static inline bool bool_of(const decimal *d, uint8_t *out)
{
    *out = d->m == 1;
    return d->m <= 1 && !d->e && !d->negative;
}

static inline const char *one_half(const char *p, uint16_t *out)
{
    double x;
    const char *rest = one_double(p, &x);
    if (rest) *out = srv_double_to_half(x);
    return rest;
}

static inline const char *one_bfloat16(const char *p, uint16_t *out)
{
    double x;
    const char *rest = one_double(p, &x);
    if (rest) *out = srv_double_to_bfloat16(x);
    return rest;
}

static inline const char *one_bool(const char *p, uint8_t *out)
{
    if (!strncmp(p, "true", 4)) return *out = 1, p + 4;
    if (!strncmp(p, "false", 5)) return *out = 0, p + 5;
    if ((*p == '0' || *p == '1') && !is_digit(p[1]) && p[1] != '.') return *out = *p == '1', p + 1;
    return NULL;
}

#define ONE_INT(type, largest, smallest)                                     \
    static inline bool type##_in(uint64_t m, bool negative, type *out)       \
    {                                                                        \
        *out = (type)(negative ? 0 - m : m);                                 \
        return m <= (negative ? (uint64_t)(smallest) : (uint64_t)(largest)); \
    }                                                                        \
    static inline bool type##_of(const decimal *d, type *out)            \
    {                                                                        \
        uint64_t m;                                                          \
        return whole_of(d, &m) && type##_in(m, d->negative, out);            \
    }                                                                        \
    static inline const char *one_##type(const char *p, type *out)           \
    {                                                                        \
        uint64_t m;                                                          \
        bool negative;                                                       \
        const char *rest = scan_whole(p, &m, &negative);                     \
        return rest && type##_in(m, negative, out) ? rest : NULL;            \
    }
ONE_INT(int8_t, INT8_MAX, 128)
ONE_INT(int16_t, INT16_MAX, 32768)
ONE_INT(int32_t, INT32_MAX, 2147483648)
ONE_INT(int64_t, INT64_MAX, 9223372036854775808u)
ONE_INT(uint8_t, UINT8_MAX, 0)
ONE_INT(uint16_t, UINT16_MAX, 0)
ONE_INT(uint32_t, UINT32_MAX, 0)
ONE_INT(uint64_t, UINT64_MAX, 0)

/* ---- many at a time, where the processor can */

typedef struct variant {
    void (*read)(const char *text, const char *end, srv_decimals *out);
    int (*floats)(const srv_decimals *d, int from, int to, float *out);
} variant;

static const variant *choose_variant(void)
{
    static const variant none;
    static _Atomic(const variant *) chosen; /* asking the processor is slow in a virtual machine */
    const variant *v = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (v) return v;
    v = &none;
#if defined(__x86_64__)
    static const variant avx2 = {srv_decimals_avx2, srv_decimals_floats_avx2};
    if (od_cpu_isa() & OD_ISA_AVX2) v = &avx2;
#endif
    atomic_store_explicit(&chosen, v, memory_order_relaxed);
    return v;
}

/* Numbers `from` .. `to` - 1 as values of each type: how many, ending before one that only its text can tell. */
static int many_of_float(const variant *v, const srv_decimals *d, int from, int to, float *out)
{
    return v->floats(d, from, to, out);
}

static inline decimal whole_decimal(const srv_decimals *d, int i)
{
    enum { EIGHT_DIGITS = 100000000, MOST_HIGH = 90 /* with it m would not fit 63 bits */ };
    const uint32_t *part = d->digits[i];
    return (decimal){.m = ((uint64_t)part[1] * EIGHT_DIGITS + part[2]) * EIGHT_DIGITS + part[3], .cut = part[1] >= MOST_HIGH,
                     .e = -(d->form[i].behind % SRV_DECIMALS_NO_POINT), .negative = d->form[i].negative};
}

#define MANY_OF(name, type)                                                                                 \
    static int many_of_##name(const variant *v, const srv_decimals *d, int from, int to, type *out)         \
    {                                                                                                       \
        (void)v;                                                                                            \
        for (int i = from; i < to; i++) {                                                                   \
            decimal one = whole_decimal(d, i);                                                              \
            if (!name##_of(&one, out++)) return i - from;                                                   \
        }                                                                                                   \
        return to - from;                                                                                   \
    }
MANY_OF(double, double)
MANY_OF(half, uint16_t)
MANY_OF(bfloat16, uint16_t)
MANY_OF(bool, uint8_t)
MANY_OF(int8_t, int8_t)
MANY_OF(int16_t, int16_t)
MANY_OF(int32_t, int32_t)
MANY_OF(int64_t, int64_t)
MANY_OF(uint8_t, uint8_t)
MANY_OF(uint16_t, uint16_t)
MANY_OF(uint32_t, uint32_t)
MANY_OF(uint64_t, uint64_t)

/* When to try for many numbers at a time: not where that gave few, as in rows of three, or of 1e-5. */
typedef struct pace {
    int64_t next, wait; /* elements */
} pace;
enum { MANY = 64, FEW = 16, LONGEST_WAIT = 4096 };

static void keep_pace(pace *s, int64_t n, int got, bool ended)
{
    s->wait = got >= FEW ? 0 : od_min_i64(s->wait * 2 + FEW, LONGEST_WAIT);
    s->next = n + s->wait + ended; /* what ended them is read alone */
}

/* An array of one type, flat or nested: brackets are followed but only the elements count. On success the
 * place behind it; else NULL, with `at` where it went wrong. */
#define SCAN_ARRAY(name, type)                                                              \
    static const char *many_##name(const variant *v, const srv_json *j, const char *p, type *to, int64_t count, int64_t *n, pace *s) \
    {                                                                                       \
        srv_decimals d;                                                                     \
        v->read(p, j->end, &d);                                                             \
        int most = (int)od_min_i64(d.count, count - *n), i = 0;                             \
        for (;; i++) {                                                                      \
            i += many_of_##name(v, &d, i, most, to + *n + i);                         \
            if (i == most || !one_##name(srv_json_space(i ? p + d.comma[i - 1] + 1 : p), to + *n + i)) break; \
        }                                                                                   \
        *n += i;                                                                            \
        keep_pace(s, *n, i, d.commas > i);                             \
        return i ? p + d.comma[i - 1] + 1 : p;                                              \
    }                                                                                       \
    static const char *array_##name(const srv_json *j, int max_depth, type *to, int64_t count, int64_t *n, const char **at) \
    {                                                                                       \
        int depth = 0;                                                                      \
        pace s = {0};                                                                       \
        const char *p = j->at;                                                              \
        const variant *v = count >= MANY ? choose_variant() : NULL;                         \
        if (!v || !v->read) s.next = INT64_MAX;                                             \
        for (*n = 0;;) {                                                                    \
            if (*n >= s.next && depth && p - j->begin >= SRV_DECIMALS_BEHIND && count - *n >= MANY) p = many_##name(v, j, p, to, count, n, &s); \
            p = srv_json_space(p);                                                          \
            *at = p;                                                                        \
            if (*p == '[') {                                                                \
                if (++depth > max_depth) return NULL;                                       \
                p = srv_json_space(p + 1);                                                  \
                if (*p != ']') continue;                                                    \
            } else {                                                                        \
                if (*n == count || !depth || !(p = one_##name(p, to + *n))) return NULL;    \
                ++*n;                                                                       \
            }                                                                               \
            for (;; p++) {                                                                  \
                *at = p = srv_json_space(p);                                                \
                if (*p == ',') break;                                                       \
                if (*p != ']') return NULL;                                                 \
                if (!--depth) return p + 1;                                                 \
            }                                                                               \
            p++;                                                                            \
        }                                                                                   \
    }
SCAN_ARRAY(float, float)
SCAN_ARRAY(double, double)
SCAN_ARRAY(half, uint16_t)
SCAN_ARRAY(bfloat16, uint16_t)
SCAN_ARRAY(bool, uint8_t)
SCAN_ARRAY(int8_t, int8_t)
SCAN_ARRAY(int16_t, int16_t)
SCAN_ARRAY(int32_t, int32_t)
SCAN_ARRAY(int64_t, int64_t)
SCAN_ARRAY(uint8_t, uint8_t)
SCAN_ARRAY(uint16_t, uint16_t)
SCAN_ARRAY(uint32_t, uint32_t)
SCAN_ARRAY(uint64_t, uint64_t)

od_code srv_json_numbers(srv_json *j, eng_tensor *t, od_status *st)
{
    if (srv_json_peek(j) != '[') return srv_json_fail(j, st, "an array of numbers is wanted");
    int64_t count = eng_tensor_count(t), n = 0;
    int depth = j->max_depth - j->depth;
    const char *at = j->at, *rest = NULL;
    switch (t->dtype) {
    case ENG_FLOAT: rest = array_float(j, depth, t->data, count, &n, &at); break;
    case ENG_DOUBLE: rest = array_double(j, depth, t->data, count, &n, &at); break;
    case ENG_FLOAT16: rest = array_half(j, depth, t->data, count, &n, &at); break;
    case ENG_BFLOAT16: rest = array_bfloat16(j, depth, t->data, count, &n, &at); break;
    case ENG_BOOL: rest = array_bool(j, depth, t->data, count, &n, &at); break;
    case ENG_INT8: rest = array_int8_t(j, depth, t->data, count, &n, &at); break;
    case ENG_INT16: rest = array_int16_t(j, depth, t->data, count, &n, &at); break;
    case ENG_INT32: rest = array_int32_t(j, depth, t->data, count, &n, &at); break;
    case ENG_INT64: rest = array_int64_t(j, depth, t->data, count, &n, &at); break;
    case ENG_UINT8: rest = array_uint8_t(j, depth, t->data, count, &n, &at); break;
    case ENG_UINT16: rest = array_uint16_t(j, depth, t->data, count, &n, &at); break;
    case ENG_UINT32: rest = array_uint32_t(j, depth, t->data, count, &n, &at); break;
    case ENG_UINT64: rest = array_uint64_t(j, depth, t->data, count, &n, &at); break;
    default: return srv_json_fail(j, st, "%s cannot be written as JSON numbers", eng_dtype_name(t->dtype));
    }
    if (rest && n == count) {
        j->at = rest;
        return OD_OK;
    }
    j->at = rest ? rest : at;
    bool value = srv_json_peek(j) != '\0';
    if (rest || (value && n == count && *j->at != '['))
        return j->code = od_fail(st, OD_BAD_SHAPE, "%s elements than the %" PRId64 " of the shape", rest ? "fewer" : "more", count);
    if (value && *j->at != '[') {
        srv_json_fail(j, st, "element %" PRId64 " is no %s", n, eng_dtype_name(t->dtype));
        return j->code = st->code = OD_BAD_VALUE;
    }
    return srv_json_fail(j, st, "%s", value ? "nested too deep" : "an array that breaks off or is no JSON");
}

/* ---- writing */

/* 10^k for k = -31 .. 45, its 64 leading bits rounded up: ceil(10^k / 2^(floor(log2 10^k) - 63)). */
static const uint64_t leading[] = {
    0x81CEB32C4B43FCF5, 0xA2425FF75E14FC32, 0xCAD2F7F5359A3B3F, 0xFD87B5F28300CA0E,
    0x9E74D1B791E07E49, 0xC612062576589DDB, 0xF79687AED3EEC552, 0x9ABE14CD44753B53,
    0xC16D9A0095928A28, 0xF1C90080BAF72CB2, 0x971DA05074DA7BEF, 0xBCE5086492111AEB,
    0xEC1E4A7DB69561A6, 0x9392EE8E921D5D08, 0xB877AA3236A4B44A, 0xE69594BEC44DE15C,
    0x901D7CF73AB0ACDA, 0xB424DC35095CD810, 0xE12E13424BB40E14, 0x8CBCCC096F5088CC,
    0xAFEBFF0BCB24AAFF, 0xDBE6FECEBDEDD5BF, 0x89705F4136B4A598, 0xABCC77118461CEFD,
    0xD6BF94D5E57A42BD, 0x8637BD05AF6C69B6, 0xA7C5AC471B478424, 0xD1B71758E219652C,
    0x83126E978D4FDF3C, 0xA3D70A3D70A3D70B, 0xCCCCCCCCCCCCCCCD, 0x8000000000000000,
    0xA000000000000000, 0xC800000000000000, 0xFA00000000000000, 0x9C40000000000000,
    0xC350000000000000, 0xF424000000000000, 0x9896800000000000, 0xBEBC200000000000,
    0xEE6B280000000000, 0x9502F90000000000, 0xBA43B74000000000, 0xE8D4A51000000000,
    0x9184E72A00000000, 0xB5E620F480000000, 0xE35FA931A0000000, 0x8E1BC9BF04000000,
    0xB1A2BC2EC5000000, 0xDE0B6B3A76400000, 0x8AC7230489E80000, 0xAD78EBC5AC620000,
    0xD8D726B7177A8000, 0x878678326EAC9000, 0xA968163F0A57B400, 0xD3C21BCECCEDA100,
    0x84595161401484A0, 0xA56FA5B99019A5C8, 0xCECB8F27F4200F3A, 0x813F3978F8940985,
    0xA18F07D736B90BE6, 0xC9F2C9CD04674EDF, 0xFC6F7C4045812297, 0x9DC5ADA82B70B59E,
    0xC5371912364CE306, 0xF684DF56C3E01BC7, 0x9A130B963A6C115D, 0xC097CE7BC90715B4,
    0xF0BDC21ABB48DB21, 0x96769950B50D88F5, 0xBC143FA4E250EB32, 0xEB194F8E1AE525FE,
    0x92EFD1B8D0CF37BF, 0xB7ABC627050305AE, 0xE596B7B0C643C71A, 0x8F7E32CE7BEA5C70,
    0xB35DBF821AE4F38C,
};

/* g * c / 2^64, its last bit set when anything was lost. */
static inline uint32_t round_to_odd(uint64_t g, uint32_t c)
{
    unsigned __int128 p = (unsigned __int128)g * c;
    uint32_t high = (uint32_t)(p >> 64), rest = (uint32_t)(p >> 32);
    return high | (rest > 1);
}

/* The shortest digits m * 10^e that round to the positive finite float with these bits: Schubfach, after
 * R. Giulietti, "The Schubfach way to render doubles" (2020), for 32 bits. */
static uint32_t shortest(uint32_t bits, int *e10)
{
    uint32_t mantissa = bits & 0x7fffff, exponent = bits >> 23;
    uint32_t c = exponent ? mantissa | 0x800000 : mantissa;
    int q = (exponent ? (int)exponent : 1) - 150;
    if (q <= 0 && q > -24 && !(c & ((1u << -q) - 1))) { /* a whole number */
        *e10 = 0;
        return c >> -q;
    }
    bool even = !(c & 1), near = !mantissa && exponent > 1; /* the lower neighbour is nearer below a power of two */
    int k = (q * 1262611 - (near ? 524031 : 0)) >> 22;      /* floor(log10(2^q)), or of 3/4 of it */
    int h = q + (-k * 1741647 >> 19) + 1;                   /* + floor(log2(10^-k)) + 1 */
    uint64_t g = leading[-k + 31];
    uint32_t low = round_to_odd(g, (4 * c - 2 + near) << h) + !even;
    uint32_t v = round_to_odd(g, (4 * c) << h);
    uint32_t high = round_to_odd(g, (4 * c + 2) << h) - !even;
    uint32_t s = v / 4;
    if (s >= 10) { /* one digit less, if just one such number lies between the neighbours' middles */
        uint32_t t = s / 10;
        bool down = low <= 40 * t, up = 40 * t + 40 <= high;
        if (down != up) {
            *e10 = k + 1;
            return t + up;
        }
    }
    *e10 = k;
    bool down = low <= 4 * s, up = 4 * s + 4 <= high;
    if (down != up) return s + up;
    uint32_t middle = 4 * s + 2;
    return s + (v > middle || (v == middle && (s & 1)));
}

static inline int print_digits(char *to, uint64_t x)
{
    char text[20];
    int n = 0;
    do text[n++] = (char)('0' + x % 10);
    while ((x /= 10) > 0);
    for (int i = 0; i < n; i++) to[i] = text[n - 1 - i];
    return n;
}

char *srv_print_int(char *to, int64_t x)
{
    uint64_t m = (uint64_t)x;
    if (x < 0) {
        *to++ = '-';
        m = 0 - m;
    }
    return to + print_digits(to, m);
}

static char *print_null(char *to)
{
    memcpy(to, "null", 4);
    return to + 4;
}

char *srv_print_float(char *to, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7f800000) == 0x7f800000) return print_null(to);
    if (bits >> 31) *to++ = '-';
    bits &= 0x7fffffff;
    if (!bits) return *to = '0', to + 1;
    int e;
    uint32_t m = shortest(bits, &e);
    while (e < 0 && m % 10 == 0) m /= 10, e++;
    char text[16];
    int n = print_digits(text, m), point = n + e; /* digits before the point */
    if (point > 0 && point <= 9) {
        memcpy(to, text, (size_t)(point < n ? point : n));
        if (point >= n) {
            memset(to + n, '0', (size_t)(point - n));
            return to + point;
        }
        to[point] = '.';
        memcpy(to + point + 1, text + point, (size_t)(n - point));
        return to + n + 1;
    }
    if (point <= 0 && point > -5) {
        memcpy(to, "0.0000", 6);
        memcpy(to + 2 - point, text, (size_t)n);
        return to + 2 - point + n;
    }
    *to++ = text[0];
    if (n > 1) {
        *to++ = '.';
        memcpy(to, text + 1, (size_t)n - 1);
        to += n - 1;
    }
    *to++ = 'e';
    return srv_print_int(to, point - 1);
}

char *srv_print_double(char *to, double x)
{
    if (!isfinite(x)) return print_null(to);
    if (x == trunc(x) && fabs(x) < 1e15) {
        if (signbit(x)) *to++ = '-';
        return to + print_digits(to, (uint64_t)fabs(x));
    }
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(to, SRV_DOUBLE_CHARS, "%.*g", digits, x);
        if (digits == 17 || strtod(to, NULL) == x) break;
    }
    return to + n;
}

/* Elements are written in pieces, so that text grows by pieces and not by numbers. */
#define PRINT_ALL(type, print)                                            \
    for (int64_t i = from; i < from + count; i++) {                       \
        if (to - piece > (ptrdiff_t)sizeof piece - 2 * SRV_FLOAT_CHARS) { \
            srv_text_add(text, piece, (size_t)(to - piece));              \
            to = piece;                                                   \
        }                                                                 \
        if (i > from) *to++ = ',';                                        \
        type x = ((const type *)t->data)[i];                              \
        to = print;                                                       \
    }                                                                     \
    break

static char *print_bool(char *to, bool x)
{
    memcpy(to, x ? "true" : "false", 5);
    return to + (x ? 4 : 5);
}

void srv_text_elements(srv_text *text, const eng_tensor *t, int64_t from, int64_t count)
{
    char piece[2048], *to = piece;
    switch (t->dtype) {
    case ENG_FLOAT: PRINT_ALL(float, srv_print_float(to, x));
    case ENG_DOUBLE: PRINT_ALL(double, srv_print_double(to, x));
    case ENG_BOOL: PRINT_ALL(uint8_t, print_bool(to, x != 0));
    case ENG_INT8: PRINT_ALL(int8_t, srv_print_int(to, x));
    case ENG_INT16: PRINT_ALL(int16_t, srv_print_int(to, x));
    case ENG_INT32: PRINT_ALL(int32_t, srv_print_int(to, x));
    case ENG_INT64: PRINT_ALL(int64_t, srv_print_int(to, x));
    case ENG_UINT8: PRINT_ALL(uint8_t, srv_print_int(to, x));
    case ENG_UINT16: PRINT_ALL(uint16_t, srv_print_int(to, x));
    case ENG_UINT32: PRINT_ALL(uint32_t, srv_print_int(to, x));
    case ENG_UINT64: PRINT_ALL(uint64_t, to + print_digits(to, x));
    case ENG_STRING:
        for (int64_t i = from; i < from + count; i++) {
            const eng_str *s = (const eng_str *)t->data + i;
            if (i > from) srv_text_add(text, ",", 1);
            srv_text_json(text, s->ptr, s->len);
        }
        break;
    default: /* half and small types */
        for (int64_t i = from; i < from + count; i++) {
            to = piece;
            if (i > from) *to++ = ',';
            to = srv_print_float(to, (float)eng_tensor_double(t, i));
            srv_text_add(text, piece, (size_t)(to - piece));
        }
        to = piece;
    }
    srv_text_add(text, piece, (size_t)(to - piece));
}
