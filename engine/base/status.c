#include "engine/base/status.h"

#include <stdio.h>
#include <string.h>

static const char *const names[OD_CODES] = {
    "OK",        "BAD_ARGUMENT", "BAD_SHAPE", "BAD_TYPE",  "BAD_VALUE", "BAD_MODEL",
    "UNSUPPORTED", "NOT_FOUND",  "TOO_LARGE", "NO_MEMORY", "IO",        "BUSY",
    "TIMEOUT",   "CANCELLED",    "UNAVAILABLE", "INTERNAL", "UNKNOWN_YET",
};

od_code (od_fail)(od_status *st, od_code code, const char *fmt, ...)
{
    va_list ap;
    st->code = code;
    va_start(ap, fmt);
    vsnprintf(st->msg, sizeof st->msg, fmt, ap);
    va_end(ap);
    return code;
}

od_code (od_note)(od_status *st, const char *fmt, ...)
{
    char was[sizeof st->msg];
    va_list ap;
    memcpy(was, st->msg, sizeof was);
    va_start(ap, fmt);
    int n = vsnprintf(st->msg, sizeof st->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof st->msg) snprintf(st->msg + n, sizeof st->msg - (size_t)n, ": %s", was);
    return st->code;
}

const char *od_code_name(od_code code)
{
    return (unsigned)code < OD_CODES ? names[code] : "?";
}
