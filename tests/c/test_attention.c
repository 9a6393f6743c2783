/* Tests of src/attention.h for the element type and instruction set it is compiled for: the whole
 * of it against its formulas in long double, on arrays that end where the memory does.
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/attention.h"

#if FRN_DOUBLE
#define EPSILON 0x1p-52
#else
#define EPSILON 0x1p-23
#endif

typedef long double wide;

static int failures;

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

static real *numbers(size_t n, double size)
{
    real *x = edge(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (real)(size * uniform());
    return x;
}

static wide *zeros(size_t n)
{
    return calloc(n + 1, sizeof(wide));
}

static void check(const char *what, const frn_attention *p, const real *got, const wide *expected,
                  size_t n, wide tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsl(got[i] - expected[i]) <= tolerance) && ++failures <= 10)
            printf("%s %zu of %zu queries, %zu steps, %zu units, %zu columns%s: expected %.20Lg, "
                   "got %.20Lg\n",
                   what, i, p->queries, p->steps, p->units, p->columns,
                   p->score ? ", additive" : "", expected[i], (wide)got[i]);
}

/* ---- the formulas ---- */

/* What the passes give, of arrays as p's. */
typedef struct {
    wide *weights, *context, *dquery, *dprojected, *dkeys, *dscore;
} results;

/* One query of one source, forward and back; raw: p as it was before it was read. */
static void by_formula(const frn_attention *p, const real *raw, size_t n, size_t t, results *to)
{
    const size_t row = n * p->queries + t, first = (size_t)p->base[n], A = p->units, K = p->columns,
                 steps = (size_t)p->base[n + 1] - first;
    const real *q = (const real *)p->query + row * A, *keys = (const real *)p->keys + first * K,
               *v = p->score, *dcontext = (const real *)p->dcontext + row * K;
    wide *a = to->weights + row * p->steps, *tanhs = zeros(steps * A), *de = zeros(steps);
    wide total = 0, along = 0;
    raw += first * A;
    for (size_t s = 0; s < steps; s++) {
        wide e = 0;
        for (size_t u = 0; u < A; u++) {
            tanhs[s * A + u] = tanhl((wide)q[u] + raw[s * A + u]);
            e += v ? v[u] * tanhs[s * A + u] : (wide)q[u] * raw[s * A + u];
        }
        total += a[s] = expl(e);
    }
    for (size_t s = 0; s < steps; s++) {
        a[s] /= total;
        for (size_t c = 0; c < K; c++) {
            to->context[row * K + c] += a[s] * keys[s * K + c];
            to->dkeys[(first + s) * K + c] += a[s] * dcontext[c];
            de[s] += (wide)dcontext[c] * keys[s * K + c];
        }
        along += a[s] * de[s];
    }
    for (size_t s = 0; s < steps; s++) {
        de[s] = a[s] * (de[s] - along);
        for (size_t u = 0; u < A; u++) {
            const wide tanh = tanhs[s * A + u], slope = v ? de[s] * v[u] * (1 - tanh * tanh) : 0;
            to->dquery[row * A + u] += v ? slope : de[s] * raw[s * A + u];
            to->dprojected[(first + s) * A + u] += v ? slope : de[s] * q[u];
            if (v) to->dscore[n * A + u] += de[s] * tanh;
        }
    }
    free(tanhs);
    free(de);
}

static void test(size_t queries, size_t steps, size_t units, size_t columns, int additive)
{
    enum { N = 4 };
    int64_t *base = edge((N + 1) * sizeof *base);
    for (size_t n = 0; n < N; n++) /* of all lengths from 0 to `steps` */
        base[n + 1] = (n ? base[n] : (base[0] = 0)) + (int64_t)(n * steps / (N - 1));
    const size_t total = (size_t)base[N], rows = N * queries;
    real *raw = numbers(total * units, 2), *projected = numbers(total * units, 0);
    /* p of source 2 are too large, and its queries take them back */
    const real far = FRN_DOUBLE ? 600 : 60;
    real *query = numbers(rows * units, 1);
    for (size_t i = 0; additive && i < queries * units; i++)
        query[2 * queries * units + i] -= i % units % 2 ? far : -far;
    for (size_t i = 0; i < total * units; i++) {
        const size_t row = i / units;
        if (additive && row >= (size_t)base[2] && row < (size_t)base[3])
            raw[i] += i % units % 2 ? far : -far;
        projected[i] = raw[i];
    }
    unsigned char *is_wide = edge(N);
    memset(is_wide, 0, N);
    frn_attention p = {
        .n = N,
        .queries = queries,
        .steps = steps,
        .units = units,
        .columns = columns,
        .base = base,
        .query = query,
        .projected = projected,
        .wide = is_wide,
        .score = additive ? numbers(units, 0.5) : NULL,
        .keys = numbers(total * columns, 1),
        .weights = numbers(rows * steps, 9),
        .context = numbers(rows * columns, 9),
        .dcontext = numbers(rows * columns, 1),
        .dscores = numbers(rows * steps, 9),
        .dquery = numbers(rows * units, 9),
        .dprojected = numbers(total * units, 0),
        .dkeys = numbers(total * columns, 0),
        .dscore = numbers(N * units, 0),
    };
    if (additive) attention_read(&p, 0, N);
    void *scratch = aligned_alloc(64, (attention_bytes(&p) + 63) / 64 * 64 + 64);
    for (size_t task = 0; task < attention_tasks(&p); task++) attention(&p, task, scratch);
    free(scratch);
    for (size_t task = 0; task < attention_tasks(&p); task++) attention_scores_back(&p, task);
    scratch = aligned_alloc(64, (attention_back_bytes(&p) + 63) / 64 * 64 + 64);
    for (size_t task = 0; task < attention_back_tasks(&p); task++)
        attention_back(&p, task, scratch);
    free(scratch);
    results r = {zeros(rows * steps),  zeros(rows * columns),  zeros(rows * units),
                 zeros(total * units), zeros(total * columns), zeros(N * units)};
    for (size_t n = 0; n < N; n++)
        for (size_t t = 0; t < queries; t++) by_formula(&p, raw, n, t, &r);
    /* sums of as many terms of about 1, and a wide source's q + p */
    const wide one = 8 * (wide)EPSILON * (4 + sqrtl(units) + (additive ? (wide)far : 0));
    check("weight", &p, p.weights, r.weights, rows * steps, one);
    check("context", &p, p.context, r.context, rows * columns, one);
    check("query's gradient", &p, p.dquery, r.dquery, rows * units, one * sqrtl(columns));
    check("p's gradient", &p, p.dprojected, r.dprojected, total * units,
          one * sqrtl(columns) * queries);
    check("key's gradient", &p, p.dkeys, r.dkeys, total * columns, one * queries);
    check("score's gradient", &p, p.dscore, r.dscore, N * units, one * sqrtl(columns) * queries);
    free(r.weights), free(r.context), free(r.dquery);
    free(r.dprojected), free(r.dkeys), free(r.dscore);
    unmap_all();
}

int main(void)
{
    static const size_t sizes[] = {
        1, 2, 3, LANES - 1, LANES, LANES + 1, QUAD * LANES, QUAD * LANES + 3};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (int additive = 0; additive < 2; additive++)
        for (size_t i = 0; i < SIZES; i++)
            for (size_t j = 0; j < SIZES; j++)
                test(1 + (i + j) % 5, 1 + (3 * i + j) % 7, sizes[i], sizes[j], additive);
    for (int additive = 0; additive < 2; additive++) {
        test(QUERIES + 1, BLEND_STEPS + 1, 2 * QUAD * LANES + 1, LANES, additive);
        test(2, 2 * LANES + 1, LANES, 2 * QUAD * LANES + 2, additive);
    }
    printf("%s: %d failures\n", "test_attention", failures);
    return failures != 0;
}
