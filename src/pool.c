/* The pool of pool.h.
 *
 * Each worker has a slot with one atomic word, and the word is the whole protocol:
 *
 *     IDLE -> GO        the caller offers the region                      (exchange)
 *     GO -> RUNNING     the worker takes it                               (compare-exchange)
 *     GO -> IDLE        the caller, out of tasks, takes the offer back    (compare-exchange)
 *     RUNNING -> IDLE   the worker found no more tasks                    (exchange)
 *     RUNNING -> AWAITED  the caller sleeps until the worker is done      (compare-exchange)
 *     IDLE -> PARKED    the worker sleeps until there is something        (compare-exchange)
 *     any idle -> STOP  the worker ends
 *
 * Whoever exchanges PARKED or AWAITED for another value wakes the sleeper, under the slot's mutex.
 * Taking offers back is what makes more threads than cores harmless: a worker that never got
 * a core costs the region nothing.
 *
 * `busy` is held by the one region that uses the workers, and by whatever starts or ends them. It
 * is only ever tried, never waited for: who does not get it works alone.
 *
 * Fork: a child has only the forking thread. If no region is running, `prepare` ends the workers
 * and holds `busy` over the fork, so the child's copy is an empty pool. If one is running, the fork
 * does not wait for it; the child then forgets the workers it does not have, with their slots. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* pthread_setname_np */
#endif

#include "pool.h"

#include "count.h"
#include "spin.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { IDLE, PARKED, GO, RUNNING, AWAITED, STOP };

enum {
    LINE = 128,            /* two cache lines: adjacent ones are fetched in pairs */
    STACK_BYTES = 1 << 20, /* kernels keep a few tiles on it */
    YIELDS = 16,           /* before parking on a crowded machine */
};

/* How long to spin before sleeping. Long enough for the Python code between two regions of one
 * training step, short enough that a neighbor does not miss the core. */
static const int64_t SPIN_NS = 100 * 1000;

/* How long a worker that came too late spins at most while the region runs that it missed: another
 * is likely to follow. */
static const int64_t MISSED_SPIN_NS = 1000 * 1000;

/* About how long a parked thread takes to wake. */
static const int64_t WAKE_NS = 30 * 1000;

/* How long it is not calm after a region was disturbed: longer each time, shorter once one was not.
 */
static const int64_t LEAST_REST_NS = 1000 * 1000, MOST_REST_NS = 128 * 1000 * 1000;

typedef struct slot {
    _Alignas(LINE) atomic_int state;
    _Alignas(LINE) pthread_mutex_t mutex;
    pthread_cond_t
        changed; /* one sleeper at most: the worker when PARKED, the caller when AWAITED */
    pthread_t thread;
    int worker;
    int member; /* of the team, written by the caller before it says how many there are */
    int avoids; /* the processor that the worker has been kept off, or -1 */
} slot;

static struct {
    _Alignas(LINE) atomic_int busy;
    /* what follows is written only by the holder of busy */
    slot **slots;
    atomic_int n_slots;
    atomic_int crowded; /* the last region had more threads than processors */
    frn_task task;
    void *ctx;
    size_t n_tasks;
    frn_member member;                 /* of a team; NULL: tasks are claimed */
    atomic_int members;                /* 0 until the team is complete */
    _Atomic int64_t team_ended;        /* when what a team was asked for last ended */
    _Atomic int64_t rest, rest_until;  /* after a region was disturbed */
    _Alignas(LINE) atomic_size_t next; /* the first task not yet claimed */
} pool;

static _Thread_local int inside;     /* this thread is running a task */
static _Thread_local int fork_holds; /* this thread took busy in prepare_fork */

/* --- floating-point modes ------------------------------------------------------------------ */

#if defined(__x86_64__) || (defined(__i386__) && defined(__SSE__))
typedef unsigned int fp_modes;
/* All exceptions masked, round to nearest (0x1f80), flush results (0x8000) and inputs (0x0040).
 * The whole word and not only two bits: with the caller's rounding in one thread and the default in
 * the others, bits would depend on the split. */
static fp_modes enter_fp(void)
{
    fp_modes old = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1f80u | 0x8000u | 0x0040u);
    return old;
}
static void leave_fp(fp_modes old)
{
    __builtin_ia32_ldmxcsr(old);
}
#elif defined(__aarch64__)
typedef uint64_t fp_modes;
static fp_modes enter_fp(void)
{
    fp_modes old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24)); /* FZ: inputs and results */
    return old;
}
static void leave_fp(fp_modes old)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(old));
}
#else
typedef int fp_modes;
static fp_modes enter_fp(void)
{
    return 0;
}
static void leave_fp(fp_modes old)
{
    (void)old;
}
#endif

/* --- waiting ------------------------------------------------------------------------------- */

/* Watches the word for about a microsecond; returns 1 if it still is `value`. */
static int spin_some(atomic_int *state, int value)
{
    for (int i = 0; i < PAUSES_PER_LOOK; i++) {
        if (atomic_load_explicit(state, memory_order_acquire) != value) return 0;
        frn_relax();
    }
    return 1;
}

/* Watches the word for a while, which begins anew for `more_ns` while a region runs; returns 1 once
 * it is not `value`, 0 when patience ends. */
static int spin_while(atomic_int *state, int value, int64_t more_ns)
{
    if (atomic_load_explicit(&pool.crowded, memory_order_relaxed)) {
        for (int i = 0; i < YIELDS; i++) {
            if (atomic_load_explicit(state, memory_order_acquire) != value) return 1;
            sched_yield();
        }
        return 0;
    }
    for (int64_t start = 0, end = 0; spin_some(state, value);) {
        int64_t now = frn_now_ns();
        if (start == 0) start = now;
        if (end == 0 ||
            (now - start < more_ns && atomic_load_explicit(&pool.busy, memory_order_relaxed)))
            end = now + SPIN_NS;
        if (now >= end) return 0;
    }
    return 1;
}

/* Sleeps until the word, first changed from `from` to `asleep`, is changed by another thread. */
static void sleep_while(slot *s, int from, int asleep)
{
    pthread_mutex_lock(&s->mutex);
    int seen = from;
    if (atomic_compare_exchange_strong(&s->state, &seen, asleep))
        while (atomic_load(&s->state) == asleep) pthread_cond_wait(&s->changed, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
}

/* Sets the word and wakes who sleeps on `asleep`. */
static void change(slot *s, int to, int asleep)
{
    if (atomic_exchange(&s->state, to) == asleep) {
        /* the lock waits until the sleeper, which holds it, is in pthread_cond_wait */
        pthread_mutex_lock(&s->mutex);
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->mutex);
    }
}

/* --- workers ------------------------------------------------------------------------------- */

static void claim_tasks(frn_task task, void *ctx, size_t n_tasks, int worker)
{
    for (;;) {
        size_t index = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed);
        if (index >= n_tasks) return;
        task(ctx, index, worker);
    }
}

/* A team's size is known when the caller has waited for all who were asked. */
static void join_team(const slot *s)
{
    int members, pauses = 0;
    while (!(members = atomic_load_explicit(&pool.members, memory_order_acquire)))
        if (pauses++ < PAUSES_PER_LOOK)
            frn_relax();
        else
            sched_yield(); /* woken on the caller's processor, this keeps the caller from it */
    pool.member(pool.ctx, s->member, members);
}

static void *work(void *argument)
{
    slot *s = argument;
    int missed = 0; /* the last offer */
    inside = 1;
    enter_fp();
    for (;;) {
        if (!spin_while(&s->state, IDLE, missed ? MISSED_SPIN_NS : 0)) sleep_while(s, IDLE, PARKED);
        int seen = GO;
        missed = !atomic_compare_exchange_strong(&s->state, &seen, RUNNING);
        if (!missed) {
            if (pool.member)
                join_team(s);
            else
                claim_tasks(pool.task, pool.ctx, pool.n_tasks, s->worker);
            change(s, IDLE, AWAITED);
        } else if (seen == STOP) {
            return NULL;
        } /* else the offer was taken back */
    }
}

static slot *start_worker(int worker)
{
    slot *s = NULL;
    if (posix_memalign((void **)&s, LINE, sizeof *s)) return NULL;
    atomic_init(&s->state, IDLE);
    s->worker = worker;
    s->avoids = -1;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->changed, NULL);

    pthread_attr_t attributes;
    sigset_t all, old;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all); /* signals are for the threads that Python knows */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&s->thread, &attributes, work, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    if (failed) {
        pthread_cond_destroy(&s->changed);
        pthread_mutex_destroy(&s->mutex);
        free(s);
        return NULL;
    }
#ifdef __linux__
    char name[16];
    snprintf(name, sizeof name, "fastrnn-%d", worker % 1000000);
    pthread_setname_np(s->thread, name);
#endif
    return s;
}

/* Makes the pool at least `wanted` workers, if the system allows; returns how many there are. Needs
 * busy. */
static int start_workers(int wanted)
{
    int n = atomic_load_explicit(&pool.n_slots, memory_order_relaxed);
    if (n >= wanted) return n;
    slot **slots = realloc(pool.slots, (size_t)wanted * sizeof *slots);
    if (!slots) return n;
    pool.slots = slots;
    for (; n < wanted; n++)
        if (!(slots[n] = start_worker(n + 1))) break;
    atomic_store_explicit(&pool.n_slots, n, memory_order_relaxed);
    return n;
}

/* Ends and joins all workers. Needs busy. */
static void stop_workers(void)
{
    int n = atomic_load_explicit(&pool.n_slots, memory_order_relaxed);
    for (int i = 0; i < n; i++) change(pool.slots[i], STOP, PARKED);
    for (int i = 0; i < n; i++) {
        slot *s = pool.slots[i];
        pthread_join(s->thread, NULL);
        pthread_cond_destroy(&s->changed);
        pthread_mutex_destroy(&s->mutex);
        free(s);
    }
    free(pool.slots);
    pool.slots = NULL;
    atomic_store_explicit(&pool.n_slots, 0, memory_order_relaxed);
}

static int try_busy(void)
{
    int seen = 0;
    return atomic_compare_exchange_strong(&pool.busy, &seen, 1);
}

static void release_busy(void)
{
    atomic_store(&pool.busy, 0);
}

/* --- fork ---------------------------------------------------------------------------------- */

static void prepare_fork(void)
{
    fork_holds = try_busy();
    if (fork_holds) stop_workers();
}

static void parent_after_fork(void)
{
    if (fork_holds) release_busy();
    fork_holds = 0;
}

static void child_after_fork(void)
{
    /* Where busy was not ours, another thread may have been anywhere in this file: nothing it owned
     * is touched, and a few hundred bytes are lost. */
    pool.slots = NULL;
    atomic_store(&pool.n_slots, 0);
    fork_holds = 0;
    release_busy();
}

/* When the library is loaded: a fork while the first region starts must find them in place. */
__attribute__((constructor)) static void install_fork_handlers(void)
{
    pthread_atfork(prepare_fork, parent_after_fork, child_after_fork);
}

/* --- regions ------------------------------------------------------------------------------- */

static int run_inline(frn_task task, void *ctx, size_t n_tasks)
{
    for (size_t index = 0; index < n_tasks; index++) task(ctx, index, 0);
    return 1;
}

#ifdef __linux__
/* Keeps a worker off the caller's processor, or lets it run wherever the caller may. Off it while a
 * neighbor takes a core away at times: two threads beside one neighbor that cannot move are three
 * for two processors, and the kernel would leave both threads on one of them, where they get no
 * more done than one. And when it is woken, since on a machine that has lately been busy the kernel
 * does not look for an idle processor: it then runs where the caller does, in turns with it. */
static void place(slot *s, int away)
{
    const int cpu = away ? sched_getcpu() : -1;
    cpu_set_t allowed;
    if (s->avoids == cpu || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    if (cpu >= 0) CPU_CLR(cpu, &allowed);
    if (CPU_COUNT(&allowed) == 0) return;
    pthread_setaffinity_np(s->thread, sizeof allowed, &allowed);
    s->avoids = cpu;
}
#else
static void place(slot *s, int away)
{
    (void)s, (void)away;
}
#endif

/* Offers the region to others, which are started if need be; returns to how many. */
static int offer(int n_threads)
{
    int helpers = start_workers(n_threads - 1);
    if (helpers > n_threads - 1) helpers = n_threads - 1;
    int crowded = helpers + 1 > frn_capacity();
    atomic_store_explicit(&pool.crowded, crowded, memory_order_relaxed);
    const int rest = atomic_load_explicit(&pool.rest, memory_order_relaxed) != 0;
    for (int i = 0; i < helpers; i++) {
        slot *s = pool.slots[i];
        const int asleep = atomic_load_explicit(&s->state, memory_order_relaxed) == PARKED;
        place(s, (rest || asleep) && !crowded);
        change(s, GO, PARKED);
    }
    return helpers;
}

/* Whether the offer was still open; now it is not. */
static int take_back(slot *s)
{
    int seen = GO;
    return atomic_compare_exchange_strong(&s->state, &seen, IDLE);
}

static void await(int helpers)
{
    for (int i = 0; i < helpers; i++) {
        slot *s = pool.slots[i];
        if (!take_back(s) && !spin_while(&s->state, RUNNING, 0)) sleep_while(s, RUNNING, AWAITED);
    }
}

static int run_shared(frn_task task, void *ctx, size_t n_tasks, int n_threads)
{
    pool.task = task;
    pool.ctx = ctx;
    pool.n_tasks = n_tasks;
    pool.member = NULL;
    atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
    int helpers = offer(n_threads);
    claim_tasks(task, ctx, n_tasks, 0);
    await(helpers);
    return helpers + 1;
}

static int run_team(frn_member member, void *ctx, int n_threads, int64_t patience_ns)
{
    pool.member = member;
    pool.ctx = ctx;
    atomic_store_explicit(&pool.members, 0, memory_order_relaxed);
    int helpers = offer(n_threads), members = 1;
    int64_t end = 0;
    for (int i = 0; i < helpers; i++) {
        slot *s = pool.slots[i];
        while (spin_some(&s->state, GO)) {
            int64_t now = frn_now_ns();
            if (end == 0) end = now + patience_ns;
            if (now >= end) break;
        }
        if (!take_back(s)) s->member = members++;
    }
    atomic_store_explicit(&pool.members, members, memory_order_release);
    member(ctx, 0, members);
    await(helpers);
    return members;
}

/* Whether the caller may use the pool's workers; it then is inside a region, as with leave. */
static int enter(int n_threads, fp_modes *modes)
{
    *modes = enter_fp();
    inside = 1;
    return n_threads > 1 && try_busy();
}

static void leave(int shared, fp_modes modes)
{
    if (shared) release_busy();
    inside = 0;
    leave_fp(modes);
}

int frn_pool_run(frn_task task, void *ctx, size_t n_tasks, int n_threads)
{
    if (n_tasks == 0) return 0;
    if (inside) return run_inline(task, ctx, n_tasks);
    if ((size_t)INT_MAX > n_tasks && n_threads > (int)n_tasks) n_threads = (int)n_tasks;
    fp_modes modes;
    int shared = enter(n_threads, &modes);
    int used = shared ? run_shared(task, ctx, n_tasks, n_threads) : run_inline(task, ctx, n_tasks);
    leave(shared, modes);
    return used;
}

/* Whether a team is worth the waking of parked threads. */
static int in_a_hurry(int64_t patience_ns)
{
    int64_t before = atomic_load_explicit(&pool.team_ended, memory_order_relaxed);
    return patience_ns >= WAKE_NS || frn_now_ns() - before < SPIN_NS;
}

int frn_pool_team(frn_member member, void *ctx, int n_threads, int64_t patience_ns)
{
    int members = 1;
    if (inside) {
        member(ctx, 0, 1);
        return members;
    }
    if (n_threads > frn_capacity()) n_threads = frn_capacity();
    fp_modes modes;
    int shared = enter(in_a_hurry(patience_ns) ? n_threads : 1, &modes);
    if (shared)
        members = run_team(member, ctx, n_threads, patience_ns);
    else
        member(ctx, 0, 1);
    leave(shared, modes);
    atomic_store_explicit(&pool.team_ended, frn_now_ns(), memory_order_relaxed);
    return members;
}

void frn_pool_region_ended(int disturbed)
{
    /* More threads than processors end apart without any neighbor. */
    if (atomic_load_explicit(&pool.crowded, memory_order_relaxed)) disturbed = 0;
    const int64_t before = atomic_load_explicit(&pool.rest, memory_order_relaxed);
    int64_t rest = before > LEAST_REST_NS ? before / 2 : 0, until = 0;
    if (disturbed) {
        rest = before == 0 ? LEAST_REST_NS : before < MOST_REST_NS ? 2 * before : MOST_REST_NS;
        until = frn_now_ns() + rest;
    }
    if (before == 0 && rest == 0) return;
    atomic_store_explicit(&pool.rest, rest, memory_order_relaxed);
    atomic_store_explicit(&pool.rest_until, until, memory_order_relaxed);
}

int frn_pool_calm(void)
{
    return atomic_load_explicit(&pool.rest, memory_order_relaxed) == 0 ||
           frn_now_ns() >= atomic_load_explicit(&pool.rest_until, memory_order_relaxed);
}

int frn_pool_size(void)
{
    return atomic_load_explicit(&pool.n_slots, memory_order_relaxed);
}

int frn_pool_stop(void)
{
    if (!try_busy()) return 0;
    stop_workers();
    release_busy();
    return 1;
}
