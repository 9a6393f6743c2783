/* For test_kernels.c: the table under test, checks, random numbers, and memory in which every
 * access beyond shows.
 *
 * Without the address sanitizer a buffer ends, or begins, at a page that cannot be touched, and the
 * rest of its own pages is looked at when it is given back.  The sanitizer watches both ends.
 */
#ifndef TEST_KERNELS_COMMON_H
#define TEST_KERNELS_COMMON_H

#include <math.h> /* before the formulas take the name fma */

#if defined(FRN_ISA_AVX512)
#define FRN_ISA_NAME avx512
#elif defined(FRN_ISA_AVX2)
#define FRN_ISA_NAME avx2
#elif defined(FRN_ISA_NEON)
#define FRN_ISA_NAME neon
#else
#define FRN_ISA_NAME baseline
#endif
#if FRN_DOUBLE
#define FRN_DTYPE_NAME f64
#else
#define FRN_DTYPE_NAME f32
#endif
#include "../../src/kernels.c"

static const frn_kernels *const kernels = &GLUE(frn_kernels, FRN_ISA_NAME, FRN_DTYPE_NAME);

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#ifndef WATCHED
#define WATCHED 0
#endif
#if WATCHED
#include <sanitizer/asan_interface.h>
#endif

static int failures;
static char what[256]; /* the case at hand */

/* Counts a failure; only the first few are printed, since a wrong kernel fails everywhere. */
#define CHECK(ok, ...)                                                  \
    do {                                                                \
        if (!(ok) && ++failures <= 8) {                                 \
            printf("%s:%d: %s\n  %s: ", __FILE__, __LINE__, #ok, what); \
            printf(__VA_ARGS__);                                        \
            printf("\n");                                               \
        }                                                               \
    } while (0)

static void describe(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
}

static uint64_t random_state = 1;

static void seed_random(uint64_t seed)
{
    random_state = (seed + 1) * 0x9e3779b97f4a7c15u;
}

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1du >> 16;
}

static size_t below(size_t n)
{
    return random_bits() % n;
}

static int chance(int percent)
{
    return (int)below(100) < percent;
}

/* A number that `real` holds exactly, so that kernel and reference see the same. */
static double uniform(double limit)
{
    return (real)(limit * (2 * ((double)(random_bits() >> 8) * 0x1p-40) - 1));
}

/* ---- memory: all ones where nothing was written, which is NaN, and no address either ---- */

/* `rows` rows of `used` bytes, `step` apart, in each of `runs` stretches that can be touched. */
typedef struct fence {
    struct fence *next;
    unsigned char *base;
    size_t bytes, runs, between, open, first, rows, step, used;
} fence;

static fence *fences;

static size_t up_to(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

static void *out_of_memory(void)
{
    printf("%s: no memory\n", what);
    exit(2);
}

/* A run's bytes can be touched, those between runs cannot. */
static int open_runs(fence *f)
{
    const size_t used = f->rows ? (f->rows - 1) * f->step + f->used : 0;
#if WATCHED
    f->open = used;
    f->first = 64;
    f->between = up_to(used, 8) + 64;
    f->bytes = f->first + f->runs * f->between;
    f->base = aligned_alloc(64, up_to(f->bytes, 64));
    if (!f->base) return 0;
    memset(f->base, 0xff, f->bytes);
    ASAN_POISON_MEMORY_REGION(f->base, f->bytes);
    for (size_t i = 0; i < f->runs; i++)
        ASAN_UNPOISON_MEMORY_REGION(f->base + f->first + i * f->between, used);
#else
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    f->open = up_to(used + !used, page);
    f->between = f->open + page;
    f->bytes = f->runs * f->between + page;
    f->base = mmap(NULL, f->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->base == MAP_FAILED) return 0;
    for (size_t i = 0; i < f->runs; i++) {
        unsigned char *run = f->base + page + i * f->between;
        if (mprotect(run, f->open, PROT_READ | PROT_WRITE)) return 0;
        memset(run, 0xff, f->open);
    }
    f->first = page + (chance(75) ? f->open - used : 0);
#endif
    return 1;
}

/* Rows of `used` bytes, `gap` bytes apart or, with `apart`, with untouchable memory between them;
 * *step is the distance from one to the next. */
static void *fenced_rows(size_t count, size_t used, int apart, size_t gap, size_t *step)
{
    fence *f = calloc(1, sizeof *f);
    if (!f) return out_of_memory();
    f->runs = apart ? count : 1;
    f->rows = apart ? 1 : count;
    f->used = used;
    f->step = used + gap;
    if (!open_runs(f)) return out_of_memory();
    f->next = fences;
    fences = f;
    *step = apart ? f->between : f->step;
    return f->base + f->first;
}

static void *fenced(size_t bytes)
{
    size_t step;
    return fenced_rows(1, bytes, 0, 0, &step);
}

static real *fenced_reals(size_t count)
{
    return fenced(count * sizeof(real));
}

static double *fenced_doubles(size_t count)
{
    return memset(fenced(count * sizeof(double)), 0, count * sizeof(double));
}

/* Are the bytes around the rows of this run still as they were? */
static int untouched(const fence *f, const unsigned char *run, size_t begin)
{
    for (size_t j = 0; j < f->open; j++) {
        const size_t in = j - begin;
        const int inside = j >= begin && in / (f->step + !f->step) < f->rows &&
                           in % (f->step + !f->step) < f->used;
        if (!inside && run[j] != 0xff) return 0;
    }
    return 1;
}

/* Gives back all fences younger than `until`. */
static void release(const fence *until)
{
    while (fences != until) {
        fence *f = fences;
        fences = f->next;
        const size_t page = WATCHED ? f->first : (size_t)sysconf(_SC_PAGESIZE);
        for (size_t i = 0; i < f->runs; i++)
            CHECK(untouched(f, f->base + page + i * f->between, f->first - page),
                  "%zu rows of %zu bytes, run %zu: written beyond", f->rows, f->used, i);
#if WATCHED
        ASAN_UNPOISON_MEMORY_REGION(f->base, f->bytes);
        free(f->base);
#else
        munmap(f->base, f->bytes);
#endif
        free(f);
    }
}

/* ---- the weights, packed as the Cython modules do ---- */

/* c (m, n) = beta c + op(a) b, in the simplest way. */
static void naive_gemm(int trans_a, size_t m, size_t n, size_t k, const void *a, size_t lda,
                       const void *b, size_t ldb, double beta, void *c, size_t ldc)
{
    CHECK(lda >= (trans_a ? m : k) && ldb >= n && ldc >= n, "gemm: rows overlap");
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real *to = (real *)c + i * ldc + j, sum = beta == 0 ? 0 : (real)beta * *to;
            for (size_t l = 0; l < k; l++)
                sum += ((const real *)a)[trans_a ? l * lda + i : i * lda + l] *
                       ((const real *)b)[l * ldb + j];
            *to = sum;
        }
}

static const frn_blas naive_blas = {.gemm = naive_gemm};

static frn_axis simple_axis(size_t n, size_t stride)
{
    return (frn_axis){.blocks = 1, .n = n, .padded = n, .stride = (ptrdiff_t)stride};
}

static frn_packed pack_weight(const void *source, const frn_axis *k, const frn_axis *units,
                              int vectors, int plain)
{
    void *data = fenced(kernels->packed_bytes(k, units, vectors));
    for (size_t task = kernels->pack_tasks(units, vectors); task-- > 0;)
        kernels->pack(data, source, k, units, vectors, plain, task);
    return (frn_packed){.data = data,
                        .k = k->blocks * k->padded,
                        .units = units->n,
                        .slots = units->blocks,
                        .vectors = vectors};
}

enum { MOST_CUTS = 4 };

/* Ends of consecutive parts of [0, n), how many; `fine` cuts between all. */
static size_t cut(size_t n, int fine, size_t *ends)
{
    size_t parts = 0, at = 0;
    while (at < n) {
        at = fine ? at + 1 : parts == MOST_CUTS - 1 ? n : at + 1 + below(n - at);
        ends[parts++] = at;
    }
    return parts;
}

#endif
