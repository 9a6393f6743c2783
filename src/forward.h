/* The loop forwards in time, blind to the cell.
 *
 * A task owns sequences [first, last) and walks them through steps [from, to) alone: no barrier.
 * The input's part of the sums is computed ahead, a block of steps at a time, so that its weights
 * are read once per BLOCK_ROWS rows however few sequences there are; every step then continues
 * the chains from there.
 */
#ifndef FRN_FORWARD_H
#define FRN_FORWARD_H

#include "walk.h"

/* Sums of steps [t, t + steps): bias and input product, stored where the steps will find them. */
static void input_product(const frn_pass *p, size_t first, size_t last, size_t t, size_t steps,
                          real **sums, const real **x, real *block, void *scratch)
{
    const frn_cell_info *info = info_of(p);
    const size_t width = p->lead;
    size_t rows = 0;
    for (size_t step = t; step < t + steps; step++) {
        const size_t m = alive(p, first, last, step);
        for (size_t i = 0; i < m; i++, rows++) {
            x[rows] = row_of(&p->x, step, first + i);
            sums[rows] =
                p->keep ? at_row(p->z, kept_row(p, step, first + i), width) : block + rows * width;
        }
    }
    const store_context store = {.out = sums, .stride = round_up(p->units), .slots = info->x_slots};
    const stage_call call = {
        .end = rows,
        .a = x,
        .w = &p->w_x,
        .slots = info->x_slots,
        .vectors = p->w_x.vectors,
        .units = round_up(p->units), /* padding too: the steps read whole vectors */
        .bias = p->bias,
        .stride = round_up(p->units),
        .epilogue = store_epilogue,
        .context = &store,
        .blas = p->blas,
        .scratch = scratch,
    };
    run_stage(&call);
}

static void first_operands(const frn_pass *p, size_t first, size_t m)
{
    const size_t width = round_up(p->width);
    for (size_t i = first; i < first + m; i++)
        for (size_t j = 0; j < width; j += LANES)
            vstore(at_row(p->masked, kept_row(p, 0, i), width) + j,
                   load_units((const real *)p->h0[i] + j, p->width - j) *
                       vload((const real *)p->mask[i] + j));
}

static void forward_step(const frn_pass *p, size_t first, size_t last, size_t t, real *const *sums,
                         step_arrays *s)
{
    const frn_cell_info *info = info_of(p);
    const size_t units = round_up(p->units), m = alive(p, first, last, t);
    const size_t next = p->mask ? alive(p, first, last, t + 1) : 0;
    find_rows(p, first, m, t, s);
    for (size_t i = 0; i < m; i++)
        s->masked[i] =
            i < next ? at_row(p->masked, kept_row(p, t + 1, first + i), round_up(p->width)) : NULL;
    for (int stage = 0; stage < info->stages; stage++) {
        const int final = stage == info->stages - 1, projects = info->projected && final;
        const int tile_first = projects ? 0 : info->stage[stage].tile_first;
        for (size_t i = 0; i < m; i++) s->z[i] = (real *)sums[i];
        for (size_t i = 0; i < m && !projects; i++) s->z_next[i] = s->z[i] + tile_first * units;
        const step_rows rows = {
            .stride = units,
            .first = tile_first,
            .gate = 1,
            .keep_gates = !projects && (p->keep || !final) && info->slots > 1,
            .z = s->z,
            .h_prev = final ? s->h_prev : s->operand,
            .c_prev = s->c_prev,
            .c = s->c,
            .h = final ? s->h : s->kept,
            .mask = s->mask,
            .masked = p->mask && final ? s->masked : NULL,
        };
        const stage_call call = {
            .end = m,
            .a = info->stage[stage].kept ? (const real *const *)s->kept : s->operand,
            .w = &p->w_h[stage],
            .first = info->stage[stage].first - info->stage[stage].tile_first,
            .slots = info->stage[stage].tile_slots,
            .vectors = p->w_h[stage].vectors,
            .units = projects ? p->width : p->units,
            .init = projects ? NULL : (const real *const *)s->z_next,
            .init_slots = projects ? 0 : (int)smaller(info->stage[stage].tile_slots, info->x_slots),
            .bias = projects ? NULL : p->bias,
            .stride = units,
            .backwards = t & 1,
            .epilogue = cell_epilogues[p->cell].forward[stage],
            .context = &rows,
            .blas = p->blas,
            .scratch = s->scratch,
        };
        run_stage(&call);
    }
}

static void forward(const frn_pass *p, size_t first, size_t last, size_t from, size_t to,
                    void *scratch)
{
    const size_t most = last - first, block_rows = most > BLOCK_ROWS ? most : BLOCK_ROWS;
    step_arrays s;
    carve_step(&scratch, most, &s);
    real **sums = carve(&scratch, block_rows * sizeof *sums);
    const real **x = carve(&scratch, block_rows * sizeof *x);
    real *block = carve(&scratch, p->keep ? 0 : block_rows * p->lead * sizeof(real));
    s.scratch = scratch;
    if (from == 0 && p->mask) first_operands(p, first, alive(p, first, last, 0));
    for (size_t t = from; t < to;) {
        const size_t m = alive(p, first, last, t);
        if (m == 0) return;
        const size_t steps = smaller(block_rows / m, to - t);
        input_product(p, first, last, t, steps, sums, x, block, scratch);
        for (size_t row = 0, end = t + steps; t < end; t++) {
            forward_step(p, first, last, t, sums + row, &s);
            row += alive(p, first, last, t);
        }
    }
}

#endif
