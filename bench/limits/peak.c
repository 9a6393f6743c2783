/* The rate of fused multiply-adds that one core reaches on registers alone: the ceiling of every
 * product. Compiled by bench/common.py for the machine that it runs on. */
#include <stddef.h>
#include <time.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

typedef REAL vec __attribute__((vector_size(BYTES)));

/* Enough independent chains for two units of latency four or five, in half the registers there are.
 */
#define CHAINS 12

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Operations per second over `duration` seconds; *sink keeps the compiler from dropping the work.
 */
double fma_rate(double duration, double *sink)
{
    const vec scale = (vec){0} + (REAL)0.5, shift = (vec){0} + (REAL)1;
    vec sums[CHAINS];
    size_t rounds = 0;
    double start = seconds(), now;
    for (int i = 0; i < CHAINS; i++) sums[i] = shift;
    do {
        for (int round = 0; round < 1000; round++)
            for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * scale + shift;
        rounds += 1000;
        now = seconds();
    } while (now - start < duration);
    vec total = sums[0];
    for (int i = 1; i < CHAINS; i++) total += sums[i];
    *sink = (double)total[0];
    return 2.0 * CHAINS * (BYTES / sizeof(REAL)) * (double)rounds / (now - start);
}
