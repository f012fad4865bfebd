#include "engine/packed.h"
#include "engine/base/pages.h"
#include "engine/graph.h"
#include "engine/lazy.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* the widest vectors there are */
#else
#include <xxhash.h>
#endif

enum {
    FILE_MIN = 64 << 10,  /* bytes of a form below which a file is slower than packing */
    WINDOW = 2 << 20,     /* bytes that od_pages_populate fills at once */
    FILE_VERSION = 2,     /* raise it when a kernel's form changes under its old name */
    TABLE = 1024
};

typedef struct pack_key {
    XXH128_hash_t hash; /* of weights, form and its numbers */
    uint64_t size;
} pack_key;

/* Where the forms of one eng_packs_make lie: one block, in large pages. */
typedef struct region {
    char *bytes;
    size_t size, used; /* used: atomic */
    int refs;          /* forms in it, and its maker while it works; under the lock */
} region;

/* One packed form in the process. `ready` is set under the lock; data never changes after it. */
typedef struct packed {
    struct packed *next;
    pack_key key;
    void *data;
    region *in; /* NULL: `data` is a mapping */
    int refs;
    bool ready;
} packed;

struct eng_pack_job {
    struct eng_pack_job *next;
    const eng_tensor *w;
    const char *form;
    const void *arg;
    size_t arg_size, size;
    int64_t unit;
    eng_pack_fn *fn;
    const float **slot;
    bool lazy;   /* its weights are in the file, and nobody else wants them */
    int *wanted; /* jobs that still need the weights' bytes, shared by all on the same bytes; NULL: others read them too */
    XXH128_hash_t sum; /* of lazy weights whose form is kept in a file */
    bool summed;
    struct eng_pack_job *same; /* wants the same form of the same bytes; NULL: it makes its own */
    packed *result; /* NULL: not made yet */
};

/* What a file begins with; the form follows at the next page. */
typedef struct file_head {
    char magic[8];
    uint32_t version, page;
    pack_key key;
    XXH128_hash_t sum; /* of the form's bytes */
} file_head;

static const char magic[8] = "onnxdpk";
static packed *table[TABLE];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t made = PTHREAD_COND_INITIALIZER;

od_code eng_model_pack(eng_graph *g, const eng_node *n, int input, const char *form, const void *arg, size_t arg_size,
                       size_t size, int64_t unit, eng_pack_fn *fn, const float **slot, od_status *st)
{
    od_arena *a = &g->model->arena;
    struct eng_pack_job *j = od_arena_calloc(a, 1, sizeof *j);
    void *kept = od_arena_alloc(a, arg_size);
    if (!j || !kept) return od_fail(st, OD_NO_MEMORY, "no memory to pack weights");
    if (arg_size) memcpy(kept, arg, arg_size);
    *slot = NULL;
    *j = (struct eng_pack_job){.next = g->model->pack_jobs, .w = g->values[n->in[input]].constant, .form = form, .arg = kept,
                               .arg_size = arg_size, .size = size, .unit = unit, .fn = fn, .slot = slot};
    g->model->pack_jobs = j;
    return OD_OK;
}

eng_pack_part eng_pack_all(const eng_tensor *w)
{
    return (eng_pack_part){w->data, 0, w->rank ? w->dims[0] : 1};
}

static pack_key key_of(const struct eng_pack_job *j, XXH128_hash_t weights)
{
    struct {
        XXH128_hash_t weights;
        int64_t dims[ENG_MAX_RANK + 2];
    } all = {.weights = weights, .dims = {j->w->dtype, j->w->rank}};
    if (j->w->rank) memcpy(all.dims + 2, j->w->dims, (size_t)j->w->rank * sizeof *j->w->dims);
    uint64_t seed = XXH3_64bits_withSeed(j->arg, j->arg_size, XXH3_64bits(j->form, strlen(j->form)));
    return (pack_key){XXH3_128bits_withSeed(&all, sizeof all, seed), j->size};
}

static bool same_key(const pack_key *a, const pack_key *b)
{
    return XXH128_isEqual(a->hash, b->hash) && a->size == b->size;
}

static packed **place_of(const pack_key *k)
{
    packed **at = &table[k->hash.low64 % TABLE];
    while (*at && !same_key(&(*at)->key, k)) at = &(*at)->next;
    return at;
}

/* ---- files ---------------------------------------------------------------------------------- */

static void file_name(const char *folder, const pack_key *k, const char *tail, char *path, size_t size)
{
    snprintf(path, size, "%s/%016llx%016llx.pack%s", folder, (unsigned long long)k->hash.high64,
             (unsigned long long)k->hash.low64, tail);
}

/* A file that was found whole bears a time of change made of its sum: any write since has put another there.
 * So the bytes are added up only when the time is another. */
static struct timespec time_of(XXH128_hash_t sum)
{
    return (struct timespec){1000000000 + (time_t)(sum.low64 >> 35), (long)(sum.high64 % 1000000000)};
}

static void set_time(int fd, XXH128_hash_t sum)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, time_of(sum)};
    if (futimens(fd, t)) return; /* it is then added up each time */
}

static bool bears_time(const struct stat *info, XXH128_hash_t sum)
{
    struct timespec want = time_of(sum);
    return info->st_mtim.tv_sec == want.tv_sec && info->st_mtim.tv_nsec == want.tv_nsec;
}

static bool map_file(const char *folder, packed *p)
{
    char path[4096];
    struct stat info;
    file_head head;
    file_name(folder, &p->key, "", path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool fits = read(fd, &head, sizeof head) == (ssize_t)sizeof head && !memcmp(head.magic, magic, sizeof magic) &&
                head.version == FILE_VERSION && head.page == (uint32_t)sysconf(_SC_PAGESIZE) &&
                same_key(&head.key, &p->key) && !fstat(fd, &info) &&
                (uint64_t)info.st_size == head.page + head.key.size;
    void *data = MAP_FAILED;
    if (fits) data = mmap(NULL, p->key.size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, (off_t)head.page);
    bool whole = data != MAP_FAILED && (bears_time(&info, head.sum) || XXH128_isEqual(XXH3_128bits(data, p->key.size), head.sum));
    if (whole && !bears_time(&info, head.sum)) set_time(fd, head.sum);
    close(fd);
    if (!whole && data != MAP_FAILED) munmap(data, p->key.size);
    if (whole) p->data = data;
    return whole;
}

/* Is there a file of that name? */
static bool is_kept(const char *folder, const pack_key *k)
{
    char path[4096];
    file_name(folder, k, "", path, sizeof path);
    return access(path, R_OK) == 0;
}

static bool write_all(int fd, const void *bytes, size_t size)
{
    for (const char *at = bytes; size;) {
        ssize_t n = write(fd, at, size);
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* Under another name first, so that a reader never sees half a file. */
static void write_file(const char *folder, const packed *p)
{
    char path[4096], tmp[4096];
    static const char zeros[64 << 10];
    file_head head = {.version = FILE_VERSION, .page = (uint32_t)sysconf(_SC_PAGESIZE), .key = p->key};
    memcpy(head.magic, magic, sizeof magic);
    head.sum = XXH3_128bits(p->data, p->key.size);
    if (head.page > sizeof zeros) return;
    file_name(folder, &p->key, "", path, sizeof path);
    file_name(folder, &p->key, ".XXXXXX", tmp, sizeof tmp);
    int fd = mkstemp(tmp);
    if (fd < 0) return;
    bool well = write_all(fd, &head, sizeof head) && write_all(fd, zeros, head.page - sizeof head) &&
                write_all(fd, p->data, p->key.size);
    if (well) set_time(fd, head.sum);
    if (close(fd) || !well || rename(tmp, path)) unlink(tmp);
}

/* ---- sums of weights ------------------------------------------------------------------------ */

/* Finding a form takes its weights' sum, and that takes all their bytes from the file. So the sums are kept beside the forms, under
 * the identity of the model's file. */
typedef struct weight_sum {
    uint64_t where, size; /* of the weights, in the model's file */
    XXH128_hash_t sum;
} weight_sum;

typedef struct sums_head {
    char magic[8];
    uint64_t version, n;
    XXH128_hash_t sum; /* of the n weight_sum that follow, by `where` */
} sums_head;

static const char sums_magic[8] = "onnxdws";

static void sums_name(const char *folder, const char *identity, const char *tail, char *path, size_t size)
{
    XXH128_hash_t h = XXH3_128bits(identity, strlen(identity));
    snprintf(path, size, "%s/%016llx%016llx.sums%s", folder, (unsigned long long)h.high64, (unsigned long long)h.low64, tail);
}

/* What is kept of the model's weights; 0: nothing. The caller frees *out. */
static int read_sums(const eng_model *m, const char *folder, weight_sum **out)
{
    enum { MOST = 1 << 20 };
    char path[4096];
    sums_head head;
    *out = NULL;
    if (!folder || !m->identity) return 0;
    sums_name(folder, m->identity, "", path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    bool well = read(fd, &head, sizeof head) == (ssize_t)sizeof head && !memcmp(head.magic, sums_magic, sizeof sums_magic) &&
                head.version == FILE_VERSION && head.n > 0 && head.n <= MOST;
    size_t size = well ? (size_t)head.n * sizeof **out : 0;
    well = well && (*out = malloc(size)) && read(fd, *out, size) == (ssize_t)size && XXH128_isEqual(XXH3_128bits(*out, size), head.sum);
    close(fd);
    if (well) return (int)head.n;
    free(*out);
    *out = NULL;
    return 0;
}

static int by_where(const void *a, const void *b)
{
    const weight_sum *x = a, *y = b;
    if (x->where != y->where) return x->where < y->where ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

static void write_sums(const eng_model *m, struct eng_pack_job *const *jobs, int n, const char *folder)
{
    char path[4096], tmp[4096];
    weight_sum *all = calloc((size_t)n + 1, sizeof *all);
    sums_head head = {.version = FILE_VERSION};
    memcpy(head.magic, sums_magic, sizeof sums_magic);
    for (int i = 0; all && i < n; i++)
        if (jobs[i]->summed) all[head.n++] = (weight_sum){eng_lazy_place(m, jobs[i]->w), eng_tensor_bytes(jobs[i]->w), jobs[i]->sum};
    size_t size = (size_t)head.n * sizeof *all;
    if (all) qsort(all, (size_t)head.n, sizeof *all, by_where);
    sums_name(folder, m->identity, "", path, sizeof path);
    sums_name(folder, m->identity, ".XXXXXX", tmp, sizeof tmp);
    int fd = all && head.n ? mkstemp(tmp) : -1;
    if (fd >= 0) {
        head.sum = XXH3_128bits(all, size);
        bool well = write_all(fd, &head, sizeof head) && write_all(fd, all, size);
        if (close(fd) || !well || rename(tmp, path)) unlink(tmp);
    }
    free(all);
}

/* ---- making --------------------------------------------------------------------------------- */

static size_t padded(size_t size)
{
    return size ? (size + 63) & ~(size_t)63 : 64;
}

/* Where one thread reads weights that are packed and forgotten. */
typedef struct scratch {
    char *bytes;
    size_t ready; /* bytes of it that memory was asked for */
} scratch;

typedef struct make_all {
    eng_model *m;
    struct eng_pack_job **jobs;
    region *to;
    const char *folder;
    weight_sum *sums;    /* that were kept */
    int n_sums;
    int unknown;         /* sums that were not */
    scratch *scratch;    /* one a slot */
    size_t scratch_size; /* as large as the largest part of lazy weights */
    od_status *st;       /* of all threads: the first failure */
    int failed;
} make_all;

static bool cached(const make_all *all, const struct eng_pack_job *j)
{
    return all->folder && j->size >= FILE_MIN;
}

static void scratch_reach(const make_all *all, scratch *s, size_t size)
{
    enum { ROUND = 2 << 20 }; /* a large page */
    size_t kept = (size + ROUND - 1) / ROUND * ROUND;
    if (kept < s->ready) { /* the largest come first: the more is packed, the less is left of this */
        od_pages_drop(s->bytes + kept, s->ready - kept);
        s->ready = kept;
    }
    if (size <= s->ready) return;
    od_pages_populate(s->bytes, all->scratch_size, s->ready, size - s->ready);
    s->ready = size;
}

static size_t row_bytes(const struct eng_pack_job *j)
{
    int64_t rows = eng_pack_all(j->w).count;
    return rows ? eng_tensor_bytes(j->w) / (size_t)rows : 0;
}

/* Rows of lazy weights that are read, added up and packed at once: they are in a cache then. */
static int64_t part_rows(const struct eng_pack_job *j)
{
    enum { PART = 512 << 10 };
    int64_t all = eng_pack_all(j->w).count, row = (int64_t)row_bytes(j);
    if (!j->unit || !row) return all;
    return od_min_i64(all, od_max_i64(1, PART / row / j->unit) * j->unit);
}

/* Go through lazy weights by parts: add them up, and, unless `to` is NULL, pack them. */
static od_code read_weights(const make_all *all, const struct eng_pack_job *j, scratch *s, void *to, XXH128_hash_t *sum, od_status *st)
{
    const size_t row = row_bytes(j);
    const int64_t all_rows = eng_pack_all(j->w).count, rows = part_rows(j);
    od_code rc = OD_OK;
    XXH3_state_t *x = XXH3_createState();
    if (!x || XXH3_128bits_reset(x) == XXH_ERROR) rc = od_fail(st, OD_NO_MEMORY, "no memory to add up weights");
    scratch_reach(all, s, (size_t)rows * row);
    for (eng_pack_part part = {.bytes = s->bytes}; rc == OD_OK && part.first < all_rows; part.first += part.count) {
        part.count = od_min_i64(rows, all_rows - part.first);
        if ((rc = eng_lazy_copy(all->m, j->w, (size_t)part.first * row, (size_t)part.count * row, s->bytes, st)) != OD_OK) break;
        XXH3_128bits_update(x, s->bytes, (size_t)part.count * row);
        if (to) j->fn(j->w, &part, j->arg, to);
    }
    if (rc == OD_OK) *sum = XXH3_128bits_digest(x);
    XXH3_freeState(x);
    return rc;
}

/* Room for a form. */
static void *take_room(const make_all *all, const struct eng_pack_job *j)
{
    region *to = all->to;
    size_t size = padded(j->size), at = __atomic_fetch_add(&to->used, size, __ATOMIC_RELAXED);
    size_t window = (at + WINDOW - 1) / WINDOW * WINDOW; /* the form that holds a window's first byte asks for memory behind all of it */
    bool many = !all->folder || cached(all, j); /* else few forms come here */
    if (many && window < at + size) od_pages_populate(to->bytes, to->size, window, at + size - window);
    return to->bytes + at;
}

/* The form of weights that were added up, from its file or made. */
static od_code fill(const make_all *all, const struct eng_pack_job *j, scratch *s, packed *p, od_status *st)
{
    XXH128_hash_t sum;
    if (cached(all, j) && map_file(all->folder, p)) return OD_OK;
    void *to = take_room(all, j);
    if (j->lazy) {
        OD_TRY(read_weights(all, j, s, to, &sum, st));
        pack_key key = key_of(j, sum);
        if (!same_key(&key, &p->key)) return od_fail(st, OD_IO, "the file changed while it was read");
    } else {
        eng_pack_part whole = eng_pack_all(j->w);
        j->fn(j->w, &whole, j->arg, to);
    }
    p->in = all->to;
    p->data = to;
    if (cached(all, j)) write_file(all->folder, p);
    return OD_OK;
}

static void region_leave(region *r)
{
    pthread_mutex_lock(&lock);
    bool last = --r->refs == 0;
    pthread_mutex_unlock(&lock);
    if (!last) return;
    od_pages_free(r->bytes, r->size);
    free(r);
}

static bool nobody_else(void *arg)
{
    region *r = arg;
    pthread_mutex_lock(&lock);
    bool alone = r->refs == 1;
    pthread_mutex_unlock(&lock);
    return alone;
}

static void *enlarge(void *arg)
{
    region *r = arg;
    setpriority(PRIO_PROCESS, (id_t)gettid(), 10); /* of this thread alone */
    od_pages_enlarge(r->bytes, r->used, nobody_else, r);
    region_leave(r);
    return NULL;
}

/* Takes the caller's hold on `r`. Models are ready before their weights lie in large pages where these are dear; running is 3 to 9 % faster with them. */
static void enlarge_behind(region *r)
{
    enum { WORTH = 4 << 20 };
    pthread_t t;
    pthread_attr_t attr;
    bool started = false;
    if (r->used >= WORTH && !pthread_attr_init(&attr)) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        started = !pthread_create(&t, &attr, enlarge, r);
        pthread_attr_destroy(&attr);
    }
    if (!started) region_leave(r);
}

static void unref(packed *p)
{
    pthread_mutex_lock(&lock);
    bool last = --p->refs == 0;
    if (last) {
        packed **at = &table[p->key.hash.low64 % TABLE];
        while (*at != p) at = &(*at)->next;
        *at = p->next;
    }
    pthread_mutex_unlock(&lock);
    if (!last) return;
    if (p->in) region_leave(p->in);
    else if (p->data) munmap(p->data, p->key.size);
    free(p);
}

/* The form of that key, made by us (*ours) or another; NULL: no memory, or its maker failed. */
static packed *find(const pack_key *key, bool *ours)
{
    pthread_mutex_lock(&lock);
    packed **at = place_of(key), *p = *at;
    *ours = !p;
    if (*ours && (p = *at = calloc(1, sizeof *p))) p->key = *key;
    if (p) p->refs++;
    while (p && !*ours && !p->ready) pthread_cond_wait(&made, &lock);
    pthread_mutex_unlock(&lock);
    return p;
}

static void tell_made(packed *p)
{
    pthread_mutex_lock(&lock);
    if (p->in) p->in->refs++;
    p->ready = true;
    pthread_cond_broadcast(&made);
    pthread_mutex_unlock(&lock);
}

static bool is_known(const make_all *all, const struct eng_pack_job *j, XXH128_hash_t *sum)
{
    weight_sum key = {.where = all->n_sums ? eng_lazy_place(all->m, j->w) : 0, .size = eng_tensor_bytes(j->w)};
    const weight_sum *found = all->n_sums ? bsearch(&key, all->sums, (size_t)all->n_sums, sizeof key, by_where) : NULL;
    if (found) *sum = found->sum;
    return found;
}

/* Lazy weights whose form no file has are packed as they are read; who else has packed the same is known only then. */
static od_code make_read(const make_all *all, struct eng_pack_job *j, scratch *s, packed **p, od_status *st)
{
    XXH128_hash_t sum;
    bool ours;
    void *to = take_room(all, j);
    OD_TRY(read_weights(all, j, s, to, &sum, st));
    pack_key key = key_of(j, j->sum = sum);
    if (!(*p = find(&key, &ours))) return OD_OK;
    if (ours) {
        (*p)->in = all->to;
        (*p)->data = to;
        if (cached(all, j)) write_file(all->folder, *p);
        tell_made(*p);
    } else {
        od_pages_drop(to, j->size);
    }
    return OD_OK;
}

/* The rest are added up first. Bytes that are packed are those that were added up, whatever happens to the file. */
static od_code make_known(make_all *all, struct eng_pack_job *j, scratch *s, packed **p, od_status *st)
{
    XXH128_hash_t sum;
    bool ours;
    if (!j->lazy) {
        sum = XXH3_128bits(j->w->data, eng_tensor_bytes(j->w));
    } else if (!is_known(all, j, &sum)) {
        OD_TRY(read_weights(all, j, s, NULL, &sum, st));
        __atomic_fetch_add(&all->unknown, 1, __ATOMIC_RELAXED);
    }
    j->sum = sum;
    j->summed = j->lazy;
    pack_key key = key_of(j, sum);
    if (j->lazy && !is_kept(all->folder, &key)) return make_read(all, j, s, p, st);
    if (!(*p = find(&key, &ours)) || !ours) return OD_OK;
    od_code rc = fill(all, j, s, *p, st);
    tell_made(*p);
    return rc;
}

static od_code make(make_all *all, struct eng_pack_job *j, int slot, od_status *st)
{
    scratch *s = &all->scratch[slot];
    od_code rc = j->lazy && !cached(all, j) ? make_read(all, j, s, &j->result, st) : make_known(all, j, s, &j->result, st);
    if (rc != OD_OK) return rc;
    if (!j->result) return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes of packed weights", j->size);
    if (!j->result->data) return od_fail(st, OD_IO, "the same weights could not be read for another model");
    *j->slot = j->result->data;
    if (j->wanted && __atomic_sub_fetch(j->wanted, 1, __ATOMIC_ACQ_REL) == 0) od_pages_drop(j->w->data, eng_tensor_bytes(j->w));
    return OD_OK;
}

static void make_chunk(void *arg, int64_t chunk, int slot)
{
    make_all *all = arg;
    od_status st;
    if (make(all, all->jobs[chunk], slot, &st) != OD_OK && !__atomic_exchange_n(&all->failed, 1, __ATOMIC_ACQ_REL)) *all->st = st;
}

static int by_data(const void *a, const void *b)
{
    const struct eng_pack_job *x = *(struct eng_pack_job *const *)a, *y = *(struct eng_pack_job *const *)b;
    return (uintptr_t)x->w->data < (uintptr_t)y->w->data ? -1 : (uintptr_t)x->w->data > (uintptr_t)y->w->data;
}

/* Where what is read of constants begins and where it ends, each in order. */
typedef struct reads {
    uintptr_t *begin, *end;
    int n, cap;
} reads;

static void note_read(const eng_tensor *t, void *arg)
{
    reads *r = arg;
    if (!t->data) return;
    if (r->n < r->cap) {
        r->begin[r->n] = (uintptr_t)t->data;
        r->end[r->n] = (uintptr_t)t->data + eng_tensor_bytes(t);
    }
    r->n++;
}

static int by_number(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

static bool find_reads(const eng_graph *g, reads *r)
{
    *r = (reads){0};
    eng_graph_each_read(g, note_read, r); /* counts */
    r->cap = r->n;
    r->begin = calloc((size_t)r->cap + 1, sizeof *r->begin);
    r->end = calloc((size_t)r->cap + 1, sizeof *r->end);
    if (!r->begin || !r->end) return false;
    r->n = 0;
    eng_graph_each_read(g, note_read, r);
    qsort(r->begin, (size_t)r->n, sizeof *r->begin, by_number);
    qsort(r->end, (size_t)r->n, sizeof *r->end, by_number);
    return true;
}

/* How many of n numbers in order are at most `most`. */
static int count_up_to(const uintptr_t *numbers, int n, uintptr_t most)
{
    int low = 0, high = n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (numbers[middle] <= most) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* How many reads are of bytes of `t`, which has some: those that begin before its end less those that end before it. */
static int uses(const reads *r, const eng_tensor *t)
{
    uintptr_t data = (uintptr_t)t->data;
    return count_up_to(r->begin, r->n, data + eng_tensor_bytes(t) - 1) - count_up_to(r->end, r->n, data);
}

static bool wants_same(const struct eng_pack_job *a, const struct eng_pack_job *b)
{
    return a->w->data == b->w->data && a->size == b->size && a->fn == b->fn && !strcmp(a->form, b->form) && a->w->dtype == b->w->dtype &&
           eng_dims_equal(a->w, b->w) && a->arg_size == b->arg_size && !memcmp(a->arg, b->arg, a->arg_size);
}

/* Several nodes of a model read the same weights in the same form: one job makes it for all. Leaves out the others; returns how
 * many jobs are left, in their order. */
static int leave_out_same(struct eng_pack_job **jobs, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        for (int k = kept - 1; k >= 0 && jobs[k]->w->data == jobs[i]->w->data && !jobs[i]->same; k--)
            if (wants_same(jobs[k], jobs[i])) jobs[i]->same = jobs[k];
        if (!jobs[i]->same) jobs[kept++] = jobs[i];
    }
    return kept;
}

static void share_result(struct eng_pack_job *j)
{
    pthread_mutex_lock(&lock);
    j->result = j->same->result;
    j->result->refs++;
    pthread_mutex_unlock(&lock);
    *j->slot = j->result->data;
}

/* Jobs on the same bytes share a counter when nobody else reads these; if they are still in the file, they may stay there.
 * Returns how many jobs are left, see leave_out_same. */
static int count_wanted(eng_model *m, struct eng_pack_job **jobs, int n)
{
    enum { WORTH = 64 << 10 };
    int kept = 0;
    reads r;
    bool found = find_reads(m->graph, &r);
    for (int i = 0, end; found && i < n; i = end) {
        for (end = i; end < n && jobs[end]->w->data == jobs[i]->w->data;) end++;
        int distinct = leave_out_same(jobs + i, end - i);
        for (int k = 0; k < distinct; k++) jobs[kept + k] = jobs[i + k];
        struct eng_pack_job **group = jobs + kept;
        kept += distinct;
        if (eng_tensor_bytes(group[0]->w) < WORTH || uses(&r, group[0]->w) != end - i) continue;
        int *wanted = od_arena_array(&m->arena, int, 1);
        if (wanted) *wanted = distinct;
        for (int k = 0; k < distinct; k++) group[k]->wanted = wanted;
        for (int k = 0; k < distinct; k++) group[k]->lazy = eng_lazy(m, group[k]->w);
    }
    free(r.begin);
    free(r.end);
    return found ? kept : n;
}

typedef struct by_address {
    struct eng_pack_job **jobs;
    int n;
} by_address;

/* For eng_lazy_load_rest: `t` is packed from the file. */
static bool packed_alone(const eng_tensor *t, void *arg)
{
    const by_address *all = arg;
    struct eng_pack_job key = {.w = t}, *sought = &key;
    struct eng_pack_job **job = all->n ? bsearch(&sought, all->jobs, (size_t)all->n, sizeof *all->jobs, by_data) : NULL;
    return job && (*job)->lazy;
}

/* The largest first, so that no thread is left with a large one at the end. */
static int by_size(const void *a, const void *b)
{
    const struct eng_pack_job *x = *(struct eng_pack_job *const *)a, *y = *(struct eng_pack_job *const *)b;
    return x->size < y->size ? 1 : x->size > y->size ? -1 : 0;
}

static int by_result(const void *a, const void *b)
{
    const struct eng_pack_job *x = *(struct eng_pack_job *const *)a, *y = *(struct eng_pack_job *const *)b;
    return x->result < y->result ? -1 : x->result > y->result;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static od_code scratch_create(make_all *all, int n, int slots, od_status *st)
{
    for (int i = 0; i < n; i++)
        if (all->jobs[i]->lazy) all->scratch_size = larger(all->scratch_size, (size_t)part_rows(all->jobs[i]) * row_bytes(all->jobs[i]));
    all->scratch = calloc((size_t)slots, sizeof *all->scratch);
    for (int i = 0; i < slots && all->scratch && all->scratch_size; i++)
        if (!(all->scratch[i].bytes = od_pages_alloc(all->scratch_size))) goto full;
    if (all->scratch) return OD_OK;
full:
    return od_fail(st, OD_NO_MEMORY, "no memory to read %zu bytes of weights", all->scratch_size);
}

static void scratch_destroy(make_all *all, int slots)
{
    for (int i = 0; i < slots && all->scratch; i++) od_pages_free(all->scratch[i].bytes, all->scratch_size);
    free(all->scratch);
}

static od_code make_jobs(eng_model *m, struct eng_pack_job **jobs, int n, od_pool *pool, const char *folder, od_status *st)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        if (!od_add(total, padded(jobs[i]->size), &total)) return od_fail(st, OD_NO_MEMORY, "too many bytes of weights");
    region *to = calloc(1, sizeof *to);
    if (!to || !(to->bytes = od_pages_alloc(total))) {
        free(to);
        return od_fail(st, OD_NO_MEMORY, "no memory for %zu bytes of packed weights", total);
    }
    to->size = total;
    to->refs = 1;
    qsort(jobs, (size_t)n, sizeof(struct eng_pack_job *), by_size);
    if (folder) mkdir(folder, 0777); /* it may exist; writing tells */
    make_all all = {.m = m, .jobs = jobs, .to = to, .folder = folder, .st = st};
    od_code rc = scratch_create(&all, n, od_pool_slots(pool), st);
    all.n_sums = read_sums(m, folder, &all.sums);
    if (rc == OD_OK) od_pool_for(pool, n, make_chunk, &all);
    if (rc == OD_OK && !all.failed && all.unknown && m->identity) write_sums(m, jobs, n, folder);
    free(all.sums);
    scratch_destroy(&all, od_pool_slots(pool));
    enlarge_behind(to);
    if (rc == OD_OK && all.failed) rc = st->code;
    qsort(jobs, (size_t)n, sizeof(struct eng_pack_job *), by_result);
    for (int i = 0; i < n; i++) {
        if (!i || jobs[i]->result != jobs[i - 1]->result) m->packed_bytes += jobs[i]->size; /* nodes share */
    }
    return rc;
}

od_code eng_packs_make(eng_model *m, od_pool *pool, const char *folder, od_status *st)
{
    int n = 0;
    for (struct eng_pack_job *j = m->pack_jobs; j; j = j->next) n += !j->result;
    if (!n) return eng_lazy_load_rest(m, pool, packed_alone, &(by_address){0}, st);
    struct eng_pack_job **jobs = calloc((size_t)n, sizeof *jobs);
    if (!jobs) return od_fail(st, OD_NO_MEMORY, "no memory to pack %d weights", n);
    n = 0;
    for (struct eng_pack_job *j = m->pack_jobs; j; j = j->next)
        if (!j->result) jobs[n++] = j;
    qsort(jobs, (size_t)n, sizeof(struct eng_pack_job *), by_data);
    n = count_wanted(m, jobs, n);
    od_code rc = eng_lazy_load_rest(m, pool, packed_alone, &(by_address){jobs, n}, st);
    if (rc == OD_OK) rc = make_jobs(m, jobs, n, pool, folder, st);
    for (struct eng_pack_job *j = m->pack_jobs; rc == OD_OK && j; j = j->next)
        if (!j->result) share_result(j);
    free(jobs);
    return rc;
}

void eng_packs_release(eng_model *m)
{
    for (struct eng_pack_job *j = m->pack_jobs; j; j = j->next) {
        if (j->result) unref(j->result);
        j->result = NULL;
    }
}
