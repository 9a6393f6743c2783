/* Rows of any number of units in vectors, the last of which may be cut. */
#ifndef FRN_UNITS_H
#define FRN_UNITS_H

#include <stddef.h>

#include "vec.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__) /* it takes GCC's pragma without a word and leaves the loop as it is */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE size_t round_up(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}
INLINE size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}
INLINE size_t parts(size_t n, size_t part)
{
    return (n + part - 1) / part;
}
INLINE V load_units(const real *p, size_t n)
{
    return n >= LANES ? vload(p) : vload_n(p, n);
}
INLINE void store_units(real *p, size_t n, V v)
{
    if (n >= LANES)
        vstore(p, v);
    else
        vstore_n(p, n, v);
}

#endif
