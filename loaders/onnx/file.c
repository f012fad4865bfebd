#include "loaders/onnx/file.h"
#include "engine/base/pages.h"
#include "loaders/onnx/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct ldr_hole {
    size_t at, size;
};

enum { NUMBER_SHIFT = 56 }; /* above an offset: which file beside the model's, from 1 on */

void ldr_file_close(ldr_file *f)
{
    f->fd = -1;
    for (int i = 0; i < f->n_beside; i++) {
        if (f->beside[i].fd >= 0) close(f->beside[i].fd);
        f->beside[i].fd = -1;
    }
}

void ldr_file_destroy(void *file)
{
    ldr_file *f = file;
    if (!f) return;
    ldr_file_close(f);
    for (int i = 0; i < f->n_beside; i++) od_pages_free(f->beside[i].bytes, f->beside[i].size);
    od_pages_free(f->bytes, f->size);
    free(f->holes);
    free(f);
}

static od_code create(ldr_file **out, size_t size, od_status *st)
{
    ldr_file *f = calloc(1, sizeof *f);
    void *pages = f ? od_pages_alloc(size) : NULL;
    if (!pages) {
        free(f);
        return od_fail(st, OD_NO_MEMORY, "no memory for a model of %zu bytes", size);
    }
    *f = (ldr_file){.bytes = pages, .size = size, .fd = -1};
    *out = f;
    return OD_OK;
}

od_code ldr_file_copy(ldr_file **out, const void *bytes, size_t size, od_status *st)
{
    OD_TRY(create(out, size, st));
    memcpy((*out)->bytes, bytes, size);
    return OD_OK;
}

od_code ldr_file_read(void *file, uint64_t where, size_t size, void *to, od_status *st)
{
    const ldr_file *f = file;
    const uint64_t number = where >> NUMBER_SHIFT;
    const int fd = number ? f->beside[number - 1].fd : f->fd;
    where &= ((uint64_t)1 << NUMBER_SHIFT) - 1;
    for (char *at = to; size;) {
        ssize_t n = pread(fd, at, size, (off_t)where);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return od_fail(st, OD_IO, "%s", n ? strerror(errno) : "the file shrank while it was read");
        at += n;
        where += (uint64_t)n;
        size -= (size_t)n;
    }
    return OD_OK;
}

static int by_place(const void *key, const void *hole)
{
    size_t at = *(const size_t *)key, other = ((const struct ldr_hole *)hole)->at;
    return at < other ? -1 : at > other;
}

bool ldr_file_hole(const ldr_file *f, const uint8_t *at)
{
    size_t place = (size_t)(at - f->bytes);
    return f->n_holes && bsearch(&place, f->holes, (size_t)f->n_holes, sizeof *f->holes, by_place);
}

/* ---- what is read at once ------------------------------------------------------------------- */

typedef struct scan {
    ldr_file *f;
    size_t here; /* bytes before it were read or left out */
    size_t step; /* to read next, at least: little behind a hole, where often only a few bytes stand before the next */
    size_t hole_min;
    od_status *st;
} scan;

enum { STEP_MIN = 4 << 10, STEP_MAX = 256 << 10 };

static od_code want(scan *s, size_t end)
{
    while (s->here < end) {
        size_t size = end - s->here < s->step ? s->step : end - s->here;
        if (size > STEP_MAX) size = STEP_MAX;
        if (size > s->f->size - s->here) size = s->f->size - s->here;
        od_pages_populate(s->f->bytes + s->here, size, 0, size);
        OD_TRY(ldr_file_read(s->f, s->here, size, s->f->bytes + s->here, s->st));
        s->here += size;
        if (s->step < STEP_MAX) s->step *= 2;
    }
    return OD_OK;
}

static od_code leave_out(scan *s, size_t at, size_t size)
{
    ldr_file *f = s->f;
    if (f->n_holes == f->cap_holes) {
        int cap = f->cap_holes ? f->cap_holes * 2 : 64;
        struct ldr_hole *more = f->cap_holes > INT32_MAX / 4 ? NULL : realloc(f->holes, (size_t)cap * sizeof *more);
        if (!more) return od_fail(s->st, OD_NO_MEMORY, "no memory for %d weights", cap);
        f->holes = more;
        f->cap_holes = cap;
    }
    f->holes[f->n_holes++] = (struct ldr_hole){at, size};
    s->here = at + size;
    s->step = STEP_MIN;
    return OD_OK;
}

/* Go through the message from `at` to `end`, reading all but what may be left out. A broken one is read to its end: who
 * unpacks it says what is wrong. */
static od_code walk(scan *s, size_t at, size_t end, int depth)
{
    static const uint32_t way[] = {LDR_MODEL_GRAPH, LDR_GRAPH_INITIALIZER, LDR_TENSOR_RAW_DATA};
    enum { HEAD_MAX = 20 /* bytes of a tag and a length */ };
    while (at < end) {
        ldr_wire_field f;
        OD_TRY(want(s, end - at < HEAD_MAX ? end : at + HEAD_MAX));
        if (!ldr_wire_next(s->f->bytes + at, s->f->bytes + end, &f)) break;
        size_t from = (size_t)(f.at - s->f->bytes);
        bool on_way = f.number == way[depth] && f.type == LDR_WIRE_BYTES;
        at = from + f.size;
        if (on_way && depth < 2) OD_TRY(walk(s, from, at, depth + 1));
        else if (on_way && f.size >= s->hole_min && s->here < at) OD_TRY(leave_out(s, from, f.size));
        else OD_TRY(want(s, at));
    }
    return want(s, end);
}

/* Clocks of file systems may stand still for some milliseconds, some for two seconds. */
static bool is_still(const struct stat *i)
{
    enum { STILL = 3 };
    time_t now = time(NULL);
    return now - i->st_mtim.tv_sec >= STILL && now - i->st_ctim.tv_sec >= STILL;
}

/* Add to what is known of the files. */
static void identify(ldr_file *f, const struct stat *i)
{
    size_t at = strlen(f->identity);
    snprintf(f->identity + at, sizeof f->identity - at, " %llx-%llx-%llx-%llx.%lx-%llx.%lx", (unsigned long long)i->st_dev,
             (unsigned long long)i->st_ino, (unsigned long long)i->st_size, (unsigned long long)i->st_mtim.tv_sec,
             (unsigned long)i->st_mtim.tv_nsec, (unsigned long long)i->st_ctim.tv_sec, (unsigned long)i->st_ctim.tv_nsec);
}

bool ldr_file_beside(ldr_file *f, int fd, const ldr_beside **out, uint64_t *where)
{
    struct stat info;
    int i = 0;
    if (fstat(fd, &info) || info.st_size <= 0 || (uint64_t)info.st_size >> NUMBER_SHIFT) return false;
    while (i < f->n_beside && (f->beside[i].device != info.st_dev || f->beside[i].inode != info.st_ino)) i++;
    if (i == f->n_beside) {
        if (i == LDR_BESIDE_MAX) return false;
        ldr_beside b = {.size = (size_t)info.st_size, .device = info.st_dev, .inode = info.st_ino};
        if ((b.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0) return false;
        if (!(b.bytes = od_pages_alloc(b.size))) {
            close(b.fd);
            return false;
        }
        f->beside[f->n_beside++] = b;
        if (*f->identity && is_still(&info)) identify(f, &info);
        else *f->identity = '\0';
    }
    *out = &f->beside[i];
    *where = (uint64_t)(i + 1) << NUMBER_SHIFT;
    return true;
}

od_code ldr_file_open(ldr_file **out, int fd, size_t hole_min, od_status *st)
{
    struct stat info;
    if (fstat(fd, &info)) return od_fail(st, OD_IO, "%s", strerror(errno));
    if (!S_ISREG(info.st_mode)) return od_fail(st, OD_BAD_MODEL, "not a file");
    if (info.st_size == 0) return od_fail(st, OD_BAD_MODEL, "an empty file");
    OD_TRY(create(out, (size_t)info.st_size, st));
    (*out)->fd = fd;
    if (is_still(&info)) identify(*out, &info);
    scan s = {.f = *out, .step = STEP_MIN, .hole_min = hole_min, .st = st};
    return walk(&s, 0, (*out)->size, 0);
}
