/* Drives the pool of src/pool.h from C, so that the thread sanitizer sees nothing but it. Prints
 * one line per check; exits with 1 at the first that fails. Checks whose name holds the first
 * argument are left out. See pool.sh beside it. */
#define _GNU_SOURCE

#include "barrier.h"
#include "count.h"
#include "pool.h"

#include <dirent.h>
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER 1
#else
#define ADDRESS_SANITIZER 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#else
#define THREAD_SANITIZER 0
#endif
#define SANITIZED (ADDRESS_SANITIZER || THREAD_SANITIZER)

enum { MOST = 40, PATIENCE = 60 /* seconds until a check that hangs is killed */ };

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                       \
        }                                                                   \
    } while (0)

static void spend(long ns)
{
    struct timespec start, t;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do clock_gettime(CLOCK_MONOTONIC, &t);
    while ((t.tv_sec - start.tv_sec) * 1000000000L + t.tv_nsec - start.tv_nsec < ns);
}

/* --- each task once, workers that run at one time differ ------------------------------------- */

typedef struct {
    int n_threads;
    long task_ns;
    uint64_t *runs;         /* per task; plain memory, for the sanitizer to watch */
    uint64_t scratch[MOST]; /* per worker; plain memory too */
    size_t last[MOST];      /* per worker: the task before, plus one */
    atomic_int taken[MOST]; /* per worker: a task runs */
    atomic_int errors;
} region;

static void count_task(void *ctx, size_t index, int worker)
{
    region *r = ctx;
    if (worker < 0 || worker >= r->n_threads || worker >= MOST) {
        atomic_fetch_add(&r->errors, 1);
        return;
    }
    if (atomic_exchange(&r->taken[worker], 1)) atomic_fetch_add(&r->errors, 1);
    if (index < r->last[worker]) atomic_fetch_add(&r->errors, 1); /* claims go forward */
    r->last[worker] = index + 1;
    r->scratch[worker] += index;
    r->runs[index]++;
    if (r->task_ns) spend(r->task_ns);
    atomic_store(&r->taken[worker], 0);
}

static void run_counted(size_t n_tasks, int n_threads, long task_ns)
{
    region r;
    memset(&r, 0, sizeof r);
    r.n_threads = n_threads;
    r.task_ns = task_ns;
    r.runs = calloc(n_tasks + 1, sizeof *r.runs);
    int used = frn_pool_run(count_task, &r, n_tasks, n_threads);
    CHECK(used <= n_threads && used >= (n_tasks > 0));
    CHECK(atomic_load(&r.errors) == 0);
    uint64_t sum = 0;
    for (size_t i = 0; i < n_tasks; i++) CHECK(r.runs[i] == 1);
    for (int w = 0; w < MOST; w++) sum += r.scratch[w];
    CHECK(sum == (n_tasks ? (uint64_t)n_tasks * (n_tasks - 1) / 2 : 0));
    free(r.runs);
}

static void test_each_task_runs_once(void)
{
    static const int threads[] = {1, 2, 3, 5, 2, 1, 8, 33, 3};
    static const size_t tasks[] = {0, 1, 2, 3, 7, 100, 1000};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
        for (size_t k = 0; k < sizeof tasks / sizeof *tasks; k++)
            for (int again = 0; again < 5; again++) run_counted(tasks[k], threads[i], 0);
    for (int again = 0; again < 20; again++) run_counted(40, 5, 20000);
    CHECK(frn_pool_size() == 32); /* what was asked for, although there are fewer cores */
}

static void test_many_regions(void)
{
    for (int i = 0; i < (SANITIZED ? 5000 : 100000); i++) run_counted(2 + i % 3, 2 + i % 2, 0);
    for (int i = 0; i < 20; i++) { /* parked in between */
        usleep(1000);
        run_counted(3, 3, 1000);
    }
}

/* --- nested and concurrent calls ------------------------------------------------------------- */

static void nested_task(void *ctx, size_t index, int worker)
{
    (void)index, (void)worker;
    region r;
    memset(&r, 0, sizeof r);
    uint64_t runs[5] = {0};
    r.n_threads = 1; /* as worker 0 alone */
    r.runs = runs;
    int used = frn_pool_run(count_task, &r, 5, 4);
    int bad = used != 1 || atomic_load(&r.errors);
    for (int i = 0; i < 5; i++) bad |= runs[i] != 1;
    atomic_fetch_add((atomic_int *)ctx, bad ? 1000 : 1);
}

static void test_nested(void)
{
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        atomic_int done = 0;
        frn_pool_run(nested_task, &done, 10, n_threads);
        CHECK(atomic_load(&done) == 10);
    }
}

static void *call_often(void *argument)
{
    int n_threads = (int)(intptr_t)argument;
    for (int i = 0; i < (SANITIZED ? 300 : 3000); i++)
        run_counted(5 + i % 3, n_threads, i % 50 ? 0 : 5000);
    return NULL;
}

static void test_concurrent_callers(void)
{
    pthread_t callers[4];
    for (intptr_t i = 0; i < 4; i++) pthread_create(&callers[i], NULL, call_often, (void *)(i + 1));
    for (int i = 0; i < 4; i++) pthread_join(callers[i], NULL);
}

/* --- teams ----------------------------------------------------------------------------------- */

enum { ROUNDS = 50 };

typedef struct {
    frn_barrier barrier;
    int seen[MOST];              /* by each member: the team's size; plain memory */
    uint64_t sums[ROUNDS][MOST]; /* by each member, of what all wrote the round before */
    atomic_int errors;
} team;

/* Everyone reads what everyone wrote before the barrier. */
static void add_member(void *ctx, int member, int members)
{
    team *t = ctx;
    if (member < 0 || member >= members || members > MOST || t->seen[member]) {
        atomic_fetch_add(&t->errors, 1);
        return;
    }
    t->seen[member] = members;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t sum = 1;
        for (int i = 0; i < members && round; i++) sum += t->sums[round - 1][i];
        t->sums[round][member] = sum;
        if (members > 1) frn_barrier_wait(&t->barrier, (size_t)members);
    }
}

/* Returns how many took part. */
static int run_added(int n_threads)
{
    static _Thread_local team t;
    memset(&t, 0, sizeof t);
    frn_barrier_init(&t.barrier);
    const int members = frn_pool_team(add_member, &t, n_threads, 100 * 1000);
    CHECK(atomic_load(&t.errors) == 0);
    CHECK(members >= 1 && members <= n_threads && members <= frn_capacity());
    for (int i = 0; i < MOST; i++) CHECK(t.seen[i] == (i < members ? members : 0));
    for (int round = 1; round < ROUNDS; round++)
        for (int i = 0; i < members; i++)
            CHECK(t.sums[round][i] == 1 + (uint64_t)members * t.sums[round - 1][0]);
    return members;
}

static void nested_team_task(void *ctx, size_t index, int worker)
{
    (void)index, (void)worker;
    if (run_added(3) != 1) atomic_fetch_add((atomic_int *)ctx, 1);
}

static void *team_often(void *argument)
{
    for (int i = 0; i < (SANITIZED ? 100 : 1000); i++) run_added(2 + i % 3);
    return argument;
}

static void test_teams(void)
{
    int most = 0;
    for (int i = 0; i < (SANITIZED ? 300 : 3000); i++) {
        const int members = run_added(1 + i % 4);
        if (members > most) most = members;
        if (i % 7 == 0) run_counted(3, 3, 0); /* the other kind of region in between */
        if (i % 100 == 0) usleep(1000);       /* parked */
    }
    CHECK(most == (frn_capacity() < 4 ? frn_capacity() : 4));
    atomic_int errors = 0;
    frn_pool_run(nested_team_task, &errors, 4, 2);
    CHECK(atomic_load(&errors) == 0);
    pthread_t callers[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&callers[i], NULL, i ? team_often : call_often, (void *)(intptr_t)2);
    for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
}

static void alone_for_long(void *ctx, int member, int members)
{
    (void)ctx, (void)member;
    if (members == 1) spend(300 * 1000); /* longer than workers spin */
}

/* Short regions without a pause get a worker that slept, though it wakes too late for the first. */
static void test_teams_in_a_row(void)
{
    if (frn_capacity() < 2) return;
    run_added(2);
    for (int again = 0; again < 3; again++) {
        int members = 1;
        usleep(5000); /* parked */
        CHECK(frn_pool_team(alone_for_long, NULL, 2, 1) == 1);
        for (int i = 0; i < 5000 && members < 2; i++)
            members = frn_pool_team(alone_for_long, NULL, 2, 1);
        CHECK(members == 2);
    }
}

static void spin_task(void *ctx, size_t index, int worker)
{
    (void)ctx, (void)index, (void)worker;
    spend(1000);
}

static void test_rest_after_a_disturbance(void)
{
    frn_pool_region_ended(0);
    CHECK(frn_pool_calm());
    frn_pool_region_ended(1);
    CHECK(!frn_pool_calm());
    usleep(2000);
    CHECK(frn_pool_calm());
    for (int i = 0; i < 4; i++) frn_pool_region_ended(1); /* 2, 4, 8, 16 milliseconds */
    usleep(2000);
    CHECK(!frn_pool_calm());
    frn_pool_region_ended(0); /* 8 */
    CHECK(frn_pool_calm());
    frn_pool_region_ended(1); /* 16 again: one region that was in luck does not end it */
    usleep(2000);
    CHECK(!frn_pool_calm());
    for (int i = 0; i < 5; i++) frn_pool_region_ended(0);
    frn_pool_region_ended(1);
    usleep(2000);
    CHECK(frn_pool_calm());
    frn_pool_region_ended(0);
    /* threads without a processor of their own say nothing about neighbors */
    frn_pool_run(spin_task, NULL, (size_t)frn_capacity() + 1, frn_capacity() + 1);
    frn_pool_region_ended(1);
    CHECK(frn_pool_calm());
    frn_pool_run(spin_task, NULL, 2, 2);
    frn_pool_region_ended(0);
}

#ifdef __linux__
static void note_place(void *ctx, int member, int members)
{
    if (member) sched_getaffinity(0, sizeof(cpu_set_t), ctx);
    (void)members;
}

/* On how many processors the worker may run that takes part in a region of two: at most, as one
 * that is woken for a region runs on all but one. */
static int places_of_worker(void)
{
    cpu_set_t places;
    int most = 0;
    for (int regions = 0; regions < 20;) {
        if (frn_pool_team(note_place, &places, 2, 1000 * 1000) < 2) continue;
        if (CPU_COUNT(&places) > most) most = CPU_COUNT(&places);
        regions++;
    }
    return most;
}

/* Beside a neighbor workers keep off the caller's processor. */
static void test_places(void)
{
    cpu_set_t before, one;
    if (sched_getaffinity(0, sizeof before, &before) || frn_capacity() < 2) return;
    const int all = CPU_COUNT(&before);
    frn_pool_stop(); /* new workers may run where the caller may */
    CHECK(places_of_worker() == all);
    usleep(5000); /* parked: woken on another processor than the caller's */
    cpu_set_t places;
    if (frn_pool_team(note_place, &places, 2, 100 * 1000 * 1000) == 2)
        CHECK(CPU_COUNT(&places) == all - 1);
    CHECK(places_of_worker() == all);
    frn_pool_region_ended(1);
    CHECK(places_of_worker() == all - 1);
    frn_pool_region_ended(1);
    CHECK(places_of_worker() == all - 1);
    for (int i = 0; i < 9; i++) frn_pool_region_ended(0);
    CHECK(places_of_worker() == all);
    /* where the caller has but one, there is none to keep to */
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    frn_pool_region_ended(1);
    CHECK(frn_pool_run(spin_task, NULL, 2, 2) == 2);
    frn_pool_region_ended(0);
    sched_setaffinity(0, sizeof before, &before);
    CHECK(places_of_worker() == all);
}
#else
static void test_places(void) {}
#endif

/* A member that waits for one without a processor says so. */
static void late_member(void *ctx, int member, int members)
{
    if (member) spend(3 * LATE_NS);
    if (members > 1) frn_barrier_wait(ctx, (size_t)members);
}

static void test_late_members(void)
{
    frn_barrier barrier;
    frn_barrier_init(&barrier);
    run_added(2);
    if (frn_pool_team(late_member, &barrier, 2, 1000 * 1000) > 1) CHECK(frn_barrier_late(&barrier));
}

/* --- floating-point modes and signals -------------------------------------------------------- */

typedef struct {
    volatile double tiny, three, large;
    atomic_int errors, on_workers;
    int round_up_expected;
} modes;

static void modes_task(void *ctx, size_t index, int worker)
{
    (void)index;
    modes *m = ctx;
    int denormal_input = m->tiny * 1e300 != 0.0;
    int denormal_result = 4.9e-300 * (m->tiny + 1e-20) != 0.0;
#if defined(__x86_64__) || defined(__aarch64__)
    if (denormal_input || denormal_result) atomic_fetch_add(&m->errors, 1);
#else
    (void)denormal_input, (void)denormal_result;
#endif
    if (1.0 / m->three * m->three > 1.0) atomic_fetch_add(&m->errors, 1); /* rounded upwards */
    if (worker) {
        sigset_t blocked;
        pthread_sigmask(SIG_BLOCK, NULL, &blocked);
        if (!sigismember(&blocked, SIGINT) || !sigismember(&blocked, SIGALRM))
            atomic_fetch_add(&m->errors, 1);
        atomic_fetch_add(&m->on_workers, 1);
    }
    spend(20000); /* time for the others to come */
}

static void test_floating_point_and_signals(void)
{
    modes m = {.tiny = 4.9e-310, .three = 3.0};
    for (int n_threads = 1; n_threads <= 3; n_threads++)
        for (int rounding = 0; rounding < 2; rounding++)
            for (int again = 0; again < 50 && (again < 1 || n_threads > 1); again++) {
                fesetround(rounding ? FE_UPWARD : FE_TONEAREST);
                frn_pool_run(modes_task, &m, 20, n_threads);
                CHECK(fegetround() == (rounding ? FE_UPWARD : FE_TONEAREST));
                fesetround(FE_TONEAREST);
                CHECK(m.tiny * 1e300 != 0.0); /* denormal numbers count again out here */
                CHECK(atomic_load(&m.errors) == 0);
            }
    CHECK(atomic_load(&m.on_workers) > 0);
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    CHECK(!sigismember(&blocked, SIGINT)); /* the caller's own signals are as they were */
}

/* --- fork ------------------------------------------------------------------------------------ */

static void check_child(pid_t child)
{
    int status;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The thread sanitizer lets no thread of a child have the stack of a thread that the child was
 * forked without; so with it, and then only, such children use the pool alone. */
static atomic_int others_run;

/* Forks a child that uses the pool, forks a child that uses the pool, ... */
static void fork_and_use(int depth)
{
    pid_t child = fork();
    if (child) {
        check_child(child);
        return;
    }
    alarm(PATIENCE);
    int n_threads = THREAD_SANITIZER && atomic_load(&others_run) ? 1 : 3;
    CHECK(frn_pool_size() == 0);
    run_counted(50, n_threads, 1000);
    CHECK(frn_pool_size() == n_threads - 1);
    if (depth) fork_and_use(depth - 1);
    run_counted(50, n_threads, 1000);
    _exit(0);
}

static void *fork_in_thread(void *argument)
{
    (void)argument;
    for (int i = 0; i < 5; i++) fork_and_use(0);
    return NULL;
}

static atomic_int enough;

static void *call_until_enough(void *argument)
{
    long task_ns = *(long *)argument;
    while (!atomic_load(&enough)) run_counted(6, 3, task_ns);
    return NULL;
}

static void test_fork(void)
{
    run_counted(10, 3, 0);
    fork_and_use(0);
    CHECK(frn_pool_size() == 0); /* ended before the fork, ... */
    run_counted(10, 3, 0);       /* ... and started again when needed */
    CHECK(frn_pool_size() == 2);
    fork_and_use(3);

    pthread_t thread;
    pthread_create(&thread, NULL, fork_in_thread, NULL);
    pthread_join(thread, NULL);

    /* The address sanitizer's malloc has locks of its own, which it leaves locked in a child that
     * was forked while another thread held them. */
    if (ADDRESS_SANITIZER) return;

    static long lengths[] = {0, 3000, 300000};
    for (int i = 0; i < 3; i++) {
        atomic_store(&enough, 0);
        atomic_store(&others_run, 1);
        pthread_t callers[2], forkers[2];
        for (int k = 0; k < 2; k++)
            pthread_create(&callers[k], NULL, call_until_enough, &lengths[i]);
        for (int k = 0; k < 2; k++) pthread_create(&forkers[k], NULL, fork_in_thread, NULL);
        for (int k = 0; k < (SANITIZED ? 3 : 10); k++) fork_and_use(k % 2);
        for (int k = 0; k < 2; k++) pthread_join(forkers[k], NULL);
        atomic_store(&enough, 1);
        for (int k = 0; k < 2; k++) pthread_join(callers[k], NULL);
        atomic_store(&others_run, 0);
        run_counted(10, 3, 0);
    }
}

/* --- starting and stopping ------------------------------------------------------------------- */

static int count_threads(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/task");
    if (!directory) return -1;
    for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

/* The system takes a moment to forget a thread that was joined. */
static int threads_become(int expected)
{
    for (int i = 0; i < 1000; i++) {
        if (count_threads() == expected) return 1;
        usleep(1000);
    }
    return 0;
}

static void test_stop(void)
{
    CHECK(frn_pool_stop() == 1);
    CHECK(frn_pool_size() == 0);
    usleep(10000);
    int before = count_threads();
    for (int i = 0; i < 200; i++) {
        run_counted(4, 3, i % 2 ? 0 : 2000);
        if (before > 0) CHECK(threads_become(before + 2));
        CHECK(frn_pool_stop() == 1);
    }
    if (before > 0) CHECK(threads_become(before));
}

static void stop_task(void *ctx, size_t index, int worker)
{
    (void)index, (void)worker;
    if (frn_pool_stop()) atomic_fetch_add((atomic_int *)ctx, 1);
}

static void test_stop_leaves_a_running_region(void)
{
    atomic_int stopped = 0;
    frn_pool_run(stop_task, &stopped, 10, 3);
    CHECK(atomic_load(&stopped) == 0);
}

static void test_too_few_threads(void)
{
    if (SANITIZED) return; /* the sanitizers need their own address space */
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        struct rlimit limit;
        long pages = 0;
        FILE *file = fopen("/proc/self/statm", "r");
        if (!file || fscanf(file, "%ld", &pages) != 1) _exit(0);
        fclose(file);
        limit.rlim_cur = limit.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (6 << 20);
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        for (int i = 0; i < 10; i++) run_counted(100, 39, 0);
        CHECK(frn_pool_size() < 38);
        _exit(0);
    }
    check_child(child);
}

/* --- how many -------------------------------------------------------------------------------- */

static void *read_number(void *argument)
{
    *(int *)argument = frn_num_threads();
    return NULL;
}

static void test_counts(void)
{
    int affinity = frn_affinity_count();
    CHECK(affinity >= 1 && frn_num_threads() == affinity);
    CHECK(frn_set_quota(1) == 0 && frn_num_threads() == 1 && frn_capacity() == 1);
    CHECK(frn_set_quota(affinity + 1) == 1 && frn_num_threads() == affinity);
    CHECK(frn_set_environment_threads(70) == 0 && frn_num_threads() == 70);
    CHECK(frn_set_process_threads(80) == 0 && frn_num_threads() == 80);
    CHECK(frn_set_thread_limit(90) == 0 && frn_num_threads() == 90);
    int elsewhere = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, read_number, &elsewhere);
    pthread_join(thread, NULL);
    CHECK(elsewhere == 80);
    CHECK(frn_set_thread_limit(0) == 90 && frn_num_threads() == 80);
    CHECK(frn_set_process_threads(0) == 80 && frn_num_threads() == 70);
    CHECK(frn_set_environment_threads(0) == 70 && frn_num_threads() == affinity);
    CHECK(frn_set_quota(0) == affinity + 1);
}

int main(int n_arguments, char **arguments)
{
    static const struct {
        const char *name;
        void (*test)(void);
    } tests[] = {
        {"counts", test_counts},
        {"each task runs once", test_each_task_runs_once},
        {"many regions", test_many_regions},
        {"nested calls", test_nested},
        {"concurrent callers", test_concurrent_callers},
        {"teams", test_teams},
        {"teams in a row", test_teams_in_a_row},
        {"rest after a disturbance", test_rest_after_a_disturbance},
        {"places", test_places},
        {"late members", test_late_members},
        {"floating-point modes and signals", test_floating_point_and_signals},
        {"stop", test_stop},
        {"stop leaves a running region", test_stop_leaves_a_running_region},
        {"fork", test_fork},
        {"forked with too little memory", test_too_few_threads},
    };
    CHECK(count_threads() <= 2); /* none of ours yet; a sanitizer may have one */
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (n_arguments > 1 && strstr(tests[i].name, arguments[1])) {
            printf("left out: %s\n", tests[i].name);
            continue;
        }
        alarm(PATIENCE);
        tests[i].test();
        printf("ok: %s\n", tests[i].name);
        fflush(stdout);
    }
    alarm(PATIENCE);
    run_counted(10, 3, 0);
    return 0; /* with workers that live: exit must not wait for them */
}
