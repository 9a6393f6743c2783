"""The BLAS engine: row-major products by SciPy's BLAS, called without the GIL.

Imported on first use only, as ``scipy.linalg`` takes its time. Its thread count is not touched.
"""

import ctypes

from scipy.linalg import cython_blas

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from scipy.linalg.cython_blas cimport dgemm, dgemv, sgemm, sgemv

from fastrnn._kernels cimport frn_blas


cdef void gemm(floating *a, int lda, floating *b, int ldb, floating *c, int ldc, int trans_a, int m, int n, int k,
               floating beta) noexcept nogil:
    # BLAS stores columns first: a row-major c = a b is to it c' = b' a'.
    cdef floating alpha = 1
    cdef int one = 1
    cdef char *op = b"T" if trans_a else b"N"
    if m == 0 or n == 0:
        return
    if m == 1 and not trans_a:  # a gemm of one row is several times slower than a gemv
        if floating is float:
            sgemv(b"N", &n, &k, &alpha, b, &ldb, a, &one, &beta, c, &one)
        else:
            dgemv(b"N", &n, &k, &alpha, b, &ldb, a, &one, &beta, c, &one)
    elif floating is float:
        sgemm(b"N", op, &n, &m, &k, &alpha, b, &ldb, a, &lda, &beta, c, &ldc)
    else:
        dgemm(b"N", op, &n, &m, &k, &alpha, b, &ldb, a, &lda, &beta, c, &ldc)


# Dimensions were checked against int where the weights were packed, or their gradients came in.

cdef void gemm_f32(int trans_a, size_t m, size_t n, size_t k, const void *a, size_t lda, const void *b, size_t ldb,
                   double beta, void *c, size_t ldc) noexcept nogil:
    gemm[float](<float *>a, <int>lda, <float *>b, <int>ldb, <float *>c, <int>ldc, trans_a, <int>m, <int>n, <int>k, beta)


cdef void gemm_f64(int trans_a, size_t m, size_t n, size_t k, const void *a, size_t lda, const void *b, size_t ldb,
                   double beta, void *c, size_t ldc) noexcept nogil:
    gemm[double](<double *>a, <int>lda, <double *>b, <int>ldb, <double *>c, <int>ldc, trans_a, <int>m, <int>n, <int>k,
                 beta)


cdef size_t thread_count():
    """The address of the function that tells how many threads a product of BLAS may use, or 0."""
    library = ctypes.CDLL(cython_blas.__file__)  # names resolve in what it is linked to, too
    for name in ("scipy_openblas_get_num_threads", "openblas_get_num_threads"):
        if hasattr(library, name):
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    return 0


cdef frn_blas float32 = frn_blas(gemm_f32, <int (*)() noexcept nogil>thread_count())
cdef frn_blas float64 = frn_blas(gemm_f64, float32.thread_count)

# By the size of an element in bytes.
engines = {4: PyCapsule_New(&float32, NULL, NULL), 8: PyCapsule_New(&float64, NULL, NULL)}
