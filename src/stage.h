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

/* Bytes of weights from which on they are asked for. */
enum { LEAST_ASKED = 3 << 18 };

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

/* vectors of slots [first, last) of some rows of a tile, copied from where they start */
static void copy_slots(const stage_call *s, size_t row, size_t rows, size_t unit, int vectors,
                       int first, int last, real *tile)
{
    for (size_t r = 0; r < rows; r++, tile += TILE)
        for (int slot = first; slot < last; slot++) {
            const real *from = slot < s->init_slots ? s->init[row + r] : s->bias;
            for (int v = 0; v < vectors; v++)
                vstore(tile + (slot * vectors + v) * LANES,
                       from ? vload(from + slot * s->stride + unit + (size_t)v * LANES) : vzero());
        }
}

/* Where the product that reaches slots [first, last) before all others starts: at init rows or at
 * bias, themselves, if all its slots do.  What other slots start from is copied into the tile. */
INLINE void start_tile(tile_start *start, const stage_call *s, size_t row, size_t rows, size_t unit,
                       int vectors, int first, int last, real *tile)
{
    const int init = last <= s->init_slots, mixed = !init && first < s->init_slots;
    if (mixed || first > 0) copy_slots(s, row, rows, unit, vectors, 0, mixed ? last : first, tile);
    if (last < s->slots) copy_slots(s, row, rows, unit, vectors, last, s->slots, tile);
    if (mixed) {
        from_tile(start, tile + first * vectors * LANES, rows);
        return;
    }
    if (!init && !s->bias) {
        from_zero(start, rows);
        return;
    }
    for (size_t r = 0; r < rows; r++) start->row[r] = (init ? s->init[row + r] : s->bias) + unit;
    for (int slot = first, n = 0; slot < last; slot++)
        for (int v = 0; v < vectors; v++) start->at[n++] = slot * s->stride + (size_t)v * LANES;
    start->second = (size_t)vectors * LANES;
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

/* Runs of k, of the inputs and of the state after them: of longer ones a panel would leave L2
 * between two tiles of rows.  Partial sums are stored and reloaded between runs, so the chain of
 * each stays as it is. */
enum { INNER = 1024 };

INLINE size_t runs_of(size_t k, size_t tiles)
{
    return tiles > 1 && k > INNER ? parts(k, INNER) : 1;
}

/* Bytes of the partial sums between runs. */
INLINE size_t partial_bytes(size_t k, size_t rows)
{
    return runs_of(k, parts(rows, FRN_MR)) > 1 ? rows * TILE * sizeof(real) : 0;
}

/* Part of a panel: one operand's weights in a run.  Tiles ask for the next part, which they all
 * need, one share after the other. */
typedef struct {
    const real *const *a;
    const real *w;
    int slot, slots; /* of the tile */
    int width;       /* vectors of a step of k */
    size_t begin, k; /* of the operand's rows */
    const char *next;
    size_t lines; /* of a step of k, not asked for yet */
} panel_part;

/* The parts of steps [begin, end) of k, counted over both operands; how many. */
static int find_parts(const stage_call *s, size_t unit, int vectors, size_t begin, size_t end,
                      panel_part *part)
{
    const size_t inputs = s->x ? s->w_x->k : 0;
    int n = 0;
    for (int of_state = 0; of_state < 2; of_state++) {
        const frn_packed *w = of_state ? s->w : s->w_x;
        const size_t from = of_state ? inputs : 0, to = of_state ? inputs + s->w->k : inputs;
        if (begin >= to || end <= from) continue;
        panel_part *p = &part[n++];
        p->a = of_state ? s->a : s->x;
        p->slot = of_state ? s->first : 0;
        p->slots = w->slots;
        p->width = w->slots * vectors;
        p->begin = begin > from ? begin - from : 0;
        p->k = smaller(end, to) - from - p->begin;
        p->w = weights_at(w, unit) + p->begin * p->width * LANES;
        p->lines = 0;
    }
    return n;
}

/* tile = start + some rows times the part; pieces, and this tile's share of what comes next, are
 * asked for meanwhile. */
static void multiply_part(real *tile, const tile_start *start, size_t row, size_t rows,
                          panel_part *part, size_t tiles, const char **piece, size_t pieces)
{
    const real *a[FRN_TALL];
    const size_t share = parts(part->width * sizeof(V), LINE_BYTES * tiles),
                 lines = smaller(part->lines, share);
    for (size_t i = 0; i < rows; i++) a[i] = part->a[row + i] + part->begin;
    if (rows < FRN_AHEAD_ROWS || !(pieces || lines)) {
        multiply_tile[rows - 1][part->width - 1](tile, start, a, 1, part->w, part->k);
        return;
    }
    ahead_of_tile ahead = ask_for(piece, pieces, part->k, (const char *)part->w);
    if (lines) {
        ahead.panel = part->next;
        ahead.per_step = lines * LINE_BYTES;
        ahead.second = lines > 1 ? LINE_BYTES : 0;
        part->next += lines * part->k * LINE_BYTES;
        part->lines -= lines;
    }
    multiply_ahead[rows - FRN_AHEAD_ROWS][part->width - 1](tile, start, a, 1, part->w, part->k,
                                                           &ahead);
}

/* The part asks for what follows: weights that stay in L2 need not be asked for, and one tile would
 * do it too late. */
INLINE void ask_after(panel_part *part, const panel_part *after)
{
    part->next = (const char *)after->w;
    part->lines = parts(after->width * sizeof(V), LINE_BYTES);
}

/* One panel, all rows.  `next` is the unit where the panel that follows begins, or beyond the last.
 */
static void run_panel(const stage_call *s, size_t unit, int vectors, size_t next)
{
    _Alignas(64) real here[FRN_TALL * TILE];
    const char *piece[MOST_PIECES + 1];
    const size_t units = smaller(s->units - unit, (size_t)vectors * LANES),
                 count = s->end - s->begin;
    /* tiles of even height: 20 rows are 5 5 5 5, not 6 6 6 2 */
    const size_t most = most_rows(count, s->w->slots * vectors, s->epilogue.pieces != NULL);
    const size_t tiles = parts(count, most), low = count / tiles, high = count % tiles;
    const size_t k = s->w->k + (s->x ? s->w_x->k : 0), runs = runs_of(k, tiles);
    const int asks = tiles > 1 && k * s->slots * round_up(s->units) * sizeof(real) >= LEAST_ASKED;
    real *tile = here;
    panel_part part[2], after[2];
    int n = find_parts(s, unit, vectors, 0, k / runs, part), more = 0;
    for (size_t run = 0; run < runs; run++, n = more) {
        const int final = run + 1 == runs;
        more = 0;
        if (!final)
            more = find_parts(s, unit, vectors, k * (run + 1) / runs, k * (run + 2) / runs, after);
        else if (next < s->units)
            more = find_parts(s, next, vectors, 0, k / runs, after);
        for (int i = 0; asks && i < n && i < more; i++) ask_after(&part[i], &after[i]);
        for (size_t t = 0, row = s->begin, rows; t < tiles; t++, row += rows) {
            size_t pieces = 0;
            rows = low + (t < high);
            if (runs > 1) tile = (real *)s->scratch + (row - s->begin) * TILE;
            if (final && s->epilogue.pieces)
                pieces = s->epilogue.pieces(s->context, row, rows, unit, piece);
            for (int i = 0; i < n; i++) {
                real *sums = tile + part[i].slot * vectors * LANES;
                tile_start start;
                if (run == 0 && i == 0)
                    start_tile(&start, s, row, rows, unit, vectors, part[i].slot,
                               part[i].slot + part[i].slots, tile);
                else
                    from_tile(&start, sums, rows);
                multiply_part(sums, &start, row, rows, &part[i], tiles, piece,
                              i + 1 == n ? pieces : 0);
            }
            if (final) s->epilogue.apply(s->context, row, rows, unit, units, vectors, tile);
        }
        for (int i = 0; i < more; i++) part[i] = after[i];
    }
}

/* One panel whose sums are what they start from. */
static void pass_panel(const stage_call *s, size_t unit, int vectors)
{
    _Alignas(64) real tile[FRN_TALL * TILE];
    const size_t units = smaller(s->units - unit, (size_t)vectors * LANES);
    for (size_t row = s->begin, rows; row < s->end; row += rows) {
        rows = smaller(s->end - row, FRN_TALL);
        copy_slots(s, row, rows, unit, vectors, 0, s->slots, tile);
        s->epilogue.apply(s->context, row, rows, unit, units, vectors, tile);
    }
}

static void run_panels(const stage_call *s, const panel_cut *cut, const real *const *a)
{
    const size_t first = parts(s->unit, cut->width), last = cut->count;
    for (size_t i = first; i < last; i++) {
        const size_t panel = s->backwards ? first + last - 1 - i : i;
        const size_t next = !s->backwards ? panel + 1 : panel > first ? panel - 1 : last;
        const size_t unit = panel_start(cut, panel);
        if (a)
            run_panel(s, unit, panel_vectors(cut, panel), panel_start(cut, next));
        else
            pass_panel(s, unit, panel_vectors(cut, panel));
    }
}

/* One tile, or two, = start + a few rows times as many panels of a weight. */
static void multiply_few(size_t panels, real *tile, const tile_start *start, const real *const *a,
                         size_t rows, const frn_packed *w, size_t unit, int vectors)
{
    multiply_fn *const *of_rows = panels == 2 ? multiply_pair[rows - 1] : multiply_tile[rows - 1];
    of_rows[w->slots * vectors - 1](tile, start, a, 1, weights_at(w, unit), w->k);
}

/* Few rows, which are bound by the reading of weights: it goes on over several panels before their
 * epilogues, whose chains then run through each other. */
static void run_few(const stage_call *s, const panel_cut *cut, const real *const *a)
{
    enum { GROUP = 16 };
    _Alignas(64) real tile[GROUP][FRN_TALL * TILE];
    size_t units[GROUP], grouped = 0;
    int vectors[GROUP];
    const size_t first = parts(s->unit, cut->width), rows = s->end - s->begin;
    const int first_slot = s->x ? 0 : s->first,
              last_slot = first_slot + (s->x ? s->w_x : s->w)->slots;
    for (size_t left = cut->count - first, n; left; left -= n) {
        n = rows >= FRN_PAIR_LEAST && left > 1 ? 2 : 1;
        size_t panel = s->backwards ? first + left - n : cut->count - left;
        if (panel_vectors(cut, panel) != panel_vectors(cut, panel + n - 1))
            n = 1, panel += s->backwards;
        const int wide = panel_vectors(cut, panel);
        for (size_t p = 0; p < n; p++) {
            units[grouped + p] = panel_start(cut, panel + p);
            vectors[grouped + p] = wide;
        }
        real *sums = tile[grouped], *of_state = sums + s->first * wide * LANES;
        tile_start start;
        for (size_t p = n; p-- > 0;) /* a second tile for what is copied: it follows the first */
            start_tile(&start, s, s->begin, rows, units[grouped + p], wide, first_slot, last_slot,
                       tile[grouped + p]);
        if (s->x) {
            multiply_few(n, sums, &start, s->x + s->begin, rows, s->w_x, units[grouped], wide);
            from_tile(&start, of_state, rows);
        }
        multiply_few(n, of_state, &start, a + s->begin, rows, s->w, units[grouped], wide);
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
