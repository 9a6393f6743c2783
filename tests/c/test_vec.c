/* Tests of src/vec.h and src/vecmath.h for the element type and instruction set it is compiled for.
 *
 * test_vec         a sample of the numbers, a second or two
 * test_vec slow    20 times as many, some ten seconds
 * test_vec all     float: every bit pattern, some minutes; double: 200 times the sample
 *
 * Every check prints what differs and the answer is 1 if any did.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/vecmath.h"

/* The references are computed in a wider type: its own error must not show. */
#if FRN_DOUBLE
typedef long double wide;
typedef uint64_t bits;
#define REAL_MIN    DBL_MIN
#define REAL_MAX    DBL_MAX
#define REAL_DIGITS 53
#define wide_exp    expl
#define wide_tanh   tanhl
#define real_exp    exp
#define real_tanh   tanh
#else
typedef double wide;
typedef uint32_t bits;
#define REAL_MIN    FLT_MIN
#define REAL_MAX    FLT_MAX
#define REAL_DIGITS 24
#define wide_exp    exp
#define wide_tanh   tanh
#define real_exp    expf
#define real_tanh   tanhf
#endif

static int failures;

/* Counts a failure; only the first few are printed, since a wrong function fails everywhere. */
#define CHECK(ok, ...)                                      \
    do {                                                    \
        if (!(ok) && ++failures <= 5) {                     \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #ok); \
            printf(__VA_ARGS__);                            \
            printf("\n");                                   \
        }                                                   \
    } while (0)

static bits bits_of(real x)
{
    bits b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static real from_bits(bits b)
{
    real x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* Equal in every bit, or both NaN. */
static int same(real a, real b)
{
    return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1du;
}

static real uniform(real low, real high)
{
    return low + (high - low) * (real)((double)(random_bits() >> 11) * 0x1p-53);
}

/* Any number: all exponents and signs, subnormal, infinite and NaN included. */
static real anything(void)
{
    static const real special[] = {
        0,        (real)-0.0, 1,        -1,        INFINITY,     -INFINITY,       NAN,
        REAL_MIN, -REAL_MIN,  REAL_MAX, -REAL_MAX, REAL_MIN / 2, REAL_MIN / 4 * 3};
    uint64_t r = random_bits();
    if (r % 4 == 0) return special[(r >> 8) % (sizeof special / sizeof *special)];
    return r % 4 == 1 ? from_bits((bits)random_bits()) : uniform(-30, 30);
}

/* ---- the processor's flushing of subnormal numbers to zero -------------------------------- */

#if defined(__x86_64__)
#include <xmmintrin.h>
static void flush_subnormals(int on)
{
    unsigned flags = 0x8040; /* FTZ and DAZ */
    _mm_setcsr(on ? _mm_getcsr() | flags : _mm_getcsr() & ~flags);
}
#elif defined(__aarch64__)
static void flush_subnormals(int on)
{
    uint64_t control, flag = (uint64_t)1 << 24; /* FZ */
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    control = on ? control | flag : control & ~flag;
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
}
#else
static void flush_subnormals(int on)
{
    (void)on;
}
#endif

/* ---- functions under test, as loops over arrays ------------------------------------------- */

typedef struct {
    const char *name;
    V (*function)(V);
    wide (*reference)(wide);
    double limit; /* in units of the last place */
} Function;

enum { EXP, SIGMOID, TANH, RELU, STEP, N_FUNCTIONS, BLOCK = 1024 };

#define FUNCTION(name, formula)          \
    static V call_##name(V x)            \
    {                                    \
        return v##name(x);               \
    }                                    \
    static wide reference_##name(wide x) \
    {                                    \
        return formula;                  \
    }
FUNCTION(exp, wide_exp(x))
FUNCTION(sigmoid, 1 / (1 + wide_exp(-x)))
FUNCTION(tanh, wide_tanh(x))
FUNCTION(relu, x < 0 ? 0 : x)
FUNCTION(step, x > 0)

/* What is promised is 4; the limits are what is reached, rounded up. */
static const Function functions[N_FUNCTIONS] = {
    {"exp", call_exp, reference_exp, 1.5},  {"sigmoid", call_sigmoid, reference_sigmoid, 3},
    {"tanh", call_tanh, reference_tanh, 3}, {"relu", call_relu, reference_relu, 0},
    {"step", call_step, reference_step, 0},
};

/* ---- accuracy ----------------------------------------------------------------------------- */

static double worst[N_FUNCTIONS];
static real worst_at[N_FUNCTIONS];

static void check_value(int f, real x, real got, int flushing)
{
    const Function *t = &functions[f];
    if (isnan(x)) {
        CHECK(isnan(got), "%s(NaN) = %g", t->name, (double)got);
        return;
    }
    if (f == STEP && flushing && fabs((double)x) < REAL_MIN) x = got == 0 ? 0 : x;
    wide want = t->reference(x);
    if (f == SIGMOID) CHECK(got >= 0 && got <= 1, "sigmoid(%a) = %a", (double)x, (double)got);
    if (f == TANH) {
        CHECK(fabs((double)got) <= 1, "tanh(%a) = %a", (double)x, (double)got);
        CHECK(!signbit(x) == !signbit(got), "tanh(%a) = %a", (double)x, (double)got);
    }
    wide size = fabsl(want);
    if (size < REAL_MIN) {
        /* A result that is not normal may be zero; a sum of roundings may reach the first normal
         * one. */
        CHECK(fabsl((wide)got - want) <= REAL_MIN && fabs((double)got) <= REAL_MIN,
              "%s(%a) = %a, expected %a", t->name, (double)x, (double)got, (double)want);
        if (f == TANH && !flushing) CHECK(got == x, "tanh(%a) = %a", (double)x, (double)got);
        return;
    }
    if (isinf((real)want)) {
        int edge = size < REAL_MAX * (1 + ldexp(4, -REAL_DIGITS));
        CHECK(got == (real)want || (edge && got == REAL_MAX), "%s(%a) = %a", t->name, (double)x,
              (double)got);
        return;
    }
    int exponent;
    frexp((double)size, &exponent);
    double error = (double)(fabsl((wide)got - want) / ldexpl(1, exponent - REAL_DIGITS));
    if (got == INFINITY && size >= REAL_MAX * (1 - ldexp(2, -REAL_DIGITS))) error = 1;
    CHECK(error <= t->limit, "%s(%a) = %a, expected %a, %.2f units of the last place", t->name,
          (double)x, (double)got, (double)want, error);
    if (!(error <= worst[f])) {
        worst[f] = error;
        worst_at[f] = x;
    }
}

/* The whole block in the mode under test, and then its answers in the ordinary one. */
static void check_block(const real *x, int flushing)
{
    static real y[N_FUNCTIONS][BLOCK];
    flush_subnormals(flushing);
    for (int f = 0; f < N_FUNCTIONS; f++)
        for (int i = 0; i < BLOCK; i += LANES)
            vstore(y[f] + i, functions[f].function(vload(x + i)));
    flush_subnormals(0);
    for (int f = 0; f < N_FUNCTIONS; f++)
        for (int i = 0; i < BLOCK; i++) check_value(f, x[i], y[f][i], flushing);
}

static void check_accuracy(int slow, int all)
{
    static real x[BLOCK];
    /* Around every place where a formula or the kind of a result changes. */
    static const double edges[] = {0,        REAL_MIN, 0.1732868, 0.34657359, 0.5, 1,        8.66,
                                   9,        10,       16.6,      17.3,       19,  20,       38,
                                   40,       87.33654, 88.37626,  88.72284,   89,  103.3,    104,
                                   708.3964, 709.0895, 709.7827,  710,        744, 745.1332, 746};
    for (size_t e = 0; e < sizeof edges / sizeof *edges; e++) {
        bits middle = bits_of((real)edges[e]);
        for (int i = 0; i < BLOCK; i++) {
            bits shift = (bits)(i / 2) - BLOCK / 4,
                 b = edges[e] == 0 ? (bits)(i / 2) : middle + shift;
            x[i] = i % 2 ? -from_bits(b) : from_bits(b);
        }
        check_block(x, 0);
        check_block(x, 1);
    }
#if FRN_DOUBLE
    int blocks = all ? 200000 : slow ? 20000 : 1000;
    for (int b = 0; b < blocks; b++) {
        static const real ranges[] = {0.3, 1, 3, 20, 45, 750};
        for (int i = 0; i < BLOCK; i++) {
            real range = ranges[(b + i) % 6];
            x[i] = i % 8 == 0 ? from_bits(random_bits()) : uniform(-range, range);
        }
        check_block(x, b % 2);
    }
#else
    /* A prime stride, so that the last bits vary as well. */
    uint64_t stride = all ? 1 : slow ? 61 : 1511;
    int i = 0, b = 0;
    for (uint64_t pattern = 0; pattern < (uint64_t)1 << 32; pattern += stride) {
        x[i++] = from_bits((bits)pattern);
        if (i == BLOCK) {
            check_block(x, b++ % 2);
            i = 0;
        }
    }
#endif
    for (int f = 0; f < 3; f++)
        printf("%s: at most %.3f units of the last place, at %a\n", functions[f].name, worst[f],
               (double)worst_at[f]);
}

static void expect(int f, double x, double y)
{
    real got[LANES];
    vstore(got, functions[f].function(vset1((real)x)));
    CHECK(same(got[0], (real)y), "%s(%g) = %g", functions[f].name, x, (double)got[0]);
}

static void check_exact_values(void)
{
    expect(EXP, 0, 1);
    expect(EXP, -0.0, 1);
    expect(EXP, INFINITY, INFINITY);
    expect(EXP, -INFINITY, 0);
    expect(EXP, REAL_MAX, INFINITY);
    expect(EXP, -REAL_MAX, 0);
    expect(SIGMOID, 0, 0.5);
    expect(SIGMOID, -0.0, 0.5);
    expect(SIGMOID, INFINITY, 1);
    expect(SIGMOID, -INFINITY, 0);
    expect(SIGMOID, REAL_MAX, 1);
    expect(SIGMOID, -REAL_MAX, 0);
    expect(TANH, 0, 0);
    expect(TANH, -0.0, -0.0);
    expect(TANH, INFINITY, 1);
    expect(TANH, -INFINITY, -1);
    expect(TANH, REAL_MAX, 1);
    expect(TANH, REAL_MIN, REAL_MIN);
    expect(TANH, -REAL_MIN, -REAL_MIN);
    expect(RELU, -1, 0);
    expect(RELU, -INFINITY, 0);
    expect(RELU, INFINITY, INFINITY);
    expect(STEP, 0, 0);
    expect(STEP, -0.0, 0);
    expect(STEP, INFINITY, 1);
    expect(STEP, -INFINITY, 0);
    expect(STEP, REAL_MIN, 1);
}

/* ---- an element's result depends on the element alone -------------------------------------- */

static void check_lanes(int rounds)
{
    for (int round = 0; round < rounds; round++) {
        real x = anything(), alone[LANES], others[LANES], y[LANES];
        for (int f = 0; f < N_FUNCTIONS; f++) {
            vstore(alone, functions[f].function(vset1(x)));
            for (int lane = 0; lane < LANES; lane++) {
                for (int i = 0; i < LANES; i++) others[i] = i == lane ? x : anything();
                vstore(y, functions[f].function(vload(others)));
                CHECK(same(y[lane], alone[0]), "%s(%a) in lane %d is %a, in lane 0 %a",
                      functions[f].name, (double)x, lane, (double)y[lane], (double)alone[0]);
                vstore(y, functions[f].function(vload_n(others, lane + 1)));
                CHECK(same(y[lane], alone[0]), "%s(%a) in a tail of %d is %a, in a vector %a",
                      functions[f].name, (double)x, lane + 1, (double)y[lane], (double)alone[0]);
            }
        }
    }
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Rows that end exactly at a page nobody may touch, and rows that begin just after one. */
static void check_memory(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *base = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + page, page, PROT_READ | PROT_WRITE)) {
        CHECK(0, "no pages for the test");
        return;
    }
    real *first = (real *)(base + page), *end = (real *)(base + 2 * page);
    const real mark = 77;
    for (int n = 0; n <= LANES; n++)
        for (int place = 0; place < 2; place++) {
            real *p = place ? end - n : first, out[LANES];
            for (real *q = first; q < end; q++) *q = mark;
            for (int i = 0; i < n; i++) p[i] = (real)(i + 1);
            vstore(out, vload_n(p, n));
            for (int i = 0; i < LANES; i++)
                CHECK(same(out[i], i < n ? (real)(i + 1) : 0), "lane %d of %d is %g", i, n,
                      (double)out[i]);
            for (int i = 0; i < LANES; i++) out[i] = (real)(-1 - i);
            vstore_n(p, n, vload(out));
            for (real *q = first; q < end; q++) {
                int inside = q >= p && q < p + n;
                CHECK(*q == (inside ? (real)(-1 - (q - p)) : mark), "element %td of %d is %g",
                      q - p, n, (double)*q);
            }
        }
    /* Nothing at all is touched for n = 0, at an address that cannot be. */
    real out[LANES];
    vstore(out, vload_n((real *)base, 0));
    vstore_n((real *)base, 0, vset1(1));
    for (int i = 0; i < LANES; i++)
        CHECK(same(out[i], 0), "lane %d of none is %g", i, (double)out[i]);
    /* Any address will do for a whole vector. */
    for (int shift = 0; shift < LANES; shift++) {
        vstore(first + shift, vset1(3));
        vstore(out, vload(first + shift));
        for (int i = 0; i < LANES; i++) CHECK(out[i] == 3, "lane %d is %g", i, (double)out[i]);
    }
    munmap(base, 3 * page);
}

/* ---- arithmetic --------------------------------------------------------------------------- */

static real scalar_fma(real a, real b, real c)
{
#if defined(FRN_ISA_BASELINE)
    volatile real product = a * b;
    return product + c;
#elif FRN_DOUBLE
    return fma(a, b, c);
#else
    return fmaf(a, b, c);
#endif
}

static void check_arithmetic(int rounds)
{
    real a[LANES], b[LANES], c[LANES], y[LANES];
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < LANES; i++) a[i] = anything(), b[i] = anything(), c[i] = anything();
        V va = vload(a), vb = vload(b), vc = vload(c);
#define EACH(vector, scalar)                                                             \
    vstore(y, vector);                                                                   \
    for (int i = 0; i < LANES; i++)                                                      \
    CHECK(same(y[i], scalar), "%a, %a, %a: %a, expected %a", (double)a[i], (double)b[i], \
          (double)c[i], (double)y[i], (double)(scalar))
        EACH(va + vb, a[i] + b[i]);
        EACH(va - vb, a[i] - b[i]);
        EACH(va * vb, a[i] * b[i]);
        EACH(va / vb, a[i] / b[i]);
        EACH(-va, -a[i]);
        EACH(vfma(va, vb, vc), scalar_fma(a[i], b[i], c[i]));
        EACH(vmin(va, vb), a[i] < b[i] ? a[i] : b[i]);
        EACH(vmax(va, vb), a[i] > b[i] ? a[i] : b[i]);
        EACH(vselect(vlt(va, vb), vb, vc), a[i] < b[i] ? b[i] : c[i]);
        EACH(vselect(vle(va, vb), vb, vc), a[i] <= b[i] ? b[i] : c[i]);
        EACH(vabs(va), from_bits(bits_of(a[i]) & ~bits_of((real)-0.0)));
        EACH(vcopysign(vabs(va), vb), from_bits((bits_of(a[i]) & ~bits_of((real)-0.0)) |
                                                (bits_of(b[i]) & bits_of((real)-0.0))));
        EACH(vset1(a[0]), a[0]);
        EACH(vzero(), (real)0);
#undef EACH
        real sum[LANES], largest[LANES];
        memcpy(sum, a, sizeof sum);
        memcpy(largest, a, sizeof largest);
        for (int half = LANES / 2; half; half /= 2)
            for (int i = 0; i < half; i++) {
                sum[i] = sum[i] + sum[i + half];
                largest[i] = largest[i] > largest[i + half] ? largest[i] : largest[i + half];
            }
        CHECK(same(vsum(va), sum[0]), "%a, expected %a", (double)vsum(va), (double)sum[0]);
        CHECK(same(vmaxval(va), largest[0]), "%a, expected %a", (double)vmaxval(va),
              (double)largest[0]);
        for (int lane = 0; lane < LANES; lane++) {
            for (int i = 0; i < LANES; i++) a[i] = i == lane ? 2 : uniform(-1, 1);
            CHECK(vmaxval(vload(a)) == 2, "the maximum in lane %d is not found", lane);
        }
    }
    int top = FRN_DOUBLE ? 1023 : 127;
    for (int n = 1 - top; n <= top + 1; n++) {
        vstore(y, vpow2(vset1(FRN_ROUND) + vset1((real)n)));
        CHECK(same(y[LANES - 1], (real)ldexpl(1, n)), "2^%d = %a", n, (double)y[LANES - 1]);
    }
    for (int n = -2 * top; n <= 2 * top; n++) {
        real x = uniform(1, 2);
        vstore(y, vscale2(vset1(x), vset1((real)n)));
        real want = (real)ldexpl(x, n), last = n < 1 - top ? from_bits(1) : 0;
        CHECK(same(y[0], want) || fabs((double)(y[0] - want)) <= last, "%a times 2^%d = %a",
              (double)x, n, (double)y[0]);
    }
}

static void check_transpose(void)
{
    V v[LANES];
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) v[i][j] = (real)(i * LANES + j);
    vtranspose(v);
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++)
            CHECK(v[i][j] == (real)(j * LANES + i), "row %d, lane %d: %g", i, j, (double)v[i][j]);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "fast";
    int all = strcmp(mode, "all") == 0, slow = all || strcmp(mode, "slow") == 0;
    printf("%s, %d lanes, %d rows\n", FRN_DOUBLE ? "double" : "float", LANES, FRN_MR);
    check_memory();
    check_transpose();
    check_arithmetic(slow ? 20000 : 2000);
    check_exact_values();
    check_lanes(slow ? 5000 : 300);
    check_accuracy(slow, all);
    if (failures) printf("%d checks failed\n", failures);
    return failures != 0;
}
