/* external.c - tensors whose bytes lie in files beside the model. The model names the file, so the name
 * is as little trusted as the rest: it may not be absolute, climb up, or follow a link out. */
#include "loaders/onnx/tensor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_openat2
#include <linux/openat2.h>
#endif

void ldr_external_init(ldr_external *x, const char *folder)
{
    *x = (ldr_external){.folder = folder, .folder_fd = -1, .fd = -1};
}

static void close_file(ldr_external *x)
{
    if (x->fd >= 0) close(x->fd);
    free(x->location);
    x->fd = -1;
    x->location = NULL;
}

void ldr_external_fini(ldr_external *x)
{
    close_file(x);
    if (x->folder_fd >= 0) close(x->folder_fd);
    x->folder_fd = -1;
}

/* The old way, for kernels without openat2: where the opened file really is. */
static int open_compared(int folder_fd, const char *location)
{
    char link[64], folder[PATH_MAX], file[PATH_MAX];
    int fd = openat(folder_fd, location, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder_fd);
    ssize_t n = readlink(link, folder, sizeof folder - 1);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t m = readlink(link, file, sizeof file - 1);
    if (n > 0 && m > n && !memcmp(folder, file, (size_t)n) && (file[n] == '/' || folder[n - 1] == '/')) return fd;
    close(fd);
    errno = EXDEV;
    return -1;
}

static int open_beneath(int folder_fd, const char *location)
{
#ifdef SYS_openat2
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, folder_fd, location, &how, sizeof how);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return fd; /* EPERM: an old sandbox's answer */
#endif
    return open_compared(folder_fd, location);
}

static od_code check_location(const char *location, od_status *st)
{
    if (!location || !*location) return od_fail(st, OD_BAD_MODEL, "external data without a location");
    if (*location == '/')
        return od_fail(st, OD_BAD_MODEL, "external data at '%.80s': the path must be relative", location);
    for (const char *part = location; part; part = strchr(part, '/')) {
        while (*part == '/') part++;
        if (!strncmp(part, "..", 2) && (part[2] == '/' || !part[2]))
            return od_fail(st, OD_BAD_MODEL, "external data at '%.80s' leaves the model's folder", location);
    }
    return OD_OK;
}

static od_code open_file(ldr_external *x, const char *location, od_status *st)
{
    struct stat info;
    if (x->location && !strcmp(x->location, location)) return OD_OK;
    close_file(x);
    if (!x->folder) return od_fail(st, OD_UNSUPPORTED, "external data, but the model has no folder");
    if (x->folder_fd < 0) x->folder_fd = open(x->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (x->folder_fd < 0) return od_fail(st, OD_IO, "'%.80s': %s", x->folder, strerror(errno));
    x->fd = open_beneath(x->folder_fd, location);
    if (x->fd < 0 && (errno == EXDEV || errno == ELOOP))
        return od_fail(st, OD_BAD_MODEL, "external data at '%.80s' leaves the model's folder", location);
    if (x->fd < 0)
        return od_fail(st, errno == ENOENT ? OD_NOT_FOUND : OD_IO, "external data at '%.80s': %s", location,
                       strerror(errno));
    if (fstat(x->fd, &info) || !S_ISREG(info.st_mode)) {
        close_file(x);
        return od_fail(st, OD_BAD_MODEL, "external data at '%.80s', which is not a file", location);
    }
    x->size = info.st_size;
    x->location = strdup(location);
    if (!x->location) return od_fail(st, OD_NO_MEMORY, "no memory for a file name");
    return OD_OK;
}

static od_code parse_number(const char *key, const char *text, int64_t *out, od_status *st)
{
    char *end;
    errno = 0;
    long long v = strtoll(text ? text : "", &end, 10);
    if (!text || end == text || *end || errno || v < 0)
        return od_fail(st, OD_BAD_MODEL, "external data with %s '%.30s'", key, text ? text : "");
    *out = v;
    return OD_OK;
}

static od_code read_all(int fd, void *to, size_t size, int64_t offset, od_status *st)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)to + done, size - done, offset + (int64_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return od_fail(st, OD_IO, "external data: %s", n ? strerror(errno) : "the file has shrunk");
        done += (size_t)n;
    }
    return OD_OK;
}

od_code ldr_external_find(ldr_external *x, const Onnx__TensorProto *p, size_t size, int64_t *out, od_status *st)
{
    const char *location = NULL;
    int64_t offset = 0, length = (int64_t)size;
    for (size_t i = 0; i < p->n_external_data; i++) {
        const Onnx__StringStringEntryProto *e = p->external_data[i];
        if (!e->key) continue;
        if (!strcmp(e->key, "location")) location = e->value;
        if (!strcmp(e->key, "offset")) OD_TRY(parse_number("offset", e->value, &offset, st));
        if (!strcmp(e->key, "length")) OD_TRY(parse_number("length", e->value, &length, st));
    }
    OD_TRY(check_location(location, st));
    if ((size_t)length != size)
        return od_fail(st, OD_BAD_MODEL, "%" PRId64 " bytes of external data; its shape and type take %zu", length,
                       size);
    OD_TRY(open_file(x, location, st));
    if (offset > x->size || length > x->size - offset)
        return od_fail(st, OD_BAD_MODEL,
                       "external data at bytes %" PRId64 " to %" PRId64 "+%zu of '%.60s', which has %" PRId64, offset,
                       offset, size, location, x->size);
    *out = offset;
    return OD_OK;
}

od_code ldr_external_read(ldr_external *x, const Onnx__TensorProto *p, size_t size, void *to, od_status *st)
{
    int64_t offset;
    OD_TRY(ldr_external_find(x, p, size, &offset, st));
    return read_all(x->fd, to, size, offset, st);
}
