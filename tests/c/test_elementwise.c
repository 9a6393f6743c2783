/* Tests of src/elementwise.h for the element type and instruction set it is compiled for: each
 * kernel against its formula in long double, on arrays that end where the memory does.
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/elementwise.h"

#if FRN_DOUBLE
#define EPSILON 0x1p-52
#else
#define EPSILON 0x1p-23
#endif

typedef long double wide;

static int failures;

static void check_near(const char *what, size_t size, wide got, wide expected, wide tolerance)
{
    if (!(fabsl(got - expected) <= tolerance) && ++failures <= 10)
        printf("%s, size %zu: expected %.20Lg, got %.20Lg\n", what, size, expected, got);
}

/* ---- arrays whose first byte beyond the end is not there ---- */

enum { MOST = 32 };
static struct {
    void *at;
    size_t bytes;
} mapped[MOST];
static int n_mapped;

static void *edge(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t whole = (bytes + page - 1) / page * page;
    char *at = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || n_mapped == MOST || mprotect(at + whole, page, PROT_NONE)) abort();
    mapped[n_mapped].at = at;
    mapped[n_mapped++].bytes = whole + page;
    return at + whole - bytes;
}

static void unmap_all(void)
{
    while (n_mapped--) munmap(mapped[n_mapped].at, mapped[n_mapped].bytes);
    n_mapped = 0;
}

static uint64_t random_state = 1;

static double uniform(void) /* in [-1, 1) */
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-52 - 1;
}

static real *numbers(size_t n)
{
    real *x = edge(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (real)(3 * uniform());
    return x;
}

/* ---- the kernels ---- */

static void check_cross_entropy(size_t k, double smoothing)
{
    enum { ROWS = 3 };
    real *z = numbers(ROWS * k), *grad = numbers(ROWS * k);
    double *loss = edge(ROWS * sizeof *loss), *weights = edge(ROWS * sizeof *weights);
    int64_t *targets = edge(ROWS * sizeof *targets);
    for (int row = 0; row < ROWS; row++) {
        targets[row] = (int64_t)(k * (size_t)row / ROWS);
        weights[row] = row;
        loss[row] = -1;
    }
    frn_cross_entropy p = {k, z, targets, weights, 0.5, smoothing, loss, grad};
    cross_entropy(&p, 0, ROWS);
    for (int row = 0; row < ROWS; row++) {
        const real *zr = z + (size_t)row * k, *dr = grad + (size_t)row * k;
        wide total = 0, wanted = 0;
        for (size_t i = 0; i < k; i++) total += expl((wide)zr[i]);
        /* logits below 3, their differences below 6, in exp of 4 ulp and runs of 64 sums */
        for (size_t i = 0; i < k; i++) {
            wide share = (wide)smoothing / k;
            if ((int64_t)i == targets[row]) share += 1 - (wide)smoothing;
            wanted += share * (wide)zr[i];
            share = expl((wide)zr[i]) / total - share;
            check_near("gradient", k, dr[i], share * row / 2, 48 * (wide)EPSILON);
        }
        check_near("loss", k, loss[row], row ? logl(total) - wanted : 0, 48 * (wide)EPSILON);
    }
    double again[ROWS];
    p.loss = again;
    p.grad = NULL;
    cross_entropy(&p, 0, ROWS);
    for (int row = 0; row < ROWS; row++) check_near("loss alone", k, again[row], loss[row], 0);
    p.grad = z;
    cross_entropy(&p, 0, ROWS);
    for (int row = 0; row < ROWS; row++) check_near("loss in place", k, again[row], loss[row], 0);
    for (size_t i = 0; i < ROWS * k; i++) check_near("in place", k, z[i], grad[i], 0);
}

static void test_cross_entropy(size_t k)
{
    check_cross_entropy(k, 0);
    check_cross_entropy(k, 0.125);
}

/* A logit whose exp is no number, wherever it stands. */
static void test_large_logit(size_t k)
{
    real *z = edge(k * sizeof *z);
    double loss, *out = &loss;
    const int64_t target = 0;
    for (size_t i = 0; i < k; i++) {
        frn_cross_entropy p = {k, z, &target, NULL, 1, 0, out, z};
        memset(z, 0, k * sizeof *z);
        z[i] = 2000;
        cross_entropy(&p, 0, 1);
        check_near("loss of a large logit", k, loss, i ? 2000 : 0, 0);
    }
}

static void test_update(size_t n)
{
    for (int rule = FRN_SGD; rule <= FRN_ADAGRAD; rule++) {
        real *p = numbers(n), *g = numbers(n), *m = numbers(n), *v = numbers(n);
        wide *expected = malloc(n * sizeof *expected + 1);
        frn_update u = {.rule = (frn_rule)rule,
                        .param = p,
                        .grad = g,
                        .mean = m,
                        .square = v,
                        .rate = 0.25,
                        .epsilon = 0.5,
                        .l2 = 0.125,
                        .shrink = 0.75,
                        .keep_mean = 0.5,
                        .new_mean = 0.5,
                        .keep_square = 0.75,
                        .new_square = 0.25,
                        .root = 0.5};
        for (size_t i = 0; i < n; i++) {
            v[i] = v[i] * v[i];
            wide x = p[i], gradient, mean, square;
            if (rule == FRN_ADAM) x *= 0.75;
            gradient = g[i] + 0.125 * x;
            mean = 0.5 * m[i] + (rule == FRN_ADAM ? 0.5 : 1) * gradient;
            square = (rule == FRN_ADAGRAD ? 1 : 0.75) * v[i] +
                     (rule == FRN_ADAGRAD ? 1 : 0.25) * gradient * gradient;
            wide step[] = {gradient,
                           mean,
                           gradient + 0.5 * mean,
                           mean / (sqrtl(square) / 0.5 + 0.5),
                           gradient / (sqrtl(square) + 0.5),
                           gradient / (sqrtl(square) + 0.5)};
            expected[i] = x - 0.25 * step[rule];
        }
        update(&u, 0, n / 2);
        update(&u, n / 2, n);
        for (size_t i = 0; i < n; i++)
            check_near("update", n, p[i], expected[i], 16 * (wide)EPSILON);
        free(expected);
        unmap_all();
    }
}

static void test_arrays(size_t n)
{
    real *x = numbers(n), *y = numbers(n), *z = numbers(n);
    wide total = 0;
    for (size_t i = 0; i < n; i++) {
        total += (wide)x[i] * x[i];
        y[i] = x[i];
        z[i] = x[i];
    }
    check_near("sum of squares", n, sum_of_squares(n, x), total, total * 0x1p-50L);
    scale(n, y, 0.75);
    add_scaled(n, z, x, 2);
    for (size_t i = 0; i < n; i++) {
        check_near("scale", n, y[i], x[i] * (wide)0.75, 3 * (wide)EPSILON);
        check_near("add", n, z[i], x[i] * (wide)3, 9 * (wide)EPSILON);
    }
    add_scaled(n, z, x, 1);
    for (size_t i = 0; i < n; i++) check_near("add", n, z[i], x[i] * (wide)4, 24 * (wide)EPSILON);
}

static void test_drop(size_t units)
{
    /* The first numbers of the reference SplitMix64 for the seed 1234567. */
    static const uint64_t reference[] = {6457827717110365317u, 3203168211198807973u,
                                         9817491932198370423u, 4593380528125082431u,
                                         16408922859458223821u};
    enum { ROWS = 2 };
    real *x = numbers(ROWS * units), *out = numbers(ROWS * units);
    uint64_t *keys = edge(ROWS * sizeof *keys);
    keys[0] = keys[1] = 1234567;
    for (size_t t = 0; t < sizeof reference / sizeof *reference; t++) {
        frn_drop p = {units, x, out, keys, reference[t], 2.0};
        drop(&p, 0, ROWS);
        for (size_t i = 0; i < ROWS * units; i++) {
            size_t u = i % units;
            if (u < sizeof reference / sizeof *reference)
                check_near("drop", units, out[i], reference[u] >= reference[t] ? 2 * x[i] : 0, 0);
            x[i] = out[i] == 0 ? 0 : out[i] / x[i]; /* the mask */
        }
        p.x = NULL;
        drop(&p, 0, ROWS);
        for (size_t i = 0; i < ROWS * units; i++) {
            check_near("mask", units, out[i], x[i], 0);
            x[i] = (real)uniform();
        }
    }
}

static void test_table(size_t columns)
{
    static const int64_t where[] = {3, 0, 3, 1};
    enum { ROWS = 4, TABLE = 5 };
    real *table = numbers(TABLE * columns), *rows = numbers(ROWS * columns);
    real *before = numbers(TABLE * columns);
    int64_t *index = edge(sizeof where);
    memcpy(index, where, sizeof where);
    frn_table p = {ROWS, columns, index, table, rows};
    gather(&p, 0, ROWS);
    for (size_t i = 0; i < ROWS * columns; i++)
        check_near("gather", columns, rows[i],
                   table[(size_t)where[i / columns] * columns + i % columns], 0);
    memcpy(before, table, TABLE * columns * sizeof *table);
    scatter_add(&p, 0, columns / 2);
    scatter_add(&p, columns / 2, columns);
    for (size_t i = 0; i < TABLE * columns; i++) {
        static const int used[TABLE] = {1, 1, 0, 2, 0};
        check_near("scatter", columns, table[i], (wide)before[i] * (1 + used[i / columns]),
                   9 * (wide)EPSILON);
    }
}

static void test_layer_norm(size_t k)
{
    enum { ROWS = 3 };
    real *x = numbers(ROWS * k), *dy = numbers(ROWS * k), *y = numbers(ROWS * k);
    real *dx = numbers(ROWS * k), *weight = numbers(k), *bias = numbers(k);
    real *mean = numbers(ROWS), *root = numbers(ROWS), *dweight = numbers(k), *dbias = numbers(k);
    memset(dweight, 0, k * sizeof *dweight);
    memset(dbias, 0, k * sizeof *dbias);
    frn_layer_norm p = {.n = ROWS,
                        .columns = k,
                        .x = x,
                        .weight = weight,
                        .bias = bias,
                        .epsilon = 1,
                        .mean = mean,
                        .scale = root,
                        .out = y};
    layer_norm(&p, 0, ROWS);
    p.out = dx;
    p.dy = dy;
    p.dweight = dweight;
    p.dbias = dbias;
    layer_norm_back(&p, 0, ROWS);
    layer_norm_add(&p, 0, k / 2);
    layer_norm_add(&p, k / 2, k);
    for (size_t i = 0; i < ROWS; i++) {
        wide m = 0, v = 0, along = 0, across = 0;
        for (size_t j = 0; j < k; j++) m += x[i * k + j];
        m /= k;
        for (size_t j = 0; j < k; j++) v += (x[i * k + j] - m) * (x[i * k + j] - m);
        const wide r = 1 / sqrtl(v / k + 1); /* at most 1 */
        for (size_t j = 0; j < k; j++) {
            along += (wide)dy[i * k + j] * weight[j];
            across += (wide)dy[i * k + j] * weight[j] * (x[i * k + j] - m) * r;
        }
        for (size_t j = 0; j < k; j++) {
            const wide n = (x[i * k + j] - m) * r, g = (wide)dy[i * k + j] * weight[j];
            check_near("layer norm", k, y[i * k + j], n * weight[j] + bias[j], 64 * (wide)EPSILON);
            check_near("its gradient", k, dx[i * k + j], (g - along / k - n * across / k) * r,
                       512 * (wide)EPSILON);
            dweight[j] -= (real)(dy[i * k + j] * n);
            dbias[j] -= dy[i * k + j];
        }
    }
    for (size_t j = 0; j < k; j++) {
        check_near("gradient of the weight", k, dweight[j], 0, 128 * (wide)EPSILON);
        check_near("gradient of the bias", k, dbias[j], 0, 64 * (wide)EPSILON);
    }
}

int main(void)
{
    test_cross_entropy(1500); /* several runs of sums */
    unmap_all();
    for (size_t size = 0; size <= 70; size++) {
        void (*const tests[])(size_t) = {test_cross_entropy, test_large_logit, test_update,
                                         test_arrays,        test_drop,        test_table,
                                         test_layer_norm};
        for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
            if (size || (tests[i] != test_cross_entropy && tests[i] != test_layer_norm))
                tests[i](size);
            unmap_all();
        }
    }
    printf("%s: %d failures\n", "test_elementwise", failures);
    return failures > 0;
}
