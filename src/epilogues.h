/* Epilogues: the cells' formulas applied to a tile of sums and the rows of state around it.
 *
 * One body forward and one backward; each cell's epilogue is that body with a constant formula and
 * constant flags that say which rows it reads and writes.  Rows that a user owns (x, y, states)
 * are touched in their own units only; rows in arenas have room for whole vectors, and those that
 * a product reads beyond its units are written whole, so that it never meets an undefined number.
 */
#ifndef FRN_EPILOGUES_H
#define FRN_EPILOGUES_H

#include "cells.h"
#include "product.h"

/* The rows of one step, each an array indexed by the row in the task; NULL where the cell has none.
 */
typedef struct {
    size_t stride;  /* from slot to slot in a row of z */
    int first;      /* slot of z that the tile's first slot is */
    int gate;       /* slot of z that holds `gate` */
    int keep_gates; /* store the tile's slots in z */
    real *const *z;
    const real *const *h_prev, *const *c_prev;
    real *const *c;
    real *const *h; /* where h goes: y, or a kept row */
    const real *const *mask;
    real *const *masked; /* the next step's operand; an entry is NULL where the sequence ends */

    const real *const *dy;
    real *const *dh, *const *dc; /* carried */
    real *const *dp;
} step_rows;

/* Stores what a formula has left. */
INLINE void finish(const int slots, const int flags, const step_rows *x, size_t i, size_t at,
                   size_t n, const forward_unit *u)
{
    if (flags & CELL) vstore(x->c[i] + at, u->c);
    store_units(x->h[i] + at, n, u->h);
    if (x->masked && x->masked[i]) vstore(x->masked[i] + at, u->h * vload(x->mask[i] + at));
    if (x->keep_gates)
        UNROLL for (int s = 0; s < slots; s++)
            vstore(x->z[i] + (x->first + s) * x->stride + at, u->s[s]);
}

/* `output` is the formula's second part, or NULL: done for all rows of the tile after the first. */
INLINE void forward_body(const int slots, const int flags, forward_formula *const formula,
                         forward_formula *const output, const step_rows *x, size_t row, size_t rows,
                         size_t unit, size_t units, int vectors, const real *tile)
{
    forward_unit waiting[FRN_TALL];
    for (int v = 0; v < vectors; v++, tile += LANES) {
        const size_t at = unit + (size_t)v * LANES, n = units - (size_t)v * LANES;
        for (size_t r = 0, i = row; r < rows; r++, i++) {
            forward_unit u;
            UNROLL for (int s = 0; s < slots; s++) u.s[s] =
                vload(tile + r * TILE + s * vectors * LANES);
            if (flags & H_PREV) u.h_prev = load_units(x->h_prev[i] + at, n);
            if (flags & CELL) u.c_prev = load_units(x->c_prev[i] + at, n);
            if (flags & GATE) u.gate = vload(x->z[i] + x->gate * x->stride + at);
            formula(&u);
            if (output)
                waiting[r] = u;
            else
                finish(slots, flags, x, i, at, n, &u);
        }
        for (size_t r = 0; output && r < rows; r++) {
            output(&waiting[r]);
            finish(slots, flags, x, row + r, at, n, &waiting[r]);
        }
    }
}

INLINE void backward_body(const int slots, const int flags, backward_formula *const formula,
                          const step_rows *x, size_t row, size_t rows, size_t unit, size_t units,
                          int vectors, const real *tile)
{
    for (size_t i = row; i < row + rows; i++, tile += TILE)
        for (int v = 0; v < vectors; v++) {
            const size_t at = unit + (size_t)v * LANES, n = units - (size_t)v * LANES;
            const V mask = x->mask ? vload(x->mask[i] + at) : vset1(1);
            backward_unit u;
            u.dh = vload(tile + v * LANES);
            if (flags & ENTRY) {
                u.dh = vfma(u.dh, mask, vload(x->dh[i] + at));
                if (x->dy) u.dh = u.dh + load_units(x->dy[i] + at, n);
            }
            UNROLL for (int s = 0; s < slots; s++) u.s[s] =
                vload(x->z[i] + (x->first + s) * x->stride + at);
            if (flags & H) u.h = load_units(x->h[i] + at, n);
            if (flags & H_PREV) u.h_prev = load_units(x->h_prev[i] + at, n);
            if (flags & CELL) {
                u.c = vload(x->c[i] + at);
                u.c_prev = load_units(x->c_prev[i] + at, n);
                u.dc = vload(x->dc[i] + at);
            }
            formula(&u);
            UNROLL for (int s = 0; s < slots; s++)
                vstore(x->z[i] + (x->first + s) * x->stride + at, u.s[s]);
            if (flags & CELL) vstore(x->dc[i] + at, u.dc);
            if (flags & PROJECT) vstore(x->dp[i] + at, u.dh), u.dh = vzero();
            if (flags & ONWARD)
                vstore(x->dh[i] + at, vfma(u.dh, mask, vload(x->dh[i] + at)));
            else if (flags & ENTRY)
                vstore(x->dh[i] + at, u.dh);
        }
}

/* What a tile of the loop backwards touches first in its step: what is carried, and what the step
 * before has read, is in cache. */
INLINE size_t backward_pieces(const int slots, const int flags, const step_rows *x, size_t row,
                              size_t rows, size_t unit, const char **piece)
{
    size_t n = 0;
    for (int s = 0; s < slots; s++)
        n = list_pieces(piece, n, (const real *const *)x->z, row, rows,
                        (x->first + s) * x->stride + unit);
    if (flags & H) n = list_pieces(piece, n, (const real *const *)x->h, row, rows, unit);
    if (flags & H_PREV) n = list_pieces(piece, n, x->h_prev, row, rows, unit);
    if (flags & CELL) n = list_pieces(piece, n, x->c_prev, row, rows, unit);
    if (flags & ENTRY && x->dy) n = list_pieces(piece, n, x->dy, row, rows, unit);
    return n;
}

#define FORWARD(name, slots, flags, formula, output)                                           \
    static void name(const void *x, size_t row, size_t rows, size_t unit, size_t units,        \
                     int vectors, const real *tile)                                            \
    {                                                                                          \
        forward_body(slots, flags, formula, output, x, row, rows, unit, units, vectors, tile); \
    }
#define BACKWARD(name, slots, flags, formula)                                           \
    static void name(const void *x, size_t row, size_t rows, size_t unit, size_t units, \
                     int vectors, const real *tile)                                     \
    {                                                                                   \
        backward_body(slots, flags, formula, x, row, rows, unit, units, vectors, tile); \
    }                                                                                   \
    static size_t name##_pieces(const void *x, size_t row, size_t rows, size_t unit,    \
                                const char **piece)                                     \
    {                                                                                   \
        return backward_pieces(slots, flags, x, row, rows, unit, piece);                \
    }

FORWARD(lstm_forward, 4, CELL, lstm_formula, lstm_output)
FORWARD(projection_forward, 1, 0, projection_formula, NULL)
FORWARD(gru_gates_forward, 2, H_PREV, gru_gates_formula, NULL)
FORWARD(gru_forward, 1, H_PREV | GATE, gru_formula, NULL)
FORWARD(gru_after_forward, 4, H_PREV, gru_after_formula, gru_after_output)
FORWARD(rnn_tanh_forward, 1, 0, rnn_tanh_formula, NULL)
FORWARD(rnn_relu_forward, 1, 0, rnn_relu_formula, NULL)
FORWARD(rnn_sigmoid_forward, 1, 0, rnn_sigmoid_formula, NULL)

BACKWARD(lstm_backward, 4, ENTRY | CELL, lstm_back)
BACKWARD(projected_lstm_backward, 4, CELL, lstm_back)
BACKWARD(projection_backward, 0, ENTRY | PROJECT, carry_back)
BACKWARD(gru_backward, 2, ENTRY | H_PREV, gru_back)
BACKWARD(gru_gates_backward, 1, ONWARD | H_PREV, gru_gates_back)
BACKWARD(gru_after_backward, 4, ENTRY | H_PREV, gru_after_back)
BACKWARD(rnn_tanh_backward, 1, ENTRY | H, rnn_tanh_back)
BACKWARD(rnn_relu_backward, 1, ENTRY | H, rnn_relu_back)
BACKWARD(rnn_sigmoid_backward, 1, ENTRY | H, rnn_sigmoid_back)
BACKWARD(state_backward, 0, ENTRY, carry_back)

#define TO(name)   {name, NULL}
#define FROM(name) {name, name##_pieces}

/* Backward, the stage that makes dh comes first; `first` is the slot whose gradients it writes. */
static const struct {
    epilogue forward[2];
    epilogue backward[2];
    int backward_first[2];
} cell_epilogues[FRN_CELLS] = {
    [FRN_LSTM] = {{TO(lstm_forward)}, {FROM(lstm_backward)}, {0}},
    [FRN_LSTM_PROJECTED] = {{TO(lstm_forward), TO(projection_forward)},
                            {FROM(projection_backward), FROM(projected_lstm_backward)},
                            {0, 0}},
    [FRN_GRU] = {{TO(gru_gates_forward), TO(gru_forward)},
                 {FROM(gru_backward), FROM(gru_gates_backward)},
                 {1, 0}},
    [FRN_GRU_AFTER] = {{TO(gru_after_forward)}, {FROM(gru_after_backward)}, {0}},
    [FRN_RNN_TANH] = {{TO(rnn_tanh_forward)}, {FROM(rnn_tanh_backward)}, {0}},
    [FRN_RNN_RELU] = {{TO(rnn_relu_forward)}, {FROM(rnn_relu_backward)}, {0}},
    [FRN_RNN_SIGMOID] = {{TO(rnn_sigmoid_forward)}, {FROM(rnn_sigmoid_backward)}, {0}},
};

#endif
