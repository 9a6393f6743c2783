#include "dispatch.h"

#define TABLES(isa)  {&frn_kernels_##isa##_f32, &frn_kernels_##isa##_f64}
#define DECLARE(isa) extern const frn_kernels frn_kernels_##isa##_f32, frn_kernels_##isa##_f64

static int always(void)
{
    return 1;
}

/* __builtin_cpu_supports also asks whether the operating system saves the wide registers. */
#ifdef FRN_HAVE_AVX512
DECLARE(avx512);
static int avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#ifdef FRN_HAVE_AVX2
DECLARE(avx2);
static int avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#ifdef FRN_HAVE_NEON
DECLARE(neon);
#endif

DECLARE(baseline);

const frn_isa frn_isas[] = {
#ifdef FRN_HAVE_AVX512
    {"avx512", 1, avx512, TABLES(avx512)},
#endif
#ifdef FRN_HAVE_AVX2
    {"avx2", 1, avx2, TABLES(avx2)},
#endif
#ifdef FRN_HAVE_NEON
    {"neon", 0, always, TABLES(neon)}, /* part of every aarch64 */
#endif
    {"baseline", 0, always, TABLES(baseline)}, {0, 0, 0, {0, 0}},
};

#if defined(__clang__)
const char frn_compiler[] = __VERSION__; /* names itself there */
#else
const char frn_compiler[] = "GCC " __VERSION__;
#endif

/* By this name threadpoolctl tells this library from others that are called _native. */
extern const char fastrnn_native[];
__attribute__((visibility("default"))) const char fastrnn_native[] = "fastrnn";
