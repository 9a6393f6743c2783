/* What the two time loops share: where the rows of a step lie, and a task's scratch. */
#ifndef FRN_WALK_H
#define FRN_WALK_H

#include "barrier.h"
#include "epilogues.h"

/* The part's sequences at step t; the others have ended. */
INLINE size_t alive(const frn_pass *p, const frn_part *part, size_t t)
{
    const size_t size = t < p->steps ? (size_t)p->sizes[t] : 0;
    return size > part->first ? smaller(size, part->last) - part->first : 0;
}

/* A stage's units of one member: panels of `vectors` vectors.  Where the last two share what is
 * left, they stay together: narrower panels of other weights have no border between them. */
INLINE void share(const frn_part *part, int vectors, size_t units, size_t *begin, size_t *end)
{
    const panel_cut cut = cut_panels(units, vectors);
    const size_t panels = cut.count - (cut.last % cut.width != 0);
    *begin = smaller(panels * part->member / part->members * cut.width, units);
    *end = part->member + 1 < part->members
               ? smaller(panels * (part->member + 1) / part->members * cut.width, units)
               : units;
}

static void meet(const frn_part *part)
{
    if (part->members > 1) frn_barrier_wait(part->barrier, (size_t)part->members);
}

INLINE const frn_cell_info *info_of(const frn_pass *p)
{
    return &cell_info[p->cell];
}
INLINE real *row_of(const frn_rows *rows, size_t t, size_t i)
{
    return (real *)rows->start[i] + (ptrdiff_t)t * rows->step[i];
}

/* Row of z, c, kept and masked for step t of sequence i: one per step, or one per sequence. */
INLINE size_t kept_row(const frn_pass *p, size_t t, size_t i)
{
    return p->keep ? (size_t)p->base[t] + i : i;
}
INLINE real *at_row(void *rows, size_t row, size_t width)
{
    return (real *)rows + row * width;
}

/* The step's rows as arrays of pointers, and what they point to for the stage at hand. */
typedef struct {
    step_rows rows;
    real **z, **z_next, **c, **h, **kept, **masked, **dh, **dc, **dp;
    const real **h_prev, **c_prev, **mask, **dy, **operand;
    void *scratch; /* of stages */
} step_arrays;

enum { STEP_ARRAYS = 14 };

static void carve_step(void **scratch, size_t rows, step_arrays *s)
{
    const size_t bytes = rows * sizeof(void *);
    s->z = carve(scratch, bytes);
    s->z_next = carve(scratch, bytes);
    s->c = carve(scratch, bytes);
    s->h = carve(scratch, bytes);
    s->kept = carve(scratch, bytes);
    s->masked = carve(scratch, bytes);
    s->dh = carve(scratch, bytes);
    s->dc = carve(scratch, bytes);
    s->dp = carve(scratch, bytes);
    s->h_prev = carve(scratch, bytes);
    s->c_prev = carve(scratch, bytes);
    s->mask = carve(scratch, bytes);
    s->dy = carve(scratch, bytes);
    s->operand = carve(scratch, bytes);
}

/* The rows that stand at step t whichever way time is walked. */
static void find_rows(const frn_pass *p, size_t first, size_t m, size_t t, step_arrays *s)
{
    const size_t units = round_up(p->units), width = round_up(p->width);
    for (size_t i = 0; i < m; i++) {
        const size_t row = kept_row(p, t, first + i);
        if (p->c) {
            s->c[i] = at_row(p->c, row, units);
            s->c_prev[i] =
                t ? at_row(p->c, kept_row(p, t - 1, first + i), units) : p->c0[first + i];
        }
        if (p->kept) s->kept[i] = at_row(p->kept, row, units);
        s->h[i] = row_of(&p->y, t, first + i);
        s->h_prev[i] = t ? row_of(&p->y, t - 1, first + i) : p->h0[first + i];
        s->operand[i] = s->h_prev[i];
        if (p->mask) {
            s->mask[i] = p->mask[first + i];
            s->operand[i] = at_row(p->masked, row, width);
        }
    }
}

/* Bytes a walk needs: pointers, a block's rows of sums, and what stages put between. */
enum { BLOCK_ROWS = 96 };

static size_t walk_bytes(const frn_pass *p, size_t rows)
{
    const frn_cell_info *info = info_of(p);
    const size_t block = rows > BLOCK_ROWS ? rows : BLOCK_ROWS;
    size_t bytes = STEP_ARRAYS * (rows * sizeof(void *) + 64) + 2 * (block * sizeof(void *) + 64);
    bytes += block * p->lead * sizeof(real) + 64;
    bytes += partial_bytes(p->inputs + round_up(p->width) + p->lead, block) + 64;
    if (p->blas) {
        const size_t widest = p->lead + p->inputs + round_up(p->width);
        bytes += stage_bytes(block, info->slots, p->units > p->width ? p->units : p->width, widest);
    }
    return bytes;
}

#endif
