#include "loaders/image/library.h"

#include <dlfcn.h>

od_code ldr_library_open(const char *file, const char *const *names, void **to, int count, od_status *st)
{
    void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!lib) return od_fail(st, OD_UNSUPPORTED, "%s is not installed", file);
    for (int i = 0; i < count; i++)
        if (!(to[i] = dlsym(lib, names[i]))) return od_fail(st, OD_UNSUPPORTED, "%s has no %s", file, names[i]);
    return OD_OK;
}
