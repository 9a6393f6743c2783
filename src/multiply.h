/* The micro-kernel: rows times a panel of packed weights, under every product there is.
 *
 * A tile is up to FRN_TALL rows by one panel of sums.  Each sum is one chain of fused multiply-adds
 * in the order of k, whatever the number of rows in its tile, so the bits of an element depend on
 * neither the batch nor the threads.  Sums start from where their first terms lie, in bias or in
 * rows, and pass to the epilogue through a buffer in L1: a few dozen stores and loads against
 * thousands of products, and the epilogues need no instance per tile shape.
 */
#ifndef FRN_MULTIPLY_H
#define FRN_MULTIPLY_H

#include "kernels.h"
#include "units.h"

#define TILE ((size_t)FRN_SLOTS * LANES) /* a tile's row, in elements */
/* Steps of k that operands are asked for ahead: they come from L2, or from farther, and rows whose
 * elements lie apart come in no order that a processor guesses. */
#define PREFETCH 16

/* Vectors of a tile that one pass over k takes: many rows leave registers for two of four. */
#define PASS(rows, width) ((width) == 4 && (rows) > FRN_MR ? 2 : (width))

/* Most rows of tiles of so many vectors, where there are `rows`: a tile that holds them all reads
 * the weights once, of several those of one pass are a little faster, and only those of FRN_MR rows
 * can ask for pieces. */
INLINE size_t most_rows(size_t rows, int width, int asks_for_pieces)
{
    if (asks_for_pieces || (width == 4 && rows > FRN_TALL)) return FRN_MR;
    return width == 3 ? FRN_TALL_OF_3 : FRN_TALL;
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
    const char *const *piece; /* and, with FRN_MR rows at most, pieces as wide as a tile, */
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

/* Where the sums of a tile start: vector v of row r at row[r] + at[v], of a second panel's tile
 * `second` elements further. */
typedef struct {
    const real *row[FRN_TALL];
    size_t at[FRN_SLOTS];
    size_t second;
} tile_start;

/* At zero.  Filled in place, as what follows: a copy in vectors would wait for these stores. */
INLINE void from_zero(tile_start *start, size_t rows)
{
    _Alignas(64) static const real zero[LANES];
    for (size_t r = 0; r < rows; r++) start->row[r] = zero;
    for (size_t v = 0; v < FRN_SLOTS; v++) start->at[v] = 0;
    start->second = 0;
}

/* At the sums that the tile holds. */
INLINE void from_tile(tile_start *start, const real *tile, size_t rows)
{
    for (size_t r = 0; r < rows; r++) start->row[r] = tile + r * TILE;
    for (size_t v = 0; v < FRN_SLOTS; v++) start->at[v] = v * LANES;
    start->second = FRN_TALL * TILE;
}

/* Vectors [first, first + pass) of a tile.  Where rows beyond FRN_MR point to themselves, registers
 * are left for little else: their elements are neighbors, and they ask for no pieces. */
INLINE void multiply_pass(const int panels, const int rows, const size_t first, const int width,
                          real *tile, const tile_start *start, const real *const *a, size_t step,
                          const real *w, size_t k, const ahead_of_tile *const ahead)
{
    const int pass = PASS(rows, width), tall = rows > FRN_MR;
    V sum[2][FRN_TALL][FRN_SLOTS];
    const real *row[FRN_TALL];
    const size_t apart = k * width * LANES;
    const int asks = panels * rows >= FRN_PAIR_LEAST; /* else the loads themselves come as often */
    const char *panel = ahead ? ahead->panel : NULL;
    uint64_t place = 0;                      /* in the pieces: lines, times 2^32 */
    ptrdiff_t at = tall ? -(ptrdiff_t)k : 0; /* from the rows' ends: one register less */
    tile += first * LANES;
    w += first * LANES;
    UNROLL for (int r = 0; r < rows; r++) row[r] = tall ? a[r] + k : a[r];
    UNROLL for (int p = 0; p < panels; p++) UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < pass; v++) sum[p][r][v] =
            vload(start->row[r] + start->at[first + v] + p * start->second);
    /* The loop tests at its end, or gcc keeps a second copy of the sums and spills both. */
    do {
        if (!tall) __builtin_prefetch(row[0] + at + PREFETCH * step);
        if (ahead) {
            __builtin_prefetch(panel, 0, 2);
            if (pass * sizeof(V) > 2 * LINE_BYTES) __builtin_prefetch(panel + ahead->second, 0, 2);
            panel += ahead->per_step;
        }
        if (ahead && !tall) {
            const size_t line = place >> 32;
            __builtin_prefetch(ahead->piece[line / PIECE_LINES] + line % PIECE_LINES * LINE_BYTES);
            place += ahead->rate;
        }
        UNROLL for (int p = 0; p < panels; p++)
        {
            /* The fewer of the two wait in registers, and the others come one at a time: what fits
             * in 16 and in 32. */
            V x[FRN_TALL], weight[FRN_SLOTS];
            if (rows < pass) UNROLL for (int r = 0; r < rows; r++) x[r] = vset1(row[r][at]);
            UNROLL for (int v = 0; v < pass; v++)
            {
                const real *from = w + p * apart + v * LANES;
                weight[v] = vload(from);
                if (asks && v * sizeof(V) % LINE_BYTES == 0)
                    __builtin_prefetch(from + PREFETCH * width * LANES);
                if (rows < pass)
                    UNROLL for (int r = 0; r < rows; r++) sum[p][r][v] =
                        vfma(x[r], weight[v], sum[p][r][v]);
            }
            if (rows >= pass) UNROLL for (int r = 0; r < rows; r++)
                {
                    x[r] = vset1(row[r][at]);
                    UNROLL for (int v = 0; v < pass; v++) sum[p][r][v] =
                        vfma(x[r], weight[v], sum[p][r][v]);
                }
        }
        at += tall ? 1 : (ptrdiff_t)step;
        w += width * LANES;
    } while (tall ? at != 0 : --k != 0);
    UNROLL for (int p = 0; p < panels; p++) UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < pass; v++)
            vstore(tile + (p * FRN_TALL + r) * TILE + v * LANES, sum[p][r][v]);
}

/* tile (rows, width vectors) = start + a (rows, k) w (k, width vectors); k > 0; a's elements lie
 * `step` apart: 1, where there are more than FRN_MR rows.  With two panels the second tile follows
 * the first, and its weights the first's: few rows alone would wait for each sum's own chain.
 * `ahead` may be NULL. */
typedef void multiply_fn(real *tile, const tile_start *start, const real *const *a, size_t step,
                         const real *w, size_t k);
typedef void multiply_ahead_fn(real *tile, const tile_start *start, const real *const *a,
                               size_t step, const real *w, size_t k, const ahead_of_tile *ahead);
/* One pass of two is a function of its own, or what only the second needs takes registers from the
 * rows of the first. */
#define NOINLINE static __attribute__((noinline))
#define MULTIPLY(panels, rows, width)                                                             \
    NOINLINE void pass_##panels##x##rows##x##width(real *tile, const tile_start *start,           \
                                                   const real *const *a, const real *w, size_t k, \
                                                   size_t first)                                  \
    {                                                                                             \
        multiply_pass(panels, rows, first, width, tile, start, a, 1, w, k, NULL);                 \
    }                                                                                             \
    static void multiply_##panels##x##rows##x##width(real *tile, const tile_start *start,         \
                                                     const real *const *a, size_t step,           \
                                                     const real *w, size_t k)                     \
    {                                                                                             \
        if (PASS(rows, width) == width)                                                           \
            multiply_pass(panels, rows, 0, width, tile, start, a, step, w, k, NULL);              \
        else                                                                                      \
            for (size_t first = 0; first < width; first += PASS(rows, width))                     \
                pass_##panels##x##rows##x##width(tile, start, a, w, k, first);                    \
    }
#define MULTIPLY_AHEAD(rows, width)                                                               \
    NOINLINE void pass_ahead_##rows##x##width(real *tile, const tile_start *start,                \
                                              const real *const *a, const real *w, size_t k,      \
                                              const ahead_of_tile *ahead, size_t first)           \
    {                                                                                             \
        multiply_pass(1, rows, first, width, tile, start, a, 1, w, k, ahead);                     \
    }                                                                                             \
    static void multiply_ahead_##rows##x##width(real *tile, const tile_start *start,              \
                                                const real *const *a, size_t step, const real *w, \
                                                size_t k, const ahead_of_tile *ahead)             \
    {                                                                                             \
        if (PASS(rows, width) == width)                                                           \
            multiply_pass(1, rows, 0, width, tile, start, a, step, w, k, ahead);                  \
        else                                                                                      \
            for (size_t first = 0; first < width; first += PASS(rows, width))                     \
                pass_ahead_##rows##x##width(tile, start, a, w, k, ahead, first);                  \
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
MULTIPLY_ROWS(1, 7) MULTIPLY_ROWS(1, 8)
MULTIPLY_ROWS_AHEAD(4) MULTIPLY_ROWS_AHEAD(5) MULTIPLY_ROWS_AHEAD(6) MULTIPLY_ROWS_AHEAD(7)
MULTIPLY_ROWS_AHEAD(8)
#elif FRN_MR == 3
MULTIPLY_ROWS(1, 4) MULTIPLY_ROWS(1, 5) MULTIPLY_ROWS(1, 6)
MULTIPLY_ROWS_AHEAD(3) MULTIPLY_ROWS_AHEAD(4) MULTIPLY_ROWS_AHEAD(5) MULTIPLY_ROWS_AHEAD(6)
#else
#error "multiply.h has micro-kernels for tiles of 3 and of 6 rows"
#endif
static multiply_fn *const multiply_tile[FRN_TALL][FRN_SLOTS] = {
    WIDTHS(1, 1), WIDTHS(1, 2), WIDTHS(1, 3), WIDTHS(1, 4), WIDTHS(1, 5), WIDTHS(1, 6),
#if FRN_MR == 6
    WIDTHS(1, 7), WIDTHS(1, 8),
#endif
};
static multiply_fn *const multiply_pair[FRN_PAIR_ROWS][FRN_SLOTS] = {
    WIDTHS(2, 1),
#if FRN_MR == 6
    WIDTHS(2, 2), WIDTHS(2, 3),
#endif
};
static multiply_ahead_fn *const multiply_ahead[FRN_TALL - FRN_AHEAD_ROWS + 1][FRN_SLOTS] = {
#if FRN_MR == 6
    WIDTHS_AHEAD(4), WIDTHS_AHEAD(5), WIDTHS_AHEAD(6), WIDTHS_AHEAD(7), WIDTHS_AHEAD(8),
#else
    WIDTHS_AHEAD(3), WIDTHS_AHEAD(4), WIDTHS_AHEAD(5), WIDTHS_AHEAD(6),
#endif
};
/* clang-format on */

#endif
