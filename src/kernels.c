/* All kernels of one instruction set and dtype, and the table that offers them.
 *
 * Not compiled by itself: each file in src/isa names an instruction set and a dtype and includes
 * this one, and setup.py compiles that file with the flags of its set.
 */
#include "kernels.h"

#include "attention.h"
#include "backward.h"
#include "elementwise.h"
#include "forward.h"
#include "outer.h"
#include "pack.h"

#define STRING_(x)     #x
#define STRING(x)      STRING_(x)
#define GLUE_(a, b, c) a##_##b##_##c
#define GLUE(a, b, c)  GLUE_(a, b, c)

const frn_kernels GLUE(frn_kernels, FRN_ISA_NAME, FRN_DTYPE_NAME) = {
    .isa = STRING(FRN_ISA_NAME),
    .itemsize = sizeof(real),
    .lanes = LANES,
    .tile_rows = FRN_MR,
    .tall_rows = FRN_TALL,
    .cells = cell_info,
    .packed_bytes = packed_bytes,
    .pack_tasks = pack_tasks,
    .pack = pack,
    .product = product,
    .product_bytes = product_bytes,
    .outer_bytes = outer_bytes,
    .outer_pack_tasks = outer_pack_tasks,
    .outer_pack = outer_pack,
    .outer_tasks = outer_tasks,
    .outer = outer,
    .walk_bytes = walk_bytes,
    .forward = forward,
    .backward = backward,
    .table = table,
    .cross_entropy = cross_entropy,
    .update = update,
    .sum_of_squares = sum_of_squares,
    .scale = scale,
    .add_scaled = add_scaled,
    .drop = drop,
    .gather = gather,
    .layer_norm = layer_norm,
    .layer_norm_back = layer_norm_back,
    .attention_read = attention_read,
    .attention_tasks = attention_tasks,
    .attention_bytes = attention_bytes,
    .attention = attention,
    .attention_scores_back = attention_scores_back,
    .attention_back_tasks = attention_back_tasks,
    .attention_back_bytes = attention_back_bytes,
    .attention_back = attention_back,
    .scatter_add = scatter_add,
    .layer_norm_add = layer_norm_add,
};
