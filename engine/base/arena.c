#include "engine/base/arena.h"
#include "engine/base/pages.h"

#include <string.h>

enum { ALIGN = 64, CHUNK_MIN = 64 * 1024 };

struct od_chunk {
    od_chunk *next;
    size_t size; /* usable bytes behind the header */
    char pad[ALIGN - sizeof(od_chunk *) - sizeof(size_t)];
};

static char *chunk_bytes(od_chunk *c)
{
    return (char *)c + ALIGN;
}

bool od_budget_take(od_budget *b, size_t bytes)
{
    if (!b) return true;
    size_t before = atomic_fetch_add_explicit(&b->used, bytes, memory_order_relaxed);
    if (!b->limit || (before <= b->limit && bytes <= b->limit - before)) return true;
    od_budget_give(b, bytes);
    return false;
}

void od_budget_charge(od_budget *b, size_t bytes)
{
    if (b) atomic_fetch_add_explicit(&b->used, bytes, memory_order_relaxed);
}

void od_budget_give(od_budget *b, size_t bytes)
{
    if (b) atomic_fetch_sub_explicit(&b->used, bytes, memory_order_relaxed);
}

void od_arena_init(od_arena *a, size_t limit)
{
    *a = (od_arena){.limit = limit};
}

void od_arena_fini(od_arena *a)
{
    for (od_chunk *c = a->first, *next; c; c = next) {
        next = c->next;
        od_block_free(c, c->size + ALIGN);
    }
    od_budget_give(a->budget, a->total);
    *a = (od_arena){.limit = a->limit, .budget = a->budget};
}

void od_arena_reset(od_arena *a)
{
    a->last = a->first;
    a->used = a->lent_used = 0;
}

/* Free the chunks behind the one in use, none of which is large enough: work whose pieces grow from reset to reset
 * would otherwise keep a chunk of every size that it ever had. */
static void drop_unused(od_arena *a)
{
    od_chunk **from = a->last ? &a->last->next : &a->first;
    for (od_chunk *c = *from, *next; c; c = next) {
        next = c->next;
        od_budget_give(a->budget, c->size);
        a->total -= c->size;
        od_block_free(c, c->size + ALIGN);
    }
    *from = NULL;
}

/* Make `last` a chunk with at least `size` free bytes, reusing kept chunks before new ones. */
static bool take_chunk(od_arena *a, size_t size)
{
    od_chunk *prev = a->last;
    for (od_chunk *c = prev ? prev->next : a->first; c; prev = c, c = c->next) {
        if (c->size < size) continue;
        if (prev && a->last && prev != a->last) { /* move it right behind the one in use */
            prev->next = c->next;
            c->next = a->last->next;
            a->last->next = c;
        }
        a->last = c;
        a->used = 0;
        return true;
    }
    drop_unused(a);
    size_t want = a->total / 2; /* grow by halves, so that few chunks serve any size */
    if (want < CHUNK_MIN) want = CHUNK_MIN;
    if (want > (size_t)64 << 20) want = (size_t)64 << 20;
    if (want < size) want = size;
    if (a->limit && want > a->limit - a->total) want = size;
    if (a->limit && (a->total > a->limit || want > a->limit - a->total)) return false;
    od_chunk *c = NULL;
    size_t bytes;
    if (!od_add(want, 2 * (size_t)ALIGN - 1, &bytes)) return false;
    bytes &= ~((size_t)ALIGN - 1);
    if (!od_budget_take(a->budget, bytes - ALIGN)) return false;
    c = od_block_alloc(bytes);
    if (!c) {
        od_budget_give(a->budget, bytes - ALIGN);
        return false;
    }
    c->size = bytes - ALIGN;
    c->next = NULL;
    if (a->last) a->last->next = c;
    else a->first = c;
    a->last = c;
    a->used = 0;
    a->total += c->size;
    return true;
}

/* `align` is a power of two up to ALIGN. */
static void *cut(od_arena *a, size_t size, size_t align)
{
    if (size > SIZE_MAX - 2 * ALIGN) return NULL;
    if (size >= OD_LENT_MIN && size <= a->lent_size - a->lent_used) {
        char *p = a->lent + a->lent_used;
        a->lent_used += size;
        a->lent_used += -a->lent_used & (ALIGN - 1);
        if (a->lent_used > a->lent_size) a->lent_used = a->lent_size;
        return p;
    }
    size_t at = (a->used + align - 1) & ~(align - 1);
    if (!a->last || a->last->size < at || a->last->size - at < size) {
        if (!take_chunk(a, size)) return NULL;
        at = 0;
    }
    a->used = at + size;
    return chunk_bytes(a->last) + at;
}

void od_arena_lend(od_arena *a, void *p, size_t size)
{
    a->lent = p;
    a->lent_size = p ? size : 0;
    a->lent_used = 0;
}

/* Of numbers: vectors of them are read. */
static size_t align_of(size_t size)
{
    size_t align = 8;
    while (align < size && align < ALIGN) align *= 2;
    return align;
}

void *od_arena_alloc(od_arena *a, size_t size)
{
    return cut(a, size ? size : 1, align_of(size));
}

void *od_arena_zalloc(od_arena *a, size_t size)
{
    void *p = od_arena_alloc(a, size);
    if (p) memset(p, 0, size);
    return p;
}

void *od_arena_calloc(od_arena *a, size_t count, size_t size)
{
    enum { NUMBER_MAX = 16, STRUCT_ALIGN = 16 };
    size_t bytes;
    if (!od_mul(count, size, &bytes)) return NULL;
    void *p = cut(a, bytes ? bytes : 1, size > NUMBER_MAX ? STRUCT_ALIGN : align_of(bytes));
    return p && bytes ? memset(p, 0, bytes) : p;
}

char *od_arena_strdup(od_arena *a, const char *s, size_t len)
{
    char *p = len < SIZE_MAX ? cut(a, len + 1, 1) : NULL;
    if (!p) return NULL;
    if (len) memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

od_arena_mark od_arena_save(const od_arena *a)
{
    return (od_arena_mark){a->last, a->used, a->lent_used};
}

void od_arena_rewind(od_arena *a, od_arena_mark mark)
{
    a->last = mark.chunk ? mark.chunk : a->first;
    a->used = mark.used;
    a->lent_used = mark.lent_used;
}

bool od_arena_holds(const od_arena *a, const void *p)
{
    for (od_chunk *c = a->first; c; c = c->next)
        if ((const char *)p >= chunk_bytes(c) && (const char *)p < chunk_bytes(c) + c->size) return true;
    return false;
}

void od_arena_move(od_arena *to, od_arena *from, bool (*which)(const void *bytes, size_t size, void *arg), void *arg)
{
    for (od_chunk **at = &from->first, *c, *kept = NULL; (c = *at);) {
        if (which && !which(chunk_bytes(c), c->size, arg)) {
            kept = c;
            at = &c->next;
            continue;
        }
        *at = c->next;
        if (from->last == c) {
            from->last = kept;
            from->used = kept ? kept->size : 0;
        }
        from->total -= c->size;
        to->total += c->size;
        c->next = to->first;
        to->first = c;
        if (!to->last) {
            to->last = c;
            to->used = c->size;
        }
    }
}

size_t od_arena_bytes(const od_arena *a)
{
    return a->total;
}
