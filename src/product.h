/* Products of rows with packed weights: one micro-kernel under everything.
 *
 * A tile is up to FRN_MR rows by one panel of sums.  Each sum is one chain of fused multiply-adds
 * in the order of k, whatever the number of rows in its tile, so the bits of an element depend on
 * neither the batch nor the threads.  A tile's sums pass to the epilogue through a buffer in L1:
 * a few dozen loads and stores against thousands of products, and the epilogues need no instance
 * per tile shape.
 */
#ifndef FRN_PRODUCT_H
#define FRN_PRODUCT_H

#include "kernels.h"
#include "vec.h"

#include <limits.h>
#include <string.h>

#define TILE   ((size_t)FRN_SLOTS * LANES) /* a tile's row, in elements */
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__) /* it takes GCC's pragma without a word and leaves the loop as it is */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

INLINE size_t round_up(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}
INLINE size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}
INLINE V load_units(const real *p, size_t n)
{
    return n >= LANES ? vload(p) : vload_n(p, n);
}
INLINE void store_units(real *p, size_t n, V v)
{
    if (n >= LANES)
        vstore(p, v);
    else
        vstore_n(p, n, v);
}

/* tile (rows, width vectors) += a (rows, k) w (k, width vectors); a's elements lie `step` apart */
INLINE void multiply(const int rows, const int width, real *tile, const real *const *a, size_t step,
                     const real *w, size_t k)
{
    V sum[FRN_MR][FRN_SLOTS];
    const real *row[FRN_MR];
    UNROLL for (int r = 0; r < rows; r++)
    {
        row[r] = a[r];
        UNROLL for (int v = 0; v < width; v++) sum[r][v] = vload(tile + r * TILE + v * LANES);
    }
    /* The elements of the rows wait in registers and the weights come one vector at a time: one
     * register less than the other way around, which is what fits in 16 and in 32.  The loop tests
     * at its end, or gcc keeps a second copy of the sums and spills both. */
    if (k == 0) return;
    size_t at = 0;
    do {
        V x[FRN_MR];
        UNROLL for (int r = 0; r < rows; r++) x[r] = vset1(row[r][at]);
        UNROLL for (int v = 0; v < width; v++)
        {
            const V weight = vload(w + v * LANES);
            UNROLL for (int r = 0; r < rows; r++) sum[r][v] = vfma(x[r], weight, sum[r][v]);
        }
        at += step;
        w += width * LANES;
    } while (--k);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < width; v++)
        vstore(tile + r * TILE + v * LANES, sum[r][v]);
}

typedef void multiply_fn(real *tile, const real *const *a, size_t step, const real *w, size_t k);
#define MULTIPLY(rows, width)                                                            \
    static void multiply_##rows##x##width(real *tile, const real *const *a, size_t step, \
                                          const real *w, size_t k)                       \
    {                                                                                    \
        multiply(rows, width, tile, a, step, w, k);                                      \
    }
#define MULTIPLY_ROWS(rows) MULTIPLY(rows, 1) MULTIPLY(rows, 2) MULTIPLY(rows, 3) MULTIPLY(rows, 4)
#define WIDTHS(rows) \
    {multiply_##rows##x1, multiply_##rows##x2, multiply_##rows##x3, multiply_##rows##x4}

/* clang-format off */
MULTIPLY_ROWS(1) MULTIPLY_ROWS(2) MULTIPLY_ROWS(3)
#if FRN_MR == 6
MULTIPLY_ROWS(4) MULTIPLY_ROWS(5) MULTIPLY_ROWS(6)
#elif FRN_MR != 3
#error "product.h has micro-kernels for tiles of 3 and of 6 rows"
#endif
static multiply_fn *const multiply_tile[FRN_MR][FRN_SLOTS] = {
    WIDTHS(1), WIDTHS(2), WIDTHS(3),
#if FRN_MR == 6
    WIDTHS(4), WIDTHS(5), WIDTHS(6),
#endif
};
/* clang-format on */

/* ---- a stage: sums of all rows and units, panel by panel, each tile handed to its epilogue ----
 */

/* rows [row, row + rows), units [unit, unit + units) in `vectors` vectors per slot, sums in tile */
typedef void epilogue_fn(const void *context, size_t row, size_t rows, size_t unit, size_t units,
                         int vectors, const real *tile);

typedef struct {
    size_t begin, end;    /* rows, indices into a and init */
    const real *const *a; /* operand rows; NULL: no product, the sums are what they start from */
    const frn_packed *w;
    int first;          /* slot of the tile that the weight's first slot adds to */
    int slots, vectors; /* of the tile */
    size_t units;
    const real *const *init; /* rows where the sums of slots [0, init_slots) start, or NULL */
    int init_slots;
    const real *bias; /* where the others start, or NULL: at zero */
    size_t stride;    /* elements from slot to slot in init rows and in bias */
    int backwards;    /* panels last to first: what the last call left in L2 is met first */
    epilogue_fn *epilogue;
    const void *context;
    const frn_blas *blas;
    void *scratch; /* stage_bytes, used with BLAS only */
} stage_call;

static size_t panel_count(size_t units, int vectors)
{
    const size_t width = (size_t)vectors * LANES;
    return (units + width - 1) / width;
}

static void start_tile(const stage_call *s, size_t row, size_t rows, size_t unit, int vectors,
                       real *tile)
{
    for (size_t r = 0; r < rows; r++)
        for (int slot = 0; slot < s->slots; slot++)
            for (int v = 0; v < vectors; v++) {
                const size_t at = slot * s->stride + unit + (size_t)v * LANES;
                V sum = vzero();
                if (slot < s->init_slots)
                    sum = vload(s->init[row + r] + at);
                else if (s->bias)
                    sum = vload(s->bias + at);
                vstore(tile + r * TILE + (slot * vectors + v) * LANES, sum);
            }
}

static void run_panel(const stage_call *s, size_t panel, const real *const *a)
{
    _Alignas(64) real tile[FRN_MR * TILE];
    const size_t unit = panel * s->vectors * LANES;
    const size_t units = smaller(s->units - unit, (size_t)s->vectors * LANES);
    const int vectors = (int)((units + LANES - 1) / LANES);
    const real *w = a ? (const real *)s->w->data + s->w->k * s->w->slots * unit : NULL;
    /* blocks of even height: 20 rows are 5 5 5 5, not 6 6 6 2 */
    size_t left = s->end - s->begin, blocks = (left + FRN_MR - 1) / FRN_MR;
    for (size_t row = s->begin; blocks; blocks--) {
        const size_t rows = (left + blocks - 1) / blocks;
        start_tile(s, row, rows, unit, vectors, tile);
        if (a)
            multiply_tile[rows - 1][s->w->slots * vectors - 1](tile + s->first * vectors * LANES,
                                                               a + row, 1, w, s->w->k);
        s->epilogue(s->context, row, rows, unit, units, vectors, tile);
        row += rows;
        left -= rows;
    }
}

/* ---- the BLAS engine's way to the same sums: whole matrices first, then the epilogues ---- */

static size_t stage_bytes(size_t rows, int slots, size_t units, size_t k)
{
    return (rows * (slots * round_up(units) + k)) * sizeof(real) + rows * sizeof(real *) + 3 * 64;
}

static void *carve(void **scratch, size_t bytes)
{
    char *p = *scratch;
    *scratch = p + (bytes + 63) / 64 * 64;
    return p;
}

/* rows that lie evenly spaced are a matrix as they are; others are gathered */
static const real *as_matrix(const real *const *a, size_t rows, size_t k, real *gathered,
                             size_t *lda)
{
    ptrdiff_t lead = (ptrdiff_t)k;
    int even = 1;
    if (rows > 1) {
        lead = a[1] - a[0];
        for (size_t i = 1; i < rows && even; i++) even = a[i] - a[i - 1] == lead;
        even = even && lead >= (ptrdiff_t)k && lead <= INT_MAX;
    }
    *lda = (size_t)lead;
    if (even) return a[0];
    *lda = k;
    for (size_t i = 0; i < rows; i++) memcpy(gathered + i * k, a[i], k * sizeof(real));
    return gathered;
}

static void run_blas(const stage_call *s)
{
    const size_t rows = s->end - s->begin, padded = round_up(s->units), width = s->slots * padded;
    void *scratch = s->scratch;
    real *sums = carve(&scratch, rows * width * sizeof(real));
    const real **at = carve(&scratch, s->end * sizeof *at);
    real *gathered = scratch;
    for (size_t i = 0; i < rows; i++) {
        at[s->begin + i] = sums + i * width;
        for (int slot = 0; slot < s->slots; slot++) {
            const real *from = slot < s->init_slots ? s->init[s->begin + i] : s->bias;
            if (from)
                memcpy(sums + i * width + slot * padded, from + slot * s->stride,
                       padded * sizeof(real));
            else
                memset(sums + i * width + slot * padded, 0, padded * sizeof(real));
        }
    }
    size_t lda;
    const real *a = as_matrix(s->a + s->begin, rows, s->w->k, gathered, &lda);
    const size_t n = s->w->slots * padded;
    s->blas->gemm(0, rows, n, s->w->k, a, lda, s->w->data, n, 1.0, sums + s->first * padded, width);
    stage_call rest = *s;
    rest.init = at;
    rest.init_slots = s->slots;
    rest.stride = padded;
    const size_t panels = panel_count(s->units, s->vectors);
    for (size_t panel = 0; panel < panels; panel++) run_panel(&rest, panel, NULL);
}

static void run_stage(const stage_call *s)
{
    if (s->begin == s->end) return;
    if (s->blas && s->a && s->w->k) {
        run_blas(s);
        return;
    }
    const real *const *a = s->a && s->w->k ? s->a : NULL;
    const size_t panels = panel_count(s->units, s->vectors);
    for (size_t i = 0; i < panels; i++) run_panel(s, s->backwards ? panels - 1 - i : i, a);
}

/* ---- packing ---- */

static size_t packed_bytes(const frn_axis *k, const frn_axis *units, int vectors)
{
    (void)vectors; /* only the last panel is narrower, by whole vectors */
    return k->blocks * k->padded * units->blocks * round_up(units->n) * sizeof(real);
}

static size_t pack_tasks(const frn_axis *units, int vectors)
{
    return panel_count(units->n, vectors);
}

/* One panel; `plain` gives the (k, slots * Hp) matrix that BLAS multiplies with. */
static void pack(void *dst, const void *src, const frn_axis *k, const frn_axis *units, int vectors,
                 int plain, size_t task)
{
    enum { BLOCK = 16 }; /* of k: its destination lines stay in L1 while all lanes are written */
    const size_t unit = task * vectors * LANES, left = units->n - unit;
    const size_t ours = smaller((left + LANES - 1) / LANES, vectors), padded = round_up(units->n);
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
                if (units->stride == 1) {
                    for (size_t j = 0; j < k->n; j++)
                        vstore(to + j * lead, load_units(from + (ptrdiff_t)j * k->stride, lanes));
                } else {
                    for (size_t begin = 0; begin < k->n; begin += BLOCK) {
                        const size_t end = smaller(begin + BLOCK, k->n);
                        for (size_t lane = 0; lane < LANES; lane++)
                            for (size_t j = begin; j < end; j++)
                                to[j * lead + lane] = lane < lanes
                                                          ? from[(ptrdiff_t)lane * units->stride +
                                                                 (ptrdiff_t)j * k->stride]
                                                          : 0;
                    }
                }
                for (size_t j = k->n; j < k->padded; j++) vstore(to + j * lead, vzero());
            }
}

/* ---- rows times a packed weight, stored or added ---- */

typedef struct {
    real *const *out; /* rows */
    size_t stride;    /* elements from slot to slot in a row */
    int slots;
    int accumulate;
} store_context;

static void store_epilogue(const void *context, size_t row, size_t rows, size_t unit, size_t units,
                           int vectors, const real *tile)
{
    const store_context *c = context;
    for (size_t r = 0; r < rows; r++)
        for (int slot = 0; slot < c->slots; slot++)
            for (int v = 0; v < vectors; v++) {
                real *to = c->out[row + r] + slot * c->stride + unit + (size_t)v * LANES;
                const size_t n = units - (size_t)v * LANES;
                V sum = vload(tile + r * TILE + (slot * vectors + v) * LANES);
                if (c->accumulate) sum = sum + load_units(to, n);
                store_units(to, n, sum);
            }
}

static size_t product_bytes(const frn_product *p, size_t rows)
{
    return p->blas ? stage_bytes(rows, 1, p->w.units, p->w.k) : 0;
}

static void product(const frn_product *p, size_t first, size_t last, void *scratch)
{
    const store_context store = {
        .out = (real *const *)p->out, .slots = 1, .accumulate = p->accumulate};
    const stage_call call = {
        .begin = first,
        .end = last,
        .a = (const real *const *)p->a,
        .w = &p->w,
        .slots = 1,
        .vectors = p->w.vectors,
        .units = p->w.units,
        .bias = p->bias,
        .epilogue = store_epilogue,
        .context = &store,
        .blas = p->blas,
        .scratch = scratch,
    };
    run_stage(&call);
}

#endif
