/* fuzz.h - what the fuzz targets share. Each is a libFuzzer program: `make fuzz` builds and runs them. */
#ifndef FUZZ_H
#define FUZZ_H

#include "engine/base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A claim about the code under test; a false one is a finding. */
#define fuzz_check(what)                                                \
    do {                                                                \
        if (!(what)) {                                                  \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                    \
        }                                                               \
    } while (0)

/* A path under which the bytes can be opened, for readers of files; it holds until the next call. */
OD_UNUSED static const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd >= 0) close(fd);
    fd = memfd_create("fuzz", 0);
    fuzz_check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

#endif
