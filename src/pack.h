/* Packing: a weight matrix in panels, as the micro-kernel reads it. */
#ifndef FRN_PACK_H
#define FRN_PACK_H

#include "stage.h"

static size_t packed_bytes(const frn_axis *k, const frn_axis *units, int vectors)
{
    (void)vectors; /* only the last panel is narrower, by whole vectors */
    return k->blocks * k->padded * units->blocks * round_up(units->n) * sizeof(real);
}

static size_t pack_tasks(const frn_axis *units, int vectors)
{
    return cut_panels(units->n, vectors).count;
}

/* `lanes` rows of n elements, `stride` apart, as columns of n vectors, `lead` apart. */
static void pack_rows(real *to, size_t lead, const real *from, ptrdiff_t stride, size_t lanes,
                      size_t n)
{
    enum { AHEAD = 64 }; /* elements: many rows at once are more than a processor looks ahead for */
    for (size_t begin = 0; begin < n; begin += LANES, to += LANES * lead) {
        const size_t columns = smaller(n - begin, LANES);
        V v[LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            const real *row = from + (ptrdiff_t)lane * stride + begin;
            if (lane < lanes) __builtin_prefetch(row + AHEAD);
            v[lane] = lane < lanes ? load_units(row, columns) : vzero();
        }
        vtranspose(v);
        for (size_t j = 0; j < columns; j++) vstore(to + j * lead, v[j]);
    }
}

/* One panel; `plain` gives the (k, slots * Hp) matrix that BLAS multiplies with.  The elements of
 * one of the axes are neighbors. */
static void pack(void *dst, const void *src, const frn_axis *k, const frn_axis *units, int vectors,
                 int plain, size_t task)
{
    const panel_cut cut = cut_panels(units->n, vectors);
    const size_t unit = panel_start(&cut, task), left = units->n - unit;
    const size_t ours = panel_vectors(&cut, task), padded = round_up(units->n);
    const size_t inner = k->blocks * k->padded;
    const size_t lead = plain ? units->blocks * padded : units->blocks * ours * LANES;
    real *panel = (real *)dst + (plain ? unit : inner * units->blocks * unit);
    for (int run = 0; run < k->blocks; run++)
        for (int slot = 0; slot < units->blocks; slot++)
            for (size_t v = 0; v < ours; v++) {
                const real *from = (const real *)src + k->offset[run] + units->offset[slot] +
                                   (ptrdiff_t)(unit + v * LANES) * units->stride;
                real *to = panel + run * k->padded * lead +
                           (plain ? slot * padded + v * LANES : (slot * ours + v) * LANES);
                const size_t lanes = smaller(left - v * LANES, LANES);
                if (units->stride == 1)
                    for (size_t j = 0; j < k->n; j++)
                        vstore(to + j * lead, load_units(from + (ptrdiff_t)j * k->stride, lanes));
                else
                    pack_rows(to, lead, from, units->stride, lanes, k->n);
                for (size_t j = k->n; j < k->padded; j++) vstore(to + j * lead, vzero());
            }
}

#endif
