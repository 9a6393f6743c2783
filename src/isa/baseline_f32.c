#define FRN_ISA_BASELINE
#define FRN_ISA_NAME   baseline
#define FRN_DOUBLE     0
#define FRN_DTYPE_NAME f32
#include "../kernels.c"
