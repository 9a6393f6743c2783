/* Sums of outer products: the gradients of weights, dw += d' x over a block of rows.
 *
 * The same micro-kernel, with k running over rows: x is packed in panels, and d's columns are read
 * where they lie.  Work is split by output tile and k is never split, so the bits do not depend on
 * the threads; the caller cuts rows into blocks by the shape alone.
 */
#ifndef FRN_OUTER_H
#define FRN_OUTER_H

#include "stage.h"

enum {
    GROUP_TILES = 16,  /* tiles of d that one task multiplies with one panel of x */
    SUM_COLUMNS = 128, /* columns of d whose sums one task makes */
};

INLINE size_t parts(size_t n, size_t part)
{
    return (n + part - 1) / part;
}
INLINE size_t x_panels(const frn_outer *p)
{
    return p->dw ? panel_count(p->columns, FRN_SLOTS) : 0;
}

static size_t outer_bytes(const frn_outer *p)
{
    return p->rows * (p->blas ? p->columns : round_up(p->columns)) * sizeof(real);
}

/* Tasks: panels of x, then the sums of d's columns. */
static size_t outer_pack_tasks(const frn_outer *p)
{
    return x_panels(p) + (p->db ? p->blocks * parts(p->n, SUM_COLUMNS) : 0);
}

/* sums (columns) += d (columns) */
INLINE void add_row(real *sums, const real *d, size_t columns)
{
    for (size_t j = 0; j < columns; j += LANES)
        store_units(sums + j, columns - j,
                    load_units(sums + j, columns - j) + load_units(d + j, columns - j));
}

static void sum_rows(const frn_outer *p, size_t block, size_t group)
{
    const size_t column = group * SUM_COLUMNS, columns = smaller(p->n - column, SUM_COLUMNS);
    const real *d = (const real *)p->d + p->offset[block] + column;
    real sums[SUM_COLUMNS] = {0};
    for (size_t i = 0; i < p->rows; i++, d += p->ldd) add_row(sums, d, columns);
    add_row((real *)p->db + p->row[block] + column, sums, columns);
}

static void pack_x(const frn_outer *p, size_t panel)
{
    const size_t column = panel * TILE, left = p->columns - column;
    const size_t width = round_up(smaller(left, TILE));
    const real *const *x = (const real *const *)p->x;
    for (size_t i = 0; i < p->rows; i++) {
        if (p->blas) {
            memcpy((real *)p->packed_x + i * p->columns + column, x[i] + column,
                   smaller(left, TILE) * sizeof(real));
            continue;
        }
        real *out = (real *)p->packed_x + p->rows * column + i * width;
        for (size_t v = 0; v < width; v += LANES)
            vstore(out + v, load_units(x[i] + column + v, left - v));
    }
}

static void outer_pack(const frn_outer *p, size_t task)
{
    const size_t panels = x_panels(p), groups = parts(p->n, SUM_COLUMNS);
    if (task < panels)
        pack_x(p, task);
    else
        sum_rows(p, (task - panels) / groups, (task - panels) % groups);
}

/* Tasks: (panel of x, block, group of tiles of d); a panel's tasks follow each other, so that it
 * stays in L2. */
static size_t outer_tasks(const frn_outer *p)
{
    return p->dw ? (p->blas ? 1 : x_panels(p)) * p->blocks * parts(p->n, GROUP_TILES * FRN_MR) : 0;
}

static void outer_blas(const frn_outer *p, size_t block, size_t group)
{
    const size_t first = group * GROUP_TILES * FRN_MR,
                 last = smaller(first + GROUP_TILES * FRN_MR, p->n);
    const real *d = (const real *)p->d + p->offset[block] + first;
    real *dw = (real *)p->dw + (p->row[block] + first) * p->columns;
    p->blas->gemm(1, last - first, p->columns, p->rows, d, p->ldd, p->packed_x, p->columns, 1.0, dw,
                  p->columns);
}

static void outer(const frn_outer *p, size_t task)
{
    const size_t groups = parts(p->n, GROUP_TILES * FRN_MR);
    const size_t group = task % groups, block = task / groups % p->blocks,
                 panel = task / groups / p->blocks;
    if (p->blas) {
        outer_blas(p, block, group);
        return;
    }
    _Alignas(64) real tile[FRN_MR * TILE];
    const size_t column = panel * TILE, left = p->columns - column;
    const int vectors = (int)(round_up(smaller(left, TILE)) / LANES);
    const real *x = (const real *)p->packed_x + p->rows * column;
    const size_t end = smaller((group + 1) * GROUP_TILES * FRN_MR, p->n);
    for (size_t row = group * GROUP_TILES * FRN_MR; row < end; row += FRN_MR) {
        const size_t rows = smaller(end - row, FRN_MR);
        const real *d = (const real *)p->d + p->offset[block] + row;
        const real *a[FRN_MR];
        for (size_t r = 0; r < rows; r++) a[r] = d + r;
        memset(tile, 0, sizeof tile);
        multiply_tile[rows - 1][vectors - 1](tile, a, p->ldd, x, p->rows);
        for (size_t r = 0; r < rows; r++) {
            real *dw = (real *)p->dw + (p->row[block] + row + r) * p->columns + column;
            for (int v = 0; v < vectors; v++) {
                const size_t at = (size_t)v * LANES;
                store_units(dw + at, left - at,
                            load_units(dw + at, left - at) + vload(tile + r * TILE + at));
            }
        }
    }
}

#endif
