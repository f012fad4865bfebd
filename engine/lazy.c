#include "engine/lazy.h"
#include "engine/base/pages.h"
#include "engine/graph.h"

#include <stdlib.h>
#include <string.h>

/* A run of bytes that were left out; the table is in ascending order of them, from eng_lazies_settle on. */
typedef struct entry {
    char *bytes;
    size_t size;
    uint64_t where;
    bool loaded, wanted;
} entry;

struct eng_lazies {
    entry *all;
    int n, cap;
    od_status failure;
    bool mixed; /* the table is not in order yet, or runs overlap */
};

od_code eng_model_leave_out(eng_model *m, void *bytes, size_t size, uint64_t where, od_status *st)
{
    struct eng_lazies *l = m->lazies;
    if (!l && !(l = m->lazies = od_arena_array(&m->arena, struct eng_lazies, 1))) goto full;
    if (l->n == l->cap) {
        int cap = l->cap ? l->cap * 2 : 64;
        entry *more = l->cap > INT32_MAX / 4 ? NULL : od_arena_array(&m->arena, entry, cap);
        if (!more) goto full;
        if (l->n) memcpy(more, l->all, (size_t)l->n * sizeof *more);
        l->all = more;
        l->cap = cap;
    }
    l->mixed |= l->n && (char *)bytes < l->all[l->n - 1].bytes + l->all[l->n - 1].size;
    l->all[l->n++] = (entry){.bytes = bytes, .size = size, .where = where};
    od_pages_guard(bytes, size, true);
    return OD_OK;
full:
    return od_fail(st, OD_NO_MEMORY, "no memory to leave out %zu bytes of weights", size);
}

/* The first entry that ends behind `data`. */
static int find(const struct eng_lazies *l, const char *data)
{
    int low = 0, high = l->n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (l->all[middle].bytes + l->all[middle].size > data) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* The next entry from `at` on that overlaps `t` and is not loaded; NULL: none. */
static entry *next(const eng_model *m, const eng_tensor *t, int *at)
{
    const struct eng_lazies *l = m->lazies;
    const char *data = t && l ? t->data : NULL;
    if (!data) return NULL;
    const char *end = data + eng_tensor_bytes(t);
    for (int i = *at < 0 ? find(l, data) : *at; i < l->n && l->all[i].bytes < end; i++) {
        if (l->all[i].loaded) continue;
        *at = i + 1;
        return &l->all[i];
    }
    return NULL;
}

static int by_place(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

void eng_lazies_settle(eng_model *m)
{
    struct eng_lazies *l = m->lazies;
    int kept = 0;
    if (!l || !l->mixed) return;
    qsort(l->all, (size_t)l->n, sizeof *l->all, by_place);
    for (int i = 0; i < l->n; i++) {
        entry *e = &l->all[i], *last = kept ? &l->all[kept - 1] : NULL;
        if (!last || e->bytes >= last->bytes + last->size) l->all[kept++] = *e;
        else if (e->bytes + e->size > last->bytes + last->size) last->size = (size_t)(e->bytes + e->size - last->bytes);
    }
    l->n = kept;
    l->mixed = false;
}

bool eng_lazies_move(eng_model *m)
{
    struct eng_lazies *old = m->lazies;
    if (!old) return true;
    struct eng_lazies *l = od_arena_array(&m->arena, struct eng_lazies, 1);
    entry *all = od_arena_array(&m->arena, entry, old->n);
    if (!l || !all) return false;
    if (old->n) memcpy(all, old->all, (size_t)old->n * sizeof *all);
    *l = (struct eng_lazies){.all = all, .n = old->n, .cap = old->n, .failure = old->failure};
    m->lazies = l;
    return true;
}

bool eng_lazy(const eng_model *m, const eng_tensor *t)
{
    int at = -1;
    return next(m, t, &at) != NULL;
}

static od_code load(const eng_model *m, entry *e, od_status *st)
{
    od_pages_guard(e->bytes, e->size, false);
    od_pages_populate(e->bytes, e->size, 0, e->size);
    OD_TRY(m->lazy_read(m->backing, e->where, e->size, e->bytes, st));
    e->loaded = true;
    return OD_OK;
}

od_code eng_lazy_load(eng_model *m, const eng_tensor *t, od_status *st)
{
    int at = -1;
    for (entry *e; (e = next(m, t, &at));)
        if (load(m, e, st) != OD_OK) {
            m->lazies->failure = *st;
            return st->code;
        }
    return OD_OK;
}

od_code eng_lazy_check(const eng_model *m, od_status *st)
{
    if (!m->lazies || m->lazies->failure.code == OD_OK) return OD_OK;
    *st = m->lazies->failure;
    return st->code;
}

uint64_t eng_lazy_place(const eng_model *m, const eng_tensor *t)
{
    int at = -1;
    const entry *e = next(m, t, &at);
    return e->where + (uint64_t)((const char *)t->data - e->bytes);
}

od_code eng_lazy_copy(const eng_model *m, const eng_tensor *t, size_t from, size_t size, void *to, od_status *st)
{
    return m->lazy_read(m->backing, eng_lazy_place(m, t) + from, size, to, st);
}

/* ---- the rest ------------------------------------------------------------------------------- */

typedef struct rest {
    eng_model *m;
    bool (*skip)(const eng_tensor *, void *);
    void *arg;
    entry **list;
    int n;
    od_status *st; /* of all threads: the first failure */
    int failed;
} rest;

static void want(const eng_tensor *t, void *arg)
{
    rest *r = arg;
    int at = -1;
    if (!eng_lazy(r->m, t) || r->skip(t, r->arg)) return;
    for (entry *e; (e = next(r->m, t, &at));) {
        if (!e->wanted) r->list[r->n++] = e;
        e->wanted = true;
    }
}

static void load_chunk(void *arg, int64_t chunk, int slot)
{
    rest *r = arg;
    od_status st;
    (void)slot;
    if (load(r->m, r->list[chunk], &st) != OD_OK && !__atomic_exchange_n(&r->failed, 1, __ATOMIC_ACQ_REL)) *r->st = st;
}

od_code eng_lazy_load_rest(eng_model *m, od_pool *pool, bool (*skip)(const eng_tensor *t, void *arg), void *arg, od_status *st)
{
    if (!m->lazies) return OD_OK;
    rest r = {.m = m, .skip = skip, .arg = arg, .st = st, .list = od_arena_array(&m->arena, entry *, m->lazies->n)};
    if (!r.list) return od_fail(st, OD_NO_MEMORY, "no memory to load %d weights", m->lazies->n);
    eng_graph_each_read(m->graph, want, &r);
    od_pool_for(pool, r.n, load_chunk, &r);
    return r.failed ? st->code : OD_OK;
}

void eng_lazy_end(eng_model *m)
{
    struct eng_lazies *l = m->lazies;
    for (int i = 0; l && i < l->n; i++)
        if (!l->all[i].loaded) od_pages_guard(l->all[i].bytes, l->all[i].size, false);
    m->lazies = NULL;
}
