/* process.h - what the system says of this process. */
#ifndef SRV_PROCESS_H
#define SRV_PROCESS_H

#include "engine/base/status.h"

typedef struct srv_process {
    double cpu_seconds;
    int64_t resident_bytes, virtual_bytes, open_fds, max_fds, threads;
} srv_process;

/* Fields that the system does not tell are 0. */
void srv_process_read(srv_process *out);

#endif
