/* What is done to each element, or row by row, outside of time and of products: cross entropy,
 * optimizer updates, norms, dropout, embedding rows.
 *
 * Loops whose result does not depend on their order are plain C on arrays that do not overlap: the
 * compiler makes vectors of them, and every instruction set and the array formulas above agree in
 * every bit.  A caller may cut [first, last) wherever it likes.
 */
#ifndef FRN_ELEMENTWISE_H
#define FRN_ELEMENTWISE_H

#include <string.h>

#include "kernels.h"
#include "softmax.h"
#include "vec.h"

/* ---- softmax cross entropy ---- */

/* The sum of z - top, in runs as the sum of its exponentials. */
static double sum_below(const real *z, size_t k, real top)
{
    const size_t whole = k - k % LANES, run = 64 * LANES;
    const V shift = vset1(top);
    double total = 0;
    for (size_t start = 0; start < whole; start += run) {
        size_t stop = start + run < whole ? start + run : whole;
        V sum = vzero();
        for (size_t i = start; i < stop; i += LANES) sum = sum + (vload(z + i) - shift);
        total += vsum(sum);
    }
    for (size_t i = whole; i < k; i++) total += z[i] - top;
    return total;
}

static void cross_entropy(const frn_cross_entropy *p, size_t first, size_t last)
{
    const size_t k = p->columns;
    const double sharp = 1 - p->smoothing, even = p->smoothing / (double)k;
    for (size_t row = first; row < last; row++) {
        const real *z = (const real *)p->logits + row * k;
        real *d = p->grad ? (real *)p->grad + row * k : NULL;
        const double weight = p->weights ? p->weights[row] : 1.0;
        if (weight == 0) { /* excluded, whatever it holds */
            p->loss[row] = 0;
            if (d) memset(d, 0, k * sizeof(real));
            continue;
        }
        const real top = largest(z, k);
        double goal =
            sharp * ((double)z[p->targets[row]] - (double)top); /* before d overwrites z */
        if (even != 0) goal += even * sum_below(z, k, top);
        const double total = sum_of_exps(z, k, top, d);
        p->loss[row] = __builtin_log(total) - goal;
        if (!d) continue;
        const double factor = weight * p->scale;
        const real share = (real)(factor / total);
        if (even != 0) {
            const real base = (real)(factor * even);
            for (size_t i = 0; i < k; i++) d[i] = d[i] * share - base;
        } else {
            for (size_t i = 0; i < k; i++) d[i] *= share;
        }
        d[p->targets[row]] -= (real)(factor * sharp);
    }
}

/* ---- optimizers: the formulas stand in fastrnn/optim.py, in the same order of operations ---- */

enum { CLEAR = 2048 }; /* elements that are left alone if their gradient is clear */

#if FRN_DOUBLE
#define FRN_SQRT __builtin_sqrt
#else
#define FRN_SQRT __builtin_sqrtf
#endif

/* Whether all bits of n elements are zero, as those of an embedding's gradient mostly are; of
 * others only the beginning is read. */
static int is_clear(const real *x, size_t n)
{
    enum { LINE = 64 / sizeof(real) };
    size_t i = 0;
    for (; i + LINE <= n; i += LINE) {
        uint64_t word[8], any = 0;
        memcpy(word, x + i, sizeof word);
        for (int j = 0; j < 8; j++) any |= word[j];
        if (any) return 0;
    }
    for (; i < n; i++)
        if (memcmp(x + i, &(real){0}, sizeof *x)) return 0;
    return 1;
}

static void update(const frn_update *u, size_t first, size_t last)
{
    const size_t n = last - first;
    real *restrict p = (real *)u->param + first;
    const real *restrict grad = (const real *)u->grad + first;
    real *restrict m = u->mean ? (real *)u->mean + first : NULL;
    real *restrict v = u->square ? (real *)u->square + first : NULL;
    const real rate = (real)u->rate, l2 = (real)u->l2, eps = (real)u->epsilon;
    const real keep_m = (real)u->keep_mean, new_m = (real)u->new_mean;
    const real keep_v = (real)u->keep_square, new_v = (real)u->new_square;
    const real root = (real)u->root, shrink = (real)u->shrink;

/* g is the gradient with or without the weight decay that is added to it */
#define FRN_EACH(formula)                           \
    do {                                            \
        if (u->l2 != 0)                             \
            for (size_t i = 0; i < n; i++) {        \
                const real g = grad[i] + l2 * p[i]; \
                formula;                            \
            }                                       \
        else                                        \
            for (size_t i = 0; i < n; i++) {        \
                const real g = grad[i];             \
                formula;                            \
            }                                       \
    } while (0)

    switch (u->rule) {
    case FRN_SGD:
        for (size_t at = 0; at < n; at += CLEAR) {
            const size_t end = at + CLEAR < n ? at + CLEAR : n;
            if (u->l2 != 0)
                for (size_t i = at; i < end; i++) p[i] -= rate * (grad[i] + l2 * p[i]);
            else if (!is_clear(grad + at, end - at))
                for (size_t i = at; i < end; i++) p[i] -= rate * grad[i];
        }
        break;
    case FRN_MOMENTUM:
        FRN_EACH(m[i] = m[i] * keep_m + g; p[i] -= rate * m[i]);
        break;
    case FRN_NESTEROV:
        FRN_EACH(m[i] = m[i] * keep_m + g; p[i] -= rate * (g + keep_m * m[i]));
        break;
    case FRN_ADAM:
        if (u->shrink != 1)
            for (size_t i = 0; i < n; i++) p[i] *= shrink;
        FRN_EACH(m[i] = m[i] * keep_m + new_m * g; v[i] = v[i] * keep_v + new_v * (g * g);
                 p[i] -= rate * (m[i] / (FRN_SQRT(v[i]) / root + eps)));
        break;
    case FRN_RMSPROP:
        FRN_EACH(v[i] = v[i] * keep_v + new_v * (g * g);
                 p[i] -= rate * (g / (FRN_SQRT(v[i]) + eps)));
        break;
    case FRN_ADAGRAD:
        FRN_EACH(v[i] = v[i] + g * g; p[i] -= rate * (g / (FRN_SQRT(v[i]) + eps)));
        break;
    }
#undef FRN_EACH
}

/* ---- whole arrays ---- */

/* Of squares, in double: 32 sums side by side, as many as keep up with memory, then one after the
 * other. */
static double sum_of_squares(size_t n, const void *x)
{
    enum { SUMS = 32 };
    const real *a = x;
    double sums[SUMS] = {0}, total = 0;
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (int j = 0; j < SUMS; j++) sums[j] += (double)a[i + j] * (double)a[i + j];
    for (int j = 0; j < SUMS; j++) total += sums[j];
    for (; i < n; i++) total += (double)a[i] * (double)a[i];
    return total;
}

static void scale(size_t n, void *x, double factor)
{
    real *a = x;
    const real f = (real)factor;
    for (size_t i = 0; i < n; i++) a[i] *= f;
}

static void add_scaled(size_t n, void *y, const void *x, double factor)
{
    real *restrict to = y;
    const real *restrict from = x;
    const real f = (real)factor;
    if (factor == 1)
        for (size_t i = 0; i < n; i++) to[i] += from[i];
    else
        for (size_t i = 0; i < n; i++) to[i] += from[i] * f;
}

/* ---- dropout: the hash stands in fastrnn/masks.py ---- */

static inline uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void drop(const frn_drop *p, size_t first, size_t last)
{
    const size_t units = p->units;
    const uint64_t threshold = p->threshold;
    const real keep = (real)p->scale;
    for (size_t row = first; row < last; row++) {
        real *restrict out = (real *)p->out + row * units;
        const uint64_t key = p->keys[row];
        for (size_t u = 0; u < units; u++) {
            uint64_t hash = mix(key + (u + 1) * 0x9E3779B97F4A7C15u);
            out[u] = hash >= threshold ? keep : (real)0;
        }
        if (p->x) {
            const real *restrict x = (const real *)p->x + row * units;
            for (size_t u = 0; u < units; u++) out[u] *= x[u];
        }
    }
}

/* ---- rows of a table ---- */

static void gather(const frn_table *p, size_t first, size_t last)
{
    const size_t bytes = p->columns * sizeof(real);
    for (size_t row = first; row < last; row++)
        memcpy((char *)p->rows + row * bytes,
               (const char *)p->table + (size_t)p->index[row] * bytes, bytes);
}

/* Adds columns [first, last) of all rows, one after the other: whoever splits the columns changes
 * no element's order of sums. */
static void scatter_add(const frn_table *p, size_t first, size_t last)
{
    for (size_t row = 0; row < p->n; row++) {
        const real *restrict from = (const real *)p->rows + row * p->columns;
        real *restrict to = (real *)p->table + (size_t)p->index[row] * p->columns;
        for (size_t i = first; i < last; i++) to[i] += from[i];
    }
}

/* ---- rows normalized over their columns ---- */

/* The sum of (x - mean) and of its square; with mean 0 the first is the row's sum. */
typedef struct {
    double first, second;
} frn_moments;

static frn_moments moments(const real *x, size_t k, real mean)
{
    const V shift = vset1(mean);
    V first = vzero(), second = vzero();
    size_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        V v = vload(x + i) - shift;
        first = first + v;
        second = vfma(v, v, second);
    }
    frn_moments m = {vsum(first), vsum(second)};
    for (; i < k; i++) {
        real v = x[i] - mean;
        m.first += v;
        m.second += (double)v * v;
    }
    return m;
}

static void layer_norm(const frn_layer_norm *p, size_t first, size_t last)
{
    const size_t k = p->columns;
    const real *restrict weight = p->weight, *restrict bias = p->bias;
    for (size_t row = first; row < last; row++) {
        const real *restrict x = (const real *)p->x + row * k;
        real *restrict y = (real *)p->out + row * k;
        const real mean = (real)(moments(x, k, 0).first / (double)k);
        const double variance = moments(x, k, mean).second / (double)k;
        const real scale = (real)(1 / __builtin_sqrt(variance + p->epsilon));
        ((real *)p->mean)[row] = mean;
        ((real *)p->scale)[row] = scale;
        for (size_t i = 0; i < k; i++) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
    }
}

static void layer_norm_back(const frn_layer_norm *p, size_t first, size_t last)
{
    const size_t k = p->columns;
    const real *restrict weight = p->weight;
    for (size_t row = first; row < last; row++) {
        const real *restrict x = (const real *)p->x + row * k;
        const real *restrict dy = (const real *)p->dy + row * k;
        real *restrict dx = (real *)p->out + row * k;
        const real mean = ((const real *)p->mean)[row], scale = ((const real *)p->scale)[row];
        V sum = vzero(), product = vzero();
        size_t i = 0;
        for (; i + LANES <= k; i += LANES) {
            V g = vload(dy + i) * vload(weight + i);
            sum = sum + g;
            product = vfma(g, (vload(x + i) - vset1(mean)) * vset1(scale), product);
        }
        double along = vsum(sum), across = vsum(product);
        for (; i < k; i++) {
            real g = dy[i] * weight[i];
            along += g;
            across += (double)g * ((x[i] - mean) * scale);
        }
        const real a = (real)(along / (double)k), b = (real)(across / (double)k);
        for (i = 0; i < k; i++) dx[i] = (dy[i] * weight[i] - a - (x[i] - mean) * scale * b) * scale;
    }
}

static void layer_norm_add(const frn_layer_norm *p, size_t first, size_t last)
{
    real *restrict dweight = p->dweight, *restrict dbias = p->dbias;
    for (size_t row = 0; row < p->n; row++) {
        const real *restrict x = (const real *)p->x + row * p->columns;
        const real *restrict dy = (const real *)p->dy + row * p->columns;
        const real mean = ((const real *)p->mean)[row], scale = ((const real *)p->scale)[row];
        for (size_t i = first; i < last; i++) {
            dweight[i] += dy[i] * ((x[i] - mean) * scale);
            dbias[i] += dy[i];
        }
    }
}

#endif
