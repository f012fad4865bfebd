/* scan.h - which models lie in a folder. Private to server/store. */
#ifndef SRV_SCAN_H
#define SRV_SCAN_H

#include "engine/base/status.h"

typedef struct srv_found {
    char name[256];
    int64_t version;
    char *path;         /* of the .onnx file; NULL: there is none that could be chosen, see `problem` */
    const char *problem;
    uint64_t signature; /* changes when a file of the model does */
    uint64_t bytes;     /* of the files beside the model and its own */
} srv_found;

typedef struct srv_scan {
    srv_found *found; /* by name, then from the newest version to the oldest */
    int n, cap;
} srv_scan;

/* OD_NOT_FOUND, OD_IO: the folder itself cannot be read; OD_NO_MEMORY. */
od_code srv_scan_folder(const char *dir, srv_scan *out, od_status *st);
void srv_scan_fini(srv_scan *s);

#endif
