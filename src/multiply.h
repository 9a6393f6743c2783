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

/* Rows of a tile that leave registers for the sums of a second one beside it; and the fewest for
 * which it pays: one panel of 64-byte vectors alone comes as fast as L2 gives it, and one stream of
 * lines comes faster than two. */
#define FRN_PAIR_ROWS  (FRN_MR == 6 ? 3 : 1)
#define FRN_PAIR_LEAST (sizeof(V) == 64 ? 3 : 1)
/* Rows of a tile that leave loads to spare. */
#define FRN_AHEAD_ROWS (FRN_MR == 6 ? 4 : 3)

/* What will be needed soon, asked for while a tile is multiplied: in a burst each line would wait
 * for others, spread over the steps of k none does. */
enum { LINE_BYTES = 64, PIECE_LINES = FRN_SLOTS * sizeof(V) / LINE_BYTES, MOST_PIECES = 48 };
typedef struct {
    const char *panel;        /* one line per step of k, or two, */
    ptrdiff_t second;         /* where the other lies from there, */
    ptrdiff_t per_step;       /* so many bytes further each time; */
    const char *const *piece; /* and pieces as wide as a tile, wherever they lie, */
    uint64_t rate;            /* so many lines of them per step, times 2^32 */
} ahead_of_tile;

/* Asks for pieces within k steps, or for as many as there are steps for; then for `here`, for which
 * there is room behind the pieces. */
INLINE ahead_of_tile ask_for(const char **piece, size_t pieces, size_t k, const char *here)
{
    const uint64_t one = (uint64_t)1 << 32, lines = PIECE_LINES * pieces;
    piece[pieces] = here;
    return (ahead_of_tile){here, 0, 0, piece, pieces == 0 ? 0 : lines < k ? lines * one / k : one};
}

/* tile (rows, width vectors) += a (rows, k) w (k, width vectors); a's elements lie `step` apart.
 * With two panels the second tile follows the first, and its weights the first's: few rows alone
 * would wait for each sum's own chain.  `ahead` may be NULL. */
INLINE void multiply(const int panels, const int rows, const int width, real *tile,
                     const real *const *a, size_t step, const real *w, size_t k,
                     const ahead_of_tile *const ahead)
{
    V sum[2][FRN_MR][FRN_SLOTS];
    const real *row[FRN_MR];
    const size_t apart = k * width * LANES;
    const int asks = panels * rows >= FRN_PAIR_LEAST; /* else the loads themselves come as often */
    const char *panel = ahead ? ahead->panel : NULL;
    uint64_t place = 0; /* in the pieces: lines, times 2^32 */
    UNROLL for (int r = 0; r < rows; r++) row[r] = a[r];
    UNROLL for (int p = 0; p < panels; p++) UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < width; v++) sum[p][r][v] =
            vload(tile + (p * FRN_MR + r) * TILE + v * LANES);
    /* The elements of the rows wait in registers and the weights come one vector at a time: one
     * register less than the other way around, which is what fits in 16 and in 32.  The loop tests
     * at its end, or gcc keeps a second copy of the sums and spills both. */
    if (k == 0) return;
    size_t at = 0;
    do {
        V x[FRN_MR];
        __builtin_prefetch(row[0] + at + PREFETCH * step);
        if (ahead) {
            const size_t line = place >> 32;
            __builtin_prefetch(panel, 0, 2);
            if (width * sizeof(V) > 2 * LINE_BYTES) __builtin_prefetch(panel + ahead->second, 0, 2);
            __builtin_prefetch(ahead->piece[line / PIECE_LINES] + line % PIECE_LINES * LINE_BYTES);
            panel += ahead->per_step;
            place += ahead->rate;
        }
        UNROLL for (int r = 0; r < rows; r++) x[r] = vset1(row[r][at]);
        UNROLL for (int p = 0; p < panels; p++) UNROLL for (int v = 0; v < width; v++)
        {
            const real *from = w + p * apart + v * LANES;
            const V weight = vload(from);
            if (asks && v * sizeof(V) % LINE_BYTES == 0)
                __builtin_prefetch(from + PREFETCH * width * LANES);
            UNROLL for (int r = 0; r < rows; r++) sum[p][r][v] = vfma(x[r], weight, sum[p][r][v]);
        }
        at += step;
        w += width * LANES;
    } while (--k);
    UNROLL for (int p = 0; p < panels; p++) UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < width; v++)
            vstore(tile + (p * FRN_MR + r) * TILE + v * LANES, sum[p][r][v]);
}

typedef void multiply_fn(real *tile, const real *const *a, size_t step, const real *w, size_t k);
typedef void multiply_ahead_fn(real *tile, const real *const *a, size_t step, const real *w,
                               size_t k, const ahead_of_tile *ahead);
#define MULTIPLY(panels, rows, width)                                                      \
    static void multiply_##panels##x##rows##x##width(real *tile, const real *const *a,     \
                                                     size_t step, const real *w, size_t k) \
    {                                                                                      \
        multiply(panels, rows, width, tile, a, step, w, k, NULL);                          \
    }
#define MULTIPLY_AHEAD(rows, width)                                                            \
    static void multiply_ahead_##rows##x##width(real *tile, const real *const *a, size_t step, \
                                                const real *w, size_t k,                       \
                                                const ahead_of_tile *ahead)                    \
    {                                                                                          \
        multiply(1, rows, width, tile, a, step, w, k, ahead);                                  \
    }
#define MULTIPLY_ROWS(panels, rows) \
    MULTIPLY(panels, rows, 1)       \
    MULTIPLY(panels, rows, 2) MULTIPLY(panels, rows, 3) MULTIPLY(panels, rows, 4)
#define MULTIPLY_ROWS_AHEAD(rows) \
    MULTIPLY_AHEAD(rows, 1)       \
    MULTIPLY_AHEAD(rows, 2) MULTIPLY_AHEAD(rows, 3) MULTIPLY_AHEAD(rows, 4)
#define WIDTHS(panels, rows)                                         \
    {multiply_##panels##x##rows##x1, multiply_##panels##x##rows##x2, \
     multiply_##panels##x##rows##x3, multiply_##panels##x##rows##x4}
#define WIDTHS_AHEAD(rows)                                                            \
    {multiply_ahead_##rows##x1, multiply_ahead_##rows##x2, multiply_ahead_##rows##x3, \
     multiply_ahead_##rows##x4}

/* clang-format off */
MULTIPLY_ROWS(1, 1) MULTIPLY_ROWS(1, 2) MULTIPLY_ROWS(1, 3) MULTIPLY_ROWS(2, 1)
#if FRN_MR == 6
MULTIPLY_ROWS(1, 4) MULTIPLY_ROWS(1, 5) MULTIPLY_ROWS(1, 6) MULTIPLY_ROWS(2, 2) MULTIPLY_ROWS(2, 3)
MULTIPLY_ROWS_AHEAD(4) MULTIPLY_ROWS_AHEAD(5) MULTIPLY_ROWS_AHEAD(6)
#elif FRN_MR == 3
MULTIPLY_ROWS_AHEAD(3)
#else
#error "multiply.h has micro-kernels for tiles of 3 and of 6 rows"
#endif
static multiply_fn *const multiply_tile[FRN_MR][FRN_SLOTS] = {
    WIDTHS(1, 1), WIDTHS(1, 2), WIDTHS(1, 3),
#if FRN_MR == 6
    WIDTHS(1, 4), WIDTHS(1, 5), WIDTHS(1, 6),
#endif
};
static multiply_fn *const multiply_pair[FRN_PAIR_ROWS][FRN_SLOTS] = {
    WIDTHS(2, 1),
#if FRN_MR == 6
    WIDTHS(2, 2), WIDTHS(2, 3),
#endif
};
static multiply_ahead_fn *const multiply_ahead[FRN_MR - FRN_AHEAD_ROWS + 1][FRN_SLOTS] = {
#if FRN_MR == 6
    WIDTHS_AHEAD(4), WIDTHS_AHEAD(5), WIDTHS_AHEAD(6),
#else
    WIDTHS_AHEAD(3),
#endif
};
/* clang-format on */

#endif
