/* Waiting without giving up the processor, and the clock that says when to stop. */
#ifndef FRN_SPIN_H
#define FRN_SPIN_H

#include <stdint.h>
#include <time.h>

enum { PAUSES_PER_LOOK = 32 }; /* pauses between two looks at the clock, about a microsecond */

static inline int64_t frn_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void frn_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
