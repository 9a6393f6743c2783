# Products of rows with packed weights, for the compiled modules above.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t

from fastrnn._kernels cimport frn_axis, frn_blas, frn_kernels, frn_outer, frn_packed, frn_product
from fastrnn._memory cimport FreeList

# A matrix of real numbers somewhere in memory; rows lie `lead` elements apart.
cdef struct Matrix:
    char *data
    size_t rows, columns
    ptrdiff_t lead
    int itemsize

# The address of an array of 1 or 2 dimensions with unit stride on the last; whoever holds the array keeps it alive.
cdef Matrix as_matrix(object array, str name, bint writable=*) except *

# The BLAS engine if it is chosen, else NULL; imports it on first use.
cdef const frn_blas *blas_engine(int itemsize) except? NULL

# A 64-bit hash of a matrix, to see whether it has changed.
cdef uint64_t hash_matrix(const Matrix *m, uint64_t seed, FreeList memory) except? 0

# One run of n elements, `stride` apart.
cdef frn_axis simple_axis(size_t n, ptrdiff_t stride) noexcept nogil

# Packs a weight at dst, which has room for kernels.packed_bytes.
cdef frn_packed pack(const frn_kernels *kernels, bint plain, const void *source, const frn_axis *k,
                     const frn_axis *units, int vectors, void *dst) noexcept nogil

# All rows of a product, on all threads, in regions of a few milliseconds.
cdef int run_product(const frn_kernels *kernels, const frn_product *p, FreeList memory) except -1

# A whole sum of outer products, in blocks of rows fixed by the shape.
cdef int run_outer(const frn_kernels *kernels, const frn_outer *p, FreeList memory) except -1

# Threads worth waking for so many operations, products among them being the engine's.
cdef int threads_for(double operations, const frn_blas *blas) noexcept nogil
