/* library.h - libraries that are opened when a picture first needs them: few models do, and neither start nor the
 * smallest image should pay. Private to loaders/image. */
#ifndef LDR_IMAGE_LIBRARY_H
#define LDR_IMAGE_LIBRARY_H

#include "engine/base/status.h"

/* The addresses of `count` functions of shared library `file` into to[count]. OD_UNSUPPORTED: it is not installed, or
 * lacks one. Any thread. The library stays open. */
od_code ldr_library_open(const char *file, const char *const *names, void **to, int count, od_status *st);

#endif
