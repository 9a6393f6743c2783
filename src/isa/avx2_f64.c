#define FRN_ISA_AVX2
#define FRN_ISA_NAME   avx2
#define FRN_DOUBLE     1
#define FRN_DTYPE_NAME f64
#include "../kernels.c"
