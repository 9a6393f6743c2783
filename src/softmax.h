/* What a softmax is made of: the largest element, and the sum of the exponentials below it. */
#ifndef FRN_SOFTMAX_H
#define FRN_SOFTMAX_H

#include <stddef.h>

#include "vecmath.h"

/* The largest of k > 0 elements; of NaN, which exp finds, anything. */
static real largest(const real *z, size_t k)
{
    if (k < LANES) {
        real top = z[0];
        for (size_t i = 1; i < k; i++) top = z[i] > top ? z[i] : top;
        return top;
    }
    V top = vload(z + k - LANES); /* overlaps the last whole vector: the maximum does not mind */
    for (size_t i = 0; i + LANES <= k; i += LANES) top = vmax(top, vload(z + i));
    return vmaxval(top);
}

/* The sum of exp(z - top), each also written to e if there is one; e may be z.  Runs of 64 vectors
 * are summed in the element type and these sums in double, so that float keeps its digits however
 * many classes there are. */
static double sum_of_exps(const real *z, size_t k, real top, real *e)
{
    const size_t whole = k - k % LANES, run = 64 * LANES;
    const V shift = vset1(top);
    double total = 0;
    for (size_t start = 0; start < whole; start += run) {
        size_t stop = start + run < whole ? start + run : whole;
        V sum = vzero();
        for (size_t i = start; i < stop; i += LANES) {
            V v = vexp(vload(z + i) - shift);
            if (e) vstore(e + i, v);
            sum = sum + v;
        }
        total += vsum(sum);
    }
    if (whole < k) {
        int rest = (int)(k - whole);
        real tail[LANES];
        V v = vexp(vload_n(z + whole, rest) - shift);
        vstore(tail, v);
        if (e) vstore_n(e + whole, rest, v);
        for (int i = 0; i < rest; i++) total += tail[i];
    }
    return total;
}

#endif
