/* A small pool of threads that runs regions: many tasks, claimed in order, on a few threads.
 *
 * The pool belongs to the process. It starts nothing until the first region that can use a second
 * thread, it never touches a Python object, and it survives fork (see pool.c). Results must not
 * depend on which worker runs a task: claiming is dynamic, so that a slowed core does less. */
#ifndef FRN_POOL_H
#define FRN_POOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `worker` is the running thread's number in this region, 0 <= worker < n_threads, the caller being
 * 0; two tasks that run at the same time have different numbers, so it can index scratch memory.
 * A task must not fork. */
typedef void (*frn_task)(void *ctx, size_t index, int worker);

/* Runs task(ctx, 0..n_tasks-1, worker) on up to n_threads threads, the caller among them, and
 * returns when all are done. What the caller wrote before is visible to the tasks, and what the
 * tasks wrote is visible to the caller after. A number of threads beyond the number of cores is
 * honored. A call from inside a task, or while another thread's region is running, runs all its
 * tasks in the calling thread as worker 0. While tasks run, every thread that takes part rounds to
 * nearest and takes denormal numbers for zero; the caller's own modes are restored at the end.
 * Returns how many threads could take part: fewer than asked for where n_tasks is smaller, where
 * the call ran inline, or where the system gave no more threads. */
int frn_pool_run(frn_task task, void *ctx, size_t n_tasks, int n_threads);

/* One of the threads that run side by side for all of a region: 0 <= member < members, 0 being the
 * caller. Members may wait for each other (barrier.h). */
typedef void (*frn_member)(void *ctx, int member, int members);

/* Runs member(ctx, i, m) for all i < m side by side on m threads and returns when all are done: as
 * many, up to n_threads, as come within patience_ns. More threads than processors never take part,
 * since some would wait for one that has none; and for a region that is short beside the waking of
 * a thread, nobody is woken unless the region before was just now. All else is as with
 * frn_pool_run; where that runs inline, m is 1. Returns m. */
int frn_pool_team(frn_member member, void *ctx, int n_threads, int64_t patience_ns);

/* To be called after a region whose threads had equal work: whether one waited long for another,
 * which means that neighbors keep this process off a core. After that, until as many regions were
 * not disturbed, workers keep off the processor that the caller is on, since the kernel may leave
 * both on one; they get its other processors back then. */
void frn_pool_region_ended(int disturbed);

/* Whether threads may wait for each other, in a team or for a share of the work that was fixed
 * ahead: no region was disturbed just now. */
int frn_pool_calm(void);

/* Threads of the pool that now exist, the caller not counted. */
int frn_pool_size(void);

/* Ends and joins the pool's threads, unless a region is running; the next region starts them
 * again. Returns 1 if none are left. */
int frn_pool_stop(void);

#ifdef __cplusplus
}
#endif
#endif
