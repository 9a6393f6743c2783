/* Tests of the kernels of one instruction set and dtype, through their table.
 *
 * test_kernels         some hundreds of shapes, a second or two
 * test_kernels slow    ten times as many
 *
 * Every buffer is laid out as the Cython modules do, with nothing readable or writable beyond it,
 * and filled with NaN.  Products, sums and walks are held against naive ones in double, gradients
 * against differences, and every way to cut the same work against the bits of the whole.
 * Every check prints what differs and the answer is 1 if any did.
 */
#include <signal.h>

#include "kernels_gradient.h"

/* A size around a whole number of vectors, or of panels. */
static size_t edge(void)
{
    const size_t sizes[] = {1, LANES - 1, LANES, LANES + 1, 4 * LANES + 1};
    return sizes[below(5)] + (LANES == 2 && chance(20)); /* 2 lanes: 3 vectors and a half too */
}

static double *draw(size_t n)
{
    double *values = fenced_doubles(n);
    for (size_t i = 0; i < n; i++) values[i] = uniform(1);
    return values;
}

/* A matrix whose rows lie `lead` apart, from (rows, columns) values. */
static real *matrix(const double *values, size_t rows, size_t columns, size_t lead)
{
    size_t step;
    real *m = fenced_rows(rows, columns * sizeof(real), 0, (lead - columns) * sizeof(real), &step);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) m[i * lead + j] = (real)values[i * columns + j];
    return m;
}

/* ---- products ---- */

/* As many rows of `width` as pointers, evenly or wherever; filled where there are values. */
static void **scatter(const double *values, size_t rows, size_t width)
{
    size_t step;
    const int shuffled = chance(40);
    void **at = fenced(rows * sizeof *at);
    char *data =
        fenced_rows(rows, width * sizeof(real), chance(50), below(3) * sizeof(real), &step);
    for (size_t i = 0; i < rows; i++) at[i] = data + (shuffled ? rows - 1 - i : i) * step;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < width && values; j++)
            ((real *)at[i])[j] = (real)values[i * width + j];
    return at;
}

static void check_product(size_t rows, size_t k, size_t units)
{
    const int transposed = chance(50), plain = chance(30);
    const size_t gap = below(3);
    const double *a = draw(rows * k), *w = draw(k * units), *bias = chance(50) ? draw(units) : NULL;
    const double *before = chance(50) ? draw(rows * units) : NULL;
    describe("product: %zu rows, k %zu, units %zu, transposed %d, bias %d, accumulate %d, blas %d",
             rows, k, units, transposed, bias != NULL, before != NULL, plain);
    /* the weight is (units, k) as for x W', or (k, units) as for dy W */
    const size_t lead = (transposed ? units : k) + gap;
    const real *source = transposed ? matrix(w, k, units, lead) : matrix(w, units, k, lead);
    const frn_axis of_k = simple_axis(k, transposed ? lead : 1),
                   of_units = simple_axis(units, transposed ? 1 : lead);
    frn_product p = {.rows = rows,
                     .a = (const void *const *)scatter(a, rows, k),
                     .w = pack_weight(source, &of_k, &of_units, FRN_SLOTS, plain),
                     .accumulate = before != NULL,
                     .blas = plain ? &naive_blas : NULL};
    if (bias) {
        real *padded = fenced_reals(up_to(units, LANES));
        memset(padded, 0, up_to(units, LANES) * sizeof(real));
        for (size_t j = 0; j < units; j++) padded[j] = (real)bias[j];
        p.bias = padded;
    }
    real *whole = fenced_reals(rows * units);
    for (int how = WHOLE; how <= FINE; how++) {
        p.out = scatter(before, rows, units);
        size_t *ends = fenced((rows + 1) * sizeof *ends), parts = cut(rows, how == FINE, ends);
        if (how == WHOLE) parts = 1, ends[0] = rows;
        for (size_t part = parts; part-- > 0;) {
            const size_t first = part ? ends[part - 1] : 0;
            const fence *mark = fences;
            void *scratch = fenced(up_to(kernels->product_bytes(&p, ends[part] - first), 64));
            /* whole panels at a time, or with BLAS all units */
            const size_t width = plain || how == WHOLE ? units : (1 + below(3)) * FRN_SLOTS * LANES;
            for (size_t unit = 0; unit < units; unit += width)
                kernels->product(&p, first, ends[part], unit,
                                 unit + width < units ? unit + width : units, scratch);
            release(mark);
        }
        for (size_t i = 0; i < rows; i++) {
            for (size_t j = 0; j < units; j++) {
                double want = (bias ? bias[j] : 0) + (before ? before[i * units + j] : 0);
                for (size_t l = 0; l < k; l++)
                    want += a[i * k + l] * w[transposed ? l * units + j : j * k + l];
                const double got = ((real *)p.out[i])[j];
                CHECK(fabs(got - want) <= tolerance * 2 * (1 + k / 500),
                      "row %zu, unit %zu: %g, expected %g", i, j, got, want);
            }
            if (how == WHOLE) memcpy(whole + i * units, p.out[i], units * sizeof(real));
            CHECK(plain || !memcmp(whole + i * units, p.out[i], units * sizeof(real)),
                  "row %zu has other bits when the rows are cut", i);
        }
    }
    release(NULL);
}

/* ---- sums of outer products ---- */

static void check_outer(size_t rows, size_t n, size_t columns)
{
    const int blocks = 1 + (int)below(FRN_SLOTS), blas = chance(30);
    const size_t padded = up_to(n, LANES), block = 1 + below(rows + 1);
    const size_t width = (blocks - 1) * padded + n, ldd = width + below(4);
    const double *d = draw(rows * width), *x = draw(rows * columns);
    frn_outer o = {.rows = rows,
                   .d = matrix(d, rows, width, ldd),
                   .ldd = ldd,
                   .x = (const void *const *)scatter(x, rows, columns),
                   .columns = columns,
                   .blocks = blocks,
                   .n = n,
                   .blas = blas ? &naive_blas : NULL};
    const int only = (int)below(3); /* dw, db or both */
    const double *before = draw(blocks * n * columns), *before_b = draw(blocks * n);
    describe("outer: %zu rows, n %zu, columns %zu, %d blocks, by %zu, dw %d, db %d, blas %d", rows,
             n, columns, blocks, block, only != 1, only != 0, blas);
    if (only != 1) o.dw = matrix(before, blocks * n, columns, columns);
    if (only != 0) o.db = matrix(before_b, 1, blocks * n, blocks * n);
    for (int b = 0; b < blocks; b++) { /* gates and slots are not in one order */
        o.offset[b] = b * padded;
        o.row[b] = (size_t)((b + 1) % blocks) * n;
    }
    run_outer(o, block);
    for (int b = 0; b < blocks; b++)
        for (size_t j = 0; j < n; j++) {
            const size_t row = o.row[b] + j;
            for (size_t c = 0; c <= columns; c++) { /* the last one stands for db */
                const int sum = c == columns;
                if (!(sum ? o.db : o.dw)) continue;
                double want = sum ? before_b[row] : before[row * columns + c];
                for (size_t i = 0; i < rows; i++)
                    want += d[i * width + o.offset[b] + j] * (sum ? 1 : x[i * columns + c]);
                const double got = sum ? ((real *)o.db)[row] : ((real *)o.dw)[row * columns + c];
                CHECK(fabs(got - want) <= tolerance * 2,
                      "block %d, row %zu, column %zu: %g, expected %g", b, j, c, got, want);
            }
        }
    release(NULL);
}

/* ---- */

static const char *const cell_name[FRN_CELLS] = {
    "LSTM", "LSTM projected", "GRU", "GRU after", "RNN tanh", "RNN relu", "RNN sigmoid"};

static void check_cell(frn_cell cell, size_t round)
{
    seed_random(round * FRN_CELLS + cell);
    shape s = {.cell = cell,
               .N = below(15),
               .T = below(6),
               .D = edge(),
               .H = edge(),
               .P = edge(),
               .masked = chance(30),
               .reverse = chance(40),
               .biased = chance(80),
               .blas = chance(25),
               .dy = chance(80),
               .dstate = chance(60)};
    if (chance(10)) { /* more rows than the input's product takes at once */
        s.T = chance(50) ? 20 : 1 + below(3);
        s.N = s.T == 20 ? 1 + below(14) : 90 + below(20);
    } else if (chance(10)) { /* runs of k that end among the inputs, between them and the state */
        s.T = 1 + below(2);
        s.N = 16 + below(6);
        s.D = chance(50) ? 1020 : 1000 + below(1300);
    }
    describe(
        "%s %zu: N %zu, T %zu, D %zu, H %zu, P %zu, mask %d, reverse %d, bias %d, blas %d, dy %d, "
        "dstate %d",
        cell_name[cell], round, s.N, s.T, s.D, s.H, s.P, s.masked, s.reverse, s.biased, s.blas,
        s.dy, s.dstate);
    check_walk(&s, round % 4 ? 1 : 3);
}

#if WATCHED
static void last_words(void)
{
    printf("%s\n", what);
}
#else
static void beyond(int number)
{
    (void)number; /* printf is not for handlers, but there is nothing left to break */
    printf("%s: touched memory beyond a buffer\n", what);
    _exit(2);
}
#endif

int main(int argc, char **argv)
{
    const size_t rounds = argc > 1 && strcmp(argv[1], "slow") == 0 ? 100 : 10;
    setvbuf(stdout, NULL, _IOLBF, 0); /* what failed is read also when the program ends here */
    printf("%s, %s, %d lanes, %d rows\n", kernels->isa, STRING(FRN_DTYPE_NAME), kernels->lanes,
           kernels->tile_rows);
#if WATCHED
    __sanitizer_set_death_callback(last_words);
#else
    signal(SIGSEGV, beyond);
    signal(SIGBUS, beyond);
#endif
    for (size_t round = 0; round < rounds; round++) {
        seed_random(round);
        for (size_t rows = 0; rows <= 14; rows++)
            check_product(rows, below(5) ? edge() : 0, edge());
        check_product(97, edge(), edge());
        check_product(below(20), 1000 + below(3000), edge()); /* panels in runs of k */
        for (size_t rows = 0; rows <= 14; rows++) check_outer(rows, edge(), edge());
        check_outer(40, FRN_MR * (chance(50) ? 8 : 16) + below(3), edge());
        for (int cell = 0; cell < FRN_CELLS; cell++) check_cell(cell, round);
    }
    if (failures) printf("%d checks failed\n", failures);
    return failures != 0;
}
