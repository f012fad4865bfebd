/* notify.h - tells systemd how the service is: a datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)). Without that
 * variable nothing is said. */
#ifndef SRV_NOTIFY_H
#define SRV_NOTIFY_H

#include "engine/base/status.h"

/* Send lines such as "READY=1\nSTATUS=...". What cannot be sent is logged once and then let go. */
void srv_notify(const char *fmt, ...) OD_PRINTF(1, 2);

/* Milliseconds after which the service manager wants to hear WATCHDOG=1 again, halved so that one may be late; -1: never. */
int srv_notify_watchdog_ms(void);

#endif
