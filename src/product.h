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

/* Runs of k: of longer ones a panel would leave L2 between two tiles of rows.  Partial sums are
 * stored and reloaded between runs, so the chain of each stays as it is. */
enum { INNER = 1024 };

static size_t product_runs(const frn_product *p, size_t rows)
{
    return p->blas || rows <= FRN_MR ? 1 : (p->w.k + INNER - 1) / INNER;
}

static size_t product_bytes(const frn_product *p, size_t rows)
{
    if (p->blas) return stage_bytes(rows, 1, p->w.units, p->w.k);
    return product_runs(p, rows) > 1 ? rows * (2 * sizeof(real *) + TILE * sizeof(real)) + 3 * 64
                                     : 0;
}

/* One panel, `width` units from `unit` on, in runs of k. */
static void product_panel(const frn_product *p, size_t first, size_t last, size_t unit,
                          size_t width, const store_context *store, void *scratch)
{
    const size_t rows = last - first, runs = product_runs(p, rows);
    real *sums = carve(&scratch, rows * TILE * sizeof(real));
    real **at = carve(&scratch, rows * sizeof *at);
    const real **a = carve(&scratch, rows * sizeof *a);
    for (size_t i = 0; i < rows; i++) at[i] = sums + i * TILE;
    const store_context partial = {.out = at, .slots = 1};
    for (size_t run = 0; run < runs; run++) {
        const size_t begin = p->w.k * run / runs, end = p->w.k * (run + 1) / runs;
        const int final = run == runs - 1;
        for (size_t i = 0; i < rows; i++) a[i] = (const real *)p->a[first + i] + begin;
        frn_packed w = p->w;
        w.data = (const real *)p->w.data + p->w.k * unit + begin * width;
        w.k = end - begin;
        const stage_call call = {
            .end = rows,
            .a = a,
            .w = &w,
            .slots = 1,
            .vectors = w.vectors,
            .units = final ? smaller(p->w.units - unit, width) : width,
            .init = (const real *const *)at,
            .init_slots = run > 0,
            .bias = run == 0 && p->bias ? (const real *)p->bias + unit : NULL,
            .epilogue = {.apply = store_epilogue},
            .context = final ? store : &partial,
        };
        run_stage(&call);
    }
}

/* Rows [first, last), panels that hold units [from, to) where all are whole; with BLAS all of them.
 */
static void product(const frn_product *p, size_t first, size_t last, size_t from, size_t to,
                    void *scratch)
{
    const panel_cut cut = cut_panels(p->w.units, p->w.vectors);
    size_t panel = from / cut.width;
    const size_t end = parts(smaller(to, p->w.units), cut.width);
    from = panel_start(&cut, panel);
    /* rows are counted from the first, as the scratch is */
    store_context store = {
        .out = (real *const *)p->out + first, .at = from, .slots = 1, .accumulate = p->accumulate};
    if (product_runs(p, last - first) > 1) {
        for (; panel < end; panel++) {
            store.at = panel_start(&cut, panel);
            product_panel(p, first, last, store.at, panel_start(&cut, panel + 1) - store.at, &store,
                          scratch);
        }
        return;
    }
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
        .epilogue = {.apply = store_epilogue},
        .context = &store,
        .blas = p->blas,
        .scratch = scratch,
    };
    run_stage(&call);
}

#endif
