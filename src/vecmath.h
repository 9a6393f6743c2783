/* exp, the sigmoid, tanh and relu on the vector type, float and double from one source.
 *
 * All of them write x = n ln 2 + r with an integer n and |r| <= (ln 2)/2, so that e^x = 2^n e^r; ln
 * 2 is subtracted in two parts, the first with so few bits that n times it is exact. For tanh,
 * which is flat where n is large, one part will do. e^r - 1 is r + r^2 q(r), q the polynomial whose
 * largest error, weighted by r^2, is least on that interval (found by Remez exchange in 60 digits):
 * 2^-28 in float and 2^-58 in double.
 *
 * Every operation is lane by lane, so an element's result depends on nothing but the element. NaN
 * stays NaN. Results that would be subnormal may be zero.
 */
#ifndef FRN_VECMATH_H
#define FRN_VECMATH_H

#include "vec.h"

#if FRN_DOUBLE
#define FRN_LOG2_E      0x1.71547652b82fep0
#define FRN_LN2         0x1.62e42fefa39efp-1
#define FRN_LN2_HIGH    0x1.62e42fefa3000p-1
#define FRN_LN2_LOW     0x1.3de6af278ece6p-42
#define FRN_EXP_MIN     (-745.5) /* e^x is zero below, */
#define FRN_EXP_MAX     710.0    /* infinite above */
#define FRN_SIGMOID_MIN (-710.0) /* 2^n is infinite there, and the sigmoid zero, */
#define FRN_SIGMOID_MAX 40.0     /* and one above */
#define FRN_TANH_MAX    20.0     /* tanh is one above */
#else
#define FRN_LOG2_E      0x1.715476p0f
#define FRN_LN2         0x1.62e43p-1f
#define FRN_LN2_HIGH    0x1.62e4p-1f
#define FRN_LN2_LOW     0x1.7f7d1cp-20f
#define FRN_EXP_MIN     (-104.0f)
#define FRN_EXP_MAX     89.0f
#define FRN_SIGMOID_MIN (-89.0f)
#define FRN_SIGMOID_MAX 20.0f
#define FRN_TANH_MAX    10.0f
#endif

/* e^r - 1 for |r| <= (ln 2)/2. Even and odd powers apart: half the latency of one chain. */
FRN_INLINE V frn_expm1_small(V r)
{
    V r2 = r * r;
#if FRN_DOUBLE
    V even = vset1(0x1.28b054e429c9cp-22), odd = vset1(0x1.af85a3eb01779p-26);
    even = vfma(even, r2, vset1(0x1.a019968d15be7p-16));
    odd = vfma(odd, r2, vset1(0x1.71dddfbc9f99bp-19));
    even = vfma(even, r2, vset1(0x1.6c16c185a6b6ap-10));
    odd = vfma(odd, r2, vset1(0x1.a01a01bae7962p-13));
    even = vfma(even, r2, vset1(0x1.5555555550048p-5));
    odd = vfma(odd, r2, vset1(0x1.111111110d630p-7));
    even = vfma(even, r2, vset1(0x1.000000000000bp-1));
    odd = vfma(odd, r2, vset1(0x1.5555555555561p-3));
#else
    V even = vset1(0x1.6db464p-10f), odd = vset1(0x1.123b84p-7f);
    even = vfma(even, r2, vset1(0x1.55545ep-5f));
    odd = vfma(odd, r2, vset1(0x1.55548ep-3f));
    even = vfma(even, r2, vset1(0x1p-1f));
#endif
    return vfma(vfma(odd, r, even), r2, r);
}

/* e^x */
FRN_INLINE V vexp(V x)
{
    V round = vset1(FRN_ROUND);
    x = vmax(vset1(FRN_EXP_MIN), vmin(vset1(FRN_EXP_MAX), x));
    V n = vfma(x, vset1(FRN_LOG2_E), round) - round;
    V r = vfma(n, vset1(-FRN_LN2_LOW), vfma(n, vset1(-FRN_LN2_HIGH), x));
    return vscale2(vset1(1) + frn_expm1_small(r), n);
}

/* 1 / (1 + e^-x), the reduction done on -x: not from tanh, which would cost the left tail all its
 * digits. */
FRN_INLINE V vsigmoid(V x)
{
    V round = vset1(FRN_ROUND), one = vset1(1);
    x = vmax(vset1(FRN_SIGMOID_MIN), vmin(vset1(FRN_SIGMOID_MAX), x));
    V t = vfma(x, vset1(-FRN_LOG2_E), round), n = t - round;
    V r = vfma(n, vset1(-FRN_LN2_LOW), vfma(n, vset1(-FRN_LN2_HIGH), -x));
    return one / vfma(one + frn_expm1_small(r), vpow2(t), one);
}

/* (e^2|x| - 1) / (e^2|x| + 1) with the sign of x, from e^2|x| - 1, which keeps all digits of a
 * small x. */
FRN_INLINE V vtanh(V x)
{
    V round = vset1(FRN_ROUND), one = vset1(1);
    V y = vmin(vset1(FRN_TANH_MAX), vabs(x));
    V t = vfma(y, vset1(2 * FRN_LOG2_E), round), n = t - round, power = vpow2(t);
    V r = vfma(n, vset1(-FRN_LN2), y + y);
    V q = vfma(frn_expm1_small(r), power, power - one);
    return vcopysign(q / (q + vset1(2)), x);
}

/* max(x, 0) */
FRN_INLINE V vrelu(V x)
{
    return vmax(vzero(), x);
}

/* The derivative of relu: 1 where x > 0, else 0. */
FRN_INLINE V vstep(V x)
{
    return vselect(vlt(vzero(), x), vset1(1), vselect(vle(x, vzero()), vzero(), x));
}

#endif
