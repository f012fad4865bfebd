/* scan.h - which models lie in a folder. Private to server/store, but for the command line. */
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
/* Lines of one model alone: NAME or NAME.onnx in `dir`, with a name that a scan of it gave; or what lies in its own `folder`. */
od_code srv_scan_name(const char *dir, const char *name, srv_scan *out, od_status *st);
od_code srv_scan_model(const char *folder, const char *name, srv_scan *out, od_status *st);
void srv_scan_fini(srv_scan *s);

/* Can a model be called so? */
bool srv_name_is_usable(const char *s);

/* upload.c: files that came with a request, as a folder of a model of its own below the system's for temporary files.
 * Names: FILE or VERSION/FILE. OD_BAD_ARGUMENT: another name; OD_IO. */
struct srv_file;
od_code srv_upload_write(const struct srv_file *files, int n, char **folder, od_status *st);
/* Delete it and free its name. NULL is accepted. */
void srv_upload_remove(char *folder);

#endif
