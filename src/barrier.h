/* Where the members of a team meet after each stage of a step.
 *
 * One counter, which only grows: whoever arrives as the n-th of all times waits until everyone of
 * its round is there. What a member wrote before it arrived is visible to all after they left.
 */
#ifndef FRN_BARRIER_H
#define FRN_BARRIER_H

#include "spin.h"

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

/* Longer than members' shares of a step differ: who waits so long waits for a core, not for work.
 */
static const int64_t LATE_NS = 200 * 1000;

enum { APART = 128 }; /* two cache lines: adjacent ones are fetched in pairs */

/* Distance and not alignment keeps the words apart, since a barrier may lie in a Python object. */
typedef struct frn_barrier {
    char before[APART];
    atomic_size_t arrived;
    char between[APART];
    atomic_int late; /* someone waited for long */
    char after[APART];
} frn_barrier;

/* Before any member can arrive. */
static inline void frn_barrier_init(frn_barrier *b)
{
    atomic_init(&b->arrived, 0);
    atomic_init(&b->late, 0);
}

static inline int frn_barrier_late(frn_barrier *b)
{
    return atomic_load_explicit(&b->late, memory_order_relaxed);
}

static inline int frn_all_there(const frn_barrier *b, size_t end)
{
    return atomic_load_explicit(&b->arrived, memory_order_acquire) >= end;
}

/* Returns when all `members` have called it as often as this one. */
static inline void frn_barrier_wait(frn_barrier *b, size_t members)
{
    const size_t before = atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel);
    const size_t end = (before / members + 1) * members;
    int64_t start = 0;
    while (!frn_all_there(b, end)) {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (frn_all_there(b, end)) return;
            frn_relax();
        }
        const int64_t now = frn_now_ns();
        if (start == 0) start = now;
        if (now - start < LATE_NS) continue;
        atomic_store_explicit(&b->late, 1, memory_order_relaxed);
        sched_yield();
    }
}

#endif
