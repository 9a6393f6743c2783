/* How many threads a call may use. */
#ifndef FRN_COUNT_H
#define FRN_COUNT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Processors that the calling thread may run on, at least 1. Reread at most every 50 ms. */
int frn_affinity_count(void);

/* Threads that can run at once: the affinity, or the quota where that is less. */
int frn_capacity(void);

/* The first of these that is set, that is not 0: the calling thread's limit, the process's number,
 * the environment's number; else frn_capacity(). Honored as it is, also beyond the processors. */
int frn_num_threads(void);

typedef enum {
    FRN_FROM_THREAD,
    FRN_FROM_PROCESS,
    FRN_FROM_ENVIRONMENT,
    FRN_FROM_QUOTA,
    FRN_FROM_AFFINITY
} frn_source;

/* The same, and which of them it is. */
int frn_num_threads_from(frn_source *source);

/* Set one of them, and return what it was; 0 unsets it. The quota is the least number of threads
 * that uses up the control group's share of processor time. */
int frn_set_thread_limit(int n); /* of the calling thread */
int frn_set_process_threads(int n);
int frn_set_environment_threads(int n);
int frn_set_quota(int n);

#ifdef __cplusplus
}
#endif
#endif
