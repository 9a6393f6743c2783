/* The loop backwards in time: the gradients of all sums, and of the states.
 *
 * At step t the product of step t + 1's gradients with the recurrent weights gives, with what was
 * carried past it and with dy, the gradient of h_t; the cell's formula turns gates into gradients
 * of their sums, in place.  The gradients of x and of the weights follow from those rows at once
 * for many steps, outside this loop.
 */
#ifndef FRN_BACKWARD_H
#define FRN_BACKWARD_H

#include "walk.h"

/* z(t) for `m` rows, from the slot where stage 0's recurrent product enters */
static void find_gradients(const frn_pass *p, size_t first, size_t m, size_t t, int slot,
                           const real **out)
{
    const size_t width = p->lead;
    for (size_t i = 0; i < m; i++)
        out[i] = at_row(p->z, kept_row(p, t, first + i), width) + slot * round_up(p->units);
}

static void find_carries(const frn_pass *p, size_t first, size_t m, step_arrays *s)
{
    for (size_t i = 0; i < m; i++) {
        s->dh[i] = at_row(p->dh, first + i, round_up(p->width));
        if (p->dc) s->dc[i] = at_row(p->dc, first + i, round_up(p->units));
        if (p->mask) s->mask[i] = p->mask[first + i];
    }
}

/* Rows [0, next) continue from step t + 1; the others end at t and start from the state's gradient.
 */
static void enter(stage_call *call, size_t next, size_t m)
{
    call->end = next;
    run_stage(call);
    call->begin = next;
    call->end = m;
    call->a = NULL;
    run_stage(call);
}

static void backward_step(const frn_pass *p, const frn_part *part, size_t t, step_arrays *s)
{
    const frn_cell_info *info = info_of(p);
    const size_t first = part->first, m = alive(p, part, t), next = alive(p, part, t + 1);
    if (m == 0) return;
    find_rows(p, first, m, t, s);
    find_carries(p, first, m, s);
    const real **gradients = (const real **)s->z_next;
    find_gradients(p, first, next, t + 1, info->stage[0].first, gradients);
    for (size_t i = 0; i < m; i++) {
        s->z[i] = at_row(p->z, kept_row(p, t, first + i), p->lead);
        if (p->dy.start) s->dy[i] = row_of(&p->dy, t, first + i);
        if (p->dp) s->dp[i] = at_row(p->dp, kept_row(p, t, first + i), round_up(p->width));
    }
    step_rows rows = {
        .stride = round_up(p->units),
        .first = cell_epilogues[p->cell].backward_first[0],
        .z = s->z,
        .h = s->h,
        .h_prev = s->h_prev,
        .c = s->c,
        .c_prev = s->c_prev,
        .mask = p->mask ? s->mask : NULL,
        .dy = p->dy.start ? s->dy : NULL,
        .dh = s->dh,
        .dc = s->dc,
        .dp = s->dp,
    };
    stage_call call = {
        .a = gradients,
        .w = &p->w_h_back[0],
        .slots = 1,
        .vectors = p->w_h_back[0].vectors,
        .backwards = t & 1,
        .epilogue = cell_epilogues[p->cell].backward[0],
        .context = &rows,
        .blas = p->blas,
        .scratch = s->scratch,
    };
    share(part, call.vectors, p->width, &call.unit, &call.units);
    enter(&call, next, m);
    meet(part);
    if (info->stages == 1) return;
    /* the second stage's operand was made by the first one: no row is new here */
    if (!info->projected) find_gradients(p, first, m, t, info->stage[1].first, gradients);
    rows.first = cell_epilogues[p->cell].backward_first[1];
    rows.h_prev = s->operand;
    if (info->projected) rows.mask = NULL;
    call.begin = 0;
    call.end = m;
    call.a = info->projected ? (const real *const *)s->dp : gradients;
    call.w = &p->w_h_back[1];
    share(part, call.vectors, p->units, &call.unit, &call.units);
    call.epilogue = cell_epilogues[p->cell].backward[1];
    run_stage(&call);
    meet(part);
}

/* Gradients of the sums at the first step, brought to the initial state */
static void backward_state(const frn_pass *p, const frn_part *part, step_arrays *s)
{
    const size_t first = part->first, m = alive(p, part, 0);
    const real **gradients = (const real **)s->z_next;
    find_carries(p, first, m, s);
    find_gradients(p, first, m, 0, info_of(p)->stage[0].first, gradients);
    const step_rows rows = {.mask = p->mask ? s->mask : NULL, .dh = s->dh};
    stage_call call = {
        .end = m,
        .a = gradients,
        .w = &p->w_h_back[0],
        .slots = 1,
        .vectors = p->w_h_back[0].vectors,
        .epilogue = FROM(state_backward),
        .context = &rows,
        .blas = p->blas,
        .scratch = s->scratch,
    };
    share(part, call.vectors, p->width, &call.unit, &call.units);
    run_stage(&call);
}

static void backward(const frn_pass *p, const frn_part *part, void *scratch)
{
    step_arrays s;
    carve_step(&scratch, part->last - part->first, &s);
    s.scratch = scratch;
    for (size_t t = part->to; t-- > part->from;) backward_step(p, part, t, &s);
    if (part->from == 0) backward_state(p, part, &s);
}

#endif
