/* file.h - the bytes of a model's file, all but its large weights.
 *
 * The bytes have their places in memory of our own from the start, and everything that the structure of a file needs
 * is read there: messages, names, small tensors. The raw_data of the main graph's initializers, nearly all of
 * most files, are left out where they are large; memory that nothing was read to takes none. They are read when they
 * are wanted, from the same open file. It is read, never mapped: whoever cuts a mapped file short kills its
 * readers. If the file changes in between, weights are wrong, as those of any file read halfway through a change;
 * what was checked was read once and cannot change. */
#ifndef LDR_ONNX_FILE_H
#define LDR_ONNX_FILE_H

#include "engine/base/status.h"

enum { LDR_BESIDE_MAX = 16 };

/* A file beside the model's, with tensors' bytes. They have their places too, and stay in it until they are wanted. */
typedef struct ldr_beside {
    uint8_t *bytes;
    size_t size;
    int fd;
    uint64_t device, inode;
} ldr_beside;

typedef struct ldr_file {
    uint8_t *bytes; /* of the whole file */
    size_t size;
    int fd;         /* -1: all is here */
    struct ldr_hole *holes; /* what is not, in ascending order */
    int n_holes, cap_holes;
    /* Of the file as it was opened: device, inode, size, and when bytes and inode changed last; another once bytes are written.
     * "": it was changed so short a time before that it may be again without telling. */
    char identity[128 * (1 + LDR_BESIDE_MAX)]; /* and of the files beside it */
    ldr_beside beside[LDR_BESIDE_MAX];
    int n_beside;
} ldr_file;

/* Raw data of at least so many bytes are left out. */
enum { LDR_HOLE_MIN = 64 << 10 };

/* Read `fd`, which stays the caller's, but for what may be left out: runs of `hole_min` bytes and more.
 * OD_IO, OD_BAD_MODEL: not a file, empty; OD_NO_MEMORY. */
od_code ldr_file_open(ldr_file **out, int fd, size_t hole_min, od_status *st);

/* A copy of `bytes`. */
od_code ldr_file_copy(ldr_file **out, const void *bytes, size_t size, od_status *st);

/* What was left out cannot be read any more. */
void ldr_file_close(ldr_file *f);

/* ldr_file * as a void pointer; NULL is accepted. */
void ldr_file_destroy(void *file);

/* Do the bytes at `at`, which lie in f->bytes, begin what was left out? */
bool ldr_file_hole(const ldr_file *f, const uint8_t *at);

/* The places of the bytes of the file `fd`, which stays the caller's, and what to add to an offset in it for ldr_file_read; the
 * same whenever it is the same file. false: there are too many such files, or no memory. */
bool ldr_file_beside(ldr_file *f, int fd, const ldr_beside **out, uint64_t *where);

/* Read `size` bytes of the file from `where` on. OD_IO: also when it has become shorter. Any thread. */
od_code ldr_file_read(void *file, uint64_t where, size_t size, void *to, od_status *st);

#endif
