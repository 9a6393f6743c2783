# The packed weights of one direction of one layer.
from libc.stdint cimport uint64_t

from fastrnn._kernels cimport frn_blas, frn_cell, frn_cell_info, frn_kernels, frn_packed
from fastrnn._memory cimport Block, FreeList
from fastrnn._products cimport Matrix

# Weights as one set of kernels and one engine multiply with them; never changed once made.
cdef class Snapshot:
    cdef Block memory
    cdef const frn_kernels *kernels
    cdef const frn_blas *blas
    cdef uint64_t hash
    cdef frn_packed x
    cdef frn_packed h[2]
    cdef void *bias  # (slots, Hp); forward only

cdef class Weights:
    cdef frn_cell cell
    cdef readonly size_t inputs, units, width  # D, H, S
    cdef readonly object params, grads  # dicts of arrays by local name
    cdef readonly int itemsize
    cdef readonly FreeList memory  # of all that its calls keep or use
    cdef bint frozen
    cdef uint64_t steps  # of an optimizer, and whether one came after the last call
    cdef bint changed
    cdef Snapshot forward, backward

    cdef Matrix matrix(self, str name, bint gradient=*) except *
    cdef Snapshot snapshot(self, const frn_kernels *kernels, const frn_blas *blas)
    cdef Snapshot backward_of(self, Snapshot forward)
    cdef uint64_t hash(self) except? 0
    cdef Snapshot pack(self, const frn_kernels *kernels, const frn_blas *blas, bint backward, uint64_t hash)
    cdef int sum_biases(self, const frn_cell_info *info, char *to, size_t slot_bytes) except -1
