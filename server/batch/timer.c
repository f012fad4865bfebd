#include "server/batch/timer.h"
#include "engine/base/cpu.h"

#include <pthread.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, users_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake, fired = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static int users;
static bool stop;
static srv_timer *armed, *firing;

static srv_timer *earliest(void)
{
    srv_timer *first = armed;
    for (srv_timer *t = armed; t; t = t->next)
        if (t->at_ns < first->at_ns) first = t;
    return first;
}

static void disarm(srv_timer *t)
{
    for (srv_timer **at = &armed; *at; at = &(*at)->next) {
        if (*at != t) continue;
        *at = t->next;
        break;
    }
    t->at_ns = 0;
}

static void *timers_main(void *arg)
{
    pthread_mutex_lock(&lock);
    while (!stop) {
        srv_timer *t = earliest();
        if (!t) {
            pthread_cond_wait(&wake, &lock);
        } else if (t->at_ns > od_now_ns()) {
            struct timespec until = {t->at_ns / 1000000000, t->at_ns % 1000000000};
            pthread_cond_timedwait(&wake, &lock, &until);
        } else {
            disarm(t);
            firing = t;
            pthread_mutex_unlock(&lock);
            t->fire(t);
            pthread_mutex_lock(&lock);
            firing = NULL;
            pthread_cond_broadcast(&fired);
        }
    }
    pthread_mutex_unlock(&lock);
    return arg;
}

od_code srv_timers_use(od_status *st)
{
    pthread_mutex_lock(&users_lock);
    if (!users) {
        pthread_condattr_t monotonic;
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&wake, &monotonic);
        pthread_condattr_destroy(&monotonic);
        stop = false;
        if (pthread_create(&thread, NULL, timers_main, NULL)) {
            pthread_mutex_unlock(&users_lock);
            return od_fail(st, OD_IO, "the system refused a thread for timers");
        }
        pthread_setname_np(thread, "timers");
    }
    users++;
    pthread_mutex_unlock(&users_lock);
    return OD_OK;
}

void srv_timers_leave(void)
{
    pthread_mutex_lock(&users_lock);
    if (!--users) {
        pthread_mutex_lock(&lock);
        stop = true;
        pthread_cond_signal(&wake);
        pthread_mutex_unlock(&lock);
        pthread_join(thread, NULL);
        pthread_cond_destroy(&wake);
    }
    pthread_mutex_unlock(&users_lock);
}

void srv_timer_arm(srv_timer *t, int64_t at_ns)
{
    pthread_mutex_lock(&lock);
    if (!t->at_ns) {
        t->next = armed;
        armed = t;
    }
    if (!t->at_ns || at_ns < t->at_ns) {
        t->at_ns = at_ns;
        pthread_cond_signal(&wake);
    }
    pthread_mutex_unlock(&lock);
}

void srv_timer_stop(srv_timer *t)
{
    pthread_mutex_lock(&lock);
    if (t->at_ns) disarm(t);
    while (firing == t) pthread_cond_wait(&fired, &lock);
    if (t->at_ns) disarm(t); /* what it armed while it fired */
    pthread_mutex_unlock(&lock);
}
