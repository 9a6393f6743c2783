/* Nanoseconds per element, in L1, of the functions of src/vecmath.h and of a plain loop over libm,
 * for the element type and instruction set this is compiled for. The smallest of many repetitions.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "../../src/vecmath.h"

#if FRN_DOUBLE
#define libm_exp  exp
#define libm_tanh tanh
#else
#define libm_exp  expf
#define libm_tanh tanhf
#endif

enum { SIZE = 1024, REPEATS = 100, ATTEMPTS = 30 };
static real x[SIZE], y[SIZE];

/* Makes the compiler believe that x and y are written and read elsewhere. */
static void touch(void)
{
    __asm__ volatile("" : : "r"(x), "r"(y) : "memory");
}

#define VECTORS(name)                                                               \
    static void vector_##name(void)                                                 \
    {                                                                               \
        for (int i = 0; i < SIZE; i += LANES) vstore(y + i, v##name(vload(x + i))); \
    }
#define ELEMENTS(name, formula)                        \
    static void libm_##name##_loop(void)               \
    {                                                  \
        for (int i = 0; i < SIZE; i++) y[i] = formula; \
    }
VECTORS(exp)
VECTORS(sigmoid)
VECTORS(tanh)
ELEMENTS(exp, libm_exp(x[i]))
ELEMENTS(sigmoid, 1 / (1 + libm_exp(-x[i])))
ELEMENTS(tanh, libm_tanh(x[i]))

static double nanoseconds(void (*loop)(void))
{
    double best = INFINITY;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        struct timespec start, stop;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int i = 0; i < REPEATS; i++) {
            loop();
            touch();
        }
        clock_gettime(CLOCK_MONOTONIC, &stop);
        double passed = (double)(stop.tv_sec - start.tv_sec) * 1e9;
        passed += (double)(stop.tv_nsec - start.tv_nsec);
        if (passed < best) best = passed;
    }
    return best / ((double)REPEATS * SIZE);
}

int main(void)
{
    for (int i = 0; i < SIZE; i++) x[i] = (real)((i * 607) % SIZE - SIZE / 2) * 12 / SIZE;
    printf("%s, %2d lanes:", FRN_DOUBLE ? "double" : "float ", LANES);
    printf(" exp %.3f (libm %.2f)", nanoseconds(vector_exp), nanoseconds(libm_exp_loop));
    printf(" sigmoid %.3f (libm %.2f)", nanoseconds(vector_sigmoid),
           nanoseconds(libm_sigmoid_loop));
    printf(" tanh %.3f (libm %.2f) ns\n", nanoseconds(vector_tanh), nanoseconds(libm_tanh_loop));
    return 0;
}
