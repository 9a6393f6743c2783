/* Rows times a packed weight, stored or added: what layers outside time are made of. */
#ifndef FRN_PRODUCT_H
#define FRN_PRODUCT_H

#include "stage.h"

typedef struct {
    real *const *out; /* rows */
    size_t at;        /* first element of a row that is stored */
    size_t stride;    /* elements from slot to slot in a row */
    int slots;
    int accumulate;
} store_context;

static void store_epilogue(const void *context, size_t row, size_t rows, size_t unit, size_t units,
                           int vectors, const real *tile)
{
    const store_context *c = context;
    for (size_t r = 0; r < rows; r++)
        for (int slot = 0; slot < c->slots; slot++)
            for (int v = 0; v < vectors; v++) {
                real *to = c->out[row + r] + c->at + slot * c->stride + unit + (size_t)v * LANES;
                const size_t n = units - (size_t)v * LANES;
                V sum = vload(tile + r * TILE + (slot * vectors + v) * LANES);
                if (c->accumulate) sum = sum + load_units(to, n);
                store_units(to, n, sum);
            }
}

/* Results mostly lie far away: their lines are asked for while a tile is multiplied. */
static size_t store_pieces(const void *context, size_t row, size_t rows, size_t unit,
                           const char **piece)
{
    const store_context *c = context;
    return list_pieces(piece, 0, (const real *const *)c->out, row, rows, c->at + unit);
}

static size_t product_bytes(const frn_product *p, size_t rows)
{
    return p->blas ? stage_bytes(rows, 1, p->w.units, p->w.k) : partial_bytes(p->w.k, rows);
}

/* Rows [first, last), panels that hold units [from, to) where all are whole; with BLAS all of them.
 */
static void product(const frn_product *p, size_t first, size_t last, size_t from, size_t to,
                    void *scratch)
{
    const panel_cut cut = cut_panels(p->w.units, p->w.vectors);
    const size_t end = parts(smaller(to, p->w.units), cut.width);
    from = panel_start(&cut, from / cut.width);
    /* rows are counted from the first, as the scratch is */
    const store_context store = {
        .out = (real *const *)p->out + first, .at = from, .slots = 1, .accumulate = p->accumulate};
    frn_packed w = p->w;
    w.data = (const real *)p->w.data + p->w.k * from;
    const stage_call call = {
        .end = last - first,
        .a = (const real *const *)p->a + first,
        .w = &w,
        .slots = 1,
        .vectors = w.vectors,
        .units = smaller(panel_start(&cut, end), p->w.units) - from,
        .bias = p->bias ? (const real *)p->bias + from : NULL,
        .epilogue = {.apply = store_epilogue, .pieces = store_pieces},
        .context = &store,
        .blas = p->blas,
        .scratch = scratch,
    };
    run_stage(&call);
}

#endif
