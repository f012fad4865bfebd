/* pages.h - large blocks of memory straight from the system, in its large pages where it has them: a block
 * of 100 MB then costs 50 page faults instead of 25000, and reading through it misses few translations.
 *
 * A virtual machine whose host takes free memory away pays for a fresh large page 30 times over, while small
 * ones are at hand. So large pages are timed as they are filled; once one was dear, blocks begin in small pages,
 * and what is read often is moved into large ones behind its users' backs (od_pages_enlarge). */
#ifndef OD_PAGES_H
#define OD_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* `size` bytes, cleared, aligned to a page at least; NULL: no memory. Bytes that are never touched take none. */
void *od_pages_alloc(size_t size);

/* Have memory behind bytes from .. from + count of the block `p`: one call instead of a fault a page. */
void od_pages_populate(void *p, size_t size, size_t from, size_t count);

/* Large pages from now on, dear or not, for what is not touched yet. */
void od_pages_want_large(void *p, size_t size);

/* Move what lies in small pages into large ones. Others may read and write meanwhile. It may take a second:
 * `stop` (with `arg`) is asked now and then. */
void od_pages_enlarge(void *p, size_t size, bool (*stop)(void *arg), void *arg);

/* Give back what od_pages_alloc(size) gave. NULL is accepted. */
void od_pages_free(void *p, size_t size);

/* `size` bytes, aligned to 64, not cleared: from the heap, or large pages where the size makes them worth it. */
void *od_block_alloc(size_t size);
void od_block_free(void *p, size_t size);

/* Touching whole pages among the bytes is caught by the processor, or (`on` false) allowed again. */
void od_pages_guard(void *p, size_t size, bool on);

/* The bytes are not needed any more: whole pages among them go back to the system and read as zeros. */
void od_pages_drop(void *p, size_t size);

#endif
