/* Attention: the scores of a query and the steps of its source, their softmax, the mean of the keys
 * by these weights, and back.  The formulas stand in fastrnn/engine/attending.py.
 *
 * A score v . tanh(q + p) needs a tanh for every query, step and unit.  With r = 1 / (1 + e^2q
 * e^2p) that is 1 - 2 r, its derivative 4 r (1 - r), and both exponentials are computed once per
 * row.  What is the same for all steps of a query, here the sum of v, the softmax does not see, so
 * the score is -2 v . r.  r is off by a few roundings of 1, as v . tanh is by those of its sum.  A
 * source with a p beyond FRN_NARROW is `wide` and keeps p as it is: a query may take back what no
 * exponential holds.  A q whose own is 0 or infinite makes r 1 or 0, whatever a narrow p is.
 *
 * A query's results depend on nothing but itself and its source's real steps.  Gradients of a
 * source are sums over its queries in order, and nobody but the task of its columns adds to them.
 */
#ifndef FRN_ATTENTION_H
#define FRN_ATTENTION_H

#include <string.h>

#include "kernels.h"
#include "softmax.h"
#include "units.h"

#if FRN_DOUBLE
#define FRN_NARROW 300.0
#define FRN_R_MAX  0x1p60 /* 1 / r: r is 0 to 1 beyond */
#else
#define FRN_NARROW 33.0f
#define FRN_R_MAX  0x1p30f
#endif

enum {
    QUERIES = 16,                   /* of a task: a block of steps is read once for all of them */
    QUAD = 4,                       /* vectors of units that share a division */
    BLEND_STEPS = 32,               /* whose columns stay in L1 while all rows pass */
    BACK_STEPS = 16,                /* whose gradients stay in L1 while all queries pass */
    DOT_ROWS = FRN_MR == 6 ? 4 : 2, /* of a tile of dot products, */
    DOT_STEPS = 4,                  /* as many sums as registers hold, */
    ONE_STEPS = 8,                  /* and for a single row */
};

/* ---- small products: operands lie where they lie, and are too small to be packed ---- */

/* v[0] = the sum of each of LANES vectors over its lanes, always in the same order. */
INLINE void sums_over_lanes(V *v)
{
    vtranspose(v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v[i] = v[i] + v[i + half];
}

/* out[r][s] = a[r] . b[s] for a few rows of both, of which those beyond the last stand for it. */
INLINE void dot_tile(const int rows, const int steps, const real *a, size_t lda, size_t n_rows,
                     const real *b, size_t ldb, size_t n_steps, size_t k, real *out, size_t ldo)
{
    enum { MOST = 16 };
    V sum[MOST];
    const real *row[DOT_ROWS], *step[ONE_STEPS];
    UNROLL for (int i = 0; i < MOST; i++) sum[i] = vzero();
    UNROLL for (int r = 0; r < rows; r++) row[r] = a + smaller(r, n_rows - 1) * lda;
    UNROLL for (int s = 0; s < steps; s++) step[s] = b + smaller(s, n_steps - 1) * ldb;
    size_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        V x[DOT_ROWS];
        UNROLL for (int r = 0; r < rows; r++) x[r] = vload(row[r] + i);
        UNROLL for (int s = 0; s < steps; s++)
        {
            const V y = vload(step[s] + i);
            UNROLL for (int r = 0; r < rows; r++) sum[r * steps + s] =
                vfma(x[r], y, sum[r * steps + s]);
        }
    }
    if (i < k) UNROLL for (int s = 0; s < steps; s++)
        {
            const V y = vload_n(step[s] + i, (int)(k - i));
            UNROLL for (int r = 0; r < rows; r++) sum[r * steps + s] =
                vfma(vload_n(row[r] + i, (int)(k - i)), y, sum[r * steps + s]);
        }
    _Alignas(64) real sums[MOST];
    for (int j = 0; j < MOST && j < rows * steps; j += LANES) {
        sums_over_lanes(sum + j);
        vstore(sums + j, sum[j]);
    }
    for (size_t r = 0; r < smaller(rows, n_rows); r++)
        for (size_t s = 0; s < smaller(steps, n_steps); s++) out[r * ldo + s] = sums[r * steps + s];
}

/* out (rows, steps) = a (rows, k) times b (steps, k) transposed */
static void dots(const real *a, size_t lda, size_t rows, const real *b, size_t ldb, size_t steps,
                 size_t k, real *out, size_t ldo)
{
    if (rows == 1) {
        for (size_t s = 0; s < steps; s += ONE_STEPS)
            dot_tile(1, ONE_STEPS, a, lda, 1, b + s * ldb, ldb, steps - s, k, out + s, ldo);
        return;
    }
    for (size_t s = 0; s < steps; s += DOT_STEPS)
        for (size_t r = 0; r < rows; r += DOT_ROWS)
            dot_tile(DOT_ROWS, DOT_STEPS, a + r * lda, lda, rows - r, b + s * ldb, ldb, steps - s,
                     k, out + r * ldo + s, ldo);
}

/* A matrix of weights w[i][j] at i * row + j * column. */
typedef struct {
    const real *at;
    size_t row, column;
} weights_of;

/* A few rows of out (+)= w b, `vectors` vectors wide; of one, n columns. */
INLINE void blend_tile(const int rows, const int vectors, weights_of w, const real *b, size_t ldb,
                       size_t steps, real *out, size_t ldo, size_t n, int add)
{
    V sum[DOT_ROWS][QUAD];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) sum[r][v] =
        add ? load_units(out + r * ldo + v * LANES, vectors > 1 ? LANES : n) : vzero();
    for (size_t s = 0; s < steps; s++) {
        const real *from = b + s * ldb;
        V y[QUAD];
        UNROLL for (int v = 0; v < vectors; v++) y[v] =
            load_units(from + v * LANES, vectors > 1 ? LANES : n);
        UNROLL for (int r = 0; r < rows; r++)
        {
            const V x = vset1(w.at[r * w.row + s * w.column]);
            UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = vfma(x, y[v], sum[r][v]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++)
        store_units(out + r * ldo + v * LANES, vectors > 1 ? LANES : n, sum[r][v]);
}

/* All rows, some steps: QUAD vectors of columns, or up to one. */
static void blend_columns(weights_of w, size_t rows, const real *b, size_t ldb, size_t steps,
                          real *out, size_t ldo, size_t n, int add)
{
    const int quad = n == QUAD * LANES;
    for (size_t r = 0, high; r < rows; r += high, w.at += high * w.row, out += high * ldo) {
        high = rows - r >= DOT_ROWS ? DOT_ROWS : 1;
        if (quad && high == 1)
            blend_tile(1, QUAD, w, b, ldb, steps, out, ldo, n, add);
        else if (quad)
            blend_tile(DOT_ROWS, QUAD, w, b, ldb, steps, out, ldo, n, add);
        else if (high == 1)
            blend_tile(1, 1, w, b, ldb, steps, out, ldo, n, add);
        else
            blend_tile(DOT_ROWS, 1, w, b, ldb, steps, out, ldo, n, add);
    }
}

/* out (rows, columns) (+)= w (rows, steps) b (steps, columns), each sum one chain over the steps */
static void blend(weights_of w, size_t rows, const real *b, size_t ldb, size_t steps, real *out,
                  size_t ldo, size_t columns, int add)
{
    for (size_t c = 0, n; c < columns; c += n) {
        size_t s = 0;
        n = smaller(columns - c, columns - c < QUAD * LANES ? LANES : QUAD * LANES);
        do { /* without steps, too: zero */
            const weights_of here = {w.at + s * w.column, w.row, w.column};
            blend_columns(here, rows, b + s * ldb + c, ldb, smaller(steps - s, BLEND_STEPS),
                          out + c, ldo, n, add || s);
            s += BLEND_STEPS;
        } while (s < steps);
    }
}

/* ---- the additive score ---- */

/* e^2x of n elements; out may be x. */
static void exponentials(const real *x, size_t n, real *out)
{
    for (size_t i = 0; i < n; i += LANES) {
        const V v = load_units(x + i, n - i);
        store_units(out + i, n - i, vexp(v + v));
    }
}

/* Sources [first, last): whether each is wide, and else e^2p in the place of p. */
static void attention_read(const frn_attention *p, size_t first, size_t last)
{
    for (size_t n = first; n < last; n++) {
        real *x = (real *)p->projected + (size_t)p->base[n] * p->units;
        const size_t size = (size_t)(p->base[n + 1] - p->base[n]) * p->units;
        V top = vzero();
        for (size_t i = 0; i < size; i += LANES) top = vmax(vabs(load_units(x + i, size - i)), top);
        p->wide[n] = !(vmaxval(top) <= FRN_NARROW);
        if (!p->wide[n]) exponentials(x, size, x);
    }
}

/* r = (1 - tanh(q + p)) / 2, from e^2q and e^2p or, wide, from q and p; the limit keeps NaN. */
INLINE V inverse_of_r(V q, V p)
{
    return vmin(vset1(FRN_R_MAX), vfma(q, p, vset1(1)));
}
INLINE V one_r(const int wide, V q, V p)
{
    return wide ? (vset1(1) - vtanh(q + p)) * vset1((real)0.5) : vset1(1) / inverse_of_r(q, p);
}

/* out[s] = -2 v . r for up to LANES steps */
static void additive_scores(int wide, const real *q, const real *p, size_t steps, const real *v,
                            size_t units, real *out)
{
    V sum[LANES];
    for (int s = 0; s < LANES; s++) sum[s] = vzero();
    size_t u = 0;
    for (; !wide && u + QUAD * LANES <= units; u += QUAD * LANES) {
        V x[QUAD], y[QUAD];
        UNROLL for (int i = 0; i < QUAD; i++) x[i] = vload(q + u + i * LANES);
        UNROLL for (int i = 0; i < QUAD; i++) y[i] = vload(v + u + i * LANES);
        for (size_t s = 0; s < steps; s++) {
            /* four fractions on one denominator, which is at most FRN_R_MAX^4 */
            const real *here = p + s * units + u;
            V d[QUAD];
            UNROLL for (int i = 0; i < QUAD; i++) d[i] =
                inverse_of_r(x[i], vload(here + i * LANES));
            const V low = vfma(y[0], d[1], y[1] * d[0]), below = d[0] * d[1];
            const V high = vfma(y[2], d[3], y[3] * d[2]), above = d[2] * d[3];
            sum[s] = sum[s] + vfma(low, above, high * below) / (below * above);
        }
    }
    for (; u < units; u += LANES) {
        const V x = load_units(q + u, units - u), y = load_units(v + u, units - u);
        for (size_t s = 0; s < steps; s++)
            sum[s] = vfma(y, one_r(wide, x, load_units(p + s * units + u, units - u)), sum[s]);
    }
    sums_over_lanes(sum);
    store_units(out, steps, sum[0] * vset1(-2));
}

/* ---- forward ---- */

static size_t attention_tasks(const frn_attention *p)
{
    return p->n * parts(p->queries, QUERIES);
}

static size_t attention_bytes(const frn_attention *p)
{
    return QUERIES * round_up(p->units) * sizeof(real);
}

static void softmax(real *e, size_t n)
{
    const double total = sum_of_exps(e, n, largest(e, n), e);
    const real share = (real)(1 / total);
    for (size_t i = 0; i < n; i++) e[i] *= share;
}

/* Some queries of a source. */
static void attention(const frn_attention *p, size_t task, void *scratch)
{
    const size_t groups = parts(p->queries, QUERIES), n = task / groups,
                 query = task % groups * QUERIES, rows = smaller(p->queries - query, QUERIES),
                 row = n * p->queries + query, first = (size_t)p->base[n],
                 steps = (size_t)p->base[n + 1] - first, units = p->units;
    const real *q = (const real *)p->query + row * units;
    const real *projected = (const real *)p->projected + first * units;
    real *e = (real *)p->weights + row * p->steps, *own = scratch;
    const size_t lead = round_up(units);
    if (!p->score) dots(q, units, rows, projected, units, steps, units, e, p->steps);
    for (size_t r = 0; p->score && r < rows; r++) {
        if (p->wide[n])
            memcpy(own + r * lead, q + r * units, units * sizeof(real));
        else
            exponentials(q + r * units, units, own + r * lead);
    }
    for (size_t s = 0; p->score && s < steps; s += LANES)
        for (size_t r = 0; r < rows; r++)
            additive_scores(p->wide[n], own + r * lead, projected + s * units,
                            smaller(steps - s, LANES), p->score, units, e + r * p->steps + s);
    for (size_t r = 0; r < rows; r++) {
        if (steps) softmax(e + r * p->steps, steps);
        memset(e + r * p->steps + steps, 0, (p->steps - steps) * sizeof(real));
    }
    blend((weights_of){e, p->steps, 1}, rows, (const real *)p->keys + first * p->columns,
          p->columns, steps, (real *)p->context + row * p->columns, p->columns, p->columns, 0);
}

/* ---- backward: first the gradients of all scores, then by columns everybody's ---- */

/* de = a (da - a . da), in place of da */
static void softmax_back(const real *a, real *d, size_t n)
{
    enum { RUN = 64 * LANES }; /* summed in the element type, and these sums in double */
    double along = 0;
    for (size_t start = 0; start < n; start += RUN) {
        V sum = vzero();
        for (size_t i = start; i < smaller(start + RUN, n); i += LANES)
            sum = vfma(load_units(a + i, n - i), load_units(d + i, n - i), sum);
        along += vsum(sum);
    }
    const real mean = (real)along;
    for (size_t i = 0; i < n; i++) d[i] = a[i] * (d[i] - mean);
}

/* Some queries of a source, as `attention` has them. */
static void attention_scores_back(const frn_attention *p, size_t task)
{
    const size_t groups = parts(p->queries, QUERIES), n = task / groups,
                 query = task % groups * QUERIES, rows = smaller(p->queries - query, QUERIES),
                 row = n * p->queries + query, first = (size_t)p->base[n],
                 steps = (size_t)p->base[n + 1] - first;
    real *d = (real *)p->dscores + row * p->steps;
    dots((const real *)p->dcontext + row * p->columns, p->columns, rows,
         (const real *)p->keys + first * p->columns, p->columns, steps, p->columns, d, p->steps);
    for (size_t r = 0; r < rows; r++)
        softmax_back((const real *)p->weights + (row + r) * p->steps, d + r * p->steps, steps);
}

/* What the additive score's gradients in some columns of a source are made of. */
typedef struct {
    size_t queries, units, width; /* width: of the columns */
    const real *own;              /* (queries, QUAD vectors): e^2q or, wide, q */
    const real *p, *v;            /* (steps, units), (units,) */
    const real *dscores;          /* (queries, lead) */
    size_t lead;
    real *dq, *dp, *dv; /* (queries, units), (steps, units), (units,): added to */
} additive_part;

/* Adds what steps [first, last) give; dq lacks its factor, 4 v. */
INLINE void additive_back(const additive_part *p, const int wide, const int vectors, size_t first,
                          size_t last)
{
    const size_t n = vectors > 1 ? LANES : p->width;
    const V one = vset1(1);
    V dv[QUAD], v4[QUAD];
    UNROLL for (int i = 0; i < vectors; i++)
    {
        dv[i] = vzero();
        v4[i] = load_units(p->v + i * LANES, n) * vset1(4);
    }
    for (size_t t = 0; t < p->queries; t++) {
        real *row = p->dq + t * p->units;
        V x[QUAD], dq[QUAD];
        UNROLL for (int i = 0; i < vectors; i++)
        {
            x[i] = load_units(p->own + (t * QUAD + i) * LANES, n);
            dq[i] = load_units(row + i * LANES, n);
        }
        for (size_t s = first; s < last; s++) {
            const V de = vset1(p->dscores[t * p->lead + s]);
            const real *here = p->p + s * p->units;
            real *to = p->dp + s * p->units;
            V r[QUAD];
            if (vectors == QUAD) { /* four inverses by one division */
                V d[QUAD];
                UNROLL for (int i = 0; i < QUAD; i++) d[i] =
                    inverse_of_r(x[i], vload(here + i * LANES));
                const V below = d[0] * d[1], above = d[2] * d[3], all = one / (below * above);
                const V low = all * above, high = all * below;
                r[0] = low * d[1], r[1] = low * d[0];
                r[2] = high * d[3], r[3] = high * d[2];
            } else {
                r[0] = one_r(wide, x[0], load_units(here, n));
            }
            UNROLL for (int i = 0; i < vectors; i++)
            {
                const V along = de * (r[i] * (one - r[i]));
                dv[i] = vfma(de, r[i], dv[i]);
                dq[i] = dq[i] + along;
                store_units(to + i * LANES, n, vfma(v4[i], along, load_units(to + i * LANES, n)));
            }
        }
        UNROLL for (int i = 0; i < vectors; i++) store_units(row + i * LANES, n, dq[i]);
    }
    UNROLL for (int i = 0; i < vectors; i++)
    {
        real *to = p->dv + i * LANES;
        store_units(to, n, vfma(dv[i], vset1(-2), load_units(to, n)));
    }
}

/* Columns of a source that share their divisions, or fewer than a vector. */
static void additive_columns(const additive_part *p, int wide, const real *q, size_t steps,
                             real *own)
{
    const size_t bytes = p->width * sizeof(real);
    for (size_t t = 0; t < p->queries; t++) {
        memset(p->dq + t * p->units, 0, bytes);
        if (wide)
            memcpy(own + t * QUAD * LANES, q + t * p->units, bytes);
        else
            exponentials(q + t * p->units, p->width, own + t * QUAD * LANES);
    }
    for (size_t s = 0; s < steps; s += BACK_STEPS) {
        const size_t last = smaller(s + BACK_STEPS, steps);
        if (p->width == QUAD * LANES)
            additive_back(p, 0, QUAD, s, last);
        else if (wide)
            additive_back(p, 1, 1, s, last);
        else
            additive_back(p, 0, 1, s, last);
    }
    for (size_t t = 0; t < p->queries; t++)
        for (size_t u = 0; u < p->width; u++) p->dq[t * p->units + u] *= 4 * p->v[u];
}

static size_t attention_back_tasks(const frn_attention *p)
{
    const size_t widest = p->units > p->columns ? p->units : p->columns;
    return p->n * parts(widest, QUAD * LANES);
}

static size_t attention_back_bytes(const frn_attention *p)
{
    return p->queries * QUAD * LANES * sizeof(real);
}

/* The scores' gradients of some columns of a source and its queries. */
static void scores_columns(const frn_attention *p, size_t n, size_t first, size_t last, real *own)
{
    const size_t units = p->units, row = n * p->queries, from = (size_t)p->base[n],
                 steps = (size_t)p->base[n + 1] - from;
    const real *q = (const real *)p->query + row * units,
               *projected = (const real *)p->projected + from * units,
               *d = (const real *)p->dscores + row * p->steps;
    real *dq = (real *)p->dquery + row * units, *dp = (real *)p->dprojected + from * units;
    if (!p->score) {
        const weights_of of_steps = {d, p->steps, 1}, of_queries = {d, 1, p->steps};
        blend(of_steps, p->queries, projected + first, units, steps, dq + first, units,
              last - first, 0);
        blend(of_queries, steps, q + first, units, p->queries, dp + first, units, last - first, 1);
        return;
    }
    for (size_t u = first, width; u < last; u += width) {
        width = smaller(last - u, p->wide[n] || last - u < QUAD * LANES ? LANES : QUAD * LANES);
        const additive_part part = {
            .queries = p->queries,
            .units = units,
            .width = width,
            .own = own,
            .p = projected + u,
            .v = (const real *)p->score + u,
            .dscores = d,
            .lead = p->steps,
            .dq = dq + u,
            .dp = dp + u,
            .dv = (real *)p->dscore + n * units + u,
        };
        additive_columns(&part, p->wide[n], q + u, steps, own);
    }
}

static void attention_back(const frn_attention *p, size_t task, void *scratch)
{
    const size_t blocks = attention_back_tasks(p) / p->n, n = task / blocks,
                 column = task % blocks * QUAD * LANES, row = n * p->queries,
                 first = (size_t)p->base[n], steps = (size_t)p->base[n + 1] - first;
    if (column < p->units)
        scores_columns(p, n, column, smaller(column + QUAD * LANES, p->units), scratch);
    if (column < p->columns)
        blend((weights_of){(const real *)p->weights + row * p->steps, 1, p->steps}, steps,
              (const real *)p->dcontext + row * p->columns + column, p->columns, p->queries,
              (real *)p->dkeys + first * p->columns + column, p->columns,
              smaller(QUAD * LANES, p->columns - column), 1);
}

#endif
