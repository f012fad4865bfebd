/* arena.h - memory that is freed all at once.
 * An arena hands out pieces from chunks taken from the heap and gives nothing back until it is
 * rewound, reset or finished. Chunks stay with the arena over a reset, so work that repeats takes
 * nothing from the heap from its second time on. Pieces of more than 32 bytes are 64-byte aligned, smaller ones
 * to their size rounded up to a power of two, arrays of structures to 16, texts not at all. An arena belongs to
 * one thread at a time. A zeroed od_arena is a valid empty one without bound. */
#ifndef OD_ARENA_H
#define OD_ARENA_H

#include "engine/base/status.h"

#include <stdatomic.h>

/* Bytes that many things may hold together, whoever is first; the bound is only met by asking. */
typedef struct od_budget {
    size_t limit; /* 0: none */
    atomic_size_t used;
} od_budget;

/* Any thread. `take` is false, and nothing is taken, where that would exceed the limit; `charge` counts what is held already. NULL
 * is a budget without bound. */
bool od_budget_take(od_budget *b, size_t bytes);
void od_budget_charge(od_budget *b, size_t bytes);
void od_budget_give(od_budget *b, size_t bytes);

typedef struct od_chunk od_chunk;

typedef struct od_arena {
    od_chunk *first, *last; /* chunks in order of use; `last` is the one in use */
    size_t used;            /* bytes used of `last` */
    size_t limit;           /* bound on the bytes of all chunks; 0: none */
    size_t total;           /* bytes of all chunks */
    od_budget *budget;      /* that chunks are taken from, too; may be set while there are none */
    char *lent;             /* see od_arena_lend; NULL: nothing */
    size_t lent_size, lent_used;
} od_arena;

typedef struct od_arena_mark {
    od_chunk *chunk;
    size_t used, lent_used;
} od_arena_mark;

/* An empty arena that will hold at most `limit` bytes (0: no bound). Takes no memory yet. */
void od_arena_init(od_arena *a, size_t limit);

/* Free every chunk. `a` is empty and usable afterwards. */
void od_arena_fini(od_arena *a);

/* Make all pieces free for reuse and keep the chunks. */
void od_arena_reset(od_arena *a);

enum { OD_LENT_MIN = 256 << 10 };

/* Cut pieces of OD_LENT_MIN bytes and more from `size` bytes at `p`, 64-byte aligned and the caller's, as long as they
 * fit; smaller ones come from chunks, which stay in the caches. Until it is called again, with NULL for nothing, all
 * that was cut before being free by then. Clearing, rewinding and resetting keep it. */
void od_arena_lend(od_arena *a, void *p, size_t size);

/* `size` bytes, aligned as said above, not cleared; NULL when the bound or the heap is used up.
 * A size of 0 gives a valid unique pointer. */
void *od_arena_alloc(od_arena *a, size_t size);

/* The same, cleared to zero. */
void *od_arena_zalloc(od_arena *a, size_t size);

/* `count` elements of `size` bytes, cleared; NULL also when the product overflows. */
void *od_arena_calloc(od_arena *a, size_t count, size_t size);

/* A zero-terminated copy of `len` bytes; NULL as above. */
char *od_arena_strdup(od_arena *a, const char *s, size_t len);

/* Pieces taken after `save` are free again after `rewind`; marks nest. */
od_arena_mark od_arena_save(const od_arena *a);
void od_arena_rewind(od_arena *a, od_arena_mark mark);

/* Bytes held from the heap. */
size_t od_arena_bytes(const od_arena *a);

/* Does `p` point into a chunk of `a`? */
bool od_arena_holds(const od_arena *a, const void *p);

/* Give `to` the chunks of `from` for whose bytes `which` (NULL: for all) is true, with all the pieces in them. They
 * serve `to` again only after a reset. Both have the same budget. */
void od_arena_move(od_arena *to, od_arena *from, bool (*which)(const void *bytes, size_t size, void *arg), void *arg);

/* An array of `count` cleared elements, or NULL: full, or the size overflows. */
#define od_arena_array(a, type, count) \
    ((type *)((count) < 0 ? NULL : od_arena_calloc((a), (size_t)(count), sizeof(type))))

#endif
