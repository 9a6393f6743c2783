#define FRN_ISA_AVX512
#define FRN_ISA_NAME   avx512
#define FRN_DOUBLE     1
#define FRN_DTYPE_NAME f64
#include "../kernels.c"
