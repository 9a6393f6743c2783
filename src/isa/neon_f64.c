#define FRN_ISA_NEON
#define FRN_ISA_NAME   neon
#define FRN_DOUBLE     1
#define FRN_DTYPE_NAME f64
#include "../kernels.c"
