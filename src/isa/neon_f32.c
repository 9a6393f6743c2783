#define FRN_ISA_NEON
#define FRN_ISA_NAME   neon
#define FRN_DOUBLE     0
#define FRN_DTYPE_NAME f32
#include "../kernels.c"
