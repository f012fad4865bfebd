/* files.c - the small files beside a model. */
#include "loaders/card/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The whole of an open file. */
static od_code read_all(int fd, const char *name, size_t limit, od_arena *a, char **text, od_status *st)
{
    struct stat s;
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) return od_fail(st, OD_IO, "'%s' is not a plain file", name);
    if ((uint64_t)s.st_size > limit)
        return od_fail(st, OD_TOO_LARGE, "'%s' has %lld bytes; at most %zu are allowed", name, (long long)s.st_size, limit);
    size_t size = (size_t)s.st_size, at = 0;
    char *bytes = od_arena_alloc(a, size + 1);
    if (!bytes) return od_fail(st, OD_NO_MEMORY, "'%s': %zu bytes", name, size);
    while (at < size) {
        ssize_t n = read(fd, bytes + at, size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return od_fail(st, OD_IO, "'%s': %s", name, strerror(errno));
        if (n == 0) break;
        at += (size_t)n;
    }
    bytes[at] = 0;
    *text = bytes;
    return OD_OK;
}

/* The length of a folder's part of `path`, with the slash. */
static size_t folder_length(const char *path, size_t len)
{
    while (len && path[len - 1] != '/') len--;
    return len;
}

/* Folders that stand between a model and its card: a version's number, and "onnx", as Optimum names it. */
static bool is_inner_folder(const char *name, size_t len)
{
    size_t digits = 0;
    while (digits < len && name[digits] >= '0' && name[digits] <= '9') digits++;
    return len && (digits == len || (len == 4 && !memcmp(name, "onnx", 4)));
}

static od_code read_in(const char *folder, size_t len, const char *name, size_t limit, od_arena *a, char **text, od_status *st)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%.*s%s", (int)len, folder, name) >= (int)sizeof path)
        return od_fail(st, OD_BAD_MODEL, "the path of '%.80s' is too long", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe of that name must not hold us up */
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return OD_OK;
    if (fd < 0) return od_fail(st, OD_IO, "'%s': %s", name, strerror(errno));
    od_code rc = read_all(fd, name, limit, a, text, st);
    close(fd);
    return rc;
}

od_code ldr_card_read_beside(const char *model_path, const char *name, size_t limit, od_arena *a, char **text, od_status *st)
{
    char real[PATH_MAX];
    *text = NULL;
    if (!model_path) return OD_OK;
    if (!*name || strchr(name, '/') || !strcmp(name, ".."))
        return od_fail(st, OD_BAD_MODEL, "'%.80s' is not the name of a file beside the model", name);
    size_t len = folder_length(model_path, strlen(model_path));
    OD_TRY(read_in(model_path, len, name, limit, a, text, st));
    if (*text) return OD_OK;
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%.*s", (int)len, len ? model_path : ".") >= (int)sizeof folder) return OD_OK;
    if (!realpath(len ? folder : ".", real)) return OD_OK;
    size_t above = folder_length(real, strlen(real));
    if (!is_inner_folder(real + above, strlen(real) - above)) return OD_OK;
    return read_in(real, above, name, limit, a, text, st);
}

od_code ldr_card_label_lines(char *text, od_arena *a, ldr_card *card, od_status *st)
{
    size_t len = strlen(text);
    while (len && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' ')) text[--len] = 0;
    int n = len ? 1 : 0;
    for (const char *c = text; *c; c++) n += *c == '\n';
    const char **labels = od_arena_array(a, const char *, n);
    if (!labels) return od_fail(st, OD_NO_MEMORY, "%d labels", n);
    char *at = text;
    for (int i = 0; i < n; i++) {
        char *end = strchr(at, '\n');
        labels[i] = at;
        if (end) {
            *end = 0;
            if (end > at && end[-1] == '\r') end[-1] = 0;
            at = end + 1;
        }
    }
    card->labels = labels;
    card->n_labels = n;
    return OD_OK;
}
