/* The C interface between the kernels and the Cython modules over them.
 *
 * src/kernels.c is compiled once per instruction set (ISA) and dtype; each copy exports one
 * constant table `frn_kernels`, and src/_native.pyx picks a table at run time.  Pointers to real
 * numbers are `void *` here and of the table's dtype behind it.  No kernel allocates, raises or
 * remembers anything: Cython checks, Python allocates, kernels fill.
 *
 * Dimensions: N sequences, T steps, D inputs, H units, P projected units, S width of the state h
 * (P with projection, else H).  Xp is X rounded up to a whole number of vectors.  A "slot" is one
 * sum per unit: a gate, or one half of GRU's candidate where the formula keeps the two apart.
 */
#ifndef FRN_KERNELS_H
#define FRN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define FRN_SLOTS 4 /* most slots per unit; also the width of a panel, in vectors */

/* Packed rows are an addressing: element 0 of (step t, sorted row i) is start[i] + t * step[i]. */
typedef struct {
    void *const *start;    /* (N,) */
    const ptrdiff_t *step; /* (N,) in elements; negative when walking backwards */
} frn_rows;

/* One axis of a weight matrix as it is packed: `blocks` runs of n elements, each padded with zeros
 * to `padded`; element j of run b lies at offset[b] + j * stride. */
typedef struct {
    int blocks;
    size_t n, padded;
    ptrdiff_t offset[FRN_SLOTS];
    ptrdiff_t stride;
} frn_axis;

/* A packed weight: panels of `vectors` unit vectors per slot, stored
 * [panel][k][slot][vector][lane]; the last panel holds only the vectors that are left.  With BLAS:
 * one (k, slots * Hp) matrix. */
typedef struct {
    const void *data;
    size_t k;     /* inner dimension, padding included */
    size_t units; /* columns per slot */
    int slots;
    int vectors;
} frn_packed;

/* The BLAS engine's products, row-major: c (m, n) = beta c + op(a) b, where op(a) is a (m, k) or
 * the transpose of a (k, m). */
typedef struct {
    void (*gemm)(int trans_a, size_t m, size_t n, size_t k, const void *a, size_t lda,
                 const void *b, size_t ldb, double beta, void *c, size_t ldc);
    int (*thread_count)(void); /* that a product may use; NULL: it does not tell */
} frn_blas;

typedef enum {
    FRN_LSTM,
    FRN_LSTM_PROJECTED,
    FRN_GRU,
    FRN_GRU_AFTER,
    FRN_RNN_TANH,
    FRN_RNN_RELU,
    FRN_RNN_SIGMOID,
    FRN_CELLS
} frn_cell;

/* One recurrent product of a step. */
typedef struct {
    int first, slots;           /* slots of the row of sums that it reaches */
    int tile_first, tile_slots; /* slots of the row of sums that its epilogue reads */
    int kept;                   /* its operand is a kept row of the stage before (r*h, m), not h */
} frn_stage_info;

/* What Cython must know of a cell to pack its weights and to read what it kept.  The gates are
 * numbered as in PyTorch (LSTM i f g o, GRU r z n). */
typedef struct {
    int gates;
    int slots; /* of a row of sums */
    int gate_of[FRN_SLOTS];
    int x_slots; /* the input product reaches slots [0, x_slots) */
    int stages;  /* 1 or 2 products per step */
    frn_stage_info stage[2];
    int projected; /* the second stage maps H units to P */
    int has_c;
} frn_cell_info;

/* One direction of one layer.  Rows of state and carry are in sorted order. */
typedef struct {
    frn_cell cell;
    size_t n, steps, inputs, units, width; /* N, T, D, H, S */
    size_t lead;                           /* elements from row to row of z, at least slots * Hp */
    const int64_t *sizes;                  /* (T,) rows alive */
    const int64_t *base;                   /* (T + 1,) prefix sums of sizes */
    int keep; /* nonzero: z, c, kept and masked have a row per step, else one per sequence */
    const frn_blas *blas; /* NULL: packed engine */

    frn_rows x, y;
    void *const *h0;      /* (N,) rows of S */
    void *const *c0;      /* (N,) rows of H, or NULL */
    void *const *mask;    /* (N,) rows of S padded to Sp, or NULL: recurrent dropout */
    const void *bias;     /* (slots, Hp): where each slot's sum starts */
    frn_packed w_x;       /* D -> x_slots * Hp */
    frn_packed w_h[2];    /* per stage */
    void *const *symbols; /* (U,) rows of D that stand for x, whose rows are then one int64 each:
                             which of them; or NULL */
    void *table;          /* (U, slots * Hp): where the sums of a symbol's rows start */

    void *z;      /* (rows, slots * Hp) sums, then gates, then their gradients; NULL if not kept */
    void *c;      /* (rows, Hp) */
    void *kept;   /* (rows, Hp) operand of stage 1: r*h, m; NULL where the cell has none */
    void *masked; /* (rows, Sp) h times its mask, the operand of the step; NULL without mask */

    /* backward only */
    frn_rows dy;         /* start is NULL when no gradient came on y */
    frn_packed w_x_back; /* x_slots * Hp -> D */
    frn_packed w_h_back[2];
    void *dh,
        *dc;  /* (N, Sp), (N, Hp): gradients carried between steps, and the state's at the end */
    void *dp; /* (rows, Sp) gradient of the projected h; NULL without projection */
} frn_pass;

/* What one call of a time loop walks: some sequences, some steps, and of the units either all or
 * one of several shares, whose owners walk side by side and meet after each stage. */
typedef struct {
    size_t first, last; /* sequences */
    size_t from, to;    /* steps */
    size_t turn;        /* steps walked before step 0: weights are read in alternating direction */
    int member, members;
    struct frn_barrier *barrier; /* of the members; not looked at by one alone */
} frn_part;

/* A product of rows with a packed weight: out[i] (+)= a[i] W + bias. */
typedef struct {
    size_t rows;
    const void *const *a; /* rows of k elements */
    frn_packed w;         /* one slot */
    const void *bias;     /* (units padded) or NULL */
    void *const *out;     /* rows of `units` elements */
    int accumulate;
    const frn_blas *blas;
} frn_product;

/* A sum of outer products: dw[gate * n + j][:] += sum over rows of d[row][offset + j] * x[row][:].
 */
typedef struct {
    size_t rows;
    const void *d; /* (rows, ldd) */
    size_t ldd;
    const void *const *x; /* rows of `columns` elements */
    size_t columns;
    int blocks;               /* slots */
    size_t n;                 /* rows of dw per slot */
    size_t offset[FRN_SLOTS]; /* first column of the slot in d */
    size_t row[FRN_SLOTS];    /* first row of the slot in dw */
    void *dw;                 /* (.., columns), or NULL: only the sums of d are wanted */
    void *db;                 /* (..,) sums of d over the rows, or NULL */
    void *db_too;             /* the same once more, or NULL */
    void *packed_x;           /* scratch of outer_bytes */
    const frn_blas *blas;
} frn_outer;

/* Softmax cross entropy of rows with one class each. */
typedef struct {
    size_t columns;
    const void *logits;     /* (rows, columns) */
    const int64_t *targets; /* (rows,) in [0, columns) */
    const double *weights;  /* (rows,), or NULL for ones; where 0 the row is excluded */
    double scale;
    double smoothing; /* the share of the target that all classes have alike */
    double *loss;     /* (rows,) without weights, 0 where excluded */
    void *grad;       /* (rows, columns) times weight and scale; may be logits; NULL: not wanted */
} frn_cross_entropy;

typedef enum { FRN_SGD, FRN_MOMENTUM, FRN_NESTEROV, FRN_ADAM, FRN_RMSPROP, FRN_ADAGRAD } frn_rule;

/* A step of an optimizer; the formulas are in fastrnn/optim.py. */
typedef struct {
    frn_rule rule;
    void *param;
    const void *grad;
    void *mean, *square; /* running sums of the gradient and its square, or NULL */
    double rate, epsilon;
    double l2;     /* times the parameter is added to the gradient */
    double shrink; /* the parameter is multiplied by it first */
    double keep_mean, new_mean, keep_square, new_square;
    double root; /* divides the root of the mean square */
} frn_update;

/* Rows with elements dropped. */
typedef struct {
    size_t units;
    const void *x;        /* (rows, units), or NULL for ones */
    void *out;            /* (rows, units), not x */
    const uint64_t *keys; /* (rows,) */
    uint64_t threshold;   /* elements whose hash lies below become 0, */
    double scale;         /* the others are multiplied by it */
} frn_drop;

/* Rows of a table by their index. */
typedef struct {
    size_t n, columns;
    const int64_t *index; /* (n,) */
    void *table;          /* (.., columns) */
    void *rows;           /* (n, columns) */
} frn_table;

/* Rows normalized over their columns; the formulas are in fastrnn/modules.py. */
typedef struct {
    size_t n, columns;
    const void *x, *dy; /* (n, columns) */
    const void *weight, *bias;
    double epsilon;
    void *mean, *scale;    /* (n,) of each row: its mean, and one over the root */
    void *out;             /* (n, columns): y, or the gradient of x */
    void *dweight, *dbias; /* added to */
} frn_layer_norm;

/* Queries that attend to the steps of their sources; the formulas are in
 * fastrnn/engine/attending.py.  Rows of real steps lie one source after the other. */
typedef struct {
    size_t n, queries, steps, units, columns; /* N, Tq, Ts, A, K */
    const int64_t *base;                      /* (N + 1,) prefix sums of the lengths */
    const void *query;                        /* (N, Tq, A) */
    void *projected;     /* (total, A); read with a score, then e^2p where a source is not wide */
    unsigned char *wide; /* (N,) */
    const void *score;   /* (A,), or NULL: scores are products */
    const void *keys;    /* (total, K) */
    void *weights;       /* (N, Tq, Ts), all of it written */
    void *context;       /* (N, Tq, K) */

    /* backward only */
    const void *dcontext;              /* (N, Tq, K) */
    void *dscores;                     /* (N, Tq, Ts): written up to each source's length */
    void *dquery;                      /* (N, Tq, A) */
    void *dprojected, *dkeys, *dscore; /* (total, A), (total, K), (N, A): added to */
} frn_attention;

typedef struct frn_kernels {
    const char *isa;
    int itemsize;
    int lanes;
    int tile_rows, tall_rows;   /* of a product tile: in one pass over k, and in two */
    const frn_cell_info *cells; /* [FRN_CELLS] */

    /* Products */
    size_t (*packed_bytes)(const frn_axis *k, const frn_axis *units, int vectors);
    size_t (*pack_tasks)(const frn_axis *units, int vectors);
    void (*pack)(void *dst, const void *src, const frn_axis *k, const frn_axis *units, int vectors,
                 int plain, size_t task);
    /* rows [first, last), units [from, to): whole panels, with BLAS all */
    void (*product)(const frn_product *p, size_t first, size_t last, size_t from, size_t to,
                    void *scratch);
    size_t (*product_bytes)(const frn_product *p, size_t rows);
    size_t (*outer_bytes)(const frn_outer *p);
    size_t (*outer_pack_tasks)(const frn_outer *p);
    void (*outer_pack)(const frn_outer *p, size_t task);
    size_t (*outer_tasks)(const frn_outer *p);
    void (*outer)(const frn_outer *p, size_t task);

    /* The two time loops */
    size_t (*walk_bytes)(const frn_pass *p, size_t rows);
    void (*forward)(const frn_pass *p, const frn_part *part, void *scratch);
    void (*backward)(const frn_pass *p, const frn_part *part, void *scratch);

    void (*table)(const frn_pass *p, size_t first, size_t last, void *scratch); /* fills rows */

    /* Rows or elements [first, last) */
    void (*cross_entropy)(const frn_cross_entropy *p, size_t first, size_t last);
    void (*update)(const frn_update *u, size_t first, size_t last);
    double (*sum_of_squares)(size_t n, const void *x);
    void (*scale)(size_t n, void *x, double factor);
    void (*add_scaled)(size_t n, void *y, const void *x, double factor);
    void (*drop)(const frn_drop *p, size_t first, size_t last);
    void (*gather)(const frn_table *p, size_t first, size_t last);
    void (*layer_norm)(const frn_layer_norm *p, size_t first, size_t last);
    void (*layer_norm_back)(const frn_layer_norm *p, size_t first, size_t last);

    /* Sources [first, last), then their queries by tasks */
    void (*attention_read)(const frn_attention *p, size_t first, size_t last);
    size_t (*attention_tasks)(const frn_attention *p);
    size_t (*attention_bytes)(const frn_attention *p);
    void (*attention)(const frn_attention *p, size_t task, void *scratch);
    void (*attention_scores_back)(const frn_attention *p, size_t task); /* before attention_back */
    size_t (*attention_back_tasks)(const frn_attention *p);
    size_t (*attention_back_bytes)(const frn_attention *p);
    void (*attention_back)(const frn_attention *p, size_t task, void *scratch);

    /* Columns [first, last) of all rows */
    void (*scatter_add)(const frn_table *p, size_t first, size_t last);
    void (*layer_norm_add)(const frn_layer_norm *p, size_t first, size_t last);
} frn_kernels;

#endif
