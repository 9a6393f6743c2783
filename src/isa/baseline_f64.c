#define FRN_ISA_BASELINE
#define FRN_ISA_NAME   baseline
#define FRN_DOUBLE     1
#define FRN_DTYPE_NAME f64
#include "../kernels.c"
