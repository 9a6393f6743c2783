/* The micro-kernel: rows times a panel of packed weights, under every product there is.
 *
 * A tile is up to FRN_MR rows by one panel of sums.  Each sum is one chain of fused multiply-adds
 * in the order of k, whatever the number of rows in its tile, so the bits of an element depend on
 * neither the batch nor the threads.  A tile's sums pass to the epilogue through a buffer in L1:
 * a few dozen loads and stores against thousands of products, and the epilogues need no instance
 * per tile shape.
 */
#ifndef FRN_MULTIPLY_H
#define FRN_MULTIPLY_H

#include "kernels.h"
#include "vec.h"

#define TILE   ((size_t)FRN_SLOTS * LANES) /* a tile's row, in elements */
#define INLINE static inline __attribute__((always_inline))
/* Steps of k that operands are asked for ahead: they come from L2, or from farther, and rows whose
 * elements lie apart come in no order that a processor guesses. */
#define PREFETCH 16
#if defined(__clang__) /* it takes GCC's pragma without a word and leaves the loop as it is */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

INLINE size_t round_up(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}
INLINE size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
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

/* tile (rows, width vectors) += a (rows, k) w (k, width vectors); a's elements lie `step` apart */
INLINE void multiply(const int rows, const int width, real *tile, const real *const *a, size_t step,
                     const real *w, size_t k)
{
    V sum[FRN_MR][FRN_SLOTS];
    const real *row[FRN_MR];
    UNROLL for (int r = 0; r < rows; r++)
    {
        row[r] = a[r];
        UNROLL for (int v = 0; v < width; v++) sum[r][v] = vload(tile + r * TILE + v * LANES);
    }
    /* The elements of the rows wait in registers and the weights come one vector at a time: one
     * register less than the other way around, which is what fits in 16 and in 32.  The loop tests
     * at its end, or gcc keeps a second copy of the sums and spills both. */
    if (k == 0) return;
    size_t at = 0;
    do {
        V x[FRN_MR];
        __builtin_prefetch(row[0] + at + PREFETCH * step);
        UNROLL for (int r = 0; r < rows; r++) x[r] = vset1(row[r][at]);
        UNROLL for (int v = 0; v < width; v++)
        {
            const V weight = vload(w + v * LANES);
            __builtin_prefetch(w + (PREFETCH * width + v) * LANES);
            UNROLL for (int r = 0; r < rows; r++) sum[r][v] = vfma(x[r], weight, sum[r][v]);
        }
        at += step;
        w += width * LANES;
    } while (--k);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < width; v++)
        vstore(tile + r * TILE + v * LANES, sum[r][v]);
}

typedef void multiply_fn(real *tile, const real *const *a, size_t step, const real *w, size_t k);
#define MULTIPLY(rows, width)                                                            \
    static void multiply_##rows##x##width(real *tile, const real *const *a, size_t step, \
                                          const real *w, size_t k)                       \
    {                                                                                    \
        multiply(rows, width, tile, a, step, w, k);                                      \
    }
#define MULTIPLY_ROWS(rows) MULTIPLY(rows, 1) MULTIPLY(rows, 2) MULTIPLY(rows, 3) MULTIPLY(rows, 4)
#define WIDTHS(rows) \
    {multiply_##rows##x1, multiply_##rows##x2, multiply_##rows##x3, multiply_##rows##x4}

/* clang-format off */
MULTIPLY_ROWS(1) MULTIPLY_ROWS(2) MULTIPLY_ROWS(3)
#if FRN_MR == 6
MULTIPLY_ROWS(4) MULTIPLY_ROWS(5) MULTIPLY_ROWS(6)
#elif FRN_MR != 3
#error "multiply.h has micro-kernels for tiles of 3 and of 6 rows"
#endif
static multiply_fn *const multiply_tile[FRN_MR][FRN_SLOTS] = {
    WIDTHS(1), WIDTHS(2), WIDTHS(3),
#if FRN_MR == 6
    WIDTHS(4), WIDTHS(5), WIDTHS(6),
#endif
};
/* clang-format on */

#endif
