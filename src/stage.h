/* A stage: sums of all rows and units, panel by panel, each tile handed to its epilogue.
 *
 * Every product of the library is one: a step's recurrent product with the cell's formula as the
 * epilogue, and plain products with one that stores.
 */
#ifndef FRN_STAGE_H
#define FRN_STAGE_H

#include "multiply.h"

#include <limits.h>
#include <string.h>

/* rows [row, row + rows), units [unit, unit + units) in `vectors` vectors per slot, sums in tile */
typedef void epilogue_fn(const void *context, size_t row, size_t rows, size_t unit, size_t units,
                         int vectors, const real *tile);

typedef struct {
    size_t begin, end;    /* rows, indices into a and init */
    const real *const *a; /* operand rows; NULL: no product, the sums are what they start from */
    const frn_packed *w;
    int first;               /* slot of the tile that the weight's first slot adds to */
    int slots, vectors;      /* of the tile */
    size_t unit, units;      /* those from `unit`, where a panel begins, up to `units` */
    const real *const *init; /* rows where the sums of slots [0, init_slots) start, or NULL */
    int init_slots;
    const real *bias; /* where the others start, or NULL: at zero */
    size_t stride;    /* elements from slot to slot in init rows and in bias */
    int backwards;    /* panels last to first: what the last call left in L2 is met first */
    epilogue_fn *epilogue;
    const void *context;
    const frn_blas *blas;
    void *scratch; /* stage_bytes, used with BLAS only */
} stage_call;

static size_t panel_count(size_t units, int vectors)
{
    const size_t width = (size_t)vectors * LANES;
    return (units + width - 1) / width;
}

/* vectors of slots [first, last) of one row of a tile, read where the slots lie `stride` apart */
INLINE void start_slots(real *tile, const real *from, size_t stride, int first, int last,
                        int vectors)
{
    for (int slot = first; slot < last; slot++)
        for (int v = 0; v < vectors; v++)
            vstore(tile + (slot * vectors + v) * LANES,
                   from ? vload(from + slot * stride + (size_t)v * LANES) : vzero());
}

static void start_tile(const stage_call *s, size_t row, size_t rows, size_t unit, int vectors,
                       real *tile)
{
    const real *bias = s->bias ? s->bias + unit : NULL;
    for (size_t r = 0; r < rows; r++, tile += TILE) {
        if (s->init_slots)
            start_slots(tile, s->init[row + r] + unit, s->stride, 0, s->init_slots, vectors);
        start_slots(tile, bias, s->stride, s->init_slots, s->slots, vectors);
    }
}

/* One panel, or two of the same width; all rows. */
static void run_panels(const stage_call *s, size_t panel, size_t panels, const real *const *a)
{
    _Alignas(64) real tile[2][FRN_MR * TILE];
    const size_t width = (size_t)s->vectors * LANES, unit = panel * width;
    const int vectors = (int)(round_up(smaller(s->units - unit, width)) / LANES);
    const real *w = a ? (const real *)s->w->data + s->w->k * s->w->slots * unit : NULL;
    /* blocks of even height: 20 rows are 5 5 5 5, not 6 6 6 2 */
    size_t left = s->end - s->begin, blocks = (left + FRN_MR - 1) / FRN_MR;
    for (size_t row = s->begin; blocks; blocks--) {
        const size_t rows = (left + blocks - 1) / blocks;
        for (size_t p = 0; p < panels; p++)
            start_tile(s, row, rows, unit + p * width, vectors, tile[p]);
        if (a) {
            multiply_fn *const *of_rows =
                panels == 2 ? multiply_pair[rows - 1] : multiply_tile[rows - 1];
            of_rows[s->w->slots * vectors - 1](tile[0] + s->first * vectors * LANES, a + row, 1, w,
                                               s->w->k);
        }
        for (size_t p = 0; p < panels; p++) {
            const size_t at = unit + p * width;
            s->epilogue(s->context, row, rows, at, smaller(s->units - at, width), vectors, tile[p]);
        }
        row += rows;
        left -= rows;
    }
}

/* All panels, for few rows two at a time. */
static void run_all(const stage_call *s, const real *const *a)
{
    const size_t width = (size_t)s->vectors * LANES, first = s->unit / width;
    const size_t panels = panel_count(s->units, s->vectors) - first;
    const size_t even = round_up(s->units) / width - first; /* all but a narrow last one */
    const size_t pairs = a && s->end - s->begin <= FRN_PAIR_ROWS ? even / 2 : 0;
    const size_t calls = panels - pairs;
    for (size_t i = 0; i < calls; i++) {
        const size_t call = s->backwards ? calls - 1 - i : i;
        if (call < pairs)
            run_panels(s, first + 2 * call, 2, a);
        else
            run_panels(s, first + call + pairs, 1, a);
    }
}

/* ---- the BLAS engine's way to the same sums: whole matrices first, then the epilogues ---- */

static size_t stage_bytes(size_t rows, int slots, size_t units, size_t k)
{
    return (rows * (slots * round_up(units) + k)) * sizeof(real) + rows * sizeof(real *) + 3 * 64;
}

static void *carve(void **scratch, size_t bytes)
{
    char *p = *scratch;
    *scratch = p + (bytes + 63) / 64 * 64;
    return p;
}

/* rows that lie evenly spaced are a matrix as they are; others are gathered */
static const real *as_matrix(const real *const *a, size_t rows, size_t k, real *gathered,
                             size_t *lda)
{
    /* rows of different arrays may stand here, whose distance only integers may express */
    const uintptr_t bytes = rows > 1 ? (uintptr_t)a[1] - (uintptr_t)a[0] : k * sizeof(real);
    int even = bytes >= k * sizeof(real) && bytes <= INT_MAX && bytes % sizeof(real) == 0;
    for (size_t i = 1; i < rows && even; i++) even = (uintptr_t)a[i] - (uintptr_t)a[i - 1] == bytes;
    *lda = bytes / sizeof(real);
    if (even) return a[0];
    *lda = k;
    for (size_t i = 0; i < rows; i++) memcpy(gathered + i * k, a[i], k * sizeof(real));
    return gathered;
}

/* s->begin is 0: a stage that multiplies counts its rows from the first, as scratch does. */
static void run_blas(const stage_call *s)
{
    const size_t rows = s->end, padded = round_up(s->units), width = s->slots * padded;
    void *scratch = s->scratch;
    real *sums = carve(&scratch, rows * width * sizeof(real));
    const real **at = carve(&scratch, rows * sizeof *at);
    real *gathered = scratch;
    for (size_t i = 0; i < rows; i++) {
        at[i] = sums + i * width;
        for (int slot = 0; slot < s->slots; slot++) {
            const real *from = slot < s->init_slots ? s->init[i] : s->bias;
            if (from)
                memcpy(sums + i * width + slot * padded, from + slot * s->stride,
                       padded * sizeof(real));
            else
                memset(sums + i * width + slot * padded, 0, padded * sizeof(real));
        }
    }
    size_t lda;
    const real *a = as_matrix(s->a, rows, s->w->k, gathered, &lda);
    const size_t n = s->w->slots * padded;
    s->blas->gemm(0, rows, n, s->w->k, a, lda, s->w->data, n, 1.0, sums + s->first * padded, width);
    stage_call rest = *s;
    rest.init = at;
    rest.init_slots = s->slots;
    rest.stride = padded;
    run_all(&rest, NULL);
}

static void run_stage(const stage_call *s)
{
    if (s->begin == s->end || s->unit == s->units) return;
    if (s->blas && s->a && s->w->k) {
        run_blas(s);
        return;
    }
    run_all(s, s->w && s->w->k ? s->a : NULL);
}

#endif
