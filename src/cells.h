/* The cells: their formulas on vectors, and the stages they are made of.
 *
 * Everything around a formula - where rows lie, tails, masks, what is kept - is the same for all
 * and stands once, in epilogues.h.
 */
#ifndef FRN_CELLS_H
#define FRN_CELLS_H

#include "kernels.h"
#include "vec.h"
#include "vecmath.h"

#undef fma /* the formulas' name for it, on V */
#define fma vfma
#ifdef __OPTIMIZE__
#define FORMULA static inline __attribute__((always_inline)) void
#else /* the epilogues' constant pointers to formulas are then called, which gcc cannot inline */
#define FORMULA static inline void
#endif
#include "../fastrnn/cuda/formulas.h" /* there, since GPUs' compiler reads the installed one */

static const frn_cell_info cell_info[FRN_CELLS] = {
    [FRN_LSTM] = {.gates = 4,
                  .slots = 4,
                  .gate_of = {0, 1, 2, 3},
                  .x_slots = 4,
                  .has_c = 1,
                  .stages = 1,
                  .stage = {{.first = 0, .slots = 4, .tile_first = 0, .tile_slots = 4}}},
    [FRN_LSTM_PROJECTED] =
        {.gates = 4,
         .slots = 4,
         .gate_of = {0, 1, 2, 3},
         .x_slots = 4,
         .has_c = 1,
         .projected = 1,
         .stages = 2,
         .stage = {{.first = 0, .slots = 4, .tile_first = 0, .tile_slots = 4},
                   {.first = 0, .slots = 1, .tile_first = 0, .tile_slots = 1, .kept = 1}}},
    [FRN_GRU] = {.gates = 3,
                 .slots = 3,
                 .gate_of = {0, 1, 2},
                 .x_slots = 3,
                 .stages = 2,
                 .stage = {{.first = 0, .slots = 2, .tile_first = 0, .tile_slots = 2},
                           {.first = 2, .slots = 1, .tile_first = 2, .tile_slots = 1, .kept = 1}}},
    [FRN_GRU_AFTER] = {.gates = 3,
                       .slots = 4,
                       .gate_of = {2, 0, 1, 2},
                       .x_slots = 3,
                       .stages = 1,
                       .stage = {{.first = 1, .slots = 3, .tile_first = 0, .tile_slots = 4}}},
    [FRN_RNN_TANH] = {.gates = 1,
                      .slots = 1,
                      .x_slots = 1,
                      .stages = 1,
                      .stage = {{.slots = 1, .tile_slots = 1}}},
    [FRN_RNN_RELU] = {.gates = 1,
                      .slots = 1,
                      .x_slots = 1,
                      .stages = 1,
                      .stage = {{.slots = 1, .tile_slots = 1}}},
    [FRN_RNN_SIGMOID] = {.gates = 1,
                         .slots = 1,
                         .x_slots = 1,
                         .stages = 1,
                         .stage = {{.slots = 1, .tile_slots = 1}}},
};

#endif
