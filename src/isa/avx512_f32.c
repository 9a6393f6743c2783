#define FRN_ISA_AVX512
#define FRN_ISA_NAME   avx512
#define FRN_DOUBLE     0
#define FRN_DTYPE_NAME f32
#include "../kernels.c"
