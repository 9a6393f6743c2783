/* The rate at which one core reads memory: sums over a buffer again and again. Compiled by
 * bench/limits for the machine that it runs on. */
#include <stddef.h>
#include <time.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

typedef long long vec __attribute__((vector_size(BYTES)));

/* Enough sums that loads, not additions, are what is waited for. */
#define SUMS 8

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Bytes per second over `duration` seconds of reading `size` bytes of `buffer`, which starts at a
 * multiple of 64; with `turn` every second time from the end, so that a part that fits into a
 * nearer cache is found there. *sink keeps the compiler from dropping the work. */
double read_rate(const void *buffer, size_t size, int turn, double duration, double *sink)
{
    const vec *from = buffer;
    const size_t count = size / sizeof(vec) / SUMS * SUMS;
    vec sums[SUMS] = {{0}};
    double start = seconds(), now, bytes = 0;
    int back = 0;
    do {
        for (size_t done = 0; done < (1 << 20); done += count * sizeof(vec)) {
            const ptrdiff_t step = back ? -SUMS : SUMS;
            const vec *at = back ? from + count - SUMS : from;
            for (size_t i = 0; i < count; i += SUMS, at += step)
                for (int k = 0; k < SUMS; k++) sums[k] += at[k];
            back = turn && !back;
            bytes += (double)(count * sizeof(vec));
            __asm__ volatile("" ::: "memory"); /* the buffer may have changed: read it again */
        }
        now = seconds();
    } while (now - start < duration);
    vec total = sums[0];
    for (int k = 1; k < SUMS; k++) total += sums[k];
    *sink = (double)total[0];
    return bytes / (now - start);
}
