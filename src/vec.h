/* The vector type of the kernels: the only file that knows an instruction set.
 *
 * FRN_DOUBLE (0 or 1) gives the element type. A file compiled for one instruction set claims it by
 * defining FRN_ISA_AVX512, FRN_ISA_AVX2, FRN_ISA_NEON or FRN_ISA_BASELINE, and is refused where the
 * compiler's flags do not provide it; without a claim the widest that the flags allow is taken. The
 * baseline (FRN_BASELINE is another name for the claim) is 16 bytes of the compiler's own vector
 * extension, on any architecture, with no fused multiply-add.
 *
 *   real, V             an element, and LANES of them; + - * / work on V lane by lane
 *   M                   the answer of a comparison: one truth value per lane
 *   FRN_MR              rows of a product tile whose sums fit the registers, four vectors wide
 *   FRN_TALL            the same, two vectors wide; FRN_TALL_OF_3: three vectors wide
 *   vload vstore        LANES elements at any address
 *   vload_n vstore_n    the first n lanes, 0 <= n <= LANES; nothing beyond p[n-1] is touched,
 *                       and the other lanes are loaded as zero
 *   vfma(a, b, c)       a * b + c, rounded once where the instruction set has that, else twice
 *   vmin(a, b)          a < b ? a : b, so b where either is NaN: vmin(limit, x) keeps x's NaN
 *   vmax(a, b)          a > b ? a : b, likewise
 *   vlt vle vselect     comparisons, false on NaN, and m ? a : b
 *   vabs                clears the sign, of NaN and zero too
 *   vcopysign(a, b)     a with b's sign, for a whose own sign is clear
 *   vsum vmaxval        over the lanes, always in the order given there
 *   vtranspose          LANES vectors as the rows of a square, turned into its columns
 *   vpow2 vscale2       powers of two, for exp
 */
#ifndef FRN_VEC_H
#define FRN_VEC_H

#ifndef FRN_DOUBLE
#error "FRN_DOUBLE must be defined: 0 for float, 1 for double"
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    defined(__AVX512BW__) && defined(__FMA__)
#define FRN_HAS_AVX512 1
#else
#define FRN_HAS_AVX512 0
#endif
#if defined(__AVX2__) && defined(__FMA__)
#define FRN_HAS_AVX2 1
#else
#define FRN_HAS_AVX2 0
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
#define FRN_HAS_NEON 1
#else
#define FRN_HAS_NEON 0
#endif

#if defined(FRN_BASELINE) && !defined(FRN_ISA_BASELINE)
#define FRN_ISA_BASELINE
#endif
#if !defined(FRN_ISA_AVX512) && !defined(FRN_ISA_AVX2) && !defined(FRN_ISA_NEON) && \
    !defined(FRN_ISA_BASELINE)
#if FRN_HAS_AVX512
#define FRN_ISA_AVX512
#elif FRN_HAS_AVX2
#define FRN_ISA_AVX2
#elif FRN_HAS_NEON
#define FRN_ISA_NEON
#else
#define FRN_ISA_BASELINE
#endif
#endif

#if defined(FRN_ISA_AVX512)
#if !FRN_HAS_AVX512
#error "FRN_ISA_AVX512 needs -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx2 -mfma"
#endif
#if defined(FRN_ISA_AVX2) || defined(FRN_ISA_NEON) || defined(FRN_ISA_BASELINE)
#error "more than one FRN_ISA_ name is defined"
#endif
#elif defined(FRN_ISA_AVX2)
#if !FRN_HAS_AVX2
#error "FRN_ISA_AVX2 needs -mavx2 -mfma"
#endif
#if defined(FRN_ISA_NEON) || defined(FRN_ISA_BASELINE)
#error "more than one FRN_ISA_ name is defined"
#endif
#elif defined(FRN_ISA_NEON)
#if !FRN_HAS_NEON
#error "FRN_ISA_NEON needs a compiler for aarch64 with NEON"
#endif
#if defined(FRN_ISA_BASELINE)
#error "more than one FRN_ISA_ name is defined"
#endif
#endif

#include <stdint.h>
#if defined(FRN_ISA_AVX512) || defined(FRN_ISA_AVX2)
#include <immintrin.h>
#elif defined(FRN_ISA_NEON)
#include <arm_neon.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Inlined without optimization too: how a wide V is passed to a function depends on the flags. */
#define FRN_INLINE static inline __attribute__((always_inline, unused))

/* Sums of six rows by four vectors, four vectors of weights and one broadcast element need 29 of 32
 * registers; of three rows, 15 of 16, the weights then being read from memory.  What bounds
 * FRN_TALL with 32 registers is those that point to the rows. */
#if defined(FRN_ISA_AVX512)
#define FRN_VECTOR_BYTES 64
#define FRN_MR           6
#define FRN_TALL         8
#define FRN_TALL_OF_3    8
#elif defined(FRN_ISA_AVX2)
#define FRN_VECTOR_BYTES 32
#define FRN_MR           3
#define FRN_TALL         6
#define FRN_TALL_OF_3    4
#elif defined(FRN_ISA_NEON)
#define FRN_VECTOR_BYTES 16
#define FRN_MR           6
#define FRN_TALL         8
#define FRN_TALL_OF_3    8
#else
#define FRN_VECTOR_BYTES 16
#define FRN_MR           3
#define FRN_TALL         6
#define FRN_TALL_OF_3    4
#endif

/* frn_bits: the bits of a V; unsigned, as only there a shift into the sign is defined. */
#if FRN_DOUBLE
typedef double real;
typedef uint64_t frn_bits __attribute__((vector_size(FRN_VECTOR_BYTES)));
#define LANES             (FRN_VECTOR_BYTES / 8)
#define FRN_MANTISSA_BITS 52
#define FRN_SIGN_BIT      UINT64_C(0x8000000000000000)
#else
typedef float real;
typedef uint32_t frn_bits __attribute__((vector_size(FRN_VECTOR_BYTES)));
#define LANES             (FRN_VECTOR_BYTES / 4)
#define FRN_MANTISSA_BITS 23
#define FRN_SIGN_BIT      UINT32_C(0x80000000)
#endif
typedef real V __attribute__((vector_size(FRN_VECTOR_BYTES)));

/* The intrinsics' names for the element type. */
#if defined(FRN_ISA_AVX512) && FRN_DOUBLE
typedef __mmask8 M;
#define FRN_MM(name) _mm512_##name##_pd
#define FRN_MM_CMP   _mm512_cmp_pd_mask
#elif defined(FRN_ISA_AVX512)
typedef __mmask16 M;
#define FRN_MM(name) _mm512_##name##_ps
#define FRN_MM_CMP   _mm512_cmp_ps_mask
#else
typedef frn_bits M;
#if defined(FRN_ISA_AVX2) && FRN_DOUBLE
#define FRN_MM(name) _mm256_##name##_pd
#elif defined(FRN_ISA_AVX2)
#define FRN_MM(name) _mm256_##name##_ps
#elif defined(FRN_ISA_NEON) && FRN_DOUBLE
#define FRN_NEON(name) name##q_f64
#elif defined(FRN_ISA_NEON)
#define FRN_NEON(name) name##q_f32
#elif defined(__SSE2__) && FRN_DOUBLE
#define FRN_SSE2(name) _mm_##name##_pd
#elif defined(__SSE2__)
#define FRN_SSE2(name) _mm_##name##_ps
#endif
#endif

/* ---- loads and stores
 * -------------------------------------------------------------------------------- */

FRN_INLINE V vzero(void)
{
    return (V){0};
}

FRN_INLINE V vset1(real s)
{
#if defined(FRN_MM)
    return (V)FRN_MM(set1)(s);
#elif FRN_DOUBLE
    return (V){s, s};
#else
    return (V){s, s, s, s};
#endif
}

FRN_INLINE V vload(const real *p)
{
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

FRN_INLINE void vstore(real *p, V v)
{
    __builtin_memcpy(p, &v, sizeof v);
}

#if defined(FRN_ISA_AVX512)

FRN_INLINE V vload_n(const real *p, int n)
{
    return (V)FRN_MM(maskz_loadu)((M)((1U << n) - 1U), p);
}

FRN_INLINE void vstore_n(real *p, int n, V v)
{
    FRN_MM(mask_storeu)(p, (M)((1U << n) - 1U), v);
}

#elif defined(FRN_ISA_AVX2)

FRN_INLINE __m256i frn_first(int n)
{
#if FRN_DOUBLE
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
#else
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
#endif
}

FRN_INLINE V vload_n(const real *p, int n)
{
    return (V)FRN_MM(maskload)(p, frn_first(n));
}

FRN_INLINE void vstore_n(real *p, int n, V v)
{
    FRN_MM(maskstore)(p, frn_first(n), v);
}

#else

/* One element at a time: a memcpy of a size known only at run time is a call, several times slower
 * on narrow layers, where tails are most of the work. */
FRN_INLINE V vload_n(const real *p, int n)
{
    if (n >= LANES) return vload(p);
    V v = vzero();
    if (n > 0) v[0] = p[0];
#if !FRN_DOUBLE
    if (n > 1) v[1] = p[1];
    if (n > 2) v[2] = p[2];
#endif
    return v;
}

FRN_INLINE void vstore_n(real *p, int n, V v)
{
    if (n >= LANES) {
        vstore(p, v);
        return;
    }
    if (n > 0) p[0] = v[0];
#if !FRN_DOUBLE
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
#endif
}

#endif

/* ---- arithmetic, comparison, sign
 * -------------------------------------------------------------------- */

FRN_INLINE V vfma(V a, V b, V c)
{
#if defined(FRN_MM)
    return (V)FRN_MM(fmadd)(a, b, c);
#elif defined(FRN_NEON)
    return (V)FRN_NEON(vfma)(c, a, b);
#else
    return a * b + c;
#endif
}

FRN_INLINE M vlt(V a, V b)
{
#if defined(FRN_ISA_AVX512)
    return FRN_MM_CMP(a, b, _CMP_LT_OQ);
#else
    return (M)(a < b);
#endif
}

FRN_INLINE M vle(V a, V b)
{
#if defined(FRN_ISA_AVX512)
    return FRN_MM_CMP(a, b, _CMP_LE_OQ);
#else
    return (M)(a <= b);
#endif
}

FRN_INLINE V vselect(M m, V a, V b)
{
#if defined(FRN_ISA_AVX512)
    return (V)FRN_MM(mask_blend)(m, b, a);
#elif defined(FRN_ISA_AVX2)
    return (V)FRN_MM(blendv)(b, a, (V)m);
#elif defined(FRN_NEON)
    return (V)FRN_NEON(vbsl)(m, a, b);
#else
    return (V)((m & (frn_bits)a) | (~m & (frn_bits)b));
#endif
}

FRN_INLINE V vmin(V a, V b)
{
#if defined(FRN_MM)
    return (V)FRN_MM(min)(a, b);
#elif defined(FRN_SSE2)
    return (V)FRN_SSE2(min)(a, b);
#else
    return vselect(vlt(a, b), a, b);
#endif
}

FRN_INLINE V vmax(V a, V b)
{
#if defined(FRN_MM)
    return (V)FRN_MM(max)(a, b);
#elif defined(FRN_SSE2)
    return (V)FRN_SSE2(max)(a, b);
#else
    return vselect(vlt(b, a), a, b);
#endif
}

FRN_INLINE V vabs(V v)
{
    return (V)((frn_bits)v & ((frn_bits){0} + (FRN_SIGN_BIT - 1)));
}

FRN_INLINE V vcopysign(V magnitude, V sign)
{
    return (V)((frn_bits)magnitude | ((frn_bits)sign & ((frn_bits){0} + FRN_SIGN_BIT)));
}

/* ---- powers of two
 * ----------------------------------------------------------------------------------- */

/* Adding FRN_ROUND to |x| < 2^(FRN_MANTISSA_BITS - 2) leaves the nearest integer to x, plus the
 * bias of the exponent, in the last bits of the sum; subtracting it again leaves that integer as an
 * element. */
#if FRN_DOUBLE
#define FRN_ROUND (0x1.8p52 + 1023)
#else
#define FRN_ROUND (0x1.8p23f + 127)
#endif

/* 2^n from t = FRN_ROUND + n, for integers n from the exponent of the smallest normal number to one
 * above that of the largest, where it is infinity. */
FRN_INLINE V vpow2(V t)
{
    return (V)((frn_bits)t << FRN_MANTISSA_BITS);
}

/* v * 2^n for integers |n| up to twice the largest exponent and normal v: rounded once more where
 * the result is subnormal. */
FRN_INLINE V vscale2(V v, V n)
{
#if defined(FRN_ISA_AVX512)
    return (V)FRN_MM(scalef)(v, n);
#else
    V round = vset1(FRN_ROUND), half = vset1((real)0.5) * n + round;
    return v * vpow2(half) * vpow2(n - (half - round) + round);
#endif
}

/* ---- over the lanes
 * ---------------------------------------------------------------------------------- */

/* Lane i with lane i + LANES/2, and so on with half as many: one order for every compiler. */
FRN_INLINE real vsum(V v)
{
    real e[LANES];
    vstore(e, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) e[i] += e[i + half];
    return e[0];
}

/* The largest lane, in the same order with vmax's rule for NaN: a lane that is NaN may or may not
 * be the answer. */
FRN_INLINE real vmaxval(V v)
{
    real e[LANES];
    vstore(e, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) e[i] = e[i] > e[i + half] ? e[i] : e[i + half];
    return e[0];
}

/* ---- across vectors
 * ---------------------------------------------------------------------------------- */

/* The lanes of two vectors in turn: of their lower halves, and of their upper ones. */
#if LANES == 2
#define FRN_LOWER 0, 2
#define FRN_UPPER 1, 3
#elif LANES == 4
#define FRN_LOWER 0, 4, 1, 5
#define FRN_UPPER 2, 6, 3, 7
#elif LANES == 8
#define FRN_LOWER 0, 8, 1, 9, 2, 10, 3, 11
#define FRN_UPPER 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FRN_LOWER 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FRN_UPPER 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
#if defined(__clang__)
#define FRN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FRN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (frn_bits){__VA_ARGS__})
#endif

/* Each round shuffles all elements like two halves of a deck of cards; after one round for each
 * doubling of LANES an element's row has become its column. */
FRN_INLINE void vtranspose(V *v)
{
    for (int round = 1; round < LANES; round *= 2) {
        V before[LANES];
        for (int i = 0; i < LANES; i++) before[i] = v[i];
        for (int i = 0; i < LANES / 2; i++) {
            v[2 * i] = FRN_SHUFFLE(before[i], before[i + LANES / 2], FRN_LOWER);
            v[2 * i + 1] = FRN_SHUFFLE(before[i], before[i + LANES / 2], FRN_UPPER);
        }
    }
}

#endif
