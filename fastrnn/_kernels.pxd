# src/kernels.h as Cython sees it; what each thing means stands there.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint64_t

cdef extern from "barrier.h" nogil:
    ctypedef struct frn_barrier:
        pass

cdef extern from "spin.h" nogil:
    int64_t frn_now_ns() noexcept

cdef extern from "kernels.h" nogil:
    enum:
        FRN_SLOTS

    ctypedef struct frn_rows:
        void **start
        ptrdiff_t *step

    ctypedef struct frn_axis:
        int blocks
        size_t n, padded
        ptrdiff_t offset[4]
        ptrdiff_t stride

    ctypedef struct frn_packed:
        const void *data
        size_t k, units
        int slots, vectors

    ctypedef struct frn_blas:
        void (*gemm)(int trans_a, size_t m, size_t n, size_t k, const void *a, size_t lda,
                     const void *b, size_t ldb, double beta, void *c, size_t ldc) noexcept nogil
        int (*thread_count)() noexcept nogil

    ctypedef enum frn_cell:
        FRN_LSTM
        FRN_LSTM_PROJECTED
        FRN_GRU
        FRN_GRU_AFTER
        FRN_RNN_TANH
        FRN_RNN_RELU
        FRN_RNN_SIGMOID

    ctypedef struct frn_stage_info:
        int first, slots, tile_first, tile_slots, kept

    ctypedef struct frn_cell_info:
        int gates, slots
        int gate_of[4]
        int x_slots, stages
        frn_stage_info stage[2]
        int projected, has_c

    ctypedef struct frn_pass:
        frn_cell cell
        size_t n, steps, inputs, units, width, lead
        const int64_t *sizes
        const int64_t *base
        int keep
        const frn_blas *blas
        frn_rows x, y
        void **h0
        void **c0
        void **mask
        const void *bias
        frn_packed w_x
        frn_packed w_h[2]
        void **symbols
        void *table
        void *z
        void *c
        void *kept
        void *masked
        frn_rows dy
        frn_packed w_x_back
        frn_packed w_h_back[2]
        void *dh
        void *dc
        void *dp

    ctypedef struct frn_part:
        size_t first, last
        size_t start "from", stop "to"
        size_t turn
        int member, members
        frn_barrier *barrier

    ctypedef struct frn_product:
        size_t rows
        const void **a
        frn_packed w
        const void *bias
        void **out
        int accumulate
        const frn_blas *blas

    ctypedef struct frn_outer:
        size_t rows
        const void *d
        size_t ldd
        const void **x
        size_t columns
        int blocks
        size_t n
        size_t offset[4]
        size_t row[4]
        void *dw
        void *db
        void *db_too
        void *packed_x
        const frn_blas *blas

    ctypedef struct frn_cross_entropy:
        size_t columns
        const void *logits
        const int64_t *targets
        const double *weights
        double scale
        double smoothing
        double *loss
        void *grad

    ctypedef enum frn_rule:
        FRN_SGD
        FRN_MOMENTUM
        FRN_NESTEROV
        FRN_ADAM
        FRN_RMSPROP
        FRN_ADAGRAD

    ctypedef struct frn_update:
        frn_rule rule
        void *param
        const void *grad
        void *mean
        void *square
        double rate, epsilon, l2, shrink
        double keep_mean, new_mean, keep_square, new_square, root

    ctypedef struct frn_drop:
        size_t units
        const void *x
        void *out
        const uint64_t *keys
        uint64_t threshold
        double scale

    ctypedef struct frn_table:
        size_t n, columns
        const int64_t *index
        void *table
        void *rows

    ctypedef struct frn_layer_norm:
        size_t n, columns
        const void *x
        const void *dy
        const void *weight
        const void *bias
        double epsilon
        void *mean
        void *scale
        void *out
        void *dweight
        void *dbias

    ctypedef struct frn_attention:
        size_t n, queries, steps, units, columns
        const int64_t *base
        const void *query
        void *projected
        unsigned char *wide
        const void *score
        const void *keys
        void *weights
        void *context
        const void *dcontext
        void *dscores
        void *dquery
        void *dprojected
        void *dkeys
        void *dscore

    ctypedef struct frn_kernels:
        const char *isa
        int itemsize, lanes, tile_rows, tall_rows
        const frn_cell_info *cells
        size_t (*packed_bytes)(const frn_axis *k, const frn_axis *units, int vectors) noexcept nogil
        size_t (*pack_tasks)(const frn_axis *units, int vectors) noexcept nogil
        void (*pack)(void *dst, const void *src, const frn_axis *k, const frn_axis *units, int vectors, int plain,
                     size_t task) noexcept nogil
        void (*product)(const frn_product *p, size_t first, size_t last, size_t start, size_t stop, void *scratch) noexcept nogil
        size_t (*product_bytes)(const frn_product *p, size_t rows) noexcept nogil
        size_t (*outer_bytes)(const frn_outer *p) noexcept nogil
        size_t (*outer_pack_tasks)(const frn_outer *p) noexcept nogil
        void (*outer_pack)(const frn_outer *p, size_t task) noexcept nogil
        size_t (*outer_tasks)(const frn_outer *p) noexcept nogil
        void (*outer)(const frn_outer *p, size_t task) noexcept nogil
        size_t (*walk_bytes)(const frn_pass *p, size_t rows) noexcept nogil
        void (*forward)(const frn_pass *p, const frn_part *part, void *scratch) noexcept nogil
        void (*backward)(const frn_pass *p, const frn_part *part, void *scratch) noexcept nogil
        void (*table)(const frn_pass *p, size_t first, size_t last, void *scratch) noexcept nogil
        void (*cross_entropy)(const frn_cross_entropy *p, size_t first, size_t last) noexcept nogil
        void (*update)(const frn_update *u, size_t first, size_t last) noexcept nogil
        double (*sum_of_squares)(size_t n, const void *x) noexcept nogil
        void (*scale)(size_t n, void *x, double factor) noexcept nogil
        void (*add_scaled)(size_t n, void *y, const void *x, double factor) noexcept nogil
        void (*drop)(const frn_drop *p, size_t first, size_t last) noexcept nogil
        void (*gather)(const frn_table *p, size_t first, size_t last) noexcept nogil
        void (*layer_norm)(const frn_layer_norm *p, size_t first, size_t last) noexcept nogil
        void (*layer_norm_back)(const frn_layer_norm *p, size_t first, size_t last) noexcept nogil
        void (*attention_read)(const frn_attention *p, size_t first, size_t last) noexcept nogil
        size_t (*attention_tasks)(const frn_attention *p) noexcept nogil
        size_t (*attention_bytes)(const frn_attention *p) noexcept nogil
        void (*attention)(const frn_attention *p, size_t task, void *scratch) noexcept nogil
        void (*attention_scores_back)(const frn_attention *p, size_t task) noexcept nogil
        size_t (*attention_back_tasks)(const frn_attention *p) noexcept nogil
        size_t (*attention_back_bytes)(const frn_attention *p) noexcept nogil
        void (*attention_back)(const frn_attention *p, size_t task, void *scratch) noexcept nogil
        void (*layer_norm_add)(const frn_layer_norm *p, size_t first, size_t last) noexcept nogil
        void (*scatter_add)(const frn_table *p, size_t first, size_t last) noexcept nogil
