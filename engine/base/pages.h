/* pages.h - large blocks of memory straight from the system, in its large pages where it has them: a block
 * of 100 MB then costs 50 page faults instead of 25000, and reading through it misses few translations. */
#ifndef OD_PAGES_H
#define OD_PAGES_H

#include <stddef.h>

/* `size` bytes, cleared, aligned to a page at least; NULL: no memory. Bytes that are never touched take none. */
void *od_pages_alloc(size_t size);

/* Give back what od_pages_alloc(size) gave. NULL is accepted. */
void od_pages_free(void *p, size_t size);

/* `size` bytes, aligned to 64, not cleared: from the heap, or large pages where the size makes them worth it. */
void *od_block_alloc(size_t size);
void od_block_free(void *p, size_t size);

/* The bytes are not needed any more: whole pages among them go back to the system and read as zeros. */
void od_pages_drop(void *p, size_t size);

#endif
