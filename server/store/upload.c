#include "server/store/scan.h"
#include "server/store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* FILE or VERSION/FILE, where neither can be or lead to another folder. */
static bool is_usable(const char *name, char *version)
{
    const char *slash = strchr(name, '/');
    *version = '\0';
    if (!slash) return srv_name_is_usable(name);
    size_t n = (size_t)(slash - name);
    if (!n || n > 18 || *name == '0' || strspn(name, "0123456789") != n) return false;
    memcpy(version, name, n);
    version[n] = '\0';
    return srv_name_is_usable(slash + 1);
}

static od_code write_all(int at, const srv_file *f, od_status *st)
{
    int fd = openat(at, f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool fine = fd >= 0;
    for (size_t done = 0; fine && done < f->len;) {
        ssize_t n = write(fd, (const char *)f->data + done, f->len - done);
        if (n < 0 && errno == EINTR) continue;
        fine = n > 0;
        if (fine) done += (size_t)n;
    }
    int e = errno;
    if (fd >= 0 && close(fd)) fine = false;
    if (fine) return OD_OK;
    if (e == EEXIST) return od_fail(st, OD_BAD_ARGUMENT, "file '%.80s' is given twice", f->name);
    return od_fail(st, OD_IO, "file '%.80s': %s", f->name, strerror(e));
}

static od_code write_into(int at, const srv_file *files, int n, od_status *st)
{
    for (int i = 0; i < n; i++) {
        char version[24];
        if (!is_usable(files[i].name, version)) return od_fail(st, OD_BAD_ARGUMENT, "file '%.80s': FILE or VERSION/FILE is wanted", files[i].name);
        if (*version && mkdirat(at, version, 0700) && errno != EEXIST) return od_fail(st, OD_IO, "folder %s: %s", version, strerror(errno));
        OD_TRY(write_all(at, &files[i], st));
    }
    return OD_OK;
}

od_code srv_upload_write(const srv_file *files, int n, char **folder, od_status *st)
{
    const char *base = getenv("TMPDIR");
    char path[1024];
    if (snprintf(path, sizeof path, "%s/onnxd-XXXXXX", base && *base ? base : "/tmp") >= (int)sizeof path) return od_fail(st, OD_IO, "TMPDIR is too long");
    if (!mkdtemp(path)) return od_fail(st, OD_IO, "%s: %s", path, strerror(errno));
    char *copy = strdup(path);
    int at = copy ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    od_code rc = at < 0 ? od_fail(st, OD_IO, "%s: %s", path, strerror(errno)) : write_into(at, files, n, st);
    if (at >= 0) close(at);
    if (rc == OD_OK) *folder = copy;
    else if (copy) srv_upload_remove(copy);
    else rmdir(path);
    return rc;
}

static void remove_below(const char *folder, int depth)
{
    DIR *d = opendir(folder);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        char path[2048];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= (int)sizeof path) continue;
        if (depth && unlink(path) && (errno == EISDIR || errno == EPERM)) remove_below(path, depth - 1);
        else if (!depth) unlink(path);
    }
    closedir(d);
    rmdir(folder);
}

void srv_upload_remove(char *folder)
{
    if (folder) remove_below(folder, 1);
    free(folder);
}
