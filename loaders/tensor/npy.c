/* npy.c - NumPy's array files: a magic, a Python dictionary as text, the bytes. */
#include "loaders/tensor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC_BYTES = 8, HEADER_MAX = 1 << 20, HEADER_ALIGN = 64 };

static const struct {
    const char *descr; /* without the byte order */
    eng_dtype dtype;
} descrs[] = {
    {"b1", ENG_BOOL},    {"i1", ENG_INT8},    {"i2", ENG_INT16},  {"i4", ENG_INT32},     {"i8", ENG_INT64},
    {"u1", ENG_UINT8},   {"u2", ENG_UINT16},  {"u4", ENG_UINT32}, {"u8", ENG_UINT64},    {"f2", ENG_FLOAT16},
    {"f4", ENG_FLOAT},   {"f8", ENG_DOUBLE},  {"c8", ENG_COMPLEX64}, {"c16", ENG_COMPLEX128},
};

/* ---- reading ------------------------------------------------------------------------------ */

/* What follows 'key': in the header, or NULL. */
static const char *find_key(const char *header, const char *key)
{
    size_t len = strlen(key);
    for (const char *at = header; (at = strstr(at, key)); at += len) {
        if (at == header || (at[-1] != '\'' && at[-1] != '"') || at[len] != at[-1]) continue;
        const char *then = at + len + 1;
        then += strspn(then, " ");
        if (*then == ':') return then + 1 + strspn(then + 1, " ");
    }
    return NULL;
}

static od_code parse_descr(const char *at, eng_dtype *out, od_status *st)
{
    char descr[16];
    if (!at || (*at != '\'' && *at != '"'))
        return od_fail(st, OD_UNSUPPORTED, "arrays of records are not supported");
    size_t n = strcspn(at + 1, "'\"");
    if (n >= sizeof descr || n < 2) return od_fail(st, OD_BAD_VALUE, "element type '%.20s'", at + 1);
    memcpy(descr, at + 1, n);
    descr[n] = 0;
    if (descr[0] == '>') return od_fail(st, OD_UNSUPPORTED, "element type '%s': big-endian is not supported", descr);
    for (size_t i = 0; i < OD_COUNT(descrs); i++) {
        if (strcmp(descr + 1, descrs[i].descr) || !strchr("<|=", descr[0])) continue;
        *out = descrs[i].dtype;
        return OD_OK;
    }
    return od_fail(st, OD_UNSUPPORTED, "element type '%s' is not supported", descr);
}

static od_code parse_shape(const char *at, eng_tensor *t, int64_t *count, od_status *st)
{
    if (!at || *at != '(') return od_fail(st, OD_BAD_VALUE, "no shape in the header");
    at++;
    for (;;) {
        char *end;
        at += strspn(at, " ,");
        if (*at == ')') break;
        errno = 0;
        long long v = strtoll(at, &end, 10);
        if (end == at || errno || v < 0) return od_fail(st, OD_BAD_VALUE, "extent '%.20s'", at);
        if (t->rank == ENG_MAX_RANK)
            return od_fail(st, OD_UNSUPPORTED, "more than %d dimensions", ENG_MAX_RANK);
        t->dims[t->rank++] = v;
        at = end + (*end == 'L'); /* Python 2 wrote longs so */
    }
    if (!eng_dims_count(t->rank, t->dims, count)) return od_fail(st, OD_BAD_VALUE, "the shape's product overflows");
    return OD_OK;
}

/* From the first extent running fastest to the last doing so. */
static od_code from_fortran(eng_tensor *t, int64_t count, od_arena *a, od_status *st)
{
    size_t size = eng_dtype_size(t->dtype);
    int64_t index[ENG_MAX_RANK] = {0}, stride[ENG_MAX_RANK], at = 0, step = 1;
    const char *from = t->data;
    char *to = od_arena_alloc(a, (size_t)count * size);
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " elements", count);
    for (int d = 0; d < t->rank; d++) {
        stride[d] = step;
        step *= t->dims[d];
    }
    for (int64_t i = 0; i < count; i++) {
        memcpy(to + (size_t)i * size, from + (size_t)at * size, size);
        for (int d = t->rank - 1; d >= 0; d--) {
            at += stride[d];
            if (++index[d] < t->dims[d]) break;
            at -= stride[d] * t->dims[d];
            index[d] = 0;
        }
    }
    t->data = to;
    return OD_OK;
}

/* The header's text, zero-terminated; the file is left where the data begins. */
static od_code read_header(FILE *f, char **out, od_status *st)
{
    uint8_t b[MAGIC_BYTES + 4] = {0};
    if (fread(b, 1, MAGIC_BYTES, f) != MAGIC_BYTES || memcmp(b, "\x93NUMPY", 6))
        return od_fail(st, OD_BAD_VALUE, "not a .npy file");
    if (b[6] < 1 || b[6] > 3) return od_fail(st, OD_UNSUPPORTED, ".npy format %d", b[6]);
    size_t digits = b[6] == 1 ? 2 : 4;
    if (fread(b + MAGIC_BYTES, 1, digits, f) != digits) return od_fail(st, OD_BAD_VALUE, "the file is cut short");
    size_t size = (size_t)b[8] | (size_t)b[9] << 8 | (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (size > HEADER_MAX) return od_fail(st, OD_BAD_VALUE, "a header of %zu bytes", size);
    char *text = malloc(size + 1);
    if (!text) return od_fail(st, OD_NO_MEMORY, "no memory for a header");
    if (fread(text, 1, size, f) != size) {
        free(text);
        return od_fail(st, OD_BAD_VALUE, "the file is cut short");
    }
    text[size] = 0;
    *out = text;
    return OD_OK;
}

static od_code bytes_left(FILE *f, size_t *out, od_status *st)
{
    long at = ftell(f), end = at < 0 || fseek(f, 0, SEEK_END) ? -1 : ftell(f);
    if (end < at || fseek(f, at, SEEK_SET)) return od_fail(st, OD_IO, "not a file");
    *out = (size_t)(end - at);
    return OD_OK;
}

static od_code read_array(FILE *f, const char *header, od_arena *a, eng_tensor *out, od_status *st)
{
    eng_tensor t = {0};
    int64_t count;
    size_t have = 0;
    OD_TRY(parse_descr(find_key(header, "descr"), &t.dtype, st));
    OD_TRY(parse_shape(find_key(header, "shape"), &t, &count, st));
    const char *fortran = find_key(header, "fortran_order");
    if (!fortran) return od_fail(st, OD_BAD_VALUE, "no fortran_order in the header");
    size_t want = eng_tensor_bytes(&t);
    OD_TRY(bytes_left(f, &have, st));
    if (have < want) return od_fail(st, OD_BAD_VALUE, "%zu bytes of data; its shape and type take %zu", have, want);
    t.data = od_arena_alloc(a, want);
    if (!t.data) return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes", want);
    if (fread(t.data, 1, want, f) != want) return od_fail(st, OD_IO, "cannot read %zu bytes", want);
    if (!strncmp(fortran, "True", 4)) OD_TRY(from_fortran(&t, count, a, st));
    if (t.dtype == ENG_BOOL)
        for (int64_t i = 0; i < count; i++) ((uint8_t *)t.data)[i] = ((uint8_t *)t.data)[i] != 0;
    *out = t;
    return OD_OK;
}

od_code ldr_npy_read(const char *path, od_arena *a, eng_tensor *out, od_status *st)
{
    char *header = NULL;
    od_code rc;
    FILE *f = fopen(path, "rbe");
    if (!f) {
        rc = od_fail(st, errno == ENOENT ? OD_NOT_FOUND : OD_IO, "%s", strerror(errno));
        goto done;
    }
    if ((rc = read_header(f, &header, st)) != OD_OK) goto done;
    rc = read_array(f, header, a, out, st);
done:
    free(header);
    if (f) fclose(f);
    return rc == OD_OK ? rc : od_note(st, "%.100s", path);
}

/* ---- writing ------------------------------------------------------------------------------ */

static const char *descr_of(eng_dtype t)
{
    switch (t) {
    case ENG_BFLOAT16: return "u2";
    case ENG_INT4:
    case ENG_INT2: return "i1";
    default: break;
    }
    for (size_t i = 0; i < OD_COUNT(descrs); i++)
        if (descrs[i].dtype == t) return descrs[i].descr;
    return eng_dtype_size(t) == 1 ? "u1" : NULL;
}

static int format_header(char *text, size_t size, const char *descr, const eng_tensor *t)
{
    char order = strcmp(descr + 1, "1") ? '<' : '|'; /* single bytes have none */
    int n = snprintf(text, size, "{'descr': '%c%s', 'fortran_order': False, 'shape': (", order, descr);
    for (int i = 0; i < t->rank; i++)
        n += snprintf(text + n, size - (size_t)n, "%" PRId64 ",%s", t->dims[i], i + 1 < t->rank ? " " : "");
    n += snprintf(text + n, size - (size_t)n, "), }");
    while ((MAGIC_BYTES + 2 + n + 1) % HEADER_ALIGN) text[n++] = ' ';
    text[n++] = '\n';
    return n;
}

static bool write_all(FILE *f, const char *descr, const eng_tensor *t)
{
    char header[640];
    int n = format_header(header, sizeof header - HEADER_ALIGN, descr, t);
    uint8_t magic[MAGIC_BYTES + 2] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)(n & 255), (uint8_t)(n >> 8)};
    size_t bytes = eng_tensor_bytes(t);
    return fwrite(magic, sizeof magic, 1, f) == 1 && fwrite(header, (size_t)n, 1, f) == 1 &&
           (!bytes || fwrite(t->data, bytes, 1, f) == 1);
}

/* And no device or pipe, which must stay when writing fails. */
static bool is_file(FILE *f)
{
    struct stat info;
    return !fstat(fileno(f), &info) && S_ISREG(info.st_mode);
}

od_code ldr_npy_write(const char *path, const eng_tensor *t, od_status *st)
{
    od_arena scratch = {0};
    eng_tensor row = *t;
    od_code rc = OD_OK;
    const char *descr = descr_of(t->dtype);
    if (!descr)
        return od_fail(st, OD_UNSUPPORTED, "%.100s: a %s cannot be written as .npy", path, eng_dtype_name(t->dtype));
    if (t->layout != ENG_ROW && eng_tensor_copy(&row, t, &scratch, st) != OD_OK) {
        od_arena_fini(&scratch);
        return od_note(st, "%.100s", path);
    }
    FILE *f = fopen(path, "wbe");
    bool well = f && write_all(f, descr, &row);
    int why = errno;
    bool ours = f && is_file(f);
    if (f && fclose(f) && well) {
        well = false;
        why = errno;
    }
    if (!well) {
        if (ours) unlink(path);
        rc = od_fail(st, OD_IO, "%.100s: %s", path, strerror(why));
    }
    od_arena_fini(&scratch);
    return rc;
}
