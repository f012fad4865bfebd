/* log.h - one line a message on standard error.
 * Lines are written whole, so threads do not mix them. */
#ifndef OD_LOG_H
#define OD_LOG_H

#include "engine/base/status.h"

typedef enum od_level { OD_DEBUG, OD_INFO, OD_WARN, OD_ERROR, OD_SILENT } od_level;

/* Messages below `level` are dropped; OD_INFO at start. Any thread. */
void od_log_level(od_level level);

void od_log(od_level level, const char *fmt, ...) OD_PRINTF(2, 3);

#endif
