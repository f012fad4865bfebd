/* timer.h - functions called at a time, on one thread that all timers share.
 * The thread exists while there are users and sleeps while nothing is due. */
#ifndef SRV_TIMER_H
#define SRV_TIMER_H

#include "engine/base/status.h"

typedef struct srv_timer {
    void (*fire)(struct srv_timer *t); /* on the timers' thread; must not block; may arm again */
    struct srv_timer *next;            /* of the armed ones */
    int64_t at_ns;                     /* by od_now_ns; 0: not armed */
} srv_timer;

/* Start the thread, or count one more user. OD_IO. */
od_code srv_timers_use(od_status *st);
/* One user less; the last one ends the thread. Its timers must have been stopped. */
void srv_timers_leave(void);

/* Fire at `at_ns`, or earlier when it was armed for an earlier time. Any thread; may be called with locks
 * held that `fire` takes. */
void srv_timer_arm(srv_timer *t, int64_t at_ns);

/* Disarm, and wait until it does not fire. Not to be called with locks held that `fire` takes. */
void srv_timer_stop(srv_timer *t);

#endif
