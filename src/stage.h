/* A stage: sums of all rows and units, panel by panel, each tile handed to its epilogue.
 *
 * Every product of the library is one: a step's recurrent product with the cell's formula as the
 * epilogue, and plain products with one that stores.
 */
#ifndef FRN_STAGE_H
#define FRN_STAGE_H

#include "multiply.h"

#include <limits.h>
#include <string.h>

/* rows [row, row + rows), units [unit, unit + units) in `vectors` vectors per slot, sums in tile */
typedef void epilogue_fn(const void *context, size_t row, size_t rows, size_t unit, size_t units,
                         int vectors, const real *tile);

/* Where the rows lie that the epilogue of a tile is the first to touch in its step; how many. */
typedef size_t pieces_fn(const void *context, size_t row, size_t rows, size_t unit,
                         const char **piece);

typedef struct {
    epilogue_fn *apply;
    pieces_fn *pieces; /* or NULL */
} epilogue;

/* Bytes of weights from which on they are asked for, and most of one panel that is. */
enum { LEAST_ASKED = 3 << 18, MOST_ASKED = 1 << 18 };

typedef struct {
    size_t begin, end;    /* rows, indices into a and init */
    const real *const *x; /* operand rows multiplied before a's, into slots from 0 on, or NULL */
    const frn_packed *w_x;
    const real *const *a; /* operand rows; NULL: no product, the sums are what they start from */
    const frn_packed *w;
    int first;               /* slot of the tile that the weight's first slot adds to */
    int slots, vectors;      /* of the tile */
    size_t unit, units;      /* those from `unit`, where a panel begins, up to `units` */
    const real *const *init; /* rows where the sums of slots [0, init_slots) start, or NULL */
    int init_slots;
    const real *bias; /* where the others start, or NULL: at zero */
    size_t stride;    /* elements from slot to slot in init rows and in bias */
    int backwards;    /* panels last to first: what the last call left in L2 is met first */
    epilogue epilogue;
    const void *context;
    const frn_blas *blas;
    void *scratch; /* of stage_bytes with BLAS, else of partial_bytes; aligned to 64 */
} stage_call;

/* Units cut into panels.  Where whole panels do not fill the units, the last two share what is left
 * evenly: one vector alone has too few chains of sums to keep the multipliers busy. */
typedef struct {
    size_t count, width;
    size_t last, end; /* where the last panel begins, and ends */
} panel_cut;

INLINE panel_cut cut_panels(size_t units, int vectors)
{
    const size_t total = round_up(units) / LANES, count = (total + vectors - 1) / vectors,
                 narrow = total % vectors;
    size_t last = count ? (count - 1) * vectors : 0;
    if (count > 1 && narrow) last = total - (vectors + narrow) / 2;
    return (panel_cut){count, (size_t)vectors * LANES, last * LANES, total * LANES};
}

INLINE size_t panel_start(const panel_cut *cut, size_t panel)
{
    return panel + 1 < cut->count ? panel * cut->width : panel < cut->count ? cut->last : cut->end;
}
INLINE int panel_vectors(const panel_cut *cut, size_t panel)
{
    return (int)((panel_start(cut, panel + 1) - panel_start(cut, panel)) / LANES);
}

/* vectors of slots [first, last) of one row of a tile, read where the slots lie `stride` apart */
INLINE void start_slots(real *tile, const real *from, size_t stride, int first, int last,
                        int vectors)
{
    for (int slot = first; slot < last; slot++)
        for (int v = 0; v < vectors; v++)
            vstore(tile + (slot * vectors + v) * LANES,
                   from ? vload(from + slot * stride + (size_t)v * LANES) : vzero());
}

static void start_tile(const stage_call *s, size_t row, size_t rows, size_t unit, int vectors,
                       real *tile)
{
    const real *bias = s->bias ? s->bias + unit : NULL;
    for (size_t r = 0; r < rows; r++, tile += TILE) {
        if (s->init_slots)
            start_slots(tile, s->init[row + r] + unit, s->stride, 0, s->init_slots, vectors);
        start_slots(tile, bias, s->stride, s->init_slots, s->slots, vectors);
    }
}

/* The same place of some rows, after n that are there; how many now. */
INLINE size_t list_pieces(const char **piece, size_t n, const real *const *rows, size_t row,
                          size_t count, size_t at)
{
    for (size_t r = 0; r < count; r++) piece[n + r] = (const char *)(rows[row + r] + at);
    return n + count;
}

INLINE const real *weights_at(const frn_packed *w, size_t unit)
{
    return (const real *)w->data + w->k * w->slots * unit;
}

/* Runs of k: of longer ones a panel would leave L2 between two tiles of rows.  Partial sums are
 * stored and reloaded between runs, so the chain of each stays as it is. */
enum { INNER = 1024 };

INLINE size_t runs_of(size_t k, size_t rows)
{
    return rows > FRN_MR && k > INNER ? parts(k, INNER) : 1;
}

/* Bytes of the partial sums between runs. */
INLINE size_t partial_bytes(size_t k, size_t rows)
{
    return runs_of(k, rows) > 1 ? parts(rows, FRN_MR) * FRN_MR * TILE * sizeof(real) : 0;
}

/* Weights [begin, begin + k) of a panel, and what comes after them: tiles of rows ask for that one
 * share after the other. */
typedef struct {
    const real *panel;
    int width; /* vectors of a step of k */
    size_t begin, k;
    const char *next;
    size_t lines, share; /* of a step of k: not asked for yet, and of one tile */
} panel_run;

/* Run `run` of `runs` of the panel at `unit`; `next` is the unit of the panel that follows. Weights
 * that stay in L2 need not be asked for, and a large panel would drive out the one in use. */
static panel_run find_run(const frn_packed *w, size_t unit, int vectors, size_t units, size_t next,
                          size_t run, size_t runs, size_t tiles)
{
    const int width = w->slots * vectors;
    const size_t step = width * sizeof(V), begin = w->k * run / runs,
                 k = w->k * (run + 1) / runs - begin;
    panel_run r = {.panel = weights_at(w, unit) + begin * width * LANES, .width = width, .k = k};
    r.begin = begin;
    if (tiles < 2 || step * k > MOST_ASKED || (run + 1 == runs && next >= units) ||
        w->k * w->slots * round_up(units) * sizeof(real) < LEAST_ASKED)
        return r;
    r.next = (const char *)(run + 1 < runs ? r.panel + k * width * LANES : weights_at(w, next));
    r.lines = parts(step, LINE_BYTES);
    r.share = parts(r.lines, tiles);
    return r;
}

/* tile += some rows times the run; pieces and a share of what follows are asked for meanwhile. */
static void multiply_rows(real *tile, const real *const *a, size_t rows, panel_run *r,
                          const char **piece, size_t pieces)
{
    const real *from[FRN_MR];
    const size_t lines = smaller(r->lines, r->share);
    for (size_t i = 0; i < rows; i++) from[i] = a[i] + r->begin;
    if (rows < FRN_AHEAD_ROWS || !(pieces || lines)) {
        multiply_tile[rows - 1][r->width - 1](tile, from, 1, r->panel, r->k);
        return;
    }
    ahead_of_tile ahead = ask_for(piece, pieces, r->k, (const char *)r->panel);
    if (lines) {
        ahead.panel = r->next;
        ahead.per_step = lines * LINE_BYTES;
        ahead.second = lines > 1 ? LINE_BYTES : 0;
        r->next += lines * r->k * LINE_BYTES;
        r->lines -= lines;
    }
    multiply_ahead[rows - FRN_AHEAD_ROWS][r->width - 1](tile, from, 1, r->panel, r->k, &ahead);
}

/* One panel, all rows.  `next` is the unit where the panel that follows begins, or beyond the last.
 */
static void run_panel(const stage_call *s, size_t unit, int vectors, size_t next,
                      const real *const *a)
{
    _Alignas(64) real here[FRN_MR * TILE];
    const char *piece[MOST_PIECES + 1];
    const size_t units = smaller(s->units - unit, (size_t)vectors * LANES);
    /* tiles of even height: 20 rows are 5 5 5 5, not 6 6 6 2 */
    const size_t count = s->end - s->begin;
    const size_t tiles = parts(count, FRN_MR), low = count / tiles, high = count % tiles;
    const size_t runs = a ? runs_of(s->w->k, count) : 1;
    real *tile = here;
    panel_run of_x = {.panel = NULL}, of_a = {.panel = NULL};
    if (s->x) of_x = find_run(s->w_x, unit, vectors, s->units, next, 0, 1, tiles);
    for (size_t run = 0; run < runs; run++) {
        const int final = run + 1 == runs;
        if (a) of_a = find_run(s->w, unit, vectors, s->units, next, run, runs, tiles);
        for (size_t t = 0, row = s->begin, rows; t < tiles; t++, row += rows) {
            rows = low + (t < high);
            if (runs > 1) tile = (real *)s->scratch + t * FRN_MR * TILE;
            if (run == 0) start_tile(s, row, rows, unit, vectors, tile);
            if (a) {
                size_t pieces = 0;
                if (s->x && run == 0) multiply_rows(tile, s->x + row, rows, &of_x, piece, 0);
                if (final && s->epilogue.pieces && rows >= FRN_AHEAD_ROWS)
                    pieces = s->epilogue.pieces(s->context, row, rows, unit, piece);
                multiply_rows(tile + s->first * vectors * LANES, a + row, rows, &of_a, piece,
                              pieces);
            }
            if (final) s->epilogue.apply(s->context, row, rows, unit, units, vectors, tile);
        }
    }
}

static void run_panels(const stage_call *s, const panel_cut *cut, const real *const *a)
{
    const size_t first = parts(s->unit, cut->width), last = cut->count;
    for (size_t i = first; i < last; i++) {
        const size_t panel = s->backwards ? first + last - 1 - i : i;
        const size_t next = !s->backwards ? panel + 1 : panel > first ? panel - 1 : last;
        run_panel(s, panel_start(cut, panel), panel_vectors(cut, panel), panel_start(cut, next), a);
    }
}

/* One tile, or two, += a few rows times as many panels of a weight. */
static void multiply_few(size_t panels, real *tile, const real *const *a, size_t rows,
                         const frn_packed *w, size_t unit, int vectors)
{
    multiply_fn *const *of_rows = panels == 2 ? multiply_pair[rows - 1] : multiply_tile[rows - 1];
    of_rows[w->slots * vectors - 1](tile, a, 1, weights_at(w, unit), w->k);
}

/* Few rows, which are bound by the reading of weights: it goes on over several panels before their
 * epilogues, whose chains then run through each other. */
static void run_few(const stage_call *s, const panel_cut *cut, const real *const *a)
{
    enum { GROUP = 16 };
    _Alignas(64) real tile[GROUP][FRN_MR * TILE];
    size_t units[GROUP], grouped = 0;
    int vectors[GROUP];
    const size_t first = parts(s->unit, cut->width), rows = s->end - s->begin;
    for (size_t left = cut->count - first, n; left; left -= n) {
        n = rows >= FRN_PAIR_LEAST && left > 1 ? 2 : 1;
        size_t panel = s->backwards ? first + left - n : cut->count - left;
        if (panel_vectors(cut, panel) != panel_vectors(cut, panel + n - 1))
            n = 1, panel += s->backwards;
        const int wide = panel_vectors(cut, panel);
        for (size_t p = 0; p < n; p++) {
            units[grouped + p] = panel_start(cut, panel + p);
            vectors[grouped + p] = wide;
            start_tile(s, s->begin, rows, units[grouped + p], wide, tile[grouped + p]);
        }
        real *sums = tile[grouped];
        if (s->x) multiply_few(n, sums, s->x + s->begin, rows, s->w_x, units[grouped], wide);
        multiply_few(n, sums + s->first * wide * LANES, a + s->begin, rows, s->w, units[grouped],
                     wide);
        grouped += n;
        if (grouped < GROUP - 1 && left > n) continue;
        for (size_t i = 0; i < grouped; i++)
            s->epilogue.apply(s->context, s->begin, rows, units[i],
                              smaller(s->units - units[i], (size_t)vectors[i] * LANES), vectors[i],
                              tile[i]);
        grouped = 0;
    }
}

static void run_all(const stage_call *s, const real *const *a)
{
    const panel_cut cut = cut_panels(s->units, s->vectors);
    if (a && s->end - s->begin <= FRN_PAIR_ROWS)
        run_few(s, &cut, a);
    else
        run_panels(s, &cut, a);
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
    /* rows of different arrays may stand here, whose distance only integers may express */
    const uintptr_t bytes = rows > 1 ? (uintptr_t)a[1] - (uintptr_t)a[0] : k * sizeof(real);
    int even = bytes >= k * sizeof(real) && bytes <= INT_MAX && bytes % sizeof(real) == 0;
    for (size_t i = 1; i < rows && even; i++) even = (uintptr_t)a[i] - (uintptr_t)a[i - 1] == bytes;
    *lda = bytes / sizeof(real);
    if (even) return a[0];
    *lda = k;
    for (size_t i = 0; i < rows; i++) memcpy(gathered + i * k, a[i], k * sizeof(real));
    return gathered;
}

/* s->begin is 0: a stage that multiplies counts its rows from the first, as scratch does. */
static void run_blas(const stage_call *s)
{
    const size_t rows = s->end, padded = round_up(s->units), width = s->slots * padded;
    void *scratch = s->scratch;
    real *sums = carve(&scratch, rows * width * sizeof(real));
    const real **at = carve(&scratch, rows * sizeof *at);
    real *gathered = scratch;
    for (size_t i = 0; i < rows; i++) {
        at[i] = sums + i * width;
        for (int slot = 0; slot < s->slots; slot++) {
            const real *from = slot < s->init_slots ? s->init[i] : s->bias;
            if (from)
                memcpy(sums + i * width + slot * padded, from + slot * s->stride,
                       padded * sizeof(real));
            else
                memset(sums + i * width + slot * padded, 0, padded * sizeof(real));
        }
    }
    size_t lda;
    const real *a = as_matrix(s->a, rows, s->w->k, gathered, &lda);
    const size_t n = s->w->slots * padded;
    s->blas->gemm(0, rows, n, s->w->k, a, lda, s->w->data, n, 1.0, sums + s->first * padded, width);
    stage_call rest = *s;
    rest.init = at;
    rest.init_slots = s->slots;
    rest.stride = padded;
    run_all(&rest, NULL);
}

static void run_stage(const stage_call *s)
{
    if (s->begin == s->end || s->unit == s->units) return;
    if (s->blas && s->a && s->w->k) {
        run_blas(s);
        return;
    }
    run_all(s, s->w && s->w->k ? s->a : NULL);
}

#endif
