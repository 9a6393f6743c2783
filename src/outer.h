/* Sums of outer products: the gradients of weights, dw += d' x over a block of rows.
 *
 * The same micro-kernel, with k running over rows: x is packed in panels, d in tiles of FRN_MR
 * columns.  Work is split by output tile and k is never split, so the bits do not depend on the
 * threads; the caller cuts rows into blocks by the shape alone.
 */
#ifndef FRN_OUTER_H
#define FRN_OUTER_H

#include "stage.h"

enum {
    PACK_TILES = 32,  /* tiles of d that one packing task fills, reading as many lines of a row */
    GROUP_TILES = 16, /* tiles of d that one task multiplies with one panel of x */
};

INLINE size_t tile_count(const frn_outer *p)
{
    return (p->n + FRN_MR - 1) / FRN_MR;
}
INLINE size_t group_count(const frn_outer *p, size_t tiles)
{
    return (tile_count(p) + tiles - 1) / tiles;
}
INLINE size_t x_panels(const frn_outer *p)
{
    return p->dw ? panel_count(p->columns, FRN_SLOTS) : 0;
}

static void outer_bytes(const frn_outer *p, size_t *packed_d, size_t *packed_x)
{
    *packed_d = p->blas ? 0 : p->blocks * tile_count(p) * p->rows * FRN_MR * sizeof(real);
    *packed_x = p->rows * (p->blas ? p->columns : round_up(p->columns)) * sizeof(real);
}

/* Tasks: groups of tiles of d (with the sums of their columns), then panels of x. */
static size_t outer_pack_tasks(const frn_outer *p)
{
    return p->blocks * group_count(p, PACK_TILES) + x_panels(p);
}

/* sums (columns) += d (columns): a row at a time, so that d is read once and in the order it lies
 */
INLINE void add_row(real *sums, const real *d, size_t columns)
{
    for (size_t j = 0; j < columns; j += LANES)
        store_units(sums + j, columns - j,
                    load_units(sums + j, columns - j) + load_units(d + j, columns - j));
}

static void pack_d(const frn_outer *p, size_t block, size_t group)
{
    const size_t first = group * PACK_TILES, last = smaller(first + PACK_TILES, tile_count(p));
    const size_t column = first * FRN_MR, columns = smaller(last * FRN_MR, p->n) - column;
    const size_t whole = columns / FRN_MR;
    const real *d = (const real *)p->d + p->offset[block] + column;
    real *to = (real *)p->packed_d + (block * tile_count(p) + first) * p->rows * FRN_MR;
    real sums[PACK_TILES * FRN_MR] = {0};
    const int packs = p->dw && !p->blas;
    for (size_t i = 0; i < p->rows; i++, d += p->ldd) {
        if (p->db) add_row(sums, d, columns);
        if (!packs) continue;
        for (size_t tile = 0; tile < whole; tile++)
            memcpy(to + (tile * p->rows + i) * FRN_MR, d + tile * FRN_MR, FRN_MR * sizeof(real));
        for (size_t j = whole * FRN_MR; j < columns; j++)
            to[(whole * p->rows + i) * FRN_MR + j - whole * FRN_MR] = d[j];
    }
    if (p->db) add_row((real *)p->db + p->row[block] + column, sums, columns);
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
    const size_t groups = group_count(p, PACK_TILES), of_d = p->blocks * groups;
    if (task < of_d)
        pack_d(p, task / groups, task % groups);
    else
        pack_x(p, task - of_d);
}

/* Tasks: (panel of x, block, group of tiles of d); a panel's tasks follow each other, so that it
 * stays in L2. */
static size_t outer_tasks(const frn_outer *p)
{
    return p->dw ? (p->blas ? 1 : x_panels(p)) * p->blocks * group_count(p, GROUP_TILES) : 0;
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
    const size_t groups = group_count(p, GROUP_TILES);
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
    const size_t last = smaller((group + 1) * GROUP_TILES, tile_count(p));
    for (size_t i = group * GROUP_TILES; i < last; i++) {
        const size_t rows = smaller(p->n - i * FRN_MR, FRN_MR);
        const real *d = (const real *)p->packed_d + (block * tile_count(p) + i) * p->rows * FRN_MR;
        const real *a[FRN_MR];
        for (size_t r = 0; r < rows; r++) a[r] = d + r;
        memset(tile, 0, sizeof tile);
        multiply_tile[rows - 1][vectors - 1](tile, a, FRN_MR, x, p->rows);
        for (size_t r = 0; r < rows; r++) {
            real *dw = (real *)p->dw + (p->row[block] + i * FRN_MR + r) * p->columns + column;
            for (int v = 0; v < vectors; v++) {
                const size_t at = (size_t)v * LANES;
                store_units(dw + at, left - at,
                            load_units(dw + at, left - at) + vload(tile + r * TILE + at));
            }
        }
    }
}

#endif
