/* The loop forwards in time, blind to the cell.
 *
 * A task walks its sequences alone, without a barrier, or owns a share of the units of all of them
 * and meets the others after each stage.  The input's part of the sums is computed ahead, a block
 * of steps at a time, so that its weights are read once per BLOCK_ROWS rows however few sequences
 * there are; every step then continues the chains from there.
 */
#ifndef FRN_FORWARD_H
#define FRN_FORWARD_H

#include "walk.h"

/* Rows of a step that are enough to read the weights of its inputs too: eight, if those weights and
 * the state's are not larger than PER_ROW bytes for each row, and FAR.  Beyond FAR they come from
 * memory, unless the cache that all processors share holds half of them. */
enum { FEW_ROWS = FRN_MR == 6 ? 8 : 16, PER_ROW = 1 << 20, FAR = 1 << 24 };

/* Vectors of the widest panel among the weights that a unit's sums come from: where a share begins,
 * a panel of each begins. */
static int widest(const frn_pass *p)
{
    const frn_cell_info *info = info_of(p);
    int vectors = p->w_x.vectors;
    for (int stage = 0; stage < info->stages - info->projected; stage++)
        if (p->w_h[stage].vectors > vectors) vectors = p->w_h[stage].vectors;
    return vectors;
}

/* sums (rows, slots * Hp) = bias + x W, in the part's units, with rows anywhere */
static void input_sums(const frn_pass *p, const frn_part *part, size_t rows, const real *const *x,
                       real *const *sums, void *scratch)
{
    const frn_cell_info *info = info_of(p);
    size_t unit, units;
    /* padding too: the steps read whole vectors */
    share(part, widest(p), round_up(p->units), &unit, &units);
    const store_context store = {.out = sums, .stride = round_up(p->units), .slots = info->x_slots};
    const stage_call call = {
        .end = rows,
        .a = x,
        .w = &p->w_x,
        .slots = info->x_slots,
        .vectors = p->w_x.vectors,
        .unit = unit,
        .units = units,
        .bias = p->bias,
        .stride = round_up(p->units),
        .epilogue = {.apply = store_epilogue},
        .context = &store,
        .blas = p->blas,
        .scratch = scratch,
    };
    run_stage(&call);
}

/* Where the sums of symbols [first, last) start: once for each, however often it stands in x. */
static void table(const frn_pass *p, size_t first, size_t last, void *scratch)
{
    const frn_part alone = {.members = 1};
    real **sums = carve(&scratch, (last - first) * sizeof *sums);
    for (size_t i = first; i < last; i++) sums[i - first] = at_row(p->table, i, p->lead);
    input_sums(p, &alone, last - first, (const real *const *)p->symbols + first, sums, scratch);
}

/* Where the sums of sequence i start at step t: its own row of sums, or its symbol's. */
INLINE const real *start_of(const frn_pass *p, size_t t, size_t i, const real *sums)
{
    if (!p->table) return sums;
    const void *symbol = row_of(&p->x, t, i);
    return at_row(p->table, (size_t)*(const int64_t *)symbol, p->lead);
}

/* Rows of the inputs and of the sums of steps [t, t + steps); how many. */
static size_t find_inputs(const frn_pass *p, const frn_part *part, size_t t, size_t steps,
                          real **sums, const real **x, real *block)
{
    const size_t width = p->lead;
    size_t rows = 0;
    for (size_t step = t; step < t + steps; step++) {
        const size_t m = alive(p, part, step);
        for (size_t i = part->first; i < part->first + m; i++, rows++) {
            x[rows] = row_of(&p->x, step, i);
            sums[rows] = p->keep ? at_row(p->z, kept_row(p, step, i), width) : block + rows * width;
        }
    }
    return rows;
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

/* Whether a step of m rows multiplies its inputs itself, which saves storing and loading sums:
 * there are rows enough to read those weights each step, or it is the only step, or a block has no
 * more.  Where y is x, the inputs of a step must have been read before its outputs are written. */
static int takes_inputs(const frn_pass *p, const frn_part *part, size_t m)
{
    const size_t bytes = (p->w_x.k + p->w_h[0].k) * p->lead * sizeof(real);
    const int pays = part->to - part->from == 1 || m >= BLOCK_ROWS ||
                     (m >= FEW_ROWS && bytes <= smaller(m * PER_ROW, FAR));
    return pays && p->w_x.vectors == p->w_h[0].vectors && !p->blas && !p->table && p->w_x.k &&
           p->x.start[part->first] != p->y.start[part->first];
}

/* `x` is NULL where the sums start with the input product. */
static void forward_step(const frn_pass *p, const frn_part *part, size_t t, real *const *sums,
                         const real **x, step_arrays *s)
{
    const frn_cell_info *info = info_of(p);
    const size_t first = part->first, m = alive(p, part, t);
    const size_t next = p->mask ? alive(p, part, t + 1) : 0;
    const size_t stride = round_up(p->units);
    find_rows(p, first, m, t, s);
    for (size_t i = 0; i < m; i++)
        s->masked[i] =
            i < next ? at_row(p->masked, kept_row(p, t + 1, first + i), round_up(p->width)) : NULL;
    for (int stage = 0; stage < info->stages; stage++) {
        const int final = stage == info->stages - 1, projects = info->projected && final;
        const int tile_first = projects ? 0 : info->stage[stage].tile_first;
        const int fused = x && stage == 0;
        for (size_t i = 0; i < m; i++) s->z[i] = (real *)sums[i];
        for (size_t i = 0; i < m && !projects; i++)
            s->z_next[i] = (real *)start_of(p, t, first + i, s->z[i]) + tile_first * stride;
        size_t unit, units;
        share(part, projects ? p->w_h[stage].vectors : widest(p), projects ? p->width : p->units,
              &unit, &units);
        const step_rows rows = {
            .stride = stride,
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
            .x = fused ? x : NULL,
            .w_x = &p->w_x,
            .a = info->stage[stage].kept ? (const real *const *)s->kept : s->operand,
            .w = &p->w_h[stage],
            .first = info->stage[stage].first - info->stage[stage].tile_first,
            .slots = info->stage[stage].tile_slots,
            .vectors = p->w_h[stage].vectors,
            .unit = unit,
            .units = units,
            .init = projects ? NULL : (const real *const *)s->z_next,
            .init_slots =
                projects || fused ? 0 : (int)smaller(info->stage[stage].tile_slots, info->x_slots),
            .bias = projects ? NULL : p->bias,
            .stride = stride,
            .backwards = (t + part->turn) & 1,
            .epilogue = cell_epilogues[p->cell].forward[stage],
            .context = &rows,
            .blas = p->blas,
            .scratch = s->scratch,
        };
        run_stage(&call);
        meet(part);
    }
}

static void forward(const frn_pass *p, const frn_part *part, void *scratch)
{
    const size_t most = part->last - part->first,
                 block_rows = most > BLOCK_ROWS ? most : BLOCK_ROWS;
    step_arrays s;
    carve_step(&scratch, most, &s);
    real **sums = carve(&scratch, block_rows * sizeof *sums);
    const real **x = carve(&scratch, block_rows * sizeof *x);
    real *block = carve(&scratch, p->keep ? 0 : block_rows * p->lead * sizeof(real));
    s.scratch = scratch;
    if (part->from == 0 && p->mask) {
        if (part->member == 0) first_operands(p, part->first, alive(p, part, 0));
        meet(part);
    }
    for (size_t t = part->from; t < part->to;) {
        const size_t m = alive(p, part, t);
        if (m == 0) return;
        const int fused = takes_inputs(p, part, m);
        const size_t steps = fused ? 1 : smaller(block_rows / m, part->to - t);
        const size_t rows = find_inputs(p, part, t, steps, sums, x, block);
        if (fused) {
            forward_step(p, part, t++, sums, x, &s);
            continue;
        }
        if (!p->table) input_sums(p, part, rows, x, sums, scratch);
        meet(part); /* y may lie where x does */
        for (size_t row = 0, end = t + steps; t < end; t++) {
            forward_step(p, part, t, sums + row, NULL, &s);
            row += alive(p, part, t);
        }
    }
}

#endif
