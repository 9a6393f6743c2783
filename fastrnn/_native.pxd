# What the other compiled modules take from the native base.
from libc.stdint cimport int64_t, uint64_t

from fastrnn._kernels cimport frn_barrier, frn_cell, frn_kernels

# A task of a region: fn(ctx, index, worker), worker < n_threads.
ctypedef void (*task_fn)(void *ctx, size_t index, int worker) noexcept nogil

# One of the threads that run side by side: fn(ctx, member, members), the caller being member 0.
ctypedef void (*member_fn)(void *ctx, int member, int members) noexcept nogil

# The table of kernels in use for float32 (4) or float64 (8); fails if FASTRNN_ISA cannot be followed.
cdef const frn_kernels *kernels(int itemsize) except NULL

# Whether products go to BLAS; fails if FASTRNN_GEMM or FASTRNN_ISA cannot be followed.
cdef bint gemm_is_blas() except -1

# How many threads a call made here and now may use.
cdef int num_threads() noexcept nogil

# The same for less work than some milliseconds: a neighbor's turn on a core would take longer.
cdef int brief_threads() noexcept nogil

# fn(ctx, 0..n_tasks-1, worker) on up to n_threads threads, the caller being worker 0.
cdef void parallel(task_fn fn, void *ctx, size_t n_tasks, int n_threads) noexcept nogil

# fn(ctx, 0..m-1, m) side by side on those up to n_threads threads that come in time, who may meet at
# the barriers; whether nobody waited long there. `operations` is the work of all.
cdef bint team(member_fn fn, void *ctx, frn_barrier *barriers, size_t n_barriers, int n_threads,
               double operations) noexcept nogil

# To be called after a region whose threads had equal work: whether one waited long for another.
cdef void region_ended(bint disturbed) noexcept nogil

# Whether threads may wait for each other: no region was disturbed just now.
cdef bint calm() noexcept nogil

# Whether threads that share `n` sequences and weights of so many bytes share the units rather than the
# sequences. They do where a thread's own sequences are too few to use a weight more than once or twice
# from L1, and where the weights do not stay in the cache that the cores have in common.
cdef bint by_units(size_t n, size_t nbytes, size_t share, const frn_kernels *table, frn_cell cell) noexcept nogil

# Operations of products that make a region, for each thread.
cdef double region_operations() noexcept nogil

# A 64-bit hash of bytes, to see whether weights have changed.
cdef uint64_t hash_bytes(const void *data, size_t nbytes, uint64_t seed) noexcept nogil

# To be called between regions: runs signal handlers that wait, and fails if one of them raises.
cdef int check_signals() except -1 nogil
