#include "server/store/scan.h"
#include "engine/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MODELS_MAX = 10000, PATH_BYTES = 4096 };

static void mix(uint64_t *h, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) *h = (*h ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

/* "12" is 12; 0 for what is no positive decimal number without leading zeros. */
static int64_t version_number(const char *s)
{
    if (*s < '1' || *s > '9' || strlen(s) > 18) return 0;
    for (const char *c = s; *c; c++)
        if (*c < '0' || *c > '9') return 0;
    return strtoll(s, NULL, 10);
}

bool srv_name_is_usable(const char *s)
{
    if (!*s || *s == '.' || strlen(s) >= 256) return false;
    for (const char *c = s; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '/') return false;
    return true;
}

static bool join(char *to, const char *dir, const char *name)
{
    int n = snprintf(to, PATH_BYTES, "%s/%s", dir, name);
    return n > 0 && n < PATH_BYTES;
}

/* Calls `each` for the entries of `dir` that do not begin with a dot, in no order. -1: errno tells. */
typedef void each_fn(void *arg, const char *path, const char *name, const struct stat *info);

static int walk(const char *dir, each_fn *each, void *arg)
{
    char path[PATH_BYTES];
    DIR *d = opendir(dir);
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d));) {
        struct stat info;
        if (e->d_name[0] == '.' || !join(path, dir, e->d_name) || stat(path, &info)) continue;
        each(arg, path, e->d_name, &info);
    }
    closedir(d);
    return 0;
}

/* What a folder that may hold a model holds. */
typedef struct contents {
    char onnx[PATH_BYTES];   /* model.onnx, else the last other one seen */
    bool is_model_onnx, has_onnx_folder;
    int n_onnx;
    uint64_t signature, bytes;
    int64_t versions[64];
    int n_versions;
} contents;

static void look(void *arg, const char *path, const char *name, const struct stat *info)
{
    contents *c = arg;
    if (S_ISDIR(info->st_mode)) {
        int64_t v = version_number(name);
        if (v && c->n_versions < (int)OD_COUNT(c->versions)) c->versions[c->n_versions++] = v;
        if (!strcmp(name, "onnx")) c->has_onnx_folder = true;
        return;
    }
    if (!S_ISREG(info->st_mode)) return;
    /* readdir's order is not ours: each file is hashed alone, and the sum does not depend on it */
    uint64_t h = 0xcbf29ce484222325u;
    mix(&h, name, strlen(name));
    mix(&h, &info->st_size, sizeof info->st_size);
    mix(&h, &info->st_mtim, sizeof info->st_mtim);
    mix(&h, &info->st_ino, sizeof info->st_ino);
    c->signature += h;
    c->bytes += (uint64_t)info->st_size;
    if (!ends_with(name, ".onnx") || c->is_model_onnx) return;
    c->is_model_onnx = !strcmp(name, "model.onnx");
    c->n_onnx++;
    strcpy(c->onnx, path);
}

static od_code add(srv_scan *s, const char *name, size_t name_len, int64_t version, const contents *c, uint64_t outer,
                   od_status *st)
{
    if (s->n == MODELS_MAX) return od_fail(st, OD_TOO_LARGE, "more than %d models in one folder", MODELS_MAX);
    if (s->n == s->cap) {
        int cap = s->cap ? s->cap * 2 : 16;
        srv_found *more = realloc(s->found, (size_t)cap * sizeof *more);
        if (!more) return od_fail(st, OD_NO_MEMORY, "no memory for a list of models");
        s->found = more;
        s->cap = cap;
    }
    srv_found *f = &s->found[s->n];
    *f = (srv_found){.version = version, .signature = c->signature + outer * 31, .bytes = c->bytes};
    if (name_len >= sizeof f->name) return OD_OK;
    memcpy(f->name, name, name_len);
    if (c->is_model_onnx || c->n_onnx == 1) {
        if (!(f->path = strdup(c->onnx))) return od_fail(st, OD_NO_MEMORY, "no memory for a list of models");
    } else {
        f->problem = c->n_onnx ? "several .onnx files, and none of them is called model.onnx" : "no .onnx file";
    }
    s->n++;
    return OD_OK;
}

/* DIR/NAME: versions, or the model itself, or neither. */
static od_code scan_model(srv_scan *s, const char *dir, const char *name, od_status *st)
{
    contents own = {0};
    if (walk(dir, look, &own)) {
        od_log(OD_WARN, "%s: %s", dir, strerror(errno));
        return OD_OK;
    }
    for (int i = 0; i < own.n_versions; i++) {
        char path[PATH_BYTES], number[24];
        contents c = {0};
        snprintf(number, sizeof number, "%" PRId64, own.versions[i]);
        if (join(path, dir, number) && !walk(path, look, &c))
            OD_TRY(add(s, name, strlen(name), own.versions[i], &c, own.signature, st));
    }
    if (own.n_versions) return OD_OK;
    if (own.n_onnx) return add(s, name, strlen(name), 1, &own, 0, st);
    contents c = {0};
    char path[PATH_BYTES];
    if (!own.has_onnx_folder || !join(path, dir, "onnx") || walk(path, look, &c) || !c.n_onnx) return OD_OK;
    return add(s, name, strlen(name), 1, &c, own.signature, st);
}

/* DIR/NAME.onnx, with what usually belongs to such a file. */
static od_code scan_file(srv_scan *s, const char *path, const char *name, const struct stat *info, od_status *st)
{
    static const char *const beside[] = {".onnx.data", ".onnx_data", ".json", ".txt"};
    size_t len = strlen(name) - strlen(".onnx"), path_len = strlen(path) - strlen(".onnx");
    contents c = {0};
    look(&c, path, name, info);
    for (size_t i = 0; i < OD_COUNT(beside); i++) {
        char other[PATH_BYTES];
        struct stat other_info;
        int n = snprintf(other, sizeof other, "%.*s%s", (int)path_len, path, beside[i]);
        if (n > 0 && n < PATH_BYTES && !stat(other, &other_info)) look(&c, other, beside[i], &other_info);
    }
    return add(s, name, len, 1, &c, 0, st);
}

typedef struct top {
    srv_scan *scan;
    od_status *st;
    od_code rc;
} top;

static void look_at_top(void *arg, const char *path, const char *name, const struct stat *info)
{
    top *t = arg;
    if (t->rc != OD_OK || !srv_name_is_usable(name)) return;
    if (S_ISDIR(info->st_mode)) {
        t->rc = scan_model(t->scan, path, name, t->st);
    } else if (S_ISREG(info->st_mode) && ends_with(name, ".onnx")) {
        t->rc = scan_file(t->scan, path, name, info, t->st);
    }
}

static int by_name_and_version(const void *a, const void *b)
{
    const srv_found *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->version < y->version ? 1 : x->version > y->version ? -1 : 0;
}

/* NAME/ and NAME.onnx beside each other: the first stays. */
static void drop_doubles(srv_scan *s)
{
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (n && !by_name_and_version(&s->found[n - 1], &s->found[i])) {
            od_log(OD_WARN, "model '%s' is there twice: as a folder and as a file", s->found[i].name);
            free(s->found[i].path);
        } else {
            s->found[n++] = s->found[i];
        }
    }
    s->n = n;
}

od_code srv_scan_model(const char *folder, const char *name, srv_scan *out, od_status *st)
{
    *out = (srv_scan){0};
    if (scan_model(out, folder, name, st) != OD_OK) {
        srv_scan_fini(out);
        return st->code;
    }
    if (out->n) qsort(out->found, (size_t)out->n, sizeof *out->found, by_name_and_version);
    return OD_OK;
}

od_code srv_scan_name(const char *dir, const char *name, srv_scan *out, od_status *st)
{
    char path[PATH_BYTES], file[300];
    struct stat info;
    *out = (srv_scan){0};
    if (join(path, dir, name) && !stat(path, &info) && S_ISDIR(info.st_mode)) {
        OD_TRY(srv_scan_model(path, name, out, st));
        if (out->n) return OD_OK;
    }
    snprintf(file, sizeof file, "%s.onnx", name);
    if (!join(path, dir, file) || stat(path, &info) || !S_ISREG(info.st_mode)) return OD_OK;
    return scan_file(out, path, file, &info, st);
}

od_code srv_scan_folder(const char *dir, srv_scan *out, od_status *st)
{
    *out = (srv_scan){0};
    top t = {.scan = out, .st = st, .rc = OD_OK};
    if (walk(dir, look_at_top, &t))
        t.rc = od_fail(st, errno == ENOENT || errno == ENOTDIR ? OD_NOT_FOUND : OD_IO, "folder %s: %s", dir, strerror(errno));
    if (t.rc != OD_OK) {
        srv_scan_fini(out);
        return t.rc;
    }
    if (out->n) qsort(out->found, (size_t)out->n, sizeof *out->found, by_name_and_version);
    drop_doubles(out);
    return OD_OK;
}

void srv_scan_fini(srv_scan *s)
{
    for (int i = 0; i < s->n; i++) free(s->found[i].path);
    free(s->found);
    *s = (srv_scan){0};
}
