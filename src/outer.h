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
    GROUP_COLUMNS = 48, /* columns of d of one task: whole lines, and whole tiles */
    GROUP_PANELS = 4,   /* panels of x of one task: they stay in L2 while tiles of d pass */
    PACK_AHEAD = 8,     /* rows of x that are asked for before they are packed */
};

INLINE size_t x_panels(const frn_outer *p)
{
    return p->dw ? cut_panels(p->columns, FRN_SLOTS).count : 0;
}

static size_t outer_bytes(const frn_outer *p)
{
    return p->rows * (p->blas ? p->columns : round_up(p->columns)) * sizeof(real);
}

/* Tasks: panels of x. */
static size_t outer_pack_tasks(const frn_outer *p)
{
    return x_panels(p);
}

static void outer_pack(const frn_outer *p, size_t panel)
{
    const panel_cut cut = cut_panels(p->columns, FRN_SLOTS);
    const size_t column = panel_start(&cut, panel), left = p->columns - column;
    const size_t width = panel_start(&cut, panel + 1) - column;
    const real *const *x = (const real *const *)p->x;
    for (size_t i = 0; i < p->rows; i++) {
        if (i + PACK_AHEAD < p->rows)
            for (size_t v = 0; v < width; v += LINE_BYTES / sizeof(real))
                __builtin_prefetch(x[i + PACK_AHEAD] + column + v);
        if (p->blas) {
            memcpy((real *)p->packed_x + i * p->columns + column, x[i] + column,
                   smaller(left, width) * sizeof(real));
            continue;
        }
        real *out = (real *)p->packed_x + p->rows * column + i * width;
        for (size_t v = 0; v < width; v += LANES)
            vstore(out + v, load_units(x[i] + column + v, left - v));
    }
}

/* Tasks: (some panels of x, block, some tiles of d). */
static size_t outer_tasks(const frn_outer *p)
{
    return parts(p->blas || !p->dw ? 1 : x_panels(p), GROUP_PANELS) * p->blocks *
           parts(p->n, GROUP_COLUMNS);
}

/* db += the sums of some columns of d; four chains, as one alone would wait for each sum. */
static void sum_rows(const frn_outer *p, size_t block, size_t first, size_t columns)
{
    const real *d = (const real *)p->d + p->offset[block] + first;
    real *db[2] = {p->db, p->db_too};
    for (size_t j = 0; j < columns; j += LANES) {
        const size_t n = columns - j;
        V sum[4] = {vzero(), vzero(), vzero(), vzero()};
        size_t i = 0;
        for (; i + 4 <= p->rows; i += 4)
            UNROLL for (size_t c = 0; c < 4; c++) sum[c] =
                sum[c] + load_units(d + (i + c) * p->ldd + j, n);
        for (; i < p->rows; i++) sum[0] = sum[0] + load_units(d + i * p->ldd + j, n);
        const V all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        for (int k = 0; k < 2; k++) {
            real *to = db[k] ? db[k] + p->row[block] + first + j : NULL;
            if (to) store_units(to, n, load_units(to, n) + all);
        }
    }
}

static void outer_blas(const frn_outer *p, size_t block, size_t first, size_t n)
{
    const real *d = (const real *)p->d + p->offset[block] + first;
    real *dw = (real *)p->dw + (p->row[block] + first) * p->columns;
    p->blas->gemm(1, n, p->columns, p->rows, d, p->ldd, p->packed_x, p->columns, 1.0, dw,
                  p->columns);
}

/* dw (rows, width) += tile */
INLINE void add_tile(real *dw, size_t columns, size_t rows, size_t width, const real *tile)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < width; j += LANES) {
            real *to = dw + r * columns + j;
            store_units(to, width - j, load_units(to, width - j) + vload(tile + r * TILE + j));
        }
}

/* One tile of d with panels [first, last) of x.  While it is multiplied, its part of dw and, last,
 * the columns of the next tile are asked for: all come in rows that lie apart. */
static void outer_tile(const frn_outer *p, const real *d, size_t rows, real *dw, size_t first,
                       size_t last)
{
    _Alignas(64) real tile[FRN_MR * TILE];
    const real *a[FRN_MR];
    const char *piece[FRN_MR + 1];
    const panel_cut cut = cut_panels(p->columns, FRN_SLOTS);
    tile_start zero;
    from_zero(&zero, rows);
    for (size_t r = 0; r < rows; r++) a[r] = d + r;
    for (size_t panel = first; panel < last; panel++) {
        const size_t column = panel_start(&cut, panel);
        const int vectors = panel_vectors(&cut, panel);
        const real *x = (const real *)p->packed_x + p->rows * column;
        for (size_t r = 0; r < rows; r++) piece[r] = (const char *)(dw + r * p->columns + column);
        ahead_of_tile ahead = ask_for(piece, rows, p->rows, (const char *)x);
        if (panel + 1 == last) {
            ahead.panel = (const char *)(d + rows + FRN_MR - 1);
            ahead.per_step = p->ldd * sizeof(real);
        }
        if (rows >= FRN_AHEAD_ROWS)
            multiply_ahead[rows - FRN_AHEAD_ROWS][vectors - 1](tile, &zero, a, p->ldd, x, p->rows,
                                                               &ahead);
        else
            multiply_tile[rows - 1][vectors - 1](tile, &zero, a, p->ldd, x, p->rows);
        add_tile(dw + column, p->columns, rows,
                 smaller(p->columns - column, (size_t)vectors * LANES), tile);
    }
}

static void outer(const frn_outer *p, size_t task)
{
    const size_t groups = parts(p->n, GROUP_COLUMNS), block = task / groups % p->blocks,
                 panel = task / groups / p->blocks * GROUP_PANELS;
    const size_t first = task % groups * GROUP_COLUMNS, last = smaller(first + GROUP_COLUMNS, p->n);
    const real *d = (const real *)p->d + p->offset[block];
    real *dw = p->dw ? (real *)p->dw + p->row[block] * p->columns : NULL;
    if (p->dw && p->blas) outer_blas(p, block, first, last - first);
    if (p->dw && !p->blas && p->rows)
        for (size_t row = first, tiles = parts(last - first, FRN_MR); tiles; tiles--) {
            const size_t rows = parts(last - row, tiles);
            outer_tile(p, d + row, rows, dw + row * p->columns, panel,
                       smaller(panel + GROUP_PANELS, x_panels(p)));
            row += rows;
        }
    if (p->db && panel == 0) sum_rows(p, block, first, last - first);
}

#endif
