/* status.h - how anything in onnxd fails.
 * A function that can fail returns od_code and takes `od_status *st` last, never NULL. The place
 * that knows the numbers writes the message with od_fail; layers above put their own words in
 * front with od_note. Functions touch `st` only when they fail. One status belongs to one thread. */
#ifndef OD_STATUS_H
#define OD_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>

#define OD_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define OD_UNUSED __attribute__((unused))
#define OD_COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef enum od_code {
    OD_OK = 0,
    OD_BAD_ARGUMENT, /* a parameter, flag, attribute or header outside what is allowed */
    OD_BAD_SHAPE,    /* extents that do not fit each other or the model */
    OD_BAD_TYPE,     /* an element type that is not the wanted one */
    OD_BAD_VALUE,    /* data that contradicts itself: an index out of range, a corrupt image */
    OD_BAD_MODEL,    /* a model file or card that breaks its format */
    OD_UNSUPPORTED,  /* well formed, but not something onnxd does */
    OD_NOT_FOUND,    /* no such model, version, file, tensor */
    OD_TOO_LARGE,    /* over a bound that a flag sets */
    OD_NO_MEMORY,    /* the heap or an arena's bound is used up */
    OD_IO,           /* the operating system refused */
    OD_BUSY,         /* a queue is full: try again later */
    OD_TIMEOUT,      /* the deadline passed before the work was done */
    OD_CANCELLED,    /* the one who asked has gone */
    OD_UNAVAILABLE,  /* loading, draining or shutting down */
    OD_INTERNAL,     /* a mistake in onnxd */
    OD_UNKNOWN_YET,  /* shape inference only: depends on a value known at run time */
    OD_CODES
} od_code;

typedef struct od_status {
    od_code code;
    char msg[240];
} od_status;

/* Set `st` to `code` and the formatted message, and return `code`. Long messages are cut. */
od_code od_fail(od_status *st, od_code code, const char *fmt, ...) OD_PRINTF(3, 4);

/* Put the formatted words and ": " before the message that is there. Returns st->code. */
od_code od_note(od_status *st, const char *fmt, ...) OD_PRINTF(2, 3);

#ifdef __clang_analyzer__ /* which reads one file at a time must know that failing never gives OD_OK */
#define od_fail(st, as, ...) ((od_fail)((st), (as), __VA_ARGS__), (as))
#define od_note(st, ...) ((od_note)((st), __VA_ARGS__), OD_INTERNAL)
#endif

/* "BAD_SHAPE" for OD_BAD_SHAPE; never NULL. */
const char *od_code_name(od_code code);

#define OD_TRY(call)                         \
    do {                                     \
        od_code od_rc_ = (call);             \
        if (od_rc_ != OD_OK) return od_rc_;  \
    } while (0)

/* Overflow-checked size arithmetic on what comes from outside: false when it does not fit. */
static inline bool od_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool od_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
static inline bool od_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline int64_t od_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t od_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static inline int64_t od_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

#endif
