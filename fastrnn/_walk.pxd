# One direction of one layer over one batch, and memory for it.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t

from fastrnn._kernels cimport frn_cell_info, frn_kernels, frn_outer, frn_pass, frn_rows
from fastrnn._memory cimport Block, FreeList
from fastrnn._weights cimport Snapshot, Weights

cdef Block take(FreeList memory, object nbytes, bint zero=*)

cdef class Walk:
    cdef frn_pass p
    cdef const frn_kernels *kernels
    cdef const frn_cell_info *info
    cdef readonly Weights weights
    cdef readonly object rows
    cdef bint reverse
    cdef const int64_t[::1] order, lengths
    cdef size_t total, slot_width, state_width  # rows; Hp; Sp
    cdef Snapshot snapshot, back
    cdef list held  # what the pointers point into
    cdef Block pointers, z, c, kept, masked, dh, dc, dp
    cdef Block symbols, table, sums  # rows' addresses; their input products; the gradients of these
    cdef size_t n_symbols

    cdef size_t padded(self, size_t n)
    cdef void **pointer_row(self, int index)
    cdef int locate(self, object container, str name, size_t width, bint writable, int index, frn_rows *rows) except -1
    cdef void turn(self, frn_rows *rows) noexcept
    cdef int locate_symbols(self, object container, object symbols) except -1
    cdef int fill_table(self) except -1
    cdef int sum_symbols(self, void **at) except -1
    cdef void **state_rows(self, object state, str name, size_t width, int index) except NULL
    cdef int take_arenas(self, object mask) except -1
    cdef char *row_at(self, const frn_rows *rows, size_t t, size_t i) noexcept nogil
    cdef char *arena_row(self, void *arena, size_t t, size_t i, size_t width) noexcept nogil
    cdef int begin_backward(self, object dy, object dstate) except -1
    cdef int copy_carry(self, object array, char *carry, size_t width, size_t lead, bint inward) except -1
    cdef tuple initial_gradient(self)
    cdef void list_rows(self, const frn_rows *rows, void **out) noexcept nogil
    cdef void list_operands(self, int stage, void **out) noexcept nogil
    cdef int input_gradient(self, object dx, bint accumulate) except -1
    cdef int weight_gradients(self) except -1
    cdef void set_slots(self, frn_outer *outer, int first, int slots) noexcept
