#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include "count.h"

#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static _Thread_local int thread_limit;
static atomic_int process_threads, environment_threads, quota;

static int count_affinity(void)
{
#ifdef __linux__
    /* The kernel refuses a set smaller than its own, so grow until it fits. */
    for (int processors = 1024; processors <= 1 << 20; processors *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)processors);
        if (!set) break;
        size_t bytes = CPU_ALLOC_SIZE((size_t)processors);
        int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 && online < INT_MAX ? (int)online : 1;
}

int frn_affinity_count(void)
{
    /* Per thread, as affinity is; kept for a moment, because a streaming step takes microseconds.
     */
    static _Thread_local int64_t read_at;
    static _Thread_local int count;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    if (count == 0 || now - read_at > 50 * 1000000) {
        count = count_affinity();
        read_at = now;
    }
    return count;
}

int frn_capacity(void)
{
    int n = frn_affinity_count();
    int most = atomic_load_explicit(&quota, memory_order_relaxed);
    return most > 0 && most < n ? most : n;
}

int frn_num_threads(void)
{
    frn_source source;
    return frn_num_threads_from(&source);
}

int frn_num_threads_from(frn_source *source)
{
    int n;
    if ((n = thread_limit) > 0) return *source = FRN_FROM_THREAD, n;
    n = atomic_load_explicit(&process_threads, memory_order_relaxed);
    if (n > 0) return *source = FRN_FROM_PROCESS, n;
    n = atomic_load_explicit(&environment_threads, memory_order_relaxed);
    if (n > 0) return *source = FRN_FROM_ENVIRONMENT, n;
    n = frn_capacity();
    *source = n < frn_affinity_count() ? FRN_FROM_QUOTA : FRN_FROM_AFFINITY;
    return n;
}

int frn_set_thread_limit(int n)
{
    int old = thread_limit;
    thread_limit = n;
    return old;
}

int frn_set_process_threads(int n)
{
    return atomic_exchange(&process_threads, n);
}
int frn_set_environment_threads(int n)
{
    return atomic_exchange(&environment_threads, n);
}
int frn_set_quota(int n)
{
    return atomic_exchange(&quota, n);
}
