/* threads.h - one pool of workers for parallel regions and for tasks.
 *
 * A region is a loop cut into chunks. Its owner publishes it, works through the chunks itself, and
 * idle workers join; a worker with a task to start prefers the task. So a lone request gets all
 * cores, and a full queue gets one task per core, with nothing to configure. Each thread begins with the
 * neighbouring chunks that are its share and then takes what others have left, by atomic counters: loops over
 * the same data give each thread the same part, in its own cache, and a worker that the system stops costs a
 * chunk and not the region. Workers stay off the processor of who gives them work, where there are others. They
 * spin for some tens of microseconds after work, or as long as the pool is held, and then sleep: an idle pool
 * uses no processor. */
#ifndef OD_THREADS_H
#define OD_THREADS_H

#include "engine/base/status.h"

typedef struct od_pool od_pool;

/* `chunk` is 0 .. chunks-1, each given exactly once. `slot` is below od_pool_slots and differs
 * between threads that are inside the same region at the same time: an index for scratch space. */
typedef void od_chunk_fn(void *arg, int64_t chunk, int slot);
typedef void od_task_fn(void *arg);

/* A pool with `workers` threads of its own (0 is allowed: regions then run on their owner alone).
 * For a program that runs models on the calling thread, workers = cores - 1; for a server that
 * hands tasks to the pool, workers = cores. */
od_code od_pool_create(od_pool **out, int workers, od_status *st);

/* Finish the tasks that are queued, end the threads, free. NULL is accepted. */
void od_pool_destroy(od_pool *pool);

/* Run fn for every chunk and return when all are done. What the chunks wrote is visible to the
 * caller. May be called from any thread, also inside a task, but not inside another region.
 * pool NULL, or one chunk: the caller does all of it. Takes nothing from the heap. */
void od_pool_for(od_pool *pool, int64_t chunks, od_chunk_fn *fn, void *arg);

/* Between these, many regions follow each other: workers that find nothing to do stay awake, and give their
 * processor only to who else wants it. Calls nest and may come from many threads. NULL is accepted. */
void od_pool_hold(od_pool *pool);
void od_pool_release(od_pool *pool);

/* Queue fn(arg) to run once on a worker. false when the pool has no workers or no memory. */
bool od_pool_submit(od_pool *pool, od_task_fn *fn, void *arg);

/* The same, before all tasks of od_pool_submit that wait: for the later stages of work, so that what was
 * begun is finished before more is begun. When both kinds wait, every fifth start is a usual one. */
bool od_pool_submit_ahead(od_pool *pool, od_task_fn *fn, void *arg);

/* Threads that can be inside one region: workers + 1; 1 for NULL. */
int od_pool_slots(const od_pool *pool);

/* Workers that neither run a task nor a region at this moment: a hint. */
int od_pool_idle(const od_pool *pool);

#endif
