/* follow.h - tells when something changes in a folder of models. Private to server/store. */
#ifndef SRV_FOLLOW_H
#define SRV_FOLLOW_H

#include "engine/base/status.h"

/* A descriptor that becomes readable when the folder, or folders up to three levels below, change; -1: the system
 * cannot tell (look again from time to time). */
int srv_follow_open(const char *dir);
/* Read away what has happened and follow folders that are new. Events are not looked at, so that none is missed when the
 * system's queue was too short for all: the caller looks at the whole folder. */
void srv_follow_drain(int fd, const char *dir);
void srv_follow_close(int fd);

#endif
